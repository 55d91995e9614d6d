//! Panasonic KX-HDV and KX-TGP600, and KX-UT before: a file that sets where the phone's own file is,
//! then that file, `Config{MAC}.cfg`, which has everything.
//!
//! Sources: the administrator guides of the KX-UT1xx, KX-UT670 and KX-HDV230 ("Configuration File
//! Specifications"), and public provisioning projects for names of parameters.

use std::borrow::Cow;

use askama::Template;

use super::{
    Asked, Asker, CertificateMac, Document, Facts, Generation, Model, Objection, Redirect, Slot,
    Vendor, write,
};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::device::Function;
use crate::record::pbx::{Srtp, Transport};
use crate::record::settings::{Codec, DialPlan, Setting};
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::step6_config_files::uri_host;

/// The vendor.
pub struct Panasonic;

const TEXT: &str = "text/plain; charset=utf-8";

/// The longest value: 537 bytes of a line, less 32 of a name and what stands around the value.
const LONGEST: usize = 500;

type Params = Vec<(Cow<'static, str>, String)>;

/// A file.
#[derive(Template)]
#[template(path = "panasonic/config.cfg")]
struct Config<'a> {
    /// What it is, for people: of our own words, a model and a MAC.
    about: &'a str,
    params: Params,
}

const fn desk(name: &'static str, lines: u8, keys: u16) -> Model {
    Model {
        name,
        lines,
        keys,
        modules: 0,
        module_keys: 0,
        generation: Generation::Current,
        code: "",
    }
}

const fn former(name: &'static str, lines: u8, keys: u16) -> Model {
    Model {
        generation: Generation::Former,
        ..desk(name, lines, keys)
    }
}

/// The catalogue: lines and flexible keys as the vendor's guides have them.
static MODELS: [Model; 14] = [
    desk("KX-HDV100", 1, 0),
    desk("KX-HDV130", 2, 2),
    desk("KX-HDV230", 6, 24),
    desk("KX-HDV330", 12, 24),
    desk("KX-HDV340", 4, 24),
    desk("KX-HDV430", 16, 24),
    desk("KX-HDV800", 2, 0),
    Model {
        generation: Generation::Dect,
        ..desk("KX-TGP600", 8, 0)
    },
    former("KX-UT113", 2, 0),
    former("KX-UT123", 2, 0),
    former("KX-UT133", 4, 24),
    former("KX-UT136", 4, 24),
    former("KX-UT248", 6, 24),
    former("KX-UT670", 6, 24),
];

impl Vendor for Panasonic {
    fn models(&self) -> &'static [Model] {
        &MODELS
    }

    fn templates(&self) -> u32 {
        1
    }

    fn facts(&self) -> Facts {
        Facts {
            serial_tells_from_mac: false,
            certificate: CertificateMac::Unknown,
            resync: "check-sync",
            reboot: "check-sync;reboot=true",
        }
    }

    fn lacks(&self, _: &Model) -> &'static [Setting] {
        // What no source has a parameter for that all these models know.
        &[
            Setting::Language,
            Setting::Clock24h,
            Setting::Dtmf,
            Setting::Transfer,
            Setting::Lldp,
            Setting::Ringtone,
            Setting::Wallpaper,
            Setting::Forward,
            Setting::Dnd,
            Setting::AutoAnswer,
        ]
    }

    fn functions(&self, _: &Model) -> &'static [Function] {
        &[
            Function::Line,
            Function::Blf,
            Function::SpeedDial,
            Function::None,
        ]
    }

    fn boot_name(&self, mac: Mac, _: &Model) -> String {
        own_name(mac)
    }

    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked> {
        if is_own(name, asker.mac) {
            Some(Asked::Part(Part::Merged))
        } else {
            is_model(name).then_some(Asked::Part(Part::Common))
        }
    }

    fn content_type(&self, _: Part) -> &'static str {
        TEXT
    }

    fn parts(&self, _: &Model) -> &'static [Part] {
        &[Part::Boot, Part::Acc, Part::Btn, Part::Merged, Part::Common]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        let merged = part == Part::Merged;
        let mut params = Params::new();
        if part == Part::Common {
            return file("Nothing for all phones of a model", params);
        }
        if merged || part == Part::Boot {
            boot(&mut params, phone);
        }
        if merged || part == Part::Acc {
            acc(&mut params, phone);
        }
        if merged || part == Part::Btn {
            btn(&mut params, phone);
        }
        let about = format!(
            "{} {}, user type {}",
            phone.model.name,
            phone.mac,
            phone.device.user_type.name()
        );
        file(&about, params)
    }

    fn carries(&self, _: Slot, text: &str) -> Result<(), &'static str> {
        if text.contains('"') {
            // A value stands in quotes, and nothing stands for a quote in them.
            Err("must not hold a double quote")
        } else if text.len() > LONGEST {
            Err("must have at most 500 bytes")
        } else {
            Ok(())
        }
    }

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let mut found = Vec::new();
        for line in &phone.lines {
            if line.pbx.sip.srtp != Srtp::Off {
                let detail =
                    "Panasonic phones are told nothing of SRTP: it stays as it is set there";
                let pointer = format!("/lines/{}/account", line.index);
                found.push(Objection::new(pointer, detail));
            }
        }
        if phone.settings.codecs.contains(&Codec::Opus) {
            let detail = "Panasonic phones have no Opus: it is left out";
            found.push(Objection::new("/settings/codecs", detail));
        }
        if let Some(plan) = &phone.settings.dial_plan
            && dial_plan(plan).1
        {
            let detail = "is too long for Panasonic phones: the last patterns are left out";
            found.push(Objection::new("/settings/dial_plan", detail));
        }
        found
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        let known = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if key.len() <= 32 && key.bytes().all(known) {
            Ok(())
        } else {
            Err("is no parameter of Panasonic phones: up to 32 capitals, digits and _")
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .any(|(name, _)| name == key)
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let settings = name.eq_ignore_ascii_case(crate::step2_redirect::SETTINGS_NAME);
        if !(settings || is_own(name, to.mac) || is_model(name)) {
            return Ok(None);
        }
        let mut params = Params::new();
        server(&mut params, &format!("{}{}", to.url, own_name(to.mac)), 5);
        let about = format!("Where {} {} gets its files", to.model.name, to.mac);
        Ok(Some(Document::text(TEXT, file(&about, params)?)))
    }

    fn common(&self, name: &str, here: &str) -> Result<Option<Document>, Fault> {
        if !is_model(name) {
            return Ok(None);
        }
        // What a phone out of its box asks for: it puts its own MAC in.
        let mut params = Params::new();
        let path = format!("{here}Config{{MAC}}.cfg");
        set(&mut params, "CFG_STANDARD_FILE_PATH", path);
        let about = "Each phone has a file of its own";
        Ok(Some(Document::text(TEXT, file(about, params)?)))
    }
}

/// `Config0080F0000001.cfg`: the MAC is in capitals.
fn own_name(mac: Mac) -> String {
    format!("Config{}.cfg", mac.to_string().to_ascii_uppercase())
}

fn is_own(name: &str, mac: Mac) -> bool {
    let name = name.to_ascii_lowercase();
    let rest = name.strip_prefix("config").unwrap_or(&name);
    rest.strip_suffix(".cfg") == Some(&mac.to_string())
}

/// Whether a file's name is a model's: `KX-HDV230.cfg`.
fn is_model(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let stem = name.strip_suffix(".cfg").unwrap_or_default();
    let stem = stem.strip_prefix("config").unwrap_or(stem);
    MODELS
        .iter()
        .any(|model| model.name.eq_ignore_ascii_case(stem))
}

/// A file: the prescribed first line, lines that end in CR LF, and an empty one at the end.
fn file(about: &str, params: Params) -> Result<String, Fault> {
    let text = write(&Config { about, params })?;
    Ok(text
        .lines()
        .chain([""])
        .flat_map(|line| [line, "\r\n"])
        .collect())
}

fn set(params: &mut Params, key: &'static str, value: impl Into<String>) {
    params.push((key.into(), value.into()));
}

const fn yes(on: bool) -> &'static str {
    if on { "Y" } else { "N" }
}

/// Where to provision from, and how often. DHCP options and plug and play are turned off; there are no more
/// files.
fn server(params: &mut Params, path: &str, minutes: u32) {
    set(params, "PROVISION_ENABLE", "Y");
    set(params, "CFG_STANDARD_FILE_PATH", path);
    set(params, "CFG_PRODUCT_FILE_PATH", "");
    set(params, "CFG_MASTER_FILE_PATH", "");
    set(params, "CFG_CYCLIC", "Y");
    // Up to 28 days.
    set(params, "CFG_CYCLIC_INTVL", minutes.min(40_320).to_string());
    set(params, "CFG_RESYNC_TIME", "");
    set(params, "CFG_RESYNC_FROM_SIP", "check-sync");
    for name in [
        "OPTION66_ENABLE",
        "OPTION159_ENABLE",
        "OPTION160_ENABLE",
        "SIPPNP_ENABLE",
    ] {
        set(params, name, "N");
    }
}

/// The first settings.
fn boot(params: &mut Params, phone: &Phone<'_>) {
    let settings = &phone.settings;
    let path = format!("{}{}", phone.base, own_name(phone.mac));
    server(params, &path, settings.resync_minutes);
    set(params, "NTP_ADDR", settings.ntp_server.as_str());
    let zone = &settings.zone;
    // Minutes east of Greenwich.
    set(params, "TIME_ZONE", zone.offset_minutes.to_string());
    set(params, "DST_ENABLE", yes(zone.summer.is_some()));
    if let Some((saving, start, end)) = zone.summer {
        set(params, "DST_OFFSET", saving.to_string());
        for (which, change) in [("START", start), ("STOP", end)] {
            // The fifth is the last, day 0 is Sunday, the time is in minutes.
            for (what, value) in [
                ("MONTH", change.month.into()),
                ("ORDINAL_DAY", change.week.into()),
                ("DAY_OF_WEEK", u16::from(change.weekday % 7)),
                ("TIME", change.minute),
            ] {
                params.push((format!("DST_{which}_{what}").into(), value.to_string()));
            }
        }
    }
    for (id, name, key, password) in [
        ("ADMIN_ID", "admin", "ADMIN_PASS", &settings.admin_password),
        ("USER_ID", "user", "USER_PASS", &settings.user_password),
    ] {
        if let Some(password) = password {
            set(params, id, name);
            set(params, key, password.reveal());
        }
    }
    if let Some(vlan) = &settings.vlan {
        set(params, "VLAN_ENABLE", "Y");
        set(params, "VLAN_ID_IP_PHONE", vlan.id.get().to_string());
        set(params, "VLAN_PRI_IP_PHONE", vlan.priority().to_string());
        if let Some(id) = vlan.pc_id {
            set(params, "VLAN_ID_PC", id.get().to_string());
        }
    }
    if let Some(url) = &settings.firmware_url {
        set(params, "FIRM_UPGRADE_ENABLE", "Y");
        set(params, "FIRM_FILE_PATH", url.as_str());
    }
    if let Some(host) = &settings.syslog_server {
        set(params, "SYSLOG_ADDR", host.as_str());
        set(params, "SYSLOG_PORT", "514");
    }
    if let Some(on) = settings.web_ui {
        set(params, "HTTPD_PORTOPEN_AUTO", yes(on));
    }
    for (key, value) in &settings.raw {
        params.push((key.as_str().to_owned().into(), value.as_str().to_owned()));
    }
}

/// Patterns with `|` between, `X` for any digit, as many as fit; and whether some do not.
fn dial_plan(plan: &DialPlan) -> (String, bool) {
    let mut text = String::new();
    for pattern in plan.as_slice() {
        let pattern = pattern.as_str().replace('x', "X");
        if text.len() + pattern.len() >= LONGEST {
            return (text, true);
        }
        if !text.is_empty() {
            text.push('|');
        }
        text.push_str(&pattern);
    }
    (text, false)
}

/// The accounts.
fn acc(params: &mut Params, phone: &Phone<'_>) {
    let settings = &phone.settings;
    set(params, "VM_SUBSCRIBE_ENABLE", "Y");
    for n in 1..=phone.model.lines {
        let mut put = |name: &str, value: &str| {
            params.push((format!("{name}_{n}").into(), value.to_owned()));
        };
        let Some(line) = phone.lines.iter().find(|line| line.number == n) else {
            put("LINE_ENABLE", "Disabled");
            for name in [
                "PHONE_NUMBER",
                "SIP_URI",
                "SIP_AUTHID",
                "SIP_PASS",
                "DISPLAY_NAME",
                "VM_NUMBER",
                "SIP_PRXY_ADDR",
                "SIP_RGSTR_ADDR",
                "SIP_SVCDOMAIN",
                "SIP_OUTPROXY_ADDR",
                "SIP_2NDPROXY_ADDR",
                "SIP_2NDRGSTR_ADDR",
            ] {
                put(name, "");
            }
            continue;
        };
        let sip = &line.pbx.sip;
        let (user, host) = (line.account.username.as_str(), sip.host.as_str());
        let port = sip.port().to_string();
        let voicemail = line.account.voicemail.as_ref();
        put("LINE_ENABLE", "Enabled");
        put("PHONE_NUMBER", user);
        put("SIP_URI", &format!("sip:{user}@{}", uri_host(&sip.host)));
        put("SIP_AUTHID", line.account.auth_username().as_str());
        put("SIP_PASS", line.password.reveal());
        put("DISPLAY_NAME", line.account.display_name());
        put("VM_NUMBER", voicemail.map_or("", |number| number.as_str()));
        put("SIP_SVCDOMAIN", host);
        for name in ["SIP_PRXY", "SIP_RGSTR"] {
            put(&format!("{name}_ADDR"), host);
            put(&format!("{name}_PORT"), &port);
        }
        let backup = sip.backup_host.as_ref().map_or("", |host| host.as_str());
        for name in ["SIP_2NDPROXY", "SIP_2NDRGSTR"] {
            put(&format!("{name}_ADDR"), backup);
            put(&format!("{name}_PORT"), &port);
        }
        let outbound = sip.outbound_proxy();
        put(
            "SIP_OUTPROXY_ADDR",
            outbound.map_or("", |(host, _)| host.as_str()),
        );
        if let Some((_, port)) = outbound {
            put("SIP_OUTPROXY_PORT", &port.to_string());
        }
        let transport = match sip.transport {
            Transport::Udp => "0",
            Transport::Tcp => "1",
            Transport::Tls => "2",
        };
        put("SIP_TRANSPORT", transport);
        put("REG_EXPIRE_TIME", &sip.expires_s().to_string());
        put("OUTBANDDTMF", "Y");
        put("CW_ENABLE", yes(settings.call_waiting));
        // The numbers are the phone's own; 2 is G.726, which is off.
        for (codec, id) in [
            (Some(Codec::G722), 0),
            (Some(Codec::Pcma), 1),
            (None, 2),
            (Some(Codec::G729), 3),
            (Some(Codec::Pcmu), 4),
        ] {
            let rank = settings
                .codecs
                .iter()
                .position(|wanted| Some(*wanted) == codec);
            put(&format!("CODEC_ENABLE{id}"), yes(rank.is_some()));
            if let Some(rank) = rank {
                put(&format!("CODEC_PRIORITY{id}"), &(rank + 1).to_string());
            }
        }
        if let Some(plan) = &settings.dial_plan {
            put("DIAL_PLAN", &dial_plan(plan).0);
        }
    }
}

/// The flexible keys.
fn btn(params: &mut Params, phone: &Phone<'_>) {
    for n in 1..=phone.model.keys {
        let line = phone
            .lines
            .iter()
            .find(|line| u16::from(line.number) == n && phone.shows_lines_by_itself());
        let mut values = [""; 4].map(str::to_owned);
        let [act, arg, dial, label] = &mut values;
        if let Some(button) = phone.button(None, n) {
            let value = button.value.as_ref().map_or("", |value| value.as_str());
            match button.function {
                Function::Line => {
                    "X_PANASONIC_IPTEL_DN".clone_into(act);
                    *arg = button.line.unwrap_or(1).to_string();
                }
                Function::Blf => {
                    "X_PANASONIC_IPTEL_CONTACT".clone_into(act);
                    value.clone_into(arg);
                }
                Function::SpeedDial => value.clone_into(dial),
                _ => {}
            }
            phone.button_label(button).clone_into(label);
        } else if let Some(line) = line {
            "X_PANASONIC_IPTEL_DN".clone_into(act);
            *arg = n.to_string();
            line.label.clone_into(label);
        }
        for (what, value) in ["FACILITY_ACT", "FACILITY_ARG", "QUICK_DIAL", "LABEL"]
            .into_iter()
            .zip(values)
        {
            params.push((format!("FLEX_BUTTON_{what}{n}").into(), value));
        }
    }
}
