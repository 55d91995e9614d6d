//! The scheduled handler's part of the audit: puts the events that wait behind the chain of their
//! tenant, and hands alarms and what else is wanted of them to [`crate::webhook`].
//!
//! In: R2. Out: pages that are never written twice, heads by compare-and-set. The order makes it safe to
//! be cut off anywhere and to run twice at the same time. A page is put if there is none of its
//! number; then the head is moved behind it; only then what was chained is deleted from what waits, and
//! before the next page is put that must be through. So an event that still waits can stand in the last
//! page or behind the head, and nowhere else: there it is looked for.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::audit::{self, Event};
use crate::chain::{self, End, Head, Link};
use crate::fault::Fault;
use crate::gather::in_order;
use crate::key::{self, AuditNew};
use crate::keys::Signer;
use crate::ports::{Level, Mappings, ObjectEntry, Objects, Only, World};
use crate::store;
use crate::text::Id;
use crate::time::Timestamp;
use crate::webhook::{self, Waiting};

/// The most events of a page, and of a tenant in one run.
pub const EVENTS_PER_PAGE: usize = 100;

/// The calls of a run that the audit may use: a page of 100 events needs 210 of them.
pub const CALLS: u32 = 300;

/// What of them is kept for alarms.
const CALLS_FOR_ALARMS: u32 = 60;

/// What a page needs beside two calls for each event.
const CALLS_OF_PAGE: u32 = 10;

/// The most listings that look for tenants with something that waits. One that has a whole listing
/// full hides nobody: the next listing starts behind it.
const LISTINGS: usize = 10;

/// R2 gives no more than this in one listing (R2 limits).
const LISTED: u32 = 1_000;

/// When no further tenant is begun, in seconds from the start of the run.
const LATEST_S: u64 = 60;

/// How many calls at the same time: a Worker has six connections at once (Workers limits), and the
/// PBXes have four of them.
const AT_ONCE: usize = 2;

/// The most heads that a run signs anew while `SEAL_KEY` is being changed.
const HEADS_PER_RUN: usize = 20;

/// What of a run's calls may still be used here.
pub struct Allowance<'a> {
    run: &'a Cell<u32>,
    left: Cell<u32>,
}

impl<'a> Allowance<'a> {
    /// At most `most` of the calls that the run has left; whatever is used is the run's too.
    #[must_use]
    pub fn new(run: &'a Cell<u32>, most: u32) -> Self {
        Self {
            run,
            left: Cell::new(most),
        }
    }

    /// Uses calls.
    pub fn spend(&self, calls: u32) {
        self.run.set(self.run.get().saturating_sub(calls));
        self.left.set(self.left.get().saturating_sub(calls));
    }

    /// How many calls there are.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left.get().min(self.run.get())
    }
}

/// Chains what waits, of as many tenants as the allowance and the time are good for, and delivers
/// alarms. Nothing of it fails the run: what is not done now is done by the next.
pub async fn pass<W: World>(world: &W, began: Timestamp, allowance: &Allowance<'_>) {
    let pass = Pass {
        world,
        began,
        allowance,
    };
    let due = match pass.due().await {
        Ok(due) => due,
        Err(fault) => {
            return world.log(Level::Error, "audit.fault", &[("fault", fault.label())]);
        }
    };
    // Elsewhere each minute, so that nobody is always last.
    let mut turns: Vec<(Option<Id>, Due)> = due.into_iter().collect();
    let minute = usize::try_from(began.0 / 60).unwrap_or_default();
    let start = minute.checked_rem(turns.len());
    turns.rotate_left(start.unwrap_or_default());

    let mut alarms = Vec::new();
    for (owner, due) in turns {
        // One after another, so that each knows how many calls are left.
        let chained = due.events && pass.one(owner.as_ref()).await;
        alarms.extend(owner.filter(|_| due.alarms || chained));
    }
    // After all chains: a webhook that does not answer holds up none.
    let deliveries = alarms.iter().map(|tenant| pass.deliver(tenant));
    stream::iter(deliveries)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
    if world.keys().are_changing() && pass.goes_on(2) {
        pass.sign_heads_anew().await;
    }
}

/// What a tenant has that is to be done now.
#[derive(Debug, Clone, Copy, Default)]
struct Due {
    events: bool,
    alarms: bool,
}

struct Pass<'a, W: World> {
    world: &'a W,
    began: Timestamp,
    allowance: &'a Allowance<'a>,
}

impl<W: World> Pass<'_, W> {
    /// Whether there are calls and time for something new.
    fn goes_on(&self, calls: u32) -> bool {
        self.allowance.left() >= calls && self.world.now().since(self.began) < LATEST_S
    }

    /// Whose events or alarms wait; the operator's under `None`.
    async fn due(&self) -> Result<BTreeMap<Option<Id>, Due>, Fault> {
        let mut due: BTreeMap<Option<Id>, Due> = BTreeMap::new();
        let mut first_alarm: BTreeSet<Id> = BTreeSet::new();
        let mut after: Option<String> = None;
        for _ in 0..LISTINGS {
            self.allowance.spend(1);
            let r2 = self.world.r2();
            let page = r2
                .list(key::ALL_AUDIT_NEW, after.as_deref(), LISTED)
                .await?;
            let mut last = None;
            for entry in &page.entries {
                let Some((owner, what)) = key::parse_audit_new(&entry.key) else {
                    continue;
                };
                match (what, &owner) {
                    (AuditNew::Event(_), _) => due.entry(owner.clone()).or_default().events = true,
                    // Alarms go out in order, so the first says when the next is tried.
                    (AuditNew::Waiting(_), Some(tenant)) => {
                        let waiting = Waiting::read(&entry.metadata);
                        if first_alarm.insert(tenant.clone()) && waiting.is_due(self.world.now()) {
                            due.entry(owner.clone()).or_default().alarms = true;
                        }
                    }
                    (AuditNew::Waiting(_), None) => {}
                }
                last = Some(owner);
            }
            match (page.cursor, last) {
                (Some(_), Some(owner)) => after = Some(key::behind_audit_new(owner.as_ref())),
                (Some(cursor), None) => after = Some(cursor),
                (None, _) => break,
            }
        }
        Ok(due)
    }

    /// Chains what a tenant has. True if alarms of it are to be delivered.
    async fn one(&self, owner: Option<&Id>) -> bool {
        if !self.goes_on(CALLS_FOR_ALARMS + CALLS_OF_PAGE + 2) {
            return false;
        }
        let label = key::audit_owner(owner);
        match self.next_page(owner).await {
            Ok(alarms) => alarms,
            Err(Stopped::Fault(fault)) => {
                let fields = [("tenant", label), ("fault", fault.label())];
                self.world.log(Level::Error, "audit.fault", &fields);
                false
            }
            Err(Stopped::Broken(why)) => {
                let fields = [("tenant", label), ("why", why)];
                self.world.log(Level::Error, "audit.broken", &fields);
                false
            }
        }
    }

    async fn next_page(&self, owner: Option<&Id>) -> Result<bool, Stopped> {
        self.allowance.spend(2);
        let Place { head, version } = place(self.world, owner).await?;
        let chained = self.names_of_last(owner, &head).await?;
        // After the last page: what of it is still listed was not deleted yet.
        let waiting = self.listed(owner).await?;
        let last = waiting.events.last_key_value().map(|(name, _)| name);
        let left_over: Vec<&str> = chained
            .iter()
            .filter(|name| {
                let behind = waiting.cut && last.is_none_or(|last| *name > last);
                behind || waiting.events.contains_key(*name)
            })
            .map(String::as_str)
            .collect();
        let enough =
            |calls: usize| usize::try_from(self.allowance.left()).is_ok_and(|l| l >= calls);
        if !enough(left_over.len()) {
            return Ok(false);
        }
        self.delete(owner, &left_over).await?;

        let kept = CALLS_FOR_ALARMS + CALLS_OF_PAGE;
        let left = self.allowance.left().saturating_sub(kept) / 2;
        let most = EVENTS_PER_PAGE.min(usize::try_from(left).unwrap_or_default());
        let names: Vec<&str> = waiting
            .events
            .keys()
            .filter(|name| !chained.contains(*name))
            .map(String::as_str)
            .take(most)
            .collect();
        let events = self.events(owner, &waiting, &names).await?;
        if events.is_empty() {
            return Ok(false);
        }
        let (page, end) = chain::extend(&head.end, &events)?;
        let alarms = self.announce(owner, &end, &events).await?;
        let key = key::audit_page(owner, end.page);
        self.allowance.spend(1);
        let r2 = self.world.r2();
        let put = r2
            .put(&key, page.into_bytes(), BTreeMap::new(), Only::Absent)
            .await?;
        let (end, events) = match put {
            Some(_) => (end, events),
            None => match self.adopt(owner, &head).await? {
                Some(adopted) => adopted,
                None => return Ok(false),
            },
        };
        let head = Head {
            end,
            before: head.end,
        };
        if !self.move_head(owner, &head, version.as_deref()).await? {
            // Another run did it; it also deletes.
            return Ok(false);
        }
        let seq = head.end.seq.to_string();
        // The log is kept elsewhere: whoever puts the bucket back does not put that back.
        let fields = [
            ("tenant", key::audit_owner(owner)),
            ("seq", seq.as_str()),
            ("hash", head.end.hash.as_str()),
        ];
        self.world.log(Level::Info, "audit.chained", &fields);
        let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
        self.delete(owner, &names).await?;
        Ok(alarms)
    }

    /// What stands in the last page, by name. A page that is gone or was changed says nothing: the chain
    /// goes on from its head, and shows the damage to whoever verifies it.
    async fn names_of_last(
        &self,
        owner: Option<&Id>,
        head: &Head,
    ) -> Result<BTreeSet<String>, Fault> {
        if head.end.page == 0 {
            return Ok(BTreeSet::new());
        }
        self.allowance.spend(1);
        let object = self
            .world
            .r2()
            .get(&key::audit_page(owner, head.end.page))
            .await?;
        let followed = object.and_then(|object| chain::follow(&head.before, &object.body).ok());
        if let Some((links, _)) = followed.filter(|(_, end)| *end == head.end) {
            return Ok(in_order(links.into_iter().map(|link| link.entry.id)));
        }
        let fields = [
            ("tenant", key::audit_owner(owner)),
            ("why", "the last page was changed or is gone"),
        ];
        self.world.log(Level::Error, "audit.broken", &fields);
        Ok(BTreeSet::new())
    }

    /// What of a tenant waits: the first thousand.
    async fn listed(&self, owner: Option<&Id>) -> Result<Listed, Fault> {
        self.allowance.spend(1);
        let prefix = key::audit_new(owner, "");
        let page = self.world.r2().list(&prefix, None, LISTED).await?;
        Ok(Listed {
            cut: page.cursor.is_some(),
            events: in_order(page.entries.into_iter().filter_map(named)),
        })
    }

    /// Reads events that wait; one that was deleted meanwhile was chained by another run.
    async fn events(
        &self,
        owner: Option<&Id>,
        waiting: &Listed,
        names: &[&str],
    ) -> Result<Vec<(String, Event)>, Fault> {
        self.allowance
            .spend(u32::try_from(names.len()).unwrap_or(u32::MAX));
        let none = BTreeMap::new();
        let reads = names.iter().map(|name| async {
            let object = self.world.r2().get(&key::audit_new(owner, name)).await?;
            let metadata = waiting.events.get(*name).unwrap_or(&none);
            let read = |body: &[u8]| audit::read(self.world.keys(), owner, name, body, metadata);
            Ok(object.map(|object| ((*name).to_owned(), read(&object.body))))
        });
        stream::iter(reads)
            .buffered(AT_ONCE)
            .try_filter_map(|read| async { Ok(read) })
            .try_collect()
            .await
    }

    async fn delete(&self, owner: Option<&Id>, names: &[&str]) -> Result<(), Fault> {
        self.allowance
            .spend(u32::try_from(names.len()).unwrap_or(u32::MAX));
        let deletes = names
            .iter()
            .map(|name| async { self.world.r2().delete(&key::audit_new(owner, name)).await });
        stream::iter(deletes)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Before a page is put with what a webhook wants: that it is to be delivered. True if it is.
    async fn announce(
        &self,
        owner: Option<&Id>,
        end: &End,
        events: &[(String, Event)],
    ) -> Result<bool, Fault> {
        let interesting = events
            .iter()
            .any(|(_, event)| webhook::is_of_interest(event));
        let Some(tenant) = owner.filter(|_| interesting) else {
            return Ok(false);
        };
        self.allowance.spend(1);
        let Some(target) = webhook::of(self.world, tenant).await? else {
            return Ok(false);
        };
        let alarms = events.iter().filter(|(_, event)| target.wants(event));
        let alarms = alarms.count();
        if alarms == 0 {
            return Ok(false);
        }
        let waiting = Waiting::new(alarms, self.world.now());
        self.allowance.spend(1);
        waiting.put(self.world, tenant, end.page).await?;
        Ok(true)
    }

    /// The page behind the head, which another run put and was cut off before it could move the
    /// head: then all that stands in it still waits. `None` if that run moved the head meanwhile.
    async fn adopt(
        &self,
        owner: Option<&Id>,
        head: &Head,
    ) -> Result<Option<(End, Vec<(String, Event)>)>, Stopped> {
        const FORGED: Stopped = Stopped::Broken("the page behind the head is none that we put");
        self.allowance.spend(1);
        let key = key::audit_page(owner, head.end.page + 1);
        let Some(object) = self.world.r2().get(&key).await? else {
            return Ok(None);
        };
        let links = chain::links(&object.body).ok_or(FORGED)?;
        let waiting = self.listed(owner).await?;
        let names: Vec<&str> = links.iter().map(|link| link.entry.id.as_str()).collect();
        let events = self.events(owner, &waiting, &names).await?;
        let (page, end) = chain::extend(&head.end, &events)?;
        if page.as_bytes() == object.body {
            return Ok(Some((end, events)));
        }
        self.allowance.spend(2);
        let moved = place(self.world, owner).await?.head.end.page > head.end.page;
        if moved { Ok(None) } else { Err(FORGED) }
    }

    /// Moves the head; false if it was moved meanwhile.
    async fn move_head(
        &self,
        owner: Option<&Id>,
        head: &Head,
        version: Option<&str>,
    ) -> Result<bool, Fault> {
        let key = key::audit_head(owner);
        let line = head.write(self.world.keys(), owner)?;
        let only = version.map_or(Only::Absent, Only::Version);
        self.allowance.spend(2);
        let r2 = self.world.r2();
        let put = r2
            .put(&key, line.clone().into_bytes(), BTreeMap::new(), only)
            .await?;
        if put.is_none() {
            return Ok(false);
        }
        // Only so that a bucket that is put back does not go unseen.
        if let Err(fault) = store::put_mapping(self.world, &key, &line, None, None).await {
            let fields = [
                ("tenant", key::audit_owner(owner)),
                ("fault", fault.label()),
            ];
            self.world.log(Level::Warn, "audit.copy", &fields);
        }
        Ok(true)
    }

    async fn deliver(&self, tenant: &Id) {
        if !self.goes_on(webhook::CALLS_OF_ATTEMPT) {
            return;
        }
        let delivered = webhook::deliver(self.world, tenant, self.allowance).await;
        if let Err(fault) = delivered {
            let fields = [("tenant", tenant.as_str()), ("fault", fault.label())];
            self.world.log(Level::Error, "webhook.fault", &fields);
        }
    }

    /// Signs heads with the key that is in use now, so that they still count when the old one is
    /// taken away: elsewhere each minute.
    async fn sign_heads_anew(&self) {
        let mut heads = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..LISTINGS {
            self.allowance.spend(1);
            let r2 = self.world.r2();
            let listed = r2.list(key::ALL_AUDIT_HEADS, after.as_deref(), LISTED);
            match listed.await {
                Ok(page) => {
                    heads.extend(page.entries);
                    after = page.cursor;
                }
                Err(fault) => {
                    let fields = [("fault", fault.label())];
                    return self.world.log(Level::Error, "audit.fault", &fields);
                }
            }
            if after.is_none() {
                break;
            }
        }
        let minute = usize::try_from(self.began.0 / 60).unwrap_or_default();
        let start = minute.wrapping_mul(HEADS_PER_RUN).checked_rem(heads.len());
        heads.rotate_left(start.unwrap_or_default());
        for entry in heads.iter().take(HEADS_PER_RUN) {
            let Ok(owner) = key::parse_audit_head(&entry.key) else {
                continue;
            };
            if !self.goes_on(3) {
                break;
            }
            if let Err(fault) = self.sign_anew(owner.as_ref()).await {
                let label = key::audit_owner(owner.as_ref());
                let fields = [("tenant", label), ("fault", fault.label())];
                self.world.log(Level::Error, "audit.fault", &fields);
            }
        }
    }

    async fn sign_anew(&self, owner: Option<&Id>) -> Result<(), Fault> {
        self.allowance.spend(1);
        let Some(object) = self.world.r2().get(&key::audit_head(owner)).await? else {
            return Ok(());
        };
        // What neither key signed is not made good by signing it.
        if let Some((head, Signer::Old)) = Head::read(self.world.keys(), owner, &object.body) {
            self.move_head(owner, &head, Some(&object.etag)).await?;
        }
        Ok(())
    }
}

/// The events of a tenant that wait, by name, each with what the listing says of it.
struct Listed {
    events: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether there are more.
    cut: bool,
}

/// The name of an event in a listing, and what the listing says of it.
#[must_use]
pub fn named(entry: ObjectEntry) -> Option<(String, BTreeMap<String, String>)> {
    match key::parse_audit_new(&entry.key)? {
        (_, AuditNew::Event(name)) => Some((name.to_owned(), entry.metadata)),
        (_, AuditNew::Waiting(_)) => None,
    }
}

/// Why a chain does not go on.
enum Stopped {
    /// A store failed; the next run goes on.
    Fault(Fault),
    /// Somebody changed what only we write. Nothing more is chained, so that nothing covers it up.
    Broken(&'static str),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Where a chain ends.
pub struct Place {
    /// Its head; that of an empty one if there is none.
    pub head: Head,
    /// R2's `ETag` of it.
    pub version: Option<String>,
}

/// Why a head does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untrue {
    /// The store failed.
    Fault(Fault),
    /// None of our keys signed it so.
    Unsigned,
    /// It was further once: this is the first entry that it lost.
    PutBack(u64),
}

impl Untrue {
    /// What is wrong with the head.
    #[must_use]
    pub fn why(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.label(),
            Self::Unsigned => "the head is none that we signed",
            Self::PutBack(_) => "the head was put back to an older one",
        }
    }
}

impl From<Fault> for Untrue {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Untrue> for Stopped {
    fn from(untrue: Untrue) -> Self {
        match untrue {
            Untrue::Fault(fault) => Self::Fault(fault),
            broken => Self::Broken(broken.why()),
        }
    }
}

/// Reads where a chain ends, and whether it was further once: 2 calls.
///
/// KV's late copy is read first: a head that is behind it was put back, or taken away. A KV that
/// fails, or says what we never signed, is no witness.
///
/// # Errors
/// Why the head does not count.
pub async fn place<W: World>(world: &W, owner: Option<&Id>) -> Result<Place, Untrue> {
    let key = key::audit_head(owner);
    let copies = world.kv().get_many(std::slice::from_ref(&key)).await;
    let copy = copies.ok().and_then(|copies| copies.into_iter().next());
    let witness = copy
        .flatten()
        .and_then(|line| Head::read(world.keys(), owner, line.as_bytes()))
        .map_or(0, |(head, _)| head.end.seq);
    let place = head(world, owner).await?;
    if place.head.end.seq < witness {
        return Err(Untrue::PutBack(place.head.end.seq + 1));
    }
    Ok(place)
}

/// Reads where a chain ends, if we signed that.
///
/// # Errors
/// Why the head does not count.
pub async fn head<W: World>(world: &W, owner: Option<&Id>) -> Result<Place, Untrue> {
    let Some(object) = world.r2().get(&key::audit_head(owner)).await? else {
        return Ok(Place {
            head: Head::default(),
            version: None,
        });
    };
    let (head, _) = Head::read(world.keys(), owner, &object.body).ok_or(Untrue::Unsigned)?;
    Ok(Place {
        head,
        version: Some(object.etag),
    })
}

/// The entries of one page of a chain, as they stand there; none if it is gone or no page.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn links<W: World>(world: &W, owner: Option<&Id>, page: u64) -> Result<Vec<Link>, Fault> {
    let object = world.r2().get(&key::audit_page(owner, page)).await?;
    Ok(object
        .and_then(|object| chain::links(&object.body))
        .unwrap_or_default())
}
