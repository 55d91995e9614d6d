//! The last time that somebody was refused who asked for a device: what its status says of it. The
//! audit has each of them, but nobody can look through it for one phone.
//!
//! Written after the caller has its answer, within the limits of [`crate::afterwards`]; read for one
//! device's status alone, so that it is on no phone's way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::json;
use crate::key;
use crate::mac::Mac;
use crate::ports::{Objects, Only, World};
use crate::step2_redirect::Why;
use crate::text::Id;
use crate::time::Timestamp;

/// How long the same refusal of the same caller is not written again, in seconds: a phone that is locked
/// out asks all the time.
pub const AGAIN_AFTER_S: u64 = 600;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Whose device it was: the MAC may be another's later.
    pub tenant: Id,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: Why,
    /// From which source address (an IPv6 caller's /64).
    pub source: String,
    /// How often that was written down since the device is this tenant's.
    pub times: u32,
}

/// The last refusal of a tenant's device; `None` also for one that cannot be read, which tells less.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn last<W: World>(world: &W, mac: Mac, tenant: &Id) -> Result<Option<Refusal>, Fault> {
    let object = world.r2().get(&key::refused(mac)).await?;
    let refusal = object.and_then(|object| json::read::<Refusal>(&object.body).ok());
    Ok(refusal.filter(|refusal| refusal.tenant == *tenant))
}

/// Writes a refusal over the one before, unless it is the same again within ten minutes.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn note<W: World>(
    world: &W,
    mac: Mac,
    tenant: &Id,
    why: Why,
    source: &str,
) -> Result<(), Fault> {
    let before = last(world, mac, tenant).await?;
    let now = world.now();
    let same = |before: &Refusal| {
        before.why == why && before.source == source && now.since(before.at) < AGAIN_AFTER_S
    };
    if before.as_ref().is_some_and(same) {
        return Ok(());
    }
    let refusal = Refusal {
        tenant: tenant.clone(),
        at: now,
        why,
        source: source.to_owned(),
        times: before.map_or(0, |before| before.times).saturating_add(1),
    };
    let bytes = serde_json::to_vec(&refusal).map_err(|_| Fault::Broken("refusal to json"))?;
    let key = key::refused(mac);
    world
        .r2()
        .put(&key, bytes, BTreeMap::new(), Only::Always)
        .await?;
    Ok(())
}

/// Removes it; when its device is deleted.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn forget<W: World>(world: &W, mac: Mac) -> Result<(), Fault> {
    world.r2().delete(&key::refused(mac)).await
}
