//! The document of the admin API: it has every route, its examples are what the API takes and answers, and what
//! it says of a text is what the text's parser says. [`crate::conforms`] holds every other answer against it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use dialtone::admin::problem::Kind;
use dialtone::admin::route::ROUTES;
use dialtone::openapi::operations;
use dialtone::record::device::Device;
use dialtone::record::settings::{Codecs, ExpiresSeconds};
use dialtone::request::Request;
use dialtone::secret::Secret;
use dialtone::text;
use dialtone::time::{Hours, Span};
use dialtone::{entry, mac};
use http::{Method, Response};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::ask::{Told, call_by, cursor, fetch, header};
use crate::conforms::{self, DOCUMENT, object};
use crate::world::{ADMIN_TOKEN, Fake};

/// The file that the Worker serves.
const FILE: &str = "assets/openapi.json";

/// Calls in an order in which they succeed, each with its operation. A body is the operation's first example.
const SCENE: &[(&str, &str)] = &[
    ("putTenant", "tenants/acme"),
    ("putProfile", "profiles/acme-office"),
    ("putPbx", "pbxes/acme-pbx"),
    ("putAccount", "accounts/acme-1001"),
    ("putDevice", "devices/805ec0000001"),
    ("putRule", "rules/acme-berlin"),
    ("putToken", "tokens/acme-ci"),
    ("patchTenant", "tenants/acme"),
    ("patchProfile", "profiles/acme-office"),
    ("patchPbx", "pbxes/acme-pbx"),
    ("patchAccount", "accounts/acme-1001"),
    ("patchDevice", "devices/805ec0000001"),
    ("patchRule", "rules/acme-berlin"),
    ("patchToken", "tokens/acme-ci"),
    ("getProfileRollout", "profiles/acme-office/rollout"),
    ("turnProfileRollout", "profiles/acme-office/rollout"),
    ("getTenantRollouts", "tenants/acme/rollout"),
    ("getTenant", "tenants/acme"),
    ("getProfile", "profiles/acme-office"),
    ("getPbx", "pbxes/acme-pbx"),
    ("getAccount", "accounts/acme-1001"),
    ("getDevice", "devices/805ec0000001"),
    ("getRule", "rules/acme-berlin"),
    ("getToken", "tokens/acme-ci"),
    ("listTenants", "tenants"),
    ("listProfiles", "profiles?tenant=acme"),
    ("listPbxes", "pbxes?tenant=acme"),
    ("listAccounts", "accounts?tenant=acme"),
    ("listDevices", "devices?tenant=acme&limit=1"),
    ("listRules", "rules?tenant=acme"),
    ("listTokens", "tokens?tenant=acme"),
    ("explain", "explain"),
    ("getSettings", "devices/805ec0000001/settings"),
    ("listFiles", "devices/805ec0000001/files"),
    ("getFile", "devices/805ec0000001/files/ACC.cfg"),
    ("diffFiles", "devices/805ec0000001/diff?from=1"),
    ("rollBackDevice", "devices/805ec0000001/rollback"),
    ("unpinDevice", "devices/805ec0000001/unpin"),
    ("preview", "preview"),
    ("beginSession", "devices/805ec0000001/session"),
    ("getSession", "devices/805ec0000001/session"),
    ("endSession", "devices/805ec0000001/session"),
    ("getDeviceStatus", "devices/805ec0000001/status"),
    ("getAccountStatus", "accounts/acme-1001/status"),
    ("resyncDevice", "devices/805ec0000001/resync"),
    ("armDevice", "devices/805ec0000001/arm"),
    ("rotateDevice", "devices/805ec0000001/rotate"),
    ("revokeDevice", "devices/805ec0000001/revoke"),
    ("rotateAccount", "accounts/acme-1001/rotate"),
    ("rotateToken", "tokens/acme-ci/rotate"),
    ("planPbx", "pbxes/acme-pbx/plan"),
    ("saveAccounts", "accounts/batch"),
    ("saveDevices", "devices/batch?dry_run=1"),
    ("exportAccounts", "accounts/export?tenant=acme"),
    ("exportDevices", "devices/export?tenant=acme"),
    ("getStatus", "status"),
    ("listModels", "models?vendor=linphone"),
    ("listAudit", "audit?tenant=acme&limit=2"),
    ("deleteToken", "tokens/acme-ci"),
    ("deleteRule", "rules/acme-berlin"),
    ("deleteDevice", "devices/805ec0000001"),
    ("deleteAccount", "accounts/acme-1001"),
    ("deleteAccount", "accounts/acme-1002?force=1"),
    ("deletePbx", "pbxes/acme-pbx"),
    ("deleteProfile", "profiles/acme-office"),
    ("deleteTenant", "tenants/acme"),
];

/// What no call of the scene can have: a PBX that holds something, a phone in quarantine, new templates.
const NOT_PLAYED: [&str; 3] = ["confirmPbx", "releaseDevice", "turnTenantRollouts"];

/// The operations of a document, each with where it stands.
fn all(document: &Value) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if method != "parameters" {
                let path = path.replace('~', "~0").replace('/', "~1");
                all.push((format!("/paths/{path}/{method}"), operation));
            }
        }
    }
    all
}

fn method(pointer: &str) -> Method {
    let (_, method) = pointer.rsplit_once('/').unwrap();
    method.to_uppercase().parse().unwrap()
}

/// A call of an operation, with the first of the document's examples as its body.
fn example_call(pointer: &str, operation: &Value, path: &str) -> Request {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut request = call_by(ADMIN_TOKEN, method(pointer), path, &Value::Null);
    query.clone_into(&mut request.query);
    for (content_type, media) in operation["requestBody"]["content"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let Some((_, example)) = media["examples"].as_object().and_then(|e| e.iter().next()) else {
            continue;
        };
        let body = match &example["value"] {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        request.body = body.into_bytes();
        return request.with("content-type", content_type);
    }
    request
}

fn shown(response: &Response<Vec<u8>>) -> Value {
    let text = String::from_utf8_lossy(response.body()).into_owned();
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn essence(response: &Response<Vec<u8>>) -> &str {
    header(response, "content-type")
        .split(';')
        .next()
        .unwrap_or_default()
}

/// Answers that are problems, one of each kind that a caller can bring about by one call.
fn problems(fake: &Fake) -> Vec<Response<Vec<u8>>> {
    let call = |method, path: &str, body: Value| call_by(ADMIN_TOKEN, method, path, &body);
    let reader = json!({ "role": "reader" });
    let made = shown(&fetch(fake, &call(Method::PUT, "tokens/reader", reader)));
    let reader = made["token"].as_str().unwrap();
    let mut not_json = call(Method::PUT, "tenants/acme", json!(null));
    not_json.body = b"{".to_vec();
    let mut not_csv =
        call(Method::POST, "devices/batch", json!(null)).with("content-type", "text/csv");
    not_csv.body = b"\n".to_vec();
    let mut unknown = call(Method::GET, "tenants", json!(null));
    "colour=red".clone_into(&mut unknown.query);
    let wrong = json!({ "tenant": "nobody", "vendor": "yealink", "model": "T1000" });
    let taken = json!({ "tenant": "acme", "pbx": "acme-pbx", "username": "1001" });
    let html = call(Method::PUT, "tenants/acme", json!({})).with("content-type", "text/html");
    let page = call(Method::GET, "tenants/acme", json!(null)).with("accept", "text/html");
    let mut answers: Vec<Response<Vec<u8>>> = [
        not_json,
        not_csv,
        unknown,
        call_by("wrong", Method::GET, "tenants", &Value::Null),
        call_by(reader, Method::DELETE, "tenants/acme", &Value::Null),
        call(Method::GET, "tenants", json!(null)).plain(),
        call(Method::GET, "tenants/nobody", json!(null)),
        call(Method::PUT, "tenants", json!({})),
        call(Method::PUT, "accounts/acme-1009", taken),
        call(Method::DELETE, "tenants/acme", json!(null)),
        call(Method::PUT, "tenants/acme", json!({})).with("if-none-match", "*"),
        html,
        page,
        call(Method::PUT, "devices/805ec0000009", wrong),
    ]
    .iter()
    .map(|request| fetch(fake, request))
    .collect();
    answers.push(entry::too_long("/api/v1/tenants/acme", "0123456789abcdef"));
    fetch(fake, &call(Method::DELETE, "tokens/reader", json!(null)));
    answers
}

/// Makes a call of the scene, which succeeds: where its operation stands, and the answer.
fn play(fake: &Fake, id: &str, path: &str) -> (String, Response<Vec<u8>>) {
    let operations = all(&DOCUMENT);
    let operation = operations
        .into_iter()
        .find(|(_, operation)| operation["operationId"] == id);
    let (pointer, operation) = operation.unwrap_or_else(|| panic!("there is no operation {id}"));
    let response = fetch(fake, &example_call(&pointer, operation, path));
    let status = response.status();
    assert!(status.is_success(), "{id}: {status} {}", shown(&response));
    (pointer, response)
}

/// Plays the scene, and puts each answer into the document as its example.
fn with_answers() -> Value {
    let mut document = DOCUMENT.clone();
    let fake: Rc<Fake> = Fake::new();
    for (id, path) in SCENE {
        if *id == "deleteToken" {
            for problem in problems(&fake) {
                add_problem(&mut document, &problem);
            }
        }
        let (pointer, response) = play(&fake, id, path);
        let status = response.status();
        if !response.body().is_empty() {
            let operation = document.pointer_mut(&pointer).unwrap();
            let content = &mut operation["responses"][status.as_str()]["content"];
            let media = object(&mut content[essence(&response)], id);
            media.insert("example".to_owned(), shown(&response));
        }
    }
    document
}

/// Puts a problem into the answers that it is among.
fn add_problem(document: &mut Value, response: &Response<Vec<u8>>) {
    let problem = shown(response);
    let kind = problem["type"].as_str().unwrap_or_default();
    let kind = kind.trim_start_matches("urn:dialtone:problem:").to_owned();
    for (name, answer) in object(&mut document["components"]["responses"], "responses") {
        if name.split('.').any(|name| name == kind) {
            let media = &mut answer["content"]["application/problem+json"];
            let media = object(media, name);
            let examples = media.entry("examples").or_insert_with(|| json!({}));
            object(examples, name).insert(kind.clone(), json!({ "value": problem }));
        }
    }
}

#[test]
fn the_document_that_is_served_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let right = format!(
        "{}\n",
        serde_json::to_string_pretty(&with_answers()).unwrap()
    );
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        fs::write(&path, right).unwrap();
    } else {
        let there = fs::read_to_string(&path).unwrap_or_default();
        let line = there
            .lines()
            .zip(right.lines())
            .take_while(|(a, b)| a == b)
            .count();
        assert!(
            there == right,
            "{FILE}:{}: GOLDEN=write writes it",
            line + 1
        );
    }
}

#[test]
fn every_route_is_in_the_document_and_nothing_else_is() {
    let wanted: BTreeSet<String> = ROUTES
        .iter()
        .map(|route| format!("{} /{}", route.method, route.path))
        .collect();
    let mut there = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (pointer, operation) in all(&DOCUMENT) {
        let path = pointer
            .trim_start_matches("/paths/")
            .rsplit_once('/')
            .unwrap()
            .0;
        there.insert(format!("{} {}", method(&pointer), path.replace("~1", "/")));
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} is there twice");
        let played = SCENE.iter().any(|(played, _)| *played == id);
        assert!(
            played != NOT_PLAYED.contains(&id),
            "{id} has no example of an answer"
        );
        for name in operations::given(
            ROUTES
                .iter()
                .find(|route| format!("/{}", route.path) == path.replace("~1", "/"))
                .map(|route| route.path)
                .unwrap(),
        ) {
            let parameters = &DOCUMENT["paths"][path.replace("~1", "/")]["parameters"];
            let named = parameters
                .as_array()
                .unwrap()
                .iter()
                .any(|p| p["name"] == name);
            assert!(named, "{id} says nothing of {name}");
        }
    }
    assert_eq!(there, wanted);
}

#[test]
fn every_kind_of_problem_but_our_own_faults_has_an_example() {
    let document = with_answers();
    let text = document["components"]["responses"].to_string();
    for kind in Kind::ALL {
        let example = format!("\"{}\":{{\"value\"", kind.name());
        // Of a wrong method the document knows nothing: there is no operation.
        let spared = [Kind::TooMany, Kind::Unavailable, Kind::MethodNotAllowed].contains(&kind);
        assert_eq!(text.contains(&example), !spared, "{}", kind.name());
    }
}

#[test]
fn all_that_can_be_read_has_a_description() {
    fn walk(schema: &Value, path: &str, bare: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let said = property["description"]
                .as_str()
                .is_some_and(|text| text.ends_with(['.', ':']));
            if !said {
                bare.push(path.clone());
            }
            walk(property, &path, bare);
        }
    }
    let mut bare = Vec::new();
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        walk(schema, name, &mut bare);
    }
    assert!(bare.is_empty(), "no description: {bare:#?}");
}

#[test]
fn a_secret_is_only_written() {
    let schemas = &DOCUMENT["components"]["schemas"];
    for (name, secret) in [
        ("Account", "password"),
        ("Account", "pin"),
        ("Pbx", "ari_password"),
        ("Pbx", "headers"),
        ("Settings", "admin_password"),
    ] {
        assert!(
            schemas[name]["properties"][secret].is_null(),
            "{name}.{secret}"
        );
        let write = &schemas[format!("{name}Write")]["properties"][secret];
        assert_eq!(write["writeOnly"], true, "{name}.{secret}");
    }
}

#[test]
fn a_patch_may_leave_out_everything_and_take_away_what_is_not_needed() {
    let is_patch = |value: &Value| conforms::is_of("PbxPatch", value);
    for fine in [
        json!({}),
        json!({ "ami": null }),
        json!({ "sip": { "srtp": "required", "port": null } }),
        json!({ "mode": "push" }),
    ] {
        assert!(is_patch(&fine), "{fine}");
    }
    for wrong in [
        json!({ "tenant": null }),
        json!({ "sip": null }),
        json!({ "sip": { "host": null } }),
        json!({ "colour": "red" }),
        json!({ "mode": "pull" }),
    ] {
        assert!(!is_patch(&wrong), "{wrong}");
    }
    let raw =
        json!({ "settings": { "raw": { "yealink": { "a.b": null, "c.d": "1" }, "snom": null } } });
    assert!(conforms::is_of("TenantPatch", &raw));
    let layers = json!({ "sites": { "berlin": { "settings": { "dnd": null } }, "old": null }, "models": { "T46U": null } });
    assert!(conforms::is_of("TenantPatch", &layers));
    // As the API takes it.
    let twice =
        json!({ "locked": ["dnd", "dnd"], "sites": { "berlin": { "locked": ["dnd", "dnd"] } } });
    assert!(conforms::is_of("TenantPatch", &twice));
    let codecs = json!({ "settings": { "codecs": ["opus", "opus"] } });
    assert!(!conforms::is_of("TenantPatch", &codecs));
    let wrong = json!({ "sites": { "berlin": { "settings": { "dnd": 1 } } } });
    assert!(!conforms::is_of("TenantPatch", &wrong));
}

/// Each place in what a schema describes where there may be a member, or where `colour` may not: as patches that take
/// it away.
fn takings(schema: &Value) -> Vec<Value> {
    if let Some(place) = schema["$ref"].as_str() {
        return takings(DOCUMENT.pointer(place.trim_start_matches('#')).unwrap());
    }
    let choices = ["anyOf", "oneOf"].into_iter();
    let choices = choices.flat_map(|name| schema[name].as_array().into_iter().flatten());
    let mut all: Vec<Value> = choices.flat_map(takings).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let named = ["patternProperties", "additionalProperties"].map(|name| &schema[name]);
    let more = match named {
        [patterns, _] if patterns.is_object() => patterns.as_object().unwrap().values().next(),
        [_, any] => any.is_object().then_some(any),
    };
    let members: Vec<(&str, &Value)> = properties
        .map(|(name, property)| (name.as_str(), property))
        .chain(
            more.into_iter()
                .flat_map(|schema| NAMES.map(|name| (name, schema))),
        )
        .collect();
    if members.is_empty() {
        return all;
    }
    all.push(json!({ "colour": null }));
    for (name, property) in members {
        all.push(json!({ name: null }));
        all.extend(
            takings(property)
                .into_iter()
                .map(|taking| json!({ name: taking })),
        );
    }
    all
}

/// Names of members that are in an object by name: one that a site, a vendor, a parameter and a header may have, and
/// none of them.
const NAMES: [&str; 2] = ["yealink", "A: b"];

#[test]
fn a_patch_takes_nothing_away_that_there_cannot_be() {
    let mut refused = 0;
    let fake = Fake::new();
    for (put, path) in SCENE.iter().take_while(|(id, _)| id.starts_with("put")) {
        play(&fake, put, path);
        let schema = format!("{}Patch", put.trim_start_matches("put"));
        let place = json!({ "$ref": format!("#/components/schemas/{schema}") });
        // Of which too little would be left.
        let too_much = [
            json!({ "ami": { "password": null } }),
            json!({ "access": { "email": null } }),
            json!({ "access": { "common_name": null } }),
        ];
        for patch in takings(&place) {
            if too_much.contains(&patch) {
                continue;
            }
            // As it was before the patch before this one.
            play(&fake, put, path);
            let answer = fetch(&fake, &call_by(ADMIN_TOKEN, Method::PATCH, path, &patch));
            let problem = shown(&answer);
            let errors = problem["errors"].as_array().into_iter().flatten();
            // What is missing then is no matter here, and what models there are the document does not say.
            let taken = !errors
                .map(|error| error["pointer"].as_str().unwrap_or_default())
                .filter(|at| {
                    at.strip_prefix("/models/")
                        .is_none_or(|at| at.contains('/'))
                })
                .any(|at| patch.pointer(at).is_some());
            refused += usize::from(!taken);
            let fits = conforms::is_of(&schema, &patch);
            assert_eq!(taken, fits, "{path}: {patch}: {problem}");
        }
    }
    assert!(refused > 50, "{refused}");
}

/// Whether a type's schema takes a text, by a schema of its own.
fn pattern_takes(pattern: &str, longest: usize, text: &str) -> bool {
    let schema = json!({ "type": "string", "pattern": pattern, "maxLength": longest });
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    validator.is_valid(&json!(text))
}

/// A type of text: its name, whether its pattern says all, what the schema takes and what the parser takes.
type Texts = (&'static str, bool, fn(&str) -> bool, fn(&str) -> bool);

macro_rules! texts {
    ($($name:ident $exact:literal),+) => {
        [$((
            stringify!($name),
            $exact,
            |text: &str| pattern_takes(text::$name::PATTERN, text::$name::LONGEST, text),
            |text: &str| text::$name::try_from(text).is_ok(),
        )),+]
    };
}

const TEXTS: [Texts; 21] = texts![
    Id true, Mailbox true, Username true, DisplayName true, CommonName true, Label true, RawValue true, Dial true,
    Serial true, Place true, Country true, PbxWord true, RawKey true, HeaderName true, Email false, ButtonValue false,
    DialPattern false, Host false, Language false, WebUrl false, ZoneName false
];

#[track_caller]
fn agree(text: &str) {
    for (name, exact, pattern, parser) in TEXTS {
        let (says, takes) = (pattern(text), parser(text));
        assert!(
            says || !takes,
            "{name} takes {text:?}, and the document does not"
        );
        assert!(
            takes || !says || !exact,
            "{name} does not take {text:?}, and the document does"
        );
    }
}

#[test]
fn the_patterns_say_what_the_parsers_say_of_odd_texts() {
    let long = |n: usize| "a".repeat(n);
    let odd = [
        "",
        " ",
        "a",
        "a ",
        " a",
        "a\n",
        "a\nb",
        "a\u{85}b",
        "\u{2028}",
        "a\u{a0}",
        "\u{feff}a",
        "a\u{feff}",
        "\u{fdd0}",
        "\u{fffe}",
        "\u{202e}",
        "ä",
        "🦀",
        "A",
        "-a",
        "_a",
        ".a",
        ".",
        "..",
        "...a",
        "a..b",
        "1",
        "127.0.0.1",
        "1.2.3",
        "::1",
        "2001:db8::1",
        "a.b.c",
        "a-.b",
        "de",
        "pt-BR",
        "de-",
        "d",
        "deut",
        "Europe/Berlin",
        "UTC",
        "Etc/GMT+1",
        "a@b",
        "a@b@c",
        "1001@default",
        "a.b-c_d@e",
        "a,b@c",
        "@b",
        "a@",
        "sip:a@b",
        "*98",
        "+49",
        "x.",
        ".x",
        "[2-9]xxx",
        "[9-2]",
        "[]",
        "[1",
        "https://a",
        "https://a/b?c=d",
        "HTTPS://a.example:8443/x",
        "https://",
        "http://[::1]/x",
        "https://a#b",
        "https://u@a",
        "https://a?b",
        "ftp://a",
        "https://a/{mac}",
        "DE",
        "De",
        "a[b]/c",
        "a b",
        "a b ",
        "%NULL%",
        "a/b",
    ];
    for text in odd {
        agree(text);
    }
    for n in [
        1, 2, 11, 12, 63, 64, 65, 79, 80, 81, 128, 129, 253, 254, 255, 512, 513,
    ] {
        agree(&long(n));
        agree(&"🦀".repeat(n));
        agree(&format!("{}@{}", long(n), long(n)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_patterns_say_what_the_parsers_say(text in "[ -~]{0,8}|[a-zA-Z0-9._@:/-]{1,20}|[\\x00-\\u{2100}]{0,4}|\\PC{0,6}") {
        // Beyond U+FFFF a pattern for everybody cannot name the non-characters.
        prop_assume!(!text.chars().any(|c| u32::from(c) > 0xffff && u32::from(c) & 0xfffe == 0xfffe));
        agree(&text);
    }

    #[test]
    fn a_span_a_mac_and_a_number_are_what_the_document_says(
        span in "[0-9]{0,6}[mhdx]?", mac in "[0-9a-fA-F:.-]{12,17}|([0-9a-f]{2}[:.-]){5}[0-9a-f]{2}|0{12}|f{12}",
        hours in 0_u64..400, seconds in 0_u16..9_000, secret in "[ -~]{0,3}|\\PC{0,130}",
    ) {
        let says = |name: &str, value: Value| {
            let pointer = format!("/components/schemas/{name}");
            let known = DOCUMENT.pointer(&pointer).is_some();
            assert!(known, "{name} is not in the document");
            conforms::is_of(name, &value)
        };
        prop_assert_eq!(says("Span", json!(span)), Span::try_from(span.clone()).is_ok(), "{}", span);
        prop_assert_eq!(says("Mac", json!(mac)), mac.parse::<mac::Mac>().is_ok(), "{}", mac);
        prop_assert_eq!(says("Hours", json!(hours)), Hours::try_from(hours).is_ok(), "{}", hours);
        prop_assert_eq!(says("Secret", json!(secret)), Secret::try_from(secret.clone()).is_ok(), "{}", secret);
        prop_assert_eq!(
            says("ExpiresSeconds", json!(seconds)),
            ExpiresSeconds::try_from(seconds).is_ok(),
            "{}", seconds
        );
    }
}

#[test]
fn what_the_document_takes_of_an_explained_request_the_api_takes_and_the_other_way_round() {
    let fake = Fake::new();
    for text in [
        "",
        "/",
        "/rps",
        "/rps?mac=1",
        "rps",
        "/ä",
        "/\u{7f}",
        "/\u{0}",
        "/\n",
        "\t",
        "\n",
        "\u{7f}",
        "ä",
        "🦀",
        "Yealink SIP-T46U 108.86.0.20",
    ] {
        for name in [
            "path",
            "user_agent",
            "accept",
            "serial",
            "mac",
            "certificate",
        ] {
            let body = json!({ name: text });
            let answer = fetch(&fake, &call_by(ADMIN_TOKEN, Method::POST, "explain", &body));
            let takes = answer.status() == 200;
            assert_eq!(
                conforms::is_of("PhoneRequest", &body),
                takes,
                "{body}: {}",
                shown(&answer)
            );
        }
    }
    for (length, takes) in [(16_384, true), (16_385, false)] {
        let body = json!({ "path": format!("/{}", "a".repeat(length - 1)) });
        let answer = fetch(&fake, &call_by(ADMIN_TOKEN, Method::POST, "explain", &body));
        assert_eq!(answer.status() == 200, takes, "{length}");
        assert_eq!(conforms::is_of("PhoneRequest", &body), takes, "{length}");
    }
}

#[test]
fn a_cursor_is_one_that_we_gave_or_it_is_refused_as_such() {
    let fake = Fake::new();
    for (path, operation) in [
        ("status", "getStatus"),
        ("devices", "listDevices"),
        ("devices/export", "exportDevices"),
    ] {
        let operations = all(&DOCUMENT);
        let (_, operation) = operations
            .iter()
            .find(|(_, there)| there["operationId"] == operation)
            .unwrap();
        let parameters = operation["parameters"].as_array().unwrap();
        let schema = &parameters.iter().find(|p| p["name"] == "cursor").unwrap()["schema"];
        let validator = jsonschema::draft202012::new(schema).unwrap();
        for (text, takes) in [
            (cursor("805ec0000001"), true),
            (cursor("805EC0000001"), false),
            (cursor("000000000000"), false),
            ("805ec0000001".to_owned(), false),
            ("rubbish".to_owned(), false),
            (String::new(), false),
            ("a=".to_owned(), false),
        ] {
            let mut request = call_by(ADMIN_TOKEN, Method::GET, path, &Value::Null);
            request.query = format!("cursor={text}");
            let answer = fetch(&fake, &request);
            let said = shown(&answer);
            assert_eq!(answer.status() == 200, takes, "{path} {text}: {said}");
            if takes {
                assert!(validator.is_valid(&json!(text)), "{path} {text}");
            } else {
                assert_eq!(said["detail"], "cursor is none of ours", "{path} {text}");
            }
        }
    }
}

#[test]
fn what_the_document_takes_of_a_device_the_parser_takes_and_the_other_way_round() {
    let base = json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U" });
    let with = |name: &str, value: Value| {
        let mut body = base.clone();
        body[name] = value;
        body
    };
    for body in [
        base.clone(),
        with("arm", json!("24h")),
        with("arm", json!("99d")),
        with("colour", json!("red")),
        with("lines", json!([{ "line": 1, "account": "a" }])),
        with("lines", json!([{ "line": 256, "account": "a" }])),
        with("lines", json!([{ "line": 1 }])),
        with("lines", json!(null)),
        with("site", json!(null)),
        with("enabled", json!("yes")),
        with("user_type", json!("hot-desking")),
        with("user_type", json!("hot_desking")),
        with(
            "buttons",
            json!([{ "key": 1, "type": "blf", "value": "1" }]),
        ),
        with("buttons", json!([{ "key": 1, "type": "warp" }])),
        with("buttons", json!([{ "key": -1, "type": "blf" }])),
        with("settings", json!({ "codecs": [] })),
        with("settings", json!({ "codecs": ["pcma", "pcma"] })),
        with("settings", json!({ "codecs": ["pcma"] })),
        with("settings", json!({ "vlan": { "id": 4095 } })),
        with("settings", json!({ "vlan": { "id": 1, "priority": null } })),
        with("settings", json!({ "admin_password": "" })),
        with("settings", json!({ "raw": { "yealink": { "a.b": "" } } })),
        with("settings", json!({ "raw": { "yealink": { " a": "" } } })),
        with("settings", json!({ "dial_plan": [] })),
        with("settings", json!({ "dial_plan": ["0x."] })),
    ] {
        let takes = serde_json::from_value::<Device>(body.clone()).is_ok();
        assert_eq!(conforms::is_of("DeviceWrite", &body), takes, "{body}");
    }
    let twice = serde_json::from_value::<Codecs>(json!(["opus", "opus"]));
    assert!(twice.is_err() && !conforms::is_of("Codecs", &json!(["opus", "opus"])));
}
