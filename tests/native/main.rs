//! Everything that needs no Worker and no PBX: golden files, properties, and the phone's way
//! through the request path, all on the fakes of `world`.

mod ask;
mod asterisk;
mod expected;
mod fixtures;
mod fleet;
mod golden;
mod ident;
mod phone;
mod readers;
mod reconcile;
mod regressions;
mod rotation;
mod settings;
mod vendors;
mod world;
