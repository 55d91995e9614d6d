//! From power-on to registered, and to offline again.

use std::thread;
use std::time::{Duration, Instant};

use dialtone_kit::linphone::Linphone;
use dialtone_kit::sipp::{self, RegisterOutcome};
use serde_json::{Value, json};

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

#[test]
fn an_endpoint_has_the_mailbox_and_the_codecs_of_the_records_and_its_phone_is_told_of_messages() {
    let Some(scene) = Scene::pushed() else { return };
    let field =
        |class: &str, attribute: &str| scene.object(class, "2002").unwrap()[attribute].clone();
    let mailboxes = || {
        let of = |class| field(class, "mailboxes");
        assert_eq!(of("endpoint"), of("aor"));
        of("aor")
    };
    let mends = |expected: u64| {
        let run = scene.run();
        let done = json!({"create": 0, "mend": expected, "adopt": 0, "check": 0, "delete": 0});
        assert_eq!(
            (&run["outcome"], &run["actions"]),
            (&"ok".into(), &done),
            "{run}"
        );
        // What is as it should be is not written again, whatever Asterisk makes of the values.
        let run = scene.run();
        let none = json!({"create": 0, "mend": 0, "adopt": 0, "check": 0, "delete": 0});
        assert_eq!(run["actions"], none, "{run}");
    };
    mends(0);
    assert_eq!(mailboxes(), "");
    assert_eq!(field("endpoint", "allow"), "(g722|alaw|ulaw)");

    scene.asterisk.leave_message("2002").unwrap();
    let mailbox = |mailbox: Value| {
        scene
            .admin
            .patch("accounts/acme-2002", &json!({"mailbox": mailbox}));
    };
    mailbox(json!("2002@default"));
    mends(1);
    assert_eq!(mailboxes(), "2002@default");
    // A phone that subscribes to nothing, and one that does.
    let desk = registration(&scene.yealink());
    assert_eq!(sipp::register(&desk).unwrap(), RegisterOutcome::Registered);
    let waiting = "Messages-Waiting: yes Voice-Message: 1/0 (0/0)";
    assert_eq!(sipp::notification(&desk).unwrap(), waiting);
    assert_eq!(sipp::subscribe(&desk).unwrap(), waiting);
    let shown = scene.asterisk.cli("pjsip show endpoint 2002").unwrap();
    let shown: Vec<_> = shown
        .lines()
        .filter(|line| line.contains("mailboxes"))
        .collect();
    assert!(
        shown.iter().any(|line| line.ends_with(": 2002@default")),
        "{shown:?}"
    );

    for codecs in [
        json!(["pcma"]),
        json!(["opus", "g729", "g722", "pcmu", "pcma"]),
    ] {
        scene.admin.patch("pbxes/main", &json!({"codecs": codecs}));
        mends(3);
        assert_eq!(mailboxes(), "2002@default");
    }
    assert_eq!(field("endpoint", "allow"), "(opus|g729|g722|ulaw|alaw)");
    mailbox(Value::Null);
    mends(1);
    assert_eq!(mailboxes(), "");
    // Of no mailbox nobody can subscribe to messages.
    assert!(sipp::subscribe(&desk).is_err());
}
