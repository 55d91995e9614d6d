//! What admins write and Dialtone keeps: tenants, profiles, PBXes, accounts, devices, rules, API tokens.
//!
//! Each record is a plain serde type of checked values. Its secrets leave it before it is kept
//! ([`Record::take_secrets`]); they are stored sealed beside it, so that nothing that prints a
//! record can print a password.

pub mod account;
pub mod device;
pub mod pbx;
pub mod profile;
pub mod rule;
pub mod settings;
pub mod tenant;
pub mod token;
pub mod version;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::json;
use crate::key::Kind;
use crate::secret::Secret;
use crate::text::Id;
use crate::time::Timestamp;

/// A kind of record: how it is called, and what of it is secret.
pub trait Record: Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug {
    /// What Dialtone keeps beside what the admin wrote.
    type State: Serialize + DeserializeOwned + Clone + Default + PartialEq + std::fmt::Debug;

    /// Which collection it belongs to.
    const KIND: Kind;

    /// The shape of the stored JSON. Rises when a reader of the former shape would fail.
    const SCHEMA: u32 = 1;

    /// The tenant that owns the record; `None` for a tenant itself, and for a rule or token
    /// that is for all tenants.
    fn tenant(&self) -> Option<&Id>;

    /// Takes every secret out of the record, by the name under which it is sealed. `None` stands
    /// for "keep what is stored".
    fn take_secrets(&mut self) -> Vec<(&'static str, Option<Secret>)> {
        Vec::new()
    }

    /// The secrets that a new record gets when the admin names none.
    fn made_secrets(&self) -> &'static [&'static str] {
        &[]
    }
}

/// A record as R2 keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Stored<R: Record> {
    /// [`Record::SCHEMA`] of the writer.
    pub schema: u32,
    /// Rises with every write of the object, also over its deletion.
    pub rev: u64,
    /// Rises with every change that an admin made; what the API's `ETag` shows.
    pub edition: u64,
    /// When an admin last changed it.
    pub updated_at: Timestamp,
    /// When it was deleted. A deleted record stays as its own tombstone, so that its revision
    /// goes on rising should it come back, and a late copy is never taken for news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Timestamp>,
    /// What the admin wrote, without secrets.
    pub record: R,
    /// The secrets, each sealed for this record and name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sealed: BTreeMap<String, String>,
    /// What Dialtone keeps beside.
    #[serde(default)]
    pub state: R::State,
}

impl<R: Record> Stored<R> {
    /// Reads a stored record of this or the former schema.
    ///
    /// # Errors
    /// [`Fault::Broken`] if the bytes are no such record, or of a schema that is newer than this
    /// code: then they are neither used nor overwritten.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let head: Head = json::read(bytes).map_err(|_| Fault::Broken("stored record"))?;
        if head.schema > R::SCHEMA || head.schema < R::SCHEMA - 1 {
            return Err(Fault::Broken("stored schema"));
        }
        json::read(bytes).map_err(|_| Fault::Broken("stored record"))
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// [`Fault::Broken`] if serde cannot write it, which no record of ours causes.
    pub fn write(&self) -> Result<Vec<u8>, Fault> {
        serde_json::to_vec(self).map_err(|_| Fault::Broken("record to json"))
    }

    /// The record unless it is deleted.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.gone.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Third {
        name: Id,
    }

    impl Record for Third {
        type State = ();
        const KIND: Kind = Kind::Tenant;
        const SCHEMA: u32 = 3;

        fn tenant(&self) -> Option<&Id> {
            None
        }
    }

    fn stored(schema: u32) -> Result<Stored<Third>, Fault> {
        let json = serde_json::json!({
            "schema": schema, "rev": 7, "edition": 5, "updated_at": "2026-11-23T09:00:00Z",
            "record": {"name": "a"},
        });
        Stored::read(json.to_string().as_bytes())
    }

    #[test]
    fn this_schema_and_the_former_one_are_read_and_no_other() {
        assert_eq!(stored(3).unwrap().rev, 7);
        assert_eq!(stored(2).unwrap().edition, 5);
        for other in [0, 1, 4, u32::MAX] {
            assert_eq!(
                stored(other),
                Err(Fault::Broken("stored schema")),
                "{other}"
            );
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let first = stored(3).unwrap();
        assert_eq!(Stored::read(&first.write().unwrap()), Ok(first));
    }
}
