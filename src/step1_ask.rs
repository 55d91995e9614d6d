//! **Step 1, power on.** A phone asks the RPS "where are my setup files?".
//!
//! In: a request's path, query and headers. Out: an [`Ask`], with everything that the caller says
//! of itself. Nothing is believed here and no store is read.

use percent_encoding::percent_decode_str;

use crate::mac::Mac;
use crate::text::Serial;

/// In which form the caller wants its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// `{"mac", "vendor", "model", "url", "boot"}`.
    Json,
    /// The URL and a newline.
    Text,
    /// `302 Found` to the BootFile.
    Found,
    /// The vendor's own redirect document, under the file name that the phone asked for.
    File(String),
}

/// A question to the RPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Who the caller says it is; `None` if it does not say, or says two things.
    pub mac: Option<Mac>,
    /// The serial number that it gives.
    pub serial: Option<String>,
    /// The first-access key in the path, not yet verified.
    pub key: Option<String>,
    /// What it wants to have.
    pub form: Form,
}

/// Reads a question.
///
/// `path` is the request's path from `/rps` on, still percent-encoded; `None` is the answer for a
/// path that no phone asks for.
#[must_use]
pub fn read(path: &str, query: &str, user_agent: &str, accept: &str) -> Option<Ask> {
    let rest = path.strip_prefix("/rps")?;
    if rest.is_empty() || rest == "/" {
        return Some(look_up(query, accept));
    }
    let segments: Vec<String> = rest
        .strip_prefix('/')?
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8().map(Into::into))
        .collect::<Result<_, _>>()
        .ok()?;
    let (file, serial, key) = match segments.as_slice() {
        [file] => (file, None, None),
        [sn, serial, file] if sn == "sn" => (file, Some(serial.clone()), None),
        [key, file] => (file, None, Some(key.clone())),
        _ => return None,
    };
    if file.is_empty() || file.len() > 128 {
        return None;
    }
    let named = mac_in_name(file);
    let agent = mac_in_agent(user_agent);
    Some(Ask {
        mac: match (named, agent) {
            // A phone that asks for another phone's file is not the phone it says it is.
            (Some(named), Some(agent)) if named != agent => None,
            (named, agent) => named.or(agent),
        },
        serial,
        key,
        form: Form::File(file.clone()),
    })
}

fn look_up(query: &str, accept: &str) -> Ask {
    let mut mac = None;
    let mut serial = None;
    let mut found = false;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "mac" => mac = value.trim().parse::<Mac>().ok(),
            "serial" => serial = Some(value.into_owned()),
            "redirect" => found = value == "302",
            // `model` and `vendor` are in the record; what a caller says of them proves nothing.
            _ => {}
        }
    }
    // A look-up without a MAC is refused like any other that leads nowhere.
    Ask {
        mac,
        serial,
        key: None,
        form: if found {
            Form::Found
        } else if accept.to_ascii_lowercase().contains("text/plain") {
            Form::Text
        } else {
            Form::Json
        },
    }
}

impl Ask {
    /// Whether the serial that the caller gives is `serial`, in constant time and without regard
    /// to case.
    #[must_use]
    pub fn gives_serial(&self, serial: &Serial) -> bool {
        self.serial.as_ref().is_some_and(|given| {
            crate::keys::same_secret(
                &given.trim().to_ascii_uppercase(),
                &serial.as_str().to_ascii_uppercase(),
            )
        })
    }
}

/// Prefixes of file names that a MAC may follow: Grandstream and Htek `cfg`, Gigaset and others
/// `config`, Poly `phone`, Cisco `SEP`.
const PREFIXES: [&str; 6] = ["", "cfg", "config.", "config", "phone", "sep"];

/// The MAC in a file name: 12 hexadecimal digits at the start, behind one of the vendors'
/// prefixes or behind a `-`, and followed by the end or a character that is no letter or digit.
#[must_use]
pub fn mac_in_name(name: &str) -> Option<Mac> {
    let name = name.to_ascii_lowercase();
    let whole = |text: &str| {
        let digits = text.get(..12)?;
        let ends = text
            .get(12..)?
            .chars()
            .next()
            .is_none_or(|c| !c.is_ascii_alphanumeric());
        if ends && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            digits.parse().ok()
        } else {
            None
        }
    };
    PREFIXES
        .into_iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .find_map(whole)
        // snomD785-000413AABBCC.htm
        .or_else(|| {
            name.match_indices('-')
                .find_map(|(at, _)| whole(name.get(at + 1..)?))
        })
}

/// The MAC in a User-Agent such as `Yealink SIP-T46U 108.86.0.20 80:5e:c0:00:00:01`: a word of it
/// that is a MAC from end to end, in brackets or not.
#[must_use]
pub fn mac_in_agent(user_agent: &str) -> Option<Mac> {
    user_agent
        .split([' ', '/', '(', ')', ';', ','])
        .map(|word| word.strip_prefix("MAC:").unwrap_or(word))
        .find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_look_up_is_read_from_the_query() {
        let ask = read("/rps", "mac=80:5E:C0:00:00:01&serial=31%2046", "", "*/*").unwrap();
        assert_eq!(ask.mac.unwrap().to_string(), "805ec0000001");
        assert_eq!(
            (ask.serial.as_deref(), ask.form),
            (Some("31 46"), Form::Json)
        );
        assert_eq!(
            read("/rps", "mac=x", "", "text/plain").unwrap().form,
            Form::Text
        );
        assert_eq!(
            read("/rps", "redirect=302", "", "").unwrap().form,
            Form::Found
        );
    }

    #[test]
    fn a_file_name_may_follow_a_key_or_a_serial() {
        let ask = |path: &str| read(path, "", "", "").unwrap();
        assert_eq!(
            ask("/rps/805ec0000001.boot").mac.unwrap().to_string(),
            "805ec0000001"
        );
        assert_eq!(ask("/rps/KEY/805ec0000001.cfg").key.as_deref(), Some("KEY"));
        assert_eq!(
            ask("/rps/sn/123/805ec0000001.cfg").serial.as_deref(),
            Some("123")
        );
        assert_eq!(ask("/rps/y000000000028.cfg").mac, None);
        assert_eq!(read("/rps/a/b/c/d", "", "", ""), None);
        assert_eq!(read("/rpsx", "", "", ""), None);
        assert_eq!(read("/rps/", "", "", "").unwrap().mac, None);
    }

    #[test]
    fn a_phone_that_asks_for_anothers_file_has_no_name() {
        let agent = "Yealink SIP-T46U 108.86.0.20 80:5e:c0:00:00:01";
        let mac = |file| read(&format!("/rps/{file}"), "", agent, "").unwrap().mac;
        assert_eq!(mac("805ec0000002.boot"), None);
        assert_eq!(
            mac("y000000000000.boot").unwrap().to_string(),
            "805ec0000001"
        );
        assert_eq!(
            mac("805ec0000001.boot").unwrap().to_string(),
            "805ec0000001"
        );
    }

    #[test]
    fn a_mac_is_found_where_vendors_put_it_and_nowhere_else() {
        for (name, mac) in [
            ("805EC0000001.boot", "805ec0000001"),
            ("cfg000b82aabbcc.xml", "000b82aabbcc"),
            ("cfg000b82aabbcc", "000b82aabbcc"),
            ("0004f2aabbcc-directory.xml", "0004f2aabbcc"),
            ("snomD785-000413AABBCC.htm", "000413aabbcc"),
            ("SEP0123456789AB.cnf.xml", "0123456789ab"),
            ("phone0004f2aabbcc.cfg", "0004f2aabbcc"),
            ("y000000000028.cfg", ""),
            ("000000000000.cfg", ""),
            ("805ec00000012.cfg", ""),
            ("805ec000000.cfg", ""),
            ("ü805ec0000001.cfg", ""),
            ("CCQ224502A7", ""),
        ] {
            let found = mac_in_name(name).map(|m| m.to_string()).unwrap_or_default();
            assert_eq!(found, mac, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_request_panics(path in "/rps[\\PC%]{0,40}", query in "\\PC{0,40}", agent in "\\PC{0,60}") {
            let _ = read(&path, &query, &agent, &agent);
        }
    }
}
