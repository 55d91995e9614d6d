//! `/profiles/{profile}/rollout` and `/tenants/{tenant}/rollout`: how far roll-outs of a profile's settings and of
//! templates are, and an admin's word on them.

use http::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::body;
use super::managed::Managed;
use super::problem::{Failure, Kind as ProblemKind, Problem};
use super::save::{Context, not_found};
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::json;
use crate::key;
use crate::ports::{Objects, World};
use crate::record::Stored;
use crate::record::profile::Profile;
use crate::record::tenant::Tenant;
use crate::request::Request;
use crate::rollout::{self, Counts, GIVE_UP_S, Progress, Stage, Subject, Turn, Why};
use crate::store;
use crate::text::Id;
use crate::time::Timestamp;
use crate::vendor::VendorId;

/// How far one is.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Rollout"))]
pub(crate) struct Shown {
    /// `everyone` if none is under way.
    #[cfg_attr(
        not(target_arch = "wasm32"),
        schemars(extend("enum" = ["everyone", "choosing", "canary", "stopped"]))
    )]
    stage: &'static str,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// Since when the canaries have what is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    canary_since: Option<Timestamp>,
    /// When it stops if nothing was proved by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// When it was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_at: Option<Timestamp>,
    /// Why it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        not(target_arch = "wasm32"),
        schemars(extend("enum" = ["lost", "not_proved", "admin"]))
    )]
    why: Option<&'static str>,
    #[serde(flatten)]
    counts: Counts,
}

impl Shown {
    fn of(rollout: Option<(Timestamp, &Stage)>, counts: Counts) -> Self {
        let (mut canary_since, mut until, mut stopped_at, mut why) = (None, None, None, None);
        match rollout.map(|(_, stage)| stage) {
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
            stage: rollout.map_or("everyone", |(_, stage)| stage.word()),
            since: rollout.map(|(since, _)| since),
            canary_since,
            until,
            stopped_at,
            why,
            counts,
        }
    }
}

/// The answer for a profile.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "ProfileRollout"))]
pub(crate) struct OfProfile<'a> {
    /// The profile.
    profile: &'a str,
    #[serde(flatten)]
    shown: Shown,
}

/// The answer for a tenant.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "TenantRollouts"))]
pub(crate) struct OfTenant<'a> {
    /// The tenant.
    tenant: &'a str,
    /// The roll-outs of templates that not all of its phones have.
    rollouts: Vec<OfTemplates>,
}

/// How far the templates of a vendor are.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "TemplatesRollout"))]
pub(crate) struct OfTemplates {
    /// Whose phones.
    vendor: VendorId,
    /// Their number.
    templates: u32,
    #[serde(flatten)]
    shown: Shown,
}

/// Where an admin wants it to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "RolloutTo"))]
#[serde(rename_all = "snake_case")]
pub(crate) enum To {
    /// All get it, whatever was seen.
    Everyone,
    /// Nobody keeps it.
    Stop,
}

impl To {
    fn action(self) -> &'static str {
        match self {
            Self::Everyone => "rollout.finished",
            Self::Stop => "rollout.stopped",
        }
    }

    fn turn(self, counts: Counts) -> Turn {
        match self {
            Self::Everyone => Turn::Everybody { stopped_too: true },
            Self::Stop => Turn::Stop(Why::Admin, counts),
        }
    }
}

/// What `POST /profiles/{profile}/rollout` takes.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "TurnRollout"))]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    /// Who is to have it.
    to: To,
}

/// What `POST /tenants/{tenant}/rollout` takes.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "TurnTemplatesRollout"))]
#[serde(deny_unknown_fields)]
pub(crate) struct WishOfTemplates {
    /// Who is to have them.
    to: To,
    /// Only those of this vendor's phones.
    #[serde(default)]
    vendor: Option<VendorId>,
}

/// What a call wants; `None`: to see it only.
fn wish<T: DeserializeOwned>(request: &Request) -> Result<Option<T>, Problem> {
    match request.method {
        Method::POST => body::parse(body::object(request)?).map(Some),
        _ => Ok(None),
    }
}

/// That nothing is to be done.
fn none() -> Problem {
    Problem::new(ProblemKind::InUse, "there is no roll-out that this changes")
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
    let wish: Option<Wish> = wish(request)?;
    let name = Id::try_from(id).map_err(|_| Fault::Broken("profile id"))?;
    let stored = visible::<Profile, W>(world, context, id).await?;
    let (seen, subject) = match &stored.state {
        Some(rollout) => {
            let (id, edition) = (name, rollout.edition);
            let subject = Subject::Profile { id, edition };
            let seen = counts(world, &subject, rollout.since, &rollout.stage).await?;
            (seen, Some(subject))
        }
        None => (Counts::default(), None),
    };
    let shown = |stored: &Stored<Profile>| {
        let rollout = stored.state.as_ref();
        let rollout = rollout.map(|rollout| (rollout.since, &rollout.stage));
        let shown = Shown::of(rollout, seen);
        super::json(StatusCode::OK, &OfProfile { profile: id, shown })
    };
    let Some(Wish { to }) = wish else {
        return shown(&stored);
    };
    let subject = subject.ok_or_else(none)?;
    if !rollout::turn(world, &subject, to.turn(seen)).await? {
        return Err(none().into());
    }
    note(world, context, &subject, &stored.record.tenant, to).await;
    shown(&visible::<Profile, W>(world, context, id).await?)
}

/// `GET` and `POST /tenants/{tenant}/rollout`: of templates.
///
/// # Errors
/// A [`Failure`] if there is no such tenant, if nothing is to be brought on or stopped, or of a store.
pub async fn of_tenant<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    id: &str,
) -> Result<Response<Vec<u8>>, Failure> {
    let wish: Option<WishOfTemplates> = wish(request)?;
    let tenant = Id::try_from(id).map_err(|_| Fault::Broken("tenant id"))?;
    let mut stored = visible::<Tenant, W>(world, context, id).await?;
    if let Some(WishOfTemplates { to, vendor: only }) = wish {
        let mut turned = false;
        let rollouts = stored.state.unwrap_or_default().rollouts.into_iter();
        for (vendor, rollout) in rollouts.filter(|(vendor, _)| only.is_none_or(|v| v == *vendor)) {
            let subject = Subject::Templates {
                tenant: tenant.clone(),
                vendor,
                number: rollout.number,
            };
            let seen = counts(world, &subject, rollout.since, &rollout.stage).await?;
            if rollout::turn(world, &subject, to.turn(seen)).await? {
                note(world, context, &subject, &tenant, to).await;
                turned = true;
            }
        }
        if !turned {
            return Err(none().into());
        }
        stored = visible::<Tenant, W>(world, context, id).await?;
    }
    let mut shown = Vec::new();
    for (vendor, rollout) in stored.state.unwrap_or_default().rollouts {
        let subject = Subject::Templates {
            tenant: tenant.clone(),
            vendor,
            number: rollout.number,
        };
        let seen = counts(world, &subject, rollout.since, &rollout.stage).await?;
        shown.push(OfTemplates {
            vendor,
            templates: rollout.number,
            shown: Shown::of(Some((rollout.since, &rollout.stage)), seen),
        });
    }
    let answer = OfTenant {
        tenant: id,
        rollouts: shown,
    };
    super::json(StatusCode::OK, &answer)
}

/// Writes down what an admin said.
async fn note<W: World>(world: &W, context: &Context, subject: &Subject, tenant: &Id, to: To) {
    let name = &context.caller.name;
    let event = Event::new(world, name, Some(tenant), to.action(), subject.resource());
    let event = subject.named(event).with("why", Why::Admin.word());
    audit::note(world, &event).await;
}

async fn visible<R: Managed, W: World>(
    world: &W,
    context: &Context,
    id: &str,
) -> Result<Stored<R>, Failure> {
    let loaded = store::load::<R, W>(world, id).await?;
    let sees = |stored: &Stored<R>| stored.alive() && context.caller.sees(id, &stored.record);
    let stored = loaded.map(|loaded| loaded.stored).filter(sees);
    stored.ok_or_else(|| not_found::<R>(id).into())
}

/// What was seen of the canaries.
async fn counts<W: World>(
    world: &W,
    subject: &Subject,
    since: Timestamp,
    stage: &Stage,
) -> Result<Counts, Fault> {
    if let Stage::Stopped(stopped) = stage {
        return Ok(stopped.counts);
    }
    let object = world.r2().get(&key::rollout(subject)).await?;
    let progress = object.and_then(|object| json::read::<Progress>(&object.body).ok());
    let progress = progress.filter(|progress| progress.since == since);
    Ok(progress.map_or(Counts::default(), |progress| progress.counts(world.now())))
}
