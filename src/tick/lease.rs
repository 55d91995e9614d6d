//! One run at a time: a lease in R2, taken by compare-and-set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::json;
use crate::key;
use crate::ports::{Level, Objects, Only, World};
use crate::time::Timestamp;

/// How long a run may keep others away, in seconds. A run that was killed holds up no more than
/// the next two.
const LEASE_S: u64 = 150;

/// Who may run now.
#[derive(Serialize, Deserialize)]
struct Lease {
    until: Timestamp,
}

impl Lease {
    fn bytes(until: Timestamp) -> Result<Vec<u8>, Fault> {
        serde_json::to_vec(&Self { until }).map_err(|_| Fault::Broken("lease"))
    }
}

/// Takes the lease: the version of it, or `None` if somebody else has it.
pub(super) async fn take<W: World>(world: &W) -> Result<Option<String>, Fault> {
    let object = world.r2().get(key::LEASE).await?;
    let only = match &object {
        None => Only::Absent,
        Some(object) => {
            // One that cannot be read is nobody's.
            let held =
                json::read::<Lease>(&object.body).is_ok_and(|lease| world.now() < lease.until);
            if held {
                return Ok(None);
            }
            Only::Version(&object.etag)
        }
    };
    let bytes = Lease::bytes(world.now().plus(LEASE_S))?;
    match world
        .r2()
        .put(key::LEASE, bytes, BTreeMap::new(), only)
        .await
    {
        // Somebody else wrote it within this second.
        Err(Fault::Throttled) => Ok(None),
        other => other,
    }
}

/// Gives the lease back, if it is still this run's. If that fails it ends by itself.
pub(super) async fn release<W: World>(world: &W, lease: &str) {
    let Ok(bytes) = Lease::bytes(Timestamp(0)) else {
        return;
    };
    for _ in 0..2 {
        let put = world
            .r2()
            .put(
                key::LEASE,
                bytes.clone(),
                BTreeMap::new(),
                Only::Version(lease),
            )
            .await;
        match put {
            // R2 takes one write a second of one object, and a run may be shorter.
            Err(Fault::Throttled) => world.sleep_ms(1_100).await,
            Err(fault) => return world.log(Level::Warn, "tick.lease", &[("fault", fault.label())]),
            Ok(_) => return,
        }
    }
}
