//! Fanvil, as its phones of firmware 1 and 2 export their configuration.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

use super::clock::{SeenChange, SeenClock};
use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenKey, SeenLine, Settings};
use crate::readers::entity;

pub static KIT: Kit = Kit {
    vendor: "fanvil",
    mac: "0c383e000001",
    model: "X5U",
    documents: &[
        "p/boot.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/{mac}.cfg",
        "rps/{mac}.cfg",
    ],
    parts: &["p/boot.cfg", "p/ACC.cfg", "p/BTN.cfg"],
    merged: Some("p/{mac}.cfg"),
    read: |_, text| Ok(read(text)?.settings),
    see,
    // It shows an account by its display name.
    blind: &["label"],
    cannot_carry: |slot, text| slot != "key_value" && text.trim() != text,
    power_on,
    key_name: |key| {
        // The numbers in brackets.
        let mut pieces = key.split('[');
        let mut name = pieces.next().unwrap().to_owned();
        for piece in pieces {
            let (index, rest) = piece.split_once(']').unwrap();
            let word = index.trim_end_matches(|c: char| c.is_ascii_digit());
            write!(name, "[{word}X]{rest}").unwrap();
        }
        name
    },
};

#[derive(Debug, Default)]
pub struct Config {
    pub version: String,
    pub settings: Settings,
}

/// Reads a configuration: parameters by the elements that they stand in, with their index or their ID
/// in brackets; each once, every section once.
pub fn read(text: &str) -> Result<Config, String> {
    if !text.ends_with(">\n") || text.lines().any(|line| line.is_empty()) {
        return Err("a line is empty, or the last one has no end".to_owned());
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err("a control character".to_owned());
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut config = Config::default();
    let mut open: Vec<(String, bool, String)> = Vec::new();
    let mut sections: Vec<String> = Vec::new();
    let mut declared = false;
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        match event {
            Event::Decl(_) if !declared => declared = true,
            Event::Comment(_) => {}
            Event::Start(start) => {
                let mut name = start.name().as_ref().to_owned();
                for attribute in start.attributes() {
                    let attribute = attribute.map_err(|error| error.to_string())?;
                    let value = attribute.value.into_owned();
                    if attribute.key.as_ref() != "index" || value.parse::<u16>().is_err() {
                        return Err(format!("{name} has {:?}={value}", attribute.key));
                    }
                    write!(name, "[{value}]").unwrap();
                }
                match open.len() {
                    0 if !["sysConf", "VOIP_CONFIG_FILE"].contains(&name.as_str()) => {
                        return Err(format!("{name} is no root"));
                    }
                    1 if sections.contains(&name) => return Err(format!("{name} twice")),
                    1 => sections.push(name.clone()),
                    _ => {}
                }
                if let Some((parent, has_children, _)) = open.last_mut() {
                    if parent.ends_with(')') {
                        return Err(format!("{name} in {parent}"));
                    }
                    *has_children = true;
                }
                open.push((name, false, String::new()));
            }
            Event::Text(piece) => add(&mut open, &piece.xml10_content())?,
            Event::GeneralRef(reference) => {
                let piece = entity(&reference.xml10_content())?;
                add(&mut open, piece)?;
            }
            Event::End(_) => {
                let (name, has_children, value) = open.pop().unwrap();
                if has_children {
                    if !value.trim().is_empty() {
                        return Err(format!("{value:?} beside the elements of {name}"));
                    }
                    continue;
                }
                let root = open.first().map(|(name, ..)| name.as_str());
                match (open.len(), name.as_str()) {
                    (0, _) => return Err("there is nothing in it".to_owned()),
                    (1, "Version") if root == Some("sysConf") => config.version = value,
                    (1, "version") if root == Some("VOIP_CONFIG_FILE") => config.version = value,
                    // A section without parameters.
                    (1, _) => return Err(format!("{name} is empty")),
                    (_, "ID") => {
                        let (parent, ..) = open.last_mut().unwrap();
                        write!(parent, "[{value}]").unwrap();
                    }
                    _ => {
                        let path: Vec<&str> = open
                            .iter()
                            .skip(1)
                            .map(|(name, ..)| name.as_str())
                            .chain([name.as_str()])
                            .collect();
                        let key = path.join("/");
                        if config.settings.insert(key.clone(), value).is_some() {
                            return Err(format!("{key} is set twice"));
                        }
                    }
                }
            }
            Event::Eof => break,
            other => return Err(format!("{other:?}")),
        }
    }
    let version = config.version.strip_prefix("2.").unwrap_or_default();
    if version.len() != 10 || version.parse::<u32>().is_err() {
        return Err(format!("version {:?}", config.version));
    }
    if declared && open.is_empty() {
        Ok(config)
    } else {
        Err("no whole document".to_owned())
    }
}

fn add(open: &mut [(String, bool, String)], piece: &str) -> Result<(), String> {
    match open.last_mut() {
        Some((_, _, value)) => value.push_str(piece),
        None if piece.trim().is_empty() => {}
        None => return Err(format!("{piece:?} outside of everything")),
    }
    Ok(())
}

pub fn see(settings: &Settings, model: &Value) -> Seen {
    let former = settings
        .keys()
        .any(|key| key.starts_with("SIP_CONFIG_MODULE/"));
    let get = |key: &str| settings.get(key).map_or("", String::as_str).to_owned();
    let mut seen = Seen::default();
    for n in 1..=model["lines"].as_u64().unwrap() {
        // Both names of a parameter.
        let of = |current: &str, old: &str| {
            if former {
                let list = "SIP_CONFIG_MODULE/SIP_Line_List/SIP_Line_List_Entry";
                get(&format!("{list}[SIP{n}]/{old}"))
            } else {
                get(&format!("sip/line[{n}]/{current}"))
            }
        };
        let user = of("PhoneNumber", "Phone_Number");
        let auth_user = of("RegisterUser", "Register_User");
        let password = of("RegisterPswd", "Register_Pswd");
        let host = of("RegisterAddr", "Register_Addr");
        let proxy = of("ProxyAddr", "Proxy_Addr");
        if of("EnableReg", "Enable_Reg") != "1" {
            assert_eq!(
                user + &auth_user + &password + &host + &proxy,
                "",
                "line {n}"
            );
            continue;
        }
        let choice = |value: String, words: &[&str]| {
            let n: usize = value.parse().unwrap();
            words[n].to_owned()
        };
        let transport = of("Transport", "Transport");
        let backup = of("BackupAddr", "Backup_Addr");
        if !backup.is_empty() {
            assert_eq!(of("BackupTransport", "Backup_Transpo"), transport);
            assert_eq!(
                of("BackupPort", "Backup_Port"),
                of("RegisterPort", "Register_Port")
            );
            assert_eq!(of("EnableFailback", "Enable_Failbac"), "1");
        }
        if !proxy.is_empty() {
            assert_eq!(of("ProxyUser", "Proxy_User"), auth_user);
            assert_eq!(of("ProxyPswd", "Proxy_Pswd"), password);
        }
        assert_eq!(of("Subscribe", "Subscribe"), "1");
        let codecs = of("VoiceCodecMap", "VoiceCodecMap");
        let line = SeenLine {
            user,
            auth_user,
            credential: Credential::Password(password),
            name: Some(of("DisplayName", "Display_Name")),
            label: None,
            host,
            port: of("RegisterPort", "Register_Port").parse().unwrap(),
            transport: choice(transport, &["udp", "tcp", "?", "tls"]),
            srtp: Some(choice(
                of("MediaCrypto", "Media_Crypto"),
                &["off", "optional", "required"],
            )),
            backup: Some(backup),
            outbound: Some(if proxy.is_empty() {
                proxy
            } else {
                format!("{proxy}:{}", of("ProxyPort", "Proxy_Port"))
            }),
            expires_s: of("RegisterTTL", "Register_TTL").parse().ok(),
            voicemail: Some(of("MWINum", "MWI_Num")),
            codecs: Some(codecs.split(',').map(|name| codec(name, former)).collect()),
            dtmf: Some(choice(
                of("DTMFMode", "DTMF_Mode"),
                &["inband", "rfc2833", "info"],
            )),
        };
        seen.lines.insert(n, line);
    }
    let places = places(settings);
    assert_eq!(places.len() as u64, model["keys"].as_u64().unwrap());
    for (n, place) in (1..).zip(places) {
        let of = |name: &str| get(&format!("{place}/{name}"));
        if let Some(key) = key(&of("Type"), &of("Value"), of("Title")) {
            seen.keys.insert((0, n), key);
        }
    }
    seen.clock = Some(clock(settings, former));
    seen
}

fn codec(name: &str, former: bool) -> String {
    match (name, former) {
        ("PCMU", false) | ("G711U", true) => "pcmu",
        ("PCMA", false) | ("G711A", true) => "pcma",
        ("G722", _) => "g722",
        ("G729", _) => "g729",
        ("opus", false) => "opus",
        other => panic!("{other:?}"),
    }
    .to_owned()
}

/// Where the keys stand, in the order in which people count them: beside the display first.
fn places(settings: &Settings) -> Vec<String> {
    let number = |text: &str| {
        let digits = text.trim_matches(|c: char| !c.is_ascii_digit());
        digits.parse::<u16>().unwrap()
    };
    let mut found: Vec<((u8, u16, u16), String)> = settings
        .keys()
        .filter_map(|key| {
            let place = key.strip_suffix("/Type")?;
            let mut parts = place.split('/').skip(1);
            let (first, second) = (parts.next()?, parts.next());
            let order = match (first.split('[').next()?, second) {
                ("Function_Key", Some(entry)) => (0, 0, number(entry)),
                ("dssSide", Some(entry)) => (1, number(first), number(entry)),
                ("internal", Some(entry)) => (2, number(first), number(entry)),
                ("dssSoft", None) => (3, 0, number(first)),
                other => panic!("{other:?}"),
            };
            Some((order, place.to_owned()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, place)| place).collect()
}

fn key(kind: &str, value: &str, label: String) -> Option<SeenKey> {
    let (function, number, line) = match kind {
        "0" => {
            assert_eq!(value.to_owned() + &label, "", "a blank key");
            return None;
        }
        "1" => {
            let (number, rest) = value.rsplit_once('@').unwrap();
            let (line, what) = rest.split_once('/').unwrap();
            let function = match what {
                "f" => "speed_dial",
                "ba" | "bb" | "bc" => "blf",
                "c" => "park",
                "i" => "intercom",
                "a" => "forward",
                "m" => "voicemail",
                other => panic!("{other}"),
            };
            (function, number, line.parse().ok())
        }
        "2" => ("line", "", value.strip_prefix("SIP").unwrap().parse().ok()),
        "3" => {
            let function = match value {
                "F_MWI" => "voicemail",
                "F_B_TRANSFER" => "transfer",
                "F_DND" => "dnd",
                "F_REDIAL" => "redial",
                other => panic!("{other}"),
            };
            (function, "", None)
        }
        other => panic!("{other}"),
    };
    Some(SeenKey {
        function: function.to_owned(),
        value: number.to_owned(),
        label: Some(label),
        line,
    })
}

fn clock(settings: &Settings, former: bool) -> SeenClock {
    let of = |current: &str, old: &str| {
        let key = if former {
            format!("GLOBAL_CONFIG_MODULE/{old}")
        } else {
            format!("phone/date/{current}")
        };
        settings
            .get(&key)
            .unwrap_or_else(|| panic!("{key}"))
            .clone()
    };
    let number = |current: &str, old: &str| of(current, old).parse::<i64>().unwrap();
    let offset = number("TimeZone", "Time_Zone") * 15;
    let name = of("TimeZoneName", "Time_Zone_Name");
    let told = name.strip_prefix("UTC").unwrap();
    let (hours, minutes) = told.split_once(':').unwrap_or((told, "0"));
    let hours: i64 = if hours.is_empty() {
        0
    } else {
        hours.parse().unwrap()
    };
    let minutes: i64 = minutes.parse().unwrap();
    assert_eq!(offset.abs(), hours.abs() * 60 + minutes, "{name}");
    let change = |which: &str| {
        let of = |what: &str| number(&format!("DST{which}{what}"), &format!("DST_{which}_{what}"));
        let weekday = match of("Wday") {
            0 => 7,
            day => day,
        };
        SeenChange {
            month: of("Mon").try_into().unwrap(),
            week: of("Week").try_into().unwrap(),
            weekday: weekday.try_into().unwrap(),
            minute: of("Hour") * 60,
        }
    };
    let summer = (number("EnableDST", "Enable_DST") == 2).then(|| {
        assert_eq!(number("DSTFixedType", "DST_Fixed_Type"), 2);
        let saving = number("DSTMinOffset", "DST_Min_Offset");
        (saving, change("Start"), change("End"))
    });
    SeenClock::Rule { offset, summer }
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let model = wire.model["model"].as_str().unwrap().to_owned();
    let former = wire.model["generation"] == "former";
    let (firmware, common) = if former {
        ("2.10.2.6887", "f0X4hw1.100.cfg")
    } else {
        ("2.12.16.17", "F0V00X5U0000.cfg")
    };
    let agent = format!("Fanvil {model} {firmware} {}", wire.mac);
    let mac = wire.mac.clone();
    let mut server = wire.start.trim_end_matches('/').to_owned();
    let mut versions: BTreeMap<&str, String> = BTreeMap::new();
    let mut names = vec![common.to_owned(), "$mac.cfg".to_owned()];
    let mut settings = Settings::new();
    for _ in 0..3 {
        for name in &names {
            let url = format!("{server}/{}", name.replace("$mac", &mac));
            let Some(file) = wire.text(&url, &agent) else {
                continue;
            };
            let config = read(&file)?;
            // It counts the versions of the common file and of its own apart.
            let kind = if name.contains("$mac") {
                "own"
            } else {
                "common"
            };
            let stored = versions.entry(kind).or_insert_with(|| "2.0002".to_owned());
            if config.version > *stored {
                *stored = config.version;
                settings.extend(config.settings);
            }
        }
        let (section, server_name, file_name) = if former {
            (
                "AUTOUPDATE_CONFIG_MODULE",
                "Download_Server_IP",
                "Config_File_Name",
            )
        } else {
            ("ap", "FlashServerIP", "FlashFileName")
        };
        let of = |name: &str| {
            let key = format!("{section}/{name}");
            settings.get(&key).cloned().ok_or(format!("no {key}"))
        };
        let next = of(server_name)?;
        let mode = of(if former { "Download_Mode" } else { "FlashMode" })?;
        if mode != "2" {
            return Err("it never asks again".to_owned());
        }
        names = vec![of(file_name)?];
        if next == server {
            return Ok(settings);
        }
        server = next;
    }
    Err("it never settled".to_owned())
}

#[test]
fn the_reader_refuses_what_a_phone_could_misread() {
    let config = |inner: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<sysConf>\n<Version>2.1000000000</Version>\n{inner}\n</sysConf>\n"
        )
    };
    let line = "<sip>\n<line index=\"1\">\n<A>x &amp; y</A>\n</line>\n</sip>";
    assert_eq!(
        read(&config(line)).unwrap().settings["sip/line[1]/A"],
        "x & y"
    );
    for wrong in [
        format!("{line}\n{line}"),
        line.replace("</A>", "</A><A>z</A>"),
        line.replace("&amp;", "&nbsp;"),
        line.replace("index", "name"),
        line.replace("</A>", "</A>z"),
        "<!-- a -- b -->".to_owned(),
        "x".to_owned(),
        "<sip>".to_owned(),
        "<sip></sip>".to_owned(),
    ] {
        assert!(read(&config(&wrong)).is_err(), "{wrong}");
    }
    assert!(read(&config(line).replace("2.10", "10")).is_err());
}
