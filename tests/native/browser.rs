//! What a browser may do with what Dialtone answers: nothing.

use http::{Method, StatusCode};
use serde_json::Value;

use crate::ask::{Told, call, fetch, get, header};
use crate::phone::{MAC, Office, SERIAL};

#[test]
fn no_other_site_reads_the_admin_api_and_nothing_of_it_runs() {
    let office = Office::new();
    let fake = &office.fake;
    for (method, path) in [
        (Method::GET, "devices"),
        (Method::GET, "nothing"),
        (Method::OPTIONS, "devices"),
        (Method::PUT, "tenants/acme"),
    ] {
        let answer = call(fake, method.clone(), path, &Value::Null);
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        assert_eq!(header(&answer, "referrer-policy"), "no-referrer");
        let policy = header(&answer, "content-security-policy");
        assert_eq!(policy, "default-src 'none'; frame-ancestors 'none'");
        let mut names = answer.headers().keys();
        assert!(!names.any(|name| name.as_str().starts_with("access-control")));
        // Without a token it is no other.
        let request = get(&format!("/api/v1/{path}"))
            .by(method)
            .with("origin", "https://evil.example");
        let answer = fetch(fake, &request);
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let mut names = answer.headers().keys();
        assert!(!names.any(|name| name.as_str().starts_with("access-control")));
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
    }
}

#[test]
fn a_redirect_tells_its_token_to_nobody_else() {
    let office = Office::new();
    let path = format!("/rps?mac={MAC}&serial={SERIAL}&redirect=302");
    let answer = fetch(&office.fake, &get(&path));
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert_eq!(header(&answer, "referrer-policy"), "no-referrer");
    assert_eq!(
        header(&answer, "cache-control"),
        "private, no-store, no-transform"
    );
}
