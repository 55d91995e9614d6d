//! What phones put under their provisioning URL: what their users changed, their directories, their
//! logs. It may hold passwords, so what is kept is sealed; it never stands in the place of a
//! generated file, since only names that are none of those are taken.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::key;
use crate::mac::Mac;
use crate::ports::{Objects, Only, World};
use crate::request::respond;
use http::{Response, StatusCode};

/// The longest upload that is kept: a Poly's directory of 3,000 entries is about 600 KB, one of 200,
/// which is what people have, 40 KB.
pub const MAX_UPLOAD_BYTES: usize = 262_144;

/// Where an upload is sealed for. Names are compared without regard to case, as phones send them.
fn place(mac: Mac, name: &str) -> String {
    key::upload(mac, &name.to_ascii_lowercase())
}

/// Keeps what a phone puts under a name that its vendor's phones use for it.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn keep<W: World>(
    world: &W,
    mac: Mac,
    name: &str,
    body: &[u8],
) -> Result<Response<Vec<u8>>, Fault> {
    if body.len() > MAX_UPLOAD_BYTES {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "too long\n"));
    }
    let place = place(mac, name);
    let sealed = world.keys().seal(world, &place, body)?;
    world
        .r2()
        .put(&place, sealed.into_bytes(), BTreeMap::new(), Only::Always)
        .await?;
    Ok(taken())
}

/// The answer to an upload that was taken.
#[must_use]
pub fn taken() -> Response<Vec<u8>> {
    plain(StatusCode::CREATED, "")
}

fn plain(status: StatusCode, text: &str) -> Response<Vec<u8>> {
    respond(
        status,
        "text/plain; charset=utf-8",
        text.as_bytes().to_vec(),
    )
}

/// What the phone put there, or `None`.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn back<W: World>(world: &W, mac: Mac, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let place = place(mac, name);
    let Some(object) = world.r2().get(&place).await? else {
        return Ok(None);
    };
    let sealed = std::str::from_utf8(&object.body).map_err(|_| Fault::Broken("upload"))?;
    world.keys().open(&place, sealed).map(Some)
}

/// Removes everything that a phone put there; when its device is deleted.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn remove_all<W: World>(world: &W, mac: Mac) -> Result<(), Fault> {
    let page = world.r2().list(&key::uploads(mac), None, 100).await?;
    for entry in page.entries {
        world.r2().delete(&entry.key).await?;
    }
    Ok(())
}
