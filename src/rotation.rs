//! A changed password leaves no gap: what it replaced goes on working until the phones have the new
//! one. Which former passwords are kept, and when each of them ends: pure decisions.
//!
//! In: the account's state, what its phones fetched, whether they are registered, the time. The
//! admin API keeps them ([`crate::admin::account`]), [`crate::step7_register`] puts them to the PBX,
//! and [`crate::tick`] ends them.

use crate::record::Stored;
use crate::record::account::{Account, AccountState, FormerPassword, Slot};
use crate::record::device::Device;
use crate::step7_register::LONGEST_REGISTRATION_S;
use crate::text::{Id, Username};
use crate::time::Timestamp;

/// How long a former password works at most, in seconds from its replacement: a phone that was off
/// over a week's holiday still registers, as its former token still serves. A later change of the
/// password does not prolong it.
pub const GRACE_S: u64 = 7 * 86_400;

/// How long after the last phone fetched the new password, in seconds, being registered means being
/// registered with it. Twice the longest registration: within the first, whatever a phone did
/// before runs out; the second is for a phone that takes up its files late, after a call or a reboot.
pub const TAKEN_UP_AFTER_S: u64 = 2 * LONGEST_REGISTRATION_S;

/// Notes in an account's state that a password of this digest user was replaced: the slot to keep it
/// in. What was there before gives way.
///
/// With more changes than slots, those in between go first, and the oldest stays: a phone that was
/// off all the time has that one, and a phone that follows each change has one of the last two (what
/// it fetched, and what it still uses).
pub fn keep(state: &mut AccountState, login: &Username, now: Timestamp) -> Slot {
    let former = &mut state.former_passwords;
    let free = |former: &[FormerPassword]| {
        Slot::ALL
            .into_iter()
            .find(|slot| former.iter().all(|kept| kept.slot != *slot))
    };
    let slot = free(former).unwrap_or_else(|| former.remove(1).slot);
    former.push(FormerPassword {
        slot,
        login: login.clone(),
        since: now,
    });
    slot
}

/// Takes former passwords out of an account.
pub fn forget(stored: &mut Stored<Account>, ends: impl Fn(&FormerPassword) -> bool) {
    let Stored { sealed, state, .. } = stored;
    state.former_passwords.retain(|former| {
        let over = ends(former);
        if over {
            sealed.remove(former.slot.sealed());
        }
        !over
    });
}

/// How far the phones of an account are with its new password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// It is on no phone.
    NoPhone,
    /// Not each phone has fetched it, as far as is known.
    NotAll,
    /// Each phone has, the last of them then.
    All(Timestamp),
}

/// How far the phones of an account are, of which [`AccountState::login_rev`] is `login_rev`.
#[must_use]
pub fn fetched<'a>(
    account: &Id,
    login_rev: u64,
    devices: impl IntoIterator<Item = &'a Stored<Device>>,
) -> Fetched {
    let mut so_far = Fetched::NoPhone;
    for device in devices {
        if !device.has_account(account) {
            continue;
        }
        let files = device.state.files.as_ref();
        let carried = files.and_then(|files| files.logins.get(account));
        let at = carried
            .filter(|carried| carried.rev >= login_rev)
            .zip(device.state.seen.configured)
            .filter(|(carried, seen)| seen.version >= carried.version)
            .map(|(_, seen)| seen.at);
        so_far = match (at, so_far) {
            (None, _) => return Fetched::NotAll,
            (Some(at), Fetched::All(last)) => Fetched::All(last.max(at)),
            (Some(at), _) => Fetched::All(at),
        };
    }
    so_far
}

/// Why a former password ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There is no phone that could have it.
    NoPhone,
    /// Every phone has the new one, and registers with it.
    TakenUp,
    /// Its time is over.
    Grace,
}

impl End {
    /// The word in the audit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NoPhone => "no phone",
            Self::TakenUp => "taken up",
            Self::Grace => "grace",
        }
    }
}

/// Whether a former password is over. `registered`: a phone of the account is, at a PBX that has the
/// new one.
#[must_use]
pub fn end(
    former: &FormerPassword,
    fetched: Fetched,
    registered: bool,
    now: Timestamp,
) -> Option<End> {
    match fetched {
        Fetched::NoPhone => Some(End::NoPhone),
        Fetched::All(at) if registered && now.since(at) >= TAKEN_UP_AFTER_S => Some(End::TakenUp),
        _ if now >= until(former) => Some(End::Grace),
        _ => None,
    }
}

/// When a former password ends at the latest.
#[must_use]
pub fn until(former: &FormerPassword) -> Timestamp {
    former.since.plus(GRACE_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::device::{Carried, FileSet, Sighting};
    use std::collections::BTreeMap;
    use std::slice::from_ref;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn login(text: &str) -> Username {
        Username::try_from(text).unwrap()
    }

    fn id(text: &str) -> Id {
        Id::try_from(text).unwrap()
    }

    fn kept(state: &AccountState) -> Vec<(Slot, &str)> {
        let former = state.former_passwords.iter();
        former
            .map(|kept| (kept.slot, kept.login.as_str()))
            .collect()
    }

    #[test]
    fn the_oldest_and_the_two_newest_are_kept() {
        use Slot::{First, Second, Third};
        let mut state = AccountState::default();
        for (n, expected) in [
            vec![(First, "p0")],
            vec![(First, "p0"), (Second, "p1")],
            vec![(First, "p0"), (Second, "p1"), (Third, "p2")],
            vec![(First, "p0"), (Third, "p2"), (Second, "p3")],
            vec![(First, "p0"), (Second, "p3"), (Third, "p4")],
        ]
        .into_iter()
        .enumerate()
        {
            let slot = keep(&mut state, &login(&format!("p{n}")), NOW);
            assert_eq!(kept(&state), expected);
            assert_eq!(state.former_passwords.last().unwrap().slot, slot);
        }
        // The oldest has ended: its slot is free for the next.
        state.former_passwords.remove(0);
        keep(&mut state, &login("p5"), NOW);
        assert_eq!(kept(&state), [(Second, "p3"), (Third, "p4"), (First, "p5")]);
    }

    /// A phone whose files carry the login of revision `carried.0` since version `carried.1`, and
    /// that fetched version `seen.0` at `seen.1`.
    fn device(line: &str, carried: Option<(u64, u64)>, seen: Option<(u64, u64)>) -> Stored<Device> {
        let record = serde_json::json!({
            "tenant": "acme", "vendor": "yealink", "model": "T46U", "lines": [{ "line": 1, "account": line }],
        });
        let json = serde_json::json!({
            "schema": 1, "rev": 1, "edition": 1, "updated_at": "2026-11-23T09:00:00Z",
            "record": record, "state": { "access": { "token": 1, "first_access": 1 } },
        });
        let mut stored = Stored::<Device>::read(json.to_string().as_bytes()).unwrap();
        let carried = carried.map(|(rev, version)| (id(line), Carried { rev, version }));
        stored.state.files = Some(FileSet {
            logins: carried.into_iter().collect::<BTreeMap<_, _>>(),
            ..FileSet::default()
        });
        stored.state.seen.configured = seen.map(|(version, at)| Sighting {
            at: Timestamp(at),
            version,
        });
        stored
    }

    #[test]
    fn every_phone_must_have_fetched_a_file_with_the_new_password() {
        let of = |devices: &[Stored<Device>]| fetched(&id("a"), 7, devices);
        assert_eq!(of(&[]), Fetched::NoPhone);
        let has_it = device("a", Some((7, 3)), Some((3, 100)));
        assert_eq!(of(from_ref(&has_it)), Fetched::All(Timestamp(100)));
        let later = device("a", Some((7, 3)), Some((5, 200)));
        assert_eq!(
            of(&[later, has_it.clone()]),
            Fetched::All(Timestamp(200)),
            "the last of them"
        );
        for (what, other) in [
            ("an older file", device("a", Some((7, 4)), Some((3, 100)))),
            ("never came", device("a", Some((7, 3)), None)),
            ("older files", device("a", Some((6, 3)), Some((3, 100)))),
            ("files of before", device("a", None, Some((3, 100)))),
        ] {
            assert_eq!(of(&[has_it.clone(), other]), Fetched::NotAll, "{what}");
        }
        // Neither a phone of another account counts, nor one that is gone.
        let mut gone = device("a", None, None);
        gone.gone = Some(NOW);
        let others = [device("b", None, None), gone];
        assert_eq!(of(&others), Fetched::NoPhone);
    }

    #[test]
    fn a_former_password_ends_when_it_is_of_no_use_and_at_the_end_of_its_grace() {
        let former = FormerPassword {
            slot: Slot::First,
            login: login("1001"),
            since: NOW,
        };
        let all = Fetched::All(NOW.plus(100));
        let after = |fetched, registered, s| end(&former, fetched, registered, NOW.plus(s));
        let taken_up = 100 + TAKEN_UP_AFTER_S;
        for (fetched, registered, s, expected) in [
            (Fetched::NoPhone, false, 0, Some(End::NoPhone)),
            (all, true, taken_up - 1, None),
            (all, true, taken_up, Some(End::TakenUp)),
            (all, false, taken_up, None),
            (Fetched::NotAll, true, GRACE_S - 1, None),
            (Fetched::NotAll, true, GRACE_S, Some(End::Grace)),
            (all, false, GRACE_S, Some(End::Grace)),
        ] {
            assert_eq!(
                after(fetched, registered, s),
                expected,
                "{fetched:?} {registered} {s}"
            );
        }
        assert_eq!(until(&former), NOW.plus(GRACE_S));
    }
}
