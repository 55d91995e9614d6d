//! The scheduled handler from end to end: records written by the admin API, runs a minute apart, and
//! the Asterisks of `asterisk` in all their moods.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use dialtone::key::{self, Kind};
use dialtone::ports::{NoAnswer, Objects, Only, Outbound, World};
use dialtone::reconcile::breaker::{GRACE_S, Scope};
use dialtone::reconcile::{BELIEVE_AFTER_S, Counts, MAX_ACTIONS, Memory, Names};
use dialtone::step7_register::ha1;
use dialtone::text::{Id, Username};
use dialtone::tick::{self, PbxSummary, RunSummary};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::around::as_the_fake;
use crate::ask::{call, delete, json_of, patch, put};
use crate::asterisk::{Asterisk, Mood};
use crate::world::{Bucket, Failing, Fake, Kv, block_on};

pub const ARI_PASSWORD: &str = "ari-secret-0123456789";
pub const PASSWORD: &str = "Phone-Secret-1";

/// A world with a tenant and one PBX in `push` mode.
pub struct Scene {
    pub fake: Rc<Fake>,
    pub asterisk: Rc<Asterisk>,
}

pub fn pbx(host: &str, mode: &str) -> Value {
    json!({
        "tenant": "acme", "ari_url": format!("https://{host}/ari"), "ari_username": "dialtone",
        "ari_password": ARI_PASSWORD, "mode": mode, "context": "phones", "realm": "acme.example",
        "sip": { "host": host }, "headers": { "cf-access-client-secret": "access-secret-0123" },
    })
}

pub fn account(username: &str) -> Value {
    json!({ "tenant": "acme", "pbx": "main", "username": username, "password": PASSWORD, "display_name": "Anna" })
}

/// Calls out reach the Asterisk of the host's name; there is none behind any other.
pub fn connect(fake: &Fake, hosts: &[(&str, &Rc<Asterisk>)]) {
    let hosts: BTreeMap<String, Rc<Asterisk>> = hosts
        .iter()
        .map(|(host, asterisk)| ((*host).to_owned(), Rc::clone(asterisk)))
        .collect();
    fake.net.answer(move |request| {
        let asterisk = hosts
            .get(request.uri().host().unwrap_or_default())
            .ok_or(NoAnswer::Unreachable)?;
        assert_eq!(
            request.headers()["cf-access-client-secret"],
            "access-secret-0123"
        );
        asterisk.answer(&request)
    });
}

impl Scene {
    pub fn new() -> Self {
        let fake = Fake::new();
        let asterisk = Asterisk::new("dialtone", ARI_PASSWORD);
        connect(&fake, &[("pbx.example", &asterisk)]);
        put(&fake, "tenants/acme", &json!({ "name": "ACME" }));
        put(&fake, "pbxes/main", &pbx("pbx.example", "push"));
        Self { fake, asterisk }
    }

    pub fn with_accounts(usernames: &[&str]) -> Self {
        let scene = Self::new();
        for username in usernames {
            put(
                &scene.fake,
                &format!("accounts/acme-{username}"),
                &account(username),
            );
        }
        scene
    }

    /// The next minute's run.
    pub fn minute(&self) -> RunSummary {
        self.fake.clock.pass_s(60);
        self.run()
    }

    pub fn run(&self) -> RunSummary {
        block_on(tick::run(&*self.fake, None));
        self.last()
    }

    pub fn last(&self) -> RunSummary {
        block_on(tick::last_run(&*self.fake))
            .unwrap()
            .unwrap_or_default()
    }

    /// Lets the time pass that a delete waits, with a run each minute.
    pub fn grace(&self) {
        for _ in 0..GRACE_S / 60 {
            self.minute();
        }
    }

    /// What the next minute's run says of the PBX. What was saved before is in KV's list by then.
    pub fn main(&self) -> PbxSummary {
        self.minute().pbxes.remove(&id("main")).unwrap()
    }

    pub fn memory(&self) -> Memory {
        block_on(tick::pbx_memory(&*self.fake, &id("main"))).unwrap()
    }

    pub fn tombstones(&self) -> Vec<String> {
        self.fake.r2.keys("gone/")
    }

    /// No secret is in anything that was kept or logged.
    pub fn keeps_secrets(&self) {
        let kept = [self.fake.dump(), self.fake.logged().into_bytes()].concat();
        let kept = String::from_utf8_lossy(&kept);
        let cred = ha1("1001", "acme.example", PASSWORD);
        for secret in [PASSWORD, ARI_PASSWORD, "access-secret-0123", &cred] {
            assert!(!kept.contains(secret), "{secret}");
        }
    }
}

fn id(text: &str) -> Id {
    Id::try_from(text).unwrap()
}

pub fn username(text: &str) -> Username {
    Username::try_from(text).unwrap()
}

#[test]
fn an_account_gets_its_objects_and_then_there_is_rest() {
    let scene = Scene::with_accounts(&["1001"]);
    let first = scene.main();
    assert_eq!(
        (first.outcome.as_str(), first.actions),
        (
            "ok",
            Counts {
                create: 1,
                ..Counts::default()
            }
        )
    );
    let field = |class, attribute| {
        scene
            .asterisk
            .field(class, "1001", attribute)
            .unwrap_or_default()
    };
    assert_eq!(
        field("auth", "md5_cred"),
        ha1("1001", "acme.example", PASSWORD)
    );
    assert_eq!(field("aor", "max_contacts"), "1");
    assert_eq!(field("endpoint", "context"), "phones");
    assert_eq!(field("endpoint", "callerid"), "\"Anna\" <1001>");
    for class in ["auth", "aor", "endpoint"] {
        assert_eq!(field(class, "@dialtone"), "acme-1001");
    }
    let object = "/asterisk/config/dynamic/res_pjsip";
    let calls = scene.asterisk.take_calls();
    let last: Vec<&str> = calls
        .iter()
        .rev()
        .take(4)
        .rev()
        .map(String::as_str)
        .collect();
    assert_eq!(
        last,
        [
            format!("PUT {object}/auth/1001"),
            format!("PUT {object}/aor/1001"),
            format!("PUT {object}/endpoint/1001"),
            format!("GET {object}/endpoint/1001"),
        ]
    );

    // One look a minute, and one at the objects themselves after a quarter of an hour.
    let mut memory = scene.memory();
    for _ in 0..14 {
        let summary = scene.main();
        assert_eq!(
            (summary.outcome.as_str(), summary.actions),
            ("ok", Counts::default())
        );
        assert_eq!(scene.asterisk.take_calls(), ["GET /endpoints"]);
        let after = scene.memory();
        memory.registrations.clone_from(&after.registrations);
        // By the next minute what was written is on the PBX's disk.
        memory.unsettled = None;
        assert_eq!(after, memory);
    }
    assert_eq!(
        scene.main().actions,
        Counts {
            check: 1,
            ..Counts::default()
        }
    );
    assert_eq!(scene.asterisk.take_changes(), Vec::<String>::new());
    scene.keeps_secrets();
}

#[test]
fn a_change_is_pushed_wherever_it_was_made() {
    let scene = Scene::with_accounts(&["1001", "1002"]);
    scene.main();
    patch(
        &scene.fake,
        "accounts/acme-1001",
        &json!({ "password": "another-one" }),
    );
    let summary = scene.main();
    assert_eq!(
        summary.actions,
        Counts {
            mend: 1,
            ..Counts::default()
        }
    );
    assert_eq!(
        scene.asterisk.field("auth", "1001", "md5_cred").unwrap(),
        ha1("1001", "acme.example", "another-one")
    );

    // What is in every object is pushed to every object.
    patch(&scene.fake, "pbxes/main", &json!({ "context": "internal" }));
    assert_eq!(
        scene.main().actions,
        Counts {
            mend: 2,
            ..Counts::default()
        }
    );
    for name in ["1001", "1002"] {
        assert_eq!(
            scene.asterisk.field("endpoint", name, "context").unwrap(),
            "internal"
        );
    }

    // By hand at the PBX: seen within the quarter of an hour, but for the one that is missing.
    scene.asterisk.take_calls();
    scene.asterisk.set("auth", "1001", "md5_cred", "0123");
    scene.asterisk.loses("aor", "1002");
    for _ in 0..16 {
        scene.minute();
    }
    assert_eq!(
        scene.asterisk.field("auth", "1001", "md5_cred").unwrap(),
        ha1("1001", "acme.example", "another-one")
    );
    assert_eq!(scene.asterisk.names(), ["1001", "1002"]);
    scene.asterisk.loses("endpoint", "1001");
    assert_eq!(
        scene.main().actions,
        Counts {
            create: 1,
            ..Counts::default()
        }
    );
    assert_eq!(scene.asterisk.names(), ["1001", "1002"]);
}

#[test]
fn a_deleted_account_goes_with_everything_it_had() {
    let scene = Scene::with_accounts(&["1001", "1002"]);
    scene.asterisk.has_foreign("200", true);
    scene.main();
    delete(&scene.fake, "accounts/acme-1001");
    assert_eq!(scene.tombstones(), ["gone/main/1001"]);
    // A mistake can be taken back for a while, and a phone that has the name goes on.
    for _ in 1..GRACE_S / 60 {
        assert_eq!(scene.main().report.grace, 1);
    }
    assert_eq!(scene.asterisk.names(), ["1001", "1002", "200"]);
    scene.asterisk.take_calls();
    let summary = scene.main();
    assert_eq!(summary.outcome, "ok");
    assert_eq!(scene.asterisk.names(), ["1002", "200"]);
    let object = "DELETE /asterisk/config/dynamic/res_pjsip";
    assert_eq!(
        scene.asterisk.take_changes(),
        [
            format!("{object}/endpoint/1001"),
            format!("{object}/aor/1001"),
            format!("{object}/auth/1001")
        ]
    );
    assert!(!scene.memory().pushed.contains_key(&username("1001")));
    // Until a run saw that nothing came back.
    assert_eq!(scene.tombstones(), ["gone/main/1001"]);
    scene.main();
    assert_eq!(scene.tombstones(), Vec::<String>::new());
    assert_eq!(scene.asterisk.take_changes(), Vec::<String>::new());
    assert_eq!(
        scene.main().report.unowned,
        Names {
            count: 1,
            first: vec!["200".to_owned()]
        }
    );
}

/// Lets the PBX fail at every call of a run in every way, and sees that nothing is concluded from it.
fn survives(prepare: impl Fn() -> Scene, change: impl Fn(&Scene), right: impl Fn(&Scene)) {
    for mood in Mood::BAD.into_iter().chain([Mood::ReadOnly]) {
        for calls in 0..12 {
            let scene = prepare();
            change(&scene);
            scene.asterisk.take_calls();
            scene.asterisk.will_be(mood, calls);
            let summary = scene.main();
            // Reading goes on for one that may only read.
            let asked = scene.asterisk.take_calls();
            let failed = match mood {
                Mood::ReadOnly => asked
                    .iter()
                    .skip(calls)
                    .any(|call| !call.starts_with("GET ")),
                _ => asked.len() > calls,
            };
            assert_eq!(
                summary.outcome != "ok",
                failed,
                "{mood:?} after {calls}: {}",
                summary.outcome
            );
            scene.asterisk.is(Mood::Up);
            // Longer than any account has to wait after one failure.
            for _ in 0..4 {
                scene.minute();
            }
            assert_eq!(scene.main().outcome, "ok", "{mood:?} after {calls}");
            scene.asterisk.take_calls();
            right(&scene);
            scene.keeps_secrets();
        }
    }
}

#[test]
fn a_pbx_that_fails_in_the_middle_of_a_push_gets_the_rest_later() {
    survives(
        || Scene::with_accounts(&["1001"]),
        |scene| scene.asterisk.has_foreign("200", true),
        |scene| {
            assert_eq!(scene.asterisk.names(), ["1001", "200"]);
            let hash = scene.asterisk.field("endpoint", "1001", "@dialtone_hash");
            assert_eq!(hash.unwrap().len(), 32);
            assert_eq!(scene.memory().troubles, BTreeMap::new());
        },
    );
}

#[test]
fn a_pbx_that_fails_in_the_middle_of_a_delete_loses_the_rest_later_and_nothing_else() {
    let prepare = || {
        let scene = Scene::with_accounts(&["1001", "1002"]);
        scene.asterisk.has_foreign("200", false);
        scene.main();
        scene
    };
    survives(
        prepare,
        |scene| {
            delete(&scene.fake, "accounts/acme-1001");
            scene.fake.clock.pass_s(GRACE_S);
        },
        |scene| {
            assert_eq!(scene.asterisk.names(), ["1002", "200"]);
            assert_eq!(scene.tombstones(), Vec::<String>::new());
        },
    );
}

#[test]
fn a_tombstone_stays_until_the_pbx_confirms() {
    for calls in 1..=9 {
        let scene = Scene::with_accounts(&["1001"]);
        scene.main();
        delete(&scene.fake, "accounts/acme-1001");
        scene.fake.clock.pass_s(GRACE_S);
        scene.asterisk.is(Mood::Booting);
        scene.minute();
        assert_eq!(scene.asterisk.count("1001"), 3);
        scene.asterisk.is(Mood::Up);
        // One call for the list, three looks and three at former passwords, three deletes.
        scene.asterisk.will_be(Mood::Booting, calls);
        scene.minute();
        assert_eq!(scene.tombstones(), ["gone/main/1001"], "after {calls}");
        scene.asterisk.is(Mood::Up);
        for _ in 0..4 {
            scene.main();
        }
        assert_eq!(
            (scene.tombstones().len(), scene.asterisk.count("1001")),
            (0, 0),
            "after {calls}"
        );
    }
}

#[test]
fn what_is_somebody_elses_is_never_touched() {
    for fixed in [true, false] {
        let scene = Scene::with_accounts(&["1001", "1002"]);
        scene.asterisk.has_foreign("1001", fixed);
        let before = scene.asterisk.object("endpoint", "1001");
        let summary = scene.main();
        assert_eq!(summary.outcome, "ok");
        assert_eq!(
            summary.report.collisions,
            Names {
                count: 1,
                first: vec!["1001".to_owned()]
            }
        );
        assert!(
            scene
                .asterisk
                .take_changes()
                .iter()
                .all(|call| call.ends_with("/1002"))
        );
        // It is looked at less and less often.
        for _ in 0..60 {
            scene.minute();
        }
        let looks = scene
            .asterisk
            .take_calls()
            .into_iter()
            .filter(|call| call.ends_with("/endpoint/1001"))
            .count();
        assert!((5..=8).contains(&looks), "{looks}");
        // Nor is anything touched when the account goes again: there is nothing of it.
        delete(&scene.fake, "accounts/acme-1001");
        scene.grace();
        assert_eq!(scene.main().outcome, "ok");
        assert_eq!(scene.tombstones(), Vec::<String>::new());
        assert!(scene.asterisk.take_changes().is_empty());
        assert_eq!(scene.asterisk.object("endpoint", "1001"), before);
        assert_eq!(scene.asterisk.names(), ["1001", "1002"]);
        assert_eq!(scene.main().report.collisions, Names::default());
    }
}

/// Somebody put an endpoint of their own in the place of ours: what is below it may be in use.
#[test]
fn what_is_below_somebody_elses_endpoint_stays() {
    let scene = Scene::with_accounts(&["1001"]);
    scene.main();
    scene.asterisk.set("endpoint", "1001", "@dialtone", "");
    scene.asterisk.take_calls();
    delete(&scene.fake, "accounts/acme-1001");
    scene.grace();
    assert_eq!(scene.main().report.collisions.count, 1);
    assert!(scene.asterisk.take_changes().is_empty());
    assert_eq!(scene.tombstones(), ["gone/main/1001"]);
}

#[test]
fn an_auth_alone_of_somebody_else_is_a_collision_too() {
    let scene = Scene::with_accounts(&["1001"]);
    scene.asterisk.has_foreign("1001", false);
    scene.asterisk.loses("endpoint", "1001");
    scene.asterisk.loses("aor", "1001");
    let summary = scene.main();
    assert_eq!(summary.report.collisions.count, 1);
    assert!(scene.asterisk.take_changes().is_empty());
}

#[test]
fn an_asterisk_that_keeps_no_mark_on_an_auth_is_served_as_well() {
    let scene = Scene::with_accounts(&["1001"]);
    scene.asterisk.forgets_marks_of_auths();
    // Cut off after the auth: without a mark it is known by what it lets in.
    scene.asterisk.will_be(Mood::Down, 5);
    scene.minute();
    assert_eq!(scene.asterisk.count("1001"), 1);
    scene.asterisk.is(Mood::Up);
    scene.main();
    scene.main();
    assert_eq!(scene.asterisk.names(), ["1001"]);
    assert_eq!(scene.asterisk.field("auth", "1001", "@dialtone"), None);
    patch(
        &scene.fake,
        "accounts/acme-1001",
        &json!({ "password": "another-one" }),
    );
    scene.main();
    assert_eq!(
        scene.asterisk.field("auth", "1001", "md5_cred").unwrap(),
        ha1("1001", "acme.example", "another-one")
    );
    delete(&scene.fake, "accounts/acme-1001");
    scene.fake.clock.pass_s(GRACE_S);
    // Cut off before the auth: only that is left, and it is still known.
    scene.asterisk.will_be(Mood::Down, 9);
    scene.main();
    assert_eq!(scene.asterisk.count("1001"), 1);
    scene.asterisk.is(Mood::Up);
    scene.main();
    scene.main();
    assert_eq!(
        (scene.asterisk.count("1001"), scene.tombstones().len()),
        (0, 0)
    );
}

#[test]
fn a_kv_that_lost_everything_deletes_nothing() {
    let names: Vec<String> = (1001..1031).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let empty = Fake::new().kv.backup();
    let scene = Scene::with_accounts(&names);
    scene.main();
    assert_eq!(scene.asterisk.names(), names);
    scene.asterisk.take_calls();

    // The namespace is empty.
    let full = scene.fake.kv.backup();
    scene.fake.kv.restore(&empty);
    for _ in 0..5 {
        let summary = scene.main();
        assert_eq!(
            (summary.outcome.as_str(), summary.actions),
            ("ok", Counts::default())
        );
        assert_eq!(
            (summary.report.vanished.count, summary.report.unowned.count),
            (30, 0)
        );
    }
    // It fails.
    scene.fake.kv.restore(&full);
    *scene.fake.kv.failing.borrow_mut() = Failing::All;
    let run = scene.minute();
    assert_eq!(
        (
            run.accounts.as_str(),
            run.pbxes.get(&id("main")).unwrap().actions
        ),
        ("kv", Counts::default())
    );
    assert_eq!(run.pbxes.get(&id("main")).unwrap().report.endpoints, 30);
    // The memory is lost as well: what is there is found to be ours.
    *scene.fake.kv.failing.borrow_mut() = Failing::None;
    block_on(scene.fake.r2.delete("pbx-state/main")).unwrap();
    let summary = scene.main();
    assert_eq!(
        summary.actions,
        Counts {
            adopt: 30,
            ..Counts::default()
        }
    );
    assert!(scene.asterisk.take_changes().is_empty());
    assert_eq!(scene.asterisk.names(), names);
}

#[test]
fn a_pbx_that_lost_everything_gets_it_back_after_a_while() {
    let scene = Scene::with_accounts(&["1001", "1002", "1003"]);
    scene.main();
    scene.asterisk.loses_all();
    scene.asterisk.take_calls();
    let mut minutes = 0;
    while scene.main().outcome == "empty" {
        minutes += 1;
        assert!(scene.asterisk.take_changes().is_empty());
    }
    assert_eq!(minutes, BELIEVE_AFTER_S / 60);
    assert_eq!(scene.asterisk.names(), ["1001", "1002", "1003"]);
}

#[test]
fn observe_reads_and_says_what_push_would_do() {
    let scene = Scene::with_accounts(&["1001", "1002"]);
    scene.asterisk.has_foreign("200", true);
    scene.asterisk.registers("200");
    patch(&scene.fake, "pbxes/main", &json!({ "mode": "observe" }));
    delete(&scene.fake, "accounts/acme-1002");
    scene.fake.clock.pass_s(GRACE_S);
    let summary = scene.main();
    assert_eq!(
        (summary.outcome.as_str(), summary.actions),
        ("ok", Counts::default())
    );
    assert_eq!(
        summary.report.due,
        Counts {
            create: 1,
            delete: 1,
            ..Counts::default()
        }
    );
    assert_eq!((summary.report.endpoints, summary.report.online), (1, 1));
    assert!(
        scene
            .asterisk
            .take_calls()
            .iter()
            .all(|call| call == "GET /endpoints")
    );
    assert_eq!(scene.tombstones(), ["gone/main/1002"]);
}

#[test]
fn names_change_hands_without_a_loss() {
    let scene = Scene::with_accounts(&["1001", "1002"]);
    scene.main();
    // One gives its name up and another one takes it, all within a minute.
    patch(
        &scene.fake,
        "accounts/acme-1001",
        &json!({ "username": "1003" }),
    );
    patch(
        &scene.fake,
        "accounts/acme-1002",
        &json!({ "username": "1001", "password": "another-one" }),
    );
    for _ in 0..4 {
        scene.minute();
    }
    // The name that nobody took is there until the phone has had the time to learn the new one.
    assert_eq!(scene.asterisk.names(), ["1001", "1002", "1003"]);
    scene.grace();
    assert_eq!(scene.asterisk.names(), ["1001", "1003"]);
    assert_eq!(
        scene
            .asterisk
            .field("endpoint", "1001", "@dialtone")
            .unwrap(),
        "acme-1002"
    );
    assert_eq!(
        scene
            .asterisk
            .field("endpoint", "1003", "@dialtone")
            .unwrap(),
        "acme-1001"
    );
    assert_eq!(
        scene.asterisk.field("auth", "1001", "md5_cred").unwrap(),
        ha1("1001", "acme.example", "another-one")
    );
    assert_eq!(scene.tombstones(), Vec::<String>::new());

    // Deleted and made again before anybody looked: nothing goes.
    delete(&scene.fake, "accounts/acme-1001");
    put(&scene.fake, "accounts/acme-1001", &account("1003"));
    scene.asterisk.take_calls();
    scene.main();
    assert!(
        scene
            .asterisk
            .take_changes()
            .iter()
            .all(|call| call.starts_with("PUT "))
    );
    assert_eq!(scene.asterisk.names(), ["1001", "1003"]);
}

#[test]
fn a_tombstone_is_nothing_against_a_live_account() {
    let scene = Scene::with_accounts(&["1001"]);
    scene.main();
    // As a save that was cut off, or somebody's hand, could leave it.
    let tombstone = b"acme-1001".to_vec();
    block_on(
        scene
            .fake
            .r2
            .put("gone/main/1001", tombstone, BTreeMap::new(), Only::Always),
    )
    .unwrap();
    // Not even if KV has forgotten the account.
    scene.fake.kv.restore(&Fake::new().kv.backup());
    scene.asterisk.take_calls();
    assert_eq!(scene.main().actions, Counts::default());
    // Nor if nothing says any more who has the name.
    block_on(scene.fake.r2.delete("name/main/1001")).unwrap();
    assert_eq!(scene.main().actions, Counts::default());
    assert!(scene.asterisk.take_changes().is_empty());
    assert_eq!(scene.asterisk.names(), ["1001"]);
}

#[test]
fn two_records_of_one_asterisk_do_not_take_each_others_names() {
    let scene = Scene::with_accounts(&["1001"]);
    scene.main();
    put(&scene.fake, "tenants/rival", &json!({ "name": "Rival" }));
    let mut other = pbx("pbx.example", "push");
    other["tenant"] = json!("rival");
    put(&scene.fake, "pbxes/other", &other);
    let mut rival = account("1001");
    rival["tenant"] = json!("rival");
    rival["pbx"] = json!("other");
    put(&scene.fake, "accounts/rival-1001", &rival);
    scene.minute();
    let run = scene.minute();
    assert_eq!(
        run.pbxes.get(&id("other")).unwrap().report.collisions.count,
        1
    );
    assert_eq!(
        scene
            .asterisk
            .field("endpoint", "1001", "@dialtone")
            .unwrap(),
        "acme-1001"
    );
}

#[test]
fn registrations_are_noted_with_the_time_of_the_change() {
    let scene = Scene::with_accounts(&["1001"]);
    scene.main();
    scene.minute();
    let shown = || {
        scene
            .memory()
            .registration(&username("1001"))
            .map(|r| (r.online, r.since, r.ever_online))
    };
    let (online, offline_since, ever) = shown().unwrap();
    assert!(!online && !ever);
    scene.asterisk.registers("1001");
    let at = scene.minute().at;
    assert!(at > offline_since);
    scene.minute();
    // A PBX that is away says nothing about its phones.
    scene.asterisk.is(Mood::Frozen);
    assert_eq!(scene.main().outcome, "timed out");
    assert_eq!(shown(), Some((true, at, true)));
    scene.asterisk.is(Mood::Up);
    scene.asterisk.unregisters("1001");
    let at = scene.minute().at;
    assert_eq!(shown(), Some((false, at, true)));
}

#[test]
fn a_refused_account_does_not_hold_up_the_others() {
    let scene = Scene::with_accounts(&["1001", "1002"]);
    scene.asterisk.refuses("1001");
    let summary = scene.main();
    assert_eq!(
        (summary.outcome.as_str(), summary.actions.create),
        ("ok", 1)
    );
    assert_eq!(scene.asterisk.count("1002"), 3);
    scene.main();
    // After the second time it waits for more than a minute.
    assert_eq!(scene.main().report.waiting, 1);
}

#[test]
fn a_name_reaches_asterisk_as_it_is() {
    let name = "a!~*'+b";
    let scene = Scene::with_accounts(&[]);
    put(&scene.fake, "accounts/odd", &account(name));
    scene.main();
    assert_eq!(scene.asterisk.names(), [name]);
    delete(&scene.fake, "accounts/odd");
    scene.grace();
    assert_eq!(scene.asterisk.count(name), 0);
}

#[test]
fn many_accounts_come_in_bounded_runs() {
    let names: Vec<String> = (1000..1120).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = Scene::with_accounts(&names);
    // KV's list in pages, as it comes.
    scene.fake.kv.page.set(7);
    let most = u32::try_from(MAX_ACTIONS).unwrap();
    let mut created = vec![];
    for _ in 0..4 {
        scene.fake.r2.take_count();
        created.push(scene.main().actions.create);
        let operations = scene.fake.r2.take_count().all()
            + u32::try_from(scene.asterisk.take_calls().len()).unwrap();
        assert!(operations < 900, "{operations}");
    }
    assert_eq!(created, [most, most, 120 - 2 * most, 0]);
    assert_eq!(scene.asterisk.names(), names);
}

#[test]
fn each_phone_of_an_account_may_register() {
    let scene = Scene::with_accounts(&["1001"]);
    for mac in ["805ec0000001", "805ec0000002"] {
        let device = json!({
            "tenant": "acme", "vendor": "yealink", "model": "T46U", "lines": [{ "line": 1, "account": "acme-1001" }],
        });
        put(&scene.fake, &format!("devices/{mac}"), &device);
    }
    scene.main();
    assert_eq!(
        scene.asterisk.field("aor", "1001", "max_contacts").unwrap(),
        "2"
    );
}

#[test]
fn a_cut_off_save_is_finished() {
    let scene = Scene::new();
    // KV fails in the middle of the save, so that nobody copies the record.
    *scene.fake.kv.failing.borrow_mut() = Failing::Puts;
    let saved = call(
        &scene.fake,
        http::Method::PUT,
        "accounts/acme-1001",
        &account("1001"),
    );
    assert!(
        saved.status().is_success() || saved.status().as_u16() == 503,
        "{saved:?}"
    );
    *scene.fake.kv.failing.borrow_mut() = Failing::None;
    let marks = scene.fake.r2.keys("unfinished/");
    assert!(
        matches!(marks.as_slice(), [mark] if key::parse_unfinished(mark) == Some((Kind::Account, "acme-1001"))),
        "{marks:?}"
    );
    // It could still be under way.
    scene.fake.clock.pass_s(10);
    assert_eq!(
        (
            scene.run().finished,
            scene.fake.r2.keys("unfinished/").len()
        ),
        (0, 1)
    );
    assert_eq!(scene.minute().finished, 1);
    assert_eq!(scene.fake.r2.keys("unfinished/"), Vec::<String>::new());
    scene.main();
    assert_eq!(scene.asterisk.names(), ["1001"]);
}

#[test]
fn saves_that_always_fail_hold_up_neither_each_other_nor_the_pbxes() {
    let scene = Scene::with_accounts(&["1001"]);
    for n in 0..25 {
        let mark = key::unfinished(Kind::Device, &format!("broken-{n:02}"), "1");
        block_on(
            scene
                .fake
                .r2
                .put(&mark, Vec::new(), BTreeMap::new(), Only::Always),
        )
        .unwrap();
    }
    let mark = key::unfinished(Kind::Tenant, "nobody", "1");
    block_on(
        scene
            .fake
            .r2
            .put(&mark, Vec::new(), BTreeMap::new(), Only::Always),
    )
    .unwrap();
    let mut finished = 0;
    for _ in 0..13 {
        let run = scene.minute();
        finished += run.finished;
        assert_eq!(run.pbxes.get(&id("main")).unwrap().outcome, "ok");
    }
    assert_eq!((finished, scene.last().unfinished), (1, 25));
    assert_eq!(scene.asterisk.names(), ["1001"]);
}

#[test]
fn only_one_run_at_a_time() {
    let scene = Scene::with_accounts(&["1001"]);
    scene.minute();
    assert!(
        scene
            .asterisk
            .take_calls()
            .contains(&"GET /endpoints".to_owned())
    );
    // Another run is under way, or was killed.
    let now = scene.fake.now();
    let lease = json!({ "until": now.plus(100) }).to_string().into_bytes();
    block_on(
        scene
            .fake
            .r2
            .put(key::LEASE, lease, BTreeMap::new(), Only::Always),
    )
    .unwrap();
    let before = scene.last();
    scene.minute();
    assert_eq!(
        (scene.asterisk.take_calls().len(), scene.last()),
        (0, before)
    );
    assert!(scene.fake.logged().contains("tick.busy"));
    // Its lease ends by itself.
    scene.minute();
    assert_eq!(
        scene.asterisk.take_calls().first().map(String::as_str),
        Some("GET /endpoints")
    );

    // Two at once: one of them takes it.
    let fake = Rc::clone(&scene.fake);
    let until = scene.fake.now().plus(160);
    scene.fake.r2.before_next_put(key::LEASE, move || {
        let lease = json!({ "until": until }).to_string().into_bytes();
        block_on(
            fake.r2
                .put(key::LEASE, lease, BTreeMap::new(), Only::Always),
        )
        .unwrap();
    });
    scene.minute();
    scene.minute();
    assert_eq!(scene.asterisk.take_calls().len(), 0);
    scene.minute();
    assert_eq!(scene.asterisk.take_calls(), ["GET /endpoints"]);

    // R2 takes one write a second of one object.
    scene.fake.r2.throttles.set(true);
    scene.minute();
    scene.minute();
    assert_eq!(scene.asterisk.take_calls().len(), 2);
}

#[test]
fn a_run_without_r2_or_with_a_broken_record_ends_quietly() {
    let scene = Scene::with_accounts(&["1001"]);
    *scene.fake.r2.failing.borrow_mut() = Failing::All;
    scene.fake.clock.pass_s(60);
    block_on(tick::run(&*scene.fake, None));
    assert!(scene.asterisk.take_calls().is_empty());
    *scene.fake.r2.failing.borrow_mut() = Failing::Prefix("gone/".to_owned());
    assert_eq!(scene.main().outcome, "r2");
    assert!(scene.asterisk.take_changes().is_empty());
    *scene.fake.r2.failing.borrow_mut() = Failing::None;
    block_on(scene.fake.r2.put(
        "pbx-state/main",
        b"no memory".to_vec(),
        BTreeMap::new(),
        Only::Always,
    ))
    .unwrap();
    assert_eq!(scene.main().outcome, "ok");
    assert_eq!(scene.asterisk.names(), ["1001"]);
    block_on(
        scene
            .fake
            .r2
            .put("pbx/main", b"{}".to_vec(), BTreeMap::new(), Only::Always),
    )
    .unwrap();
    assert_eq!(scene.main().outcome, "stored record");
}

#[test]
fn a_wrong_password_or_a_gone_pbx_changes_nothing() {
    let scene = Scene::with_accounts(&["1001"]);
    patch(
        &scene.fake,
        "pbxes/main",
        &json!({ "ari_password": "wrong" }),
    );
    assert_eq!(scene.main().outcome, "http 401");
    assert!(scene.asterisk.take_changes().is_empty());
}

/// Ready after so many polls: others have their turn meanwhile.
struct After(u32);

impl Future for After {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A way out on which an answer takes its time; a frozen PBX's takes longest.
struct Road {
    hosts: BTreeMap<String, Rc<Asterisk>>,
    arrived: RefCell<Vec<String>>,
}

impl Outbound for Road {
    async fn send(
        &self,
        request: Request<Vec<u8>>,
        _: u32,
        _: usize,
    ) -> Result<Response<Vec<u8>>, NoAnswer> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let answer = self
            .hosts
            .get(&host)
            .ok_or(NoAnswer::Unreachable)?
            .answer(&request);
        After(if matches!(answer, Err(NoAnswer::TimedOut)) {
            10_000
        } else {
            10
        })
        .await;
        self.arrived.borrow_mut().push(host);
        answer
    }
}

/// The same world with that road.
struct Roads {
    fake: Rc<Fake>,
    road: Road,
}

impl World for Roads {
    type Mappings = Kv;
    type Objects = Bucket;
    type Outbound = Road;

    fn net(&self) -> &Road {
        &self.road
    }

    as_the_fake! { kv r2 keys now sleep_ms random memory verify_rs256 within log }
}

#[test]
fn a_frozen_pbx_does_not_delay_the_others() {
    let fake = Fake::new();
    put(&fake, "tenants/acme", &json!({ "name": "ACME" }));
    let mut hosts = BTreeMap::new();
    for n in 0..12 {
        let host = format!("pbx{n:02}.example");
        put(&fake, &format!("pbxes/p{n:02}"), &pbx(&host, "push"));
        let mut account = account("1001");
        account["pbx"] = json!(format!("p{n:02}"));
        put(&fake, &format!("accounts/a{n:02}"), &account);
        hosts.insert(host, Asterisk::new("dialtone", ARI_PASSWORD));
    }
    // Four of them hang: as many as are worked on at the same time.
    for n in 0..4 {
        hosts[&format!("pbx{n:02}.example")].is(Mood::Frozen);
    }
    fake.clock.pass_s(60);
    let world = Roads {
        fake: Rc::clone(&fake),
        road: Road {
            hosts,
            arrived: RefCell::default(),
        },
    };
    let run = || {
        fake.clock.pass_s(60);
        block_on(tick::run(&world, None));
        world.road.arrived.take()
    };
    run();
    let summary = block_on(tick::last_run(&*fake)).unwrap().unwrap();
    for (pbx, summary) in &summary.pbxes {
        let frozen = pbx.as_str() < "p04";
        assert_eq!(
            summary.outcome,
            if frozen { "timed out" } else { "ok" },
            "{pbx}"
        );
        assert_eq!(summary.actions.create, u32::from(!frozen), "{pbx}");
    }
    // Those that failed are last from now on: everybody else has had an answer before the first
    // of them runs into its time, whoever's turn it is.
    let mut tries = 0;
    for _ in 0..60 {
        let arrived = run();
        let first = arrived.iter().position(|host| host.as_str() < "pbx04");
        tries += arrived
            .iter()
            .filter(|host| host.as_str() < "pbx04")
            .count();
        let (others, _) = arrived.split_at(first.unwrap_or(arrived.len()));
        assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), 8);
    }
    // And less and less often: twice at once, then after 2, 4, 8 and each 15 minutes or a little less.
    assert!((4 * 6..=4 * 9).contains(&tries), "{tries}");
}

#[test]
fn what_asterisk_took_just_before_it_died_is_there_again() {
    let scene = Scene::new();
    for name in ["1001", "1002", "1003"] {
        put(
            &scene.fake,
            &format!("accounts/acme-{name}"),
            &account(name),
        );
    }
    scene.main();
    scene.main();
    let kept = scene.asterisk.keep();
    let changed = json!({ "display_name": "Later" });
    patch(&scene.fake, "accounts/acme-1002", &changed);
    delete(&scene.fake, "accounts/acme-1003");
    scene.grace();
    assert_eq!(scene.asterisk.names(), ["1001", "1002"]);
    let after = scene.asterisk.keep();
    patch(&scene.fake, "accounts/acme-1001", &changed);
    scene.main();
    // Both the change of this minute and, had it not been seen on the disk since, a delete would be lost.
    scene.asterisk.crashes_to(&after);
    scene.main();
    scene.main();
    let caller = |name: &str| scene.asterisk.field("endpoint", name, "callerid").unwrap();
    assert_eq!(caller("1001"), "\"Later\" <1001>");
    assert_eq!(caller("1002"), "\"Later\" <1002>");
    // A delete that is lost: the tombstone is there until a later run saw nothing of the name.
    delete(&scene.fake, "accounts/acme-1002");
    let gone = scene.asterisk.keep();
    while scene.asterisk.names() != ["1001"] {
        scene.main();
    }
    scene.asterisk.crashes_to(&gone);
    assert_eq!(scene.asterisk.names(), ["1001", "1002"]);
    scene.main();
    assert_eq!(scene.asterisk.names(), ["1001"]);
    scene.main();
    assert_eq!(scene.fake.r2.keys("gone/"), Vec::<String>::new());
    // And then all is as it is to be.
    scene.asterisk.take_changes();
    scene.main();
    assert_eq!(scene.asterisk.take_changes(), Vec::<String>::new());
    scene.asterisk.crashes_to(&kept);
    for _ in 0..2 {
        scene.main();
    }
    assert_eq!(
        scene.asterisk.names(),
        ["1001", "1002", "1003"],
        "nobody deleted them now"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn mailbox_and_codecs_are_as_the_records_say_and_are_written_once() {
    let scene = Scene::with_accounts(&["1001", "1002"]);
    let field = |class: &str, name: &str, attribute: &str| {
        scene.asterisk.field(class, name, attribute).unwrap()
    };
    let mailboxes = |name: &str| {
        let of = |class| field(class, name, "mailboxes");
        assert_eq!(of("aor"), of("endpoint"));
        of("aor")
    };
    let settled = || {
        scene.asterisk.take_changes();
        for _ in 0..20 {
            scene.main();
        }
        assert_eq!(scene.asterisk.take_changes(), Vec::<String>::new());
    };
    let plan = || {
        json_of(&call(
            &scene.fake,
            Method::GET,
            "pbxes/main/plan",
            &Value::Null,
        ))
    };
    let due = |expected: &[(&str, &str)]| {
        let shown = plan();
        let actions = shown["actions"].as_array().unwrap().iter();
        let actions = actions.filter(|action| action["action"] != "check");
        let actions: Vec<_> = actions
            .map(|a| {
                (
                    a["username"].as_str().unwrap(),
                    a["because"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(actions, expected, "{shown}");
    };
    scene.main();
    assert_eq!(
        (mailboxes("1001"), mailboxes("1002")),
        (String::new(), String::new())
    );
    assert_eq!(field("endpoint", "1001", "allow"), "(g722|alaw|ulaw)");
    settled();

    let mailbox = |value: Value| {
        patch(
            &scene.fake,
            "accounts/acme-1001",
            &json!({ "mailbox": value }),
        );
    };
    for (given, expected) in [
        (json!("1001@default"), "1001@default"),
        (json!("1001@sales"), "1001@sales"),
        (Value::Null, ""),
    ] {
        mailbox(given);
        due(&[("1001", "the account was changed")]);
        assert_eq!(scene.main().actions.mend, 1);
        assert_eq!(
            (mailboxes("1001").as_str(), mailboxes("1002").as_str()),
            (expected, "")
        );
        settled();
    }
    // What was set by hand is not the record's.
    for class in ["endpoint", "aor"] {
        scene
            .asterisk
            .set(class, "1002", "mailboxes", "9999@default");
    }
    patch(
        &scene.fake,
        "accounts/acme-1002",
        &json!({ "display_name": "Bert" }),
    );
    scene.main();
    assert_eq!(mailboxes("1002"), "");

    patch(
        &scene.fake,
        "pbxes/main",
        &json!({ "codecs": ["opus", "pcma"] }),
    );
    let because = "the PBX's record was changed";
    due(&[("1001", because), ("1002", because)]);
    assert_eq!(scene.main().actions.mend, 2);
    for name in ["1001", "1002"] {
        assert_eq!(field("endpoint", name, "allow"), "(opus|alaw)");
    }
    settled();
    for (wrong, why) in [
        (json!(["speex"]), "unknown variant `speex`"),
        (json!([]), "must name at least one codec"),
        (json!(["pcma", "pcma"]), "must not name a codec twice"),
    ] {
        let path = "pbxes/main";
        let answer = call(
            &scene.fake,
            Method::PATCH,
            path,
            &json!({ "codecs": wrong }),
        );
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        let error = &problem["errors"][0];
        assert!(
            error["pointer"].as_str().unwrap().starts_with("/codecs"),
            "{error}"
        );
        assert!(error["detail"].as_str().unwrap().contains(why), "{error}");
    }
    patch(&scene.fake, "pbxes/main", &json!({ "codecs": null }));
    scene.main();
    assert_eq!(field("endpoint", "1002", "allow"), "(g722|alaw|ulaw)");
}

/// PBXes `p0`, `p1`, … with so many registered phones each: the last one is another tenant's.
struct Sites {
    fake: Rc<Fake>,
    asterisks: Vec<Rc<Asterisk>>,
}

impl Sites {
    fn new(phones: &[usize]) -> Self {
        let fake = Fake::new();
        let hosts: Vec<String> = (0..phones.len()).map(|n| format!("p{n}.example")).collect();
        let fresh = |_| Asterisk::new("dialtone", ARI_PASSWORD);
        let asterisks: Vec<Rc<Asterisk>> = hosts.iter().map(fresh).collect();
        let roads: Vec<_> = hosts.iter().map(String::as_str).zip(&asterisks).collect();
        connect(&fake, &roads);
        for tenant in ["acme", "other"] {
            put(&fake, &format!("tenants/{tenant}"), &json!({}));
        }
        for (n, (host, phones)) in hosts.iter().zip(phones).enumerate() {
            let tenant = if n + 1 == hosts.len() {
                "other"
            } else {
                "acme"
            };
            let mut record = pbx(host, "push");
            record["tenant"] = json!(tenant);
            put(&fake, &format!("pbxes/p{n}"), &record);
            for phone in 0..*phones {
                let username = format!("{}", 1000 + phone);
                let mut account = account(&username);
                account["tenant"] = json!(tenant);
                account["pbx"] = json!(format!("p{n}"));
                put(&fake, &format!("accounts/p{n}-{username}"), &account);
                asterisks[n].registers(&username);
            }
        }
        let sites = Self { fake, asterisks };
        for _ in 0..4 {
            sites.minute();
        }
        assert_eq!(sites.online(), phones);
        sites
    }

    fn minute(&self) -> RunSummary {
        self.fake.clock.pass_s(60);
        block_on(tick::run(&*self.fake, None));
        let last = block_on(tick::last_run(&*self.fake)).unwrap().unwrap();
        assert_eq!(last.pbxes.len(), self.asterisks.len());
        assert!(last.pbxes.values().all(|summary| summary.outcome == "ok"));
        last
    }

    /// The first phones of a PBX lose their registrations, or have them again.
    fn first(&self, pbx: usize, phones: usize, registered: bool) {
        for phone in 0..phones {
            let username = format!("{}", 1000 + phone);
            if registered {
                self.asterisks[pbx].registers(&username);
            } else {
                self.asterisks[pbx].unregisters(&username);
            }
        }
    }

    fn memory(&self, pbx: usize) -> Memory {
        block_on(tick::pbx_memory(&*self.fake, &id(&format!("p{pbx}")))).unwrap()
    }

    /// How many phones of each PBX are believed to be registered.
    fn online(&self) -> Vec<usize> {
        let of = |pbx| {
            let registrations = self.memory(pbx).registrations;
            registrations.values().filter(|seen| seen.online).count()
        };
        (0..self.asterisks.len()).map(of).collect()
    }

    /// What is held at each PBX: of what, how many, of how many.
    fn held(run: &RunSummary) -> Vec<Option<(Scope, u32, u32)>> {
        let held = |summary: &PbxSummary| {
            let held = summary.report.breaker.offline.as_ref()?;
            Some((held.scope, held.count, held.of))
        };
        run.pbxes.values().map(held).collect()
    }
}

#[test]
fn phones_of_a_tenant_that_go_offline_together_at_several_pbxes_are_not_believed_at_once() {
    let sites = Sites::new(&[8, 8, 8, 8]);
    // Six of eight at each of two PBXes are few for either, and too many of the tenant's 24. At the same time
    // some of another tenant's go, which has nothing to do with it.
    sites.first(0, 6, false);
    sites.first(1, 6, false);
    sites.first(3, 6, false);
    let began = sites.minute();
    let together = Some((Scope::Tenant, 12, 24));
    assert_eq!(Sites::held(&began), [together, together, None, None]);
    assert_eq!(sites.online(), [8, 8, 8, 2]);
    // Each of the two says so once, and the plan as well.
    assert_eq!(sites.fake.logged().matches("breaker.tripped").count(), 2);
    let plan = |pbx: usize| {
        let path = format!("pbxes/p{pbx}/plan");
        json_of(&call(&sites.fake, Method::GET, &path, &Value::Null))
    };
    let shown = plan(0)["breaker"]["offline"].clone();
    assert_eq!(
        (&shown["scope"], &shown["count"], &shown["of"]),
        (&json!("tenant"), &json!(12), &json!(24))
    );
    // An admin who knows better says so of a PBX.
    let confirm = json!({ "offline": shown["confirm"] });
    let answer = call(&sites.fake, Method::POST, "pbxes/p0/confirm", &confirm);
    assert_eq!(json_of(&answer)["offline"], true);
    let run = sites.minute();
    assert_eq!(sites.online(), [2, 8, 8, 2]);
    assert_eq!(Sites::held(&run), [None, together, None, None]);
    // The others' turn: 6 of 10 here and elsewhere are few, so they are believed.
    sites.minute();
    assert_eq!(sites.online(), [2, 2, 8, 2]);
    assert_eq!(sites.fake.logged().matches("breaker.tripped").count(), 2);
    // They all come back at once: that is no failure.
    for pbx in 0..2 {
        sites.first(pbx, 6, true);
    }
    let run = sites.minute();
    assert_eq!(sites.online(), [8, 8, 8, 2]);
    assert!(
        run.pbxes
            .values()
            .all(|summary| summary.report.breaker.is_closed())
    );

    // Nobody says a word: believed after three minutes, as of when it began.
    for pbx in 0..3 {
        sites.first(pbx, 4, false);
    }
    let began = sites.minute();
    assert_eq!(Sites::held(&began)[..3], [Some((Scope::Tenant, 12, 24)); 3]);
    for _ in 0..2 {
        sites.minute();
        assert_eq!(sites.online()[..3], [8, 8, 8]);
    }
    let run = sites.minute();
    assert!(
        run.pbxes
            .values()
            .all(|summary| summary.report.breaker.is_closed())
    );
    assert_eq!(sites.online()[..3], [4, 4, 4]);
    for pbx in 0..3 {
        let gone = sites.memory(pbx).registrations;
        let gone = gone.values().filter(|seen| !seen.online);
        assert!(gone.clone().count() == 4 && gone.clone().all(|seen| seen.since == began.at));
    }
}

#[test]
fn a_pbx_of_the_tenant_that_says_nothing_has_lost_nobody() {
    let sites = Sites::new(&[8, 8, 1]);
    sites.asterisks[1].is(Mood::Down);
    sites.first(0, 6, false);
    sites.fake.clock.pass_s(60);
    block_on(tick::run(&*sites.fake, None));
    assert_eq!(sites.online(), [2, 8, 1]);
}
