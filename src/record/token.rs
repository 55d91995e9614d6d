//! An API token: who may call the admin API beside whoever has `ADMIN_TOKEN`, and what they may do.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Record, Stored};
use crate::fault::Fault;
use crate::key::Kind;
use crate::keys::{hex, same_secret};
use crate::ports::World;
use crate::secret::Secret;
use crate::text::{CommonName, DisplayName, Email, Id};
use crate::time::Timestamp;

/// What a caller may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything but secrets.
    Reader,
    /// Changes what phones need: profiles, PBXes, accounts, devices, rules.
    Operator,
    /// Changes tenants and tokens, and reads secrets.
    Owner,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Operator, Self::Owner];

    /// Its name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}

/// By which name somebody comes by Cloudflare Access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(try_from = "Names", into = "Names")]
pub enum Identity {
    /// A person, by an e-mail address; case tells none from another.
    Email(Email),
    /// A service token or client certificate, by its common name.
    CommonName(CommonName),
}

/// By which name somebody comes by Cloudflare Access: one of the two.
#[derive(Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct Names {
    /// A person, by an e-mail address; case tells none from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<Email>,
    /// A service token or client certificate, by its common name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    common_name: Option<CommonName>,
}

impl TryFrom<Names> for Identity {
    type Error = &'static str;

    fn try_from(names: Names) -> Result<Self, Self::Error> {
        match (names.email, names.common_name) {
            (Some(email), None) => Ok(Self::Email(email)),
            (None, Some(name)) => Ok(Self::CommonName(name)),
            _ => Err("must hold either email or common_name"),
        }
    }
}

impl From<Identity> for Names {
    fn from(identity: Identity) -> Self {
        let (email, common_name) = match identity {
            Identity::Email(email) => (Some(email), None),
            Identity::CommonName(name) => (None, Some(name)),
        };
        Self { email, common_name }
    }
}

impl Identity {
    /// What kind of name it is, as in a record.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::CommonName(_) => "common_name",
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Email(email) => email.as_str(),
            Self::CommonName(name) => name.as_str(),
        }
    }

    /// The name in the one way in which it is compared. Only ASCII has its case taken off: beyond it
    /// letters that are not the same have the same lower case, such as `K` and the sign of the kelvin.
    #[must_use]
    pub fn canonical(&self) -> String {
        match self {
            Self::Email(email) => email.as_str().to_ascii_lowercase(),
            Self::CommonName(name) => name.to_string(),
        }
    }

    /// Whether two are the same one.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.canonical() == other.canonical()
    }
}

/// An API token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What it lets its holder do.
    pub role: Role,
    /// The only tenant that its holder sees anything of. Absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Id>,
    /// How people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DisplayName>,
    /// From when on it is worth nothing. Absent: until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Who acts with it, coming by Cloudflare Access. Absent: whoever shows its text. With it there is no
    /// text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Identity>,
}

/// What Dialtone keeps beside a token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenState {
    /// SHA-256 of the whole text, in hexadecimal digits. The text holds 256 random bits, so it
    /// cannot be guessed from that, and a slow hash would add nothing. None: no text opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When it was last used, late by up to an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// Until when its holder makes no record, having hit too many ids of other tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Timestamp>,
    /// The text itself, from its making to the answer that shows it; never stored.
    #[serde(skip)]
    pub text: Option<Secret>,
}

impl Record for Token {
    type State = TokenState;
    const KIND: Kind = Kind::Token;

    fn tenant(&self) -> Option<&Id> {
        self.tenant.as_ref()
    }
}

/// How every token begins, so that it can be told from other secrets where it should not be.
const PREFIX: &str = "dialtone_";

/// Random bytes of a token: 32 make 43 characters of base64url.
const RANDOM_BYTES: usize = 32;

/// The length of [`RANDOM_BYTES`] in base64url without padding.
const RANDOM_CHARS: usize = 43;

impl TokenState {
    /// Makes a new text, which ends the one before: `dialtone_{id}_{base64url of 256 random bits}`.
    ///
    /// # Errors
    /// A [`Fault`] if there are no random bytes.
    pub fn renew<W: World>(&mut self, world: &W, id: &str) -> Result<(), Fault> {
        let bytes: [u8; RANDOM_BYTES] = world.random()?;
        let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(bytes));
        self.digest = Some(digest(&text));
        self.text = Some(Secret::opaque(text));
        Ok(())
    }
}

impl Stored<Token> {
    /// Whether it is worth anything now.
    fn holds(&self, now: Timestamp) -> bool {
        self.alive() && self.record.expires_at.is_none_or(|at| now < at)
    }

    /// Whether it is there for somebody who comes by Cloudflare Access, expired or not.
    #[must_use]
    pub fn is_of(&self, identity: &Identity) -> bool {
        let access = self.record.access.as_ref();
        self.alive() && access.is_some_and(|own| own.is(identity))
    }

    /// Whether somebody who comes by Cloudflare Access acts with it now.
    #[must_use]
    pub fn lets_in(&self, identity: &Identity, now: Timestamp) -> bool {
        self.is_of(identity) && self.holds(now)
    }
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// The id in a text that has the shape of a token. Both parts may hold `_`, so the random one is
/// told by its length.
#[must_use]
pub fn id_of(text: &str) -> Option<Id> {
    let rest = text.strip_prefix(PREFIX)?;
    let (id, random) = rest.split_at_checked(rest.len().checked_sub(RANDOM_CHARS)?)?;
    let shaped = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    if !random.bytes().all(shaped) {
        return None;
    }
    Id::try_from(id.strip_suffix('_')?).ok()
}

/// Whether a text opens this token now. Takes the same time wherever the text differs.
#[must_use]
pub fn opens(stored: Option<&Stored<Token>>, text: &str, now: Timestamp) -> bool {
    let shown = digest(text);
    stored.is_some_and(|stored| {
        let known = stored.state.digest.as_deref().unwrap_or_default();
        same_secret(known, &shown) && stored.holds(now)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_until_it_ends_or_is_deleted() {
        let text = "dialtone_ci_x";
        let mut stored = Stored {
            schema: 1,
            rev: 1,
            edition: 1,
            updated_at: Timestamp(0),
            gone: None,
            record: Token {
                role: Role::Reader,
                tenant: None,
                name: None,
                expires_at: Some(Timestamp(10)),
                access: None,
            },
            sealed: std::collections::BTreeMap::new(),
            state: TokenState {
                digest: Some(digest(text)),
                ..TokenState::default()
            },
        };
        assert!(opens(Some(&stored), text, Timestamp(9)));
        assert!(!opens(Some(&stored), "dialtone_ci_y", Timestamp(9)));
        assert!(!opens(Some(&stored), text, Timestamp(10)));
        assert!(!opens(None, text, Timestamp(9)));
        stored.gone = Some(Timestamp(5));
        assert!(!opens(Some(&stored), text, Timestamp(9)));
        stored.gone = None;
        stored.state.digest = None;
        assert!(!opens(Some(&stored), "", Timestamp(9)));
    }

    #[test]
    fn the_id_is_what_stands_before_the_random_part() {
        let random = "_a-b_cdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN";
        assert_eq!(random.len(), RANDOM_CHARS);
        for id in ["ci", "a_b", "a-b.c", "0", "x_"] {
            let text = format!("dialtone_{id}_{random}");
            assert_eq!(id_of(&text), Id::try_from(id).ok(), "{text}");
        }
        for wrong in [
            String::new(),
            "dialtone_".to_owned(),
            format!("dialtone_{random}"),
            format!("dialtone__{random}"),
            format!("dialtone_ci{random}"),
            format!("dialtone_CI_{random}"),
            format!("dialtone_ci_{random}="),
            format!("dialtone_ci_{}", random.replace('-', "+")),
            format!("dialtone_ci_{}", random.replace("cd", "ä")),
            format!("dialtone_ci_{}", "ä".repeat(RANDOM_CHARS)),
            format!("ci_{random}"),
            format!("dialtone_{}_{random}", "a".repeat(65)),
        ] {
            assert_eq!(id_of(&wrong), None, "{wrong}");
        }
    }
}
