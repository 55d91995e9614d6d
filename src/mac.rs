//! A phone's MAC address: read in any common spelling, kept as six bytes, printed as the vendors
//! print it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The hardware address of one phone. Never all zero, which is the name of a common file, and
/// never the broadcast address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

/// Why a text is no MAC address of a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacError {
    /// Not 12 hexadecimal digits, or separators in odd places.
    Spelling,
    /// All zero or all one: no phone has it.
    NotADevice,
}

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spelling => "must be 12 hexadecimal digits, such as 805ec0000001",
            Self::NotADevice => "must be the address of one device, not all zero or all one",
        })
    }
}

impl Mac {
    /// An address that no factory gives out: the bit of local administration is set (IEEE 802).
    pub const LOCAL: Self = Self([2, 0, 0, 0, 0, 1]);

    /// A MAC of six bytes.
    ///
    /// # Errors
    /// [`MacError::NotADevice`] for all zero and all one.
    pub fn from_bytes(bytes: [u8; 6]) -> Result<Self, MacError> {
        if bytes == [0; 6] || bytes == [0xff; 6] {
            return Err(MacError::NotADevice);
        }
        Ok(Self(bytes))
    }

    /// The six bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The first three bytes, which a maker has bought (IEEE MA-L): six hexadecimal digits.
    #[must_use]
    pub fn range(self) -> String {
        let [a, b, c, ..] = self.0;
        format!("{a:02x}{b:02x}{c:02x}")
    }

    /// 12 upper-case hexadecimal digits, as Snom and Mitel write it.
    #[must_use]
    pub fn upper(self) -> String {
        self.to_string().to_ascii_uppercase()
    }
}

impl FromStr for Mac {
    type Err = MacError;

    /// Reads `805ec0000001`, `80:5E:C0:00:00:01`, `80-5e-c0-00-00-01` and `805e.c000.0001`.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut bytes = [0_u8; 6];
        let mut digits = 0_usize;
        let mut separator: Option<(u8, usize)> = None;
        let mut last = 0_usize;
        for byte in text.bytes() {
            let value = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b'A'..=b'F' => byte - b'A' + 10,
                b':' | b'-' | b'.' => {
                    // The first separator sets the group's length: 2 digits, or 4 in Cisco's
                    // dotted form. Every later one must be the same, in the same rhythm.
                    let (kind, group) = *separator.get_or_insert((byte, digits));
                    let rhythm = group == 2 || (group == 4 && kind == b'.');
                    if kind != byte || !rhythm || digits != last + group {
                        return Err(MacError::Spelling);
                    }
                    last = digits;
                    continue;
                }
                _ => return Err(MacError::Spelling),
            };
            let slot = bytes.get_mut(digits / 2).ok_or(MacError::Spelling)?;
            *slot = (*slot << 4) | value;
            digits += 1;
        }
        let length = match separator {
            None => 12,
            Some((_, 2)) => 17,
            Some(_) => 14,
        };
        if digits != 12 || text.len() != length {
            return Err(MacError::Spelling);
        }
        Self::from_bytes(bytes)
    }
}

/// A pattern of a MAC in any spelling.
#[cfg(not(target_arch = "wasm32"))]
const SPELLINGS: &str = concat!(
    "^([0-9A-Fa-f]{12}|[0-9A-Fa-f]{2}((:[0-9A-Fa-f]{2}){5}|(-[0-9A-Fa-f]{2}){5}|([.][0-9A-Fa-f]{2}){5})",
    "|[0-9A-Fa-f]{4}([.][0-9A-Fa-f]{4}){2})$"
);

/// A pattern of what has the form of a MAC and is none of a phone.
#[cfg(not(target_arch = "wasm32"))]
const NO_PHONE: &str = "^([0.:-]*|[Ff.:-]*)$";

schema!(
    Mac,
    "A phone's MAC address. Answers write it as 12 lower-case hexadecimal digits; calls may write it in \
     any common spelling. Never all zero or all one.",
    { "type": "string", "pattern": SPELLINGS, "not": { "pattern": NO_PHONE } }
);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_spelling_is_the_same_address() {
        for spelling in [
            "805ec0000001",
            "805EC0000001",
            "80:5e:c0:00:00:01",
            "80-5E-C0-00-00-01",
            "805e.c000.0001",
        ] {
            assert_eq!(
                spelling.parse::<Mac>().map(|m| m.to_string()).as_deref(),
                Ok("805ec0000001"),
                "{spelling}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in [
            "",
            "805ec000000",
            "805ec00000011",
            "80:5e:c0:00:00:0",
            "80:5e:c0:00:0001",
            "80:5e-c0:00:00:01",
            ":805ec0000001",
            "805ec0000001:",
            "80::5ec0000001",
            "80::5e:c0:00:0001",
            "8:05ec0000001",
            "805e:c000:0001",
            "80 5e c0 00 00 01",
            "805ec000000g",
            "805ec000000\u{661}",
        ] {
            assert_eq!(wrong.parse::<Mac>(), Err(MacError::Spelling), "{wrong}");
        }
        for wrong in ["000000000000", "ff:ff:ff:ff:ff:ff"] {
            assert_eq!(wrong.parse::<Mac>(), Err(MacError::NotADevice), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_prints_the_same(text in "\\PC{0,24}") {
            if let Ok(mac) = text.parse::<Mac>() {
                assert_eq!(mac.to_string().parse(), Ok(mac));
                let kept: String = text.chars().filter(char::is_ascii_hexdigit).collect();
                assert_eq!(mac.to_string(), kept.to_ascii_lowercase());
            }
        }
    }
}
