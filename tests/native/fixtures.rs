//! The cases under `fixtures/`: one directory is one phone with everything that it needs, as an
//! admin writes it, and the files that it then gets, as it sees them.
//!
//! `fixtures/{vendor}/{case}/case.json` is `about` and the records by the paths of the admin API. Or it
//! is `like` a case of `fixtures/cases/`, which every vendor has, with a `model`; what stands beside
//! is merged into it (RFC 7396), where a vendor's files cannot carry what the others can.
//!
//! `p/{file}` lies under the phone's provisioning URL, `rps/{file}` under its first-access URL, and
//! `common/{file}` is what a phone gets at the RPS without saying who it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::LazyLock;

use serde_json::Value;

use crate::ask::{ORIGIN, fetch, follow, put, text};
use crate::fleet::catalogue;
use crate::vendors::{self, KITS};
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
    for kit in KITS {
        for directory in names(&root().join(kit.vendor)) {
            if directory != "TEMPLATES.lock" {
                cases.push(Case::load(&format!("{}/{directory}", kit.vendor)));
            }
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
        let mut json: Value =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{name}: {error}"));
        if json["like"].is_string() {
            json = like(name, &json);
        }
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

/// A case of all vendors, for the model of one of them: as many of its lines as the model has, its
/// keys one after another where the model has keys, and on modules where it takes any.
fn like(name: &str, own: &Value) -> Value {
    let path = root().join(format!("cases/{}.json", own["like"].as_str().unwrap()));
    let json =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut json: Value = serde_json::from_str(&json).unwrap();
    let vendor = name.split('/').next().unwrap();
    let kit = vendors::kit(vendor);
    let model = catalogue::model(vendor, own["model"].as_str().unwrap());
    let has = |name: &str| model[name].as_u64().unwrap();
    let mut device = json["device"].take();
    let take = |device: &mut Value, list: &str| match device[list].take() {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    let mut lines = take(&mut device, "lines");
    lines.retain(|line| line["line"].as_u64().unwrap() <= has("lines"));
    let known = |button: &Value| {
        model["buttons"]
            .as_array()
            .unwrap()
            .contains(&button["type"])
    };
    let on_a_line = |button: &Value| {
        button["line"].is_null() || lines.iter().any(|line| line["line"] == button["line"])
    };
    let keys = take(&mut device, "keys");
    let mut buttons: Vec<Value> = (1..=has("keys"))
        .zip(keys.into_iter().filter(known).filter(on_a_line))
        .map(|(key, mut button)| {
            button["key"] = key.into();
            button
        })
        .collect();
    buttons.extend(
        take(&mut device, "module_keys")
            .into_iter()
            .filter(|button| {
                let fits = |name: &str, most: &str| button[name].as_u64().unwrap() <= has(most);
                fits("module", "modules") && fits("key", "module_keys") && known(button)
            }),
    );
    let members = device.as_object_mut().unwrap();
    for list in ["lines", "keys", "module_keys"] {
        members.remove(list);
    }
    for (list, entries) in [("lines", lines), ("buttons", buttons)] {
        if !entries.is_empty() {
            members.insert(list.to_owned(), entries.into());
        }
    }
    device["vendor"] = vendor.into();
    device["model"] = model["model"].clone();
    json.as_object_mut().unwrap().remove("device");
    json["devices"] = Value::Object([(kit.mac.to_owned(), device)].into_iter().collect());
    merge(&mut json, own);
    json
}

/// A JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    for (name, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
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
    let own = |pattern: &str| {
        let upper = pattern.replace("{MAC}", &mac.to_ascii_uppercase());
        upper.replace("{mac}", mac)
    };
    let kit = vendors::kit(device["vendor"].as_str().unwrap());
    let also = json["also"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|name| name.as_str().unwrap().to_owned());
    kit.documents
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
