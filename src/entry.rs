//! The first look at a request: is it a phone's, or an admin's?

use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::admin;
use crate::admin::problem::{Kind, Problem};
use crate::cached::Cached;
use crate::ports::World;
use crate::request::{Answer, MAX_BODY_BYTES, Request, is_loopback_host, refuse, respond};
use crate::serve::{self, Place};
use crate::text::WebUrl;

/// Answers any request.
pub async fn answer<W: World>(world: &W, place: &Place<'_>, request: &Request) -> Answer {
    let world = &Cached::new(world);
    let path = request.path.as_str();
    let under = |root: &str| {
        path.strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut answer = if under("/rps") || under("/p") {
        serve::phone(world, place, request).await
    } else if under("/api/v1") {
        let mut answer = admin::answer(world, place, request).await;
        guard(answer.response.headers_mut(), &request.id);
        answer
    } else {
        refuse().into()
    };
    if request.method == Method::HEAD {
        // The headers of a GET, its Content-Length among them, and no body (RFC 9110, 9.3.2).
        answer.response.body_mut().clear();
    }
    answer
}

/// The header of an answer that says what its request is called in the logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every answer of the admin API says: what its request is called, and what a browser must not do with an answer of the admin API: guess its type, run or frame anything
/// of it, or tell another site its URL. No header lets another site read it (Fetch, "CORS protocol").
fn guard(headers: &mut HeaderMap, request: &str) {
    if let Ok(request) = HeaderValue::from_str(request) {
        headers.insert(REQUEST_ID, request);
    }
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The answer to a request whose body is longer than anybody may send.
#[must_use]
pub fn too_long(path: &str, request: &str) -> Response<Vec<u8>> {
    let detail = format!("a body may have {MAX_BODY_BYTES} bytes");
    if path.starts_with("/api/") {
        let mut response = Problem::new(Kind::TooLarge, detail).respond_to(request);
        guard(response.headers_mut(), request);
        return response;
    }
    let text = format!("{detail}\n").into_bytes();
    respond(
        StatusCode::PAYLOAD_TOO_LARGE,
        "text/plain; charset=utf-8",
        text,
    )
}

/// Whether `PUBLIC_URL` is what URLs can begin with: a scheme and a host, https unless the host is
/// this machine itself.
#[must_use]
pub fn is_origin(url: &str) -> bool {
    let Ok(url) = WebUrl::try_from(url) else {
        return false;
    };
    let bare = url.as_str().trim_end_matches('/');
    let host = bare.split_once("://").map_or("", |(_, host)| host);
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let plain = !host.contains(['/', '?']);
    plain && (url.is_https() || is_loopback_host(host) || is_loopback_host(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_a_scheme_and_a_host() {
        for fine in [
            "https://prov.example.com",
            "https://prov.example.com/",
            "https://prov.example.com:8443",
            "http://127.0.0.1:8787",
            "http://localhost",
        ] {
            assert!(is_origin(fine), "{fine}");
        }
        for wrong in [
            "prov.example.com",
            "http://prov.example.com",
            "https://prov.example.com/x",
            "https://prov.example.com/?x",
            "https://a\"b",
            "",
        ] {
            assert!(!is_origin(wrong), "{wrong}");
        }
    }
}
