//! Sessions of hot-desking: who is logged in at which phone.
//!
//! **A user sits at one phone at most.** Where, one object says, `session/{account}` in R2, which is taken
//! by compare-and-set: the user's *seat*. The phone's own object names the login too, but that counts only
//! while the seat is of the same login ([`stands`]), and nothing of a user goes into a phone's files
//! before the seat was read. So from the moment in which the seat is taken by another phone, or given up,
//! the former one gets its host's files at whatever it asks for, whether or not anything else was written.
//! Two phones can both have a user's files only for as long as the former one does not ask: until it is
//! told to, or its time to ask comes.
//!
//! **A login** writes, in this order: a mark of both phones for the scheduled handler; the phone on the
//! account's list, so that a change of the account finds it; the login in the phone's object; when it ends
//! (`session-end/{until}/{account}`); the seat; and then what follows of it for both phones. Cut off before
//! the seat, nobody is logged in; after it, the user is. What is left over then the phones' next requests
//! do not heed, and [`crate::finish`] clears it up by the marks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::admin::managed::add_device;
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::finish::{self, Mark};
use crate::json;
use crate::key::{self, Kind};
use crate::keys::hex;
use crate::mac::Mac;
use crate::ports::{Level, Objects, Only, World};
use crate::record::Stored;
use crate::record::device::{Device, Session, UserType};
use crate::store;
use crate::text::Id;
use crate::time::Timestamp;

/// How often a compare-and-set is tried before it is given up as contended.
const TRIES: u32 = 12;

/// Where a user is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// At which phone.
    pub mac: Mac,
    /// [`Session::id`].
    pub id: String,
    /// When the user logged in.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// The object in R2. Nobody sits there if it is not there, or has no seat.
#[derive(Default, Serialize, Deserialize)]
struct Seating {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seat: Option<Seat>,
}

/// Whether a session may stand, as far as the phone's object says.
#[must_use]
pub fn may_stand(device: &Stored<Device>, session: &Session, now: Timestamp) -> bool {
    device.alive() && device.record.user_type == UserType::HotDesking && now < session.until
}

/// Whether a phone's session stands: its user's seat is of the same login. One read of R2 for a phone that
/// somebody is logged in at, none for the others.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn stands<W: World>(world: &W, mac: Mac, device: &Stored<Device>) -> Result<bool, Fault> {
    let session = device.state.session.as_ref();
    let Some(session) = session.filter(|session| may_stand(device, session, world.now())) else {
        return Ok(false);
    };
    let (seat, _) = load(world, &session.account).await?;
    Ok(seat.is_some_and(|seat| seat.mac == mac && seat.id == session.id))
}

async fn load<W: World>(world: &W, account: &Id) -> Result<(Option<Seat>, Option<String>), Fault> {
    let Some(object) = world.r2().get(&key::session(account)).await? else {
        return Ok((None, None));
    };
    let seating: Seating = json::read(&object.body).map_err(|_| Fault::Broken("session"))?;
    Ok((seating.seat, Some(object.etag)))
}

/// Puts a seat if it is still what was read; false if it is not.
async fn replace<W: World>(
    world: &W,
    account: &Id,
    seat: Option<Seat>,
    former: Option<&str>,
) -> Result<bool, Fault> {
    let body =
        serde_json::to_vec(&Seating { seat }).map_err(|_| Fault::Broken("session to json"))?;
    let only = former.map_or(Only::Absent, Only::Version);
    let key = key::session(account);
    match world.r2().put(&key, body, BTreeMap::new(), only).await {
        Ok(put) => Ok(put.is_some()),
        Err(Fault::Throttled) => {
            // R2 takes one write a second of one object.
            world.sleep_ms(1_100).await;
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

/// A login that is to be.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// At which phone.
    pub mac: Mac,
    /// The user.
    pub account: &'a Id,
    /// The user's tenant; the phone must be of the same.
    pub tenant: &'a Id,
    /// When it ends by itself.
    pub until: Timestamp,
    /// Who does it, for the audit.
    pub actor: &'a str,
}

/// Why a login cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The phone is gone, of another tenant, or not for hot-desking.
    NoDesk,
    /// The account is on as many devices as it may be.
    NoRoom,
}

/// Logs a user in at a phone. Whoever was logged in there is logged out, and so is the user where the user
/// was before. `origin` is the scheme and host of the URLs in the files.
///
/// # Errors
/// The [`Fault`] of R2: then nobody is logged in by it. What follows from a login (files, copies) is done
/// by the scheduled handler if it fails here.
pub async fn begin<W: World>(
    world: &W,
    origin: &str,
    login: Login<'_>,
) -> Result<Result<Session, Refused>, Fault> {
    let Login {
        mac,
        account,
        tenant,
        until,
        actor,
    } = login;
    let nonce: [u8; 8] = world.random()?;
    let session = Session {
        id: hex(&nonce),
        account: account.clone(),
        since: world.now(),
        until,
    };
    let id = mac.to_string();
    let is_desk = |device: &Stored<Device>| {
        may_stand(device, &session, session.since) && device.record.tenant == *tenant
    };
    let device = store::load::<Device, W>(world, &id).await?;
    if !device.is_some_and(|device| is_desk(&device.stored)) {
        return Ok(Err(Refused::NoDesk));
    }
    let mark = finish::begin_with(world, Kind::Device, &id, &[account]).await?;
    if !add_device(world, tenant, account, mac, false).await? {
        finish::done(world, &mark).await?;
        return Ok(Err(Refused::NoRoom));
    }
    let mut former = None;
    let named = store::update::<Device, W>(world, &id, |device| {
        if !is_desk(device) {
            return false;
        }
        former = device.state.end_session();
        device.state.former_accounts.remove(account);
        device.state.session = Some(session.clone());
        true
    });
    if !named.await?.is_some_and(|device| is_desk(&device)) {
        // On the account's list it is one too many, which costs a needless look.
        finish::done(world, &mark).await?;
        return Ok(Err(Refused::NoDesk));
    }
    // Before the seat is taken, or a session could have no end.
    let end = key::session_end(until, account);
    world
        .r2()
        .put(&end, Vec::new(), BTreeMap::new(), Only::Always)
        .await?;
    let (elsewhere, mark_elsewhere) = take(world, mac, &session).await?;
    let device = store::load::<Device, W>(world, &id).await?;
    let named = device.and_then(|device| device.stored.state.session);
    if named.is_none_or(|named| named.id != session.id) {
        // Before the seat was taken another user got the phone, or a run took this for a login that was
        // cut off: a seat that no phone names would stay until its time is over.
        vacate(world, account, |seat| seat.id == session.id).await?;
        return Err(Fault::Contended);
    }

    // From here on the user is logged in.
    note(world, mac, tenant, actor, "session.began", account, None).await;
    if let Some(seat) = &elsewhere {
        let why = Some("elsewhere");
        note(
            world,
            seat.mac,
            tenant,
            actor,
            "session.ended",
            account,
            why,
        )
        .await;
    }
    if let Some(former) = former.filter(|former| former.account != *account) {
        let meant = |seat: &Seat| seat.mac == mac && seat.id == former.id;
        let left = vacate(world, &former.account, meant).await;
        if let Ok(Some(_)) = left {
            let (what, why) = ("session.ended", Some("another user"));
            note(world, mac, tenant, actor, what, &former.account, why).await;
        }
        if let Err(fault) = left {
            let fields = [("fault", fault.label())];
            world.log(Level::Warn, "session.unfinished", &fields);
        }
    }
    follow_up(world, origin, mac, &mark).await;
    if let (Some(seat), Some(mark)) = (elsewhere, mark_elsewhere) {
        follow_up(world, origin, seat.mac, &mark).await;
    }
    Ok(Ok(session))
}

/// Takes a user's seat: where the user was before, at another phone, and that phone's mark.
async fn take<W: World>(
    world: &W,
    mac: Mac,
    session: &Session,
) -> Result<(Option<Seat>, Option<Mark>), Fault> {
    let account = &session.account;
    for attempt in 0..TRIES {
        let (former, version) = load(world, account).await?;
        let elsewhere = former.filter(|seat| seat.mac != mac);
        let mark = match &elsewhere {
            Some(seat) => Some(finish::begin(world, Kind::Device, &seat.mac.to_string()).await?),
            None => None,
        };
        let seat = Seat {
            mac,
            id: session.id.clone(),
            since: session.since,
            until: session.until,
        };
        if replace(world, account, Some(seat), version.as_deref()).await? {
            return Ok((elsewhere, mark));
        }
        if let Some(mark) = mark {
            finish::done(world, &mark).await?;
        }
        store::pause(world, attempt).await;
    }
    Err(Fault::Contended)
}

/// Gives up a user's seat if it is the one that is meant: the seat that it was.
///
/// # Errors
/// The [`Fault`] of R2; then it is still taken.
async fn vacate<W: World>(
    world: &W,
    account: &Id,
    is_meant: impl Fn(&Seat) -> bool,
) -> Result<Option<Seat>, Fault> {
    for attempt in 0..TRIES {
        let (seat, version) = load(world, account).await?;
        let Some(seat) = seat.filter(&is_meant) else {
            return Ok(None);
        };
        if replace(world, account, None, version.as_deref()).await? {
            forget_end(world, &seat, account).await;
            return Ok(Some(seat));
        }
        store::pause(world, attempt).await;
    }
    Err(Fault::Contended)
}

/// Logs out whoever is logged in at a phone: the session that ended, or `None` if nobody was.
///
/// # Errors
/// The [`Fault`] of R2; then the user is still logged in.
pub async fn end<W: World>(
    world: &W,
    origin: &str,
    mac: Mac,
    actor: &str,
) -> Result<Option<Session>, Fault> {
    let id = mac.to_string();
    let Some(device) = store::load::<Device, W>(world, &id).await? else {
        return Ok(None);
    };
    let device = device.stored;
    let Some(session) = device.state.session else {
        return Ok(None);
    };
    let mark = finish::begin(world, Kind::Device, &id).await?;
    let meant = |seat: &Seat| seat.mac == mac && seat.id == session.id;
    let ended = vacate(world, &session.account, meant).await?;
    if ended.is_some() {
        let (tenant, why) = (&device.record.tenant, Some("logout"));
        let what = "session.ended";
        note(world, mac, tenant, actor, what, &session.account, why).await;
    }
    follow_up(world, origin, mac, &mark).await;
    Ok(ended.map(|_| session))
}

/// Does for a phone what follows from a login or logout: files, copies, lists. A phone that is to be told to
/// fetch again is to be told so here: its new files are stored.
async fn follow_up<W: World>(world: &W, origin: &str, mac: Mac, mark: &Mark) {
    let id = mac.to_string();
    let followed = match finish::finish(world, Kind::Device, &id, Some(origin)).await {
        Ok(()) => finish::done(world, mark).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = followed {
        let fields = [("fault", fault.label())];
        world.log(Level::Warn, "session.unfinished", &fields);
    }
}

/// The most ends of sessions that one run of the scheduled handler looks at.
const ENDS: usize = 20;

/// The calls to the stores that one end takes: the phone and what its files are made of, two accounts'
/// lists, the seat, and the copies in KV.
pub const CALLS_OF_END: u32 = 40;

/// The ends of sessions that are due, the oldest first; one listing. Each is [`end_due`]'s.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn due<W: World>(world: &W) -> Result<Vec<(Timestamp, Id)>, Fault> {
    let prefix = key::ALL_SESSION_ENDS;
    // More than one run gets through, so that some that always fail do not hold up the others.
    let page = world.r2().list(prefix, None, 1_000).await?;
    let ends = page.entries.iter();
    let ends = ends.filter_map(|entry| key::parse_session_end(&entry.key));
    let mut due: Vec<_> = ends.filter(|(until, _)| *until <= world.now()).collect();
    let turn = usize::try_from(world.now().0 / 60).unwrap_or_default();
    let first = turn.wrapping_mul(ENDS).checked_rem(due.len());
    due.rotate_left(first.unwrap_or_default());
    due.truncate(ENDS);
    Ok(due)
}

/// Ends a session whose time has come: the phone gets its host's files, then the seat is free. One that
/// was prolonged or has ended is left as it is.
///
/// # Errors
/// The [`Fault`] of a store: the end is then found again by the next run.
pub async fn end_due<W: World>(
    world: &W,
    origin: Option<&str>,
    until: Timestamp,
    account: &Id,
) -> Result<(), Fault> {
    let over = |seat: &Seat| seat.until <= world.now();
    let (seat, _) = load(world, account).await?;
    if let Some(seat) = seat.filter(over) {
        // Its time is over whatever the seat says, so the files are the host's before it is free.
        let id = seat.mac.to_string();
        // The entry goes together with the seat, in the middle of what follows.
        let mark = finish::begin(world, Kind::Device, &id).await?;
        finish::finish(world, Kind::Device, &id, origin).await?;
        finish::done(world, &mark).await?;
        if vacate(world, account, over).await?.is_some()
            && let Some(device) = store::load::<Device, W>(world, &id).await?
        {
            let (tenant, why) = (&device.stored.record.tenant, Some("time"));
            let (actor, what) = (audit::DIALTONE, "session.ended");
            note(world, seat.mac, tenant, actor, what, account, why).await;
        }
    }
    world.r2().delete(&key::session_end(until, account)).await
}

/// Gives up the seat that a user has at a phone which does not name that login any more: its time was over,
/// the phone was revoked, deleted, or is no longer for hot-desking.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn clear_up<W: World>(
    world: &W,
    mac: Mac,
    account: &Id,
    tenant: &Id,
) -> Result<(), Fault> {
    for attempt in 0..TRIES {
        let (seat, version) = load(world, account).await?;
        let Some(seat) = seat.filter(|seat| seat.mac == mac) else {
            return Ok(());
        };
        // The phone after the seat: a login is in the phone's object before it has the seat, so a seat that
        // is not named there now is one that was.
        let device = store::load::<Device, W>(world, &mac.to_string()).await?;
        let device = device.map(|device| device.stored).filter(Stored::alive);
        let named = device.and_then(|device| device.state.session);
        if named.is_some_and(|session| session.id == seat.id) {
            return Ok(());
        }
        if replace(world, account, None, version.as_deref()).await? {
            let why = if seat.until <= world.now() {
                "time"
            } else {
                "device"
            };
            let (actor, what) = (audit::DIALTONE, "session.ended");
            note(world, mac, tenant, actor, what, account, Some(why)).await;
            forget_end(world, &seat, account).await;
            return Ok(());
        }
        store::pause(world, attempt).await;
    }
    Err(Fault::Contended)
}

/// Gives up the seat of a user who was deleted.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn account_deleted<W: World>(world: &W, account: &Id, tenant: &Id) -> Result<(), Fault> {
    if let Some(seat) = vacate(world, account, |_| true).await? {
        let (actor, what, why) = (audit::DIALTONE, "session.ended", Some("account deleted"));
        note(world, seat.mac, tenant, actor, what, account, why).await;
    }
    Ok(())
}

/// Takes away that a session ends some time. Left there it would be found out of date then.
async fn forget_end<W: World>(world: &W, seat: &Seat, account: &Id) {
    let end = key::session_end(seat.until, account);
    if let Err(fault) = world.r2().delete(&end).await {
        world.log(Level::Warn, "session.end", &[("fault", fault.label())]);
    }
}

async fn note<W: World>(
    world: &W,
    mac: Mac,
    tenant: &Id,
    actor: &str,
    action: &'static str,
    account: &Id,
    why: Option<&str>,
) {
    let resource = format!("devices/{mac}");
    let event = Event::new(world, actor, Some(tenant), action, resource);
    let event = event.with("account", account.as_str());
    let event = match why {
        Some(why) => event.with("why", why),
        None => event,
    };
    audit::note(world, &event).await;
}
