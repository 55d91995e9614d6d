//! A device: one phone, by its MAC; and what Dialtone knows of it beside what the admin wrote.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use super::tenant::{Drift, Networks, Places, Proof, Require, Tenant};
use super::version::{Pinned, Version};
use super::{Record, Stored};
use crate::fault::Fault;
use crate::gather::in_order;
use crate::key::Kind;
use crate::keys::KeyId;
use crate::secret::Secret;
use crate::step2_redirect::{Source, UrlTemplate};
use crate::step3_boot_request::Part;
use crate::text::{ButtonValue, Id, Label, Place, Serial};
use crate::time::{Span, Timestamp};
use crate::vendor::VendorId;

/// Whose phone it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum UserType {
    /// One user's, or a room's.
    #[default]
    Standard,
    /// Whoever logs in; its own lines are those of the host.
    HotDesking,
}

impl UserType {
    /// As it stands in the BootFile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::HotDesking => "hot-desking",
        }
    }
}

/// An account on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Which of the phone's lines, from 1.
    pub line: u8,
    /// The account that registers on it.
    pub account: Id,
    /// What the phone shows for the line. Default: the account's display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// Takes and makes calls on a line.
    Line,
    /// Watches an extension (busy lamp field, RFC 4235) and calls it.
    Blf,
    /// Dials a number.
    SpeedDial,
    /// Transfers the call.
    Transfer,
    /// Calls the voicemail of a line.
    Voicemail,
    /// Parks the call.
    Park,
    /// Takes a call that rings elsewhere.
    Pickup,
    /// Calls with auto-answer.
    Intercom,
    /// Sends tones in a call.
    Dtmf,
    /// Joins calls.
    Conference,
    /// Do not disturb.
    Dnd,
    /// Forwards calls.
    Forward,
    /// Dials the last number again.
    Redial,
    /// Calls up a URL.
    Url,
    /// Logs a user in or out of a hot-desking phone.
    HotDesk,
    /// Nothing: the key is blank.
    None,
}

impl Function {
    /// Whether the key is of no use without a `value`.
    #[must_use]
    pub fn needs_value(self) -> bool {
        matches!(
            self,
            Self::Blf
                | Self::SpeedDial
                | Self::Park
                | Self::Pickup
                | Self::Intercom
                | Self::Dtmf
                | Self::Url
        )
    }

    /// Every function.
    pub const ALL: [Self; 16] = [
        Self::Line,
        Self::Blf,
        Self::SpeedDial,
        Self::Transfer,
        Self::Voicemail,
        Self::Park,
        Self::Pickup,
        Self::Intercom,
        Self::Dtmf,
        Self::Conference,
        Self::Dnd,
        Self::Forward,
        Self::Redial,
        Self::Url,
        Self::HotDesk,
        Self::None,
    ];

    /// Its name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Blf => "blf",
            Self::SpeedDial => "speed_dial",
            Self::Transfer => "transfer",
            Self::Voicemail => "voicemail",
            Self::Park => "park",
            Self::Pickup => "pickup",
            Self::Intercom => "intercom",
            Self::Dtmf => "dtmf",
            Self::Conference => "conference",
            Self::Dnd => "dnd",
            Self::Forward => "forward",
            Self::Redial => "redial",
            Self::Url => "url",
            Self::HotDesk => "hot_desk",
            Self::None => "none",
        }
    }
}

/// One key of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Button {
    /// The expansion module that the key is on, from 1; absent: on the phone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<u8>,
    /// Which key, from 1.
    pub key: u16,
    /// What it does.
    #[serde(rename = "type")]
    pub function: Function,
    /// What it dials, watches or sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ButtonValue>,
    /// What it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// The line that it uses, from 1. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u8>,
}

/// One phone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The tenant that owns it.
    pub tenant: Id,
    /// Who made it.
    pub vendor: VendorId,
    /// The model, as the catalogue spells it.
    pub model: String,
    /// The number on its box: proof, where the tenant takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Serial>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Place>,
    /// The region that rules match. Default: where its request comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Place>,
    /// The profile that its settings come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Id>,
    /// Whose phone it is. Default `standard`.
    #[serde(default)]
    pub user_type: UserType,
    /// Its accounts.
    #[serde(default)]
    pub lines: Vec<Line>,
    /// Its keys. A key that stands nowhere here is blank, but for the line keys of the first
    /// lines when no button names a key of the phone at all.
    #[serde(default)]
    pub buttons: Vec<Button>,
    /// Settings of its own, above those of profile and tenant.
    #[serde(default)]
    pub settings: Settings,
    /// Where it is sent, before any rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<UrlTemplate>,
    /// False: it is refused like a phone that nobody knows. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// True: no phone has this MAC. Whoever asks for it is refused like everybody else, and raises an
    /// alarm. Default false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub decoy: bool,
    /// Opens a window on create: the first caller within this time is taken for the phone.
    #[serde(default, skip_serializing)]
    pub arm: Option<Span>,
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Record for Device {
    type State = DeviceState;
    const KIND: Kind = Kind::Device;

    fn tenant(&self) -> Option<&Id> {
        Some(&self.tenant)
    }

    fn take_secrets(&mut self) -> Vec<(&'static str, Option<Secret>)> {
        self.settings.take_secrets()
    }
}

/// What Dialtone keeps beside a device: its capabilities, its window, how far it is, its files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// Which tokens and first-access keys are good.
    pub access: Access,
    /// The window that an admin opened, claimed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What its tenant demanded when the files were last made. A newer copy in KV wins; this one
    /// covers the minute in which KV does not know a new tenant.
    #[serde(default)]
    pub policy: Policy,
    /// Accounts that it had lines or sessions with before, until it is taken off their lists.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub former_accounts: BTreeSet<Id>,
    /// How far the phone is.
    #[serde(default)]
    pub seen: Seen,
    /// Who was refused because the window was claimed already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contested: Option<Contested>,
    /// Where it fetched files from so far, the last place last. At most [`MOST_PLACES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Whereabouts>,
    /// The source address of its last new fetch (an IPv6 caller's /64).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched_from: Option<String>,
    /// The place that it may not have anything from until an admin releases it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// The user who logged in here. It counts for as long as the user's seat is the same one
    /// ([`crate::session::stands`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// The files, as they were last made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileSet>,
    /// Those that it had before it became a canary of new templates; while it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_files: Option<Box<FileSet>>,
    /// Versions of the files that are kept, the oldest first; none of those that were made for a user who was
    /// logged in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<Version>,
    /// The version that the files are held to, whatever the records say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Box<Pinned>>,
    /// That R2 may hold something of versions that are not listed any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub left_over: bool,
}

/// Callers that came for a window that another one had claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Contested {
    /// The last time, at most once a minute.
    pub at: Timestamp,
    /// From which source address then.
    pub source: String,
    /// How many minutes had such callers.
    pub times: u32,
}

/// Where requests come from, as coarsely as the platform says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Whereabouts {
    /// ISO 3166 country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The number of the autonomous system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
}

/// A phone in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Quarantine {
    /// Since when.
    pub at: Timestamp,
    /// From where it came then.
    #[serde(flatten)]
    pub place: Whereabouts,
}

/// A user's time at a hot-desking phone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Names this login among all: 16 random hexadecimal digits.
    pub id: String,
    /// The user.
    pub account: Id,
    /// When the user logged in.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// How many places of a phone are kept: a home, an office and some mobile networks.
pub const MOST_PLACES: usize = 8;

impl Whereabouts {
    /// Where a request came from; `None` if the platform says nothing of it.
    #[must_use]
    pub fn of(source: &Source) -> Option<Self> {
        let place = Self {
            country: source.country.clone(),
            asn: source.asn,
        };
        (place.country.is_some() || place.asn.is_some()).then_some(place)
    }
}

impl DeviceState {
    /// Whether a request comes from where the phone never fetched anything, although it did so
    /// elsewhere.
    #[must_use]
    pub fn knows_not(&self, source: &Source) -> bool {
        let place = Whereabouts::of(source);
        !self.places.is_empty() && place.is_some_and(|place| !self.places.contains(&place))
    }

    /// Takes a place for one of the phone's; false if it is one already, or none.
    pub fn settle_at(&mut self, place: Option<Whereabouts>) -> bool {
        let Some(place) = place.filter(|place| !self.places.contains(place)) else {
            return false;
        };
        if self.places.len() >= MOST_PLACES {
            self.places.remove(0);
        }
        self.places.push(place);
        true
    }

    /// Ends the session as far as the device is concerned: its user is to be taken off it.
    pub fn end_session(&mut self) -> Option<Session> {
        let session = self.session.take()?;
        self.former_accounts.insert(session.account.clone());
        Some(session)
    }

    /// The files.
    ///
    /// # Errors
    /// [`Fault::Broken`] if none were made, which is so before the first look after a save alone.
    pub fn files(&self) -> Result<&FileSet, Fault> {
        self.files.as_ref().ok_or(Fault::Broken("no files"))
    }

    /// One of the files.
    ///
    /// # Errors
    /// [`Fault::Broken`] as of [`Self::files`], or if the vendor has no such part.
    pub fn file(&self, part: Part) -> Result<&File, Fault> {
        let part = self.files()?.parts.get(&part);
        part.ok_or(Fault::Broken("no such part"))
    }
}

impl Stored<Device> {
    /// The record that the phone's files are made of: that of the version which it is held to, else its own.
    #[must_use]
    pub fn host(&self) -> &Device {
        let pinned = self.state.pinned.as_ref();
        pinned.map_or(&self.record, |pinned| &pinned.snapshot.device)
    }

    /// The accounts that the phone may have in its files: on lines of its record, on those of the version that it
    /// is held to, or since its user is logged in.
    #[must_use]
    pub fn accounts(&self) -> BTreeSet<&Id> {
        let pinned = self.state.pinned.iter();
        let pinned = pinned.flat_map(|pinned| &pinned.snapshot.device.lines);
        let lines = self.record.lines.iter().chain(pinned);
        let session = self.state.session.iter();
        let lines = lines.map(|line| &line.account);
        in_order(lines.chain(session.map(|session| &session.account)))
    }

    /// Whether the phone is there and may have an account in its files.
    #[must_use]
    pub fn has_account(&self, account: &Id) -> bool {
        self.alive() && self.accounts().contains(account)
    }
}

/// The part of a tenant's record that decides who is let in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The tenant's [`super::Stored::record_rev`] that it was read from.
    pub rev: u64,
    /// [`super::tenant::Tenant::proofs`].
    pub proofs: BTreeSet<Proof>,
    /// [`super::tenant::Tenant::require`].
    #[serde(default)]
    pub require: Require,
    /// [`super::tenant::Tenant::networks`].
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub networks: Networks,
    /// [`super::tenant::Tenant::places`].
    #[serde(default)]
    pub places: Places,
    /// [`super::tenant::Tenant::drift`].
    #[serde(default)]
    pub drift: Drift,
    /// [`super::tenant::Tenant::allow_plain_http`].
    pub allow_plain_http: bool,
}

impl Policy {
    /// The policy in a tenant's record; a tenant that is gone lets nobody in.
    #[must_use]
    pub fn of(tenant: &Stored<Tenant>) -> Self {
        Self {
            rev: tenant.record_rev(),
            proofs: if tenant.alive() {
                tenant.record.proofs.clone()
            } else {
                BTreeSet::new()
            },
            require: tenant.record.require,
            networks: tenant.record.networks.clone(),
            places: tenant.record.places.clone(),
            drift: tenant.record.drift,
            allow_plain_http: tenant.record.allow_plain_http,
        }
    }
}

/// Generations of a device's capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The generation of the token that is good now.
    pub token: u32,
    /// The tokens before it, while a rotation is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Former>,
    /// The generation of the first-access key that is good now.
    pub first_access: u32,
    /// Whether the token that is good now was ever used.
    #[serde(default)]
    pub used: bool,
    /// The key that signed the URL which the phone keeps: the one that it last began at, or, until it
    /// comes, the one that it was given. `None`: not known, as of a device that was made before this
    /// was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
}

/// Tokens that go on serving until their successor is used or their grace ends. More than one if
/// the device was rotated again before its phone came: it may have taken up any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The oldest generation that is still good.
    pub from: u32,
    /// The end of the grace.
    pub until: Timestamp,
}

/// A time within which the first caller is taken for the phone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Window {
    /// When it ends.
    pub until: Timestamp,
    /// Who came first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
}

/// The one caller that a window let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Claim {
    /// When.
    pub at: Timestamp,
    /// From which source address (an IPv6 caller's /64).
    pub source: String,
}

/// The first time that the phone did each thing, and with which version of its files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// It was told where its files are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirected: Option<Timestamp>,
    /// It fetched its BootFile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted: Option<Sighting>,
    /// It fetched its ACC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<Sighting>,
}

/// A first fetch of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Sighting {
    /// When.
    pub at: Timestamp,
    /// [`FileSet::version`] then.
    pub version: u64,
}

/// The files of one phone, made of certain revisions of certain records.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FileSet {
    /// Rises with every change of any byte.
    pub version: u64,
    /// When these bytes were made.
    pub made_at: Timestamp,
    /// What they were made of.
    pub sources: Sources,
    /// The files.
    pub parts: BTreeMap<Part, File>,
    /// From which version on they carry the password that each account has now; only of accounts
    /// whose password was ever changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logins: BTreeMap<Id, Carried>,
}

/// Since when files carry an account's password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// [`super::account::AccountState::login_rev`] of it.
    pub rev: u64,
    /// [`FileSet::version`] of the first files with it.
    pub version: u64,
}

/// What a set of files was made of: KV keys of records and their revisions, and the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// [`crate::vendor::Vendor::templates`] of the code that made them.
    pub templates: u32,
    /// The scheme and host in their URLs.
    pub origin: String,
    /// [`super::Stored::edition`] of the device.
    pub device: u64,
    /// [`Access::token`] in their URLs.
    pub token: u32,
    /// The key that signed their URLs and sealed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// [`Session::id`] of the user whose files they are; `None`: they are the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// [`Pinned::version`] that they were held to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<u64>,
    /// The shared records, by key.
    pub records: BTreeMap<String, u64>,
}

/// One generated file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Keyed hash of the bytes, in quotes.
    pub etag: String,
    /// The length of the bytes in clear.
    pub length: u64,
    /// The bytes, sealed.
    pub sealed: String,
}
