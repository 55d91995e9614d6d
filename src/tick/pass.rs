//! What a run reads once for all PBXes: a part of the list of accounts, the marks of changes, the
//! tombstones, and the PBXes themselves.
//!
//! The list of 100,000 accounts has 100 pages. To read all of them each minute costs more than all
//! else together, and nothing needs it: what changed has a mark, what was pushed is in a PBX's
//! memory. So a pass over the list spans runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{PAGE, Run, RunSummary};
use crate::fault::Fault;
use crate::finish::{CHANGED_GONE, CHANGED_NAME, CHANGED_ROTATING, GONE_AT, Listed};
use crate::gather::in_order;
use crate::json;
use crate::key::{self, Kind};
use crate::ports::{Level, Mappings, ObjectEntry, Objects, Page, World};
use crate::reconcile::Desired;
use crate::reconcile::breaker::{Lost, Tombstones};
use crate::reconcile::known::{ListedAccount, Listing, Mark, Wanted};
use crate::text::{Id, Username};
use crate::time::Timestamp;

/// The most pages of the list of accounts in one run: 20,000 accounts, so that 100,000 are five runs.
const PAGES: u32 = 20;

/// How many pages a run reads on average: a pass that took more makes a pause. KV takes $5 for a
/// million listings (Workers KV pricing); ten a run are $2.16 a month.
const PAGES_ON_AVERAGE: u32 = 10;

/// A run may begin a little less than a minute after the one before, in seconds.
const EARLY_S: u64 = 30;

/// The most pages of marks, and of tombstones: 10,000 of either. What is behind them has its turn when
/// those are worked off.
const R2_PAGES: u32 = 10;

/// Where the pass over the list of accounts is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pass {
    /// When the one that is under way, or the last one, began.
    pub began: Timestamp,
    /// How many pages of it were read.
    pub pages: u32,
    /// KV's cursor, while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The last account that was read, while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Id>,
    /// When the next one begins, while none is under way.
    pub next_at: Timestamp,
    /// When the last one that came to its end began.
    pub completed: Timestamp,
}

/// The marks of changes at one PBX.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Their keys, to be taken away when the PBX's memory has them.
    pub keys: Vec<String>,
    /// What they say.
    pub changed: Vec<Mark>,
}

/// What a run knows before it turns to the PBXes.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// The PBXes that are not deleted, with their tenants as far as the listing says.
    pub pbxes: BTreeMap<Id, Option<Id>>,
    pub listing: Listing,
    pub pass: Pass,
    pub marks: BTreeMap<Id, Marks>,
    pub tombstones: BTreeMap<Id, Tombstones>,
    /// Of each tenant: how many tombstones, and of how many accounts.
    pub at_tenants: BTreeMap<Id, (u32, u32)>,
    pub last: RunSummary,
}

impl Common {
    /// The tombstones of a PBX's tenant, and how many accounts they are of.
    pub fn at_tenant(&self, tenant: &Id) -> (u32, u32) {
        self.at_tenants.get(tenant).copied().unwrap_or_default()
    }

    /// Whether a PBX's tenant has another one beside it.
    pub fn has_another(&self, pbx: &Id) -> bool {
        self.others(pbx).next().is_some()
    }

    /// The phones that went offline at the other PBXes of a PBX's tenant, of those that are known.
    pub fn lost_elsewhere(&self, pbx: &Id, lost: &BTreeMap<Id, Lost>) -> Lost {
        let lost = self.others(pbx).filter_map(|other| lost.get(other));
        lost.copied().fold(Lost::default(), Lost::and)
    }

    fn others<'c>(&'c self, pbx: &'c Id) -> impl Iterator<Item = &'c Id> {
        let tenant = self.pbxes.get(pbx).and_then(Option::as_ref);
        let same = move |of: &Option<Id>| tenant.is_some() && of.as_ref() == tenant;
        let all = self.pbxes.iter();
        all.filter(move |(other, of)| *other != pbx && same(of))
            .map(|(other, _)| other)
    }

    /// Adds up what the tenants have at their PBXes.
    pub fn add_up(&mut self) {
        for (pbx, tenant) in &self.pbxes {
            let Some(tenant) = tenant else { continue };
            let gone = self.tombstones.get(pbx).map_or(0, BTreeMap::len);
            let gone = u32::try_from(gone).unwrap_or(u32::MAX);
            let known = self.last.pbxes.get(pbx).map_or(0, |s| s.report.accounts);
            let (all_gone, of) = self.at_tenants.entry(tenant.clone()).or_default();
            *all_gone = all_gone.saturating_add(gone);
            // What was deleted is no account any more, and was one when it was.
            *of = of.saturating_add(known).saturating_add(gone);
        }
    }
}

impl<W: World> Run<'_, W> {
    /// The PBXes that are there.
    pub(super) async fn list_pbxes(&self) -> Result<BTreeMap<Id, Option<Id>>, Fault> {
        self.spend(1);
        let prefix = key::records(Kind::Pbx);
        let page = self.world.r2().list(&prefix, None, PAGE).await?;
        if page.cursor.is_some() {
            self.world
                .log(Level::Error, "tick.pbxes", &[("fault", "too many")]);
        }
        let alive = page
            .entries
            .into_iter()
            .filter(|entry| !entry.metadata.contains_key("gone"));
        let named = alive.filter_map(|entry| {
            let id = Id::try_from(key::last(&entry.key)).ok()?;
            let tenant = entry.metadata.get("tenant");
            Some((id, tenant.and_then(|t| Id::try_from(t.as_str()).ok())))
        });
        Ok(in_order(named))
    }

    /// The next part of the list of accounts, and where the pass is then; what went wrong, if
    /// anything did.
    pub(super) async fn list_accounts(&self, mut pass: Pass) -> (Listing, Pass, Option<Fault>) {
        let mut listing = Listing::default();
        if pass.cursor.is_none() {
            if self.began < pass.next_at {
                return (listing, pass, None);
            }
            pass = Pass {
                began: self.began,
                completed: pass.completed,
                ..Pass::default()
            };
        }
        listing.after.clone_from(&pass.after);
        let prefix = key::records(Kind::Account);
        for _ in 0..PAGES {
            self.spend(1);
            let listed = self.world.kv().list(&prefix, pass.cursor.as_deref()).await;
            let Page { entries, cursor } = match listed {
                Ok(page) => page,
                Err(fault) => {
                    listing.failed = true;
                    if pass.pages > 0 && listing.accounts.is_empty() {
                        // Perhaps KV knows the cursor no more: from the beginning then.
                        pass.cursor = None;
                        pass.after = None;
                        pass.next_at = Timestamp::default();
                    }
                    return (listing, pass, Some(fault));
                }
            };
            pass.pages = pass.pages.saturating_add(1);
            for entry in entries {
                let id = key::parse_record(&entry.key).and_then(|(_, id)| Id::try_from(id).ok());
                let Some(account) = id else { continue };
                listing.through = Some(account.clone());
                let metadata = entry.metadata.unwrap_or_default();
                // What we cannot read is not ours to create; and absence deletes nothing.
                let Ok(listed) = json::read::<Listed>(metadata.as_bytes()) else {
                    continue;
                };
                let shown = ListedAccount {
                    pbx: (!listed.gone).then_some(listed.pbx),
                    wanted: Wanted {
                        username: listed.username,
                        rev: listed.rev,
                        rotating: listed.rotating,
                    },
                };
                listing.accounts.insert(account, shown);
            }
            if let Some(through) = &listing.through {
                pass.after = Some(through.clone());
            }
            if cursor.is_none() {
                listing.to_the_end = true;
                let runs = u64::from(pass.pages.div_ceil(PAGES_ON_AVERAGE));
                let next_at = Timestamp((pass.began.0 + 60 * runs).saturating_sub(EARLY_S));
                pass = Pass {
                    completed: pass.began,
                    cursor: None,
                    after: None,
                    next_at,
                    ..pass
                };
                break;
            }
            pass.cursor = cursor;
        }
        (listing, pass, None)
    }

    /// The marks of changes, by PBX: under `prefix`, of one or of all.
    pub(super) async fn list_marks(&self, prefix: &str) -> Result<BTreeMap<Id, Marks>, Fault> {
        let mut marks: BTreeMap<Id, Marks> = BTreeMap::new();
        for entry in self.list_r2(prefix).await? {
            let Some((pbx, account, rev)) = key::parse_changed(&entry.key) else {
                continue;
            };
            let marks = marks.entry(pbx).or_default();
            let username = entry.metadata.get(CHANGED_NAME);
            if let Some(username) = username.and_then(|n| Username::try_from(n.as_str()).ok()) {
                let says = |what: &str| entry.metadata.contains_key(what);
                marks.changed.push(Mark {
                    desired: Desired {
                        username,
                        account,
                        rev,
                        rotating: says(CHANGED_ROTATING),
                    },
                    gone: says(CHANGED_GONE),
                });
            }
            marks.keys.push(entry.key);
        }
        for marks in marks.values_mut() {
            // By number, not by letter.
            marks.changed.sort_by_key(|changed| changed.desired.rev);
        }
        Ok(marks)
    }

    /// The names that may be deleted, by PBX: under `prefix`, of one or of all.
    pub(super) async fn list_tombstones(
        &self,
        prefix: &str,
    ) -> Result<BTreeMap<Id, Tombstones>, Fault> {
        let mut tombstones: BTreeMap<Id, Tombstones> = BTreeMap::new();
        for entry in self.list_r2(prefix).await? {
            let Some((pbx, username)) = key::parse_gone(&entry.key) else {
                continue;
            };
            let at = entry.metadata.get(GONE_AT).and_then(|at| at.parse().ok());
            let at = at.map(Timestamp).unwrap_or_default();
            tombstones.entry(pbx).or_default().insert(username, at);
        }
        Ok(tombstones)
    }

    /// The first [`R2_PAGES`] pages of what lies under a prefix.
    async fn list_r2(&self, prefix: &str) -> Result<Vec<ObjectEntry>, Fault> {
        let mut entries = Vec::new();
        let mut after = None;
        for _ in 0..R2_PAGES {
            self.spend(1);
            let r2 = self.world.r2();
            let page = r2.list(prefix, after.as_deref(), PAGE).await?;
            entries.extend(page.entries);
            after = page.cursor;
            if after.is_none() {
                break;
            }
        }
        Ok(entries)
    }

    /// Takes marks away.
    pub(super) async fn clear_marks(&self, keys: &[String]) {
        for keys in keys.chunks(1_000) {
            self.spend(1);
            if let Err(fault) = self.world.r2().delete_many(keys).await {
                self.world
                    .log(Level::Warn, "tick.marks", &[("fault", fault.label())]);
            }
        }
    }
}
