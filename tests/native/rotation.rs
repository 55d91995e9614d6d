//! A changed password leaves no gap: what the PBX takes meanwhile, in which order it learns of it,
//! when the former one ends, and what happens if anything is cut off.

use std::collections::BTreeMap;
use std::rc::Rc;

use dialtone::ports::{Objects, Only, World};
use dialtone::reconcile::breaker;
use dialtone::rotation::{GRACE_S, TAKEN_UP_AFTER_S};
use dialtone::step7_register::ha1;
use dialtone::tick::PbxSummary;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::ask::{Told, call, delete, fetch, follow, get, header, json_of, patch, put, text};
use crate::asterisk::Mood;
use crate::reconcile::{PASSWORD, Scene, account, username};
use crate::world::{ADMIN_TOKEN, Failing, block_on};

/// The devices of the account.
const MACS: [&str; 2] = ["805ec0000001", "805ec0000002"];
const NEW: &str = "Phone-Secret-2";
const NEWER: &str = "Phone-Secret-3";
const OBJECT: &str = "/asterisk/config/dynamic/res_pjsip";

/// An account on some phones, at the PBX and registered.
struct Desk {
    scene: Scene,
    /// Where each phone's files are.
    bases: BTreeMap<&'static str, String>,
}

impl Desk {
    fn new(phones: usize) -> Self {
        let scene = Scene::with_accounts(&["1001"]);
        let mut bases = BTreeMap::new();
        for mac in MACS.into_iter().take(phones) {
            let made = put(&scene.fake, &format!("devices/{mac}"), &device(true));
            let base = made["provisioning_url"].as_str().unwrap().to_owned();
            bases.insert(mac, base);
        }
        let desk = Self { scene, bases };
        for mac in MACS.into_iter().take(phones) {
            desk.fetches(mac);
        }
        desk.scene.main();
        desk.scene.asterisk.registers("1001");
        desk.scene.main();
        desk.scene.asterisk.take_calls();
        desk
    }

    /// A phone fetches its accounts.
    fn fetches(&self, mac: &str) -> String {
        let answer = fetch(
            &self.scene.fake,
            &follow(&format!("{}ACC.cfg", self.bases[mac])),
        );
        text(&answer)
    }

    fn change(&self, password: &str) {
        let patched = json!({ "password": password });
        patch(&self.scene.fake, "accounts/acme-1001", &patched);
    }

    fn rotate(&self, body: &Value) -> Response<Vec<u8>> {
        let path = "accounts/acme-1001/rotate";
        call(&self.scene.fake, Method::POST, path, body)
    }

    /// Whether a phone with this password may register.
    fn takes(&self, password: &str) -> bool {
        let cred = ha1("1001", "acme.example", password);
        self.scene.asterisk.lets_in("1001", "1001", &cred)
    }

    /// What of these passwords may register.
    fn taken<'a>(&self, passwords: &[&'a str]) -> Vec<&'a str> {
        let passwords = passwords.iter().copied();
        passwords.filter(|password| self.takes(password)).collect()
    }

    /// From now on this password must work after each single call.
    fn without_a_gap(&self, password: &str) {
        let cred = ha1("1001", "acme.example", password);
        self.scene.asterisk.always_lets_in("1001", "1001", &cred);
    }

    fn slots(&self) -> Vec<String> {
        let former = self.scene.asterisk.former("1001").into_iter();
        former.map(|(name, _)| name).collect()
    }

    /// What the record in R2 keeps beside the password, by name.
    fn kept(&self) -> Vec<String> {
        let sealed = self.record()["sealed"].as_object().unwrap().clone();
        sealed.into_iter().map(|(name, _)| name).collect()
    }

    fn record(&self) -> Value {
        let object = block_on(self.scene.fake.r2.get("account/acme-1001"));
        serde_json::from_slice(&object.unwrap().unwrap().body).unwrap()
    }

    fn pass(&self, seconds: u64) -> PbxSummary {
        self.scene.fake.clock.pass_s(seconds);
        self.scene.main()
    }

    /// Nothing that was kept, logged or answered shows a password, or its hash.
    fn keeps_secrets(&self, passwords: &[&str]) {
        self.scene.keeps_secrets();
        let fake = &self.scene.fake;
        let kept = [fake.dump(), fake.logged().into_bytes()].concat();
        let kept = String::from_utf8_lossy(&kept);
        for password in passwords {
            let cred = ha1("1001", "acme.example", password);
            assert!(!kept.contains(password) && !kept.contains(&cred), "{kept}");
        }
    }
}

fn device(line: bool) -> Value {
    let line = line.then(|| json!({ "line": 1, "account": "acme-1001" }));
    let lines: Vec<Value> = line.into_iter().collect();
    json!({ "tenant": "acme", "vendor": "yealink", "model": "T46U", "lines": lines })
}

#[test]
fn both_passwords_work_and_each_call_leaves_one_that_does() {
    let desk = Desk::new(1);
    desk.without_a_gap(PASSWORD);
    desk.change(NEW);
    let summary = desk.scene.main();
    assert_eq!(
        (summary.actions.mend, summary.report.rotating),
        (1, 1),
        "{summary:?}"
    );
    assert_eq!(desk.taken(&[PASSWORD, NEW, NEWER]), [PASSWORD, NEW]);
    assert_eq!(
        desk.scene.asterisk.take_changes(),
        [
            // What the endpoint is to name comes first; it names it before its own auth changes.
            format!("PUT {OBJECT}/auth/1001%40former-1"),
            format!("PUT {OBJECT}/endpoint/1001"),
            format!("PUT {OBJECT}/auth/1001"),
            format!("PUT {OBJECT}/aor/1001"),
            format!("PUT {OBJECT}/endpoint/1001"),
        ]
    );
    let field = |name| desk.scene.asterisk.field("auth", "1001@former-1", name);
    assert_eq!(field("@dialtone").as_deref(), Some("acme-1001"));
    assert_eq!(field("username").as_deref(), Some("1001"));
    assert_eq!(
        desk.scene.asterisk.field("endpoint", "1001", "auth"),
        Some("1001,1001@former-1".to_owned())
    );
    // The phone's file holds the new one only.
    let file = desk.fetches(MACS[0]);
    assert!(file.contains(NEW) && !file.contains(PASSWORD), "{file}");
    // And then there is rest.
    assert_eq!(desk.scene.main().actions.mend, 0);
    assert_eq!(desk.scene.asterisk.take_changes(), Vec::<String>::new());
    desk.keeps_secrets(&[PASSWORD, NEW]);
}

#[test]
fn it_ends_when_every_phone_has_fetched_the_new_one_and_registered() {
    let desk = Desk::new(2);
    desk.change(NEW);
    desk.scene.main();
    desk.without_a_gap(NEW);
    desk.fetches(MACS[0]);
    // The other one has not come yet, however long the first one is registered.
    desk.pass(3 * TAKEN_UP_AFTER_S);
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [PASSWORD, NEW]);
    let file = desk.fetches(MACS[1]);
    let version = |mac| {
        let path = format!("devices/{mac}/files");
        json_of(&call(&desk.scene.fake, Method::GET, &path, &Value::Null))
    };
    let before = version(MACS[0]);
    // It has, and has not had the time to register with it.
    desk.pass(TAKEN_UP_AFTER_S - 120);
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [PASSWORD, NEW]);
    desk.scene.asterisk.take_calls();
    desk.pass(60);
    desk.scene.main();
    let summary = desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [NEW]);
    assert_eq!(
        (desk.slots(), summary.report.rotating),
        (Vec::<String>::new(), 0)
    );
    assert_eq!(
        desk.scene.asterisk.take_changes(),
        [
            format!("PUT {OBJECT}/auth/1001"),
            format!("PUT {OBJECT}/aor/1001"),
            format!("PUT {OBJECT}/endpoint/1001"),
            // Named no more, it may go.
            format!("DELETE {OBJECT}/auth/1001%40former-1"),
        ]
    );
    assert_eq!(desk.kept(), ["password"]);
    // Nothing changed for the phones: the same bytes under the same version.
    assert_eq!(desk.fetches(MACS[1]), file);
    assert_eq!(version(MACS[0])["version"], before["version"]);
    assert_eq!(version(MACS[0])["items"], before["items"]);
    let audited = desk.scene.fake.logged();
    assert!(audited.contains("password.ended"), "{audited}");
}

#[test]
fn a_phone_that_is_not_registered_does_not_have_it_yet() {
    let desk = Desk::new(1);
    desk.change(NEW);
    desk.scene.main();
    desk.fetches(MACS[0]);
    desk.scene.asterisk.unregisters("1001");
    desk.pass(3 * TAKEN_UP_AFTER_S);
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [PASSWORD, NEW]);
    desk.scene.asterisk.registers("1001");
    desk.scene.main();
    assert_eq!(desk.kept(), ["password"]);

    // It was when the PBX last answered, and nobody knows whether it still is.
    let desk = Desk::new(1);
    desk.change(NEW);
    desk.scene.main();
    desk.fetches(MACS[0]);
    desk.scene.asterisk.is(Mood::Frozen);
    desk.pass(TAKEN_UP_AFTER_S);
    assert_eq!(desk.kept(), ["former_password_1", "password"]);
    desk.scene.asterisk.is(Mood::Up);
    desk.scene.main();
    assert_eq!(desk.kept(), ["password"]);
}

/// One record that is broken holds up none but itself.
#[test]
fn an_end_that_fails_holds_up_no_other() {
    let desk = Desk::new(1);
    let fake = &desk.scene.fake;
    put(fake, "accounts/acme-0999", &account("0999"));
    let mut other = device(false);
    other["lines"] = json!([{ "line": 1, "account": "acme-0999" }]);
    put(fake, &format!("devices/{}", MACS[1]), &other);
    for account in ["0999", "1001"] {
        let path = format!("accounts/acme-{account}/rotate");
        assert!(
            call(fake, Method::POST, &path, &json!({}))
                .status()
                .is_success()
        );
    }
    desk.scene.main();
    let broken = Failing::Prefix("account/acme-0999".to_owned());
    *fake.r2.failing.borrow_mut() = broken;
    desk.pass(GRACE_S);
    assert_eq!(desk.kept(), ["password"]);
    assert!(fake.logged().contains("password.kept"));
    *fake.r2.failing.borrow_mut() = Failing::None;
    desk.scene.main();
    desk.scene.main();
    assert_eq!(desk.scene.main().report.rotating, 0);
}

#[test]
fn a_pbx_that_does_not_have_the_new_one_is_no_proof() {
    let desk = Desk::new(1);
    desk.scene.asterisk.refuses("1001");
    desk.change(NEW);
    desk.fetches(MACS[0]);
    for _ in 0..4 {
        desk.pass(TAKEN_UP_AFTER_S);
    }
    assert_eq!(desk.kept(), ["former_password_1", "password"]);
    assert!(desk.takes(PASSWORD));
}

#[test]
fn the_grace_ends_it_in_any_case() {
    let desk = Desk::new(1);
    desk.change(NEW);
    desk.pass(GRACE_S - 120);
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [PASSWORD, NEW]);
    desk.scene.main();
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [NEW]);
    assert_eq!(desk.kept(), ["password"]);

    // Also while the PBX is away: it learns of it when it is back.
    desk.change(NEWER);
    desk.scene.main();
    desk.scene.asterisk.is(Mood::Down);
    desk.pass(GRACE_S);
    assert_eq!(desk.kept(), ["password"]);
    desk.scene.asterisk.is(Mood::Up);
    for _ in 0..3 {
        desk.scene.main();
    }
    assert_eq!(desk.taken(&[NEW, NEWER]), [NEWER]);
    assert_eq!(desk.slots(), Vec::<String>::new());
}

#[test]
fn changed_again_and_again_the_oldest_and_the_last_ones_work() {
    let passwords = [
        "p-zero-00",
        "p-one-111",
        "p-two-222",
        "p-three-3",
        "p-four-44",
    ];
    let desk = Desk::new(1);
    desk.without_a_gap(PASSWORD);
    for (n, password) in passwords.into_iter().enumerate() {
        desk.change(password);
        // The PBX sees some of the changes, and two at once.
        if n != 2 {
            desk.scene.main();
        }
    }
    let all = [&[PASSWORD], passwords.as_slice()].concat();
    assert_eq!(
        desk.taken(&all),
        [PASSWORD, "p-two-222", "p-three-3", "p-four-44"]
    );
    assert_eq!(
        desk.slots(),
        ["1001@former-1", "1001@former-2", "1001@former-3"]
    );
    // A slot is used again only once what was in it is over; all end together in the end.
    desk.without_a_gap("p-four-44");
    desk.fetches(MACS[0]);
    desk.pass(TAKEN_UP_AFTER_S);
    desk.scene.main();
    assert_eq!(desk.taken(&all), ["p-four-44"]);
    assert_eq!(
        (desk.slots(), desk.kept()),
        (vec![], vec!["password".to_owned()])
    );
    desk.keeps_secrets(&all);
}

#[test]
fn each_former_password_has_its_own_grace() {
    let desk = Desk::new(1);
    desk.change(NEW);
    desk.pass(GRACE_S / 2);
    desk.change(NEWER);
    desk.pass(GRACE_S / 2);
    desk.scene.main();
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW, NEWER]), [NEW, NEWER]);
    assert_eq!(desk.slots(), ["1001@former-2"]);
}

#[test]
fn a_password_that_is_changed_back_is_kept_once() {
    let desk = Desk::new(1);
    for _ in 0..3 {
        desk.change(NEW);
        desk.change(PASSWORD);
    }
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [PASSWORD, NEW]);
    assert_eq!(desk.slots().len(), 1);
    assert_eq!(desk.kept().len(), 2);
    // The same again is no change.
    let before = desk.record();
    desk.change(PASSWORD);
    assert_eq!(desk.record(), before);
    // Nor is another change of the account.
    patch(
        &desk.scene.fake,
        "accounts/acme-1001",
        &json!({ "display_name": "Berta" }),
    );
    let after = desk.record();
    assert_eq!(
        (&after["sealed"], &after["state"]),
        (&before["sealed"], &before["state"])
    );
}

#[test]
fn the_user_of_the_digest_may_change_with_it() {
    let desk = Desk::new(1);
    desk.without_a_gap(PASSWORD);
    let both = json!({ "password": NEW, "auth_username": "login-1001" });
    patch(&desk.scene.fake, "accounts/acme-1001", &both);
    desk.scene.main();
    let cred = ha1("login-1001", "acme.example", NEW);
    assert!(desk.scene.asterisk.lets_in("1001", "login-1001", &cred));
    // The user alone, too.
    let user = json!({ "auth_username": "other-1001" });
    patch(&desk.scene.fake, "accounts/acme-1001", &user);
    desk.scene.main();
    assert!(desk.scene.asterisk.lets_in("1001", "login-1001", &cred));
    let cred = ha1("other-1001", "acme.example", NEW);
    assert!(desk.scene.asterisk.lets_in("1001", "other-1001", &cred));
}

/// Lets the PBX fail after each number of calls, in the run of a change and in that of its end.
#[test]
fn whatever_is_cut_off_the_right_passwords_work() {
    let down = |desk: &Desk, calls| {
        desk.scene.asterisk.will_be(Mood::Down, calls);
        desk.scene.main();
        let cut_off = desk.scene.asterisk.take_calls().len() > calls;
        desk.scene.asterisk.is(Mood::Up);
        // Longer than any account has to wait after one failure.
        for _ in 0..3 {
            desk.scene.main();
        }
        cut_off
    };
    let mut cuts = [0, 0];
    for calls in 0..16 {
        let desk = Desk::new(1);
        desk.without_a_gap(PASSWORD);
        desk.change(NEW);
        cuts[0] += u32::from(down(&desk, calls));
        assert_eq!(desk.taken(&[PASSWORD, NEW]), [PASSWORD, NEW], "{calls}");

        desk.without_a_gap(NEW);
        desk.fetches(MACS[0]);
        desk.pass(TAKEN_UP_AFTER_S);
        assert_eq!(desk.kept(), ["password"]);
        desk.scene.asterisk.take_calls();
        cuts[1] += u32::from(down(&desk, calls));
        assert_eq!(desk.taken(&[PASSWORD, NEW]), [NEW], "{calls}");
        assert_eq!(desk.slots(), Vec::<String>::new(), "{calls}");
        desk.keeps_secrets(&[PASSWORD, NEW]);
    }
    // The list, six looks, five changes and a look; the list, six looks, three changes, a look, a delete.
    assert_eq!(cuts, [13, 12]);
}

/// The Worker is killed after a run's calls and before it remembers them.
#[test]
fn what_a_run_did_not_remember_is_found_again() {
    let desk = Desk::new(1);
    let memory = "pbx-state/main";
    let r2 = &desk.scene.fake.r2;
    let before = block_on(r2.get(memory)).unwrap().unwrap().body;
    desk.without_a_gap(PASSWORD);
    desk.change(NEW);
    desk.scene.main();
    block_on(r2.put(memory, before, BTreeMap::new(), Only::Always)).unwrap();
    desk.scene.asterisk.take_calls();
    assert_eq!(desk.scene.main().actions.mend, 1);
    assert_eq!(desk.scene.asterisk.take_changes(), Vec::<String>::new());
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [PASSWORD, NEW]);
}

/// The end is about one password, and another one comes while it is being written down.
#[test]
fn a_change_in_between_has_a_time_of_its_own() {
    let desk = Desk::new(1);
    desk.change(NEW);
    desk.scene.main();
    desk.fetches(MACS[0]);
    let fake = Rc::clone(&desk.scene.fake);
    let newer = json!({ "password": NEWER });
    desk.scene
        .fake
        .r2
        .before_next_put("unfinished/account/", move || {
            patch(&fake, "accounts/acme-1001", &newer);
        });
    desk.pass(TAKEN_UP_AFTER_S);
    for _ in 0..3 {
        desk.scene.main();
    }
    assert_eq!(desk.taken(&[NEW, NEWER]), [NEW, NEWER]);
}

/// Which version a phone has is one thing, whether that has the new password another.
#[test]
fn a_phone_need_not_have_the_newest_files() {
    let desk = Desk::new(1);
    desk.change(NEW);
    desk.scene.main();
    desk.fetches(MACS[0]);
    let label = json!({ "display_name": "Berta" });
    patch(&desk.scene.fake, "accounts/acme-1001", &label);
    desk.pass(TAKEN_UP_AFTER_S);
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [NEW]);
}

#[test]
fn an_account_without_a_phone_keeps_none() {
    let desk = Desk::new(0);
    desk.change(NEW);
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [NEW]);
    assert_eq!(desk.kept(), ["password"]);

    // It loses its last phone while both work.
    let desk = Desk::new(1);
    desk.change(NEW);
    desk.scene.main();
    assert!(desk.takes(PASSWORD));
    let path = format!("devices/{}", MACS[0]);
    put(&desk.scene.fake, &path, &device(false));
    desk.scene.main();
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [NEW]);
    assert_eq!(desk.kept(), ["password"]);
}

#[test]
fn a_deleted_account_takes_its_former_passwords_along() {
    for calls in 0..14 {
        let desk = Desk::new(1);
        desk.change(NEW);
        desk.scene.main();
        desk.change(NEWER);
        desk.scene.main();
        assert_eq!(desk.slots().len(), 2);
        let path = format!("devices/{}", MACS[0]);
        put(&desk.scene.fake, &path, &device(false));
        delete(&desk.scene.fake, "accounts/acme-1001");
        desk.scene.fake.clock.pass_s(breaker::GRACE_S);
        let sealed = desk.record();
        assert_eq!(sealed.get("sealed"), None, "{sealed}");
        assert_eq!(sealed["state"].get("former_passwords"), None, "{sealed}");
        desk.scene.asterisk.will_be(Mood::Down, calls);
        desk.scene.main();
        desk.scene.asterisk.is(Mood::Up);
        for _ in 0..4 {
            desk.scene.main();
        }
        assert_eq!(desk.scene.asterisk.names(), Vec::<String>::new(), "{calls}");
        assert_eq!(desk.slots(), Vec::<String>::new(), "{calls}");
        assert_eq!(desk.scene.tombstones(), Vec::<String>::new(), "{calls}");
    }
}

#[test]
fn a_name_that_is_given_up_takes_them_along() {
    let desk = Desk::new(1);
    desk.change(NEW);
    desk.scene.main();
    assert_eq!(desk.slots(), ["1001@former-1"]);
    let renamed = json!({ "username": "1009", "password": NEWER });
    patch(&desk.scene.fake, "accounts/acme-1001", &renamed);
    assert_eq!(desk.kept(), ["password"]);
    // Another one takes the name before anybody looked.
    put(&desk.scene.fake, "accounts/acme-other", &account("1001"));
    for _ in 0..4 {
        desk.scene.main();
    }
    // Its own former name is somebody else's now, so there is nothing to wait for.
    assert_eq!(desk.scene.asterisk.names(), ["1001", "1009"]);
    assert_eq!(desk.slots(), Vec::<String>::new());
    assert_eq!(
        desk.scene.asterisk.field("endpoint", "1001", "auth"),
        Some("1001".to_owned())
    );
}

#[test]
fn what_is_somebody_elses_is_not_touched_under_these_names_either() {
    let desk = Desk::new(1);
    desk.scene.asterisk.has_foreign("1001@former-1", false);
    let theirs = desk.scene.asterisk.object("auth", "1001@former-1");
    desk.change(NEW);
    let summary = desk.scene.main();
    assert_eq!(summary.report.collisions.count, 1, "{summary:?}");
    assert_eq!(desk.scene.asterisk.take_changes(), Vec::<String>::new());
    assert!(desk.takes(PASSWORD), "the phone works on");
    // Where it is not needed it is nobody's business.
    assert_eq!(
        desk.rotate(&json!({ "now": true })).status(),
        StatusCode::OK
    );
    let summary = desk.scene.main();
    assert_eq!(summary.report.collisions.count, 0, "{summary:?}");
    assert_eq!(desk.scene.asterisk.object("auth", "1001@former-1"), theirs);
}

#[test]
fn an_asterisk_that_keeps_no_mark_on_an_auth_is_cleared_as_well() {
    let desk = Desk::new(1);
    desk.scene.asterisk.forgets_marks_of_auths();
    desk.without_a_gap(PASSWORD);
    desk.change(NEW);
    // Cut off after the former auth, which no endpoint names yet.
    desk.scene.asterisk.will_be(Mood::Down, 8);
    desk.scene.main();
    assert_eq!(desk.slots(), ["1001@former-1"]);
    desk.scene.asterisk.is(Mood::Up);
    desk.scene.main();
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [PASSWORD, NEW]);
    desk.without_a_gap(NEW);
    desk.rotate(&json!({ "now": true }));
    assert_eq!(desk.kept(), ["password"]);
}

#[test]
fn observe_changes_nothing_and_says_what_is_kept() {
    let desk = Desk::new(1);
    patch(
        &desk.scene.fake,
        "pbxes/main",
        &json!({ "mode": "observe" }),
    );
    desk.scene.main();
    desk.scene.asterisk.take_calls();
    desk.change(NEW);
    let summary = desk.scene.main();
    assert_eq!((summary.report.rotating, summary.report.due.mend), (1, 1));
    assert_eq!(desk.scene.asterisk.take_calls(), ["GET /endpoints"]);
}

#[test]
fn rotate_makes_a_password_that_nobody_sees() {
    let desk = Desk::new(1);
    let answer = desk.rotate(&json!({}));
    let shown: Value = json_of(&answer);
    assert_eq!(
        header(&answer, "etag"),
        format!("\"{}\"", shown["revision"])
    );
    assert_eq!(shown["revision"], 2);
    let until = desk.scene.fake.now().plus(GRACE_S);
    assert_eq!(shown["former_until"], until.to_string());
    let members: Vec<&String> = shown.as_object().unwrap().keys().collect();
    assert_eq!(members, ["former_until", "id", "revision"]);
    desk.scene.main();
    let file = desk.fetches(MACS[0]);
    let made = file
        .lines()
        .find_map(|line| line.strip_prefix("account.1.password = "))
        .unwrap_or_else(|| panic!("{file}"));
    assert_eq!(made.len(), 24);
    assert!(made.bytes().all(|b| b.is_ascii_alphanumeric()), "{made}");
    assert_eq!(desk.taken(&[PASSWORD, made]), [PASSWORD, made]);
    desk.keeps_secrets(&[PASSWORD, made]);
    let again = json_of(&desk.rotate(&json!({ "now": false })));
    assert_eq!(again["revision"], 3);
    assert!(!desk.fetches(MACS[0]).contains(made));
}

#[test]
fn a_stolen_password_ends_at_once() {
    let desk = Desk::new(1);
    desk.change(NEW);
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), [PASSWORD, NEW]);
    let answer = json_of(&desk.rotate(&json!({ "now": true })));
    assert_eq!(answer.get("former_until"), None, "{answer}");
    assert_eq!(desk.kept(), ["password"]);
    desk.scene.main();
    assert_eq!(desk.taken(&[PASSWORD, NEW]), Vec::<&str>::new());
    assert_eq!(desk.slots(), Vec::<String>::new());
    assert!(
        desk.scene
            .memory()
            .registration(&username("1001"))
            .is_some()
    );
}

#[test]
fn a_call_of_rotate_that_is_wrong_changes_nothing() {
    let desk = Desk::new(1);
    let before = desk.record();
    let fake = &desk.scene.fake;
    let path = "accounts/acme-1001/rotate";
    let status =
        |method, path: &str, body: &Value| call(fake, method, path, body).status().as_u16();
    assert_eq!(status(Method::GET, path, &Value::Null), 405);
    assert_eq!(status(Method::POST, path, &json!({ "noww": true })), 422);
    assert_eq!(status(Method::POST, path, &json!({ "now": 1 })), 422);
    assert_eq!(
        status(Method::POST, path, &json!({ "password": "mine" })),
        422
    );
    assert_eq!(
        status(Method::POST, "accounts/nobody/rotate", &json!({})),
        404
    );
    assert_eq!(
        status(Method::POST, &format!("{path}?now=1"), &json!({})),
        400
    );
    let stale = get(&format!("/api/v1/{path}"))
        .by(Method::POST)
        .with("authorization", &format!("Bearer {ADMIN_TOKEN}"))
        .with("if-match", "\"7\"");
    assert_eq!(
        fetch(fake, &stale).status(),
        StatusCode::PRECONDITION_FAILED
    );
    let nobody = get(&format!("/api/v1/{path}")).by(Method::POST);
    assert_eq!(fetch(fake, &nobody).status(), StatusCode::UNAUTHORIZED);
    assert_eq!(desk.record(), before);
}

#[test]
fn only_accounts_that_are_rotated_cost_a_read_and_not_all_in_one_run() {
    let names: Vec<String> = (1100..1140).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = Scene::with_accounts(&names);
    for (n, name) in names.iter().enumerate() {
        let line = json!({ "line": 1, "account": format!("acme-{name}") });
        let mut device = device(false);
        device["lines"] = json!([line]);
        put(&scene.fake, &format!("devices/805ec00001{n:02}"), &device);
        scene.asterisk.registers(name);
    }
    scene.main();
    scene.main();
    let reads = || {
        scene.fake.r2.take_count();
        let summary = scene.main();
        (scene.fake.r2.take_count(), summary)
    };
    let (quiet, _) = reads();
    for name in &names {
        let path = format!("accounts/acme-{name}/rotate");
        let answer = call(&scene.fake, Method::POST, &path, &json!({}));
        assert_eq!(answer.status(), StatusCode::OK);
    }
    scene.main();
    scene.main();
    let (busy, summary) = reads();
    assert_eq!(summary.report.rotating, 40);
    // Eight accounts and their phones.
    assert_eq!(busy.gets - quiet.gets, 16, "{busy:?} {quiet:?}");
    assert_eq!(busy.writes(), quiet.writes());
    // Each has its turn: after the grace all of them end.
    scene.fake.clock.pass_s(GRACE_S);
    for _ in 0..8 {
        let (count, _) = reads();
        assert!(count.all() < 900, "{count:?}");
    }
    assert_eq!(scene.main().report.rotating, 0);
}
