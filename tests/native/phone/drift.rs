//! A phone that comes from a new country or network operator.

use dialtone::request::Request;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{MAC, Office, PASSWORD, SERIAL, question, refused, unavailable};
use crate::ask::{act, call, fetch, json_of, patch, text};

/// The same request from a country and an autonomous system.
fn at(mut request: Request, country: &str, asn: u32) -> Request {
    request.source.country = Some(country.to_owned());
    request.source.asn = Some(asn);
    request
}

fn status(office: &Office) -> Value {
    let path = format!("devices/{MAC}/status");
    json_of(&call(&office.fake, Method::GET, &path, &Value::Null))
}

fn try_release(office: &Office, place: &Value) -> Response<Vec<u8>> {
    let path = format!("devices/{MAC}/release");
    call(&office.fake, Method::POST, &path, place)
}

fn release(office: &Office, place: &Value) {
    text(&try_release(office, place));
}

fn office(drift: &str) -> Office {
    let office = Office::of(&json!({ "drift": drift }), &json!({}));
    text(&fetch(
        &office.fake,
        &at(office.file("ACC.cfg"), "DE", 3320),
    ));
    office
}

#[test]
fn a_move_is_noted_once_and_the_phone_is_served() {
    let office = office("note");
    let fake = &office.fake;
    for _ in 0..3 {
        text(&fetch(fake, &at(office.file("ACC.cfg"), "FR", 3215)));
        text(&fetch(fake, &at(office.file("ACC.cfg"), "DE", 3320)));
    }
    let moves = fake.audited("phone.moved");
    assert_eq!(moves.len(), 1);
    assert_eq!(
        moves[0]["detail"],
        json!({ "country": "FR", "asn": "3215" })
    );
    let places = json!([{ "country": "DE", "asn": 3320 }, { "country": "FR", "asn": 3215 }]);
    assert_eq!(status(&office)["places"], places);
    // Where the platform does not say, nothing is concluded.
    text(&fetch(fake, &office.file("ACC.cfg")));
    assert_eq!(status(&office)["places"], places);
}

#[test]
fn a_phone_in_quarantine_gets_nothing_from_there_until_it_is_released() {
    let office = office("quarantine");
    let fake = &office.fake;
    let abroad = |request| at(request, "FR", 3215);
    for name in ["ACC.cfg", "BTN.cfg", "boot.cfg"] {
        let answer = fetch(fake, &abroad(office.file(name)));
        unavailable(&answer);
        assert!(!String::from_utf8_lossy(answer.body()).contains(PASSWORD));
    }
    // Nor a new way, whatever it proves.
    refused(&fetch(fake, &abroad(question(MAC, SERIAL))));
    let alarms = fake.audited("phone.quarantined");
    assert!(
        !alarms.is_empty() && alarms[0]["alarm"] == true,
        "{alarms:?}"
    );
    assert_eq!(alarms[0]["detail"]["country"], "FR");
    let quarantine = status(&office)["quarantine"].clone();
    assert_eq!(
        (&quarantine["country"], &quarantine["asn"]),
        (&json!("FR"), &json!(3215))
    );
    // At home it is served as ever.
    text(&fetch(fake, &at(office.file("ACC.cfg"), "DE", 3320)));
    assert_eq!(
        fetch(fake, &at(question(MAC, SERIAL), "DE", 3320)).status(),
        StatusCode::OK
    );

    release(&office, &json!({ "country": "FR", "asn": 3215 }));
    text(&fetch(fake, &abroad(office.file("ACC.cfg"))));
    assert_eq!(
        fetch(fake, &abroad(question(MAC, SERIAL))).status(),
        StatusCode::OK
    );
    assert_eq!(status(&office)["quarantine"], Value::Null);
    assert_eq!(fake.audited("device.released").len(), 1);
    // The country alone is not enough.
    unavailable(&fetch(fake, &at(office.file("ACC.cfg"), "FR", 1)));
}

#[test]
fn a_phone_that_only_asks_for_its_way_is_put_in_quarantine_and_released_as_well() {
    let office = office("quarantine");
    let fake = &office.fake;
    let ask = || at(question(MAC, SERIAL), "FR", 3215);
    refused(&fetch(fake, &ask()));
    assert_eq!(status(&office)["quarantine"]["asn"], 3215);
    release(&office, &json!({ "country": "FR", "asn": 3215 }));
    assert_eq!(fetch(fake, &ask()).status(), StatusCode::OK);
}

#[test]
fn a_phone_is_released_where_the_admin_looked_and_nowhere_else() {
    let office = office("quarantine");
    let fake = &office.fake;
    unavailable(&fetch(fake, &at(office.file("ACC.cfg"), "FR", 3215)));
    let honest = json!({ "country": "FR", "asn": 3215 });
    // A thief comes between the look and the release.
    unavailable(&fetch(fake, &at(office.file("ACC.cfg"), "NL", 1136)));
    let before = office.stored();
    for (place, status) in [
        (honest.clone(), 412),
        (json!({ "country": "NL" }), 412),
        (json!({ "asn": 1136 }), 412),
        (json!({}), 422),
        (Value::Null, 422),
        (json!({ "country": "NL", "asn": 1136, "town": "x" }), 422),
    ] {
        let answer = try_release(&office, &place);
        assert_eq!(answer.status().as_u16(), status, "{place}");
        if place == json!({}) {
            let problem: Value = serde_json::from_slice(answer.body()).unwrap();
            let fields = problem["errors"].as_array().unwrap().iter();
            let fields: Vec<&Value> = fields.map(|error| &error["pointer"]).collect();
            assert_eq!(fields, ["/country", "/asn"]);
        }
    }
    assert_eq!(office.stored(), before);
    unavailable(&fetch(fake, &at(office.file("ACC.cfg"), "NL", 1136)));
    unavailable(&fetch(fake, &at(office.file("ACC.cfg"), "FR", 3215)));
    release(&office, &honest);
    text(&fetch(fake, &at(office.file("ACC.cfg"), "FR", 3215)));
    // There is nothing to be released any more.
    assert_eq!(try_release(&office, &honest).status(), StatusCode::CONFLICT);
    assert!(fake.r2.keys("unfinished/").is_empty());
}

#[test]
fn a_repeat_in_quarantine_writes_nothing() {
    let office = office("quarantine");
    let fake = &office.fake;
    unavailable(&fetch(fake, &at(office.file("ACC.cfg"), "FR", 3215)));
    fake.r2.take_count();
    fake.clock.pass_s(61);
    unavailable(&fetch(fake, &at(office.file("ACC.cfg"), "FR", 3215)));
    assert_eq!(fake.r2.take_count().writes(), 0);
}

#[test]
fn where_moves_are_allowed_nothing_is_kept_of_them() {
    let office = office("allow");
    let fake = &office.fake;
    text(&fetch(fake, &at(office.file("ACC.cfg"), "FR", 3215)));
    assert_eq!(status(&office)["places"], json!([]));
    assert!(fake.audited("phone.moved").is_empty());
}

#[test]
fn a_phone_that_was_revoked_may_come_from_anywhere_again() {
    let office = office("quarantine");
    let fake = &office.fake;
    unavailable(&fetch(fake, &at(office.file("ACC.cfg"), "FR", 3215)));
    act(fake, MAC, "revoke");
    let answer = fetch(fake, &at(question(MAC, SERIAL), "FR", 3215));
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(status(&office)["places"], json!([]));
    // The tenant may think otherwise at any time.
    patch(fake, "tenants/acme", &json!({ "drift": "allow" }));
}
