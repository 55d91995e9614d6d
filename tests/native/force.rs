//! What is in use is not deleted, unless the admin insists; then what referred to it does without, and says
//! so, whoever takes the id next.

use std::collections::BTreeSet;

use dialtone::record::account::Account;
use dialtone::record::tenant::Tenant;
use dialtone::store;
use dialtone::tick;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{call, call_by, cost, delete, fetch, json_of, patch, put, text};
use crate::asterisk::Asterisk;
use crate::phone::{MAC, Office, SERIAL, SOFT};
use crate::reconcile::{ARI_PASSWORD, Scene, connect, pbx};
use crate::world::{ADMIN_TOKEN, Fake, Late, block_on};

fn shown(fake: &Fake, path: &str) -> Value {
    json_of(&call(fake, Method::GET, path, &Value::Null))
}

/// The status of a DELETE, and the problem's `detail`.
fn deletes(fake: &Fake, path: &str) -> (u16, String) {
    let answer = call(fake, Method::DELETE, path, &Value::Null);
    let problem: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or_default();
    (answer.status().as_u16(), detail.to_owned())
}

fn codes(fake: &Fake, path: &str) -> BTreeSet<String> {
    let status = shown(fake, &format!("{path}/status"));
    let diagnoses = status["diagnoses"].as_array().unwrap();
    diagnoses
        .iter()
        .map(|found| found["code"].as_str().unwrap().to_owned())
        .collect()
}

/// Where the warnings of a device's settings point.
fn warned(fake: &Fake) -> Vec<String> {
    let settings = shown(fake, &format!("devices/{MAC}/settings"));
    let warnings = settings["warnings"].as_array().unwrap().clone();
    // To explain a request says the same.
    let explained = json_of(&call(
        fake,
        Method::POST,
        "explain",
        &json!({ "mac": MAC, "serial": SERIAL }),
    ));
    let explained = explained["warnings"].as_array().cloned();
    let explained = explained.unwrap_or_default();
    assert!(explained.iter().all(|one| warnings.contains(one)));
    explained
        .iter()
        .map(|one| one["pointer"].as_str().unwrap().to_owned())
        .collect()
}

/// What the phone's files say of its first line's user and its time zone.
fn phone(office: &Office) -> (String, String) {
    office.fake.clock.pass_s(61);
    let get = |name: &str| {
        let file = text(&fetch(&office.fake, &office.file(name)));
        crate::readers::yealink(&file).unwrap().settings
    };
    let (acc, first) = (get("ACC.cfg"), get("first.cfg"));
    let of = |settings: &std::collections::BTreeMap<String, String>, name: &str| {
        settings.get(name).cloned().unwrap_or_default()
    };
    (
        of(&acc, "account.1.user_name"),
        of(&first, "local_time.time_zone"),
    )
}

const USED: [(&str, &str); 3] = [
    ("accounts/acme-1001", MAC),
    ("pbxes/main", "acme-1001"),
    ("profiles/office", MAC),
];

#[test]
fn what_is_in_use_is_deleted_only_if_the_admin_insists_and_the_audit_has_by_what() {
    for (path, by) in USED {
        let office = Office::new();
        let fake = &office.fake;
        let before = fake.holdings();
        for path in [path.to_owned(), format!("{path}?force=0")] {
            let (status, detail) = deletes(fake, &path);
            assert_eq!(status, 409, "{path}");
            assert!(
                detail.contains(by) && detail.contains("force=1"),
                "{detail}"
            );
        }
        for wrong in ["force=yes", "force", "colour=red", "force=1&dry_run=1"] {
            let (status, _) = deletes(fake, &format!("{path}?{wrong}"));
            assert_eq!(status, 400, "{wrong}");
        }
        assert!(fake.holdings() == before, "{path}");
        delete(fake, &format!("{path}?force=1"));
        let gone = call(fake, Method::GET, path, &Value::Null);
        assert_eq!(gone.status(), StatusCode::NOT_FOUND);
        let entries = shown(fake, &format!("audit?tenant=acme&resource={path}"));
        let entry = &entries["items"][0];
        assert_eq!(entry["action"], "record.deleted", "{entry}");
        let used_by = entry["detail"]["used_by"].as_str().unwrap();
        let expected = match path {
            "pbxes/main" => "accounts/acme-1001, accounts/acme-1002".to_owned(),
            _ => format!("devices/{MAC}"),
        };
        assert_eq!(used_by, expected);
        // A second one has nothing to delete.
        assert_eq!(deletes(fake, &format!("{path}?force=1")).0, 404);
    }
}

#[test]
fn nothing_else_takes_force_and_a_tenant_goes_by_none() {
    let office = Office::new();
    let fake = &office.fake;
    put(fake, "rules/all", &json!({ "match": {}, "url": "{self}" }));
    put(fake, "tokens/ci", &json!({ "role": "reader" }));
    for path in [
        "tenants/acme",
        &format!("devices/{MAC}"),
        "rules/all",
        "tokens/ci",
    ] {
        assert_eq!(deletes(fake, &format!("{path}?force=1")).0, 400, "{path}");
    }
    let (status, detail) = deletes(fake, "tenants/acme");
    assert!(status == 409 && !detail.contains("force"), "{detail}");
    let put = call(fake, Method::PUT, "profiles/office?force=1", &json!({}));
    assert_eq!(put.status(), StatusCode::BAD_REQUEST);
    // What nobody has goes as ever.
    delete(fake, &format!("devices/{MAC}"));
    fake.clock.pass_s(61);
    delete(fake, "profiles/office");
    delete(fake, "accounts/acme-1001?force=1");
    let entries = shown(fake, "audit?tenant=acme&resource=accounts/acme-1001");
    assert_eq!(entries["items"][0]["detail"]["used_by"], Value::Null);
}

#[test]
fn a_phone_whose_account_is_gone_keeps_the_line_in_its_record_alone_and_says_so() {
    let office = Office::new();
    let fake = &office.fake;
    let device = format!("devices/{MAC}");
    let lines = shown(fake, &device)["lines"].clone();
    assert_eq!(phone(&office).0, "1001");
    assert_eq!(warned(fake), Vec::<String>::new());
    delete(fake, "accounts/acme-1001?force=1");
    assert_eq!(phone(&office).0, "");
    assert_eq!(shown(fake, &device)["lines"], lines);
    assert!(codes(fake, &device).contains("account_gone"));
    assert_eq!(warned(fake), ["/lines/0/account"]);
    // Whoever saves the phone is told to mend that.
    let saved = call(fake, Method::PUT, &device, &shown(fake, &device));
    assert_eq!(saved.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = serde_json::from_slice(saved.body()).unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/lines/0/account");
    // As after any delete, its name is taken from the PBX and can be another's.
    let other = json!({ "tenant": "acme", "pbx": "main", "username": "1001" });
    put(fake, "accounts/acme-other", &other);
    assert_eq!(phone(&office).0, "");
}

#[test]
fn an_account_that_its_tenant_makes_again_is_on_the_line_again_with_its_new_password() {
    let office = Office::new();
    let fake = &office.fake;
    phone(&office);
    delete(fake, "accounts/acme-1001?force=1");
    fake.clock.pass_s(2);
    let account =
        json!({ "tenant": "acme", "pbx": "main", "username": "1001", "password": "made-anew" });
    put(fake, "accounts/acme-1001", &account);
    assert_eq!(phone(&office).0, "1001");
    let acc = text(&fetch(fake, &office.file("ACC.cfg")));
    assert!(acc.contains("made-anew"));
    assert_eq!(warned(fake), Vec::<String>::new());
    assert!(!codes(fake, &format!("devices/{MAC}")).contains("account_gone"));
    let devices = &shown(fake, "accounts/acme-1001/status")["devices"];
    assert_eq!(*devices, json!([MAC]));
    // The phone that had it has another password, until it fetched.
    let stored = block_on(store::load::<Account, Fake>(fake, "acme-1001"));
    let state = stored.unwrap().unwrap().stored.state;
    assert!(state.login_rev > 1, "{state:?}");
    assert_eq!(deletes(fake, "accounts/acme-1001").0, 409);
}

#[test]
fn an_account_that_another_tenant_makes_of_the_id_is_on_no_phone_of_the_first() {
    let office = Office::new();
    let fake = &office.fake;
    delete(fake, "accounts/acme-1001?force=1");
    fake.clock.pass_s(2);
    put(fake, "tenants/bravo", &json!({}));
    let asterisk = Asterisk::new("dialtone", ARI_PASSWORD);
    connect(fake, &[("pbx.bravo.example", &asterisk)]);
    let mut bravos = pbx("pbx.bravo.example", "push");
    bravos["tenant"] = "bravo".into();
    put(fake, "pbxes/bravo", &bravos);
    let account = json!({
        "tenant": "bravo", "pbx": "bravo", "username": "77", "password": "bravos-password", "pin": "1234",
    });
    put(fake, "accounts/acme-1001", &account);
    let device = format!("devices/{MAC}");
    let is_apart = |when: &str| {
        assert_eq!(phone(&office).0, "", "{when}");
        let files = text(&fetch(fake, &office.file("ACC.cfg")));
        assert!(!files.contains("bravos-password"), "{when}");
        assert!(codes(fake, &device).contains("account_gone"), "{when}");
        assert_eq!(warned(fake), ["/lines/0/account"], "{when}");
        let status = shown(fake, "accounts/acme-1001/status");
        assert_eq!(status["devices"], json!([]), "{when}");
        // Nor does what the files are made of tell anything of it.
        let files = shown(fake, &format!("{device}/files"));
        let body = json!({ "mac": MAC, "serial": SERIAL });
        let explained = json_of(&call(fake, Method::POST, "explain", &body));
        for made_of in [&files["made_of"], &explained["made_of"]] {
            assert_eq!(made_of["account/acme-1001"], 0, "{when}: {made_of}");
            assert!(!made_of.to_string().contains("bravo"), "{when}: {made_of}");
        }
        // Nor is the first one's phone in the new one's way.
        assert!(!status.to_string().contains(MAC), "{when}");
    };
    is_apart("at once");
    // Whatever is done with the phone brings them no nearer.
    for action in ["rotate", "arm"] {
        fake.clock.pass_s(2);
        let path = format!("{device}/{action}");
        call(fake, Method::POST, &path, &json!({}));
    }
    for _ in 0..4 {
        fake.clock.pass_s(60);
        block_on(tick::run(&**fake, None));
        asterisk.registers("77");
    }
    let online = &shown(fake, "accounts/acme-1001/status")["status"];
    assert_eq!(online, "online");
    let made = shown(fake, &format!("{device}?secrets=1"));
    let base = made["provisioning_url"].as_str().unwrap();
    let acc = text(&fetch(fake, &crate::ask::follow(&format!("{base}ACC.cfg"))));
    assert!(!acc.contains("bravos-password"));
    let status = shown(fake, "accounts/acme-1001/status");
    assert_eq!(status["devices"], json!([]));
    // How far the first one's phone is hangs on nothing of the new one.
    let own = shown(fake, &format!("{device}/status"))["status"].clone();
    let own = own.as_str().unwrap();
    let listed = shown(fake, &format!("devices?tenant=acme&status={own}"));
    assert!(
        own != "registered" && listed.to_string().contains(MAC),
        "{listed}"
    );
    patch(
        fake,
        "accounts/acme-1001",
        &json!({ "display_name": "Bravo" }),
    );
    delete(fake, "accounts/acme-1001");
}

#[test]
fn accounts_at_a_pbx_that_is_gone_are_on_no_phone_and_say_so() {
    let office = Office::new();
    let fake = &office.fake;
    let device = format!("devices/{MAC}");
    phone(&office);
    let saved = shown(fake, &device);
    delete(fake, "pbxes/main?force=1");
    assert_eq!(phone(&office).0, "");
    assert!(codes(fake, &device).contains("pbx_gone"));
    assert!(codes(fake, "accounts/acme-1001").contains("pbx_gone"));
    assert_eq!(
        shown(fake, "accounts/acme-1001/status")["mode"],
        Value::Null
    );
    assert_eq!(warned(fake), ["/lines/0/account"]);
    // The phone can be saved as it is: that it has no line is said again.
    let saved = put(fake, &device, &saved);
    assert_eq!(
        saved["warnings"][0]["pointer"], "/lines/0/account",
        "{saved}"
    );
    let renamed = call(
        fake,
        Method::PATCH,
        "accounts/acme-1001",
        &json!({ "display_name": "A" }),
    );
    assert_eq!(renamed.status(), StatusCode::UNPROCESSABLE_ENTITY);
    // All phones' files are made again, whether they ask or not.
    assert!(!fake.r2.keys("regenerate/pbx/main/").is_empty());

    put(fake, "tenants/bravo", &json!({}));
    let mut bravos = pbx("pbx.bravo.example", "push");
    bravos["tenant"] = "bravo".into();
    let taken = call(fake, Method::PUT, "pbxes/main", &bravos);
    assert_eq!(
        taken.status(),
        StatusCode::CONFLICT,
        "accounts of acme would be there"
    );

    // Its own tenant has it back, and the accounts with it; or takes them elsewhere.
    fake.clock.pass_s(2);
    put(fake, "pbxes/main", &pbx("pbx.example", "observe"));
    assert_eq!(phone(&office).0, "1001");
    assert_eq!(warned(fake), Vec::<String>::new());
    delete(fake, "pbxes/main?force=1");
    fake.clock.pass_s(2);
    put(fake, "pbxes/second", &pbx("pbx.example", "observe"));
    for id in ["1001", "1002"] {
        patch(
            fake,
            &format!("accounts/acme-{id}"),
            &json!({ "pbx": "second" }),
        );
    }
    assert_eq!(phone(&office).0, "1001");
    // Nobody is there any more, so the id is anybody's.
    fake.clock.pass_s(2);
    put(fake, "pbxes/main", &bravos);
    assert_eq!(fake.r2.keys("gone/main/"), Vec::<String>::new());
}

#[test]
fn no_account_gets_to_a_pbx_of_another_tenant_that_has_the_id_of_its_own() {
    let scene = Scene::with_accounts(&["1001"]);
    let fake = &scene.fake;
    scene.minute();
    delete(fake, "pbxes/main?force=1");
    fake.clock.pass_s(2);
    // As if somebody had got past what keeps the id for acme.
    put(fake, "tenants/bravo", &json!({}));
    put(fake, "pbxes/main", &pbx("pbx.example", "push"));
    let moved = store::update::<dialtone::record::pbx::Pbx, Fake>(fake, "main", |stored| {
        stored.record.tenant = "bravo".to_owned().try_into().unwrap();
        true
    });
    block_on(moved).unwrap();
    scene.asterisk.loses_all();
    for _ in 0..6 {
        scene.minute();
    }
    assert_eq!(scene.asterisk.object("endpoint", "1001"), None);
}

#[test]
fn phones_whose_profile_is_gone_fall_back_to_the_other_levels_and_say_so() {
    let office = Office::new();
    let fake = &office.fake;
    patch(
        fake,
        "tenants/acme",
        &json!({ "settings": { "timezone": "Europe/London" } }),
    );
    let device = format!("devices/{MAC}");
    assert_eq!(phone(&office).1, "+1");
    delete(fake, "profiles/office?force=1");
    assert_eq!(phone(&office).1, "0");
    assert!(codes(fake, &device).contains("profile_gone"));
    assert_eq!(warned(fake), ["/profile"]);
    let saved = call(fake, Method::PATCH, &device, &json!({ "site": "here" }));
    assert_eq!(saved.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!fake.r2.keys("regenerate/profile/office/").is_empty());

    // Another tenant's of that id has nothing to do with it, its own tenant's has.
    fake.clock.pass_s(2);
    put(fake, "tenants/bravo", &json!({}));
    let settings = json!({ "timezone": "America/New_York" });
    put(
        fake,
        "profiles/office",
        &json!({ "tenant": "bravo", "settings": settings }),
    );
    assert_eq!(phone(&office).1, "0");
    assert_eq!(warned(fake), ["/profile"]);
    delete(fake, "profiles/office");
    fake.clock.pass_s(2);
    put(
        fake,
        "profiles/office",
        &json!({ "tenant": "acme", "settings": settings }),
    );
    assert_eq!(phone(&office).1, "-5");
    assert_eq!(warned(fake), Vec::<String>::new());
}

#[test]
fn a_profile_of_the_version_that_a_phone_is_held_to_is_in_use() {
    let office = Office::new();
    let fake = &office.fake;
    let device = format!("devices/{MAC}");
    let version = shown(fake, &format!("{device}/files"))["version"].clone();
    patch(fake, &device, &json!({ "profile": null }));
    fake.clock.pass_s(2);
    let back = json!({ "version": version });
    call(fake, Method::POST, &format!("{device}/rollback"), &back);
    assert_eq!(phone(&office).1, "+1");
    let (status, detail) = deletes(fake, "profiles/office");
    assert!(status == 409 && detail.contains(MAC), "{status} {detail}");
    delete(fake, "profiles/office?force=1");
    assert!(codes(fake, &device).contains("profile_gone"));
    // Its record names none.
    call(fake, Method::POST, &format!("{device}/unpin"), &json!({}));
    fake.clock.pass_s(61);
    assert!(!codes(fake, &device).contains("profile_gone"));
}

#[test]
fn a_profile_is_found_to_be_in_use_by_few_reads_and_also_where_kv_knows_nothing() {
    let office = Office::new();
    let fake = &office.fake;
    let profile = |n: u32| {
        json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U",
        "profile": if n == 150 { json!("office") } else { Value::Null } })
    };
    for n in 0..=150 {
        put(fake, &format!("devices/805ec00002{n:02x}"), &profile(n));
    }
    patch(fake, &format!("devices/{MAC}"), &json!({ "profile": null }));
    fake.clock.pass_s(61);
    let request = call_by(ADMIN_TOKEN, Method::DELETE, "profiles/office", &Value::Null);
    let (answer, kv, r2) = cost(fake, &request);
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert!(kv.all() <= 2 && r2.all() <= 6, "{kv:?} {r2:?}");
    // KV has nothing of a phone that was made a moment ago.
    fake.kv.late.set(Late::Behind);
    put(fake, "profiles/new", &json!({ "tenant": "acme" }));
    put(
        fake,
        &format!("devices/{SOFT}"),
        &json!({ "tenant": "acme", "vendor": "linphone", "model": "Linphone", "profile": "new" }),
    );
    let mac = "805ec00000aa";
    put(
        fake,
        &format!("devices/{mac}"),
        &json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "profile": "new" }),
    );
    let (status, detail) = deletes(fake, "profiles/new");
    assert!(status == 409 && detail.contains(mac), "{status} {detail}");
    let tenant = block_on(store::load::<Tenant, Fake>(fake, "acme"));
    assert!(tenant.unwrap().is_some());
}
