//! Holds calls of the admin API against its document: every answer in this whole ring, and every body that the
//! API took. What the document does not know, a member, a status or a kind of problem, fails the test that met it.

use std::sync::{LazyLock, OnceLock};

use dialtone::openapi;
use dialtone::request::Request;
use http::{Method, Response};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::ask::header;

/// The document, without examples.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);

static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let mut operations = Vec::new();
    for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if method != "parameters" {
                operations.push(Operation::of(path, method, operation));
            }
        }
    }
    // As the API has it: of two paths that match, the one without braces goes first.
    operations.sort_by_key(|operation| operation.path.contains('{'));
    operations
});

/// Members that answers have and no record: a caller may send back what it got.
const READ_ONLY: [&str; 10] = [
    "id",
    "mac",
    "revision",
    "updated_at",
    "visible_by",
    "first_access",
    "provisioning_url",
    "warnings",
    "token",
    "last_used_at",
];

/// An operation of the document.
struct Operation {
    path: String,
    method: Method,
    /// What may stand in its query.
    parameters: Vec<String>,
    /// Bodies, by content type.
    bodies: Vec<(String, Schema)>,
    answers: Vec<Answer>,
}

struct Answer {
    status: String,
    contents: Vec<(String, Schema)>,
    /// The headers that it must have.
    headers: Vec<String>,
}

/// A schema, compiled when it is first wanted.
struct Schema {
    text: Value,
    closed: bool,
    compiled: OnceLock<Validator>,
}

impl Schema {
    fn new(schema: &Value, closed: bool) -> Self {
        Self {
            text: schema.clone(),
            closed,
            compiled: OnceLock::new(),
        }
    }

    fn errors(&self, value: &Value) -> Vec<String> {
        let validator = self.compiled.get_or_init(|| {
            let mut schema = json!({
                "$ref": "#/wanted",
                "wanted": self.text,
                "components": { "schemas": DOCUMENT["components"]["schemas"] },
            });
            if self.closed {
                close(&mut schema["wanted"], false);
                for (_, schema) in schema["components"]["schemas"].as_object_mut().unwrap() {
                    close(schema, false);
                }
            }
            jsonschema::draft202012::options()
                .build(&schema)
                .unwrap_or_else(|error| panic!("{error}"))
        });
        let errors = validator.iter_errors(value);
        errors
            .map(|error| format!("{} {error}", error.instance_path()))
            .collect()
    }
}

/// Lets a schema take no member that it does not name: what a client may not care about is a mistake here.
fn close(schema: &mut Value, combined: bool) {
    const COMBINE: [&str; 3] = ["allOf", "anyOf", "oneOf"];
    let Value::Object(members) = schema else {
        return;
    };
    let names = |name: &str| members.contains_key(name);
    let any = names("properties") || COMBINE.iter().any(|name| names(name));
    if any && !combined && !names("additionalProperties") {
        members.insert("unevaluatedProperties".to_owned(), false.into());
    }
    for name in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = members.get_mut(name) {
            for property in properties.values_mut() {
                close(property, false);
            }
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = members.get_mut(name) {
            close(inner, false);
        }
    }
    for name in COMBINE {
        if let Some(Value::Array(parts)) = members.get_mut(name) {
            for part in parts {
                close(part, true);
            }
        }
    }
}

/// What a reference in the document leads to, or the value itself.
fn led(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(target) => DOCUMENT
            .pointer(target.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{target} leads nowhere")),
        None => value,
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn schemas(content: &Value, closed: bool) -> Vec<(String, Schema)> {
    let schema = |media: &Value| Schema::new(&media["schema"], closed);
    members(content)
        .map(|(name, media)| (name.clone(), schema(media)))
        .collect()
}

impl Operation {
    fn of(path: &str, method: &str, operation: &Value) -> Self {
        let answers = members(&operation["responses"]).map(|(status, answer)| {
            let answer = led(answer);
            let wanted = members(&answer["headers"]).filter(|(_, h)| led(h)["required"] == true);
            Answer {
                status: status.clone(),
                contents: schemas(&answer["content"], true),
                headers: wanted.map(|(name, _)| name.to_lowercase()).collect(),
            }
        });
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let in_query = parameters.filter(|parameter| parameter["in"] == "query");
        Self {
            parameters: in_query
                .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                .collect(),
            path: path.trim_start_matches('/').to_owned(),
            method: method.to_uppercase().parse().unwrap(),
            bodies: schemas(&operation["requestBody"]["content"], false),
            answers: answers.collect(),
        }
    }

    fn is_at(&self, path: &str) -> bool {
        let (mut wanted, mut there) = (self.path.split('/'), path.split('/'));
        loop {
            match (wanted.next(), there.next()) {
                (None, None) => return true,
                (Some(w), Some(t)) if w.starts_with('{') || w == t => {}
                _ => return false,
            }
        }
    }
}

/// Fails if the document does not know this answer, or if it would not have let the body through that the API took.
pub fn check(request: &Request, response: &Response<Vec<u8>>) {
    let Some(path) = request.path.strip_prefix("/api/v1/") else {
        return;
    };
    let status = response.status();
    let at = || OPERATIONS.iter().filter(|operation| operation.is_at(path));
    let Some(first) = at().next() else {
        return;
    };
    let wanted = match &request.method {
        &Method::HEAD => &Method::GET,
        other => other,
    };
    let operation = at().find(|op| op.path == first.path && op.method == *wanted);
    let Some(operation) = operation else {
        assert!(
            !status.is_success(),
            "{wanted} {path}: is not in the document"
        );
        return;
    };
    let body = String::from_utf8_lossy(response.body());
    let what = format!("{wanted} {path} answered {status} {body}");
    let mut answers = operation.answers.iter();
    let Some(answer) = answers.find(|answer| answer.status == status.as_str()) else {
        panic!("{what}: the document has no such status");
    };
    for name in &answer.headers {
        assert!(response.headers().contains_key(name), "{what}: no {name}");
    }
    if request.method != Method::HEAD {
        let essence = header(response, "content-type")
            .split(';')
            .next()
            .unwrap_or_default();
        let content = answer.contents.iter().find(|(name, _)| name == essence);
        match content {
            None => assert!(
                answer.contents.is_empty() && body.is_empty(),
                "{what}: {essence}"
            ),
            Some((name, schema)) => {
                let value = if name == "application/json" || name.ends_with("+json") {
                    serde_json::from_str(&body).unwrap()
                } else {
                    Value::String(body.clone().into_owned())
                };
                let errors = schema.errors(&value);
                assert!(errors.is_empty(), "{what}: {errors:#?}");
            }
        }
    }
    if status.is_success() {
        let pairs = request.query.split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let name = pair.split('=').next().unwrap_or_default();
            let known = operation.parameters.iter().any(|known| known == name);
            assert!(known, "{what}: the document has no parameter {name}");
        }
        took(operation, request, &what);
    }
}

/// What the API took the document must take too.
fn took(operation: &Operation, request: &Request, what: &str) {
    let Ok(Value::Object(mut body)) = serde_json::from_slice::<Value>(&request.body) else {
        return;
    };
    let Some((_, schema)) = operation
        .bodies
        .iter()
        .find(|(name, _)| name == "application/json")
    else {
        return;
    };
    let is_record = matches!(request.method, Method::PUT | Method::PATCH)
        && !operation.path.ends_with("session");
    if is_record {
        let of_profile = operation.path.starts_with("profiles/");
        let is_read_only =
            |name: &str| READ_ONLY.contains(&name) || of_profile && name == "rollout";
        body.retain(|name, _| !is_read_only(name));
    }
    let errors = schema.errors(&Value::Object(body));
    assert!(
        errors.is_empty(),
        "{what} to {}: {errors:#?}",
        String::from_utf8_lossy(&request.body)
    );
}

/// Whether a value is of a schema of the document, by its name.
pub fn is_of(name: &str, value: &Value) -> bool {
    let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
    Schema::new(&reference, false).errors(value).is_empty()
}

/// The members of an object of the document.
pub fn object<'a>(value: &'a mut Value, what: &str) -> &'a mut Map<String, Value> {
    value
        .as_object_mut()
        .unwrap_or_else(|| panic!("{what} is no object"))
}
