//! Grandstream: `cfg{mac}`, a binary, then `cfg{mac}.xml`, then `cfg{model}.xml` and `cfg.xml`.
//!
//! Sources: Grandstream's SIP Device Provisioning Guide (file names and their order), its
//! configuration templates with the comments in them, which public provisioning projects keep
//! (numbers, names and values of parameters), its administration guides (dial plans), and
//! what those projects write for the binary. A parameter has a number, `P271`, which every firmware
//! knows, and a name, `account.1.enable`, which that of newer models knows too.

mod models;

use std::fmt::Write as _;

use askama::Template;

use super::{
    Asked, Asker, CertificateMac, Document, Facts, Generation, Model, Objection, Redirect, Vendor,
    write,
};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::device::{Button, Function};
use crate::record::pbx::{Srtp, Transport};
use crate::record::settings::{Codec, DialPlan, Dtmf, Setting, Transfer};
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::step6_config_files::{PhoneLine, uri_host};
use crate::zone::{Change, Rule};

/// The vendor.
pub struct Grandstream;

const XML: &str = "application/xml; charset=utf-8";

/// The shortest poll that the firmware takes, in minutes.
const SHORTEST_POLL: u32 = 60;

/// A `gs_provision` document of some of the parts.
#[derive(Template)]
#[template(path = "grandstream/config.xml")]
struct Config<'a> {
    /// Model, MAC and user type; none in a file for everybody. A document with another's MAC in it
    /// is ignored.
    about: Option<(&'a str, Mac, &'a str)>,
    alias: bool,
    params: Vec<(String, String)>,
}

impl Vendor for Grandstream {
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
            resync: "resync",
            reboot: "check-sync;reboot=true",
        }
    }

    fn lacks(&self, model: &Model) -> &'static [Setting] {
        if is_ata(model) {
            &[
                Setting::Language,
                Setting::Clock24h,
                Setting::Transfer,
                Setting::Lldp,
                Setting::Ringtone,
                Setting::Wallpaper,
                Setting::Forward,
                Setting::Dnd,
                Setting::AutoAnswer,
                Setting::WebUi,
            ]
        } else if model.generation == Generation::Former {
            &[
                Setting::Transfer,
                Setting::Wallpaper,
                Setting::Forward,
                Setting::Dnd,
                Setting::WebUi,
            ]
        } else {
            // Its users forward and refuse calls by key or star code; no parameter holds the state.
            &[Setting::Forward, Setting::Dnd]
        }
    }

    fn functions(&self, model: &Model) -> &'static [Function] {
        use Function::{
            Blf, Conference, Dnd, Dtmf, Forward, Intercom, Line, None, Park, Redial, SpeedDial,
            Transfer, Voicemail,
        };
        let name = model.name;
        let is = |series: &str| name.starts_with(series);
        if model.keys == 0 {
            &[]
        } else if model.generation == Generation::Current {
            &[
                Line, Blf, SpeedDial, Transfer, Voicemail, Park, Intercom, Dtmf, Conference, Dnd,
                Forward, Redial, None,
            ]
        } else if is("GXP110") {
            &[
                SpeedDial, Transfer, Voicemail, Intercom, Dtmf, Conference, None,
            ]
        } else if is("GXP2000") {
            &[Blf, SpeedDial, None]
        } else if is("GXV") || is("GXP2200") {
            &[Blf, SpeedDial, Transfer, Park, Intercom, Dtmf, None]
        } else if is("GXP16") && model.keys == 2 {
            &[Line, SpeedDial, Transfer, Voicemail, Intercom, Dtmf, None]
        } else {
            &[
                Line, SpeedDial, Transfer, Blf, Park, Voicemail, Intercom, Dtmf, None,
            ]
        }
    }

    fn boot_name(&self, mac: Mac, _: &Model) -> String {
        format!("cfg{mac}.xml")
    }

    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked> {
        let name = name.to_ascii_lowercase();
        let mac = asker.mac;
        if name == format!("cfg{mac}.xml") {
            Some(Asked::Part(Part::Merged))
        } else if is_common(&name) {
            Some(Asked::Part(Part::Common))
        } else if name == format!("cfg{mac}")
            || name == format!("cfg{mac}.bin")
            || name == format!("dev{mac}.cfg")
            || name == "phonebook.xml"
            || name == "gs_phonebook.xml"
            || name.ends_with("fw.bin")
        {
            // Without its binary it goes on to the XML; the others it can do without.
            Some(Asked::Optional)
        } else {
            None
        }
    }

    fn content_type(&self, _: Part) -> &'static str {
        XML
    }

    fn parts(&self, _: &Model) -> &'static [Part] {
        &[Part::Boot, Part::Acc, Part::Btn, Part::Merged, Part::Common]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        if part == Part::Common {
            return common_text();
        }
        let mut list = List::of(phone.model);
        let merged = part == Part::Merged;
        if merged || part == Part::Boot {
            boot(&mut list, phone);
        }
        if merged || part == Part::Acc {
            for n in 1..=phone.model.lines {
                account(&mut list, phone, n);
            }
        }
        if merged || part == Part::Btn {
            keys(&mut list, phone);
        }
        write(&Config {
            about: Some((phone.model.name, phone.mac, phone.device.user_type.name())),
            alias: list.alias,
            params: list.params,
        })
    }

    fn objections(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let (row, lines) = models::beside_display(phone.model);
        let narrow = phone.model.name.starts_with("GXP16");
        let mut found = Vec::new();
        for (n, button) in phone.device.buttons.iter().enumerate() {
            let on = |last: u16| button.module.is_none() && button.key <= last;
            let fits = match button.function {
                Function::Line => on(lines),
                Function::Blf | Function::Park => !narrow || !on(row),
                _ => true,
            };
            if !fits {
                let detail = "this key of the Grandstream phone cannot do that, others of it can";
                found.push(Objection::new(format!("/buttons/{n}/type"), detail));
            }
        }
        found
    }

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let settings = &phone.settings;
        let tag = settings.language.as_str();
        let mut found = Vec::new();
        if !is_ata(phone.model) && language(tag).is_none() {
            let detail = format!("Grandstream phones have no language {tag}: English is shown");
            found.push(Objection::new("/settings/language", detail));
        }
        if !has_opus(phone.model) && settings.codecs.contains(&Codec::Opus) {
            let detail = "this Grandstream phone has no Opus: it is left out";
            found.push(Objection::new("/settings/codecs", detail));
        }
        for (key, _) in &settings.raw {
            let key = key.as_str();
            if is_number(key) == is_alias(phone.model) {
                let detail =
                    "is not in the words of this model, which has numbers or names: it is left out";
                found.push(Objection::new(
                    format!("/settings/raw/grandstream/{key}"),
                    detail,
                ));
            }
        }
        found
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        let segment = |s: &str| {
            !s.is_empty()
                && s.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if is_number(key) || (key.contains('.') && key.split('.').all(segment)) {
            Ok(())
        } else {
            Err("is no parameter of Grandstream phones: P and a number, or words with dots between")
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        // Values have neither quotes nor angle brackets in them: those are escaped.
        let key = key.to_ascii_lowercase();
        let text = text.to_ascii_lowercase();
        let (before, after) = if is_number(&key) {
            ('<', '>')
        } else {
            ('"', '"')
        };
        text.match_indices(&key).any(|(at, _)| {
            let end = text.get(at + key.len()..);
            text.get(..at).is_some_and(|text| text.ends_with(before))
                && end.is_some_and(|text| text.starts_with(after))
        })
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        let own = name == format!("cfg{}.xml", to.mac);
        let binary = name == format!("cfg{}", to.mac);
        if !own && !binary && !is_common(&name) {
            return Ok(None);
        }
        // The binary has numbers only. It is applied before the XML is asked for, and the XML at the
        // place that it names (provisioning guide): so the phone is at its files at once. A phone
        // that asks for the XML alone comes there at its next poll.
        let mut list = List {
            alias: is_alias(to.model) && !binary,
            params: Vec::new(),
        };
        server(&mut list, to.url, SHORTEST_POLL, false);
        if binary {
            return Ok(Some(Document {
                content_type: "application/octet-stream",
                bytes: binary_file(to.mac, &list.params),
            }));
        }
        let text = write(&Config {
            about: Some((to.model.name, to.mac, "")),
            alias: list.alias,
            params: list.params,
        })?;
        Ok(Some(Document::text(XML, text)))
    }

    fn common(&self, name: &str, _: &str) -> Result<Option<Document>, Fault> {
        // The phone asks for its own files first and needs nothing to be pointed to them.
        if !is_common(&name.to_ascii_lowercase()) {
            return Ok(None);
        }
        Ok(Some(Document::text(XML, common_text()?)))
    }
}

fn common_text() -> Result<String, Fault> {
    write(&Config {
        about: None,
        alias: false,
        params: Vec::new(),
    })
}

/// `cfggrp2614.xml`, whichever model, or `cfg.xml`.
fn is_common(name: &str) -> bool {
    let Some(model) = name
        .strip_prefix("cfg")
        .and_then(|rest| rest.strip_suffix(".xml"))
    else {
        return false;
    };
    let known = |known: &Model| known.name.eq_ignore_ascii_case(model);
    model.is_empty() || models::MODELS.iter().any(known)
}

fn is_alias(model: &Model) -> bool {
    model.generation == Generation::Current
}

fn is_ata(model: &Model) -> bool {
    model.name.starts_with("HT")
}

fn has_opus(model: &Model) -> bool {
    is_alias(model) || is_ata(model) || model.name.starts_with("GXV")
}

/// `P` and a number.
pub(super) fn is_number(key: &str) -> bool {
    key.strip_prefix(['P', 'p'])
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// A file in the binary form (the layout that the vendor's configuration tool makes, as several
/// public provisioning servers write it): four bytes of length in words of 16 bits, two that make
/// the sum of all words zero, the MAC, two line ends, then the parameters as a form (HTML 4,
/// 17.13.4) whose last is `gnkey`, filled with zeros to whole double words.
fn binary_file(mac: Mac, params: &[(String, String)]) -> Vec<u8> {
    let mut form = String::new();
    for (key, value) in params {
        form.push_str(key);
        form.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                form.push(char::from(byte));
            } else {
                let hex = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
                form.push('%');
                form.push(hex(byte >> 4).to_ascii_uppercase());
                form.push(hex(byte & 15).to_ascii_uppercase());
            }
        }
        form.push('&');
    }
    form.push_str("gnkey=0b82");
    let mut body: Vec<u8> = mac.bytes().to_vec();
    body.extend(b"\r\n\r\n");
    body.extend(form.bytes());
    // Length and checksum before it are six bytes, three words more.
    while body.len() % 4 != 2 {
        body.push(0);
    }
    let words = u32::try_from(body.len() / 2 + 3).unwrap_or(0);
    let mut file = words.to_be_bytes().to_vec();
    let sum = file
        .chunks(2)
        .chain(body.chunks(2))
        .filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?)))
        .fold(0_u16, u16::wrapping_add);
    file.extend(0_u16.wrapping_sub(sum).to_be_bytes());
    file.extend(body);
    file
}

/// Parameters, each under its name or its number, as the model has it.
struct List {
    alias: bool,
    params: Vec<(String, String)>,
}

impl List {
    fn of(model: &Model) -> Self {
        Self {
            alias: is_alias(model),
            params: Vec::new(),
        }
    }

    /// A parameter with one value in both forms; number 0 or no name: the form has it not.
    fn set(&mut self, number: u16, alias: &str, value: &str) {
        self.choice(number, alias, value, value);
    }

    fn flag(&mut self, number: u16, alias: &str, on: bool) {
        let (digit, word) = if on { ("1", "Yes") } else { ("0", "No") };
        self.choice(number, alias, digit, word);
    }

    /// A parameter with a number for a value in one form and a word in the other.
    fn choice(&mut self, number: u16, alias: &str, digit: &str, word: &str) {
        if self.alias {
            if !alias.is_empty() {
                self.params.push((alias.to_owned(), word.to_owned()));
            }
        } else if number > 0 {
            self.params.push((format!("P{number}"), digit.to_owned()));
        }
    }
}

/// A URL as the phone wants it: protocol, and host and path without a last slash.
fn split(url: &str) -> (bool, &str) {
    let (scheme, path) = url.split_once("://").unwrap_or(("", url));
    (
        scheme.eq_ignore_ascii_case("https"),
        path.trim_end_matches('/'),
    )
}

/// Where to provision from, and how often; and nowhere else: neither DHCP nor multicast. The poll is
/// for firmware too, which would come from the vendor's own server if nobody named another.
fn server(list: &mut List, url: &str, minutes: u32, firmware: bool) {
    let (https, path) = split(url);
    let (digit, word) = if https { ("2", "HTTPS") } else { ("1", "HTTP") };
    list.choice(212, "provisioning.config.protocol", digit, word);
    list.set(237, "provisioning.config.serverPath", path);
    list.choice(194, "provisioning.auto.mode", "1", "YesUpgradeMin");
    let minutes = minutes.max(SHORTEST_POLL).to_string();
    list.set(193, "provisioning.auto.minute", &minutes);
    let (digit, word) = if firmware {
        ("0", "AlwaysCheck")
    } else {
        ("2", "SkipCheck")
    };
    list.choice(238, "provisioning.firmware.checkCondition", digit, word);
    list.flag(145, "provisioning.override.dhcp.allowCommonOptions", false);
    for option in ["150", "160", "161"] {
        let alias = format!("provisioning.override.dhcp.enableOption{option}");
        list.flag(0, &alias, false);
    }
    // The same for 150 and 160 in one number.
    list.flag(8337, "", false);
    list.flag(1414, "provisioning.3cxAutoProvision", false);
}

fn boot(list: &mut List, phone: &Phone<'_>) {
    let settings = &phone.settings;
    let firmware = settings.firmware_url.is_some();
    server(list, phone.base, settings.resync_minutes, firmware);
    list.set(30, "dateTime.ntp.server.1", settings.ntp_server.as_str());
    list.flag(144, "dateTime.override.dhcp.allowOption42", false);
    list.set(64, "dateTime.timezone", "customize");
    list.set(246, "dateTime.timezone.custom", &posix(settings.zone));
    list.flag(143, "dateTime.override.dhcp.allowOption2", false);
    let ata = is_ata(phone.model);
    if !ata {
        let (digit, word) = if settings.clock_24h {
            ("1", "24Hour")
        } else {
            ("0", "12Hour")
        };
        list.choice(122, "dateTime.format.time", digit, word);
        let language = language(settings.language.as_str()).unwrap_or("en");
        list.set(1362, "language.gui", language);
    }
    // The number says "disable", the name "enable".
    let waiting = settings.call_waiting;
    let (digit, word) = if waiting { ("0", "Yes") } else { ("1", "No") };
    list.choice(91, "call.callWaiting.enable", digit, word);
    for (number, alias, password) in [
        (2, "users.admin.password", &settings.admin_password),
        (196, "users.user.password", &settings.user_password),
    ] {
        if let Some(password) = password {
            list.set(number, alias, password.reveal());
        }
    }
    if let Some(vlan) = &settings.vlan {
        list.flag(0, "network.port.eth.1.vlan.enable", true);
        let id = vlan.id.get().to_string();
        list.set(51, "network.port.eth.1.vlan.tag", &id);
        let priority = vlan.priority().to_string();
        list.set(87, "network.port.eth.1.vlan.priority", &priority);
        if !ata {
            let id = vlan.pc_id.map_or(0, |id| id.get()).to_string();
            list.set(229, "network.port.pc.vlan.tag", &id);
            list.set(230, "network.port.pc.vlan.priority", "0");
        }
    }
    if let Some(url) = &settings.firmware_url {
        // The phone knows its file's name itself and wants the directory.
        let (https, path) = split(url.as_str());
        let is_file = path.rsplit_once('/').filter(|(_, file)| file.contains('.'));
        let (digit, word) = if https { ("2", "HTTPS") } else { ("1", "HTTP") };
        list.choice(6767, "provisioning.firmware.protocol", digit, word);
        let directory = is_file.map_or(path, |(directory, _)| directory);
        list.set(192, "provisioning.firmware.serverPath", directory);
        // No question to the user before it is taken.
        list.flag(8375, "provisioning.firmware.confirm.enable", false);
    }
    if let Some(host) = &settings.syslog_server {
        list.set(207, "maintain.syslog.server", host.as_str());
        list.choice(208, "maintain.syslog.level", "2", "Info");
    }
    if !ata && let Some(on) = settings.lldp {
        list.flag(1684, "network.lldp.enable", on);
    }
    if let Some(on) = settings.web_ui {
        let mode = if on { "HTTPS" } else { "Disabled" };
        list.set(0, "security.webAccessMode", mode);
    }
    if let Some(url) = &settings.wallpaper {
        list.set(0, "lcd.wallpaper.source", "Download");
        list.set(0, "lcd.wallpaper.serverPath", url.as_str());
    }
    for (key, value) in &settings.raw {
        if is_number(key.as_str()) != list.alias {
            let (key, value) = (key.to_string(), value.to_string());
            list.params.push((key, value));
        }
    }
}

/// The zone as a POSIX TZ string (IEEE Std 1003.1, 8.3), with the names of the vendor's own example
/// for "Self Defined Time Zone": `MTZ+6MDT+5,M4.1.0,M11.1.0`. West is plus there.
fn posix(zone: Rule) -> String {
    let offset = |name: &str, minutes_east: i32| {
        let sign = if minutes_east > 0 { '-' } else { '+' };
        let minutes = minutes_east.unsigned_abs();
        let hours = format!("{name}{sign}{}", minutes / 60);
        match minutes % 60 {
            0 => hours,
            rest => format!("{hours}:{rest:02}"),
        }
    };
    let east = i32::from(zone.offset_minutes);
    let mut text = offset("MTZ", east);
    if let Some((saving, start, end)) = zone.summer {
        text.push_str(&offset("MDT", east + i32::from(saving)));
        for Change {
            month,
            week,
            weekday,
            minute,
        } in [start, end]
        {
            let (day, hour, minute) = (weekday % 7, minute / 60, minute % 60);
            let _ = write!(text, ",M{month}.{week}.{day}/{hour:02}:{minute:02}:00");
        }
    }
    text
}

/// The number of an account's parameter: the first account's is irregular, the second's is given,
/// and those of the others follow from it.
fn number(n: u8, first: u16, second: u16) -> u16 {
    match n {
        1 => first,
        2.. if second >= 2_000 => second + 100 * u16::from(n - 2),
        3 | 4 => second + 100 * u16::from(n - 2),
        5.. => second + 1_300 + 100 * u16::from(n - 5),
        _ => second,
    }
}

/// An account of a phone, or a port of an adapter.
struct Account<'a> {
    list: &'a mut List,
    n: u8,
    ata: bool,
}

impl Account<'_> {
    /// A parameter by its number for the first account, for the second, and for the second port of
    /// an adapter.
    fn set(
        &mut self,
        (first, second, port): (u16, u16, u16),
        alias: &str,
        digit: &str,
        word: &str,
    ) {
        let second = if self.ata { port } else { second };
        let alias = format!("account.{}.{alias}", self.n);
        let number = number(self.n, first, second);
        self.list.choice(number, &alias, digit, word);
    }

    fn flag(&mut self, numbers: (u16, u16, u16), alias: &str, on: bool) {
        let (digit, word) = if on { ("1", "Yes") } else { ("0", "No") };
        self.set(numbers, alias, digit, word);
    }
}

fn account(list: &mut List, phone: &Phone<'_>, n: u8) {
    let line = phone.lines.iter().find(|line| line.number == n);
    let ata = is_ata(phone.model);
    let mut account = Account { list, n, ata };
    account.flag((271, 401, 401), "enable", line.is_some());
    let empty = String::new;
    let place = |host, port| format!("{}:{port}", uri_host(host));
    let (mut host, mut backup, mut outbound) = (empty(), empty(), empty());
    let mut texts = [""; 6];
    if let Some(line) = line {
        let sip = &line.pbx.sip;
        host = place(&sip.host, sip.port());
        backup = sip
            .backup_host
            .as_ref()
            .map_or_else(empty, |host| place(host, sip.port()));
        outbound = sip
            .outbound_proxy()
            .map_or_else(empty, |(host, port)| place(host, port));
        texts = [
            line.label,
            line.account.username.as_str(),
            line.account.auth_username().as_str(),
            line.password.reveal(),
            line.account.display_name(),
            line.account.voicemail.as_ref().map_or("", |v| v.as_str()),
        ];
    }
    let [label, user, auth_user, password, name, voicemail] = texts;
    let backups = if ata { (967, 987) } else { (2_312, 2_412) };
    for (first, second, port, alias, value) in [
        (270, 417, 417, "name", label),
        (47, 402, 747, "sip.server.1.address", host.as_str()),
        (
            backups.0,
            backups.1,
            backups.1,
            "sip.server.2.address",
            backup.as_str(),
        ),
        (48, 403, 748, "sip.outboundProxy.1.address", &outbound),
        (35, 404, 735, "sip.userid", user),
        (36, 405, 736, "sip.subscriber.userid", auth_user),
        (34, 406, 734, "sip.subscriber.password", password),
        (3, 407, 703, "sip.subscriber.name", name),
        (33, 426, 426, "sip.voicemail.number", voicemail),
    ] {
        account.set((first, second, port), alias, value, value);
    }
    if let Some(line) = line {
        of_a_line(&mut account, phone, line);
    }
}

/// What only an account in use is told.
fn of_a_line(account: &mut Account<'_>, phone: &Phone<'_>, line: &PhoneLine<'_>) {
    let (sip, settings) = (&line.pbx.sip, &phone.settings);
    let ata = account.ata;
    account.flag((31, 410, 731), "sip.registration", true);
    // Counted in minutes; a record has whole ones.
    let minutes = sip.expires_s().div_ceil(60).to_string();
    account.set((32, 412, 732), "sip.registerExpiration", &minutes, &minutes);
    let (digit, word) = match sip.transport {
        Transport::Udp => ("0", "UDP"),
        Transport::Tcp => ("1", "TCP"),
        Transport::Tls => ("2", "TlsOrTcp"),
    };
    account.set((130, 448, 830), "sip.transport", digit, word);
    // Asterisk has no use for sips: addresses, which are the firmware's default over TLS.
    account.set(
        (2_329, 2_429, 2_429),
        "sip.uriSchemeWhenUsingTls",
        "0",
        "sip",
    );
    let (digit, word) = match sip.srtp {
        Srtp::Off => ("0", "Disabled"),
        Srtp::Optional => ("1", "EnabledButNotForced"),
        Srtp::Required => ("2", "EnabledAndForced"),
    };
    account.set((183, 443, 443), "audio.srtpMode", digit, word);
    let dtmf = settings.dtmf;
    if ata {
        // An order of three kinds: 100 in audio, 101 as events, 102 as INFO.
        let order = match dtmf {
            Dtmf::Inband => ["100", "101", "102"],
            Dtmf::Rfc2833 => ["101", "102", "100"],
            Dtmf::Info => ["102", "101", "100"],
        };
        for (rank, kind) in (0..).zip(order) {
            account.set((850 + rank, 0, 860 + rank), "", kind, kind);
        }
    } else {
        for (k, (kind, alias)) in (0..).zip([
            (Dtmf::Inband, "dtmf.sendInAudio"),
            (Dtmf::Rfc2833, "dtmf.sendInRtp"),
            (Dtmf::Info, "dtmf.sendInSip"),
        ]) {
            account.flag((2_301 + k, 2_401 + k, 0), alias, kind == dtmf);
        }
        account.flag((99, 415, 0), "sip.subscribe.forMwi", true);
    }
    // Each place of the list must be given; the last one again and again switches the others off.
    let mut wanted = settings
        .codecs
        .iter()
        .filter(|codec| **codec != Codec::Opus || has_opus(phone.model));
    let mut codec = ("0", "PCMU");
    let places: &[u16] = if ata {
        &[57, 58, 59, 60, 61, 62]
    } else {
        &[57, 58, 59, 60, 61, 62, 46, 98]
    };
    for (k, first) in (1..).zip(places) {
        if let Some(next) = wanted.next() {
            codec = match next {
                Codec::G722 => ("9", "G.722"),
                Codec::Pcma => ("8", "PCMA"),
                Codec::Pcmu => ("0", "PCMU"),
                Codec::G729 => ("18", "G.729A/B"),
                Codec::Opus => ("123", "OPUS"),
            };
        }
        let alias = format!("codec.choice.{k}");
        account.set((*first, 450 + k, 756 + k), &alias, codec.0, codec.1);
    }
    if let Some(plan) = &settings.dial_plan {
        let plan = dial_plan(plan);
        let first = if ata { 4_200 } else { 290 };
        account.set((first, 459, 4_201), "call.dialplan", &plan, &plan);
    }
    if ata {
        return;
    }
    if let Some(tone) = settings.ringtone {
        // 0 is the system's, 1 to 3 are more, 4 is silent.
        let tone = match tone {
            1..=4 => tone - 1,
            _ if is_alias(phone.model) => 5,
            _ => 3,
        };
        let tone = tone.to_string();
        account.set((104, 423, 0), "ring.ringtone", &tone, &tone);
    }
    if let Some(on) = settings.auto_answer {
        account.flag((90, 425, 0), "call.autoAnswer", on);
    }
}

/// The patterns, and behind them what the firmware's own plan lets through, since it refuses every
/// other number; `*xx*` is missing there (administration guide, "Dial Plan").
fn dial_plan(plan: &DialPlan) -> String {
    let mut text = "{ ".to_owned();
    for pattern in plan.as_slice() {
        let pattern = pattern.as_str().replace('+', "\\+");
        match pattern.strip_suffix('.') {
            // One or more of what stands before, which is any digit: as good as none or more.
            Some(start) if start.ends_with('x') => {
                text.push_str(start);
                text.push('+');
            }
            Some(start) => {
                text.push_str(start);
                text.push_str(" | ");
                text.push_str(start);
                text.push_str("x+");
            }
            None => text.push_str(&pattern),
        }
        text.push_str(" | ");
    }
    text.push_str("x+ | \\+x+ | *x+ | *xx*x+ | *xx* }");
    text
}

fn keys(list: &mut List, phone: &Phone<'_>) {
    if is_alias(phone.model) {
        let (digit, word) = match phone.settings.transfer {
            Transfer::Blind => ("0", "BlindTransfer"),
            Transfer::Attended => ("1", "AttendedTransfer"),
            Transfer::NewCall => ("2", "NewCall"),
        };
        list.choice(0, "call.transfer.modeViaVpk", digit, word);
    }
    let (row, lines) = models::beside_display(phone.model);
    for n in 1..=phone.model.keys {
        let place = if n <= row {
            Place::Row(n)
        } else {
            Place::Key(n - row)
        };
        match phone.button(None, n) {
            Some(button) => key(list, phone, place, Some(button), None),
            // A phone that nobody gave keys to shows its lines.
            None if phone.shows_lines_by_itself() && n <= lines => {
                let line = phone.lines.iter().find(|line| u16::from(line.number) == n);
                key(list, phone, place, None, line);
            }
            None => key(list, phone, place, None, None),
        }
    }
    for module in 1..=phone.modules_in_use() {
        for n in 1..=phone.model.module_keys {
            // The keys of all modules are counted through.
            let at = u16::from(module - 1) * phone.model.module_keys + n;
            let button = phone.button(Some(module), n);
            key(list, phone, Place::Extension(at), button, None);
        }
    }
}

/// Where a key is: beside the display, elsewhere on the phone, or on a module.
#[derive(Clone, Copy)]
enum Place {
    Row(u16),
    Key(u16),
    Extension(u16),
}

/// Writes one key; a blank one too, so that a removed key goes from the phone.
fn key(
    list: &mut List,
    phone: &Phone<'_>,
    place: Place,
    button: Option<&Button>,
    shown: Option<&PhoneLine<'_>>,
) {
    let (function, line, mut value, label) = match (button, shown) {
        (Some(button), _) => (
            button.function,
            button.line.unwrap_or(1),
            button.value.as_ref().map_or("", |value| value.as_str()),
            phone.button_label(button),
        ),
        (None, Some(line)) => (Function::Line, line.number, "", line.label),
        (None, None) => (Function::None, 1, "", ""),
    };
    if function == Function::Voicemail && value.is_empty() {
        // The phone dials the line's own voicemail number if the key has none.
        let of_line = phone.lines.iter().find(|l| l.number == line);
        let number = of_line.and_then(|line| line.account.voicemail.as_ref());
        value = number.map_or("", |number| number.as_str());
    }
    let mode = mode(function);
    // Accounts are counted from 0; the keys beside the display say so, the others have names.
    let account = line.saturating_sub(1).to_string();
    let named = format!("Account{line}");
    let (group, n, named) = match place {
        Place::Row(n) => ("vpk", n, &account),
        Place::Key(n) => ("mpk", n, &named),
        Place::Extension(n) => ("ext", n, &named),
    };
    let wide = phone.model.name.starts_with("GXV");
    let [kind, whose, what, which] = match place {
        // The first six, then 7 and 8 (GXP2124).
        Place::Row(n @ 1..=6) => {
            let at = 2 * (n - 1);
            [1_363 + at, 1_364 + at, 1_465 + at, 1_466 + at]
        }
        Place::Row(n) => four(1_477 + 4 * (n.saturating_sub(7))),
        Place::Key(n) if wide => four(23_000 + 5 * (n - 1)),
        Place::Key(n @ 1..=7) => {
            let at = 3 * (n - 1);
            [322 + n, 301 + at, 302 + at, 303 + at]
        }
        Place::Key(n @ 8..=18) => four(353 + 4 * (n - 8)),
        Place::Key(n) => four(1_440 + 4 * (n.saturating_sub(19))),
        Place::Extension(n) => four(23_000 + 5 * (n - 1)),
    };
    let digit = match (place, function) {
        (Place::Row(_), Function::Line) => 0,
        // The same as elsewhere, counted from 10.
        (Place::Row(_), _) => mode.0 + 10,
        _ => mode.0,
    };
    let alias = |name: &str| {
        if list.alias {
            format!("pks.{group}.{n}.{name}")
        } else {
            String::new()
        }
    };
    let aliases = ["keyMode", "account", "description", "value"].map(alias);
    let digit = digit.to_string();
    let values = [
        (kind, digit.as_str(), mode.1),
        (whose, account.as_str(), named.as_str()),
        (what, label, label),
        (which, value, value),
    ];
    for (alias, (number, digit, word)) in aliases.iter().zip(values) {
        list.choice(number, alias, digit, word);
    }
}

fn four(first: u16) -> [u16; 4] {
    [first, first + 1, first + 2, first + 3]
}

/// What a key does, by number and by name (comments in the vendor's templates). A speed dial without
/// a number is a blank key, for firmware that has no other.
fn mode(function: Function) -> (u16, &'static str) {
    match function {
        Function::SpeedDial => (0, "SpeedDial"),
        Function::Blf => (1, "BLF"),
        Function::Dtmf => (5, "DialDTMF"),
        Function::Voicemail => (6, "VoiceMail"),
        Function::Transfer => (8, "Transfer"),
        Function::Park => (9, "CallPark"),
        Function::Intercom => (10, "Intercom"),
        Function::Conference => (12, "Conference"),
        Function::Forward => (21, "Forward"),
        Function::Dnd => (22, "DND"),
        Function::Redial => (23, "Redial"),
        Function::Line => (31, "Line"),
        Function::None | Function::Pickup | Function::Url | Function::HotDesk => (0, "None"),
    }
}

/// The code of a language in `language.gui` (comments in the vendor's templates).
fn language(tag: &str) -> Option<&'static str> {
    Some(match tag.split('-').next()? {
        "zh" if tag.ends_with("TW") || tag.ends_with("Hant") => "zh-tw",
        "zh" => "zh",
        "cs" => "cz",
        "sv" => "se",
        known => {
            let codes = [
                "en", "ar", "de", "es", "fr", "he", "hr", "hu", "it", "ja", "ko", "lv", "nl", "pl",
                "pt", "ru", "sl", "tr",
            ];
            codes.into_iter().find(|code| *code == known)?
        }
    })
}
