//! What is to be done at a PBX: pure decisions on what should be (accounts), what is (the list of
//! endpoints), and what Dialtone remembers of it.
//!
//! Level-triggered: each run decides anew from what it sees, so a run that is lost, cut off or
//! doubled does no harm. What cannot be seen for sure leads to no action, and no absence from any
//! list ever leads to a delete: only a tombstone does.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::json;
use crate::record::pbx::Mode;
use crate::step7_register::Answer;
use crate::text::{Id, Username};
use crate::time::Timestamp;
use crate::transitions::History;

/// The most actions for one PBX in one run. Each takes seven to ten calls, or fourteen at most, of some ten to hundred
/// milliseconds one after the other, so that a run ends before the next one is due; what is left
/// over is due again then.
pub const MAX_ACTIONS: usize = 50;

/// How many objects that should be fine are looked at in each run, oldest look first.
pub const CHECKS: usize = 5;

/// How long a look is good for, in seconds: a PBX with three accounts need not show them each minute.
const CHECK_AFTER_S: u64 = 900;

/// How long, in seconds, something unlikely must be seen run after run before it is believed.
pub const BELIEVE_AFTER_S: u64 = 180;

/// From how many accounts on "all of them are gone" is unlikely.
const MANY_GONE: usize = 3;

/// From how many registered phones on "most of them went offline within a minute" is unlikely.
const MANY_ONLINE: usize = 10;

/// An account that failed is not tried again before 60 s, doubled with each further failure, up to
/// half an hour: the others must get their turn.
const RETRY_S: u64 = 60;
const RETRY_MOST_S: u64 = 1_800;

/// How many names a report spells out.
const NAMES: usize = 10;

/// The longest name of somebody else's endpoint that a report repeats, in characters.
const NAME_CHARS: usize = 64;

/// An account that a PBX should have, as the KV list shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Desired {
    /// The name of the objects.
    pub username: Username,
    /// The account.
    pub account: Id,
    /// [`crate::record::Stored::rev`] of the copy in KV: R2 may have a newer one.
    pub rev: u64,
    /// Whether a former password of it still works.
    pub rotating: bool,
}

/// What ARI says of an endpoint's phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// At least one contact that answers, or that nobody asked yet.
    Online,
    /// No contact, or none that answers.
    Offline,
    /// Asterisk does not know either.
    Unknown,
}

/// What was seen at a PBX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Nothing that anything could be concluded from; the reason holds no secret.
    Unknown(String),
    /// The whole list of endpoints, by name.
    Endpoints(BTreeMap<String, Reach>),
}

impl Observed {
    /// Reads the answer to `GET /ari/endpoints`. Anything but a whole list as ARI writes it is
    /// unknown; an Asterisk that boots gives the whole list or none.
    #[must_use]
    pub fn read(answer: Answer<'_>) -> Self {
        #[derive(Deserialize)]
        struct Endpoint {
            technology: String,
            resource: String,
            state: String,
        }
        if answer.status != 200 {
            return Self::Unknown(format!("http {}", answer.status));
        }
        if !answer.is_json() {
            return Self::Unknown("not json".to_owned());
        }
        let Ok(list) = json::read::<Vec<Endpoint>>(answer.body) else {
            return Self::Unknown("not a list of endpoints".to_owned());
        };
        let reach = |state: &str| match state {
            "online" => Reach::Online,
            "offline" => Reach::Offline,
            _ => Reach::Unknown,
        };
        let pjsip = list
            .into_iter()
            .filter(|endpoint| endpoint.technology == "PJSIP");
        Self::Endpoints(
            pjsip
                .map(|endpoint| (endpoint.resource, reach(&endpoint.state)))
                .collect(),
        )
    }
}

/// What Dialtone remembers of a PBX between runs. All of it can be found out again, but for the
/// times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// What was pushed, by the name of the objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pushed: BTreeMap<Username, Pushed>,
    /// Who is registered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registrations: BTreeMap<Username, Registration>,
    /// What did not work, and when it is tried again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub troubles: BTreeMap<Username, Trouble>,
    /// Something unlikely that was seen, and is not believed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
}

/// Objects that are at the PBX as far as we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// Whose they are.
    pub account: Id,
    /// The account's revision that they were made of, or a later one that makes the same.
    pub rev: u64,
    /// [`crate::step7_register::shape`] of the PBX then.
    pub shape: String,
    /// When they were last seen to be there.
    pub verified_at: Timestamp,
    /// Since when the account has objects there without a break; `None` if that was not written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// Whether an account's phones are registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The account that had the name then.
    pub account: Id,
    /// Whether at least one phone is.
    pub online: bool,
    /// Since when it is so. Changes only with `online`.
    pub since: Timestamp,
    /// Whether one ever was.
    pub ever_online: bool,
    /// Whether the PBX has no endpoint of that name any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    /// When it came and went.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub history: History,
}

/// Why an action did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Objects of that name are somebody else's: they are never touched.
    Collision,
    /// Asterisk does not take a value.
    Refused,
    /// Asterisk took it and does not have it.
    NotKept,
    /// The PBX gave no clear answer.
    Unclear,
    /// The account's password cannot be opened.
    Password,
    /// No object can have that name.
    Name,
}

impl Why {
    /// The word in logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Collision => "collision",
            Self::Refused => "refused",
            Self::NotKept => "not kept",
            Self::Unclear => "unclear",
            Self::Password => "password",
            Self::Name => "name",
        }
    }
}

/// An action that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Why.
    pub why: Why,
    /// The account that it was about; `None` for a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Id>,
    /// Its revision. A newer one is tried at once.
    pub rev: u64,
    /// How often in a row.
    pub times: u32,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// Something unlikely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// `empty`: every endpoint that we know is gone. `jump`: most phones went offline at once.
    pub what: String,
    /// Since when it is seen without a break.
    pub since: Timestamp,
}

impl Memory {
    /// Whether an account's phones are registered; `None` if the PBX never said anything of it.
    #[must_use]
    pub fn registration(&self, username: &Username) -> Option<&Registration> {
        self.registrations.get(username)
    }

    /// Notes that an account's objects are there as they should be.
    pub fn note_pushed(&mut self, username: &Username, mut pushed: Pushed) {
        self.troubles.remove(username);
        let before = self.pushed.get(username);
        let before = before.filter(|before| before.account == pushed.account);
        pushed.since = before.map_or(Some(pushed.verified_at), |before| before.since);
        self.pushed.insert(username.clone(), pushed);
    }

    /// Notes that no object of that name is there any more.
    pub fn note_deleted(&mut self, username: &Username) {
        self.troubles.remove(username);
        self.pushed.remove(username);
        self.registrations.remove(username);
    }

    /// Notes that an action did not succeed.
    pub fn note_trouble(
        &mut self,
        username: &Username,
        why: Why,
        account: Option<&Id>,
        rev: u64,
        now: Timestamp,
    ) {
        let before = self
            .troubles
            .get(username)
            .filter(|before| before.account.as_ref() == account);
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        let wait = RETRY_S
            .saturating_mul(1 << times.min(10).saturating_sub(1))
            .min(RETRY_MOST_S);
        let trouble = Trouble {
            why,
            account: account.cloned(),
            rev,
            times,
            retry_at: now.plus(wait),
        };
        self.troubles.insert(username.clone(), trouble);
    }

    /// Whether the account, or a tombstone if there is none, has to wait after a failure.
    fn waits(&self, username: &Username, desired: Option<&Desired>, now: Timestamp) -> bool {
        self.troubles.get(username).is_some_and(|trouble| {
            trouble.account.as_ref() == desired.map(|desired| &desired.account)
                && desired.is_none_or(|desired| desired.rev <= trouble.rev)
                && now < trouble.retry_at
        })
    }
}

/// What is to be done with one name at a PBX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The endpoint is missing.
    Create(Desired),
    /// What was pushed is out of date.
    Mend(Desired),
    /// There is an endpoint of that name that we know nothing of: ours or not?
    Adopt(Desired),
    /// It should be fine, and was not looked at for long.
    Check(Desired),
    /// There is a tombstone.
    Delete(Username),
}

impl Action {
    /// The name of the objects.
    #[must_use]
    pub fn username(&self) -> &Username {
        match self {
            Self::Create(desired)
            | Self::Mend(desired)
            | Self::Adopt(desired)
            | Self::Check(desired) => &desired.username,
            Self::Delete(username) => username,
        }
    }

    /// The word in logs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Mend(_) => "mend",
            Self::Adopt(_) => "adopt",
            Self::Check(_) => "check",
            Self::Delete(_) => "delete",
        }
    }
}

/// How many actions of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Of [`Action::Create`].
    pub create: u32,
    /// Of [`Action::Mend`].
    pub mend: u32,
    /// Of [`Action::Adopt`].
    pub adopt: u32,
    /// Of [`Action::Check`].
    pub check: u32,
    /// Of [`Action::Delete`].
    pub delete: u32,
}

impl Counts {
    /// Counts one.
    pub fn add(&mut self, action: &Action) {
        let count = match action {
            Action::Create(_) => &mut self.create,
            Action::Mend(_) => &mut self.mend,
            Action::Adopt(_) => &mut self.adopt,
            Action::Check(_) => &mut self.check,
            Action::Delete(_) => &mut self.delete,
        };
        *count = count.saturating_add(1);
    }
}

/// Some names, of which the first few are spelled out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// How many there are.
    pub count: u32,
    /// The first of them.
    pub first: Vec<String>,
}

impl Names {
    /// Counts a name.
    pub fn add(&mut self, name: &str) {
        self.count = self.count.saturating_add(1);
        if self.first.len() < NAMES {
            self.first.push(name.chars().take(NAME_CHARS).collect());
        }
    }
}

/// What was seen, and what ought to be done about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Endpoints at the PBX.
    pub endpoints: u32,
    /// Those with a registered phone.
    pub online: u32,
    /// Those without.
    pub offline: u32,
    /// What is to be done; in `observe` what `push` would do.
    pub due: Counts,
    /// Accounts and tombstones that wait after a failure.
    pub waiting: u32,
    /// Endpoints at the PBX that are no account's.
    pub unowned: Names,
    /// Accounts that we pushed, that are on no list any more, and that nobody deleted.
    pub vanished: Names,
    /// Accounts whose name is somebody else's at the PBX.
    pub collisions: Names,
    /// Accounts of which a former password still works, until their phones have the new one.
    pub rotating: u32,
}

/// What is to be done at a PBX now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Why nothing is done, if nothing can be concluded.
    pub unknown: Option<String>,
    /// At most [`MAX_ACTIONS`].
    pub actions: Vec<Action>,
    /// What there is to say.
    pub report: Report,
}

/// What a decision is made of.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// Whether the PBX may be changed.
    pub mode: Mode,
    /// [`crate::step7_register::shape`] of the PBX.
    pub shape: &'a str,
    /// The accounts that it should have; `None` if that is not known.
    pub desired: Option<&'a [Desired]>,
    /// What was seen there.
    pub observed: Observed,
    /// The names that may be deleted there.
    pub tombstones: &'a BTreeSet<Username>,
    /// The time.
    pub now: Timestamp,
}

/// Decides: what to remember, and what to do.
#[must_use]
pub fn look(situation: Situation<'_>, mut memory: Memory) -> (Memory, Plan) {
    let Situation {
        mode,
        shape,
        desired,
        observed,
        tombstones,
        now,
    } = situation;
    let endpoints = match observed {
        Observed::Endpoints(endpoints) => endpoints,
        Observed::Unknown(reason) => {
            // A doubt must be seen without a break to become certain.
            memory.doubt = None;
            return (
                memory,
                Plan {
                    unknown: Some(reason),
                    ..Plan::default()
                },
            );
        }
    };
    memory.doubt = unlikely(&endpoints, &memory).map(|what| {
        let former = memory.doubt.take().filter(|doubt| doubt.what == what);
        former.unwrap_or_else(|| Doubt {
            what: what.to_owned(),
            since: now,
        })
    });
    if let Some(doubt) = &memory.doubt
        && now.since(doubt.since) < BELIEVE_AFTER_S
    {
        let plan = Plan {
            unknown: Some(doubt.what.clone()),
            ..Plan::default()
        };
        return (memory, plan);
    }
    memory = states(desired, &endpoints, memory, now);
    let plan = plan(mode, shape, desired, &endpoints, tombstones, &memory, now);
    (memory, plan)
}

/// Whether what was seen looks rather like a failure of the PBX than like the truth.
fn unlikely(endpoints: &BTreeMap<String, Reach>, memory: &Memory) -> Option<&'static str> {
    let known: BTreeSet<&Username> = memory
        .pushed
        .keys()
        .chain(memory.registrations.keys())
        .collect();
    if known.len() >= MANY_GONE
        && !known
            .iter()
            .any(|name| endpoints.contains_key(name.as_str()))
    {
        return Some("empty");
    }
    let were = memory
        .registrations
        .iter()
        .filter(|(_, registration)| registration.online);
    let still = were
        .clone()
        .filter(|(name, _)| endpoints.get(name.as_str()) == Some(&Reach::Online));
    let (were, still) = (were.count(), still.count());
    (were >= MANY_ONLINE && still * 2 < were).then_some("jump")
}

/// Brings the registrations up to date; a time changes only together with the state.
fn states(
    desired: Option<&[Desired]>,
    endpoints: &BTreeMap<String, Reach>,
    mut memory: Memory,
    now: Timestamp,
) -> Memory {
    let mut owners: BTreeMap<&Username, Vec<&Id>> = BTreeMap::new();
    for wanted in desired.unwrap_or_default() {
        owners
            .entry(&wanted.username)
            .or_default()
            .push(&wanted.account);
    }
    // An account that vanished keeps its times as long as its endpoint is there.
    if desired.is_some() {
        memory
            .registrations
            .retain(|name, _| owners.contains_key(name) || endpoints.contains_key(name.as_str()));
    }
    for (name, owners) in owners {
        let known = memory
            .registrations
            .get(name)
            .map(|registration| &registration.account);
        // Two accounts of one name are one that gave it up, as KV shows it late, and its successor.
        let keeps = known.is_some_and(|known| owners.contains(&known));
        if let (false, Some(owner)) = (keeps, owners.last())
            && let Some(reach) = endpoints.get(name.as_str())
            && *reach != Reach::Unknown
        {
            let online = *reach == Reach::Online;
            let mut fresh = Registration {
                account: (*owner).clone(),
                online,
                since: now,
                ever_online: online,
                missing: false,
                history: History::default(),
            };
            if online {
                fresh.history.note(online, now);
            }
            memory.registrations.insert(name.clone(), fresh);
        }
    }
    for (name, registration) in &mut memory.registrations {
        let online = match endpoints.get(name.as_str()) {
            Some(Reach::Online) => true,
            Some(Reach::Offline) | None => false,
            Some(Reach::Unknown) => continue,
        };
        registration.missing = !endpoints.contains_key(name.as_str());
        if registration.online != online {
            registration.online = online;
            registration.since = now;
            registration.history.note(online, now);
        }
        registration.ever_online |= online;
    }
    memory
}

fn plan(
    mode: Mode,
    shape: &str,
    desired: Option<&[Desired]>,
    endpoints: &BTreeMap<String, Reach>,
    tombstones: &BTreeSet<Username>,
    memory: &Memory,
    now: Timestamp,
) -> Plan {
    let count = |reach| {
        u32::try_from(endpoints.values().filter(|seen| **seen == reach).count()).unwrap_or(u32::MAX)
    };
    let mut report = Report {
        endpoints: u32::try_from(endpoints.len()).unwrap_or(u32::MAX),
        online: count(Reach::Online),
        offline: count(Reach::Offline),
        ..Report::default()
    };
    // Without the list of accounts nothing is known to be missing, wrong or nobody's.
    let Some(desired) = desired else {
        return Plan {
            unknown: None,
            actions: Vec::new(),
            report,
        };
    };
    let mut desired: Vec<&Desired> = desired.iter().collect();
    desired.sort();
    let rotating = desired.iter().filter(|desired| desired.rotating);
    report.rotating = u32::try_from(rotating.count()).unwrap_or(u32::MAX);
    let wanted: BTreeSet<&Username> = desired.iter().map(|desired| &desired.username).collect();

    let (mut deletes, mut mends, mut creates, mut adopts, mut checks) =
        (vec![], vec![], vec![], vec![], vec![]);
    for desired in desired {
        let name = &desired.username;
        if memory.waits(name, Some(desired), now) {
            report.waiting = report.waiting.saturating_add(1);
            continue;
        }
        let pushed = memory.pushed.get(name);
        if !endpoints.contains_key(name.as_str()) {
            creates.push(Action::Create(desired.clone()));
        } else if let Some(pushed) = pushed {
            // KV is late: a revision below the one that was pushed is no news.
            if pushed.account != desired.account
                || pushed.rev < desired.rev
                || pushed.shape != shape
            {
                mends.push(Action::Mend(desired.clone()));
            } else if now.since(pushed.verified_at) >= CHECK_AFTER_S {
                checks.push((pushed.verified_at, desired));
            }
        } else {
            adopts.push(Action::Adopt(desired.clone()));
        }
    }
    for name in tombstones.iter().filter(|name| !wanted.contains(name)) {
        if memory.waits(name, None, now) {
            report.waiting = report.waiting.saturating_add(1);
        } else {
            deletes.push(Action::Delete(name.clone()));
        }
    }
    for action in deletes.iter().chain(&mends).chain(&creates).chain(&adopts) {
        report.due.add(action);
    }
    for name in endpoints.keys() {
        let ours = Username::try_from(name.as_str()).is_ok_and(|name| {
            wanted.contains(&name)
                || tombstones.contains(&name)
                || memory.pushed.contains_key(&name)
        });
        if !ours {
            report.unowned.add(name);
        }
    }
    for name in memory
        .pushed
        .keys()
        .filter(|name| !wanted.contains(name) && !tombstones.contains(*name))
    {
        report.vanished.add(name.as_str());
    }

    let mut actions = Vec::new();
    if mode == Mode::Push {
        checks.sort();
        let checks: Vec<Action> = checks
            .into_iter()
            .take(CHECKS)
            .map(|(_, desired)| Action::Check(desired.clone()))
            .collect();
        let most = MAX_ACTIONS.saturating_sub(checks.len());
        // In turns, so that a thousand of one kind do not hold up the one of another.
        let mut queues = [deletes, mends, creates, adopts].map(Vec::into_iter);
        while actions.len() < most {
            let before = actions.len();
            actions.extend(queues.iter_mut().filter_map(Iterator::next));
            if actions.len() == before {
                break;
            }
        }
        actions.truncate(most);
        actions.extend(checks);
    }
    Plan {
        unknown: None,
        actions,
        report,
    }
}

/// The accounts whose name is somebody else's at the PBX.
#[must_use]
pub fn collisions(memory: &Memory) -> Names {
    let mut names = Names::default();
    for (name, _) in memory
        .troubles
        .iter()
        .filter(|(_, trouble)| trouble.why == Why::Collision)
    {
        names.add(name.as_str());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn name(text: &str) -> Username {
        Username::try_from(text).unwrap()
    }

    fn id(text: &str) -> Id {
        Id::try_from(text).unwrap()
    }

    fn desired(username: &str, account: &str, rev: u64) -> Desired {
        Desired {
            username: name(username),
            account: id(account),
            rev,
            rotating: false,
        }
    }

    fn seen(endpoints: &[(&str, Reach)]) -> Observed {
        Observed::Endpoints(
            endpoints
                .iter()
                .map(|(name, reach)| ((*name).to_owned(), *reach))
                .collect(),
        )
    }

    fn pushed(account: &str, rev: u64) -> Pushed {
        Pushed {
            account: id(account),
            rev,
            shape: "s".to_owned(),
            verified_at: NOW,
            since: None,
        }
    }

    fn remembering(pushed_ones: &[(&str, &str, u64)]) -> Memory {
        let pushed = pushed_ones
            .iter()
            .map(|(username, account, rev)| (name(username), pushed(account, *rev)));
        Memory {
            pushed: pushed.collect(),
            ..Memory::default()
        }
    }

    struct Case<'a> {
        mode: Mode,
        desired: Option<&'a [Desired]>,
        observed: Observed,
        gone: &'a [&'a str],
        memory: Memory,
    }

    fn decide(case: Case<'_>) -> (Memory, Plan) {
        let tombstones = case.gone.iter().map(|text| name(text)).collect();
        let situation = Situation {
            mode: case.mode,
            shape: "s",
            desired: case.desired,
            observed: case.observed,
            tombstones: &tombstones,
            now: NOW,
        };
        look(situation, case.memory)
    }

    #[test]
    fn each_difference_has_its_action() {
        use Reach::{Offline, Online};
        let all = [
            desired("fine", "a-fine", 3),
            desired("late", "a-late", 2),
            desired("missing", "a-missing", 1),
            desired("newer", "a-newer", 2),
            desired("other", "a-other", 1),
            desired("strange", "a-strange", 1),
        ];
        let case = |mode| Case {
            mode,
            desired: Some(&all),
            observed: seen(&[
                ("dead", Offline),
                ("fine", Online),
                ("late", Online),
                ("lost", Online),
                ("newer", Offline),
                ("nobody", Online),
                ("other", Offline),
                ("strange", Offline),
            ]),
            gone: &["dead", "fine"],
            memory: remembering(&[
                ("dead", "a-dead", 1),
                ("fine", "a-fine", 3),
                ("late", "a-late", 3),
                ("lost", "a-lost", 1),
                ("newer", "a-newer", 1),
                ("other", "a-former", 9),
            ]),
        };
        let (_, plan) = decide(case(Mode::Push));
        assert_eq!(
            plan.actions,
            [
                Action::Delete(name("dead")),
                Action::Mend(all[3].clone()),
                Action::Create(all[2].clone()),
                Action::Adopt(all[5].clone()),
                Action::Mend(all[4].clone()),
            ]
        );
        let report = &plan.report;
        assert_eq!(
            report.due,
            Counts {
                create: 1,
                mend: 2,
                adopt: 1,
                check: 0,
                delete: 1
            }
        );
        assert_eq!((report.endpoints, report.online, report.offline), (8, 4, 4));
        assert_eq!(
            report.unowned,
            Names {
                count: 1,
                first: vec!["nobody".to_owned()]
            }
        );
        assert_eq!(
            report.vanished,
            Names {
                count: 1,
                first: vec!["lost".to_owned()]
            }
        );

        let (_, observing) = decide(case(Mode::Observe));
        assert_eq!(observing.actions, []);
        assert_eq!(observing.report, plan.report);
    }

    #[test]
    fn what_cannot_be_seen_leads_to_nothing() {
        let wanted = [desired("a", "a-a", 1)];
        let memory = remembering(&[("a", "a-a", 1), ("b", "a-b", 1)]);
        let (after, plan) = decide(Case {
            mode: Mode::Push,
            desired: Some(&wanted),
            observed: Observed::Unknown("http 503".to_owned()),
            gone: &["b"],
            memory: memory.clone(),
        });
        assert_eq!(
            (plan.actions, plan.unknown.as_deref()),
            (vec![], Some("http 503"))
        );
        assert_eq!(after, memory);
        // No list of accounts: who is registered is still noted, and nothing is done.
        let (_, plan) = decide(Case {
            mode: Mode::Push,
            desired: None,
            observed: seen(&[("a", Reach::Online), ("z", Reach::Online)]),
            gone: &["b"],
            memory,
        });
        assert_eq!((plan.actions, plan.unknown), (vec![], None));
        assert_eq!((plan.report.online, plan.report.unowned.count), (2, 0));
    }

    #[test]
    fn an_empty_list_of_accounts_deletes_nothing() {
        let names: Vec<String> = (0..40).map(|n| format!("{n}")).collect();
        let ours: Vec<(&str, &str, u64)> = names
            .iter()
            .map(|name| (name.as_str(), "acct", 1))
            .collect();
        let endpoints: Vec<(&str, Reach)> = names
            .iter()
            .map(|name| (name.as_str(), Reach::Online))
            .collect();
        let memory = remembering(&ours);
        for desired in [Some(&[][..]), None] {
            let (after, plan) = decide(Case {
                mode: Mode::Push,
                desired,
                observed: seen(&endpoints),
                gone: &[],
                memory: memory.clone(),
            });
            assert_eq!(plan.actions, []);
            assert_eq!(after.pushed, memory.pushed);
        }
    }

    #[test]
    fn an_empty_pbx_is_believed_only_after_a_while() {
        let wanted = [
            desired("a", "a-a", 1),
            desired("b", "a-b", 1),
            desired("c", "a-c", 1),
        ];
        let tombstones = BTreeSet::new();
        let situation = |now, observed| Situation {
            mode: Mode::Push,
            shape: "s",
            desired: Some(&wanted),
            observed,
            tombstones: &tombstones,
            now,
        };
        let memory = remembering(&[("a", "a-a", 1), ("b", "a-b", 1), ("c", "a-c", 1)]);
        let others = || seen(&[("nobody", Reach::Online)]);
        let (memory, plan) = look(situation(NOW, others()), memory);
        assert_eq!(
            (plan.actions.len(), plan.unknown.as_deref()),
            (0, Some("empty"))
        );
        let (memory, plan) = look(situation(NOW.plus(120), others()), memory);
        assert_eq!(
            (plan.actions.len(), plan.unknown.as_deref()),
            (0, Some("empty"))
        );
        // One failure in between, and it starts anew.
        let (broken, _) = look(
            situation(NOW.plus(150), Observed::Unknown("timed out".to_owned())),
            memory.clone(),
        );
        let (_, plan) = look(situation(NOW.plus(180), others()), broken);
        assert_eq!(plan.unknown.as_deref(), Some("empty"));
        // Seen all the while: the PBX was set up anew, and gets its accounts back.
        let (_, plan) = look(situation(NOW.plus(180), others()), memory);
        assert_eq!((plan.actions.len(), plan.unknown), (3, None));
        assert!(
            plan.actions
                .iter()
                .all(|action| matches!(action, Action::Create(_)))
        );
    }

    #[test]
    fn a_jump_changes_nothing_at_first() {
        let names: Vec<String> = (0..20).map(|n| format!("{n}")).collect();
        let wanted: Vec<Desired> = names
            .iter()
            .map(|name| desired(name, &format!("a{name}"), 1))
            .collect();
        let all = |online: usize| {
            let reach = |n| {
                if n < online {
                    Reach::Online
                } else {
                    Reach::Offline
                }
            };
            let endpoints: Vec<(&str, Reach)> = names
                .iter()
                .enumerate()
                .map(|(n, name)| (name.as_str(), reach(n)))
                .collect();
            seen(&endpoints)
        };
        let tombstones = BTreeSet::from([name("gone")]);
        let run = |at: u64, online, memory| {
            let situation = Situation {
                mode: Mode::Push,
                shape: "s",
                desired: Some(&wanted),
                observed: all(online),
                tombstones: &tombstones,
                now: NOW.plus(at),
            };
            look(situation, memory)
        };
        let (memory, _) = run(0, 20, Memory::default());
        // Some phones go: that is life.
        let (memory, plan) = run(60, 15, memory);
        assert_eq!(plan.unknown, None);
        assert_eq!(
            memory
                .registrations
                .values()
                .filter(|r| !r.online && r.since == NOW.plus(60))
                .count(),
            5
        );
        // Most go: that is a failure until it lasts.
        let (memory, plan) = run(120, 2, memory);
        assert_eq!(
            (plan.unknown.as_deref(), plan.actions.len()),
            (Some("jump"), 0)
        );
        assert_eq!(
            memory.registrations.values().filter(|r| r.online).count(),
            15
        );
        let (back, plan) = run(180, 15, memory.clone());
        assert_eq!((plan.unknown, back.doubt), (None, None));
        let (memory, plan) = run(300, 2, memory);
        assert_eq!(plan.unknown, None);
        assert_eq!(
            memory.registrations.values().filter(|r| r.online).count(),
            2
        );
        assert_eq!(run(360, 2, memory).0.doubt, None);
    }

    #[test]
    fn a_time_changes_only_with_the_state() {
        let wanted = [desired("a", "a-a", 1)];
        let run = |at: u64, reach: Option<Reach>, desired, memory| {
            let endpoints = reach
                .map(|reach| ("a".to_owned(), reach))
                .into_iter()
                .collect();
            states(desired, &endpoints, memory, NOW.plus(at))
        };
        let shown = |memory: &Memory| {
            memory
                .registration(&name("a"))
                .map(|r| (r.online, r.since.since(NOW), r.ever_online))
        };
        let memory = run(0, None, Some(&wanted[..]), Memory::default());
        assert_eq!(shown(&memory), None);
        let memory = run(1, Some(Reach::Unknown), Some(&wanted), memory);
        assert_eq!(shown(&memory), None);
        let memory = run(2, Some(Reach::Offline), Some(&wanted), memory);
        assert_eq!(shown(&memory), Some((false, 2, false)));
        let memory = run(3, Some(Reach::Online), Some(&wanted), memory);
        let memory = run(4, Some(Reach::Online), None, memory);
        let memory = run(5, Some(Reach::Unknown), Some(&wanted), memory);
        assert_eq!(shown(&memory), Some((true, 3, true)));
        let memory = run(6, None, Some(&wanted), memory);
        assert_eq!(shown(&memory), Some((false, 6, true)));
        // Another account takes the name: its phone never was online.
        let other = [desired("a", "a-b", 1)];
        assert_eq!(
            shown(&run(7, Some(Reach::Offline), Some(&other), memory.clone())),
            Some((false, 7, false))
        );
        // It vanishes from the list: the time stays while the endpoint does.
        let memory = run(8, Some(Reach::Offline), Some(&[]), memory);
        assert_eq!(shown(&memory), Some((false, 6, true)));
        assert_eq!(shown(&run(9, None, Some(&[]), memory)), None);
    }

    #[test]
    fn a_failure_waits_longer_each_time_and_not_for_news() {
        let mut memory = Memory::default();
        let waits = |memory: &Memory, rev, at: u64| {
            memory.waits(&name("a"), Some(&desired("a", "a-a", rev)), NOW.plus(at))
        };
        let account = id("a-a");
        memory.note_trouble(&name("a"), Why::Refused, Some(&account), 4, NOW);
        assert!(waits(&memory, 4, 59) && !waits(&memory, 4, 60) && !waits(&memory, 5, 0));
        assert!(!memory.waits(&name("a"), None, NOW));
        assert!(!memory.waits(&name("a"), Some(&desired("a", "a-b", 1)), NOW));
        for _ in 0..40 {
            memory.note_trouble(&name("a"), Why::Refused, Some(&account), 4, NOW);
        }
        assert!(waits(&memory, 4, 1_799) && !waits(&memory, 4, 1_800));
        memory.note_pushed(&name("a"), pushed("a-a", 4));
        assert!(!waits(&memory, 4, 0));
    }

    #[test]
    fn a_run_is_bounded_and_every_kind_gets_its_turn() {
        let wanted: Vec<Desired> = (0..1_000)
            .map(|n| desired(&format!("n{n:04}"), "acct", 1))
            .collect();
        let gone: Vec<String> = (0..100).map(|n| format!("g{n:04}")).collect();
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        let case = Case {
            mode: Mode::Push,
            desired: Some(&wanted),
            observed: seen(&[]),
            gone: &gone,
            memory: Memory::default(),
        };
        let (_, plan) = decide(case);
        assert_eq!(plan.actions.len(), MAX_ACTIONS);
        let deletes = plan
            .actions
            .iter()
            .filter(|action| matches!(action, Action::Delete(_)))
            .count();
        assert_eq!(deletes, MAX_ACTIONS / 2);
        assert_eq!(
            (plan.report.due.create, plan.report.due.delete),
            (1_000, 100)
        );

        // The oldest looks first, and only when they are old.
        let names: Vec<String> = (0..20).map(|n| format!("n{n:04}")).collect();
        let mut memory = Memory::default();
        for (n, username) in names.iter().enumerate() {
            let verified_at = Timestamp(NOW.0 - 1_000 + u64::try_from(n).unwrap() * 10);
            memory.pushed.insert(
                name(username),
                Pushed {
                    verified_at,
                    ..pushed("acct", 1)
                },
            );
        }
        let endpoints: Vec<(&str, Reach)> = names
            .iter()
            .map(|name| (name.as_str(), Reach::Online))
            .collect();
        let observed = seen(&endpoints);
        let case = Case {
            mode: Mode::Push,
            desired: wanted.get(..20),
            observed,
            gone: &[],
            memory,
        };
        let (_, plan) = decide(case);
        let expected: Vec<Action> = wanted
            .iter()
            .take(CHECKS)
            .cloned()
            .map(Action::Check)
            .collect();
        assert_eq!(plan.actions, expected);
    }

    #[test]
    fn only_a_whole_list_of_endpoints_is_one() {
        let read = |status, content_type: &str, body: &str| {
            Observed::read(Answer {
                status,
                content_type,
                body: body.as_bytes(),
            })
        };
        let list = r#"[{"technology":"PJSIP","resource":"1001","state":"online","channel_ids":[]},
            {"technology":"PJSIP","resource":"1002","state":"offline","channel_ids":["1.2"]},
            {"technology":"PJSIP","resource":"1003","state":"unknown","channel_ids":[]},
            {"technology":"Local","resource":"x","state":"online","channel_ids":[]}]"#;
        assert_eq!(
            read(200, "application/json", list),
            seen(&[
                ("1001", Reach::Online),
                ("1002", Reach::Offline),
                ("1003", Reach::Unknown)
            ])
        );
        assert_eq!(read(200, "application/json", "[]"), seen(&[]));
        for (status, content_type, body) in [
            (
                503,
                "application/json",
                r#"{"message":"Asterisk not booted"}"#,
            ),
            (404, "text/html", "<html>"),
            (404, "application/json", "[]"),
            (
                401,
                "application/json",
                r#"{"message":"Authentication required"}"#,
            ),
            (200, "text/html", "[]"),
            (200, "application/json", ""),
            (200, "application/json", "{}"),
            (
                200,
                "application/json",
                r#"[{"technology":"PJSIP","resource":"1001"}]"#,
            ),
            (
                200,
                "application/json",
                r#"[{"technology":"PJSIP","resource":"1001","state":"online"}"#,
            ),
            (204, "", ""),
        ] {
            assert!(
                matches!(read(status, content_type, body), Observed::Unknown(_)),
                "{status} {content_type} {body}"
            );
        }
    }

    #[test]
    fn a_memory_reads_back_what_it_writes() {
        let mut memory = remembering(&[("a", "a-a", 1)]);
        memory.note_trouble(&name("b"), Why::Collision, Some(&id("a-b")), 2, NOW);
        memory.doubt = Some(Doubt {
            what: "jump".to_owned(),
            since: NOW,
        });
        memory.registrations.insert(
            name("a"),
            Registration {
                account: id("a-a"),
                online: true,
                since: NOW,
                ever_online: true,
                missing: true,
                history: {
                    let mut history = History::default();
                    history.note(true, NOW);
                    history
                },
            },
        );
        let text = serde_json::to_string(&memory).unwrap();
        assert_eq!(serde_json::from_str::<Memory>(&text).unwrap(), memory);
        assert_eq!(
            serde_json::from_str::<Memory>("{}").unwrap(),
            Memory::default()
        );
        assert_eq!(
            collisions(&memory),
            Names {
                count: 1,
                first: vec!["b".to_owned()]
            }
        );
    }

    /// A PBX as a plan's actions see it: name to the account that marked it, or nobody.
    type Model = BTreeMap<Username, Option<(Id, u64)>>;

    /// Does an action as [`crate::tick`] does, at a model.
    fn apply(
        action: &Action,
        truth: &BTreeMap<Username, (Id, u64)>,
        at: &mut Model,
        memory: &mut Memory,
        now: Timestamp,
    ) {
        match action {
            Action::Delete(name) => {
                if at.get(name).is_some_and(Option::is_none) {
                    memory.note_trouble(name, Why::Collision, None, 0, now);
                    return;
                }
                at.remove(name);
                memory.note_deleted(name);
            }
            Action::Create(desired)
            | Action::Mend(desired)
            | Action::Adopt(desired)
            | Action::Check(desired) => {
                let name = &desired.username;
                let Some((account, rev)) = truth
                    .get(name)
                    .filter(|(account, _)| *account == desired.account)
                else {
                    return;
                };
                if at.get(name).is_some_and(Option::is_none) {
                    memory.note_trouble(name, Why::Collision, Some(account), *rev, now);
                    return;
                }
                at.insert(name.clone(), Some((account.clone(), *rev)));
                let pushed = Pushed {
                    account: account.clone(),
                    rev: *rev,
                    shape: "s".to_owned(),
                    verified_at: now,
                    since: None,
                };
                memory.note_pushed(name, pushed);
            }
        }
    }

    fn names() -> impl Strategy<Value = Username> {
        (0_u8..12).prop_map(|n| name(&format!("u{n}")))
    }

    proptest! {
        /// Whatever is there and whatever is remembered: in the end the PBX has what it should,
        /// nobody else's endpoint was touched, nothing went without a tombstone, and nothing more
        /// is to be done.
        #[test]
        fn runs_reach_the_desired_state_and_then_rest(
            truth in proptest::collection::btree_map(names(), (0_u8..6, 1_u64..4), 0..10),
            there in proptest::collection::btree_map(names(), proptest::option::of((0_u8..6, 1_u64..4)), 0..10),
            recalled in proptest::collection::btree_map(names(), (0_u8..6, 1_u64..4), 0..10),
            gone in proptest::collection::btree_set(names(), 0..6),
            late in 0_u64..2,
        ) {
            let account = |n: u8| id(&format!("acct{n}"));
            let truth: BTreeMap<Username, (Id, u64)> = truth.into_iter().map(|(name, (n, rev))| (name, (account(n), rev))).collect();
            let start: Model = there.into_iter().map(|(name, mark)| (name, mark.map(|(n, rev)| (account(n), rev)))).collect();
            // A memory may be wrong in anything but for revisions that never were.
            let mut memory = Memory::default();
            for (username, (n, rev)) in recalled {
                let most = truth.get(&username).map_or(rev, |(_, real)| rev.min(*real));
                let really = start.get(&username).and_then(Option::as_ref);
                let (account, rev) = really.cloned().unwrap_or_else(|| (account(n), most));
                memory.pushed.insert(username, Pushed { account, rev, shape: "s".to_owned(), verified_at: NOW, since: None });
            }
            let mut at = start.clone();
            let mut tombstones: BTreeSet<Username> = gone.iter().cloned().collect();
            let mut rest = false;
            for run in 0..40_u64 {
                let now = NOW.plus(run * 60);
                // KV is late in the first runs.
                let wanted: Vec<Desired> = truth
                    .iter()
                    .map(|(name, (account, rev))| Desired {
                        username: name.clone(),
                        account: account.clone(),
                        rev: if run < 2 { rev.saturating_sub(late).max(1) } else { *rev },
                        rotating: false,
                    })
                    .collect();
                let endpoints = at.keys().map(|name| (name.to_string(), Reach::Offline)).collect();
                let situation = Situation {
                    mode: Mode::Push,
                    shape: "s",
                    desired: Some(&wanted),
                    observed: Observed::Endpoints(endpoints),
                    tombstones: &tombstones,
                    now,
                };
                let (after, plan) = look(situation, memory);
                memory = after;
                prop_assert!(plan.actions.len() <= MAX_ACTIONS);
                for action in &plan.actions {
                    apply(action, &truth, &mut at, &mut memory, now);
                }
                tombstones.retain(|name| at.contains_key(name) || truth.contains_key(name));
                rest = plan.unknown.is_none()
                    && plan.actions.iter().all(|action| {
                        matches!(action, Action::Check(_))
                            || start.get(action.username()).is_some_and(Option::is_none)
                    });
            }
            prop_assert!(rest, "still at work: {memory:?}");
            for (name, mark) in &start {
                if mark.is_none() {
                    prop_assert_eq!(at.get(name), Some(&None));
                } else if !truth.contains_key(name) && !gone.contains(name) {
                    prop_assert_eq!(at.get(name), Some(mark));
                } else if !truth.contains_key(name) {
                    prop_assert_eq!(at.get(name), None);
                }
            }
            for (name, wanted) in &truth {
                if start.get(name) != Some(&None) {
                    prop_assert_eq!(at.get(name), Some(&Some(wanted.clone())));
                }
            }
        }
    }
}
