//! Gigaset: one file, `{mac}.xml`, in one of four syntaxes ([`models`]).
//!
//! Sources: Gigaset's own wiki (the N610 to N870's SIP multicast parameter, the redirect portal, the P
//! phones' configuration files), and for the parameters what public provisioning projects write:
//! wazo (N510, N720, N870), Tancredi (Maxwell, P), GS5 and a PBX vendor's template (N510).

mod models;

use askama::Template;

use super::snom::{self, Snom};
use super::{
    Asked, Asker, CertificateMac, Document, Facts, Generation, Model, Objection, Redirect, Slot,
    Vendor, write,
};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::device::{Button, Function};
use crate::record::pbx::{Sip, Srtp, Transport};
use crate::record::settings::{Codec, Dtmf, Setting};
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::step6_config_files::PhoneLine;
use crate::text::Dial;
use models::{MAXWELL, N720, NX70, P};

/// The vendor.
pub struct Gigaset;

/// The file of a Maxwell phone and of an N610 to N870.
#[derive(Template)]
#[template(path = "gigaset/provisioning.xml")]
struct Provisioning<'a> {
    model: &'a str,
    mac: Mac,
    user_type: &'a str,
    base: bool,
    /// The handsets that there are to be: all others go.
    handsets: Option<Vec<String>>,
    params: Params,
}

/// The file of the bases before.
#[derive(Template)]
#[template(path = "gigaset/provider_frame.xml")]
struct ProviderFrame<'a> {
    model: &'a str,
    mac: Mac,
    user_type: &'a str,
    upper: String,
    profile: &'a str,
    schema: &'a str,
    server: String,
    params: Params,
}

/// A parameter; a text of the older bases stands in quotes of its own.
struct Param {
    name: String,
    value: String,
    quoted: bool,
}

type Params = Vec<Param>;

impl Vendor for Gigaset {
    fn models(&self) -> &'static [Model] {
        &models::MODELS
    }

    fn templates(&self) -> u32 {
        2
    }

    fn facts(&self) -> Facts {
        Facts {
            // Nobody has published what the number on the box is.
            serial_tells_from_mac: true,
            certificate: CertificateMac::Unknown,
            resync: "check-sync;reboot=false",
            reboot: "check-sync;reboot=true",
        }
    }

    fn lacks(&self, model: &Model) -> &'static [Setting] {
        // What is the handset's own, and what nobody has published the name of.
        match model.code {
            P => Snom.lacks(model),
            MAXWELL => &[
                Setting::Transfer,
                Setting::CallWaiting,
                Setting::Lldp,
                Setting::Wallpaper,
                Setting::DialPlan,
                Setting::AutoAnswer,
                Setting::FirmwareUrl,
                Setting::SyslogServer,
                Setting::WebUi,
            ],
            NX70 => &[
                Setting::Language,
                Setting::Clock24h,
                Setting::Codecs,
                Setting::ResyncMinutes,
                Setting::ResyncSpreadMinutes,
                Setting::Transfer,
                Setting::CallWaiting,
                Setting::Vlan,
                Setting::Lldp,
                Setting::Ringtone,
                Setting::Wallpaper,
                Setting::DialPlan,
                Setting::Forward,
                Setting::Dnd,
                Setting::AutoAnswer,
                Setting::FirmwareUrl,
                Setting::SyslogServer,
                Setting::WebUi,
                Setting::UserPassword,
            ],
            _ => &[
                Setting::Language,
                Setting::Clock24h,
                Setting::ResyncMinutes,
                Setting::ResyncSpreadMinutes,
                Setting::Transfer,
                Setting::CallWaiting,
                Setting::Lldp,
                Setting::Ringtone,
                Setting::Wallpaper,
                Setting::DialPlan,
                Setting::Forward,
                Setting::Dnd,
                Setting::AutoAnswer,
                Setting::FirmwareUrl,
                Setting::SyslogServer,
                Setting::WebUi,
                Setting::AdminPassword,
                Setting::UserPassword,
            ],
        }
    }

    fn functions(&self, model: &Model) -> &'static [Function] {
        match model.code {
            P => Snom.functions(model),
            MAXWELL if model.keys > 0 => &[
                Function::Line,
                Function::Blf,
                Function::SpeedDial,
                Function::Pickup,
                Function::Dtmf,
                Function::Forward,
                Function::Url,
                Function::None,
            ],
            _ => &[],
        }
    }

    fn boot_name(&self, mac: Mac, _: &Model) -> String {
        format!("{mac}.xml")
    }

    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked> {
        let name = name.to_ascii_lowercase();
        if name.strip_suffix(".xml") == Some(&asker.mac.to_string()) {
            return Some(Asked::Part(Part::Merged));
        }
        // Firmware lists of the older bases, which they look for beside their file.
        matches!(name.as_str(), "master.bin" | "baselines.bin").then_some(Asked::Optional)
    }

    fn content_type(&self, _: Part) -> &'static str {
        snom::XML
    }

    fn parts(&self, _: &Model) -> &'static [Part] {
        &[Part::Boot, Part::First, Part::Acc, Part::Btn, Part::Merged]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        if phone.model.code == P {
            return Snom.render(part, phone);
        }
        let has = |one| part == one || part == Part::Merged;
        let mut params = Params::new();
        if part == Part::Boot || has(Part::First) {
            server(
                phone.base,
                phone.mac,
                phone.model,
                phone.settings.resync_minutes,
                &mut params,
            );
        }
        if has(Part::First) {
            first(phone, &mut params);
        }
        let acc = has(Part::Acc);
        if acc {
            accounts(phone, &mut params);
        }
        if has(Part::Btn) && phone.model.code == MAXWELL {
            keys(phone, &mut params);
        }
        let handsets = acc && phone.model.code == NX70;
        document(
            (phone.model, phone.mac, phone.device.user_type.name()),
            handsets.then(|| phone.lines.iter().map(|line| handset(line)).collect()),
            if has(Part::First) || part == Part::Boot {
                phone.base
            } else {
                ""
            },
            params,
        )
    }

    fn carries(&self, slot: Slot, text: &str) -> Result<(), &'static str> {
        Snom.carries(slot, text)
    }

    fn objections(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let mut found = Vec::new();
        if phone.model.code == MAXWELL {
            let (first, rest) = (phone.lines.first(), phone.lines.iter().skip(1));
            let way = |line: &PhoneLine<'_>| (line.pbx.sip.transport, line.pbx.sip.srtp);
            if first.is_some_and(|first| rest.into_iter().any(|line| way(line) != way(first))) {
                let detail = "a Gigaset Maxwell has one transport and one SRTP setting for all lines, and these differ";
                found.push(Objection::new("/lines", detail));
            }
        }
        if phone.model.generation == Generation::Former {
            // A text is in quotes, and how one in it would be written is not known.
            for line in &phone.lines {
                for (field, text) in [
                    (Some("password"), line.password.reveal()),
                    (Some("display_name"), line.account.display_name()),
                    (None, line.label),
                ] {
                    if text.contains('"') {
                        let detail = format!(
                            "its {} must not hold a quotation mark in the files of older Gigaset bases",
                            field.unwrap_or("label")
                        );
                        let own = phone.device.lines.get(line.index);
                        let own = own.is_some_and(|own| own.label.is_some());
                        let at = if field.is_none() && own {
                            "label"
                        } else {
                            "account"
                        };
                        let mut objection =
                            Objection::new(format!("/lines/{}/{at}", line.index), detail);
                        objection.account_field = field;
                        found.push(objection);
                    }
                }
            }
        }
        found
    }

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let code = phone.model.code;
        if code == P {
            return Snom.remarks(phone);
        }
        let model = phone.model.name;
        let mut found = Vec::new();
        if zone(phone).is_none() {
            let detail = format!(
                "the Gigaset {model} has no time zone with this rule: its clock is left as it is"
            );
            found.push(Objection::new("/settings/timezone", detail));
        }
        if code != NX70 && phone.settings.codecs.contains(&Codec::Opus) {
            let detail = format!("the Gigaset {model} has no Opus: it is left out");
            found.push(Objection::new("/settings/codecs", detail));
        }
        if code == MAXWELL && language(phone).is_none() {
            let detail = format!("the Gigaset {model} has no such language: English is shown");
            found.push(Objection::new("/settings/language", detail));
        }
        for line in &phone.lines {
            let sip = &line.pbx.sip;
            let mut remark = |what: &str| {
                let detail = format!("the Gigaset {model} cannot be told {what}: it is left out");
                found.push(Objection::new(
                    format!("/lines/{}/account", line.index),
                    detail,
                ));
            };
            if sip.backup_host.is_some() && code != NX70 {
                remark("its PBX's backup server");
            }
            if phone.model.generation == Generation::Former
                && (sip.transport != Transport::Udp || sip.srtp != Srtp::Off)
            {
                remark("its PBX's transport and SRTP");
            }
        }
        found
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        let segment = |segment: &str| {
            let (name, index) = match segment.split_once('[') {
                None => (segment, None),
                Some((name, rest)) => (name, Some(rest)),
            };
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
                && index.is_none_or(|index| {
                    index
                        .strip_suffix(']')
                        .is_some_and(|n| n.parse::<u8>().is_ok())
                })
        };
        if key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.split('.').all(segment) {
            Ok(())
        } else {
            Err(
                "is no parameter of Gigaset phones: they are words with dots between, with an index in [ ] where there are several",
            )
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        Snom.sets(text, key)
            || text.contains(&["name=\"", key, "\""].concat())
            || text.contains(&["ID=\"", key, "\""].concat())
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        let file = self.boot_name(to.mac, to.model);
        if to.model.code == P {
            return snom::redirect_document(
                "Gigaset",
                &name,
                name == file,
                [to.url, &file],
                &file,
                to,
            );
        }
        if name != file && name != crate::step2_redirect::SETTINGS_NAME {
            return Ok(None);
        }
        let mut params = Params::new();
        // The vendor's own redirection does no more: the phone goes to the server that it is told.
        server(to.url, to.mac, to.model, 2, &mut params);
        let text = document((to.model, to.mac, ""), None, to.url, params)?;
        Ok(Some(Document::text(snom::XML, text)))
    }

    fn common(&self, _: &str, _: &str) -> Result<Option<Document>, Fault> {
        Ok(None)
    }
}

fn document(
    (model, mac, user_type): (&Model, Mac, &str),
    handsets: Option<Vec<String>>,
    server: &str,
    params: Params,
) -> Result<String, Fault> {
    if model.generation == Generation::Former {
        return write(&ProviderFrame {
            model: model.name,
            mac,
            user_type,
            upper: mac.to_string().to_ascii_uppercase(),
            profile: model.code,
            schema: if model.code == N720 {
                "N720_general"
            } else {
                model.code
            },
            server: if server.is_empty() {
                String::new()
            } else {
                format!("{server}{mac}.xml")
            },
            params,
        });
    }
    write(&Provisioning {
        model: model.name,
        mac,
        user_type,
        base: model.code == NX70,
        handsets,
        params,
    })
}

fn set(params: &mut Params, name: impl Into<String>, value: impl Into<String>) {
    params.push(Param {
        name: name.into(),
        value: value.into(),
        quoted: false,
    });
}

/// Parameters under one name.
fn under(params: &mut Params, prefix: &str, list: &[(&str, &str)]) {
    for (name, value) in list {
        set(params, [prefix, name].concat(), *value);
    }
}

/// A text of an older base.
fn text(params: &mut Params, name: String, value: &str) {
    params.push(Param {
        name,
        value: value.to_owned(),
        quoted: true,
    });
}

fn flag(is: bool) -> &'static str {
    if is { "1" } else { "0" }
}

/// Where to provision from, and nowhere else.
fn server(url: &str, mac: Mac, model: &Model, minutes: u32, params: &mut Params) {
    let url = format!("{url}{mac}.xml");
    match model.code {
        MAXWELL => {
            set(params, "System.Provision.ProvisioningServer", url);
            let seconds = minutes.saturating_mul(60).to_string();
            set(params, "System.Provision.Period", seconds);
            set(params, "NET.IP.IPv4.DHCP.Options.Disabled", "66,114");
        }
        NX70 => {
            set(params, "Provisioning.global.ProvisioningServer", url);
            set(params, "SystemSettings.global.SipMulticastEnabled", "0");
            set(params, "SystemSettings.global.CheckSyncRebootEnabled", "1");
        }
        N720 => set(params, "BS_IP_Data.ucB_DO_CHECK_FOR_PROFILE_UPDATES", "1"),
        _ => {
            set(params, "BS_IP_Data.ucB_AUTO_UPDATE_PROFILE", "0x1");
            set(params, "BS_IP_Data3.ucI_ONESHOT_PROVISIONING_MODE_1", "0x1");
        }
    }
}

fn first(phone: &Phone<'_>, params: &mut Params) {
    let settings = &phone.settings;
    match phone.model.code {
        MAXWELL => maxwell_first(phone, params),
        NX70 => {
            set(params, "DmGlobal.0.NtpServer", settings.ntp_server.as_str());
            if let Some((_, zone)) = zone(phone) {
                set(params, "DmGlobal.0.TimeZone", zone);
            }
            if let Some(password) = &settings.admin_password {
                set(params, "WebUIAccounts.1.Password", password.reveal());
            }
        }
        code => former_first(phone, code == N720, params),
    }
    for (key, value) in &settings.raw {
        set(params, key.as_str(), value.as_str());
    }
}

fn maxwell_first(phone: &Phone<'_>, params: &mut Params) {
    let settings = &phone.settings;
    let language = language(phone).unwrap_or("en-us");
    set(params, "PhoneUI.Settings.Language", language);
    set(params, "WebUI.Language", language);
    let clock = if settings.clock_24h { "24h" } else { "12h" };
    under(
        params,
        "System.DateAndTime.",
        &[
            ("AutoAdjustTime", "NTPServiceEnabled"),
            ("TimeServer", settings.ntp_server.as_str()),
            ("AutoAdjustClockForDST", "AutomatedDaylightSavingEnabled"),
            ("TimeFormat", clock),
        ],
    );
    if let Some((_, zone)) = zone(phone) {
        set(params, "System.DateAndTime.TimeZone", zone);
    }
    if let Some(vlan) = &settings.vlan {
        let pc = vlan.pc_id.map_or(0, |id| id.get()).to_string();
        let tagging = if vlan.pc_id.is_some() { "2" } else { "1" };
        under(
            params,
            "NET.VLAN.",
            &[
                ("Tagging", tagging),
                ("LAN.Identifier", &vlan.id.get().to_string()),
                ("LAN.Priority", &vlan.priority().to_string()),
                ("PC.Identifier", &pc),
            ],
        );
    }
    if let Some(is) = settings.dnd {
        set(params, "Telephony.DnD.Active", flag(is));
    }
    // The names of its tones.
    let tone = settings.ringtone.map(|tone| match tone {
        1 => "01.mp3",
        2 => "02_Memo.mp3",
        3 => "03_Vibe.mp3",
        4 => "04_Listen.mp3",
        _ => "05_Down.mp3",
    });
    if let Some(tone) = tone {
        set(params, "SIP.DefaultRingtone", tone);
    }
    for (name, password) in [
        ("WebUI.AdminPassword", &settings.admin_password),
        ("WebUI.UserPassword", &settings.user_password),
    ] {
        if let Some(password) = password {
            set(params, name, password.reveal());
        }
    }
}

fn former_first(phone: &Phone<'_>, n720: bool, params: &mut Params) {
    let settings = &phone.settings;
    let (data, array) = if n720 {
        ("BS_IP_Data.", "[%]")
    } else {
        ("BS_IP_Data1.", "")
    };
    let name = [data, "aucS_TIME_NTP_SERVER", array].concat();
    text(params, name, settings.ntp_server.as_str());
    if let Some((code, _)) = zone(phone) {
        let code = format!("{code:#x}");
        let summer = flag(settings.zone.summer.is_some());
        under(
            params,
            data,
            &[
                ("uiI_TIME_TIMEZONE", &code),
                ("ucB_TIME_USE_AUTOMATIC_DST", summer),
            ],
        );
    }
    if let Some(vlan) = &settings.vlan {
        under(
            params,
            data,
            &[
                ("ucB_VLAN_ENABLED", "1"),
                ("ucI_VLAN_PRIORITY", &vlan.priority().to_string()),
                ("uiI_VLAN_ID", &format!("{:#x}", vlan.id.get())),
            ],
        );
    }
}

fn accounts(phone: &Phone<'_>, params: &mut Params) {
    match phone.model.code {
        MAXWELL => maxwell_accounts(phone, params),
        NX70 => nx70_accounts(phone, params),
        code => former_accounts(phone, code == N720, params),
    }
}

fn maxwell_accounts(phone: &Phone<'_>, params: &mut Params) {
    maxwell_shared(phone, params);
    for n in 1..=phone.model.lines {
        let prefix = format!("SIP.Account.{}.", n - 1);
        let Some(line) = phone.lines.iter().find(|line| line.number == n) else {
            under(
                params,
                &prefix,
                &[
                    ("Active", "0"),
                    ("AccountName", ""),
                    ("AuthName", ""),
                    ("AuthPassword", ""),
                    ("DisplayName", ""),
                    ("Username", ""),
                    ("Domain", ""),
                    ("RegistrationServer.Address", ""),
                    ("ProxyServer.Address", ""),
                    ("OutboundProxy.Address", ""),
                    ("VoiceMail.Mailbox", ""),
                ],
            );
            continue;
        };
        let sip = &line.pbx.sip;
        let (host, port) = (sip.host.as_str(), sip.port().to_string());
        let (proxy, proxy_port) = outbound(sip);
        let mailbox = mailbox(line);
        under(
            params,
            &prefix,
            &[
                ("Active", "1"),
                ("AccountName", line.label),
                ("Provider", host),
                ("AuthName", line.account.auth_username().as_str()),
                ("AuthPassword", line.password.reveal()),
                ("DisplayName", line.account.display_name()),
                ("Username", line.account.username.as_str()),
                ("Domain", host),
                ("RegistrationServer.Address", host),
                ("RegistrationServer.Port", &port),
                ("ProxyServer.Address", host),
                ("ProxyServer.Port", &port),
                // In use where there is an address.
                ("OutboundProxy.Mode", "1"),
                ("OutboundProxy.Address", proxy),
                ("OutboundProxy.Port", &proxy_port),
                ("FailoverServer.Enabled", "0"),
                (
                    "DTMFTransmission",
                    match phone.settings.dtmf {
                        Dtmf::Inband => "0",
                        Dtmf::Rfc2833 => "1",
                        Dtmf::Info => "3",
                    },
                ),
                ("VoiceMail.Active", flag(!mailbox.is_empty())),
                ("VoiceMail.Mailbox", mailbox),
            ],
        );
        maxwell_forward(phone, n, params);
    }
}

/// What all its accounts share.
fn maxwell_shared(phone: &Phone<'_>, params: &mut Params) {
    if let Some(line) = phone.lines.first() {
        let sip = &line.pbx.sip;
        let transport = if sip.transport == Transport::Udp {
            "1"
        } else {
            "2"
        };
        under(
            params,
            "SIP.",
            &[
                ("TransportProtocol", transport),
                ("Security.UseSIPS", flag(sip.transport == Transport::Tls)),
                ("Security.SRTP", flag(sip.srtp != Srtp::Off)),
                (
                    "Security.AcceptNonSRTPCalls",
                    flag(sip.srtp != Srtp::Required),
                ),
            ],
        );
    }
    // By payload type (RFC 3551); Opus has none of its own.
    let mut codecs = String::new();
    for codec in &phone.settings.codecs {
        codecs.push_str(match codec {
            Codec::G722 => "9,",
            Codec::Pcma => "8,",
            Codec::Pcmu => "0,",
            Codec::G729 => "18,",
            Codec::Opus => "",
        });
    }
    codecs.pop();
    if !codecs.is_empty() {
        set(params, "SIP.ActiveCodecs", codecs);
    }
}

fn maxwell_forward(phone: &Phone<'_>, n: u8, params: &mut Params) {
    let Some(forward) = &phone.settings.forward else {
        return;
    };
    let prefix = format!("Telephony.CallDivert.{}.", n - 1);
    for (kind, to) in [
        ("All", &forward.always),
        ("Busy", &forward.busy),
        ("NoAnswer", &forward.no_answer),
    ] {
        under(
            params,
            &[&prefix, kind].concat(),
            &[
                (".Active", flag(to.is_some())),
                (".VoiceMail", "0"),
                (".Target", to.as_ref().map_or("", Dial::as_str)),
            ],
        );
    }
    set(
        params,
        [&prefix, "NoAnswer.Delay"].concat(),
        forward.ring_s().to_string(),
    );
}

fn mailbox<'a>(line: &'a PhoneLine<'a>) -> &'a str {
    line.account.voicemail.as_ref().map_or("", |v| v.as_str())
}

/// The outbound proxy, or nothing with the port that it would have.
fn outbound(sip: &Sip) -> (&str, String) {
    let (host, port) = sip
        .outbound_proxy()
        .map_or(("", sip.port()), |(host, port)| (host.as_str(), port));
    (host, port.to_string())
}

/// The registrars that the lines share, each once.
fn providers<'a>(phone: &'a Phone<'_>) -> Vec<&'a Sip> {
    let mut list: Vec<&Sip> = Vec::new();
    for line in &phone.lines {
        if !list.contains(&&line.pbx.sip) {
            list.push(&line.pbx.sip);
        }
    }
    list
}

fn provider_of(providers: &[&Sip], line: &PhoneLine<'_>) -> String {
    let at = providers.iter().position(|sip| *sip == &line.pbx.sip);
    at.unwrap_or(0).to_string()
}

/// A handset's name until it is registered.
fn handset(line: &PhoneLine<'_>) -> String {
    format!("{:05}", line.number)
}

fn nx70_accounts(phone: &Phone<'_>, params: &mut Params) {
    let providers = providers(phone);
    for (n, sip) in providers.iter().enumerate() {
        let (host, port) = (sip.host.as_str(), sip.port().to_string());
        let (proxy, proxy_port) = outbound(sip);
        let backup = sip.backup_host.as_ref().map_or("", |host| host.as_str());
        under(
            params,
            &format!("SipProvider.{n}."),
            &[
                ("Name", host),
                ("Domain", host),
                ("ProxyServerAddress", host),
                ("ProxyServerPort", &port),
                ("RegServerAddress", host),
                ("RegServerPort", &port),
                ("RegServerRefreshTimer", &sip.expires_s().to_string()),
                (
                    "TransportProtocol",
                    match sip.transport {
                        Transport::Udp => "1",
                        Transport::Tcp => "2",
                        Transport::Tls => "3",
                    },
                ),
                ("UseSIPS", "0"),
                ("SRTP_Enabled", flag(sip.srtp != Srtp::Off)),
                ("AcceptNonSRTPCalls", flag(sip.srtp != Srtp::Required)),
                ("DTMFTransmission", dtmf_bit(phone)),
                ("DnsQuery", "0"),
                ("FailoverServerEnabled", flag(!backup.is_empty())),
                ("FailoverServerAddress", backup),
                ("FailoverServerPort", &port),
                // 0: always, 2: never.
                (
                    "OutboundProxyMode",
                    if proxy.is_empty() { "2" } else { "0" },
                ),
                ("OutboundProxyAddress", proxy),
                ("OutboundProxyPort", &proxy_port),
                ("MWISubscription", "1"),
            ],
        );
    }
    for line in &phone.lines {
        let id = handset(line);
        // The code that the handset is registered with.
        set(
            params,
            ["hs.", &id, ".DECT_AC"].concat(),
            format!("{:04}", line.number),
        );
        let mailbox = mailbox(line);
        under(
            params,
            &["SipAccount.", &id, "."].concat(),
            &[
                ("AuthName", line.account.auth_username().as_str()),
                ("AuthPassword", line.password.reveal()),
                ("UserName", line.account.username.as_str()),
                ("DisplayName", line.account.display_name()),
                ("ProviderId", &provider_of(&providers, line)),
                ("VoiceMailActive", flag(!mailbox.is_empty())),
                ("VoiceMailMailbox", mailbox),
            ],
        );
    }
}

/// How digits go out, a bit each: 1 as tones, 2 as events, 4 by SIP INFO.
fn dtmf_bit(phone: &Phone<'_>) -> &'static str {
    match phone.settings.dtmf {
        Dtmf::Inband => "1",
        Dtmf::Rfc2833 => "2",
        Dtmf::Info => "4",
    }
}

fn former_accounts(phone: &Phone<'_>, n720: bool, params: &mut Params) {
    let data = if n720 {
        "BS_VOIP_Data."
    } else {
        "BS_IP_Data1."
    };
    under(
        params,
        data,
        &[
            ("ucB_DTMF_TX_MODE_AUTO", "0"),
            ("ucI_DTMF_TX_MODE_BITS", dtmf_bit(phone)),
        ],
    );
    let providers = providers(phone);
    if n720 {
        for (n, sip) in providers.iter().enumerate() {
            let prefix = format!("BS_VOIP_Data.astVoipProviders[{n}].");
            registrar(sip, &prefix, ["SIP_", "", ""], "[%]", params);
            let name = [&prefix, "aucSIP_PROVIDER_NAME[%]"].concat();
            text(params, name, sip.host.as_str());
        }
    }
    for n in 1..=phone.model.lines {
        let line = phone.lines.iter().find(|line| line.number == n);
        former_account(n720, n, line, params);
        let Some(line) = line else {
            continue;
        };
        let codecs = vocoders(phone);
        if n720 {
            under(
                params,
                &format!("BS_VOIP_Data.astVoipAccounts[{}].", n - 1),
                &[
                    ("ucVoipProviderIndex", &provider_of(&providers, line)),
                    ("aucI_SIP_PREFERRED_VOCODER[%]", &codecs),
                ],
            );
        } else {
            let (sip, words) = (&line.pbx.sip, ["S_SIP_", "S_", "I_"]);
            let suffix = suffix(n);
            registrar(sip, "BS_IP_Data1.", words, &suffix, params);
            let name = ["BS_IP_Data1.ucI_SIP_PREFERRED_VOCODER", &suffix].concat();
            set(params, name, codecs);
        }
    }
}

/// The first account has no number.
fn suffix(n: u8) -> String {
    if n == 1 {
        String::new()
    } else {
        format!("_{n}")
    }
}

/// An account of an older base, or the blanks of none.
fn former_account(n720: bool, n: u8, line: Option<&PhoneLine<'_>>, params: &mut Params) {
    let (at, suffix) = (n - 1, suffix(n));
    let account = |name: &str| {
        if n720 {
            format!("BS_VOIP_Data.astVoipAccounts[{at}].{name}[0]")
        } else {
            let data = if name == "aucS_SIP_LOGIN_ID" { 3 } else { 1 };
            format!("BS_IP_Data{data}.{name}{suffix}")
        }
    };
    let of = |name: &str, number: &str| {
        if n720 {
            format!("BS_VOIP_Data.astVoipAccounts[{at}].{name}_1{number}")
        } else {
            format!("BS_IP_Data1.{name}_{n}")
        }
    };
    let texts = line.map_or([""; 5], |line| {
        [
            line.account.display_name(),
            line.account.auth_username().as_str(),
            line.password.reveal(),
            line.account.username.as_str(),
            mailbox(line),
        ]
    });
    let [name, login, password, user, mailbox] = texts;
    set(
        params,
        of("ucB_SIP_ACCOUNT_IS_ACTIVE", ""),
        flag(line.is_some()),
    );
    text(params, account("aucS_SIP_DISPLAYNAME"), name);
    text(params, account("aucS_SIP_LOGIN_ID"), login);
    text(params, account("aucS_SIP_PASSWORD"), password);
    text(params, account("aucS_SIP_USER_ID"), user);
    text(params, of("aucS_VOIP_NET_AM_NUMBER", "[%]"), mailbox);
    set(
        params,
        of("ucB_VOIP_NET_AM_ENABLED", ""),
        flag(!mailbox.is_empty()),
    );
    if !n720 {
        let label = line.map_or("", |line| line.label);
        text(
            params,
            format!("BS_IP_Data1.aucS_SIP_ACCOUNT_NAME_{n}"),
            label,
        );
        text(
            params,
            format!("BS_Accounts.astAccounts[{at}].aucAccountName[0]"),
            label,
        );
        text(
            params,
            format!("BS_AE_Subscriber.stMtDat[{at}].aucTlnName"),
            label,
        );
        // Each handset calls by its own account and is rung by it.
        let mask = line.map_or(0, |_| 1_u8.checked_shl(at.into()).unwrap_or(0));
        let mask = format!("{mask:#x}");
        under(
            params,
            &format!("BS_Accounts.astAccounts[{at}]."),
            &[("uiSendMask", &mask), ("uiReceiveMask", &mask)],
        );
    }
}

/// Where an account of an older base registers. The N720 has the same names without some words.
fn registrar(sip: &Sip, prefix: &str, words: [&str; 3], suffix: &str, params: &mut Params) {
    let [sip_word, text_word, number_word] = words;
    let hex = |number: u16| format!("{number:#x}");
    let host = sip.host.as_str();
    let (proxy, port) = sip
        .outbound_proxy()
        .map_or(("", sip.port()), |(host, port)| (host.as_str(), port));
    for name in ["DOMAIN", "SERVER", "REGISTRAR"] {
        text(
            params,
            [prefix, "auc", sip_word, name, suffix].concat(),
            host,
        );
    }
    text(
        params,
        [prefix, "auc", text_word, "OUTBOUND_PROXY", suffix].concat(),
        proxy,
    );
    // Numbers have no wildcard of characters.
    let suffix = if suffix == "[%]" { "" } else { suffix };
    for (kind, name, value) in [
        ("ui", "SIP_SERVER_PORT", hex(sip.port())),
        ("ui", "SIP_REGISTRAR_PORT", hex(sip.port())),
        ("ui", "RE_REGISTRATION_TIMER", hex(sip.expires_s())),
        // 0: always, 2: never.
        (
            "uc",
            "OUTBOUND_PROXY_MODE",
            hex(if proxy.is_empty() { 2 } else { 0 }),
        ),
        ("ui", "OUTBOUND_PROXY_PORT", hex(port)),
    ] {
        set(
            params,
            [prefix, kind, number_word, name, suffix].concat(),
            value,
        );
    }
}

/// The codecs of an older base: five bytes, 0xff for none.
fn vocoders(phone: &Phone<'_>) -> String {
    let codes = phone
        .settings
        .codecs
        .iter()
        .filter_map(|codec| match codec {
            Codec::Pcmu => Some("0x00"),
            Codec::Pcma => Some("0x01"),
            Codec::G729 => Some("0x03"),
            Codec::G722 => Some("0x05"),
            Codec::Opus => None,
        });
    let codes: Vec<&str> = codes.chain(std::iter::repeat("0xff")).take(5).collect();
    codes.join(",")
}

fn keys(phone: &Phone<'_>, params: &mut Params) {
    for n in 1..=phone.model.keys {
        let line = phone
            .lines
            .iter()
            .find(|line| u16::from(line.number) == n)
            .filter(|_| phone.shows_lines_by_itself());
        let (code, field, value, label) = match (phone.button(None, n), line) {
            (Some(button), _) => key(phone, button),
            // A phone that nobody gave keys to shows its lines.
            (None, Some(line)) => (
                "0",
                "Connection",
                line.number.saturating_sub(1).to_string(),
                line.label,
            ),
            (None, None) => ("-1", "", String::new(), ""),
        };
        let prefix = format!("PhoneUI.Keys.FunctionKeys.{}.", n - 1);
        under(params, &prefix, &[("Type", code), ("DisplayName", label)]);
        if !field.is_empty() {
            set(params, [&prefix, field].concat(), value);
        }
    }
}

/// The type of a key, where its value stands, the value and the label.
fn key<'a>(
    phone: &'a Phone<'a>,
    button: &'a Button,
) -> (&'static str, &'static str, String, &'a str) {
    let (code, field) = match button.function {
        Function::Line => ("0", "Connection"),
        Function::SpeedDial => ("3", "PhoneNumber"),
        Function::Blf => ("4", "PhoneNumber"),
        Function::Forward => ("6", "PhoneNumber"),
        Function::Dtmf => ("7", "EnableCode"),
        Function::Url => ("8", "URL"),
        Function::Pickup => ("10", "EnableCode"),
        _ => ("-1", ""),
    };
    let value = if button.function == Function::Line {
        // Accounts count from 0 here.
        button.line.unwrap_or(1).saturating_sub(1).to_string()
    } else {
        button
            .value
            .as_ref()
            .map_or("", |value| value.as_str())
            .to_owned()
    };
    (code, field, value, phone.button_label(button))
}

/// The language's code; those but en and it by their pattern.
fn language(phone: &Phone<'_>) -> Option<&'static str> {
    Some(match phone.settings.language.as_str().split('-').next()? {
        "en" => "en-us",
        "de" => "de-de",
        "es" => "es-es",
        "fr" => "fr-fr",
        "it" => "it-it",
        "nl" => "nl-nl",
        _ => return None,
    })
}

/// The zone of the model's list with the phone's rule: its number and its name.
fn zone(phone: &Phone<'_>) -> Option<(u8, &'static str)> {
    let list = match phone.model.code {
        MAXWELL => &MAXWELL_ZONES[..],
        NX70 => &NX70_ZONES,
        _ => &FORMER_ZONES,
    };
    list.iter().copied().find(|(_, name)| {
        // A Maxwell has the offset before the name.
        let name = name.split_once('.').map_or(*name, |(_, name)| name);
        crate::zone::rule(name) == Some(phone.settings.zone)
    })
}

/// As a Maxwell calls them, as far as that is published.
static MAXWELL_ZONES: [(u8, &str); 2] = [(0, "GMT+1.Europe/Amsterdam"), (0, "GMT.Europe/London")];

/// What an N610 to N870 takes (wazo's list, one for each rule).
static NX70_ZONES: [(u8, &str); 27] = [
    (0, "Pacific/Honolulu"),
    (0, "America/Anchorage"),
    (0, "America/Los_Angeles"),
    (0, "America/Denver"),
    (0, "America/Chicago"),
    (0, "America/New_York"),
    (0, "America/Caracas"),
    (0, "America/Sao_Paulo"),
    (0, "Greenwich"),
    (0, "Europe/London"),
    (0, "Europe/Berlin"),
    (0, "Europe/Athens"),
    (0, "Africa/Cairo"),
    (0, "Europe/Chisinau"),
    (0, "Europe/Kaliningrad"),
    (0, "Europe/Istanbul"),
    (0, "Asia/Dubai"),
    (0, "Asia/Karachi"),
    (0, "Asia/Dhaka"),
    (0, "Asia/Hong_Kong"),
    (0, "Asia/Tokyo"),
    (0, "Australia/Adelaide"),
    (0, "Australia/Darwin"),
    (0, "Australia/Brisbane"),
    (0, "Australia/Sydney"),
    (0, "Pacific/Noumea"),
    (0, "Europe/Moscow"),
];

/// The numbers of the older bases (as GS5 lists them), one for each rule.
static FORMER_ZONES: [(u8, &str); 31] = [
    (1, "Pacific/Midway"),
    (2, "Pacific/Honolulu"),
    (3, "America/Anchorage"),
    (4, "America/Los_Angeles"),
    (5, "America/Phoenix"),
    (7, "America/Denver"),
    (9, "America/Chicago"),
    (11, "America/Regina"),
    (12, "America/Bogota"),
    (13, "America/New_York"),
    (15, "America/Halifax"),
    (16, "America/Caracas"),
    (17, "America/Santiago"),
    (18, "America/St_Johns"),
    (20, "America/Argentina/Buenos_Aires"),
    (24, "Atlantic/Cape_Verde"),
    (25, "Africa/Monrovia"),
    (26, "Europe/London"),
    (27, "Europe/Berlin"),
    (31, "Africa/Lagos"),
    (34, "Africa/Cairo"),
    (35, "Africa/Johannesburg"),
    (36, "Europe/Helsinki"),
    (37, "Asia/Jerusalem"),
    (39, "Asia/Riyadh"),
    (43, "Asia/Dubai"),
    (45, "Asia/Kabul"),
    (47, "Asia/Karachi"),
    (48, "Asia/Kolkata"),
    (54, "Asia/Bangkok"),
    (56, "Asia/Shanghai"),
];
