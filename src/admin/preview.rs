//! `POST /preview`: the files that a phone would get of records that are not saved.
//!
//! The records are saved by the very code of a save, in a world that keeps everything that is written in memory
//! ([`crate::cached`]), and the files are made of what is there then. So whatever a save refuses is refused here, in
//! the same words.

use std::collections::BTreeMap;

use http::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use super::caller::Role;
use super::managed::Managed;
use super::problem::{Failure, FieldError, Problem};
use super::route::canonical;
use super::save::{self, Change, Context};
use super::{body, device, no_parameters};
use crate::cached::{Batching, Run};
use crate::fault::Fault;
use crate::key::Kind;
use crate::mac::Mac;
use crate::ports::World;
use crate::record::Stored;
use crate::record::account::Account;
use crate::record::device::Device;
use crate::record::profile::Profile;
use crate::record::tenant::Tenant;
use crate::render::{From, Ingredients};
use crate::request::Request;
use crate::step3_boot_request::Part;
use crate::store;
use crate::vendor::Objection;
use crate::versions;

/// What would become of a phone's files.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Preview"))]
pub(crate) struct Shown<'a> {
    /// Whose files they are.
    mac: Mac,
    /// The files.
    files: Vec<ShownFile<'a>>,
    /// What of the records the phone would not follow.
    warnings: Vec<Objection>,
    /// What differs from the version that it has now, as `GET /devices/{mac}/diff` shows it; absent of a device
    /// that is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "PreviewFile"))]
pub(crate) struct ShownFile<'a> {
    /// What it is called here.
    name: &'static str,
    /// Its `Content-Type`.
    content_type: &'static str,
    /// The file, secrets masked.
    text: &'a str,
}

/// What the body says: whose files, and the records that are not saved.
struct Wanted {
    mac: Option<Mac>,
    tenant: Option<Map<String, Value>>,
    profile: Option<Map<String, Value>>,
    account: Option<Map<String, Value>>,
    device: Option<Map<String, Value>>,
}

impl Wanted {
    fn read(mut members: Map<String, Value>) -> Result<Self, Problem> {
        let mut errors = Vec::new();
        let mac = members.remove("mac").map(|mac| {
            let mac = mac.as_str().unwrap_or_default().parse::<Mac>();
            mac.map_err(|wrong| errors.push(FieldError::new("/mac", wrong.to_string())))
        });
        let mut take = |name: &str| match members.remove(name) {
            None => None,
            Some(Value::Object(members)) => Some(members),
            Some(_) => {
                errors.push(FieldError::new(format!("/{name}"), "must be a JSON object"));
                None
            }
        };
        let wanted = Self {
            mac: None,
            tenant: take("tenant"),
            profile: take("profile"),
            account: take("account"),
            device: take("device"),
        };
        let unknown = members.keys();
        errors.extend(unknown.map(|name| {
            let detail = "unknown field: there are mac, tenant, profile, account and device";
            FieldError::new(format!("/{name}"), detail)
        }));
        let mac = mac.and_then(Result::ok);
        if mac.is_none() && wanted.device.is_none() && errors.is_empty() {
            let detail = "is missing; or mac, of a device that is there";
            errors.push(FieldError::new("/device", detail));
        }
        if errors.is_empty() {
            Ok(Self { mac, ..wanted })
        } else {
            Err(Problem::invalid(errors))
        }
    }
}

/// Shows what a phone would get.
///
/// # Errors
/// A [`Failure`] of a save of the records, with pointers into this body, or of the store.
pub async fn show<W: Batching>(
    world: &W,
    context: &Context,
    request: &Request,
) -> Result<Response<Vec<u8>>, Failure> {
    no_parameters(request)?;
    let wanted = Wanted::read(body::object(request)?)?;
    if wanted.tenant.is_some() {
        // As a save of it does.
        context.caller.needs(Role::Owner)?;
    }
    world.begin_batch(Kind::Device, Run::Dry);
    let mac = wanted.mac.unwrap_or(Mac::LOCAL);
    let id = mac.to_string();
    let there = store::load::<Device, W>(world, &id).await?;
    let there = there.map(|loaded| loaded.stored);
    let there = there.filter(|stored| device::visible(context, mac, stored));
    if there.is_none() && wanted.device.is_none() {
        return Err(save::not_found::<Device>(&id).into());
    }
    let now = match &there {
        Some(stored) => Some(texts(world, context, mac, stored, false).await?),
        None => None,
    };
    // Which records the phone's are: as the new device has it, else as it is.
    let of = |name: &str| {
        let given = wanted.device.as_ref().map(|device| device.get(name));
        let given = given.map(|given| given.and_then(Value::as_str).map(ToOwned::to_owned));
        given.unwrap_or_else(|| {
            let record = &there.as_ref()?.record;
            match name {
                "tenant" => Some(record.tenant.to_string()),
                _ => record.profile.as_ref().map(ToString::to_string),
            }
        })
    };
    if let Some(members) = &wanted.tenant {
        let id = of("tenant").ok_or_else(|| nameless("/device/tenant"))?;
        save_dry::<Tenant, W>(world, context, request, "/tenant", &id, members).await?;
    }
    if let Some(members) = &wanted.profile {
        let id = of("profile").ok_or_else(|| nameless("/profile"))?;
        save_dry::<Profile, W>(world, context, request, "/profile", &id, members).await?;
    }
    if let Some(members) = &wanted.account {
        let id = members.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| nameless("/account/id"))?;
        let id = canonical(Kind::Account, id).map_err(|problem| problem.under("/account"))?;
        save_dry::<Account, W>(world, context, request, "/account", &id, members).await?;
    }
    if let Some(members) = &wanted.device {
        save_dry::<Device, W>(world, context, request, "/device", &id, members).await?;
    }
    let stored = store::load::<Device, W>(world, &id).await?;
    let stored = stored.ok_or(Fault::Broken("device vanished"))?.stored;
    let made = texts(world, context, mac, &stored, true).await?;
    let mut warnings = Device::warnings(world, &id, &stored).await?;
    if stored.state.session.is_some() {
        let detail = "a user is logged in: these are the files of the host";
        warnings.push(Objection::new("", detail));
    }
    let rules = stored.record.vendor.rules();
    let files = Part::ALL.into_iter().filter_map(|part| {
        Some(ShownFile {
            name: part.neutral_name(),
            content_type: rules.content_type(part),
            text: made.get(part.neutral_name())?,
        })
    });
    let answer = Shown {
        mac,
        files: files.collect(),
        warnings,
        diff: now.map(|now| versions::diff(&now, &made, ["now", "then"])),
    };
    super::json(StatusCode::OK, &answer)
}

/// The masked files of a device's host. `then`: whatever version it is held to, and with the settings of its profile
/// that all get in the end.
async fn texts<W: World>(
    world: &W,
    context: &Context,
    mac: Mac,
    stored: &Stored<Device>,
    then: bool,
) -> Result<BTreeMap<String, String>, Fault> {
    let mut host = stored.clone();
    host.state.session = None;
    if then {
        host.state.pinned = None;
    }
    let mut made = Ingredients::gather(world, mac, host, From::R2).await?;
    if then {
        made.roll_out();
    }
    made.masked_texts(world.keys(), &context.origin)
}

/// That nothing says which record is meant.
fn nameless(pointer: &str) -> Problem {
    let detail = "says of which record: it is missing, or the device names none";
    Problem::invalid(vec![FieldError::new(pointer, detail)])
}

/// Saves a record in memory.
async fn save_dry<R: Managed, W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    pointer: &str,
    id: &str,
    members: &Map<String, Value>,
) -> Result<(), Failure> {
    // Each is a save of its own: a condition of this call is of none of them.
    let mut request = request.clone();
    request.headers.remove(http::header::IF_MATCH);
    request.headers.remove(http::header::IF_NONE_MATCH);
    request.method = Method::PUT;
    let change = Change::Put(members.clone());
    let saved = save::save::<R, W>(world, context, &request, id, change).await;
    match saved {
        Ok(_) => Ok(()),
        Err(Failure::Problem(problem)) => Err(problem.under(pointer).into()),
        Err(fault) => Err(fault),
    }
}
