//! Cisco multiplatform (3PCC) phones and the SPA, Linksys and PAP devices before them: XML profiles,
//! which the phone fetches one after another by its `Profile_Rule`, `_B`, `_C` and `_D`.
//!
//! Sources: Cisco's administration and provisioning guides of the 6800, 7800 and 8800 series, of the
//! SPA500, SPA100 and SPA9000 series, and what public provisioning projects write. The enterprise
//! firmware of the same phones (`SEP{MAC}.cnf.xml`) is another one and is not served.

mod models;

use askama::Template;

use super::{
    Asked, Asker, CertificateMac, Document, Facts, Generation, Model, Objection, Redirect, Slot,
    Vendor, write,
};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::device::{Button, Function};
use crate::record::pbx::{Srtp, Transport};
use crate::record::settings::{Codec, DialPlan, Dtmf, Forward, Setting, Transfer};
use crate::step2_redirect::SETTINGS_NAME;
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::step6_config_files::{PhoneLine, uri_host};
use crate::text::Dial;
use crate::zone::Change;

/// The vendor.
pub struct Cisco;

const XML: &str = "application/xml; charset=utf-8";

/// A profile.
#[derive(Template)]
#[template(path = "cisco/profile.xml")]
struct Profile {
    about: String,
    params: Vec<(String, String)>,
}

/// Parameters in the order in which they are printed.
#[derive(Default)]
struct Params(Vec<(String, String)>);

impl Params {
    fn set(&mut self, key: &str, value: &str) {
        self.0.push((key.to_owned(), value.to_owned()));
    }

    fn flag(&mut self, key: &str, on: bool) {
        self.set(key, yes(on));
    }

    /// `{name}_{n}_`.
    fn at(&mut self, name: &str, n: u16, value: &str) {
        self.set(&[name, "_", &n.to_string(), "_"].concat(), value);
    }

    /// What a phone has once, and an adapter for each line of its.
    fn own(&mut self, phone: &Phone<'_>, name: &str, value: &str) {
        if is_adapter(phone.model) {
            for line in &phone.lines {
                self.at(name, line.number.into(), value);
            }
        } else {
            self.set(name, value);
        }
    }
}

fn yes(on: bool) -> &'static str {
    if on { "Yes" } else { "No" }
}

impl Vendor for Cisco {
    fn models(&self) -> &'static [Model] {
        &models::MODELS
    }

    fn out_of_reach(&self, model: &str) -> Option<&'static str> {
        let known = |name: &&str| name.eq_ignore_ascii_case(model);
        models::ENTERPRISE
            .iter()
            .any(known)
            .then_some(models::ENTERPRISE_REASON)
    }

    fn templates(&self) -> u32 {
        2
    }

    fn facts(&self) -> Facts {
        Facts {
            serial_tells_from_mac: false,
            certificate: CertificateMac::State,
            resync: "resync",
            reboot: "reboot_now",
        }
    }

    fn lacks(&self, model: &Model) -> &'static [Setting] {
        // The language is in a dictionary that the phone fetches from its owner's server; it answers
        // pages by itself and no other call.
        if is_router(model) {
            // Its network, clock and web page are in a tree of their own.
            return &[
                Setting::Language,
                Setting::NtpServer,
                Setting::Clock24h,
                Setting::Transfer,
                Setting::Vlan,
                Setting::Lldp,
                Setting::Wallpaper,
                Setting::AutoAnswer,
                Setting::WebUi,
                Setting::AdminPassword,
                Setting::UserPassword,
            ];
        }
        if is_adapter(model) {
            return &[
                Setting::Language,
                Setting::Clock24h,
                Setting::Transfer,
                Setting::Vlan,
                Setting::Lldp,
                Setting::Wallpaper,
                Setting::AutoAnswer,
            ];
        }
        match (model.generation, shows_pictures(model)) {
            (Generation::Current, true) => &[Setting::Language, Setting::AutoAnswer],
            (Generation::Current, false) => {
                &[Setting::Language, Setting::Wallpaper, Setting::AutoAnswer]
            }
            _ => &[
                Setting::Language,
                Setting::Transfer,
                Setting::Lldp,
                Setting::Wallpaper,
                Setting::AutoAnswer,
            ],
        }
    }

    fn functions(&self, model: &Model) -> &'static [Function] {
        match (model.keys, model.generation) {
            (0, _) => &[],
            (_, Generation::Former) => &[
                Function::Line,
                Function::Blf,
                Function::SpeedDial,
                Function::None,
            ],
            _ => &[
                Function::Line,
                Function::Blf,
                Function::SpeedDial,
                Function::Voicemail,
                Function::Park,
                Function::Dnd,
                Function::Url,
                Function::None,
            ],
        }
    }

    fn boot_name(&self, mac: Mac, _: &Model) -> String {
        format!("{mac}.xml")
    }

    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked> {
        let name = name.to_ascii_lowercase();
        if is_own(&name, asker.mac) || is_common(&name) {
            return Some(Asked::Part(Part::Merged));
        }
        // What the enterprise firmware asks for (TFTP and HTTP): it is not for this one.
        let enterprise = ["sep", "ctlsep", "itlsep", "ctlfile", "itlfile"];
        let is_enterprise = enterprise.iter().any(|prefix| name.starts_with(prefix));
        is_enterprise.then_some(Asked::Optional)
    }

    fn content_type(&self, _: Part) -> &'static str {
        XML
    }

    fn parts(&self, _: &Model) -> &'static [Part] {
        &[Part::Boot, Part::Acc, Part::Btn, Part::Merged]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        let mut params = Params::default();
        let merged = part == Part::Merged;
        if merged || part == Part::Boot {
            boot(&mut params, phone);
        }
        if merged || part == Part::Acc {
            acc(&mut params, phone);
        }
        if merged || part == Part::Btn {
            btn(&mut params, phone);
        }
        let (model, mac) = (phone.model.name, phone.mac);
        let user_type = phone.device.user_type.name();
        write(&Profile {
            about: format!("{model} {mac}, user type {user_type}"),
            params: params.0,
        })
    }

    fn carries(&self, slot: Slot, text: &str) -> Result<(), &'static str> {
        let label = matches!(slot, Slot::LineLabel | Slot::KeyLabel);
        if text.trim() != text {
            // The provisioning guide: white space around a value is removed.
            Err("must not begin or end with a space, which is lost")
        } else if slot == Slot::KeyLabel && text.contains(';') {
            Err("must not hold ;, which ends a field of a key")
        } else if label && (text.contains("$USER") || text.contains("$PROXY")) {
            Err("must not hold $USER or $PROXY, in whose place the phone puts its own")
        } else {
            Ok(())
        }
    }

    fn objections(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let mut found = Vec::new();
        let some = phone.lines.iter().any(|l| l.pbx.sip.srtp != Srtp::Off);
        for line in &phone.lines {
            let sip = &line.pbx.sip;
            if some && sip.srtp == Srtp::Off && sip.transport == Transport::Tls {
                let detail = "a Cisco phone with SRTP on another line cannot leave it off with TLS";
                found.push(Objection::new(
                    format!("/lines/{}/account", line.index),
                    detail,
                ));
            }
        }
        for (n, button) in phone.device.buttons.iter().enumerate() {
            let value = button.value.as_ref().map_or("", |value| value.as_str());
            if value.contains(';') {
                let detail = "must not hold ;, which ends a field of a key of Cisco phones";
                found.push(Objection::new(format!("/buttons/{n}/value"), detail));
            }
        }
        found
    }

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let required = |l: &&PhoneLine<'_>| l.pbx.sip.srtp == Srtp::Required;
        let former = phone.model.generation == Generation::Former;
        let mut found: Vec<Objection> = phone
            .lines
            .iter()
            .filter(|_| former)
            .filter(required)
            .map(|line| {
                let detail = "a Cisco SPA encrypts if the other side does, and does not insist";
                Objection::new(format!("/lines/{}/account", line.index), detail)
            })
            .collect();
        if is_router(phone.model) {
            let detail = "the clock of this Cisco adapter is in its router's settings: it is kept";
            found.push(Objection::new("/settings/timezone", detail));
        }
        found
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        let name = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if key.bytes().all(name) && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            Ok(())
        } else {
            Err("is no parameter of Cisco phones: they are names of XML elements")
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        text.lines()
            .filter_map(|line| line.strip_prefix('<')?.split_once('>'))
            .any(|(name, _)| name.eq_ignore_ascii_case(key))
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        if !is_own(&name, to.mac) && !is_common(&name) && name != SETTINGS_NAME {
            return Ok(None);
        }
        let mut params = Params::default();
        if to.stays() {
            // The rules after the one that led here are followed in the same run: the last of them
            // brings everything, whichever that was, and takes itself away.
            let all = [to.ours, &to.mac.to_string(), ".xml"].concat();
            rules(&mut params, to.ours, &all);
        } else {
            let next = [to.url, "$MA.xml"].concat();
            for (key, rule) in RULES.into_iter().zip([next.as_str(), "", "", ""]) {
                params.set(key, rule);
            }
        }
        poll(&mut params, 2);
        let text = write(&Profile {
            about: format!("{} {}", to.model.name, to.mac),
            params: params.0,
        })?;
        Ok(Some(Document::text(XML, text)))
    }

    fn common(&self, name: &str, here: &str) -> Result<Option<Document>, Fault> {
        if !is_common(&name.to_ascii_lowercase()) {
            return Ok(None);
        }
        let mut params = Params::default();
        params.flag("Resync_On_Reset", true);
        // `$MA` is the phone's own MAC (provisioning guide, "Macro Expansion Variables").
        params.set("Profile_Rule_B", &[here, "$MA.xml"].concat());
        let text = write(&Profile {
            about: "Nothing for all phones of a model: each has a file of its own".to_owned(),
            params: params.0,
        })?;
        Ok(Some(Document::text(XML, text)))
    }
}

/// The rules, in the order in which a phone follows them.
const RULES: [&str; 4] = [
    "Profile_Rule",
    "Profile_Rule_B",
    "Profile_Rule_C",
    "Profile_Rule_D",
];

/// `{mac}.xml`, as everybody calls it, or `{mac}.cfg`.
fn is_own(name: &str, mac: Mac) -> bool {
    name.strip_prefix(&mac.to_string())
        .is_some_and(|rest| rest == ".xml" || rest == ".cfg")
}

/// What the factory's `Profile_Rule` asks for: `/$PSN.xml` as `8841-3PCC.xml`, `/$PN.cfg` as
/// `CP-8841-3PCC.cfg`, `/spa$PSN.cfg` as `spa504G.cfg`, `/init.cfg` of a PAP2T, `ata191.cfg`.
fn is_common(name: &str) -> bool {
    let Some((stem, "xml" | "cfg")) = name.rsplit_once('.') else {
        return false;
    };
    let alphanumeric = |text: &str| {
        !text.is_empty() && text.len() <= 8 && text.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    if stem == "init" {
        return true;
    }
    let multiplatform = stem.strip_suffix("-3pcc");
    let multiplatform = multiplatform.map(|stem| stem.strip_prefix("cp-").unwrap_or(stem));
    let model = multiplatform
        .or_else(|| stem.strip_prefix("spa"))
        .or_else(|| stem.strip_prefix("ata"));
    model
        .is_some_and(|model| alphanumeric(model) && model.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether it has plugs for analogue phones and no display.
fn is_adapter(model: &Model) -> bool {
    ["ATA", "PAP", "SPA1", "SPA2", "SPA31", "SPA8"]
        .iter()
        .any(|series| model.name.starts_with(series))
}

/// Whether it is an adapter that is a router as well.
fn is_router(model: &Model) -> bool {
    model.name.starts_with("ATA") || model.name.starts_with("SPA1")
}

/// Whether its display shows a picture in colour (data sheets).
fn shows_pictures(model: &Model) -> bool {
    ["6871", "884", "885", "886", "98"]
        .iter()
        .any(|series| model.name.starts_with(series))
}

/// Where to provision from: settings, accounts and keys, each by a rule.
fn rules(p: &mut Params, base: &str, last: &str) {
    let parts = [Part::Boot, Part::Acc, Part::Btn];
    let urls = parts.map(|part| [base, part.neutral_name()].concat());
    let rules = urls.iter().map(String::as_str).chain([last]);
    for (key, rule) in RULES.into_iter().zip(rules) {
        p.set(key, rule);
    }
}

/// How often the phone asks, and that DHCP does not lead it elsewhere.
fn poll(p: &mut Params, minutes: u32) {
    p.flag("Provision_Enable", true);
    p.flag("Resync_On_Reset", true);
    p.flag("Resync_From_SIP", true);
    let seconds = minutes.saturating_mul(60).to_string();
    p.set("Resync_Periodic", &seconds);
    p.set("DHCP_Option_To_Use", "");
}

fn boot(p: &mut Params, phone: &Phone<'_>) {
    let settings = &phone.settings;
    let (adapter, router) = (is_adapter(phone.model), is_router(phone.model));
    let former = phone.model.generation == Generation::Former;
    rules(p, phone.base, "");
    poll(p, settings.resync_minutes);
    clock(p, phone);
    if !router {
        p.set("Primary_NTP_Server", settings.ntp_server.as_str());
    }
    if !adapter {
        p.set(
            "Time_Format",
            if settings.clock_24h { "24hr" } else { "12hr" },
        );
        if former {
            p.set("Default_Character_Encoding", "UTF-8");
        } else {
            // What a key does that is pressed in a call.
            let blind = settings.transfer == Transfer::Blind;
            p.flag("BXfer_On_Speed_Dial_Enable", blind);
        }
        let station = phone.lines.first().map_or("", |line| line.label);
        p.set("Station_Name", station);
    }
    p.own(phone, "CW_Setting", yes(settings.call_waiting));
    if !router {
        let admin = if former {
            "Admin_Passwd"
        } else {
            "Admin_Password"
        };
        for (name, password) in [
            (admin, &settings.admin_password),
            ("User_Password", &settings.user_password),
        ] {
            if let Some(password) = password {
                p.set(name, password.reveal());
            }
        }
        if let Some(on) = settings.web_ui {
            p.flag("Enable_Web_Server", on);
        }
    }
    if let Some(vlan) = settings.vlan.as_ref().filter(|_| !adapter) {
        p.flag("Enable_VLAN", true);
        p.set("VLAN_ID", &vlan.id.get().to_string());
        p.flag("Enable_PC_Port_VLAN_Tagging", vlan.pc_id.is_some());
        if let Some(id) = vlan.pc_id {
            p.set("PC_Port_VLAN_ID", &id.get().to_string());
        }
    }
    if let Some(on) = settings.lldp.filter(|_| !adapter && !former) {
        p.flag("Enable_LLDP-MED", on);
    }
    if let Some(host) = &settings.syslog_server {
        p.set("Syslog_Server", host.as_str());
    }
    if let Some(url) = &settings.firmware_url {
        p.flag("Upgrade_Enable", true);
        p.set("Upgrade_Rule", url.as_str());
    }
    if let Some(url) = &settings.wallpaper
        && shows_pictures(phone.model)
    {
        p.set("Phone_Background", "Download Picture");
        p.set("Picture_Download_URL", url.as_str());
    }
    if let Some(forward) = &settings.forward {
        divert(p, phone, forward);
    }
    if let Some(on) = settings.dnd {
        p.own(phone, "DND_Setting", yes(on));
    }
    for (key, value) in &settings.raw {
        p.set(key.as_str(), value.as_str());
    }
}

fn divert(p: &mut Params, phone: &Phone<'_>, forward: &Forward) {
    let text = |target: &Option<Dial>| {
        target
            .as_ref()
            .map_or_else(String::new, ToString::to_string)
    };
    p.own(phone, "Cfwd_All_Dest", &text(&forward.always));
    p.own(phone, "Cfwd_Busy_Dest", &text(&forward.busy));
    p.own(phone, "Cfwd_No_Ans_Dest", &text(&forward.no_answer));
    p.own(phone, "Cfwd_No_Ans_Delay", &forward.ring_s().to_string());
}

fn clock(p: &mut Params, phone: &Phone<'_>) {
    let zone = &phone.settings.zone;
    let offset = zone.offset_minutes.unsigned_abs();
    let sign = if zone.offset_minutes < 0 { '-' } else { '+' };
    let name = format!("GMT{sign}{:02}:{:02}", offset / 60, offset % 60);
    p.set("Time_Zone", &name);
    p.flag("Daylight_Saving_Time_Enable", zone.summer.is_some());
    if let Some((saving, start, end)) = zone.summer {
        let rule = format!(
            "start={};end={};save={}:{}:0",
            change(start),
            change(end),
            saving / 60,
            saving % 60
        );
        p.set("Daylight_Saving_Time_Rule", &rule);
    }
}

/// Month/day/weekday/time: the weekday (1 is Monday) on or after that day; -1 for the last (guide,
/// "Daylight Saving Time Rule").
fn change(change: Change) -> String {
    let day = match change.week {
        5 => "-1".to_owned(),
        week => (week * 7).saturating_sub(6).to_string(),
    };
    format!(
        "{}/{day}/{}/{}:{}:0",
        change.month,
        change.weekday,
        change.minute / 60,
        change.minute % 60
    )
}

fn acc(p: &mut Params, phone: &Phone<'_>) {
    let some = phone.lines.iter().any(|l| l.pbx.sip.srtp != Srtp::Off);
    let former = phone.model.generation == Generation::Former;
    if !is_adapter(phone.model) {
        p.flag("Secure_Call_Serv", true);
        p.flag("Secure_Call_Setting", some);
        if former {
            // Keys in SDP (RFC 4568) and not the vendor's own way.
            p.set("SRTP_Method", "s-descriptor");
        }
        let first = phone.lines.first();
        let voicemail = first.and_then(|l| l.account.voicemail.as_ref());
        p.set("Voice_Mail_Number", voicemail.map_or("", |v| v.as_str()));
    }
    for n in 1..=phone.model.lines {
        let line = phone.lines.iter().find(|line| line.number == n);
        account(p, phone, n.into(), line, some);
    }
}

/// One line. All names stand there also for an unused one, so that nothing of a former stays.
fn account(p: &mut Params, phone: &Phone<'_>, n: u16, line: Option<&PhoneLine<'_>>, some: bool) {
    let Some(line) = line else {
        p.at("Line_Enable", n, "No");
        for name in [
            "Proxy",
            "Outbound_Proxy",
            "Display_Name",
            "User_ID",
            "Auth_ID",
            "Password",
        ] {
            p.at(name, n, "");
        }
        return;
    };
    let sip = &line.pbx.sip;
    let port = sip.port().to_string();
    let host = uri_host(&sip.host);
    let proxy = match &sip.backup_host {
        None => [&host, ":", &port].concat(),
        // A list as of DNS SRV, written out (guide, "Proxy Redundancy").
        Some(backup) => {
            let backup = uri_host(backup);
            format!("{host}:SRV={host}:{port}:p=0|{backup}:{port}:p=1")
        }
    };
    p.at("Line_Enable", n, "Yes");
    p.at("Proxy", n, &proxy);
    p.at("Use_DNS_SRV", n, yes(sip.backup_host.is_some()));
    let outbound = sip
        .outbound_proxy()
        .map_or_else(String::new, |(host, port)| {
            [&uri_host(host), ":", &port.to_string()].concat()
        });
    p.at("Outbound_Proxy", n, &outbound);
    p.at("Use_Outbound_Proxy", n, yes(!outbound.is_empty()));
    p.at("Register", n, "Yes");
    p.at("Register_Expires", n, &sip.expires_s().to_string());
    let transport = match sip.transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
        Transport::Tls => "TLS",
    };
    p.at("SIP_Transport", n, transport);
    p.at("Display_Name", n, line.account.display_name());
    p.at("User_ID", n, line.account.username.as_str());
    p.at("Auth_ID", n, line.account.auth_username().as_str());
    p.at("Use_Auth_ID", n, "Yes");
    // Or it challenges the NOTIFY that makes it fetch, by default (guide of the ATA 190 series).
    p.at("Auth_Resync-Reboot", n, "No");
    p.at("Password", n, line.password.reveal());
    if is_adapter(phone.model) {
        p.at("Secure_Call_Serv", n, "Yes");
        p.at("Secure_Call_Setting", n, yes(sip.srtp != Srtp::Off));
    } else if phone.model.generation == Generation::Current {
        // Optional is as the phone's own setting says; strict is by transport: RTP but with TLS.
        let option = match sip.srtp {
            Srtp::Required => "Required",
            Srtp::Off if some => "Strict",
            _ => "Optional",
        };
        p.at("Secure_Call_Option", n, option);
    }
    let method = match phone.settings.dtmf {
        Dtmf::Rfc2833 => "AVT",
        Dtmf::Info => "INFO",
        Dtmf::Inband => "InBand",
    };
    p.at("DTMF_Tx_Method", n, method);
    let wanted = &phone.settings.codecs;
    let preferred = [
        "Preferred_Codec",
        "Second_Preferred_Codec",
        "Third_Preferred_Codec",
    ];
    for (rank, key) in preferred.into_iter().enumerate() {
        let name = wanted.get(rank).map_or("Unspecified", |c| codec(*c));
        p.at(key, n, name);
    }
    for one in Codec::ALL {
        let on = yes(wanted.contains(&one));
        p.at(&[codec(one), "_Enable"].concat(), n, on);
    }
    if let Some(tone) = phone.settings.ringtone {
        p.at("Default_Ring", n, &tone.to_string());
    }
    if let Some(plan) = &phone.settings.dial_plan {
        p.at("Dial_Plan", n, &dial_plan(plan));
    }
}

fn codec(codec: Codec) -> &'static str {
    match codec {
        Codec::G722 => "G722",
        Codec::Pcma => "G711a",
        Codec::Pcmu => "G711u",
        Codec::G729 => "G729a",
        Codec::Opus => "OPUS",
    }
}

/// `(110S0|0[2-9]xxx.|[x*].)`: `S0` dials at once, `x.` is any number of digits. A number that fits
/// nothing is refused, so that at the end everything fits (guide, "Dial Plan").
fn dial_plan(plan: &DialPlan) -> String {
    let mut all = "(".to_owned();
    for pattern in plan.as_slice() {
        if let Some(rest) = pattern.as_str().strip_suffix('.') {
            all.push_str(rest);
            all.push_str("x.|");
        } else {
            all.push_str(pattern.as_str());
            all.push_str("S0|");
        }
    }
    all.push_str("[x*].|+x.)");
    all
}

fn btn(p: &mut Params, phone: &Phone<'_>) {
    let by_itself = phone.shows_lines_by_itself();
    for n in 1..=phone.model.keys {
        let own = phone
            .lines
            .iter()
            .find(|line| by_itself && u16::from(line.number) == n);
        let (extension, label, function) = match (phone.button(None, n), own) {
            (Some(button), _) => key(phone, button),
            // A phone that nobody gave keys to shows its lines.
            (None, Some(line)) => (Some(line.number), line.label, String::new()),
            (None, None) => (None, "", String::new()),
        };
        let extension = extension.map_or_else(|| "Disabled".to_owned(), |line| line.to_string());
        p.at("Extension", n, &extension);
        p.at("Short_Name", n, label);
        p.at("Share_Call_Appearance", n, "private");
        p.at("Extended_Function", n, &function);
    }
    if phone.model.modules > 0 {
        let modules = phone.modules_in_use();
        p.set("Number_of_Units", &modules.to_string());
        for module in 1..=modules {
            let unit = |name: &str| ["Unit_", &module.to_string(), name].concat();
            for n in 1..=phone.model.module_keys {
                let button = phone.button(Some(module), n);
                let (extension, label, function) =
                    button.map_or_else(|| (None, "", String::new()), |button| key(phone, button));
                let extension =
                    extension.map_or_else(|| "Disabled".to_owned(), |line| line.to_string());
                p.at(&unit("_Extension"), n, &extension);
                p.at(&unit("_Short_Name"), n, label);
                p.at(&unit("_Key"), n, &function);
            }
        }
    }
}

/// The line of a line key, the label, and the function of any other (guide, "Programmable Line
/// Keys": `fnc=type;name=value`).
fn key<'a>(phone: &'a Phone<'_>, button: &'a Button) -> (Option<u8>, &'a str, String) {
    let line = button.line.unwrap_or(1);
    let label = phone.button_label(button);
    let value = button.value.as_ref().map(|value| value.as_str());
    let fields: [&str; 2] = match button.function {
        Function::Line => return (Some(line), label, String::new()),
        Function::Blf => ["blf+sd+cp", "sub"],
        Function::SpeedDial => ["sd", "ext"],
        Function::Voicemail => ["mwi+sd", "ext"],
        Function::Park => ["prk", "sub"],
        Function::Dnd => ["dnd", ""],
        Function::Url => ["xml", "url"],
        _ => return (None, "", String::new()),
    };
    let mut text = ["fnc=", fields[0]].concat();
    let mut add = |name: &str, value: &str| {
        for piece in [";", name, "=", value] {
            text.push_str(piece);
        }
    };
    match button.function {
        Function::Dnd => {}
        Function::Url => add(fields[1], value.unwrap_or_default()),
        function => {
            let number = value.or_else(|| {
                let line = phone.lines.iter().find(|l| l.number == line)?;
                line.account.voicemail.as_ref().map(|v| v.as_str())
            });
            let number = number.unwrap_or_default();
            let at = if number.contains('@') { "" } else { "@$PROXY" };
            add(fields[1], &[number, at].concat());
            if function == Function::Voicemail {
                add("sub", "$USER@$PROXY");
            }
            add("vid", &line.to_string());
        }
    }
    if !label.is_empty() {
        add("nme", label);
    }
    (None, label, text)
}
