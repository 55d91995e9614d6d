//! A phone out of its box: it knows a URL that somebody gave it, by DHCP or by hand, what its
//! firmware asks for, and nothing but what its files say from then on.

use serde_json::Value;

/// What a URL path answers to a User-Agent: status and body.
pub type Fetch<'a> = Box<dyn FnMut(&str, &str) -> (u16, Vec<u8>) + 'a>;

/// The wire between a phone and Dialtone.
pub struct Wire<'a> {
    fetch: Fetch<'a>,
    /// The scheme and host of Dialtone.
    origin: String,
    /// The phone's MAC.
    pub mac: String,
    /// Its model, as the catalogue has it.
    pub model: Value,
    /// Where it was told to ask first; ends in `/`.
    pub start: String,
    /// Everything that it was ever answered.
    heard: String,
    /// Every URL that it asked for, and the status.
    pub asked: Vec<(String, u16)>,
}

impl<'a> Wire<'a> {
    /// A phone that was told to start at a URL of this origin.
    pub fn new(origin: &str, start: &str, mac: &str, model: &Value, fetch: Fetch<'a>) -> Self {
        Self {
            fetch,
            origin: origin.to_owned(),
            mac: mac.to_owned(),
            model: model.clone(),
            start: start.to_owned(),
            heard: String::new(),
            asked: Vec::new(),
        }
    }

    /// What a URL answers to this User-Agent, or `None` for a 404. A phone goes only where it was
    /// told to: its first URL, or a place that a file of it names.
    pub fn ask(&mut self, url: &str, agent: &str) -> Option<Vec<u8>> {
        let rest = url
            .strip_prefix(&self.origin)
            .unwrap_or_else(|| panic!("{url} is not what a file says, or leads away"));
        let (directory, _) = rest.rsplit_once('/').unwrap();
        let told = url.starts_with(&self.start) || self.heard.contains(directory);
        assert!(
            told,
            "nobody told the phone of {url}; it asked for {:?}",
            self.asked
        );
        let (status, bytes) = (self.fetch)(rest, agent);
        self.asked.push((url.to_owned(), status));
        match status {
            200 => {
                self.heard.push_str(&String::from_utf8_lossy(&bytes));
                Some(bytes)
            }
            404 => None,
            _ => panic!("{url}: {status}"),
        }
    }

    /// The same for a file that is text.
    pub fn text(&mut self, url: &str, agent: &str) -> Option<String> {
        let bytes = self.ask(url, agent)?;
        Some(String::from_utf8(bytes).unwrap_or_else(|error| panic!("{url}: {error}")))
    }

    /// The MAC with colons, as many User-Agents have it.
    pub fn colons(&self) -> String {
        let pairs: Vec<&str> = (0..6).map(|n| &self.mac[2 * n..2 * n + 2]).collect();
        pairs.join(":")
    }

    /// The MAC in capitals.
    pub fn upper(&self) -> String {
        self.mac.to_ascii_uppercase()
    }
}
