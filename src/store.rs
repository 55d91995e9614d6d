//! Records in R2, where they are decided, and their copies in KV, where they are late.
//!
//! A change is one compare-and-set of one object, so that a save that is cut off leaves the old or
//! the new. What follows from it (copies, files of other devices) is done by [`crate::finish`],
//! which anybody may run again.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::key::{self, Kind};
use crate::ports::{Mappings, Objects, Only, World};
use crate::record::{Record, Stored};

/// How often a compare-and-set is tried before it is given up as contended.
const TRIES: u32 = 12;

/// A record as it was read, and the version that a write must replace.
#[derive(Debug, Clone)]
pub struct Loaded<R: Record> {
    /// The record.
    pub stored: Stored<R>,
    /// R2's `ETag` of it.
    pub etag: String,
}

/// Where a record's secret is sealed for: moved to another record or name it does not open.
#[must_use]
pub fn secret_place(kind: Kind, id: &str, name: &str) -> String {
    format!("{kind}/{id}/{name}")
}

/// Reads a record from R2; a tombstone too.
///
/// # Errors
/// The [`Fault`] of R2, or [`Fault::Broken`] for bytes that are no such record.
pub async fn load<R: Record, W: World>(world: &W, id: &str) -> Result<Option<Loaded<R>>, Fault> {
    let Some(object) = world.r2().get(&key::record(R::KIND, id)).await? else {
        return Ok(None);
    };
    Ok(Some(Loaded {
        stored: Stored::read(&object.body)?,
        etag: object.etag,
    }))
}

/// Writes a record if it is still the version that was read; false if it is not.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn replace<R: Record, W: World>(
    world: &W,
    id: &str,
    stored: &Stored<R>,
    former: Option<&str>,
) -> Result<bool, Fault> {
    let only = former.map_or(Only::Absent, Only::Version);
    let metadata = listing(stored);
    let put = world
        .r2()
        .put(&key::record(R::KIND, id), stored.write()?, metadata, only)
        .await?;
    Ok(put.is_some())
}

/// What a listing in R2 shows without reading the record.
fn listing<R: Record>(stored: &Stored<R>) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    if let Some(tenant) = stored.record.tenant() {
        metadata.insert("tenant".to_owned(), tenant.to_string());
    }
    if !stored.alive() {
        metadata.insert("gone".to_owned(), "1".to_owned());
    }
    metadata
}

/// Changes an existing record until the compare-and-set holds. `change` returns false if there is
/// nothing to do; it may be called several times, each time with what is there then.
///
/// Returns the record as it is now, or `None` if there is none.
///
/// # Errors
/// The [`Fault`] of R2; [`Fault::Contended`] if others kept changing it.
pub async fn update<R: Record, W: World>(
    world: &W,
    id: &str,
    mut change: impl FnMut(&mut Stored<R>) -> bool,
) -> Result<Option<Stored<R>>, Fault> {
    for attempt in 0..TRIES {
        let Some(Loaded { mut stored, etag }) = load::<R, W>(world, id).await? else {
            return Ok(None);
        };
        if !change(&mut stored) {
            return Ok(Some(stored));
        }
        stored.rev += 1;
        match replace(world, id, &stored, Some(&etag)).await {
            Ok(true) => return Ok(Some(stored)),
            // R2 takes one write a second of one object (R2 limits): the next try waits for it.
            Err(Fault::Throttled) if attempt + 1 < TRIES => world.sleep_ms(1_100).await,
            Err(fault) => return Err(fault),
            Ok(false) => pause(world, attempt).await,
        }
    }
    Err(Fault::Contended)
}

/// Waits a little, longer with each attempt and differently for each caller.
pub async fn pause<W: World>(world: &W, attempt: u32) {
    if attempt > 0 {
        let [jitter] = world.random::<1>().unwrap_or([128]);
        world.sleep_ms(attempt * (10 + u32::from(jitter) / 8)).await;
    }
}

/// How long KV keeps the tombstone of a deleted record: longer than any cache of the live one.
const TOMBSTONE_S: u64 = 7 * 86_400;

/// Copies a record to KV. A second copy within a second waits for KV's limit to pass.
///
/// # Errors
/// The [`Fault`] of KV.
pub async fn publish<R: Record, W: World>(
    world: &W,
    id: &str,
    stored: &Stored<R>,
    metadata: Option<&str>,
) -> Result<(), Fault> {
    let value = serde_json::to_string(stored).map_err(|_| Fault::Broken("record to json"))?;
    let keep = (!stored.alive()).then_some(TOMBSTONE_S);
    put_mapping(world, &key::record(R::KIND, id), &value, metadata, keep).await
}

/// Puts a value into KV, with patience for its limit of one write a second for a key.
///
/// # Errors
/// The [`Fault`] of KV, [`Fault::Throttled`] if it stayed busy.
pub async fn put_mapping<W: World>(
    world: &W,
    key: &str,
    value: &str,
    metadata: Option<&str>,
    keep_s: Option<u64>,
) -> Result<(), Fault> {
    for _ in 0..3 {
        match world.kv().put(key, value, metadata, keep_s).await {
            Err(Fault::Throttled) => world.sleep_ms(1_100).await,
            other => return other,
        }
    }
    Err(Fault::Throttled)
}
