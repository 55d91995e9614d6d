//! The scheduled handler, once a minute: finishes saves that were cut off, sees at every PBX who is
//! registered, in `push` mode brings its objects in line with the accounts, and chains the audit.
//!
//! In: R2, KV, the PBXes' ARI. Out: changes there, what is remembered in R2, one summary. [`reconcile`]
//! decides; here it is done, each step only on what R2 says at that moment. No secret in any log.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, future, stream};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::audit::{self, Event};
use crate::chaining::{self, Allowance};
use crate::fault::Fault;
use crate::finish::{self, Listed};
use crate::json;
use crate::key::{self, Kind};
use crate::ports::{Level, Mappings, NoAnswer, Object, Objects, Only, Outbound, Page, World};
use crate::reconcile::{
    self, Action, Counts, Desired, Memory, Observed, Pushed, Report, Situation, Why,
};
use crate::record::Stored;
use crate::record::account::{Account, PIN, Slot};
use crate::record::device::Device;
use crate::record::pbx::{Mode, Pbx};
use crate::rekey;
use crate::rotation::{self, Fetched};
use crate::secret::Secret;
use crate::session;
use crate::step7_register::{
    self as register, Answer, Class, Fields, FormerLogin, Found, PjsipObjects, Presence,
};
use crate::store::{self, Loaded};
use crate::text::{Id, Username};
use crate::time::Timestamp;

/// How long a run may keep others away, in seconds. A run that was killed holds up no more than
/// the next two.
const LEASE_S: u64 = 150;

/// When a run begins nothing new any more, in seconds from its start: what is under way then (one
/// action of at most fourteen calls) mostly ends within the lease. If it does not, two runs do the same.
const RUN_S: u64 = 90;

/// When one PBX gets no new action any more, in seconds from its turn.
const PBX_S: u64 = 40;

/// When no further cut-off save is finished, in seconds from the start of the run.
const FINISH_S: u64 = 40;

/// How many PBXes are worked on at the same time: a Worker has six connections at once (Workers
/// limits), and the stores need some of them.
const PBXES_AT_ONCE: usize = 4;

/// The calls of one run, to stores and PBXes: a Worker has 1,000 of them (Workers KV limits), and
/// what the finishing of saves needs is not known beforehand.
const CALLS: u32 = 900;

/// The most calls of one action: 14 to ARI (an account whose password was changed three times has
/// six objects), and up to 8 to R2.
const CALLS_OF_ACTION: u32 = 22;

/// What finishing one save is taken to need: an account on ten phones.
const CALLS_OF_FINISH: u32 = 100;

/// The most saves that one run finishes.
const FINISHES: usize = 4;

/// The most accounts of which one run looks whether a former password is over: each may be on
/// twenty phones. With more, those that are left are looked at in the next ones.
const LOOKS_AT_FORMER: u32 = 8;

/// A save younger than this, in seconds, is most likely still under way.
const CUT_OFF_AFTER_S: u64 = 30;

/// The most pages of the KV list of accounts: 100,000 accounts. With more, nothing is pushed at all
/// rather than a part for the whole.
const ACCOUNT_PAGES: usize = 100;

/// R2 gives no more than this in one listing (R2 limits).
const PAGE: u32 = 1_000;

/// How long a PBX has for an answer, in ms. 10,000 endpoints take it 0.15 s.
const TIMEOUT_MS: u32 = 10_000;

/// The longest list of endpoints, in bytes: 100,000 of them.
const LIST_BYTES: usize = 8 * 1_048_576;

/// The longest answer about one object, in bytes: an endpoint is 7 KB.
const OBJECT_BYTES: usize = 262_144;

/// What may stand in the name of an object in a URL's path. `+` may not: Asterisk takes it for a space.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What a run did, for `GET /status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSummary {
    /// When it began.
    pub at: Timestamp,
    /// `ok`, or why the accounts could not be listed: then nothing was created, mended or deleted.
    pub accounts: String,
    /// Saves that were cut off and that this run finished.
    pub finished: u32,
    /// Those that are left.
    pub unfinished: u32,
    /// What there is to say of each PBX.
    pub pbxes: BTreeMap<Id, PbxSummary>,
}

/// What a run did at one PBX.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PbxSummary {
    /// `ok`, or why not everything was seen or done: one of a handful of texts without any secret.
    pub outcome: String,
    /// Whether it may be changed.
    pub mode: Mode,
    /// What was seen there and what is due.
    #[serde(flatten)]
    pub report: Report,
    /// What was done of it.
    pub actions: Counts,
}

/// The outcome of a PBX that all went well at.
const OK: &str = "ok";

/// The outcome of a PBX that the run had no time or calls left for; it is first in the next.
const NOT_REACHED: &str = "not reached";

/// What Dialtone remembers of a PBX; nothing if it never saw it.
///
/// # Errors
/// The [`Fault`] of R2, or [`Fault::Broken`] for an object that is no memory.
pub async fn pbx_memory<W: World>(world: &W, pbx: &Id) -> Result<Memory, Fault> {
    let object = world.r2().get(&key::pbx_state(pbx)).await?;
    object.map_or_else(
        || Ok(Memory::default()),
        |object| json::read(&object.body).map_err(|_| Fault::Broken("pbx memory")),
    )
}

/// What the last run did; `None` if there was none yet.
///
/// # Errors
/// The [`Fault`] of R2, or [`Fault::Broken`] for an object that is no summary.
pub async fn last_run<W: World>(world: &W) -> Result<Option<RunSummary>, Fault> {
    let object = world.r2().get(key::RECONCILE).await?;
    object
        .map(|object| json::read(&object.body).map_err(|_| Fault::Broken("run summary")))
        .transpose()
}

/// One run. Does nothing if another one is under way.
///
/// `public_url` is the scheme and host of URLs in files that have none yet.
pub async fn run<W: World>(world: &W, public_url: Option<&str>) {
    let lease = match take_lease(world).await {
        Ok(Some(lease)) => lease,
        Ok(None) => return world.log(Level::Info, "tick.busy", &[]),
        Err(fault) => return world.log(Level::Error, "tick.fault", &[("fault", fault.label())]),
    };
    let run = Run {
        world,
        began: world.now(),
        calls: Cell::new(CALLS),
        looks: Cell::new(LOOKS_AT_FORMER),
    };
    if let Err(fault) = run.everything(public_url).await {
        world.log(Level::Error, "tick.fault", &[("fault", fault.label())]);
    }
    release(world, &lease).await;
}

/// Who may run now.
#[derive(Serialize, Deserialize)]
struct Lease {
    until: Timestamp,
}

impl Lease {
    fn bytes(until: Timestamp) -> Result<Vec<u8>, Fault> {
        serde_json::to_vec(&Self { until }).map_err(|_| Fault::Broken("lease"))
    }
}

/// Takes the lease: the version of it, or `None` if somebody else has it.
async fn take_lease<W: World>(world: &W) -> Result<Option<String>, Fault> {
    let object = world.r2().get(key::LEASE).await?;
    let only = match &object {
        None => Only::Absent,
        Some(object) => {
            // One that cannot be read is nobody's.
            let held =
                json::read::<Lease>(&object.body).is_ok_and(|lease| world.now() < lease.until);
            if held {
                return Ok(None);
            }
            Only::Version(&object.etag)
        }
    };
    let bytes = Lease::bytes(world.now().plus(LEASE_S))?;
    match world
        .r2()
        .put(key::LEASE, bytes, BTreeMap::new(), only)
        .await
    {
        // Somebody else wrote it within this second.
        Err(Fault::Throttled) => Ok(None),
        other => other,
    }
}

/// Gives the lease back, if it is still this run's. If that fails it ends by itself.
async fn release<W: World>(world: &W, lease: &str) {
    let Ok(bytes) = Lease::bytes(Timestamp(0)) else {
        return;
    };
    for _ in 0..2 {
        let put = world
            .r2()
            .put(
                key::LEASE,
                bytes.clone(),
                BTreeMap::new(),
                Only::Version(lease),
            )
            .await;
        match put {
            // R2 takes one write a second of one object, and a run may be shorter.
            Err(Fault::Throttled) => world.sleep_ms(1_100).await,
            Err(fault) => return world.log(Level::Warn, "tick.lease", &[("fault", fault.label())]),
            Ok(_) => return,
        }
    }
}

/// A run under way.
struct Run<'a, W: World> {
    world: &'a W,
    began: Timestamp,
    calls: Cell<u32>,
    /// How many more accounts are looked at for [`LOOKS_AT_FORMER`].
    looks: Cell<u32>,
}

impl<W: World> Run<'_, W> {
    fn spend(&self, calls: u32) {
        self.calls.set(self.calls.get().saturating_sub(calls));
    }

    /// Whether nothing new is to be begun.
    fn is_over(&self) -> bool {
        self.calls.get() < CALLS_OF_ACTION || self.world.now().since(self.began) >= RUN_S
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, Fault> {
        self.spend(1);
        self.world.r2().get(key).await
    }

    async fn account(&self, id: &Id) -> Result<Option<Stored<Account>>, Fault> {
        self.spend(1);
        Ok(store::load::<Account, W>(self.world, id.as_str())
            .await?
            .map(|loaded| loaded.stored))
    }

    async fn everything(&self, public_url: Option<&str>) -> Result<(), Fault> {
        let origin = public_url.map(|url| url.trim_end_matches('/'));
        let audit = Allowance::new(&self.calls, chaining::CALLS);
        // Side by side: a save that takes long to finish holds up no PBX.
        let ((finished, unfinished), seen, (), (), ()) = future::join5(
            self.finish_saves(origin),
            self.pbxes(),
            self.rekey(),
            chaining::pass(self.world, self.began, &audit),
            self.end_sessions(origin),
        )
        .await;
        let (accounts, pbxes) = seen?;
        let summary = RunSummary {
            at: self.began,
            accounts,
            finished,
            unfinished,
            pbxes,
        };
        let bytes = serde_json::to_vec(&summary).map_err(|_| Fault::Broken("run summary"))?;
        self.world
            .r2()
            .put(key::RECONCILE, bytes, BTreeMap::new(), Only::Always)
            .await?;
        Ok(())
    }

    /// During a change of `SEAL_KEY`: brings more of what is sealed under the new one.
    async fn rekey(&self) {
        if self.world.keys().old().is_none() {
            return;
        }
        self.spend(rekey::CALLS);
        if let Err(fault) = rekey::run(self.world).await {
            self.world
                .log(Level::Error, "rekey.fault", &[("fault", fault.label())]);
        }
    }

    /// Ends the sessions at hot-desking phones whose time is over.
    async fn end_sessions(&self, origin: Option<&str>) {
        self.spend(1);
        let due = match session::due(self.world).await {
            Ok(due) => due,
            Err(fault) => {
                let fields = [("fault", fault.label())];
                return self.world.log(Level::Error, "tick.sessions", &fields);
            }
        };
        for (until, account) in due {
            if self.is_over() || self.world.now().since(self.began) >= FINISH_S {
                return;
            }
            self.spend(session::CALLS_OF_END);
            if let Err(fault) = session::end_due(self.world, origin, until, &account).await {
                let fields = [("account", account.as_str()), ("fault", fault.label())];
                self.world.log(Level::Warn, "session.unfinished", &fields);
            }
        }
    }

    /// Finishes saves that were cut off: how many, and how many are left.
    async fn finish_saves(&self, origin: Option<&str>) -> (u32, u32) {
        self.spend(1);
        let page = match self.world.r2().list(key::ALL_UNFINISHED, None, PAGE).await {
            Ok(page) => page,
            Err(fault) => {
                self.world
                    .log(Level::Error, "tick.unfinished", &[("fault", fault.label())]);
                return (0, 0);
            }
        };
        let old = |metadata: &BTreeMap<String, String>| {
            let begun = metadata.get(finish::BEGUN).and_then(|at| at.parse().ok());
            begun.is_none_or(|at| self.began.since(Timestamp(at)) >= CUT_OFF_AFTER_S)
        };
        let mut left: Vec<&str> = page
            .entries
            .iter()
            .filter(|entry| old(&entry.metadata))
            .map(|entry| entry.key.as_str())
            .collect();
        let count = u32::try_from(left.len()).unwrap_or(u32::MAX);
        // Elsewhere each minute, so that some that always fail do not hold up the others.
        rotate(&mut left, FINISHES, self.began);
        let mut finished = 0;
        for key in left.into_iter().take(FINISHES) {
            if self.is_over() || self.world.now().since(self.began) >= FINISH_S {
                break;
            }
            let Some((kind, id)) = key::parse_unfinished(key) else {
                continue;
            };
            self.spend(CALLS_OF_FINISH);
            let finished_now = match finish::finish(self.world, kind, id, origin).await {
                Ok(()) => self.world.r2().delete(key).await,
                Err(fault) => Err(fault),
            };
            match finished_now {
                Ok(()) => {
                    finished += 1;
                    self.world.log(
                        Level::Info,
                        "save.finished",
                        &[("kind", kind.word()), ("id", id)],
                    );
                }
                Err(fault) => {
                    let fields = [("kind", kind.word()), ("id", id), ("fault", fault.label())];
                    self.world.log(Level::Warn, "save.unfinished", &fields);
                }
            }
        }
        (finished, count.saturating_sub(finished))
    }

    /// Looks after every PBX: what there is to say of the list of accounts and of each of them.
    async fn pbxes(&self) -> Result<(String, BTreeMap<Id, PbxSummary>), Fault> {
        self.spend(1);
        let page = self
            .world
            .r2()
            .list(&key::records(Kind::Pbx), None, PAGE)
            .await?;
        if page.cursor.is_some() {
            self.world
                .log(Level::Error, "tick.pbxes", &[("fault", "too many")]);
        }
        let alive = page
            .entries
            .iter()
            .filter(|entry| !entry.metadata.contains_key("gone"));
        let ids = alive
            .filter_map(|entry| Id::try_from(key::last(&entry.key)).ok())
            .collect();
        let (desired, accounts) = match self.desired().await {
            Ok(desired) => (Some(desired), OK.to_owned()),
            Err(fault) => {
                self.world
                    .log(Level::Error, "tick.accounts", &[("fault", fault.label())]);
                (None, fault.label().to_owned())
            }
        };
        let none: Vec<Desired> = Vec::new();
        let desired_at = |id: &Id| {
            desired
                .as_ref()
                .map(|all| all.get(id).unwrap_or(&none).as_slice())
        };
        self.spend(1);
        let last = last_run(self.world)
            .await
            .ok()
            .flatten()
            .unwrap_or_default();
        let turns = in_turn(ids, &last, self.began);
        let work = turns.into_iter().map(|id| async {
            let summary = self.look_after(&id, desired_at(&id)).await;
            (id, summary)
        });
        let done: Vec<(Id, Option<PbxSummary>)> = stream::iter(work)
            .buffer_unordered(PBXES_AT_ONCE)
            .collect()
            .await;
        Ok((
            accounts,
            done.into_iter()
                .filter_map(|(id, summary)| Some((id, summary?)))
                .collect(),
        ))
    }

    /// The accounts that each PBX should have.
    async fn desired(&self) -> Result<BTreeMap<Id, Vec<Desired>>, Fault> {
        let mut desired: BTreeMap<Id, Vec<Desired>> = BTreeMap::new();
        let prefix = key::records(Kind::Account);
        let mut cursor: Option<String> = None;
        for _ in 0..ACCOUNT_PAGES {
            self.spend(1);
            let Page {
                entries,
                cursor: next,
            } = self.world.kv().list(&prefix, cursor.as_deref()).await?;
            for entry in entries {
                let account =
                    key::parse_record(&entry.key).and_then(|(_, id)| Id::try_from(id).ok());
                let listed = entry
                    .metadata
                    .and_then(|metadata| json::read::<Listed>(metadata.as_bytes()).ok());
                // What we cannot read is not ours to create; and absence deletes nothing.
                let (Some(account), Some(listed)) = (account, listed) else {
                    continue;
                };
                if !listed.gone {
                    let Listed {
                        pbx,
                        username,
                        rev,
                        rotating,
                        ..
                    } = listed;
                    desired.entry(pbx).or_default().push(Desired {
                        username,
                        account,
                        rev,
                        rotating,
                    });
                }
            }
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(desired),
            }
        }
        Err(Fault::Broken("too many accounts"))
    }

    /// One PBX, whose failure is its own. `None` if it is deleted.
    async fn look_after(&self, id: &Id, desired: Option<&[Desired]>) -> Option<PbxSummary> {
        if self.is_over() {
            return Some(PbxSummary {
                outcome: NOT_REACHED.to_owned(),
                ..PbxSummary::default()
            });
        }
        let summary = self.reconcile(id, desired).await.unwrap_or_else(|fault| {
            Some(PbxSummary {
                outcome: fault.label().to_owned(),
                ..PbxSummary::default()
            })
        });
        if let Some(summary) = &summary
            && summary.outcome != OK
        {
            self.world.log(
                Level::Warn,
                "pbx.trouble",
                &[("pbx", id.as_str()), ("why", &summary.outcome)],
            );
        }
        summary
    }

    async fn reconcile(
        &self,
        id: &Id,
        desired: Option<&[Desired]>,
    ) -> Result<Option<PbxSummary>, Fault> {
        let turn = self.world.now();
        self.spend(1);
        let Some(Loaded { stored, .. }) = store::load::<Pbx, W>(self.world, id.as_str()).await?
        else {
            return Ok(None);
        };
        if !stored.alive() {
            return Ok(None);
        }
        let ari = Ari::new(self, id, &stored)?;
        let object = self.get(&key::pbx_state(id)).await?;
        let (before, version) = match &object {
            None => (Memory::default(), None),
            // Found out again in a few runs, but for the times.
            Some(object) => (
                json::read(&object.body).unwrap_or_default(),
                Some(object.etag.as_str()),
            ),
        };
        let (observed, tombstones) = match ari.endpoints().await {
            Observed::Unknown(why) => (Observed::Unknown(why), BTreeSet::new()),
            observed @ Observed::Endpoints(_) => (observed, self.tombstones(id).await?),
        };
        let shape = register::shape(&stored.record);
        let situation = Situation {
            mode: stored.record.mode,
            shape: &shape,
            desired,
            observed,
            tombstones: &tombstones,
            now: self.world.now(),
        };
        let (memory, plan) = reconcile::look(situation, before.clone());
        let clear = plan.unknown.is_none();
        let mut summary = PbxSummary {
            outcome: plan.unknown.unwrap_or_else(|| OK.to_owned()),
            mode: stored.record.mode,
            report: plan.report,
            actions: Counts::default(),
        };
        let mut site = Site {
            run: self,
            ari: &ari,
            id,
            pbx: &stored.record,
            shape: &shape,
            memory,
        };
        for action in &plan.actions {
            if self.is_over() || self.world.now().since(turn) >= PBX_S {
                break;
            }
            match site.act(action).await {
                Ok(true) => summary.actions.add(action),
                Ok(false) => {}
                Err(Stop(why)) => {
                    summary.outcome = why;
                    break;
                }
            }
        }
        summary.report.collisions = reconcile::collisions(&site.memory);
        if site.memory != before {
            self.remember(id, &site.memory, version).await;
        }
        site.end_formers(desired.unwrap_or_default(), clear).await;
        Ok(Some(summary))
    }

    /// The names that may be deleted at a PBX: the first thousand, the others are next.
    async fn tombstones(&self, pbx: &Id) -> Result<BTreeSet<Username>, Fault> {
        self.spend(1);
        let page = self
            .world
            .r2()
            .list(&key::all_gone(pbx), None, PAGE)
            .await?;
        Ok(page
            .entries
            .iter()
            .filter_map(|entry| Username::try_from(key::last(&entry.key)).ok())
            .collect())
    }

    /// Keeps what is remembered of a PBX. What another run wrote meanwhile is as good.
    async fn remember(&self, pbx: &Id, memory: &Memory, version: Option<&str>) {
        let put = async {
            let bytes = serde_json::to_vec(memory).map_err(|_| Fault::Broken("pbx memory"))?;
            let only = version.map_or(Only::Absent, Only::Version);
            self.spend(1);
            self.world
                .r2()
                .put(&key::pbx_state(pbx), bytes, BTreeMap::new(), only)
                .await
        };
        let fault = match put.await {
            Ok(Some(_)) => return,
            Ok(None) => Fault::Contended,
            Err(fault) => fault,
        };
        self.world.log(
            Level::Warn,
            "pbx.memory",
            &[("pbx", pbx.as_str()), ("fault", fault.label())],
        );
    }
}

/// Starts a list elsewhere each minute, `step` entries further.
fn rotate<T>(list: &mut [T], step: usize, now: Timestamp) {
    let minute = usize::try_from(now.0 / 60).unwrap_or_default();
    let start = minute.wrapping_mul(step).checked_rem(list.len());
    list.rotate_left(start.unwrap_or_default());
}

/// The account that a tombstone or the holder of a name is about: [`finish`] writes its bare id.
fn account_in(object: Object, broken: Fault) -> Result<Id, Fault> {
    String::from_utf8(object.body)
        .ok()
        .and_then(|id| Id::try_from(id).ok())
        .ok_or(broken)
}

/// Who is first: PBXes that the last run did not reach or never knew, then those that were fine,
/// then those that failed and may make everybody wait for their timeouts again.
fn in_turn(mut ids: Vec<Id>, last: &RunSummary, now: Timestamp) -> Vec<Id> {
    rotate(&mut ids, 1, now);
    let rank = |id: &Id| match last.pbxes.get(id).map(|summary| summary.outcome.as_str()) {
        None | Some(NOT_REACHED) => 0,
        Some(OK) => 1,
        Some(_) => 2,
    };
    ids.sort_by_key(rank);
    ids
}

/// What a PBX said that nothing can be concluded from, or the fault that kept us from asking: the
/// end of its actions in this run.
struct Stop(String);

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self(fault.label().to_owned())
    }
}

/// An answer of ARI that was read whole.
struct Reply {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Reply {
    fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            content_type: &self.content_type,
            body: &self.body,
        }
    }

    fn unclear(&self) -> Stop {
        Stop(format!("http {}", self.status))
    }
}

/// A PBX's ARI.
struct Ari<'a, W: World> {
    run: &'a Run<'a, W>,
    base: String,
    headers: HeaderMap,
}

impl<'a, W: World> Ari<'a, W> {
    fn new(run: &'a Run<'a, W>, id: &Id, stored: &Stored<Pbx>) -> Result<Self, Fault> {
        const NO_PASSWORD: Fault = Fault::Broken("no ari_password");
        const HEADERS: Fault = Fault::Broken("pbx headers");
        let sealed = |name: &str| {
            let place = store::secret_place(Kind::Pbx, id.as_str(), name);
            stored
                .sealed
                .get(name)
                .map(|sealed| run.world.keys().open(&place, sealed))
                .transpose()
        };
        let mut headers = HeaderMap::new();
        if let Some(more) = sealed("headers")? {
            let more: BTreeMap<String, String> = json::read(&more).map_err(|_| HEADERS)?;
            for (name, value) in more {
                let name = HeaderName::try_from(name).map_err(|_| HEADERS)?;
                let mut value = HeaderValue::try_from(value).map_err(|_| HEADERS)?;
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        let pbx = &stored.record;
        let mut login = format!("{}:", pbx.ari_username).into_bytes();
        login.extend(sealed("ari_password")?.ok_or(NO_PASSWORD)?);
        let mut basic = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(login)))
            .map_err(|_| NO_PASSWORD)?;
        basic.set_sensitive(true);
        headers.insert(AUTHORIZATION, basic);
        let url = pbx.ari_url.as_str();
        let base = url
            .split_once('?')
            .map_or(url, |(base, _)| base)
            .trim_end_matches('/')
            .to_owned();
        Ok(Self { run, base, headers })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        most: usize,
    ) -> Result<Reply, Stop> {
        let json = body.is_some();
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .body(body.unwrap_or_default())
            .map_err(|_| Stop("ari_url".to_owned()))?;
        *request.headers_mut() = self.headers.clone();
        if json {
            // Under any other type Asterisk does not read the body.
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.run.spend(1);
        let response = self
            .run
            .world
            .net()
            .send(request, TIMEOUT_MS, most)
            .await
            .map_err(|none| {
                Stop(match none {
                    NoAnswer::TimedOut => "timed out".to_owned(),
                    NoAnswer::Unreachable => "unreachable".to_owned(),
                })
            })?;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        Ok(Reply {
            status: response.status().as_u16(),
            content_type: content_type.unwrap_or_default().to_owned(),
            body: response.into_body(),
        })
    }

    async fn endpoints(&self) -> Observed {
        match self.call(Method::GET, "/endpoints", None, LIST_BYTES).await {
            Ok(reply) => Observed::read(reply.answer()),
            Err(Stop(why)) => Observed::Unknown(why),
        }
    }

    async fn object(
        &self,
        method: Method,
        class: Class,
        name: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Reply, Stop> {
        let name = utf8_percent_encode(name, PATH);
        let path = format!("/asterisk/config/dynamic/res_pjsip/{}/{name}", class.word());
        self.call(method, &path, body, OBJECT_BYTES).await
    }

    /// Whether an object is there, and whose it is.
    async fn presence(&self, class: Class, name: &str, account: &Id) -> Result<Presence, Stop> {
        let reply = self.object(Method::GET, class, name, None).await?;
        match register::presence(reply.answer(), name, account) {
            Presence::Unclear => Err(reply.unclear()),
            clear => Ok(clear),
        }
    }
}

/// Whose an object at the PBX is, after everything was weighed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whose {
    Nobodys,
    Ours(Found),
    Foreign,
}

/// The objects of a name, as they are at the PBX.
struct There {
    auth: Whose,
    aor: Whose,
    endpoint: Whose,
    /// The auths of former passwords, as far as they were looked at.
    former: BTreeMap<Slot, Whose>,
}

impl There {
    fn of(&self, class: Class) -> &Whose {
        match class {
            Class::Auth => &self.auth,
            Class::Aor => &self.aor,
            Class::Endpoint => &self.endpoint,
        }
    }

    /// Whether an object that the account must have is somebody else's.
    fn any_foreign(&self, objects: &PjsipObjects) -> bool {
        let former = objects.former.keys().map(|slot| self.former.get(slot));
        [&self.auth, &self.aor, &self.endpoint]
            .into_iter()
            .chain(former.flatten())
            .any(|whose| *whose == Whose::Foreign)
    }

    /// Whether nothing needs to be pushed or removed.
    fn are(&self, objects: &PjsipObjects) -> bool {
        let Self {
            auth: Whose::Ours(auth),
            aor: Whose::Ours(_),
            endpoint: Whose::Ours(endpoint),
            former,
        } = self
        else {
            return false;
        };
        let takes = |slot: &Slot, fields: &Fields| match former.get(slot) {
            Some(Whose::Ours(found)) => found.takes(fields),
            _ => false,
        };
        auth.takes(&objects.auth)
            && endpoint.hash.as_deref() == Some(&objects.hash)
            && objects.former.iter().all(|(slot, f)| takes(slot, f))
            && self.left_over(objects).next().is_none()
    }

    /// Whether the endpoint that is there takes all former passwords. One that is not there lets
    /// nobody in that could be locked out.
    fn names(&self, objects: &PjsipObjects, username: &Username) -> bool {
        let Whose::Ours(endpoint) = &self.endpoint else {
            return true;
        };
        let mut slots = objects.former.keys();
        slots.all(|slot| endpoint.names(&slot.object(username)))
    }

    /// The auths of ours whose passwords are over.
    fn left_over(&self, objects: &PjsipObjects) -> impl Iterator<Item = Slot> {
        let ours = self.former.iter();
        ours.filter(|(slot, whose)| {
            matches!(whose, Whose::Ours(_)) && !objects.former.contains_key(slot)
        })
        .map(|(slot, _)| *slot)
    }
}

/// How the trouble with one account ends: its own, or the end of this run's work at the PBX.
enum Failed {
    One(Why),
    All(Stop),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::All(stop)
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::All(fault.into())
    }
}

/// A PBX while actions are done there.
struct Site<'a, W: World> {
    run: &'a Run<'a, W>,
    ari: &'a Ari<'a, W>,
    id: &'a Id,
    pbx: &'a Pbx,
    shape: &'a str,
    memory: Memory,
}

impl<W: World> Site<'_, W> {
    /// Does one action. True if it is done; false if there was nothing to do, or if it failed for
    /// this account alone.
    async fn act(&mut self, action: &Action) -> Result<bool, Stop> {
        let username = action.username();
        let (done, account, rev) = match action {
            Action::Create(desired)
            | Action::Mend(desired)
            | Action::Adopt(desired)
            | Action::Check(desired) => (
                self.push(desired).await,
                Some(&desired.account),
                desired.rev,
            ),
            Action::Delete(username) => (self.delete(username).await, None, 0),
        };
        let (why, stop) = match done {
            Ok(done) => {
                // That what should be fine is fine is not worth a line.
                if done && !matches!(action, Action::Check(_)) {
                    self.log(Level::Info, action, "done");
                }
                return Ok(done);
            }
            Err(Failed::One(why)) => (why, None),
            Err(Failed::All(stop)) => (Why::Unclear, Some(stop)),
        };
        self.log(
            Level::Warn,
            action,
            stop.as_ref().map_or(why.word(), |stop| &stop.0),
        );
        self.memory
            .note_trouble(username, why, account, rev, self.run.world.now());
        stop.map_or(Ok(false), Err)
    }

    fn log(&self, level: Level, action: &Action, outcome: &str) {
        let fields = [
            ("pbx", self.id.as_str()),
            ("username", action.username().as_str()),
            ("action", action.word()),
            ("outcome", outcome),
        ];
        self.run.world.log(level, "pbx.action", &fields);
    }

    /// Sees to it that an account's objects are at the PBX as R2 says now. False if the account is
    /// not to be there any more.
    async fn push(&mut self, desired: &Desired) -> Result<bool, Failed> {
        let Desired {
            username, account, ..
        } = desired;
        let Some(stored) = self
            .run
            .account(account)
            .await?
            .filter(|stored| self.has(stored, username))
        else {
            return Ok(false);
        };
        if !register::can_be_named(username) {
            return Err(Failed::One(Why::Name));
        }
        let password = self
            .password(account, &stored)
            .map_err(|_| Failed::One(Why::Password))?;
        let former = self.former(account, &stored);
        // A user who may log in somewhere has room for that beforehand: the phone registers at once, and the
        // PBX is told of it within two minutes only.
        let may_log_in = stored.sealed.contains_key(PIN);
        let devices = stored.state.devices.len() + usize::from(may_log_in);
        let objects = register::objects(
            self.pbx,
            account,
            &stored.record,
            &password,
            &former,
            devices,
            self.run.world.keys(),
        )?;

        let mut there = self
            .three(username, account, |found| found.takes(&objects.auth))
            .await?;
        // What a push that was cut off left below no endpoint is found by a later look.
        if matches!(there.endpoint, Whose::Ours(_)) || !former.is_empty() {
            let logins = former.iter().map(|former| former.login);
            let logins: Vec<&Username> = logins.chain([stored.record.auth_username()]).collect();
            there.former = self
                .formers(username, account, &there.endpoint, &logins)
                .await?;
        }
        if there.any_foreign(&objects) {
            return Err(Failed::One(Why::Collision));
        }
        if !there.are(&objects) {
            self.put_all(username, account, &there, &objects).await?;
        }
        let pushed = Pushed {
            account: account.clone(),
            rev: stored.rev,
            shape: self.shape.to_owned(),
            verified_at: self.run.world.now(),
        };
        self.memory.note_pushed(username, pushed);
        Ok(true)
    }

    /// Ends the former passwords of accounts whose phones all have the new one, or whose time is
    /// over. The next run takes them away from the PBX. `clear`: the PBX has just said who is
    /// registered.
    async fn end_formers(&self, desired: &[Desired], clear: bool) {
        let mut rotating: Vec<&Desired> = desired.iter().filter(|d| d.rotating).collect();
        let most = usize::try_from(LOOKS_AT_FORMER).unwrap_or_default();
        rotate(&mut rotating, most, self.run.began);
        for desired in rotating {
            let looks = self.run.looks.get();
            if looks == 0 || self.run.is_over() {
                break;
            }
            self.run.looks.set(looks - 1);
            if let Err(fault) = self.end_former(desired, clear).await {
                let fields = [
                    ("account", desired.account.as_str()),
                    ("fault", fault.label()),
                ];
                self.run.world.log(Level::Warn, "password.kept", &fields);
            }
        }
    }

    /// One of them. Its record in R2 is what counts, also when it is written.
    async fn end_former(&self, desired: &Desired, clear: bool) -> Result<(), Fault> {
        let Desired {
            username, account, ..
        } = desired;
        // KV is late: it may be over already.
        let Some(stored) = self.run.account(account).await?.filter(|stored| {
            self.has(stored, username) && !stored.state.former_passwords.is_empty()
        }) else {
            return Ok(());
        };
        let login_rev = stored.state.login_rev;
        let registered =
            clear
                && self
                    .memory
                    .registration(username)
                    .is_some_and(|seen| seen.account == *account && seen.online)
                && (self.pbx.mode == Mode::Observe
                    || self.memory.pushed.get(username).is_some_and(|pushed| {
                        pushed.account == *account && pushed.rev >= login_rev
                    }));
        // Phones are looked at only if it may depend on them.
        let fetched = if stored.state.devices.is_empty() {
            Fetched::NoPhone
        } else if registered {
            let mut devices = Vec::new();
            for mac in &stored.state.devices {
                self.run.spend(1);
                let device = store::load::<Device, W>(self.run.world, &mac.to_string()).await?;
                devices.extend(device.map(|device| device.stored));
            }
            rotation::fetched(account, login_rev, &devices)
        } else {
            Fetched::NotAll
        };
        let now = self.run.world.now();
        let why = |former: &_| rotation::end(former, fetched, registered, now);
        let Some(end) = stored.state.former_passwords.iter().find_map(why) else {
            return Ok(());
        };
        // Each of its phones' files is looked at.
        let phones = u32::try_from(stored.state.devices.len()).unwrap_or(u32::MAX);
        self.run.spend(phones.saturating_mul(8).saturating_add(12));
        let world = self.run.world;
        let mut done = false;
        let mark = finish::begin(world, Kind::Account, account.as_str()).await?;
        let ended = store::update::<Account, W>(world, account.as_str(), |stored| {
            // Changed again in between: that has another look coming.
            done = false;
            if !stored.alive() || stored.state.login_rev != login_rev {
                return false;
            }
            let before = stored.state.former_passwords.len();
            rotation::forget(stored, |former| why(former).is_some());
            done = stored.state.former_passwords.len() != before;
            done
        })
        .await?;
        finish::finish(world, Kind::Account, account.as_str(), None).await?;
        finish::done(world, &mark).await?;
        if !done {
            return Ok(());
        }
        let tenant = ended.as_ref().map(|stored| &stored.record.tenant);
        let resource = format!("accounts/{account}");
        let event = Event::new(world, audit::DIALTONE, tenant, "password.ended", resource);
        audit::note(world, &event.with("why", end.word())).await;
        Ok(())
    }

    /// Pushes an account's objects, in such an order that each password that is to work works all
    /// the while: the former ones have their auths before the endpoint names them, the endpoint
    /// names them before its own auth takes the new one, and what is over goes last.
    async fn put_all(
        &self,
        username: &Username,
        account: &Id,
        there: &There,
        objects: &PjsipObjects,
    ) -> Result<(), Failed> {
        for (slot, fields) in &objects.former {
            self.put(Class::Auth, &slot.object(username), fields)
                .await?;
        }
        if !there.names(objects, username) {
            let endpoint = objects.endpoint_before();
            self.put(Class::Endpoint, username.as_str(), &endpoint)
                .await?;
        }
        for class in Class::ALL {
            self.put(class, username.as_str(), objects.of(class))
                .await?;
        }
        // Asterisk says 200 also to an endpoint that it cannot read again.
        let kept = match self
            .ari
            .presence(Class::Endpoint, username.as_str(), account)
            .await?
        {
            Presence::Ours(found) => found.hash.as_deref() == Some(&objects.hash),
            _ => false,
        };
        if !kept {
            return Err(Failed::One(Why::NotKept));
        }
        // Not before the endpoint names it no more: that would lock out everybody.
        for slot in there.left_over(objects) {
            self.remove(Class::Auth, &slot.object(username)).await?;
        }
        Ok(())
    }

    async fn put(&self, class: Class, name: &str, fields: &Fields) -> Result<(), Failed> {
        let body = fields.body()?;
        let reply = self
            .ari
            .object(Method::PUT, class, name, Some(body))
            .await?;
        match register::pushed(reply.answer()) {
            register::Pushed::Kept => Ok(()),
            register::Pushed::Refused => Err(Failed::One(Why::Refused)),
            register::Pushed::Unclear => Err(reply.unclear().into()),
        }
    }

    async fn remove(&self, class: Class, name: &str) -> Result<(), Failed> {
        let reply = self.ari.object(Method::DELETE, class, name, None).await?;
        if register::deleted(reply.answer(), name) {
            Ok(())
        } else {
            Err(reply.unclear().into())
        }
    }

    /// Removes the objects of a name, if its tombstone is still there and nobody has the name now.
    /// False if that is not so, and then nothing is removed.
    async fn delete(&mut self, username: &Username) -> Result<bool, Failed> {
        if !register::can_be_named(username) {
            return Err(Failed::One(Why::Name));
        }
        let tombstone = key::gone(self.id, username);
        let Some(object) = self.run.get(&tombstone).await? else {
            return Ok(false);
        };
        let account = account_in(object, Fault::Broken("tombstone"))?;
        let holder = self.run.get(&key::name(self.id, username)).await?;
        if let Some(holder) = holder.filter(|holder| holder.body != key::FREE_NAME) {
            let holder = account_in(holder, Fault::Broken("name"))?;
            if self
                .run
                .account(&holder)
                .await?
                .is_some_and(|stored| self.has(&stored, username))
            {
                return Ok(false);
            }
        }
        let stored = self.run.account(&account).await?;
        if stored
            .as_ref()
            .is_some_and(|stored| self.has(stored, username))
        {
            return Ok(false);
        }
        // The account may have another name by now, which its digest user then follows.
        let login = stored
            .as_ref()
            .and_then(|stored| stored.record.auth_username.as_ref())
            .unwrap_or(username);
        let realm = self.pbx.realm.as_str();
        let mut there = self
            .three(username, &account, |found| {
                found.is_login(login.as_str(), realm)
            })
            .await?;
        there.former = self
            .formers(username, &account, &there.endpoint, &[login])
            .await?;
        let ours = |whose: &Whose| matches!(whose, Whose::Ours(_));
        let former = there.former.iter().filter(|(_, whose)| ours(whose));
        let former = former.map(|(slot, _)| slot.object(username));
        // What is left is somebody else's for certain. Only below their endpoint there may be ours,
        // and that may use what we left beside it.
        if there.endpoint == Whose::Foreign {
            if ours(&there.auth) || ours(&there.aor) || former.count() > 0 {
                return Err(Failed::One(Why::Collision));
            }
        } else {
            for class in Class::ALL.into_iter().rev() {
                if ours(there.of(class)) {
                    self.remove(class, username.as_str()).await?;
                }
            }
            for name in former {
                self.remove(Class::Auth, &name).await?;
            }
        }
        self.run.spend(1);
        self.run.world.r2().delete(&tombstone).await?;
        self.memory.note_deleted(username);
        Ok(true)
    }

    /// Whether an account is alive and has this name here.
    fn has(&self, stored: &Stored<Account>, username: &Username) -> bool {
        stored.alive() && stored.record.pbx == *self.id && stored.record.username == *username
    }

    fn password(&self, account: &Id, stored: &Stored<Account>) -> Result<Secret, Fault> {
        const NAME: &str = "password";
        let sealed = stored
            .sealed
            .get(NAME)
            .ok_or(Fault::Broken("no password"))?;
        let place = store::secret_place(Kind::Account, account.as_str(), NAME);
        self.run.world.keys().open_secret(&place, sealed)
    }

    /// The former passwords that still work. One that cannot be opened is over: no phone's files can
    /// be told from it, and the account itself is none the worse.
    fn former<'s>(&self, account: &Id, stored: &'s Stored<Account>) -> Vec<FormerLogin<'s>> {
        let former = stored.state.former_passwords.iter();
        former
            .filter_map(|former| {
                let name = former.slot.sealed();
                let place = store::secret_place(Kind::Account, account.as_str(), name);
                let sealed = stored.sealed.get(name)?;
                let password = self.run.world.keys().open_secret(&place, sealed).ok()?;
                Some(FormerLogin {
                    slot: former.slot,
                    login: &former.login,
                    password,
                })
            })
            .collect()
    }

    /// The auths of former passwords, and whose they are. One without a mark is the account's if the
    /// account's endpoint names it, or if it is of one of its logins.
    async fn formers(
        &self,
        username: &Username,
        account: &Id,
        endpoint: &Whose,
        logins: &[&Username],
    ) -> Result<BTreeMap<Slot, Whose>, Failed> {
        let realm = self.pbx.realm.as_str();
        let mut formers = BTreeMap::new();
        for slot in Slot::ALL {
            let name = slot.object(username);
            let named = matches!(endpoint, Whose::Ours(found) if found.names(&name));
            let whose = match self.ari.presence(Class::Auth, &name, account).await? {
                Presence::Foreign(found)
                    if found.account.is_none()
                        && (named
                            || *endpoint != Whose::Foreign
                                && logins.iter().any(|l| found.is_login(l.as_str(), realm))) =>
                {
                    Whose::Ours(found)
                }
                other => self.weigh(other, username).await?,
            };
            formers.insert(slot, whose);
        }
        Ok(formers)
    }

    /// The objects of a name, and whose they are. `same_login` tells from an auth without a mark
    /// whether it is the account's: one below an endpoint of ours is, whatever it says.
    async fn three(
        &self,
        username: &Username,
        account: &Id,
        same_login: impl Fn(&Found) -> bool,
    ) -> Result<There, Failed> {
        let endpoint = self.whose(Class::Endpoint, username, account).await?;
        let aor = self.whose(Class::Aor, username, account).await?;
        let auth = match self
            .ari
            .presence(Class::Auth, username.as_str(), account)
            .await?
        {
            Presence::Foreign(found)
                if found.account.is_none()
                    && (matches!(endpoint, Whose::Ours(_))
                        || (endpoint == Whose::Nobodys && same_login(&found))) =>
            {
                Whose::Ours(found)
            }
            other => self.weigh(other, username).await?,
        };
        Ok(There {
            auth,
            aor,
            endpoint,
            former: BTreeMap::new(),
        })
    }

    async fn whose(
        &self,
        class: Class,
        username: &Username,
        account: &Id,
    ) -> Result<Whose, Failed> {
        let presence = self.ari.presence(class, username.as_str(), account).await?;
        self.weigh(presence, username).await
    }

    async fn weigh(&self, presence: Presence, username: &Username) -> Result<Whose, Failed> {
        Ok(match presence {
            Presence::Absent => Whose::Nobodys,
            Presence::Ours(found) => Whose::Ours(found),
            Presence::Foreign(found) if self.is_left_over(&found, username).await? => {
                Whose::Ours(found)
            }
            Presence::Foreign(_) | Presence::Unclear => Whose::Foreign,
        })
    }

    /// Whether an object carries the mark of an account of ours that has this name no more: it was
    /// deleted, renamed or moved, and another one took the name before this run came by. An account
    /// that has the name at another PBX is none such, unless it was we who pushed it to this one: two
    /// PBX records may be of one Asterisk.
    async fn is_left_over(&self, found: &Found, username: &Username) -> Result<bool, Fault> {
        let Some(former) = found
            .account
            .as_deref()
            .and_then(|id| Id::try_from(id).ok())
        else {
            return Ok(false);
        };
        let moved = self
            .memory
            .pushed
            .get(username)
            .is_some_and(|pushed| pushed.account == former);
        Ok(self.run.account(&former).await?.is_some_and(|stored| {
            let named = stored.alive() && stored.record.username == *username;
            !named || (moved && stored.record.pbx != *self.id)
        }))
    }
}
