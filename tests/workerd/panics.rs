//! A Rust panic costs the requests that are under way at that moment an error, and nobody else
//! anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dialtone_kit::http;
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::json;

use crate::office::Office;

/// Far below workerd's own patience with a request that hangs.
const AT_ONCE: Duration = Duration::from_secs(5);

/// How many phones ask without a pause while the Worker panics.
const PHONES: usize = 8;

#[test]
fn a_panic_is_answered_at_once_and_hangs_nobody() {
    let worker = Workerd::start(&Options::new().feature("panic-probe")).unwrap();
    let office = Office::open_at(&worker, "panics", &json!({}));
    let made = office.yealink(&json!({}));
    let acc = made.fetch("ACC.cfg");
    assert_eq!(acc.status, 200, "{}", acc.text());
    let over = AtomicBool::new(false);

    let ask = || {
        let mut answers = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let start = Instant::now();
            let url = format!("{}ACC.cfg", made.base());
            let answer = http::get(&url).limit(AT_ONCE).send();
            answers.push((
                answer.map(|answer| (answer.status, answer.body)),
                start.elapsed(),
            ));
        }
        answers
    };
    let answers = thread::scope(|scope| {
        let phones: Vec<_> = (0..PHONES).map(|_| scope.spawn(ask)).collect();
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(100));
            let panic = http::get(&format!("{}/panic", worker.url()))
                .limit(AT_ONCE)
                .send()
                .unwrap();
            let text = panic.text();
            assert_eq!(
                (panic.status, text.as_str()),
                (500, "Internal Server Error\n")
            );
            // The very next request has a Worker that is whole.
            let next = made.fetch("ACC.cfg");
            assert!(matches!(next.status, 200 | 500), "{}", next.text());
        }
        over.store(true, Ordering::Relaxed);
        phones
            .into_iter()
            .flat_map(|phone| phone.join().unwrap())
            .collect::<Vec<_>>()
    });
    let mut served = 0;
    for (answer, took) in &answers {
        let Ok((status, body)) = answer else {
            panic!("no answer after {took:?}: {answer:?}");
        };
        match status {
            200 => {
                served += 1;
                assert_eq!(body, &acc.body, "another file after a panic");
            }
            500 => {}
            status => panic!("{status} after {took:?}: {}", String::from_utf8_lossy(body)),
        }
    }
    let count = answers.len();
    assert!(
        served * 2 > count,
        "only {served} of {count} were served while the Worker panicked 10 times"
    );

    for _ in 0..20 {
        assert_eq!(made.fetch("ACC.cfg").body, acc.body);
    }
    office
        .admin
        .patch(&office.account("1001"), &json!({"display_name": "After"}));
    assert!(made.fetch("ACC.cfg").text().contains("After"));
}
