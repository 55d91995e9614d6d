//! `cargo xtask test`: every check and test there is, cheapest first, as CI runs them.
//! Stops at the first step that fails, and says which.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use dialtone_kit::project;

use crate::tools::WASM_TARGET;
use crate::{build, demo, size, smoke, soak, tools};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("tools", tools::run),
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("lints", || {
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ])
    }),
    ("lints of the Worker", || {
        let worker = [
            "clippy",
            "--package",
            "dialtone",
            "--lib",
            "--target",
            WASM_TARGET,
        ];
        cargo(&[&worker[..], &["--locked", "--", "-D", "warnings"]].concat())
    }),
    ("documentation", || {
        // As warnings, broken links and the like would scroll by.
        let mut command = project::cargo();
        command.env("RUSTDOCFLAGS", "-D warnings");
        succeed(command.args(["doc", "--workspace", "--no-deps", "--locked"]))
    }),
    ("build", || build::run(&[])),
    ("size", size::run),
    ("tests", || cargo(&["test", "--workspace", "--locked"])),
    ("demo", || demo::run(&["--once".to_owned()])),
    ("smoke", || smoke::run(&["--local".to_owned()])),
    ("soak, a tenth", || soak::run(&["--tenth".to_owned()])),
];

/// Runs all steps.
pub fn run() -> Result<()> {
    let mut done: Vec<(&str, Duration)> = Vec::new();
    for (number, (name, step)) in (1..).zip(STEPS) {
        println!("\n== {number}/{} {name}", STEPS.len());
        let start = Instant::now();
        step().with_context(|| format!("failed at `{name}`, step {number} of {}", STEPS.len()))?;
        done.push((name, start.elapsed()));
    }
    println!("\nall passed:");
    for (name, time) in &done {
        println!("  {name:20} {:6.1} s", time.as_secs_f64());
    }
    let total: Duration = done.iter().map(|(_, time)| *time).sum();
    println!("  {:20} {:6.1} s", "together", total.as_secs_f64());
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    succeed(project::cargo().args(arguments))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo ended with {status}; what it found stands above");
    }
    Ok(())
}
