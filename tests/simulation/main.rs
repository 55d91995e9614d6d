//! A day in the life of a large Dialtone, in Cloudflare's own runtime: 100,000 accounts with a phone
//! each at 100 PBXes, and what a run of the scheduled handler takes there when nothing changes, when a
//! little does, and when PBXes fail. `cargo xtask simulate` runs it; docs/OPERATE.md has what it found.

#![expect(
    clippy::disallowed_methods,
    reason = "the Worker's clock is out there, and so is this one"
)]

#[path = "../native/ask.rs"]
#[expect(dead_code, reason = "more of it is used in another ring")]
mod ask;
#[path = "../native/asterisk.rs"]
#[expect(dead_code, reason = "more of it is used in another ring")]
mod asterisk;
#[path = "../native/conforms.rs"]
#[expect(dead_code, reason = "more of it is used in another ring")]
mod conforms;
mod exchange;
mod gauge;
mod seed;
mod stores;
#[path = "../native/world.rs"]
#[expect(dead_code, reason = "more of it is used in another ring")]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use dialtone_kit::http;
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::asterisk::{Asterisk, Mood};
use crate::exchange::Exchange;
use crate::gauge::{Gauge, Memory};
use crate::seed::{Plan, Seeded};
use crate::stores::{Entry, Filling};
use crate::world::{ADMIN_TOKEN, SEAL_KEY};

/// What an isolate may have, in bytes: 128 MB (Workers limits).
const MEMORY: u64 = 128_000_000;

/// A run must be over when the next one is due.
const WALL: Duration = Duration::from_mins(1);

/// How many accounts an admin saves between two runs.
const SAVES: usize = 50;

/// How many threads make records.
const THREADS: usize = 2;

/// How large it is to be.
struct Size {
    pbxes: usize,
    accounts: usize,
    runs: usize,
    latency: Duration,
}

fn main() -> Result<()> {
    let mut size = Size {
        pbxes: 100,
        accounts: 100_000,
        runs: 5,
        latency: Duration::from_millis(20),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<usize> {
            let text = words.next().unwrap_or_default();
            text.parse()
                .with_context(|| format!("{word} wants a number, not {text:?}"))
        };
        match word.as_str() {
            "--pbxes" => size.pbxes = number()?,
            "--accounts" => size.accounts = number()?,
            "--runs" => size.runs = number()?,
            "--latency" => size.latency = Duration::from_millis(number()?.try_into()?),
            "--tenth" => {
                size.pbxes = 10;
                size.accounts = 10_000;
            }
            // What cargo says to every benchmark.
            "--bench" => {}
            _ => bail!("there is no {word}; `cargo xtask help` shows what is taken"),
        }
    }
    ensure!(size.pbxes >= 3, "with fewer than 3 PBXes nothing is seen");
    ensure!(
        size.accounts >= size.pbxes * 10,
        "at least 10 accounts a PBX"
    );
    ensure!(size.runs > 0, "without a run nothing is seen");
    simulate(&size)
}

fn simulate(size: &Size) -> Result<()> {
    let each = size.accounts / size.pbxes;
    println!(
        "simulation: {} accounts with a phone each at {} PBXes, {} ms away",
        each * size.pbxes,
        size.pbxes,
        size.latency.as_millis()
    );
    let exchange = Exchange::open(size.latency)?;
    let directory = tempfile()?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let options = Options::new()
        .secret("ADMIN_TOKEN", ADMIN_TOKEN)
        .secret("SEAL_KEY", SEAL_KEY)
        .persist_dir(directory.path())
        .port(port);
    let plan = |number| -> Result<Plan> {
        Ok(Plan {
            number,
            accounts: each,
            ari: exchange.url(number),
            host: format!("127.0.0.1:{port}"),
            now: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        })
    };
    let mut sample = plan(0)?;
    sample.accounts = 2;
    same_form(&options, directory.path(), &sample)?;

    let start = Instant::now();
    let plans: Vec<Plan> = (0..size.pbxes).map(plan).collect::<Result<_>>()?;
    let (asterisks, count, (runs, calls)) = fill(directory.path(), &plans)?;
    exchange.fill(asterisks);
    println!(
        "seeded: {count} values in KV and R2 in {:.0} s; alone, a PBX had all its accounts after {runs} \
         runs and {:.1} calls to ARI for each",
        start.elapsed().as_secs_f64(),
        f64::from(u32::try_from(calls)?) / f64::from(u32::try_from(each)?)
    );

    let workerd = Workerd::start(&options.clone().built().inspected())?;
    ensure!(workerd.port() == port, "port {port} was taken meanwhile");
    let gauge = Gauge::on(&workerd)?;
    Simulation {
        size,
        each,
        exchange,
        workerd,
        gauge,
        peak: Memory::default(),
        saved: 0,
    }
    .everything()
}

/// A directory that is gone afterwards, below `target`: what the system has for such things may be memory.
fn tempfile() -> Result<tempfile::TempDir> {
    let below = dialtone_kit::project::target_dir().join("simulation");
    std::fs::create_dir_all(&below)?;
    Ok(tempfile::TempDir::new_in(below)?)
}

/// JSON with each text, number and so on put as its kind, and each key that names something as `*`: the
/// form of a record.
fn form(value: &Value) -> Value {
    match value {
        Value::Null => json!(null),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
        Value::Array(all) => all.iter().map(form).collect(),
        Value::Object(all) => all
            .iter()
            .map(|(name, value)| (name.clone(), form(value)))
            .collect(),
    }
}

/// What there is under the keys of records, names and lists, each as its form.
fn forms(entries: &[Entry]) -> BTreeMap<(&str, &str), (Value, Value)> {
    let passing = ["audit", "changed/", "unfinished/"];
    let stay = entries
        .iter()
        .filter(|entry| !passing.iter().any(|prefix| entry.key.starts_with(prefix)));
    stay.map(|entry| {
        let body = serde_json::from_slice(&entry.body).unwrap_or(json!(entry.body.len()));
        let metadata = entry.metadata.as_deref().unwrap_or("null");
        let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
        ((entry.store, entry.key.as_str()), (form(&body), metadata))
    })
    .collect()
}

/// Makes a small customer by the admin API of the Worker and by the core on the stores in memory: what
/// then stands in the simulators' databases must be the same, but for times and chance.
fn same_form(options: &Options, directory: &Path, plan: &Plan) -> Result<()> {
    let mut workerd = Workerd::start(options)?;
    for (path, body) in seed::records(plan) {
        let answer = http::put(&format!("{}/api/v1/{path}", workerd.url()))
            .bearer(ADMIN_TOKEN)
            .json(&body)
            .send()?;
        ensure!(answer.status == 201, "{path}: {}", answer.text());
    }
    workerd.stop()?;
    let theirs = stores::show(directory)?;
    let ours = seed::saved(plan)?;
    let (theirs, ours) = (forms(&theirs), forms(&ours));
    let keys: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    ensure!(keys.len() > 15, "what the API made is not found");
    for key in &keys {
        let (theirs, ours) = (theirs.get(*key), ours.get(*key));
        ensure!(
            theirs == ours,
            "{key:?} is not as the API makes it:\n{theirs:?}\n{ours:?}"
        );
    }
    println!("{} values are as the admin API makes them", keys.len());
    Ok(())
}

/// The Asterisk of a PBX, what its last run left, and its runs and calls until all was pushed.
type Done = (Asterisk, Value, (usize, usize));

/// Fills the stores with PBXes: their Asterisks, how many values there are, and how many runs and calls a
/// PBX took until all of it was pushed.
fn fill(directory: &Path, plans: &[Plan]) -> Result<(Vec<Asterisk>, u64, (usize, usize))> {
    let filling = Filling::begin(directory)?;
    let next = AtomicUsize::new(0);
    let done = Mutex::<BTreeMap<usize, Done>>::default();
    let work = || -> Result<()> {
        while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Seeded {
                entries,
                asterisk,
                run,
                pushed,
            } = seed::seed(plan).with_context(|| plan.id())?;
            for entry in entries {
                filling.put(&entry)?;
            }
            let mut done = done.lock().map_err(|_| anyhow!("the other one died"))?;
            done.insert(plan.number, (asterisk, run, pushed));
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow!("it died"))??;
        }
        Ok(())
    })?;
    let done = done.into_inner().map_err(|_| anyhow!("it died"))?;
    let mut asterisks = Vec::new();
    let mut most = (0, 0);
    let mut summary = Value::Null;
    for (_, (asterisk, mut run, pushed)) in done {
        asterisks.push(asterisk);
        most = most.max(pushed);
        if summary.is_null() {
            summary = run;
        } else {
            let pbxes = run["pbxes"].as_object_mut().context("no PBXes")?;
            let all = summary["pbxes"].as_object_mut().context("no PBXes")?;
            all.append(pbxes);
        }
    }
    filling.put(&Entry {
        store: "r2",
        key: dialtone::key::RECONCILE.to_owned(),
        body: serde_json::to_vec(&summary)?,
        metadata: Some("{}".to_owned()),
    })?;
    let count = filling.count();
    filling.end()?;
    Ok((asterisks, count, most))
}

/// What some runs took.
#[derive(Default)]
struct Taken {
    walls: Vec<Duration>,
    cpu_s: f64,
    ari: u64,
    calls: u64,
    memory: u64,
}

struct Simulation<'a> {
    size: &'a Size,
    each: usize,
    exchange: Exchange,
    workerd: Workerd,
    gauge: Gauge,
    peak: Memory,
    saved: usize,
}

impl Simulation<'_> {
    fn everything(mut self) -> Result<()> {
        println!(
            "\n{:38} {:>6} {:>6} {:>7} {:>6} {:>6} {:>8} {:>7}",
            "runs", "wall", "most", "CPU", "calls", "ARI", "isolate", "process"
        );
        // The pass over the list of accounts begins with the first run: 20 pages a run.
        let passes = self.size.accounts.div_ceil(20_000);
        self.phase("quiet, a part of the list is read", passes, |_, _| Ok(()))?;
        let runs = self.size.runs;
        self.phase("quiet", runs, |_, _| Ok(()))?;
        self.phase("50 accounts were saved", runs, |this, _| this.save())?;
        self.phase("a phone comes or goes at each PBX", runs, |this, turn| {
            for pbx in 0..this.size.pbxes {
                let name = seed::username(turn / 2);
                this.exchange.with(pbx, |asterisk| {
                    if turn % 2 == 0 {
                        asterisk.unregisters(&name);
                    } else {
                        asterisk.registers(&name);
                    }
                });
            }
            Ok(())
        })?;
        self.exchange.is(0, Mood::Down);
        self.exchange.is(1, Mood::Frozen);
        self.phase("one PBX is down, one hangs", 3, |_, _| Ok(()))?;
        let run = self.last_run()?;
        for (pbx, outcomes) in [(0, &["unreachable"]), (1, &["timed out"])] {
            let outcome = &run["pbxes"][seed::pbx(pbx)]["outcome"];
            ensure!(outcomes.iter().any(|o| outcome == o), "{pbx}: {outcome}");
        }
        println!(
            "\nthe isolate took {} MB at most: {} of V8's heap, {} beside it, {} of buffers and wasm; it \
             may have {}",
            mb(self.peak.all()),
            mb(self.peak.heap),
            mb(self.peak.objects),
            mb(self.peak.buffers),
            mb(MEMORY)
        );
        ensure!(self.peak.all() < MEMORY, "that is too much");
        Ok(())
    }

    /// Makes runs, each after something else, and says what they took.
    fn phase(
        &mut self,
        name: &str,
        runs: usize,
        mut before: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<()> {
        let mut taken = Taken::default();
        for turn in 0..runs {
            before(self, turn)?;
            self.exchange.take_calls();
            self.gauge.take_peak();
            let (cpu, start) = (self.gauge.cpu_s(), Instant::now());
            self.workerd.trigger_cron()?;
            let wall = start.elapsed();
            ensure!(wall < WALL, "{name}: the run took {wall:?}");
            taken.walls.push(wall);
            taken.cpu_s += self.gauge.cpu_s() - cpu;
            taken.ari += self.exchange.take_calls();
            let memory = self.gauge.take_peak();
            taken.memory = taken.memory.max(memory.all());
            if memory.all() > self.peak.all() {
                self.peak = memory;
            }
            let run = self.last_run()?;
            taken.calls += run["calls"].as_u64().context("no calls")?;
            self.all_well(&run).with_context(|| name.to_owned())?;
        }
        let count = u32::try_from(runs)?;
        let wall: Duration = taken.walls.iter().sum();
        let most = taken.walls.iter().max().copied().unwrap_or_default();
        println!(
            "{:38} {:>5.1}s {:>5.1}s {:>6.1}s {:>6} {:>6} {:>5} MB {:>4} MB",
            format!("{name}, {runs} of them"),
            wall.as_secs_f64() / f64::from(count),
            most.as_secs_f64(),
            taken.cpu_s / f64::from(count),
            taken.calls / u64::from(count),
            taken.ari / u64::from(count),
            mb(taken.memory),
            self.gauge.resident_mb()
        );
        Ok(())
    }

    fn last_run(&self) -> Result<Value> {
        let url = format!("{}/api/v1/status", self.workerd.url());
        let mut answer: Value = http::get(&url).bearer(ADMIN_TOKEN).send()?.json()?;
        Ok(answer["reconcile"].take())
    }

    /// Every PBX was seen, nothing was taken away, and no account is missing.
    fn all_well(&self, run: &Value) -> Result<()> {
        let pbxes = run["pbxes"].as_object().context("no PBXes")?;
        ensure!(pbxes.len() == self.size.pbxes, "{} PBXes", pbxes.len());
        ensure!(run["accounts"] == "ok", "{}", run["accounts"]);
        for (id, pbx) in pbxes {
            ensure!(pbx["outcome"] != "not reached", "{id}: {pbx}");
            ensure!(pbx["accounts"] == self.each, "{id}: {pbx}");
            if pbx["outcome"] == "ok" {
                ensure!(pbx["vanished"]["count"] == 0, "{id}: {pbx}");
                ensure!(pbx["endpoints"] == self.each, "{id}: {pbx}");
            }
        }
        Ok(())
    }

    /// An admin changes some accounts, at as many PBXes.
    fn save(&mut self) -> Result<()> {
        for _ in 0..SAVES {
            let pbx = self.saved % self.size.pbxes;
            let account = seed::account(pbx, self.saved / self.size.pbxes % self.each);
            let url = format!("{}/api/v1/accounts/{account}", self.workerd.url());
            let name = json!({"display_name": format!("Changed {}", self.saved)});
            let answer = http::patch(&url).bearer(ADMIN_TOKEN).json(&name).send()?;
            ensure!(answer.status == 200, "{account}: {}", answer.text());
            self.saved += 1;
        }
        Ok(())
    }
}

fn mb(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}
