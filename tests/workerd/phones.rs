//! A phone of every vendor out of its box, over real HTTP: from an armed window, and from a URL with
//! its first-access key, to its account.

use dialtone_kit::http;
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::office::{Office, fresh_source};
use crate::vendors::factory::Wire;
use crate::vendors::{KITS, Kit};

/// Plays a phone until it has its account.
fn reaches_its_account(office: &Office, kit: &Kit, model: &Value, armed: bool) {
    let what = format!("{} {} (armed: {armed})", kit.vendor, model["model"]);
    let path = format!("devices/{}", kit.mac);
    let mut record = json!({
        "tenant": office.id,
        "vendor": kit.vendor,
        "model": model["model"],
        "lines": [{ "line": 1, "account": "fleet-plain" }],
    });
    if armed {
        record["arm"] = "24h".into();
    }
    let created = office.admin.put(&path, &record);
    let start = if armed {
        format!("{}/rps/", office.url)
    } else {
        created["first_access"]["url"].as_str().unwrap().to_owned()
    };
    let source = fresh_source();
    let ask = |path: &str, agent: &str| {
        let answer = http::get(&format!("{}{path}", office.url))
            .user_agent(agent)
            .source(source)
            .send()
            .unwrap();
        (answer.status, answer.body)
    };
    let mut wire = Wire::new(&office.url, &start, kit.mac, model, Box::new(ask));
    let settings = (kit.power_on)(&mut wire)
        .unwrap_or_else(|error| panic!("{what}: {error} {:?}", wire.asked));
    let seen = (kit.see)(&settings, model);
    assert_eq!(seen.lines[&1].user, "3001", "{what}: {:?}", wire.asked);
    assert_eq!(seen.lines[&1].host, "sip.example.com", "{what}");
    office.admin.delete(&path);
}

#[test]
fn a_phone_of_every_vendor_and_generation_reaches_its_account() {
    // A Worker of its own: the phones' MACs are those of the kits, which other tests may hit on.
    let worker = Workerd::start(&Options::new()).unwrap();
    let office = Office::open_at(&worker, "fleet", &json!({}));
    // A password that the files of every vendor can carry.
    let account = json!({ "tenant": office.id, "pbx": format!("{}-pbx", office.id), "username": "3001",
        "password": "plain-password" });
    office.admin.put("accounts/fleet-plain", &account);
    let models = office.admin.get("models");
    let models = models["items"].as_array().unwrap();
    for kit in KITS {
        let of_kit = |model: &&Value| model["vendor"] == kit.vendor;
        let own = |model: &&Value| model["model"] == kit.model;
        let mut played: Vec<&Value> = Vec::new();
        // The kit's own model first, then one of each other generation.
        let first = models.iter().filter(of_kit).filter(own);
        for model in first.chain(models.iter().filter(of_kit)) {
            if played.contains(&&model["generation"]) {
                continue;
            }
            played.push(&model["generation"]);
            for armed in [true, false] {
                reaches_its_account(&office, kit, model, armed);
            }
        }
        assert!(!played.is_empty(), "{}", kit.vendor);
    }
}
