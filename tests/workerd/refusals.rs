//! Whoever is refused learns nothing: not whether a MAC is known, not why.

use dialtone_kit::http::{self, Response};
use serde_json::json;

use crate::office::{Made, Office, fresh_mac, fresh_source};

/// Everything that a caller can see of an answer.
fn visible(answer: &Response) -> (u16, Vec<(String, Vec<u8>)>, String) {
    let mut headers: Vec<(String, Vec<u8>)> = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    headers.sort();
    (answer.status, headers, answer.text())
}

/// Each question with a word for the message, by any method.
fn questions(office: &Office) -> Vec<(String, String)> {
    let known = office.yealink(&json!({}));
    let disabled = office.yealink(&json!({"enabled": false, "arm": "24h"}));
    let other = office.yealink(&json!({}));
    let soft = office.linphone(&json!({"arm": "24h"}));
    let over = office.yealink(&json!({}));
    office
        .admin
        .post(&format!("devices/{}/revoke", over.mac), &json!({}));
    let gone = office.yealink(&json!({"arm": "24h"}));
    office.admin.delete(&format!("devices/{}", gone.mac));

    let rps = |rest: String| format!("{}/rps{rest}", office.url);
    let look_up = |made: &Made, serial: &str| rps(format!("?mac={}&serial={serial}", made.mac));
    let key = |made: &Made| {
        made.answer["first_access"]["key"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let token = |made: &Made| made.base().rsplit('/').nth(1).unwrap().to_owned();
    let forged = forge(&token(&known));
    let p = |token: &str, name: &str| format!("{}/p/{token}/{name}", office.url);
    let mac = &known.mac;
    let nobody = fresh_mac();
    [
        ("unknown MAC", rps(format!("?mac={nobody}"))),
        (
            "unknown MAC with a serial",
            rps(format!("?mac={nobody}&serial={}", known.serial)),
        ),
        ("unknown MAC by file", rps(format!("/{nobody}.boot"))),
        ("unknown MAC by old file", rps(format!("/{nobody}.cfg"))),
        (
            "unknown MAC with another's key",
            rps(format!("/{}/{nobody}.boot", key(&known))),
        ),
        ("no MAC", rps(String::new())),
        ("no MAC with a slash", rps("/".to_owned())),
        ("half a MAC", rps("?mac=805ec0".to_owned())),
        ("no proof", rps(format!("?mac={mac}"))),
        ("no proof, empty serial", look_up(&known, "")),
        ("no proof by file", rps(format!("/{mac}.boot"))),
        (
            "no proof, and a redirect",
            rps(format!("?mac={mac}&redirect=302")),
        ),
        ("wrong serial", look_up(&known, "SN99999999")),
        ("another's serial", look_up(&known, &other.serial)),
        (
            "wrong serial in the path",
            rps(format!("/sn/SN99999999/{mac}.boot")),
        ),
        ("wrong serial, armed", look_up(&soft, "SN99999999")),
        (
            "wrong key",
            rps(format!("/{}/{mac}.boot", forge(&key(&known)))),
        ),
        ("another's key", rps(format!("/{}/{mac}.boot", key(&other)))),
        (
            "a token as a key",
            rps(format!("/{}/{mac}.boot", token(&known))),
        ),
        (
            "a revoked key",
            rps(format!("/{}/{}.boot", key(&over), over.mac)),
        ),
        (
            "disabled, with its serial",
            look_up(&disabled, &disabled.serial),
        ),
        ("disabled, by file", rps(format!("/{}.boot", disabled.mac))),
        (
            "disabled, with its key",
            rps(format!("/{}/{}.boot", key(&disabled), disabled.mac)),
        ),
        ("deleted", look_up(&gone, &gone.serial)),
        ("deleted, by file", rps(format!("/{}.boot", gone.mac))),
        (
            "a file of another vendor",
            rps(format!("/{}/{mac}.xml", key(&known))),
        ),
        ("a path too long", rps(format!("/a/b/c/{mac}.boot"))),
        ("forged token", p(&forged, "boot.cfg")),
        ("no token", format!("{}/p/", office.url)),
        ("a key as a token", p(&key(&known), "boot.cfg")),
        ("revoked token", p(&token(&over), "boot.cfg")),
        ("disabled device's token", p(&token(&disabled), "ACC.cfg")),
        ("deleted device's token", p(&token(&gone), "ACC.cfg")),
        ("a file that nobody has", p(&token(&known), "secret.cfg")),
        (
            "another's file",
            p(&token(&known), &format!("{}.cfg", other.mac)),
        ),
        ("no route", format!("{}/favicon.ico", office.url)),
        ("the root", format!("{}/", office.url)),
    ]
    .map(|(what, url)| (what.to_owned(), url))
    .into()
}

/// The same with one letter changed, not the last one, of which some bits may not count.
fn forge(capability: &str) -> String {
    let (head, tail) = capability.split_at(capability.len() - 8);
    let letter = if tail.starts_with('A') { 'B' } else { 'A' };
    format!("{head}{letter}{}", &tail[1..])
}

#[test]
fn every_refusal_is_the_same_to_the_byte_and_to_the_header() {
    let office = Office::open("refusals");
    let questions = questions(&office);
    for method in ["GET", "HEAD"] {
        let ask = |url: &str| http::request(method, url).source(fresh_source()).send();
        let mut first = None;
        for (what, url) in &questions {
            let seen = visible(&ask(url).unwrap());
            assert_eq!(seen.0, 404, "{method}, {what}, {url}: {seen:?}");
            let expected = first.get_or_insert_with(|| seen.clone());
            assert_eq!(&seen, expected, "{method}, {what}, {url}");
        }
        let (_, headers, text) = first.unwrap();
        assert_eq!(text, if method == "GET" { "not found\n" } else { "" });
        let length = ("content-length".to_owned(), b"10".to_vec());
        assert!(headers.contains(&length), "{method}: {headers:?}");
    }
}

#[test]
fn a_refused_question_does_not_use_up_a_window() {
    let office = Office::open("refusals-window");
    let made = office.yealink(&json!({"arm": "24h"}));
    for rest in [
        format!("?mac={}&serial=SN99999999", made.mac),
        format!("/sn/SN99999999/{}.boot", made.mac),
        format!(
            "/{}/{}.boot",
            forge(made.first_access().rsplit('/').nth(1).unwrap()),
            made.mac
        ),
        format!("/{}.xml", made.mac),
    ] {
        let answer = office.rps(&rest).send().unwrap();
        assert_eq!(answer.status, 404, "{rest}: {}", answer.text());
    }
    office.unbox(&made).switch_on().unwrap();
}

#[test]
fn a_phone_that_asks_for_anothers_file_gets_nothing() {
    let office = Office::open("refusals-agent");
    let made = office.yealink(&json!({"arm": "24h"}));
    let agent = format!("Yealink SIP-T46U 108.86.0.20 {}", fresh_mac());
    let answer = office
        .rps(&format!("/{}.boot", made.mac))
        .user_agent(&agent)
        .send()
        .unwrap();
    assert_eq!(answer.status, 404, "{}", answer.text());
}

#[test]
fn only_get_and_head_are_for_phones() {
    let office = Office::open("refusals-methods");
    let made = office.yealink(&json!({}));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for url in [
            format!("{}/rps?mac={}", office.url, made.mac),
            format!("{}ACC.cfg", made.base()),
        ] {
            let answer = http::request(method, &url)
                .source(fresh_source())
                .send()
                .unwrap();
            assert_eq!(answer.status, 405, "{method} {url}: {}", answer.text());
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {url}");
        }
    }
}

#[test]
fn a_scanner_is_told_to_wait_and_a_phone_behind_the_same_address_is_not() {
    let office = Office::open("refusals-scanner");
    let made = office.yealink(&json!({}));
    let source = fresh_source();
    let ask = |url: String| http::get(&url).source(source).send().unwrap();
    let mut waits = None;
    // The limit is 300 a minute; a minute may end in between.
    for _ in 0..700 {
        let answer = ask(format!("{}/rps?mac={}", office.url, made.mac));
        if answer.status != 404 {
            waits = Some(answer);
            break;
        }
    }
    let waits = waits.expect("700 refusals, and none told the caller to wait");
    assert_eq!(waits.status, 429, "{}", waits.text());
    assert!(waits.header("retry-after").is_some(), "{:?}", waits.headers);
    let answer = ask(format!(
        "{}/rps?mac={}&serial={}",
        office.url, made.mac, made.serial
    ));
    assert_eq!(answer.status, 200, "the phone itself: {}", answer.text());
}
