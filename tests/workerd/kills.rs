//! The Worker's process is killed in the middle of saves, rotations, batches and a scheduled run, at moments
//! that a seed draws, and callers go away in the middle of a body: afterwards records, files and the PBX agree.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use dialtone::step7_register::ha1;
use dialtone_kit::http::{self, Response};
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::asterisk::Asterisk;
use crate::dice::{Dice, seed};
use crate::readers;

const ARI_USER: &str = "dialtone";
const ARI_PASSWORD: &str = "kills-ari-password";
const REALM: &str = "kills.example";

/// How many accounts there are, and how many of them are on a phone.
const ACCOUNTS: usize = 8;
const PHONES: usize = 4;

/// How often the Worker is killed.
const KILLS: usize = 12;

/// How long a run that was killed keeps the next one away, and some more.
const LEASE: Duration = Duration::from_secs(155);

/// How many runs may pass until all saves are finished that were cut off: each finishes four.
const FINISHED_WITHIN: usize = 8;

/// The model of Asterisk behind a port. Its thread ends with the test's process.
fn pbx() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let asterisk = Asterisk::new(ARI_USER, ARI_PASSWORD);
        for stream in listener.incoming().flatten() {
            // A caller that is killed is no trouble of this thread's.
            let _ = answer(&stream, &asterisk);
        }
    });
    url
}

fn answer(stream: &TcpStream, asterisk: &Asterisk) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let mut request = ::http::Request::builder().method(&*word()).uri(word());
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 {
            return Ok(());
        }
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().unwrap_or(0);
        }
        request = request.header(name, value);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let Ok(answer) = asterisk.answer(&request.body(body).unwrap()) else {
        return Ok(());
    };
    let kind = answer.headers().get("content-type");
    let kind = kind.map_or("text/plain", |kind| kind.to_str().unwrap());
    let head = format!(
        "HTTP/1.1 {} X\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        answer.status().as_u16(),
        answer.body().len()
    );
    let mut stream = stream;
    stream.write_all(&[head.as_bytes(), answer.body()].concat())
}

fn mac(n: usize) -> String {
    format!("805ec9{n:06x}")
}

fn account(n: usize, name: &str) -> Value {
    json!({ "tenant": "kills", "pbx": "kills", "username": format!("10{n:02}"), "display_name": name })
}

fn device(n: usize) -> Value {
    json!({ "tenant": "kills", "vendor": "yealink", "model": "T46U",
        "lines": [{ "line": 1, "account": format!("kills-{n}") }] })
}

/// What is under way when the Worker is killed.
#[derive(Debug, Clone, Copy)]
enum Work {
    Run,
    Save,
    Rotation,
    Password,
    Batch,
}

impl Work {
    const ALL: [Self; 5] = [
        Self::Run,
        Self::Save,
        Self::Rotation,
        Self::Password,
        Self::Batch,
    ];

    /// Does it; whoever is killed gives no answer.
    fn begin(self, worker: &Handle, n: usize, round: usize) {
        let name = format!("Round {round}");
        let path = format!("accounts/kills-{n}");
        let admin = &worker.admin;
        let request = match self {
            Self::Run => {
                let url = format!("{}/cdn-cgi/handler/scheduled?cron=*+*+*+*+*", worker.url);
                http::get(&url).limit(Duration::from_mins(3))
            }
            Self::Save => admin
                .request("PATCH", &path)
                .json(&json!({ "display_name": name })),
            Self::Rotation => {
                let path = format!("devices/{}/rotate", mac(n % PHONES));
                admin.request("POST", &path).json(&json!({}))
            }
            Self::Password => admin
                .request("POST", &format!("{path}/rotate"))
                .json(&json!({})),
            Self::Batch => admin
                .request("POST", "accounts/batch")
                .header("Content-Type", "application/x-ndjson")
                .body(batch(&name)),
        };
        let _: Result<Response, _> = request.send();
    }
}

fn batch(name: &str) -> String {
    let lines = (0..ACCOUNTS).map(|n| {
        let mut line = account(n, name);
        line["id"] = json!(format!("kills-{n}"));
        line.to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What another thread needs of a Worker.
struct Handle {
    url: String,
    admin: Admin,
}

/// Sends half of a body and goes away.
fn goes_away(worker: &Workerd, body: &str) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, worker.port())).unwrap();
    let head = format!(
        "POST /api/v1/accounts/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        worker.admin_token(),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
        .write_all(&body.as_bytes()[..body.len() / 2])
        .unwrap();
}

fn ari(pbx: &str, path: &str) -> Value {
    use base64::Engine as _;
    let login = format!("{ARI_USER}:{ARI_PASSWORD}");
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    let request = http::get(&format!("{pbx}/ari{path}"));
    let answer = request
        .header("Authorization", &format!("Basic {login}"))
        .send()
        .unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json().unwrap()
}

/// The fields of an object at the PBX.
fn object(pbx: &str, class: &str, name: &str) -> BTreeMap<String, String> {
    let fields = ari(
        pbx,
        &format!("/asterisk/config/dynamic/res_pjsip/{class}/{name}"),
    );
    let fields = fields.as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    fields
        .map(|field| (text(&field["attribute"]), text(&field["value"])))
        .collect()
}

/// Runs until one was let to work; a run that was killed keeps others away for a while.
fn next_run(worker: &Workerd, admin: &Admin) -> Value {
    let before = admin.get("status")["reconcile"]["at"].clone();
    let start = Instant::now();
    loop {
        worker.trigger_cron().unwrap();
        let run = admin.get("status")["reconcile"].clone();
        if run["at"] != before {
            return run;
        }
        assert!(start.elapsed() < LEASE, "no run begins");
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_worker_that_is_killed_at_any_moment_leaves_records_files_and_pbx_in_line() {
    let seed = seed(0x6b69_6c6c);
    eprintln!("DIALTONE_SEED={seed}");
    let mut dice = Dice::new(seed);
    let pbx = pbx();
    let mut worker = Workerd::start(&Options::new()).unwrap();
    let admin = Admin::of(&worker);
    admin.put("tenants/kills", &json!({}));
    let record = json!({
        "tenant": "kills", "mode": "push", "ari_url": format!("{pbx}/ari"), "ari_username": ARI_USER,
        "ari_password": ARI_PASSWORD, "realm": REALM, "sip": { "host": "127.0.0.1" },
    });
    admin.put("pbxes/kills", &record);
    let mut lengths = Vec::new();
    for n in 0..ACCOUNTS {
        admin.put(&format!("accounts/kills-{n}"), &account(n, "First"));
    }
    for n in 0..PHONES {
        admin.put(&format!("devices/{}", mac(n)), &device(n));
    }
    let handle = || Handle {
        url: worker.url(),
        admin: Admin::of(&worker),
    };
    for work in Work::ALL {
        let handle = handle();
        let start = Instant::now();
        work.begin(&handle, 0, 0);
        lengths.push(start.elapsed());
    }
    // The run has something to do, as it had when it was measured.
    let handle = handle();
    Work::Batch.begin(&handle, 0, 1);
    for round in 0..KILLS {
        // One run only: it keeps the others away until its lease is over.
        let which = if round == 0 {
            0
        } else {
            1 + dice.roll(Work::ALL.len() - 1)
        };
        let (work, length) = (Work::ALL[which], lengths[which]);
        let n = dice.roll(ACCOUNTS);
        let moment = length.mul_f64(f64::from(u32::try_from(dice.roll(100)).unwrap()) / 100.0);
        thread::scope(|scope| {
            scope.spawn(|| work.begin(&handle, n, round + 2));
            thread::sleep(moment);
            worker.kill().unwrap();
        });
        worker.restart().unwrap();
        if round % 4 == 0 {
            goes_away(&worker, &batch("Nobody"));
        }
    }
    // By then what is unfinished is no save under way any more.
    thread::sleep(Duration::from_secs(31));
    let mut left = Value::Null;
    for _ in 0..FINISHED_WITHIN {
        left = next_run(&worker, &admin)["unfinished"].clone();
        if left == 0 {
            break;
        }
    }
    assert_eq!(left, 0, "DIALTONE_SEED={seed}");
    for _ in 0..2 {
        let run = next_run(&worker, &admin);
        assert_eq!(run["pbxes"]["kills"]["outcome"], "ok", "{run}");
    }
    agree(&admin, &pbx, seed);
}

fn agree(admin: &Admin, pbx: &str, seed: u64) {
    let listed = admin.get("accounts?tenant=kills")["items"].clone();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), ACCOUNTS);
    let mut names = BTreeSet::new();
    for item in listed {
        let what = format!("DIALTONE_SEED={seed}: {item}");
        // The list is KV's, the record R2's.
        let id = item["id"].as_str().unwrap();
        let record = admin.get(&format!("accounts/{id}"));
        assert_eq!(&record, item, "{what}");
        let name = record["username"].as_str().unwrap();
        assert_ne!(record["display_name"], "Nobody", "{what}");
        let caller = format!("\"{}\" <{name}>", record["display_name"].as_str().unwrap());
        assert_eq!(object(pbx, "endpoint", name)["callerid"], caller, "{what}");
        names.insert(name.to_owned());
    }
    let there = ari(pbx, "/endpoints");
    let there = there.as_array().unwrap().iter();
    let there = there.map(|endpoint| endpoint["resource"].as_str().unwrap().to_owned());
    assert_eq!(there.collect::<BTreeSet<_>>(), names);
    for n in 0..PHONES {
        let device = admin.get(&format!("devices/{}?secrets=1", mac(n)));
        let base = device["provisioning_url"].as_str().unwrap();
        let acc = http::get(&format!("{base}ACC.cfg")).send().unwrap();
        assert_eq!(acc.status, 200, "{}", acc.text());
        let acc = readers::yealink(&acc.text()).unwrap().settings;
        let record = admin.get(&format!("accounts/kills-{n}"));
        let name = record["username"].as_str().unwrap();
        assert_eq!(acc["account.1.user_name"], name);
        assert_eq!(
            acc["account.1.display_name"],
            record["display_name"].as_str().unwrap()
        );
        let cred = ha1(name, REALM, &acc["account.1.password"]);
        assert_eq!(
            object(pbx, "auth", name)["md5_cred"],
            cred,
            "DIALTONE_SEED={seed}: {name}"
        );
        let first = http::get(&format!("{base}first.cfg"))
            .send()
            .unwrap()
            .text();
        let first = readers::yealink(&first).unwrap().settings;
        assert_eq!(first["static.auto_provision.server.url"], base);
    }
    let audit = admin.get("audit?tenant=kills&verify=1");
    assert_eq!(audit["verified"], true, "DIALTONE_SEED={seed}: {audit}");
}
