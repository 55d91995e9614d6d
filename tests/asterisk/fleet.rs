//! A PBX with five hundred accounts, which dies, hangs and comes back in the middle of runs: it always ends
//! with exactly what the records say, and with everything of somebody else's as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dialtone_kit::asterisk::{self, Asterisk, StaticEndpoint};
use dialtone_kit::faults::{Fault, Road};
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::scene::{confirm, endpoints_of, installed, object_of, put_foreign};

const ACCOUNTS: usize = 500;

/// How many admins write at the same time.
const ADMINS: usize = 4;

/// More than the most runs that five hundred accounts of one PBX take, at fifty actions each; a deleted one takes two.
const RUNS: usize = 40;

/// How long a deleted endpoint may still be listed.
const LINGERS: Duration = Duration::from_secs(10);

/// Endpoints of somebody else: in `pjsip.conf`, and made by ARI.
const STATIC: [&str; 2] = ["door", "reception"];
const DYNAMIC: [&str; 2] = ["theirs-1", "theirs-2"];

/// What happens to Asterisk before a call of a run goes on.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// SIGKILL, and it comes back after the run.
    Killed,
    /// SIGSTOP, until the run is over.
    Hangs,
    /// SIGKILL, and it is back before the call goes on: the last second's writes are lost.
    Crashes,
    /// It is restarted in good order before the call goes on.
    Restarts,
}

/// At which call of a run which blow falls: within the listing, between the objects of an account, within
/// its deletion.
const BLOWS: [(u64, Blow); 10] = [
    (0, Blow::Killed),
    (1, Blow::Crashes),
    (5, Blow::Killed),
    (9, Blow::Hangs),
    (12, Blow::Crashes),
    (17, Blow::Restarts),
    (23, Blow::Killed),
    (38, Blow::Crashes),
    (61, Blow::Hangs),
    (77, Blow::Crashes),
];

struct Fleet {
    worker: Workerd,
    admin: Admin,
    asterisk: Arc<Mutex<Asterisk>>,
    road: Road,
    /// What must be there: the display name of each name at Asterisk.
    expected: BTreeMap<String, String>,
    /// What is not ours, as Asterisk's database has it.
    foreign: Vec<String>,
}

impl Fleet {
    fn new() -> Option<Self> {
        let options = asterisk::Options {
            endpoints: STATIC
                .iter()
                .map(|user| StaticEndpoint {
                    user: (*user).to_owned(),
                    password: "secret".to_owned(),
                })
                .collect(),
            tls: false,
        };
        let asterisk = installed()?.start(&options).unwrap();
        let road = Road::open(asterisk.http_port()).unwrap();
        let worker = Workerd::start(&Options::new()).unwrap();
        let admin = Admin::of(&worker);
        admin.put("tenants/acme", &json!({}));
        let mut pbx = crate::scene::pbx(&asterisk);
        pbx["ari_url"] = json!(format!("http://127.0.0.1:{}/ari", road.port()));
        admin.put("pbxes/main", &pbx);
        for name in DYNAMIC {
            let endpoint = [("allow", "alaw"), ("callerid", "x <1>"), ("@owner", "them")];
            put_foreign(&asterisk, "endpoint", name, &endpoint);
            put_foreign(&asterisk, "aor", name, &[("max_contacts", "3")]);
        }
        let mut fleet = Self {
            worker,
            admin,
            foreign: Vec::new(),
            asterisk: Arc::new(Mutex::new(asterisk)),
            road,
            expected: BTreeMap::new(),
        };
        fleet.foreign = fleet.not_ours();
        assert_eq!(
            fleet.foreign.len(),
            DYNAMIC.len() * 2,
            "{:?}",
            fleet.foreign
        );
        Some(fleet)
    }

    /// What Asterisk's database has of objects that are not the accounts'.
    fn not_ours(&self) -> Vec<String> {
        let shown = self.asterisk.lock().unwrap().cli("database show").unwrap();
        let line = |line: &&str| DYNAMIC.iter().any(|name| line.contains(name));
        shown.lines().filter(line).map(str::to_owned).collect()
    }

    /// Does something with each of these accounts, several at the same time.
    fn each(&self, numbers: &[usize], call: impl Fn(&Admin, usize) + Sync) {
        thread::scope(|scope| {
            for part in numbers.chunks(numbers.len().div_ceil(ADMINS)) {
                let call = &call;
                scope.spawn(move || part.iter().for_each(|number| call(&self.admin, *number)));
            }
        });
    }

    fn create(&mut self, numbers: &[usize]) {
        self.each(numbers, |admin, number| {
            admin.put(&id(number), &account(number));
        });
        let made = numbers.iter().map(|n| (n.to_string(), format!("User {n}")));
        self.expected.extend(made);
    }

    fn change(&mut self, numbers: &[usize], display: &str) {
        self.each(numbers, |admin, number| {
            let display = format!("{display} {number}");
            admin.patch(&id(number), &json!({ "display_name": display }));
        });
        for number in numbers {
            let display = format!("{display} {number}");
            self.expected.insert(number.to_string(), display);
        }
    }

    fn rename(&mut self, numbers: &[usize]) {
        self.each(numbers, |admin, number| {
            admin.patch(&id(number), &json!({ "username": format!("r{number}") }));
        });
        confirm(&self.admin);
        for number in numbers {
            let display = self.expected.remove(&number.to_string()).unwrap();
            self.expected.insert(format!("r{number}"), display);
        }
    }

    fn delete(&mut self, numbers: &[usize]) {
        self.each(numbers, |admin, number| admin.delete(&id(number)));
        // Ten minutes of grace, and the breaker's word, are for others to test.
        confirm(&self.admin);
        for number in numbers {
            self.expected.remove(&number.to_string());
            self.expected.remove(&format!("r{number}"));
        }
    }

    fn run(&self) -> Value {
        crate::scene::run(&self.worker)
    }

    /// Runs until a run changes nothing; then everything must be as the records say, and the run after
    /// must write nothing at all.
    #[track_caller]
    fn settles(&self, what: &str) {
        for _ in 0..RUNS {
            let run = self.run();
            let done = |kind: &str| run["actions"][kind] == 0 && run["due"][kind] == 0;
            let kinds = ["create", "mend", "adopt", "delete"];
            if run["outcome"] == "ok" && run["waiting"] == 0 && kinds.into_iter().all(done) {
                self.is_exact(what, &run);
                let writes = Arc::new(Mutex::new(Vec::new()));
                let seen = Arc::clone(&writes);
                self.road.set(move |call| {
                    if call.method != "GET" {
                        seen.lock().unwrap().push(call.clone());
                    }
                    Fault::None
                });
                let quiet = self.run();
                self.road.clear();
                assert_eq!(*writes.lock().unwrap(), [], "{what}: {quiet}");
                return;
            }
            if run["due"]["delete"] != 0 {
                // A name is given up when Asterisk surely has it on its disk that nothing is left.
                thread::sleep(Duration::from_secs(1));
            }
        }
        panic!("{what}: not settled: {}", self.run());
    }

    #[track_caller]
    fn is_exact(&self, what: &str, run: &Value) {
        let asterisk = self.asterisk.lock().unwrap();
        let ours = self.expected.keys().map(String::as_str);
        let all: BTreeSet<String> = ours
            .chain(STATIC)
            .chain(DYNAMIC)
            .map(str::to_owned)
            .collect();
        // Asterisk goes on listing a deleted endpoint for a moment.
        let start = Instant::now();
        loop {
            let names: BTreeSet<String> = endpoints_of(&asterisk).into_keys().collect();
            if names == all {
                break;
            }
            let lost: Vec<_> = all.difference(&names).collect();
            let left: Vec<_> = names.difference(&all).collect();
            assert!(
                start.elapsed() < LINGERS,
                "{what}: lost {lost:?}, left {left:?}: {run}"
            );
            thread::sleep(Duration::from_millis(100));
        }
        for (name, display) in &self.expected {
            let object = |class: &str| {
                object_of(&asterisk, class, name)
                    .unwrap_or_else(|| panic!("{what}: no {class}/{name}: {run}"))
            };
            let (auth, aor, endpoint) = (object("auth"), object("aor"), object("endpoint"));
            let caller = format!("\"{display}\" <{name}>");
            assert_eq!(endpoint["callerid"], caller, "{what}: {name}");
            assert_eq!(endpoint["auth"], *name, "{what}");
            assert_eq!(auth["username"], *name, "{what}");
            assert_eq!(aor["max_contacts"], "1", "{what}: {name}");
            let mailbox = format!("{}@default", name.trim_start_matches('r'));
            for object in [&aor, &endpoint] {
                assert_eq!(object["mailboxes"], mailbox, "{what}: {name}");
            }
        }
        let gone = asterisk.cli("database show").unwrap();
        let left = gone.lines().filter(|line| line.starts_with("/ps_"));
        assert_eq!(
            left.count(),
            self.expected.len() * 3 + DYNAMIC.len() * 2,
            "{what}"
        );
        drop(asterisk);
        assert_eq!(self.not_ours(), self.foreign, "{what}");
    }

    /// A run in which that falls on Asterisk before that call.
    fn run_through(&self, at: u64, blow: Blow) {
        let first = self.road.calls();
        let asterisk = Arc::clone(&self.asterisk);
        self.road.set(move |call| {
            if call.number == first + at {
                let mut asterisk = asterisk.lock().unwrap();
                match blow {
                    Blow::Killed => asterisk.kill().unwrap(),
                    Blow::Hangs => asterisk.freeze().unwrap(),
                    Blow::Crashes => {
                        asterisk.kill().unwrap();
                        asterisk.restart().unwrap();
                    }
                    Blow::Restarts => asterisk.restart().unwrap(),
                }
            }
            Fault::None
        });
        let run = self.run();
        assert!(
            self.road.calls() > first + at,
            "call {at} never came: {run}"
        );
        self.road.clear();
        let mut asterisk = self.asterisk.lock().unwrap();
        match blow {
            Blow::Killed => asterisk.restart().unwrap(),
            Blow::Hangs => asterisk.thaw().unwrap(),
            Blow::Crashes | Blow::Restarts => {}
        }
        assert!(asterisk.is_running(), "{blow:?}");
    }
}

fn id(number: usize) -> String {
    format!("accounts/acme-{number}")
}

fn account(number: usize) -> Value {
    json!({
        "tenant": "acme",
        "pbx": "main",
        "username": number.to_string(),
        "display_name": format!("User {number}"),
        "mailbox": format!("{number}@default"),
    })
}

#[test]
fn five_hundred_accounts_are_as_the_records_say_whatever_falls_on_their_pbx() {
    let Some(mut fleet) = Fleet::new() else {
        return;
    };
    let all: Vec<usize> = (4_000..4_000 + ACCOUNTS).collect();
    fleet.create(&all);
    fleet.settles("created");

    fleet.change(&all, "Changed");
    fleet.settles("changed");

    let (renamed, rest) = all.split_at(ACCOUNTS / 10);
    fleet.rename(renamed);
    fleet.settles("renamed");

    let (removed, rest) = rest.split_at(ACCOUNTS / 10);
    fleet.delete(removed);
    fleet.settles("removed");

    for (turn, (at, blow)) in BLOWS.into_iter().enumerate() {
        let what = format!("{blow:?} at call {at}");
        let part = rest.get(turn * 12..turn * 12 + 12).unwrap();
        fleet.change(part, &what);
        fleet.delete(rest.get(200 + turn..=200 + turn).unwrap());
        fleet.create(&[8_000 + turn]);
        fleet.run_through(at, blow);
        fleet.settles(&what);
    }

    let left: Vec<usize> = fleet
        .expected
        .keys()
        .map(|name| name.trim_start_matches('r').parse().unwrap())
        .collect();
    fleet.delete(&left);
    fleet.settles("all removed");
}
