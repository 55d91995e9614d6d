//! What is written once a caller has its answer: how far a phone is, where it comes from, who was
//! refused. What a scanner can cause is aggregated and capped.

use crate::admin;
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::ports::{Level, Limit, World};
use crate::record::device::{Contested, Device, DeviceState, Quarantine, Sighting, Whereabouts};
use crate::refusal;
use crate::request::{Afterwards, Fetch};
use crate::step2_redirect::Why;
use crate::step3_boot_request::Part;
use crate::store;
use crate::text::Id;
use crate::time::Timestamp;

/// Notes a fetch in a device's state; false if there is nothing new in it, so that a repeat writes
/// nothing.
pub fn note_fetch(state: &mut DeviceState, fetch: &Fetch, now: Timestamp) -> bool {
    let Fetch {
        token,
        key,
        part,
        version,
        ..
    } = *fetch;
    let mut news = state.settle_at(fetch.place.clone());
    // Only where a phone begins is the URL that it keeps. The files from there on are under the URL
    // that it was just given: to note those too would be two writes at each start of a phone that is
    // told its URL by DHCP.
    let begins = matches!(part, Part::Boot | Part::Merged | Part::Former);
    if begins && state.access.key != Some(key) {
        state.access.key = Some(key);
        news = true;
    }
    if token == state.access.token && (!state.access.used || state.access.former.is_some()) {
        // The phone has its new URL: the old one has served its time.
        state.access.used = true;
        state.access.former = None;
        // And the window: whoever came now would be somebody else.
        state.window.take_if(|window| window.claim.is_none());
        news = true;
    }
    let sighting = Sighting { at: now, version };
    let newer = |seen: &Option<Sighting>| seen.is_none_or(|seen| seen.version < version);
    if matches!(part, Part::Boot | Part::First | Part::Merged | Part::Former)
        && newer(&state.seen.booted)
    {
        state.seen.booted = Some(sighting);
        news = true;
    }
    if matches!(part, Part::Acc | Part::Merged | Part::Former) && newer(&state.seen.configured) {
        state.seen.configured = Some(sighting);
        state.fetched_from = Some(fetch.source.clone());
        news = true;
    }
    news
}

/// Writes down what a phone did, once it has its answer. A failure costs a line in a status, so it
/// is logged and not repeated for ever.
pub async fn write<W: World>(world: &W, what: Afterwards) {
    let noted = match &what {
        Afterwards::Redirected { mac, claimed_by } => {
            redirected(world, *mac, claimed_by.as_deref()).await
        }
        Afterwards::Fetched(fetch) => fetched(world, fetch).await,
        Afterwards::Moved { mac, place } => moved(world, *mac, place).await,
        Afterwards::Refused {
            mac,
            tenant,
            why,
            source,
        } => refused(world, *mac, tenant, *why, source).await,
        Afterwards::WrongPin {
            mac,
            tenant,
            account,
            source,
            locked,
            held,
        } => {
            let event = |action| of_phone(world, *mac, tenant, action).with("source", source);
            wrong_pin(world, *mac, event("pin.refused"), account.as_ref()).await;
            if let Some(account) = account.as_ref().filter(|_| *locked) {
                let event = Event {
                    resource: format!("accounts/{account}"),
                    ..event("pin.locked")
                };
                audit::note(world, &event.with("device", mac.to_string()).alarming()).await;
            }
            if *held {
                audit::note(world, &event("pin.held").alarming()).await;
            }
            Ok(())
        }
        Afterwards::Scanned { range } => {
            scanned(world, range).await;
            Ok(())
        }
        Afterwards::TokenUsed(id) => admin::token::note_use(world, id).await,
    };
    if let Err(fault) = noted {
        world.log(
            Level::Warn,
            "afterwards.failed",
            &[("fault", fault.label())],
        );
    }
}

/// Notes that a phone was told its way for the first time, or claimed a window.
async fn redirected<W: World>(world: &W, mac: Mac, claimed_by: Option<&str>) -> Result<(), Fault> {
    let (id, now) = (mac.to_string(), world.now());
    let mut first = false;
    let noted = store::update::<Device, W>(world, &id, |stored| {
        first = stored.state.seen.redirected.is_none();
        stored.state.seen.redirected.get_or_insert(now);
        first
    });
    let Some(stored) = noted.await?.filter(|_| first || claimed_by.is_some()) else {
        return Ok(());
    };
    let tenant = &stored.record.tenant;
    let event = match claimed_by {
        Some(source) => of_phone(world, mac, tenant, "window.claimed").with("source", source),
        None => of_phone(world, mac, tenant, "phone.redirected"),
    };
    audit::note(world, &event).await;
    Ok(())
}

/// Notes a first fetch of a version, and where it came from.
async fn fetched<W: World>(world: &W, fetch: &Fetch) -> Result<(), Fault> {
    let Fetch { mac, part, .. } = *fetch;
    let (id, now) = (mac.to_string(), world.now());
    let (mut first, mut moved) = (false, false);
    let noted = store::update::<Device, W>(world, &id, |stored| {
        let (places, seen) = (stored.state.places.clone(), stored.state.seen);
        let news = note_fetch(&mut stored.state, fetch, now);
        first = stored.state.seen != seen;
        moved = !places.is_empty() && stored.state.places != places;
        news
    });
    let Some(stored) = noted.await?.filter(|_| first || moved) else {
        return Ok(());
    };
    if let Some(place) = fetch.place.as_ref().filter(|_| moved) {
        let event = of_phone(world, mac, &stored.record.tenant, "phone.moved");
        audit::note(world, &from(event, place)).await;
    }
    if !first {
        return Ok(());
    }
    let tenant = &stored.record.tenant;
    let event = of_phone(world, mac, tenant, "phone.fetched")
        .with("file", part.neutral_name())
        .with("version", fetch.version.to_string());
    audit::note(world, &event).await;
    Ok(())
}

/// An event about a phone that nobody else is the actor of.
fn of_phone<W: World>(world: &W, mac: Mac, tenant: &Id, action: &'static str) -> Event {
    let resource = format!("devices/{mac}");
    Event::new(world, audit::PHONE, Some(tenant), action, resource)
}

/// That somebody was refused, without more to it.
const REFUSED: &str = "phone.refused";

/// Writes a refusal down: at most one a minute of a device, and so many of all. Each kind is counted
/// for itself, so that nobody hides a decoy's alarm or a contested claim among other refusals.
async fn refused<W: World>(
    world: &W,
    mac: Mac,
    tenant: &Id,
    why: Why,
    source: &str,
) -> Result<(), Fault> {
    // Whoever has a token of ours, good or not, is counting through nothing.
    if why != Why::Revoked
        && !world.within(Limit::TenantMisses, tenant.as_str()).await
        && world.within(Limit::RefusalsOfDevice, tenant.as_str()).await
    {
        let resource = format!("tenants/{tenant}");
        let event = Event::new(
            world,
            audit::PHONE,
            Some(tenant),
            "tenant.scanned",
            resource,
        );
        audit::note_once_a_minute(world, &event.alarming()).await;
    }
    let (action, alarms) = match why {
        Why::Decoy => ("decoy.asked", true),
        Why::Contested => ("claim.contested", true),
        _ => (REFUSED, false),
    };
    let of_device = format!("{mac} {action}");
    let few = world.within(Limit::RefusalsOfDevice, &of_device).await
        && world.within(Limit::Refusals, action).await;
    if !few {
        return Ok(());
    }
    let event = Event {
        alarm: alarms,
        ..of_phone(world, mac, tenant, action)
    };
    let event = event.with("why", why.label()).with("source", source);
    audit::note_once_a_minute(world, &event).await;
    refusal::note(world, mac, tenant, why, source).await?;
    if why == Why::Contested {
        let (id, now) = (mac.to_string(), world.now());
        store::update::<Device, W>(world, &id, |stored| {
            note_contest(&mut stored.state, source, now)
        })
        .await?;
    }
    Ok(())
}

/// Writes a wrong PIN down: at most one a minute of a phone, and so many of all. That a user or a phone is
/// locked is written in any case: each costs whoever does it five PINs.
async fn wrong_pin<W: World>(world: &W, mac: Mac, event: Event, account: Option<&Id>) {
    let of_device = format!("{mac} {}", event.action);
    let few = world.within(Limit::RefusalsOfDevice, &of_device).await
        && world.within(Limit::Refusals, &event.action).await;
    if few {
        let event = match account {
            Some(account) => event.with("account", account.as_str()),
            None => event,
        };
        audit::note_once_a_minute(world, &event).await;
    }
}

/// Notes a contested claim; false if there was one in this minute.
fn note_contest(state: &mut DeviceState, source: &str, now: Timestamp) -> bool {
    let former = state.contested.as_ref();
    if former.is_some_and(|former| now.since(former.at) < 60) {
        return false;
    }
    state.contested = Some(Contested {
        at: now,
        source: source.to_owned(),
        times: former.map_or(0, |former| former.times).saturating_add(1),
    });
    true
}

/// Raises the alarm that a range of MACs is being counted through.
async fn scanned<W: World>(world: &W, range: &str) {
    if world.within(Limit::RefusalsOfDevice, range).await
        && world.within(Limit::Refusals, REFUSED).await
    {
        let resource = format!("ranges/{range}");
        let event = Event::new(world, audit::PHONE, None, "range.scanned", resource);
        audit::note_once_a_minute(world, &event.alarming()).await;
    }
}

/// Puts a phone in quarantine that came from a new place.
async fn moved<W: World>(world: &W, mac: Mac, place: &Whereabouts) -> Result<(), Fault> {
    let (id, at) = (mac.to_string(), world.now());
    let mut news = false;
    let noted = store::update::<Device, W>(world, &id, |stored| {
        let known = stored.state.quarantine.as_ref();
        news = stored.alive() && known.is_none_or(|known| known.place != *place);
        if news {
            let place = place.clone();
            stored.state.quarantine = Some(Quarantine { at, place });
        }
        news
    });
    let Some(stored) = noted.await?.filter(|_| news) else {
        return Ok(());
    };
    let tenant = &stored.record.tenant;
    let event = from(of_phone(world, mac, tenant, "phone.quarantined"), place);
    audit::note_once_a_minute(world, &event.alarming()).await;
    Ok(())
}

/// An event with where a request came from.
fn from(event: Event, place: &Whereabouts) -> Event {
    let event = match &place.country {
        Some(country) => event.with("country", country),
        None => event,
    };
    match place.asn {
        Some(asn) => event.with("asn", asn.to_string()),
        None => event,
    }
}
