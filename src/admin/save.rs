//! Saving and deleting records: one compare-and-set each, checked before, followed up after.

use std::collections::BTreeMap;

use http::header::{IF_MATCH, IF_NONE_MATCH};
use serde_json::{Map, Value};

use super::body;
use super::caller::Caller;
use super::managed::Managed;
use super::problem::{Failure, Kind as ProblemKind, Problem};
use crate::fault::Fault;
use crate::finish::{self, Mark};
use crate::ports::{Level, World};
use crate::record::Stored;
use crate::request::Request;
use crate::secret::Secret;
use crate::store::{self, Loaded, secret_place};

/// What an admin call knows of where it came in.
#[derive(Debug, Clone)]
pub struct Context {
    /// Scheme and host of the URLs that phones get.
    pub origin: String,
    /// Whether Dialtone itself runs on a loopback host: then its PBXes may too.
    pub loopback: bool,
    /// Who calls.
    pub caller: Caller,
}

/// How a record is to be changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// It becomes this.
    Put(Map<String, Value>),
    /// It is merged with this (RFC 7396).
    Patch(Map<String, Value>),
    /// The same, and the passwords that this replaces end at once.
    Supersede(Map<String, Value>),
}

/// A save that went through.
#[derive(Debug, Clone)]
pub struct Saved<R: Managed> {
    /// The record as it is now.
    pub stored: Stored<R>,
    /// Whether it is new.
    pub created: bool,
    /// Whether everything that follows from it is done as well. If not, the scheduled handler
    /// does it within a minute.
    pub followed_up: bool,
}

/// How often a save is tried again after somebody else's came between.
const TRIES: u32 = 12;

/// The `ETag` of a record in the API.
#[must_use]
pub fn etag<R: Managed>(stored: &Stored<R>) -> String {
    format!("\"{}\"", stored.edition)
}

/// Checks `If-Match` and `If-None-Match` (RFC 9110, 13.1) of a call that changes something.
fn preconditions<R: Managed>(
    request: &Request,
    current: Option<&Stored<R>>,
) -> Result<(), Problem> {
    let names = |list: &str, weak: bool| {
        list.split(',').map(str::trim).any(|tag| {
            let tag = if weak {
                tag.strip_prefix("W/").unwrap_or(tag)
            } else {
                tag
            };
            current.is_some_and(|stored| tag == "*" || tag == etag(stored))
        })
    };
    let failed = |detail: &str| Problem::new(ProblemKind::PreconditionFailed, detail);
    let wanted = request.header(IF_MATCH.as_str());
    if !wanted.is_empty() && !names(wanted, false) {
        return Err(failed(
            "If-Match names another version than the one that is there",
        ));
    }
    let unwanted = request.header(IF_NONE_MATCH.as_str());
    if !unwanted.is_empty() && names(unwanted, true) {
        return Err(failed("If-None-Match names what is there"));
    }
    Ok(())
}

/// Creates or changes a record.
///
/// # Errors
/// A [`Failure`]: what is wrong with the call, or with us. Nothing is changed then.
pub async fn save<R: Managed, W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    id: &str,
    change: Change,
) -> Result<Saved<R>, Failure> {
    let mut buried = false;
    for attempt in 0..TRIES {
        let loaded = store::load::<R, W>(world, id).await?;
        let (former, version) = match loaded {
            Some(Loaded { stored, etag }) => (Some(stored), Some(etag)),
            None => (None, None),
        };
        let current = former.as_ref().filter(|stored| stored.alive());
        if former.is_some() && current.is_none() && !buried {
            // What follows from its deletion must be done before it is forgotten.
            finish::finish(world, R::KIND, id, None).await?;
            buried = true;
            continue;
        }
        // Somebody else's comes first: not even that a condition fails is this caller's business.
        let mut record: R = make(current, &change, id)?;
        if current.is_some_and(|current| current.record.tenant() != record.tenant()) {
            let detail = format!("this {} belongs to another tenant", R::KIND);
            return Err(Problem::new(ProblemKind::Taken, detail).into());
        }
        preconditions(request, current)?;

        let given = record.take_secrets();
        let has_secret = |name: &str| {
            given
                .iter()
                .any(|(given, secret)| *given == name && secret.is_some())
                || current.is_some_and(|stored| stored.sealed.contains_key(name))
        };
        let errors = record.check(world, context, id, &has_secret).await?;
        if !errors.is_empty() {
            return Err(Problem::invalid(errors).into());
        }
        let (sealed, rewritten) = seal_secrets(world, id, &record, given, current)?;
        let mut next = Stored {
            schema: R::SCHEMA,
            rev: former.as_ref().map_or(1, |stored| stored.rev + 1),
            edition: former.as_ref().map_or(1, |stored| stored.edition + 1),
            updated_at: world.now(),
            gone: None,
            record,
            sealed,
            state: former
                .as_ref()
                .map(|stored| stored.state.clone())
                .unwrap_or_default(),
        };
        R::settle(&mut next, former.as_ref(), world.now());
        let at_once = matches!(change, Change::Supersede(_));
        R::keep_former(world, id, &mut next, former.as_ref(), at_once)?;
        if let Some(current) = current
            && current.record == next.record
            && current.state == next.state
            && current.sealed.len() == next.sealed.len()
            && !rewritten
        {
            // The same again: nothing to write.
            let stored = current.clone();
            return Ok(Saved {
                stored,
                created: false,
                followed_up: true,
            });
        }

        let mark = finish::begin(world, R::KIND, id).await?;
        finish::enlist(world, id, &next.record).await?;
        if let Err(refused) = R::prepare(world, context, id, &mut next).await {
            if matches!(refused, Failure::Problem(_)) {
                finish::done(world, &mark).await?;
            }
            return Err(refused);
        }
        if store::replace(world, id, &next, version.as_deref()).await? {
            let followed_up = follow_up(world, context, R::KIND, id, &mark).await;
            return Ok(Saved {
                created: current.is_none(),
                stored: next,
                followed_up,
            });
        }
        finish::done(world, &mark).await?;
        store::pause(world, attempt).await;
    }
    Err(Fault::Contended.into())
}

/// Seals the secrets of a record: those that the admin gave, those that are kept, those that are
/// made. True with them if any differs from what is stored.
fn seal_secrets<R: Managed, W: World>(
    world: &W,
    id: &str,
    record: &R,
    given: Vec<(&'static str, Option<Secret>)>,
    current: Option<&Stored<R>>,
) -> Result<(BTreeMap<String, String>, bool), Fault> {
    let keys = world.keys();
    let mut sealed = BTreeMap::new();
    let mut rewritten = false;
    for (name, secret) in given {
        let place = secret_place(R::KIND, id, name);
        let kept = current.and_then(|stored| stored.sealed.get(name));
        let text = match (secret, kept) {
            (Some(secret), kept) if secret.reveal().is_empty() => {
                rewritten |= kept.is_some();
                continue;
            }
            (Some(secret), _) => secret.reveal().as_bytes().to_vec(),
            (None, Some(kept)) => keys.open(&place, kept)?,
            (None, None) if record.made_secrets().contains(&name) => {
                Secret::generate(world)?.reveal().as_bytes().to_vec()
            }
            (None, None) => continue,
        };
        // The same secret under the key that is in use now stays as it is; a save brings all others
        // under it.
        let as_it_is = match kept {
            Some(kept) if keys.is_current(kept) && keys.open(&place, kept)? == text => Some(kept),
            _ => None,
        };
        let made = match as_it_is {
            Some(kept) => kept.clone(),
            None => keys.seal(world, &place, &text)?,
        };
        rewritten |= as_it_is.is_none();
        sealed.insert(name.to_owned(), made);
    }
    Ok((sealed, rewritten))
}

/// The record that a change makes of the current one.
fn make<R: Managed>(current: Option<&Stored<R>>, change: &Change, id: &str) -> Result<R, Failure> {
    let mut members = match change {
        Change::Put(members) => members.clone(),
        Change::Patch(patch) | Change::Supersede(patch) => {
            let Some(current) = current else {
                return Err(not_found::<R>(id).into());
            };
            let mut members = body::show(id, current);
            let mut patch = patch.clone();
            body::without_read_only(&mut patch, id)?;
            // A secret is never shown, so a patch that leaves it out, or sets it to null, keeps it.
            body::merge(&mut members, patch);
            members
        }
    };
    body::without_read_only(&mut members, id)?;
    Ok(body::parse(members)?)
}

/// That there is no such record.
#[must_use]
pub fn not_found<R: Managed>(id: &str) -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        format!("there is no {} {id}", R::KIND),
    )
}

/// Deletes a record: it becomes its own tombstone, which comes back.
///
/// # Errors
/// A [`Failure`]; nothing is deleted then.
pub async fn delete<R: Managed, W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    id: &str,
) -> Result<Stored<R>, Failure> {
    for attempt in 0..TRIES {
        let loaded = store::load::<R, W>(world, id).await?;
        let Some(Loaded { stored, etag }) = loaded.filter(|loaded| loaded.stored.alive()) else {
            return Err(not_found::<R>(id).into());
        };
        preconditions(request, Some(&stored))?;
        if let Some(by) = R::used_by(world, id, &stored).await? {
            return Err(Problem::new(ProblemKind::InUse, by).into());
        }
        let mut next = stored;
        next.rev += 1;
        next.edition += 1;
        next.updated_at = world.now();
        next.gone = Some(world.now());
        next.sealed.clear();
        R::retire(&mut next);
        let mark = finish::begin(world, R::KIND, id).await?;
        if store::replace(world, id, &next, Some(&etag)).await? {
            follow_up(world, context, R::KIND, id, &mark).await;
            return Ok(next);
        }
        finish::done(world, &mark).await?;
        store::pause(world, attempt).await;
    }
    Err(Fault::Contended.into())
}

/// Does what follows from a save. The save itself is done, so a fault here is no error of the call:
/// the mark that [`finish::begin`] left makes the scheduled handler do the rest.
pub async fn follow_up<W: World>(
    world: &W,
    context: &Context,
    kind: crate::key::Kind,
    id: &str,
    mark: &Mark,
) -> bool {
    let followed = match finish::finish(world, kind, id, Some(&context.origin)).await {
        Ok(()) => finish::done(world, mark).await,
        Err(fault) => Err(fault),
    };
    match followed {
        Ok(()) => true,
        Err(fault) => {
            world.log(
                Level::Warn,
                "save.unfinished",
                &[("kind", kind.word()), ("fault", fault.label())],
            );
            false
        }
    }
}
