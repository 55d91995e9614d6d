//! Versions of a phone's files: what one of them was made of, which are kept, and which one a phone is held to.
//!
//! Nothing here is a secret: passwords and tokens stand in no record and are masked in every text.

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::device::{Device, DeviceState, Sources};
use super::pbx::{Pbx, Sip};
use super::settings::{Codecs, Locked, Settings};
use crate::text::{Dial, DisplayName, Id, Mailbox};
use crate::time::Timestamp;

/// The most versions of a phone's files that are listed.
pub const MOST_VERSIONS: usize = 20;

/// How long a version is kept after another one took its place, in seconds: 90 days.
pub const KEPT_S: u64 = 90 * 86_400;

/// The most numbers that one entry of the list keeps beside its own.
const MOST_SAME: usize = 20;

/// A version of a phone's files, as its device lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// [`super::device::FileSet::version`].
    pub version: u64,
    /// When its text was made first.
    pub made_at: Timestamp,
    /// Names what R2 has of it ([`crate::key::version`]): the same for the same text and the same records.
    pub content: String,
    /// What its files were made of.
    pub sources: Sources,
    /// The numbers right before it whose files had the same text, but for secrets, the token and the number. The
    /// newest first, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub same: Vec<u64>,
}

impl Version {
    /// Whether files of this number had its text.
    #[must_use]
    pub fn is(&self, number: u64) -> bool {
        self.version == number || self.same.contains(&number)
    }
}

/// That a phone is held to a version of its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pinned {
    /// Which.
    pub version: u64,
    /// Since when.
    pub at: Timestamp,
    /// [`Version::content`] of it.
    pub content: String,
    /// What it was made of. It stands here so that nothing else need be read for the phone's files.
    pub snapshot: Snapshot,
}

/// What files are made of, but for what only ever counts as it is today: secrets, the token, the accounts' logins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The device's record.
    pub device: Device,
    /// The levels of settings below the device, the lowest first.
    pub levels: Vec<KeptLevel>,
    /// The accounts on its lines.
    pub accounts: Vec<KeptAccount>,
    /// Their PBXes.
    pub pbxes: Vec<KeptPbx>,
}

/// A level of settings, without its passwords.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptLevel {
    /// [`crate::levels::Level::resource`].
    pub resource: String,
    /// Its settings.
    pub settings: Settings,
    /// What it locked.
    pub locked: Locked,
}

/// What a phone shows and dials of an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptAccount {
    id: Id,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display_name: Option<DisplayName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    voicemail: Option<Dial>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mailbox: Option<Mailbox>,
}

/// How phones reach a PBX.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptPbx {
    id: Id,
    sip: Sip,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    codecs: Option<Codecs>,
}

impl KeptAccount {
    /// What is kept of an account.
    #[must_use]
    pub fn of(id: &Id, account: &Account) -> Self {
        // Each member is named, so that a new one is put on one side or the other.
        let Account {
            tenant: _,
            pbx: _,
            username: _,
            auth_username: _,
            password: _,
            display_name,
            voicemail,
            mailbox,
            pin: _,
            buttons: _,
        } = account;
        Self {
            id: id.clone(),
            display_name: display_name.clone(),
            voicemail: voicemail.clone(),
            mailbox: mailbox.clone(),
        }
    }
}

impl KeptPbx {
    /// What is kept of a PBX.
    #[must_use]
    pub fn of(id: &Id, pbx: &Pbx) -> Self {
        Self {
            id: id.clone(),
            sip: pbx.sip.clone(),
            codecs: pbx.codecs.clone(),
        }
    }
}

impl Snapshot {
    /// Makes an account of today one of then: how it logs in, and where, is today's.
    pub fn restore_account(&self, id: &Id, today: &mut Account) {
        if let Some(kept) = self.accounts.iter().find(|kept| kept.id == *id) {
            today.display_name.clone_from(&kept.display_name);
            today.voicemail.clone_from(&kept.voicemail);
            today.mailbox.clone_from(&kept.mailbox);
        }
    }

    /// Makes a PBX of today one of then, if the phone was at it.
    pub fn restore_pbx(&self, id: &Id, today: &mut Pbx) {
        if let Some(kept) = self.pbxes.iter().find(|kept| kept.id == *id) {
            today.sip.clone_from(&kept.sip);
            today.codecs.clone_from(&kept.codecs);
        }
    }
}

impl DeviceState {
    /// The versions that are kept at a time, the oldest first.
    #[must_use]
    pub fn versions_at(&self, now: Timestamp) -> Vec<Version> {
        let mut versions = self.versions.clone();
        self.drop_old(&mut versions, now);
        versions
    }

    /// The version of a number, if it is kept.
    #[must_use]
    pub fn version_at(&self, number: u64, now: Timestamp) -> Option<Version> {
        let mut versions = self.versions_at(now).into_iter().rev();
        versions.find(|version| version.is(number))
    }

    /// Whether R2's object of this name is one that a version, or the pin, is in need of.
    #[must_use]
    pub fn needs(&self, content: &str) -> bool {
        let pinned = self.pinned.as_ref();
        pinned.is_some_and(|pinned| pinned.content == content)
            || self.versions.iter().any(|kept| kept.content == content)
    }

    /// Adds a version to the list, and takes off it what is too old or too much. The same text again is the same
    /// entry under another number, so that new passwords and sessions push no other text out.
    pub fn add_version(&mut self, new: Version, now: Timestamp) {
        let mut versions = std::mem::take(&mut self.versions);
        let before: Vec<String> = versions.iter().map(|kept| kept.content.clone()).collect();
        match versions.last_mut() {
            Some(last) if last.content == new.content => {
                last.same.insert(0, last.version);
                last.same.truncate(MOST_SAME);
                last.version = new.version;
                last.sources = new.sources;
            }
            _ => versions.push(new),
        }
        self.drop_old(&mut versions, now);
        self.versions = versions;
        self.left_over |= before.iter().any(|content| !self.needs(content));
    }

    /// Drops what is over. The newest and the one that the phone is held to stay.
    fn drop_old(&self, versions: &mut Vec<Version>, now: Timestamp) {
        let pinned = self.pinned.as_ref();
        let stays = |version: &Version| pinned.is_some_and(|pinned| version.is(pinned.version));
        let replaced: Vec<Timestamp> = versions.iter().skip(1).map(|next| next.made_at).collect();
        let mut replaced = replaced.into_iter();
        versions.retain(|version| {
            let at = replaced.next();
            stays(version) || at.is_none_or(|at| now.since(at) < KEPT_S)
        });
        let mut over = versions.len().saturating_sub(MOST_VERSIONS);
        versions.retain(|version| {
            let goes = over > 0 && !stays(version);
            over -= usize::from(goes);
            !goes
        });
    }
}
