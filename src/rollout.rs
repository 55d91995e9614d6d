//! A change of a profile's settings, or new templates, go to some phones first, the canaries. If they lose
//! their registration with it, it stops and they get back what they had; if they keep it, all get it.
//!
//! Of templates see [`templates`]. What is kept of a profile's settings: in the profile itself (one object with the settings, so that nobody ever reads the one
//! without the other) the settings that everybody else goes on having and how far it is ([`Rollout`]); under
//! `regenerate/rollout/…` what was seen of the canaries ([`Progress`]). Who is one is a hash below a
//! threshold: no list that a phone's request would have to read. Here are the decisions; the scheduled
//! handler (`tick/rollout.rs`) gathers what they need.

pub mod templates;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::audit::Event;
use crate::fault::Fault;
use crate::finish;
use crate::gather::in_order;
use crate::key::{self, Kind, Regenerated};
use crate::mac::Mac;
use crate::ports::World;
use crate::reconcile::Memory;
use crate::record::Stored;
use crate::record::device::{Device, FileSet};
use crate::record::profile::Profile;
use crate::record::settings::{Locked, Settings};
use crate::record::tenant::{RolloutTerms, Tenant};
use crate::resync;
use crate::store;
use crate::text::{Id, Username};
use crate::time::Timestamp;
use crate::vendor::VendorId;

/// The most canaries, whatever the share: what a run can look after.
pub const MOST_CANARIES: usize = 500;

/// How long it is waited for proof, in seconds: a poll timer may be up to a day, and an office closed.
pub const GIVE_UP_S: u64 = 7 * 86_400;

/// How long a phone must be seen without its registration before it is lost, in seconds: one that
/// restarts with its new files is back by then.
pub const LOST_AFTER_S: u64 = 300;

/// That not all phones have a profile's settings yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// What all have but the canaries: the settings from before the first of the saves that are rolled out.
    pub former: Settings,
    /// Those of them that were locked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub former_locked: Locked,
    /// The profile's edition with the settings that are rolled out; with it each roll-out chooses anew.
    pub edition: u64,
    /// When it began.
    pub since: Timestamp,
    /// Whether canaries had other settings of an earlier roll-out that this one replaced: then all files
    /// are looked at, not those of its own canaries alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// How far it is.
    pub stage: Stage,
}

/// How far a roll-out is. One that is over is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nobody has the new settings yet.
    Choosing,
    /// The canaries have them.
    Canary(Canary),
    /// Nobody has them any more, until somebody says what is to be.
    Stopped(Stopped),
}

impl Stage {
    /// A device whose hash is below this has, or had, what is new.
    #[must_use]
    pub fn below(&self) -> u64 {
        match self {
            Self::Choosing => 0,
            Self::Canary(Canary { below, .. }) | Self::Stopped(Stopped { below, .. }) => *below,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Choosing => "choosing",
            Self::Canary(_) => "canary",
            Self::Stopped(_) => "stopped",
        }
    }
}

/// What is rolled out: one roll-out, and no later one of the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The settings of a profile that it got with this edition.
    Profile {
        /// Which.
        id: Id,
        /// [`Rollout::edition`].
        edition: u64,
    },
    /// Templates, of a tenant's phones of a vendor.
    Templates {
        /// Whose phones.
        tenant: Id,
        /// Who made them.
        vendor: VendorId,
        /// [`templates::Rollout::number`].
        number: u32,
    },
}

impl Subject {
    /// Where a device stands in its order.
    #[must_use]
    pub fn place(&self, mac: Mac) -> u64 {
        match self {
            Self::Profile { id, edition } => place(id.as_str(), *edition, mac),
            Self::Templates {
                tenant,
                vendor,
                number,
            } => place(&templates::name(tenant, *vendor), u64::from(*number), mac),
        }
    }

    /// Whether a device is one that it is about, and a phone is to be expected there.
    #[must_use]
    pub fn is_about(&self, device: &Stored<Device>) -> bool {
        let record = &device.record;
        device.alive()
            && record.enabled
            && !record.decoy
            && match self {
                // A phone that is held to a version gets no settings of today.
                Self::Profile { id, .. } => {
                    device.state.pinned.is_none() && record.profile.as_ref() == Some(id)
                }
                Self::Templates { tenant, vendor, .. } => {
                    record.tenant == *tenant && record.vendor == *vendor
                }
            }
    }

    /// Whether files are made with what is new.
    fn shows_in(&self, files: &FileSet, begun: &Canary) -> bool {
        match self {
            Self::Profile { id, .. } => {
                let key = key::record(Kind::Profile, id.as_str());
                let made_of = files.sources.records.get(&key).copied();
                made_of.is_some_and(|rev| rev >= begun.rev)
            }
            Self::Templates { number, .. } => files.sources.templates >= *number,
        }
    }

    /// What is said of it, with the vendor and the number where the resource does not say all.
    #[must_use]
    pub fn named(&self, event: Event) -> Event {
        match self {
            Self::Profile { .. } => event,
            Self::Templates { vendor, number, .. } => event
                .with("vendor", vendor.name())
                .with("templates", number.to_string()),
        }
    }

    /// Its path in the admin API without `/api/v1/`: that of the record that it belongs to.
    #[must_use]
    pub fn resource(&self) -> String {
        match self {
            Self::Profile { id, .. } => format!("{}/{id}", Kind::Profile.collection()),
            Self::Templates { tenant, .. } => format!("{}/{tenant}", Kind::Tenant.collection()),
        }
    }
}

/// A step of a roll-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The canaries, whose hash is below this, get what is new.
    Begin {
        /// [`Canary::below`].
        below: u64,
    },
    /// It stops.
    Stop(Why, Counts),
    /// All get it, if it is open; or, said by an admin, also if it was stopped.
    Everybody {
        /// Whether an admin says so.
        stopped_too: bool,
    },
}

/// The stage in which the canaries have the new settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// A device whose hash is below this is one.
    pub below: u64,
    /// Since when.
    pub at: Timestamp,
    /// The revision, of the profile or the tenant, that it began with. From that one of a profile on files have
    /// its settings.
    pub rev: u64,
}

/// The stage in which nobody has them any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Who had them: [`Canary::below`], or 0.
    pub below: u64,
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub why: Why,
    /// What was seen of the canaries.
    #[serde(default)]
    pub counts: Counts,
}

/// Why a roll-out was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Too many canaries lost their registration.
    Lost,
    /// No canary fetched the new files and stayed registered, in all the time that there was.
    NotProved,
    /// An admin said so.
    Admin,
}

impl Why {
    /// The word in answers and in the audit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::NotProved => "not_proved",
            Self::Admin => "admin",
        }
    }
}

/// What was seen of the canaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Counts {
    /// How many devices it is about, decoys and those that are switched off left out.
    pub devices: u32,
    /// How many of them are canaries.
    pub canaries: u32,
    /// How many of those fetched files that the change shows in.
    pub fetched: u32,
    /// How many of those that fetched had been registered before and are not any more.
    pub lost: u32,
}

/// Whose files differ from what they were before a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concerned {
    /// Nobody's.
    Nobody,
    /// The canaries'.
    Canaries(Canaries),
    /// Perhaps everybody's.
    Everybody,
}

/// Which devices are canaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canaries {
    name: String,
    edition: u64,
    below: u64,
}

impl Canaries {
    /// [`Rollout::edition`], or [`templates::Rollout::number`].
    #[must_use]
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// Whether a device that it is about is one.
    #[must_use]
    pub fn has(&self, mac: Mac) -> bool {
        place(&self.name, self.edition, mac) < self.below
    }
}

/// Where a device stands in the order of a roll-out: as good as chance, and the same each time. `name`: the
/// profile, or [`templates::name`].
#[must_use]
pub fn place(name: &str, edition: u64, mac: Mac) -> u64 {
    let digest = Sha256::digest(format!("rollout/{name}/{edition}/{mac}").as_bytes());
    digest
        .first_chunk::<8>()
        .map_or(0, |start| u64::from_be_bytes(*start))
}

impl Rollout {
    /// What a save makes of it: `former` and `next` are the profile before and after, `edition`
    /// and `now` the save's.
    #[must_use]
    pub fn after_save(
        before: Option<&Self>,
        former: &Profile,
        next: &Profile,
        edition: u64,
        now: Timestamp,
    ) -> Option<Self> {
        let (former, next) = (of_record(former), of_record(next));
        if former == next {
            return before.cloned();
        }
        // The first former ones: what the others have.
        let everybodys = before.map_or(former, Self::former);
        if everybodys == next {
            return None;
        }
        let (settings, locked) = everybodys;
        Some(Self {
            former: settings.clone(),
            former_locked: locked.clone(),
            edition,
            since: now,
            again: before.is_some_and(|before| before.again || before.below() > 0),
            stage: Stage::Choosing,
        })
    }

    /// What all have but the canaries.
    fn former(&self) -> (&Settings, &Locked) {
        (&self.former, &self.former_locked)
    }

    /// Whether something is still to be decided.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Stopped(_))
    }

    fn below(&self) -> u64 {
        self.stage.below()
    }

    fn canaries(&self, profile: &str) -> Canaries {
        Canaries {
            name: profile.to_owned(),
            edition: self.edition,
            below: self.below(),
        }
    }

    /// Whether a device has the new settings.
    #[must_use]
    pub fn reaches(&self, profile: &str, mac: Mac) -> bool {
        matches!(self.stage, Stage::Canary(_)) && self.canaries(profile).has(mac)
    }

    /// Whose files are to be made again for the stage that it is in; `edition`: the profile's own. A later
    /// one is a save of something that is not held back, a password.
    #[must_use]
    pub fn concerned(&self, profile: &str, edition: u64) -> Concerned {
        if self.again || self.edition != edition {
            Concerned::Everybody
        } else if self.below() == 0 {
            Concerned::Nobody
        } else {
            Concerned::Canaries(self.canaries(profile))
        }
    }

    /// Stops it.
    pub fn stop(&mut self, why: Why, counts: Counts, now: Timestamp) {
        self.stage = Stage::Stopped(Stopped {
            below: self.below(),
            at: now,
            why,
            counts,
        });
    }
}

fn of_record(profile: &Profile) -> (&Settings, &Locked) {
    (&profile.settings, &profile.locked)
}

/// The settings of a profile that a device has, and those that are locked.
#[must_use]
pub fn settings<'a>(profile: &'a Stored<Profile>, id: &Id, mac: Mac) -> (&'a Settings, &'a Locked) {
    match &profile.state {
        Some(rollout) if !rollout.reaches(id.as_str(), mac) => rollout.former(),
        _ => of_record(&profile.record),
    }
}

/// What a run knows of a roll-out that is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// When the one began that it is about.
    pub since: Timestamp,
    /// How many devices that it is about were seen.
    pub devices: u32,
    /// How far it is.
    pub phase: Phase,
    /// The canaries that were looked at, in no order.
    pub canaries: Vec<Watched>,
}

/// How far a run is with a roll-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It goes through the tenant's devices.
    Listing {
        /// The last one.
        after: Option<Mac>,
        /// The first of those that it is about in the order of [`place`], at most [`MOST_CANARIES`].
        first: Vec<(u64, Mac)>,
    },
    /// It looks which canaries are registered before they get anything new.
    Baseline {
        /// [`Canary::below`].
        below: u64,
        /// Those that it did not look at yet.
        left: Vec<Mac>,
    },
    /// That is known.
    Watching {
        /// [`Canary::below`].
        below: u64,
    },
}

impl Progress {
    /// What was seen of the canaries by now.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> Counts {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (mut fetched, mut lost) = (0, 0);
        for canary in &self.canaries {
            fetched += usize::from(canary.fetched.is_some());
            lost += usize::from(canary.is_lost(now));
        }
        Counts {
            devices: self.devices,
            canaries: number(self.canaries.len()),
            fetched: number(fetched),
            lost: number(lost),
        }
    }
}

impl Default for Phase {
    fn default() -> Self {
        Self::Listing {
            after: None,
            first: Vec::new(),
        }
    }
}

/// Keeps a device if it is among the first.
pub fn keep_first(first: &mut Vec<(u64, Mac)>, place: u64, mac: Mac) {
    let at = first.partition_point(|kept| *kept < (place, mac));
    if at < MOST_CANARIES {
        first.insert(at, (place, mac));
        first.truncate(MOST_CANARIES);
    }
}

/// Which of the `first` of so many devices are the canaries, at least one, and the threshold that says so;
/// `None` if there is no device.
#[must_use]
pub fn choose(first: &[(u64, Mac)], devices: u32, terms: &RolloutTerms) -> Option<(u64, Vec<Mac>)> {
    let share = u64::from(devices)
        .saturating_mul(terms.canary_percent.get())
        .div_ceil(100);
    let count = usize::try_from(share).unwrap_or(usize::MAX).max(1);
    let canaries = first.get(..count).unwrap_or(first);
    let (last, _) = canaries.last()?;
    Some((
        last.saturating_add(1),
        canaries.iter().map(|(_, mac)| *mac).collect(),
    ))
}

/// A canary, as a run sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Which.
    pub mac: Mac,
    /// Its lines whose accounts are on it alone: of another one nobody knows whose registration it is.
    pub lines: Vec<Line>,
    /// The version of the first files that were made with what is new, once there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Whether what is new does not show in its files. It proves nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same: bool,
    /// When it fetched them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<Timestamp>,
    /// Since when it is seen without its registration after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Timestamp>,
}

/// A line of a canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The account.
    pub account: Id,
    /// Its PBX.
    pub pbx: Id,
    /// Its name there.
    pub username: Username,
    /// Whether it was registered before.
    pub was: bool,
}

impl Line {
    /// Whether a PBX says that it is registered; `None` if it says nothing of it.
    #[must_use]
    pub fn is_registered(&self, memory: &Memory) -> Option<bool> {
        let seen = memory.registration(&self.username)?;
        (seen.account == self.account && !seen.missing).then_some(seen.online)
    }
}

/// Whether a phone is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A line of it is.
    Online,
    /// No line of it is that was.
    Offline,
    /// Nobody can say.
    Unknown,
}

impl Watched {
    /// Whether it is registered, as the PBXes say that gave a clear answer.
    #[must_use]
    pub fn standing(&self, clear: &BTreeMap<Id, Memory>) -> Standing {
        let said = |line: &Line| line.is_registered(clear.get(&line.pbx)?);
        if self.lines.iter().any(|line| said(line) == Some(true)) {
            return Standing::Online;
        }
        let mut were = self.lines.iter().filter(|line| line.was).peekable();
        if were.peek().is_some() && were.all(|line| said(line) == Some(false)) {
            Standing::Offline
        } else {
            Standing::Unknown
        }
    }

    /// Takes in what is stored of its device; false if it tells nothing any more: another profile, other
    /// lines, a user who is logged in. `lines`: those that it has now, as [`Watched::lines`] has them.
    pub fn look(
        &mut self,
        device: &Stored<Device>,
        subject: &Subject,
        begun: &Canary,
        lines: &[Line],
    ) -> bool {
        let same_line = |a: &Line, b: &Line| {
            (&a.account, &a.pbx, &a.username) == (&b.account, &b.pbx, &b.username)
        };
        let had_lines = !self.lines.is_empty();
        self.lines
            .retain(|line| lines.iter().any(|now| same_line(line, now)));
        if !subject.is_about(device) || (had_lines && self.lines.is_empty()) {
            return false;
        }
        let Some(files) = &device.state.files else {
            return true;
        };
        if !subject.shows_in(files, begun) {
            return true;
        }
        if self.version.is_none() {
            self.version = Some(files.version);
            self.same = files.made_at < begun.at;
        }
        let seen = device.state.seen;
        let seen = seen.configured.or(seen.booted);
        let has = seen.filter(|seen| Some(seen.version) >= self.version);
        if self.fetched.is_none() && !self.same {
            self.fetched = has.map(|seen| seen.at);
        }
        true
    }

    /// Whether it was seen without its registration for long enough.
    fn is_lost(&self, now: Timestamp) -> bool {
        let lost = self.lost;
        lost.is_some_and(|since| now.since(since) >= LOST_AFTER_S)
    }

    /// Whether its loss would tell something.
    fn counts(&self) -> bool {
        self.fetched.is_some() && self.lines.iter().any(|line| line.was)
    }
}

/// Notes who of the canaries is seen without a registration, and who is not any more. Says whose device
/// has to be looked at before it is believed of them.
pub fn note_standing(canaries: &mut [Watched], clear: &BTreeMap<Id, Memory>) -> Vec<Mac> {
    let mut doubtful = Vec::new();
    for canary in canaries.iter_mut().filter(|canary| canary.counts()) {
        match canary.standing(clear) {
            Standing::Offline if canary.lost.is_none() => doubtful.push(canary.mac),
            Standing::Offline => {}
            // After an answer that says nothing it is to be seen anew.
            Standing::Online | Standing::Unknown => canary.lost = None,
        }
    }
    doubtful
}

/// How many others at the same PBXes lost their registration since the canaries have their files, of how
/// many: what hits them all is not the settings.
#[must_use]
pub fn others(canaries: &[Watched], clear: &BTreeMap<Id, Memory>, since: Timestamp) -> (u32, u32) {
    let lines = canaries.iter().flat_map(|canary| &canary.lines);
    let own: BTreeSet<&Id> = in_order(lines.map(|line| &line.account));
    let (mut lost, mut of) = (0_u32, 0_u32);
    let all = clear
        .values()
        .flat_map(|memory| memory.registrations.values());
    for seen in all.filter(|seen| !own.contains(&seen.account)) {
        let gone = !seen.online && seen.ever_online && !seen.missing && seen.since >= since;
        lost += u32::from(gone);
        of += u32::from(gone || seen.online);
    }
    (lost, of)
}

/// What is to become of a roll-out whose canaries have their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// All get them.
    Everybody,
    /// It stops.
    Stop(Why),
}

/// Counts the canaries, and says what is to become of the roll-out.
///
/// One phone alone that is lost, of several that fetched, may have been unplugged: it stops nothing before the
/// time is over. `others`: as of [`others`]; as large a share of the canaries as of them may be lost beside what
/// the tenant allows.
#[must_use]
pub fn verdict(
    progress: &Progress,
    terms: &RolloutTerms,
    begun: Timestamp,
    clear: &BTreeMap<Id, Memory>,
    others: (u32, u32),
    now: Timestamp,
) -> (Counts, Verdict) {
    let canaries = &progress.canaries;
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let count = |what: &dyn Fn(&&Watched) -> bool| number(canaries.iter().filter(what).count());
    let of = count(&|canary| canary.counts());
    let offline = count(&|canary| canary.counts() && canary.standing(clear) == Standing::Offline);
    // Whoever is seen again is lost no more (`note_standing`).
    let counts = progress.counts(now);
    let lost = counts.lost;
    let (others_lost, others_of) = (u64::from(others.0), u64::from(others.1.max(1)));
    let allowed = terms.max_lost_percent.get() * others_of + 100 * others_lost;
    let too_many = |count: u32| u64::from(count) * 100 * others_of > u64::from(of) * allowed;
    if too_many(lost) && lost >= of.min(2) {
        return (counts, Verdict::Stop(Why::Lost));
    }
    let enough_s = terms.minutes.get() * 60;
    let long_enough = |since: Timestamp| now.since(since) >= enough_s;
    let had_it = |canary: &&Watched| canary.fetched.is_some_and(long_enough);
    if too_many(lost) && canaries.iter().any(|canary| had_it(&canary)) {
        return (counts, Verdict::Stop(Why::Lost));
    }
    let proved = canaries
        .iter()
        .any(|canary| had_it(&canary) && canary.standing(clear) == Standing::Online);
    // What shows in nobody's files can be seen at nobody.
    let nothing_shows = !canaries.is_empty() && canaries.iter().all(|canary| canary.same);
    if long_enough(begun) && (proved || nothing_shows) && !too_many(offline) {
        return (counts, Verdict::Everybody);
    }
    if now.since(begun) >= GIVE_UP_S {
        return (counts, Verdict::Stop(Why::NotProved));
    }
    (counts, Verdict::Wait)
}

/// The terms of a tenant that has its changes rolled out.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn terms<W: World>(world: &W, tenant: &Id) -> Result<Option<RolloutTerms>, Fault> {
    let loaded = store::load::<Tenant, W>(world, tenant.as_str()).await?;
    let alive = loaded.map(|loaded| loaded.stored).filter(Stored::alive);
    Ok(alive.and_then(|stored| stored.record.rollout))
}

/// Does a step of a roll-out if it is still the one that is under way, and what follows: KV's copy, the files.
/// False if there is nothing to do. An admin's `ETag` stays as it is.
///
/// # Errors
/// The [`Fault`] of a store. Cut off anywhere, the scheduled handler finishes it.
pub async fn turn<W: World>(world: &W, subject: &Subject, turn: Turn) -> Result<bool, Fault> {
    // Boxed, since whoever awaits it would be as large on the stack.
    match subject {
        Subject::Profile { id, edition } => Box::pin(of_profile(world, id, *edition, turn)).await,
        Subject::Templates {
            tenant,
            vendor,
            number,
        } => Box::pin(of_templates(world, tenant, *vendor, *number, turn)).await,
    }
}

async fn of_profile<W: World>(world: &W, id: &Id, edition: u64, turn: Turn) -> Result<bool, Fault> {
    let now = world.now();
    let mark = finish::begin(world, Kind::Profile, id.as_str()).await?;
    let mut turned = false;
    let updated = store::update::<Profile, W>(world, id.as_str(), |stored| {
        let rev = stored.rev + 1;
        let alive = stored.alive();
        let open = stored.state.as_mut();
        let open = open.filter(|rollout| alive && rollout.edition == edition);
        let Some(rollout) = open else {
            turned = false;
            return false;
        };
        turned = match turn {
            Turn::Begin { .. } => rollout.stage == Stage::Choosing,
            Turn::Stop(..) => rollout.is_open(),
            Turn::Everybody { stopped_too } => stopped_too || rollout.is_open(),
        };
        match turn {
            _ if !turned => {}
            Turn::Begin { below } => {
                let at = now;
                rollout.stage = Stage::Canary(Canary { below, at, rev });
            }
            Turn::Stop(why, counts) => rollout.stop(why, counts, now),
            Turn::Everybody { .. } => stored.state = None,
        }
        turned
    });
    updated.await?;
    if turned {
        finish::finish(world, Kind::Profile, id.as_str(), None).await?;
    }
    finish::done(world, &mark).await?;
    Ok(turned)
}

async fn of_templates<W: World>(
    world: &W,
    tenant: &Id,
    vendor: VendorId,
    number: u32,
    turn: Turn,
) -> Result<bool, Fault> {
    let now = world.now();
    let mut only = None;
    let turned = update_templates(world, tenant, |state, rev| {
        let turned = match turn {
            Turn::Begin { below } => {
                let at = now;
                state.begin_canary(vendor, number, Canary { below, at, rev })
            }
            Turn::Stop(why, counts) => state.stop(vendor, number, why, counts, now),
            Turn::Everybody { stopped_too } => state.release(vendor, number, stopped_too),
        };
        let rollout = state.rollouts.get(&vendor);
        only = rollout.map(|rollout| rollout.canaries(tenant, vendor));
        turned
    });
    let Some(mark) = turned.await? else {
        return Ok(false);
    };
    let what = Regenerated::TemplatesOf(tenant.as_str(), vendor);
    resync::regenerate(world, what, Some(tenant), only.as_ref()).await?;
    finish::done(world, &mark).await?;
    Ok(true)
}

/// Changes which templates a tenant's phones may have, and puts the copy of that into KV. `change` gets the
/// revision with which it is written, and returns false if there is nothing to do. What is returned is the mark of
/// it, for when everything that follows is done; cut off before that, the scheduled handler looks at all of the
/// tenant's files.
///
/// # Errors
/// The [`Fault`] of a store.
async fn update_templates<W: World>(
    world: &W,
    tenant: &Id,
    mut change: impl FnMut(&mut templates::Templates, u64) -> bool,
) -> Result<Option<finish::Mark>, Fault> {
    let mark = finish::begin(world, Kind::Tenant, tenant.as_str()).await?;
    let mut changed = false;
    let updated = store::update::<Tenant, W>(world, tenant.as_str(), |stored| {
        let (alive, rev) = (stored.alive(), stored.rev + 1);
        let state = stored.state.as_mut().filter(|_| alive);
        changed = state.is_some_and(|state| {
            let changed = change(state, rev);
            state.turns += u64::from(changed);
            changed
        });
        changed
    });
    updated.await?;
    if !changed {
        finish::done(world, &mark).await?;
        return Ok(None);
    }
    finish::tenant(world, tenant).await?;
    Ok(Some(mark))
}

/// Begins the roll-outs of a tenant's templates that are newer than what was said of them; false if there are
/// none.
///
/// # Errors
/// The [`Fault`] of a store. Cut off anywhere, the scheduled handler finishes it.
pub async fn begin_templates<W: World>(world: &W, tenant: &Id) -> Result<bool, Fault> {
    let now = world.now();
    let mut replaced: Vec<VendorId> = Vec::new();
    let begun = update_templates(world, tenant, |state, _| {
        let before = state.rollouts.clone();
        let begun = state.begin_rollouts(now);
        let tried = before.iter().filter(|(vendor, rollout)| {
            rollout.stage.below() > 0 && state.rollouts.get(*vendor) != Some(*rollout)
        });
        replaced = tried.map(|(vendor, _)| *vendor).collect();
        begun
    });
    let Some(mark) = begun.await? else {
        return Ok(false);
    };
    for vendor in replaced {
        // The canaries of the earlier one get back what they had.
        let what = Regenerated::TemplatesOf(tenant.as_str(), vendor);
        resync::regenerate(world, what, Some(tenant), None).await?;
    }
    finish::done(world, &mark).await?;
    Ok(true)
}
