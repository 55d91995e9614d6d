//! Whoever comes by Cloudflare Access: a JWT is worth what it says, if Access signed it, and what the
//! token's record gives.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dialtone::access::Application;
use dialtone::ports::{Limit, NoAnswer, Objects, Only, World};
use dialtone::request::Request;
use dialtone::serve::Place;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::ask::{Told, call, call_by, delete, fetch_at, get, header, json_of, patch, put};
use crate::issuer::{AUD, FIRST, Key, SECOND, certs, signed_part, with_claims};
use crate::world::{ADMIN_TOKEN, Failing, Fake, block_on};

const TEAM: &str = "https://acme.cloudflareaccess.com";
const HEADER: &str = "cf-access-jwt-assertion";
const EMAIL: &str = "ops@acme.example";

/// What the issuer says when it is asked for its keys.
type Says = Result<(u16, String), NoAnswer>;

/// A Dialtone behind Access, with an operator of the tenant `alpha`.
struct Gate {
    fake: Rc<Fake>,
    application: Application,
    says: Rc<RefCell<Says>>,
    asked: Rc<Cell<u32>>,
}

impl Gate {
    fn new() -> Self {
        let fake = Fake::new();
        let says: Rc<RefCell<Says>> =
            Rc::new(RefCell::new(Ok((200, certs(&[&FIRST]).to_string()))));
        let asked = Rc::new(Cell::new(0));
        let (saying, counting) = (Rc::clone(&says), Rc::clone(&asked));
        fake.net.answer(move |request| {
            let wanted = format!("{TEAM}/cdn-cgi/access/certs");
            assert_eq!(request.uri().to_string(), wanted);
            counting.set(counting.get() + 1);
            let (status, body) = saying.borrow().clone()?;
            let answer = Response::builder().status(status);
            Ok(answer.body(body.into_bytes()).unwrap())
        });
        for tenant in ["alpha", "bravo"] {
            put(&fake, &format!("tenants/{tenant}"), &json!({}));
        }
        let application = Application::of(Some(TEAM), Some(AUD));
        Self {
            fake,
            application: application.unwrap().unwrap(),
            says,
            asked,
        }
    }

    /// One with the operator's token.
    fn with_operator() -> Self {
        let gate = Self::new();
        gate.token("ops", &json!({ "email": EMAIL }));
        gate
    }

    fn token(&self, id: &str, access: &Value) -> Value {
        let body = json!({ "role": "operator", "tenant": "alpha", "access": access });
        put(&self.fake, &format!("tokens/{id}"), &body)
    }

    fn claims(&self) -> Value {
        let now = self.fake.now().0;
        json!({
            "aud": [AUD], "email": EMAIL, "iss": TEAM, "type": "app", "sub": "7335d417",
            "iat": now, "nbf": now, "exp": now + 300, "country": "DE",
        })
    }

    /// The claims with another member, or with `null` without it.
    fn claims_with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        claims
    }

    fn of(&self, email: &str) -> String {
        FIRST.jwt(&self.claims_with("email", email.into()))
    }

    fn send(&self, request: &Request) -> Response<Vec<u8>> {
        let place = Place {
            public_url: None,
            access: Some(&self.application),
        };
        fetch_at(&self.fake, &place, request)
    }

    fn call(&self, jwt: &str, method: Method, path: &str, body: &Value) -> Response<Vec<u8>> {
        self.send(&request(jwt, method, path, body))
    }

    fn get(&self, jwt: &str) -> Response<Vec<u8>> {
        self.call(jwt, Method::GET, "tenants/alpha", &Value::Null)
    }

    #[track_caller]
    fn is_in(&self, jwt: &str) {
        let answer = self.get(jwt);
        assert_eq!(answer.status(), StatusCode::OK, "{}", text(&answer));
    }
}

/// A call with a JWT in the place of a bearer token.
fn request(jwt: &str, method: Method, path: &str, body: &Value) -> Request {
    let mut request = call_by("", method, path, body);
    request.headers.remove("authorization");
    request.with(HEADER, jwt)
}

fn text(answer: &Response<Vec<u8>>) -> String {
    String::from_utf8_lossy(answer.body()).into_owned()
}

#[track_caller]
fn refused(answer: &Response<Vec<u8>>, status: u16, kind: &str) {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let wanted = json!(format!("urn:dialtone:problem:{kind}"));
    assert_eq!(
        (answer.status().as_u16(), &body["type"]),
        (status, &wanted),
        "{body}"
    );
}

#[test]
fn whoever_access_knows_acts_with_the_token_that_is_for_them() {
    let gate = Gate::new();
    let made = gate.token("ops", &json!({ "email": EMAIL }));
    // No text is made or shown, and none opens it.
    assert_eq!(made.get("token"), None, "{made}");
    assert_eq!(made["access"], json!({ "email": EMAIL }));
    let guess = format!("dialtone_ops_{}", "A".repeat(43));
    let answer = gate.send(&call_by(&guess, Method::GET, "models", &Value::Null));
    refused(&answer, 401, "unauthorized");

    let jwt = FIRST.jwt(&gate.claims());
    gate.is_in(&jwt);
    let one = FIRST.jwt(&gate.claims_with("aud", AUD.into()));
    gate.is_in(&one);
    let profile = json!({ "tenant": "alpha" });
    let made = gate.call(&jwt, Method::PUT, "profiles/a", &profile);
    assert_eq!(made.status(), StatusCode::CREATED, "{}", text(&made));
    // Role and tenant are the record's.
    let tenant = gate.call(&jwt, Method::PUT, "tenants/alpha", &json!({}));
    refused(&tenant, 403, "forbidden");
    let foreign = gate.call(&jwt, Method::GET, "tenants/bravo", &Value::Null);
    refused(&foreign, 404, "not_found");
    // And the audit has its id, not the name that Access has.
    let events = gate.fake.audited("record.created");
    let event = events.iter().find(|e| e["resource"] == "profiles/a");
    assert_eq!(event.unwrap()["actor"], "ops", "{events:?}");
    let shown = json_of(&call(&gate.fake, Method::GET, "tokens/ops", &Value::Null));
    assert!(shown["last_used_at"].is_string(), "{shown}");
    // All of that with one look at Access's keys.
    assert_eq!(gate.asked.get(), 1);
    assert!(!gate.fake.logged().contains(&jwt));
}

#[test]
fn a_service_token_is_known_by_its_common_name() {
    let gate = Gate::new();
    let name = "e367826f93b8d71185e03fe518aff3b4.access";
    gate.token("ci", &json!({ "common_name": name }));
    let mut claims = gate.claims_with("email", Value::Null);
    claims["common_name"] = name.into();
    claims["sub"] = "".into();
    gate.is_in(&FIRST.jwt(&claims));
    claims["common_name"] = name.to_uppercase().into();
    refused(&gate.get(&FIRST.jwt(&claims)), 403, "forbidden");
    // A person who is called so is somebody else, and so is a service that is called like a person.
    gate.token("ops", &json!({ "email": EMAIL }));
    claims["common_name"] = EMAIL.into();
    refused(&gate.get(&FIRST.jwt(&claims)), 403, "forbidden");
    claims["email"] = "other@acme.example".into();
    claims["common_name"] = name.into();
    refused(&gate.get(&FIRST.jwt(&claims)), 403, "forbidden");
}

#[test]
fn a_jwt_that_is_not_good_is_the_401_of_any_bad_token() {
    let gate = Gate::with_operator();
    let now = gate.fake.now().0;
    let good = FIRST.jwt(&gate.claims());
    gate.is_in(&good);
    let without = gate.send(&get("/api/v1/tenants/alpha"));
    refused(&without, 401, "unauthorized");
    let without = format!("{:?} {}", without.headers(), text(&without));
    let asked = gate.asked.get();

    let with = |name: &str, value: Value| FIRST.jwt(&gate.claims_with(name, value));
    let head = |header: Value| FIRST.jwt_with(&header, &gate.claims());
    let none = signed_part(&json!({ "alg": "none", "kid": "first" }), &gate.claims());
    let (signed_good, signature) = good.rsplit_once('.').unwrap();
    let other = Key::jwt_with(
        &SECOND,
        &json!({ "alg": "RS256", "kid": "first" }),
        &gate.claims(),
    );
    let owner = gate.claims_with("email", "owner@acme.example".into());
    let mut wrong = vec![
        // The algorithm.
        none.clone() + ".",
        format!("{none}.{signature}"),
        FIRST.jwt_by_hmac(&gate.claims()),
        head(json!({ "alg": "none", "kid": "first" })),
        head(json!({ "alg": "HS256", "kid": "first" })),
        head(json!({ "alg": "rs256", "kid": "first" })),
        head(json!({ "alg": "RS512", "kid": "first" })),
        head(json!({ "alg": "RS256", "kid": "first", "crit": ["b64"], "b64": false })),
        head(json!({ "kid": "first" })),
        // The key.
        head(json!({ "alg": "RS256" })),
        head(json!({ "alg": "RS256", "kid": "" })),
        head(json!({ "alg": "RS256", "kid": "k".repeat(129) })),
        head(json!({ "alg": "RS256", "kid": "first ", "jwk": FIRST.jwk() })),
        other,
        // The signature.
        with_claims(&good, &owner),
        with_claims(&good, &gate.claims_with("exp", (now + 301).into())),
        format!("{signed_good}."),
        format!("{signed_good}.{}", &signature[..signature.len() - 4]),
        format!("{signed_good}.{signature}AAAA"),
        format!("{signed_good}.{}", "A".repeat(signature.len())),
        // What it says.
        with("aud", "b".repeat(64).into()),
        with("aud", json!([])),
        with("aud", json!(["b", [AUD], { "aud": AUD }])),
        with("aud", Value::Null),
        with("iss", "https://other.cloudflareaccess.com".into()),
        with("iss", format!("{TEAM}/").into()),
        with("iss", Value::Null),
        with("exp", now.into()),
        with("exp", (now - 1).into()),
        with("exp", Value::Null),
        with("exp", json!("9999999999")),
        with("exp", json!(-1)),
        with("nbf", (now + 61).into()),
        with("iat", (now + 61).into()),
        with("email", Value::Null),
        with("email", "".into()),
        with("email", "no address".into()),
        with("email", json!([EMAIL])),
        // The form.
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        signed_good.to_owned(),
        format!("{good}.{signature}"),
        format!("{good}="),
        good.replace('.', ".."),
        good.to_uppercase(),
        with("more", "m".repeat(8_192).into()),
        URL_SAFE_NO_PAD.encode("[".repeat(4_000)) + ".e30.AAAA",
    ];
    wrong.push(format!("Bearer {good}"));
    for jwt in &wrong {
        for method in [Method::GET, Method::PUT] {
            let answer = gate.call(jwt, method, "tenants/alpha", &json!({}));
            let said = format!("{:?} {}", answer.headers(), text(&answer));
            assert_eq!(said, without, "{jwt}");
        }
    }
    // A minute is between clocks, and no more.
    gate.is_in(&with("nbf", (now + 60).into()));
    gate.is_in(&with("iat", (now + 60).into()));
    gate.is_in(&with("exp", (now + 1).into()));
    gate.is_in(&with("nbf", Value::Null));
    // None of them was worth a call.
    assert_eq!(gate.asked.get(), asked);
    // They are counted, and no good one is refused for them.
    gate.fake.limit(Limit::AdminFailures, 0);
    refused(&gate.get(&wrong[0]), 429, "too_many");
    gate.is_in(&good);
    let log = gate.fake.logged();
    for jwt in wrong.iter().chain([&good]).filter(|jwt| jwt.len() > 8) {
        let signature = jwt.rsplit('.').next().unwrap();
        assert!(!log.contains(jwt.as_str()), "{jwt}");
        assert!(signature.len() < 8 || !log.contains(signature), "{jwt}");
    }
    assert!(!log.contains(EMAIL));
}

#[test]
fn what_is_no_jwt_for_this_application_costs_nothing() {
    let gate = Gate::with_operator();
    let expired = FIRST.jwt(&gate.claims_with("exp", (gate.fake.now().0 - 1).into()));
    let foreign = FIRST.jwt(&gate.claims_with("aud", "b".repeat(64).into()));
    let own = FIRST.jwt(&gate.claims());
    gate.is_in(&own);
    gate.fake.clock.pass_s(10);
    let forged = with_claims(&own, &gate.claims());
    for jwt in [&expired, &foreign, &forged] {
        gate.fake.kv.take_count();
        gate.fake.r2.take_count();
        refused(&gate.get(jwt), 401, "unauthorized");
        let paid = (gate.fake.kv.take_count(), gate.fake.r2.take_count());
        assert_eq!((paid.0.all(), paid.1.all()), (0, 0), "{jwt}");
    }
    assert_eq!(gate.asked.get(), 1);
}

#[test]
fn a_new_key_is_fetched_when_it_is_used_and_names_that_are_made_up_fetch_once_a_minute() {
    let gate = Gate::with_operator();
    let first = || FIRST.jwt(&gate.claims());
    let second = || SECOND.jwt(&gate.claims());
    gate.is_in(&first());
    refused(&gate.get(&second()), 401, "unauthorized");
    assert_eq!(gate.asked.get(), 1);
    // Access has a new key; the old one is still good.
    *gate.says.borrow_mut() = Ok((200, certs(&[&FIRST, &SECOND]).to_string()));
    gate.fake.clock.pass_s(59);
    refused(&gate.get(&second()), 401, "unauthorized");
    gate.fake.clock.pass_s(1);
    gate.is_in(&second());
    gate.is_in(&first());
    assert_eq!(gate.asked.get(), 2);
    for n in 0..100 {
        let header = json!({ "alg": "RS256", "kid": format!("made-up-{n}") });
        let jwt = SECOND.jwt_with(&header, &gate.claims());
        refused(&gate.get(&jwt), 401, "unauthorized");
        gate.fake.clock.pass_s(1);
    }
    assert_eq!(gate.asked.get(), 3);
    // What Access takes back is worth nothing an hour later at the latest.
    *gate.says.borrow_mut() = Ok((200, certs(&[&SECOND]).to_string()));
    gate.fake.clock.pass_s(3_600);
    refused(&gate.get(&first()), 401, "unauthorized");
    gate.is_in(&second());
    assert_eq!(gate.asked.get(), 4);
}

#[test]
fn keys_that_cannot_be_fetched_are_our_fault_and_known_ones_go_on() {
    let gate = Gate::with_operator();
    for says in [
        Err(NoAnswer::TimedOut),
        Err(NoAnswer::Unreachable),
        Ok((500, certs(&[&FIRST]).to_string())),
        Ok((302, String::new())),
        Ok((200, "<html>".to_owned())),
        Ok((200, certs(&[]).to_string())),
        Ok((200, certs(&[&FIRST]).to_string() + &" ".repeat(65_536))),
    ] {
        *gate.says.borrow_mut() = says.clone();
        let before = gate.asked.get();
        for _ in 0..3 {
            let answer = gate.get(&FIRST.jwt(&gate.claims()));
            refused(&answer, 503, "unavailable");
        }
        // Not once for each call.
        assert_eq!(gate.asked.get(), before + 1, "{says:?}");
        gate.fake.clock.pass_s(5);
    }
    // Others are not held up by that.
    let admin = call_by(ADMIN_TOKEN, Method::GET, "models", &Value::Null);
    assert_eq!(gate.send(&admin).status(), StatusCode::OK);
    *gate.says.borrow_mut() = Ok((200, certs(&[&FIRST]).to_string()));
    gate.is_in(&FIRST.jwt(&gate.claims()));
    *gate.says.borrow_mut() = Err(NoAnswer::TimedOut);
    gate.fake.clock.pass_s(60);
    refused(&gate.get(&SECOND.jwt(&gate.claims())), 503, "unavailable");
    gate.is_in(&FIRST.jwt(&gate.claims()));
    // And neither is a failing store the caller's fault.
    *gate.fake.r2.failing.borrow_mut() = Failing::Prefix("access/".to_owned());
    refused(&gate.get(&FIRST.jwt(&gate.claims())), 503, "unavailable");
}

#[test]
fn an_email_is_the_same_in_any_case_and_no_other_letter_passes_for_one() {
    let gate = Gate::new();
    gate.token("kim", &json!({ "email": "Kim@Acme.example" }));
    gate.is_in(&gate.of("Kim@Acme.example"));
    gate.is_in(&gate.of("kim@acme.example"));
    gate.is_in(&gate.of("KIM@ACME.EXAMPLE"));
    // The sign of the kelvin has the lower case `k`.
    for other in ["\u{212a}im@acme.example", "kim@acme.example.", "kim@acme"] {
        refused(&gate.get(&gate.of(other)), 403, "forbidden");
    }
    let body = json!({ "role": "owner", "access": { "email": "KIM@acme.example" } });
    let answer = call(&gate.fake, Method::PUT, "tokens/other", &body);
    refused(&answer, 409, "taken");
}

#[test]
fn whom_no_record_knows_is_told_so() {
    let gate = Gate::with_operator();
    let answer = gate.get(&gate.of("eve@acme.example"));
    refused(&answer, 403, "forbidden");
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(body["detail"], "eve@acme.example is not known here");
    assert!(gate.fake.logged().contains("admin.unknown"));
    assert!(!gate.fake.logged().contains("eve@"));
}

#[test]
fn a_name_is_one_tokens_and_what_is_left_of_it_lets_nobody_in() {
    let gate = Gate::with_operator();
    let fake = &gate.fake;
    let body = json!({ "role": "owner", "access": { "email": EMAIL } });
    let taken = call(fake, Method::PUT, "tokens/second", &body);
    refused(&taken, 409, "taken");
    let problem: Value = serde_json::from_slice(taken.body()).unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/access");
    let none = call(fake, Method::GET, "tokens/second", &Value::Null);
    refused(&none, 404, "not_found");
    // The same again is none of it.
    gate.token("ops", &json!({ "email": EMAIL }));
    gate.is_in(&gate.of(EMAIL));

    // Deleted, it is free, also if that was not noted.
    let key = fake.r2.keys("access/").pop().unwrap();
    delete(fake, "tokens/ops");
    refused(&gate.get(&gate.of(EMAIL)), 403, "forbidden");
    let points = |at: &str| {
        let put = fake.r2.put(
            &key,
            at.into(),
            std::collections::BTreeMap::new(),
            Only::Always,
        );
        block_on(put).unwrap();
    };
    points("ops");
    refused(&gate.get(&gate.of(EMAIL)), 403, "forbidden");
    put(fake, "tokens/second", &body);
    let tenant = gate.call(&gate.of(EMAIL), Method::PUT, "tenants/new", &json!({}));
    assert_eq!(tenant.status(), StatusCode::CREATED);
    // One that comes back under its id has no part in it.
    put(fake, "tokens/ops", &json!({ "role": "reader" }));
    points("ops");
    refused(&gate.get(&gate.of(EMAIL)), 403, "forbidden");
    gate.token("third", &json!({ "email": "third@acme.example" }));
    points("third");
    refused(&gate.get(&gate.of(EMAIL)), 403, "forbidden");
    for nobody in ["", "none", "../token/second", "ADMIN"] {
        points(nobody);
        refused(&gate.get(&gate.of(EMAIL)), 403, "forbidden");
    }
}

#[test]
fn the_record_says_what_it_is_worth_now() {
    let gate = Gate::with_operator();
    let fake = &gate.fake;
    let write = || gate.call(&gate.of(EMAIL), Method::PUT, "tenants/alpha", &json!({}));
    refused(&write(), 403, "forbidden");
    patch(fake, "tokens/ops", &json!({ "role": "owner" }));
    assert_eq!(write().status(), StatusCode::OK);
    let end = fake.now().plus(60);
    patch(fake, "tokens/ops", &json!({ "expires_at": end }));
    fake.clock.pass_s(59);
    gate.is_in(&gate.of(EMAIL));
    fake.clock.pass_s(1);
    refused(&gate.get(&gate.of(EMAIL)), 403, "forbidden");
    // It is somebody else's, and then whoever's shows a text.
    let new = "new@acme.example";
    patch(
        fake,
        "tokens/ops",
        &json!({ "expires_at": null, "access": { "email": new } }),
    );
    refused(&gate.get(&gate.of(EMAIL)), 403, "forbidden");
    gate.is_in(&gate.of(new));
    let rotate = call(fake, Method::POST, "tokens/ops/rotate", &json!({}));
    refused(&rotate, 422, "invalid");
    let shown = patch(fake, "tokens/ops", &json!({ "access": null }));
    let bearer = shown["token"].as_str().unwrap();
    refused(&gate.get(&gate.of(new)), 403, "forbidden");
    let by_text = || {
        let request = call_by(bearer, Method::GET, "tenants/alpha", &Value::Null);
        gate.send(&request).status()
    };
    assert_eq!(by_text(), StatusCode::OK);
    // And back: its text is worth nothing from then on.
    patch(fake, "tokens/ops", &json!({ "access": { "email": EMAIL } }));
    assert_eq!(by_text(), StatusCode::UNAUTHORIZED);
    gate.is_in(&gate.of(EMAIL));
}

#[test]
fn a_bearer_token_goes_before_and_without_the_variables_there_is_no_such_way() {
    let gate = Gate::with_operator();
    let jwt = gate.of(EMAIL);
    let admin = call_by(ADMIN_TOKEN, Method::GET, "tenants/bravo", &Value::Null);
    let admin = gate.send(&admin.with(HEADER, &jwt));
    assert_eq!(admin.status(), StatusCode::OK);
    for other in ["Bearer wrong", "Basic eDp5", ""] {
        let request = request(&jwt, Method::GET, "tenants/alpha", &Value::Null);
        let answer = gate.send(&request.with("authorization", other));
        refused(&answer, 401, "unauthorized");
    }
    let plain = request(&jwt, Method::GET, "tenants/alpha", &Value::Null).plain();
    refused(&gate.send(&plain), 403, "insecure");
    assert_eq!(gate.asked.get(), 0);
    let request = request(&jwt, Method::GET, "tenants/alpha", &Value::Null);
    let place = Place {
        public_url: None,
        access: None,
    };
    refused(&fetch_at(&gate.fake, &place, &request), 401, "unauthorized");
    gate.is_in(&jwt);
}

#[test]
fn no_form_of_another_site_does_anything_in_the_name_of_who_sees_it() {
    // The browser adds Access's cookie, and Access makes a JWT of it.
    let gate = Gate::new();
    let body = json!({ "role": "owner", "access": { "email": EMAIL } });
    put(&gate.fake, "tokens/boss", &body);
    let made = put(&gate.fake, "tokens/ci", &json!({ "role": "reader" }));
    let ci = made["token"].as_str().unwrap();
    let rotate = request(
        &gate.of(EMAIL),
        Method::POST,
        "tokens/ci/rotate",
        &Value::Null,
    );
    for form in [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/plain; application/json",
        "",
    ] {
        let answer = gate.send(&rotate.clone().with("content-type", form));
        refused(&answer, 415, "unsupported_media_type");
    }
    let mut bare = rotate.clone();
    bare.headers.remove("content-type");
    refused(&gate.send(&bare), 415, "unsupported_media_type");
    let own = call_by(ci, Method::GET, "models", &Value::Null);
    assert_eq!(gate.send(&own).status(), StatusCode::OK);
    // What a browser asks for first is not granted.
    let preflight = gate.call(
        &gate.of(EMAIL),
        Method::OPTIONS,
        "tokens/ci/rotate",
        &Value::Null,
    );
    assert_eq!(preflight.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(header(&preflight, "access-control-allow-origin"), "");
    assert_eq!(gate.send(&rotate).status(), StatusCode::OK);
}

#[test]
fn a_name_that_another_tenant_has_is_told_a_few_times_and_written_down() {
    let gate = Gate::with_operator();
    let fake = &gate.fake;
    let owner = json!({ "role": "owner", "tenant": "bravo" });
    let owner = put(fake, "tokens/bravo-owner", &owner);
    let owner = owner["token"].as_str().unwrap();
    let make = |id: &str, email: &str| {
        let access = json!({ "email": email });
        let body = json!({ "role": "reader", "tenant": "bravo", "access": access });
        let path = format!("tokens/{id}");
        gate.send(&call_by(owner, Method::PUT, &path, &body))
    };
    fake.limit(Limit::AdminTaken, 2);
    assert_eq!(make("b1", "b@bravo.example").status(), StatusCode::CREATED);
    refused(&make("b2", EMAIL), 409, "taken");
    refused(&make("b1", EMAIL), 409, "taken");
    assert_eq!(fake.audited("record.taken").len(), 2);
    refused(&make("b1", EMAIL), 429, "too_many");
    // From now on what is taken answers like what is free.
    fake.limit(Limit::AdminTaken, u32::MAX);
    for id in ["b1", "b2"] {
        let (taken, free) = (make(id, EMAIL), make(id, "free@bravo.example"));
        refused(&free, 429, "too_many");
        assert_eq!(text(&taken), text(&free));
    }
    gate.is_in(&gate.of(EMAIL));
    // Its own stays its own.
    assert_eq!(make("b1", "b@bravo.example").status(), StatusCode::OK);
}

#[test]
fn two_who_take_a_name_at_once_do_not_both_have_it() {
    let gate = Gate::new();
    let fake = Rc::clone(&gate.fake);
    // The second one is quicker than the first, just before that one takes the name.
    gate.fake.r2.before_next_put("access/", move || {
        let body = json!({ "role": "reader", "access": { "email": EMAIL } });
        put(&fake, "tokens/quick", &body);
    });
    let body = json!({ "role": "owner", "access": { "email": EMAIL } });
    let slow = call(&gate.fake, Method::PUT, "tokens/slow", &body);
    refused(&slow, 409, "taken");
    let write = gate.call(&gate.of(EMAIL), Method::PUT, "tenants/new", &json!({}));
    refused(&write, 403, "forbidden");
    gate.is_in(&gate.of(EMAIL));
}

#[test]
fn who_it_is_for_is_checked() {
    let gate = Gate::new();
    for (access, pointer) in [
        (json!({}), "/access"),
        (json!("email"), "/access"),
        (json!({ "email": "no address" }), "/access/email"),
        (json!({ "email": "a@b@c" }), "/access/email"),
        (json!({ "email": "@acme.example" }), "/access/email"),
        (json!({ "email": "a b@acme.example" }), "/access/email"),
        (
            json!({ "email": format!("{}@a", "a".repeat(253)) }),
            "/access/email",
        ),
        (json!({ "common_name": "" }), "/access/common_name"),
        (json!({ "group": "ops" }), "/access/group"),
        (
            json!({ "email": EMAIL, "common_name": "x" }),
            "/access/email",
        ),
    ] {
        let body = json!({ "role": "reader", "access": access });
        let answer = call(&gate.fake, Method::PUT, "tokens/x", &body);
        refused(&answer, 422, "invalid");
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    assert_eq!(gate.fake.r2.keys("access/"), Vec::<String>::new());
}
