//! API tokens: who a bearer token is, and a new text for one.

use http::{Response, StatusCode};

use super::body;
use super::caller::Caller;
use super::managed::Managed;
use super::problem::{Failure, FieldError, Problem};
use super::save::{Context, etag, not_found};
use super::{note, set_etag};
use crate::fault::Fault;
use crate::ports::World;
use crate::record::Stored;
use crate::record::token::{self, Token, TokenState};
use crate::request::{Afterwards, Request};
use crate::store;
use crate::text::Id;
use crate::time::Timestamp;

/// How old the note of a token's last use may be: a write of R2 at each call would be one too many.
const USE_NOTED_EVERY_S: u64 = 3_600;

/// How long whoever hit too many ids of other tenants makes no record.
const HELD_S: u64 = 600;

/// Who shows this text, and what is to be noted of that; `None` if it opens nothing. A text without
/// the shape of a token costs no read, any other one read of R2.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn caller<W: World>(
    world: &W,
    text: &str,
) -> Result<Option<(Caller, Option<Afterwards>)>, Fault> {
    let Some(id) = token::id_of(text) else {
        return Ok(None);
    };
    let loaded = store::load::<Token, W>(world, id.as_str()).await?;
    let stored = loaded.map(|loaded| loaded.stored);
    let now = world.now();
    if !token::opens(stored.as_ref(), text, now) {
        return Ok(None);
    }
    Ok(stored.map(|stored| admitted(id, stored, now)))
}

/// Whoever acts with a token, and what is to be noted of that.
pub(super) fn admitted(
    id: Id,
    stored: Stored<Token>,
    now: Timestamp,
) -> (Caller, Option<Afterwards>) {
    let Stored { record, state, .. } = stored;
    let caller = Caller {
        name: id.to_string(),
        role: record.role,
        tenant: record.tenant,
        expires_at: record.expires_at,
        held_until: state.held_until,
    };
    let news = use_is_news(state.last_used_at, now);
    (caller, news.then_some(Afterwards::TokenUsed(id)))
}

/// Whether a use now is to be written down.
fn use_is_news(noted: Option<Timestamp>, now: Timestamp) -> bool {
    noted.is_none_or(|noted| now.since(noted) >= USE_NOTED_EVERY_S)
}

/// Writes down that a token is in use.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn note_use<W: World>(world: &W, id: &Id) -> Result<(), Fault> {
    let now = world.now();
    let update = store::update::<Token, W>(world, id.as_str(), |stored| {
        let news = stored.alive() && use_is_news(stored.state.last_used_at, now);
        if news {
            stored.state.last_used_at = Some(now);
        }
        news
    });
    update.await.map(drop)
}

/// Keeps the holder of a token from making records for a while.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn hold<W: World>(world: &W, id: &str) -> Result<(), Fault> {
    let until = world.now().plus(HELD_S);
    let update = store::update::<Token, W>(world, id, |stored| {
        stored.state.held_until = Some(until);
        stored.alive()
    });
    update.await.map(drop)
}

/// `POST /tokens/{id}/rotate`: a new text, which ends the old one at once.
///
/// # Errors
/// A [`Failure`]; the old text is good then.
pub async fn rotate<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    id: &str,
) -> Result<Response<Vec<u8>>, Failure> {
    super::no_parameters(request)?;
    body::nothing(request)?;
    let caller = &context.caller;
    let mut fresh = TokenState::default();
    fresh.renew(world, id)?;
    let now = world.now();
    let mut refused = None;
    let update = store::update::<Token, W>(world, id, |stored| {
        if !stored.alive() || !caller.sees(id, &stored.record) {
            return false;
        }
        refused = stored.record.allowed(caller).err();
        if refused.is_none() && stored.record.access.is_some() {
            let error = FieldError::new("/access", "has taken the place of a text");
            refused = Some(Problem::invalid(vec![error]));
        }
        if refused.is_none() {
            stored.state.digest.clone_from(&fresh.digest);
            stored.state.text.clone_from(&fresh.text);
            stored.edition += 1;
            stored.updated_at = now;
        }
        refused.is_none()
    });
    let renewed = update.await?;
    let renewed = renewed.filter(|stored| stored.alive() && caller.sees(id, &stored.record));
    let Some(renewed) = renewed else {
        return Err(not_found::<Token>(id).into());
    };
    if let Some(problem) = refused {
        return Err(problem.into());
    }
    note(world, context, "token.rotated", id, &renewed).await;
    let mut response = super::json(StatusCode::OK, &super::shown(id, &renewed))?;
    set_etag(&mut response, &etag(&renewed))?;
    Ok(response)
}
