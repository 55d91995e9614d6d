//! Who calls the admin API, and what that lets them do.

use super::problem::{Kind as ProblemKind, Problem};
use crate::key::Kind;
use crate::record::Record;
pub use crate::record::token::Role;
use crate::text::Id;
use crate::time::Timestamp;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// How the audit names it: the id of its token, or [`Caller::ADMIN`].
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The only tenant that it sees anything of; `None`: all of them.
    pub tenant: Option<Id>,
    /// When its token ends; `None`: not by itself.
    pub expires_at: Option<Timestamp>,
    /// Until when it makes no record, having hit too many ids of other tenants.
    pub held_until: Option<Timestamp>,
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
            expires_at: None,
            held_until: None,
        }
    }

    /// Whether a record is the caller's to see: anyone's, or of its own tenant. What is for all
    /// tenants is the operator's of this Dialtone and no tenant's.
    #[must_use]
    pub fn sees<R: Record>(&self, id: &str, record: &R) -> bool {
        match &self.tenant {
            None => true,
            Some(own) if R::KIND == Kind::Tenant => own.as_str() == id,
            Some(own) => record.tenant() == Some(own),
        }
    }

    /// Refuses a role that is too small.
    ///
    /// # Errors
    /// A [`Problem`] that names the least role.
    pub fn needs(&self, least: Role) -> Result<(), Problem> {
        if self.role >= least {
            return Ok(());
        }
        let detail = format!("this needs the role {}", least.name());
        Err(Problem::new(ProblemKind::Forbidden, detail))
    }

    /// Refuses whoever is held to one tenant.
    ///
    /// # Errors
    /// A [`Problem`].
    pub fn needs_all_tenants(&self) -> Result<(), Problem> {
        if self.tenant.is_none() {
            return Ok(());
        }
        Err(one_tenant_only())
    }
}

/// That the caller's token is for one tenant, and this is not.
#[must_use]
pub fn one_tenant_only() -> Problem {
    let detail = "this needs a token that is for all tenants";
    Problem::new(ProblemKind::Forbidden, detail)
}

/// That the caller may do nothing for a tenant; the same whether that tenant exists.
#[must_use]
pub fn foreign_tenant() -> Problem {
    Problem::new(
        ProblemKind::Forbidden,
        "the token is for another tenant alone",
    )
}
