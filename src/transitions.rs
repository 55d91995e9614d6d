//! When an account's phones came and went at a PBX, and which of that is to be told.
//!
//! All of it changes with a registration alone, so that a PBX at which nothing happens costs no write.
//! What is told is bounded: a phone that comes and goes all the time is told of every ten minutes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::reconcile::{Memory, Names};
use crate::text::{Id, Username};
use crate::time::Timestamp;

/// How many of the last changes are kept.
const KEPT: usize = 8;

/// Within which time, in seconds, changes count for [`History::is_flapping`].
pub const FLAPPING_WITHIN_S: u64 = 3_600;

/// With more changes than this a phone is flapping: it came back twice and went again.
pub const FLAPPING_ABOVE: usize = 4;

/// How long after it was told of a phone is not told of again, in seconds.
pub const TOLD_EVERY_S: u64 = 600;

/// With more phones than this that came or went at one PBX in one run, they are told of together: a PBX that
/// restarts is one thing that happened, not a thousand.
pub const MOST_ALONE: usize = 20;

/// When an account's phones came and went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When one was registered for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_online: Option<Timestamp>,
    /// When one came last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_online: Option<Timestamp>,
    /// When the last of them went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_offline: Option<Timestamp>,
    /// The last changes, at most eight, none of them an hour before the last one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recent: Vec<Timestamp>,
    /// How many changes were not told yet.
    #[serde(skip_serializing_if = "is_zero")]
    untold: u32,
    /// When it was told last.
    #[serde(skip_serializing_if = "Option::is_none")]
    told_at: Option<Timestamp>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl History {
    /// Whether nothing ever happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Notes that an account's first phone came, or its last one went.
    pub fn note(&mut self, online: bool, now: Timestamp) {
        if online {
            self.first_online.get_or_insert(now);
            self.last_online = Some(now);
        } else {
            self.last_offline = Some(now);
        }
        self.recent.retain(|at| now.since(*at) < FLAPPING_WITHIN_S);
        if self.recent.len() >= KEPT {
            self.recent.remove(0);
        }
        self.recent.push(now);
        self.untold = self.untold.saturating_add(1);
    }

    /// The changes within the last hour, oldest first; of more than eight the last ones.
    pub fn within_the_hour(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let recent = self.recent.iter().copied();
        recent.filter(move |at| now.since(*at) < FLAPPING_WITHIN_S)
    }

    /// Whether the phone comes and goes.
    #[must_use]
    pub fn is_flapping(&self, now: Timestamp) -> bool {
        self.within_the_hour(now).count() > FLAPPING_ABOVE
    }

    /// Whether there is something to tell, and it is time to.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        let rested = self.told_at.is_none_or(|at| now.since(at) >= TOLD_EVERY_S);
        self.untold > 0 && rested
    }

    /// Notes that it is told now: how many changes that are.
    pub fn tell(&mut self, now: Timestamp) -> u32 {
        self.told_at = Some(now);
        std::mem::take(&mut self.untold)
    }
}

/// An account whose phones came or went, and nobody was told yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Its name at the PBX.
    pub username: Username,
    /// The account.
    pub account: Id,
    /// How it is now.
    pub online: bool,
}

/// What is to be told of a PBX.
#[must_use]
pub fn due(memory: &Memory, now: Timestamp) -> Vec<Due> {
    let registrations = memory.registrations.iter();
    registrations
        .filter(|(_, registration)| registration.history.is_due(now))
        .map(|(username, registration)| Due {
            username: username.clone(),
            account: registration.account.clone(),
            online: registration.online,
        })
        .collect()
}

/// Notes that these were told: how many changes that are of each account.
pub fn tell(memory: &mut Memory, due: &[Due], now: Timestamp) -> BTreeMap<Id, u32> {
    let mut changes = BTreeMap::new();
    for due in due {
        if let Some(registration) = memory.registrations.get_mut(&due.username) {
            let told = registration.history.tell(now);
            changes.insert(due.account.clone(), told);
        }
    }
    changes
}

/// The names of those that are registered, or of those that are not.
#[must_use]
pub fn names(due: &[Due], online: bool) -> Names {
    let mut names = Names::default();
    for due in due.iter().filter(|due| due.online == online) {
        names.add(due.username.as_str());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_424_400);

    #[test]
    fn a_history_is_bounded_and_knows_who_flaps() {
        let mut history = History::default();
        assert!(history.is_empty());
        for n in 0..100 {
            history.note(n % 2 == 0, NOW.plus(n * 60));
            assert_eq!(history.is_flapping(NOW.plus(n * 60)), n >= 4, "{n}");
        }
        assert_eq!(history.recent.len(), KEPT);
        let text = serde_json::to_string(&history).unwrap();
        assert!(text.len() < 400, "{text}");
        assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
        assert_eq!(history.first_online, Some(NOW));
        assert_eq!(history.last_online, Some(NOW.plus(98 * 60)));
        assert_eq!(history.last_offline, Some(NOW.plus(99 * 60)));
        // An hour later it is no news any more, and the next change forgets it.
        let later = NOW.plus(99 * 60 + FLAPPING_WITHIN_S);
        assert!(!history.is_flapping(later));
        history.note(true, later);
        assert_eq!(history.recent, [later]);
    }

    #[test]
    fn a_change_is_told_at_once_and_the_next_ones_together_ten_minutes_later() {
        let mut history = History::default();
        assert!(!history.is_due(NOW));
        history.note(true, NOW);
        assert!(history.is_due(NOW));
        assert_eq!(history.tell(NOW), 1);
        for n in 1..4 {
            history.note(n % 2 == 0, NOW.plus(n * 60));
            assert!(!history.is_due(NOW.plus(n * 60)));
        }
        assert!(!history.is_due(NOW.plus(TOLD_EVERY_S - 1)));
        assert!(history.is_due(NOW.plus(TOLD_EVERY_S)));
        assert_eq!(history.tell(NOW.plus(TOLD_EVERY_S)), 3);
        assert!(!history.is_due(NOW.plus(9 * TOLD_EVERY_S)));
    }
}
