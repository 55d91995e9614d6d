//! The Worker in Cloudflare's own runtime with its KV and R2 simulators, asked over real HTTP from
//! outside. Most tests share one Worker and have a customer of their own in it; those that need other
//! secrets, another build or the scheduled handler start one for themselves.

#![expect(
    clippy::disallowed_methods,
    reason = "the Worker's clock is out there, and so is this one"
)]

mod access;
mod admin;
#[path = "../native/asterisk.rs"]
#[expect(dead_code, reason = "more of it is used in the other ring")]
mod asterisk;
mod certificates;
mod clear;
mod cron;
#[path = "../native/dice.rs"]
#[expect(dead_code, reason = "more of it is used in the other ring")]
mod dice;
mod documents;
mod edits;
mod files;
mod flow;
mod hotdesk;
#[path = "../native/issuer.rs"]
#[expect(dead_code, reason = "more of it is used in the other ring")]
mod issuer;
mod kills;
mod leaks;
mod malformed;
mod office;
mod outlets;
mod panics;
mod phone;
mod phones;
#[path = "../native/readers.rs"]
mod readers;
mod records;
mod refusals;
mod restored;
mod secrets;
mod token;
#[path = "../native/vendors/mod.rs"]
#[expect(dead_code, reason = "more of it is used in the other ring")]
mod vendors;
mod versions;
mod window;
