//! Snom, as its service wiki describes the settings, and its M bases as public projects write them.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::Value;

use super::clock::{SeenChange, SeenClock};
use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenKey, SeenLine, Settings};
use crate::readers::entity;

pub static KIT: Kit = Kit {
    vendor: "snom",
    mac: "000413000001",
    model: "D785",
    documents: &[
        "p/boot.cfg",
        "p/first.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/{MAC}.xml",
        "rps/{MAC}.xml",
    ],
    parts: &["p/first.cfg", "p/ACC.cfg", "p/BTN.cfg"],
    merged: Some("p/{MAC}.xml"),
    read: |_, text| Ok(read(text)?.settings),
    see,
    // The M bases know no second registrar, and their time zones are a list of countries.
    blind: &["dect:backup", "dect:clock"],
    cannot_carry: |slot, text| slot != "key_value" && text.trim() != text,
    power_on,
    key_name: |key| key.split('[').next().unwrap_or_default().to_owned(),
};

/// A file: a list of others, or settings by `name` or `name[idx]`, and keys as `fkey[idx]`.
#[derive(Debug, Default)]
pub struct File {
    pub files: Vec<String>,
    pub settings: Settings,
}

/// Reads a file, strictly: known elements, each setting once, each overwriting what the phone has.
pub fn read(text: &str) -> Result<File, String> {
    if !text.starts_with("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n") || !text.ends_with(">\n") {
        return Err("no whole document".to_owned());
    }
    for line in text.lines() {
        if line.trim_end() != line || line.is_empty() || line.contains(char::is_control) {
            return Err(format!(
                "{line:?} is blank, ends in a space or holds a control"
            ));
        }
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut file = File::default();
    let mut open: Vec<String> = Vec::new();
    let mut key = String::new();
    let mut declared = false;
    let mut roots = 0;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Eof => break,
            Event::Decl(_) if !declared => declared = true,
            Event::Comment(_) if open.is_empty() && roots == 0 => {}
            Event::Empty(start) if open == ["setting-files"] => {
                let mut attributes = attributes(&start)?;
                let url = attributes.remove("url").ok_or("a file without a url")?;
                if start.name().as_ref() != "file" || !attributes.is_empty() {
                    return Err(format!("{start:?} in a list"));
                }
                file.files.push(url);
            }
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                let mut attributes = attributes(&start)?;
                let parents: Vec<&str> = open.iter().map(String::as_str).collect();
                match (parents.as_slice(), name.as_str()) {
                    ([], "settings" | "setting-files") if roots == 0 => roots = 1,
                    (["settings"], "phone-settings" | "functionKeys") => {}
                    (["settings", "phone-settings"], _) => {
                        key = match attributes.remove("idx") {
                            Some(idx) if index(&idx)? > 0 => format!("{name}[{idx}]"),
                            Some(idx) => return Err(format!("{name} of {idx}")),
                            None => name.clone(),
                        };
                        take_perm(&mut attributes)?;
                        once(&mut file.settings, &key)?;
                    }
                    (["settings", "functionKeys"], "fkey") => {
                        let mut take = |name| attributes.remove(name).ok_or("a key without it");
                        key = format!("fkey[{}]", index(&take("idx")?)?);
                        let (context, label) = (take("context")?, take("label")?);
                        if context != "active" {
                            index(&context)?;
                        }
                        for (of, value) in [("context", context), ("label", label)] {
                            let key = format!("{key}@{of}");
                            once(&mut file.settings, &key)?;
                            file.settings.insert(key, value);
                        }
                        take_perm(&mut attributes)?;
                        once(&mut file.settings, &key)?;
                    }
                    _ => return Err(format!("{name} in {open:?}")),
                }
                if let Some(more) = attributes.keys().next() {
                    return Err(format!("{name} has {more}"));
                }
                open.push(name);
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Text(piece) => add(&mut file.settings, &open, &key, &piece.xml10_content())?,
            Event::GeneralRef(reference) => {
                let piece = entity(&reference.xml10_content())?;
                add(&mut file.settings, &open, &key, piece)?;
            }
            other => return Err(format!("{other:?}")),
        }
    }
    if declared && roots == 1 && open.is_empty() {
        Ok(file)
    } else {
        Err("no whole document".to_owned())
    }
}

fn index(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no index"))
}

fn take_perm(attributes: &mut BTreeMap<String, String>) -> Result<(), String> {
    match attributes.remove("perm").as_deref() {
        Some("RW") => Ok(()),
        other => Err(format!("{other:?} keeps what the phone has, or locks it")),
    }
}

fn once(settings: &mut Settings, key: &str) -> Result<(), String> {
    match settings.insert(key.to_owned(), String::new()) {
        None => Ok(()),
        Some(_) => Err(format!("{key} is set twice")),
    }
}

fn attributes(start: &BytesStart<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let mut value = String::new();
        let mut rest: &str = &attribute.value;
        while let Some((before, after)) = rest.split_once('&') {
            let (name, after) = after.split_once(';').ok_or("& in an attribute")?;
            value.push_str(before);
            value.push_str(entity(name)?);
            rest = after;
        }
        value.push_str(rest);
        found.insert(attribute.key.as_ref().to_owned(), value);
    }
    Ok(found)
}

fn add(settings: &mut Settings, open: &[String], key: &str, piece: &str) -> Result<(), String> {
    if open.len() == 3 {
        settings.get_mut(key).unwrap().push_str(piece);
        Ok(())
    } else if piece.trim().is_empty() {
        Ok(())
    } else {
        Err(format!("{piece:?} stands outside of a setting"))
    }
}

pub fn see(settings: &Settings, model: &Value) -> Seen {
    let dect = model["generation"] == "dect";
    let mut seen = Seen::default();
    let mut backups = BTreeMap::new();
    let last = if dect {
        model["lines"].as_u64().unwrap()
    } else {
        12
    };
    for n in 1..=last {
        let get = |name: &str| settings.get(&format!("{name}[{n}]")).map(String::as_str);
        let of = |name: &str| get(name).unwrap_or_default().to_owned();
        if get("user_active").unwrap() != "on" {
            for name in [
                "user_name",
                "user_pname",
                "user_pass",
                "user_realname",
                "user_mailbox",
            ] {
                assert_eq!(
                    get(name),
                    Some(""),
                    "identity {n} is off and keeps its {name}"
                );
            }
            continue;
        }
        let line = if dect {
            handset(settings, n)
        } else {
            let (proxy, transport) = place(&of("user_outbound"));
            let default = if transport == "tls" { 5061 } else { 5060 };
            let (host, port) = host_and_port(&of("user_host"), default);
            assert_eq!(of("user_auth_tag"), "off");
            SeenLine {
                srtp: Some(match (of("user_srtp").as_str(), of("user_savp").as_str()) {
                    ("off", "off") => "off".to_owned(),
                    ("on", "optional") => "optional".to_owned(),
                    ("on", "mandatory") => "required".to_owned(),
                    other => panic!("{other:?}"),
                }),
                outbound: Some(if proxy == format!("{host}:{port}") {
                    String::new()
                } else {
                    proxy
                }),
                backup: Some(of("user_failover_identity")),
                host,
                port,
                transport,
                ..account(settings, n, n)
            }
        };
        match get("hide_identity") {
            Some("true") => drop(backups.insert(n, line)),
            _ => drop(seen.lines.insert(n, line)),
        }
    }
    if !dect {
        // A backup server is one more identity, alike in all but its registrar.
        for line in seen.lines.values_mut() {
            let backup = line.backup.take().unwrap();
            line.backup = Some(match backup.as_str() {
                "none" => String::new(),
                n => {
                    let other = backups.remove(&n.parse().unwrap()).unwrap();
                    let host = other.host.clone();
                    assert_eq!(other.backup.as_deref(), Some("none"));
                    let alike = SeenLine {
                        host: line.host.clone(),
                        backup: None,
                        label: line.label.clone(),
                        ..other
                    };
                    assert_eq!(
                        SeenLine {
                            backup: None,
                            ..clone(line)
                        },
                        alike
                    );
                    host
                }
            });
        }
        assert!(backups.is_empty(), "nobody fails over to {backups:?}");
        seen.clock = Some(clock(settings));
    }
    keys(settings, model, &mut seen);
    seen
}

fn clone(line: &SeenLine) -> SeenLine {
    let credential = match &line.credential {
        Credential::Password(password) => Credential::Password(password.clone()),
        Credential::Ha1(_) => panic!("Snom has passwords"),
    };
    SeenLine {
        user: line.user.clone(),
        auth_user: line.auth_user.clone(),
        credential,
        name: line.name.clone(),
        label: line.label.clone(),
        host: line.host.clone(),
        port: line.port,
        transport: line.transport.clone(),
        srtp: line.srtp.clone(),
        backup: line.backup.clone(),
        outbound: line.outbound.clone(),
        expires_s: line.expires_s,
        voicemail: line.voicemail.clone(),
        codecs: line.codecs.clone(),
        dtmf: line.dtmf.clone(),
    }
}

/// What is written alike for identities and handsets; what the server has is at `server`.
fn account(settings: &Settings, n: u64, server: u64) -> SeenLine {
    let at = |name: &str, n: u64| {
        settings
            .get(&format!("{name}[{n}]"))
            .cloned()
            .unwrap_or_default()
    };
    let list = at("codec_priority_list", server);
    let mut codecs: Vec<String> = list.split(',').map(ToOwned::to_owned).collect();
    let events = codecs.last().is_some_and(|last| last == "telephone-event");
    if events {
        codecs.pop();
    }
    SeenLine {
        user: at("user_name", n),
        auth_user: at("user_pname", n),
        credential: Credential::Password(at("user_pass", n)),
        name: Some(at("user_realname", n)),
        label: Some(at("user_idle_text", n)),
        host: String::new(),
        port: 0,
        transport: String::new(),
        srtp: None,
        backup: None,
        outbound: None,
        expires_s: at("user_expiry", server).parse().ok(),
        voicemail: Some(at("user_mailbox", n)),
        codecs: Some(codecs),
        dtmf: Some(
            match (events, at("user_dtmf_info", server).as_str()) {
                (true, "off") => "rfc2833",
                (false, "sip_info_only") => "info",
                (false, "off") => "inband",
                other => panic!("{other:?}"),
            }
            .to_owned(),
        ),
    }
}

fn handset(settings: &Settings, n: u64) -> SeenLine {
    let of = |name: &str| settings[&format!("{name}[{n}]")].clone();
    assert_eq!(of("subscr_sip_hs_idx"), n.to_string());
    assert_eq!(of("user_mailnumber"), of("user_mailbox"));
    let server: u64 = of("subscr_sip_ua_data_server_id").parse().unwrap();
    let at = |name: &str| settings[&format!("{name}[{server}]")].clone();
    let transport = at("srv_sip_transport");
    let default = if transport == "tls" { 5061 } else { 5060 };
    let (host, port) = host_and_port(&at("user_host"), default);
    SeenLine {
        label: Some(of("subscr_sip_line_name")),
        srtp: Some(match at("user_srtp").as_str() {
            "disabled" => "off".to_owned(),
            "mandatory" => "required".to_owned(),
            other => other.to_owned(),
        }),
        outbound: Some(at("user_outbound")),
        host,
        port,
        transport,
        ..account(settings, n, server)
    }
}

/// `host:port;transport=udp`, without the brackets of an IPv6 address.
fn place(text: &str) -> (String, String) {
    let (place, transport) = text.split_once(";transport=").unwrap();
    let (host, port) = host_and_port(place, 0);
    (format!("{host}:{port}"), transport.to_owned())
}

fn host_and_port(text: &str, default: u64) -> (String, u64) {
    match text
        .strip_prefix('[')
        .map(|text| text.split_once(']').unwrap())
    {
        Some((host, "")) => (host.to_owned(), default),
        Some((host, port)) => (host.to_owned(), port[1..].parse().unwrap()),
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), port.parse().unwrap()),
            None => (text.to_owned(), default),
        },
    }
}

/// Keys are numbered from 0, and modules go on where the phone or the module before ends.
fn keys(settings: &Settings, model: &Value, seen: &mut Seen) {
    let own = model["keys"].as_u64().unwrap();
    let each = model["module_keys"].as_u64().unwrap();
    let mut count = 0;
    while let Some(action) = settings.get(&format!("fkey[{count}]")) {
        let place = if count < own {
            (0, count + 1)
        } else {
            ((count - own) / each + 1, (count - own) % each + 1)
        };
        let context = &settings[&format!("fkey[{count}]@context")];
        let label = &settings[&format!("fkey[{count}]@label")];
        count += 1;
        let (kind, argument) = action.split_once(' ').unwrap_or((action, ""));
        let (function, value) = match (kind, argument) {
            ("none", "") => {
                assert_eq!(label, "", "a blank key");
                continue;
            }
            ("line", "") => ("line", String::new()),
            ("blf", value) => ("blf", value.to_owned()),
            ("speed", value) => ("speed_dial", value.to_owned()),
            ("orbit", value) => ("park", value.to_owned()),
            ("icom", value) => ("intercom", value.to_owned()),
            ("dtmf", value) => ("dtmf", value.to_owned()),
            ("url", value) => ("url", value.to_owned()),
            ("transfer", value) => ("transfer", value.to_owned()),
            ("redirect", value) => ("forward", value.to_owned()),
            ("conference", value) => ("conference", value.to_owned()),
            ("keyevent", "F_TRANSFER") => ("transfer", String::new()),
            ("keyevent", "F_CONFERENCE") => ("conference", String::new()),
            ("keyevent", "F_REDIRECT") => ("forward", String::new()),
            ("keyevent", "F_DND") => ("dnd", String::new()),
            ("keyevent", "F_REDIAL") => ("redial", String::new()),
            ("keyevent", "F_LOGON_USER") => ("hot_desk", String::new()),
            ("keyevent", "F_RETRIEVE") => {
                let mailbox = settings.get(&format!("user_mailbox[{context}]"));
                ("voicemail", mailbox.cloned().unwrap_or_default())
            }
            _ => panic!("{action:?}"),
        };
        let key = SeenKey {
            function: function.to_owned(),
            value,
            label: Some(label.clone()),
            line: Some(context.parse().unwrap()),
        };
        seen.keys.insert(place, key);
    }
    assert!(count >= own, "key {count} is left as it was");
}

/// Seconds, then `mm.ww.dd hh:mm:ss` of the start and the end (service wiki, `dst`).
fn clock(settings: &Settings) -> SeenClock {
    let offset: i64 = settings["utc_offset"].parse().unwrap();
    let change = |day: &str, time: &str| {
        let day: Vec<i8> = day.split('.').map(|n| n.parse().unwrap()).collect();
        let time: Vec<i64> = time.split(':').map(|n| n.parse().unwrap()).collect();
        SeenChange {
            month: day[0],
            week: day[1],
            weekday: day[2],
            minute: time[0] * 60 + time[1],
        }
    };
    let words: Vec<&str> = settings["dst"].split(' ').collect();
    let summer = match words.as_slice() {
        [""] => None,
        [saving, start, start_time, end, end_time] => Some((
            saving.parse::<i64>().unwrap() / 60,
            change(start, start_time),
            change(end, end_time),
        )),
        other => panic!("{other:?}"),
    };
    SeenClock::Rule {
        offset: offset / 60,
        summer,
    }
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let name = wire.model["model"].as_str().unwrap().to_owned();
    let mac = wire.upper();
    let agent = if wire.model["generation"] == "dect" {
        format!(
            "Mozilla/4.0 (compatible; Snom {name} 05.20.0001 {})",
            wire.mac
        )
    } else {
        format!(
            "Mozilla/4.0 (compatible; snom{name}-SIP 10.1.169.16 2010.12-00001-gd311851f1 (Feb 25 2019 - 14:19:43) {mac} SXM:0 UXM:0 UXMC:0)"
        )
    };
    let mut server = wire.start.clone();
    let mut settings = Settings::new();
    for _ in 0..3 {
        // Without a file in it, two names are put behind the setting server.
        let asked = if server.ends_with('/') {
            vec![
                format!("{server}snom{name}.htm"),
                format!("{server}snom{name}-{mac}.htm"),
            ]
        } else {
            vec![server.replace("{mac}", &mac)]
        };
        for url in asked {
            let Some(text) = wire.text(&url, &agent) else {
                continue;
            };
            let file = read(&text)?;
            settings.extend(file.settings);
            for url in file.files {
                let text = wire
                    .text(&url, &agent)
                    .ok_or_else(|| format!("{url}: 404"))?;
                settings.extend(read(&text)?.settings);
            }
        }
        let next = settings
            .get("setting_server")
            .cloned()
            .ok_or("no server was set")?;
        let moved = next != server;
        server = next;
        if !moved {
            return Ok(settings);
        }
    }
    Err("it never settled".to_owned())
}

#[test]
fn the_reader_refuses_what_a_phone_could_misread() {
    let document = |inner: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<settings><phone-settings>{inner}</phone-settings></settings>\n"
        )
    };
    let one = "<a idx=\"1\" perm=\"RW\">x &amp;&quot; y</a>";
    assert_eq!(read(&document(one)).unwrap().settings["a[1]"], "x &\" y");
    for wrong in [
        format!("{one}{one}"),
        "<a>x</a>".to_owned(),
        "<a perm=\"!\">x</a>".to_owned(),
        "<a idx=\"0\" perm=\"RW\">x</a>".to_owned(),
        "<a perm=\"RW\">&#65;</a>".to_owned(),
        "<a perm=\"RW\"><b/></a>".to_owned(),
        "<a perm=\"RW\">".to_owned(),
        "x".to_owned(),
    ] {
        assert!(read(&document(&wrong)).is_err(), "{wrong}");
    }
}
