//! The tables of `docs/PHONES.md` that come out of the catalogue.
//!
//! `GOLDEN=write` writes them anew between their marks.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::catalogue;
use crate::vendors::KITS;

/// What stands before and after the tables.
const MARKS: [&str; 2] = [
    "<!-- Made of the catalogue by `GOLDEN=write cargo test --test native`. -->",
    "<!-- End of what is made of the catalogue. -->",
];

fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {} |\n", cells.join(" | "))
}

/// A table of what each vendor's models have, a row each: all of them, some, or none.
fn matrix(title: &str, names: &[&str], has: impl Fn(&Value, &str) -> bool) -> String {
    let vendors = || KITS.iter().map(|kit| kit.vendor.to_owned());
    let mut table = row([title.to_owned()].into_iter().chain(vendors()));
    table.push_str(&row(vec!["---".to_owned(); KITS.len() + 1]));
    for name in names {
        let cells = KITS.iter().map(|kit| {
            let all = catalogue::of(kit.vendor).count();
            let some = catalogue::of(kit.vendor)
                .filter(|model| has(model, name))
                .count();
            match some {
                0 => "",
                _ if some == all => "yes",
                _ => "some",
            }
            .to_owned()
        });
        table.push_str(&row([format!("`{name}`")].into_iter().chain(cells)));
    }
    table
}

fn lists(model: &Value, list: &str, name: &str) -> bool {
    model[list]
        .as_array()
        .unwrap()
        .iter()
        .any(|entry| entry == name)
}

fn tables() -> String {
    let mut text = String::from("### Settings\n\n");
    let settings: Vec<&str> = dialtone::record::settings::Setting::ALL
        .iter()
        .map(|setting| setting.name())
        .collect();
    text.push_str(&matrix("setting", &settings, |model, name| {
        !lists(model, "lacks", name)
    }));
    text.push_str("\n### Keys\n\n");
    let functions: Vec<&str> = dialtone::record::device::Function::ALL
        .iter()
        .map(|function| function.name())
        .collect();
    text.push_str(&matrix("type", &functions, |model, name| {
        lists(model, "buttons", name)
    }));
    text.push_str("\n### Models\n\nEach with its lines, its keys, and its expansion modules with the keys of one.\n\n");
    for kit in KITS {
        let models: Vec<String> = catalogue::of(kit.vendor)
            .map(|model| {
                let name = model["model"].as_str().unwrap();
                let mut shown = format!("{name} {}/{}", model["lines"], model["keys"]);
                if model["modules"] != 0 {
                    let _ = write!(shown, "+{}×{}", model["modules"], model["module_keys"]);
                }
                if model["generation"] == "former" {
                    shown.push_str(" (former)");
                }
                shown
            })
            .collect();
        let _ = writeln!(text, "* **{}**: {}.", kit.vendor, models.join(", "));
    }
    text
}

#[test]
fn the_document_of_the_phones_says_what_the_catalogue_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PHONES.md");
    let text = fs::read_to_string(&path).unwrap();
    let [begin, end] = MARKS;
    let (before, rest) = text.split_once(begin).expect("the mark at the beginning");
    let (_, after) = rest.split_once(end).expect("the mark at the end");
    let right = format!("{before}{begin}\n\n{}\n{end}{after}", tables());
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        fs::write(&path, right).unwrap();
    } else {
        assert!(
            text == right,
            "docs/PHONES.md: GOLDEN=write writes its tables"
        );
    }
}
