//! `docs/SECURITY.md` says what an attacker cannot do; each sentence names the test that shows it.

use std::fs;
use std::path::PathBuf;

use crate::fixtures::root;

/// The file that a reference names: below `tests/native`, below `tests`, or from the top.
fn file(name: &str) -> PathBuf {
    let top = root().parent().unwrap().to_owned();
    ["tests/native", "tests", "."]
        .map(|below| top.join(below).join(name))
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("there is no {name}"))
}

#[test]
fn every_sentence_points_at_a_test_that_is_there() {
    let top = root().parent().unwrap().to_owned();
    let text = fs::read_to_string(top.join("docs/SECURITY.md")).unwrap();
    let mut references = 0;
    let (_, sentences) = text.split_once("## A MAC\n").unwrap();
    for reference in sentences.split('`').skip(1).step_by(2) {
        let Some((name, function)) = reference.split_once("::") else {
            continue;
        };
        references += 1;
        let source = fs::read_to_string(file(name)).unwrap();
        let (before, _) = source
            .split_once(&format!("fn {function}("))
            .unwrap_or_else(|| panic!("{name} has no {function}"));
        // The scan is a task and no test.
        let mut above = before.lines().rev().map(str::trim);
        let attribute = above.find(|line| !line.is_empty() && !line.starts_with("fn"));
        let is_test = attribute.is_some_and(|line| line.starts_with("#[test]"));
        assert!(
            is_test || name.starts_with("xtask/"),
            "{reference} is no test"
        );
    }
    assert!(references > 40, "only {references}");
    // Each item of the list says where it was seen, or that it cannot be.
    for item in text.split("\n* ").skip(1) {
        let item = item.split("\n\n").next().unwrap();
        let left = text.find("## What is left").unwrap();
        let shown = item.contains(".rs::") || item.contains("*(trusted)*");
        let at = text.find(item).unwrap();
        assert!(shown || at > left, "nothing shows: {item}");
    }
}
