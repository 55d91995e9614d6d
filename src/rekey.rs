//! **A change of `SEAL_KEY`.** While `SEAL_KEY_OLD` is set, the scheduled handler brings everything
//! that is sealed from under the old key to the new one, round after round over all records and
//! uploads, and counts what still hangs on the old key, so that an operator sees when it can go.
//!
//! In: R2 and KV, a page at a time. Out: the same values under the new key, each by compare-and-set,
//! and [`Progress`] in R2. What does not open is counted, logged by its place and left as it is.

use serde::{Deserialize, Serialize};

use crate::chain::Head;
use crate::fault::Fault;
use crate::finish;
use crate::json;
use crate::key::{self, Kind};
use crate::keys::{KeyId, Keys, Signer};
use crate::mac::Mac;
use crate::ports::{Level, Mappings, ObjectEntry, Objects, Only, World};
use crate::record::account::Account;
use crate::record::device::Device;
use crate::record::pbx::Pbx;
use crate::record::profile::Profile;
use crate::record::rule::Rule;
use crate::record::tenant::Tenant;
use crate::record::{Record, Stored};
use crate::render;
use crate::store::{self, secret_place};
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// The most calls to the stores in one run of the scheduled handler: enough for a device with as
/// many lines as a record may have, and a third of what a run has.
pub const CALLS: u32 = 300;

/// When nothing new is begun any more, in seconds from the start.
const RUN_S: u64 = 60;

/// How many records are listed at once: KV reads the copies of as many in one call (Workers KV,
/// "Read key-value pairs").
const PAGE: u32 = 100;

/// After this many faults the rest waits for the next run: a store that fails is no better for the
/// next record.
const MOST_FAULTS: u32 = 20;

/// For how long after the change a Worker that does not know of it may still seal and sign with the
/// old key, in seconds. A deploy is everywhere in seconds, and no request takes minutes.
pub const SETTLED_S: u64 = 300;

/// How long after a round that found something the next one begins, in seconds: KV's copies are no
/// older than a minute then.
const AGAIN_S: u64 = 300;

/// The same after a round in which only phones were missing, which come by themselves.
const RECOUNT_S: u64 = 3_600;

/// The same when nothing is left: a backup that is put back may bring the old key back with it.
const WATCH_S: u64 = 86_400;

/// How many of the devices that hang on the old key are named.
const NAMED: usize = 20;

/// What one round over everything found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Round {
    /// When it began.
    pub began: Timestamp,
    /// When it was through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The key in R2 up to which everything was looked at.
    pub after: String,
    /// Records and uploads that were looked at.
    pub looked_at: u64,
    /// Values under the old key: those that are under the new one now, and those that are left.
    pub found: u64,
    /// Those that are left, because something failed.
    pub sealed: u64,
    /// Values that neither key opens, and records that cannot be read. They are as they were.
    pub unreadable: u64,
    /// Devices whose phones may still come with a URL that the new key did not sign.
    pub devices: u64,
    /// The first few of them.
    pub macs: Vec<Mac>,
}

impl Round {
    fn new(now: Timestamp) -> Self {
        Self {
            began: now,
            after: Stage::first().prefix(),
            ..Self::default()
        }
    }

    /// Whether nothing was found for which the old key is needed, or might be.
    fn is_clean(&self) -> bool {
        self.found == 0 && self.sealed == 0 && self.unreadable == 0 && self.devices == 0
    }
}

/// How far a change of keys is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    current: KeyId,
    old: KeyId,
    /// When the two were first seen together.
    since: Timestamp,
    /// The round that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    round: Option<Round>,
    /// The last one that was through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Round>,
}

impl Progress {
    fn new(current: KeyId, old: KeyId, now: Timestamp) -> Self {
        Self {
            current,
            old,
            since: now,
            round: None,
            last: None,
        }
    }

    /// Whether a round was begun late enough to have seen what Workers with the old key wrote.
    fn has_settled(&self, round: &Round) -> bool {
        round.began.since(self.since) >= SETTLED_S
    }

    /// The round to go on with: the one that is under way, or the next one if it is due.
    fn due(&mut self, now: Timestamp) -> Option<Round> {
        if let Some(round) = self.round.take() {
            return Some(round);
        }
        let pause = match &self.last {
            None => 0,
            Some(last) if last.found > 0 || !self.has_settled(last) => AGAIN_S,
            Some(last) if last.is_clean() => WATCH_S,
            Some(_) => RECOUNT_S,
        };
        let ended = self.last.as_ref().and_then(|last| last.ended);
        ended
            .is_none_or(|ended| now.since(ended) >= pause)
            .then(|| Round::new(now))
    }

    /// Keeps what a round came to.
    fn keep(&mut self, round: Round) {
        if round.ended.is_some() {
            self.last = Some(round);
        } else {
            self.round = Some(round);
        }
    }

    /// Whether the old key can go: a whole round, begun late enough, found nothing, and the one
    /// after it nothing so far.
    fn is_done(&self) -> bool {
        self.last
            .as_ref()
            .is_some_and(|last| last.is_clean() && self.has_settled(last))
            && self.round.as_ref().is_none_or(Round::is_clean)
    }
}

/// What `GET /status` says of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Keys"))]
pub struct Shown {
    /// The key that seals and signs.
    pub current: KeyId,
    /// During a change: the key that only opens and verifies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<ShownOld>,
}

/// What still hangs on the old key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "OldKey"))]
pub struct ShownOld {
    /// Which key that is.
    pub id: KeyId,
    /// [`Round::sealed`] of the last whole round; of the first one so far, before there is any.
    pub sealed: u64,
    /// [`Round::unreadable`] of the same.
    pub unreadable: u64,
    /// [`Round::devices`] of the same.
    pub devices: u64,
    /// [`Round::macs`] of the same.
    pub macs: Vec<Mac>,
    /// When that round was through; `None`: there was no whole one yet.
    pub checked_at: Option<Timestamp>,
    /// Whether `SEAL_KEY_OLD` can be deleted.
    pub done: bool,
}

/// The keys, and during a change how far it is. Reads one object of R2, and none without a change.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn shown<W: World>(world: &W) -> Result<Shown, Fault> {
    let current = world.keys().id();
    let Some(old) = world.keys().old() else {
        return Ok(Shown { current, old: None });
    };
    let (progress, _) = load(world, current, old).await?;
    let done = progress.is_done();
    let round = progress.last.or(progress.round).unwrap_or_default();
    Ok(Shown {
        current,
        old: Some(ShownOld {
            id: old,
            sealed: round.sealed,
            unreadable: round.unreadable,
            devices: round.devices,
            macs: round.macs,
            checked_at: round.ended,
            done,
        }),
    })
}

/// What is known of the change from one key to another, and R2's version of it.
async fn load<W: World>(
    world: &W,
    current: KeyId,
    old: KeyId,
) -> Result<(Progress, Option<String>), Fault> {
    let object = world.r2().get(key::REKEY).await?;
    let (body, version) = object.map(|object| (object.body, object.etag)).unzip();
    // One that cannot be read, or is of another change, tells nothing: everything is looked at anew.
    let progress = body
        .and_then(|body| json::read::<Progress>(&body).ok())
        .filter(|progress| (progress.current, progress.old) == (current, old));
    let progress = progress.unwrap_or_else(|| Progress::new(current, old, world.now()));
    Ok((progress, version))
}

/// One run: goes on with the round that is under way, or begins the next one that is due. Does
/// nothing, and reads nothing, unless `SEAL_KEY_OLD` is set. At most [`CALLS`] calls to the stores.
///
/// # Errors
/// The [`Fault`] of a store that kept everything from being listed. What was done until then is
/// kept; the next run goes on there.
pub async fn run<W: World>(world: &W) -> Result<(), Fault> {
    let keys = world.keys();
    let Some(old) = keys.old() else {
        return Ok(());
    };
    let (mut progress, version) = load(world, keys.id(), old).await?;
    let now = world.now();
    let Some(round) = progress.due(now) else {
        return Ok(());
    };
    let mut pass = Pass {
        world,
        began: now,
        // For the two of `progress`.
        left: CALLS - 2,
        faults: 0,
        round,
    };
    let walked = pass.walk().await;
    let round = pass.round;
    if round.ended.is_some() {
        let counts = [round.looked_at, round.found, round.sealed, round.unreadable];
        let [looked_at, found, sealed, unreadable] = counts.map(|count| count.to_string());
        let fields = [
            ("looked_at", looked_at.as_str()),
            ("found", &found),
            ("sealed", &sealed),
            ("unreadable", &unreadable),
            ("devices", &round.devices.to_string()),
        ];
        world.log(Level::Info, "rekey.round", &fields);
    }
    progress.keep(round);
    let bytes = serde_json::to_vec(&progress).map_err(|_| Fault::Broken("rekey"))?;
    let only = version.as_deref().map_or(Only::Absent, Only::Version);
    world
        .r2()
        .put(key::REKEY, bytes, BTreeMap::new(), only)
        .await?;
    walked
}

/// What a round goes through, in this order: first what files are made of, then the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Records(Kind),
    Uploads,
    /// The heads of the audit's chains, which [`crate::chaining`] signs anew.
    Heads,
}

impl Stage {
    fn all() -> impl Iterator<Item = Self> {
        // Devices after everything that their files are made of, or the files were made twice. Of an
        // admin's token there is a digest and nothing sealed.
        Kind::ALL
            .into_iter()
            .filter(|kind| !matches!(kind, Kind::Device | Kind::Token))
            .chain([Kind::Device])
            .map(Self::Records)
            .chain([Self::Uploads, Self::Heads])
    }

    fn first() -> Self {
        Self::all().next().unwrap_or(Self::Uploads)
    }

    fn prefix(self) -> String {
        match self {
            Self::Records(kind) => key::records(kind),
            Self::Uploads => key::ALL_UPLOADS.to_owned(),
            Self::Heads => key::ALL_AUDIT_HEADS.to_owned(),
        }
    }

    /// The stage that a key belongs to, or a prefix.
    fn of(key: &str) -> Option<Self> {
        Self::all().find(|stage| key.starts_with(&stage.prefix()))
    }

    fn next(self) -> Option<Self> {
        Self::all().skip_while(|stage| *stage != self).nth(1)
    }
}

/// The seals of a record: how many are the old key's, and which ones no key of ours opens.
#[derive(Default)]
struct Seals {
    old: u64,
    unreadable: Vec<String>,
}

impl Seals {
    fn of<R: Record>(keys: &Keys, id: &str, stored: &Stored<R>) -> Self {
        let mut seals = Self::default();
        for (name, sealed) in &stored.sealed {
            let place = secret_place(R::KIND, id, name);
            match keys.opened_by(&place, sealed) {
                Some(key) if key == keys.id() => {}
                Some(_) => seals.old += 1,
                None => seals.unreadable.push(place),
            }
        }
        seals
    }
}

/// The calls that [`store::update`] needs when nobody comes between.
const CALLS_OF_UPDATE: u32 = 2;

/// The calls of [`finish::republish`]: the record twice, KV, and the tenant's list.
const CALLS_OF_COPY: u32 = 4;

/// The calls that [`finish::refresh`] needs beside one for each line: the device, its tenant, its
/// profile, a PBX, and the put.
const CALLS_OF_REFRESH: u32 = 5;

/// What it needs more for a phone that somebody is logged in at: the seat and the account.
const CALLS_OF_SESSION: u32 = 2;

/// Whether something was looked at, or must wait for the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Done,
    Later,
}

/// A round under way in one run.
struct Pass<'a, W: World> {
    world: &'a W,
    began: Timestamp,
    /// Calls to the stores that this run has left.
    left: u32,
    faults: u32,
    round: Round,
}

impl<W: World> Pass<'_, W> {
    /// Takes calls out of what is left; false, and nothing taken, if that is not enough or the time
    /// is up.
    fn takes(&mut self, calls: u32) -> bool {
        let over = self.world.now().since(self.began) >= RUN_S || self.faults >= MOST_FAULTS;
        match self.left.checked_sub(calls) {
            Some(left) if !over => {
                self.left = left;
                true
            }
            _ => false,
        }
    }

    async fn walk(&mut self) -> Result<(), Fault> {
        loop {
            let Some(stage) = Stage::of(&self.round.after) else {
                // Nothing of ours: from the beginning.
                self.round = Round::new(self.began);
                continue;
            };
            if !self.takes(2) {
                return Ok(());
            }
            let page = self
                .world
                .r2()
                .list(&stage.prefix(), Some(&self.round.after), PAGE)
                .await?;
            let copies = self.copies(stage, &page.entries).await?;
            for (entry, copy) in page.entries.iter().zip(copies) {
                if self.look(stage, &entry.key, copy.as_deref()).await == Look::Later {
                    return Ok(());
                }
                self.round.looked_at += 1;
                self.round.after.clone_from(&entry.key);
            }
            if page.cursor.is_none() {
                let Some(next) = stage.next() else {
                    self.round.ended = Some(self.world.now());
                    return Ok(());
                };
                self.round.after = next.prefix();
            }
        }
    }

    /// What KV has of the same records, in one call.
    async fn copies(
        &self,
        stage: Stage,
        entries: &[ObjectEntry],
    ) -> Result<Vec<Option<String>>, Fault> {
        if !matches!(stage, Stage::Records(_)) || entries.is_empty() {
            return Ok(vec![None; entries.len()]);
        }
        // A record has the same key in both.
        let keys: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        self.world.kv().get_many(&keys).await
    }

    /// Looks at one object. A fault is that object's alone: it counts as left, and the next round
    /// comes by again.
    async fn look(&mut self, stage: Stage, key: &str, copy: Option<&str>) -> Look {
        let id = key::last(key);
        let looked = match stage {
            Stage::Records(Kind::Tenant) => self.record::<Tenant>(id, copy).await,
            Stage::Records(Kind::Profile) => self.record::<Profile>(id, copy).await,
            Stage::Records(Kind::Pbx) => self.record::<Pbx>(id, copy).await,
            Stage::Records(Kind::Account) => self.record::<Account>(id, copy).await,
            Stage::Records(Kind::Rule) => self.record::<Rule>(id, copy).await,
            Stage::Records(Kind::Device) => self.device(id, copy).await,
            Stage::Records(Kind::Token) => Ok(Look::Done),
            Stage::Uploads => self.upload(key).await,
            Stage::Heads => self.head(key).await,
        };
        looked.unwrap_or_else(|fault| {
            self.faults += 1;
            if fault.is_of_a_record() {
                self.round.unreadable += 1;
            } else {
                self.round.found += 1;
                self.round.sealed += 1;
            }
            let fields = [("place", key), ("fault", fault.label())];
            self.world.log(Level::Warn, "rekey.left", &fields);
            Look::Done
        })
    }

    fn note_unreadable(&mut self, place: &str) {
        self.round.unreadable += 1;
        let fields = [("place", place)];
        self.world.log(Level::Error, "rekey.unreadable", &fields);
    }

    async fn record<R: Record>(&mut self, id: &str, copy: Option<&str>) -> Result<Look, Fault> {
        if !self.takes(1) {
            return Ok(Look::Later);
        }
        match store::load::<R, W>(self.world, id).await? {
            Some(loaded) => self.reseal(id, copy, &loaded.stored).await,
            None => Ok(Look::Done),
        }
    }

    /// Brings a record's secrets under the new key, and then its copy in KV.
    async fn reseal<R: Record>(
        &mut self,
        id: &str,
        copy: Option<&str>,
        stored: &Stored<R>,
    ) -> Result<Look, Fault> {
        let keys = self.world.keys();
        let before = Seals::of(keys, id, stored);
        let is_late = copy.is_some_and(|copy| is_late(keys, id, copy, stored));
        if before.old == 0 && !is_late {
            for place in &before.unreadable {
                self.note_unreadable(place);
            }
            return Ok(Look::Done);
        }
        if !self.takes(CALLS_OF_UPDATE + CALLS_OF_COPY) {
            return Ok(Look::Later);
        }
        let mut after = before;
        if after.old > 0 {
            let updated = store::update::<R, W>(self.world, id, |stored| {
                let mut resealed = false;
                for (name, sealed) in &mut stored.sealed {
                    let place = secret_place(R::KIND, id, name);
                    // What does not open stays as it is.
                    if let Ok(Some(new)) = keys.reseal(self.world, &place, sealed) {
                        *sealed = new;
                        resealed = true;
                    }
                }
                resealed
            })
            .await?;
            self.round.found += after.old;
            after = updated.map_or_else(Seals::default, |stored| Seals::of(keys, id, &stored));
            self.round.sealed += after.old;
        } else {
            self.round.found += 1;
        }
        for place in &after.unreadable {
            self.note_unreadable(place);
        }
        // Should the run end before this, the next look at the record finds KV's copy late.
        finish::republish(self.world, R::KIND, id).await?;
        Ok(Look::Done)
    }

    /// A device: its secrets, its files, and whether its phone has come with a URL of the new key.
    async fn device(&mut self, id: &str, copy: Option<&str>) -> Result<Look, Fault> {
        let mac: Mac = id.parse().map_err(|_| Fault::Broken("device key"))?;
        if !self.takes(1) {
            return Ok(Look::Later);
        }
        let Some(loaded) = store::load::<Device, W>(self.world, id).await? else {
            return Ok(Look::Done);
        };
        let stored = loaded.stored;
        let keys = self.world.keys();
        let files = stored.state.files.as_ref().filter(|_| stored.alive());
        // Those that a canary had before are under the key of their time too; the refresh drops them.
        let former = stored.state.former_files.as_deref();
        let old_files = files
            .into_iter()
            .chain(former)
            .any(|files| !render::are_current(keys, mac, files));
        if old_files {
            let lines = u32::try_from(stored.host().lines.len()).unwrap_or(u32::MAX);
            let session = stored
                .state
                .session
                .as_ref()
                .map_or(0, |_| CALLS_OF_SESSION);
            let calls = CALLS_OF_REFRESH.saturating_add(lines);
            if !self.takes(calls.saturating_add(session)) {
                return Ok(Look::Later);
            }
        }
        if self.reseal(id, copy, &stored).await? == Look::Later {
            return Ok(Look::Later);
        }
        if stored.alive() && stored.state.access.key != Some(keys.id()) {
            self.round.devices += 1;
            if self.round.macs.len() < NAMED {
                self.round.macs.push(mac);
            }
        }
        if old_files {
            // They are made again, since the URLs in them are to be the new key's as well.
            finish::refresh(self.world, mac, None).await?;
            self.round.found += 1;
        }
        Ok(Look::Done)
    }

    /// What a phone put there.
    async fn upload(&mut self, place: &str) -> Result<Look, Fault> {
        if !self.takes(2) {
            return Ok(Look::Later);
        }
        let Some(object) = self.world.r2().get(place).await? else {
            return Ok(Look::Done);
        };
        let keys = self.world.keys();
        let sealed = std::str::from_utf8(&object.body).unwrap_or_default();
        match keys.opened_by(place, sealed) {
            None => self.note_unreadable(place),
            Some(key) if key == keys.id() => {}
            Some(_) => {
                if let Some(new) = keys.reseal(self.world, place, sealed)? {
                    // If the phone put something else there meanwhile, that is under the new key.
                    let only = Only::Version(&object.etag);
                    let body = new.into_bytes();
                    self.world
                        .r2()
                        .put(place, body, BTreeMap::new(), only)
                        .await?;
                }
                self.round.found += 1;
            }
        }
        Ok(Look::Done)
    }
}

impl<W: World> Pass<'_, W> {
    /// Counts a head that the old key signed as left: it is signed anew within minutes.
    async fn head(&mut self, place: &str) -> Result<Look, Fault> {
        if !self.takes(1) {
            return Ok(Look::Later);
        }
        let Some(object) = self.world.r2().get(place).await? else {
            return Ok(Look::Done);
        };
        let owner = key::parse_audit_head(place).ok();
        let head =
            owner.and_then(|owner| Head::read(self.world.keys(), owner.as_ref(), &object.body));
        match head {
            Some((_, Signer::Current)) => {}
            Some((_, Signer::Old)) => {
                self.round.found += 1;
                self.round.sealed += 1;
            }
            None => self.note_unreadable(place),
        }
        Ok(Look::Done)
    }
}

/// Whether KV's copy of a record has other seals than the record, and not all of them the new key's.
fn is_late<R: Record>(keys: &Keys, id: &str, copy: &str, stored: &Stored<R>) -> bool {
    let Ok(copy) = Stored::<R>::read(copy.as_bytes()) else {
        return true;
    };
    let seals = Seals::of(keys, id, &copy);
    copy.sealed != stored.sealed && (seals.old > 0 || !seals.unreadable.is_empty())
}
