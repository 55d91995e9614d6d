//! `POST /p/{token}/hotdesk`: a user logs in or out at a phone.
//!
//! A PIN is counted before it is looked at, by compare-and-set on R2, against the user and against the
//! phone, so that no number of phones at once gets more of them looked at than one after another. A wrong
//! PIN, a user whom nobody knows, who has no PIN or who is another tenant's, and a right PIN while none is
//! looked at: all get the same answer after the same reads and writes.

use std::collections::BTreeMap;

use futures_util::future;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::audit;
use crate::fault::Fault;
use crate::hot_desk::{self, Form, Tries, TriesOfDevice, Turn};
use crate::json;
use crate::key::{self, Kind};
use crate::keys::{same_secret, sha256_hex};
use crate::mac::Mac;
use crate::ports::{Level, Objects, Only, World};
use crate::record::Stored;
use crate::record::account::{Account, PIN};
use crate::record::device::{Device, UserType};
use crate::record::tenant::Tenant;
use crate::request::{Afterwards, Answer, Request, refuse, respond};
use crate::secret::Secret;
use crate::session::{self, Login, Refused};
use crate::store::{self, secret_place};
use crate::text::{Id, Username};
use crate::time::{Hours, Timestamp};

/// The name under `/p/{token}/`.
pub const NAME: &str = "hotdesk";

/// How often a compare-and-set is tried before it is given up as contended.
const TRIES: u32 = 12;

/// The most PBXes of a tenant at which a user is looked for, where the phone has no account of its own that
/// says which. The first by their ids.
const MOST_PBXES: u32 = 8;

/// What a caller gets for whatever is wrong with user or PIN.
fn wrong() -> Response<Vec<u8>> {
    plain(StatusCode::FORBIDDEN, "wrong user or PIN\n")
}

fn plain(status: StatusCode, text: &str) -> Response<Vec<u8>> {
    let text = text.as_bytes().to_vec();
    respond(status, "text/plain; charset=utf-8", text)
}

/// Answers a phone that was let in with its token.
///
/// # Errors
/// The [`Fault`] of a store: then nobody is logged in or out.
pub async fn answer<W: World>(
    world: &W,
    origin: &str,
    request: &Request,
    mac: Mac,
    device: &Stored<Device>,
) -> Result<Answer, Fault> {
    if device.record.user_type != UserType::HotDesking {
        return Ok(refuse().into());
    }
    let kind = request.header("content-type").split(';').next();
    let kind = kind.unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let text = "use Content-Type: application/x-www-form-urlencoded\n";
        return Ok(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into());
    }
    match hot_desk::read(&request.body) {
        Err(wrong) => Ok(plain(StatusCode::BAD_REQUEST, &format!("{wrong}\n")).into()),
        Ok(Form::Logout) => {
            session::end(world, origin, mac, audit::PHONE).await?;
            Ok(plain(StatusCode::OK, "logged out\n").into())
        }
        Ok(Form::Login { user, pin }) => {
            let source = request.source.neighbourhood();
            log_in(world, origin, mac, device, &user, &pin, source).await
        }
    }
}

async fn log_in<W: World>(
    world: &W,
    origin: &str,
    mac: Mac,
    device: &Stored<Device>,
    user: &str,
    pin: &Secret,
    source: String,
) -> Result<Answer, Fault> {
    let (now, tenant) = (world.now(), &device.record.tenant);
    let of_device = key::tries_of_device(mac);
    let mut turn = Ok(Turn::Open);
    count(world, &of_device, |tries: &mut TriesOfDevice| {
        turn = tries.take(now);
        turn.is_ok()
    })
    .await?;
    let at_device = match turn {
        Ok(turn) => turn,
        Err(until) => return Ok(waits(until.since(now))),
    };

    let user = find(world, device.host(), user).await?;
    let of_user = user.as_ref().map_or_else(
        || key::tries_of_nobody(mac),
        |user| key::tries_of_account(&user.id),
    );
    let pin_rev = user.as_ref().map_or(0, |user| user.pin_rev);
    let mut at_user = Turn::Open;
    count(world, &of_user, |tries: &mut Tries| {
        at_user = tries.take(pin_rev, now);
        true
    })
    .await?;

    let known = user.as_ref().map_or("", |user| user.pin.reveal());
    // Of their hashes, so that the time does not tell the length.
    let same = same_secret(
        &sha256_hex(pin.reveal().as_bytes()),
        &sha256_hex(known.as_bytes()),
    );
    let user = match user {
        Some(user) if same && at_user != Turn::Locked => user,
        user => {
            let account = user.map(|user| user.id);
            return Ok(Answer {
                response: wrong(),
                afterwards: Some(Afterwards::WrongPin {
                    mac,
                    tenant: tenant.clone(),
                    locked: at_user == Turn::Last && account.is_some(),
                    account,
                    source,
                    held: at_device == Turn::Last,
                }),
            });
        }
    };
    let login = Login {
        mac,
        account: &user.id,
        tenant,
        until: until(world, tenant).await?,
        actor: audit::PHONE,
    };
    // At once, since each waits for R2's limit of one write a second of one object.
    let (cleared, given_back, begun) = future::join3(
        count(world, &of_user, |tries: &mut Tries| {
            tries.clear();
            true
        }),
        count(world, &of_device, |tries: &mut TriesOfDevice| {
            tries.give_back();
            true
        }),
        session::begin(world, origin, login),
    )
    .await;
    if let Err(fault) = cleared.and(given_back) {
        // They count against the next PIN, which is no reason to refuse this one.
        world.log(Level::Warn, "pin.uncleared", &[("fault", fault.label())]);
    }
    let begun = begun?;
    Ok(match begun {
        Ok(_) => plain(StatusCode::OK, "logged in\n").into(),
        Err(Refused::NoRoom) => {
            plain(StatusCode::CONFLICT, "logged in on too many phones\n").into()
        }
        Err(Refused::NoDesk) => refuse().into(),
    })
}

/// When a session that begins now ends by itself.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn until<W: World>(world: &W, tenant: &Id) -> Result<Timestamp, Fault> {
    let tenant = store::load::<Tenant, W>(world, tenant.as_str()).await?;
    let hours = tenant.and_then(|tenant| tenant.stored.record.hot_desk_hours);
    Ok(world.now().plus(hours.unwrap_or(Hours::SESSION).seconds()))
}

/// The answer to a phone at which too many PINs were wrong. It tells of no user.
fn waits(seconds: u64) -> Answer {
    let text = "too many wrong PINs at this phone\n";
    let mut response = plain(StatusCode::TOO_MANY_REQUESTS, text);
    let seconds = HeaderValue::from(seconds);
    response.headers_mut().insert(RETRY_AFTER, seconds);
    response.into()
}

/// A user who may log in at a phone.
struct User {
    id: Id,
    pin: Secret,
    pin_rev: u64,
}

/// The user of this username at the phone's PBX, or else the account of this id there; `None` if there is
/// none of the phone's tenant, or it has no PIN. Reads as much for any name.
async fn find<W: World>(world: &W, device: &Device, user: &str) -> Result<Option<User>, Fault> {
    let tenant = &device.tenant;
    let first = device.lines.iter().min_by_key(|line| line.line);
    let pbxes: Vec<Id> = if let Some(line) = first {
        let host = store::load::<Account, W>(world, line.account.as_str()).await?;
        let host = host.filter(|host| host.stored.record.tenant == *tenant);
        host.map(|host| host.stored.record.pbx)
            .into_iter()
            .collect()
    } else {
        let prefix = key::owned_by(tenant, Some(Kind::Pbx));
        let page = world.r2().list(&prefix, None, MOST_PBXES).await?;
        let ids = page.entries.iter().map(|entry| key::last(&entry.key));
        ids.filter_map(|id| Id::try_from(id).ok()).collect()
    };
    let username = Username::try_from(user).ok();
    let mut holder = None;
    for pbx in &pbxes {
        // Nobody has no name.
        let name = username
            .as_ref()
            .map_or_else(|| key::names(pbx), |username| key::name(pbx, username));
        let held = world.r2().get(&name).await?;
        let held = held.and_then(|held| String::from_utf8(held.body).ok());
        let held = held.and_then(|id| Id::try_from(id).ok());
        holder = holder.or(held);
    }
    let by_name = read(world, holder).await?.filter(|(_, stored)| {
        // Under a name may still stand who had it before.
        Some(&stored.record.username) == username.as_ref()
    });
    let by_id = read(world, Id::try_from(user).ok()).await?;
    let of_phone = |stored: &Stored<Account>| {
        stored.alive() && stored.record.tenant == *tenant && pbxes.contains(&stored.record.pbx)
    };
    let mut found = [by_name, by_id].into_iter().flatten();
    let found = found.find(|(_, stored)| of_phone(stored));
    Ok(found.and_then(|(id, stored)| {
        let place = secret_place(Kind::Account, id.as_str(), PIN);
        let sealed = stored.sealed.get(PIN)?;
        Some(User {
            pin: world.keys().open_secret(&place, sealed).ok()?,
            pin_rev: stored.state.pin_rev,
            id,
        })
    }))
}

/// Reads an account, or as much for none.
async fn read<W: World>(world: &W, id: Option<Id>) -> Result<Option<(Id, Stored<Account>)>, Fault> {
    // "-" is no id that an account can have.
    let name = id.as_ref().map_or("-", |id| id.as_str());
    let loaded = store::load::<Account, W>(world, name).await?;
    Ok(id.zip(loaded.map(|loaded| loaded.stored)))
}

/// Changes what was counted under a key until the compare-and-set holds. `change` returns false if there
/// is nothing to write.
async fn count<T: Default + Serialize + DeserializeOwned, W: World>(
    world: &W,
    key: &str,
    mut change: impl FnMut(&mut T) -> bool,
) -> Result<(), Fault> {
    for attempt in 0..TRIES {
        let object = world.r2().get(key).await?;
        let mut counted = match &object {
            Some(object) => json::read(&object.body).map_err(|_| Fault::Broken("tries"))?,
            None => T::default(),
        };
        if !change(&mut counted) {
            return Ok(());
        }
        let only = match &object {
            Some(object) => Only::Version(&object.etag),
            None => Only::Absent,
        };
        let body = serde_json::to_vec(&counted).map_err(|_| Fault::Broken("tries to json"))?;
        match world.r2().put(key, body, BTreeMap::new(), only).await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => store::pause(world, attempt).await,
            // R2 takes one write a second of one object (R2 limits).
            Err(Fault::Throttled) if attempt + 1 < TRIES => world.sleep_ms(1_100).await,
            Err(fault) => return Err(fault),
        }
    }
    Err(Fault::Contended)
}

/// Forgets the wrong PINs of a user: an admin logged the user in.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn forgive<W: World>(world: &W, account: &Id) -> Result<(), Fault> {
    world.r2().delete(&key::tries_of_account(account)).await
}
