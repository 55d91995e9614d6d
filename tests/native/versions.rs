//! Versions of a phone's files: which are kept, what one was, what differs, and going back to one.

use std::collections::BTreeMap;

use dialtone::record::Stored;
use dialtone::record::account::Account;
use dialtone::record::version::{KEPT_S, MOST_VERSIONS};
use dialtone::store;
use dialtone::tick;
use dialtone::vendor::VendorId;
use dialtone::versions;
use http::{Method, Response, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::ask::{
    Told, act, call, call_by, cost, delete, fetch, follow, header, json_of, patch, put, text,
};
use crate::fixtures::{CASES, Case, build};
use crate::phone::{MAC, Office, PASSWORD};
use crate::vendors;
use crate::world::{ADMIN_TOKEN, Failing, Fake, Late, SEAL_KEY, block_on};

fn of_device(mac: &str, rest: &str) -> String {
    format!("devices/{mac}{rest}")
}

fn get(fake: &Fake, path: &str) -> Response<Vec<u8>> {
    call(fake, Method::GET, path, &Value::Null)
}

fn post(fake: &Fake, path: &str, body: &Value) -> Response<Vec<u8>> {
    call(fake, Method::POST, path, body)
}

#[track_caller]
fn refused(answer: &Response<Vec<u8>>, status: u16, kind: &str) -> Value {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    assert_eq!(answer.status().as_u16(), status, "{body}");
    assert_eq!(body["type"], format!("urn:dialtone:problem:{kind}"));
    body
}

/// What `GET /devices/{mac}/files` lists, the newest first.
fn listed(fake: &Fake) -> Vec<Value> {
    let files = json_of(&get(fake, &of_device(MAC, "/files")));
    files["versions"].as_array().unwrap().clone()
}

fn numbers(fake: &Fake) -> Vec<u64> {
    let all = listed(fake);
    all.iter()
        .map(|kept| kept["version"].as_u64().unwrap())
        .collect()
}

fn current(fake: &Fake) -> u64 {
    json_of(&get(fake, &of_device(MAC, "/files")))["version"]
        .as_u64()
        .unwrap()
}

/// Changes the device's first line, so that each text makes other files.
fn label(fake: &Fake, text: &str) {
    fake.clock.pass_s(2);
    let line = json!({ "line": 1, "account": "acme-1001", "label": text });
    patch(fake, &of_device(MAC, ""), &json!({ "lines": [line] }));
}

#[track_caller]
fn rollback(fake: &Fake, mac: &str, version: u64) -> Value {
    fake.clock.pass_s(2);
    let answer = post(
        fake,
        &of_device(mac, "/rollback"),
        &json!({ "version": version }),
    );
    json_of(&answer)
}

#[track_caller]
fn unpin(fake: &Fake, mac: &str) -> Value {
    fake.clock.pass_s(2);
    json_of(&post(fake, &of_device(mac, "/unpin"), &json!({})))
}

fn acc(office: &Office) -> String {
    text(&fetch(&office.fake, &office.file("ACC.cfg")))
}

fn account(fake: &Fake, id: &str) -> Stored<Account> {
    let loaded = block_on(store::load::<Account, Fake>(fake, id)).unwrap();
    loaded.unwrap().stored
}

fn on(fake: &Fake, id: &str) -> Vec<String> {
    let devices = account(fake, id).state.devices;
    devices.iter().map(ToString::to_string).collect()
}

#[test]
fn the_list_is_bounded_by_number_and_by_age() {
    let office = Office::new();
    let fake = &office.fake;
    for n in 0..25 {
        label(fake, &format!("Label {n}"));
    }
    let all = listed(fake);
    assert_eq!(all.len(), MOST_VERSIONS);
    let current = current(fake);
    assert_eq!(all[0]["version"], current);
    assert_eq!(all[0]["current"], true);
    assert!(all[1..].iter().all(|kept| kept["current"] == false));
    let numbers = numbers(fake);
    assert!(numbers.is_sorted_by(|a, b| a > b), "{numbers:?}");
    // The one that fell off at last may still be there, and those that are younger than an hour.
    fake.clock.pass_s(3_600);
    label(fake, "Later");
    label(fake, "Latest");
    let objects = fake.r2.keys(&format!("version/{MAC}/"));
    assert!(objects.len() <= MOST_VERSIONS + 2, "{}", objects.len());

    // From when it was replaced it stays for so long, and the newest for ever.
    let last = self::numbers(fake)[0];
    fake.clock.pass_s(KEPT_S - 7_200);
    assert_eq!(self::numbers(fake).len(), MOST_VERSIONS);
    fake.clock.pass_s(7_200 - 60);
    assert_eq!(self::numbers(fake).len(), 3);
    fake.clock.pass_s(120);
    assert_eq!(self::numbers(fake), [last]);
    label(fake, "Months later");
    assert_eq!(self::numbers(fake), [self::current(fake), last]);
    label(fake, "And again");
    let objects = fake.r2.keys(&format!("version/{MAC}/"));
    assert_eq!(objects.len(), 3, "{objects:?}");
}

#[test]
fn the_one_that_the_phone_is_held_to_stays_whatever_comes_after() {
    let office = Office::new();
    let fake = &office.fake;
    label(fake, "Good");
    let good = current(fake);
    label(fake, "Bad");
    rollback(fake, MAC, good);
    for n in 0..25 {
        fake.clock.pass_s(2);
        let name = json!({ "settings": { "language": if n % 2 == 0 { "de" } else { "fr" } } });
        patch(fake, &of_device(MAC, ""), &name);
        // The text is the version's; the token makes other bytes of it.
        act(fake, MAC, "rotate");
    }
    fake.clock.pass_s(KEPT_S + 60);
    fake.clock.pass_s(2);
    act(fake, MAC, "rotate");
    let all = listed(fake);
    let pinned: Vec<&Value> = all.iter().filter(|kept| kept["pinned"] == true).collect();
    assert_eq!(pinned.len(), 1, "{all:?}");
    let old = of_device(MAC, &format!("/files/ACC.cfg?version={good}"));
    assert!(text(&get(fake, &old)).contains("Good"));
    unpin(fake, MAC);
    // The last that it had while it was held is the same text.
    refused(&get(fake, &old), 404, "not_found");
}

#[test]
fn the_same_text_again_is_one_object_and_new_secrets_make_no_entry() {
    let office = Office::new();
    let fake = &office.fake;
    let objects = || fake.r2.keys(&format!("version/{MAC}/")).len();
    label(fake, "A");
    let first = numbers(fake);
    label(fake, "B");
    label(fake, "A");
    assert_eq!(
        (numbers(fake).len(), objects()),
        (first.len() + 2, first.len() + 1)
    );

    // Another password, another token: other files, the same text.
    let before = current(fake);
    fake.clock.pass_s(2);
    patch(
        fake,
        "accounts/acme-1001",
        &json!({ "password": "Another-Secret-2" }),
    );
    let between = current(fake);
    fake.clock.pass_s(2);
    act(fake, MAC, "rotate");
    assert!(before < between && between < current(fake));
    assert_eq!(
        (numbers(fake).len(), objects()),
        (first.len() + 2, first.len() + 1)
    );
    let newest = &listed(fake)[0];
    assert_eq!(newest["same"], json!([between, before]));
    // Nor does another key.
    let tokened = current(fake);
    fake.deploy(
        "YSBzZWNvbmQgc2VhbCBrZXksIG5vIHNlY3JldCAyMjI=",
        Some(SEAL_KEY),
    );
    fake.clock.pass_s(2);
    assert!(tokened < current(fake));
    assert_eq!(listed(fake)[0]["same"], json!([tokened, between, before]));
    assert_eq!(objects(), first.len() + 1);
    // Each of the numbers is that text.
    for number in [before, between, current(fake)] {
        let path = of_device(MAC, &format!("/files/ACC.cfg?version={number}"));
        assert!(text(&get(fake, &path)).contains("label = A"), "{number}");
    }
}

#[test]
fn what_users_have_while_they_are_logged_in_is_no_version() {
    let hosted = json!({ "user_type": "hot-desking" });
    let office = Office::of(&json!({}), &hosted);
    let fake = &office.fake;
    let before = numbers(fake);
    for _ in 0..3 {
        fake.clock.pass_s(2);
        let session = of_device(MAC, "/session");
        put(fake, &session, &json!({ "account": "acme-1002" }));
        assert!(acc(&office).contains("1002"));
        fake.clock.pass_s(2);
        call(fake, Method::DELETE, &session, &Value::Null);
        assert!(acc(&office).contains("1001"));
    }
    let after = listed(fake);
    assert_eq!(after.len(), before.len());
    assert_eq!(after[0]["version"], current(fake));
    assert_eq!(after[0]["same"].as_array().unwrap().len(), 3);
}

#[test]
fn a_former_file_is_shown_masked_and_its_secrets_are_gone() {
    let office = Office::new();
    let fake = &office.fake;
    let first = current(fake);
    let path = |query: &str| of_device(MAC, &format!("/files/ACC.cfg{query}"));
    let was = text(&get(fake, &path("")));
    label(fake, "New");
    let is = text(&get(fake, &path("")));
    assert_ne!(was, is);
    assert_eq!(text(&get(fake, &path(&format!("?version={first}")))), was);
    assert!(was.contains("********") && !was.contains(PASSWORD));
    let now = current(fake);
    assert_eq!(text(&get(fake, &path(&format!("?version={now}")))), is);
    let clear = text(&get(fake, &path(&format!("?version={now}&secrets=1"))));
    assert!(clear.contains(PASSWORD));
    let answer = get(fake, &path(&format!("?version={first}&secrets=1")));
    let said = refused(&answer, 400, "bad_parameter")["detail"].to_string();
    assert!(said.contains("not kept"), "{said}");
    for (query, status, kind) in [
        ("?version=999", 404, "not_found"),
        ("?version=x", 400, "bad_parameter"),
        ("?version=", 400, "bad_parameter"),
        ("?version=-1", 400, "bad_parameter"),
    ] {
        refused(&get(fake, &path(query)), status, kind);
    }
    let none = of_device(MAC, &format!("/files/none.cfg?version={first}"));
    refused(&get(fake, &none), 404, "not_found");
    let made_of = &listed(fake)[1]["made_of"];
    assert!(made_of["tenant/acme"].is_u64() && made_of["account/acme-1001"].is_u64());
}

#[test]
fn a_diff_of_two_versions_says_what_differs_and_nothing_secret() {
    let office = Office::new();
    let fake = &office.fake;
    label(fake, "One");
    let one = current(fake);
    label(fake, "Two");
    let two = current(fake);
    fake.clock.pass_s(2);
    patch(
        fake,
        "accounts/acme-1001",
        &json!({ "password": "Another-Secret-2" }),
    );
    let three = current(fake);
    let path = |query: &str| of_device(MAC, &format!("/diff{query}"));
    let answer = get(fake, &path(&format!("?from={one}&to={two}")));
    assert_eq!(
        header(&answer, "content-type"),
        "text/x-diff; charset=utf-8"
    );
    let diff = text(&answer);
    let heads = format!("--- a/ACC.cfg version {one}\n+++ b/ACC.cfg version {two}\n@@ -");
    assert!(diff.starts_with(&heads), "{diff}");
    let changed: Vec<&str> = diff
        .lines()
        .filter(|line| line.starts_with(['-', '+']) && !line.contains("version"))
        .collect();
    let [acc, btn] = ["account", "linekey"].map(|at| {
        let line = |sign: &str, text: &str| format!("{sign}{at}.1.label = {text}");
        [line("-", "One"), line("+", "Two")]
    });
    // Each in its own part, and both in the one that has all.
    let expected = [&acc[..], &btn, &acc, &btn].concat();
    assert_eq!(changed, expected, "{diff}");
    // Back the other way, to the current one, and over a new password.
    let back = text(&get(fake, &path(&format!("?from={two}&to={one}"))));
    assert!(back.contains("-account.1.label = Two\n+account.1.label = One\n"));
    assert_eq!(
        text(&get(fake, &path(&format!("?from={two}&to={three}")))),
        ""
    );
    let to_now = text(&get(fake, &path(&format!("?from={one}"))));
    assert!(to_now.contains(&format!("version {three}")));
    let explicit = text(&get(fake, &path(&format!("?from={one}&to={three}"))));
    assert_eq!(to_now, explicit);
    for (query, status, kind) in [
        ("", 400, "bad_parameter"),
        ("?to=1", 400, "bad_parameter"),
        ("?from=x", 400, "bad_parameter"),
        ("?from=1&secrets=1", 400, "bad_parameter"),
        ("?from=999", 404, "not_found"),
        (&format!("?from={one}&to=999"), 404, "not_found"),
    ] {
        refused(&get(fake, &path(query)), status, kind);
    }
}

/// Applies the part of a unified diff that is about one file.
fn apply(diff: &str, before: &str) -> String {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let (mut at, mut after) = (0, String::new());
    let mut lines = diff.split_inclusive('\n').skip(2).peekable();
    while let Some(head) = lines.next() {
        let head = head.strip_prefix("@@ -").unwrap();
        let (old_range, rest) = head.split_once(" +").unwrap();
        let new_range = rest.split_once(" @@").unwrap().0;
        let parse = |range: &str| -> (usize, usize) {
            let (start, count) = range.split_once(',').unwrap_or((range, "1"));
            (start.parse().unwrap(), count.parse().unwrap())
        };
        let ((start, mut gone), (new_start, mut come)) = (parse(old_range), parse(new_range));
        let begins = if gone == 0 { start } else { start - 1 };
        while at < begins {
            after.push_str(old[at]);
            at += 1;
        }
        let begins = if come == 0 { new_start } else { new_start - 1 };
        assert_eq!(after.split_inclusive('\n').count(), begins, "{diff}");
        while gone + come > 0 {
            let line = lines.next().unwrap();
            let (sign, mut text) = line.split_at(1);
            if lines.peek().is_some_and(|next| next.starts_with('\\')) {
                lines.next();
                text = text.strip_suffix('\n').unwrap();
            }
            if sign != "+" {
                assert_eq!(old[at], text, "{diff}");
                at += 1;
                gone -= 1;
            }
            if sign != "-" {
                after.push_str(text);
                come -= 1;
            }
        }
    }
    after.push_str(&old[at..].concat());
    after
}

fn some_text() -> impl Strategy<Value = String> {
    let line = prop_oneof![Just("a"), Just("b"), Just("c"), Just(""), Just("d = 1")];
    let lines = prop::collection::vec(line, 0..40);
    (lines, any::<bool>()).prop_map(|(lines, ends)| {
        let text = lines.join("\n");
        if ends && !text.is_empty() {
            text + "\n"
        } else {
            text
        }
    })
}

proptest! {
    #[test]
    fn a_diff_makes_the_one_text_of_the_other(before in some_text(), after in some_text()) {
        let texts = |text: &str| BTreeMap::from([("x.cfg".to_owned(), text.to_owned())]);
        let diff = versions::diff(&texts(&before), &texts(&after), ["1", "2"]);
        prop_assert_eq!(before == after, diff.is_empty());
        prop_assert_eq!(apply(&diff, &before), after);
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long the search takes is what is tried"
)]
fn a_diff_of_large_files_that_have_nothing_in_common_ends() {
    let text = |seed: u64| {
        let mut state = seed;
        let lines = (0..20_000).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            format!("{}\n", (state >> 33) % 50)
        });
        BTreeMap::from([("x.cfg".to_owned(), lines.collect::<String>())])
    };
    let (before, after) = (text(1), text(2));
    let began = std::time::Instant::now();
    let diff = versions::diff(&before, &after, ["1", "2"]);
    assert_eq!(apply(&diff, &before["x.cfg"]), after["x.cfg"]);
    // Without a bound it is minutes.
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

/// The parts of a phone, by name.
fn parts(fake: &Fake, mac: &str) -> BTreeMap<String, String> {
    let shown = json_of(&get(fake, &of_device(mac, "?secrets=1")));
    let base = shown["provisioning_url"].as_str().unwrap();
    let files = json_of(&get(fake, &of_device(mac, "/files")));
    let names = files["items"].as_array().unwrap();
    names
        .iter()
        .map(|item| {
            let name = item["name"].as_str().unwrap();
            let file = text(&fetch(fake, &follow(&format!("{base}{name}"))));
            (name.to_owned(), file)
        })
        .collect()
}

fn version_of(fake: &Fake, mac: &str) -> u64 {
    let files = json_of(&get(fake, &of_device(mac, "/files")));
    files["version"].as_u64().unwrap()
}

fn ids(case: &Value, collection: &str) -> Vec<String> {
    let records = case[collection].as_object().into_iter().flatten();
    records.map(|(id, _)| id.clone()).collect()
}

/// The cases that every vendor has, but for the one with least in it.
fn cases() -> impl Iterator<Item = &'static Case> {
    let shared = [
        "every-setting",
        "many-lines-blf-module",
        "tls-srtp-backup",
        "ugly-values",
    ];
    let is_shared = move |case: &&Case| {
        let name = case.name.split('/').next_back().unwrap();
        shared.iter().any(|shared| name.starts_with(shared))
    };
    CASES.iter().filter(is_shared)
}

#[test]
fn every_vendors_phone_goes_back_to_the_bytes_of_then_with_todays_password_and_token() {
    let mut tried = BTreeMap::<String, u32>::new();
    for case in cases() {
        let (fake, _) = build(&case.json);
        let fake = &*fake;
        let mac = ids(&case.json, "devices").remove(0);
        let vendor = case.device()["vendor"].as_str().unwrap();
        let accounts = ids(&case.json, "accounts");
        let first = version_of(fake, &mac);
        let passwords = |text: &str| {
            fake.clock.pass_s(2);
            for id in &accounts {
                patch(
                    fake,
                    &format!("accounts/{id}"),
                    &json!({ "password": text }),
                );
            }
            fake.clock.pass_s(2);
        };
        let start = fake.snapshot();

        // What the phone would have if nothing else had changed.
        passwords("Another-Secret-2");
        act(fake, &mac, "rotate");
        passwords("Third-Secret-3");
        let (expected, number) = (parts(fake, &mac), version_of(fake, &mac));

        fake.restore(&start);
        for id in ids(&case.json, "tenants") {
            let settings = json!({ "language": "fr", "timezone": "Asia/Tokyo", "web_ui": false });
            let body = json!({ "settings": settings, "locked": ["call_waiting"] });
            patch(fake, &format!("tenants/{id}"), &body);
        }
        for id in ids(&case.json, "profiles") {
            let settings = json!({ "settings": { "resync_minutes": 77, "dtmf": "info" } });
            patch(fake, &format!("profiles/{id}"), &settings);
        }
        for id in ids(&case.json, "pbxes") {
            let sip = json!({ "host": "elsewhere.example.net", "port": 5_099, "expires_s": 300 });
            patch(fake, &format!("pbxes/{id}"), &json!({ "sip": sip }));
        }
        for id in &accounts {
            let body = json!({ "display_name": "Someone", "voicemail": "*99" });
            patch(fake, &format!("accounts/{id}"), &body);
        }
        fake.clock.pass_s(61);
        let body = json!({ "lines": [], "buttons": [], "settings": { "timezone": "UTC" } });
        patch(fake, &of_device(&mac, ""), &body);
        passwords("Another-Secret-2");
        act(fake, &mac, "rotate");
        let today = parts(fake, &mac);
        assert_ne!(today, expected, "{}", case.name);

        rollback(fake, &mac, first);
        // It reaches the phone although no line of its record has the account.
        passwords("Third-Secret-3");
        let back = parts(fake, &mac);
        let now = version_of(fake, &mac);
        assert!(now > first, "{}", case.name);
        let rules = VendorId::ALL.iter().find(|id| id.name() == vendor).unwrap();
        for (name, text) in &expected {
            let numbered = rules.rules().renumber(text, number, now);
            let expected = numbered.as_ref().unwrap_or(text);
            assert_eq!(&back[name], expected, "{} {name}", case.name);
        }
        assert_eq!(back.len(), expected.len());
        let diff = of_device(&mac, &format!("/diff?from={first}"));
        assert_eq!(text(&get(fake, &diff)), "", "{}", case.name);

        unpin(fake, &mac);
        let unpinned = parts(fake, &mac);
        for (name, text) in &today {
            let number = version_of(fake, &mac);
            let earlier = rules.rules().renumber(&unpinned[name], number, 1);
            let today = (first..number).find_map(|from| rules.rules().renumber(text, from, 1));
            assert_eq!(
                earlier.as_ref().unwrap_or(&unpinned[name]),
                today.as_ref().unwrap_or(text),
                "{} {name}",
                case.name
            );
        }
        // No line, no account: each is free again.
        for id in &accounts {
            assert_eq!(on(fake, id), Vec::<String>::new(), "{}: {id}", case.name);
        }
        let dump = String::from_utf8_lossy(&fake.dump()).into_owned() + &fake.logged();
        for secret in ["Another-Secret-2", "Third-Secret-3"] {
            assert!(!dump.contains(secret), "{}: {secret}", case.name);
        }
        *tried.entry(vendor.to_owned()).or_default() += 1;
    }
    assert_eq!(tried.len(), vendors::KITS.len(), "{tried:?}");
}

/// A phone whose first version had two lines, and whose record has the second alone, under another name.
fn changed() -> (Office, u64) {
    let lines = json!([
        { "line": 1, "account": "acme-1001" },
        { "line": 2, "account": "acme-1002" },
    ]);
    let office = Office::of(&json!({}), &json!({ "lines": lines }));
    let fake = &office.fake;
    let first = current(fake);
    fake.clock.pass_s(2);
    let lines = json!([{ "line": 2, "account": "acme-1002", "label": "Two" }]);
    patch(fake, &of_device(MAC, ""), &json!({ "lines": lines }));
    fake.clock.pass_s(2);
    (office, first)
}

#[test]
fn a_phone_is_held_to_a_version_until_it_is_unpinned() {
    let (office, first) = changed();
    let fake = &office.fake;
    let (second, bad) = (current(fake), acc(&office));
    let answer = rollback(fake, MAC, first);
    assert_eq!(answer["pinned"]["version"], first);
    assert_eq!(answer["version"], current(fake));
    assert!(current(fake) > second);
    let good = acc(&office);
    assert!(
        good.contains("Number 1001") && !good.contains("Two"),
        "{good}"
    );

    // The record stays as it is, is edited, and says so.
    fake.clock.pass_s(2);
    let record = json_of(&get(fake, &of_device(MAC, "")));
    assert_eq!(record["lines"][0]["label"], "Two");
    let body = json!({ "settings": { "language": "de" } });
    let saved = patch(fake, &of_device(MAC, ""), &body);
    let warned = saved["warnings"].to_string();
    assert!(
        warned.contains(&format!("held to version {first}")),
        "{warned}"
    );
    assert_eq!(acc(&office), good);

    for path in ["/status", "/settings", "/files"] {
        let shown = json_of(&get(fake, &of_device(MAC, path)));
        assert_eq!(shown["pinned"]["version"], first, "{path}: {shown}");
        assert!(shown["pinned"]["since"].is_string());
    }
    let explained = json_of(&post(fake, "explain", &json!({ "mac": MAC })));
    assert_eq!(explained["pinned"]["version"], first);
    let settings = json_of(&get(fake, &of_device(MAC, "/settings")));
    assert_eq!(settings["settings"]["language"]["value"], "en");
    let status = json_of(&get(fake, &of_device(MAC, "/status")));
    assert_eq!(status["lines"].as_array().unwrap().len(), 2, "{status}");

    // Another one moves the pin.
    rollback(fake, MAC, second);
    assert_eq!(acc(&office), bad);
    assert_eq!(on(fake, "acme-1001"), Vec::<String>::new());
    rollback(fake, MAC, first);
    assert_eq!(acc(&office), good);

    let gone = unpin(fake, MAC);
    assert_eq!(gone.get("pinned"), None);
    assert!(gone.get("warnings").is_none());
    assert!(text(&fetch(fake, &office.file("first.cfg"))).contains("German"));
    assert_eq!(acc(&office), bad);
    refused(
        &post(fake, &of_device(MAC, "/unpin"), &json!({})),
        409,
        "in_use",
    );
    let pins = fake.audited("files.pinned");
    let versions: Vec<&Value> = pins
        .iter()
        .map(|event| &event["details"]["version"])
        .collect();
    assert_eq!(versions.len(), 3, "{pins:?}");
    assert_eq!(fake.audited("files.unpinned").len(), 1);
}

#[test]
fn going_back_is_refused_where_it_would_do_harm() {
    let (office, first) = changed();
    let fake = &office.fake;
    let path = of_device(MAC, "/rollback");
    let to = |version: u64| json!({ "version": version });
    refused(&post(fake, &path, &to(999)), 404, "not_found");
    refused(&post(fake, &path, &json!({})), 422, "invalid");
    refused(
        &post(fake, &path, &json!({ "version": "1" })),
        422,
        "invalid",
    );
    let nobody = of_device("805ec00000ff", "/rollback");
    refused(&post(fake, &nobody, &to(1)), 404, "not_found");
    // A condition holds as of a save.
    let request = || call_by(ADMIN_TOKEN, Method::POST, &path, &to(first));
    let failed = fetch(fake, &request().with("if-match", "\"99\""));
    refused(&failed, 412, "precondition_failed");
    let tag = header(&get(fake, &of_device(MAC, "")), "etag").to_owned();
    assert_eq!(fetch(fake, &request().with("if-match", &tag)).status(), 200);
    // The phone could not read another make's files: neither now nor once it is another one.
    fake.clock.pass_s(2);
    let other = json!({ "model": "T54W" });
    let refusal = call(fake, Method::PATCH, &of_device(MAC, ""), &other);
    let said = refused(&refusal, 422, "invalid");
    assert_eq!(said["errors"][0]["pointer"], "/model", "{said}");
    unpin(fake, MAC);
    fake.clock.pass_s(2);
    patch(fake, &of_device(MAC, ""), &other);
    let said = refused(&post(fake, &path, &to(first)), 409, "in_use");
    assert_eq!(said["errors"][0]["pointer"], "/model", "{said}");
    let left = fake.r2.keys("unfinished/");
    assert_eq!(left, Vec::<String>::new());
    // No phone, no files.
    fake.clock.pass_s(2);
    patch(
        fake,
        &of_device(MAC, ""),
        &json!({ "lines": [], "decoy": true }),
    );
    refused(&post(fake, &path, &to(first)), 409, "in_use");
}

#[test]
fn an_account_of_a_held_line_is_in_use_and_its_new_password_reaches_the_phone() {
    let (office, first) = changed();
    let fake = &office.fake;
    assert_eq!(on(fake, "acme-1001"), Vec::<String>::new());
    rollback(fake, MAC, first);
    assert_eq!(on(fake, "acme-1001"), [MAC]);
    let gone = call(fake, Method::DELETE, "accounts/acme-1001", &Value::Null);
    refused(&gone, 409, "in_use");
    // Nothing but the save of the account makes the files again.
    fake.clock.pass_s(2);
    json_of(&post(fake, "accounts/acme-1001/rotate", &json!({})));
    let stored = office.stored();
    let files = stored.state.files.as_ref().unwrap();
    let carried = files
        .logins
        .iter()
        .find(|(id, _)| id.as_str() == "acme-1001");
    assert_eq!(carried.unwrap().1.version, files.version);
    assert!(!acc(&office).contains(PASSWORD));
    // What its name is today is none of the version's.
    fake.clock.pass_s(2);
    patch(
        fake,
        "accounts/acme-1001",
        &json!({ "username": "2001", "display_name": "New" }),
    );
    let now = acc(&office);
    assert!(now.contains("2001") && now.contains("Number 1001"), "{now}");
    unpin(fake, MAC);
    assert_eq!(on(fake, "acme-1001"), Vec::<String>::new());
    delete(fake, "accounts/acme-1001");
}

#[test]
fn an_account_that_is_on_as_many_phones_as_it_may_be_gets_no_held_line_more() {
    let (office, first) = changed();
    let fake = &office.fake;
    for n in 0..20 {
        let body = json!({
            "tenant": "acme", "vendor": "yealink", "model": "T46U",
            "lines": [{ "line": 1, "account": "acme-1001" }],
        });
        fake.clock.pass_s(2);
        put(fake, &of_device(&format!("805ec00001{n:02x}"), ""), &body);
    }
    let before = fake.holdings();
    let full = post(
        fake,
        &of_device(MAC, "/rollback"),
        &json!({ "version": first }),
    );
    let said = refused(&full, 422, "invalid");
    assert_eq!(said["errors"][0]["pointer"], "/version", "{said}");
    assert!(fake.holdings() == before, "a refusal left a trace");
}

#[test]
fn a_line_whose_account_is_gone_or_anothers_is_left_out_and_named() {
    for anothers in [false, true] {
        let (office, first) = changed();
        let fake = &office.fake;
        delete(fake, "accounts/acme-1001");
        if anothers {
            fake.clock.pass_s(2);
            put(fake, "tenants/rival", &json!({}));
            let pbx = json!({
                "tenant": "rival", "ari_url": "https://rival.example.com/ari",
                "ari_username": "x", "ari_password": "y", "sip": { "host": "rival.example.com" },
            });
            put(fake, "pbxes/rival", &pbx);
            let theirs = json!({
                "tenant": "rival", "pbx": "rival", "username": "9009",
                "password": "a-rivals-password", "display_name": "Rival",
            });
            put(fake, "accounts/acme-1001", &theirs);
        }
        let answer = rollback(fake, MAC, first);
        let warned = answer["warnings"].to_string();
        assert!(warned.contains("no account acme-1001"), "{warned}");
        let file = acc(&office);
        assert!(file.contains("Number 1002") && !file.contains("Number 1001"));
        for theirs in ["9009", "rival.example", "Rival"] {
            assert!(!file.contains(theirs), "{file}");
        }
        if anothers {
            assert_eq!(on(fake, "acme-1001"), Vec::<String>::new());
        }
    }
}

#[test]
fn a_held_line_whose_account_is_deleted_by_force_is_left_out_at_the_next_fetch() {
    let (office, first) = changed();
    let fake = &office.fake;
    rollback(fake, MAC, first);
    assert!(acc(&office).contains("Number 1001"));
    fake.clock.pass_s(2);
    delete(fake, "accounts/acme-1001?force=1");
    let file = acc(&office);
    assert!(file.contains("Number 1002") && !file.contains("Number 1001"));
    let shown = json_of(&get(fake, &of_device(MAC, "/settings")));
    let warned = shown["warnings"].to_string();
    assert!(warned.contains("no account acme-1001"), "{warned}");
    // The record has no such line: unpinned, nothing is missing.
    unpin(fake, MAC);
    let shown = json_of(&get(fake, &of_device(MAC, "/settings")));
    assert!(
        !shown["warnings"].to_string().contains("acme-1001"),
        "{shown}"
    );
}

#[test]
fn with_kv_alone_a_held_phone_gets_its_version_with_todays_password() {
    let (office, first) = changed();
    let fake = &office.fake;
    rollback(fake, MAC, first);
    fake.clock.pass_s(2);
    patch(
        fake,
        "accounts/acme-1001",
        &json!({ "password": "Another-Secret-2" }),
    );
    let file = acc(&office);
    fake.clock.pass_s(120);
    fake.kv.late.set(Late::Behind);
    *fake.r2.failing.borrow_mut() = Failing::All;
    assert_eq!(acc(&office), file);
}

#[test]
fn a_held_phones_warm_request_costs_what_any_costs() {
    let (office, first) = changed();
    let fake = &office.fake;
    rollback(fake, MAC, first);
    acc(&office);
    let (answer, kv, r2) = cost(fake, &office.file("ACC.cfg"));
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!((kv.gets, r2.gets), (1, 1));
    assert_eq!((kv.all(), r2.all()), (1, 1));
}

#[test]
fn a_user_at_a_held_phone_sits_at_the_host_of_the_version() {
    let office = Office::of(&json!({}), &json!({ "user_type": "hot-desking" }));
    let fake = &office.fake;
    let first = current(fake);
    fake.clock.pass_s(2);
    patch(
        fake,
        &of_device(MAC, ""),
        &json!({ "settings": { "language": "de" }, "lines": [] }),
    );
    rollback(fake, MAC, first);
    fake.clock.pass_s(2);
    let session = of_device(MAC, "/session");
    put(fake, &session, &json!({ "account": "acme-1002" }));
    let phone_language = || text(&fetch(fake, &office.file("first.cfg")));
    assert!(acc(&office).contains("1002") && !phone_language().contains("German"));
    unpin(fake, MAC);
    assert!(acc(&office).contains("1002") && phone_language().contains("German"));
    rollback(fake, MAC, first);
    fake.clock.pass_s(2);
    call(fake, Method::DELETE, &session, &Value::Null);
    assert!(acc(&office).contains("Number 1001"));
}

#[test]
fn a_version_that_cannot_be_kept_holds_nothing_up() {
    let office = Office::new();
    let fake = &office.fake;
    let before = numbers(fake);
    *fake.r2.failing.borrow_mut() = Failing::Prefix("version/".to_owned());
    label(fake, "Unkept");
    assert!(acc(&office).contains("Unkept"));
    assert_eq!(numbers(fake), before);
    assert!(fake.logged().contains("version.unkept"));
    // Once a refresh makes it, too.
    fake.clock.pass_s(2);
    patch(
        fake,
        "accounts/acme-1001",
        &json!({ "display_name": "Unkept as well" }),
    );
    *fake.r2.failing.borrow_mut() = Failing::None;
    label(fake, "Kept");
    assert_eq!(numbers(fake).len(), before.len() + 1);
}

#[test]
fn a_device_that_is_made_again_has_none_of_the_versions_before() {
    let (office, first) = changed();
    let fake = &office.fake;
    rollback(fake, MAC, first);
    fake.clock.pass_s(2);
    delete(fake, &of_device(MAC, ""));
    assert_eq!(
        fake.r2.keys(&format!("version/{MAC}/")),
        Vec::<String>::new()
    );
    assert_eq!(on(fake, "acme-1001"), Vec::<String>::new());
    put(fake, "tenants/rival", &json!({}));
    fake.clock.pass_s(2);
    let theirs = json!({ "tenant": "rival", "vendor": "yealink", "model": "T46U" });
    put(fake, &of_device(MAC, ""), &theirs);
    let all = listed(fake);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(
        json_of(&get(fake, &of_device(MAC, "/files"))).get("pinned"),
        None
    );
    let back = post(
        fake,
        &of_device(MAC, "/rollback"),
        &json!({ "version": first }),
    );
    refused(&back, 404, "not_found");
}

#[test]
fn what_a_cut_off_save_left_is_cleared_up_once_something_falls_off_the_list() {
    let office = Office::new();
    let fake = &office.fake;
    let stray = format!("version/{MAC}/00000000000000000000000000000000");
    let put_stray = dialtone::ports::Objects::put(
        &fake.r2,
        &stray,
        b"{}".to_vec(),
        BTreeMap::from([(
            "at".to_owned(),
            dialtone::ports::World::now(&**fake).0.to_string(),
        )]),
        dialtone::ports::Only::Always,
    );
    block_on(put_stray).unwrap();
    for n in 0..=MOST_VERSIONS {
        label(fake, &format!("Label {n}"));
    }
    // It may be a save's that is under way.
    assert_eq!(fake.r2.keys(&stray).len(), 1);
    fake.clock.pass_s(3_600);
    label(fake, "Later");
    assert_eq!(fake.r2.keys(&stray).len(), 0);
    // What is listed is there.
    for version in numbers(fake) {
        let path = of_device(MAC, &format!("/files/ACC.cfg?version={version}"));
        assert_eq!(get(fake, &path).status(), StatusCode::OK, "{version}");
    }
}

#[test]
fn an_admin_who_saves_while_another_goes_back_loses_nothing() {
    let (office, first) = changed();
    let fake = &office.fake;
    let other = std::rc::Rc::clone(fake);
    fake.r2.before_next_put(&format!("device/{MAC}"), move || {
        patch(
            &other,
            &of_device(MAC, ""),
            &json!({ "settings": { "language": "de" } }),
        );
    });
    let answer = rollback(fake, MAC, first);
    assert_eq!(answer["pinned"]["version"], first);
    let record = json_of(&get(fake, &of_device(MAC, "")));
    assert_eq!(record["settings"]["language"], "de");
    assert!(acc(&office).contains("Number 1001"));
    // Whoever wanted it of the record as it was is told.
    unpin(fake, MAC);
    let tag = header(&get(fake, &of_device(MAC, "")), "etag").to_owned();
    let other = std::rc::Rc::clone(fake);
    fake.r2.before_next_put(&format!("device/{MAC}"), move || {
        let body = json!({ "settings": { "language": "fr" } });
        patch(&other, &of_device(MAC, ""), &body);
    });
    fake.clock.pass_s(2);
    let path = of_device(MAC, "/rollback");
    let request = call_by(
        ADMIN_TOKEN,
        Method::POST,
        &path,
        &json!({ "version": first }),
    );
    let failed = fetch(fake, &request.with("if-match", &tag));
    refused(&failed, 412, "precondition_failed");
    // The lists that it was put on for that are put right by a run.
    fake.clock.pass_s(60);
    block_on(tick::run(&**fake, None));
    assert_eq!(on(fake, "acme-1001"), Vec::<String>::new());
    assert_eq!(fake.r2.keys("unfinished/"), Vec::<String>::new());
}

/// The files of a preview, by name.
fn previewed(shown: &Value) -> BTreeMap<String, String> {
    let files = shown["files"].as_array().unwrap();
    let member = |file: &Value, name: &str| file[name].as_str().unwrap().to_owned();
    files
        .iter()
        .map(|file| (member(file, "name"), member(file, "text")))
        .collect()
}

/// The masked files as they are.
fn masked(fake: &Fake, mac: &str) -> BTreeMap<String, String> {
    let files = json_of(&get(fake, &of_device(mac, "/files")));
    let names = files["items"].as_array().unwrap();
    names
        .iter()
        .map(|item| {
            let name = item["name"].as_str().unwrap();
            let path = of_device(mac, &format!("/files/{name}"));
            (name.to_owned(), text(&get(fake, &path)))
        })
        .collect()
}

#[test]
fn a_preview_is_the_file_after_the_save_and_writes_nothing() {
    for case in cases() {
        let (fake, _) = build(&case.json);
        let fake = &*fake;
        let mac = ids(&case.json, "devices").remove(0);
        let mut device = case.device().clone();
        device["buttons"] = json!([]);
        device["settings"]["timezone"] = json!("Asia/Tokyo");
        device["settings"]["admin_password"] = json!("1234567");
        fake.clock.pass_s(2);
        let before = fake.holdings();
        let body = json!({ "mac": mac, "device": device });
        let shown = json_of(&post(fake, "preview", &body));
        assert!(fake.holdings() == before, "{}: it wrote", case.name);
        assert!(!shown.to_string().contains("1234567"), "{}", case.name);
        let was = masked(fake, &mac);
        put(fake, &of_device(&mac, ""), &device);
        let is = masked(fake, &mac);
        let shown_files = previewed(&shown);
        let version = version_of(fake, &mac);
        for (name, text) in &is {
            let rules = case.device()["vendor"].as_str().unwrap();
            let rules = VendorId::ALL.iter().find(|id| id.name() == rules).unwrap();
            let numbered = rules.rules().renumber(text, version, 0);
            let expected = numbered.as_ref().unwrap_or(text);
            assert_eq!(&shown_files[name], expected, "{} {name}", case.name);
        }
        let diff = shown["diff"].as_str().unwrap();
        assert_eq!(was == is, diff.is_empty(), "{}", case.name);
    }
}

#[test]
fn a_preview_takes_records_that_others_share() {
    let office = Office::new();
    let fake = &office.fake;

    let profile = json!({ "tenant": "acme", "settings": { "language": "de" } });
    let body = json!({ "mac": MAC, "profile": profile });
    let shown = json_of(&post(fake, "preview", &body));
    assert!(
        shown["diff"].as_str().unwrap().contains("German"),
        "{shown}"
    );
    let tenant = json!({ "settings": { "language": "de" }, "locked": ["language"] });
    let account = json!({
        "id": "acme-1001", "tenant": "acme", "pbx": "main", "username": "1001",
        "display_name": "Another",
    });
    let body = json!({ "mac": "80:5E:C0:00:00:01", "tenant": tenant, "account": account });
    let shown = json_of(&post(fake, "preview", &body));
    let diff = shown["diff"].as_str().unwrap();
    assert!(
        diff.contains("German") && diff.contains("Another"),
        "{diff}"
    );
    // As all get it in the end, also where a change goes to some phones first.
    let tenant = json!({ "rollout": {} });
    fake.clock.pass_s(2);
    patch(fake, "tenants/acme", &tenant);
    let before = fake.holdings();
    let body = json!({ "mac": MAC, "profile": profile });
    let shown = json_of(&post(fake, "preview", &body));
    assert!(
        shown["diff"].as_str().unwrap().contains("German"),
        "{shown}"
    );
    // Of a phone that is not there yet there is nothing that it could differ from.
    let device = json!({
        "tenant": "acme", "vendor": "snom", "model": "D785",
        "lines": [{ "line": 1, "account": "acme-1002" }],
    });
    let shown = json_of(&post(fake, "preview", &json!({ "device": device })));
    assert_eq!(shown.get("diff"), None);
    assert!(shown["files"].to_string().contains("Number 1002"));
    assert!(fake.holdings() == before);
}

#[test]
fn a_preview_of_a_held_phone_is_of_its_record() {
    let (office, first) = changed();
    let fake = &office.fake;
    rollback(fake, MAC, first);
    fake.clock.pass_s(2);
    let device = json!({
        "tenant": "acme", "vendor": "yealink", "model": "T46U", "profile": "office",
        "lines": [{ "line": 2, "account": "acme-1002", "label": "Three" }],
    });
    let shown = json_of(&post(
        fake,
        "preview",
        &json!({ "mac": MAC, "device": device }),
    ));
    assert!(previewed(&shown)["ACC.cfg"].contains("Three"), "{shown}");
    let warned = shown["warnings"].to_string();
    assert!(warned.contains("held to version"), "{warned}");
}

#[test]
fn a_preview_refuses_what_a_save_refuses_and_says_where() {
    let office = Office::new();
    let fake = &office.fake;
    put(fake, "tenants/rival", &json!({}));
    let before = fake.holdings();
    let device = |more: Value| {
        let mut device = json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U" });
        let more = more.as_object().unwrap().clone();
        device.as_object_mut().unwrap().extend(more);
        device
    };
    for (body, status, pointer) in [
        (json!({}), 422, "/device"),
        (
            json!({ "mac": "x", "device": device(json!({})) }),
            422,
            "/mac",
        ),
        (json!({ "mac": MAC, "device": [] }), 422, "/device"),
        (json!({ "mac": MAC, "rule": {} }), 422, "/rule"),
        (
            json!({ "mac": MAC, "device": device(json!({ "model": "T99" })) }),
            422,
            "/device/model",
        ),
        (
            json!({ "device": device(json!({ "lines": [{ "line": 1, "account": "none" }] })) }),
            422,
            "/device/lines/0/account",
        ),
        (
            json!({ "device": device(json!({ "settings": { "admin_password": "%NULL%" } })) }),
            422,
            "/device/settings/admin_password",
        ),
        (
            json!({ "mac": MAC, "profile": { "tenant": "acme", "settings": { "dnd": 7 } } }),
            422,
            "/profile/settings/dnd",
        ),
        (
            json!({ "mac": MAC, "account": { "tenant": "acme" } }),
            422,
            "/account/id",
        ),
        (
            json!({ "mac": MAC, "tenant": { "settings": { "language": 7 } } }),
            422,
            "/tenant/settings/language",
        ),
    ] {
        let said = refused(&post(fake, "preview", &body), status, "invalid");
        assert_eq!(said["errors"][0]["pointer"], pointer, "{body}: {said}");
    }
    let unknown = json!({ "mac": "805ec00000ff", "profile": { "tenant": "acme" } });
    refused(&post(fake, "preview", &unknown), 404, "not_found");
    // But for the audit of who looks for others' phones.
    assert!(fake.holdings() == before);
    let theirs = device(json!({ "tenant": "rival" }));
    let taken = post(fake, "preview", &json!({ "mac": MAC, "device": theirs }));
    refused(&taken, 409, "taken");
}
