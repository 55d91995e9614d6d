//! 100,000 accounts at 100 PBXes: what a run costs when little changes, and that what does change
//! does not wait.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use dialtone::key::{self, Kind};
use dialtone::ports::{Mappings, Objects, Only, World};
use dialtone::reconcile::{Counts, Memory, Pushed, Registration};
use dialtone::record::Stored;
use dialtone::record::account::{Account, AccountState};
use dialtone::record::pbx::Pbx;
use dialtone::step7_register as register;
use dialtone::text::{Id, Username};
use dialtone::tick::{self, PbxSummary, RunSummary};
use dialtone::time::Timestamp;
use dialtone::transitions::History;
use http::{Method, Request, Response};
use serde_json::{Value, json};

use crate::ask::{delete, patch, put};
use crate::world::{Count, Fake, block_on};

const PBXES: usize = 100;
const ACCOUNTS: usize = 1_000;
const PASSWORD: &str = "Phone-Secret-1";

/// Runs in 30 days.
const RUNS: f64 = 43_200.0;

/// What a million operations cost, in dollars, nothing of the included ones taken off (Cloudflare's
/// pricing pages of R2 and Workers KV, 2026): R2 class A (put, list) and B (get; a delete is free),
/// KV reads of a key, KV writes and listings.
const R2_A: f64 = 4.50;
const R2_B: f64 = 0.36;
const KV_READ: f64 = 0.50;
const KV_WRITE_OR_LIST: f64 = 5.00;

fn id(text: &str) -> Id {
    Id::try_from(text).unwrap()
}

fn name(text: &str) -> Username {
    Username::try_from(text).unwrap()
}

fn record(pbx: usize, n: usize) -> Value {
    json!({ "tenant": "acme", "pbx": format!("p{pbx:03}"), "username": format!("{n:04}") })
}

/// An Asterisk that has the objects of every account but for those that are missing.
struct Exchange {
    fake: Rc<Fake>,
    pbx: Pbx,
    list: Vec<u8>,
    missing: RefCell<BTreeSet<String>>,
    /// PBXes that give one answer to everything: status, `Content-Type`, body.
    odd: RefCell<BTreeMap<&'static str, Odd>>,
    calls: RefCell<Vec<String>>,
}

type Odd = (u16, &'static str, &'static str);

impl Exchange {
    fn answer(&self, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let path = request.uri().path().to_owned();
        let host = request.uri().host().unwrap().to_owned();
        self.calls
            .borrow_mut()
            .push(format!("{} {host}{path}", request.method()));
        let says = |status, content_type, body: Vec<u8>| {
            let answer = Response::builder().status(status);
            let answer = answer.header("content-type", content_type);
            answer.body(body).unwrap()
        };
        let answer = |status, body| says(status, "application/json", body);
        let pbx = host.split('.').next().unwrap();
        if let Some((status, content_type, body)) = self.odd.borrow().get(pbx) {
            return says(*status, content_type, body.as_bytes().to_vec());
        }
        if path == "/ari/endpoints" {
            return answer(200, self.list.clone());
        }
        if path == "/ari/asterisk/info" {
            let info = json!({ "status": { "startup_time": "2026-11-23T08:59:38.786+0000" } });
            return answer(200, info.to_string().into_bytes());
        }
        let mut parts = path.rsplit('/');
        let (name_there, class) = (parts.next().unwrap(), parts.next().unwrap());
        let here = format!("{pbx}-{name_there}");
        if request.method() == Method::DELETE {
            return answer(204, Vec::new());
        }
        if request.method() == Method::PUT {
            self.missing.borrow_mut().remove(&here);
            return answer(200, b"[]".to_vec());
        }
        if self.missing.borrow().contains(&here) || name_there.contains('%') {
            let name_there = name_there.replace("%40", "@");
            let said = json!({ "message": format!("Object with id '{name_there}' not found") });
            return answer(404, said.to_string().into_bytes());
        }
        let account: Account = serde_json::from_value(
            json!({ "tenant": "acme", "pbx": "p000", "username": name_there }),
        )
        .unwrap();
        let password = PASSWORD.to_owned().try_into().unwrap();
        let keys = self.fake.keys();
        let made =
            register::objects(&self.pbx, &id(&here), &account, &password, &[], 0, keys).unwrap();
        let class = register::Class::ALL.into_iter().find(|c| c.word() == class);
        let fields = made.of(class.unwrap()).list();
        answer(200, serde_json::to_vec(fields).unwrap())
    }
}

/// Everything as it is after all was pushed long ago. Of the accounts only those have a record in R2
/// that a run of the test reads; KV lists them all, and the memories have them all.
fn office() -> (Rc<Fake>, Rc<Exchange>) {
    let fake = Fake::new();
    put(&fake, "tenants/acme", &json!({}));
    let pbx = json!({
        "tenant": "acme", "ari_url": "https://p000.example.com/ari", "ari_username": "dialtone",
        "ari_password": "ari-secret", "mode": "push", "sip": { "host": "pbx.example.com" },
    });
    let mut record_of_pbx = pbx.clone();
    record_of_pbx
        .as_object_mut()
        .unwrap()
        .remove("ari_password");
    let record_of_pbx: Pbx = serde_json::from_value(record_of_pbx).unwrap();
    let shape = register::shape(&record_of_pbx);
    for p in 0..PBXES {
        let mut pbx = pbx.clone();
        pbx["ari_url"] = json!(format!("https://p{p:03}.example.com/ari"));
        put(&fake, &format!("pbxes/p{p:03}"), &pbx);
    }
    let names: Vec<Username> = (0..ACCOUNTS).map(|n| name(&format!("{n:04}"))).collect();
    for p in 0..PBXES {
        let mut memory = Memory::default();
        for (n, username) in names.iter().enumerate() {
            let account = id(&format!("p{p:03}-{n:04}"));
            let listed =
                json!({ "pbx": format!("p{p:03}"), "username": username, "rev": 1 }).to_string();
            let key = key::record(Kind::Account, account.as_str());
            let kept = fake.kv.put(&key, "{}", Some(&listed), None);
            block_on(kept).unwrap();
            let pushed = Pushed {
                account: account.clone(),
                rev: 1,
                shape: shape.clone(),
                verified_at: fake.now(),
                since: None,
            };
            memory.pushed.insert(username.clone(), pushed);
            let seen = Registration {
                account: account.clone(),
                online: true,
                since: fake.now(),
                ever_online: true,
                missing: false,
                history: History::default(),
            };
            memory.registrations.insert(username.clone(), seen);
            if n < 30 {
                let place =
                    dialtone::store::secret_place(Kind::Account, account.as_str(), "password");
                let sealed = fake
                    .keys()
                    .seal(&*fake, &place, PASSWORD.as_bytes())
                    .unwrap();
                let stored = Stored::<Account> {
                    schema: <Account as dialtone::record::Record>::SCHEMA,
                    rev: 1,
                    edition: 1,
                    updated_at: fake.now(),
                    gone: None,
                    record: serde_json::from_value(record(p, n)).unwrap(),
                    sealed: BTreeMap::from([("password".to_owned(), sealed)]),
                    state: AccountState::default(),
                };
                let body = stored.write().unwrap();
                block_on(fake.r2.put(&key, body, BTreeMap::new(), Only::Always)).unwrap();
            }
        }
        let memory = serde_json::to_vec(&memory).unwrap();
        let key = key::pbx_state(&id(&format!("p{p:03}")));
        block_on(fake.r2.put(&key, memory, BTreeMap::new(), Only::Always)).unwrap();
    }
    block_on(
        fake.r2
            .put(key::RECONCILE, quiet(&fake), BTreeMap::new(), Only::Always),
    )
    .unwrap();
    let list: Value = names
        .iter()
        .map(|name| json!({ "technology": "PJSIP", "resource": name, "state": "online", "channel_ids": [] }))
        .collect();
    let exchange = Rc::new(Exchange {
        fake: Rc::clone(&fake),
        pbx: record_of_pbx,
        list: list.to_string().into_bytes(),
        missing: RefCell::default(),
        odd: RefCell::default(),
        calls: RefCell::default(),
    });
    let behind = Rc::clone(&exchange);
    fake.net.answer(move |request| Ok(behind.answer(&request)));
    (fake, exchange)
}

/// The summary of a run that had nothing to do: all was listed, and a round of looks begins now.
fn quiet(fake: &Fake) -> Vec<u8> {
    let before = Timestamp(fake.now().0 - 900);
    let mut last = RunSummary {
        at: fake.now(),
        ..RunSummary::default()
    };
    last.pass.completed = before;
    for p in 0..PBXES {
        let mut pbx = PbxSummary {
            outcome: "ok".to_owned(),
            followed_since: before,
            ..PbxSummary::default()
        };
        pbx.round.began = before;
        pbx.round.done = true;
        last.pbxes.insert(id(&format!("p{p:03}")), pbx);
    }
    serde_json::to_vec(&last).unwrap()
}

fn plus(a: Count, b: Count) -> Count {
    Count {
        gets: a.gets + b.gets,
        puts: a.puts + b.puts,
        deletes: a.deletes + b.deletes,
        lists: a.lists + b.lists,
    }
}

#[test]
fn a_hundred_thousand_accounts_cost_under_ten_dollars_and_what_changes_does_not_wait() {
    let (fake, exchange) = office();
    let run = || {
        fake.clock.pass_s(60);
        fake.kv.take_count();
        fake.r2.take_count();
        exchange.calls.borrow_mut().clear();
        block_on(tick::run(&*fake, None));
        let (kv, r2) = (fake.kv.take_count(), fake.r2.take_count());
        let out = exchange.calls.borrow().len();
        let calls = kv.all() + r2.all() + u32::try_from(out).unwrap();
        // A Worker has 1,000 of them (Workers KV limits).
        assert!(calls <= 900, "{calls}: {kv:?} {r2:?} {out}");
        let summary = block_on(tick::last_run(&*fake)).unwrap().unwrap();
        assert_eq!(summary.pbxes.len(), PBXES);
        // It counts them itself, but for the lease and its own last word.
        assert!(
            summary.calls.abs_diff(calls) < 10,
            "{} of {calls}",
            summary.calls
        );
        for (pbx, summary) in &summary.pbxes {
            assert_eq!(summary.outcome, "ok", "{pbx}");
            assert_eq!(summary.report.accounts, 1_000, "{pbx}");
            assert_eq!(summary.report.vanished.count, 0, "{pbx}");
        }
        (kv, r2, summary)
    };
    // One whole turn of listing and pause, with the looks at what should be fine under way.
    let (mut kv, mut r2) = (Count::default(), Count::default());
    let began = fake.now().plus(60);
    for n in 1..=6 {
        let (kv_now, r2_now, summary) = run();
        // The list of all of them takes five runs.
        let pages = (kv_now.lists, summary.pass.pages);
        assert_eq!(pages, if n <= 5 { (20, 20 * n) } else { (0, 100) });
        assert_eq!(summary.pass.completed == began, n >= 5);
        assert!(summary.pbxes.values().all(|pbx| pbx.report.complete));
        let looks: u32 = summary.pbxes.values().map(|pbx| pbx.actions.check).sum();
        assert!(looks * 1_440 >= 100_000, "each account daily: {looks}");
        // The sixth run is the first of the pause, and those after it are the same.
        for _ in 0..if n == 6 { 5 } else { 1 } {
            (kv, r2) = (plus(kv, kv_now), plus(r2, r2_now));
        }
    }
    let changes = exchange.calls.borrow();
    assert!(changes.iter().all(|call| call.starts_with("GET ")));
    drop(changes);
    let a = f64::from(r2.puts + r2.lists) * R2_A;
    let b = f64::from(r2.gets) * R2_B;
    // A read of several keys is billed by key; a run reads none.
    let reads = f64::from(kv.gets) * KV_READ;
    let lists = f64::from(kv.puts + kv.lists) * KV_WRITE_OR_LIST;
    let month = (a + b + reads + lists) / 1e6 / 10.0 * RUNS;
    println!("ten quiet runs: {kv:?} {r2:?}, ${month:.2} a month");
    assert!(month < 10.0, "{month}");

    // A new account and a missing one: in the next run, wherever the listing is.
    let mut new = record(77, 9_999);
    new["password"] = json!(PASSWORD);
    put(&fake, "accounts/p077-9999", &new);
    exchange.missing.borrow_mut().insert("p077-9999".to_owned());
    fake.clock.pass_s(60);
    exchange.calls.borrow_mut().clear();
    block_on(tick::run(&*fake, None));
    let summary = block_on(tick::last_run(&*fake)).unwrap().unwrap();
    assert_eq!(summary.pbxes[&id("p077")].actions.create, 1);
    assert_eq!(exchange.missing.borrow().len(), 0);
    assert_eq!(fake.r2.keys(key::ALL_CHANGED), Vec::<String>::new());

    // In the same world, since to make it takes longer than to use it.
    nothing_odd_that_a_pbx_says_changes_anything_there_or_holds_up_another(&fake, &exchange);
}

/// At each PBX that says something odd there is something to delete and something to write; so there is at
/// one that is fine.
fn nothing_odd_that_a_pbx_says_changes_anything_there_or_holds_up_another(
    fake: &Rc<Fake>,
    exchange: &Exchange,
) {
    const HALF: &str = r#"[{"technology":"PJSIP","resource":"0000","state":"online","channel_ids"#;
    const ODD: [(&str, Odd, &str); 7] = [
        (
            "p003",
            (401, JSON, r#"{"message":"Authentication required"}"#),
            "http 401",
        ),
        (
            "p004",
            (403, JSON, r#"{"message":"Write access denied"}"#),
            "http 403",
        ),
        (
            "p005",
            (404, "text/html", "<html>404 Not Found</html>"),
            "http 404",
        ),
        (
            "p006",
            (503, JSON, r#"{"message":"Asterisk not booted"}"#),
            "http 503",
        ),
        ("p007", (200, JSON, HALF), "not a list of endpoints"),
        ("p008", (200, JSON, "[]"), "empty"),
        (
            "p009",
            (200, "text/html", "<html>Sign in</html>"),
            "not json",
        ),
    ];
    const FINE: &str = "p010";
    const JSON: &str = "application/json";
    let pbxes = ODD.iter().map(|(pbx, ..)| *pbx).chain([FINE]);
    for pbx in pbxes.clone() {
        // By which the delete knows that the name was the account's.
        let held = key::name(&id(pbx), &name("0007"));
        let holder = format!("{pbx}-0007").into_bytes();
        block_on(fake.r2.put(&held, holder, BTreeMap::new(), Only::Always)).unwrap();
        delete(fake, &format!("accounts/{pbx}-0007"));
        let account = json!({ "display_name": "Changed" });
        patch(fake, &format!("accounts/{pbx}-0008"), &account);
    }
    let memories = || -> BTreeMap<&str, Memory> {
        let memory = |pbx| block_on(tick::pbx_memory(&**fake, &id(pbx))).unwrap();
        pbxes.clone().map(|pbx| (pbx, memory(pbx))).collect()
    };
    let before = memories();
    *exchange.odd.borrow_mut() = ODD.iter().map(|(pbx, odd, _)| (*pbx, *odd)).collect();
    // Until the grace of the deletes is over.
    fake.clock.pass_s(900);
    exchange.calls.borrow_mut().clear();
    for _ in 0..2 {
        fake.clock.pass_s(60);
        fake.kv.take_count();
        fake.r2.take_count();
        let out = exchange.calls.borrow().len();
        block_on(tick::run(&**fake, None));
        let out = exchange.calls.borrow().len() - out;
        let stores = fake.kv.take_count().all() + fake.r2.take_count().all();
        let calls = stores + u32::try_from(out).unwrap();
        assert!(calls <= 900, "{calls}");
        let run = block_on(tick::last_run(&**fake)).unwrap().unwrap();
        for (pbx, summary) in &run.pbxes {
            let odd = ODD.iter().find(|(odd, ..)| *odd == pbx.as_str());
            let outcome = odd.map_or(tick::OK, |(_, _, outcome)| outcome);
            assert_eq!(summary.outcome, outcome, "{pbx}");
            if odd.is_some() {
                assert_eq!(summary.actions, Counts::default(), "{pbx}");
            }
        }
        // What the odd ones leave is the others'.
        let looks: u32 = run.pbxes.values().map(|pbx| pbx.actions.check).sum();
        assert!(looks * 1_440 >= 100_000, "{looks} looks");
    }
    let calls = exchange.calls.borrow();
    let mut changed = BTreeSet::new();
    for call in calls.iter().filter(|call| !call.starts_with("GET ")) {
        let (method, rest) = call.split_once(' ').unwrap();
        changed.insert((method, rest.split('.').next().unwrap()));
    }
    assert_eq!(changed, [("DELETE", FINE), ("PUT", FINE)].into());
    // Nobody's objects and nobody's registration were given up.
    let mut after = memories();
    for (pbx, memory) in &mut after {
        if *pbx != FINE {
            let Memory {
                pushed,
                registrations,
                ..
            } = &before[pbx];
            assert_eq!(
                (&memory.pushed, &memory.registrations),
                (pushed, registrations),
                "{pbx}"
            );
        }
    }
    assert!(!after[FINE].pushed.contains_key(&name("0007")));
}
