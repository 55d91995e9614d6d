//! The part of a run that makes files again which a changed record or new templates made stale, and
//! that tells phones to fetch them. Both in pieces: a run does so many, the next one goes on.

use std::collections::BTreeMap;

use super::tell::{self, Teller};
use super::{PAGE, PbxSummary, Run, rollout, rotate};
use crate::audit;
use crate::fault::Fault;
use crate::finish;
use crate::json;
use crate::key::{self, Kind, Regenerated};
use crate::mac::Mac;
use crate::ports::{Level, Mappings, Object, ObjectEntry, Objects, Only, World};
use crate::record::Stored;
use crate::record::account::Account;
use crate::record::device::Device;
use crate::record::tenant::Tenant;
use crate::resync::{self, Mark, Outcome, Progress, Told, Turn};
use crate::rollout::templates;
use crate::rollout::{Subject, begin_templates};
use crate::store;
use crate::text::Id;
use crate::time::Timestamp;
use crate::vendor::VendorId;

/// The most devices whose files one run makes again.
const REFRESHES: u32 = 25;

/// The calls of one: it, what it is made of (four lines at two PBXes), the write and the mark.
const CALLS_OF_REFRESH: u32 = 14;

/// The most phones that one run tells.
const TELLS: usize = 25;

/// The most pages of marks that one run looks at.
const MARK_PAGES: usize = 3;

/// How old a change must be before it is decided from KV which devices it concerns, in seconds: KV
/// is late by a minute, and a device may have got its profile a moment before.
pub(super) const KV_KNOWS_S: u64 = 75;

/// How many keys KV gives at once (Workers KV limits).
pub(super) const BULK: u32 = 100;

/// How often it is looked whether the templates are new, in minutes.
const TEMPLATES_EVERY_MIN: u64 = 10;

impl<W: World> Run<'_, W> {
    /// Brings on roll-outs, makes stale files again and tells phones: how many roll-outs there are. A fault
    /// costs this part of the run only.
    pub(super) async fn resync(
        &self,
        origin: Option<&str>,
        pbxes: &BTreeMap<Id, PbxSummary>,
    ) -> u32 {
        let templates = self.templates().await;
        let listed = self.list_regenerate().await;
        let entries = listed.as_deref().unwrap_or_default();
        let rollouts = self.roll_out(entries, pbxes).await;
        for (what, done) in [
            ("templates", templates),
            ("regenerate", self.regenerate(entries, origin).await),
            ("tell", self.tell_phones().await),
            ("list", listed.map(drop)),
        ] {
            if let Err(fault) = done {
                let fields = [("what", what), ("fault", fault.label())];
                self.world.log(Level::Warn, "resync.fault", &fields);
            }
        }
        rollouts
    }

    async fn list_regenerate(&self) -> Result<Vec<ObjectEntry>, Fault> {
        self.spend(1);
        let r2 = self.world.r2();
        Ok(r2.list(key::ALL_REGENERATE, None, PAGE).await?.entries)
    }

    /// Has all files made again if this code has other templates than the code before.
    async fn templates(&self) -> Result<(), Fault> {
        if !(self.began.0 / 60).is_multiple_of(TEMPLATES_EVERY_MIN) || self.is_over() {
            return Ok(());
        }
        let bytes =
            serde_json::to_vec(&templates::numbers()).map_err(|_| Fault::Broken("templates"))?;
        let object = self.get(key::TEMPLATES).await?;
        let known = object.map(|object| object.body);
        if known.as_ref() == Some(&bytes) {
            return Ok(());
        }
        // What was never written down is no change.
        if known.is_some() {
            // The files of a tenant that wants a roll-out are not stale by it; those of all others are.
            for what in [Regenerated::Rollouts, Regenerated::Templates] {
                self.spend(1);
                resync::regenerate(self.world, what, None, None).await?;
            }
        }
        self.spend(1);
        let put = self
            .world
            .r2()
            .put(key::TEMPLATES, bytes, BTreeMap::new(), Only::Always);
        put.await?;
        Ok(())
    }

    /// Makes the files of some more devices again.
    async fn regenerate(&self, entries: &[ObjectEntry], origin: Option<&str>) -> Result<(), Fault> {
        // The last of a record covers those before it, wherever they are.
        let mut newest: BTreeMap<Regenerated<'_>, (Timestamp, &str)> = BTreeMap::new();
        let mut covered = Vec::new();
        for entry in entries {
            let Some((what, at)) = key::parse_regenerate(&entry.key) else {
                continue;
            };
            covered.extend(newest.insert(what, (at, entry.key.as_str())));
        }
        for (_, key) in covered {
            if self.is_over() {
                return Ok(());
            }
            self.spend(1);
            self.world.r2().delete(key).await?;
        }
        let mut left = REFRESHES;
        let mut turns: Vec<_> = newest.into_iter().collect();
        rotate(&mut turns, 1, self.began);
        for (what, (at, key)) in turns {
            if self.began.since(at) < KV_KNOWS_S {
                continue;
            }
            if what == Regenerated::Rollouts {
                self.begin_rollouts(key).await?;
            } else {
                self.go_on(what, key, origin, &mut left).await?;
            }
            if left == 0 || self.is_over() {
                break;
            }
        }
        Ok(())
    }

    /// Goes on with the devices of one record, until there is no more or this run did enough.
    async fn go_on(
        &self,
        what: Regenerated<'_>,
        key: &str,
        origin: Option<&str>,
        left: &mut u32,
    ) -> Result<(), Fault> {
        let Some(Object { body, etag }) = self.get(key).await? else {
            return Ok(());
        };
        let mut progress: Progress = json::read(&body).map_err(|_| Fault::Broken("progress"))?;
        let prefix = match &progress.tenant {
            Some(tenant) => key::owned_by(tenant, Some(Kind::Device)),
            None => key::records(Kind::Device),
        };
        let mut after = progress.after;
        loop {
            self.spend(1);
            let from = after.map(|mac| format!("{prefix}{mac}"));
            let page = self.world.r2().list(&prefix, from.as_deref(), BULK).await?;
            let macs = page
                .entries
                .iter()
                .filter_map(|entry| key::last(&entry.key).parse().ok());
            let macs: Vec<Mac> = macs.collect();
            for (mac, concerned) in self.concerned(what, &macs).await? {
                let only = progress.only.as_ref();
                if concerned && only.is_none_or(|only| only.has(mac)) {
                    if *left == 0 || self.is_over() {
                        return self.keep(key, &progress, after, &etag).await;
                    }
                    *left -= 1;
                    self.spend(CALLS_OF_REFRESH);
                    let device = self.refresh(mac, origin).await;
                    if matches!(what, Regenerated::TemplatesOf(..)) {
                        count(&mut progress, device.as_ref());
                    }
                }
                after = Some(mac);
            }
            if page.cursor.is_none() {
                if let Regenerated::TemplatesOf(tenant, vendor) = what {
                    self.tell_given_back(tenant, vendor, &progress).await?;
                }
                self.spend(1);
                return self.world.r2().delete(key).await;
            }
            if self.is_over() {
                return self.keep(key, &progress, after, &etag).await;
            }
        }
    }

    /// Begins the roll-outs of new templates, tenant after tenant. Whoever turned them on a moment ago is not
    /// shown by KV yet, and began with these templates.
    async fn begin_rollouts(&self, key: &str) -> Result<(), Fault> {
        let Some(Object { body, etag }) = self.get(key).await? else {
            return Ok(());
        };
        let mut progress: Progress = json::read(&body).map_err(|_| Fault::Broken("progress"))?;
        let prefix = key::records(Kind::Tenant);
        loop {
            self.spend(2);
            let from = progress.after_tenant.as_ref();
            let from = from.map(|tenant| format!("{prefix}{tenant}"));
            let page = self.world.r2().list(&prefix, from.as_deref(), BULK).await?;
            let keys: Vec<String> = page.entries.into_iter().map(|entry| entry.key).collect();
            let texts = if keys.is_empty() {
                Vec::new()
            } else {
                self.world.kv().get_many(&keys).await?
            };
            for (name, text) in keys.iter().zip(texts) {
                if self.is_over() {
                    return self.keep(key, &progress, None, &etag).await;
                }
                let Ok(tenant) = Id::try_from(key::last(name)) else {
                    continue;
                };
                let copy = text.and_then(|text| Stored::<Tenant>::read(text.as_bytes()).ok());
                let state = copy.map(|copy| copy.state);
                // Of one that KV does not show, R2 says it.
                if state.is_none_or(|state| state.is_some_and(|state| state.has_news())) {
                    self.spend(rollout::CALLS_OF_TURN);
                    begin_templates(self.world, &tenant).await?;
                }
                progress.after_tenant = Some(tenant);
            }
            if page.cursor.is_none() {
                self.spend(1);
                return self.world.r2().delete(key).await;
            }
        }
    }

    /// Says how many canaries of stopped templates have what they had before, and how many the new ones still,
    /// since something else of theirs changed meanwhile: what was kept of them holds an old secret, perhaps.
    async fn tell_given_back(
        &self,
        tenant: &str,
        vendor: VendorId,
        progress: &Progress,
    ) -> Result<(), Fault> {
        let Some(only) = &progress.only else {
            return Ok(());
        };
        self.spend(1);
        let loaded = store::load::<Tenant, W>(self.world, tenant).await?;
        let state = loaded.and_then(|loaded| loaded.stored.state);
        let rollout = state.and_then(|mut state| state.rollouts.remove(&vendor));
        let Some(rollout) = rollout else {
            return Ok(());
        };
        if rollout.is_open() || only.edition() != u64::from(rollout.number) {
            return Ok(());
        }
        let tenant = Id::try_from(tenant).map_err(|_| Fault::Broken("tenant id"))?;
        let subject = Subject::Templates {
            tenant: tenant.clone(),
            vendor,
            number: rollout.number,
        };
        let event = rollout::event(self.world, &subject, &tenant, "rollout.given_back");
        let event = event
            .with("given_back", progress.without.to_string())
            .with("kept", progress.with.to_string());
        self.spend(1);
        audit::note(self.world, &event).await;
        Ok(())
    }

    async fn keep(
        &self,
        key: &str,
        progress: &Progress,
        after: Option<Mac>,
        etag: &str,
    ) -> Result<(), Fault> {
        let next = Progress {
            after,
            ..progress.clone()
        };
        let bytes = serde_json::to_vec(&next).map_err(|_| Fault::Broken("progress"))?;
        self.spend(1);
        let put = self
            .world
            .r2()
            .put(key, bytes, BTreeMap::new(), Only::Version(etag));
        put.await?;
        Ok(())
    }

    /// One device's files. What fails is made when its phone asks.
    async fn refresh(&self, mac: Mac, origin: Option<&str>) -> Option<Stored<Device>> {
        let refreshed = async {
            // Under the origin that they have; one that was never made has none.
            let known = finish::refresh(self.world, mac, None).await?;
            let made = known.filter(|device| device.state.files.is_some());
            match (made, origin) {
                (Some(device), _) => {
                    resync::ask(self.world, mac, &device, resync::SPREAD_S).await?;
                    Ok(Some(device))
                }
                (None, Some(_)) => finish::refresh(self.world, mac, origin).await,
                (None, None) => Ok(None),
            }
        };
        refreshed.await.unwrap_or_else(|fault| {
            let mac = mac.to_string();
            let fields = [("mac", mac.as_str()), ("fault", fault.label())];
            self.world.log(Level::Warn, "regenerate.left", &fields);
            None
        })
    }

    /// Which of these devices' files are made of a record, as KV shows them. One that KV does not
    /// show may be: to look is no harm.
    async fn concerned(
        &self,
        what: Regenerated<'_>,
        macs: &[Mac],
    ) -> Result<Vec<(Mac, bool)>, Fault> {
        if macs.is_empty()
            || matches!(
                what,
                Regenerated::Templates | Regenerated::Record(Kind::Tenant, _)
            )
        {
            return Ok(macs.iter().map(|mac| (*mac, true)).collect());
        }
        let keys: Vec<String> = macs
            .iter()
            .map(|mac| key::record(Kind::Device, &mac.to_string()))
            .collect();
        self.spend(1);
        let texts = self.world.kv().get_many(&keys).await?;
        let devices: Vec<Option<Stored<Device>>> = texts
            .into_iter()
            .map(|text| Stored::read(text?.as_bytes()).ok())
            .collect();
        let mut pbxes: BTreeMap<Id, Id> = BTreeMap::new();
        let of_pbx = matches!(what, Regenerated::Record(Kind::Pbx, _));
        if of_pbx {
            let of_all = devices.iter().flatten();
            let accounts = of_all.flat_map(|device| &device.host().lines);
            let mut accounts: Vec<&Id> = accounts.map(|line| &line.account).collect();
            accounts.sort();
            accounts.dedup();
            let bulk = usize::try_from(BULK).unwrap_or(1);
            for some in accounts.chunks(bulk) {
                let keys: Vec<String> = some
                    .iter()
                    .map(|id| key::record(Kind::Account, id.as_str()))
                    .collect();
                self.spend(1);
                let texts = self.world.kv().get_many(&keys).await?;
                for (id, text) in some.iter().zip(texts) {
                    let stored =
                        text.and_then(|text| Stored::<Account>::read(text.as_bytes()).ok());
                    pbxes.extend(stored.map(|stored| ((*id).clone(), stored.record.pbx)));
                }
            }
        }
        let concerned = |device: &Option<Stored<Device>>| {
            let Some(device) = device else { return true };
            let lines = device.host().lines.iter();
            let own: Vec<Id> = lines
                .filter_map(|line| pbxes.get(&line.account).cloned())
                .collect();
            // An account that KV does not show may be at that PBX.
            let unknown = of_pbx && own.len() < device.host().lines.len();
            unknown || resync::concerns(what, device.host(), &own)
        };
        Ok(macs
            .iter()
            .zip(&devices)
            .map(|(mac, device)| (*mac, concerned(device)))
            .collect())
    }

    /// Tells some of the phones that are due.
    async fn tell_phones(&self) -> Result<(), Fault> {
        let mut due: Vec<Mac> = Vec::new();
        let mut after: Option<String> = None;
        let now = self.world.now();
        for _ in 0..MARK_PAGES {
            self.spend(1);
            let page = self
                .world
                .r2()
                .list(key::ALL_RESYNC, after.as_deref(), PAGE)
                .await?;
            let is_due = |metadata: &BTreeMap<String, String>| {
                let at = metadata
                    .get(resync::NOT_BEFORE)
                    .and_then(|at| at.parse().ok());
                at.is_none_or(|at| Timestamp(at) <= now)
            };
            let entries = page.entries.iter().filter(|entry| is_due(&entry.metadata));
            due.extend(entries.filter_map(|entry| key::last(&entry.key).parse::<Mac>().ok()));
            after = page.cursor;
            if after.is_none() {
                break;
            }
        }
        // Elsewhere each minute, so that some that have to wait do not hold up the others.
        rotate(&mut due, TELLS, self.began);
        let mut teller = Teller::new(self.world, &self.calls);
        for mac in due.into_iter().take(TELLS) {
            if self.is_over() {
                break;
            }
            if let Err(fault) = self.tell_one(&mut teller, mac).await {
                let mac = mac.to_string();
                let fields = [("mac", mac.as_str()), ("fault", fault.label())];
                self.world.log(Level::Warn, "resync.left", &fields);
            }
        }
        Ok(())
    }

    /// One phone. What became of it is written before the mark goes, so that a run that is cut off
    /// loses nobody; at worst, between the NOTIFY and that, the phone is told twice.
    async fn tell_one(&self, teller: &mut Teller<'_, W>, mac: Mac) -> Result<(), Fault> {
        self.spend(3);
        let Some(mark) = resync::mark(self.world, mac).await? else {
            return self.world.r2().delete(&key::resync(mac)).await;
        };
        let told = resync::told(self.world, mac).await?;
        let loaded = store::load::<Device, W>(self.world, &mac.to_string()).await?;
        let device = loaded.map(|loaded| loaded.stored);
        let turn = device
            .as_ref()
            .map_or(Turn::Over, |device| resync::turn(device, told.as_ref()));
        let (Turn::Tell(version), Some(device)) = (turn, device) else {
            return self.done(mac).await;
        };
        let lines = teller.tell(mac, device.host()).await?;
        let now = self.world.now();
        let state = match tell::outcome(&lines) {
            Ok(state) => state,
            Err(_) if now.since(mark.since) >= resync::GIVE_UP_S => Outcome::LeftToItsPoll,
            Err(why) => {
                if mark.why != Some(why) {
                    let mark = Mark {
                        why: Some(why),
                        ..mark
                    };
                    self.spend(1);
                    resync::put_mark(self.world, mac, &mark, Only::Always).await?;
                }
                return Ok(());
            }
        };
        let told = Told {
            version,
            state,
            at: now,
        };
        self.spend(1);
        resync::put_told(self.world, mac, &told).await?;
        self.done(mac).await
    }

    /// Takes a mark away, and puts it again if a save wanted it in the meantime.
    async fn done(&self, mac: Mac) -> Result<(), Fault> {
        self.spend(3);
        self.world.r2().delete(&key::resync(mac)).await?;
        let loaded = store::load::<Device, W>(self.world, &mac.to_string()).await?;
        let Some(device) = loaded.map(|loaded| loaded.stored) else {
            return Ok(());
        };
        let told = resync::told(self.world, mac).await?;
        match resync::turn(&device, told.as_ref()) {
            Turn::Over => Ok(()),
            Turn::Tell(_) => resync::ask(self.world, mac, &device, 0).await,
        }
    }
}

/// Counts a canary by the templates that its files have.
fn count(progress: &mut Progress, device: Option<&Stored<Device>>) {
    let files = device.and_then(|device| device.state.files.as_ref());
    let (Some(only), Some(files)) = (&progress.only, files) else {
        return;
    };
    let count = if u64::from(files.sources.templates) >= only.edition() {
        &mut progress.with
    } else {
        &mut progress.without
    };
    *count = count.saturating_add(1);
}
