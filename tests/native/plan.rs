//! What is held, what waits, what a plan says of it, and what an admin can confirm.

use std::collections::BTreeMap;

use dialtone::ports::{Limit, Objects, Only};
use dialtone::reconcile::breaker::GRACE_S;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{call, delete, json_of, patch};
use crate::asterisk::Mood;
use crate::reconcile::Scene;
use crate::world::{Failing, block_on};

fn names(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

/// A PBX with so many accounts, all pushed and registered.
fn scene(to: usize) -> Scene {
    let names = names(1000, to);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = Scene::with_accounts(&names);
    for name in &names {
        scene.asterisk.registers(name);
    }
    while scene.main().actions.create > 0 {}
    scene.main();
    scene.asterisk.take_calls();
    scene
}

fn plan(scene: &Scene) -> Value {
    json_of(&call(
        &scene.fake,
        Method::GET,
        "pbxes/main/plan",
        &Value::Null,
    ))
}

fn confirm(scene: &Scene, body: &Value) -> (StatusCode, Value) {
    let answer = call(&scene.fake, Method::POST, "pbxes/main/confirm", body);
    let body = serde_json::from_slice(answer.body()).unwrap();
    (answer.status(), body)
}

#[test]
fn many_deletes_at_once_wait_for_an_admin_and_new_accounts_do_not() {
    let scene = scene(1040);
    for name in names(1000, 1012) {
        delete(&scene.fake, &format!("accounts/acme-{name}"));
    }
    crate::ask::put(
        &scene.fake,
        "accounts/acme-2000",
        &crate::reconcile::account("2000"),
    );
    assert_eq!(scene.main().actions.create, 1);
    scene.grace();
    scene.grace();
    assert_eq!(scene.asterisk.names().len(), 41);
    let held = scene.main().report.breaker.deletes.unwrap();
    assert_eq!((held.count, held.of), (12, 41));
    // It is an alarm, once.
    let tripped = |scene: &Scene| scene.fake.logged().matches("breaker.tripped").count();
    assert_eq!(tripped(&scene), 1);

    let shown = plan(&scene);
    let digest = shown["breaker"]["deletes"]["confirm"].clone();
    assert_eq!(shown["breaker"]["deletes"]["count"], 12, "{shown}");
    assert_eq!(shown["tombstones"]["count"], 12);
    assert_eq!(
        shown["waits"][0],
        json!({ "username": "1000", "why": "breaker" })
    );
    assert_eq!(shown["actions"], json!([]));
    // One more is not what was seen.
    delete(&scene.fake, "accounts/acme-1020");
    let (status, answer) = confirm(&scene, &json!({ "deletes": digest }));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer["errors"][0]["pointer"], "/deletes");
    for wrong in [
        json!({}),
        json!({ "all": true }),
        json!({ "offline": "0123456789abcdef" }),
    ] {
        assert_eq!(
            confirm(&scene, &wrong).0,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{wrong}"
        );
    }
    scene.main();
    assert_eq!(scene.asterisk.names().len(), 41);
    let digest = plan(&scene)["breaker"]["deletes"]["confirm"].clone();
    let (status, answer) = confirm(&scene, &json!({ "deletes": digest }));
    assert_eq!((status, &answer["deletes"]), (StatusCode::OK, &json!(13)));
    assert_eq!(scene.fake.audited("breaker.confirmed").len(), 1);
    for _ in 0..2 {
        scene.main();
    }
    assert_eq!(scene.asterisk.names().len(), 28);
    assert!(scene.main().report.breaker.is_closed());
    // What was confirmed was that.
    for name in names(1025, 1040) {
        delete(&scene.fake, &format!("accounts/acme-{name}"));
    }
    scene.grace();
    scene.main();
    assert_eq!((scene.asterisk.names().len(), tripped(&scene)), (28, 2));
}

#[test]
fn a_confirmed_delete_needs_no_grace() {
    let scene = scene(1003);
    delete(&scene.fake, "accounts/acme-1000");
    let shown = plan(&scene);
    let until = shown["waits"][0]["until"].clone();
    assert_eq!(shown["waits"][0]["why"], "grace");
    assert_eq!(
        until,
        dialtone::ports::World::now(&*scene.fake)
            .plus(GRACE_S)
            .to_string()
    );
    let digest = shown["tombstones"]["confirm"].clone();
    assert_eq!(
        confirm(&scene, &json!({ "deletes": digest })).0,
        StatusCode::OK
    );
    assert_eq!(scene.main().actions.delete, 1);
    assert_eq!(scene.asterisk.names(), ["1001", "1002"]);
}

#[test]
fn phones_that_go_offline_all_at_once_are_not_believed_at_once() {
    let scene = scene(1020);
    for name in names(1000, 1015) {
        scene.asterisk.unregisters(&name);
    }
    let online = |scene: &Scene| {
        let memory = scene.memory();
        memory
            .registrations
            .values()
            .filter(|seen| seen.online)
            .count()
    };
    let summary = scene.main();
    let held = summary.report.breaker.offline.clone().unwrap();
    assert_eq!((held.count, held.of, online(&scene)), (15, 20, 20));
    assert_eq!(summary.outcome, "ok");
    assert_eq!(scene.fake.logged().matches("breaker.tripped").count(), 1);
    let digest = plan(&scene)["breaker"]["offline"]["confirm"].clone();
    assert_eq!(
        confirm(&scene, &json!({ "offline": digest })).0,
        StatusCode::OK
    );
    scene.main();
    assert_eq!(online(&scene), 5);
    let gone = scene
        .memory()
        .registrations
        .into_values()
        .find(|seen| !seen.online);
    assert_eq!(gone.unwrap().since, held.since);
}

#[test]
fn a_plan_says_what_would_be_done_and_does_nothing() {
    let scene = Scene::with_accounts(&["1001", "1002", "1003"]);
    scene.asterisk.has_foreign("200", true);
    scene.asterisk.has_foreign("1002", true);
    for mode in ["push", "observe"] {
        patch(&scene.fake, "pbxes/main", &json!({ "mode": mode }));
        let before = scene.fake.holdings();
        let shown = plan(&scene);
        assert_eq!(scene.fake.holdings(), before);
        assert_eq!(
            (&shown["mode"], &shown["outcome"]),
            (&json!(mode), &json!("ok"))
        );
        let action = |action, n, because| json!({ "action": action, "username": format!("100{n}"), "account": format!("acme-100{n}"), "because": because });
        let missing = "it is not at the PBX";
        let whose = "something of its name is there, and whose it is is not known";
        assert_eq!(
            shown["actions"],
            json!([
                action("create", 1, missing),
                action("adopt", 2, whose),
                action("create", 3, missing)
            ])
        );
        // All accounts were listed in no run yet.
        assert_eq!(
            (&shown["complete"], &shown["unowned"]["count"]),
            (&json!(false), &json!(0))
        );
    }
    assert!(scene.asterisk.take_changes().is_empty());
    patch(&scene.fake, "pbxes/main", &json!({ "mode": "push" }));
    // The run does what the plan said.
    let actions = scene.main().actions;
    assert_eq!((actions.create, actions.adopt), (2, 0));
    let shown = plan(&scene);
    assert_eq!(shown["actions"], json!([]));
    assert_eq!(shown["collisions"]["first"], json!(["1002"]));
    assert_eq!(shown["unowned"]["first"], json!(["200"]));
    assert_eq!(
        (&shown["waits"][0]["username"], &shown["waits"][0]["why"]),
        (&json!("1002"), &json!("collision"))
    );
    // One that fails says so.
    scene.asterisk.is(Mood::Stopping);
    let shown = plan(&scene);
    assert_eq!(
        (&shown["outcome"], &shown["actions"]),
        (&json!("http 503"), &json!([]))
    );
    // And it is not asked for ever.
    scene.fake.limit(Limit::Plans, 4);
    let path = "pbxes/main/plan";
    let answer = call(&scene.fake, Method::GET, path, &Value::Null);
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[test]
fn whatever_fails_leaves_everything_and_is_tried_less_and_less_often() {
    for mood in Mood::BAD {
        let scene = scene(1012);
        delete(&scene.fake, "accounts/acme-1000");
        scene.fake.clock.pass_s(GRACE_S);
        let before = scene.memory().pushed;
        scene.asterisk.is(mood);
        let mut failing = None;
        for _ in 0..60 {
            let summary = scene.main();
            assert_ne!(summary.outcome, "ok", "{mood:?}");
            failing = summary.failing;
        }
        let failing = failing.unwrap();
        let asked = scene.asterisk.take_calls();
        assert!((6..=9).contains(&asked.len()), "{mood:?} {asked:?}");
        assert!(
            asked.iter().all(|call| call == "GET /endpoints"),
            "{mood:?}"
        );
        assert_eq!(u32::try_from(asked.len()).unwrap(), failing.tries);
        assert_eq!(scene.memory().pushed, before, "{mood:?}");
        assert!(
            scene
                .memory()
                .registrations
                .values()
                .all(|seen| seen.online)
        );
        // Who saves the record need not wait.
        patch(
            &scene.fake,
            "pbxes/main",
            &json!({ "ari_username": "dialtone" }),
        );
        let host = json!({ "sip": { "host": "pbx.example", "expires_s": 300 } });
        patch(&scene.fake, "pbxes/main", &host);
        assert_eq!(scene.main().failing.unwrap().tries, 1);
        // What changes meanwhile is known when it is back.
        crate::ask::put(
            &scene.fake,
            "accounts/acme-3000",
            &crate::reconcile::account("3000"),
        );
        scene.main();
        assert_eq!(scene.fake.r2.keys("changed/"), Vec::<String>::new());
        scene.asterisk.is(Mood::Up);
        for _ in 0..16 {
            scene.minute();
        }
        let summary = scene.main();
        assert_eq!(
            (summary.outcome.as_str(), summary.failing),
            ("ok", None),
            "{mood:?}"
        );
        let mut expected = names(1001, 1012);
        expected.push("3000".to_owned());
        assert_eq!(scene.asterisk.names(), expected, "{mood:?}");
    }
}

#[test]
fn a_list_that_breaks_off_deletes_nothing_and_holds_up_nothing_new() {
    let scene = scene(1005);
    delete(&scene.fake, "accounts/acme-1000");
    scene.fake.clock.pass_s(GRACE_S);
    *scene.fake.kv.failing.borrow_mut() = Failing::Prefix("account/".to_owned());
    // As a save does, of which KV has heard nothing yet.
    let mark = BTreeMap::from([("username".to_owned(), "1001".to_owned())]);
    block_on(
        scene
            .fake
            .r2
            .put("changed/main/acme-1001/9", Vec::new(), mark, Only::Always),
    )
    .unwrap();
    scene.asterisk.loses("endpoint", "1002");
    let run = scene.minute();
    let summary = &run.pbxes.values().next().unwrap();
    assert_eq!(
        (run.accounts.as_str(), summary.outcome.as_str()),
        ("kv", "ok")
    );
    assert_eq!(
        (
            summary.actions.create,
            summary.actions.mend,
            summary.actions.delete
        ),
        (1, 1, 0)
    );
    *scene.fake.kv.failing.borrow_mut() = Failing::None;
    assert_eq!(scene.main().actions.delete, 1);
}
