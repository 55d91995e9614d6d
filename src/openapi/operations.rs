//! What each route of the admin API takes and answers, as its document says it. A route that the table
//! ([`crate::admin::route::ROUTES`]) has and this does not fails `tests/native/openapi.rs`.

use std::collections::BTreeMap;

use http::Method;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};

use super::schemas::Schemas;
use crate::admin::managed::Managed;
use crate::admin::problem::Kind as Problem;
use crate::admin::route::Route;
use crate::admin::{
    account, audit, batch, device, explain, filter, models, plan, preview, resync, rollout,
    session, status, version,
};
use crate::mac::Mac;
use crate::record::account::Account;
use crate::record::device::Device;
use crate::record::pbx::{Mode, Pbx};
use crate::record::profile::Profile;
use crate::record::rule::Rule;
use crate::record::tenant::Tenant;
use crate::record::token::{Role, Token};
use crate::stage::Stage;
use crate::text::{Id, Place};
use crate::time::Timestamp;
use crate::vendor::{Objection, VendorId};

/// What the document says of the API as a whole.
pub const ABOUT: &str = "\
Provisions SIP desk phones and keeps Asterisk in line with them.

**Records** (tenants, profiles, PBXes, accounts, devices, rules, tokens) are written by `PUT`, as a whole, \
and by `PATCH`, as a merge patch (RFC 7396). What `GET` shows can be sent back: members that are for reading \
only are ignored, but for a name that is not the one in the path. An `ETag` is the record's revision; `If-Match` and \
`If-None-Match` hold a change to it. Secrets are written and never read back; one that a call leaves out, or sets to \
null, stays.

**Errors** are `application/problem+json` (RFC 9457) with a stable `type` and, where fields are wrong, a JSON pointer to \
each, all that is wrong at once. A 429 or 503 says in `Retry-After` when the same call can be made again. What belongs to another tenant than the \
caller's looks as if it were not there. `instance` names the request, as the header `X-Request-Id` of every answer does.

**Lists** come in pages: `cursor` of an answer is the parameter of the next call, and the last page has none. `HEAD` answers \
wherever `GET` does. A parameter that there is not is refused.";

/// The groups of operations, by the first word of their path.
pub const TAGS: &[(&str, &str)] = &[
    (
        "status",
        "How far the phones are, and what the last scheduled run did.",
    ),
    ("models", "The catalogue."),
    ("tenants", "Customers, and what lets their phones in."),
    ("profiles", "Settings that devices share."),
    ("pbxes", "Asterisks."),
    ("accounts", "SIP users."),
    ("devices", "Phones."),
    ("rules", "Which provisioning server phones are sent to."),
    ("audit", "What was changed, and what phones did."),
    (
        "preview",
        "What a phone would get of records that are not saved.",
    ),
    ("explain", "What would become of a phone's request."),
    ("tokens", "Who may call this API."),
];

/// The schema of something, put among the document's schemas.
pub type Of = fn(&mut Schemas) -> Value;

/// What a route takes and answers.
#[derive(Debug)]
pub struct Operation {
    /// Names it in generated clients.
    pub id: &'static str,
    /// The first word of its path.
    tag: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What else there is to know.
    pub text: &'static str,
    /// The parameters beside those of the path.
    pub parameters: Vec<Parameter>,
    /// The body, if it takes one.
    pub body: Option<Taken>,
    /// The answers that are no problems.
    pub answers: Vec<Answered>,
    /// The problems that are its own.
    problems: Vec<Problem>,
}

/// A parameter of the query, or a header.
#[derive(Debug)]
pub struct Parameter {
    /// What it is called.
    pub name: &'static str,
    /// `query` or `header`.
    pub place: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it does.
    pub text: &'static str,
    /// What it takes.
    pub schema: Value,
}

/// A body that a route takes.
#[derive(Debug)]
pub struct Taken {
    /// Whether there must be one.
    pub required: bool,
    /// What may stand in it, by its content type.
    pub content: Vec<(&'static str, Of)>,
    /// Bodies that the API takes in this order, in a Dialtone that has nothing else.
    pub examples: Vec<Example>,
}

/// A body that a route takes.
#[derive(Debug)]
pub struct Example {
    /// What it is called in the document.
    pub name: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Its content type.
    pub content_type: &'static str,
    /// It; a text if it is no JSON.
    pub value: Value,
}

/// An answer that is no problem.
#[derive(Debug)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// What it says.
    pub text: &'static str,
    /// What stands in it, by its content type.
    pub content: Vec<(&'static str, Of)>,
    /// Headers that it has, by their names among the document's components.
    pub headers: Vec<&'static str>,
}

/// JSON, in bodies and answers.
const JSON: &str = "application/json";
/// A merge patch (RFC 7396). It may be called JSON as well.
const MERGE_PATCH: &str = "application/merge-patch+json";
/// A line of JSON for each record.
const NDJSON: &str = "application/x-ndjson";
/// CSV with a header line (RFC 4180).
const CSV: &str = "text/csv";

impl Operation {
    fn new(tag: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            text: "",
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The group that it belongs to.
    #[must_use]
    pub fn tag(&self) -> &'static str {
        self.tag
    }

    fn text(mut self, text: &'static str) -> Self {
        self.text = text;
        self
    }

    fn takes(mut self, required: bool, schema: Of, examples: Vec<Example>) -> Self {
        self.body = Some(Taken {
            required,
            content: vec![(JSON, schema)],
            examples,
        });
        self
    }

    fn answers(mut self, status: u16, text: &'static str, schema: Of) -> Self {
        self.answers.push(Answered {
            status,
            text,
            content: vec![(JSON, schema)],
            headers: Vec::new(),
        });
        self
    }

    fn says_nothing(mut self, status: u16, text: &'static str) -> Self {
        self.answers.push(Answered {
            status,
            text,
            content: Vec::new(),
            headers: Vec::new(),
        });
        self
    }

    /// The answers so far have a header.
    fn with_header(mut self, name: &'static str) -> Self {
        for answer in &mut self.answers {
            answer.headers.push(name);
        }
        self
    }

    fn parameter(mut self, name: &'static str, text: &'static str, schema: Value) -> Self {
        let place = if name.starts_with("If-") {
            "header"
        } else {
            "query"
        };
        self.parameters.push(Parameter {
            name,
            place,
            required: false,
            text,
            schema,
        });
        self
    }

    /// The parameter that was described last must be there.
    fn must_be_there(mut self) -> Self {
        if let Some(parameter) = self.parameters.last_mut() {
            parameter.required = true;
        }
        self
    }

    fn ends_in(mut self, problems: &[Problem]) -> Self {
        self.problems.extend(problems);
        self
    }

    /// Every kind of problem that it can end in.
    #[must_use]
    pub fn problems(&self, route: &Route) -> Vec<Problem> {
        let mut all = vec![
            Problem::BadParameter,
            Problem::Unauthorized,
            Problem::Forbidden,
            Problem::Insecure,
            Problem::TooMany,
            Problem::Unavailable,
        ];
        // What is deleted is not shown, so that it matters nothing what a caller takes.
        if route.method != Method::DELETE {
            all.push(Problem::NotAcceptable);
        }
        let given = given(route.path);
        if given.iter().any(|name| *name != "name") {
            all.extend([Problem::NotFound, Problem::Invalid]);
        }
        if self.body.is_some() {
            all.extend([
                Problem::BadJson,
                Problem::Invalid,
                Problem::TooLarge,
                Problem::UnsupportedMediaType,
            ]);
        }
        all.extend(&self.problems);
        all
    }
}

/// The kinds of problems by their status, each once.
#[must_use]
pub fn by_status(kinds: &[Problem]) -> BTreeMap<u16, Vec<Problem>> {
    let mut by_status: BTreeMap<u16, Vec<Problem>> = BTreeMap::new();
    for kind in Problem::ALL {
        if kinds.contains(&kind) {
            by_status
                .entry(kind.status().as_u16())
                .or_default()
                .push(kind);
        }
    }
    by_status
}

/// The names of what a path has in braces.
#[must_use]
pub fn given(path: &'static str) -> Vec<&'static str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .collect()
}

/// What a name in a path stands for. Its schema stands there as a whole: viewers do not follow a reference from a path.
#[must_use]
pub fn described(name: &str) -> (Value, &'static str) {
    let mac = || Mac::json_schema(&mut SchemaGenerator::default()).to_value();
    match name {
        "mac" => (mac(), "The phone's MAC address, in any common spelling."),
        "name" => (
            json!({ "type": "string", "minLength": 1, "pattern": "^[^/]+$" }),
            "The file: `boot.cfg`, `ACC.cfg`, `BTN.cfg`, or as the phone itself calls it.",
        ),
        "tenant" => (id(), "The tenant's id."),
        "profile" => (id(), "The profile's id."),
        "pbx" => (id(), "The PBX's id."),
        "account" => (id(), "The account's id."),
        "rule" => (id(), "The rule's id."),
        "token" => (id(), "The token's id, which is no secret."),
        _ => (id(), "An id."),
    }
}

/// What stands beside every record in an answer.
#[derive(Serialize, JsonSchema)]
struct Beside {
    /// The one in the path.
    id: Id,
    /// Rises with every change of an admin; the `ETag`, without its quotes.
    revision: u64,
    /// When an admin last changed it.
    updated_at: Timestamp,
    /// In the answer to a change: until when it shows everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    visible_by: Option<Timestamp>,
    /// In the answer to a change: what of it does not come about.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<Objection>>,
}

/// What stands beside a profile in an answer.
#[derive(Serialize, JsonSchema)]
struct BesideProfile {
    #[serde(flatten)]
    beside: Beside,
    /// While not all phones have its settings; `profiles/{profile}/rollout` says more.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<OpenRollout>,
}

/// A change of a profile's settings that not all phones have.
#[derive(Serialize, JsonSchema)]
struct OpenRollout {
    /// How far it is.
    #[schemars(extend("enum" = ["choosing", "canary", "stopped"]))]
    stage: &'static str,
    /// When it began.
    since: Timestamp,
}

/// What stands beside a token in an answer.
#[derive(Serialize, JsonSchema)]
struct BesideToken {
    #[serde(flatten)]
    beside: Beside,
    /// Its text, in the answer that makes it and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// When it was last used, late by up to an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
}

/// What stands beside a device in an answer.
#[derive(Serialize, JsonSchema)]
struct BesideDevice {
    /// The one in the path, as 12 lower-case hexadecimal digits.
    mac: Mac,
    /// Rises with every change of an admin; the `ETag`, without its quotes.
    revision: u64,
    /// When an admin last changed it.
    updated_at: Timestamp,
    /// In the answer to a change that could not be followed up at once: until when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    visible_by: Option<Timestamp>,
    /// What lets the phone in for the first time: in the answer that makes it, and with `secrets=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_access: Option<FirstAccess>,
    /// Where its files are, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    provisioning_url: Option<String>,
    /// In the answer to a change: what of it the phone does not follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<Objection>>,
}

/// What lets a phone in for the first time.
#[derive(Serialize, JsonSchema)]
struct FirstAccess {
    /// The key.
    key: String,
    /// The URL with the key in it.
    url: String,
}

fn tenant(schemas: &mut Schemas) -> Value {
    schemas.record::<Tenant, Beside>()
}

fn profile(schemas: &mut Schemas) -> Value {
    schemas.record::<Profile, BesideProfile>()
}

fn pbx(schemas: &mut Schemas) -> Value {
    schemas.record::<Pbx, Beside>()
}

fn account_read(schemas: &mut Schemas) -> Value {
    schemas.record::<Account, Beside>()
}

fn device_read(schemas: &mut Schemas) -> Value {
    schemas.record::<Device, BesideDevice>()
}

fn rule(schemas: &mut Schemas) -> Value {
    schemas.record::<Rule, Beside>()
}

fn token(schemas: &mut Schemas) -> Value {
    schemas.record::<Token, BesideToken>()
}

fn page(items: &Value) -> Value {
    json!({
        "type": "object",
        "properties": {
            "items": { "type": "array", "items": items },
            "cursor": { "type": "string", "description": "The parameter `cursor` of the next page." },
        },
        "required": ["items"],
    })
}

fn switch() -> Value {
    json!({ "type": "string", "enum": ["0", "1"], "default": "0" })
}

fn limit(usual: u32, most: u32) -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": most, "default": usual })
}

fn text() -> Value {
    json!({ "type": "string" })
}

/// A cursor. What stands in it is nobody's business but ours.
fn cursor() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$" })
}

/// One of some words.
fn one_of(words: impl Iterator<Item = &'static str>) -> Value {
    json!({ "type": "string", "enum": words.collect::<Vec<_>>() })
}

/// The filters of a collection's list, beside `tenant`.
fn filters(tag: &str) -> Vec<(&'static str, &'static str, Value)> {
    let place =
        || json!({ "type": "string", "pattern": Place::PATTERN, "maxLength": Place::LONGEST });
    let vendor = || one_of(VendorId::ALL.iter().map(|vendor| vendor.name()));
    let mut filters = match tag {
        "devices" => vec![
            ("vendor", "Those of this vendor.", vendor()),
            (
                "model",
                "Those of this model, in any case of letters.",
                place(),
            ),
            ("site", "Those at this site.", place()),
            ("profile", "Those with this profile.", id()),
            (
                "status",
                "Those that are so far, as their own status says it.",
                one_of(Stage::ALL.into_iter().map(Stage::word)),
            ),
        ],
        "accounts" => vec![
            ("pbx", "Those at this PBX.", id()),
            (
                "status",
                "Those that their PBX says this of.",
                one_of(filter::ACCOUNT_WORDS.into_iter()),
            ),
        ],
        "pbxes" => vec![(
            "mode",
            "Those in this mode.",
            one_of(Mode::ALL.into_iter().map(Mode::name)),
        )],
        "rules" => vec![
            ("vendor", "Those that ask for this vendor.", vendor()),
            ("model", "Those that ask for this model.", place()),
            ("site", "Those that ask for this site.", place()),
            ("region", "Those that ask for this region.", place()),
            ("country", "Those that ask for this country.", place()),
        ],
        "tokens" => vec![(
            "role",
            "Those of this role.",
            one_of(Role::ALL.into_iter().map(Role::name)),
        )],
        _ => Vec::new(),
    };
    filters.push((
        "q",
        "Those in whose texts this stands, in any case of letters.",
        json!({ "type": "string", "pattern": "[^\\s\\u0085]", "maxLength": filter::LONGEST_TEXT }),
    ));
    filters
}

fn id() -> Value {
    json!({ "type": "string", "pattern": Id::PATTERN, "maxLength": Id::LONGEST })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time", "pattern": "Z$" })
}

/// A kind of record, as the document speaks of it.
struct Record {
    tag: &'static str,
    /// `one`, `another`: what is made, read, and gone.
    ids: [&'static str; 5],
    summaries: [&'static str; 5],
    read: Of,
    page: Of,
    write: Of,
    patch: Of,
    example: Value,
    change: Value,
    secrets: bool,
    force: bool,
}

const TENANT_ONLY: &str = "Those of this tenant alone.";

/// One of a record's operations.
fn record(of: Record, method: &Method, is_list: bool) -> Operation {
    let [list_id, get_id, put_id, patch_id, delete_id] = of.ids;
    let [list_says, get_says, put_says, patch_says, delete_says] = of.summaries;
    let conditions = |operation: Operation| {
        operation
            .parameter(
                "If-Match",
                "Only if this is the version that is there; `*`: only if there is one.",
                text(),
            )
            .parameter(
                "If-None-Match",
                "Only if this is not the version that is there; `*`: only if there is none.",
                text(),
            )
            .ends_in(&[Problem::PreconditionFailed, Problem::Taken])
    };
    if is_list {
        let mut operation = Operation::new(of.tag, list_id, list_says);
        if of.tag != "tenants" {
            operation = operation.parameter("tenant", TENANT_ONLY, id());
        }
        for (name, text, schema) in filters(of.tag) {
            operation = operation.parameter(name, text, schema);
        }
        return operation
            .text(
                "A filtered call looks at so many records and no more: its page may have fewer than `limit`, and still a \
                 `cursor`.",
            )
            .parameter(
                "limit",
                "How many records a page has at most.",
                limit(50, 200),
            )
            .parameter(
                "cursor",
                "Where the page before ended: its `cursor`.",
                cursor(),
            )
            .answers(200, "A page.", of.page);
    }
    let example = |name, summary, value| {
        vec![Example {
            name,
            summary,
            content_type: JSON,
            value,
        }]
    };
    match *method {
        Method::PUT => conditions(Operation::new(of.tag, put_id, put_says))
            .text("The record becomes what the body says. What is put as it is already is not written again.")
            .takes(true, of.write, example("new", put_says, of.example))
            .answers(200, "It was there, and is this now.", of.read)
            .answers(201, "It is new.", of.read)
            .with_header("ETag"),
        Method::PATCH => {
            let mut operation = conditions(Operation::new(of.tag, patch_id, patch_says))
                .text("A merge patch (RFC 7396): what the body names changes, and null takes it away.")
                .takes(true, of.patch, example("change", patch_says, of.change))
                .answers(200, "It is this now.", of.read)
                .with_header("ETag");
            if let Some(body) = &mut operation.body {
                body.content.push((MERGE_PATCH, of.patch));
            }
            operation
        }
        Method::DELETE => deletion(
            conditions(Operation::new(of.tag, delete_id, delete_says)),
            of.force,
        ),
        _ => {
            let mut operation = Operation::new(of.tag, get_id, get_says)
                .parameter(
                    "If-None-Match",
                    "The version that the caller has: if it is still that one, 304.",
                    text(),
                )
                .parameter(
                    "secrets",
                    if of.secrets {
                        "1: with what opens the device's files. Owners may ask for it, and the audit has it."
                    } else {
                        "1: nothing more, since nothing of this record's secrets is read back; the audit has it."
                    },
                    switch(),
                )
                .answers(200, "It.", of.read);
            operation = operation.says_nothing(304, "It is the version that the caller has.");
            operation.with_header("ETag")
        }
    }
}

/// `force`: whether what is in use can be deleted.
fn deletion(operation: Operation, force: bool) -> Operation {
    let operation = operation
        .text("What something else refers to is not deleted.")
        .says_nothing(204, "It is gone.")
        .ends_in(&[Problem::InUse]);
    if !force {
        return operation;
    }
    let says = "1: it is, and what refers to it does without. The audit has what that is.";
    operation.parameter("force", says, switch())
}

/// The operation of a route; `None` of one that the document knows nothing of.
#[must_use]
pub fn of(route: &Route) -> Option<Operation> {
    let (first, rest) = route.path.split_once('/').unwrap_or((route.path, ""));
    let is_one = rest.starts_with('{') && !rest.contains('/');
    let kind = kind(first).filter(|_| rest.is_empty() || is_one);
    if let Some(kind) = kind {
        return Some(record(kind, &route.method, rest.is_empty()));
    }
    match (&route.method, route.path) {
        (&Method::GET, "status") => Some(
            Operation::new("status", "getStatus", "How many phones are how far, and the last scheduled run")
                .parameter("cursor", "Where the call before stopped counting: its `cursor`.", cursor())
                .answers(200, "The counts of up to 100 devices, and the run.", |s| {
                    s.read::<status::Overview>()
                }),
        ),
        (&Method::GET, "models") => Some(
            Operation::new("models", "listModels", "The models that Dialtone sets up")
                .parameter("vendor", "Those of this vendor alone.", json!({
                    "type": "string",
                    "enum": VendorId::ALL.iter().map(|vendor| vendor.name()).collect::<Vec<_>>(),
                }))
                .answers(200, "All of them: there are no pages.", |s| s.read::<models::Models>()),
        ),
        (&Method::POST, "preview") => Some(
            Operation::new("preview", "preview", "What a phone would get of records that are not saved")
                .text(
                    "Each record is as in a PUT: of the device with this MAC, which may be a new one; of the tenant and the \
                     profile that the device names; of the account with that id. What a save would refuse is refused, with \
                     pointers into this body, and nothing is saved.",
                )
                .takes(true, unsaved, vec![Example {
                    name: "device",
                    summary: "Another label",
                    content_type: JSON,
                    value: json!({ "mac": "805ec0000001", "device": {
                        "tenant": "acme", "vendor": "yealink", "model": "T46U",
                        "lines": [{ "line": 1, "account": "acme-1001", "label": "Reception" }],
                    } }),
                }])
                .answers(200, "The files, secrets masked.", |s| s.read::<preview::Shown<'_>>())
                .ends_in(&[Problem::NotFound, Problem::Taken, Problem::InUse]),
        ),
        (&Method::POST, "explain") => Some(
            Operation::new("explain", "explain", "What would become of a phone's request, and why")
                .text("Runs the phone's own path on what the body describes, and changes nothing.")
                .takes(false, |s| s.write::<explain::Described>(), vec![Example {
                    name: "serial",
                    summary: "A phone that says its serial",
                    content_type: JSON,
                    value: json!({ "mac": "805ec0000001", "serial": "3146019091637071", "ip": "192.0.2.7" }),
                }])
                .answers(200, "Each proof and rule, and the decision.", |s| {
                    s.read::<explain::Explained>()
                }),
        ),
        (&Method::GET, "audit") => Some(audit_operation()),
        (_, "profiles/{profile}/rollout" | "tenants/{tenant}/rollout") => rollout_operation(route),
        (_, path) if path.starts_with("pbxes/") => pbx_operation(route),
        (_, path) if path.starts_with("accounts/") => account_operation(route),
        (_, path) if path.starts_with("devices/") => device_operation(route),
        (&Method::POST, "tokens/{token}/rotate") => Some(
            Operation::new("tokens", "rotateToken", "Gives a token a new text, which ends the old one")
                .takes(false, |_| nothing(), Vec::new())
                .answers(200, "With `token`, the new text.", token)
                .with_header("ETag"),
        ),
        _ => None,
    }
}

/// A body that may say nothing.
fn nothing() -> Value {
    json!({ "type": "object", "additionalProperties": false })
}

/// The records of a preview.
fn unsaved(s: &mut Schemas) -> Value {
    let [mac, device, tenant, profile] = [
        s.write::<Mac>(),
        s.write::<Device>(),
        s.write::<Tenant>(),
        s.write::<Profile>(),
    ];
    json!({
        "type": "object",
        "properties": {
            "mac": mac,
            "device": device,
            "tenant": tenant,
            "profile": profile,
            "account": {
                "type": "object",
                "description": "As in a PUT, with its id.",
                "properties": { "id": s.write::<Id>() },
                "required": ["id"],
            },
        },
        "anyOf": [{ "required": ["mac"] }, { "required": ["device"] }],
        "additionalProperties": false,
    })
}

fn audit_operation() -> Operation {
    Operation::new("audit", "listAudit", "What was changed and what phones did, newest first")
        .text(
            "One call looks through 2,000 entries at most, so a page may hold few items, or none, and a cursor. \
             With `verify=1` the chain is followed from its beginning instead, and no other parameter but `tenant` and \
             `cursor` is taken.",
        )
        .parameter("tenant", "The tenant's; absent: what belongs to no tenant.", id())
        .parameter("resource", "What begins so, such as `devices/805ec0`.", text())
        .parameter("actor", "Of this actor.", text())
        .parameter("action", "Of this action.", text())
        .parameter("from", "At this time or later.", time())
        .parameter("to", "Before this time.", time())
        .parameter("limit", "How many entries a page has at most.", limit(50, 200))
        .parameter("verify", "1: whether the chain is as it was written.", switch())
        .parameter("cursor", "Where the call before ended: its `cursor`.", json!({
            "type": "string",
            "pattern": "^(w[.][0-9]{1,9}[.].*|c[.][0-9]{1,9}[.][0-9]{1,9}|[0-9]{1,9}[.][0-9]{1,9}[.][0-9a-f]*)$",
        }))
        .answers(200, "A page, or how far the chain is whole.", |s| {
            let page = s.read::<audit::List>();
            let verified = s.read::<audit::Verification>();
            json!({ "anyOf": [page, verified] })
        })
}

/// Roll-outs, of a profile's settings or of templates.
fn rollout_operation(route: &Route) -> Option<Operation> {
    let of_profile: Of = |s| s.read::<rollout::OfProfile<'_>>();
    let of_tenant: Of = |s| s.read::<rollout::OfTenant<'_>>();
    let turn = |operation: Operation| {
        operation
            .text("409 if there is none that this changes.")
            .ends_in(&[Problem::InUse, Problem::Taken])
    };
    Some(match (&route.method, route.path) {
        (&Method::GET, "profiles/{profile}/rollout") => Operation::new(
            "profiles",
            "getProfileRollout",
            "How far a change of a profile's settings is",
        )
        .answers(
            200,
            "Its stage, and what was seen of the canaries.",
            of_profile,
        ),
        (&Method::POST, "profiles/{profile}/rollout") => turn(Operation::new(
            "profiles",
            "turnProfileRollout",
            "Gives a change of a profile's settings to all, or to nobody",
        ))
        .takes(
            true,
            |s| s.write::<rollout::Wish>(),
            vec![Example {
                name: "everyone",
                summary: "Whatever was seen of the canaries",
                content_type: JSON,
                value: json!({ "to": "everyone" }),
            }],
        )
        .answers(200, "How far it is now.", of_profile),
        (&Method::GET, _) => Operation::new(
            "tenants",
            "getTenantRollouts",
            "How far new templates are at a tenant's phones",
        )
        .answers(
            200,
            "One for each vendor whose phones do not all have the same.",
            of_tenant,
        ),
        (&Method::POST, _) => turn(Operation::new(
            "tenants",
            "turnTenantRollouts",
            "Gives new templates to all of a tenant's phones, or to none",
        ))
        .takes(
            true,
            |s| s.write::<rollout::WishOfTemplates>(),
            vec![Example {
                name: "stop",
                summary: "Yealink's phones keep what they had",
                content_type: JSON,
                value: json!({ "to": "stop", "vendor": "yealink" }),
            }],
        )
        .answers(200, "How far they are now.", of_tenant),
        _ => return None,
    })
}

fn pbx_operation(route: &Route) -> Option<Operation> {
    match (&route.method, route.path) {
        (&Method::GET, "pbxes/{pbx}/plan") => Some(
            Operation::new("pbxes", "planPbx", "What the scheduled handler would do at the PBX")
                .text("Asks the PBX now, ten times a minute at most, and changes nothing.")
                .answers(200, "What is seen there and what is due.", |s| s.read::<plan::Answer<'_>>()),
        ),
        (&Method::POST, "pbxes/{pbx}/confirm") => Some(
            Operation::new("pbxes", "confirmPbx", "Lets pass what the plan holds")
                .text("Names what is confirmed by the digests that the plan shows; if something else is there by now, 422.")
                .takes(true, |s| s.write::<plan::Confirm>(), Vec::new())
                .answers(200, "What the next run may do.", |s| s.read::<plan::ConfirmAnswer>()),
        ),
        _ => None,
    }
}

fn account_operation(route: &Route) -> Option<Operation> {
    match (&route.method, route.path) {
        (&Method::POST, "accounts/batch") => Some(batch_operation(
            "accounts",
            "saveAccounts",
            "Saves many accounts",
            |s| s.write::<Account>(),
            "{\"id\":\"acme-1002\",\"tenant\":\"acme\",\"pbx\":\"acme-pbx\",\"username\":\"1002\"}\n",
        )),
        (&Method::GET, "accounts/export") => {
            Some(export_operation("accounts", "exportAccounts", "Writes out accounts"))
        }
        (&Method::POST, "accounts/{account}/rotate") => Some(
            Operation::new("accounts", "rotateAccount", "Gives an account a new password")
                .text("The former one goes on working until the phones have the new one, or for seven days.")
                .takes(false, |s| s.write::<account::Rotate>(), vec![Example {
                    name: "gently",
                    summary: "Without a gap",
                    content_type: JSON,
                    value: json!({ "now": false }),
                }])
                .answers(200, "The password is not shown.", |s| s.read::<account::Rotated<'_>>())
                .with_header("ETag")
                .ends_in(&[Problem::PreconditionFailed, Problem::Taken]),
        ),
        (&Method::GET, "accounts/{account}/status") => Some(
            Operation::new("accounts", "getAccountStatus", "Whether an account is registered, and what is the matter")
                .text("Of one that was deleted, that its PBX still has it.")
                .answers(200, "How far it is.", |s| {
                    let there = s.read::<status::AccountStatus<'_>>();
                    let deleted = s.read::<status::DeletedStatus<'_>>();
                    json!({ "anyOf": [there, deleted] })
                }),
        ),
        _ => None,
    }
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn device_operation(route: &Route) -> Option<Operation> {
    let access: Of = |s| s.read::<device::Acted>();
    let decoy = [Problem::InUse];
    Some(match (&route.method, route.path) {
        (&Method::POST, "devices/batch") => batch_operation(
            "devices",
            "saveDevices",
            "Saves many devices",
            |s| s.write::<Device>(),
            "{\"mac\":\"805ec0000002\",\"tenant\":\"acme\",\"vendor\":\"yealink\",\"model\":\"T46U\"}\n",
        ),
        (&Method::GET, "devices/export") => {
            export_operation("devices", "exportDevices", "Writes out devices")
        }
        (&Method::GET, "devices/{mac}/status") => {
            Operation::new("devices", "getDeviceStatus", "How far a phone is, and what is the matter")
                .answers(200, "With a diagnosis for each thing that is wrong.", |s| {
                    s.read::<status::DeviceStatus<'_>>()
                })
        }
        (&Method::GET, "devices/{mac}/session") => {
            Operation::new("devices", "getSession", "Who is logged in at a hot-desking phone")
                .text("404 if nobody is.")
                .answers(200, "The user.", |s| s.read::<session::Answer<'_>>())
        }
        (&Method::PUT, "devices/{mac}/session") => {
            Operation::new("devices", "beginSession", "Logs a user in at a hot-desking phone")
                .takes(true, |s| s.write::<session::Begin>(), vec![Example {
                    name: "day",
                    summary: "For a working day",
                    content_type: JSON,
                    value: json!({ "account": "acme-1001", "hours": 8 }),
                }])
                .answers(200, "The user is logged in.", |s| s.read::<session::Answer<'_>>())
                .ends_in(&decoy)
        }
        (&Method::DELETE, "devices/{mac}/session") => {
            Operation::new("devices", "endSession", "Logs out whoever is logged in")
                .takes(false, |_| nothing(), Vec::new())
                .says_nothing(204, "Nobody is logged in.")
        }
        (&Method::GET, "devices/{mac}/settings") => {
            Operation::new("devices", "getSettings", "Each setting of a phone, and which level it comes from")
                .text("From the lowest: default, tenant, profile, model, site, device. A level can lock a setting.")
                .answers(200, "Every setting, passwords masked.", |s| {
                    s.read::<device::DeviceSettings<'_>>()
                })
        }
        (&Method::GET, "devices/{mac}/files") => {
            Operation::new("devices", "listFiles", "Which files a phone gets")
                .answers(200, "Their names, and what they are made of.", |s| {
                    s.read::<device::Files<'_>>()
                })
        }
        (&Method::GET, "devices/{mac}/files/{name}") => {
            let mut operation =
                Operation::new("devices", "getFile", "A file as the phone gets it, secrets masked")
                    .parameter("secrets", "1: unmasked. Owners may ask for it, and the audit has it.", switch())
                    .parameter("version", "As it was in this version, without its secrets, which are not kept.", number());
            operation.answers.push(Answered {
                status: 200,
                text: "The file, in its vendor's own form.",
                content: FILE_TYPES.iter().map(|name| (*name, string as Of)).collect(),
                headers: Vec::new(),
            });
            operation
        }
        (&Method::GET, "devices/{mac}/diff") => {
            let mut operation =
                Operation::new("devices", "diffFiles", "What differs between two versions of a phone's files")
                    .text("Secrets, the token and the number of the version are not counted as differences.")
                    .parameter("from", "The number of a version.", number())
                    .must_be_there()
                    .parameter("to", "The number of another. Default: what the phone gets now.", number());
            operation.answers.push(Answered {
                status: 200,
                text: "A unified diff of all files, secrets masked.",
                content: vec![("text/x-diff", string)],
                headers: Vec::new(),
            });
            operation
        }
        (&Method::POST, "devices/{mac}/rollback") => {
            held(Operation::new("devices", "rollBackDevice", "Holds a phone's files to a former version"))
                .text(
                    "Until they are unpinned, whatever becomes of the records. Passwords, the token, and how and where an \
                     account logs in are today's. 409 if the device is another model by now.",
                )
                .takes(true, |s| s.write::<version::Rollback>(), vec![Example {
                    name: "first",
                    summary: "The first one",
                    content_type: JSON,
                    value: json!({ "version": 1 }),
                }])
        }
        (&Method::POST, "devices/{mac}/unpin") => {
            held(Operation::new("devices", "unpinDevice", "Lets a phone's files be what the records say"))
                .takes(false, |_| nothing(), Vec::new())
        }
        (&Method::POST, "devices/{mac}/arm") => {
            Operation::new("devices", "armDevice", "Opens a window: the first caller is taken for the phone")
                .takes(false, |s| s.write::<device::Arm>(), vec![Example {
                    name: "day",
                    summary: "For a day",
                    content_type: JSON,
                    value: json!({ "arm": "24h" }),
                }])
                .answers(200, "How the device can be reached now.", access)
                .ends_in(&decoy)
        }
        (&Method::POST, "devices/{mac}/rotate") => {
            Operation::new("devices", "rotateDevice", "Gives a phone a new token for its URL")
                .text("The old one serves on, files with the new URL in them, until the new one is used or for seven days.")
                .takes(false, |_| nothing(), Vec::new())
                .answers(200, "How the device can be reached now.", access)
                .ends_in(&decoy)
        }
        (&Method::POST, "devices/{mac}/revoke") => {
            Operation::new("devices", "revokeDevice", "Ends every token of a phone at once")
                .takes(false, |_| nothing(), Vec::new())
                .answers(200, "How the device can be reached now.", access)
                .ends_in(&decoy)
        }
        (&Method::POST, "devices/{mac}/release") => {
            Operation::new("devices", "releaseDevice", "Lets a phone be where it was put in quarantine")
                .text("412 if it last came from another place than the one that is named.")
                .takes(true, |s| s.write::<device::Release>(), Vec::new())
                .answers(200, "How the device can be reached now.", access)
                .ends_in(&[Problem::InUse, Problem::PreconditionFailed])
        }
        (&Method::POST, "devices/{mac}/resync") => {
            Operation::new("devices", "resyncDevice", "Tells a phone by its PBX to fetch its files")
                .takes(false, |_| nothing(), Vec::new())
                .answers(200, "What happened on each line.", |s| s.read::<resync::Answer<'_>>())
                .ends_in(&decoy)
        }
        _ => return None,
    })
}

/// What is said of both calls that hold a phone to a version, or end that.
fn held(operation: Operation) -> Operation {
    operation
        .parameter(
            "If-Match",
            "Only if this is the version of the record that is there.",
            text(),
        )
        .parameter(
            "If-None-Match",
            "Only if this is not the version of the record that is there.",
            text(),
        )
        .answers(200, "What the phone gets now.", |s| {
            s.read::<version::Answer>()
        })
        .ends_in(&[Problem::InUse, Problem::PreconditionFailed])
}

fn number() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// What the vendors' files are called by.
const FILE_TYPES: &[&str] = &["text/plain", "text/xml", "application/xml"];

fn string(_: &mut Schemas) -> Value {
    text()
}

fn batch_operation(
    tag: &'static str,
    id: &'static str,
    summary: &'static str,
    line: Of,
    example: &'static str,
) -> Operation {
    let mut operation = Operation::new(tag, id, summary)
        .text(
            "Each line is saved as a PUT of its record would be, and has a result of its own. As NDJSON a line is the record \
             with its name (`mac` of a device, `id` of an account); as CSV there is a header line. A call takes as many lines \
             as the platform lets it; `next_line` says where the next one goes on.",
        )
        .parameter("dry_run", "1: says what would become of it, and changes nothing.", switch())
        .answers(200, "What became of each line.", |s| s.read::<batch::Report<'_>>())
        .ends_in(&[Problem::BadCsv]);
    // Its schema is in the document, though no content type of a line can refer to it.
    let _ = line;
    operation.body = Some(Taken {
        required: true,
        content: vec![(NDJSON, string), (CSV, string)],
        examples: vec![Example {
            name: "line",
            summary: "One record",
            content_type: NDJSON,
            value: example.into(),
        }],
    });
    operation
}

fn export_operation(tag: &'static str, id_of: &'static str, summary: &'static str) -> Operation {
    let mut operation = Operation::new(tag, id_of, summary)
        .text("As a batch takes them, page by page, without secrets.")
        .parameter(
            "format",
            "The form of the lines.",
            json!({
                "type": "string", "enum": ["ndjson", "csv"], "default": "ndjson",
            }),
        )
        .parameter("tenant", TENANT_ONLY, id())
        .parameter(
            "limit",
            "How many records a page has at most.",
            limit(500, 500),
        )
        .parameter(
            "cursor",
            "Where the page before ended; `Link` has it.",
            cursor(),
        );
    operation.answers.push(Answered {
        status: 200,
        text: "A page.",
        content: vec![(NDJSON, string), (CSV, string)],
        headers: vec!["Link"],
    });
    operation
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn kind(collection: &str) -> Option<Record> {
    Some(match collection {
        "tenants" => Record {
            tag: "tenants",
            ids: [
                "listTenants",
                "getTenant",
                "putTenant",
                "patchTenant",
                "deleteTenant",
            ],
            summaries: [
                "Lists tenants",
                "Reads a tenant",
                "Makes or replaces a tenant",
                "Changes a tenant",
                "Deletes a tenant",
            ],
            read: tenant,
            page: |s| page(&tenant(s)),
            write: |s| s.write::<Tenant>(),
            patch: |s| s.patch::<Tenant>(),
            example: json!({
                "name": "ACME", "settings": { "timezone": "Europe/Berlin", "language": "de" },
                "rollout": { "canary_percent": 10, "minutes": 60 },
            }),
            change: json!({ "name": "ACME Ltd", "settings": { "clock_24h": true } }),
            secrets: false,
            force: Tenant::FORCE,
        },
        "profiles" => Record {
            tag: "profiles",
            ids: [
                "listProfiles",
                "getProfile",
                "putProfile",
                "patchProfile",
                "deleteProfile",
            ],
            summaries: [
                "Lists profiles",
                "Reads a profile",
                "Makes or replaces a profile",
                "Changes a profile",
                "Deletes a profile",
            ],
            read: profile,
            page: |s| page(&profile(s)),
            write: |s| s.write::<Profile>(),
            patch: |s| s.patch::<Profile>(),
            example: json!({ "tenant": "acme", "name": "Office", "settings": { "codecs": ["g722", "pcma"], "dnd": false } }),
            change: json!({ "settings": { "dnd": null } }),
            secrets: false,
            force: Profile::FORCE,
        },
        "pbxes" => Record {
            tag: "pbxes",
            ids: ["listPbxes", "getPbx", "putPbx", "patchPbx", "deletePbx"],
            summaries: [
                "Lists PBXes",
                "Reads a PBX",
                "Makes or replaces a PBX",
                "Changes a PBX",
                "Deletes a PBX",
            ],
            read: pbx,
            page: |s| page(&pbx(s)),
            write: |s| s.write::<Pbx>(),
            patch: |s| s.patch::<Pbx>(),
            example: json!({
                "tenant": "acme", "mode": "observe", "ari_url": "https://ari.example.com/ari",
                "ari_username": "dialtone", "ari_password": "a password of ARI",
                "sip": { "host": "pbx.example.com", "transport": "tls" },
            }),
            change: json!({ "sip": { "srtp": "optional" } }),
            secrets: false,
            force: Pbx::FORCE,
        },
        "accounts" => Record {
            tag: "accounts",
            ids: [
                "listAccounts",
                "getAccount",
                "putAccount",
                "patchAccount",
                "deleteAccount",
            ],
            summaries: [
                "Lists accounts",
                "Reads an account",
                "Makes or replaces an account",
                "Changes an account",
                "Deletes an account",
            ],
            read: account_read,
            page: |s| page(&account_read(s)),
            write: |s| s.write::<Account>(),
            patch: |s| s.patch::<Account>(),
            example: json!({ "tenant": "acme", "pbx": "acme-pbx", "username": "1001", "display_name": "Zoë" }),
            change: json!({ "display_name": "Zoë B." }),
            secrets: false,
            force: Account::FORCE,
        },
        "devices" => Record {
            tag: "devices",
            ids: [
                "listDevices",
                "getDevice",
                "putDevice",
                "patchDevice",
                "deleteDevice",
            ],
            summaries: [
                "Lists devices",
                "Reads a device",
                "Makes or replaces a device",
                "Changes a device",
                "Deletes a device",
            ],
            read: device_read,
            page: |s| page(&device_read(s)),
            write: |s| s.write::<Device>(),
            patch: |s| s.patch::<Device>(),
            example: json!({
                "tenant": "acme", "vendor": "yealink", "model": "T46U", "arm": "24h",
                "serial": "3146019091637071", "user_type": "hot-desking",
                "lines": [{ "line": 1, "account": "acme-1001" }],
                "buttons": [{ "key": 1, "type": "line", "line": 1 }, { "key": 2, "type": "blf", "value": "1002", "label": "Ada" }],
            }),
            change: json!({ "site": "berlin", "settings": { "ringtone": 2 } }),
            secrets: true,
            force: Device::FORCE,
        },
        "rules" => Record {
            tag: "rules",
            ids: ["listRules", "getRule", "putRule", "patchRule", "deleteRule"],
            summaries: [
                "Lists rules",
                "Reads a rule",
                "Makes or replaces a rule",
                "Changes a rule",
                "Deletes a rule",
            ],
            read: rule,
            page: |s| page(&rule(s)),
            write: |s| s.write::<Rule>(),
            patch: |s| s.patch::<Rule>(),
            example: json!({ "match": { "tenant": "acme", "site": "berlin" }, "url": "https://berlin.example.com/{mac}" }),
            change: json!({ "priority": 10 }),
            secrets: false,
            force: Rule::FORCE,
        },
        "tokens" => Record {
            tag: "tokens",
            ids: [
                "listTokens",
                "getToken",
                "putToken",
                "patchToken",
                "deleteToken",
            ],
            summaries: [
                "Lists tokens",
                "Reads a token",
                "Makes or replaces a token",
                "Changes a token",
                "Deletes a token",
            ],
            read: token,
            page: |s| page(&token(s)),
            write: |s| s.write::<Token>(),
            patch: |s| s.patch::<Token>(),
            example: json!({ "role": "operator", "tenant": "acme", "name": "ACME's CI" }),
            change: json!({ "role": "reader" }),
            secrets: false,
            force: Token::FORCE,
        },
        _ => return None,
    })
}
