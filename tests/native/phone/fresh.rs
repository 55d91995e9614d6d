//! How soon a change is in what a phone gets, although KV is late.

use dialtone::ports::Mappings;
use dialtone::record::Stored;
use dialtone::record::device::Device;
use dialtone::store;
use http::StatusCode;
use serde_json::json;

use super::{MAC, Office, SERIAL, SOFT, SOFT_SERIAL, question, refused};
use crate::ask::{call, cost, delete, fetch, follow, json_of, patch, put, text};
use crate::readers;
use crate::world::{Count, Fake, LATE_S, Late, block_on};

fn setting(office: &Office, file: &str, key: &str) -> String {
    let text = text(&fetch(&office.fake, &office.file(file)));
    readers::yealink(&text).unwrap().settings[key].clone()
}

#[test]
fn a_change_of_a_device_or_an_account_is_there_one_second_later() {
    for late in [Late::Cached, Late::Behind] {
        let office = Office::new();
        let fake = &office.fake;
        fake.kv.late.set(late);
        // Everything that KV can show has been read, and is kept.
        assert_eq!(
            setting(&office, "ACC.cfg", "account.1.display_name"),
            "Number 1001"
        );
        fetch(fake, &question(MAC, SERIAL));

        patch(
            fake,
            "accounts/acme-1001",
            &json!({ "display_name": "Renamed", "password": "changed-password" }),
        );
        fake.clock.pass_s(1);
        assert_eq!(
            setting(&office, "ACC.cfg", "account.1.display_name"),
            "Renamed",
            "{late:?}"
        );
        assert_eq!(
            setting(&office, "ACC.cfg", "account.1.password"),
            "changed-password",
            "{late:?}"
        );
        assert_eq!(
            setting(&office, "BTN.cfg", "linekey.1.label"),
            "Renamed",
            "{late:?}"
        );

        let buttons = json!([{ "key": 2, "type": "speed_dial", "value": "1", "label": "One" }]);
        patch(
            fake,
            &format!("devices/{MAC}"),
            &json!({ "buttons": buttons }),
        );
        fake.clock.pass_s(1);
        assert_eq!(
            setting(&office, "BTN.cfg", "linekey.2.label"),
            "One",
            "{late:?}"
        );

        patch(
            fake,
            &format!("devices/{MAC}"),
            &json!({ "serial": "another" }),
        );
        fake.clock.pass_s(1);
        refused(&fetch(fake, &question(MAC, SERIAL)));
        assert_eq!(
            fetch(fake, &question(MAC, "another")).status(),
            StatusCode::OK
        );
    }
}

#[test]
fn a_device_that_was_just_created_gets_in_although_a_miss_is_remembered() {
    for late in [Late::Cached, Late::Behind] {
        let office = Office::new();
        let fake = &office.fake;
        fake.kv.late.set(late);
        let mac = "805ec0000002";
        refused(&fetch(fake, &question(mac, "S-2")));
        let device =
            json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "serial": "S-2" });
        put(fake, &format!("devices/{mac}"), &device);
        fake.clock.pass_s(1);
        let url = json_of(&fetch(fake, &question(mac, "S-2")))["url"]
            .as_str()
            .unwrap()
            .to_owned();
        text(&fetch(fake, &follow(&format!("{url}ACC.cfg"))));
    }
}

#[test]
fn a_new_customers_first_phone_gets_in_in_the_same_second() {
    let fake = Fake::new();
    fake.kv.late.set(Late::Behind);
    put(&fake, "tenants/new", &json!({ "proofs": ["serial"] }));
    let device = json!({ "tenant": "new", "vendor": "yealink", "model": "T46U", "serial": "S-1" });
    put(&fake, &format!("devices/{MAC}"), &device);
    assert_eq!(fetch(&fake, &question(MAC, "S-1")).status(), StatusCode::OK);
}

#[test]
fn a_change_of_a_shared_record_is_there_within_sixty_seconds_and_is_stored() {
    for late in [Late::Cached, Late::Behind] {
        for (path, change, key, before, after) in [
            (
                "tenants/acme",
                json!({ "settings": { "language": "de" } }),
                "lang.gui",
                "English",
                "German",
            ),
            (
                "profiles/office",
                json!({ "settings": { "clock_24h": false } }),
                "local_time.time_format",
                "1",
                "0",
            ),
        ] {
            let office = Office::new();
            let fake = &office.fake;
            fake.kv.late.set(late);
            fake.clock.pass_s(LATE_S);
            assert_eq!(
                setting(&office, "first.cfg", key),
                before,
                "{late:?} {path}"
            );
            patch(fake, path, &change);
            fake.clock.pass_s(LATE_S);
            assert_eq!(setting(&office, "first.cfg", key), after, "{late:?} {path}");
            // Once made, the files are found.
            let (_, kv, r2) = cost(fake, &office.file("first.cfg"));
            let one_read = Count {
                gets: 1,
                ..Count::default()
            };
            assert_eq!((kv, r2), (one_read, one_read), "{late:?} {path}");
        }
        let office = Office::new();
        office.fake.kv.late.set(late);
        patch(
            &office.fake,
            "pbxes/main",
            &json!({ "sip": { "host": "moved.example.com" } }),
        );
        office.fake.clock.pass_s(LATE_S);
        assert_eq!(
            setting(&office, "ACC.cfg", "account.1.sip_server.1.address"),
            "moved.example.com",
            "{late:?}"
        );
    }
}

#[test]
fn a_tenant_that_gives_up_a_proof_is_heard_within_sixty_seconds() {
    for late in [Late::Cached, Late::Behind] {
        let office = Office::new();
        let fake = &office.fake;
        fake.kv.late.set(late);
        assert_eq!(fetch(fake, &question(MAC, SERIAL)).status(), StatusCode::OK);
        patch(fake, "tenants/acme", &json!({ "proofs": ["key"] }));
        fake.clock.pass_s(LATE_S);
        refused(&fetch(fake, &question(MAC, SERIAL)));
    }
}

#[test]
fn an_account_that_moves_to_another_phone_leaves_the_first() {
    let office = Office::new();
    let fake = &office.fake;
    patch(fake, &format!("devices/{MAC}"), &json!({ "lines": [] }));
    patch(
        fake,
        &format!("devices/{SOFT}"),
        &json!({ "lines": [{ "line": 1, "account": "acme-1001" }] }),
    );
    fake.clock.pass_s(1);
    assert_eq!(setting(&office, "ACC.cfg", "account.1.password"), "");
    let url = json_of(&fetch(fake, &question(SOFT, SOFT_SERIAL)))["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let soft = readers::linphone(&text(&fetch(fake, &follow(&format!("{url}ACC.cfg"))))).unwrap();
    assert_eq!(soft["auth_info_0/username"], "1001");
    // And what is on no phone any more can go.
    delete(fake, "accounts/acme-1002");
}

#[test]
fn files_that_are_missing_or_older_than_what_they_are_made_of_are_made_again_and_stored() {
    let forget: fn(&mut Stored<Device>) = |stored| stored.state.files = None;
    let age: fn(&mut Stored<Device>) = |stored| {
        let files = stored.state.files.as_mut().unwrap();
        files.sources.templates -= 1;
        // What an older version of the templates made had other bytes.
        files
            .parts
            .iter_mut()
            .for_each(|(_, file)| file.etag = "\"old\"".to_owned());
    };
    let edit: fn(&mut Stored<Device>) = |stored| stored.edition += 1;
    for change in [forget, age, edit] {
        let office = Office::new();
        let fake = &office.fake;
        let before = text(&fetch(fake, &office.file("ACC.cfg")));
        let changed = block_on(store::update::<Device, Fake>(fake, MAC, |stored| {
            change(stored);
            true
        }));
        let edition = changed.unwrap().unwrap().edition;
        assert_eq!(text(&fetch(fake, &office.file("ACC.cfg"))), before);
        let sources = office.stored().state.files.unwrap().sources;
        assert_eq!(
            (sources.templates, sources.device),
            (
                dialtone::vendor::VendorId::Yealink.rules().templates(),
                edition
            )
        );
        let (_, _, r2) = cost(fake, &office.file("ACC.cfg"));
        assert_eq!(r2.writes(), 0);
    }
}

#[test]
fn two_phones_that_find_stale_files_at_once_both_get_the_new_ones() {
    let office = Office::new();
    let fake = &office.fake;
    patch(
        fake,
        "tenants/acme",
        &json!({ "settings": { "language": "de" } }),
    );
    fake.clock.pass_s(LATE_S);
    let (other, request) = (fake.clone(), office.file("first.cfg"));
    fake.r2.before_next_put("device/", move || {
        assert!(text(&fetch(&other, &request)).contains("lang.gui = German"));
    });
    assert_eq!(setting(&office, "first.cfg", "lang.gui"), "German");
    assert_eq!(office.stored().state.files.unwrap().version, 2);
}

#[test]
fn an_account_change_that_the_phones_file_cannot_carry_is_refused() {
    let office = Office::new();
    for change in [
        json!({ "password": " spaces " }),
        json!({ "display_name": "%NULL%" }),
    ] {
        let answer = call(
            &office.fake,
            http::Method::PATCH,
            "accounts/acme-1001",
            &change,
        );
        assert_eq!(
            answer.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{change}"
        );
        assert!(
            String::from_utf8_lossy(answer.body()).contains("Yealink"),
            "{change}"
        );
    }
}

#[test]
fn of_two_saves_of_a_device_the_last_is_what_kv_has() {
    let office = Office::new();
    let fake = &office.fake;
    fake.clock.pass_s(2);
    let other = fake.clone();
    fake.kv.before_next_put("device/", move || {
        patch(
            &other,
            &format!("devices/{MAC}"),
            &json!({ "site": "second" }),
        );
        other.clock.pass_s(2);
    });
    patch(fake, &format!("devices/{MAC}"), &json!({ "site": "first" }));
    fake.clock.pass_s(LATE_S);
    assert_eq!(office.stored().record.site.unwrap().as_str(), "second");
    let copy = block_on(fake.kv.get_many(&[format!("device/{MAC}")]))
        .unwrap()
        .pop()
        .flatten()
        .unwrap();
    assert!(copy.contains("second"), "{copy}");
}

#[test]
fn of_two_rules_saved_at_once_both_send_phones() {
    let office = Office::new();
    let fake = &office.fake;
    let rule = |model: &str| json!({ "match": { "tenant": "acme", "model": model }, "url": "https://prov.example.org/" });
    let (other, second) = (fake.clone(), rule("T46U"));
    fake.kv.before_next_put("rules/", move || {
        put(&other, "rules/second", &second);
        other.clock.pass_s(2);
    });
    put(fake, "rules/first", &rule("T54W"));
    fake.clock.pass_s(LATE_S);
    assert_eq!(
        json_of(&fetch(fake, &question(MAC, SERIAL)))["url"],
        "https://prov.example.org/"
    );
}

#[test]
fn a_rule_that_is_deleted_while_it_is_saved_sends_nobody() {
    let office = Office::new();
    let fake = &office.fake;
    let other = fake.clone();
    // The save has read the rule and the rules of the tenant; then all of the delete happens.
    fake.r2
        .before_next_put("rules/", move || delete(&other, "rules/one"));
    put(
        fake,
        "rules/one",
        &json!({ "match": { "tenant": "acme" }, "url": "https://prov.example.org/" }),
    );
    fake.clock.pass_s(LATE_S);
    assert_eq!(
        json_of(&fetch(fake, &question(MAC, SERIAL)))["url"],
        office.base
    );
}
