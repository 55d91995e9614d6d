//! `cargo xtask tools`: gets what the other tasks need and this machine lacks.
//! Says what it does before each slow step, and does nothing when all is there.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use dialtone_kit::{npm, project};

/// What the Worker is compiled for.
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Makes sure of everything.
pub fn run() -> Result<()> {
    ensure_wasm_target()?;
    npm::ensure_packages()
}

/// Makes sure that rustc has the standard library for wasm.
pub fn ensure_wasm_target() -> Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .current_dir(project::root())
        .output()
        .context("cannot start rustc; install Rust from rustup.rs and try again")?;
    let directory = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && std::path::Path::new(directory.trim()).is_dir() {
        return Ok(());
    }
    // Normally rustup has read rust-toolchain.toml and installed it long before.
    eprintln!("rustup target add {WASM_TARGET}: the standard library for wasm (about 10 s)");
    let status = Command::new("rustup")
        .args(["target", "add", WASM_TARGET])
        .current_dir(project::root())
        .status()
        .with_context(|| {
            format!(
                "cannot start rustup, and this Rust has no {WASM_TARGET}; install Rust from \
                 rustup.rs, or that target from where this Rust came from"
            )
        })?;
    if !status.success() {
        bail!("rustup target add {WASM_TARGET} failed with {status}");
    }
    Ok(())
}
