//! Poly (Polycom): `{mac}.cfg`, the master file, which names the files with the parameters.
//!
//! Sources: the administrator guides of SIP 3.1, UC Software 3.3, 4.1 and 5.8 (master file, `reg`,
//! `divert`, `attendant`, "Macro Actions" of the enhanced feature keys) and what public provisioning
//! projects write. A phone takes each parameter from the first file that sets it.

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
use crate::step6_config_files::PhoneLine;
use crate::text::Host;
use crate::zone::Change;

/// The vendor.
pub struct Poly;

const XML: &str = "application/xml; charset=utf-8";

/// The master file.
#[derive(Template)]
#[template(path = "poly/master.xml")]
struct Master {
    about: String,
    firmware: String,
    files: String,
    /// Where the phone keeps its user's directory.
    contacts: &'static str,
}

/// A file with parameters.
#[derive(Template)]
#[template(path = "poly/settings.xml")]
struct SettingsFile {
    about: String,
    params: Vec<(String, String)>,
}

/// The directory, in which speed dials stand.
#[derive(Template)]
#[template(path = "poly/directory.xml")]
struct Directory<'a> {
    about: String,
    entries: Vec<(usize, &'a str, &'a str)>,
}

/// Parameters in the order in which they are printed.
#[derive(Default)]
struct Params(Vec<(String, String)>);

impl Params {
    fn set(&mut self, key: &str, value: &str) {
        self.0.push((key.to_owned(), value.to_owned()));
    }

    fn flag(&mut self, key: &str, on: bool) {
        self.set(key, if on { "1" } else { "0" });
    }

    /// `{group}.{n}.{name}`.
    fn at(&mut self, group: &str, n: u16, name: &str, value: &str) {
        self.set(&[group, ".", &n.to_string(), ".", name].concat(), value);
    }

    /// A parameter that outlives the files: it is taken over only with its `.set`.
    fn device(&mut self, name: &str, value: &str) {
        let key = ["device.", name].concat();
        self.set(&key, value);
        self.set(&[&key, ".set"].concat(), "1");
    }
}

impl Vendor for Poly {
    fn models(&self) -> &'static [Model] {
        &models::MODELS
    }

    fn templates(&self) -> u32 {
        1
    }

    fn facts(&self) -> Facts {
        Facts {
            // The serial is the MAC.
            serial_tells_from_mac: true,
            certificate: CertificateMac::Unknown,
            // With `checkSync.alwaysReboot` at 0 it starts anew only if its files changed.
            resync: "check-sync",
            reboot: "check-sync",
        }
    }

    fn lacks(&self, model: &Model) -> &'static [Setting] {
        if model.generation == Generation::Former {
            &[Setting::Dnd, Setting::Wallpaper, Setting::AutoAnswer]
        } else if shows_pictures(model) {
            &[Setting::Dnd]
        } else {
            &[Setting::Dnd, Setting::Wallpaper]
        }
    }

    fn functions(&self, model: &Model) -> &'static [Function] {
        match (model.keys, model.generation) {
            (0, _) => &[],
            // Feature keys on line keys came with UC Software 5.
            (_, Generation::Former) => &[
                Function::Line,
                Function::Blf,
                Function::SpeedDial,
                Function::Voicemail,
                Function::Park,
                Function::None,
            ],
            _ => &[
                Function::Line,
                Function::Blf,
                Function::SpeedDial,
                Function::Transfer,
                Function::Voicemail,
                Function::Park,
                Function::Pickup,
                Function::Intercom,
                Function::Dtmf,
                Function::Conference,
                Function::Dnd,
                Function::Redial,
                Function::Url,
                Function::None,
            ],
        }
    }

    fn boot_name(&self, mac: Mac, _: &Model) -> String {
        format!("{mac}.cfg")
    }

    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked> {
        let name = name.to_ascii_lowercase();
        let mac = asker.mac.to_string();
        if let Some(rest) = name.strip_prefix(&mac) {
            return match rest {
                ".cfg" => Some(Asked::Part(Part::Boot)),
                "-directory.xml" => Some(Asked::Part(Part::Directory)),
                "-phone.cfg" | "-web.cfg" | "-calls.xml" => Some(Asked::Kept),
                "-license.cfg" => Some(Asked::Optional),
                _ if rest.starts_with('-') && ends(rest, "log") => Some(Asked::Dropped),
                _ => None,
            };
        }
        match name.as_str() {
            "000000000000.cfg" => Some(Asked::Part(Part::Boot)),
            "000000000000-license.cfg" | "000000000000-directory.xml" => Some(Asked::Optional),
            // Firmware by its part number, `3111-48450-001.sip.ld`.
            _ if ends(&name, "ld") => Some(Asked::Optional),
            _ => {
                let own = name.strip_prefix(USERS_OWN)?.strip_prefix('/')?;
                let own = own.strip_prefix(&mac)?;
                (own == "-directory.xml").then_some(Asked::Kept)
            }
        }
    }

    fn content_type(&self, _: Part) -> &'static str {
        XML
    }

    fn parts(&self, _: &Model) -> &'static [Part] {
        &[
            Part::Boot,
            Part::First,
            Part::Acc,
            Part::Btn,
            Part::Directory,
        ]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        let about = format!(
            "{} {}, user type {}",
            phone.model.name,
            phone.mac,
            phone.device.user_type.name()
        );
        let entries = speed_dials(phone);
        let params = match part {
            Part::Boot => {
                return write(&Master {
                    about,
                    firmware: firmware(phone),
                    files: files(phone.base),
                    contacts: if entries.is_empty() { USERS_OWN } else { "" },
                });
            }
            Part::Directory => return write(&Directory { about, entries }),
            Part::Acc => acc(phone),
            Part::Btn => btn(phone, !entries.is_empty()),
            _ => first(phone),
        };
        write(&SettingsFile {
            about,
            params: params.0,
        })
    }

    fn carries(&self, slot: Slot, text: &str) -> Result<(), &'static str> {
        if slot == Slot::KeyValue && text.starts_with('!') {
            // In the directory it would name a macro (guide, "Enhanced Feature Keys").
            Err("must not begin with !, which names a macro")
        } else {
            Ok(())
        }
    }

    fn objections(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let mut found = Vec::new();
        let mixed =
            |two: &[PhoneLine<'_>]| matches!(two, [a, b] if a.pbx.sip.srtp != b.pbx.sip.srtp);
        if phone.model.generation == Generation::Former && phone.lines.windows(2).any(mixed) {
            let detail = "this Poly has one SRTP setting for all lines, and these differ";
            found.push(Objection::new("/lines", detail));
        }
        for (n, button) in phone.device.buttons.iter().enumerate() {
            let value = button.value.as_ref().map_or("", |value| value.as_str());
            if macro_of(button.function).is_some() && value.contains(['!', '$']) {
                let detail = "must not hold ! or $ in a feature key of Poly phones";
                found.push(Objection::new(format!("/buttons/{n}/value"), detail));
            }
        }
        found
    }

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let mut found = Vec::new();
        let settings = &phone.settings;
        let tag = settings.language.as_str();
        if language(tag).is_none() {
            let detail = format!("Poly phones have no language {tag}: English is shown");
            found.push(Objection::new("/settings/language", detail));
        }
        if settings
            .forward
            .as_ref()
            .is_some_and(|f| f.always.is_some())
        {
            let detail = "a Poly phone offers this number, and its user turns the forwarding on";
            found.push(Objection::new("/settings/forward/always", detail));
        }
        if settings
            .zone
            .summer
            .is_some_and(|(saving, ..)| saving != 60)
        {
            let detail = "Poly phones know a summer time of one hour only: none is set";
            found.push(Objection::new("/settings/timezone", detail));
        }
        for (n, button) in phone.device.buttons.iter().enumerate() {
            if button.function == Function::Line && button.label.is_some() {
                let detail = "a line key of a Poly phone shows the label of its line";
                found.push(Objection::new(format!("/buttons/{n}/label"), detail));
            }
            if button.function == Function::Voicemail && number(phone, button).contains('!') {
                let detail = "a Poly phone takes ! in a number for the name of a macro";
                found.push(Objection::new(format!("/buttons/{n}"), detail));
            }
        }
        found
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        let word = |s: &str| {
            !s.is_empty()
                && s.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if key.contains('.')
            && key.split('.').all(word)
            && key.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            Ok(())
        } else {
            Err("is no parameter of Poly phones: they are words with dots between")
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        text.lines()
            .filter_map(|line| line.trim_start().split_once("=\""))
            .any(|(name, _)| name.eq_ignore_ascii_case(key))
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        let own = name.strip_suffix(".cfg").unwrap_or_default();
        let mac = to.mac.to_string();
        let about = format!("{} {mac}", to.model.name);
        let text = if own == mac || own == NOBODY {
            write(&Master {
                about,
                firmware: "sip.ld".to_owned(),
                // It starts anew once `device.prov` has changed; its files need not wait for that.
                files: if to.stays() {
                    files(to.ours)
                } else {
                    [to.ours, SETTINGS_NAME].concat()
                },
                contacts: USERS_OWN,
            })?
        } else if own.strip_prefix("phone") == Some(&mac) || name == SETTINGS_NAME {
            let mut params = Params::default();
            server(&mut params, to.url, 60);
            write(&SettingsFile {
                about,
                params: params.0,
            })?
        } else {
            return Ok(None);
        };
        Ok(Some(Document::text(XML, text)))
    }

    fn common(&self, name: &str, here: &str) -> Result<Option<Document>, Fault> {
        if name.strip_suffix(".cfg") != Some(NOBODY) {
            return Ok(None);
        }
        // A phone asks for it when there is no master file of its own. The variable is the phone's
        // own (guide, "Master Configuration Files"); if there is no such file it keeps what it has.
        let text = write(&Master {
            about: "Nothing for all phones: every phone has a file of its own".to_owned(),
            firmware: "sip.ld".to_owned(),
            files: [here, "phone[PHONE_MAC_ADDRESS].cfg"].concat(),
            contacts: USERS_OWN,
        })?;
        Ok(Some(Document::text(XML, text)))
    }
}

/// The MAC of no phone, in the names of files for all.
const NOBODY: &str = "000000000000";

/// Where the directory of a phone without speed-dial keys is, which is its user's.
const USERS_OWN: &str = "contacts";

/// Whether a name, in lower case, has this extension.
fn ends(name: &str, extension: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, last)| last == extension)
}

/// The value of `CONFIG_FILES`.
fn files(base: &str) -> String {
    [Part::First, Part::Acc, Part::Btn]
        .map(|part| [base, part.neutral_name()].concat())
        .join(", ")
}

/// Whether its display can show a picture (data sheets).
fn shows_pictures(model: &Model) -> bool {
    let grey = ["VVX1", "VVX20", "VVX30", "VVX31", "EdgeE1"];
    model.name == "VVX1500" || !grey.iter().any(|series| model.name.starts_with(series))
}

/// The firmware, whose file the phone looks for by its part number as well. In a directory it is
/// `sip.ld`.
fn firmware(phone: &Phone<'_>) -> String {
    let url = phone.settings.firmware_url.as_ref();
    let url = url.map_or("", |url| url.as_str());
    let name = if url.is_empty() || url.ends_with('/') {
        "sip.ld"
    } else {
        ""
    };
    [url, name].concat()
}

/// Where to provision from, and how often; and that nobody else may say it.
fn server(params: &mut Params, url: &str, minutes: u32) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    params.set("device.set", "1");
    params.device("prov.serverType", &scheme.to_ascii_uppercase());
    // The name goes without its scheme; the phone puts a `/` behind it itself.
    params.device("prov.serverName", rest.trim_end_matches('/'));
    params.device("dhcp.bootSrvUseOpt", "Static");
    params.device("prov.ztpEnabled", "0");
    params.set("prov.polling.enabled", "1");
    params.set("prov.polling.mode", "rel");
    // An hour is the least that it takes.
    let seconds = minutes.saturating_mul(60).max(3_600);
    params.set("prov.polling.period", &seconds.to_string());
}

fn first(phone: &Phone<'_>) -> Params {
    let settings = &phone.settings;
    let mut params = Params::default();
    let p = &mut params;
    server(p, phone.base, settings.resync_minutes);
    // A NOTIFY makes the phone start anew only if its files have changed.
    p.set("voIpProt.SIP.specialEvent.checkSync.alwaysReboot", "0");
    let tag = language(settings.language.as_str());
    p.set("lcl.ml.lang", tag.unwrap_or_default());
    p.flag("lcl.datetime.time.24HourClock", settings.clock_24h);
    clock(p, phone);
    p.flag("call.callWaiting.enable", settings.call_waiting);
    let blind = settings.transfer == Transfer::Blind;
    // Of UC Software 5, and of 4 and before.
    p.set(
        "call.defaultTransferType",
        if blind { "Blind" } else { "Consultative" },
    );
    p.flag("call.transfer.blindPreferred", blind);
    let (via_rtp, events, info) = match settings.dtmf {
        Dtmf::Rfc2833 => (true, true, false),
        Dtmf::Info => (false, false, true),
        Dtmf::Inband => (true, false, false),
    };
    p.flag("tone.dtmf.viaRtp", via_rtp);
    p.flag("tone.dtmf.rfc2833Control", events);
    p.flag("voIpProt.SIP.dtmfViaSignaling.rfc2976", info);
    for codec in Codec::ALL {
        let rank = settings.codecs.iter().position(|c| *c == codec);
        let rank = rank.map_or(0, |n| n + 1).to_string();
        // The second name is that of SIP 3.
        let (name, former) = match codec {
            Codec::G722 => ("G722", ""),
            Codec::Pcma => ("G711_A", "G711A"),
            Codec::Pcmu => ("G711_Mu", "G711Mu"),
            Codec::G729 => ("G729_AB", "G729AB"),
            Codec::Opus => ("Opus", ""),
        };
        p.set(&["voice.codecPref.", name].concat(), &rank);
        if phone.model.generation == Generation::Former && !former.is_empty() {
            p.set(&["voice.codecPref.", former].concat(), &rank);
        }
    }
    given(p, phone);
    for (key, value) in &settings.raw {
        p.set(key.as_str(), value.as_str());
    }
    params
}

/// The parameters of settings that somebody gave.
fn given(p: &mut Params, phone: &Phone<'_>) {
    let settings = &phone.settings;
    for (name, password) in [
        ("auth.localAdminPassword", &settings.admin_password),
        ("auth.localUserPassword", &settings.user_password),
    ] {
        if let Some(password) = password {
            p.device(name, password.reveal());
        }
    }
    if let Some(vlan) = &settings.vlan {
        p.device("net.vlanId", &vlan.id.get().to_string());
        for name in ["callControl", "rtp"] {
            let key = ["qos.ethernet.", name, ".user_priority"].concat();
            p.set(&key, &vlan.priority().to_string());
        }
    }
    if let Some(on) = settings.lldp {
        p.device("net.lldpEnabled", if on { "1" } else { "0" });
    }
    if let Some(host) = &settings.syslog_server {
        p.device("syslog.serverName", host.as_str());
    }
    if let Some(on) = settings.web_ui {
        p.flag("httpd.enabled", on);
        p.flag("httpd.cfg.enabled", on);
    }
    if let Some(plan) = &settings.dial_plan {
        p.set("dialplan.digitmap", &digitmap(plan));
        // What fits no pattern waits for the key that dials it.
        p.set("dialplan.impossibleMatchHandling", "2");
    }
    let former = phone.model.generation == Generation::Former;
    if let Some(url) = &settings.wallpaper
        && !former
        && shows_pictures(phone.model)
    {
        p.set("bg.color.bm.1.name", url.as_str());
        p.set("bg.color.selection", "2,1");
    }
    if let Some(on) = settings.auto_answer
        && !former
    {
        p.flag("call.autoAnswer.SIP", on);
    }
}

/// `110|0[2-9]xxx.T`: here `x.` is any number of digits, which the timer ends.
fn digitmap(plan: &DialPlan) -> String {
    let mut map = String::new();
    for pattern in plan.as_slice() {
        if !map.is_empty() {
            map.push('|');
        }
        match pattern.as_str().strip_suffix('.') {
            Some(rest) => {
                map.push_str(rest);
                map.push_str("x.T");
            }
            None => map.push_str(pattern.as_str()),
        }
    }
    map
}

fn clock(p: &mut Params, phone: &Phone<'_>) {
    let zone = &phone.settings.zone;
    p.set("tcpIpApp.sntp.address", phone.settings.ntp_server.as_str());
    p.set("tcpIpApp.sntp.address.overrideDHCP", "1");
    let seconds = i32::from(zone.offset_minutes) * 60;
    p.set("tcpIpApp.sntp.gmtOffset", &seconds.to_string());
    p.set("tcpIpApp.sntp.gmtOffset.overrideDHCP", "1");
    let summer = zone.summer.filter(|(saving, ..)| *saving == 60);
    p.flag("tcpIpApp.sntp.daylightSavings.enable", summer.is_some());
    if let Some((_, start, stop)) = summer {
        p.set("tcpIpApp.sntp.daylightSavings.fixedDayEnable", "0");
        change(p, "start", start);
        change(p, "stop", stop);
    }
}

/// When clocks change. 1 is Sunday; the date is the first of the days among which the weekday is
/// (guide, "Time and Date": 1, 8, 15 or 22).
fn change(p: &mut Params, which: &str, change: Change) {
    let last = change.week == 5;
    let date = if last { 1 } else { change.week * 7 - 6 };
    let numbers = [
        ("month", u16::from(change.month)),
        ("date", u16::from(date)),
        ("dayOfWeek", u16::from(change.weekday % 7 + 1)),
        ("dayOfWeek.lastInMonth", u16::from(last)),
        ("time", change.minute / 60),
    ];
    for (name, number) in numbers {
        let key = ["tcpIpApp.sntp.daylightSavings.", which, ".", name].concat();
        p.set(&key, &number.to_string());
    }
}

fn acc(phone: &Phone<'_>) -> Params {
    let mut params = Params::default();
    let p = &mut params;
    // What all lines have in common; the rest says each line.
    let all = |wanted: fn(Srtp) -> bool| phone.lines.iter().all(|l| wanted(l.pbx.sip.srtp));
    p.flag("sec.srtp.enable", !all(|srtp| srtp == Srtp::Off));
    let some = !phone.lines.is_empty();
    p.flag("sec.srtp.offer", some && all(|srtp| srtp != Srtp::Off));
    p.flag(
        "sec.srtp.require",
        some && all(|srtp| srtp == Srtp::Required),
    );
    for n in 1..=phone.model.lines {
        let found = phone.lines.iter().find(|line| line.number == n);
        account(p, phone, n.into(), found);
    }
    params
}

/// One line. All names stand there also for an unused one, so that nothing of a former stays.
fn account(p: &mut Params, phone: &Phone<'_>, n: u16, line: Option<&PhoneLine<'_>>) {
    let text = |of: fn(&PhoneLine<'_>) -> String| line.map_or_else(String::new, of);
    let sip = line.map(|line| &line.pbx.sip);
    let transport = sip.map_or("", |sip| match sip.transport {
        Transport::Udp => "UDPOnly",
        Transport::Tcp => "TCPOnly",
        Transport::Tls => "TLS",
    });
    let reg = |p: &mut Params, name: &str, value: &str| p.at("reg", n, name, value);
    reg(p, "address", &text(|l| l.account.username.to_string()));
    reg(p, "label", line.map_or("", |l| l.label));
    let name = line.map_or("", |l| l.account.display_name());
    reg(p, "displayName", name);
    let user = text(|l| l.account.auth_username().to_string());
    reg(p, "auth.userId", &user);
    reg(p, "auth.password", line.map_or("", |l| l.password.reveal()));
    let backup = sip.and_then(|sip| sip.backup_host.as_ref());
    for (server, host) in [("1", sip.map(|sip| &sip.host)), ("2", backup)] {
        let at = |name: &str| ["server.", server, ".", name].concat();
        reg(p, &at("address"), host.map_or("", Host::as_str));
        if let (Some(_), Some(sip)) = (host, sip) {
            // There is no default that could be relied on.
            reg(p, &at("port"), &sip.port().to_string());
            reg(p, &at("transport"), transport);
            reg(p, &at("expires"), &sip.expires_s().to_string());
            reg(p, &at("register"), "1");
        }
    }
    let outbound = sip.and_then(|sip| sip.outbound_proxy());
    let host = outbound.map_or("", |(host, _)| host.as_str());
    reg(p, "outboundProxy.address", host);
    if let Some((_, port)) = outbound {
        reg(p, "outboundProxy.port", &port.to_string());
        reg(p, "outboundProxy.transport", transport);
    }
    if let Some(sip) = sip {
        if phone.model.generation != Generation::Former {
            let flag = |on: bool| if on { "1" } else { "0" };
            reg(p, "srtp.enable", flag(sip.srtp != Srtp::Off));
            reg(p, "srtp.offer", flag(sip.srtp != Srtp::Off));
            reg(p, "srtp.require", flag(sip.srtp == Srtp::Required));
        }
        if let Some(tone) = phone.settings.ringtone {
            // The first one is silent.
            let ringer = ["ringer", &(tone + 1).to_string()].concat();
            reg(p, "ringType", &ringer);
        }
        if let Some(forward) = &phone.settings.forward {
            divert(p, n, forward);
        }
    }
    p.at(
        "msg.mwi",
        n,
        "subscribe",
        &text(|l| l.account.username.to_string()),
    );
    p.at(
        "msg.mwi",
        n,
        "callBackMode",
        if line.is_some() {
            "contact"
        } else {
            "disabled"
        },
    );
    let voicemail = line.and_then(|l| l.account.voicemail.as_ref());
    p.at(
        "msg.mwi",
        n,
        "callBack",
        voicemail.map_or("", |v| v.as_str()),
    );
}

/// Call diversion (guide, "Diversion"): it happens only where a contact stands.
fn divert(p: &mut Params, n: u16, forward: &Forward) {
    let text = |target: &Option<crate::text::Dial>| {
        target
            .as_ref()
            .map_or_else(String::new, ToString::to_string)
    };
    p.at("divert", n, "contact", &text(&forward.always));
    let kinds = [
        ("divert.busy", &forward.busy),
        ("divert.noanswer", &forward.no_answer),
    ];
    for (group, target) in kinds {
        let on = if target.is_some() { "1" } else { "0" };
        p.at(group, n, "enabled", on);
        p.at(group, n, "contact", &text(target));
    }
    let seconds = forward.ring_s().to_string();
    p.at("divert.noanswer", n, "timeout", &seconds);
    let on = if forward.always.is_some() { "1" } else { "0" };
    p.at("divert.fwd", n, "enabled", on);
}

/// All keys in the phone's own numbering, in which those of the modules follow its own.
fn keys<'a>(phone: &'a Phone<'_>) -> impl Iterator<Item = (u16, Option<&'a Button>)> {
    let model = phone.model;
    let own = (1..=model.keys).map(|n| (n, phone.button(None, n)));
    let modules = (1..=phone.modules_in_use()).flat_map(move |module| {
        let before = model.keys + u16::from(module - 1) * model.module_keys;
        (1..=model.module_keys).map(move |n| (before + n, phone.button(Some(module), n)))
    });
    own.chain(modules)
}

/// What a key dials or sends: for voicemail without a number of its own, the line's.
fn number<'a>(phone: &'a Phone<'_>, button: &'a Button) -> &'a str {
    let voicemail = || {
        let line = button.line.unwrap_or(1);
        let line = phone.lines.iter().find(|l| l.number == line)?;
        line.account.voicemail.as_ref().map(|v| v.as_str())
    };
    let own = button.value.as_ref().map(|value| value.as_str());
    match button.function {
        Function::Voicemail => own.or_else(voicemail).unwrap_or_default(),
        _ => own.unwrap_or_default(),
    }
}

/// Whether a key dials an entry of the directory: speed dials, and voicemail where there are no feature
/// keys.
fn is_entry(phone: &Phone<'_>, button: &Button) -> bool {
    match button.function {
        Function::SpeedDial => true,
        Function::Voicemail => phone.model.generation == Generation::Former,
        _ => false,
    }
}

/// The entries of the directory: index, label and number.
fn speed_dials<'a>(phone: &'a Phone<'_>) -> Vec<(usize, &'a str, &'a str)> {
    keys(phone)
        .filter_map(|(_, button)| button.filter(|button| is_entry(phone, button)))
        .zip(1..)
        .map(|(button, n)| (n, phone.button_label(button), number(phone, button)))
        .collect()
}

fn btn(phone: &Phone<'_>, has_speed_dials: bool) -> Params {
    let mut params = Params::default();
    let p = &mut params;
    // What its user entered would be lost among the keys.
    p.flag("dir.local.readonly", has_speed_dials);
    p.set("lineKey.reassignment.enabled", "1");
    let by_itself = phone.shows_lines_by_itself();
    let former = phone.model.generation == Generation::Former;
    if !former {
        p.set("feature.enhancedFeatureKeys.enabled", "1");
        p.set("feature.EFKLineKey.enabled", "1");
        p.set("efk.version", "2");
    }
    p.set("attendant.reg", "1");
    let (mut watched, mut dialled, mut macros) = (0, 0, 0);
    let mut line_keys = [0_u8; 256];
    for (n, button) in keys(phone) {
        let own = u8::try_from(n).ok().filter(|_| n <= phone.model.keys);
        let own = own.filter(|own| by_itself && phone.lines.iter().any(|l| l.number == *own));
        let function = match (button, own) {
            (Some(button), _) => button.function,
            // A phone that nobody gave keys to shows its lines.
            (None, Some(_)) => Function::Line,
            (None, None) => Function::None,
        };
        let value = button.map_or("", |button| number(phone, button));
        let label = button.map_or("", |button| phone.button_label(button));
        let (category, index) = match function {
            Function::None => ("Unassigned", 0),
            Function::Line => {
                let line = own.or_else(|| button?.line).unwrap_or(1);
                if let Some(count) = line_keys.get_mut(usize::from(line)) {
                    *count += 1;
                }
                ("Line", u16::from(line))
            }
            Function::Blf | Function::Park => {
                watched += 1;
                p.at("attendant.resourceList", watched, "address", value);
                p.at("attendant.resourceList", watched, "label", label);
                // In a call, `automata` hands it over: that is how calls are parked.
                let kind = if function == Function::Park {
                    "automata"
                } else {
                    "normal"
                };
                p.at("attendant.resourceList", watched, "type", kind);
                // They come in the order of the list.
                ("BLF", 0)
            }
            _ if button.is_some_and(|button| is_entry(phone, button)) => {
                dialled += 1;
                ("SpeedDial", dialled)
            }
            other => {
                macros += 1;
                let name = [other.name().replace('_', "").as_str(), &n.to_string()].concat();
                p.at("efk.efklist", macros, "mname", &name);
                p.at("efk.efklist", macros, "status", "1");
                p.at("efk.efklist", macros, "label", label);
                let action = [value, macro_of(other).unwrap_or_default()].concat();
                p.at("efk.efklist", macros, "action.string", &action);
                ("EFK", macros)
            }
        };
        p.at("lineKey", n, "category", category);
        p.at("lineKey", n, "index", &index.to_string());
    }
    for line in &phone.lines {
        let count = line_keys.get(usize::from(line.number)).copied();
        let count = count.unwrap_or(0).max(1).to_string();
        p.at("reg", line.number.into(), "lineKeys", &count);
    }
    params
}

/// What a feature key does with its value (guide, "Macro Actions").
fn macro_of(function: Function) -> Option<&'static str> {
    Some(match function {
        Function::Transfer => "$FTransfer$",
        Function::Conference => "$FConference$",
        Function::Dnd => "$FDoNotDisturb$",
        Function::Redial => "$FRedial$",
        Function::Voicemail | Function::Pickup => "$Tinvite$",
        Function::Intercom => "$Tintercom$",
        Function::Dtmf => "$Tdtmf$",
        // A URL stands there by itself.
        Function::Url => "",
        _ => return None,
    })
}

/// The name of a language in `lcl.ml.lang` (guide, "Phone Languages"); English needs none.
fn language(tag: &str) -> Option<&'static str> {
    Some(match tag {
        "pt-BR" => "Portuguese_Brazil",
        _ => match tag.split('-').next()? {
            "en" => "",
            "de" => "German_Germany",
            "fr" => "French_France",
            "es" => "Spanish_Spain",
            "it" => "Italian_Italy",
            "nl" => "Dutch_Netherlands",
            "pl" => "Polish_Poland",
            "pt" => "Portuguese_Portugal",
            "ru" => "Russian_Russia",
            "da" => "Danish_Denmark",
            "no" | "nb" => "Norwegian_Norway",
            "sv" => "Swedish_Sweden",
            "sl" => "Slovenian_Slovenia",
            "ja" => "Japanese_Japan",
            "ko" => "Korean_Korea",
            "zh" => "Chinese_China",
            _ => return None,
        },
    })
}
