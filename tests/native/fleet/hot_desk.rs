//! A user at a phone of each vendor: what the phone has then is the user's, and afterwards it is what it was.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::catalogue::{documents, model, office};
use crate::ask::{call, patch, put};
use crate::vendors::{Credential, KITS, Kit};
use crate::world::Fake;

/// The user's keys: more than any phone has, of every type, on the phone and on modules.
fn buttons() -> Vec<Value> {
    let types = [
        "line",
        "blf",
        "speed_dial",
        "transfer",
        "voicemail",
        "park",
        "pickup",
        "intercom",
        "dtmf",
        "conference",
        "dnd",
        "forward",
        "redial",
        "url",
        "hot_desk",
        "none",
    ];
    let places = (1..=40)
        .map(|key| (None, key))
        .chain((1..=40).map(|key| (Some(2), key)));
    places
        .zip(types.iter().cycle())
        .map(|((module, key), function)| {
            let mut button = json!({ "key": key, "type": function });
            if let Some(module) = module {
                button["module"] = module.into();
            }
            match *function {
                "url" => button["value"] = "https://intranet.example.com/users-own".into(),
                "blf" | "speed_dial" | "park" | "pickup" | "intercom" | "dtmf" => {
                    button["value"] = format!("77{key:03}").into();
                }
                _ => {}
            }
            button
        })
        .collect()
}

/// The files without what counts up: Fanvil's phones apply a file only if its number is another one.
fn without_version(kit: &Kit, documents: BTreeMap<String, String>) -> BTreeMap<String, String> {
    if kit.vendor != "fanvil" {
        return documents;
    }
    let plain = |text: String| {
        let is_version = |line: &&str| line.starts_with("<Version>");
        assert_eq!(text.lines().filter(is_version).count(), 1, "{text}");
        let kept = text.lines().filter(|line| !is_version(line));
        kept.collect::<Vec<_>>().join("\n")
    };
    documents
        .into_iter()
        .map(|(name, text)| (name, plain(text)))
        .collect()
}

fn session(fake: &Fake, kit: &Kit, method: Method, body: &Value) -> Value {
    let path = format!("devices/{}/session", kit.mac);
    let answer = call(fake, method, &path, body);
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    assert!(answer.status().is_success(), "{}: {text}", kit.vendor);
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

#[test]
fn after_a_logout_every_vendors_files_are_byte_for_byte_what_they_were() {
    for kit in KITS {
        let fake = office();
        let what = format!("{} {}", kit.vendor, kit.model);
        let model = model(kit.vendor, kit.model);
        let mut host = json!({
            "tenant": "acme", "vendor": kit.vendor, "model": kit.model, "user_type": "hot-desking",
            "lines": [{ "line": 1, "account": "1001", "label": "Host" }],
        });
        if model["keys"] != 0 {
            host["buttons"] = json!([{ "key": 1, "type": "line", "line": 1 }]);
        }
        let mut user = json!({ "pin": "2468", "password": "users-password-9" });
        for (n, own_keys) in [false, true].into_iter().enumerate() {
            if own_keys {
                user["buttons"] = buttons().into();
            }
            patch(&fake, "accounts/1002", &user);
            let made = put(&fake, &format!("devices/{}", kit.mac), &host);
            let made = if n == 0 { made } else { shown(&fake, kit) };
            let before = documents(&fake, kit, &made);
            let seen = session(&fake, kit, Method::PUT, &json!({ "account": "1002" }));
            fake.clock.pass_s(1);

            let during = documents(&fake, kit, &made);
            let all = kit.read_parts(|path| during[path].clone());
            let phone = (kit.see)(&all, &model);
            let lines: Vec<&u64> = phone.lines.keys().collect();
            assert_eq!(lines, [&1], "{what}");
            assert_eq!(phone.lines[&1].user, "1002", "{what}");
            match &phone.lines[&1].credential {
                Credential::Password(password) => {
                    assert_eq!(password, "users-password-9", "{what}");
                }
                Credential::Ha1(ha1) => assert_eq!(ha1.len(), 32, "{what}"),
            }
            let text = during.values().cloned().collect::<String>();
            assert!(
                !text.contains("secret &amp; 1001") && !text.contains("secret & 1001"),
                "{what}"
            );
            let users = phone.keys.values().filter(|key| key.value.contains("77"));
            let has_keys =
                own_keys && model["keys"] != 0 && !model["buttons"].as_array().unwrap().is_empty();
            if has_keys {
                assert!(users.count() > 0, "{what}: {:?}", phone.keys);
                // No phone has all of it, and nobody is kept out for that.
                let warnings = seen["warnings"].as_array().unwrap();
                assert!(!warnings.is_empty(), "{what}");
            }

            session(&fake, kit, Method::DELETE, &Value::Null);
            fake.clock.pass_s(1);
            let after = documents(&fake, kit, &made);
            for text in after.values() {
                for trace in [
                    "users-password-9",
                    "77002",
                    "users-own",
                    "auth-1002",
                    "Zoë 1002",
                ] {
                    assert!(!text.contains(trace), "{what}: {trace} in {text}");
                }
            }
            let [before, after] = [before, after].map(|documents| without_version(kit, documents));
            assert_eq!(after, before, "{what}");
            fake.clock.pass_s(60);
        }
    }
}

fn shown(fake: &Fake, kit: &Kit) -> Value {
    let path = format!("devices/{}?secrets=1", kit.mac);
    crate::ask::json_of(&call(fake, Method::GET, &path, &Value::Null))
}
