//! What only Gigaset phones have.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::catalogue;
use crate::vendors::gigaset::KIT;

#[test]
fn what_an_older_base_or_a_maxwell_cannot_be_told_is_refused() {
    let fake = catalogue::office();
    let path = format!("devices/{}", KIT.mac);
    let pbx = json!({
        "tenant": "acme", "ari_url": "https://pbx.example.com/ari", "ari_username": "dialtone",
        "ari_password": "ari", "sip": { "host": "other.example.com" },
    });
    crate::ask::put(&fake, "pbxes/other", &pbx);
    let account = json!({ "tenant": "acme", "pbx": "other", "username": "1003" });
    crate::ask::put(&fake, "accounts/1003", &account);
    let device = |model: &str, lines: Value| json!({ "tenant": "acme", "vendor": "gigaset", "model": model, "lines": lines });
    let quoted = json!([{ "line": 1, "account": "1001", "label": "a \"b\" c" }]);
    let mixed = json!([{ "line": 1, "account": "1001" }, { "line": 2, "account": "1003" }]);
    for (model, lines, fine) in [
        ("N510", &quoted, false),
        ("N720", &quoted, false),
        ("N610", &quoted, true),
        ("N510", &mixed, true),
        ("Maxwell3", &quoted, true),
        ("Maxwell3", &mixed, false),
        ("N610", &mixed, true),
        ("P850", &mixed, true),
    ] {
        let answer = crate::ask::call(&fake, Method::PUT, &path, &device(model, lines.clone()));
        let refused = answer.status() == StatusCode::UNPROCESSABLE_ENTITY;
        assert_eq!(refused, !fine, "{model} {lines}");
    }
}
