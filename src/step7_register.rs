//! Step 7: the phone registers. What its Asterisk must hold so that it can: for each account one
//! PJSIP `auth`, `aor` and `endpoint`, all three named like the account's username, and beside them
//! an `auth` for each former password that a phone may still have.
//!
//! In: records. Out: fields for `PUT /ari/asterisk/config/dynamic/res_pjsip/...`, and what the
//! answers of that resource mean. Every value is a string (another JSON type crashes Asterisk 22),
//! and an answer that could be a failure is never taken for "not there".

use std::collections::BTreeMap;
use std::fmt;

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::fault::Fault;
use crate::gather::in_order;
use crate::json;
use crate::keys::{Keys, hex};
use crate::record::account::{Account, Slot};
use crate::record::pbx::{Pbx, Srtp};
use crate::record::settings::Codec;
use crate::secret::Secret;
use crate::text::{Id, Mailbox, Username};

/// The field that says whose an object is: the account's id. Asterisk keeps fields that begin with
/// `@` and gives them no meaning.
pub const MARK: &str = "@dialtone";

/// The field of the endpoint that names what was pushed, over all three objects.
pub const HASH: &str = "@dialtone_hash";

/// Rises when this file makes other objects of the same records, so that all are pushed again.
const FORM: u32 = 2;

/// The longest registration, in seconds: how late a phone that was unplugged is seen to be offline.
/// Asterisk asks nobody in between (`qualify_frequency`): a phone that does not answer OPTIONS would
/// get no calls any more, and phones keep the holes in their NATs open themselves.
pub const LONGEST_REGISTRATION_S: u64 = 600;

/// The longest display name, in bytes. Asterisk cuts a longer one there, also in the middle of a
/// character, and then cannot write the object as JSON any more.
const CALLER_NAME_BYTES: usize = 79;

/// What the digest needs of a password (RFC 2617, 3.2.2.2), in lower-case hex.
#[must_use]
pub fn ha1(user: &str, realm: &str, password: &str) -> String {
    hex(&Md5::digest(format!("{user}:{realm}:{password}")))
}

/// A field of a PJSIP object. Both are strings by type.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// The option's name in `pjsip.conf`.
    pub attribute: &'static str,
    /// Its value.
    pub value: String,
}

/// The body of a `PUT`: one object's fields. It may hold a credential, so its `Debug` shows names.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Fields {
    fields: Vec<Field>,
}

impl Fields {
    fn new(fields: Vec<(&'static str, String)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(attribute, value)| Field { attribute, value })
            .collect();
        Self { fields }
    }

    /// The fields, in the order in which they are sent.
    #[must_use]
    pub fn list(&self) -> &[Field] {
        &self.fields
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, attribute: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|field| field.attribute == attribute)
            .map(|field| field.value.as_str())
    }

    /// The JSON to send.
    ///
    /// # Errors
    /// [`Fault::Broken`] if serde cannot write strings, which it can.
    pub fn body(&self) -> Result<Vec<u8>, Fault> {
        serde_json::to_vec(self).map_err(|_| Fault::Broken("fields to json"))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.fields.iter().map(|field| field.attribute))
            .finish()
    }
}

/// The classes of PJSIP objects that an account has, in the order in which they are created: an
/// endpoint refers to the other two. They are deleted the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The credentials.
    Auth,
    /// Where the phone is.
    Aor,
    /// What it may do.
    Endpoint,
}

impl Class {
    /// In the order of creation.
    pub const ALL: [Self; 3] = [Self::Auth, Self::Aor, Self::Endpoint];

    /// The word in ARI's paths.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Aor => "aor",
            Self::Endpoint => "endpoint",
        }
    }
}

/// The objects of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PjsipObjects {
    /// The credentials.
    pub auth: Fields,
    /// Where the phone is.
    pub aor: Fields,
    /// What it may do.
    pub endpoint: Fields,
    /// The credentials that are good as well.
    pub former: BTreeMap<Slot, Fields>,
    /// Keyed hash over all fields: the value of [`HASH`] in `endpoint`.
    pub hash: String,
}

/// A former password, as it goes to the PBX. It opens nothing else: a phone that has it registers
/// as the same account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerLogin<'a> {
    /// Where it is kept.
    pub slot: Slot,
    /// The user of the digest then.
    pub login: &'a Username,
    /// The password then.
    pub password: Secret,
}

impl PjsipObjects {
    /// The fields of one class.
    #[must_use]
    pub fn of(&self, class: Class) -> &Fields {
        match class {
            Class::Auth => &self.auth,
            Class::Aor => &self.aor,
            Class::Endpoint => &self.endpoint,
        }
    }

    /// The endpoint as it is put there before the account's own auth is: it names the former ones
    /// already, so that the password that is there now works on all the while. Its [`HASH`] is that of
    /// no objects, so that a push that is cut off here is not taken for a whole one.
    #[must_use]
    pub fn endpoint_before(&self) -> Fields {
        let mut fields = self.endpoint.clone();
        for field in &mut fields.fields {
            if field.attribute == HASH {
                "pending".clone_into(&mut field.value);
            }
        }
        fields
    }
}

/// What an Asterisk must hold for an account that sits on so many `devices`.
///
/// A `PUT` merges into what is there, so every field that was ever set is always set, an empty
/// `mailboxes` too. The account's `voicemail` is what a key dials and no mailbox.
///
/// # Errors
/// A [`Fault`] of the keys.
pub fn objects(
    pbx: &Pbx,
    id: &Id,
    account: &Account,
    password: &Secret,
    former: &[FormerLogin<'_>],
    devices: usize,
    keys: &Keys,
) -> Result<PjsipObjects, Fault> {
    let name = account.username.as_str();
    let yes = || "yes".to_owned();
    let no = || "no".to_owned();
    let (encryption, optimistic) = match pbx.sip.srtp {
        Srtp::Off => ("no", no()),
        Srtp::Optional => ("sdes", yes()),
        Srtp::Required => ("sdes", no()),
    };
    let former = former.iter().map(|former| {
        let login = auth(pbx, id, former.login, &former.password);
        (former.slot, login)
    });
    let former: BTreeMap<Slot, Fields> = in_order(former);
    let auth = auth(pbx, id, account.auth_username(), password);
    // The account's own first: what Asterisk makes of the order is nowhere said, and so it is the one
    // that most phones have.
    let auths: Vec<String> = std::iter::once(name.to_owned())
        .chain(former.keys().map(|slot| slot.object(&account.username)))
        .collect();
    let mailbox = account.mailbox.as_ref().map_or("", Mailbox::as_str);
    let aor = vec![
        // One for each phone: a phone that came back from behind another port of its NAT replaces
        // its former self, first of all one that does not answer any more.
        ("max_contacts", devices.max(1).to_string()),
        ("remove_existing", yes()),
        ("remove_unavailable", yes()),
        ("qualify_frequency", "0".to_owned()),
        ("maximum_expiration", LONGEST_REGISTRATION_S.to_string()),
        // For phones that subscribe to it; the endpoint's is for those that do not.
        ("mailboxes", mailbox.to_owned()),
        (MARK, id.to_string()),
    ];
    let mut endpoint = vec![
        ("context", pbx.context.to_string()),
        // Before `allow`, whose codecs it would otherwise take away again.
        ("disallow", "all".to_owned()),
        ("allow", allow(pbx)),
        ("auth", auths.join(",")),
        ("aors", name.to_owned()),
        (
            "callerid",
            caller_id(account.display_name(), &account.username),
        ),
        ("media_encryption", encryption.to_owned()),
        ("media_encryption_optimistic", optimistic),
        // The phone is behind a NAT for all we know: answer to where it came from, and keep the
        // speech on the way through Asterisk.
        ("direct_media", no()),
        ("rtp_symmetric", yes()),
        ("force_rport", yes()),
        ("rewrite_contact", yes()),
        ("dtmf_mode", "rfc4733".to_owned()),
        ("mailboxes", mailbox.to_owned()),
        // Without the first, Asterisk 22.10 refuses a subscription (500). With it and aggregation, a phone
        // that has subscribed is told "no messages" each time that it registers again.
        ("mwi_subscribe_replaces_unsolicited", yes()),
        ("aggregate_mwi", no()),
        (MARK, id.to_string()),
    ];
    let mut whole = serde_json::to_vec(&(
        FORM,
        &auth,
        Fields::new(aor.clone()),
        Fields::new(endpoint.clone()),
    ))
    .map_err(|_| Fault::Broken("fields to json"))?;
    for fields in former.values() {
        whole.extend(fields.body()?);
    }
    let hash = keys.etag(&whole)?.trim_matches('"').to_owned();
    endpoint.push((HASH, hash.clone()));
    Ok(PjsipObjects {
        auth,
        aor: Fields::new(aor),
        endpoint: Fields::new(endpoint),
        former,
        hash,
    })
}

/// The fields of an `auth`: the digest's hash and not the password, so that Asterisk never has it.
fn auth(pbx: &Pbx, id: &Id, login: &Username, password: &Secret) -> Fields {
    let (login, realm) = (login.as_str(), pbx.realm.as_str());
    Fields::new(vec![
        ("auth_type", "md5".to_owned()),
        ("username", login.to_owned()),
        ("realm", realm.to_owned()),
        ("md5_cred", ha1(login, realm, password.reveal())),
        (MARK, id.to_string()),
    ])
}

/// The value of `allow`. Never empty, and only names that Asterisk 22 has: it refuses an endpoint with
/// another, and stores one without any that can then be neither read nor deleted.
fn allow(pbx: &Pbx) -> String {
    let name = |codec: &Codec| match codec {
        Codec::G722 => "g722",
        Codec::Pcma => "alaw",
        Codec::Pcmu => "ulaw",
        Codec::G729 => "g729",
        Codec::Opus => "opus",
    };
    let names: Vec<&str> = pbx.codecs().iter().map(name).collect();
    names.join(",")
}

/// Names what of a PBX's record is in every object there: if it changes, all are pushed again.
#[must_use]
pub fn shape(pbx: &Pbx) -> String {
    let (context, realm, srtp, allow) = (&pbx.context, &pbx.realm, pbx.sip.srtp, allow(pbx));
    let text = format!("{FORM} {context} {realm} {srtp:?} {allow}");
    hex(Sha256::digest(text)
        .first_chunk::<4>()
        .map_or(&[], |start| start))
}

/// `"Display" <user>`. Quotes and backslashes become their look-alikes: Asterisk takes the escapes
/// of both off once more each time that it stores the object.
fn caller_id(display: &str, user: &Username) -> String {
    let mut name = String::new();
    for letter in display.chars() {
        let letter = match letter {
            '"' => '\'',
            '\\' => '/',
            other => other,
        };
        if name.len() + letter.len_utf8() > CALLER_NAME_BYTES {
            break;
        }
        name.push(letter);
    }
    format!("\"{}\" <{user}>", name.trim_end())
}

/// Whether ARI can be asked about an object of this name: a URL's path cannot end in these two.
#[must_use]
pub fn can_be_named(username: &Username) -> bool {
    !matches!(username.as_str(), "." | "..")
}

/// What of an object at the PBX is of interest. It may hold a credential, so it has no `Debug`
/// of its fields.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// [`MARK`], if it has one.
    pub account: Option<String>,
    /// [`HASH`], if it has one.
    pub hash: Option<String>,
    auths: Option<String>,
    username: Option<String>,
    realm: Option<String>,
    md5_cred: Option<String>,
}

impl Found {
    /// Whether it is an endpoint that takes what the auth of this name takes.
    #[must_use]
    pub fn names(&self, auth: &str) -> bool {
        let auths = self.auths.as_deref().unwrap_or_default();
        auths.split(',').any(|name| name.trim() == auth)
    }

    /// Whether it is an auth for this user and realm.
    #[must_use]
    pub fn is_login(&self, username: &str, realm: &str) -> bool {
        self.username.as_deref() == Some(username) && self.realm.as_deref() == Some(realm)
    }

    /// Whether it is an auth that takes exactly the password that we would set. An Asterisk that
    /// does not show `md5_cred` is believed to have kept it.
    #[must_use]
    pub fn takes(&self, auth: &Fields) -> bool {
        let same = |found: &Option<String>, name| found.as_deref() == auth.get(name);
        same(&self.username, "username")
            && same(&self.realm, "realm")
            && (self.md5_cred.is_none() || same(&self.md5_cred, "md5_cred"))
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("account", &self.account)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

/// Whether an object is at the PBX, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Asterisk says that there is none.
    Absent,
    /// It carries the account's mark.
    Ours(Found),
    /// It carries no mark, or another account's.
    Foreign(Found),
    /// Not to be told: nothing may be concluded from the answer.
    Unclear,
}

/// An answer of ARI, as far as it is read.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Its HTTP status.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: &'a str,
    /// Its body.
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// Whether the body says that it is JSON. An Asterisk that is starting or stopping answers in
    /// HTML, before ARI is there.
    #[must_use]
    pub fn is_json(&self) -> bool {
        let kind = self.content_type.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    }

    fn message(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Said {
            message: String,
        }
        if !self.is_json() {
            return None;
        }
        json::read::<Said>(self.body).ok().map(|said| said.message)
    }

    /// Whether ARI itself says that it has no such object. A 404 is also what a starting Asterisk
    /// gives for everything, and what an unloaded module gives.
    fn no_such_object(&self, name: &str) -> bool {
        self.status == 404
            && self
                .message()
                .is_some_and(|said| said == format!("Object with id '{name}' not found"))
    }
}

/// What the answer to a `GET` of an object says of it.
#[must_use]
pub fn presence(answer: Answer<'_>, name: &str, account: &Id) -> Presence {
    #[derive(Deserialize)]
    struct Pair {
        attribute: String,
        value: String,
    }
    if answer.no_such_object(name) {
        return Presence::Absent;
    }
    if answer.status != 200 || !answer.is_json() {
        return Presence::Unclear;
    }
    let Ok(pairs) = json::read::<Vec<Pair>>(answer.body) else {
        return Presence::Unclear;
    };
    // No object of Asterisk's is without any field.
    if pairs.is_empty() {
        return Presence::Unclear;
    }
    let mut found = Found::default();
    for Pair { attribute, value } in pairs {
        let place = match attribute.as_str() {
            MARK => &mut found.account,
            HASH => &mut found.hash,
            "auth" => &mut found.auths,
            "username" => &mut found.username,
            "realm" => &mut found.realm,
            "md5_cred" => &mut found.md5_cred,
            _ => continue,
        };
        *place = Some(value);
    }
    if found.account.as_deref() == Some(account.as_str()) {
        Presence::Ours(found)
    } else {
        Presence::Foreign(found)
    }
}

/// An endpoint at this moment, as far as it matters to telling its phone something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// It has a contact and no channel.
    Online,
    /// It has a channel: somebody speaks, or it rings.
    InCall,
    /// It has no contact that answers.
    Offline,
    /// There is no such endpoint.
    Absent,
}

/// What the answer to `GET /ari/endpoints/PJSIP/{name}` says; `None` if it is no clear one.
#[must_use]
pub fn line(answer: Answer<'_>) -> Option<Line> {
    #[derive(Deserialize)]
    struct Endpoint {
        state: String,
        channel_ids: Vec<String>,
    }
    if answer.status == 404 && answer.message().as_deref() == Some("Endpoint not found") {
        return Some(Line::Absent);
    }
    if answer.status != 200 || !answer.is_json() {
        return None;
    }
    let endpoint: Endpoint = json::read(answer.body).ok()?;
    match endpoint.state.as_str() {
        _ if !endpoint.channel_ids.is_empty() => Some(Line::InCall),
        "online" => Some(Line::Online),
        "offline" => Some(Line::Offline),
        _ => None,
    }
}

/// What the answer to a `PUT` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Asterisk says that it has it. Only a `GET` shows that it does.
    Kept,
    /// Asterisk does not take a value of this object; others may be fine.
    Refused,
    /// Not to be told.
    Unclear,
}

/// What the answer to a `PUT` means.
#[must_use]
pub fn pushed(answer: Answer<'_>) -> Pushed {
    match answer.status {
        200 if answer.is_json() => Pushed::Kept,
        400 if answer
            .message()
            .is_some_and(|said| said.ends_with("failed field value validation")) =>
        {
            Pushed::Refused
        }
        _ => Pushed::Unclear,
    }
}

/// Whether the answer to a `DELETE` says that there is no such object now.
#[must_use]
pub fn deleted(answer: Answer<'_>, name: &str) -> bool {
    answer.status == 204 || answer.no_such_object(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pbx(srtp: &str) -> Pbx {
        serde_json::from_value(serde_json::json!({
            "tenant": "acme", "ari_url": "https://pbx.example.com/ari", "ari_username": "dialtone",
            "sip": {"host": "pbx.example.com", "srtp": srtp}, "context": "phones", "realm": "example.com",
        }))
        .unwrap()
    }

    fn account(display: &str) -> Account {
        serde_json::from_value(serde_json::json!({
            "tenant": "acme", "pbx": "main", "username": "1001", "auth_username": "dig-1001",
            "display_name": display, "voicemail": "*97", "mailbox": "1001@phones",
        }))
        .unwrap()
    }

    fn keys() -> Keys {
        Keys::new(
            Some(&"a".repeat(32)),
            Some("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            None,
        )
        .unwrap()
    }

    fn secret(text: &str) -> Secret {
        Secret::try_from(text.to_owned()).unwrap()
    }

    fn id(text: &str) -> Id {
        Id::try_from(text).unwrap()
    }

    fn made(srtp: &str, display: &str, password: &str, devices: usize) -> PjsipObjects {
        objects(
            &pbx(srtp),
            &id("acme-1001"),
            &account(display),
            &secret(password),
            &[],
            devices,
            &keys(),
        )
        .unwrap()
    }

    #[test]
    fn an_account_becomes_three_objects_that_name_each_other() {
        let made = made("optional", "Anna", "pw", 0);
        let text = |fields: &Fields| String::from_utf8(fields.body().unwrap()).unwrap();
        let cred = ha1("dig-1001", "example.com", "pw");
        assert_eq!(
            text(&made.auth),
            [
                r#"{"fields":[{"attribute":"auth_type","value":"md5"},{"attribute":"username","value":"dig-1001"},"#,
                r#"{"attribute":"realm","value":"example.com"},{"attribute":"md5_cred","value":""#,
                &cred,
                r#""},{"attribute":"@dialtone","value":"acme-1001"}]}"#,
            ]
            .concat()
        );
        assert_eq!(made.aor.get("max_contacts"), Some("1"));
        assert_eq!(made.aor.get(MARK), Some("acme-1001"));
        for (name, value) in [
            ("context", "phones"),
            ("auth", "1001"),
            ("aors", "1001"),
            ("callerid", "\"Anna\" <1001>"),
            ("media_encryption", "sdes"),
            ("media_encryption_optimistic", "yes"),
            (MARK, "acme-1001"),
            (HASH, made.hash.as_str()),
        ] {
            assert_eq!(made.endpoint.get(name), Some(value), "{name}");
        }
        assert!(!format!("{made:?}").contains(&cred));
    }

    #[test]
    fn the_digest_is_that_of_rfc_2617() {
        // RFC 2617, 3.5: H(A1) of Mufasa's.
        assert_eq!(
            ha1("Mufasa", "testrealm@host.com", "Circle Of Life"),
            "939e7578ed9e3c518a452acee763bce9"
        );
    }

    #[test]
    fn speech_is_encrypted_as_the_pbx_says() {
        for (srtp, encryption, optimistic) in [
            ("off", "no", "no"),
            ("optional", "sdes", "yes"),
            ("required", "sdes", "no"),
        ] {
            let endpoint = made(srtp, "Anna", "pw", 1).endpoint;
            assert_eq!(endpoint.get("media_encryption"), Some(encryption));
            assert_eq!(
                endpoint.get("media_encryption_optimistic"),
                Some(optimistic)
            );
        }
    }

    /// The objects of an account with these members more, at a PBX with these.
    fn made_of(
        pbx_has: &serde_json::Value,
        account_has: &serde_json::Value,
    ) -> (PjsipObjects, String) {
        let with = |record: serde_json::Value, more: &serde_json::Value| {
            let mut record = record;
            let members = record.as_object_mut().unwrap();
            for (name, value) in more.as_object().unwrap() {
                members.insert(name.clone(), value.clone());
            }
            record
        };
        let pbx = with(serde_json::to_value(pbx("off")).unwrap(), pbx_has);
        let pbx: Pbx = serde_json::from_value(pbx).unwrap();
        let account = with(serde_json::to_value(account("Anna")).unwrap(), account_has);
        let account: Account = serde_json::from_value(account).unwrap();
        let objects = objects(
            &pbx,
            &id("acme-1001"),
            &account,
            &secret("pw"),
            &[],
            1,
            &keys(),
        );
        (objects.unwrap(), shape(&pbx))
    }

    #[test]
    fn phones_are_told_of_the_accounts_mailbox_subscribed_or_not_and_of_none_without() {
        let none = serde_json::json!({});
        let (with, _) = made_of(&none, &none);
        let (without, _) = made_of(&none, &serde_json::json!({ "mailbox": null }));
        let (other, _) = made_of(&none, &serde_json::json!({ "mailbox": "1002@phones" }));
        for (objects, expected) in [
            (&with, "1001@phones"),
            (&without, ""),
            (&other, "1002@phones"),
        ] {
            for fields in [&objects.endpoint, &objects.aor] {
                // Said even if it is empty: a PUT leaves alone what it does not name.
                assert_eq!(fields.get("mailboxes"), Some(expected));
            }
            let endpoint = &objects.endpoint;
            assert_eq!(
                endpoint.get("mwi_subscribe_replaces_unsolicited"),
                Some("yes")
            );
            assert_eq!(endpoint.get("aggregate_mwi"), Some("no"));
        }
        assert!(with.hash != without.hash && with.hash != other.hash);
    }

    #[test]
    fn the_codecs_are_the_pbxs_in_its_order_by_the_names_that_asterisk_has() {
        let none = serde_json::json!({});
        let (plain, usual) = made_of(&none, &none);
        assert_eq!(plain.endpoint.get("allow"), Some("g722,alaw,ulaw"));
        let same = serde_json::json!({ "codecs": ["g722", "pcma", "pcmu"] });
        assert_eq!(made_of(&same, &none), (plain.clone(), usual.clone()));
        let mut seen = vec![(plain.hash, usual)];
        for (codecs, expected) in [
            (serde_json::json!(["pcma"]), "alaw"),
            (
                serde_json::json!(["pcmu", "pcma", "g722"]),
                "ulaw,alaw,g722",
            ),
            (serde_json::json!(["opus", "g729"]), "opus,g729"),
        ] {
            let (made, shape) = made_of(&serde_json::json!({ "codecs": codecs }), &none);
            assert_eq!(made.endpoint.get("allow"), Some(expected));
            // Asterisk takes the codecs in the order of the fields.
            let names: Vec<_> = made.endpoint.list().iter().map(|f| f.attribute).collect();
            let place = |name| names.iter().position(|other| *other == name);
            assert!(place("disallow") < place("allow"));
            // So that what is there is pushed again.
            assert!(
                seen.iter()
                    .all(|(hash, other)| *hash != made.hash && *other != shape)
            );
            seen.push((made.hash, shape));
        }
    }

    #[test]
    fn the_hash_follows_every_field_and_shows_none() {
        let first = made("off", "Anna", "pw", 1);
        assert_eq!(first, made("off", "Anna", "pw", 1));
        assert_eq!(first.hash.len(), 32);
        for other in [
            made("off", "Anna", "pw2", 1),
            made("off", "Anna", "pw", 2),
            made("off", "Anne", "pw", 1),
            made("optional", "Anna", "pw", 1),
        ] {
            assert_ne!(first.hash, other.hash);
        }
        let other_key = Keys::new(
            Some(&"a".repeat(32)),
            Some("BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="),
            None,
        );
        let keyed = objects(
            &pbx("off"),
            &id("acme-1001"),
            &account("Anna"),
            &secret("pw"),
            &[],
            1,
            &other_key.unwrap(),
        )
        .unwrap();
        assert_ne!(first.hash, keyed.hash);
        assert_ne!(shape(&pbx("off")), shape(&pbx("required")));
    }

    #[test]
    fn former_passwords_have_auths_that_the_endpoint_names() {
        let login = Username::try_from("former-login").unwrap();
        let former = |slot, password| FormerLogin {
            slot,
            login: &login,
            password: secret(password),
        };
        let with = |former: &[FormerLogin<'_>]| {
            let (pbx, account) = (pbx("off"), account("Anna"));
            let id = id("acme-1001");
            objects(&pbx, &id, &account, &secret("pw"), former, 1, &keys()).unwrap()
        };
        let plain = with(&[]);
        let made = with(&[former(Slot::Third, "old"), former(Slot::First, "older")]);
        let list = "1001,1001@former-1,1001@former-3";
        assert_eq!(made.endpoint.get("auth"), Some(list));
        assert_eq!((&made.auth, &made.aor), (&plain.auth, &plain.aor));
        let third = &made.former[&Slot::Third];
        let cred = ha1("former-login", "example.com", "old");
        for (name, value) in [
            ("auth_type", "md5"),
            ("username", "former-login"),
            ("realm", "example.com"),
            ("md5_cred", &cred),
            (MARK, "acme-1001"),
        ] {
            assert_eq!(third.get(name), Some(value), "{name}");
        }
        // Another former password is another hash, in the same slots too.
        let other = with(&[former(Slot::Third, "old"), former(Slot::First, "oldest")]);
        assert_ne!(made.hash, plain.hash);
        assert_ne!(made.hash, other.hash);
        assert!(!format!("{made:?}").contains(&cred));

        // Before the own auth has the new password the endpoint is all that it will be, but for the
        // hash that says that everything is there.
        let before = made.endpoint_before();
        for field in before.list() {
            let same = made.endpoint.get(field.attribute) == Some(&field.value);
            assert_eq!(same, field.attribute != HASH, "{}", field.attribute);
        }
        assert_eq!(before.list().len(), made.endpoint.list().len());
    }

    #[test]
    fn an_endpoint_names_auths_as_a_list() {
        let see = |auths: &str| {
            let body = format!(
                r#"[{{"attribute":"@dialtone","value":"a"}},{{"attribute":"auth","value":"{auths}"}}]"#
            );
            match presence(answer(200, JSON, &body), "1001", &id("a")) {
                Presence::Ours(found) => found.names("1001@former-1"),
                other => panic!("{other:?}"),
            }
        };
        assert!(see("1001,1001@former-1") && see("1001@former-1, 1001"));
        assert!(!see("1001") && !see("1001,1001@former-12") && !see(""));
    }

    #[test]
    fn a_display_name_cannot_leave_its_quotes_nor_be_cut_in_a_letter() {
        let user = Username::try_from("1001").unwrap();
        for (display, expected) in [
            ("Anna \"A\" \\ B", "\"Anna 'A' / B\" <1001>".to_owned()),
            ("Müller & <Söhne>", "\"Müller & <Söhne>\" <1001>".to_owned()),
            (
                "x".repeat(128).as_str(),
                format!("\"{}\" <1001>", "x".repeat(79)),
            ),
            (
                "ü".repeat(128).as_str(),
                format!("\"{}\" <1001>", "ü".repeat(39)),
            ),
        ] {
            assert_eq!(caller_id(display, &user), expected);
        }
    }

    fn answer<'a>(status: u16, content_type: &'a str, body: &'a str) -> Answer<'a> {
        Answer {
            status,
            content_type,
            body: body.as_bytes(),
        }
    }

    const JSON: &str = "application/json";
    const GONE: &str = r#"{"message":"Object with id '1001' not found"}"#;

    #[test]
    fn only_aris_own_words_mean_absent() {
        let name = "1001";
        let account = id("acme-1001");
        let see = |answer: Answer<'_>| presence(answer, name, &account);
        assert_eq!(see(answer(404, JSON, GONE)), Presence::Absent);
        assert_eq!(
            see(answer(404, "application/json; charset=utf-8", GONE)),
            Presence::Absent
        );
        for unclear in [
            answer(404, "text/html", GONE),
            answer(404, "", GONE),
            answer(404, JSON, r#"{"message":"Resource not found"}"#),
            answer(404, JSON, r#"{"message":"Endpoint not found"}"#),
            answer(
                404,
                JSON,
                r#"{"message":"configClass 'res_pjsip' not found"}"#,
            ),
            answer(
                404,
                JSON,
                r#"{"message":"Object with id '1002' not found"}"#,
            ),
            answer(404, JSON, ""),
            answer(401, JSON, r#"{"message":"Authentication required"}"#),
            answer(403, JSON, r#"{"message":"Write access denied"}"#),
            answer(503, JSON, r#"{"message":"Asterisk not booted"}"#),
            answer(503, JSON, GONE),
            answer(500, JSON, ""),
            answer(200, JSON, "[]"),
            answer(200, JSON, "{}"),
            answer(200, JSON, r#"[{"attribute":"@dialtone","value":1}]"#),
            answer(
                200,
                JSON,
                r#"[{"attribute":"@dialtone","value":"acme-1001"}"#,
            ),
            answer(
                200,
                "text/html",
                r#"[{"attribute":"@dialtone","value":"acme-1001"}]"#,
            ),
            answer(302, JSON, ""),
        ] {
            assert_eq!(see(unclear), Presence::Unclear, "{unclear:?}");
        }
    }

    #[test]
    fn an_object_is_ours_by_its_mark_only() {
        let name = "1001";
        let see = |body: &str| presence(answer(200, JSON, body), name, &id("acme-1001"));
        let ours = r#"[{"attribute":"context","value":"x"},{"attribute":"@dialtone","value":"acme-1001"},{"attribute":"@dialtone_hash","value":"ab"}]"#;
        let Presence::Ours(found) = see(ours) else {
            panic!("{:?}", see(ours))
        };
        assert_eq!(found.hash.as_deref(), Some("ab"));
        let other = r#"[{"attribute":"@dialtone","value":"acme-1002"}]"#;
        let Presence::Foreign(found) = see(other) else {
            panic!("{:?}", see(other))
        };
        assert_eq!(found.account.as_deref(), Some("acme-1002"));
        for foreign in [
            r#"[{"attribute":"context","value":"x"}]"#,
            r#"[{"attribute":"@dialtone","value":""}]"#,
            r#"[{"attribute":"@dialtone_hash","value":"acme-1001"}]"#,
        ] {
            assert!(matches!(see(foreign), Presence::Foreign(_)), "{foreign}");
        }
    }

    #[test]
    fn an_auth_is_known_by_its_login_where_the_mark_is_lost() {
        let name = "1001";
        let made = made("off", "Anna", "pw", 1);
        let cred = ha1("dig-1001", "example.com", "pw");
        let body = |cred: &str| {
            serde_json::json!([
                {"attribute": "username", "value": "dig-1001"}, {"attribute": "realm", "value": "example.com"},
                {"attribute": "md5_cred", "value": cred},
            ])
            .to_string()
        };
        for (cred, takes) in [(cred.as_str(), true), ("00", false)] {
            let body = body(cred);
            let Presence::Foreign(found) =
                presence(answer(200, JSON, &body), name, &id("acme-1001"))
            else {
                panic!()
            };
            assert_eq!(found.takes(&made.auth), takes);
            assert!(
                found.is_login("dig-1001", "example.com") && !found.is_login("1001", "example.com")
            );
        }
    }

    #[test]
    fn what_put_and_delete_answer() {
        let name = "1001";
        assert_eq!(pushed(answer(200, JSON, "[]")), Pushed::Kept);
        let refused = r#"{"message":"Update of object '1001' failed field value validation"}"#;
        assert_eq!(pushed(answer(400, JSON, refused)), Pushed::Refused);
        for unclear in [
            answer(400, JSON, r#"{"message":"Error parsing request body"}"#),
            answer(400, "text/html", refused),
            answer(200, "text/html", ""),
            answer(403, JSON, r#"{"message":"Write access denied"}"#),
            answer(204, "", ""),
            answer(503, "text/html", ""),
        ] {
            assert_eq!(pushed(unclear), Pushed::Unclear, "{unclear:?}");
        }
        assert!(deleted(answer(204, "", ""), name) && deleted(answer(404, JSON, GONE), name));
        for not in [
            answer(200, JSON, ""),
            answer(403, JSON, GONE),
            answer(404, "text/html", ""),
            answer(503, JSON, GONE),
        ] {
            assert!(!deleted(not, name), "{not:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_value_is_a_string_and_no_codec_list_is_empty(
            display in "\\PC{1,128}",
            password in "[ -~]{1,64}",
            devices in 0_usize..40,
        ) {
            let Ok(display) = crate::text::DisplayName::try_from(display) else { return Ok(()) };
            let made = made("off", display.as_str(), &password, devices);
            for class in Class::ALL {
                let body: serde_json::Value = serde_json::from_slice(&made.of(class).body().unwrap()).unwrap();
                for field in body["fields"].as_array().unwrap() {
                    assert!(field["attribute"].is_string() && field["value"].is_string());
                    let may_be_empty = field["attribute"] == "mailboxes";
                    assert!(may_be_empty || !field["value"].as_str().unwrap().is_empty(), "{field}");
                }
            }
            let caller = made.endpoint.get("callerid").unwrap();
            assert_eq!(caller.matches('"').count(), 2);
            assert!(!caller.contains('\\') && caller.len() <= 79 + 9);
            assert!(made.aor.get("max_contacts").unwrap().parse::<usize>().unwrap() >= 1);
        }
    }
}
