//! Who a phone says it is: read from its User-Agent. Nothing of it is believed without a proof.

use crate::mac::Mac;

/// What a User-Agent says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agent<'a> {
    /// The MAC in it.
    pub mac: Option<Mac>,
    /// The firmware's version, as it is written.
    pub firmware: Option<&'a str>,
}

/// Reads a User-Agent.
#[must_use]
pub fn agent(_user_agent: &str) -> Agent<'_> {
    Agent::default()
}
