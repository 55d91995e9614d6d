//! Poly, as the administrator guides of UC Software describe it.

use std::collections::BTreeMap;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use serde_json::Value;

use super::clock::{SeenChange, SeenClock};
use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenKey, SeenLine, Settings, dotted_name};
use crate::readers::entity;

pub static KIT: Kit = Kit {
    vendor: "poly",
    mac: "0004f2000001",
    model: "VVX450",
    documents: &[
        "p/{mac}.cfg",
        "p/first.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/{mac}-directory.xml",
        "rps/{mac}.cfg",
        "rps/phone{mac}.cfg",
    ],
    parts: &[
        "p/first.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/{mac}-directory.xml",
    ],
    merged: None,
    read: |_, text| read(text),
    see,
    blind: &[],
    cannot_carry: |slot, text| slot == "key_value" && text.starts_with('!'),
    power_on,
    key_name: dotted_name,
};

/// Reads a file: a master file as `@master.NAME`, a directory as `@directory.INDEX.NAME`, parameters
/// by their names. Each stands once; what has no place there is an error.
fn read(text: &str) -> Result<Settings, String> {
    if !text.ends_with(">\n") || text.contains('\r') || text.contains("\n\n") {
        return Err("not in whole lines".to_owned());
    }
    if !text.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n") {
        return Err("no declaration".to_owned());
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut found = Settings::new();
    let mut open: Vec<String> = Vec::new();
    let mut item = BTreeMap::<String, String>::new();
    let mut roots = 0;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Eof => break,
            Event::Decl(_) | Event::Comment(_) if roots == 0 => {}
            Event::Empty(start) if open.is_empty() => {
                roots += 1;
                let prefix = match start.name().as_ref() {
                    "APPLICATION" => "@master.",
                    "polycomConfig" => "",
                    other => return Err(format!("a {other}")),
                };
                for (name, value) in attributes(&start)? {
                    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                    if !name.chars().all(allowed) {
                        return Err(format!("{name:?} is no parameter"));
                    }
                    found.insert(format!("{prefix}{name}"), value);
                }
            }
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                let place = open.join("/");
                let fits = matches!(
                    (place.as_str(), name.as_str()),
                    ("", "directory")
                        | ("directory", "item_list")
                        | ("directory/item_list", "item")
                        | ("directory/item_list/item", "fn" | "ct" | "sd")
                );
                if !fits || !attributes(&start)?.is_empty() {
                    return Err(format!("{name} in {place}"));
                }
                roots += i32::from(open.is_empty());
                if place == "directory/item_list/item"
                    && item.insert(name.clone(), String::new()).is_some()
                {
                    return Err(format!("{name} twice"));
                }
                open.push(name);
            }
            Event::End(_) => {
                if open.pop().as_deref() == Some("item") {
                    let index = item.remove("sd").ok_or("an item without its index")?;
                    for (name, value) in std::mem::take(&mut item) {
                        let key = format!("@directory.{index}.{name}");
                        if found.insert(key, value).is_some() {
                            return Err(format!("index {index} twice"));
                        }
                    }
                }
            }
            Event::Text(piece) => add(&open, &mut item, &piece.xml10_content())?,
            Event::GeneralRef(reference) => {
                let piece = entity(&reference.xml10_content())?;
                add(&open, &mut item, piece)?;
            }
            other => return Err(format!("{other:?}")),
        }
    }
    if roots == 1 && open.is_empty() {
        Ok(found)
    } else {
        Err("no whole document".to_owned())
    }
}

fn add(open: &[String], item: &mut BTreeMap<String, String>, piece: &str) -> Result<(), String> {
    match open.last().and_then(|name| item.get_mut(name)) {
        Some(value) => value.push_str(piece),
        None if piece.trim().is_empty() => {}
        None => return Err(format!("{piece:?} stands in no element")),
    }
    Ok(())
}

fn attributes(start: &BytesStart<'_>) -> Result<Settings, String> {
    let mut found = Settings::new();
    for attribute in start.attributes() {
        // A name that stands twice is an error of the reader.
        let attribute = attribute.map_err(|error| error.to_string())?;
        if attribute.value.contains('<') {
            return Err("a < in a value".to_owned());
        }
        let value = attribute
            .normalized_value(XmlVersion::Explicit1_0)
            .map_err(|error| error.to_string())?;
        if value.contains(char::is_control) {
            return Err(format!("{value:?} holds a control character"));
        }
        found.insert(attribute.key.as_ref().to_owned(), value.into_owned());
    }
    Ok(found)
}

fn see(settings: &Settings, model: &Value) -> Seen {
    let get = |key: &str| settings.get(key).map_or("", String::as_str).to_owned();
    let mut seen = Seen::default();
    // What belongs to the device itself is taken over only with its `.set`.
    for key in settings.keys().filter(|key| key.starts_with("device.")) {
        let is_set = key.strip_suffix(".set").is_some() || get(&format!("{key}.set")) == "1";
        assert!(key == "device.set" || is_set, "{key}");
    }
    assert_eq!(get("device.set"), "1");
    let mut codecs: Vec<(u64, &str)> = [
        ("G722", "g722"),
        ("G711_A", "pcma"),
        ("G711_Mu", "pcmu"),
        ("G729_AB", "g729"),
        ("Opus", "opus"),
    ]
    .into_iter()
    .map(|(name, codec)| {
        let rank = get(&format!("voice.codecPref.{name}"));
        if let Some(former) = settings.get(&format!("voice.codecPref.{}", name.replace('_', ""))) {
            assert_eq!(*former, rank, "{name}");
        }
        (rank.parse().unwrap(), codec)
    })
    .filter(|(rank, _)| *rank > 0)
    .collect();
    codecs.sort_unstable();
    let dtmf = match (
        get("tone.dtmf.viaRtp").as_str(),
        get("tone.dtmf.rfc2833Control").as_str(),
        get("voIpProt.SIP.dtmfViaSignaling.rfc2976").as_str(),
    ) {
        ("1", "1", "0") => "rfc2833",
        ("0", "0", "1") => "info",
        ("1", "0", "0") => "inband",
        other => panic!("{other:?}"),
    };
    let mut numbers = Vec::new();
    for n in 1..=model["lines"].as_u64().unwrap() {
        let of = |name: &str| get(&format!("reg.{n}.{name}"));
        numbers.push(get(&format!("msg.mwi.{n}.callBack")));
        if of("address").is_empty() {
            for name in [
                "label",
                "displayName",
                "auth.userId",
                "auth.password",
                "server.1.address",
                "server.2.address",
                "outboundProxy.address",
            ] {
                let key = format!("reg.{n}.{name}");
                assert_eq!(settings.get(&key).unwrap(), "", "an unused {key}");
            }
            continue;
        }
        seen.lines.insert(n, line(settings, n, &codecs, dtmf));
    }
    keys(settings, model, &numbers, &mut seen);
    seen.clock = Some(clock(settings));
    seen
}

fn line(settings: &Settings, n: u64, codecs: &[(u64, &str)], dtmf: &str) -> SeenLine {
    let get = |key: &str| settings.get(key).map_or("", String::as_str).to_owned();
    let of = |name: &str| get(&format!("reg.{n}.{name}"));
    let transport = of("server.1.transport");
    for (server, register) in [
        ("server.1", true),
        ("server.2", true),
        ("outboundProxy", false),
    ] {
        if of(&format!("{server}.address")).is_empty() {
            continue;
        }
        assert_eq!(of(&format!("{server}.transport")), transport);
        if register {
            assert_eq!(of(&format!("{server}.register")), "1");
            for name in ["port", "expires"] {
                let first = of(&format!("server.1.{name}"));
                assert_eq!(of(&format!("{server}.{name}")), first);
            }
        }
    }
    // The line's own beats that of all.
    let own = |name: &str| {
        let key = format!("reg.{n}.srtp.{name}");
        get(if settings.contains_key(&key) {
            key
        } else {
            format!("sec.srtp.{name}")
        }
        .as_str())
    };
    let srtp = match (
        own("enable").as_str(),
        own("offer").as_str(),
        own("require").as_str(),
    ) {
        ("0", "0", "0") => "off",
        ("1", "1", "0") => "optional",
        ("1", "1", "1") => "required",
        other => panic!("{other:?}"),
    };
    assert_eq!(get(&format!("msg.mwi.{n}.callBackMode")), "contact");
    assert_eq!(get(&format!("msg.mwi.{n}.subscribe")), of("address"));
    SeenLine {
        user: of("address"),
        auth_user: of("auth.userId"),
        credential: Credential::Password(of("auth.password")),
        name: Some(of("displayName")),
        label: Some(of("label")),
        host: of("server.1.address"),
        port: of("server.1.port").parse().unwrap(),
        transport: match transport.as_str() {
            "UDPOnly" => "udp",
            "TCPOnly" => "tcp",
            "TLS" => "tls",
            other => panic!("{other}"),
        }
        .to_owned(),
        srtp: Some(srtp.to_owned()),
        backup: Some(of("server.2.address")),
        outbound: Some(match of("outboundProxy.address").as_str() {
            "" => String::new(),
            host => format!("{host}:{}", of("outboundProxy.port")),
        }),
        expires_s: of("server.1.expires").parse().ok(),
        voicemail: Some(get(&format!("msg.mwi.{n}.callBack"))),
        codecs: Some(
            codecs
                .iter()
                .map(|(_, codec)| (*codec).to_owned())
                .collect(),
        ),
        dtmf: Some(dtmf.to_owned()),
    }
}

/// The keys, in the phone's numbering: those of the modules follow its own.
fn keys(settings: &Settings, model: &Value, voicemails: &[String], seen: &mut Seen) {
    let get = |key: &str| settings.get(key).map_or("", String::as_str).to_owned();
    let (own, on_module) = (
        model["keys"].as_u64().unwrap(),
        model["module_keys"].as_u64().unwrap(),
    );
    assert_eq!(get("lineKey.reassignment.enabled"), "1");
    assert_eq!(get("attendant.reg"), "1");
    let mut watched = 0;
    let mut line_keys = BTreeMap::<u64, u64>::new();
    for n in 1.. {
        let category = get(&format!("lineKey.{n}.category"));
        if category.is_empty() {
            assert!(n > own, "key {n} is not blanked");
            break;
        }
        let index: u64 = get(&format!("lineKey.{n}.index")).parse().unwrap();
        let key =
            |function: &str, value: String, label: Option<String>, line: Option<u64>| SeenKey {
                function: function.to_owned(),
                value,
                label,
                line,
            };
        let key = match category.as_str() {
            "Unassigned" => continue,
            "Line" => {
                *line_keys.entry(index).or_default() += 1;
                // It shows the label of the line, which is looked at there.
                key("line", String::new(), None, Some(index))
            }
            "BLF" => {
                assert_eq!(index, 0, "they come in order");
                watched += 1;
                let of = |name: &str| get(&format!("attendant.resourceList.{watched}.{name}"));
                let function = match of("type").as_str() {
                    "normal" => "blf",
                    "automata" => "park",
                    other => panic!("{other}"),
                };
                key(function, of("address"), Some(of("label")), None)
            }
            "SpeedDial" => {
                let number = settings[&format!("@directory.{index}.ct")].clone();
                let label = settings[&format!("@directory.{index}.fn")].clone();
                assert_eq!(get("dir.local.readonly"), "1");
                // Where voicemail is no feature key it is known by its number alone.
                let former = model["generation"] == "former";
                let voicemail = former && voicemails.contains(&number);
                let function = if voicemail { "voicemail" } else { "speed_dial" };
                key(function, number, Some(label), None)
            }
            "EFK" => {
                assert_eq!(get("feature.enhancedFeatureKeys.enabled"), "1");
                assert_eq!(get("feature.EFKLineKey.enabled"), "1");
                let of = |name: &str| get(&format!("efk.efklist.{index}.{name}"));
                assert_eq!(of("status"), "1");
                let action = of("action.string");
                let (functions, value) = feature(&action);
                // Whoever dials is told apart by its name.
                let name = of("mname");
                let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
                let function = functions.iter().find(|function| **function == name);
                let function = function.unwrap_or_else(|| panic!("{name}: {action}"));
                key(function, value.to_owned(), Some(of("label")), None)
            }
            other => panic!("{other}"),
        };
        let place = match n.checked_sub(own + 1) {
            None => (0, n),
            Some(after) => (after / on_module + 1, after % on_module + 1),
        };
        seen.keys.insert(place, key);
    }
    for (line, count) in line_keys {
        assert_eq!(get(&format!("reg.{line}.lineKeys")), count.to_string());
    }
    let last = format!("attendant.resourceList.{}.address", watched + 1);
    assert!(!settings.contains_key(&last), "{last} has no key");
}

/// The guide's "Macro Actions".
fn feature(action: &str) -> (&'static [&'static str], &str) {
    if action.starts_with("http") {
        return (&["url"], action);
    }
    let (value, rest) = action.split_once('$').unwrap();
    // An account's voicemail number is nothing that a key could refuse; there is a warning.
    assert!(
        rest == "Tinvite$" || !value.contains('!'),
        "{action} names a macro"
    );
    let functions: &[&str] = match rest {
        "FTransfer$" => &["transfer"],
        "FConference$" => &["conference"],
        "FDoNotDisturb$" => &["dnd"],
        "FRedial$" => &["redial"],
        "Tinvite$" => &["voicemail", "pickup"],
        "Tintercom$" => &["intercom"],
        "Tdtmf$" => &["dtmf"],
        other => panic!("{other}"),
    };
    (functions, value)
}

fn clock(settings: &Settings) -> SeenClock {
    let number = |name: &str| -> i64 {
        let key = format!("tcpIpApp.sntp.{name}");
        settings[&key].parse().unwrap_or_else(|_| panic!("{key}"))
    };
    assert_eq!(number("gmtOffset.overrideDHCP"), 1);
    assert_eq!(number("address.overrideDHCP"), 1);
    let change = |which: &str| {
        let of = |name: &str| number(&format!("daylightSavings.{which}.{name}"));
        let week = match (of("dayOfWeek.lastInMonth"), of("date")) {
            (1, _) => 5,
            (0, date @ (1 | 8 | 15 | 22)) => date / 7 + 1,
            other => panic!("{other:?}"),
        };
        // 1 is Sunday.
        let weekday = match of("dayOfWeek") {
            1 => 7,
            day => day - 1,
        };
        SeenChange {
            month: of("month").try_into().unwrap(),
            week: week.try_into().unwrap(),
            weekday: weekday.try_into().unwrap(),
            minute: of("time") * 60,
        }
    };
    SeenClock::Rule {
        offset: number("gmtOffset") / 60,
        summer: (number("daylightSavings.enable") == 1).then(|| {
            assert_eq!(number("daylightSavings.fixedDayEnable"), 0);
            (60, change("start"), change("stop"))
        }),
    }
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let former = wire.model["generation"] == "former";
    let (agent, part) = if former {
        (
            "FileTransport PolycomSoundPointIP-SPIP_650-UA/4.0.11.0583",
            "2345-12600-001",
        )
    } else {
        (
            "FileTransport PolyVVX-VVX_450-UA/6.4.3.5059 Type/Application",
            "3111-48450-001",
        )
    };
    let mac = wire.mac.clone();
    let mut server = wire.start.clone();
    // It starts again when it is told another server.
    for _ in 0..3 {
        let master = wire
            .text(&format!("{server}{mac}.cfg"), agent)
            .or_else(|| wire.text(&format!("{server}000000000000.cfg"), agent))
            .ok_or("no master file")?;
        let master = read(&master)?;
        if master["@master.APP_FILE_PATH"] == "sip.ld" {
            wire.text(&format!("{server}{part}.sip.ld"), agent);
            wire.text(&format!("{server}sip.ld"), agent);
        }
        let mut settings = Settings::new();
        for file in master["@master.CONFIG_FILES"].split(',') {
            let file = file.trim().replace("[PHONE_MAC_ADDRESS]", &mac);
            let url = if file.contains("://") {
                file
            } else {
                format!("{server}{file}")
            };
            // It goes on with what it had if one of them is not there.
            let text = wire.text(&url, agent).ok_or(url)?;
            for (key, value) in read(&text)? {
                // The first file that sets a parameter wins.
                settings.entry(key).or_insert(value);
            }
        }
        for name in ["-phone.cfg", "-web.cfg", "-license.cfg"] {
            wire.text(&format!("{server}{mac}{name}"), agent);
        }
        if settings.keys().any(|key| key.starts_with("reg.")) {
            let directory = format!("{server}{mac}-directory.xml");
            if let Some(directory) = wire.text(&directory, agent) {
                settings.extend(read(&directory)?);
            }
        }
        let name = &settings["device.prov.serverName"];
        assert!(!name.contains("://") && !name.ends_with('/'), "{name}");
        assert_eq!(settings["device.prov.serverName.set"], "1");
        let scheme = settings["device.prov.serverType"].to_ascii_lowercase();
        let next = format!("{scheme}://{name}/");
        if next == server {
            return Ok(settings);
        }
        server = next;
    }
    Err("it never settled".to_owned())
}

#[test]
fn the_reader_refuses_what_a_phone_could_misread() {
    let declared = |inner: &str| {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n{inner}\n")
    };
    let fine = read(&declared("<polycomConfig\n  a.b=\"&amp; &quot;\"\n/>")).unwrap();
    assert_eq!(fine["a.b"], "& \"");
    for wrong in [
        "<polycomConfig a.b=\"1\" a.b=\"2\"/>",
        "<polycomConfig a.b=\"<\"/>",
        "<polycomConfig a.b=\"&nbsp;\"/>",
        "<polycomConfig a.b=\"&#10;\"/>",
        "<polycomConfig/><polycomConfig/>",
        "<!-- a -- b --><polycomConfig/>",
        "<other/>",
        "<directory><item_list>x</item_list></directory>",
        "<directory><item_list><item><ct>1</ct></item></item_list></directory>",
        "<directory>",
    ] {
        assert!(read(&declared(wrong)).is_err(), "{wrong}");
    }
}
