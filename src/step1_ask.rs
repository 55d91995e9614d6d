//! **Step 1, power on.** A phone asks the RPS "where are my setup files?".
//!
//! In: a request's path, query and headers. Out: an [`Ask`], with everything that the caller says
//! of itself. Nothing is believed here and no store is read.

use percent_encoding::percent_decode_str;

use crate::ident::{self, Agent};
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
    /// The serial number that it gives: in the path, else in the query, else in the User-Agent of
    /// a vendor that puts it there.
    pub serial: Option<String>,
    /// Whether it gives two serial numbers that differ: then neither proves anything.
    pub disputed: bool,
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
        return Some(look_up(query, user_agent, accept));
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
    let asked = Query::read(query);
    let agent = ident::agent(user_agent);
    let (serial, disputed) = one_serial([serial.as_deref(), asked.serial.as_deref()], &agent);
    Some(Ask {
        // A phone that asks for another phone's file is not the phone it says it is.
        mac: one_mac([ident::file(file).mac, asked.mac, agent.mac]),
        serial,
        disputed,
        key,
        form: Form::File(file.clone()),
    })
}

/// The MAC that all who name one agree on.
fn one_mac(said: [Option<Mac>; 3]) -> Option<Mac> {
    let mut said = said.into_iter().flatten();
    let first = said.next()?;
    said.all(|mac| mac == first).then_some(first)
}

/// The serial that goes first, and whether another one contradicts it.
fn one_serial(said: [Option<&str>; 2], agent: &Agent<'_>) -> (Option<String>, bool) {
    let mut said = said.into_iter().chain([agent.own_serial()]).flatten();
    let first = said.next();
    let same =
        |other: &str| first.is_some_and(|first| first.trim().eq_ignore_ascii_case(other.trim()));
    let disputed = !said.all(same);
    (first.map(str::to_owned), disputed)
}

/// What a query says.
#[derive(Default)]
struct Query {
    mac: Option<Mac>,
    serial: Option<String>,
    found: bool,
}

impl Query {
    fn read(query: &str) -> Self {
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "mac" => read.mac = value.trim().parse::<Mac>().ok(),
                "serial" => read.serial = Some(value.into_owned()),
                "redirect" => read.found = value == "302",
                // `model` and `vendor` are in the record; what a caller says of them proves nothing.
                _ => {}
            }
        }
        read
    }
}

fn look_up(query: &str, user_agent: &str, accept: &str) -> Ask {
    let asked = Query::read(query);
    let agent = ident::agent(user_agent);
    let (serial, disputed) = one_serial([asked.serial.as_deref(), None], &agent);
    // A look-up without a MAC is refused like any other that leads nowhere.
    Ask {
        mac: asked
            .mac
            .and_then(|mac| one_mac([Some(mac), agent.mac, None])),
        serial,
        disputed,
        key: None,
        form: if asked.found {
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
    /// to case. Of a caller that gives two, none is.
    #[must_use]
    pub fn gives_serial(&self, serial: &Serial) -> bool {
        let given = self.serial.as_ref().filter(|_| !self.disputed);
        given.is_some_and(|given| {
            crate::keys::same_secret(
                &given.trim().to_ascii_uppercase(),
                &serial.as_str().to_ascii_uppercase(),
            )
        })
    }
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
    fn the_query_goes_before_the_user_agent_and_the_path_before_both() {
        let agent = "Yealink SIP-T46U 108.86.0.20 80:5e:c0:00:00:01";
        let mac = |path: &str, query: &str| {
            let ask = read(path, query, agent, "").unwrap();
            ask.mac.map(|mac| mac.to_string()).unwrap_or_default()
        };
        let (one, two) = ("mac=805ec0000001", "mac=805ec0000002");
        assert_eq!(mac("/rps/boot.cfg", one), "805ec0000001");
        assert_eq!(mac("/rps/boot.cfg", two), "");
        assert_eq!(mac("/rps/805ec0000001.cfg", one), "805ec0000001");
        assert_eq!(mac("/rps/805ec0000001.cfg", two), "");
        assert_eq!(mac("/rps", one), "805ec0000001");
        assert_eq!(mac("/rps", two), "");
        // A look-up that names no phone is no look-up.
        assert_eq!(mac("/rps", ""), "");
    }

    #[test]
    fn the_serial_may_come_from_the_user_agent_and_two_that_differ_prove_nothing() {
        let cisco = "Cisco/SPA508G-7.4.8a (0002FDFF2103)(CBT141400UK)";
        let said = |path: &str, query: &str, agent: &str| {
            let ask = read(path, query, agent, "").unwrap();
            (ask.serial.unwrap_or_default(), ask.disputed)
        };
        let (file, sn) = (
            "/rps/0002fdff2103.cfg",
            "/rps/sn/CBT141400UK/0002fdff2103.cfg",
        );
        let is = |serial: &str, disputed| (serial.to_owned(), disputed);
        assert_eq!(said(file, "", cisco), is("CBT141400UK", false));
        assert_eq!(said(sn, "", cisco), is("CBT141400UK", false));
        assert_eq!(
            said(file, "serial=cbt141400uk", cisco),
            is("cbt141400uk", false)
        );
        assert_eq!(said(file, "serial=CBT1", cisco), is("CBT1", true));
        assert_eq!(said(sn, "serial=CBT1", ""), is("CBT141400UK", true));
        assert_eq!(
            said("/rps", "mac=0002fdff2103", cisco),
            is("CBT141400UK", false)
        );
        assert_eq!(said("/rps/sn/X/0002fdff2103.cfg", "", cisco), is("X", true));
        // Poly writes its MAC there, which is no serial number.
        let poly = "FileTransport PolycomVVX-VVX_410-UA/5.9.5.0614 (SN:0004f2000001)";
        assert_eq!(said("/rps/0004f2000001.cfg", "", poly), is("", false));
        assert_eq!(said("/rps/sn/X/0004f2000001.cfg", "", poly), is("X", false));
    }

    proptest::proptest! {
        #[test]
        fn no_request_panics(path in "/rps[\\PC%]{0,40}", query in "\\PC{0,40}", agent in "\\PC{0,60}") {
            let _ = read(&path, &query, &agent, &agent);
        }
    }
}
