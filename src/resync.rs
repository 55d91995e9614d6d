//! Phones are told to fetch again when their files changed: who is due, when, and what became of it.
//!
//! Two kinds of marks in R2, which the scheduled handler works off ([`crate::tick`]). A save of a
//! record that many phones share leaves `regenerate/{kind}/{id}/…`: the files of its devices are made
//! again, some in each run. A device whose phone has older files than there are gets `resync/{mac}`:
//! it is told by a NOTIFY of its PBX, once for a version, unless it is in a call. A phone that is not
//! registered is left to its poll timer. What became of it stands in `told/{mac}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::gather::in_order;
use crate::json;
use crate::key::{self, Kind};
use crate::keys::hex;
use crate::mac::Mac;
use crate::ports::{Objects, Only, World};
use crate::record::Stored;
use crate::record::device::Device;
use crate::rollout::Canaries;
use crate::text::Id;
use crate::time::Timestamp;

/// Over how many seconds the phones are spread whose files a change of a shared record made anew, each
/// at a time of its own. Each run makes the files of some and tells some, so many of them take longer.
pub const SPREAD_S: u64 = 300;

/// How long a phone that cannot be told (it is in a call, or its PBX does not answer) is tried, in
/// seconds. Its poll timer ends before.
pub const GIVE_UP_S: u64 = 86_400;

/// The metadata of a mark that says when the phone may be told, in seconds since 1970.
pub const NOT_BEFORE: &str = "not_before";

/// That a phone is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Since when.
    pub since: Timestamp,
    /// When it may be.
    pub not_before: Timestamp,
    /// Why it was not when it was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Waits>,
}

/// Why a phone is not told yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waits {
    /// A line of it has a channel.
    InCall,
    /// Its PBX gave no clear answer, or did not take it.
    Pbx,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// [`crate::record::device::FileSet::version`] that it was about.
    pub version: u64,
    /// What.
    pub state: Outcome,
    /// When.
    pub at: Timestamp,
}

/// How telling a phone ended. None of it says that it fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The PBX took the NOTIFY.
    Sent,
    /// It is not registered: it comes when its poll timer says so, or when it starts.
    LeftToItsPoll,
    /// No PBX of it has AMI.
    NoAmi,
}

/// What an admin sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Resync"))]
pub struct Shown {
    /// In words.
    pub state: &'static str,
    /// Since when, or when.
    pub at: Timestamp,
}

/// What is to be done about a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing any more: the phone has what there is, or was told of it, or never came.
    Over,
    /// The phone is told of this version.
    Tell(u64),
}

/// Whether a phone is still to be told of its files. One that never fetched any comes by itself.
#[must_use]
pub fn turn(device: &Stored<Device>, told: Option<&Told>) -> Turn {
    let Some(files) = device.state.files.as_ref().filter(|_| device.alive()) else {
        return Turn::Over;
    };
    let version = files.version;
    let had = has(device);
    let behind = had.is_some_and(|had| had < version);
    let known = told.is_some_and(|told| told.version >= version);
    if behind && !known && device.record.enabled && !device.record.decoy {
        Turn::Tell(version)
    } else {
        Turn::Over
    }
}

/// The version that the phone last fetched.
fn has(device: &Stored<Device>) -> Option<u64> {
    let seen = device.state.seen;
    let last = seen.configured.or(seen.booted);
    last.map(|sighting| sighting.version)
}

/// How far a phone is with being told, for its status; `None` if it never had to be.
#[must_use]
pub fn shown(device: &Stored<Device>, mark: Option<&Mark>, told: Option<&Told>) -> Option<Shown> {
    if let (Some(mark), Turn::Tell(_)) = (mark, turn(device, told)) {
        let state = match mark.why {
            None => "waiting",
            Some(Waits::InCall) => "waiting (in a call)",
            Some(Waits::Pbx) => "waiting (the PBX gave no clear answer)",
        };
        return Some(Shown {
            state,
            at: mark.since,
        });
    }
    let told = told?;
    if let Some(configured) = device.state.seen.configured
        && configured.version >= told.version
    {
        return Some(Shown {
            state: "fetched",
            at: configured.at,
        });
    }
    let state = match told.state {
        Outcome::Sent => "sent to the PBX",
        Outcome::LeftToItsPoll => "left to its poll",
        Outcome::NoAmi => "no AMI",
    };
    Some(Shown { state, at: told.at })
}

/// When a phone may be told: within `spread_s` seconds from now, at a time that its MAC tells.
#[must_use]
pub fn not_before(mac: Mac, now: Timestamp, spread_s: u64) -> Timestamp {
    // The last bytes of a MAC count up; a multiplication scatters them (Knuth, 6.4).
    let [_, _, a, b, c, d] = mac.bytes();
    let scattered = u32::from_be_bytes([a, b, c, d]).wrapping_mul(2_654_435_769) >> 8;
    now.plus(u64::from(scattered) % (spread_s + 1))
}

/// Has a phone told to fetch again, if it fetched older files than there are; does nothing else. May
/// be called again and again.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn ask<W: World>(
    world: &W,
    mac: Mac,
    device: &Stored<Device>,
    spread_s: u64,
) -> Result<(), Fault> {
    if turn(device, None) == Turn::Over {
        return Ok(());
    }
    let now = world.now();
    let mark = Mark {
        since: now,
        not_before: not_before(mac, now, spread_s),
        why: None,
    };
    match put_mark(world, mac, &mark, Only::Absent).await {
        // Somebody put it within this second.
        Err(Fault::Throttled) => Ok(()),
        other => other,
    }
}

/// Writes a mark.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn put_mark<W: World>(
    world: &W,
    mac: Mac,
    mark: &Mark,
    only: Only<'_>,
) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(mark).map_err(|_| Fault::Broken("resync mark"))?;
    let due = in_order([(NOT_BEFORE.to_owned(), mark.not_before.0.to_string())]);
    world.r2().put(&key::resync(mac), bytes, due, only).await?;
    Ok(())
}

/// Writes down what became of it.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn put_told<W: World>(world: &W, mac: Mac, told: &Told) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(told).map_err(|_| Fault::Broken("resync outcome"))?;
    let key = key::told(mac);
    let put = world.r2().put(&key, bytes, BTreeMap::new(), Only::Always);
    put.await?;
    Ok(())
}

/// Reads the mark of a device.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn mark<W: World>(world: &W, mac: Mac) -> Result<Option<Mark>, Fault> {
    let object = world.r2().get(&key::resync(mac)).await?;
    Ok(object.and_then(|object| json::read(&object.body).ok()))
}

/// Reads what became of it.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn told<W: World>(world: &W, mac: Mac) -> Result<Option<Told>, Fault> {
    let object = world.r2().get(&key::told(mac)).await?;
    Ok(object.and_then(|object| json::read(&object.body).ok()))
}

/// Forgets a device that is gone: the next to have its MAC may be another tenant's.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn forget<W: World>(world: &W, mac: Mac) -> Result<(), Fault> {
    world.r2().delete(&key::resync(mac)).await?;
    world.r2().delete(&key::told(mac)).await
}

/// How far the files of a shared record's devices are made again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Whose devices; `None`: everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Id>,
    /// The last device that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Mac>,
    /// Only of these; all others' files stay as they are, but for the revisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Canaries>,
    /// Of [`key::Regenerated::Rollouts`]: the last tenant that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_tenant: Option<Id>,
    /// How many of `only` have the templates that are rolled out after they were looked at.
    #[serde(default, skip_serializing_if = "is_none")]
    pub with: u32,
    /// How many have others.
    #[serde(default, skip_serializing_if = "is_none")]
    pub without: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_none(count: &u32) -> bool {
    *count == 0
}

/// Has the files made again that a record is part of. A later call begins anew.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn regenerate<W: World>(
    world: &W,
    what: key::Regenerated<'_>,
    tenant: Option<&Id>,
    only: Option<&Canaries>,
) -> Result<(), Fault> {
    let nonce: [u8; 4] = world.random()?;
    let key = key::regenerate(what, world.now(), &hex(&nonce));
    let progress = Progress {
        tenant: tenant.cloned(),
        only: only.cloned(),
        ..Progress::default()
    };
    let bytes = serde_json::to_vec(&progress).map_err(|_| Fault::Broken("progress"))?;
    let put = world.r2().put(&key, bytes, BTreeMap::new(), Only::Always);
    put.await?;
    Ok(())
}

/// Whether a device's files are made of a record, as far as its own record and those of its accounts'
/// PBXes tell.
#[must_use]
pub fn concerns(what: key::Regenerated<'_>, device: &Device, pbxes: &[Id]) -> bool {
    match what {
        key::Regenerated::Templates | key::Regenerated::Record(Kind::Tenant, _) => true,
        key::Regenerated::Record(Kind::Profile, id) => device
            .profile
            .as_ref()
            .is_some_and(|own| own.as_str() == id),
        key::Regenerated::Record(Kind::Pbx, id) => pbxes.iter().any(|pbx| pbx.as_str() == id),
        key::Regenerated::TemplatesOf(tenant, vendor) => {
            device.tenant.as_str() == tenant && device.vendor == vendor
        }
        key::Regenerated::Record(..) | key::Regenerated::Rollouts => false,
    }
}
