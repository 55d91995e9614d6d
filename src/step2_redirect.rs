//! **Step 2, the redirect.** The RPS checks who asks and answers with a provisioning URL.
//!
//! In: an [`Ask`], the device's record and the tenant's policy. Out: a [`Verdict`], and the URL by
//! the most specific rule. No store is read here, and a refusal says to nobody but the log why.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::ident;
use crate::keys::Signed;
use crate::record::Stored;
use crate::record::device::{Claim, Device, Policy};
use crate::record::rule::Rule;
use crate::record::tenant::{Drift, Places, Proof, Require};
use crate::step1_ask::Ask;
use crate::text::{Id, WebUrl};
use crate::time::Timestamp;
use crate::vendor::CertificateMac;

/// The name under `/p/{token}/` of the redirect as a file of settings, for vendors whose redirect
/// document can only include.
pub const SETTINGS_NAME: &str = "redirect.cfg";

/// How long the source that claimed a window gets the same answer again, in seconds: a phone that
/// lost the answer asks again within minutes.
pub const SAME_ANSWER_S: u64 = 600;

/// Why a caller is refused. For the log; the caller sees one and the same 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No device has this MAC, or none was named.
    Unknown,
    /// The record says that the device is switched off.
    Disabled,
    /// The request comes from a country or a network operator that the tenant does not name.
    Place,
    /// The first-access key is none of ours, another device's, or an old one.
    Key,
    /// Nothing that the tenant accepts shows that the caller is the phone.
    NoProof,
    /// Another caller has claimed the window.
    Contested,
    /// The request came by plain http, which the tenant does not allow.
    PlainHttp,
    /// The file is none that phones of this vendor ask for.
    File,
    /// The device is a decoy: nobody has any business with it.
    Decoy,
    /// The caller, or somebody in the same range of MACs, is counting through them: a bare MAC opens
    /// no window then.
    Guessing,
    /// The phone comes from a country or network operator that is new for it, and its tenant wants to
    /// release it first.
    Moved,
    /// It came for a file with a token of ours that is good no more.
    Revoked,
}

impl Why {
    /// The reason in logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Disabled => "disabled",
            Self::Place => "place",
            Self::Key => "key",
            Self::NoProof => "no proof",
            Self::Contested => "contested",
            Self::PlainHttp => "plain http",
            Self::File => "file",
            Self::Decoy => "decoy",
            Self::Guessing => "guessing",
            Self::Moved => "moved",
            Self::Revoked => "revoked",
        }
    }
}

/// What becomes of an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It gets the uniform 404.
    Refused(Why),
    /// It is let in by a proof that holds by itself.
    Proved(Proof),
    /// It is let in if this claim of the window can be written, once.
    Claims(Claim),
}

/// Where a request came from, as the platform says; nothing that the caller can set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The address (`CF-Connecting-IP`).
    pub address: String,
    /// ISO 3166 country (`cf.country`).
    pub country: Option<String>,
    /// Two-letter continent (`cf.continent`).
    pub continent: Option<String>,
    /// The number of the autonomous system (`cf.asn`).
    pub asn: Option<u32>,
    /// The subject of the client certificate, if the caller presented one and the platform verified
    /// it (`cf.tlsClientAuth`).
    pub certificate: Option<String>,
}

impl Places {
    /// Whether a request may come from there. Where the platform does not say, it may not.
    fn admit(&self, source: &Source) -> bool {
        let country = source.country.as_deref();
        let in_country = |country: &str| {
            self.countries
                .iter()
                .any(|wanted| wanted.as_str().eq_ignore_ascii_case(country))
        };
        (self.countries.is_empty() || country.is_some_and(in_country))
            && (self.asns.is_empty() || source.asn.is_some_and(|asn| self.asns.contains(&asn)))
    }
}

impl Source {
    /// What counts as one source: an IPv4 address, or the /64 of an IPv6 address, of which a
    /// host has many.
    #[must_use]
    pub fn neighbourhood(&self) -> String {
        match self.address.parse::<std::net::Ipv6Addr>() {
            Ok(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
            Err(_) => self.address.clone(),
        }
    }
}

/// How one proof stands for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "WeighedProof"))]
pub struct Weighed {
    /// Which proof.
    pub proof: Proof,
    /// Whether the tenant takes it.
    pub accepted: bool,
    /// Whether the caller brings it.
    pub holds: bool,
    /// Why it does or does not.
    pub because: &'static str,
}

/// Everything that decides about one caller.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What the caller asks and says.
    pub ask: &'a Ask,
    /// The first-access key of the path if it is one that we signed.
    pub key: Option<Signed>,
    /// The device that it says it is.
    pub device: &'a Stored<Device>,
    /// What the device's tenant demands.
    pub policy: &'a Policy,
    /// Where the request came from.
    pub source: &'a Source,
    /// The time.
    pub now: Timestamp,
}

impl Case<'_> {
    /// Decides whether the caller is the phone.
    #[must_use]
    pub fn decide(&self) -> Verdict {
        let Self {
            ask,
            device,
            policy,
            ..
        } = self;
        if !device.alive() {
            return Verdict::Refused(Why::Unknown);
        }
        if device.record.decoy {
            return Verdict::Refused(Why::Decoy);
        }
        if !device.record.enabled {
            return Verdict::Refused(Why::Disabled);
        }
        if !policy.places.admit(self.source) {
            return Verdict::Refused(Why::Place);
        }
        let good_key = self.weigh(Proof::Key).holds;
        if ask.key.is_some() && !(good_key && policy.proofs.contains(&Proof::Key)) {
            // A caller that shows a key stands and falls with it: a wrong one never opens a window.
            return Verdict::Refused(Why::Key);
        }
        let key_is_enough = good_key && policy.require == Require::Any;
        let wrong = device.record.serial.is_some() && !serial_matches(ask, device);
        if !key_is_enough && (ask.disputed || (ask.serial.is_some() && wrong)) {
            // A wrong serial is a wrong phone; it does not get to claim a window either.
            return Verdict::Refused(Why::NoProof);
        }
        // The window is taken, not shown, and comes last.
        let others = || {
            let proofs = policy.proofs.iter().copied();
            proofs.filter(|proof| *proof != Proof::Window)
        };
        let holds = |proof: &Proof| self.weigh(*proof).holds;
        let takes_window = policy.proofs.contains(&Proof::Window);
        let verdict = match (policy.require, others().find(holds)) {
            (Require::Any, Some(_)) if good_key => Verdict::Proved(Proof::Key),
            (Require::Any, Some(proof)) => Verdict::Proved(proof),
            (Require::Any, None) if takes_window => self.window().0,
            (Require::All, first) if others().all(|proof| holds(&proof)) => match first {
                _ if takes_window => self.window().0,
                Some(proof) => Verdict::Proved(proof),
                None => Verdict::Refused(Why::NoProof),
            },
            _ => Verdict::Refused(Why::NoProof),
        };
        let refused = matches!(verdict, Verdict::Refused(_));
        let moved = policy.drift == Drift::Quarantine && device.state.knows_not(self.source);
        if !refused && moved {
            return Verdict::Refused(Why::Moved);
        }
        verdict
    }

    /// How every proof stands, taken by the tenant or not.
    #[must_use]
    pub fn proofs(&self) -> [Weighed; 5] {
        Proof::ALL.map(|proof| self.weigh(proof))
    }

    /// How one proof stands.
    fn weigh(&self, proof: Proof) -> Weighed {
        let (holds, because) = match proof {
            Proof::Serial => self.serial(),
            Proof::Certificate => self.certificate(),
            Proof::Key => self.key(),
            Proof::Window => {
                let (verdict, because) = self.window();
                (!matches!(verdict, Verdict::Refused(_)), because)
            }
            Proof::Network if self.policy.networks.is_empty() => {
                (false, "the tenant lists no network")
            }
            Proof::Network if self.policy.networks.contain(&self.source.address) => (
                true,
                "the source address is in one of the tenant's networks",
            ),
            Proof::Network => (
                false,
                "the source address is in none of the tenant's networks",
            ),
        };
        Weighed {
            proof,
            accepted: self.policy.proofs.contains(&proof),
            holds,
            because,
        }
    }

    fn key(&self) -> (bool, &'static str) {
        if self.ask.key.is_none() {
            return (false, "the path has no first-access key");
        }
        let Some(key) = self.key else {
            return (false, "the key is none that we signed");
        };
        if Some(key.mac) != self.ask.mac {
            return (false, "the key is another device's");
        }
        if key.generation != self.device.state.access.first_access {
            return (false, "the key was revoked");
        }
        (true, "the key is the device's own")
    }

    /// A serial proves something only if it cannot be told from the MAC.
    fn serial(&self) -> (bool, &'static str) {
        let Self { ask, device, .. } = self;
        let Some(serial) = &device.record.serial else {
            return (false, "the record has no serial");
        };
        let is_the_mac = ask
            .mac
            .is_some_and(|mac| serial.as_str().parse() == Ok(mac));
        let rules = device.record.vendor.rules();
        if rules.facts().serial_tells_from_mac || is_the_mac {
            return (false, "the serial can be told from the MAC");
        }
        if ask.disputed {
            return (false, "the caller gives two serials that differ");
        }
        if ask.serial.is_none() {
            return (false, "the caller gives no serial");
        }
        if !ask.gives_serial(serial) {
            return (false, "the serial is not the record's");
        }
        (true, "the serial is the record's")
    }

    /// A verified certificate proves something if its subject names the MAC where this vendor's phones
    /// have it, and no other vendor.
    fn certificate(&self) -> (bool, &'static str) {
        let vendor = self.device.record.vendor;
        let Some(subject) = &self.source.certificate else {
            return (false, "no client certificate was presented and verified");
        };
        if vendor.rules().facts().certificate == CertificateMac::Unknown {
            return (
                false,
                "where this vendor's certificates name the MAC is not known",
            );
        }
        let says = ident::certificate(subject);
        if says.mac.is_none() {
            return (false, "the certificate names no MAC");
        }
        if says.mac != self.ask.mac {
            return (false, "the certificate names another MAC");
        }
        if says.vendor.is_some_and(|maker| maker != vendor.name()) {
            return (false, "the certificate is another vendor's");
        }
        (true, "the certificate names the MAC")
    }

    /// Whether the caller may have the window that an admin opened.
    fn window(&self) -> (Verdict, &'static str) {
        let refused = |why, because| (Verdict::Refused(why), because);
        let Some(window) = &self.device.state.window else {
            return refused(Why::NoProof, "the device is not armed");
        };
        let source = self.source.neighbourhood();
        let at = self.now;
        match &window.claim {
            None if at < window.until => {
                let claim = Claim { at, source };
                (Verdict::Claims(claim), "the window is open")
            }
            None => refused(Why::NoProof, "the window has ended"),
            // A phone that has its files asks again at each start, where DHCP tells it to.
            Some(claim)
                if self.device.state.access.used
                    && (claim.source == source || at >= window.until) =>
            {
                refused(
                    Why::NoProof,
                    "the window was claimed, and the token is in use",
                )
            }
            Some(claim) if claim.source != source => {
                refused(Why::Contested, "another source has claimed the window")
            }
            Some(claim) if at.since(claim.at) < SAME_ANSWER_S => (
                Verdict::Proved(Proof::Window),
                "this source claimed the window a moment ago",
            ),
            Some(_) => refused(
                Why::NoProof,
                "this source claimed the window, but too long ago",
            ),
        }
    }
}

fn serial_matches(ask: &Ask, device: &Stored<Device>) -> bool {
    let serial = device.record.serial.as_ref();
    serial.is_some_and(|serial| ask.gives_serial(serial))
}

/// A rule with its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedRule {
    /// The rule's id.
    pub id: Id,
    /// The rule.
    pub rule: Rule,
}

/// How many fields of a rule match a device.
///
/// # Errors
/// The name of the first field that does not.
pub fn specificity(rule: &Rule, device: &Device, source: &Source) -> Result<usize, &'static str> {
    let region = device
        .region
        .as_ref()
        .map(|region| region.as_str())
        .or(source.continent.as_deref());
    let m = &rule.matches;
    let vendor = m.vendor.map(crate::vendor::VendorId::name);
    let fields: [(&'static str, Option<&str>, Option<&str>); 6] = [
        (
            "tenant",
            m.tenant.as_ref().map(Id::as_str),
            Some(device.tenant.as_str()),
        ),
        (
            "site",
            m.site.as_ref().map(|s| s.as_str()),
            device.site.as_ref().map(|s| s.as_str()),
        ),
        ("region", m.region.as_ref().map(|r| r.as_str()), region),
        (
            "country",
            m.country.as_ref().map(|c| c.as_str()),
            source.country.as_deref(),
        ),
        ("vendor", vendor, Some(device.vendor.name())),
        (
            "model",
            m.model.as_ref().map(|m| m.as_str()),
            Some(device.model.as_str()),
        ),
    ];
    let mut matched = 0;
    for (name, wanted, has) in fields {
        if let Some(wanted) = wanted {
            if !has.is_some_and(|has| has.eq_ignore_ascii_case(wanted)) {
                return Err(name);
            }
            matched += 1;
        }
    }
    Ok(matched)
}

/// Where the URL of a device comes from.
#[derive(Debug, Clone, Copy)]
pub enum Chosen<'a> {
    /// The device's record.
    Device(&'a UrlTemplate),
    /// A rule.
    Rule(&'a NamedRule),
    /// Neither: this service.
    Ours,
}

impl<'a> Chosen<'a> {
    /// The template of the URL; `None` for this service.
    #[must_use]
    pub fn template(self) -> Option<&'a UrlTemplate> {
        match self {
            Self::Device(url) => Some(url),
            Self::Rule(named) => Some(&named.rule.url),
            Self::Ours => None,
        }
    }

    /// The URL.
    #[must_use]
    pub fn fill(self, with: Placeholders<'_>) -> String {
        match self.template() {
            Some(template) => template.fill(with),
            None => with.ours.to_owned(),
        }
    }
}

/// Chooses the URL of a device: its own, or that of the rule that matches in the most fields, then
/// has the highest priority, then the first id; or our own.
#[must_use]
pub fn choose<'a>(device: &'a Device, rules: &'a [NamedRule], source: &Source) -> Chosen<'a> {
    if let Some(own) = &device.url {
        return Chosen::Device(own);
    }
    rules
        .iter()
        .filter_map(|named| {
            let fields = specificity(&named.rule, device, source).ok()?;
            Some((
                (fields, named.rule.priority, std::cmp::Reverse(&named.id)),
                named,
            ))
        })
        .max_by(|(a, _), (b, _)| a.cmp(b))
        .map_or(Chosen::Ours, |(_, named)| Chosen::Rule(named))
}

/// What fills the placeholders of a [`UrlTemplate`].
#[derive(Debug, Clone, Copy)]
pub struct Placeholders<'a> {
    /// `{self}`: `{origin}/p/{token}/`.
    pub ours: &'a str,
    /// `{token}`.
    pub token: &'a str,
    /// The device, for `{mac} {serial} {vendor} {model} {tenant}`.
    pub device: &'a Device,
    /// `{mac}`.
    pub mac: crate::mac::Mac,
}

/// A provisioning URL with placeholders, checked: what it makes is always an absolute URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UrlTemplate(String);

impl UrlTemplate {
    /// This service.
    pub const SELF: &'static str = "{self}";

    const PLACEHOLDERS: [&'static str; 6] = [
        "{mac}", "{serial}", "{vendor}", "{model}", "{tenant}", "{token}",
    ];

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL with every placeholder filled in; ends in `/`, since file names follow it.
    #[must_use]
    pub fn fill(&self, with: Placeholders<'_>) -> String {
        if self.0 == Self::SELF {
            return with.ours.to_owned();
        }
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let serial = with
            .device
            .serial
            .as_ref()
            .map_or("", |serial| serial.as_str());
        let mut url = self.0.clone();
        for (placeholder, value) in [
            ("{mac}", with.mac.to_string()),
            ("{serial}", encode(serial)),
            ("{vendor}", with.device.vendor.name().to_owned()),
            ("{model}", encode(&with.device.model)),
            ("{tenant}", with.device.tenant.to_string()),
            ("{token}", with.token.to_owned()),
        ] {
            url = url.replace(placeholder, &value);
        }
        if !url.ends_with('/') {
            url.push('/');
        }
        url
    }

    /// The template as a URL, with a letter in the place of each placeholder.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(&self) -> Result<WebUrl, String> {
        let mut sample = self.0.clone();
        for placeholder in Self::PLACEHOLDERS {
            sample = sample.replace(placeholder, "x");
        }
        if sample.contains(['{', '}']) {
            return Err("has a placeholder other than {self} {mac} {serial} {vendor} {model} {tenant} {token}".to_owned());
        }
        WebUrl::try_from(sample)
    }
}

schema!(
    UrlTemplate,
    "A URL, which file names follow; or {self}, which is this Dialtone. In its path may stand {mac}, \
     {serial}, {vendor}, {model}, {tenant} and {token}.",
    {
        "type": "string",
        "pattern": "^([{]self[}]|[hH][tT][tT][pP][sS]?://[^\\s\"'#<>\\\\`{}@/?]+(/[^\\s\"'#<>\\\\`?]*)?)$",
    }
);

impl TryFrom<String> for UrlTemplate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let template = Self(text);
        if template.0 == Self::SELF {
            return Ok(template);
        }
        template.parse()?;
        if template.0.contains('?') {
            return Err("must not have a query: the phone puts file names behind it".to_owned());
        }
        // A placeholder in the host would let a record choose the server.
        let host = template
            .0
            .split("://")
            .nth(1)
            .and_then(|rest| rest.split(['/', '?']).next());
        if host.is_none_or(|host| host.contains('{')) {
            return Err("must not have a placeholder in the host".to_owned());
        }
        Ok(template)
    }
}

impl From<UrlTemplate> for String {
    fn from(template: UrlTemplate) -> Self {
        template.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(matches: &serde_json::Value, url: &str, priority: i32, id: &str) -> NamedRule {
        let rule = serde_json::json!({"match": matches, "url": url, "priority": priority});
        NamedRule {
            id: Id::try_from(id).unwrap(),
            rule: serde_json::from_value(rule).unwrap(),
        }
    }

    fn device() -> Device {
        serde_json::from_value(serde_json::json!({
            "tenant": "acme", "vendor": "yealink", "model": "T46U", "site": "berlin",
        }))
        .unwrap()
    }

    #[test]
    fn the_rule_that_matches_in_more_fields_wins() {
        let source = Source {
            country: Some("DE".to_owned()),
            continent: Some("EU".to_owned()),
            ..Source::default()
        };
        let rules = [
            rule(&serde_json::json!({}), "https://any.example/", 99, "a"),
            rule(
                &serde_json::json!({"tenant": "acme"}),
                "https://tenant.example/",
                9,
                "b",
            ),
            rule(
                &serde_json::json!({"tenant": "acme", "country": "de"}),
                "https://two.example/",
                0,
                "c",
            ),
            rule(
                &serde_json::json!({"site": "berlin", "region": "eu"}),
                "https://higher.example/",
                5,
                "e",
            ),
            rule(
                &serde_json::json!({"site": "Berlin", "model": "t46u"}),
                "https://first-id.example/",
                5,
                "d",
            ),
            rule(
                &serde_json::json!({"site": "berlin", "model": "T46U", "country": "FR"}),
                "https://no.example/",
                100,
                "f",
            ),
        ];
        let device = device();
        let mut left: Vec<_> = rules.to_vec();
        for expected in ["first-id", "higher", "two", "tenant", "any"] {
            let chosen = choose(&device, &left, &source).template().unwrap();
            let chosen = chosen.as_str().to_owned();
            assert_eq!(chosen, format!("https://{expected}.example/"));
            left.retain(|named| named.rule.url.as_str() != chosen);
        }
        assert!(choose(&device, &left, &source).template().is_none());
    }

    #[test]
    fn a_device_with_its_own_url_needs_no_rule() {
        let mut device = device();
        device.url = Some(UrlTemplate::try_from("https://own.example/{mac}".to_owned()).unwrap());
        let url = choose(&device, &[], &Source::default()).fill(Placeholders {
            ours: "https://us.example/p/T/",
            token: "T",
            device: &device,
            mac: "805ec0000001".parse().unwrap(),
        });
        assert_eq!(url, "https://own.example/805ec0000001/");
    }

    #[test]
    fn a_url_that_could_lead_astray_is_refused() {
        for wrong in [
            "",
            "x",
            "ftp://a.example/",
            "https://a.example/?mac=",
            "https://",
            "https://u:p@a.example/",
            "https://a.example/ x",
            "https://a.example/\"",
            "https://{tenant}.example/",
            "https://a.example/{what}",
            "https://a.example/#f",
            "https://a.example/\n",
            "javascript:alert(1)",
            "https://a.example/\\",
        ] {
            assert!(UrlTemplate::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
