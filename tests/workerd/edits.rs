//! Two admins at once: with `If-Match` none overwrites what it has not seen, without it no field
//! of the other's is lost.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::json;

use crate::office::Office;

/// How many edits each of the two makes.
const EDITS: u32 = 60;

#[test]
fn no_update_of_two_admins_is_lost_and_each_conflict_is_told() {
    let office = Office::open("edits-match");
    let made = office.yealink(&json!({}));
    let path = format!("devices/{}", made.mac);
    let account = "edits-match-1001";
    let set = |n: u32| json!({"lines": [{"line": 1, "account": account, "label": n.to_string()}]});
    office.admin.patch(&path, &set(0));
    let conflicts = AtomicU32::new(0);

    // Each adds one to what it read, as often as it takes until it succeeded `EDITS` times.
    let admin = || {
        let mut done = 0;
        while done < EDITS {
            let read = office.admin.call("GET", &path, None);
            let tag = read.header("etag").unwrap().to_owned();
            let record: serde_json::Value = read.json().unwrap();
            let n: u32 = record["lines"][0]["label"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            let write = office
                .admin
                .request("PATCH", &path)
                .header("If-Match", &tag)
                .json(&set(n + 1));
            let answer = write.send().unwrap();
            match answer.status {
                200 => done += 1,
                412 => {
                    conflicts.fetch_add(1, Ordering::Relaxed);
                }
                status => panic!("{status} {}", answer.text()),
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(admin);
        scope.spawn(admin);
    });

    let conflicts = conflicts.into_inner();
    assert!(conflicts > 0, "the two never met, so this showed nothing");
    let record = office.admin.get(&path);
    let expected = (2 * EDITS).to_string();
    assert_eq!(
        record["lines"][0]["label"], expected,
        "after {conflicts} conflicts"
    );
    let acc = made.fetch("ACC.cfg").text();
    assert!(
        acc.contains(&format!("account.1.label = {expected}\n")),
        "{acc}"
    );
}

#[test]
fn without_if_match_edits_of_different_fields_both_stay() {
    let office = Office::open("edits-fields");
    let made = office.yealink(&json!({}));
    let path = format!("devices/{}", made.mac);
    for n in 0..20 {
        let (site, region) = (format!("site-{n}"), format!("region-{n}"));
        thread::scope(|scope| {
            scope.spawn(|| office.admin.patch(&path, &json!({"site": site})));
            scope.spawn(|| office.admin.patch(&path, &json!({"region": region})));
        });
        let record = office.admin.get(&path);
        assert_eq!(record["site"], site, "{record}");
        assert_eq!(record["region"], region, "{record}");
    }
}

#[test]
fn of_two_who_create_the_same_record_one_is_told_that_it_is_there() {
    let office = Office::open("edits-create");
    for n in 0..10 {
        let path = format!("profiles/edits-create-{n}");
        let create = |name: &str| {
            let body = json!({"tenant": "edits-create", "name": name});
            let call = office
                .admin
                .request("PUT", &path)
                .header("If-None-Match", "*")
                .json(&body);
            call.send().unwrap().status
        };
        let (a, b) = thread::scope(|scope| {
            let (a, b) = (scope.spawn(|| create("a")), scope.spawn(|| create("b")));
            (a.join().unwrap(), b.join().unwrap())
        });
        assert!(matches!((a, b), (201, 412) | (412, 201)), "{a} and {b}");
        let winner = if a == 201 { "a" } else { "b" };
        assert_eq!(office.admin.get(&path)["name"], winner);
    }
}

#[test]
fn of_two_accounts_that_want_one_name_at_a_pbx_one_gets_it() {
    let office = Office::open("edits-name");
    for n in 0..10 {
        let create = |who: &str| {
            let body = json!({
                "tenant": "edits-name", "pbx": "edits-name-pbx", "username": format!("20{n:02}"),
            });
            office
                .admin
                .call(
                    "PUT",
                    &format!("accounts/edits-name-{who}-{n}"),
                    Some(&body),
                )
                .status
        };
        let (a, b) = thread::scope(|scope| {
            let (a, b) = (scope.spawn(|| create("a")), scope.spawn(|| create("b")));
            (a.join().unwrap(), b.join().unwrap())
        });
        let there = |who: &str| {
            let path = format!("accounts/edits-name-{who}-{n}");
            office.admin.call("GET", &path, None).status == 200
        };
        assert!(
            matches!((a, b), (201, 409) | (409, 201)),
            "20{n:02}: {a} and {b}"
        );
        assert_eq!(
            (there("a"), there("b")),
            (a == 201, b == 201),
            "20{n:02}: {a} and {b}"
        );
    }
}
