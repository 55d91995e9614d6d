//! How far each phone is: from what it fetched and from what its PBX says.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use http::{Response, StatusCode};
use serde::Serialize;

use super::device;
use super::problem::{Failure, Kind as ProblemKind, Problem};
use super::save::{Context, not_found};
use super::session::{Shown, standing};
use super::version::Pin;
use crate::ami::{Contacts, Finding};
use crate::diagnosis::{self, AccountFacts, Diagnosis, Facts, LineFacts};
use crate::fault::Fault;
use crate::gather::in_order;
use crate::key::{self, Kind};
use crate::mac::Mac;
use crate::ports::{Objects, World};
use crate::reconcile::{self, Memory, Registration};
use crate::record::Stored;
use crate::record::account::Account;
use crate::record::device::{Contested, Device, Line, Quarantine, Sighting, Whereabouts, Window};
use crate::record::pbx::{Mode, Pbx};
use crate::record::tenant::Proof;
use crate::refusal::{self, Refusal};
use crate::rekey;
use crate::render::{From, Ingredients};
use crate::request::Request;
use crate::resync;
use crate::rotation;
use crate::serve;
use crate::session;
use crate::stage::{LineState, Named, Stage, stage};
use crate::step4_boot_file::Effective;
use crate::store::{self, Loaded};
use crate::text::{Id, Username};
use crate::tick::{self, PbxSummary, RunSummary};
use crate::time::Timestamp;

/// What was read for one answer: many devices share their PBXes, and some their accounts.
#[derive(Default)]
pub(super) struct Known {
    memories: BTreeMap<Id, Memory>,
    accounts: BTreeMap<Id, Option<Stored<Account>>>,
    /// `None` of a PBX that has no AMI, or that nobody ever registered at.
    contacts: BTreeMap<Id, Option<Contacts>>,
}

impl Known {
    /// How far a phone is.
    ///
    /// # Errors
    /// The [`Fault`] of the store.
    pub(super) async fn stage<W: World>(
        &mut self,
        world: &W,
        mac: Mac,
        device: &Stored<Device>,
    ) -> Result<Stage, Fault> {
        let states = self.lines(world, mac, device).await?;
        Ok(stage(device, &states).0)
    }

    /// The word for what the PBX of an account says of it.
    ///
    /// # Errors
    /// The [`Fault`] of the store.
    pub(super) async fn word<W: World>(
        &mut self,
        world: &W,
        id: &str,
        account: &Stored<Account>,
    ) -> Result<&'static str, Fault> {
        let Account { pbx, username, .. } = &account.record;
        let seen = self.memory(world, pbx).await?.registration(username);
        let seen = seen.filter(|seen| seen.account.as_str() == id);
        Ok(word(seen.map(|seen| (seen.online, seen.since)), false).0)
    }

    async fn memory<W: World>(&mut self, world: &W, pbx: &Id) -> Result<&Memory, Fault> {
        Ok(match self.memories.entry(pbx.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(tick::pbx_memory(world, pbx).await?),
        })
    }

    async fn line<W: World>(
        &mut self,
        world: &W,
        mac: Mac,
        device: &Stored<Device>,
        line: &Line,
    ) -> Result<Option<LineState>, Fault> {
        if !self.accounts.contains_key(&line.account) {
            let loaded = store::load::<Account, W>(world, line.account.as_str()).await?;
            let alive = loaded.map(|loaded| loaded.stored).filter(Stored::alive);
            self.accounts.insert(line.account.clone(), alive);
        }
        let account = self.accounts.get(&line.account).and_then(Option::as_ref);
        let tenant = &device.record.tenant;
        // Another tenant's may have taken the id of one that is gone.
        let Some(account) = account.filter(|account| account.record.tenant == *tenant) else {
            return Ok(None);
        };
        let pbx = &account.record.pbx;
        if !self.memories.contains_key(pbx) {
            let memory = tick::pbx_memory(world, pbx).await?;
            self.memories.insert(pbx.clone(), memory);
        }
        if !self.contacts.contains_key(pbx) {
            let contacts = tick::tell::contacts(world, pbx).await?;
            self.contacts.insert(pbx.clone(), contacts);
        }
        let memory = self.memories.get(pbx);
        // What was seen of the name while another account had it is not this one's.
        let seen = memory
            .and_then(|memory| memory.registration(&account.record.username))
            .filter(|seen| seen.account == line.account);
        let contacts = self.contacts.get(pbx).and_then(Option::as_ref);
        let named = Named {
            line: line.line,
            id: &line.account,
            account,
        };
        Ok(Some(LineState::of(mac, device, &named, seen, contacts)))
    }

    async fn lines<W: World>(
        &mut self,
        world: &W,
        mac: Mac,
        device: &Stored<Device>,
    ) -> Result<Vec<LineState>, Fault> {
        let mut states = Vec::new();
        let session = device.state.session.as_ref();
        if let Some(session) = session.filter(|s| session::may_stand(device, s, world.now())) {
            // The user has the phone's first line, and there is no other.
            let line = device.host().lines.iter().map(|line| line.line).min();
            let line = Line {
                line: line.unwrap_or(1),
                account: session.account.clone(),
                label: None,
            };
            states.extend(self.line(world, mac, device, &line).await?);
            return Ok(states);
        }
        for line in &device.host().lines {
            states.extend(self.line(world, mac, device, line).await?);
        }
        Ok(states)
    }
}

/// What was seen at a PBX.
struct SeenAt {
    memory: Memory,
    /// `None` of a PBX that has no AMI, or that nobody ever registered at.
    contacts: Option<Contacts>,
}

/// What was seen at each PBX of a phone's accounts.
async fn seen_at<W: World>(world: &W, made: &Ingredients) -> Result<BTreeMap<Id, SeenAt>, Fault> {
    let mut seen: BTreeMap<Id, SeenAt> = BTreeMap::new();
    for line in &made.record().lines {
        if let Some(account) = made.account(&line.account)
            && !seen.contains_key(&account.record.pbx)
        {
            let pbx = &account.record.pbx;
            let (memory, contacts) = (
                tick::pbx_memory(world, pbx).await?,
                tick::tell::contacts(world, pbx).await?,
            );
            seen.insert(pbx.clone(), SeenAt { memory, contacts });
        }
    }
    Ok(seen)
}

/// `GET /devices/{mac}/status`.
///
/// # Errors
/// A [`Failure`] if there is no such device, or of the store.
pub async fn one<W: World>(
    world: &W,
    context: &Context,
    mac: Mac,
) -> Result<Response<Vec<u8>>, Failure> {
    let stored = device::load(world, context, mac).await?;
    let made = Ingredients::gather(world, mac, stored, From::R2).await?;
    let stored = &made.device;
    let run = tick::last_run(world).await?;
    let refusal = refusal::last(world, mac, &stored.record.tenant).await?;
    let (mark, told) = (
        resync::mark(world, mac).await?,
        resync::told(world, mac).await?,
    );
    let seen = seen_at(world, &made).await?;
    let accounts = |id| {
        let account = made.account(id)?;
        let pbx = &account.record.pbx;
        Some(AccountFacts {
            id,
            stored: account,
            pbx: made.pbx(pbx)?,
            memory: &seen.get(pbx)?.memory,
            run: run_of(run.as_ref(), pbx, made.pbx(pbx)?),
        })
    };
    let lines: Vec<LineFacts<'_>> = made
        .record()
        .lines
        .iter()
        .map(|line| LineFacts {
            line: line.line,
            id: &line.account,
            account: accounts(&line.account),
            no_pbx: made
                .account(&line.account)
                .map(|account| &account.record.pbx)
                .filter(|pbx| made.pbx(pbx).is_none()),
        })
        .collect();
    let state_of = |line: &LineFacts<'_>| {
        let account = line.account?;
        let seen = seen.get(&account.stored.record.pbx)?;
        let named = Named {
            line: line.line,
            id: line.id,
            account: account.stored,
        };
        let (registration, contacts) = (account.registration(), seen.contacts.as_ref());
        Some(LineState::of(mac, stored, &named, registration, contacts))
    };
    let states: Vec<LineState> = lines.iter().filter_map(state_of).collect();
    let (stage, since) = stage(stored, &states);
    let ways_in = serve::ways_in(stored, world.now());
    let beside = &stored.state;
    let poll = Effective::new(made.settings(), stored.record.vendor).resync_minutes;
    let files = beside.files.as_ref();
    let diagnoses = diagnosis::diagnose(&Facts {
        mac,
        device: stored,
        stage,
        ways_in: &ways_in,
        refusal: refusal.as_ref(),
        lines: &lines,
        no_profile: made.missing_profile(),
        poll_minutes: poll,
        change_waits: files.is_some_and(|files| made.outdate(&files.sources)),
        now: world.now(),
    });
    let answer = DeviceStatus {
        mac,
        status: stage.word(),
        since,
        timeline: Timeline {
            redirected: beside.seen.redirected,
            booted: beside.seen.booted,
            configured: beside.seen.configured,
            comings: Comings::of(&lines, beside.seen.configured.is_some()),
        },
        diagnoses,
        lines: states.iter().map(shown).collect(),
        version: files.map(|files| files.version),
        pinned: Pin::of(beside),
        token_used: beside.access.used,
        ways_in,
        window: beside.window.as_ref(),
        contested: beside.contested.as_ref(),
        refused: refusal.as_ref().map(ShownRefusal::of),
        places: &beside.places,
        quarantine: beside.quarantine.as_ref(),
        session: standing(world, mac, stored).await?.map(Shown::of),
        findings: states
            .iter()
            .flat_map(|state| {
                state.findings.iter().map(|finding| ShownFinding {
                    line: state.line,
                    finding,
                })
            })
            .collect(),
        resync: resync::shown(stored, mark.as_ref(), told.as_ref()),
    };
    super::json(StatusCode::OK, &answer)
}

/// What the last run says of a PBX. Before its record was written, the id may have been another's.
fn run_of<'a>(
    run: Option<&'a RunSummary>,
    pbx: &Id,
    stored: &Stored<Pbx>,
) -> Option<(Timestamp, &'a PbxSummary)> {
    let run = run.filter(|run| stored.updated_at <= run.at)?;
    Some((run.at, run.pbxes.get(pbx)?))
}

/// The answer of `GET /devices/{mac}/status`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(crate) struct DeviceStatus<'a> {
    /// The device.
    mac: Mac,
    /// How far it is: `unseen`, `redirected`, `booted`, `configured`, `registered` or `offline`.
    status: &'static str,
    /// Since when.
    since: Option<Timestamp>,
    /// When it did what.
    timeline: Timeline,
    /// What is the matter, first what is to be done first.
    diagnoses: Vec<Diagnosis>,
    /// What its PBX says of each line.
    lines: Vec<ShownLine<'a>>,
    /// The version of its files.
    version: Option<u64>,
    /// The version that the files are held to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Pin>,
    /// Whether its token was ever used.
    token_used: bool,
    /// The proofs that would let it in now.
    ways_in: Vec<Proof>,
    /// The window that an admin opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<&'a Window>,
    /// Callers that came for a window that another one had claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    contested: Option<&'a Contested>,
    /// The last caller that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<ShownRefusal<'a>>,
    /// Where it fetched files from so far.
    places: &'a [Whereabouts],
    /// Where it may not have anything from.
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine: Option<&'a Quarantine>,
    /// Who is logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Shown<'a>>,
    /// What is odd about who is registered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<ShownFinding<'a>>,
    /// How far it is with being told to fetch again.
    #[serde(skip_serializing_if = "Option::is_none")]
    resync: Option<resync::Shown>,
}

/// When a phone did what. `booted` and `configured` are the first fetches of the newest version that it
/// fetched.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(crate) struct Timeline {
    /// When it was first told where its files are.
    redirected: Option<Timestamp>,
    /// When it fetched its BootFile.
    booted: Option<Sighting>,
    /// When it fetched its ACC.
    configured: Option<Sighting>,
    #[serde(flatten)]
    comings: Comings,
}

/// When phones came and went at their PBXes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(crate) struct Comings {
    /// For the first time.
    first_registered: Option<Timestamp>,
    /// The last time that one came.
    registered: Option<Timestamp>,
    /// The last time that one went.
    offline: Option<Timestamp>,
}

impl Comings {
    /// Those of a phone: over all its lines, but for shared accounts of one that never had its files.
    fn of(lines: &[LineFacts<'_>], fetched: bool) -> Self {
        let accounts = lines.iter().filter_map(|line| line.account);
        let told = accounts.filter(|account| fetched || !account.is_shared());
        let seen = told.filter_map(|account| account.registration());
        seen.map(Self::of_account)
            .fold(Self::default(), |all, one| Self {
                first_registered: match (all.first_registered, one.first_registered) {
                    (Some(all), Some(one)) => Some(all.min(one)),
                    (all, one) => all.or(one),
                },
                registered: all.registered.max(one.registered),
                offline: all.offline.max(one.offline),
            })
    }

    /// Those of an account. What came before histories were kept is told by its last change alone.
    fn of_account(seen: &Registration) -> Self {
        let history = &seen.history;
        let changed =
            |online: bool| (seen.ever_online && seen.online == online).then_some(seen.since);
        Self {
            first_registered: history.first_online,
            registered: history.last_online.or(changed(true)),
            offline: history.last_offline.or(changed(false)),
        }
    }
}

/// A refusal, without whose device it was.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Refusal"))]
pub(crate) struct ShownRefusal<'a> {
    /// When.
    at: Timestamp,
    /// Why.
    why: &'static str,
    /// From which source address.
    source: &'a str,
    /// How often that was written down: each caller and reason at most every ten minutes.
    times: u32,
}

impl<'a> ShownRefusal<'a> {
    fn of(refusal: &'a Refusal) -> Self {
        Self {
            at: refusal.at,
            why: refusal.why.label(),
            source: &refusal.source,
            times: refusal.times,
        }
    }
}

/// Something odd about who is registered on a line.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "LineFinding"))]
pub(crate) struct ShownFinding<'a> {
    /// The line.
    line: u8,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// What a PBX says of a line.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "LineStatus"))]
pub(crate) struct ShownLine<'a> {
    /// Which line.
    line: u8,
    /// Its account.
    account: &'a Id,
    /// `online`, `offline`, `shared` or `unknown`.
    state: &'static str,
    /// Since when.
    since: Option<Timestamp>,
}

/// The word for what a PBX says of an account, and since when.
fn word(online: Option<(bool, Timestamp)>, shared: bool) -> (&'static str, Option<Timestamp>) {
    match online {
        // One of several phones, and nobody says which.
        Some((true, at)) if shared => ("shared", Some(at)),
        Some((true, at)) => ("online", Some(at)),
        Some((false, at)) => ("offline", Some(at)),
        None => ("unknown", None),
    }
}

fn shown(line: &LineState) -> ShownLine<'_> {
    let (state, since) = word(line.online, line.shared);
    ShownLine {
        line: line.line,
        account: &line.account,
        state,
        since,
    }
}

/// `GET /accounts/{account}/status`. An account that was deleted has one until its PBX confirms that it is
/// gone there.
///
/// # Errors
/// A [`Failure`] if there is no such account, or of the store.
pub async fn account<W: World>(
    world: &W,
    context: &Context,
    id: &str,
) -> Result<Response<Vec<u8>>, Failure> {
    let loaded: Option<Loaded<Account>> = store::load(world, id).await?;
    let visible = |stored: &Stored<Account>| context.caller.sees(id, &stored.record);
    let stored = loaded.map(|loaded| loaded.stored).filter(visible);
    let stored = stored.ok_or_else(|| not_found::<Account>(id))?;
    let record = &stored.record;
    let tombstone = key::gone(&record.pbx, &record.username);
    if !stored.alive() {
        // Another account may have the name now, and its tombstone is none of this one.
        let there = world.r2().get(&tombstone).await?;
        let its_own = there.is_some_and(|object| object.body == id.as_bytes());
        if !its_own {
            return Err(not_found::<Account>(id).into());
        }
        let answer = DeletedStatus {
            id,
            status: "deleted",
            since: stored.gone,
            tombstones: vec![record.username.clone()],
        };
        return super::json(StatusCode::OK, &answer);
    }
    let pbx: Option<Loaded<Pbx>> = store::load(world, record.pbx.as_str()).await?;
    let its_own = |pbx: &Stored<Pbx>| pbx.alive() && pbx.record.tenant == record.tenant;
    let pbx = pbx.map(|loaded| loaded.stored).filter(its_own);
    let memory = tick::pbx_memory(world, &record.pbx).await?;
    let run = tick::last_run(world).await?;
    let own = Id::try_from(id).map_err(|_| Fault::Broken("account id"))?;
    let facts = pbx.as_ref().map(|pbx| AccountFacts {
        id: &own,
        stored: &stored,
        pbx,
        memory: &memory,
        run: run_of(run.as_ref(), &record.pbx, pbx),
    });
    let seen = facts.and_then(|facts| facts.registration());
    let (status, since) = word(seen.map(|seen| (seen.online, seen.since)), false);
    let former = stored.state.former_passwords.iter();
    let answer = AccountStatus {
        id,
        status,
        since,
        ever_online: seen.is_some_and(|seen| seen.ever_online),
        timeline: seen.map(Comings::of_account).unwrap_or_default(),
        diagnoses: match &facts {
            Some(facts) => diagnosis::diagnose_account(facts, world.now()),
            None => diagnosis::diagnose_without_pbx(&own, &record.pbx),
        },
        devices: &stored.state.devices,
        pbx: &record.pbx,
        username: &record.username,
        mode: pbx.as_ref().map(|pbx| pbx.record.mode),
        pushed: facts
            .and_then(|facts| facts.pushed())
            .map(|pushed| ShownPushed {
                since: pushed.since,
                verified_at: pushed.verified_at,
                current: pushed.rev >= stored.rev,
            }),
        trouble: facts
            .and_then(|facts| facts.trouble())
            .map(|trouble| ShownTrouble {
                why: trouble.why,
                times: trouble.times,
                next_try: trouble.retry_at,
            }),
        former_passwords: former
            .map(|former| ShownFormer {
                since: former.since,
                until: rotation::until(former),
            })
            .collect(),
        former_names: stored
            .state
            .former_names
            .iter()
            .map(|(pbx, username)| FormerName { pbx, username })
            .collect(),
    };
    super::json(StatusCode::OK, &answer)
}

/// The answer of `GET /accounts/{account}/status`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(crate) struct AccountStatus<'a> {
    /// The account.
    id: &'a str,
    /// `online`, `offline` or `unknown`.
    status: &'static str,
    /// Since when.
    since: Option<Timestamp>,
    /// Whether it ever registered.
    ever_online: bool,
    /// When it came and went.
    timeline: Comings,
    /// What is the matter with it, whichever phone it is on.
    diagnoses: Vec<Diagnosis>,
    /// The devices that have it.
    devices: &'a BTreeSet<Mac>,
    /// Its PBX.
    pbx: &'a Id,
    /// Its name there.
    username: &'a Username,
    /// Whether the PBX may be changed; null if it is not there.
    mode: Option<Mode>,
    /// What is at the PBX; null if nothing is as far as is known.
    pushed: Option<ShownPushed>,
    /// What keeps it from getting there.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<ShownTrouble>,
    /// Passwords of before that still work, oldest first.
    former_passwords: Vec<ShownFormer>,
    /// Names of before whose tombstones are not written yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    former_names: Vec<FormerName<'a>>,
}

/// An account at its PBX.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Pushed"))]
pub(crate) struct ShownPushed {
    /// Since when it is there without a break.
    since: Option<Timestamp>,
    /// When it was last seen to be there.
    verified_at: Timestamp,
    /// Whether it was made of the record as it is now.
    current: bool,
}

/// What keeps an account from its PBX.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Trouble"))]
pub(crate) struct ShownTrouble {
    /// Why.
    why: reconcile::Why,
    /// How often in a row.
    times: u32,
    /// When it is tried next.
    next_try: Timestamp,
}

/// A former password that still works.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "FormerPassword"))]
pub(crate) struct ShownFormer {
    /// When it was replaced.
    since: Timestamp,
    /// When it ends at the latest.
    until: Timestamp,
}

/// A former name at a PBX.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(crate) struct FormerName<'a> {
    /// The PBX.
    pbx: &'a Id,
    /// The name.
    username: &'a Username,
}

/// What is said of an account that was deleted.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "DeletedAccountStatus"))]
pub(crate) struct DeletedStatus<'a> {
    /// The account.
    id: &'a str,
    /// `deleted`.
    status: &'static str,
    /// Since when.
    since: Option<Timestamp>,
    /// The names that are still to be deleted at the PBX.
    tombstones: Vec<Username>,
}

/// The answer of `GET /status`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(crate) struct Overview {
    /// How many of the devices that were looked at are how far.
    devices: BTreeMap<&'static str, u32>,
    /// Whether that was all of them.
    complete: bool,
    /// The parameter `cursor` of the call that goes on counting.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// The last run of the scheduled handler.
    reconcile: Option<ShownRun>,
    /// For callers of all tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<rekey::Shown>,
}

/// A run of the scheduled handler. A tenant sees of it what concerns its PBXes.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Run"))]
pub(crate) struct ShownRun {
    /// When it began.
    at: Timestamp,
    /// `ok`, or why the accounts could not be listed.
    accounts: String,
    /// Saves that were cut off and that it finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<u32>,
    /// Those that are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<u32>,
    /// Roll-outs of profiles and templates that not everybody has yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollouts: Option<u32>,
    /// The calls to stores and PBXes that it made or set aside, of the 900 that it may make.
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<u32>,
    /// What it did at each PBX.
    pbxes: BTreeMap<Id, tick::PbxSummary>,
}

/// What a caller sees of the last run.
async fn last_run<W: World>(world: &W, context: &Context) -> Result<Option<ShownRun>, Fault> {
    let Some(run) = tick::last_run(world).await? else {
        return Ok(None);
    };
    let Some(tenant) = &context.caller.tenant else {
        return Ok(Some(ShownRun {
            at: run.at,
            accounts: run.accounts,
            finished: Some(run.finished),
            unfinished: Some(run.unfinished),
            rollouts: Some(run.rollouts),
            calls: Some(run.calls),
            pbxes: run.pbxes,
        }));
    };
    // The tenant's own list is asked, so that others' PBXes cost and tell nothing.
    let mut pbxes = BTreeMap::new();
    let mut all = run.pbxes;
    let prefix = key::owned_by(tenant, Some(Kind::Pbx));
    let page = world.r2().list(&prefix, None, PBXES_PER_CALL).await?;
    for entry in &page.entries {
        let id = Id::try_from(key::last(&entry.key)).map_err(|_| Fault::Broken("pbx key"))?;
        let Some(summary) = all.remove(&id) else {
            continue;
        };
        let loaded: Option<Loaded<Pbx>> = store::load(world, id.as_str()).await?;
        // Before the record was written, the id may have been another's.
        let its_own = |stored: &Stored<Pbx>| {
            stored.alive()
                && context.caller.sees(id.as_str(), &stored.record)
                && stored.updated_at <= run.at
        };
        if loaded.is_some_and(|loaded| its_own(&loaded.stored)) {
            pbxes.insert(id, summary);
        }
    }
    Ok(Some(ShownRun {
        at: run.at,
        accounts: run.accounts,
        finished: None,
        unfinished: None,
        rollouts: None,
        calls: None,
        pbxes,
    }))
}

/// Of how many of a tenant's PBXes the last run is shown.
const PBXES_PER_CALL: u32 = 100;

/// How many devices one call of `GET /status` looks at. The rest is behind the cursor: an answer
/// that claimed to know them all would be wrong from the 101st on.
const DEVICES_PER_CALL: u32 = 100;

/// `GET /status`: the last run of the scheduled handler, how many phones are how far, and how far a
/// change of keys is.
///
/// # Errors
/// A [`Failure`] of the store, or for a parameter that there is not.
pub async fn all<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
) -> Result<Response<Vec<u8>>, Failure> {
    let prefix = match &context.caller.tenant {
        Some(tenant) => key::owned_by(tenant, Some(Kind::Device)),
        None => key::records(Kind::Device),
    };
    let mut after = None;
    for (name, value) in super::parameters(request) {
        let bad = |detail| Failure::from(Problem::new(ProblemKind::BadParameter, detail));
        if name != "cursor" {
            return Err(bad("the only parameter is cursor"));
        }
        let mac = super::id_in(Kind::Device, &value);
        let mac = mac.ok_or_else(|| bad("cursor is none of ours"))?;
        after = Some(format!("{prefix}{mac}"));
    }
    let page = world
        .r2()
        .list(&prefix, after.as_deref(), DEVICES_PER_CALL)
        .await?;
    let mut devices: BTreeMap<&'static str, u32> =
        in_order(Stage::ALL.map(|stage| (stage.word(), 0)));
    let mut known = Known::default();
    for entry in page
        .entries
        .iter()
        .filter(|entry| !entry.metadata.contains_key("gone"))
    {
        let id = key::last(&entry.key);
        let loaded: Option<Loaded<Device>> = store::load(world, id).await?;
        let visible =
            |stored: &Stored<Device>| stored.alive() && context.caller.sees(id, &stored.record);
        let Some(device) = loaded.filter(|loaded| visible(&loaded.stored)) else {
            continue;
        };
        let Ok(mac) = id.parse::<Mac>() else { continue };
        let reached = known.stage(world, mac, &device.stored).await?;
        *devices.entry(reached.word()).or_default() += 1;
    }
    let overview = Overview {
        devices,
        complete: page.cursor.is_none(),
        cursor: page
            .cursor
            .map(|cursor| super::cursor_after(key::last(&cursor))),
        reconcile: last_run(world, context).await?,
        keys: match context.caller.tenant {
            None => Some(rekey::shown(world).await?),
            Some(_) => None,
        },
    };
    super::json(StatusCode::OK, &overview)
}
