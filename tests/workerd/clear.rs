//! Finds secrets that stand in clear somewhere, in any of the forms that a store or a log may give
//! to a text.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// A word for the message, and the secret.
pub type Secret = (&'static str, String);

/// Fails if one of the secrets stands in a file below the directory. `known` is something that does,
/// which shows that the right files were read.
#[track_caller]
pub fn not_in_files(directory: &Path, secrets: &[Secret], known: &str) {
    let files = read(directory);
    let there = files.iter().any(|(_, text)| text.contains(known));
    assert!(there, "not even {known} in {} files", files.len());
    for (name, text) in &files {
        not_in(name, text, secrets);
    }
}

/// Fails if one of the secrets stands in the text.
#[track_caller]
pub fn not_in(name: &str, text: &str, secrets: &[Secret]) {
    for (what, secret) in secrets {
        for form in forms(secret) {
            assert!(!text.contains(&form), "{what} stands in {name} as {form}");
        }
    }
}

/// Every file below a directory; bytes that are no text are replaced, and those that are stay. A database's
/// journal may go while this looks.
fn read(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(read(&path));
            continue;
        }
        match fs::read(&path) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                found.push((path.display().to_string(), text));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{}", path.display()),
        }
    }
    found
}

/// A secret as it might stand somewhere: itself, as JSON and as percent-encoding write it, as hex,
/// and as base64 at each of the three places in a group.
fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).unwrap();
    let hex = secret
        .bytes()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let percent: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut forms = vec![
        secret.to_owned(),
        json[1..json.len() - 1].to_owned(),
        percent,
        hex.to_uppercase(),
        hex,
    ];
    for skip in 0..3 {
        let before = [&b"\0\0"[..skip], secret.as_bytes()].concat();
        let text = STANDARD_NO_PAD.encode(&before);
        // The letters at both ends also hold bits of what stands beside the secret.
        let sure = &text[(skip * 8).div_ceil(6)..before.len() * 8 / 6];
        forms.push(sure.to_owned());
        forms.push(sure.replace('+', "-").replace('/', "_"));
    }
    forms
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = "pass \\w\"ord";
    let beside = |before: &str| STANDARD_NO_PAD.encode(format!("{before}{secret} and so on"));
    for text in [
        format!("a {secret} b"),
        serde_json::json!({"a": secret}).to_string(),
        "a=pass+%5Cw%22ord&b".to_owned(),
        "0070617373205c77226f72640".to_owned(),
        beside(""),
        beside("u:"),
        beside("user:"),
    ] {
        let found = forms(secret).iter().any(|form| text.contains(form));
        assert!(found, "{text}");
    }
    not_in("a text", "pass w\"ord", &[("it", secret.to_owned())]);
}
