//! **Step 6, ACC and BTN.** What the phone applies: its accounts, and what each of its keys does.
//!
//! In: a device's lines and buttons and the model that they are for. Out: [`PhoneLine`]s and keys
//! as the templates see them, and every objection to a record that the model could not follow.

use crate::record::account::Account;
use crate::record::device::{Button, Device, Function};
use crate::record::pbx::Pbx;
use crate::secret::Secret;
use crate::step4_boot_file::Phone;
use crate::text::{Host, Id};
use crate::vendor::{Model, Objection};

/// A line of a phone.
#[derive(Debug, Clone)]
pub struct PhoneLine<'a> {
    /// Where it stands in the device's record, from 0.
    pub index: usize,
    /// The account's id.
    pub id: &'a Id,
    /// Which line, from 1.
    pub number: u8,
    /// What the phone shows for it.
    pub label: &'a str,
    /// The account.
    pub account: &'a Account,
    /// The account's password.
    pub password: Secret,
    /// The account's PBX.
    pub pbx: &'a Pbx,
}

impl Phone<'_> {
    /// The button on a key: of the phone, or of a module.
    #[must_use]
    pub fn button(&self, module: Option<u8>, key: u16) -> Option<&Button> {
        self.device
            .buttons
            .iter()
            .find(|b| b.module == module && b.key == key)
    }

    /// Whether no button names a key of the phone, so that the first keys show its lines.
    #[must_use]
    pub fn shows_lines_by_itself(&self) -> bool {
        self.device
            .buttons
            .iter()
            .all(|button| button.module.is_some())
    }

    /// The expansion modules that have a key in the record, counted from the first.
    #[must_use]
    pub fn modules_in_use(&self) -> u8 {
        self.device
            .buttons
            .iter()
            .filter_map(|button| button.module)
            .max()
            .unwrap_or(0)
    }

    /// What a key says: its own label, else what it dials; a line key its line's label.
    #[must_use]
    pub fn button_label<'a>(&'a self, button: &'a Button) -> &'a str {
        if let Some(label) = &button.label {
            return label.as_str();
        }
        if button.function == Function::Line {
            let line = button.line.unwrap_or(1);
            return self
                .lines
                .iter()
                .find(|l| l.number == line)
                .map_or("", |l| l.label);
        }
        button.value.as_ref().map_or("", |value| value.as_str())
    }
}

/// A host as it stands in a SIP or HTTP URI: an IPv6 address in brackets (RFC 3986, 3.2.2).
#[must_use]
pub fn uri_host(host: &Host) -> String {
    match host.as_str().parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.as_str().to_owned(),
    }
}

/// What is wrong with a key's value, whatever phone it is on.
#[must_use]
pub fn wrong_value(button: &Button) -> Option<&'static str> {
    match &button.value {
        None if button.function.needs_value() => Some("must be given for a key of this type"),
        Some(value) if button.function == Function::Url && value.is_dial() => {
            Some("must be an http or https URL")
        }
        Some(value) if button.function != Function::Url && !value.is_dial() => {
            Some("must be what can be dialled")
        }
        _ => None,
    }
}

/// What a record asks of a model that the model does not have, and what it asks twice or in vain of any.
/// `model`: `None` if it is not known, and then nothing is said of it.
#[must_use]
pub fn check(device: &Device, model: Option<&Model>) -> Vec<Objection> {
    let mut found = Vec::new();
    for (n, line) in device.lines.iter().enumerate() {
        let at = |n: usize| format!("/lines/{n}/line");
        if let Some(model) = model
            && !(1..=model.lines).contains(&line.line)
        {
            let detail = format!("the {} has lines 1 to {}", model.name, model.lines);
            found.push(Objection::new(at(n), detail));
        }
        let mut former = device.lines.iter().take(n);
        if let Some(other) = former.rposition(|former| former.line == line.line) {
            found.push(Objection::new(at(n), "is given twice").needing(at(other)));
        }
    }
    for (n, button) in device.buttons.iter().enumerate() {
        let at = |name: &str| format!("/buttons/{n}/{name}");
        if let Some(model) = model
            && let Some(objection) = check_key(model, n, button)
        {
            let of_module = objection.pointer == at("module");
            found.push(objection);
            if of_module {
                continue;
            }
        }
        let same = |b: &Button| b.module == button.module && b.key == button.key;
        if let Some(other) = device.buttons.iter().take(n).rposition(same) {
            let twice = Objection::new(at("key"), "is given twice").needing(at("module"));
            let other = ["module", "key"].map(|name| format!("/buttons/{other}/{name}"));
            found.push(other.into_iter().fold(twice, Objection::needing));
        }
        if let Some(model) = model
            && !device
                .vendor
                .rules()
                .functions(model)
                .contains(&button.function)
        {
            let title = device.vendor.title();
            let detail = format!("the {title} {} has no such key", model.name);
            found.push(Objection::new(at("type"), detail));
        }
        if let Some(wrong) = wrong_value(button) {
            found.push(Objection::new(at("value"), wrong).needing(at("type")));
        }
        if let Some(line) = button.line
            && !device.lines.iter().any(|l| l.line == line)
        {
            let detail = "is not one of the device's lines";
            found.push(Objection::new(at("line"), detail).needing("/lines"));
        }
        if button.function == Function::Line && button.line.is_none() {
            let detail = "must be given for a line key";
            found.push(Objection::new(at("line"), detail).needing(at("type")));
        }
    }
    found
}

/// What a key asks of a model that has no such place.
fn check_key(model: &Model, n: usize, button: &Button) -> Option<Objection> {
    let at = |name: &str| format!("/buttons/{n}/{name}");
    let keys = match button.module {
        None => model.keys,
        Some(module) if (1..=model.modules).contains(&module) => model.module_keys,
        Some(_) => {
            let detail = match model.modules {
                0 => format!("the {} takes no expansion module", model.name),
                most => format!("the {} takes modules 1 to {most}", model.name),
            };
            return Some(Objection::new(at("module"), detail));
        }
    };
    if (1..=keys).contains(&button.key) {
        return None;
    }
    let detail = match (keys, button.module) {
        (0, _) => format!("the {} has no keys to set", model.name),
        (most, None) => format!("the {} has keys 1 to {most}", model.name),
        (most, Some(_)) => format!("a module of the {} has keys 1 to {most}", model.name),
    };
    Some(Objection::new(at("key"), detail).needing(at("module")))
}
