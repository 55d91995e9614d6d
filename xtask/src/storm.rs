//! A real Asterisk behind a road on which everything goes wrong, while an admin creates, changes, renames
//! and deletes accounts: no run may ever take away what nobody deleted, nor touch what is somebody
//! else's; and whenever the road is good again, Asterisk soon has exactly what the records say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use dialtone_kit::asterisk::{Asterisk, Options, StaticEndpoint};
use dialtone_kit::faults::{Call, Fault, Road};
use dialtone_kit::workerd::{self, Workerd};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::soak::Dice;

/// How many runs a whole soak makes.
pub const RUNS: usize = 1_000;

/// About how many accounts there are.
const ACCOUNTS: usize = 40;

/// After so many runs the road is good until everything is settled.
const SETTLE_EVERY: usize = 50;

/// How many good runs may pass until everything is settled.
const SETTLE_WITHIN: usize = 8;

/// Objects of somebody else's, from `pjsip.conf` and by ARI.
const STATIC: &str = "reception";
const DYNAMIC: &str = "theirs";

/// What the records say.
#[derive(Default)]
struct Model {
    /// The name at Asterisk of each account, and its display name.
    accounts: BTreeMap<usize, (String, String)>,
    next: usize,
    /// Names that were seen at Asterisk and that no admin took away since.
    there: BTreeSet<String>,
    /// Names that an admin took away.
    deleted: BTreeSet<String>,
    /// Which of two ports the PBX's record has.
    port: bool,
}

struct Storm {
    workerd: Workerd,
    admin: Admin,
    asterisk: Asterisk,
    road: Road,
    model: Model,
    foreign: BTreeSet<String>,
    faults: u64,
}

/// So many runs.
pub fn run(runs: usize, seed: u64) -> Result<()> {
    println!("storm: {runs} runs with --seed {seed}");
    let mut storm = Storm::start()?;
    let mut dice = Dice::new(seed);
    let start = Instant::now();
    for turn in 0..runs {
        storm
            .turn(&mut dice)
            .with_context(|| format!("seed {seed}, run {turn}"))?;
        if turn % SETTLE_EVERY == SETTLE_EVERY - 1 || turn + 1 == runs {
            storm
                .settle()
                .with_context(|| format!("seed {seed}, settling after run {turn}"))?;
        }
    }
    println!(
        "storm: {runs} runs, {} faults on the road, nothing was taken away that nobody deleted; {:?}",
        storm.faults,
        start.elapsed()
    );
    Ok(())
}

impl Storm {
    fn start() -> Result<Self> {
        let options = Options {
            endpoints: vec![StaticEndpoint {
                user: STATIC.to_owned(),
                password: "secret".to_owned(),
            }],
            tls: false,
        };
        let asterisk = Asterisk::ensure_installed()?.start(&options)?;
        let road = Road::open(asterisk.http_port())?;
        let workerd = Workerd::start(&workerd::Options::new())?;
        let admin = Admin::new(&workerd.url(), workerd.admin_token());
        admin.create("tenants/storm", &json!({}))?;
        let pbx = json!({
            "tenant": "storm",
            "mode": "push",
            "ari_url": format!("http://127.0.0.1:{}/ari", road.port()),
            "ari_username": asterisk.ari_user(),
            "ari_password": asterisk.ari_password(),
            "sip": {"host": "127.0.0.1", "port": asterisk.sip_port()},
        });
        admin.create("pbxes/storm", &pbx)?;
        let fields = json!({"fields": [
            {"attribute": "allow", "value": "alaw"},
            {"attribute": "callerid", "value": "x <1>"},
            {"attribute": "@owner", "value": "them"},
        ]});
        let path = format!("/asterisk/config/dynamic/res_pjsip/endpoint/{DYNAMIC}");
        let (status, text) = asterisk.ari("PUT", &path, Some(&fields.to_string()))?;
        ensure!(status == 200, "{text}");
        let mut storm = Self {
            workerd,
            admin,
            asterisk,
            road,
            model: Model::default(),
            foreign: BTreeSet::new(),
            faults: 0,
        };
        storm.foreign = storm.database(|line| line.contains(DYNAMIC))?;
        ensure!(!storm.foreign.is_empty(), "nothing foreign in the database");
        for _ in 0..ACCOUNTS {
            storm.create()?;
        }
        Ok(storm)
    }

    /// Some changes by the admin, and one run on a bad road.
    fn turn(&mut self, dice: &mut Dice) -> Result<()> {
        if dice.roll(4) == 0 {
            self.confirm(false)?;
        }
        for _ in 0..dice.roll(3) {
            match dice.roll(6) {
                0 => self.create()?,
                1 if self.model.accounts.len() > ACCOUNTS / 2 => self.delete(dice)?,
                2 => self.rename(dice)?,
                _ => self.change(dice)?,
            }
        }
        self.try_again()?;
        let counted = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&counted);
        let mut own = Dice::new(u64::try_from(dice.roll(usize::MAX)).unwrap_or_default());
        // Some roads are bad now and then, some nearly always.
        let one_in = [3, 12, 60].into_iter().nth(dice.roll(3)).unwrap_or(12);
        self.road.set(move |call| {
            if own.roll(one_in) != 0 {
                return Fault::None;
            }
            if let Ok(mut seen) = seen.lock() {
                *seen += 1;
            }
            fault(call, &mut own)
        });
        self.workerd.trigger_cron()?;
        self.road.clear();
        self.faults += counted.lock().map(|n| *n).unwrap_or_default();
        self.check()
    }

    /// Nothing that was there is gone but what an admin took away, and nothing foreign is changed.
    fn check(&mut self) -> Result<()> {
        let there = self.endpoints()?;
        let gone: Vec<&String> = self.model.there.difference(&there).collect();
        ensure!(gone.is_empty(), "gone, and nobody deleted them: {gone:?}");
        let alive: BTreeSet<&String> = self.model.accounts.values().map(|(name, _)| name).collect();
        let seen = there.iter().filter(|name| alive.contains(name)).cloned();
        self.model.there = seen.collect();
        let foreign = self.database(|line| line.contains(DYNAMIC))?;
        ensure!(foreign == self.foreign, "changed: {foreign:?}");
        ensure!(there.contains(STATIC), "the static endpoint is gone");
        Ok(())
    }

    /// On a good road all is soon as the records say.
    fn settle(&mut self) -> Result<()> {
        let (mut last, mut wrong) = (Value::Null, String::new());
        self.confirm(true)?;
        self.try_again()?;
        // What an account waits for after it failed again and again ends with a change of it.
        let numbers: Vec<usize> = self.model.accounts.keys().copied().collect();
        for number in numbers {
            self.display(number, format!("Settled {number}"))?;
        }
        for _ in 0..SETTLE_WITHIN {
            self.workerd.trigger_cron()?;
            self.check()?;
            last = self.admin.done("GET", "status", None)?["reconcile"]["pbxes"]["storm"].clone();
            let waiting = last["waiting"].as_u64().unwrap_or_default();
            wrong = self.wrong(waiting)?;
            if last["outcome"] == "ok" && wrong.is_empty() {
                return Ok(());
            }
        }
        let there = self.endpoints()?;
        let accounts = self.model.accounts.iter();
        for (number, _) in accounts.filter(|(_, (name, _))| !there.contains(name)) {
            let path = format!("accounts/storm-{number}/status");
            wrong = format!("{wrong}; {}", self.admin.done("GET", &path, None)?);
        }
        bail!("not settled, {wrong}: {last}")
    }

    /// What at Asterisk is not as the records say; empty if nothing. Deletes that failed again and again are not
    /// waited for.
    fn wrong(&self, waiting: u64) -> Result<String> {
        let mut names: BTreeSet<String> = self
            .model
            .accounts
            .values()
            .map(|(name, _)| name.clone())
            .collect();
        names.extend([STATIC.to_owned(), DYNAMIC.to_owned()]);
        let there = self.endpoints()?;
        let left = there.difference(&names);
        let known = left.clone().all(|name| self.model.deleted.contains(name));
        let few = u64::try_from(left.count()).is_ok_and(|left| left <= waiting);
        if !names.is_subset(&there) || !known || !few {
            let left: Vec<_> = there.difference(&names).collect();
            let lost: Vec<_> = names.difference(&there).collect();
            return Ok(format!("{lost:?} are not there, {left:?} still are"));
        }
        for (name, display) in self.model.accounts.values() {
            let path = format!("/asterisk/config/dynamic/res_pjsip/endpoint/{name}");
            let (status, text) = self.asterisk.ari("GET", &path, None)?;
            let caller = format!("\\\"{display}\\\" <{name}>");
            if status != 200 || !text.contains(&caller) {
                return Ok(format!("{name} is {status} {text}"));
            }
        }
        // An endpoint, an auth and an aor of each, and the endpoint of somebody else's.
        let objects = self.database(|line| line.starts_with("/ps_"))?;
        let least = self.model.accounts.len() * 3 + 1;
        let fits = objects.len() == least || (objects.len() > least && waiting > 0);
        Ok(if fits {
            String::new()
        } else {
            format!("there are {} objects", objects.len())
        })
    }

    fn endpoints(&self) -> Result<BTreeSet<String>> {
        let (status, text) = self.asterisk.ari("GET", "/endpoints", None)?;
        ensure!(status == 200, "{text}");
        let list: Vec<Value> = serde_json::from_str(&text)?;
        let names = list.iter().filter_map(|one| one["resource"].as_str());
        Ok(names.map(ToOwned::to_owned).collect())
    }

    /// Lines of Asterisk's own database.
    fn database(&self, wanted: impl Fn(&str) -> bool) -> Result<BTreeSet<String>> {
        let shown = self.asterisk.cli("database show")?;
        let lines = shown.lines().filter(|line| wanted(line));
        Ok(lines.map(ToOwned::to_owned).collect())
    }

    /// Lets the deletes pass that wait for their ten minutes. There are so many plans of a PBX a minute and no
    /// more: `must` waits for the next.
    fn confirm(&self, must: bool) -> Result<()> {
        let plan = loop {
            let answer = self.admin.call("GET", "pbxes/storm/plan", None)?;
            match answer.status {
                200 => break answer.json::<Value>()?,
                429 if must => thread::sleep(Duration::from_secs(3)),
                429 => return Ok(()),
                status => bail!("the plan was answered with {status}: {}", answer.text()),
            }
        };
        let deletes = &plan["tombstones"]["confirm"];
        if deletes.is_string() {
            let confirm = json!({ "deletes": deletes });
            self.admin
                .done("POST", "pbxes/storm/confirm", Some(&confirm))?;
        }
        Ok(())
    }

    /// Has the next run ask the PBX, however often it failed: as whoever changes its record expects.
    fn try_again(&mut self) -> Result<()> {
        self.model.port = !self.model.port;
        let port = 5060 + u16::from(self.model.port);
        let sip = json!({ "sip": { "port": port } });
        self.admin.done("PATCH", "pbxes/storm", Some(&sip))?;
        Ok(())
    }

    fn create(&mut self) -> Result<()> {
        let number = self.model.next;
        self.model.next += 1;
        let (name, display) = (format!("5{number:04}"), format!("User {number}"));
        let record = json!({ "tenant": "storm", "pbx": "storm", "username": name,
            "display_name": display });
        self.admin
            .create(&format!("accounts/storm-{number}"), &record)?;
        self.model.accounts.insert(number, (name, display));
        Ok(())
    }

    fn delete(&mut self, dice: &mut Dice) -> Result<()> {
        let number = self.any(dice)?;
        self.admin
            .done("DELETE", &format!("accounts/storm-{number}"), None)?;
        if let Some((name, _)) = self.model.accounts.remove(&number) {
            self.model.there.remove(&name);
            self.model.deleted.insert(name);
        }
        Ok(())
    }

    fn rename(&mut self, dice: &mut Dice) -> Result<()> {
        let number = self.any(dice)?;
        let name = format!("6{number:04}x{}", dice.roll(10_000));
        self.patch(number, &json!({ "username": name }))?;
        if let Some(account) = self.model.accounts.get_mut(&number) {
            let former = std::mem::replace(&mut account.0, name);
            self.model.there.remove(&former);
            self.model.deleted.insert(former);
        }
        Ok(())
    }

    fn change(&mut self, dice: &mut Dice) -> Result<()> {
        let number = self.any(dice)?;
        self.display(number, format!("Name {}", dice.roll(1_000_000)))
    }

    fn display(&mut self, number: usize, display: String) -> Result<()> {
        self.patch(number, &json!({ "display_name": display }))?;
        if let Some(account) = self.model.accounts.get_mut(&number) {
            account.1 = display;
        }
        Ok(())
    }

    fn patch(&self, number: usize, change: &Value) -> Result<()> {
        let path = format!("accounts/storm-{number}");
        self.admin.done("PATCH", &path, Some(change))?;
        Ok(())
    }

    fn any(&self, dice: &mut Dice) -> Result<usize> {
        let numbers: Vec<usize> = self.model.accounts.keys().copied().collect();
        let number = numbers.get(dice.roll(numbers.len().max(1)));
        number.copied().context("no account is left")
    }
}

/// What may happen to a call, for each the likes of what was seen of a real one.
fn fault(call: &Call, dice: &mut Dice) -> Fault {
    let html =
        |status, text: &str| Fault::Says(status, "text/html", format!("<html>{text}</html>"));
    let json = |status, text: &str| Fault::Says(status, "application/json", text.to_owned());
    match dice.roll(13) {
        0 => Fault::Reset,
        1 => Fault::Unheard,
        2 => Fault::Cut(dice.roll(100)),
        3 => Fault::Late(Duration::from_millis(150)),
        4 => json(401, r#"{"message":"Authentication required"}"#),
        5 => json(403, r#"{"message":"Write access denied"}"#),
        6 => html(404, "Not Found"),
        7 => json(404, r#"{"message":"Resource not found"}"#),
        8 => json(503, r#"{"message":"Asterisk not booted"}"#),
        9 => html(200, "Sign in"),
        10 => json(200, r#"{"endpoints":[]}"#),
        11 if call.path.contains("/endpoints") => json(200, r#"[{"technology":"PJSIP","#),
        // A list that is well formed and empty: all that it could mean is what nobody may conclude.
        _ => json(200, "[]"),
    }
}
