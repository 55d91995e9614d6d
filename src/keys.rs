//! The keys that everything hangs on, all derived from `SEAL_KEY`: sealing secrets at rest, signing
//! tokens and first-access keys, and naming versions of files without giving their hash away.

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::fault::Fault;
use crate::mac::Mac;
use crate::ports::World;
use crate::secret::Secret;

/// What is signed with a key: the two kinds of capability must never pass for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// The token in `/p/{token}/`: the right to one device's files.
    Token,
    /// The first-access key in `/rps/{key}/`: the right to be told where one device's files are.
    FirstAccess,
}

/// A capability that we signed: for which device, and the how-many-eth of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The device.
    pub mac: Mac,
    /// Counts up with each rotation; only the record knows which are still good.
    pub generation: u32,
}

/// Names a master key, without telling anything of it: eight bytes that HKDF derives from it, as 16
/// hexadecimal digits.
///
/// What a key sealed and signed holds the first byte alone. Two keys share it once in 256 times, so
/// it says which key to try, and that it fits says which key it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(u64);

impl KeyId {
    /// The byte that stands in what the key sealed and signed.
    fn byte(self) -> u8 {
        let [byte, ..] = self.0.to_be_bytes();
        byte
    }
}

schema!(KeyId, "Names a key without telling anything of it.", {
    "type": "string",
    "pattern": "^[0-9a-f]{16}$",
});

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for KeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let id = u64::from_str_radix(&text, 16).map(Self).ok();
        // Written in one way only.
        id.filter(|id| id.to_string() == text)
            .ok_or("must be 16 hexadecimal digits")
    }
}

/// With which of the two keys something was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The one that is in use now.
    Current,
    /// The one before.
    Old,
}

/// One master key and what is derived from it.
struct KeySet {
    id: KeyId,
    seal: [u8; 32],
    token: [u8; 32],
    first_access: [u8; 32],
    etag: [u8; 32],
    audit: [u8; 32],
}

impl KeySet {
    fn derive(master: &[u8]) -> Result<Self, SecretsError> {
        let hkdf = Hkdf::<Sha256>::new(Some(b"dialtone"), master);
        let expand = |label: &str| -> Result<[u8; 32], SecretsError> {
            let mut key = [0; 32];
            hkdf.expand(label.as_bytes(), &mut key)
                .map_err(|_| SecretsError::SealKey)?;
            Ok(key)
        };
        let id = expand("key id")?;
        let id = id.first_chunk().ok_or(SecretsError::SealKey)?;
        Ok(Self {
            id: KeyId(u64::from_be_bytes(*id)),
            seal: expand("seal")?,
            token: expand("token")?,
            first_access: expand("first access")?,
            etag: expand("etag")?,
            audit: expand("audit")?,
        })
    }
}

/// Which secret of the Worker is missing or of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsError {
    /// `ADMIN_TOKEN` is missing or shorter than 32 characters.
    AdminToken,
    /// `SEAL_KEY` is missing or not 32 bytes in base64.
    SealKey,
    /// `SEAL_KEY_OLD` is set but not 32 bytes in base64.
    SealKeyOld,
}

impl SecretsError {
    /// The name of the variable, for the log line.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::AdminToken => "ADMIN_TOKEN",
            Self::SealKey => "SEAL_KEY",
            Self::SealKeyOld => "SEAL_KEY_OLD",
        }
    }
}

/// The shortest `ADMIN_TOKEN`: 32 characters of base64 or hex are at least 128 bits.
const SHORTEST_ADMIN_TOKEN: usize = 32;

/// All keys of a running Dialtone.
pub struct Keys {
    current: KeySet,
    /// During a change of `SEAL_KEY`: opens and verifies, but seals and signs nothing.
    old: Option<KeySet>,
    admin: [u8; 32],
}

/// Bytes of a capability: key id, MAC, generation, 21 bytes (168 bits) of HMAC-SHA-256. 32 bytes
/// make 43 characters of base64url.
const CAPABILITY_BYTES: usize = 32;

impl Keys {
    /// Reads the Worker's secrets.
    ///
    /// # Errors
    /// [`SecretsError`] says which one is missing or too short.
    pub fn new(
        admin_token: Option<&str>,
        seal_key: Option<&str>,
        seal_key_old: Option<&str>,
    ) -> Result<Self, SecretsError> {
        let admin_token = admin_token.unwrap_or_default();
        if admin_token.len() < SHORTEST_ADMIN_TOKEN {
            return Err(SecretsError::AdminToken);
        }
        let master = decode_key(seal_key.unwrap_or_default()).ok_or(SecretsError::SealKey)?;
        let current = KeySet::derive(&master)?;
        let old = match seal_key_old.filter(|key| !key.is_empty()) {
            None => None,
            Some(text) => {
                let old = decode_key(text).ok_or(SecretsError::SealKeyOld)?;
                // The same twice is no change.
                (old != master).then(|| KeySet::derive(&old)).transpose()?
            }
        };
        let admin = digest(admin_token.as_bytes());
        Ok(Self {
            current,
            old,
            admin,
        })
    }

    /// The keys that may have made something: both, if chance gave them the same id.
    fn sets(&self, byte: u8) -> impl Iterator<Item = &KeySet> {
        std::iter::once(&self.current)
            .chain(&self.old)
            .filter(move |set| set.id.byte() == byte)
    }

    /// The name of the key that seals and signs.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.current.id
    }

    /// During a change of `SEAL_KEY`, the name of the key that only opens and verifies.
    #[must_use]
    pub fn old(&self) -> Option<KeyId> {
        self.old.as_ref().map(|set| set.id)
    }

    /// True if `token` is `ADMIN_TOKEN`. Compares digests in constant time.
    #[must_use]
    pub fn is_admin(&self, token: &str) -> bool {
        digest(token.as_bytes()).ct_eq(&self.admin).into()
    }

    /// Seals a text with AES-256-GCM, bound to `place`: `1.{key id}.{nonce and ciphertext}`.
    ///
    /// # Errors
    /// A [`Fault`] if there are no random bytes.
    pub fn seal<W: World>(&self, world: &W, place: &str, text: &[u8]) -> Result<String, Fault> {
        let nonce: [u8; 12] = world.random()?;
        let payload = Payload {
            msg: text,
            aad: place.as_bytes(),
        };
        let sealed = cipher(&self.current.seal)?
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| Fault::Broken("seal"))?;
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed);
        Ok(format!(
            "1.{:02x}.{}",
            self.current.id.byte(),
            URL_SAFE_NO_PAD.encode(bytes)
        ))
    }

    /// Whether a text was sealed with the key that is in use now, and not with the one before. It is
    /// opened only if the two share the byte that names them.
    #[must_use]
    pub fn is_current(&self, place: &str, sealed: &str) -> bool {
        let current = self.current.id;
        let Some((byte, _)) = parts(sealed) else {
            return false;
        };
        let alike = self.old().is_some_and(|old| old.byte() == current.byte());
        byte == current.byte() && (!alike || self.opened_by(place, sealed) == Some(current))
    }

    /// The key that opens what [`Keys::seal`] made for this place; `None` if none of ours does.
    #[must_use]
    pub fn opened_by(&self, place: &str, sealed: &str) -> Option<KeyId> {
        self.opened(place, sealed).map(|(_, set)| set.id)
    }

    fn opened(&self, place: &str, sealed: &str) -> Option<(Vec<u8>, &KeySet)> {
        let (byte, bytes) = parts(sealed)?;
        let bytes = URL_SAFE_NO_PAD.decode(bytes).ok()?;
        let (nonce, text) = bytes.split_first_chunk::<12>()?;
        self.sets(byte).find_map(|set| {
            let payload = Payload {
                msg: text,
                aad: place.as_bytes(),
            };
            let cipher = cipher(&set.seal).ok()?;
            let text = cipher.decrypt(&Nonce::from(*nonce), payload).ok()?;
            Some((text, set))
        })
    }

    /// Opens what [`Keys::seal`] made for the same place.
    ///
    /// # Errors
    /// A [`Fault`] if the text was sealed for another place, with another key, or was changed.
    pub fn open(&self, place: &str, sealed: &str) -> Result<Vec<u8>, Fault> {
        let opened = self.opened(place, sealed);
        opened.map(|(text, _)| text).ok_or(NOT_OURS)
    }

    /// Brings a sealed text under the key that is in use now; `None` if it is already.
    ///
    /// # Errors
    /// A [`Fault`] as of [`Keys::open`] and [`Keys::seal`].
    pub fn reseal<W: World>(
        &self,
        world: &W,
        place: &str,
        sealed: &str,
    ) -> Result<Option<String>, Fault> {
        let (text, set) = self.opened(place, sealed).ok_or(NOT_OURS)?;
        if set.id == self.current.id {
            return Ok(None);
        }
        self.seal(world, place, &text).map(Some)
    }

    /// Opens a sealed password.
    ///
    /// # Errors
    /// A [`Fault`] as of [`Keys::open`], or if the text is no password.
    pub fn open_secret(&self, place: &str, sealed: &str) -> Result<Secret, Fault> {
        String::from_utf8(self.open(place, sealed)?)
            .ok()
            .and_then(|text| Secret::try_from(text).ok())
            .ok_or(NOT_OURS)
    }

    /// Signs a capability for one device and generation.
    ///
    /// # Errors
    /// A [`Fault`] that cannot come up with a key of 32 bytes.
    pub fn sign(&self, kind: Capability, signed: Signed) -> Result<String, Fault> {
        let mut bytes = vec![self.current.id.byte()];
        bytes.extend(signed.mac.bytes());
        bytes.extend(signed.generation.to_be_bytes());
        let tag = hmac(capability_key(&self.current, kind), &bytes)?;
        bytes.extend(tag);
        bytes.truncate(CAPABILITY_BYTES);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a capability: `None` unless we signed it. Touches no store and takes the same time
    /// wherever a forged one is wrong.
    #[must_use]
    pub fn verify(&self, kind: Capability, text: &str) -> Option<Signed> {
        self.verify_by(kind, text).map(|(signed, _)| signed)
    }

    /// The same as [`Keys::verify`], with the key that signed it.
    #[must_use]
    pub fn verify_by(&self, kind: Capability, text: &str) -> Option<(Signed, KeyId)> {
        // 43 characters: longer ones need not be decoded to know that they are wrong.
        if text.len() != CAPABILITY_BYTES.div_ceil(3) * 4 - 1 {
            return None;
        }
        let bytes: [u8; CAPABILITY_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (head, tag) = bytes.split_at_checked(11)?;
        let (byte, rest) = head.split_first()?;
        let (mac, generation) = rest.split_first_chunk::<6>()?;
        let signed_by = |set: &KeySet| {
            let expected = hmac(capability_key(set, kind), head).unwrap_or_default();
            bool::from(expected.get(..tag.len()).unwrap_or_default().ct_eq(tag))
        };
        let key = self.sets(*byte).find(|set| signed_by(set))?.id;
        let signed = Signed {
            mac: Mac::from_bytes(*mac).ok()?,
            generation: u32::from_be_bytes(generation.try_into().ok()?),
        };
        Some((signed, key))
    }

    /// The entity tag of a file's bytes: keyed, so that it is no oracle for a password in them.
    ///
    /// # Errors
    /// A [`Fault`] that cannot come up with a key of 32 bytes.
    pub fn etag(&self, bytes: &[u8]) -> Result<String, Fault> {
        etag_by(&self.current, bytes)
    }

    /// Whether one of our keys made this entity tag, without its quotes, of these bytes: while `SEAL_KEY` is changed
    /// what was named with the one before is still the same.
    #[must_use]
    pub fn made_etag(&self, bytes: &[u8], tag: &str) -> bool {
        let mut sets = std::iter::once(&self.current).chain(&self.old);
        sets.any(|set| etag_by(set, bytes).is_ok_and(|made| made.trim_matches('"') == tag))
    }

    /// Signs an object of the audit, bound to the key that it is stored under: HMAC-SHA-256 in hex.
    ///
    /// # Errors
    /// A [`Fault`] that cannot come up with a key of 32 bytes.
    pub fn sign_audit(&self, place: &str, bytes: &[u8]) -> Result<String, Fault> {
        Ok(hex(&audit_tag(&self.current, place, bytes)?))
    }

    /// Who made a signature of [`Keys::sign_audit`]; `None`: none of our keys.
    #[must_use]
    pub fn audit_signer(&self, place: &str, bytes: &[u8], signature: &str) -> Option<Signer> {
        let made = |set: &KeySet| {
            audit_tag(set, place, bytes).is_ok_and(|tag| same_secret(&hex(&tag), signature))
        };
        if made(&self.current) {
            Some(Signer::Current)
        } else {
            self.old
                .as_ref()
                .filter(|set| made(set))
                .map(|_| Signer::Old)
        }
    }

    /// Whether `SEAL_KEY` is being changed: there is an old one.
    #[must_use]
    pub fn are_changing(&self) -> bool {
        self.old.is_some()
    }
}

fn etag_by(set: &KeySet, bytes: &[u8]) -> Result<String, Fault> {
    let tag = hmac(&set.etag, bytes)?;
    Ok(format!("\"{}\"", hex(tag.get(..16).unwrap_or(&tag))))
}

fn audit_tag(set: &KeySet, place: &str, bytes: &[u8]) -> Result<[u8; 32], Fault> {
    // A key of ours holds no line break, so nothing reads as another place and other bytes.
    hmac(&set.audit, &[place.as_bytes(), b"\n", bytes].concat())
}

/// HMAC-SHA-256 under somebody else's secret, in hex.
///
/// # Errors
/// None that can come up: HMAC takes a key of any length (RFC 2104).
pub fn hmac_hex(secret: &str, bytes: &[u8]) -> Result<String, Fault> {
    Ok(hex(&hmac(secret.as_bytes(), bytes)?))
}

/// SHA-256 in hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&digest(bytes))
}

/// What is said of a sealed text that no key of ours opens for its place.
const NOT_OURS: Fault = Fault::Broken("sealed value");

/// A sealed text: the byte that names its key, and the nonce and ciphertext in base64url.
fn parts(sealed: &str) -> Option<(u8, &str)> {
    let (byte, bytes) = sealed.strip_prefix("1.")?.split_once('.')?;
    Some((u8::from_str_radix(byte, 16).ok()?, bytes))
}

fn capability_key(set: &KeySet, kind: Capability) -> &[u8; 32] {
    match kind {
        Capability::Token => &set.token,
        Capability::FirstAccess => &set.first_access,
    }
}

fn decode_key(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

fn cipher(key: &[u8; 32]) -> Result<Aes256Gcm, Fault> {
    Aes256Gcm::new_from_slice(key).map_err(|_| Fault::Broken("seal key"))
}

fn hmac(key: &[u8], bytes: &[u8]) -> Result<[u8; 32], Fault> {
    let mut mac =
        <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).map_err(|_| Fault::Broken("key"))?;
    mac.update(bytes);
    Ok(mac.finalize().into_bytes().into())
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    Sha256::digest(bytes).into()
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// True if two texts are equal, in a time that depends only on their lengths.
#[must_use]
pub fn same_secret(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}
