//! What the scheduled handler would do at a PBX, and the word of an admin for what it holds.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::problem::{Failure, FieldError, Kind as ProblemKind, Problem};
use super::save::{self, Context};
use super::{body, json};
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::key;
use crate::ports::{Limit, Objects, Only, World};
use crate::reconcile::breaker::{self, Confirmed};
use crate::reconcile::{Action, Report, Wait};
use crate::record::Stored;
use crate::record::pbx::{Mode, Pbx};
use crate::request::Request;
use crate::store;
use crate::text::{Id, Username};
use crate::tick;
use crate::tick::backoff::Failing;
use crate::time::Timestamp;

/// How many tombstones a plan spells out.
const TOMBSTONES: usize = 100;

/// The answer of `GET /pbxes/{pbx}/plan`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Plan"))]
pub(crate) struct Answer<'a> {
    /// The PBX.
    pbx: &'a Id,
    /// Whether it may be changed.
    mode: Mode,
    /// `ok`, or why nothing can be concluded from what the PBX says.
    outcome: &'a str,
    #[serde(flatten)]
    report: &'a Report,
    /// What the next run would do, or in `push` would do, looks last.
    actions: Vec<Shown<'a>>,
    /// What waits: the first 100.
    waits: &'a [Wait],
    /// What is to be deleted there, now or later.
    tombstones: Tombstones<'a>,
    /// That the last run found it failing.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing: Option<Failing>,
}

/// One thing that is to be done.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "PlannedAction"))]
pub(crate) struct Shown<'a> {
    /// `create`, `mend`, `adopt`, `check` or `delete`.
    action: &'static str,
    /// The name at the PBX.
    username: &'a Username,
    /// The account that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a Id>,
    /// Why.
    because: &'static str,
}

/// Names that are to be deleted at a PBX.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(crate) struct Tombstones<'a> {
    /// How many there are.
    count: usize,
    /// What names all of them in `POST /pbxes/{pbx}/confirm`; none if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirm: Option<String>,
    /// The first 100.
    first: Vec<Tombstone<'a>>,
}

/// A name that is to be deleted.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(crate) struct Tombstone<'a> {
    /// The name.
    username: &'a Username,
    /// When it was put.
    at: Timestamp,
}

async fn visible<W: World>(
    world: &W,
    context: &Context,
    id: &str,
) -> Result<(Id, Stored<Pbx>), Failure> {
    let loaded = store::load::<Pbx, W>(world, id).await?;
    let stored = loaded
        .map(|loaded| loaded.stored)
        .filter(|stored| stored.alive() && context.caller.sees(id, &stored.record))
        .ok_or_else(|| save::not_found::<Pbx>(id))?;
    let id = Id::try_from(id).map_err(|_| Fault::Broken("pbx id"))?;
    Ok((id, stored))
}

/// `GET /pbxes/{pbx}/plan`: asks the PBX now and says what a run would do there, decided by what the run
/// decides by. Nothing is changed.
///
/// # Errors
/// A [`Failure`] if there is no such PBX, if it was asked for too often, or of a store.
pub async fn show<W: World>(
    world: &W,
    context: &Context,
    id: &str,
) -> Result<Response<Vec<u8>>, Failure> {
    let (id, stored) = visible(world, context, id).await?;
    if !world.within(Limit::Plans, id.as_str()).await {
        let detail = "the PBX was asked often enough within this minute";
        return Err(Problem::new(ProblemKind::TooMany, detail).into());
    }
    let planned = tick::plan::plan(world, &id, &stored).await?;
    let plan = &planned.plan;
    let actions = plan.actions.iter().map(|action| Shown {
        action: action.word(),
        username: action.username(),
        account: match action {
            Action::Create(desired)
            | Action::Mend(desired)
            | Action::Adopt(desired)
            | Action::Check(desired) => Some(&desired.account),
            Action::Delete(_) => None,
        },
        because: action.because(&planned.memory, &planned.shape),
    });
    let first = planned.tombstones.iter().take(TOMBSTONES);
    let answer = Answer {
        pbx: &id,
        mode: stored.record.mode,
        outcome: plan.unknown.as_deref().unwrap_or("ok"),
        report: &plan.report,
        actions: actions.collect(),
        waits: &plan.waits,
        tombstones: Tombstones {
            count: planned.tombstones.len(),
            confirm: (!planned.tombstones.is_empty())
                .then(|| breaker::digest_of_deletes(&planned.tombstones)),
            first: first
                .map(|(username, at)| Tombstone { username, at: *at })
                .collect(),
        },
        failing: planned.failing,
    };
    json(StatusCode::OK, &answer)
}

/// What an admin confirms: what a plan showed as `confirm` beside what is held or waits.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirm {
    /// Of the deletes: they neither are held nor wait for their grace then.
    deletes: Option<String>,
    /// Of the phones that went offline: it is believed at once.
    offline: Option<String>,
}

/// The answer of `POST /pbxes/{pbx}/confirm`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Confirmed"))]
pub(crate) struct ConfirmAnswer {
    /// How many deletes the next run may do, all together.
    deletes: usize,
    /// Whether the next run believes that the phones are offline.
    offline: bool,
}

/// `POST /pbxes/{pbx}/confirm`: lets pass what was shown, and nothing else.
///
/// # Errors
/// A [`Failure`] if there is no such PBX, if what is there now is not what is named, or of a store.
pub async fn confirm<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    id: &str,
) -> Result<Response<Vec<u8>>, Failure> {
    let named: Confirm = body::parse(body::object(request)?)?;
    let (id, stored) = visible(world, context, id).await?;
    let mut errors = Vec::new();
    let differs = |pointer| FieldError::new(pointer, "is not what is there now: look at the plan");
    if named.deletes.is_none() && named.offline.is_none() {
        let detail = "must name what is confirmed, or /offline must";
        errors.push(FieldError::new("/deletes", detail));
    }
    let mut confirmed = Confirmed::default();
    if let Some(digest) = &named.deletes {
        let tombstones = tick::plan::tombstones(world, &id).await?;
        if !tombstones.is_empty() && breaker::digest_of_deletes(&tombstones) == *digest {
            confirmed.deletes = tombstones;
        } else {
            errors.push(differs("/deletes"));
        }
    }
    if let Some(digest) = &named.offline {
        let memory = tick::pbx_memory(world, &id).await?;
        let doubt = memory.doubt.map(|doubt| doubt.since);
        confirmed.offline = doubt.filter(|since| breaker::digest_of_offline(*since) == *digest);
        if confirmed.offline.is_none() {
            errors.push(differs("/offline"));
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors).into());
    }
    let bytes = serde_json::to_vec(&confirmed).map_err(|_| Fault::Broken("confirmed to json"))?;
    let key = key::confirmed(&id);
    let r2 = world.r2();
    r2.put(&key, bytes, BTreeMap::new(), Only::Always).await?;
    let answer = ConfirmAnswer {
        deletes: confirmed.deletes.len(),
        offline: confirmed.offline.is_some(),
    };
    let tenant = Some(&stored.record.tenant);
    let resource = format!("pbxes/{id}");
    let name = &context.caller.name;
    let event = Event::new(world, name, tenant, "breaker.confirmed", resource)
        .with("deletes", answer.deletes.to_string())
        .with("offline", answer.offline.to_string());
    audit::note(world, &event).await;
    json(StatusCode::OK, &answer)
}
