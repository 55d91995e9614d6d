//! The admin API as an admin's script uses it: JSON in, JSON out, and a test that fails with what
//! was seen where a call does not succeed.

use dialtone_kit::http::{self, Request, Response};
use dialtone_kit::workerd::Workerd;
use serde_json::Value;

/// An admin of one Dialtone.
#[derive(Clone, Debug)]
pub struct Admin {
    root: String,
    token: String,
}

impl Admin {
    /// The one who has the Worker's token.
    pub fn of(worker: &Workerd) -> Self {
        Self {
            root: format!("{}/api/v1/", worker.url()),
            token: worker.admin_token().to_owned(),
        }
    }

    /// A call with the token in it, still to be sent. `path` comes after `/api/v1/`.
    pub fn request(&self, method: &str, path: &str) -> Request {
        http::request(method, &format!("{}{path}", self.root)).bearer(&self.token)
    }

    /// The answer to a call, whatever it is.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let request = self.request(method, path);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        request.send().unwrap()
    }

    #[track_caller]
    fn succeed(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.call(method, path, body);
        assert!(
            (200..300).contains(&answer.status),
            "{method} {path}: {} {}",
            answer.status,
            answer.text()
        );
        if answer.body.is_empty() {
            return Value::Null;
        }
        answer.json().unwrap()
    }

    /// Reads.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.succeed("GET", path, None)
    }

    /// Creates or replaces a record.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Value {
        self.succeed("PUT", path, Some(body))
    }

    /// Changes a record.
    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Value {
        self.succeed("PATCH", path, Some(body))
    }

    /// Does something with a device.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.succeed("POST", path, Some(body))
    }

    /// Deletes a record.
    #[track_caller]
    pub fn delete(&self, path: &str) {
        self.succeed("DELETE", path, None);
    }
}
