//! `cargo xtask test`: every check and test there is, cheapest first, as CI runs them.
//! Stops at the first step that fails, and says which.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
            built().map(drop)
        })
    }),
    ("size", size::run),
    ("tests", tests),
    ("demo", || demo::run(&["--once".to_owned()])),
    ("smoke", || smoke::run(&["--local".to_owned()])),
    ("soak, a tenth", || soak::run(&["--tenth".to_owned()])),
];

/// The package of the Worker, and the tests with a real Asterisk: its ring of them, and the kit's own.
const PACKAGE: &str = "dialtone";
const ASTERISK: &str = "asterisk";

fn worker() -> Result<()> {
    // As the build, with which it then shares what runs on this machine: macros, and the scripts of builds.
    let lints = [
        "clippy",
        "--release",
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

/// A program of tests.
struct Built {
    name: String,
    program: PathBuf,
    directory: PathBuf,
}

/// Builds all tests. What `cargo test` then runs is run from here: told to run one ring alone, it takes the
/// features of that one's dependencies alone, and builds all of them again.
fn built() -> Result<Vec<Built>> {
    let output = project::cargo()
        .args(["test", "--workspace", "--locked", "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "cargo ended with {}; what it found stands above",
            output.status
        );
    }
    let mut built = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let (test, program) = (&message["profile"]["test"], &message["executable"]);
        let (true, Some(program)) = (test == &Value::Bool(true), program.as_str()) else {
            continue;
        };
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let manifest = word(&message["manifest_path"]).context("a program without a manifest")?;
        let directory = Path::new(&manifest).parent();
        built.push(Built {
            name: word(&message["target"]["name"]).context("a program without a name")?,
            program: program.into(),
            directory: directory.context("a manifest without a folder")?.to_owned(),
        });
    }
    Ok(built)
}

/// Runs all tests. Those with Asterisk run beside the others: they mostly wait, for phones to register and time
/// to pass.
fn tests() -> Result<()> {
    let built = built()?;
    let (asterisk, others): (Vec<&Built>, _) = built.iter().partition(|test| test.name == ASTERISK);
    if asterisk.is_empty() || others.is_empty() {
        bail!("there must be tests with Asterisk, and others");
    }
    let run = |tests: Vec<&Built>| {
        tests.into_iter().try_for_each(|test| {
            println!("tests: {}", test.name);
            succeed(Command::new(&test.program).current_dir(&test.directory))
                .with_context(|| format!("the tests of {} failed", test.name))
        })
    };
    beside(|| run(asterisk), || run(others))
}

/// Runs two things at the same time; fails if one of them does.
fn beside(
    one: impl FnOnce() -> Result<()> + Send,
    other: impl FnOnce() -> Result<()>,
) -> Result<()> {
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
    let status = command.status().context("cannot start it")?;
    if !status.success() {
        bail!("it ended with {status}; what it found stands above");
    }
    Ok(())
}
