//! Every model of the catalogue, as `GET /models` lists it, with a phone that has as much of
//! everything as the model takes; and every setting, which changes the phone's files unless the
//! catalogue says that the model lacks it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::LazyLock;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::records::{Told, compare};
use crate::ask::{call, fetch, follow, json_of, patch, put, text};
use crate::vendors::{KITS, Kit};
use crate::world::Fake;

static MODELS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let models = json_of(&call(&Fake::new(), Method::GET, "models", &Value::Null));
    models["items"].as_array().unwrap().clone()
});

/// A model as `GET /models` lists it.
pub fn model(vendor: &str, name: &str) -> Value {
    MODELS
        .iter()
        .find(|model| model["vendor"] == vendor && model["model"] == name)
        .unwrap_or_else(|| panic!("no {vendor} {name}"))
        .clone()
}

/// The models of a vendor.
pub fn of(vendor: &str) -> impl Iterator<Item = &'static Value> {
    MODELS.iter().filter(move |model| model["vendor"] == vendor)
}

#[test]
fn every_model_of_two_peers_lists_is_there_or_out_of_reach_by_name() {
    let office = office();
    let mut out_of_reach = 0;
    for (peer, list, entries) in [
        (
            "wazo",
            include_str!("../../../fixtures/models/wazo.csv"),
            368,
        ),
        (
            "tancredi",
            include_str!("../../../fixtures/models/tancredi.csv"),
            97,
        ),
    ] {
        let rows: Vec<&str> = list.lines().skip(1).collect();
        assert_eq!(rows.len(), entries, "{peer}");
        for row in rows {
            let [vendor, listed, ours] = row.split(',').collect::<Vec<_>>()[..] else {
                panic!("{peer}: {row}");
            };
            for name in ours.split(' ').filter(|name| !name.is_empty()) {
                assert_eq!(model(vendor, name)["model"], name, "{peer}: {row}");
            }
            if ours.is_empty() {
                out_of_reach += 1;
                let device = json!({ "tenant": "acme", "vendor": vendor, "model": listed });
                let refused = call(&office, Method::PUT, "devices/001122334455", &device);
                assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{row}");
                let problem: Value = serde_json::from_slice(refused.body()).unwrap();
                assert_eq!(problem["errors"][0]["pointer"], "/model", "{row}");
                let detail = problem["errors"][0]["detail"].as_str().unwrap();
                assert!(detail.contains("TFTP"), "{row}: {detail}");
            }
        }
    }
    // Cisco's call manager phones: docs/PHONES.md says why.
    assert_eq!(out_of_reach, 24);
}

fn models(kit: &Kit) -> impl Iterator<Item = &'static Value> {
    of(kit.vendor)
}

/// A world with a customer and what is needed for two lines.
pub fn office() -> Rc<Fake> {
    let fake = Fake::new();
    put(&fake, "tenants/acme", &tenant());
    put(&fake, "pbxes/main", &pbx());
    for id in ["1001", "1002"] {
        put(&fake, &format!("accounts/{id}"), &account(id));
    }
    fake
}

fn tenant() -> Value {
    json!({ "settings": { "timezone": "Europe/Berlin" } })
}

fn pbx() -> Value {
    json!({
        "tenant": "acme",
        "ari_url": "https://pbx.example.com/ari",
        "ari_username": "dialtone",
        "ari_password": "ari",
        "sip": {
            "host": "sip.example.com", "transport": "tls", "srtp": "required",
            "expires_s": 1200, "backup_host": "backup.example.com",
            "outbound_proxy": "proxy.example.com",
        },
    })
}

fn account(id: &str) -> Value {
    json!({
        "tenant": "acme",
        "pbx": "main",
        "username": id,
        "auth_username": format!("auth-{id}"),
        "password": format!("secret & {id}"),
        "display_name": format!("Zoë {id}"),
        "voicemail": format!("*97{id}"),
    })
}

/// A button of each kind that the model knows, one after another on the keys that it has and on its
/// modules.
fn buttons(model: &Value) -> Vec<Value> {
    let number = |name: &str| model[name].as_u64().unwrap();
    let on_phone = (1..=number("keys")).map(|key| (None, key));
    let on_modules = (1..=number("modules"))
        .flat_map(|module| (1..=number("module_keys")).map(move |key| (Some(module), key)));
    let places = on_phone.chain(on_modules);
    let functions: Vec<&str> = model["buttons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|function| function.as_str().unwrap())
        .collect();
    if functions.is_empty() {
        return Vec::new();
    }
    places
        .zip(functions.iter().cycle())
        .map(|((module, key), function)| {
            let mut button = json!({ "key": key, "type": function, "label": format!("Key {key}") });
            if let Some(module) = module {
                button["module"] = module.into();
            }
            match *function {
                "line" | "voicemail" => button["line"] = 1.into(),
                "url" => button["value"] = "https://intranet.example.com/x".into(),
                "blf" | "speed_dial" | "park" | "pickup" | "intercom" | "dtmf" => {
                    button["value"] = format!("1{key:03}").into();
                }
                "none" => button["label"] = Value::Null,
                _ => {}
            }
            if button["label"].is_null() {
                button.as_object_mut().unwrap().remove("label");
            }
            button
        })
        .collect()
}

/// Takes away the buttons that a key of the model is refused for, such as a line on a module; but
/// each function that the model has must fit on a key of it.
fn place_what_fits(fake: &Fake, kit: &Kit, record: &mut Value) {
    let types = |record: &Value| -> BTreeSet<String> {
        let buttons = record["buttons"].as_array().unwrap().iter();
        buttons.map(|button| button["type"].to_string()).collect()
    };
    let path = format!("devices/{}", kit.mac);
    let refused = call(fake, Method::PUT, &path, record);
    if refused.status() != StatusCode::UNPROCESSABLE_ENTITY {
        return;
    }
    let wanted = types(record);
    let problem: Value = serde_json::from_slice(refused.body()).unwrap();
    let errors = problem["errors"].as_array().unwrap();
    let misfits: BTreeSet<usize> = errors
        .iter()
        .map(|error| {
            let pointer = error["pointer"].as_str().unwrap();
            let index = pointer.strip_prefix("/buttons/");
            let index = index.and_then(|rest| rest.strip_suffix("/type"));
            index.unwrap_or_else(|| panic!("{error}")).parse().unwrap()
        })
        .collect();
    let mut n = 0;
    record["buttons"].as_array_mut().unwrap().retain(|_| {
        n += 1;
        !misfits.contains(&(n - 1))
    });
    assert_eq!(types(record), wanted, "{} {}", kit.vendor, record["model"]);
}

fn device(kit: &Kit, model: &Value) -> Value {
    json!({
        "tenant": "acme",
        "vendor": kit.vendor,
        "model": model["model"],
        "lines": [{ "line": 1, "account": "1001", "label": "First" }],
        "buttons": buttons(model),
    })
}

/// The text of each document of a device under its provisioning URL.
pub fn documents(fake: &Fake, kit: &Kit, created: &Value) -> BTreeMap<String, String> {
    let base = created["provisioning_url"].as_str().unwrap();
    kit.documents
        .iter()
        .filter_map(|pattern| kit.path(pattern).strip_prefix("p/").map(ToOwned::to_owned))
        .map(|name| {
            let document = text(&fetch(fake, &follow(&format!("{base}{name}"))));
            (format!("p/{name}"), document)
        })
        .collect()
}

#[test]
fn every_model_gets_files_that_say_what_its_records_say() {
    for kit in KITS {
        let fake = office();
        let mut seen = 0;
        for model in models(kit) {
            let what = format!("{} {}", kit.vendor, model["model"]);
            let mut record = device(kit, model);
            place_what_fits(&fake, kit, &mut record);
            let created = put(&fake, &format!("devices/{}", kit.mac), &record);
            let created = if created["provisioning_url"].is_null() {
                json_of(&call(
                    &fake,
                    Method::GET,
                    &format!("devices/{}?secrets=1", kit.mac),
                    &Value::Null,
                ))
            } else {
                created
            };
            let documents = documents(&fake, kit, &created);
            let all = kit.read_parts(|path| documents[path].clone());
            let (tenant, pbx) = (tenant(), pbx());
            let accounts = ["1001", "1002"].map(|id| (id, account(id)));
            let told = Told {
                device: &record,
                account: Box::new(|id| &accounts.iter().find(|(name, _)| *name == id).unwrap().1),
                pbx: Box::new(|_| &pbx),
                setting: Box::new(|name| tenant["settings"][name].clone()),
            };
            compare(&what, kit, model, &(kit.see)(&all, model), &told);
            if let Some(merged) = kit.merged {
                let path = kit.path(merged);
                assert_eq!((kit.read)(&path, &documents[&path]), Ok(all), "{what}");
            }
            seen += 1;
        }
        assert!(seen > 0, "{}", kit.vendor);
    }
}

/// Each setting with a value that is none's default.
fn every_setting() -> Vec<(&'static str, Value)> {
    vec![
        ("timezone", json!("Asia/Kolkata")),
        ("language", json!("de")),
        ("ntp_server", json!("ntp.example.com")),
        ("clock_24h", json!(false)),
        ("codecs", json!(["pcmu"])),
        ("dtmf", json!("info")),
        ("resync_minutes", json!(720)),
        ("resync_spread_minutes", json!(600)),
        ("transfer", json!("blind")),
        ("call_waiting", json!(false)),
        ("vlan", json!({ "id": 100, "priority": 5, "pc_id": 200 })),
        ("lldp", json!(false)),
        ("ringtone", json!(3)),
        ("wallpaper", json!("https://files.example.com/a.png")),
        ("dial_plan", json!(["110", "0[2-9]xx."])),
        ("forward", json!({ "always": "1009" })),
        ("dnd", json!(true)),
        ("auto_answer", json!(true)),
        ("firmware_url", json!("https://files.example.com/fw/a.rom")),
        ("syslog_server", json!("192.0.2.9")),
        ("web_ui", json!(false)),
        ("admin_password", json!("admin-secret")),
        ("user_password", json!("user-secret")),
    ]
}

#[test]
fn a_setting_changes_the_files_unless_the_model_lacks_it_and_then_there_is_a_warning() {
    for kit in KITS {
        let fake = office();
        for model in models(kit) {
            // One of each kind of model: what it lacks, and which firmware it has.
            let same = |other: &&Value| {
                ["lacks", "generation"]
                    .iter()
                    .all(|name| other[*name] == model[*name])
            };
            if models(kit).find(same).map(|first| &first["model"]) != Some(&model["model"]) {
                continue;
            }
            let path = format!("devices/{}", kit.mac);
            let mut record = device(kit, model);
            // Some settings are a line's, and some a key's.
            let blf = model["buttons"].as_array().unwrap().contains(&json!("blf"));
            record["buttons"] = if blf && model["keys"].as_u64() > Some(0) {
                json!([{ "key": 1, "type": "blf", "value": "1002" }])
            } else {
                json!([])
            };
            put(&fake, &path, &record);
            let secrets = format!("{path}?secrets=1");
            let mut created = json_of(&call(&fake, Method::GET, &secrets, &Value::Null));
            let mut before = documents(&fake, kit, &created);
            for (name, value) in every_setting() {
                let what = format!("{} {}: {name}", kit.vendor, model["model"]);
                let lacks = model["lacks"].as_array().unwrap().contains(&json!(name));
                let set = patch(&fake, &path, &json!({ "settings": { name: value } }));
                let warned = set["warnings"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|warning| warning["pointer"] == format!("/settings/{name}"));
                let after = documents(&fake, kit, &created);
                let versions = |documents: &BTreeMap<String, String>| {
                    let read = |(path, text): (&String, &String)| {
                        let settings = (kit.read)(path, text)
                            .unwrap_or_else(|error| panic!("{what}: {path}: {error}\n{text}"));
                        (path.clone(), settings)
                    };
                    let mut all: BTreeMap<_, _> = documents.iter().map(read).collect();
                    for settings in all.values_mut() {
                        settings.retain(|key, _| !key.ends_with("Version"));
                    }
                    all
                };
                let changed = versions(&before) != versions(&after);
                assert_eq!(changed, !lacks, "{what} (changed, and lacks it not)");
                assert!(!lacks || warned, "{what}: no warning in {set}");
                // A password is kept by being left out, so the phone is made anew.
                if name.ends_with("_password") {
                    crate::ask::delete(&fake, &path);
                    put(&fake, &path, &record);
                    created = json_of(&call(&fake, Method::GET, &secrets, &Value::Null));
                    before = documents(&fake, kit, &created);
                    let left = |text: &String| text.contains("-secret") && !lacks;
                    assert!(!before.values().any(left), "{what}");
                    continue;
                }
                patch(&fake, &path, &json!({ "settings": { name: null } }));
            }
        }
    }
}

#[test]
fn a_parameter_in_the_vendors_own_words_is_there_or_refused() {
    let fake = office();
    for kit in KITS {
        let path = format!("devices/{}", kit.mac);
        let mut record = json!({
            "tenant": "acme", "vendor": kit.vendor, "model": kit.model,
            "lines": [{ "line": 1, "account": "1001" }],
        });
        put(&fake, &path, &record);
        let secrets = format!("{path}?secrets=1");
        let created = json_of(&call(&fake, Method::GET, &secrets, &Value::Null));
        let before = documents(&fake, kit, &created);
        let all = kit.read_parts(|path| before[path].clone());

        // One that Dialtone sets itself cannot be had twice.
        let own = all
            .keys()
            .find(|key| !key.contains(['@', '#', '=', ':']))
            .unwrap();
        record["settings"] = json!({ "raw": { kit.vendor: { own.clone(): "1" } } });
        let refused = call(&fake, Method::PUT, &path, &record);
        assert_eq!(
            refused.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{} {own}",
            kit.vendor
        );
        // What is no name of a parameter is not taken.
        for wrong in [
            "a\nb", "a=b", "a\"b", "a<b", "a>b", "a:b", "#a", "", "a#b", "a&b", "a;b", "a'b",
        ] {
            record["settings"] = json!({ "raw": { kit.vendor: { wrong: "1" } } });
            let refused = call(&fake, Method::PUT, &path, &record);
            assert_eq!(
                refused.status(),
                StatusCode::UNPROCESSABLE_ENTITY,
                "{} {wrong:?}",
                kit.vendor
            );
        }
        // Another vendor's are nothing to this phone.
        let other = KITS
            .iter()
            .find(|other| other.vendor != kit.vendor)
            .unwrap();
        record["settings"] = json!({ "raw": { other.vendor: { "x.y": "1" } } });
        put(&fake, &path, &record);
        assert_eq!(documents(&fake, kit, &created).len(), before.len());
    }
}
