//! Which accounts a PBX should have, as far as Dialtone knows: what listings and marks of changes showed
//! is taken into the PBX's memory, so that each run knows all names although it lists only some.
//!
//! A listing is late and may be short or broken off. So it only ever adds and moves on: no absence
//! from it takes an account away. That one is missing is said (`vanished`), and nothing is done.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::breaker::Tombstones;
use super::{Desired, Memory, Pushed};
use crate::gather::in_order;
use crate::text::{Id, Username};
use crate::time::Timestamp;

/// How late a listing may be, in seconds (Workers KV, "How KV works"): what was pushed since is not
/// missed in it.
const LATE_S: u64 = 60;

/// An account that a PBX should have and whose objects there are not known to be up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its name.
    pub username: Username,
    /// Its revision.
    pub rev: u64,
    /// Whether a former password of it still works.
    #[serde(default, skip_serializing_if = "is_false")]
    pub rotating: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a mark says of an account at a PBX: R2's own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The account at that revision.
    pub desired: Desired,
    /// Whether it is this PBX's no more.
    pub gone: bool,
}

/// An account as a listing showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAccount {
    /// Its PBX; `None` if it is deleted.
    pub pbx: Option<Id>,
    /// Its name, revision and whether a former password works.
    pub wanted: Wanted,
}

/// A part of the list of all accounts, in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// What it showed.
    pub accounts: BTreeMap<Id, ListedAccount>,
    /// It begins behind this account; `None`: with the first.
    pub after: Option<Id>,
    /// It ends with this account; `None`: it shows nothing, or all to the last if `to_the_end`.
    pub through: Option<Id>,
    /// Whether it goes to the end of the list.
    pub to_the_end: bool,
    /// Whether it broke off.
    pub failed: bool,
}

impl Listing {
    /// Whether an account would be in it if it were listed at all.
    fn covers(&self, account: &Id) -> bool {
        let begun = self.after.as_ref().is_none_or(|after| account > after);
        begun && (self.to_the_end || self.through.as_ref().is_some_and(|last| account <= last))
    }
}

impl Memory {
    /// Takes in what a listing and marks of changes showed.
    pub(crate) fn learn(
        &mut self,
        pbx: &Id,
        listing: &Listing,
        marks: &[Mark],
        tombstones: &Tombstones,
        now: Timestamp,
    ) {
        let mut pushed: BTreeMap<Id, u64> = BTreeMap::new();
        for entry in self.pushed.values() {
            let rev = pushed.entry(entry.account.clone()).or_default();
            *rev = entry.rev.max(*rev);
        }
        for (account, listed) in &listing.accounts {
            if listed.pbx.as_ref() == Some(pbx) {
                self.take(account, &listed.wanted, &pushed, tombstones);
            } else {
                // It is deleted, or at another PBX now.
                self.leave(account, listed.wanted.rev);
            }
        }
        // R2's own word, newer than any listing.
        for Mark { desired, gone } in marks {
            if *gone {
                self.leave(&desired.account, desired.rev);
                continue;
            }
            let wanted = Wanted {
                username: desired.username.clone(),
                rev: desired.rev,
                rotating: desired.rotating,
            };
            self.take(&desired.account, &wanted, &pushed, tombstones);
        }
        let mut vanished = std::mem::take(&mut self.vanished);
        let missing = |name: &Username, entry: &Pushed| {
            let listed = listing.accounts.get(&entry.account);
            !listed.is_some_and(|listed| {
                listed.pbx.as_ref() == Some(pbx) && listed.wanted.username == *name
            }) && !self.wanted.contains_key(&entry.account)
                && now.since(entry.verified_at) >= LATE_S
        };
        for (name, entry) in &self.pushed {
            if listing.covers(&entry.account) {
                if missing(name, entry) {
                    vanished.insert(name.clone());
                } else {
                    vanished.remove(name);
                }
            }
        }
        // A name that another account takes over is not missed.
        let names: BTreeSet<&Username> = in_order(self.wanted.values().map(|w| &w.username));
        vanished.retain(|name| {
            self.pushed.contains_key(name)
                && !tombstones.contains_key(name)
                && !names.contains(name)
        });
        self.vanished = vanished;
    }

    fn leave(&mut self, account: &Id, rev: u64) {
        let wanted = self.wanted.get(account);
        if wanted.is_some_and(|wanted| wanted.rev <= rev) {
            self.wanted.remove(account);
        }
    }

    fn take(
        &mut self,
        account: &Id,
        shown: &Wanted,
        pushed: &BTreeMap<Id, u64>,
        tombstones: &Tombstones,
    ) {
        let known = self.wanted.get(account).map(|wanted| wanted.rev);
        let known = known.max(pushed.get(account).copied());
        // KV is late: something older is no news.
        if known.is_some_and(|known| shown.rev < known) {
            return;
        }
        // A tombstone of a name that somebody has is late or wrong: as long as they are listed with it,
        // nothing is to be deleted.
        let doubtful = tombstones.contains_key(&shown.username);
        if self.is_pushed(account, shown) && !shown.rotating && !doubtful {
            self.wanted.remove(account);
        } else {
            self.wanted.insert(account.clone(), shown.clone());
        }
    }

    /// Whether the objects of this revision are at the PBX under this name, as far as we know.
    fn is_pushed(&self, account: &Id, wanted: &Wanted) -> bool {
        self.pushed
            .get(&wanted.username)
            .is_some_and(|pushed| pushed.account == *account && pushed.rev >= wanted.rev)
    }

    /// Forgets wishes that are fulfilled.
    pub(super) fn settle(&mut self, account: &Id) {
        let done = self
            .wanted
            .get(account)
            .is_some_and(|wanted| !wanted.rotating && self.is_pushed(account, wanted));
        if done {
            self.wanted.remove(account);
        }
    }

    /// Notes that R2 says that an account has not this name here, whatever a listing said.
    /// `missing`: nor is there an endpoint of that name.
    pub fn note_not_here(&mut self, username: &Username, account: &Id, missing: bool) {
        if self
            .wanted
            .get(account)
            .is_some_and(|wanted| wanted.username == *username)
        {
            self.wanted.remove(account);
        }
        if missing
            && self
                .pushed
                .get(username)
                .is_some_and(|pushed| pushed.account == *account)
        {
            self.note_deleted(username);
        }
    }

    /// Notes that no former password of an account works any more.
    pub fn note_settled_password(&mut self, account: &Id) {
        if let Some(wanted) = self.wanted.get_mut(account) {
            wanted.rotating = false;
        }
        self.settle(account);
    }

    /// All accounts that the PBX should have as far as is known: those that wait, and those that were
    /// pushed and that nobody deleted or renamed since.
    #[must_use]
    pub fn desired(&self, tombstones: &Tombstones) -> Vec<Desired> {
        let waiting = self.wanted.iter().map(|(account, wanted)| Desired {
            username: wanted.username.clone(),
            account: account.clone(),
            rev: wanted.rev,
            rotating: wanted.rotating,
        });
        let pushed = self.pushed.iter().filter(|(name, pushed)| {
            !tombstones.contains_key(*name) && !self.wanted.contains_key(&pushed.account)
        });
        let pushed = pushed.map(|(name, pushed)| Desired {
            username: name.clone(),
            account: pushed.account.clone(),
            rev: pushed.rev,
            rotating: false,
        });
        let mut all: Vec<Desired> = waiting.chain(pushed).collect();
        all.sort();
        all
    }

    /// How many names are known at the PBX, deleted ones too.
    #[must_use]
    pub fn names(&self, tombstones: &Tombstones) -> u32 {
        let names = (self.pushed.keys())
            .chain(self.wanted.values().map(|wanted| &wanted.username))
            .chain(tombstones.keys());
        let names: BTreeSet<&Username> = in_order(names);
        u32::try_from(names.len()).unwrap_or(u32::MAX)
    }

    /// Whether two memories differ in no more than when objects were last looked at. That alone is
    /// not worth a write: it is kept along with the next one.
    #[must_use]
    pub fn same_but_for_looks(&self, other: &Self) -> bool {
        let same =
            |a: &Pushed, b: &Pushed| a.account == b.account && a.rev == b.rev && a.shape == b.shape;
        self.pushed.len() == other.pushed.len()
            && (self.pushed.iter().zip(&other.pushed))
                .all(|((name, a), (other, b))| name == other && same(a, b))
            && self.registrations == other.registrations
            && self.troubles == other.troubles
            && self.doubt == other.doubt
            && self.wanted == other.wanted
            && self.vanished == other.vanished
            && self.unsettled == other.unsettled
    }
}
