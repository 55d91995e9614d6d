//! How far a phone is: from what it fetched, and from what its PBX says of its accounts.

use crate::record::Stored;
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
}

impl LineState {
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
