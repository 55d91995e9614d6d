//! The models of Grandstream: accounts and keys as the vendor's data sheets and the notes in its
//! configuration templates have them.

use crate::vendor::{Generation, Model};

/// A model whose firmware knows parameters by names (`config version="2"`).
const fn named(name: &'static str, lines: u8, keys: u16, modules: u8) -> Model {
    Model {
        name,
        lines,
        keys,
        modules,
        // The GBX20 and the GXP2200EXT: 20 keys on each of two pages.
        module_keys: if modules > 0 { 40 } else { 0 },
        generation: Generation::Current,
        code: "",
    }
}

/// A model whose firmware knows them by numbers only (`config version="1"`).
const fn numbered(name: &'static str, lines: u8, keys: u16, modules: u8) -> Model {
    Model {
        generation: Generation::Former,
        ..named(name, lines, keys, modules)
    }
}

/// The catalogue. GXV phones register 16 accounts, of which the numbers of six are known.
pub static MODELS: [Model; 45] = [
    named("GRP2612", 2, 16, 0),
    named("GRP2612G", 2, 16, 0),
    named("GRP2612P", 2, 16, 0),
    named("GRP2612W", 2, 16, 0),
    named("GRP2613", 3, 24, 0),
    named("GRP2613W", 3, 24, 0),
    named("GRP2614", 4, 40, 0),
    named("GRP2615", 5, 40, 4),
    named("GRP2616", 6, 40, 0),
    named("GRP2624", 4, 8, 4),
    named("GRP2634", 4, 18, 0),
    named("GRP2636", 6, 36, 0),
    named("GRP2650", 6, 14, 4),
    named("GRP2670", 6, 12, 4),
    named("GXP2130", 3, 20, 0),
    named("GXP2135", 4, 32, 0),
    named("GXP2140", 4, 16, 4),
    named("GXP2160", 6, 48, 0),
    named("GXP2170", 6, 48, 4),
    numbered("GXP1100", 1, 4, 0),
    numbered("GXP1105", 1, 4, 0),
    numbered("GXP1160", 1, 0, 0),
    numbered("GXP1165", 1, 0, 0),
    numbered("GXP1400", 2, 2, 0),
    numbered("GXP1405", 2, 2, 0),
    numbered("GXP1450", 2, 2, 0),
    numbered("GXP1610", 1, 2, 0),
    numbered("GXP1615", 1, 2, 0),
    numbered("GXP1620", 2, 2, 0),
    numbered("GXP1625", 2, 2, 0),
    numbered("GXP1628", 2, 10, 0),
    numbered("GXP1630", 3, 11, 0),
    numbered("GXP2000", 4, 7, 0),
    numbered("GXP2100", 4, 11, 0),
    numbered("GXP2110", 4, 22, 0),
    numbered("GXP2120", 6, 13, 0),
    numbered("GXP2124", 4, 32, 0),
    numbered("GXP2200", 6, 7, 4),
    numbered("GXV3350", 6, 160, 0),
    numbered("GXV3370", 6, 160, 0),
    numbered("GXV3380", 6, 160, 0),
    numbered("HT801", 1, 0, 0),
    numbered("HT801V2", 1, 0, 0),
    numbered("HT802", 2, 0, 0),
    numbered("HT802V2", 2, 0, 0),
];

/// How many of a phone's keys stand beside its display, and how many of those, from the first, can be
/// line keys. The rest are multi-purpose keys, with parameters of their own.
#[must_use]
pub fn beside_display(model: &Model) -> (u16, u16) {
    match model.name {
        "GRP2614" | "GRP2616" => (16, 16),
        "GRP2634" => (8, 8),
        "GRP2636" => (12, 12),
        // Virtual keys; only the fixed ones among them take a line (note in the vendor's template).
        "GXP2130" => (12, 3),
        "GXP2135" => (32, 8),
        "GXP2140" => (16, 4),
        "GXP2160" => (24, 6),
        "GXP2170" => (48, 12),
        "GXP1630" => (3, 3),
        "GXP2100" | "GXP2110" => (4, 4),
        "GXP2120" => (6, 6),
        "GXP2124" => (8, 4),
        name if name.starts_with("GXP16") || name.starts_with("GXP14") => (2, 2),
        _ if model.generation == Generation::Current => (model.keys, model.keys),
        _ => (0, 0),
    }
}
