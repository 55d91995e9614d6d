//! How far a phone is: from what it fetched, and from what its PBX says of its accounts.

use crate::ami::{self, Contacts, Finding, Matched};
use crate::mac::Mac;
use crate::reconcile::Registration;
use crate::record::Stored;
use crate::record::account::Account;
use crate::record::device::Device;
use crate::text::Id;
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

/// A line of a phone, and its account.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Which line.
    pub line: u8,
    /// Its account.
    pub id: &'a Id,
    /// That account's record.
    pub account: &'a Stored<Account>,
}

impl LineState {
    /// What a PBX says of a phone's line: `seen` of its account, and `contacts` of who is registered from
    /// where.
    #[must_use]
    pub fn of(
        mac: Mac,
        device: &Stored<Device>,
        named: &Named<'_>,
        seen: Option<&Registration>,
        contacts: Option<&Contacts>,
    ) -> Self {
        let account = named.account;
        let mut state = Self {
            line: named.line,
            account: named.id.clone(),
            online: seen.map(|seen| (seen.online, seen.since)),
            ever_online: seen.is_some_and(|seen| seen.ever_online),
            shared: account.state.devices.len() > 1,
            findings: Vec::new(),
        };
        let contacts = contacts.and_then(|all| all.get(&account.record.username));
        // Seen minutes ago: of an account that nobody is registered with by now they tell nothing.
        if let (Some((true, since)), Some(contacts)) = (state.online, contacts) {
            let matched = ami::match_contacts(contacts, mac, &account.state.devices);
            let from = device.state.fetched_from.as_deref();
            state.findings = ami::findings(&matched, device.record.vendor, from);
            state.tell_apart(&matched, since);
        }
        state
    }

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
