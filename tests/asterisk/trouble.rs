//! A PBX that does not let us in, is not there, or does not answer: nothing is concluded from it,
//! and what is to be done waits.

use serde_json::{Value, json};

use crate::scene::{DESK, Scene, registration};
use dialtone_kit::sipp::{self, RegisterOutcome};

#[test]
fn a_pbx_in_trouble_is_left_alone_until_it_is_well_again() {
    let Some(mut scene) = Scene::pushed() else {
        return;
    };
    let desk = registration(&scene.yealink());
    assert_eq!(sipp::register(&desk).unwrap(), RegisterOutcome::Registered);
    scene.run();
    assert_eq!(scene.stage(DESK), "registered");
    let before = scene.objects();

    // One of each kind of change waits.
    scene.delete("acme-2003");
    scene
        .admin
        .patch("accounts/acme-2002", &json!({"display_name": "Later"}));
    let nothing = |run: &Value| {
        let none = json!({"create": 0, "mend": 0, "adopt": 0, "check": 0, "delete": 0});
        assert_eq!(run["actions"], none, "{run}");
    };
    let outcome = |scene: &Scene, what: &str, expected: &str| {
        let run = scene.run();
        assert_eq!(run["outcome"], expected, "{what}: {run}");
        nothing(&run);
        // It is not known to be offline, so it is not said to be.
        assert_eq!(scene.stage(DESK), "registered", "{what}: {run}");
    };

    let right = json!({"ari_password": scene.asterisk.ari_password()});
    scene
        .admin
        .patch("pbxes/main", &json!({"ari_password": "wrong"}));
    outcome(&scene, "a wrong password", "http 401");
    assert_eq!(scene.objects(), before);
    let reader = json!({
        "ari_username": scene.asterisk.ari_reader(),
        "ari_password": scene.asterisk.ari_reader_password(),
    });
    scene.admin.patch("pbxes/main", &reader);
    let run = scene.run();
    assert_eq!(
        run["outcome"], "http 403",
        "a user who may only read: {run}"
    );
    nothing(&run);
    assert_eq!(scene.objects(), before);
    scene.admin.patch(
        "pbxes/main",
        &json!({"ari_username": scene.asterisk.ari_user()}),
    );
    scene.admin.patch("pbxes/main", &right);

    scene.asterisk.freeze().unwrap();
    outcome(&scene, "frozen", "timed out");
    scene.asterisk.thaw().unwrap();
    assert_eq!(scene.objects(), before);
    scene.asterisk.stop().unwrap();
    outcome(&scene, "stopped", "unreachable");
    scene.asterisk.restart().unwrap();
    assert_eq!(scene.objects(), before);
}

#[test]
fn what_waited_is_done_when_the_pbx_is_well_again() {
    let Some(mut scene) = Scene::pushed() else {
        return;
    };
    scene.asterisk.stop().unwrap();
    scene.delete("acme-2003");
    scene
        .admin
        .patch("accounts/acme-2002", &json!({"display_name": "Later"}));
    let run = scene.run();
    assert_eq!(run["outcome"], "unreachable", "{run}");
    scene.asterisk.restart().unwrap();
    let run = scene.run();
    let done = json!({"create": 0, "mend": 1, "adopt": 0, "check": 0, "delete": 1});
    assert_eq!(
        (&run["outcome"], &run["actions"]),
        (&"ok".into(), &done),
        "{run}"
    );
    assert!(!scene.endpoints().contains_key("2003"), "{run}");
    let endpoint = scene.object("endpoint", "2002").unwrap();
    assert!(endpoint["callerid"].contains("Later"), "{endpoint:?}");
}
