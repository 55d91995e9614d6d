//! The document of the admin API: `OpenAPI` 3.1, made of the types that the API reads and writes, and of its
//! table of routes. It is made natively and kept as `assets/openapi.json`, which the Worker serves as a file.
//!
//! In: [`ROUTES`], what each route takes and answers ([`operations`]), and the types' own descriptions.
//! Out: [`document`]. What no type says, which problems a route can end in above all, stands in
//! [`operations`], and `tests/native/openapi.rs` holds every answer of the whole ring against it.

pub mod operations;
pub mod schemas;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::admin::problem;
use crate::admin::route::{ROUTES, Route, Scope};
use crate::record::token::Role;
use operations::{Answered, Operation, Taken};
use schemas::Schemas;

/// The version of `OpenAPI` that the document is written in.
pub const OPENAPI: &str = "3.1.1";

/// What a type's documentation says, for people who do not read the code: each paragraph in one line,
/// and without links into the code.
#[must_use]
pub fn sentences(doc: &str) -> String {
    let paragraphs = doc.split("\n\n").flat_map(|part| part.split("\n \n"));
    let paragraphs = paragraphs.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let text = paragraphs
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n");
    // `[`crate::text::Id`]` is of use in the code only: what is left of it is the last name.
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, link)) = rest.split_once("[`") {
        plain.push_str(before);
        let Some((target, after)) = link.split_once("`]") else {
            plain.push_str("[`");
            rest = link;
            continue;
        };
        let name = target.rsplit("::").next().unwrap_or(target);
        plain.push('`');
        plain.push_str(name);
        plain.push('`');
        // The target of a link that has one.
        rest = match after
            .strip_prefix('(')
            .and_then(|after| after.split_once(')'))
        {
            Some((_, after)) => after,
            None => after,
        };
    }
    plain.push_str(rest);
    plain
}

/// The whole document, without examples of answers: those are what the API answers in a test.
#[must_use]
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut answers = BTreeMap::new();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let Some(operation) = operations::of(route) else {
            continue;
        };
        let path = format!("/{}", route.path);
        let shown = shown(route, &operation, &mut schemas, &mut answers);
        let methods = paths.entry(path.clone()).or_insert_with(|| {
            let given: Vec<Value> = operations::given(route.path)
                .into_iter()
                .map(|name| {
                    let (schema, text) = operations::described(name);
                    json!({
                        "name": name, "in": "path", "required": true,
                        "description": text, "schema": schema,
                    })
                })
                .collect();
            if given.is_empty() {
                json!({})
            } else {
                json!({ "parameters": given })
            }
        });
        if let Value::Object(methods) = methods {
            methods.insert(route.method.as_str().to_ascii_lowercase(), shown);
        }
    }
    let mut document = json!({
        "openapi": OPENAPI,
        "info": {
            "title": "Dialtone",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "From a phone's box to its first dial tone.",
            "description": operations::ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/api/v1", "description": "This Dialtone." }],
        "security": [{ "token": [] }, { "access": [] }],
        "tags": operations::TAGS
            .iter()
            .map(|(name, text)| json!({ "name": name, "description": text }))
            .collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`ADMIN_TOKEN`, or an API token's text.",
                },
                "access": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Cf-Access-Jwt-Assertion",
                    "description": "What Cloudflare Access adds where it stands in front of the API. \
                        Nobody sends it by hand.",
                },
            },
            "headers": {
                "ETag": {
                    "description": "The record's revision, for `If-Match`.",
                    "required": true,
                    "schema": { "type": "string", "pattern": "^\"[0-9]+\"$" },
                },
                "Retry-After": {
                    "description": "After how many seconds the same call can be made again.",
                    "required": true,
                    "schema": { "type": "string", "pattern": "^[0-9]+$" },
                },
                "WWW-Authenticate": {
                    "description": "How to say who calls.",
                    "required": true,
                    "schema": { "type": "string" },
                },
                "X-Request-Id": {
                    "description": "What the request is called, in `instance` of a problem and in the logs.",
                    "required": true,
                    "schema": { "type": "string" },
                },
                "Link": {
                    "description": "The next page, as `rel=\"next\"` (RFC 8288); absent on the last.",
                    "schema": { "type": "string" },
                },
            },
            "responses": answers,
        },
    });
    schemas.finish(&mut document);
    document
}

/// An operation as the document has it.
fn shown(
    route: &Route,
    operation: &Operation,
    schemas: &mut Schemas,
    answers: &mut BTreeMap<String, Value>,
) -> Value {
    let mut shown = Map::new();
    shown.insert("operationId".to_owned(), operation.id.into());
    shown.insert("tags".to_owned(), json!([operation.tag()]));
    shown.insert("summary".to_owned(), operation.summary.into());
    shown.insert(
        "description".to_owned(),
        format!("{}{}", operation.text, who(route)).trim().into(),
    );
    let parameters: Vec<Value> = operation
        .parameters
        .iter()
        .map(|parameter| {
            json!({
                "name": parameter.name, "in": parameter.place, "required": parameter.required,
                "description": parameter.text, "schema": parameter.schema,
            })
        })
        .collect();
    if !parameters.is_empty() {
        shown.insert("parameters".to_owned(), parameters.into());
    }
    if let Some(body) = &operation.body {
        shown.insert("requestBody".to_owned(), taken(body, schemas));
    }
    let mut responses = Map::new();
    for answer in &operation.answers {
        responses.insert(answer.status.to_string(), answered(answer, schemas));
    }
    for (status, kinds) in operations::by_status(&operation.problems(route)) {
        let name = kinds
            .iter()
            .map(|kind| kind.name())
            .collect::<Vec<_>>()
            .join(".");
        let reference = format!("#/components/responses/{name}");
        answers
            .entry(name)
            .or_insert_with(|| problems(status, &kinds, schemas));
        responses.insert(status.to_string(), json!({ "$ref": reference }));
    }
    shown.insert("responses".to_owned(), responses.into());
    shown.into()
}

/// Who may call a route, in words.
fn who(route: &Route) -> String {
    let role = match route.least {
        Role::Reader => "Every role may call it",
        Role::Operator => "Operators and owners may call it",
        Role::Owner => "Owners may call it",
    };
    let scope = match route.scope {
        Scope::Everyone => ".",
        Scope::Tenant => "; the holder of one tenant's token, for that tenant.",
        Scope::Operator => ", for all tenants only.",
    };
    format!("\n\n{role}{scope}")
}

fn taken(body: &Taken, schemas: &mut Schemas) -> Value {
    let mut content = Map::new();
    for (content_type, schema) in &body.content {
        let mut media = Map::new();
        media.insert("schema".to_owned(), (schema)(schemas));
        let examples = body
            .examples
            .iter()
            .filter(|e| e.content_type == *content_type);
        let examples: Map<String, Value> = examples
            .map(|example| {
                let shown = json!({ "summary": example.summary, "value": example.value });
                (example.name.to_owned(), shown)
            })
            .collect();
        if !examples.is_empty() {
            media.insert("examples".to_owned(), examples.into());
        }
        content.insert((*content_type).to_owned(), media.into());
    }
    json!({ "required": body.required, "content": content })
}

fn answered(answer: &Answered, schemas: &mut Schemas) -> Value {
    let mut shown = json!({ "description": answer.text });
    let content: Map<String, Value> = answer
        .content
        .iter()
        .map(|(content_type, schema)| {
            let media = json!({ "schema": (schema)(schemas) });
            ((*content_type).to_owned(), media)
        })
        .collect();
    if let Value::Object(members) = &mut shown {
        if !content.is_empty() {
            members.insert("content".to_owned(), content.into());
        }
        members.insert("headers".to_owned(), headers(&answer.headers));
    }
    shown
}

/// The answer of some kinds of problems that have the same status.
fn problems(status: u16, kinds: &[problem::Kind], schemas: &mut Schemas) -> Value {
    let words = kinds.iter().map(|kind| format!("`{}`", kind.name()));
    let words = words.collect::<Vec<_>>().join(" or ");
    let title = kinds.first().map(|kind| kind.title()).unwrap_or_default();
    let types: Vec<String> = kinds.iter().map(|kind| kind.urn()).collect();
    let schema = schemas.read::<problem::Shown<'_>>();
    let mut shown = json!({
        "description": format!("{title}: {words}."),
        "content": {
            "application/problem+json": {
                "schema": {
                    "allOf": [
                        schema,
                        { "properties": { "type": { "enum": types }, "status": { "const": status } } },
                    ],
                },
            },
        },
    });
    let own: &[&str] = match status {
        401 => &["WWW-Authenticate"],
        429 | 503 => &["Retry-After"],
        _ => &[],
    };
    if let Value::Object(members) = &mut shown {
        members.insert("headers".to_owned(), headers(own));
    }
    shown
}

/// The headers of an answer, its own and those of every answer, by their names among the document's components.
fn headers(own: &[&str]) -> Value {
    let all = own.iter().chain(&["X-Request-Id"]).map(|name| {
        let reference = json!({ "$ref": format!("#/components/headers/{name}") });
        ((*name).to_owned(), reference)
    });
    all.collect::<Map<String, Value>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_becomes_sentences() {
        for (doc, text) in [
            (" One\n two. \n", "One two."),
            (" One.\n\n Two.\n", "One.\n\nTwo."),
            (" A [`crate::text::Id`] of [`Slot`].", "A `Id` of `Slot`."),
            (" See [`X`](crate::x::X), [so](y).", "See `X`, [so](y)."),
            (" A [`torn", "A [`torn"),
        ] {
            assert_eq!(sentences(doc), text, "{doc:?}");
        }
    }
}
