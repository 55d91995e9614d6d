//! The models of Poly: lines, keys and expansion modules as the vendor's data sheets have them (the
//! first page of keys, where there are several), names as their User-Agents have them.

use crate::vendor::{Generation, Model};

const fn desk(name: &'static str, lines: u8, keys: u16, modules: (u8, u16)) -> Model {
    Model {
        name,
        lines,
        keys,
        modules: modules.0,
        module_keys: modules.1,
        generation: Generation::Current,
        code: "",
    }
}

/// A `SoundPoint IP` or `SoundStation IP`, whose last firmware is SIP 3 or UCS 4.0.
const fn former(name: &'static str, lines: u8, keys: u16, modules: (u8, u16)) -> Model {
    Model {
        generation: Generation::Former,
        ..desk(name, lines, keys, modules)
    }
}

/// No expansion module fits, or nobody has published how its keys are counted.
const NONE: (u8, u16) = (0, 0);
/// Up to three Backlit Expansion Modules of 14 keys.
const BACKLIT: (u8, u16) = (3, 14);
/// Up to three VVX Expansion Modules; the one with paper labels has 40 keys.
const VVX: (u8, u16) = (3, 40);
/// Up to two VVX EM50: ten keys on each of three pages.
const EM50: (u8, u16) = (2, 30);

/// The catalogue.
pub static MODELS: [Model; 57] = [
    desk("CCX400", 24, 24, NONE),
    desk("CCX500", 24, 24, NONE),
    desk("CCX505", 24, 24, NONE),
    desk("CCX600", 24, 24, NONE),
    desk("CCX700", 24, 24, NONE),
    desk("EdgeE100", 2, 2, NONE),
    desk("EdgeE220", 4, 4, NONE),
    desk("EdgeE300", 8, 8, NONE),
    desk("EdgeE320", 8, 8, NONE),
    desk("EdgeE350", 8, 8, NONE),
    desk("EdgeE400", 12, 12, NONE),
    desk("EdgeE450", 12, 12, NONE),
    desk("EdgeE500", 16, 16, NONE),
    desk("EdgeE550", 16, 16, NONE),
    former("SPIP301", 2, 2, NONE),
    former("SPIP320", 2, 2, NONE),
    former("SPIP321", 2, 2, NONE),
    former("SPIP330", 2, 2, NONE),
    former("SPIP331", 2, 2, NONE),
    former("SPIP335", 2, 2, NONE),
    former("SPIP430", 2, 2, NONE),
    former("SPIP450", 3, 3, NONE),
    former("SPIP501", 3, 3, NONE),
    former("SPIP550", 4, 4, NONE),
    former("SPIP560", 4, 4, NONE),
    former("SPIP600", 6, 6, NONE),
    former("SPIP601", 6, 6, BACKLIT),
    former("SPIP650", 6, 6, BACKLIT),
    former("SPIP670", 6, 6, BACKLIT),
    former("SSIP4000", 1, 0, NONE),
    former("SSIP5000", 1, 0, NONE),
    former("SSIP6000", 1, 0, NONE),
    former("SSIP7000", 1, 0, NONE),
    desk("Trio8300", 1, 0, NONE),
    desk("Trio8500", 1, 0, NONE),
    desk("Trio8800", 3, 0, NONE),
    desk("TrioC60", 3, 0, NONE),
    desk("VVX101", 1, 2, NONE),
    desk("VVX150", 2, 2, NONE),
    desk("VVX1500", 6, 6, NONE),
    desk("VVX200", 2, 2, NONE),
    desk("VVX201", 2, 2, NONE),
    desk("VVX250", 4, 4, NONE),
    desk("VVX300", 6, 6, VVX),
    desk("VVX301", 6, 6, VVX),
    desk("VVX310", 6, 6, VVX),
    desk("VVX311", 6, 6, VVX),
    desk("VVX350", 6, 6, NONE),
    desk("VVX400", 12, 12, VVX),
    desk("VVX401", 12, 12, VVX),
    desk("VVX410", 12, 12, VVX),
    desk("VVX411", 12, 12, VVX),
    desk("VVX450", 12, 12, EM50),
    desk("VVX500", 12, 12, VVX),
    desk("VVX501", 12, 12, VVX),
    desk("VVX600", 16, 16, VVX),
    desk("VVX601", 16, 16, VVX),
];
