//! All vendors' phones together: what their files say is held against the records, field by field, for
//! every case under `fixtures/`, every model of the catalogue and whatever an admin may write; and a
//! phone of each is played that knows nothing but its firmware's requests.

pub mod catalogue;
mod cisco;
mod document;
mod fanvil;
mod gigaset;
mod grandstream;
mod hot_desk;
mod htek;
mod injection;
mod power_on;
mod properties;
mod records;

use std::collections::BTreeSet;
use std::fs;

use crate::fixtures::{CASES, Case, root};
use crate::vendors::{KITS, Kit, kit};

/// The kit of a case's vendor.
fn kit_of(case: &Case) -> &'static Kit {
    let vendor = case.device()["vendor"].as_str().unwrap();
    kit(vendor)
}

#[test]
fn every_case_says_what_its_records_say() {
    for case in CASES.iter() {
        let kit = kit_of(case);
        let all = kit.read_parts(|path| case.documents[path].clone());
        let model = catalogue::model(kit.vendor, case.device()["model"].as_str().unwrap());
        let seen = (kit.see)(&all, &model);
        records::compare(
            &case.name,
            kit,
            &model,
            &seen,
            &records::Told::of_case(case),
        );
        if let Some(merged) = kit.merged {
            let path = kit.path(merged);
            let read = (kit.read)(&path, &case.documents[&path])
                .unwrap_or_else(|error| panic!("{}/{path}: {error}", case.name));
            assert_eq!(read, all, "{}: the merged file is not its parts", case.name);
        }
    }
}

#[test]
fn every_vendor_has_the_cases_that_matter() {
    for kit in KITS {
        for case in [
            "one-line",
            "many-lines",
            "ugly-values",
            "tls-srtp",
            "hot-desking-logged-out",
        ] {
            let name = format!("{}/{case}", kit.vendor);
            let several = kit.vendor == "linphone" && case == "many-lines";
            assert!(
                several || CASES.iter().any(|case| case.name.starts_with(&name)),
                "{name}"
            );
        }
    }
}

#[test]
fn a_redirect_and_a_common_file_hold_no_secret() {
    for case in CASES.iter() {
        let kit = kit_of(case);
        let outside = case
            .documents
            .iter()
            .filter(|(path, _)| !path.starts_with("p/"));
        for (path, text) in outside {
            (kit.read)(path, text)
                .unwrap_or_else(|error| panic!("{}/{path}: {error}\n{text}", case.name));
            for account in case.json["accounts"].as_object().into_iter().flatten() {
                let password = account.1["password"].as_str().unwrap();
                // Short words stand in many texts.
                assert!(
                    password.len() < 6 || !text.contains(password),
                    "{}/{path} holds a password",
                    case.name
                );
            }
            if path.starts_with("common/") {
                assert!(
                    !text.contains("acme"),
                    "{}/{path} names a tenant",
                    case.name
                );
            }
        }
    }
}

#[test]
fn every_parameter_is_one_that_the_vendor_knows() {
    for kit in KITS {
        let path = root().join(format!("keys/{}.txt", kit.vendor));
        let list = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let known: BTreeSet<&str> = list
            .lines()
            .filter(|line| !line.starts_with('#'))
            // A name may be followed by a tab and where it is from.
            .map(|line| line.split('\t').next().unwrap_or_default())
            .collect();
        let mut unknown = BTreeSet::new();
        for case in CASES
            .iter()
            .filter(|case| kit_of(case).vendor == kit.vendor)
        {
            let raw = &case.device()["settings"]["raw"][kit.vendor];
            for (path, text) in &case.documents {
                for key in (kit.read)(path, text).unwrap_or_default().keys() {
                    let name = (kit.key_name)(key);
                    if !known.contains(name.as_str()) && raw[key].is_null() {
                        unknown.insert(name);
                    }
                }
            }
        }
        assert!(unknown.is_empty(), "{}: {unknown:?}", kit.vendor);
    }
}
