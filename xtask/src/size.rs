//! `cargo xtask size`: what a deploy would upload, as Wrangler itself counts it.
//! Also proves that the bundle and `wrangler.toml` are such as a deploy accepts.

use anyhow::{Context as _, Result, bail};
use dialtone_kit::npm;

/// Compressed. Cloudflare refuses more than 3 MB on the free plan; the time to the first answer of
/// a cold start grows with the size, so that a third of it is what a change may use unasked.
const BUDGET_KIB: f64 = 1_000.0;

/// Bundles without uploading, prints the sizes, and fails above the budget.
pub fn run() -> Result<()> {
    npm::ensure_packages()?;
    let output = npm::wrangler()?
        .args(["deploy", "--dry-run"])
        .output()
        .context("cannot start wrangler")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "wrangler deploy --dry-run failed with {}:\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let gzip_kib = gzip_kib(&text)
        .with_context(|| format!("wrangler deploy --dry-run no longer says the size:\n{text}"))?;
    println!("the upload takes {gzip_kib} KiB compressed, of {BUDGET_KIB} KiB");
    if gzip_kib > BUDGET_KIB {
        bail!("the Worker is larger than its budget; see what the last change pulled in");
    }
    Ok(())
}

/// Reads `Total Upload: 848.91 KiB / gzip: 278.91 KiB`.
fn gzip_kib(text: &str) -> Option<f64> {
    let (_, rest) = text.split_once("/ gzip:")?;
    let mut words = rest.split_whitespace();
    let number: f64 = words.next()?.parse().ok()?;
    match words.next()? {
        "KiB" => Some(number),
        "MiB" => Some(number * 1024.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrangler_prints() {
        let line = "Total Upload: 848.91 KiB / gzip: 278.91 KiB\n--dry-run: exiting now.";
        assert_eq!(gzip_kib(line), Some(278.91));
        assert_eq!(
            gzip_kib("Total Upload: 9 MiB / gzip: 1.5 MiB"),
            Some(1536.0)
        );
        assert_eq!(gzip_kib("something else"), None);
    }
}
