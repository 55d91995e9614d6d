//! **Dialtone**: from a phone's box to its first dial tone, with nobody touching it.
//!
//! A desk phone goes through seven steps, each a file here:
//!
//! 1. [`step1_ask`]: power on; it asks the RPS where its files are.
//! 2. [`step2_redirect`]: the RPS checks who it is and answers with a URL.
//! 3. [`step3_boot_request`]: it asks there for its BootFile.
//! 4. [`step4_boot_file`]: it gets it: model, user type, first settings, where ACC and BTN are.
//! 5. [`step5_config_request`]: it asks for ACC and BTN.
//! 6. [`step6_config_files`]: it gets and applies them.
//! 7. [`step7_register`]: it registers with Asterisk; [`reconcile`] sees to it that it can.
//!
//! [`serve`] joins steps 1 to 6 for phones, [`admin`] is the HTTP API for people, [`tick`] is the
//! scheduled handler. All of that is plain Rust on values and on the traits of [`ports`]; only
//! `shell`, which exists on wasm alone, knows Cloudflare.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::dbg_macro
    )
)]

#[macro_use]
mod schema;

// Words
pub mod access;
pub mod fault;
pub mod gather;
pub mod hot_desk;
pub mod ident;
pub mod json;
pub mod key;
pub mod keys;
pub mod levels;
pub mod mac;
pub mod ports;
pub mod record;
pub mod request;
pub mod secret;
pub mod text;
pub mod time;
pub mod vendor;
pub mod zone;

// The seven steps
pub mod step1_ask;
pub mod step2_redirect;
pub mod step3_boot_request;
pub mod step4_boot_file;
pub mod step5_config_request;
pub mod step6_config_files;
pub mod step7_register;

// Joints
pub mod admin;
pub mod afterwards;
pub mod ami;
pub mod audit;
pub mod cached;
pub mod chain;
pub mod chaining;
pub mod diagnosis;
pub mod entry;
pub mod finish;
pub mod guesses;
pub mod login;
pub mod reconcile;
pub mod refusal;
pub mod rekey;
pub mod render;
pub mod resync;
pub mod rollout;
pub mod rotation;
pub mod serve;
pub mod session;
pub mod stage;
pub mod store;
pub mod tick;
pub mod transitions;
pub mod upload;
pub mod versions;
pub mod webhook;

#[cfg(not(target_arch = "wasm32"))]
pub mod openapi;
#[cfg(target_arch = "wasm32")]
mod shell;
