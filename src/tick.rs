//! The scheduled handler, once a minute: finishes saves that were cut off, sees at every PBX who is
//! registered, in `push` mode brings its objects in line with the accounts, and chains the audit.
//!
//! In: R2, KV, the PBXes' ARI. Out: changes there, what is remembered in R2, one summary. [`reconcile`]
//! decides; here it is done, each step only on what R2 says at that moment. No secret in any log.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, future, stream};
use serde::{Deserialize, Serialize};

use self::ari::{Ari, Stop};
use self::site::Site;
use crate::chaining::{self, Allowance};
use crate::fault::Fault;
use crate::finish::{self, Listed};
use crate::json;
use crate::key::{self, Kind};
use crate::ports::{Level, Mappings, Object, Objects, Only, Page, World};
use crate::reconcile::{self, Counts, Desired, Memory, Observed, Report, Situation};
use crate::record::Stored;
use crate::record::account::Account;
use crate::record::pbx::{Mode, Pbx};
use crate::rekey;
use crate::session;
use crate::step7_register as register;
use crate::store::{self, Loaded};
use crate::text::{Id, Username};
use crate::time::Timestamp;

mod ami;
mod ari;
mod contacts;
mod events;
mod lease;
mod resync;
mod site;
pub mod tell;

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
    /// When a run last began in which all went well there; `None` if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok_at: Option<Timestamp>,
}

/// The outcome of a PBX that all went well at.
pub const OK: &str = "ok";

/// The outcome of a PBX that the run had no time or calls left for; it is first in the next.
pub const NOT_REACHED: &str = "not reached";

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
    let lease = match lease::take(world).await {
        Ok(Some(lease)) => lease,
        Ok(None) => return world.log(Level::Info, "tick.busy", &[]),
        Err(fault) => return world.log(Level::Error, "tick.fault", &[("fault", fault.label())]),
    };
    let run = Run {
        world,
        began: world.now(),
        calls: Cell::new(CALLS),
        looks: Cell::new(LOOKS_AT_FORMER),
        events: Cell::new(events::CALLS),
    };
    if let Err(fault) = run.everything(public_url).await {
        world.log(Level::Error, "tick.fault", &[("fault", fault.label())]);
    }
    lease::release(world, &lease).await;
}

/// A run under way.
struct Run<'a, W: World> {
    world: &'a W,
    began: Timestamp,
    calls: Cell<u32>,
    /// How many more accounts are looked at for [`LOOKS_AT_FORMER`].
    looks: Cell<u32>,
    /// How many more calls may be made to tell of phones that came and went.
    events: Cell<u32>,
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
        // Last: who is registered from where is known by now, and what must be comes first.
        self.resync(origin).await;
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
            let mut summary = self.look_after(&id, desired_at(&id)).await;
            if let Some(summary) = &mut summary {
                let before = last.pbxes.get(&id).and_then(|before| before.ok_at);
                let ok = summary.outcome == OK;
                summary.ok_at = if ok { Some(self.began) } else { before };
            }
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
        let ari = Ari::new(self.world, &self.calls, id, &stored)?;
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
        let (mut memory, plan) = reconcile::look(situation, before.clone());
        self.tell(id, &stored.record.tenant, &before, &mut memory)
            .await;
        let clear = plan.unknown.is_none();
        let mut summary = PbxSummary {
            outcome: plan.unknown.unwrap_or_else(|| OK.to_owned()),
            mode: stored.record.mode,
            report: plan.report,
            actions: Counts::default(),
            ok_at: None,
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
        if let (true, Some(desired)) = (clear, desired) {
            let many = summary.report.endpoints > contacts::MANY;
            let changed = site.memory.registrations != before.registrations;
            self.look_at_contacts(id, &stored, desired, changed && !many)
                .await;
        }
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
