//! Levels of settings: which one each setting of a phone comes from.
//!
//! From the lowest: the defaults, the tenant, the profile, the model, the site, the device. Of each setting
//! the uppermost level counts that gives it, unless a level below has locked it: then what is given above
//! the lock stays in its record and is not used. A lock holds whether its own level gives the setting or not;
//! if no level up to it does, the default is what is locked.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::fault::Fault;
use crate::gather::in_order;
use crate::record::settings::{ADMIN_PASSWORD, Defaults, Locked, Setting, Settings, USER_PASSWORD};
use crate::record::tenant::Layer;
use crate::record::version::KeptLevel;
use crate::record::{Record, Stored};
use crate::secret::MASK;
use crate::store;
use crate::vendor::{Objection, VendorId};

/// Where the defaults come from.
pub const DEFAULT: &str = "default";

/// The passwords among the settings: the administrator's and the user's.
pub const PASSWORDS: [Setting; 2] = [Setting::AdminPassword, Setting::UserPassword];

/// A password of a level.
#[derive(Debug, Clone)]
pub struct Sealed<'a> {
    /// Where it is sealed for.
    pub place: String,
    /// It, sealed.
    pub text: &'a str,
}

/// One level of settings, as its record has it.
#[derive(Debug, Clone)]
pub struct Level<'a> {
    /// The record's path in the admin API without `/api/v1/`, and what of it.
    pub resource: String,
    settings: &'a Settings,
    /// The administrator's and the user's password.
    passwords: [Option<Sealed<'a>>; 2],
    /// `None`: nothing is above it.
    locked: Option<&'a Locked>,
}

impl<'a> Level<'a> {
    /// A record with settings, which may be others than those that stand in it now.
    #[must_use]
    pub fn of<R: Record>(
        stored: &'a Stored<R>,
        id: &str,
        settings: &'a Settings,
        locked: Option<&'a Locked>,
    ) -> Self {
        Self {
            resource: format!("{}/{id}", R::KIND.collection()),
            settings,
            passwords: [ADMIN_PASSWORD, USER_PASSWORD].map(|name| {
                let text = stored.sealed.get(name)?;
                let place = store::secret_place(R::KIND, id, name);
                Some(Sealed { place, text })
            }),
            locked,
        }
    }

    /// Settings of some of a tenant's phones.
    #[must_use]
    pub fn of_layer(resource: String, layer: &'a Layer) -> Self {
        Self {
            resource,
            settings: &layer.settings,
            passwords: [None, None],
            locked: Some(&layer.locked),
        }
    }

    /// A level as it was, with the passwords that the same level has `today`.
    #[must_use]
    pub fn of_version(kept: &'a KeptLevel, today: &[Self]) -> Self {
        let same = today.iter().find(|level| level.resource == kept.resource);
        Self {
            resource: kept.resource.clone(),
            settings: &kept.settings,
            passwords: same.map_or([None, None], |level| level.passwords.clone()),
            locked: Some(&kept.locked),
        }
    }

    /// What is kept of it with a version.
    fn kept(&self) -> KeptLevel {
        KeptLevel {
            resource: self.resource.clone(),
            settings: self.settings.clone(),
            locked: self.locked.cloned().unwrap_or_default(),
        }
    }

    fn gives(&self, setting: Setting) -> bool {
        let [admin, user] = &self.passwords;
        match setting {
            Setting::AdminPassword => admin.is_some(),
            Setting::UserPassword => user.is_some(),
            Setting::Raw => !self.settings.raw.is_empty(),
            other => self.settings.given().contains(&other),
        }
    }
}

/// Every level of one phone above the defaults.
#[derive(Debug, Clone)]
pub struct Levels<'a> {
    /// The lowest first.
    levels: Vec<Level<'a>>,
    /// The lowest level that locks each setting, by its place among them.
    locks: BTreeMap<Setting, usize>,
}

impl<'a> Levels<'a> {
    /// These levels, the lowest first.
    #[must_use]
    pub fn new(levels: Vec<Level<'a>>) -> Self {
        let mut locks = BTreeMap::new();
        for (n, level) in levels.iter().enumerate() {
            for setting in level.locked.into_iter().flatten() {
                locks.entry(*setting).or_insert(n);
            }
        }
        Self { levels, locks }
    }

    /// Whether what a level gives for a setting counts, if nothing above it does.
    fn counts(&self, n: usize, setting: Setting) -> bool {
        self.locks.get(&setting).is_none_or(|lock| n <= *lock)
    }

    /// The settings with every level above the defaults counted in.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let uppermost = self.levels.iter().enumerate().rev();
        uppermost.fold(Settings::default(), |above, (n, level)| {
            let mut own = level.settings.clone();
            for setting in self.locks.keys() {
                if !self.counts(n, *setting) {
                    own.take_out(*setting);
                }
            }
            above.or(&own)
        })
    }

    /// The passwords that count, in the order of [`PASSWORDS`].
    #[must_use]
    pub fn passwords(&self) -> [Option<&Sealed<'a>>; 2] {
        let uppermost = |which: usize, setting: Setting| {
            let mut levels = self.levels.iter().enumerate().rev();
            levels.find_map(|(n, level)| {
                let given = level.passwords.get(which).and_then(Option::as_ref);
                given.filter(|_| self.counts(n, setting))
            })
        };
        let [admin, user] = PASSWORDS;
        [uppermost(0, admin), uppermost(1, user)]
    }

    /// Whether the uppermost level gives a setting, and may.
    #[must_use]
    pub fn is_own(&self, setting: Setting) -> bool {
        let top = self.levels.len().saturating_sub(1);
        let gives = |level: &Level<'_>| level.gives(setting);
        self.levels.last().is_some_and(gives) && self.counts(top, setting)
    }

    /// The levels below the uppermost, to be kept with a version.
    #[must_use]
    pub fn kept(&self) -> Vec<KeptLevel> {
        let below = self.levels.split_last().map_or(&[][..], |(_, below)| below);
        below.iter().map(Level::kept).collect()
    }

    /// What the uppermost level gives in vain.
    #[must_use]
    pub fn locked_out(&self) -> Vec<Objection> {
        let Some((top, below)) = self.levels.split_last() else {
            return Vec::new();
        };
        let locks = self.locks.iter();
        let locks = locks.filter_map(|(setting, lock)| Some((setting, below.get(*lock)?)));
        locks
            .filter(|(setting, _)| top.gives(**setting))
            .map(|(setting, lock)| {
                let name = setting.name();
                let at = &lock.resource;
                let detail = format!("is locked at {at}: it is kept, and not used");
                Objection::new(format!("/settings/{name}"), detail)
            })
            .collect()
    }

    /// Where each setting of a phone comes from; passwords are masked.
    ///
    /// # Errors
    /// [`Fault::Broken`] if serde cannot write settings, which none of ours causes.
    pub fn origins(&self, vendor: VendorId) -> Result<Origins, Fault> {
        let members = |settings: &Settings| match serde_json::to_value(settings) {
            Ok(Value::Object(members)) => Ok(members),
            _ => Err(Fault::Broken("settings to json")),
        };
        let mut given = Vec::new();
        for level in &self.levels {
            let mut members = members(level.settings)?;
            for (setting, password) in PASSWORDS.iter().zip(&level.passwords) {
                if password.is_some() {
                    members.insert(setting.name().to_owned(), MASK.into());
                }
            }
            given.push(members);
        }
        let default = members(&Defaults::default().into())?;
        let of = |setting: Setting, find: &dyn Fn(&Map<String, Value>) -> Option<Value>| {
            let lock = self.locks.get(&setting).copied();
            let values = self.levels.iter().zip(&given).enumerate();
            let mut origin = Origin {
                value: find(&default).unwrap_or_default(),
                from: DEFAULT.to_owned(),
                locked_by: lock.and_then(|n| Some(self.levels.get(n)?.resource.clone())),
                ignored: Vec::new(),
            };
            for (n, (level, members)) in values {
                let Some(value) = find(members) else {
                    continue;
                };
                let from = level.resource.clone();
                if self.counts(n, setting) {
                    (origin.value, origin.from) = (value, from);
                } else {
                    origin.ignored.push(Ignored { value, from });
                }
            }
            origin
        };
        let settings = Setting::ALL.iter().map(|setting| {
            let name = setting.name();
            (name, of(*setting, &|members| members.get(name).cloned()))
        });
        let all_raw = self.levels.iter();
        let all_raw = all_raw.filter_map(|level| level.settings.raw.get(&vendor));
        let raw = all_raw.flat_map(|keys| keys.iter()).map(|(key, _)| {
            let find = |members: &Map<String, Value>| {
                let raw = members.get(Setting::Raw.name())?;
                raw.get(vendor.name())?.get(key.as_str()).cloned()
            };
            (key.as_str().to_owned(), of(Setting::Raw, &find))
        });
        Ok(Origins {
            settings: in_order(settings),
            raw: in_order(raw),
        })
    }
}

/// Where the settings of a phone come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Origins {
    /// Every setting, by its name.
    pub settings: BTreeMap<&'static str, Origin>,
    /// The parameters in the words of the phone's vendor that any level gives, by their names.
    pub raw: BTreeMap<String, Origin>,
}

/// Where one setting comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Origin {
    /// What the phone's files are made with, a password masked. `null`: nobody says anything, and it is
    /// left to the phone.
    pub value: Value,
    /// The level: `default`, or the record's path without `/api/v1/`, such as `tenants/acme`,
    /// `profiles/office`, `tenants/acme/models/T46U`, `tenants/acme/sites/berlin`, `devices/805ec0000001`.
    pub from: String,
    /// The lowest level that locks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_by: Option<String>,
    /// What levels above the lock give in vain, the lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<Ignored>,
}

impl Origin {
    /// Whether any level says anything of the setting.
    #[must_use]
    pub fn is_said(&self) -> bool {
        self.from != DEFAULT || self.locked_by.is_some()
    }
}

/// What a level gives for a setting that a level below has locked.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Ignored {
    /// What it gives, a password masked.
    pub value: Value,
    /// The level.
    pub from: String,
}
