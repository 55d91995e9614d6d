//! A change of `SEAL_KEY` from end to end: an office under one key, the deployment with another one,
//! scheduled runs a minute apart, and the deployment without the old one.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dialtone::admin::caller::Caller;
use dialtone::admin::save::Context;
use dialtone::admin::status;
use dialtone::key::{self, Kind};
use dialtone::keys::Keys;
use dialtone::mac::Mac;
use dialtone::ports::{Mappings, Objects, Only, World};
use dialtone::record::Record;
use dialtone::record::account::Account;
use dialtone::record::device::Device;
use dialtone::record::pbx::Pbx;
use dialtone::record::tenant::Tenant;
use dialtone::rekey::{self, CALLS, SETTLED_S};
use dialtone::step3_boot_request::Part;
use dialtone::store::{self, secret_place};
use dialtone::text::Id;
use dialtone::{finish, render, tick};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{Told, act, call, cost, delete, fetch, follow, get, json_of, patch, put, text};
use crate::phone::{MAC, Office, PASSWORD, SERIAL, SOFT, SOFT_SERIAL, question, refused};
use crate::world::{ADMIN_TOKEN, Failing, Fake, Late, SEAL_KEY, block_on};

/// Another key, of no secret either.
const NEW_KEY: &str = "YW5vdGhlciB0ZXN0IHNlYWwga2V5LCBubyBzZWNyZXQ=";
/// What a Yealink puts there.
const LOCAL: &str = "805ec0000001-local.cfg";

fn keys(key: &str, old: Option<&str>) -> Keys {
    Keys::new(Some(ADMIN_TOKEN), Some(key), old).unwrap_or_else(|error| panic!("{error:?}"))
}

/// A key whose name begins with the same byte as that of the tests' own: what they seal and sign
/// does not say which of them it was.
fn look_alike() -> String {
    let byte = |key: &str| keys(key, None).id().to_string()[..2].to_owned();
    let mut others = (0_u64..).map(|n| {
        let mut master = [7; 32];
        master[..8].copy_from_slice(&n.to_be_bytes());
        STANDARD.encode(master)
    });
    others.find(|key| byte(key) == byte(SEAL_KEY)).unwrap()
}

/// An office with every kind of secret, whose Yealink is in use and has put something there.
fn office() -> Office {
    let office = Office::of(
        &json!({ "settings": { "admin_password": "tenant-admin" } }),
        &json!({ "settings": { "user_password": "phone-user" } }),
    );
    let fake = &office.fake;
    patch(
        fake,
        "pbxes/main",
        &json!({
            "headers": { "cf-access-client-secret": "access-secret-0123" },
            "ami": { "url": "https://pbx.example.com/ami", "username": "m", "password": "ami-secret" },
        }),
    );
    patch(fake, "accounts/acme-1001", &json!({ "pin": "2468" }));
    let profile = json!({ "settings": { "admin_password": "profile-admin" } });
    patch(fake, "profiles/office", &profile);
    for name in ["boot.cfg", "ACC.cfg"] {
        text(&fetch(fake, &office.file(name)));
    }
    let mut upload = office.file(LOCAL).by(Method::PUT);
    upload.body = b"changed = 1\n".to_vec();
    assert_eq!(fetch(fake, &upload).status(), StatusCode::CREATED);
    office
}

/// The next minute's run.
fn minute(fake: &Fake) {
    fake.clock.pass_s(60);
    block_on(tick::run(fake, None));
}

/// What the status says of the change.
fn old_key(fake: &Fake) -> Value {
    let shown = block_on(rekey::shown(fake)).unwrap();
    serde_json::to_value(shown).unwrap()["old"].clone()
}

/// Runs until a whole round is through that began after this was called.
fn next_round(fake: &Fake) -> Value {
    let before = old_key(fake)["checked_at"].clone();
    for _ in 0..2_000 {
        minute(fake);
        let now = old_key(fake);
        if now["checked_at"] != before {
            return now;
        }
    }
    panic!("no round ends");
}

/// Runs until the old key can go.
fn until_done(fake: &Fake) {
    for _ in 0..100 {
        if old_key(fake)["done"] == true {
            return;
        }
        minute(fake);
    }
    panic!("{}", old_key(fake));
}

fn counts(old: &Value) -> [u64; 3] {
    ["sealed", "unreadable", "devices"].map(|name| old[name].as_u64().unwrap())
}

/// Every seal of a record, wherever it is kept: its place and text.
fn seals(fake: &Fake) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut add = |key: &str, value: &Value| {
        for (name, sealed) in value["sealed"].as_object().into_iter().flatten() {
            let sealed = sealed.as_str().unwrap().to_owned();
            found.insert((format!("{key}/{name}"), sealed));
        }
        if let Some(mac) = key.strip_prefix("device/") {
            for (part, file) in value["state"]["files"]["parts"]
                .as_object()
                .into_iter()
                .flatten()
            {
                let part: Part = serde_json::from_value(json!(part)).unwrap();
                let place = format!("file/{mac}/{}", part.neutral_name());
                found.insert((place, file["sealed"].as_str().unwrap().to_owned()));
            }
        }
    };
    fake.kv.late.set(Late::No);
    for kind in Kind::ALL {
        for key in fake.r2.keys(&key::records(kind)) {
            let object = block_on(fake.r2.get(&key)).unwrap().unwrap();
            add(&key, &serde_json::from_slice(&object.body).unwrap());
            let copy = block_on(fake.kv.get_many(std::slice::from_ref(&key)))
                .unwrap()
                .pop();
            if let Some(copy) = copy.flatten() {
                add(&key, &serde_json::from_str(&copy).unwrap());
            }
        }
    }
    for key in fake.r2.keys(key::ALL_UPLOADS) {
        let object = block_on(fake.r2.get(&key)).unwrap().unwrap();
        found.insert((key, String::from_utf8(object.body).unwrap()));
    }
    fake.kv.late.set(Late::Cached);
    found
}

/// A file without the URL in it, which is all that may differ.
fn without(text: &str, base: &str) -> String {
    text.replace(base, "{base}")
}

fn base_now(fake: &Fake, mac: &str) -> String {
    let shown = call(
        fake,
        Method::GET,
        &format!("devices/{mac}?secrets=1"),
        &Value::Null,
    );
    json_of(&shown)["provisioning_url"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn stored<R: Record>(fake: &Fake, id: &str) -> dialtone::record::Stored<R> {
    block_on(store::load::<R, Fake>(fake, id))
        .unwrap()
        .unwrap()
        .stored
}

/// Every secret in clear, by its place; files are none.
fn clear(fake: &Fake) -> BTreeMap<String, Vec<u8>> {
    let mut secrets = BTreeMap::new();
    for (place, sealed) in seals(fake) {
        if !place.starts_with("file/") {
            let text = fake.keys().open(&place, &sealed);
            secrets.insert(place, text.unwrap());
        }
    }
    secrets
}

#[test]
fn the_office_of_these_tests_has_every_kind_of_secret() {
    let secrets = clear(&office().fake);
    for name in [
        "tenant/acme/admin_password",
        "profile/office/admin_password",
        "pbx/main/ari_password",
        "pbx/main/ami_password",
        "pbx/main/headers",
        "account/acme-1001/password",
        "account/acme-1001/pin",
        "account/acme-1002/password",
        "device/805ec0000001/user_password",
        "upload/805ec0000001/805ec0000001-local.cfg",
    ] {
        assert!(secrets.contains_key(name), "{name}");
    }
}

fn the_whole_change(new: &str) {
    let office = office();
    let fake = &*office.fake;
    let before = clear(fake);
    let files = ["boot.cfg", "first.cfg", "ACC.cfg", "BTN.cfg"];
    let old_files = files.map(|name| text(&fetch(fake, &office.file(name))));
    let status = json_of(&call(fake, Method::GET, "status", &Value::Null));
    assert_eq!(status["keys"], json!({ "current": fake.keys().id() }));

    fake.deploy(new, Some(SEAL_KEY));
    let asked = old_key(fake);
    assert_eq!(asked["id"], json!(keys(SEAL_KEY, None).id()));
    assert_eq!(
        (&asked["checked_at"], &asked["done"]),
        (&Value::Null, &json!(false))
    );
    // At once, and before any run: the phone comes with its old URL and goes with the new one.
    let base = base_now(fake, MAC);
    assert_ne!(base, office.base);
    for (name, before) in files.into_iter().zip(&old_files) {
        let now = text(&fetch(fake, &office.file(name)));
        assert_eq!(
            without(&now, &base),
            without(before, &office.base),
            "{name}"
        );
    }
    let made = office.stored().state.files;

    // The Linphone never came. The Yealink has its new URL, but was not seen to use it.
    let round = next_round(fake);
    assert_eq!(counts(&round), [0, 0, 2]);
    assert_eq!(round["macs"], json!([SOFT, MAC]));
    assert_eq!(round["done"], false);
    let status = json_of(&call(fake, Method::GET, "status", &Value::Null));
    let shown = json!({ "current": fake.keys().id(), "old": round });
    assert_eq!(status["keys"], shown);
    assert_eq!(clear(fake), before, "the same secrets");
    for (place, sealed) in seals(fake) {
        assert_eq!(
            fake.keys().opened_by(&place, &sealed),
            Some(fake.keys().id()),
            "{place}"
        );
    }
    // The scheduled run did not make the files once more.
    assert_eq!(office.stored().state.files, made);
    let new_url = |name: &str| follow(&format!("{base}{name}"));
    text(&fetch(fake, &new_url("boot.cfg")));
    assert_eq!(counts(&next_round(fake)), [0, 0, 1]);
    assert_eq!(old_key(fake)["macs"], json!([SOFT]));

    // It is given out anew; from then on nothing hangs on the old key, which one more round says.
    act(fake, SOFT, "revoke");
    let round = next_round(fake);
    assert_eq!((counts(&round), &round["done"]), ([0, 0, 0], &json!(true)));

    fake.clock.pass_s(60);
    fake.deploy(new, None);
    assert_eq!(clear(fake), before);
    for (name, before) in files.into_iter().zip(&old_files) {
        let now = text(&fetch(fake, &new_url(name)));
        assert_eq!(
            without(&now, &base),
            without(before, &office.base),
            "{name}"
        );
    }
    assert_eq!(text(&fetch(fake, &new_url(LOCAL))), "changed = 1\n");
    let (answer, kv, r2) = cost(fake, &office.file("ACC.cfg"));
    refused(&answer);
    assert_eq!(
        kv.all() + r2.all(),
        0,
        "no read for what the old key signed"
    );
    refused(&fetch(
        fake,
        &follow(&format!("{}{MAC}.boot", office.first_access)),
    ));
    let found = json_of(&fetch(fake, &question(SOFT, SOFT_SERIAL)));
    let url = found["url"].as_str().unwrap();
    text(&fetch(fake, &follow(&format!("{url}boot.cfg"))));
    // And KV's copies, should R2 fail.
    *fake.r2.failing.borrow_mut() = Failing::All;
    assert!(text(&fetch(fake, &new_url("ACC.cfg"))).contains(PASSWORD));
    *fake.r2.failing.borrow_mut() = Failing::None;
    let logged = fake.logged();
    for secret in ["tenant-admin", "phone-user", "2468", "ami-secret", PASSWORD] {
        assert!(!logged.contains(secret), "{secret}");
    }
}

#[test]
fn a_key_is_changed_and_nothing_is_lost_but_what_the_status_named() {
    the_whole_change(NEW_KEY);
}

#[test]
fn two_keys_of_one_name_byte_are_told_apart_all_the_same() {
    the_whole_change(&look_alike());
}

#[test]
fn a_phone_that_never_came_is_refused_once_the_old_key_is_gone() {
    let office = Office::new();
    let fake = &*office.fake;
    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    let first_access = |base: &str, file: &str| follow(&format!("{base}{file}"));
    let file = format!("{MAC}.boot");
    assert_eq!(
        fetch(fake, &first_access(&office.first_access, &file)).status(),
        StatusCode::OK
    );
    let round = next_round(fake);
    assert_eq!(
        counts(&round),
        [0, 0, 2],
        "it was led on, and has fetched nothing"
    );
    fake.deploy(NEW_KEY, None);
    refused(&fetch(fake, &first_access(&office.first_access, &file)));
    let (answer, kv, r2) = cost(fake, &office.file("boot.cfg"));
    refused(&answer);
    assert_eq!(kv.all() + r2.all(), 0);
}

#[test]
fn without_an_old_key_a_run_costs_nothing_more_and_with_one_at_rest_a_read() {
    let office = office();
    let fake = &*office.fake;
    let run = || {
        fake.clock.pass_s(60);
        // Each tenth minute it is looked whether the templates are new.
        if (fake.now().0 / 60).is_multiple_of(10) {
            fake.clock.pass_s(60);
        }
        fake.kv.take_count();
        fake.r2.take_count();
        block_on(tick::run(fake, None));
        (fake.kv.take_count(), fake.r2.take_count())
    };
    // A PBX that says nothing would be asked less and less often.
    fake.net.answer(|_| {
        let answer = http::Response::builder().header("content-type", "application/json");
        Ok(answer.body(b"[]".to_vec()).unwrap())
    });
    fake.kv.take_count();
    fake.r2.take_count();
    block_on(rekey::run(fake)).unwrap();
    assert_eq!(fake.kv.take_count().all() + fake.r2.take_count().all(), 0);
    // What the saves of shared records had looked at is done.
    for _ in 0..5 {
        run();
    }
    let (kv, r2) = run();
    assert_eq!(fake.r2.keys(key::REKEY), [""; 0]);

    // The same key twice is no change.
    fake.deploy(SEAL_KEY, Some(SEAL_KEY));
    assert_eq!(run(), (kv, r2));
    assert_eq!(old_key(fake), Value::Null);

    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    fetch(fake, &office.file("boot.cfg"));
    fetch(fake, &follow(&format!("{}boot.cfg", base_now(fake, MAC))));
    act(fake, SOFT, "revoke");
    until_done(fake);
    let (kv_at_rest, mut at_rest) = run();
    at_rest.gets -= 1;
    // And the audit's one head is looked at.
    at_rest.gets -= 1;
    at_rest.lists -= 1;
    assert_eq!((kv_at_rest, at_rest), (kv, r2), "one read: nothing is due");
}

#[test]
fn a_repeat_writes_nothing_and_the_same_phone_is_noted_once() {
    let office = office();
    let fake = &*office.fake;
    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    let base = base_now(fake, MAC);
    let writes = |request| {
        fake.kv.take_count();
        fake.r2.take_count();
        fetch(fake, &request);
        (fake.kv.take_count().writes(), fake.r2.take_count().writes())
    };
    let new = |name: &str| follow(&format!("{base}{name}"));
    // The files are made again once, and the new version is noted, in the audit as well.
    assert_eq!(writes(office.file("boot.cfg")), (0, 3));
    assert_eq!(writes(office.file("boot.cfg")), (0, 0));
    assert_eq!(writes(new("ACC.cfg")), (0, 2));
    assert_eq!(
        office.stored().state.access.key,
        Some(keys(SEAL_KEY, None).id())
    );
    // A phone that is told its old URL at each start, and goes on with the new one from there: it
    // hangs on the old key, and costs no write.
    for _ in 0..3 {
        assert_eq!(writes(office.file("boot.cfg")), (0, 0));
        for name in ["first.cfg", "ACC.cfg", "BTN.cfg"] {
            assert_eq!(writes(new(name)), (0, 0), "{name}");
        }
    }
    assert_eq!(old_key(fake)["devices"], 0, "nothing was counted yet");
    assert_eq!(next_round(fake)["devices"], 2);
    // One that keeps the new URL is noted with it, once.
    assert_eq!(writes(new("boot.cfg")), (0, 1));
    assert_eq!(writes(new("boot.cfg")), (0, 0));
    assert_eq!(office.stored().state.access.key, Some(fake.keys().id()));
    // And if it comes with the old one after all, that is news.
    assert_eq!(writes(office.file("boot.cfg")), (0, 1));
    assert_eq!(next_round(fake)["devices"], 2);
}

#[test]
fn what_a_device_was_last_given_is_what_counts() {
    let office = Office::new();
    let fake = &*office.fake;
    let (old, new) = (keys(SEAL_KEY, None).id(), keys(NEW_KEY, None).id());
    let key = || office.stored().state.access.key;
    assert_eq!(key(), Some(old));
    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    patch(
        fake,
        &format!("devices/{MAC}"),
        &json!({ "site": "berlin" }),
    );
    assert_eq!(key(), Some(old), "a save gives the phone nothing");
    act(fake, MAC, "rotate");
    assert_eq!(key(), Some(old), "it still has the token before");
    fetch(fake, &office.file("boot.cfg"));
    assert_eq!(key(), Some(old));
    act(fake, MAC, "arm");
    assert_eq!(key(), Some(old));
    act(fake, MAC, "revoke");
    assert_eq!(key(), Some(new));
    refused(&fetch(fake, &office.file("boot.cfg")));
    // A window that was claimed under the old key ends with what it gave.
    fake.deploy(SEAL_KEY, None);
    act(fake, SOFT, "arm");
    let ask = |mac: &str| get(&format!("/rps?mac={mac}")).with("user-agent", "x");
    assert_eq!(fetch(fake, &ask(SOFT)).status(), StatusCode::OK);
    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    act(fake, SOFT, "arm");
    assert_eq!(stored::<Device>(fake, SOFT).state.access.key, Some(new));
    // One that is deleted hangs on nothing, and comes back as a new one.
    delete(fake, &format!("devices/{MAC}"));
    fake.deploy(SEAL_KEY, Some(NEW_KEY));
    assert_eq!(counts(&next_round(fake)), [0, 0, 1]);
    assert_eq!(old_key(fake)["macs"], json!([SOFT]));
    let again = json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "serial": SERIAL });
    put(fake, &format!("devices/{MAC}"), &again);
    assert_eq!(key(), Some(old));
}

#[test]
fn a_value_that_was_moved_opens_nowhere_and_is_left_as_it_is() {
    let office = office();
    let fake = &*office.fake;
    let r2 = |key: &str| block_on(fake.r2.get(key)).unwrap().unwrap().body;
    let write = |key: &str, body: Vec<u8>| {
        block_on(fake.r2.put(key, body, BTreeMap::new(), Only::Always)).unwrap();
    };
    // One account's password at another, and as its PIN; one phone's upload at another.
    let moved = stored::<Account>(fake, "acme-1001").sealed["password"].clone();
    let mut to = stored::<Account>(fake, "acme-1002");
    to.sealed.insert("password".to_owned(), moved.clone());
    to.sealed.insert("pin".to_owned(), moved.clone());
    write("account/acme-1002", to.write().unwrap());
    let upload = format!("upload/{MAC}/{LOCAL}");
    let elsewhere = format!("upload/{SOFT}/{LOCAL}");
    write(&elsewhere, r2(&upload));
    let left = r2(&elsewhere);
    // And one that is no record at all, or of a newer schema.
    write("rule/odd", b"{\"schema\":99}".to_vec());

    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    let round = next_round(fake);
    // The Linphone's files cannot be made again without the password: they stay under the old key.
    assert_eq!(counts(&round), [1, 4, 2]);
    let keys = fake.keys();
    for name in ["password", "pin"] {
        let place = secret_place(Kind::Account, "acme-1002", name);
        assert_eq!(keys.opened_by(&place, &moved), None, "{place}");
        assert!(
            fake.logged()
                .contains(&format!("rekey.unreadable place={place:?}"))
        );
    }
    assert_eq!(
        keys.open(&elsewhere, std::str::from_utf8(&left).unwrap()),
        Err(dialtone::fault::Fault::Broken("sealed value"))
    );
    assert_eq!(stored::<Account>(fake, "acme-1002").sealed, to.sealed);
    assert_eq!(r2(&elsewhere), left);
    assert_eq!(r2("rule/odd"), b"{\"schema\":99}");
    for place in [elsewhere.as_str(), "rule/odd", &format!("device/{SOFT}")] {
        assert!(
            fake.logged().contains(&format!("place={place:?}")),
            "{place}"
        );
    }
    assert!(!fake.logged().contains(&moved));
    // What is whole beside them went over.
    let own = stored::<Account>(fake, "acme-1001").sealed["password"].clone();
    assert_eq!(
        keys.opened_by("account/acme-1001/password", &own),
        Some(keys.id())
    );
    // However long it takes, it is never said that the old key can go.
    for _ in 0..3 {
        assert_eq!(next_round(fake)["done"], false);
    }
    assert_eq!(r2(&elsewhere), left);
}

#[test]
fn a_run_that_is_cut_off_is_gone_on_with() {
    let office = office();
    let fake = &*office.fake;
    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    // Progress that is not kept; records that cannot be written; copies that cannot; a KV and an
    // R2 that give nothing at all.
    *fake.r2.failing.borrow_mut() = Failing::Prefix(key::REKEY.to_owned());
    minute(fake);
    assert!(fake.logged().contains("rekey.fault"));
    *fake.r2.failing.borrow_mut() = Failing::None;
    *fake.r2.failing.borrow_mut() = Failing::Prefix("account/acme-1001".to_owned());
    minute(fake);
    *fake.r2.failing.borrow_mut() = Failing::None;
    let first = old_key(fake);
    assert!(
        first["sealed"].as_u64().unwrap() > 0 && first["done"] == false,
        "{first}"
    );
    assert!(fake.logged().contains("rekey.left"));
    *fake.kv.failing.borrow_mut() = Failing::Puts;
    fake.clock.pass_s(300);
    minute(fake);
    *fake.kv.failing.borrow_mut() = Failing::All;
    fake.clock.pass_s(300);
    minute(fake);
    *fake.kv.failing.borrow_mut() = Failing::None;
    *fake.r2.failing.borrow_mut() = Failing::All;
    minute(fake);
    *fake.r2.failing.borrow_mut() = Failing::None;

    fetch(fake, &office.file("boot.cfg"));
    fetch(fake, &follow(&format!("{}boot.cfg", base_now(fake, MAC))));
    act(fake, SOFT, "revoke");
    until_done(fake);
    for (place, sealed) in seals(fake) {
        assert_eq!(
            fake.keys().opened_by(&place, &sealed),
            Some(fake.keys().id()),
            "{place}"
        );
    }
}

#[test]
fn a_copy_in_kv_that_a_killed_run_left_behind_is_made_again() {
    let office = office();
    let fake = &*office.fake;
    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    *fake.kv.failing.borrow_mut() = Failing::Puts;
    minute(fake);
    *fake.kv.failing.borrow_mut() = Failing::None;
    let pbx = stored::<Pbx>(fake, "main");
    let place = |name: &str| secret_place(Kind::Pbx, "main", name);
    assert!(
        pbx.sealed
            .iter()
            .all(|(name, s)| fake.keys().is_current(&place(name), s))
    );
    let old = |fake: &Fake| {
        let is_old = |(place, sealed): &(String, String)| !fake.keys().is_current(place, sealed);
        seals(fake).into_iter().filter(is_old).count()
    };
    assert!(old(fake) > 0, "KV still has the old seals");
    next_round(fake);
    assert_eq!(old(fake), 0);
}

#[test]
fn what_comes_back_under_the_old_key_is_found_again() {
    let office = office();
    let fake = &*office.fake;
    let tenant = block_on(fake.r2.get("tenant/acme")).unwrap().unwrap().body;
    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    fetch(fake, &office.file("boot.cfg"));
    fetch(fake, &follow(&format!("{}boot.cfg", base_now(fake, MAC))));
    act(fake, SOFT, "revoke");
    let began = fake.now();
    until_done(fake);
    assert!(
        fake.now().since(began) >= SETTLED_S,
        "old Workers had their time"
    );
    // An old backup of one record is put back.
    block_on(
        fake.r2
            .put("tenant/acme", tenant, BTreeMap::new(), Only::Always),
    )
    .unwrap();
    fake.clock.pass_s(86_400);
    minute(fake);
    assert_eq!(old_key(fake)["done"], false, "a day later it is seen");
    let sealed = stored::<Tenant>(fake, "acme").sealed["admin_password"].clone();
    let place = secret_place(Kind::Tenant, "acme", "admin_password");
    assert_eq!(
        fake.keys().opened_by(&place, &sealed),
        Some(fake.keys().id())
    );
    until_done(fake);
}

#[test]
fn what_a_worker_that_knows_only_the_old_key_still_writes_is_waited_for() {
    let office = Office::new();
    let fake = &*office.fake;
    // Everything is under a key already, and the first round finds nothing.
    fake.deploy(SEAL_KEY, Some(NEW_KEY));
    let first = next_round(fake);
    assert_eq!((counts(&first), &first["done"]), ([0, 0, 0], &json!(false)));
    fake.deploy(NEW_KEY, None);
    put(
        fake,
        "tenants/late",
        &json!({ "settings": { "admin_password": "written-late" } }),
    );
    fake.deploy(SEAL_KEY, Some(NEW_KEY));
    until_done(fake);
    for (place, sealed) in seals(fake) {
        assert!(fake.keys().is_current(&place, &sealed), "{place}");
    }
}

#[test]
fn a_save_brings_its_secrets_under_the_new_key() {
    for new in [NEW_KEY.to_owned(), look_alike()] {
        let office = Office::new();
        let fake = &*office.fake;
        fake.deploy(&new, Some(SEAL_KEY));
        // Nothing of the account itself changes, and not its password.
        patch(fake, "accounts/acme-1001", &json!({ "password": PASSWORD }));
        let sealed = stored::<Account>(fake, "acme-1001").sealed["password"].clone();
        let place = secret_place(Kind::Account, "acme-1001", "password");
        assert_eq!(
            fake.keys().opened_by(&place, &sealed),
            Some(fake.keys().id())
        );
        assert_eq!(fake.keys().reseal(fake, &place, &sealed), Ok(None));
    }
}

#[test]
fn before_the_keys_are_swapped_every_worker_knows_both() {
    let office = Office::new();
    let fake = &*office.fake;
    let before = |fake: &Fake| fake.deploy(SEAL_KEY, Some(NEW_KEY));
    let swapped = |fake: &Fake| fake.deploy(NEW_KEY, Some(SEAL_KEY));
    before(fake);
    let old = text(&fetch(fake, &office.file("ACC.cfg")));
    swapped(fake);
    let base = base_now(fake, MAC);
    let new = follow(&format!("{base}ACC.cfg"));
    put(
        fake,
        "accounts/acme-1001",
        &json!({
            "tenant": "acme", "pbx": "main", "username": "1001", "password": "saved-after-the-swap",
            "display_name": "Number 1001",
        }),
    );
    // A Worker that was not told of the swap yet serves what the others made, and they what it does.
    for _ in 0..2 {
        before(fake);
        for request in [office.file("ACC.cfg"), new.clone()] {
            let now = text(&fetch(fake, &request));
            assert_eq!(now, old.replace(PASSWORD, "saved-after-the-swap"));
        }
        swapped(fake);
        text(&fetch(fake, &office.file("ACC.cfg")));
        text(&fetch(fake, &new));
    }
}

#[test]
fn somebody_elses_save_in_between_is_kept() {
    let office = office();
    let fake = &*office.fake;
    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    let other = std::rc::Rc::clone(&office.fake);
    fake.r2.before_next_put("account/acme-1001", move || {
        patch(
            &other,
            "accounts/acme-1001",
            &json!({ "password": "changed-meanwhile" }),
        );
    });
    next_round(fake);
    let account = stored::<Account>(fake, "acme-1001");
    let open = |name: &str| {
        let place = secret_place(Kind::Account, "acme-1001", name);
        fake.keys().open(&place, &account.sealed[name]).unwrap()
    };
    assert_eq!(
        (open("password"), open("pin")),
        (b"changed-meanwhile".to_vec(), b"2468".to_vec())
    );
    fake.deploy(NEW_KEY, None);
    let base = base_now(fake, MAC);
    assert!(text(&fetch(fake, &follow(&format!("{base}ACC.cfg")))).contains("changed-meanwhile"));
}

#[test]
fn two_thousand_devices_take_many_runs_of_bounded_calls() {
    const DEVICES: u32 = 2_000;
    let office = Office::new();
    let fake = &*office.fake;
    let before = stored::<Device>(fake, SOFT);
    fake.deploy(NEW_KEY, Some(SEAL_KEY));
    // Three in four came by themselves, and have their files under the new key already.
    block_on(finish::refresh(fake, SOFT.parse().unwrap(), None)).unwrap();
    let after = stored::<Device>(fake, SOFT);
    let mac = |n: u32| format!("805ec1{n:06x}");
    for n in 0..DEVICES {
        let template = if n % 4 == 0 { &before } else { &after };
        let key = key::record(Kind::Device, &mac(n));
        let body = template.write().unwrap();
        block_on(fake.r2.put(&key, body, BTreeMap::new(), Only::Absent)).unwrap();
    }
    let mut runs = 0;
    while old_key(fake)["checked_at"] == Value::Null {
        fake.clock.pass_s(60);
        fake.kv.take_count();
        fake.r2.take_count();
        block_on(rekey::run(fake)).unwrap();
        let calls = fake.kv.take_count().all() + fake.r2.take_count().all();
        assert!(calls <= CALLS, "{calls}");
        runs += 1;
        assert!(runs <= 60, "no end");
    }
    assert!(runs >= 10, "{runs}");
    let old = old_key(fake);
    assert_eq!(counts(&old), [0, 0, u64::from(DEVICES) + 2]);
    assert_eq!(old["macs"].as_array().unwrap().len(), 20);
    fake.deploy(NEW_KEY, None);
    for n in [0, 1_000, DEVICES - 4] {
        let mac: Mac = mac(n).parse().unwrap();
        let files = stored::<Device>(fake, &mac.to_string())
            .state
            .files
            .unwrap();
        assert!(render::are_current(fake.keys(), mac, &files));
        let file = &files.parts[&Part::Acc];
        assert!(render::open(fake.keys(), mac, Part::Acc, file).is_ok());
    }
    // In a run with everything else the PBXes still have most of the calls.
    fake.deploy(SEAL_KEY, Some(NEW_KEY));
    fake.kv.take_count();
    fake.r2.take_count();
    minute(fake);
    let calls = fake.kv.take_count().all() + fake.r2.take_count().all();
    assert!((CALLS / 2..CALLS + 30).contains(&calls), "{calls}");
}

#[test]
fn a_callers_own_tenant_is_all_that_a_scoped_caller_sees() {
    let office = Office::new();
    let caller = |tenant: Option<&str>| Caller {
        tenant: tenant.map(|id| Id::try_from(id).unwrap()),
        ..Caller::admin()
    };
    let keys_for = |tenant| {
        let context = Context {
            origin: crate::ask::ORIGIN.to_owned(),
            loopback: false,
            caller: caller(tenant),
        };
        let answer = block_on(status::all(&*office.fake, &context, &get("/api/v1/status")));
        json_of(&answer.unwrap_or_else(|_| panic!("no status")))["keys"].clone()
    };
    assert_ne!(keys_for(None), Value::Null);
    assert_eq!(keys_for(Some("acme")), Value::Null);
}
