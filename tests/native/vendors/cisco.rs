//! Cisco multiplatform phones, SPA and adapters, as the provisioning and administration guides describe
//! them.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

use super::clock::{SeenChange, SeenClock};
use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenKey, SeenLine, Settings};
use crate::readers::entity;

pub static KIT: Kit = Kit {
    vendor: "cisco",
    mac: "00562b000001",
    model: "8851",
    documents: &[
        "p/boot.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/{mac}.xml",
        "rps/{mac}.xml",
    ],
    parts: &["p/boot.cfg", "p/ACC.cfg", "p/BTN.cfg"],
    merged: Some("p/{mac}.xml"),
    read: |_, text| read(text),
    see,
    // A line's label is that of its key, and there is one voicemail number for all lines. An SPA does
    // not tell optional from required; a test of its own looks at the others.
    blind: &["label", "voicemail", "srtp"],
    cannot_carry: |slot, text| {
        let label = slot == "line_label" || slot == "key_label";
        text.trim() != text
            || (slot == "key_label" && text.contains(';'))
            || (label && (text.contains("$USER") || text.contains("$PROXY")))
    },
    power_on,
    key_name: |key| {
        let digits = |c: char| c.is_ascii_digit();
        let words = key.split('_').map(|word| match word {
            "" => String::new(),
            word if word.chars().all(digits) => "N".to_owned(),
            word => word.to_owned(),
        });
        words.collect::<Vec<_>>().join("_")
    },
};

/// Reads a flat profile: each element once, with text and nothing else in it.
fn read(text: &str) -> Result<Settings, String> {
    if !text.ends_with("\n</flat-profile>\n") || text.contains('\r') || text.contains("\n\n") {
        return Err("not in whole lines".to_owned());
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut found = Settings::new();
    let mut open: Vec<String> = Vec::new();
    let mut declared = false;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Eof => break,
            Event::Decl(_) if !declared => declared = true,
            Event::Comment(_) if open.is_empty() && found.is_empty() => {}
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                if start.attributes().next().is_some() {
                    return Err(format!("{name} has attributes"));
                }
                let fits = match open.as_slice() {
                    [] => name == "flat-profile" && found.is_empty(),
                    [_] => found.insert(name.clone(), String::new()).is_none(),
                    _ => false,
                };
                if !fits {
                    return Err(format!("{name} in {open:?}, or twice"));
                }
                open.push(name);
            }
            Event::End(_) => {
                let name = open.pop().ok_or("an end too many")?;
                let value = found.get(&name).map_or("", String::as_str);
                if value.trim() != value {
                    return Err(format!("{name} loses white space"));
                }
                if value.contains(char::is_control) {
                    return Err(format!("{name} holds a control character"));
                }
            }
            Event::Text(piece) => add(&open, &mut found, &piece.xml10_content())?,
            Event::GeneralRef(reference) => {
                let piece = entity(&reference.xml10_content())?;
                add(&open, &mut found, piece)?;
            }
            other => return Err(format!("{other:?}")),
        }
    }
    if declared && open.is_empty() {
        Ok(found)
    } else {
        Err("no whole document".to_owned())
    }
}

fn add(open: &[String], found: &mut Settings, piece: &str) -> Result<(), String> {
    match open {
        [_, name] => found.get_mut(name).unwrap().push_str(piece),
        _ if piece.trim().is_empty() => {}
        _ => return Err(format!("{piece:?} stands in no element")),
    }
    Ok(())
}

fn see(settings: &Settings, model: &Value) -> Seen {
    let mut seen = Seen::default();
    for n in 1..=model["lines"].as_u64().unwrap() {
        let of = |name: &str| settings.get(&format!("{name}_{n}_")).cloned().unwrap();
        if of("Line_Enable") == "No" {
            for name in [
                "Proxy",
                "Outbound_Proxy",
                "Display_Name",
                "User_ID",
                "Auth_ID",
                "Password",
            ] {
                assert_eq!(of(name), "", "line {n} is off and keeps its {name}");
            }
            continue;
        }
        seen.lines.insert(n, line(settings, n));
    }
    let number = |name: &str| model[name].as_u64().unwrap();
    for n in 1..=number("keys") {
        let of = |name: &str| settings[&format!("{name}_{n}_")].clone();
        assert_eq!(of("Share_Call_Appearance"), "private");
        if let Some(key) = key(
            &of("Extension"),
            &of("Short_Name"),
            &of("Extended_Function"),
        ) {
            seen.keys.insert((0, n), key);
        }
    }
    if number("modules") > 0 {
        let modules: u64 = settings["Number_of_Units"].parse().unwrap();
        for module in 1..=modules {
            for n in 1..=number("module_keys") {
                let of = |name: &str| settings[&format!("Unit_{module}_{name}_{n}_")].clone();
                if let Some(key) = key(&of("Extension"), &of("Short_Name"), &of("Key")) {
                    seen.keys.insert((module, n), key);
                }
            }
        }
    }
    seen.clock = Some(clock(settings));
    seen
}

/// `host:port`, the host without the brackets of IPv6.
fn place(text: &str) -> (String, u64) {
    let (host, port) = text.rsplit_once(':').unwrap();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    assert!(host == bare || bare.contains(':'), "{host}");
    (bare.to_owned(), port.parse().unwrap())
}

fn line(settings: &Settings, n: u64) -> SeenLine {
    let of = |name: &str| settings[&format!("{name}_{n}_")].clone();
    let proxy = of("Proxy");
    let ((host, port), backup) = match proxy.split_once(":SRV=") {
        None => {
            assert_eq!(of("Use_DNS_SRV"), "No");
            (place(&proxy), String::new())
        }
        Some((domain, list)) => {
            assert_eq!(of("Use_DNS_SRV"), "Yes");
            let (first, second) = list.split_once('|').unwrap();
            let first = place(first.strip_suffix(":p=0").unwrap());
            let second = place(second.strip_suffix(":p=1").unwrap());
            assert_eq!((domain, second.1), (first.0.as_str(), first.1));
            (first, second.0)
        }
    };
    let outbound = of("Outbound_Proxy");
    assert_eq!(of("Use_Outbound_Proxy") == "Yes", !outbound.is_empty());
    assert_eq!(
        (of("Register"), of("Use_Auth_ID")),
        ("Yes".into(), "Yes".into())
    );
    let names = [
        ("G722", "g722"),
        ("G711a", "pcma"),
        ("G711u", "pcmu"),
        ("G729a", "g729"),
        ("OPUS", "opus"),
    ];
    let mut codecs = Vec::new();
    for name in [
        "Preferred_Codec",
        "Second_Preferred_Codec",
        "Third_Preferred_Codec",
    ] {
        if let Some((_, codec)) = names.iter().find(|(name_of, _)| *name_of == of(name)) {
            codecs.push((*codec).to_owned());
        } else {
            assert_eq!(of(name), "Unspecified");
        }
    }
    for (name, codec) in names {
        let on = of(&format!("{name}_Enable")) == "Yes";
        let preferred = codecs.iter().any(|c| c == codec);
        assert!(on || !preferred, "{codec} is preferred and off");
        if on && !preferred {
            codecs.push(codec.to_owned());
        }
    }
    SeenLine {
        user: of("User_ID"),
        auth_user: of("Auth_ID"),
        credential: Credential::Password(of("Password")),
        name: Some(of("Display_Name")),
        label: None,
        host,
        port,
        transport: of("SIP_Transport").to_ascii_lowercase(),
        srtp: None,
        backup: Some(backup),
        outbound: Some(if outbound.is_empty() {
            outbound
        } else {
            let (host, port) = place(&outbound);
            format!("{host}:{port}")
        }),
        expires_s: of("Register_Expires").parse().ok(),
        voicemail: None,
        codecs: Some(codecs),
        dtmf: Some(
            match of("DTMF_Tx_Method").as_str() {
                "AVT" => "rfc2833",
                "INFO" => "info",
                "InBand" => "inband",
                other => panic!("{other}"),
            }
            .to_owned(),
        ),
    }
}

/// A key: of a line, or with a function as `fnc=type;name=value;…` and no extension.
fn key(extension: &str, label: &str, text: &str) -> Option<SeenKey> {
    if extension != "Disabled" {
        assert_eq!(text, "", "a line with a function");
        return Some(SeenKey {
            function: "line".to_owned(),
            value: String::new(),
            label: Some(label.to_owned()),
            line: Some(extension.parse().unwrap()),
        });
    }
    if text.is_empty() {
        assert_eq!(label, "", "a blank key with a label");
        return None;
    }
    let mut fields = Settings::new();
    for field in text.split(';') {
        let (name, value) = field.split_once('=').unwrap();
        assert!(
            fields.insert(name.to_owned(), value.to_owned()).is_none(),
            "{text}"
        );
    }
    let mut take = |name: &str| fields.remove(name);
    let number = |text: String| {
        text.strip_suffix("@$PROXY")
            .map_or(text.clone(), ToOwned::to_owned)
    };
    let (function, value) = match take("fnc").unwrap().as_str() {
        "blf+sd+cp" => ("blf", number(take("sub").unwrap())),
        "sd" => ("speed_dial", number(take("ext").unwrap())),
        "mwi+sd" => {
            assert_eq!(take("sub").unwrap(), "$USER@$PROXY");
            ("voicemail", number(take("ext").unwrap()))
        }
        "prk" => ("park", number(take("sub").unwrap())),
        "dnd" => ("dnd", String::new()),
        "xml" => ("url", take("url").unwrap()),
        other => panic!("{other}"),
    };
    let named = take("nme").unwrap_or_default();
    assert_eq!(named, label);
    let line = take("vid").map(|line| line.parse().unwrap());
    assert!(fields.is_empty(), "{text}");
    Some(SeenKey {
        function: function.to_owned(),
        value,
        label: Some(named),
        line,
    })
}

fn clock(settings: &Settings) -> SeenClock {
    let zone = settings["Time_Zone"].strip_prefix("GMT").unwrap();
    let (hours, minutes) = zone[1..].split_once(':').unwrap();
    let east: i64 = hours.parse::<i64>().unwrap() * 60 + minutes.parse::<i64>().unwrap();
    let time = |text: &str| -> i64 {
        let parts: Vec<i64> = text.split(':').map(|n| n.parse().unwrap()).collect();
        assert_eq!((parts.len(), parts[2]), (3, 0));
        parts[0] * 60 + parts[1]
    };
    let change = |text: &str| {
        let parts: Vec<&str> = text.split('/').collect();
        assert_eq!(parts.len(), 4);
        SeenChange {
            month: parts[0].parse().unwrap(),
            week: match parts[1] {
                "-1" => 5,
                day @ ("1" | "8" | "15" | "22") => day.parse::<i8>().unwrap() / 7 + 1,
                other => panic!("{other}"),
            },
            weekday: parts[2].parse().unwrap(),
            minute: time(parts[3]),
        }
    };
    let summer = (settings["Daylight_Saving_Time_Enable"] == "Yes").then(|| {
        let fields: Vec<&str> = settings["Daylight_Saving_Time_Rule"].split(';').collect();
        let of = |n: usize, name: &str| fields[n].strip_prefix(name).unwrap();
        let (start, end) = (change(of(0, "start=")), change(of(1, "end=")));
        (time(of(2, "save=")), start, end)
    });
    SeenClock::Rule {
        offset: if zone.starts_with('-') { -east } else { east },
        summer,
    }
}

const RULES: [&str; 4] = [
    "Profile_Rule",
    "Profile_Rule_B",
    "Profile_Rule_C",
    "Profile_Rule_D",
];

/// One run through the rules; each may change those that come after it.
fn resync(wire: &mut Wire<'_>, settings: &mut Settings, agent: &str) -> Result<(), String> {
    for name in RULES {
        let rule = settings.get(name).cloned().unwrap_or_default();
        if rule.is_empty() {
            continue;
        }
        let url = rule.replace("$MA", &wire.mac);
        assert!(!url.contains(['$', ' ', '|', '[', '(']), "{url}");
        // A file that is not there ends the run.
        let text = wire.text(&url, agent).ok_or(url)?;
        settings.extend(read(&text)?);
    }
    Ok(())
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let (agent, name) = if wire.model["generation"] == "former" {
        let agent = format!("Cisco/SPA504G-7.5.5 ({})(CCQ1234567)", wire.upper());
        (agent, "spa504G.cfg")
    } else {
        let agent = format!("Cisco-CP-8851-3PCC/12.0.7 ({})", wire.mac);
        (agent, "8851-3PCC.xml")
    };
    // By the factory's own rule and by one that names the phone, which lead to the same; a window is
    // used up by the first.
    let window = wire.start.ends_with("/rps/");
    let rules: &[&str] = if window { &[name] } else { &[name, "$MA.xml"] };
    let mut ends = Vec::new();
    for rule in rules {
        let mut settings = Settings::new();
        settings.insert(RULES[0].to_owned(), format!("{}{rule}", wire.start));
        resync(wire, &mut settings, &agent)?;
        assert!(
            settings.contains_key("User_ID_1_"),
            "no account: {:?}",
            wire.asked
        );
        let first = settings.clone();
        resync(wire, &mut settings, &agent)?;
        assert_eq!(
            settings, first,
            "the second run changes what the first brought"
        );
        assert!(!settings[RULES[0]].starts_with(&wire.start));
        ends.push(settings);
    }
    assert!(ends.windows(2).all(|two| two[0] == two[1]));
    ends.pop().ok_or_else(|| "nothing".to_owned())
}

#[test]
fn the_reader_refuses_what_a_phone_could_misread() {
    let profile = |inner: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<flat-profile>\n{inner}\n</flat-profile>\n"
        )
    };
    assert_eq!(read(&profile("<A>x &amp; y</A>")).unwrap()["A"], "x & y");
    for wrong in [
        "<A>1</A><A>2</A>",
        "<A> 1</A>",
        "<A ua=\"na\">1</A>",
        "<A><B>1</B></A>",
        "<A>&nbsp;</A>",
        "<A/>",
        "x",
        "<A>1",
    ] {
        assert!(read(&profile(wrong)).is_err(), "{wrong}");
    }
}
