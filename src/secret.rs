//! Passwords: written by admins, printed into a phone's own files, and shown nowhere else.

use std::fmt;

use serde::Deserialize;

use crate::fault::Fault;
use crate::ports::World;

/// A password or PIN in clear. It has no `Serialize`, and its `Debug` is stars.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(String);

/// What stands where a secret would, for the eyes of admins.
pub const MASK: &str = "********";

/// The longest password: Asterisk and every phone take this many characters.
const LONGEST: usize = 128;

/// Letters and digits without the ones that people confuse (`0O1lI`), which every vendor's file
/// can carry unescaped.
const ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

impl Secret {
    /// The text itself. Call it only where the secret leaves for its phone or its PBX.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The empty text: what stands for "no password any more".
    #[must_use]
    pub(crate) fn nothing() -> Self {
        Self(String::new())
    }

    /// A text of ours that is to be sealed as a whole, such as a PBX's headers.
    #[must_use]
    pub(crate) fn opaque(text: String) -> Self {
        Self(text)
    }

    /// A fresh password of 24 characters out of 57: 139 bits.
    ///
    /// # Errors
    /// A [`Fault`] if the platform gives no random bytes.
    pub fn generate<W: World>(world: &W) -> Result<Self, Fault> {
        let mut text = String::new();
        // Bytes from 228 on (4 * 57) are thrown away, or the first letters would come more often.
        // 96 bytes hold 24 usable ones but for a chance of about one in 10^30.
        while text.len() < 24 {
            let bytes: [u8; 96] = world.random()?;
            let letters = bytes
                .iter()
                .filter(|byte| **byte < 228)
                .filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
            text.extend(letters.take(24 - text.len()).map(|byte| char::from(*byte)));
        }
        Ok(Self(text))
    }
}

schema!(Secret, "A password or PIN: printable ASCII. Written, never read back.", {
    "type": "string",
    "pattern": "^[ -~]+$",
    "maxLength": LONGEST,
});

/// A [`Secret`], or the empty text that takes one away: what [`secret_or_empty`] reads.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub struct SecretOrEmpty;

schema!(
    SecretOrEmpty,
    "A password or PIN: printable ASCII. Written, never read back. Empty: the one that is stored goes.",
    { "type": "string", "pattern": "^[ -~]*$", "maxLength": LONGEST }
);

impl TryFrom<String> for Secret {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(format!("must have 1 to {LONGEST} characters"));
        }
        if text.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
            Ok(Self(text))
        } else {
            Err("may hold only printable ASCII".to_owned())
        }
    }
}

/// Reads a password or PIN, or the empty text that takes one away.
///
/// # Errors
/// The deserializer's, or why the text is none.
pub fn secret_or_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Secret>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if text.is_empty() => Ok(Some(Secret::nothing())),
        Some(text) => Secret::try_from(text)
            .map(Some)
            .map_err(serde::de::Error::custom),
        None => Ok(None),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
