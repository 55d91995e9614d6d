//! Levels of settings: which one a phone's setting comes from, what a lock keeps, how soon a change of each
//! level is in what a phone fetches, and what `GET /devices/{mac}/settings` says of all that.

use std::collections::BTreeMap;

use dialtone::vendor::VendorId;
use http::{Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::ask::{call, fetch, json_of, patch, put, text};
use crate::phone::{MAC, Office};
use crate::readers;
use crate::world::{LATE_S, Late};

/// The levels above the defaults, the lowest first.
const LEVELS: [Level; 5] = [
    Level::Tenant,
    Level::Profile,
    Level::Model,
    Level::Site,
    Level::Device,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Tenant,
    Profile,
    Model,
    Site,
    Device,
}

impl Level {
    /// As `from` says it.
    fn resource(self) -> String {
        match self {
            Self::Tenant => "tenants/acme".to_owned(),
            Self::Profile => "profiles/office".to_owned(),
            Self::Model => "tenants/acme/models/T46U".to_owned(),
            Self::Site => "tenants/acme/sites/berlin".to_owned(),
            Self::Device => format!("devices/{MAC}"),
        }
    }

    /// The record that it stands in, and a merge patch of it.
    fn change(self, members: &Value) -> (String, Value) {
        match self {
            Self::Tenant | Self::Profile | Self::Device => (self.resource(), members.clone()),
            Self::Model => {
                let layer = json!({ "models": { "T46U": members } });
                (Self::Tenant.resource(), layer)
            }
            Self::Site => {
                let layer = json!({ "sites": { "berlin": members } });
                (Self::Tenant.resource(), layer)
            }
        }
    }

    fn save(self, office: &Office, members: &Value) -> Value {
        let (path, body) = self.change(members);
        patch(&office.fake, &path, &body)
    }

    fn try_save(self, office: &Office, members: &Value) -> (StatusCode, Value) {
        let (path, body) = self.change(members);
        let answer = call(&office.fake, Method::PATCH, &path, &body);
        let body = serde_json::from_slice(answer.body()).unwrap_or_default();
        (answer.status(), body)
    }
}

/// An office whose phone is at a site.
fn office() -> Office {
    let office = Office::of(&json!({}), &json!({ "site": "berlin" }));
    // All that KV can be late with is past.
    office.fake.clock.pass_s(2 * LATE_S);
    office
}

fn first(office: &Office) -> BTreeMap<String, String> {
    let file = text(&fetch(&office.fake, &office.file("first.cfg")));
    readers::yealink(&file).unwrap().settings
}

fn ntp(office: &Office) -> String {
    first(office)["local_time.ntp_server1"].clone()
}

fn settings(office: &Office) -> Value {
    let path = format!("devices/{MAC}/settings");
    json_of(&call(&office.fake, Method::GET, &path, &Value::Null))
}

fn server(level: Level) -> String {
    format!("{}.example.com", format!("{level:?}").to_lowercase())
}

fn with_server(level: Level) -> Value {
    json!({ "settings": { "ntp_server": server(level) } })
}

#[test]
fn a_change_of_each_level_is_in_the_next_fetch_within_what_is_promised_and_beats_those_below() {
    for late in [Late::No, Late::Cached, Late::Behind] {
        let office = office();
        let fake = &office.fake;
        fake.kv.late.set(late);
        assert_eq!(ntp(&office), "pool.ntp.org");
        for level in LEVELS {
            // Whatever KV can show was read a moment ago.
            ntp(&office);
            let saved = level.save(&office, &with_server(level));
            let seconds = if level == Level::Device {
                assert_eq!(saved["visible_by"], Value::Null, "{late:?} {saved}");
                1
            } else {
                assert!(saved["visible_by"].is_string(), "{late:?} {saved}");
                LATE_S
            };
            fake.clock.pass_s(seconds);
            assert_eq!(ntp(&office), server(level), "{late:?} {level:?}");
            let shown = settings(&office);
            let expected = json!({ "value": server(level), "from": level.resource() });
            assert_eq!(shown["settings"]["ntp_server"], expected, "{late:?}");
        }
        // And what is taken away uncovers what is below.
        for (level, below) in LEVELS.iter().zip(&LEVELS[1..]).rev() {
            let none = json!({ "settings": { "ntp_server": null } });
            below.save(&office, &none);
            fake.clock.pass_s(LATE_S);
            assert_eq!(ntp(&office), server(*level), "{late:?} {below:?}");
        }
    }
}

#[test]
fn a_lock_of_each_level_is_in_the_next_fetch_within_what_is_promised() {
    for late in [Late::No, Late::Cached, Late::Behind] {
        for lock in &LEVELS[..4] {
            let office = office();
            let fake = &office.fake;
            fake.kv.late.set(late);
            for level in LEVELS {
                level.save(&office, &with_server(level));
                fake.clock.pass_s(LATE_S);
            }
            assert_eq!(ntp(&office), server(Level::Device));
            lock.save(&office, &json!({ "locked": ["ntp_server"] }));
            fake.clock.pass_s(LATE_S);
            assert_eq!(ntp(&office), server(*lock), "{late:?} {lock:?}");
            lock.save(&office, &json!({ "locked": [] }));
            fake.clock.pass_s(LATE_S);
            assert_eq!(ntp(&office), server(Level::Device), "{late:?} {lock:?}");
        }
    }
}

#[test]
fn what_a_lock_keeps_out_stays_in_its_record_and_is_said() {
    let office = office();
    Level::Tenant.save(&office, &with_server(Level::Tenant));
    Level::Tenant.save(&office, &json!({ "locked": ["ntp_server", "dnd"] }));
    let saved = Level::Profile.save(&office, &with_server(Level::Profile));
    let warning = json!([{
        "pointer": "/settings/ntp_server",
        "detail": "is locked at tenants/acme: it is kept, and not used",
    }]);
    assert_eq!(saved["warnings"], warning);
    assert_eq!(saved["settings"]["ntp_server"], server(Level::Profile));
    let saved = Level::Device.save(&office, &with_server(Level::Device));
    assert_eq!(saved["warnings"], warning);
    assert_eq!(saved["settings"]["ntp_server"], server(Level::Device));
    // What was answered can be sent back.
    put(&office.fake, &format!("devices/{MAC}"), &saved);
    office.fake.clock.pass_s(LATE_S);
    assert_eq!(ntp(&office), server(Level::Tenant));

    let expected = json!({
        "value": server(Level::Tenant),
        "from": "tenants/acme",
        "locked_by": "tenants/acme",
        "ignored": [
            { "value": server(Level::Profile), "from": "profiles/office" },
            { "value": server(Level::Device), "from": format!("devices/{MAC}") },
        ],
    });
    let shown = settings(&office);
    assert_eq!(shown["settings"]["ntp_server"], expected);
    assert_eq!(shown["warnings"], warning);
    // No level gives it: the default is what is locked, and here it is the phone's own.
    let dnd = json!({ "value": null, "from": "default", "locked_by": "tenants/acme" });
    assert_eq!(shown["settings"]["dnd"], dnd);
    let request = json!({ "mac": MAC });
    let explained = json_of(&call(&office.fake, Method::POST, "explain", &request));
    assert_eq!(explained["settings"]["ntp_server"], expected);
    assert_eq!(explained["settings"]["dnd"], dnd);
    assert_eq!(explained["settings"]["language"], Value::Null);
}

#[test]
fn a_tenant_is_told_of_its_models_and_sites_that_give_what_it_locks() {
    let office = office();
    let server = json!({ "ntp_server": "a.example" });
    let saved = patch(
        &office.fake,
        "tenants/acme",
        &json!({
            "locked": ["ntp_server"],
            "models": { "T46U": { "settings": server }, "T54W": { "settings": { "dnd": true } } },
            "sites": { "berlin": { "settings": server, "locked": ["ntp_server"] } },
        }),
    );
    let expected = ["/models/T46U", "/sites/berlin"].map(|at| {
        json!({
            "pointer": format!("{at}/settings/ntp_server"),
            "detail": "is locked at tenants/acme: it is kept, and not used",
        })
    });
    assert_eq!(saved["warnings"], json!(expected), "{saved}");
    let saved = patch(&office.fake, "tenants/acme", &json!({ "locked": [] }));
    assert_eq!(saved["warnings"], Value::Null, "{saved}");
}

#[test]
fn a_lock_holds_for_passwords_and_for_parameters_in_the_vendors_words_too() {
    const ADMIN: &str = "static.security.user_password:admin";
    let office = office();
    let given = |level: Level, key: &str| {
        let password = format!("of-the-{level:?}");
        let raw = json!({ "yealink": { key: format!("{level:?}") } });
        json!({ "settings": { "admin_password": password, "raw": raw } })
    };
    Level::Tenant.save(&office, &given(Level::Tenant, "features.x"));
    Level::Device.save(&office, &given(Level::Device, "features.x"));
    office.fake.clock.pass_s(LATE_S);
    assert_eq!(first(&office)["features.x"], "Device");
    assert_eq!(first(&office)[ADMIN], "of-the-Device");
    Level::Tenant.save(&office, &json!({ "locked": ["raw", "admin_password"] }));
    Level::Device.save(&office, &given(Level::Device, "features.y"));
    office.fake.clock.pass_s(LATE_S);
    let file = first(&office);
    assert_eq!(file["features.x"], "Tenant");
    assert_eq!(file[ADMIN], "of-the-Tenant");
    assert!(!file.contains_key("features.y"), "{file:?}");

    let shown = settings(&office);
    let of_device = format!("devices/{MAC}");
    let masked = json!({
        "value": "********", "from": "tenants/acme", "locked_by": "tenants/acme",
        "ignored": [{ "value": "********", "from": of_device }],
    });
    assert_eq!(shown["settings"]["admin_password"], masked);
    assert_eq!(shown["raw"]["features.x"]["value"], "Tenant");
    assert_eq!(
        shown["raw"]["features.y"],
        json!({
            "value": null, "from": "default", "locked_by": "tenants/acme",
            "ignored": [{ "value": "Device", "from": of_device }],
        })
    );
    assert!(!shown.to_string().contains("of-the-"), "{shown}");
    let saved = Level::Device.save(&office, &json!({ "region": "eu" }));
    let warnings = saved["warnings"].as_array().unwrap();
    let pointers: Vec<&Value> = warnings.iter().map(|w| &w["pointer"]).collect();
    assert_eq!(pointers, ["/settings/admin_password", "/settings/raw"]);
}

#[test]
fn a_device_is_not_refused_for_what_a_lock_puts_in_the_place_of_its_own() {
    let office = office();
    // What no file of a Yealink can carry.
    let bad = json!({ "settings": {
        "admin_password": "%NULL%", "raw": { "yealink": { "features.x": "%NULL%" } },
    } });
    Level::Tenant.save(&office, &bad);
    let own = json!({ "settings": {
        "admin_password": "fine", "raw": { "yealink": { "features.x": "1" } },
    } });
    Level::Device.save(&office, &own);
    Level::Tenant.save(&office, &json!({ "locked": ["admin_password", "raw"] }));
    let (status, saved) = Level::Device.try_save(&office, &json!({ "region": "eu" }));
    assert_eq!(status, StatusCode::OK, "{saved}");
    // Without the lock the device's own is what counts, and what is wrong with it.
    Level::Tenant.save(&office, &json!({ "locked": [] }));
    let (status, refused) = Level::Device.try_save(&office, &bad);
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
}

#[test]
fn a_model_is_found_however_its_device_spells_it_and_another_model_or_site_gets_nothing() {
    let office = office();
    Level::Model.save(&office, &with_server(Level::Model));
    let device = |members: Value| Level::Device.save(&office, &members);
    device(json!({ "model": "t46u" }));
    office.fake.clock.pass_s(LATE_S);
    assert_eq!(ntp(&office), server(Level::Model));
    let from = settings(&office)["settings"]["ntp_server"]["from"].clone();
    assert_eq!(from, "tenants/acme/models/T46U");
    device(json!({ "model": "T54W" }));
    assert_eq!(ntp(&office), "pool.ntp.org");
    Level::Site.save(&office, &with_server(Level::Site));
    office.fake.clock.pass_s(LATE_S);
    assert_eq!(ntp(&office), server(Level::Site));
    for elsewhere in [json!("Berlin"), json!("paris"), Value::Null] {
        device(json!({ "site": elsewhere }));
        assert_eq!(ntp(&office), "pool.ntp.org", "{elsewhere}");
    }
}

#[test]
fn no_two_vendors_have_a_model_of_one_name() {
    // Or settings by the model's name would be for the phones of both.
    let mut vendors: BTreeMap<String, VendorId> = BTreeMap::new();
    for vendor in VendorId::ALL {
        for model in vendor.rules().models() {
            let other = vendors.insert(model.name.to_lowercase(), *vendor);
            assert_eq!(other, None, "{}", model.name);
        }
    }
}

#[test]
fn what_a_level_cannot_have_is_refused_by_name() {
    let office = office();
    let many = |names: &mut dyn Iterator<Item = String>| {
        let layers = names.map(|name| (name, json!({})));
        Value::Object(layers.collect::<Map<String, Value>>())
    };
    let raw: Map<String, Value> = (0..200)
        .map(|n| (format!("features.{n}"), "x".repeat(200).into()))
        .collect();
    let raw = json!({ "settings": { "raw": { "yealink": raw } } });
    for (change, pointer) in [
        (json!({ "models": { "T46X": {} } }), "/models/T46X"),
        (json!({ "models": { "t46u": {} } }), "/models/t46u"),
        (json!({ "models": { "a/b~": {} } }), "/models/a~1b~0"),
        (
            json!({ "models": { "T46U": { "settings": { "admin_password": "x" } } } }),
            "/models/T46U/settings/admin_password",
        ),
        (
            json!({ "sites": { "berlin": { "settings": { "user_password": "" } } } }),
            "/sites/berlin/settings/user_password",
        ),
        (
            json!({ "sites": { "berlin": { "settings": { "timezone": "Mars" } } } }),
            "/sites/berlin/settings/timezone",
        ),
        (json!({ "sites": { "ber lin": {} } }), "/sites/ber lin"),
        (
            json!({ "sites": { "berlin": { "profile": "office" } } }),
            "/sites/berlin/profile",
        ),
        (json!({ "locked": ["colour"] }), "/locked/0"),
        (
            json!({ "models": { "T46U": { "locked": ["dnd", "raw.yealink"] } } }),
            "/models/T46U/locked/1",
        ),
        (
            json!({ "sites": many(&mut (0..201).map(|n| format!("s{n}"))) }),
            "/sites",
        ),
        (
            json!({ "models": many(&mut (0..65).map(|n| format!("m{n}"))) }),
            "/models",
        ),
        (json!({ "sites": { "a": raw, "b": raw } }), "/models"),
    ] {
        let answer = call(&office.fake, Method::PATCH, "tenants/acme", &change);
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(
            answer.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{change}: {problem}"
        );
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let fits = json!({ "sites": many(&mut (0..200).map(|n| format!("s{n}"))) });
    patch(&office.fake, "tenants/acme", &fits);
    let other = json!({ "tenant": "acme", "locked": ["nonsense"] });
    let answer = call(&office.fake, Method::PUT, "profiles/other", &other);
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[test]
fn what_is_shown_as_a_default_is_what_the_files_are_made_with() {
    let office = office();
    let version = || {
        let path = format!("devices/{MAC}/files");
        json_of(&call(&office.fake, Method::GET, &path, &Value::Null))["version"].clone()
    };
    let shown = settings(&office);
    let mut told = 0;
    for (name, origin) in shown["settings"].as_object().unwrap() {
        if origin["from"] != "default" || origin["value"].is_null() {
            continue;
        }
        told += 1;
        let before = version();
        Level::Device.save(&office, &json!({ "settings": { name: origin["value"] } }));
        assert_eq!(version(), before, "{name} {origin}");
        let from = &settings(&office)["settings"][name]["from"];
        assert_eq!(*from, format!("devices/{MAC}"), "{name}");
    }
    // All that have a default, but for the time zone, which the office's profile gives.
    assert_eq!(told, 9, "{shown}");
}

#[test]
fn a_lock_of_a_profile_is_rolled_out_with_its_settings() {
    let office = office();
    Level::Device.save(&office, &with_server(Level::Device));
    patch(&office.fake, "tenants/acme", &json!({ "rollout": {} }));
    let saved = Level::Profile.save(&office, &json!({ "locked": ["ntp_server"] }));
    assert_eq!(saved["rollout"]["stage"], "choosing", "{saved}");
    office.fake.clock.pass_s(LATE_S);
    // No canary is chosen yet, so nobody has it.
    assert_eq!(ntp(&office), server(Level::Device));
    assert_eq!(
        settings(&office)["settings"]["ntp_server"].get("locked_by"),
        None
    );
    let everyone = json!({ "to": "everyone" });
    let answer = call(
        &office.fake,
        Method::POST,
        "profiles/office/rollout",
        &everyone,
    );
    assert_eq!(answer.status(), StatusCode::OK);
    office.fake.clock.pass_s(LATE_S);
    assert_eq!(ntp(&office), "pool.ntp.org");
    // What puts the former locks back before anybody had others ends it.
    Level::Profile.save(&office, &json!({ "locked": [] }));
    let saved = Level::Profile.save(&office, &json!({ "locked": ["ntp_server"] }));
    assert_eq!(saved["rollout"], Value::Null, "{saved}");
}

/// What each level gives and locks, the tenant first.
type Stack = [(Option<u8>, bool); 5];

/// What becomes of a setting, said in another way than the code: by going up and stopping at the lock.
fn expected(stack: &Stack) -> Value {
    let mut origin = json!({ "value": true, "from": "default" });
    let mut ignored = Vec::new();
    let mut locked_by: Option<Level> = None;
    for (level, (given, locks)) in LEVELS.iter().zip(stack) {
        if let Some(given) = given {
            let given = json!({ "value": *given > 0, "from": level.resource() });
            if locked_by.is_some() {
                ignored.push(given);
            } else {
                origin = given;
            }
        }
        if *locks && locked_by.is_none() && *level != Level::Device {
            locked_by = Some(*level);
        }
    }
    if let Some(lock) = locked_by {
        origin["locked_by"] = lock.resource().into();
    }
    if !ignored.is_empty() {
        origin["ignored"] = ignored.into();
    }
    origin
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_levels_and_locks_give_what_the_uppermost_below_the_lock_says(
        clock in prop::array::uniform5((prop::option::of(0_u8..2), prop::bool::weighted(0.3))),
        waiting in prop::array::uniform5((prop::option::of(0_u8..2), prop::bool::weighted(0.3))),
    ) {
        let office = office();
        for (n, level) in LEVELS.iter().enumerate() {
            let mut members = json!({ "settings": {} });
            let mut locked = Vec::new();
            for (name, (given, locks)) in [("clock_24h", clock[n]), ("call_waiting", waiting[n])] {
                if let Some(given) = given {
                    members["settings"][name] = (given > 0).into();
                }
                if locks {
                    locked.push(name);
                }
            }
            if *level != Level::Device {
                members["locked"] = json!(locked);
            }
            level.save(&office, &members);
        }
        office.fake.clock.pass_s(LATE_S);
        let shown = settings(&office);
        prop_assert_eq!(&shown["settings"]["clock_24h"], &expected(&clock));
        prop_assert_eq!(&shown["settings"]["call_waiting"], &expected(&waiting));
        // And the phone gets the same.
        let file = first(&office);
        let number = |stack: &Stack| if expected(stack)["value"] == true { "1" } else { "0" };
        prop_assert_eq!(&file["local_time.time_format"], number(&clock));
        prop_assert_eq!(&file["call_waiting.enable"], number(&waiting));
    }
}
