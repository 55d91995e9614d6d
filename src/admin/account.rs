//! What happens to an account's password beside being written: a new one is made, and what it
//! replaces is kept for the phones that do not have the new one yet.

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::problem::Failure;
use super::save::{self, Change, Context, Saved, etag};
use super::{body, json};
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::key::Kind;
use crate::ports::World;
use crate::record::Stored;
use crate::record::account::{Account, PIN};
use crate::request::Request;
use crate::rotation;
use crate::secret::Secret;
use crate::store::secret_place;
use crate::text::Username;
use crate::time::Timestamp;

/// The name under which the password that is good now is sealed.
const PASSWORD: &str = "password";

/// What a phone registers with.
#[derive(PartialEq, Eq)]
struct Login {
    user: Username,
    password: Secret,
}

impl Login {
    /// The one whose password is sealed under this name; `None` if there is none or no key opens it
    /// any more: then it is nothing that could be kept.
    fn open<W: World>(
        world: &W,
        id: &str,
        stored: &Stored<Account>,
        name: &str,
        user: &Username,
    ) -> Option<Self> {
        let sealed = stored.sealed.get(name)?;
        let place = secret_place(Kind::Account, id, name);
        Some(Self {
            user: user.clone(),
            password: world.keys().open_secret(&place, sealed).ok()?,
        })
    }
}

/// Carries the former passwords over into a save, and adds the one that it replaces if a phone may
/// have it. `at_once`: none of them is good any more.
///
/// # Errors
/// A [`Fault`] of sealing.
pub fn keep_former<W: World>(
    world: &W,
    id: &str,
    next: &mut Stored<Account>,
    before: Option<&Stored<Account>>,
    at_once: bool,
) -> Result<(), Fault> {
    next.state.former_passwords.clear();
    note_pin(world, id, next, before);
    let Some(before) = before.filter(|before| before.alive()) else {
        // Phones that have it since before it was deleted have another password.
        let on_phones = !next.state.devices.is_empty();
        next.state.login_rev = if on_phones { next.rev } else { 0 };
        return Ok(());
    };
    let login = |stored: &Stored<Account>| {
        Login::open(world, id, stored, PASSWORD, stored.record.auth_username())
    };
    let (old, new) = (login(before), login(next));
    if old != new {
        next.state.login_rev = next.rev;
    }
    let name = |stored: &Stored<Account>| {
        let record = &stored.record;
        (record.pbx.clone(), record.username.clone())
    };
    // Under another name or at another PBX no phone registers with what it has, whatever the
    // password; and without a phone there is none that could be locked out.
    if at_once || name(before) != name(next) || next.state.devices.is_empty() {
        return Ok(());
    }
    for former in &before.state.former_passwords {
        let name = former.slot.sealed();
        let kept = Login::open(world, id, before, name, &former.login);
        // None is kept twice, nor beside itself: what is changed to and fro needs one slot.
        if kept.is_none() || kept == old || kept == new {
            continue;
        }
        if let Some(sealed) = before.sealed.get(name) {
            next.sealed.insert(name.to_owned(), sealed.clone());
            next.state.former_passwords.push(former.clone());
        }
    }
    if old != new
        && let Some(old) = old
    {
        let slot = rotation::keep(&mut next.state, &old.user, world.now());
        let place = secret_place(Kind::Account, id, slot.sealed());
        let text = old.password.reveal().as_bytes();
        let sealed = world.keys().seal(world, &place, text)?;
        next.sealed.insert(slot.sealed().to_owned(), sealed);
    }
    Ok(())
}

/// Notes which save brought the PIN: what was counted of wrong ones is of the former PIN.
fn note_pin<W: World>(
    world: &W,
    id: &str,
    next: &mut Stored<Account>,
    before: Option<&Stored<Account>>,
) {
    let pin = |stored: &Stored<Account>| {
        let place = secret_place(Kind::Account, id, PIN);
        let sealed = stored.sealed.get(PIN)?;
        world.keys().open_secret(&place, sealed).ok()
    };
    let before = before.filter(|before| before.alive());
    if before.is_none_or(|before| pin(before) != pin(next)) {
        next.state.pin_rev = next.rev;
    }
}

/// `POST /accounts/{id}/rotate`: a new password. `{"now": true}`: the former ones end at once, not
/// when the phones have the new one.
///
/// # Errors
/// A [`Failure`]; nothing is changed then.
pub async fn rotate<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    id: &str,
) -> Result<Response<Vec<u8>>, Failure> {
    let Rotate { now } = body::parse(body::object(request)?)?;
    let password = Secret::generate(world)?.reveal().to_owned();
    let patch = Map::from_iter([(PASSWORD.to_owned(), password.into())]);
    let change = if now {
        Change::Supersede(patch)
    } else {
        Change::Patch(patch)
    };
    let Saved {
        stored,
        followed_up,
        ..
    } = save::save::<Account, W>(world, context, request, id, change).await?;
    let tenant = Some(&stored.record.tenant);
    let resource = format!("accounts/{id}");
    let event = Event::new(
        world,
        &context.caller.name,
        tenant,
        "account.rotated",
        resource,
    )
    .with("edition", stored.edition.to_string())
    .with("former", if now { "ended" } else { "kept" });
    audit::note(world, &event).await;
    let former = stored.state.former_passwords.iter();
    let answer = Rotated {
        id,
        revision: stored.edition,
        former_until: former.map(rotation::until).max(),
        visible_by: (!followed_up).then(|| world.now().plus(super::FINISHED_WITHIN_S)),
    };
    let mut response = json(StatusCode::OK, &answer)?;
    super::set_etag(&mut response, &etag(&stored))?;
    Ok(response)
}

/// What `POST /accounts/{id}/rotate` takes.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "RotateAccount"))]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotate {
    /// True: what was good before ends at once. Default false: when the phones have the new one.
    #[serde(default)]
    now: bool,
}

/// The answer of `POST /accounts/{id}/rotate`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "RotatedAccount"))]
pub(crate) struct Rotated<'a> {
    /// The account.
    id: &'a str,
    /// Its revision now; the `ETag`, without its quotes.
    revision: u64,
    /// When the last of the former passwords ends, if the phones do not have the new one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    former_until: Option<Timestamp>,
    /// Until when what follows from it is done, if it is not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    visible_by: Option<Timestamp>,
}
