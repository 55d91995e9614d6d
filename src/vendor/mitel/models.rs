//! The models of Mitel and, before, Aastra: lines and keys as the administrator guides and public
//! provisioning projects have them. The code is the number of keys below and above the display.

use crate::vendor::{Generation, Model};

/// A model by its keys: programmable ones, and soft keys above or beside the display and below it.
const fn desk(
    name: &'static str,
    lines: u8,
    keys: [u16; 3],
    modules: u8,
    code: &'static str,
) -> Model {
    let [programmable, top, soft] = keys;
    Model {
        name,
        lines,
        keys: programmable + top + soft,
        modules,
        // An M685 has three pages of 28 keys.
        module_keys: if modules == 0 { 0 } else { 84 },
        generation: Generation::Current,
        code,
    }
}

/// One that asks for `aastra.cfg`.
const fn aastra(
    name: &'static str,
    lines: u8,
    keys: [u16; 3],
    modules: u8,
    code: &'static str,
) -> Model {
    Model {
        generation: Generation::Former,
        // An M675 has three pages of 20 keys.
        module_keys: if modules == 0 { 0 } else { 60 },
        ..desk(name, lines, keys, modules, code)
    }
}

/// The catalogue. Its last column is the kinds of keys in the order in which records count them, with
/// how many there are of each but the last.
pub static MODELS: [Model; 25] = [
    aastra("6730i", 6, [8, 0, 0], 0, "prgkey"),
    aastra("6731i", 6, [8, 0, 0], 0, "prgkey"),
    aastra("6735i", 9, [6, 0, 20], 3, "6 prgkey softkey"),
    aastra("6737i", 9, [0, 10, 20], 3, "10 topsoftkey softkey"),
    aastra("6739i", 9, [0, 0, 55], 3, "softkey"),
    aastra("6753i", 9, [6, 0, 0], 3, "prgkey"),
    aastra("6755i", 9, [6, 0, 20], 3, "6 prgkey softkey"),
    aastra("6757i", 9, [0, 10, 20], 3, "10 topsoftkey softkey"),
    desk("6863i", 2, [3, 0, 0], 0, "prgkey"),
    desk("6865i", 24, [8, 0, 0], 3, "prgkey"),
    // A BLF does not work on the soft keys below the display of these three.
    desk("6867i", 24, [0, 20, 0], 3, "topsoftkey"),
    desk("6869i", 24, [0, 44, 0], 3, "topsoftkey"),
    desk("6873i", 24, [0, 48, 0], 3, "topsoftkey"),
    desk("6905", 2, [3, 0, 0], 0, "prgkey"),
    desk("6910", 2, [8, 0, 0], 0, "prgkey"),
    desk("6915", 24, [0, 10, 0], 3, "topsoftkey"),
    desk("6920", 24, [0, 10, 0], 3, "topsoftkey"),
    desk("6920w", 24, [0, 10, 0], 3, "topsoftkey"),
    desk("6930", 24, [0, 22, 0], 3, "topsoftkey"),
    desk("6930w", 24, [0, 22, 0], 3, "topsoftkey"),
    desk("6940", 24, [0, 24, 0], 3, "topsoftkey"),
    desk("6940w", 24, [0, 24, 0], 3, "topsoftkey"),
    desk("6970", 24, [0, 24, 0], 0, "topsoftkey"),
    aastra("9143i", 9, [7, 0, 0], 0, "prgkey"),
    aastra("9480i", 9, [0, 0, 6], 0, "softkey"),
];

/// What a key is called: `topsoftkey3`.
pub fn key_name(model: &Model, n: u16) -> String {
    let mut words = model.code.split(' ');
    let mut kind = words.next().unwrap_or_default();
    let mut at = n;
    if let Ok(first) = kind.parse::<u16>() {
        kind = words.next().unwrap_or_default();
        if n > first {
            kind = words.next().unwrap_or_default();
            at = n - first;
        }
    }
    format!("{kind}{at}")
}
