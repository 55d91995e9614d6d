//! Whatever comes in, nothing panics, nothing of ours fails, and nothing that is secret comes out.

use std::collections::BTreeSet;

use dialtone::ami::{self, Action};
use dialtone::keys::Capability;
use dialtone::secret::Secret;
use dialtone::text::Username;
use dialtone::time::Timestamp;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::ask::{Told, call, cost, fetch, get};
use crate::phone::{MAC, Office, PASSWORD, SERIAL, SOFT};

/// A path that resembles one of ours.
fn path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        Just("rps".to_owned()),
        Just("p".to_owned()),
        Just("sn".to_owned()),
        Just("api".to_owned()),
        Just("v1".to_owned()),
        Just("devices".to_owned()),
        Just("tenants".to_owned()),
        Just("acme".to_owned()),
        Just(MAC.to_owned()),
        Just(format!("{MAC}.boot")),
        Just("y000000000108.cfg".to_owned()),
        "(%[0-9a-fA-F]{0,2}|[a-z0-9._-]|\\.\\./|\\PC){0,24}",
        "[A-Za-z0-9_-]{43}",
    ];
    prop::collection::vec(segment, 0..6).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn query() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "(mac|serial|redirect|limit|cursor|secrets|tenant|verify)=(805ec0000001|%[0-9a-f]{0,2}|\\PC{0,12})(&\\PC{0,12}){0,2}",
    ]
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ])
}

/// JSON of any shape, with the names that ours has.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,16}".prop_map(Value::from),
        prop::sample::select(vec![
            "acme",
            "main",
            "yealink",
            "T46U",
            "acme-1001",
            "blf",
            "24h"
        ])
        .prop_map(Value::from),
    ];
    let name = prop_oneof![
        4 => prop::sample::select(vec![
            "tenant", "vendor", "model", "serial", "lines", "line", "account", "buttons", "key", "type",
            "value", "label", "settings", "timezone", "codecs", "raw", "yealink", "pbx", "username",
            "password", "sip", "host", "match", "url", "proofs", "networks", "places", "countries",
            "asns", "role", "webhook", "arm", "decoy", "drift", "user_type", "pin", "hot_desk_hours", "hours", "dial_plan", "forward", "vlan",
        ]).prop_map(ToOwned::to_owned),
        1 => "\\PC{0,8}",
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_stranger_gets_nothing_whatever_is_asked(
        path in path(),
        query in query(),
        method in method(),
        agent in "\\PC{0,40}",
        accept in "(text/plain|\\*/\\*|\\PC{0,10})",
        bearer in "(Bearer |bearer)?[A-Za-z0-9_.-]{0,60}",
        body in prop::collection::vec(any::<u8>(), 0..64),
        https in any::<bool>(),
    ) {
        thread_local! {
            static OFFICE: Office = Office::new();
        }
        OFFICE.with(|office| {
            let mut request = get(&path).by(method);
            request.query = query;
            request.https = https;
            request.body = body;
            for (name, text) in [("user-agent", agent), ("accept", accept), ("authorization", bearer)] {
                if let Ok(value) = HeaderValue::from_str(&text) {
                    request.headers.insert(HeaderName::from_static(name), value);
                }
            }
            let answer = fetch(&office.fake, &request);
            let status = answer.status();
            prop_assert!(
                status == StatusCode::OK || status.is_client_error(),
                "{} {}", status, path
            );
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            for secret in [PASSWORD, SERIAL, office.token(), "ari-password-in-clear"] {
                prop_assert!(!text.contains(secret), "{path}: {text}");
            }
            // A file that is the same for everybody is all that there is without a proof.
            prop_assert!(status != StatusCode::OK || !text.contains("/p/"), "{path}: {text}");
            Ok(())
        })?;
    }

    #[test]
    fn no_json_is_a_fault_of_ours(
        record in prop::sample::select(vec![
            "tenants/acme", "tenants/t", "profiles/office", "pbxes/main", "accounts/acme-1001",
            "accounts/x", "devices/805ec0000001", "devices/805ec0000009", "rules/r", "explain",
            "devices/805ec0000001/session", "devices/805ec0000001/release",
        ]),
        method in prop::sample::select(vec![Method::PUT, Method::PATCH, Method::POST]),
        body in value(),
    ) {
        thread_local! {
            static OFFICE: Office = Office::new();
        }
        OFFICE.with(|office| {
            let answer = call(&office.fake, method.clone(), record, &body);
            office.fake.clock.pass_s(2);
            let status = answer.status();
            prop_assert!(!status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS, "{record} {body} {status}");
            if status.is_client_error() {
                let problem: Value = serde_json::from_slice(answer.body()).unwrap();
                prop_assert!(problem["type"].is_string(), "{problem}");
            }
            // And the phone has its files.
            let file = fetch(&office.fake, &office.file("ACC.cfg"));
            prop_assert!(
                file.status() == StatusCode::OK || file.status() == StatusCode::NOT_FOUND,
                "{} after {record} {body}", file.status()
            );
            Ok(())
        })?;
    }

    #[test]
    fn no_form_is_a_fault_of_ours_or_logs_anybody_in(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "((action|user|pin|\\PC{0,4})=(login|logout|1001|acme-1001|%[0-9a-fA-F]{0,2}|\\PC{0,12})&?){0,5}"
                .prop_map(String::into_bytes),
            Just(b"action=login&user=".repeat(100)),
        ],
        kind in "(application/x-www-form-urlencoded|Application/X-WWW-Form-Urlencoded; charset=utf-8|\\PC{0,10})",
    ) {
        thread_local! {
            static OFFICE: Office = Office::of(&json!({}), &json!({ "user_type": "hot-desking" }));
        }
        OFFICE.with(|office| {
            let mut request = office.file("hotdesk").by(Method::POST);
            request.body = body;
            if let Ok(value) = HeaderValue::from_str(&kind) {
                request.headers.insert(HeaderName::from_static("content-type"), value);
            }
            let answer = fetch(&office.fake, &request);
            let said = String::from_utf8_lossy(answer.body()).into_owned();
            // Nobody there has a PIN.
            prop_assert!(answer.status().is_client_error() || said == "logged out\n", "{} {}", answer.status(), said);
            prop_assert!(office.fake.r2.keys("session").is_empty());
            Ok(())
        })?;
    }

    #[test]
    fn no_token_but_ours_opens_anything(at in 0_usize..43, with in "[A-Za-z0-9_-]", more in "[A-Za-z0-9_=.-]{0,3}") {
        thread_local! {
            static OFFICE: Office = Office::new();
        }
        OFFICE.with(|office| {
            let token = office.token();
            let forged: String = token
                .char_indices()
                .map(|(n, c)| if n == at { with.clone() } else { c.to_string() })
                .collect::<String>() + &more;
            prop_assume!(forged != token);
            let (answer, kv, r2) = cost(&office.fake, &get(&format!("/p/{forged}/ACC.cfg")));
            prop_assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{}", forged);
            prop_assert_eq!((kv.all(), r2.all()), (0, 0));
            // Nor does one kind of capability pass for the other.
            let keys = dialtone::ports::World::keys(&*office.fake);
            prop_assert!(keys.verify(Capability::FirstAccess, token).is_none());
            let key = office.first_access.trim_end_matches('/').rsplit('/').next().unwrap();
            prop_assert!(keys.verify(Capability::Token, key).is_none());
            Ok(())
        })?;
    }
}

/// Text as AMI writes it, more or less.
fn ami_text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => prop::sample::select(vec![
            "Response: Success", "Response: Error", "Message: No Contacts found", "EventList: start",
            "Event: ContactList", "Event: ContactListComplete", "Endpoint: 1001", "Endpoint: 1002",
            "Uri: sip:1001@192.0.2.1:5060", "Uri: sip:1001@[2001:db8::1", "UserAgent: Yealink SIP-T46U",
            "ListItems: 1", "ListItems: 18446744073709551616", "", "",
        ])
        .prop_map(ToOwned::to_owned),
        1 => "\\PC{0,24}",
        1 => "[A-Za-z]{1,12}:\\PC{0,24}",
    ];
    let end = prop::sample::select(vec!["\r\n", "\n", "\r"]);
    prop::collection::vec((line, end), 0..16).prop_map(|lines| {
        lines
            .into_iter()
            .flat_map(|(line, end)| [line, end.to_owned()])
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_text_of_a_pbx_is_taken_for_a_list_that_it_is_not(
        status in prop::sample::select(vec![200, 200, 200, 302, 404, 503]),
        text in ami_text(),
        cut in any::<prop::sample::Index>(),
        more in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let ours = Username::try_from("1001").unwrap();
        let wanted = BTreeSet::from([&ours]);
        let mut bytes = text.clone().into_bytes();
        for (n, byte) in more.into_iter().enumerate() {
            let at = cut.index(bytes.len() + 1).saturating_sub(n);
            bytes.insert(at, byte);
        }
        for body in [text.as_bytes(), &bytes] {
            let Ok(contacts) = ami::contacts(status, body, &wanted, Timestamp(1)) else {
                continue;
            };
            let text = String::from_utf8_lossy(body);
            let nobody = text.contains("No Contacts found");
            let whole = text.contains("ContactListComplete") && text.contains("ListItems:");
            prop_assert!(status == 200 && text.contains("Response:"), "{text}");
            prop_assert!(nobody || whole, "{text}");
            let of_ours = contacts.get(&ours).map_or(0, Vec::len);
            prop_assert!(of_ours <= text.matches("Event: ContactList").count());
            prop_assert!(contacts.keys().all(|name| *name == ours));
        }
    }

    #[test]
    fn no_value_gets_out_of_its_field_of_an_action(
        event in "[a&=%+;:\r\n\0\u{85} ü]{0,12}|\\PC{0,12}",
        secret in "[a&=%+;:\r\n\0\u{85} ü]{0,12}|\\PC{0,12}",
    ) {
        let name = Username::try_from("1001").unwrap();
        let actions = [
            Action::notify_endpoint(&name, &event).map(|action| (action, &event, "Variable", "Event=")),
            serde_json::from_value::<Secret>(json!(secret))
                .ok()
                .and_then(|kept| Action::login(&name, &kept))
                .map(|action| (action, &secret, "secret", "")),
        ];
        for (action, value, field, before) in actions.into_iter().flatten() {
            prop_assert!(action.body().bytes().all(|byte| byte.is_ascii_graphic()));
            let pairs: Vec<(String, String)> =
                form_urlencoded::parse(action.body().as_bytes()).into_owned().collect();
            prop_assert_eq!(pairs.len(), 3);
            prop_assert_eq!(&pairs[2], &(field.to_owned(), format!("{before}{value}")));
            prop_assert!(!value.chars().any(char::is_control));
        }
    }

    #[test]
    fn no_cookie_is_more_than_a_session(header in "(mansession_id=)?\\PC{0,40}") {
        if let Some(cookie) = ami::session(&header) {
            prop_assert!(cookie.len() <= 48 && cookie.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';'));
        }
    }
}

#[test]
fn json_that_is_deep_or_long_is_refused_and_harms_nobody() {
    let office = Office::new();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = json!({ "name": "x".repeat(900_000) }).to_string();
    for body in [deep, long, "{".repeat(50_000), "\u{0}".to_owned()] {
        for record in ["tenants/acme", &format!("devices/{SOFT}"), "explain"] {
            let mut request = get(&format!("/api/v1/{record}"))
                .by(if record == "explain" {
                    Method::POST
                } else {
                    Method::PUT
                })
                .with(
                    "authorization",
                    &format!("Bearer {}", crate::world::ADMIN_TOKEN),
                )
                .with("content-type", "application/json");
            request.body = body.clone().into_bytes();
            let answer = fetch(&office.fake, &request);
            assert!(
                answer.status().is_client_error(),
                "{record}: {}",
                answer.status()
            );
        }
    }
}
