//! A Yealink desk phone, played over real HTTP. It knows what its firmware and its box say, where
//! the RPS is, and beyond that follows nothing but the URLs that it is given.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use dialtone_kit::http::{self, Response};
use serde_json::Value;

/// The first line of every file that the phone does not ignore.
const VERSION: &str = "#!version:1.0.0.1";

/// The parameter that says where it looks for its files next time.
const SERVER: &str = "static.auto_provision.server.url";

/// A phone out of its box.
#[derive(Clone, Debug)]
pub struct Phone {
    mac: String,
    serial: String,
    model: String,
    firmware: String,
    source: Option<IpAddr>,
    /// Every parameter that it was ever given.
    settings: BTreeMap<String, String>,
    /// What it has already, by URL: the `ETag` of each file, and its text.
    kept: BTreeMap<String, (String, String)>,
}

/// A request, and the answer to it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What was asked for.
    pub url: String,
    /// The headers of the request, those that a connection needs aside.
    pub headers: Vec<(&'static str, String)>,
    /// The answer, whatever its status.
    pub answer: Response,
    /// How long it took, the connection included.
    pub took: Duration,
}

/// Where the RPS sends a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The provisioning URL.
    pub url: String,
    /// The name of the `BootFile` there.
    pub boot: String,
}

/// A file as the phone reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// The files that it names, in order.
    pub includes: Vec<String>,
    /// The parameters that it sets.
    pub settings: BTreeMap<String, String>,
}

impl Phone {
    /// A phone with this on its label.
    pub fn new(mac: &str, serial: &str, model: &str) -> Self {
        Self {
            mac: mac.to_owned(),
            serial: serial.to_owned(),
            model: model.to_owned(),
            firmware: "108.86.0.20".to_owned(),
            source: None,
            settings: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    /// Has it come from that address, which only the local simulator believes.
    pub fn at(mut self, source: Option<IpAddr>) -> Self {
        self.source = source;
        self
    }

    /// Its MAC as it stands on its label.
    pub fn spelled_mac(&self) -> String {
        let digits: Vec<char> = self.mac.chars().collect();
        let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
        pairs.join(":")
    }

    /// What its firmware calls it.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The number on its box.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// A parameter, or nothing.
    pub fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// How many parameters it was given.
    pub fn settings(&self) -> usize {
        self.settings.len()
    }

    /// Where it looks for its files next time, once it knows.
    pub fn server(&self) -> Option<&str> {
        self.settings.get(SERVER).map(String::as_str)
    }

    /// Asks for a URL; if it has had an answer from there, only for news.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn ask(&mut self, url: &str) -> Result<Exchange> {
        let agent = format!(
            "Yealink SIP-{} {} {}",
            self.model,
            self.firmware,
            self.spelled_mac()
        );
        let mut headers = vec![("User-Agent", agent)];
        if let Some((etag, _)) = self.kept.get(url) {
            headers.push(("If-None-Match", etag.clone()));
        }
        let mut request = http::get(url);
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        if let Some(source) = self.source {
            request = request.source(source);
        }
        let start = Instant::now();
        let answer = request.send()?;
        let took = start.elapsed();
        if let (200, Some(etag)) = (answer.status, answer.header("etag")) {
            let kept = (etag.to_owned(), answer.text());
            self.kept.insert(url.to_owned(), kept);
        }
        Ok(Exchange {
            url: url.to_owned(),
            headers,
            answer,
            took,
        })
    }

    /// Steps 1 and 2: asks the RPS where its files are, showing a serial number.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn look_up(&mut self, rps: &str, serial: &str) -> Result<Exchange> {
        let url = format!("{rps}?mac={}&serial={serial}", self.mac);
        self.ask(&url)
    }

    /// Takes the parameters of a file.
    pub fn apply(&mut self, file: File) {
        self.settings.extend(file.settings);
    }

    /// Steps 1 to 6 in one go, as when it is switched on out of its box. Gives every file of steps 3
    /// to 6, the `BootFile` first.
    ///
    /// # Errors
    /// If a step fails.
    pub fn switch_on(&mut self, rps: &str) -> Result<Vec<Exchange>> {
        let serial = self.serial.clone();
        let found = Found::read(&self.look_up(rps, &serial)?)?;
        self.fetch_all(&format!("{}{}", found.url, found.boot))
    }

    /// Steps 3 to 6: a `BootFile`, and every file that it names.
    ///
    /// # Errors
    /// If one of them cannot be had or read.
    pub fn fetch_all(&mut self, boot: &str) -> Result<Vec<Exchange>> {
        let mut exchanges = vec![self.ask(boot)?];
        let names = self.read(&exchanges[0])?.includes;
        if names.is_empty() {
            bail!("the BootFile at {boot} names no other file");
        }
        for url in names {
            let exchange = self.ask(&url)?;
            let file = self.read(&exchange)?;
            self.apply(file);
            exchanges.push(exchange);
        }
        Ok(exchanges)
    }

    /// The file of an answer, which may be that the phone has it.
    fn read(&self, exchange: &Exchange) -> Result<File> {
        match self.kept.get(&exchange.url) {
            Some((_, text)) if exchange.answer.status == 304 => File::read(text),
            _ => exchange.file(),
        }
    }
}

impl Exchange {
    /// The answer's body as a file of the phone's.
    ///
    /// # Errors
    /// If the answer is no 200, or no file that the phone would take.
    pub fn file(&self) -> Result<File> {
        let text = self.body()?;
        File::read(&text).with_context(|| format!("the phone would not take {}", self.url))
    }

    /// The answer's body.
    ///
    /// # Errors
    /// If the answer is no 200.
    pub fn body(&self) -> Result<String> {
        if self.answer.status != 200 {
            bail!(
                "{} was answered with {}: {}",
                self.url,
                self.answer.status,
                self.answer.text().trim_end()
            );
        }
        Ok(self.answer.text())
    }
}

impl Found {
    /// Reads the answer of the look-up.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(exchange: &Exchange) -> Result<Self> {
        exchange.body()?;
        let answer: Value = exchange.answer.json()?;
        let member = |name: &str| {
            let text = answer[name].as_str().map(str::to_owned);
            text.with_context(|| format!("the look-up's answer has no `{name}`: {answer}"))
        };
        Ok(Self {
            url: member("url")?,
            boot: member("boot")?,
        })
    }
}

impl File {
    /// Reads a file as the phone does, but refuses what the phone would skip.
    ///
    /// # Errors
    /// If a line is none of a Yealink file's, or the file is cut off.
    pub fn read(text: &str) -> Result<Self> {
        if text.lines().next() != Some(VERSION) {
            bail!("it does not begin with {VERSION}");
        }
        if !text.ends_with('\n') {
            bail!("it ends in the middle of a line");
        }
        let mut file = Self::default();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("include:config ") {
                let url = name.trim().trim_matches('"');
                file.includes.push(url.to_owned());
            } else if let Some((name, value)) = line.split_once('=')
                && !line.starts_with('#')
            {
                let (name, value) = (name.trim(), value.trim());
                file.settings.insert(name.to_owned(), value.to_owned());
            } else if !line.is_empty() && !line.starts_with('#') {
                bail!("it has the line {line:?}");
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_last_line() {
        let text =
            "#!version:1.0.0.1\n# a = b\ninclude:config \"http://x/a.cfg\"\nk.1 = v = w\nk.2 =\n";
        let file = File::read(text).unwrap();
        assert_eq!(file.includes, ["http://x/a.cfg"]);
        let settings = [("k.1", "v = w"), ("k.2", "")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(file.settings, BTreeMap::from(settings));
    }

    #[test]
    fn half_a_file_and_a_strange_one_are_refused() {
        for text in [
            "",
            "not found\n",
            "#!version:1.0.0.1\nk = v",
            "#!version:1.0.0.1\nacc",
            "#!version:1.0.0.1\nwhat\n",
        ] {
            assert!(File::read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_mac_is_spelled_in_pairs() {
        let phone = Phone::new("805ec0000001", "1", "T46U");
        assert_eq!(phone.spelled_mac(), "80:5e:c0:00:00:01");
    }
}
