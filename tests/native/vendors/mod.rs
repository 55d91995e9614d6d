//! The vendors' phones as their guides describe them, for the tests: a reader of the vendor's files
//! that shares nothing with the code that writes them, what the phone makes of what it reads, and
//! what its firmware asks for.
//!
//! A vendor is a [`Kit`] in a file of its own here. What all of them must do is in `fleet`.

pub mod clock;
pub mod factory;

pub mod cisco;
pub mod fanvil;
pub mod gigaset;
pub mod grandstream;
pub mod htek;
pub mod linphone;
pub mod mitel;
pub mod panasonic;
pub mod poly;
pub mod snom;
pub mod yealink;

use std::collections::BTreeMap;

use serde_json::Value;

use factory::Wire;

/// Parameters by their names, as a file sets them.
pub type Settings = BTreeMap<String, String>;

/// What a vendor's phones make of their files.
pub struct Kit {
    /// The vendor, as records call it.
    pub vendor: &'static str,
    /// The MAC of its cases.
    pub mac: &'static str,
    /// The model of the tests that want one with keys, two lines and, if any has, modules.
    pub model: &'static str,
    /// The documents of a case: `p/{file}` under the provisioning URL, `rps/{file}` under the
    /// first-access URL, with `{mac}` and `{MAC}`.
    pub documents: &'static [&'static str],
    /// Which of them together are the whole configuration, split as far as the vendor can.
    pub parts: &'static [&'static str],
    /// The one that is all of it in one, if there is any.
    pub merged: Option<&'static str>,
    /// Reads a file, strictly: everything that a phone could misread is an error. The values are
    /// without their escapes.
    pub read: fn(name: &str, text: &str) -> Result<Settings, String>,
    /// What the parameters of all parts together mean.
    pub see: fn(&Settings, &Value) -> Seen,
    /// What its phones have no parameter for: `expires_s`, `outbound`, `backup`, `srtp`, `transport` (empty
    /// then), `label`,
    /// `name`, `voicemail`, `codecs`, `dtmf`, `line_number` of a line, `key_label` and `key_line` of a key, `clock`.
    /// With a generation or the beginning of a model's name before it (`dect:clock`) it is the blindness
    /// of those models alone.
    pub blind: &'static [&'static str],
    /// Whether its files cannot carry a text: `password`, `display_name`, `line_label`, `key_label`,
    /// `key_value` or `setting`. Told from the vendor's syntax alone.
    pub cannot_carry: fn(slot: &str, text: &str) -> bool,
    /// Switches on a phone out of its box: what its firmware asks for, in its order, and where it
    /// goes on to. Ends with the parameters that it has then.
    pub power_on: fn(&mut Wire) -> Result<Settings, String>,
    /// A parameter's name as it stands in `fixtures/keys/{vendor}.txt`.
    pub key_name: fn(&str) -> String,
}

/// All kits.
pub static KITS: &[&Kit] = &[
    &yealink::KIT,
    &fanvil::KIT,
    &grandstream::KIT,
    &poly::KIT,
    &snom::KIT,
    &cisco::KIT,
    &htek::KIT,
    &gigaset::KIT,
    &mitel::KIT,
    &panasonic::KIT,
    &linphone::KIT,
];

/// What a phone does with its parameters.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    /// The lines that it registers, by number.
    pub lines: BTreeMap<u64, SeenLine>,
    /// Its keys by module (0: the phone itself) and number; blank ones are not here.
    pub keys: BTreeMap<(u64, u64), SeenKey>,
    /// Its clock.
    pub clock: Option<clock::SeenClock>,
}

/// How a phone proves its account.
#[derive(Debug, PartialEq)]
pub enum Credential {
    Password(String),
    /// MD5 of user, realm and password (RFC 7616, A1).
    Ha1(String),
}

/// A line; `None` where the vendor has no such parameter (which [`Kit::blind`] must say).
#[derive(Debug, PartialEq)]
pub struct SeenLine {
    pub user: String,
    pub auth_user: String,
    pub credential: Credential,
    /// What others see.
    pub name: Option<String>,
    /// What the phone shows.
    pub label: Option<String>,
    pub host: String,
    pub port: u64,
    /// `udp`, `tcp` or `tls`.
    pub transport: String,
    /// `off`, `optional` or `required`.
    pub srtp: Option<String>,
    /// Empty if there is none.
    pub backup: Option<String>,
    /// `host:port`; empty if there is none.
    pub outbound: Option<String>,
    pub expires_s: Option<u64>,
    pub voicemail: Option<String>,
    /// The codecs that are on, the preferred one first, by the contract's names.
    pub codecs: Option<Vec<String>>,
    /// `rfc2833`, `info` or `inband`.
    pub dtmf: Option<String>,
}

/// A key that does something.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenKey {
    /// By the contract's name.
    pub function: String,
    /// Empty if it has none.
    pub value: String,
    pub label: Option<String>,
    pub line: Option<u64>,
}

/// The kit of a vendor.
pub fn kit(vendor: &str) -> &'static Kit {
    KITS.iter()
        .find(|kit| kit.vendor == vendor)
        .unwrap_or_else(|| panic!("no kit for {vendor}"))
}

impl Kit {
    /// A document's path with the MAC in it.
    pub fn path(&self, pattern: &str) -> String {
        pattern
            .replace("{mac}", self.mac)
            .replace("{MAC}", &self.mac.to_ascii_uppercase())
    }

    /// Reads the parts of a phone, none of which may set what another one sets.
    pub fn read_parts(&self, get: impl Fn(&str) -> String) -> Settings {
        let mut all = Settings::new();
        for pattern in self.parts {
            let path = self.path(pattern);
            let text = get(&path);
            let read = (self.read)(&path, &text)
                .unwrap_or_else(|error| panic!("{} {path}: {error}\n{text}", self.vendor));
            for (key, value) in read {
                let former = all.insert(key.clone(), value);
                assert!(
                    former.is_none(),
                    "{} {path}: {key} in two parts",
                    self.vendor
                );
            }
        }
        all
    }
}

/// A name with `X` in the place of each number that is a whole word between dots.
pub fn dotted_name(key: &str) -> String {
    let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    key.split('.')
        .map(|word| if number(word) { "X" } else { word })
        .collect::<Vec<_>>()
        .join(".")
}
