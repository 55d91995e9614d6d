//! API tokens: what each role may do, and that the holder of one tenant's token sees and changes
//! nothing of another's on any route that there is.

use std::collections::BTreeMap;
use std::rc::Rc;

use dialtone::admin::route::{ROUTES, Route, Scope};
use dialtone::ports::Limit;
use dialtone::ports::World;
use dialtone::record::token::Role;
use dialtone::tick;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::ask::{
    Told, ask, call, call_by, cost, cursor, delete, fetch, get, header, json_of, put, text,
};
use crate::world::{ADMIN_TOKEN, Count, Failing, Fake, block_on};

/// The tenant whose tokens are tried, its phone, and how its texts begin.
const OWN: &str = "alpha";
const OWN_MAC: &str = "805ec00000a1";
/// The other one. Every text of its records holds this word or its phone's MAC.
const FOREIGN: &str = "bravo";
const FOREIGN_MAC: &str = "805ec00000b2";
/// What is not there, as long as what is.
const ABSENT: &str = "blank";
const ABSENT_MAC: &str = "805ec00000c3";

const ROLES: [Role; 3] = [Role::Reader, Role::Operator, Role::Owner];

/// A record of a tenant, as an admin writes it.
fn record(collection: &str, tenant: &str) -> Value {
    match collection {
        "tenants" => json!({ "name": format!("{tenant} Ltd") }),
        "profiles" => json!({ "tenant": tenant, "settings": { "admin_password": "on-the-phone" } }),
        "pbxes" => json!({
            "tenant": tenant,
            "ari_url": format!("https://{tenant}.example.com/ari"),
            "ari_username": tenant,
            "ari_password": "ari-password-in-clear",
            "sip": { "host": format!("sip.{tenant}.example.com") },
        }),
        "accounts" => json!({
            "tenant": tenant,
            "pbx": format!("{tenant}-pbx"),
            "username": format!("{tenant}1001"),
            "display_name": format!("{tenant} Zoe"),
        }),
        "devices" => json!({
            "tenant": tenant,
            "vendor": "yealink",
            "model": "T46U",
            "serial": format!("{tenant}-serial"),
            "profile": format!("{tenant}-office"),
            "user_type": "hot-desking",
            "lines": [{ "line": 1, "account": format!("{tenant}-1001") }],
        }),
        "rules" => json!({
            "match": { "tenant": tenant },
            "url": format!("https://{tenant}.example.com/"),
        }),
        "tokens" => json!({ "tenant": tenant, "role": "reader", "name": format!("{tenant} CI") }),
        other => panic!("no record of {other}"),
    }
}

/// The collections, in an order in which their records can be made.
const COLLECTIONS: [&str; 7] = [
    "tenants", "profiles", "pbxes", "accounts", "devices", "rules", "tokens",
];

/// The id that the record of a tenant has.
fn id(collection: &str, tenant: &str) -> String {
    match (collection, tenant) {
        ("tenants", _) => tenant.to_owned(),
        ("profiles", _) => format!("{tenant}-office"),
        ("pbxes", _) => format!("{tenant}-pbx"),
        ("accounts", _) => format!("{tenant}-1001"),
        ("devices", OWN) => OWN_MAC.to_owned(),
        ("devices", FOREIGN) => FOREIGN_MAC.to_owned(),
        ("devices", ABSENT) => ABSENT_MAC.to_owned(),
        ("rules", _) => format!("{tenant}-rule"),
        ("tokens", _) => format!("{tenant}-ci"),
        other => panic!("no id of {other:?}"),
    }
}

/// Two tenants that have one of everything, and their PBXes were looked at.
fn two_tenants() -> Rc<Fake> {
    let fake = Fake::new();
    for tenant in [OWN, FOREIGN] {
        for collection in COLLECTIONS {
            let path = format!("{collection}/{}", id(collection, tenant));
            put(&fake, &path, &record(collection, tenant));
        }
        let path = format!("devices/{}/session", id("devices", tenant));
        put(&fake, &path, &json!({ "account": id("accounts", tenant) }));
    }
    fake.clock.pass_s(120);
    block_on(tick::run(&*fake, None));
    fake.clock.pass_s(120);
    fake
}

/// A new token's text.
fn token(fake: &Fake, id: &str, role: Role, tenant: Option<&str>) -> String {
    let mut body = json!({ "role": role });
    if let Some(tenant) = tenant {
        body["tenant"] = tenant.into();
    }
    let made = put(fake, &format!("tokens/{id}"), &body);
    made["token"].as_str().unwrap().to_owned()
}

/// A call by the holder of a token, from end to end.
fn by(fake: &Fake, token: &str, method: Method, path: &str, body: &Value) -> Response<Vec<u8>> {
    fetch(fake, &call_by(token, method, path, body))
}

/// The kind of problem that an answer is, such as `forbidden`.
fn problem(answer: &Response<Vec<u8>>) -> String {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let kind = body["type"].as_str().unwrap_or_default();
    kind.trim_start_matches("urn:dialtone:problem:").to_owned()
}

#[track_caller]
fn refused(answer: &Response<Vec<u8>>, status: u16, kind: &str) {
    let body = String::from_utf8_lossy(answer.body());
    assert_eq!(
        (answer.status().as_u16(), problem(answer).as_str()),
        (status, kind),
        "{body}"
    );
}

/// Status, headers and body of an answer in one text.
fn whole(answer: &Response<Vec<u8>>) -> String {
    format!(
        "{} {:?}\n{}",
        answer.status(),
        answer.headers(),
        String::from_utf8_lossy(answer.body())
    )
}

/// A path with what a tenant has in the place of what stands in braces.
fn path_of(route: &Route, tenant: &str) -> String {
    let segments = route.path.split('/').map(|segment| match segment {
        "{tenant}" => id("tenants", tenant),
        "{profile}" => id("profiles", tenant),
        "{pbx}" => id("pbxes", tenant),
        "{account}" => id("accounts", tenant),
        "{mac}" => id("devices", tenant),
        "{rule}" => id("rules", tenant),
        "{token}" => id("tokens", tenant),
        "{name}" => "ACC.cfg".to_owned(),
        other if other.starts_with('{') => panic!("say what {other} of {} is", route.path),
        other => other.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// The bodies that a route is tried with: none, nothing, each way to name what is another's.
fn bodies(route: &Route) -> Vec<Value> {
    let collection = route.path.split('/').next().unwrap();
    let mut bodies = vec![Value::Null, json!({})];
    if route.method == Method::GET || route.method == Method::DELETE {
        bodies.truncate(1);
        return bodies;
    }
    if route.path.ends_with("/batch") {
        for (tenant, named) in [
            (FOREIGN, FOREIGN),
            (FOREIGN, OWN),
            (OWN, OWN),
            (OWN, FOREIGN),
        ] {
            let mut line = record(collection, tenant);
            line[if collection == "devices" { "mac" } else { "id" }] = id(collection, named).into();
            if collection == "accounts" && tenant == OWN {
                line["username"] = "alpha2002".into();
            }
            bodies.push(line.clone());
            if collection == "devices" {
                line["lines"][0]["account"] = "bravo-1001".into();
                bodies.push(line);
            }
        }
        return bodies;
    }
    if route.method == Method::POST {
        bodies.push(json!({ "country": "DE", "asn": 3320 }));
        bodies.push(json!({ "to": "stop" }));
        bodies.push(json!({ "version": 1 }));
        if route.path == "preview" {
            let device = |tenant| record("devices", tenant);
            let profile = |tenant| record("profiles", tenant);
            bodies.push(json!({ "mac": OWN_MAC, "device": device(OWN) }));
            bodies.push(json!({ "mac": OWN_MAC, "device": device(FOREIGN) }));
            bodies.push(json!({ "mac": FOREIGN_MAC, "device": device(OWN) }));
            bodies.push(json!({ "mac": FOREIGN_MAC, "device": device(FOREIGN) }));
            bodies.push(json!({ "mac": FOREIGN_MAC, "profile": profile(OWN) }));
            bodies.push(json!({ "mac": OWN_MAC, "profile": profile(FOREIGN) }));
            let mut theirs = record("accounts", OWN);
            theirs["id"] = "bravo-1001".into();
            bodies.push(json!({ "mac": OWN_MAC, "account": theirs }));
            let mut theirs = device(OWN);
            theirs["profile"] = "bravo-office".into();
            bodies.push(json!({ "mac": OWN_MAC, "profile": profile(OWN), "device": theirs }));
            let mut mixed = device(OWN);
            mixed["lines"][0]["account"] = "bravo-1001".into();
            bodies.push(json!({ "mac": OWN_MAC, "device": mixed }));
            bodies.push(json!({ "mac": OWN_MAC, "tenant": record("tenants", FOREIGN) }));
            bodies.push(json!({ "device": device(FOREIGN), "tenant": record("tenants", OWN) }));
        }
        bodies.push(json!({
            "mac": FOREIGN_MAC,
            "serial": "bravo-serial",
            "path": format!("/rps/{FOREIGN_MAC}.boot"),
        }));
        bodies.push(json!({ "path": format!("/rps/{FOREIGN_MAC}.boot") }));
        bodies.push(json!({ "serial": "bravo-serial", "path": "/rps/sn/bravo-serial/x.boot" }));
        return bodies;
    }
    bodies.push(json!({ "tenant": FOREIGN }));
    bodies.push(json!({ "match": { "tenant": FOREIGN } }));
    bodies.push(json!({ "tenant": null }));
    bodies.push(json!({ "match": { "tenant": null } }));
    bodies.push(json!({ "id": id(collection, FOREIGN) }));
    bodies.push(json!({ "profile": "bravo-office" }));
    bodies.push(json!({ "pbx": "bravo-pbx" }));
    bodies.push(json!({ "account": "bravo-1001" }));
    bodies.push(json!({ "account": "alpha-1001", "hours": 1 }));
    bodies.push(json!({ "lines": [{ "line": 1, "account": "bravo-1001" }] }));
    if COLLECTIONS.contains(&collection) {
        bodies.push(record(collection, FOREIGN));
        // What its tenant could have, and the same with each thing in it another's.
        let mut own = record(collection, OWN);
        if collection == "accounts" {
            // Another of its accounts has the name that it would have by itself.
            bodies.push(own.clone());
            own["username"] = "alpha2002".into();
        }
        bodies.push(own.clone());
        for (member, value) in [
            ("profile", json!("bravo-office")),
            ("pbx", json!("bravo-pbx")),
            ("lines", json!([{ "line": 1, "account": "bravo-1001" }])),
            ("tenant", json!(FOREIGN)),
            ("match", json!({ "tenant": FOREIGN })),
        ] {
            if own.get(member).is_some() {
                let mut mixed = own.clone();
                mixed[member] = value;
                bodies.push(mixed);
            }
        }
    }
    bodies
}

/// The queries that a route is tried with.
fn queries(route: &Route) -> Vec<String> {
    let mut queries = vec![String::new()];
    if route.method == Method::GET {
        let collection = route.path.split('/').next().unwrap();
        queries.extend([
            "?secrets=1".to_owned(),
            "?version=1".to_owned(),
            "?from=1".to_owned(),
            format!("?tenant={FOREIGN}"),
            format!("?tenant={FOREIGN}&verify=1"),
            "?limit=200".to_owned(),
            "?limit=1".to_owned(),
            format!("?mac={FOREIGN_MAC}"),
        ]);
        if COLLECTIONS.contains(&collection) {
            queries.push(format!("?cursor={}", cursor(&id(collection, FOREIGN))));
            queries.push(format!("?q={FOREIGN}"));
        }
        queries.push(format!("?cursor={FOREIGN_MAC}"));
    }
    queries
}

/// A text about what is another's as one about what is not there.
fn as_absent(text: &str) -> String {
    let mut text = text
        .replace(FOREIGN, ABSENT)
        .replace(FOREIGN_MAC, ABSENT_MAC);
    for collection in COLLECTIONS {
        let [theirs, none] = [FOREIGN, ABSENT].map(|tenant| cursor(&id(collection, tenant)));
        text = text.replace(&format!("cursor={theirs}"), &format!("cursor={none}"));
    }
    text
}

#[track_caller]
fn tells_nothing(text: &str, what: &str) {
    let lower = text.to_lowercase();
    for word in [FOREIGN, FOREIGN_MAC, "80:5e:c0:00:00:b2"] {
        assert!(!lower.contains(word), "{what}: {word} in {text}");
    }
}

/// Everything of the other tenant that the stores hold: its keys name it or its phone, but for the
/// last run. What is written down of the caller's own doings is its own.
fn of_the_other(fake: &Fake) -> BTreeMap<String, Vec<u8>> {
    let mut held = fake.holdings();
    held.retain(|key, _| {
        let theirs = key.contains(FOREIGN) || key.contains(FOREIGN_MAC) || key == "r2 reconcile";
        theirs && !key.starts_with(&format!("r2 audit-new/{OWN}/"))
    });
    held
}

#[track_caller]
fn untouched(fake: &Fake, theirs: &BTreeMap<String, Vec<u8>>, what: &str) {
    let now = of_the_other(fake);
    if now != *theirs {
        let differs = |key: &&String| now.get(*key) != theirs.get(*key);
        let keys: Vec<_> = now.keys().chain(theirs.keys()).filter(differs).collect();
        panic!("{what}: {keys:?}");
    }
}

type Cost = (Count, Count);

/// One call, what it costs, and what it leaves behind of the other tenant.
fn tried(
    fake: &Fake,
    token: &str,
    method: &Method,
    path: &str,
    body: &Value,
) -> (Response<Vec<u8>>, Cost) {
    let mut request = call_by(token, method.clone(), path, body);
    if path
        .split('?')
        .next()
        .unwrap_or_default()
        .ends_with("/batch")
    {
        // One line of it.
        request = request.with("content-type", "application/x-ndjson");
    }
    let (answer, kv, r2) = cost(fake, &request);
    (answer, (kv, r2))
}

#[test]
fn the_holder_of_one_tenants_token_cannot_tell_another_tenant_from_none() {
    let fake = two_tenants();
    let tokens: Vec<(Role, String)> = ROLES
        .map(|role| {
            let text = token(&fake, &format!("alpha-{}", role.name()), role, Some(OWN));
            (role, text)
        })
        .into();
    fake.clock.pass_s(5);
    let before = fake.snapshot();
    let theirs = of_the_other(&fake);
    assert!(theirs.len() > 20, "{:?}", theirs.keys());
    let (mut calls, mut batched, mut previewed) = (0, 0, 0);
    for route in ROUTES {
        for (path, query) in [OWN, FOREIGN]
            .map(|tenant| path_of(route, tenant))
            .iter()
            .flat_map(|path| {
                queries(route)
                    .into_iter()
                    .map(move |query| (path.clone(), query))
            })
        {
            for body in bodies(route) {
                for (role, token) in &tokens {
                    let path = format!("{path}{query}");
                    let what = format!("{role:?} {} {path} {body}", route.method);
                    fake.restore(&before);
                    let (answer, paid) = tried(&fake, token, &route.method, &path, &body);
                    untouched(&fake, &theirs, &what);

                    fake.restore(&before);
                    let absent: Value =
                        serde_json::from_str(&as_absent(&body.to_string())).unwrap();
                    let path = as_absent(&path);
                    let (none, none_paid) = tried(&fake, token, &route.method, &path, &absent);
                    untouched(&fake, &theirs, &what);
                    tells_nothing(&whole(&none), &what);
                    calls += 1;
                    if route.method == Method::PUT && none.status() == StatusCode::CREATED {
                        refused(&answer, 409, "taken");
                        tells_nothing(&whole(&answer), &what);
                        continue;
                    }
                    if route.path == "preview"
                        && none.status() == StatusCode::OK
                        && answer.status() == StatusCode::CONFLICT
                    {
                        previewed += 1;
                        refused(&answer, 409, "taken");
                        tells_nothing(&whole(&answer), &what);
                        continue;
                    }
                    let line = |answer: &Response<Vec<u8>>| {
                        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
                        body["lines"][0].clone()
                    };
                    if route.path.ends_with("/batch") && line(&none)["status"] == 201 {
                        batched += 1;
                        assert_eq!(line(&answer)["status"], 409, "{what}");
                        assert_eq!(
                            line(&answer)["problem"]["type"],
                            "urn:dialtone:problem:taken"
                        );
                        // It says the id that it was sent, and nothing else.
                        let named = line(&none)["mac"].as_str().map_or(FOREIGN, |_| FOREIGN_MAC);
                        tells_nothing(&whole(&answer).replacen(named, ABSENT, 1), &what);
                        continue;
                    }
                    assert_eq!(as_absent(&whole(&answer)), whole(&none), "{what}");
                    assert_eq!(paid, none_paid, "{what}");
                }
            }
        }
    }
    assert!(
        calls > 1_000 && batched > 0 && previewed > 0,
        "{calls} {batched} {previewed}"
    );
}

#[test]
fn every_route_refuses_a_parameter_that_there_is_not() {
    let fake = two_tenants();
    for route in ROUTES {
        let path = format!("{}?nonsense=1", path_of(route, FOREIGN));
        let answer = call(&fake, route.method.clone(), &path, &json!({}));
        refused(&answer, 400, "bad_parameter");
    }
}

#[test]
fn what_one_tenants_token_is_denied_is_there_for_the_operator() {
    // Or the test before would find nothing where there is nothing.
    let fake = two_tenants();
    for route in ROUTES {
        if route.method == Method::GET && route.scope == Scope::Tenant {
            let mut path = path_of(route, FOREIGN);
            if path == "audit" {
                // Without a tenant it is the operator's own.
                path = format!("audit?tenant={FOREIGN}");
            }
            if path.ends_with("/diff") {
                // Between what its host and its user have, and that names no tenant.
                continue;
            }
            let shown = text(&call(&fake, Method::GET, &path, &Value::Null));
            let theirs = shown.contains(FOREIGN) || shown.contains(FOREIGN_MAC);
            assert!(theirs || route.path == "status", "{path}: {shown}");
        }
    }
    let run = json_of(&call(&fake, Method::GET, "status", &Value::Null));
    assert!(run["reconcile"]["pbxes"]["bravo-pbx"].is_object(), "{run}");
    assert_eq!(run["devices"]["unseen"], 2, "{run}");
}

#[test]
fn a_tenant_sees_its_own() {
    let fake = two_tenants();
    let owner = token(&fake, "alpha-owner", Role::Owner, Some(OWN));
    for route in ROUTES.iter().filter(|route| route.method == Method::GET) {
        let mut path = path_of(route, OWN);
        if path.ends_with("/diff") {
            let files = by(
                &fake,
                &owner,
                Method::GET,
                &path.replace("diff", "files"),
                &Value::Null,
            );
            path = format!("{path}?from={}", json_of(&files)["version"]);
        }
        let answer = by(&fake, &owner, Method::GET, &path, &Value::Null);
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    for collection in COLLECTIONS {
        let listed = json_of(&by(&fake, &owner, Method::GET, collection, &Value::Null));
        let ids: Vec<&str> = listed["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().or(item["mac"].as_str()).unwrap())
            .collect();
        let own = id(collection, OWN);
        assert!(ids.contains(&own.as_str()), "{collection}: {ids:?}");
        let after = format!("{collection}?cursor={}", cursor(&own));
        let rest = json_of(&by(&fake, &owner, Method::GET, &after, &Value::Null));
        let tokens = usize::from(collection == "tokens");
        assert_eq!(rest["items"].as_array().unwrap().len(), tokens, "{rest}");
        if collection != "tenants" {
            let mine = format!("{collection}?tenant={OWN}");
            let mine = json_of(&by(&fake, &owner, Method::GET, &mine, &Value::Null));
            assert_eq!(mine, listed);
        }
    }
    let status = json_of(&by(&fake, &owner, Method::GET, "status", &Value::Null));
    assert_eq!(status["devices"]["unseen"], 1);
    let pbxes = status["reconcile"]["pbxes"].as_object().unwrap();
    assert_eq!(pbxes.keys().collect::<Vec<_>>(), ["alpha-pbx"]);
    // How many saves of others were cut off is not its business.
    assert_eq!(status["reconcile"].get("finished"), None);
    assert_eq!(status["reconcile"].get("unfinished"), None);
    assert_eq!(status["reconcile"].get("calls"), None);
}

#[test]
fn what_others_have_more_of_changes_nothing_that_a_tenant_sees_or_waits_for() {
    let fake = two_tenants();
    let owner = token(&fake, "alpha-owner", Role::Owner, Some(OWN));
    fake.clock.pass_s(5);
    let few = fake.snapshot();
    for n in 0..3 {
        for collection in ["profiles", "pbxes", "rules", "tokens"] {
            // Before its own ones, between them and after.
            for begins in ["aaa", "alpha-o", "zzz"] {
                let path = format!("{collection}/{begins}{n}");
                put(&fake, &path, &record(collection, FOREIGN));
            }
        }
        let mut account = record("accounts", FOREIGN);
        account["username"] = format!("more{n}").into();
        put(&fake, &format!("accounts/aaa{n}"), &account);
        put(&fake, &format!("tenants/alpha{n}"), &json!({}));
        let device = record("devices", FOREIGN);
        put(&fake, &format!("devices/0004130000a{n}"), &device);
    }
    fake.clock.pass_s(1_000);
    let many = fake.snapshot();
    for route in ROUTES.iter().filter(|route| route.method == Method::GET) {
        let path = path_of(route, OWN);
        let [one, other] = [&few, &many].map(|world| {
            fake.restore(world);
            let (answer, paid) = tried(&fake, &owner, &route.method, &path, &Value::Null);
            (whole(&answer), paid)
        });
        assert_eq!(one, other, "{path}");
    }
}

#[test]
fn a_foreign_tenant_in_a_body_is_403_before_anything_is_read() {
    let fake = two_tenants();
    let owner = token(&fake, "alpha-owner", Role::Owner, Some(OWN));
    fake.clock.pass_s(5);
    for route in ROUTES.iter().filter(|route| route.method == Method::PATCH) {
        let body = match route.path {
            "tenants/{tenant}" => continue,
            "rules/{rule}" => json!({ "match": { "tenant": FOREIGN } }),
            _ => json!({ "tenant": FOREIGN }),
        };
        for tenant in [OWN, FOREIGN, ABSENT] {
            let path = path_of(route, tenant);
            let (answer, (kv, r2)) = tried(&fake, &owner, &Method::PATCH, &path, &body);
            refused(&answer, 403, "forbidden");
            assert_eq!((kv.all(), r2.all()), (0, 1), "{path}");
            let collection = path.split('/').next().unwrap();
            let whole = record(collection, FOREIGN);
            let (answer, (kv, r2)) = tried(&fake, &owner, &Method::PUT, &path, &whole);
            refused(&answer, 403, "forbidden");
            assert_eq!((kv.all(), r2.all()), (0, 1), "{path}");
        }
    }
}

#[test]
fn too_small_a_role_is_refused_before_anything_is_read() {
    let fake = two_tenants();
    for role in ROLES {
        for tenant in [Some(OWN), None] {
            let name = format!("{}-{}", role.name(), tenant.unwrap_or("all"));
            let token = token(&fake, &name, role, tenant);
            fake.clock.pass_s(5);
            let before = fake.snapshot();
            for route in ROUTES {
                let what = format!("{name}: {} {}", route.method, route.path);
                fake.restore(&before);
                let path = path_of(route, OWN);
                let body = match route.method {
                    Method::GET => Value::Null,
                    _ => json!({}),
                };
                let (answer, (kv, r2)) = tried(&fake, &token, &route.method, &path, &body);
                let denied =
                    role < route.least || (tenant.is_some() && route.scope == Scope::Operator);
                if denied {
                    refused(&answer, 403, "forbidden");
                    // The token itself.
                    assert_eq!((kv.all(), r2.all(), r2.gets), (0, 1, 1), "{what}");
                } else {
                    assert_ne!(answer.status(), StatusCode::FORBIDDEN, "{what}");
                    assert_ne!(answer.status(), StatusCode::UNAUTHORIZED, "{what}");
                }
            }
            fake.restore(&before);
            for path in [
                format!("accounts/{}?secrets=1", id("accounts", OWN)),
                format!("devices/{OWN_MAC}?secrets=1"),
                format!("devices/{OWN_MAC}/files/ACC.cfg?secrets=1"),
            ] {
                let (answer, (kv, r2)) = tried(&fake, &token, &Method::GET, &path, &Value::Null);
                if role == Role::Owner {
                    assert_eq!(answer.status(), StatusCode::OK, "{name}: {path}");
                } else {
                    refused(&answer, 403, "forbidden");
                    assert_eq!((kv.all(), r2.all()), (0, 1), "{name}: {path}");
                }
            }
        }
    }
}

#[test]
fn roles_are_what_they_say() {
    // The table by itself would let a test agree with whatever it says.
    let least = |method: Method, path: &str| {
        let mut found = ROUTES
            .iter()
            .filter(|r| r.method == method && r.path == path);
        found
            .next()
            .unwrap_or_else(|| panic!("{method} {path}"))
            .least
    };
    for route in ROUTES {
        let tokens = route.path.starts_with("tokens");
        // A roll-out is brought on or stopped by whoever may change a profile.
        let tenants = route.path.starts_with("tenants") && !route.path.ends_with("/rollout");
        match route.method {
            Method::GET => assert_eq!(route.least, Role::Reader, "{route:?}"),
            _ if tokens || tenants => assert_eq!(route.least, Role::Owner, "{route:?}"),
            _ => assert!(
                route.least >= Role::Operator || !route.path.contains('{'),
                "{route:?}"
            ),
        }
    }
    for path in [
        "profiles/{profile}",
        "pbxes/{pbx}",
        "accounts/{account}",
        "rules/{rule}",
    ] {
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(least(method, path), Role::Operator);
        }
    }
    for action in ["arm", "rotate", "revoke"] {
        assert_eq!(
            least(Method::POST, &format!("devices/{{mac}}/{action}")),
            Role::Operator
        );
    }
}

#[test]
fn an_operator_of_a_tenant_can_run_it() {
    let fake = two_tenants();
    let operator = token(&fake, "alpha-op", Role::Operator, Some(OWN));
    for collection in ["profiles", "pbxes", "accounts", "devices", "rules"] {
        let mut body = record(collection, OWN);
        if collection == "accounts" {
            body["username"] = "alpha2002".into();
        }
        let new = match collection {
            "devices" => "805ec00000d4",
            _ => "alpha-new",
        };
        let path = format!("{collection}/{new}");
        let made = by(&fake, &operator, Method::PUT, &path, &body);
        assert_eq!(made.status(), StatusCode::CREATED, "{}", whole(&made));
        let change = match collection {
            "profiles" | "devices" => json!({ "settings": { "dnd": true } }),
            "pbxes" => json!({ "context": "inside" }),
            "accounts" => json!({ "display_name": "Ann" }),
            _ => json!({ "priority": 7 }),
        };
        let changed = by(&fake, &operator, Method::PATCH, &path, &change);
        assert_eq!(changed.status(), StatusCode::OK, "{}", whole(&changed));
    }
    for action in ["arm", "rotate", "revoke"] {
        let path = format!("devices/805ec00000d4/{action}");
        let acted = by(&fake, &operator, Method::POST, &path, &json!({}));
        assert_eq!(acted.status(), StatusCode::OK, "{}", whole(&acted));
    }
    for path in [
        "devices/805ec00000d4",
        "accounts/alpha-new",
        "pbxes/alpha-new",
        "rules/alpha-new",
        "profiles/alpha-new",
    ] {
        let gone = by(&fake, &operator, Method::DELETE, path, &Value::Null);
        assert_eq!(gone.status(), StatusCode::NO_CONTENT, "{}", whole(&gone));
    }
    // Whoever did it is named by the id of the token.
    let events = fake.holdings();
    let said = events
        .iter()
        .filter(|(key, _)| key.starts_with("r2 audit"))
        .map(|(_, body)| String::from_utf8_lossy(body).into_owned())
        .find(|event| event.contains("device.armed"))
        .unwrap();
    assert!(said.contains(r#""actor":"alpha-op""#), "{said}");
}

#[test]
fn what_is_for_all_tenants_is_written_by_unscoped_owners_alone() {
    let fake = two_tenants();
    let everywhere = json!({ "match": { "vendor": "snom" }, "url": "https://all.example.com/" });
    put(&fake, "rules/for-all", &everywhere);
    let callers = [
        ("op-all", Role::Operator, None),
        ("op-alpha", Role::Operator, Some(OWN)),
        ("owner-alpha", Role::Owner, Some(OWN)),
    ];
    for (name, role, tenant) in callers {
        let token = token(&fake, name, role, tenant);
        let sees = tenant.is_none();
        let rule = |method: Method, path: &str, body: &Value| by(&fake, &token, method, path, body);
        for path in ["rules/new", "rules/for-all"] {
            refused(&rule(Method::PUT, path, &everywhere), 403, "forbidden");
        }
        let priority = json!({ "priority": 1 });
        let (status, kind) = if sees {
            (403, "forbidden")
        } else {
            (404, "not_found")
        };
        let path = "rules/for-all";
        refused(&rule(Method::PATCH, path, &priority), status, kind);
        refused(&rule(Method::DELETE, path, &Value::Null), status, kind);
        let got = rule(Method::GET, path, &Value::Null).status();
        assert_eq!(got, if sees { 200 } else { 404 }, "{name}");
        // A rule of a tenant does not become everybody's either.
        let loose = json!({ "match": { "tenant": null } });
        refused(
            &rule(Method::PATCH, "rules/alpha-rule", &loose),
            403,
            "forbidden",
        );
        if role == Role::Owner {
            for body in [
                json!({ "role": "reader" }),
                json!({ "role": "reader", "tenant": FOREIGN }),
            ] {
                refused(&rule(Method::PUT, "tokens/new", &body), 403, "forbidden");
            }
            refused(
                &rule(Method::PUT, "tenants/new", &json!({})),
                403,
                "forbidden",
            );
            refused(
                &rule(Method::PUT, "tenants/bravo", &json!({})),
                403,
                "forbidden",
            );
            refused(
                &rule(Method::DELETE, "tenants/alpha", &Value::Null),
                403,
                "forbidden",
            );
            let own = rule(Method::PATCH, "tenants/alpha", &json!({ "name": "Alpha" }));
            assert_eq!(own.status(), StatusCode::OK, "{}", whole(&own));
        }
    }
    let owner = token(&fake, "owner-all", Role::Owner, None);
    for (path, body) in [
        ("rules/for-all", &everywhere),
        ("tenants/new", &json!({})),
        ("tokens/new", &json!({ "role": "owner" })),
    ] {
        let made = by(&fake, &owner, Method::PUT, path, body);
        assert!(made.status().is_success(), "{path}: {}", whole(&made));
    }
    for path in ["rules/for-all", "tenants/new", "tokens/new"] {
        let gone = by(&fake, &owner, Method::DELETE, path, &Value::Null);
        assert_eq!(gone.status(), StatusCode::NO_CONTENT, "{}", whole(&gone));
    }
}

#[test]
fn nobody_gives_a_token_more_than_the_own_one_has() {
    let fake = Fake::new();
    put(&fake, "tenants/alpha", &json!({}));
    let soon = json!({ "role": "owner", "expires_at": "2026-12-01T00:00:00Z" });
    let soon = put(&fake, "tokens/soon", &soon);
    let soon = soon["token"].as_str().unwrap();
    token(&fake, "for-ever", Role::Reader, None);
    // It would outlive its maker, or give what the maker has a longer life.
    for body in [
        json!({ "role": "reader" }),
        json!({ "role": "reader", "expires_at": "2026-12-01T00:00:01Z" }),
    ] {
        for path in ["tokens/more", "tokens/soon", "tokens/for-ever"] {
            refused(&by(&fake, soon, Method::PUT, path, &body), 403, "forbidden");
        }
    }
    for patch in [
        json!({ "expires_at": null }),
        json!({ "expires_at": "2027-01-01T00:00:00Z" }),
    ] {
        refused(
            &by(&fake, soon, Method::PATCH, "tokens/soon", &patch),
            403,
            "forbidden",
        );
    }
    let rotated = by(
        &fake,
        soon,
        Method::POST,
        "tokens/for-ever/rotate",
        &json!({}),
    );
    refused(&rotated, 403, "forbidden");
    let gone = by(&fake, soon, Method::DELETE, "tokens/for-ever", &Value::Null);
    refused(&gone, 403, "forbidden");
    let less = json!({ "role": "owner", "tenant": OWN, "expires_at": "2026-12-01T00:00:00Z" });
    let less = by(&fake, soon, Method::PUT, "tokens/less", &less);
    assert_eq!(less.status(), StatusCode::CREATED, "{}", whole(&less));
    let own = by(&fake, soon, Method::POST, "tokens/soon/rotate", &json!({}));
    assert_eq!(own.status(), StatusCode::OK, "{}", whole(&own));
}

#[test]
fn a_token_is_shown_once_and_stored_nowhere() {
    let fake = Fake::new();
    put(&fake, "tenants/alpha", &json!({}));
    let body = json!({ "role": "operator", "tenant": OWN, "name": "Ann's laptop" });
    let answer = call(&fake, Method::PUT, "tokens/ann", &body);
    assert_eq!(answer.status(), StatusCode::CREATED);
    let made: Value = serde_json::from_slice(answer.body()).unwrap();
    let text = made["token"].as_str().unwrap().to_owned();
    let random = text.strip_prefix("dialtone_ann_").unwrap();
    // 32 bytes in base64url.
    assert_eq!(random.len(), 43, "{text}");
    assert_eq!(made.get("visible_by"), None, "{made}");

    let shown = json_of(&call(
        &fake,
        Method::GET,
        "tokens/ann?secrets=1",
        &Value::Null,
    ));
    let keys: Vec<&String> = shown.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["id", "name", "revision", "role", "tenant", "updated_at"]
    );
    let sent_back = put(&fake, "tokens/ann", &made);
    assert_eq!(sent_back, shown);
    let list = json_of(&call(&fake, Method::GET, "tokens", &Value::Null));
    assert_eq!(list["items"], json!([shown]));

    assert_eq!(
        by(&fake, &text, Method::GET, "devices", &Value::Null).status(),
        200
    );
    let changed = call(
        &fake,
        Method::PATCH,
        "tokens/ann",
        &json!({ "role": "reader" }),
    );
    assert_eq!(json_of(&changed).get("token"), None);
    let rotated = call(&fake, Method::POST, "tokens/ann/rotate", &Value::Null);
    let dump = String::from_utf8_lossy(&fake.dump()).into_owned() + &fake.logged();
    for secret in [random, json_of(&rotated)["token"].as_str().unwrap()] {
        assert!(!dump.contains(secret), "{secret}");
    }
    let in_kv = fake.holdings();
    let in_kv: Vec<_> = in_kv
        .keys()
        .filter(|key| key.starts_with("kv token"))
        .collect();
    assert_eq!(in_kv, Vec::<&String>::new());
}

#[test]
fn a_token_is_good_for_what_its_record_says_now() {
    let fake = two_tenants();
    let text = token(&fake, "ci", Role::Reader, Some(OWN));
    let profile = record("profiles", OWN);
    let write = || by(&fake, &text, Method::PUT, "profiles/alpha-office", &profile);
    refused(&write(), 403, "forbidden");
    call(
        &fake,
        Method::PATCH,
        "tokens/ci",
        &json!({ "role": "operator" }),
    );
    assert_eq!(write().status(), StatusCode::OK);

    let old = header(&call(&fake, Method::GET, "tokens/ci", &Value::Null), "etag").to_owned();
    let rotated = call(&fake, Method::POST, "tokens/ci/rotate", &json!({}));
    let new = json_of(&rotated)["token"].as_str().unwrap().to_owned();
    assert_ne!(header(&rotated, "etag"), old);
    refused(&write(), 401, "unauthorized");
    let fine = by(&fake, &new, Method::GET, "devices", &Value::Null);
    assert_eq!(fine.status(), StatusCode::OK);
    let wrong = call(
        &fake,
        Method::POST,
        "tokens/ci/rotate",
        &json!({ "grace": 1 }),
    );
    refused(&wrong, 422, "invalid");
    refused(
        &call(&fake, Method::POST, "tokens/none/rotate", &json!({})),
        404,
        "not_found",
    );

    // One that comes back under its name is another one.
    delete(&fake, "tokens/ci");
    refused(
        &by(&fake, &new, Method::GET, "devices", &Value::Null),
        401,
        "unauthorized",
    );
    let third = token(&fake, "ci", Role::Reader, Some(OWN));
    refused(
        &by(&fake, &new, Method::GET, "devices", &Value::Null),
        401,
        "unauthorized",
    );
    let fine = by(&fake, &third, Method::GET, "devices", &Value::Null);
    assert_eq!(fine.status(), StatusCode::OK);
}

#[test]
fn a_token_that_is_not_good_is_one_401_whatever_the_reason() {
    let fake = two_tenants();
    let end = fake.now().plus(600);
    let body = json!({ "role": "owner", "expires_at": end });
    let expired = put(&fake, "tokens/expired", &body)["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let deleted = token(&fake, "deleted", Role::Owner, None);
    let good = token(&fake, "good", Role::Owner, None);
    for text in [&expired, &deleted, &good] {
        let answer = by(&fake, text, Method::GET, "devices", &Value::Null);
        assert_eq!(answer.status(), StatusCode::OK);
    }
    delete(&fake, "tokens/deleted");
    // It is good until then, and no second longer.
    fake.clock.pass_s(end.since(fake.now()) - 1);
    assert_eq!(
        by(&fake, &expired, Method::GET, "devices", &Value::Null).status(),
        200
    );
    fake.clock.pass_s(1);
    let other = good.replace("good", "none");
    let wrong = format!("{}A", &good[..good.len() - 1]);
    let wrong = if wrong == good {
        good.replace("_good_A", "_good_B")
    } else {
        wrong
    };
    let swapped = good.replace("good", "deleted");
    let nothing = ask(&fake, &get("/api/v1/devices"));
    refused(&nothing.response, 401, "unauthorized");
    let nothing = whole(&nothing.response);
    for (text, reads) in [
        (expired.as_str(), 1),
        (&deleted, 1),
        (&other, 1),
        (&wrong, 1),
        (&swapped, 1),
        ("dialtone_good_", 0),
        (&good[..good.len() - 1], 0),
        (&good.to_uppercase(), 0),
        ("x", 0),
        (&ADMIN_TOKEN[1..], 0),
    ] {
        let (answer, (kv, r2)) = tried(&fake, text, &Method::GET, "devices", &Value::Null);
        assert_eq!(whole(&answer), nothing, "{text}");
        assert_eq!((kv.all(), r2.all(), r2.gets), (0, reads, reads), "{text}");
        let write = by(&fake, text, Method::PUT, "tenants/new", &json!({}));
        assert_eq!(whole(&write), nothing, "{text}");
    }
    // Others' failures at the same source are no reason to refuse a good one.
    fake.limit(Limit::AdminFailures, 0);
    refused(
        &by(&fake, &deleted, Method::GET, "devices", &Value::Null),
        429,
        "too_many",
    );
    assert_eq!(
        by(&fake, &good, Method::GET, "devices", &Value::Null).status(),
        200
    );
    assert_eq!(
        by(&fake, ADMIN_TOKEN, Method::GET, "devices", &Value::Null).status(),
        200
    );
    // Our own fault is none of the caller's.
    *fake.r2.failing.borrow_mut() = Failing::Prefix("token/".to_owned());
    let fault = by(&fake, &good, Method::GET, "models", &Value::Null);
    refused(&fault, 503, "unavailable");
    assert!(!fake.logged().contains(&good));
}

#[test]
fn the_last_use_is_noted_once_an_hour_and_after_the_answer() {
    let fake = Fake::new();
    let text = token(&fake, "ci", Role::Reader, None);
    let used = || {
        let shown = json_of(&call(&fake, Method::GET, "tokens/ci", &Value::Null));
        shown["last_used_at"].as_str().map(ToOwned::to_owned)
    };
    assert_eq!(used(), None);
    let request = call_by(&text, Method::GET, "models", &Value::Null);
    let writes = || {
        fake.r2.take_count();
        fetch(&fake, &request);
        fake.r2.take_count().writes()
    };
    let (_, _, r2) = cost(&fake, &request);
    assert_eq!((r2.gets, r2.all()), (1, 1));
    fake.clock.pass_s(1);
    assert_eq!(writes(), 1);
    assert_eq!(used().as_deref(), Some("2026-11-23T09:00:01Z"));
    let tag = header(&call(&fake, Method::GET, "tokens/ci", &Value::Null), "etag").to_owned();
    fake.clock.pass_s(3_599);
    assert_eq!(writes(), 0);
    assert_eq!(used().as_deref(), Some("2026-11-23T09:00:01Z"));
    fake.clock.pass_s(1);
    assert_eq!(writes(), 1);
    assert_eq!(used().as_deref(), Some("2026-11-23T10:00:01Z"));
    // It is no change that an admin made.
    let kept = header(&call(&fake, Method::GET, "tokens/ci", &Value::Null), "etag").to_owned();
    assert_eq!(kept, tag);
    // A deleted token is not written to.
    let late = ask(&fake, &request).afterwards;
    assert_eq!(late, None);
    fake.clock.pass_s(3_600);
    let late = ask(&fake, &request).afterwards.unwrap();
    delete(&fake, "tokens/ci");
    let before = fake.holdings();
    block_on(dialtone::afterwards::write(&*fake, late));
    assert_eq!(fake.holdings(), before);
}

#[test]
fn a_tokens_record_is_checked() {
    let fake = Fake::new();
    put(&fake, "tenants/alpha", &json!({}));
    let errors = |path: &str, body: Value| {
        let answer = call(&fake, Method::PUT, path, &body);
        refused(&answer, 422, "invalid");
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        body["errors"][0]["pointer"].as_str().unwrap().to_owned()
    };
    for name in ["admin", "phone", "dialtone"] {
        assert_eq!(
            errors(&format!("tokens/{name}"), json!({ "role": "reader" })),
            "/id"
        );
    }
    for (body, pointer) in [
        (json!({}), "/role"),
        (json!({ "role": "king" }), "/role"),
        (json!({ "role": "reader", "tenant": "none" }), "/tenant"),
        (
            json!({ "role": "reader", "expires_at": "2026-11-23T09:00:00Z" }),
            "/expires_at",
        ),
        (
            json!({ "role": "reader", "expires_at": "tomorrow" }),
            "/expires_at",
        ),
        (json!({ "role": "reader", "colour": "red" }), "/colour"),
        (json!({ "role": "reader", "digest": "00" }), "/digest"),
    ] {
        assert_eq!(errors("tokens/ci", body), pointer);
    }
    // The text is no field of any other record.
    let tenant = call(&fake, Method::PUT, "tenants/new", &json!({ "token": "x" }));
    refused(&tenant, 422, "invalid");
    // A tenant does not go while somebody can still call for it.
    token(&fake, "ci", Role::Reader, Some(OWN));
    refused(
        &call(&fake, Method::DELETE, "tenants/alpha", &Value::Null),
        409,
        "in_use",
    );
    delete(&fake, "tokens/ci");
    delete(&fake, "tenants/alpha");
}

#[test]
fn whoever_hits_too_many_ids_of_others_makes_nothing_new_for_a_while() {
    let fake = two_tenants();
    let operator = token(&fake, "alpha-op", Role::Operator, Some(OWN));
    let profile = record("profiles", OWN);
    let make = |id: &str| {
        by(
            &fake,
            &operator,
            Method::PUT,
            &format!("profiles/{id}"),
            &profile,
        )
    };
    fake.limit(Limit::AdminTaken, 3);
    for _ in 0..3 {
        refused(&make("bravo-office"), 409, "taken");
    }
    let events = fake.holdings();
    let noted: Vec<_> = events
        .keys()
        .filter(|key| key.contains("record.taken"))
        .collect();
    // Once a minute for one id, on the caller's own account.
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert!(noted[0].starts_with("r2 audit-new/alpha/"), "{noted:?}");
    assert_eq!(make("free-1").status(), StatusCode::CREATED);
    refused(&make("bravo-office"), 429, "too_many");
    // From now on the answer does not tell what is taken from what is free.
    fake.limit(Limit::AdminTaken, u32::MAX);
    let (free, taken) = (make("free-2"), make("bravo-office"));
    refused(&free, 429, "too_many");
    assert_eq!(whole(&free), whole(&taken));
    let own = by(
        &fake,
        &operator,
        Method::PUT,
        "profiles/alpha-office",
        &profile,
    );
    assert_eq!(own.status(), StatusCode::OK);
    assert!(fake.logged().contains("token.held"), "{}", fake.logged());
    fake.clock.pass_s(600);
    assert_eq!(make("free-2").status(), StatusCode::CREATED);
    // The operator of this Dialtone sees all ids anyway.
    fake.limit(Limit::AdminTaken, 0);
    let admin = call(&fake, Method::PUT, "profiles/bravo-office", &profile);
    refused(&admin, 409, "taken");
}

#[test]
fn an_id_that_another_tenant_gave_up_tells_nothing_of_it() {
    let fake = two_tenants();
    let operator = token(&fake, "alpha-op", Role::Operator, Some(OWN));
    // The PBX knows of a phone, and has something to delete.
    for (key, body) in [
        (
            "pbx-state/bravo-pbx",
            r#"{"registrations":{"alpha1001":{"account":"bravo-1001","online":true,
                "since":"2026-11-23T09:00:00Z","ever_online":true}}}"#,
        ),
        ("gone/bravo-pbx/bravo1002", "bravo-1002"),
    ] {
        let put = dialtone::ports::Objects::put(
            &fake.r2,
            key,
            body.as_bytes().to_vec(),
            BTreeMap::new(),
            dialtone::ports::Only::Always,
        );
        block_on(put).unwrap();
    }
    for path in [
        "devices/805ec00000b2",
        "rules/bravo-rule",
        "accounts/bravo-1001",
    ] {
        delete(&fake, path);
        fake.clock.pass_s(2);
    }
    delete(&fake, "pbxes/bravo-pbx");
    delete(&fake, "profiles/bravo-office");
    fake.clock.pass_s(2);
    let before = fake.snapshot();
    for (collection, new) in [
        ("profiles", "blank-office"),
        ("pbxes", "blank-pbx"),
        ("accounts", "blank-1001"),
        ("devices", ABSENT_MAC),
        ("rules", "blank-rule"),
    ] {
        let mut body = record(collection, OWN);
        if collection == "accounts" {
            body["username"] = "alpha2002".into();
        }
        let old = id(collection, FOREIGN);
        // Changes of what is gone are refused as of what never was, at the same cost.
        for method in [Method::PATCH, Method::DELETE, Method::GET] {
            fake.restore(&before);
            let path = format!("{collection}/{old}");
            let (gone, gone_paid) = tried(&fake, &operator, &method, &path, &json!({}));
            let path = as_absent(&path);
            fake.restore(&before);
            let (none, none_paid) = tried(&fake, &operator, &method, &path, &json!({}));
            assert_eq!(as_absent(&whole(&gone)), whole(&none));
            assert_eq!(gone_paid, none_paid, "{method} {path}");
        }
        let mut answers = [old.as_str(), new].map(|id| {
            fake.restore(&before);
            let made = by(
                &fake,
                &operator,
                Method::PUT,
                &format!("{collection}/{id}"),
                &body,
            );
            assert_eq!(made.status(), StatusCode::CREATED, "{}", whole(&made));
            let made: Value = serde_json::from_slice(made.body()).unwrap();
            let shown = by(
                &fake,
                &operator,
                Method::GET,
                &format!("{collection}/{id}"),
                &Value::Null,
            );
            (made, as_absent(&whole(&shown)))
        });
        for (made, _) in &mut answers {
            // Capabilities are of this one device and time.
            // And how late KV is shows how often it was written to.
            for of_the_device in [
                "first_access",
                "provisioning_url",
                "visible_by",
                "id",
                "mac",
            ] {
                made.as_object_mut().unwrap().remove(of_the_device);
            }
        }
        let [again, fresh] = answers;
        assert_eq!(again, fresh, "{collection}");
    }
    fake.restore(&before);
    let pbx = record("pbxes", OWN);
    by(&fake, &operator, Method::PUT, "pbxes/bravo-pbx", &pbx);
    assert_eq!(fake.r2.keys("gone/bravo-pbx/"), Vec::<String>::new());
    assert_eq!(fake.r2.keys("pbx-state/bravo-pbx"), Vec::<String>::new());
    let status = json_of(&by(&fake, &operator, Method::GET, "status", &Value::Null));
    let pbxes = status["reconcile"]["pbxes"].as_object().unwrap();
    assert_eq!(pbxes.keys().collect::<Vec<_>>(), ["alpha-pbx"], "{status}");
}
