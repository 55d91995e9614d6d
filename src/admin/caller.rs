//! Who calls the admin API, and what that lets them do.

use serde::{Deserialize, Serialize};

use crate::text::Id;

/// What a caller may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything but secrets.
    Reader,
    /// Changes what phones need: profiles, PBXes, accounts, devices, rules.
    Operator,
    /// Changes tenants and tokens, and reads secrets.
    Owner,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// How the audit names it: the id of its token, or [`Caller::ADMIN`].
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The only tenant that it sees anything of; `None`: all of them.
    pub tenant: Option<Id>,
}

impl Caller {
    /// The name of whoever shows `ADMIN_TOKEN`.
    pub const ADMIN: &'static str = "admin";

    /// Whoever shows `ADMIN_TOKEN`: an owner of everything.
    #[must_use]
    pub fn admin() -> Self {
        Self {
            name: Self::ADMIN.to_owned(),
            role: Role::Owner,
            tenant: None,
        }
    }
}
