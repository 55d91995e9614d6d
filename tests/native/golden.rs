//! The golden files: what a phone gets is, byte for byte, what lies in `fixtures/`, and a reader of
//! its own finds in it what the admin wrote.
//!
//! `GOLDEN=write` writes them anew. The diff is what phones will see, so read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use dialtone::vendor::VendorId;
use sha2::{Digest, Sha256};

use crate::fixtures::{CASES, Case, names, root};
use crate::vendors::KITS;
use crate::world::hex;
use crate::{expected, readers};

/// Whether a case is one that this vendor alone has; `vendors` looks at those of all.
fn is_own(case: &Case, vendor: &str) -> bool {
    case.json["like"].is_null() && case.name.split('/').next() == Some(vendor)
}

fn writes() -> bool {
    std::env::var("GOLDEN").is_ok_and(|value| value == "write")
}

/// Every document of every case, by its path under `fixtures/`.
fn documents() -> BTreeMap<String, &'static str> {
    let mut all = BTreeMap::new();
    for case in CASES.iter() {
        for (path, text) in &case.documents {
            all.insert(format!("{}/{path}", case.name), text.as_str());
        }
    }
    all
}

/// Every file of the cases that is no `case.json`.
fn files() -> BTreeSet<String> {
    fn walk(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for name in names(directory) {
            let path = directory.join(&name);
            if path.is_dir() {
                walk(&path, &format!("{prefix}{name}/"), found);
            } else if name != "case.json" && name != "TEMPLATES.lock" {
                found.insert(format!("{prefix}{name}"));
            }
        }
    }
    let mut found = BTreeSet::new();
    for kit in KITS {
        walk(
            &root().join(kit.vendor),
            &format!("{}/", kit.vendor),
            &mut found,
        );
    }
    found
}

#[test]
fn every_golden_file_is_what_its_phone_gets_byte_for_byte() {
    let documents = documents();
    let mut wrong = String::new();
    for (path, text) in &documents {
        let file = root().join(path);
        if writes() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
        }
        match fs::read_to_string(&file) {
            Ok(golden) if golden == *text => {}
            Ok(golden) => {
                let line = golden
                    .lines()
                    .zip(text.lines())
                    .take_while(|(a, b)| a == b)
                    .count();
                let (was, is) = (golden.lines().nth(line), text.lines().nth(line));
                let _ = write!(wrong, "\n{path}:{}: was {was:?}, is {is:?}", line + 1);
            }
            Err(error) => {
                let _ = write!(wrong, "\n{path}: {error}");
            }
        }
    }
    for path in files()
        .iter()
        .filter(|path| !documents.contains_key(path.as_str()))
    {
        let _ = write!(wrong, "\n{path}: no phone asks for it");
    }
    assert!(
        wrong.is_empty(),
        "GOLDEN=write writes what is right now:{wrong}"
    );
}

#[test]
fn every_yealink_file_says_what_the_records_say_and_nothing_else() {
    for case in CASES.iter().filter(|case| is_own(case, "yealink")) {
        let read = |path: &str| {
            readers::yealink(&case.documents[path])
                .unwrap_or_else(|error| panic!("{}/{path}: {error}", case.name))
        };
        let expected = expected::yealink(case);
        let boot = read("p/boot.cfg");
        let base = base(case);
        let files = ["first.cfg", "ACC.cfg", "BTN.cfg"].map(|name| format!("{base}{name}"));
        assert_eq!(boot.includes, files, "{}", case.name);
        assert_eq!(boot.overwrite.as_deref(), Some("1"), "{}", case.name);
        assert_eq!(boot.comments, [expected.about], "{}", case.name);
        assert_eq!(
            read("p/first.cfg").settings,
            expected.first,
            "{}",
            case.name
        );
        assert_eq!(read("p/ACC.cfg").settings, expected.acc, "{}", case.name);
        assert_eq!(read("p/BTN.cfg").settings, expected.btn, "{}", case.name);
        // An older firmware gets the same in one file, and one key never stands in two parts.
        let merged = read("p/805ec0000001.cfg").settings;
        assert_eq!(
            merged.len(),
            expected.first.len() + expected.acc.len() + expected.btn.len()
        );
        let parts: BTreeMap<_, _> = expected
            .first
            .into_iter()
            .chain(expected.acc)
            .chain(expected.btn)
            .collect();
        assert_eq!(merged, parts, "{}", case.name);
    }
}

/// `{origin}/p/{token}/`, as the phone learns it.
fn base(case: &crate::fixtures::Case) -> String {
    let boot = readers::yealink(&case.documents["p/boot.cfg"]).unwrap();
    let (base, _) = boot.includes[0].rsplit_once('/').unwrap();
    format!("{base}/")
}

#[test]
fn a_yealink_redirect_leads_on_and_holds_no_secret() {
    for case in CASES.iter().filter(|case| is_own(case, "yealink")) {
        let base = base(case);
        let boot = readers::yealink(&case.documents["rps/805ec0000001.boot"]).unwrap();
        let elsewhere = case.name == "yealink/elsewhere";
        let includes: Vec<String> = if elsewhere {
            let there = "https://prov.example.org/acme/yealink/805ec0000001.cfg".to_owned();
            vec![format!("{base}redirect.cfg"), there]
        } else {
            ["first.cfg", "ACC.cfg", "BTN.cfg"]
                .map(|name| format!("{base}{name}"))
                .into()
        };
        assert_eq!(boot.includes, includes, "{}", case.name);
        for path in ["rps/805ec0000001.cfg", "p/redirect.cfg"] {
            let Some(text) = case.documents.get(path) else {
                continue;
            };
            let settings = readers::yealink(text).unwrap().settings;
            let server = if elsewhere {
                "https://prov.example.org/acme/yealink/"
            } else {
                &base
            };
            assert_eq!(
                settings,
                expected::yealink_server(server, 2),
                "{}/{path}",
                case.name
            );
        }
        for (path, text) in case
            .documents
            .iter()
            .filter(|(path, _)| path.starts_with("rps/"))
        {
            assert!(
                !text.contains("account.") && !text.contains("password"),
                "{}/{path}",
                case.name
            );
        }
    }
}

#[test]
fn a_common_file_is_constant_and_names_nobody() {
    for case in CASES.iter().filter(|case| is_own(case, "yealink")) {
        for (path, text) in case
            .documents
            .iter()
            .filter(|(path, _)| path.contains("/y0000"))
        {
            if path.starts_with("rps/") {
                // Under the phone's own key it is the phone's own.
                assert_eq!(
                    text, &case.documents["rps/805ec0000001.boot"],
                    "{}/{path}",
                    case.name
                );
                continue;
            }
            let file = readers::yealink(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(file.settings.is_empty(), "{}/{path}", case.name);
            assert!(
                !text.contains("http") && !text.contains("acme") && !text.contains("805ec0"),
                "{path}"
            );
        }
    }
}

#[test]
fn every_linphone_document_says_what_the_records_say_and_nothing_else() {
    for case in CASES.iter().filter(|case| is_own(case, "linphone")) {
        let read = |path: &str| {
            readers::linphone(&case.documents[path])
                .unwrap_or_else(|error| panic!("{}/{path}: {error}", case.name))
        };
        let merged = read("p/0a5ec0000001.xml");
        let uri = &merged["misc/config-uri"];
        let base = uri.strip_suffix("0a5ec0000001.xml").unwrap();
        let expected = expected::linphone(case, base);
        assert_eq!(read("p/boot.cfg"), expected.boot, "{}", case.name);
        assert_eq!(read("p/ACC.cfg"), expected.acc, "{}", case.name);
        assert_eq!(read("p/BTN.cfg"), BTreeMap::new(), "{}", case.name);
        let parts: BTreeMap<_, _> = expected.boot.into_iter().chain(expected.acc).collect();
        assert_eq!(merged, parts, "{}", case.name);
        for path in ["rps/0a5ec0000001.xml", "rps/linphone.xml"] {
            if case.documents.contains_key(path) {
                assert_eq!(
                    read(path),
                    [("misc/config-uri".to_owned(), uri.clone())].into(),
                    "{}/{path}",
                    case.name
                );
            }
        }
    }
}

/// Pairs the version of a vendor's templates with what they make: phones whose files an older version
/// made get new ones only if the number has risen.
#[test]
fn the_number_of_the_templates_rises_with_every_change_of_a_golden_file() {
    for vendor in VendorId::ALL.iter().copied() {
        let path = root().join(vendor.name()).join("TEMPLATES.lock");
        let number = vendor.rules().templates();
        let prefix = format!("{vendor}/");
        let now: BTreeMap<String, String> = documents()
            .into_iter()
            .filter_map(|(path, text)| {
                let path = path.strip_prefix(&prefix)?.to_owned();
                Some((path, hex(&Sha256::digest(text))))
            })
            .collect();
        let mut lock = format!("templates {number}\n");
        for (path, hash) in &now {
            let _ = writeln!(lock, "{hash}  {path}");
        }

        let noted = fs::read_to_string(&path).unwrap_or_else(|_| "templates 0\n".to_owned());
        let mut lines = noted.lines();
        let noted_number: u32 = lines
            .next()
            .and_then(|line| line.strip_prefix("templates ")?.parse().ok())
            .unwrap();
        let before: BTreeMap<&str, &str> = lines
            .map(|line| {
                line.split_once("  ")
                    .map(|(hash, path)| (path, hash))
                    .unwrap()
            })
            .collect();
        let changed: Vec<&String> = now
            .iter()
            .filter(|(path, hash)| {
                before
                    .get(path.as_str())
                    .is_some_and(|before| before != hash)
            })
            .map(|(path, _)| path)
            .collect();
        assert!(
            changed.is_empty() || number > noted_number,
            "{vendor}: templates() is {number} and must rise, since these files changed: {changed:?}"
        );
        assert!(
            number >= noted_number,
            "{vendor}: templates() went back from {noted_number} to {number}"
        );
        if writes() {
            fs::write(&path, lock).unwrap();
        } else {
            assert!(
                noted == lock,
                "{} is not of these files: GOLDEN=write notes them",
                path.display()
            );
        }
    }
}
