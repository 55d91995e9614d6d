//! The secrets of local runs: `.dev.vars`, which Wrangler reads and git ignores.
//! Fresh ones are made where none are; what stands there already is never changed.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::apt;

/// The file's name, beside `wrangler.toml`.
pub const FILE: &str = ".dev.vars";

/// The admin's bearer token.
pub const ADMIN_TOKEN: &str = "ADMIN_TOKEN";

/// The key that seals secrets in KV and R2.
pub const SEAL_KEY: &str = "SEAL_KEY";

/// What the file holds after [`ensure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevVars {
    /// The admin's bearer token.
    pub admin_token: String,
    /// The seal key: base64 of 32 bytes.
    pub seal_key: String,
    /// Whether something had to be made.
    pub created: bool,
}

/// 256 random bits as base64url without padding: fit for a header and a URL.
///
/// # Errors
/// If the system gives no random bytes.
pub fn random_admin_token() -> Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(random_bytes()?))
}

/// 32 random bytes as base64, as the Worker wants its `SEAL_KEY`.
///
/// # Errors
/// If the system gives no random bytes.
pub fn random_seal_key() -> Result<String> {
    Ok(STANDARD.encode(random_bytes()?))
}

fn random_bytes() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random bytes: {error}"))?;
    Ok(bytes)
}

/// Makes sure that the directory's `.dev.vars` names both secrets.
///
/// # Errors
/// If the file cannot be read or written.
pub fn ensure(directory: &Path) -> Result<DevVars> {
    // Two first runs at once must not write two different files.
    let _lock = apt::lock(&apt::target_directory().join("dev-vars.lock"))?;
    let file = directory.join(FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };

    let mut added = String::new();
    let mut keep_or_make = |name: &str, make: fn() -> Result<String>| -> Result<String> {
        if let Some(value) = find(&text, name) {
            return Ok(value);
        }
        let value = make()?;
        added.push_str(&line(name, &value));
        Ok(value)
    };
    let admin_token = keep_or_make(ADMIN_TOKEN, random_admin_token)?;
    let seal_key = keep_or_make(SEAL_KEY, random_seal_key)?;

    if !added.is_empty() {
        if !text.is_empty() && !text.ends_with('\n') {
            added.insert(0, '\n');
        }
        append(&file, &added)?;
    }
    Ok(DevVars {
        admin_token,
        seal_key,
        created: !added.is_empty(),
    })
}

/// One line of the file. Base64's `=` and `/` need no quotes, and there is no other special one.
pub(crate) fn line(name: &str, value: &str) -> String {
    format!("{name}={value}\n")
}

/// Appends to the file; a new one is for its owner's eyes only.
pub(crate) fn append(file: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The value of a name, read as Wrangler's dotenv does: the last one counts, quotes are taken off.
fn find(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim_start();
            line.strip_prefix("export ").unwrap_or(line).split_once('=')
        })
        .filter(|(key, _)| key.trim() == name)
        .map(|(_, value)| {
            let value = value.trim();
            ['"', '\'', '`']
                .into_iter()
                .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
                .unwrap_or(value)
                .to_owned()
        })
        .next_back()
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_what_is_missing_and_keeps_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        fs::write(&file, "PUBLIC_URL=http://x\nADMIN_TOKEN = \"mine\"").unwrap();

        let first = ensure(directory.path()).unwrap();
        assert!(first.created);
        assert_eq!(first.admin_token, "mine");
        assert_eq!(STANDARD.decode(&first.seal_key).unwrap().len(), 32);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("PUBLIC_URL=http://x\nADMIN_TOKEN = \"mine\"\nSEAL_KEY="));

        let second = ensure(directory.path()).unwrap();
        assert!(!second.created);
        assert_eq!(second.seal_key, first.seal_key);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }

    #[test]
    fn a_new_file_is_private_and_differs_each_time() {
        use std::os::unix::fs::PermissionsExt as _;
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = ensure(one.path()).unwrap();
        let second = ensure(two.path()).unwrap();
        assert_ne!(first.admin_token, second.admin_token);
        assert_ne!(first.seal_key, second.seal_key);
        assert_eq!(
            URL_SAFE_NO_PAD.decode(&first.admin_token).unwrap().len(),
            32
        );
        let mode = fs::metadata(one.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_empty_value_counts_as_missing() {
        assert_eq!(find("SEAL_KEY=\n", SEAL_KEY), None);
        assert_eq!(find("# SEAL_KEY=x\n", SEAL_KEY), None);
        assert_eq!(
            find("export SEAL_KEY='a'\nSEAL_KEY=b\n", SEAL_KEY),
            Some("b".into())
        );
    }
}
