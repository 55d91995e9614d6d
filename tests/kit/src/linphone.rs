//! Linphone, a real softphone with real remote provisioning: it gets nothing but a configuration
//! URI, and everything else must come from there. Each one lives in a home directory of its own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::apt::{self, Package, Process};

/// What Debian calls it.
pub const LINPHONE: Package = Package {
    name: "linphone-cli",
    provides: "linphonec",
};

/// How long linphonec may take to answer a command; its first answer comes when it has started.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// On its way out it unregisters, and waits for the answer.
const QUIT_LIMIT: Duration = Duration::from_secs(10);

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(50);

/// What a test may wish of its phone.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Sent with each fetch of the configuration. Otherwise the first says `Unknown` and a later
    /// one `Linphonec/<version>`; SIP says the latter in any case.
    pub user_agent: Option<String>,
    /// A certificate authority to trust for `https`. The URI's host must then be a DNS name that
    /// is in the certificate: Linphone does not accept an address there.
    pub authority: Option<PathBuf>,
}

/// A running linphonec. Dropping it kills the process and removes its home.
#[derive(Debug)]
pub struct Linphone {
    // First, so that the process is dead before its home goes.
    process: Option<Process>,
    home: TempDir,
    user_agent: Option<String>,
}

impl Linphone {
    /// Starts a factory-fresh phone that knows this configuration URI only.
    ///
    /// Linphone does not follow a redirect. A user in the URI is for HTTP Digest; there is no Basic.
    ///
    /// # Errors
    /// If linphonec cannot be had or started. A failed fetch is no error: the phone just stays
    /// without an account.
    pub fn start(config_uri: &str, options: &Options) -> Result<Self> {
        apt::ensure_packages(&[LINPHONE])?;
        let mut phone = Self {
            process: None,
            home: tempfile::Builder::new().prefix("linphone-").tempdir()?,
            user_agent: options.user_agent.clone(),
        };
        fs::write(phone.path("rc"), configuration(config_uri, options)?)?;
        phone.launch()?;
        Ok(phone)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn launch(&mut self) -> Result<()> {
        self.set_user_agent()?;
        let console = File::create(self.path("console"))?;
        let mut command = Command::new("linphonec");
        command
            .arg("-c")
            .arg(self.path("rc"))
            .args(["-d", "6", "-l"])
            .arg(self.path("log"))
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            // The sound library leaves a directory there.
            .env("TMPDIR", self.home.path())
            // It ends when its standard input does, so this pipe stays open.
            .stdin(Stdio::piped())
            .stdout(console.try_clone()?)
            .stderr(console);
        // The places it would take in that home anyway: it makes no parent directories.
        for (variable, directory) in [
            ("XDG_CONFIG_HOME", ".config"),
            ("XDG_DATA_HOME", ".local/share"),
            ("XDG_CACHE_HOME", ".cache"),
        ] {
            let directory = self.path(directory);
            fs::create_dir_all(directory.join("linphone"))?;
            command.env(variable, directory);
        }
        self.process = Some(Process::spawn(&mut command)?);
        Ok(())
    }

    /// Linphonec fetches first and writes its own name into its configuration later, so this is
    /// done again before each start.
    fn set_user_agent(&self) -> Result<()> {
        const KEY: &str = "user_agent=";
        let Some(user_agent) = &self.user_agent else {
            return Ok(());
        };
        let rc = self.rc();
        let mut lines: Vec<String> = rc
            .lines()
            .filter(|line| !line.starts_with(KEY))
            .map(str::to_owned)
            .collect();
        let section = lines
            .iter()
            .position(|line| line == "[sip]")
            .context("no section [sip] in linphonec's configuration")?;
        lines.insert(section + 1, format!("{KEY}{user_agent}"));
        fs::write(self.path("rc"), lines.join("\n") + "\n")?;
        Ok(())
    }

    fn say(&mut self, command: &str) -> Result<()> {
        let stdin = self
            .process
            .as_mut()
            .context("linphonec was stopped")?
            .stdin()
            .context("linphonec has no standard input")?;
        writeln!(stdin, "{command}").context("linphonec has ended")?;
        Ok(())
    }

    fn console(&self) -> String {
        let bytes = fs::read(self.path("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What linphonec says to `status register`: `registered, identity=sip:...`, or `registered=0`
    /// for a phone that has no account or waits for an answer, or `registered=-1` for a refused one.
    ///
    /// # Errors
    /// If linphonec has ended, or does not answer within twenty seconds.
    pub fn register_status(&mut self) -> Result<String> {
        let is_answer = |line: &str| line.starts_with("registered");
        let asked = self
            .console()
            .lines()
            .filter(|line| is_answer(line))
            .count();
        self.say("status register")?;
        let start = Instant::now();
        loop {
            let console = self.console();
            // Only a line that has its end: the rest of this one may not be written yet.
            let answer = console
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n') && is_answer(line))
                .nth(asked);
            if let Some(answer) = answer {
                return Ok(answer.trim_end().to_owned());
            }
            let running = self.process.as_ref().is_some_and(Process::is_running);
            if !running || start.elapsed() > ANSWER_LIMIT {
                let verdict = if running {
                    "does not answer"
                } else {
                    "has ended"
                };
                bail!("linphonec {verdict}: {}", apt::tail(console.as_bytes()));
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until the phone is registered, and gives the line that says as whom.
    ///
    /// # Errors
    /// If it is not within that time; the error holds its last status and the end of its log.
    pub fn wait_registered(&mut self, timeout: Duration) -> Result<String> {
        let start = Instant::now();
        loop {
            let status = self.register_status()?;
            if status.starts_with("registered, identity=") {
                return Ok(status);
            }
            if start.elapsed() > timeout {
                bail!(
                    "not registered after {timeout:?} but {status}: {}",
                    apt::tail(self.log().as_bytes())
                );
            }
            thread::sleep(POLL * 2);
        }
    }

    /// Ends linphonec in good order: it unregisters and saves its configuration.
    ///
    /// # Errors
    /// If it had ended before, or had to be killed.
    pub fn quit(&mut self) -> Result<()> {
        self.say("quit")?;
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let ended = process.wait_within(QUIT_LIMIT);
        process.finish()?;
        ensure!(ended, "linphonec did not end and was killed");
        Ok(())
    }

    /// Starts the phone again with the configuration it has by now, as after a loss of power; it
    /// quits before, if it runs.
    ///
    /// # Errors
    /// If linphonec cannot be ended or started.
    pub fn restart(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.quit()?;
        }
        self.launch()
    }

    /// The phone's own configuration: what was fetched is merged into it.
    #[must_use]
    pub fn rc(&self) -> String {
        fs::read_to_string(self.path("rc")).unwrap_or_default()
    }

    /// Linphone's log since its last start, with every SIP message.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.path("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The process id, if the phone runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }
}

/// The state of a phone out of its box, plus what a machine without sound and network needs.
fn configuration(config_uri: &str, options: &Options) -> Result<String> {
    let authority = options
        .authority
        .as_ref()
        .map(|path| path.display().to_string());
    for value in [
        Some(config_uri),
        options.user_agent.as_deref(),
        authority.as_deref(),
    ]
    .into_iter()
    .flatten()
    {
        ensure!(
            !value.contains(['\r', '\n']),
            "a line break in {value:?} would begin another setting"
        );
    }
    let mut text = format!("[misc]\nconfig-uri={config_uri}\ntransient_provisioning=0\n");
    // Any free port. Without a network besides loopback it would never register.
    text.push_str(
        "[sip]\nsip_port=-1\nsip_tcp_port=-1\nsip_tls_port=-1\n\
         bind_address=127.0.0.1\nregister_only_when_network_is_up=0\n",
    );
    if let Some(authority) = authority {
        let _ = writeln!(text, "root_ca={authority}");
    }
    for device in ["playback", "capture", "ringer"] {
        let section = if device == "playback" {
            "[sound]\n"
        } else {
            ""
        };
        let _ = writeln!(text, "{section}{device}_dev_id=NULL: Null device");
    }
    text.push_str("[video]\nenabled=0\ndisplay=0\ncapture=0\n");
    Ok(text)
}
