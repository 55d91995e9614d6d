//! What is particular to saving each kind of record: what it refers to, what it must not break.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::body::flaws::Flaws;
use super::caller::{Caller, Role};
use super::problem::{Failure, FieldError, Kind as ProblemKind, Problem};
use super::save::{Context, held as held_back, tell_taken};
use super::{account, batch};
use crate::audit;
use crate::fault::Fault;
use crate::gather::in_order;
use crate::hot_desk;
use crate::key::{self, Kind};
use crate::levels::{Level, Levels};
use crate::mac::Mac;
use crate::ports::{Mappings, Object, Objects, Only, World};
use crate::record::account::{Account, MOST_DEVICES};
use crate::record::device::{Access, Device, DeviceState, Window};
use crate::record::pbx::{Mode, Pbx};
use crate::record::profile::Profile;
use crate::record::rule::Rule;
use crate::record::settings::Setting;
use crate::record::tenant::{Layer, MOST_LAYER_BYTES, MOST_MODELS, MOST_SITES, Tenant};
use crate::record::token::{Identity, Token, TokenState};
use crate::record::version::Pinned;
use crate::record::{Record, Stored};
use crate::render::{From, Ingredients};
use crate::rollout::templates::Templates;
use crate::rollout::{self, Rollout};
use crate::step2_redirect::UrlTemplate;
use crate::step6_config_files;
use crate::store::{self, Loaded};
use crate::text::{Id, WebUrl};
use crate::time::Timestamp;
use crate::vendor::{self, Objection, VendorId};
use crate::versions;

/// A record that the admin API saves and deletes.
#[expect(async_fn_in_trait, reason = "an isolate has one thread")]
pub trait Managed: Record {
    /// Where in a body the tenant stands (RFC 6901).
    const TENANT: &'static str = "/tenant";

    /// Where else in a body stands what decides whether a caller may write it.
    const JUDGED_BY: &'static [&'static str] = &[];

    /// Whether it may be deleted although something refers to it, if the caller insists.
    const FORCE: bool = false;

    /// Members of an answer that stand in no record: a caller may send back what it got.
    const READ_ONLY: &'static [&'static str] = &[];

    /// Refuses what a caller may not write, for whichever tenant it is.
    ///
    /// # Errors
    /// A [`Problem`] that says what the caller would need.
    fn allowed(&self, _caller: &Caller) -> Result<(), Problem> {
        Ok(())
    }

    /// Adds to the flaws everything that is wrong with the record as a whole; nothing is written. What
    /// hangs on a field that they [touch](Flaws::touch) is left out.
    async fn check<W: World>(
        &self,
        world: &W,
        context: &Context,
        id: &str,
        has_secret: &dyn Fn(&str) -> bool,
        flaws: &mut Flaws,
    ) -> Result<(), Fault>;

    /// Carries the state over from the former record, alive or deleted.
    fn settle(_next: &mut Stored<Self>, _former: Option<&Stored<Self>>, _now: Timestamp) {}

    /// Carries over what the record keeps of secrets that were replaced, and adds to it; with
    /// `at_once` nothing of it.
    ///
    /// # Errors
    /// The [`Fault`] of sealing.
    fn keep_former<W: World>(
        _world: &W,
        _id: &str,
        _next: &mut Stored<Self>,
        _former: Option<&Stored<Self>>,
        _at_once: bool,
    ) -> Result<(), Fault> {
        Ok(())
    }

    /// Adds to the flaws what shows only with everything put together, as far as they let it be known; and
    /// if there are none, refuses what somebody else has. Nothing is written.
    async fn fits<W: World>(
        _world: &W,
        _context: &Context,
        _id: &str,
        _next: &Stored<Self>,
        _flaws: &mut Flaws,
    ) -> Result<(), Failure> {
        Ok(())
    }

    /// The accounts on whose lists [`Managed::prepare`] puts the record.
    fn joins<'a>(_next: &'a Stored<Self>, _former: Option<&Stored<Self>>) -> Vec<&'a Id> {
        Vec::new()
    }

    /// The last thing before the compare-and-set: takes names, makes files.
    async fn prepare<W: World>(
        _world: &W,
        _context: &Context,
        _id: &str,
        _next: &mut Stored<Self>,
    ) -> Result<(), Failure> {
        Ok(())
    }

    /// What still refers to the record, so that it is not deleted; looked for until so many are found.
    async fn used_by<W: World>(
        _world: &W,
        _id: &str,
        _stored: &Stored<Self>,
        _most: usize,
    ) -> Result<Option<Users>, Fault> {
        Ok(None)
    }

    /// Takes out of a record that is being deleted what its tombstone must not keep.
    fn retire(_next: &mut Stored<Self>) {}

    /// What of a saved record its phone does not follow.
    async fn warnings<W: World>(
        _world: &W,
        _id: &str,
        _stored: &Stored<Self>,
    ) -> Result<Vec<Objection>, Fault> {
        Ok(Vec::new())
    }

    /// Adds to what an answer shows of the record what stands beside it.
    fn add_beside(_stored: &Stored<Self>, _shown: &mut Map<String, Value>) {}

    /// What opens a device's files; other records open nothing.
    fn access(_stored: &Stored<Self>) -> Option<Access> {
        None
    }
}

/// What still refers to a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// Why the record is not deleted, in words.
    pub why: String,
    /// The paths of the records that refer to it, in the admin API without `/api/v1/`, as many as were looked for.
    pub found: Vec<String>,
    /// Whether there may be more.
    pub more: bool,
}

impl Users {
    /// Records that are not named.
    fn some(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            found: Vec::new(),
            more: true,
        }
    }

    /// Adds one, which says why if it is the first; true if no more are looked for.
    fn is_enough(&mut self, kind: Kind, id: &str, why: String, most: usize) -> bool {
        if self.found.is_empty() {
            self.why = why;
        }
        self.found.push(format!("{}/{id}", kind.collection()));
        self.more = self.found.len() >= most;
        self.more
    }

    /// Them, if there is any.
    fn any(self) -> Option<Self> {
        (!self.found.is_empty()).then_some(self)
    }
}

/// How many entries of a list are looked at to find one that is in use; with more it is.
const LOOKED_AT: u32 = 200;

/// How many listings of a tenant's devices, a thousand each, are looked through for one with a profile.
const LISTINGS: usize = 10;

/// Why nobody says that a profile is not in use.
const MANY_DEVICES: &str = "the tenant has more devices than are looked at";

/// How many copies KV gives at a time (Workers KV, "Read key-value pairs").
const COPIES: usize = 100;

/// Whether a record is there and of this tenant. A foreign one looks like none.
async fn has<R: Record, W: World>(world: &W, tenant: &Id, id: &Id) -> Result<bool, Fault> {
    let loaded = store::load::<R, W>(world, id.as_str()).await?;
    Ok(loaded.is_some_and(|loaded| {
        loaded.stored.alive() && loaded.stored.record.tenant() == Some(tenant)
    }))
}

/// Whether a record's tenant is there, which is looked at only if it can be gone by; if not, that is added to
/// the flaws. `at`: where it stands.
async fn has_tenant<W: World>(
    world: &W,
    tenant: &Id,
    at: &str,
    flaws: &mut Flaws,
) -> Result<bool, Fault> {
    if flaws.touch(at) {
        return Ok(false);
    }
    let loaded = store::load::<Tenant, W>(world, tenant.as_str()).await?;
    let there = loaded.is_some_and(|loaded| loaded.stored.alive());
    if !there {
        flaws.add(at, "there is no such tenant");
    }
    Ok(there)
}

/// Which addresses an admin may set: https to public host names; on a loopback host loopback and
/// http as well, for trying things out. Cloudflare's fetch refuses IP literals in any case.
fn check_url(url: &WebUrl, context: &Context) -> Result<(), &'static str> {
    if context.loopback {
        return Ok(());
    }
    if !url.is_https() {
        return Err("must be an https URL");
    }
    let Some(name) = url.host_name() else {
        return Err("must have a host name, not an address");
    };
    let private = [
        "localhost",
        "local",
        "internal",
        "intranet",
        "lan",
        "home",
        "arpa",
        "test",
        "invalid",
    ];
    let last = name.rsplit('.').next().unwrap_or_default();
    if !name.contains('.') || private.contains(&last) {
        return Err("must have a public host name");
    }
    Ok(())
}

fn check_template(template: &UrlTemplate, pointer: &str, context: &Context, flaws: &mut Flaws) {
    if template.as_str() == UrlTemplate::SELF {
        return;
    }
    let wrong = match template.parse() {
        Ok(url) => check_url(&url, context).err().map(ToOwned::to_owned),
        Err(wrong) => Some(wrong),
    };
    if let Some(wrong) = wrong {
        flaws.add(pointer, wrong);
    }
}

/// What is wrong with a tenant's settings for models and sites.
fn check_layers(tenant: &Tenant, flaws: &mut Flaws) -> Result<(), Fault> {
    for (count, most, part) in [
        (tenant.models.len(), MOST_MODELS, "models"),
        (tenant.sites.len(), MOST_SITES, "sites"),
    ] {
        if count > most {
            flaws.add(
                &pointer(&[part]),
                format!("must have at most {most} members"),
            );
        }
    }
    for name in tenant.models.keys() {
        let mut vendors = VendorId::ALL.iter();
        // As the catalogue spells it, or there could be two of one model.
        let there = vendors.any(|vendor| {
            let model = vendor::model(*vendor, name);
            model.is_some_and(|model| model.name == name)
        });
        if !there {
            let detail = "is no model of the catalogue, in its spelling";
            flaws.add(&pointer(&["models", name]), detail);
        }
    }
    for (part, name, layer) in layers(tenant) {
        for (setting, password) in [
            (Setting::AdminPassword, &layer.settings.admin_password),
            (Setting::UserPassword, &layer.settings.user_password),
        ] {
            if password.is_some() {
                let at = pointer(&[part, name, "settings", setting.name()]);
                flaws.add(&at, "can stand at a tenant, a profile or a device only");
            }
        }
    }
    let json = serde_json::to_vec(&(&tenant.models, &tenant.sites));
    if json.map_err(|_| Fault::Broken("layers to json"))?.len() > MOST_LAYER_BYTES {
        let detail = format!("must be at most {MOST_LAYER_BYTES} bytes of JSON with sites");
        flaws.add("/models", detail);
    }
    Ok(())
}

/// A tenant's settings for models and sites: which of the two, whose, and what.
fn layers(tenant: &Tenant) -> impl Iterator<Item = (&'static str, &str, &Layer)> {
    let models = tenant.models.iter();
    let models = models.map(|(name, layer)| ("models", name.as_str(), layer));
    let sites = tenant.sites.iter();
    let sites = sites.map(|(name, layer)| ("sites", name.as_str(), layer));
    models.chain(sites)
}

/// A pointer (RFC 6901) to a member.
fn pointer(names: &[&str]) -> String {
    names.iter().fold(String::new(), |mut pointer, name| {
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        pointer
    })
}

impl Managed for Tenant {
    async fn check<W: World>(
        &self,
        _: &W,
        context: &Context,
        _: &str,
        _: &dyn Fn(&str) -> bool,
        flaws: &mut Flaws,
    ) -> Result<(), Fault> {
        let webhook = self.webhook.iter();
        for wrong in webhook.filter_map(|webhook| check_url(&webhook.url, context).err()) {
            flaws.add("/webhook/url", wrong);
        }
        check_layers(self, flaws)
    }

    fn settle(next: &mut Stored<Self>, former: Option<&Stored<Self>>, _: Timestamp) {
        // What comes back from its deletion is new.
        let former = former.filter(|former| former.alive());
        let state = former.and_then(|former| former.state.clone());
        let terms = next.record.rollout.as_ref();
        next.state = terms.map(|_| state.unwrap_or_else(Templates::begin));
    }

    fn retire(next: &mut Stored<Self>) {
        next.state = None;
    }

    async fn used_by<W: World>(
        world: &W,
        id: &str,
        _: &Stored<Self>,
        _: usize,
    ) -> Result<Option<Users>, Fault> {
        let tenant = Id::try_from(id).map_err(|_| Fault::Broken("tenant id"))?;
        let page = world
            .r2()
            .list(&key::owned_by(&tenant, None), None, LOOKED_AT)
            .await?;
        for entry in &page.entries {
            // A save that did not take place may have left its name on the list.
            let Some((kind, what)) = key::parse_owned(&entry.key) else {
                continue;
            };
            let what_id = Id::try_from(what).ok();
            let there = match (kind, &what_id) {
                (Kind::Profile, Some(id)) => has::<Profile, W>(world, &tenant, id).await?,
                (Kind::Pbx, Some(id)) => has::<Pbx, W>(world, &tenant, id).await?,
                (Kind::Account, Some(id)) => has::<Account, W>(world, &tenant, id).await?,
                (Kind::Rule, Some(id)) => has::<Rule, W>(world, &tenant, id).await?,
                (Kind::Device, Some(id)) => has::<Device, W>(world, &tenant, id).await?,
                (Kind::Token, Some(id)) => has::<Token, W>(world, &tenant, id).await?,
                (Kind::Tenant, _) | (_, None) => false,
            };
            if there {
                return Ok(Some(Users::some(format!(
                    "the tenant still has the {kind} {what}"
                ))));
            }
        }
        Ok(page
            .cursor
            .map(|_| Users::some("the tenant still has records")))
    }

    async fn warnings<W: World>(
        _: &W,
        id: &str,
        stored: &Stored<Self>,
    ) -> Result<Vec<Objection>, Fault> {
        let tenant = &stored.record;
        let mut warnings = Vec::new();
        for (part, name, layer) in layers(tenant) {
            let own = Level::of(stored, id, &tenant.settings, Some(&tenant.locked));
            let resource = format!("{}/{id}/{part}/{name}", Kind::Tenant.collection());
            let both = Levels::new(vec![own, Level::of_layer(resource, layer)]);
            for mut locked_out in both.locked_out() {
                locked_out.pointer = format!("{}{}", pointer(&[part, name]), locked_out.pointer);
                warnings.push(locked_out);
            }
        }
        Ok(warnings)
    }
}

impl Managed for Profile {
    const FORCE: bool = true;
    const READ_ONLY: &'static [&'static str] = &["rollout"];

    async fn check<W: World>(
        &self,
        world: &W,
        _: &Context,
        _: &str,
        _: &dyn Fn(&str) -> bool,
        flaws: &mut Flaws,
    ) -> Result<(), Fault> {
        has_tenant(world, &self.tenant, Self::TENANT, flaws).await?;
        Ok(())
    }

    fn settle(next: &mut Stored<Self>, former: Option<&Stored<Self>>, now: Timestamp) {
        // What comes back from its deletion is new.
        let former = former.filter(|former| former.alive());
        next.state = former.and_then(|former| {
            let (before, after) = (&former.record, &next.record);
            Rollout::after_save(former.state.as_ref(), before, after, next.edition, now)
        });
    }

    async fn prepare<W: World>(
        world: &W,
        _: &Context,
        _: &str,
        next: &mut Stored<Self>,
    ) -> Result<(), Failure> {
        let begins = |rollout: &Rollout| rollout.edition == next.edition;
        if next.state.as_ref().is_some_and(begins)
            && rollout::terms(world, &next.record.tenant).await?.is_none()
        {
            // All get it at once.
            next.state = None;
        }
        Ok(())
    }

    fn retire(next: &mut Stored<Self>) {
        next.state = None;
    }

    async fn used_by<W: World>(
        world: &W,
        id: &str,
        stored: &Stored<Self>,
        most: usize,
    ) -> Result<Option<Users>, Fault> {
        let prefix = key::owned_by(&stored.record.tenant, Some(Kind::Device));
        // A version that a phone is held to has what is secret in its profile as it is today.
        let has_it = |device: &Stored<Device>| {
            let records = [&device.record, device.host()].into_iter();
            let mut named = records.filter_map(|record| record.profile.as_ref());
            device.alive() && named.any(|profile| profile.as_str() == id)
        };
        let mut users = Users::default();
        let mut reads = 0;
        let mut after = None;
        for _ in 0..LISTINGS {
            let page = world.r2().list(&prefix, after.as_deref(), 1_000).await?;
            for some in page.entries.chunks(COPIES) {
                let macs: Vec<&str> = some.iter().map(|entry| key::last(&entry.key)).collect();
                let keys = macs.iter().map(|mac| key::record(Kind::Device, mac));
                let copies = world.kv().get_many(&keys.collect::<Vec<_>>()).await?;
                for (mac, copy) in macs.into_iter().zip(copies) {
                    // What KV does not have, or has in a shape of before, may be anything.
                    let copy = copy.and_then(|text| Stored::<Device>::read(text.as_bytes()).ok());
                    if copy.is_some_and(|copy| !has_it(&copy)) {
                        continue;
                    }
                    reads += 1;
                    if reads > LOOKED_AT {
                        users.more = true;
                        return Ok(users.any().or_else(|| Some(Users::some(MANY_DEVICES))));
                    }
                    let device = store::load::<Device, W>(world, mac).await?;
                    let why = || format!("the device {mac} still has it");
                    if device.is_some_and(|device| has_it(&device.stored))
                        && users.is_enough(Kind::Device, mac, why(), most)
                    {
                        return Ok(Some(users));
                    }
                }
            }
            after = page.cursor;
            if after.is_none() {
                return Ok(users.any());
            }
        }
        users.more = true;
        Ok(users.any().or_else(|| Some(Users::some(MANY_DEVICES))))
    }

    async fn warnings<W: World>(
        world: &W,
        id: &str,
        stored: &Stored<Self>,
    ) -> Result<Vec<Objection>, Fault> {
        let tenant = store::load::<Tenant, W>(world, stored.record.tenant.as_str()).await?;
        let Some(Loaded { stored: tenant, .. }) = tenant.filter(|tenant| tenant.stored.alive())
        else {
            return Ok(Vec::new());
        };
        let below = &tenant.record;
        let own = &stored.record;
        let levels = vec![
            Level::of(
                &tenant,
                own.tenant.as_str(),
                &below.settings,
                Some(&below.locked),
            ),
            Level::of(stored, id, &own.settings, Some(&own.locked)),
        ];
        Ok(Levels::new(levels).locked_out())
    }

    fn add_beside(stored: &Stored<Self>, shown: &mut Map<String, Value>) {
        if let Some(open) = &stored.state {
            let open = json!({ "stage": open.stage.word(), "since": open.since });
            shown.insert("rollout".to_owned(), open);
        }
    }
}

impl Managed for Rule {
    const TENANT: &'static str = "/match/tenant";

    fn allowed(&self, caller: &Caller) -> Result<(), Problem> {
        match self.tenant() {
            Some(_) => Ok(()),
            // It sends every tenant's phones somewhere.
            None => caller.needs(Role::Owner),
        }
    }

    async fn check<W: World>(
        &self,
        world: &W,
        context: &Context,
        _: &str,
        _: &dyn Fn(&str) -> bool,
        flaws: &mut Flaws,
    ) -> Result<(), Fault> {
        check_template(&self.url, "/url", context, flaws);
        if let Some(tenant) = &self.matches.tenant {
            has_tenant(world, tenant, Self::TENANT, flaws).await?;
        }
        Ok(())
    }
}

impl Managed for Pbx {
    const FORCE: bool = true;

    async fn check<W: World>(
        &self,
        world: &W,
        context: &Context,
        _: &str,
        has_secret: &dyn Fn(&str) -> bool,
        flaws: &mut Flaws,
    ) -> Result<(), Fault> {
        has_tenant(world, &self.tenant, Self::TENANT, flaws).await?;
        if let Err(wrong) = check_url(&self.ari_url, context) {
            flaws.add("/ari_url", wrong);
        }
        if !has_secret("ari_password") {
            flaws.add("/ari_password", "is missing");
        }
        if let Some(ami) = &self.ami {
            if let Err(wrong) = check_url(&ami.url, context) {
                flaws.add("/ami/url", wrong);
            }
            if !has_secret("ami_password") {
                flaws.add("/ami/password", "is missing");
            }
        }
        Ok(())
    }

    async fn fits<W: World>(
        world: &W,
        context: &Context,
        id: &str,
        next: &Stored<Self>,
        flaws: &mut Flaws,
    ) -> Result<(), Failure> {
        let former = store::load::<Self, W>(world, id).await?;
        let former = former.map(|former| former.stored);
        let is_others =
            |former: &Stored<Self>| former.record.tenant != next.record.tenant && !former.alive();
        if !flaws.is_empty() || !former.is_some_and(|former| is_others(&former)) {
            return Ok(());
        }
        // Its accounts would be at the new one, and their passwords.
        let pbx = Id::try_from(id).map_err(|_| Fault::Broken("pbx id"))?;
        if accounts_at(world, &pbx, 1).await?.is_none() {
            return Ok(());
        }
        let detail = "another tenant has accounts at a PBX of this id, which was deleted";
        let taken = Problem::new(ProblemKind::Taken, detail);
        Err(tell_taken(world, &context.caller, Kind::Pbx, id, taken).await)
    }

    async fn used_by<W: World>(
        world: &W,
        id: &str,
        stored: &Stored<Self>,
        most: usize,
    ) -> Result<Option<Users>, Fault> {
        let pbx = Id::try_from(id).map_err(|_| Fault::Broken("pbx id"))?;
        let users = accounts_at(world, &pbx, most).await?;
        if users.is_some() || stored.record.mode == Mode::Observe {
            return Ok(users);
        }
        let gone = world.r2().list(&key::all_gone(&pbx), None, 1).await?;
        Ok(gone.entries.first().map(|entry| {
            let username = key::last(&entry.key);
            Users::some(format!(
                "{username} is still to be deleted at this PBX; set its mode to observe to give that up"
            ))
        }))
    }
}

/// The accounts at a PBX, looked for until so many are found.
async fn accounts_at<W: World>(world: &W, pbx: &Id, most: usize) -> Result<Option<Users>, Fault> {
    let page = world.r2().list(&key::names(pbx), None, LOOKED_AT).await?;
    let mut users = Users::default();
    for entry in &page.entries {
        let Some(held) = world.r2().get(&entry.key).await? else {
            continue;
        };
        let username = key::last(&entry.key);
        let holder = String::from_utf8_lossy(&held.body).into_owned();
        if is_holder(world, &holder, pbx, username).await? {
            let why = format!("the account {holder} with the username {username} is at this PBX");
            if users.is_enough(Kind::Account, &holder, why, most) {
                return Ok(Some(users));
            }
        }
    }
    if page.cursor.is_some() {
        users.more = true;
        let many = || Users::some("accounts are still at this PBX");
        return Ok(users.any().or_else(|| Some(many())));
    }
    Ok(users.any())
}

/// Whether an account is there and has this name at this PBX.
async fn is_holder<W: World>(
    world: &W,
    account: &str,
    pbx: &Id,
    username: &str,
) -> Result<bool, Fault> {
    if account.as_bytes() == key::FREE_NAME {
        return Ok(false);
    }
    let loaded = store::load::<Account, W>(world, account).await?;
    Ok(loaded.is_some_and(|loaded| {
        let record = &loaded.stored.record;
        loaded.stored.alive() && record.pbx == *pbx && record.username.as_str() == username
    }))
}

impl Managed for Account {
    const FORCE: bool = true;

    async fn check<W: World>(
        &self,
        world: &W,
        _: &Context,
        id: &str,
        _: &dyn Fn(&str) -> bool,
        flaws: &mut Flaws,
    ) -> Result<(), Fault> {
        if batch::ROUTES.contains(&id) {
            flaws.add("/id", "is the name of a route");
        }
        if has_tenant(world, &self.tenant, Self::TENANT, flaws).await?
            && !flaws.touch("/pbx")
            && !has::<Pbx, W>(world, &self.tenant, &self.pbx).await?
        {
            flaws.add("/pbx", "the tenant has no such PBX");
        }
        for objection in hot_desk::check(&self.buttons) {
            flaws.object(objection);
        }
        Ok(())
    }

    fn settle(next: &mut Stored<Self>, former: Option<&Stored<Self>>, _: Timestamp) {
        if former.is_some_and(|former| former.record.tenant != next.record.tenant) {
            // The devices of the tenant that had the id before are none of this one's.
            next.state.devices.clear();
        }
        if let Some(former) = former.filter(|former| former.alive()) {
            let before = (&former.record.pbx, &former.record.username);
            if before != (&next.record.pbx, &next.record.username) {
                next.state
                    .former_names
                    .insert((before.0.clone(), before.1.clone()));
            }
        }
    }

    async fn fits<W: World>(
        world: &W,
        _: &Context,
        id: &str,
        next: &Stored<Self>,
        flaws: &mut Flaws,
    ) -> Result<(), Failure> {
        for error in phones_object(world, id, next).await? {
            flaws.add(&error.pointer, error.detail);
        }
        if !flaws.is_empty() {
            return Ok(());
        }
        let key = key::name(&next.record.pbx, &next.record.username);
        match world.r2().get(&key).await? {
            Some(held) => name_is_free(world, id, &next.record, &held).await,
            None => Ok(()),
        }
    }

    async fn prepare<W: World>(
        world: &W,
        _: &Context,
        id: &str,
        next: &mut Stored<Self>,
    ) -> Result<(), Failure> {
        take_name(world, id, &next.record).await
    }

    fn keep_former<W: World>(
        world: &W,
        id: &str,
        next: &mut Stored<Self>,
        former: Option<&Stored<Self>>,
        at_once: bool,
    ) -> Result<(), Fault> {
        account::keep_former(world, id, next, former, at_once)
    }

    fn retire(next: &mut Stored<Self>) {
        next.state.former_passwords.clear();
    }

    async fn used_by<W: World>(
        world: &W,
        id: &str,
        stored: &Stored<Self>,
        most: usize,
    ) -> Result<Option<Users>, Fault> {
        let mut users = Users::default();
        for mac in &stored.state.devices {
            let why = || format!("the device {mac} still has a line with it");
            if has_line(world, *mac, id).await?
                && users.is_enough(Kind::Device, &mac.to_string(), why(), most)
            {
                break;
            }
        }
        Ok(users.any())
    }
}

/// What the phones that have an account cannot take of its new version: their vendors are named.
async fn phones_object<W: World>(
    world: &W,
    id: &str,
    next: &Stored<Account>,
) -> Result<Vec<FieldError>, Fault> {
    let account = Id::try_from(id).map_err(|_| Fault::Broken("account id"))?;
    let mut errors = Vec::new();
    for mac in &next.state.devices {
        let device = store::load::<Device, W>(world, &mac.to_string()).await?;
        let Some(mut device) = device.filter(|device| device.stored.alive()) else {
            continue;
        };
        // Of a user who is logged in there, what the phone cannot carry is left out.
        device.stored.state.session = None;
        // As its record has it, and as the version has it that it is held to.
        let pinned = device.stored.state.pinned.take();
        let held = pinned.map(|pinned| {
            let mut held = device.stored.clone();
            held.state.pinned = Some(pinned);
            held
        });
        for device in [Some(device.stored), held].into_iter().flatten() {
            let made = Ingredients::gather(world, *mac, device, From::R2).await?;
            let made = made.with_account(account.clone(), next.clone());
            let phone = made.phone(world.keys(), "")?;
            let of_account = |pointer: &str| {
                let mut lines = phone.lines.iter().filter(|line| *line.id == account);
                lines.any(|line| pointer == format!("/lines/{}/account", line.index))
            };
            for objection in vendor::objections(&phone) {
                if let Some(field) = objection.account_field
                    && of_account(&objection.pointer)
                {
                    let detail = format!("the device {mac} has it: {}", objection.detail);
                    let error = FieldError::new(format!("/{field}"), detail);
                    if !errors.contains(&error) {
                        errors.push(error);
                    }
                }
            }
        }
    }
    Ok(errors)
}

/// Whether a device has a line with an account.
async fn has_line<W: World>(world: &W, mac: Mac, account: &str) -> Result<bool, Fault> {
    let device = store::load::<Device, W>(world, &mac.to_string()).await?;
    Ok(device.is_some_and(|device| {
        let stored = device.stored;
        // After it is unpinned, and until then.
        let mut lines = stored.record.lines.iter().chain(&stored.host().lines);
        stored.alive() && lines.any(|line| line.account.as_str() == account)
    }))
}

/// Refuses a username at a PBX that another account has.
async fn name_is_free<W: World>(
    world: &W,
    id: &str,
    record: &Account,
    held: &Object,
) -> Result<(), Failure> {
    let holder = String::from_utf8_lossy(&held.body).into_owned();
    let name = record.username.as_str();
    if holder == id || !is_holder(world, &holder, &record.pbx, name).await? {
        return Ok(());
    }
    let detail = "another account has this username at this PBX";
    Err(Problem::new(ProblemKind::Taken, detail)
        .at("/username")
        .into())
}

/// Takes a username at a PBX for an account. What an account holds that does not have this name any
/// more, or never came to be, can be taken over.
async fn take_name<W: World>(world: &W, id: &str, record: &Account) -> Result<(), Failure> {
    let key = key::name(&record.pbx, &record.username);
    for attempt in 0..8 {
        let put = world
            .r2()
            .put(&key, id.as_bytes().to_vec(), BTreeMap::new(), Only::Absent)
            .await?;
        if put.is_some() {
            return Ok(());
        }
        let Some(held) = world.r2().get(&key).await? else {
            continue;
        };
        if held.body == id.as_bytes() {
            return Ok(());
        }
        name_is_free(world, id, record, &held).await?;
        let only = Only::Version(&held.etag);
        if world
            .r2()
            .put(&key, id.as_bytes().to_vec(), BTreeMap::new(), only)
            .await?
            .is_some()
        {
            return Ok(());
        }
        store::pause(world, attempt).await;
    }
    Err(Fault::Contended.into())
}

impl Managed for Device {
    async fn check<W: World>(
        &self,
        world: &W,
        context: &Context,
        _: &str,
        _: &dyn Fn(&str) -> bool,
        flaws: &mut Flaws,
    ) -> Result<(), Fault> {
        let has_tenant = has_tenant(world, &self.tenant, Self::TENANT, flaws).await?;
        for (count, most, at) in [
            (self.lines.len(), MOST_LINES, "/lines"),
            (self.buttons.len(), MOST_BUTTONS, "/buttons"),
        ] {
            if count > most {
                flaws.add(at, format!("may be {most} at most"));
            }
        }
        let few = self.lines.len() <= MOST_LINES && self.buttons.len() <= MOST_BUTTONS;
        let known = !flaws.touch("/vendor") && !flaws.touch("/model");
        let model = vendor::model(self.vendor, &self.model).filter(|_| known);
        if known && model.is_none() {
            let detail = match self.vendor.rules().out_of_reach(&self.model) {
                Some(reason) => reason.to_owned(),
                None => format!("is no {} model of the catalogue", self.vendor),
            };
            flaws.add("/model", detail);
        }
        if few {
            for objection in step6_config_files::check(self, model) {
                flaws.object(objection);
            }
        }
        if let Some(url) = &self.url {
            check_template(url, "/url", context, flaws);
        }
        if self.decoy && !(self.lines.is_empty() && self.arm.is_none()) {
            let detail = "a decoy has no lines and is not armed: no phone ever gets anything of it";
            flaws.add("/decoy", detail);
        }
        if !has_tenant {
            // Nobody has anything of a tenant that is none.
            return Ok(());
        }
        if let Some(profile) = &self.profile
            && !has::<Profile, W>(world, &self.tenant, profile).await?
        {
            flaws.add("/profile", "the tenant has no such profile");
        }
        for (n, line) in self.lines.iter().enumerate().filter(|_| few) {
            let at = format!("/lines/{n}/account");
            if !flaws.touch(&at) && !has::<Account, W>(world, &self.tenant, &line.account).await? {
                flaws.add(&at, "the tenant has no such account");
            }
        }
        Ok(())
    }

    fn settle(next: &mut Stored<Self>, former: Option<&Stored<Self>>, now: Timestamp) {
        let arm = next.record.arm.take();
        let former_lines = former.filter(|former| former.alive()).into_iter();
        let former_lines = former_lines.flat_map(|former| &former.record.lines);
        let kept = |account: &Id| {
            next.record
                .lines
                .iter()
                .any(|line| line.account == *account)
        };
        let left: Vec<Id> = former_lines
            .map(|line| line.account.clone())
            .filter(|account| !kept(account))
            .collect();
        next.state.former_accounts.extend(left);
        if former.is_some_and(Stored::alive) {
            // `arm` counts on create; later there is a call of its own.
            return;
        }
        // A device that comes back is a new one: what the old one was given opens nothing.
        let access = &mut next.state.access;
        access.token += 1;
        access.first_access += 1;
        access.former = None;
        access.used = false;
        next.state.window = arm.map(|span| Window {
            until: now.plus(span.seconds),
            claim: None,
        });
    }

    async fn fits<W: World>(
        world: &W,
        _: &Context,
        id: &str,
        next: &Stored<Self>,
        flaws: &mut Flaws,
    ) -> Result<(), Failure> {
        let whose = [Self::TENANT, "/vendor", "/model"];
        let many = [
            next.record.lines.len() > MOST_LINES,
            next.record.buttons.len() > MOST_BUTTONS,
        ];
        if whose.iter().any(|at| flaws.touch(at)) || many.contains(&true) {
            return Ok(());
        }
        let mac: Mac = id.parse().map_err(|_| Fault::Broken("device id"))?;
        let pinned = next.state.pinned.as_ref();
        if let Some(error) = pinned.and_then(|pinned| another_make(pinned, &next.record)) {
            return Err(Problem::invalid(vec![error]).into());
        }
        // What the vendor's files cannot carry shows only with everything put together: of the host, whoever
        // is logged in now and whatever version the files are held to.
        let mut host = next.clone();
        host.state.session = None;
        host.state.pinned = None;
        let made = Ingredients::gather(world, mac, host, From::R2).await?;
        // What is wrong with a line or a key may be why the vendor objects to it, or to a key of it.
        let lines = flaws.touch("/lines");
        for objection in vendor::objections(&made.phone(world.keys(), "")?) {
            let mut names = objection.pointer.splitn(4, '/').skip(1);
            let place = match (names.next(), names.next()) {
                (Some("buttons"), _) if lines => "/lines".to_owned(),
                (Some(list), Some(n)) => format!("/{list}/{n}"),
                _ => objection.pointer.clone(),
            };
            if !flaws.touch(&place) {
                flaws.object(objection);
            }
        }
        // All accounts must have room before any is given the device, so that a refusal leaves no
        // trace.
        for error in full_accounts(world, mac, &next.record).await? {
            flaws.add(&error.pointer, error.detail);
        }
        Ok(())
    }

    fn joins<'a>(next: &'a Stored<Self>, former: Option<&Stored<Self>>) -> Vec<&'a Id> {
        let accounts = next.record.lines.iter().map(|line| &line.account);
        accounts
            .filter(|account| !former.is_some_and(|former| former.has_account(account)))
            .collect()
    }

    async fn prepare<W: World>(
        world: &W,
        context: &Context,
        id: &str,
        next: &mut Stored<Self>,
    ) -> Result<(), Failure> {
        let mac: Mac = id.parse().map_err(|_| Fault::Broken("device id"))?;
        // Before the save, so that a change of the account in between finds the device.
        add_to_accounts(world, mac, &next.record).await?;
        if next.state.files.is_none() {
            // It is new, or came back: whatever opens it is signed from now on.
            next.state.access.key = Some(world.keys().id());
        }
        let made = Ingredients::gather(world, mac, next.clone(), From::R2).await?;
        let files = made.files(world, &context.origin)?;
        if let Some(version) = versions::draft(world, &made, &files) {
            versions::keep(world, mac, &mut next.state, version).await;
        }
        next.state.files = Some(files);
        next.state.policy = made.policy();
        // The session with which the files were made, or none if it stands no more.
        let state = made.device.state;
        next.state.session = state.session;
        next.state.former_accounts = state.former_accounts;
        Ok(())
    }

    fn retire(next: &mut Stored<Self>) {
        // The generations stay, so that no token of the deleted device ever opens a new one.
        let accounts = in_order(next.accounts().into_iter().cloned());
        next.state = DeviceState {
            access: next.state.access,
            former_accounts: accounts,
            ..DeviceState::default()
        };
    }

    fn access(stored: &Stored<Self>) -> Option<Access> {
        Some(stored.state.access)
    }

    async fn warnings<W: World>(
        world: &W,
        id: &str,
        stored: &Stored<Self>,
    ) -> Result<Vec<Objection>, Fault> {
        let mac: Mac = id.parse().map_err(|_| Fault::Broken("device id"))?;
        let mut host = stored.clone();
        host.state.session = None;
        let pinned = host.state.pinned.take();
        let made = Ingredients::gather(world, mac, host.clone(), From::R2).await?;
        let mut warnings = made.warnings(world.keys())?;
        if pinned.is_some() {
            host.state.pinned = pinned;
            let made = Ingredients::gather(world, mac, host, From::R2).await?;
            warnings.extend(made.held());
        }
        Ok(warnings)
    }
}

/// What is wrong with a device that is of another make than the version that its files are to be held to: the phone
/// could not read them.
pub(super) fn another_make(pinned: &Pinned, record: &Device) -> Option<FieldError> {
    let Device { vendor, model, .. } = &pinned.snapshot.device;
    let field = if record.vendor != *vendor {
        "/vendor"
    } else if !record.model.eq_ignore_ascii_case(model) {
        "/model"
    } else {
        return None;
    };
    let number = pinned.version;
    let detail =
        format!("is another one than in version {number} of the files, a {vendor} {model}");
    Some(FieldError::new(field, detail))
}

/// Names that the audit has for others than the holders of tokens.
const RESERVED: [&str; 3] = [Caller::ADMIN, audit::PHONE, audit::DIALTONE];

impl Managed for Token {
    const JUDGED_BY: &'static [&'static str] = &["/role", "/expires_at"];

    const READ_ONLY: &'static [&'static str] = &["token", "last_used_at"];

    fn allowed(&self, caller: &Caller) -> Result<(), Problem> {
        let outlives = |end: Timestamp| self.expires_at.is_none_or(|at| at > end);
        if self.role <= caller.role && !caller.expires_at.is_some_and(outlives) {
            return Ok(());
        }
        let detail = "nobody gives a token more than the own one has: role, tenant, time";
        Err(Problem::new(ProblemKind::Forbidden, detail))
    }

    async fn check<W: World>(
        &self,
        world: &W,
        _: &Context,
        id: &str,
        _: &dyn Fn(&str) -> bool,
        flaws: &mut Flaws,
    ) -> Result<(), Fault> {
        if let Some(tenant) = &self.tenant {
            has_tenant(world, tenant, Self::TENANT, flaws).await?;
        }
        if RESERVED.contains(&id) {
            flaws.add("/id", "is a name that the audit needs");
        }
        if self.expires_at.is_some_and(|at| at <= world.now()) {
            flaws.add("/expires_at", "is past");
        }
        Ok(())
    }

    fn settle(next: &mut Stored<Self>, _: Option<&Stored<Self>>, _: Timestamp) {
        if next.record.access.is_some() {
            // From now on no text opens it.
            next.state.digest = None;
        }
    }

    async fn fits<W: World>(
        world: &W,
        context: &Context,
        id: &str,
        next: &Stored<Self>,
        flaws: &mut Flaws,
    ) -> Result<(), Failure> {
        let Some(identity) = next.record.access.as_ref().filter(|_| flaws.is_empty()) else {
            return Ok(());
        };
        let held = world.r2().get(&key::access(identity)).await?;
        let held = held.as_ref().map(|held| held.body.as_slice());
        identity_is_free(world, &context.caller, id, identity, held).await
    }

    async fn prepare<W: World>(
        world: &W,
        context: &Context,
        id: &str,
        next: &mut Stored<Self>,
    ) -> Result<(), Failure> {
        match &next.record.access {
            Some(identity) => take_identity(world, &context.caller, id, identity).await,
            None if next.state.digest.is_none() => Ok(next.state.renew(world, id)?),
            None => Ok(()),
        }
    }

    fn retire(next: &mut Stored<Self>) {
        next.state = TokenState::default();
    }

    fn add_beside(stored: &Stored<Self>, shown: &mut Map<String, Value>) {
        if let Some(at) = stored.state.last_used_at {
            shown.insert("last_used_at".to_owned(), at.to_string().into());
        }
        // Only where it was just made: it is not stored.
        if let Some(text) = &stored.state.text {
            shown.insert("token".to_owned(), text.reveal().into());
        }
    }
}

/// Refuses a name at Cloudflare Access that another token's record has. `held` is what stands under the name.
async fn identity_is_free<W: World>(
    world: &W,
    caller: &Caller,
    id: &str,
    identity: &Identity,
    held: Option<&[u8]>,
) -> Result<(), Failure> {
    if held == Some(id.as_bytes()) {
        return Ok(());
    }
    if caller.held_until.is_some_and(|until| world.now() < until) {
        // Like an id, it must not tell names that others have from free ones.
        return Err(held_back().into());
    }
    let holder = held.and_then(|held| std::str::from_utf8(held).ok());
    let Some(holder) = holder.filter(|holder| holder.as_bytes() != key::FREE_NAME) else {
        return Ok(());
    };
    let loaded = store::load::<Token, W>(world, holder).await?;
    let has_it = |loaded: &Loaded<Token>| loaded.stored.is_of(identity);
    let Some(Loaded { stored, .. }) = loaded.filter(has_it) else {
        return Ok(());
    };
    let detail = "another token is for whoever has this name";
    let taken = Problem::new(ProblemKind::Taken, detail).at("/access");
    if caller.sees(holder, &stored.record) {
        return Err(taken.into());
    }
    Err(tell_taken(world, caller, Kind::Token, id, taken).await)
}

/// Takes a name at Cloudflare Access for a token, as [`take_name`] does it at a PBX for an account.
async fn take_identity<W: World>(
    world: &W,
    caller: &Caller,
    id: &str,
    identity: &Identity,
) -> Result<(), Failure> {
    let key = key::access(identity);
    for attempt in 0..8 {
        let held = world.r2().get(&key).await?;
        let body = held.as_ref().map(|held| held.body.as_slice());
        identity_is_free(world, caller, id, identity, body).await?;
        let only = match &held {
            Some(held) if held.body == id.as_bytes() => return Ok(()),
            Some(held) => Only::Version(&held.etag),
            None => Only::Absent,
        };
        let body = id.as_bytes().to_vec();
        let put = world.r2().put(&key, body, BTreeMap::new(), only).await?;
        if put.is_some() {
            return Ok(());
        }
        store::pause(world, attempt).await;
    }
    Err(Fault::Contended.into())
}

/// The most lines that a record may have, whatever the model: more than any phone, base or handset.
const MOST_LINES: usize = 255;

/// The most buttons that a record may have: more than a phone with six full expansion modules.
const MOST_BUTTONS: usize = 1_000;

/// Notes a device at the accounts of its lines.
async fn add_to_accounts<W: World>(world: &W, mac: Mac, device: &Device) -> Result<(), Failure> {
    for (n, line) in device.lines.iter().enumerate() {
        if !add_device(world, &device.tenant, &line.account, mac, false).await? {
            return Err(Problem::invalid(vec![full(n)]).into());
        }
    }
    Ok(())
}

/// The lines whose accounts have no room for a device.
async fn full_accounts<W: World>(
    world: &W,
    mac: Mac,
    device: &Device,
) -> Result<Vec<FieldError>, Fault> {
    let mut errors = Vec::new();
    for (n, line) in device.lines.iter().enumerate() {
        if !add_device(world, &device.tenant, &line.account, mac, true).await? {
            errors.push(full(n));
        }
    }
    Ok(errors)
}

/// That the account of a line is on too many devices.
fn full(line: usize) -> FieldError {
    let detail = format!("the account is on {MOST_DEVICES} devices already");
    FieldError::new(format!("/lines/{line}/account"), detail)
}

/// Notes at an account of the device's tenant that a device has a line or a session with it; false if it is on too many already.
/// `dry`: only looks.
///
/// # Errors
/// The [`Fault`] of R2.
pub(crate) async fn add_device<W: World>(
    world: &W,
    tenant: &Id,
    account: &Id,
    mac: Mac,
    dry: bool,
) -> Result<bool, Fault> {
    let loaded = store::load::<Account, W>(world, account.as_str()).await?;
    // Another's, that took the id of one that is gone, is told of no device.
    let Some(loaded) = loaded.filter(|loaded| loaded.stored.record.tenant == *tenant) else {
        return Ok(true);
    };
    let mut without = Vec::new();
    if loaded.stored.state.devices.len() >= MOST_DEVICES {
        // Some may have given up the line since they were noted.
        for noted in &loaded.stored.state.devices {
            let device = store::load::<Device, W>(world, &noted.to_string()).await?;
            if device.is_none_or(|device| !device.stored.has_account(account)) {
                without.push(*noted);
            }
        }
    }
    if dry {
        let devices = &loaded.stored.state.devices;
        return Ok(devices.contains(&mac) || devices.len() < MOST_DEVICES + without.len());
    }
    let mut full = false;
    store::update::<Account, W>(world, account.as_str(), |stored| {
        let devices = &mut stored.state.devices;
        full = false;
        if devices.contains(&mac) || stored.record.tenant != *tenant {
            return false;
        }
        devices.retain(|noted| !without.contains(noted));
        full = devices.len() >= MOST_DEVICES;
        !full && devices.insert(mac)
    })
    .await?;
    Ok(!full)
}
