//! A tenant's webhook: its alarms and whatever else it wants, as the chain of the audit holds them, sent to
//! an address of the tenant's by the scheduled handler. At least once, in order, for a day. Below, each
//! of them is called an alarm.
//!
//! In: what waits, as an object for each page of the chain with alarms (`audit-new/{tenant}/!{page}`, all
//! of it in the metadata, so that one listing shows it). Out: calls of the webhook.

use std::collections::{BTreeMap, BTreeSet};

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method};

use crate::audit::{self, DIALTONE, Event};
use crate::chaining::{self, Allowance};
use crate::fault::Fault;
use crate::key::{self, AuditNew, Kind};
use crate::keys::hmac_hex;
use crate::ports::{Level, NoAnswer, Objects, Only, Outbound, World};
use crate::record::tenant::{Tenant, Topic, WEBHOOK_SECRET};
use crate::secret::Secret;
use crate::store;
use crate::text::{Id, WebUrl};
use crate::time::Timestamp;

/// The header that signs a body: `sha256=` and HMAC-SHA-256 of it under the webhook's secret, in hex.
const SIGNATURE: HeaderName = HeaderName::from_static("dialtone-signature");

/// How long a webhook has for an answer, in ms.
const TIMEOUT_MS: u32 = 5_000;

/// The longest answer, in bytes; nobody reads it.
const ANSWER_BYTES: usize = 65_536;

/// How long an alarm is tried, in seconds.
const KEEP_S: u64 = 86_400;

/// How many alarms of a tenant wait at most; of more the oldest are given up.
const MOST_WAITING: usize = 100;

/// How many alarms of a tenant one run sends.
const POSTS_PER_RUN: usize = 20;

/// When no further alarm of a tenant is sent, in seconds from its turn.
const TURN_S: u64 = 20;

/// After the first failure the next run tries again; after each further one it takes twice as long, up to
/// half an hour. In seconds, less than a minute so that a run that begins early counts.
const FIRST_PAUSE_S: u64 = 30;
const LONGEST_PAUSE_S: u64 = 1_800;

/// The most calls of an attempt: the listing, the tenant, a page, the call itself, what is kept
/// of it, and two events about it.
pub const CALLS_OF_ATTEMPT: u32 = 7;

/// That alarms of a page wait, as the metadata of an object says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Up to this entry everything went out.
    from: u64,
    /// How many are left.
    alarms: usize,
    /// When they were chained.
    since: Timestamp,
    /// How often the first of them failed.
    tries: u32,
    /// When the next try is due.
    next: Timestamp,
}

impl Waiting {
    /// All alarms of a new page.
    #[must_use]
    pub fn new(alarms: usize, now: Timestamp) -> Self {
        Self {
            alarms,
            since: now,
            ..Self::default()
        }
    }

    /// Reads what [`Waiting::put`] wrote; what is missing counts as 0, which is long ago.
    #[must_use]
    pub fn read(metadata: &BTreeMap<String, String>) -> Self {
        let number = |name: &str| -> u64 {
            let text = metadata.get(name).and_then(|text| text.parse().ok());
            text.unwrap_or_default()
        };
        Self {
            from: number("from"),
            alarms: usize::try_from(number("alarms")).unwrap_or_default(),
            since: Timestamp(number("since")),
            tries: u32::try_from(number("tries")).unwrap_or_default(),
            next: Timestamp(number("next")),
        }
    }

    /// Whether it is time to try.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        now >= self.next
    }

    fn is_too_old(&self, now: Timestamp) -> bool {
        now.since(self.since) >= KEEP_S
    }

    /// The same after one more failure.
    fn failed(self, tries: u32, now: Timestamp) -> Self {
        let doubled = 1_u64.checked_shl(tries).unwrap_or(u64::MAX);
        let pause = FIRST_PAUSE_S.saturating_mul(doubled).min(LONGEST_PAUSE_S);
        Self {
            tries: tries.saturating_add(1),
            next: now.plus(pause),
            ..self
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The [`Fault`] of R2.
    pub async fn put<W: World>(self, world: &W, tenant: &Id, page: u64) -> Result<(), Fault> {
        let metadata = [
            ("from", self.from),
            ("alarms", u64::try_from(self.alarms).unwrap_or(u64::MAX)),
            ("since", self.since.0),
            ("tries", self.tries.into()),
            ("next", self.next.0),
        ];
        let metadata = metadata.map(|(name, number)| (name.to_owned(), number.to_string()));
        let key = key::audit_waiting(tenant, page);
        world
            .r2()
            .put(&key, Vec::new(), metadata.into(), Only::Always)
            .await?;
        Ok(())
    }
}

/// Which of a tenant's alarms are too many: how many of each page, oldest first, the oldest ones.
fn surplus(waiting: &[(u64, Waiting)]) -> Vec<usize> {
    let mut room = MOST_WAITING;
    let mut surplus: Vec<usize> = waiting
        .iter()
        .rev()
        .map(|(_, waiting)| {
            let kept = waiting.alarms.min(room);
            room -= kept;
            waiting.alarms - kept
        })
        .collect();
    surplus.reverse();
    surplus
}

/// The topic of an event beside [`Topic::Alarms`].
fn topic(event: &Event) -> Option<Topic> {
    match event.action.as_str() {
        "device.registered" | "account.registered" | "pbx.registered" => Some(Topic::Registered),
        "device.offline" | "account.offline" | "pbx.offline" => Some(Topic::Offline),
        "phone.refused" => Some(Topic::Refused),
        "claim.contested" => Some(Topic::Contested),
        "rollout.stopped" => Some(Topic::Rollout),
        action if action.starts_with("breaker.") => Some(Topic::Breaker),
        _ => None,
    }
}

/// Whether a webhook could want an event: if none could, its tenant need not be asked.
#[must_use]
pub fn is_of_interest(event: &Event) -> bool {
    event.alarm || topic(event).is_some()
}

/// Where a tenant's alarms go.
pub struct Target {
    url: WebUrl,
    topics: BTreeSet<Topic>,
    /// The sealed secret, if there is one.
    sealed: Option<String>,
}

impl Target {
    /// Whether the tenant wants to be sent an event.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        let wants = |topic: Topic| self.topics.contains(&topic);
        (event.alarm && wants(Topic::Alarms)) || topic(event).is_some_and(wants)
    }
}

/// The webhook of a tenant that has one.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn of<W: World>(world: &W, tenant: &Id) -> Result<Option<Target>, Fault> {
    let loaded = store::load::<Tenant, W>(world, tenant.as_str()).await?;
    let Some(stored) = loaded.map(|loaded| loaded.stored).filter(|s| s.alive()) else {
        return Ok(None);
    };
    let sealed = stored.sealed.get(WEBHOOK_SECRET).cloned();
    Ok(stored.record.webhook.map(|webhook| Target {
        url: webhook.url,
        topics: webhook.events,
        sealed,
    }))
}

/// Sends a tenant's alarms that wait, oldest first, until one fails.
///
/// # Errors
/// The [`Fault`] of R2: then the next run goes on, and what was sent but not noted goes out again.
pub async fn deliver<W: World>(
    world: &W,
    tenant: &Id,
    allowance: &Allowance<'_>,
) -> Result<(), Fault> {
    let began = world.now();
    allowance.spend(2);
    let prefix = key::all_audit_waiting(tenant);
    let listed = world.r2().list(&prefix, None, 1_000).await?;
    let waiting: Vec<(u64, Waiting)> = listed
        .entries
        .iter()
        .filter_map(|entry| match key::parse_audit_new(&entry.key)? {
            (_, AuditNew::Waiting(page)) => Some((page, Waiting::read(&entry.metadata))),
            (_, AuditNew::Event(_)) => None,
        })
        .collect();
    let target = of(world, tenant).await?;
    let done = async |page: u64| {
        allowance.spend(1);
        world.r2().delete(&key::audit_waiting(tenant, page)).await
    };
    let surplus = surplus(&waiting);
    let mut run = Outcome::default();
    for ((page, waiting), surplus) in waiting.into_iter().zip(surplus) {
        let Some(target) = &target else {
            // Nobody wants them any more.
            done(page).await?;
            continue;
        };
        run.tries = run.tries.max(waiting.tries);
        if waiting.is_too_old(world.now()) || surplus == waiting.alarms {
            run.given_up += waiting.alarms;
            done(page).await?;
            continue;
        }
        if !waiting.is_due(world.now()) {
            break;
        }
        allowance.spend(1);
        let links = chaining::links(world, Some(tenant), page).await?;
        if links.is_empty() {
            // Announced, and not put yet.
            continue;
        }
        run.given_up += surplus;
        let alarms: Vec<_> = links
            .into_iter()
            .filter(|link| target.wants(&link.entry.event) && link.entry.seq > waiting.from)
            .skip(surplus)
            .collect();
        let mut sent = 0;
        let mut failed = None;
        for alarm in &alarms {
            let late = world.now().since(began) >= TURN_S;
            if late || run.sent >= POSTS_PER_RUN || allowance.left() < CALLS_OF_ATTEMPT {
                break;
            }
            allowance.spend(1);
            if let Err(why) = send(world, tenant, target, &alarm.json).await {
                failed = Some(why);
                break;
            }
            sent += 1;
            run.sent += 1;
            run.tries = 0;
        }
        let Some(first) = alarms.get(sent) else {
            done(page).await?;
            continue;
        };
        let rest = Waiting {
            from: first.entry.seq - 1,
            alarms: alarms.len() - sent,
            tries: run.tries,
            ..waiting
        };
        allowance.spend(1);
        match &failed {
            Some(_) => rest.failed(run.tries, world.now()),
            None => rest,
        }
        .put(world, tenant, page)
        .await?;
        run.failed = failed;
        break;
    }
    run.report(world, tenant, allowance).await;
    Ok(())
}

/// What became of a tenant's alarms in a run.
#[derive(Default)]
struct Outcome {
    sent: usize,
    given_up: usize,
    /// How often the last one failed before, in a row.
    tries: u32,
    failed: Option<String>,
}

impl Outcome {
    /// Says so: in the log each time, in the audit when it begins to fail and when alarms are given up.
    async fn report<W: World>(self, world: &W, tenant: &Id, allowance: &Allowance<'_>) {
        if self.sent == 0 && self.given_up == 0 && self.failed.is_none() {
            return;
        }
        let (sent, given_up) = (self.sent.to_string(), self.given_up.to_string());
        let fields = [
            ("tenant", tenant.as_str()),
            ("sent", sent.as_str()),
            ("given_up", given_up.as_str()),
            ("why", self.failed.as_deref().unwrap_or_default()),
        ];
        let level = if self.failed.is_some() || self.given_up > 0 {
            Level::Warn
        } else {
            Level::Info
        };
        world.log(level, "webhook", &fields);
        let resource = format!("{}/{tenant}", Kind::Tenant.collection());
        let event = |action| Event::new(world, DIALTONE, Some(tenant), action, resource.clone());
        if let Some(why) = self.failed.filter(|_| self.tries == 0) {
            allowance.spend(1);
            audit::note(world, &event("webhook.failed").with("why", why)).await;
        }
        if self.given_up > 0 {
            allowance.spend(1);
            audit::note(world, &event("webhook.gave_up").with("alarms", given_up)).await;
        }
    }
}

/// Sends one alarm. An answer other than 2xx is none that took it.
async fn send<W: World>(world: &W, tenant: &Id, target: &Target, body: &str) -> Result<(), String> {
    let request = request(world, tenant, target, body).map_err(|fault| fault.label().to_owned())?;
    match world.net().send(request, TIMEOUT_MS, ANSWER_BYTES).await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("http {}", answer.status().as_u16())),
        Err(NoAnswer::TimedOut) => Err("timed out".to_owned()),
        Err(NoAnswer::Unreachable) => Err("unreachable".to_owned()),
    }
}

fn request<W: World>(
    world: &W,
    tenant: &Id,
    target: &Target,
    body: &str,
) -> Result<http::Request<Vec<u8>>, Fault> {
    const REQUEST: Fault = Fault::Broken("webhook request");
    let mut request = http::Request::builder()
        .method(Method::POST)
        .uri(target.url.as_str())
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, "Dialtone");
    if let Some(sealed) = &target.sealed {
        let place = store::secret_place(Kind::Tenant, tenant.as_str(), WEBHOOK_SECRET);
        let secret: Secret = world.keys().open_secret(&place, sealed)?;
        let signature = format!("sha256={}", hmac_hex(secret.reveal(), body.as_bytes())?);
        let signature = HeaderValue::from_str(&signature).map_err(|_| REQUEST)?;
        request = request.header(SIGNATURE, signature);
    }
    request.body(body.as_bytes().to_vec()).map_err(|_| REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_reads_back_and_waits_longer_each_time() {
        let now = Timestamp(1_795_424_400);
        let mut waiting = Waiting::new(3, now);
        assert!(waiting.is_due(now));
        let mut pauses = Vec::new();
        for tries in 0..9 {
            waiting = waiting.failed(tries, now);
            pauses.push(waiting.next.since(now));
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
        assert_eq!(waiting.failed(u32::MAX, now).next.since(now), 1800);
        assert!(!waiting.is_too_old(now.plus(KEEP_S - 1)) && waiting.is_too_old(now.plus(KEEP_S)));
        assert_eq!(Waiting::read(&BTreeMap::new()), Waiting::default());
    }

    #[test]
    fn of_too_many_the_oldest_are_given_up() {
        let of = |alarms: &[usize]| {
            let waiting = alarms.iter().enumerate();
            let waiting = waiting.map(|(n, alarms)| {
                (
                    u64::try_from(n).unwrap(),
                    Waiting::new(*alarms, Timestamp(0)),
                )
            });
            surplus(&waiting.collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Vec::<usize>::new());
        assert_eq!(of(&[100]), [0]);
        assert_eq!(of(&[50, 60, 70]), [50, 30, 0]);
        assert_eq!(of(&[1, 100]), [1, 0]);
    }
}
