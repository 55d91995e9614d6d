//! `cargo xtask build`: Rust to wasm, wasm to JavaScript modules, and the shim on top, into
//! `build/`. Wrangler calls it before each `dev` and `deploy`, so it is quick when nothing changed.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use dialtone_kit::{dev_vars, npm, project};
use wasm_bindgen_cli_support::Bindgen;

use crate::tools::{self, WASM_TARGET};

/// The Worker's entry, which Wrangler bundles together with what it imports.
const SHIM: &str = include_str!("../shim.js");

/// The name of the generated modules, which the shim imports.
const MODULE: &str = "dialtone";

/// Where the files that are served as they are lie, for every set of features: `assets` of the checkout,
/// and beside them the viewer that shows the API's document.
const ASSETS: &str = "build/assets";

/// What is taken of the viewer, which npm has unpacked. Its licence goes with it.
const VIEWER: &str = "node_modules/swagger-ui-dist";
const VIEWER_FILES: [&str; 5] = [
    "LICENSE",
    "NOTICE",
    "swagger-ui-bundle.js",
    "swagger-ui-bundle.js.LICENSE.txt",
    "swagger-ui.css",
];

/// Holds the hash of what the output was made of; written last.
const STAMP: &str = ".stamp";

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    features: Vec<String>,
    out: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments.next().with_context(|| {
                    format!("`{argument}` wants a value; `cargo xtask help` shows which")
                })
            };
            match argument.as_str() {
                "--features" => options.features.extend(
                    value()?
                        .split([',', ' '])
                        .filter(|feature| !feature.is_empty())
                        .map(str::to_owned),
                ),
                "--out" => options.out = Some(value()?.into()),
                _ => bail!("`build` takes no `{argument}`; `cargo xtask help` shows what it takes"),
            }
        }
        Ok(options)
    }

    /// `build/`, or a directory in it that is named after the features.
    fn out_dir(&self) -> PathBuf {
        let named = || Path::new("build").join(self.features.join("-"));
        // Relative to the checkout, like everything here; `join` keeps an absolute path as it is.
        project::root().join(self.out.clone().unwrap_or_else(named))
    }
}

/// Builds with the options of the command line.
pub fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let out = options.out_dir();
    tools::ensure_wasm_target()?;
    if dev_vars::ensure(&project::root())?.created {
        eprintln!("made fresh secrets for local runs in {}", dev_vars::FILE);
    }

    // Tests and a `wrangler dev` may build at the same time. One lock for all, because Cargo keeps
    // one wasm file for all features.
    let target_dir = project::target_dir();
    fs::create_dir_all(&target_dir)
        .with_context(|| format!("cannot create {}", target_dir.display()))?;
    let lock = File::create(target_dir.join("build.lock"))?;
    lock.lock()?;

    gather_assets(&project::root().join(ASSETS))?;
    let wasm = compile(&options, &out)?;
    let stamp = stamp_of(&wasm);
    if fs::read_to_string(out.join(STAMP)).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    generate(wasm, &out)?;
    fs::write(out.join(STAMP), stamp)?;
    Ok(())
}

/// Puts the files together that are served as they are. What is there already is left alone, since a running
/// `wrangler dev` watches them.
fn gather_assets(to: &Path) -> Result<()> {
    npm::ensure_packages()?;
    let root = project::root();
    let mut wanted = Vec::new();
    list(&root.join("assets"), Path::new(""), &mut wanted)?;
    let own = wanted
        .into_iter()
        .map(|name| (root.join("assets").join(&name), name));
    let viewer = VIEWER_FILES.map(|name| {
        let to = Path::new("docs").join(name);
        (root.join(VIEWER).join(name), to)
    });
    let all: Vec<(PathBuf, PathBuf)> = own.chain(viewer).collect();
    let mut there = Vec::new();
    if to.exists() {
        list(to, Path::new(""), &mut there)?;
    }
    for old in there
        .iter()
        .filter(|old| all.iter().all(|(_, name)| name != *old))
    {
        fs::remove_file(to.join(old))?;
    }
    for (from, name) in all {
        let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let target = to.join(name);
        if fs::read(&target).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&target, bytes).with_context(|| format!("cannot write {}", target.display()))?;
    }
    Ok(())
}

/// The files below a directory, by their paths in it.
fn list(directory: &Path, path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory.join(path))? {
        let entry = entry?;
        let name = path.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(directory, &name, found)?;
        } else {
            found.push(name);
        }
    }
    Ok(())
}

/// Cargo's part. Cargo itself knows what changed.
fn compile(options: &Options, out: &Path) -> Result<Vec<u8>> {
    let mut command = project::cargo();
    command
        .args(["build", "--release", "--locked", "--lib"])
        .args(["--package", "dialtone", "--target", WASM_TARGET])
        // As worker-build does it: the generated code then takes promises from js-sys.
        .env("WASM_BINDGEN_USE_JS_SYS", "1")
        .env("RUSTFLAGS", rust_flags());
    if !options.features.is_empty() {
        command.args(["--features", &options.features.join(",")]);
    }
    if out.join(STAMP).exists() {
        command.arg("--quiet");
    } else {
        eprintln!("cargo build: the Worker for wasm (about 2 min the first time, then seconds)");
    }
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the Worker does not compile for {WASM_TARGET}: see above");
    }
    let file = project::target_dir()
        .join(WASM_TARGET)
        .join("release")
        .join(format!("{MODULE}.wasm"));
    fs::read(&file).with_context(|| format!("cargo left no {}", file.display()))
}

/// Panics say where they were. With this they say it without the paths of the machine that built the
/// Worker, which are of no use to anybody else and 3 KB of the upload.
fn rust_flags() -> String {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    let registries = cargo_home.map(|home| home.join("registry").join("src"));
    // One folder for each registry, named after its host and a hash.
    let sources = registries.and_then(|folder| fs::read_dir(folder).ok());
    let sources = sources.into_iter().flatten().flatten();
    let mut flags = env::var("RUSTFLAGS").unwrap_or_default();
    for source in sources {
        let _ = write!(
            flags,
            " --remap-path-prefix={}=crates",
            source.path().display()
        );
    }
    flags
}

/// wasm-bindgen's part, the same that `worker-build` has it do.
fn generate(wasm: Vec<u8>, out: &Path) -> Result<()> {
    // Made aside and then moved, file by file: a running `wrangler dev` watches these files.
    let fresh = out.join(".fresh");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    let mut bindgen = Bindgen::new();
    bindgen
        .input_bytes(MODULE, wasm)
        .typescript(false)
        // What the shim resets a dead instance with.
        .reset_state_function(true)
        .force_enable_abort_handler(true)
        // A quarter of the upload. A panic still says its file and line.
        .remove_name_section(true)
        .module(true)?;
    bindgen.generate(&fresh)?;

    // workerd hands out a compiled module for the plain import, and Wrangler's bundler does not
    // know the form for the `source` of one.
    let script = fresh.join(format!("{MODULE}.js"));
    let text = fs::read_to_string(&script)?;
    let plain = text.replacen("import source ", "import ", 1);
    if plain == text {
        bail!("wasm-bindgen wrote no `import source`; see what its new version does instead");
    }
    fs::write(&script, plain)?;
    fs::write(fresh.join("index.js"), SHIM)?;

    move_into(&fresh, out)?;
    fs::remove_dir_all(&fresh)?;
    Ok(())
}

/// Moves all files to where they belong, in place of the old ones.
fn move_into(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            move_into(&entry.path(), &target)?;
        } else {
            fs::rename(entry.path(), &target)
                .with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}

/// A short hash of all that the output is made of, and of the recipe: this file, and the version
/// of wasm-bindgen in the manifest.
fn stamp_of(wasm: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(wasm);
    for part in [
        SHIM,
        include_str!("build.rs"),
        include_str!("../Cargo.toml"),
    ] {
        hasher.write(part.as_bytes());
    }
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        Options::parse(&arguments)
    }

    #[test]
    fn features_name_the_directory_unless_it_is_given() {
        let root = project::root();
        assert_eq!(parse(&[]).unwrap().out_dir(), root.join("build"));
        let probe = parse(&["--features", "panic-probe"]).unwrap();
        assert_eq!(probe.out_dir(), root.join("build/panic-probe"));
        let two = parse(&["--features", "a,b", "--out", "/tmp/x"]).unwrap();
        assert_eq!(two.features, ["a", "b"]);
        assert_eq!(two.out_dir(), Path::new("/tmp/x"));
    }

    #[test]
    fn says_what_it_does_not_take() {
        let error = parse(&["--relase"]).unwrap_err().to_string();
        assert!(
            error.contains("--relase") && error.contains("help"),
            "{error}"
        );
        assert!(parse(&["--out"]).is_err());
    }
}
