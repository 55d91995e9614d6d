//! Whoever is refused learns nothing, and what is written down of it is little.

use dialtone::ports::Limit;
use dialtone::request::Request;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{MAC, Office, SERIAL, question, refused};
use crate::ask::{Told, act, call, cost, fetch, get, json_of, patch, put};
use crate::world::Count;

const DECOY: &str = "805ec00000dd";

/// An office with a decoy, a claimed window and a disabled phone beside the usual.
fn office() -> Office {
    let office = Office::new();
    let fake = &office.fake;
    let device = json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U" });
    let with = |more: Value| {
        let mut device = device.clone();
        let more = more.as_object().unwrap().clone();
        device.as_object_mut().unwrap().extend(more);
        device
    };
    put(
        fake,
        &format!("devices/{DECOY}"),
        &with(json!({ "decoy": true })),
    );
    put(fake, "devices/805ec00000aa", &with(json!({ "arm": "1h" })));
    put(
        fake,
        "devices/805ec00000bb",
        &with(json!({ "enabled": false, "arm": "1h" })),
    );
    let first = get("/rps?mac=805ec00000aa").from("198.51.100.1");
    assert_eq!(fetch(fake, &first).status(), StatusCode::OK);
    office
}

/// One of each kind of caller that is refused.
fn callers() -> Vec<(&'static str, Request)> {
    let mut callers = Vec::new();
    for form in ["/rps?mac=", "/rps/"] {
        let ask = |mac: &str| match form {
            "/rps/" => get(&format!("/rps/{mac}.boot")),
            _ => get(&format!("/rps?mac={mac}")),
        };
        callers.extend([
            ("unknown", ask("805ec00000ee")),
            ("unproved", ask(MAC)),
            ("decoy", ask(DECOY)),
            ("contested", ask("805ec00000aa").from("203.0.113.5")),
            ("disabled", ask("805ec00000bb")),
        ]);
    }
    callers.push(("wrong", question(MAC, "1234")));
    callers
}

#[test]
fn all_refusals_are_the_same_whatever_is_asked_and_how() {
    let office = office();
    let fake = &office.fake;
    for (what, request) in callers() {
        let (answer, kv, r2) = cost(fake, &request);
        refused(&answer);
        let one_read = Count {
            gets: 1,
            ..Count::default()
        };
        assert_eq!((kv, r2), (one_read, one_read), "{what}");
    }
    for method in [Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
        let mut answers = callers().into_iter().map(|(what, request)| {
            let (answer, kv, r2) = cost(fake, &request.by(method.clone()));
            let (head, body) = answer.into_parts();
            (what, head.status, head.headers, body, kv, r2)
        });
        let first = answers.next().unwrap();
        assert!(!first.1.is_success(), "{method}");
        for other in answers {
            let same = (&first.1, &first.2, &first.3, &first.4, &first.5);
            let seen = (&other.1, &other.2, &other.3, &other.4, &other.5);
            assert_eq!(seen, same, "{method}: {}", other.0);
        }
    }
    // Nor does asking for a redirect tell them apart.
    for mac in ["805ec00000ee", MAC, DECOY, "805ec00000bb"] {
        refused(&fetch(fake, &get(&format!("/rps?mac={mac}&redirect=302"))));
    }
}

#[test]
fn a_refusal_is_written_down_once_a_minute_and_device_and_an_unknown_mac_never() {
    let office = office();
    let fake = &office.fake;
    fake.clock.pass_s(60);
    fake.r2.take_count();
    fake.kv.take_count();
    for _ in 0..50 {
        refused(&fetch(fake, &get("/rps?mac=805ec00000ee")));
        refused(&fetch(fake, &question(MAC, "1234")));
    }
    assert_eq!(fake.audited("phone.refused").len(), 1);
    fake.clock.pass_s(60);
    refused(&fetch(fake, &question(MAC, "1234")));
    let refusals = fake.audited("phone.refused");
    assert_eq!(refusals.len(), 2);
    assert_eq!(refusals[0]["resource"], format!("devices/{MAC}"));
    assert_eq!(refusals[0]["tenant"], "acme");
    assert_eq!(refusals[0]["detail"]["why"], "no proof");
    assert!(
        !refusals
            .iter()
            .any(|event| event.to_string().contains("1234"))
    );
    assert_eq!(fake.kv.take_count().writes(), 0);

    // The platform's limits keep even the attempts away.
    fake.limit(Limit::RefusalsOfDevice, 0);
    fake.clock.pass_s(60);
    fake.r2.take_count();
    refused(&fetch(fake, &question(MAC, "1234")));
    assert_eq!(fake.r2.take_count().writes(), 0);
}

#[test]
fn all_refusals_together_are_capped_and_a_decoy_is_heard_all_the_same() {
    let office = office();
    let fake = &office.fake;
    fake.limit(Limit::Refusals, 1);
    refused(&fetch(fake, &question(MAC, "1")));
    refused(&fetch(fake, &get("/rps?mac=805ec00000bb")));
    assert_eq!(fake.audited("phone.refused").len(), 1);
    refused(&fetch(fake, &get(&format!("/rps?mac={DECOY}"))));
    assert_eq!(fake.audited("decoy.asked").len(), 1);
}

#[test]
fn a_decoy_raises_an_alarm_and_never_gives_anything() {
    let office = office();
    let fake = &office.fake;
    refused(&fetch(
        fake,
        &get(&format!("/rps/{DECOY}.boot")).from("203.0.113.9"),
    ));
    let alarms = fake.audited("decoy.asked");
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0]["alarm"], true);
    assert_eq!(alarms[0]["resource"], format!("devices/{DECOY}"));
    assert_eq!(alarms[0]["detail"]["source"], "203.0.113.9");
    // Not even with a proof.
    let path = format!("devices/{DECOY}");
    patch(fake, &path, &json!({ "serial": "31460190" }));
    refused(&fetch(fake, &question(DECOY, "31460190")));
    let shown = call(
        fake,
        Method::GET,
        &format!("{path}?secrets=1"),
        &Value::Null,
    );
    let key = json_of(&shown)["first_access"]["key"].clone();
    let key = key.as_str().unwrap();
    refused(&fetch(fake, &get(&format!("/rps/{key}/{DECOY}.boot"))));
    // It takes neither a line nor a window.
    let line = json!({ "lines": [{ "line": 1, "account": "acme-1001" }] });
    for (method, path, body) in [
        (Method::PATCH, path.clone(), line),
        (Method::POST, format!("{path}/arm"), Value::Null),
    ] {
        let status = call(fake, method, &path, &body).status();
        assert!(status.is_client_error(), "{path}: {status}");
    }
}

#[test]
fn a_contested_claim_is_seen_by_the_admin() {
    let office = office();
    let fake = &office.fake;
    refused(&fetch(
        fake,
        &get("/rps?mac=805ec00000aa").from("203.0.113.5"),
    ));
    refused(&fetch(
        fake,
        &get("/rps?mac=805ec00000aa").from("203.0.113.6"),
    ));
    let status = |mac: &str| {
        let path = format!("devices/{mac}/status");
        json_of(&call(fake, Method::GET, &path, &Value::Null))
    };
    let contested = status("805ec00000aa")["contested"].clone();
    assert_eq!(contested["source"], "203.0.113.5");
    assert_eq!(contested["times"], 1);
    let alarms = fake.audited("claim.contested");
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0]["alarm"], true);
    fake.clock.pass_s(60);
    refused(&fetch(
        fake,
        &get("/rps?mac=805ec00000aa").from("203.0.113.6"),
    ));
    let contested = status("805ec00000aa")["contested"].clone();
    assert_eq!(
        (&contested["source"], &contested["times"]),
        (&json!("203.0.113.6"), &json!(2))
    );
    // Armed again, it is over.
    act(fake, "805ec00000aa", "arm");
    assert_eq!(status("805ec00000aa")["contested"], Value::Null);
}

#[test]
fn a_phone_that_asks_at_each_start_contests_nothing() {
    let office = office();
    let fake = &office.fake;
    let ask = |from: &str| get("/rps?mac=805ec00000aa").from(from);
    // The phone that claimed the window fetches its files, and is told of the RPS by DHCP.
    let url = json_of(&fetch(fake, &ask("198.51.100.1")))["url"].clone();
    let file = crate::ask::follow(&format!("{}boot.cfg", url.as_str().unwrap()));
    assert_eq!(fetch(fake, &file).status(), StatusCode::OK);
    fake.clock.pass_s(60);
    refused(&fetch(fake, &ask("198.51.100.1")));
    assert!(fake.audited("claim.contested").is_empty());
    // Somebody else while the window would be open is another matter; later, it has a new address.
    refused(&fetch(fake, &ask("203.0.113.5")));
    assert_eq!(fake.audited("claim.contested").len(), 1);
    fake.clock.pass_s(3_600);
    refused(&fetch(fake, &ask("203.0.113.6")));
    assert_eq!(fake.audited("claim.contested").len(), 1);
}

#[test]
fn a_refusal_just_before_hides_no_contested_claim() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    let fake = &office.fake;
    fake.limit(Limit::RefusalsOfDevice, 1);
    fake.limit(Limit::Refusals, 1);
    refused(&fetch(fake, &question(MAC, "1234")));
    assert_eq!(fake.audited("phone.refused").len(), 1);
    let ask = |from: &str| get(&format!("/rps?mac={MAC}")).from(from);
    assert_eq!(fetch(fake, &ask("198.51.100.1")).status(), StatusCode::OK);
    refused(&fetch(fake, &ask("203.0.113.5")));
    assert_eq!(fake.audited("claim.contested").len(), 1);
    assert_eq!(
        office.stored().state.contested.unwrap().source,
        "203.0.113.5"
    );
}

/// Asks for so many MACs that nobody has, each from the source that `from` gives.
fn count_through(office: &Office, macs: u32, from: impl Fn(u32) -> String) {
    for n in 0..macs {
        let ask = get(&format!("/rps?mac=805ec1{n:06x}")).from(&from(n));
        refused(&fetch(&office.fake, &ask));
    }
}

#[test]
fn whoever_counts_through_macs_finds_no_window_and_learns_nothing() {
    let office = Office::new();
    let fake = &office.fake;
    let armed = |mac: &str| {
        let device = json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U",
            "serial": "31460190", "arm": "1h" });
        put(fake, &format!("devices/{mac}"), &device);
    };
    armed("805ec1ffffff");
    count_through(&office, 32, |_| "203.0.113.9".to_owned());
    let bare = |from: &str| get("/rps?mac=805ec1ffffff").from(from);
    refused(&fetch(fake, &bare("203.0.113.9")));
    assert_eq!(
        fake.audited("phone.refused")[0]["detail"]["why"],
        "guessing"
    );
    // The phone itself, elsewhere, is not held up; nor is one there that proves itself.
    let proved = question("805ec1ffffff", "31460190").from("203.0.113.9");
    assert_eq!(fetch(fake, &proved).status(), StatusCode::OK);
    assert_eq!(fetch(fake, &bare("198.51.100.1")).status(), StatusCode::OK);

    // From many sources.
    armed("805ec1fffffe");
    count_through(&office, 64, |n| format!("198.51.100.{n}"));
    let bare = |mac: &str, from: &str| get(&format!("/rps?mac={mac}")).from(from);
    refused(&fetch(fake, &bare("805ec1fffffe", "192.0.2.77")));
    // In another range one can still come first.
    put(
        fake,
        "devices/805ec2000001",
        &json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "arm": "1h" }),
    );
    let elsewhere = bare("805ec2000001", "192.0.2.77");
    assert_eq!(fetch(fake, &elsewhere).status(), StatusCode::OK);
    // And here when the counting has ended.
    fake.clock.pass_s(600);
    let after = bare("805ec1fffffe", "192.0.2.77");
    assert_eq!(fetch(fake, &after).status(), StatusCode::OK);
}

#[test]
fn a_scanned_range_and_a_scanned_tenant_raise_alarms_and_change_no_phones_way() {
    let office = office();
    let fake = &office.fake;
    fake.limit(Limit::RangeMisses, 5);
    fake.limit(Limit::TenantMisses, 2);
    for n in 0..5_u32 {
        let ask = get(&format!("/rps?mac=805ec0f0000{n}")).from(&format!("203.0.113.{n}"));
        refused(&fetch(fake, &ask));
    }
    assert!(fake.audited("range.scanned").is_empty());
    let limited = fetch(fake, &get("/rps?mac=805ec0f00009").from("203.0.113.99"));
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
    let alarms = fake.audited("range.scanned");
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0]["resource"], "ranges/805ec0");
    assert_eq!(alarms[0]["tenant"], Value::Null);
    // For a device that there is it is the same answer.
    for n in 0..3 {
        let known = fetch(fake, &question(MAC, "1").from(&format!("198.51.100.{n}")));
        assert_eq!(known.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(known.body(), limited.body());
        assert_eq!(known.headers(), limited.headers());
    }
    let alarms = fake.audited("tenant.scanned");
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0]["resource"], "tenants/acme");
    assert_eq!(fetch(fake, &question(MAC, SERIAL)).status(), StatusCode::OK);
}

#[test]
fn five_hundred_phones_behind_one_address_all_get_their_files() {
    let office = Office::new();
    let fake = &office.fake;
    fake.limit(Limit::RpsMisses, 300);
    fake.limit(Limit::RangeMisses, 1_200);
    let mut phones = Vec::new();
    for n in 0..500 {
        let (mac, serial) = (format!("805ec3{n:06x}"), format!("3146{n:012}"));
        let mut device = json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U" });
        // Half of them prove themselves by their serial, the others are armed.
        if n % 2 == 0 {
            device["serial"] = json!(serial);
        } else {
            device["arm"] = json!("1h");
        }
        put(fake, &format!("devices/{mac}"), &device);
        phones.push((mac, serial));
    }
    for (n, (mac, serial)) in phones.iter().enumerate() {
        // A stranger's phone stands there as well, and asks as often.
        let stranger = get("/rps?mac=805ec3ffff00").from("203.0.113.9");
        assert!(fetch(fake, &stranger).status().is_client_error());
        let ask = match n % 2 {
            0 => question(mac, serial),
            _ => get(&format!("/rps?mac={mac}")),
        };
        let answer = fetch(fake, &ask.from("203.0.113.9"));
        assert_eq!(answer.status(), StatusCode::OK, "{mac}");
        let url = json_of(&answer)["url"].as_str().unwrap().to_owned();
        let file = crate::ask::follow(&format!("{url}ACC.cfg")).from("203.0.113.9");
        assert_eq!(fetch(fake, &file).status(), StatusCode::OK, "{mac}");
    }
}
