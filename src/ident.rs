//! Who a phone says it is: what its path, its query, its User-Agent and its certificate tell of its
//! MAC, vendor, model, firmware and serial number.
//!
//! Nothing of it is believed without a proof, and nothing is guessed: where two of them disagree,
//! both are reported. All of it works by tables and one pass over the text.

mod agent;
mod makers;
mod name;
mod subject;

use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::mac::Mac;

pub use agent::{Agent, agent};
pub use makers::of_mac;
pub use name::{Named, file};
pub use subject::{Certified, Key, Subject, certificate};

/// Where something that is known of a phone came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The request's path.
    Path,
    /// Its query.
    Query,
    /// Its User-Agent.
    UserAgent,
    /// The subject of the client certificate.
    Certificate,
    /// The first half of the MAC: the last hint at a vendor.
    Oui,
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found<T = String> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub from: Source,
}

/// Two sources that disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    /// In what: `mac`, `vendor`, `model`, `firmware` or `serial`.
    pub field: &'static str,
    /// What is reported as the value, and what contradicts it.
    pub values: [Found; 2],
}

/// Who a phone says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Its MAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Found<Mac>>,
    /// Its maker: [`crate::vendor::VendorId::name`] for those whose phones Dialtone sets up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<Found>,
    /// Its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Found>,
    /// Its firmware's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Found>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<Found>,
    /// Where the sources disagree.
    pub contradictions: Vec<Contradiction>,
}

impl Identity {
    /// Whether the sources disagree in a field.
    #[must_use]
    pub fn contradicts(&self, field: &str) -> bool {
        self.contradictions.iter().any(|found| found.field == field)
    }
}

/// What the fields are called, and in which order they are kept while they are gathered.
const FIELDS: [&str; 5] = ["mac", "vendor", "model", "firmware", "serial"];

/// Joins what a request says of the phone that sends it. The path goes before the query, that before
/// the User-Agent, and that before the certificate.
///
/// `path` and `query` are as they were sent, percent-encoded; `certificate` is the subject of the
/// client certificate, or empty.
#[must_use]
pub fn identify(path: &str, query: &str, user_agent: &str, certificate: &str) -> Identity {
    let mut slots: [Option<Found>; 5] = [const { None }; 5];
    let mut contradictions = Vec::new();
    let mut says = |from: Source, field: &'static str, value: &str| {
        let value = value.trim();
        let at = FIELDS.iter().position(|own| *own == field);
        let Some(slot) = at
            .and_then(|at| slots.get_mut(at))
            .filter(|_| !value.is_empty())
        else {
            return;
        };
        let found = Found {
            value: value.to_owned(),
            from,
        };
        match slot {
            None => *slot = Some(found),
            Some(first) if makers::same(&first.value, value) => {}
            Some(first) => contradictions.push(Contradiction {
                field,
                values: [first.clone(), found],
            }),
        }
    };

    let path = percent_decode_str(path).decode_utf8_lossy();
    let named = file(&path);
    let text = |mac: Option<Mac>| mac.map(|mac| mac.to_string()).unwrap_or_default();
    says(Source::Path, "mac", &text(named.mac));
    says(Source::Path, "vendor", named.vendor.unwrap_or_default());
    says(
        Source::Path,
        "model",
        named.model.as_deref().unwrap_or_default(),
    );
    says(
        Source::Path,
        "serial",
        serial_in_path(&path).unwrap_or_default(),
    );

    for (name, value) in form_urlencoded::parse(query.as_bytes()).take(QUERY_PAIRS) {
        match name.as_ref() {
            "mac" => says(Source::Query, "mac", &text(value.trim().parse().ok())),
            "vendor" => says(Source::Query, "vendor", &value.to_ascii_lowercase()),
            "model" => says(Source::Query, "model", &value),
            "serial" => says(Source::Query, "serial", &value),
            _ => {}
        }
    }

    let agent = agent(user_agent);
    says(Source::UserAgent, "mac", &text(agent.mac));
    says(
        Source::UserAgent,
        "vendor",
        agent.vendor.unwrap_or_default(),
    );
    says(
        Source::UserAgent,
        "model",
        agent.model.as_deref().unwrap_or_default(),
    );
    says(
        Source::UserAgent,
        "firmware",
        agent.firmware.unwrap_or_default(),
    );
    says(
        Source::UserAgent,
        "serial",
        agent.own_serial().unwrap_or_default(),
    );

    let certified = subject::certificate(certificate);
    says(Source::Certificate, "mac", &text(certified.mac));
    says(
        Source::Certificate,
        "vendor",
        certified.vendor.unwrap_or_default(),
    );
    says(
        Source::Certificate,
        "model",
        certified.model.as_deref().unwrap_or_default(),
    );
    says(
        Source::Certificate,
        "serial",
        certified.serial.as_deref().unwrap_or_default(),
    );

    let [mac, mut vendor, model, firmware, mut serial] = slots;
    let mac = mac.and_then(|Found { value, from }| {
        Some(Found {
            value: value.parse().ok()?,
            from,
        })
    });
    if vendor.is_none()
        && let Some(maker) = mac.as_ref().and_then(|mac| of_mac(mac.value))
    {
        vendor = Some(Found {
            value: maker.to_owned(),
            from: Source::Oui,
        });
    }
    if serial.is_none() {
        // Poly's is the MAC: it says nothing new, and contradicts nothing.
        serial = agent.serial.map(|serial| Found {
            value: serial.to_owned(),
            from: Source::UserAgent,
        });
    }
    Identity {
        mac,
        vendor,
        model,
        firmware,
        serial,
        contradictions,
    }
}

/// So many pairs of a query are read.
const QUERY_PAIRS: usize = 64;

/// The serial of `/rps/sn/{serial}/{file}`.
fn serial_in_path(path: &str) -> Option<&str> {
    let (serial, file) = path.strip_prefix("/rps/sn/")?.split_once('/')?;
    (!file.contains('/')).then_some(serial)
}
