//! What only Fanvil phones have.

use dialtone::step3_boot_request::Part;
use dialtone::vendor::{self, Asked, Asker, Redirect, VendorId};
use http::Method;
use serde_json::json;

use super::catalogue::{self, documents, office};
use super::kit_of;
use super::records::{Told, compare};
use crate::ask::{call, fetch, follow, put, text};
use crate::fixtures::CASES;
use crate::vendors::fanvil::{KIT, read, see};

#[test]
fn an_older_firmware_is_told_the_same_under_the_same_name() {
    let mut compared = 0;
    for case in CASES.iter().filter(|case| kit_of(case).vendor == "fanvil") {
        let Some(text) = case.documents.get("p/former.cfg") else {
            continue;
        };
        let name = case.device()["model"].as_str().unwrap();
        let model = catalogue::model("fanvil", name);
        let mut seen = see(&read(text).unwrap().settings, &model);
        // It has no Opus.
        for line in seen.lines.values_mut() {
            if case.name.ends_with("every-setting") {
                line.codecs.as_mut().unwrap().insert(0, "opus".to_owned());
            }
        }
        compare(&case.name, &KIT, &model, &seen, &Told::of_case(case));
        compared += 1;
    }
    assert!(compared >= 4, "{compared}");

    let model = vendor::model(VendorId::Fanvil, "X6").unwrap();
    let mac = KIT.mac.parse().unwrap();
    for (firmware, part) in [
        (None, Part::Merged),
        (Some("2.12.16.17"), Part::Merged),
        (Some("0.0.10"), Part::Merged),
        (Some("1.12.2"), Part::Former),
    ] {
        let asker = Asker {
            mac,
            model,
            firmware,
        };
        let rules = VendorId::Fanvil.rules();
        let found = rules.asked("0C383E000001.cfg", asker);
        assert_eq!(found, Some(Asked::Part(part)), "{firmware:?}");
        let url = "https://a.example/p/T/";
        let to = Redirect {
            mac,
            model,
            url,
            ours: url,
            firmware,
        };
        let document = rules.redirect("0c383e000001.cfg", to).unwrap().unwrap();
        let text = String::from_utf8(document.bytes).unwrap();
        read(&text).unwrap();
        let former = text.contains("<VOIP_CONFIG_FILE>");
        assert_eq!(former, part == Part::Former, "{firmware:?}");
    }
}

#[test]
fn the_version_rises_with_every_change_and_with_nothing_else() {
    let fake = office();
    let path = format!("devices/{}", KIT.mac);
    let record = |name: &str| {
        json!({
            "tenant": "acme", "vendor": "fanvil", "model": "X5U",
            "lines": [{ "line": 1, "account": "1001" }],
            "buttons": [{ "key": 1, "type": "speed_dial", "value": "1", "label": name }],
        })
    };
    let created = put(&fake, &path, &record("a"));
    let base = created["provisioning_url"].as_str().unwrap().to_owned();
    let own = format!("{base}{}.cfg", KIT.mac);
    let version = || read(&text(&fetch(&fake, &follow(&own)))).unwrap().version;
    let first_access = created["first_access"]["url"].as_str().unwrap();
    let redirect = format!("{first_access}{}.cfg", KIT.mac);
    let mut last = read(&text(&fetch(&fake, &follow(&redirect))))
        .unwrap()
        .version;
    assert!(last.as_str() > "2.0002", "{last}");
    for name in ["a", "b", "b", "c"] {
        call(&fake, Method::PUT, &path, &record(name));
        let now = version();
        if name == "b" && last == now {
            continue;
        }
        assert!(now > last, "{name}: {now} after {last}");
        last = now;
    }
    // The same record again is no change.
    let before = documents(&fake, &KIT, &created);
    call(&fake, Method::PUT, &path, &record("c"));
    assert_eq!(documents(&fake, &KIT, &created), before);
}
