//! Steps 1 and 2: who is told where its files are, and who is not.

use dialtone::ports::Limit;
use http::{Method, StatusCode};
use serde_json::json;

use super::{MAC, Office, SERIAL, SOFT, SOFT_SERIAL, question, refused};
use crate::ask::{
    HOST, ORIGIN, Told, act, cost, delete, fetch, follow, get, header, json_of, patch, put, text,
};
use crate::readers;
use crate::world::Count;

#[test]
fn the_right_serial_gets_the_url_as_json_as_text_and_as_a_redirect() {
    let office = Office::new();
    let answer = fetch(&office.fake, &question("80:5E:C0:00:00:01", SERIAL));
    let expected = json!({
        "mac": MAC, "vendor": "yealink", "model": "T46U", "url": office.base, "boot": format!("{MAC}.boot"),
    });
    assert_eq!(json_of(&answer), expected);
    assert_eq!(header(&answer, "content-type"), "application/json");

    let answer = fetch(
        &office.fake,
        &question(MAC, SERIAL).with("accept", "text/plain"),
    );
    assert_eq!(text(&answer), format!("{}\n", office.base));

    let answer = fetch(
        &office.fake,
        &get(&format!("/rps?mac={MAC}&serial={SERIAL}&redirect=302")),
    );
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert_eq!(
        header(&answer, "location"),
        format!("{}{MAC}.boot", office.base)
    );
    assert!(answer.body().is_empty());
}

#[test]
fn a_serial_in_the_path_gets_the_vendors_own_document() {
    let office = Office::new();
    let by_path = text(&fetch(
        &office.fake,
        &get(&format!("/rps/sn/{SERIAL}/{MAC}.boot")),
    ));
    let by_key = text(&fetch(
        &office.fake,
        &follow(&format!("{}{MAC}.boot", office.first_access)),
    ));
    assert_eq!(by_path, by_key);
    assert!(by_path.contains(&office.base));
}

#[test]
fn every_refusal_is_the_same_answer_after_the_same_reads_and_no_write() {
    let office = Office::new();
    let fake = &office.fake;
    let device = |serial: &str| json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "serial": serial });
    put(fake, "devices/805ec0000002", &device("2"));
    patch(fake, "devices/805ec0000002", &json!({ "enabled": false }));
    put(fake, "devices/805ec0000003", &device("3"));
    delete(fake, "devices/805ec0000003");
    let key = office
        .first_access
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap();
    let mut forged = key.to_owned();
    forged.replace_range(20..21, if key.as_bytes()[20] == b'A' { "B" } else { "A" });
    let of_another = office
        .soft_first_access
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    for (what, request) in [
        ("an unknown MAC", question("805ec00000ff", "1")),
        ("an unknown MAC without proof", get("/rps?mac=805ec00000ff")),
        ("a MAC without proof", get(&format!("/rps?mac={MAC}"))),
        ("a wrong serial", question(MAC, "3146019091637072")),
        ("the serial of another", question(MAC, SOFT_SERIAL)),
        ("no serial", question(MAC, "")),
        ("a disabled device", question("805ec0000002", "2")),
        ("a deleted device", question("805ec0000003", "3")),
        ("a file without proof", get(&format!("/rps/{MAC}.boot"))),
        (
            "a file with a forged key",
            get(&format!("/rps/{forged}/{MAC}.boot")),
        ),
        (
            "a file with the key of another",
            get(&format!("/rps/{of_another}/{MAC}.boot")),
        ),
        (
            "a file with a wrong serial",
            get(&format!("/rps/sn/1/{MAC}.boot")),
        ),
        (
            "the file of another vendor",
            get(&format!("/rps/cfg{MAC}.xml")),
        ),
        (
            "the file of another vendor, unknown",
            get("/rps/cfg805ec00000ff.xml"),
        ),
    ] {
        let (answer, kv, r2) = cost(fake, &request);
        refused(&answer);
        let one_read = Count {
            gets: 1,
            ..Count::default()
        };
        assert_eq!((kv, r2), (one_read, one_read), "{what}");
    }
}

#[test]
fn a_first_access_key_opens_its_own_device_until_it_is_revoked() {
    let office = Office::new();
    let own = follow(&format!("{}{MAC}.boot", office.first_access));
    assert_eq!(fetch(&office.fake, &own).status(), StatusCode::OK);
    refused(&fetch(
        &office.fake,
        &follow(&format!("{}{SOFT}.xml", office.first_access)),
    ));
    act(&office.fake, MAC, "rotate");
    assert_eq!(fetch(&office.fake, &own).status(), StatusCode::OK);
    act(&office.fake, MAC, "revoke");
    refused(&fetch(&office.fake, &own));
}

#[test]
fn a_tenant_that_takes_one_proof_takes_no_other() {
    for (proof, lets_in) in [
        ("serial", [true, false, false]),
        ("key", [false, true, false]),
        ("window", [false, false, true]),
    ] {
        let office = Office::of(&json!({ "proofs": [proof] }), &json!({ "arm": "1h" }));
        let serial = question(MAC, SERIAL);
        let key = follow(&format!("{}{MAC}.boot", office.first_access));
        let bare = get(&format!("/rps?mac={MAC}"));
        for (request, expected) in [serial, key, bare].iter().zip(lets_in) {
            // The window takes whoever comes first, so the others come from elsewhere and after.
            let asked = request.clone().from("198.51.100.1");
            let opens_window = proof == "window" && request.query.contains("serial");
            if !opens_window {
                assert_eq!(
                    fetch(&office.fake, &asked).status().is_success(),
                    expected,
                    "{proof}: {request:?}"
                );
            }
        }
    }
}

#[test]
fn a_window_is_claimed_once() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    let fake = &office.fake;
    let bare = || get(&format!("/rps?mac={MAC}"));
    let first = fetch(fake, &bare().from("192.0.2.7"));
    assert_eq!(json_of(&first)["url"], office.base);
    refused(&fetch(fake, &bare().from("192.0.2.8")));

    // A phone that lost its answer asks again from where it is, for ten minutes.
    fake.clock.pass_s(599);
    assert_eq!(fetch(fake, &bare().from("192.0.2.7")).body(), first.body());
    fake.clock.pass_s(2);
    refused(&fetch(fake, &bare().from("192.0.2.7")));
}

#[test]
fn a_window_whose_token_was_used_is_closed_even_for_who_claimed_it() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    let bare = get(&format!("/rps?mac={MAC}"));
    assert_eq!(fetch(&office.fake, &bare).status(), StatusCode::OK);
    assert_eq!(fetch(&office.fake, &bare).status(), StatusCode::OK);
    text(&fetch(&office.fake, &office.file("boot.cfg")));
    refused(&fetch(&office.fake, &bare));
    // But a phone that was reset and proves itself is let in.
    assert_eq!(
        fetch(&office.fake, &question(MAC, SERIAL)).status(),
        StatusCode::OK
    );
}

#[test]
fn one_ipv6_network_is_one_source() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    let bare = || get(&format!("/rps?mac={MAC}"));
    assert_eq!(
        fetch(&office.fake, &bare().from("2001:db8:1:2::1")).status(),
        StatusCode::OK
    );
    assert_eq!(
        fetch(&office.fake, &bare().from("2001:db8:1:2:ffff::2")).status(),
        StatusCode::OK
    );
    refused(&fetch(&office.fake, &bare().from("2001:db8:1:3::1")));
}

#[test]
fn of_two_callers_who_find_the_window_open_one_is_let_in() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    let fake = &office.fake;
    let bare = || get(&format!("/rps?mac={MAC}"));
    let other = fake.clone();
    let second = bare().from("192.0.2.8");
    // The second comes while the first has read that the window is open and not yet claimed it.
    fake.r2.before_next_put("device/", move || {
        assert_eq!(fetch(&other, &second).status(), StatusCode::OK);
    });
    refused(&fetch(fake, &bare().from("192.0.2.7")));
    let claim = office.stored().state.window.unwrap().claim.unwrap();
    assert_eq!(claim.source, "192.0.2.8");
}

#[test]
fn a_window_ends_and_a_wrong_serial_does_not_claim_it() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    refused(&fetch(&office.fake, &question(MAC, "wrong")));
    office.fake.clock.pass_s(3_599);
    assert_eq!(office.stored().state.window.unwrap().claim, None);
    office.fake.clock.pass_s(1);
    refused(&fetch(&office.fake, &get(&format!("/rps?mac={MAC}"))));
}

#[test]
fn a_caller_that_is_refused_claims_nothing() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    // A name that no Yealink asks for, and a connection that everybody can read.
    refused(&fetch(&office.fake, &get(&format!("/rps/cfg{MAC}.xml"))));
    refused(&fetch(
        &office.fake,
        &get(&format!("/rps?mac={MAC}")).plain(),
    ));
    assert_eq!(office.stored().state.window.unwrap().claim, None);
}

#[test]
fn a_claim_goes_through_although_the_device_was_saved_in_the_same_second() {
    let office = Office::of(&json!({}), &json!({ "arm": "1h" }));
    office.fake.clock.pass_s(2);
    office.fake.r2.throttles.set(true);
    patch(
        &office.fake,
        &format!("devices/{MAC}"),
        &json!({ "site": "berlin" }),
    );
    assert_eq!(
        fetch(&office.fake, &get(&format!("/rps?mac={MAC}"))).status(),
        StatusCode::OK
    );
}

#[test]
fn a_yealink_gets_from_the_redirect_to_its_accounts_by_the_urls_it_is_given() {
    let office = Office::new();
    let fake = &office.fake;
    let redirect = readers::yealink(&text(&fetch(
        fake,
        &get(&format!("/rps/sn/{SERIAL}/{MAC}.boot")),
    )))
    .unwrap();
    let mut settings = std::collections::BTreeMap::new();
    for url in &redirect.includes {
        settings.extend(
            readers::yealink(&text(&fetch(fake, &follow(url))))
                .unwrap()
                .settings,
        );
    }
    assert_eq!(settings["account.1.user_name"], "1001");
    assert_eq!(settings["linekey.1.type"], "15");

    // At its next start it asks at the server that it was set to, and never rediscovers.
    let server = &settings["static.auto_provision.server.url"];
    let boot =
        readers::yealink(&text(&fetch(fake, &follow(&format!("{server}{MAC}.boot"))))).unwrap();
    assert_eq!(boot.includes, redirect.includes);
    for off in ["dhcp_option.enable", "pnp_enable"] {
        assert_eq!(settings[&format!("static.auto_provision.{off}")], "0");
    }
}

#[test]
fn a_yealink_of_an_old_firmware_gets_there_by_its_polls() {
    let office = Office::new();
    let fake = &office.fake;
    text(&fetch(fake, &get("/rps/y000000000108.cfg")));
    let redirect = readers::yealink(&text(&fetch(
        fake,
        &get(&format!("/rps/sn/{SERIAL}/{MAC}.cfg")),
    )))
    .unwrap();
    assert_eq!(redirect.settings["auto_provision.repeat.minutes"], "2");
    let server = &redirect.settings["auto_provision.server.url"];
    text(&fetch(fake, &follow(&format!("{server}y000000000108.cfg"))));
    let all =
        readers::yealink(&text(&fetch(fake, &follow(&format!("{server}{MAC}.cfg"))))).unwrap();
    assert_eq!(all.settings["account.1.user_name"], "1001");
    assert_eq!(&all.settings["auto_provision.server.url"], server);
    assert_eq!(all.settings["auto_provision.repeat.minutes"], "1440");
}

#[test]
fn a_linphone_gets_from_the_redirect_to_its_account_by_the_urls_it_is_given() {
    let office = Office::new();
    let first = readers::linphone(&text(&fetch(
        &office.fake,
        &get(&format!("/rps/sn/{SOFT_SERIAL}/{SOFT}.xml")),
    )))
    .unwrap();
    assert_eq!(first.len(), 1);
    let uri = &first["misc/config-uri"];
    let whole = readers::linphone(&text(&fetch(&office.fake, &follow(uri)))).unwrap();
    assert_eq!(whole["auth_info_0/username"], "1002");
    assert_eq!(&whole["misc/config-uri"], uri);
    for part in ["dialtone/acc", "dialtone/btn"] {
        readers::linphone(&text(&fetch(&office.fake, &follow(&whole[part])))).unwrap();
    }
}

#[test]
fn a_common_file_is_the_same_for_a_stranger_and_for_a_phone_without_proof() {
    let office = Office::new();
    let common = get("/rps/y000000000000.boot");
    let stranger = fetch(&office.fake, &common);
    let agent = format!("Yealink SIP-T46U 108.86.0.20 {}", "80:5e:c0:00:00:01");
    let phone = fetch(&office.fake, &common.clone().with("user-agent", &agent));
    assert_eq!(stranger.body(), phone.body());
    assert_eq!(stranger.headers(), phone.headers());
    assert!(text(&stranger).contains("$MAC.cfg"));
    // With a proof it is the phone's own.
    let own = fetch(
        &office.fake,
        &get(&format!("/rps/sn/{SERIAL}/y000000000000.boot")).with("user-agent", &agent),
    );
    assert!(text(&own).contains(&office.base));
}

#[test]
fn a_rule_sends_a_phone_to_another_server_and_its_own_url_beats_the_rule() {
    let office = Office::new();
    let fake = &office.fake;
    put(
        fake,
        "rules/moved",
        &json!({ "match": { "tenant": "acme" }, "url": "https://prov.example.org/{mac}" }),
    );
    fake.clock.pass_s(60);
    let url = |request| {
        json_of(&fetch(fake, &request))["url"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        url(question(MAC, SERIAL)),
        format!("https://prov.example.org/{MAC}/")
    );
    let boot = readers::yealink(&text(&fetch(
        fake,
        &get(&format!("/rps/sn/{SERIAL}/{MAC}.boot")),
    )))
    .unwrap();
    assert_eq!(
        boot.includes[1],
        format!("https://prov.example.org/{MAC}/{MAC}.cfg")
    );
    // The first include is ours and sets the new server.
    let there = readers::yealink(&text(&fetch(fake, &follow(&boot.includes[0])))).unwrap();
    assert_eq!(
        there.settings["static.auto_provision.server.url"],
        format!("https://prov.example.org/{MAC}/")
    );

    patch(fake, &format!("devices/{MAC}"), &json!({ "url": "{self}" }));
    assert_eq!(url(question(MAC, SERIAL)), office.base);
}

#[test]
fn plain_http_is_refused_on_a_public_host_unless_the_tenant_allows_it() {
    let office = Office::new();
    let fake = &office.fake;
    let asked = || question(MAC, SERIAL).plain();
    refused(&fetch(fake, &asked()));
    patch(fake, "tenants/acme", &json!({ "allow_plain_http": true }));
    fake.clock.pass_s(60);
    // What is handed out is https all the same.
    assert_eq!(json_of(&fetch(fake, &asked()))["url"], office.base);
    assert!(office.base.starts_with(ORIGIN));
    patch(fake, "tenants/acme", &json!({ "allow_plain_http": false }));
    fake.clock.pass_s(60);
    refused(&fetch(fake, &asked()));

    let mut local = asked();
    local.host = "localhost:8787".to_owned();
    let url = json_of(&fetch(fake, &local))["url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        url,
        office
            .base
            .replace(&format!("https://{HOST}"), "http://localhost:8787")
    );
}

#[test]
fn a_source_that_is_refused_too_often_waits_and_a_phone_that_proves_itself_does_not() {
    let office = Office::new();
    let fake = &office.fake;
    fake.limit(Limit::RpsMisses, 3);
    let guess = |n: u32| question(MAC, &n.to_string()).from("203.0.113.9");
    for n in 0..3 {
        refused(&fetch(fake, &guess(n)));
    }
    let answer = fetch(fake, &guess(3));
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&answer, "retry-after"), "60");
    let unknown = fetch(fake, &question("805ec00000ff", "1").from("203.0.113.9"));
    assert_eq!(
        (unknown.status(), unknown.body()),
        (answer.status(), answer.body())
    );
    assert_eq!(
        fetch(fake, &question(MAC, SERIAL).from("203.0.113.9")).status(),
        StatusCode::OK
    );
    refused(&fetch(fake, &question(MAC, "wrong").from("203.0.113.10")));
}

#[test]
fn a_generated_file_can_only_be_read() {
    let office = Office::new();
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        for request in [question(MAC, SERIAL), office.file("boot.cfg")] {
            // A phone may put its own files beside the generated ones, so a PUT is looked at.
            let looked = u32::from(method == Method::PUT && request.path.starts_with("/p/"));
            let (answer, kv, r2) = cost(&office.fake, &request.by(method.clone()));
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(header(&answer, "allow"), "GET, HEAD");
            assert_eq!((kv.all(), r2.all()), (0, looked));
        }
    }
}

#[test]
fn a_serial_in_the_user_agent_lets_in_unless_another_one_contradicts_it() {
    let serial = "CBT141400UK";
    let office = Office::of(&json!({}), &json!({ "serial": serial, "arm": "1h" }));
    let agent = |serial: &str| format!("Cisco/SPA508G-7.4.8a (805EC0000001)({serial})");
    let asks = |path: &str, said: &str| {
        let request = get(path).with("user-agent", &agent(said));
        fetch(&office.fake, &request)
    };
    let file = format!("/rps/{MAC}.boot");
    for (path, said) in [
        (file.clone(), "CBT141400UX"),
        (format!("{file}?serial=CBT141400UX"), serial),
        (format!("{file}?serial={serial}"), "CBT141400UX"),
        (format!("/rps/sn/{serial}/{MAC}.boot"), "CBT141400UX"),
        (format!("/rps/sn/{serial}/{MAC}.boot?serial=1"), serial),
        (format!("/rps?mac={MAC}&serial={serial}"), "CBT141400UX"),
        // The MAC of the User-Agent is not the one of the query.
        (format!("/rps?mac={SOFT}"), serial),
    ] {
        refused(&asks(&path, said));
    }
    assert_eq!(office.stored().state.window.unwrap().claim, None);
    for path in [
        file,
        format!("/rps/sn/{serial}/{MAC}.boot"),
        format!("/rps?mac={MAC}"),
        format!("/rps?mac={MAC}&serial={serial}"),
    ] {
        assert_eq!(asks(&path, serial).status(), StatusCode::OK, "{path}");
    }
    // By the serial, and not by the window.
    assert_eq!(office.stored().state.window.unwrap().claim, None);
}
