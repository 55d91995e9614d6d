//! What a list is narrowed to: the filters of each collection, and which records they let through.
//!
//! R2 lists ids and no contents. So a narrowed list looks at KV's copies, a hundred in one operation, and reads
//! from R2 what may be wanted: what is shown is the record as it is now. A call looks at so many records and no
//! more, and its cursor goes on where it stopped.

use serde_json::{Map, Value};

use super::Wanted;
use super::problem::{Kind as ProblemKind, Problem};
use super::status::Known;
use crate::cached::Batching;
use crate::fault::Fault;
use crate::key::{self, Kind};
use crate::mac::Mac;
use crate::ports::Mappings;
use crate::record::account::Account;
use crate::record::device::Device;
use crate::record::pbx::Mode;
use crate::record::token::Role;
use crate::stage::Stage;
use crate::text::{Id, Place};
use crate::vendor::VendorId;

/// How many records a call looks at before it gives a cursor.
const LOOKED_AT: usize = 2_000;

/// After how many operations of KV and R2 it does, of the 1,000 that the platform gives a request. One
/// record takes a few more, a phone with an account on each of 255 lines the most.
const SPENT: u32 = 500;

/// How many are listed, and looked at in KV, at a time (Workers KV, "Read key-value pairs": 100 keys).
const AT_ONCE: u32 = 100;

/// The longest text to look for, in characters.
pub const LONGEST_TEXT: usize = 100;

/// The members of records in which a text is looked for, beside the id.
const TEXTS: [&str; 18] = [
    "serial",
    "site",
    "region",
    "model",
    "profile",
    "lines",
    "buttons",
    "pbx",
    "username",
    "auth_username",
    "display_name",
    "voicemail",
    "mailbox",
    "name",
    "ari_url",
    "sip",
    "url",
    "access",
];

/// The words of an account's status.
pub const ACCOUNT_WORDS: [&str; 3] = ["online", "offline", "unknown"];

/// The filters of one list. A record must pass all of them.
#[derive(Debug, Default)]
pub struct Filters {
    /// Where in a record (RFC 6901), and what must stand there, in any case of letters.
    members: Vec<(&'static str, String)>,
    /// A text that must stand somewhere in it, in small letters.
    text: Option<String>,
    /// The word for how far a phone or an account must be, as its own status says it.
    status: Option<&'static str>,
}

/// Where in the records of a kind a filter looks; `None` if they have no such filter.
fn member(kind: Kind, name: &str) -> Option<&'static str> {
    Some(match (kind, name) {
        (Kind::Device, "vendor") => "/vendor",
        (Kind::Device, "model") => "/model",
        (Kind::Device, "site") => "/site",
        (Kind::Device, "profile") => "/profile",
        (Kind::Account, "pbx") => "/pbx",
        (Kind::Pbx, "mode") => "/mode",
        (Kind::Rule, "vendor") => "/match/vendor",
        (Kind::Rule, "model") => "/match/model",
        (Kind::Rule, "site") => "/match/site",
        (Kind::Rule, "region") => "/match/region",
        (Kind::Rule, "country") => "/match/country",
        (Kind::Token, "role") => "/role",
        _ => return None,
    })
}

/// The one of some words that a value is.
fn one_of(
    name: &str,
    value: &str,
    words: impl Iterator<Item = &'static str>,
) -> Result<&'static str, Problem> {
    let words: Vec<&str> = words.collect();
    let found = words.iter().find(|word| **word == value);
    found.copied().ok_or_else(|| {
        let detail = format!("{name} must be one of {}", words.join(", "));
        Problem::new(ProblemKind::BadParameter, detail)
    })
}

impl Filters {
    /// Takes a parameter of a list's query; false if the records of this kind have no such filter.
    ///
    /// # Errors
    /// A [`Problem`] that names the filter: its value is none, or it stands twice.
    pub fn take(&mut self, kind: Kind, name: &str, value: &str) -> Result<bool, Problem> {
        let bad = |detail: String| Problem::new(ProblemKind::BadParameter, detail);
        let twice = || bad(format!("{name} stands twice"));
        if let Some(pointer) = member(kind, name) {
            let wrong = |wrong: String| bad(format!("{name} {wrong}"));
            match name {
                "vendor" => {
                    let vendors = VendorId::ALL.iter().map(|vendor| vendor.name());
                    one_of(name, value, vendors)?;
                }
                "mode" => {
                    one_of(name, value, Mode::ALL.into_iter().map(Mode::name))?;
                }
                "role" => {
                    one_of(name, value, Role::ALL.into_iter().map(Role::name))?;
                }
                "profile" | "pbx" => drop(Id::try_from(value).map_err(wrong)?),
                _ => drop(Place::try_from(value).map_err(wrong)?),
            }
            if self.members.iter().any(|(taken, _)| *taken == pointer) {
                return Err(twice());
            }
            self.members.push((pointer, value.to_owned()));
            return Ok(true);
        }
        match (kind, name) {
            (_, "q") => {
                let text = value.trim().to_lowercase();
                if text.is_empty() || value.chars().count() > LONGEST_TEXT {
                    return Err(bad(format!("q must have 1 to {LONGEST_TEXT} characters")));
                }
                if self.text.replace(text).is_some() {
                    return Err(twice());
                }
            }
            (Kind::Device | Kind::Account, "status") => {
                let word = if kind == Kind::Device {
                    one_of(name, value, Stage::ALL.into_iter().map(Stage::word))?
                } else {
                    one_of(name, value, ACCOUNT_WORDS.into_iter())?
                };
                if self.status.replace(word).is_some() {
                    return Err(twice());
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether every record passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.text.is_none() && self.status.is_none()
    }

    /// Whether a record passes, as far as the record itself says. `members`: it, as answers show it or as
    /// it is stored.
    #[must_use]
    pub fn pass(&self, id: &str, members: &Map<String, Value>) -> bool {
        let stands = |(pointer, value): &(&str, String)| {
            let mut names = pointer.split('/').skip(1);
            let first = names.next().and_then(|name| members.get(name));
            let found = names.fold(first, |value, name| value?.get(name));
            let text = found.and_then(Value::as_str);
            text.is_some_and(|text| text.eq_ignore_ascii_case(value))
        };
        self.members.iter().all(stands)
            && self.text.as_ref().is_none_or(|text| {
                // A MAC in any of its spellings, or a part of one.
                let digits = text.replace([':', '-', '.'], "");
                let texts = TEXTS.iter().filter_map(|name| members.get(*name));
                id.contains(text.as_str())
                    || (!digits.is_empty() && id.parse::<Mac>().is_ok() && id.contains(&digits))
                    || texts.into_iter().any(|value| holds(value, text))
            })
    }
}

/// Whether a text stands in a value, in any case of letters; what a button does is no text of anybody's.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own.to_lowercase().contains(text),
        Value::Array(elements) => elements.iter().any(|element| holds(element, text)),
        Value::Object(members) => members
            .iter()
            .any(|(name, member)| name != "type" && holds(member, text)),
        _ => false,
    }
}

/// A page of a narrowed list: the records, and the id after which the next page begins. It may have fewer than
/// were wanted, and still more behind it.
///
/// # Errors
/// The [`Fault`] of R2.
pub(super) async fn page<W: Batching>(
    world: &W,
    kind: Kind,
    wanted: &Wanted,
    filters: &Filters,
) -> Result<(Vec<Map<String, Value>>, Option<String>), Fault> {
    let most = usize::try_from(wanted.limit).map_err(|_| Fault::Broken("limit"))?;
    let mut known = Known::default();
    let mut items = Vec::new();
    let mut looked_at = 0;
    let mut after = wanted.after.clone();
    loop {
        let page = wanted
            .listed(world, kind, after.as_deref(), AT_ONCE)
            .await?;
        let there = page.entries.iter();
        let there = there.filter(|entry| !entry.metadata.contains_key("gone"));
        let ids: Vec<&str> = there.map(|entry| key::last(&entry.key)).collect();
        let copies = copies(world, kind, &ids).await;
        for (n, id) in ids.into_iter().enumerate() {
            if items.len() >= most || looked_at >= LOOKED_AT || world.spent() >= SPENT {
                return Ok((items, after));
            }
            looked_at += 1;
            after = Some(id.to_owned());
            // What KV knows nothing of, or that it is gone, may be new.
            let copy = copies.get(n).and_then(Option::as_ref);
            if copy.is_none_or(|copy| filters.pass(id, copy)) {
                let tenant = wanted.tenant.as_ref();
                let found = Box::pin(find(world, kind, id, tenant, filters, &mut known));
                items.extend(found.await?);
            }
        }
        match page.cursor {
            Some(last) => after = Some(key::last(&last).to_owned()),
            None => return Ok((items, None)),
        }
    }
}

/// The records of some ids as KV has them; `None` for what it does not know, or knows to be gone. A KV that
/// fails knows nothing.
async fn copies<W: Batching>(
    world: &W,
    kind: Kind,
    ids: &[&str],
) -> Vec<Option<Map<String, Value>>> {
    if ids.is_empty() || kind == Kind::Token {
        // Tokens are in R2 alone.
        return Vec::new();
    }
    let keys: Vec<String> = ids.iter().map(|id| key::record(kind, id)).collect();
    let texts = world.kv().get_many(&keys).await.unwrap_or_default();
    let record = |text: String| match serde_json::from_str(&text) {
        Ok(Value::Object(mut stored)) if !stored.contains_key("gone") => {
            match stored.remove("record") {
                Some(Value::Object(record)) => Some(record),
                _ => None,
            }
        }
        _ => None,
    };
    texts
        .into_iter()
        .map(|text| text.and_then(record))
        .collect()
}

/// A record as an answer shows it, if R2 has it and it passes.
async fn find<W: Batching>(
    world: &W,
    kind: Kind,
    id: &str,
    tenant: Option<&Id>,
    filters: &Filters,
    known: &mut Known,
) -> Result<Option<Map<String, Value>>, Fault> {
    let passing = |shown: Map<String, Value>| filters.pass(id, &shown).then_some(shown);
    let (shown, reached) = match (kind, filters.status) {
        (Kind::Device, Some(_)) => {
            let stored = super::alive::<Device, W>(world, id, tenant).await?;
            let Some((stored, mac)) = stored.zip(id.parse().ok()) else {
                return Ok(None);
            };
            let Some(shown) = passing(super::shown(id, &stored)) else {
                return Ok(None);
            };
            (shown, known.stage(world, mac, &stored).await?.word())
        }
        (Kind::Account, Some(_)) => {
            let Some(stored) = super::alive::<Account, W>(world, id, tenant).await? else {
                return Ok(None);
            };
            let Some(shown) = passing(super::shown(id, &stored)) else {
                return Ok(None);
            };
            (shown, known.word(world, id, &stored).await?)
        }
        _ => {
            let shown = super::any_item(world, kind, id, tenant).await?;
            return Ok(shown.and_then(passing));
        }
    };
    Ok(Some(shown).filter(|_| filters.status == Some(reached)))
}
