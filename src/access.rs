//! Cloudflare Access in front of the admin API: what a JWT of it must say, and the keys that may
//! have signed it.
//!
//! Facts are from Cloudflare's "Validate JWTs" and "Application token" (Cloudflare One), and from RFC 7515,
//! 7517, 7518 and 7519.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::entry::is_origin;
use crate::fault::Fault;
use crate::gather::in_order;
use crate::json;
use crate::ports::World;
use crate::record::token::Identity;
use crate::text::{CommonName, Email};
use crate::time::Timestamp;

/// The longest JWT that is looked at, in bytes. It comes in a cookie as well, and a cookie has 4 KB.
const LONGEST_JWT: usize = 8_192;

/// The longest name of a key, in bytes; Access's have 64.
const LONGEST_KID: usize = 128;

/// How far the clock of whoever made the JWT may be ahead of ours, in seconds.
const LEEWAY_S: u64 = 60;

/// The most keys that are kept; Access has two at a time.
const MOST_KEYS: usize = 16;

/// The sizes of a modulus in bytes: 2,048 bits at least (RFC 7518, 3.3), and no more than `WebCrypto`
/// needs little time for.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// The most bytes of a public exponent; Access's has 3.
const EXPONENT_BYTES: usize = 4;

/// How long keys are kept, in seconds.
pub const KEPT_S: u64 = 3_600;

/// How often keys are fetched for JWTs that name an unknown one, in seconds.
pub const REFETCHED_EVERY_S: u64 = 60;

/// For how long nothing is fetched after that failed, in seconds.
pub const RETRIED_AFTER_S: u64 = 5;

/// The application that Access keeps in front of this Dialtone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    team: String,
    audience: String,
}

/// Which variable is missing or of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// `ACCESS_TEAM` is missing beside `ACCESS_AUD`, or no origin.
    Team,
    /// `ACCESS_AUD` is missing beside `ACCESS_TEAM`, or no audience tag.
    Audience,
}

impl Unusable {
    /// The name of the variable, for the log line.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Team => "ACCESS_TEAM",
            Self::Audience => "ACCESS_AUD",
        }
    }
}

impl Application {
    /// The application of `ACCESS_TEAM` and `ACCESS_AUD`; `None` if neither is set.
    ///
    /// # Errors
    /// Which of the two is [`Unusable`].
    pub fn of(team: Option<&str>, audience: Option<&str>) -> Result<Option<Self>, Unusable> {
        let set = |text: Option<&str>| text.unwrap_or_default().trim().to_owned();
        let (team, audience) = (set(team), set(audience));
        if team.is_empty() && audience.is_empty() {
            return Ok(None);
        }
        if !is_origin(&team) {
            return Err(Unusable::Team);
        }
        // 64 hexadecimal digits today; what matters is that nothing stands there by mistake.
        let shaped = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if !(16..=128).contains(&audience.len()) || !audience.bytes().all(shaped) {
            return Err(Unusable::Audience);
        }
        // Scheme and host have no case; the JWT has them in lower case.
        let team = team.trim_end_matches('/').to_ascii_lowercase();
        Ok(Some(Self { team, audience }))
    }

    /// Where the keys are.
    #[must_use]
    pub fn certs_url(&self) -> String {
        format!("{}/cdn-cgi/access/certs", self.team)
    }

    /// Reads a JWT that is for this application now, whoever signed it; `None` for anything else.
    #[must_use]
    pub fn read<'a>(&self, jwt: &'a str, now: Timestamp) -> Option<Assertion<'a>> {
        if jwt.len() > LONGEST_JWT {
            return None;
        }
        let (signed, signature) = jwt.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = part(header)?;
        let known = header.alg == "RS256" && header.crit.is_none();
        if !known || header.kid.is_empty() || header.kid.len() > LONGEST_KID {
            return None;
        }
        let claims: Claims = part(claims)?;
        let mine = claims.iss == self.team && claims.aud.names(&self.audience);
        let begun = |at: Option<u64>| at.is_none_or(|at| Timestamp(at) <= now.plus(LEEWAY_S));
        if !mine || Timestamp(claims.exp) <= now || !begun(claims.nbf) || !begun(claims.iat) {
            return None;
        }
        Some(Assertion {
            kid: header.kid,
            signed: signed.as_bytes(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
            identity: identity(claims.email, claims.common_name)?,
        })
    }
}

/// One part of a JWT. A part with a further `.` in it is no base64url.
fn part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    json::read(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// What a reader must understand (RFC 7515, 4.1.11): we understand nothing of it.
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: u64,
    nbf: Option<u64>,
    iat: Option<u64>,
    email: Option<String>,
    common_name: Option<String>,
}

/// One audience, or a list (RFC 7519, 4.1.3).
#[derive(Deserialize)]
#[serde(transparent)]
struct Audience(Value);

impl Audience {
    fn names(&self, wanted: &str) -> bool {
        match &self.0 {
            Value::String(one) => one == wanted,
            Value::Array(all) => all.iter().any(|one| one.as_str() == Some(wanted)),
            _ => false,
        }
    }
}

/// Who a JWT is about: a person has an `email`, a service token its client id as `common_name`.
fn identity(email: Option<String>, common_name: Option<String>) -> Option<Identity> {
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    match (said(email), said(common_name)) {
        (Some(email), _) => Email::try_from(email).ok().map(Identity::Email),
        (None, Some(name)) => CommonName::try_from(name).ok().map(Identity::CommonName),
        (None, None) => None,
    }
}

/// A JWT that says the right things. What it is worth shows its signature alone, so it tells nobody
/// whom it is about before.
#[derive(Debug)]
pub struct Assertion<'a> {
    kid: String,
    signed: &'a [u8],
    signature: Vec<u8>,
    identity: Identity,
}

impl Assertion<'_> {
    /// The name of the key that is said to have signed it.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Whom it is about, if this key signed it.
    ///
    /// # Errors
    /// The [`Fault`] of the platform.
    pub async fn verified<W: World>(
        self,
        world: &W,
        key: &RsaKey,
    ) -> Result<Option<Identity>, Fault> {
        // As long as the modulus (RFC 8017, 8.2.2), so that anything else costs nothing.
        if self.signature.len() != key.modulus.len() {
            return Ok(None);
        }
        let good = world.verify_rs256(key, self.signed, &self.signature);
        Ok(good.await?.then_some(self.identity))
    }
}

/// A public RSA key that is fit for RS256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsaKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaKey {
    /// Reads `n` and `e` of a JWK (RFC 7518, 6.3.1); `None` if they are too small, too large, or even.
    #[must_use]
    pub fn read(n: &str, e: &str) -> Option<Self> {
        let number = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let odd = bytes.last().is_some_and(|last| last % 2 == 1);
            // Without zeros in front of it.
            let whole = bytes.first().is_some_and(|first| *first != 0);
            (odd && whole).then_some(bytes)
        };
        let (modulus, exponent) = (number(n)?, number(e)?);
        let fit = MODULUS_BYTES.contains(&modulus.len())
            && exponent.len() <= EXPONENT_BYTES
            && exponent != [1];
        fit.then_some(Self { modulus, exponent })
    }

    /// The modulus, the most significant byte first.
    #[must_use]
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// The public exponent, the most significant byte first.
    #[must_use]
    pub fn exponent(&self) -> &[u8] {
        &self.exponent
    }
}

/// Reads Access's JWK set (RFC 7517, 5): the RSA keys for RS256 by their names. Others are left out; `None` if it
/// is no such set, or none is left.
#[must_use]
pub fn read_keys(bytes: &[u8]) -> Option<BTreeMap<String, RsaKey>> {
    #[derive(Deserialize)]
    struct Jwk {
        kid: Option<String>,
        kty: String,
        alg: Option<String>,
        r#use: Option<String>,
        n: Option<String>,
        e: Option<String>,
    }
    #[derive(Deserialize)]
    struct JwkSet {
        keys: Vec<Jwk>,
    }
    let set: JwkSet = json::read(bytes).ok()?;
    let says = |said: Option<&str>, wanted: &str| said.is_none_or(|said| said == wanted);
    let fit = set.keys.into_iter().filter_map(|jwk| {
        let signs = jwk.kty == "RSA"
            && says(jwk.alg.as_deref(), "RS256")
            && says(jwk.r#use.as_deref(), "sig");
        let kid = jwk.kid.filter(|kid| signs && kid.len() <= LONGEST_KID)?;
        Some((kid, RsaKey::read(&jwk.n?, &jwk.e?)?))
    });
    let keys: BTreeMap<String, RsaKey> = in_order(fit.take(MOST_KEYS));
    (!keys.is_empty()).then_some(keys)
}

/// Access's keys, as one instance of the Worker remembers them.
#[derive(Debug, Default)]
pub struct AccessKeys {
    keys: BTreeMap<String, RsaKey>,
    fetched_at: Option<Timestamp>,
    refetched_at: Option<Timestamp>,
    failed_at: Option<Timestamp>,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is this one.
    Key(RsaKey),
    /// There is none of that name.
    None,
    /// Only Access can tell: its keys are to be fetched.
    NotYet,
    /// Access could not be reached a moment ago.
    Unreachable,
}

impl AccessKeys {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            fetched_at: None,
            refetched_at: None,
            failed_at: None,
        }
    }

    /// Looks for a key. [`Known::NotYet`] for an unknown name comes once a minute at most, since
    /// anybody can make names up.
    pub fn look(&mut self, kid: &str, now: Timestamp) -> Known {
        let within = |at: Option<Timestamp>, s: u64| at.is_some_and(|at| now.since(at) < s);
        let fresh = within(self.fetched_at, KEPT_S);
        if let Some(key) = self.keys.get(kid).filter(|_| fresh) {
            return Known::Key(key.clone());
        }
        if within(self.failed_at, RETRIED_AFTER_S) {
            return Known::Unreachable;
        }
        if fresh {
            if within(self.refetched_at, REFETCHED_EVERY_S) {
                return Known::None;
            }
            // Before the answer is there: others of that name do not wait for it.
            self.refetched_at = Some(now);
        }
        Known::NotYet
    }

    /// Keeps keys that were just fetched, in the place of all others.
    pub fn keep(&mut self, keys: BTreeMap<String, RsaKey>, now: Timestamp) {
        *self = Self {
            keys,
            fetched_at: Some(now),
            refetched_at: Some(now),
            failed_at: None,
        };
    }

    /// Notes that the keys could not be fetched.
    pub fn failed(&mut self, now: Timestamp) {
        self.failed_at = Some(now);
        self.refetched_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEAM: &str = "https://acme.cloudflareaccess.com";
    const AUD: &str = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2";

    #[test]
    fn both_variables_are_set_or_neither() {
        let of = |team: &str, aud: &str| Application::of(Some(team), Some(aud));
        assert_eq!(Application::of(None, None), Ok(None));
        assert_eq!(of("", " "), Ok(None));
        let plain = of(TEAM, AUD).unwrap().unwrap();
        assert_eq!(plain.certs_url(), format!("{TEAM}/cdn-cgi/access/certs"));
        assert_eq!(
            of("https://ACME.cloudflareaccess.com/", AUD),
            Ok(Some(plain))
        );
        assert!(of("http://127.0.0.1:9000", AUD).is_ok());
        for wrong in [
            "",
            "acme",
            "acme.cloudflareaccess.com",
            "http://acme.cloudflareaccess.com",
            "https://acme.cloudflareaccess.com/cdn-cgi/access/certs",
        ] {
            assert_eq!(of(wrong, AUD), Err(Unusable::Team), "{wrong}");
        }
        for wrong in ["", "short", "has a blank in its middle", &"a".repeat(129)] {
            assert_eq!(of(TEAM, wrong), Err(Unusable::Audience), "{wrong}");
        }
        assert_eq!(Application::of(None, Some(AUD)), Err(Unusable::Team));
        assert_eq!(Application::of(Some(TEAM), None), Err(Unusable::Audience));
    }

    fn number(bytes: usize, last: u8) -> String {
        let mut number = vec![0xff; bytes];
        number[bytes - 1] = last;
        URL_SAFE_NO_PAD.encode(number)
    }

    #[test]
    fn of_a_set_of_keys_those_for_rs256_are_taken() {
        let (n, e) = (number(256, 1), "AQAB");
        let jwk = |kid: &str, changes: Value| {
            let mut jwk = serde_json::json!({
                "kid": kid, "kty": "RSA", "alg": "RS256", "use": "sig", "n": n, "e": e, "x5c": ["x"],
            });
            for (name, value) in changes.as_object().unwrap() {
                jwk[name] = value.clone();
            }
            jwk
        };
        let set = serde_json::json!({
            "keys": [
                jwk("good", serde_json::json!({})),
                jwk("bare", serde_json::json!({ "alg": null, "use": null })),
                jwk("curve", serde_json::json!({ "kty": "EC" })),
                jwk("other", serde_json::json!({ "alg": "RS512" })),
                jwk("sealing", serde_json::json!({ "use": "enc" })),
                jwk("small", serde_json::json!({ "n": number(255, 1) })),
                jwk("large", serde_json::json!({ "n": number(513, 1) })),
                jwk("even", serde_json::json!({ "n": number(256, 2) })),
                jwk("one", serde_json::json!({ "e": "AQ" })),
                jwk("none", serde_json::json!({ "e": "" })),
                jwk("long", serde_json::json!({ "e": number(5, 1) })),
                jwk(&"k".repeat(129), serde_json::json!({})),
                { "kty": "RSA" },
            ],
            "public_cert": { "kid": "good", "cert": "-----BEGIN CERTIFICATE-----" },
        });
        let keys = read_keys(set.to_string().as_bytes()).unwrap();
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["bare", "good"]);
        for none in [
            "",
            "[]",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"EC"}]}"#,
        ] {
            assert_eq!(read_keys(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn keys_are_fetched_hourly_and_for_an_unknown_name_once_a_minute() {
        let mut memory = AccessKeys::new();
        let key = RsaKey::read(&number(256, 1), "AQAB").unwrap();
        let now = Timestamp(1_000_000);
        assert_eq!(memory.look("a", now), Known::NotYet);
        memory.failed(now);
        assert_eq!(memory.look("a", now.plus(4)), Known::Unreachable);
        assert_eq!(memory.look("a", now.plus(5)), Known::NotYet);
        let now = now.plus(5);
        memory.keep(BTreeMap::from([("a".to_owned(), key.clone())]), now);
        assert_eq!(memory.look("a", now), Known::Key(key.clone()));
        assert_eq!(memory.look("b", now.plus(59)), Known::None);
        assert_eq!(memory.look("b", now.plus(60)), Known::NotYet);
        assert_eq!(memory.look("c", now.plus(61)), Known::None);
        // What is known stays known while Access cannot be reached, for its hour.
        memory.failed(now.plus(61));
        assert_eq!(memory.look("b", now.plus(62)), Known::Unreachable);
        assert_eq!(memory.look("a", now.plus(62)), Known::Key(key.clone()));
        assert_eq!(memory.look("b", now.plus(66)), Known::NotYet);
        assert_eq!(memory.look("a", now.plus(KEPT_S - 1)), Known::Key(key));
        assert_eq!(memory.look("a", now.plus(KEPT_S)), Known::NotYet);
    }
}
