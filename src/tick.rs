//! The scheduled handler, once a minute: finishes saves that were cut off, sees at every PBX who is
//! registered, in `push` mode brings its objects in line with the accounts, and chains the audit.
//!
//! In: R2, KV, the PBXes' ARI. Out: changes there, what is remembered in R2, one summary. [`reconcile`]
//! decides; here it is done, each step only on what R2 says at that moment. No secret in any log.

use std::cell::Cell;
use std::collections::BTreeMap;

use futures_util::{StreamExt, future, stream};
use serde::{Deserialize, Serialize};

use self::ari::{Ari, Stop};
use self::backoff::Failing;
use self::pass::{Common, Pass};
use self::site::Site;
use crate::audit::{self, DIALTONE, Event};
use crate::chaining::{self, Allowance};
use crate::fault::Fault;
use crate::finish;
use crate::gather::in_order;
use crate::json;
use crate::key::{self, Kind};
use crate::ports::{Level, Object, Objects, Only, World};
use crate::reconcile::breaker::{Breaker, Confirmed, Lost, Tombstones};
use crate::reconcile::known::{Listing, Mark};
use crate::reconcile::{
    self, Action, Counts, Desired, Memory, Observed, Plan, Report, Round, Situation,
};
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
pub mod backoff;
mod contacts;
mod events;
mod lease;
pub mod pass;
pub mod plan;
mod resync;
mod rollout;
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

/// The most calls of a PBX's turn without any action: its record, its memory, what was confirmed, the list of
/// endpoints, the memory again, and its marks. So many are kept for each PBX whose turn is still to
/// come, so that every one is seen in each run.
const CALLS_OF_TURN: u32 = 6;

/// The most looks of a run at accounts that should be fine: 108,000 a day, so that each of 100,000 accounts
/// has one. A look takes seven calls, and 100 PBXes' turns three each: 825 of [`CALLS`].
const CHECKS: u32 = 75;

/// What finishing one save is taken to need: an account on ten phones.
const CALLS_OF_FINISH: u32 = 100;

/// The most saves that one run finishes.
const FINISHES: usize = 4;

/// The most accounts of which one run looks whether a former password is over: each may be on
/// twenty phones. With more, those that are left are looked at in the next ones.
const LOOKS_AT_FORMER: u32 = 8;

/// A save younger than this, in seconds, is most likely still under way.
const CUT_OFF_AFTER_S: u64 = 30;

/// R2 gives no more than this in one listing (R2 limits).
const PAGE: u32 = 1_000;

/// What a run did, for `GET /status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSummary {
    /// When it began.
    pub at: Timestamp,
    /// `ok`, or why the accounts could not be listed: then nothing was deleted.
    pub accounts: String,
    /// Where the pass over the list of accounts is.
    pub pass: Pass,
    /// Saves that were cut off and that this run finished.
    pub finished: u32,
    /// Those that are left.
    pub unfinished: u32,
    /// Changes of profiles that not everybody has yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub rollouts: u32,
    /// The calls to stores and PBXes that it made or set aside, of the 900 that it may make.
    pub calls: u32,
    /// What there is to say of each PBX.
    pub pbxes: BTreeMap<Id, PbxSummary>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What a run did at one PBX.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
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
    /// Since when every part of the list of accounts that was read got into its memory; 0: it did not.
    pub followed_since: Timestamp,
    /// Where the looks at what should be fine are.
    pub round: Round,
    /// That it fails, since when, and when it is tried next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
}

impl PbxSummary {
    /// Since when the list of accounts is followed, for a run that `began` now and finds a memory of the
    /// PBX or none.
    fn followed_by(&self, remembered: bool, began: Timestamp) -> Timestamp {
        // Of a PBX without accounts there is nothing to remember, and so nothing that was lost.
        let forgotten = !remembered && self.report.accounts > 0;
        if forgotten || self.followed_since == Timestamp::default() {
            began
        } else {
            self.followed_since
        }
    }

    /// What goes on being true of a PBX that says nothing.
    fn carried(&self, outcome: &str) -> Self {
        Self {
            outcome: outcome.to_owned(),
            mode: self.mode,
            report: Report {
                accounts: self.report.accounts,
                breaker: self.report.breaker.clone(),
                ..Report::default()
            },
            actions: Counts::default(),
            followed_since: Timestamp::default(),
            round: self.round.clone(),
            failing: self.failing.clone(),
            ok_at: self.ok_at,
        }
    }
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
    let run = Run::new(world);
    if let Err(fault) = run.everything(public_url).await {
        world.log(Level::Error, "tick.fault", &[("fault", fault.label())]);
    }
    lease::release(world, &lease).await;
}

/// What a PBX is decided by, beside itself and the memory of it.
struct Seen<'a> {
    mode: Mode,
    listing: &'a Listing,
    marks: &'a [Mark],
    complete: bool,
    tombstones: &'a Tombstones,
    at_tenant: (u32, u32),
    lost_elsewhere: Lost,
    before: &'a Breaker,
    round: &'a Round,
    checks: usize,
}

/// A PBX that was asked, before anything is decided.
struct Asked {
    stored: Stored<Pbx>,
    /// What the last run said of it.
    last: PbxSummary,
    /// What is remembered of it, and the version of that.
    memory: Memory,
    version: Option<String>,
    observed: Observed,
    /// How many looks there are for it in this run.
    checks: usize,
}

/// How far a PBX's turn is.
#[expect(
    clippy::large_enum_variant,
    reason = "there are a few at a time, and most are over"
)]
enum Turn {
    /// It is over: what there is to say of it, if it is there.
    Over(Option<PbxSummary>),
    /// It lost some phones, few for itself: what its tenant's other PBXes say is waited for.
    Waits(Box<Asked>),
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
    /// How many PBXes' turns are still to come.
    turns: Cell<u32>,
    /// How many more looks there are at what should be fine.
    checks: Cell<u32>,
}

impl<'a, W: World> Run<'a, W> {
    fn new(world: &'a W) -> Self {
        Self {
            world,
            began: world.now(),
            calls: Cell::new(CALLS),
            looks: Cell::new(LOOKS_AT_FORMER),
            events: Cell::new(events::CALLS),
            turns: Cell::new(0),
            checks: Cell::new(CHECKS),
        }
    }
}

impl<W: World> Run<'_, W> {
    fn spend(&self, calls: u32) {
        self.calls.set(self.calls.get().saturating_sub(calls));
    }

    /// Whether nothing new is to be begun, so that those whose turn is to come have theirs.
    fn is_over(&self) -> bool {
        let kept = self.turns.get().saturating_mul(CALLS_OF_TURN);
        self.calls.get() < CALLS_OF_ACTION.saturating_add(kept) || self.is_late()
    }

    fn is_late(&self) -> bool {
        self.world.now().since(self.began) >= RUN_S
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
        let none = BTreeMap::new();
        let said = seen.as_ref().map_or(&none, |(_, _, pbxes)| pbxes);
        let rollouts = self.resync(origin, said).await;
        let (accounts, pass, pbxes) = seen?;
        let summary = RunSummary {
            at: self.began,
            accounts,
            pass,
            finished,
            unfinished,
            rollouts,
            calls: CALLS.saturating_sub(self.calls.get()),
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
            let finished_now = async {
                finish::finish(self.world, kind, id, origin).await?;
                if kind == Kind::Device {
                    finish::undo(self.world, key, id).await?;
                }
                self.world.r2().delete(key).await
            }
            .await;
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

    /// Looks after every PBX: what there is to say of the list of accounts, where the pass over it is,
    /// and what there is to say of each of them.
    async fn pbxes(&self) -> Result<(String, Pass, BTreeMap<Id, PbxSummary>), Fault> {
        let pbxes = self.list_pbxes().await?;
        self.spend(1);
        let last = last_run(self.world).await.ok().flatten();
        let last = last.unwrap_or_default();
        let (listing, pass, failed) = self.list_accounts(last.pass.clone()).await;
        if let Some(fault) = failed {
            self.world
                .log(Level::Error, "tick.accounts", &[("fault", fault.label())]);
        }
        // Before the tombstones: who takes a name again takes its tombstone away first.
        let marks = match self.list_marks(key::ALL_CHANGED).await {
            Ok(marks) => marks,
            Err(fault) => {
                self.world
                    .log(Level::Error, "tick.marks", &[("fault", fault.label())]);
                BTreeMap::new()
            }
        };
        let tombstones = self.list_tombstones(key::ALL_GONE).await;
        let mut common = Common {
            pbxes,
            listing,
            pass,
            marks,
            last,
            ..Common::default()
        };
        let known = match tombstones {
            Ok(tombstones) => {
                common.tombstones = tombstones;
                Ok(())
            }
            Err(fault) => Err(fault),
        };
        common.add_up();
        let ids: Vec<Id> = common.pbxes.keys().cloned().collect();
        for (pbx, marks) in &common.marks {
            if !common.pbxes.contains_key(pbx) {
                self.clear_marks(&marks.keys).await;
            }
        }
        self.turns.set(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        let turns = in_turn(ids, &common.last, self.began);
        let common = &common;
        let work = turns.into_iter().map(|id| async {
            let turn = self.look_after(&id, common, known).await;
            (id, turn)
        });
        let turns: Vec<(Id, Turn)> = stream::iter(work)
            .buffer_unordered(PBXES_AT_ONCE)
            .collect()
            .await;
        let said = turns.iter().filter_map(|(id, turn)| {
            let gone = match turn {
                Turn::Over(summary) => summary.as_ref()?.report.lost,
                Turn::Waits(asked) => reconcile::lost(&asked.observed, &asked.memory),
            };
            Some((id.clone(), gone))
        });
        let gone: BTreeMap<Id, Lost> = in_order(said);
        let mut summaries = BTreeMap::new();
        let mut waiting = Vec::new();
        for (id, turn) in turns {
            match turn {
                Turn::Over(Some(summary)) => drop(summaries.insert(id, summary)),
                Turn::Over(None) => {}
                Turn::Waits(asked) => waiting.push((id, asked)),
            }
        }
        let work = waiting.into_iter().map(|(id, asked)| async {
            self.turns.set(self.turns.get().saturating_sub(1));
            let elsewhere = common.lost_elsewhere(&id, &gone);
            let done = self.reconcile(&id, *asked, common, elsewhere).await;
            let summary = self.told(&id, common, done.map(Some));
            (id, summary)
        });
        let done: Vec<(Id, Option<PbxSummary>)> = stream::iter(work)
            .buffer_unordered(PBXES_AT_ONCE)
            .collect()
            .await;
        let done = done.into_iter();
        summaries.extend(done.filter_map(|(id, summary)| Some((id, summary?))));
        let accounts = failed.map_or(OK, Fault::label).to_owned();
        Ok((accounts, common.pass.clone(), summaries))
    }

    /// One PBX, whose failure is its own.
    async fn look_after(&self, id: &Id, common: &Common, tombstones: Result<(), Fault>) -> Turn {
        let turns = self.turns.get();
        self.turns.set(turns.saturating_sub(1));
        let share = self.checks.get().div_ceil(turns.max(1));
        let checks = usize::try_from(share).unwrap_or_default();
        if self.calls.get() < CALLS_OF_TURN || self.is_late() {
            let last = common.last.pbxes.get(id).cloned().unwrap_or_default();
            let mut summary = last.carried(NOT_REACHED);
            summary.ok_at = last.ok_at;
            return Turn::Over(Some(summary));
        }
        let turn = match tombstones {
            Ok(()) => self.turn(id, common, checks).await,
            Err(fault) => Err(fault),
        };
        let done = match turn {
            Ok(Turn::Waits(asked)) => {
                // The calls that it has yet to make are kept for it.
                self.turns.set(self.turns.get().saturating_add(1));
                return Turn::Waits(asked);
            }
            Ok(Turn::Over(summary)) => Ok(summary),
            Err(fault) => Err(fault),
        };
        Turn::Over(self.told(id, common, done))
    }

    /// What there is to say of a PBX whose turn ended so; `None` if it is deleted.
    fn told(
        &self,
        id: &Id,
        common: &Common,
        done: Result<Option<PbxSummary>, Fault>,
    ) -> Option<PbxSummary> {
        let last = common.last.pbxes.get(id);
        let carried = |fault: Fault| last.cloned().unwrap_or_default().carried(fault.label());
        let mut summary = done.unwrap_or_else(|fault| Some(carried(fault)))?;
        if summary.outcome == OK {
            summary.ok_at = Some(self.began);
        } else {
            summary.ok_at = last.and_then(|before| before.ok_at);
            let fields = [("pbx", id.as_str()), ("why", summary.outcome.as_str())];
            self.world.log(Level::Warn, "pbx.trouble", &fields);
        }
        Some(summary)
    }

    /// What Dialtone remembers of a PBX, and the version of it.
    async fn recall(&self, id: &Id) -> Result<(Memory, Option<String>), Fault> {
        let object = self.get(&key::pbx_state(id)).await?;
        Ok(match object {
            None => (Memory::default(), None),
            // Found out again in a few runs, but for the times.
            Some(object) => (
                json::read(&object.body).unwrap_or_default(),
                Some(object.etag),
            ),
        })
    }

    /// Takes what was changed into the memory of a PBX that is left alone, so that its marks are not in
    /// the way of others'.
    async fn absorb(&self, id: &Id, common: &Common) {
        let Some(marks) = common.marks.get(id) else {
            return;
        };
        let Ok((before, version)) = self.recall(id).await else {
            return;
        };
        let tombstones = common.tombstones.get(id).cloned().unwrap_or_default();
        let mut memory = before.clone();
        memory.learn(
            id,
            &Listing::default(),
            &marks.changed,
            &tombstones,
            self.began,
        );
        if memory.same_but_for_looks(&before)
            || self.remember(id, &memory, version.as_deref()).await
        {
            self.clear_marks(&marks.keys).await;
        }
    }

    /// What an admin let pass at a PBX.
    async fn confirmed(&self, id: &Id) -> Result<Confirmed, Fault> {
        let object = self.get(&key::confirmed(id)).await?;
        // One that cannot be read lets nothing pass.
        Ok(object
            .and_then(|object| json::read(&object.body).ok())
            .unwrap_or_default())
    }

    /// Decides on what a PBX said. This is what a plan shows, and all of what a run decides.
    async fn decide(
        &self,
        id: &Id,
        stored: &Stored<Pbx>,
        observed: Observed,
        seen: Seen<'_>,
        memory: Memory,
    ) -> Result<(Memory, Plan), Fault> {
        let unsure = memory.doubt.is_some() || !seen.tombstones.is_empty();
        let confirmed = if unsure && matches!(observed, Observed::Endpoints(_)) {
            self.confirmed(id).await?
        } else {
            Confirmed::default()
        };
        let shape = register::shape(&stored.record);
        let situation = Situation {
            pbx: id,
            mode: seen.mode,
            shape: &shape,
            listing: seen.listing,
            marks: seen.marks,
            complete: seen.complete,
            observed,
            tombstones: seen.tombstones,
            at_tenant: seen.at_tenant,
            lost_elsewhere: seen.lost_elsewhere,
            confirmed: &confirmed,
            before: seen.before,
            round: seen.round,
            checks: seen.checks,
            now: self.world.now(),
        };
        Ok(reconcile::look(&situation, memory))
    }

    /// A PBX's turn: it is asked, or left alone if it fails.
    async fn turn(&self, id: &Id, common: &Common, checks: usize) -> Result<Turn, Fault> {
        self.spend(1);
        let Some(Loaded { stored, .. }) = store::load::<Pbx, W>(self.world, id.as_str()).await?
        else {
            return Ok(Turn::Over(None));
        };
        if !stored.alive() {
            return Ok(Turn::Over(None));
        }
        let mut last = common.last.pbxes.get(id).cloned().unwrap_or_default();
        // Whoever changed the record has perhaps put right what was wrong.
        let changed = |failing: &Failing| stored.updated_at >= failing.tried_at;
        last.failing = last.failing.filter(|failing| !changed(failing));
        if let Some(failing) = &last.failing
            && failing.silent
            && failing.pauses(self.began)
        {
            self.absorb(id, common).await;
            return Ok(Turn::Over(Some(last.carried(&failing.why))));
        }
        let ari = Ari::new(self.world, &self.calls, id, &stored)?;
        let (memory, version) = self.recall(id).await?;
        let observed = ari.endpoints().await;
        let gone = reconcile::lost(&observed, &memory);
        let asked = Asked {
            stored,
            last,
            memory,
            version,
            observed,
            checks,
        };
        if gone.count > 0 && !gone.trips() && common.has_another(id) {
            return Ok(Turn::Waits(Box::new(asked)));
        }
        let summary = self.reconcile(id, asked, common, Lost::default()).await?;
        Ok(Turn::Over(Some(summary)))
    }

    /// What comes of what a PBX said; `elsewhere` is what its tenant's other PBXes lost.
    #[expect(
        clippy::too_many_lines,
        reason = "what is done in order is read in order"
    )]
    async fn reconcile(
        &self,
        id: &Id,
        asked: Asked,
        common: &Common,
        elsewhere: Lost,
    ) -> Result<PbxSummary, Fault> {
        let Asked {
            stored,
            last,
            memory: before,
            version,
            observed,
            checks,
        } = asked;
        let stored = &stored;
        let turn = self.world.now();
        let ari = Ari::new(self.world, &self.calls, id, stored)?;
        let followed_since = last.followed_by(version.is_some(), self.began);
        let none = Tombstones::default();
        let tombstones = common.tombstones.get(id).unwrap_or(&none);
        let marks = common.marks.get(id);
        let seen = Seen {
            mode: stored.record.mode,
            listing: &common.listing,
            marks: marks.map_or(&[], |marks| &marks.changed),
            complete: common.pass.completed >= followed_since,
            tombstones,
            at_tenant: common.at_tenant(&stored.record.tenant),
            lost_elsewhere: elsewhere,
            before: &last.report.breaker,
            round: &last.round,
            checks: checks.min(reconcile::CHECKS),
        };
        let (mut memory, plan) = self
            .decide(id, stored, observed, seen, before.clone())
            .await?;
        self.tell(id, &stored.record.tenant, &mut memory).await;
        let silent = plan.unknown.as_deref().is_some_and(ari::is_of_pbx);
        // Also while the looks wait: who is registered then is as clear as ever.
        let clear = plan.unknown.is_none() && plan.report.breaker.offline.is_none();
        let mut summary = PbxSummary {
            outcome: plan.unknown.clone().unwrap_or_else(|| OK.to_owned()),
            mode: stored.record.mode,
            report: plan.report.clone(),
            actions: Counts::default(),
            ok_at: None,
            followed_since,
            round: Round::default(),
            failing: None,
        };
        self.report_held(id, &stored.record.tenant, &last, &summary)
            .await;
        let changes = plan.actions.iter().any(|action| !action.is_look());
        let mut started = None;
        if plan.unknown.is_none() && (changes || memory.unsettled.is_some()) {
            started = ari.started().await;
        }
        if let Some(started) = &started {
            memory.note_process(started, self.world.now());
        }
        let shape = register::shape(&stored.record);
        let mut site = Site {
            run: self,
            ari: &ari,
            id,
            pbx: &stored.record,
            shape: &shape,
            // If it does not say, that is no process that there is.
            started: started.as_deref().unwrap_or_default(),
            memory,
        };
        let pause = last.failing.as_ref().filter(|f| f.pauses(self.began));
        let actions = if pause.is_some() {
            &[]
        } else {
            plan.actions.as_slice()
        };
        let all_looks = self.act(&mut site, actions, turn, &mut summary).await;
        summary.round = if pause.is_some() {
            last.round.clone()
        } else if !all_looks && plan.actions.iter().any(Action::is_look) {
            broken_off(&plan.round, summary.round.after.take(), &last.round)
        } else {
            plan.round
        };
        summary.failing = match pause {
            Some(pause) if !silent => {
                summary.outcome.clone_from(&pause.why);
                Some(pause.clone())
            }
            _ if ari::is_of_pbx(&summary.outcome) => {
                let (why, now) = (&summary.outcome, self.world.now());
                Some(Failing::again(last.failing.as_ref(), id, why, silent, now))
            }
            _ => None,
        };
        summary.report.collisions = reconcile::collisions(&site.memory);
        let desired = site.memory.desired(tombstones);
        let rotating: Vec<Desired> = desired.iter().filter(|d| d.rotating).cloned().collect();
        site.end_formers(&rotating, clear).await;
        let kept = site.memory.same_but_for_looks(&before)
            || self.remember(id, &site.memory, version.as_deref()).await;
        if !kept {
            summary.followed_since = Timestamp::default();
        } else if let Some(marks) = marks {
            self.clear_marks(&marks.keys).await;
        }
        if clear {
            let many = summary.report.endpoints > contacts::MANY;
            let moved = site.memory.registrations != before.registrations;
            self.look_at_contacts(id, stored, &desired, moved && !many)
                .await;
        }
        Ok(summary)
    }

    /// Does what was decided, as far as there is time; false if not all of it. Notes in `summary` at which
    /// account the last look was.
    async fn act(
        &self,
        site: &mut Site<'_, W>,
        actions: &[Action],
        turn: Timestamp,
        summary: &mut PbxSummary,
    ) -> bool {
        for action in actions {
            if self.is_over() || self.world.now().since(turn) >= PBX_S {
                return false;
            }
            if action.is_look() {
                self.checks.set(self.checks.get().saturating_sub(1));
                summary.round.after = Some(action.username().clone());
            }
            match site.act(action).await {
                Ok(true) => summary.actions.add(action),
                Ok(false) => {}
                Err(Stop(why)) => {
                    summary.outcome = why;
                    return false;
                }
            }
        }
        true
    }

    /// Says once that something is held.
    async fn report_held(&self, id: &Id, tenant: &Id, last: &PbxSummary, now: &PbxSummary) {
        let (before, now) = (&last.report.breaker, &now.report.breaker);
        let kinds = [
            ("deletes", &before.deletes, &now.deletes),
            ("offline", &before.offline, &now.offline),
        ];
        for (what, before, now) in kinds {
            let Some(held) = now.as_ref().filter(|_| before.is_none()) else {
                continue;
            };
            let resource = format!("pbxes/{id}");
            let event = Event::new(
                self.world,
                DIALTONE,
                Some(tenant),
                "breaker.tripped",
                resource,
            )
            .with("what", what)
            .with("scope", held.scope.word())
            .with("count", held.count.to_string())
            .with("of", held.of.to_string())
            .alarming();
            self.spend(1);
            audit::note(self.world, &event).await;
        }
    }

    /// Keeps what is remembered of a PBX. What another run wrote meanwhile is as good.
    /// False if it could not be kept.
    async fn remember(&self, pbx: &Id, memory: &Memory, version: Option<&str>) -> bool {
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
            Ok(Some(_)) => return true,
            Ok(None) => Fault::Contended,
            Err(fault) => fault,
        };
        self.world.log(
            Level::Warn,
            "pbx.memory",
            &[("pbx", pbx.as_str()), ("fault", fault.label())],
        );
        false
    }
}

/// Where a round of looks is that broke off after a name: there, or where it was; of one that has just
/// begun perhaps nobody was looked at.
fn broken_off(planned: &Round, looked: Option<Username>, last: &Round) -> Round {
    let same = planned.began == last.began;
    let before = last.after.clone().filter(|_| same);
    Round {
        after: looked.or(before),
        done: false,
        began: planned.began,
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
