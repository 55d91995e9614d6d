//! The cases under `fixtures/`: one directory is one phone with everything that it needs, as an
//! admin writes it, and the files that it then gets, as it sees them.
//!
//! `fixtures/{vendor}/{case}/case.json` is `about` and the records by the paths of the admin API;
//! `p/{file}` lies under the phone's provisioning URL, `rps/{file}` under its first-access URL, and
//! `common/{file}` is what a phone gets at the RPS without saying who it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::LazyLock;

use serde_json::Value;

use crate::ask::{ORIGIN, fetch, follow, put, text};
use crate::world::Fake;

/// The order in which records can be created.
const COLLECTIONS: [&str; 6] = [
    "tenants", "profiles", "pbxes", "accounts", "rules", "devices",
];

/// Where the cases are.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// One case.
pub struct Case {
    /// `{vendor}/{case}`.
    pub name: String,
    /// What `case.json` says.
    pub json: Value,
    /// What the phone gets, by the path in the case's directory.
    pub documents: BTreeMap<String, String>,
}

/// All cases, each with the documents as they are made now.
pub static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut cases = Vec::new();
    for vendor in ["yealink", "linphone"] {
        for directory in names(&root().join(vendor)) {
            cases.push(Case::load(&format!("{vendor}/{directory}")));
        }
    }
    cases
});

/// What lies in a directory, in order.
pub fn names(directory: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

impl Case {
    fn load(name: &str) -> Self {
        let path = root().join(name).join("case.json");
        let json =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let json: Value =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{name}: {error}"));
        let documents = documents(&json);
        Self {
            name: name.to_owned(),
            json,
            documents,
        }
    }

    /// The only device's record.
    pub fn device(&self) -> &Value {
        only_device(&self.json).1
    }

    /// A record.
    pub fn record(&self, collection: &str, id: &str) -> &Value {
        &self.json[collection][id]
    }
}

fn only_device(json: &Value) -> (&str, &Value) {
    let devices = json["devices"].as_object().unwrap();
    assert_eq!(devices.len(), 1, "a case is one phone");
    let (mac, device) = devices.iter().next().unwrap();
    (mac, device)
}

/// A world with the records in it, and what creating the device answered.
pub fn build(json: &Value) -> (Rc<Fake>, Value) {
    let fake = Fake::new();
    let mut created = Value::Null;
    for collection in COLLECTIONS {
        for (id, record) in json[collection].as_object().into_iter().flatten() {
            created = put(&fake, &format!("{collection}/{id}"), record);
        }
    }
    (fake, created)
}

/// The documents of a case as its phone gets them: every file of its vendor, and what `also` names.
fn documents(json: &Value) -> BTreeMap<String, String> {
    let (fake, created) = build(json);
    let (mac, device) = only_device(json);
    let own = |pattern: &str| pattern.replace("{mac}", mac);
    let asked: &[&str] = match device["vendor"].as_str().unwrap() {
        "yealink" => &[
            "p/boot.cfg",
            "p/first.cfg",
            "p/ACC.cfg",
            "p/BTN.cfg",
            "p/{mac}.cfg",
            "rps/{mac}.boot",
        ],
        "linphone" => &[
            "p/boot.cfg",
            "p/ACC.cfg",
            "p/BTN.cfg",
            "p/{mac}.xml",
            "rps/{mac}.xml",
        ],
        other => panic!("which files does a phone of {other} ask for?"),
    };
    let also = json["also"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|name| name.as_str().unwrap().to_owned());
    asked
        .iter()
        .map(|pattern| own(pattern))
        .chain(also)
        .map(|path| {
            let url = match path.split_once('/').unwrap() {
                ("p", file) => format!("{}{file}", created["provisioning_url"].as_str().unwrap()),
                ("rps", file) => {
                    format!("{}{file}", created["first_access"]["url"].as_str().unwrap())
                }
                (_, file) => format!("{ORIGIN}/rps/{file}"),
            };
            let document = text(&fetch(&fake, &follow(&url)));
            (path, document)
        })
        .collect()
}
