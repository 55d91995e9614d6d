//! The part of a run that brings roll-outs on: chooses the canaries of each, sees whether they keep their
//! registration, and gives the settings to everybody or stops. What is decided by what stands in
//! [`crate::rollout`].

use std::collections::BTreeMap;

use super::resync::{BULK, KV_KNOWS_S};
use super::{OK, PbxSummary, Run, pbx_memory, rotate};
use crate::audit::{self, DIALTONE, Event};
use crate::fault::Fault;
use crate::json;
use crate::key::{self, Kind};
use crate::mac::Mac;
use crate::ports::{Level, Mappings, Object, ObjectEntry, Objects, Only, World};
use crate::reconcile::Memory;
use crate::record::Stored;
use crate::record::device::Device;
use crate::record::profile::Profile;
use crate::record::tenant::{RolloutTerms, Tenant};
use crate::rollout::{
    self, Canary, Line, Phase, Progress, Stage, Stopped, Subject, Turn, Verdict, Watched, Why,
};
use crate::store;
use crate::text::Id;
use crate::time::Timestamp;

/// The most roll-outs that one run brings on; with more, others in the next one.
const ROLLOUTS: usize = 10;

/// The most pages of a tenant's devices that a run goes through for one of them: 4,000 devices.
const PAGES: u32 = 40;

/// The most canaries of one of them whose devices a run reads.
const READS: usize = 40;

/// The calls of one: the device, and the accounts of two lines.
const CALLS_OF_READ: u32 = 3;

/// The calls of a change of stage: its mark, the profile or tenant, KV's copy, the lists, the mark of the files.
pub(super) const CALLS_OF_TURN: u32 = 14;

/// A roll-out as it is stored.
struct Found {
    tenant: Id,
    since: Timestamp,
    stage: Stage,
}

/// A roll-out, and what is known of it.
struct Open<'a> {
    subject: &'a Subject,
    tenant: Id,
    since: Timestamp,
    terms: RolloutTerms,
    progress: Progress,
}

impl<W: World> Run<'_, W> {
    /// Brings on the roll-outs whose marks are among `entries`; says how many there are. `pbxes`: what this
    /// run found at each.
    pub(super) async fn roll_out(
        &self,
        entries: &[ObjectEntry],
        pbxes: &BTreeMap<Id, PbxSummary>,
    ) -> u32 {
        let parsed = entries.iter().filter_map(|entry| {
            let subject = key::parse_rollout(&entry.key)?;
            Some((entry.key.as_str(), subject))
        });
        let mut open: Vec<_> = parsed.collect();
        let count = u32::try_from(open.len()).unwrap_or(u32::MAX);
        rotate(&mut open, ROLLOUTS, self.began);
        for (key, subject) in open.into_iter().take(ROLLOUTS) {
            if self.is_over() {
                break;
            }
            if let Err(fault) = self.bring_on(key, &subject, pbxes).await {
                let resource = subject.resource();
                let fields = [("resource", resource.as_str()), ("fault", fault.label())];
                self.world.log(Level::Warn, "rollout.fault", &fields);
            }
        }
        count
    }

    async fn bring_on(
        &self,
        key: &str,
        subject: &Subject,
        pbxes: &BTreeMap<Id, PbxSummary>,
    ) -> Result<(), Fault> {
        let Some(Object { body, etag }) = self.get(key).await? else {
            return Ok(());
        };
        let Some(Found {
            tenant,
            since,
            stage,
        }) = self.find(subject).await?
        else {
            // It is over, or a later one is under way, which has a mark of its own.
            return self.unmark(key).await;
        };
        if let Stage::Stopped(stopped) = &stage {
            // Told before the mark goes: at worst twice.
            self.tell_stopped(subject, &tenant, stopped).await;
            return self.unmark(key).await;
        }
        self.spend(1);
        let Some(terms) = rollout::terms(self.world, &tenant).await? else {
            return self.to_everybody(key, subject, &tenant, "off").await;
        };
        // What nobody can read is seen anew.
        let progress: Progress = json::read(&body).unwrap_or_default();
        let progress = if progress.since == since {
            progress
        } else {
            Progress {
                since,
                ..Progress::default()
            }
        };
        let before = progress.clone();
        let mut open = Open {
            subject,
            tenant,
            since,
            terms,
            progress,
        };
        match stage {
            Stage::Choosing => self.choose(key, &mut open).await?,
            Stage::Canary(canary) => self.watch(key, &mut open, &canary, pbxes).await?,
            Stage::Stopped(_) => {}
        }
        if open.progress != before {
            let bytes =
                serde_json::to_vec(&open.progress).map_err(|_| Fault::Broken("progress"))?;
            self.spend(1);
            let only = Only::Version(&etag);
            let r2 = self.world.r2();
            r2.put(key, bytes, BTreeMap::new(), only).await?;
        }
        Ok(())
    }

    /// The roll-out as it is stored, if it is still the one that is under way.
    async fn find(&self, subject: &Subject) -> Result<Option<Found>, Fault> {
        self.spend(1);
        Ok(match subject {
            Subject::Profile { id, edition } => {
                let loaded = store::load::<Profile, W>(self.world, id.as_str()).await?;
                let stored = loaded.map(|loaded| loaded.stored).filter(Stored::alive);
                stored.and_then(|Stored { record, state, .. }| {
                    let rollout = state.filter(|rollout| rollout.edition == *edition)?;
                    Some(Found {
                        tenant: record.tenant,
                        since: rollout.since,
                        stage: rollout.stage,
                    })
                })
            }
            Subject::Templates {
                tenant,
                vendor,
                number,
            } => {
                let loaded = store::load::<Tenant, W>(self.world, tenant.as_str()).await?;
                let stored = loaded.map(|loaded| loaded.stored).filter(Stored::alive);
                let rollout = stored.and_then(|stored| stored.state?.rollouts.remove(vendor));
                let rollout = rollout.filter(|rollout| rollout.number == *number);
                rollout.map(|rollout| Found {
                    tenant: tenant.clone(),
                    since: rollout.since,
                    stage: rollout.stage,
                })
            }
        })
    }

    async fn unmark(&self, key: &str) -> Result<(), Fault> {
        self.spend(1);
        self.world.r2().delete(key).await
    }

    /// Goes on with choosing the canaries. Nobody has anything new until it is known who of them is
    /// registered, and that is kept.
    async fn choose(&self, key: &str, open: &mut Open<'_>) -> Result<(), Fault> {
        match open.progress.phase.clone() {
            Phase::Listing { after, first } => {
                // KV shows whom it is about, a minute late.
                if self.began.since(open.since) < KV_KNOWS_S {
                    return Ok(());
                }
                self.list_devices(open, after, first).await?;
                if let Phase::Listing { after: None, .. } = open.progress.phase {
                    // It is about no phone.
                    let empty = "nobody has it";
                    self.to_everybody(key, open.subject, &open.tenant, empty)
                        .await?;
                }
                Ok(())
            }
            Phase::Baseline { below, left } => self.baseline(open, below, left).await,
            Phase::Watching { below } => self.begin(open, below).await,
        }
    }

    /// Goes through the tenant's devices, as KV shows them.
    async fn list_devices(
        &self,
        open: &mut Open<'_>,
        mut after: Option<Mac>,
        mut first: Vec<(u64, Mac)>,
    ) -> Result<(), Fault> {
        let prefix = key::owned_by(&open.tenant, Some(Kind::Device));
        for _ in 0..PAGES {
            self.spend(2);
            let from = after.map(|mac| format!("{prefix}{mac}"));
            let page = self.world.r2().list(&prefix, from.as_deref(), BULK).await?;
            let macs = page.entries.iter();
            let macs: Vec<Mac> = macs
                .filter_map(|entry| key::last(&entry.key).parse().ok())
                .collect();
            let keys = macs.iter();
            let keys: Vec<String> = keys
                .map(|mac| key::record(Kind::Device, &mac.to_string()))
                .collect();
            let texts = if keys.is_empty() {
                Vec::new()
            } else {
                self.world.kv().get_many(&keys).await?
            };
            for (mac, text) in macs.iter().zip(texts) {
                let copy = text.and_then(|text| Stored::<Device>::read(text.as_bytes()).ok());
                let device = match copy {
                    Some(copy) => Some(copy),
                    None => self.device(*mac).await?,
                };
                if device.is_some_and(|device| open.subject.is_about(&device)) {
                    rollout::keep_first(&mut first, open.subject.place(*mac), *mac);
                    open.progress.devices = open.progress.devices.saturating_add(1);
                }
            }
            if page.cursor.is_none() {
                let chosen = rollout::choose(&first, open.progress.devices, &open.terms);
                open.progress.phase = match chosen {
                    Some((below, left)) => Phase::Baseline { below, left },
                    None => Phase::default(),
                };
                return Ok(());
            }
            after = macs.last().copied().or(after);
            if self.is_over() {
                break;
            }
        }
        open.progress.phase = Phase::Listing { after, first };
        Ok(())
    }

    async fn device(&self, mac: Mac) -> Result<Option<Stored<Device>>, Fault> {
        self.spend(1);
        let loaded = store::load::<Device, W>(self.world, &mac.to_string()).await?;
        Ok(loaded.map(|loaded| loaded.stored))
    }

    /// Sees which canaries are registered.
    async fn baseline(
        &self,
        open: &mut Open<'_>,
        below: u64,
        mut left: Vec<Mac>,
    ) -> Result<(), Fault> {
        let mut memories = BTreeMap::new();
        for _ in 0..READS {
            if self.is_over() {
                break;
            }
            let Some(mac) = left.pop() else { break };
            let mut lines = match self.device(mac).await? {
                Some(device) => self.lines(mac, &device).await?,
                None => Vec::new(),
            };
            for line in &mut lines {
                let memory = self.memory_of(&mut memories, &line.pbx).await?;
                line.was = line.is_registered(memory) == Some(true);
            }
            open.progress.canaries.push(Watched {
                mac,
                lines,
                version: None,
                same: false,
                fetched: None,
                lost: None,
            });
        }
        open.progress.phase = if left.is_empty() {
            Phase::Watching { below }
        } else {
            Phase::Baseline { below, left }
        };
        Ok(())
    }

    /// The lines of a phone whose registration is its own alone; none while a user is logged in.
    async fn lines(&self, mac: Mac, device: &Stored<Device>) -> Result<Vec<Line>, Fault> {
        let mut lines = Vec::new();
        if device.state.session.is_some() {
            return Ok(lines);
        }
        for line in &device.host().lines {
            let account = self.account(&line.account).await?;
            let own = account.filter(|account| {
                account.alive()
                    && account.record.tenant == device.record.tenant
                    && account.state.devices.iter().all(|other| *other == mac)
            });
            lines.extend(own.map(|account| Line {
                account: line.account.clone(),
                pbx: account.record.pbx,
                username: account.record.username,
                was: false,
            }));
        }
        Ok(lines)
    }

    async fn memory_of<'m>(
        &self,
        memories: &'m mut BTreeMap<Id, Memory>,
        pbx: &Id,
    ) -> Result<&'m Memory, Fault> {
        if !memories.contains_key(pbx) {
            self.spend(1);
            let memory = pbx_memory(self.world, pbx).await?;
            memories.insert(pbx.clone(), memory);
        }
        memories.get(pbx).ok_or(Fault::Broken("pbx memory"))
    }

    /// Gives what is new to the canaries.
    async fn begin(&self, open: &Open<'_>, below: u64) -> Result<(), Fault> {
        self.spend(CALLS_OF_TURN);
        if rollout::turn(self.world, open.subject, Turn::Begin { below }).await? {
            let canaries = open.progress.canaries.len().to_string();
            let event = event(self.world, open.subject, &open.tenant, "rollout.begun");
            let event = event
                .with("canaries", canaries)
                .with("devices", open.progress.devices.to_string());
            self.spend(1);
            audit::note(self.world, &event).await;
        }
        Ok(())
    }

    /// Looks at the canaries, and decides.
    async fn watch(
        &self,
        key: &str,
        open: &mut Open<'_>,
        canary: &Canary,
        pbxes: &BTreeMap<Id, PbxSummary>,
    ) -> Result<(), Fault> {
        let clear = self.clear(&open.progress.canaries, pbxes).await?;
        let doubtful = rollout::note_standing(&mut open.progress.canaries, &clear);
        self.look_at(open, canary, &doubtful).await?;
        let canaries = &open.progress.canaries;
        let others = rollout::others(canaries, &clear, canary.at);
        let now = self.world.now();
        let (counts, verdict) =
            rollout::verdict(&open.progress, &open.terms, canary.at, &clear, others, now);
        match verdict {
            Verdict::Wait => Ok(()),
            Verdict::Everybody => {
                self.to_everybody(key, open.subject, &open.tenant, "proved")
                    .await
            }
            Verdict::Stop(why) => {
                self.spend(CALLS_OF_TURN);
                if rollout::turn(self.world, open.subject, Turn::Stop(why, counts)).await? {
                    let stopped = Stopped {
                        below: canary.below,
                        at: now,
                        why,
                        counts,
                    };
                    self.tell_stopped(open.subject, &open.tenant, &stopped)
                        .await;
                    self.unmark(key).await?;
                }
                Ok(())
            }
        }
    }

    /// What is remembered of the canaries' PBXes that gave a clear answer in this run.
    async fn clear(
        &self,
        canaries: &[Watched],
        pbxes: &BTreeMap<Id, PbxSummary>,
    ) -> Result<BTreeMap<Id, Memory>, Fault> {
        let mut clear = BTreeMap::new();
        for line in canaries.iter().flat_map(|canary| &canary.lines) {
            let said = pbxes.get(&line.pbx).is_some_and(|summary| {
                summary.outcome == OK && summary.report.breaker.offline.is_none()
            });
            if said {
                self.memory_of(&mut clear, &line.pbx).await?;
            }
        }
        Ok(clear)
    }

    /// Reads the devices of some canaries: first of those that seem to be lost, then of those that did not
    /// fetch yet.
    async fn look_at(
        &self,
        open: &mut Open<'_>,
        canary: &Canary,
        doubtful: &[Mac],
    ) -> Result<(), Fault> {
        let waiting = open.progress.canaries.iter();
        let waiting = waiting.filter(|watched| watched.fetched.is_none() && !watched.same);
        let mut waiting: Vec<Mac> = waiting.map(|watched| watched.mac).collect();
        // Others in each run.
        rotate(&mut waiting, READS / 2, self.began);
        let now = self.world.now();
        for mac in doubtful.iter().copied().chain(waiting).take(READS) {
            if self.is_over() {
                break;
            }
            self.spend(CALLS_OF_READ.saturating_sub(1));
            let device = self.device(mac).await?;
            let lines = match &device {
                Some(device) => self.lines(mac, device).await?,
                None => Vec::new(),
            };
            let (subject, canaries) = (open.subject, &mut open.progress.canaries);
            let Some(watched) = canaries.iter_mut().find(|watched| watched.mac == mac) else {
                continue;
            };
            let tells = device.is_some_and(|device| watched.look(&device, subject, canary, &lines));
            if !tells {
                canaries.retain(|watched| watched.mac != mac);
            } else if doubtful.contains(&mac) {
                watched.lost = Some(now);
            }
        }
        Ok(())
    }

    /// Ends a roll-out: everybody gets it.
    async fn to_everybody(
        &self,
        key: &str,
        subject: &Subject,
        tenant: &Id,
        why: &str,
    ) -> Result<(), Fault> {
        self.spend(CALLS_OF_TURN);
        let turn = Turn::Everybody { stopped_too: false };
        if rollout::turn(self.world, subject, turn).await? {
            let event = event(self.world, subject, tenant, "rollout.finished");
            self.spend(1);
            audit::note(self.world, &event.with("why", why)).await;
            self.unmark(key).await?;
        }
        Ok(())
    }

    /// Says that a roll-out was stopped, but for an admin's own word, which is written down as a call.
    async fn tell_stopped(&self, subject: &Subject, tenant: &Id, stopped: &Stopped) {
        if stopped.why == Why::Admin {
            return;
        }
        let counts = stopped.counts;
        let event = event(self.world, subject, tenant, "rollout.stopped")
            .with("why", stopped.why.word())
            .with("devices", counts.devices.to_string())
            .with("canaries", counts.canaries.to_string())
            .with("fetched", counts.fetched.to_string())
            .with("lost", counts.lost.to_string());
        self.spend(1);
        audit::note(self.world, &event.alarming()).await;
    }
}

/// An event of a roll-out that no person caused.
pub(super) fn event<W: World>(
    world: &W,
    subject: &Subject,
    tenant: &Id,
    action: &'static str,
) -> Event {
    subject.named(Event::new(
        world,
        DIALTONE,
        Some(tenant),
        action,
        subject.resource(),
    ))
}
