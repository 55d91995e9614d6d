//! Mitel and Aastra, as their administrator guides describe it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::clock::{SeenChange, SeenClock};
use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenKey, SeenLine, Settings};

pub static KIT: Kit = Kit {
    vendor: "mitel",
    mac: "08000f000001",
    model: "6920",
    documents: &[
        "p/boot.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/{MAC}.cfg",
        "rps/{MAC}.cfg",
    ],
    parts: &["p/boot.cfg", "p/ACC.cfg", "p/BTN.cfg"],
    merged: Some("p/{MAC}.cfg"),
    read: |_, text| read(text),
    see,
    blind: &[],
    cannot_carry: |slot, text| {
        let both = text.contains('"') && text.contains('#');
        slot != "key_value" && (text.trim() != text || text.starts_with('"') || both)
    },
    power_on,
    key_name: |key| {
        key.split(' ')
            .map(|word| {
                let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
                let numbered = ["line", "key", "expmod", "prgkey", "softkey", "topsoftkey"];
                if letters != word && numbered.contains(&letters) {
                    format!("{letters}X")
                } else {
                    word.to_owned()
                }
            })
            .collect::<Vec<_>>()
            .join(" ")
    },
};

/// Reads a file: `key: value`, comments from a # on that is in no quotes, each key once.
fn read(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let whole = text.strip_suffix('\n').ok_or("the last line has no end")?;
    for line in whole.split('\n') {
        if line.contains(char::is_control) || line.trim() != line || line.is_empty() {
            return Err(format!("{line:?}"));
        }
        if line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once(": ") {
            Some(pair) => pair,
            None => (line.strip_suffix(':').ok_or(format!("{line:?}"))?, ""),
        };
        let known = |c: char| c.is_ascii_alphanumeric() || " -[]|".contains(c);
        if key.is_empty() || !key.chars().all(known) {
            return Err(format!("{key:?} is no parameter"));
        }
        let value = if let Some(quoted) = value.strip_prefix('"') {
            let inner = quoted.strip_suffix('"').ok_or(format!("{line:?}"))?;
            if inner.contains('"') {
                return Err(format!("{line:?} has a quote in quotes"));
            }
            inner
        } else if value.contains('#') {
            return Err(format!("{line:?} ends in a comment"));
        } else {
            value
        };
        if settings.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{key} is set twice"));
        }
    }
    Ok(settings)
}

fn see(settings: &Settings, model: &Value) -> Seen {
    let get = |key: &str| settings.get(key).map_or("", String::as_str).to_owned();
    let host = |value: String| {
        if value == "0.0.0.0" {
            String::new()
        } else {
            value
        }
    };
    let mut seen = Seen::default();
    for n in 1..=model["lines"].as_u64().unwrap() {
        let of = |name: &str| get(&format!("sip line{n} {name}"));
        let user = of("user name");
        if user.is_empty() {
            let rest = of("password") + &of("auth name") + &of("screen name") + &of("vmail");
            assert_eq!(rest, "", "line {n}");
            assert_eq!(of("registrar ip"), "0.0.0.0");
            continue;
        }
        assert_eq!(of("proxy ip"), of("registrar ip"));
        assert_eq!(of("proxy port"), of("registrar port"));
        assert_eq!(of("backup proxy ip"), of("backup registrar ip"));
        assert_eq!(get("sip explicit mwi subscription"), "1");
        let outbound = host(of("outbound proxy"));
        let codecs = get("sip customized codec")
            .split(',')
            .map(|codec| {
                let payload = codec.split(';').next().unwrap();
                match payload.strip_prefix("payload=").unwrap() {
                    "0" => "pcmu",
                    "8" => "pcma",
                    "9" => "g722",
                    "18" => "g729",
                    other => panic!("{other}"),
                }
                .to_owned()
            })
            .collect();
        let dtmf = match (
            get("sip out-of-band dtmf").as_str(),
            of("dtmf method").as_str(),
        ) {
            ("0", "0") => "inband",
            ("1", "0") => "rfc2833",
            ("1", "1") => "info",
            other => panic!("{other:?}"),
        };
        let srtp: usize = of("srtp mode").parse().unwrap();
        let line = SeenLine {
            user,
            auth_user: of("auth name"),
            credential: Credential::Password(of("password")),
            name: Some(of("display name")),
            label: Some(of("screen name")),
            host: of("registrar ip"),
            port: of("registrar port").parse().unwrap(),
            transport: match get("sip transport protocol").as_str() {
                "1" => "udp",
                "2" => "tcp",
                "4" => "tls",
                other => panic!("{other}"),
            }
            .to_owned(),
            srtp: Some(["off", "optional", "required"][srtp].to_owned()),
            backup: Some(host(of("backup registrar ip"))),
            outbound: Some(if outbound.is_empty() {
                outbound
            } else {
                format!("{outbound}:{}", of("outbound proxy port"))
            }),
            expires_s: of("registration period").parse().ok(),
            voicemail: Some(of("vmail")),
            codecs: Some(codecs),
            dtmf: Some(dtmf.to_owned()),
        };
        seen.lines.insert(n, line);
    }
    seen.keys = keys(settings, model);
    seen.clock = Some(clock(settings));
    seen
}

/// All keys by module and number.
fn keys(settings: &Settings, model: &Value) -> BTreeMap<(u64, u64), SeenKey> {
    let mut keys = BTreeMap::new();
    // Programmable keys come first, then soft keys above, then those below.
    let mut n = 0;
    for kind in ["prgkey", "topsoftkey", "softkey"] {
        for at in 1.. {
            let name = format!("{kind}{at}");
            if !settings.contains_key(&format!("{name} type")) {
                break;
            }
            n += 1;
            keys.extend(key(settings, &name).map(|key| ((0, n), key)));
        }
    }
    assert_eq!(n, model["keys"].as_u64().unwrap());
    for module in 1.. {
        let prefix = format!("expmod{module} key");
        if !settings.contains_key(&format!("{prefix}1 type")) {
            break;
        }
        for n in 1..=model["module_keys"].as_u64().unwrap() {
            let key = key(settings, &format!("{prefix}{n}"));
            keys.extend(key.map(|key| ((module, n), key)));
        }
    }
    keys
}

/// A key, if it is not blank.
fn key(settings: &Settings, name: &str) -> Option<SeenKey> {
    let of = |what: &str| settings[&format!("{name} {what}")].clone();
    let mut value = of("value");
    let function = match of("type").as_str() {
        "none" => {
            assert_eq!(value + &of("label"), "", "{name}");
            return None;
        }
        "line" => "line",
        "speeddial" => "speed_dial",
        "blf" | "blfxfer" => "blf",
        "park" => {
            value.drain(..=value.find(';').unwrap());
            "park"
        }
        "xfer" => "transfer",
        "conf" => "conference",
        "dnd" => "dnd",
        "callforward" => "forward",
        "xml" => "url",
        "hotdesklogin" => "hot_desk",
        other => panic!("{other}"),
    };
    Some(SeenKey {
        function: function.to_owned(),
        value,
        label: Some(of("label")),
        line: of("line").parse().ok(),
    })
}

fn clock(settings: &Settings) -> SeenClock {
    let number = |key: &str| settings[key].parse::<i64>().unwrap();
    assert_eq!(settings["time zone name"], "Custom");
    let change = |which: &str| {
        let of = |what: &str| number(&format!("dst {which} {what}"));
        assert_eq!(of("relative date"), 1);
        SeenChange {
            month: of("month").try_into().unwrap(),
            week: match of("week") {
                -1 => 5,
                week => week.try_into().unwrap(),
            },
            // 1 is Sunday.
            weekday: match of("day") {
                1 => 7,
                day => (day - 1).try_into().unwrap(),
            },
            minute: of("hour") * 60,
        }
    };
    let summer = (number("dst config") == 3)
        .then(|| (number("dst minutes"), change("start"), change("end")));
    SeenClock::Rule {
        offset: -number("time zone minutes"),
        summer,
    }
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let model = wire.model["model"].as_str().unwrap().to_owned();
    let former = wire.model["generation"] == "former";
    let dashed = wire.colons().replace(':', "-").to_ascii_uppercase();
    let (agent, first) = if former {
        (
            format!("Aastra{model} MAC:{dashed} V:3.3.1.4365-SIP"),
            "aastra.cfg",
        )
    } else {
        (
            format!("Mitel{model} MAC:{dashed} V:6.4.0.140-SIP"),
            "startup.cfg",
        )
    };
    let names = [
        first.to_owned(),
        format!("{model}.cfg"),
        format!("{}.cfg", wire.upper()),
    ];
    let mut server = wire.start.clone();
    let mut settings = Settings::new();
    for _ in 0..3 {
        for name in &names {
            if let Some(text) = wire.text(&format!("{server}{name}"), &agent) {
                settings.extend(read(&text)?);
            }
        }
        let of = |key: &str| settings.get(key).cloned().ok_or(format!("no {key}"));
        let protocol = of("download protocol")?.to_ascii_lowercase();
        let host = of(&format!("{protocol} server"))?;
        let port = match of(&format!("{protocol} port"))?.as_str() {
            "443" if protocol == "https" => String::new(),
            port => format!(":{port}"),
        };
        let path = of(&format!("{protocol} path"))?;
        let next = format!("{protocol}://{host}{port}{path}/");
        // It looks each day.
        if of("auto resync mode")? != "1" || of("contact rcs")? != "0" {
            return Err("it never asks again, or asks elsewhere".to_owned());
        }
        if next == server {
            return Ok(settings);
        }
        server = next;
    }
    Err("it never settled".to_owned())
}

#[test]
fn the_reader_refuses_what_a_phone_could_misread() {
    let fine = "# why\na b: 1 \"x\"\nc: \"#1\"\nd:\n";
    let read_fine = read(fine).unwrap();
    assert_eq!(read_fine["a b"], "1 \"x\"");
    assert_eq!(read_fine["c"], "#1");
    assert_eq!(read_fine["d"], "");
    for wrong in [
        "a: 1",
        "a: 1 # x\n",
        "a: 1\na: 2\n",
        "a: \"x\n",
        "a: \"x\"y\"\n",
        "a\n",
        "\n",
        "a: 1 \n",
        "a=b: 1\n",
        "a: 1\r\n",
    ] {
        assert!(read(wrong).is_err(), "{wrong:?}");
    }
}
