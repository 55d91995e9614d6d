//! Everything that needs no Worker and no PBX: golden files, properties, and the phone's way
//! through the request path, all on the fakes of `world`.

mod access;
mod ask;
mod asterisk;
mod audit;
mod batch;
mod browser;
mod expected;
mod fixtures;
mod fleet;
mod fuzz;
mod golden;
mod ident;
mod issuer;
mod phone;
mod plan;
mod readers;
mod reconcile;
mod regressions;
mod rekey;
mod resync;
mod roles;
mod rollout;
mod rotation;
mod scale;
mod security;
mod settings;
mod status;
mod vendors;
mod world;
