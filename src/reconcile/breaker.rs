//! The breaker: what is too much at once to be done without asking. Pure decisions.
//!
//! In: how many accounts it would hit, of how many, and what an admin let pass. Out: whether it is held,
//! and under which digest an admin can confirm exactly what was seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keys::hex;
use crate::text::Username;
use crate::time::Timestamp;

/// Fewer than this are never held: in a small office a fifth is two phones, and people do move.
pub const LEAST: u32 = 10;

/// More than this share, in percent, is held: whole departments come and go below it, and what a
/// script, a wrong file or an outage does is mostly far above.
pub const SHARE_PERCENT: u32 = 20;

/// How long a delete waits after its tombstone was put, in seconds: a mistake can be taken back, and
/// a phone whose account was renamed has its former name until it fetched its files again.
pub const GRACE_S: u64 = 600;

/// Whether so many of so many are too many at once.
#[must_use]
pub fn trips(count: u32, of: u32) -> bool {
    count >= LEAST && u64::from(count) * 100 > u64::from(of) * u64::from(SHARE_PERCENT)
}

/// How many phones that were registered are not any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Lost {
    /// How many.
    pub count: u32,
    /// Of how many that were registered.
    pub of: u32,
}

impl Lost {
    /// These and those.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self {
            count: self.count.saturating_add(others.count),
            of: self.of.saturating_add(others.of),
        }
    }

    /// Whether they are too many at once.
    #[must_use]
    pub fn trips(self) -> bool {
        trips(self.count, self.of)
    }
}

/// Of what it is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "BreakerScope"))]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Of the PBX's accounts, or of its phones.
    Pbx,
    /// Of the tenant's at all its PBXes.
    Tenant,
}

impl Scope {
    /// The word in the audit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pbx => "pbx",
            Self::Tenant => "tenant",
        }
    }
}

/// Something that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Held {
    /// Of what it is too much.
    pub scope: Scope,
    /// How many.
    pub count: u32,
    /// Of how many accounts, or phones that were registered.
    pub of: u32,
    /// Since when it is held.
    pub since: Timestamp,
    /// What an admin has to name to let it pass: 16 hexadecimal digits over exactly that.
    pub confirm: String,
}

/// What is held at a PBX.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Breaker {
    /// Deletes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletes: Option<Held>,
    /// Phones that went offline, all at once. Believed by itself after
    /// [`super::BELIEVE_AFTER_S`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offline: Option<Held>,
}

impl Breaker {
    /// Whether nothing is held.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.deletes.is_none() && self.offline.is_none()
    }
}

/// What an admin let pass at a PBX (`confirmed/{pbx}`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confirmed {
    /// Tombstones, each with its time: the same name that is deleted again later is another one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub deletes: Tombstones,
    /// When the doubt began that is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offline: Option<Timestamp>,
}

impl Confirmed {
    /// Whether a tombstone was confirmed.
    #[must_use]
    pub fn has(&self, name: &Username, at: Timestamp) -> bool {
        self.deletes.get(name) == Some(&at)
    }
}

/// The names that may be deleted at a PBX, and when each tombstone was put; 0 if that is not known,
/// which is long ago.
pub type Tombstones = BTreeMap<Username, Timestamp>;

fn digest(lines: impl Iterator<Item = String>) -> String {
    let mut digest = Sha256::new();
    for line in lines {
        digest.update(line.as_bytes());
        digest.update(b"\n");
    }
    hex(digest
        .finalize()
        .first_chunk::<8>()
        .map_or(&[], |start| start))
}

/// What names exactly these tombstones.
#[must_use]
pub fn digest_of_deletes(tombstones: &Tombstones) -> String {
    digest(
        tombstones
            .iter()
            .map(|(name, at)| format!("{name} {}", at.0)),
    )
}

/// What names the doubt that began then.
#[must_use]
pub fn digest_of_offline(since: Timestamp) -> String {
    digest(std::iter::once(format!("offline {}", since.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_needs_both_the_share_and_the_number() {
        for (count, of, expected) in [
            (9, 9, false),
            (10, 10, true),
            (10, 49, true),
            (10, 50, false),
            (200, 1_000, false),
            (201, 1_000, true),
            (10, 0, true),
            (u32::MAX, u32::MAX, true),
        ] {
            assert_eq!(trips(count, of), expected, "{count} of {of}");
        }
    }

    #[test]
    fn a_digest_names_exactly_what_was_seen() {
        let name = |text: &str| Username::try_from(text).unwrap();
        let some = Tombstones::from([(name("a"), Timestamp(1)), (name("b"), Timestamp(2))]);
        let digest = digest_of_deletes(&some);
        assert_eq!(
            (digest.len(), digest_of_deletes(&some)),
            (16, digest.clone())
        );
        let mut more = some.clone();
        more.insert(name("c"), Timestamp(2));
        let mut again = some.clone();
        again.insert(name("b"), Timestamp(3));
        for other in [more, again, Tombstones::new()] {
            assert_ne!(digest_of_deletes(&other), digest);
        }
        let confirmed = Confirmed {
            deletes: some,
            offline: None,
        };
        assert!(confirmed.has(&name("a"), Timestamp(1)));
        assert!(
            !confirmed.has(&name("a"), Timestamp(2)) && !confirmed.has(&name("c"), Timestamp(1))
        );
    }
}
