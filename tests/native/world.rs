//! A world in memory for the core: a KV that is late, an R2 that compares and sets, a clock that
//! the test moves, chance from a seed, and a log that can be read.
//!
//! One thread and no waiting: every future of these fakes is ready when it is asked, so
//! [`block_on`] is a few polls. Time passes only when a test or the code under test lets it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use dialtone::access::RsaKey;
use dialtone::fault::Fault;
use dialtone::keys::Keys;
use dialtone::ports::{
    InstanceMemory, Level, Limit, MappingEntry, Mappings, NoAnswer, Object, ObjectEntry, Objects,
    Only, Outbound, Page, World,
};
use dialtone::time::Timestamp;
use md5::{Digest, Md5};
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::sha2::Sha256;
use rsa::signature::Verifier;
use rsa::{BoxedUint, PublicKey};
use serde_json::Value;

/// When every test begins: 2026-11-23T09:00:00Z.
pub const START_S: u64 = 1_795_424_400;
/// For how long KV may show what was there before (Workers KV, "How KV works").
pub const LATE_S: u64 = 60;
/// The admin token of every test.
pub const ADMIN_TOKEN: &str = "an-admin-token-of-forty-characters-or-so";
/// The seal key of every test: 32 bytes of no secret, so that tokens are the same in every run.
pub const SEAL_KEY: &str = "ZGlhbHRvbmUgdGVzdCBzZWFsIGtleSwgbm8gc2VjcmU=";

/// Runs a future of the fakes.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    // Joined futures may ask to be polled again; none of them waits for the world outside.
    for _ in 0..100_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("a future waits for something that no fake ever does");
}

/// The time, in milliseconds; every part of a world has the same one.
#[derive(Clone)]
pub struct Clock(Rc<Cell<u64>>);

impl Clock {
    fn ms(&self) -> u64 {
        self.0.get()
    }

    /// Lets time pass.
    pub fn pass_ms(&self, ms: u64) {
        self.0.set(self.0.get() + ms);
    }

    /// Lets time pass.
    pub fn pass_s(&self, seconds: u64) {
        self.pass_ms(seconds * 1_000);
    }
}

/// How many operations a store was asked for; one that failed counts too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub gets: u32,
    pub puts: u32,
    pub deletes: u32,
    pub lists: u32,
}

impl Count {
    pub fn all(self) -> u32 {
        self.gets + self.puts + self.deletes + self.lists
    }

    pub fn writes(self) -> u32 {
        self.puts + self.deletes
    }
}

/// Which operations of a store fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failing {
    None,
    All,
    Puts,
    /// Everything on keys that start so.
    Prefix(String),
}

impl Failing {
    fn hits(&self, key: &str, is_put: bool) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Puts => is_put,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }
}

type Deed = Box<dyn FnOnce()>;

/// What happens just before the next put of somebody else, once: the key's prefix and the deed.
#[derive(Default)]
struct Interleaved(RefCell<Option<(String, Deed)>>);

impl Interleaved {
    fn set(&self, prefix: &str, deed: impl FnOnce() + 'static) {
        *self.0.borrow_mut() = Some((prefix.to_owned(), Box::new(deed)));
    }

    fn play(&self, key: &str) {
        let due = self
            .0
            .borrow()
            .as_ref()
            .is_some_and(|(prefix, _)| key.starts_with(prefix.as_str()));
        if due && let Some((_, deed)) = self.0.take() {
            deed();
        }
    }
}

/// How late KV is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// Not at all: for tests of something else.
    No,
    /// As a place that reads often sees it: what was read, a value or that there is none, is read
    /// again for 60 s; a list is as old as that.
    Cached,
    /// As bad as it may get: everything is as it was 60 s ago.
    Behind,
}

#[derive(Clone)]
struct Written {
    at_ms: u64,
    value: String,
    metadata: Option<String>,
    until_ms: Option<u64>,
}

/// Everything that KV held at a time, to be put back later.
#[derive(Clone)]
pub struct Backup(BTreeMap<String, Vec<Written>>);

/// Workers KV.
pub struct Kv {
    clock: Clock,
    /// How late it is.
    pub late: Cell<Late>,
    /// What fails.
    pub failing: RefCell<Failing>,
    /// How many keys a page of a list has.
    pub page: Cell<usize>,
    interleaved: Interleaved,
    history: RefCell<BTreeMap<String, Vec<Written>>>,
    cached: RefCell<BTreeMap<String, (u64, Option<String>)>>,
    count: Cell<Count>,
}

impl Kv {
    fn new(clock: Clock) -> Self {
        Self {
            clock,
            late: Cell::new(Late::Cached),
            failing: RefCell::new(Failing::None),
            page: Cell::new(1_000),
            interleaved: Interleaved::default(),
            history: RefCell::default(),
            cached: RefCell::default(),
            count: Cell::default(),
        }
    }

    /// The operations since this was last asked.
    pub fn take_count(&self) -> Count {
        self.count.take()
    }

    /// Does `deed` just before the next put to a key that starts with `prefix`.
    pub fn before_next_put(&self, prefix: &str, deed: impl FnOnce() + 'static) {
        self.interleaved.set(prefix, deed);
    }

    /// What is there now, for backups.
    pub fn backup(&self) -> Backup {
        Backup(self.history.borrow().clone())
    }

    /// Puts everything back to a backup, as an operator could; nobody sees anything newer then.
    pub fn restore(&self, backup: &Backup) {
        self.history.borrow_mut().clone_from(&backup.0);
        self.cached.borrow_mut().clear();
    }

    fn counts(&self, add: fn(&mut Count)) {
        let mut count = self.count.get();
        add(&mut count);
        self.count.set(count);
    }

    fn fails(&self, key: &str, is_put: bool) -> Result<(), Fault> {
        if self.failing.borrow().hits(key, is_put) {
            Err(Fault::Broken("kv"))
        } else {
            Ok(())
        }
    }

    /// What a key held at a time.
    fn at(&self, key: &str, ms: u64) -> Option<Written> {
        let history = self.history.borrow();
        let last = history
            .get(key)?
            .iter()
            .rev()
            .find(|written| written.at_ms <= ms)?;
        last.until_ms
            .is_none_or(|until| ms < until)
            .then(|| last.clone())
    }

    /// What a key held so many seconds ago.
    pub fn value_before(&self, key: &str, seconds: u64) -> Option<String> {
        let at = self.clock.ms().saturating_sub(seconds * 1_000);
        self.at(key, at).map(|written| written.value)
    }

    /// What a list showed so many seconds ago.
    pub fn list_before(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        seconds: u64,
    ) -> Page<MappingEntry> {
        let seen_at = self.clock.ms().saturating_sub(seconds * 1_000);
        let history = self.history.borrow();
        let from = cursor.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut shown = history
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, _)| {
                Some(MappingEntry {
                    key: key.clone(),
                    metadata: self.at(key, seen_at)?.metadata,
                })
            });
        let entries: Vec<MappingEntry> = shown.by_ref().take(self.page.get()).collect();
        let cursor = shown
            .next()
            .and(entries.last().map(|entry| entry.key.clone()));
        Page { entries, cursor }
    }

    fn one(&self, key: &str) -> Option<String> {
        let now = self.clock.ms();
        match self.late.get() {
            Late::No => self.at(key, now).map(|written| written.value),
            Late::Behind => self
                .at(key, now.saturating_sub(LATE_S * 1_000))
                .map(|written| written.value),
            Late::Cached => {
                let mut cached = self.cached.borrow_mut();
                if let Some((read_at, value)) = cached.get(key)
                    && now < read_at + LATE_S * 1_000
                {
                    return value.clone();
                }
                let value = self.at(key, now).map(|written| written.value);
                cached.insert(key.to_owned(), (now, value.clone()));
                value
            }
        }
    }
}

impl Mappings for Kv {
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<String>>, Fault> {
        self.counts(|count| count.gets += 1);
        // "You can request up to 100 keys" (Workers KV, "Read key-value pairs").
        if keys.is_empty() || keys.len() > 100 {
            return Err(Fault::Broken("kv: 1 to 100 keys"));
        }
        for key in keys {
            self.fails(key, false)?;
        }
        Ok(keys.iter().map(|key| self.one(key)).collect())
    }

    async fn put(
        &self,
        key: &str,
        value: &str,
        metadata: Option<&str>,
        keep_s: Option<u64>,
    ) -> Result<(), Fault> {
        self.interleaved.play(key);
        self.counts(|count| count.puts += 1);
        self.fails(key, true)?;
        if key.is_empty() || key.len() > 512 || matches!(key, "." | "..") {
            return Err(Fault::Broken("kv: key"));
        }
        if metadata.is_some_and(|metadata| metadata.len() > 1_024) || keep_s.is_some_and(|s| s < 60)
        {
            return Err(Fault::Broken("kv: options"));
        }
        let now = self.clock.ms();
        let mut history = self.history.borrow_mut();
        let writes = history.entry(key.to_owned()).or_default();
        if writes.last().is_some_and(|last| now < last.at_ms + 1_000) {
            return Err(Fault::Throttled);
        }
        writes.push(Written {
            at_ms: now,
            value: value.to_owned(),
            metadata: metadata.map(ToOwned::to_owned),
            until_ms: keep_s.map(|s| now + s * 1_000),
        });
        Ok(())
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<Page<MappingEntry>, Fault> {
        self.counts(|count| count.lists += 1);
        self.fails(prefix, false)?;
        let late_s = if self.late.get() == Late::No {
            0
        } else {
            LATE_S
        };
        Ok(self.list_before(prefix, cursor, late_s))
    }
}

#[derive(Clone)]
struct Kept {
    body: Vec<u8>,
    metadata: BTreeMap<String, String>,
    at_ms: u64,
}

/// R2.
pub struct Bucket {
    clock: Clock,
    /// What fails.
    pub failing: RefCell<Failing>,
    /// Whether a second put to a key within a second is refused (R2 limits).
    pub throttles: Cell<bool>,
    /// How many more writes get through, and how many were tried.
    cut: RefCell<Option<(u32, Rc<Cell<u32>>)>>,
    interleaved: Interleaved,
    reads: RefCell<Option<(String, u32, Deed)>>,
    kept: RefCell<BTreeMap<String, Kept>>,
    count: Cell<Count>,
}

impl Bucket {
    fn new(clock: Clock) -> Self {
        Self {
            clock,
            failing: RefCell::new(Failing::None),
            throttles: Cell::new(false),
            cut: RefCell::new(None),
            interleaved: Interleaved::default(),
            reads: RefCell::new(None),
            kept: RefCell::default(),
            count: Cell::default(),
        }
    }

    /// The operations since this was last asked.
    pub fn take_count(&self) -> Count {
        self.count.take()
    }

    /// Does `deed` just before the next put to a key that starts with `prefix`: whoever puts has
    /// read before it.
    pub fn before_next_put(&self, prefix: &str, deed: impl FnOnce() + 'static) {
        self.interleaved.set(prefix, deed);
    }

    /// Does `deed` just before a get of a key that starts with `prefix`, after `spared` of them.
    pub fn before_read(&self, prefix: &str, spared: u32, deed: impl FnOnce() + 'static) {
        *self.reads.borrow_mut() = Some((prefix.to_owned(), spared, Box::new(deed)));
    }

    /// After so many more writes none gets through; each try is counted.
    pub fn cut_after(&self, writes: u32, tried: Rc<Cell<u32>>) {
        *self.cut.borrow_mut() = Some((writes, tried));
    }

    /// Everything gets through again.
    pub fn heal(&self) {
        *self.cut.borrow_mut() = None;
    }

    /// The keys that start so.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.kept
            .borrow()
            .keys()
            .filter(|key| key.starts_with(prefix))
            .cloned()
            .collect()
    }

    fn counts(&self, add: fn(&mut Count)) {
        let mut count = self.count.get();
        add(&mut count);
        self.count.set(count);
    }

    fn fails(&self, key: &str, is_put: bool) -> Result<(), Fault> {
        if is_put && let Some((spared, tried)) = &*self.cut.borrow() {
            tried.set(tried.get() + 1);
            if tried.get() > *spared {
                return Err(Fault::Broken("r2"));
            }
        }
        if self.failing.borrow().hits(key, is_put) {
            Err(Fault::Broken("r2"))
        } else {
            Ok(())
        }
    }
}

/// As R2's: the MD5 of the body, so that the same body again is the same version.
fn etag(body: &[u8]) -> String {
    hex(&Md5::digest(body))
}

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Objects for Bucket {
    async fn get(&self, key: &str) -> Result<Option<Object>, Fault> {
        self.counts(|count| count.gets += 1);
        self.fails(key, false)?;
        let due = {
            let mut reads = self.reads.borrow_mut();
            match reads.as_mut() {
                Some((p, n, _)) if key.starts_with(p.as_str()) => {
                    if *n == 0 {
                        reads.take()
                    } else {
                        *n -= 1;
                        None
                    }
                }
                _ => None,
            }
        };
        if let Some((_, _, deed)) = due {
            deed();
        }
        let kept = self.kept.borrow();
        Ok(kept.get(key).map(|kept| Object {
            body: kept.body.clone(),
            etag: etag(&kept.body),
        }))
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        metadata: BTreeMap<String, String>,
        only: Only<'_>,
    ) -> Result<Option<String>, Fault> {
        self.interleaved.play(key);
        self.counts(|count| count.puts += 1);
        self.fails(key, true)?;
        let mut all = self.kept.borrow_mut();
        let former = all.get(key);
        let holds = match only {
            Only::Always => true,
            Only::Absent => former.is_none(),
            Only::Version(version) => former.is_some_and(|kept| etag(&kept.body) == version),
        };
        if !holds {
            return Ok(None);
        }
        let at_ms = self.clock.ms();
        if self.throttles.get() && former.is_some_and(|kept| at_ms < kept.at_ms + 1_000) {
            return Err(Fault::Throttled);
        }
        let version = etag(&body);
        all.insert(
            key.to_owned(),
            Kept {
                body,
                metadata,
                at_ms,
            },
        );
        Ok(Some(version))
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        self.counts(|count| count.deletes += 1);
        self.fails(key, true)?;
        self.kept.borrow_mut().remove(key);
        Ok(())
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), Fault> {
        self.counts(|count| count.deletes += 1);
        if keys.len() > 1_000 {
            return Err(Fault::Broken("r2: 1,000 keys"));
        }
        for key in keys {
            self.fails(key, true)?;
            self.kept.borrow_mut().remove(key);
        }
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ObjectEntry>, Fault> {
        self.counts(|count| count.lists += 1);
        self.fails(prefix, false)?;
        let kept = self.kept.borrow();
        let from = after
            .filter(|after| *after >= prefix)
            .map_or(Bound::Included(prefix), Bound::Excluded);
        let mut shown = kept
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, kept)| ObjectEntry {
                key: key.clone(),
                metadata: kept.metadata.clone(),
            });
        // "A maximum of 1000" (R2, Workers API, `R2ListOptions`).
        let limit = usize::try_from(limit.min(1_000)).unwrap_or(1_000);
        let entries: Vec<ObjectEntry> = shown.by_ref().take(limit).collect();
        let cursor = shown
            .next()
            .and(entries.last().map(|entry| entry.key.clone()));
        Ok(Page { entries, cursor })
    }
}

type Hook = Box<dyn FnMut(http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, NoAnswer>>;

/// The way out: what a test puts there, or nobody.
pub struct Net {
    hook: RefCell<Hook>,
}

impl Net {
    /// Answers every call from now on.
    pub fn answer(
        &self,
        hook: impl FnMut(http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, NoAnswer> + 'static,
    ) {
        *self.hook.borrow_mut() = Box::new(hook);
    }
}

impl Outbound for Net {
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        _timeout_ms: u32,
        max_bytes: usize,
    ) -> Result<http::Response<Vec<u8>>, NoAnswer> {
        let answer = (self.hook.borrow_mut())(request)?;
        if answer.body().len() > max_bytes {
            Err(NoAnswer::Unreachable)
        } else {
            Ok(answer)
        }
    }
}

/// A [`Fake`] at some time.
pub struct Snapshot {
    kv: Backup,
    r2: BTreeMap<String, Kept>,
    ms: u64,
    chance: u64,
}

/// Keys that live as long as the tests: a world lends them out and changes them all the same.
fn keys(seal_key: &str, seal_key_old: Option<&str>) -> &'static Keys {
    let keys = Keys::new(Some(ADMIN_TOKEN), Some(seal_key), seal_key_old);
    Box::leak(Box::new(
        keys.unwrap_or_else(|error| panic!("{}", error.variable())),
    ))
}

/// The whole world.
pub struct Fake {
    pub kv: Kv,
    pub r2: Bucket,
    pub net: Net,
    pub clock: Clock,
    /// The log lines, each as one text.
    pub log: RefCell<Vec<String>>,
    /// How many events of one caller are within a limit.
    pub most: RefCell<BTreeMap<String, u32>>,
    keys: Cell<&'static Keys>,
    chance: Cell<u64>,
    counted: RefCell<BTreeMap<String, u32>>,
    memory: RefCell<InstanceMemory>,
}

impl Fake {
    /// An empty world with a KV that is late.
    pub fn new() -> Rc<Self> {
        let clock = Clock(Rc::new(Cell::new(START_S * 1_000)));
        Rc::new(Self {
            kv: Kv::new(clock.clone()),
            r2: Bucket::new(clock.clone()),
            net: Net {
                hook: RefCell::new(Box::new(|_| Err(NoAnswer::Unreachable))),
            },
            clock,
            log: RefCell::default(),
            most: RefCell::default(),
            keys: Cell::new(keys(SEAL_KEY, None)),
            chance: Cell::new(0x9e37_79b9_7f4a_7c15),
            counted: RefCell::default(),
            memory: RefCell::default(),
        })
    }

    /// What KV and R2 hold, by store and key, to be compared.
    pub fn holdings(&self) -> BTreeMap<String, Vec<u8>> {
        let kv = self.kv.history.borrow();
        let kv = kv.iter().map(|(key, writes)| {
            let mut all = Vec::new();
            for written in writes {
                all.extend_from_slice(written.value.as_bytes());
                all.extend_from_slice(written.metadata.as_deref().unwrap_or_default().as_bytes());
            }
            (format!("kv {key}"), all)
        });
        let r2 = self.r2.kept.borrow();
        let r2 = r2
            .iter()
            .map(|(key, kept)| (format!("r2 {key}"), kept.body.clone()));
        kv.chain(r2).collect()
    }

    /// The stores, the time and the chance as they are now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            kv: self.kv.backup(),
            r2: self.r2.kept.borrow().clone(),
            ms: self.clock.ms(),
            chance: self.chance.get(),
        }
    }

    /// Puts the stores, the time and the chance back.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.kv.restore(&snapshot.kv);
        self.r2.kept.borrow_mut().clone_from(&snapshot.r2);
        self.clock.0.set(snapshot.ms);
        self.chance.set(snapshot.chance);
    }

    /// Every byte that KV and R2 hold or held, with the keys and the metadata.
    pub fn dump(&self) -> Vec<u8> {
        let mut dump = Vec::new();
        let mut add = |bytes: &[u8]| {
            dump.extend_from_slice(bytes);
            dump.push(b'\n');
        };
        for (key, writes) in self.kv.history.borrow().iter() {
            add(key.as_bytes());
            for written in writes {
                add(written.value.as_bytes());
                add(written.metadata.as_deref().unwrap_or_default().as_bytes());
            }
        }
        for (key, kept) in self.r2.kept.borrow().iter() {
            add(key.as_bytes());
            add(&kept.body);
            for (name, value) in &kept.metadata {
                add(name.as_bytes());
                add(value.as_bytes());
            }
        }
        dump
    }

    /// Lets so many events of a kind pass, per caller and for ever.
    pub fn limit(&self, limit: Limit, most: u32) {
        self.most.borrow_mut().insert(format!("{limit:?}"), most);
    }

    /// The bodies of the objects under a prefix, in the order of their keys.
    pub fn objects(&self, prefix: &str) -> Vec<Value> {
        let kept = self.r2.kept.borrow();
        let under = kept.iter().filter(|(key, _)| key.starts_with(prefix));
        under
            .map(|(_, kept)| serde_json::from_slice(&kept.body).unwrap_or_default())
            .collect()
    }

    /// What the audit has of this action, not chained yet.
    pub fn audited(&self, action: &str) -> Vec<Value> {
        let mut events = self.objects("audit-new/");
        events.retain(|event| event["action"] == action);
        events
    }

    /// The log so far as one text.
    pub fn logged(&self) -> String {
        self.log.borrow().join("\n")
    }

    /// Sets `SEAL_KEY` and `SEAL_KEY_OLD`, as a new deployment does.
    pub fn deploy(&self, seal_key: &str, seal_key_old: Option<&str>) {
        self.keys.set(keys(seal_key, seal_key_old));
    }
}

impl World for Fake {
    type Mappings = Kv;
    type Objects = Bucket;
    type Outbound = Net;

    fn kv(&self) -> &Kv {
        &self.kv
    }

    fn r2(&self) -> &Bucket {
        &self.r2
    }

    fn net(&self) -> &Net {
        &self.net
    }

    fn keys(&self) -> &Keys {
        self.keys.get()
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.ms() / 1_000)
    }

    async fn sleep_ms(&self, ms: u32) {
        self.clock.pass_ms(u64::from(ms));
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], Fault> {
        Ok(std::array::from_fn(|_| {
            // SplitMix64 (Steele, Lea, Flood 2014).
            let state = self.chance.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.chance.set(state);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed >> 56).to_le_bytes()[0]
        }))
    }

    fn memory<T>(&self, with: impl FnOnce(&mut InstanceMemory) -> T) -> T {
        with(&mut self.memory.borrow_mut())
    }

    async fn verify_rs256(
        &self,
        key: &RsaKey,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, Fault> {
        let key = PublicKey::new(
            BoxedUint::from_be_slice_vartime(key.modulus()),
            BoxedUint::from_be_slice_vartime(key.exponent()),
        )
        .map_err(|_| Fault::Broken("webcrypto"))?;
        let signature = Signature::try_from(signature);
        let verifier = VerifyingKey::<Sha256>::new(key);
        Ok(signature.is_ok_and(|signature| verifier.verify(signed, &signature).is_ok()))
    }

    async fn within(&self, limit: Limit, who: &str) -> bool {
        let mut counted = self.counted.borrow_mut();
        let events = counted.entry(format!("{limit:?} {who}")).or_default();
        *events += 1;
        let most = self.most.borrow().get(&format!("{limit:?}")).copied();
        most.is_none_or(|most| *events <= most)
    }

    fn log(&self, level: Level, event: &'static str, fields: &[(&'static str, &str)]) {
        let mut line = format!("{level:?} {event}");
        for (name, value) in fields {
            let _ = write!(line, " {name}={value:?}");
        }
        self.log.borrow_mut().push(line);
    }
}
