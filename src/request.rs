//! A request as the core sees it, and the answers that more than one place gives.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::keys::{KeyId, hex};
use crate::mac::Mac;
use crate::record::device::Whereabouts;
use crate::step2_redirect::{Source, Why};
use crate::step3_boot_request::Part;
use crate::text::Id;

/// The longest request body that is read: a device with six full expansion modules is 40 KB.
pub const MAX_BODY_BYTES: usize = 1_048_576;

/// The headers that the core reads. The shell hands over these and no others, since each costs a
/// call across the wasm boundary.
pub const HEADERS: [&str; 7] = [
    "accept",
    "authorization",
    "cf-access-jwt-assertion",
    "content-type",
    "if-match",
    "if-none-match",
    "user-agent",
];

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it is called in log lines and in answers of the admin API: see [`request_id`].
    pub id: String,
    /// Its method.
    pub method: Method,
    /// True for `https:`.
    pub https: bool,
    /// Host and port as the caller wrote them.
    pub host: String,
    /// The path, percent-encoded.
    pub path: String,
    /// What follows the `?`, or nothing.
    pub query: String,
    /// Those of [`HEADERS`] that it has.
    pub headers: HeaderMap,
    /// The body, at most [`MAX_BODY_BYTES`].
    pub body: Vec<u8>,
    /// Where it came from.
    pub source: Source,
}

/// An answer, and what is to be recorded once it is on its way.
#[derive(Debug)]
pub struct Answer {
    /// The answer.
    pub response: Response<Vec<u8>>,
    /// What is written afterwards.
    pub afterwards: Option<Afterwards>,
}

/// What is written down after a caller has its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Afterwards {
    /// A phone was told where its files are.
    Redirected {
        /// The phone.
        mac: Mac,
        /// [`Source::neighbourhood`] of the caller, if it claimed a window with that.
        claimed_by: Option<String>,
    },
    /// It fetched a file for the first time.
    Fetched(Fetch),
    /// It came from a place that is new for it, and was told to come back later.
    Moved {
        /// The phone.
        mac: Mac,
        /// The place.
        place: Whereabouts,
    },
    /// Somebody was refused who asked for a device that there is: at the RPS, or for a file with a token
    /// that we signed.
    Refused {
        /// The device.
        mac: Mac,
        /// Whose it is.
        tenant: Id,
        /// Why.
        why: Why,
        /// [`Source::neighbourhood`] of the caller.
        source: String,
    },
    /// At a phone a user or a PIN was wrong.
    WrongPin {
        /// The phone.
        mac: Mac,
        /// Whose it is.
        tenant: Id,
        /// The user, if there is one who could log in there.
        account: Option<Id>,
        /// [`Source::neighbourhood`] of the caller.
        source: String,
        /// Whether no PIN of the user is looked at for a while.
        locked: bool,
        /// Whether none is at the phone.
        held: bool,
    },
    /// Too many asked for MACs of a range that nobody has.
    Scanned {
        /// [`Mac::range`].
        range: String,
    },
    /// A token of the admin API was used, and not noted to be within the hour.
    TokenUsed(Id),
}

/// A fetch of a generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The phone.
    pub mac: Mac,
    /// The generation of the token that it showed.
    pub token: u32,
    /// The key that signed that token.
    pub key: KeyId,
    /// What it fetched.
    pub part: Part,
    /// The version of its files.
    pub version: u64,
    /// [`Source::neighbourhood`] of the phone.
    pub source: String,
    /// Where it came from, if that is to be kept.
    pub place: Option<Whereabouts>,
}

impl From<Response<Vec<u8>>> for Answer {
    fn from(response: Response<Vec<u8>>) -> Self {
        Self {
            response,
            afterwards: None,
        }
    }
}

impl Request {
    /// A header's text, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Whether the host is this machine itself.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        // The port goes; the brackets of an IPv6 address stay until the address is read.
        let name = match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => &self.host,
        };
        is_loopback_host(name)
    }

    /// Whether a secret may go over this connection without the tenant's leave.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.https || self.is_loopback()
    }

    /// The scheme and host of every URL that is handed out: `PUBLIC_URL`, or the request's own.
    /// Outside of loopback hosts always https.
    #[must_use]
    pub fn origin(&self, public_url: Option<&str>) -> String {
        if let Some(url) = public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.is_loopback() && !self.https {
            "http"
        } else {
            "https"
        };
        format!("{scheme}://{}", self.host)
    }
}

/// Whether a host name or bracketed address is of this machine (RFC 6761, 6.3; RFC 1122, 3.2.1.3).
#[must_use]
pub fn is_loopback_host(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.to_ascii_lowercase().ends_with(".localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// An answer with a body, its exact length, and the words that keep caches and proxies out.
#[must_use]
pub fn respond(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("private, no-store, no-transform"),
    );
    response
}

/// What a request is called: the platform's name of it (`cf-ray`, a hexadecimal number and the place
/// that answers), so that it is found in Cloudflare's own logs as well; else those random digits.
#[must_use]
pub fn request_id(ray: Option<&str>, random: [u8; 8]) -> String {
    let fits = |ray: &&str| {
        (8..=40).contains(&ray.len()) && ray.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    ray.filter(fits)
        .map_or_else(|| hex(&random), ToOwned::to_owned)
}

/// The one refusal that phones get: the same bytes and headers, whatever the reason.
#[must_use]
pub fn refuse() -> Response<Vec<u8>> {
    respond(
        StatusCode::NOT_FOUND,
        "text/plain; charset=utf-8",
        b"not found\n".to_vec(),
    )
}

/// Our own fault: a phone keeps what it has and asks again. The wait is spread by `spread`, so
/// that an office does not come back all at once.
#[must_use]
pub fn unavailable(spread: u8) -> Response<Vec<u8>> {
    let mut response = respond(
        StatusCode::SERVICE_UNAVAILABLE,
        "text/plain; charset=utf-8",
        b"try again later\n".to_vec(),
    );
    let seconds = 30 + u16::from(spread) % 60;
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts_are_told_from_the_rest() {
        for host in [
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "128.0.0.1",
            "10.0.0.1",
            "",
            "[::2]",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
