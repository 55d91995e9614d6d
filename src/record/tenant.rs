//! A tenant: a customer, and what it accepts as proof that a caller is its phone.

use serde::{Deserialize, Serialize};

use super::Record;
use super::settings::Settings;
use crate::key::Kind;
use crate::map::Set;
use crate::secret::Secret;
use crate::text::{DisplayName, Id};

/// What can show that a caller is the phone it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The serial number equals the record's.
    Serial,
    /// The device's own first-access key stands in the path.
    Key,
    /// An admin armed the device, and nobody has claimed it since.
    Window,
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// How people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DisplayName>,
    /// Any one of these lets a phone in. Empty: no phone gets in through the RPS.
    #[serde(default = "every_proof")]
    pub proofs: Set<Proof>,
    /// Whether phones of this tenant may be served over plain http outside of loopback hosts.
    #[serde(default)]
    pub allow_plain_http: bool,
    /// Settings for all devices of the tenant, below those of a profile.
    #[serde(default)]
    pub settings: Settings,
}

fn every_proof() -> Set<Proof> {
    [Proof::Serial, Proof::Key, Proof::Window].into()
}

impl Record for Tenant {
    type State = ();
    const KIND: Kind = Kind::Tenant;

    fn tenant(&self) -> Option<&Id> {
        None
    }

    fn take_secrets(&mut self) -> Vec<(&'static str, Option<Secret>)> {
        self.settings.take_secrets()
    }
}
