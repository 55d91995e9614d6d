//! What the platform says of a request's client certificate and of where it comes from.

use serde_json::{Value, json};

use crate::office::Office;

#[test]
fn only_a_certificate_that_was_verified_is_one() {
    let office = Office::open_at(
        crate::office::worker(),
        "certificates",
        &json!({ "proofs": ["certificate"] }),
    );
    let made = office.yealink(&json!({}));
    let subject = format!("CN={},O=Yealink,C=CN", made.mac);
    let auth = |more: Value| {
        let mut auth = json!({
            "certPresented": "1", "certVerified": "SUCCESS", "certRevoked": "0",
            "certSubjectDNRFC2253": subject, "certSubjectDN": subject,
        });
        crate::office::merge(&mut auth, &more);
        json!({ "country": "DE", "tlsClientAuth": auth })
    };
    let ask = |cf: &Value| {
        let request = office.rps(&format!("?mac={}", made.mac)).cf(cf);
        request.send().unwrap().status
    };
    assert_eq!(ask(&auth(json!({}))), 200);
    assert_eq!(ask(&auth(json!({ "certSubjectDNRFC2253": "" }))), 200);
    for wrong in [
        auth(json!({ "certPresented": "0" })),
        auth(json!({ "certPresented": 1 })),
        auth(json!({ "certVerified": "NONE" })),
        auth(json!({ "certVerified": "FAILED:self signed certificate" })),
        auth(json!({ "certVerified": "success" })),
        auth(json!({ "certVerified": null })),
        auth(json!({ "certRevoked": "1" })),
        auth(json!({ "certSubjectDNRFC2253": "CN=805ec0ffffff" })),
        json!({ "country": "DE", "tlsClientAuth": null }),
        json!({ "country": "DE", "tlsClientAuth": "1" }),
        json!({ "country": "DE" }),
        json!({}),
    ] {
        assert_eq!(ask(&wrong), 404, "{wrong}");
    }
}

#[test]
fn a_place_is_what_the_platform_says() {
    let tenant = json!({ "places": { "countries": ["DE"], "asns": [3320] } });
    let office = Office::open_at(crate::office::worker(), "places", &tenant);
    let made = office.yealink(&json!({}));
    for (cf, status) in [
        (json!({ "country": "DE", "asn": 3320 }), 200),
        (json!({ "country": "DE", "asn": "3320" }), 404),
        (json!({ "country": "DE", "asn": -1 }), 404),
        (json!({ "country": "FR", "asn": 3320 }), 404),
        (json!({}), 404),
    ] {
        let rest = format!("?mac={}&serial={}", made.mac, made.serial);
        let answer = office.rps(&rest).cf(&cf).send().unwrap();
        assert_eq!(answer.status, status, "{cf}");
    }
}
