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

/// What cargo tells the program that it runs of that program's own package.
const OF_A_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// Cargo, the same one that runs the caller where there is one, in the checkout. What that one says of
/// the caller's package is not handed on: build scripts that look at it would run again each time.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if OF_A_PACKAGE.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_told_nothing_of_the_package_that_calls_it() {
        let told = |command: &Command, name: &str| {
            let mut envs = command.get_envs();
            envs.all(|(known, value)| known != name || value.is_some())
        };
        let cargo = cargo();
        for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"] {
            assert!(env::var_os(name).is_some(), "{name}: cargo runs this test");
            assert!(!told(&cargo, name), "{name}");
        }
    }
}
