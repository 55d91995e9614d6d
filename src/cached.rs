//! The world as one event sees it. For all but batches it is the world itself; once a batch begins,
//! what its lines share is read once, what it spends is counted, and in a dry run everything that is
//! written stays in memory.
//!
//! Everything runs on this, and not batches alone: otherwise the Worker would hold each function that
//! saves or renders twice, which is 4 % of it. So a batch saves by the very code of a single save. What may be remembered, and for how long:
//! tenants, profiles and PBXes are read once in a call, since a change of them is late by KV's minute
//! in any case. The accounts of devices that are saved are read again behind each save, so that
//! whoever changes one at the same time is seen, as after a single save. What the batch itself put is
//! remembered until KV has it. Every write is a compare-and-set all the same: what was remembered
//! wrongly fails there, and is read again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::access::RsaKey;
use crate::fault::Fault;
use crate::key::{self, Kind};
use crate::keys::Keys;
use crate::ports::{
    InstanceMemory, Level, Limit, MappingEntry, Mappings, Object, ObjectEntry, Objects, Only, Page,
    World,
};
use crate::time::Timestamp;

/// Whether a batch writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It does.
    Real,
    /// What it writes is seen by its own lines only, but for what the audit and the tokens have of
    /// whoever looks for ids of others.
    Dry,
}

/// A world in which a batch can begin.
pub trait Batching: World {
    /// From now on the stores are those of a batch that saves records of a kind.
    fn begin_batch(&self, kind: Kind, run: Run);

    /// The operations of KV and R2 so far.
    fn spent(&self) -> u32;
}

/// The world of one event, and no longer.
pub struct Cached<'w, W: World> {
    world: &'w W,
    stores: Stores<'w, W>,
}

impl<'w, W: World> Cached<'w, W> {
    /// The world as it is.
    pub fn new(world: &'w W) -> Self {
        let stores = Stores {
            world,
            batch: Cell::new(None),
            spent: Cell::new(0),
            drafts: Cell::new(0),
            known: RefCell::default(),
        };
        Self { world, stores }
    }
}

impl<W: World> Batching for Cached<'_, W> {
    fn begin_batch(&self, kind: Kind, run: Run) {
        self.stores.batch.set(Some((kind, run)));
    }

    fn spent(&self) -> u32 {
        self.stores.spent.get()
    }
}

impl<'w, W: World> World for Cached<'w, W> {
    type Mappings = Stores<'w, W>;
    type Objects = Stores<'w, W>;
    type Outbound = W::Outbound;

    fn kv(&self) -> &Stores<'w, W> {
        &self.stores
    }

    fn r2(&self) -> &Stores<'w, W> {
        &self.stores
    }

    fn net(&self) -> &W::Outbound {
        self.world.net()
    }

    fn keys(&self) -> &Keys {
        self.world.keys()
    }

    fn now(&self) -> Timestamp {
        self.world.now()
    }

    async fn sleep_ms(&self, ms: u32) {
        self.world.sleep_ms(ms).await;
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], Fault> {
        self.world.random()
    }

    fn memory<T>(&self, with: impl FnOnce(&mut InstanceMemory) -> T) -> T {
        self.world.memory(with)
    }

    async fn verify_rs256(
        &self,
        key: &RsaKey,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, Fault> {
        self.world.verify_rs256(key, signed, signature).await
    }

    async fn within(&self, limit: Limit, who: &str) -> bool {
        self.world.within(limit, who).await
    }

    fn log(&self, level: Level, event: &'static str, fields: &[(&'static str, &str)]) {
        self.world.log(level, event, fields);
    }
}

/// KV and R2.
pub struct Stores<'w, W: World> {
    world: &'w W,
    /// What the batch saves, if there is one.
    batch: Cell<Option<(Kind, Run)>>,
    spent: Cell<u32>,
    /// How many versions a dry run made.
    drafts: Cell<u64>,
    /// What is remembered of R2 by key; `None`: that nothing is there.
    known: RefCell<BTreeMap<String, Option<Object>>>,
}

/// What a dry run writes too.
fn is_of_record(key: &str) -> bool {
    key.starts_with(key::ALL_AUDIT_NEW)
        || key::parse_record(key).is_some_and(|(kind, _)| kind == Kind::Token)
}

impl<W: World> Stores<'_, W> {
    fn spend(&self) {
        self.spent.set(self.spent.get().saturating_add(1));
    }

    fn know(&self, key: &str, object: Option<Object>) {
        self.known.borrow_mut().insert(key.to_owned(), object);
    }

    fn forget(&self, key: &str) {
        self.known.borrow_mut().remove(key);
    }

    /// Whether what is read under a key is remembered.
    fn keeps(&self, key: &str) -> bool {
        let Some((kind, run)) = self.batch.get().filter(|_| !is_of_record(key)) else {
            return false;
        };
        match (run, key::parse_record(key)) {
            (Run::Dry, _) | (_, Some((Kind::Tenant | Kind::Profile | Kind::Pbx, _))) => true,
            (_, Some((Kind::Account, _))) => kind == Kind::Device,
            _ => false,
        }
    }

    fn is_dry(&self) -> bool {
        self.batch.get().is_some_and(|(_, run)| run == Run::Dry)
    }

    /// A put of a dry run.
    async fn draft(
        &self,
        key: &str,
        body: Vec<u8>,
        only: Only<'_>,
    ) -> Result<Option<String>, Fault> {
        let holds = match only {
            Only::Always => true,
            Only::Absent => Objects::get(self, key).await?.is_none(),
            Only::Version(version) => {
                let there = Objects::get(self, key).await?;
                there.is_some_and(|object| object.etag == version)
            }
        };
        if !holds {
            return Ok(None);
        }
        let number = self.drafts.get().saturating_add(1);
        self.drafts.set(number);
        let etag = format!("draft-{number}");
        let object = Object {
            body,
            etag: etag.clone(),
        };
        self.know(key, Some(object));
        Ok(Some(etag))
    }

    /// Remembers a put that went through.
    fn put_through(&self, key: &str, body: Option<Vec<u8>>, etag: &str) {
        match (key::parse_record(key), body) {
            (Some((kind @ (Kind::Account | Kind::Device), _)), Some(body)) => {
                let mut known = self.known.borrow_mut();
                if kind == Kind::Device {
                    // What follows must see accounts that were changed since they were read.
                    known.retain(|key, _| !key.starts_with(&key::records(Kind::Account)));
                }
                let etag = etag.to_owned();
                known.insert(key.to_owned(), Some(Object { body, etag }));
            }
            _ => self.forget(key),
        }
    }
}

impl<W: World> Objects for Stores<'_, W> {
    async fn get(&self, key: &str) -> Result<Option<Object>, Fault> {
        let known = self.known.borrow().get(key).cloned();
        if let Some(object) = known {
            return Ok(object);
        }
        self.spend();
        let object = self.world.r2().get(key).await?;
        if self.keeps(key) {
            self.know(key, object.clone());
        }
        Ok(object)
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        metadata: BTreeMap<String, String>,
        only: Only<'_>,
    ) -> Result<Option<String>, Fault> {
        if self.is_dry() && !is_of_record(key) {
            return self.draft(key, body, only).await;
        }
        self.spend();
        let own = matches!(
            key::parse_record(key),
            Some((Kind::Account | Kind::Device, _))
        );
        let copy = (own && self.batch.get().is_some()).then(|| body.clone());
        let put = self.world.r2().put(key, body, metadata, only).await;
        match &put {
            Ok(Some(etag)) => self.put_through(key, copy, etag),
            // Somebody else was there, or nobody knows what is there now.
            Ok(None) | Err(_) => self.forget(key),
        }
        put
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        if self.is_dry() {
            self.know(key, None);
            return Ok(());
        }
        self.spend();
        self.forget(key);
        self.world.r2().delete(key).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), Fault> {
        for key in keys {
            if self.is_dry() {
                self.know(key, None);
            } else {
                self.forget(key);
            }
        }
        if self.is_dry() {
            return Ok(());
        }
        self.spend();
        self.world.r2().delete_many(keys).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ObjectEntry>, Fault> {
        self.spend();
        self.world.r2().list(prefix, after, limit).await
    }
}

impl<W: World> Mappings for Stores<'_, W> {
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<String>>, Fault> {
        self.spend();
        self.world.kv().get_many(keys).await
    }

    async fn put(
        &self,
        key: &str,
        value: &str,
        metadata: Option<&str>,
        keep_s: Option<u64>,
    ) -> Result<(), Fault> {
        if self.is_dry() {
            return Ok(());
        }
        self.spend();
        // Whoever copies to KV looks at R2 afterwards, for what came between: that must be the truth.
        self.forget(key);
        self.world.kv().put(key, value, metadata, keep_s).await
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<Page<MappingEntry>, Fault> {
        self.spend();
        self.world.kv().list(prefix, cursor).await
    }
}
