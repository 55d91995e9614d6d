//! How far each phone is: from what it fetched and from what its PBX says.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde::Serialize;

use super::device;
use super::problem::{Failure, Kind as ProblemKind, Problem};
use super::save::Context;
use crate::ami::{self, Contacts, Finding, Matched};
use crate::fault::Fault;
use crate::key::{self, Kind};
use crate::mac::Mac;
use crate::ports::{Objects, World};
use crate::reconcile::Memory;
use crate::record::Stored;
use crate::record::account::Account;
use crate::record::device::{Contested, Device, Line, Quarantine, Sighting, Whereabouts, Window};
use crate::record::pbx::Pbx;
use crate::record::tenant::Proof;
use crate::rekey;
use crate::request::Request;
use crate::resync;
use crate::serve;
use crate::store::{self, Loaded};
use crate::text::Id;
use crate::tick;
use crate::time::Timestamp;

/// How far a phone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It never came.
    Unseen,
    /// It was told where its files are.
    Redirected,
    /// It fetched its BootFile.
    Booted,
    /// It fetched its ACC.
    Configured,
    /// A line of it is registered at its PBX.
    Registered,
    /// It was registered, and no line of it is any more.
    Offline,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] = [
        Self::Unseen,
        Self::Redirected,
        Self::Booted,
        Self::Configured,
        Self::Registered,
        Self::Offline,
    ];

    /// The word in answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Redirected => "redirected",
            Self::Booted => "booted",
            Self::Configured => "configured",
            Self::Registered => "registered",
            Self::Offline => "offline",
        }
    }
}

/// What a PBX says of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineState {
    /// Which line.
    pub line: u8,
    /// Its account.
    pub account: Id,
    /// Registered, since when; `None` if the PBX never said anything of it.
    pub online: Option<(bool, Timestamp)>,
    /// Whether it was ever registered.
    pub ever_online: bool,
    /// Whether other devices have the account too: then it may be theirs that is registered.
    pub shared: bool,
    /// What is odd about who is registered, where the PBX has AMI.
    pub findings: Vec<Finding>,
}

impl LineState {
    /// Gives a phone whose account others have too a state of its own, if its contact, or each
    /// contact that there is, says whose it is.
    fn tell_apart(&mut self, matched: &Matched<'_>, since: Timestamp) {
        let own = matched.own.iter().map(|contact| contact.since).min();
        if !self.shared || (own.is_none() && !matched.unclear.is_empty()) {
            return;
        }
        self.shared = false;
        self.online = Some((own.is_some(), own.unwrap_or(since)));
        // That another one was says nothing of it.
        self.ever_online = own.is_some();
    }

    /// Whether what the PBX says of the account says anything of a phone that has `fetched` its ACC.
    fn tells(&self, fetched: bool) -> bool {
        fetched || !self.shared
    }
}

/// How far a phone is, and since when.
#[must_use]
pub fn stage(stored: &Stored<Device>, lines: &[LineState]) -> (Stage, Option<Timestamp>) {
    let seen = &stored.state.seen;
    let fetched = seen.configured.is_some();
    let told = || lines.iter().filter(|line| line.tells(fetched));
    let online = told()
        .filter_map(|l| l.online.filter(|(online, _)| *online))
        .map(|(_, at)| at)
        .min();
    if online.is_some() {
        return (Stage::Registered, online);
    }
    let gone = told()
        .filter(|l| l.ever_online)
        .filter_map(|l| l.online)
        .map(|(_, at)| at)
        .max();
    if gone.is_some() {
        return (Stage::Offline, gone);
    }
    if let Some(configured) = seen.configured {
        return (Stage::Configured, Some(configured.at));
    }
    if let Some(booted) = seen.booted {
        return (Stage::Booted, Some(booted.at));
    }
    match seen.redirected {
        Some(at) => (Stage::Redirected, Some(at)),
        None => (Stage::Unseen, None),
    }
}

/// What was read for one answer: many devices share their PBXes, and some their accounts.
#[derive(Default)]
struct Known {
    memories: BTreeMap<Id, Memory>,
    accounts: BTreeMap<Id, Option<Stored<Account>>>,
    /// `None` of a PBX that has no AMI, or that nobody ever registered at.
    contacts: BTreeMap<Id, Option<Contacts>>,
}

impl Known {
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
        let Some(Some(account)) = self.accounts.get(&line.account) else {
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
        let mut state = LineState {
            line: line.line,
            account: line.account.clone(),
            online: seen.map(|seen| (seen.online, seen.since)),
            ever_online: seen.is_some_and(|seen| seen.ever_online),
            shared: account.state.devices.len() > 1,
            findings: Vec::new(),
        };
        let contacts = self.contacts.get(pbx).and_then(Option::as_ref);
        let contacts = contacts.and_then(|all| all.get(&account.record.username));
        // Seen minutes ago: of an account that nobody is registered with by now they tell nothing.
        if let (Some((true, since)), Some(contacts)) = (state.online, contacts) {
            let matched = ami::match_contacts(contacts, mac, &account.state.devices);
            let from = device.state.fetched_from.as_deref();
            state.findings = ami::findings(&matched, device.record.vendor, from);
            state.tell_apart(&matched, since);
        }
        Ok(Some(state))
    }

    async fn lines<W: World>(
        &mut self,
        world: &W,
        mac: Mac,
        device: &Stored<Device>,
    ) -> Result<Vec<LineState>, Fault> {
        let mut states = Vec::new();
        for line in &device.record.lines {
            states.extend(self.line(world, mac, device, line).await?);
        }
        Ok(states)
    }
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
    let states = Known::default().lines(world, mac, &stored).await?;
    let (mark, told) = (
        resync::mark(world, mac).await?,
        resync::told(world, mac).await?,
    );
    let (stage, since) = stage(&stored, &states);
    let beside = &stored.state;
    let answer = DeviceStatus {
        mac,
        status: stage.word(),
        since,
        lines: states.iter().map(shown).collect(),
        redirected_at: beside.seen.redirected,
        booted: beside.seen.booted,
        configured: beside.seen.configured,
        version: beside.files.as_ref().map(|files| files.version),
        token_used: beside.access.used,
        ways_in: serve::ways_in(&stored, world.now()),
        window: beside.window.as_ref(),
        contested: beside.contested.as_ref(),
        places: &beside.places,
        quarantine: beside.quarantine.as_ref(),
        findings: states
            .iter()
            .flat_map(|state| {
                state.findings.iter().map(|finding| ShownFinding {
                    line: state.line,
                    finding,
                })
            })
            .collect(),
        resync: resync::shown(&stored, mark.as_ref(), told.as_ref()),
    };
    super::json(StatusCode::OK, &answer)
}

/// The answer of `GET /devices/{mac}/status`.
#[derive(Serialize)]
struct DeviceStatus<'a> {
    mac: Mac,
    status: &'static str,
    since: Option<Timestamp>,
    lines: Vec<ShownLine<'a>>,
    redirected_at: Option<Timestamp>,
    booted: Option<Sighting>,
    configured: Option<Sighting>,
    version: Option<u64>,
    token_used: bool,
    ways_in: Vec<Proof>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<&'a Window>,
    /// Callers that came for a window that another one had claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    contested: Option<&'a Contested>,
    /// Where it fetched files from so far.
    places: &'a [Whereabouts],
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine: Option<&'a Quarantine>,
    /// What is odd about who is registered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<ShownFinding<'a>>,
    /// How far it is with being told to fetch again.
    #[serde(skip_serializing_if = "Option::is_none")]
    resync: Option<resync::Shown>,
}

#[derive(Serialize)]
struct ShownFinding<'a> {
    line: u8,
    #[serde(flatten)]
    finding: &'a Finding,
}

#[derive(Serialize)]
struct ShownLine<'a> {
    line: u8,
    account: &'a Id,
    state: &'static str,
    since: Option<Timestamp>,
}

fn shown(line: &LineState) -> ShownLine<'_> {
    let (state, since) = match line.online {
        // One of several phones, and nobody says which.
        Some((true, at)) if line.shared => ("shared", Some(at)),
        Some((true, at)) => ("online", Some(at)),
        Some((false, at)) => ("offline", Some(at)),
        None => ("unknown", None),
    };
    ShownLine {
        line: line.line,
        account: &line.account,
        state,
        since,
    }
}

/// The answer of `GET /status`.
#[derive(Serialize)]
struct Overview<'a> {
    /// How many of the devices that were looked at are how far.
    devices: BTreeMap<&'static str, u32>,
    /// Whether that was all of them.
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    reconcile: Option<ShownRun>,
    /// For callers of all tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<rekey::Shown>,
}

/// A run of the scheduled handler. A tenant sees of it what concerns its PBXes.
#[derive(Serialize)]
struct ShownRun {
    at: Timestamp,
    accounts: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<u32>,
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
        match (name.as_str(), value.parse::<Mac>()) {
            ("cursor", Ok(mac)) => after = Some(format!("{prefix}{mac}")),
            _ => {
                return Err(Problem::new(
                    ProblemKind::BadParameter,
                    "the only parameter is cursor",
                )
                .into());
            }
        }
    }
    let page = world
        .r2()
        .list(&prefix, after.as_deref(), DEVICES_PER_CALL)
        .await?;
    let mut devices: BTreeMap<&'static str, u32> = Stage::ALL
        .into_iter()
        .map(|stage| (stage.word(), 0))
        .collect();
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
        let states = known.lines(world, mac, &device.stored).await?;
        let (reached, _) = stage(&device.stored, &states);
        *devices.entry(reached.word()).or_default() += 1;
    }
    let overview = Overview {
        devices,
        complete: page.cursor.is_none(),
        cursor: page.cursor.as_deref().map(key::last),
        reconcile: last_run(world, context).await?,
        keys: match context.caller.tenant {
            None => Some(rekey::shown(world).await?),
            Some(_) => None,
        },
    };
    super::json(StatusCode::OK, &overview)
}
