//! Lists of the admin API: filters, cursors, and what a call looks at.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use dialtone::ports::{Mappings, Objects, Only};
use http::{Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::ask::{call, call_by, cost, delete, json_of, patch, put, text};
use crate::phone::Office;
use crate::rollout;
use crate::world::{ADMIN_TOKEN, Failing, Fake, LATE_S, Late, block_on};

fn list(fake: &Fake, path: &str) -> Value {
    json_of(&call(fake, Method::GET, path, &Value::Null))
}

/// The ids of a list's records, from its first page to its last.
fn all(fake: &Fake, path: &str) -> Vec<String> {
    let joint = if path.contains('?') { '&' } else { '?' };
    let mut ids = Vec::new();
    let mut cursor = String::new();
    for _ in 0..100 {
        let page = list(fake, &format!("{path}{cursor}"));
        ids.extend(ids_of(&page));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("{joint}cursor={next}"),
            None => return ids,
        }
    }
    panic!("{path} has no end");
}

fn ids_of(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    let id = |item: &Value| {
        item["id"]
            .as_str()
            .or(item["mac"].as_str())
            .map(ToOwned::to_owned)
    };
    items.map(|item| id(item).unwrap()).collect()
}

/// A tenant with some of everything.
fn collections() -> Rc<Fake> {
    let office = Office::of(&json!({ "name": "ACME Ltd" }), &json!({ "site": "berlin" }));
    let fake = office.fake;
    put(&fake, "tenants/bravo", &json!({}));
    put(
        &fake,
        "profiles/foyer",
        &json!({ "tenant": "acme", "name": "Eingang" }),
    );
    let pbx = json!({
        "tenant": "acme", "mode": "push", "ari_url": "https://second.example.com/ari",
        "ari_username": "dialtone", "ari_password": "x", "sip": { "host": "second.example.com" },
    });
    put(&fake, "pbxes/second", &pbx);
    let account =
        json!({ "tenant": "acme", "pbx": "second", "username": "3001", "display_name": "ZOË" });
    put(&fake, "accounts/acme-3001", &account);
    let device = json!({
        "tenant": "acme", "vendor": "yealink", "model": "T54W", "site": "paris", "region": "eu",
        "lines": [{ "line": 1, "account": "acme-3001", "label": "Empfang" }],
        "buttons": [{ "key": 2, "type": "blf", "value": "1001", "label": "Zoë" }],
    });
    put(&fake, "devices/805ec00000f1", &device);
    for (id, matches) in [
        ("one", json!({ "tenant": "acme", "vendor": "snom" })),
        (
            "two",
            json!({ "tenant": "acme", "model": "T46U", "site": "paris" }),
        ),
        ("three", json!({ "country": "FR" })),
    ] {
        let rule = json!({ "match": matches, "url": format!("https://{id}.example.org/") });
        put(&fake, &format!("rules/{id}"), &rule);
    }
    put(
        &fake,
        "tokens/helpdesk",
        &json!({ "role": "operator", "tenant": "acme" }),
    );
    put(
        &fake,
        "tokens/ci",
        &json!({ "role": "reader", "name": "Nightly" }),
    );
    fake.clock.pass_s(2 * LATE_S);
    fake
}

#[test]
fn each_filter_lets_through_what_it_names_and_nothing_else() {
    let fake = collections();
    let (yealink, second, soft) = ("805ec0000001", "805ec00000f1", "0a5ec0000001");
    let cases: [(&str, &[&str]); 40] = [
        ("devices?vendor=yealink", &[yealink, second]),
        ("devices?vendor=linphone", &[soft]),
        ("devices?vendor=snom", &[]),
        ("devices?vendor=yealink&model=t46u", &[yealink]),
        ("devices?model=T54W", &[second]),
        ("devices?site=paris", &[second]),
        ("devices?site=Paris", &[second]),
        ("devices?profile=office", &[yealink]),
        ("devices?tenant=acme&site=berlin", &[yealink]),
        ("devices?tenant=bravo&site=berlin", &[]),
        ("devices?q=EMPFANG", &[second]),
        ("devices?q=zo%C3%AB", &[second]),
        ("devices?q=acme-300", &[second]),
        ("devices?q=5E:C0:00:00:F", &[second]),
        ("devices?q=80-5e-c0", &[yealink, second]),
        ("devices?q=3146019", &[yealink]),
        // A kind of button, a setting and the tenant are no text of the device.
        ("devices?q=blf", &[]),
        ("devices?q=acme&site=berlin", &[yealink]),
        ("devices?status=unseen&site=paris", &[second]),
        ("devices?status=registered", &[]),
        ("accounts?pbx=second", &["acme-3001"]),
        ("accounts?pbx=main", &["acme-1001", "acme-1002"]),
        ("accounts?q=zo%C3%AB", &["acme-3001"]),
        ("accounts?q=number", &["acme-1001", "acme-1002"]),
        ("accounts?status=unknown&pbx=second", &["acme-3001"]),
        ("accounts?status=online", &[]),
        ("profiles?q=eingang", &["foyer"]),
        ("profiles?q=office&tenant=acme", &["office"]),
        ("pbxes?mode=push", &["second"]),
        ("pbxes?mode=observe", &["main"]),
        ("pbxes?q=sip.example", &["main"]),
        ("rules?vendor=snom", &["one"]),
        ("rules?model=t46u&site=paris", &["two"]),
        ("rules?country=FR", &["three"]),
        ("rules?q=three.example", &["three"]),
        ("tenants?q=ltd", &["acme"]),
        ("tenants?q=brav", &["bravo"]),
        ("tokens?role=reader", &["ci"]),
        ("tokens?role=operator&tenant=acme", &["helpdesk"]),
        ("tokens?q=night", &["ci"]),
    ];
    for (path, expected) in cases {
        let mut expected: Vec<&str> = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(all(&fake, path), expected, "{path}");
        // And in pages of one.
        let joint = if path.contains('?') { '&' } else { '?' };
        assert_eq!(
            all(&fake, &format!("{path}{joint}limit=1")),
            expected,
            "{path}"
        );
    }
    // What is listed is what a GET shows.
    let listed = list(&fake, "devices?site=paris")["items"][0].clone();
    assert_eq!(listed, list(&fake, &format!("devices/{second}")));
}

#[test]
fn a_filter_that_there_is_not_or_that_is_none_is_refused_by_name() {
    let fake = collections();
    for (path, named) in [
        ("devices?colour=red", "colour"),
        ("devices?mode=push", "mode"),
        ("accounts?vendor=yealink", "vendor"),
        ("profiles?site=berlin", "site"),
        ("pbxes?status=online", "status"),
        ("rules?status=unseen", "status"),
        ("tenants?tenant=acme", "tenant"),
        ("tokens?mode=push", "mode"),
        ("devices?vendor=nokia", "vendor must be one of yealink, "),
        ("devices?model=", "model"),
        ("devices?site=a%20b", "site"),
        ("devices?profile=A", "profile"),
        ("devices?status=online", "status must be one of unseen, "),
        ("accounts?status=unseen", "status must be one of online, "),
        ("pbxes?mode=pull", "mode must be one of observe, push"),
        ("tokens?role=admin", "role must be one of reader, "),
        ("devices?q=", "q must have"),
        (&format!("devices?q={}", "x".repeat(101)), "q must have"),
        ("devices?site=a&site=b", "site stands twice"),
        ("devices?q=a&q=b", "q stands twice"),
        ("devices?status=unseen&status=booted", "status stands twice"),
        ("devices?cursor=805ec0000001", "cursor"),
        ("devices/export?site=berlin", "site"),
    ] {
        let answer = call(&fake, Method::GET, path, &Value::Null);
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}");
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(
            problem["type"], "urn:dialtone:problem:bad_parameter",
            "{problem}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(named), "{path}: {detail}");
    }
}

#[test]
fn what_is_shown_passes_now_and_a_change_is_found_within_a_minute() {
    for late in [Late::Cached, Late::Behind] {
        let fake = collections();
        fake.kv.late.set(late);
        let path = "devices/805ec00000f1";
        assert_eq!(all(&fake, "devices?site=paris"), ["805ec00000f1"]);
        assert_eq!(all(&fake, "devices?site=rome"), [""; 0]);
        patch(&fake, path, &json!({ "site": "rome" }));
        // Where it was it is not shown from this moment on, whatever KV has.
        fake.clock.pass_s(1);
        assert_eq!(all(&fake, "devices?site=paris"), [""; 0], "{late:?}");
        fake.clock.pass_s(LATE_S);
        assert_eq!(
            all(&fake, "devices?site=rome"),
            ["805ec00000f1"],
            "{late:?}"
        );
        // What is new is found at once: KV has nothing of it that could say otherwise.
        let new = json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "site": "rome" });
        put(&fake, "devices/805ec00000f2", &new);
        assert_eq!(all(&fake, "devices?site=rome").len(), 2, "{late:?}");
        delete(&fake, "devices/805ec00000f2");
        assert_eq!(all(&fake, "devices?site=rome").len(), 1, "{late:?}");
    }
}

#[test]
fn the_status_of_a_list_is_that_of_each_phone_and_account() {
    let mut office = rollout::office(4, &Value::Null);
    office.add(4, "office");
    let scene = &office.scene;
    scene.asterisk.unregisters(&office.phones[1].username);
    scene.minute();
    scene.minute();
    scene.fake.clock.pass_s(LATE_S);
    let fake = &scene.fake;
    let mut seen = 0;
    for (collection, words) in [
        (
            "devices",
            [
                "unseen",
                "redirected",
                "booted",
                "configured",
                "registered",
                "offline",
            ]
            .as_slice(),
        ),
        ("accounts", &["online", "offline", "unknown"]),
    ] {
        let mut by_word: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in all(fake, collection) {
            let status = list(fake, &format!("{collection}/{id}/status"))["status"].clone();
            by_word
                .entry(status.as_str().unwrap().to_owned())
                .or_default()
                .push(id);
        }
        seen += by_word.len();
        for word in words {
            let expected = by_word.remove(*word).unwrap_or_default();
            let path = format!("{collection}?status={word}&limit=2");
            assert_eq!(all(fake, &path), expected, "{path}");
        }
        assert!(by_word.is_empty(), "{by_word:?}");
    }
    // Registered, offline and unseen phones, and online, offline and unknown accounts, or little was tested.
    assert!(seen >= 5, "{seen}");
}

/// Puts so many rules into the stores, by copies of one.
fn many_rules(fake: &Fake, count: u32) {
    let key = "rule/one";
    let kept = block_on(fake.r2.get(key)).unwrap().unwrap();
    let copy = String::from_utf8(kept.body.clone()).unwrap();
    for n in 0..count {
        let key = format!("rule/copy-{n:05}");
        let metadata = BTreeMap::new();
        block_on(fake.r2.put(&key, kept.body.clone(), metadata, Only::Always)).unwrap();
        block_on(fake.kv.put(&key, &copy, None, None)).unwrap();
    }
    fake.clock.pass_s(2 * LATE_S);
}

#[test]
fn a_call_looks_at_so_many_records_and_its_cursor_goes_on_from_there() {
    let fake = collections();
    many_rules(&fake, 2_500);
    let page = |path: &str| {
        let request = call_by(ADMIN_TOKEN, Method::GET, path, &Value::Null);
        let (answer, kv, r2) = cost(&fake, &request);
        (json_of(&answer), kv, r2)
    };
    let (first, kv, r2) = page("rules?country=FR");
    assert_eq!((ids_of(&first), r2.gets), (Vec::new(), 0), "{first}");
    assert!(kv.gets <= 21 && r2.lists <= 21, "{kv:?} {r2:?}");
    let (second, ..) = page(&format!(
        "rules?country=FR&cursor={}",
        first["cursor"].as_str().unwrap()
    ));
    assert_eq!(
        (ids_of(&second), &second["cursor"]),
        (vec!["three".to_owned()], &Value::Null)
    );

    // While KV fails everything is read from R2, and a call ends before the platform ends it.
    *fake.kv.failing.borrow_mut() = Failing::All;
    let (third, kv, r2) = page("rules?country=FR");
    assert!(third["cursor"].is_string(), "{third}");
    assert!((400..600).contains(&(kv.all() + r2.all())), "{kv:?} {r2:?}");
    assert_eq!(all(&fake, "rules?country=FR"), ["three"]);
    *fake.kv.failing.borrow_mut() = Failing::None;

    // Without a filter a page costs what it has.
    let (plain, kv, r2) = page("rules?limit=20");
    assert_eq!((ids_of(&plain).len(), kv.all(), r2.all()), (20, 0, 21));
    assert_eq!(all(&fake, "rules?limit=200").len(), 2_503);
    // A page that is full at the very end is the last.
    let (last, ..) = page("rules?country=FR&limit=1&q=three");
    let after = last["cursor"].as_str().map(ToOwned::to_owned);
    let (last, ..) = page(&format!(
        "rules?country=FR&limit=1&cursor={}",
        after.unwrap()
    ));
    assert_eq!(ids_of(&last), ["three"]);
}

/// What somebody does between two pages: to which record, and what.
#[derive(Debug, Clone)]
enum Deed {
    Save(u8, bool),
    Delete(u8),
    Pass,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        (0_u8..12, any::<bool>()).prop_map(|(n, passes)| Deed::Save(n, passes)),
        (0_u8..12).prop_map(Deed::Delete),
        Just(Deed::Pass),
    ]
}

fn rule(passes: bool) -> Value {
    let vendor = if passes { "yealink" } else { "snom" };
    json!({ "match": { "tenant": "acme", "vendor": vendor }, "url": "https://prov.example.org/" })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whoever_is_there_throughout_is_seen_once_whatever_others_do_meanwhile(
        steady in prop::collection::vec(any::<bool>(), 1..10),
        before in prop::collection::vec(deed(), 0..8),
        between in prop::collection::vec(prop::collection::vec(deed(), 0..4), 30),
        limit in 1_u32..5,
        filtered in any::<bool>(),
        of_tenant in any::<bool>(),
        behind in any::<bool>(),
    ) {
        let fake = Fake::new();
        put(&fake, "tenants/acme", &json!({}));
        let act = |deed: &Deed| match deed {
            // Its name sorts between those of the steady ones.
            Deed::Save(n, passes) => drop(put(&fake, &format!("rules/r{n:02}-moves"), &rule(*passes))),
            Deed::Delete(n) => drop(call(&fake, Method::DELETE, &format!("rules/r{n:02}-moves"), &Value::Null)),
            Deed::Pass => fake.clock.pass_s(30),
        };
        for (n, passes) in steady.iter().enumerate() {
            put(&fake, &format!("rules/r{n:02}"), &rule(*passes));
        }
        before.iter().for_each(act);
        fake.clock.pass_s(2 * LATE_S);
        fake.kv.late.set(if behind { Late::Behind } else { Late::Cached });
        let mut path = format!("rules?limit={limit}");
        if filtered {
            path.push_str("&vendor=yealink");
        }
        if of_tenant {
            path.push_str("&tenant=acme");
        }
        let mut seen = Vec::new();
        let mut cursor = String::new();
        let mut between = between.iter();
        loop {
            let page = list(&fake, &format!("{path}{cursor}"));
            let ids = ids_of(&page);
            prop_assert!(ids.len() <= usize::try_from(limit).unwrap());
            for id in &ids {
                let now = list(&fake, &format!("rules/{id}"));
                prop_assert!(!filtered || now["match"]["vendor"] == "yealink", "{}", now);
            }
            seen.extend(ids);
            let Some(next) = page["cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
            if let Some(deeds) = between.next() {
                deeds.iter().for_each(act);
            }
            // Also the very one that the cursor stands at.
            if let Some(last) = seen.last().filter(|id| id.ends_with("moves")) {
                call(&fake, Method::DELETE, &format!("rules/{last}"), &Value::Null);
            }
        }
        let once: BTreeSet<&String> = seen.iter().collect();
        prop_assert_eq!(once.len(), seen.len(), "{:?}", seen);
        for (n, passes) in steady.iter().enumerate() {
            let id = format!("r{n:02}");
            prop_assert_eq!(once.contains(&id), *passes || !filtered, "{} {:?}", id, seen);
        }
    }
}

#[test]
fn a_cursor_is_no_id_and_any_bytes_of_one_are_no_fault_of_ours() {
    let fake = collections();
    let page = list(&fake, "devices?limit=1");
    let cursor = page["cursor"].as_str().unwrap();
    assert!(!cursor.contains(ids_of(&page)[0].as_str()), "{cursor}");
    for wrong in [
        "x",
        "%00",
        "AAAA",
        "MQ",
        "..",
        "ODA1ZWMwMDAwMDAx%0A",
        "805EC0000001",
    ] {
        let answer = call(
            &fake,
            Method::GET,
            &format!("devices?cursor={wrong}"),
            &Value::Null,
        );
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
    text(&call(
        &fake,
        Method::GET,
        &format!("devices?cursor={cursor}"),
        &Value::Null,
    ));
}
