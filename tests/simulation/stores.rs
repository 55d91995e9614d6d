//! What KV and R2 hold, as the local simulators keep it: a file for each value, and a database that
//! says which is whose.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use dialtone::keys::hex;
use dialtone_kit::{npm, project};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

/// The namespace and the bucket of `wrangler.toml`, as directories.
const KV: &str = "v3/kv/DEVICES/blobs";
const R2: &str = "v3/r2/dialtone-files/blobs";

/// A value of KV or an object of R2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `kv` or `r2`.
    pub store: &'static str,
    /// The whole key.
    pub key: String,
    /// The value.
    pub body: Vec<u8>,
    /// What a listing shows beside it: JSON.
    pub metadata: Option<String>,
}

fn script(directory: &Path, what: &str) -> Command {
    let mut command = npm::node();
    command
        // `node:sqlite` is new enough to be called an experiment.
        .arg("--disable-warning=ExperimentalWarning")
        .arg(project::root().join("tests/simulation/stores.mjs"))
        .arg(directory)
        .arg(what);
    command
}

fn blobs(directory: &Path, store: &str) -> PathBuf {
    directory.join(if store == "kv" { KV } else { R2 })
}

/// Everything that is there. Nobody may have it open.
pub fn show(directory: &Path) -> Result<Vec<Entry>> {
    let output = script(directory, "show")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start node")?;
    ensure!(output.status.success(), "stores.mjs failed");
    let lines = String::from_utf8(output.stdout)?;
    let entry = |line: &str| -> Result<Entry> {
        let row: Value = serde_json::from_str(line)?;
        let text = |n: usize| row[n].as_str().unwrap_or_default().to_owned();
        let store = if row[0] == "kv" { "kv" } else { "r2" };
        Ok(Entry {
            store,
            key: text(1),
            body: fs::read(blobs(directory, store).join(text(2)))?,
            metadata: row[3].as_str().map(ToOwned::to_owned),
        })
    };
    lines.lines().map(entry).collect()
}

/// Stores that are being filled, in place of all that was there.
pub struct Filling {
    directory: PathBuf,
    child: Mutex<std::process::Child>,
    rows: Mutex<Option<BufWriter<ChildStdin>>>,
    count: AtomicU64,
}

impl Filling {
    /// Begins.
    pub fn begin(directory: &Path) -> Result<Self> {
        let mut child = script(directory, "fill")
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start node")?;
        let rows = child.stdin.take().context("no pipe")?;
        for store in ["kv", "r2"] {
            let blobs = blobs(directory, store);
            if blobs.exists() {
                fs::remove_dir_all(&blobs)?;
            }
            fs::create_dir_all(&blobs)?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            child: Mutex::new(child),
            rows: Mutex::new(Some(BufWriter::new(rows))),
            count: AtomicU64::new(0),
        })
    }

    /// Puts something there.
    pub fn put(&self, entry: &Entry) -> Result<()> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let file = format!("{number:080x}");
        fs::write(blobs(&self.directory, entry.store).join(&file), &entry.body)?;
        let row = if entry.store == "kv" {
            json!([entry.store, entry.key, file, entry.metadata])
        } else {
            let md5 = hex(&Md5::digest(&entry.body));
            json!([
                entry.store,
                entry.key,
                file,
                entry.metadata,
                entry.body.len(),
                md5
            ])
        };
        let mut rows = self.rows.lock().map_err(|_| anyhow::anyhow!("it died"))?;
        let rows = rows.as_mut().context("it is over")?;
        Ok(writeln!(rows, "{row}")?)
    }

    /// How much was put there.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Ends: from now on the stores can be opened.
    pub fn end(self) -> Result<()> {
        if let Ok(mut rows) = self.rows.lock()
            && let Some(mut rows) = rows.take()
        {
            rows.flush()?;
        }
        let mut child = self.child.lock().map_err(|_| anyhow::anyhow!("it died"))?;
        ensure!(child.wait()?.success(), "stores.mjs failed");
        Ok(())
    }
}
