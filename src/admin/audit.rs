//! `GET /audit`: what was written down, and whether it is still as it was written.
//!
//! Newest first: what waits to be chained, then the chain from its end. Nothing in it is secret, so every role
//! may read it; a caller of one tenant reads that tenant's alone.

use std::collections::BTreeSet;

use http::{Response, StatusCode};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};

use super::problem::{Failure, Kind as ProblemKind, Problem};
use super::save::Context;
use super::{LARGEST_PAGE, PAGE};
use crate::audit::{self, Event};
use crate::chain::{self, Break, End, Head};
use crate::chaining::{self, Untrue};
use crate::fault::Fault;
use crate::gather::in_order;
use crate::key;
use crate::ports::{Level, Objects, World};
use crate::request::Request;
use crate::text::Id;
use crate::time::Timestamp;

/// How many pages of the chain one call looks through for what it was asked for.
const PAGES_PER_CALL: usize = 20;

/// How many events that wait one call reads.
const READS_PER_CALL: usize = 100;

/// How many listings of what waits one call takes: each is a thousand.
const LISTINGS: usize = 2;

/// How many pages one call verifies.
const VERIFIED_PER_CALL: usize = 50;

/// What a caller asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Question {
    tenant: Option<Id>,
    filter: Filter,
    limit: Option<u32>,
    verify: bool,
    cursor: Option<String>,
}

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filter {
    /// Their resource begins so.
    resource: Option<String>,
    actor: Option<String>,
    action: Option<String>,
    /// At this time or later.
    from: Option<Timestamp>,
    /// Before this time.
    to: Option<Timestamp>,
}

impl Filter {
    fn takes(&self, event: &Event) -> bool {
        let same = |wanted: &Option<String>, text: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == text)
        };
        let resource = self.resource.as_ref();
        resource.is_none_or(|prefix| event.resource.starts_with(prefix.as_str()))
            && same(&self.actor, &event.actor)
            && same(&self.action, &event.action)
            && self.from.is_none_or(|from| event.at >= from)
            && self.to.is_none_or(|to| event.at < to)
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::BadParameter, detail)
}

fn time(name: &str, value: &str) -> Result<Timestamp, Problem> {
    let value = IntoDeserializer::<serde::de::value::Error>::into_deserializer(value);
    Timestamp::deserialize(value).map_err(|wrong| bad(format!("{name} {wrong}")))
}

impl Question {
    fn read(parameters: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut question = Self::default();
        for (name, value) in parameters {
            match name.as_str() {
                "tenant" => {
                    let tenant = Id::try_from(value);
                    question.tenant = Some(tenant.map_err(|wrong| bad(format!("tenant {wrong}")))?);
                }
                "resource" => question.filter.resource = Some(value),
                "actor" => question.filter.actor = Some(value),
                "action" => question.filter.action = Some(value),
                "from" => question.filter.from = Some(time("from", &value)?),
                "to" => question.filter.to = Some(time("to", &value)?),
                "limit" => {
                    let limit = value.parse().ok();
                    let limit = limit.filter(|limit| (1..=LARGEST_PAGE).contains(limit));
                    let wrong = || bad(format!("limit must be 1 to {LARGEST_PAGE}"));
                    question.limit = Some(limit.ok_or_else(wrong)?);
                }
                "verify" => {
                    question.verify = match value.as_str() {
                        "1" => true,
                        "0" => false,
                        _ => return Err(bad("verify must be 0 or 1")),
                    }
                }
                "cursor" => question.cursor = Some(value),
                _ => return Err(bad(format!("there is no parameter {name}"))),
            }
        }
        let part = question.filter != Filter::default() || question.limit.is_some();
        if question.verify && part {
            return Err(bad("with verify=1 the only others are tenant and cursor"));
        }
        Ok(question)
    }
}

/// Answers `GET /audit`.
///
/// # Errors
/// A [`Failure`] for a parameter that is wrong, or of the store.
pub async fn answer<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
) -> Result<Response<Vec<u8>>, Failure> {
    let question = Question::read(super::parameters(request))?;
    let own = context.caller.tenant.as_ref();
    let owner = match (own, question.tenant.as_ref()) {
        (Some(own), Some(asked)) if own != asked => {
            // Another tenant's looks like that of a tenant that nothing ever happened to.
            if question.verify {
                return super::json(StatusCode::OK, &verified(&End::default()));
            }
            let nothing = List {
                items: Vec::new(),
                cursor: None,
            };
            return super::json(StatusCode::OK, &nothing);
        }
        (own, asked) => asked.or(own),
    };
    if question.verify {
        verify(world, owner, question.cursor.as_deref()).await
    } else {
        list(world, owner, &question).await
    }
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cursor {
    /// Among what waits, before this name; the chain ended at this entry when the list was begun, and
    /// what was chained since and does not come before the name was shown.
    Waiting { seq: u64, name: String },
    /// In this page of the chain, before this entry.
    Chained { page: u64, seq: u64 },
}

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let (kind, number, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let number = number.parse().ok()?;
        match kind {
            "w" => Some(Self::Waiting {
                seq: number,
                name: rest.to_owned(),
            }),
            "c" => Some(Self::Chained {
                page: number,
                seq: rest.parse().ok()?,
            }),
            _ => None,
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Waiting { seq, name } => format!("w.{seq}.{name}"),
            Self::Chained { page, seq } => format!("c.{page}.{seq}"),
        }
    }
}

/// An event as the list shows it; one that waits has no number and no hash yet.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "AuditEntry"))]
pub(crate) struct Shown {
    /// Its number in the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Names it, and sorts by time.
    id: String,
    #[serde(flatten)]
    event: Event,
    /// SHA-256 of the hash before it and this entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

/// The answer of `GET /audit`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "AuditPage"))]
pub(crate) struct List {
    /// The entries, newest first.
    items: Vec<Shown>,
    /// The parameter `cursor` of the call that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

async fn head_of<W: World>(world: &W, owner: Option<&Id>) -> Result<Head, Fault> {
    match chaining::head(world, owner).await {
        Ok(place) => Ok(place.head),
        Err(Untrue::Fault(fault)) => Err(fault),
        Err(Untrue::Unsigned | Untrue::PutBack(_)) => Err(Fault::Broken("audit head")),
    }
}

async fn list<W: World>(
    world: &W,
    owner: Option<&Id>,
    question: &Question,
) -> Result<Response<Vec<u8>>, Failure> {
    let cursor = question.cursor.as_deref();
    let cursor = cursor.map(|text| Cursor::read(text).ok_or_else(|| bad("cursor is none of ours")));
    let cursor = cursor.transpose()?;
    let limit = usize::try_from(question.limit.unwrap_or(PAGE)).unwrap_or(usize::MAX);
    let mut search = Search {
        world,
        owner,
        filter: &question.filter,
        limit,
        items: Vec::new(),
        shown: BTreeSet::new(),
    };
    let cursor = match cursor {
        Some(Cursor::Chained { page, seq }) => {
            let head = head_of(world, owner).await?;
            search.chained(page.min(head.end.page), seq, None).await?
        }
        waiting => {
            let (began, before) = if let Some(Cursor::Waiting { seq, name }) = waiting {
                (seq, Some(name))
            } else {
                let head = head_of(world, owner).await?;
                (head.end.seq, None)
            };
            search.waiting_and_chained(began, before).await?
        }
    };
    let list = List {
        items: search.items,
        cursor: cursor.map(|cursor| cursor.write()),
    };
    super::json(StatusCode::OK, &list)
}

/// A list being put together.
struct Search<'a, W: World> {
    world: &'a W,
    owner: Option<&'a Id>,
    filter: &'a Filter,
    limit: usize,
    items: Vec<Shown>,
    /// The names of what was shown, or looked at, while it waited.
    shown: BTreeSet<String>,
}

impl<W: World> Search<'_, W> {
    /// What waits and then the chain. The listing comes before the head: what is chained in between
    /// is met twice, and the second time it is known.
    async fn waiting_and_chained(
        &mut self,
        began: u64,
        before: Option<String>,
    ) -> Result<Option<Cursor>, Fault> {
        let prefix = key::audit_new(self.owner, "");
        let mut waiting = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..LISTINGS {
            let r2 = self.world.r2();
            let page = r2.list(&prefix, after.as_deref(), 1_000).await?;
            waiting.extend(page.entries.into_iter().filter_map(chaining::named));
            after = page.cursor;
            if after.is_none() {
                break;
            }
        }
        if after.is_some() {
            self.world.log(Level::Warn, "audit.backlog", &[]);
        }
        let head = head_of(self.world, self.owner).await?;
        // A run that was cut off may have chained some without deleting them.
        let last = chaining::links(self.world, self.owner, head.end.page).await?;
        let chained: BTreeSet<&str> = in_order(last.iter().map(|link| link.entry.id.as_str()));
        let older = |name: &str| before.as_ref().is_none_or(|before| name < before.as_str());
        let mut reads = 0;
        for (name, metadata) in waiting.iter().rev() {
            if !older(name) || chained.contains(name.as_str()) {
                continue;
            }
            reads += 1;
            let key = key::audit_new(self.owner, name);
            if let Some(object) = self.world.r2().get(&key).await? {
                let keys = self.world.keys();
                let event = audit::read(keys, self.owner, name, &object.body, metadata);
                self.shown.insert(name.clone());
                self.show(None, name, event, None);
            }
            if self.is_full() || reads == READS_PER_CALL {
                let (seq, name) = (began, name.clone());
                return Ok(Some(Cursor::Waiting { seq, name }));
            }
        }
        let since = before.map(|before| (began, before));
        self.chained(head.end.page, u64::MAX, since).await
    }

    /// The chain from a page downwards, before an entry. `since`: what was chained after this entry
    /// and does not come before this name was shown by an earlier call.
    async fn chained(
        &mut self,
        page: u64,
        before: u64,
        since: Option<(u64, String)>,
    ) -> Result<Option<Cursor>, Fault> {
        let mut below = before;
        let mut pages = (1..=page).rev();
        for page in pages.by_ref().take(PAGES_PER_CALL) {
            let links = chaining::links(self.world, self.owner, page).await?;
            for link in links.into_iter().rev() {
                let (seq, id) = (link.entry.seq, link.entry.id);
                let again = since
                    .as_ref()
                    .is_some_and(|(began, name)| seq > *began && id >= *name);
                if seq >= below || again || self.shown.contains(&id) {
                    continue;
                }
                below = seq;
                self.show(Some(seq), &id, link.entry.event, Some(link.hash));
                if self.is_full() {
                    return Ok((seq > 1).then_some(Cursor::Chained { page, seq }));
                }
            }
        }
        Ok(pages
            .next()
            .map(|page| Cursor::Chained { page, seq: below }))
    }

    fn is_full(&self) -> bool {
        self.items.len() >= self.limit
    }

    fn show(&mut self, seq: Option<u64>, id: &str, event: Event, hash: Option<String>) {
        if self.filter.takes(&event) {
            self.items.push(Shown {
                seq,
                id: id.to_owned(),
                event,
                hash,
            });
        }
    }
}

/// How far a chain is whole: the answer of `GET /audit?verify=1`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub(crate) enum Verification {
    /// To its end.
    Whole {
        /// True.
        verified: bool,
        /// How many entries it has.
        entries: u64,
        /// The hash of the last one; null if there is none.
        head: Option<String>,
    },
    /// So far.
    Part {
        /// How many entries that are.
        entries: u64,
        /// The parameter of the call that goes on.
        cursor: String,
    },
    /// It is not.
    Broken {
        /// False.
        verified: bool,
        /// Which entry was changed, removed, swapped or is missing at the end; 0: what is signed is not what
        /// we signed.
        at: u64,
        /// What is wrong there.
        why: &'static str,
    },
}

fn verified(end: &End) -> Verification {
    Verification::Whole {
        verified: true,
        entries: end.seq,
        head: (end.seq > 0).then(|| end.hash.clone()),
    }
}

fn not_verified(broken: &Break) -> Verification {
    Verification::Broken {
        verified: false,
        at: broken.at,
        why: broken.why,
    }
}

/// Where a verification goes on: `{page}.{seq}.{hash}` of what was verified last.
fn read_end(text: &str) -> Option<End> {
    let mut parts = text.splitn(3, '.');
    let (page, seq, hash) = (parts.next()?, parts.next()?, parts.next()?);
    Some(End {
        page: page.parse().ok()?,
        seq: seq.parse().ok()?,
        hash: hash.to_owned(),
    })
}

/// What came of following a chain.
enum Followed {
    /// To its end.
    All(End),
    /// So far, and so far it is whole.
    Part(End),
    Broken(Break),
}

async fn verify<W: World>(
    world: &W,
    owner: Option<&Id>,
    cursor: Option<&str>,
) -> Result<Response<Vec<u8>>, Failure> {
    let begin = match cursor {
        None => End::default(),
        Some(text) => read_end(text).ok_or_else(|| bad("cursor is none of ours"))?,
    };
    let followed = match chaining::place(world, owner).await {
        Ok(place) => follow(world, owner, begin, &place.head).await?,
        Err(Untrue::Fault(fault)) => return Err(fault.into()),
        Err(untrue) => Followed::Broken(Break {
            at: match untrue {
                Untrue::PutBack(at) => at,
                _ => 0,
            },
            why: untrue.why(),
        }),
    };
    let answer = match followed {
        Followed::All(end) => verified(&end),
        Followed::Part(end) => {
            let cursor = format!("{}.{}.{}", end.page, end.seq, end.hash);
            Verification::Part {
                entries: end.seq,
                cursor,
            }
        }
        Followed::Broken(broken) => {
            let at = broken.at.to_string();
            let fields = [
                ("tenant", key::audit_owner(owner)),
                ("at", at.as_str()),
                ("why", broken.why),
            ];
            world.log(Level::Error, "audit.broken", &fields);
            not_verified(&broken)
        }
    };
    super::json(StatusCode::OK, &answer)
}

async fn follow<W: World>(
    world: &W,
    owner: Option<&Id>,
    begin: End,
    head: &Head,
) -> Result<Followed, Fault> {
    let mut end = begin;
    for _ in 0..VERIFIED_PER_CALL {
        if end.page >= head.end.page {
            break;
        }
        let key = key::audit_page(owner, end.page + 1);
        let Some(object) = world.r2().get(&key).await? else {
            return Ok(Followed::Broken(Break {
                at: end.seq + 1,
                why: "a page is missing",
            }));
        };
        match chain::follow(&end, &object.body) {
            Ok((_, next)) => end = next,
            Err(broken) => return Ok(Followed::Broken(broken)),
        }
    }
    if end.page < head.end.page {
        return Ok(Followed::Part(end));
    }
    if end != head.end {
        return Ok(Followed::Broken(Break {
            at: head.end.seq.min(end.seq + 1),
            why: "the entries do not end as the head says",
        }));
    }
    // A page behind the head is one that a run was cut off at, if what stands in it still waits.
    let behind = chaining::links(world, owner, end.page + 1).await?;
    let Some(first) = behind.first() else {
        return Ok(Followed::All(end));
    };
    let key = key::audit_new(owner, &first.entry.id);
    if world.r2().get(&key).await?.is_some() {
        return Ok(Followed::All(end));
    }
    let now = head_of(world, owner).await?;
    Ok(if now.end.page > end.page {
        // It was moved while this looked.
        Followed::Part(end)
    } else {
        Followed::Broken(Break {
            at: end.seq + 1,
            why: "the head is older than the last page",
        })
    })
}
