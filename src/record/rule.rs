//! A rule: which provisioning server the phones that match it are sent to.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::key::Kind;
use crate::step2_redirect::UrlTemplate;
use crate::text::{Id, Place};
use crate::vendor::VendorId;

/// Sends the devices that match to a URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What a device must be for the rule to hold. Empty: every device.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Where it is sent.
    pub url: UrlTemplate,
    /// Among rules that match in as many fields the higher goes first. Default 0.
    #[serde(default)]
    pub priority: i32,
}

/// The fields of a rule; each that is present must be equal, without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The device's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Id>,
    /// The device's site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Place>,
    /// The device's region, or else the continent that its request came from (`EU`, `NA`, ...).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Place>,
    /// The country that the request came from (ISO 3166, two letters).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Place>,
    /// The device's vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<VendorId>,
    /// The device's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Place>,
}

impl Record for Rule {
    type State = ();
    const KIND: Kind = Kind::Rule;

    fn tenant(&self) -> Option<&Id> {
        self.matches.tenant.as_ref()
    }
}
