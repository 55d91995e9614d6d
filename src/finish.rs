//! What follows from a saved record: its copy in KV, the files of the devices that it is part of,
//! the rules' packs, the names at a PBX.
//!
//! Level-triggered: each function reads what is true now and brings the rest in line, so it may run
//! twice, late, or after another. The admin API runs it after each save; what a cut-off save left
//! behind, the scheduled handler finds under `unfinished/` and runs it then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::gather::in_order;
use crate::json;
use crate::key::{self, Kind, Regenerated};
use crate::keys::hex;
use crate::mac::Mac;
use crate::ports::{Mappings, Objects, Only, World};
use crate::record::account::Account;
use crate::record::device::{Device, Sources};
use crate::record::pbx::Pbx;
use crate::record::profile::Profile;
use crate::record::rule::Rule;
use crate::record::tenant::Tenant;
use crate::record::token::Token;
use crate::record::{Record, Stored};
use crate::refusal;
use crate::render::{self, From, Ingredients};
use crate::resync;
use crate::rollout::templates::{Kept, Scope};
use crate::rollout::{Concerned, Subject};
use crate::session;
use crate::step2_redirect::NamedRule;
use crate::step5_config_request::stale;
use crate::store::{self, Loaded};
use crate::text::{Id, Username};
use crate::upload;
use crate::versions::{self, Draft};

/// The metadata of a mark that says when its save began, in seconds since 1970.
pub const BEGUN: &str = "begun";

/// The metadata of a tombstone that says when it was put, in seconds since 1970.
pub const GONE_AT: &str = "at";

/// The metadata of a mark of a change: the account's name at the PBX.
pub const CHANGED_NAME: &str = "username";

/// The same: that a former password of it still works.
pub const CHANGED_ROTATING: &str = "rotating";

/// The same: that the account is not at the PBX any more.
pub const CHANGED_GONE: &str = "gone";

/// Says that a save is under way, before its first write. The mark is this save's alone: if another
/// save of the same record is done first, it takes away its own.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn begin<W: World>(world: &W, kind: Kind, id: &str) -> Result<Mark, Fault> {
    begin_with(world, kind, id, &[]).await
}

/// The same of a device that is put on the lists of accounts before it is saved with them: should the
/// save not take place, [`undo`] finds in the mark which lists those are.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn begin_with<W: World>(
    world: &W,
    kind: Kind,
    id: &str,
    accounts: &[&Id],
) -> Result<Mark, Fault> {
    let nonce: [u8; 8] = world.random()?;
    let mark = Mark(key::unfinished(kind, id, &hex(&nonce)));
    let begun = in_order([(BEGUN.to_owned(), world.now().0.to_string())]);
    let body = if accounts.is_empty() {
        Vec::new()
    } else {
        serde_json::to_vec(accounts).map_err(|_| Fault::Broken("mark to json"))?
    };
    world.r2().put(&mark.0, body, begun, Only::Always).await?;
    Ok(mark)
}

/// Takes a device off the lists that the save of this mark put it on, as far as it is not on those
/// accounts' lines. `mark` is its key.
///
/// # Errors
/// The [`Fault`] of a store.
pub async fn undo<W: World>(world: &W, mark: &str, id: &str) -> Result<(), Fault> {
    let Some(object) = world.r2().get(mark).await? else {
        return Ok(());
    };
    if object.body.is_empty() {
        return Ok(());
    }
    let mac: Mac = id.parse().map_err(|_| Fault::Broken("device key"))?;
    let accounts: Vec<Id> = json::read(&object.body).map_err(|_| Fault::Broken("mark"))?;
    let device = store::load::<Device, W>(world, id).await?;
    for account in &accounts {
        let has = |device: &Loaded<Device>| device.stored.has_account(account);
        // What it has, its own finish saw to.
        if !device.as_ref().is_some_and(has) {
            unlist(world, mac, account).await?;
        }
    }
    Ok(())
}

/// The mark of one save.
#[derive(Debug)]
pub struct Mark(String);

/// Takes a save's mark away: everything that follows from it is done, or it did not take place.
///
/// # Errors
/// The [`Fault`] of R2; the scheduled handler then does it all again.
pub async fn done<W: World>(world: &W, mark: &Mark) -> Result<(), Fault> {
    world.r2().delete(&mark.0).await
}

/// Does everything that follows from a record as it is now.
///
/// `origin` is the scheme and host of URLs in files that have none yet.
///
/// # Errors
/// The first [`Fault`]; the mark of [`begin`] then has to stay for the scheduled handler.
pub async fn finish<W: World>(
    world: &W,
    kind: Kind,
    id: &str,
    origin: Option<&str>,
) -> Result<(), Fault> {
    // Boxed, since together they would be as large as the largest, on the stack of every save.
    match kind {
        Kind::Tenant => {
            let own = Id::try_from(id).map_err(|_| Fault::Broken("tenant id"))?;
            match Box::pin(tenant(world, &own)).await? {
                Some(stored) => Box::pin(regenerate_of(world, id, &stored, Some(&own))).await,
                None => Ok(()),
            }
        }
        Kind::Profile => Box::pin(profile(world, id)).await,
        Kind::Pbx => {
            Box::pin(pbx(world, id)).await?;
            regenerate::<Pbx, W>(world, id).await
        }
        Kind::Rule => Box::pin(rule(world, id)).await,
        Kind::Account => Box::pin(account(world, id, origin)).await,
        Kind::Device => Box::pin(device(world, id, origin)).await,
        Kind::Token => token(world, id).await,
    }
}

/// Has the files of all devices made again that a shared record is part of.
async fn regenerate<R: Record, W: World>(world: &W, id: &str) -> Result<(), Fault> {
    match store::load::<R, W>(world, id).await? {
        Some(Loaded { stored, .. }) => regenerate_of(world, id, &stored, None).await,
        None => Ok(()),
    }
}

/// The same of a record that was read. `own`: a tenant, which belongs to none.
async fn regenerate_of<R: Record, W: World>(
    world: &W,
    id: &str,
    stored: &Stored<R>,
    own: Option<&Id>,
) -> Result<(), Fault> {
    let tenant = own.or_else(|| stored.record.tenant());
    // A new record is part of nothing, and a tenant that has anything is not deleted.
    if stored.edition <= 1 || (own.is_some() && !stored.alive()) {
        return Ok(());
    }
    resync::regenerate(world, Regenerated::Record(R::KIND, id), tenant, None).await
}

/// A tenant's copy, and the marks of the roll-outs of templates that are under way there.
///
/// # Errors
/// The [`Fault`] of a store.
pub async fn tenant<W: World>(world: &W, id: &Id) -> Result<Option<Stored<Tenant>>, Fault> {
    copy::<Tenant, W>(world, id.as_str(), |_| None).await?;
    let Some(Loaded { stored, .. }) = store::load::<Tenant, W>(world, id.as_str()).await? else {
        return Ok(None);
    };
    let templates = stored.state.as_ref().filter(|_| stored.alive());
    let rollouts = templates.into_iter().flat_map(|state| &state.rollouts);
    for (vendor, rollout) in rollouts.filter(|(_, rollout)| rollout.is_open()) {
        let key = key::rollout(&Subject::Templates {
            tenant: id.clone(),
            vendor: *vendor,
            number: rollout.number,
        });
        let r2 = world.r2();
        r2.put(&key, Vec::new(), BTreeMap::new(), Only::Absent)
            .await?;
    }
    Ok(Some(stored))
}

/// A profile's copy, and the files of those of its devices that have other settings now: none while it is
/// chosen who is to have them first.
async fn profile<W: World>(world: &W, id: &str) -> Result<(), Fault> {
    copy::<Profile, W>(world, id, |_| None).await?;
    let Some(Loaded { stored, .. }) = store::load::<Profile, W>(world, id).await? else {
        return Ok(());
    };
    let Some(rollout) = stored.state.as_ref().filter(|_| stored.alive()) else {
        return regenerate_of(world, id, &stored, None).await;
    };
    if rollout.is_open() {
        let key = key::rollout(&Subject::Profile {
            id: Id::try_from(id).map_err(|_| Fault::Broken("profile id"))?,
            edition: rollout.edition,
        });
        let r2 = world.r2();
        r2.put(&key, Vec::new(), BTreeMap::new(), Only::Absent)
            .await?;
    }
    let only = match rollout.concerned(id, stored.edition) {
        Concerned::Nobody => return Ok(()),
        Concerned::Canaries(canaries) => Some(canaries),
        Concerned::Everybody => None,
    };
    let (what, tenant) = (
        Regenerated::Record(Kind::Profile, id),
        stored.record.tenant(),
    );
    resync::regenerate(world, what, tenant, only.as_ref()).await
}

/// What a listing of the accounts in KV shows of each, so that the scheduled handler need not read
/// them one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The PBX that it registers with.
    pub pbx: Id,
    /// Its name there.
    pub username: Username,
    /// The revision of its record.
    pub rev: u64,
    /// Whether it is deleted.
    #[serde(default)]
    pub gone: bool,
    /// Whether a former password of it still works.
    #[serde(default)]
    pub rotating: bool,
}

/// How often a copy is made again because the record changed in the meantime.
const COPIES: u32 = 8;

/// Copies a record to KV until what was copied is what R2 has: two saves at once could otherwise
/// leave the older copy on top. `pack` takes out what KV needs not have, and says what a listing
/// is to show.
async fn copy<R: Record, W: World>(
    world: &W,
    id: &str,
    pack: impl Fn(&mut Stored<R>) -> Option<Listed>,
) -> Result<(), Fault> {
    let mut copied = None;
    for _ in 0..COPIES {
        let Some(Loaded { mut stored, .. }) = store::load::<R, W>(world, id).await? else {
            return Ok(());
        };
        if copied == Some(stored.rev) {
            return relist_at_tenant(world, id, &stored).await;
        }
        let listed = pack(&mut stored).map(|listed| serde_json::to_string(&listed));
        let listed = listed
            .transpose()
            .map_err(|_| Fault::Broken("listing to json"))?;
        store::publish(world, id, &stored, listed.as_deref()).await?;
        copied = Some(stored.rev);
    }
    Err(Fault::Contended)
}

/// Copies a record to KV as it is in R2 now, and does nothing else that would follow from a save.
///
/// # Errors
/// The [`Fault`] of a store.
pub async fn republish<W: World>(world: &W, kind: Kind, id: &str) -> Result<(), Fault> {
    match kind {
        Kind::Tenant => copy::<Tenant, W>(world, id, |_| None).await,
        Kind::Profile => copy::<Profile, W>(world, id, |_| None).await,
        Kind::Pbx => copy::<Pbx, W>(world, id, |_| None).await,
        Kind::Rule => copy::<Rule, W>(world, id, |_| None).await,
        Kind::Account => copy_account(world, id).await,
        Kind::Device => copy_device(world, id).await,
        // Whoever shows one is looked up in R2.
        Kind::Token => Ok(()),
    }
}

/// Puts a record on the list of what its tenant has; before it is saved, so that its tenant cannot
/// be deleted under it.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn enlist<R: Record, W: World>(world: &W, id: &str, record: &R) -> Result<(), Fault> {
    if let Some(tenant) = record.tenant() {
        let key = key::owned(tenant, R::KIND, id);
        world
            .r2()
            .put(&key, Vec::new(), BTreeMap::new(), Only::Absent)
            .await?;
    }
    Ok(())
}

/// Keeps the list of what a tenant has.
async fn relist_at_tenant<R: Record, W: World>(
    world: &W,
    id: &str,
    stored: &Stored<R>,
) -> Result<(), Fault> {
    match stored.record.tenant() {
        Some(tenant) if !stored.alive() => {
            world.r2().delete(&key::owned(tenant, R::KIND, id)).await
        }
        _ => enlist(world, id, &stored.record).await,
    }
}

/// A token is on its tenant's list; KV has no business with it. One that is gone gives up its name at
/// Cloudflare Access.
async fn token<W: World>(world: &W, id: &str) -> Result<(), Fault> {
    let Some(Loaded { stored, .. }) = store::load::<Token, W>(world, id).await? else {
        return Ok(());
    };
    if let Some(identity) = stored.record.access.as_ref().filter(|_| !stored.alive()) {
        let key = key::access(identity);
        let held = world.r2().get(&key).await?;
        // By compare-and-set, as it was taken: whoever takes it in between keeps it.
        if let Some(held) = held.filter(|held| held.body == id.as_bytes()) {
            let (free, only) = (key::FREE_NAME.to_vec(), Only::Version(&held.etag));
            world.r2().put(&key, free, BTreeMap::new(), only).await?;
        }
    }
    relist_at_tenant(world, id, &stored).await
}

/// A PBX's copy; and of one that is gone, everything that is known of it: the next to have its id
/// may be another tenant's.
async fn pbx<W: World>(world: &W, id: &str) -> Result<(), Fault> {
    let loaded = store::load::<Pbx, W>(world, id).await?;
    let pbx = Id::try_from(id).map_err(|_| Fault::Broken("pbx id"))?;
    let has_ami = |loaded: &Loaded<Pbx>| {
        let stored = &loaded.stored;
        stored.alive() && stored.record.ami.is_some()
    };
    if !loaded.as_ref().is_some_and(has_ami) {
        // Nobody says any more who is registered from where.
        world.r2().delete(&key::pbx_contacts(&pbx)).await?;
    }
    if loaded.is_some_and(|loaded| !loaded.stored.alive()) {
        world.r2().delete(&key::pbx_state(&pbx)).await?;
        world.r2().delete(&key::confirmed(&pbx)).await?;
        // Whoever deleted it gave up what was still to be done there.
        for prefix in [key::all_gone(&pbx), key::all_changed(&pbx)] {
            loop {
                let page = world.r2().list(&prefix, None, 1_000).await?;
                let keys: Vec<String> = page.entries.into_iter().map(|entry| entry.key).collect();
                if !keys.is_empty() {
                    world.r2().delete_many(&keys).await?;
                }
                if page.cursor.is_none() {
                    break;
                }
            }
        }
    }
    copy::<Pbx, W>(world, id, |_| None).await
}

/// All rules of one tenant, or all that name none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RulePack {
    /// Each rule with the revision of its record.
    pub rules: BTreeMap<Id, (u64, Rule)>,
}

impl RulePack {
    /// Reads a pack; nothing is an empty one.
    ///
    /// # Errors
    /// [`Fault::Broken`] for bytes that are no pack.
    pub fn read(bytes: Option<&[u8]>) -> Result<Self, Fault> {
        bytes.map_or_else(
            || Ok(Self::default()),
            |bytes| json::read(bytes).map_err(|_| Fault::Broken("rule pack")),
        )
    }

    /// The rules with their names.
    pub fn named(self) -> impl Iterator<Item = NamedRule> {
        self.rules
            .into_iter()
            .map(|(id, (_, rule))| NamedRule { id, rule })
    }
}

async fn rule<W: World>(world: &W, id: &str) -> Result<(), Fault> {
    copy::<Rule, W>(world, id, |_| None).await?;
    let name = Id::try_from(id).map_err(|_| Fault::Broken("rule id"))?;
    let Some(Loaded { stored, .. }) = store::load::<Rule, W>(world, id).await? else {
        return Ok(());
    };
    let key = key::rules(stored.record.tenant());
    // The version of the pack that KV has, as far as this run knows.
    let mut copied: Option<String> = None;
    for attempt in 0..COPIES {
        let object = world.r2().get(&key).await?;
        // The record after the pack: whoever changes it later finds the pack changed by us, or we
        // find it changed by them.
        let Some(Loaded { stored, .. }) = store::load::<Rule, W>(world, id).await? else {
            return Ok(());
        };
        let mut pack = RulePack::read(object.as_ref().map(|o| o.body.as_slice()))?;
        let known = pack.rules.get(&name).map(|(rev, _)| *rev);
        if stored.alive() {
            let newer = known.is_none_or(|rev| rev < stored.rev);
            if newer {
                pack.rules
                    .insert(name.clone(), (stored.rev, stored.record.clone()));
            }
        } else {
            pack.rules.remove(&name);
        }
        let bytes = serde_json::to_vec(&pack).map_err(|_| Fault::Broken("rule pack"))?;
        let put = match &object {
            Some(object) if object.body == bytes => {
                if copied.as_ref() == Some(&object.etag) {
                    return Ok(());
                }
                Some(object.etag.clone())
            }
            Some(object) => {
                let only = Only::Version(&object.etag);
                world
                    .r2()
                    .put(&key, bytes.clone(), BTreeMap::new(), only)
                    .await?
            }
            None => {
                world
                    .r2()
                    .put(&key, bytes.clone(), BTreeMap::new(), Only::Absent)
                    .await?
            }
        };
        match put {
            Some(etag) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                store::put_mapping(world, &key, &text, None, None).await?;
                // Once more: another rule's save may have put its pack into KV before this one.
                copied = Some(etag);
            }
            None => store::pause(world, attempt).await,
        }
    }
    Err(Fault::Contended)
}

async fn copy_account<W: World>(world: &W, id: &str) -> Result<(), Fault> {
    copy::<Account, W>(world, id, |stored| {
        Some(Listed {
            pbx: stored.record.pbx.clone(),
            username: stored.record.username.clone(),
            rev: stored.rev,
            gone: !stored.alive(),
            rotating: !stored.state.former_passwords.is_empty(),
        })
    })
    .await
}

/// Marks for the scheduled handler that an account's objects are to be looked at: a listing of KV is
/// late, and in a large installation no single run sees all of it. The run that has taken it into its
/// memory of the PBX takes it away.
async fn mark_change<W: World>(world: &W, id: &str, stored: &Stored<Account>) -> Result<(), Fault> {
    if !stored.alive() {
        // That is what its tombstone says.
        return Ok(());
    }
    let record = &stored.record;
    let mut metadata: BTreeMap<_, _> =
        in_order([(CHANGED_NAME.to_owned(), record.username.to_string())]);
    if !stored.state.former_passwords.is_empty() {
        metadata.insert(CHANGED_ROTATING.to_owned(), "1".to_owned());
    }
    let mark = key::changed(&record.pbx, id, stored.rev);
    let r2 = world.r2();
    r2.put(&mark, Vec::new(), metadata, Only::Always).await?;
    Ok(())
}

async fn account<W: World>(world: &W, id: &str, origin: Option<&str>) -> Result<(), Fault> {
    let Some(Loaded { stored, .. }) = store::load::<Account, W>(world, id).await? else {
        return Ok(());
    };
    // First what R2 decides and phones get; KV, which may be busy, last.
    names(world, id, &stored).await?;
    if !stored.alive() {
        let account = Id::try_from(id).map_err(|_| Fault::Broken("account id"))?;
        let tenant = &stored.record.tenant;
        session::account_deleted(world, &account, tenant).await?;
    }
    mark_change(world, id, &stored).await?;
    for mac in &stored.state.devices {
        if let Some(device) = refresh(world, *mac, origin).await? {
            resync::ask(world, *mac, &device, 0).await?;
        }
    }
    copy_account(world, id).await
}

/// Keeps the names at a PBX: the account's own is taken, its former ones may be deleted there.
async fn names<W: World>(world: &W, id: &str, stored: &Stored<Account>) -> Result<(), Fault> {
    let record = &stored.record;
    let own = (record.pbx.clone(), record.username.clone());
    let mut former = stored.state.former_names.clone();
    if stored.alive() {
        // What is ours again must not be deleted any more.
        world.r2().delete(&key::gone(&own.0, &own.1)).await?;
        former.retain(|name| *name != own);
    } else {
        former.insert(own);
    }
    for (pbx, username) in &former {
        let name = key::name(pbx, username);
        // Only while the name is still this account's: another may have taken it since.
        let Some(held) = world.r2().get(&name).await? else {
            continue;
        };
        if held.body != id.as_bytes() {
            continue;
        }
        let gone = key::gone(pbx, username);
        let body = id.as_bytes().to_vec();
        let at = in_order([(GONE_AT.to_owned(), world.now().0.to_string())]);
        world.r2().put(&gone, body, at, Only::Always).await?;
        let left = [(CHANGED_NAME, username.as_str()), (CHANGED_GONE, "1")];
        let left = left.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mark = key::changed(pbx, id, stored.rev);
        let r2 = world.r2();
        r2.put(&mark, Vec::new(), left.into(), Only::Always).await?;
        // Given up by compare-and-set, as it was taken: whoever takes it in between keeps it.
        let only = Only::Version(&held.etag);
        let free = key::FREE_NAME.to_vec();
        world.r2().put(&name, free, BTreeMap::new(), only).await?;
    }
    if !stored.state.former_names.is_empty() {
        store::update::<Account, W>(world, id, |stored| {
            let names = &mut stored.state.former_names;
            let before = names.len();
            names.retain(|name| !former.contains(name));
            names.len() != before
        })
        .await?;
    }
    Ok(())
}

async fn device<W: World>(world: &W, id: &str, origin: Option<&str>) -> Result<(), Fault> {
    let mac: Mac = id.parse().map_err(|_| Fault::Broken("device key"))?;
    if let Some(stored) = refresh(world, mac, origin).await? {
        if !stored.alive() {
            upload::remove_all(world, mac).await?;
            versions::remove_all(world, mac).await?;
            refusal::forget(world, mac).await?;
            resync::forget(world, mac).await?;
        }
        resync::ask(world, mac, &stored, 0).await?;
        leave(world, mac, &stored).await?;
        for account in stored.accounts() {
            join(world, mac, &stored, account).await?;
        }
    }
    copy_device(world, id).await
}

async fn copy_device<W: World>(world: &W, id: &str) -> Result<(), Fault> {
    copy::<Device, W>(world, id, |stored| {
        // They can be made again from the records there.
        stored.state.files = None;
        stored.state.former_files = None;
        // They are looked at in R2 alone. The one that the phone is held to goes along: its files are made of it.
        stored.state.versions.clear();
        None
    })
    .await
}

/// Takes a device off the accounts that it has no line and no session with any more.
async fn leave<W: World>(world: &W, mac: Mac, stored: &Stored<Device>) -> Result<(), Fault> {
    let left = &stored.state.former_accounts;
    for account in left {
        session::clear_up(world, mac, account, &stored.record.tenant).await?;
        if !stored.has_account(account) {
            unlist(world, mac, account).await?;
        }
    }
    if !left.is_empty() {
        store::update::<Device, W>(world, &mac.to_string(), |device| {
            let before = device.state.former_accounts.len();
            device
                .state
                .former_accounts
                .retain(|account| !left.contains(account));
            device.state.former_accounts.len() != before
        })
        .await?;
    }
    Ok(())
}

/// Takes a device off an account's list.
async fn unlist<W: World>(world: &W, mac: Mac, account: &Id) -> Result<(), Fault> {
    let taken = store::update::<Account, W>(world, account.as_str(), |account| {
        account.state.devices.remove(&mac)
    });
    taken.await?;
    // A save that gave it the line again in between saw it on the list and left it there.
    let now = store::load::<Device, W>(world, &mac.to_string()).await?;
    if now.is_some_and(|now| now.stored.has_account(account)) {
        let back = store::update::<Account, W>(world, account.as_str(), |account| {
            account.state.devices.insert(mac)
        });
        back.await?;
    }
    relist(world, account).await
}

/// Sees to it that a device is on the list of an account that it has. It was put there before the save, but
/// a run may have taken a slow save for one that was cut off, and undone that.
async fn join<W: World>(
    world: &W,
    mac: Mac,
    device: &Stored<Device>,
    account: &Id,
) -> Result<(), Fault> {
    if device.alive() {
        let tenant = &device.record.tenant;
        store::update::<Account, W>(world, account.as_str(), |account| {
            // Another tenant's may have taken the id since.
            let ours = account.alive() && account.record.tenant == *tenant;
            ours && account.state.devices.insert(mac)
        })
        .await?;
    }
    relist(world, account).await
}

/// Copies an account to KV if it changed there: a device more or less on it changes how many phones
/// may register with it.
async fn relist<W: World>(world: &W, account: &Id) -> Result<(), Fault> {
    #[derive(Deserialize)]
    struct Head {
        rev: u64,
    }
    let Some(Loaded { stored, .. }) = store::load::<Account, W>(world, account.as_str()).await?
    else {
        return Ok(());
    };
    let copy = world
        .kv()
        .get_many(&[key::record(Kind::Account, account.as_str())])
        .await?
        .pop()
        .flatten();
    let known = copy.and_then(|text| json::read::<Head>(text.as_bytes()).ok());
    if known.is_some_and(|head| head.rev >= stored.rev) {
        return Ok(());
    }
    mark_change(world, account.as_str(), &stored).await?;
    copy_account(world, account.as_str()).await
}

/// Makes a device's files again if they are older than the records that they are made of, as R2
/// has them. Returns the device as it is then; `None` if nobody ever made it.
///
/// # Errors
/// The [`Fault`] of R2 or of the rendering; the former files then stay.
pub async fn refresh<W: World>(
    world: &W,
    mac: Mac,
    origin: Option<&str>,
) -> Result<Option<Stored<Device>>, Fault> {
    let id = mac.to_string();
    for attempt in 0..8 {
        let Some(Loaded { stored, etag }) = store::load::<Device, W>(world, &id).await? else {
            return Ok(None);
        };
        let files = stored.state.files.as_ref();
        let known = files.map(|files| files.sources.origin.clone());
        let Some(origin) = origin.map(ToOwned::to_owned).or(known) else {
            return Ok(Some(stored));
        };
        if !stored.alive() {
            return Ok(Some(stored));
        }
        let session = stored.state.session.is_some();
        let made = Ingredients::gather(world, mac, stored, From::R2).await?;
        let Refreshed {
            mut stored,
            is_new,
            version,
        } = bring_up_to_date(world, made, &origin, session)?;
        if !is_new {
            return Ok(Some(stored));
        }
        if let Some(version) = version {
            versions::keep(world, mac, &mut stored.state, version).await;
        }
        match store::replace(world, &id, &stored, Some(&etag)).await {
            Ok(true) => return Ok(Some(stored)),
            Err(Fault::Throttled) => world.sleep_ms(1_100).await,
            Err(fault) => return Err(fault),
            Ok(false) => store::pause(world, attempt).await,
        }
    }
    Err(Fault::Contended)
}

/// A device with the files that it is to have.
struct Refreshed {
    stored: Stored<Device>,
    /// Whether that is other than it was.
    is_new: bool,
    /// The version that is new with them.
    version: Option<Draft>,
}

/// Gives a device the files that it is to have: made again if they are older than what they are made of, or those
/// from before that a canary gets back. `session`: somebody was logged in.
fn bring_up_to_date<W: World>(
    world: &W,
    mut made: Ingredients,
    origin: &str,
    session: bool,
) -> Result<Refreshed, Fault> {
    let mac = made.mac;
    let sources = made.sources(world.keys(), origin);
    let known: Vec<(String, u64)> = sources.records.clone().into_iter().collect();
    let policy = made.policy();
    let mut stored = made.device.clone();
    let scope = Scope::of(mac, &made.device.record, made.templates());
    let mut kept = Kept {
        files: stored.state.files.take(),
        former: stored.state.former_files.take(),
    };
    let former = kept.former.as_ref().map(|former| former.version);
    kept.settle(world, &scope, &sources, stored.rev + 1)?;
    let before = made.device.state.files.as_ref();
    let mut version = versions::given_back(before, kept.files.as_ref(), former, &stored.state);
    let measure = Sources {
        templates: scope.measure(),
        ..sources
    };
    let files = kept.files.as_ref();
    let good = !stale(files, &measure, &known)
        && files.is_some_and(|files| render::are_current(world.keys(), mac, files));
    let ended = session && stored.state.session.is_none();
    if !good || ended {
        if kept.becomes_former(&scope) {
            kept.former = kept.files.clone().map(Box::new);
        }
        made.device.state.files = kept.files;
        let files = made.files(world, origin)?;
        version = versions::draft(world, &made, &files).or(version);
        kept.files = Some(files);
    }
    let is_new = !good
        || ended
        || kept.files != made.device.state.files
        || kept.former != made.device.state.former_files
        || stored.state.policy != policy;
    stored.state.files = kept.files;
    stored.state.former_files = kept.former;
    stored.state.policy = policy;
    stored.rev += u64::from(is_new);
    Ok(Refreshed {
        stored,
        is_new,
        version,
    })
}
