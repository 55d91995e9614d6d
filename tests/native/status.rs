//! How far each phone is, what is the matter with it, and what is told of it: phones that ask and are
//! refused, files that are fetched, and an Asterisk where they come and go.

use std::cell::RefCell;
use std::rc::Rc;

use dialtone::afterwards;
use dialtone::ports::Limit;
use dialtone::record::account::Account;
use dialtone::refusal::AGAIN_AFTER_S;
use dialtone::request::Request;
use dialtone::store;
use dialtone::tick;
use dialtone::transitions::{FLAPPING_ABOVE, MOST_ALONE, TOLD_EVERY_S};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{Told, act, ask, call, delete, fetch, follow, get, json_of, patch, put, text};
use crate::asterisk::{Asterisk, Mood};
use crate::phone::{MAC, Office, SERIAL, SOFT, question, refused, unavailable};
use crate::world::{Failing, Fake, block_on};

const HOOK: &str = "hook.example.com";

/// An office with its PBX and whoever wants to hear of it.
struct Site {
    office: Office,
    asterisk: Rc<Asterisk>,
    /// The bodies that the webhook was sent.
    inbox: Rc<RefCell<Vec<Value>>>,
}

impl Site {
    fn new() -> Self {
        Self::of(&json!({}), &json!({}))
    }

    fn of(tenant: &Value, more: &Value) -> Self {
        let office = Office::of(tenant, more);
        let asterisk = Asterisk::new("dialtone", "ari-password-in-clear");
        let inbox = Rc::<RefCell<Vec<Value>>>::default();
        let (pbx, kept) = (Rc::clone(&asterisk), Rc::clone(&inbox));
        office.fake.net.answer(move |request| {
            if request.uri().host() == Some(HOOK) {
                let body = serde_json::from_slice(request.body()).unwrap();
                kept.borrow_mut().push(body);
                return Ok(http::Response::new(Vec::new()));
            }
            pbx.answer(&request)
        });
        Self {
            office,
            asterisk,
            inbox,
        }
    }

    /// The same with the accounts at the PBX.
    fn pushed(self) -> Self {
        patch(&self.office.fake, "pbxes/main", &json!({ "mode": "push" }));
        self.minutes(3);
        self
    }

    fn fake(&self) -> &Rc<Fake> {
        &self.office.fake
    }

    fn minutes(&self, count: u32) {
        for _ in 0..count {
            self.fake().clock.pass_s(60);
            block_on(tick::run(&**self.fake(), None));
        }
    }

    fn fetches(&self, name: &str) {
        text(&fetch(self.fake(), &self.office.file(name)));
    }

    fn status(&self) -> Value {
        status(self.fake(), MAC)
    }

    #[track_caller]
    fn has(&self, code: &str) -> Value {
        has(&self.status(), code)
    }

    fn account(&self) -> Value {
        let path = "accounts/acme-1001/status";
        json_of(&call(self.fake(), Method::GET, path, &Value::Null))
    }

    /// What the audit has of an action, chained or not, newest first.
    fn audit(&self, action: &str) -> Vec<Value> {
        let path = format!("audit?tenant=acme&action={action}&limit=200");
        let found = json_of(&call(self.fake(), Method::GET, &path, &Value::Null));
        found["items"].as_array().unwrap().clone()
    }
}

fn status(fake: &Fake, mac: &str) -> Value {
    let path = format!("devices/{mac}/status");
    json_of(&call(fake, Method::GET, &path, &Value::Null))
}

fn codes(status: &Value) -> Vec<&str> {
    let diagnoses = status["diagnoses"].as_array().unwrap();
    diagnoses
        .iter()
        .map(|found| found["code"].as_str().unwrap())
        .collect()
}

/// The one diagnosis of this code. Each names the next thing to do in a sentence or more.
#[track_caller]
fn has(status: &Value, code: &str) -> Value {
    let diagnoses = status["diagnoses"].as_array().unwrap();
    let found: Vec<&Value> = diagnoses.iter().filter(|d| d["code"] == code).collect();
    let [one] = found.as_slice() else {
        panic!("{code} in {status:#}");
    };
    let detail = one["detail"].as_str().unwrap();
    assert!(detail.len() > 40 && detail.ends_with('.'), "{detail}");
    assert!(!detail.contains("  "), "{detail}");
    (*one).clone()
}

#[track_caller]
fn says(diagnosis: &Value, words: &str) {
    let detail = diagnosis["detail"].as_str().unwrap();
    assert!(detail.contains(words), "{words} in {detail}");
}

/// The time as an answer writes it.
fn now(site: &Site) -> Value {
    use dialtone::ports::World;
    json!(site.fake().now())
}

#[test]
fn each_step_of_a_phone_has_its_time_and_what_is_the_matter() {
    let site = Site::new().pushed();
    let (fake, mut seen) = (site.fake(), json!({}));
    let mut step = |status: &str, what: &str, codes_now: &[&str]| {
        let shown = site.status();
        assert_eq!(
            (&shown["status"], codes(&shown)),
            (&json!(status), codes_now.to_vec()),
            "{shown:#}"
        );
        for (earlier, at) in seen.as_object().unwrap() {
            let then = &shown["timeline"][earlier];
            assert_eq!(then.get("at").unwrap_or(then), at, "{earlier}");
        }
        if !what.is_empty() {
            assert_eq!(shown["since"], now(&site), "{shown:#}");
            seen[what] = now(&site);
        }
        fake.clock.pass_s(60);
    };
    step("unseen", "", &["never_asked"]);
    text(&fetch(fake, &question(MAC, SERIAL)));
    step("redirected", "redirected", &["not_fetched"]);
    site.fetches("boot.cfg");
    step("booted", "booted", &["not_configured"]);
    site.fetches("ACC.cfg");
    step(
        "configured",
        "configured",
        &["never_registered", "nobody_registered"],
    );
    site.asterisk.registers("1001");
    site.minutes(1);
    step("registered", "registered", &[]);
    site.asterisk.unregisters("1001");
    site.minutes(1);
    step("offline", "offline", &["offline"]);
    let shown = site.status();
    assert_eq!(
        shown["timeline"]["first_registered"],
        shown["timeline"]["registered"]
    );
    assert_eq!(shown["timeline"]["configured"]["version"], shown["version"]);
    // Back again: the first time stays.
    site.asterisk.registers("1001");
    site.minutes(1);
    let again = site.status();
    assert_eq!(
        again["timeline"]["first_registered"],
        shown["timeline"]["registered"]
    );
    assert_eq!(again["timeline"]["registered"], now(&site));
    assert_eq!(again["timeline"]["offline"], shown["timeline"]["offline"]);
    assert_eq!(codes(&again), Vec::<&str>::new());
}

// On its way to the files.

#[test]
fn one_that_never_asked_is_told_from_one_that_nothing_would_let_in() {
    let site = Site::new();
    let asked = site.has("never_asked");
    says(&asked, "It is not armed");
    says(&asked, "any of serial, certificate, key");
    act(site.fake(), MAC, "arm");
    says(
        &site.has("never_asked"),
        "It is armed until 2026-11-24T09:00:01Z",
    );
    site.fake().clock.pass_s(86_400);
    says(
        &site.has("never_asked"),
        "Its window ended at 2026-11-24T09:00:01Z",
    );

    let closed = Site::of(&json!({ "proofs": ["window"] }), &json!({}));
    says(&closed.has("never_asked"), "nothing would let it in");
    let both = json!({ "proofs": ["serial", "window"], "require": "all" });
    let half = Site::of(&both, &json!({}));
    says(&half.has("never_asked"), "nothing would let it in");
}

/// What a caller asks of an office.
type Ask = Box<dyn Fn(&Office) -> Request>;

#[test]
fn whoever_is_refused_is_in_the_status_with_the_reason_until_the_phone_gets_in() {
    let germany = json!({ "places": { "countries": ["DE"] } });
    let by_key = |office: &Office| {
        let key = office
            .soft_first_access
            .replace("https://dialtone.example", "");
        get(&format!("{key}{MAC}.boot"))
    };
    let cases: [(&str, Value, Value, Ask, &str); 6] = [
        (
            "no proof",
            json!({}),
            json!({}),
            Box::new(|_| question(MAC, "123")),
            "nothing showed that it is the phone",
        ),
        (
            "place",
            germany,
            json!({}),
            Box::new(|_| question(MAC, SERIAL)),
            "places",
        ),
        (
            "key",
            json!({}),
            json!({}),
            Box::new(by_key),
            "first-access key",
        ),
        (
            "plain http",
            json!({}),
            json!({}),
            Box::new(|_| question(MAC, SERIAL).plain()),
            "allow_plain_http",
        ),
        (
            "file",
            json!({}),
            json!({}),
            Box::new(|_| get(&format!("/rps/sn/{SERIAL}/cfg{MAC}.xml"))),
            "vendor",
        ),
        (
            "disabled",
            json!({}),
            json!({ "enabled": false }),
            Box::new(|_| question(MAC, SERIAL)),
            "",
        ),
    ];
    for (why, tenant, more, ask, words) in cases {
        let site = Site::of(&tenant, &more);
        refused(&fetch(site.fake(), &ask(&site.office)));
        let shown = site.status();
        let expected = json!({ "at": now(&site), "why": why, "source": "192.0.2.1", "times": 1 });
        assert_eq!(shown["refused"], expected, "{why}");
        if why == "disabled" {
            assert_eq!(codes(&shown), ["disabled"]);
            says(&has(&shown, "disabled"), "enabled");
            let path = format!("devices/{MAC}");
            patch(site.fake(), &path, &json!({ "enabled": true }));
            says(&site.has("refused"), "was switched off then");
            continue;
        }
        let found = has(&shown, "refused");
        says(&found, "192.0.2.1 asked for it and was refused");
        says(&found, words);
        assert_eq!(found["since"], now(&site));
        // Nobody looked at the PBX so far.
        assert_eq!(codes(&shown), ["refused", "not_looked_yet"], "{why}");
    }

    // It gets in: what was refused before is no matter any more.
    let site = Site::new();
    refused(&fetch(site.fake(), &question(MAC, "123")));
    // The same again is news after a while; somebody else is at once.
    site.fake().clock.pass_s(AGAIN_AFTER_S - 1);
    refused(&fetch(site.fake(), &question(MAC, "124")));
    assert_eq!(site.status()["refused"]["times"], 1);
    site.fake().clock.pass_s(1);
    refused(&fetch(site.fake(), &question(MAC, "124")));
    assert_eq!(site.status()["refused"]["times"], 2);
    refused(&fetch(site.fake(), &question(MAC, "124").from("192.0.2.9")));
    assert_eq!(site.status()["refused"]["times"], 3);
    site.fake().clock.pass_s(60);
    text(&fetch(site.fake(), &question(MAC, SERIAL)));
    assert_eq!(codes(&site.status()), ["not_fetched", "not_looked_yet"]);
    // Deleted and made again, nothing is left of it.
    delete(site.fake(), &format!("devices/{MAC}"));
    assert_eq!(site.fake().r2.keys("refused/"), Vec::<String>::new());
}

#[test]
fn a_refusal_is_of_the_tenant_whose_device_it_was() {
    let site = Site::new();
    let fake = site.fake();
    // What is to be written of it waits until the device is another's.
    let late = ask(fake, &question(MAC, "123")).afterwards.unwrap();
    put(fake, "tenants/other", &json!({}));
    let device = json!({ "tenant": "other", "vendor": "yealink", "model": "T46U" });
    delete(fake, &format!("devices/{MAC}"));
    put(fake, &format!("devices/{MAC}"), &device);
    block_on(afterwards::write(&**fake, late));
    assert_eq!(fake.r2.keys("refused/"), [format!("refused/{MAC}")]);
    assert_eq!(site.status().get("refused"), None);
}

#[test]
fn a_phone_with_a_revoked_token_is_refused_and_not_unseen_for_ever() {
    let site = Site::new();
    site.fetches("ACC.cfg");
    act(site.fake(), MAC, "revoke");
    refused(&fetch(site.fake(), &site.office.file("ACC.cfg")));
    let found = site.has("refused");
    says(&found, "its token was revoked");
    says(&found, "any of serial");
    assert_eq!(site.audit("phone.refused").len(), 1);
    // It is no scan, however often the phone asks.
    site.fake().limit(Limit::TenantMisses, 3);
    for _ in 0..10 {
        refused(&fetch(site.fake(), &site.office.file("ACC.cfg")));
    }
    assert_eq!(site.audit("tenant.scanned"), Vec::<Value>::new());
    // A token that nobody signed leaves nothing, and costs nothing.
    let keys = site.fake().r2.keys("");
    refused(&fetch(
        site.fake(),
        &get("/p/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/ACC.cfg"),
    ));
    assert_eq!(site.fake().r2.keys(""), keys);
}

#[test]
fn what_is_refused_costs_no_more_than_the_limits_of_refusals() {
    let site = Site::new();
    let fake = site.fake();
    fake.limit(Limit::RefusalsOfDevice, 1);
    refused(&fetch(fake, &question(MAC, "123")));
    fake.r2.take_count();
    for _ in 0..50 {
        refused(&fetch(fake, &question(MAC, "123")));
    }
    assert_eq!(fake.r2.take_count().writes(), 0);
    assert_eq!(site.status()["refused"]["times"], 1);
}

#[test]
fn a_phone_that_is_sent_elsewhere_is_not_waited_for() {
    let url = json!({ "url": "https://elsewhere.example.com/{mac}/" });
    let site = Site::of(&json!({}), &url);
    text(&fetch(site.fake(), &question(MAC, SERIAL)));
    says(
        &site.has("not_fetched"),
        "https://elsewhere.example.com/{mac}/",
    );
}

#[test]
fn a_contested_window_names_both_callers() {
    let site = Site::of(&json!({ "proofs": ["window"] }), &json!({}));
    act(site.fake(), MAC, "arm");
    let ask = |from: &str| get(&format!("/rps?mac={MAC}")).from(from);
    text(&fetch(site.fake(), &ask("198.51.100.1")));
    refused(&fetch(site.fake(), &ask("198.51.100.2")));
    let found = site.has("contested");
    says(&found, "claimed by 198.51.100.1, and 198.51.100.2");
    assert_eq!(
        codes(&site.status()),
        ["contested", "not_fetched", "not_looked_yet"]
    );
}

#[test]
fn a_phone_in_quarantine_waits_for_its_release() {
    let site = Site::of(&json!({ "drift": "quarantine" }), &json!({}));
    let at = |country: &str| {
        let mut request = site.office.file("ACC.cfg");
        request.source.country = Some(country.to_owned());
        request
    };
    text(&fetch(site.fake(), &at("DE")));
    unavailable(&fetch(site.fake(), &at("FR")));
    says(&site.has("quarantined"), "It came from FR");
    let path = format!("devices/{MAC}/release");
    let released = call(
        site.fake(),
        Method::POST,
        &path,
        &json!({ "country": "FR" }),
    );
    assert!(released.status().is_success(), "{released:?}");
    assert!(!codes(&site.status()).contains(&"quarantined"));
}

#[test]
fn a_decoy_is_nothing_but_a_decoy() {
    let site = Site::of(&json!({}), &json!({ "decoy": true, "lines": [] }));
    refused(&fetch(site.fake(), &question(MAC, SERIAL)));
    assert_eq!(codes(&site.status()), ["decoy"]);
    assert_eq!(site.status()["refused"]["why"], "decoy");
}

// At the PBX.

#[test]
fn a_pbx_that_cannot_be_asked_is_named_with_the_time_that_it_last_could() {
    let site = Site::new();
    site.fetches("ACC.cfg");
    says(&site.has("not_looked_yet"), "wait two minutes");
    site.fake().clock.pass_s(300);
    says(&site.has("not_looked_yet"), "cron trigger");
    site.asterisk.is(Mood::Down);
    site.minutes(1);
    let never = site.has("pbx_unreachable");
    says(&never, "(unreachable)");
    says(&never, "It never answered well");
    assert_eq!(never.get("since"), None);
    site.asterisk.is(Mood::Up);
    site.minutes(1);
    let well = now(&site);
    site.asterisk.is(Mood::Frozen);
    site.minutes(5);
    let found = site.has("pbx_unreachable");
    says(&found, "see that Asterisk and its tunnel run");
    assert_eq!(found["since"], well);
    patch(
        site.fake(),
        "pbxes/main",
        &json!({ "ari_password": "wrong" }),
    );
    site.asterisk.is(Mood::Up);
    site.minutes(2);
    says(&site.has("pbx_unreachable"), "ari_username");
    // The account says the same.
    assert_eq!(codes(&site.account()), ["pbx_unreachable"]);
}

#[test]
fn an_account_that_the_pbx_does_not_have_is_said_to_be_missing() {
    let site = Site::new();
    site.fetches("ACC.cfg");
    site.minutes(2);
    let found = site.has("endpoint_missing");
    says(&found, "has no endpoint 1001");
    assert_eq!(found["line"], 1);
    // There, it is up to the phone; and gone again, it is missing again.
    site.asterisk.has_foreign("1001", true);
    site.minutes(1);
    assert_eq!(
        codes(&site.status()),
        ["never_registered", "nobody_registered"]
    );
    site.asterisk.registers("1001");
    site.minutes(1);
    site.asterisk.loses("endpoint", "1001");
    site.minutes(1);
    assert_eq!(codes(&site.status()), ["endpoint_missing"]);

    // In `push` mode it is due, until it is there: here sixty others are before it.
    let site = Site::new();
    site.fetches("ACC.cfg");
    for n in 0..60 {
        let account = json!({ "tenant": "acme", "pbx": "main", "username": format!("05{n:02}") });
        put(site.fake(), &format!("accounts/acme-05{n:02}"), &account);
    }
    patch(site.fake(), "pbxes/main", &json!({ "mode": "push" }));
    site.minutes(1);
    says(&site.has("not_pushed"), "does not have 1001 yet");
    site.minutes(2);
    assert!(!codes(&site.status()).contains(&"not_pushed"));
}

#[test]
fn what_keeps_an_account_from_the_pbx_is_named_each_in_its_words() {
    let broken = |break_it: &dyn Fn(&Site), minutes: u32| {
        let site = Site::new();
        site.fetches("ACC.cfg");
        break_it(&site);
        patch(site.fake(), "pbxes/main", &json!({ "mode": "push" }));
        site.minutes(minutes);
        site
    };
    let of_others = broken(&|site| site.asterisk.has_foreign("1001", false), 2);
    says(&of_others.has("push_collision"), "it is never touched");
    assert_eq!(of_others.account()["trouble"]["why"], "collision");
    let next = of_others.account()["trouble"]["next_try"].clone();
    says(&of_others.has("push_collision"), next.as_str().unwrap());
    assert_eq!(of_others.account()["pushed"], Value::Null);

    let wrong = broken(&|site| site.asterisk.refuses("1001"), 2);
    says(&wrong.has("push_refused"), "refuses a value");

    // Unclear for one account, and by then all is well with the PBX.
    let unclear = broken(&|site| site.asterisk.is(Mood::ReadOnly), 3);
    site_is_waiting(&unclear);
    says(&unclear.has("push_unclear"), "read_only");

    let sealed = broken(
        &|site| {
            let id = "acme-1001";
            let spoilt = store::update::<Account, Fake>(site.fake(), id, |stored| {
                stored
                    .sealed
                    .insert("password".to_owned(), "spoilt".to_owned());
                true
            });
            block_on(spoilt).unwrap().unwrap();
        },
        2,
    );
    says(&sealed.has("push_password"), "no key opens its password");

    let ghost = broken(
        &|site| {
            let pbx = Rc::clone(&site.asterisk);
            site.fake().net.answer(move |request| {
                let answer = pbx.answer(&request);
                // It says that it took the endpoint, and nobody can read it.
                if request.method() == Method::PUT {
                    pbx.loses("endpoint", "1001");
                }
                answer
            });
        },
        2,
    );
    says(&ghost.has("push_not_kept"), "sorcery.conf");
}

/// Lets time pass until the account waits after a failure and the PBX is fine.
fn site_is_waiting(site: &Site) {
    site.minutes(40);
    site.asterisk.is(Mood::Up);
    let fine = |site: &Site| {
        let run = block_on(tick::last_run(&**site.fake())).unwrap().unwrap();
        run.pbxes.values().all(|pbx| pbx.outcome == "ok")
    };
    for _ in 0..20 {
        site.minutes(1);
        if fine(site) {
            return;
        }
    }
    panic!("it never waits");
}

#[test]
fn a_phone_that_never_registered_has_the_likely_causes_behind_it() {
    let sip =
        json!({ "host": "sip.example.com", "port": 5060, "transport": "tls", "srtp": "required" });
    let site = Site::new();
    patch(
        site.fake(),
        "pbxes/main",
        &json!({ "sip": sip, "realm": "acme.example" }),
    );
    let site = site.pushed();
    site.fetches("ACC.cfg");
    let shown = site.status();
    let expected = [
        "never_registered",
        "port_of_other_transport",
        "nobody_registered",
        "srtp_required",
    ];
    assert_eq!(codes(&shown), expected, "{shown:#}");
    says(
        &has(&shown, "never_registered"),
        "1001 to sip.example.com port 5060 by tls",
    );
    says(&has(&shown, "port_of_other_transport"), "tls on port 5060");
    says(&has(&shown, "nobody_registered"), "acme.example");
    // Somebody else does: so it is not the realm, nor the host.
    site.asterisk.registers("1002");
    site.minutes(1);
    assert!(!codes(&site.status()).contains(&"nobody_registered"));
    let udp = json!({ "port": 5061, "transport": "udp" });
    patch(site.fake(), "pbxes/main", &json!({ "sip": udp }));
    says(&site.has("port_of_other_transport"), "udp on port 5061");
}

#[test]
fn a_phone_with_the_former_password_is_told_from_one_that_is_off() {
    let site = Site::new().pushed();
    site.fetches("ACC.cfg");
    site.asterisk.registers("1001");
    site.minutes(1);
    patch(
        site.fake(),
        "accounts/acme-1001",
        &json!({ "password": "a-new-password" }),
    );
    let shown = site.account();
    let former = shown["former_passwords"].as_array().unwrap();
    assert_eq!((former.len(), &former[0]["since"]), (1, &now(&site)));
    assert_eq!(codes(&site.status()), ["old_files"]);
    site.asterisk.unregisters("1001");
    site.minutes(2);
    let shown = site.status();
    assert_eq!(codes(&shown), ["offline", "old_password", "old_files"]);
    says(
        &has(&shown, "old_password"),
        former[0]["until"].as_str().unwrap(),
    );
    let there = shown["version"].as_u64().unwrap();
    says(
        &has(&shown, "old_files"),
        &format!("of its files, and there is {there}"),
    );
    says(&has(&shown, "old_files"), "every 1440 minutes");
    site.fetches("ACC.cfg");
    assert_eq!(codes(&site.status()), ["offline"]);
}

#[test]
fn a_change_of_a_profile_waits_for_the_phone() {
    let site = Site::new().pushed();
    site.fetches("ACC.cfg");
    site.asterisk.registers("1001");
    site.minutes(1);
    assert_eq!(codes(&site.status()), Vec::<&str>::new());
    let settings = json!({ "settings": { "resync_minutes": 30, "timezone": "Europe/Paris" } });
    patch(site.fake(), "profiles/office", &settings);
    says(&site.has("change_waiting"), "It asks every 30 minutes");
    // What is there for it by then is in KV too.
    site.fake().clock.pass_s(120);
    site.fetches("ACC.cfg");
    assert_eq!(codes(&site.status()), Vec::<&str>::new());
}

#[test]
fn a_phone_without_a_line_or_with_one_that_is_gone_says_so() {
    let site = Site::of(&json!({}), &json!({ "lines": [] }));
    assert!(codes(&site.status()).contains(&"no_lines"));
    let lines = json!([{ "line": 1, "account": "acme-1001" }]);
    patch(
        site.fake(),
        &format!("devices/{MAC}"),
        &json!({ "lines": lines }),
    );
    let gone = store::update::<Account, Fake>(site.fake(), "acme-1001", |stored| {
        stored.gone = Some(dialtone::time::Timestamp(1));
        true
    });
    block_on(gone).unwrap();
    says(&site.has("account_gone"), "There is no account acme-1001");
}

#[test]
fn an_account_that_another_phone_has_is_registered_elsewhere_or_shared() {
    let site = Site::new().pushed();
    site.asterisk.registers("1001");
    site.minutes(1);
    // Nobody gave this phone anything, and its account is registered.
    says(
        &site.has("registered_elsewhere"),
        "another phone or program",
    );
    site.fetches("ACC.cfg");
    assert_eq!(codes(&site.status()), Vec::<&str>::new());
    let lines = json!([{ "line": 1, "account": "acme-1001" }]);
    patch(
        site.fake(),
        &format!("devices/{SOFT}"),
        &json!({ "lines": lines }),
    );
    let shared = has(&site.status(), "shared_account");
    says(&shared, "1001 is on 2 devices");
    assert_eq!(codes(&site.account()), ["shared_account"]);
    let devices = site.account()["devices"].clone();
    assert_eq!(devices, json!([SOFT, MAC]));
}

#[test]
fn a_phone_that_comes_and_goes_flaps_for_an_hour() {
    let site = Site::new().pushed();
    site.fetches("ACC.cfg");
    for n in 0..=FLAPPING_ABOVE {
        assert!(!codes(&site.status()).contains(&"flapping"), "{n}");
        if n % 2 == 0 {
            site.asterisk.registers("1001");
        } else {
            site.asterisk.unregisters("1001");
        }
        site.minutes(1);
    }
    says(&site.has("flapping"), "came and went 5 times");
    assert_eq!(codes(&site.account()), ["flapping"]);
    site.minutes(60);
    assert_eq!(codes(&site.status()), Vec::<&str>::new());
}

#[test]
fn most_phones_going_at_once_is_doubted_before_it_is_believed() {
    let site = crowd(12);
    for n in 0..12 {
        site.asterisk.unregisters(&format!("2{n:03}"));
    }
    site.minutes(1);
    let account = json_of(&call(
        site.fake(),
        Method::GET,
        "accounts/acme-2000/status",
        &Value::Null,
    ));
    let found = has(&account, "pbx_doubtful");
    says(&found, "lost 12 of 12 phones at once");
    assert_eq!(found["since"], now(&site));
    assert_eq!(account["status"], "online");
    let tripped = site.audit("breaker.tripped");
    assert_eq!(
        (tripped.len(), &tripped[0]["detail"]["what"]),
        (1, &json!("offline"))
    );
    site.minutes(4);
    let account = json_of(&call(
        site.fake(),
        Method::GET,
        "accounts/acme-2000/status",
        &Value::Null,
    ));
    assert_eq!(
        (&account["status"], codes(&account)),
        (&json!("offline"), vec!["offline"])
    );
    assert_eq!(site.audit("breaker.tripped").len(), 1);
}

// Accounts.

#[test]
fn an_accounts_status_says_what_is_at_the_pbx_until_it_is_gone_there() {
    let site = Site::new().pushed();
    let shown = site.account();
    assert_eq!(
        (&shown["status"], &shown["ever_online"]),
        (&json!("offline"), &json!(false))
    );
    assert_eq!(
        (&shown["pbx"], &shown["username"], &shown["mode"]),
        (&json!("main"), &json!("1001"), &json!("push"))
    );
    assert_eq!(shown["devices"], json!([MAC]));
    let pushed = shown["pushed"].clone();
    assert_eq!(
        (&pushed["current"], &pushed["since"]),
        (&json!(true), &pushed["verified_at"])
    );
    site.asterisk.registers("1001");
    site.minutes(1);
    let online = site.account();
    assert_eq!(
        (&online["status"], &online["since"]),
        (&json!("online"), &now(&site))
    );
    assert_eq!(
        (&online["timeline"]["registered"], codes(&online)),
        (&now(&site), vec![])
    );
    // Changed, and there as before until the next run; it never was away.
    patch(
        site.fake(),
        "accounts/acme-1001",
        &json!({ "display_name": "Bo" }),
    );
    assert_eq!(site.account()["pushed"]["current"], false);
    site.minutes(2);
    assert_eq!(site.account()["pushed"]["current"], true);
    assert_eq!(site.account()["pushed"]["since"], pushed["since"]);
    assert_ne!(
        site.account()["pushed"]["verified_at"],
        pushed["verified_at"]
    );

    patch(
        site.fake(),
        &format!("devices/{MAC}"),
        &json!({ "lines": [] }),
    );
    delete(site.fake(), "accounts/acme-1001");
    let deleted = site.account();
    assert_eq!(
        (&deleted["status"], &deleted["tombstones"]),
        (&json!("deleted"), &json!(["1001"]))
    );
    // Ten minutes of grace, and one run in which it is seen to be gone.
    site.minutes(13);
    let path = "accounts/acme-1001/status";
    let answer = call(site.fake(), Method::GET, path, &Value::Null);
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(site.asterisk.count("1001"), 0);
}

// What it costs.

/// The operations of R2 and KV since this was last asked: class A (puts and lists of R2), and writes of
/// KV.
fn writes(site: &Site) -> (u32, u32) {
    let (r2, kv) = (site.fake().r2.take_count(), site.fake().kv.take_count());
    (r2.puts + r2.lists, kv.puts)
}

#[test]
fn a_phones_day_costs_writes_for_what_is_new_alone() {
    let site = Site::new().pushed();
    let ask = |names: &[&str]| {
        for name in names {
            text(&fetch(site.fake(), &site.office.file(name)));
        }
    };
    text(&fetch(site.fake(), &question(MAC, SERIAL)));
    ask(&["boot.cfg", "ACC.cfg", "BTN.cfg"]);
    site.asterisk.registers("1001");
    site.minutes(2);
    writes(&site);
    // A day of restarts and polls: nothing is new.
    for _ in 0..24 {
        site.fake().clock.pass_s(3_600);
        text(&fetch(site.fake(), &question(MAC, SERIAL)));
        ask(&["boot.cfg", "ACC.cfg", "BTN.cfg"]);
    }
    assert_eq!(writes(&site), (0, 0));
    // A change of its account: the new version is noted once for each of the files that say how far it is.
    patch(
        site.fake(),
        "accounts/acme-1001",
        &json!({ "display_name": "Bo" }),
    );
    site.fake().clock.pass_s(60);
    writes(&site);
    ask(&["boot.cfg", "ACC.cfg", "BTN.cfg"]);
    // Twice the device and the event of the audit.
    assert_eq!(writes(&site), (4, 0));
    ask(&["boot.cfg", "ACC.cfg", "BTN.cfg"]);
    assert_eq!(writes(&site), (0, 0));
}

#[test]
fn a_run_in_which_nobody_comes_or_goes_writes_nothing_of_any_phone() {
    let site = crowd(30);
    site.minutes(20);
    let keys = |site: &Site| {
        let mut keys = site.fake().r2.keys("");
        keys.retain(|key| !key.starts_with("lease"));
        keys
    };
    let quiet = |site: &Site| {
        // In `observe` mode nothing is verified by reading either.
        patch(site.fake(), "pbxes/main", &json!({ "mode": "observe" }));
        site.minutes(3);
        let before = (keys(site), state(site));
        writes(site);
        site.minutes(10);
        assert_eq!((keys(site), state(site)), before);
        writes(site)
    };
    let (r2, kv) = quiet(&site);
    // The same for a PBX with three phones: what a run costs does not hang on how many there are.
    let few = crowd(3);
    few.minutes(20);
    assert_eq!(quiet(&few), (r2, kv));
    assert_eq!(kv, 0);
    // One phone goes: what is remembered of its PBX, the entry, the listing, page and head that chain it; and
    // for the webhook that wants it a mark and a listing.
    site.asterisk.unregisters("2000");
    site.minutes(1);
    let (gone, _) = writes(&site);
    assert_eq!(gone - r2 / 10, 7);
}

#[test]
fn a_status_reads_what_it_says_and_nothing_else() {
    let site = Site::new().pushed();
    refused(&fetch(site.fake(), &question(MAC, "123")));
    site.fake().r2.take_count();
    site.fake().kv.take_count();
    site.status();
    let count = site.fake().r2.take_count();
    // The device, its tenant, profile, account, PBX, what is remembered of that and of its contacts, the last
    // run and refusal; whether the phone is to be told, and was.
    assert_eq!((count.gets, count.all()), (11, 11));
    site.account();
    let count = site.fake().r2.take_count();
    assert_eq!((count.gets, count.all()), (4, 4));
    assert_eq!(site.fake().kv.take_count().all(), 0);
}

fn state(site: &Site) -> Vec<Value> {
    site.fake().objects("pbx-state/")
}

// Events.

/// A site with this many more accounts, each on a phone of its own, all registered, and a webhook that
/// wants to hear of it.
fn crowd(count: u32) -> Site {
    let site = Site::new();
    let topics = ["registered", "offline", "breaker"];
    let webhook = json!({ "url": format!("https://{HOOK}/"), "secret": "s", "events": topics });
    patch(site.fake(), "tenants/acme", &json!({ "webhook": webhook }));
    for n in 0..count {
        let account = json!({ "tenant": "acme", "pbx": "main", "username": format!("2{n:03}") });
        put(site.fake(), &format!("accounts/acme-2{n:03}"), &account);
        let lines = json!([{ "line": 1, "account": format!("acme-2{n:03}") }]);
        let device =
            json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "lines": lines });
        put(site.fake(), &format!("devices/{}", mac(n)), &device);
        site.asterisk.registers(&format!("2{n:03}"));
    }
    let site = site.pushed();
    site.minutes(5);
    site
}

fn mac(n: u32) -> String {
    format!("805ec0{:06x}", 0x10_0000 + n)
}

#[test]
fn a_phone_that_comes_or_goes_is_an_event_for_the_audit_and_the_webhook() {
    let site = crowd(2);
    // The first look at the PBX told of both.
    let came = site.audit("device.registered");
    assert_eq!(came.len(), 2);
    assert_eq!(came[0]["actor"], "dialtone");
    site.inbox.borrow_mut().clear();
    site.minutes(10);
    site.asterisk.unregisters("2001");
    site.minutes(2);
    let sent = site.inbox.borrow().clone();
    let [event] = sent.as_slice() else {
        panic!("{sent:#?}");
    };
    assert_eq!(event["action"], "device.offline");
    assert_eq!(event["resource"], format!("devices/{}", mac(1)));
    let detail = json!({ "account": "acme-2001", "pbx": "main", "transitions": "1" });
    assert_eq!(event["detail"], detail);
    assert!(event["seq"].is_u64(), "{event}");
    assert_eq!(event.get("alarm"), None);
    assert_eq!(site.audit("device.offline")[0]["detail"], detail);
    // Nothing happens, and nothing is told.
    site.minutes(30);
    assert_eq!(site.inbox.borrow().len(), 1);
}

#[test]
fn a_shared_account_and_a_phone_with_another_line_are_told_of_by_the_account() {
    let site = crowd(3);
    let fake = site.fake();
    site.minutes(15);
    let lines = |accounts: &[&str]| -> Value {
        let lines = (1..).zip(accounts);
        lines
            .map(|(line, id)| json!({ "line": line, "account": id }))
            .collect()
    };
    // The first and the second phone share an account; the third has two lines.
    patch(
        fake,
        &format!("devices/{}", mac(1)),
        &json!({ "lines": lines(&["acme-2000"]) }),
    );
    patch(
        fake,
        &format!("devices/{}", mac(2)),
        &json!({ "lines": lines(&["acme-2001", "acme-2002"]) }),
    );
    site.minutes(2);
    for name in ["2000", "2001"] {
        site.asterisk.unregisters(name);
    }
    site.minutes(2);
    let told = site.audit("account.offline");
    let mut accounts: Vec<&str> = told
        .iter()
        .map(|event| event["resource"].as_str().unwrap())
        .collect();
    accounts.sort_unstable();
    assert_eq!(accounts, ["accounts/acme-2000", "accounts/acme-2001"]);
    assert_eq!(site.audit("device.offline"), Vec::<Value>::new());
    assert_eq!(status(fake, &mac(2))["status"], "registered");
    // Its last line goes: now it is the phone.
    site.asterisk.unregisters("2002");
    site.minutes(2);
    assert_eq!(
        site.audit("device.offline")[0]["resource"],
        format!("devices/{}", mac(2))
    );
    assert_eq!(status(fake, &mac(2))["status"], "offline");
    // Both lines come in one run: that is one phone and one event.
    site.minutes(15);
    for name in ["2001", "2002"] {
        site.asterisk.registers(name);
    }
    site.minutes(2);
    let came = &site.audit("device.registered")[0];
    assert_eq!(came["resource"], format!("devices/{}", mac(2)));
    assert_eq!(came["detail"]["account"], "acme-2001, acme-2002");
}

#[test]
fn a_pbx_that_restarts_is_one_event_each_way() {
    let count = u32::try_from(MOST_ALONE).unwrap() + 10;
    let site = crowd(count);
    let together = site.audit("pbx.registered");
    assert_eq!(together.len(), 1, "the first look");
    assert_eq!(together[0]["resource"], "pbxes/main");
    assert_eq!(together[0]["detail"]["accounts"], count.to_string());
    assert_eq!(site.audit("device.registered"), Vec::<Value>::new());
    site.minutes(15);
    site.inbox.borrow_mut().clear();
    for n in 0..count {
        site.asterisk.unregisters(&format!("2{n:03}"));
    }
    site.minutes(6);
    for n in 0..count {
        site.asterisk.registers(&format!("2{n:03}"));
    }
    site.minutes(20);
    let sent = site.inbox.borrow();
    let actions: Vec<&str> = sent
        .iter()
        .map(|event| event["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        ["breaker.tripped", "pbx.offline", "pbx.registered"]
    );
    let first = sent[1]["detail"]["first"].as_str().unwrap();
    assert!(first.starts_with("2000, 2001, "), "{first}");
}

#[test]
fn a_phone_that_flaps_is_told_of_every_ten_minutes_and_no_change_is_lost() {
    let site = crowd(1);
    site.minutes(15);
    let before = site.audit("device.registered").len() + site.audit("device.offline").len();
    let mut changes = 0;
    for n in 0..60 {
        if n % 2 == 0 {
            site.asterisk.unregisters("2000");
        } else {
            site.asterisk.registers("2000");
        }
        changes += 1;
        site.minutes(1);
    }
    site.minutes(u32::try_from(TOLD_EVERY_S / 60).unwrap());
    let mut told = site.audit("device.registered");
    told.extend(site.audit("device.offline"));
    // One of before is among them.
    assert!(told.len() - before <= 7, "{}", told.len());
    let of = |event: &Value| -> u32 {
        event["detail"]["transitions"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert_eq!(told.iter().map(of).sum::<u32>(), changes + 1);
}

#[test]
fn a_webhook_gets_what_its_tenant_wants_and_nothing_else() {
    let site = Site::of(&json!({ "proofs": ["window"] }), &json!({}));
    let fake = site.fake();
    let contest = || {
        act(fake, MAC, "arm");
        let ask = |from: &str| get(&format!("/rps?mac={MAC}")).from(from);
        text(&fetch(fake, &ask("198.51.100.1")));
        refused(&fetch(fake, &ask("198.51.100.2")));
        refused(&fetch(fake, &question(SOFT, "wrong")));
        site.minutes(2);
        let sent = site.inbox.take();
        let actions = sent
            .iter()
            .map(|event| event["action"].as_str().unwrap().to_owned());
        actions.collect::<Vec<_>>()
    };
    let wants = |events: Value| {
        let webhook = json!({ "url": format!("https://{HOOK}/"), "events": events });
        patch(fake, "tenants/acme", &json!({ "webhook": webhook }));
    };
    patch(
        fake,
        "tenants/acme",
        &json!({ "webhook": { "url": format!("https://{HOOK}/") } }),
    );
    // The alarms are what it gets without a word.
    assert_eq!(contest(), ["claim.contested"]);
    wants(json!(["refused"]));
    assert_eq!(contest(), ["phone.refused"]);
    wants(json!(["refused", "contested"]));
    let mut both = contest();
    both.sort();
    assert_eq!(both, ["claim.contested", "phone.refused"]);
    wants(json!(["registered"]));
    assert_eq!(contest(), Vec::<String>::new());
    wants(json!([]));
    assert_eq!(contest(), Vec::<String>::new());

    let path = "tenants/acme";
    let body = json!({ "webhook": { "url": format!("https://{HOOK}/"), "events": ["calls"] } });
    let answer = call(fake, Method::PATCH, path, &body);
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(
        problem["errors"][0]["pointer"], "/webhook/events/0",
        "{problem}"
    );
    let shown = json_of(&call(fake, Method::GET, path, &Value::Null));
    assert_eq!(shown["webhook"]["events"], json!([]));
}

#[test]
fn an_event_that_cannot_be_written_down_as_it_is_comes_later_or_twice_and_never_not() {
    let site = crowd(1);
    site.minutes(15);
    // What is remembered of the PBX is not kept: the next run sees the change again.
    site.asterisk.unregisters("2000");
    *site.fake().r2.failing.borrow_mut() = Failing::Prefix("pbx-state/".to_owned());
    site.minutes(1);
    *site.fake().r2.failing.borrow_mut() = Failing::None;
    site.minutes(2);
    assert!(!site.audit("device.offline").is_empty());
    // The account cannot be read: it is told of by the run that can.
    site.minutes(15);
    site.asterisk.registers("2000");
    let told = site.audit("device.registered").len();
    *site.fake().r2.failing.borrow_mut() = Failing::Prefix("account/acme-2000".to_owned());
    site.minutes(1);
    assert_eq!(site.audit("device.registered").len(), told);
    *site.fake().r2.failing.borrow_mut() = Failing::None;
    site.minutes(1);
    assert_eq!(site.audit("device.registered").len(), told + 1);
}

#[test]
fn no_status_and_no_event_holds_a_secret() {
    let site = crowd(1);
    site.fetches("ACC.cfg");
    patch(
        site.fake(),
        "accounts/acme-1001",
        &json!({ "password": "a-new-password" }),
    );
    act(site.fake(), MAC, "rotate");
    refused(&fetch(site.fake(), &question(MAC, "123")));
    site.minutes(2);
    let token = follow(&site.office.base).path;
    let shown = [site.status(), site.account()]
        .map(|shown| shown.to_string())
        .concat();
    let sent = format!("{:?}{}", site.inbox.borrow(), site.fake().logged());
    for secret in [
        "a-new-password",
        crate::phone::PASSWORD,
        "ari-password-in-clear",
        token.trim_matches('/'),
    ] {
        assert!(
            !shown.contains(secret) && !sent.contains(secret),
            "{secret}"
        );
    }
}
