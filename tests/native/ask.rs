//! Requests as phones and admins send them, and what comes back: always through
//! [`dialtone::entry::answer`], as the Worker itself does it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dialtone::request::{Answer, Request};
use dialtone::serve::Place;
use dialtone::step2_redirect::Source;
use dialtone::{afterwards, entry};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::conforms;
use crate::world::{ADMIN_TOKEN, Count, Fake, block_on};

/// The name under which Dialtone is reached, and with it every URL that it hands out.
pub const HOST: &str = "dialtone.example";
/// The scheme and host of every URL that it hands out.
pub const ORIGIN: &str = "https://dialtone.example";

/// A GET of a path and query by https from an address of its own.
pub fn get(path: &str) -> Request {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Request {
        id: "0123456789abcdef".to_owned(),
        method: Method::GET,
        https: true,
        host: HOST.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: HeaderMap::new(),
        body: Vec::new(),
        source: Source {
            address: "192.0.2.1".to_owned(),
            ..Source::default()
        },
    }
}

/// A GET of a URL that an answer gave; it must lead here.
pub fn follow(url: &str) -> Request {
    let path = url
        .strip_prefix(ORIGIN)
        .unwrap_or_else(|| panic!("{url} leads away"));
    assert!(path.starts_with('/'), "{url}");
    get(path)
}

/// Changes to a request, one after another.
pub trait Told: Sized {
    fn with(self, name: &'static str, value: &str) -> Self;
    fn from(self, address: &str) -> Self;
    fn by(self, method: Method) -> Self;
    fn plain(self) -> Self;
}

impl Told for Request {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        let value =
            HeaderValue::from_str(value).unwrap_or_else(|_| panic!("{value:?} is no header"));
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    fn from(mut self, address: &str) -> Self {
        address.clone_into(&mut self.source.address);
        self
    }

    fn by(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    fn plain(mut self) -> Self {
        self.https = false;
        self
    }
}

/// A Dialtone whose variables say nothing.
pub const PLACE: Place<'_> = Place {
    public_url: None,
    access: None,
};

/// What the caller waits for; what is written after it has its answer is not yet.
pub fn ask(fake: &Fake, request: &Request) -> Answer {
    let answer = block_on(entry::answer(fake, &PLACE, request));
    conforms::check(request, &answer.response);
    answer
}

/// A request from end to end, with what is written afterwards.
pub fn fetch(fake: &Fake, request: &Request) -> Response<Vec<u8>> {
    fetch_at(fake, &PLACE, request)
}

/// The same where the variables say something.
pub fn fetch_at(fake: &Fake, place: &Place<'_>, request: &Request) -> Response<Vec<u8>> {
    let Answer {
        response,
        afterwards,
    } = block_on(entry::answer(fake, place, request));
    if let Some(afterwards) = afterwards {
        block_on(afterwards::write(fake, afterwards));
    }
    conforms::check(request, &response);
    response
}

/// What a request costs its caller: the answer, and the operations of KV and R2 until then.
pub fn cost(fake: &Fake, request: &Request) -> (Response<Vec<u8>>, Count, Count) {
    fake.kv.take_count();
    fake.r2.take_count();
    let answer = ask(fake, request);
    (answer.response, fake.kv.take_count(), fake.r2.take_count())
}

/// The body of a 200.
pub fn text(response: &Response<Vec<u8>>) -> String {
    assert_eq!(
        response.status(),
        StatusCode::OK,
        "{}",
        String::from_utf8_lossy(response.body())
    );
    String::from_utf8(response.body().clone()).unwrap_or_else(|error| panic!("{error}"))
}

/// The body of a 200 that is JSON.
pub fn json_of(response: &Response<Vec<u8>>) -> Value {
    serde_json::from_str(&text(response)).unwrap_or_else(|error| panic!("{error}"))
}

/// A header's text, or nothing.
pub fn header<'a>(response: &'a Response<Vec<u8>>, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// A call of the admin API below `/api/v1/`.
pub fn call(fake: &Fake, method: Method, path: &str, body: &Value) -> Response<Vec<u8>> {
    fetch(fake, &call_by(ADMIN_TOKEN, method, path, body))
}

/// The request of whoever shows `token` for a call of the admin API below `/api/v1/`.
pub fn call_by(token: &str, method: Method, path: &str, body: &Value) -> Request {
    let mut request = get(&format!("/api/v1/{path}"))
        .by(method)
        .with("authorization", &format!("Bearer {token}"))
        .with("content-type", "application/json");
    if !body.is_null() {
        request.body = body.to_string().into_bytes();
    }
    request
}

fn succeeded(response: &Response<Vec<u8>>, what: &str) -> Value {
    let body = String::from_utf8_lossy(response.body());
    assert!(
        response.status().is_success(),
        "{what}: {} {body}",
        response.status()
    );
    serde_json::from_str(&body).unwrap_or(Value::Null)
}

/// The cursor of a list's page that ends with a record.
pub fn cursor(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// Creates or replaces a record, such as `accounts/acme-1001`.
pub fn put(fake: &Fake, path: &str, body: &Value) -> Value {
    succeeded(&call(fake, Method::PUT, path, body), path)
}

/// Changes a record.
pub fn patch(fake: &Fake, path: &str, body: &Value) -> Value {
    succeeded(&call(fake, Method::PATCH, path, body), path)
}

/// Deletes a record.
pub fn delete(fake: &Fake, path: &str) {
    succeeded(&call(fake, Method::DELETE, path, &Value::Null), path);
}

/// `arm`, `rotate` or `revoke`.
pub fn act(fake: &Fake, mac: &str, action: &str) -> Value {
    succeeded(
        &call(
            fake,
            Method::POST,
            &format!("devices/{mac}/{action}"),
            &json!({}),
        ),
        action,
    )
}
