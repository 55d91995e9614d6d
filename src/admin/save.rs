//! Saving and deleting records: one compare-and-set each, checked before, followed up after.

use std::collections::BTreeMap;
use std::pin::Pin;

use http::header::{IF_MATCH, IF_NONE_MATCH};
use serde_json::{Map, Value};

use super::body::flaws::Flaws;
use super::caller::{Caller, foreign_tenant, one_tenant_only};
use super::managed::{Managed, Users};
use super::problem::{Failure, Kind as ProblemKind, Problem};
use super::{body, token};
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::finish::{self, Mark};
use crate::key::Kind;
use crate::ports::{Level, Limit, World};
use crate::record::Stored;
use crate::request::Request;
use crate::secret::Secret;
use crate::store::{self, Loaded, secret_place};
use crate::time::Timestamp;

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
    /// Whether anything was written: what is put as it is already is not.
    pub changed: bool,
    /// Whether everything that follows from it is done as well. If not, the scheduled handler
    /// does it within a minute.
    pub followed_up: bool,
}

impl<R: Managed> Saved<R> {
    /// The same again: nothing was to be written.
    fn as_it_is(stored: Stored<R>) -> Self {
        Self {
            stored,
            created: false,
            changed: false,
            followed_up: true,
        }
    }
}

/// How often a save is tried again after somebody else's came between.
const TRIES: u32 = 12;

/// The `ETag` of a record in the API.
#[must_use]
pub fn etag<R: Managed>(stored: &Stored<R>) -> String {
    format!("\"{}\"", stored.edition)
}

/// Checks `If-Match` and `If-None-Match` (RFC 9110, 13.1) of a call that changes something.
pub(super) fn preconditions<R: Managed>(
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

/// A save under way.
type Saving<'a, R> = Pin<Box<dyn Future<Output = Result<Saved<R>, Failure>> + 'a>>;

/// Creates or changes a record.
///
/// # Errors
/// A [`Failure`]: what is wrong with the call, or with us. Nothing is changed then.
pub fn save<'a, R: Managed + 'a, W: World>(
    world: &'a W,
    context: &'a Context,
    request: &'a Request,
    id: &'a str,
    change: Change,
) -> Saving<'a, R> {
    // Behind a pointer, or the Worker would hold a copy of all that for each kind of call that saves.
    Box::pin(attempt(world, context, request, id, change))
}

async fn attempt<R: Managed, W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    id: &str,
    change: Change,
) -> Result<Saved<R>, Failure> {
    let caller = &context.caller;
    // What the caller may not do is said before anything is read, so that it tells nothing of what
    // is there.
    let whole: Option<(R, Flaws)> = match &change {
        Change::Put(members) => Some(read(members.clone(), id)?),
        Change::Patch(patch) | Change::Supersede(patch) => {
            may_patch::<R>(caller, patch)?;
            None
        }
    };
    if let Some((record, flaws)) = &whole {
        may_write(caller, id, record, flaws)?;
    }
    let mut buried = false;
    for attempt in 0..TRIES {
        let loaded = store::load::<R, W>(world, id).await?;
        let (former, version) = match loaded {
            Some(Loaded { stored, etag }) => (Some(stored), Some(etag)),
            None => (None, None),
        };
        let there = former.as_ref().filter(|stored| stored.alive());
        let visible = there.filter(|stored| caller.sees(id, &stored.record));
        let (mut record, mut flaws) = match (&whole, &change, visible) {
            (Some(whole), ..) => whole.clone(),
            (None, Change::Patch(patch) | Change::Supersede(patch), Some(visible)) => {
                let patched: (R, _) = patched(visible, patch, id)?;
                may_write(caller, id, &patched.0, &patched.1)?;
                patched
            }
            _ => return Err(not_found::<R>(id).into()),
        };
        if flaws.touch(R::TENANT) {
            // Whose it is to be nobody knows: what it refers to and what is there are not looked at.
            record
                .check(world, context, id, &|_| true, &mut flaws)
                .await?;
            return Err(flaws.problem().into());
        }
        let current = visible.filter(|stored| stored.record.tenant() == record.tenant());
        let foreign = there.is_some() && current.is_none();
        if foreign && caller.tenant.is_none() {
            // Before all else: not even that a condition fails is of interest then.
            return Err(taken(world, caller, R::KIND, id).await);
        }
        match current {
            Some(current) => current.record.allowed(caller)?,
            None => may_create::<R, W>(world, caller)?,
        }
        preconditions(request, current)?;

        let given = record.take_secrets();
        let has_secret = |name: &str| {
            let mut given = given.iter();
            given.any(|(given, secret)| *given == name && secret.is_some())
                || current.is_some_and(|stored| stored.sealed.contains_key(name))
        };
        record
            .check(world, context, id, &has_secret, &mut flaws)
            .await?;
        let (sealed, rewritten) = seal_secrets(world, id, &record, given, current)?;
        // What another tenant has there is as good as nothing.
        let before = former.as_ref().filter(|_| !foreign);
        let mut next = successor(before, record, sealed, world.now());
        R::settle(&mut next, before, world.now());
        let at_once = matches!(change, Change::Supersede(_));
        R::keep_former(world, id, &mut next, before, at_once)?;
        let same = |current: &&Stored<R>| !rewritten && is_as_it_is(current, &next);
        if let Some(current) = current.filter(|_| flaws.is_empty()).filter(same) {
            return Ok(Saved::as_it_is(current.clone()));
        }
        Box::pin(R::fits(world, context, id, &next, &mut flaws)).await?;
        if !flaws.is_empty() {
            return Err(flaws.problem().into());
        }
        if foreign {
            // Last of all, where a free id would be taken: nobody learns it from a call that could
            // not have succeeded.
            return Err(taken(world, caller, R::KIND, id).await);
        }
        if former.is_some() && there.is_none() && !buried {
            // What follows from its deletion must be done before it is forgotten.
            finish::finish(world, R::KIND, id, None).await?;
            buried = true;
            continue;
        }

        let mark = finish::begin_with(world, R::KIND, id, &R::joins(&next, before)).await?;
        finish::enlist(world, id, &next.record).await?;
        if let Err(refused) = Box::pin(R::prepare(world, context, id, &mut next)).await {
            if matches!(refused, Failure::Problem(_)) {
                finish::done(world, &mark).await?;
            }
            return Err(refused);
        }
        if store::replace(world, id, &next, version.as_deref()).await? {
            let followed_up = follow_up(world, context, R::KIND, id, &mark).await;
            return Ok(Saved {
                created: current.is_none(),
                changed: true,
                stored: next,
                followed_up,
            });
        }
        finish::done(world, &mark).await?;
        store::pause(world, attempt).await;
    }
    Err(Fault::Contended.into())
}

/// A record that takes the place of a former one, alive or deleted.
fn successor<R: Managed>(
    former: Option<&Stored<R>>,
    record: R,
    sealed: BTreeMap<String, String>,
    now: Timestamp,
) -> Stored<R> {
    // Of another tenant's, that had the id before, it tells nothing.
    let own = former.filter(|stored| stored.record.tenant() == record.tenant());
    Stored {
        schema: R::SCHEMA,
        rev: former.map_or(1, |stored| stored.rev + 1),
        edition: own.map_or(1, |stored| stored.edition + 1),
        updated_at: now,
        gone: None,
        record,
        sealed,
        state: former
            .map(|stored| stored.state.clone())
            .unwrap_or_default(),
    }
}

/// Whether a record is to become what it is, but for secrets that are sealed anew.
fn is_as_it_is<R: Managed>(current: &Stored<R>, next: &Stored<R>) -> bool {
    current.record == next.record
        && current.state == next.state
        && current.sealed.len() == next.sealed.len()
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
            Some(kept) if keys.is_current(&place, kept) && keys.open(&place, kept)? == text => {
                Some(kept)
            }
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

/// The record that a body describes, as far as it can be judged, and what of it is wrong.
fn read<R: Managed>(mut members: Map<String, Value>, id: &str) -> Result<(R, Flaws), Problem> {
    let errors = body::without_read_only(&mut members, R::READ_ONLY, id);
    let (record, mut flaws) = body::parse_on(members)?;
    for error in errors {
        flaws.add(&error.pointer, error.detail);
    }
    Ok((record, flaws))
}

/// The record that a merge patch makes of the current one.
fn patched<R: Managed>(
    current: &Stored<R>,
    patch: &Map<String, Value>,
    id: &str,
) -> Result<(R, Flaws), Problem> {
    let mut members = body::show(id, current);
    // A secret is never shown, so a patch that leaves it out, or sets it to null, keeps it.
    body::merge(&mut members, patch.clone());
    let mut named = members.clone();
    let removes = body::name_removed(&mut named, patch);
    let (record, mut flaws) = read(members, id)?;
    if removes {
        // A name that is misspelt takes nothing away, and whoever sent it would think that it did.
        let (_, others): (R, _) = read(named, id)?;
        flaws.add_unknown(others, &Value::Object(patch.clone()));
    }
    Ok((record, flaws))
}

/// Refuses a record that a caller may not write, whatever is there. What cannot be judged is refused for that.
fn may_write<R: Managed>(
    caller: &Caller,
    id: &str,
    record: &R,
    flaws: &Flaws,
) -> Result<(), Problem> {
    if flaws.touch(R::TENANT) {
        return Ok(());
    }
    if !caller.sees(id, record) {
        if !flaws.is_empty() {
            // Whatever there is of that tenant: nothing is looked at.
            let mut flaws = flaws.clone();
            flaws.add(R::TENANT, "must be the one that the token is for");
            return Err(flaws.problem());
        }
        return Err(match record.tenant() {
            Some(_) => foreign_tenant().at(R::TENANT),
            None if R::KIND == Kind::Tenant => foreign_tenant(),
            None => one_tenant_only().at(R::TENANT),
        });
    }
    if R::JUDGED_BY.iter().any(|pointer| flaws.touch(pointer)) {
        return Ok(());
    }
    record.allowed(caller)
}

/// Refuses a patch that names another tenant than the caller's, whatever is there.
fn may_patch<R: Managed>(caller: &Caller, patch: &Map<String, Value>) -> Result<(), Problem> {
    let patch = Value::Object(patch.clone());
    let named = patch.pointer(R::TENANT).and_then(Value::as_str);
    match (&caller.tenant, named) {
        (Some(own), Some(named)) if own.as_str() != named => Err(foreign_tenant().at(R::TENANT)),
        _ => Ok(()),
    }
}

/// Refuses a new record to whoever may make none: a tenant to the holder of one tenant's token, and
/// anything to whoever hit too many ids that others have. It must not tell those from free ones.
fn may_create<R: Managed, W: World>(world: &W, caller: &Caller) -> Result<(), Problem> {
    if R::KIND == Kind::Tenant {
        caller.needs_all_tenants()?;
    }
    if caller.held_until.is_some_and(|until| world.now() < until) {
        return Err(held());
    }
    Ok(())
}

/// That the caller makes nothing new for now.
pub(super) fn held() -> Problem {
    Problem::new(
        ProblemKind::TooMany,
        "too many ids that others have; nothing new for ten minutes",
    )
}

/// That another tenant has the id of a new record. It tells the caller that somebody has it, so it
/// is written down, and whoever is held to one tenant is told so a few times only.
async fn taken<W: World>(world: &W, caller: &Caller, kind: Kind, id: &str) -> Failure {
    let detail = format!("this {kind} belongs to another tenant");
    let problem = Problem::new(ProblemKind::Taken, detail);
    tell_taken(world, caller, kind, id, problem).await
}

/// Tells a caller that another tenant has what a record is to have, writes it down, and keeps the
/// holder of one tenant's token from asking too often.
pub(super) async fn tell_taken<W: World>(
    world: &W,
    caller: &Caller,
    kind: Kind,
    id: &str,
    problem: Problem,
) -> Failure {
    let own = caller.tenant.as_ref();
    let resource = format!("{}/{id}", kind.collection());
    let event = Event::new(world, &caller.name, own, "record.taken", resource);
    audit::note_once_a_minute(world, &event).await;
    if own.is_some() && !world.within(Limit::AdminTaken, &caller.name).await {
        let resource = format!("{}/{}", Kind::Token.collection(), caller.name);
        let event = Event::new(world, &caller.name, None, "token.held", resource);
        audit::note_once_a_minute(world, &event.alarming()).await;
        return match token::hold(world, &caller.name).await {
            Ok(()) => held().into(),
            Err(fault) => fault.into(),
        };
    }
    problem.into()
}

/// That there is no such record.
#[must_use]
pub fn not_found<R: Managed>(id: &str) -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        format!("there is no {} {id}", R::KIND),
    )
}

/// What is found of the records that refer to one that is deleted all the same: as many as the audit names.
const TOLD: usize = 20;

/// Deletes a record: it becomes its own tombstone, which comes back. `force`: also if something still refers
/// to it, and that comes back too.
///
/// # Errors
/// A [`Failure`]; nothing is deleted then.
pub async fn delete<R: Managed, W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    id: &str,
    force: bool,
) -> Result<(Stored<R>, Option<Users>), Failure> {
    for attempt in 0..TRIES {
        let loaded = store::load::<R, W>(world, id).await?;
        let visible =
            |stored: &Stored<R>| stored.alive() && context.caller.sees(id, &stored.record);
        let Some(Loaded { stored, etag }) = loaded.filter(|loaded| visible(&loaded.stored)) else {
            return Err(not_found::<R>(id).into());
        };
        stored.record.allowed(&context.caller)?;
        preconditions(request, Some(&stored))?;
        let users = R::used_by(world, id, &stored, if force { TOLD } else { 1 }).await?;
        if let Some(users) = users.as_ref().filter(|_| !force) {
            let how = if R::FORCE {
                "; with force=1 it is deleted all the same"
            } else {
                ""
            };
            let detail = format!("{}{how}", users.why);
            return Err(Problem::new(ProblemKind::InUse, detail).into());
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
            return Ok((next, users));
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
    kind: Kind,
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
