//! What is written down for good: who changed what, what a phone did for the first time, who was
//! refused. Never a secret.
//!
//! Each event is an object of its own, so that no key is written by everyone; the scheduled handler
//! chains them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::key;
use crate::keys::hex;
use crate::ports::{Level, Objects, Only, World};
use crate::text::Id;
use crate::time::Timestamp;

/// The [`Event::actor`] of what a phone did, or somebody who says to be one.
pub const PHONE: &str = "phone";
/// The [`Event::actor`] of what the scheduled handler did.
pub const DIALTONE: &str = "dialtone";

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whether somebody should look at it soon: it goes to the tenant's webhook.
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

    /// The same with a detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.detail.insert(name.to_owned(), value.into());
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
    let written = match serde_json::to_vec(event) {
        Ok(bytes) => world.r2().put(&key, bytes, BTreeMap::new(), only).await,
        Err(_) => Err(Fault::Broken("audit to json")),
    };
    if let Err(fault) = written {
        world.log(Level::Error, "audit.lost", &[("fault", fault.label())]);
    }
}
