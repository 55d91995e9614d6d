//! Who is logged in at a hot-desking phone, for admins: `/devices/{mac}/session`.

use http::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::problem::{Failure, FieldError, Kind as ProblemKind, Problem};
use super::save::Context;
use super::{body, device, json, no_parameters};
use crate::fault::Fault;
use crate::login;
use crate::mac::Mac;
use crate::ports::World;
use crate::record::Stored;
use crate::record::account::Account;
use crate::record::device::{Device, Session, UserType};
use crate::render::{From, Ingredients};
use crate::request::{Request, respond};
use crate::session::{self, Login, Refused};
use crate::store;
use crate::text::Id;
use crate::time::{Hours, Timestamp};
use crate::vendor::Objection;

/// Who is logged in, as answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Session"))]
pub struct Shown<'a> {
    /// The user.
    pub account: &'a Id,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

impl<'a> Shown<'a> {
    /// What there is to show of a session.
    #[must_use]
    pub fn of(session: &'a Session) -> Self {
        Self {
            account: &session.account,
            since: session.since,
            until: session.until,
        }
    }
}

/// The answer of `GET|PUT /devices/{mac}/session`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "SessionAnswer"))]
pub(crate) struct Answer<'a> {
    /// The device.
    mac: Mac,
    #[serde(flatten)]
    session: Shown<'a>,
    /// What the phone cannot carry of the user, left out.
    #[serde(skip_serializing_if = "<[Objection]>::is_empty")]
    warnings: &'a [Objection],
}

/// `GET|PUT|DELETE /devices/{mac}/session`.
///
/// # Errors
/// A [`Failure`]; nothing is changed then.
pub async fn answer<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    mac: Mac,
) -> Result<Response<Vec<u8>>, Failure> {
    no_parameters(request)?;
    match request.method {
        Method::PUT => begin(world, context, request, mac).await,
        Method::DELETE => {
            body::nothing(request)?;
            device::load(world, context, mac).await?;
            session::end(world, &context.origin, mac, &context.caller.name).await?;
            let mut response = respond(StatusCode::NO_CONTENT, "application/json", Vec::new());
            response.headers_mut().remove(http::header::CONTENT_LENGTH);
            response.headers_mut().remove(http::header::CONTENT_TYPE);
            Ok(response)
        }
        _ => {
            let stored = device::load(world, context, mac).await?;
            match standing(world, mac, &stored).await? {
                Some(session) => {
                    let session = session.clone();
                    show(world, mac, stored, &session).await
                }
                None => {
                    Err(Problem::new(ProblemKind::NotFound, "nobody is logged in there").into())
                }
            }
        }
    }
}

/// The session of a device, if it stands.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn standing<'a, W: World>(
    world: &W,
    mac: Mac,
    stored: &'a Stored<Device>,
) -> Result<Option<&'a Session>, Fault> {
    let stands = session::stands(world, mac, stored).await?;
    Ok(stored.state.session.as_ref().filter(|_| stands))
}

async fn show<W: World>(
    world: &W,
    mac: Mac,
    stored: Stored<Device>,
    session: &Session,
) -> Result<Response<Vec<u8>>, Failure> {
    let made = Ingredients::gather(world, mac, stored, From::R2).await?;
    let answer = Answer {
        mac,
        session: Shown::of(session),
        warnings: made.left_out(),
    };
    json(StatusCode::OK, &answer)
}

/// What `PUT /devices/{mac}/session` takes.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "BeginSession"))]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {
    /// The user who is logged in.
    account: Id,
    /// For how many hours. Default: those of the tenant.
    hours: Option<Hours>,
}

async fn begin<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    mac: Mac,
) -> Result<Response<Vec<u8>>, Failure> {
    let Begin { account, hours } = body::parse(body::object(request)?)?;
    let no_desk = || Problem::new(ProblemKind::InUse, "the device is not for hot-desking");
    let stored = device::load(world, context, mac).await?;
    let tenant = &stored.record.tenant;
    if stored.record.decoy || stored.record.user_type != UserType::HotDesking {
        return Err(no_desk().into());
    }
    let wrong = |detail: &str| Problem::invalid(vec![FieldError::new("/account", detail)]);
    let there = store::load::<Account, W>(world, account.as_str()).await?;
    let is_ours = |user: &Stored<Account>| user.alive() && user.record.tenant == *tenant;
    if !there.is_some_and(|user| is_ours(&user.stored)) {
        return Err(wrong("the tenant has no such account").into());
    }
    let until = match hours {
        Some(hours) => world.now().plus(hours.seconds()),
        None => login::until(world, tenant).await?,
    };
    // Whoever is logged in by an admin needs no PIN, and those that were wrong are forgiven.
    login::forgive(world, &account).await?;
    let login = Login {
        mac,
        account: &account,
        tenant,
        until,
        actor: &context.caller.name,
    };
    match session::begin(world, &context.origin, login).await? {
        Ok(session) => {
            let stored = device::load(world, context, mac).await?;
            show(world, mac, stored, &session).await
        }
        Err(Refused::NoDesk) => Err(no_desk().into()),
        Err(Refused::NoRoom) => {
            let most = crate::record::account::MOST_DEVICES;
            let detail = format!("the account is on {most} devices already");
            Err(wrong(&detail).into())
        }
    }
}
