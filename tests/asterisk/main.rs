//! Dialtone in workerd with a real Asterisk 22 and real SIP clients: what the scheduled handler does
//! there, and that phones register with nothing but what they fetched. Where Asterisk cannot be had
//! the ring is skipped with a loud line; on CI that is a failure.

#![expect(
    clippy::disallowed_methods,
    reason = "the Worker's clock is out there, and so is this one"
)]

#[path = "../workerd/admin.rs"]
mod admin;
#[path = "../workerd/clear.rs"]
mod clear;
mod deletes;
mod fleet;
mod flow;
mod passwords;
#[path = "../workerd/phone.rs"]
#[expect(dead_code, reason = "more of it is used in the other ring")]
mod phone;
#[path = "../native/readers.rs"]
mod readers;
mod resync;
mod scene;
mod trouble;
