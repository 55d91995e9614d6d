//! The API's document and the page that shows it: served as files, beside which everything else is answered as
//! without them; and a client whose types are generated of the document.

use std::fs;
use std::process::Command;

use dialtone_kit::http::{self, Response};
use dialtone_kit::{npm, project};
use serde_json::Value;

use crate::office::worker;

fn get(path: &str) -> Response {
    http::get(&format!("{}{path}", worker().url()))
        .send()
        .unwrap()
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.header(name).unwrap_or_default()
}

#[test]
fn the_document_and_its_page_are_served_to_everybody() {
    let document = get("/openapi.json");
    assert_eq!(document.status, 200, "{}", document.text());
    assert_eq!(header(&document, "content-type"), "application/json");
    let file = fs::read(project::root().join("assets/openapi.json")).unwrap();
    assert!(document.body == file, "it is not the file of the checkout");
    let document: Value = document.json().unwrap();
    assert_eq!(document["openapi"], "3.1.1");

    let page = get("/docs");
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(header(&page, "content-type").starts_with("text/html"));
    // What the page needs is here, and nothing of it is elsewhere or in the page itself.
    let policy = header(&page, "content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && !policy.contains("http"),
        "{policy}"
    );
    let text = page.text();
    let named = ["href=\"", "src=\""].map(|mark| {
        let parts = text.split(mark).skip(1);
        parts
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    });
    let named: Vec<String> = named.concat();
    assert!(named.len() >= 4, "{named:?}");
    for path in named.iter().filter(|path| *path != "data:,") {
        assert!(
            path.starts_with('/') && !path.starts_with("//"),
            "{path} is elsewhere"
        );
        let answer = get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            header(&answer, "x-content-type-options"),
            "nosniff",
            "{path}"
        );
    }
    for (name, kind) in [
        ("docs.js", "javascript"),
        ("swagger-ui.css", "css"),
        ("LICENSE", ""),
    ] {
        let answer = get(&format!("/docs/{name}"));
        assert_eq!(answer.status, 200, "{name}");
        assert!(header(&answer, "content-type").contains(kind), "{name}");
    }
}

/// Status, headers and body.
type Visible = (u16, Vec<(String, Vec<u8>)>, Vec<u8>);

/// Everything that a caller can see of an answer but when it was given.
fn visible(answer: &Response) -> Visible {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    headers.sort();
    (answer.status, headers, answer.body.clone())
}

#[test]
fn no_file_answers_for_a_phone_or_the_api() {
    // The Worker's own 404, byte for byte and header for header, whatever lies beside it.
    let refused = visible(&get("/p/forged/ACC.cfg"));
    assert_eq!(
        (refused.0, refused.2.as_slice()),
        (404, b"not found\n".as_slice())
    );
    for path in [
        "/",
        "/docs.html",
        "/docs.html/",
        "/_headers",
        "/index.html",
        "/openapi",
        "/openapi.json/",
        "//openapi.json",
        "/p/openapi.json",
        "/p/../openapi.json/x",
        "/p/docs",
        "/rps/../docs.html",
        "/Docs",
        "/docsx",
    ] {
        assert_eq!(visible(&get(path)), refused, "{path}");
    }
    // The API's 404 is its own.
    let api = get("/api/v1/openapi.json");
    assert_eq!(api.status, 401, "{}", api.text());
    // The files are there to be read.
    for method in ["POST", "PUT", "DELETE"] {
        let url = format!("{}/openapi.json", worker().url());
        let answer = http::request(method, &url).send().unwrap();
        assert!(
            answer.status == 404 || answer.status == 405,
            "{method}: {}",
            answer.status
        );
    }
}

/// Runs a program to its end; what it says is in the failure.
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_client_that_is_generated_of_the_document_makes_a_customer_and_reads_a_phones_files() {
    let worker = worker();
    let types = "build/client/openapi.d.ts";
    let mut generate = npm::program("openapi-typescript").unwrap();
    // What has a default may be left out of what is written.
    let options = ["--default-non-nullable=false", "--output", types];
    run(generate.arg("assets/openapi.json").args(options));
    run(npm::program("tsc")
        .unwrap()
        .args(["--project", "tests/client"]));
    // Node takes the types out by itself.
    let mut client = npm::program("node").unwrap();
    client.args(["tests/client/customer.ts", &worker.url()]);
    run(client.env("DIALTONE_ADMIN_TOKEN", worker.admin_token()));
}
