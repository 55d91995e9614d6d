//! `cargo xtask soak --fleet`: the phones of a large customer are imported into a Dialtone on local workerd by the very
//! commands that admins use, listed, filtered and exported, and must come back as they were.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context as _, Result, bail, ensure};
use dialtone_kit::project;
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::admin::{Admin, TOKEN_VARIABLE};

/// How many phones a whole run has.
pub const DEVICES: usize = 100_000;

/// How many one has that the other soaks run beside.
pub const SOME_DEVICES: usize = 3_000;

/// How many one of CI has: more than a page of an export.
pub const FEW_DEVICES: usize = 600;

/// How many phones have the same account; Dialtone takes 20.
const SHARING: usize = 10;

/// What the phones are.
const MODELS: [(&str, &str); 4] = [
    ("yealink", "T46U"),
    ("snom", "D785"),
    ("poly", "VVX450"),
    ("grandstream", "GRP2614"),
];

/// How many sites they are at.
const SITES: usize = 50;

fn mac(n: usize) -> String {
    format!("0250f1{n:06x}")
}

fn account(n: usize) -> String {
    format!("fleet-{}", n / SHARING)
}

fn serial(n: usize) -> String {
    format!("FLEET{n:08}")
}

/// A phone as it is imported, and as it must come back.
fn device(n: usize) -> Value {
    let (vendor, model) = MODELS[n % MODELS.len()];
    json!({
        "mac": mac(n), "tenant": "fleet", "vendor": vendor, "model": model, "serial": serial(n),
        "site": format!("site-{:02}", n % SITES), "user_type": "standard", "enabled": true,
        "lines": [{ "line": 1, "account": account(n), "label": format!("Desk \"{n}\", é") }],
        "buttons": [
            { "key": 1, "type": "line", "line": 1 },
            { "key": 2, "type": "blf", "value": format!("{}", 1000 + n % 1000), "label": "Réception", "line": 1 },
        ],
        "settings": { "language": "fr" },
    })
}

/// Runs all of it with so many phones.
pub fn run(devices: usize) -> Result<()> {
    println!("fleet: {devices} devices");
    // Where there is `/proc`, this is the program that runs, also after a build put another one in its place (proc(5)).
    let running = Path::new("/proc/self/exe");
    let program = if running.exists() {
        running.to_owned()
    } else {
        env::current_exe()?
    };
    let directory = project::target_dir().join("fleet");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    let workerd = Workerd::start(&Options::new())?;
    let admin = Admin::new(&workerd.url(), workerd.admin_token());
    admin.create("tenants/fleet", &json!({}))?;
    let pbx = json!({ "tenant": "fleet", "ari_url": "http://127.0.0.1:1/ari", "ari_username": "a",
        "ari_password": "b", "sip": { "host": "pbx.example.com" } });
    admin.create("pbxes/fleet", &pbx)?;
    let fleet = Fleet {
        program,
        workerd,
        admin,
        directory,
        devices,
    };
    fleet.import()?;
    fleet.list()?;
    fleet.filter()?;
    fleet.export()?;
    fleet.say_what_it_took()?;
    fs::remove_dir_all(&fleet.directory)?;
    Ok(())
}

struct Fleet {
    /// This very program, for its other tasks.
    program: PathBuf,
    workerd: Workerd,
    admin: Admin,
    directory: PathBuf,
    devices: usize,
}

impl Fleet {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn import(&self) -> Result<()> {
        let mut accounts = "id,tenant,pbx,username,display_name\n".to_owned();
        for n in (0..self.devices).step_by(SHARING) {
            let id = account(n);
            writeln!(accounts, "{id},fleet,fleet,{id},\"Ö, {id}\"")?;
        }
        fs::write(self.file("accounts.csv"), accounts)?;
        let mut devices = String::new();
        for n in 0..self.devices {
            writeln!(devices, "{}", device(n))?;
        }
        fs::write(self.file("devices.ndjson"), devices)?;
        let accounts = self.command("import", "accounts.csv", &["--accounts"])?;
        let made = self.devices.div_ceil(SHARING);
        ensure!(
            accounts.contains(&format!("{made} created, 0 changed")),
            "{accounts}"
        );
        let devices = self.command("import", "devices.ndjson", &[])?;
        let wanted = format!(
            "{} created, 0 changed, 0 unchanged, 0 refused",
            self.devices
        );
        ensure!(devices.contains(&wanted), "{devices}");
        Ok(())
    }

    /// Runs a task of this very program to its end and says what it took: what it printed.
    fn command(&self, task: &str, file: &str, options: &[&str]) -> Result<String> {
        let begun = Instant::now();
        let said = self.file("said");
        let mut child = Command::new(&self.program)
            .arg(task)
            .arg(self.file(file))
            .args(["--url", &self.workerd.url()])
            .args(options)
            .env(TOKEN_VARIABLE, self.workerd.admin_token())
            .stdout(File::create(&said)?)
            .spawn()
            .context("cannot start a task")?;
        let mut memory = 0;
        let status = loop {
            memory = peak(child.id()).unwrap_or(memory).max(memory);
            if let Some(status) = child.try_wait()? {
                break status;
            }
            thread::sleep(Duration::from_millis(50));
        };
        let said = fs::read_to_string(&said)?;
        if !status.success() {
            bail!("{task} of {file} ended with {status}: {said}");
        }
        let seconds = begun.elapsed().as_secs_f64();
        let mib = memory / 1024;
        println!("fleet: {task} of {file}: {seconds:.0} s, the command {mib} MiB at most");
        Ok(said)
    }

    /// The MACs of a list, page by page.
    fn macs(&self, query: &str) -> Result<Vec<String>> {
        let mut macs = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("devices?{query}{cursor}");
            let page = self.admin.done("GET", &path, None)?;
            let items = page["items"].as_array().context("a page without items")?;
            for item in items {
                macs.push(
                    item["mac"]
                        .as_str()
                        .context("a device without MAC")?
                        .to_owned(),
                );
            }
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(macs),
            }
        }
    }

    fn expect(&self, query: &str, is_wanted: impl Fn(usize) -> bool) -> Result<()> {
        let begun = Instant::now();
        let found = self.macs(query)?;
        let wanted: Vec<String> = (0..self.devices)
            .filter(|n| is_wanted(*n))
            .map(mac)
            .collect();
        ensure!(
            found == wanted,
            "devices?{query} found {} devices, not {}, or others",
            found.len(),
            wanted.len()
        );
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "fleet: devices?{query}: {} devices in {seconds:.1} s",
            found.len()
        );
        Ok(())
    }

    fn list(&self) -> Result<()> {
        self.expect("tenant=fleet&limit=200", |_| true)
    }

    fn filter(&self) -> Result<()> {
        self.expect("site=site-07&limit=200", |n| n % SITES == 7)?;
        self.expect("vendor=poly&site=site-22&limit=200", |n| {
            n % SITES == 22 && MODELS[n % MODELS.len()].0 == "poly"
        })?;
        let last = self.devices - 1;
        let text = serial(last).to_lowercase();
        self.expect(&format!("q={text}"), |n| n == last)
    }

    fn export(&self) -> Result<()> {
        self.command("export", "out.ndjson", &["--tenant", "fleet"])?;
        let lines = BufReader::new(File::open(self.file("out.ndjson"))?).lines();
        let mut count = 0;
        for (n, line) in lines.enumerate() {
            let line: Value = serde_json::from_str(&line?)?;
            ensure!(
                line == device(n),
                "exported as {line}, not as {}",
                device(n)
            );
            count += 1;
        }
        ensure!(count == self.devices, "{count} were exported");
        // What the other form says is the same if to import it changes nothing.
        self.command("export", "out.csv", &["--tenant", "fleet"])?;
        let again = self.command("import", "out.csv", &[])?;
        let wanted = format!(
            "0 created, 0 changed, {} unchanged, 0 refused",
            self.devices
        );
        ensure!(again.contains(&wanted), "{again}");
        Ok(())
    }

    fn say_what_it_took(&self) -> Result<()> {
        let pids = self.workerd.runtime_pids();
        let memory: BTreeMap<u32, u64> = pids
            .into_iter()
            .filter_map(|pid| Some((pid, peak(pid)? / 1024)))
            .collect();
        let memory: Vec<String> = memory.values().map(|mib| format!("{mib} MiB")).collect();
        let disk = size(self.workerd.persist_dir())? >> 20;
        println!(
            "fleet: the runtimes with their simulators of KV and R2 took {} at most, and {disk} MiB of disk",
            memory.join(" and ")
        );
        Ok(())
    }
}

/// The most memory that a process had so far, in KiB (proc(5), `VmHWM`); `None` where there is no `/proc`.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().split(' ').next()?.parse().ok()
}

/// The bytes of a directory's files.
fn size(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // A file of the runtime's may go away meanwhile.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        sum += if metadata.is_dir() {
            size(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(sum)
}
