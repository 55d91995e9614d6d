//! The audit as a chain: what a page holds, how its entries hang together, and where they do not.
//!
//! A page is text, a line for each entry: its hash, a blank, the entry as JSON. The hash is SHA-256,
//! in hex, of the hash before it (in hex; 64 zeros for the first) followed by the JSON, byte for byte
//! as it stands there. So anybody can follow a chain with `sha256sum`. Whoever can write the bucket can do
//! so as well, and therefore the end of the chain is signed ([`Head`]) under a key that the bucket does
//! not hold.

use serde::{Deserialize, Serialize};

use crate::audit::Event;
use crate::fault::Fault;
use crate::json;
use crate::key;
use crate::keys::{Keys, Signer, sha256_hex};
use crate::text::Id;

/// What stands for the hash before the first entry.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The digits of a hash or signature.
const DIGITS: usize = 64;

/// An entry, as its line holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The how-many-eth of its chain; the first is 1.
    pub seq: u64,
    /// The name under which it waited to be chained.
    pub id: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// An entry with its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The entry.
    pub entry: Entry,
    /// Its JSON, byte for byte.
    pub json: String,
    /// Its hash.
    pub hash: String,
}

/// A place in a chain: after which page and entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The page; 0: before the first.
    pub page: u64,
    /// The entry; 0: before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl Default for End {
    fn default() -> Self {
        Self {
            page: 0,
            seq: 0,
            hash: NOTHING.to_owned(),
        }
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The first entry that is not as it was.
    pub at: u64,
    /// What is wrong, in a few words.
    pub why: &'static str,
}

/// Puts events, with their names, behind `end`: the next page, and where the chain ends then.
///
/// # Errors
/// [`Fault::Broken`] if serde cannot write an event, which none of ours causes.
pub fn extend(end: &End, events: &[(String, Event)]) -> Result<(String, End), Fault> {
    let mut page = String::new();
    let mut end = End {
        page: end.page + 1,
        ..end.clone()
    };
    for (id, event) in events {
        end.seq += 1;
        let entry = Entry {
            seq: end.seq,
            id: id.clone(),
            event: event.clone(),
        };
        let json = serde_json::to_string(&entry).map_err(|_| Fault::Broken("audit to json"))?;
        end.hash = link(&end.hash, &json);
        for part in [end.hash.as_str(), " ", json.as_str(), "\n"] {
            page.push_str(part);
        }
    }
    Ok((page, end))
}

fn link(former: &str, json: &str) -> String {
    sha256_hex(&[former.as_bytes(), json.as_bytes()].concat())
}

/// The entries of a page, whether or not they hang together; `None` for what is no page.
#[must_use]
pub fn links(page: &[u8]) -> Option<Vec<Link>> {
    let text = std::str::from_utf8(page).ok()?.strip_suffix('\n')?;
    text.split('\n').map(read_line).collect()
}

fn read_line(line: &str) -> Option<Link> {
    let (hash, json) = line.split_at_checked(DIGITS)?;
    let json = json.strip_prefix(' ')?;
    Some(Link {
        entry: json::read(json.as_bytes()).ok()?,
        json: json.to_owned(),
        hash: hash.to_owned(),
    })
}

/// Follows a chain over its next page: its entries, and where it ends then.
///
/// # Errors
/// The [`Break`], if the page does not follow from `end` to its last byte.
pub fn follow(end: &End, page: &[u8]) -> Result<(Vec<Link>, End), Break> {
    let mut end = End {
        page: end.page + 1,
        ..end.clone()
    };
    let mut entries = Vec::new();
    let broken = |at: u64, why| Break { at, why };
    let text = std::str::from_utf8(page)
        .ok()
        .and_then(|text| text.strip_suffix('\n'))
        .ok_or_else(|| broken(end.seq + 1, "the page was cut off or changed"))?;
    for line in text.split('\n') {
        let at = end.seq + 1;
        let link = read_line(line).ok_or_else(|| broken(at, "the entry was changed"))?;
        if link.entry.seq != at {
            return Err(broken(at, "an entry is missing or stands elsewhere"));
        }
        if link.hash != self::link(&end.hash, &link.json) {
            return Err(broken(
                at,
                "the entry, its hash or one before it was changed",
            ));
        }
        end.seq = at;
        end.hash.clone_from(&link.hash);
        entries.push(link);
    }
    Ok((entries, end))
}

/// Where a chain ends, and where it ended a page before.
///
/// Stored as a line: a signature under a key derived from `SEAL_KEY` and bound to the tenant, a
/// blank, the JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The end.
    pub end: End,
    /// The end before the last page.
    pub before: End,
}

impl Head {
    /// The bytes to store.
    ///
    /// # Errors
    /// A [`Fault`] of signing.
    pub fn write(&self, keys: &Keys, tenant: Option<&Id>) -> Result<String, Fault> {
        let json = serde_json::to_string(self).map_err(|_| Fault::Broken("audit head"))?;
        let signature = keys.sign_audit(&key::audit_head(tenant), json.as_bytes())?;
        Ok(format!("{signature} {json}\n"))
    }

    /// Reads what [`Head::write`] made, and with which key; `None` if we did not sign it so.
    #[must_use]
    pub fn read(keys: &Keys, tenant: Option<&Id>, bytes: &[u8]) -> Option<(Self, Signer)> {
        let line = std::str::from_utf8(bytes).ok()?;
        // Whoever puts it back by hand may lose the line break.
        let line = line.strip_suffix('\n').unwrap_or(line);
        let (signature, json) = line.split_at_checked(DIGITS)?;
        let json = json.strip_prefix(' ')?;
        let signer = keys.audit_signer(&key::audit_head(tenant), json.as_bytes(), signature)?;
        Some((json::read(json.as_bytes()).ok()?, signer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn event(n: u64) -> (String, Event) {
        let event = Event {
            at: Timestamp(1_795_424_400 + n),
            actor: "admin".to_owned(),
            tenant: Id::try_from("acme").ok(),
            action: "device.armed".to_owned(),
            resource: format!("devices/{n}"),
            detail: [("why".to_owned(), "ä \n \"".to_owned())].into(),
            alarm: n.is_multiple_of(2),
        };
        (format!("name-{n}"), event)
    }

    /// Two pages of three entries, and their ends.
    fn two() -> [(String, End); 2] {
        let events: Vec<_> = (1..=6).map(event).collect();
        let first = extend(&End::default(), &events[..3]).unwrap();
        let second = extend(&first.1, &events[3..]).unwrap();
        [first, second]
    }

    #[test]
    fn a_chain_that_nobody_touched_is_followed_to_its_end() {
        let mut end = End::default();
        let mut events = Vec::new();
        for (page, after) in two() {
            let (entries, next) = follow(&end, page.as_bytes()).unwrap();
            assert_eq!(links(page.as_bytes()).unwrap(), entries);
            events.extend(
                entries
                    .into_iter()
                    .map(|link| (link.entry.id, link.entry.event)),
            );
            assert_eq!(next, after);
            end = next;
        }
        assert_eq!((end.page, end.seq), (2, 6));
        assert_eq!(events, (1..=6).map(event).collect::<Vec<_>>());
    }

    #[test]
    fn a_hash_is_what_sha256sum_says() {
        // printf %s "$(printf '0%.0s' $(seq 64))x" | sha256sum
        let hash = "88258fac11427f77c0b241fa14c18fd1d18af298ddc686bb0d60b148a59ce546";
        assert_eq!(link(NOTHING, "x"), hash);
    }

    #[test]
    fn no_byte_of_a_page_can_be_changed_removed_or_added() {
        let [(first, end), (second, after)] = two();
        assert!(follow(&End::default(), first.as_bytes()).is_ok());
        let unseen = |page: &[u8]| follow(&end, page).is_ok_and(|(_, end)| end == after);
        assert!(unseen(second.as_bytes()));
        for n in 0..second.len() {
            for change in [1, 0x20, 0x80] {
                let mut page = second.clone().into_bytes();
                page[n] ^= change;
                assert!(!unseen(&page), "{n} {change}");
            }
            let mut page = second.clone().into_bytes();
            page.remove(n);
            assert!(!unseen(&page), "{n}");
            let mut page = second.clone().into_bytes();
            page.insert(n, b' ');
            assert!(!unseen(&page), "{n}");
        }
    }

    #[test]
    fn lines_that_are_removed_swapped_or_doubled_are_found_where_they_are() {
        let [_, (second, after)] = two();
        let [(_, end), _] = two();
        let lines: Vec<&str> = second.split_terminator('\n').collect();
        let join = |lines: &[&str]| format!("{}\n", lines.join("\n"));
        let (a, b, c) = (lines[0], lines[1], lines[2]);
        for (page, at) in [
            (join(&[b, c]), 4),
            (join(&[a, c]), 5),
            (join(&[b, a, c]), 4),
            (join(&[a, c, b]), 5),
            (join(&[a, a, b, c]), 5),
        ] {
            assert_eq!(follow(&end, page.as_bytes()).unwrap_err().at, at);
        }
        // What is missing at the end shows only by what the head says.
        let (_, short) = follow(&end, join(&[a, b]).as_bytes()).unwrap();
        assert_ne!(short, after);
        assert!(follow(&end, b"").is_err());
        assert!(follow(&end, b"\n").is_err());
    }

    #[test]
    fn a_head_counts_only_as_it_was_signed_and_where() {
        let token = "an-admin-token-of-forty-characters-or-so";
        let seal = "ZGlhbHRvbmUgdGVzdCBzZWFsIGtleSwgbm8gc2VjcmU=";
        let other = "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=";
        let keys = |now, old| Keys::new(Some(token), Some(now), old).ok().unwrap();
        let acme = Id::try_from("acme").unwrap();
        let [(_, before), (_, end)] = two();
        let head = Head { end, before };
        let line = head.write(&keys(seal, None), Some(&acme)).unwrap();
        let read = |keys: &Keys, bytes: &[u8]| Head::read(keys, Some(&acme), bytes);
        let now = keys(seal, None);
        assert_eq!(
            read(&now, line.as_bytes()),
            Some((head.clone(), Signer::Current))
        );
        let changing = keys(other, Some(seal));
        assert_eq!(read(&changing, line.as_bytes()), Some((head, Signer::Old)));
        assert_eq!(read(&keys(other, None), line.as_bytes()), None);
        assert_eq!(Head::read(&now, None, line.as_bytes()), None);
        assert!(read(&now, line.trim_end().as_bytes()).is_some());
        for n in 0..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[n] ^= 1;
            assert_eq!(read(&now, &bytes), None, "{n}");
        }
    }
}
