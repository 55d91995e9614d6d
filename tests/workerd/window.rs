//! An armed window lets in whoever comes first, and nobody else ever.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dialtone_kit::http::{self, Response};
use serde_json::json;

use crate::office::{Made, Office, fresh_source};

/// How many ask for one window.
const CALLERS: usize = 1_000;
/// How many of them at the same time.
const AT_ONCE: usize = 50;

fn ask(office: &Office, made: &Made, source: IpAddr) -> Response {
    let url = format!("{}/rps?mac={}", office.url, made.mac);
    http::get(&url).source(source).send().unwrap()
}

/// Lets as many callers as that ask for a window, each from an address of its own and so many at the
/// same time, and gives their answers.
fn race(office: &Office, made: &Made, callers: usize) -> Vec<(IpAddr, Response)> {
    let next = AtomicUsize::new(0);
    let start = Barrier::new(AT_ONCE);
    let ask_on = || {
        let mut answers = Vec::new();
        start.wait();
        while next.fetch_add(1, Ordering::Relaxed) < callers {
            let source = fresh_source();
            answers.push((source, ask(office, made, source)));
        }
        answers
    };
    thread::scope(|scope| {
        let racers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(ask_on)).collect();
        racers
            .into_iter()
            .flat_map(|racer| racer.join().unwrap())
            .collect()
    })
}

/// The one that got in.
#[track_caller]
fn winner(answers: &[(IpAddr, Response)]) -> &(IpAddr, Response) {
    let (won, lost): (Vec<_>, Vec<_>) =
        answers.iter().partition(|(_, answer)| answer.status == 200);
    let sources: Vec<&IpAddr> = won.iter().map(|(source, _)| source).collect();
    assert_eq!(won.len(), 1, "these got in: {sources:?}");
    for (source, answer) in lost {
        let seen = (answer.status, answer.text());
        assert_eq!(seen, (404, "not found\n".to_owned()), "{source}");
    }
    won[0]
}

#[test]
fn of_a_thousand_callers_exactly_one_gets_in() {
    let office = Office::open("window-race");
    let made = office.yealink(&json!({"arm": "1h"}));
    let answers = race(&office, &made, CALLERS);
    assert_eq!(answers.len(), CALLERS);

    // The winner may have lost its answer; everybody else had their chance.
    let (winner, answer) = winner(&answers);
    assert_eq!(ask(&office, &made, *winner).text(), answer.text());
    assert_eq!(ask(&office, &made, fresh_source()).status, 404);
    let claim = &office.status(&made)["window"]["claim"];
    assert_eq!(claim["source"], winner.to_string(), "{claim}");
}

#[test]
fn each_of_many_windows_lets_one_in() {
    let office = Office::open("window-many");
    for _ in 0..10 {
        let made = office.yealink(&json!({"arm": "1h"}));
        winner(&race(&office, &made, AT_ONCE));
    }
}

#[test]
fn the_same_source_gets_the_same_answer_until_the_token_is_used() {
    let office = Office::open("window-same");
    let made = office.yealink(&json!({"arm": "1h"}));
    let host = |n: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 7, 7, 0, 0, 0, n));
    let first = ask(&office, &made, host(1));
    assert_eq!(first.status, 200, "{}", first.text());
    // A phone may have another address of its /64 a minute later.
    assert_eq!(ask(&office, &made, host(2)).text(), first.text());
    let neighbour = IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 7, 8, 0, 0, 0, 1));
    assert_eq!(ask(&office, &made, neighbour).status, 404, "another /64");

    assert_eq!(made.fetch("boot.cfg").status, 200);
    office.wait_for(&made, "booted");
    assert_eq!(
        ask(&office, &made, host(1)).status,
        404,
        "after the token was used"
    );
    // What a phone can show by itself lets it in at any time.
    assert_eq!(office.look_up(&made)["url"], made.base());
}

#[test]
fn a_phone_that_came_by_its_serial_closes_the_window_behind_it() {
    let office = Office::open("window-serial");
    let made = office.yealink(&json!({"arm": "1h"}));
    assert_eq!(made.fetch("boot.cfg").status, 200);
    office.wait_for(&made, "booted");
    assert_eq!(ask(&office, &made, fresh_source()).status, 404);
}

#[test]
fn arming_again_takes_from_the_claimant_what_it_got() {
    let office = Office::open("window-again");
    let made = office.yealink(&json!({"arm": "1h"}));
    let stranger = fresh_source();
    assert_eq!(ask(&office, &made, stranger).status, 200);
    let armed = office
        .admin
        .post(&format!("devices/{}/arm", made.mac), &json!({"arm": "30m"}));
    assert!(armed["armed_until"].is_string(), "{armed}");
    assert_eq!(
        made.fetch("ACC.cfg").status,
        404,
        "the stranger's token still opens"
    );
    let phone = ask(&office, &made, fresh_source());
    assert_eq!(phone.status, 200, "{}", phone.text());
    assert_eq!(ask(&office, &made, stranger).status, 404);
}

#[test]
fn without_a_window_or_where_the_tenant_takes_none_nobody_gets_in_by_a_mac() {
    let office = Office::open("window-none");
    let unarmed = office.yealink(&json!({}));
    assert_eq!(ask(&office, &unarmed, fresh_source()).status, 404);
    office
        .admin
        .patch("tenants/window-none", &json!({"proofs": ["serial"]}));
    let armed = office.yealink(&json!({"arm": "1h"}));
    assert_eq!(ask(&office, &armed, fresh_source()).status, 404);
    assert_eq!(office.look_up(&armed)["url"], armed.base());
}
