//! The vendors: which models there are, which files their phones ask for, and how those are written.
//!
//! A vendor is one implementation of [`Vendor`] here and one folder of templates. A new one is added
//! to [`VendorId`] and to [`VendorId::rules`], and nowhere else.

mod linphone;
mod yealink;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::mac::Mac;
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;

/// A vendor whose phones Dialtone can set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VendorId {
    /// Yealink desk phones (T1x to T8x, CP).
    Yealink,
    /// Linphone, the soft phone.
    Linphone,
}

impl VendorId {
    /// Every vendor.
    pub const ALL: [Self; 2] = [Self::Yealink, Self::Linphone];

    /// What the vendor's phones ask for and understand.
    #[must_use]
    pub fn rules(self) -> &'static dyn Vendor {
        match self {
            Self::Yealink => &yealink::Yealink,
            Self::Linphone => &linphone::Linphone,
        }
    }

    /// The name in records and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yealink => "yealink",
            Self::Linphone => "linphone",
        }
    }
}

impl fmt::Display for VendorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A model of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Its name, as it stands in records.
    pub name: &'static str,
    /// How many accounts it can register.
    pub lines: u8,
    /// How many programmable line keys it has, on all pages together.
    pub keys: u16,
    /// How many expansion modules it takes.
    pub modules: u8,
    /// How many keys one module has, on all pages together.
    pub module_keys: u16,
    /// The number in the name of its common file, where the vendor has such (Yealink).
    pub code: Option<u16>,
}

/// Where a phone is sent, for its vendor's redirect document.
#[derive(Debug, Clone, Copy)]
pub struct Redirect<'a> {
    /// The phone.
    pub mac: Mac,
    /// Its model.
    pub model: &'a str,
    /// The provisioning URL; ends in `/`.
    pub url: &'a str,
    /// `{origin}/p/{token}/`: the device's place with us, also when `url` is another server's.
    pub ours: &'a str,
}

impl Redirect<'_> {
    /// Whether the phone stays with us.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.url == self.ours
    }
}

/// A file of a vendor's own syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its text.
    pub text: String,
}

/// A value that the vendor's files cannot carry, or a thing that its phones do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// Where in the device it came from (RFC 6901).
    pub pointer: String,
    /// What is wrong; names the vendor.
    pub detail: String,
    /// The field of the line's account that is at fault, if it is one.
    pub account_field: Option<&'static str>,
}

impl Objection {
    /// An objection to the device's own record.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
            account_field: None,
        }
    }
}

/// What Dialtone must know of a vendor.
pub trait Vendor: Sync {
    /// The catalogue of its models.
    fn models(&self) -> &'static [Model];

    /// Whether anybody who knows the MAC can tell the serial, so that it proves nothing.
    fn serial_tells_from_mac(&self) -> bool {
        false
    }

    /// The file that a phone of this vendor asks for first under its provisioning URL.
    fn boot_name(&self, mac: Mac) -> String;

    /// The part that one of the vendor's own file names asks for; `None` for a name that is not
    /// this vendor's, or another phone's. The neutral names are known without it.
    fn part(&self, name: &str, mac: Mac, model: &Model) -> Option<Part>;

    /// The `Content-Type` of a part.
    fn content_type(&self, part: Part) -> &'static str;

    /// The parts that are made for this vendor's phones.
    fn parts(&self) -> &'static [Part];

    /// Writes a part.
    ///
    /// # Errors
    /// A [`Fault`] if a template fails, which no checked record causes.
    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault>;

    /// What the vendor's phones cannot have or its files cannot carry.
    fn objections(&self, phone: &Phone<'_>) -> Vec<Objection>;

    /// The redirect document that a file name asks for at the RPS: it sets the next provisioning
    /// URL, turns rediscovery off, and holds no SIP secret. `None` for a name that the vendor's
    /// phones do not ask for.
    ///
    /// # Errors
    /// A [`Fault`] if a template fails.
    fn redirect(&self, name: &str, redirect: Redirect<'_>) -> Result<Option<Document>, Fault>;

    /// What a file without a MAC in its name holds at the RPS: constant, the same for everyone.
    fn common(&self, name: &str) -> Option<Document>;
}

/// The model of that name, whatever its case.
#[must_use]
pub fn model(vendor: VendorId, name: &str) -> Option<&'static Model> {
    let models = vendor.rules().models();
    models
        .iter()
        .find(|model| model.name.eq_ignore_ascii_case(name))
}

/// The constant document that a common file name asks for, of whichever vendor has such a name.
#[must_use]
pub fn common(name: &str) -> Option<Document> {
    VendorId::ALL
        .into_iter()
        .find_map(|vendor| vendor.rules().common(name))
}

/// Renders a template, whose last line break askama takes away; it fails only if a formatter does.
fn write(template: &impl askama::Template) -> Result<String, Fault> {
    let mut text = template.render().map_err(|_| Fault::Broken("template"))?;
    text.push('\n');
    Ok(text)
}
