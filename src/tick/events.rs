//! What is told of phones that came and went at a PBX: in the audit, and from there to the webhooks
//! that want it. What there is to tell, and how often, stands in [`crate::transitions`].

use std::collections::{BTreeMap, BTreeSet};

use super::Run;
use crate::audit::{self, DIALTONE, Event};
use crate::fault::Fault;
use crate::gather::in_order;
use crate::key::Kind;
use crate::mac::Mac;
use crate::ports::World;
use crate::reconcile::Memory;
use crate::record::device::Device;
use crate::store;
use crate::text::Id;
use crate::transitions::{self, Due, MOST_ALONE};

/// The calls of one run that may be used to tell of phones one by one; beyond them they are told of
/// together.
pub(super) const CALLS: u32 = 120;

/// The calls for one phone: its account, its device, the event.
const CALLS_OF_ONE: u32 = 3;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject<'a> {
    /// A phone that alone has the account, and no other line that may be registered.
    Device(Mac),
    /// An account on several phones or none, or on one that has other lines.
    Account(&'a Id),
}

/// What there is to tell of a subject.
#[derive(Default)]
struct Told {
    online: bool,
    changes: u32,
    accounts: Vec<String>,
}

impl<W: World> Run<'_, W> {
    /// Tells of the phones that came and went at a PBX. If the memory is not kept after that, they are
    /// told of again.
    pub(super) async fn tell(&self, pbx: &Id, tenant: &Id, memory: &mut Memory) {
        let due = transitions::due(memory, self.world.now());
        if due.is_empty() || self.is_over() {
            return;
        }
        let needed = u32::try_from(due.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(CALLS_OF_ONE);
        if due.len() > MOST_ALONE || self.events.get() < needed {
            return self.tell_together(pbx, tenant, &due, memory).await;
        }
        self.events.set(self.events.get() - needed);
        self.tell_one_by_one(pbx, tenant, &due, memory).await;
    }

    fn of_pbx(&self, pbx: &Id, tenant: &Id, action: &'static str) -> Event {
        let resource = format!("{}/{pbx}", Kind::Pbx.collection());
        Event::new(self.world, DIALTONE, Some(tenant), action, resource)
    }

    async fn tell_together(&self, pbx: &Id, tenant: &Id, due: &[Due], memory: &mut Memory) {
        for (online, action) in [(true, "pbx.registered"), (false, "pbx.offline")] {
            let names = transitions::names(due, online);
            if names.count == 0 {
                continue;
            }
            let event = self.of_pbx(pbx, tenant, action);
            let event = event
                .with("accounts", names.count.to_string())
                .with("first", names.first.join(", "));
            self.spend(1);
            audit::note_once_a_minute(self.world, &event).await;
        }
        transitions::tell(memory, due, self.world.now());
    }

    async fn tell_one_by_one(&self, pbx: &Id, tenant: &Id, due: &[Due], memory: &mut Memory) {
        let mut subjects = Vec::new();
        for one in due {
            // With a fault it is as due in the next run.
            if let Ok(subject) = self.subject(one, due, memory).await {
                subjects.push((one, subject));
            }
        }
        let now = self.world.now();
        let told: Vec<Due> = subjects.iter().map(|(due, _)| (*due).clone()).collect();
        let changes = transitions::tell(memory, &told, now);
        let mut events: BTreeMap<Subject<'_>, Told> = BTreeMap::new();
        for (due, subject) in subjects {
            let Some(subject) = subject else { continue };
            let told = events.entry(subject).or_default();
            told.online |= due.online;
            told.changes += changes.get(&due.account).copied().unwrap_or_default();
            told.accounts.push(due.account.to_string());
        }
        for (subject, told) in events {
            let (collection, id, actions) = match subject {
                Subject::Device(mac) => {
                    let actions = ["device.offline", "device.registered"];
                    (Kind::Device.collection(), mac.to_string(), actions)
                }
                Subject::Account(id) => {
                    let actions = ["account.offline", "account.registered"];
                    (Kind::Account.collection(), id.to_string(), actions)
                }
            };
            let [offline, registered] = actions;
            let action = if told.online { registered } else { offline };
            let resource = format!("{collection}/{id}");
            let event = Event::new(self.world, DIALTONE, Some(tenant), action, resource)
                .with("account", told.accounts.join(", "))
                .with("pbx", pbx.as_str())
                .with("transitions", told.changes.to_string());
            self.spend(1);
            audit::note_once_a_minute(self.world, &event).await;
        }
    }

    /// What an event is about; `None` if the account is gone, and nobody's phone with it.
    async fn subject<'a>(
        &self,
        due: &'a Due,
        all: &[Due],
        memory: &Memory,
    ) -> Result<Option<Subject<'a>>, Fault> {
        let account = self.account(&due.account).await?;
        let Some(account) = account.filter(|account| account.alive()) else {
            return Ok(None);
        };
        let shared = Subject::Account(&due.account);
        let mut devices = account.state.devices.into_iter();
        let (Some(mac), None) = (devices.next(), devices.next()) else {
            return Ok(Some(shared));
        };
        self.spend(1);
        let device = store::load::<Device, W>(self.world, &mac.to_string()).await?;
        let Some(device) = device.map(|device| device.stored).filter(|d| d.alive()) else {
            return Ok(Some(shared));
        };
        let lines: BTreeSet<&Id> = in_order(device.host().lines.iter().map(|l| &l.account));
        // The phone is registered as long as one of its lines is, also one at another PBX.
        // Another line that is told of now is told of with this one.
        let is_offline = |account: &Id| {
            let known = memory.registrations.values();
            let mut known = known.filter(|registration| registration.account == *account);
            known
                .next()
                .is_some_and(|registration| !registration.online)
        };
        let mut others = lines.iter().filter(|line| **line != &due.account);
        let alone = lines.contains(&due.account)
            && others
                .all(|other| all.iter().any(|due| due.account == **other) || is_offline(other));
        Ok(Some(if alone { Subject::Device(mac) } else { shared }))
    }
}
