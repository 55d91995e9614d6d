//! Htek: `cfg{code}.xml`, then `cfg{mac}`, a binary, then `cfg{mac}.xml`; some firmware stops at the
//! first that it gets.
//!
//! Sources: Htek's knowledge base ("UC900 Series IP Phones Provisioning": files and their order), the
//! vendor's configuration files as public provisioning projects keep them (numbers and names of
//! parameters, from `FusionPBX`, fspbx and wazo; fspbx for the phones that Sangoma sells too).

mod models;

use askama::Template;

use super::grandstream::{Grandstream, is_number};
use super::{
    Asked, Asker, CertificateMac, Document, Facts, Model, Objection, Redirect, Vendor, write,
};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::device::{Button, Function};
use crate::record::pbx::{Srtp, Transport};
use crate::record::settings::{Codec, DialPlan, Dtmf, Forward, Setting};
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::step6_config_files::{PhoneLine, uri_host};
use crate::zone::Rule;

/// The vendor.
pub struct Htek;

const XML: &str = "application/xml; charset=utf-8";

/// The shortest poll, in minutes.
const SHORTEST_POLL: u32 = 60;

/// A `hl_provision` document of some of the parts.
#[derive(Template)]
#[template(path = "htek/config.xml")]
struct Config<'a> {
    model: &'a str,
    mac: Mac,
    user_type: &'a str,
    /// By the number of a parameter.
    params: List,
    raw: Vec<(&'a str, &'a str)>,
}

type List = Vec<(u16, String)>;

impl Vendor for Htek {
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

    fn lacks(&self, _: &Model) -> &'static [Setting] {
        // There are parameters for the first three, but nobody has published their values.
        &[
            Setting::Language,
            Setting::Transfer,
            Setting::Wallpaper,
            Setting::Dnd,
        ]
    }

    fn functions(&self, model: &Model) -> &'static [Function] {
        if model.keys == 0 { &[] } else { &Function::ALL }
    }

    fn boot_name(&self, mac: Mac, _: &Model) -> String {
        format!("cfg{mac}.xml")
    }

    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked> {
        let name = name.to_ascii_lowercase();
        let mac = asker.mac;
        if is_own(&name, mac, asker.model) {
            // A phone that stops at the file of its model has everything with it.
            Some(Asked::Part(Part::Merged))
        } else if name == format!("cfg{mac}")
            || name == format!("{mac}.cfg")
            || name == "phonebook.xml"
            || matches!(name.rsplit_once('.'), Some((_, "bin" | "rom")))
        {
            Some(Asked::Optional)
        } else {
            None
        }
    }

    fn content_type(&self, _: Part) -> &'static str {
        XML
    }

    fn parts(&self, _: &Model) -> &'static [Part] {
        &[Part::Boot, Part::Acc, Part::Btn, Part::Merged]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        let mut params = List::new();
        let merged = part == Part::Merged;
        let first = merged || part == Part::Boot;
        if first {
            boot(&mut params, phone);
        }
        if merged || part == Part::Acc {
            accounts(&mut params, phone);
        }
        if merged || part == Part::Btn {
            keys(&mut params, phone);
        }
        let raw = phone.settings.raw.iter();
        write(&Config {
            model: phone.model.name,
            mac: phone.mac,
            user_type: phone.device.user_type.name(),
            params,
            raw: raw
                .filter(|_| first)
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect(),
        })
    }

    fn objections(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let profiles = profiles(phone);
        phone
            .lines
            .iter()
            .filter(|line| profile_of(&profiles, line).is_none())
            .map(|line| {
                let detail = "Htek phones have four SIP profiles: a line after the fourth must be at \
                              the PBX of one of the first four, or one of those must be free";
                Objection::new(format!("/lines/{}/account", line.index), detail)
            })
            .collect()
    }

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let zone = phone.settings.zone;
        let hour = zone.summer.is_none_or(|(saving, ..)| saving == 60);
        if zone_code(zone.offset_minutes).0 && hour {
            return Vec::new();
        }
        let detail = "Htek phones have no such time zone: the nearest is shown";
        vec![Objection::new("/settings/timezone", detail)]
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        if key.starts_with('P') && is_number(key) {
            Ok(())
        } else {
            Err("is no parameter of Htek phones: P and a number")
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        Grandstream.sets(text, key)
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        if !is_own(&name.to_ascii_lowercase(), to.mac, to.model) {
            return Ok(None);
        }
        let mut params = List::new();
        server(&mut params, to.url, SHORTEST_POLL);
        let text = write(&Config {
            model: to.model.name,
            mac: to.mac,
            user_type: "",
            params,
            raw: Vec::new(),
        })?;
        Ok(Some(Document::text(XML, text)))
    }

    fn common(&self, _: &str, _: &str) -> Result<Option<Document>, Fault> {
        // A phone that gets the file of its model may never ask for its own.
        Ok(None)
    }
}

/// `cfg{mac}.xml`, or the file of its model.
fn is_own(name: &str, mac: Mac, model: &Model) -> bool {
    if name == format!("cfg{mac}.xml") {
        return true;
    }
    let code = name
        .strip_prefix("cfg")
        .and_then(|rest| rest.strip_suffix(".xml"));
    code.is_some_and(|code| {
        let any = model.code.is_empty();
        code.len() == 4 && code.bytes().all(|b| b.is_ascii_digit()) && (any || code == model.code)
    })
}

fn set(list: &mut List, number: u16, value: &str) {
    list.push((number, value.to_owned()));
}

fn flag(list: &mut List, number: u16, on: bool) {
    set(list, number, if on { "1" } else { "0" });
}

/// Where to provision from, and how often; no DHCP option and no question to the user comes before it.
fn server(list: &mut List, url: &str, minutes: u32) {
    let https = url.get(..6) == Some("https:");
    set(list, 212, if https { "3" } else { "1" });
    set(list, 237, url);
    flag(list, 145, false);
    flag(list, 194, true);
    set(list, 193, &minutes.max(SHORTEST_POLL).to_string());
    flag(list, 20_933, false);
}

fn boot(list: &mut List, phone: &Phone<'_>) {
    let settings = &phone.settings;
    server(list, phone.base, settings.resync_minutes);
    set(list, 30, settings.ntp_server.as_str());
    flag(list, 144, false);
    clock(list, settings.zone);
    // 1 is the clock of twelve hours.
    flag(list, 8_624, !settings.clock_24h);
    flag(list, 8_849, settings.call_waiting);
    for (number, password) in [
        (2, &settings.admin_password),
        (196, &settings.user_password),
    ] {
        if let Some(password) = password {
            set(list, number, password.reveal());
        }
    }
    if let Some(vlan) = &settings.vlan {
        flag(list, 24_053, true);
        set(list, 51, &vlan.id.get().to_string());
        set(list, 87, &vlan.priority().to_string());
        flag(list, 24_054, vlan.pc_id.is_some());
        set(list, 229, &vlan.pc_id.map_or(0, |id| id.get()).to_string());
    }
    if let Some(on) = settings.lldp {
        flag(list, 5_438, on);
    }
    if let Some(url) = &settings.firmware_url {
        // The phone knows its file's name itself and wants the directory.
        let url = url.as_str();
        let is_file = url.rsplit_once('/').filter(|(_, file)| file.contains('.'));
        set(list, 192, is_file.map_or(url, |(directory, _)| directory));
    }
    if let Some(host) = &settings.syslog_server {
        set(list, 207, host.as_str());
        set(list, 208, "2");
    }
    if let Some(on) = settings.web_ui {
        flag(list, 190, on);
    }
    if let Some(forward) = &settings.forward {
        let Forward {
            always,
            busy,
            no_answer,
            ..
        } = forward;
        for (number, target) in [(53_100, always), (53_110, busy), (53_120, no_answer)] {
            flag(list, number, target.is_some());
            let target = target.as_ref().map_or("", |target| target.as_str());
            set(list, number + 1, target);
        }
        set(list, 53_124, &forward.ring_s().to_string());
    }
}

/// Minutes east of UTC, and the code of a zone that has them (`Preference.TimeZone`, as wazo writes
/// it); its summer time is said beside it.
static ZONES: [(i16, u8); 32] = [
    (-660, 105),
    (-600, 2),
    (-540, 3),
    (-480, 6),
    (-420, 10),
    (-360, 14),
    (-300, 18),
    (-270, 19),
    (-240, 20),
    (-210, 26),
    (-180, 30),
    (-120, 31),
    (-60, 32),
    (0, 33),
    (60, 49),
    (120, 57),
    (180, 73),
    (210, 74),
    (240, 77),
    (300, 83),
    (330, 84),
    (360, 85),
    (420, 88),
    (480, 89),
    (540, 93),
    (570, 94),
    (600, 96),
    (630, 100),
    (660, 101),
    (720, 102),
    (765, 103),
    (780, 104),
];

/// Whether there is a zone with that offset, and the code of the nearest.
fn zone_code(minutes: i16) -> (bool, u8) {
    let near = ZONES
        .iter()
        .min_by_key(|(offset, _)| offset.abs_diff(minutes));
    near.map_or((false, 33), |(offset, code)| (*offset == minutes, *code))
}

fn clock(list: &mut List, zone: Rule) {
    set(list, 64, &zone_code(zone.offset_minutes).1.to_string());
    flag(list, 143, false);
    // 2 would be what the phone itself thinks of the zone.
    flag(list, 75, zone.summer.is_some());
    let Some((_, start, end)) = zone.summer else {
        return;
    };
    // By weeks: month, week (5 is the last), weekday from Sunday, hour.
    set(list, 23_117, "1");
    for (first, change) in [(23_118, start), (23_122, end)] {
        let parts = [
            change.month.into(),
            change.week.into(),
            u16::from(change.weekday % 7),
            change.minute / 60,
        ];
        for (number, part) in (first..).zip(parts) {
            set(list, number, &part.to_string());
        }
    }
}

/// The numbers of a profile: server, second server, outbound proxy, transport, registration, expiry,
/// first codec, DTMF, SRTP, ring tone, message waiting, auto-answer. In firmware before there were
/// profiles they are those of the account with the same number.
static PROFILES: [[u16; 12]; 4] = [
    [47, 967, 48, 130, 31, 32, 57, 20_166, 183, 104, 99, 90],
    [
        747, 987, 748, 830, 731, 732, 757, 20_167, 443, 423, 709, 425,
    ],
    [
        502, 988, 503, 930, 510, 512, 551, 20_168, 543, 523, 515, 525,
    ],
    [
        602, 989, 603, 1_030, 610, 612, 651, 20_169, 643, 623, 615, 625,
    ],
];

/// Whose server each profile is: its own line's, or that of a line after the fourth whose PBX none has.
fn profiles<'a>(phone: &'a Phone<'a>) -> [Option<&'a PhoneLine<'a>>; 4] {
    let mut profiles = [None; 4];
    for (n, profile) in (1..).zip(&mut profiles) {
        *profile = phone.lines.iter().find(|line| line.number == n);
    }
    for line in phone.lines.iter().filter(|line| line.number > 4) {
        if profile_of(&profiles, line).is_none()
            && let Some(free) = profiles.iter_mut().find(|profile| profile.is_none())
        {
            *free = Some(line);
        }
    }
    profiles
}

/// The profile of a line, from 0.
fn profile_of(profiles: &[Option<&PhoneLine<'_>>; 4], line: &PhoneLine<'_>) -> Option<usize> {
    if line.number <= 4 {
        return Some(usize::from(line.number).saturating_sub(1));
    }
    profiles
        .iter()
        .position(|profile| profile.is_some_and(|own| own.account.pbx == line.account.pbx))
}

/// The numbers of an account: active, profile, label, user, authentication id, password, display name,
/// voicemail, dial plan.
fn account_numbers(n: u8) -> [u16; 9] {
    match n {
        1 => [271, 24_082, 20_000, 35, 36, 34, 3, 33, 4_200],
        2 => [401, 24_083, 20_001, 735, 736, 734, 703, 426, 4_201],
        3 => [501, 24_084, 20_002, 504, 505, 506, 507, 526, 4_202],
        4 => [601, 24_085, 20_003, 604, 605, 606, 607, 626, 4_203],
        5 => [
            20_360, 24_086, 20_378, 1_704, 1_705, 1_706, 1_707, 1_726, 4_204,
        ],
        6 => [
            20_361, 24_087, 20_379, 1_804, 1_805, 1_806, 1_807, 1_826, 4_205,
        ],
        _ => [
            24_083, 24_081, 24_093, 24_103, 24_113, 24_123, 24_133, 24_163, 24_173,
        ]
        .map(|first: u16| first + u16::from(n)),
    }
}

fn accounts(list: &mut List, phone: &Phone<'_>) {
    let profiles = profiles(phone);
    for n in 1..=phone.model.lines {
        let line = phone.lines.iter().find(|line| line.number == n);
        let [
            active,
            profile,
            label,
            user,
            auth_user,
            password,
            name,
            voicemail,
            plan,
        ] = account_numbers(n);
        flag(list, active, line.is_some());
        if let Some(at) = line.and_then(|line| profile_of(&profiles, line)) {
            set(list, profile, &at.to_string());
        }
        let texts = line.map_or([""; 6], |line| {
            let account = line.account;
            [
                line.label,
                account.username.as_str(),
                account.auth_username().as_str(),
                line.password.reveal(),
                account.display_name(),
                account.voicemail.as_ref().map_or("", |v| v.as_str()),
            ]
        });
        let numbers = [label, user, auth_user, password, name, voicemail];
        for (number, text) in numbers.into_iter().zip(texts) {
            set(list, number, text);
        }
        if let Some(patterns) = phone.settings.dial_plan.as_ref().filter(|_| line.is_some()) {
            set(list, plan, &dial_plan(patterns));
        }
    }
    let most = usize::from(phone.model.lines);
    for (numbers, line) in PROFILES.iter().zip(profiles).take(most) {
        profile(list, phone, numbers, line);
    }
}

fn profile(
    list: &mut List,
    phone: &Phone<'_>,
    &[
        server,
        second,
        proxy,
        transport,
        registration,
        expiry,
        codec,
        dtmf,
        srtp,
        tone,
        messages,
        answer,
    ]: &[u16; 12],
    line: Option<&PhoneLine<'_>>,
) {
    let Some(line) = line else {
        for number in [server, second, proxy] {
            set(list, number, "");
        }
        return;
    };
    let (sip, settings) = (&line.pbx.sip, &phone.settings);
    let place = |host, port| format!("{}:{port}", uri_host(host));
    set(list, server, &place(&sip.host, sip.port()));
    let backup = sip.backup_host.as_ref();
    let backup = backup.map_or_else(String::new, |host| place(host, sip.port()));
    set(list, second, &backup);
    let outbound = sip.outbound_proxy();
    let outbound = outbound.map_or_else(String::new, |(host, port)| place(host, port));
    set(list, proxy, &outbound);
    let value = match sip.transport {
        Transport::Udp => "0",
        Transport::Tcp => "1",
        Transport::Tls => "2",
    };
    set(list, transport, value);
    flag(list, registration, true);
    // Counted in minutes; a record has whole ones.
    set(list, expiry, &sip.expires_s().div_ceil(60).to_string());
    // Each of the six places must be given; the last one again and again switches the others off.
    let mut wanted = settings.codecs.iter();
    let mut value = "0";
    for number in (codec..).take(6) {
        if let Some(next) = wanted.next() {
            value = match next {
                Codec::G722 => "9",
                Codec::Pcma => "8",
                Codec::Pcmu => "0",
                Codec::G729 => "18",
                Codec::Opus => "120",
            };
        }
        set(list, number, value);
    }
    let value = match settings.dtmf {
        Dtmf::Rfc2833 => "0",
        Dtmf::Inband => "1",
        Dtmf::Info => "2",
    };
    set(list, dtmf, value);
    let value = match sip.srtp {
        Srtp::Off => "0",
        Srtp::Optional => "1",
        Srtp::Required => "2",
    };
    set(list, srtp, value);
    flag(list, messages, true);
    if let Some(ring) = settings.ringtone {
        set(list, tone, &ring.to_string());
    }
    if let Some(on) = settings.auto_answer {
        flag(list, answer, on);
    }
}

/// The patterns, and behind them what the vendor's configuration files let through: `{[x*]+}`.
fn dial_plan(plan: &DialPlan) -> String {
    let mut text = "{".to_owned();
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
                text.push('|');
                text.push_str(start);
                text.push_str("x+");
            }
            None => text.push_str(&pattern),
        }
        text.push('|');
    }
    text.push_str("\\+x+|[x*]+}");
    text
}

fn keys(list: &mut List, phone: &Phone<'_>) {
    for n in 1..=phone.model.keys {
        let numbers = if n <= 4 {
            [41_199, 41_299, 41_399, 41_499].map(|before: u16| before + n)
        } else {
            five(20_200 + 5 * (n - 5))
        };
        let shown = phone
            .lines
            .iter()
            .find(|line| phone.shows_lines_by_itself() && u16::from(line.number) == n);
        key(list, phone, numbers, phone.button(None, n), shown);
    }
    for module in 1..=phone.modules_in_use() {
        for n in 1..=phone.model.module_keys {
            let numbers = five(60_000 + 1_000 * u16::from(module - 1) + 5 * (n - 1));
            key(list, phone, numbers, phone.button(Some(module), n), None);
        }
    }
}

/// Type, value, label and account; the fifth is a pickup code, which is left to the phone.
fn five(first: u16) -> [u16; 4] {
    [first, first + 1, first + 2, first + 3]
}

/// Writes one key; a blank one too, so that a removed key goes from the phone.
fn key(
    list: &mut List,
    phone: &Phone<'_>,
    [kind, what, says, whose]: [u16; 4],
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
        // A phone that nobody gave keys to shows its lines.
        (None, Some(line)) => (Function::Line, line.number, "", line.label),
        (None, None) => (Function::None, 1, "", ""),
    };
    if function == Function::Voicemail && value.is_empty() {
        // The phone dials the line's own voicemail number if the key has none.
        let of_line = phone.lines.iter().find(|l| l.number == line);
        let number = of_line.and_then(|line| line.account.voicemail.as_ref());
        value = number.map_or("", |number| number.as_str());
    }
    set(list, kind, &code(function).to_string());
    set(list, what, value);
    set(list, says, label);
    // Counted from 0.
    set(list, whose, &line.saturating_sub(1).to_string());
}

/// The number of a key's type (as `FusionPBX` lists them).
fn code(function: Function) -> u8 {
    match function {
        Function::None => 0,
        Function::Line => 1,
        Function::SpeedDial => 2,
        Function::Blf => 3,
        Function::Voicemail => 5,
        Function::Pickup => 6,
        Function::Park => 8,
        Function::Intercom => 9,
        Function::Dtmf => 10,
        Function::Conference => 17,
        Function::Forward => 18,
        Function::Transfer => 19,
        Function::Dnd => 21,
        Function::Redial => 22,
        Function::HotDesk => 32,
        Function::Url => 35,
    }
}
