//! How the admin API says no: all that is wrong at once, in types that the caller takes, under a name that
//! the logs have as well.

use std::collections::BTreeSet;

use dialtone::admin::problem::{Kind, Problem};
use http::{Method, Response, StatusCode};
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Value, json};

use crate::ask::{Told, call, fetch, get, header};
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
