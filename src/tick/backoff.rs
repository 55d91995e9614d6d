//! When a PBX that fails is asked again: a hundred dead ones must not eat the time of a run. Pure.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::text::Id;
use crate::time::Timestamp;

/// After the first failure the next run tries again, after the second one this many seconds must
/// pass, doubled with each further failure.
const FIRST_S: u64 = 120;

/// The longest pause, in seconds.
const LONGEST_S: u64 = 900;

/// A PBX that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Failing {
    /// Since when.
    pub since: Timestamp,
    /// How: the outcome of the last try.
    pub why: String,
    /// How many tries failed, one after another.
    pub tries: u32,
    /// When it was tried last.
    pub tried_at: Timestamp,
    /// When it is tried next.
    pub next_at: Timestamp,
    /// Whether it says nothing at all; else it says who is registered and takes no changes, and only
    /// those pause.
    pub silent: bool,
}

impl Failing {
    /// The same PBX after one more failure.
    #[must_use]
    pub fn again(before: Option<&Self>, pbx: &Id, why: &str, silent: bool, now: Timestamp) -> Self {
        let tries = before.map_or(0, |before| before.tries).saturating_add(1);
        Self {
            since: before.map_or(now, |before| before.since),
            why: why.to_owned(),
            tries,
            tried_at: now,
            next_at: now.plus(pause(pbx, tries)),
            silent,
        }
    }

    /// Whether it is left alone now.
    #[must_use]
    pub fn pauses(&self, now: Timestamp) -> bool {
        now < self.next_at
    }
}

/// How long it is left alone after so many failures, in seconds. Up to a quarter less, by the PBX and
/// the try, so that those that failed together do not all come back together; the same each time, so
/// that a run can be repeated.
fn pause(pbx: &Id, tries: u32) -> u64 {
    let Some(doublings) = tries.checked_sub(2) else {
        return 0;
    };
    let pause = 1_u64
        .checked_shl(doublings)
        .map_or(LONGEST_S, |times| FIRST_S.saturating_mul(times))
        .min(LONGEST_S);
    let digest = Sha256::digest(format!("{pbx} {tries}"));
    let jitter = digest
        .first_chunk()
        .map_or(0, |start| u64::from_be_bytes(*start));
    pause - jitter.checked_rem(pause / 4).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn id(text: &str) -> Id {
        Id::try_from(text).unwrap()
    }

    #[test]
    fn it_comes_back_at_once_and_then_less_and_less_often() {
        let pbx = id("main");
        let mut failing = None;
        for (tries, most) in [(1, 0), (2, 120), (3, 240), (4, 480), (5, 900), (6, 900)] {
            let next = Failing::again(failing.as_ref(), &pbx, "timed out", true, NOW.plus(tries));
            let wait = next.next_at.since(NOW.plus(tries));
            assert!(wait <= most && wait * 4 >= most * 3, "{tries}: {wait}");
            assert_eq!((next.since, u64::from(next.tries)), (NOW.plus(1), tries));
            assert_eq!(next.pauses(NOW.plus(tries)), most > 0);
            failing = Some(next);
        }
        let mut longest = failing.unwrap();
        longest.tries = u32::MAX;
        let next = Failing::again(Some(&longest), &pbx, "http 503", true, NOW);
        assert!((675..=900).contains(&next.next_at.since(NOW)));
    }

    #[test]
    fn those_that_failed_together_come_back_apart_and_always_alike() {
        let pauses = || (0..100).map(|n| pause(&id(&format!("p{n}")), 6)).collect();
        let all: Vec<u64> = pauses();
        assert_eq!(all, pauses());
        assert!(all.into_iter().collect::<BTreeSet<_>>().len() > 50);
    }
}
