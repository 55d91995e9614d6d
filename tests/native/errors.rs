//! How the admin API says no: all that is wrong at once, in types that the caller takes, under a name that
//! the logs have as well.

use std::collections::BTreeSet;

use dialtone::admin::problem::{Kind, Problem};
use http::{Method, Response, StatusCode};
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Value, json};

use crate::ask::{Told, call, call_by, fetch, get, header, put};
use crate::phone::{MAC, Office};
use crate::world::ADMIN_TOKEN;

/// What can be wrong with a device: where, the value there, and where the error then stands.
fn spoilers() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("/tenant", json!("A b"), "/tenant"),
        ("/vendor", json!("nokia"), "/vendor"),
        ("/model", json!(5), "/model"),
        ("/serial", json!("a\nb"), "/serial"),
        ("/user_type", json!("cold"), "/user_type"),
        ("/colour", json!("red"), "/colour"),
        ("/enabled", json!("yes"), "/enabled"),
        ("/arm", json!("99d"), "/arm"),
        ("/lines/0/line", json!("x"), "/lines/0/line"),
        ("/lines/1/account", json!(null), "/lines/1/account"),
        ("/lines/1/colour", json!(1), "/lines/1/colour"),
        ("/buttons/0/type", json!("warp"), "/buttons/0/type"),
        ("/buttons/1/key", json!(-1), "/buttons/1/key"),
        ("/buttons/1/label", json!("a\u{0}b"), "/buttons/1/label"),
        (
            "/settings/timezone",
            json!("Mars/Base"),
            "/settings/timezone",
        ),
        ("/settings/codecs/1", json!("mp3"), "/settings/codecs/1"),
        ("/settings/codecs/2", json!(3), "/settings/codecs/2"),
        ("/settings/language", json!([]), "/settings/language"),
        ("/settings/a~1b", json!([]), "/settings/a~1b"),
    ]
}

fn sound() -> Value {
    json!({
        "tenant": "acme", "vendor": "yealink", "model": "T46U", "serial": "S1", "user_type": "standard",
        "enabled": true, "arm": "1h",
        "lines": [{"line": 1, "account": "a"}, {"line": 2, "account": "b"}],
        "buttons": [{"key": 1, "type": "line", "line": 1}, {"key": 2, "type": "dnd", "label": "Rest"}],
        "settings": {"timezone": "UTC", "language": "en", "codecs": ["pcma", "pcmu", "g722", "opus"]},
    })
}

fn set(body: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match body.pointer_mut(parent).unwrap() {
        Value::Object(members) => {
            members.insert(name.replace("~1", "/"), value);
        }
        Value::Array(elements) => elements[name.parse::<usize>().unwrap()] = value,
        other => panic!("{other} has no members"),
    }
}

/// The problem that an answer holds.
fn problem_of(answer: &Response<Vec<u8>>) -> Value {
    assert_eq!(header(answer, "content-type"), "application/problem+json");
    serde_json::from_slice(answer.body()).unwrap()
}

fn pointers(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().into_iter().flatten();
    errors
        .map(|error| error["pointer"].as_str().unwrap().to_owned())
        .collect()
}

proptest! {
    #[test]
    fn every_field_that_is_wrong_is_named_and_no_other(
        spoilt in subsequence(spoilers(), 1..=spoilers().len()),
    ) {
        let office = Office::new();
        let mut body = sound();
        for (at, value, _) in &spoilt {
            set(&mut body, at, value.clone());
        }
        let answer = call(&office.fake, Method::PUT, "devices/805ec00000aa", &body);
        prop_assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem = problem_of(&answer);
        let found: BTreeSet<String> = pointers(&problem).into_iter().collect();
        let expected: BTreeSet<String> = spoilt.iter().map(|(.., at)| (*at).to_owned()).collect();
        // What the records must have besides is looked at once the rest can be judged.
        let missing: BTreeSet<&String> = expected.difference(&found).collect();
        prop_assert!(missing.is_empty(), "{:?} not told: {}", missing, problem);
        let judged = |at: &&String| at.starts_with("/lines/") && at.ends_with("/account") || *at == "/model";
        let more: Vec<&String> = found.difference(&expected).filter(|at| !judged(at)).collect();
        prop_assert!(more.is_empty(), "{:?} told: {}", more, problem);
    }
}

#[test]
fn all_that_is_missing_is_named() {
    let office = Office::new();
    for (path, expected) in [
        (
            "devices/805ec00000aa",
            &["/tenant", "/vendor", "/model"][..],
        ),
        ("accounts/x", &["/tenant", "/pbx", "/username"]),
        ("profiles/x", &["/tenant"]),
    ] {
        let problem = problem_of(&call(&office.fake, Method::PUT, path, &json!({})));
        assert_eq!(pointers(&problem), expected, "{path}: {problem}");
    }
    let body = json!({ "lines": [{}, {"line": 2}], "settings": {"codecs": []} });
    let problem = problem_of(&call(
        &office.fake,
        Method::PUT,
        "devices/805ec00000aa",
        &body,
    ));
    let expected = [
        "/lines/0/line",
        "/lines/0/account",
        "/lines/1/account",
        "/settings/codecs",
        "/tenant",
        "/vendor",
        "/model",
    ];
    assert_eq!(
        pointers(&problem).into_iter().collect::<BTreeSet<_>>(),
        expected.map(ToOwned::to_owned).into(),
        "{problem}"
    );
}

#[test]
fn what_is_misspelt_hides_nothing_that_is_wrong_with_the_rest() {
    let office = Office::new();
    let body = json!({ "tenant": "acme", "vendor": "yealink", "model": "T99", "colour": "red",
        "profile": "nobodys", "settings": {"timezone": "Mars/Base"} });
    let problem = problem_of(&call(
        &office.fake,
        Method::PUT,
        "devices/805ec00000aa",
        &body,
    ));
    let found = pointers(&problem);
    for at in ["/colour", "/settings/timezone", "/model", "/profile"] {
        assert!(found.iter().any(|found| found == at), "{at}: {problem}");
    }
    let gone = call(
        &office.fake,
        Method::GET,
        "devices/805ec00000aa",
        &json!({}),
    );
    assert_eq!(gone.status(), StatusCode::NOT_FOUND, "nothing is saved");
}

/// A body with flaws of several kinds: where it is put, and where each of them is told to be.
type Spoilt = (&'static str, Value, &'static [&'static str]);

fn spoilt_levels() -> Vec<Spoilt> {
    vec![
        (
            "tenants/other",
            json!({
                "id": "another", "name": 5, "colour": "red", "locked": ["nonsense"],
                "webhook": { "url": "http://hook.example.com/" },
                "models": {
                    "T46X": {},
                    "T46U": { "locked": ["nonsense"], "settings": { "admin_password": "x" } },
                },
                "sites": { "berlin": { "settings": { "timezone": "Mars", "user_password": "x" } } },
            }),
            &[
                "/colour",
                "/id",
                "/locked/0",
                "/models/T46U/locked/0",
                "/models/T46U/settings/admin_password",
                "/models/T46X",
                "/name",
                "/sites/berlin/settings/timezone",
                "/sites/berlin/settings/user_password",
                "/webhook/url",
            ][..],
        ),
        (
            "profiles/other",
            json!({ "tenant": "nobody", "locked": ["nonsense"], "settings": { "timezone": "Mars" } }),
            &["/locked/0", "/settings/timezone", "/tenant"],
        ),
        (
            "pbxes/other",
            json!({
                "tenant": "nobody", "ari_url": "http://pbx.example.com/ari", "mode": "sideways",
                "ami": { "url": "http://pbx.example.com/ami" }, "sip": { "port": 0 },
            }),
            &[
                "/ami/password",
                "/ami/url",
                "/ami/username",
                "/ari_password",
                "/ari_url",
                "/ari_username",
                "/mode",
                "/sip/host",
                "/sip/port",
                "/tenant",
            ],
        ),
    ]
}

fn spoilt_phones() -> Vec<Spoilt> {
    vec![
        (
            "accounts/other",
            json!({
                "tenant": "acme", "pbx": "nowhere", "username": "a b",
                // The first key is made up to be read on: the second is not given twice for that.
                "buttons": [
                    { "key": "x", "type": "dnd" }, { "key": 1, "type": "blf" },
                    { "key": 2, "type": "warp" }, { "key": 1, "type": "dnd" },
                ],
            }),
            &[
                "/buttons/0/key",
                "/buttons/1/value",
                "/buttons/2/type",
                "/buttons/3/key",
                "/pbx",
                "/username",
            ][..],
        ),
        (
            "devices/805ec00000aa",
            json!({
                "tenant": "acme", "vendor": "yealink", "model": "T46U", "serial": "a\nb",
                "profile": "nobodys", "url": "http://files.example.com/",
                "lines": [
                    5, { "line": "x", "account": "acme-1001" }, { "line": 1, "account": "nobodys" },
                    { "line": 99, "account": "acme-1002" },
                ],
                "buttons": [
                    { "key": 1, "type": "warp" }, { "key": 2, "type": "blf" },
                    { "key": 3, "type": "line", "line": 7 },
                ],
                "settings": { "timezone": "Mars", "admin_password": "%NULL%" },
            }),
            &[
                "/buttons/0/type",
                "/buttons/1/value",
                "/lines/0",
                "/lines/1/line",
                "/lines/2/account",
                "/lines/3/line",
                "/profile",
                "/serial",
                "/settings/admin_password",
                "/settings/timezone",
                "/url",
            ],
        ),
        (
            // Whose and what it is to be, nobody knows: the rest is judged without.
            "devices/805ec00000aa",
            json!({
                "tenant": "A b", "vendor": "nokia", "model": "T46U", "profile": "nobodys",
                "url": "http://files.example.com/", "decoy": true,
                "lines": [{ "line": 1, "account": "nobodys" }, { "line": 1, "account": "a" }],
            }),
            &["/decoy", "/lines/1/line", "/tenant", "/url", "/vendor"],
        ),
        (
            "rules/other",
            json!({
                "match": { "tenant": "nobody", "vendor": "nokia" }, "url": "http://files.example.com/",
                "priority": "high",
            }),
            &["/match/tenant", "/match/vendor", "/priority", "/url"],
        ),
        (
            "tokens/admin",
            json!({ "role": "king", "tenant": "nobody", "expires_at": "2020-01-01T00:00:00Z" }),
            &["/expires_at", "/id", "/role", "/tenant"],
        ),
    ]
}

#[test]
fn whichever_step_finds_an_error_one_answer_has_them_all_and_none_that_only_follows() {
    let office = Office::new();
    for (path, body, expected) in [spoilt_levels(), spoilt_phones()].concat() {
        let before = office.fake.holdings();
        let answer = call(&office.fake, Method::PUT, path, &body);
        let problem = problem_of(&answer);
        assert_eq!(
            answer.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{path}: {problem}"
        );
        let mut found = pointers(&problem);
        found.sort();
        assert_eq!(found, expected, "{path}: {problem}");
        assert!(office.fake.holdings() == before, "{path}: nothing is saved");
    }
}

#[test]
fn a_body_that_cannot_be_judged_is_told_no_more_than_one_that_can() {
    let office = Office::new();
    put(&office.fake, "tenants/bravo", &json!({}));
    let owner = json!({ "tenant": "acme", "role": "owner", "expires_at": "2027-01-01T00:00:00Z" });
    let made = put(&office.fake, "tokens/acme-owner", &owner);
    let token = made["token"].as_str().unwrap();
    let asked = |path: &str, body: &Value| {
        let answer = fetch(&office.fake, &call_by(token, Method::PUT, path, body));
        let mut found = pointers(&problem_of(&answer));
        found.sort();
        (answer.status().as_u16(), found)
    };
    let told = |status: u16, at: &[&str]| (status, at.iter().map(|at| (*at).to_owned()).collect());
    let rule = |tenant: &str| json!({ "match": { "tenant": tenant }, "url": "http://files.example.com/", "priority": "x" });
    assert_eq!(
        asked("rules/a", &rule("A b")),
        told(422, &["/match/tenant", "/priority", "/url"])
    );
    // Of another tenant, there or not, it is the same.
    for other in ["bravo", "blank"] {
        assert_eq!(
            asked("rules/a", &rule(other)),
            told(422, &["/match/tenant", "/priority"])
        );
        let token = json!({ "tenant": other, "role": "king" });
        assert_eq!(asked("tokens/a", &token), told(422, &["/role", "/tenant"]));
        let mut device = json!({ "tenant": other, "vendor": "nokia", "model": "T46U" });
        let path = "devices/805ec00000aa";
        assert_eq!(asked(path, &device), told(422, &["/tenant", "/vendor"]));
        device["vendor"] = "yealink".into();
        assert_eq!(asked(path, &device), told(403, &["/tenant"]));
    }
    let king = json!({ "tenant": "acme", "role": "king", "expires_at": "soon" });
    assert_eq!(
        asked("tokens/a", &king),
        told(422, &["/expires_at", "/role"])
    );
}

#[test]
fn a_caller_gets_no_type_that_it_does_not_take() {
    let office = Office::new();
    let asked = |method: Method, path: &str, accept: &str| {
        let mut request = get(&format!("/api/v1/{path}"))
            .by(method)
            .with("authorization", &format!("Bearer {ADMIN_TOKEN}"))
            .with("accept", accept);
        request.body = b"{}".to_vec();
        fetch(&office.fake, &request)
    };
    for (method, path, accept, expected) in [
        (Method::GET, "status", "application/json", 200),
        (Method::GET, "status", "text/html", 406),
        (Method::GET, "status", "text/html, */*;q=0.1", 200),
        (Method::GET, "devices/export", "application/x-ndjson", 200),
        (Method::GET, "devices/export", "application/json", 406),
        (Method::GET, "devices/export?format=csv", "text/csv", 200),
        (Method::GET, "devices/nobody", "text/html", 422),
    ] {
        let answer = asked(method, path, accept);
        assert_eq!(answer.status().as_u16(), expected, "{path} {accept}");
    }
    // Before anything is done.
    let before = asked(Method::GET, &format!("devices/{MAC}"), "*/*");
    let answer = asked(Method::POST, &format!("devices/{MAC}/rotate"), "text/html");
    assert_eq!(answer.status(), StatusCode::NOT_ACCEPTABLE);
    assert_eq!(header(&answer, "content-type"), "application/problem+json");
    let after = asked(Method::GET, &format!("devices/{MAC}"), "*/*");
    assert_eq!(after.body(), before.body());
}

#[test]
fn an_answer_says_what_its_request_is_called() {
    let office = Office::new();
    let mut request =
        get("/api/v1/nowhere").with("authorization", &format!("Bearer {ADMIN_TOKEN}"));
    request.id = "93b1e2f0a1b2c3d4-FRA".to_owned();
    let answer = fetch(&office.fake, &request);
    assert_eq!(header(&answer, "x-request-id"), request.id);
    assert_eq!(
        problem_of(&answer)["instance"],
        "urn:dialtone:request:93b1e2f0a1b2c3d4-FRA"
    );
    request.path = "/api/v1/status".to_owned();
    assert_eq!(
        header(&fetch(&office.fake, &request), "x-request-id"),
        request.id
    );
    // Phones are told nothing of it.
    request.path = "/rps/805ec0000001.boot".to_owned();
    assert!(
        fetch(&office.fake, &request)
            .headers()
            .get("x-request-id")
            .is_none()
    );
}

#[test]
fn each_kind_of_problem_is_in_the_document() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ERRORS.md")).unwrap();
    let rows: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .skip(1)
        .collect();
    assert_eq!(rows.len(), Kind::ALL.len());
    for (row, kind) in rows.iter().zip(Kind::ALL) {
        let shown = serde_json::to_value(Problem::new(kind, "").shown()).unwrap();
        let name = shown["type"].as_str().unwrap().rsplit_once(':').unwrap().1;
        let expected = format!("| `{name}` | {} | ", shown["status"]);
        assert!(row.starts_with(&expected), "{row} is not {expected}");
        let waits = Problem::new(kind, "")
            .respond_to("")
            .headers()
            .contains_key("retry-after");
        assert_eq!(waits, row.contains("`Retry-After`"), "{row}");
    }
}
