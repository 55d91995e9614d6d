//! `cargo xtask export`: all devices or accounts into a file that `cargo xtask import` takes.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use dialtone_kit::http;

use crate::import::{Form, Given, newlines};
use crate::screen::Screen;
use crate::signal;

/// How often a page is asked for that the service had no time for.
const TRIES: u32 = 8;

/// Exports into a file; a half one is never left under its name.
pub fn run(arguments: &[String]) -> Result<()> {
    let given = Given::parse("export", arguments)?;
    signal::watch();
    let mut name = given.file.clone().into_os_string();
    name.push(".part");
    let mut part = BufWriter::new(File::create(&name)?);
    let format = match given.form {
        Form::Csv => "csv",
        Form::Ndjson => "ndjson",
    };
    let tenant = given.tenant.as_deref();
    let tenant = tenant.map_or(String::new(), |tenant| format!("&tenant={tenant}"));
    let mut next = Some(format!(
        "/api/v1/{}/export?format={format}{tenant}",
        given.collection
    ));
    let mut first = true;
    let mut lines = 0;
    while let Some(path) = next {
        signal::go_on()?;
        let (page, link) = page(&given, &path)?;
        // Each page of CSV begins with the header line, which holds no quoted line break.
        let header = page
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let skipped = if given.form == Form::Csv && !first {
            header
        } else {
            0
        };
        let page = page.get(skipped..).context("a page is cut off")?;
        part.write_all(page)?;
        lines += newlines(page);
        first = false;
        next = link;
    }
    part.flush()?;
    fs::rename(&name, &given.file)?;
    Screen::stdout().line(format_args!("{lines} lines in {}", given.file.display()));
    Ok(())
}

/// A page, and where the next one is.
fn page(given: &Given, path: &str) -> Result<(Vec<u8>, Option<String>)> {
    let url = format!("{}{path}", given.url);
    for attempt in 1..=TRIES {
        let answer = http::get(&url).bearer(&given.token).send()?;
        match answer.status {
            200 => {
                let link = answer.header("link").and_then(next_page);
                return Ok((answer.body, link));
            }
            429 | 503 if attempt < TRIES => {
                let after = answer.header("retry-after").and_then(|s| s.parse().ok());
                thread::sleep(Duration::from_secs(after.unwrap_or(2)));
            }
            status => bail!("GET {url}: {status}: {}", answer.text()),
        }
    }
    bail!("gave up")
}

/// What a `Link` calls the next page.
fn next_page(link: &str) -> Option<String> {
    let (url, rel) = link.strip_prefix('<')?.split_once('>')?;
    (rel.trim_start_matches([';', ' ']) == "rel=\"next\"").then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_the_next_page() {
        let next = next_page("</api/v1/devices/export?cursor=a>; rel=\"next\"");
        assert_eq!(next.as_deref(), Some("/api/v1/devices/export?cursor=a"));
        assert_eq!(next_page("</x>; rel=\"prev\""), None);
        assert_eq!(next_page(""), None);
    }
}
