//! What is deleted at Asterisk: what an admin deleted, and nothing else whatever is missing.

use dialtone_kit::sipp::{self, RegisterOutcome};
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::json;

use crate::admin::Admin;
use crate::scene::{ACCOUNTS, FOREIGN, Scene, account, confirm, pbx, registration, run};

#[test]
fn a_deleted_account_goes_from_asterisk_and_nothing_else_does() {
    let Some(scene) = Scene::pushed() else { return };
    let desk = registration(&scene.yealink());
    assert_eq!(sipp::register(&desk).unwrap(), RegisterOutcome::Registered);
    // Somebody else's, made by the same way as ours.
    let theirs = [
        ("disallow", "all"),
        ("allow", "alaw"),
        ("callerid", "x <1>"),
        ("@owner", "x"),
    ];
    scene.put_foreign("endpoint", "theirs", &theirs);
    let mut expected = scene.objects();
    assert_eq!(expected.len(), 5 * 3, "{expected:?}");

    scene.delete("acme-2003");
    let run = scene.run();
    assert_eq!(
        (&run["outcome"], &run["actions"]["delete"]),
        (&"ok".into(), &1.into()),
        "{run}"
    );
    for class in ["endpoint", "aor", "auth"] {
        expected.remove(&format!("{class}/2003"));
        assert_eq!(scene.object(class, "2003"), None, "{class}");
    }
    assert_eq!(scene.objects(), expected);
    assert_eq!(
        run["unowned"],
        json!({"count": 2, "first": [FOREIGN, "theirs"]}),
        "{run}"
    );
    assert_eq!(
        (&run["online"], scene.endpoints()["2002"].as_str()),
        (&1.into(), "online"),
        "{run}"
    );

    // Once it is done it is done; and the name is free again, for an account of another id.
    let run = scene.run();
    assert_eq!(run["actions"]["delete"], 0, "{run}");
    scene.admin.put("accounts/acme-again", &account("2003"));
    let run = scene.run();
    assert_eq!(run["actions"]["create"], 1, "{run}");
    let again = scene.object("endpoint", "2003").unwrap();
    assert_eq!(again["@dialtone"], "acme-again", "{again:?}");
}

#[test]
fn an_account_whose_name_is_somebody_elses_is_reported_and_nothing_is_touched() {
    let Some(scene) = Scene::pushed() else { return };
    scene.put_foreign("aor", "3001", &[("max_contacts", "1")]);
    scene.put_foreign(
        "endpoint",
        "3001",
        &[
            ("disallow", "all"),
            ("allow", "alaw"),
            ("aors", "3001"),
            ("callerid", "x <1>"),
        ],
    );
    let before = scene.objects();
    for name in ["3001", FOREIGN] {
        let mut account = account("2009");
        account["username"] = json!(name);
        scene.admin.put(&format!("accounts/acme-{name}"), &account);
    }
    let run = scene.run();
    let names = json!({"count": 2, "first": ["3001", FOREIGN]});
    assert_eq!(
        (&run["collisions"], &run["outcome"]),
        (&names, &"ok".into()),
        "{run}"
    );
    assert_eq!(scene.objects(), before, "{run}");
    // And they are not ours to delete.
    for name in ["3001", FOREIGN] {
        scene.delete(&format!("acme-{name}"));
    }
    let run = scene.run();
    assert_eq!(scene.objects(), before, "{run}");
}

#[test]
fn a_dialtone_that_knows_nothing_deletes_nothing() {
    let Some(scene) = Scene::pushed() else { return };
    let before = scene.objects();
    assert_eq!(before.len(), 4 * 3, "{before:?}");
    let same_key = Options::new().secret("SEAL_KEY", scene.worker.seal_key());
    for (what, options) in [("the same key", same_key), ("another key", Options::new())] {
        // Its stores are empty but for the PBX.
        let worker = Workerd::start(&options).unwrap();
        let admin = Admin::of(&worker);
        admin.put("tenants/acme", &json!({}));
        admin.put("pbxes/main", &pbx(&scene.asterisk));
        for _ in 0..2 {
            let run = run(&worker);
            assert_eq!(run["outcome"], "ok", "{what}: {run}");
            assert_eq!(run["due"]["delete"], 0, "{what}: {run}");
            assert_eq!(run["unowned"]["count"], 4, "{what}: {run}");
            assert_eq!(scene.objects(), before, "{what}");
        }
        // Nor does it take over the name of an account that it does not know.
        admin.put("accounts/new-2001", &account("2001"));
        let run = run(&worker);
        assert_eq!(run["collisions"]["first"], json!(["2001"]), "{what}: {run}");
        admin.delete("accounts/new-2001");
        confirm(&admin);
        let run = crate::scene::run(&worker);
        assert_eq!(scene.objects(), before, "{what}: {run}");
    }
    // The one that they are of still knows them.
    let run = scene.run();
    assert_eq!(run["vanished"]["count"], 0, "{run}");
    for number in ACCOUNTS {
        assert!(scene.endpoints().contains_key(number), "{run}");
    }
}
