//! What is to be done at a PBX: pure decisions on what should be (accounts), what is (the list of
//! endpoints), and what Dialtone remembers of it.
//!
//! Level-triggered: each run decides anew from what it sees, so a run that is lost, cut off or
//! doubled does no harm. What cannot be seen for sure leads to no action, and no absence from any
//! list ever leads to a delete: only a tombstone does, after a while, and not many at once
//! ([`breaker`]).

pub mod breaker;
pub mod known;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use self::breaker::{Breaker, Confirmed, GRACE_S, Held, Lost, Scope, Tombstones, trips};
use self::known::{Listing, Mark, Wanted};
use crate::gather::in_order;
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

/// How many accounts at a PBX whose objects should be fine are looked at in each run at most, one
/// after another: 7,200 in a day, so that 1,000 have their turn in three hours and a half.
pub const CHECKS: usize = 5;

/// A round of looks does not begin sooner than this after the one before, in seconds: a PBX with
/// three accounts need not show them each minute.
const CHECK_AFTER_S: u64 = 900;

/// How long, in seconds, something unlikely must be seen run after run before it is believed. An
/// Asterisk that is starting says nothing rather than half of it, so three minutes are for what is
/// not known; an Asterisk that lost its objects must not be without them for long, and to push them
/// deletes nothing.
pub const BELIEVE_AFTER_S: u64 = 180;

/// From how many accounts on "all of them are gone" is unlikely.
const MANY_GONE: usize = 3;

/// How many accounts that wait a plan spells out.
const WAITS: usize = 100;

/// An account that failed is not tried again before 60 s, doubled with each further failure, up to
/// half an hour: the others must get their turn.
const RETRY_S: u64 = 60;

/// When what Asterisk took is surely on its disk, in seconds. It writes once a second.
const SETTLED_AFTER_S: u64 = 3;

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
        let states = pjsip.map(|endpoint| (endpoint.resource, reach(&endpoint.state)));
        Self::Endpoints(in_order(states))
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
    /// Accounts that should be here and whose objects are not known to be up to date.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wanted: BTreeMap<Id, Wanted>,
    /// What was pushed of accounts that were on no list when their part of it was last listed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub vanished: BTreeSet<Username>,
    /// What was written last, if it may still be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Unsettled>,
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
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "TroubleWhy"))]
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

/// What was written to a PBX while it was one and the same process. Asterisk writes its database to the
/// disk within a second or two, so what it took just before it died may be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsettled {
    /// When that process started, in Asterisk's own words.
    pub started: String,
    /// The names.
    pub names: BTreeSet<Username>,
    /// When the last of them was written.
    pub since: Timestamp,
}

/// Where the looks at objects that should be fine are: one name after another, from round to round.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Round {
    /// When it began.
    pub began: Timestamp,
    /// The name that was looked at last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Username>,
    /// Whether it is over.
    pub done: bool,
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
        let account = pushed.account.clone();
        self.pushed.insert(username.clone(), pushed);
        self.settle(&account);
    }

    /// Notes that no object of that name is there any more.
    pub fn note_deleted(&mut self, username: &Username) {
        self.troubles.remove(username);
        self.pushed.remove(username);
        self.registrations.remove(username);
    }

    /// Notes that something of a name was written or removed; `started` is the process that took it.
    pub fn note_written(&mut self, username: &Username, started: &str, now: Timestamp) {
        let unsettled = self.unsettled.get_or_insert_with(|| Unsettled {
            started: started.to_owned(),
            names: BTreeSet::new(),
            since: now,
        });
        unsettled.names.insert(username.clone());
        unsettled.since = now;
    }

    /// Whether what was last written of a name may still be lost.
    #[must_use]
    pub fn is_unsettled(&self, username: &Username) -> bool {
        let unsettled = self.unsettled.as_ref();
        unsettled.is_some_and(|unsettled| unsettled.names.contains(username))
    }

    /// Notes which process the PBX is. If it is another one than took what was written last, all of that
    /// is looked at again in the next run.
    pub fn note_process(&mut self, started: &str, now: Timestamp) {
        let Some(unsettled) = self.unsettled.take() else {
            return;
        };
        if unsettled.started != started {
            for name in &unsettled.names {
                if let Some(pushed) = self.pushed.get_mut(name) {
                    // Of no PBX, so that it is mended.
                    pushed.shape.clear();
                }
            }
        } else if now.since(unsettled.since) < SETTLED_AFTER_S {
            self.unsettled = Some(unsettled);
        }
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
        // The PBX gave no answer while it was about this one, or died after it took it: most likely that is no
        // fault of this one.
        let first = times == 1 && matches!(why, Why::Unclear | Why::NotKept);
        let wait = if first { 0 } else { RETRY_S }
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

    /// Whether it is a look at what should be fine.
    #[must_use]
    pub fn is_look(&self) -> bool {
        matches!(self, Self::Check(_))
    }

    /// Why it is due, in words.
    #[must_use]
    pub fn because(&self, memory: &Memory, shape: &str) -> &'static str {
        match self {
            Self::Create(_) => "it is not at the PBX",
            Self::Adopt(_) => "something of its name is there, and whose it is is not known",
            Self::Check(_) => "it was not looked at for a while",
            Self::Delete(_) => "the account was deleted, renamed or moved",
            Self::Mend(desired) => match memory.pushed.get(&desired.username) {
                Some(pushed) if pushed.account != desired.account => {
                    "another account had the name before"
                }
                Some(pushed) if pushed.shape != shape => "the PBX's record was changed",
                _ => "the account was changed",
            },
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

/// Why an account is not worked on now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Wait {
    /// The name of the objects.
    pub username: Username,
    /// The account; `None` for a tombstone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Id>,
    /// `grace`, `breaker`, or [`Why::word`] of the failure.
    pub why: &'static str,
    /// Until when; `None`: until an admin confirms it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// How many actions of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
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
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
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
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "PbxReport"))]
#[serde(default)]
pub struct Report {
    /// Endpoints at the PBX.
    pub endpoints: u32,
    /// Those with a registered phone.
    pub online: u32,
    /// Those without.
    pub offline: u32,
    /// Phones of our accounts that were registered before and are not now, believed or not.
    pub lost: Lost,
    /// What is to be done; in `observe` what `push` would do.
    pub due: Counts,
    /// Accounts and tombstones that wait after a failure.
    pub waiting: u32,
    /// Accounts that it should have, as far as is known.
    pub accounts: u32,
    /// Tombstones that wait for their grace to end.
    pub grace: u32,
    /// What is too much at once and held.
    #[serde(skip_serializing_if = "Breaker::is_closed")]
    pub breaker: Breaker,
    /// Whether all accounts were listed since this PBX is followed: before, what is unowned is not said.
    pub complete: bool,
    /// Endpoints at the PBX that are no account's.
    pub unowned: Names,
    /// Accounts that we pushed, that were on no list when their part of it was last listed, and that
    /// nobody deleted.
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
    /// At most [`MAX_ACTIONS`], the looks last.
    pub actions: Vec<Action>,
    /// Where the looks are when these are done.
    pub round: Round,
    /// What waits: the first of them.
    pub waits: Vec<Wait>,
    /// What there is to say.
    pub report: Report,
}

/// What a decision is made of.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// The PBX.
    pub pbx: &'a Id,
    /// Whether the PBX may be changed.
    pub mode: Mode,
    /// [`crate::step7_register::shape`] of the PBX.
    pub shape: &'a str,
    /// What of the list of accounts was seen in this run.
    pub listing: &'a Listing,
    /// Accounts that were changed.
    pub marks: &'a [Mark],
    /// Whether all accounts were listed since the PBX is followed.
    pub complete: bool,
    /// What was seen there.
    pub observed: Observed,
    /// The names that may be deleted there.
    pub tombstones: &'a Tombstones,
    /// How many of its tenant's accounts have a tombstone, and how many accounts those are of.
    pub at_tenant: (u32, u32),
    /// The phones that went offline at its tenant's other PBXes, as far as those say.
    pub lost_elsewhere: Lost,
    /// What an admin let pass.
    pub confirmed: &'a Confirmed,
    /// What was held in the run before.
    pub before: &'a Breaker,
    /// Where the looks are.
    pub round: &'a Round,
    /// How many looks there are for it in this run.
    pub checks: usize,
    /// The time.
    pub now: Timestamp,
}

/// Decides: what to remember, and what to do.
#[must_use]
pub fn look(situation: &Situation<'_>, mut memory: Memory) -> (Memory, Plan) {
    let now = situation.now;
    memory.learn(
        situation.pbx,
        situation.listing,
        situation.marks,
        situation.tombstones,
        now,
    );
    let nothing = |memory: &Memory, why: &str| {
        let desired = memory.desired(situation.tombstones);
        let report = Report {
            accounts: u32::try_from(desired.len()).unwrap_or(u32::MAX),
            // What is held goes on being held.
            breaker: Breaker {
                offline: None,
                ..situation.before.clone()
            },
            ..Report::default()
        };
        Plan {
            unknown: Some(why.to_owned()),
            round: situation.round.clone(),
            report,
            ..Plan::default()
        }
    };
    let endpoints = match &situation.observed {
        Observed::Endpoints(endpoints) => endpoints,
        Observed::Unknown(reason) => {
            // A doubt must be seen without a break to become certain.
            memory.doubt = None;
            let plan = nothing(&memory, reason);
            return (memory, plan);
        }
    };
    let lost = lost(&situation.observed, &memory);
    let unlikely = unlikely(endpoints, &memory, lost, situation.lost_elsewhere);
    memory.doubt = unlikely.as_ref().map(|unlikely| {
        let former = memory
            .doubt
            .take()
            .filter(|doubt| doubt.what == unlikely.word());
        former.unwrap_or_else(|| Doubt {
            what: unlikely.word().to_owned(),
            since: now,
        })
    });
    // What is believed in the end was so from the beginning.
    let mut offline_since = now;
    let mut held = None;
    if let (Some(unlikely), Some(doubt)) = (&unlikely, &memory.doubt) {
        offline_since = doubt.since;
        let confirmed = situation.confirmed.offline == Some(doubt.since);
        let believed = now.since(doubt.since) >= BELIEVE_AFTER_S || confirmed;
        match unlikely {
            Unlikely::Empty if !believed => {
                let plan = nothing(&memory, unlikely.word());
                return (memory, plan);
            }
            Unlikely::Empty => {}
            Unlikely::Jump { scope, lost } if !believed => {
                held = Some(Held {
                    scope: *scope,
                    count: lost.count,
                    of: lost.of,
                    since: doubt.since,
                    confirm: breaker::digest_of_offline(doubt.since),
                });
            }
            // The next one is another one.
            Unlikely::Jump { .. } => memory.doubt = None,
        }
    }
    let desired = memory.desired(situation.tombstones);
    memory = states(
        &desired,
        endpoints,
        memory,
        now,
        (held.is_none()).then_some(offline_since),
    );
    let mut plan = plan(situation, &desired, endpoints, &memory);
    plan.report.breaker.offline = held;
    plan.report.lost = lost;
    (memory, plan)
}

/// What looks rather like a failure of the PBX than like the truth.
enum Unlikely {
    /// Every endpoint that we know is gone.
    Empty,
    /// Many phones went offline at once: of the PBX, or of its tenant's together.
    Jump { scope: Scope, lost: Lost },
}

impl Unlikely {
    fn word(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Jump { .. } => "jump",
        }
    }
}

/// Whether every endpoint that we know is gone.
fn is_empty(endpoints: &BTreeMap<String, Reach>, memory: &Memory) -> bool {
    let known: BTreeSet<&Username> =
        in_order(memory.pushed.keys().chain(memory.registrations.keys()));
    known.len() >= MANY_GONE
        && !known
            .iter()
            .any(|name| endpoints.contains_key(name.as_str()))
}

/// The phones that a PBX says, for the first time, are not registered any more; none if nothing is concluded
/// from what it says.
#[must_use]
pub fn lost(observed: &Observed, memory: &Memory) -> Lost {
    let Observed::Endpoints(endpoints) = observed else {
        return Lost::default();
    };
    if is_empty(endpoints, memory) {
        return Lost::default();
    }
    let were = memory
        .registrations
        .iter()
        .filter(|(_, registration)| registration.online);
    let gone =
        |name: &Username| matches!(endpoints.get(name.as_str()), None | Some(Reach::Offline));
    Lost {
        count: number(were.clone().filter(|(name, _)| gone(name)).count()),
        of: number(were.count()),
    }
}

/// Whether what was seen looks rather like a failure of the PBX, or of what is before several of them, than
/// like the truth.
fn unlikely(
    endpoints: &BTreeMap<String, Reach>,
    memory: &Memory,
    lost: Lost,
    elsewhere: Lost,
) -> Option<Unlikely> {
    if is_empty(endpoints, memory) {
        return Some(Unlikely::Empty);
    }
    if lost.trips() {
        let scope = Scope::Pbx;
        return Some(Unlikely::Jump { scope, lost });
    }
    let together = lost.and(elsewhere);
    (lost.count > 0 && together.trips()).then_some(Unlikely::Jump {
        scope: Scope::Tenant,
        lost: together,
    })
}

/// Brings the registrations up to date; a time changes only together with the state. What went
/// offline did so at `offline_since`; `None`: that is not believed yet.
fn states(
    desired: &[Desired],
    endpoints: &BTreeMap<String, Reach>,
    mut memory: Memory,
    now: Timestamp,
    offline_since: Option<Timestamp>,
) -> Memory {
    let mut owners: BTreeMap<&Username, Vec<&Id>> = BTreeMap::new();
    for wanted in desired {
        owners
            .entry(&wanted.username)
            .or_default()
            .push(&wanted.account);
    }
    // An account that vanished keeps its times as long as its endpoint is there.
    memory
        .registrations
        .retain(|name, _| owners.contains_key(name) || endpoints.contains_key(name.as_str()));
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
            let since = if online { Some(now) } else { offline_since };
            let Some(since) = since else { continue };
            registration.online = online;
            registration.since = since;
            registration.history.note(online, since);
        }
        registration.ever_online |= online;
    }
    memory
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn plan(
    situation: &Situation<'_>,
    desired: &[Desired],
    endpoints: &BTreeMap<String, Reach>,
    memory: &Memory,
) -> Plan {
    let Situation {
        tombstones, now, ..
    } = *situation;
    let count = |reach| number(endpoints.values().filter(|seen| **seen == reach).count());
    let mut report = Report {
        endpoints: number(endpoints.len()),
        online: count(Reach::Online),
        offline: count(Reach::Offline),
        accounts: number(desired.len()),
        complete: situation.complete,
        rotating: number(desired.iter().filter(|desired| desired.rotating).count()),
        ..Report::default()
    };
    let wanted: BTreeSet<&Username> = in_order(desired.iter().map(|desired| &desired.username));
    let mut waits = Waits::default();

    let (mut mends, mut creates, mut adopts, mut fine) = (vec![], vec![], vec![], vec![]);
    for desired in desired {
        let name = &desired.username;
        if memory.waits(name, Some(desired), now) {
            waits.after_failure(name, memory);
            continue;
        }
        if !endpoints.contains_key(name.as_str()) {
            creates.push(Action::Create(desired.clone()));
        } else if let Some(pushed) = memory.pushed.get(name) {
            // KV is late: a revision below the one that was pushed is no news.
            if pushed.account != desired.account
                || pushed.rev < desired.rev
                || pushed.shape != situation.shape
            {
                mends.push(Action::Mend(desired.clone()));
            } else {
                fine.push(desired);
            }
        } else {
            adopts.push(Action::Adopt(desired.clone()));
        }
    }
    let deletes = deletes(situation, &wanted, memory, &mut report, &mut waits);
    report.waiting = waits.failed;
    for action in deletes.iter().chain(&mends).chain(&creates).chain(&adopts) {
        report.due.add(action);
    }
    if situation.complete {
        for name in endpoints.keys() {
            let ours = Username::try_from(name.as_str()).is_ok_and(|name| {
                wanted.contains(&name)
                    || tombstones.contains_key(&name)
                    || memory.pushed.contains_key(&name)
            });
            if !ours {
                report.unowned.add(name);
            }
        }
    }
    for name in &memory.vanished {
        report.vanished.add(name.as_str());
    }

    let mut actions = Vec::new();
    let mut round = situation.round.clone();
    if situation.mode == Mode::Push {
        let checks;
        (checks, round) = looks(situation, &fine);
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
        round,
        waits: waits.first,
        report,
    }
}

/// What waits, as far as it is spelled out.
#[derive(Default)]
struct Waits {
    first: Vec<Wait>,
    failed: u32,
}

impl Waits {
    fn add(
        &mut self,
        username: &Username,
        account: Option<&Id>,
        why: &'static str,
        until: Option<Timestamp>,
    ) {
        if self.first.len() < WAITS {
            self.first.push(Wait {
                username: username.clone(),
                account: account.cloned(),
                why,
                until,
            });
        }
    }

    fn after_failure(&mut self, username: &Username, memory: &Memory) {
        self.failed = self.failed.saturating_add(1);
        if let Some(trouble) = memory.troubles.get(username) {
            let until = Some(trouble.retry_at);
            self.add(
                username,
                trouble.account.as_ref(),
                trouble.why.word(),
                until,
            );
        }
    }
}

/// The deletes that are due, and what is held of them. An account that is wanted again, whatever
/// its tombstone says, is none; R2 decides when it comes to it.
fn deletes(
    situation: &Situation<'_>,
    wanted: &BTreeSet<&Username>,
    memory: &Memory,
    report: &mut Report,
    waits: &mut Waits,
) -> Vec<Action> {
    let Situation {
        tombstones,
        confirmed,
        now,
        ..
    } = *situation;
    let (mut let_pass, mut open) = (Vec::new(), Vec::new());
    for (name, at) in tombstones {
        if wanted.contains(name) {
            continue;
        }
        if memory.waits(name, None, now) {
            waits.after_failure(name, memory);
        } else if confirmed.has(name, *at) {
            let_pass.push(name);
        } else {
            open.push((name, *at));
        }
    }
    let at_pbx = (number(open.len()), memory.names(tombstones));
    let too_many = if trips(at_pbx.0, at_pbx.1) {
        Some((Scope::Pbx, at_pbx))
    } else if !open.is_empty() && trips(situation.at_tenant.0, situation.at_tenant.1) {
        Some((Scope::Tenant, situation.at_tenant))
    } else {
        None
    };
    if let Some((scope, (count, of))) = too_many {
        let since = situation.before.deletes.as_ref().map(|held| held.since);
        report.breaker.deletes = Some(Held {
            scope,
            count,
            of,
            since: since.unwrap_or(now),
            confirm: breaker::digest_of_deletes(tombstones),
        });
    }
    let mut deletes: Vec<Action> = Vec::new();
    for (name, at) in open {
        if too_many.is_some() {
            waits.add(name, None, "breaker", None);
        } else if now.since(at) < GRACE_S {
            report.grace = report.grace.saturating_add(1);
            waits.add(name, None, "grace", Some(at.plus(GRACE_S)));
        } else {
            let_pass.push(name);
        }
    }
    // A list that broke off is a reason to be careful, although a tombstone needs no list.
    if !situation.listing.failed {
        deletes.extend(let_pass.into_iter().cloned().map(Action::Delete));
    }
    deletes
}

/// The next looks at accounts that should be fine, in the order of their names, and where the round is
/// after them.
fn looks(situation: &Situation<'_>, fine: &[&Desired]) -> (Vec<Action>, Round) {
    let now = situation.now;
    let mut round = situation.round.clone();
    if round.began == Timestamp::default() {
        // What is there was pushed just now, or is adopted first.
        round.began = now;
        round.done = true;
    }
    if round.done {
        if now.since(round.began) < CHECK_AFTER_S {
            return (Vec::new(), round);
        }
        round = Round {
            began: now,
            ..Round::default()
        };
    }
    let mut left = fine.iter().filter(|desired| {
        round
            .after
            .as_ref()
            .is_none_or(|after| desired.username > *after)
    });
    let checks: Vec<Action> = left
        .by_ref()
        .take(situation.checks)
        .map(|desired| Action::Check((*desired).clone()))
        .collect();
    round.done = left.next().is_none();
    if let Some(last) = checks.last() {
        round.after = Some(last.username().clone());
    }
    (checks, round)
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
        let pushed = pushed_ones.iter().map(|(username, account, rev)| {
            let verified_at = Timestamp(NOW.0 - 60);
            let pushed = pushed(account, *rev);
            (
                name(username),
                Pushed {
                    verified_at,
                    ..pushed
                },
            )
        });
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

    /// A run that saw the whole list of accounts, or had none.
    struct Run<'a> {
        mode: Mode,
        desired: Option<&'a [Desired]>,
        marks: &'a [Mark],
        observed: Observed,
        tombstones: Tombstones,
        at_tenant: (u32, u32),
        lost_elsewhere: Lost,
        confirmed: Confirmed,
        before: Breaker,
        round: Round,
        now: Timestamp,
    }

    impl Default for Run<'_> {
        fn default() -> Self {
            Self {
                mode: Mode::Push,
                desired: Some(&[]),
                marks: &[],
                observed: seen(&[]),
                tombstones: Tombstones::default(),
                at_tenant: (0, 0),
                lost_elsewhere: Lost::default(),
                confirmed: Confirmed::default(),
                before: Breaker::default(),
                round: Round::default(),
                now: NOW,
            }
        }
    }

    fn listed(desired: Option<&[Desired]>) -> Listing {
        let accounts = desired.unwrap_or_default().iter().map(|desired| {
            let wanted = Wanted {
                username: desired.username.clone(),
                rev: desired.rev,
                rotating: desired.rotating,
            };
            let pbx = Some(id("main"));
            (
                desired.account.clone(),
                known::ListedAccount { pbx, wanted },
            )
        });
        Listing {
            accounts: accounts.collect(),
            to_the_end: desired.is_some(),
            failed: desired.is_none(),
            ..Listing::default()
        }
    }

    impl Run<'_> {
        fn look(self, memory: Memory) -> (Memory, Plan) {
            let situation = Situation {
                pbx: &id("main"),
                mode: self.mode,
                shape: "s",
                listing: &listed(self.desired),
                marks: self.marks,
                complete: self.desired.is_some(),
                observed: self.observed,
                tombstones: &self.tombstones,
                at_tenant: self.at_tenant,
                lost_elsewhere: self.lost_elsewhere,
                confirmed: &self.confirmed,
                before: &self.before,
                round: &self.round,
                checks: CHECKS,
                now: self.now,
            };
            look(&situation, memory)
        }
    }

    /// Tombstones of long ago.
    fn gone(names: &[&str]) -> Tombstones {
        let at = Timestamp::default();
        names.iter().map(|text| (name(text), at)).collect()
    }

    fn decide(case: Case<'_>) -> (Memory, Plan) {
        let run = Run {
            mode: case.mode,
            desired: case.desired,
            observed: case.observed,
            tombstones: gone(case.gone),
            ..Run::default()
        };
        run.look(case.memory)
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
        let run = |now, observed, memory| {
            let run = Run {
                desired: Some(&wanted),
                observed,
                now,
                ..Run::default()
            };
            run.look(memory)
        };
        let memory = remembering(&[("a", "a-a", 1), ("b", "a-b", 1), ("c", "a-c", 1)]);
        let others = || seen(&[("nobody", Reach::Online)]);
        let (memory, plan) = run(NOW, others(), memory);
        assert_eq!(
            (plan.actions.len(), plan.unknown.as_deref()),
            (0, Some("empty"))
        );
        let (memory, plan) = run(NOW.plus(120), others(), memory);
        assert_eq!(
            (plan.actions.len(), plan.unknown.as_deref()),
            (0, Some("empty"))
        );
        // One failure in between, and it starts anew.
        let (broken, _) = run(
            NOW.plus(150),
            Observed::Unknown("timed out".to_owned()),
            memory.clone(),
        );
        let (_, plan) = run(NOW.plus(180), others(), broken);
        assert_eq!(plan.unknown.as_deref(), Some("empty"));
        // Seen all the while: the PBX was set up anew, and gets its accounts back.
        let (_, plan) = run(NOW.plus(180), others(), memory);
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
        let run = |at: u64, online, memory| {
            let run = Run {
                desired: Some(&wanted),
                observed: all(online),
                now: NOW.plus(at),
                ..Run::default()
            };
            run.look(memory)
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
        let held = plan.report.breaker.offline.clone().unwrap();
        assert_eq!((held.count, held.of, held.since), (13, 15, NOW.plus(120)));
        // Nobody waits for their objects because of it.
        assert_eq!((plan.unknown, plan.actions.len()), (None, 20));
        assert_eq!(
            memory.registrations.values().filter(|r| r.online).count(),
            15
        );
        let (back, plan) = run(180, 15, memory.clone());
        assert_eq!((plan.unknown, back.doubt.clone()), (None, None));
        let (memory, plan) = run(300, 2, memory);
        assert_eq!(plan.unknown, None);
        assert_eq!(
            memory.registrations.values().filter(|r| r.online).count(),
            2
        );
        // And then that is when it was.
        let since = |at: u64| {
            let gone = memory.registrations.values().filter(|seen| !seen.online);
            gone.filter(|seen| seen.since == NOW.plus(at)).count()
        };
        assert_eq!((since(60), since(120), since(300)), (5, 13, 0));
        assert_eq!(memory.doubt, None);
        // An admin who knows better need not wait.
        let (doubting, _) = run(120, 2, back);
        let confirmed = |since| {
            let confirmed = Confirmed {
                offline: Some(since),
                ..Confirmed::default()
            };
            let run = Run {
                desired: Some(&wanted),
                observed: all(2),
                confirmed,
                now: NOW.plus(130),
                ..Run::default()
            };
            let (memory, plan) = run.look(doubting.clone());
            assert_eq!(plan.report.breaker.is_closed(), since == NOW.plus(120));
            memory.registrations.values().filter(|r| r.online).count()
        };
        assert_eq!(
            (confirmed(NOW.plus(119)), confirmed(NOW.plus(120))),
            (15, 2)
        );
    }

    #[test]
    fn few_phones_that_go_together_with_many_elsewhere_are_not_believed_at_once_either() {
        let names: Vec<String> = (0..40).map(|n| format!("n{n:02}")).collect();
        let wanted: Vec<Desired> = names
            .iter()
            .map(|name| desired(name, &format!("a-{name}"), 1))
            .collect();
        let all = |online: usize| {
            let reach = |n| {
                if n < online {
                    Reach::Online
                } else {
                    Reach::Offline
                }
            };
            let seen_ones: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(n, name)| (name.as_str(), reach(n)))
                .collect();
            seen(&seen_ones)
        };
        let run = |at: u64, online, elsewhere: (u32, u32), memory| {
            let run = Run {
                desired: Some(&wanted),
                observed: all(online),
                lost_elsewhere: Lost {
                    count: elsewhere.0,
                    of: elsewhere.1,
                },
                now: NOW.plus(at),
                ..Run::default()
            };
            run.look(memory)
        };
        let online = |memory: &Memory| memory.registrations.values().filter(|r| r.online).count();
        let (full, plan) = run(0, 20, (0, 0), Memory::default());
        assert_eq!(plan.report.lost, Lost { count: 0, of: 0 });
        // Three of twenty here, and seven of twenty elsewhere: ten of forty are too many.
        let (held, plan) = run(60, 17, (7, 20), full.clone());
        let offline = plan.report.breaker.offline.unwrap();
        assert_eq!(
            (offline.scope, offline.count, offline.of, offline.since),
            (Scope::Tenant, 10, 40, NOW.plus(60))
        );
        assert_eq!(
            (online(&held), plan.report.lost),
            (20, Lost { count: 3, of: 20 })
        );
        // All else goes on.
        assert_eq!((plan.unknown, plan.actions.len()), (None, 40));
        // Believed in the end, with the time at which it began, as long as the others are gone.
        let (gone, plan) = run(240, 17, (7, 20), held.clone());
        assert!(plan.report.breaker.is_closed());
        let since = |memory: &Memory, at: u64| {
            let gone = memory
                .registrations
                .values()
                .filter(|seen| !seen.online && seen.ever_online);
            gone.filter(|seen| seen.since == NOW.plus(at)).count()
        };
        assert_eq!((online(&gone), since(&gone, 60), gone.doubt), (17, 3, None));
        // One fewer elsewhere, or more that stay, and it is life.
        for elsewhere in [(6, 20), (7, 30), (0, 0)] {
            let (gone, plan) = run(60, 17, elsewhere, full.clone());
            assert!(plan.report.breaker.is_closed(), "{elsewhere:?}");
            assert_eq!((online(&gone), since(&gone, 60)), (17, 3), "{elsewhere:?}");
        }
        // Where nobody goes, nothing is held, whatever happens elsewhere; and whoever comes is believed.
        let (more, plan) = run(60, 30, (20, 20), full.clone());
        assert!(plan.report.breaker.is_closed());
        assert_eq!(online(&more), 30);
        // What is too much here alone is said as that.
        let (_, plan) = run(60, 5, (7, 20), full);
        assert_eq!(plan.report.breaker.offline.unwrap().scope, Scope::Pbx);
    }

    #[test]
    fn many_deletes_at_once_are_held_until_somebody_confirms_exactly_them() {
        let names: Vec<String> = (0..40).map(|n| format!("n{n:02}")).collect();
        let pushed: Vec<(&str, &str, u64)> = names.iter().map(|n| (n.as_str(), "a", 1)).collect();
        let there: Vec<(&str, Reach)> = names.iter().map(|n| (n.as_str(), Reach::Online)).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let new = [desired("new", "a-new", 1)];
        let run = |tombstones: Tombstones, confirmed: Confirmed, at_tenant| {
            let run = Run {
                desired: Some(&new),
                observed: seen(&there),
                tombstones,
                confirmed,
                at_tenant,
                ..Run::default()
            };
            let plan = run.look(remembering(&pushed)).1;
            let deletes = plan
                .actions
                .iter()
                .filter(|a| matches!(a, Action::Delete(_)));
            let creates = plan
                .actions
                .iter()
                .filter(|a| matches!(a, Action::Create(_)));
            // What is new is not held.
            assert_eq!(creates.count(), 1);
            (deletes.count(), plan)
        };
        let none = Confirmed::default;
        // Nine of forty are few, ten are not.
        let (deletes, plan) = run(gone(&all[..9]), none(), (9, 41));
        assert_eq!((deletes, plan.report.breaker.is_closed()), (9, true));
        let ten = gone(&all[..10]);
        let (deletes, plan) = run(ten.clone(), none(), (10, 41));
        let held = plan.report.breaker.deletes.unwrap();
        assert_eq!(
            (deletes, held.count, held.of, held.scope),
            (0, 10, 41, Scope::Pbx)
        );
        assert_eq!(plan.waits.len(), 10);
        assert!(plan.waits.iter().all(|wait| wait.why == "breaker"));
        assert_eq!(held.confirm, breaker::digest_of_deletes(&ten));
        // Few here, and many at the tenant's other PBXes.
        let (deletes, plan) = run(gone(&all[..3]), none(), (30, 100));
        let held = plan.report.breaker.deletes.unwrap();
        assert_eq!((deletes, held.scope, held.count), (0, Scope::Tenant, 30));
        // Confirmed: these, and no others.
        let confirmed = |deletes: &Tombstones| Confirmed {
            deletes: deletes.clone(),
            offline: None,
        };
        assert_eq!(run(ten.clone(), confirmed(&ten), (10, 41)).0, 10);
        let (deletes, plan) = run(gone(&all[..30]), confirmed(&ten), (30, 41));
        assert_eq!(
            (deletes, plan.report.breaker.deletes.unwrap().count),
            (10, 20)
        );
        let later = ten.keys().map(|name| (name.clone(), NOW)).collect();
        assert_eq!(run(later, confirmed(&ten), (10, 41)).0, 0);
    }

    #[test]
    fn a_delete_waits_for_its_grace() {
        let run = |at: u64, confirm: bool| {
            let tombstones = Tombstones::from([(name("a"), NOW)]);
            let confirmed = Confirmed {
                deletes: if confirm {
                    tombstones.clone()
                } else {
                    Tombstones::default()
                },
                offline: None,
            };
            let run = Run {
                observed: seen(&[("a", Reach::Online)]),
                tombstones,
                confirmed,
                now: NOW.plus(at),
                ..Run::default()
            };
            let plan = run.look(remembering(&[("a", "a-a", 1)])).1;
            (plan.actions.len(), plan.report.grace)
        };
        assert_eq!(run(GRACE_S - 1, false), (0, 1));
        assert_eq!(run(GRACE_S, false), (1, 0));
        assert_eq!(run(0, true), (1, 0));
    }

    #[test]
    fn what_was_pushed_is_known_without_any_list() {
        let memory = remembering(&[("a", "a-a", 3), ("b", "a-b", 1)]);
        // One is missing at the PBX, one is new, one is older than what was pushed.
        let marks = [desired("c", "a-c", 1), desired("a", "a-a", 2)].map(|desired| Mark {
            desired,
            gone: false,
        });
        let run = Run {
            desired: None,
            marks: &marks,
            observed: seen(&[("a", Reach::Online), ("z", Reach::Online)]),
            tombstones: gone(&["gone"]),
            ..Run::default()
        };
        let (memory, plan) = run.look(memory);
        let created: Vec<&str> = plan.actions.iter().map(|a| a.username().as_str()).collect();
        // And nothing is deleted, or said to be nobody's, by a run that could not list.
        assert_eq!(created, ["b", "c"]);
        assert!(plan.actions.iter().all(|a| matches!(a, Action::Create(_))));
        assert_eq!((plan.report.unowned.count, plan.report.accounts), (0, 3));
        // The mark may go now: it stays known until it is pushed.
        let run = Run {
            observed: seen(&[("a", Reach::Online), ("b", Reach::Online)]),
            ..Run::default()
        };
        let (mut memory, plan) = run.look(memory);
        assert_eq!(plan.actions, [Action::Create(marks[0].desired.clone())]);
        memory.note_pushed(&name("c"), super::tests::pushed("a-c", 1));
        assert_eq!(memory.wanted, BTreeMap::new());
    }

    #[test]
    fn a_late_list_takes_nothing_back() {
        let none = Tombstones::default();
        let learn = |memory: &mut Memory, shown: Desired| {
            memory.learn(&id("main"), &listed(Some(&[shown])), &[], &none, NOW);
        };
        // Pushed under its new name, and listed under the former one.
        let mut memory = remembering(&[("new", "a-a", 5)]);
        learn(&mut memory, desired("old", "a-a", 4));
        assert_eq!(memory.wanted, BTreeMap::new());
        learn(&mut memory, desired("newest", "a-a", 6));
        learn(&mut memory, desired("old", "a-a", 4));
        assert_eq!(memory.wanted[&id("a-a")].username, name("newest"));
    }

    #[test]
    fn only_the_part_that_was_listed_tells_what_vanished() {
        let old = |account: &str| Pushed {
            verified_at: Timestamp(NOW.0 - 60),
            ..pushed(account, 1)
        };
        let mut memory = Memory::default();
        for (username, account) in [("1", "a"), ("2", "b"), ("3", "c"), ("4", "d")] {
            memory.pushed.insert(name(username), old(account));
        }
        // Too new for KV to show.
        memory.pushed.insert(name("5"), pushed("b-new", 1));
        let mut part = listed(Some(&[desired("3", "c", 1)]));
        part.to_the_end = false;
        part.after = Some(id("a"));
        part.through = Some(id("c"));
        let none = Tombstones::default();
        memory.learn(&id("main"), &part, &[], &none, NOW);
        assert_eq!(memory.vanished, BTreeSet::from([name("2")]));
        // It is there again; and what broke off before it says nothing of the rest.
        part.accounts = listed(Some(&[desired("2", "b", 1), desired("3", "c", 1)])).accounts;
        memory.learn(&id("main"), &part, &[], &none, NOW);
        assert_eq!(memory.vanished, BTreeSet::new());
        // The account moved to another PBX: that is known, whatever this one's memory had.
        memory.wanted.insert(
            id("d"),
            Wanted {
                username: name("9"),
                rev: 1,
                rotating: false,
            },
        );
        let mut moved = listed(Some(&[desired("9", "d", 2)]));
        moved.accounts.get_mut(&id("d")).unwrap().pbx = Some(id("other"));
        memory.learn(&id("main"), &moved, &[], &none, NOW);
        assert_eq!(memory.wanted, BTreeMap::new());
    }

    #[test]
    fn a_time_changes_only_with_the_state() {
        let wanted = [desired("a", "a-a", 1)];
        let run = |at: u64, reach: Option<Reach>, desired: &[Desired], memory| {
            let endpoints = reach
                .map(|reach| ("a".to_owned(), reach))
                .into_iter()
                .collect();
            let now = NOW.plus(at);
            states(desired, &endpoints, memory, now, Some(now))
        };
        let shown = |memory: &Memory| {
            memory
                .registration(&name("a"))
                .map(|r| (r.online, r.since.since(NOW), r.ever_online))
        };
        let memory = run(0, None, &wanted, Memory::default());
        assert_eq!(shown(&memory), None);
        let memory = run(1, Some(Reach::Unknown), &wanted, memory);
        assert_eq!(shown(&memory), None);
        let memory = run(2, Some(Reach::Offline), &wanted, memory);
        assert_eq!(shown(&memory), Some((false, 2, false)));
        let memory = run(3, Some(Reach::Online), &wanted, memory);
        let memory = run(4, Some(Reach::Online), &wanted, memory);
        let memory = run(5, Some(Reach::Unknown), &wanted, memory);
        assert_eq!(shown(&memory), Some((true, 3, true)));
        let memory = run(6, None, &wanted, memory);
        assert_eq!(shown(&memory), Some((false, 6, true)));
        // Another account takes the name: its phone never was online.
        let other = [desired("a", "a-b", 1)];
        assert_eq!(
            shown(&run(7, Some(Reach::Offline), &other, memory.clone())),
            Some((false, 7, false))
        );
        // It vanishes from the list: the time stays while the endpoint does.
        let memory = run(8, Some(Reach::Offline), &[], memory);
        assert_eq!(shown(&memory), Some((false, 6, true)));
        assert_eq!(shown(&run(9, None, &[], memory)), None);
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
            .map(|n| desired(&format!("n{n:04}"), &format!("acct{n:04}"), 1))
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
    }

    #[test]
    fn looks_go_round_and_rest_between_two_rounds() {
        let wanted: Vec<Desired> = (0..12)
            .map(|n| desired(&format!("n{n:02}"), &format!("acct{n:02}"), 1))
            .collect();
        let mut memory = Memory::default();
        for desired in &wanted {
            let pushed = pushed(desired.account.as_str(), 1);
            memory.pushed.insert(desired.username.clone(), pushed);
        }
        let names: Vec<&str> = wanted.iter().map(|d| d.username.as_str()).collect();
        let endpoints: Vec<(&str, Reach)> = names.iter().map(|n| (*n, Reach::Online)).collect();
        let run = |at: u64, round: Round| {
            let run = Run {
                desired: Some(&wanted),
                observed: seen(&endpoints),
                round,
                now: NOW.plus(at),
                ..Run::default()
            };
            let plan = run.look(memory.clone()).1;
            assert!(plan.actions.iter().all(Action::is_look));
            (plan.actions.len(), plan.round)
        };
        // What was pushed just now needs no look.
        let (none, round) = run(0, Round::default());
        assert_eq!((none, round.done), (0, true));
        assert_eq!(run(CHECK_AFTER_S - 1, round.clone()).0, 0);
        let (five, round) = run(CHECK_AFTER_S, round);
        assert_eq!(
            (five, round.after.clone(), round.done),
            (5, Some(name("n04")), false)
        );
        let (five, round) = run(CHECK_AFTER_S + 60, round);
        let (two, round) = run(CHECK_AFTER_S + 120, round);
        assert_eq!((five, two, round.done), (5, 2, true));
        assert_eq!(run(2 * CHECK_AFTER_S - 1, round.clone()).0, 0);
        assert_eq!(run(2 * CHECK_AFTER_S, round).0, 5);
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
                    let missing = !at.contains_key(name);
                    memory.note_not_here(name, &desired.account, missing);
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
            // An account has one name.
            let account = |name: &Username, n: u8| id(&format!("{name}-{n}"));
            let truth: BTreeMap<Username, (Id, u64)> = truth.into_iter().map(|(name, (n, rev))| { let account = account(&name, n); (name, (account, rev)) }).collect();
            let start: Model = there.into_iter().map(|(name, mark)| { let mark = mark.map(|(n, rev)| (account(&name, n), rev)); (name, mark) }).collect();
            // A memory may be wrong in anything but for revisions that never were.
            let mut memory = Memory::default();
            for (username, (n, rev)) in recalled {
                let most = truth.get(&username).map_or(rev, |(_, real)| rev.min(*real));
                let really = start.get(&username).and_then(Option::as_ref);
                let (account, rev) = really.cloned().unwrap_or_else(|| (account(&username, n), most));
                memory.pushed.insert(username, Pushed { account, rev, shape: "s".to_owned(), verified_at: NOW, since: None });
            }
            let mut at = start.clone();
            let mut tombstones: BTreeSet<Username> = gone.iter().cloned().collect();
            let mut rest = false;
            let mut round = Round::default();
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
                let run = Run {
                    desired: Some(&wanted),
                    observed: Observed::Endpoints(endpoints),
                    tombstones: tombstones.iter().map(|name| (name.clone(), Timestamp::default())).collect(),
                    round: round.clone(),
                    now,
                    ..Run::default()
                };
                let (after, plan) = run.look(memory);
                memory = after;
                round = plan.round;
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
