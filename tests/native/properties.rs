//! Whatever an admin may write comes out of every vendor's files as it went in and brings no
//! setting with it, or it is refused with the vendor's name.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::LazyLock;

use dialtone::secret::Secret;
use dialtone::text::{Dial, DisplayName, Label, Username};
use http::{Method, Response, StatusCode};
use md5::{Digest, Md5};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::ask::{call, fetch, follow, put, text};
use crate::readers;
use crate::world::{Fake, hex};

/// The texts of a phone that people choose.
#[derive(Debug, Clone)]
struct Texts {
    display_name: String,
    password: String,
    auth_username: String,
    voicemail: String,
    line_label: String,
    key_label: String,
    key_value: String,
}

impl Texts {
    fn tame() -> Self {
        let word = || "x".to_owned();
        Self {
            display_name: word(),
            password: word(),
            auth_username: word(),
            voicemail: word(),
            line_label: word(),
            key_label: word(),
            key_value: word(),
        }
    }

    /// Whether a Yealink file could not carry them: the words that mean "empty", and the white
    /// space at the ends of a value, which only a password can have.
    fn yealink_objects(&self) -> bool {
        let texts = [
            &self.display_name,
            &self.password,
            &self.line_label,
            &self.key_label,
        ];
        texts
            .iter()
            .any(|text| *text == "%NULL%" || text.trim() != *text)
    }
}

/// Texts that some syntax gives a meaning to.
const UGLY: [&str; 16] = [
    "%NULL%",
    "NULL",
    "NO",
    "~",
    "#!version:1.0.0.1",
    "include:config \"https://evil.example/x.cfg\"",
    "account.2.enable = 1",
    "overwrite_mode = 0",
    "</entry></section></config>",
    "]]>",
    "<!--",
    "&amp;",
    "&#10;",
    "\\",
    "\"",
    "{{ a.password }}",
];

/// A text that `accepts` takes, as wild as may be.
fn wild(accepts: fn(&str) -> bool) -> impl Strategy<Value = String> {
    let any = prop_oneof![
        1 => prop::sample::select(&UGLY[..]).prop_map(ToOwned::to_owned),
        2 => any::<String>(),
        2 => "\\PC{1,128}",
        2 => "[ -~]{1,128}",
        2 => "[&<>\"';#%$\\\\=\\[\\]{}!:.a1 ]{1,64}",
        2 => "[a-zA-Z0-9+*#._!~'@:-]{1,64}",
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
        wild(|text| Label::try_from(text).is_ok()),
        wild(|text| Label::try_from(text).is_ok()),
        wild(|text| Dial::try_from(text).is_ok()),
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
            )| Texts {
                display_name,
                password,
                auth_username,
                voicemail,
                line_label,
                key_label,
                key_value,
            },
        )
}

/// A world with everything but the device, and what saving the device answers.
fn save(texts: &Texts, mac: &str, device: &Value) -> (Rc<Fake>, Response<Vec<u8>>) {
    let fake = Fake::new();
    put(&fake, "tenants/acme", &json!({}));
    let pbx = json!({
        "tenant": "acme",
        "ari_url": "https://pbx.example.com/ari",
        "ari_username": "dialtone",
        "ari_password": "ari",
        "sip": { "host": "sip.example.com" },
    });
    put(&fake, "pbxes/main", &pbx);
    let account = json!({
        "tenant": "acme",
        "pbx": "main",
        "username": "1001",
        "auth_username": texts.auth_username,
        "password": texts.password,
        "display_name": texts.display_name,
        "voicemail": texts.voicemail,
    });
    put(&fake, "accounts/one", &account);
    let saved = call(&fake, Method::PUT, &format!("devices/{mac}"), device);
    (fake, saved)
}

/// The files that a saved device gets.
fn files(fake: &Fake, saved: &Response<Vec<u8>>, names: &[&str]) -> BTreeMap<String, String> {
    let saved: Value = serde_json::from_slice(saved.body()).unwrap();
    let base = saved["provisioning_url"].as_str().unwrap();
    let file = |name: &&str| {
        (
            (*name).to_owned(),
            text(&fetch(fake, &follow(&format!("{base}{name}")))),
        )
    };
    names.iter().map(file).collect()
}

const YEALINK: &str = "805ec0000001";
const YEALINK_FILES: [&str; 5] = [
    "boot.cfg",
    "first.cfg",
    "ACC.cfg",
    "BTN.cfg",
    "805ec0000001.cfg",
];

fn yealink(texts: &Texts) -> Result<BTreeMap<String, readers::Yealink>, Box<Response<Vec<u8>>>> {
    let device = json!({
        "tenant": "acme",
        "vendor": "yealink",
        "model": "T43U",
        "lines": [{ "line": 1, "account": "one", "label": texts.line_label }],
        "buttons": [
            { "key": 1, "type": "line", "line": 1 },
            { "key": 2, "type": "blf", "value": texts.key_value, "label": texts.key_label },
            { "module": 1, "key": 1, "type": "speed_dial", "value": texts.key_value, "label": texts.key_label },
            { "module": 1, "key": 2, "type": "voicemail", "line": 1 },
        ],
    });
    let (fake, saved) = save(texts, YEALINK, &device);
    if saved.status() != StatusCode::CREATED {
        return Err(Box::new(saved));
    }
    let read = |(name, text): (String, String)| {
        let file = readers::yealink(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, file)
    };
    Ok(files(&fake, &saved, &YEALINK_FILES)
        .into_iter()
        .map(read)
        .collect())
}

static TAME_YEALINK: LazyLock<BTreeMap<String, readers::Yealink>> =
    LazyLock::new(|| yealink(&Texts::tame()).unwrap());

const LINPHONE: &str = "0a5ec0000001";

fn linphone(texts: &Texts) -> BTreeMap<String, String> {
    let device = json!({
        "tenant": "acme",
        "vendor": "linphone",
        "model": "Linphone",
        "lines": [{ "line": 1, "account": "one", "label": texts.line_label }],
    });
    let (fake, saved) = save(texts, LINPHONE, &device);
    assert_eq!(
        saved.status(),
        StatusCode::CREATED,
        "{}",
        String::from_utf8_lossy(saved.body())
    );
    let file = &files(&fake, &saved, &["0a5ec0000001.xml"])["0a5ec0000001.xml"];
    readers::linphone(file).unwrap_or_else(|error| panic!("{error}"))
}

static TAME_LINPHONE: LazyLock<BTreeMap<String, String>> =
    LazyLock::new(|| linphone(&Texts::tame()));

/// The display name of a SIP address (RFC 3261, 25.1 `name-addr` with a `quoted-string`), and the
/// address.
fn name_and_address(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut rest = text.strip_prefix('"').unwrap().chars();
    loop {
        match rest.next().unwrap() {
            '"' => return (name, rest.as_str()),
            '\\' => name.push(rest.next().unwrap()),
            c => name.push(c),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_text_comes_out_of_yealink_files_as_it_went_in_or_is_refused_by_name(texts in texts()) {
        match yealink(&texts) {
            Err(refused) => {
                prop_assert!(texts.yealink_objects());
                prop_assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
                let problem: Value = serde_json::from_slice(refused.body()).unwrap();
                let details = problem["errors"].to_string();
                prop_assert!(details.contains("Yealink"), "{}", details);
                prop_assert!(!details.contains(&json!(texts.password).to_string()), "shows the password");
            }
            Ok(files) => {
                prop_assert!(!texts.yealink_objects());
                for (name, file) in &files {
                    let tame = &TAME_YEALINK[name];
                    prop_assert!(file.settings.keys().eq(tame.settings.keys()), "{}", name);
                    prop_assert_eq!(&file.includes, &tame.includes);
                    prop_assert_eq!(&file.overwrite, &tame.overwrite);
                    prop_assert_eq!(&file.comments, &tame.comments);
                }
                for (file, key, value) in [
                    ("ACC.cfg", "account.1.display_name", &texts.display_name),
                    ("ACC.cfg", "account.1.label", &texts.line_label),
                    ("ACC.cfg", "account.1.password", &texts.password),
                    ("ACC.cfg", "account.1.auth_name", &texts.auth_username),
                    ("ACC.cfg", "voice_mail.number.1", &texts.voicemail),
                    ("BTN.cfg", "linekey.1.label", &texts.line_label),
                    ("BTN.cfg", "linekey.2.label", &texts.key_label),
                    ("BTN.cfg", "linekey.2.value", &texts.key_value),
                    ("BTN.cfg", "expansion_module.1.key.1.label", &texts.key_label),
                    ("BTN.cfg", "expansion_module.1.key.1.value", &texts.key_value),
                    ("BTN.cfg", "expansion_module.1.key.2.value", &texts.voicemail),
                ] {
                    prop_assert_eq!(&files[file].settings[key], value);
                    prop_assert_eq!(&files["805ec0000001.cfg"].settings[key], value);
                }
            }
        }
    }

    #[test]
    fn every_text_comes_out_of_a_linphone_document_as_it_went_in(texts in texts()) {
        let read = linphone(&texts);
        prop_assert!(read.keys().eq(TAME_LINPHONE.keys()));
        let (name, address) = name_and_address(&read["proxy_0/reg_identity"]);
        prop_assert_eq!(name, texts.display_name);
        prop_assert_eq!(address, " <sip:1001@sip.example.com>");
        prop_assert_eq!(&read["auth_info_0/userid"], &texts.auth_username);
        let ha1 = Md5::digest(format!("{}:asterisk:{}", texts.auth_username, texts.password));
        prop_assert_eq!(&read["auth_info_0/ha1"], &hex(&ha1));
        let changed = TAME_LINPHONE.iter().filter(|(key, value)| read[*key] != **value).map(|(key, _)| key.as_str());
        let may = ["auth_info_0/ha1", "auth_info_0/userid", "proxy_0/reg_identity"];
        prop_assert!(changed.clone().all(|key| may.contains(&key)), "{:?}", changed.collect::<Vec<_>>());
    }
}
