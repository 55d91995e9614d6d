//! `cargo xtask soak --schema`: schemathesis plays the API's document against a Dialtone on local workerd: every
//! operation with values that the document allows and such as it does not, alone and one after another. A server
//! error, an answer that is not in the document, or a wrong value that is taken, ends it. The seed is printed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use dialtone_kit::apt::{self, Package};
use dialtone_kit::project;
use dialtone_kit::workerd::{Options, Workerd};

/// How long a whole run takes.
pub const TIME: Duration = Duration::from_mins(20);

/// How long one of CI takes, beside the others.
pub const SHORT_TIME: Duration = Duration::from_secs(50);

/// Which version, with everything that it needs.
const REQUIREMENTS: &str = "tests/schemathesis/requirements.txt";

/// What its checks expect.
const CONFIG: &str = "tests/schemathesis/schemathesis.toml";

/// Python, where there is none, and the part of it that Debian has apart.
const PYTHON: [Package; 1] = [Package {
    name: "python3",
    provides: "python3",
}];
const VENV: [Package; 1] = [Package {
    name: "python3-venv",
    provides: "/usr/share/doc/python3-venv",
}];

/// One run, against a Dialtone of its own.
pub fn run(time: Duration, seed: u64) -> Result<()> {
    // Hypothesis takes any, but a shorter one is more easily typed.
    let seed = seed % 1_000_000_000;
    let program = ensure_installed()?;
    println!("schema: {} s with --seed {seed}", time.as_secs());
    // Whether a call without a good token is refused is looked at more often than anybody may ask.
    let options = Options::new().limit("ADMIN_FAILURES", 1_000_000);
    let workerd = Workerd::start(&options)?;
    let root = project::root();
    // What it says can be followed there while it runs.
    let log = project::target_dir().join("schemathesis.log");
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = Command::new(program)
        .current_dir(&root)
        .arg("--config-file")
        .arg(root.join(CONFIG))
        .args(["run", "assets/openapi.json", "--checks", "all"])
        .args(["--url", &format!("{}/api/v1", workerd.url())])
        .args(["--seed", &seed.to_string()])
        .args(["--max-time", &time.as_secs().to_string()])
        .args(["--request-timeout", "60", "--suppress-health-check", "all"])
        .args(["--warnings", "off", "--no-color"])
        // Read by its configuration: a token on a command line can be seen by everybody.
        .env("DIALTONE_ADMIN_TOKEN", workerd.admin_token())
        .stderr(file.try_clone()?)
        .stdout(file)
        .status()
        .context("cannot start schemathesis")?;
    let said = fs::read_to_string(&log)?;
    if !status.success() {
        bail!(
            "schemathesis found something with --seed {seed}; {} has it:\n{said}",
            log.display()
        );
    }
    let last = said.lines().rev().find(|line| line.contains("generated"));
    println!("schema: {}", last.unwrap_or("nothing found").trim());
    Ok(())
}

/// Installs schemathesis into the target directory, unless it is there in these very versions.
fn ensure_installed() -> Result<PathBuf> {
    let requirements = project::root().join(REQUIREMENTS);
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = project::target_dir().join("schemathesis");
    let stamp = venv.join("requirements.txt");
    let program = venv.join("bin/schemathesis");
    if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(program);
    }
    eprintln!(
        "pip install schemathesis: into {} (about 20 s)",
        venv.display()
    );
    if venv.exists() {
        fs::remove_dir_all(&venv)?;
    }
    apt::ensure_packages(&PYTHON)?;
    if make(&venv).is_err() {
        apt::ensure_packages(&VENV)?;
        make(&venv)?;
    }
    let mut install = Command::new(venv.join("bin/pip"));
    install.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--requirement",
    ]);
    succeed(install.arg(&requirements))?;
    // Last: an install that was cut off is begun anew.
    fs::write(&stamp, wanted)?;
    Ok(program)
}

fn make(venv: &Path) -> Result<()> {
    succeed(Command::new("python3").args(["-m", "venv"]).arg(venv))
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{} failed with {}: {}",
            command.get_program().display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
