//! `POST /devices/{mac}/resync`: an admin has a phone told to fetch its files, and sees what happened.

use std::cell::Cell;

use http::{Response, StatusCode};
use serde::Serialize;

use super::problem::{Failure, Kind as ProblemKind, Problem};
use super::save::{Context, not_found};
use super::{body, device};
use crate::audit::{self, Event};
use crate::finish;
use crate::key;
use crate::mac::Mac;
use crate::ports::{Objects, World};
use crate::record::Stored;
use crate::record::device::Device;
use crate::request::Request;
use crate::resync::{self, Outcome, Told};
use crate::tick::tell::{self, Shown, Teller};

/// The answer: what the PBX of each line said. That it was sent does not say that the phone fetched.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "ResyncAnswer"))]
pub(crate) struct Answer<'a> {
    /// The device.
    mac: Mac,
    /// The version of the files that there are.
    version: Option<u64>,
    /// What happened on each line.
    lines: Vec<Shown<'a>>,
}

/// Makes the phone's files again if they are stale, and tells it by its PBX at once, also of files
/// that it was told of before.
///
/// # Errors
/// A [`Failure`] if there is no such device, for a decoy, or of the store.
pub async fn now<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    mac: Mac,
) -> Result<Response<Vec<u8>>, Failure> {
    super::no_parameters(request)?;
    body::nothing(request)?;
    if device::load(world, context, mac).await?.record.decoy {
        let detail = "the device is a decoy: there is no phone to be told";
        return Err(Problem::new(ProblemKind::InUse, detail).into());
    }
    // Under the origin that the files have.
    let refreshed = finish::refresh(world, mac, None).await?;
    let sees = |stored: &Stored<Device>| {
        stored.alive() && context.caller.sees(&mac.to_string(), &stored.record)
    };
    let stored = refreshed
        .filter(sees)
        .ok_or_else(|| not_found::<Device>(&mac.to_string()))?;
    let version = stored.state.files.as_ref().map(|files| files.version);
    // A request has as many calls as a run; a phone has few lines.
    let calls = Cell::new(u32::MAX);
    let lines = Teller::new(world, &calls).tell(mac, stored.host()).await?;
    let sent = tell::outcome(&lines) == Ok(Outcome::Sent);
    if let (true, Some(version)) = (sent, version) {
        let told = Told {
            version,
            state: Outcome::Sent,
            at: world.now(),
        };
        resync::put_told(world, mac, &told).await?;
        world.r2().delete(&key::resync(mac)).await?;
    }
    let tenant = Some(&stored.record.tenant);
    let resource = format!("devices/{mac}");
    let actor = &context.caller.name;
    let event = Event::new(world, actor, tenant, "device.resynced", resource);
    let sent = if sent { "yes" } else { "no" };
    audit::note(world, &event.with("sent", sent)).await;
    let answer = Answer {
        mac,
        version,
        lines: lines.iter().map(tell::LineTold::shown).collect(),
    };
    super::json(StatusCode::OK, &answer)
}
