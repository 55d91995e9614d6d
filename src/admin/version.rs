//! Former versions of a phone's files: looking at one, comparing two, going back to one.

use std::collections::{BTreeMap, BTreeSet};

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::managed::{add_device, another_make};
use super::problem::{Failure, FieldError, Kind as ProblemKind, Problem};
use super::save::{self, Context, not_found};
use super::{body, device, no_parameters, parameters};
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::finish;
use crate::gather::in_order;
use crate::key::Kind;
use crate::mac::Mac;
use crate::ports::World;
use crate::record::Stored;
use crate::record::account::{Account, MOST_DEVICES};
use crate::record::device::{Device, DeviceState};
use crate::record::version::{Pinned, Version};
use crate::render::{From, Ingredients};
use crate::request::{Request, respond};
use crate::store;
use crate::text::Id;
use crate::time::Timestamp;
use crate::vendor::Objection;
use crate::versions::{self, Body};

/// The `Content-Type` of a unified diff.
pub(crate) const DIFF: &str = "text/x-diff; charset=utf-8";

/// That a phone's files are held to a version, as answers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "PinnedVersion"))]
pub struct Pin {
    /// Which.
    version: u64,
    /// Since when.
    since: Timestamp,
}

impl Pin {
    /// What there is to show of a device's state.
    #[must_use]
    pub fn of(state: &DeviceState) -> Option<Self> {
        let pinned = state.pinned.as_ref()?;
        Some(Self {
            version: pinned.version,
            since: pinned.at,
        })
    }
}

/// A version, as `GET /devices/{mac}/files` lists it.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "DeviceVersion"))]
pub struct Listed<'a> {
    /// Its number.
    version: u64,
    /// When its text was made first.
    made_at: Timestamp,
    /// Whether it is what the phone gets now.
    current: bool,
    /// Whether the phone is held to it.
    pinned: bool,
    /// The versions right before it that differed in secrets, the token or the number alone.
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    same: &'a [u64],
    /// The revision of the device's record.
    revision: u64,
    /// The number of its vendor's templates.
    templates: u32,
    /// The revisions of the shared records in it, by key.
    made_of: &'a BTreeMap<String, u64>,
}

impl<'a> Listed<'a> {
    /// The versions that a device keeps, the newest first. `current` is that of its files.
    #[must_use]
    pub fn all(versions: &'a [Version], state: &DeviceState, current: u64) -> Vec<Self> {
        let pinned = state.pinned.as_ref();
        let listed = versions.iter().rev().map(|kept| Self {
            version: kept.version,
            made_at: kept.made_at,
            current: kept.version == current,
            pinned: pinned.is_some_and(|pinned| kept.is(pinned.version)),
            same: &kept.same,
            revision: kept.sources.device,
            templates: kept.sources.templates,
            made_of: &kept.sources.records,
        });
        listed.collect()
    }
}

/// A former version.
///
/// # Errors
/// A [`Failure`] if it is not kept, or of the store.
pub(super) async fn read<W: World>(
    world: &W,
    mac: Mac,
    state: &DeviceState,
    number: u64,
) -> Result<(Version, Body), Failure> {
    if let Some(version) = state.version_at(number, world.now())
        && let Some(body) = versions::read(world, mac, &version.content).await?
    {
        return Ok((version, body));
    }
    let detail = format!("version {number} is not kept");
    Err(Problem::new(ProblemKind::NotFound, detail).into())
}

/// The files of a version, masked. Those that the phone gets now are there in any case: of a user who is logged in
/// nothing is kept.
async fn texts<W: World>(
    world: &W,
    mac: Mac,
    stored: &Stored<Device>,
    number: u64,
) -> Result<BTreeMap<String, String>, Failure> {
    let files = stored.state.files()?;
    match read(world, mac, &stored.state, number).await {
        Err(Failure::Problem(_)) if number == files.version => {
            let made = Ingredients::gather(world, mac, stored.clone(), From::R2).await?;
            Ok(made.masked_texts(world.keys(), &files.sources.origin)?)
        }
        kept => Ok(kept?.1.texts),
    }
}

/// `GET /devices/{mac}/diff?from=N&to=N`: what differs between two versions; without `to`, from the current one.
///
/// # Errors
/// A [`Failure`] if there is no such device or version, or of the store.
pub async fn diff<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    mac: Mac,
) -> Result<Response<Vec<u8>>, Failure> {
    let (mut from, mut to) = (None, None);
    for (name, value) in parameters(request) {
        let slot = match name.as_str() {
            "from" => &mut from,
            "to" => &mut to,
            _ => return Err(wrong_parameters().into()),
        };
        *slot = Some(value.parse::<u64>().map_err(|_| wrong_parameters())?);
    }
    let from = from.ok_or_else(wrong_parameters)?;
    let stored = device::refreshed(world, context, mac).await?;
    let to = match to {
        Some(to) => to,
        None => stored.state.files()?.version,
    };
    let [before, after] = [
        texts(world, mac, &stored, from).await?,
        texts(world, mac, &stored, to).await?,
    ];
    let names = [from, to].map(|number| format!("version {number}"));
    let [before_name, after_name] = &names;
    let diff = versions::diff(&before, &after, [before_name, after_name]);
    Ok(respond(StatusCode::OK, DIFF, diff.into_bytes()))
}

fn wrong_parameters() -> Problem {
    let detail = "the parameters are from and to, each the number of a version; from must be there";
    Problem::new(ProblemKind::BadParameter, detail)
}

/// The body of `POST /devices/{mac}/rollback`.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Rollback {
    /// The number of a version that is kept.
    version: u64,
}

/// The answer of `POST /devices/{mac}/rollback|unpin`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "HeldDevice"))]
pub(crate) struct Answer {
    /// The device.
    mac: Mac,
    /// The version that the phone gets now: a new one, since phones compare. `null` until `visible_by`.
    version: Option<u64>,
    /// What it is held to; absent once it is unpinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Pin>,
    /// That it is held, and what of that version it lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Objection>,
    /// When the scheduled handler has done what could not be done at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    visible_by: Option<Timestamp>,
}

/// `POST /devices/{mac}/rollback`: holds a phone's files to a former version, with today's secrets and token, until
/// they are unpinned.
///
/// # Errors
/// A [`Failure`]; nothing is changed then.
pub async fn rollback<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    mac: Mac,
) -> Result<Response<Vec<u8>>, Failure> {
    no_parameters(request)?;
    let wanted: Rollback = body::parse(body::object(request)?)?;
    let stored = device::load(world, context, mac).await?;
    save::preconditions(request, Some(&stored))?;
    if stored.record.decoy {
        let detail = "the device is a decoy: nobody ever gets anything of it";
        return Err(Problem::new(ProblemKind::InUse, detail).into());
    }
    let (version, body) = read(world, mac, &stored.state, wanted.version).await?;
    let pinned = Pinned {
        version: wanted.version,
        at: world.now(),
        content: version.content,
        snapshot: body.snapshot,
    };
    of_its_make(&pinned, &stored.record)?;
    // All accounts must have room before any is given the device, so that a refusal leaves no trace.
    let accounts = ours(world, &stored, &pinned).await?;
    room(world, mac, &stored.record.tenant, &accounts, true).await?;

    let id = mac.to_string();
    let joins: Vec<&Id> = accounts
        .iter()
        .filter(|account| !stored.has_account(account))
        .collect();
    let mark = finish::begin_with(world, Kind::Device, &id, &joins).await?;
    // Whatever refuses it from here on, the mark stays: a run takes the device off the accounts' lists again.
    room(world, mac, &stored.record.tenant, &accounts, false).await?;
    let mut pin = |stored: &mut Stored<Device>| {
        of_its_make(&pinned, &stored.record)?;
        let former = stored.state.pinned.replace(Box::new(pinned.clone()));
        release(stored, former);
        Ok(())
    };
    let stored = change(world, context, request, mac, &mut pin).await?;
    answer(
        world,
        context,
        mac,
        &mark,
        stored,
        "files.pinned",
        pinned.version,
    )
    .await
}

/// `POST /devices/{mac}/unpin`: the files are made of today's records again.
///
/// # Errors
/// A [`Failure`]; nothing is changed then.
pub async fn unpin<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    mac: Mac,
) -> Result<Response<Vec<u8>>, Failure> {
    no_parameters(request)?;
    body::nothing(request)?;
    let stored = device::load(world, context, mac).await?;
    save::preconditions(request, Some(&stored))?;
    if stored.state.pinned.is_none() {
        return Err(not_held().into());
    }
    let mark = finish::begin(world, Kind::Device, &mac.to_string()).await?;
    let mut version = 0;
    let mut unpin = |stored: &mut Stored<Device>| {
        let Some(former) = stored.state.pinned.take() else {
            return Err(not_held());
        };
        version = former.version;
        release(stored, Some(former));
        Ok(())
    };
    let stored = change(world, context, request, mac, &mut unpin).await?;
    answer(
        world,
        context,
        mac,
        &mark,
        stored,
        "files.unpinned",
        version,
    )
    .await
}

/// Refuses a version of another make.
fn of_its_make(pinned: &Pinned, record: &Device) -> Result<(), Problem> {
    match another_make(pinned, record) {
        None => Ok(()),
        Some(error) => {
            let detail = format!("the device {}", error.detail);
            Err(Problem::new(ProblemKind::InUse, detail).at(&error.pointer))
        }
    }
}

fn not_held() -> Problem {
    let detail = "the device's files are not held to any version";
    Problem::new(ProblemKind::InUse, detail)
}

/// Takes what a device does not need any more off it: the accounts of a former pin, and what R2 has of it.
fn release(stored: &mut Stored<Device>, former: Option<Box<Pinned>>) {
    let Some(former) = former else { return };
    let lines = former.snapshot.device.lines.into_iter();
    let accounts = lines.map(|line| line.account);
    let left: BTreeSet<Id> = in_order(accounts.filter(|account| !stored.has_account(account)));
    stored.state.former_accounts.extend(left);
    stored.state.left_over |= !stored.state.needs(&former.content);
}

/// The accounts of a version's lines that its tenant still has.
async fn ours<W: World>(
    world: &W,
    stored: &Stored<Device>,
    pinned: &Pinned,
) -> Result<BTreeSet<Id>, Fault> {
    let mut accounts = BTreeSet::new();
    for line in &pinned.snapshot.device.lines {
        let account = store::load::<Account, W>(world, line.account.as_str()).await?;
        let ours = |account: &Stored<Account>| {
            account.alive() && account.record.tenant == stored.record.tenant
        };
        if account.is_some_and(|account| ours(&account.stored)) {
            accounts.insert(line.account.clone());
        }
    }
    Ok(accounts)
}

/// Notes a device at accounts. `dry`: only looks whether each has room.
async fn room<W: World>(
    world: &W,
    mac: Mac,
    tenant: &Id,
    accounts: &BTreeSet<Id>,
    dry: bool,
) -> Result<(), Failure> {
    for account in accounts {
        if !add_device(world, tenant, account, mac, dry).await? {
            let detail =
                format!("has a line with {account}, which is on {MOST_DEVICES} devices already");
            return Err(Problem::invalid(vec![FieldError::new("/version", detail)]).into());
        }
    }
    Ok(())
}

/// Changes a device by compare-and-set, or refuses to.
async fn change<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    mac: Mac,
    change: &mut dyn FnMut(&mut Stored<Device>) -> Result<(), Problem>,
) -> Result<Stored<Device>, Failure> {
    let id = mac.to_string();
    let mut refused = None;
    let changed = store::update::<Device, W>(world, &id, |stored| {
        if !device::visible(context, mac, stored) {
            return false;
        }
        let changed = save::preconditions(request, Some(stored)).and_then(|()| change(stored));
        refused = changed.err();
        refused.is_none()
    });
    let stored = changed
        .await?
        .filter(|stored| device::visible(context, mac, stored));
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    stored.ok_or_else(|| not_found::<Device>(&id).into())
}

/// Does what follows, and says what came of it.
async fn answer<W: World>(
    world: &W,
    context: &Context,
    mac: Mac,
    mark: &finish::Mark,
    stored: Stored<Device>,
    action: &'static str,
    version: u64,
) -> Result<Response<Vec<u8>>, Failure> {
    let id = mac.to_string();
    let followed = save::follow_up(world, context, Kind::Device, &id, mark).await;
    let (tenant, resource) = (Some(&stored.record.tenant), format!("devices/{id}"));
    let event = Event::new(world, &context.caller.name, tenant, action, resource);
    audit::note(world, &event.with("version", version.to_string())).await;
    let now = store::load::<Device, W>(world, &id).await?;
    let now = now.map_or(stored, |loaded| loaded.stored);
    let files = now.state.files.as_ref().map(|files| files.version);
    let pinned = Pin::of(&now.state);
    let made = Ingredients::gather(world, mac, now, From::R2).await?;
    let answer = Answer {
        mac,
        version: files.filter(|_| followed),
        pinned,
        warnings: made.held(),
        visible_by: (!followed).then(|| world.now().plus(super::FINISHED_WITHIN_S)),
    };
    super::json(StatusCode::OK, &answer)
}
