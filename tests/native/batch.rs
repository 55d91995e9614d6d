//! Many records in one call, and all of them out again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use dialtone::admin::batch::{LONGEST_LINE, MOST_LINES, OPERATIONS};
use dialtone::request::Request;
use http::{Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::ask::{
    Told, call, call_by, cost, fetch, follow, get, header, json_of, patch, put, text,
};
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
        let next = answer["next_line"]
            .as_u64()
            .map_or(rest.len(), |next| usize::try_from(next).unwrap() - 1);
        assert!(next > 0, "{answer}");
        rest.drain(..next);
        answers.push(answer);
    }
    answers
}

fn statuses(answer: &Value) -> Vec<u64> {
    let lines = answer["lines"].as_array().unwrap();
    lines
        .iter()
        .map(|line| line["status"].as_u64().unwrap())
        .collect()
}

/// The result of a line.
fn line(answer: &Value, number: u64) -> &Value {
    let lines = answer["lines"].as_array().unwrap();
    let mut of = lines.iter().filter(|line| line["line"] == number);
    of.next()
        .unwrap_or_else(|| panic!("no line {number} in {answer}"))
}

/// A record as a GET shows it, without when.
fn shown(fake: &Fake, path: &str) -> Value {
    let mut shown = json_of(&call(fake, Method::GET, path, &Value::Null));
    shown.as_object_mut().unwrap().remove("updated_at");
    shown
}

/// An office that has some more accounts.
fn with_accounts(count: usize) -> Office {
    let office = Office::new();
    send_all(
        &office.fake,
        "accounts/batch",
        &lines((0..count).map(account)),
    );
    office
}

#[test]
fn a_batch_costs_far_less_than_its_puts_and_says_where_to_go_on() {
    let office = with_accounts(120);
    let fake = &office.fake;
    let (one, kv, r2) = cost(
        fake,
        &call_by(
            ADMIN_TOKEN,
            Method::PUT,
            &format!("devices/{}", mac(119)),
            &device(119),
        ),
    );
    assert_eq!(one.status(), StatusCode::CREATED);
    let single = kv.all() + r2.all();

    let body = lines((0..119).map(device));
    let (answer, kv, r2) = cost(fake, &sent("devices/batch", NDJSON, body.clone()));
    let answer = json_of(&answer);
    let spent = kv.all() + r2.all();
    assert!(spent <= OPERATIONS, "{spent}");
    let next = answer["next_line"].as_u64().unwrap();
    let done = u32::try_from(next - 1).unwrap();
    assert_eq!(answer["created"], done);
    assert_eq!(
        answer["lines"].as_array().unwrap().len(),
        usize::try_from(done).unwrap()
    );
    assert!(done >= 49, "{done}");
    // What is here said: 18 operations a device in place of 40.
    assert!(
        spent / done <= 18 && single >= 36,
        "{spent} {done} {single}"
    );
    assert!(shown(fake, &format!("devices/{}", mac(0)))["revision"] == 1);
    let none = call(
        fake,
        Method::GET,
        &format!("devices/{}", mac(usize::try_from(done).unwrap())),
        &Value::Null,
    );
    assert_eq!(none.status(), StatusCode::NOT_FOUND);

    send_all(fake, "devices/batch", &body);
    fake.clock.pass_s(5);
    let before = fake.holdings();
    let (again, kv, r2) = cost(fake, &sent("devices/batch", NDJSON, body));
    let again = json_of(&again);
    assert_eq!(
        (&again["unchanged"], again.get("next_line")),
        (&json!(119), None),
        "{again}"
    );
    assert_eq!(again.get("visible_by"), None);
    assert_eq!((kv.writes(), r2.writes()), (0, 0));
    assert!(fake.holdings() == before, "the same again wrote something");
}

#[test]
fn a_call_takes_a_bounded_number_of_lines_however_little_they_cost() {
    let office = Office::new();
    let wrong = "{}\n".repeat(MOST_LINES + 3);
    let answer = send(&office.fake, "devices/batch", NDJSON, wrong);
    assert_eq!(answer["refused"], MOST_LINES);
    assert_eq!(answer["next_line"], MOST_LINES + 1);
}

#[test]
fn a_line_makes_what_a_put_makes_and_the_phone_gets_it() {
    let (by_put, by_batch) = (with_accounts(2), with_accounts(2));
    let mut record = device(1);
    record["buttons"] =
        json!([{ "key": 2, "type": "blf", "value": "1002", "label": "Nöte, \"x\"" }]);
    record["settings"] = json!({ "language": "de", "admin_password": "admin-password-in-clear" });
    put(&by_put.fake, &format!("devices/{}", mac(1)), &record);
    // Any spelling of a MAC, as in a path.
    record["mac"] = "80:5E:C1:00:00:01".into();
    let answer = send(&by_batch.fake, "devices/batch", NDJSON, lines([record]));
    assert_eq!(statuses(&answer), [201], "{answer}");
    assert_eq!(answer["lines"][0]["mac"], mac(1));
    assert!(!answer.to_string().contains("in-clear"));
    let path = format!("devices/{}", mac(1));
    assert_eq!(shown(&by_put.fake, &path), shown(&by_batch.fake, &path));
    let files = |office: &Office| {
        let answer = fetch(&office.fake, &question(&mac(1), "SERIAL1"));
        let url = json_of(&answer)["url"].as_str().unwrap().to_owned();
        ["first.cfg", "ACC.cfg", "BTN.cfg"]
            .map(|file| text(&fetch(&office.fake, &follow(&format!("{url}{file}")))))
    };
    let [first, acc, btn] = files(&by_batch);
    assert!(
        first.contains("admin-password-in-clear") && acc.contains("user_name = 20001"),
        "{first}{acc}"
    );
    assert!(btn.contains("1002"));
    let noted = by_batch.fake.audited("record.created");
    let resource = format!("devices/{}", mac(1));
    assert!(
        noted
            .iter()
            .any(|event| event["resource"] == resource.as_str() && event["actor"] == "admin")
    );
}

#[test]
fn a_bad_line_says_what_its_put_would_and_the_good_ones_are_saved() {
    let office = with_accounts(9);
    let fake = &office.fake;
    let wrong = |member: &str, value: Value| {
        let mut record = device(1);
        record[member] = value;
        record
    };
    let bad = [
        wrong("tenant", json!("nobody")),
        wrong("tenant", json!("A b")),
        wrong("colour", json!("red")),
        wrong("model", json!("T99")),
        wrong("profile", json!("none")),
        wrong("lines", json!([{ "line": 1, "account": "none" }])),
        wrong("lines", json!([{ "line": 99, "account": "many-1" }])),
        wrong("settings", json!({ "timezone": "Mars/Base" })),
        wrong(
            "settings",
            json!({ "raw": { "yealink": { "account.1.password": "x" } } }),
        ),
        wrong("buttons", json!([{ "key": 1, "type": "warp" }])),
        wrong("arm", json!("99d")),
    ];
    for (n, record) in bad.iter().enumerate() {
        let single = call(fake, Method::PUT, &format!("devices/{}", mac(1)), record);
        let mut single: Value = serde_json::from_slice(single.body()).unwrap();
        assert!(single["errors"].is_array(), "{single}");
        // It names the request, and all lines of a batch are one.
        assert!(single.as_object_mut().unwrap().remove("instance").is_some());
        let body = lines([device(5), record.clone(), device(6)]);
        let answer = send(fake, "devices/batch", NDJSON, body);
        let good = if n == 0 { 201 } else { 200 };
        assert_eq!(
            statuses(&answer),
            [good, single["status"].as_u64().unwrap(), good],
            "{answer}"
        );
        assert_eq!(answer["lines"][1]["problem"], single);
        assert_eq!(answer["lines"][1]["mac"], mac(1));
    }
    let missing = send(
        fake,
        "devices/batch",
        NDJSON,
        "{\"tenant\":\"acme\"}\n\n{\"mac\":7}\n{\"mac\":\"x\"}\n[]\n{",
    );
    assert_eq!(statuses(&missing), [422, 422, 422, 400, 400]);
    let pointers: Vec<_> = [1, 3, 4]
        .map(|n| line(&missing, n)["problem"]["errors"][0].clone())
        .into();
    assert_eq!(
        pointers[0],
        json!({ "pointer": "/mac", "detail": "is missing" })
    );
    assert_eq!(pointers[1]["pointer"], "/mac");
    assert_eq!(pointers[2]["pointer"], "/mac");
    assert_eq!(
        line(&missing, 6)["problem"]["type"],
        "urn:dialtone:problem:bad_json"
    );
    // Ids that are routes.
    for id in ["batch", "export"] {
        let mut record = account(1);
        record["id"] = id.into();
        let answer = send(fake, "accounts/batch", NDJSON, lines([record]));
        assert_eq!(answer["lines"][0]["problem"]["errors"][0]["pointer"], "/id");
        let put = call(fake, Method::PUT, &format!("accounts/{id}"), &account(1));
        assert_eq!(put.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[test]
fn a_record_that_stands_twice_is_saved_once() {
    let office = with_accounts(1);
    let mut other = device(0);
    other["site"] = "elsewhere".into();
    other["mac"] = "80-5E-C1-00-00-00".into();
    let answer = send(
        &office.fake,
        "devices/batch",
        NDJSON,
        lines([device(0), other]),
    );
    assert_eq!(statuses(&answer), [201, 422]);
    let error = &answer["lines"][1]["problem"]["errors"][0];
    assert_eq!(
        *error,
        json!({ "pointer": "/mac", "detail": "line 1 has it too" })
    );
    assert_eq!(
        shown(&office.fake, &format!("devices/{}", mac(0))).get("site"),
        None
    );
}

#[test]
fn csv_is_read_as_spreadsheets_write_it() {
    let office = with_accounts(3);
    let fake = &office.fake;
    let body = "\u{feff}mac,tenant,vendor,model,serial,enabled,line1,line1_label,buttons,settings.timezone,settings.codecs,settings.dnd\r\n\
        805EC1000000,acme,yealink,T46U,0012,TRUE,many-0,\"Zoë, \"\"Z\"\"\",\"[{\"\"key\"\":2,\"\"type\"\":\"\"dnd\"\"}]\",Europe/Berlin,\"[\"\"pcma\"\"]\",FALSE\r\n\
        \r\n\
        805ec1000001,acme,yealink,T46U,,,,,,,,\n\
        805ec1000002,acme,yealink,T46U,,,,\"two\r\nlines\",,,,\r\n\
        805ec1000003,acme,yealink,T46U,,maybe,,,,,,\r\n\
        805ec1000004,acme,yealink\r\n\
        805ec1000005,acme,yealink,T46U,\"\",,many-2,\"two\nlines\",,,,";
    let answer = send(fake, "devices/batch", "text/csv; charset=utf-8", body);
    assert_eq!(
        statuses(&answer),
        [201, 201, 422, 422, 400, 422],
        "{answer}"
    );
    let numbers: Vec<u64> = answer["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["line"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 4, 5, 7, 8, 9]);
    let first = shown(fake, &format!("devices/{}", mac(0)));
    let wanted = json!({
        "mac": mac(0), "tenant": "acme", "vendor": "yealink", "model": "T46U", "serial": "0012", "enabled": true,
        "lines": [{ "line": 1, "account": "many-0", "label": "Zoë, \"Z\"" }],
        "buttons": [{ "key": 2, "type": "dnd" }], "user_type": "standard", "revision": 1,
        "settings": { "timezone": "Europe/Berlin", "codecs": ["pcma"], "dnd": false },
    });
    assert_eq!(first, wanted);
    let error = |number| line(&answer, number)["problem"]["errors"][0].clone();
    assert_eq!(error(5)["pointer"], "/line1");
    assert_eq!(
        error(7),
        json!({ "pointer": "/enabled", "detail": "is not JSON" })
    );
    assert_eq!(error(9)["pointer"], "/lines/0/label");

    // Semicolons, where the header has them; several lines in any order of columns.
    let body =
        "mac;line2;tenant;vendor;model;line1\n805ec1000006;many-2;acme;yealink;T46U;many-1\n";
    assert_eq!(statuses(&send(fake, "devices/batch", CSV, body)), [201]);
    let lines = &shown(fake, &format!("devices/{}", mac(6)))["lines"];
    assert_eq!(
        *lines,
        json!([{ "line": 1, "account": "many-1" }, { "line": 2, "account": "many-2" }])
    );

    let body = "id,tenant,pbx,username,password,pin\nnew,acme,main,3000,0123456,0099\n";
    let answer = send(fake, "accounts/batch", CSV, body);
    assert_eq!(statuses(&answer), [201]);
    assert!(!answer.to_string().contains("0123456"));
}

#[test]
fn a_file_that_is_none_is_refused_as_a_whole() {
    let office = Office::new();
    let fake = &office.fake;
    let before = fake.holdings();
    let refused = |path: &str, content_type: &str, body: &[u8]| {
        let answer = fetch(fake, &sent(path, content_type, body));
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_slice::<Value>(answer.body()).unwrap(),
        )
    };
    assert_eq!(refused("devices/batch", "application/json", b"{}").0, 415);
    assert_eq!(refused("devices/batch?dry_run=yes", NDJSON, b"{}").0, 400);
    assert_eq!(refused("devices/batch", CSV, b"").0, 400);
    assert_eq!(refused("devices/batch", CSV, b"\xff,mac\n").0, 400);
    for (header, pointer) in [
        ("mac,colour", "/colour"),
        ("mac,mac", "/mac"),
        ("mac,line0", "/line0"),
        ("mac,line01", "/line01"),
        ("mac,line256", "/line256"),
        ("mac,settings.colour", "/settings.colour"),
        ("mac, tenant", "/ tenant"),
        ("mac,id", "/id"),
    ] {
        let (status, body) = refused("devices/batch", CSV, header.as_bytes());
        assert_eq!(
            (status, &body["errors"][0]["pointer"]),
            (422, &json!(pointer)),
            "{body}"
        );
    }
    assert_eq!(
        refused("accounts/batch", CSV, b"id,mac").1["errors"][0]["pointer"],
        "/mac"
    );
    assert!(fake.holdings() == before);
}

#[test]
fn a_line_that_cannot_be_read_stands_alone() {
    let office = with_accounts(2);
    let fake = &office.fake;
    let long = "x".repeat(LONGEST_LINE + 1);
    let mut body = format!("{}\n{{\"mac\":\"{long}\"}}\n", device(0)).into_bytes();
    body.extend_from_slice(b"{\"mac\":\"\xff\"}\n");
    body.extend_from_slice(device(1).to_string().as_bytes());
    let answer = send(fake, "devices/batch", NDJSON, body);
    assert_eq!(statuses(&answer), [201, 413, 400, 201]);

    let mut body = format!(
        "mac,tenant,vendor,model\n805ec1000002,acme,yealink,T46U\n{long},acme,yealink,T46U\n"
    )
    .into_bytes();
    body.extend_from_slice(b"805ec10000\xff3,acme,yealink,T46U\n");
    body.extend_from_slice(format!("805ec1000009{}\n", ",".repeat(700)).as_bytes());
    body.extend_from_slice(b"805ec1000004,acme,yealink,T46U\n805ec1000005,\"acme,yealink,T46U\n805ec1000006,acme,yealink,T46U\n");
    let answer = send(fake, "devices/batch", CSV, body);
    assert_eq!(statuses(&answer), [201, 413, 400, 400, 201, 400]);
    let last = answer["lines"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["line"], &last["problem"]["detail"]),
        (&json!(7), &json!("a quote in the line is not closed"))
    );
}

#[test]
fn a_dry_run_says_what_the_run_says_and_writes_nothing() {
    let office = with_accounts(30);
    let fake = &office.fake;
    let full: Vec<Value> = (0..22)
        .map(|n| {
            let mut record = device(n);
            record["lines"][0]["account"] = "many-0".into();
            record
        })
        .collect();
    let mut records = full;
    // The 21st and 22nd are too many for the account.
    records.push(device(40));
    let body = lines(records);
    let one_name = lines([
        json!({ "id": "a", "tenant": "acme", "pbx": "main", "username": "twice" }),
        json!({ "id": "b", "tenant": "acme", "pbx": "main", "username": "twice" }),
        json!({ "id": "c", "tenant": "acme", "pbx": "main", "username": "1001" }),
    ]);
    for (path, body) in [("devices/batch", &body), ("accounts/batch", &one_name)] {
        fake.clock.pass_s(5);
        let before = fake.holdings();
        let dry = send(fake, &format!("{path}?dry_run=1"), NDJSON, body.clone());
        assert!(fake.holdings() == before, "a dry run of {path} wrote");
        assert_eq!(dry["dry_run"], true);
        assert_eq!(dry.get("visible_by"), None);
        let real = send(fake, path, NDJSON, body.clone());
        assert_eq!(dry["lines"].as_array().unwrap().len(), body.lines().count());
        let outcome = |answer: &Value| {
            let lines = answer["lines"].as_array().unwrap().iter();
            let mut outcomes: Vec<_> = lines
                .map(|line| (line["status"].clone(), line["problem"]["errors"].clone()))
                .collect();
            outcomes.sort_by_key(|outcome| format!("{outcome:?}"));
            outcomes
        };
        assert_eq!(outcome(&dry), outcome(&real), "{path}");
        assert_eq!(real["dry_run"], false);
    }
    let statuses = statuses(&send(fake, "accounts/batch?dry_run=1", NDJSON, one_name));
    assert_eq!(statuses, [200, 409, 409]);
}

#[test]
fn a_failing_store_costs_the_lines_it_hits_and_the_scheduled_run_finishes_the_rest() {
    let office = with_accounts(3);
    let fake = &office.fake;
    fake.clock.pass_s(120);
    *fake.r2.failing.borrow_mut() = Failing::Prefix(format!("device/{}", mac(1)));
    let body = lines((0..3).map(device));
    let answer = send(fake, "devices/batch", NDJSON, body.clone());
    assert_eq!(statuses(&answer), [201, 503, 201]);
    assert_eq!(
        answer["lines"][1]["problem"]["type"],
        "urn:dialtone:problem:unavailable"
    );
    *fake.r2.failing.borrow_mut() = Failing::None;
    // KV takes nothing: what is saved is saved, and follows later.
    fake.clock.pass_s(120);
    *fake.kv.failing.borrow_mut() = Failing::Puts;
    let answer = send(fake, "devices/batch", NDJSON, body);
    assert_eq!(statuses(&answer), [200, 201, 200]);
    assert!(answer["visible_by"].is_string());
    assert_eq!(fake.r2.keys("unfinished/").len(), 1);
    *fake.kv.failing.borrow_mut() = Failing::None;
    fake.clock.pass_s(120);
    block_on(dialtone::tick::run(&**fake, None));
    assert!(fake.r2.keys("unfinished/").is_empty());
    fake.clock.pass_s(120);
    assert_eq!(copied(fake, &format!("device/{}", mac(1)))["edition"], 1);
}

/// KV's copy of a record.
fn copied(fake: &Fake, key: &str) -> Value {
    use dialtone::ports::Mappings as _;
    let texts = block_on(fake.kv.get_many(&[key.to_owned()])).unwrap();
    serde_json::from_str(texts[0].as_deref().unwrap_or("null")).unwrap()
}

#[test]
fn whoever_changes_the_same_at_the_same_time_is_not_overlooked() {
    let office = with_accounts(2);
    let fake = &office.fake;
    fake.clock.pass_s(120);
    let other = Rc::clone(fake);
    // After the batch has read the account, and before it saves the device.
    fake.r2
        .before_next_put(&format!("device/{}", mac(0)), move || {
            other.clock.pass_s(2);
            patch(
                &other,
                "accounts/many-0",
                &json!({ "display_name": "Renamed" }),
            );
            other.clock.pass_s(2);
        });
    let answer = send(fake, "devices/batch", NDJSON, lines([device(0)]));
    assert_eq!(statuses(&answer), [201]);
    let files =
        |fake: &Fake| fake.objects(&format!("device/{}", mac(0)))[0]["state"]["files"].clone();
    let account = fake.objects("account/many-0")[0].clone();
    assert_eq!(
        files(fake)["sources"]["records"]["account/many-0"],
        account["rev"]
    );

    // And before its copy is in KV.
    fake.clock.pass_s(120);
    let other = Rc::clone(fake);
    fake.kv
        .before_next_put(&format!("device/{}", mac(1)), move || {
            other.clock.pass_s(2);
            patch(
                &other,
                &format!("devices/{}", mac(1)),
                &json!({ "site": "newer" }),
            );
            other.clock.pass_s(2);
        });
    let answer = send(fake, "devices/batch", NDJSON, lines([device(1)]));
    assert_eq!(statuses(&answer), [201]);
    fake.clock.pass_s(120);
    assert_eq!(
        copied(fake, &format!("device/{}", mac(1)))["record"]["site"],
        "newer"
    );
}

fn token(fake: &Fake, id: &str, role: &str) -> String {
    put(fake, "tenants/other", &json!({}));
    let made = put(
        fake,
        &format!("tokens/{id}"),
        &json!({ "role": role, "tenant": "other" }),
    );
    made["token"].as_str().unwrap().to_owned()
}

#[test]
fn one_tenants_token_writes_and_sees_its_own_alone() {
    let office = with_accounts(2);
    let fake = &office.fake;
    let operator = token(fake, "other-op", "operator");
    let reader = token(fake, "other-reader", "reader");
    fake.clock.pass_s(5);
    let own =
        |mac: &str| json!({ "mac": mac, "tenant": "other", "vendor": "snom", "model": "D785" });
    let foreign_line = {
        let mut record = own(&mac(2));
        record["lines"] = json!([{ "line": 1, "account": "many-0" }]);
        record
    };
    let body = lines([own(&mac(1)), device(0), own(MAC), foreign_line]);
    let theirs = fake.objects(&format!("device/{MAC}"));
    for query in ["?dry_run=1", ""] {
        let answer = json_of(&fetch(
            fake,
            &sent_by(
                &operator,
                &format!("devices/batch{query}"),
                NDJSON,
                body.clone(),
            ),
        ));
        assert_eq!(statuses(&answer), [201, 403, 409, 422], "{answer}");
        assert_eq!(
            answer["lines"][2]["problem"]["type"],
            "urn:dialtone:problem:taken"
        );
        // Whoever looks for what others have is written down, also in a dry run.
        assert_eq!(fake.audited("record.taken").len(), 1);
        fake.clock.pass_s(1);
    }
    assert_eq!(fake.objects(&format!("device/{MAC}")), theirs);
    for path in ["devices/batch", "accounts/batch"] {
        assert_eq!(
            fetch(fake, &sent_by(&reader, path, NDJSON, body.clone())).status(),
            403
        );
    }
    for format in ["ndjson", "csv"] {
        let path = format!("devices/export?format={format}");
        let all = text(&fetch(
            fake,
            &call_by(&reader, Method::GET, &path, &Value::Null),
        ));
        assert!(
            all.contains(&mac(1)) && !all.contains(MAC) && !all.contains("acme"),
            "{all}"
        );
        let foreign = fetch(
            fake,
            &call_by(
                &reader,
                Method::GET,
                &format!("{path}&tenant=acme"),
                &Value::Null,
            ),
        );
        assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    }
}

#[test]
fn whoever_hits_too_many_ids_of_others_learns_no_more_by_a_batch() {
    let office = with_accounts(40);
    let fake = &office.fake;
    send_all(fake, "devices/batch", &lines((0..40).map(device)));
    let operator = token(fake, "other-op", "operator");
    fake.limit(dialtone::ports::Limit::AdminTaken, 2);
    fake.clock.pass_s(5);
    for query in ["?dry_run=1", ""] {
        let probes = (0..40).map(
            |n| json!({ "mac": mac(n), "tenant": "other", "vendor": "snom", "model": "D785" }),
        );
        let answer = fetch(
            fake,
            &sent_by(
                &operator,
                &format!("devices/batch{query}"),
                NDJSON,
                lines(probes),
            ),
        );
        let answer = json_of(&answer);
        let told = statuses(&answer)
            .iter()
            .filter(|status| **status == 409)
            .count();
        assert!(told <= 2, "{answer}");
        assert_eq!(answer["next_line"], 5, "{answer}");
    }
}

/// All of a collection, page by page.
fn exported(fake: &Fake, path: &str) -> String {
    let mut all = String::new();
    let mut next = format!("/api/v1/{path}");
    loop {
        let request = get(&next).with("authorization", &format!("Bearer {ADMIN_TOKEN}"));
        let page = fetch(fake, &request);
        let page_text = text(&page);
        let csv = path.contains("csv");
        let begins = usize::from(csv && !all.is_empty());
        // The header line holds no quoted line break.
        all.extend(page_text.split_inclusive('\n').skip(begins));
        let link = header(&page, "link");
        let Some((url, rel)) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else {
            return all;
        };
        assert_eq!(rel, "; rel=\"next\"");
        url.clone_into(&mut next);
    }
}

#[test]
fn what_is_exported_can_be_sent_back_and_changes_nothing() {
    let (mut seen, mut passwords) = (BTreeMap::new(), 0);
    for case in CASES.iter() {
        let fake = Fake::new();
        for collection in ["tenants", "profiles", "pbxes", "accounts", "devices"] {
            for (id, record) in case.json[collection].as_object().into_iter().flatten() {
                put(&fake, &format!("{collection}/{id}"), record);
            }
        }
        for (format, content_type) in [("ndjson", NDJSON), ("csv", CSV)] {
            for collection in ["accounts", "devices"] {
                let all = exported(&fake, &format!("{collection}/export?format={format}"));
                let what = format!("{} {collection} {format}: {all}", case.name);
                for account in case.json["accounts"]
                    .as_object()
                    .into_iter()
                    .flat_map(|a| a.values())
                {
                    let password = account["password"].as_str().unwrap_or_default();
                    // Some of the ugly ones are words that may stand anywhere.
                    if password.len() > 8 {
                        assert!(!all.contains(password), "{what}");
                        passwords += 1;
                    }
                }
                fake.clock.pass_s(5);
                let before = fake.holdings();
                let back = send(
                    &fake,
                    &format!("{collection}/batch"),
                    content_type,
                    all.clone(),
                );
                let records = case.json[collection].as_object().map_or(0, |all| all.len());
                assert_eq!(back["unchanged"], records, "{what}\n{back}");
                assert_eq!(back["refused"], 0, "{what}\n{back}");
                assert!(fake.holdings() == before, "{what}");
                *seen.entry((format, collection)).or_insert(0) += records;
            }
        }
    }
    assert!(seen.values().all(|records| *records >= 60), "{seen:?}");
    assert!(passwords > 60, "{passwords}");
}

#[test]
fn an_export_has_pages_and_what_is_in_it_makes_the_same_elsewhere() {
    let from = with_accounts(30);
    send_all(&from.fake, "devices/batch", &lines((0..30).map(device)));
    for (format, content_type) in [("ndjson", NDJSON), ("csv", CSV)] {
        let to = Office::new();
        for collection in ["accounts", "devices"] {
            let whole = exported(&from.fake, &format!("{collection}/export?format={format}"));
            for query in ["&limit=7", "&limit=7&tenant=acme", "&limit=32"] {
                let path = format!("{collection}/export?format={format}{query}");
                assert_eq!(exported(&from.fake, &path), whole, "{path}");
            }
            let answer = send(
                &to.fake,
                &format!("{collection}/batch"),
                content_type,
                whole.clone(),
            );
            assert_eq!(
                (&answer["created"], &answer["unchanged"]),
                (&json!(30), &json!(2)),
                "{answer}"
            );
            assert_eq!(
                exported(&to.fake, &format!("{collection}/export?format={format}")),
                whole
            );
        }
        assert!(!exported(&from.fake, "accounts/export").contains(PASSWORD));
    }
    for wrong in [
        "format=xml",
        "limit=501",
        "limit=0",
        "cursor=%20",
        "tenant=A%20b",
    ] {
        let answer = call(
            &from.fake,
            Method::GET,
            &format!("devices/export?{wrong}"),
            &Value::Null,
        );
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
    let (page, kv, r2) = cost(
        &from.fake,
        &call_by(
            ADMIN_TOKEN,
            Method::GET,
            "devices/export?limit=20",
            &Value::Null,
        ),
    );
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!((kv.all(), r2.gets, r2.lists, r2.writes()), (0, 20, 1, 0));
}

/// Text that is hard on CSV.
fn ugly() -> impl Strategy<Value = String> {
    prop_oneof![
        "[\",;\r\n =+@-]{1,6}",
        "\\PC{1,12}",
        "[a-z]{1,6}",
        Just("true".to_owned()),
        Just("12".to_owned())
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_bytes_are_a_fault_of_ours(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "(mac|id|tenant|line1|buttons|[\",;\r\n]|\\{\\}|\\[|\\PC){0,60}".prop_map(String::into_bytes),
            "mac,tenant,vendor,model,line1,buttons\n(\"|,|\r\n|\n|805ec000000[1-9]|acme|yealink|T46U|\\PC){0,40}".prop_map(String::into_bytes),
        ],
        content_type in prop::sample::select(vec![NDJSON, CSV]),
        path in prop::sample::select(vec!["devices/batch", "accounts/batch", "devices/batch?dry_run=1"]),
    ) {
        thread_local! {
            static OFFICE: Office = Office::new();
        }
        OFFICE.with(|office| {
            let answer = fetch(&office.fake, &sent(path, content_type, body));
            office.fake.clock.pass_s(2);
            let status = answer.status();
            prop_assert!(status == StatusCode::OK || status.is_client_error(), "{}", status);
            if status == StatusCode::OK {
                let answer = json_of(&answer);
                for line in answer["lines"].as_array().unwrap() {
                    prop_assert!(line["status"].as_u64().unwrap() < 500, "{}", answer);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_record_reads_back_from_csv_as_it_was_written(
        texts in prop::collection::vec(ugly(), 8),
        numbers in prop::collection::btree_set(1_u8..8, 0..4),
        reversed in any::<bool>(),
        enabled in any::<bool>(),
    ) {
        use dialtone::admin::batch::csv;
        use dialtone::key::Kind;
        let mut lines: Vec<Value> = numbers.iter().map(|n| json!({ "line": n, "account": texts[0], "label": texts[1] })).collect();
        if reversed {
            lines.reverse();
        }
        let mut record = json!({
            "mac": texts[2], "tenant": texts[3], "serial": texts[4], "enabled": enabled,
            "buttons": [{ "label": texts[5], "value": texts[6] }],
            "settings": { "timezone": texts[7], "raw": { "yealink": { "a": texts[5], "b": "" } }, "ringtone": 3 },
        });
        if !lines.is_empty() {
            record["lines"] = lines.into();
        }
        let members = record.as_object().unwrap().clone();
        let file = format!("{}{}", csv::header(Kind::Device), csv::line(Kind::Device, members.clone()).unwrap());
        let read: Vec<_> = csv::read(Kind::Device, file.as_bytes()).unwrap().collect();
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(read[0].members.clone(), Ok(members));
    }

    #[test]
    fn any_account_reads_back_from_csv_as_it_was_written(
        texts in prop::collection::vec(ugly(), 8),
        there in prop::collection::vec(any::<bool>(), 8),
    ) {
        use dialtone::admin::batch::csv;
        use dialtone::key::Kind;
        let names = [
            "id", "tenant", "pbx", "username", "auth_username", "display_name", "voicemail", "mailbox",
        ];
        let mut record = json!({ "buttons": [{ "key": 1, "type": "blf", "value": texts[0] }] });
        for ((name, text), there) in names.iter().zip(&texts).zip(&there) {
            if *there {
                record[*name] = json!(text);
            }
        }
        let members = record.as_object().unwrap().clone();
        let file = format!("{}{}", csv::header(Kind::Account), csv::line(Kind::Account, members.clone()).unwrap());
        let read: Vec<_> = csv::read(Kind::Account, file.as_bytes()).unwrap().collect();
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(read[0].members.clone(), Ok(members));
    }
}

/// Each member of an account that may be shown has its column, and comes back as it went out.
#[test]
fn an_accounts_mailbox_comes_and_goes_by_csv() {
    let office = Office::new();
    let fake = &office.fake;
    let body = "id,tenant,pbx,username,mailbox\nmany-1,acme,main,2001,2001@default\nmany-2,acme,main,2002,\n\
                many-3,acme,main,2003,2003\n";
    let answer = send(fake, "accounts/batch", CSV, body);
    assert_eq!(statuses(&answer), [201, 201, 422], "{answer}");
    let errors = &line(&answer, 4)["problem"]["errors"];
    assert_eq!(errors[0]["pointer"], "/mailbox", "{answer}");
    let detail = "must have a context behind an @, such as 1001@default";
    assert_eq!(errors[0]["detail"], detail, "{answer}");
    assert_eq!(shown(fake, "accounts/many-1")["mailbox"], "2001@default");
    assert_eq!(shown(fake, "accounts/many-2")["mailbox"], Value::Null);
    let all = exported(fake, "accounts/export?format=csv");
    let header = all.lines().next().unwrap();
    let place = header
        .split(',')
        .position(|name| name == "mailbox")
        .unwrap();
    let cells = |id: &str| {
        let line = all.lines().find(|line| line.starts_with(id)).unwrap();
        line.split(',').nth(place).unwrap().to_owned()
    };
    assert_eq!(
        (cells("many-1").as_str(), cells("many-2").as_str()),
        ("2001@default", "")
    );
    let back = send(fake, "accounts/batch", CSV, all.clone());
    assert_eq!(back["refused"], 0, "{back}");
    assert_eq!(back["changed"], 0, "{back}");
}
