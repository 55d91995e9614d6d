//! What a phone gets when a store fails, or was put back to an older state.

use http::StatusCode;
use serde_json::json;

use super::{MAC, Office, PASSWORD, SERIAL, question, refused, unavailable};
use crate::ask::{Told, act, fetch, follow, get, header, json_of, patch, put, text};
use crate::readers;
use crate::world::{Failing, Fake, LATE_S, Late};

const FILES: [&str; 5] = [
    "boot.cfg",
    "first.cfg",
    "ACC.cfg",
    "BTN.cfg",
    "805ec0000001.cfg",
];

fn r2_fails(fake: &Fake) {
    *fake.r2.failing.borrow_mut() = Failing::All;
}

fn url(answer: &http::Response<Vec<u8>>) -> String {
    json_of(answer)["url"].as_str().unwrap().to_owned()
}

#[test]
fn without_r2_a_phone_that_shows_its_token_gets_the_same_bytes() {
    let office = Office::new();
    let fake = &office.fake;
    fake.clock.pass_s(LATE_S);
    let with: Vec<_> = FILES
        .iter()
        .map(|name| fetch(fake, &office.file(name)))
        .collect();
    r2_fails(fake);
    for (name, with) in FILES.iter().zip(with) {
        let without = fetch(fake, &office.file(name));
        assert_eq!(
            (without.status(), without.body()),
            (with.status(), with.body()),
            "{name}"
        );
        assert_eq!(header(&without, "etag"), header(&with, "etag"), "{name}");
    }
    assert_eq!(fetch(fake, &question(MAC, SERIAL)).status(), StatusCode::OK);
}

#[test]
fn without_r2_and_without_a_copy_in_kv_it_is_our_fault_and_no_404() {
    let office = Office::new();
    let fake = &office.fake;
    // KV knows nothing yet of what was saved a moment ago.
    fake.kv.late.set(Late::Behind);
    r2_fails(fake);
    unavailable(&fetch(fake, &office.file("ACC.cfg")));
    unavailable(&fetch(fake, &question(MAC, SERIAL)));
    // And nobody can tell from it which MACs there are.
    unavailable(&fetch(fake, &question("805ec00000ff", "1")));
}

#[test]
fn without_r2_a_refusal_that_kv_may_be_wrong_about_is_our_fault() {
    let office = Office::new();
    let fake = &office.fake;
    fake.clock.pass_s(LATE_S);
    // KV still has it disabled, and with the old serial.
    patch(
        fake,
        &format!("devices/{MAC}"),
        &json!({ "enabled": false, "serial": "old" }),
    );
    fake.clock.pass_s(LATE_S);
    fake.kv.late.set(Late::Behind);
    patch(
        fake,
        &format!("devices/{MAC}"),
        &json!({ "enabled": true, "serial": SERIAL }),
    );
    text(&fetch(fake, &office.file("ACC.cfg")));
    r2_fails(fake);
    unavailable(&fetch(fake, &office.file("ACC.cfg")));
    unavailable(&fetch(fake, &question(MAC, SERIAL)));
}

#[test]
fn without_r2_a_phone_is_not_sent_back_to_a_token_that_was_revoked() {
    let office = Office::new();
    let fake = &office.fake;
    fake.clock.pass_s(LATE_S);
    fake.kv.late.set(Late::Behind);
    act(fake, MAC, "revoke");
    let base = url(&fetch(fake, &question(MAC, SERIAL)));
    assert_ne!(base, office.base);
    // The phone has the new token, KV has only the old one.
    r2_fails(fake);
    let boot = readers::yealink(&text(&fetch(fake, &follow(&format!("{base}boot.cfg"))))).unwrap();
    assert_eq!(boot.includes[0], format!("{base}first.cfg"));
    let first = readers::yealink(&text(&fetch(fake, &follow(&boot.includes[0])))).unwrap();
    assert_eq!(first.settings["static.auto_provision.server.url"], base);
}

#[test]
fn without_r2_no_window_is_claimed() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    let fake = &office.fake;
    fake.clock.pass_s(LATE_S);
    let bare = get(&format!("/rps?mac={MAC}"));
    for failing in [Failing::All, Failing::Puts] {
        *fake.r2.failing.borrow_mut() = failing;
        unavailable(&fetch(fake, &bare));
    }
    *fake.r2.failing.borrow_mut() = Failing::None;
    assert_eq!(office.stored().state.window.unwrap().claim, None);
    assert_eq!(fetch(fake, &bare).status(), StatusCode::OK);
}

#[test]
fn with_both_stores_failing_every_answer_is_our_fault() {
    let office = Office::new();
    let fake = &office.fake;
    r2_fails(fake);
    *fake.kv.failing.borrow_mut() = Failing::All;
    for request in [
        office.file("ACC.cfg"),
        question(MAC, SERIAL),
        question("805ec00000ff", "1"),
        get(&format!("/rps/{MAC}.boot")),
        follow(&format!("{}{MAC}.boot", office.first_access)),
    ] {
        unavailable(&fetch(fake, &request));
    }
    // What needs no store needs none now either.
    refused(&fetch(fake, &get("/p/forged/ACC.cfg")));
    text(&fetch(fake, &get("/rps/y000000000108.cfg")));
}

#[test]
fn without_kv_a_phone_gets_what_r2_has() {
    let office = Office::new();
    let fake = &office.fake;
    *fake.kv.failing.borrow_mut() = Failing::All;
    assert!(text(&fetch(fake, &office.file("ACC.cfg"))).contains(PASSWORD));
}

#[test]
fn files_that_cannot_be_made_again_stay_as_they_are() {
    let office = Office::new();
    let fake = &office.fake;
    let before = text(&fetch(fake, &office.file("first.cfg")));
    patch(
        fake,
        "tenants/acme",
        &json!({ "settings": { "language": "de" } }),
    );
    fake.clock.pass_s(LATE_S);
    for failing in [Failing::Prefix("tenant/".to_owned()), Failing::Puts] {
        *fake.r2.failing.borrow_mut() = failing.clone();
        let answer = text(&fetch(fake, &office.file("first.cfg")));
        assert!(
            answer == before || answer.contains("lang.gui = German"),
            "{failing:?}"
        );
    }
    *fake.r2.failing.borrow_mut() = Failing::None;
    assert!(text(&fetch(fake, &office.file("first.cfg"))).contains("lang.gui = German"));
}

#[test]
fn what_cannot_be_noted_does_not_cost_the_phone_its_answer() {
    let office = Office::new();
    let fake = &office.fake;
    *fake.r2.failing.borrow_mut() = Failing::Puts;
    text(&fetch(fake, &office.file("ACC.cfg")));
    assert!(fake.logged().contains("afterwards.failed"));
    *fake.r2.failing.borrow_mut() = Failing::None;
    text(&fetch(fake, &office.file("ACC.cfg")));
    assert!(office.stored().state.seen.configured.is_some());
}

#[test]
fn a_kv_that_is_put_back_opens_nothing_and_makes_nothing_older() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    let fake = &office.fake;
    let bare = || get(&format!("/rps?mac={MAC}"));
    let backup = fake.kv.backup();
    fake.clock.pass_s(LATE_S);

    assert_eq!(
        fetch(fake, &bare().from("192.0.2.7")).status(),
        StatusCode::OK
    );
    patch(
        fake,
        "accounts/acme-1001",
        &json!({ "display_name": "Newest" }),
    );
    patch(
        fake,
        "tenants/acme",
        &json!({ "settings": { "language": "de" } }),
    );
    patch(
        fake,
        "profiles/office",
        &json!({ "settings": { "clock_24h": false } }),
    );
    fake.clock.pass_s(LATE_S);
    let newest: Vec<String> = FILES
        .iter()
        .map(|name| text(&fetch(fake, &office.file(name))))
        .collect();
    assert!(newest[2].contains("Newest") && newest[1].contains("German"));

    fake.kv.restore(&backup);
    refused(&fetch(fake, &bare().from("192.0.2.8")));
    for (name, newest) in FILES.iter().zip(&newest) {
        assert_eq!(&text(&fetch(fake, &office.file(name))), newest, "{name}");
    }
    act(fake, MAC, "revoke");
    fake.kv.restore(&backup);
    for name in FILES {
        refused(&fetch(fake, &office.file(name)));
    }
    refused(&fetch(
        fake,
        &follow(&format!("{}{MAC}.boot", office.first_access)),
    ));
}

#[test]
fn a_kv_that_is_put_back_does_not_bring_back_a_proof_that_the_tenant_gave_up() {
    let office = Office::new();
    let fake = &office.fake;
    let backup = fake.kv.backup();
    patch(fake, "tenants/acme", &json!({ "proofs": ["key"] }));
    fake.clock.pass_s(LATE_S);
    // The phone's next fetch brings the tenant's word into R2's record of the phone.
    text(&fetch(fake, &office.file("boot.cfg")));
    fake.kv.restore(&backup);
    refused(&fetch(fake, &question(MAC, SERIAL)));
}

#[test]
fn a_kv_that_is_empty_is_no_reason_to_refuse() {
    let office = Office::new();
    let fake = &office.fake;
    let empty = Fake::new().kv.backup();
    fake.kv.restore(&empty);
    fake.clock.pass_s(LATE_S);
    assert_eq!(url(&fetch(fake, &question(MAC, SERIAL))), office.base);
    assert!(text(&fetch(fake, &office.file("ACC.cfg"))).contains(PASSWORD));
    // Nor to forget: a save brings the copies back.
    put(fake, "tenants/acme", &json!({ "name": "Acme again" }));
    assert_eq!(fetch(fake, &question(MAC, SERIAL)).status(), StatusCode::OK);
}

#[test]
fn a_record_that_is_damaged_in_r2_is_our_fault_and_is_not_overwritten() {
    use dialtone::ports::{Objects, Only};
    let office = Office::new();
    let fake = &office.fake;
    fake.clock.pass_s(LATE_S);
    let key = format!("device/{MAC}");
    let damaged = b"{\"schema\":99}".to_vec();
    crate::world::block_on(fake.r2.put(
        &key,
        damaged.clone(),
        std::collections::BTreeMap::new(),
        Only::Always,
    ))
    .unwrap();
    // KV's copy is older than whatever this is: the phone keeps what it has.
    let answer = fetch(fake, &office.file("ACC.cfg"));
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let kept = crate::world::block_on(fake.r2.get(&key)).unwrap().unwrap();
    assert_eq!(kept.body, damaged);
}
