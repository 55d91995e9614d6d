//! What Dialtone asks of the world around it, as traits in plain values: a mapping store that is
//! late (KV), an object store that compares and sets (R2), calls out (ARI), time, chance, limits
//! and a log. The shell implements them on Cloudflare, the tests implement them in memory.

use std::collections::BTreeMap;

use crate::access::{AccessKeys, RsaKey};
use crate::fault::Fault;
use crate::guesses::Guesses;
use crate::keys::Keys;
use crate::time::Timestamp;

/// One page of a listing, in lexicographic order of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries; may be empty although `cursor` says that more follow (Workers KV, "List keys").
    pub entries: Vec<T>,
    /// Where the next page starts; `None` when this was the last.
    pub cursor: Option<String>,
}

/// An entry of a KV listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingEntry {
    /// The whole key.
    pub key: String,
    /// The JSON that was put beside the value, at most 1,024 bytes (Workers KV limits), as text.
    pub metadata: Option<String>,
}

/// An entry of an R2 listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// The whole key.
    pub key: String,
    /// The custom metadata that was put with the object.
    pub metadata: BTreeMap<String, String>,
}

/// An object as R2 gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The whole body.
    pub body: Vec<u8>,
    /// R2's name for exactly this version of the object; what [`Only::Version`] compares.
    pub etag: String,
}

/// The condition of a put to R2 (`onlyIf` of the R2 binding).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only<'a> {
    /// Put whatever is there.
    Always,
    /// Put only if no object has this key.
    Absent,
    /// Put only if the object still has this `ETag`.
    Version(&'a str),
}

/// Workers KV: reads are cached for up to a minute, misses as well, lists too; a second write to
/// a key within a second fails.
#[expect(async_fn_in_trait, reason = "an isolate has one thread")]
pub trait Mappings {
    /// The values of up to 100 keys, in one operation, in the order of the keys.
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<String>>, Fault>;
    /// Puts a value, and beside it metadata in JSON; with `keep_s` it is forgotten after that many seconds (at least 60).
    async fn put(
        &self,
        key: &str,
        value: &str,
        metadata: Option<&str>,
        keep_s: Option<u64>,
    ) -> Result<(), Fault>;
    /// Up to 1,000 keys that start with `prefix`.
    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<Page<MappingEntry>, Fault>;
}

/// R2: strongly consistent, with compare-and-set.
#[expect(async_fn_in_trait, reason = "an isolate has one thread")]
pub trait Objects {
    /// The object, or `None` if there is none.
    async fn get(&self, key: &str) -> Result<Option<Object>, Fault>;
    /// Puts an object if `only` holds: the new `ETag`, or `None` if the condition failed.
    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        metadata: BTreeMap<String, String>,
        only: Only<'_>,
    ) -> Result<Option<String>, Fault>;
    /// Removes an object; removing what is not there succeeds.
    async fn delete(&self, key: &str) -> Result<(), Fault>;
    /// Removes up to 1,000 objects in one operation ("delete", R2's Workers API).
    async fn delete_many(&self, keys: &[String]) -> Result<(), Fault>;
    /// Up to `limit` objects whose keys start with `prefix` and come after the key `after`; the
    /// page's cursor is the last key of it.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ObjectEntry>, Fault>;
}

/// Why a call out brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing came within the time that the caller gave.
    TimedOut,
    /// Refused, reset, not resolved, or cut off in the middle.
    Unreachable,
}

/// Calls from here to others: Asterisk's HTTP API.
#[expect(async_fn_in_trait, reason = "an isolate has one thread")]
pub trait Outbound {
    /// Sends a request and reads the whole answer, both within `timeout_ms`; follows no redirect.
    /// An answer longer than `max_bytes` counts as none.
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        timeout_ms: u32,
        max_bytes: usize,
    ) -> Result<http::Response<Vec<u8>>, NoAnswer>;
}

/// What is counted per caller, to be refused when it becomes too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// RPS questions that were refused, per source address.
    RpsMisses,
    /// The same, per first three bytes of the MAC.
    RangeMisses,
    /// The same, per tenant whose devices were asked for. It raises an alarm and changes no answer.
    TenantMisses,
    /// Refusals that are written down, per device.
    RefusalsOfDevice,
    /// Refusals that are written down, all together.
    Refusals,
    /// Admin calls without a valid token, per source address.
    AdminFailures,
    /// Ids of other tenants that the holder of a token wanted to make records under, per token.
    AdminTaken,
    /// Plans that were asked for, per PBX: each is a call to it.
    Plans,
}

/// What a log line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something that an operator may want to know.
    Info,
    /// Something that should not happen, but hurt nobody.
    Warn,
    /// A fault of ours: somebody should act.
    Error,
}

/// What one instance of the Worker remembers from one request to the next. It is forgotten with the
/// instance, so nothing may hang on it but cost.
#[derive(Debug, Default)]
pub struct InstanceMemory {
    /// Callers who are guessing.
    pub guesses: Guesses,
    /// The keys of Cloudflare Access.
    pub access: AccessKeys,
}

impl InstanceMemory {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            guesses: Guesses::new(),
            access: AccessKeys::new(),
        }
    }
}

/// Everything that is outside of the core, in one place.
#[expect(async_fn_in_trait, reason = "an isolate has one thread")]
pub trait World {
    /// Workers KV, binding `DEVICES`.
    type Mappings: Mappings;
    /// R2, binding `FILES`.
    type Objects: Objects;
    /// `fetch` to the outside.
    type Outbound: Outbound;

    /// The mapping store.
    fn kv(&self) -> &Self::Mappings;
    /// The object store.
    fn r2(&self) -> &Self::Objects;
    /// The way out.
    fn net(&self) -> &Self::Outbound;
    /// The keys derived from the secrets.
    fn keys(&self) -> &Keys;
    /// The time.
    fn now(&self) -> Timestamp;
    /// Waits.
    async fn sleep_ms(&self, ms: u32);
    /// Unguessable bytes.
    ///
    /// # Errors
    /// A [`Fault`] if the platform has none.
    fn random<const N: usize>(&self) -> Result<[u8; N], Fault>;
    /// What this instance remembers.
    fn memory<T>(&self, with: impl FnOnce(&mut InstanceMemory) -> T) -> T;
    /// Whether a key made this signature of these bytes: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, 3.3).
    ///
    /// # Errors
    /// A [`Fault`] if the platform cannot tell.
    async fn verify_rs256(
        &self,
        key: &RsaKey,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, Fault>;
    /// Counts one event of `who` against `limit`; false when there were too many.
    async fn within(&self, limit: Limit, who: &str) -> bool;
    /// Writes one log line: an event's bounded name and its fields. Never give it a secret.
    fn log(&self, level: Level, event: &'static str, fields: &[(&'static str, &str)]);
}
