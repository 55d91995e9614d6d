//! Grandstream, as its provisioning guide and the comments in its configuration templates describe
//! it: names in `config version="2"`, numbers in `config version="1"`.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

use super::clock::{SeenChange, SeenClock};
use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenKey, SeenLine, Settings};
use crate::readers::entity;

pub static KIT: Kit = Kit {
    vendor: "grandstream",
    mac: "000b82000001",
    model: "GRP2615",
    documents: &[
        "p/boot.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/cfg{mac}.xml",
        "rps/cfg{mac}.xml",
    ],
    parts: &["p/boot.cfg", "p/ACC.cfg", "p/BTN.cfg"],
    merged: Some("p/cfg{mac}.xml"),
    read: |_, text| read(text),
    see,
    blind: &[],
    cannot_carry: |_, _| false,
    power_on,
    key_name: |key| {
        // A number in a name is an account's, a key's or a server's.
        let number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
        let words = key
            .split('.')
            .map(|word| if number(word) { "X" } else { word });
        words.collect::<Vec<_>>().join(".")
    },
};

/// Reads a document: each parameter once, names or numbers but not both, and the phone's own MAC.
fn read(text: &str) -> Result<Settings, String> {
    if !text.ends_with("</gs_provision>\n") {
        return Err("the document does not end in a whole line".to_owned());
    }
    if let Some(wrong) = text.chars().find(|c| c.is_control() && *c != '\n') {
        return Err(format!("{wrong:?} in it"));
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut settings = Settings::new();
    let mut open: Vec<String> = Vec::new();
    let mut version = String::new();
    let mut key = String::new();
    let mut mac = None::<String>;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Eof => break,
            Event::Decl(_) | Event::Comment(_) => {}
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                let mut attributes = Vec::new();
                for attribute in start.attributes() {
                    let attribute = attribute.map_err(|error| error.to_string())?;
                    let value = attribute.value.into_owned();
                    attributes.push((attribute.key.as_ref().to_owned(), value));
                }
                let only = |wanted: &str| match attributes.as_slice() {
                    [(name, value)] if name == wanted => Ok(value.clone()),
                    _ => Err(format!("{name} has {attributes:?}")),
                };
                let inside: Vec<&str> = open.iter().map(String::as_str).collect();
                match (inside.as_slice(), name.as_str()) {
                    ([], "gs_provision") if only("version")? == "1" => {}
                    (["gs_provision"], "mac") if mac.is_none() => mac = Some(String::new()),
                    (["gs_provision"], "config") if version.is_empty() => {
                        version = only("version")?;
                    }
                    (["gs_provision", "config"], name) => {
                        key = match version.as_str() {
                            "2" if name == "item" => only("name")?,
                            "1" if attributes.is_empty() && is_number(name) => name.to_owned(),
                            _ => return Err(format!("{name} in version {version}")),
                        };
                        if settings.insert(key.clone(), String::new()).is_some() {
                            return Err(format!("{key} is set twice"));
                        }
                    }
                    (inside, name) => return Err(format!("{name} in {inside:?}")),
                }
                open.push(name);
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Text(piece) => {
                add(&open, &mut settings, &key, &mut mac, &piece.xml10_content())?;
            }
            Event::GeneralRef(reference) => {
                let piece = entity(&reference.xml10_content())?;
                add(&open, &mut settings, &key, &mut mac, piece)?;
            }
            other => return Err(format!("{other:?}")),
        }
    }
    if !open.is_empty() || version.is_empty() {
        return Err("no whole document".to_owned());
    }
    if mac.is_some_and(|mac| mac != KIT.mac) {
        return Err("another phone's".to_owned());
    }
    Ok(settings)
}

fn is_number(name: &str) -> bool {
    name.strip_prefix('P')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn add(
    open: &[String],
    settings: &mut Settings,
    key: &str,
    mac: &mut Option<String>,
    piece: &str,
) -> Result<(), String> {
    match (open.len(), open.last().map(String::as_str), mac) {
        (3, _, _) => settings.get_mut(key).unwrap().push_str(piece),
        (2, Some("mac"), Some(mac)) => mac.push_str(piece),
        _ if piece.trim().is_empty() => {}
        _ => return Err(format!("{piece:?} stands in {open:?}")),
    }
    Ok(())
}

/// The numbers of an account's parameters: active, name, server, second server, outbound proxy, user,
/// authentication id, password, display name, voicemail, registration, expiry, transport, SRTP.
fn numbers(model: &str, n: u64) -> [u64; 14] {
    if model.starts_with("HT") {
        return match n {
            1 => [271, 270, 47, 967, 48, 35, 36, 34, 3, 33, 31, 32, 130, 183],
            _ => [
                401, 417, 747, 987, 748, 735, 736, 734, 703, 426, 731, 732, 830, 443,
            ],
        };
    }
    let base = match n {
        1 => {
            return [271, 270, 47, 2312, 48, 35, 36, 34, 3, 33, 31, 32, 130, 183];
        }
        2..=4 => 200 + 100 * n,
        _ => 1200 + 100 * n,
    };
    let second = 2212 + 100 * n;
    [1, 17, 2, 0, 3, 4, 5, 6, 7, 26, 10, 12, 48, 43].map(|offset| match offset {
        0 => second,
        _ => base + offset,
    })
}

fn see(settings: &Settings, model: &Value) -> Seen {
    let former = model["generation"] == "former";
    let name = model["model"].as_str().unwrap();
    let get = |key: String| {
        settings
            .get(&key)
            .unwrap_or_else(|| panic!("no {key}"))
            .clone()
    };
    let mut seen = Seen::default();
    for n in 1..=model["lines"].as_u64().unwrap() {
        let names = [
            "enable",
            "name",
            "sip.server.1.address",
            "sip.server.2.address",
            "sip.outboundProxy.1.address",
            "sip.userid",
            "sip.subscriber.userid",
            "sip.subscriber.password",
            "sip.subscriber.name",
            "sip.voicemail.number",
            "sip.registration",
            "sip.registerExpiration",
            "sip.transport",
            "audio.srtpMode",
        ];
        let key = |at: usize| {
            if former {
                format!("P{}", numbers(name, n)[at])
            } else {
                format!("account.{n}.{}", names[at])
            }
        };
        let yes = if former { "1" } else { "Yes" };
        if get(key(0)) != yes {
            assert_eq!(get(key(0)), if former { "0" } else { "No" });
            for at in 1..10 {
                assert_eq!(get(key(at)), "", "line {n} is off and keeps {}", key(at));
            }
            continue;
        }
        assert_eq!(get(key(10)), yes, "line {n} does not register");
        let choice = |at: usize, words: [&str; 3], meanings: [&str; 3]| {
            let value = get(key(at));
            let found = (0..3).find(|i| {
                if former {
                    i.to_string() == value
                } else {
                    words[*i] == value
                }
            });
            meanings[found.unwrap_or_else(|| panic!("{value}"))].to_owned()
        };
        let (host, port) = place(&get(key(2)));
        let line = SeenLine {
            user: get(key(5)),
            auth_user: get(key(6)),
            credential: Credential::Password(get(key(7))),
            name: Some(get(key(8))),
            label: Some(get(key(1))),
            port,
            transport: choice(12, ["UDP", "TCP", "TlsOrTcp"], ["udp", "tcp", "tls"]),
            srtp: Some(choice(
                13,
                ["Disabled", "EnabledButNotForced", "EnabledAndForced"],
                ["off", "optional", "required"],
            )),
            backup: Some(match get(key(3)).as_str() {
                "" => String::new(),
                second => {
                    let (host, same) = place(second);
                    assert_eq!(same, port);
                    host
                }
            }),
            host,
            outbound: Some(get(key(4))),
            expires_s: get(key(11)).parse::<u64>().ok().map(|minutes| minutes * 60),
            voicemail: Some(get(key(9))),
            codecs: Some(codecs(&get, former, name, n)),
            dtmf: Some(dtmf(&get, former, name, n)),
        };
        seen.lines.insert(n, line);
    }
    seen.keys = keys(settings, model);
    let custom = |number: &str, alias: &str| {
        let key = if former { number } else { alias };
        get(key.to_owned())
    };
    assert_eq!(custom("P64", "dateTime.timezone"), "customize");
    assert_eq!(
        custom("P143", "dateTime.override.dhcp.allowOption2"),
        if former { "0" } else { "No" }
    );
    seen.clock = Some(clock(&custom("P246", "dateTime.timezone.custom")));
    seen
}

/// `host:port`.
fn place(text: &str) -> (String, u64) {
    let (host, port) = text.rsplit_once(':').unwrap();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.parse().unwrap())
}

fn codecs(get: &dyn Fn(String) -> String, former: bool, model: &str, n: u64) -> Vec<String> {
    let keys: Vec<String> = if former {
        let numbers: Vec<u64> = match (model.starts_with("HT"), n) {
            (true, 1) => (57..=62).collect(),
            (true, _) => (757..=762).collect(),
            (_, 1) => (57..=62).chain([46, 98]).collect(),
            (_, 2..=4) => (251 + 100 * n..=258 + 100 * n).collect(),
            _ => (1251 + 100 * n..=1258 + 100 * n).collect(),
        };
        numbers.iter().map(|number| format!("P{number}")).collect()
    } else {
        (1..=8)
            .map(|k| format!("account.{n}.codec.choice.{k}"))
            .collect()
    };
    let mut found: Vec<String> = Vec::new();
    for key in keys {
        let codec = match get(key).as_str() {
            "0" | "PCMU" => "pcmu",
            "8" | "PCMA" => "pcma",
            "9" | "G.722" => "g722",
            "18" | "G.729A/B" => "g729",
            "123" | "OPUS" => "opus",
            other => panic!("{other}"),
        };
        if !found.iter().any(|known| known == codec) {
            found.push(codec.to_owned());
        }
    }
    found
}

fn dtmf(get: &dyn Fn(String) -> String, former: bool, model: &str, n: u64) -> String {
    if model.starts_with("HT") {
        let first = if n == 1 { 850 } else { 860 };
        let mut order: Vec<String> = (0..3).map(|k| get(format!("P{}", first + k))).collect();
        let preferred = match order[0].as_str() {
            "100" => "inband",
            "101" => "rfc2833",
            "102" => "info",
            other => panic!("{other}"),
        };
        order.sort();
        assert_eq!(order, ["100", "101", "102"]);
        return preferred.to_owned();
    }
    let ways = ["dtmf.sendInAudio", "dtmf.sendInRtp", "dtmf.sendInSip"];
    let on: Vec<usize> = (0..3)
        .filter(|k| {
            if former {
                get(format!("P{}", 2201 + 100 * n + *k as u64)) == "1"
            } else {
                get(format!("account.{n}.{}", ways[*k])) == "Yes"
            }
        })
        .collect();
    let [one] = on[..] else { panic!("{on:?}") };
    ["inband", "rfc2833", "info"][one].to_owned()
}

/// How many keys stand beside the display and have parameters of their own; data sheets.
fn row(model: &str) -> u64 {
    match model {
        "GRP2614" | "GRP2616" | "GXP2140" => 16,
        "GRP2634" | "GXP2124" => 8,
        "GRP2636" | "GXP2130" => 12,
        "GXP2160" => 24,
        "GXP2170" => 48,
        "GXP1630" => 3,
        "GXP2100" | "GXP2110" => 4,
        "GXP2120" => 6,
        "GXP2000" | "GXP2200" | "GXP1100" | "GXP1105" => 0,
        name if name.starts_with("GXV") => 0,
        name if name.starts_with("GRP") || name == "GXP2135" => 1000,
        _ => 2,
    }
}

fn keys(settings: &Settings, model: &Value) -> std::collections::BTreeMap<(u64, u64), SeenKey> {
    let former = model["generation"] == "former";
    let name = model["model"].as_str().unwrap();
    let number = |name: &str| model[name].as_u64().unwrap();
    let row = row(name);
    let mut found = std::collections::BTreeMap::new();
    let on_phone = (1..=number("keys")).map(|n| (0, n));
    let on_modules = (1..=number("modules"))
        .flat_map(|module| (1..=number("module_keys")).map(move |n| (module, n)));
    for (module, n) in on_phone.chain(on_modules) {
        let through = (module.max(1) - 1) * number("module_keys") + n;
        let at: [String; 4] = if former {
            let numbers = match (module, n) {
                (0, n) if n <= row && n <= 6 => {
                    [1361 + 2 * n, 1362 + 2 * n, 1463 + 2 * n, 1464 + 2 * n]
                }
                (0, n) if n <= row => [0, 1, 2, 3].map(|k| 1449 + 4 * n + k),
                (0, n) if name.starts_with("GXV") => [0, 1, 2, 3].map(|k| 22995 + 5 * n + k),
                (0, n) => match n - row {
                    n @ 1..=7 => [322 + n, 298 + 3 * n, 299 + 3 * n, 300 + 3 * n],
                    n @ 8..=18 => [0, 1, 2, 3].map(|k| 321 + 4 * n + k),
                    n => [0, 1, 2, 3].map(|k| 1364 + 4 * n + k),
                },
                _ => [0, 1, 2, 3].map(|k| 22995 + 5 * through + k),
            };
            numbers.map(|number| format!("P{number}"))
        } else {
            let group = match (module, n) {
                (0, n) if n <= row => format!("vpk.{n}"),
                (0, n) => format!("mpk.{}", n - row),
                _ => format!("ext.{through}"),
            };
            ["keyMode", "account", "description", "value"].map(|name| format!("pks.{group}.{name}"))
        };
        let Some(mode) = settings.get(&at[0]) else {
            assert!(module > 0, "no {at:?}");
            continue;
        };
        let [account, label, value] = [1, 2, 3].map(|k| settings[&at[k]].clone());
        let in_row = module == 0 && n <= row;
        let function = if former {
            let code: u64 = mode.parse().unwrap();
            match (in_row, code) {
                (true, 0) => "line",
                (true, code) => by_number(code - 10),
                (false, code) => by_number(code),
            }
        } else {
            by_name(mode)
        };
        if function == "none" || function == "speed_dial" && value.is_empty() {
            assert_eq!(label, "", "a blank key says something");
            continue;
        }
        let line: u64 = if former || in_row {
            account.parse::<u64>().unwrap() + 1
        } else {
            account.strip_prefix("Account").unwrap().parse().unwrap()
        };
        let key = SeenKey {
            function: function.to_owned(),
            value,
            label: Some(label),
            line: Some(line),
        };
        found.insert((module, n), key);
    }
    found
}

fn by_number(code: u64) -> &'static str {
    match code {
        0 => "speed_dial",
        1 => "blf",
        5 => "dtmf",
        6 => "voicemail",
        8 => "transfer",
        9 => "park",
        10 => "intercom",
        12 => "conference",
        other => panic!("{other}"),
    }
}

fn by_name(mode: &str) -> &'static str {
    match mode {
        "None" => "none",
        "Line" => "line",
        "BLF" => "blf",
        "SpeedDial" => "speed_dial",
        "DialDTMF" => "dtmf",
        "VoiceMail" => "voicemail",
        "Transfer" => "transfer",
        "CallPark" => "park",
        "Intercom" => "intercom",
        "Conference" => "conference",
        "Forward" => "forward",
        "DND" => "dnd",
        "Redial" => "redial",
        other => panic!("{other}"),
    }
}

/// `MTZ-1MDT-2,M3.5.0/02:00:00,M10.5.0/03:00:00` (IEEE Std 1003.1, 8.3).
fn clock(text: &str) -> SeenClock {
    assert!(text.len() <= 64, "{text}: at most 64 characters");
    let mut parts = text.split(',');
    let names = parts.next().unwrap();
    let mut offsets = names
        .split(|c: char| c.is_ascii_alphabetic())
        .filter(|piece| !piece.is_empty())
        .map(|offset| {
            let sign = if offset.starts_with('-') { 1 } else { -1 };
            let digits = offset.trim_start_matches(['+', '-']);
            let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
            sign * (hours.parse::<i64>().unwrap() * 60 + minutes.parse::<i64>().unwrap())
        });
    let offset = offsets.next().unwrap();
    let mut change = || {
        let (day, time) = parts.next().unwrap().split_once('/').unwrap();
        let numbers: Vec<i8> = day
            .strip_prefix('M')
            .unwrap()
            .split('.')
            .map(|n| n.parse().unwrap())
            .collect();
        let time: Vec<i64> = time.split(':').map(|n| n.parse().unwrap()).collect();
        SeenChange {
            month: numbers[0],
            week: numbers[1],
            weekday: if numbers[2] == 0 { 7 } else { numbers[2] },
            minute: time[0] * 60 + time[1],
        }
    };
    let summer = offsets
        .next()
        .map(|summer| (summer - offset, change(), change()));
    SeenClock::Rule { offset, summer }
}

/// Reads the binary form: its length, its checksum, the MAC, and the parameters.
pub fn binary(bytes: &[u8]) -> Result<Settings, String> {
    let (head, form) = bytes.split_at_checked(16).ok_or("too short")?;
    let words = u32::from_be_bytes(head[..4].try_into().unwrap());
    if !bytes.len().is_multiple_of(4) || bytes.len() != 2 * words as usize {
        return Err(format!("{} bytes and {words} words", bytes.len()));
    }
    let sum = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum::<u32>();
    if sum % 0x1_0000 != 0 {
        return Err(format!("the sum is {sum:x}"));
    }
    let mac: Vec<u8> = (0..6)
        .map(|n| u8::from_str_radix(&KIT.mac[2 * n..2 * n + 2], 16).unwrap())
        .collect();
    if head[6..12] != mac || head[12..] != *b"\r\n\r\n" {
        return Err(format!("the head is {head:?}"));
    }
    let form = String::from_utf8(form.to_vec()).map_err(|error| error.to_string())?;
    let form = form.trim_end_matches('\0');
    if !form.ends_with("&gnkey=0b82") || form.contains('\0') {
        return Err("no key at the end".to_owned());
    }
    let mut settings = Settings::new();
    for pair in form.split('&') {
        let (key, value) = pair.split_once('=').ok_or("no value")?;
        let value = percent_encoding::percent_decode_str(value)
            .decode_utf8()
            .unwrap();
        if settings
            .insert(key.to_owned(), value.into_owned())
            .is_some()
        {
            return Err(format!("{key} is set twice"));
        }
    }
    settings.remove("gnkey");
    Ok(settings)
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let name = wire.model["model"].as_str().unwrap().to_owned();
    let mac = wire.mac.clone();
    let agent = format!("Grandstream Model HW {name} SW 1.0.11.85 DevId {mac}");
    let mut server = wire.start.trim_end_matches('/').to_owned();
    let mut settings = Settings::new();
    // It comes again by its poll when only the XML moved it.
    for _ in 0..2 {
        if let Some(bytes) = wire.ask(&format!("{server}/cfg{mac}"), &agent) {
            let told = binary(&bytes)?;
            server = next(&told).ok_or("the binary names no server")?;
            settings.extend(told);
        }
        let own = format!("cfg{mac}.xml");
        let of_model = format!("cfg{}.xml", name.to_ascii_lowercase());
        let names = [own, of_model, "cfg.xml".to_owned()];
        // It goes to the next name only if it did not get the one before.
        let text = names
            .iter()
            .find_map(|file| wire.text(&format!("{server}/{file}"), &agent))
            .ok_or("no file")?;
        settings.extend(read(&text)?);
        let place = next(&settings).ok_or("no server was set")?;
        if place == server {
            return Ok(settings);
        }
        server = place;
    }
    Err("it never settled".to_owned())
}

/// The server that a phone asks from then on; names win, since they come in the later file.
pub fn next(settings: &Settings) -> Option<String> {
    let path = settings
        .get("provisioning.config.serverPath")
        .or(settings.get("P237"))?;
    let protocol = settings
        .get("provisioning.config.protocol")
        .or(settings.get("P212"))?;
    let scheme = match protocol.as_str() {
        "1" | "HTTP" => "http",
        "2" | "HTTPS" => "https",
        other => panic!("{other}"),
    };
    Some(format!("{scheme}://{path}"))
}

#[test]
fn the_reader_refuses_what_a_phone_could_misread() {
    let document = |inner: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<gs_provision version=\"1\">{inner}</gs_provision>\n"
        )
    };
    let named = |inner: &str| document(&format!("<config version=\"2\">{inner}</config>"));
    let item = "<item name=\"a.b\">x &amp; y</item>";
    assert_eq!(read(&named(item)).unwrap()["a.b"], "x & y");
    for wrong in [
        named(&format!("{item}{item}")),
        named("<P1>x</P1>"),
        named("<item name=\"a\" x=\"y\">x</item>"),
        named("<item name=\"a\">&nbsp;</item>"),
        named("x"),
        document("<config version=\"1\"><item name=\"a\">x</item></config>"),
        document("<mac>000b82000002</mac><config version=\"1\"></config>"),
        document(""),
    ] {
        assert!(read(&wrong).is_err(), "{wrong}");
    }
}
