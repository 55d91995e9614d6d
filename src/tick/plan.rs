//! What a run would do at one PBX now, decided as the run decides it, and done by nobody.

use super::backoff::Failing;
use super::{Ari, Common, Run, Seen, last_run};
use crate::fault::Fault;
use crate::gather::in_order;
use crate::key::{self, Kind};
use crate::ports::{Objects, World};
use crate::reconcile::breaker::Tombstones;
use crate::reconcile::known::Listing;
use crate::reconcile::{self, CHECKS as CHECKS_OF_PBX, Memory, Plan, Round};
use crate::record::Stored;
use crate::record::pbx::{Mode, Pbx};
use crate::step7_register as register;
use crate::text::Id;

/// Of how many of a tenant's PBXes the tombstones count for the breaker of the tenant here.
const PBXES: u32 = 100;

/// What a run would find and do.
#[derive(Debug)]
pub struct Planned {
    /// What it would do; of `observe` what `push` would.
    pub plan: Plan,
    /// What it would remember.
    pub memory: Memory,
    /// The tombstones.
    pub tombstones: Tombstones,
    /// [`register::shape`] of the PBX.
    pub shape: String,
    /// That the last run found it failing.
    pub failing: Option<Failing>,
}

/// Asks a PBX, and changes nothing there or here.
///
/// # Errors
/// The [`Fault`] of R2, or of a PBX's record that cannot be opened.
pub async fn plan<W: World>(world: &W, id: &Id, stored: &Stored<Pbx>) -> Result<Planned, Fault> {
    let run = Run::new(world);
    let ari = Ari::new(world, &run.calls, id, stored)?;
    let last = last_run(world).await?.unwrap_or_default();
    let mut marks = run.list_marks(&key::all_changed(id)).await?;
    let mut common = Common {
        last,
        ..Common::default()
    };
    // The tenant's own list is asked, so that others' PBXes cost and tell nothing.
    let tenant = &stored.record.tenant;
    let prefix = key::owned_by(tenant, Some(Kind::Pbx));
    let page = world.r2().list(&prefix, None, PBXES).await?;
    for entry in &page.entries {
        let Ok(pbx) = Id::try_from(key::last(&entry.key)) else {
            continue;
        };
        let tombstones = run.list_tombstones(&key::all_gone(&pbx)).await?;
        common.tombstones.extend(tombstones);
        common.pbxes.insert(pbx, Some(tenant.clone()));
    }
    common.add_up();
    let tombstones = common.tombstones.get(id).cloned().unwrap_or_default();
    let (memory, _) = run.recall(id).await?;
    let before = common.last.pbxes.get(id).cloned().unwrap_or_default();
    let marks = marks.remove(id).unwrap_or_default();
    let completed = common.last.pass.completed;
    // What the others said to the last run: they are not asked again for this.
    let others = common.last.pbxes.iter();
    let gone = others.map(|(pbx, summary)| (pbx.clone(), summary.report.lost));
    let seen = Seen {
        mode: Mode::Push,
        listing: &Listing::default(),
        marks: &marks.changed,
        complete: before.followed_since.0 > 0 && completed >= before.followed_since,
        tombstones: &tombstones,
        at_tenant: common.at_tenant(&stored.record.tenant),
        lost_elsewhere: common.lost_elsewhere(id, &in_order(gone)),
        before: &before.report.breaker,
        round: &before.round,
        checks: CHECKS_OF_PBX,
    };
    let observed = ari.endpoints().await;
    let (memory, mut plan) = run.decide(id, stored, observed, seen, memory).await?;
    plan.report.collisions = reconcile::collisions(&memory);
    if plan.round == Round::default() {
        plan.round = before.round.clone();
    }
    Ok(Planned {
        plan,
        memory,
        tombstones,
        shape: register::shape(&stored.record),
        failing: before.failing,
    })
}

/// The names that may be deleted at a PBX, as a run sees them.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn tombstones<W: World>(world: &W, id: &Id) -> Result<Tombstones, Fault> {
    let run = Run::new(world);
    let mut all = run.list_tombstones(&key::all_gone(id)).await?;
    Ok(all.remove(id).unwrap_or_default())
}
