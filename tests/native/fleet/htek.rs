//! What only Htek phones have.

use serde_json::Value;

use super::catalogue;
use crate::vendors::htek::KIT;

#[test]
fn a_line_after_the_fourth_takes_the_profile_of_its_pbx_or_a_free_one_or_is_refused() {
    use crate::ask::{call, json_of, put};
    use http::Method;
    use serde_json::json;
    let fake = catalogue::office();
    for id in ["a", "b", "c", "d"] {
        let pbx = json!({
            "tenant": "acme", "ari_url": "https://pbx.example.com/ari", "ari_username": "x",
            "ari_password": "x", "sip": { "host": format!("{id}.example.com") },
        });
        put(&fake, &format!("pbxes/{id}"), &pbx);
        let account = json!({ "tenant": "acme", "pbx": id, "username": id, "password": "secret" });
        put(&fake, &format!("accounts/{id}"), &account);
    }
    let path = format!("devices/{}", KIT.mac);
    let with = |lines: &[(u8, &str)]| {
        let lines: Vec<Value> = lines
            .iter()
            .map(|(line, account)| json!({ "line": line, "account": account }))
            .collect();
        json!({ "tenant": "acme", "vendor": "htek", "model": "UC926", "lines": lines })
    };
    for lines in [
        [(1, "a"), (2, "b"), (5, "1001"), (6, "1002"), (8, "c")],
        [(1, "1001"), (2, "b"), (3, "c"), (4, "d"), (7, "1002")],
    ] {
        put(&fake, &path, &with(&lines));
        let secrets = format!("{path}?secrets=1");
        let created = json_of(&call(&fake, Method::GET, &secrets, &Value::Null));
        let documents = catalogue::documents(&fake, &KIT, &created);
        let model = catalogue::model("htek", "UC926");
        let seen = (KIT.see)(
            &(KIT.read)("", &documents["p/cfg001fc1000001.xml"]).unwrap(),
            &model,
        );
        for (number, account) in lines {
            let line = &seen.lines[&u64::from(number)];
            assert_eq!(line.user, account);
            let host = match account {
                "1001" | "1002" => "sip.example.com".to_owned(),
                other => format!("{other}.example.com"),
            };
            assert_eq!(line.host, host);
        }
    }
    let five = [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "1001")];
    let refused = call(&fake, Method::PUT, &path, &with(&five));
    assert_eq!(refused.status(), 422);
    let problem: Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/lines/4/account");
}
