//! Yealink, as its auto provisioning and administrator guides describe it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::clock::{SeenChange, SeenClock};
use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenKey, SeenLine, Settings, dotted_name};
use crate::readers;

pub static KIT: Kit = Kit {
    vendor: "yealink",
    mac: "805ec0000001",
    model: "T43U",
    documents: &[
        "p/boot.cfg",
        "p/first.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/{mac}.cfg",
        "rps/{mac}.boot",
    ],
    parts: &["p/first.cfg", "p/ACC.cfg", "p/BTN.cfg"],
    merged: Some("p/{mac}.cfg"),
    read,
    see,
    blind: &[],
    cannot_carry: |slot, text| slot != "key_value" && (text == "%NULL%" || text.trim() != text),
    power_on,
    key_name: |key| dotted_name(key.split(':').next().unwrap_or_default()),
};

fn read(_: &str, text: &str) -> Result<Settings, String> {
    Ok(readers::yealink(text)?.settings)
}

fn see(settings: &Settings, model: &Value) -> Seen {
    let get = |key: &str| settings.get(key).map_or("", String::as_str).to_owned();
    let number = |key: &str| get(key).parse::<u64>().unwrap_or(0);
    let mut seen = Seen::default();
    for n in 1..=model["lines"].as_u64().unwrap() {
        let of = |name: &str| get(&format!("account.{n}.{name}"));
        if of("enable") != "1" {
            for name in ["user_name", "password", "sip_server.1.address", "label"] {
                assert_eq!(of(name), "", "line {n} is off and keeps its {name}");
            }
            continue;
        }
        let mut codecs: Vec<(u64, String)> = ["g722", "pcma", "pcmu", "g729", "opus"]
            .into_iter()
            .filter(|codec| of(&format!("codec.{codec}.enable")) == "1")
            .map(|codec| {
                let rank = number(&format!("account.{n}.codec.{codec}.priority"));
                (rank, codec.to_owned())
            })
            .collect();
        codecs.sort();
        if model["generation"] == "dect" {
            assert_eq!(number(&format!("handset.{n}.incoming_lines")), n);
            assert_eq!(number(&format!("handset.{n}.dial_out_lines")), n);
            assert_eq!(get(&format!("handset.{n}.name")), of("label"));
        }
        if !of("sip_server.2.address").is_empty() {
            for name in ["port", "transport_type", "expires"] {
                let first = of(&format!("sip_server.1.{name}"));
                assert_eq!(of(&format!("sip_server.2.{name}")), first);
            }
            assert_eq!(of("fallback.redundancy_type"), "1");
        }
        let choice = |name: &str, words: &[&str]| {
            let value: usize = of(name).parse().unwrap();
            words[value].to_owned()
        };
        let line = SeenLine {
            user: of("user_name"),
            auth_user: of("auth_name"),
            credential: Credential::Password(of("password")),
            name: Some(of("display_name")),
            label: Some(of("label")),
            host: of("sip_server.1.address"),
            port: of("sip_server.1.port").parse().unwrap(),
            transport: choice("sip_server.1.transport_type", &["udp", "tcp", "tls"]),
            srtp: Some(choice("srtp_encryption", &["off", "optional", "required"])),
            backup: Some(of("sip_server.2.address")),
            outbound: Some(match of("outbound_proxy_enable").as_str() {
                "1" => format!(
                    "{}:{}",
                    of("outbound_proxy.1.address"),
                    of("outbound_proxy.1.port")
                ),
                _ => String::new(),
            }),
            expires_s: of("sip_server.1.expires").parse().ok(),
            voicemail: Some(get(&format!("voice_mail.number.{n}"))),
            codecs: Some(codecs.into_iter().map(|(_, codec)| codec).collect()),
            dtmf: Some(choice("dtmf.type", &["inband", "rfc2833", "info"])),
        };
        seen.lines.insert(n, line);
    }
    let modules = settings
        .keys()
        .filter_map(|key| {
            key.strip_prefix("expansion_module.")?
                .split('.')
                .next()?
                .parse()
                .ok()
        })
        .max()
        .unwrap_or(0);
    for module in 0..=modules {
        let keys = if module == 0 {
            &model["keys"]
        } else {
            &model["module_keys"]
        };
        for n in 1..=keys.as_u64().unwrap() {
            let prefix = match module {
                0 => format!("linekey.{n}"),
                _ => format!("expansion_module.{module}.key.{n}"),
            };
            let of = |name: &str| get(&format!("{prefix}.{name}"));
            if let Some(function) = function(&of("type")) {
                let key = SeenKey {
                    function: function.to_owned(),
                    value: of("value"),
                    label: Some(of("label")),
                    line: of("line").parse().ok(),
                };
                seen.keys.insert((module, n), key);
            }
        }
    }
    seen.clock = Some(clock(settings));
    seen
}

/// The administrator guide's "DSS key types".
fn function(code: &str) -> Option<&'static str> {
    let names: BTreeMap<&str, &str> = [
        ("1", "conference"),
        ("2", "forward"),
        ("3", "transfer"),
        ("5", "dnd"),
        ("6", "redial"),
        ("9", "pickup"),
        ("10", "park"),
        ("11", "dtmf"),
        ("12", "voicemail"),
        ("13", "speed_dial"),
        ("14", "intercom"),
        ("15", "line"),
        ("16", "blf"),
        ("17", "url"),
        ("34", "hot_desk"),
    ]
    .into();
    match code {
        "0" => None,
        code => Some(names[code]),
    }
}

fn clock(settings: &Settings) -> SeenClock {
    let zone = &settings["local_time.time_zone"];
    let (hours, minutes) = zone.split_once(':').unwrap_or((zone, "0"));
    let hours: i64 = hours.parse().unwrap();
    let minutes: i64 = minutes.parse().unwrap();
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let change = |key: &str| {
        // Month/week/weekday/hour.
        let parts: Vec<i64> = settings[key]
            .split('/')
            .map(|n| n.parse().unwrap())
            .collect();
        SeenChange {
            month: parts[0].try_into().unwrap(),
            week: parts[1].try_into().unwrap(),
            weekday: parts[2].try_into().unwrap(),
            minute: parts[3] * 60,
        }
    };
    let summer = (settings["local_time.summer_time"] != "0").then(|| {
        assert_eq!(settings["local_time.dst_time_type"], "1");
        let saving = settings["local_time.offset_time"].parse().unwrap();
        let ends = (
            change("local_time.start_time"),
            change("local_time.end_time"),
        );
        (saving, ends.0, ends.1)
    });
    SeenClock::Rule {
        offset: hours * 60 + sign * minutes,
        summer,
    }
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let name = wire.model["model"].as_str().unwrap().to_owned();
    let agent = format!("Yealink SIP-{name} 96.86.0.75 {}", wire.colons());
    let former = wire.model["generation"] == "former";
    let mac = wire.mac.clone();
    let mut server = wire.start.clone();
    let mut settings = Settings::new();
    // It starts again when it was told another server and got no account: then it polls.
    for _ in 0..3 {
        let mut files = Vec::new();
        let boot = if former {
            None
        } else {
            let own = wire.text(&format!("{server}{mac}.boot"), &agent);
            own.or_else(|| wire.text(&format!("{server}y000000000000.boot"), &agent))
        };
        if let Some(boot) = boot {
            let boot = readers::yealink(&boot)?;
            for url in boot.includes {
                // A relative one lies beside the boot file.
                let url = if url.contains("://") {
                    url
                } else {
                    format!("{server}{url}")
                };
                let url = url.replace("$MAC", &mac);
                files.extend(wire.text(&url, &agent));
            }
        } else {
            let code = "y000000000007.cfg";
            files.extend(wire.text(&format!("{server}{code}"), &agent));
            files.extend(wire.text(&format!("{server}{mac}.cfg"), &agent));
        }
        for file in files {
            settings.extend(readers::yealink(&file)?.settings);
        }
        let key = if former {
            "auto_provision.server.url"
        } else {
            "static.auto_provision.server.url"
        };
        let next = settings.get(key).cloned().ok_or("no server was set")?;
        let moved = next != server;
        server = next;
        if !moved {
            return Ok(settings);
        }
    }
    Err("it never settled".to_owned())
}
