//! After everything that a Dialtone does with them, no password, PIN or token stands in clear in
//! what KV and R2 keep on disk, nor in the log.

use dialtone_kit::http;
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::json;

use crate::clear::{self, Secret};
use crate::cron::{Ari, endpoint};
use crate::office::{Office, fresh_source};
use crate::phone::SoftPhone;

#[test]
fn no_secret_stands_in_clear_in_the_stores_or_in_the_log() {
    let worker = Workerd::start(&Options::new()).unwrap();
    let office = Office::open_at(&worker, "leaks", &json!({}));
    let ari = Ari::start();
    ari.says(200, &json!([endpoint(("1001", "online"))]));
    let mut pbx = office.pbx_at(ari.url());
    pbx["ami"] = json!({"url": ari.url(), "username": "ami", "password": "leaks-ami-password"});
    pbx["headers"] = json!({"CF-Access-Client-Secret": "leaks-access-secret"});
    office.admin.put(&office.pbx(), &pbx);
    let mut secrets = vec![
        ("the admin token", worker.admin_token().to_owned()),
        ("the seal key", worker.seal_key().to_owned()),
        ("an account's password", office.password("1001")),
        ("another account's password", office.password("1002")),
        ("the ARI password", "leaks-ari-password".to_owned()),
        ("the AMI password", "leaks-ami-password".to_owned()),
        ("a header for the PBX", "leaks-access-secret".to_owned()),
        ("a PIN", "leaks-pin-4711".to_owned()),
        ("a new password", "leaks-new-password".to_owned()),
        ("a refused password", "leaks-refused-\u{e4}".to_owned()),
    ];

    // Phones of both kinds come, fetch, are rotated; a record is changed, refused, shown, deleted.
    let yealink = office.yealink(&json!({"arm": "24h"}));
    let mut phone = office.unbox(&yealink);
    phone.switch_on().unwrap();
    let linphone = office.linphone(&json!({}));
    let mut soft = SoftPhone::new(
        &format!("{}{}.xml", linphone.first_access(), linphone.mac),
        fresh_source(),
    );
    soft.start().unwrap();
    soft.start().unwrap();
    secrets.push((
        "the hash of a password",
        soft.setting("auth_info_0/ha1").to_owned(),
    ));
    let made = office.admin.put(
        "accounts/leaks-made",
        &json!({"tenant": "leaks", "pbx": "leaks-pbx", "username": "1003", "pin": "leaks-pin-4711"}),
    );
    assert_eq!(made["pin"], json!(null));
    let third = office.yealink(&json!({"lines": [{"line": 1, "account": "leaks-made"}]}));
    let acc = crate::readers::yealink(&third.fetch("ACC.cfg").text()).unwrap();
    secrets.push((
        "a password that was made",
        acc.settings["account.1.password"].clone(),
    ));
    office.admin.patch(
        &office.account("1001"),
        &json!({"password": "leaks-new-password"}),
    );
    let refused = json!({"password": "leaks-refused-\u{e4}"});
    assert_eq!(
        office
            .admin
            .call("PATCH", &office.account("1001"), Some(&refused))
            .status,
        422
    );
    for (made, name) in [(&yealink, "all.cfg"), (&linphone, "ACC.cfg")] {
        let path = format!("devices/{}", made.mac);
        office
            .admin
            .call("GET", &format!("{path}/files/{name}?secrets=1"), None);
        office.admin.get(&format!("{path}?secrets=1"));
        office.admin.post(&format!("{path}/rotate"), &json!({}));
    }
    phone.switch_on().unwrap();
    soft.start().unwrap();
    worker.trigger_cron().unwrap();
    office.wait_for(&yealink, "registered");
    office.admin.delete(&format!("devices/{}", third.mac));
    office.admin.delete("accounts/leaks-made");
    worker.trigger_cron().unwrap();
    guess(&worker, third.base(), yealink.first_access());
    secrets.push(("a wrong token", "leaks-wrong-token".to_owned()));

    let mut tokens: Vec<Secret> = Vec::new();
    for made in [&yealink, &linphone, &third] {
        tokens.push(("a token", segment(made.base())));
        tokens.push(("a first-access key", segment(made.first_access())));
    }
    tokens.push(("a new token", segment(&phone.server)));

    let all = [secrets.clone(), tokens.clone()].concat();
    no_answer_holds(&office, &yealink.mac, &all);
    clear::not_in_files(worker.persist_dir(), &all, "leaks-1001");

    let log = worker.log();
    clear::not_in("the log", &log, &secrets);
    // `wrangler dev` itself has a line for each request with its whole URL; a deployed Worker's own
    // lines are all there is (`invocation_logs` in wrangler.toml). A serial is a proof as well.
    tokens.push(("a serial", yealink.serial.clone()));
    let ours: String = log
        .lines()
        .filter(|line| line.contains("\"event\":"))
        .collect();
    assert!(ours.contains("\"action\":\"device.rotated\""), "{log}");
    clear::not_in("the Worker's own log", &ours, &tokens);
}

/// Guesses and faults get into logs as well.
fn guess(worker: &Workerd, ended: &str, key: &str) {
    http::get(&format!("{ended}ACC.cfg")).send().unwrap();
    http::get(&format!("{key}x")).send().unwrap();
    http::get(&format!("{}/api/v1/x", worker.url()))
        .bearer("leaks-wrong-token")
        .send()
        .unwrap();
}

/// Reads everything that an admin can read without asking for secrets, and what is said of calls that
/// are wrong.
#[track_caller]
fn no_answer_holds(office: &Office, mac: &str, secrets: &[Secret]) {
    let mut paths: Vec<String> = [
        "tenants",
        "profiles",
        "pbxes",
        "accounts",
        "devices",
        "rules",
        "status",
        "models",
        "audit",
        "tokens",
        "tenants/leaks",
        "pbxes/leaks-pbx",
        "accounts/leaks-1001",
        "nothing",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    for rest in ["", "/status", "/files"] {
        paths.push(format!("devices/{mac}{rest}"));
    }
    for name in ["boot.cfg", "first.cfg", "ACC.cfg", "BTN.cfg", "all.cfg"] {
        paths.push(format!("devices/{mac}/files/{name}"));
    }
    let mut answers: Vec<(String, String)> = paths
        .into_iter()
        .map(|path| {
            let answer = office.admin.call("GET", &path, None).text();
            (path, answer)
        })
        .collect();
    let own = &secrets[2].1;
    for (method, path, body) in [
        ("POST", "explain", json!({"mac": mac, "serial": "1"})),
        (
            "PUT",
            "accounts/leaks-1001",
            json!({"tenant": "leaks", "password": own}),
        ),
        (
            "PATCH",
            "accounts/leaks-1001",
            json!({"username": 1, "password": own}),
        ),
        ("PATCH", "accounts/leaks-1001", json!({"pin": [own]})),
    ] {
        let answer = office.admin.call(method, path, Some(&body)).text();
        answers.push((format!("{method} {path} {body}"), answer));
    }
    for (what, answer) in &answers {
        assert!(!answer.is_empty(), "{what}");
        clear::not_in(what, answer, secrets);
    }
}

/// The last segment of a URL that ends in a slash.
fn segment(url: &str) -> String {
    url.rsplit('/').nth(1).unwrap_or_default().to_owned()
}
