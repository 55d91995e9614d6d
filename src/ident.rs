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
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "IdentitySource"))]
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
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Found<T = String> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub from: Source,
}

/// Two sources that disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Contradiction {
    /// In what: `mac`, `vendor`, `model`, `firmware` or `serial`.
    pub field: &'static str,
    /// What is reported as the value, and what contradicts it.
    pub values: [Found; 2],
}

/// Who a phone says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "PhoneIdentity"))]
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

/// What the fields are called, in the order in which they are gathered.
const FIELDS: [&str; 5] = ["mac", "vendor", "model", "firmware", "serial"];

/// What the sources say, while it is gathered.
#[derive(Default)]
struct Join {
    fields: [Option<Found>; 5],
    contradictions: Vec<Contradiction>,
}

impl Join {
    /// Adds what a source says of the [`FIELDS`]; empty is nothing.
    fn says(&mut self, from: Source, values: [&str; 5]) {
        let fields = self.fields.iter_mut().zip(FIELDS);
        for ((slot, field), value) in fields.zip(values.map(str::trim)) {
            let found = || Found {
                value: value.to_owned(),
                from,
            };
            match slot {
                _ if value.is_empty() => {}
                None => *slot = Some(found()),
                Some(first) if makers::same(&first.value, value) => {}
                Some(first) => self.contradictions.push(Contradiction {
                    field,
                    values: [first.clone(), found()],
                }),
            }
        }
    }
}

/// Joins what a request says of the phone that sends it. The path goes before the query, that before
/// the User-Agent, and that before the certificate; only the model is the User-Agent's first, as
/// file names are often those of a family.
///
/// `path` and `query` are as they were sent, percent-encoded; `certificate` is the subject of the
/// client certificate, or empty.
#[must_use]
pub fn identify(path: &str, query: &str, user_agent: &str, certificate: &str) -> Identity {
    let mut join = Join::default();
    let text = |mac: Option<Mac>| mac.map(|mac| mac.to_string()).unwrap_or_default();
    let agent = agent(user_agent);
    let model = agent.model.as_deref().unwrap_or_default();
    join.says(Source::UserAgent, ["", "", model, "", ""]);

    let path = percent_decode_str(path).decode_utf8_lossy();
    let named = file(&path);
    let in_path = [
        &text(named.mac),
        named.vendor.unwrap_or_default(),
        named.model.as_deref().unwrap_or_default(),
        "",
        serial_in_path(&path).unwrap_or_default(),
    ];
    join.says(Source::Path, in_path);

    for (name, value) in form_urlencoded::parse(query.as_bytes()).take(QUERY_PAIRS) {
        let value = match name.as_ref() {
            "mac" => text(value.trim().parse().ok()),
            "vendor" => value.to_ascii_lowercase(),
            _ => value.into_owned(),
        };
        let values = FIELDS.map(|field| match field {
            "firmware" => "",
            field if field == name => value.as_str(),
            _ => "",
        });
        join.says(Source::Query, values);
    }

    let in_agent = [
        &text(agent.mac),
        agent.vendor.unwrap_or_default(),
        "",
        agent.firmware.unwrap_or_default(),
        // Poly's is the MAC: it says nothing new, and contradicts nothing.
        agent.own_serial().unwrap_or_default(),
    ];
    join.says(Source::UserAgent, in_agent);

    let certified = subject::certificate(certificate);
    let in_certificate = [
        &text(certified.mac),
        certified.vendor.unwrap_or_default(),
        certified.model.as_deref().unwrap_or_default(),
        "",
        certified.serial.as_deref().unwrap_or_default(),
    ];
    join.says(Source::Certificate, in_certificate);

    let [mac, vendor, model, firmware, serial] = join.fields;
    let mac = mac.and_then(|found| {
        Some(Found {
            value: found.value.parse::<Mac>().ok()?,
            from: found.from,
        })
    });
    let last = |value: &str, from| Found {
        value: value.to_owned(),
        from,
    };
    let maker = mac.as_ref().and_then(|mac| of_mac(mac.value));
    Identity {
        mac,
        vendor: vendor.or_else(|| maker.map(|maker| last(maker, Source::Oui))),
        model,
        firmware,
        serial: serial.or_else(|| agent.serial.map(|serial| last(serial, Source::UserAgent))),
        contradictions: join.contradictions,
    }
}

/// So many pairs of a query are read.
const QUERY_PAIRS: usize = 64;

/// The serial of `/rps/sn/{serial}/{file}`.
fn serial_in_path(path: &str) -> Option<&str> {
    let (serial, file) = path.strip_prefix("/rps/sn/")?.split_once('/')?;
    (!file.contains('/')).then_some(serial)
}
