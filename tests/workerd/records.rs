//! Records in the admin API: changed, listed, deleted, and kept while something refers to them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::office::{Office, fresh_mac};

#[test]
fn a_patch_changes_what_it_names_and_null_takes_it_away() {
    let office = Office::open("records-patch");
    let made = office.yealink(&json!({"site": "berlin", "settings": {"language": "de"}}));
    let path = format!("devices/{}", made.mac);
    let before = office.admin.get(&path);
    let changes = json!({"site": null, "settings": {"timezone": "Europe/Berlin"}, "region": "eu"});
    let after = office.admin.patch(&path, &changes);
    assert_eq!(after["site"], json!(null));
    assert_eq!(
        after["settings"],
        json!({"language": "de", "timezone": "Europe/Berlin"})
    );
    for same in [
        "tenant", "vendor", "model", "serial", "lines", "enabled", "mac",
    ] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_eq!(
        after["revision"],
        json!(before["revision"].as_u64().unwrap() + 1)
    );
    assert_eq!(office.admin.get(&path), after);

    // What is shown can be sent back, and changes nothing.
    assert_eq!(office.admin.put(&path, &after), after);
    // A PUT is the whole record.
    let whole = json!({"tenant": "records-patch", "vendor": "yealink", "model": "T46U"});
    let after = office.admin.put(&path, &whole);
    assert_eq!(
        (&after["region"], &after["lines"]),
        (&json!(null), &json!([]))
    );
}

#[test]
fn a_secret_is_kept_when_it_is_left_out_and_never_shown() {
    let office = Office::open("records-secret");
    let made = office.yealink(&json!({}));
    let account = office.account("1001");
    let acc = || made.fetch("ACC.cfg").text();
    let line = format!("account.1.password = {}\n", office.password("1001"));
    let shown = office
        .admin
        .patch(&account, &json!({"display_name": "A", "password": null}));
    assert!(acc().contains(&line), "{}", acc());
    assert_eq!(office.admin.put(&account, &shown), shown);
    assert!(acc().contains(&line), "{}", acc());
    let list = office
        .admin
        .get("accounts?tenant=records-secret")
        .to_string();
    let pbx = office.admin.get(&office.pbx()).to_string();
    for text in [shown.to_string(), list, pbx] {
        assert!(!text.contains("password"), "{text}");
    }

    // One that nobody gave was made, and differs each time.
    let made: BTreeSet<String> = (0..2)
        .map(|n| {
            let id = format!("records-secret-made{n}");
            let body =
                json!({"tenant": "records-secret", "pbx": "records-secret-pbx", "username": id});
            office.admin.put(&format!("accounts/{id}"), &body);
            let phone = office.yealink(&json!({"lines": [{"line": 1, "account": id}]}));
            let acc = phone.fetch("ACC.cfg").text();
            acc.lines()
                .find_map(|line| line.strip_prefix("account.1.password = "))
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(
        made.len() == 2 && made.iter().all(|password| password.len() >= 20),
        "{made:?}"
    );
}

#[test]
fn what_is_in_use_is_not_deleted() {
    let office = Office::open("records-used");
    let made = office.yealink(&json!({}));
    let device = format!("devices/{}", made.mac);
    let account = office.account("1001");
    for (path, by) in [
        ("tenants/records-used", "records-used"),
        (&office.pbx(), "100"),
        (&account, made.mac.as_str()),
    ] {
        let before = office.admin.get(path);
        let answer = office.admin.call("DELETE", path, None);
        let problem: Value = answer.json().unwrap();
        assert_eq!(answer.status, 409, "{path}: {problem}");
        assert_eq!(problem["type"], "urn:dialtone:problem:in_use", "{path}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains(by),
            "{path}: {detail:?} does not say by what"
        );
        assert_eq!(office.admin.get(path), before);
    }

    // From the device down everything can go.
    let paths = [
        device,
        account,
        office.account("1002"),
        office.pbx(),
        "tenants/records-used".to_owned(),
    ];
    for path in paths {
        office.admin.delete(&path);
        assert_eq!(office.admin.call("GET", &path, None).status, 404, "{path}");
        assert_eq!(
            office.admin.call("DELETE", &path, None).status,
            404,
            "{path}"
        );
        let change = office.admin.call("PATCH", &path, Some(&json!({})));
        assert_eq!(change.status, 404, "{path}: {}", change.text());
    }
}

#[test]
fn a_list_comes_in_pages_that_hold_each_record_once() {
    let office = Office::open("records-list");
    let other = Office::open("records-list-other");
    other.yealink(&json!({}));
    let mut expected = BTreeSet::new();
    for _ in 0..7 {
        expected.insert(office.yealink(&json!({})).mac);
    }
    let gone = office.yealink(&json!({}));
    office.admin.delete(&format!("devices/{}", gone.mac));

    for limit in [1, 3, 7, 8, 200] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        for _ in 0..20 {
            let page = office.admin.get(&format!(
                "devices?tenant=records-list&limit={limit}{cursor}"
            ));
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit, "{page}");
            for item in items {
                assert_eq!(item["tenant"], "records-list");
                let alone = office
                    .admin
                    .get(&format!("devices/{}", item["mac"].as_str().unwrap()));
                assert_eq!(item, &alone);
                seen.push(item["mac"].as_str().unwrap().to_owned());
            }
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), expected.len(), "limit {limit}: {seen:?}");
        assert_eq!(BTreeSet::from_iter(seen), expected, "limit {limit}");
    }

    // Without a filter it is everybody's, and a tenant that is not there has nothing.
    let all = office.admin.get("tenants?limit=200");
    let ids: BTreeSet<&str> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect();
    assert!(
        ids.is_superset(&["records-list", "records-list-other"].into()),
        "{ids:?}"
    );
    let none = office
        .admin
        .get(&format!("accounts?tenant=records-{}", fresh_mac()));
    assert_eq!(none, json!({"items": []}));
}

#[test]
fn a_record_has_a_tag_and_a_head() {
    let office = Office::open("records-tag");
    for path in [
        "tenants/records-tag".to_owned(),
        office.pbx(),
        office.account("1001"),
    ] {
        let get = office.admin.call("GET", &path, None);
        let tag = get.header("etag").unwrap();
        let head = office.admin.call("HEAD", &path, None);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        let length = get.body.len().to_string();
        assert_eq!(
            head.header("content-length"),
            Some(length.as_str()),
            "{path}"
        );
        let known = office
            .admin
            .request("GET", &path)
            .header("If-None-Match", tag)
            .send()
            .unwrap();
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
        // A delete on a condition that does not hold does nothing.
        let delete = office
            .admin
            .request("DELETE", &path)
            .header("If-Match", "\"0\"")
            .send()
            .unwrap();
        assert_eq!(delete.status, 412, "{path}: {}", delete.text());
        assert_eq!(
            office.admin.call("GET", &path, None).header("etag"),
            Some(tag)
        );
    }
}
