//! The scheduled handler against PBXes of every mood. They are played here, since what a real
//! Asterisk does is the next ring's business; this one is about one PBX not troubling another.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::office::{Made, Office, eventually};

/// A run waits ten seconds for a PBX that does not answer, and not once more for each.
const BOUND: Duration = Duration::from_secs(30);

/// Something that speaks HTTP like an ARI, and says what it is told to say.
pub struct Ari {
    url: String,
    says: Arc<Mutex<(u16, String)>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Ari {
    /// One whose list of endpoints is empty. Its thread ends with the test's process.
    pub fn start() -> Self {
        Self::slow(Duration::ZERO)
    }

    /// One that takes its time for each answer.
    fn slow(delay: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ari = Self {
            url: format!("http://{}/ari", listener.local_addr().unwrap()),
            says: Arc::new(Mutex::new((200, "[]".to_owned()))),
            asked: Arc::default(),
        };
        let (says, asked) = (Arc::clone(&ari.says), Arc::clone(&ari.asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::sleep(delay);
                // A caller that goes away is no trouble of this thread's.
                let _ = answer(&stream, &says.lock().unwrap(), &asked);
            }
        });
        ari
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it answers from now on.
    pub fn says(&self, status: u16, body: &Value) {
        *self.says.lock().unwrap() = (status, body.to_string());
    }

    /// The requests that came since this was last called, in order.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn answer(
    stream: &TcpStream,
    (status, body): &(u16, String),
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    let mut length = 0;
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {
        let last = head
            .lines()
            .next_back()
            .unwrap_or_default()
            .to_ascii_lowercase();
        if let Some(value) = last.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    asked
        .lock()
        .unwrap()
        .push(head.lines().next().unwrap_or_default().to_owned());
    // What it says with a redirect is where to.
    let location = match status {
        300..400 => format!("Location: {}\r\n", body.trim_matches('"')),
        _ => String::new(),
    };
    write!(
        &*stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n\
         {location}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An entry of the list of endpoints.
pub fn endpoint((name, state): (&str, &str)) -> Value {
    json!({"technology": "PJSIP", "resource": name, "state": state, "channel_ids": []})
}

/// A customer for each PBX, with a Yealink, and what a run must say of it.
fn open<'a>(worker: &Workerd, pbxes: &[(&str, &str, &'a str)]) -> Vec<(Office, Made, &'a str)> {
    pbxes
        .iter()
        .map(|(id, url, outcome)| {
            let office = Office::open_at(worker, id, &json!({}));
            office.admin.put(&office.pbx(), &office.pbx_at(url));
            let made = office.yealink(&json!({}));
            (office, made, *outcome)
        })
        .collect()
}

/// What the last run did.
fn last_run(worker: &Workerd) -> Value {
    Admin::of(worker).get("status")["reconcile"].clone()
}

#[test]
fn a_run_sees_each_pbx_for_itself_and_says_what_is_wrong_with_it() {
    let worker = Workerd::start(&Options::new()).unwrap();
    assert_eq!(last_run(&worker), Value::Null);
    // Nobody there yet: a run is a run.
    worker.trigger_cron().unwrap();
    let mut run = last_run(&worker);
    assert!(run["at"].is_string(), "{run}");
    run["at"].take();
    assert!(
        run["calls"].as_u64().is_some_and(|calls| calls < 30),
        "{run}"
    );
    run["calls"].take();
    let nothing = json!({
        "at": null, "accounts": "ok", "finished": 0, "unfinished": 0, "rollouts": 0, "calls": null,
        "pbxes": {},
    });
    assert_eq!(run, nothing);

    let (fine, refusing, lost) = (Ari::start(), Ari::start(), Ari::start());
    let endpoints = [("1001", "online"), ("1002", "offline"), ("9", "offline")];
    fine.says(200, &json!(endpoints.map(endpoint)));
    refusing.says(401, &json!({"message": "Authentication required"}));
    lost.says(200, &json!({"message": "this is no list"}));
    // It takes connections and never says a word.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = |listener: &TcpListener| format!("http://{}/ari", listener.local_addr().unwrap());
    // Let go at once.
    let closed = url(&TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let pbxes = [
        ("fine", fine.url(), "ok"),
        ("refusing", refusing.url(), "http 401"),
        ("lost", lost.url(), "not a list of endpoints"),
        ("silent", &url(&silent), "timed out"),
        ("closed", &closed, "unreachable"),
    ];
    let offices = open(&worker, &pbxes);

    let start = Instant::now();
    worker.trigger_cron().unwrap();
    let took = start.elapsed();
    assert!(took < BOUND, "the run took {took:?}");
    let run = last_run(&worker);
    for (office, made, outcome) in &offices {
        let pbx = &run["pbxes"][format!("{}-pbx", office.id)];
        assert_eq!(pbx["outcome"], *outcome, "{}: {run}", office.id);
        let status = office.status(made);
        let seen = (&status["status"], &status["lines"][0]["state"]);
        let expected = match office.id.as_str() {
            "fine" => ("registered", "online"),
            _ => ("unseen", "unknown"),
        };
        assert_eq!(seen, (&json!(expected.0), &json!(expected.1)), "{status}");
    }
    let seen = &run["pbxes"]["fine-pbx"];
    let counts = ["endpoints", "online", "offline"].map(|name| seen[name].as_u64());
    assert_eq!(counts, [Some(3), Some(1), Some(2)], "{seen}");
    let line = r#"{"event":"pbx.trouble","pbx":"silent-pbx","why":"timed out"}"#;
    assert!(worker.log().contains(line), "{}", worker.log());
    // Observed, and never touched.
    assert_eq!(fine.asked(), ["GET /ari/endpoints HTTP/1.1"]);

    // Whose an endpoint is not is only known when all accounts were listed since the PBX is watched.
    let mut unowned = Value::Null;
    for _ in 0..12 {
        // The next pass over the list of accounts begins half a minute after the last one.
        thread::sleep(Duration::from_secs(4));
        worker.trigger_cron().unwrap();
        unowned = last_run(&worker)["pbxes"]["fine-pbx"]["unowned"].take();
        if unowned["count"] != 0 {
            break;
        }
    }
    assert_eq!(unowned, json!({"count": 1, "first": ["9"]}));
}

#[test]
fn a_pbx_leads_the_worker_nowhere_else() {
    let worker = Workerd::start(&Options::new()).unwrap();
    let (leading, inside) = (Ari::start(), Ari::start());
    leading.says(302, &json!(format!("{}/endpoints", inside.url())));
    let offices = open(&worker, &[("leading", leading.url(), "http 302")]);
    worker.trigger_cron().unwrap();
    let (office, _, outcome) = &offices[0];
    let run = last_run(&worker);
    assert_eq!(
        run["pbxes"][office.id.clone() + "-pbx"]["outcome"],
        *outcome,
        "{run}"
    );
    assert_eq!(leading.asked().len(), 1);
    assert_eq!(inside.asked(), Vec::<String>::new());
}

#[test]
fn a_phone_is_what_its_pbx_said_last() {
    let worker = Workerd::start(&Options::new()).unwrap();
    let ari = Ari::start();
    let offices = open(&worker, &[("last", ari.url(), "ok")]);
    let (office, made, _) = &offices[0];
    let mut port = 5_060;
    let list = |state| json!([endpoint(("1001", state))]);
    let no_list = json!({"message": "Asterisk not booted"});
    for (status, body, stage, outcome) in [
        (200, json!([]), "unseen", "ok"),
        (200, list("offline"), "unseen", "ok"),
        (503, no_list.clone(), "unseen", "http 503"),
        (200, list("online"), "registered", "ok"),
        (503, no_list.clone(), "registered", "http 503"),
        (404, no_list.clone(), "registered", "http 404"),
        (200, list("unknown"), "registered", "ok"),
        (200, list("offline"), "offline", "ok"),
        (503, no_list, "offline", "http 503"),
        (200, list("online"), "registered", "ok"),
        (200, json!([]), "offline", "ok"),
    ] {
        ari.says(status, &body);
        // Whoever changes the record has the next run ask again, however often the PBX failed.
        port = 11_121 - port;
        let sip = json!({"sip": {"port": port}});
        office.admin.patch(&office.pbx(), &sip);
        worker.trigger_cron().unwrap();
        let run = last_run(&worker);
        let said = format!("the PBX said {status} {body}: {run}");
        assert_eq!(run["pbxes"]["last-pbx"]["outcome"], outcome, "{said}");
        assert_eq!(office.status(made)["status"], stage, "{said}");
        let devices = &office.admin.get("status")["devices"];
        assert_eq!(devices[stage], 1, "{said}: {devices}");
    }
}

#[test]
fn of_several_runs_at_once_one_works() {
    const RUNS: usize = 5;
    let worker = Workerd::start(&Options::new()).unwrap();
    let ari = Ari::slow(Duration::from_secs(2));
    open(&worker, &[("several", ari.url(), "ok")]);
    thread::scope(|scope| {
        for _ in 0..RUNS {
            scope.spawn(|| worker.trigger_cron().unwrap());
        }
    });
    let asked = ari.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let busy = eventually(|| {
        let count = worker.log().matches(r#"{"event":"tick.busy"}"#).count();
        if count == RUNS - 1 {
            Ok(())
        } else {
            Err(count)
        }
    });
    assert_eq!(busy, Ok(()), "this many were told to let it be");
    // And it lets the next one work.
    worker.trigger_cron().unwrap();
    assert_eq!(ari.asked().len(), 1);
}
