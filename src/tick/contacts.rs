//! Who is registered from where, at a PBX that has AMI: looked at now and then, kept when it changed,
//! and what is odd about it written down.

use std::collections::{BTreeMap, BTreeSet};

use super::ami::Ami;
use super::ari::{LIST_BYTES, Stop};
use super::{Run, tell};
use crate::ami::{self, Action, Contacts};
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::gather::in_order;
use crate::key;
use crate::ports::{Level, Objects, Only, World};
use crate::reconcile::Desired;
use crate::record::Stored;
use crate::record::device::Device;
use crate::record::pbx::Pbx;
use crate::store;
use crate::text::Id;

/// From how many endpoints on the contacts are not looked at in each run in which somebody registered
/// or went: 10,000 of them are 5 MB and take the PBX 1.4 s.
pub(super) const MANY: u32 = 1_000;

/// How often they are looked at in any case, in minutes.
const EVERY_MIN: u64 = 5;

/// Of how many accounts whose contacts changed one look finds out whether something is odd. Of the
/// others only the status of their devices tells.
const ODD_LOOKS: usize = 8;

impl<W: World> Run<'_, W> {
    /// Looks at the contacts of a PBX, if it is time. What fails leaves everything as it was.
    pub(super) async fn look_at_contacts(
        &self,
        id: &Id,
        pbx: &Stored<Pbx>,
        desired: &[Desired],
        changed: bool,
    ) {
        // Each PBX in a minute of its own, without a clock that would have to be kept.
        let turn = id.as_str().bytes().map(u64::from).sum::<u64>();
        let due = changed || (self.began.0 / 60 + turn).is_multiple_of(EVERY_MIN);
        if pbx.record.ami.is_none() || !due || self.is_over() {
            return;
        }
        if let Err(Stop(why)) = self.contacts(id, pbx, desired).await {
            let fields = [("pbx", id.as_str()), ("why", why.as_str())];
            self.world.log(Level::Warn, "pbx.contacts", &fields);
        }
    }

    async fn contacts(&self, id: &Id, pbx: &Stored<Pbx>, desired: &[Desired]) -> Result<(), Stop> {
        let Some(mut ami) = Ami::new(self.world, &self.calls, id, pbx)? else {
            return Ok(());
        };
        let action = Action::show_contacts().ok_or(Fault::Broken("ami action"))?;
        let (status, body) = ami.act(&action, LIST_BYTES).await?;
        let wanted: BTreeSet<_> = in_order(desired.iter().map(|desired| &desired.username));
        let seen = ami::contacts(status, &body, &wanted, self.world.now())?;
        self.spend(1);
        let before = tell::contacts(self.world, id).await?.unwrap_or_default();
        let seen = ami::remember(seen, &before);
        if seen == before {
            return Ok(());
        }
        // Before it is kept: cut off here, it is news once more.
        self.note_odd(desired, &seen, &before).await?;
        let bytes = serde_json::to_vec(&seen).map_err(|_| Fault::Broken("contacts"))?;
        self.spend(1);
        self.world
            .r2()
            .put(&key::pbx_contacts(id), bytes, BTreeMap::new(), Only::Always)
            .await?;
        Ok(())
    }

    /// Writes down what is odd about contacts that were not there before.
    async fn note_odd(
        &self,
        desired: &[Desired],
        seen: &Contacts,
        before: &Contacts,
    ) -> Result<(), Fault> {
        let news = desired.iter().filter(|desired| {
            let name = &desired.username;
            seen.contains_key(name) && seen.get(name) != before.get(name)
        });
        for desired in news.take(ODD_LOOKS) {
            let account = self.account(&desired.account).await?;
            let Some(account) = account
                .filter(|account| account.alive() && account.record.username == desired.username)
            else {
                continue;
            };
            let contacts = seen.get(&desired.username).map_or(&[][..], Vec::as_slice);
            for mac in &account.state.devices {
                self.spend(1);
                let device = store::load::<Device, W>(self.world, &mac.to_string()).await?;
                let Some(device) = device.map(|device| device.stored).filter(Stored::alive) else {
                    continue;
                };
                let matched = ami::match_contacts(contacts, *mac, &account.state.devices);
                let from = device.state.fetched_from.as_deref();
                for finding in ami::findings(&matched, device.record.vendor, from) {
                    let (tenant, resource) =
                        (Some(&device.record.tenant), format!("devices/{mac}"));
                    let action = "registration.odd";
                    let event = Event::new(self.world, audit::DIALTONE, tenant, action, resource)
                        .with("what", finding.word())
                        .with("account", desired.account.as_str())
                        .with("address", finding.address());
                    self.spend(1);
                    audit::note_once_a_minute(self.world, &event).await;
                }
            }
        }
        Ok(())
    }
}
