//! How the admin API says no: `application/problem+json` (RFC 9457) with a pointer to each bad field.

use http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::fault::Fault;
use crate::request::respond;

/// The kinds of problems. Their names are stable: integrators match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body is no JSON, or not of the kind that the header says.
    BadJson,
    /// The body, or a line of it, is no CSV with these columns.
    BadCsv,
    /// A parameter of the query is unknown or wrong.
    BadParameter,
    /// No token, or not the right one.
    Unauthorized,
    /// The token is good, but not for this.
    Forbidden,
    /// Plain http outside of a loopback host.
    Insecure,
    /// No such resource or route.
    NotFound,
    /// The route has no such method.
    MethodNotAllowed,
    /// The caller takes none of the types that the answer could have.
    NotAcceptable,
    /// Somebody else has it.
    Taken,
    /// Something else still refers to it.
    InUse,
    /// `If-Match` or `If-None-Match` does not hold.
    PreconditionFailed,
    /// The body is too long.
    TooLarge,
    /// The body's type is not what the route takes.
    UnsupportedMediaType,
    /// Some fields are wrong.
    Invalid,
    /// Too many of this, or the platform takes no more for now.
    TooMany,
    /// Our own fault.
    Unavailable,
}

impl Kind {
    /// Every kind, by its status (`docs/ERRORS.md`).
    pub const ALL: [Self; 17] = [
        Self::BadJson,
        Self::BadCsv,
        Self::BadParameter,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Insecure,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::Taken,
        Self::InUse,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
        Self::TooMany,
        Self::Unavailable,
    ];

    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let (_, name, _) = self.parts();
        name
    }

    /// What it is, in a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        let (.., title) = self.parts();
        title
    }

    /// The status of its answers.
    #[must_use]
    pub fn status(self) -> StatusCode {
        let (status, ..) = self.parts();
        status
    }

    /// The `type` in its answers.
    #[must_use]
    pub fn urn(self) -> String {
        format!("urn:dialtone:problem:{}", self.name())
    }

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadJson => (
                StatusCode::BAD_REQUEST,
                "bad_json",
                "The body cannot be read",
            ),
            Self::BadCsv => (StatusCode::BAD_REQUEST, "bad_csv", "The CSV cannot be read"),
            Self::BadParameter => (
                StatusCode::BAD_REQUEST,
                "bad_parameter",
                "A query parameter is wrong",
            ),
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "A valid bearer token is needed",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "The token does not allow this",
            ),
            Self::Insecure => (
                StatusCode::FORBIDDEN,
                "insecure",
                "The admin API needs https",
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "not_found",
                "There is no such resource",
            ),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "The resource has no such method",
            ),
            Self::NotAcceptable => (
                StatusCode::NOT_ACCEPTABLE,
                "not_acceptable",
                "The answer has another type",
            ),
            Self::Taken => (StatusCode::CONFLICT, "taken", "It is already taken"),
            Self::InUse => (StatusCode::CONFLICT, "in_use", "It is still in use"),
            Self::PreconditionFailed => (
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
                "It was changed in the meantime",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "The body is too long",
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body is of another type",
            ),
            Self::Invalid => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "Some fields are wrong",
            ),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too_many", "Try again later"),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Try again later",
            ),
        }
    }
}

/// One field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct FieldError {
    /// Where in the body (RFC 6901).
    pub pointer: String,
    /// What is wrong.
    pub detail: String,
}

impl FieldError {
    /// An error at a pointer.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}

/// A refusal as JSON.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Problem"))]
pub struct Shown<'a> {
    /// The kind of problem.
    r#type: String,
    /// The kind in a few words.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What it is this time.
    detail: &'a str,
    /// Names the request, as the header `X-Request-Id` and the logs do.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// The fields that are wrong: all at once.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
    allow: Option<String>,
}

impl Problem {
    /// A problem with a sentence about this occurrence of it.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            allow: None,
        }
    }

    /// Wrong fields, at least one.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{} {}", only.pointer, only.detail),
            several => format!("{} fields are wrong", several.len()),
        };
        Self {
            kind: Kind::Invalid,
            detail,
            errors,
            allow: None,
        }
    }

    /// The same with the field that it is about.
    #[must_use]
    pub fn at(mut self, pointer: &str) -> Self {
        self.errors
            .push(FieldError::new(pointer, self.detail.clone()));
        self
    }

    /// The same of a value that stands under a pointer.
    #[must_use]
    pub fn under(mut self, pointer: &str) -> Self {
        for error in &mut self.errors {
            error.pointer.insert_str(0, pointer);
        }
        match self.kind {
            Kind::Invalid => Self::invalid(self.errors),
            _ => self,
        }
    }

    /// A method that the resource does not have; `allow` lists those that it has.
    #[must_use]
    pub fn method(allow: &str) -> Self {
        Self {
            allow: Some(allow.to_owned()),
            ..Self::new(Kind::MethodNotAllowed, format!("the methods are {allow}"))
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// The members of the answer.
    #[must_use]
    pub fn shown(&self) -> Shown<'_> {
        Shown {
            r#type: self.kind.urn(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            instance: None,
            errors: &self.errors,
        }
    }

    /// The answer to a request of this name ([`crate::request::Request::id`]).
    #[must_use]
    pub fn respond_to(&self, request: &str) -> Response<Vec<u8>> {
        let status = self.status();
        let shown = Shown {
            instance: Some(format!("urn:dialtone:request:{request}")),
            ..self.shown()
        };
        // Serde can fail only on a map whose keys are no strings, and there is none.
        let bytes = serde_json::to_vec(&shown).unwrap_or_default();
        let mut response = respond(status, "application/problem+json", bytes);
        let headers = response.headers_mut();
        match self.kind {
            Kind::Unauthorized => {
                headers.insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"dialtone\""),
                );
            }
            Kind::TooMany => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
            }
            Kind::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("10"));
            }
            _ => {}
        }
        let allow = self.allow.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(allow)) = allow {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

/// Why a call did not succeed: the caller's doing, or ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The caller's.
    Problem(Problem),
    /// Ours; logged where it becomes an answer.
    Fault(Fault),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
