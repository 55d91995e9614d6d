//! Which phone does not ring, and why: what is known of a device and its accounts, in sentences that
//! each name the next thing to do.
//!
//! In: what is stored of the device, its refusals, its accounts and their PBXes. Out: [`Diagnosis`]es.
//! Nothing is read here and nothing is guessed: where only a likely cause is known, the sentence says so.

use serde::Serialize;

use crate::mac::Mac;
use crate::reconcile::breaker::Scope;
use crate::reconcile::{Memory, Pushed, Registration, Trouble, Why as Failed};
use crate::record::Stored;
use crate::record::account::Account;
use crate::record::device::{Device, UserType, Whereabouts};
use crate::record::pbx::{Mode, Pbx, Srtp, Transport};
use crate::record::tenant::{Proof, Require};
use crate::refusal::Refusal;
use crate::rotation;
use crate::stage::Stage;
use crate::step2_redirect::{UrlTemplate, Why as Refused};
use crate::text::Id;
use crate::tick::{NOT_REACHED, OK, PbxSummary};
use crate::time::Timestamp;
use crate::transitions::FLAPPING_WITHIN_S;

/// How long after a save a run has surely seen it, in seconds: KV's list is a minute late, and the
/// next run is a minute away.
const SEEN_AFTER_S: u64 = 120;

/// What is the matter. The words are stable: a script may go by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "DiagnosisCode"))]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The device is a decoy.
    Decoy,
    /// The record is switched off.
    Disabled,
    /// The phone came from a new place and waits for its release.
    Quarantined,
    /// A second caller came for a window that was claimed.
    Contested,
    /// Whoever asks for the device is refused.
    Refused,
    /// Nobody ever asked for it.
    NeverAsked,
    /// It was told where its files are, and did not come for them.
    NotFetched,
    /// It has its BootFile and did not come for its ACC.
    NotConfigured,
    /// It has no line.
    NoLines,
    /// The account of a line is not there.
    AccountGone,
    /// The PBX of an account is not there.
    PbxGone,
    /// The profile of the device is not there.
    ProfileGone,
    /// The PBX cannot be asked.
    PbxUnreachable,
    /// The PBX says something so unlikely that it is not believed yet.
    PbxDoubtful,
    /// No run looked at the PBX since the account was saved.
    NotLookedYet,
    /// The PBX does not have the account yet.
    NotPushed,
    /// The PBX has no endpoint of the account's name, and Dialtone may not make one.
    EndpointMissing,
    /// The account's name is somebody else's at the PBX.
    PushCollision,
    /// The PBX does not take a value of the account.
    PushRefused,
    /// The PBX took the account and does not have it.
    PushNotKept,
    /// The PBX gave no clear answer.
    PushUnclear,
    /// The account's password cannot be opened.
    PushPassword,
    /// No object at a PBX can have the account's name.
    PushName,
    /// The phone has its files, the PBX its account, and it never registered.
    NeverRegistered,
    /// The port is the other transport's.
    PortOfOtherTransport,
    /// The phone has files with a password that was changed since.
    OldPassword,
    /// No account at the PBX ever registered.
    NobodyRegistered,
    /// Speech must be encrypted.
    SrtpRequired,
    /// The account is registered, by a phone that Dialtone gave nothing to.
    RegisteredElsewhere,
    /// The account is on several devices, and the PBX does not say which of them is registered.
    SharedAccount,
    /// It was registered and is not any more.
    Offline,
    /// It comes and goes.
    Flapping,
    /// It did not fetch the files that there are.
    OldFiles,
    /// A record that its files are made of was changed since they were made.
    ChangeWaiting,
}

/// One thing that is the matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Diagnosis {
    /// What.
    pub code: Code,
    /// The line that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u8>,
    /// Since when, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What that means, and what to do next.
    pub detail: String,
}

/// What is known of a device.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its MAC.
    pub mac: Mac,
    /// Its record and what is kept beside it.
    pub device: &'a Stored<Device>,
    /// How far it is.
    pub stage: Stage,
    /// [`crate::serve::ways_in`] of it.
    pub ways_in: &'a [Proof],
    /// The last time that somebody was refused who asked for it.
    pub refusal: Option<&'a Refusal>,
    /// Its lines in order.
    pub lines: &'a [LineFacts<'a>],
    /// [`crate::render::Ingredients::missing_profile`] of it.
    pub no_profile: Option<&'a Id>,
    /// How often it asks for its files by itself, in minutes.
    pub poll_minutes: u32,
    /// [`crate::render::Ingredients::outdate`] of its files.
    pub change_waits: bool,
    /// The time.
    pub now: Timestamp,
}

/// What is known of a line.
#[derive(Debug, Clone, Copy)]
pub struct LineFacts<'a> {
    /// Which line.
    pub line: u8,
    /// Its account's id.
    pub id: &'a Id,
    /// Its account; `None` if there is none, or its PBX is not there.
    pub account: Option<AccountFacts<'a>>,
    /// The PBX that its account is at, if that is not there.
    pub no_pbx: Option<&'a Id>,
}

/// What is known of an account. Where its phones registered from would stand here, for PBXes that
/// say it.
#[derive(Debug, Clone, Copy)]
pub struct AccountFacts<'a> {
    /// Its id.
    pub id: &'a Id,
    /// Its record and what is kept beside it.
    pub stored: &'a Stored<Account>,
    /// Its PBX.
    pub pbx: &'a Stored<Pbx>,
    /// What is remembered of that.
    pub memory: &'a Memory,
    /// What the last run says of it, and when that began.
    pub run: Option<(Timestamp, &'a PbxSummary)>,
}

impl<'a> AccountFacts<'a> {
    /// Whether its phones are registered. What was seen of the name while another account had it is
    /// not this one's.
    #[must_use]
    pub fn registration(&self) -> Option<&'a Registration> {
        let username = &self.stored.record.username;
        let known = self.memory.registration(username);
        known.filter(|known| known.account == *self.id)
    }

    /// What is at the PBX of it.
    #[must_use]
    pub fn pushed(&self) -> Option<&'a Pushed> {
        let pushed = self.memory.pushed.get(&self.stored.record.username);
        pushed.filter(|pushed| pushed.account == *self.id)
    }

    /// What kept it from getting there.
    #[must_use]
    pub fn trouble(&self) -> Option<&'a Trouble> {
        let trouble = self.memory.troubles.get(&self.stored.record.username);
        trouble.filter(|trouble| trouble.account.as_ref() == Some(self.id))
    }

    /// Whether more than one device has it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.stored.state.devices.len() > 1
    }
}

/// Everything that is the matter with a device, what is to be done first at the beginning; nothing if
/// it works.
#[must_use]
pub fn diagnose(facts: &Facts<'_>) -> Vec<Diagnosis> {
    let mut found = Found::default();
    let device = facts.device;
    if device.record.decoy {
        found.add(
            Code::Decoy,
            None,
            "No phone has this MAC: whoever asks for it is refused and raises an alarm. The audit has who \
             did (decoy.asked).",
        );
        return found.all;
    }
    if !device.record.enabled {
        let since = Some(device.updated_at);
        let path = format!(
            "The record says \"enabled\": false, so it is refused everything. PATCH /devices/{} {{\"enabled\": true}} \
             lets it in again.",
            facts.mac
        );
        found.add(Code::Disabled, since, path);
        return found.all;
    }
    facts.way_in(&mut found);
    facts.way_to_files(&mut found);
    facts.lines(&mut found);
    facts.files(&mut found);
    found.all
}

/// Everything that is the matter with an account by itself, whichever phone it is on.
#[must_use]
pub fn diagnose_account(account: &AccountFacts<'_>, now: Timestamp) -> Vec<Diagnosis> {
    let mut found = Found::default();
    let there = account.at_pbx(&mut found, now);
    if let Some(registration) = account.registration() {
        if there && registration.ever_online && !registration.online {
            let since = Some(registration.since);
            found.add(Code::Offline, since, OFFLINE);
        }
        flapping(&mut found, registration, now);
    }
    if account.is_shared() {
        account.shared(&mut found);
    }
    found.all
}

/// What is the matter with an account whose PBX is not there.
#[must_use]
pub fn diagnose_without_pbx(account: &Id, pbx: &Id) -> Vec<Diagnosis> {
    let mut found = Found::default();
    pbx_gone(&mut found, account, pbx);
    found.all
}

fn pbx_gone(found: &mut Found, account: &Id, pbx: &Id) {
    let detail = format!(
        "The account {account} is at the PBX {pbx}, and there is none: no phone gets it. PATCH \
         /accounts/{account} with another \"pbx\", or create that."
    );
    found.add(Code::PbxGone, None, detail);
}

const OFFLINE: &str = "It was registered and is not any more. See that the phone has power and network; if it is in use, \
     restart it.";

/// What was found so far.
#[derive(Default)]
struct Found {
    line: Option<u8>,
    all: Vec<Diagnosis>,
}

impl Found {
    fn add(&mut self, code: Code, since: Option<Timestamp>, detail: impl Into<String>) {
        let (line, detail) = (self.line, detail.into());
        self.all.push(Diagnosis {
            code,
            line,
            since,
            detail,
        });
    }

    fn has(&self, code: Code) -> bool {
        self.all.iter().any(|found| found.code == code)
    }
}

impl Facts<'_> {
    /// When the phone last did something that shows that it was let in.
    fn last_seen(&self) -> Option<Timestamp> {
        let seen = &self.device.state.seen;
        let fetched = [seen.booted, seen.configured].into_iter().flatten();
        fetched.map(|seen| seen.at).chain(seen.redirected).max()
    }

    fn way_in(&self, found: &mut Found) {
        let state = &self.device.state;
        let mac = self.mac;
        if let Some(quarantine) = &state.quarantine {
            let place = from(&quarantine.place);
            let detail = format!(
                "It came from {place}, which is new for it: it keeps what it has and gets nothing from \
                 there. If that is right, POST /devices/{mac}/release."
            );
            found.add(Code::Quarantined, Some(quarantine.at), detail);
        }
        if let Some(contested) = &state.contested {
            let claim = state.window.as_ref().and_then(|w| w.claim.as_ref());
            let claimed = claim.map_or_else(String::new, |claim| format!(" by {}", claim.source));
            let detail = format!(
                "Its window was claimed{claimed}, and {} came for it too. If that one is the phone, POST \
                 /devices/{mac}/arm: the other one loses what it got.",
                contested.source
            );
            found.add(Code::Contested, Some(contested.at), detail);
        }
        // A phone that got in since, and one that works, is not the one that was refused.
        let works = self.stage == Stage::Registered && !self.has_old_files();
        let refusal = self
            .refusal
            .filter(|refusal| !works && self.last_seen().is_none_or(|seen| seen < refusal.at));
        let covered = |why| match why {
            Refused::Contested => found.has(Code::Contested),
            Refused::Moved => found.has(Code::Quarantined),
            _ => false,
        };
        if let Some(refusal) = refusal.filter(|refusal| !covered(refusal.why)) {
            let detail = format!(
                "{} asked for it and was refused: {}",
                refusal.source,
                self.refused(refusal.why)
            );
            found.add(Code::Refused, Some(refusal.at), detail);
        } else if self.stage == Stage::Unseen && refusal.is_none() {
            found.add(Code::NeverAsked, None, self.never_asked());
        }
    }

    /// Why somebody was refused, and what to do if it was the phone.
    fn refused(&self, why: Refused) -> String {
        let mac = self.mac;
        let arm = format!("if it is the phone, POST /devices/{mac}/arm and restart it.");
        match why {
            Refused::Disabled => {
                "the record was switched off then; restart it now that it is not.".to_owned()
            }
            Refused::Place => {
                "it came from a country or network operator that is not among the tenant's \
                 \"places\"; add it there if it is the phone."
                    .to_owned()
            }
            Refused::Key => format!(
                "the first-access key in its URL is none of this device's that is still good. GET \
                 /devices/{mac}?secrets=1 has the one that is."
            ),
            Refused::NoProof => {
                let open = self.open();
                format!("nothing showed that it is the phone ({open}); {arm}")
            }
            Refused::Contested => {
                format!("another caller has claimed the window; {arm}")
            }
            Refused::PlainHttp => {
                "it came by plain http. Give the phone an https URL, or set the tenant's \
                 \"allow_plain_http\"."
                    .to_owned()
            }
            Refused::File => {
                "it asked for a file that no phone of this vendor asks for. See that the record's \
                 vendor is the right one."
                    .to_owned()
            }
            Refused::Guessing => format!(
                "its source asks for many MACs that nobody has, so that no window opens. Let it bring \
                 another proof: the first-access key of GET /devices/{mac}?secrets=1."
            ),
            Refused::Moved => format!("it comes from a new place. POST /devices/{mac}/release."),
            Refused::Revoked => format!(
                "its token was revoked, or rotated more than seven days ago. It must come by the RPS \
                 again ({}): reset the phone.",
                self.open()
            ),
            Refused::Unknown | Refused::Decoy => "nobody gets anything of this device.".to_owned(),
        }
    }

    /// What would let the phone in now, in words.
    fn open(&self) -> String {
        let words: Vec<String> = self.ways_in.iter().map(|proof| word(*proof)).collect();
        let all = self.device.state.policy.require == Require::All;
        match words.as_slice() {
            [] => "nothing would let it in".to_owned(),
            [one] => format!("what lets it in: {one}"),
            words if all => format!("what lets it in: all of {}", words.join(", ")),
            words => format!("what lets it in: any of {}", words.join(", ")),
        }
    }

    fn never_asked(&self) -> String {
        let mac = self.mac;
        let state = &self.device.state;
        let all = state.policy.require == Require::All;
        let enough = if all {
            self.ways_in.len() == state.policy.proofs.len()
        } else {
            true
        };
        if self.ways_in.is_empty() || !enough {
            return format!(
                "Nobody ever asked for it, and nothing would let it in as it is: POST /devices/{mac}/arm, \
                 or write its serial into the record."
            );
        }
        let armed = match &state.window {
            Some(window) if window.claim.is_none() && self.now < window.until => {
                format!("It is armed until {}", window.until)
            }
            Some(window) if window.claim.is_none() => {
                format!("Its window ended at {}", window.until)
            }
            _ => "It is not armed".to_owned(),
        };
        let open = self.open();
        format!(
            "Nobody ever asked for it. {armed}; {open}. Point the phone at the RPS (DHCP option 66, the \
             vendor's redirect service, or by hand) and restart it; see that the MAC is right."
        )
    }

    fn way_to_files(&self, found: &mut Found) {
        let seen = &self.device.state.seen;
        if let (Stage::Redirected, Some(at)) = (self.stage, seen.redirected) {
            let away = self.device.record.url.as_ref();
            let away = away.filter(|url| url.as_str() != UrlTemplate::SELF);
            let detail = match away {
                Some(url) => format!(
                    "It was told to go to {} and fetches its files there; what becomes of them is not seen \
                     here.",
                    url.as_str()
                ),
                None => "It was told where its files are and did not come for them. Restart it; if that does \
                     not help, it cannot reach the host of the URL or does not trust its certificate. A rule may \
                     have sent it to another server: POST /explain shows it."
                    .to_owned(),
            };
            found.add(Code::NotFetched, Some(at), detail);
        }
        if let (Stage::Booted, Some(booted)) = (self.stage, seen.booted) {
            let detail = "It fetched its BootFile and not its ACC. Restart it; if that does not help, look at \
                 its log, and that its model is the one in the record.";
            found.add(Code::NotConfigured, Some(booted.at), detail);
        }
    }

    fn lines(&self, found: &mut Found) {
        let record = self.device.host();
        if record.lines.is_empty() && record.user_type == UserType::Standard {
            let detail = format!(
                "It has no line, so there is nothing that it could register. PATCH /devices/{} with \
                 \"lines\".",
                self.mac
            );
            found.add(Code::NoLines, None, detail);
        }
        if let Some(profile) = self.no_profile {
            let detail = format!(
                "There is no profile {profile}: its settings come from the levels that there are. Give the device \
                 another one, or create that."
            );
            found.add(Code::ProfileGone, None, detail);
        }
        for line in self.lines {
            found.line = Some(line.line);
            match (&line.account, line.no_pbx) {
                (Some(account), _) => self.line(account, found),
                (None, Some(pbx)) => pbx_gone(found, line.id, pbx),
                (None, None) => {
                    let detail = format!(
                        "There is no account {}: the line is left out of the files. Give it another one, or \
                         create that.",
                        line.id
                    );
                    found.add(Code::AccountGone, None, detail);
                }
            }
        }
        found.line = None;
    }

    fn line(&self, account: &AccountFacts<'_>, found: &mut Found) {
        let there = account.at_pbx(found, self.now);
        let configured = self.device.state.seen.configured;
        let registration = account.registration();
        if let Some(registration) = registration {
            flapping(found, registration, self.now);
        }
        match (registration, configured) {
            (Some(seen), None) if seen.online && !account.is_shared() => {
                let detail = format!(
                    "{} is registered, and this phone never fetched its files here: another phone or program has \
                     the account's password. If that is not meant, POST /accounts/{}/rotate \
                     {{\"now\": true}}.",
                    account.stored.record.username, account.id
                );
                found.add(Code::RegisteredElsewhere, Some(seen.since), detail);
            }
            (Some(seen), _) if seen.online && account.is_shared() => account.shared(found),
            (Some(seen), _) if seen.online => {}
            (Some(seen), _) if seen.ever_online && there => {
                found.add(Code::Offline, Some(seen.since), OFFLINE);
                self.old_password(account, found);
            }
            (_, Some(configured)) if there => {
                let record = &account.pbx.record;
                let detail = format!(
                    "It has its files and never registered. It should send {} to {} port {} by {}: see that \
                     the phone reaches that, and what its own web page says of the line. Likely causes follow \
                     if any are known.",
                    account.stored.record.username,
                    record.sip.host,
                    record.sip.port(),
                    record.sip.transport.parameter()
                );
                found.add(Code::NeverRegistered, Some(configured.at), detail);
                self.old_password(account, found);
                account.causes(found);
            }
            _ => {}
        }
    }

    /// Whether the phone has files with a password that was changed since.
    fn old_password(&self, account: &AccountFacts<'_>, found: &mut Found) {
        let of_device = std::iter::once(self.device);
        let login_rev = account.stored.state.login_rev;
        if login_rev == 0
            || rotation::fetched(account.id, login_rev, of_device) != rotation::Fetched::NotAll
        {
            return;
        }
        let former = &account.stored.state.former_passwords;
        let works = match former.iter().map(rotation::until).max() {
            Some(until) => format!("The former one works until {until} at the latest."),
            None => "The former one works no more.".to_owned(),
        };
        let detail = format!(
            "The account's password was changed and the phone did not fetch the new one. {works} It asks every \
             {} minutes; restart it to make it ask now.",
            self.poll_minutes
        );
        let since = former.iter().map(|former| former.since).max();
        found.add(Code::OldPassword, since, detail);
    }

    /// Whether the phone fetched files, and others than those that there are.
    fn has_old_files(&self) -> bool {
        let state = &self.device.state;
        let there = state.files.as_ref().map(|files| files.version);
        state
            .seen
            .configured
            .zip(there)
            .is_some_and(|(seen, there)| seen.version < there)
    }

    fn files(&self, found: &mut Found) {
        let state = &self.device.state;
        let (Some(files), Some(seen)) = (&state.files, state.seen.configured) else {
            return;
        };
        let asks = format!(
            "It asks every {} minutes by itself; restart it to make it ask now.",
            self.poll_minutes
        );
        if self.has_old_files() {
            let detail = format!(
                "It has version {} of its files, and there is {}. {asks}",
                seen.version, files.version
            );
            found.add(Code::OldFiles, Some(files.made_at), detail);
        } else if self.change_waits {
            let detail = format!(
                "Its tenant, profile or PBX was changed since its files were made; if that changes them, it gets \
                 new ones when it asks next. {asks}"
            );
            found.add(Code::ChangeWaiting, None, detail);
        }
    }
}

impl AccountFacts<'_> {
    /// Whether the account is at its PBX as far as is known, so that the rest is up to the phone.
    fn at_pbx(&self, found: &mut Found, now: Timestamp) -> bool {
        let (record, pbx) = (&self.stored.record, &self.pbx.record);
        let outcome = self.run.map(|(_, summary)| summary.outcome.as_str());
        match outcome {
            Some("empty") => {
                let since = self.memory.doubt.as_ref().map(|doubt| doubt.since);
                let detail = format!(
                    "The PBX {} has none of its endpoints: nothing is concluded from that, or done, for three \
                     minutes. Look at the PBX.",
                    record.pbx
                );
                found.add(Code::PbxDoubtful, since, detail);
                return false;
            }
            Some(outcome) if outcome != OK && outcome != NOT_REACHED => {
                let since = self.run.and_then(|(_, summary)| summary.ok_at);
                found.add(
                    Code::PbxUnreachable,
                    since,
                    self.unreachable(outcome, since),
                );
                return false;
            }
            _ => {}
        }
        let held = self
            .run
            .and_then(|(_, summary)| summary.report.breaker.offline.as_ref());
        if let Some(held) = held {
            let (who, at) = match held.scope {
                Scope::Pbx => (format!("The PBX {}", record.pbx), "the PBX"),
                Scope::Tenant => ("The tenant's PBXes together".to_owned(), "them"),
            };
            let detail = format!(
                "{who} lost {} of {} phones at once: they are not taken for offline for three minutes. Look at {at}.",
                held.count, held.of
            );
            found.add(Code::PbxDoubtful, Some(held.since), detail);
            return false;
        }
        if let Some(trouble) = self.trouble() {
            let (code, what) = failed(trouble.why);
            let detail = format!(
                "The PBX {} does not have {}: {what} Tried {} times, next at {}.",
                record.pbx, record.username, trouble.times, trouble.retry_at
            );
            found.add(code, None, detail);
            return false;
        }
        let missing = self.registration().is_none_or(|seen| seen.missing);
        let saved = self.stored.updated_at.max(self.pbx.updated_at);
        let looked = self
            .run
            .is_some_and(|(at, _)| at >= saved.plus(SEEN_AFTER_S / 2));
        let absent = match pbx.mode {
            Mode::Observe => missing,
            Mode::Push => missing || self.pushed().is_none(),
        };
        if absent && !looked {
            let fresh = now.since(saved) < SEEN_AFTER_S;
            let detail = if fresh {
                format!(
                    "No run has looked at the PBX {} since it was saved: wait two minutes.",
                    record.pbx
                )
            } else {
                format!(
                    "No run has looked at the PBX {} since it was saved. Is the cron trigger deployed? GET /status \
                     says when the last run was.",
                    record.pbx
                )
            };
            found.add(Code::NotLookedYet, Some(saved), detail);
            return false;
        }
        match pbx.mode {
            Mode::Observe if missing => {
                let detail = format!(
                    "The PBX {} has no endpoint {} that it knows the state of, and in \"mode\": \"observe\" Dialtone makes none. Create it \
                     there, or set \"mode\": \"push\".",
                    record.pbx, record.username
                );
                found.add(Code::EndpointMissing, None, detail);
                false
            }
            Mode::Push if absent && self.pushed().is_none() => {
                let detail = format!(
                    "The PBX {} does not have {} yet; it is due in the next runs. GET /status says how many are.",
                    record.pbx, record.username
                );
                found.add(Code::NotPushed, Some(saved), detail);
                false
            }
            _ => true,
        }
    }

    fn unreachable(&self, outcome: &str, ok_at: Option<Timestamp>) -> String {
        let last = ok_at.map_or_else(
            || "It never answered well".to_owned(),
            |at| format!("It last answered well at {at}"),
        );
        let next = match outcome {
            "http 401" | "http 403" => {
                "see ari_username, ari_password, read_only in ari.conf, and the headers for Access"
            }
            "timed out" | "unreachable" => "see that Asterisk and its tunnel run",
            _ => "see ari_url, and that Asterisk runs behind it",
        };
        format!(
            "The PBX {} cannot be asked ({outcome}): {next}. {last}; until it does, what is said of \
             registrations may be as old as that.",
            self.stored.record.pbx
        )
    }

    /// What may keep a phone from registering that has all it needs.
    fn causes(&self, found: &mut Found) {
        let (pbx, name) = (&self.pbx.record, &self.stored.record.pbx);
        let sip = &pbx.sip;
        let other = match sip.transport {
            Transport::Tls => Transport::Udp,
            Transport::Udp | Transport::Tcp => Transport::Tls,
        };
        if sip.port() == other.default_port() {
            let detail = format!(
                "The PBX record {name} says {} on port {}, which is usually that of {}. See \"sip\" there.",
                sip.transport.parameter(),
                sip.port(),
                other.parameter()
            );
            found.add(Code::PortOfOtherTransport, None, detail);
        }
        let mut registrations = self.memory.registrations.values();
        if !registrations.any(|seen| seen.ever_online) {
            let detail = format!(
                "No account at the PBX {name} ever registered. See that \"sip\".\"host\" is reached from where the \
                 phones are, and that Asterisk's realm is \"{}\", as the record says.",
                pbx.realm.as_str()
            );
            found.add(Code::NobodyRegistered, None, detail);
        }
        if sip.srtp == Srtp::Required {
            let detail = format!(
                "The PBX {name} requires SRTP. That stops no registration, but a phone that cannot do it has \
                 no calls: look at this last."
            );
            found.add(Code::SrtpRequired, None, detail);
        }
    }

    fn shared(&self, found: &mut Found) {
        let since = self.registration().map(|seen| seen.since);
        let detail = format!(
            "{} is on {} devices, and the PBX says of all of them together whether one is registered: look at \
             the phone itself.",
            self.stored.record.username,
            self.stored.state.devices.len()
        );
        found.add(Code::SharedAccount, since, detail);
    }
}

fn flapping(found: &mut Found, registration: &Registration, now: Timestamp) {
    if registration.history.is_flapping(now) {
        let mut changes = registration.history.within_the_hour(now);
        let since = changes.next();
        let detail = format!(
            "It came and went {} times or more within {} minutes. Look at its network, at a NAT that forgets it \
             before it registers again (\"sip\".\"expires_s\"), and for a second phone with the same account.",
            changes.count() + 1,
            FLAPPING_WITHIN_S / 60
        );
        found.add(Code::Flapping, since, detail);
    }
}

/// What kept an account from a PBX, and what to do about it.
fn failed(why: Failed) -> (Code, &'static str) {
    match why {
        Failed::Collision => (
            Code::PushCollision,
            "an object of that name is there that Dialtone did not make, and it is never touched. Remove it, or \
             give the account another username.",
        ),
        Failed::Refused => (
            Code::PushRefused,
            "Asterisk refuses a value of it. See the PBX's \"context\" and Asterisk's log.",
        ),
        Failed::NotKept => (
            Code::PushNotKept,
            "Asterisk took it and does not have it. See sorcery.conf: auth, aor and endpoint each need a writable \
             wizard there.",
        ),
        Failed::Unclear => (
            Code::PushUnclear,
            "Asterisk gave no clear answer. See that it runs, and that ARI is not read_only.",
        ),
        Failed::Password => (
            Code::PushPassword,
            "no key opens its password. Was SEAL_KEY changed? Write a new password into the account.",
        ),
        Failed::Name => (
            Code::PushName,
            "no object at a PBX can have that name. Give the account another username.",
        ),
    }
}

fn word(proof: Proof) -> String {
    match proof {
        Proof::Serial => "serial",
        Proof::Certificate => "certificate",
        Proof::Key => "key",
        Proof::Window => "window",
        Proof::Network => "network",
    }
    .to_owned()
}

fn from(place: &Whereabouts) -> String {
    match (&place.country, place.asn) {
        (Some(country), Some(asn)) => format!("{country}, network operator {asn}"),
        (Some(country), None) => country.clone(),
        (None, Some(asn)) => format!("network operator {asn}"),
        (None, None) => "a place".to_owned(),
    }
}
