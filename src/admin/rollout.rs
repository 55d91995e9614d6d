//! `/profiles/{profile}/rollout`: how far a roll-out of a profile's settings is, and an admin's word on it.

use http::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::body;
use super::problem::{Failure, Kind as ProblemKind, Problem};
use super::save::{Context, not_found};
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::json;
use crate::key::{self, Kind};
use crate::ports::{Objects, World};
use crate::record::Stored;
use crate::record::profile::Profile;
use crate::request::Request;
use crate::rollout::{self, Counts, GIVE_UP_S, Progress, Rollout, Stage, Why};
use crate::store;
use crate::text::Id;
use crate::time::Timestamp;

/// The answer.
#[derive(Serialize)]
struct Answer<'a> {
    profile: &'a str,
    /// `everyone` if none is under way.
    stage: &'static str,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// Since when the canaries have the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    canary_since: Option<Timestamp>,
    /// When it stops if nothing was proved by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(flatten)]
    counts: Counts,
}

impl<'a> Answer<'a> {
    fn of(profile: &'a str, rollout: Option<&Rollout>, counts: Counts) -> Self {
        let (mut canary_since, mut until, mut stopped_at, mut why) = (None, None, None, None);
        match rollout.map(|rollout| &rollout.stage) {
            None | Some(Stage::Choosing) => {}
            Some(Stage::Canary(canary)) => {
                canary_since = Some(canary.at);
                until = Some(canary.at.plus(GIVE_UP_S));
            }
            Some(Stage::Stopped(stopped)) => {
                stopped_at = Some(stopped.at);
                why = Some(stopped.why.word());
            }
        }
        Self {
            profile,
            stage: rollout.map_or("everyone", Rollout::word),
            since: rollout.map(|rollout| rollout.since),
            canary_since,
            until,
            stopped_at,
            why,
            counts,
        }
    }
}

/// Where an admin wants it to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    /// All get the settings, whatever was seen.
    Everyone,
    /// Nobody keeps them.
    Stop,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    to: To,
}

/// `GET` and `POST /profiles/{profile}/rollout`.
///
/// # Errors
/// A [`Failure`] if there is no such profile, if nothing is to be brought on or stopped, or of a store.
pub async fn answer<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    id: &str,
) -> Result<Response<Vec<u8>>, Failure> {
    let wish: Option<Wish> = match request.method {
        Method::POST => Some(body::parse(body::object(request)?)?),
        _ => None,
    };
    let stored = visible(world, context, id).await?;
    let counts = counts(world, id, stored.state.as_ref()).await?;
    let Some(Wish { to }) = wish else {
        return super::json(
            StatusCode::OK,
            &Answer::of(id, stored.state.as_ref(), counts),
        );
    };
    let none = || Problem::new(ProblemKind::InUse, "there is no roll-out that this changes");
    let edition = stored.state.as_ref().map(|rollout| rollout.edition);
    let edition = edition.ok_or_else(none)?;
    let name = Id::try_from(id).map_err(|_| Fault::Broken("profile id"))?;
    let now = world.now();
    let turned = rollout::turn(world, &name, edition, |state, _| match to {
        To::Everyone => state.take().is_some(),
        To::Stop => {
            let open = state.as_mut().filter(|rollout| rollout.is_open());
            let Some(rollout) = open else { return false };
            rollout.stop(Why::Admin, counts, now);
            true
        }
    });
    if !turned.await? {
        return Err(none().into());
    }
    let action = match to {
        To::Everyone => "rollout.finished",
        To::Stop => "rollout.stopped",
    };
    let resource = format!("{}/{id}", Kind::Profile.collection());
    let tenant = Some(&stored.record.tenant);
    let event = Event::new(world, &context.caller.name, tenant, action, resource);
    audit::note(world, &event.with("why", Why::Admin.word())).await;
    let stored = visible(world, context, id).await?;
    super::json(
        StatusCode::OK,
        &Answer::of(id, stored.state.as_ref(), counts),
    )
}

async fn visible<W: World>(
    world: &W,
    context: &Context,
    id: &str,
) -> Result<Stored<Profile>, Failure> {
    let loaded = store::load::<Profile, W>(world, id).await?;
    let sees = |stored: &Stored<Profile>| stored.alive() && context.caller.sees(id, &stored.record);
    let stored = loaded.map(|loaded| loaded.stored).filter(sees);
    stored.ok_or_else(|| not_found::<Profile>(id).into())
}

/// What was seen of the canaries.
async fn counts<W: World>(world: &W, id: &str, rollout: Option<&Rollout>) -> Result<Counts, Fault> {
    let Some(rollout) = rollout else {
        return Ok(Counts::default());
    };
    if let Stage::Stopped(stopped) = &rollout.stage {
        return Ok(stopped.counts);
    }
    let object = world.r2().get(&key::rollout(id, rollout.edition)).await?;
    let progress = object.and_then(|object| json::read::<Progress>(&object.body).ok());
    let progress = progress.filter(|progress| progress.since == rollout.since);
    Ok(progress.map_or(Counts::default(), |progress| progress.counts(world.now())))
}
