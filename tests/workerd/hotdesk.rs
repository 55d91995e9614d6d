//! A user logs in at a hot-desking phone over real HTTP: by PIN, elsewhere, and out again; and a PIN that was
//! guessed too often.

use dialtone_kit::http::{self, Response};
use serde_json::json;

use crate::office::{Made, Office};

const PIN: &str = "hotdesk-pin-2468";

/// What a phone sends.
fn post(made: &Made, form: &str) -> Response {
    let url = format!("{}hotdesk", made.base());
    let request = http::post(&url).header("content-type", "application/x-www-form-urlencoded");
    request.body(form).send().unwrap()
}

#[track_caller]
fn log_in(made: &Made, pin: &str, status: u16, text: &str) {
    let answer = post(made, &format!("action=login&user=1002&pin={pin}"));
    assert_eq!((answer.status, answer.text().as_str()), (status, text));
}

#[test]
fn a_user_logs_in_here_and_there_and_out_again() {
    let office = Office::open("hotdesk");
    let desk = json!({ "user_type": "hot-desking" });
    let (first, second) = (office.yealink(&desk), office.yealink(&desk));
    office
        .admin
        .patch(&office.account("1002"), &json!({ "pin": PIN }));
    let before = first.fetch("ACC.cfg").text();
    let at = |made: &Made| {
        let acc = made.fetch("ACC.cfg").text();
        let has = |number| acc.contains(&format!("account.1.user_name = {number}"));
        assert!(has("1001") != has("1002"), "{acc}");
        has("1002")
    };

    log_in(&first, PIN, 200, "logged in\n");
    assert_eq!((at(&first), at(&second)), (true, false));
    log_in(&second, PIN, 200, "logged in\n");
    assert_eq!((at(&first), at(&second)), (false, true));
    assert_eq!(first.fetch("ACC.cfg").text(), before);
    let path = format!("devices/{}/session", second.mac);
    assert_eq!(office.admin.get(&path)["account"], "hotdesk-1002");
    assert_eq!(office.status(&second)["session"]["account"], "hotdesk-1002");
    let out = post(&second, "action=logout");
    assert_eq!((out.status, out.text().as_str()), (200, "logged out\n"));
    assert!(!at(&second));

    // Five at once and one after another: no more of them is looked at.
    let wrong = "wrong user or PIN\n";
    std::thread::scope(|scope| {
        for n in 0..5 {
            let made = if n % 2 == 0 { &first } else { &second };
            scope.spawn(move || log_in(made, &format!("wrong-{n}"), 403, wrong));
        }
    });
    log_in(&first, PIN, 403, wrong);
    log_in(&second, PIN, 403, wrong);
    // An admin may.
    office
        .admin
        .put(&path, &json!({ "account": "hotdesk-1002", "hours": 1 }));
    assert!(at(&second));
    office.admin.delete(&path);
    log_in(&first, PIN, 200, "logged in\n");
    assert!(at(&first));
}
