//! What can be done to a device beside changing its record: let it in, lock it out, look at its files.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::caller::Role;
use super::problem::{Failure, FieldError, Kind as ProblemKind, Problem};
use super::save::{self, Context, not_found};
use super::version::{self, Listed, Pin};
use super::{body, parameters};
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::finish;
use crate::key::Kind;
use crate::keys::{Capability, KeyId, Signed};
use crate::levels::{Origin, Origins};
use crate::mac::Mac;
use crate::ports::World;
use crate::record::Stored;
use crate::record::device::{Access, Device, Former, Whereabouts, Window};
use crate::render::{self, From, Ingredients};
use crate::request::{Request, respond};
use crate::step3_boot_request::{self, Part};
use crate::store::{self, Loaded};
use crate::text::{Id, Place};
use crate::time::{Span, Timestamp};
use crate::vendor::{self, Asked, Asker, Objection, VendorId};

/// How long a rotated token goes on serving: a phone that was off over a week's holiday still finds
/// its way.
pub const GRACE_S: u64 = 7 * 86_400;

/// How long a window stays open if the call does not say.
const DEFAULT_WINDOW_S: u64 = 86_400;

/// A device that the caller sees.
///
/// # Errors
/// A [`Failure`] if there is none for it, or of the store.
pub(super) async fn load<W: World>(
    world: &W,
    context: &Context,
    mac: Mac,
) -> Result<Stored<Device>, Failure> {
    let loaded: Option<Loaded<Device>> = store::load(world, &mac.to_string()).await?;
    loaded
        .map(|loaded| loaded.stored)
        .filter(|stored| visible(context, mac, stored))
        .ok_or_else(|| not_found::<Device>(&mac.to_string()).into())
}

/// Whether a device is there for the caller.
pub(super) fn visible(context: &Context, mac: Mac, stored: &Stored<Device>) -> bool {
    stored.alive() && context.caller.sees(&mac.to_string(), &stored.record)
}

/// Writes down what was done to a device, or seen of its secrets.
async fn note<W: World>(
    world: &W,
    context: &Context,
    mac: Mac,
    stored: &Stored<Device>,
    action: &'static str,
) {
    let tenant = Some(&stored.record.tenant);
    let resource = format!("devices/{mac}");
    let event = Event::new(world, &context.caller.name, tenant, action, resource);
    audit::note(world, &event).await;
}

/// Adds what opens a device's files to an answer: on create, and when an admin asks for secrets.
///
/// # Errors
/// A [`Failure`] of signing.
pub fn add_access<W: World>(
    world: &W,
    context: &Context,
    mac: Mac,
    access: Access,
    shown: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let signed = Signed {
        mac,
        generation: access.first_access,
    };
    let key = world.keys().sign(Capability::FirstAccess, signed)?;
    let url = format!("{}/rps/{key}/", context.origin);
    shown.insert("first_access".to_owned(), json!({ "key": key, "url": url }));
    let base = render::base(world.keys(), mac, access.token, &context.origin)?;
    shown.insert("provisioning_url".to_owned(), base.into());
    Ok(())
}

/// `POST /devices/{mac}/arm|rotate|revoke|release`.
///
/// # Errors
/// A [`Failure`]; nothing is changed then.
pub async fn act<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    mac: Mac,
    action: &str,
) -> Result<Response<Vec<u8>>, Failure> {
    super::no_parameters(request)?;
    let (mut span, mut place) = (0, None);
    match action {
        "arm" => {
            let arm: Arm = body::parse(body::object(request)?)?;
            span = arm.arm.map_or(DEFAULT_WINDOW_S, |span| span.seconds);
        }
        "release" => place = Some(released(request)?),
        _ => body::nothing(request)?,
    }
    let id = mac.to_string();
    if load(world, context, mac).await?.record.decoy {
        let detail = "the device is a decoy: nobody ever gets anything of it";
        return Err(Problem::new(ProblemKind::InUse, detail).into());
    }
    let (now, key) = (world.now(), world.keys().id());
    let mut refused = None;
    let mark = finish::begin(world, Kind::Device, &id).await?;
    let changed = store::update::<Device, W>(world, &id, |stored| {
        if !visible(context, mac, stored) {
            return false;
        }
        match action {
            "arm" => arm(stored, now, span, key),
            "rotate" => rotate(stored, now),
            "release" => {
                refused = place
                    .as_ref()
                    .and_then(|place| release(stored, place).err());
                return refused.is_none();
            }
            _ => revoke(stored, key),
        }
        true
    })
    .await?;
    let Some(stored) = changed.filter(|stored| visible(context, mac, stored)) else {
        return Err(not_found::<Device>(&id).into());
    };
    if let Some(refused) = refused {
        finish::done(world, &mark).await?;
        return Err(refused.into());
    }
    save::follow_up(world, context, Kind::Device, &id, &mark).await;
    let event = match action {
        "arm" => "device.armed",
        "rotate" => "device.rotated",
        "release" => "device.released",
        _ => "device.revoked",
    };
    note(world, context, mac, &stored, event).await;
    let answer = Acted {
        mac,
        armed_until: stored.state.window.as_ref().map(|window| window.until),
        former_until: stored.state.access.former.map(|former| former.until),
    };
    super::json(StatusCode::OK, &answer)
}

/// What `POST /devices/{mac}/arm` takes.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Arm {
    /// How long the window stays open. Default: a day.
    arm: Option<Span>,
}

/// The place that an admin releases a phone at: one or both, as the device's status has it under `quarantine`.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    /// ISO 3166 country.
    country: Option<String>,
    /// The number of the autonomous system.
    asn: Option<u32>,
}

/// The answer of `POST /devices/{mac}/arm|rotate|revoke|release`: how the device can be reached now.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "DeviceAccess"))]
pub(crate) struct Acted {
    /// The device.
    mac: Mac,
    /// Until when the window is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    armed_until: Option<Timestamp>,
    /// Until when the former tokens go on serving.
    #[serde(skip_serializing_if = "Option::is_none")]
    former_until: Option<Timestamp>,
}

/// Opens a window. Whoever claimed the one before loses what it got; a phone that is in use keeps
/// its files until the newcomer uses the new token. `key` signs what is given out from now on.
pub fn arm(stored: &mut Stored<Device>, now: Timestamp, seconds: u64, key: KeyId) {
    let claimed = stored
        .state
        .window
        .as_ref()
        .is_some_and(|window| window.claim.is_some());
    if claimed {
        revoke(stored, key);
    } else if stored.state.access.used {
        rotate(stored, now);
    }
    stored.state.contested = None;
    stored.state.window = Some(Window {
        until: now.plus(seconds),
        claim: None,
    });
}

/// Gives out a new token. The old one serves on, files with the new URL in them, until the new one
/// is used or its grace ends. The first-access key stays: it opens nothing but the way to the new.
/// So does what is noted of the key that signed the phone's URL, since the phone still has that URL.
pub fn rotate(stored: &mut Stored<Device>, now: Timestamp) {
    let access = &mut stored.state.access;
    // Rotated again before the phone came: it may be anywhere between the oldest and the newest.
    let from = match access.former {
        Some(former) if !access.used && now < former.until => former.from,
        _ => access.token,
    };
    access.former = Some(Former {
        from,
        until: now.plus(GRACE_S),
    });
    access.token += 1;
    access.used = false;
}

/// Makes every token worthless at once, and closes the window. `key` signs what is given out from
/// now on: nothing that an older one signed opens this device any more.
pub fn revoke(stored: &mut Stored<Device>, key: KeyId) {
    let access = &mut stored.state.access;
    access.token += 1;
    access.first_access += 1;
    access.former = None;
    access.used = false;
    access.key = Some(key);
    stored.state.window = None;
    stored.state.contested = None;
    // Whoever has the phone now is not the user who logged in.
    stored.state.end_session();
    // It may come back at another customer's.
    stored.state.places.clear();
    stored.state.fetched_from = None;
    stored.state.quarantine = None;
    stored.state.seen = crate::record::device::Seen::default();
}

/// Reads which place an admin releases a phone at.
fn released(request: &Request) -> Result<Whereabouts, Problem> {
    let Release { country, asn } = body::parse(body::object(request)?)?;
    if country.is_none() && asn.is_none() {
        let detail = "must say where, as the device's status has it under quarantine";
        let fields = ["/country", "/asn"].map(|field| FieldError::new(field, detail));
        return Err(Problem::invalid(fields.into()));
    }
    Ok(Whereabouts { country, asn })
}

/// Lets a phone be where it was put in quarantine, if that is where the admin means: somebody else may have
/// come from yet another place since the admin looked.
///
/// # Errors
/// A [`Problem`] if the phone is in no quarantine, or in one for another place.
pub fn release(stored: &mut Stored<Device>, place: &Whereabouts) -> Result<(), Problem> {
    match stored.state.quarantine.take_if(|now| now.place == *place) {
        Some(quarantine) => {
            stored.state.settle_at(Some(quarantine.place));
            Ok(())
        }
        None if stored.state.quarantine.is_some() => {
            let detail = "the phone last came from another place: look at quarantine in its status";
            Err(Problem::new(ProblemKind::PreconditionFailed, detail))
        }
        None => {
            let detail = "the device is in no quarantine";
            Err(Problem::new(ProblemKind::InUse, detail))
        }
    }
}

/// `GET /devices/{mac}/settings`: every setting with the level that it comes from.
///
/// # Errors
/// A [`Failure`] if there is no such device, or of the store.
pub async fn settings<W: World>(
    world: &W,
    context: &Context,
    mac: Mac,
) -> Result<Response<Vec<u8>>, Failure> {
    let mut host = load(world, context, mac).await?;
    // A user who is logged in brings lines and keys, and no settings.
    host.state.session = None;
    let made = Ingredients::gather(world, mac, host, From::R2).await?;
    let record = made.device.host();
    let mut warnings = made.warnings(world.keys())?;
    warnings.extend(made.held());
    let Origins { settings, raw } = made.origins()?;
    let answer = DeviceSettings {
        mac,
        vendor: record.vendor,
        model: &record.model,
        site: record.site.as_ref(),
        profile: record.profile.as_ref(),
        pinned: Pin::of(&made.device.state),
        settings,
        raw,
        warnings,
    };
    super::json(StatusCode::OK, &answer)
}

/// The answer of `GET /devices/{mac}/settings`.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DeviceSettings<'a> {
    /// The phone.
    mac: Mac,
    /// Who makes it.
    vendor: VendorId,
    /// Its model, as the record spells it.
    model: &'a str,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'a Place>,
    /// Its profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a Id>,
    /// The version that all of it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Pin>,
    /// Every setting, by its name.
    settings: BTreeMap<&'static str, Origin>,
    /// The parameters in the vendor's own words, by their names.
    raw: BTreeMap<String, Origin>,
    /// What of them does not come about, as in the answer to a save.
    warnings: Vec<Objection>,
}

/// `GET /devices/{mac}/files`: what a phone gets, by name.
///
/// # Errors
/// A [`Failure`] if there is no such device, or of the store.
pub async fn files<W: World>(
    world: &W,
    context: &Context,
    mac: Mac,
) -> Result<Response<Vec<u8>>, Failure> {
    let stored = refreshed(world, context, mac).await?;
    let rules = stored.record.vendor.rules();
    let model = vendor::model(stored.record.vendor, &stored.record.model)
        .ok_or(Fault::Broken("model not in catalogue"))?;
    let files = stored.state.files()?;
    let made = Ingredients::gather(world, mac, stored.clone(), From::R2).await?;
    let mut made_of = files.sources.records.clone();
    for (record, rev) in &mut made_of {
        if made.is_foreign(record) {
            *rev = 0;
        }
    }
    let versions = stored.state.versions_at(world.now());
    let answer = Files {
        version: files.version,
        made_at: files.made_at,
        made_of,
        boot: rules.boot_name(mac, model),
        pinned: Pin::of(&stored.state),
        versions: Listed::all(&versions, &stored.state, files.version),
        items: files
            .parts
            .iter()
            .map(|(part, file)| ShownFile {
                name: part.neutral_name(),
                content_type: rules.content_type(*part),
                length: file.length,
                etag: &file.etag,
            })
            .collect(),
    };
    super::json(StatusCode::OK, &answer)
}

/// The answer of `GET /devices/{mac}/files`.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "DeviceFiles"))]
pub(crate) struct Files<'a> {
    /// Rises with every change of any byte.
    version: u64,
    /// When they were made.
    made_at: Timestamp,
    /// The revisions of the shared records in them, by key; 0 of one that is not there.
    made_of: BTreeMap<String, u64>,
    /// What the phone asks for first.
    boot: String,
    /// The version that the files are held to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Pin>,
    /// Those that are kept, the newest first; without those of users who were logged in.
    versions: Vec<Listed<'a>>,
    /// The files.
    items: Vec<ShownFile<'a>>,
}

/// One file of a phone.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "DeviceFile"))]
pub(crate) struct ShownFile<'a> {
    /// What it is called here.
    name: &'static str,
    /// The `Content-Type` that the phone gets.
    content_type: &'static str,
    /// Its length in bytes.
    length: u64,
    /// The `ETag` that the phone gets.
    etag: &'a str,
}

/// A device that the caller sees, with files as new as its records.
///
/// # Errors
/// A [`Failure`] if there is none for it, or of the store.
pub(super) async fn refreshed<W: World>(
    world: &W,
    context: &Context,
    mac: Mac,
) -> Result<Stored<Device>, Failure> {
    // Before anything is made again: another tenant's files are not to be touched.
    load(world, context, mac).await?;
    // Under the origin that the files have: a look must not change what the phone gets.
    let refreshed = finish::refresh(world, mac, None).await?;
    refreshed
        .filter(|stored| visible(context, mac, stored))
        .ok_or_else(|| not_found::<Device>(&mac.to_string()).into())
}

/// `GET /devices/{mac}/files/{name}`: the file as the phone gets it, secrets masked unless the admin
/// asks for them.
///
/// # Errors
/// A [`Failure`] if there is no such device or file, or of the store.
pub async fn preview<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    mac: Mac,
    name: &str,
) -> Result<Response<Vec<u8>>, Failure> {
    let (mut secrets, mut number) = (false, None);
    for (parameter, value) in parameters(request) {
        match (parameter.as_str(), value.as_str(), value.parse::<u64>()) {
            ("secrets", "1", _) => secrets = true,
            ("secrets", "0", _) => {}
            ("version", _, Ok(version)) => number = Some(version),
            _ => {
                let detail = "the parameters are secrets=0|1 and version, the number of one";
                return Err(Problem::new(ProblemKind::BadParameter, detail).into());
            }
        }
    }
    if secrets {
        context.caller.needs(Role::Owner)?;
    }
    let stored = refreshed(world, context, mac).await?;
    let current = stored.state.files.as_ref().map(|files| files.version);
    if let Some(number) = number.filter(|number| Some(*number) != current) {
        if secrets {
            let detail =
                "the secrets of former versions are not kept: leave out secrets or version";
            return Err(Problem::new(ProblemKind::BadParameter, detail).into());
        }
        return former(world, mac, &stored, name, number).await;
    }
    let device = &stored.record;
    let part = part(mac, device, name)?;
    let rules = device.vendor.rules();
    let text = if secrets {
        note(world, context, mac, &stored, "secrets.shown").await;
        let file = stored.state.file(part)?;
        render::open(world.keys(), mac, part, file)?
    } else {
        let base = render::masked_base(&context.origin);
        let made = Ingredients::gather(world, mac, stored.clone(), From::R2).await?;
        let mut phone = made.masked(world.keys(), &base)?;
        if let Some(files) = &stored.state.files {
            phone.version = files.version;
        }
        rules.render(part, &phone)?.into_bytes()
    };
    Ok(respond(StatusCode::OK, rules.content_type(part), text))
}

/// The part that a file name asks for.
fn part(mac: Mac, device: &Device, name: &str) -> Result<Part, Failure> {
    let model = vendor::model(device.vendor, &device.model)
        .ok_or(Fault::Broken("model not in catalogue"))?;
    let asker = Asker {
        mac,
        model,
        firmware: None,
    };
    let Some(Asked::Part(part)) = step3_boot_request::asked(name, device.vendor, asker) else {
        let detail = "the phone has no such file";
        return Err(Problem::new(ProblemKind::NotFound, detail).into());
    };
    Ok(part)
}

/// A file as the phone got it once, secrets masked.
async fn former<W: World>(
    world: &W,
    mac: Mac,
    stored: &Stored<Device>,
    name: &str,
    number: u64,
) -> Result<Response<Vec<u8>>, Failure> {
    let (_, body) = version::read(world, mac, &stored.state, number).await?;
    // By what it was then.
    let device = &body.snapshot.device;
    let part = part(mac, device, name)?;
    let rules = device.vendor.rules();
    let text = body.texts.get(part.neutral_name());
    let text = text.ok_or(Fault::Broken("no such part"))?;
    let numbered = rules.renumber(text, 0, number);
    let text = numbered.unwrap_or_else(|| text.clone()).into_bytes();
    Ok(respond(StatusCode::OK, rules.content_type(part), text))
}
