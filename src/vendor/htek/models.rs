//! The models of Htek: keys as the vendor's data sheets have them, codes as in `cfg00NN.xml`.

use crate::vendor::{Generation, Model};

const fn desk(name: &'static str, lines: u8, keys: u16, code: &'static str) -> Model {
    Model {
        name,
        lines,
        keys,
        modules: 0,
        module_keys: 0,
        generation: Generation::Current,
        code,
    }
}

/// A model that takes up to six UC46 with 20 keys on each of two pages.
const fn extensible(name: &'static str, lines: u8, keys: u16, code: &'static str) -> Model {
    Model {
        modules: 6,
        module_keys: 40,
        ..desk(name, lines, keys, code)
    }
}

/// The catalogue. The UC924 and the UC926 register 12 and 16 accounts, of which the numbers of eight
/// are sure; the codes of the UC800 series are not known.
pub static MODELS: [Model; 18] = [
    desk("UC802T", 2, 0, ""),
    desk("UC803T", 2, 0, ""),
    desk("UC804T", 3, 4, ""),
    desk("UC806T", 4, 4, ""),
    desk("UC840P", 3, 4, ""),
    desk("UC842", 3, 4, ""),
    desk("UC860P", 4, 14, ""),
    desk("UC862", 2, 14, ""),
    desk("UC902", 4, 0, "0017"),
    desk("UC903", 6, 20, "0016"),
    desk("UC912", 4, 12, "0019"),
    desk("UC912E", 4, 12, "0019"),
    desk("UC912G", 4, 12, "0019"),
    desk("UC923", 8, 20, "0013"),
    extensible("UC924", 8, 28, "0012"),
    extensible("UC924E", 8, 28, "0012"),
    extensible("UC926", 8, 36, "0010"),
    extensible("UC926E", 8, 36, "0010"),
];
