//! A new password reaches Asterisk and the phones, and the old one ends.

use dialtone_kit::sipp::{self, RegisterOutcome};
use serde_json::json;

use crate::flow::set_up;
use crate::scene::{DESK, SOFT, START, Scene, registration};

#[test]
fn a_new_password_takes_effect_at_asterisk_and_at_both_phones() {
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
        (&run["outcome"], &run["actions"]["mend"]),
        (&"ok".into(), &2.into()),
        "{run}"
    );
    assert_eq!(sipp::register(&old).unwrap(), RegisterOutcome::Refused(401));
    phone.switch_on().unwrap();
    let new = registration(&phone);
    assert_eq!(new.password, "new password of 2002");
    assert_eq!(sipp::register(&new).unwrap(), RegisterOutcome::Registered);

    // It has the old hash in its own configuration, and takes the new one over it.
    linphone.restart().unwrap();
    linphone.wait_registered(START).unwrap();
    let run = scene.run();
    assert_eq!(run["online"], 2, "{run}");
    assert_eq!(
        (scene.stage(SOFT), scene.stage(DESK)),
        ("registered".into(), "registered".into())
    );
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
