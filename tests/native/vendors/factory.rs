//! A phone out of its box: it knows a URL that somebody gave it, by DHCP or by hand, what its
//! firmware asks for, and nothing but what its files say from then on.

use serde_json::{Value, json};

use super::catalogue::{self, office};
use super::{Credential, KITS, Kit};
use crate::ask::{ORIGIN, Told as _, fetch, get, put};
use crate::world::Fake;

/// The wire between a phone and Dialtone.
pub struct Wire<'a> {
    fake: &'a Fake,
    /// The phone's MAC.
    pub mac: String,
    /// Its model, as the catalogue has it.
    pub model: Value,
    /// Where it was told to ask first; ends in `/`.
    pub start: String,
    /// Everything that it was ever answered.
    heard: String,
    /// Every URL that it asked for, and the status.
    pub asked: Vec<(String, u16)>,
}

impl Wire<'_> {
    /// What a URL answers to this User-Agent, or `None` for a 404. A phone goes only where it was
    /// told to: its first URL, or a place that a file of it names.
    pub fn ask(&mut self, url: &str, agent: &str) -> Option<Vec<u8>> {
        let rest = url
            .strip_prefix(ORIGIN)
            .unwrap_or_else(|| panic!("{url} is not what a file says, or leads away"));
        let (directory, _) = rest.rsplit_once('/').unwrap();
        let told = url.starts_with(&self.start) || self.heard.contains(directory);
        assert!(
            told,
            "nobody told the phone of {url}; it asked for {:?}",
            self.asked
        );
        let mut request = get(rest);
        if !agent.is_empty() {
            request = request.with("user-agent", agent);
        }
        let response = fetch(self.fake, &request);
        let status = response.status().as_u16();
        self.asked.push((url.to_owned(), status));
        match status {
            200 => {
                let bytes = response.into_body();
                self.heard.push_str(&String::from_utf8_lossy(&bytes));
                Some(bytes)
            }
            404 => None,
            _ => panic!("{url}: {status}"),
        }
    }

    /// The same for a file that is text.
    pub fn text(&mut self, url: &str, agent: &str) -> Option<String> {
        let bytes = self.ask(url, agent)?;
        Some(String::from_utf8(bytes).unwrap_or_else(|error| panic!("{url}: {error}")))
    }

    /// The MAC with colons, as many User-Agents have it.
    pub fn colons(&self) -> String {
        let pairs: Vec<&str> = (0..6).map(|n| &self.mac[2 * n..2 * n + 2]).collect();
        pairs.join(":")
    }

    /// The MAC in capitals.
    pub fn upper(&self) -> String {
        self.mac.to_ascii_uppercase()
    }
}

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
    let mut wire = Wire {
        fake: &fake,
        mac: kit.mac.to_owned(),
        model: model.clone(),
        start,
        heard: String::new(),
        asked: Vec::new(),
    };
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
