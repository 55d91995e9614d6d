//! From power-on to registered, and to offline again.

use std::thread;
use std::time::{Duration, Instant};

use dialtone_kit::linphone::Linphone;
use dialtone_kit::sipp::{self, RegisterOutcome};

use crate::clear;
use crate::scene::{ACCOUNTS, DESK, FOREIGN, PASSWORD, SOFT, START, Scene, registration};

/// Takes a Linphone from its box to its registration, through the RPS.
pub fn set_up(scene: &Scene) -> Linphone {
    let mut linphone = scene.linphone();
    // Its first start: the RPS's document tells it where to go, and nothing else.
    let start = Instant::now();
    while scene.stage(SOFT) == "unseen" {
        assert!(start.elapsed() < START, "{}", linphone.log());
        thread::sleep(Duration::from_millis(100));
    }
    let status = linphone.register_status().unwrap();
    assert_eq!(status, "registered=0", "{}", linphone.rc());
    // Its second start.
    linphone.restart().unwrap();
    let status = linphone.wait_registered(START).unwrap();
    assert!(status.contains("sip:2001@127.0.0.1"), "{status}");
    let base = scene.soft["provisioning_url"].as_str().unwrap();
    let uri = format!("config-uri={base}{SOFT}.xml");
    assert!(linphone.rc().contains(&uri), "{}", linphone.rc());
    linphone
}

#[test]
fn phones_go_from_power_on_to_registered_and_to_offline() {
    let Some(scene) = Scene::new() else { return };
    let foreign = scene.objects();

    // The accounts appear at Asterisk with our mark, and what is not ours stays as it is.
    let run = scene.run();
    assert_eq!(run["outcome"], "ok", "{run}");
    assert_eq!(run["actions"]["create"], 3, "{run}");
    let endpoints = scene.endpoints();
    for number in ACCOUNTS {
        let state = endpoints.get(number).map(String::as_str);
        assert_eq!(state, Some("offline"), "{number} in {endpoints:?}");
        for class in ["endpoint", "aor", "auth"] {
            let object = scene.object(class, number).unwrap();
            if class != "auth" {
                let mark = object.get("@dialtone");
                assert_eq!(mark, Some(&format!("acme-{number}")), "{object:?}");
            }
            let shown = format!("{object:?}");
            assert!(!shown.contains("p[a]ss"), "a password in clear: {shown}");
        }
    }
    assert_eq!(
        scene.object("endpoint", FOREIGN),
        foreign["endpoint/foreign"]
    );
    assert_eq!(
        run["unowned"]["first"],
        serde_json::json!([FOREIGN]),
        "{run}"
    );

    // What is as it should be is not pushed again.
    let run = scene.run();
    let done: u64 = run["actions"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(done, 0, "{run}");
    assert_eq!(
        (scene.stage(SOFT), scene.stage(DESK)),
        ("unseen".into(), "unseen".into())
    );

    let mut linphone = set_up(&scene);
    let desk = registration(&scene.yealink());
    assert_eq!(
        (desk.user.as_str(), desk.auth_user.as_str()),
        ("2002", "desk-login")
    );
    assert_eq!(desk.password, format!("{PASSWORD}2002"));
    assert_eq!(sipp::register(&desk).unwrap(), RegisterOutcome::Registered);
    let run = scene.run();
    assert_eq!(
        (&run["online"], &run["outcome"]),
        (&2.into(), &"ok".into()),
        "{run}"
    );
    assert_eq!(
        (scene.stage(SOFT), scene.stage(DESK)),
        ("registered".into(), "registered".into())
    );

    assert_eq!(
        sipp::unregister(&desk).unwrap(),
        RegisterOutcome::Registered
    );
    linphone.quit().unwrap();
    let run = scene.run();
    assert_eq!(
        (&run["online"], &run["outcome"]),
        (&0.into(), &"ok".into()),
        "{run}"
    );
    assert_eq!(
        (scene.stage(SOFT), scene.stage(DESK)),
        ("offline".into(), "offline".into())
    );

    // And no password of all this stands in clear anywhere.
    let ha1 = scene.object("auth", "2001").unwrap()["md5_cred"].clone();
    assert!(
        linphone.rc().contains(&ha1),
        "another hash than Asterisk's: {}",
        linphone.rc()
    );
    let mut secrets = vec![
        ("the hash of a password", ha1),
        ("the ARI password", scene.asterisk.ari_password().to_owned()),
    ];
    for number in ACCOUNTS {
        secrets.push(("an account's password", format!("{PASSWORD}{number}")));
    }
    clear::not_in_files(scene.worker.persist_dir(), &secrets, "acme-2001");
    clear::not_in("the Worker's log", &scene.worker.log(), &secrets);
    clear::not_in("Asterisk's log", &scene.asterisk.log(), &secrets);
}
