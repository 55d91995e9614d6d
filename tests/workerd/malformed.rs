//! Whatever is wrong with a call, the answer is a problem that names it, and nothing is changed.

use dialtone_kit::http::{self, Request, Response};
use serde_json::{Value, json};

use crate::office::{Made, Office, fresh_mac, fresh_source, merge};

/// Longer than any body may be.
const TOO_LONG: usize = 1_100_000;

/// What a path shows: its tag and its text.
type Seen = Vec<(String, Option<String>, String)>;

/// A customer, another one, and everything of theirs that a call could change.
struct Scene {
    ours: Office,
    device: Made,
    theirs: Office,
    foreign: Made,
    before: Seen,
}

impl Scene {
    fn new(id: &str) -> Self {
        let (ours, theirs) = (Office::open(id), Office::open(&format!("{id}-other")));
        let device = ours.yealink(&json!({"arm": "24h", "site": "berlin"}));
        let foreign = theirs.yealink(&json!({}));
        let profile = json!({"tenant": id, "settings": {"language": "de"}});
        ours.admin.put(&format!("profiles/{id}"), &profile);
        let rule = json!({"match": {"tenant": id, "site": "nowhere"}, "url": "{self}"});
        ours.admin.put(&format!("rules/{id}"), &rule);
        let mut scene = Self {
            ours,
            device,
            theirs,
            foreign,
            before: Vec::new(),
        };
        scene.before = scene.look(&[scene.targets(), scene.all()].concat());
        scene
    }

    fn path(&self) -> String {
        format!("devices/{}", self.device.mac)
    }

    /// What the calls aim at: looked at after each of them.
    fn targets(&self) -> Vec<String> {
        vec![self.path(), self.ours.account("1001"), self.ours.pbx()]
    }

    /// All that there is: looked at in the end.
    fn all(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for (office, made) in [(&self.ours, &self.device), (&self.theirs, &self.foreign)] {
            paths.push(format!("tenants/{}", office.id));
            for what in ["files", "status"] {
                paths.push(format!("devices/{}/{what}", made.mac));
            }
            for kind in ["profiles", "pbxes", "accounts", "devices", "rules"] {
                paths.push(format!("{kind}?tenant={}", office.id));
            }
        }
        paths
    }

    fn look(&self, paths: &[String]) -> Seen {
        let look = |path: &String| {
            let answer = self.ours.admin.call("GET", path, None);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let tag = answer.header("etag").map(str::to_owned);
            (path.clone(), tag, answer.text())
        };
        paths.iter().map(look).collect()
    }

    #[track_caller]
    fn unchanged(&self, paths: &[String], by: &str) {
        for after in self.look(paths) {
            let before = self.before.iter().find(|before| before.0 == after.0);
            assert_eq!(before, Some(&after), "changed by: {by}");
        }
    }

    /// Sends a call that must be refused so, and gives the answer.
    #[track_caller]
    fn refuse(&self, what: &str, request: Request, status: u16, pointer: Option<&str>) -> Response {
        let answer = request.send().unwrap();
        let text = answer.text();
        assert_eq!(answer.status, status, "{what}: {text}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{what}: {text}"
        );
        let problem: Value = answer.json().unwrap();
        assert_eq!(problem["status"], status, "{what}: {text}");
        let kind = problem["type"].as_str().unwrap();
        assert!(kind.starts_with("urn:dialtone:problem:"), "{what}: {text}");
        for word in ["title", "detail"] {
            assert!(
                problem[word].as_str().is_some_and(|word| !word.is_empty()),
                "{what}: {text}"
            );
        }
        if let Some(pointer) = pointer {
            let errors = problem["errors"]
                .as_array()
                .unwrap_or_else(|| panic!("{what}: {text}"));
            let named = errors.iter().any(|error| error["pointer"] == pointer);
            assert!(named, "{what}: {pointer} is not named in {text}");
        }
        self.unchanged(&self.targets(), what);
        answer
    }

    /// Sees that nothing at all was changed.
    #[track_caller]
    fn end(&self) {
        self.unchanged(&self.all(), "one of these calls");
    }
}

/// Sends each patch, which must be refused with a pointer to what is wrong in it.
#[track_caller]
fn each_is_refused(scene: &Scene, path: &str, cases: Vec<(Value, &str)>) {
    for (change, pointer) in cases {
        let what = format!("PATCH {path} {change}");
        let request = scene.ours.admin.request("PATCH", path).json(&change);
        scene.refuse(&what, request, 422, Some(pointer));
    }
}

#[test]
fn a_wrong_field_of_a_device_is_named_and_nothing_is_changed() {
    let scene = Scene::new("malformed-device");
    let settings = |name: &str, value: Value| json!({"settings": {name: value}});
    let cases = vec![
        (json!({"colour": "red"}), "/colour"),
        (settings("colour", json!("red")), "/settings/colour"),
        (settings("timezone", json!("Mars/A")), "/settings/timezone"),
        (settings("codecs", json!([])), "/settings/codecs"),
        (settings("language", json!("Klingon")), "/settings/language"),
        (json!({"settings": ["UTC"]}), "/settings"),
        (settings("vlan", json!({"id": 4095})), "/settings/vlan/id"),
        (
            settings("dial_plan", json!(["[9-2]"])),
            "/settings/dial_plan/0",
        ),
        (
            settings("forward", json!({"always": "a b"})),
            "/settings/forward/always",
        ),
        (
            settings("wallpaper", json!("file:///etc/passwd")),
            "/settings/wallpaper",
        ),
        (
            settings("admin_password", json!("pass\nword")),
            "/settings/admin_password",
        ),
        (
            settings("raw", json!({"yealink": {"no such": "1"}})),
            "/settings/raw/yealink/no such",
        ),
        (
            settings("raw", json!({"yealink": {"account.1.password": "x"}})),
            "/settings/raw/yealink/account.1.password",
        ),
        (
            json!({"buttons": [{"key": 1, "type": "url", "value": "1002"}]}),
            "/buttons/0/value",
        ),
        (
            settings("resync_minutes", json!(1)),
            "/settings/resync_minutes",
        ),
        (json!({"enabled": "yes"}), "/enabled"),
        (json!({"site": "a\nb"}), "/site"),
        (json!({"serial": "a b"}), "/serial"),
        (json!({"vendor": "acme"}), "/vendor"),
        (json!({"model": "T99X"}), "/model"),
        (json!({"model": null}), "/model"),
        (json!({"url": "https://{mac}.example.com/"}), "/url"),
        (json!({"url": "ftp://example.com/"}), "/url"),
        (json!({"profile": "nobody"}), "/profile"),
        (json!({"arm": "99d"}), "/arm"),
        (json!({"mac": scene.foreign.mac}), "/mac"),
    ];
    each_is_refused(&scene, &scene.path(), cases);
    scene.end();
}

#[test]
fn a_line_or_a_button_that_cannot_be_is_named_and_nothing_is_changed() {
    let scene = Scene::new("malformed-button");
    let ours = "malformed-button-1001";
    let foreign = format!("{}-1001", scene.theirs.id);
    let line = |line: Value, account: &str| json!({"lines": [{"line": line, "account": account}]});
    let button = |more: Value| {
        let mut button = json!({"key": 1, "type": "speed_dial", "value": "1"});
        merge(&mut button, &more);
        json!({"buttons": [{"key": 2, "type": "transfer"}, button]})
    };
    let cases = vec![
        (line(json!(1), &foreign), "/lines/0/account"),
        (line(json!(1), "nobody"), "/lines/0/account"),
        (line(json!(0), ours), "/lines/0/line"),
        (line(json!(17), ours), "/lines/0/line"),
        (line(json!("1"), ours), "/lines/0/line"),
        (button(json!({"key": 28})), "/buttons/1/key"),
        (button(json!({"key": 2})), "/buttons/1/key"),
        (button(json!({"type": "warp"})), "/buttons/1/type"),
        (button(json!({"value": "a\rb"})), "/buttons/1/value"),
        (button(json!({"value": null})), "/buttons/1/value"),
        (button(json!({"label": "a\u{2028}b"})), "/buttons/1/label"),
        (button(json!({"line": 2})), "/buttons/1/line"),
        (button(json!({"module": 4})), "/buttons/1/module"),
    ];
    each_is_refused(&scene, &scene.path(), cases);
    scene.end();
}

#[test]
fn a_wrong_field_of_any_other_record_is_named_and_nothing_is_changed() {
    let scene = Scene::new("malformed-field");
    let foreign = format!("{}-pbx", scene.theirs.id);
    let account = vec![
        (json!({"display_name": "a\nb"}), "/display_name"),
        (json!({"display_name": "a\u{0}b"}), "/display_name"),
        (json!({"display_name": ""}), "/display_name"),
        (json!({"username": "a b"}), "/username"),
        (json!({"password": "\u{e4}"}), "/password"),
        (json!({"password": ""}), "/password"),
        (json!({"password": 1234}), "/password"),
        (json!({"pbx": foreign}), "/pbx"),
        (json!({"pbx": null}), "/pbx"),
    ];
    each_is_refused(&scene, &scene.ours.account("1001"), account);
    let pbx = vec![
        (json!({"ari_url": "ftp://127.0.0.1/ari"}), "/ari_url"),
        (json!({"ari_url": "http://a:b@127.0.0.1/ari"}), "/ari_url"),
        (json!({"mode": "destroy"}), "/mode"),
        (json!({"sip": {"host": "a b"}}), "/sip/host"),
        (json!({"sip": {"port": 70_000}}), "/sip/port"),
        (json!({"headers": {"a b": "c"}}), "/headers/a b"),
    ];
    each_is_refused(&scene, &scene.ours.pbx(), pbx);
    let tenant = vec![
        (json!({"proofs": ["faith"]}), "/proofs/0"),
        (json!({"name": 5}), "/name"),
    ];
    each_is_refused(&scene, "tenants/malformed-field", tenant);
    scene.end();
}

#[test]
fn a_record_that_would_be_new_is_held_to_the_same() {
    let scene = Scene::new("malformed-new");
    let mac = fresh_mac();
    let whole = json!({"tenant": "malformed-new", "vendor": "yealink", "model": "T46U"});
    let without = |name: &str| {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let with = |more: Value| {
        let mut body = whole.clone();
        merge(&mut body, &more);
        body
    };
    let mut eleven = mac.clone();
    eleven.pop();
    let path = format!("devices/{mac}");
    let cases = [
        (format!("devices/{eleven}"), whole.clone(), "/mac"),
        (format!("devices/{mac}0"), whole.clone(), "/mac"),
        (format!("devices/g{eleven}"), whole.clone(), "/mac"),
        ("devices/000000000000".to_owned(), whole.clone(), "/mac"),
        (path.clone(), without("tenant"), "/tenant"),
        (path.clone(), without("vendor"), "/vendor"),
        (path.clone(), without("model"), "/model"),
        (path.clone(), with(json!({"tenant": "nobody"})), "/tenant"),
        (path.clone(), with(json!({"tenant": "A b"})), "/tenant"),
        (path.clone(), with(json!({"arm": "1s"})), "/arm"),
        ("tenants/A%20b".to_owned(), json!({}), "/id"),
        ("tenants/..".to_owned() + "%2f..", json!({}), "/id"),
        (format!("tenants/{}", "x".repeat(65)), json!({}), "/id"),
        (
            "pbxes/malformed-new-2".to_owned(),
            json!({
                "tenant": "malformed-new", "ari_url": "http://127.0.0.1:1/ari", "ari_username": "a",
                "sip": {"host": "127.0.0.1"},
            }),
            "/ari_password",
        ),
    ];
    for (path, body, pointer) in cases {
        let what = format!("PUT {path} {body}");
        let request = scene.ours.admin.request("PUT", &path).json(&body);
        scene.refuse(&what, request, 422, Some(pointer));
    }
    assert_eq!(
        scene.ours.admin.call("GET", &path, None).status,
        404,
        "{path} was made"
    );
    scene.end();
}

#[test]
fn what_another_tenant_has_is_taken() {
    let scene = Scene::new("malformed-taken");
    let admin = &scene.ours.admin;
    let foreign = format!("devices/{}", scene.foreign.mac);
    let body = json!({"tenant": "malformed-taken", "vendor": "yealink", "model": "T46U"});
    let put = |tag: &str| {
        admin
            .request("PUT", &foreign)
            .header("If-Match", tag)
            .json(&body)
    };
    for (what, request) in [
        (
            "PUT of a MAC that another tenant has",
            admin.request("PUT", &foreign).json(&body),
        ),
        // Not even that a condition does not hold is this caller's business.
        ("the same on a condition", put("\"999\"")),
        (
            "PUT of an account id that another tenant has",
            admin
                .request("PUT", &scene.theirs.account("1001"))
                .json(&json!({
                    "tenant": "malformed-taken", "pbx": "malformed-taken-pbx", "username": "3003",
                })),
        ),
        (
            "PATCH that gives a device away",
            admin
                .request("PATCH", &scene.path())
                .json(&json!({"tenant": scene.theirs.id, "lines": []})),
        ),
    ] {
        let answer = scene.refuse(what, request, 409, None);
        assert!(
            answer.text().contains("urn:dialtone:problem:taken"),
            "{what}: {}",
            answer.text()
        );
    }
    let twin =
        json!({"tenant": "malformed-taken", "pbx": "malformed-taken-pbx", "username": "1001"});
    let request = admin
        .request("PUT", "accounts/malformed-taken-twin")
        .json(&twin);
    scene.refuse(
        "a username that is taken at its PBX",
        request,
        409,
        Some("/username"),
    );
    assert_eq!(
        admin
            .call("GET", "accounts/malformed-taken-twin", None)
            .status,
        404
    );
    scene.end();
}

#[test]
fn a_body_that_cannot_be_read_is_refused() {
    let scene = Scene::new("malformed-body");
    let device = scene.path();
    let patch = || scene.ours.admin.request("PATCH", &device);
    let json = |body: &str| {
        patch()
            .header("Content-Type", "application/json")
            .body(body)
    };
    let deep = format!(
        "{{\"settings\":{}1{}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    for (what, body) in [
        ("half a JSON", "{\"site\":"),
        ("no JSON", "site=hamburg"),
        ("an array", "[]"),
        ("a string", "\"site\""),
        ("null", "null"),
        ("two objects", "{} {}"),
        ("a comma too many", "{\"site\":\"hamburg\",}"),
        ("half a surrogate pair", "{\"site\":\"\\ud83d\"}"),
        ("too many brackets", deep.as_str()),
    ] {
        scene.refuse(what, json(body), 400, None);
    }
    let bytes = patch()
        .header("Content-Type", "application/json")
        .body(*b"{\"site\":\"\xff\"}");
    scene.refuse("no UTF-8", bytes, 400, None);
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "text/json",
    ] {
        let request = patch()
            .header("Content-Type", kind)
            .body("{\"site\":\"hamburg\"}");
        scene.refuse(kind, request, 415, None);
    }
    let long = format!("{{\"site\":\"{}\"}}", "x".repeat(TOO_LONG));
    scene.refuse("a body too long", json(&long), 413, None);
    // Where the path names nothing, the phone's answer must do; what counts is that it is refused.
    let phones = format!("{}/rps?mac={}", scene.ours.url, scene.device.mac);
    let answer = http::post(&phones).body(long).send().unwrap();
    assert!(
        matches!(answer.status, 405 | 413),
        "{} {}",
        answer.status,
        answer.text()
    );
    scene.end();
}

#[test]
fn a_condition_that_does_not_hold_stops_the_call() {
    let scene = Scene::new("malformed-condition");
    let path = scene.path();
    let hamburg = json!({"site": "hamburg"});
    for (header, value) in [
        ("If-Match", "\"999\""),
        ("If-Match", "W/\"1\""),
        ("If-Match", "1"),
        ("If-Match", "rubbish"),
        ("If-Match", "\"999\", \"998\""),
        ("If-None-Match", "*"),
        ("If-None-Match", "\"1\""),
    ] {
        let request = scene
            .ours
            .admin
            .request("PATCH", &path)
            .header(header, value)
            .json(&hamburg);
        scene.refuse(&format!("PATCH, {header}: {value}"), request, 412, None);
    }
    let absent = format!("profiles/malformed-condition-{}", fresh_mac());
    let body = json!({"tenant": "malformed-condition"});
    for value in ["*", "\"1\""] {
        let request = scene
            .ours
            .admin
            .request("PUT", &absent)
            .header("If-Match", value)
            .json(&body);
        scene.refuse(
            &format!("PUT of what is not there, If-Match: {value}"),
            request,
            412,
            None,
        );
    }
    scene.end();
}

#[test]
fn a_parameter_that_there_is_not_is_refused() {
    let scene = Scene::new("malformed-parameter");
    let device = scene.path();
    let files = format!("{device}/files/ACC.cfg");
    for (method, path, query) in [
        ("GET", "devices", "tenent=malformed-parameter"),
        ("GET", "devices", "limit=0"),
        ("GET", "devices", "limit=201"),
        ("GET", "devices", "limit=ten"),
        ("GET", "devices", "cursor=rubbish"),
        ("GET", "devices", "tenant=A%20b"),
        ("GET", "tenants", "tenant=malformed-parameter"),
        ("GET", "status", "mac=x"),
        ("GET", &device, "secrets=2"),
        ("GET", &device, "secret=1"),
        ("GET", &files, "secrets=yes"),
        ("GET", &format!("{device}/files"), "secrets=1"),
        ("GET", &format!("{device}/status"), "since=1"),
        ("PATCH", &device, "dry_run=1"),
        ("PUT", &device, "dry_run=1"),
        ("DELETE", &device, "dry_run=1"),
        ("POST", &format!("{device}/rotate"), "dry_run=1"),
    ] {
        let mut request = scene.ours.admin.request(method, &format!("{path}?{query}"));
        if method != "GET" && method != "DELETE" {
            request = request.json(&json!({}));
        }
        scene.refuse(&format!("{method} {path}?{query}"), request, 400, None);
    }
    scene.end();
}

#[test]
fn an_action_takes_only_what_it_knows() {
    let scene = Scene::new("malformed-action");
    let device = scene.path();
    let post = |action: &str, body: &Value| {
        scene
            .ours
            .admin
            .request("POST", &format!("{device}/{action}"))
            .json(body)
    };
    scene.refuse(
        "too long a window",
        post("arm", &json!({"arm": "99d"})),
        422,
        Some("/arm"),
    );
    scene.refuse(
        "no window",
        post("arm", &json!({"arm": ""})),
        422,
        Some("/arm"),
    );
    scene.refuse(
        "another word for it",
        post("arm", &json!({"for": "1h"})),
        422,
        Some("/for"),
    );
    scene.refuse(
        "rotate with a field",
        post("rotate", &json!({"grace": "1h"})),
        422,
        Some("/grace"),
    );
    scene.refuse(
        "revoke with a field",
        post("revoke", &json!({"a": 1})),
        422,
        Some("/a"),
    );
    scene.refuse(
        "an action that there is not",
        post("explode", &json!({})),
        404,
        None,
    );
    let nobody = format!("devices/{}/rotate", fresh_mac());
    let request = scene.ours.admin.request("POST", &nobody).json(&json!({}));
    scene.refuse("rotate of a device that there is not", request, 404, None);
    for (method, path, allow) in [
        ("POST", device.as_str(), "GET, HEAD, PUT, PATCH, DELETE"),
        ("PUT", "devices", "GET, HEAD"),
        ("DELETE", "status", "GET, HEAD"),
        ("GET", &format!("{device}/rotate"), "POST"),
        ("PATCH", &format!("{device}/status"), "GET, HEAD"),
    ] {
        let request = scene.ours.admin.request(method, path);
        let answer = scene.refuse(&format!("{method} {path}"), request, 405, None);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    for path in ["nothing", "devices/", "tenants/malformed-action/files", ""] {
        let request = scene.ours.admin.request("GET", path);
        let answer = request.send().unwrap();
        assert!(
            matches!(answer.status, 404 | 422),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
    }
    scene.end();
}

#[test]
fn without_the_admin_token_there_is_nothing_to_see_or_to_do() {
    let scene = Scene::new("malformed-token");
    let token = crate::office::worker().admin_token();
    let (head, tail) = token.split_at(token.len() - 1);
    let other = format!("{head}{}", if tail == "A" { 'B' } else { 'A' });
    let url = format!("{}/api/v1/{}", scene.ours.url, scene.path());
    let credentials = [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(format!("Bearer {other}")),
        Some(format!("Bearer {head}")),
        Some(format!("Bearer {token}x")),
        Some(format!("Bearer {token},{token}")),
        Some(format!("Basic {token}")),
        Some(token.to_owned()),
        Some("Bearer null".to_owned()),
    ];
    for given in credentials {
        for (method, body) in [
            ("GET", None),
            ("PATCH", Some(json!({"site": "hamburg"}))),
            ("DELETE", None),
        ] {
            let mut request = http::request(method, &url).source(fresh_source());
            if let Some(given) = &given {
                request = request.header("Authorization", given);
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = scene.refuse(&format!("{method} with {given:?}"), request, 401, None);
            let challenge = answer.header("www-authenticate");
            assert_eq!(
                challenge,
                Some("Bearer realm=\"dialtone\""),
                "{method} with {given:?}"
            );
        }
    }

    // Who guesses is told to wait, and the admin at the same address is not.
    let source = fresh_source();
    let guess = || {
        http::get(&url)
            .source(source)
            .bearer(&other)
            .send()
            .unwrap()
            .status
    };
    let told = (0..80).map(|_| guess()).find(|status| *status != 401);
    assert_eq!(told, Some(429), "80 guesses in a row");
    let admin = scene
        .ours
        .admin
        .request("GET", &scene.path())
        .source(source)
        .send()
        .unwrap();
    assert_eq!(admin.status, 200, "{}", admin.text());
    scene.end();
}
