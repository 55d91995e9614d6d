//! A phone's files of before: in R2's simulator, over real HTTP.

use serde_json::{Value, json};

use crate::office::Office;

#[test]
fn a_phone_goes_back_to_its_files_of_before_with_todays_password() {
    let office = Office::open("versions");
    let made = office.yealink(&json!({}));
    let path = |rest: &str| format!("devices/{}{rest}", made.mac);
    let acc = || made.fetch("ACC.cfg").text();
    let first = office.admin.get(&path("/files"))["version"]
        .as_u64()
        .unwrap();
    let was = acc();

    let line = json!({ "line": 1, "account": "versions-1001", "label": "Wrong" });
    office.admin.patch(&path(""), &json!({ "lines": [line] }));
    assert!(acc().contains("Wrong"));
    let files = office.admin.get(&path("/files"));
    let versions: Vec<&Value> = files["versions"].as_array().unwrap().iter().collect();
    assert_eq!(versions.len(), 2, "{files}");
    assert_eq!(
        (&versions[0]["current"], &versions[1]["version"]),
        (&json!(true), &json!(first))
    );
    let former = path(&format!("/files/ACC.cfg?version={first}"));
    let former = office.admin.call("GET", &former, None).text();
    assert!(
        former.contains("Number 1001") && former.contains("********"),
        "{former}"
    );
    let diff = path(&format!("/diff?from={first}"));
    let diff = office.admin.call("GET", &diff, None);
    assert_eq!(
        diff.header("content-type"),
        Some("text/x-diff; charset=utf-8")
    );
    assert!(
        diff.text().contains("+account.1.label = Wrong"),
        "{}",
        diff.text()
    );

    let new = json!({ "password": format!("{}-again", office.password("1001")) });
    office.admin.patch(&office.account("1001"), &new);
    let body = json!({ "version": first });
    let back = office.admin.call("POST", &path("/rollback"), Some(&body));
    assert_eq!(back.status, 200, "{}", back.text());
    let is = acc();
    assert_eq!(
        is,
        was.replace(&office.password("1001"), new["password"].as_str().unwrap())
    );

    let device = json!({
        "tenant": "versions", "vendor": "yealink", "model": "T46U",
        "lines": [{ "line": 1, "account": "versions-1002" }],
    });
    let body = json!({ "mac": made.mac, "device": device });
    let shown = office.admin.call("POST", "preview", Some(&body));
    assert_eq!(shown.status, 200, "{}", shown.text());
    assert!(
        shown.text().contains("+account.1.user_name = 1002"),
        "{}",
        shown.text()
    );
    assert_eq!(acc(), is);

    let unpinned = office.admin.call("POST", &path("/unpin"), Some(&json!({})));
    assert_eq!(unpinned.status, 200, "{}", unpinned.text());
    assert!(acc().contains("Wrong"));
    // Nothing of a version holds a password: what ends with the office looks for it.
}
