//! Yealink: `{mac}.boot` with includes from firmware 81 on, a common file and `{mac}.cfg` before.
//!
//! Sources: Yealink's Auto Provisioning Guide for V81 and later (boot files, includes, overwrite
//! mode), and the administrator guides of the T2, T4 and T5 series for the parameters. The models'
//! codes and key counts are those that the vendor's own common file names and data sheets show.

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
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::text::Host;
use crate::zone::Change;

/// The vendor.
pub struct Yealink;

const TEXT: &str = "text/plain; charset=utf-8";

/// The boot file: it may only include (Auto Provisioning Guide, "Boot File").
#[derive(Template)]
#[template(path = "yealink/boot.cfg")]
struct Boot<'a> {
    mac: Mac,
    model: &'a str,
    user_type: &'a str,
    includes: Vec<String>,
}

/// The first settings, which a boot file cannot hold itself.
#[derive(Template)]
#[template(path = "yealink/first.cfg")]
struct First<'a> {
    mac: Mac,
    model: &'a str,
    user_type: &'a str,
    server: Server<'a>,
    /// What only a phone with a display and keys of its own has; a DECT base has none.
    desk: Option<Desk>,
    clock: Clock<'a>,
    passwords: Vec<(&'static str, &'a str)>,
    /// What has the prefix `static.` from firmware 81 on.
    fixed: Vec<(&'static str, String)>,
    settings: Vec<(String, String)>,
    raw: Vec<(&'a str, &'a str)>,
}

struct Desk {
    language: &'static str,
    call_waiting: u8,
}

/// Where to provision from, and how often. The part that a redirect sets as well.
#[derive(Template)]
#[template(path = "yealink/_server.cfg")]
struct Server<'a> {
    url: &'a str,
    minutes: u32,
}

/// The clock.
#[derive(Template)]
#[template(path = "yealink/_clock.cfg")]
struct Clock<'a> {
    offset: String,
    summer: Option<Summer>,
    ntp_server: &'a str,
    time_format: Option<u8>,
}

/// Summer time by weekday: month/week/weekday/hour (administrator guide, "DST time type 1").
struct Summer {
    start: String,
    end: String,
    minutes: u16,
}

/// The redirect document as settings.
#[derive(Template)]
#[template(path = "yealink/redirect.cfg")]
struct RedirectSettings<'a> {
    mac: Mac,
    model: &'a str,
    server: Server<'a>,
}

/// The accounts, or the keys: parameters in the order in which they are printed.
#[derive(Template)]
#[template(path = "yealink/parameters.cfg")]
struct Parameters(Vec<(String, String)>);

/// All in one, for firmware before 81, which knows no includes.
#[derive(Template)]
#[template(path = "yealink/merged.cfg")]
struct Merged<'a> {
    first: First<'a>,
    acc: Parameters,
    btn: Parameters,
}

impl Vendor for Yealink {
    fn models(&self) -> &'static [Model] {
        &models::MODELS
    }

    fn templates(&self) -> u32 {
        3
    }

    fn facts(&self) -> Facts {
        Facts {
            serial_tells_from_mac: false,
            certificate: CertificateMac::CommonName,
            resync: "check-sync;reboot=false",
            reboot: "check-sync;reboot=true",
        }
    }

    fn lacks(&self, model: &Model) -> &'static [Setting] {
        if model.generation == Generation::Dect {
            // What a handset has is set on the handset.
            return &[
                Setting::Language,
                Setting::Clock24h,
                Setting::Transfer,
                Setting::CallWaiting,
                Setting::Ringtone,
                Setting::Wallpaper,
                Setting::Forward,
                Setting::Dnd,
                Setting::AutoAnswer,
            ];
        }
        if shows_pictures(model) {
            &[]
        } else {
            &[Setting::Wallpaper]
        }
    }

    fn functions(&self, _: &Model) -> &'static [Function] {
        &Function::ALL
    }

    fn boot_name(&self, mac: Mac, model: &Model) -> String {
        match model.generation {
            Generation::Former => format!("{mac}.cfg"),
            Generation::Current | Generation::Dect => format!("{mac}.boot"),
        }
    }

    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked> {
        let Asker { mac, model, .. } = asker;
        let name = name.to_ascii_lowercase();
        if name == format!("{mac}.boot") || name == "y000000000000.boot" {
            return Some(Asked::Part(Part::Boot));
        }
        if name == format!("{mac}.cfg") {
            return Some(Asked::Part(Part::Merged));
        }
        // The codes of some bases are not sure.
        let unsure = model.generation == Generation::Dect && is_common_cfg(&name);
        if name == common_name(model.code) || unsure {
            return Some(Asked::Part(Part::Common));
        }
        match name.strip_prefix(&mac.to_string())? {
            // With `custom.sync` and `local_contact.backup`, which Dialtone does not turn on, and
            // which somebody may have by `raw`.
            "-local.cfg" | "-contact.xml" | "-calllog.xml" => Some(Asked::Kept),
            "-sys.log" | "-boot.log" | "-all.log" => Some(Asked::Dropped),
            _ => None,
        }
    }

    fn content_type(&self, _: Part) -> &'static str {
        TEXT
    }

    fn parts(&self, _: &Model) -> &'static [Part] {
        &[
            Part::Boot,
            Part::First,
            Part::Acc,
            Part::Btn,
            Part::Merged,
            Part::Common,
        ]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        match part {
            Part::Boot => {
                let names = [
                    Part::First.neutral_name(),
                    Part::Acc.neutral_name(),
                    Part::Btn.neutral_name(),
                ];
                file(&Boot {
                    mac: phone.mac,
                    model: phone.model.name,
                    user_type: phone.device.user_type.name(),
                    includes: names.map(|name| format!("{}{name}", phone.base)).into(),
                })
            }
            Part::First => file(&first(phone)),
            Part::Acc => file(&acc(phone)),
            Part::Btn => file(&btn(phone)),
            Part::Merged => file(&Merged {
                first: first(phone),
                acc: acc(phone),
                btn: btn(phone),
            }),
            Part::Common | Part::Former | Part::Directory => Ok(common_text()),
        }
    }

    fn carries(&self, _: Slot, text: &str) -> Result<(), &'static str> {
        if text == "%NULL%" {
            // "%NULL%" as a whole value empties the parameter.
            Err("must not be %NULL%, which means empty")
        } else if text.trim() != text {
            Err("must not begin or end with a space, which is lost")
        } else {
            Ok(())
        }
    }

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let tag = phone.settings.language.as_str();
        if phone.model.generation == Generation::Dect || language(tag).is_some() {
            return Vec::new();
        }
        let detail = format!("Yealink phones have no language {tag}: English is shown");
        vec![Objection::new("/settings/language", detail)]
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        let segment = |s: &str| {
            !s.is_empty()
                && s.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if key.contains('.') && key.split('.').all(segment) {
            Ok(())
        } else {
            Err("is no parameter of Yealink phones: they are words with dots between")
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        // What firmware before 81 calls it is the same parameter.
        let bare = |key: &str| {
            key.strip_prefix("static.")
                .unwrap_or(key)
                .to_ascii_lowercase()
        };
        let key = bare(key);
        text.lines()
            .filter_map(|line| line.split_once(" ="))
            .any(|(name, _)| bare(name) == key)
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        let text = if name == format!("{}.boot", to.mac) || name == "y000000000000.boot" {
            // It is not proven that a phone asks again by itself after a redirect, so the boot
            // file takes it straight on: to our own files, or to the other server's.
            let includes = if to.stays() {
                [Part::First, Part::Acc, Part::Btn]
                    .map(|part| format!("{}{}", to.ours, part.neutral_name()))
                    .into()
            } else {
                vec![
                    format!("{}{}", to.ours, crate::step2_redirect::SETTINGS_NAME),
                    format!("{}{}.cfg", to.url, to.mac),
                ]
            };
            file(&Boot {
                mac: to.mac,
                model: to.model.name,
                user_type: "",
                includes,
            })?
        } else if name == format!("{}.cfg", to.mac) || name == crate::step2_redirect::SETTINGS_NAME
        {
            file(&RedirectSettings {
                mac: to.mac,
                model: to.model.name,
                // Firmware before 81 cannot be taken on by includes: it asks again in minutes.
                server: Server {
                    url: to.url,
                    minutes: 2,
                },
            })?
        } else if is_common_cfg(&name) {
            common_text()
        } else {
            return Ok(None);
        };
        Ok(Some(Document {
            content_type: TEXT,
            bytes: text.into_bytes(),
        }))
    }

    fn common(&self, name: &str, _: &str) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        let text = if name == "y000000000000.boot" {
            // `$MAC` is the phone's own wildcard (Auto Provisioning Guide, "Wildcards"). Where a
            // firmware does not expand it, it asks for a file that is not there and goes on.
            format!("{VERSION}\ninclude:config \"$MAC.cfg\"\n")
        } else if is_common_cfg(&name) {
            common_text()
        } else {
            return Ok(None);
        };
        Ok(Some(Document::text(TEXT, text)))
    }
}

/// The first line of every file, without which the phone ignores it.
const VERSION: &str = "#!version:1.0.0.1";

/// A file: the version, then the template's lines. Blank lines go, and so does the space that an
/// empty value leaves at the end of its line; no value has any there itself ([`unprintable`]).
fn file(template: &impl Template) -> Result<String, Fault> {
    let text = write(template)?;
    let lines = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty());
    Ok(std::iter::once(VERSION)
        .chain(lines)
        .flat_map(|line| [line, "\n"])
        .collect())
}

fn common_text() -> String {
    format!(
        "{VERSION}\n# Nothing for all phones of a model: everything is in the phone's own file.\n"
    )
}

fn common_name(code: &str) -> String {
    format!("y{code:0>12}.cfg")
}

/// `y000000000028.cfg`, whatever the code: phones that we do not know yet ask as well.
fn is_common_cfg(name: &str) -> bool {
    name.strip_prefix('y')
        .and_then(|rest| rest.strip_suffix(".cfg"))
        .is_some_and(|code| code.len() == 12 && code.bytes().all(|b| b.is_ascii_digit()))
}

fn first<'a>(phone: &'a Phone<'a>) -> First<'a> {
    let settings = &phone.settings;
    let offset = settings.zone.offset_minutes;
    let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
    let sign = match offset {
        ..0 => "-",
        0 => "",
        1.. => "+",
    };
    First {
        mac: phone.mac,
        model: phone.model.name,
        user_type: phone.device.user_type.name(),
        server: Server {
            url: phone.base,
            minutes: settings.resync_minutes,
        },
        desk: is_desk(phone).then(|| Desk {
            language: language(settings.language.as_str()).unwrap_or("English"),
            call_waiting: u8::from(settings.call_waiting),
        }),
        passwords: [
            ("admin", &settings.admin_password),
            ("user", &settings.user_password),
        ]
        .into_iter()
        .filter_map(|(user, password)| Some((user, password.as_ref()?.reveal())))
        .collect(),
        fixed: given(phone),
        settings: given_of_desk(phone),
        raw: settings
            .raw
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect(),
        clock: Clock {
            offset: if minutes == 0 {
                format!("{sign}{hours}")
            } else {
                format!("{sign}{hours}:{minutes:02}")
            },
            summer: settings.zone.summer.map(|(saving, start, end)| Summer {
                start: by_week(start),
                end: by_week(end),
                minutes: saving,
            }),
            ntp_server: settings.ntp_server.as_str(),
            time_format: is_desk(phone).then_some(u8::from(settings.clock_24h)),
        },
    }
}

/// Whether its display can show a picture (data sheets).
fn shows_pictures(model: &Model) -> bool {
    [
        "T29", "T33", "T34", "T44", "T46", "T48", "T49", "T52", "T54", "T56", "T57", "T58", "T7",
        "T8", "VP59", "CP965",
    ]
    .iter()
    .any(|series| model.name.starts_with(series))
}

fn is_desk(phone: &Phone<'_>) -> bool {
    phone.model.generation != Generation::Dect
}

/// The parameters of settings that somebody gave; what nobody did is left to the phone, and
/// `overwrite_mode` takes back what once was given.
fn given(phone: &Phone<'_>) -> Vec<(&'static str, String)> {
    let settings = &phone.settings;
    let mut list: Vec<(&'static str, String)> = Vec::new();
    let mut set = |key: &'static str, value: &str| list.push((key, value.to_owned()));
    let flag = |on: bool| if on { "1" } else { "0" };
    if let Some(vlan) = &settings.vlan {
        set("network.vlan.internet_port_enable", "1");
        set("network.vlan.internet_port_vid", &vlan.id.get().to_string());
        set(
            "network.vlan.internet_port_priority",
            &vlan.priority().to_string(),
        );
        if is_desk(phone) {
            set("network.vlan.pc_port_enable", flag(vlan.pc_id.is_some()));
            if let Some(id) = vlan.pc_id {
                set("network.vlan.pc_port_vid", &id.get().to_string());
            }
        }
    }
    if let Some(on) = settings.lldp {
        set("network.lldp.enable", flag(on));
    }
    if let Some(url) = &settings.firmware_url {
        set("firmware.url", url.as_str());
    }
    if let Some(host) = &settings.syslog_server {
        // 1 sends it to the server, 0 keeps it on the phone.
        set("syslog.mode", "1");
        set("syslog.server", host.as_str());
    }
    if let Some(on) = settings.web_ui {
        set("wui.http_enable", flag(on));
        set("wui.https_enable", flag(on));
    }
    list
}

/// The same for what has no `static.` before its name.
fn given_of_desk(phone: &Phone<'_>) -> Vec<(String, String)> {
    let settings = &phone.settings;
    let mut list: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| list.push((key.to_owned(), value.to_owned()));
    if settings.syslog_server.is_some() {
        // Firmware before 81 has none: there, a server is enough.
        set("static.syslog.enable", "1");
    }
    let flag = |on: bool| if on { "1" } else { "0" };
    for (n, pattern) in (1..).zip(settings.dial_plan.iter().flat_map(DialPlan::as_slice)) {
        set(&format!("dialplan.dialnow.rule.{n}"), pattern.as_str());
        // No line: for all of them.
        set(&format!("dialplan.dialnow.line_id.{n}"), "");
    }
    if !is_desk(phone) {
        return list;
    }
    if let Some(tone) = settings.ringtone {
        set("phone_setting.ring_type", &format!("Ring{tone}.wav"));
    }
    if let Some(url) = settings
        .wallpaper
        .as_ref()
        .filter(|_| shows_pictures(phone.model))
    {
        let name = url.as_str().rsplit('/').next().unwrap_or_default();
        set("wallpaper_upload.url", url.as_str());
        set("phone_setting.backgrounds", &format!("Config:{name}"));
    }
    if let Some(forward) = &settings.forward {
        let Forward {
            always,
            busy,
            no_answer,
            ..
        } = forward;
        for (kind, target) in [("always", always), ("busy", busy), ("no_answer", no_answer)] {
            set(&format!("forward.{kind}.enable"), flag(target.is_some()));
            let target = target.as_ref().map_or("", |target| target.as_str());
            set(&format!("forward.{kind}.target"), target);
        }
        // Counted in rings of six seconds (administrator guide, "Call Forward").
        let rings = forward.ring_s().div_ceil(6);
        set("forward.no_answer.timeout", &rings.to_string());
    }
    if let Some(on) = settings.dnd {
        set("features.dnd.enable", flag(on));
    }
    list
}

/// Month/week/weekday/hour: week 5 is the last, weekday 1 is Monday (administrator guide).
fn by_week(change: Change) -> String {
    format!(
        "{}/{}/{}/{}",
        change.month,
        change.week,
        change.weekday,
        change.minute / 60
    )
}

fn acc(phone: &Phone<'_>) -> Parameters {
    let mut list = Vec::new();
    for line in &phone.lines {
        let sip = &line.pbx.sip;
        let n = line.number.to_string();
        let mut set = |name: &str, value: &str| {
            list.push((["account.", &n, ".", name].concat(), value.to_owned()));
        };
        let port = sip.port().to_string();
        let expires = sip.expires_s().to_string();
        let transport = match sip.transport {
            Transport::Udp => "0",
            Transport::Tcp => "1",
            Transport::Tls => "2",
        };
        set("enable", "1");
        set("label", line.label);
        set("display_name", line.account.display_name());
        set("user_name", line.account.username.as_str());
        set("auth_name", line.account.auth_username().as_str());
        set("password", line.password.reveal());
        set("sip_server.1.address", sip.host.as_str());
        set("sip_server.1.port", &port);
        set("sip_server.1.transport_type", transport);
        set("sip_server.1.expires", &expires);
        let backup = sip.backup_host.as_ref().map_or("", Host::as_str);
        set("sip_server.2.address", backup);
        if !backup.is_empty() {
            set("sip_server.2.port", &port);
            set("sip_server.2.transport_type", transport);
            set("sip_server.2.expires", &expires);
            set("fallback.redundancy_type", "1");
        }
        if let Some((host, port)) = sip.outbound_proxy() {
            set("outbound_proxy_enable", "1");
            set("outbound_proxy.1.address", host.as_str());
            set("outbound_proxy.1.port", &port.to_string());
            set("outbound_proxy.1.transport_type", transport);
        } else {
            set("outbound_proxy_enable", "0");
            set("outbound_proxy.1.address", "");
        }
        let srtp = match sip.srtp {
            Srtp::Off => "0",
            Srtp::Optional => "1",
            Srtp::Required => "2",
        };
        set("srtp_encryption", srtp);
        let dtmf = match phone.settings.dtmf {
            Dtmf::Inband => "0",
            Dtmf::Rfc2833 => "1",
            Dtmf::Info => "2",
        };
        set("dtmf.type", dtmf);
        if let Some(on) = phone.settings.auto_answer.filter(|_| is_desk(phone)) {
            set("auto_answer", if on { "1" } else { "0" });
        }
        set("subscribe_mwi", "1");
        for (codec, rank) in codecs(&phone.settings.codecs) {
            let name = |end: &str| ["codec.", codec, end].concat();
            set(&name(".enable"), if rank > 0 { "1" } else { "0" });
            set(&name(".priority"), &rank.to_string());
        }
        let voicemail = line.account.voicemail.as_ref().map_or("", |v| v.as_str());
        list.push((["voice_mail.number.", &n].concat(), voicemail.to_owned()));
        if !is_desk(phone) {
            // A line of a base is a handset's.
            for (name, value) in [
                ("name", line.label),
                ("incoming_lines", &n),
                ("dial_out_lines", &n),
                ("dial_out_default_line", &n),
            ] {
                list.push((["handset.", &n, ".", name].concat(), value.to_owned()));
            }
        }
    }
    let used = |n: u8| phone.lines.iter().any(|line| line.number == n);
    for n in (1..=phone.model.lines).filter(|n| !used(*n)) {
        let n = n.to_string();
        for (name, value) in [
            ("enable", "0"),
            ("label", ""),
            ("display_name", ""),
            ("user_name", ""),
            ("auth_name", ""),
            ("password", ""),
            ("sip_server.1.address", ""),
            ("sip_server.2.address", ""),
            ("outbound_proxy.1.address", ""),
        ] {
            list.push((["account.", &n, ".", name].concat(), value.to_owned()));
        }
        list.push((["voice_mail.number.", &n].concat(), String::new()));
    }
    Parameters(list)
}

/// Every codec, with its rank from 1 where it is on and 0 where it is off.
fn codecs(wanted: &[Codec]) -> [(&'static str, usize); 5] {
    Codec::ALL.map(|codec| {
        let name = match codec {
            Codec::G722 => "g722",
            Codec::Pcma => "pcma",
            Codec::Pcmu => "pcmu",
            Codec::G729 => "g729",
            Codec::Opus => "opus",
        };
        let rank = wanted.iter().position(|c| *c == codec);
        (name, rank.map_or(0, |n| n + 1))
    })
}

fn btn(phone: &Phone<'_>) -> Parameters {
    let mut list = Vec::new();
    if is_desk(phone) {
        let deal = match phone.settings.transfer {
            Transfer::NewCall => "0",
            Transfer::Attended => "1",
            Transfer::Blind => "2",
        };
        list.push(("transfer.dsskey_deal_type".to_owned(), deal.to_owned()));
    }
    for n in 1..=phone.model.keys {
        let place = format!("linekey.{n}.");
        let own = phone.lines.iter().find(|line| u16::from(line.number) == n);
        match (phone.button(None, n), own) {
            (Some(button), _) => key(phone, button, &place, &mut list),
            // A phone that nobody gave keys to shows its lines.
            (None, Some(line)) if phone.shows_lines_by_itself() => {
                let code = code(Function::Line);
                place_key(&place, code, line.number, "", line.label, &mut list);
            }
            (None, _) => place_key(&place, 0, 0, "", "", &mut list),
        }
    }
    for module in 1..=phone.modules_in_use() {
        for n in 1..=phone.model.module_keys {
            let place = format!("expansion_module.{module}.key.{n}.");
            match phone.button(Some(module), n) {
                Some(button) => key(phone, button, &place, &mut list),
                None => place_key(&place, 0, 0, "", "", &mut list),
            }
        }
    }
    Parameters(list)
}

/// One key; type 0 and empty values for a blank one, so that a removed key goes from the phone.
fn place_key(
    place: &str,
    code: u8,
    line: u8,
    value: &str,
    label: &str,
    list: &mut Vec<(String, String)>,
) {
    let (code, line) = (code.to_string(), line.to_string());
    for (name, value) in [
        ("type", code.as_str()),
        ("line", &line),
        ("value", value),
        ("label", label),
    ] {
        list.push(([place, name].concat(), value.to_owned()));
    }
}

fn key(phone: &Phone<'_>, button: &Button, place: &str, list: &mut Vec<(String, String)>) {
    let line = button.line.unwrap_or(1);
    let own = button.value.as_ref().map(|value| value.as_str());
    let value = match button.function {
        // The phone dials the line's own voicemail number if the key has none.
        Function::Voicemail => own.or_else(|| {
            let line = phone.lines.iter().find(|l| l.number == line)?;
            line.account.voicemail.as_ref().map(|v| v.as_str())
        }),
        _ => own,
    };
    let label = phone.button_label(button);
    let code = code(button.function);
    place_key(place, code, line, value.unwrap_or_default(), label, list);
}

/// The number of a key's type (administrator guide, "Line Key Types").
fn code(function: Function) -> u8 {
    match function {
        Function::None => 0,
        Function::Conference => 1,
        Function::Forward => 2,
        Function::Transfer => 3,
        Function::Dnd => 5,
        Function::Redial => 6,
        Function::Pickup => 9,
        Function::Park => 10,
        Function::Dtmf => 11,
        Function::Voicemail => 12,
        Function::SpeedDial => 13,
        Function::Intercom => 14,
        Function::Line => 15,
        Function::Blf => 16,
        Function::Url => 17,
        Function::HotDesk => 34,
    }
}

/// The name of a language in `lang.gui` (administrator guide, "Language").
fn language(tag: &str) -> Option<&'static str> {
    Some(match tag.split('-').next()? {
        "en" => "English",
        "de" => "German",
        "fr" => "French",
        "es" => "Spanish",
        "it" => "Italian",
        "pl" => "Polish",
        "pt" => "Portuguese",
        "ru" => "Russian",
        "tr" => "Turkish",
        "zh" => "Chinese_S",
        _ => return None,
    })
}
