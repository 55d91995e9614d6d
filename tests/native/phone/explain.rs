//! `POST /explain` says what the phone's own path would do, and changes nothing.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{MAC, Office, PASSWORD, SERIAL, SOFT_SERIAL};
use crate::ask::{act, call, fetch, get, json_of, put};

fn explain(office: &Office, request: &Value) -> Value {
    json_of(&call(&office.fake, Method::POST, "explain", request))
}

fn proof(explained: &Value, name: &str) -> Value {
    let proofs = explained["proofs"].as_array().unwrap();
    proofs
        .iter()
        .find(|proof| proof["proof"] == name)
        .unwrap()
        .clone()
}

#[test]
fn each_proof_is_explained() {
    let office = Office::of(
        &json!({ "networks": ["192.0.2.0/24"] }),
        &json!({ "arm": "1h" }),
    );
    let bare = explain(&office, &json!({ "mac": MAC }));
    assert_eq!(bare["decision"], "claims_window");
    assert_eq!(bare["reason"], "the window is open");
    for (name, because) in [
        ("serial", "the caller gives no serial"),
        (
            "certificate",
            "no client certificate was presented and verified",
        ),
        ("key", "the path has no first-access key"),
        (
            "network",
            "the source address is in none of the tenant's networks",
        ),
    ] {
        let proof = proof(&bare, name);
        assert_eq!(
            (&proof["holds"], &proof["because"]),
            (&json!(false), &json!(because))
        );
        assert_eq!(proof["accepted"], name != "network");
    }
    for (request, name) in [
        (json!({ "mac": MAC, "serial": SERIAL }), "serial"),
        (
            json!({ "mac": MAC, "certificate": "CN=805ec0000001,O=Yealink" }),
            "certificate",
        ),
        (
            json!({ "path": format!("{}{MAC}.boot", &office.first_access["https://dialtone.example".len()..]) }),
            "key",
        ),
    ] {
        let explained = explain(&office, &request);
        assert_eq!(
            explained["decision"], "redirected",
            "{request}: {explained}"
        );
        let proof = proof(&explained, name);
        assert_eq!(
            (&proof["holds"], &proof["because"]),
            (&json!(true), &explained["reason"])
        );
    }
    let inside = explain(&office, &json!({ "mac": MAC, "ip": "192.0.2.9" }));
    assert_eq!(proof(&inside, "network")["holds"], true);
    let wrong = explain(&office, &json!({ "mac": MAC, "serial": SOFT_SERIAL }));
    assert_eq!(
        (&wrong["decision"], &wrong["reason"]),
        (&json!("refused"), &json!("no proof"))
    );
    assert_eq!(wrong["status"], 404);
    // The window is as open as before.
    assert_eq!(
        fetch(&office.fake, &get(&format!("/rps?mac={MAC}"))).status(),
        StatusCode::OK
    );
}

#[test]
fn who_it_is_which_rule_and_where_each_value_comes_from() {
    let office = Office::new();
    let fake = &office.fake;
    for (id, rule) in [
        (
            "here",
            json!({ "match": { "tenant": "acme", "vendor": "yealink" }, "url": "https://there.example/{token}/" }),
        ),
        (
            "france",
            json!({ "match": { "tenant": "acme", "country": "FR" }, "url": "https://fr.example/" }),
        ),
    ] {
        put(fake, &format!("rules/{id}"), &rule);
    }
    fake.clock.pass_s(61);
    let explained = explain(
        &office,
        &json!({
            "mac": "80:5E:C0:00:00:01", "serial": SERIAL, "country": "DE",
            "user_agent": "Yealink SIP-T46U 108.86.0.20 80:5e:c0:00:00:01",
        }),
    );
    let identified = &explained["identified"];
    assert_eq!(identified["mac"], json!({ "value": MAC, "from": "query" }));
    assert_eq!(
        identified["firmware"],
        json!({ "value": "108.86.0.20", "from": "user_agent" })
    );
    assert_eq!(explained["url"], "https://there.example/********/");
    assert_eq!(explained["boot"], "805ec0000001.boot");
    let rules = explained["rules"].as_array().unwrap();
    let rule = |id: &str| rules.iter().find(|rule| rule["id"] == id).unwrap();
    assert_eq!(
        (&rule("here")["fields"], &rule("here")["chosen"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(
        (&rule("france")["differs"], &rule("france")["chosen"]),
        (&json!("country"), &json!(false))
    );
    let timezone = json!({ "value": "Europe/Berlin", "from": "profiles/office" });
    assert_eq!(explained["settings"]["timezone"], timezone);
    assert!(
        explained["made_of"]["account/acme-1001"].is_u64(),
        "{explained}"
    );
    assert!(
        explained["files"]
            .as_array()
            .unwrap()
            .iter()
            .any(|file| file["name"] == "ACC.cfg")
    );
    let text = explained.to_string();
    assert!(!text.contains(PASSWORD) && !text.contains(office.token()));
}

#[test]
fn a_request_for_a_file_is_explained_as_well() {
    let office = Office::new();
    let path = |name: &str| json!({ "path": format!("/p/{}/{name}", office.token()) });
    let served = explain(&office, &path("ACC.cfg"));
    assert_eq!(
        (&served["decision"], &served["status"]),
        (&json!("served"), &json!(200))
    );
    let other = explain(&office, &path("nothing.cfg"));
    assert_eq!(other["reason"], "it is none of the phone's generated files");
    act(&office.fake, MAC, "revoke");
    let revoked = explain(&office, &path("ACC.cfg"));
    assert_eq!(revoked["decision"], "refused");
    assert_eq!(
        revoked["reason"],
        "the token was revoked, or its grace has ended"
    );
    let forged = explain(&office, &json!({ "path": "/p/AAAA/ACC.cfg" }));
    assert_eq!(forged["reason"], "the token is none that we signed");
}

#[test]
fn an_explanation_writes_nothing_and_says_what_is_wrong_with_its_request() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    let fake = &office.fake;
    fake.r2.take_count();
    fake.kv.take_count();
    for request in [
        json!({}),
        json!({ "mac": MAC }),
        json!({ "mac": "805ec00000ff" }),
        json!({ "mac": "nonsense" }),
        json!({ "path": "/rps/y000000000108.cfg" }),
        json!({ "path": "/favicon.ico" }),
        json!({ "path": "/rps/%ff" }),
    ] {
        explain(&office, &request);
    }
    let writes = [fake.r2.take_count().writes(), fake.kv.take_count().writes()];
    assert_eq!(writes, [0, 0]);
    for (request, pointer) in [
        (json!({ "ip": "localhost" }), "/ip"),
        (json!({ "country": "Germany" }), "/country"),
        (json!({ "path": "rps" }), "/path"),
        (json!({ "user_agent": "a\nb" }), "/user_agent"),
        (json!({ "colour": "red" }), "/colour"),
        (json!({ "asn": -1 }), "/asn"),
    ] {
        let refused = call(fake, Method::POST, "explain", &request);
        assert_eq!(
            refused.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{request}"
        );
        let problem: Value = serde_json::from_slice(refused.body()).unwrap();
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
}
