//! Who is counting through MACs: what one instance of the Worker remembers of the last minutes.
//!
//! An armed window lets in whoever comes first with the right MAC, so a caller that tries one MAC
//! after another must not find one. It is a memory and no store: a scanner can buy no write with it, it
//! costs a request nothing, and it is forgotten with the instance. Phones that prove who they are do
//! not come by here.

use std::collections::{BTreeMap, BTreeSet};

use crate::mac::Mac;
use crate::time::Timestamp;

/// How long a guess is held against its source and range, in seconds after the last one.
pub const REMEMBERED_S: u64 = 600;
/// From how many MACs that nobody has a source is guessing: more strange phones than stand in most
/// offices.
pub const OF_SOURCE: usize = 32;
/// From how many MACs that nobody has a range (the first three bytes) is being counted through.
pub const OF_RANGE: usize = 64;
/// How many sources and how many ranges are remembered: 4 MB at the very most.
const MOST: usize = 4_096;

/// What is known of one source or range.
#[derive(Debug, Default)]
struct Guessed {
    last: Timestamp,
    macs: BTreeSet<Mac>,
}

/// The MACs that were asked for and that nobody has.
#[derive(Debug, Default)]
pub struct Guesses {
    sources: BTreeMap<String, Guessed>,
    ranges: BTreeMap<[u8; 3], Guessed>,
}

impl Guesses {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sources: BTreeMap::new(),
            ranges: BTreeMap::new(),
        }
    }

    /// Remembers that a source asked for a MAC that nobody has.
    pub fn note(&mut self, source: &str, mac: Mac, now: Timestamp) {
        add(&mut self.sources, source.to_owned(), OF_SOURCE, mac, now);
        add(&mut self.ranges, range(mac), OF_RANGE, mac, now);
    }

    /// Whether a source is guessing, or the range of a MAC is being counted through.
    #[must_use]
    pub fn are_many(&self, source: &str, mac: Mac, now: Timestamp) -> bool {
        let many = |guessed: Option<&Guessed>, enough| {
            guessed.is_some_and(|guessed| is_fresh(guessed, now) && guessed.macs.len() >= enough)
        };
        many(self.sources.get(source), OF_SOURCE) || many(self.ranges.get(&range(mac)), OF_RANGE)
    }
}

/// The first three bytes, which a maker has bought (IEEE MA-L).
fn range(mac: Mac) -> [u8; 3] {
    let [a, b, c, ..] = mac.bytes();
    [a, b, c]
}

fn add<K: Ord + Clone>(
    to: &mut BTreeMap<K, Guessed>,
    who: K,
    enough: usize,
    mac: Mac,
    now: Timestamp,
) {
    if !to.contains_key(&who) && to.len() >= MOST {
        let oldest = to.iter().min_by_key(|(_, guessed)| guessed.last);
        if let Some(oldest) = oldest.map(|(who, _)| who.clone()) {
            to.remove(&oldest);
        }
    }
    let guessed = to.entry(who).or_default();
    if !is_fresh(guessed, now) {
        guessed.macs.clear();
    }
    guessed.last = now;
    if guessed.macs.len() < enough {
        guessed.macs.insert(mac);
    }
}

fn is_fresh(guessed: &Guessed, now: Timestamp) -> bool {
    now.since(guessed.last) < REMEMBERED_S
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u32) -> Mac {
        format!("805ec0{n:06x}").parse().unwrap()
    }

    #[test]
    fn a_source_that_tries_many_macs_is_guessing_and_one_that_repeats_itself_is_not() {
        let mut guesses = Guesses::new();
        let now = Timestamp(1_000);
        for _ in 0..1_000 {
            guesses.note("192.0.2.1", mac(1), now);
        }
        assert!(!guesses.are_many("192.0.2.1", mac(2), now));
        for n in 0..32 {
            assert!(!guesses.are_many("192.0.2.1", mac(99), now), "{n}");
            guesses.note("192.0.2.1", mac(n), now);
        }
        assert!(guesses.are_many("192.0.2.1", mac(99), now));
        assert!(!guesses.are_many("192.0.2.2", mac(99), now));
        assert!(guesses.are_many("192.0.2.1", mac(99), now.plus(REMEMBERED_S - 1)));
        assert!(!guesses.are_many("192.0.2.1", mac(99), now.plus(REMEMBERED_S)));
    }

    #[test]
    fn a_range_that_many_sources_count_through_is_noticed() {
        let mut guesses = Guesses::new();
        let now = Timestamp(1_000);
        for n in 0..64 {
            assert!(!guesses.are_many("198.51.100.1", mac(99), now), "{n}");
            guesses.note(&format!("192.0.2.{n}"), mac(n), now);
        }
        assert!(guesses.are_many("198.51.100.1", mac(99), now));
        let elsewhere = Mac::from_bytes([0, 4, 0xf2, 0, 0, 1]).unwrap();
        assert!(!guesses.are_many("198.51.100.1", elsewhere, now));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut guesses = Guesses::new();
        for n in 0..10_000 {
            guesses.note(&format!("s{n}"), mac(n), Timestamp(u64::from(n)));
        }
        assert_eq!(guesses.sources.len(), MOST);
        // The latest are there, whatever they are called.
        assert!(guesses.sources.contains_key("s9999"));
        assert!(!guesses.sources.contains_key("s1"));
    }
}
