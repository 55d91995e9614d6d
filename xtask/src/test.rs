//! `cargo xtask test`: every check and test there is, cheapest first, as CI runs them.
//! Stops at the first step that fails, and says which.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use dialtone_kit::project;
use serde_json::Value;

use crate::tools::WASM_TARGET;
use crate::{build, demo, size, smoke, soak, tools};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("tools", tools::run),
    ("format", || cargo(&["fmt", "--all", "--check"])),
    // Beside each other: the end of a build for wasm keeps one core busy and the other idle.
    ("lints, and the Worker's build", || {
        beside(worker, || {
            lints()?;
            documentation()?;
            cargo(&["test", "--workspace", "--locked", "--no-run"])
        })
    }),
    ("size", size::run),
    // Beside each other: the ring with Asterisk mostly waits, for phones to register and time to pass.
    ("tests", || {
        beside(
            || cargo(&["test", "--workspace", "--locked", "--test", ASTERISK]),
            all_but_asterisk,
        )
    }),
    ("demo", || demo::run(&["--once".to_owned()])),
    ("smoke", || smoke::run(&["--local".to_owned()])),
    ("soak, a tenth", || soak::run(&["--tenth".to_owned()])),
];

/// The package of the Worker, and its ring of tests with a real Asterisk.
const PACKAGE: &str = "dialtone";
const ASTERISK: &str = "asterisk";

fn worker() -> Result<()> {
    let lints = [
        "clippy",
        "--package",
        PACKAGE,
        "--lib",
        "--target",
        WASM_TARGET,
    ];
    build::run(&[])?;
    cargo(&[&lints[..], &["--locked", "--", "-D", "warnings"]].concat())
}

fn lints() -> Result<()> {
    let all = ["clippy", "--workspace", "--all-targets", "--locked"];
    cargo(&[&all[..], &["--", "-D", "warnings"]].concat())
}

fn documentation() -> Result<()> {
    // As warnings, broken links and the like would scroll by.
    let mut command = project::cargo();
    command.env("RUSTDOCFLAGS", "-D warnings");
    succeed(command.args(["doc", "--workspace", "--no-deps", "--locked"]))
}

/// What `cargo test --workspace` would run, without one ring. Of the whole workspace in each call: of one
/// package the features of what it is built on are others, and all of that would be built again.
fn all_but_asterisk() -> Result<()> {
    let rings = rings()?;
    if !rings.iter().any(|ring| ring == ASTERISK) {
        bail!("there is no ring of tests with Asterisk");
    }
    let mut all = vec!["test", "--workspace", "--locked", "--lib", "--bins"];
    for ring in rings.iter().filter(|ring| *ring != ASTERISK) {
        all.extend(["--test", ring]);
    }
    cargo(&all)?;
    cargo(&["test", "--workspace", "--locked", "--doc"])
}

/// The rings of tests and those of the kit, as cargo knows them, so that none is forgotten here.
fn rings() -> Result<Vec<String>> {
    let output = project::cargo()
        .args(["metadata", "--no-deps", "--locked", "--format-version=1"])
        .output()
        .context("cannot start cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let targets = packages
        .iter()
        .filter_map(|package| package["targets"].as_array())
        .flatten();
    Ok(targets
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|test| test["name"].as_str().map(str::to_owned))
        .collect())
}

/// Runs two things at the same time; fails if one of them does.
fn beside(one: fn() -> Result<()>, other: impl FnOnce() -> Result<()>) -> Result<()> {
    thread::scope(|scope| {
        let first = scope.spawn(one);
        let second = other();
        first.join().map_err(|_| anyhow!("it died"))??;
        second
    })
}

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
