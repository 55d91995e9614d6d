//! HTTP/1.1 as a phone or an admin's script speaks it: no redirect is followed, no cookie is kept,
//! no encoding is asked for, and every status is an answer and not an error.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{self, HeaderMap};

/// Longer than anything the Worker may take; a test that waits this long has found a hang.
const LIMIT: Duration = Duration::from_mins(1);

/// A request, built up and then sent.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    builder: http::request::Builder,
    body: Vec<u8>,
    limit: Duration,
}

/// An answer with any status.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers; those that came twice stand twice.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Vec<u8>,
}

/// Begins a request with any method.
pub fn request(method: &str, url: &str) -> Request {
    Request {
        builder: http::Request::builder().method(method).uri(url),
        body: Vec::new(),
        limit: LIMIT,
    }
}

/// Begins a GET.
pub fn get(url: &str) -> Request {
    request("GET", url)
}

/// Begins a HEAD.
pub fn head(url: &str) -> Request {
    request("HEAD", url)
}

/// Begins a POST.
pub fn post(url: &str) -> Request {
    request("POST", url)
}

/// Begins a PUT.
pub fn put(url: &str) -> Request {
    request("PUT", url)
}

/// Begins a PATCH.
pub fn patch(url: &str) -> Request {
    request("PATCH", url)
}

/// Begins a DELETE.
pub fn delete(url: &str) -> Request {
    request("DELETE", url)
}

impl Request {
    /// Adds a header. A wrong name or value shows when the request is sent.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    /// Adds a bearer token.
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Says who asks; without this the header is absent.
    pub fn user_agent(self, value: &str) -> Self {
        self.header("User-Agent", value)
    }

    /// Makes the request come from that address: the local simulator believes a `CF-Connecting-IP`
    /// that is sent, where Cloudflare's edge would overwrite it.
    pub fn source(self, address: IpAddr) -> Self {
        self.header("CF-Connecting-IP", &address.to_string())
    }

    /// Gives the whole `request.cf` (country, client certificate and so on): the local simulator
    /// takes it from this header, and Cloudflare's edge ignores the header.
    ///
    /// # Panics
    /// If the value is no JSON object, which is the test's mistake.
    pub fn cf(self, cf: &serde_json::Value) -> Self {
        let mut cf = cf.clone();
        let object = cf.as_object_mut().expect("a JSON object");
        // Without it the simulator compresses the answer, whatever the request accepts.
        object
            .entry("clientAcceptEncoding")
            .or_insert_with(|| "".into());
        self.header("MF-CF-Blob", &cf.to_string())
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to JSON, and says so in `Content-Type`.
    ///
    /// # Panics
    /// If the value cannot be written as JSON, which is the test's mistake.
    pub fn json(self, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("a value that JSON can hold");
        self.header("Content-Type", "application/json").body(body)
    }

    /// Gives up sooner or later than after a minute.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sends the request and reads the whole answer.
    ///
    /// # Errors
    /// If there is no answer: a wrong URL, nobody there, a broken connection, the time is over.
    pub fn send(self) -> Result<Response> {
        // A new connection each time, as phones do it; so nothing is shared between requests.
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .allow_non_standard_methods(true)
            .user_agent("")
            .accept("")
            .timeout_global(Some(self.limit))
            .build()
            .into();
        let request = self.builder.body(self.body)?;
        let name = format!("{} {}", request.method(), request.uri());
        let has_body = !request.body().is_empty();
        let answer = if has_body {
            agent.run(request)
        } else {
            // An empty body would be announced with `Content-Length: 0`, which no phone does on GET.
            agent.run(request.map(|_| ()))
        };
        let (head, mut body) = answer
            .with_context(|| format!("no answer to {name}"))?
            .into_parts();
        let body = body
            .with_config()
            .limit(u64::MAX)
            .read_to_vec()
            .with_context(|| format!("half an answer to {name}"))?;
        keep(&name, &head.headers, &body);
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }
}

/// The answers of this process since [`keep_answers`]: method and URL, and all of the answer.
static KEPT: Mutex<Option<Vec<(String, String)>>> = Mutex::new(None);

/// From now on every answer is kept, to be searched for what must stand in none.
pub fn keep_answers() {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.get_or_insert_default();
}

fn keep(name: &str, headers: &HeaderMap, body: &[u8]) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = kept.as_mut() {
        let text = format!("{headers:?}\n{}", String::from_utf8_lossy(body));
        kept.push((name.to_owned(), text));
    }
}

/// Calls `with` for every answer that was kept: method and URL, and headers and body in one text.
pub fn each_answer(mut with: impl FnMut(&str, &str)) {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, text) in kept.iter().flatten() {
        with(name, text);
    }
}

impl Response {
    /// A header's value; `None` if it is absent or holds other than printable ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text; what is not UTF-8 shows as the replacement character.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// If it is no JSON, or not of this shape; the error shows the body.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not the JSON that was expected: {}", self.text()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers one request with the given bytes, and returns what was asked.
    fn ask(answer: &'static str, request: impl FnOnce(String) -> Request) -> (String, Response) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..length]).to_lowercase()
        });
        let response = request(url).send().unwrap();
        (server.join().unwrap(), response)
    }

    #[test]
    fn a_redirect_is_an_answer_and_is_not_followed() {
        let answer = "HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 2\r\n\r\nhi";
        let (_, response) = ask(answer, |url| get(&url));
        assert_eq!(response.status, 302);
        assert_eq!(response.header("location"), Some("/y"));
        assert_eq!(response.text(), "hi");
    }

    #[test]
    fn sends_only_what_it_was_told_to() {
        let answer = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
        let (asked, response) = ask(answer, |url| {
            get(&url).source("192.0.2.1".parse().unwrap()).bearer("t")
        });
        assert_eq!(response.status, 503);
        assert!(asked.contains("cf-connecting-ip: 192.0.2.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: bearer t\r\n"), "{asked}");
        for header in ["user-agent", "accept", "content-length", "cookie"] {
            assert!(!asked.contains(header), "{asked}");
        }
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_url() {
        let error = get("http://127.0.0.1:1/x").send().unwrap_err();
        assert!(
            error.to_string().contains("GET http://127.0.0.1:1/x"),
            "{error}"
        );
    }
}
