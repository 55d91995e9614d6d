//! From records to files: gathers what a phone's files are made of, makes them, seals them.

use std::collections::{BTreeMap, BTreeSet};

use crate::fault::Fault;
use crate::gather::in_order;
use crate::hot_desk;
use crate::key::{self, Kind};
use crate::keys::{Capability, Keys, Signed};
use crate::levels::{Level, Levels, Origins};
use crate::mac::Mac;
use crate::ports::{Mappings, World};
use crate::record::account::Account;
use crate::record::device::{Carried, Device, File, FileSet, Policy, Sources};
use crate::record::pbx::Pbx;
use crate::record::profile::Profile;
use crate::record::settings::{Setting, Settings};
use crate::record::tenant::Tenant;
use crate::record::version::{KeptAccount, KeptPbx, Pinned, Snapshot};
use crate::record::{Record, Stored};
use crate::rollout;
use crate::rollout::templates::Templates;
use crate::secret::{MASK, Secret};
use crate::session;
use crate::step3_boot_request::Part;
use crate::step4_boot_file::{Effective, Phone};
use crate::step6_config_files::{self, PhoneLine};
use crate::store;
use crate::text::Id;
use crate::vendor::{self, Objection, VendorId};

/// The records that a phone's files are made of.
#[derive(Debug, Clone)]
pub struct Ingredients {
    /// Whose files they are.
    pub mac: Mac,
    /// The device.
    pub device: Stored<Device>,
    tenant: Option<Stored<Tenant>>,
    profile: Option<Stored<Profile>>,
    accounts: BTreeMap<Id, Stored<Account>>,
    pbxes: BTreeMap<Id, Stored<Pbx>>,
    /// The user who is logged in.
    seated: Option<Seated>,
}

/// The phone's and the user's record while the user is logged in, without what the phone cannot carry.
#[derive(Debug, Clone)]
struct Seated {
    device: Device,
    account: Account,
    left_out: Vec<Objection>,
}

/// Where records are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// R2, the truth.
    R2,
    /// KV, when R2 fails: perhaps a minute old, but enough for a phone to work.
    Kv,
}

impl Ingredients {
    /// Reads everything that a device's files are made of. A session that stands no more is ended in
    /// [`Ingredients::device`]: the files are the host's then. Of a device that is held to a version, what that
    /// was made of takes the place of today's, but for secrets and logins.
    ///
    /// # Errors
    /// The store's [`Fault`].
    pub async fn gather<W: World>(
        world: &W,
        mac: Mac,
        mut device: Stored<Device>,
        from: From,
    ) -> Result<Self, Fault> {
        let user = user(world, mac, &device, from).await?;
        if user.is_none() {
            device.state.end_session();
        }
        let tenant = fetch(world, from, [&device.record.tenant])
            .await?
            .pop()
            .map(|(_, t)| t);
        let profile = fetch(world, from, &device.host().profile)
            .await?
            .pop()
            .map(|(_, p)| p);
        let accounts: BTreeMap<Id, Stored<Account>> = if let Some(user) = user {
            in_order([user])
        } else {
            let lines = device.host().lines.iter();
            let read = fetch(world, from, lines.map(|line| &line.account)).await?;
            in_order(read)
        };
        // Of another tenant's, that took the id of one that is gone, no more is looked at.
        let own = accounts
            .values()
            .filter(|account| account.record.tenant == device.record.tenant);
        let pbxes = fetch(world, from, own.map(|account| &account.record.pbx)).await?;
        let pbxes = in_order(pbxes);
        let mut made = Self {
            mac,
            device,
            tenant,
            profile,
            accounts,
            pbxes,
            seated: None,
        };
        made.restore();
        made.seat(world.keys())?;
        Ok(made)
    }

    /// The version that the device is held to.
    fn pinned(&self) -> Option<&Pinned> {
        self.device.state.pinned.as_deref()
    }

    /// Makes the host's accounts and PBXes those of the version that the device is held to. A user who is logged
    /// in is who that is today.
    fn restore(&mut self) {
        let state = &self.device.state;
        let Some(pinned) = state.pinned.as_ref().filter(|_| state.session.is_none()) else {
            return;
        };
        for (id, account) in &mut self.accounts {
            pinned.snapshot.restore_account(id, &mut account.record);
        }
        for (id, pbx) in &mut self.pbxes {
            pinned.snapshot.restore_pbx(id, &mut pbx.record);
        }
    }

    /// Gives the phone the settings of its profile that not all have yet.
    pub fn roll_out(&mut self) {
        if let Some(profile) = &mut self.profile {
            profile.state = None;
        }
    }

    /// The same with another version of one account on the host's lines, to see what would become of it.
    #[must_use]
    pub fn with_account(mut self, id: Id, account: Stored<Account>) -> Self {
        self.accounts.insert(id, account);
        self.restore();
        self
    }

    /// An account of the device's tenant that is on one of its lines.
    #[must_use]
    pub fn account(&self, id: &Id) -> Option<&Stored<Account>> {
        self.accounts.get(id).filter(|stored| self.is_ours(*stored))
    }

    /// A PBX of the device's tenant that one of those accounts is at.
    #[must_use]
    pub fn pbx(&self, id: &Id) -> Option<&Stored<Pbx>> {
        self.pbxes.get(id).filter(|stored| self.is_ours(*stored))
    }

    /// Whether a record that files are made of was changed since these were: a tenant, a profile or a
    /// PBX. That shows in the files once they are made again, at the phone's next fetch, if at all.
    #[must_use]
    pub fn outdate(&self, sources: &Sources) -> bool {
        let account = key::records(Kind::Account);
        let mut now = self.revisions().into_iter();
        now.any(|(key, rev)| {
            let made_of = sources.records.get(&key).copied().unwrap_or(0);
            !key.starts_with(&account) && rev > made_of
        })
    }

    /// Puts the user who is logged in into the phone's record. What its vendor's files cannot carry of
    /// the user is left out: nobody is kept from logging in by a key that this phone does not have.
    fn seat(&mut self, keys: &Keys) -> Result<(), Fault> {
        self.seated = None;
        let Some(session) = &self.device.state.session else {
            return Ok(());
        };
        let Some(account) = self.accounts.get(&session.account) else {
            return Ok(());
        };
        let host = self.device.host();
        let model = vendor::model(host.vendor, &host.model)
            .ok_or(Fault::Broken("model not in catalogue"))?;
        self.seated = Some(Seated {
            device: hot_desk::seated(host, &session.account, &account.record),
            account: account.record.clone(),
            left_out: Vec::new(),
        });
        // Each round takes something out.
        loop {
            let mut objections = step6_config_files::check(self.record(), Some(model));
            objections.extend(vendor::objections(&self.phone(keys, "")?));
            let Some(seated) = &mut self.seated else {
                return Ok(());
            };
            if !hot_desk::leave_out(&mut seated.device, &mut seated.account, &objections) {
                return Ok(());
            }
            seated.left_out.extend(objections);
        }
    }

    /// The phone's record: with the user who is logged in, if anybody is.
    #[must_use]
    pub fn record(&self) -> &Device {
        let seated = self.seated.as_ref();
        seated.map_or(self.device.host(), |seated| &seated.device)
    }

    /// What the phone's files leave out of the user who is logged in.
    #[must_use]
    pub fn left_out(&self) -> &[Objection] {
        let seated = self.seated.as_ref();
        seated.map_or(&[], |seated| &seated.left_out)
    }

    /// The revisions of the shared records, by key; 0 for one that is not there.
    fn revisions(&self) -> BTreeMap<String, u64> {
        let record = self.device.host();
        let mut revisions = BTreeMap::new();
        let mut note = |kind, id: &Id, rev: Option<u64>| {
            revisions.insert(key::record(kind, id.as_str()), rev.unwrap_or(0));
        };
        note(
            Kind::Tenant,
            &record.tenant,
            self.tenant.as_ref().map(Stored::record_rev),
        );
        if let Some(profile) = &record.profile {
            note(Kind::Profile, profile, self.profile.as_ref().map(|p| p.rev));
        }
        // Of the user also if the phone carries no line of it: another password may be one that it does.
        let user = self.device.state.session.as_ref();
        let lines = record.lines.iter().map(|line| &line.account);
        let lines = lines.filter(|_| user.is_none());
        for account in lines.chain(user.map(|session| &session.account)) {
            note(
                Kind::Account,
                account,
                self.accounts.get(account).map(|a| a.rev),
            );
        }
        let own = self.accounts.values();
        for account in own.filter(|account| account.record.tenant == record.tenant) {
            let pbx = &account.record.pbx;
            note(Kind::Pbx, pbx, self.pbxes.get(pbx).map(|p| p.rev));
        }
        revisions
    }

    /// Whether the record of a key, that the files are made of or would be, is another tenant's by now: what
    /// it was has been deleted. Of such a one nothing is to be shown.
    #[must_use]
    pub fn is_foreign(&self, key: &str) -> bool {
        let own = &self.device.record.tenant;
        let profile = self.device.host().profile.as_ref();
        let profile = profile.zip(self.profile.as_ref()).map(|(id, stored)| {
            let key = key::record(Kind::Profile, id.as_str());
            (key, &stored.record.tenant)
        });
        let accounts = self.accounts.iter().map(|(id, stored)| {
            let key = key::record(Kind::Account, id.as_str());
            (key, &stored.record.tenant)
        });
        let pbxes = self.pbxes.iter().map(|(id, stored)| {
            let key = key::record(Kind::Pbx, id.as_str());
            (key, &stored.record.tenant)
        });
        let mut all = profile.into_iter().chain(accounts).chain(pbxes);
        all.any(|(of, tenant)| of == key && tenant != own)
    }

    /// The levels that the phone's settings come from.
    fn levels(&self) -> Levels<'_> {
        let record = self.device.host();
        let tenant = self.tenant.as_ref().filter(|stored| stored.alive());
        let own = tenant.map(|stored| {
            let Tenant {
                settings, locked, ..
            } = &stored.record;
            Level::of(stored, record.tenant.as_str(), settings, Some(locked))
        });
        let profile = self.profile.as_ref().zip(record.profile.as_ref());
        let profile = profile
            .filter(|(stored, _)| self.is_ours(stored))
            .map(|(stored, id)| {
                // The passwords are today's for everybody: only settings are rolled out.
                let (settings, locked) = rollout::settings(stored, id, self.mac);
                Level::of(stored, id.as_str(), settings, Some(locked))
            });
        let part = |of: &str, name: &str, layer| {
            let resource = format!("tenants/{}/{of}/{name}", record.tenant);
            Level::of_layer(resource, layer)
        };
        let model = tenant.and_then(|stored| stored.record.of_model(&record.model));
        let model = model.map(|(name, layer)| part("models", name, layer));
        let site = tenant.zip(record.site.as_ref());
        let site = site.and_then(|(stored, site)| {
            let layer = stored.record.at_site(site)?;
            Some(part("sites", site.as_str(), layer))
        });
        let mac = self.mac.to_string();
        let device = Level::of(&self.device, &mac, &record.settings, None);
        let mut levels: Vec<Level<'_>> =
            [own, profile, model, site].into_iter().flatten().collect();
        if let Some(pinned) = self.pinned() {
            let kept = pinned.snapshot.levels.iter();
            levels = kept.map(|kept| Level::of_version(kept, &levels)).collect();
        }
        levels.push(device);
        Levels::new(levels)
    }

    /// What is kept of all this with a version of the host's files.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let accounts = self.accounts.iter().filter(|(_, a)| self.is_ours(*a));
        let pbxes = self.pbxes.iter().filter(|(_, p)| self.is_ours(*p));
        Snapshot {
            device: self.device.host().clone(),
            levels: self.levels().kept(),
            accounts: accounts
                .map(|(id, stored)| KeptAccount::of(id, &stored.record))
                .collect(),
            pbxes: pbxes
                .map(|(id, stored)| KeptPbx::of(id, &stored.record))
                .collect(),
        }
    }

    /// That the phone's files are not what the records say today, since they are held to a version; and what of
    /// that version they lack.
    #[must_use]
    pub fn held(&self) -> Vec<Objection> {
        let Some(pinned) = self.pinned() else {
            return Vec::new();
        };
        let detail = format!(
            "the files are held to version {} since {}: what is saved shows once they are unpinned",
            pinned.version, pinned.at
        );
        let mut held = vec![Objection::new("", detail)];
        if self.device.state.session.is_some() {
            return held;
        }
        let lines = self.device.host().lines.iter();
        let lost = lines.filter(|line| {
            let account = self.account(&line.account);
            account.is_none_or(|account| self.pbx(&account.record.pbx).is_none())
        });
        held.extend(lost.map(|line| {
            let detail = format!(
                "line {} of that version is left out: the tenant has no account {} any more",
                line.line, line.account
            );
            Objection::new("", detail)
        }));
        held
    }

    /// The settings with every level counted in.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.levels().settings()
    }

    /// Where each setting comes from; passwords are masked.
    ///
    /// # Errors
    /// The [`Fault`] of [`Levels::origins`].
    pub fn origins(&self) -> Result<Origins, Fault> {
        self.levels().origins(self.device.record.vendor)
    }

    /// What the device's record refers to that is not there, and is left out of the files for that: the
    /// profile, and the lines whose account or its PBX is gone. While a user is logged in, no lines.
    #[must_use]
    pub fn missing(&self) -> Vec<Objection> {
        let mut missing = Vec::new();
        if let Some(profile) = self.missing_profile() {
            let detail = format!(
                "there is no profile {profile}: the settings come from the levels that there are"
            );
            missing.push(Objection::new("/profile", detail));
        }
        let host = self.device.state.session.is_none();
        for (n, line) in self.device.record.lines.iter().enumerate() {
            let id = &line.account;
            let detail = match self.account(id) {
                None => format!("there is no account {id}: the line is left out"),
                Some(account) if self.pbx(&account.record.pbx).is_none() => {
                    let pbx = &account.record.pbx;
                    format!(
                        "there is no PBX {pbx}, which the account {id} is at: the line is left out"
                    )
                }
                Some(_) => continue,
            };
            if host {
                missing.push(Objection::new(format!("/lines/{n}/account"), detail));
            }
        }
        missing
    }

    /// The profile that the phone's record names, or the version that it is held to, if its tenant has none of that id.
    #[must_use]
    pub fn missing_profile(&self) -> Option<&Id> {
        let named = self.device.host().profile.as_ref()?;
        let there = self.profile.as_ref().filter(|stored| self.is_ours(stored));
        there.is_none().then_some(named)
    }

    /// What of the phone's record does not come about as it, or another level, has it.
    ///
    /// # Errors
    /// The [`Fault`] of [`Ingredients::phone`].
    pub fn warnings(&self, keys: &Keys) -> Result<Vec<Objection>, Fault> {
        let mut warnings = self.missing();
        warnings.extend(self.levels().locked_out());
        warnings.extend(vendor::warnings(&self.phone(keys, "")?));
        Ok(warnings)
    }

    /// Whether a record that the device refers to is there and its own tenant's: after a delete the
    /// same id may be somebody else's.
    fn is_ours<R: Record>(&self, stored: &Stored<R>) -> bool {
        stored.alive() && stored.record.tenant() == Some(&self.device.record.tenant)
    }

    /// The phone as its templates see it. A line whose account or PBX is gone is
    /// left out.
    ///
    /// # Errors
    /// A [`Fault`] if the model is not in the catalogue or a password cannot be opened.
    pub fn phone<'a>(&'a self, keys: &Keys, base: &'a str) -> Result<Phone<'a>, Fault> {
        let device = self.record();
        let user = self.seated.as_ref().map(|seated| &seated.account);
        let model = vendor::model(device.vendor, &device.model)
            .ok_or(Fault::Broken("model not in catalogue"))?;
        let mut lines = Vec::new();
        for (index, line) in device.lines.iter().enumerate() {
            let account = self.accounts.get(&line.account).filter(|a| self.is_ours(a));
            let Some(account) = account else { continue };
            let pbx = self
                .pbxes
                .get(&account.record.pbx)
                .filter(|p| self.is_ours(p));
            let Some(pbx) = pbx else { continue };
            let place = store::secret_place(Kind::Account, line.account.as_str(), "password");
            let sealed = account
                .sealed
                .get("password")
                .ok_or(Fault::Broken("no password"))?;
            // A phone with a user has no other line.
            let record = user.unwrap_or(&account.record);
            lines.push(PhoneLine {
                index,
                id: &line.account,
                number: line.line,
                label: line
                    .label
                    .as_ref()
                    .map_or(record.display_name(), |label| label.as_str()),
                account: record,
                password: keys.open_secret(&place, sealed)?,
                pbx: &pbx.record,
            });
        }
        lines.sort_by_key(|line: &PhoneLine<'_>| line.number);
        let levels = self.levels();
        let settings = levels.settings();
        let mut given = settings.given();
        let mut settings = Effective::new(settings, device.vendor);
        settings.resync_minutes = spread(
            settings.resync_minutes,
            settings.resync_spread_minutes,
            self.mac,
        );
        let [admin, user] = levels.passwords().map(|password| {
            let password = password?;
            Some(keys.open_secret(&password.place, password.text))
        });
        settings.admin_password = admin.transpose()?;
        settings.user_password = user.transpose()?;
        given.extend(
            settings
                .admin_password
                .as_ref()
                .map(|_| Setting::AdminPassword),
        );
        given.extend(
            settings
                .user_password
                .as_ref()
                .map(|_| Setting::UserPassword),
        );
        let mut phone = Phone {
            mac: self.mac,
            device,
            model,
            settings,
            given,
            left_out: Vec::new(),
            lines,
            base,
            version: self.device.rev,
        };
        vendor::leave_out(&mut phone, &|setting| levels.is_own(setting))?;
        Ok(phone)
    }

    /// The phone as whoever looks at its files may see it: masks stand in the place of its secrets, so that
    /// nothing has to be found and replaced in a text. `base` is one too ([`masked_base`]).
    ///
    /// # Errors
    /// The [`Fault`] of [`Ingredients::phone`].
    pub fn masked<'a>(&'a self, keys: &Keys, base: &'a str) -> Result<Phone<'a>, Fault> {
        let mut phone = self.phone(keys, base)?;
        let mask = || Secret::opaque(MASK.to_owned());
        for line in &mut phone.lines {
            line.password = mask();
        }
        let settings = &mut phone.settings;
        for password in [&mut settings.admin_password, &mut settings.user_password] {
            *password = password.as_ref().map(|_| mask());
        }
        Ok(phone)
    }

    /// Every file with masks in it, by its neutral name; under the version 0, so that equal files are equal texts.
    ///
    /// # Errors
    /// The [`Fault`] of [`Ingredients::phone`] or of a template.
    pub fn masked_texts(
        &self,
        keys: &Keys,
        origin: &str,
    ) -> Result<BTreeMap<String, String>, Fault> {
        let base = masked_base(origin);
        let mut phone = self.masked(keys, &base)?;
        phone.version = 0;
        let rules = phone.device.vendor.rules();
        let mut texts = BTreeMap::new();
        for part in rules.parts(phone.model) {
            let text = rules.render(*part, &phone)?;
            texts.insert(part.neutral_name().to_owned(), text);
        }
        Ok(texts)
    }

    /// What the files would be made of now.
    #[must_use]
    pub fn sources(&self, keys: &Keys, origin: &str) -> Sources {
        Sources {
            records: self.revisions(),
            ..expected_sources(keys, &self.device, origin)
        }
    }

    /// The tenant's policy, unless what the device has is newer.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let known = self.device.state.policy.clone();
        match &self.tenant {
            Some(tenant) if tenant.record_rev() >= known.rev => Policy::of(tenant),
            _ => known,
        }
    }

    /// Which templates the tenant's phones may have.
    #[must_use]
    pub fn templates(&self) -> Option<&Templates> {
        let tenant = self.tenant.as_ref().filter(|stored| stored.alive());
        tenant.and_then(|stored| stored.state.as_ref())
    }

    /// Makes every file of the phone and seals it.
    ///
    /// # Errors
    /// A [`Fault`] of a template or of the platform's random bytes.
    pub fn files<W: World>(&self, world: &W, origin: &str) -> Result<FileSet, Fault> {
        let keys = world.keys();
        let base = base(keys, self.mac, self.device.state.access.token, origin)?;
        let mut phone = self.phone(keys, &base)?;
        let former = self.device.state.files.as_ref();
        let rules = self.device.record.vendor.rules();
        let names = rules.parts(phone.model);
        let (mut version, mut made_at) = (0, world.now());
        let mut made = Vec::new();
        if let Some(files) = former {
            // Under the version that the files have: only a file that differs makes a new one.
            (version, made_at) = (files.version, files.made_at);
            phone.version = version;
            made = write(keys, &phone)?;
        }
        let same = |(part, _, etag): &(Part, Vec<u8>, String)| {
            former.is_some_and(|files| files.parts.get(part).is_some_and(|file| file.etag == *etag))
        };
        if made.is_empty()
            || !made.iter().all(same)
            || former.is_some_and(|files| files.parts.len() != names.len())
        {
            // At least the record's revision, which also rises over a deletion, and without the files
            // in KV's copy: a phone that compares versions must never see a lower one.
            version = (version + 1).max(self.device.rev);
            made_at = world.now();
            phone.version = version;
            made = write(keys, &phone)?;
        }
        let mut parts = BTreeMap::new();
        for (part, bytes, etag) in made {
            let before = former.and_then(|files| files.parts.get(&part));
            let place = file_place(self.mac, part);
            let file = match before {
                // The same bytes keep their sealed form, so that nothing is sealed needlessly.
                Some(file) if file.etag == etag && keys.is_current(&place, &file.sealed) => {
                    file.clone()
                }
                _ => File {
                    etag,
                    length: u64::try_from(bytes.len()).map_err(|_| Fault::Broken("length"))?,
                    sealed: keys.seal(world, &place, &bytes)?,
                },
            };
            parts.insert(part, file);
        }
        let logins = phone
            .lines
            .iter()
            .filter_map(|line| self.carried(line.id, version));
        Ok(FileSet {
            version,
            made_at,
            sources: self.sources(keys, origin),
            parts,
            logins: in_order(logins),
        })
    }

    /// Since when the files carry an account's password, if they do so in this version.
    fn carried(&self, account: &Id, version: u64) -> Option<(Id, Carried)> {
        let rev = self.accounts.get(account)?.state.login_rev;
        if rev == 0 {
            return None;
        }
        let former = self.device.state.files.as_ref();
        let known = former.and_then(|files| files.logins.get(account).copied());
        let carried = known
            .filter(|known| known.rev == rev)
            .unwrap_or(Carried { rev, version });
        Some((account.clone(), carried))
    }
}

/// The user who is logged in at a phone, if the session stands.
async fn user<W: World>(
    world: &W,
    mac: Mac,
    device: &Stored<Device>,
    from: From,
) -> Result<Option<(Id, Stored<Account>)>, Fault> {
    let Some(session) = &device.state.session else {
        return Ok(None);
    };
    if from == From::Kv {
        // Whether the user logged in elsewhere since then, R2 alone knows: the phone keeps what it has.
        return if session::may_stand(device, session, world.now()) {
            Err(Fault::Broken("session in kv"))
        } else {
            Ok(None)
        };
    }
    if !session::stands(world, mac, device).await? {
        return Ok(None);
    }
    let user = fetch::<Account, W>(world, from, [&session.account]).await?;
    let ours = |(_, user): &(Id, Stored<Account>)| {
        user.alive() && user.record.tenant == device.record.tenant
    };
    Ok(user.into_iter().find(ours))
}

/// The period of one phone: up to `most` minutes longer than the others', the same each time.
fn spread(minutes: u32, most: u32, mac: Mac) -> u32 {
    // The last bytes of a MAC count up; a multiplication scatters them (Knuth, 6.4).
    let [_, _, a, b, c, d] = mac.bytes();
    let scattered = u32::from_be_bytes([a, b, c, d]).wrapping_mul(2_654_435_769) >> 8;
    (minutes + scattered % (most + 1)).min(43_200)
}

/// Every part of a phone, with its bytes and their `ETag`.
fn write(keys: &Keys, phone: &Phone<'_>) -> Result<Vec<(Part, Vec<u8>, String)>, Fault> {
    let rules = phone.device.vendor.rules();
    rules
        .parts(phone.model)
        .iter()
        .map(|part| {
            let bytes = rules.render(*part, phone)?.into_bytes();
            let etag = keys.etag(&bytes)?;
            Ok((*part, bytes, etag))
        })
        .collect()
}

/// The part of [`Sources`] that the device itself says.
#[must_use]
pub fn expected_sources(keys: &Keys, device: &Stored<Device>, origin: &str) -> Sources {
    Sources {
        templates: device.record.vendor.rules().templates(),
        origin: origin.to_owned(),
        device: device.edition,
        token: device.state.access.token,
        key: Some(keys.id()),
        session: device.state.session.as_ref().map(|s| s.id.clone()),
        pinned: device.state.pinned.as_ref().map(|pinned| pinned.version),
        records: BTreeMap::new(),
    }
}

/// `{origin}/p/{token}/`: where a device's files are.
///
/// # Errors
/// The [`Fault`] of [`Keys::sign`].
pub fn base(keys: &Keys, mac: Mac, generation: u32, origin: &str) -> Result<String, Fault> {
    let token = keys.sign(Capability::Token, Signed { mac, generation })?;
    Ok(format!("{origin}/p/{token}/"))
}

/// The same with a mask in the place of the token.
#[must_use]
pub fn masked_base(origin: &str) -> String {
    format!("{origin}/p/{MASK}/")
}

/// The bytes of a file.
///
/// # Errors
/// A [`Fault`] if it was not sealed for this place, or with a key that is gone.
pub fn open(keys: &Keys, mac: Mac, part: Part, file: &File) -> Result<Vec<u8>, Fault> {
    keys.open(&file_place(mac, part), &file.sealed)
}

/// Files as they are, but under another version: a phone that compares versions takes them then.
///
/// # Errors
/// The [`Fault`] of a file that does not open, or of sealing.
pub fn renumber<W: World>(
    world: &W,
    mac: Mac,
    vendor: VendorId,
    mut files: FileSet,
    version: u64,
) -> Result<FileSet, Fault> {
    let keys = world.keys();
    for (part, file) in &mut files.parts {
        let text = String::from_utf8(open(keys, mac, *part, file)?)
            .map_err(|_| Fault::Broken("file in utf-8"))?;
        let Some(text) = vendor.rules().renumber(&text, files.version, version) else {
            continue;
        };
        *file = File {
            etag: keys.etag(text.as_bytes())?,
            length: u64::try_from(text.len()).map_err(|_| Fault::Broken("length"))?,
            sealed: keys.seal(world, &file_place(mac, *part), text.as_bytes())?,
        };
    }
    files.version = version;
    files.made_at = world.now();
    Ok(files)
}

/// Whether a phone's files hang on no key but the one that is in use now, neither in their URLs nor
/// by their seals.
#[must_use]
pub fn are_current(keys: &Keys, mac: Mac, files: &FileSet) -> bool {
    let sealed =
        |(part, file): (&Part, &File)| keys.is_current(&file_place(mac, *part), &file.sealed);
    files.sources.key == Some(keys.id()) && files.parts.iter().all(sealed)
}

fn file_place(mac: Mac, part: Part) -> String {
    format!("file/{mac}/{}", part.neutral_name())
}

/// Reads records of one kind; what is not there is left out.
async fn fetch<'a, R: Record, W: World>(
    world: &W,
    from: From,
    ids: impl IntoIterator<Item = &'a Id>,
) -> Result<Vec<(Id, Stored<R>)>, Fault> {
    let ids: BTreeSet<&Id> = in_order(ids);
    let mut found = Vec::new();
    match from {
        From::R2 => {
            for id in ids {
                if let Some(loaded) = store::load::<R, W>(world, id.as_str()).await? {
                    found.push((id.clone(), loaded.stored));
                }
            }
        }
        From::Kv if ids.is_empty() => {}
        From::Kv => {
            let keys: Vec<String> = ids
                .iter()
                .map(|id| key::record(R::KIND, id.as_str()))
                .collect();
            let texts = world.kv().get_many(&keys).await?;
            for (id, text) in ids.into_iter().zip(texts) {
                // A miss may be as late as everything in KV, and half a file is worse than none.
                let text = text.ok_or(Fault::Broken("kv miss"))?;
                found.push((id.clone(), Stored::read(text.as_bytes())?));
            }
        }
    }
    Ok(found)
}
