//! `cargo xtask simulate`: what runs of the scheduled handler take in Cloudflare's own runtime at
//! 100,000 accounts over 100 PBXes. `tests/simulation` does it; it is no test, since it takes minutes.

use anyhow::{Context as _, Result, bail};
use dialtone_kit::project;

/// Runs it with these arguments.
pub fn run(arguments: &[String]) -> Result<()> {
    let status = project::cargo()
        .args(["bench", "--quiet", "--locked"])
        .args(["--package", "dialtone", "--bench", "simulation", "--"])
        .args(arguments)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the simulation ended with {status}");
    }
    Ok(())
}
