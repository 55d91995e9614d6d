//! Two phones as their vendors describe them: they know the URL that they were given first, and then
//! follow nothing but what the files say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dialtone_kit::http::{self, Response};

use crate::readers;

/// A Yealink desk phone.
#[derive(Debug)]
pub struct Yealink {
    mac: String,
    source: IpAddr,
    /// Where it looks for its files next time.
    pub server: String,
    /// All parameters that it ever was given.
    pub settings: BTreeMap<String, String>,
    /// Every URL that it asked for, in order.
    pub asked: Vec<String>,
}

impl Yealink {
    /// A phone out of its box that was told a server.
    pub fn new(mac: &str, server: &str, source: IpAddr) -> Self {
        Self {
            mac: mac.to_owned(),
            source,
            server: server.to_owned(),
            settings: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    /// What firmware 81 and later does when it is switched on: the boot file, and all that it
    /// includes. Gives the names of the files that it applied.
    pub fn switch_on(&mut self) -> Result<Vec<String>, String> {
        let agent = format!("Yealink SIP-T46U 108.86.0.20 {}", with_colons(&self.mac));
        let boot = self.ask(&format!("{}{}.boot", self.server, self.mac), &agent)?;
        let boot = readers::yealink(&boot.text())?;
        for url in &boot.includes {
            let file = self.ask(url, &agent)?;
            self.apply(&file.text(), "static.auto_provision.server.url")?;
        }
        Ok(boot.includes.iter().map(|url| last(url)).collect())
    }

    /// What firmware before 81 does when it is switched on: the common file of its model, then its
    /// own. Gives the statuses of both.
    pub fn switch_on_before_81(&mut self, code: u16) -> Result<(), String> {
        let agent = format!("Yealink SIP-T46G 28.73.0.50 {}", with_colons(&self.mac));
        for name in [format!("y{code:012}.cfg"), format!("{}.cfg", self.mac)] {
            let file = self.ask(&format!("{}{name}", self.server), &agent)?;
            self.apply(&file.text(), "auto_provision.server.url")?;
        }
        Ok(())
    }

    fn ask(&mut self, url: &str, agent: &str) -> Result<Response, String> {
        self.asked.push(url.to_owned());
        ask(url, agent, self.source)
    }

    fn apply(&mut self, text: &str, server: &str) -> Result<(), String> {
        let file = readers::yealink(text)?;
        if let Some(url) = file.settings.get(server) {
            self.server.clone_from(url);
        }
        self.settings.extend(file.settings);
        Ok(())
    }

    /// A parameter, or nothing.
    pub fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }
}

/// Linphone, of which only the fetching is played.
#[derive(Debug)]
pub struct SoftPhone {
    source: IpAddr,
    /// Where it looks for its configuration at its next start.
    pub config_uri: String,
    /// All entries that it ever was given, by `section/entry`.
    pub settings: BTreeMap<String, String>,
}

impl SoftPhone {
    /// A phone that was told a configuration URI.
    pub fn new(config_uri: &str, source: IpAddr) -> Self {
        Self {
            source,
            config_uri: config_uri.to_owned(),
            settings: BTreeMap::new(),
        }
    }

    /// Fetches its configuration, and goes to a new URI at its next start only.
    pub fn start(&mut self) -> Result<(), String> {
        let file = ask(&self.config_uri, "Unknown", self.source)?;
        self.settings.extend(readers::linphone(&file.text())?);
        if let Some(uri) = self.settings.get("misc/config-uri") {
            self.config_uri.clone_from(uri);
        }
        Ok(())
    }

    /// An entry, or nothing.
    pub fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }
}

fn ask(url: &str, agent: &str, source: IpAddr) -> Result<Response, String> {
    let answer = http::get(url).user_agent(agent).source(source).send();
    let answer = answer.map_err(|error| format!("{error:#}"))?;
    match answer.status {
        200 => Ok(answer),
        status => Err(format!("{url}: {status} {}", answer.text())),
    }
}

fn last(url: &str) -> String {
    url.rsplit('/').next().unwrap_or_default().to_owned()
}

fn with_colons(mac: &str) -> String {
    let pairs: Vec<&str> = (0..mac.len())
        .step_by(2)
        .filter_map(|n| mac.get(n..n + 2))
        .collect();
    pairs.join(":")
}
