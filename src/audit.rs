//! What is written down for good: who changed what, what a phone did for the first time, who was
//! refused. Never a secret.
//!
//! Each event is an object of its own, so that no key is written by everyone; the scheduled handler
//! chains them ([`crate::chaining`]). Until then a signature beside it, in its metadata, shows that
//! it was written here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::gather::in_order;
use crate::json;
use crate::key;
use crate::keys::{Keys, hex, sha256_hex};
use crate::ports::{Level, Objects, Only, World};
use crate::text::Id;
use crate::time::Timestamp;

/// The [`Event::actor`] of what a phone did, or somebody who says to be one.
pub const PHONE: &str = "phone";
/// The [`Event::actor`] of what the scheduled handler did.
pub const DIALTONE: &str = "dialtone";

/// The longest value of a detail, in characters.
const DETAIL_CHARS: usize = 256;

/// The name in an event's metadata of what signs it.
const SIGNATURE: &str = "signature";

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Who: [`PHONE`], [`DIALTONE`], or [`crate::admin::caller::Caller::name`] of an admin.
    pub actor: String,
    /// Whose business it is; `None`: the operator's of this Dialtone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Id>,
    /// What: one of a bounded number of words, such as `device.armed`.
    pub action: String,
    /// To what: its path in the admin API without `/api/v1/`, such as `devices/805ec0000001`.
    pub resource: String,
    /// What else is known: a source address, a country, why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, String>,
    /// Whether somebody should look at it soon: it goes to the tenant's webhook, unless that wants other things.
    #[serde(default, skip_serializing_if = "is_false")]
    pub alarm: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Event {
    /// An event of now, without details.
    #[must_use]
    pub fn new<W: World>(
        world: &W,
        actor: &str,
        tenant: Option<&Id>,
        action: &'static str,
        resource: String,
    ) -> Self {
        Self {
            at: world.now(),
            actor: actor.to_owned(),
            tenant: tenant.cloned(),
            action: action.to_owned(),
            resource,
            detail: BTreeMap::new(),
            alarm: false,
        }
    }

    /// The same with a detail, of which at most 256 characters are kept: some of it comes from callers.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        let value: String = value.into().chars().take(DETAIL_CHARS).collect();
        self.detail.insert(name.to_owned(), value);
        self
    }

    /// The same as an alarm.
    #[must_use]
    pub fn alarming(mut self) -> Self {
        self.alarm = true;
        self
    }
}

/// Writes an event down. A failure costs an entry, so it is logged and undoes nothing.
///
/// Two of one second may be chained in either order; the edition tells which change of a record was
/// first.
pub async fn note<W: World>(world: &W, event: &Event) {
    let nonce: [u8; 8] = world.random().unwrap_or_default();
    let name = format!("{:012}-{}", event.at.0, hex(&nonce));
    write(world, event, &name, Only::Always).await;
}

/// Writes an event down unless one of the same action and resource was in this minute: what a
/// caller can make happen a thousand times is not a thousand entries.
pub async fn note_once_a_minute<W: World>(world: &W, event: &Event) {
    let minute = event.at.0 / 60 * 60;
    let what = event.resource.replace('/', ".");
    let name = format!("{minute:012}-{}-{what}", event.action);
    write(world, event, &name, Only::Absent).await;
}

async fn write<W: World>(world: &W, event: &Event, name: &str, only: Only<'_>) {
    let level = if event.alarm {
        Level::Warn
    } else {
        Level::Info
    };
    let fields = [
        ("action", event.action.as_str()),
        ("resource", event.resource.as_str()),
        ("actor", event.actor.as_str()),
    ];
    world.log(level, "audit", &fields);
    let key = key::audit_new(event.tenant.as_ref(), name);
    let written = async {
        let bytes = serde_json::to_vec(event).map_err(|_| Fault::Broken("audit to json"))?;
        let signature = world.keys().sign_audit(&key, &bytes)?;
        let metadata = in_order([(SIGNATURE.to_owned(), signature)]);
        world.r2().put(&key, bytes, metadata, only).await
    };
    if let Err(fault) = written.await {
        world.log(Level::Error, "audit.lost", &[("fault", fault.label())]);
    }
}

/// Reads an event that is not chained yet: the object's name, its bytes, and what a listing says of
/// it. What was not written here, or not so, is an alarm that says so: it is neither taken for an
/// event nor passed over. The same object always reads the same.
#[must_use]
pub fn read(
    keys: &Keys,
    tenant: Option<&Id>,
    name: &str,
    body: &[u8],
    metadata: &BTreeMap<String, String>,
) -> Event {
    let key = key::audit_new(tenant, name);
    let signed = metadata
        .get(SIGNATURE)
        .is_some_and(|signature| keys.audit_signer(&key, body, signature).is_some());
    let event = signed.then(|| json::read::<Event>(body).ok()).flatten();
    event.unwrap_or_else(|| {
        // The name may be anything: what cannot be written as a time could not be read again.
        let at = name.get(..12).and_then(|at| at.parse().ok());
        let at = at.map(Timestamp).filter(|at| *at <= Timestamp::LAST);
        Event {
            at: at.unwrap_or_default(),
            actor: DIALTONE.to_owned(),
            tenant: tenant.cloned(),
            action: "audit.forged".to_owned(),
            resource: "audit".to_owned(),
            detail: BTreeMap::new(),
            alarm: true,
        }
        .with("sha256", sha256_hex(body))
    })
}
