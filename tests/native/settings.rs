//! Settings on their way from the levels where they are written to the phone.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{call, fetch, json_of, patch, put, text};
use crate::phone::{MAC, Office};
use crate::readers;

fn first(office: &Office) -> std::collections::BTreeMap<String, String> {
    let file = text(&fetch(&office.fake, &office.file("first.cfg")));
    readers::yealink(&file).unwrap().settings
}

fn device(office: &Office) -> Value {
    let shown = call(
        &office.fake,
        Method::GET,
        &format!("devices/{MAC}"),
        &Value::Null,
    );
    json_of(&shown)
}

const ADMIN: &str = "static.security.user_password:admin";

#[test]
fn a_phones_own_password_comes_from_the_uppermost_level_and_is_never_shown() {
    let office = Office::new();
    let fake = &office.fake;
    let password = |text: &str| json!({ "settings": { "admin_password": text } });
    assert!(!first(&office).contains_key(ADMIN));
    patch(fake, "tenants/acme", &password("of-the-tenant"));
    fake.clock.pass_s(61);
    assert_eq!(first(&office)[ADMIN], "of-the-tenant");
    let mut profile = password("of-the-profile");
    profile["tenant"] = "acme".into();
    put(fake, "profiles/office", &profile);
    patch(
        fake,
        &format!("devices/{MAC}"),
        &json!({ "profile": "office" }),
    );
    fake.clock.pass_s(61);
    assert_eq!(first(&office)[ADMIN], "of-the-profile");
    patch(fake, &format!("devices/{MAC}"), &password("of-the-device"));
    assert_eq!(first(&office)[ADMIN], "of-the-device");

    // What is left out of a later call, or null in it, stays.
    let whole = device(&office);
    assert_eq!(whole["settings"]["admin_password"], Value::Null);
    put(fake, &format!("devices/{MAC}"), &whole);
    patch(
        fake,
        &format!("devices/{MAC}"),
        &json!({ "settings": { "admin_password": null } }),
    );
    assert_eq!(first(&office)[ADMIN], "of-the-device");

    // An empty one takes it away.
    patch(fake, &format!("devices/{MAC}"), &password(""));
    assert_eq!(first(&office)[ADMIN], "of-the-profile");
    patch(fake, &format!("devices/{MAC}"), &password("of-the-device"));

    let dump = String::from_utf8_lossy(&fake.dump()).into_owned() + &fake.logged();
    for secret in ["of-the-tenant", "of-the-profile", "of-the-device"] {
        assert!(!dump.contains(secret), "{secret} is stored or logged");
    }
    let preview = |query: &str| {
        let path = format!("devices/{MAC}/files/first.cfg{query}");
        text(&call(fake, Method::GET, &path, &Value::Null))
    };
    assert!(!preview("").contains("of-the-device"));
    assert!(preview("").contains("admin:********"));
    assert!(preview("?secrets=1").contains("admin:of-the-device"));
}

#[test]
fn what_a_file_cannot_carry_is_refused_at_the_device_and_left_out_from_above() {
    let office = Office::new();
    let fake = &office.fake;
    let path = format!("devices/{MAC}");
    let wrong = [
        (
            json!({ "admin_password": "%NULL%" }),
            "/settings/admin_password",
        ),
        (
            json!({ "raw": { "yealink": { "no.such key": "1" } } }),
            "/settings/raw/yealink/no.such key",
        ),
        (
            json!({ "raw": { "yealink": { "account.1.password": "stolen" } } }),
            "/settings/raw/yealink/account.1.password",
        ),
        (
            json!({ "raw": { "yealink": { "features.x": "%NULL%" } } }),
            "/settings/raw/yealink/features.x",
        ),
    ];
    for (settings, pointer) in wrong {
        let before = first(&office);
        let body = json!({ "settings": settings });
        let refused = call(fake, Method::PATCH, &path, &body);
        assert_eq!(
            refused.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{pointer}"
        );
        let problem: Value = serde_json::from_slice(refused.body()).unwrap();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");

        // Phones of several vendors share a tenant: there it is none of this one's business.
        put(fake, "tenants/acme", &body);
        let saved = patch(fake, &path, &json!({ "site": "here" }));
        assert_eq!(saved["warnings"][0]["pointer"], pointer, "{saved}");
        fake.clock.pass_s(61);
        assert_eq!(first(&office), before, "{pointer}");
        // An answer can be sent back as it is.
        put(fake, &path, &saved);
        let none = json!({ "settings": { "admin_password": "", "raw": {} } });
        put(fake, "tenants/acme", &none);
        fake.clock.pass_s(61);
    }
}

#[test]
fn a_parameter_in_the_vendors_own_words_reaches_the_phone() {
    let office = Office::new();
    let raw =
        |value: &str| json!({ "settings": { "raw": { "yealink": { "features.x": value } } } });
    patch(&office.fake, &format!("devices/{MAC}"), &raw("a & b"));
    assert_eq!(first(&office)["features.x"], "a & b");
    patch(&office.fake, &format!("devices/{MAC}"), &raw(""));
    assert_eq!(first(&office)["features.x"], "");
}

#[test]
fn phones_spread_their_polls_each_by_its_own_share() {
    let office = Office::new();
    let settings = json!({ "resync_minutes": 600, "resync_spread_minutes": 60 });
    patch(
        &office.fake,
        "tenants/acme",
        &json!({ "settings": settings }),
    );
    let mut periods = std::collections::BTreeSet::new();
    for n in 0..40 {
        let mac = format!("805ec00001{n:02x}");
        let device = json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U" });
        put(&office.fake, &format!("devices/{mac}"), &device);
        let path = format!("devices/{mac}/files/first.cfg");
        let file = text(&call(&office.fake, Method::GET, &path, &Value::Null));
        let settings = readers::yealink(&file).unwrap().settings;
        let minutes: u32 = settings["static.auto_provision.repeat.minutes"]
            .parse()
            .unwrap();
        assert!((600..=660).contains(&minutes), "{minutes}");
        periods.insert(minutes);
    }
    assert!(periods.len() >= 20, "{periods:?}");
}

#[test]
fn a_setting_that_the_model_lacks_is_said_so() {
    let office = Office::new();
    let path = format!("devices/{MAC}");
    let saved = patch(
        &office.fake,
        &path,
        &json!({ "model": "T31P", "settings": { "wallpaper": "https://files.example.com/a.png" } }),
    );
    let warning = &saved["warnings"][0];
    assert_eq!(warning["pointer"], "/settings/wallpaper");
    let detail = warning["detail"].as_str().unwrap();
    assert!(detail.contains("Yealink T31P"), "{detail}");
    let saved = patch(
        &office.fake,
        &path,
        &json!({ "settings": { "language": "sv" } }),
    );
    let warnings = saved["warnings"].to_string();
    assert!(warnings.contains("/settings/language"), "{warnings}");
}

#[test]
fn raw_keys_of_another_vendor_on_a_device_are_kept_with_a_warning() {
    let office = Office::new();
    let raw = json!({ "fanvil": { "x": "1" }, "yealink": { "phone_setting.a": "1" } });
    let patched = patch(
        &office.fake,
        &format!("devices/{MAC}"),
        &json!({ "settings": { "raw": raw } }),
    );
    let warnings = patched["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0]["pointer"], "/settings/raw/fanvil");
    let detail = warnings[0]["detail"].as_str().unwrap();
    assert!(detail.contains("Yealink"), "{detail}");
    assert_eq!(device(&office)["settings"]["raw"], raw);

    // On a level that devices of all vendors share there is nothing to warn of.
    patch(
        &office.fake,
        "tenants/acme",
        &json!({ "settings": { "raw": raw } }),
    );
    let null = json!({ "settings": { "raw": null } });
    let patched = patch(&office.fake, &format!("devices/{MAC}"), &null);
    assert_eq!(patched["warnings"], Value::Null);
}

#[test]
fn a_line_whose_pbx_takes_none_of_the_phones_codecs_is_warned_of() {
    let office = Office::new();
    let fake = &office.fake;
    let path = format!("devices/{MAC}");
    patch(fake, "pbxes/main", &json!({ "codecs": ["g722", "opus"] }));
    let with = |codecs: &[&str]| {
        let saved = patch(fake, &path, &json!({ "settings": { "codecs": codecs } }));
        saved["warnings"].clone()
    };
    assert_eq!(with(&["pcma", "opus"]), Value::Null);
    let warnings = with(&["pcma", "pcmu"]);
    let [warning] = warnings.as_array().unwrap().as_slice() else {
        panic!("{warnings}");
    };
    assert_eq!(warning["pointer"], "/lines/0/account");
    let detail = warning["detail"].as_str().unwrap();
    assert!(detail.contains("PBX main"), "{detail}");
    assert_eq!(with(&["g722"]), Value::Null);
}
