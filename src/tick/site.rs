//! A PBX while actions are done there: pushes, deletes, and the end of former passwords. Each begins with
//! what R2 says of the account at that moment and with whose the objects there are.

use std::collections::BTreeMap;

use http::Method;

use super::ari::{Ari, Stop};
use super::{LOOKS_AT_FORMER, Run, rotate};
use crate::audit::{self, Event};
use crate::fault::Fault;
use crate::finish;
use crate::key::{self, Kind};
use crate::ports::{Level, Object, Objects, World};
use crate::reconcile::{Action, Desired, Memory, Pushed, Why};
use crate::record::Stored;
use crate::record::account::{Account, PIN, Slot};
use crate::record::device::Device;
use crate::record::pbx::{Mode, Pbx};
use crate::rotation::{self, Fetched};
use crate::secret::Secret;
use crate::step7_register::{
    self as register, Class, Fields, FormerLogin, Found, PjsipObjects, Presence,
};
use crate::store;
use crate::text::{Id, Username};

/// Whose an object at the PBX is, after everything was weighed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whose {
    Nobodys,
    Ours(Found),
    Foreign,
}

/// The objects of a name, as they are at the PBX.
struct There {
    auth: Whose,
    aor: Whose,
    endpoint: Whose,
    /// The auths of former passwords, as far as they were looked at.
    former: BTreeMap<Slot, Whose>,
}

impl There {
    fn of(&self, class: Class) -> &Whose {
        match class {
            Class::Auth => &self.auth,
            Class::Aor => &self.aor,
            Class::Endpoint => &self.endpoint,
        }
    }

    /// Whether an object that the account must have is somebody else's.
    fn any_foreign(&self, objects: &PjsipObjects) -> bool {
        let former = objects.former.keys().map(|slot| self.former.get(slot));
        [&self.auth, &self.aor, &self.endpoint]
            .into_iter()
            .chain(former.flatten())
            .any(|whose| *whose == Whose::Foreign)
    }

    /// Whether nothing needs to be pushed or removed.
    fn are(&self, objects: &PjsipObjects) -> bool {
        let Self {
            auth: Whose::Ours(auth),
            aor: Whose::Ours(_),
            endpoint: Whose::Ours(endpoint),
            former,
        } = self
        else {
            return false;
        };
        let takes = |slot: &Slot, fields: &Fields| match former.get(slot) {
            Some(Whose::Ours(found)) => found.takes(fields),
            _ => false,
        };
        auth.takes(&objects.auth)
            && endpoint.hash.as_deref() == Some(&objects.hash)
            && objects.former.iter().all(|(slot, f)| takes(slot, f))
            && self.left_over(objects).next().is_none()
    }

    /// Whether the endpoint that is there takes all former passwords. One that is not there lets
    /// nobody in that could be locked out.
    fn names(&self, objects: &PjsipObjects, username: &Username) -> bool {
        let Whose::Ours(endpoint) = &self.endpoint else {
            return true;
        };
        let mut slots = objects.former.keys();
        slots.all(|slot| endpoint.names(&slot.object(username)))
    }

    /// The auths of ours whose passwords are over.
    fn left_over(&self, objects: &PjsipObjects) -> impl Iterator<Item = Slot> {
        let ours = self.former.iter();
        ours.filter(|(slot, whose)| {
            matches!(whose, Whose::Ours(_)) && !objects.former.contains_key(slot)
        })
        .map(|(slot, _)| *slot)
    }
}

/// How the trouble with one account ends: its own, or the end of this run's work at the PBX.
enum Failed {
    One(Why),
    All(Stop),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::All(stop)
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::All(fault.into())
    }
}

/// A PBX while actions are done there.
pub(super) struct Site<'a, W: World> {
    pub run: &'a Run<'a, W>,
    pub ari: &'a Ari<'a, W>,
    pub id: &'a Id,
    pub pbx: &'a Pbx,
    pub shape: &'a str,
    /// When the PBX's process started.
    pub started: &'a str,
    pub memory: Memory,
}

impl<W: World> Site<'_, W> {
    /// Does one action. True if it is done; false if there was nothing to do, or if it failed for
    /// this account alone.
    pub async fn act(&mut self, action: &Action) -> Result<bool, Stop> {
        let username = action.username();
        let (done, account, rev) = match action {
            Action::Create(desired)
            | Action::Mend(desired)
            | Action::Adopt(desired)
            | Action::Check(desired) => (
                self.push(desired, matches!(action, Action::Create(_)))
                    .await,
                Some(&desired.account),
                desired.rev,
            ),
            Action::Delete(username) => (self.delete(username).await, None, 0),
        };
        let (why, stop) = match done {
            Ok(done) => {
                // That what should be fine is fine is not worth a line.
                if done && !matches!(action, Action::Check(_)) {
                    self.log(Level::Info, action, "done");
                }
                return Ok(done);
            }
            Err(Failed::One(why)) => (why, None),
            Err(Failed::All(stop)) => (Why::Unclear, Some(stop)),
        };
        self.log(
            Level::Warn,
            action,
            stop.as_ref().map_or(why.word(), |stop| &stop.0),
        );
        self.memory
            .note_trouble(username, why, account, rev, self.run.world.now());
        stop.map_or(Ok(false), Err)
    }

    fn log(&self, level: Level, action: &Action, outcome: &str) {
        let fields = [
            ("pbx", self.id.as_str()),
            ("username", action.username().as_str()),
            ("action", action.word()),
            ("outcome", outcome),
        ];
        self.run.world.log(level, "pbx.action", &fields);
    }

    /// Sees to it that an account's objects are at the PBX as R2 says now. False if the account is
    /// not to be there any more. `missing`: its endpoint is not there.
    async fn push(&mut self, desired: &Desired, missing: bool) -> Result<bool, Failed> {
        let Desired {
            username, account, ..
        } = desired;
        let Some(stored) = self
            .run
            .account(account)
            .await?
            .filter(|stored| self.has(stored, username))
        else {
            self.memory.note_not_here(username, account, missing);
            return Ok(false);
        };
        if !register::can_be_named(username) {
            return Err(Failed::One(Why::Name));
        }
        let password = self
            .password(account, &stored)
            .map_err(|_| Failed::One(Why::Password))?;
        let former = self.former(account, &stored);
        // A user who may log in somewhere has room for that beforehand: the phone registers at once, and the
        // PBX is told of it within two minutes only.
        let may_log_in = stored.sealed.contains_key(PIN);
        let devices = stored.state.devices.len() + usize::from(may_log_in);
        let objects = register::objects(
            self.pbx,
            account,
            &stored.record,
            &password,
            &former,
            devices,
            self.run.world.keys(),
        )?;

        let mut there = self
            .three(username, account, |found| found.takes(&objects.auth))
            .await?;
        // What a push that was cut off left below no endpoint is found by a later look.
        if matches!(there.endpoint, Whose::Ours(_)) || !former.is_empty() {
            let logins = former.iter().map(|former| former.login);
            let logins: Vec<&Username> = logins.chain([stored.record.auth_username()]).collect();
            there.former = self
                .formers(username, account, &there.endpoint, &logins)
                .await?;
        }
        if there.any_foreign(&objects) {
            return Err(Failed::One(Why::Collision));
        }
        if !there.are(&objects) {
            let now = self.run.world.now();
            self.memory.note_written(username, self.started, now);
            self.put_all(username, account, &there, &objects).await?;
        }
        let pushed = Pushed {
            account: account.clone(),
            rev: stored.rev,
            shape: self.shape.to_owned(),
            verified_at: self.run.world.now(),
            since: None,
        };
        self.memory.note_pushed(username, pushed);
        Ok(true)
    }

    /// Ends the former passwords of accounts whose phones all have the new one, or whose time is
    /// over. The next run takes them away from the PBX. `clear`: the PBX has just said who is
    /// registered.
    pub async fn end_formers(&mut self, desired: &[Desired], clear: bool) {
        let mut rotating: Vec<&Desired> = desired.iter().filter(|d| d.rotating).collect();
        let most = usize::try_from(LOOKS_AT_FORMER).unwrap_or_default();
        rotate(&mut rotating, most, self.run.began);
        for desired in rotating {
            let looks = self.run.looks.get();
            if looks == 0 || self.run.is_over() {
                break;
            }
            self.run.looks.set(looks - 1);
            if let Err(fault) = self.end_former(desired, clear).await {
                let fields = [
                    ("account", desired.account.as_str()),
                    ("fault", fault.label()),
                ];
                self.run.world.log(Level::Warn, "password.kept", &fields);
            }
        }
    }

    /// One of them. Its record in R2 is what counts, also when it is written.
    async fn end_former(&mut self, desired: &Desired, clear: bool) -> Result<(), Fault> {
        let Desired {
            username, account, ..
        } = desired;
        // KV is late: it may be over already.
        let Some(stored) = self.run.account(account).await?.filter(|stored| {
            self.has(stored, username) && !stored.state.former_passwords.is_empty()
        }) else {
            self.memory.note_settled_password(account);
            return Ok(());
        };
        let login_rev = stored.state.login_rev;
        let registered =
            clear
                && self
                    .memory
                    .registration(username)
                    .is_some_and(|seen| seen.account == *account && seen.online)
                && (self.pbx.mode == Mode::Observe
                    || self.memory.pushed.get(username).is_some_and(|pushed| {
                        pushed.account == *account && pushed.rev >= login_rev
                    }));
        // Phones are looked at only if it may depend on them.
        let fetched = if stored.state.devices.is_empty() {
            Fetched::NoPhone
        } else if registered {
            let mut devices = Vec::new();
            for mac in &stored.state.devices {
                self.run.spend(1);
                let device = store::load::<Device, W>(self.run.world, &mac.to_string()).await?;
                devices.extend(device.map(|device| device.stored));
            }
            rotation::fetched(account, login_rev, &devices)
        } else {
            Fetched::NotAll
        };
        let now = self.run.world.now();
        let why = |former: &_| rotation::end(former, fetched, registered, now);
        let Some(end) = stored.state.former_passwords.iter().find_map(why) else {
            return Ok(());
        };
        // Each of its phones' files is looked at.
        let phones = u32::try_from(stored.state.devices.len()).unwrap_or(u32::MAX);
        self.run.spend(phones.saturating_mul(8).saturating_add(12));
        let world = self.run.world;
        let mut done = false;
        let mark = finish::begin(world, Kind::Account, account.as_str()).await?;
        let ended = store::update::<Account, W>(world, account.as_str(), |stored| {
            // Changed again in between: that has another look coming.
            done = false;
            if !stored.alive() || stored.state.login_rev != login_rev {
                return false;
            }
            let before = stored.state.former_passwords.len();
            rotation::forget(stored, |former| why(former).is_some());
            done = stored.state.former_passwords.len() != before;
            done
        })
        .await?;
        finish::finish(world, Kind::Account, account.as_str(), None).await?;
        finish::done(world, &mark).await?;
        if !done {
            return Ok(());
        }
        let tenant = ended.as_ref().map(|stored| &stored.record.tenant);
        let resource = format!("accounts/{account}");
        let event = Event::new(world, audit::DIALTONE, tenant, "password.ended", resource);
        audit::note(world, &event.with("why", end.word())).await;
        Ok(())
    }

    /// Pushes an account's objects, in such an order that each password that is to work works all
    /// the while: the former ones have their auths before the endpoint names them, the endpoint
    /// names them before its own auth takes the new one, and what is over goes last.
    async fn put_all(
        &self,
        username: &Username,
        account: &Id,
        there: &There,
        objects: &PjsipObjects,
    ) -> Result<(), Failed> {
        for (slot, fields) in &objects.former {
            self.put(Class::Auth, &slot.object(username), fields)
                .await?;
        }
        if !there.names(objects, username) {
            let endpoint = objects.endpoint_before();
            self.put(Class::Endpoint, username.as_str(), &endpoint)
                .await?;
        }
        for class in Class::ALL {
            self.put(class, username.as_str(), objects.of(class))
                .await?;
        }
        // Asterisk says 200 also to an endpoint that it cannot read again.
        let kept = match self
            .ari
            .presence(Class::Endpoint, username.as_str(), account)
            .await?
        {
            Presence::Ours(found) => found.hash.as_deref() == Some(&objects.hash),
            _ => false,
        };
        if !kept {
            return Err(Failed::One(Why::NotKept));
        }
        // Not before the endpoint names it no more: that would lock out everybody.
        for slot in there.left_over(objects) {
            self.remove(Class::Auth, &slot.object(username)).await?;
        }
        Ok(())
    }

    async fn put(&self, class: Class, name: &str, fields: &Fields) -> Result<(), Failed> {
        let body = fields.body()?;
        let reply = self
            .ari
            .object(Method::PUT, class, name, Some(body))
            .await?;
        match register::pushed(reply.answer()) {
            register::Pushed::Kept => Ok(()),
            register::Pushed::Refused => Err(Failed::One(Why::Refused)),
            register::Pushed::Unclear => Err(reply.unclear().into()),
        }
    }

    async fn remove(&self, class: Class, name: &str) -> Result<(), Failed> {
        let reply = self.ari.object(Method::DELETE, class, name, None).await?;
        if register::deleted(reply.answer(), name) {
            Ok(())
        } else {
            Err(reply.unclear().into())
        }
    }

    /// Removes the objects of a name, if its tombstone is still there and nobody has the name now. The
    /// tombstone itself goes when there was nothing left to remove.
    /// False if that is not so, and then nothing is removed.
    async fn delete(&mut self, username: &Username) -> Result<bool, Failed> {
        if !register::can_be_named(username) {
            return Err(Failed::One(Why::Name));
        }
        let tombstone = key::gone(self.id, username);
        let Some(object) = self.run.get(&tombstone).await? else {
            return Ok(false);
        };
        let account = account_in(object, Fault::Broken("tombstone"))?;
        let holder = self.run.get(&key::name(self.id, username)).await?;
        if let Some(holder) = holder.filter(|holder| holder.body != key::FREE_NAME) {
            let holder = account_in(holder, Fault::Broken("name"))?;
            if self
                .run
                .account(&holder)
                .await?
                .is_some_and(|stored| self.has(&stored, username))
            {
                return Ok(false);
            }
        }
        let stored = self.run.account(&account).await?;
        if stored
            .as_ref()
            .is_some_and(|stored| self.has(stored, username))
        {
            return Ok(false);
        }
        // The account may have another name by now, which its digest user then follows.
        let login = stored
            .as_ref()
            .and_then(|stored| stored.record.auth_username.as_ref())
            .unwrap_or(username);
        let realm = self.pbx.realm.as_str();
        let mut there = self
            .three(username, &account, |found| {
                found.is_login(login.as_str(), realm)
            })
            .await?;
        there.former = self
            .formers(username, &account, &there.endpoint, &[login])
            .await?;
        let ours = |whose: &Whose| matches!(whose, Whose::Ours(_));
        let mut removed = false;
        let former = there.former.iter().filter(|(_, whose)| ours(whose));
        let former = former.map(|(slot, _)| slot.object(username));
        // What is left is somebody else's for certain. Only below their endpoint there may be ours,
        // and that may use what we left beside it.
        if there.endpoint == Whose::Foreign {
            if ours(&there.auth) || ours(&there.aor) || former.count() > 0 {
                return Err(Failed::One(Why::Collision));
            }
        } else {
            for class in Class::ALL.into_iter().rev() {
                if ours(there.of(class)) {
                    self.remove(class, username.as_str()).await?;
                    removed = true;
                }
            }
            for name in former {
                self.remove(Class::Auth, &name).await?;
                removed = true;
            }
        }
        // What Asterisk removed just before it died is there again. So the tombstone goes when a later run
        // finds nothing left.
        if removed {
            let now = self.run.world.now();
            self.memory.note_written(username, self.started, now);
        } else if !self.memory.is_unsettled(username) {
            self.run.spend(1);
            self.run.world.r2().delete(&tombstone).await?;
        }
        self.memory.note_deleted(username);
        Ok(removed)
    }

    /// Whether an account is alive and has this name here. One of another tenant is at a PBX that had the id
    /// before.
    fn has(&self, stored: &Stored<Account>, username: &Username) -> bool {
        let record = &stored.record;
        let named = record.pbx == *self.id && record.username == *username;
        stored.alive() && named && record.tenant == self.pbx.tenant
    }

    fn password(&self, account: &Id, stored: &Stored<Account>) -> Result<Secret, Fault> {
        const NAME: &str = "password";
        let sealed = stored
            .sealed
            .get(NAME)
            .ok_or(Fault::Broken("no password"))?;
        let place = store::secret_place(Kind::Account, account.as_str(), NAME);
        self.run.world.keys().open_secret(&place, sealed)
    }

    /// The former passwords that still work. One that cannot be opened is over: no phone's files can
    /// be told from it, and the account itself is none the worse.
    fn former<'s>(&self, account: &Id, stored: &'s Stored<Account>) -> Vec<FormerLogin<'s>> {
        let former = stored.state.former_passwords.iter();
        former
            .filter_map(|former| {
                let name = former.slot.sealed();
                let place = store::secret_place(Kind::Account, account.as_str(), name);
                let sealed = stored.sealed.get(name)?;
                let password = self.run.world.keys().open_secret(&place, sealed).ok()?;
                Some(FormerLogin {
                    slot: former.slot,
                    login: &former.login,
                    password,
                })
            })
            .collect()
    }

    /// The auths of former passwords, and whose they are. One without a mark is the account's if the
    /// account's endpoint names it, or if it is of one of its logins.
    async fn formers(
        &self,
        username: &Username,
        account: &Id,
        endpoint: &Whose,
        logins: &[&Username],
    ) -> Result<BTreeMap<Slot, Whose>, Failed> {
        let realm = self.pbx.realm.as_str();
        let mut formers = BTreeMap::new();
        for slot in Slot::ALL {
            let name = slot.object(username);
            let named = matches!(endpoint, Whose::Ours(found) if found.names(&name));
            let whose = match self.ari.presence(Class::Auth, &name, account).await? {
                Presence::Foreign(found)
                    if found.account.is_none()
                        && (named
                            || *endpoint != Whose::Foreign
                                && logins.iter().any(|l| found.is_login(l.as_str(), realm))) =>
                {
                    Whose::Ours(found)
                }
                other => self.weigh(other, username).await?,
            };
            formers.insert(slot, whose);
        }
        Ok(formers)
    }

    /// The objects of a name, and whose they are. `same_login` tells from an auth without a mark
    /// whether it is the account's: one below an endpoint of ours is, whatever it says.
    async fn three(
        &self,
        username: &Username,
        account: &Id,
        same_login: impl Fn(&Found) -> bool,
    ) -> Result<There, Failed> {
        let endpoint = self.whose(Class::Endpoint, username, account).await?;
        let aor = self.whose(Class::Aor, username, account).await?;
        let auth = match self
            .ari
            .presence(Class::Auth, username.as_str(), account)
            .await?
        {
            Presence::Foreign(found)
                if found.account.is_none()
                    && (matches!(endpoint, Whose::Ours(_))
                        || (endpoint == Whose::Nobodys && same_login(&found))) =>
            {
                Whose::Ours(found)
            }
            other => self.weigh(other, username).await?,
        };
        Ok(There {
            auth,
            aor,
            endpoint,
            former: BTreeMap::new(),
        })
    }

    async fn whose(
        &self,
        class: Class,
        username: &Username,
        account: &Id,
    ) -> Result<Whose, Failed> {
        let presence = self.ari.presence(class, username.as_str(), account).await?;
        self.weigh(presence, username).await
    }

    async fn weigh(&self, presence: Presence, username: &Username) -> Result<Whose, Failed> {
        Ok(match presence {
            Presence::Absent => Whose::Nobodys,
            Presence::Ours(found) => Whose::Ours(found),
            Presence::Foreign(found) if self.is_left_over(&found, username).await? => {
                Whose::Ours(found)
            }
            Presence::Foreign(_) | Presence::Unclear => Whose::Foreign,
        })
    }

    /// Whether an object carries the mark of an account of ours that has this name no more: it was
    /// deleted, renamed or moved, and another one took the name before this run came by. An account
    /// that has the name at another PBX is none such, unless it was we who pushed it to this one: two
    /// PBX records may be of one Asterisk.
    async fn is_left_over(&self, found: &Found, username: &Username) -> Result<bool, Fault> {
        let Some(former) = found
            .account
            .as_deref()
            .and_then(|id| Id::try_from(id).ok())
        else {
            return Ok(false);
        };
        let moved = self
            .memory
            .pushed
            .get(username)
            .is_some_and(|pushed| pushed.account == former);
        Ok(self.run.account(&former).await?.is_some_and(|stored| {
            let named = stored.alive() && stored.record.username == *username;
            !named || (moved && stored.record.pbx != *self.id)
        }))
    }
}

/// The account that a tombstone or the holder of a name is about: [`finish`] writes its bare id.
fn account_in(object: Object, broken: Fault) -> Result<Id, Fault> {
    String::from_utf8(object.body)
        .ok()
        .and_then(|id| Id::try_from(id).ok())
        .ok_or(broken)
}
