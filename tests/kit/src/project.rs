//! Where the project stands on this machine, and how its own programs are called.
//! Everything else in the kit and the tasks takes paths from here.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt;

/// The checkout: the directory of the workspace's `Cargo.toml`.
#[must_use]
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// Cargo's target directory.
#[must_use]
pub fn target_dir() -> PathBuf {
    apt::target_directory()
}

/// Cargo, the same one that runs the caller where there is one, in the checkout.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
