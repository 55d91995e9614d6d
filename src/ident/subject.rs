//! What the subject of a client certificate says. Whether anybody vouches for it is not known here.

use super::{agent, makers};
use crate::mac::Mac;
use crate::vendor::CertificateMac;

/// No subject of a phone is longer.
const LONGEST: usize = 1024;

/// The attributes that are read, by each of their names (RFC 4519, and what OpenSSL prints).
const KEYS: [(&str, Key); 16] = [
    ("CN", Key::CommonName),
    ("commonName", Key::CommonName),
    ("2.5.4.3", Key::CommonName),
    ("ST", Key::State),
    ("S", Key::State),
    ("stateOrProvinceName", Key::State),
    ("2.5.4.8", Key::State),
    ("L", Key::Locality),
    ("localityName", Key::Locality),
    ("2.5.4.7", Key::Locality),
    ("O", Key::Organization),
    ("organizationName", Key::Organization),
    ("2.5.4.10", Key::Organization),
    ("OU", Key::Unit),
    ("organizationalUnitName", Key::Unit),
    ("2.5.4.11", Key::Unit),
];

/// An attribute of a subject that says something of a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// `CN`.
    CommonName,
    /// `ST`.
    State,
    /// `L`.
    Locality,
    /// `O`.
    Organization,
    /// `OU`.
    Unit,
}

/// The subject of a certificate, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject(Vec<(Key, String)>);

impl Subject {
    /// Reads a subject as RFC 4514 and RFC 2253 write it (`CN=...,O=...`), or as OpenSSL does
    /// (`/C=.../CN=...`), in any order. `None` if anything in it is odd.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.len() > LONGEST {
            return None;
        }
        let attributes = match text.strip_prefix('/') {
            Some(rest) => by_slashes(rest.strip_suffix('/').unwrap_or(rest))?,
            None => by_commas(text)?,
        };
        let mut known = Vec::new();
        for (name, value) in attributes {
            let name = match name.split_at_checked(4) {
                Some((oid, rest)) if oid.eq_ignore_ascii_case("OID.") => rest,
                _ => name,
            };
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
            if name.is_empty() || !name.bytes().all(plain) || value.contains(char::is_control) {
                return None;
            }
            let key = KEYS.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
            if let Some((_, key)) = key {
                known.push((*key, value));
            }
        }
        Some(Self(known))
    }

    /// The value of an attribute that stands there once.
    #[must_use]
    pub fn one(&self, key: Key) -> Option<&str> {
        let mut values = self.all(key);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// The values of an attribute.
    pub fn all(&self, key: Key) -> impl Iterator<Item = &str> {
        let own = self.0.iter().filter(move |(own, _)| *own == key);
        own.map(|(_, value)| value.as_str())
    }
}

/// `C=US/O=Cisco Systems, Inc./CN=...`, the first slash taken off. What OpenSSL cannot print is
/// `\xHH`.
fn by_slashes(text: &str) -> Option<Vec<(&str, String)>> {
    let mut all = Vec::new();
    for attribute in text.split('/') {
        let (name, value) = attribute.split_once('=')?;
        let mut bytes = Vec::new();
        let mut rest = value.trim();
        while let Some((plain, escaped)) = rest.split_once("\\x") {
            let (hex, behind) = escaped.split_at_checked(2)?;
            bytes.extend_from_slice(plain.as_bytes());
            bytes.push(byte(hex)?);
            rest = behind;
        }
        bytes.extend_from_slice(rest.as_bytes());
        all.push((name.trim(), String::from_utf8(bytes).ok()?));
    }
    Some(all)
}

/// `CN=...,O=...`, with `+` between attributes that belong together (RFC 4514, section 3; `;` and
/// quoted values of RFC 2253, section 4).
fn by_commas(text: &str) -> Option<Vec<(&str, String)>> {
    let mut all = Vec::new();
    let mut rest = text;
    loop {
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => {
                let (value, behind) = until(quoted, |c| c == '"')?;
                let behind = behind.strip_prefix('"')?.trim_start();
                if !behind.is_empty() && !behind.starts_with(is_end) {
                    return None;
                }
                (value, behind)
            }
            None => until(value, is_end)?,
        };
        // `#` is a value in hexadecimal BER: no vendor's phones have one.
        if !value.starts_with('#') {
            all.push((name.trim(), value));
        }
        match behind.split_at_checked(1) {
            None => return Some(all),
            Some((_, next)) => rest = next,
        }
    }
}

fn is_end(c: char) -> bool {
    matches!(c, ',' | ';' | '+')
}

/// A value up to where it ends, its escapes undone, and what follows. Spaces at its end that are not
/// escaped are none of it.
fn until(text: &str, ends: fn(char) -> bool) -> Option<(String, &str)> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut kept = 0;
    let mut rest = text;
    while let Some(c) = rest.chars().next().filter(|c| !ends(*c)) {
        let (this, behind) = rest.split_at_checked(c.len_utf8())?;
        rest = behind;
        match c {
            '\\' => {
                let next = rest.chars().next()?;
                let length = if next.is_ascii_hexdigit() {
                    let (hex, _) = rest.split_at_checked(2)?;
                    bytes.push(byte(hex)?);
                    2
                } else if " \"#+,;<=>\\".contains(next) {
                    bytes.extend_from_slice(rest.get(..1)?.as_bytes());
                    1
                } else {
                    return None;
                };
                rest = rest.get(length..)?;
                kept = bytes.len();
            }
            '"' => return None,
            _ => {
                bytes.extend_from_slice(this.as_bytes());
                if c != ' ' {
                    kept = bytes.len();
                }
            }
        }
    }
    if !ends('"') {
        bytes.truncate(kept);
    }
    Some((String::from_utf8(bytes).ok()?, rest))
}

fn byte(hex: &str) -> Option<u8> {
    let digits = hex.bytes().all(|b| b.is_ascii_hexdigit());
    u8::from_str_radix(hex, 16).ok().filter(|_| digits)
}

/// What a subject says of a phone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certified {
    /// The maker.
    pub vendor: Option<&'static str>,
    /// The MAC, where the maker's rule has it.
    pub mac: Option<Mac>,
    /// The model.
    pub model: Option<String>,
    /// The serial number.
    pub serial: Option<String>,
}

/// Reads the subject of a phone's certificate by its maker's rule: that of
/// [`crate::vendor::Facts::certificate`] for the vendors whose phones Dialtone sets up. Where no
/// maker is named, a common name that is a MAC and nothing else is one. Everything odd is nothing.
#[must_use]
pub fn certificate(subject: &str) -> Certified {
    let Some(subject) = Subject::parse(subject) else {
        return Certified::default();
    };
    let organization = subject.all(Key::Organization);
    let vendor = organization
        .chain(subject.all(Key::Unit))
        .find_map(|name| makers::begins(name).map(|(maker, _)| maker));
    let rule = match vendor {
        None | Some("snom") => CertificateMac::CommonName,
        Some("cisco") => CertificateMac::State,
        Some(_) => CertificateMac::Unknown,
    };
    let served = vendor.and_then(makers::served);
    let rule = served.map_or(rule, |vendor| vendor.rules().facts().certificate);
    let name = subject.one(Key::CommonName).unwrap_or_default();
    let mut said = Certified {
        vendor,
        mac: match rule {
            CertificateMac::CommonName => name.parse().ok(),
            CertificateMac::State => subject.one(Key::State).and_then(|mac| mac.parse().ok()),
            CertificateMac::Unknown => None,
        },
        ..Certified::default()
    };
    if vendor != Some("cisco") {
        return said;
    }
    // SPA-525G2, MAC: 00562B043615, Serial: CBT141900G7; the MPPs have their model in the unit.
    let mut serials = subject.one(Key::Locality).into_iter().collect::<Vec<_>>();
    let mut model = "";
    for (n, part) in name.split(',').map(str::trim).enumerate() {
        match part.split_once(':') {
            Some(("MAC", mac)) if said.mac != mac.trim().parse().ok() => {
                return Certified::default();
            }
            Some(("Serial", serial)) => serials.push(serial.trim()),
            None if n == 0 => model = part,
            _ => {}
        }
    }
    if !name.contains("MAC:") {
        let own = |unit: &&str| unit.starts_with("CP-") || unit.starts_with("ATA");
        model = subject.all(Key::Unit).find(own).unwrap_or_default();
    }
    said.model = agent::model("cisco", model).map(|model| model.into_owned());
    let mut serials = serials.into_iter();
    said.serial = serials
        .next()
        .filter(|first| agent::is_serial(first) && serials.all(|other| other == *first))
        .map(str::to_owned);
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<String> {
        let subject = Subject::parse(text)?;
        Some(subject.one(Key::CommonName).unwrap_or("-").to_owned())
    }

    #[test]
    fn a_subject_is_read_in_either_spelling_and_any_order() {
        for (text, expected) in [
            ("CN=a,O=b", "a"),
            ("O=b,CN=a", "a"),
            ("  C = CN , cn = a b  , O = c", "a b"),
            ("commonName=a", "a"),
            ("OID.2.5.4.3=a", "a"),
            ("2.5.4.3=a", "a"),
            ("OU=x+CN=a,O=b", "a"),
            ("O=b;CN=a", "a"),
            (r"CN=a\,b\+c\=d\\e\20,O=b", r"a,b+c=d\e "),
            (r"CN=a\ ,O=b", "a "),
            (r"CN=Z\C3\BCrich", "Zürich"),
            ("CN=\"a, b\" , O=c", "a, b"),
            ("CN=a=b", "a=b"),
            ("CN=", ""),
            ("O=a", "-"),
            ("/C=US/CN=a", "a"),
            ("/CN=a/C=US/", "a"),
            (
                "/O=Cisco Systems, Inc./CN=SPA-525G2, MAC: 1, Serial: 2/",
                "SPA-525G2, MAC: 1, Serial: 2",
            ),
            (r"/CN=Z\xC3\xBCrich", "Zürich"),
            // A value that phones do not have, beside one that they do.
            ("1.2.3.4=#0403666f6f,CN=a", "a"),
            // Twice is none.
            ("CN=a,CN=b", "-"),
            ("CN=a+CN=b", "-"),
            ("/CN=a/CN=b", "-"),
        ] {
            assert_eq!(name(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn everything_odd_is_nothing() {
        for odd in [
            "",
            " ",
            "/",
            "//",
            "a",
            "=a",
            "CN",
            "CN=a,",
            ",CN=a",
            "CN=a,,O=b",
            "CN=a,b",
            "CN=\"a",
            "CN=\"a\"b",
            "CN=a\"b\"",
            "CN=a\\",
            "CN=a\\z",
            "CN=a\\4",
            "CN=a\\FF",
            "CN=a\\00b",
            "CN=a\0",
            "C N=a",
            "CN=a\nO=b",
            "/CN=a/b",
            "/CN",
            "/=a",
            "/CN=a\\x0",
            "/CN=a\\x00",
            "/CN=a\\xFF",
        ] {
            assert_eq!(name(odd), None, "{odd:?}");
        }
        assert_eq!(name(&format!("CN={}", "a".repeat(LONGEST))), None);
    }

    #[test]
    fn a_certificate_names_its_phone_by_its_makers_rule() {
        let cisco = "/C=US/ST=00562B043615/L=CBT141900G7/O=Cisco Systems, Inc./OU=cisco.com/CN=SPA-525G2, \
                     MAC: 00562B043615, Serial: CBT141900G7/";
        for (subject, expected) in [
            (
                "CN=00:15:65:AA:BB:CC,OU=x,O=Yealink Network Technology,C=CN",
                "yealink|001565aabbcc||",
            ),
            (
                "/O=YEALINK(XIAMEN) NETWORK/CN=001565aabbcc",
                "yealink|001565aabbcc||",
            ),
            ("CN=yealink.com,O=Yealink", "yealink|||"),
            (
                "CN=000413AABBCC,O=snom technology AG,L=Berlin,C=DE",
                "snom|000413aabbcc||",
            ),
            (cisco, "cisco|00562b043615|SPA525G2|CBT141900G7"),
            (
                r"CN=SPA-525G2\, MAC: 00562B043615\, Serial: CBT141900G7,OU=cisco.com,O=Cisco Systems\, Inc.,L=CBT141900G7,ST=00562B043615,C=US",
                "cisco|00562b043615|SPA525G2|CBT141900G7",
            ),
            (
                "CN=x,OU=CP-8841-3PCC,L=FCH1234A5BC,ST=00562b043615,O=Cisco Systems Inc.",
                "cisco|00562b043615|8841|FCH1234A5BC",
            ),
            // The MAC of Cisco's MPP is not in the common name, and a town is no serial.
            (
                "CN=00562b043615,L=San Jose,ST=California,O=Cisco",
                "cisco|||",
            ),
            // Two MACs.
            (&cisco.replace("ST=00562B043615", "ST=00562B043616"), "|||"),
            // Two serials.
            (
                &cisco.replace("L=CBT141900G7", "L=CBT141900G8"),
                "cisco|00562b043615|SPA525G2|",
            ),
            // Nobody has published where Poly has it.
            ("CN=0004f2aabbcc,O=Polycom Inc.", "poly|||"),
            ("CN=001565aabbcc", "|001565aabbcc||"),
            ("CN=001565aabbcc,CN=001565aabbcd", "|||"),
            ("CN=000000000000", "|||"),
            ("CN=phone 001565aabbcc", "|||"),
        ] {
            let said = certificate(subject);
            let mac = said.mac.map(|mac| mac.to_string()).unwrap_or_default();
            let (model, serial) = (
                said.model.unwrap_or_default(),
                said.serial.unwrap_or_default(),
            );
            let found = [said.vendor.unwrap_or_default(), &mac, &model, &serial];
            assert_eq!(found.join("|"), expected, "{subject}");
        }
    }
}
