//! Sequences that once went wrong: two at a time, cut off in the middle, or with a store failing.

use std::rc::Rc;

use dialtone::ports::Mappings;
use dialtone::record::Stored;
use dialtone::record::account::Account;
use dialtone::record::device::Device;
use dialtone::{store, tick};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{Told, act, call, delete, fetch, follow, get, header, json_of, patch, put, text};
use crate::asterisk::Asterisk;
use crate::phone::{MAC, Office, PASSWORD, SERIAL, question, refused, unavailable};
use crate::readers;
use crate::world::{ADMIN_TOKEN, Failing, Fake, Late, block_on};

/// Another Yealink's MAC.
const SECOND: &str = "805ec0000002";
/// What the first Yealink says of itself.
const AGENT: &str = "Yealink SIP-T46U 108.86.0.20 80:5e:c0:00:00:01";

fn kv_fails(fake: &Fake, failing: Failing) {
    *fake.kv.failing.borrow_mut() = failing;
}

fn r2_fails(fake: &Fake, failing: Failing) {
    *fake.r2.failing.borrow_mut() = failing;
}

/// The status of a call of the admin API.
fn status(fake: &Fake, method: Method, path: &str, body: &Value) -> StatusCode {
    call(fake, method, path, body).status()
}

/// The status of a deletion.
fn deleting(fake: &Fake, path: &str) -> StatusCode {
    status(fake, Method::DELETE, path, &Value::Null)
}

/// Runs the scheduled handler once a minute, so many times.
fn minutes(fake: &Fake, count: u32) {
    for _ in 0..count {
        fake.clock.pass_s(61);
        block_on(tick::run(fake, None));
    }
}

fn account(fake: &Fake, id: &str) -> Stored<Account> {
    block_on(store::load::<Account, Fake>(fake, id))
        .unwrap()
        .unwrap()
        .stored
}

fn device(fake: &Fake, mac: &str) -> Stored<Device> {
    block_on(store::load::<Device, Fake>(fake, mac))
        .unwrap()
        .unwrap()
        .stored
}

/// An Asterisk at the office's PBX, with the accounts pushed to it.
fn asterisk(office: &Office) -> Rc<Asterisk> {
    let asterisk = Asterisk::new("dialtone", "ari-password-in-clear");
    let answering = Rc::clone(&asterisk);
    office
        .fake
        .net
        .answer(move |request| answering.answer(&request));
    patch(&office.fake, "pbxes/main", &json!({ "mode": "push" }));
    minutes(&office.fake, 2);
    asterisk
}

/// A PBX that nobody answers for.
fn pbx(tenant: &str, host: &str) -> Value {
    json!({
        "tenant": tenant,
        "ari_url": "https://a.example.com/ari",
        "ari_username": "dialtone",
        "ari_password": "another-ari-password",
        "sip": { "host": host },
    })
}

/// A Yealink with these accounts on its first lines.
fn yealink(accounts: &[&str]) -> Value {
    let lines: Vec<Value> = (1..)
        .zip(accounts)
        .map(|(line, account)| json!({ "line": line, "account": account }))
        .collect();
    json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "lines": lines })
}

/// A parameter of one of the Yealink's files, as it gets it.
fn setting(office: &Office, file: &str, parameter: &str) -> String {
    let file = text(&fetch(&office.fake, &office.file(file)));
    readers::yealink(&file)
        .unwrap()
        .settings
        .remove(parameter)
        .unwrap_or_else(|| panic!("{parameter} is not there"))
}

// Windows.

#[test]
fn a_window_on_a_phone_that_was_in_use_stays_its_claimants_until_it_uses_the_new_token() {
    let office = Office::new();
    let fake = &office.fake;
    text(&fetch(fake, &office.file("boot.cfg")));
    act(fake, MAC, "arm");
    let bare = get(&format!("/rps?mac={MAC}")).from("203.0.113.9");
    let first = json_of(&fetch(fake, &bare));
    assert_ne!(first["url"], office.base);
    fake.clock.pass_s(60);
    // Its answer may have been lost: it asks again. Nobody else may.
    refused(&fetch(fake, &bare.clone().from("198.51.100.7")));
    assert_eq!(json_of(&fetch(fake, &bare)), first);
    let url = first["url"].as_str().unwrap();
    text(&fetch(fake, &follow(&format!("{url}boot.cfg"))));
    refused(&fetch(fake, &bare));
}

#[test]
fn a_common_file_and_a_look_claim_no_window() {
    for (method, path) in [
        (Method::GET, "/rps/y000000000108.cfg"),
        (Method::HEAD, "/rps/805ec0000001.boot"),
    ] {
        let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
        let fake = &office.fake;
        let look = get(path).by(method.clone()).with("user-agent", AGENT);
        fetch(fake, &look);
        assert_eq!(
            office.stored().state.window.unwrap().claim,
            None,
            "{method} {path}"
        );
        // The phone itself then gets in, wherever it is.
        let own = get("/rps/805ec0000001.boot").from("203.0.113.9");
        text(&fetch(fake, &own));
    }
}

#[test]
fn a_phone_that_asks_for_the_common_file_first_gets_its_own_after_it() {
    let office = Office::new();
    let fake = &office.fake;
    text(&fetch(fake, &office.file("boot.cfg")));
    act(fake, MAC, "arm");
    for name in ["y000000000108.cfg", "805ec0000001.cfg", "805ec0000001.boot"] {
        let file = get(&format!("/rps/{name}")).with("user-agent", AGENT);
        assert_eq!(fetch(fake, &file).status(), StatusCode::OK, "{name}");
    }
}

// Tokens.

#[test]
fn a_token_that_is_revoked_while_its_file_is_made_gets_no_new_one() {
    let office = Office::new();
    let fake = &office.fake;
    text(&fetch(fake, &office.file("boot.cfg")));
    patch(
        fake,
        "profiles/office",
        &json!({ "settings": { "language": "de" } }),
    );
    fake.clock.pass_s(61);
    // The device is read to let the phone in, and again to make its files.
    let admin = Rc::clone(fake);
    fake.r2.before_read(&format!("device/{MAC}"), 1, move || {
        act(&admin, MAC, "revoke");
    });
    refused(&fetch(fake, &office.file("boot.cfg")));
    let path = format!("devices/{MAC}?secrets=1");
    let shown = json_of(&call(fake, Method::GET, &path, &Value::Null));
    assert_ne!(shown["provisioning_url"], office.base, "was it revoked?");
}

#[test]
fn without_r2_a_token_that_gave_way_days_ago_opens_nothing() {
    let office = Office::new();
    let fake = &office.fake;
    act(fake, MAC, "rotate");
    let answer = json_of(&fetch(fake, &question(MAC, SERIAL)));
    let base = answer["url"].as_str().unwrap();
    text(&fetch(fake, &follow(&format!("{base}ACC.cfg"))));
    refused(&fetch(fake, &office.file("ACC.cfg")));
    fake.clock.pass_s(3 * 86_400);
    r2_fails(fake, Failing::All);
    unavailable(&fetch(fake, &office.file("ACC.cfg")));
    text(&fetch(fake, &follow(&format!("{base}ACC.cfg"))));
}

// Tenants.

#[test]
fn a_deleted_profile_that_another_tenant_makes_again_says_nothing_to_the_phone() {
    let office = Office::new();
    let fake = &office.fake;
    delete(fake, "profiles/office?force=1");
    put(fake, "tenants/evil", &json!({}));
    fake.clock.pass_s(2);
    let theirs = json!({ "tenant": "evil", "settings": { "ntp_server": "ntp.evil.example" } });
    put(fake, "profiles/office", &theirs);
    fake.clock.pass_s(61);
    let server = setting(&office, "first.cfg", "local_time.ntp_server1");
    assert_eq!(server, "pool.ntp.org");
}

#[test]
fn an_account_deleted_under_a_new_phone_gives_it_nothing_of_another_tenant() {
    let office = Office::new();
    let fake = &office.fake;
    put(fake, "tenants/evil", &json!({}));
    put(fake, "pbxes/evil", &pbx("evil", "evil.example.com"));
    let ours = json!({ "tenant": "acme", "pbx": "main", "username": "77" });
    put(fake, "accounts/shared", &ours);
    fake.clock.pass_s(5);
    let admin = Rc::clone(fake);
    let path = format!("device/{SECOND}");
    fake.r2
        .before_next_put(&path, move || delete(&admin, "accounts/shared"));
    put(fake, &format!("devices/{SECOND}"), &yealink(&["shared"]));
    fake.clock.pass_s(5);
    let theirs = json!({
        "tenant": "evil",
        "pbx": "evil",
        "username": "boss",
        "password": "evil-tenants-password",
    });
    put(fake, "accounts/shared", &theirs);
    let path = format!("devices/{SECOND}/files/ACC.cfg?secrets=1");
    let file = text(&call(fake, Method::GET, &path, &Value::Null));
    assert!(!file.contains("boss"), "{file}");
    assert!(!file.contains("evil"), "{file}");
}

#[test]
fn a_tenant_is_not_deleted_under_a_pbx_whose_save_did_not_reach_kv() {
    let office = Office::new();
    let fake = &office.fake;
    put(fake, "tenants/other", &json!({}));
    kv_fails(fake, Failing::Prefix("pbx/".to_owned()));
    put(fake, "pbxes/other", &pbx("other", "other.example.com"));
    kv_fails(fake, Failing::None);
    assert_eq!(deleting(fake, "tenants/other"), StatusCode::CONFLICT);
    delete(fake, "pbxes/other");
    delete(fake, "tenants/other");
}

#[test]
fn a_rule_made_again_for_another_tenant_leaves_the_former_ones_pack() {
    let office = Office::new();
    let fake = &office.fake;
    put(fake, "tenants/other", &json!({}));
    let ours = json!({ "match": { "tenant": "acme" }, "url": "https://old.example/" });
    put(fake, "rules/way", &ours);
    kv_fails(fake, Failing::Puts);
    deleting(fake, "rules/way");
    kv_fails(fake, Failing::None);
    fake.clock.pass_s(2);
    let theirs = json!({ "match": { "tenant": "other" }, "url": "https://other.example/" });
    put(fake, "rules/way", &theirs);
    minutes(fake, 5);
    let answer = json_of(&fetch(fake, &question(MAC, SERIAL)));
    assert_eq!(answer["url"], office.base);
    let listed = |tenant: &str| {
        let path = format!("rules?tenant={tenant}");
        let listed = json_of(&call(fake, Method::GET, &path, &Value::Null));
        listed["items"].as_array().unwrap().len()
    };
    assert_eq!((listed("acme"), listed("other")), (0, 1));
    assert_eq!(fake.r2.keys("of/acme/rule"), Vec::<String>::new());
}

// Names at a PBX.

#[test]
fn a_pbx_stays_until_the_last_deleted_account_is_gone_there() {
    let office = Office::new();
    let fake = &office.fake;
    let asterisk = asterisk(&office);
    assert_eq!(asterisk.names(), ["1001", "1002"]);
    for path in [
        "devices/805ec0000001",
        "devices/0a5ec0000001",
        "accounts/acme-1001",
        "accounts/acme-1002",
    ] {
        delete(fake, path);
    }
    assert_eq!(deleting(fake, "pbxes/main"), StatusCode::CONFLICT);
    delete(fake, "profiles/office");
    assert_eq!(deleting(fake, "tenants/acme"), StatusCode::CONFLICT);
    minutes(fake, 11);
    assert_eq!(asterisk.names(), Vec::<String>::new());
    assert_eq!(fake.r2.keys("gone/"), Vec::<String>::new());
    delete(fake, "pbxes/main");
    delete(fake, "tenants/acme");
}

#[test]
fn an_account_made_again_with_another_name_before_its_deletion_is_through_leaves_no_name_behind() {
    let office = Office::new();
    let fake = &office.fake;
    let asterisk = asterisk(&office);
    let named = |name: &str| json!({ "tenant": "acme", "pbx": "main", "username": name });
    put(fake, "accounts/third", &named("1003"));
    minutes(fake, 2);
    assert_eq!(asterisk.names(), ["1001", "1002", "1003"]);
    kv_fails(fake, Failing::Puts);
    deleting(fake, "accounts/third");
    kv_fails(fake, Failing::None);
    fake.clock.pass_s(2);
    put(fake, "accounts/third", &named("2003"));
    minutes(fake, 11);
    assert_eq!(asterisk.names(), ["1001", "1002", "2003"]);
    assert_eq!(fake.r2.keys("gone/"), Vec::<String>::new());
    assert_eq!(fake.r2.keys("unfinished/"), Vec::<String>::new());
    // And somebody else may have it.
    put(fake, "accounts/fourth", &named("1003"));
}

#[test]
fn a_name_that_another_account_takes_while_it_is_given_up_stays_the_others() {
    let office = Office::new();
    let fake = &office.fake;
    let asterisk = asterisk(&office);
    let taking = |display: &str| json!({ "tenant": "acme", "pbx": "main", "username": "1001", "display_name": display });
    let (admin, winner) = (Rc::clone(fake), taking("The winner"));
    fake.r2.before_next_put("gone/main/1001", move || {
        put(&admin, "accounts/winner", &winner);
    });
    patch(fake, "accounts/acme-1001", &json!({ "username": "1009" }));
    fake.clock.pass_s(2);
    let late = status(fake, Method::PUT, "accounts/late", &taking("Too late"));
    assert_eq!(late, StatusCode::CONFLICT);
    minutes(fake, 10);
    assert_eq!(asterisk.names(), ["1001", "1002", "1009"]);
    let caller = asterisk.field("endpoint", "1001", "callerid").unwrap();
    assert!(caller.contains("The winner"), "{caller}");
    // Nothing of the winner's is deleted later, and its own deletion still is.
    asterisk.take_changes();
    minutes(fake, 10);
    assert_eq!(asterisk.take_changes(), Vec::<String>::new());
    delete(fake, "accounts/winner");
    minutes(fake, 11);
    assert_eq!(asterisk.names(), ["1002", "1009"]);
    assert_eq!(fake.r2.keys("gone/"), Vec::<String>::new());
}

#[test]
fn an_account_whose_save_failed_holds_neither_its_name_nor_its_pbx() {
    let office = Office::new();
    let fake = &office.fake;
    put(fake, "pbxes/spare", &pbx("acme", "spare.example.com"));
    let breaking = Rc::clone(fake);
    fake.r2.before_next_put("account/new", move || {
        r2_fails(&breaking, Failing::Puts);
    });
    let new = json!({ "tenant": "acme", "pbx": "spare", "username": "5" });
    unavailable(&call(fake, Method::PUT, "accounts/new", &new));
    r2_fails(fake, Failing::None);
    minutes(fake, 5);
    assert_eq!(fake.r2.keys("unfinished/"), Vec::<String>::new());
    let path = "accounts/new";
    let shown = status(fake, Method::GET, path, &Value::Null);
    assert_eq!(shown, StatusCode::NOT_FOUND);
    put(fake, "accounts/other", &new);
    delete(fake, "accounts/other");
    minutes(fake, 10);
    delete(fake, "pbxes/spare");
}

// Saves that cross, or are cut off.

#[test]
fn an_account_saved_under_another_save_and_cut_off_reaches_the_phone() {
    let office = Office::new();
    let fake = &office.fake;
    text(&fetch(fake, &office.file("ACC.cfg")));
    fake.clock.pass_s(5);
    let admin = Rc::clone(fake);
    fake.r2.before_next_put(&format!("device/{MAC}"), move || {
        kv_fails(&admin, Failing::Puts);
        let second = json!({ "display_name": "Second", "password": "second-password" });
        call(&admin, Method::PATCH, "accounts/acme-1001", &second);
        kv_fails(&admin, Failing::None);
    });
    let first = json!({ "display_name": "First" });
    patch(fake, "accounts/acme-1001", &first);
    // The first save took away its own mark and left the other.
    assert_eq!(fake.r2.keys("unfinished/account/acme-1001/").len(), 1);
    minutes(fake, 10);
    assert_eq!(fake.r2.keys("unfinished/"), Vec::<String>::new());
    let kept = account(fake, "acme-1001");
    assert_eq!(kept.record.display_name(), "Second");
    let of = |parameter: &str| setting(&office, "ACC.cfg", parameter);
    assert_eq!(of("account.1.display_name"), "Second");
    assert_eq!(of("account.1.password"), "second-password");
}

/// Saves the profile in German; when all of that is done but the last look at the tenant's list,
/// does `between` and saves it in French, which is cut off right after its compare-and-set.
fn german_and_then_french(fake: &Rc<Fake>, between: impl FnOnce() + 'static) {
    const LISTED: &str = "of/acme/profile/office";
    let outer = Rc::clone(fake);
    // Once before the save, and once when it is copied.
    fake.r2.before_next_put(LISTED, move || {
        let admin = Rc::clone(&outer);
        outer.r2.before_next_put(LISTED, move || {
            between();
            kv_fails(&admin, Failing::Puts);
            let french = json!({ "settings": { "language": "fr" } });
            call(&admin, Method::PATCH, "profiles/office", &french);
            kv_fails(&admin, Failing::None);
        });
    });
    let german = json!({ "settings": { "language": "de" } });
    patch(fake, "profiles/office", &german);
    assert_eq!(fake.r2.keys("unfinished/profile/office/").len(), 1);
    let path = "profiles/office";
    let shown = json_of(&call(fake, Method::GET, path, &Value::Null));
    assert_eq!(shown["settings"]["language"], "fr");
}

#[test]
fn a_profile_saved_under_another_save_and_cut_off_reaches_the_phone() {
    let office = Office::new();
    let fake = &office.fake;
    text(&fetch(fake, &office.file("first.cfg")));
    fake.clock.pass_s(5);
    german_and_then_french(fake, || {});
    minutes(fake, 10);
    assert_eq!(fake.r2.keys("unfinished/"), Vec::<String>::new());
    let language = setting(&office, "first.cfg", "lang.gui");
    assert_eq!(language, "French");
}

#[test]
fn a_profile_saved_after_a_phone_looked_and_cut_off_reaches_the_phone() {
    let office = Office::new();
    let fake = &office.fake;
    fake.kv.late.set(Late::No);
    text(&fetch(fake, &office.file("first.cfg")));
    fake.clock.pass_s(5);
    let (phone, poll) = (Rc::clone(fake), office.file("first.cfg"));
    german_and_then_french(fake, move || {
        let polled = readers::yealink(&text(&fetch(&phone, &poll))).unwrap();
        assert_eq!(polled.settings["lang.gui"], "German");
        phone.clock.pass_s(2);
    });
    minutes(fake, 10);
    let language = setting(&office, "first.cfg", "lang.gui");
    assert_eq!(language, "French");
}

// Stores that fail.

#[test]
fn a_new_phones_secrets_are_shown_although_r2_fails_after_the_save() {
    const NEW: &str = "805ec0000009";
    let office = Office::new();
    let fake = &office.fake;
    let breaking = Rc::clone(fake);
    fake.kv.before_next_put(&format!("device/{NEW}"), move || {
        r2_fails(&breaking, Failing::Prefix("device/".to_owned()));
    });
    let path = format!("devices/{NEW}");
    let made = call(fake, Method::PUT, &path, &yealink(&[]));
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = serde_json::from_slice(made.body()).unwrap();
    r2_fails(fake, Failing::None);
    // It is there once, and what was shown is what opens it.
    assert_eq!(put(fake, &path, &yealink(&[]))["revision"], 1);
    for (url, file) in [
        (&made["provisioning_url"], "boot.cfg"),
        (&made["first_access"]["url"], "805ec0000009.boot"),
    ] {
        let url = format!("{}{file}", url.as_str().unwrap());
        text(&fetch(fake, &follow(&url)));
    }
}

#[test]
fn an_accounts_save_reaches_the_phone_although_kv_fails() {
    let office = Office::new();
    let fake = &office.fake;
    text(&fetch(fake, &office.file("ACC.cfg")));
    fake.clock.pass_s(5);
    kv_fails(fake, Failing::Puts);
    let new = json!({ "display_name": "New" });
    patch(fake, "accounts/acme-1001", &new);
    fake.clock.pass_s(1);
    let shown = || setting(&office, "ACC.cfg", "account.1.display_name");
    assert_eq!(shown(), "New");
    minutes(fake, 5);
    assert_eq!(shown(), "New");
}

#[test]
fn an_account_that_kv_does_not_know_yet_never_leaves_a_line_empty() {
    let office = Office::new();
    let fake = &office.fake;
    fake.clock.pass_s(120);
    // KV says for a minute that it has no such account, and knows the device.
    let missing = block_on(fake.kv.get_many(&["account/acme-1003".to_owned()]));
    assert_eq!(missing.unwrap(), [None]);
    let third = json!({
        "tenant": "acme",
        "pbx": "main",
        "username": "1003",
        "password": "third-password",
    });
    put(fake, "accounts/acme-1003", &third);
    fake.clock.pass_s(1);
    patch(
        fake,
        &format!("devices/{MAC}"),
        &json!({ "lines": [{ "line": 1, "account": "acme-1003" }] }),
    );
    let password = || setting(&office, "ACC.cfg", "account.1.password");
    assert_eq!(password(), "third-password");
    r2_fails(fake, Failing::All);
    unavailable(&fetch(fake, &office.file("ACC.cfg")));
    r2_fails(fake, Failing::None);
    assert_eq!(password(), "third-password");
}

#[test]
fn without_kv_a_phone_keeps_its_files_and_is_told_to_ask_for_its_way_later() {
    let office = Office::new();
    let fake = &office.fake;
    kv_fails(fake, Failing::All);
    assert!(text(&fetch(fake, &office.file("ACC.cfg"))).contains(PASSWORD));
    unavailable(&fetch(fake, &office.file("redirect.cfg")));
    unavailable(&fetch(fake, &question(MAC, SERIAL)));
}

// What is counted.

#[test]
fn a_phone_that_was_refused_counts_at_none_of_its_accounts() {
    let office = Office::new();
    let fake = &office.fake;
    let asterisk = asterisk(&office);
    let contacts = || asterisk.field("aor", "1001", "max_contacts");
    assert_eq!(contacts().as_deref(), Some("1"));
    for number in 0..19 {
        let path = format!("devices/805ec00001{number:02x}");
        put(fake, &path, &yealink(&["acme-1002"]));
    }
    let both = yealink(&["acme-1001", "acme-1002"]);
    let refused = status(fake, Method::PUT, "devices/805ec0000f00", &both);
    assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY);
    patch(fake, "accounts/acme-1001", &json!({ "display_name": "x" }));
    minutes(fake, 3);
    let devices = account(fake, "acme-1001").state.devices;
    assert_eq!(devices, [MAC.parse().unwrap()].into());
    assert_eq!(contacts().as_deref(), Some("1"));
}

#[test]
fn a_deleted_phone_does_not_count_any_more() {
    let office = Office::new();
    let fake = &office.fake;
    let asterisk = asterisk(&office);
    let contacts = || asterisk.field("aor", "1001", "max_contacts");
    let second = yealink(&["acme-1001"]);
    put(fake, &format!("devices/{SECOND}"), &second);
    minutes(fake, 2);
    assert_eq!(contacts().as_deref(), Some("2"));
    delete(fake, &format!("devices/{MAC}"));
    minutes(fake, 30);
    let devices = account(fake, "acme-1001").state.devices;
    assert_eq!(devices, [SECOND.parse().unwrap()].into());
    assert_eq!(contacts().as_deref(), Some("1"));
}

#[test]
fn a_phone_that_nobody_saw_is_unseen_although_its_account_is_online() {
    let office = Office::new();
    let fake = &office.fake;
    let asterisk = asterisk(&office);
    asterisk.registers("1001");
    minutes(fake, 1);
    let path = format!("devices/{SECOND}");
    put(fake, &path, &yealink(&["acme-1001"]));
    let path = format!("{path}/status");
    let shown = json_of(&call(fake, Method::GET, &path, &Value::Null));
    assert_eq!(shown["lines"][0]["state"], "shared");
    assert_eq!(shown["status"], "unseen");
}

#[test]
fn thousands_of_lines_are_refused_before_anything_is_read_for_them() {
    let office = Office::new();
    let fake = &office.fake;
    let lines = json!({ "line": 1, "account": "acme-1001" });
    let mut phone = yealink(&[]);
    phone["lines"] = vec![lines; 3_000].into();
    fake.r2.take_count();
    let answer = call(fake, Method::PUT, &format!("devices/{MAC}"), &phone);
    let count = fake.r2.take_count();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(count.gets <= 2 && count.all() == count.gets, "{count:?}");
    assert!(answer.body().len() < 1_000, "{}", answer.body().len());
}

#[test]
fn a_status_reads_every_record_once_however_many_phones_share_it() {
    let office = Office::new();
    let fake = &office.fake;
    let ids: Vec<String> = (0..12).map(|number| format!("many-{number}")).collect();
    for id in &ids {
        let account = json!({ "tenant": "acme", "pbx": "main", "username": id });
        put(fake, &format!("accounts/{id}"), &account);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for number in 0..18 {
        let path = format!("devices/805ec00001{number:02x}");
        put(fake, &path, &yealink(&ids));
    }
    fake.r2.take_count();
    let shown = json_of(&call(fake, Method::GET, "status", &Value::Null));
    let count = fake.r2.take_count();
    let seen = shown["devices"].as_object().unwrap().values();
    assert_eq!(seen.filter_map(Value::as_u64).sum::<u64>(), 20, "{shown}");
    // 20 phones, 14 accounts, and what the PBX, its AMI and the last run said.
    assert_eq!((count.gets, count.lists, count.writes()), (37, 1, 0));
}

// The admin API.

#[test]
fn a_wrong_method_is_refused_before_anything_is_read_or_shown() {
    let office = Office::new();
    let fake = &office.fake;
    fake.clock.pass_s(5);
    let logged = fake.log.borrow().len();
    fake.r2.take_count();
    fake.kv.take_count();
    for (method, path) in [
        (Method::DELETE, format!("/api/v1/devices/{MAC}/files")),
        (
            Method::POST,
            format!("/api/v1/devices/{MAC}/files/ACC.cfg?secrets=1"),
        ),
    ] {
        let request = get(&path)
            .by(method)
            .with("authorization", &format!("Bearer {ADMIN_TOKEN}"));
        let answer = fetch(fake, &request);
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(header(&answer, "allow"), "GET, HEAD", "{path}");
    }
    let counts = [fake.r2.take_count().all(), fake.kv.take_count().all()];
    assert_eq!(counts, [0, 0]);
    assert_eq!(fake.log.borrow().len(), logged, "{}", fake.logged());
}

#[test]
fn a_preview_under_another_host_stores_nothing() {
    let office = Office::new();
    let fake = &office.fake;
    text(&fetch(fake, &office.file("ACC.cfg")));
    fake.clock.pass_s(5);
    let before = device(fake, MAC);
    fake.r2.take_count();
    fake.kv.take_count();
    for path in ["files", "files/first.cfg", "files/ACC.cfg?secrets=1"] {
        let mut preview = get(&format!("/api/v1/devices/{MAC}/{path}"))
            .with("authorization", &format!("Bearer {ADMIN_TOKEN}"));
        "other.example".clone_into(&mut preview.host);
        text(&fetch(fake, &preview));
    }
    let writes = [fake.r2.take_count().writes(), fake.kv.take_count().writes()];
    assert_eq!(writes, [1, 0], "more than the audit's entry of the secrets");
    assert_eq!(device(fake, MAC).rev, before.rev);
}
