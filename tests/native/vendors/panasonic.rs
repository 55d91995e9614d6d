//! Panasonic, as the administrator guides of the KX-UT and KX-HDV describe it.

use serde_json::Value;

use super::clock::{SeenChange, SeenClock};
use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenKey, SeenLine, Settings};

pub static KIT: Kit = Kit {
    vendor: "panasonic",
    mac: "0080f0000001",
    model: "KX-HDV230",
    documents: &[
        "p/boot.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/Config{MAC}.cfg",
        "rps/Config{MAC}.cfg",
    ],
    parts: &["p/boot.cfg", "p/ACC.cfg", "p/BTN.cfg"],
    merged: Some("p/Config{MAC}.cfg"),
    read: |_, text| read(text),
    see,
    // It shows a line by its number and name; a key's account is in a line key alone.
    blind: &["label", "srtp", "dtmf"],
    cannot_carry: |slot, text| slot != "key_value" && (text.contains('"') || text.len() > 500),
    power_on,
    key_name: |key| {
        let letters = key.trim_end_matches(|c: char| c.is_ascii_digit());
        let numbered = letters.ends_with('_') || letters.starts_with("FLEX_BUTTON_");
        if letters != key && numbered {
            // CODEC_ENABLE0_1 has two.
            let first = letters.trim_end_matches('_');
            let bare = first.trim_end_matches(|c: char| c.is_ascii_digit());
            let bare = if bare.starts_with("CODEC_") && bare != first {
                format!("{bare}X_")
            } else {
                letters.to_owned()
            };
            format!("{bare}X")
        } else {
            key.to_owned()
        }
    },
};

/// Reads a file by the guide's "Configuration File Specifications".
fn read(text: &str) -> Result<Settings, String> {
    let whole = text
        .strip_suffix("\r\n\r\n")
        .ok_or("no empty line at the end")?;
    let mut lines = whole.split("\r\n");
    let first = "# Panasonic SIP Phone Standard Format File # DO NOT CHANGE THIS LINE!";
    if lines.next() != Some(first) {
        return Err("the first line is not the prescribed one".to_owned());
    }
    let mut settings = Settings::new();
    for line in lines {
        if line.len() + 2 > 537 || line.contains(char::is_control) || line.is_empty() {
            return Err(format!("{line:?}"));
        }
        if line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(format!("{line:?}"))?;
        let known = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if key.is_empty() || key.len() > 32 || !key.chars().all(known) {
            return Err(format!("{key:?} is no parameter"));
        }
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .ok_or(format!("{line:?} has no quotes"))?;
        if value.contains('"') || value.len() > 500 {
            return Err(format!("{value:?}"));
        }
        if settings.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{key} is set twice"));
        }
    }
    Ok(settings)
}

fn see(settings: &Settings, model: &Value) -> Seen {
    let get = |key: &str| settings.get(key).map_or("", String::as_str).to_owned();
    let mut seen = Seen::default();
    for n in 1..=model["lines"].as_u64().unwrap() {
        let of = |name: &str| get(&format!("{name}_{n}"));
        if of("LINE_ENABLE") != "Enabled" {
            let rest =
                of("PHONE_NUMBER") + &of("SIP_AUTHID") + &of("SIP_PASS") + &of("SIP_RGSTR_ADDR");
            assert_eq!(rest, "", "line {n}");
            continue;
        }
        let host = of("SIP_RGSTR_ADDR");
        assert_eq!(of("SIP_PRXY_ADDR"), host);
        assert_eq!(of("SIP_PRXY_PORT"), of("SIP_RGSTR_PORT"));
        assert_eq!(of("SIP_2NDPROXY_ADDR"), of("SIP_2NDRGSTR_ADDR"));
        let user = of("PHONE_NUMBER");
        let literal = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        assert_eq!(of("SIP_URI"), format!("sip:{user}@{literal}"));
        let mut codecs: Vec<(u8, String)> = ["g722", "pcma", "", "g729", "pcmu"]
            .into_iter()
            .enumerate()
            .filter(|(id, _)| of(&format!("CODEC_ENABLE{id}")) == "Y")
            .map(|(id, name)| {
                let rank = of(&format!("CODEC_PRIORITY{id}"));
                (rank.parse().unwrap(), name.to_owned())
            })
            .collect();
        codecs.sort();
        let transport: usize = of("SIP_TRANSPORT").parse().unwrap();
        let outbound = of("SIP_OUTPROXY_ADDR");
        let line = SeenLine {
            user,
            auth_user: of("SIP_AUTHID"),
            credential: Credential::Password(of("SIP_PASS")),
            name: Some(of("DISPLAY_NAME")),
            label: None,
            host,
            port: of("SIP_RGSTR_PORT").parse().unwrap(),
            transport: ["udp", "tcp", "tls"][transport].to_owned(),
            srtp: None,
            backup: Some(of("SIP_2NDRGSTR_ADDR")),
            outbound: Some(if outbound.is_empty() {
                outbound
            } else {
                format!("{outbound}:{}", of("SIP_OUTPROXY_PORT"))
            }),
            expires_s: of("REG_EXPIRE_TIME").parse().ok(),
            voicemail: Some(of("VM_NUMBER")),
            codecs: Some(codecs.into_iter().map(|(_, name)| name).collect()),
            dtmf: None,
        };
        seen.lines.insert(n, line);
    }
    for n in 1..=model["keys"].as_u64().unwrap() {
        let of = |name: &str| settings[&format!("FLEX_BUTTON_{name}{n}")].clone();
        let (act, arg, dial) = (of("FACILITY_ACT"), of("FACILITY_ARG"), of("QUICK_DIAL"));
        let (function, value, line) = match (act.as_str(), dial.as_str()) {
            ("X_PANASONIC_IPTEL_DN", "") => ("line", String::new(), arg.parse().ok()),
            ("X_PANASONIC_IPTEL_CONTACT", "") => ("blf", arg, None),
            ("", "") => {
                assert_eq!(arg + &of("LABEL"), "", "key {n}");
                continue;
            }
            ("", _) => ("speed_dial", dial, None),
            other => panic!("{other:?}"),
        };
        let key = SeenKey {
            function: function.to_owned(),
            value,
            label: Some(of("LABEL")),
            line,
        };
        seen.keys.insert((0, n), key);
    }
    let number = |key: &str| settings[key].parse::<i64>().unwrap();
    let change = |which: &str| {
        let of = |what: &str| number(&format!("DST_{which}_{what}"));
        SeenChange {
            month: of("MONTH").try_into().unwrap(),
            week: of("ORDINAL_DAY").try_into().unwrap(),
            weekday: match of("DAY_OF_WEEK") {
                0 => 7,
                day => day.try_into().unwrap(),
            },
            minute: of("TIME"),
        }
    };
    let summer = (settings["DST_ENABLE"] == "Y")
        .then(|| (number("DST_OFFSET"), change("START"), change("STOP")));
    seen.clock = Some(SeenClock::Rule {
        offset: number("TIME_ZONE"),
        summer,
    });
    seen
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let model = wire.model["model"].as_str().unwrap().to_owned();
    let agent = format!("Panasonic_{model}/01.133 ({})", wire.mac);
    let mut url = format!("{}{model}.cfg", wire.start);
    let mut settings = Settings::new();
    for _ in 0..4 {
        let text = wire.text(&url, &agent).ok_or(format!("{url}: 404"))?;
        settings.extend(read(&text)?);
        let path = settings.get("CFG_STANDARD_FILE_PATH").ok_or("no path")?;
        let next = path.replace("{MAC}", &wire.upper());
        if next == url {
            if settings["CFG_CYCLIC"] != "Y" || settings["OPTION66_ENABLE"] != "N" {
                return Err("it never asks again, or asks elsewhere".to_owned());
            }
            return Ok(settings);
        }
        url = next;
    }
    Err("it never settled".to_owned())
}

#[test]
fn the_reader_refuses_what_a_phone_could_misread() {
    let first = "# Panasonic SIP Phone Standard Format File # DO NOT CHANGE THIS LINE!\r\n";
    let fine = read(&format!("{first}# x\r\nA_1=\"x = #y\"\r\nB=\"\"\r\n\r\n")).unwrap();
    assert_eq!(fine["A_1"], "x = #y");
    assert_eq!(fine["B"], "");
    for wrong in [
        "A=\"1\"\r\n",
        "A=\"1\"\n\r\n\r\n",
        "A=1\r\n\r\n",
        "A = \"1\"\r\n\r\n",
        "A=\"1\"\"\r\n\r\n",
        "A=\"1\"\r\nA=\"2\"\r\n\r\n",
        "a=\"1\"\r\n\r\n",
    ] {
        assert!(read(&format!("{first}{wrong}")).is_err(), "{wrong:?}");
    }
    assert!(read("A=\"1\"\r\n\r\n").is_err());
    assert!(read(&format!("{first}A=\"{}\"\r\n\r\n", "x".repeat(501))).is_err());
}
