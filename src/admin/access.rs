//! Whoever comes by Cloudflare Access: a JWT that it signed, and the token record that knows the name in it.

use http::Method;

use super::caller::Caller;
use super::problem::{Failure, Kind as ProblemKind, Problem};
use super::{batch, body, token};
use crate::access::{Application, Known, RsaKey, read_keys};
use crate::fault::Fault;
use crate::key;
use crate::ports::{Level, Objects, Outbound, World};
use crate::record::token::{Identity, Token};
use crate::request::{Afterwards, Request};
use crate::store;
use crate::text::Id;

/// The header in which Access hands a JWT on to what is behind it.
pub const HEADER: &str = "cf-access-jwt-assertion";

/// How long Access may take to say its keys.
const TIMEOUT_MS: u32 = 5_000;

/// The longest set of keys that is read; Access's has 8 KB, with its certificates.
const LONGEST_SET: usize = 65_536;

/// That the keys are not to be had.
const NO_KEYS: Fault = Fault::Broken("access keys");

/// Who shows the JWT of a request, and what is to be noted of that; `None` if it is worth nothing.
/// What is not even for this application now costs neither a read nor a call.
///
/// # Errors
/// A [`Problem`] for somebody whom no token record knows, or for a call that a web page of others could have
/// the caller's browser make; the [`Fault`] of R2, or that the keys cannot be had.
pub async fn caller<W: World>(
    world: &W,
    application: &Application,
    request: &Request,
) -> Result<Option<(Caller, Option<Afterwards>)>, Failure> {
    let Some(assertion) = application.read(request.header(HEADER), world.now()) else {
        return Ok(None);
    };
    let Some(key) = key_of(world, application, assertion.kid()).await? else {
        return Ok(None);
    };
    let Some(identity) = assertion.verified(world, &key).await? else {
        return Ok(None);
    };
    // Access makes the JWT of a cookie, which the browser sends with a form of any site. JSON it sends
    // only after a question that nothing here answers (Fetch, "CORS protocol"), like all other methods.
    // NDJSON and CSV are no form's either.
    let of_a_form = !body::is_json(request) && !batch::is_batch(request);
    if request.method == Method::POST && of_a_form {
        let detail = "use Content-Type: application/json";
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail).into());
    }
    match admitted(world, &identity).await? {
        Some(admitted) => Ok(Some(admitted)),
        None => Err(unknown(world, request, &identity).into()),
    }
}

/// The key of that name, fetched if need be.
async fn key_of<W: World>(
    world: &W,
    application: &Application,
    kid: &str,
) -> Result<Option<RsaKey>, Fault> {
    let now = world.now();
    match world.memory(|memory| memory.access.look(kid, now)) {
        Known::Key(key) => return Ok(Some(key)),
        Known::None => return Ok(None),
        Known::Unreachable => return Err(NO_KEYS),
        Known::NotYet => {}
    }
    let request = http::Request::get(application.certs_url()).body(Vec::new());
    let request = request.map_err(|_| NO_KEYS)?;
    let answer = world.net().send(request, TIMEOUT_MS, LONGEST_SET).await;
    let answer = answer.ok().filter(|answer| answer.status() == 200);
    let Some(keys) = answer.and_then(|answer| read_keys(answer.body())) else {
        world.memory(|memory| memory.access.failed(now));
        return Err(NO_KEYS);
    };
    let key = keys.get(kid).cloned();
    world.memory(|memory| memory.access.keep(keys, now));
    Ok(key)
}

/// Whoever a token record knows by this name. Where the name leads says which record to read; the
/// record says whether it is so.
async fn admitted<W: World>(
    world: &W,
    identity: &Identity,
) -> Result<Option<(Caller, Option<Afterwards>)>, Fault> {
    let held = world.r2().get(&key::access(identity)).await?;
    let id = held.and_then(|held| String::from_utf8(held.body).ok());
    let Some(id) = id.and_then(|id| Id::try_from(id).ok()) else {
        return Ok(None);
    };
    let loaded = store::load::<Token, W>(world, id.as_str()).await?;
    let now = world.now();
    let acts = loaded.map(|loaded| loaded.stored);
    let acts = acts.filter(|stored| stored.lets_in(identity, now));
    Ok(acts.map(|stored| token::admitted(id, stored, now)))
}

/// That Access knows somebody, and no token record does. The same for one that was deleted or has
/// expired.
fn unknown<W: World>(world: &W, request: &Request, identity: &Identity) -> Problem {
    let source = request.source.neighbourhood();
    world.log(Level::Warn, "admin.unknown", &[("source", &source)]);
    let detail = format!("{} is not known here", identity.name());
    Problem::new(ProblemKind::Forbidden, detail)
}
