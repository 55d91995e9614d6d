//! What a phone puts beside its files.

use http::{Method, StatusCode};

use crate::ask::{Told, cost, delete, fetch, header, text};
use crate::phone::{MAC, Office, refused};
use crate::world::Fake;

const LOCAL: &str = "805ec0000001-local.cfg";
const BODY: &str = "#!version:1.0.0.1\naccount.1.password = changed-by-hand\n";

fn put(office: &Office, name: &str, body: &[u8]) -> http::Response<Vec<u8>> {
    let mut request = office.file(name).by(Method::PUT);
    request.body = body.to_vec();
    fetch(&office.fake, &request)
}

fn holds(fake: &Fake, text: &str) -> bool {
    String::from_utf8_lossy(&fake.dump()).contains(text)
}

#[test]
fn what_a_phone_puts_there_it_gets_back_and_nobody_reads_it_in_the_store() {
    let office = Office::new();
    refused(&fetch(&office.fake, &office.file(LOCAL)));
    assert_eq!(
        put(&office, LOCAL, BODY.as_bytes()).status(),
        StatusCode::CREATED
    );
    assert_eq!(text(&fetch(&office.fake, &office.file(LOCAL))), BODY);
    let upper = "805EC0000001-local.cfg";
    assert_eq!(text(&fetch(&office.fake, &office.file(upper))), BODY);
    let head = fetch(&office.fake, &office.file(LOCAL).by(Method::HEAD));
    assert_eq!(header(&head, "content-length"), BODY.len().to_string());
    assert!(!holds(&office.fake, "changed-by-hand"));
}

#[test]
fn logs_are_taken_and_thrown_away() {
    let office = Office::new();
    office.fake.r2.take_count();
    assert_eq!(
        put(&office, "805ec0000001-sys.log", b"x").status(),
        StatusCode::CREATED
    );
    assert_eq!(office.fake.r2.take_count().writes(), 0);
    refused(&fetch(&office.fake, &office.file("805ec0000001-sys.log")));
}

#[test]
fn no_generated_file_and_no_other_name_can_be_put_there() {
    let office = Office::new();
    let before = text(&fetch(&office.fake, &office.file("ACC.cfg")));
    for name in [
        "ACC.cfg",
        "boot.cfg",
        "805ec0000001.cfg",
        "y000000000108.cfg",
    ] {
        let answer = put(&office, name, b"x");
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{name}");
    }
    for name in [
        "805ec0000002-local.cfg",
        "x.cfg",
        "",
        "..",
        "805ec0000001-local.cfg%2f..",
        "a/805ec0000001-local.cfg",
    ] {
        refused(&put(&office, name, b"x"));
    }
    let long = vec![b'x'; dialtone::upload::MAX_UPLOAD_BYTES + 1];
    assert_eq!(
        put(&office, LOCAL, &long).status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    refused(&fetch(&office.fake, &office.file(LOCAL)));
    assert_eq!(text(&fetch(&office.fake, &office.file("ACC.cfg"))), before);
}

#[test]
fn a_forged_token_puts_nothing_and_costs_nothing() {
    let office = Office::new();
    let forged = crate::ask::get(&format!("/p/{}/{LOCAL}", "A".repeat(43))).by(Method::PUT);
    let (answer, kv, r2) = cost(&office.fake, &forged);
    refused(&answer);
    assert_eq!(kv.all() + r2.all(), 0);
}

#[test]
fn what_a_phone_put_there_goes_with_its_device() {
    let office = Office::new();
    put(&office, LOCAL, BODY.as_bytes());
    delete(&office.fake, &format!("devices/{MAC}"));
    assert!(office.fake.r2.keys("upload/").is_empty());
}
