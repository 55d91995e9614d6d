//! A new password reaches Asterisk and the phones, and the old one ends.

use dialtone_kit::sipp::{self, RegisterOutcome, Registration};
use serde_json::json;

use crate::clear;
use crate::flow::set_up;
use crate::scene::{DESK, PASSWORD, SOFT, START, Scene, registration};

/// A digest user and password other than those in the phone's files, at the same port as there.
fn with(registration: &Registration, user: &str, password: &str) -> Registration {
    Registration {
        auth_user: user.to_owned(),
        password: password.to_owned(),
        ..registration.clone()
    }
}

#[test]
fn a_new_password_leaves_no_gap_and_the_old_one_ends() {
    let Some(scene) = Scene::pushed() else { return };
    let mut linphone = set_up(&scene);
    let mut phone = scene.yealink();
    let old = registration(&phone);
    assert_eq!(sipp::register(&old).unwrap(), RegisterOutcome::Registered);

    for number in ["2001", "2002"] {
        let password = json!({"password": format!("new password of {number}")});
        scene
            .admin
            .patch(&format!("accounts/acme-{number}"), &password);
    }
    let run = scene.run();
    assert_eq!(
        (&run["outcome"], &run["actions"]["mend"], &run["rotating"]),
        (&"ok".into(), &2.into(), &2.into()),
        "{run}"
    );
    // The phone that has not fetched yet registers again, and again.
    for _ in 0..2 {
        assert_eq!(sipp::register(&old).unwrap(), RegisterOutcome::Registered);
    }
    let wrong = with(&old, &old.auth_user, "neither");
    assert_eq!(
        sipp::register(&wrong).unwrap(),
        RegisterOutcome::Refused(401)
    );
    phone.switch_on().unwrap();
    let new = registration(&phone);
    assert_eq!(new.password, "new password of 2002");
    assert_eq!(sipp::register(&new).unwrap(), RegisterOutcome::Registered);
    assert_eq!(sipp::register(&old).unwrap(), RegisterOutcome::Registered);

    // It has the old hash in its own configuration, and takes the new one over it.
    linphone.restart().unwrap();
    linphone.wait_registered(START).unwrap();
    let run = scene.run();
    assert_eq!((&run["online"], &run["rotating"]), (&2.into(), &2.into()));
    assert_eq!(
        (scene.stage(SOFT), scene.stage(DESK)),
        ("registered".into(), "registered".into())
    );

    // The desk phone gives up its line: there is nobody left who could have the old one. One run
    // sees that, the next one tells Asterisk.
    let former = "2002@former-1";
    assert!(scene.object("auth", former).is_some());
    scene
        .admin
        .patch(&format!("devices/{DESK}"), &json!({"lines": []}));
    scene.run();
    let run = scene.run();
    assert_eq!(
        (&run["outcome"], &run["rotating"]),
        (&"ok".into(), &1.into()),
        "{run}"
    );
    assert_eq!(scene.object("auth", former), None);
    assert_eq!(sipp::register(&old).unwrap(), RegisterOutcome::Refused(401));
    assert_eq!(sipp::register(&new).unwrap(), RegisterOutcome::Registered);

    let mut secrets = vec![("the ARI password", scene.asterisk.ari_password().to_owned())];
    for number in ["2001", "2002"] {
        secrets.push(("a former password", format!("{PASSWORD}{number}")));
        secrets.push(("a new password", format!("new password of {number}")));
    }
    for name in ["2001", "2001@former-1"] {
        let hash = scene.object("auth", name).unwrap()["md5_cred"].clone();
        secrets.push(("the hash of a password", hash));
    }
    clear::not_in_files(scene.worker.persist_dir(), &secrets, "acme-2001");
    clear::not_in("the Worker's log", &scene.worker.log(), &secrets);
    clear::not_in("Asterisk's log", &scene.asterisk.log(), &secrets);
}

#[test]
fn many_changes_leave_the_oldest_and_the_last_ones_and_a_stolen_one_ends_at_once() {
    let Some(scene) = Scene::pushed() else { return };
    let mut phone = scene.yealink();
    let oldest = registration(&phone);
    let register = |phone: &Registration| sipp::register(phone).unwrap();
    for n in 1..=4 {
        let mut change = json!({"password": format!("password {n}")});
        if n == 4 {
            // Its user may change as well.
            change["auth_username"] = json!("another-login");
        }
        scene.admin.patch("accounts/acme-2002", &change);
        let run = scene.run();
        assert_eq!(run["outcome"], "ok", "{run}");
        assert_eq!(register(&oldest), RegisterOutcome::Registered, "{n}");
    }
    let refused = RegisterOutcome::Refused(401);
    for (user, password, expected) in [
        ("desk-login", "password 1", refused),
        ("desk-login", "password 2", RegisterOutcome::Registered),
        ("desk-login", "password 3", RegisterOutcome::Registered),
        ("desk-login", "password 4", refused),
        ("another-login", "password 4", RegisterOutcome::Registered),
        ("another-login", "password 3", refused),
    ] {
        let outcome = register(&with(&oldest, user, password));
        assert_eq!(outcome, expected, "{user} {password}");
    }

    let now = json!({"now": true});
    scene.admin.post("accounts/acme-2002/rotate", &now);
    let run = scene.run();
    assert_eq!(
        (&run["outcome"], &run["rotating"]),
        (&"ok".into(), &0.into()),
        "{run}"
    );
    assert_eq!(register(&oldest), refused);
    let last = with(&oldest, "another-login", "password 4");
    assert_eq!(register(&last), refused);
    for n in 1..=3 {
        assert_eq!(scene.object("auth", &format!("2002@former-{n}")), None);
    }
    phone.switch_on().unwrap();
    assert_eq!(register(&registration(&phone)), RegisterOutcome::Registered);

    // And an account that is deleted in the middle of it leaves nothing.
    scene.admin.post("accounts/acme-2002/rotate", &json!({}));
    scene.run();
    assert!(scene.object("auth", "2002@former-1").is_some());
    scene
        .admin
        .patch(&format!("devices/{DESK}"), &json!({"lines": []}));
    scene.delete("acme-2002");
    scene.run();
    for name in ["2002", "2002@former-1"] {
        assert_eq!(scene.object("auth", name), None, "{name}");
    }
}

#[test]
fn a_display_name_and_a_context_are_mended_and_registrations_stay() {
    let Some(scene) = Scene::pushed() else { return };
    let desk = registration(&scene.yealink());
    assert_eq!(sipp::register(&desk).unwrap(), RegisterOutcome::Registered);
    scene
        .admin
        .patch("accounts/acme-2002", &json!({"display_name": "Anna Ünal"}));
    let run = scene.run();
    assert_eq!(
        (&run["actions"]["mend"], &run["online"]),
        (&1.into(), &1.into()),
        "{run}"
    );
    let endpoint = scene.object("endpoint", "2002").unwrap();
    assert!(endpoint["callerid"].contains("Anna Ünal"), "{endpoint:?}");

    scene
        .admin
        .patch("pbxes/main", &json!({"context": "from-phones"}));
    let run = scene.run();
    assert_eq!(
        (&run["actions"]["mend"], &run["online"]),
        (&3.into(), &1.into()),
        "{run}"
    );
    let endpoint = scene.object("endpoint", "2002").unwrap();
    assert_eq!(endpoint["context"], "from-phones", "{endpoint:?}");
    // Somebody took it away at the PBX: it is there again after the next run.
    let path = "/asterisk/config/dynamic/res_pjsip/endpoint/2003";
    let (status, text) = scene.asterisk.ari("DELETE", path, None).unwrap();
    assert_eq!(status, 204, "{text}");
    let run = scene.run();
    assert_eq!(run["actions"]["create"], 1, "{run}");
    assert!(scene.endpoints().contains_key("2003"), "{run}");
}
