//! `cargo xtask soak`: long random sequences of saves, rotations, revocations and fetches against a
//! Dialtone on local workerd, held against a model of what must be true. The seed is printed, so that
//! a run that fails can be run again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use dialtone_kit::http::{self, Response};
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::{fleet, scan, schema, storm};

/// How long a whole soak takes if nobody says otherwise.
const MINUTES: u64 = 10;

/// The phones that the model knows.
const PHONES: usize = 6;

/// The seed of a tenth, which CI runs: what it finds comes from the change. A whole run has a new one each time.
const SEED_OF_TENTH: u64 = 20_261_129;

/// Numbers without a pattern but with a seed (xorshift64*, Vigna 2016): a run can be repeated.
pub struct Dice(u64);

impl Dice {
    /// Numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// One of 0 to `sides` - 1.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap_or_default() % sides
    }
}

/// A phone as it must be.
struct Model {
    mac: String,
    account: String,
    display_name: String,
    /// Its URL, while it has one.
    url: Option<String>,
    /// URLs that must never open anything again.
    ended: Vec<String>,
}

/// What a run did.
#[derive(Default)]
struct Tally {
    saves: u32,
    fetches: u32,
    rotations: u32,
    revocations: u32,
    refusals: u32,
    restarts: u32,
}

/// Runs for as long as the arguments say.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut time = Duration::from_secs(MINUTES * 60);
    let mut seed = None;
    let mut macs = scan::MACS;
    let mut runs = storm::RUNS;
    let mut schema_time = schema::TIME;
    let mut devices = None;
    let mut some_devices = fleet::SOME_DEVICES;
    let mut alone: Option<&str> = None;
    let mut tenth = false;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64> {
            let text = words
                .next()
                .with_context(|| format!("{word} wants a number"))?;
            text.parse()
                .with_context(|| format!("{word} wants a number, not {text}"))
        };
        match word.as_str() {
            "--minutes" => {
                time = Duration::from_secs(number()? * 60);
                schema_time = time;
            }
            "--devices" => devices = Some(usize::try_from(number()?)?),
            "--seed" => seed = Some(number()?),
            "--tenth" => {
                time = Duration::from_secs(MINUTES * 6);
                macs = scan::MACS / 10;
                runs = storm::RUNS / 10;
                schema_time = schema::SHORT_TIME;
                some_devices = fleet::FEW_DEVICES;
                tenth = true;
            }
            "--fleet" | "--scan" | "--storm" | "--schema" => alone = Some(word),
            _ => {
                bail!(
                    "say cargo xtask soak [--minutes N] [--seed N] [--devices N] [--tenth] \
                     [--fleet | --scan | --schema | --storm]"
                )
            }
        }
    }
    let mut fresh = [0; 8];
    getrandom::fill(&mut fresh).context("this machine gives no random bytes")?;
    let fresh = if tenth {
        SEED_OF_TENTH
    } else {
        u64::from_le_bytes(fresh)
    };
    let seed = seed.unwrap_or(fresh);
    match alone {
        Some("--fleet") => return fleet::run(devices.unwrap_or(fleet::DEVICES)),
        Some("--scan") => return scan::run(macs, seed),
        Some("--schema") => return schema::run(schema_time, seed),
        Some(_) => return storm::run(runs, seed),
        None => {}
    }
    // Side by side, each with a Dialtone of its own.
    thread::scope(|scope| {
        let scanning = scope.spawn(|| scan::run(macs, seed));
        let storming = scope.spawn(|| storm::run(runs, seed));
        let reading = scope.spawn(|| schema::run(schema_time, seed));
        let importing = scope.spawn(|| fleet::run(devices.unwrap_or(some_devices)));
        let soaked = soak(time, seed);
        let (scanned, stormed) = (scanning.join(), storming.join());
        let (read, imported) = (reading.join(), importing.join());
        soaked?;
        scanned.map_err(|_| anyhow!("the scan died"))??;
        stormed.map_err(|_| anyhow!("the storm died"))??;
        read.map_err(|_| anyhow!("the reader of the document died"))??;
        imported.map_err(|_| anyhow!("the fleet died"))?
    })
}

/// One run.
pub fn soak(time: Duration, seed: u64) -> Result<()> {
    println!("soak: {} s with --seed {seed}", time.as_secs());
    let mut workerd = Workerd::start(&Options::new())?;
    let mut dice = Dice::new(seed);
    let mut phones = set_up(&workerd)?;
    let mut tally = Tally::default();
    let start = Instant::now();
    let half = time / 2;
    while start.elapsed() < time {
        if tally.restarts == 0 && start.elapsed() > half {
            // What was answered must outlive the process.
            workerd.restart()?;
            tally.restarts += 1;
        }
        let which = dice.roll(phones.len());
        let what = dice.roll(10);
        let phone = phones.get_mut(which).context("a phone of the model")?;
        step(&workerd, phone, what, &mut dice, &mut tally).with_context(|| {
            format!(
                "seed {seed}, phone {}, after {:?}",
                phone.mac,
                start.elapsed()
            )
        })?;
    }
    println!(
        "soak: {} saves, {} fetches, {} rotations, {} revocations, {} refusals, {} restart: all as they must be",
        tally.saves,
        tally.fetches,
        tally.rotations,
        tally.revocations,
        tally.refusals,
        tally.restarts
    );
    Ok(())
}

fn set_up(workerd: &Workerd) -> Result<Vec<Model>> {
    let admin = Admin::new(&workerd.url(), workerd.admin_token());
    admin.create("tenants/soak", &json!({}))?;
    let pbx = json!({ "tenant": "soak", "ari_url": "http://127.0.0.1:1/ari", "ari_username": "a",
        "ari_password": "b", "sip": { "host": "pbx.example.com" } });
    admin.create("pbxes/soak", &pbx)?;
    (0..PHONES)
        .map(|n| {
            let (mac, account) = (format!("0250a40000{n:02x}"), format!("soak-{n}"));
            let record = json!({ "tenant": "soak", "pbx": "soak", "username": format!("10{n:02}"),
                "display_name": "First" });
            admin.create(&format!("accounts/{account}"), &record)?;
            let record = json!({ "tenant": "soak", "vendor": "yealink", "model": "T46U",
                "serial": format!("SERIAL{n}"), "lines": [{ "line": 1, "account": account }] });
            admin.create(&format!("devices/{mac}"), &record)?;
            Ok(Model {
                mac,
                account,
                display_name: "First".to_owned(),
                url: None,
                ended: Vec::new(),
            })
        })
        .collect()
}

fn step(
    workerd: &Workerd,
    phone: &mut Model,
    what: usize,
    dice: &mut Dice,
    tally: &mut Tally,
) -> Result<()> {
    let admin = Admin::new(&workerd.url(), workerd.admin_token());
    match what {
        0 | 1 => {
            let name = format!("Name {}", dice.roll(1_000_000));
            let path = format!("accounts/{}", phone.account);
            admin.done("PATCH", &path, Some(&json!({ "display_name": name })))?;
            phone.display_name = name;
            tally.saves += 1;
        }
        2 => {
            let site = format!("site{}", dice.roll(100));
            let path = format!("devices/{}", phone.mac);
            admin.done("PATCH", &path, Some(&json!({ "site": site })))?;
            tally.saves += 1;
        }
        3 => {
            admin.done("POST", &format!("devices/{}/rotate", phone.mac), None)?;
            tally.rotations += 1;
        }
        4 if dice.roll(4) == 0 => {
            admin.done("POST", &format!("devices/{}/revoke", phone.mac), None)?;
            phone.ended.extend(phone.url.take());
            tally.revocations += 1;
        }
        5 => {
            let wrong = format!("{}/rps?mac={}&serial=WRONG", workerd.url(), phone.mac);
            let nobody = format!("{}/rps?mac=0250a4ffffff&serial=WRONG", workerd.url());
            let (a, b) = (http::get(&wrong).send()?, http::get(&nobody).send()?);
            // The limit of misses a minute may be reached for both, but never for one alone unless
            // it falls between them.
            let limited = a.status == 429 || b.status == 429;
            if !limited && (a.status, &a.body) != (b.status, &b.body) {
                bail!(
                    "a wrong serial and an unknown MAC differ: {} and {}",
                    a.status,
                    b.status
                );
            }
            tally.refusals += 2;
        }
        _ => fetch(workerd, phone, tally)?,
    }
    if let Some(url) = phone.ended.last() {
        let answer = http::get(&format!("{url}ACC.cfg")).send()?;
        if answer.status != 404 {
            bail!("a revoked URL was answered with {}", answer.status);
        }
    }
    Ok(())
}

/// The phone fetches its accounts, where it was told to, or where the RPS tells it.
fn fetch(workerd: &Workerd, phone: &mut Model, tally: &mut Tally) -> Result<()> {
    if phone.url.is_none() {
        let n = phone.account.trim_start_matches("soak-");
        let url = format!("{}/rps?mac={}&serial=SERIAL{n}", workerd.url(), phone.mac);
        let answer: Value = whole(&http::get(&url).send()?)?.json()?;
        phone.url = answer["url"].as_str().map(ToOwned::to_owned);
    }
    let url = phone.url.clone().context("the RPS gave no URL")?;
    let first = whole(&http::get(&format!("{url}first.cfg")).send()?)?.text();
    let acc = whole(&http::get(&format!("{url}ACC.cfg")).send()?)?.text();
    let wanted = format!("account.1.display_name = {}\n", phone.display_name);
    if !acc.contains(&wanted) || !acc.ends_with('\n') {
        bail!("ACC.cfg has not the saved name {:?}", phone.display_name);
    }
    // After a rotation the old URL's files lead to the new one.
    let next = first
        .lines()
        .find_map(|line| line.strip_prefix("static.auto_provision.server.url = "));
    phone.url = Some(next.context("first.cfg has no URL")?.to_owned());
    tally.fetches += 1;
    Ok(())
}

fn whole(answer: &Response) -> Result<&Response> {
    if answer.status == 200 {
        Ok(answer)
    } else {
        bail!(
            "the phone was answered with {}: {}",
            answer.status,
            answer.text()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_rolls_the_same() {
        let rolls = |seed| -> Vec<usize> {
            let mut dice = Dice(seed);
            (0..50).map(|_| dice.roll(10)).collect()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(9));
        assert!(rolls(7).iter().all(|roll| *roll < 10));
    }
}
