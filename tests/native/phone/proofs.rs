//! Each proof by itself, and any or all of them.

use dialtone::request::Request;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{Told, act, call, cost, fetch, get, put};
use crate::phone::{MAC, Office, SERIAL, question, refused};

/// A question that shows nothing but the MAC.
fn bare() -> Request {
    get(&format!("/rps?mac={MAC}"))
}

/// The same with a certificate that the platform verified.
fn with_certificate(mut request: Request, subject: &str) -> Request {
    request.source.certificate = Some(subject.to_owned());
    request
}

fn is_let_in(office: &Office, request: &Request) -> bool {
    let answer = fetch(&office.fake, request);
    if answer.status() == StatusCode::OK {
        return true;
    }
    refused(&answer);
    false
}

#[test]
fn a_certificate_proves_where_its_vendors_rule_says_and_nowhere_else() {
    let office = Office::of(&json!({ "proofs": ["certificate"] }), &json!({}));
    let name = "805EC0000001";
    for fine in [
        "CN=805ec0000001,O=Yealink,C=CN",
        "C=CN,O=Yealink,CN=80:5E:C0:00:00:01",
        "/C=CN/O=Yealink/CN=805EC0000001",
        "CN=805ec0000001",
    ] {
        assert!(
            is_let_in(&office, &with_certificate(bare(), fine)),
            "{fine}"
        );
    }
    for wrong in [
        "",
        "CN=805ec0000002",
        "CN=x805ec0000001",
        "CN=805ec0000001 805ec0000002",
        "O=805ec0000001",
        "ST=805ec0000001,O=Cisco Systems\\, Inc.",
        "CN=805ec0000001,O=snom technology AG",
        "CN=805ec0000001,CN=805ec0000002",
        "CN=\"805ec0000001",
        name,
    ] {
        assert!(
            !is_let_in(&office, &with_certificate(bare(), wrong)),
            "{wrong}"
        );
    }
    assert!(!is_let_in(&office, &bare()));
    assert!(
        !is_let_in(&office, &question(MAC, SERIAL)),
        "the serial is not asked for"
    );

    // Of a vendor that nobody knows the rule of, no certificate proves anything.
    let fanvil = json!({ "tenant": "acme", "vendor": "fanvil", "model": "X5U" });
    put(&office.fake, "devices/0c383e000001", &fanvil);
    let ask = get("/rps?mac=0c383e000001");
    assert!(!is_let_in(
        &office,
        &with_certificate(ask, "CN=0c383e000001,O=Fanvil")
    ));
    // Cisco has the MAC in the state.
    let cisco = json!({ "tenant": "acme", "vendor": "cisco", "model": "8841" });
    put(&office.fake, "devices/00562b000001", &cisco);
    let ask = || get("/rps?mac=00562b000001");
    let subject = "OU=CP-8841-3PCC,L=FCH1,ST=00562b000001,O=Cisco Systems Inc.";
    assert!(is_let_in(&office, &with_certificate(ask(), subject)));
    assert!(!is_let_in(
        &office,
        &with_certificate(ask(), "CN=00562b000001,O=Cisco Systems Inc.")
    ));
}

#[test]
fn a_network_proves_by_the_address_of_the_source() {
    let tenant = json!({
        "proofs": ["network"], "networks": ["192.0.2.0/24", "2001:db8:5::/48"],
    });
    let office = Office::of(&tenant, &json!({}));
    for (address, inside) in [
        ("192.0.2.7", true),
        ("192.0.3.7", false),
        ("::ffff:192.0.2.7", true),
        ("2001:db8:5:1::1", true),
        ("2001:db8:6::1", false),
        ("", false),
        ("192.0.2.7, 10.0.0.1", false),
    ] {
        assert_eq!(
            is_let_in(&office, &bare().from(address)),
            inside,
            "{address:?}"
        );
    }
    for wrong in [
        json!(["192.0.2.0"]),
        json!(["0.0.0.0/0"]),
        json!(["::/0"]),
        json!(["10.0.0.0/7"]),
        json!(["example.com/24"]),
        json!("192.0.2.0/24"),
    ] {
        let body = json!({ "networks": wrong });
        let answer = call(&office.fake, Method::PUT, "tenants/acme", &body);
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        let pointer = problem["errors"][0]["pointer"].as_str().unwrap();
        assert!(pointer.starts_with("/networks"), "{problem}");
    }
}

#[test]
fn a_place_narrows_every_proof_and_is_none_itself() {
    let tenant = json!({ "places": { "countries": ["DE", "AT"], "asns": [3320] } });
    let office = Office::of(&tenant, &json!({}));
    let from = |mut request: Request, country: Option<&str>, asn: Option<u32>| {
        request.source.country = country.map(ToOwned::to_owned);
        request.source.asn = asn;
        request
    };
    let key = || crate::ask::follow(&format!("{}{MAC}.boot", office.first_access));
    for (country, asn, fine) in [
        (Some("DE"), Some(3320), true),
        (Some("at"), Some(3320), true),
        (Some("FR"), Some(3320), false),
        (Some("DE"), Some(3321), false),
        (None, Some(3320), false),
        (Some("DE"), None, false),
    ] {
        let what = format!("{country:?} {asn:?}");
        assert_eq!(
            is_let_in(&office, &from(question(MAC, SERIAL), country, asn)),
            fine,
            "{what}"
        );
        assert_eq!(
            is_let_in(&office, &from(key(), country, asn)),
            fine,
            "{what}"
        );
        assert!(!is_let_in(&office, &from(bare(), country, asn)), "{what}");
    }
    // Nor does it use up a window.
    act(&office.fake, MAC, "arm");
    assert!(!is_let_in(&office, &from(bare(), Some("FR"), Some(3320))));
    assert!(is_let_in(&office, &from(bare(), Some("DE"), Some(3320))));
}

#[test]
fn a_tenant_that_requires_all_its_proofs_takes_no_less() {
    let tenant = json!({
        "proofs": ["serial", "network"], "require": "all", "networks": ["192.0.2.0/24"],
    });
    let office = Office::of(&tenant, &json!({}));
    let (near, far) = ("192.0.2.7", "203.0.113.7");
    assert!(is_let_in(&office, &question(MAC, SERIAL).from(near)));
    assert!(!is_let_in(&office, &question(MAC, SERIAL).from(far)));
    assert!(!is_let_in(&office, &question(MAC, "wrong").from(near)));
    assert!(!is_let_in(&office, &bare().from(near)));

    // With a window among them, the others come first, and whoever lacks one does not use it up.
    let tenant = json!({ "proofs": ["serial", "window"], "require": "all" });
    let office = Office::of(&tenant, &json!({ "arm": "24h" }));
    assert!(!is_let_in(&office, &bare().from(far)));
    assert!(!is_let_in(&office, &question(MAC, "wrong").from(far)));
    assert!(is_let_in(&office, &question(MAC, SERIAL).from(near)));
    assert!(
        !is_let_in(&office, &question(MAC, SERIAL).from(far)),
        "it is claimed"
    );

    // Nothing that is required is nothing that anybody can bring.
    let office = Office::of(&json!({ "proofs": [], "require": "all" }), &json!({}));
    assert!(!is_let_in(&office, &question(MAC, SERIAL)));
}

#[test]
fn whoever_is_refused_costs_the_same_whatever_was_wrong() {
    let tenant = json!({
        "networks": ["192.0.2.0/24"], "places": { "countries": ["DE"] },
    });
    let office = Office::of(&tenant, &json!({}));
    let mut abroad = question(MAC, SERIAL);
    abroad.source.country = Some("FR".to_owned());
    let nobody = get("/rps?mac=805ec00000ff&serial=1");
    let (_, kv, r2) = cost(&office.fake, &nobody);
    for request in [
        abroad,
        bare(),
        with_certificate(bare(), "CN=805ec0000001,O=snom"),
        bare().from("203.0.113.5"),
    ] {
        let (answer, other_kv, other_r2) = cost(&office.fake, &request);
        refused(&answer);
        assert_eq!((kv.all(), r2.all()), (other_kv.all(), other_r2.all()));
        assert_eq!(other_kv.writes() + other_r2.writes(), 0);
    }
}
