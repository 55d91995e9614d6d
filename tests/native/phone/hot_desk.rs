//! Users log in and out at hot-desking phones: by PIN, by an admin, at two phones at once, with a store
//! that fails, cut off in the middle; and those who guess PINs.

use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use dialtone::hot_desk::{FREE_TRIES, TRIES_OF_DEVICE};
use dialtone::ports::{Limit, World};
use dialtone::record::Stored;
use dialtone::record::account::Account;
use dialtone::request::Request;
use dialtone::{entry, store, tick};
use futures_util::future::join_all;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{MAC, Office, PASSWORD, SOFT, refused, unavailable};
use crate::ask::{
    PLACE, Told, act, call, cost, delete, fetch, follow, header, json_of, patch, put, text,
};
use crate::audit::{Mood, Site};
use crate::readers;
use crate::reconcile::{Scene, account as scene_account};
use crate::world::{Failing, Fake, block_on};

/// The second hot-desking phone. It has no account of its own.
const OTHER: &str = "805ec0000002";
const PIN: &str = "2468-right";
const USER_PASSWORD: &str = "the-users-password";
const WRONG: &str = "wrong user or PIN\n";

/// An office with two hot-desking phones, whose users are 1002 and 1003.
struct Desks {
    office: Office,
    fake: Rc<Fake>,
    other: String,
}

impl Desks {
    fn new() -> Self {
        Self::of(&json!({}))
    }

    fn of(tenant: &Value) -> Self {
        let host = json!({
            "user_type": "hot-desking",
            "buttons": [
                { "key": 1, "type": "line", "line": 1 },
                { "key": 2, "type": "speed_dial", "value": "100", "label": "Host's" },
                { "key": 3, "type": "hot_desk" },
            ],
        });
        let office = Office::of(tenant, &host);
        let fake = Rc::clone(&office.fake);
        let other = json!({
            "tenant": "acme", "vendor": "yealink", "model": "T54W", "user_type": "hot-desking",
        });
        let made = put(&fake, &format!("devices/{OTHER}"), &other);
        let user = json!({
            "pin": PIN, "password": USER_PASSWORD,
            "buttons": [{ "key": 2, "type": "blf", "value": "1003", "label": "User's" }],
        });
        patch(&fake, "accounts/acme-1002", &user);
        let third = json!({
            "tenant": "acme", "pbx": "main", "username": "1003", "pin": "1357", "password": "third-password",
        });
        put(&fake, "accounts/acme-1003", &third);
        fake.clock.pass_s(90);
        Self {
            other: made["provisioning_url"].as_str().unwrap().to_owned(),
            office,
            fake,
        }
    }

    fn base(&self, mac: &str) -> &str {
        if mac == MAC {
            &self.office.base
        } else {
            &self.other
        }
    }

    fn form(&self, mac: &str, form: &str) -> Request {
        form_at(self.base(mac), form)
    }

    fn post(&self, mac: &str, form: &str) -> Response<Vec<u8>> {
        fetch(&self.fake, &self.form(mac, form))
    }

    fn log_in(&self, mac: &str, user: &str, pin: &str) -> Response<Vec<u8>> {
        self.post(mac, &login(user, pin))
    }

    #[track_caller]
    fn logs_in(&self, mac: &str) {
        assert_eq!(text(&self.log_in(mac, "1002", PIN)), "logged in\n");
    }

    #[track_caller]
    fn logs_out(&self, mac: &str) {
        assert_eq!(text(&self.post(mac, "action=logout")), "logged out\n");
    }

    #[track_caller]
    fn is_refused(&self, mac: &str, user: &str, pin: &str) {
        is_wrong(&self.log_in(mac, user, pin));
    }

    fn acc(&self, mac: &str) -> String {
        text(&fetch(
            &self.fake,
            &follow(&format!("{}ACC.cfg", self.base(mac))),
        ))
    }

    /// The user whom a phone registers, `-` for nobody.
    fn user(&self, mac: &str) -> String {
        let read = readers::yealink(&self.acc(mac)).unwrap();
        let name = read.settings["account.1.user_name"].clone();
        if name.is_empty() {
            "-".to_owned()
        } else {
            name
        }
    }

    fn users(&self) -> [String; 2] {
        [self.user(MAC), self.user(OTHER)]
    }

    /// All files of a phone.
    fn files(&self, mac: &str) -> Vec<String> {
        let names = ["boot.cfg", "first.cfg", "ACC.cfg", "BTN.cfg", "all.cfg"];
        let url = |name| follow(&format!("{}{name}", self.base(mac)));
        names
            .map(|name| text(&fetch(&self.fake, &url(name))))
            .into()
    }

    fn session(&self, mac: &str) -> Response<Vec<u8>> {
        let path = format!("devices/{mac}/session");
        call(&self.fake, Method::GET, &path, &Value::Null)
    }

    fn account(&self, id: &str) -> Stored<Account> {
        let loaded = block_on(store::load::<Account, Fake>(&self.fake, id));
        loaded.unwrap().unwrap().stored
    }

    /// The phones that an account is on.
    fn devices(&self, id: &str) -> Vec<String> {
        let devices = self.account(id).state.devices;
        devices.iter().map(ToString::to_string).collect()
    }

    fn minutes(&self, minutes: u32) {
        for _ in 0..minutes {
            self.fake.clock.pass_s(60);
            block_on(tick::run(&*self.fake, None));
        }
    }

    /// Why sessions ended so far, at which phone.
    fn ended(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let events = self.fake.audited("session.ended").into_iter();
        events
            .map(|event| (text(&event["resource"]), text(&event["detail"]["why"])))
            .collect()
    }

    /// What was counted against a user.
    fn tries(&self, account: &str) -> Value {
        let tries = self.fake.objects(&format!("tries/account/{account}"));
        tries.into_iter().next().unwrap_or_default()
    }
}

fn form_at(base: &str, form: &str) -> Request {
    let mut request = follow(&format!("{base}hotdesk"))
        .by(Method::POST)
        .with("content-type", "application/x-www-form-urlencoded");
    request.body = form.as_bytes().to_vec();
    request
}

fn login(user: &str, pin: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("action", "login"), ("user", user), ("pin", pin)])
        .finish()
}

#[track_caller]
fn is_wrong(answer: &Response<Vec<u8>>) {
    let body = String::from_utf8_lossy(answer.body());
    assert_eq!((answer.status(), &*body), (StatusCode::FORBIDDEN, WRONG));
}

#[test]
fn a_user_has_the_phone_until_logging_out_and_then_it_is_as_it_was() {
    let desks = Desks::new();
    let before = desks.files(MAC);
    assert!(before[2].contains(PASSWORD) && before[3].contains("Host's"));
    assert_eq!(desks.session(MAC).status(), StatusCode::NOT_FOUND);

    let since = desks.fake.now();
    desks.logs_in(MAC);
    desks.fake.clock.pass_s(1);
    let during = desks.files(MAC);
    assert_eq!(during[..2], before[..2]);
    for part in [&during[2], &during[4]] {
        assert!(
            part.contains(USER_PASSWORD) && !part.contains(PASSWORD),
            "{part}"
        );
    }
    for part in [&during[3], &during[4]] {
        assert!(
            part.contains("User's") && !part.contains("Host's"),
            "{part}"
        );
    }
    // The key by which the user logs out again is where it was.
    let keys = readers::yealink(&during[3]).unwrap().settings;
    assert_eq!(keys["linekey.3.type"], "34");
    let shown = json_of(&desks.session(MAC));
    assert_eq!(
        shown,
        json!({
            "mac": MAC, "account": "acme-1002",
            "since": since.to_string(), "until": since.plus(12 * 3_600).to_string(),
        })
    );
    let status = format!("devices/{MAC}/status");
    let status = json_of(&call(&desks.fake, Method::GET, &status, &Value::Null));
    assert_eq!(status["session"]["account"], "acme-1002");
    assert_eq!(status["lines"][0]["account"], "acme-1002");
    // The same again is the same bytes, and nothing is written for it.
    desks.fake.r2.take_count();
    assert_eq!(desks.files(MAC), during);
    assert_eq!(desks.fake.r2.take_count().writes(), 0);

    desks.logs_out(MAC);
    desks.fake.clock.pass_s(1);
    assert_eq!(desks.files(MAC), before);
    assert_eq!(desks.session(MAC).status(), StatusCode::NOT_FOUND);
    assert_eq!(desks.devices("acme-1002"), [SOFT]);
    // Once more does nothing.
    desks.logs_out(MAC);
    let ended = ("devices/805ec0000001".to_owned(), "logout".to_owned());
    assert_eq!(desks.ended(), [ended]);
    assert_eq!(desks.fake.audited("session.began").len(), 1);
    assert_eq!(desks.fake.r2.keys("session-end/"), Vec::<String>::new());
    assert_eq!(desks.fake.r2.keys("unfinished/"), Vec::<String>::new());
}

#[test]
fn a_user_is_known_by_username_or_id_and_a_phone_without_an_account_will_do() {
    let desks = Desks::new();
    for user in ["1002", "acme-1002"] {
        assert_eq!(desks.user(OTHER), "-");
        assert_eq!(text(&desks.log_in(OTHER, user, PIN)), "logged in\n");
        assert_eq!(desks.user(OTHER), "1002");
        desks.logs_out(OTHER);
        desks.fake.clock.pass_s(1);
    }
    // At another PBX of the same tenant the name is somebody else's.
    let spare = json!({
        "tenant": "acme", "ari_url": "https://spare.example.com/ari", "ari_username": "dialtone",
        "ari_password": "ari-password-in-clear", "sip": { "host": "spare.example.com" },
    });
    put(&desks.fake, "pbxes/spare", &spare);
    let namesake = json!({ "tenant": "acme", "pbx": "spare", "username": "1004", "pin": "9753" });
    put(&desks.fake, "accounts/acme-1004", &namesake);
    for user in ["1004", "acme-1004"] {
        // The host's account says which PBX the phone is at.
        desks.is_refused(MAC, user, "9753");
        assert_eq!(text(&desks.log_in(OTHER, user, "9753")), "logged in\n");
    }
}

#[test]
fn a_login_elsewhere_ends_the_first_one_at_once() {
    let desks = Desks::new();
    let before = desks.files(MAC);
    desks.logs_in(MAC);
    assert_eq!(desks.users(), ["1002", "-"]);
    desks.fake.clock.pass_s(1);
    desks.logs_in(OTHER);
    assert_eq!(desks.users(), ["1001", "1002"]);
    assert_eq!(desks.files(MAC), before);
    assert_eq!(desks.devices("acme-1002"), [SOFT, OTHER]);
    let ended = ("devices/805ec0000001".to_owned(), "elsewhere".to_owned());
    assert_eq!(desks.ended(), [ended]);
    // Logging out where nobody is any more leaves the user where the user is.
    desks.logs_out(MAC);
    assert_eq!(desks.users(), ["1001", "1002"]);
    // Another user takes the phone over.
    assert_eq!(text(&desks.log_in(OTHER, "1003", "1357")), "logged in\n");
    assert_eq!(desks.users(), ["1001", "1003"]);
    assert_eq!(desks.devices("acme-1002"), [SOFT]);
    assert_eq!(desks.fake.objects("session/acme-1002"), [json!({})]);
    // The same user again has the time from now on.
    desks.fake.clock.pass_s(3_600);
    let until = json_of(&desks.session(OTHER))["until"].clone();
    assert_eq!(text(&desks.log_in(OTHER, "1003", "1357")), "logged in\n");
    assert_ne!(json_of(&desks.session(OTHER))["until"], until);
    assert_eq!(desks.devices("acme-1003"), [OTHER]);
}

#[test]
fn of_two_phones_that_race_for_a_user_one_has_the_user() {
    // At each write of the first login the second one comes between.
    for prefix in [
        "tries/account/",
        "tries/device/805ec0000001",
        "unfinished/device/805ec0000001",
        "account/acme-1002",
        "device/805ec0000001",
        "session-end/",
        "session/acme-1002",
    ] {
        let desks = Desks::new();
        let (fake, second) = (
            Rc::clone(&desks.fake),
            desks.form(OTHER, &login("1002", PIN)),
        );
        desks.fake.r2.before_next_put(prefix, move || {
            assert_eq!(text(&fetch(&fake, &second)), "logged in\n");
        });
        desks.logs_in(MAC);
        desks.fake.clock.pass_s(1);
        // Both were told that they are in; the one whose write was last is.
        assert_eq!(desks.users(), ["1002", "-"], "{prefix}");
        desks.minutes(3);
        assert_eq!(desks.users(), ["1002", "-"], "{prefix}");
        assert_eq!(desks.devices("acme-1002"), [SOFT, MAC], "{prefix}");
        assert_eq!(
            desks.fake.r2.keys("unfinished/"),
            Vec::<String>::new(),
            "{prefix}"
        );
    }
}

#[test]
fn logins_that_overlap_leave_the_user_at_one_phone() {
    let mut won = [0, 0];
    for seed in 1..60 {
        let desks = Desks::new();
        let sites = [1, 2, 3].map(|n| Site::new(&desks.fake, Mood::Slow(seed * 7_919 + n)));
        let requests = [
            desks.form(MAC, &login("1002", PIN)),
            desks.form(OTHER, &login("1002", PIN)),
            desks.form(MAC, "action=logout"),
        ];
        let asked = sites.iter().zip(&requests);
        block_on(join_all(
            asked.map(|(site, request)| entry::answer(site, &PLACE, request)),
        ));
        let at = |users: &[String; 2]| users.iter().filter(|user| *user == "1002").count();
        let users = desks.users();
        assert!(at(&users) <= 1, "{seed}: {users:?}");
        desks.minutes(3);
        assert_eq!(desks.users(), users, "{seed}");
        let mut devices = vec![SOFT.to_owned()];
        devices.extend(
            [MAC, OTHER]
                .into_iter()
                .zip(&users)
                .filter(|(_, user)| *user == "1002")
                .map(|(mac, _)| mac.to_owned()),
        );
        assert_eq!(desks.devices("acme-1002"), devices, "{seed}");
        for (n, user) in users.iter().enumerate() {
            won[n] += u32::from(user == "1002");
        }
    }
    assert!(won[0] > 0 && won[1] > 0, "{won:?}");
}

#[test]
fn a_session_ends_when_its_time_is_over_whoever_looks_first() {
    // The phone asks, and then the scheduled handler comes.
    let desks = Desks::of(&json!({ "hot_desk_hours": 1 }));
    let before = desks.files(MAC);
    desks.logs_in(MAC);
    desks.fake.clock.pass_s(3_599);
    assert_eq!(desks.user(MAC), "1002");
    desks.fake.clock.pass_s(1);
    assert_eq!(desks.files(MAC), before);
    assert_eq!(desks.session(MAC).status(), StatusCode::NOT_FOUND);
    desks.minutes(1);
    let ended = ("devices/805ec0000001".to_owned(), "time".to_owned());
    assert_eq!(desks.ended(), std::slice::from_ref(&ended));
    assert_eq!(desks.devices("acme-1002"), [SOFT]);
    assert_eq!(desks.fake.objects("session/acme-1002"), [json!({})]);
    assert_eq!(desks.fake.r2.keys("session-end/"), Vec::<String>::new());

    // The scheduled handler alone.
    let desks = Desks::new();
    desks.logs_in(MAC);
    desks.fake.clock.pass_s(12 * 3_600 - 61);
    desks.minutes(1);
    assert_eq!(desks.ended(), []);
    let version = desks.office.stored().state.files().unwrap().version;
    desks.minutes(1);
    let stored = desks.office.stored();
    assert_eq!(stored.state.session, None);
    assert!(
        stored.state.files().unwrap().version > version,
        "the host's files are not made"
    );
    assert_eq!(desks.ended(), [ended]);
    assert_eq!(desks.devices("acme-1002"), [SOFT]);
    assert_eq!(desks.fake.r2.keys("session-end/"), Vec::<String>::new());
    // With nothing due a run makes one listing for it and reads no phone.
    let run = || {
        // What there is to be chained of the audit is chained then.
        desks.minutes(6);
        desks.fake.r2.take_count();
        desks.minutes(1);
        desks.fake.r2.take_count()
    };
    desks.logs_in(MAC);
    let with = run();
    desks.logs_out(MAC);
    assert_eq!(with, run());
}

#[test]
fn a_user_whose_account_is_deleted_by_force_is_logged_out() {
    let desks = Desks::new();
    desks.logs_in(OTHER);
    assert_eq!(desks.user(OTHER), "1002");
    delete(&desks.fake, "accounts/acme-1002?force=1");
    assert_eq!(desks.user(OTHER), "-");
    assert_eq!(desks.session(OTHER).status(), StatusCode::NOT_FOUND);
    let ended = (
        "devices/805ec0000002".to_owned(),
        "account deleted".to_owned(),
    );
    assert_eq!(desks.ended(), [ended]);
    desks.is_refused(OTHER, "1002", PIN);
}

#[test]
fn a_session_that_is_prolonged_does_not_end_at_its_former_end() {
    let desks = Desks::new();
    let path = format!("devices/{MAC}/session");
    put(
        &desks.fake,
        &path,
        &json!({ "account": "acme-1002", "hours": 1 }),
    );
    desks.fake.clock.pass_s(600);
    put(
        &desks.fake,
        &path,
        &json!({ "account": "acme-1002", "hours": 8 }),
    );
    desks.fake.clock.pass_s(3_600);
    desks.minutes(2);
    assert_eq!(desks.user(MAC), "1002");
    assert_eq!(desks.fake.r2.keys("session-end/").len(), 1);
    desks.fake.clock.pass_s(7 * 3_600);
    desks.minutes(1);
    assert_eq!(desks.user(MAC), "1001");
}

#[test]
fn an_admin_logs_a_user_in_and_out_without_a_pin() {
    let desks = Desks::new();
    let fake = &desks.fake;
    let path = format!("devices/{MAC}/session");
    let shown = put(
        fake,
        &path,
        &json!({ "account": "acme-1001", "hours": 168 }),
    );
    let hours = |hours: u64| fake.now().plus(hours * 3_600).to_string();
    assert_eq!(shown["until"], hours(168));
    delete(fake, &path);
    fake.clock.pass_s(1);
    let shown = put(fake, &path, &json!({ "account": "acme-1002" }));
    assert_eq!(shown["until"], hours(12));
    assert_eq!(desks.user(MAC), "1002");
    delete(fake, &path);
    assert_eq!(desks.user(MAC), "1001");
    delete(fake, &path);
    let began = fake.audited("session.began");
    assert_eq!(began.len(), 2);
    assert_eq!(began[0]["actor"], "admin");
    assert_eq!(began[0]["detail"]["account"], "acme-1001");

    put(fake, "tenants/other", &json!({}));
    let other = json!({
        "tenant": "other", "ari_url": "https://o.example.com/ari", "ari_username": "d",
        "ari_password": "ari-password-in-clear", "sip": { "host": "o.example.com" },
    });
    put(fake, "pbxes/other", &other);
    let theirs = json!({ "tenant": "other", "pbx": "other", "username": "1" });
    put(fake, "accounts/other-1", &theirs);
    for (path, body, status, pointer) in [
        (&*path, json!({ "account": "other-1" }), 422, "/account"),
        (&*path, json!({ "account": "nobody" }), 422, "/account"),
        (&*path, json!({}), 422, "/account"),
        (
            &*path,
            json!({ "account": "acme-1002", "hours": 0 }),
            422,
            "/hours",
        ),
        (
            &*path,
            json!({ "account": "acme-1002", "hours": 169 }),
            422,
            "/hours",
        ),
        (
            &*path,
            json!({ "account": "acme-1002", "pin": "1" }),
            422,
            "/pin",
        ),
        (
            "devices/0a5ec0000001/session",
            json!({ "account": "acme-1002" }),
            409,
            "",
        ),
        (
            "devices/805ec00000ff/session",
            json!({ "account": "acme-1002" }),
            404,
            "",
        ),
    ] {
        let answer = call(fake, Method::PUT, path, &body);
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body} {problem}");
        let first = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert_eq!(first, pointer, "{body}");
    }
    assert_eq!(desks.users(), ["1001", "-"]);
    assert_eq!(fake.r2.keys("unfinished/"), Vec::<String>::new());
}

#[test]
fn an_account_is_on_no_more_phones_by_logging_in() {
    let desks = Desks::new();
    let fake = &desks.fake;
    let line = json!([{ "line": 1, "account": "acme-1002" }]);
    for n in 0..19 {
        let device =
            json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "lines": line });
        put(fake, &format!("devices/805ec00001{n:02}"), &device);
    }
    assert_eq!(desks.devices("acme-1002").len(), 20);
    let answer = desks.log_in(MAC, "1002", PIN);
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    let path = format!("devices/{MAC}/session");
    let answer = call(fake, Method::PUT, &path, &json!({ "account": "acme-1002" }));
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(desks.user(MAC), "1001");
    delete(fake, "devices/805ec0000100");
    fake.clock.pass_s(1);
    desks.logs_in(MAC);
}

#[test]
fn what_becomes_of_the_user_reaches_the_phone() {
    let desks = Desks::new();
    let fake = &desks.fake;
    let host = desks.files(MAC);
    desks.logs_in(MAC);
    fake.clock.pass_s(1);
    let former = || desks.account("acme-1002").state.former_passwords.len();
    let before = former();
    // A new password is on the phone one second later, and the former one is kept for it.
    call(fake, Method::POST, "accounts/acme-1002/rotate", &json!({}));
    fake.clock.pass_s(1);
    let acc = desks.acc(MAC);
    assert!(
        !acc.contains(USER_PASSWORD) && desks.user(MAC) == "1002",
        "{acc}"
    );
    assert_eq!(former(), before + 1);
    // It is not given up before this phone has fetched the new one.
    let logins = &desks.office.stored().state.files.unwrap().logins;
    assert!(
        logins.keys().any(|account| account.as_str() == "acme-1002"),
        "{logins:?}"
    );
    patch(
        fake,
        "accounts/acme-1002",
        &json!({ "display_name": "Zoe" }),
    );
    fake.clock.pass_s(1);
    assert!(desks.acc(MAC).contains("Zoe"));

    // Deleted: the phone is the host's, and the session is over for good.
    patch(fake, &format!("devices/{SOFT}"), &json!({ "lines": [] }));
    delete(fake, "accounts/acme-1002");
    fake.clock.pass_s(1);
    assert_eq!(desks.files(MAC), host);
    assert_eq!(desks.session(MAC).status(), StatusCode::NOT_FOUND);
    let ended = (
        "devices/805ec0000001".to_owned(),
        "account deleted".to_owned(),
    );
    assert_eq!(desks.ended(), [ended]);
    // Whoever gets the id next is not logged in by that.
    let next = json!({ "tenant": "acme", "pbx": "main", "username": "1002", "pin": PIN });
    put(fake, "accounts/acme-1002", &next);
    assert_eq!(desks.files(MAC), host);
    desks.minutes(2);
    assert_eq!(desks.office.stored().state.session, None);
}

#[test]
fn what_becomes_of_the_phone_ends_the_session() {
    type Deed = fn(&Desks);
    let deeds: [(&str, Deed); 3] = [
        ("revoke", |desks| drop(act(&desks.fake, MAC, "revoke"))),
        ("delete", |desks| {
            delete(&desks.fake, &format!("devices/{MAC}"));
        }),
        ("standard", |desks| {
            let standard = json!({ "user_type": "standard" });
            patch(&desks.fake, &format!("devices/{MAC}"), &standard);
        }),
    ];
    for (name, deed) in deeds {
        let desks = Desks::new();
        desks.logs_in(MAC);
        desks.fake.clock.pass_s(1);
        deed(&desks);
        let stored = desks.office.stored();
        assert_eq!(stored.state.session, None, "{name}");
        assert_eq!(
            desks.fake.objects("session/acme-1002"),
            [json!({})],
            "{name}"
        );
        assert_eq!(desks.devices("acme-1002"), [SOFT], "{name}");
        let ended = ("devices/805ec0000001".to_owned(), "device".to_owned());
        assert_eq!(desks.ended(), [ended], "{name}");
        desks.fake.clock.pass_s(1);
        // And the user is free to go elsewhere.
        desks.logs_in(OTHER);
    }
    // What else an admin changes of the phone keeps the user there.
    let desks = Desks::new();
    desks.logs_in(MAC);
    desks.fake.clock.pass_s(1);
    patch(
        &desks.fake,
        &format!("devices/{MAC}"),
        &json!({ "site": "berlin", "lines": [], "buttons": [] }),
    );
    assert_eq!(desks.user(MAC), "1002");
    act(&desks.fake, MAC, "rotate");
    assert_eq!(desks.user(MAC), "1002");
    desks.logs_out(MAC);
    assert_eq!(desks.user(MAC), "-");
}

#[test]
fn only_a_hot_desking_phone_with_a_good_token_has_anybody_log_in() {
    let desks = Desks::new();
    let fake = &desks.fake;
    let form = login("1002", PIN);
    // A forged token costs nothing.
    let forged = form_at(
        &format!("https://dialtone.example/p/{}/", "A".repeat(43)),
        &form,
    );
    let (answer, kv, r2) = cost(fake, &forged);
    refused(&answer);
    assert_eq!((kv.all(), r2.all()), (0, 0));
    // A look is no login, and what is no login is as it was.
    refused(&fetch(
        fake,
        &follow(&format!("{}hotdesk", desks.office.base)),
    ));
    for name in ["ACC.cfg", "hotdesk/", "hotdesk/x", "HOTDESK"] {
        let post = follow(&format!("{}{name}", desks.office.base)).by(Method::POST);
        assert_eq!(
            fetch(fake, &post).status(),
            StatusCode::METHOD_NOT_ALLOWED,
            "{name}"
        );
    }
    refused(&fetch(fake, &desks.form(MAC, &form).plain()));
    for (body, kind, status) in [
        ("action=login", "application/x-www-form-urlencoded", 400),
        ("", "application/x-www-form-urlencoded", 400),
        ("action=logout", "application/json", 415),
        ("action=logout", "", 415),
    ] {
        let mut request = desks.form(MAC, body);
        request.headers.remove("content-type");
        if !kind.is_empty() {
            request = request.with("content-type", kind);
        }
        assert_eq!(
            fetch(fake, &request).status().as_u16(),
            status,
            "{body} {kind}"
        );
    }
    assert_eq!(desks.user(MAC), "1001");
    // Of a phone that is not for it, the same as of a file that is not there.
    let soft = json_of(&call(
        fake,
        Method::GET,
        &format!("devices/{SOFT}?secrets=1"),
        &Value::Null,
    ));
    let soft = soft["provisioning_url"].as_str().unwrap().to_owned();
    refused(&fetch(fake, &form_at(&soft, &form)));
    assert!(
        fake.r2.keys("tries/").is_empty(),
        "{:?}",
        fake.r2.keys("tries/")
    );
    // Switched off, and revoked.
    patch(
        fake,
        &format!("devices/{MAC}"),
        &json!({ "enabled": false }),
    );
    refused(&desks.log_in(MAC, "1002", PIN));
    patch(fake, &format!("devices/{MAC}"), &json!({ "enabled": true }));
    act(fake, MAC, "revoke");
    refused(&desks.log_in(MAC, "1002", PIN));
}

#[test]
fn from_where_a_phone_may_not_be_nobody_logs_in() {
    let desks = Desks::of(&json!({ "drift": "quarantine" }));
    let at = |country: &str| {
        let mut request = desks.form(MAC, &login("1002", PIN));
        request.source.country = Some(country.to_owned());
        request
    };
    let mut home = desks.office.file("ACC.cfg");
    home.source.country = Some("DE".to_owned());
    text(&fetch(&desks.fake, &home));
    unavailable(&fetch(&desks.fake, &at("FR")));
    assert_eq!(desks.fake.audited("phone.quarantined").len(), 1);
    assert_eq!(text(&fetch(&desks.fake, &at("DE"))), "logged in\n");
}

#[test]
fn whatever_is_wrong_the_answer_and_its_cost_are_the_same() {
    let desks = Desks::new();
    let fake = &desks.fake;
    put(fake, "tenants/other", &json!({}));
    let other = json!({
        "tenant": "other", "ari_url": "https://o.example.com/ari", "ari_username": "d",
        "ari_password": "ari-password-in-clear", "sip": { "host": "o.example.com" },
    });
    put(fake, "pbxes/other", &other);
    let theirs = json!({ "tenant": "other", "pbx": "other", "username": "2001", "pin": "4711" });
    put(fake, "accounts/other-2001", &theirs);
    delete(fake, "accounts/acme-1003");
    fake.clock.pass_s(1);
    for mac in [MAC, OTHER] {
        // As if this phone had never been used.
        let before = fake.snapshot();
        let mut seen = Vec::new();
        for (user, pin) in [
            ("1002", "wrong"),
            ("acme-1002", "wrong"),
            ("1002", &"x".repeat(128)),
            ("nobody", "1"),
            ("no user \u{e4}/..", "1"),
            // There, but without a PIN; gone; another tenant's.
            ("1001", "1"),
            ("1003", "1357"),
            ("acme-1003", "1357"),
            ("2001", "4711"),
            ("other-2001", "4711"),
        ] {
            fake.restore(&before);
            let (answer, kv, r2) = cost(fake, &desks.form(mac, &login(user, pin)));
            is_wrong(&answer);
            seen.push((format!("{:?}", answer.headers()), kv, r2));
        }
        // While nobody may try, the right one too.
        fake.restore(&before);
        for _ in 0..FREE_TRIES {
            desks.is_refused(mac, "1002", "wrong");
        }
        let (answer, kv, r2) = cost(fake, &desks.form(mac, &login("1002", PIN)));
        is_wrong(&answer);
        seen.push((format!("{:?}", answer.headers()), kv, r2));
        seen.dedup();
        assert_eq!(seen.len(), 1, "{mac}: {seen:?}");
        fake.restore(&before);
    }
}

#[test]
fn five_wrong_pins_lock_a_user_at_every_phone_and_each_further_one_for_longer() {
    let desks = Desks::new();
    for n in 0..FREE_TRIES {
        let mac = if n % 2 == 0 { MAC } else { OTHER };
        desks.is_refused(mac, "1002", "wrong");
    }
    for mac in [MAC, OTHER] {
        desks.is_refused(mac, "1002", PIN);
    }
    // By whatever name, and nobody else.
    desks.is_refused(OTHER, "acme-1002", PIN);
    assert_eq!(text(&desks.log_in(OTHER, "1003", "1357")), "logged in\n");
    desks.fake.clock.pass_s(299);
    desks.is_refused(MAC, "1002", PIN);
    desks.fake.clock.pass_s(1);
    // One wrong one more: ten minutes.
    desks.is_refused(MAC, "1002", "wrong");
    desks.fake.clock.pass_s(599);
    desks.is_refused(MAC, "1002", PIN);
    desks.fake.clock.pass_s(1);
    desks.logs_in(MAC);
    // The right one begins the count anew.
    assert_eq!(desks.tries("acme-1002")["looked_at"], 0);
    let locked = desks.fake.audited("pin.locked");
    assert_eq!(locked.len(), 2, "{locked:?}");
    assert_eq!(locked[0]["resource"], "accounts/acme-1002");
    assert_eq!(locked[0]["alarm"], true);
    let refused = desks.fake.audited("pin.refused");
    assert_eq!(refused[0]["resource"], "devices/805ec0000001");
    assert_eq!(refused[0]["alarm"], Value::Null);
}

#[test]
fn pins_that_come_at_once_are_counted_one_by_one() {
    for seed in 1..30 {
        let desks = Desks::new();
        let mut bases = Vec::new();
        for n in 0..12 {
            let device = json!({
                "tenant": "acme", "vendor": "yealink", "model": "T46U", "user_type": "hot-desking",
            });
            let made = put(&desks.fake, &format!("devices/805ec00002{n:02}"), &device);
            bases.push(made["provisioning_url"].as_str().unwrap().to_owned());
        }
        let sites: Vec<Site> = (0..24)
            .map(|n| Site::new(&desks.fake, Mood::Slow(seed * 7_919 + n)))
            .collect();
        let requests: Vec<Request> = (0..24)
            .map(|n| form_at(&bases[n % 12], &login("1002", &format!("guess-{n}"))))
            .collect();
        let asked = sites.iter().zip(&requests);
        block_on(join_all(
            asked.map(|(site, request)| entry::answer(site, &PLACE, request)),
        ));
        assert_eq!(desks.tries("acme-1002")["looked_at"], FREE_TRIES, "{seed}");
        desks.is_refused(MAC, "1002", PIN);
    }
}

#[test]
fn a_stolen_phone_does_not_lock_everybody_out() {
    let desks = Desks::new();
    let fake = &desks.fake;
    // Whoever has it may even have a PIN: that gives back no try but its own.
    let mut given = 0;
    for n in 0.. {
        if n % 3 == 2 {
            assert_eq!(text(&desks.log_in(MAC, "1003", "1357")), "logged in\n");
            continue;
        }
        desks.is_refused(MAC, &format!("user-{n}"), "wrong");
        given += 1;
        if given == TRIES_OF_DEVICE {
            break;
        }
    }
    for (user, pin) in [("1002", "wrong"), ("1002", PIN), ("1003", "1357")] {
        let answer = desks.log_in(MAC, user, pin);
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{user}");
        let wait: u64 = header(&answer, "retry-after").parse().unwrap();
        assert!((1..=3_600).contains(&wait), "{wait}");
    }
    assert_eq!(desks.tries("acme-1002"), Value::Null);
    let held = fake.audited("pin.held");
    assert_eq!((held.len(), &held[0]["alarm"]), (1, &json!(true)));
    // It buys no writes any more, and no other phone waits. Users can still log out at this one.
    fake.r2.take_count();
    desks.log_in(MAC, "1002", "wrong");
    assert_eq!(fake.r2.take_count().writes(), 0);
    desks.logs_in(OTHER);
    desks.logs_out(MAC);
    fake.clock.pass_s(3_600);
    desks.logs_in(MAC);
    // Of users whom nobody knows there is nothing under a name that somebody made up.
    let keys = fake.r2.keys("tries/");
    assert!(keys.iter().all(|key| !key.contains("user-")), "{keys:?}");
}

#[test]
fn an_admin_frees_a_user_who_is_locked() {
    let desks = Desks::new();
    let lock = || {
        for _ in 0..FREE_TRIES {
            desks.is_refused(OTHER, "1002", "wrong");
        }
        desks.is_refused(MAC, "1002", PIN);
    };
    lock();
    // Another change of the account does not.
    patch(
        &desks.fake,
        "accounts/acme-1002",
        &json!({ "display_name": "Zoe" }),
    );
    desks.is_refused(MAC, "1002", PIN);
    patch(
        &desks.fake,
        "accounts/acme-1002",
        &json!({ "pin": "new-pin" }),
    );
    desks.is_refused(MAC, "1002", PIN);
    assert_eq!(text(&desks.log_in(MAC, "1002", "new-pin")), "logged in\n");

    desks.fake.clock.pass_s(3_600);
    patch(&desks.fake, "accounts/acme-1002", &json!({ "pin": PIN }));
    lock();
    let path = format!("devices/{OTHER}/session");
    put(&desks.fake, &path, &json!({ "account": "acme-1002" }));
    desks.fake.clock.pass_s(1);
    desks.logs_in(MAC);
    // Without a PIN nobody logs in, and an empty one is none.
    desks.fake.clock.pass_s(3_600);
    patch(&desks.fake, "accounts/acme-1002", &json!({ "pin": "" }));
    desks.is_refused(OTHER, "1002", PIN);
    assert!(!desks.account("acme-1002").sealed.contains_key("pin"));
}

#[test]
fn no_pin_stands_in_any_store_log_or_answer() {
    let desks = Desks::new();
    let fake = &desks.fake;
    let mut answers = Vec::new();
    for (user, pin) in [
        ("1002", PIN),
        ("1002", "guess-0815"),
        ("guess-0815", PIN),
        ("nobody", PIN),
    ] {
        let answer = desks.log_in(MAC, user, pin);
        answers.push(format!(
            "{:?} {}",
            answer.headers(),
            String::from_utf8_lossy(answer.body())
        ));
        let wrong = format!("action=login&user={user}&pin={pin}&more={pin}");
        let answer = desks.post(OTHER, &wrong);
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        answers.push(String::from_utf8_lossy(answer.body()).into_owned());
    }
    // Nor where a store fails in the middle.
    *fake.r2.failing.borrow_mut() = Failing::Prefix("session/".to_owned());
    let answer = desks.log_in(OTHER, "1002", PIN);
    unavailable(&answer);
    *fake.r2.failing.borrow_mut() = Failing::None;
    desks.minutes(2);
    for mac in [MAC, OTHER] {
        answers.extend(desks.files(mac));
        for path in ["", "/status", "/session", "/files"] {
            let answer = call(
                fake,
                Method::GET,
                &format!("devices/{mac}{path}"),
                &Value::Null,
            );
            answers.push(String::from_utf8_lossy(answer.body()).into_owned());
        }
    }
    let explained = json!({ "path": format!("/p/{}/hotdesk", desks.office.token()) });
    let explained = call(fake, Method::POST, "explain", &explained);
    answers.push(text(&explained));
    let all = [
        String::from_utf8_lossy(&fake.dump()).into_owned(),
        fake.logged(),
        answers.join("\n"),
    ];
    for secret in [PIN, "guess-0815"] {
        for (n, text) in all.iter().enumerate() {
            assert!(!text.contains(secret), "{secret} in {n}");
        }
    }
}

/// A request that is killed, or whose call to R2 fails, after so many calls; false if it was through before.
fn cut_off(desks: &Desks, request: &Request, calls: u32, kills: bool, takes_place: bool) -> bool {
    let mood = Mood::Ends {
        calls,
        kills,
        takes_place,
    };
    let site = Site::new(&desks.fake, mood);
    {
        let mut answer = pin!(entry::answer(&site, &PLACE, request));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..200 {
            if answer.as_mut().poll(&mut context).is_ready() {
                break;
            }
        }
    }
    !matches!(site.r2.mood.get(), Mood::Ends { calls: 1.., .. })
}

#[test]
fn whatever_is_cut_off_nobody_has_the_user_twice_and_the_next_run_clears_up() {
    let desks = Desks::new();
    let before = desks.acc(OTHER);
    desks.logs_in(MAC);
    desks.minutes(3);
    let start = desks.fake.snapshot();
    let mut cuts = 0;
    for (kills, takes_place) in [(true, false), (true, true), (false, false), (false, true)] {
        // A login elsewhere, one over another user, and a logout.
        for scene in 0..3 {
            if scene > 0 && !kills {
                continue;
            }
            for calls in 0.. {
                desks.fake.restore(&start);
                let request = match scene {
                    0 => desks.form(OTHER, &login("1002", PIN)),
                    1 => desks.form(MAC, &login("1003", "1357")),
                    _ => desks.form(MAC, "action=logout"),
                };
                let cut = cut_off(&desks, &request, calls, kills, takes_place);
                let what = format!("{scene} {calls} {kills} {takes_place}");
                desks.fake.clock.pass_s(1);
                // At once, at whatever the phones ask for.
                let users = desks.users();
                let expected: &[[&str; 2]] = match scene {
                    0 => &[["1002", "-"], ["1001", "1002"]],
                    1 => &[["1002", "-"], ["1001", "-"], ["1003", "-"]],
                    _ => &[["1002", "-"], ["1001", "-"]],
                };
                assert!(
                    expected.iter().any(|users_| *users_ == users),
                    "{what}: {users:?}"
                );
                desks.minutes(1);
                assert_eq!(desks.users(), users, "{what}");
                let left = desks.fake.r2.keys("unfinished/");
                assert_eq!(left, Vec::<String>::new(), "{what}");
                for (account, name) in [("acme-1002", "1002"), ("acme-1003", "1003")] {
                    // One too many costs a needless look; a missing one would never hear of a change.
                    let devices = desks.devices(account);
                    let mut at = [MAC, OTHER].into_iter().zip(&users);
                    let listed =
                        at.all(|(mac, user)| user != name || devices.iter().any(|d| d == mac));
                    assert!(listed, "{what}: {devices:?}");
                }
                // Everything ends in time, whatever was left.
                desks.fake.clock.pass_s(13 * 3_600);
                desks.minutes(1);
                assert_eq!(desks.user(MAC), "1001", "{what}");
                assert_eq!(desks.acc(OTHER), before, "{what}");
                let ends = desks.fake.r2.keys("session-end/");
                assert_eq!(ends, Vec::<String>::new(), "{what}");
                if !cut {
                    break;
                }
                cuts += 1;
            }
        }
    }
    assert!(cuts > 200, "{cuts}");
}

#[test]
fn with_a_store_that_fails_nobody_gets_anothers_files() {
    let desks = Desks::new();
    let fake = &desks.fake;
    desks.logs_in(MAC);
    fake.clock.pass_s(90);
    // R2 alone says whether the user is still there: the phone keeps what it has.
    *fake.r2.failing.borrow_mut() = Failing::All;
    unavailable(&fetch(fake, &desks.office.file("ACC.cfg")));
    unavailable(&desks.log_in(MAC, "1002", PIN));
    unavailable(&desks.post(MAC, "action=logout"));
    // A phone at which nobody is logged in is served.
    assert_eq!(desks.user(OTHER), "-");
    *fake.r2.failing.borrow_mut() = Failing::None;

    // Whether the user is still there cannot be told, or is known to be over and the host's files cannot be
    // made: neither is a reason to give out the user's.
    for (prefix, seconds) in [
        ("session/", 60),
        ("profile/", 12 * 3_600),
        ("account/acme-1001", 12 * 3_600),
    ] {
        let desks = Desks::new();
        desks.logs_in(MAC);
        desks.fake.clock.pass_s(1);
        assert_eq!(desks.user(MAC), "1002");
        desks.fake.clock.pass_s(seconds);
        *desks.fake.r2.failing.borrow_mut() = Failing::Prefix(prefix.to_owned());
        unavailable(&fetch(&desks.fake, &desks.office.file("ACC.cfg")));
    }
    // Nor are the host's for the user, who has just logged in.
    let desks = Desks::new();
    desks.acc(MAC);
    *desks.fake.r2.failing.borrow_mut() = Failing::Prefix("profile/".to_owned());
    desks.logs_in(MAC);
    unavailable(&fetch(&desks.fake, &desks.office.file("ACC.cfg")));
    *desks.fake.r2.failing.borrow_mut() = Failing::None;
    assert_eq!(desks.user(MAC), "1002");
}

#[test]
fn a_users_keys_are_checked_when_the_account_is_saved() {
    let desks = Desks::new();
    for (buttons, pointer) in [
        (json!([{ "key": 1, "type": "blf" }]), "/buttons/0/value"),
        (
            json!([{ "key": 1, "type": "line", "line": 2 }]),
            "/buttons/0/line",
        ),
        (json!([{ "key": 0, "type": "dnd" }]), "/buttons/0/key"),
        (
            json!([{ "key": 1, "type": "dnd", "colour": "red" }]),
            "/buttons/0/colour",
        ),
    ] {
        let body = json!({ "buttons": buttons });
        let answer = call(&desks.fake, Method::PATCH, "accounts/acme-1002", &body);
        assert_eq!(
            answer.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{buttons}"
        );
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    // What this phone does not have is left out, and the user logs in all the same.
    let many = json!({ "display_name": "Zoe", "buttons": [
        { "key": 1, "type": "line" },
        { "key": 99, "type": "dnd" },
        { "module": 9, "key": 1, "type": "dnd" },
    ] });
    patch(&desks.fake, "accounts/acme-1002", &many);
    let path = format!("devices/{MAC}/session");
    let shown = put(&desks.fake, &path, &json!({ "account": "acme-1002" }));
    let warnings = shown["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(desks.user(MAC), "1002");
    // A password that the phone's files cannot carry is no reason either: there is no line then.
    desks.fake.clock.pass_s(1);
    patch(
        &desks.fake,
        &format!("devices/{SOFT}"),
        &json!({ "lines": [] }),
    );
    patch(
        &desks.fake,
        "accounts/acme-1002",
        &json!({ "password": "%NULL%" }),
    );
    desks.fake.clock.pass_s(1);
    assert_eq!(desks.user(MAC), "-");
    patch(
        &desks.fake,
        "accounts/acme-1002",
        &json!({ "password": "good again" }),
    );
    desks.fake.clock.pass_s(1);
    assert_eq!(desks.user(MAC), "1002");
}

#[test]
fn what_the_hosts_files_cannot_carry_is_refused_while_a_user_is_there_too() {
    let desks = Desks::new();
    desks.logs_in(MAC);
    desks.fake.clock.pass_s(1);
    for (path, body, pointer) in [
        (
            "accounts/acme-1001",
            json!({ "password": "%NULL%" }),
            "/password",
        ),
        (
            "devices/805ec0000001",
            json!({ "lines": [{ "line": 1, "account": "acme-1001", "label": "%NULL%" }] }),
            "/lines/0/label",
        ),
    ] {
        let answer = call(&desks.fake, Method::PATCH, path, &body);
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    // What it can is in the host's files after the logout.
    patch(
        &desks.fake,
        "accounts/acme-1001",
        &json!({ "password": "hosts-next" }),
    );
    assert!(!desks.acc(MAC).contains("hosts-next"));
    desks.logs_out(MAC);
    assert!(desks.acc(MAC).contains("hosts-next"));
}

#[test]
fn wrong_pins_are_written_down_once_a_minute_and_capped_and_a_lock_is_heard_all_the_same() {
    let desks = Desks::new();
    for _ in 0..3 {
        desks.is_refused(MAC, "nobody", "1");
    }
    assert_eq!(desks.fake.audited("pin.refused").len(), 1);
    desks.fake.limit(Limit::Refusals, 0);
    desks.fake.clock.pass_s(60);
    for _ in 0..FREE_TRIES {
        desks.is_refused(MAC, "1002", "1");
    }
    assert_eq!(desks.fake.audited("pin.refused").len(), 1);
    assert_eq!(desks.fake.audited("pin.locked").len(), 1);
}

#[test]
fn the_pbx_has_room_for_the_phone_before_the_user_logs_in() {
    let scene = Scene::with_accounts(&["1001"]);
    let contacts = || scene.asterisk.field("aor", "1001", "max_contacts");
    let fixed = json!({
        "tenant": "acme", "vendor": "yealink", "model": "T46U",
        "lines": [{ "line": 1, "account": "acme-1001" }],
    });
    put(&scene.fake, "devices/805ec0000001", &fixed);
    scene.minute();
    scene.minute();
    assert_eq!(contacts().as_deref(), Some("1"));
    let mut user = scene_account("1001");
    user["pin"] = "2468".into();
    put(&scene.fake, "accounts/acme-1001", &user);
    scene.minute();
    scene.minute();
    assert_eq!(contacts().as_deref(), Some("2"));
    let desk = json!({
        "tenant": "acme", "vendor": "yealink", "model": "T46U", "user_type": "hot-desking",
    });
    put(&scene.fake, "devices/805ec0000002", &desk);
    let session = json!({ "account": "acme-1001" });
    put(&scene.fake, "devices/805ec0000002/session", &session);
    scene.minute();
    scene.minute();
    assert_eq!(contacts().as_deref(), Some("3"));
}
