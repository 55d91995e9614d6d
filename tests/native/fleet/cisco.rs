//! What only Cisco phones have.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{call, patch, put};
use crate::fixtures::CASES;
use crate::phone::Office;
use crate::vendors::cisco::KIT;

#[test]
fn a_multiplatform_phone_encrypts_as_its_pbx_demands() {
    let case = |name: &str| CASES.iter().find(|case| case.name == name).unwrap();
    let read = |name: &str| (KIT.read)("", &case(name).documents["p/ACC.cfg"]).unwrap();
    let tls = read("cisco/tls-srtp-backup");
    assert_eq!(tls["Secure_Call_Serv"], "Yes");
    assert_eq!(tls["Secure_Call_Setting"], "Yes");
    assert_eq!(tls["Secure_Call_Option_1_"], "Required");
    let plain = read("cisco/one-line");
    assert_eq!(plain["Secure_Call_Setting"], "No");
    assert_eq!(plain["Secure_Call_Option_1_"], "Optional");
    let former = read("cisco/former-tls-srtp-backup");
    assert_eq!(former["Secure_Call_Setting"], "Yes");
    assert_eq!(former["SRTP_Method"], "s-descriptor");
}

#[test]
fn a_name_that_a_line_without_a_label_cannot_show_is_refused_with_its_account() {
    let office = Office::new();
    let fake = &office.fake;
    let device = json!({
        "tenant": "acme",
        "vendor": "cisco",
        "model": "8851",
        "lines": [{ "line": 1, "account": "acme-1001" }],
    });
    put(fake, "devices/00562b000001", &device);
    let name = json!({ "display_name": "Bob $USER" });

    let refused = call(fake, Method::PATCH, "accounts/acme-1001", &name);
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = serde_json::from_slice(refused.body()).unwrap();
    let errors = &problem["errors"];
    assert_eq!(errors.as_array().unwrap().len(), 1);
    assert_eq!(errors[0]["pointer"], "/display_name");
    let why = "as the line's label, its display_name must not hold $USER or $PROXY, in whose place \
               the phone puts its own in the files of Cisco phones";
    let detail = format!("the device 00562b000001 has it: {why}");
    assert_eq!(errors[0]["detail"], detail.as_str());

    // A line with a label of its own shows that one.
    let own = json!({ "lines": [{ "line": 1, "account": "acme-1001", "label": "Bob" }] });
    patch(fake, "devices/00562b000001", &own);
    patch(fake, "accounts/acme-1001", &name);

    // And it cannot be taken from it any more.
    let bare = json!({ "lines": [{ "line": 1, "account": "acme-1001" }] });
    let refused = call(fake, Method::PATCH, "devices/00562b000001", &bare);
    let problem: Value = serde_json::from_slice(refused.body()).unwrap();
    let errors = &problem["errors"];
    assert_eq!(errors.as_array().unwrap().len(), 1);
    assert_eq!(errors[0]["pointer"], "/lines/0/account");
    assert_eq!(errors[0]["detail"], why);
}
