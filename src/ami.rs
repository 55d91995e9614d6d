//! Asterisk's manager interface (AMI) over HTTP, in its plain form `/rawman`: the actions that Dialtone
//! sends, what the answers mean, and whose contact a registered one is.
//!
//! In: records and the bytes of answers. Out: bodies of requests, contacts, and what is odd about
//! them. Asterisk answers every failure with HTTP 200 and says in the text what it is; an answer that
//! could be one is never taken for "nobody is registered".

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::ident;
use crate::mac::Mac;
use crate::secret::Secret;
use crate::text::Username;
use crate::time::Timestamp;
use crate::vendor::VendorId;

/// The longest contact that is kept, in bytes. A longer one is passed over.
const URI_BYTES: usize = 256;

/// How much of a User-Agent is kept, in characters: whoever registers writes it.
const AGENT_CHARS: usize = 128;

/// The most contacts that are kept of one account: as many as it can have devices.
pub const MOST_CONTACTS: usize = crate::record::account::MOST_DEVICES;

/// How much of what Asterisk says of a failure is repeated, in characters.
const MESSAGE_CHARS: usize = 80;

/// What AMI is asked to do: the form in the body of a `POST`, so that no password stands in a URL.
/// It may hold one, so there is no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Action(String);

impl Action {
    /// An action of fields. `None` if a value holds a control character: Asterisk writes what stands
    /// in a NOTIFY's variable into the SIP message as it is, so a line break there begins a header.
    fn new(action: &'static str, fields: &[(&'static str, &str)]) -> Option<Self> {
        let mut body = format!("action={action}");
        for (name, value) in fields {
            if value.chars().any(char::is_control) {
                return None;
            }
            // All but letters and digits, the space too: `+` stands for one in some readers only.
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            body.extend(["&", name, "="]);
            body.extend(value);
        }
        Some(Self(body))
    }

    /// Begins a session. `None` for a password that no manager's can be.
    #[must_use]
    pub fn login(username: &Username, password: &Secret) -> Option<Self> {
        let fields = [
            ("username", username.as_str()),
            ("secret", password.reveal()),
        ];
        Self::new("login", &fields)
    }

    /// Lists who is registered.
    #[must_use]
    pub fn show_contacts() -> Option<Self> {
        Self::new("PJSIPShowContacts", &[])
    }

    /// Sends a NOTIFY with this `Event` to every contact of an endpoint.
    #[must_use]
    pub fn notify_endpoint(name: &Username, event: &str) -> Option<Self> {
        let variable = format!("Event={event}");
        let fields = [("Endpoint", name.as_str()), ("Variable", &variable)];
        Self::new("PJSIPNotify", &fields)
    }

    /// Sends it to one contact. Asterisk needs its `default_outbound_endpoint` for that; without, it
    /// says `NOTIFY sent` and sends nothing.
    #[must_use]
    pub fn notify_contact(uri: &ContactUri, event: &str) -> Option<Self> {
        let variable = format!("Event={event}");
        let fields = [("URI", uri.0.as_str()), ("Variable", &variable)];
        Self::new("PJSIPNotify", &fields)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.0
    }
}

/// Why an answer tells nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Another HTTP status than 200.
    Http(u16),
    /// No text of AMI: a proxy's page, or an Asterisk that has no AMI over HTTP.
    NotAmi,
    /// It breaks off.
    Half,
    /// The user or the password is wrong.
    Login,
    /// The session is over, or the user's `write` lacks `system`.
    Denied,
    /// Whatever else Asterisk says: at most 80 characters, none a control.
    Refused(String),
}

impl Failure {
    /// What it is, in words.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Http(status) => format!("http {status}"),
            Self::NotAmi => "not an answer of AMI".to_owned(),
            Self::Half => "half an answer".to_owned(),
            Self::Login => "the AMI user or password is wrong".to_owned(),
            Self::Denied => "the AMI user lacks write=system".to_owned(),
            Self::Refused(message) => message.clone(),
        }
    }
}

/// One block of an answer: a response, or an event of a list.
type Block<'a> = BTreeMap<&'a str, &'a str>;

/// Splits an answer into its response and the events that follow it. Lines end in CR LF or LF.
fn blocks(status: u16, text: &str) -> Result<(Block<'_>, Vec<Block<'_>>), Failure> {
    if status != 200 {
        return Err(Failure::Http(status));
    }
    let mut all: Vec<Block<'_>> = Vec::new();
    let mut block = Block::new();
    // A line without an end was cut off.
    let ended = text.ends_with('\n');
    for line in text.lines() {
        if line.is_empty() {
            if !block.is_empty() {
                all.push(std::mem::take(&mut block));
            }
            continue;
        }
        let (name, value) = line.split_once(':').ok_or(Failure::NotAmi)?;
        // Of two of a name the first holds: what a caller wrote comes later.
        block.entry(name).or_insert(value.trim());
    }
    // Each block ends with an empty line.
    if !block.is_empty() || !ended {
        let begun = all.first().or(Some(&block));
        let ours = begun.is_some_and(|first| first.contains_key("Response"));
        return Err(if ours { Failure::Half } else { Failure::NotAmi });
    }
    let mut all = all.into_iter();
    let response = all.next().ok_or(Failure::NotAmi)?;
    if !response.contains_key("Response") {
        return Err(Failure::NotAmi);
    }
    Ok((response, all.collect()))
}

fn refusal(response: &Block<'_>) -> Failure {
    match response.get("Message").copied().unwrap_or_default() {
        "Authentication failed" => Failure::Login,
        "Permission denied" => Failure::Denied,
        message => {
            let shown = message.chars().filter(|c| !c.is_control());
            Failure::Refused(shown.take(MESSAGE_CHARS).collect())
        }
    }
}

/// Reads the answer to an action that only succeeds or fails.
///
/// # Errors
/// The [`Failure`].
pub fn done(status: u16, body: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(body);
    let (response, _) = blocks(status, &text)?;
    match response.get("Response") {
        Some(&"Success") => Ok(()),
        _ => Err(refusal(&response)),
    }
}

/// The name of the cookie that a session is known by.
const COOKIE: &str = "mansession_id=";

/// The session in a `Set-Cookie` header, as it goes into `Cookie`; `None` if it sets another cookie.
#[must_use]
pub fn session(set_cookie: &str) -> Option<String> {
    let value = set_cookie.strip_prefix(COOKIE)?.split(';').next()?.trim();
    let id = value.trim_matches('"');
    let fits = (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| format!("{COOKIE}\"{id}\""))
}

/// The address that a phone registered: a SIP URI as Asterisk wrote it, one word of at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContactUri(String);

impl TryFrom<String> for ContactUri {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let scheme = text.starts_with("sip:") || text.starts_with("sips:");
        let word = text.bytes().all(|byte| byte.is_ascii_graphic());
        if scheme && word && text.len() <= URI_BYTES {
            Ok(Self(text))
        } else {
            Err("is no SIP URI of one word")
        }
    }
}

impl From<ContactUri> for String {
    fn from(uri: ContactUri) -> Self {
        uri.0
    }
}

impl ContactUri {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address in it, if it is one and no name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let (_, rest) = self.0.split_once(':')?;
        let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let host = match rest.strip_prefix('[') {
            Some(six) => six.split(']').next(),
            None => rest.split([':', ';', '?', '>']).next(),
        };
        host?.parse().ok()
    }
}

/// A registered phone, as its PBX tells of it. When it expires is not kept: that changes with each
/// registration, and with it all that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Where it is reached.
    pub uri: ContactUri,
    /// What it says it is; at most 128 characters.
    pub user_agent: String,
    /// The MAC in that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Since when it is seen.
    pub since: Timestamp,
}

/// Who is registered, by the name of the endpoint.
pub type Contacts = BTreeMap<Username, Vec<Contact>>;

/// Reads the answer to [`Action::show_contacts`], of which those of the accounts in `wanted` are kept.
///
/// # Errors
/// The [`Failure`]; nothing is known then, also not that nobody is registered.
pub fn contacts(
    status: u16,
    body: &[u8],
    wanted: &BTreeSet<&Username>,
    now: Timestamp,
) -> Result<Contacts, Failure> {
    let text = String::from_utf8_lossy(body);
    let (response, events) = blocks(status, &text)?;
    if response.get("Response") != Some(&"Success") {
        return match response.get("Message") {
            // So says Asterisk that nobody is registered.
            Some(&"No Contacts found") => Ok(Contacts::new()),
            _ => Err(refusal(&response)),
        };
    }
    let mut all = Contacts::new();
    let mut count = 0_usize;
    let mut complete = false;
    for event in events {
        match event.get("Event").copied() {
            Some("ContactList") => count += 1,
            Some("ContactListComplete") => {
                let items = event.get("ListItems").and_then(|items| items.parse().ok());
                complete = items == Some(count);
                continue;
            }
            _ => continue,
        }
        // Its name is `{aor};@{hash}`; ours have the aor's name and the endpoint's.
        let name = event.get("Endpoint").copied().unwrap_or_default();
        let Some(name) = Username::try_from(name).ok().filter(|n| wanted.contains(n)) else {
            continue;
        };
        let uri = event.get("Uri").copied().unwrap_or_default().to_owned();
        let Ok(uri) = ContactUri::try_from(uri) else {
            continue;
        };
        let agent = event.get("UserAgent").copied().unwrap_or_default();
        let contact = Contact {
            uri,
            user_agent: agent
                .chars()
                .filter(|c| !c.is_control())
                .take(AGENT_CHARS)
                .collect(),
            mac: ident::agent(agent).mac,
            since: now,
        };
        let of_name = all.entry(name).or_default();
        if of_name.len() < MOST_CONTACTS {
            of_name.push(contact);
        }
    }
    if complete {
        Ok(all)
    } else {
        Err(Failure::Half)
    }
}

/// What is remembered next: what was seen now, with the times of what was seen before. Contacts are
/// in order, so that the same ones in another order are no news.
#[must_use]
pub fn remember(mut seen: Contacts, before: &Contacts) -> Contacts {
    for (name, contacts) in &mut seen {
        let known = before.get(name).map_or(&[][..], Vec::as_slice);
        for contact in contacts.iter_mut() {
            // A phone that comes back under another port is the same.
            let same = |known: &&Contact| match (known.mac, contact.mac) {
                (Some(known), Some(mac)) => known == mac,
                _ => known.uri == contact.uri,
            };
            if let Some(known) = known.iter().find(same) {
                contact.since = known.since;
            }
        }
        contacts.sort_by(|a, b| a.uri.0.cmp(&b.uri.0));
    }
    seen
}

/// An account's contacts, as they concern one of its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matched<'a> {
    /// The device's own.
    pub own: Vec<&'a Contact>,
    /// Those of phones that the account is on no device of.
    pub foreign: Vec<&'a Contact>,
    /// Those that may be the device's or that of another one with the same account.
    pub unclear: Vec<&'a Contact>,
}

/// Whose an account's contacts are: by the MAC in the User-Agent where it stands there, else by the
/// account, if it is on this device alone. `devices` are all that have it.
#[must_use]
pub fn match_contacts<'a>(
    contacts: &'a [Contact],
    mac: Mac,
    devices: &BTreeSet<Mac>,
) -> Matched<'a> {
    let alone = devices.iter().all(|other| *other == mac);
    let mut matched = Matched::default();
    for contact in contacts {
        match contact.mac {
            Some(told) if told == mac => matched.own.push(contact),
            Some(told) if devices.contains(&told) => {}
            Some(_) => matched.foreign.push(contact),
            None if alone => matched.own.push(contact),
            None => matched.unclear.push(contact),
        }
    }
    matched
}

/// Something odd about a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Finding {
    /// The phone that registered is one that the account is on no device of.
    OtherMac {
        /// The MAC that it tells.
        mac: Mac,
        /// From where.
        address: String,
    },
    /// It says to be of another vendor than the device.
    OtherVendor {
        /// What it says.
        user_agent: String,
        /// From where.
        address: String,
    },
    /// It registered from another network than the one that it fetched its files from.
    Elsewhere {
        /// From where.
        address: String,
        /// From where it fetched.
        fetched_from: String,
    },
}

impl Finding {
    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::OtherMac { .. } => "other_mac",
            Self::OtherVendor { .. } => "other_vendor",
            Self::Elsewhere { .. } => "elsewhere",
        }
    }

    /// From where the phone registered.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::OtherMac { address, .. }
            | Self::OtherVendor { address, .. }
            | Self::Elsewhere { address, .. } => address,
        }
    }
}

/// What is odd about an account's registrations, seen from one of its devices. `fetched_from` is the
/// source address of its last new fetch.
#[must_use]
pub fn findings(
    matched: &Matched<'_>,
    vendor: VendorId,
    fetched_from: Option<&str>,
) -> Vec<Finding> {
    let address = |contact: &Contact| match contact.uri.address() {
        Some(address) => address.to_string(),
        None => contact.uri.as_str().to_owned(),
    };
    let mut found = Vec::new();
    for contact in &matched.foreign {
        found.extend(contact.mac.map(|mac| Finding::OtherMac {
            mac,
            address: address(contact),
        }));
    }
    for contact in &matched.own {
        let says = ident::agent(&contact.user_agent).vendor;
        if says.is_some_and(|says| says != vendor.name()) {
            found.push(Finding::OtherVendor {
                user_agent: contact.user_agent.clone(),
                address: address(contact),
            });
        }
        let from = fetched_from.filter(|from| {
            let registered = contact.uri.address();
            let fetched = from.trim_end_matches("/64").parse().ok();
            registered.zip(fetched).is_some_and(|(a, b)| far(a, b))
        });
        if let Some(from) = from {
            found.push(Finding::Elsewhere {
                address: address(contact),
                fetched_from: from.to_owned(),
            });
        }
    }
    found
}

/// Whether two public addresses are of one family and of networks that no site spans: another /16,
/// or another /48 of IPv6. Across families nothing can be said, nor of a private address, as of a
/// phone in the network of its PBX.
fn far(registered: IpAddr, fetched: IpAddr) -> bool {
    match (registered.to_canonical(), fetched.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let public = |address: std::net::Ipv4Addr| {
                let [first, second, ..] = address.octets();
                // RFC 6598: between a network operator and its customers.
                let shared = first == 100 && (64..128).contains(&second);
                !(address.is_private()
                    || address.is_loopback()
                    || address.is_link_local()
                    || address.is_unspecified()
                    || shared)
            };
            let network = |address: std::net::Ipv4Addr| address.to_bits() >> 16;
            public(a) && public(b) && network(a) != network(b)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            // 2000::/3 is what is given out (RFC 4291, 2.4).
            let public = |address: std::net::Ipv6Addr| address.to_bits() >> 125 == 1;
            let network = |address: std::net::Ipv6Addr| address.to_bits() >> 80;
            public(a) && public(b) && network(a) != network(b)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    /// As Asterisk 22.10 wrote it.
    const LIST: &str = "Response: Success\r\nEventList: start\r\nMessage: A listing of Contacts follows, presented as ContactList events\r\n\r\n\
        Event: ContactList\r\nObjectType: contact\r\nObjectName: 1001;@dca2\r\nViaAddr: 127.0.0.1\r\nPath: \r\nEndpoint: 1001\r\n\
        Uri: sip:1001@198.51.100.7:26061;transport=TLS\r\nUserAgent: Yealink SIP-T54W 96.86.0.100 805ec0000001\r\n\
        ExpirationTime: 1795608559\r\nStatus: NonQualified\r\n\r\n\
        Event: ContactList\r\nEndpoint: nobody\r\nUri: sip:nobody@198.51.100.8\r\nUserAgent: x\r\n\r\n\
        Event: ContactListComplete\r\nEventList: Complete\r\nListItems: 2\r\n\r\n";

    fn name(text: &str) -> Username {
        Username::try_from(text).unwrap()
    }

    fn mac(text: &str) -> Mac {
        text.parse().unwrap()
    }

    fn read(text: &str) -> Result<Contacts, Failure> {
        let ours = name("1001");
        contacts(200, text.as_bytes(), &BTreeSet::from([&ours]), NOW)
    }

    fn contact(uri: &str, agent: &str) -> Contact {
        Contact {
            uri: ContactUri::try_from(uri.to_owned()).unwrap(),
            user_agent: agent.to_owned(),
            mac: ident::agent(agent).mac,
            since: NOW,
        }
    }

    #[test]
    fn a_list_of_contacts_is_read_with_either_line_end() {
        for text in [LIST.to_owned(), LIST.replace("\r\n", "\n")] {
            let read = read(&text).unwrap();
            assert_eq!(read.len(), 1);
            let contact = &read[&name("1001")][0];
            assert_eq!(contact.mac, Some(mac("805ec0000001")));
            assert_eq!(contact.uri.address(), "198.51.100.7".parse().ok());
        }
    }

    #[test]
    fn only_asterisks_own_words_mean_that_nobody_is_registered() {
        let error = |message: &str| format!("Response: Error\r\nMessage: {message}\r\n\r\n");
        assert_eq!(read(&error("No Contacts found")), Ok(Contacts::new()));
        assert_eq!(read(&error("Permission denied")), Err(Failure::Denied));
        assert_eq!(read(&error("Authentication failed")), Err(Failure::Login));
        let other = Failure::Refused("Missing action in request".to_owned());
        assert_eq!(read(&error("Missing action in request")), Err(other));
        for page in [
            "",
            "\n",
            "<html>Sign in</html>\n",
            "<a href=\"x:y\">\n\n",
            "{}",
        ] {
            assert_eq!(read(page), Err(Failure::NotAmi), "{page}");
        }
        let nobody = contacts(404, LIST.as_bytes(), &BTreeSet::new(), NOW);
        assert_eq!(nobody, Err(Failure::Http(404)));
    }

    #[test]
    fn no_part_of_an_answer_is_taken_for_the_whole() {
        for cut in 0..LIST.len() {
            if let Some(part) = LIST.get(..cut) {
                assert!(read(part).is_err(), "{part}");
            }
        }
        let wrong = LIST.replace("ListItems: 2", "ListItems: 3");
        assert_eq!(read(&wrong), Err(Failure::Half));
    }

    #[test]
    fn no_value_adds_a_field_or_a_line() {
        let login = Action::login(&name("dialtone"), &Secret::opaque("a&b=c +%;ü".to_owned()));
        let expected = "action=login&username=dialtone&secret=a%26b%3Dc%20%2B%25%3B%C3%BC";
        assert_eq!(login.unwrap().body(), expected);
        for bad in ["x\r\ny", "x\ny", "x\0y"] {
            assert!(Action::login(&name("d"), &Secret::opaque(bad.to_owned())).is_none());
            assert!(Action::notify_endpoint(&name("1001"), bad).is_none());
            assert!(ContactUri::try_from(format!("sip:{bad}")).is_err());
        }
        let told = Action::notify_endpoint(&name("1001"), "check-sync;reboot=false").unwrap();
        assert_eq!(
            told.body(),
            "action=PJSIPNotify&Endpoint=1001&Variable=Event%3Dcheck%2Dsync%3Breboot%3Dfalse"
        );
    }

    #[test]
    fn a_session_is_the_cookie_and_no_other() {
        let cookie = "mansession_id=\"56982f2d\"; Version=1; Max-Age=60";
        assert_eq!(
            session(cookie).as_deref(),
            Some("mansession_id=\"56982f2d\"")
        );
        for other in [
            "CF_Authorization=abc",
            "mansession_id=\"\"",
            "mansession_id=\"5\r\n\"",
            "",
        ] {
            assert_eq!(session(other), None, "{other}");
        }
    }

    #[test]
    fn a_contact_is_whose_mac_it_tells_or_whose_account_it_is() {
        let (a, b) = (mac("805ec0000001"), mac("805ec0000002"));
        let of = |mac: &str| {
            contact(
                "sip:1001@192.0.2.1",
                &format!("Yealink SIP-T54W 96.86.0.100 {mac}"),
            )
        };
        let nameless = contact("sip:1001@192.0.2.2", "softphone");
        let all = [
            of("805ec0000001"),
            of("805ec0000002"),
            of("805ec0000009"),
            nameless,
        ];
        let both = BTreeSet::from([a, b]);
        let matched = match_contacts(&all, a, &both);
        assert_eq!(
            (matched.own, matched.foreign),
            (vec![&all[0]], vec![&all[2]])
        );
        assert_eq!(matched.unclear, [&all[3]]);
        let alone = match_contacts(&all, a, &BTreeSet::from([a]));
        assert_eq!(alone.own, [&all[0], &all[3]]);
        assert_eq!(alone.foreign, [&all[1], &all[2]]);
    }

    #[test]
    fn what_is_odd_is_found_and_what_may_be_so_is_not() {
        let device = BTreeSet::from([mac("805ec0000001")]);
        let found = |uri: &str, agent: &str, from: &str| {
            let contacts = [contact(uri, agent)];
            let matched = match_contacts(&contacts, mac("805ec0000001"), &device);
            let found = findings(&matched, VendorId::Yealink, Some(from));
            found.iter().map(Finding::word).collect::<Vec<_>>()
        };
        let own = "Yealink SIP-T54W 96.86.0.100 805ec0000001";
        for (uri, from) in [
            ("sip:1@198.51.100.7:5060", "198.51.7.7"),
            ("sip:1@10.0.0.7", "198.51.100.7"),
            ("sip:1@100.64.0.7", "198.51.100.7"),
            ("sip:1@[2001:db8:1:2::3]:5060", "2001:db8:1:9::/64"),
            ("sip:1@[2001:db8:1:2::3]", "198.51.100.7"),
            ("sip:1@phone.example", "198.51.100.7"),
        ] {
            assert_eq!(found(uri, own, from), [""; 0], "{uri} {from}");
        }
        assert_eq!(
            found("sip:1@203.0.113.7", own, "198.51.100.7"),
            ["elsewhere"]
        );
        assert_eq!(
            found("sip:1@[2001:db8:1:2::3]", own, "2001:db8:2:2::/64"),
            ["elsewhere"]
        );
        assert_eq!(
            found("sip:1@10.0.0.7", "Fanvil X5U 2.4 0c383e32c10d", "x"),
            ["other_mac"]
        );
        assert_eq!(
            found("sip:1@10.0.0.7", "snomD785/10.1.33.33", "x"),
            ["other_vendor"]
        );
        assert_eq!(found("sip:1@10.0.0.7", "unheard of", "x"), [""; 0]);
    }

    #[test]
    fn what_is_seen_again_keeps_its_time_and_its_place() {
        let at = |uri: &str, since| Contact {
            since: Timestamp(since),
            ..contact(uri, "x")
        };
        let before = Contacts::from([(name("1"), vec![at("sip:a", 5), at("sip:b", 6)])]);
        let seen = Contacts::from([(name("1"), vec![at("sip:b", 9), at("sip:a", 9)])]);
        assert_eq!(remember(seen, &before), before);
    }
}
