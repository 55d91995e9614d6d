//! Steps 3 to 6: what a token opens, for how long, and what it costs.

use dialtone::keys::{Capability, Signed};
use dialtone::ports::World;
use http::{Method, StatusCode};
use serde_json::json;

use super::{MAC, Office, PASSWORD, SERIAL, SOFT, question, refused};
use crate::ask::{
    Told, act, ask, cost, delete, fetch, follow, get, header, json_of, patch, put, text,
};
use crate::readers;
use crate::world::Count;

const FILES: [&str; 5] = [
    "boot.cfg",
    "first.cfg",
    "ACC.cfg",
    "BTN.cfg",
    "805ec0000001.cfg",
];

/// Where a device's files are now.
fn base_now(office: &Office) -> String {
    let shown = crate::ask::call(
        &office.fake,
        Method::GET,
        &format!("devices/{MAC}?secrets=1"),
        &json!(null),
    );
    json_of(&shown)["provisioning_url"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn the_boot_file_names_acc_and_btn_and_neutral_and_vendor_names_are_the_same_file() {
    let office = Office::new();
    let of = |name: &str| text(&fetch(&office.fake, &office.file(name)));
    let boot = readers::yealink(&of("boot.cfg")).unwrap();
    assert!(boot.includes.contains(&format!("{}ACC.cfg", office.base)));
    assert!(boot.includes.contains(&format!("{}BTN.cfg", office.base)));
    for name in [
        "BOOT.CFG",
        "805ec0000001.boot",
        "805EC0000001.boot",
        "y000000000000.boot",
    ] {
        assert_eq!(of(name), of("boot.cfg"), "{name}");
    }
    assert!(of("ACC.cfg").contains(PASSWORD));
    for name in ["boot.cfg", "first.cfg", "BTN.cfg"] {
        assert!(!of(name).contains(PASSWORD), "{name}");
    }
}

#[test]
fn a_name_that_is_not_the_phones_is_refused_like_everything_else() {
    let office = Office::new();
    for name in [
        "",
        "x",
        "805ec0000002.cfg",
        "0a5ec0000001.xml",
        "linphone.xml",
        "../ACC.cfg",
        "ACC.cfg/",
        "ACC",
    ] {
        refused(&fetch(&office.fake, &office.file(name)));
    }
    for path in ["/p", "/p/", "/p/x", "/", "/x", "/pp/x", "/rpsx"] {
        refused(&fetch(&office.fake, &get(path)));
    }
}

#[test]
fn the_same_records_are_the_same_bytes_and_an_etag_names_them() {
    let office = Office::new();
    for name in FILES {
        let first = fetch(&office.fake, &office.file(name));
        let again = fetch(&office.fake, &office.file(name));
        assert_eq!(
            (first.body(), first.headers()),
            (again.body(), again.headers()),
            "{name}"
        );
        assert_eq!(
            header(&first, "content-length"),
            first.body().len().to_string(),
            "{name}"
        );
        assert_eq!(
            header(&first, "cache-control"),
            "private, no-store, no-transform",
            "{name}"
        );

        let tag = header(&first, "etag");
        for known in [
            tag.to_owned(),
            format!("W/{tag}"),
            format!("\"x\", {tag}"),
            "*".to_owned(),
        ] {
            let not_again = fetch(
                &office.fake,
                &office.file(name).with("if-none-match", &known),
            );
            assert_eq!(
                not_again.status(),
                StatusCode::NOT_MODIFIED,
                "{name}: {known}"
            );
            assert_eq!(header(&not_again, "etag"), tag);
            assert_eq!(
                header(&not_again, "cache-control"),
                header(&first, "cache-control")
            );
            assert!(not_again.body().is_empty());
        }
        let other = fetch(
            &office.fake,
            &office.file(name).with("if-none-match", "\"x\""),
        );
        assert_eq!(other.body(), first.body(), "{name}");

        let head = fetch(&office.fake, &office.file(name).by(Method::HEAD));
        assert_eq!(
            (head.status(), head.headers()),
            (first.status(), first.headers()),
            "{name}"
        );
        assert!(head.body().is_empty());
    }
    let tags =
        FILES.map(|name| header(&fetch(&office.fake, &office.file(name)), "etag").to_owned());
    let different: std::collections::BTreeSet<&String> = tags.iter().collect();
    assert_eq!(different.len(), FILES.len());
}

#[test]
fn a_warm_request_costs_one_read_of_each_store_and_writes_nothing() {
    let office = Office::new();
    let one_read = Count {
        gets: 1,
        ..Count::default()
    };
    for name in FILES {
        text(&fetch(&office.fake, &office.file(name)));
    }
    for name in FILES {
        for request in [
            office.file(name),
            office.file(name).by(Method::HEAD),
            office.file(name).with("if-none-match", "*"),
        ] {
            let (answer, kv, r2) = cost(&office.fake, &request);
            assert!(
                answer.status() == StatusCode::OK || answer.status() == StatusCode::NOT_MODIFIED
            );
            assert_eq!((kv, r2), (one_read, one_read), "{name}");
            assert_eq!(ask(&office.fake, &request).afterwards, None, "{name}");
        }
    }
    // A name that is none of the phone's is known without a look into KV.
    let (answer, kv, r2) = cost(&office.fake, &office.file("contacts.xml"));
    refused(&answer);
    assert_eq!((kv, r2), (Count::default(), one_read));
}

#[test]
fn a_forged_token_costs_nothing() {
    let office = Office::new();
    let token = office.token().to_owned();
    assert!(token.len() * 6 >= 128, "at least 128 bits");
    let first_access = office
        .first_access
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    let mut forged: Vec<String> = vec![
        String::new(),
        "x".to_owned(),
        "A".repeat(43),
        first_access,
        format!("{token}A"),
    ];
    // One letter changed, wherever it is. The last letter's low bits are no part of the 32 bytes.
    for at in 0..token.len() {
        let mut other = token.clone();
        other.replace_range(
            at..=at,
            if token.as_bytes()[at] == b'A' {
                "E"
            } else {
                "A"
            },
        );
        forged.push(other);
    }
    for token in forged {
        let (answer, kv, r2) = cost(&office.fake, &get(&format!("/p/{token}/ACC.cfg")));
        refused(&answer);
        assert_eq!(kv.all() + r2.all(), 0, "{token}");
    }
}

#[test]
fn a_token_that_we_signed_for_nobody_is_refused_like_a_forged_one() {
    let office = Office::new();
    let mac = "805ec00000ff".parse().unwrap();
    let token = office
        .fake
        .keys()
        .sign(Capability::Token, Signed { mac, generation: 1 })
        .unwrap();
    refused(&fetch(&office.fake, &get(&format!("/p/{token}/ACC.cfg"))));
}

#[test]
fn what_a_phone_did_first_is_noted_once_and_a_repeat_writes_nothing() {
    let office = Office::new();
    let fake = &office.fake;
    let writes = |request| {
        fake.kv.take_count();
        fake.r2.take_count();
        fetch(fake, &request);
        (fake.kv.take_count().writes(), fake.r2.take_count().writes())
    };
    // The device's state, and the audit's entry.
    assert_eq!(writes(question(MAC, SERIAL)), (0, 2));
    assert_eq!(writes(question(MAC, SERIAL)), (0, 0));
    assert_eq!(writes(office.file("boot.cfg")), (0, 2));
    assert_eq!(writes(office.file("boot.cfg")), (0, 0));
    assert_eq!(writes(office.file("first.cfg")), (0, 0));
    fake.clock.pass_s(5);
    assert_eq!(writes(office.file("ACC.cfg")), (0, 2));
    assert_eq!(writes(office.file("ACC.cfg")), (0, 0));
    assert_eq!(writes(office.file("BTN.cfg")), (0, 0));
    let seen = office.stored().state.seen;
    let (booted, configured) = (seen.booted.unwrap(), seen.configured.unwrap());
    assert_eq!((booted.version, configured.version), (1, 1));
    assert_eq!(configured.at.since(booted.at), 5);

    // A new version is news again, once.
    patch(
        fake,
        "accounts/acme-1001",
        &json!({ "display_name": "News" }),
    );
    assert_eq!(writes(office.file("ACC.cfg")), (0, 2));
    assert_eq!(writes(office.file("ACC.cfg")), (0, 0));
    let state = office.stored().state;
    let version = state.files.unwrap().version;
    assert!(version > 1);
    assert_eq!(state.seen.configured.unwrap().version, version);
}

#[test]
fn to_look_at_the_head_of_a_file_is_not_to_fetch_it() {
    let office = Office::new();
    fetch(&office.fake, &office.file("ACC.cfg").by(Method::HEAD));
    let state = office.stored().state;
    assert_eq!((state.seen.configured, state.access.used), (None, false));
}

#[test]
fn what_is_noted_goes_through_although_the_device_was_saved_in_the_same_second() {
    let office = Office::new();
    office.fake.clock.pass_s(2);
    office.fake.r2.throttles.set(true);
    patch(
        &office.fake,
        &format!("devices/{MAC}"),
        &json!({ "site": "berlin" }),
    );
    text(&fetch(&office.fake, &office.file("ACC.cfg")));
    assert!(office.stored().state.seen.configured.is_some());
}

#[test]
fn a_rotated_token_serves_files_with_the_new_url_until_the_new_one_is_used() {
    let office = Office::new();
    let fake = &office.fake;
    text(&fetch(fake, &office.file("boot.cfg")));
    act(fake, MAC, "rotate");
    let base = base_now(&office);
    assert_ne!(base, office.base);
    let boot = text(&fetch(fake, &office.file("boot.cfg")));
    assert!(boot.contains(&base) && !boot.contains(&office.base));
    let acc = follow(&format!("{base}ACC.cfg"));
    // A look by whoever is not the phone changes nothing.
    fake.clock.pass_s(3_600);
    text(&fetch(fake, &office.file("ACC.cfg")));
    text(&fetch(fake, &acc));
    refused(&fetch(fake, &office.file("ACC.cfg")));
    text(&fetch(fake, &acc));
}

#[test]
fn a_rotated_token_that_is_never_followed_ends_after_seven_days() {
    let office = Office::new();
    let fake = &office.fake;
    // Not in the second of the creation, or KV makes the call wait.
    fake.clock.pass_s(2);
    act(fake, MAC, "rotate");
    fake.clock.pass_s(7 * 86_400 - 1);
    text(&fetch(fake, &office.file("ACC.cfg")));
    fake.clock.pass_s(1);
    refused(&fetch(fake, &office.file("ACC.cfg")));
    text(&fetch(
        fake,
        &follow(&format!("{}ACC.cfg", base_now(&office))),
    ));
}

#[test]
fn a_phone_that_was_off_during_two_rotations_still_finds_its_way() {
    let office = Office::new();
    let fake = &office.fake;
    text(&fetch(fake, &office.file("boot.cfg")));
    act(fake, MAC, "rotate");
    let between = base_now(&office);
    fake.clock.pass_s(86_400);
    act(fake, MAC, "rotate");
    for base in [&office.base, &between] {
        let boot = text(&fetch(fake, &follow(&format!("{base}boot.cfg"))));
        assert!(boot.contains(&base_now(&office)));
    }
}

#[test]
fn a_revoked_token_opens_nothing_from_that_moment_on() {
    let office = Office::new();
    let fake = &office.fake;
    for name in FILES {
        text(&fetch(fake, &office.file(name)));
    }
    act(fake, MAC, "revoke");
    for name in FILES {
        refused(&fetch(fake, &office.file(name)));
    }
    let url = json_of(&fetch(fake, &question(MAC, SERIAL)))["url"]
        .as_str()
        .unwrap()
        .to_owned();
    text(&fetch(fake, &follow(&format!("{url}ACC.cfg"))));
}

#[test]
fn a_revoked_token_is_not_saved_by_a_rotation_before_it() {
    let office = Office::new();
    act(&office.fake, MAC, "rotate");
    let rotated = base_now(&office);
    act(&office.fake, MAC, "revoke");
    refused(&fetch(&office.fake, &office.file("ACC.cfg")));
    refused(&fetch(&office.fake, &follow(&format!("{rotated}ACC.cfg"))));
}

#[test]
fn a_disabled_or_deleted_device_gets_nothing_at_once_and_its_token_opens_no_successor() {
    let office = Office::new();
    let fake = &office.fake;
    let path = format!("devices/{MAC}");
    text(&fetch(fake, &office.file("ACC.cfg")));
    patch(fake, &path, &json!({ "enabled": false }));
    refused(&fetch(fake, &office.file("ACC.cfg")));
    patch(fake, &path, &json!({ "enabled": true }));
    text(&fetch(fake, &office.file("ACC.cfg")));
    delete(fake, &path);
    refused(&fetch(fake, &office.file("ACC.cfg")));
    refused(&fetch(fake, &question(MAC, SERIAL)));
    put(
        fake,
        &path,
        &json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "serial": SERIAL }),
    );
    refused(&fetch(fake, &office.file("ACC.cfg")));
    refused(&fetch(
        fake,
        &follow(&format!("{}{MAC}.boot", office.first_access)),
    ));
    assert_eq!(fetch(fake, &question(MAC, SERIAL)).status(), StatusCode::OK);
}

#[test]
fn files_go_over_plain_http_only_where_the_tenant_allows_it() {
    let office = Office::new();
    let fake = &office.fake;
    let plain = || office.file("ACC.cfg").plain();
    refused(&fetch(fake, &plain()));
    patch(fake, "tenants/acme", &json!({ "allow_plain_http": true }));
    fake.clock.pass_s(60);
    assert!(text(&fetch(fake, &plain())).contains(PASSWORD));
    patch(fake, "tenants/acme", &json!({ "allow_plain_http": false }));
    fake.clock.pass_s(60);
    refused(&fetch(fake, &plain()));
    text(&fetch(fake, &office.file("ACC.cfg")));
}

#[test]
fn no_store_and_no_log_shows_a_secret_or_a_capability() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    let fake = &office.fake;
    fetch(fake, &get(&format!("/rps?mac={MAC}")));
    fetch(fake, &question(MAC, SERIAL));
    fetch(fake, &question(MAC, "a-wrong-serial"));
    fetch(fake, &follow(&format!("{}{MAC}.boot", office.first_access)));
    for name in FILES {
        text(&fetch(fake, &office.file(name)));
    }
    act(fake, MAC, "rotate");
    *fake.kv.failing.borrow_mut() = crate::world::Failing::All;
    fetch(
        fake,
        &follow(&format!("{}{SOFT}.xml", office.soft_first_access)),
    );
    fetch(fake, &get(&format!("/rps/sn/{SERIAL}/{MAC}.boot")));
    *fake.kv.failing.borrow_mut() = crate::world::Failing::None;

    let dump = fake.dump();
    let logged = fake.logged();
    let shows = |bytes: &[u8], secret: &str| {
        bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes())
    };
    assert!(
        shows(&dump, "\"username\":\"1001\"") && shows(&dump, "Number 1001"),
        "the dump is of the records"
    );
    let capability = |url: &str| {
        url.trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    };
    let base = base_now(&office);
    for secret in [
        PASSWORD,
        "second-account-password",
        "ari-password-in-clear",
        &capability(&office.base),
        &capability(&base),
        &capability(&office.first_access),
        &capability(&office.soft_first_access),
        crate::world::ADMIN_TOKEN,
        crate::world::SEAL_KEY,
    ] {
        assert!(!shows(&dump, secret), "{secret} is in a store");
        assert!(!shows(logged.as_bytes(), secret), "{secret} is in the log");
    }
    for secret in [SERIAL, "a-wrong-serial"] {
        assert!(!shows(logged.as_bytes(), secret), "{secret} is in the log");
    }
}
