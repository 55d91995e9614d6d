//! What HTTP says of a phone's files, and that a change is in them one second later.

use std::thread;
use std::time::Duration;

use dialtone_kit::http;
use serde_json::json;

use crate::office::{Made, Office};

/// Every name of a Yealink T46U under its token.
fn names(made: &Made) -> [String; 10] {
    let mac = &made.mac;
    [
        "boot.cfg".to_owned(),
        "first.cfg".to_owned(),
        "ACC.cfg".to_owned(),
        "BTN.cfg".to_owned(),
        "all.cfg".to_owned(),
        "common.cfg".to_owned(),
        format!("{mac}.boot"),
        format!("{mac}.cfg"),
        "y000000000108.cfg".to_owned(),
        "y000000000000.boot".to_owned(),
    ]
}

#[test]
fn each_file_has_a_tag_a_length_and_the_same_bytes_each_time() {
    let office = Office::open("files-http");
    let made = office.yealink(&json!({}));
    for name in names(&made) {
        let url = format!("{}{name}", made.base());
        let get = http::get(&url).send().unwrap();
        assert_eq!(get.status, 200, "{name}: {}", get.text());
        let length = get.body.len().to_string();
        assert_eq!(
            get.header("content-length"),
            Some(length.as_str()),
            "{name}"
        );
        assert_eq!(
            get.header("cache-control"),
            Some("private, no-store, no-transform"),
            "{name}"
        );
        assert_eq!(
            get.header("content-type"),
            Some("text/plain; charset=utf-8"),
            "{name}"
        );
        let tag = get
            .header("etag")
            .unwrap_or_else(|| panic!("{name}: {:?}", get.headers));
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{name}: {tag}");

        let again = http::get(&url).send().unwrap();
        assert_eq!(
            (&again.body, again.header("etag")),
            (&get.body, Some(tag)),
            "{name}"
        );

        let head = http::head(&url).send().unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0), "HEAD {name}");
        for header in ["content-length", "cache-control", "content-type", "etag"] {
            assert_eq!(
                head.header(header),
                get.header(header),
                "HEAD {name}: {header}"
            );
        }

        let known = http::get(&url).header("If-None-Match", tag).send().unwrap();
        assert_eq!((known.status, known.body.len()), (304, 0), "{name}");
    }
}

#[test]
fn a_phone_that_has_the_file_is_told_so_however_it_says_it() {
    let office = Office::open("files-known");
    let made = office.yealink(&json!({}));
    let acc = made.fetch("ACC.cfg");
    let tag = acc.header("etag").unwrap();
    let ask = |method: &str, known: &str| {
        let url = format!("{}ACC.cfg", made.base());
        let request = http::request(method, &url).header("If-None-Match", known);
        request.send().unwrap()
    };
    for known in [
        tag,
        &format!("W/{tag}"),
        &format!("\"x\", {tag}"),
        &format!("{tag}, W/\"x\""),
        "*",
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(method, known);
            let seen = (answer.status, answer.body.len(), answer.header("etag"));
            assert_eq!(seen, (304, 0, Some(tag)), "{method}, {known}");
        }
    }
    for other in ["\"x\"", "W/\"x\"", "x", tag.trim_matches('"')] {
        let answer = ask("GET", other);
        assert_eq!((answer.status, &answer.body), (200, &acc.body), "{other}");
        assert_eq!(ask("HEAD", other).status, 200, "{other}");
    }
}

#[test]
fn a_preview_masks_what_the_phone_gets_and_changes_nothing() {
    let office = Office::open("files-preview");
    let made = office.yealink(&json!({}));
    let path = format!("devices/{}/files", made.mac);
    let list = office.admin.get(&path);
    for name in ["boot.cfg", "ACC.cfg", "BTN.cfg"] {
        let whole = office
            .admin
            .call("GET", &format!("{path}/{name}?secrets=1"), None)
            .text();
        assert_eq!(whole, made.fetch(name).text(), "{name}");
        let masked = office
            .admin
            .call("GET", &format!("{path}/{name}"), None)
            .text();
        for secret in [office.password("1001"), made.base().to_owned()] {
            assert!(!masked.contains(&secret), "{name} shows {secret}: {masked}");
        }
        assert_eq!(masked.lines().count(), whole.lines().count(), "{name}");
        let items = list["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["name"] == name).unwrap();
        assert_eq!(item["length"], whole.len(), "{name}");
    }
    assert_eq!(office.admin.get(&path), list);
    office.wait_for(&made, "configured");
}

#[test]
fn a_saved_change_is_in_the_next_fetch() {
    let office = Office::open("files-fresh");
    let made = office.yealink(&json!({}));
    let acc = |wanted: &str| {
        // The contract gives it a second.
        thread::sleep(Duration::from_secs(1));
        let acc = made.fetch("ACC.cfg");
        assert!(
            acc.text().contains(wanted),
            "no {wanted:?} in {}",
            acc.text()
        );
        acc.header("etag").unwrap().to_owned()
    };
    let first = acc("account.1.display_name = Number 1001\n");

    let account = office.account("1001");
    office
        .admin
        .patch(&account, &json!({"display_name": "Zoë, reception"}));
    let second = acc("account.1.display_name = Zoë, reception\n");
    assert_ne!(first, second, "other bytes under the same tag");

    office
        .admin
        .patch(&account, &json!({"password": "another password"}));
    let third = acc("account.1.password = another password\n");
    assert_ne!(second, third);

    let device = format!("devices/{}", made.mac);
    let line = json!({"line": 3, "account": "files-fresh-1002", "label": "Third"});
    office.admin.patch(&device, &json!({"lines": [line]}));
    acc("account.3.label = Third\n");
    assert!(
        !made.fetch("ACC.cfg").text().contains("1001"),
        "the line that went is still there"
    );

    // A record that many phones share may take a minute elsewhere, and here says until when.
    let shared = office
        .admin
        .patch(&office.pbx(), &json!({"sip": {"host": "new.example.com"}}));
    assert!(shared["visible_by"].is_string(), "{shared}");
    acc("account.3.sip_server.1.address = new.example.com\n");

    // As it was: the same bytes, so the phone need not take them.
    office
        .admin
        .patch(&office.pbx(), &json!({"sip": {"host": "sip.example.com"}}));
    office.admin.patch(
        &account,
        &json!({"display_name": "Number 1001", "password": office.password("1001")}),
    );
    office.admin.patch(
        &device,
        &json!({"lines": [{"line": 1, "account": "files-fresh-1001"}]}),
    );
    assert_eq!(
        acc("Number 1001"),
        first,
        "the same bytes under another tag"
    );
}

#[test]
fn a_saved_setting_of_each_level_is_in_the_next_fetch_until_a_lock_says_otherwise() {
    let office = Office::open("files-levels");
    let tenant = "tenants/files-levels".to_owned();
    let profile = "profiles/files-levels-office".to_owned();
    let body = json!({"tenant": "files-levels"});
    office.admin.put(&profile, &body);
    let more = json!({"site": "berlin", "profile": "files-levels-office"});
    let made = office.yealink(&more);
    let device = format!("devices/{}", made.mac);
    let gets = |server: &str| {
        // A device's has a second. KV is not late here, so neither are the others (`visible_by`).
        thread::sleep(Duration::from_secs(1));
        let first = made.fetch("first.cfg").text();
        let line = format!("local_time.ntp_server1 = {server}\n");
        assert!(first.contains(&line), "no {line:?} in {first}");
    };
    gets("pool.ntp.org");
    let given = |server: &str| json!({"settings": {"ntp_server": server}});
    let levels = [
        (&tenant, &tenant, given("tenant.example")),
        (&profile, &profile, given("profile.example")),
        (
            &tenant,
            &format!("{tenant}/models/T46U"),
            json!({"models": {"T46U": given("model.example")}}),
        ),
        (
            &tenant,
            &format!("{tenant}/sites/berlin"),
            json!({"sites": {"berlin": given("site.example")}}),
        ),
        (&device, &device, given("device.example")),
    ];
    for (path, from, change) in &levels {
        office.admin.patch(path, change);
        let shown = office.admin.get(&format!("{device}/settings"));
        let origin = &shown["settings"]["ntp_server"];
        assert_eq!(&origin["from"], *from, "{shown}");
        gets(origin["value"].as_str().unwrap());
    }
    // The lowest level has the last word.
    let lock = json!({"locked": ["ntp_server"]});
    office.admin.patch(&tenant, &lock);
    gets("tenant.example");
    let shown = office.admin.get(&format!("{device}/settings"));
    let origin = &shown["settings"]["ntp_server"];
    assert_eq!(origin["locked_by"], tenant.as_str(), "{shown}");
    let ignored = origin["ignored"].as_array().unwrap();
    assert_eq!(ignored.len(), 4, "{shown}");
}
