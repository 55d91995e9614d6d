//! A PBX with its accounts and phones as they stand after a quiet day, made by the core itself on the
//! stores in memory of the native tests: saved by the admin API, fetched by the phones, pushed by runs.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use dialtone::key;
use dialtone::ports::{Mappings as _, Objects as _, World as _};
use dialtone::request::Request;
use dialtone::tick;
use http::Method;
use serde_json::{Value, json};

use crate::ask::{self, Told as _};
use crate::asterisk::Asterisk;
use crate::exchange::{PASSWORD, USER};
use crate::stores::Entry;
use crate::world::{ADMIN_TOKEN, Fake, Late, block_on};

/// How long before now its saves begin, in seconds: a day and what the saves and pushes take.
const BEFORE_S: u64 = 2 * 86_400;

/// In how many runs all must be pushed and chained, for each 50 accounts: so many are pushed in a run at a
/// PBX, and 100 entries of the audit chained, of which an account and its phone have four.
const RUNS_FOR_50: usize = 3;

/// A PBX as it is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its number.
    pub number: usize,
    /// How many accounts it has, each with a phone.
    pub accounts: usize,
    /// The address of its ARI.
    pub ari: String,
    /// Where Dialtone is, as `127.0.0.1:8787`.
    pub host: String,
    /// What time it is, in seconds since 1970.
    pub now: u64,
}

impl Plan {
    /// The id of the PBX and of its tenant.
    pub fn id(&self) -> String {
        pbx(self.number)
    }
}

/// The id of the PBX of a number.
pub fn pbx(number: usize) -> String {
    format!("p{number:03}")
}

/// The id of an account.
pub fn account(pbx_number: usize, number: usize) -> String {
    format!("{}-{}", pbx(pbx_number), username(number))
}

/// Its name at its PBX.
pub fn username(number: usize) -> String {
    format!("{:04}", 1_000 + number)
}

/// The MAC of its phone: a Yealink.
pub fn mac(pbx_number: usize, number: usize) -> String {
    format!("805ec0{:06x}", pbx_number * 10_000 + number)
}

/// The bodies of the calls that make a PBX's records, by path, in an order in which they can be made.
pub fn records(plan: &Plan) -> Vec<(String, Value)> {
    let id = plan.id();
    let mut records = vec![
        (format!("tenants/{id}"), json!({"name": "A customer"})),
        (
            format!("pbxes/{id}"),
            json!({
                "tenant": id, "mode": "push", "ari_url": plan.ari, "ari_username": USER,
                "ari_password": PASSWORD, "sip": {"host": "pbx.example.com", "transport": "tls"},
            }),
        ),
    ];
    for n in 0..plan.accounts {
        let (account, username) = (account(plan.number, n), username(n));
        let record = json!({
            "tenant": id, "pbx": id, "username": username, "display_name": format!("Number {n}"),
        });
        records.push((format!("accounts/{account}"), record));
        let record = json!({
            "tenant": id, "vendor": "yealink", "model": "T46U", "serial": format!("SN-{n:06}"),
            "lines": [{"line": 1, "account": account}],
            "buttons": [{"key": 1, "type": "line", "line": 1}],
        });
        records.push((format!("devices/{}", mac(plan.number, n)), record));
    }
    records
}

/// What there is of one PBX.
pub struct Seeded {
    /// What KV and R2 hold.
    pub entries: Vec<Entry>,
    /// Its Asterisk.
    pub asterisk: Asterisk,
    /// What the last run left in R2.
    pub run: Value,
    /// How many runs it took until everything was pushed, and how many calls to ARI.
    pub pushed: (usize, usize),
}

struct Site<'a> {
    plan: &'a Plan,
    fake: Rc<Fake>,
}

impl Site<'_> {
    fn fetch(&self, mut request: Request) -> Result<http::Response<Vec<u8>>> {
        request.https = false;
        request.host.clone_from(&self.plan.host);
        let path = request.path.clone();
        let answer = ask::fetch(&self.fake, &request);
        ensure!(
            answer.status().is_success(),
            "{path}: {} {}",
            answer.status(),
            String::from_utf8_lossy(answer.body())
        );
        Ok(answer)
    }

    fn save(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.fetch(ask::call_by(ADMIN_TOKEN, Method::PUT, path, body))?;
        Ok(serde_json::from_slice(answer.body())?)
    }

    /// A phone's way to its files.
    fn fetches(&self, n: usize, made: &Value) -> Result<()> {
        let question = format!("/rps?mac={}&serial=SN-{n:06}", mac(self.plan.number, n));
        let from = |path: &str| ask::get(path).from("192.0.2.7");
        self.fetch(from(&question))?;
        let url = made["provisioning_url"].as_str().context("no URL")?;
        let path = url
            .strip_prefix("http://")
            .and_then(|url| url.strip_prefix(&self.plan.host))
            .with_context(|| format!("{url} leads away"))?;
        for file in ["boot.cfg", "ACC.cfg", "BTN.cfg"] {
            self.fetch(from(&format!("{path}{file}")))?;
        }
        Ok(())
    }

    fn run(&self) -> Result<tick::RunSummary> {
        self.fake.clock.pass_s(60);
        block_on(tick::run(&*self.fake, None));
        block_on(tick::last_run(&*self.fake))
            .ok()
            .flatten()
            .context("no run")
    }

    /// Everything that KV and R2 hold.
    fn entries(&self) -> Result<Vec<Entry>> {
        let (kv, r2) = (&self.fake.kv, &self.fake.r2);
        let fault = |fault: dialtone::fault::Fault| anyhow::anyhow!("{}", fault.label());
        let mut entries = Vec::new();
        kv.late.set(Late::No);
        let mut cursor = None;
        loop {
            let page = block_on(kv.list("", cursor.as_deref())).map_err(fault)?;
            for part in page.entries.chunks(100) {
                let keys: Vec<String> = part.iter().map(|entry| entry.key.clone()).collect();
                let values = block_on(kv.get_many(&keys)).map_err(fault)?;
                for (entry, value) in part.iter().zip(values) {
                    entries.push(Entry {
                        store: "kv",
                        key: entry.key.clone(),
                        body: value.unwrap_or_default().into_bytes(),
                        metadata: entry.metadata.clone(),
                    });
                }
            }
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        loop {
            let page = block_on(r2.list("", cursor.as_deref(), 1_000)).map_err(fault)?;
            for entry in page.entries {
                let object = block_on(r2.get(&entry.key)).map_err(fault)?;
                entries.push(Entry {
                    store: "r2",
                    key: entry.key,
                    body: object.map(|object| object.body).unwrap_or_default(),
                    metadata: Some(serde_json::to_string(&entry.metadata)?),
                });
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(entries);
            }
        }
    }
}

/// Makes the records alone, as the admin API does.
pub fn saved(plan: &Plan) -> Result<Vec<Entry>> {
    let site = Site::open(plan);
    for (path, body) in records(plan) {
        site.save(&path, &body)?;
    }
    site.entries()
}

/// Makes a PBX as it stands after a quiet day.
pub fn seed(plan: &Plan) -> Result<Seeded> {
    let site = Site::open(plan);
    let asterisk = Asterisk::new(USER, PASSWORD);
    let behind = Rc::clone(&asterisk);
    let path = format!("/{}/ari", plan.number);
    site.fake.net.answer(move |mut request| {
        let uri = request.uri().to_string();
        let (_, rest) = uri.split_once(&path).unwrap_or_default();
        *request.uri_mut() = format!("/ari{rest}").parse().unwrap();
        behind.answer(&request)
    });
    let mut made = BTreeMap::new();
    for (path, body) in records(plan) {
        let answer = site.save(&path, &body)?;
        if path.starts_with("devices/") {
            made.insert(made.len(), answer);
        }
    }
    for (n, made) in &made {
        site.fetches(*n, made)?;
    }
    let id = plan.id();
    let mut runs = 0;
    let mut pushed = None;
    loop {
        let run = site.run()?;
        runs += 1;
        let pbx = run.pbxes.iter().find(|(pbx, _)| pbx.as_str() == id);
        let (_, pbx) = pbx.context("the run knows no PBX")?;
        ensure!(pbx.outcome == tick::OK, "{}", pbx.outcome);
        if asterisk.names().len() == plan.accounts {
            pushed.get_or_insert_with(|| (runs, asterisk.take_calls().len()));
        }
        if pushed.is_some() && site.fake.r2.keys(key::ALL_AUDIT_NEW).is_empty() {
            break;
        }
        let most = (plan.accounts / 50 + 2) * RUNS_FOR_50;
        ensure!(runs < most, "not all is pushed after {most} runs");
    }
    for n in 0..plan.accounts {
        asterisk.registers(&username(n));
    }
    // A day passes, and all that there is to tell of it is told.
    for _ in 0..3 {
        site.run()?;
    }
    let now = site.fake.now().0;
    ensure!(now + 600 < plan.now, "the saves took longer than a day");
    site.fake.clock.pass_s(plan.now - 600 - now);
    for _ in 0..5 {
        site.run()?;
    }
    asterisk.take_calls();
    let run = block_on(site.fake.r2.get(key::RECONCILE)).ok().flatten();
    let run = serde_json::from_slice(&run.context("no run")?.body)?;
    let entries = site.entries()?;
    site.fake
        .net
        .answer(|_| Err(dialtone::ports::NoAnswer::Unreachable));
    let asterisk = Rc::into_inner(asterisk).context("somebody has the Asterisk")?;
    Ok(Seeded {
        entries,
        asterisk,
        run,
        pushed: pushed.unwrap_or_default(),
    })
}

impl<'a> Site<'a> {
    fn open(plan: &'a Plan) -> Self {
        let fake = Fake::new();
        let now = fake.now().0;
        fake.clock.pass_s((plan.now - BEFORE_S).saturating_sub(now));
        Self { plan, fake }
    }
}
