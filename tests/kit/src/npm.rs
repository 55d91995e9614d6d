//! The npm packages: Wrangler, and a Node that is new enough for it, in `node_modules`.
//! Installed from the lock file when missing or out of date; nothing is installed globally.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use crate::{apt, project};

/// npm writes this file last, so that its age is that of the last finished install.
const INSTALLED: &str = "node_modules/.package-lock.json";

/// Installs the packages of `package-lock.json` when `node_modules` is missing or older.
///
/// # Errors
/// If npm is not on this machine, or cannot install.
pub fn ensure_packages() -> Result<()> {
    let root = project::root();
    if is_current(&root) {
        return Ok(());
    }
    // Test binaries and tasks may run side by side, and `npm ci` begins with a deletion.
    let _lock = apt::lock(&apt::target_directory().join("npm.lock"))?;
    if is_current(&root) {
        return Ok(());
    }
    eprintln!("npm ci: installs Wrangler and Node into node_modules (about 15 s, 400 MB)");
    // Without the install scripts: the packages that have some fall back to what npm unpacked.
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-progress"])
        .current_dir(&root)
        .output()
        .context("cannot start npm; install Node.js (any version that brings npm) and try again")?;
    if !output.status.success() {
        bail!(
            "npm ci failed with {}: {}",
            output.status,
            apt::tail(&[output.stdout, output.stderr].concat())
        );
    }
    Ok(())
}

fn is_current(root: &Path) -> bool {
    let modified =
        |file: &str| -> Option<SystemTime> { fs::metadata(root.join(file)).ok()?.modified().ok() };
    match (modified("package-lock.json"), modified(INSTALLED)) {
        (Some(locked), Some(installed)) => installed >= locked,
        _ => false,
    }
}

/// Wrangler, told not to phone home and not to ask questions.
///
/// # Errors
/// If the `PATH` cannot be extended.
pub fn wrangler() -> Result<Command> {
    let mut command = program("wrangler")?;
    command
        .env("CI", "1")
        .env("NO_COLOR", "1")
        .env("FORCE_COLOR", "0")
        .env("WRANGLER_SEND_METRICS", "false")
        // Otherwise a start asks workers.cloudflare.com for the `cf` object of this machine.
        .env("CLOUDFLARE_CF_FETCH_ENABLED", "false")
        // Only what is handed over becomes a secret, whatever the caller's environment holds.
        .env_remove("CLOUDFLARE_INCLUDE_PROCESS_ENV");
    Ok(command)
}

/// The locked Node, for a script of ours.
#[must_use]
pub fn node() -> Command {
    Command::new(project::root().join("node_modules/.bin/node"))
}

/// A program of one of the packages, to be run in the checkout by the locked Node.
///
/// # Errors
/// If the `PATH` cannot be extended.
pub fn program(name: &str) -> Result<Command> {
    let bin = project::root().join("node_modules/.bin");
    let mut command = Command::new(bin.join(name));
    command
        .current_dir(project::root())
        .env("PATH", path_with(bin)?);
    Ok(command)
}

/// Puts the directory first: Wrangler's first line is `env node`, and must find the locked Node.
fn path_with(bin: PathBuf) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(bin).chain(env::split_paths(&path)))
        .context("the path of the checkout holds a colon, and so cannot stand in PATH")
}
