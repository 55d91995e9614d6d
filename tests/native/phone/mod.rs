//! A phone's way through the request path: an office with a tenant, a PBX, a few accounts and two
//! phones, set up as an admin does it.

mod drift;
mod explain;
mod faults;
mod fresh;
mod hot_desk;
mod optional;
mod proofs;
mod refusals;
mod rps;
mod token;
mod uploads;

use std::rc::Rc;

use dialtone::record::Stored;
use dialtone::record::device::Device;
use dialtone::request::Request;
use dialtone::store;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::ask::{follow, get, put};
use crate::world::{Fake, block_on};

/// The Yealink's MAC.
pub const MAC: &str = "805ec0000001";
/// The Yealink's serial number.
pub const SERIAL: &str = "3146019091637071";
/// The Linphone's MAC.
pub const SOFT: &str = "0a5ec0000001";
/// The Linphone's serial number.
pub const SOFT_SERIAL: &str = "SOFT-0001";
/// The password of the first account.
pub const PASSWORD: &str = "first-account-password";

/// Everything that one customer has.
pub struct Office {
    pub fake: Rc<Fake>,
    /// The Yealink's provisioning URL.
    pub base: String,
    /// The Yealink's first-access URL.
    pub first_access: String,
    /// The Linphone's first-access URL.
    pub soft_first_access: String,
}

impl Office {
    /// An office whose tenant takes every proof.
    pub fn new() -> Self {
        Self::of(&json!({}), &json!({}))
    }

    /// An office whose tenant has these members, and whose Yealink has those beside its own.
    pub fn of(tenant: &Value, more: &Value) -> Self {
        let fake = Fake::new();
        put(&fake, "tenants/acme", tenant);
        let profile = json!({ "tenant": "acme", "settings": { "timezone": "Europe/Berlin" } });
        put(&fake, "profiles/office", &profile);
        let pbx = json!({
            "tenant": "acme",
            "ari_url": "https://pbx.example.com/ari",
            "ari_username": "dialtone",
            "ari_password": "ari-password-in-clear",
            "sip": { "host": "sip.example.com" },
        });
        put(&fake, "pbxes/main", &pbx);
        for (id, password) in [("1001", PASSWORD), ("1002", "second-account-password")] {
            let account = json!({
                "tenant": "acme",
                "pbx": "main",
                "username": id,
                "password": password,
                "display_name": format!("Number {id}"),
            });
            put(&fake, &format!("accounts/acme-{id}"), &account);
        }
        let mut device = json!({
            "tenant": "acme",
            "vendor": "yealink",
            "model": "T46U",
            "serial": SERIAL,
            "profile": "office",
            "lines": [{ "line": 1, "account": "acme-1001" }],
        });
        device
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let made = put(&fake, &format!("devices/{MAC}"), &device);
        let soft = json!({
            "tenant": "acme",
            "vendor": "linphone",
            "model": "Linphone",
            "serial": SOFT_SERIAL,
            "lines": [{ "line": 1, "account": "acme-1002" }],
        });
        let soft = put(&fake, &format!("devices/{SOFT}"), &soft);
        let url = |made: &Value| made["first_access"]["url"].as_str().unwrap().to_owned();
        Self {
            fake,
            base: made["provisioning_url"].as_str().unwrap().to_owned(),
            first_access: url(&made),
            soft_first_access: url(&soft),
        }
    }

    /// A request for one of the Yealink's files by the token that it got on creation.
    pub fn file(&self, name: &str) -> Request {
        follow(&format!("{}{name}", self.base))
    }

    /// The token that the Yealink got on creation.
    pub fn token(&self) -> &str {
        self.base.trim_end_matches('/').rsplit('/').next().unwrap()
    }

    /// The Yealink's record in R2.
    pub fn stored(&self) -> Stored<Device> {
        block_on(store::load::<Device, Fake>(&self.fake, MAC))
            .unwrap()
            .unwrap()
            .stored
    }
}

/// The question of a phone that knows its MAC and serial.
pub fn question(mac: &str, serial: &str) -> Request {
    get(&format!("/rps?mac={mac}&serial={serial}"))
}

/// Asserts that an answer is the one refusal, to the last header.
pub fn refused(answer: &Response<Vec<u8>>) {
    assert_eq!(
        answer.status(),
        StatusCode::NOT_FOUND,
        "{}",
        String::from_utf8_lossy(answer.body())
    );
    assert_eq!(answer.body(), b"not found\n");
    let headers: Vec<(&str, &str)> = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let expected = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", "10"),
        ("cache-control", "private, no-store, no-transform"),
    ];
    assert_eq!(headers, expected);
}

/// Asserts that an answer is our own fault, and that the phone is told to come back.
pub fn unavailable(answer: &Response<Vec<u8>>) {
    assert_eq!(
        answer.status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        String::from_utf8_lossy(answer.body())
    );
    let wait: u32 = answer.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=120).contains(&wait), "{wait}");
}
