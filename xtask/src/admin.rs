//! Calls to the admin API of a Dialtone, here or elsewhere.

use anyhow::{Context as _, Result, bail};
use dialtone_kit::http::{self, Response};
use serde_json::Value;

/// Where a token is taken from if the command line does not name one.
pub const TOKEN_VARIABLE: &str = "DIALTONE_ADMIN_TOKEN";

/// An admin, who knows where Dialtone is and has its token.
#[derive(Clone, Debug)]
pub struct Admin {
    url: String,
    token: String,
}

impl Admin {
    /// The admin of the Dialtone at an origin, without a slash at its end.
    pub fn new(url: &str, token: &str) -> Self {
        Self {
            url: url.to_owned(),
            token: token.to_owned(),
        }
    }

    /// Sends a call whatever the answer; `path` comes after `/api/v1/`.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
        self.call_with(method, path, body, &[])
    }

    /// The same with headers.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let url = format!("{}/api/v1/{path}", self.url);
        let mut request = http::request(method, &url).bearer(&self.token);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send()
    }

    /// Sends a call that must succeed, and gives the answer's JSON; null if it has none.
    ///
    /// # Errors
    /// If there is no answer, or a refusal.
    pub fn done(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.call(method, path, body)?;
        read(method, path, &answer)
    }

    /// Creates a record, which must not have been there.
    ///
    /// # Errors
    /// If there is no answer, or a refusal.
    pub fn create(&self, path: &str, record: &Value) -> Result<Value> {
        let fresh = [("If-None-Match", "*")];
        let answer = self.call_with("PUT", path, Some(record), &fresh)?;
        read("PUT", path, &answer)
    }
}

/// The JSON of an answer that must be a success.
fn read(method: &str, path: &str, answer: &Response) -> Result<Value> {
    match answer.status {
        204 => Ok(Value::Null),
        200 | 201 => answer.json(),
        status => bail!(
            "{method} /api/v1/{path} was answered with {status}: {}",
            answer.text()
        ),
    }
}

/// A member of an answer that must be a text.
///
/// # Errors
/// If it is none.
pub fn text<'a>(answer: &'a Value, pointer: &str) -> Result<&'a str> {
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("there is no text at {pointer} in {answer}"))
}
