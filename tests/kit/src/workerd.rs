//! The Worker in workerd, Cloudflare's own runtime, with Miniflare's KV, R2 and rate limits around
//! it: `wrangler dev` on a port of its own, with state and secrets of its own, gone when dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use toml::{Table, Value};

use crate::apt::{self, Process};
use crate::dev_vars::{self, ADMIN_TOKEN, SEAL_KEY};
use crate::{http, npm, project};

/// Set to skip the build before a start: whoever sets it has just built.
pub const SKIP_BUILD: &str = "DIALTONE_SKIP_BUILD";

/// A start takes 4 s on a quiet machine; one with everything else running at once, a minute.
const START_LIMIT: Duration = Duration::from_mins(2);

/// How long Wrangler may take to close its databases before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(50);

/// Between the choice of a free port and its use another program may take it.
const PORT_ATTEMPTS: u32 = 3;

/// What a [`Workerd`] is started with. The default: fresh random secrets and empty storage.
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until something is started with them"]
pub struct Options {
    features: Vec<String>,
    secrets: BTreeMap<String, Option<String>>,
    vars: BTreeMap<String, String>,
    limits: BTreeMap<String, u32>,
    persist_dir: Option<PathBuf>,
    https: bool,
    port: Option<u16>,
    inspected: bool,
    built: bool,
}

impl Options {
    /// Fresh random `ADMIN_TOKEN` and `SEAL_KEY`, and storage that is gone afterwards.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a secret, in place of the random one where there is one.
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.insert(name.into(), Some(value.into()));
        self
    }

    /// Leaves a secret out.
    pub fn without_secret(mut self, name: &str) -> Self {
        self.secrets.insert(name.into(), None);
        self
    }

    /// Sets a variable, such as `PUBLIC_URL`.
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// Sets how much a rate limit lets through, in place of what `wrangler.toml` says.
    pub fn limit(mut self, name: &str, limit: u32) -> Self {
        self.limits.insert(name.into(), limit);
        self
    }

    /// Keeps KV and R2 in that directory, beyond the life of the [`Workerd`].
    pub fn persist_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.persist_dir = Some(directory.into());
        self
    }

    /// Takes that port if it is free; another one otherwise, and by default.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Opens the runtime's inspector, which says how much memory the Worker's isolate takes.
    pub fn inspected(mut self) -> Self {
        self.inspected = true;
        self
    }

    /// Leaves the build out: the caller has just built.
    pub fn built(mut self) -> Self {
        self.built = true;
        self
    }

    /// Makes every request look to the Worker as if it came over `https:`, as behind Cloudflare's
    /// edge. The URL to ask stays `http:`, and in answers' headers Wrangler turns the Worker's own
    /// origin back into that.
    pub fn https(mut self) -> Self {
        self.https = true;
        self
    }

    /// Runs a build of its own, with that Cargo feature of the Worker.
    pub fn feature(mut self, feature: &str) -> Self {
        self.features.push(feature.into());
        self
    }
}

/// The Worker, running. Dropping it stops all its processes.
#[derive(Debug)]
pub struct Workerd {
    // First, so that the processes are dead before their directory goes.
    process: Option<Process>,
    port: u16,
    secrets: BTreeMap<String, String>,
    persist_dir: PathBuf,
    run_dir: TempDir,
    https: bool,
    /// Of the inspector; 0: it is closed.
    inspector_port: u16,
}

impl Workerd {
    /// Builds the Worker if need be, starts it, and waits until it answers.
    ///
    /// # Errors
    /// If the npm packages or the build cannot be made, or the Worker does not answer in time.
    pub fn start(options: &Options) -> Result<Self> {
        npm::ensure_packages()?;
        let script = build(&options.features, options.built)?;

        let run_dir = tempfile::Builder::new()
            .prefix("dialtone-workerd-")
            .tempdir()?;
        let persist_dir = options
            .persist_dir
            .clone()
            .unwrap_or_else(|| run_dir.path().join("state"));
        fs::create_dir_all(run_dir.path().join("tmp"))?;

        let mut secrets = BTreeMap::from([
            (ADMIN_TOKEN.to_owned(), dev_vars::random_admin_token()?),
            (SEAL_KEY.to_owned(), dev_vars::random_seal_key()?),
        ]);
        for (name, value) in &options.secrets {
            match value {
                Some(value) => secrets.insert(name.clone(), value.clone()),
                None => secrets.remove(name),
            };
        }

        let mut workerd = Self {
            process: None,
            port: 0,
            secrets,
            persist_dir,
            run_dir,
            https: options.https,
            inspector_port: if options.inspected { free_port()? } else { 0 },
        };
        workerd.write_config(&script, options)?;
        workerd.write_secrets()?;
        workerd.start_on_free_port(options.port)?;
        Ok(workerd)
    }

    /// The origin, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of the inspector on 127.0.0.1, if the Worker was started with
    /// [`Options::inspected`].
    #[must_use]
    pub fn inspector_port(&self) -> Option<u16> {
        Some(self.inspector_port).filter(|port| *port != 0)
    }

    /// The process ids of the runtime, below Wrangler, which has one for itself too; none where there
    /// is no `/proc`. It runs the simulators of KV and R2 beside the Worker.
    #[must_use]
    pub fn runtime_pids(&self) -> Vec<u32> {
        let group = self
            .process
            .as_ref()
            .map(|process| process.pid().to_string());
        let of_group = |entry: fs::DirEntry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name is in parentheses; state, parent and group follow it (proc(5)).
            let (head, rest) = stat.rsplit_once(") ")?;
            let (pid, name) = head.split_once(" (")?;
            let ours = name == "workerd" && rest.split(' ').nth(2) == group.as_deref();
            ours.then(|| pid.parse().ok()).flatten()
        };
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(of_group).collect()
    }

    /// Whether it still runs; if not, [`Self::log`] says why.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_running)
    }

    /// The admin's bearer token; empty if the Worker was started without.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        self.secrets.get(ADMIN_TOKEN).map_or("", String::as_str)
    }

    /// The seal key; empty if the Worker was started without.
    #[must_use]
    pub fn seal_key(&self) -> &str {
        self.secrets.get(SEAL_KEY).map_or("", String::as_str)
    }

    /// Where KV and R2 are kept: `SQLite` files and blobs below `v3/kv` and `v3/r2`.
    #[must_use]
    pub fn persist_dir(&self) -> &Path {
        &self.persist_dir
    }

    /// All that Wrangler and the Worker have written so far, restarts included, without colours.
    #[must_use]
    pub fn log(&self) -> String {
        without_colours(&self.log_since(0))
    }

    fn log_since(&self, offset: usize) -> String {
        let bytes = fs::read(self.path("log")).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(offset..).unwrap_or_default()).into_owned()
    }

    /// Runs the `scheduled` handler once, and waits for its end.
    ///
    /// # Errors
    /// If the handler failed, or does not exist.
    pub fn trigger_cron(&self) -> Result<()> {
        let url = format!("{}/cdn-cgi/handler/scheduled?cron=*+*+*+*+*", self.url());
        // A run may take 30 s of its own, and waits for other machines.
        let answer = http::get(&url).limit(Duration::from_mins(3)).send()?;
        if answer.status != 200 || answer.body != b"ok" {
            bail!(
                "the scheduled run failed: {} {}",
                answer.status,
                answer.text()
            );
        }
        Ok(())
    }

    /// Stops the Worker and starts it again, on the same port and with the same storage.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        match self.boot()? {
            Boot::Answers => Ok(()),
            Boot::PortTaken => bail!("port {} was taken in the meantime", self.port),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.run_dir.path().join(name)
    }

    /// The project's `wrangler.toml`, without its build command and with the paths made absolute.
    fn write_config(&self, script: &Path, options: &Options) -> Result<()> {
        let vars = &options.vars;
        let source = project::root().join("wrangler.toml");
        let text = fs::read_to_string(&source)
            .with_context(|| format!("cannot read {}", source.display()))?;
        let mut config: Table = text
            .parse()
            .with_context(|| format!("{} is no TOML", source.display()))?;
        config.remove("build");
        config.insert("main".into(), script.display().to_string().into());
        let assets = config.get_mut("assets").and_then(Value::as_table_mut);
        let assets = assets.context("wrangler.toml has no assets")?;
        let directory = project::root().join("build/assets");
        assets.insert("directory".into(), directory.display().to_string().into());
        for (name, limit) in &options.limits {
            let limits = config.get_mut("ratelimits").and_then(Value::as_array_mut);
            let mut limits = limits.into_iter().flatten();
            let named =
                limits.find(|table| table.get("name").is_some_and(|n| n.as_str() == Some(name)));
            let simple = named.and_then(|table| table.get_mut("simple")?.as_table_mut());
            let simple = simple.with_context(|| format!("there is no rate limit {name}"))?;
            simple.insert("limit".into(), i64::from(*limit).into());
        }
        if !vars.is_empty() {
            let table = config
                .entry("vars")
                .or_insert_with(|| Value::Table(Table::new()))
                .as_table_mut()
                .context("`vars` in wrangler.toml is no table")?;
            table.extend(
                vars.iter()
                    .map(|(name, value)| (name.clone(), value.clone().into())),
            );
        }
        fs::write(self.path("wrangler.toml"), config.to_string())?;
        Ok(())
    }

    fn write_secrets(&self) -> Result<()> {
        let lines: String = self
            .secrets
            .iter()
            .map(|(name, value)| dev_vars::line(name, value))
            .collect();
        dev_vars::append(&self.path("secrets.env"), &lines)
    }

    fn start_on_free_port(&mut self, wish: Option<u16>) -> Result<()> {
        let mut wish = wish.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
        for _ in 0..PORT_ATTEMPTS {
            self.port = wish.take().map_or_else(free_port, Ok)?;
            match self.boot()? {
                Boot::Answers => return Ok(()),
                Boot::PortTaken => self.stop()?,
            }
        }
        bail!("found no port that stays free")
    }

    fn boot(&mut self) -> Result<Boot> {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path("log"))?;
        let said_before = usize::try_from(log.metadata()?.len())?;
        self.process = Some(self.spawn(log)?);

        let start = Instant::now();
        loop {
            let said = without_colours(&self.log_since(said_before));
            if said.contains("Address already in use") || said.contains("EADDRINUSE") {
                return Ok(Boot::PortTaken);
            }
            if said.contains("Ready on http") {
                // Any status: what a healthy Worker says to this is for its own tests.
                http::get(&format!("{}/", self.url())).send()?;
                return Ok(Boot::Answers);
            }
            let runs = self.process.as_ref().is_some_and(Process::is_running);
            if !runs || start.elapsed() > START_LIMIT {
                let fate = if runs {
                    "is not ready in time"
                } else {
                    "ended at once"
                };
                bail!("wrangler dev {fate}: {}", apt::tail(said.as_bytes()));
            }
            thread::sleep(POLL);
        }
    }

    fn spawn(&self, log: File) -> Result<Process> {
        let mut command = npm::wrangler()?;
        command
            .args(["dev", "--ip", "127.0.0.1"])
            .args(["--inspector-port", &self.inspector_port.to_string()])
            .args(["--port", &self.port.to_string()])
            .args([
                "--show-interactive-dev-session=false",
                "--live-reload=false",
            ])
            .arg("--config")
            .arg(self.path("wrangler.toml"))
            .arg(format!(
                "--upstream-protocol={}",
                if self.https { "https" } else { "http" }
            ))
            // Named, so that neither a `.dev.vars` nor an `.env` of the developer is read.
            .arg("--env-file")
            .arg(self.path("secrets.env"))
            .arg("--persist-to")
            .arg(&self.persist_dir)
            // What it leaves behind when it is killed goes with the directory.
            .env("TMPDIR", self.path("tmp"))
            .env("WRANGLER_LOG_PATH", self.path("tmp/wrangler.log"))
            // Otherwise all Workers of this name on the machine would find each other.
            .env("WRANGLER_REGISTRY_PATH", self.path("tmp/registry"))
            .env("WRANGLER_CACHE_DIR", self.path("tmp/cache"))
            .env("WRANGLER_HIDE_BANNER", "true")
            // Otherwise each request's URL and log lines are kept beside KV and R2.
            .env("X_LOCAL_OBSERVABILITY", "false")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Process::spawn_in(&mut command, Some(self.run_dir.path()))
    }

    /// Kills the Worker with all its processes, whatever they are at; [`Self::restart`] starts it again.
    ///
    /// # Errors
    /// If its processes cannot be reached.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.finish()?;
        }
        Ok(())
    }

    /// Stops the Worker: first as Wrangler likes it, so that it closes its databases, then by force.
    ///
    /// # Errors
    /// If its processes cannot be reached.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            if process.is_running() {
                process.signal("TERM")?;
                process.wait_within(STOP_LIMIT);
            }
            process.finish()?;
        }
        Ok(())
    }
}

impl Drop for Workerd {
    fn drop(&mut self) {
        if thread::panicking() {
            // The directory is about to go, and the Worker's own words tell most about the failure.
            eprintln!(
                "the Worker's last lines:\n{}",
                apt::tail(self.log().as_bytes())
            );
        }
    }
}

enum Boot {
    Answers,
    PortTaken,
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Takes the terminal's colour codes out: Wrangler's errors have them, `NO_COLOR` or not.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

/// Builds the Worker with these features, once in this process and not if it is `fresh`, and says
/// where its script is.
fn build(features: &[String], fresh: bool) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

    let name = features.join("-");
    let script = project::root().join("build").join(&name).join("index.js");
    // A build that failed leaves its name out, so a poisoned lock does no harm.
    let mut built = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if fresh || built.contains(&name) || std::env::var_os(SKIP_BUILD).is_some() {
        return Ok(script);
    }
    // By way of `cargo run`: the task and its compiler version are Cargo's business, not ours.
    let mut command = project::cargo();
    command.args(["run", "--quiet", "--package", "xtask", "--", "build"]);
    if !features.is_empty() {
        command.args(["--features", &features.join(",")]);
    }
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the build of the Worker failed: `cargo xtask build` says why");
    }
    built.insert(name);
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_colours_out_and_nothing_else() {
        let text = "\x1b[31m\u{2718} [41;31m\x1b[1mjs error\x1b[0m: m";
        assert_eq!(without_colours(text), "\u{2718} [41;31mjs error: m");
        assert_eq!(without_colours("plain"), "plain");
    }
}
