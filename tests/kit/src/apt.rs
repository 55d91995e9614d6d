//! The programs of the outer test rings: take from Debian what is missing, and run a program so
//! that neither a program that hangs nor a test that dies leaves anything behind.
//! Nothing here knows Asterisk or SIP.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::project;

/// A slow mirror needs minutes; a dead one must not hold a test run for ever.
const APT_LIMIT: Duration = Duration::from_mins(10);

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(20);

/// A Debian package and the file it is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// The package's name.
    pub name: &'static str,
    /// A program looked for on the `PATH`, or an absolute path.
    pub provides: &'static str,
}

impl Package {
    fn is_missing(&self) -> bool {
        if self.provides.starts_with('/') {
            !Path::new(self.provides).exists()
        } else {
            find_program(self.provides).is_none()
        }
    }
}

/// Installs those packages whose program is not on this machine.
///
/// # Errors
/// If a package is missing and this is no Debian, or the user is not root, or apt fails.
pub fn ensure_packages(packages: &[Package]) -> Result<()> {
    let missing = |packages: &[Package]| -> Vec<&'static str> {
        packages
            .iter()
            .filter(|package| package.is_missing())
            .map(|package| package.name)
            .collect()
    };
    let names = missing(packages).join(" ");
    if names.is_empty() {
        return Ok(());
    }
    if find_program("apt-get").is_none() {
        bail!("not a Debian machine (no apt-get), and these Debian packages are missing: {names}");
    }
    if !is_root() {
        bail!("missing programs; as root: apt-get install --no-install-recommends {names}");
    }

    // Tests run in parallel, and apt fails instead of waiting for another apt to end.
    let _lock = lock(&target_directory().join("apt.lock"))?;
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    timed(&format!("apt-get install {}", missing.join(" ")), || {
        apt_get(&["update"])?;
        let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
        arguments.extend(&missing);
        apt_get(&arguments)
    })
}

pub(crate) fn is_root() -> bool {
    // A process's entry belongs to its effective user.
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "--option", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    succeed(&mut command, APT_LIMIT).map(|_| ())
}

/// The program's path, as a shell would find it; `/usr/sbin` is not on every user's `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// Cargo's target directory: a cache that `cargo clean` clears and git ignores.
pub(crate) fn target_directory() -> PathBuf {
    // `join` keeps an absolute path as it is.
    project::root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Waits until no other process or thread holds the lock; it is let go when the file is closed.
pub(crate) fn lock(path: &Path) -> Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Says on standard error what takes so long, past the test harness, which would keep it.
pub(crate) fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut screen = io::stderr();
    let start = Instant::now();
    // A closed standard error is no reason to fail.
    let _ = write!(screen, "{what} ... ");
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "failed" };
    let _ = writeln!(
        screen,
        "{verdict} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    result
}

/// Runs a program to its end, or kills it and all it started when the time is over.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = Process::spawn(command)?;
    // Both pipes are emptied at the same time, or a full one would stop the program.
    let stdout = read_aside(process.child.stdout.take());
    let stderr = read_aside(process.child.stderr.take());
    let ended = process.wait_within(limit);
    // A child that outlives the program would keep the pipes open; so this comes before the joins.
    let status = process.finish()?;
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    if !ended {
        bail!(
            "{name} did not end within {limit:?}: {}",
            tail(&[stdout, stderr].concat())
        );
    }
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

/// Like [`run_within`], and the program must say that it succeeded.
pub(crate) fn succeed(command: &mut Command, limit: Duration) -> Result<Output> {
    let output = run_within(command, limit)?;
    if !output.status.success() {
        bail!(
            "{} failed with {}: {}",
            command.get_program().to_string_lossy(),
            output.status,
            tail(&[output.stdout, output.stderr].concat())
        );
    }
    Ok(output)
}

fn read_aside(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// The last lines of a program's output: that is where it says why it stopped.
pub(crate) fn tail(output: &[u8]) -> String {
    const LINES: usize = 12;
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A started program with a process group of its own, killed when this is dropped.
///
/// A group of its own also means that Ctrl-C on the terminal does not reach it, and a killed test
/// drops nothing; nor does one that ends with a program in a `static`. So each one has a guard: a
/// shell that reads from a pipe whose other end only this process holds, and that kills the group
/// and removes what it left behind when the pipe closes.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Child,
    /// Set once the child was waited for: from then on its process id may be anybody's.
    status: Option<ExitStatus>,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        Self::spawn_in(command, None)
    }

    /// Like [`Process::spawn`], and the directory goes with this process if nobody removes it before.
    pub(crate) fn spawn_in(command: &mut Command, directory: Option<&Path>) -> Result<Self> {
        // The killed group may still be writing when the first removal is done.
        const GUARD: &str = "read -r _; kill -s KILL -- \"-$1\"; [ -z \"$2\" ] || \
            for _ in 1 2 3 4 5; do rm -rf -- \"$2\" && break; sleep 0.2; done";
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(child.id().to_string())
            .arg(directory.unwrap_or(Path::new("")))
            // Not in the directory that it may have to remove, nor in one that others want to.
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match guard {
            Ok(guard) => Ok(Self {
                child,
                guard,
                status: None,
            }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error).context("cannot start sh")
            }
        }
    }

    /// The program's process id, which is its group's id too.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdin(&mut self) -> Option<&mut ChildStdin> {
        self.child.stdin.as_mut()
    }

    /// Whether the program runs; one that has ended and was not waited for does not.
    pub(crate) fn is_running(&self) -> bool {
        // The state follows the program's name, which is in parentheses and may hold any character.
        fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .ok()
            .and_then(|stat| {
                stat.rsplit_once(") ")
                    .map(|(_, rest)| !rest.starts_with(['Z', 'X']))
            })
            .unwrap_or(false)
    }

    /// Sends a signal, named as for `kill -s`, to the program and all it started.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        if self.status.is_some() {
            bail!("no signal {name}: process {} has ended", self.pid());
        }
        // The standard library can only send SIGKILL, and the shell's own `kill` is on every machine.
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$1\" -- \"-$2\"", "kill", name])
            .arg(self.pid().to_string())
            .stderr(Stdio::null())
            .status()
            .context("cannot start sh")?;
        if !status.success() {
            bail!("signal {name} to process {} failed", self.pid());
        }
        Ok(())
    }

    /// Waits for the program's end, and says whether it came in time.
    pub(crate) fn wait_within(&self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.is_running() {
            if start.elapsed() >= limit {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Kills what still runs of the program and of all it started.
    pub(crate) fn finish(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        // Fails if nothing is left to be killed.
        let _ = self.signal("KILL");
        let status = self.child.wait()?;
        self.status = Some(status);
        // Before its pipe closes: the process id may soon belong to another program.
        self.guard.kill()?;
        self.guard.wait()?;
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_with_all_it_started() {
        let start = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; sleep 60 & wait"]);
        let error = run_within(&mut command, Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("started"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_closed_pipe_makes_the_guard_kill_the_program() {
        let mut process = Process::spawn(Command::new("sleep").arg("60")).unwrap();
        // What the system does to a test that is killed.
        drop(process.guard.stdin.take());
        assert!(process.wait_within(Duration::from_secs(10)));
    }

    #[test]
    fn a_closed_pipe_makes_the_guard_remove_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        let mut process = Process::spawn_in(command.arg("60"), Some(directory.path())).unwrap();
        drop(process.guard.stdin.take());
        assert!(process.guard.wait().unwrap().success());
        assert!(!directory.path().exists());
    }

    #[test]
    fn a_stopped_program_runs_and_a_killed_one_does_not() {
        let mut process = Process::spawn(Command::new("sleep").arg("60")).unwrap();
        process.signal("STOP").unwrap();
        assert!(process.is_running());
        process.signal("KILL").unwrap();
        assert!(process.wait_within(Duration::from_secs(10)));
        assert!(!process.finish().unwrap().success());
        assert!(process.signal("KILL").is_err());
    }

    #[test]
    fn a_present_program_needs_no_package() {
        let shell = Package {
            name: "no-such-package",
            provides: "sh",
        };
        ensure_packages(&[shell]).unwrap();
    }
}
