//! Phones out of their boxes, each by its firmware's own requests, to their accounts.

use serde_json::{Value, json};

use super::catalogue::{self, office};
use crate::ask::{ORIGIN, Told as _, fetch, get, put};
use crate::vendors::factory::Wire;
use crate::vendors::{Credential, KITS, Kit};

/// Plays a phone from its first URL to its account.
fn reaches_its_account(kit: &Kit, model: &Value, armed: bool) {
    let fake = office();
    let what = format!("{} {} (armed: {armed})", kit.vendor, model["model"]);
    let mut record = json!({
        "tenant": "acme",
        "vendor": kit.vendor,
        "model": model["model"],
        "lines": [{ "line": 1, "account": "1001" }],
    });
    if armed {
        record["arm"] = "24h".into();
    }
    let created = put(&fake, &format!("devices/{}", kit.mac), &record);
    let start = if armed {
        format!("{ORIGIN}/rps/")
    } else {
        created["first_access"]["url"].as_str().unwrap().to_owned()
    };
    let ask = |path: &str, agent: &str| {
        let mut request = get(path);
        if !agent.is_empty() {
            request = request.with("user-agent", agent);
        }
        let response = fetch(&fake, &request);
        (response.status().as_u16(), response.into_body())
    };
    let mut wire = Wire::new(ORIGIN, &start, kit.mac, model, Box::new(ask));
    let settings = (kit.power_on)(&mut wire)
        .unwrap_or_else(|error| panic!("{what}: {error} {:?}", wire.asked));
    let seen = (kit.see)(&settings, model);
    let line = seen
        .lines
        .get(&1)
        .unwrap_or_else(|| panic!("{what}: no line: {:?}", wire.asked));
    assert_eq!(line.user, "1001", "{what}");
    match &line.credential {
        Credential::Password(password) => assert_eq!(password, "secret & 1001", "{what}"),
        Credential::Ha1(ha1) => assert_eq!(ha1.len(), 32, "{what}"),
    }
    assert_eq!(line.host, "sip.example.com", "{what}");
    // From now on it comes by itself, and what it has leads back to where it was.
    let status = crate::ask::json_of(&crate::ask::call(
        &fake,
        http::Method::GET,
        &format!("devices/{}/status", kit.mac),
        &Value::Null,
    ));
    assert_eq!(status["status"], "configured", "{what}: {:?}", wire.asked);
}

#[test]
fn a_phone_out_of_its_box_reaches_its_account_from_a_url_by_dhcp_and_an_armed_window() {
    for kit in KITS {
        for model in one_of_each_generation(kit) {
            reaches_its_account(kit, &model, true);
        }
    }
}

#[test]
fn a_phone_out_of_its_box_reaches_its_account_from_a_url_with_its_first_access_key() {
    for kit in KITS {
        for model in one_of_each_generation(kit) {
            reaches_its_account(kit, &model, false);
        }
    }
}

/// The kit's model, and one of each other generation of firmware.
fn one_of_each_generation(kit: &Kit) -> Vec<Value> {
    let first = catalogue::model(kit.vendor, kit.model);
    let mut found = vec![first];
    for model in catalogue::of(kit.vendor) {
        if !found
            .iter()
            .any(|other| other["generation"] == model["generation"])
        {
            found.push(model.clone());
        }
    }
    found
}
