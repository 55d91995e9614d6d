//! Tells a phone to fetch its files again, by a NOTIFY of the PBX at which a line of it is registered:
//! for the scheduled handler, and for an admin who wants it now.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde::Serialize;

use super::ami::Ami;
use super::ari::{self, Ari, Stop};
use crate::ami::{self, Action, Contacts};
use crate::fault::Fault;
use crate::json;
use crate::key;
use crate::mac::Mac;
use crate::ports::{Objects, World};
use crate::record::Stored;
use crate::record::account::Account;
use crate::record::device::Device;
use crate::record::pbx::Pbx;
use crate::resync::{Outcome, Waits};
use crate::step7_register::Line;
use crate::store;
use crate::text::{Id, Username};

/// What happened on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The PBX took the NOTIFY. Whether the phone got it and fetched is another matter.
    Sent,
    /// The phone was told by another line.
    ByAnother,
    /// The phone is in a call.
    InCall,
    /// Nobody is registered with the account.
    NotRegistered,
    /// Somebody is, with an account of several phones, and no User-Agent says that it is this one.
    Shared,
    /// The PBX has no AMI.
    NoAmi,
    /// The PBX gave no clear answer: why.
    Unclear(String),
    /// It did not take the NOTIFY: why.
    NotTaken(String),
}

impl Told {
    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Sent => "sent to the PBX".to_owned(),
            Self::ByAnother => "told by another line".to_owned(),
            Self::InCall => "in a call".to_owned(),
            Self::NotRegistered => "not registered".to_owned(),
            Self::Shared => "not known to be registered: the account is shared".to_owned(),
            Self::NoAmi => "the PBX has no AMI".to_owned(),
            Self::Unclear(why) => format!("the PBX gave no clear answer: {why}"),
            Self::NotTaken(why) => format!("the PBX did not take it: {why}"),
        }
    }
}

/// One line of a phone that was to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineTold {
    /// Which, from 1.
    pub line: u8,
    /// Its account.
    pub account: Id,
    /// Its PBX.
    pub pbx: Id,
    /// What happened.
    pub told: Told,
}

/// The line as an admin sees it.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "LineTold"))]
pub struct Shown<'a> {
    /// Which line.
    line: u8,
    /// Its account.
    account: &'a Id,
    /// The PBX of that.
    pbx: &'a Id,
    /// What happened, in words.
    result: String,
}

impl LineTold {
    /// As an admin sees it.
    #[must_use]
    pub fn shown(&self) -> Shown<'_> {
        Shown {
            line: self.line,
            account: &self.account,
            pbx: &self.pbx,
            result: self.told.text(),
        }
    }
}

/// What became of a phone, or why it has to wait.
///
/// # Errors
/// Why it has to wait.
pub fn outcome(lines: &[LineTold]) -> Result<Outcome, Waits> {
    let any = |what: fn(&Told) -> bool| lines.iter().any(|line| what(&line.told));
    if any(|told| *told == Told::Sent) {
        Ok(Outcome::Sent)
    } else if any(|told| *told == Told::InCall) {
        Err(Waits::InCall)
    } else if any(|told| matches!(told, Told::Unclear(_) | Told::NotTaken(_))) {
        Err(Waits::Pbx)
    } else if any(|told| matches!(told, Told::NotRegistered | Told::Shared)) {
        Ok(Outcome::LeftToItsPoll)
    } else {
        Ok(Outcome::NoAmi)
    }
}

/// A PBX while phones are told by it.
struct Place<'a, W: World> {
    stored: Stored<Pbx>,
    ari: Ari<'a, W>,
    /// `None` if it has none.
    ami: Option<Ami<'a, W>>,
    /// Why it is not asked any more in this run.
    down: Option<String>,
    /// Read when they are first needed.
    contacts: Option<Contacts>,
}

/// Who tells phones, with what it knows of their PBXes by now.
pub(crate) struct Teller<'a, W: World> {
    world: &'a W,
    calls: &'a Cell<u32>,
    places: BTreeMap<Id, Option<Place<'a, W>>>,
}

/// A line that is registered, as far as its PBX says.
struct Registered {
    at: usize,
    username: Username,
    /// Whether the account is on this phone alone.
    alone: bool,
}

impl<'a, W: World> Teller<'a, W> {
    pub fn new(world: &'a W, calls: &'a Cell<u32>) -> Self {
        Self {
            world,
            calls,
            places: BTreeMap::new(),
        }
    }

    fn spend(&self, calls: u32) {
        self.calls.set(self.calls.get().saturating_sub(calls));
    }

    /// A PBX; `None` if it is gone.
    async fn place(&mut self, id: &Id) -> Result<Option<&mut Place<'a, W>>, Fault> {
        if !self.places.contains_key(id) {
            self.spend(1);
            let loaded = store::load::<Pbx, W>(self.world, id.as_str()).await?;
            let stored = loaded.map(|loaded| loaded.stored).filter(Stored::alive);
            let place = match stored {
                None => None,
                Some(stored) => Some(Place {
                    ari: Ari::new(self.world, self.calls, id, &stored)?,
                    ami: Ami::new(self.world, self.calls, id, &stored)?,
                    stored,
                    down: None,
                    contacts: None,
                }),
            };
            self.places.insert(id.clone(), place);
        }
        Ok(self.places.get_mut(id).and_then(Option::as_mut))
    }

    /// Tells a phone, by the first of its lines that is registered, unless one of them is in a call.
    /// Says what happened on each.
    pub async fn tell(&mut self, mac: Mac, device: &Device) -> Result<Vec<LineTold>, Fault> {
        let mut lines = Vec::new();
        let mut registered = Vec::new();
        for line in &device.lines {
            self.spend(1);
            let loaded = store::load::<Account, W>(self.world, line.account.as_str()).await?;
            let account = loaded.map(|loaded| loaded.stored);
            let ours = |account: &Stored<Account>| {
                account.alive() && account.record.tenant == device.tenant
            };
            let Some(account) = account.filter(ours) else {
                continue;
            };
            let username = &account.record.username;
            let Some(place) = self.place(&account.record.pbx).await? else {
                continue;
            };
            if place.stored.record.tenant != device.tenant {
                continue;
            }
            let told = match &place.down {
                _ if place.ami.is_none() => Told::NoAmi,
                Some(why) => Told::Unclear(why.clone()),
                None => match place.ari.line(username).await {
                    Ok(Line::InCall) => Told::InCall,
                    Ok(Line::Offline | Line::Absent) => Told::NotRegistered,
                    Ok(Line::Online) => {
                        registered.push(Registered {
                            at: lines.len(),
                            username: username.clone(),
                            alone: account.state.devices.iter().all(|other| *other == mac),
                        });
                        Told::ByAnother
                    }
                    Err(Stop(why)) => {
                        place.down = Some(why.clone());
                        Told::Unclear(why)
                    }
                },
            };
            lines.push(LineTold {
                line: line.line,
                account: line.account.clone(),
                pbx: account.record.pbx.clone(),
                told,
            });
        }
        let in_call = lines.iter().any(|line| line.told == Told::InCall);
        let mut sent = false;
        for one in registered {
            let Some(line) = lines.get_mut(one.at) else {
                continue;
            };
            if in_call {
                line.told = Told::InCall;
            } else if !sent {
                line.told = self.notify(mac, device, &line.pbx, &one).await?;
                sent = line.told == Told::Sent;
            }
        }
        Ok(lines)
    }

    /// Sends the NOTIFY of one line.
    async fn notify(
        &mut self,
        mac: Mac,
        device: &Device,
        pbx: &Id,
        registered: &Registered,
    ) -> Result<Told, Fault> {
        let event = device.vendor.rules().facts().resync;
        let world = self.world;
        self.spend(1);
        let Some(place) = self.place(pbx).await? else {
            return Ok(Told::NoAmi);
        };
        let action = if registered.alone {
            Action::notify_endpoint(&registered.username, event)
        } else {
            // To the one phone, or all that have the account would fetch, each once for each of them.
            if place.contacts.is_none() {
                place.contacts = Some(contacts(world, pbx).await?.unwrap_or_default());
            }
            let known = place.contacts.as_ref();
            let of_name = known.and_then(|known| known.get(&registered.username));
            let own = of_name
                .into_iter()
                .flatten()
                .find(|contact| contact.mac == Some(mac));
            let Some(own) = own else {
                return Ok(Told::Shared);
            };
            Action::notify_contact(&own.uri, event)
        };
        let (Some(action), Some(ami)) = (action, place.ami.as_mut()) else {
            return Ok(Told::NotTaken("the event or the address".to_owned()));
        };
        let (status, body) = match ami.act(&action, ari::OBJECT_BYTES).await {
            Ok(answer) => answer,
            Err(Stop(why)) => {
                place.down = Some(why.clone());
                return Ok(Told::NotTaken(why));
            }
        };
        Ok(match ami::done(status, &body) {
            Ok(()) => Told::Sent,
            Err(failure) => Told::NotTaken(failure.text()),
        })
    }
}

/// Who is registered from where at a PBX, as it was last seen; `None` if nobody ever was, or if it has
/// no AMI.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn contacts<W: World>(world: &W, pbx: &Id) -> Result<Option<Contacts>, Fault> {
    let object = world.r2().get(&key::pbx_contacts(pbx)).await?;
    // Found out again in minutes.
    Ok(object.and_then(|object| json::read(&object.body).ok()))
}
