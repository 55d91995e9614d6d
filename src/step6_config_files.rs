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

/// What a record asks of a model that the model does not have.
#[must_use]
pub fn check(device: &Device, model: &Model) -> Vec<Objection> {
    let mut found = Vec::new();
    let mut object = |pointer: String, detail: String| found.push(Objection::new(pointer, detail));
    for (n, line) in device.lines.iter().enumerate() {
        if !(1..=model.lines).contains(&line.line) {
            object(
                format!("/lines/{n}/line"),
                format!("the {} has lines 1 to {}", model.name, model.lines),
            );
        }
        if device
            .lines
            .iter()
            .take(n)
            .any(|former| former.line == line.line)
        {
            object(format!("/lines/{n}/line"), "is given twice".to_owned());
        }
    }
    for (n, button) in device.buttons.iter().enumerate() {
        let keys = match button.module {
            None => model.keys,
            Some(module) if (1..=model.modules).contains(&module) => model.module_keys,
            Some(_) => {
                object(
                    format!("/buttons/{n}/module"),
                    match model.modules {
                        0 => format!("the {} takes no expansion module", model.name),
                        most => format!("the {} takes modules 1 to {most}", model.name),
                    },
                );
                continue;
            }
        };
        if !(1..=keys).contains(&button.key) {
            object(
                format!("/buttons/{n}/key"),
                match (keys, button.module) {
                    (0, _) => format!("the {} has no keys to set", model.name),
                    (most, None) => format!("the {} has keys 1 to {most}", model.name),
                    (most, Some(_)) => {
                        format!("a module of the {} has keys 1 to {most}", model.name)
                    }
                },
            );
        }
        let same = |b: &Button| b.module == button.module && b.key == button.key;
        if device.buttons.iter().take(n).any(same) {
            object(format!("/buttons/{n}/key"), "is given twice".to_owned());
        }
        if !device
            .vendor
            .rules()
            .functions(model)
            .contains(&button.function)
        {
            object(
                format!("/buttons/{n}/type"),
                format!(
                    "the {} {} has no such key",
                    device.vendor.title(),
                    model.name
                ),
            );
        }
        if let Some(wrong) = wrong_value(button) {
            object(format!("/buttons/{n}/value"), wrong.to_owned());
        }
        if let Some(line) = button.line
            && !device.lines.iter().any(|l| l.line == line)
        {
            object(
                format!("/buttons/{n}/line"),
                "is not one of the device's lines".to_owned(),
            );
        }
        if button.function == Function::Line && button.line.is_none() {
            object(
                format!("/buttons/{n}/line"),
                "must be given for a line key".to_owned(),
            );
        }
    }
    found
}
