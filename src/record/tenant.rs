//! A tenant: a customer, and what it accepts as proof that a caller is its phone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Record;
use super::settings::{Locked, Settings};
use crate::gather::in_order;
use crate::key::Kind;
use crate::rollout::templates::Templates;
use crate::secret::Secret;
use crate::text::{Country, DisplayName, Id, Place, WebUrl};
use crate::time::Hours;

/// What can show that a caller is the phone it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The serial number equals the record's.
    Serial,
    /// A client certificate that the platform verified names the MAC where the vendor's do.
    Certificate,
    /// The device's own first-access key stands in the path.
    Key,
    /// An admin armed the device, and nobody has claimed it since.
    Window,
    /// The request comes from one of the tenant's networks.
    Network,
}

impl Proof {
    /// Every proof.
    pub const ALL: [Self; 5] = [
        Self::Serial,
        Self::Certificate,
        Self::Key,
        Self::Window,
        Self::Network,
    ];
}

/// What becomes of a phone that comes from a country or network operator that is new for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// Nothing; where it comes from is not kept either.
    Allow,
    /// It is served as ever, and the audit has it.
    #[default]
    Note,
    /// From there it gets nothing new until an admin releases it. It keeps what it has.
    Quarantine,
}

/// How many of a tenant's proofs a phone must bring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// Any one of them.
    #[default]
    Any,
    /// All of them.
    All,
}

/// Where a tenant's phones may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// The countries that requests may come from (ISO 3166, two letters). Empty: any. It only
    /// narrows a proof and is none itself.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub countries: BTreeSet<Country>,
    /// The numbers of the autonomous systems that requests may come from. Empty: any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub asns: BTreeSet<u32>,
}

/// Up to 100 networks, as `192.0.2.0/24` and `2001:db8::/32`, none wider than a /8 or a /16.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<IpNet>", into = "Vec<IpNet>")]
pub struct Networks(Vec<IpNet>);

/// The most networks that a tenant has.
const MOST_NETWORKS: usize = 100;

schema!(Networks, "Networks, as 192.0.2.0/24 and 2001:db8::/32; none wider than a /8 or a /16.", {
    "type": "array",
    "items": {
        "type": "string",
        "pattern": concat!(
            "^(((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}",
            "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])/([89]|[12][0-9]|3[0-2])",
            "|[0-9A-Fa-f:.]+/(1[6-9]|[2-9][0-9]|1[01][0-9]|12[0-8]))$"
        ),
    },
    "maxItems": MOST_NETWORKS,
});

impl Networks {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of them. An IPv4 address that is written as an IPv6 one is
    /// itself (RFC 4291, 2.5.5.2); what is no address is nowhere.
    #[must_use]
    pub fn contain(&self, address: &str) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else {
            return false;
        };
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl TryFrom<Vec<IpNet>> for Networks {
    type Error = &'static str;

    fn try_from(networks: Vec<IpNet>) -> Result<Self, Self::Error> {
        let wide = |network: &IpNet| {
            let least = match network {
                IpNet::V4(_) => 8,
                IpNet::V6(_) => 16,
            };
            network.prefix_len() < least
        };
        if networks.len() > MOST_NETWORKS {
            Err("must be at most 100 networks")
        } else if networks.iter().any(wide) {
            Err("must not hold a network wider than /8 (IPv4) or /16 (IPv6)")
        } else {
            Ok(Self(networks))
        }
    }
}

impl From<Networks> for Vec<IpNet> {
    fn from(networks: Networks) -> Self {
        networks.0
    }
}

/// What a webhook may want of the audit. Which entries that are says [`crate::webhook`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Every alarm.
    Alarms,
    /// A phone registered.
    Registered,
    /// A phone that was registered is not any more.
    Offline,
    /// Somebody was refused who asked for a device.
    Refused,
    /// Somebody came for a window that another one had claimed.
    Contested,
    /// At a PBX too much changed at once to be believed or done.
    Breaker,
    /// A roll-out was stopped.
    Rollout,
}

/// A whole number from `LEAST` to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Within<const LEAST: u64, const MOST: u64>(u64);

#[cfg(not(target_arch = "wasm32"))]
impl<const LEAST: u64, const MOST: u64> schemars::JsonSchema for Within<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("From{LEAST}To{MOST}").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": LEAST, "maximum": MOST })
    }
}

impl<const LEAST: u64, const MOST: u64> Within<LEAST, MOST> {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<const LEAST: u64, const MOST: u64> TryFrom<u64> for Within<LEAST, MOST> {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        if (LEAST..=MOST).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("must be between {LEAST} and {MOST}"))
        }
    }
}

impl<const LEAST: u64, const MOST: u64> From<Within<LEAST, MOST>> for u64 {
    fn from(number: Within<LEAST, MOST>) -> Self {
        number.0
    }
}

/// How a change of many phones' files is tried at some of them first ([`crate::rollout`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RolloutTerms {
    /// The share of the phones that get it first, in percent, rounded up.
    pub canary_percent: Within<1, 50>,
    /// How long one of them must have had it, and be registered, before all get it. At least 15, since a
    /// registration lasts for up to ten minutes ([`crate::step7_register::LONGEST_REGISTRATION_S`]).
    pub minutes: Within<15, 1_440>,
    /// More than this share of those that have it, in percent, lost their registration: it stops.
    pub max_lost_percent: Within<0, 50>,
}

impl Default for RolloutTerms {
    fn default() -> Self {
        Self {
            canary_percent: Within(5),
            minutes: Within(60),
            max_lost_percent: Within(10),
        }
    }
}

/// Where entries of the audit go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The address that they are posted to.
    pub url: WebUrl,
    /// Which of them. Default: the alarms.
    #[serde(default = "alarms", skip_serializing_if = "is_alarms")]
    pub events: BTreeSet<Topic>,
    /// What signs them. Written, never read back.
    #[serde(default, skip_serializing)]
    pub secret: Option<Secret>,
}

/// The name under which [`Webhook::secret`] is sealed.
pub const WEBHOOK_SECRET: &str = "webhook_secret";

/// A customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// How people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DisplayName>,
    /// What lets a phone in: any one of these, or all of them, as `require` says. Empty: no phone
    /// gets in through the RPS. Default: all but `network`.
    #[serde(default = "usual_proofs")]
    pub proofs: BTreeSet<Proof>,
    /// Whether any one of `proofs` is enough. Default `any`.
    #[serde(default)]
    pub require: Require,
    /// The networks of the proof `network`.
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub networks: Networks,
    /// Where phones may be; from elsewhere no proof lets them in.
    #[serde(default, skip_serializing_if = "is_anywhere")]
    pub places: Places,
    /// What becomes of a phone that moves. Default `note`.
    #[serde(default)]
    pub drift: Drift,
    /// Whether phones of this tenant may be served over plain http outside of loopback hosts.
    #[serde(default)]
    pub allow_plain_http: bool,
    /// How many hours a user stays logged in at a hot-desking phone, 1 to 168. Default 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hot_desk_hours: Option<Hours>,
    /// Where its alarms go, and what else it wants to know at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Whether changes of its profiles' settings and new templates are tried at some phones first, and how.
    /// Absent: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutTerms>,
    /// Settings for all devices of the tenant, below those of a profile.
    #[serde(default)]
    pub settings: Settings,
    /// The settings that neither a profile, a model, a site nor a device may change.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub locked: Locked,
    /// Settings of the tenant's phones of a model, above those of a profile; by the model's name in the
    /// catalogue, at most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("maxProperties" = MOST_MODELS)))]
    pub models: BTreeMap<String, Layer>,
    /// Settings of the tenant's phones at a site, above those of a model; by the devices' `site`, at
    /// most 200.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("maxProperties" = MOST_SITES)))]
    pub sites: BTreeMap<Place, Layer>,
}

/// The most models with settings of their own in one tenant's record.
pub const MOST_MODELS: usize = 64;

/// The most sites with settings of their own in one tenant's record.
pub const MOST_SITES: usize = 200;

/// The most bytes that `models` and `sites` of a tenant may have together, as JSON: every phone's request
/// reads its tenant's record.
pub const MOST_LAYER_BYTES: usize = 65_536;

/// Settings of some of a tenant's phones: those of a model, or those at a site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// The settings, but for passwords, which are sealed for a record of their own.
    #[serde(default)]
    pub settings: Settings,
    /// The settings that no level above may change.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub locked: Locked,
}

impl Tenant {
    /// The settings for a model, and its name in the catalogue. A device may spell it in other letters.
    #[must_use]
    pub fn of_model(&self, model: &str) -> Option<(&str, &Layer)> {
        let mut models = self.models.iter();
        let (name, layer) = models.find(|(name, _)| name.eq_ignore_ascii_case(model))?;
        Some((name, layer))
    }

    /// The settings for a site.
    #[must_use]
    pub fn at_site(&self, site: &Place) -> Option<&Layer> {
        self.sites.get(site)
    }
}

fn alarms() -> BTreeSet<Topic> {
    in_order([Topic::Alarms])
}

fn is_alarms(topics: &BTreeSet<Topic>) -> bool {
    *topics == alarms()
}

fn usual_proofs() -> BTreeSet<Proof> {
    in_order([Proof::Serial, Proof::Certificate, Proof::Key, Proof::Window])
}

fn is_anywhere(places: &Places) -> bool {
    *places == Places::default()
}

impl Record for Tenant {
    /// Which templates its phones may have, if changes are rolled out. `None` reads and writes as the `null` of a
    /// tenant from before.
    type State = Option<Templates>;
    const KIND: Kind = Kind::Tenant;

    fn tenant(&self) -> Option<&Id> {
        None
    }

    fn take_secrets(&mut self) -> Vec<(&'static str, Option<Secret>)> {
        let mut secrets = self.settings.take_secrets();
        if let Some(webhook) = &mut self.webhook {
            secrets.push((WEBHOOK_SECRET, webhook.secret.take()));
        }
        secrets
    }
}
