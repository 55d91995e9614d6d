//! KV put back to what it held before: what was decided since stays decided, since R2 has it.

use std::fs;
use std::path::Path;

use dialtone_kit::http;
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::json;

use crate::office::{Office, fresh_source};

/// Copies a directory with all that is below it over another.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Where the simulator keeps KV below the directory of a Worker.
fn kv(worker: &Workerd) -> std::path::PathBuf {
    let kv = worker.persist_dir().join("v3/kv");
    assert!(kv.is_dir(), "{} is not there", kv.display());
    kv
}

#[test]
fn a_kv_of_yesterday_gives_back_no_window_no_token_and_no_old_file() {
    let mut worker = Workerd::start(&Options::new()).unwrap();
    let office = Office::open_at(&worker, "restored", &json!({}));
    let armed = office.yealink(&json!({"arm": "24h"}));
    let revoked = office.yealink(&json!({}));
    let renamed = office.yealink(&json!({}));
    assert_eq!(revoked.fetch("ACC.cfg").status, 200);
    assert!(renamed.fetch("ACC.cfg").text().contains("Number 1001"));

    worker.stop().unwrap();
    // In the Worker's own directory, with which it goes.
    let yesterday = worker.persist_dir().join("yesterday");
    copy(&kv(&worker), &yesterday);
    worker.restart().unwrap();

    let url = format!("{}/rps?mac={}", worker.url(), armed.mac);
    let ask = || {
        http::get(&url)
            .source(fresh_source())
            .send()
            .unwrap()
            .status
    };
    assert_eq!(ask(), 200);
    assert_eq!(ask(), 404);
    office
        .admin
        .post(&format!("devices/{}/revoke", revoked.mac), &json!({}));
    office
        .admin
        .patch(&office.account("1001"), &json!({"display_name": "Renamed"}));
    assert_eq!(revoked.fetch("ACC.cfg").status, 404);

    worker.stop().unwrap();
    let directory = kv(&worker);
    fs::remove_dir_all(&directory).unwrap();
    copy(&yesterday, &directory);
    worker.restart().unwrap();

    assert_eq!(ask(), 404, "the claim is forgotten");
    assert_eq!(revoked.fetch("ACC.cfg").status, 404, "the token is back");
    let acc = renamed.fetch("ACC.cfg").text();
    assert!(
        acc.contains("Renamed") && !acc.contains("Number 1001"),
        "{acc}"
    );
}
