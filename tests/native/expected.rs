//! What a vendor's files must say for a case, told from its `case.json` and the vendors' manuals
//! alone: no type and no template of Dialtone's is used here.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use serde_json::Value;

use crate::fixtures::Case;
use crate::readers;
use crate::world::hex;

/// Keys and their values.
pub type Settings = BTreeMap<String, String>;

/// A Yealink phone's settings, file by file.
pub struct Yealink {
    /// The comment of the boot file.
    pub about: String,
    pub first: Settings,
    pub acc: Settings,
    pub btn: Settings,
}

/// A Linphone's settings, file by file.
pub struct Linphone {
    pub boot: Settings,
    pub acc: Settings,
}

/// A line with its account and PBX.
struct Line<'a> {
    number: u64,
    label: &'a str,
    account: &'a Value,
    pbx: &'a Value,
}

fn str(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn lines(case: &Case) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = case.device()["lines"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|line| {
            let account = case.record("accounts", str(&line["account"]));
            Line {
                number: line["line"].as_u64().unwrap(),
                label: line["label"].as_str().unwrap_or(display_name(account)),
                account,
                pbx: case.record("pbxes", str(&account["pbx"])),
            }
        })
        .collect();
    lines.sort_by_key(|line| line.number);
    lines
}

fn display_name(account: &Value) -> &str {
    account["display_name"]
        .as_str()
        .unwrap_or(str(&account["username"]))
}

fn auth_username(account: &Value) -> &str {
    account["auth_username"]
        .as_str()
        .unwrap_or(str(&account["username"]))
}

fn port(sip: &Value) -> u64 {
    sip["port"]
        .as_u64()
        .unwrap_or(if sip["transport"] == "tls" {
            5061
        } else {
            5060
        })
}

/// A setting of the device, else of its profile, else of its tenant.
fn setting<'a>(case: &'a Case, name: &str) -> &'a Value {
    let device = case.device();
    let levels = [
        device,
        case.record("profiles", str(&device["profile"])),
        case.record("tenants", str(&device["tenant"])),
    ];
    levels
        .into_iter()
        .map(|level| &level["settings"][name])
        .find(|value| !value.is_null())
        .unwrap_or(&Value::Null)
}

/// Lines, keys, modules and keys of a module, as the data sheets have them.
fn model(name: &str) -> (u64, u64, u64) {
    match name {
        "T46U" | "T54W" => (16, 27, 60),
        "T31P" => (2, 2, 0),
        other => panic!("what has a {other}?"),
    }
}

/// The part that says where to provision from.
pub fn yealink_server(url: &str, minutes: u64) -> Settings {
    let mut settings = Settings::new();
    for prefix in ["static.", ""] {
        for (key, value) in [
            ("auto_provision.server.url", url),
            ("auto_provision.power_on", "1"),
            ("auto_provision.repeat.enable", "1"),
            ("auto_provision.repeat.minutes", &minutes.to_string()),
            ("auto_provision.dhcp_option.enable", "0"),
            ("auto_provision.pnp_enable", "0"),
            ("zero_touch.enable", "0"),
        ] {
            settings.insert(format!("{prefix}{key}"), value.to_owned());
        }
    }
    settings
}

/// What a Yealink phone must be told.
pub fn yealink(case: &Case) -> Yealink {
    let device = case.device();
    let user_type = device["user_type"].as_str().unwrap_or("standard");
    let lines = lines(case);
    Yealink {
        about: format!(
            "{} 805ec0000001, user type {user_type}",
            str(&device["model"])
        ),
        first: yealink_first(case),
        acc: yealink_acc(case, &lines),
        btn: yealink_btn(case, &lines),
    }
}

fn yealink_first(case: &Case) -> Settings {
    let boot = readers::yealink(&case.documents["p/boot.cfg"]).unwrap();
    let base = boot.includes[0].strip_suffix("first.cfg").unwrap();
    let language = match str(setting(case, "language")) {
        "" => "English",
        "de" => "German",
        "es" => "Spanish",
        other => panic!("what does Yealink call {other}?"),
    };
    let mut first = yealink_server(
        base,
        setting(case, "resync_minutes").as_u64().unwrap_or(1_440),
    );
    let mut set =
        |key: &str, value: &str| assert!(first.insert(key.to_owned(), value.to_owned()).is_none());
    set("static.auto_provision.custom.protect", "0");
    set("sip.notify_reboot_enable", "0");
    set("lang.gui", language);
    set("lang.wui", language);
    set(
        "local_time.ntp_server1",
        setting(case, "ntp_server")
            .as_str()
            .unwrap_or("pool.ntp.org"),
    );
    set(
        "local_time.time_format",
        if *setting(case, "clock_24h") == false {
            "0"
        } else {
            "1"
        },
    );
    set(
        "call_waiting.enable",
        if *setting(case, "call_waiting") == false {
            "0"
        } else {
            "1"
        },
    );
    // Month, week of the month, weekday from Monday, hour: as timeanddate.com has them.
    let (offset, summer) = match str(setting(case, "timezone")) {
        "" => ("0", None),
        "Europe/Berlin" => ("+1", Some(("3/5/7/2", "10/5/7/3"))),
        "America/New_York" => ("-5", Some(("3/2/7/2", "11/1/7/2"))),
        "Australia/Adelaide" => ("+9:30", Some(("10/1/7/2", "4/1/7/3"))),
        other => panic!("when is summer in {other}?"),
    };
    set("local_time.time_zone", offset);
    set(
        "local_time.summer_time",
        if summer.is_some() { "1" } else { "0" },
    );
    if let Some((start, end)) = summer {
        set("local_time.dst_time_type", "1");
        set("local_time.start_time", start);
        set("local_time.end_time", end);
        set("local_time.offset_time", "60");
    }
    first
}

fn yealink_acc(case: &Case, lines: &[Line<'_>]) -> Settings {
    let mut acc = Settings::new();
    let mut set = |key: String, value: &str| assert!(acc.insert(key, value.to_owned()).is_none());
    let codecs = setting(case, "codecs")
        .as_array()
        .map_or(vec!["g722", "pcma", "pcmu"], |codecs| {
            codecs.iter().map(str).collect()
        });
    for line in lines {
        let (n, account, sip) = (line.number, line.account, &line.pbx["sip"]);
        let transport = ["udp", "tcp", "tls"]
            .iter()
            .position(|t| *t == sip["transport"].as_str().unwrap_or("udp"));
        let transport = transport.unwrap().to_string();
        let port = port(sip).to_string();
        let srtp = ["off", "optional", "required"]
            .iter()
            .position(|s| *s == sip["srtp"].as_str().unwrap_or("off"));
        let backup = str(&sip["backup_host"]);
        let expires = sip["expires_s"].as_u64().unwrap_or(600).to_string();
        set(format!("voice_mail.number.{n}"), str(&account["voicemail"]));
        for (key, value) in [
            ("enable", "1"),
            ("label", line.label),
            ("display_name", display_name(account)),
            ("user_name", str(&account["username"])),
            ("auth_name", auth_username(account)),
            ("password", str(&account["password"])),
            ("sip_server.1.address", str(&sip["host"])),
            ("sip_server.1.port", &port),
            ("sip_server.1.transport_type", &transport),
            ("sip_server.1.expires", &expires),
            ("sip_server.2.address", backup),
            ("outbound_proxy_enable", "0"),
            ("outbound_proxy.1.address", ""),
            ("dtmf.type", "1"),
            ("srtp_encryption", &srtp.unwrap().to_string()),
            ("subscribe_mwi", "1"),
        ] {
            set(format!("account.{n}.{key}"), value);
        }
        if !backup.is_empty() {
            set(format!("account.{n}.fallback.redundancy_type"), "1");
            set(format!("account.{n}.sip_server.2.port"), &port);
            set(format!("account.{n}.sip_server.2.expires"), &expires);
            set(
                format!("account.{n}.sip_server.2.transport_type"),
                &transport,
            );
        }
        for codec in ["g722", "g729", "opus", "pcma", "pcmu"] {
            let rank = codecs.iter().position(|c| *c == codec).map_or(0, |n| n + 1);
            set(
                format!("account.{n}.codec.{codec}.enable"),
                if rank > 0 { "1" } else { "0" },
            );
            set(
                format!("account.{n}.codec.{codec}.priority"),
                &rank.to_string(),
            );
        }
    }
    for n in 1..=model(str(&case.device()["model"])).0 {
        if !lines.iter().any(|line| line.number == n) {
            set(format!("account.{n}.enable"), "0");
            set(format!("voice_mail.number.{n}"), "");
            for key in [
                "label",
                "display_name",
                "user_name",
                "auth_name",
                "password",
            ] {
                set(format!("account.{n}.{key}"), "");
            }
            for server in [1, 2] {
                set(format!("account.{n}.sip_server.{server}.address"), "");
            }
            set(format!("account.{n}.outbound_proxy.1.address"), "");
        }
    }
    acc
}

fn yealink_btn(case: &Case, lines: &[Line<'_>]) -> Settings {
    let device = case.device();
    let (_, keys, module_keys) = model(str(&device["model"]));
    let buttons: Vec<&Value> = device["buttons"].as_array().into_iter().flatten().collect();
    let transfer = match str(setting(case, "transfer")) {
        "new_call" => "0",
        "" | "attended" => "1",
        _ => "2",
    };
    let mut btn = Settings::from([("transfer.dsskey_deal_type".to_owned(), transfer.to_owned())]);
    let mut set = |prefix: &str, [kind, line, value, label]: [&str; 4]| {
        for (key, value) in [
            ("type", kind),
            ("line", line),
            ("value", value),
            ("label", label),
        ] {
            assert!(
                btn.insert(format!("{prefix}.{key}"), value.to_owned())
                    .is_none()
            );
        }
    };
    let mut place = |prefix: &str, module: Option<u64>, n: u64| {
        let button = buttons
            .iter()
            .find(|b| b["module"].as_u64() == module && b["key"] == n);
        if let Some(button) = button {
            let number = button["line"].as_u64().unwrap_or(1);
            let line = lines.iter().find(|line| line.number == number);
            let own = str(&button["value"]);
            let value = match (str(&button["type"]), line) {
                ("voicemail", Some(line)) if own.is_empty() => str(&line.account["voicemail"]),
                _ => own,
            };
            let label = match (button["label"].as_str(), str(&button["type"]), line) {
                (Some(label), ..) => label,
                (None, "line", Some(line)) => line.label,
                _ => own,
            };
            set(
                prefix,
                [
                    yealink_type(str(&button["type"])),
                    &number.to_string(),
                    value,
                    label,
                ],
            );
            return;
        }
        // Without a key of its own on the phone, the first ones are the lines'.
        let bare = module.is_none() && buttons.iter().all(|button| !button["module"].is_null());
        match lines.iter().find(|line| bare && line.number == n) {
            Some(line) => set(prefix, ["15", &n.to_string(), "", line.label]),
            None => set(prefix, ["0", "0", "", ""]),
        }
    };
    for n in 1..=keys {
        place(&format!("linekey.{n}"), None, n);
    }
    let modules = buttons
        .iter()
        .filter_map(|button| button["module"].as_u64())
        .max()
        .unwrap_or(0);
    for module in 1..=modules {
        for n in 1..=module_keys {
            place(
                &format!("expansion_module.{module}.key.{n}"),
                Some(module),
                n,
            );
        }
    }
    btn
}

/// Yealink's administrator guide, "DSS Keys".
fn yealink_type(function: &str) -> &'static str {
    match function {
        "none" => "0",
        "conference" => "1",
        "forward" => "2",
        "transfer" => "3",
        "dnd" => "5",
        "redial" => "6",
        "pickup" => "9",
        "park" => "10",
        "dtmf" => "11",
        "voicemail" => "12",
        "speed_dial" => "13",
        "intercom" => "14",
        "line" => "15",
        "blf" => "16",
        other => panic!("what number has a {other} key?"),
    }
}

/// Codecs and tones of a Linphone.
fn linphone_media(case: &Case) -> Settings {
    let mut media = Settings::new();
    let mut set = |key: String, value: &str| assert!(media.insert(key, value.to_owned()).is_none());
    set("sip/use_rfc2833".to_owned(), "1");
    set("sip/use_info".to_owned(), "0");
    let wanted = setting(case, "codecs");
    let wanted: Vec<&str> = match wanted.as_array() {
        Some(codecs) => codecs.iter().map(str).collect(),
        None => vec!["g722", "pcma", "pcmu"],
    };
    let known = [
        ("g722", "G722"),
        ("pcma", "PCMA"),
        ("pcmu", "PCMU"),
        ("g729", "G729"),
        ("opus", "opus"),
    ];
    let off = known.iter().filter(|(name, _)| !wanted.contains(name));
    let on = wanted
        .iter()
        .map(|name| known.iter().find(|(known, _)| known == name).unwrap());
    for (n, (name, mime)) in on.chain(off).enumerate() {
        let rate = if *mime == "opus" { "48000" } else { "8000" };
        let enabled = if wanted.contains(name) { "1" } else { "0" };
        for (key, value) in [("mime", *mime), ("rate", rate), ("enabled", enabled)] {
            set(format!("audio_codec_{n}/{key}"), value);
        }
    }
    media
}

/// What a Linphone must be told; `base` is where its files are.
pub fn linphone(case: &Case, base: &str) -> Linphone {
    let device = case.device();
    let mac = "0a5ec0000001";
    let boot = [
        ("misc/config-uri", format!("{base}{mac}.xml")),
        ("dialtone/model", str(&device["model"]).to_owned()),
        ("dialtone/mac", mac.to_owned()),
        (
            "dialtone/user_type",
            device["user_type"]
                .as_str()
                .unwrap_or("standard")
                .to_owned(),
        ),
        ("dialtone/acc", format!("{base}ACC.cfg")),
        ("dialtone/btn", format!("{base}BTN.cfg")),
    ];
    let lines = lines(case);
    let mut acc = linphone_media(case);
    let mut set = |key: String, value: &str| assert!(acc.insert(key, value.to_owned()).is_none());
    for (n, line) in lines.iter().enumerate() {
        let (account, sip) = (line.account, &line.pbx["sip"]);
        let user = str(&account["username"]);
        let realm = line.pbx["realm"].as_str().unwrap_or("asterisk");
        let host = str(&sip["host"]);
        // An IPv6 address stands in brackets (RFC 3986, 3.2.2).
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let transport = sip["transport"].as_str().unwrap_or("udp");
        // RFC 3261, 25.1: a quoted-string escapes the quote and the backslash.
        let name = display_name(account)
            .replace('\\', r"\\")
            .replace('"', "\\\"");
        let ha1 = format!(
            "{}:{realm}:{}",
            auth_username(account),
            str(&account["password"])
        );
        for (key, value) in [
            (
                "reg_proxy",
                format!("<sip:{host}:{};transport={transport}>", port(sip)),
            ),
            ("reg_identity", format!("\"{name}\" <sip:{user}@{host}>")),
            ("reg_expires", "600".to_owned()),
            ("reg_route", String::new()),
            ("reg_sendregister", "1".to_owned()),
            ("realm", realm.to_owned()),
            ("publish", "0".to_owned()),
        ] {
            set(format!("proxy_{n}/{key}"), &value);
        }
        for (key, value) in [
            ("username", user),
            ("userid", auth_username(account)),
            ("ha1", &hex(&Md5::digest(ha1))),
            ("realm", realm),
            ("domain", &host),
            ("algorithm", "MD5"),
        ] {
            set(format!("auth_info_{n}/{key}"), value);
        }
    }
    for n in lines.len()..4 {
        for key in ["reg_proxy", "reg_identity"] {
            set(format!("proxy_{n}/{key}"), "");
        }
        set(format!("proxy_{n}/reg_sendregister"), "0");
        for key in ["username", "userid", "ha1"] {
            set(format!("auth_info_{n}/{key}"), "");
        }
    }
    let srtp = lines.first().map_or("off", |line| {
        line.pbx["sip"]["srtp"].as_str().unwrap_or("off")
    });
    set(
        "sip/default_proxy".to_owned(),
        if lines.is_empty() { "-1" } else { "0" },
    );
    set(
        "sip/media_encryption".to_owned(),
        if srtp == "off" { "none" } else { "srtp" },
    );
    set(
        "sip/media_encryption_mandatory".to_owned(),
        if srtp == "required" { "1" } else { "0" },
    );
    Linphone {
        boot: boot.map(|(key, value)| (key.to_owned(), value)).into(),
        acc,
    }
}
