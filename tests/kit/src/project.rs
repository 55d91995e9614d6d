//! Where the project stands on this machine, and how its own programs are called.
//! Everything else in the kit and the tasks takes paths from here.

use std::env;
use std::ffi::OsString;
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
    for name in env::vars_os().map(|(name, _)| name).filter(is_of_a_package) {
        command.env_remove(name);
    }
    command
}

fn is_of_a_package(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    OF_A_PACKAGE.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_told_nothing_of_the_package_that_calls_it() {
        for (name, told) in [
            ("CARGO_PKG_NAME", false),
            ("CARGO_MANIFEST_DIR", false),
            ("CARGO_HOME", true),
            ("PATH", true),
        ] {
            assert_eq!(is_of_a_package(&name.into()), !told, "{name}");
        }
        // There is something to remove if a task runs this.
        let cargo = cargo();
        for (name, _) in env::vars_os().filter(|(name, _)| is_of_a_package(name)) {
            let mut told = cargo.get_envs();
            assert!(
                told.any(|(known, value)| known == name && value.is_none()),
                "{}",
                name.display()
            );
        }
    }
}
