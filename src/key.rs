//! Every key of KV and R2, built and parsed here and nowhere else.
//!
//! | key | KV | R2 |
//! |---|---|---|
//! | `{kind}/{id}` | a late copy for phones and listings, but for tokens | the record: the truth |
//! | `of/{tenant}/{kind}/{id}` | | which records a tenant has |
//! | `rules/{tenant}`, `rules/` | copy | all rules of a tenant, of everyone |
//! | `name/{pbx}/{username}` | | which account has a name at a PBX |
//! | `access/{hash}` | | which token's record has a name at Cloudflare Access |
//! | `gone/{pbx}/{username}` | | the tombstone: this may be deleted at the PBX |
//! | `changed/{pbx}/{account}/{rev}` | | that a save changed what the PBX must hold, until its memory knows |
//! | `confirmed/{pbx}` | | what an admin lets pass there although it is unlikely |
//! | `unfinished/{kind}/{id}/{nonce}` | | a save that the scheduled handler must finish if nobody else does; of a device, on which accounts' lists it was put for that |
//! | `pbx-state/{pbx}` | | who is registered, what was pushed |
//! | `pbx-contacts/{pbx}` | | who is registered from where, of a PBX with AMI |
//! | `session/{account}` | | at which phone a user is logged in |
//! | `session-end/{until}/{account}` | | that a session ends then |
//! | `tries/account/{account}`, `tries/device/{mac}`, `tries/nobody/{mac}` | | wrong PINs |
//! | `regenerate/{kind}/{id}/{time}-{nonce}` | | that the files of a shared record's devices are made again, and how far |
//! | `regenerate/templates-of/{tenant}/{vendor}/{time}-{nonce}` | | the same of a tenant's phones of a vendor, since they get other templates |
//! | `regenerate/rollouts/rollouts/{time}-{nonce}` | | that new templates are rolled out at the tenants that want it, and how far that is begun |
//! | `regenerate/rollout/{profile}/{edition}`, `regenerate/rollout/{tenant}/{vendor}/{number}` | | that a roll-out is under way, and how far |
//! | `resync/{mac}` | | that a phone is to be told to fetch again |
//! | `told/{mac}` | | what became of telling it |
//! | `templates` | | which versions of the templates all files were made of |
//! | `reconcile` | | the last run |
//! | `rekey` | | how far a change of `SEAL_KEY` is |
//! | `upload/{mac}/{name}` | | what a phone put there, sealed |
//! | `version/{mac}/{hash}` | | what is kept of versions of a phone's files; no secret |
//! | `refused/{mac}` | | when and why somebody was last refused who asked for a device |
//! | `audit-new/{tenant}/{name}` | | an event that is not chained yet; the operator's own under `-` |
//! | `audit-new/{tenant}/!{page}` | | that alarms of a page are still to go to the webhook |
//! | `audit/{tenant}/{page}` | | a page of the chain |
//! | `audit-head/{tenant}` | a late copy, against a bucket that was put back | where the chain ends, signed |
//! | `lease` | | who may run now |
//!
//! Ids hold no `/`, so a key splits in one way only.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keys::hex;
use crate::mac::Mac;
use crate::record::token::Identity;
use crate::rollout::Subject;
use crate::text::{Id, Username};
use crate::time::Timestamp;
use crate::vendor::VendorId;

/// The kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A customer.
    Tenant,
    /// Shared settings.
    Profile,
    /// An Asterisk.
    Pbx,
    /// A SIP user.
    Account,
    /// A phone.
    Device,
    /// Where phones are sent.
    Rule,
    /// Who calls the admin API; in R2 alone.
    Token,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Tenant,
        Self::Profile,
        Self::Pbx,
        Self::Account,
        Self::Device,
        Self::Rule,
        Self::Token,
    ];

    /// The word in keys and in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Profile => "profile",
            Self::Pbx => "pbx",
            Self::Account => "account",
            Self::Device => "device",
            Self::Rule => "rule",
            Self::Token => "token",
        }
    }

    /// The word in the paths of the admin API.
    #[must_use]
    pub fn collection(self) -> &'static str {
        match self {
            Self::Tenant => "tenants",
            Self::Profile => "profiles",
            Self::Pbx => "pbxes",
            Self::Account => "accounts",
            Self::Device => "devices",
            Self::Rule => "rules",
            Self::Token => "tokens",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// `{kind}/{id}`: a record, in R2 and in KV.
#[must_use]
pub fn record(kind: Kind, id: &str) -> String {
    format!("{kind}/{id}")
}

/// The prefix of all records of a kind.
#[must_use]
pub fn records(kind: Kind) -> String {
    format!("{kind}/")
}

/// Reads what [`record`] made.
#[must_use]
pub fn parse_record(key: &str) -> Option<(Kind, &str)> {
    let (word, id) = key.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word)?;
    (!id.is_empty() && !id.contains('/')).then_some((kind, id))
}

/// `of/{tenant}/{kind}/{id}`: that a tenant has a record.
#[must_use]
pub fn owned(tenant: &Id, kind: Kind, id: &str) -> String {
    format!("of/{tenant}/{kind}/{id}")
}

/// The prefix of a tenant's records of a kind, or of all kinds.
#[must_use]
pub fn owned_by(tenant: &Id, kind: Option<Kind>) -> String {
    match kind {
        Some(kind) => format!("of/{tenant}/{kind}/"),
        None => format!("of/{tenant}/"),
    }
}

/// Reads what [`owned`] made: the kind and the id.
#[must_use]
pub fn parse_owned(key: &str) -> Option<(Kind, &str)> {
    let (_, record) = key.strip_prefix("of/")?.split_once('/')?;
    parse_record(record)
}

/// The id at the end of a key that [`owned`] or [`record`] made.
#[must_use]
pub fn last(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

/// `rules/{tenant}`: the rules that name a tenant; `rules/` those that name none.
#[must_use]
pub fn rules(tenant: Option<&Id>) -> String {
    format!("rules/{}", tenant.map_or("", Id::as_str))
}

/// `name/{pbx}/{username}`: which account has a name at a PBX.
#[must_use]
pub fn name(pbx: &Id, username: &Username) -> String {
    format!("name/{pbx}/{username}")
}

/// What stands under a name that nobody has any more.
pub const FREE_NAME: &[u8] = b"";

/// The prefix of all names at a PBX.
#[must_use]
pub fn names(pbx: &Id) -> String {
    format!("name/{pbx}/")
}

/// `access/{SHA-256 of kind and name, in hexadecimal digits}`: which token's record has a name at
/// Cloudflare Access. A hash, since a name holds any letters; it hides nothing.
#[must_use]
pub fn access(identity: &Identity) -> String {
    let text = format!("{}/{}", identity.kind(), identity.canonical());
    format!("access/{}", hex(&Sha256::digest(text.as_bytes())))
}

/// `gone/{pbx}/{username}`: that our objects of this name may be deleted at the PBX.
#[must_use]
pub fn gone(pbx: &Id, username: &Username) -> String {
    format!("gone/{pbx}/{username}")
}

/// The prefix of all tombstones of a PBX.
#[must_use]
pub fn all_gone(pbx: &Id) -> String {
    format!("gone/{pbx}/")
}

/// The prefix of all tombstones.
pub const ALL_GONE: &str = "gone/";

/// Reads what [`gone`] made: the PBX and the name there.
#[must_use]
pub fn parse_gone(key: &str) -> Option<(Id, Username)> {
    let (pbx, username) = key.strip_prefix(ALL_GONE)?.split_once('/')?;
    Some((Id::try_from(pbx).ok()?, Username::try_from(username).ok()?))
}

/// `changed/{pbx}/{account}/{rev}`: that a save changed what the PBX must hold. Of each revision its
/// own, so that who takes one away takes no newer one along.
#[must_use]
pub fn changed(pbx: &Id, account: &str, rev: u64) -> String {
    format!("{ALL_CHANGED}{pbx}/{account}/{rev}")
}

/// The prefix of all marks of changes.
pub const ALL_CHANGED: &str = "changed/";

/// The prefix of a PBX's marks of changes.
#[must_use]
pub fn all_changed(pbx: &Id) -> String {
    format!("{ALL_CHANGED}{pbx}/")
}

/// Reads what [`changed`] made: the PBX, the account and its revision.
#[must_use]
pub fn parse_changed(key: &str) -> Option<(Id, Id, u64)> {
    let (pbx, rest) = key.strip_prefix(ALL_CHANGED)?.split_once('/')?;
    let (account, rev) = rest.split_once('/')?;
    let rev = rev.parse().ok()?;
    Some((Id::try_from(pbx).ok()?, Id::try_from(account).ok()?, rev))
}

/// `confirmed/{pbx}`: what an admin lets pass at a PBX.
#[must_use]
pub fn confirmed(pbx: &Id) -> String {
    format!("confirmed/{pbx}")
}

/// `unfinished/{kind}/{id}/{nonce}`: a save under way.
#[must_use]
pub fn unfinished(kind: Kind, id: &str, nonce: &str) -> String {
    format!("unfinished/{kind}/{id}/{nonce}")
}

/// The prefix of all saves under way.
pub const ALL_UNFINISHED: &str = "unfinished/";

/// Reads what [`unfinished`] made.
#[must_use]
pub fn parse_unfinished(key: &str) -> Option<(Kind, &str)> {
    let (record, _) = key.strip_prefix(ALL_UNFINISHED)?.rsplit_once('/')?;
    parse_record(record)
}

/// `upload/{mac}/{name}`: what a phone put under a name of its vendor's.
#[must_use]
pub fn upload(mac: Mac, name: &str) -> String {
    format!("upload/{mac}/{name}")
}

/// The prefix of all that a phone put there.
#[must_use]
pub fn uploads(mac: Mac) -> String {
    format!("upload/{mac}/")
}

/// The prefix of all that any phone put there.
pub const ALL_UPLOADS: &str = "upload/";

/// `version/{mac}/{hash}`: a text of a phone's files, masked, and what it was made of. The hash is keyed.
#[must_use]
pub fn version(mac: Mac, content: &str) -> String {
    format!("version/{mac}/{content}")
}

/// The prefix of all that is kept of versions of a phone's files.
#[must_use]
pub fn versions(mac: Mac) -> String {
    format!("version/{mac}/")
}

/// `refused/{mac}`: the last time that somebody was refused who asked for a device.
#[must_use]
pub fn refused(mac: Mac) -> String {
    format!("refused/{mac}")
}

/// `pbx-state/{pbx}`: what was seen at and pushed to a PBX.
#[must_use]
pub fn pbx_state(pbx: &Id) -> String {
    format!("pbx-state/{pbx}")
}

/// `session/{account}`: at which phone a user is logged in.
#[must_use]
pub fn session(account: &Id) -> String {
    format!("session/{account}")
}

/// `session-end/{until:012}/{account}`: that a session of the account ends then. Sorts by time.
#[must_use]
pub fn session_end(until: Timestamp, account: &Id) -> String {
    format!("{ALL_SESSION_ENDS}{:012}/{account}", until.0)
}

/// The prefix of all ends of sessions.
pub const ALL_SESSION_ENDS: &str = "session-end/";

/// Reads what [`session_end`] made.
#[must_use]
pub fn parse_session_end(key: &str) -> Option<(Timestamp, Id)> {
    let (until, account) = key.strip_prefix(ALL_SESSION_ENDS)?.split_once('/')?;
    let until = until.parse().ok().map(Timestamp);
    until.zip(Id::try_from(account).ok())
}

/// `tries/account/{account}`: wrong PINs for a user.
#[must_use]
pub fn tries_of_account(account: &Id) -> String {
    format!("tries/account/{account}")
}

/// `tries/device/{mac}`: wrong PINs at a phone.
#[must_use]
pub fn tries_of_device(mac: Mac) -> String {
    format!("tries/device/{mac}")
}

/// `tries/nobody/{mac}`: PINs at a phone for users whom nobody knows. It costs what a user's own count
/// costs, and limits nothing.
#[must_use]
pub fn tries_of_nobody(mac: Mac) -> String {
    format!("tries/nobody/{mac}")
}

/// `pbx-contacts/{pbx}`: who is registered from where.
#[must_use]
pub fn pbx_contacts(pbx: &Id) -> String {
    format!("pbx-contacts/{pbx}")
}

/// `resync/{mac}`: that a phone is to be told to fetch again.
#[must_use]
pub fn resync(mac: Mac) -> String {
    format!("{ALL_RESYNC}{mac}")
}

/// The prefix of all phones that are to be told.
pub const ALL_RESYNC: &str = "resync/";

/// `told/{mac}`: what became of telling a phone.
#[must_use]
pub fn told(mac: Mac) -> String {
    format!("told/{mac}")
}

/// Why files are made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Regenerated<'a> {
    /// A record that devices share was changed.
    Record(Kind, &'a str),
    /// The templates were.
    Templates,
    /// A tenant's phones of a vendor, all or some, get other templates than those that they have.
    TemplatesOf(&'a str, VendorId),
    /// Nothing yet: new templates are to be rolled out at the tenants that want it.
    Rollouts,
}

/// The word in the place of a kind and of an id for [`Regenerated::Templates`].
const TEMPLATES_WORD: &str = "templates";

/// The word in the place of a kind for [`Regenerated::TemplatesOf`].
const TEMPLATES_OF: &str = "templates-of";

/// The word in the place of a kind and of an id for [`Regenerated::Rollouts`].
const ROLLOUTS_WORD: &str = "rollouts";

/// `regenerate/{kind}/{id}/{time}-{nonce}`: that files are to be made again. The last of a record is
/// the newest.
#[must_use]
pub fn regenerate(what: Regenerated<'_>, at: Timestamp, nonce: &str) -> String {
    let record = match what {
        Regenerated::Record(kind, id) => record(kind, id),
        Regenerated::Templates => format!("{TEMPLATES_WORD}/{TEMPLATES_WORD}"),
        Regenerated::TemplatesOf(tenant, vendor) => format!("{TEMPLATES_OF}/{tenant}/{vendor}"),
        Regenerated::Rollouts => format!("{ROLLOUTS_WORD}/{ROLLOUTS_WORD}"),
    };
    format!("{ALL_REGENERATE}{record}/{:012}-{nonce}", at.0)
}

/// The prefix of all of them.
pub const ALL_REGENERATE: &str = "regenerate/";

/// Reads what [`regenerate`] made: why, and since when.
#[must_use]
pub fn parse_regenerate(key: &str) -> Option<(Regenerated<'_>, Timestamp)> {
    let (what, name) = key.strip_prefix(ALL_REGENERATE)?.rsplit_once('/')?;
    let at = Timestamp(name.split_once('-')?.0.parse().ok()?);
    let what = match what.split_once('/')? {
        (TEMPLATES_WORD, TEMPLATES_WORD) => Regenerated::Templates,
        (ROLLOUTS_WORD, ROLLOUTS_WORD) => Regenerated::Rollouts,
        (TEMPLATES_OF, whose) => {
            let (tenant, vendor) = whose.split_once('/')?;
            Regenerated::TemplatesOf(tenant, parse_vendor(vendor)?)
        }
        _ => parse_record(what).map(|(kind, id)| Regenerated::Record(kind, id))?,
    };
    Some((what, at))
}

/// The prefix of all roll-outs that are under way. Below [`ALL_REGENERATE`], which each run lists anyhow, so
/// that to look for them costs nothing.
const ALL_ROLLOUTS: &str = "regenerate/rollout/";

/// `regenerate/rollout/{profile}/{edition}`: that the settings of a profile are rolled out that it got with
/// that edition; `regenerate/rollout/{tenant}/{vendor}/{number}`: that the templates of that number are, at a
/// tenant's phones. Of each edition and number its own, so that who takes one away takes no newer one along.
#[must_use]
pub fn rollout(subject: &Subject) -> String {
    match subject {
        Subject::Profile { id, edition } => format!("{ALL_ROLLOUTS}{id}/{edition}"),
        Subject::Templates {
            tenant,
            vendor,
            number,
        } => format!("{ALL_ROLLOUTS}{tenant}/{vendor}/{number}"),
    }
}

/// Reads what [`rollout`] made.
#[must_use]
pub fn parse_rollout(key: &str) -> Option<Subject> {
    let (id, rest) = key.strip_prefix(ALL_ROLLOUTS)?.split_once('/')?;
    let id = Id::try_from(id).ok()?;
    Some(match rest.split_once('/') {
        Some((vendor, number)) => Subject::Templates {
            tenant: id,
            vendor: parse_vendor(vendor)?,
            number: number.parse().ok()?,
        },
        None => Subject::Profile {
            id,
            edition: rest.parse().ok()?,
        },
    })
}

fn parse_vendor(name: &str) -> Option<VendorId> {
    let mut all = VendorId::ALL.iter().copied();
    all.find(|vendor| vendor.name() == name)
}

/// Which versions of the templates all files were made of, or are being.
pub const TEMPLATES: &str = "templates";

/// Whose chain of the audit it is. `-` is no id that a tenant can have.
#[must_use]
pub fn audit_owner(tenant: Option<&Id>) -> &str {
    tenant.map_or("-", Id::as_str)
}

/// The prefix of all events that are not chained yet, and of all alarms that wait.
pub const ALL_AUDIT_NEW: &str = "audit-new/";

/// `audit-new/{tenant}/{name}`: an event. Names sort by time.
#[must_use]
pub fn audit_new(tenant: Option<&Id>, name: &str) -> String {
    format!("{ALL_AUDIT_NEW}{}/{name}", audit_owner(tenant))
}

/// A key that sorts behind everything of one tenant under [`ALL_AUDIT_NEW`], and before all that
/// follows: `0` is the character after `/`.
#[must_use]
pub fn behind_audit_new(tenant: Option<&Id>) -> String {
    format!("{ALL_AUDIT_NEW}{}0", audit_owner(tenant))
}

/// What the names begin with that are no events'.
const WAITING: char = '!';

/// `audit-new/{tenant}/!{page:012}`: that alarms of a page wait. Sorts before the events, whose
/// names begin with a digit.
#[must_use]
pub fn audit_waiting(tenant: &Id, page: u64) -> String {
    audit_new(Some(tenant), &format!("{WAITING}{page:012}"))
}

/// The prefix of what [`audit_waiting`] makes.
#[must_use]
pub fn all_audit_waiting(tenant: &Id) -> String {
    audit_new(Some(tenant), &WAITING.to_string())
}

/// What stands under a key below [`ALL_AUDIT_NEW`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditNew<'a> {
    /// An event, by its name.
    Event(&'a str),
    /// Alarms of a page wait.
    Waiting(u64),
}

/// Reads what [`audit_new`] or [`audit_waiting`] made: whose it is, and what.
#[must_use]
pub fn parse_audit_new(key: &str) -> Option<(Option<Id>, AuditNew<'_>)> {
    let (owner, name) = key.strip_prefix(ALL_AUDIT_NEW)?.split_once('/')?;
    let owner = parse_audit_owner(owner).ok()?;
    if name.is_empty() || name.contains('/') {
        return None;
    }
    let what = match name.strip_prefix(WAITING) {
        Some(page) => AuditNew::Waiting(page.parse().ok()?),
        None => AuditNew::Event(name),
    };
    Some((owner, what))
}

fn parse_audit_owner(owner: &str) -> Result<Option<Id>, String> {
    match owner {
        "-" => Ok(None),
        tenant => Id::try_from(tenant).map(Some),
    }
}

/// `audit/{tenant}/{page:012}`: a page of the chain; the first is 1.
#[must_use]
pub fn audit_page(tenant: Option<&Id>, page: u64) -> String {
    format!("audit/{}/{page:012}", audit_owner(tenant))
}

/// `audit-head/{tenant}`: where the chain ends.
#[must_use]
pub fn audit_head(tenant: Option<&Id>) -> String {
    format!("{ALL_AUDIT_HEADS}{}", audit_owner(tenant))
}

/// The prefix of all heads.
pub const ALL_AUDIT_HEADS: &str = "audit-head/";

/// Reads what [`audit_head`] made.
///
/// # Errors
/// Why the key is no such one.
pub fn parse_audit_head(key: &str) -> Result<Option<Id>, String> {
    let owner = key.strip_prefix(ALL_AUDIT_HEADS);
    parse_audit_owner(owner.ok_or("is no head's key")?)
}

/// What the last run of the scheduled handler did.
pub const RECONCILE: &str = "reconcile";

/// How far a change of `SEAL_KEY` is.
pub const REKEY: &str = "rekey";

/// Who may run the scheduled handler now.
pub const LEASE: &str = "lease";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_what_it_was_made_of() {
        for kind in Kind::ALL {
            assert_eq!(parse_record(&record(kind, "a.b-c")), Some((kind, "a.b-c")));
            assert_eq!(
                parse_unfinished(&unfinished(kind, "x", "1")),
                Some((kind, "x"))
            );
        }
        let (pbx, account) = (Id::try_from("p-1").unwrap(), Id::try_from("a.1").unwrap());
        let name = Username::try_from("x+1").unwrap();
        let marked = Some((pbx.clone(), account, 7));
        assert_eq!(parse_changed(&changed(&pbx, "a.1", 7)), marked);
        assert_eq!(parse_gone(&gone(&pbx, &name)), Some((pbx, name)));
        for wrong in ["changed/p", "changed/p/a", "changed/p/a/x", "changed//a/1"] {
            assert_eq!(parse_changed(wrong), None, "{wrong}");
        }
        for wrong in ["gone/p", "gone/p/", "gone/p/a/b", "name/p/a"] {
            assert_eq!(parse_gone(wrong), None, "{wrong}");
        }
        for wrong in [
            "",
            "device",
            "device/",
            "device/a/b",
            "phone/a",
            "unfinished/device/a",
        ] {
            assert_eq!(parse_record(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_ends_of_sessions_sort_by_time_and_read_back() {
        let acme = Id::try_from("acme-1001").unwrap();
        let ends = [9, 10, 1_795_424_400].map(|at| session_end(Timestamp(at), &acme));
        assert!(ends.is_sorted(), "{ends:?}");
        let read = parse_session_end(&ends[2]);
        assert_eq!(read, Some((Timestamp(1_795_424_400), acme)));
        for wrong in [
            "session-end/x/a",
            "session-end/1",
            "session-end/1/A",
            "session/a",
        ] {
            assert_eq!(parse_session_end(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_made_again_reads_back() {
        let at = Timestamp(1_795_424_400);
        for what in [
            Regenerated::Templates,
            Regenerated::Record(Kind::Pbx, "main"),
            Regenerated::TemplatesOf("acme", VendorId::Snom),
            Regenerated::Rollouts,
        ] {
            assert_eq!(
                parse_regenerate(&regenerate(what, at, "ab")),
                Some((what, at))
            );
        }
        let office = Id::try_from("1-office").unwrap();
        let profile = Subject::Profile {
            id: office.clone(),
            edition: 7,
        };
        let templates = Subject::Templates {
            tenant: office,
            vendor: VendorId::Snom,
            number: 7,
        };
        for subject in [profile, templates] {
            let open = rollout(&subject);
            assert_eq!(parse_rollout(&open), Some(subject));
            assert!(open.starts_with(ALL_REGENERATE));
            assert_eq!(parse_regenerate(&open), None, "{open}");
        }
        for wrong in [
            "regenerate/rollout/a",
            "regenerate/rollout/a/1-b",
            "regenerate/rollout/a/nokia/1",
            "regenerate/rollout/a/snom/1-b",
            "regenerate/profile/a/1",
        ] {
            assert_eq!(parse_rollout(wrong), None, "{wrong}");
        }
        for wrong in [
            "regenerate/templates-of/acme/1-a",
            "regenerate/templates-of/acme/nokia/1-a",
            "regenerate/pbx/main",
            "regenerate/x/main/1-a",
            "resync/pbx/main/1-a",
        ] {
            assert_eq!(parse_regenerate(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_of_the_audit_reads_back_as_what_it_was_made_of() {
        let acme = Id::try_from("acme").unwrap();
        for owner in [None, Some(&acme)] {
            let event = audit_new(owner, "001-x");
            let read = Some((owner.cloned(), AuditNew::Event("001-x")));
            assert_eq!(parse_audit_new(&event), read);
            assert_eq!(parse_audit_head(&audit_head(owner)), Ok(owner.cloned()));
            assert!(event < behind_audit_new(owner));
        }
        let waiting = audit_waiting(&acme, 7);
        let read = Some((Some(acme.clone()), AuditNew::Waiting(7)));
        assert_eq!(parse_audit_new(&waiting), read);
        assert!(waiting.starts_with(&all_audit_waiting(&acme)));
        assert!(waiting < audit_new(Some(&acme), "0"));
        // Nobody's are skipped with those of `acme`.
        for other in ["acme-2", "acme.de", "acme0", "acmeb"] {
            let other = audit_new(Id::try_from(other).ok().as_ref(), "0");
            let behind = behind_audit_new(Some(&acme));
            assert!(
                other > behind || other < audit_new(Some(&acme), "!"),
                "{other}"
            );
        }
        for wrong in [
            "audit-new/acme",
            "audit-new/acme/",
            "audit-new/acme/a/b",
            "audit-new/A/b",
            "audit-new/acme/!x",
            "audit/acme/1",
        ] {
            assert_eq!(parse_audit_new(wrong), None, "{wrong}");
        }
    }
}
