//! A Worker whose secrets are missing, or too short to be secrets, serves nobody and says which one
//! it is. That what is secret stands nowhere in clear is in `leaks`.

use dialtone_kit::http;
use dialtone_kit::workerd::{Options, Workerd};

use crate::office::{eventually, fresh_source};

/// What is not good enough, and the variable that the log must name.
#[track_caller]
fn serves_nobody(options: &Options, variable: &str) {
    serves_nobody_and_says(options, "secret.missing", variable);
}

/// The same with the event that the log must have.
#[track_caller]
fn serves_nobody_and_says(options: &Options, event: &str, variable: &str) {
    let worker = Workerd::start(options).unwrap();
    for path in [
        "/",
        "/rps",
        "/rps?mac=805ec0000001&serial=1",
        "/rps/805ec0000001.boot",
        "/rps/y000000000028.cfg",
        "/p/x/ACC.cfg",
        "/api/v1/status",
        "/api/v1/tenants/acme",
    ] {
        for method in ["GET", "HEAD", "PUT"] {
            let url = format!("{}{path}", worker.url());
            let token = worker.admin_token();
            let request = http::request(method, &url)
                .source(fresh_source())
                .bearer(token);
            let answer = request.send().unwrap();
            assert_eq!(answer.status, 503, "{method} {path}: {}", answer.text());
            assert!(
                answer.header("retry-after").is_some(),
                "{method} {path}: {:?}",
                answer.headers
            );
        }
    }
    worker.trigger_cron().unwrap();
    let line = format!(r#"{{"event":"{event}","variable":"{variable}"}}"#);
    let said = eventually(|| {
        let log = worker.log();
        if log.contains(&line) {
            Ok(())
        } else {
            Err(log)
        }
    });
    assert_eq!(said, Ok(()), "no {line} in the log");
    let log = worker.log();
    for secret in [worker.admin_token(), worker.seal_key()] {
        let shows = !secret.is_empty() && log.contains(secret);
        assert!(!shows, "{secret} stands in the log: {log}");
    }
}

#[test]
fn without_an_admin_token_every_route_is_unavailable() {
    serves_nobody(&Options::new().without_secret("ADMIN_TOKEN"), "ADMIN_TOKEN");
}

#[test]
fn with_a_short_admin_token_every_route_is_unavailable() {
    let short = "only-thirty-one-characters-long";
    assert_eq!(short.len(), 31);
    serves_nobody(&Options::new().secret("ADMIN_TOKEN", short), "ADMIN_TOKEN");
}

#[test]
fn without_a_seal_key_every_route_is_unavailable() {
    serves_nobody(&Options::new().without_secret("SEAL_KEY"), "SEAL_KEY");
}

#[test]
fn with_a_short_seal_key_every_route_is_unavailable() {
    // 31 bytes.
    let short = "c2hvcnQtc2hvcnQtc2hvcnQtc2hvcnQtc2hvcnQtcw==";
    serves_nobody(&Options::new().secret("SEAL_KEY", short), "SEAL_KEY");
}

#[test]
fn with_a_former_seal_key_that_is_none_every_route_is_unavailable() {
    serves_nobody(
        &Options::new().secret("SEAL_KEY_OLD", "bm9uZQ=="),
        "SEAL_KEY_OLD",
    );
}

#[test]
fn with_half_of_what_access_needs_every_route_is_unavailable() {
    let team = Options::new().var("ACCESS_TEAM", "https://acme.cloudflareaccess.com");
    serves_nobody_and_says(&team, "access.invalid", "ACCESS_AUD");
}
