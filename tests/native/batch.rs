//! Many records in one call, and all of them out again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use dialtone::admin::batch::{LONGEST_LINE, MOST_LINES, OPERATIONS};
use dialtone::request::Request;
use http::{Method, Response, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::ask::{Told, call, call_by, cost, fetch, follow, get, header, json_of, patch, put, text};
use crate::fixtures::CASES;
use crate::phone::{MAC, Office, PASSWORD, question};
use crate::world::{ADMIN_TOKEN, Failing, Fake, block_on};

const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";

/// The request of whoever shows a token.
fn sent_by(token: &str, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
    let mut request = get(&format!("/api/v1/{path}"))
        .by(Method::POST)
        .with("authorization", &format!("Bearer {token}"))
        .with("content-type", content_type);
    request.body = body.into();
    request
}

fn sent(path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
    sent_by(ADMIN_TOKEN, path, content_type, body)
}

fn send(fake: &Fake, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Value {
    json_of(&fetch(fake, &sent(path, content_type, body)))
}

fn mac(n: usize) -> String {
    format!("805ec1{n:06x}")
}

fn device(n: usize) -> Value {
    json!({ "mac": mac(n), "tenant": "acme", "vendor": "yealink", "model": "T46U", "profile": "office",
        "serial": format!("SERIAL{n}"), "lines": [{ "line": 1, "account": format!("many-{n}") }] })
}

fn account(n: usize) -> Value {
    json!({ "id": format!("many-{n}"), "tenant": "acme", "pbx": "main", "username": format!("2{n:04}") })
}

fn lines(records: impl IntoIterator<Item = Value>) -> String {
    records.into_iter().fold(String::new(), |mut text, record| {
        let _ = writeln!(text, "{record}");
        text
    })
}

/// Sends a body as often as it takes; the answers.
fn send_all(fake: &Fake, path: &str, body: &str) -> Vec<Value> {
    let mut answers = Vec::new();
    let mut rest: Vec<&str> = body.lines().collect();
    while !rest.is_empty() {
        let answer = send(fake, path, NDJSON, rest.join("\n"));
        let next = answer["next_line"].as_u64().map_or(rest.len(), |next| {
            usize::try_from(next).unwrap() - 1
        });
        assert!(next > 0, "{answer}");
        rest.drain(..next);
        answers.push(answer);
    }
    answers
}

fn statuses(answer: &Value) -> Vec<u64> {
    let lines = answer["lines"].as_array().unwrap();
    lines.iter().map(|line| line["status"].as_u64().unwrap()).collect()
}

#[test]
fn costs() {
    let office = Office::new();
    let fake = &office.fake;
    let body = lines((0..MOST_LINES + 10).map(account));
    let (answer, kv, r2) = cost(fake, &sent("accounts/batch", NDJSON, body.clone()));
    eprintln!("accounts {:?} {kv:?} {r2:?}", json_of(&answer)["next_line"]);
    let (answer, kv, r2) = cost(fake, &sent("accounts/batch", NDJSON, body.clone()));
    eprintln!("accounts again {:?} {kv:?} {r2:?}", json_of(&answer)["next_line"]);
    send_all(fake, "accounts/batch", &body);
    let (answer, kv, r2) = cost(fake, &sent("accounts/batch", NDJSON, body.clone()));
    eprintln!("accounts third {:?} {kv:?} {r2:?}", json_of(&answer)["next_line"]);
    let body = lines((0..MOST_LINES + 10).map(device));
    let (answer, kv, r2) = cost(fake, &sent("devices/batch?dry_run=1", NDJSON, body.clone()));
    eprintln!("dry devices {:?} {kv:?} {r2:?}", json_of(&answer)["next_line"]);
    let (answer, kv, r2) = cost(fake, &sent("devices/batch", NDJSON, body.clone()));
    eprintln!("devices {:?} {kv:?} {r2:?}", json_of(&answer)["next_line"]);
    let one = device(399);
    let (answer, kv, r2) = cost(fake, &call_by(ADMIN_TOKEN, Method::PUT, &format!("devices/{}", mac(399)), &one));
    eprintln!("one {} {kv:?} {r2:?}", answer.status());
    for n in [1,2,5] {
    let (answer, kv, r2) = cost(fake, &sent("devices/batch", NDJSON, lines((200..200+n).map(device))));
    eprintln!("{n} devices {:?} {kv:?} {r2:?}", json_of(&answer)["created"]);
    }
}
