//! Htek, as its knowledge base and the configuration files of its phones describe it.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

use super::clock::{SeenChange, SeenClock};
use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenKey, SeenLine, Settings};
use crate::readers::entity;

pub static KIT: Kit = Kit {
    vendor: "htek",
    mac: "001fc1000001",
    model: "UC926",
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
    key_name: ToOwned::to_owned,
};

/// Reads a document: `hl_provision`, one `config`, each number once.
fn read(text: &str) -> Result<Settings, String> {
    if !text.ends_with("</hl_provision>\n") {
        return Err("the document does not end in a whole line".to_owned());
    }
    if let Some(wrong) = text.chars().find(|c| c.is_control() && *c != '\n') {
        return Err(format!("{wrong:?} in it"));
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut settings = Settings::new();
    let mut open: Vec<String> = Vec::new();
    let mut configs = 0;
    let add = |open: &[String], piece: &str, settings: &mut Settings| match open {
        [_, _, key] => {
            settings.get_mut(key).unwrap().push_str(piece);
            Ok(())
        }
        _ if piece.trim().is_empty() => Ok(()),
        _ => Err(format!("{piece:?} stands in {open:?}")),
    };
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Eof => break,
            Event::Decl(_) | Event::Comment(_) => {}
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                let attributes: Vec<(String, String)> = start
                    .attributes()
                    .map(|attribute| {
                        let attribute = attribute.map_err(|error| error.to_string())?;
                        let value = attribute.value.into_owned();
                        Ok((attribute.key.as_ref().to_owned(), value))
                    })
                    .collect::<Result<_, String>>()?;
                let first = attributes == [("version".to_owned(), "1".to_owned())];
                let number = name.strip_prefix('P').unwrap_or_default();
                let number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
                match open.len() {
                    0 if name == "hl_provision" && first => {}
                    1 if name == "config" && first => configs += 1,
                    2 if number && attributes.is_empty() => {
                        if settings.insert(name.clone(), String::new()).is_some() {
                            return Err(format!("{name} is set twice"));
                        }
                    }
                    _ => return Err(format!("{name} {attributes:?} in {open:?}")),
                }
                open.push(name);
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Text(piece) => add(&open, &piece.xml10_content(), &mut settings)?,
            Event::GeneralRef(reference) => {
                let piece = entity(&reference.xml10_content())?;
                add(&open, piece, &mut settings)?;
            }
            other => return Err(format!("{other:?}")),
        }
    }
    if open.is_empty() && configs == 1 {
        Ok(settings)
    } else {
        Err("no whole document".to_owned())
    }
}

/// `Account{n}` of the vendor's file: Active, Profile, Label, `SipUserId`, `AuthenticateID`,
/// `AuthenticatePassword`, `DispalyName`, `VoiceMailId`.
fn account(n: u64) -> [u64; 8] {
    match n {
        1 => [271, 24082, 20000, 35, 36, 34, 3, 33],
        2 => [401, 24083, 20001, 735, 736, 734, 703, 426],
        3 | 4 => {
            let base = 200 + 100 * n;
            [
                base + 1,
                24081 + n,
                19999 + n,
                base + 4,
                base + 5,
                base + 6,
                base + 7,
                base + 26,
            ]
        }
        5 | 6 => {
            let base = 1200 + 100 * n;
            [
                20355 + n,
                24081 + n,
                20373 + n,
                base + 4,
                base + 5,
                base + 6,
                base + 7,
                base + 26,
            ]
        }
        _ => {
            let up = n - 7;
            [24090, 24088, 24100, 24110, 24120, 24130, 24140, 24170].map(|first| first + up)
        }
    }
}

/// `Profile{n}`: Sipserver, `FailoverSipserver`, `OutboundProxy`, `SipTransport`, `SipRegistration`,
/// `RegisterExpiration`, Choice1, `DtmfMode`, `SRtpMode`.
fn profile(n: u64) -> [u64; 9] {
    match n {
        0 => [47, 967, 48, 130, 31, 32, 57, 20166, 183],
        1 => [747, 987, 748, 830, 731, 732, 757, 20167, 443],
        2 => [502, 988, 503, 930, 510, 512, 551, 20168, 543],
        3 => [602, 989, 603, 1030, 610, 612, 651, 20169, 643],
        other => panic!("profile {other}"),
    }
}

fn see(settings: &Settings, model: &Value) -> Seen {
    let get = |number: u64| {
        settings
            .get(&format!("P{number}"))
            .unwrap_or_else(|| panic!("no P{number}"))
            .clone()
    };
    let most = model["lines"].as_u64().unwrap();
    let mut seen = Seen::default();
    let mut used = Vec::new();
    for n in 1..=most {
        let of = account(n);
        let at = |k: usize| get(of[k]);
        if at(0) != "1" {
            assert_eq!(at(0), "0");
            for number in &of[2..] {
                assert_eq!(get(*number), "", "line {n} is off and keeps P{number}");
            }
            continue;
        }
        let which: u64 = at(1).parse().unwrap();
        used.push(which);
        let server = profile(which);
        let sip = |k: usize| get(server[k]);
        let choice =
            |k: usize, words: [&str; 3]| words[sip(k).parse::<usize>().unwrap()].to_owned();
        assert_eq!(sip(4), "1", "line {n} does not register");
        let (host, port) = place(&sip(0));
        let mut codecs: Vec<String> = Vec::new();
        for number in server[6]..server[6] + 6 {
            let codec = match get(number).as_str() {
                "0" => "pcmu",
                "8" => "pcma",
                "9" => "g722",
                "18" => "g729",
                "120" => "opus",
                other => panic!("{other}"),
            };
            if !codecs.iter().any(|known| known == codec) {
                codecs.push(codec.to_owned());
            }
        }
        let line = SeenLine {
            label: Some(at(2)),
            user: at(3),
            auth_user: at(4),
            credential: Credential::Password(at(5)),
            name: Some(at(6)),
            voicemail: Some(at(7)),
            transport: choice(3, ["udp", "tcp", "tls"]),
            srtp: Some(choice(8, ["off", "optional", "required"])),
            backup: Some(match sip(1).as_str() {
                "" => String::new(),
                second => {
                    let (host, same) = place(second);
                    assert_eq!(same, port);
                    host
                }
            }),
            host,
            port,
            outbound: Some(sip(2)),
            expires_s: sip(5).parse::<u64>().ok().map(|minutes| minutes * 60),
            codecs: Some(codecs),
            dtmf: Some(choice(7, ["rfc2833", "inband", "info"])),
        };
        seen.lines.insert(n, line);
    }
    for free in (0..most.min(4)).filter(|n| !used.contains(n)) {
        assert_eq!(get(profile(free)[0]), "", "profile {free} is free");
    }
    seen.keys = keys(settings, model);
    seen.clock = Some(clock(&get));
    seen
}

/// `host:port`.
fn place(text: &str) -> (String, u64) {
    let (host, port) = text.rsplit_once(':').unwrap();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.parse().unwrap())
}

fn keys(settings: &Settings, model: &Value) -> BTreeMap<(u64, u64), SeenKey> {
    let number = |name: &str| model[name].as_u64().unwrap();
    let on_phone = (1..=number("keys")).map(|n| (0, n));
    let on_modules = (1..=number("modules"))
        .flat_map(|module| (1..=number("module_keys")).map(move |n| (module, n)));
    let mut found = BTreeMap::new();
    for (module, n) in on_phone.chain(on_modules) {
        // LineKey1 to 4, LineKey5 and on, Exp{module}_{page}_{key}.
        let numbers = match (module, n) {
            (0, 1..=4) => [41199 + n, 41299 + n, 41399 + n, 41499 + n],
            (0, _) => [20175, 20176, 20177, 20178].map(|first| first + 5 * n),
            _ => {
                let page = (n - 1) / 20;
                let first = 59000 + 1000 * module + 100 * page + 5 * ((n - 1) % 20);
                [first, first + 1, first + 2, first + 3]
            }
        };
        let Some(kind) = settings.get(&format!("P{}", numbers[0])) else {
            assert!(module > 0, "no P{}", numbers[0]);
            continue;
        };
        let [value, label, account] =
            [1, 2, 3].map(|k: usize| settings[&format!("P{}", numbers[k])].clone());
        let function = match kind.as_str() {
            "0" => {
                assert_eq!(value + &label, "", "a blank key says something");
                continue;
            }
            "1" => "line",
            "2" => "speed_dial",
            "3" => "blf",
            "5" => "voicemail",
            "6" => "pickup",
            "8" => "park",
            "9" => "intercom",
            "10" => "dtmf",
            "17" => "conference",
            "18" => "forward",
            "19" => "transfer",
            "21" => "dnd",
            "22" => "redial",
            "32" => "hot_desk",
            "35" => "url",
            other => panic!("{other}"),
        };
        let key = SeenKey {
            function: function.to_owned(),
            value,
            label: Some(label),
            line: Some(account.parse::<u64>().unwrap() + 1),
        };
        found.insert((module, n), key);
    }
    found
}

fn clock(get: &dyn Fn(u64) -> String) -> SeenClock {
    assert_eq!(get(143), "0");
    // The zones of the vendor's list that the cases are in.
    let offset = match get(64).as_str() {
        "18" => -300,
        "26" => -210,
        "33" => 0,
        "49" => 60,
        "84" => 330,
        "94" => 570,
        other => panic!("zone {other}"),
    };
    let number = |key: u64| get(key).parse::<i8>().unwrap();
    let change = |first: u64| SeenChange {
        month: number(first),
        week: number(first + 1),
        weekday: match number(first + 2) {
            0 => 7,
            day => day,
        },
        minute: i64::from(number(first + 3)) * 60,
    };
    let summer = match get(75).as_str() {
        "0" => None,
        "1" => {
            assert_eq!(get(23117), "1");
            Some((60, change(23118), change(23122)))
        }
        other => panic!("{other}"),
    };
    SeenClock::Rule { offset, summer }
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let name = wire.model["model"].as_str().unwrap().to_owned();
    let agent = format!("Htek {name} 2.0.4.6.41 {}", wire.colons());
    let mac = wire.mac.clone();
    let code = match name.as_str() {
        "UC926" => "0010",
        other => panic!("{other}"),
    };
    let mut server = wire.start.clone();
    let mut settings = Settings::new();
    // It comes again by its poll when it was moved.
    for _ in 0..2 {
        let names = [
            format!("cfg{code}.xml"),
            format!("cfg{mac}"),
            format!("cfg{mac}.xml"),
        ];
        // Some firmware stops at the first file that it gets.
        let text = names
            .iter()
            .find_map(|file| wire.text(&format!("{server}{file}"), &agent))
            .ok_or("no file")?;
        settings.extend(read(&text)?);
        let https = wire.start.starts_with("https:");
        let protocol = if https { "3" } else { "1" };
        assert_eq!(settings["P212"], protocol, "not by the scheme of its URL");
        let place = settings["P237"].clone();
        if place == server {
            return Ok(settings);
        }
        server = place;
    }
    Err("it never settled".to_owned())
}

#[test]
fn the_reader_refuses_what_a_phone_could_misread() {
    let document = |inner: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<hl_provision version=\"1\">{inner}</hl_provision>\n"
        )
    };
    let config = |inner: &str| document(&format!("<config version=\"1\">{inner}</config>"));
    assert_eq!(read(&config("<P3>x &amp; y</P3>")).unwrap()["P3"], "x & y");
    for wrong in [
        config("<P3>x</P3><P3>x</P3>"),
        config("<P>x</P>"),
        config("<P3x>x</P3x>"),
        config("<P3>&nbsp;</P3>"),
        config("x"),
        document("<config version=\"2\"></config>"),
        document(""),
    ] {
        assert!(read(&wrong).is_err(), "{wrong}");
    }
}
