//! The vendors: which models there are, which files their phones ask for, and how those are written.
//!
//! A vendor is one implementation of [`Vendor`] here and one folder of templates. A new one is one
//! entry in [`VendorId`], and nowhere else; a new model is one entry in its vendor's list.

mod cisco;
mod fanvil;
mod gigaset;
mod grandstream;
mod htek;
mod linphone;
mod mitel;
mod panasonic;
mod poly;
mod snom;
mod yealink;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::device::Function;
use crate::record::settings::Setting;
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::text::RawKey;

macro_rules! vendors {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $title:literal, $rules:expr;)*) => {
        /// A vendor whose phones Dialtone can set up.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        pub enum VendorId {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl VendorId {
            /// Every vendor.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// What the vendor's phones ask for and understand.
            #[must_use]
            pub fn rules(self) -> &'static dyn Vendor {
                match self {
                    $(Self::$variant => &$rules,)*
                }
            }

            /// The name in records and answers.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The name as people write it, for what they read.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)*
                }
            }
        }
    };
}

vendors! {
    /// Yealink desk phones (T1x to T8x, CP) and DECT bases (W).
    Yealink: "yealink", "Yealink", yealink::Yealink;
    /// Fanvil desk phones (X, V, H), intercoms (i) and Linkvil phones (W).
    Fanvil: "fanvil", "Fanvil", fanvil::Fanvil;
    /// Grandstream desk phones (GRP, GXP, GXV) and telephone adapters (HT).
    Grandstream: "grandstream", "Grandstream", grandstream::Grandstream;
    /// Poly, once Polycom: its IP phones, VVX, Trio, CCX and Edge E.
    Poly: "poly", "Poly", poly::Poly;
    /// Snom desk phones (3xx to 8xx, D1xx to D8xx) and DECT bases (M).
    Snom: "snom", "Snom", snom::Snom;
    /// Cisco multiplatform phones (6800 to 9800), and SPA, Linksys and PAP before them.
    Cisco: "cisco", "Cisco", cisco::Cisco;
    /// Htek desk phones (UC800 and UC900 series).
    Htek: "htek", "Htek", htek::Htek;
    /// Gigaset desk phones (P, Maxwell) and DECT bases (N, C, S).
    Gigaset: "gigaset", "Gigaset", gigaset::Gigaset;
    /// Mitel desk phones (68xx, 69xx) and Aastra's (67xx) before.
    Mitel: "mitel", "Mitel", mitel::Mitel;
    /// Panasonic desk phones (KX-HDV; KX-UT before) and the DECT base KX-TGP600.
    Panasonic: "panasonic", "Panasonic", panasonic::Panasonic;
    /// Linphone, the soft phone.
    Linphone: "linphone", "Linphone", linphone::Linphone;
}

impl fmt::Display for VendorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which syntax and file names a model's firmware knows, where a vendor has more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// What the vendor sells and maintains.
    Current,
    /// What came before: its firmware never learned the current syntax.
    Former,
    /// A DECT base, whose lines are handsets.
    Dect,
}

/// A model of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Its name, as it stands in records.
    pub name: &'static str,
    /// How many accounts it can register.
    pub lines: u8,
    /// How many programmable keys it has, on all pages together.
    pub keys: u16,
    /// How many expansion modules it takes.
    pub modules: u8,
    /// How many keys one module has, on all pages together.
    pub module_keys: u16,
    /// Which firmware it has.
    pub generation: Generation,
    /// What its common file is called by, where the vendor has such: the digits of Yealink's
    /// `y000000000108.cfg`, the whole of Fanvil's `F0V00X600000`. Empty where there is none.
    pub code: &'static str,
}

/// Where the factory's client certificate of a phone names its MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CertificateMac {
    /// In the common name, and nothing else stands there.
    CommonName,
    /// In the state or province.
    State,
    /// Nobody has published where, or there is no certificate: it proves nothing.
    Unknown,
}

/// What is true of all phones of a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether anybody who knows the MAC can tell the serial, so that it proves nothing.
    pub serial_tells_from_mac: bool,
    /// Where its certificate names the MAC.
    pub certificate: CertificateMac,
    /// The `Event` of a SIP NOTIFY that makes it fetch its files.
    pub resync: &'static str,
    /// The `Event` that makes it start anew.
    pub reboot: &'static str,
}

/// Who asks for a file, as far as that decides which one it gets.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The phone.
    pub mac: Mac,
    /// Its model.
    pub model: &'static Model,
    /// Its firmware, if its User-Agent tells.
    pub firmware: Option<&'a str>,
}

/// What a file name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A generated file.
    Part(Part),
    /// What the phone puts there itself and may want back: what its user changed, its directory.
    Kept,
    /// What the phone puts there and nobody reads: its logs.
    Dropped,
    /// What phones of this vendor ask for and need not get: a licence, a firmware by their part
    /// number.
    Optional,
}

/// Where a phone is sent, for its vendor's redirect document.
#[derive(Debug, Clone, Copy)]
pub struct Redirect<'a> {
    /// The phone.
    pub mac: Mac,
    /// Its model.
    pub model: &'static Model,
    /// The provisioning URL; ends in `/`.
    pub url: &'a str,
    /// `{origin}/p/{token}/`: the device's place with us, also when `url` is another server's.
    pub ours: &'a str,
    /// Its firmware, if its User-Agent tells.
    pub firmware: Option<&'a str>,
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
    /// Its bytes: text, but for the binary form that older Grandstream phones read.
    pub bytes: Vec<u8>,
}

impl Document {
    /// A document that is text.
    #[must_use]
    pub fn text(content_type: &'static str, text: impl Into<String>) -> Self {
        Self {
            content_type,
            bytes: text.into().into_bytes(),
        }
    }
}

/// What a text is, where it matters to how a vendor's files carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The password of an account.
    Password,
    /// The name of an account.
    DisplayName,
    /// What the phone shows for a line.
    LineLabel,
    /// What a key says.
    KeyLabel,
    /// What a key dials, watches, sends or calls up.
    KeyValue,
    /// A password of the phone itself, or a parameter in the vendor's own words.
    Setting,
}

/// A value that the vendor's files cannot carry, or a thing that its phones do not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Objection {
    /// Where in the device it came from (RFC 6901).
    pub pointer: String,
    /// What is wrong; names the vendor.
    pub detail: String,
    /// The field of the line's account that is at fault, if it is one.
    #[serde(skip)]
    pub account_field: Option<&'static str>,
    /// Where else in the device stands what it hangs on: if that is wrong, nothing can be said.
    #[serde(skip)]
    pub needs: Vec<String>,
}

impl Objection {
    /// An objection to the device's own record.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
            account_field: None,
            needs: Vec::new(),
        }
    }

    /// The same that hangs on what stands elsewhere.
    #[must_use]
    pub fn needing(mut self, pointer: impl Into<String>) -> Self {
        self.needs.push(pointer.into());
        self
    }
}

/// What Dialtone must know of a vendor.
pub trait Vendor: Sync {
    /// The catalogue of its models.
    fn models(&self) -> &'static [Model];

    /// Why a model of its that is not in the catalogue cannot be served at all, where that is known.
    fn out_of_reach(&self, _model: &str) -> Option<&'static str> {
        None
    }

    /// The version of its templates. It must rise when one of its golden files changes: a test sees
    /// to it. Files that an older version made are made again when their phone asks.
    fn templates(&self) -> u32;

    /// A file of the version `from` as one of the version `to`; `None` if the version does not stand in it.
    fn renumber(&self, _text: &str, _from: u64, _to: u64) -> Option<String> {
        None
    }

    /// What is true of all its phones.
    fn facts(&self) -> Facts;

    /// The settings that a model has no parameter for. A test sees that these and no others leave its
    /// files as they are.
    fn lacks(&self, model: &Model) -> &'static [Setting];

    /// What the keys of a model can do.
    fn functions(&self, model: &Model) -> &'static [Function];

    /// The file that a phone asks for first under its provisioning URL.
    fn boot_name(&self, mac: Mac, model: &Model) -> String;

    /// What one of the vendor's own file names asks for; `None` for a name that is not this
    /// vendor's, or another phone's. The neutral names are known without it.
    fn asked(&self, name: &str, asker: Asker<'_>) -> Option<Asked>;

    /// The `Content-Type` of a part.
    fn content_type(&self, part: Part) -> &'static str;

    /// The parts that are made for a model.
    fn parts(&self, model: &Model) -> &'static [Part];

    /// Writes a part.
    ///
    /// # Errors
    /// A [`Fault`] if a template fails, which no checked record causes.
    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault>;

    /// Whether a text comes back out of a file of this vendor as it went in, and why not.
    ///
    /// # Errors
    /// What is wrong with it, as "must not ...".
    fn carries(&self, _slot: Slot, _text: &str) -> Result<(), &'static str> {
        Ok(())
    }

    /// What else a phone of this vendor cannot be. Single texts are [`Vendor::carries`]'s, and what
    /// the model does not have is found without it.
    fn objections(&self, _phone: &Phone<'_>) -> Vec<Objection> {
        Vec::new()
    }

    /// What becomes of settings that this vendor's phones follow in part only: a language that they
    /// do not have. Nothing that keeps a device from being saved.
    fn remarks(&self, _phone: &Phone<'_>) -> Vec<Objection> {
        Vec::new()
    }

    /// Whether a parameter in the vendor's own words can stand in its files, and why not.
    ///
    /// # Errors
    /// What is wrong with the name.
    fn raw_key(&self, key: &str) -> Result<(), &'static str>;

    /// Whether a file of this vendor sets a parameter.
    fn sets(&self, text: &str, key: &str) -> bool;

    /// The redirect document that a file name asks for at the RPS: it sets the next provisioning
    /// URL, turns rediscovery off, and holds no SIP secret. `None` for a name that the vendor's
    /// phones do not ask for.
    ///
    /// # Errors
    /// A [`Fault`] if a template fails.
    fn redirect(&self, name: &str, redirect: Redirect<'_>) -> Result<Option<Document>, Fault>;

    /// What a file without a MAC in its name holds at the RPS: constant, the same for everyone who
    /// asks for it there. `here` is the URL that it lies in, with the `/` at its end, for vendors
    /// whose phones must be pointed from it to their own file.
    ///
    /// # Errors
    /// A [`Fault`] if a template fails.
    fn common(&self, name: &str, here: &str) -> Result<Option<Document>, Fault>;
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
///
/// # Errors
/// The [`Fault`] of a template.
pub fn common(name: &str, here: &str) -> Result<Option<Document>, Fault> {
    for vendor in VendorId::ALL.iter().copied() {
        if let Some(document) = vendor.rules().common(name, here)? {
            return Ok(Some(document));
        }
    }
    Ok(None)
}

/// Whether a file name is one that phones of some vendor ask for, or put there, and need not get (a
/// licence, a firmware by its part number, a log), and that of no vendor leads anywhere at the RPS.
/// `mac` is the one in the name.
///
/// # Errors
/// The [`Fault`] of a template.
pub fn is_optional(name: &str, mac: Option<Mac>) -> Result<bool, Fault> {
    let mut optional = false;
    for vendor in VendorId::ALL {
        let rules = vendor.rules();
        let Some(model) = rules.models().first() else {
            continue;
        };
        let mac = mac.unwrap_or(Mac::LOCAL);
        let asker = Asker {
            mac,
            model,
            firmware: None,
        };
        let to = Redirect {
            mac,
            model,
            url: "",
            ours: "",
            firmware: None,
        };
        match rules.asked(name, asker) {
            Some(Asked::Part(_)) => return Ok(false),
            Some(Asked::Optional | Asked::Kept | Asked::Dropped) => optional = true,
            None => {}
        }
        // What one vendor's phones need not have may be what another's are sent on by.
        if rules.redirect(name, to)?.is_some() {
            return Ok(false);
        }
    }
    Ok(optional)
}

/// Everything in a device's lines, keys and own settings that its vendor's files cannot carry.
#[must_use]
pub fn objections(phone: &Phone<'_>) -> Vec<Objection> {
    let rules = phone.device.vendor.rules();
    let title = phone.device.vendor.title();
    let mut found = rules.objections(phone);
    let wrong = |slot, text: &str| {
        let why = rules.carries(slot, text).err()?;
        Some(format!("{why} in the files of {title} phones"))
    };
    for line in &phone.lines {
        let mut of_account = |field, detail| {
            let pointer = format!("/lines/{}/account", line.index);
            found.push(Objection {
                account_field: Some(field),
                ..Objection::new(pointer, detail)
            });
        };
        if let Some(wrong) = wrong(Slot::Password, line.password.reveal()) {
            of_account("password", format!("its password {wrong}"));
        }
        let own = phone.device.lines.get(line.index);
        let labelled = own.is_some_and(|line| line.label.is_some());
        let label = wrong(Slot::LineLabel, line.label);
        if let Some(wrong) = wrong(Slot::DisplayName, line.account.display_name()) {
            of_account("display_name", format!("its display_name {wrong}"));
        } else if let Some(wrong) = label.as_ref().filter(|_| !labelled) {
            let detail = format!("as the line's label, its display_name {wrong}");
            of_account("display_name", detail);
        }
        if let Some(wrong) = label.filter(|_| labelled) {
            found.push(Objection::new(
                format!("/lines/{}/label", line.index),
                wrong,
            ));
        }
    }
    for (n, button) in phone.device.buttons.iter().enumerate() {
        let label = button.label.as_ref().map(|label| label.as_str());
        let value = button.value.as_ref().map(|value| value.as_str());
        let texts = [
            ("label", Slot::KeyLabel, label),
            ("value", Slot::KeyValue, value),
        ];
        for (field, slot, text) in texts {
            if let Some(wrong) = text.and_then(|text| wrong(slot, text)) {
                found.push(Objection::new(format!("/buttons/{n}/{field}"), wrong));
            }
        }
    }
    found.extend(
        phone
            .left_out
            .iter()
            .filter(|left| left.own)
            .map(|left| left.objection.clone()),
    );
    found
}

/// A setting that the phone's files leave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Which, and why.
    pub objection: Objection,
    /// Whether it is the device's own: then the device is refused with it. One of a profile or a
    /// tenant, which phones of several vendors share, is a matter for [`warnings`].
    pub own: bool,
}

/// Takes out of a phone's settings what its vendor's files cannot carry. `is_own`: whether the device itself
/// gives a setting, and no level below it has locked that.
///
/// # Errors
/// The [`Fault`] of a template.
pub fn leave_out(phone: &mut Phone<'_>, is_own: &dyn Fn(Setting) -> bool) -> Result<(), Fault> {
    let vendor = phone.device.vendor;
    let (rules, title) = (vendor.rules(), vendor.title());
    let wrong = |text: &str| {
        let why = rules.carries(Slot::Setting, text).err()?;
        Some(format!("{why} in the files of {title} phones"))
    };
    let mut left_out = Vec::new();
    let mut leave = |pointer: String, detail: String, own| {
        let objection = Objection::new(pointer, detail);
        left_out.push(LeftOut { objection, own });
    };
    let settings = &mut phone.settings;
    let passwords = [
        (&mut settings.admin_password, Setting::AdminPassword),
        (&mut settings.user_password, Setting::UserPassword),
    ];
    for (slot, setting) in passwords {
        if let Some(wrong) = slot.as_ref().and_then(|password| wrong(password.reveal())) {
            *slot = None;
            let pointer = format!("/settings/{}", setting.name());
            leave(pointer, wrong, is_own(setting));
        }
    }
    let raw = std::mem::take(&mut phone.settings.raw);
    if !raw.is_empty() {
        // Without them: what stands there is Dialtone's.
        let files: Vec<String> = rules
            .parts(phone.model)
            .iter()
            .map(|part| rules.render(*part, phone))
            .collect::<Result<_, _>>()?;
        let own = phone.device.settings.raw.get(&vendor);
        let own = own.filter(|_| is_own(Setting::Raw));
        let own = |key: &RawKey| own.is_some_and(|own| own.iter().any(|(name, _)| name == key));
        for (key, value) in raw {
            let objection = match rules.raw_key(key.as_str()) {
                Err(wrong) => Some(wrong.to_owned()),
                Ok(()) if files.iter().any(|file| rules.sets(file, key.as_str())) => {
                    let detail = "is set by Dialtone: change the record that it comes from";
                    Some(detail.to_owned())
                }
                Ok(()) => wrong(value.as_str()),
            };
            match objection {
                None => phone.settings.raw.push((key, value)),
                Some(detail) => {
                    let name = key.as_str().replace('/', "~1");
                    leave(format!("/settings/raw/{vendor}/{name}"), detail, own(&key));
                }
            }
        }
    }
    phone.left_out = left_out;
    Ok(())
}

/// What the phone does not follow of its settings, whichever level they came from.
#[must_use]
pub fn warnings(phone: &Phone<'_>) -> Vec<Objection> {
    let rules = phone.device.vendor.rules();
    let lacks = rules.lacks(phone.model);
    let (title, model) = (phone.device.vendor.title(), phone.model.name);
    let left_out = phone.left_out.iter().map(|left| left.objection.clone());
    // On a shared level the keys of several vendors are what one would expect.
    let vendor = phone.device.vendor;
    let foreign = phone.device.settings.raw.keys().copied();
    let foreign = foreign.filter(|other| *other != vendor).map(|other| {
        let detail = format!("the phone is of {title}: keys of another vendor do nothing there");
        Objection::new(format!("/settings/raw/{other}"), detail)
    });
    phone
        .given
        .iter()
        .filter(|setting| lacks.contains(setting))
        .map(|setting| {
            let detail = format!("the {title} {model} has no such setting: it is left out");
            Objection::new(format!("/settings/{}", setting.name()), detail)
        })
        .chain(left_out)
        .chain(foreign)
        .chain(without_codec(phone))
        .chain(rules.remarks(phone))
        .collect()
}

/// The lines whose PBX takes no codec that the phone has.
fn without_codec(phone: &Phone<'_>) -> impl Iterator<Item = Objection> {
    let has = |codec| phone.settings.codecs.contains(codec);
    let lines = phone.lines.iter();
    lines
        .filter(move |line| !line.pbx.codecs().iter().any(has))
        .map(|line| {
            let detail = format!(
                "the PBX {} takes none of the phone's codecs: no call has sound",
                line.account.pbx
            );
            Objection::new(format!("/lines/{}/account", line.index), detail)
        })
}

/// Renders a template, whose last line break askama takes away; it fails only if a formatter does.
fn write(template: &impl askama::Template) -> Result<String, Fault> {
    let mut text = template.render().map_err(|_| Fault::Broken("template"))?;
    text.push('\n');
    Ok(text)
}
