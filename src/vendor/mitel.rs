//! Mitel 68xx and 69xx, and their predecessors of Aastra (67xx, 9143i, 9480i): `startup.cfg`, before
//! `aastra.cfg`, then `{model}.cfg`, then `{MAC}.cfg`. What is read later wins, so the last one has
//! everything.
//!
//! Sources: the administrator guides of Aastra 3.2.2 and 3.3.1 and of Mitel 4.2 and 5.1 (order of
//! files, parameters), and public provisioning projects.

mod models;

use std::borrow::Cow;

use askama::Template;

use super::{
    Asked, Asker, CertificateMac, Document, Facts, Generation, Model, Objection, Redirect, Slot,
    Vendor, write,
};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::device::{Button, Function};
use crate::record::pbx::{Srtp, Transport};
use crate::record::settings::{Codec, DialPlan, Dtmf, Setting, Transfer};
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::zone::Change;

/// The vendor.
pub struct Mitel;

const TEXT: &str = "text/plain; charset=utf-8";

type Params = Vec<(Cow<'static, str>, String)>;

/// A file.
#[derive(Template)]
#[template(path = "mitel/config.cfg")]
struct Config<'a> {
    /// What it is, for people: of our own words, a model and a MAC.
    about: &'a str,
    params: Params,
}

impl Vendor for Mitel {
    fn models(&self) -> &'static [Model] {
        &models::MODELS
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

    fn lacks(&self, model: &Model) -> &'static [Setting] {
        // A language is a file that the phone fetches; it asks for its own files once a day.
        let all = &[
            Setting::Language,
            Setting::ResyncMinutes,
            Setting::Forward,
            Setting::Dnd,
            Setting::AutoAnswer,
            Setting::Wallpaper,
        ];
        match all {
            [some @ .., _] if shows_pictures(model) => some,
            all => all,
        }
    }

    fn functions(&self, model: &Model) -> &'static [Function] {
        let all = &[
            Function::Line,
            Function::Blf,
            Function::SpeedDial,
            Function::Transfer,
            Function::Conference,
            Function::Dnd,
            Function::Forward,
            Function::Url,
            Function::None,
            // A firmware before 4 ignores what is parked where, and has no login.
            Function::Park,
            Function::HotDesk,
        ];
        match all {
            [some @ .., _, _] if model.generation == Generation::Former => some,
            all => all,
        }
    }

    fn boot_name(&self, mac: Mac, _: &Model) -> String {
        own_name(mac)
    }

    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked> {
        let name = name.to_ascii_lowercase();
        let mac = asker.mac.to_string();
        if let Some(rest) = name.strip_prefix(&mac) {
            return match rest {
                ".cfg" => Some(Asked::Part(Part::Merged)),
                ".tuz" => Some(Asked::Optional),
                // What its user changed, where `upload` is turned on by raw parameters.
                "_local.cfg" => Some(Asked::Kept),
                _ => None,
            };
        }
        match name.rsplit_once('.')? {
            ("startup" | "aastra", "cfg") => Some(Asked::Part(Part::Boot)),
            (stem, "cfg") if is_model(stem) => Some(Asked::Part(Part::Common)),
            // The same encrypted, and the firmware.
            ("startup" | "aastra" | "security", "tuz") => Some(Asked::Optional),
            (stem, "tuz" | "st") if is_model(stem) => Some(Asked::Optional),
            _ => None,
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
        if merged || part == Part::Boot {
            boot(&mut params, phone);
        }
        if merged || part == Part::Acc {
            acc(&mut params, phone);
        }
        if merged || part == Part::Btn {
            btn(&mut params, phone);
        }
        if part == Part::Common {
            return file(NOTHING, params);
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
        if text.trim() != text {
            Err("must not begin or end with a space, which is lost")
        } else if text.starts_with('"') || (text.contains('"') && text.contains('#')) {
            // A value with a # must stand in quotes, and nothing stands for a quote in them.
            Err("must not begin with a quote, nor hold both a quote and a #")
        } else {
            Ok(())
        }
    }

    fn objections(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let mixed = phone
            .lines
            .windows(2)
            .any(|two| matches!(two, [a, b] if a.pbx.sip.transport != b.pbx.sip.transport));
        let detail = "Mitel phones have one transport for all lines, and these differ";
        mixed
            .then(|| Objection::new("/lines", detail))
            .into_iter()
            .collect()
    }

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let opus = phone.settings.codecs.contains(&Codec::Opus);
        opus.then(|| {
            Objection::new(
                "/settings/codecs",
                "Mitel phones have no Opus: it is left out",
            )
        })
        .into_iter()
        .collect()
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b" -[]".contains(&byte);
        if key.bytes().all(known) && key.starts_with(|c: char| c.is_ascii_alphabetic()) {
            Ok(())
        } else {
            Err("is no parameter of Mitel phones: they are words with spaces between")
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(':'))
            .any(|(name, _)| name.eq_ignore_ascii_case(key))
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        let own = name == format!("{}.cfg", to.mac)
            || [
                "startup.cfg",
                "aastra.cfg",
                crate::step2_redirect::SETTINGS_NAME,
            ]
            .contains(&name.as_str());
        if !own {
            return self.common(&name, "");
        }
        let mut params = Params::new();
        server(&mut params, to.url);
        let about = format!("Where {} {} gets its files", to.model.name, to.mac);
        Ok(Some(Document::text(TEXT, file(&about, params)?)))
    }

    fn common(&self, name: &str, _: &str) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        let stem = name.strip_suffix(".cfg");
        if !stem.is_some_and(|stem| stem == "startup" || stem == "aastra" || is_model(stem)) {
            return Ok(None);
        }
        Ok(Some(Document::text(TEXT, file(NOTHING, Params::new())?)))
    }
}

const NOTHING: &str = "Nothing for all phones of a model: each has a file of its own";

/// `08000F000001.cfg`: the MAC is in capitals.
fn own_name(mac: Mac) -> String {
    format!("{}.cfg", mac.to_string().to_ascii_uppercase())
}

/// Whether a file's name is a model's; firmware before 3 left the 67 away.
fn is_model(stem: &str) -> bool {
    models::MODELS
        .iter()
        .any(|model| model.name == stem || model.name.strip_prefix("67") == Some(stem))
}

/// Whether its display can show a picture (data sheets).
fn shows_pictures(model: &Model) -> bool {
    ["6739", "6867", "6869", "6873", "692", "693", "694", "697"]
        .iter()
        .any(|series| model.name.starts_with(series))
}

/// A file: a line each. What follows a # is a comment, as the guides' own examples have it, unless it
/// stands in quotes, as their dial plans do.
fn file(about: &str, mut params: Params) -> Result<String, Fault> {
    for (_, value) in &mut params {
        if value.contains('#') {
            *value = format!("\"{value}\"");
        }
    }
    let text = write(&Config { about, params })?;
    // Without the space that an empty value leaves; no value has any at its end itself.
    Ok(text
        .lines()
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect())
}

fn set(params: &mut Params, key: &'static str, value: impl Into<String>) {
    params.push((key.into(), value.into()));
}

/// Where to provision from. DHCP options and the vendor's redirect service (RCS) are turned off.
fn server(params: &mut Params, url: &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A port is behind the last colon, unless that is in the brackets of an IPv6 address.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, if scheme == "https" { "443" } else { "80" }),
    };
    set(params, "download protocol", scheme.to_ascii_uppercase());
    for (name, value) in [
        ("server", host),
        ("port", port),
        ("path", path.trim_end_matches('/')),
    ] {
        params.push((format!("{scheme} {name}").into(), value.to_owned()));
    }
    set(params, "contact rcs", "0");
    // -1: none of them.
    set(params, "dhcp config option override", "-1");
    // 1: the configuration and not the firmware, each day at this time.
    set(params, "auto resync mode", "1");
    set(params, "auto resync time", "02:00");
    set(params, "auto resync days", "0");
}

const fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

/// The first settings.
fn boot(params: &mut Params, phone: &Phone<'_>) {
    let settings = &phone.settings;
    server(params, phone.base);
    let spread = settings.resync_spread_minutes.min(1_439);
    set(params, "auto resync max delay", spread.to_string());
    set(params, "time server disabled", "0");
    set(params, "time server1", settings.ntp_server.as_str());
    set(params, "time format", flag(settings.clock_24h));
    clock(params, phone);
    set(params, "call waiting", flag(settings.call_waiting));
    for (key, password) in [
        ("admin password", &settings.admin_password),
        ("user password", &settings.user_password),
    ] {
        if let Some(password) = password {
            set(params, key, password.reveal());
        }
    }
    if let Some(vlan) = &settings.vlan {
        set(params, "tagging enabled", "1");
        set(params, "vlan id", vlan.id.get().to_string());
        set(params, "priority non-ip", vlan.priority().to_string());
        // 4095: without a tag.
        let id = vlan.pc_id.map_or(4_095, |id| id.get());
        set(params, "vlan id port 1", id.to_string());
    }
    if let Some(on) = settings.lldp {
        set(params, "lldp", flag(on));
    }
    if let Some(tone) = settings.ringtone {
        // 0 is the first.
        set(params, "ring tone", tone.saturating_sub(1).to_string());
    }
    if let Some(url) = settings
        .wallpaper
        .as_ref()
        .filter(|_| shows_pictures(phone.model))
    {
        set(params, "background image", url.as_str());
    }
    if let Some(plan) = &settings.dial_plan {
        set(params, "sip dial plan", dial_plan(plan));
    }
    if let Some(url) = &settings.firmware_url {
        set(params, "firmware server", url.as_str());
    }
    if let Some(host) = &settings.syslog_server {
        set(params, "log server ip", host.as_str());
        set(params, "log server port", "514");
    }
    if let Some(on) = settings.web_ui {
        set(params, "web interface enabled", flag(on));
    }
    for (key, value) in &settings.raw {
        params.push((key.as_str().to_owned().into(), value.as_str().to_owned()));
    }
}

/// The clock: minutes west of Greenwich, summer time by weekday.
fn clock(params: &mut Params, phone: &Phone<'_>) {
    let zone = &phone.settings.zone;
    set(params, "time zone name", "Custom");
    set(
        params,
        "time zone minutes",
        (-zone.offset_minutes).to_string(),
    );
    let Some((saving, start, end)) = zone.summer else {
        set(params, "dst config", "0");
        return;
    };
    // 3: by itself.
    set(params, "dst config", "3");
    set(params, "dst minutes", saving.to_string());
    // The guides write both names in one, and their examples do too.
    for which in ["start", "end", "[start|end]"] {
        params.push((format!("dst {which} relative date").into(), "1".to_owned()));
    }
    change(params, "start", start);
    change(params, "end", end);
}

fn change(params: &mut Params, which: &str, change: Change) {
    // -1 is the last; 1 is Sunday.
    let week = match change.week {
        5 => "-1".to_owned(),
        week => week.to_string(),
    };
    for (what, value) in [
        ("month", change.month.to_string()),
        ("week", week),
        ("day", (change.weekday % 7 + 1).to_string()),
        ("hour", (change.minute / 60).to_string()),
    ] {
        params.push((format!("dst {which} {what}").into(), value));
    }
}

/// Patterns with `|` between; `+` is one or more of what is before it.
fn dial_plan(plan: &DialPlan) -> String {
    let patterns: Vec<String> = plan
        .as_slice()
        .iter()
        .map(|pattern| match pattern.as_str().strip_suffix('.') {
            Some(open) if open.ends_with('x') => format!("{open}+"),
            Some(open) => format!("{open}|{open}x+"),
            None => pattern.as_str().to_owned(),
        })
        .collect();
    patterns.join("|")
}

/// What stands for no server.
const NOWHERE: &str = "0.0.0.0";

/// The accounts.
fn acc(params: &mut Params, phone: &Phone<'_>) {
    let settings = &phone.settings;
    if let Some(line) = phone.lines.first() {
        let transport = match line.pbx.sip.transport {
            Transport::Udp => "1",
            Transport::Tcp => "2",
            Transport::Tls => "4",
        };
        set(params, "sip transport protocol", transport);
        set(params, "sips persistent tls", flag(transport == "4"));
    }
    set(params, "sip explicit mwi subscription", "1");
    set(
        params,
        "sip out-of-band dtmf",
        flag(settings.dtmf != Dtmf::Inband),
    );
    let codecs: Vec<String> = settings
        .codecs
        .iter()
        .filter_map(|codec| {
            // By its payload type (RFC 3551); there is no Opus.
            let payload = match codec {
                Codec::Pcmu => 0,
                Codec::Pcma => 8,
                Codec::G722 => 9,
                Codec::G729 => 18,
                Codec::Opus => return None,
            };
            Some(format!("payload={payload};ptime=20;silsupp=off"))
        })
        .collect();
    set(params, "sip customized codec", codecs.join(","));
    for n in 1..=phone.model.lines {
        let mut put = |name: &str, value: &str| {
            params.push((format!("sip line{n} {name}").into(), value.to_owned()));
        };
        let Some(line) = phone.lines.iter().find(|line| line.number == n) else {
            for name in [
                "screen name",
                "user name",
                "display name",
                "auth name",
                "password",
                "vmail",
            ] {
                put(name, "");
            }
            for name in [
                "proxy ip",
                "registrar ip",
                "outbound proxy",
                "backup proxy ip",
                "backup registrar ip",
            ] {
                put(name, NOWHERE);
            }
            continue;
        };
        let sip = &line.pbx.sip;
        let port = sip.port().to_string();
        let voicemail = line.account.voicemail.as_ref();
        put("screen name", line.label);
        put("user name", line.account.username.as_str());
        put("display name", line.account.display_name());
        put("auth name", line.account.auth_username().as_str());
        put("password", line.password.reveal());
        put("vmail", voicemail.map_or("", |number| number.as_str()));
        let backup = sip
            .backup_host
            .as_ref()
            .map_or(NOWHERE, |host| host.as_str());
        for what in ["proxy", "registrar"] {
            put(&format!("{what} ip"), sip.host.as_str());
            put(&format!("{what} port"), &port);
            put(&format!("backup {what} ip"), backup);
            put(&format!("backup {what} port"), &port);
        }
        let outbound = sip.outbound_proxy();
        put(
            "outbound proxy",
            outbound.map_or(NOWHERE, |(host, _)| host.as_str()),
        );
        let outbound = outbound.map_or(0, |(_, port)| port);
        put("outbound proxy port", &outbound.to_string());
        put("registration period", &sip.expires_s().to_string());
        let srtp = match sip.srtp {
            Srtp::Off => "0",
            Srtp::Optional => "1",
            Srtp::Required => "2",
        };
        put("srtp mode", srtp);
        put("dtmf method", flag(settings.dtmf == Dtmf::Info));
    }
}

/// The keys.
fn btn(params: &mut Params, phone: &Phone<'_>) {
    for n in 1..=phone.model.keys {
        let name = models::key_name(phone.model, n);
        let line = phone
            .lines
            .iter()
            .find(|line| u16::from(line.number) == n && phone.shows_lines_by_itself());
        match (phone.button(None, n), line) {
            (Some(button), _) => button_key(params, phone, &name, button),
            (None, Some(line)) => key(params, &name, ["line", "", line.label], line.number),
            (None, None) => key(params, &name, ["none", "", ""], 1),
        }
    }
    for module in 1..=phone.modules_in_use() {
        for n in 1..=phone.model.module_keys {
            let name = format!("expmod{module} key{n}");
            match phone.button(Some(module), n) {
                Some(button) => button_key(params, phone, &name, button),
                None => key(params, &name, ["none", "", ""], 1),
            }
        }
    }
}

fn button_key(params: &mut Params, phone: &Phone<'_>, name: &str, button: &Button) {
    let own = button.value.as_ref().map_or("", |value| value.as_str());
    let mut value = Cow::Borrowed(own);
    let kind = match button.function {
        Function::Line => "line",
        // What it does during a call.
        Function::Blf if phone.settings.transfer == Transfer::Blind => "blfxfer",
        Function::Blf => "blf",
        Function::SpeedDial => "speeddial",
        Function::Park => {
            value = format!("asterisk;{own}").into();
            "park"
        }
        Function::Transfer => "xfer",
        Function::Conference => "conf",
        Function::Dnd => "dnd",
        Function::Forward => "callforward",
        Function::Url => "xml",
        Function::HotDesk => "hotdesklogin",
        _ => "none",
    };
    let label = phone.button_label(button);
    key(
        params,
        name,
        [kind, value.as_ref(), label],
        button.line.unwrap_or(1),
    );
}

fn key(params: &mut Params, name: &str, [kind, value, label]: [&str; 3], line: u8) {
    for (what, value) in [
        ("type", kind),
        ("value", value),
        ("label", label),
        ("line", &line.to_string()),
    ] {
        params.push((format!("{name} {what}").into(), value.to_owned()));
    }
}
