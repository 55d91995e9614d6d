//! New templates of a vendor go to some of a tenant's phones first, as a profile's settings do.
//!
//! Old templates are not in new code. So whoever is not to have the new ones keeps the files that it has, for
//! as long as nothing but the templates is newer, and a canary keeps beside its new files those that it had.
//! Which templates a tenant's phones may have stands in the tenant's state ([`Templates`]); of a tenant whose
//! changes are not rolled out there is none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Canaries, Canary, Counts, Stage, Stopped, Why};
use crate::fault::Fault;
use crate::gather::in_order;
use crate::keys::Keys;
use crate::mac::Mac;
use crate::ports::World;
use crate::record::Stored;
use crate::record::device::{Device, FileSet, Sources};
use crate::record::tenant::Tenant;
use crate::render;
use crate::text::Id;
use crate::time::Timestamp;
use crate::vendor::VendorId;

/// Which templates a tenant's phones may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Templates {
    /// How many of the record's revisions changed nothing but this: no file is older for them.
    #[serde(default)]
    pub turns: u64,
    /// The number of each vendor's templates ([`crate::vendor::Vendor::templates`]) that all may have.
    pub released: BTreeMap<VendorId, u32>,
    /// What not all may have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rollouts: BTreeMap<VendorId, Rollout>,
}

/// That not all phones may have a vendor's newest templates yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Their number.
    pub number: u32,
    /// When it began.
    pub since: Timestamp,
    /// How far it is.
    pub stage: Stage,
}

/// The number of each vendor's templates in this code.
#[must_use]
pub fn numbers() -> BTreeMap<VendorId, u32> {
    let numbers = VendorId::ALL.iter();
    in_order(numbers.map(|vendor| (*vendor, vendor.rules().templates())))
}

/// What [`super::place`] takes for the name of a roll-out of templates. No profile is called so.
#[must_use]
pub fn name(tenant: &Id, vendor: VendorId) -> String {
    format!("templates/{tenant}/{vendor}")
}

impl Rollout {
    /// Whether something is still to be decided.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Stopped(_))
    }

    /// Which devices are canaries; nobody before they are chosen.
    #[must_use]
    pub fn canaries(&self, tenant: &Id, vendor: VendorId) -> Canaries {
        Canaries {
            name: name(tenant, vendor),
            edition: u64::from(self.number),
            below: self.stage.below(),
        }
    }

    /// Stops it.
    pub fn stop(&mut self, why: Why, counts: Counts, now: Timestamp) {
        self.stage = Stage::Stopped(Stopped {
            below: self.stage.below(),
            at: now,
            why,
            counts,
        });
    }
}

impl Templates {
    /// Those that a tenant begins with: all that this code has.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            released: numbers(),
            ..Self::default()
        }
    }

    /// Whether this code has templates that nothing was said of yet.
    #[must_use]
    pub fn has_news(&self) -> bool {
        numbers()
            .iter()
            .any(|(vendor, number)| self.is_news(*vendor, *number))
    }

    fn is_news(&self, vendor: VendorId, number: u32) -> bool {
        let released = self.released.get(&vendor).copied().unwrap_or(0);
        let tried = self
            .rollouts
            .get(&vendor)
            .map_or(0, |rollout| rollout.number);
        number > released.max(tried)
    }

    /// Begins a roll-out of each vendor's newer templates, in the place of an earlier one; false if there are
    /// none.
    pub fn begin_rollouts(&mut self, now: Timestamp) -> bool {
        let mut begun = false;
        for (vendor, number) in numbers() {
            if self.is_news(vendor, number) {
                let rollout = Rollout {
                    number,
                    since: now,
                    stage: Stage::Choosing,
                };
                self.rollouts.insert(vendor, rollout);
                begun = true;
            }
        }
        begun
    }

    /// Gives a vendor's templates to the canaries; false if it is not that far.
    pub fn begin_canary(&mut self, vendor: VendorId, number: u32, canary: Canary) -> bool {
        let rollout = self.rollout(vendor, number);
        let choosing = rollout.filter(|rollout| rollout.stage == Stage::Choosing);
        choosing.is_some_and(|rollout| {
            rollout.stage = Stage::Canary(canary);
            true
        })
    }

    /// Ends a roll-out: all may have them. False if there is none; `stopped_too`: or if it was stopped.
    pub fn release(&mut self, vendor: VendorId, number: u32, stopped_too: bool) -> bool {
        let rollout = self.rollout(vendor, number);
        let found = rollout.is_some_and(|rollout| stopped_too || rollout.is_open());
        if found {
            self.rollouts.remove(&vendor);
            self.released.insert(vendor, number);
        }
        found
    }

    /// Stops a roll-out; false if there is none that is open.
    pub fn stop(
        &mut self,
        vendor: VendorId,
        number: u32,
        why: Why,
        counts: Counts,
        now: Timestamp,
    ) -> bool {
        let rollout = self.rollout(vendor, number);
        let open = rollout.filter(|rollout| rollout.is_open());
        open.is_some_and(|rollout| {
            rollout.stop(why, counts, now);
            true
        })
    }

    fn rollout(&mut self, vendor: VendorId, number: u32) -> Option<&mut Rollout> {
        let rollout = self.rollouts.get_mut(&vendor);
        rollout.filter(|rollout| rollout.number == number)
    }
}

/// Whether a phone may have certain templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All may.
    Everybody,
    /// It is a canary of them.
    Canary,
    /// It may not.
    Nobody,
}

/// One phone, and what its tenant says of templates.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The tenant's state; `None`: its changes are not rolled out.
    pub templates: Option<&'a Templates>,
    /// The tenant.
    pub tenant: &'a Id,
    /// Who made the phone.
    pub vendor: VendorId,
    /// The phone.
    pub mac: Mac,
}

impl<'a> Scope<'a> {
    /// The scope of a device whose tenant has this state.
    #[must_use]
    pub fn of(mac: Mac, device: &'a Device, templates: Option<&'a Templates>) -> Self {
        Self {
            templates,
            tenant: &device.tenant,
            vendor: device.vendor,
            mac,
        }
    }

    /// Whether it may have templates of this number.
    #[must_use]
    pub fn reach(&self, number: u32) -> Reach {
        let Some(templates) = self.templates else {
            return Reach::Everybody;
        };
        if templates
            .released
            .get(&self.vendor)
            .is_some_and(|released| *released >= number)
        {
            return Reach::Everybody;
        }
        let rollout = templates.rollouts.get(&self.vendor);
        let rollout = rollout.filter(|rollout| rollout.number == number);
        let is_canary = rollout.is_some_and(|rollout| {
            matches!(rollout.stage, Stage::Canary(_))
                && rollout.canaries(self.tenant, self.vendor).has(self.mac)
        });
        if is_canary {
            Reach::Canary
        } else {
            Reach::Nobody
        }
    }

    /// What [`Sources::templates`] of its files may be measured by: those of this code, or, as long as it may
    /// not have them, none.
    #[must_use]
    pub fn measure(&self) -> u32 {
        let number = self.vendor.rules().templates();
        match self.reach(number) {
            Reach::Everybody | Reach::Canary => number,
            Reach::Nobody => 0,
        }
    }

    /// Whether something is to become of the files that it keeps beside its own: it is no canary any more.
    #[must_use]
    pub fn settles(&self, files: Option<&FileSet>, former: Option<&FileSet>) -> bool {
        let (Some(files), Some(_)) = (files, former) else {
            return false;
        };
        self.reach(files.sources.templates) != Reach::Canary
    }
}

/// Whether former files may be given back: nothing but the templates differs in what they and files of now
/// are made of, so that no secret in them is an old one.
#[must_use]
pub fn fits(keys: &Keys, mac: Mac, former: &FileSet, now: &Sources) -> bool {
    let made_of = Sources {
        templates: now.templates,
        ..former.sources.clone()
    };
    made_of == *now && render::are_current(keys, mac, former)
}

/// What a phone keeps while it is settled which files it has: its files, and those from before.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its files.
    pub files: Option<FileSet>,
    /// Those that it had before it became a canary.
    pub former: Option<Box<FileSet>>,
}

impl Kept {
    /// Gives the former files back if the phone may not have the ones that it has, under a version that is new
    /// (`rev`: the device's next revision), and drops those that nobody needs any more. `now`: what files would
    /// be made of.
    ///
    /// # Errors
    /// The [`Fault`] of a file that does not open, or of sealing.
    pub fn settle<W: World>(
        &mut self,
        world: &W,
        scope: &Scope<'_>,
        now: &Sources,
        rev: u64,
    ) -> Result<(), Fault> {
        let Some(former) = self.former.take() else {
            return Ok(());
        };
        let Some(files) = &self.files else {
            return Ok(());
        };
        let keys = world.keys();
        match scope.reach(files.sources.templates) {
            // What is sealed with a key that goes is not kept.
            Reach::Canary if render::are_current(keys, scope.mac, &former) => {
                self.former = Some(former);
            }
            Reach::Nobody if fits(keys, scope.mac, &former, now) => {
                let version = (files.version + 1).max(rev);
                let back = render::renumber(world, scope.mac, scope.vendor, *former, version)?;
                self.files = Some(back);
            }
            Reach::Canary | Reach::Nobody | Reach::Everybody => {}
        }
        Ok(())
    }

    /// Whether they are to be kept beside the files of now: a canary's from before.
    #[must_use]
    pub fn becomes_former(&self, scope: &Scope<'_>) -> bool {
        let number = scope.vendor.rules().templates();
        let files = self.files.as_ref();
        self.former.is_none()
            && scope.reach(number) == Reach::Canary
            && files.is_some_and(|files| files.sources.templates < number)
    }
}

/// A tenant's revision as far as it says something of the record: those that changed nothing but which templates
/// its phones may have are not counted. It never falls.
#[must_use]
pub fn record_rev(rev: u64, state: Option<&Templates>) -> u64 {
    rev.saturating_sub(state.map_or(0, |state| state.turns))
}

impl Stored<Tenant> {
    /// The same of a tenant that was read.
    #[must_use]
    pub fn record_rev(&self) -> u64 {
        record_rev(self.rev, self.state.as_ref())
    }
}
