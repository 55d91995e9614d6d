//! A profile: settings that devices share.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Record;
use super::settings::{Locked, Settings};
use crate::key::Kind;
use crate::rollout::Rollout;
use crate::secret::Secret;
use crate::text::{DisplayName, Id};

/// Settings with a name, shared by the devices that refer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The tenant that owns it.
    pub tenant: Id,
    /// How people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DisplayName>,
    /// The settings.
    #[serde(default)]
    pub settings: Settings,
    /// The settings that neither a model, a site nor a device may change.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub locked: Locked,
}

impl Record for Profile {
    /// That not all phones have its settings yet. `None` reads and writes as the `null` of a profile from
    /// before there were roll-outs.
    type State = Option<Rollout>;
    const KIND: Kind = Kind::Profile;

    fn tenant(&self) -> Option<&Id> {
        Some(&self.tenant)
    }

    fn take_secrets(&mut self) -> Vec<(&'static str, Option<Secret>)> {
        self.settings.take_secrets()
    }
}
