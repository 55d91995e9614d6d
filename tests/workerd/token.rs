//! A device's token: given out anew without losing the phone, or ended at once.

use dialtone_kit::http;
use serde_json::json;

use crate::office::{Office, eventually, fetch, fresh_source};
use crate::phone::SoftPhone;

#[test]
fn after_a_rotation_the_phone_finds_the_new_token_and_the_old_one_ends() {
    let office = Office::open("token-rotate");
    let made = office.yealink(&json!({"arm": "24h"}));
    let mut phone = office.unbox(&made);
    phone.switch_on().unwrap();
    office.wait_for(&made, "configured");

    // Twice, as after a slip of the hand: the phone still has the one before both.
    for _ in 0..2 {
        let rotated = office
            .admin
            .post(&format!("devices/{}/rotate", made.mac), &json!({}));
        assert!(rotated["former_until"].is_string(), "{rotated}");
    }
    let news = office.look_up(&made)["url"].as_str().unwrap().to_owned();
    assert_ne!(news, made.base());
    let old = made.fetch("ACC.cfg");
    assert_eq!(
        old.status,
        200,
        "the old token ended before the new one was used: {}",
        old.text()
    );

    phone.asked.clear();
    phone.switch_on().unwrap();
    assert_eq!(phone.server, news, "asked {:?}", phone.asked);
    assert_eq!(phone.setting("account.1.password"), office.password("1001"));
    let ended = eventually(|| match made.fetch("ACC.cfg").status {
        404 => Ok(()),
        status => Err(status),
    });
    assert_eq!(ended, Ok(()), "the old token after the new one was used");
    let head = http::head(&format!("{}ACC.cfg", made.base()))
        .send()
        .unwrap();
    assert_eq!(head.status, 404);
    phone.switch_on().unwrap();
}

#[test]
fn a_linphone_follows_a_rotation_too() {
    let office = Office::open("token-linphone");
    let made = office.linphone(&json!({}));
    let mut phone = SoftPhone::new(
        &format!("{}{}.xml", made.first_access(), made.mac),
        fresh_source(),
    );
    phone.start().unwrap();
    phone.start().unwrap();
    office
        .admin
        .post(&format!("devices/{}/rotate", made.mac), &json!({}));
    phone.start().unwrap();
    assert!(
        !phone.config_uri.starts_with(made.base()),
        "stays at {}",
        phone.config_uri
    );
    phone.start().unwrap();
    let old = format!("{}.xml", made.mac);
    let ended = eventually(|| match made.fetch(&old).status {
        404 => Ok(()),
        status => Err(status),
    });
    assert_eq!(ended, Ok(()), "the old token after the new one was used");
    phone.start().unwrap();
}

#[test]
fn after_a_revocation_there_is_nothing_but_the_way_through_the_rps() {
    let office = Office::open("token-revoke");
    let made = office.yealink(&json!({"arm": "24h"}));
    let mut phone = office.unbox(&made);
    phone.switch_on().unwrap();
    // One before a rotation goes as well as the one after it.
    office
        .admin
        .post(&format!("devices/{}/rotate", made.mac), &json!({}));
    let rotated = office.look_up(&made)["url"].as_str().unwrap().to_owned();
    office
        .admin
        .post(&format!("devices/{}/revoke", made.mac), &json!({}));

    for base in [made.base(), &rotated] {
        for name in ["boot.cfg", "ACC.cfg", "BTN.cfg", "redirect.cfg"] {
            let answer = fetch(base, name);
            assert_eq!(answer.status, 404, "{base}{name}: {}", answer.text());
        }
    }
    assert!(phone.switch_on().is_err(), "{phone:?}");
    let key = fetch(made.first_access(), &format!("{}.boot", made.mac));
    assert_eq!(key.status, 404, "the first-access key: {}", key.text());
    let window = office.rps(&format!("/{}.boot", made.mac)).send().unwrap();
    assert_eq!(window.status, 404, "the window: {}", window.text());

    // The phone itself is let in again, by what is printed on it.
    let url = office.look_up(&made)["url"].as_str().unwrap().to_owned();
    assert!(url != made.base() && url != rotated, "{url} opens again");
    assert_eq!(fetch(&url, "ACC.cfg").status, 200);
}

#[test]
fn a_device_that_was_deleted_and_made_again_has_new_tokens() {
    let office = Office::open("token-again");
    let made = office.yealink(&json!({}));
    let path = format!("devices/{}", made.mac);
    let mut record = office.admin.get(&path);
    record["serial"] = json!(made.serial);
    office.admin.delete(&path);
    assert_eq!(made.fetch("ACC.cfg").status, 404, "a deleted device's file");
    let again = office.admin.put(&path, &record);
    assert_eq!(
        made.fetch("ACC.cfg").status,
        404,
        "the former device's token opens the new one"
    );
    assert_ne!(again["provisioning_url"], made.answer["provisioning_url"]);
    assert_ne!(again["first_access"], made.answer["first_access"]);
}
