//! Snom: a list of setting files (`snomD785-{MAC}.htm`), each of which holds settings or keys.
//!
//! Sources: Snom's service wiki ("Auto Provisioning", "Desk Phone Configuration Files", `<functionKeys>`
//! tag, "Function Key Types", "SIP Failover", `dst`, `provisioning_order`), the D7's manual for how keys
//! are numbered, and public provisioning projects for the settings of the M bases. Gigaset's P phones
//! run the same firmware and are written here too.

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
use crate::record::pbx::{Sip, Srtp};
use crate::record::settings::{Codec, DialPlan, Dtmf, Forward, Setting, Transfer};
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::step6_config_files::{PhoneLine, uri_host};
use crate::text::Host;
use crate::zone::Change;

/// The vendor.
pub struct Snom;

pub(super) const XML: &str = "text/xml; charset=utf-8";

/// A phone of this firmware keeps so many identities, whichever of them its display shows.
const IDENTITIES: u8 = 12;

/// Settings and keys (service wiki, "Desk Phone Configuration Files").
#[derive(Template)]
#[template(path = "snom/settings.xml")]
struct Settings<'a> {
    title: &'a str,
    model: &'a str,
    mac: Mac,
    user_type: &'a str,
    params: Params<'a>,
    keys: Vec<Key<'a>>,
}

/// The list of further files, which is the boot file.
#[derive(Template)]
#[template(path = "snom/files.xml")]
struct Files<'a> {
    title: &'a str,
    model: &'a str,
    mac: Mac,
    user_type: &'a str,
    urls: Vec<String>,
}

/// A setting; `idx` is the identity, handset or server that it is of, 0 the phone itself.
struct Param<'a> {
    name: &'a str,
    idx: u8,
    value: Cow<'a, str>,
}

type Params<'a> = Vec<Param<'a>>;

/// A key; `line` 0 is whichever identity is active.
struct Key<'a> {
    idx: u16,
    line: u8,
    label: &'a str,
    action: String,
}

impl Vendor for Snom {
    fn models(&self) -> &'static [Model] {
        &models::MODELS
    }

    fn templates(&self) -> u32 {
        2
    }

    fn facts(&self) -> Facts {
        Facts {
            // Nobody has published what the number on the box is; older labels show the MAC alone.
            serial_tells_from_mac: true,
            certificate: CertificateMac::CommonName,
            resync: "check-sync;reboot=false",
            reboot: "check-sync;reboot=true",
        }
    }

    fn lacks(&self, model: &Model) -> &'static [Setting] {
        if is_dect(model) {
            // What is the handset's own, and what nobody has published the name or the values of.
            return &[
                Setting::Timezone,
                Setting::Clock24h,
                Setting::ResyncMinutes,
                Setting::ResyncSpreadMinutes,
                Setting::Transfer,
                Setting::Lldp,
                Setting::Ringtone,
                Setting::Wallpaper,
                Setting::DialPlan,
                Setting::Dnd,
                Setting::AutoAnswer,
                Setting::FirmwareUrl,
                Setting::SyslogServer,
                Setting::WebUi,
            ];
        }
        if shows_pictures(model) {
            &[]
        } else {
            &[Setting::Wallpaper]
        }
    }

    fn functions(&self, model: &Model) -> &'static [Function] {
        if model.keys == 0 {
            return &[];
        }
        // A key for a pickup by code would be a plain speed dial.
        &[
            Function::Line,
            Function::Blf,
            Function::SpeedDial,
            Function::Transfer,
            Function::Voicemail,
            Function::Park,
            Function::Intercom,
            Function::Dtmf,
            Function::Conference,
            Function::Dnd,
            Function::Forward,
            Function::Redial,
            Function::Url,
            Function::HotDesk,
            Function::None,
        ]
    }

    fn boot_name(&self, mac: Mac, model: &Model) -> String {
        format!("snom{}-{}.htm", model.name, upper(mac))
    }

    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked> {
        let name = name.to_ascii_lowercase();
        let own = asker.mac.to_string();
        if is_own_file(&name, &own) {
            return Some(Asked::Part(Part::Merged));
        }
        let model = name.strip_prefix("snom")?;
        if model.ends_with("-firmware.xml") || model.ends_with("-firmware.htm") {
            return Some(Asked::Optional);
        }
        let model = model.strip_suffix(".htm")?;
        match model.split_once('-') {
            // What all phones of a model are told before their own file.
            None => Some(Asked::Part(Part::Common)),
            Some((_, mac)) => (mac == own).then_some(Asked::Part(Part::Boot)),
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
            Part::Merged,
            Part::Common,
        ]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        if part == Part::Common {
            return Ok(NOTHING.to_owned());
        }
        let title = phone.device.vendor.title();
        let user_type = phone.device.user_type.name();
        if part == Part::Boot {
            return write(&Files {
                title,
                model: phone.model.name,
                mac: phone.mac,
                user_type,
                urls: own_files(phone.base),
            });
        }
        let has = |one| part == one || part == Part::Merged;
        let mut params = Params::new();
        if has(Part::First) {
            first(phone, &mut params);
        }
        if has(Part::Acc) {
            if is_dect(phone.model) {
                handsets(phone, &mut params);
            } else {
                identities(phone, &mut params);
            }
        }
        write(&Settings {
            title,
            model: phone.model.name,
            mac: phone.mac,
            user_type,
            params,
            keys: if has(Part::Btn) {
                keys(phone)
            } else {
                Vec::new()
            },
        })
    }

    fn carries(&self, _: Slot, text: &str) -> Result<(), &'static str> {
        if text.trim() == text {
            Ok(())
        } else {
            Err("must not begin or end with a space, which may be lost")
        }
    }

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let mut found = Vec::new();
        let title = phone.device.vendor.title();
        let tag = phone.settings.language.as_str();
        if language(tag).is_none() {
            let detail = format!("{title} phones have no language {tag}: English is shown");
            found.push(Objection::new("/settings/language", detail));
        }
        let backups: Vec<_> = phone.lines.iter().filter(|l| has_backup(l)).collect();
        // A backup is an identity of its own.
        let room = if is_dect(phone.model) {
            0
        } else {
            usize::from(IDENTITIES).saturating_sub(phone.lines.len())
        };
        for line in backups.iter().skip(room) {
            let detail = format!(
                "the {title} {} has no identity left for the backup server: it is left out",
                phone.model.name
            );
            found.push(Objection::new(
                format!("/lines/{}/account", line.index),
                detail,
            ));
        }
        found
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        let (name, idx) = raw_parts(key);
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let fine = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(word);
        if fine && idx.is_some() {
            Ok(())
        } else {
            Err(
                "is no setting of these phones: they are words, with an index in [ ] where there are several",
            )
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        // One of an identity is Dialtone's, so the others are too.
        let (name, _) = raw_parts(key);
        text.contains(&["<", name, " "].concat())
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        let own = to.mac.to_string();
        // A file with the phone's own name may be a list as well as one with its model's.
        let list = is_own_file(&name, &own) || is_model_file(&name, &own);
        let boot = self.boot_name(to.mac, to.model);
        redirect_document("Snom", &name, list, [to.url, ""], &boot, to)
    }

    fn common(&self, name: &str, _: &str) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        // The phone asks for its own file next, by itself.
        let model = name
            .strip_prefix("snom")
            .and_then(|name| name.strip_suffix(".htm"))
            .is_some_and(|model| !model.is_empty() && !model.contains('-'));
        Ok(model.then(|| Document::text(XML, NOTHING)))
    }
}

/// What all phones of a model get: nothing.
const NOTHING: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<settings>\n</settings>\n";

/// The redirect document that a name asks for: the settings, with `server` as the next place, or
/// the list.
pub(super) fn redirect_document(
    title: &'static str,
    name: &str,
    list: bool,
    server: [&str; 2],
    boot: &str,
    to: Redirect<'_>,
) -> Result<Option<Document>, Fault> {
    let text = if name == crate::step2_redirect::SETTINGS_NAME {
        let mut params = Params::new();
        // It is asked again in two minutes.
        place(server.concat(), 120, is_dect(to.model), &mut params);
        write(&Settings {
            title,
            model: to.model.name,
            mac: to.mac,
            user_type: "",
            params,
            keys: Vec::new(),
        })?
    } else if list {
        write(&Files {
            title,
            model: to.model.name,
            mac: to.mac,
            user_type: "",
            urls: if to.stays() {
                own_files(to.ours)
            } else {
                // What it is told there; then, whether or not a list may name a list, it asks the
                // other server by itself within minutes.
                vec![
                    [to.ours, crate::step2_redirect::SETTINGS_NAME].concat(),
                    [to.url, boot].concat(),
                ]
            },
        })?
    } else {
        return Ok(None);
    };
    Ok(Some(Document::text(XML, text)))
}

/// `000413000001.xml`, for a URL that ends in `{mac}.xml`, `.htm` or nothing.
fn is_own_file(name: &str, mac: &str) -> bool {
    name.strip_prefix(mac)
        .is_some_and(|rest| matches!(rest, "" | ".xml" | ".htm"))
}

/// `snomd785.htm` or `snomd785-000413000001.htm`, whatever the model: it may have been replaced.
fn is_model_file(name: &str, mac: &str) -> bool {
    name.strip_prefix("snom")
        .and_then(|name| name.strip_suffix(".htm"))
        .is_some_and(|model| model.split_once('-').is_none_or(|(_, own)| own == mac))
}

/// The MAC as the phones write it.
fn upper(mac: Mac) -> String {
    mac.to_string().to_ascii_uppercase()
}

fn own_files(base: &str) -> Vec<String> {
    [Part::First, Part::Acc, Part::Btn]
        .map(|part| [base, part.neutral_name()].concat())
        .into()
}

fn is_dect(model: &Model) -> bool {
    model.generation == Generation::Dect
}

/// Whether its display can show a picture (data sheets).
fn shows_pictures(model: &Model) -> bool {
    [
        "D14", "D15", "D335", "D37", "D38", "D717", "D735", "D76", "D78", "D8", "SP8", "P8",
    ]
    .iter()
    .any(|series| model.name.starts_with(series))
}

fn has_backup(line: &PhoneLine<'_>) -> bool {
    line.pbx.sip.backup_host.is_some()
}

/// The name and the index of a raw key such as `user_ringer[2]`; no index is 0, a bad one none.
fn raw_parts(key: &str) -> (&str, Option<u8>) {
    match key.split_once('[') {
        None => (key, Some(0)),
        Some((name, rest)) => (
            name,
            rest.strip_suffix(']')
                .and_then(|n| n.parse().ok())
                .filter(|n| *n > 0),
        ),
    }
}

fn on(is: bool) -> &'static str {
    if is { "on" } else { "off" }
}

fn set<'a>(params: &mut Params<'a>, name: &'a str, idx: u8, value: impl Into<Cow<'a, str>>) {
    params.push(Param {
        name,
        idx,
        value: value.into(),
    });
}

/// Where to provision from, and nowhere else.
fn place(url: String, seconds: u32, dect: bool, params: &mut Params<'_>) {
    set(params, "setting_server", 0, url);
    set(params, "pnp_config", 0, "off");
    if dect {
        set(params, "dhcp_option_pnp", 0, "off");
    } else {
        // A source that does not stand here is not asked (service wiki, `provisioning_order`); a
        // phone without a TR-069 server has nothing to ask there.
        set(params, "provisioning_order", 0, "tr69:stop");
        set(params, "settings_refresh_timer", 0, seconds.to_string());
    }
}

/// The first settings.
fn first<'a>(phone: &'a Phone<'a>, params: &mut Params<'a>) {
    let settings = &phone.settings;
    let dect = is_dect(phone.model);
    let boot = phone
        .device
        .vendor
        .rules()
        .boot_name(phone.mac, phone.model);
    place(
        [phone.base, &boot].concat(),
        settings.resync_minutes.saturating_mul(60),
        dect,
        params,
    );
    if !dect {
        // Or it may challenge the NOTIFY that makes it fetch (service wiki, `challenge_checksync`).
        set(params, "challenge_checksync", 0, "off");
    }
    let name = language(settings.language.as_str()).unwrap_or("English");
    set(params, "language", 0, name);
    set(params, "web_language", 0, name);
    set(params, "ntp_server", 0, settings.ntp_server.as_str());
    if let Some(password) = &settings.admin_password {
        let password = password.reveal();
        set(params, "http_user", 0, "admin");
        set(params, "http_pass", 0, password);
        if !dect {
            // The same of newer firmware, and of the phone's own menu.
            set(params, "webserver_admin_name", 0, "admin");
            set(params, "webserver_admin_password", 0, password);
            set(params, "admin_mode_password", 0, password);
            set(params, "admin_mode_password_confirm", 0, password);
        }
    }
    if let Some(password) = &settings.user_password {
        let names = if dect {
            ["http_basic_user", "http_basic_pass"]
        } else {
            ["webserver_user_name", "webserver_user_password"]
        };
        set(params, names[0], 0, "user");
        set(params, names[1], 0, password.reveal());
    }
    if let Some(vlan) = &settings.vlan {
        set(params, "vlan_id", 0, vlan.id.get().to_string());
        set(params, "vlan_qos", 0, vlan.priority().to_string());
        if !dect {
            set(params, "vlan_port_tagging", 0, on(vlan.pc_id.is_some()));
            let pc = vlan
                .pc_id
                .map_or_else(String::new, |id| id.get().to_string());
            set(params, "vlan_pc_id", 0, pc);
        }
    }
    if dect {
        // A handset registers with the code of its own account.
        set(params, "auto_dect_register", 0, "on");
    } else {
        desk_only(phone, params);
    }
    for (key, value) in &settings.raw {
        let (name, idx) = raw_parts(key.as_str());
        set(params, name, idx.unwrap_or(0), value.as_str());
    }
}

/// What only a phone with a display and keys of its own has.
fn desk_only<'a>(phone: &'a Phone<'a>, params: &mut Params<'a>) {
    let settings = &phone.settings;
    let zone = settings.zone;
    // Any rule, in seconds: the setting `timezone` knows countries only, and fills these two.
    let offset = i32::from(zone.offset_minutes) * 60;
    set(params, "utc_offset", 0, offset.to_string());
    let summer = zone
        .summer
        .map_or_else(String::new, |(saving, start, end)| {
            let saving = u32::from(saving) * 60;
            format!("{saving} {} {}", by_week(start), by_week(end))
        });
    set(params, "dst", 0, summer);
    set(params, "time_24_format", 0, on(settings.clock_24h));
    set(params, "call_waiting", 0, on(settings.call_waiting));
    let (quick, dialling) = match settings.transfer {
        Transfer::Attended => ("attended", "attended"),
        Transfer::Blind => ("blind", "blind"),
        Transfer::NewCall => ("new_call", "attended"),
    };
    set(params, "quick_transfer", 0, quick);
    set(params, "transfer_dialing_on_transfer", 0, dialling);
    if let Some(is) = settings.lldp {
        set(params, "lldp_enable", 0, on(is));
    }
    if let Some(url) = settings
        .wallpaper
        .as_ref()
        .filter(|_| shows_pictures(phone.model))
    {
        set(params, "custom_bg_image_url", 0, url.as_str());
    }
    if let Some(url) = &settings.firmware_url {
        set(params, "update_policy", 0, "auto_update");
        set(params, "firmware", 0, url.as_str());
    }
    if let Some(host) = &settings.syslog_server {
        set(params, "syslog_server", 0, host.as_str());
    }
    if let Some(is) = settings.web_ui {
        set(
            params,
            "webserver_type",
            0,
            if is { "http_https" } else { "off" },
        );
    }
}

/// Month, week (5 is the last), weekday (7 is Sunday) and time (service wiki, `dst`, format 1).
fn by_week(change: Change) -> String {
    format!(
        "{:02}.{:02}.{:02} {:02}:{:02}:00",
        change.month,
        change.week,
        change.weekday,
        change.minute / 60,
        change.minute % 60
    )
}

/// A registrar as it stands in a SIP address.
fn authority(sip: &Sip, host: &Host) -> String {
    let mut text = uri_host(host);
    if sip.port() != sip.transport.default_port() {
        text.push(':');
        text.push_str(&sip.port().to_string());
    }
    text
}

/// Where requests go to, and by which transport.
fn outbound(sip: &Sip, host: &Host) -> String {
    let (host, port) = sip.outbound_proxy().unwrap_or((host, sip.port()));
    let transport = sip.transport.parameter();
    format!("{}:{port};transport={transport}", uri_host(host))
}

fn codecs(phone: &Phone<'_>) -> String {
    let mut list = String::new();
    for codec in &phone.settings.codecs {
        list.push_str(match codec {
            Codec::G722 => "g722,",
            Codec::Pcma => "pcma,",
            Codec::Pcmu => "pcmu,",
            Codec::G729 => "g729,",
            Codec::Opus => "opus,",
        });
    }
    // Digits as events are a codec of the list.
    if phone.settings.dtmf == Dtmf::Rfc2833 {
        list.push_str("telephone-event");
    } else {
        list.pop();
    }
    list
}

fn dtmf_info(phone: &Phone<'_>) -> &'static str {
    match phone.settings.dtmf {
        Dtmf::Info => "sip_info_only",
        Dtmf::Rfc2833 | Dtmf::Inband => "off",
    }
}

/// The identities of a desk phone: its lines, a further one for each backup server (service wiki,
/// "SIP Failover"), and the rest switched off.
fn identities<'a>(phone: &'a Phone<'a>, params: &mut Params<'a>) {
    let mut free = (1..=IDENTITIES).filter(|n| !phone.lines.iter().any(|l| l.number == *n));
    for line in &phone.lines {
        let sip = &line.pbx.sip;
        let backup = sip
            .backup_host
            .as_ref()
            .and_then(|host| Some((free.next()?, host)));
        let failover = backup.map_or(Cow::Borrowed("none"), |(n, _)| n.to_string().into());
        identity(phone, line, line.number, &sip.host, failover, params);
        set(params, "hide_identity", line.number, "false");
        if let Some((n, host)) = backup {
            identity(phone, line, n, host, Cow::Borrowed("none"), params);
            set(params, "hide_identity", n, "true");
        }
    }
    for n in free {
        set(params, "user_active", n, "off");
        for name in [
            "user_realname",
            "user_idle_text",
            "user_name",
            "user_pname",
            "user_pass",
            "user_host",
            "user_outbound",
            "user_mailbox",
        ] {
            set(params, name, n, "");
        }
        set(params, "user_failover_identity", n, "none");
        set(params, "hide_identity", n, "false");
    }
}

fn identity<'a>(
    phone: &'a Phone<'a>,
    line: &'a PhoneLine<'a>,
    n: u8,
    host: &Host,
    failover: Cow<'a, str>,
    params: &mut Params<'a>,
) {
    let (sip, settings) = (&line.pbx.sip, &phone.settings);
    set(params, "user_active", n, "on");
    account(line, n, params);
    set(params, "user_idle_text", n, line.label);
    set(params, "user_host", n, authority(sip, host));
    set(params, "user_outbound", n, outbound(sip, host));
    set(params, "user_expiry", n, sip.expires_s().to_string());
    let savp = match sip.srtp {
        Srtp::Off => "off",
        Srtp::Optional => "optional",
        Srtp::Required => "mandatory",
    };
    set(params, "user_srtp", n, on(sip.srtp != Srtp::Off));
    set(params, "user_savp", n, savp);
    // Off: authentication tags of 80 bits, which every PBX knows (RFC 4568, 6.2).
    set(params, "user_auth_tag", n, "off");
    set(params, "codec_priority_list", n, codecs(phone));
    set(params, "user_dtmf_info", n, dtmf_info(phone));
    set(params, "user_failover_identity", n, failover);
    if let Some(tone) = settings.ringtone {
        set(params, "user_ringer", n, format!("Ringer{tone}"));
    }
    if let Some(is) = settings.auto_answer {
        set(params, "user_auto_connect", n, on(is));
    }
    if let Some(is) = settings.dnd {
        set(params, "dnd_mode", n, on(is));
    }
    if let Some(rules) = settings.dial_plan.as_ref().and_then(dial_at_once) {
        set(params, "user_dp_str", n, rules);
    }
    forward(phone, n, params);
}

/// What an identity and a handset have in common.
fn account<'a>(line: &'a PhoneLine<'a>, n: u8, params: &mut Params<'a>) {
    set(params, "user_realname", n, line.account.display_name());
    set(params, "user_name", n, line.account.username.as_str());
    set(
        params,
        "user_pname",
        n,
        line.account.auth_username().as_str(),
    );
    set(params, "user_pass", n, line.password.reveal());
    set(params, "user_mailbox", n, mailbox(line));
}

fn mailbox<'a>(line: &'a PhoneLine<'a>) -> &'a str {
    line.account.voicemail.as_ref().map_or("", |v| v.as_str())
}

fn forward<'a>(phone: &'a Phone<'a>, n: u8, params: &mut Params<'a>) {
    let Some(forward) = &phone.settings.forward else {
        return;
    };
    let Forward {
        always,
        busy,
        no_answer,
        ..
    } = forward;
    for (enabled, target, to) in [
        ("fwd_all_enabled", "fwd_all_target", always),
        ("fwd_busy_enabled", "fwd_busy_target", busy),
        ("fwd_time_enabled", "fwd_time_target", no_answer),
    ] {
        set(params, enabled, n, on(to.is_some()));
        set(params, target, n, to.as_ref().map_or("", |to| to.as_str()));
    }
    set(params, "fwd_time_secs", n, forward.ring_s().to_string());
}

/// Numbers that are dialled as soon as they are complete, as a dial plan string (`!regular
/// expression!replacement!d`). One that may go on is never complete, and waits as it does without.
fn dial_at_once(plan: &DialPlan) -> Option<String> {
    let mut rules = String::from("!^(");
    for pattern in plan.as_slice().iter().map(|pattern| pattern.as_str()) {
        if pattern.ends_with('.') {
            continue;
        }
        if rules.len() > 3 {
            rules.push('|');
        }
        for c in pattern.chars() {
            match c {
                'x' => rules.push_str("[0-9]"),
                '*' => rules.push_str("[*]"),
                '+' => rules.push_str("[+]"),
                c => rules.push(c),
            }
        }
    }
    if rules.len() == 3 {
        return None;
    }
    rules.push_str(")$!sip:\\1@\\d!d");
    Some(rules)
}

/// The handsets of a DECT base, and the registrars that they share, up to ten.
fn handsets<'a>(phone: &'a Phone<'a>, params: &mut Params<'a>) {
    let mut servers: Vec<&Sip> = Vec::new();
    for line in &phone.lines {
        if !servers.contains(&&line.pbx.sip) {
            servers.push(&line.pbx.sip);
        }
    }
    for (n, sip) in (1..).zip(&servers) {
        set(params, "srv_sip_server_alias", n, sip.host.as_str());
        set(params, "user_host", n, authority(sip, &sip.host));
        let proxy = sip
            .outbound_proxy()
            .map_or_else(String::new, |(host, port)| {
                format!("{}:{port}", uri_host(host))
            });
        set(params, "user_outbound", n, proxy);
        set(params, "srv_sip_transport", n, sip.transport.parameter());
        set(params, "user_expiry", n, sip.expires_s().to_string());
        let srtp = match sip.srtp {
            Srtp::Off => "disabled",
            Srtp::Optional => "optional",
            Srtp::Required => "mandatory",
        };
        set(params, "user_srtp", n, srtp);
        set(params, "codec_priority_list", n, codecs(phone));
        set(params, "user_dtmf_info", n, dtmf_info(phone));
    }
    for n in 1..=phone.model.lines {
        let Some(line) = phone.lines.iter().find(|line| line.number == n) else {
            set(params, "user_active", n, "off");
            for name in [
                "user_realname",
                "user_name",
                "user_pname",
                "user_pass",
                "user_mailbox",
                "user_mailnumber",
                "subscr_sip_line_name",
            ] {
                set(params, name, n, "");
            }
            continue;
        };
        set(params, "user_active", n, "on");
        account(line, n, params);
        // Newer firmware has a name there, and the number here.
        set(params, "user_mailnumber", n, mailbox(line));
        set(params, "subscr_sip_line_name", n, line.label);
        set(params, "subscr_sip_hs_idx", n, n.to_string());
        set(params, "subscr_dect_ac_code", n, format!("{n:04}"));
        let server = (1_u8..)
            .zip(&servers)
            .find(|(_, sip)| **sip == &line.pbx.sip)
            .map_or(1, |(server, _)| server);
        set(
            params,
            "subscr_sip_ua_data_server_id",
            n,
            server.to_string(),
        );
        set(params, "call_waiting", n, on(phone.settings.call_waiting));
        forward(phone, n, params);
    }
}

/// Every key of the phone, then those of its modules; the numbers go on (`<functionKeys>` tag).
fn keys<'a>(phone: &'a Phone<'a>) -> Vec<Key<'a>> {
    let model = phone.model;
    let mut list = Vec::new();
    let places = (1..=model.keys).map(|key| (None, key)).chain(
        (1..=phone.modules_in_use())
            .flat_map(|module| (1..=model.module_keys).map(move |key| (Some(module), key))),
    );
    for (idx, (module, n)) in (0..).zip(places) {
        let line = phone
            .lines
            .iter()
            .find(|line| u16::from(line.number) == n)
            .filter(|_| module.is_none() && phone.shows_lines_by_itself());
        list.push(match (phone.button(module, n), line) {
            (Some(button), _) => Key {
                idx,
                line: button.line.unwrap_or(1),
                label: phone.button_label(button),
                action: action(phone, button),
            },
            // A phone that nobody gave keys to shows its lines.
            (None, Some(line)) => Key {
                idx,
                line: line.number,
                label: line.label,
                action: "line".to_owned(),
            },
            (None, None) => Key {
                idx,
                line: 0,
                label: "",
                action: "none".to_owned(),
            },
        });
    }
    list
}

/// What a key does (service wiki, "Function Key Types"): a type with its argument, or one of the
/// events of the phone's own keys where it has none.
fn action(phone: &Phone<'_>, button: &Button) -> String {
    let (with, without) = match button.function {
        Function::None | Function::Pickup => ("none", "none"),
        Function::Line => ("line", "line"),
        Function::Blf => ("blf ", "none"),
        Function::SpeedDial => ("speed ", "none"),
        Function::Park => ("orbit ", "none"),
        Function::Intercom => ("icom ", "none"),
        Function::Dtmf => ("dtmf ", "none"),
        Function::Url => ("url ", "none"),
        Function::Transfer => ("transfer ", "keyevent F_TRANSFER"),
        Function::Conference => ("conference ", "keyevent F_CONFERENCE"),
        Function::Forward => ("redirect ", "keyevent F_REDIRECT"),
        // Without a number of its own it calls the mailbox of its identity.
        Function::Voicemail => ("speed ", "keyevent F_RETRIEVE"),
        Function::Dnd => ("keyevent F_DND", "keyevent F_DND"),
        Function::Redial => ("keyevent F_REDIAL", "keyevent F_REDIAL"),
        Function::HotDesk => ("keyevent F_LOGON_USER", "keyevent F_LOGON_USER"),
    };
    let own = button.value.as_ref().map_or("", |value| value.as_str());
    let line = button.line.unwrap_or(1);
    let boxed = phone
        .lines
        .iter()
        .find(|l| l.number == line)
        .map_or("", mailbox);
    let event = own.is_empty() || (button.function == Function::Voicemail && own == boxed);
    if event {
        without.to_owned()
    } else if with.ends_with(' ') {
        [with, own].concat()
    } else {
        with.to_owned()
    }
}

/// The name of a language (its own, as the language files of the firmware have it).
fn language(tag: &str) -> Option<&'static str> {
    Some(match tag.split('-').next()? {
        "en" => "English",
        "cs" => "Čeština",
        "da" => "Dansk",
        "de" => "Deutsch",
        "es" => "Español",
        "fi" => "Suomi",
        "fr" => "Français",
        "hu" => "Magyar",
        "it" => "Italiano",
        "nl" => "Nederlands",
        "no" => "Norsk",
        "pl" => "Polski",
        "pt" => "Português",
        "ru" => "Русский",
        "sl" => "Slovenščina",
        "sv" => "Svenska",
        "tr" => "Türkçe",
        _ => return None,
    })
}
