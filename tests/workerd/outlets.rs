//! Over which connections what is handed out: plain http only where nobody can listen, or where a
//! tenant says that its phones can do no better.

use std::sync::LazyLock;

use dialtone_kit::http::{self, Request};
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::json;

use crate::office::{Office, fresh_source, worker};

/// A host name as phones see it from the internet.
const PUBLIC: &str = "prov.example.com";

fn get(url: &str) -> Request {
    http::get(url).source(fresh_source()).header("Host", PUBLIC)
}

#[test]
fn over_plain_http_outside_of_this_machine_nothing_is_handed_out() {
    let office = Office::open("outlets-plain");
    let made = office.yealink(&json!({"arm": "24h"}));
    for url in [
        format!("{}/rps?mac={}&serial={}", office.url, made.mac, made.serial),
        format!("{}/rps?mac={}", office.url, made.mac),
        format!("{}/rps/{}.boot", office.url, made.mac),
        format!("{}{}.boot", made.first_access(), made.mac),
        format!("{}boot.cfg", made.base()),
        format!("{}ACC.cfg", made.base()),
        format!("{}redirect.cfg", made.base()),
    ] {
        let answer = get(&url).send().unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (404, "not found\n"),
            "{url}"
        );
    }
    let api = format!("{}/api/v1/tenants/outlets-plain", office.url);
    let answer = get(&api).bearer(worker().admin_token()).send().unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(
        answer.text().contains("urn:dialtone:problem:insecure"),
        "{}",
        answer.text()
    );

    // The window is still open: what was refused was no claim.
    office.unbox(&made).switch_on().unwrap();
}

#[test]
fn a_tenant_may_allow_plain_http_and_still_is_told_https_urls() {
    let office = Office::open_at(
        worker(),
        "outlets-allow",
        &json!({"allow_plain_http": true}),
    );
    let made = office.yealink(&json!({}));
    let rps = format!("{}/rps?mac={}&serial={}", office.url, made.mac, made.serial);
    let answer = get(&rps).send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let found: serde_json::Value = answer.json().unwrap();
    let url = found["url"].as_str().unwrap();
    assert!(url.starts_with(&format!("https://{PUBLIC}/p/")), "{url}");
    let acc = get(&format!("{}ACC.cfg", made.base())).send().unwrap();
    assert_eq!(acc.status, 200, "{}", acc.text());
    let boot = get(&format!("{}boot.cfg", made.base()))
        .send()
        .unwrap()
        .text();
    assert!(boot.contains(&format!("\"{url}ACC.cfg\"")), "{boot}");
}

/// A Worker behind an edge that speaks https, with a name of its own.
fn behind_an_edge() -> &'static Workerd {
    static WORKER: LazyLock<Workerd> = LazyLock::new(|| {
        let options = Options::new()
            .https()
            .var("PUBLIC_URL", "https://prov.example.com/");
        Workerd::start(&options).unwrap_or_else(|error| panic!("{error:?}"))
    });
    &WORKER
}

#[test]
fn over_https_a_phone_goes_all_the_way_under_the_public_name() {
    let worker = behind_an_edge();
    let office = Office::open_at(worker, "outlets-https", &json!({}));
    let made = office.yealink(&json!({}));
    assert!(
        made.base().starts_with("https://prov.example.com/p/"),
        "{}",
        made.base()
    );
    // What the name would resolve to.
    let local = |url: &str| url.replacen("https://prov.example.com", &worker.url(), 1);
    let ask = |url: &str| {
        http::get(&local(url))
            .source(fresh_source())
            .header("Host", "edge.example.net")
    };

    let rps = format!(
        "https://prov.example.com/rps?mac={}&serial={}",
        made.mac, made.serial
    );
    let answer = ask(&format!("{rps}&redirect=302")).send().unwrap();
    let location = format!("{}{}.boot", made.base(), made.mac);
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some(location.as_str()))
    );
    let found: serde_json::Value = ask(&rps).send().unwrap().json().unwrap();
    assert_eq!(found["url"], made.base());

    let boot = ask(&location).send().unwrap();
    assert_eq!(boot.status, 200, "{}", boot.text());
    let file = crate::readers::yealink(&boot.text()).unwrap();
    assert_eq!(file.includes.len(), 3, "{file:?}");
    for url in &file.includes {
        let part = ask(url).send().unwrap();
        assert_eq!(part.status, 200, "{url}: {}", part.text());
        assert!(!part.text().contains("http://"), "{url}: {}", part.text());
    }
}

#[test]
fn behind_the_edge_an_admin_may_name_public_https_addresses_only() {
    let worker = behind_an_edge();
    let office = Office {
        id: "outlets-admin".to_owned(),
        url: worker.url(),
        admin: crate::admin::Admin::of(worker),
    };
    office.admin.put("tenants/outlets-admin", &json!({}));
    let put = |url: &str| {
        let request = office
            .admin
            .request("PUT", &office.pbx())
            .header("Host", PUBLIC);
        request.json(&office.pbx_at(url)).send().unwrap()
    };
    for url in [
        "http://pbx.example.com/ari",
        "https://127.0.0.1/ari",
        "https://192.0.2.7/ari",
        "https://[::1]/ari",
        "https://localhost/ari",
        "https://pbx/ari",
        "https://pbx.local/ari",
        "https://pbx.internal./ari",
    ] {
        let answer = put(url);
        assert_eq!(answer.status, 422, "{url}: {}", answer.text());
        assert!(
            answer.text().contains("\"/ari_url\""),
            "{url}: {}",
            answer.text()
        );
    }
    let answer = put("https://pbx.example.com/ari");
    assert_eq!(answer.status, 201, "{}", answer.text());
}
