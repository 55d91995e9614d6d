//! The models of Snom: lines and keys (on all pages together) as the newest firmware that public
//! provisioning projects know has them, and the expansion modules of the data sheets.

use crate::vendor::{Generation, Model};

const fn desk(
    name: &'static str,
    lines: u8,
    keys: u16,
    (modules, module_keys): (u8, u16),
) -> Model {
    Model {
        name,
        lines,
        keys,
        modules,
        module_keys,
        generation: Generation::Current,
        code: "",
    }
}

/// A DECT base with so many handsets.
const fn base(name: &'static str, lines: u8) -> Model {
    Model {
        generation: Generation::Dect,
        ..desk(name, lines, 0, NONE)
    }
}

/// No expansion module fits.
const NONE: (u8, u16) = (0, 0);
/// The expansion module of the 320 and 370 with 42 keys.
const KM: (u8, u16) = (3, 42);
/// Up to three D3 or D7 with 18 keys.
const D7: (u8, u16) = (3, 18);
/// Up to three D8C with 60 keys on all pages.
const D8: (u8, u16) = (3, 60);

/// The catalogue.
pub static MODELS: [Model; 43] = [
    desk("300", 12, 6, NONE),
    desk("320", 12, 12, KM),
    desk("370", 12, 12, KM),
    desk("710", 4, 5, NONE),
    desk("715", 4, 5, D7),
    desk("720", 12, 18, D7),
    desk("725", 12, 18, D7),
    desk("760", 12, 16, D7),
    desk("820", 12, 16, NONE),
    desk("821", 12, 12, NONE),
    desk("870", 12, 15, NONE),
    desk("D120", 2, 0, NONE),
    desk("D140", 2, 2, NONE),
    desk("D150", 2, 2, NONE),
    desk("D305", 4, 5, NONE),
    desk("D315", 4, 5, D7),
    desk("D335", 12, 32, D7),
    desk("D345", 12, 48, D7),
    desk("D375", 12, 12, D7),
    desk("D385", 12, 48, D7),
    desk("D710", 4, 5, NONE),
    desk("D712", 4, 5, NONE),
    desk("D713", 6, 4, NONE),
    desk("D715", 4, 5, D7),
    desk("D717", 6, 3, D7),
    desk("D725", 12, 18, D7),
    desk("D735", 12, 32, D7),
    desk("D745", 12, 32, D7),
    desk("D765", 12, 16, D7),
    desk("D785", 12, 24, D7),
    desk("D810", 12, 16, D8),
    desk("D812", 12, 32, D8),
    desk("D815", 12, 40, D8),
    desk("D862", 8, 32, D8),
    desk("D865", 12, 40, D8),
    desk("D892", 12, 40, D8),
    base("M300", 20),
    base("M400", 20),
    base("M700", 250),
    base("M900", 250),
    desk("MP", 12, 0, NONE),
    desk("PA1", 1, 0, NONE),
    desk("SP800", 12, 28, D7),
];
