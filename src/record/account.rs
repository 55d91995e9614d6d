//! An account: a SIP user at a PBX.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Record;
use super::device::Button;
use crate::key::Kind;
use crate::mac::Mac;
use crate::secret::{Secret, secret_or_empty};
use crate::text::{Dial, DisplayName, Id, Mailbox, Username};
use crate::time::Timestamp;

/// A SIP user at a PBX.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The tenant that owns it.
    pub tenant: Id,
    /// The PBX that it registers with.
    pub pbx: Id,
    /// The user part of its address; unique at its PBX.
    pub username: Username,
    /// The user of the digest, where it is another. Default: `username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_username: Option<Username>,
    /// The digest's password. Written, never read back; made if a new account comes without one.
    #[serde(default, skip_serializing)]
    pub password: Option<Secret>,
    /// What others see when it calls. Default: `username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<DisplayName>,
    /// What the voicemail key dials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voicemail: Option<Dial>,
    /// The mailbox at the PBX whose messages its phones show. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<Mailbox>,
    /// The PIN of hot-desking: without one the user logs in nowhere. Written, never read back; an
    /// empty one takes away the one that is stored.
    #[serde(default, skip_serializing, deserialize_with = "secret_or_empty")]
    #[cfg_attr(
        not(target_arch = "wasm32"),
        schemars(with = "Option<crate::secret::SecretOrEmpty>")
    )]
    pub pin: Option<Secret>,
    /// The keys of a hot-desking phone while the user is logged in there; the user has one line, 1.
    /// Empty: the phone's own keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<Button>,
}

/// What Dialtone keeps beside an account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountState {
    /// The devices that have, or had, a line or a session with it. One too many costs a needless look; a
    /// missing one would leave a phone with the old password, so a device is added here before
    /// it is saved and taken out after. It also is how many phones may register at once.
    #[serde(default)]
    pub devices: BTreeSet<Mac>,
    /// The names at a PBX that it had before, until their tombstones are written.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub former_names: BTreeSet<(Id, Username)>,
    /// [`super::Stored::rev`] of the save that brought the digest user and password that are good
    /// now; 0 if they were never changed since the account is there.
    #[serde(default)]
    pub login_rev: u64,
    /// [`super::Stored::rev`] of the save that brought the PIN that is good now. Wrong PINs that were
    /// counted against another one count no more.
    #[serde(default)]
    pub pin_rev: u64,
    /// What goes on working at the PBX beside them, oldest first; at most one for each [`Slot`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_passwords: Vec<FormerPassword>,
}

/// A password that was replaced and that a phone may still have. The password itself is among
/// [`super::Stored::sealed`], under [`Slot::sealed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerPassword {
    /// Where it is kept, here and at the PBX.
    pub slot: Slot,
    /// The user of the digest that it went with.
    pub login: Username,
    /// When it was replaced.
    pub since: Timestamp,
}

/// A place for a former password. The names are few and fixed, so that what a run that was killed
/// left at the PBX is found by looking at all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The first.
    First,
    /// The second.
    Second,
    /// The third.
    Third,
}

impl Slot {
    /// Every place.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Third];

    /// The name under which the password is sealed.
    #[must_use]
    pub fn sealed(self) -> &'static str {
        match self {
            Self::First => "former_password_1",
            Self::Second => "former_password_2",
            Self::Third => "former_password_3",
        }
    }

    /// The name of the PJSIP `auth` at the PBX. No account's own objects can have it: a
    /// [`Username`] holds no `@`.
    #[must_use]
    pub fn object(self, username: &Username) -> String {
        let number = match self {
            Self::First => 1,
            Self::Second => 2,
            Self::Third => 3,
        };
        format!("{username}@former-{number}")
    }
}

/// The name under which [`Account::pin`] is sealed.
pub const PIN: &str = "pin";

/// The most devices that one account sits on: a change of it renders that many phones' files.
pub const MOST_DEVICES: usize = 20;

impl Account {
    /// The user of the digest.
    #[must_use]
    pub fn auth_username(&self) -> &Username {
        self.auth_username.as_ref().unwrap_or(&self.username)
    }

    /// The name that others see.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.display_name
            .as_ref()
            .map_or(self.username.as_str(), DisplayName::as_str)
    }
}

impl Record for Account {
    type State = AccountState;
    const KIND: Kind = Kind::Account;

    fn tenant(&self) -> Option<&Id> {
        Some(&self.tenant)
    }

    fn take_secrets(&mut self) -> Vec<(&'static str, Option<Secret>)> {
        vec![("password", self.password.take()), (PIN, self.pin.take())]
    }

    fn made_secrets(&self) -> &'static [&'static str] {
        &["password"]
    }
}
