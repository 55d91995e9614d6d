//! Callers who come by Cloudflare Access, with the runtime's own `WebCrypto`. What else a JWT may say is in the native
//! ring.

use std::time::{SystemTime, UNIX_EPOCH};

use dialtone_kit::http::{self, Response};
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::cron::Ari;
use crate::issuer::{AUD, FIRST, SECOND, certs, with_claims};
use crate::office::fresh_source;

fn get(worker: &Workerd, jwt: &str) -> Response {
    http::get(&format!("{}/api/v1/models", worker.url()))
        .source(fresh_source())
        .header("Cf-Access-Jwt-Assertion", jwt)
        .send()
        .unwrap()
}

#[test]
fn the_runtime_tells_a_signature_of_access_from_any_other() {
    let team = Ari::start();
    team.says(200, &certs(&[&FIRST]));
    let origin = team.url().trim_end_matches("/ari");
    let options = Options::new()
        .var("ACCESS_TEAM", origin)
        .var("ACCESS_AUD", AUD);
    let worker = Workerd::start(&options).unwrap();
    let access = json!({ "email": "ops@acme.example" });
    let token = json!({ "role": "reader", "access": access });
    Admin::of(&worker).put("tokens/ops", &token);

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = |email: &str| -> Value {
        let exp = now.as_secs() + 600;
        json!({ "iss": origin, "aud": [AUD], "exp": exp, "email": email })
    };
    let good = FIRST.jwt(&claims("ops@acme.example"));
    let answer = get(&worker, &good);
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Access knows her, and no record does: 403. What Access did not sign is 401.
    let other = FIRST.jwt(&claims("eve@acme.example"));
    assert_eq!(get(&worker, &other).status, 403);
    let changed = with_claims(&other, &claims("ops@acme.example"));
    assert_eq!(get(&worker, &changed).status, 401);
    let header = json!({ "alg": "RS256", "kid": FIRST.kid });
    let forged = SECOND.jwt_with(&header, &claims("ops@acme.example"));
    assert_eq!(get(&worker, &forged).status, 401);
    assert_eq!(get(&worker, &good).status, 200);

    let log = worker.log();
    for jwt in [&good, &other, &changed, &forged] {
        assert!(!log.contains(jwt.as_str()), "{log}");
    }
}
