//! The models of Gigaset: accounts and handsets as public provisioning projects and data sheets have
//! them. The code says which of the vendor's syntaxes a model reads.

use crate::vendor::{Generation, Model};

/// The settings of Snom's firmware, which the P phones run.
pub(super) const P: &str = "P";
/// `<provisioning>` with the parameters of the Maxwell phones.
pub(super) const MAXWELL: &str = "Maxwell";
/// `<provisioning>` with the parameters of the N610 to N870.
pub(super) const NX70: &str = "Nx70";
/// `<ProviderFrame>` of the N510 and the bases of its time.
pub(super) const N510: &str = "N510";
/// `<ProviderFrame>` of the N720, whose parameters have other names.
pub(super) const N720: &str = "N720";

const fn model(
    name: &'static str,
    code: &'static str,
    generation: Generation,
    lines: u8,
    keys: u16,
) -> Model {
    Model {
        name,
        lines,
        keys,
        modules: 0,
        module_keys: 0,
        generation,
        code,
    }
}

/// A P phone with up to three expansion modules of 18 keys.
const fn p(name: &'static str, keys: u16) -> Model {
    Model {
        modules: 3,
        module_keys: 18,
        ..model(name, P, Generation::Current, 12, keys)
    }
}

const fn maxwell(name: &'static str, keys: u16) -> Model {
    model(name, MAXWELL, Generation::Current, 4, keys)
}

/// A base with so many handsets.
const fn base(name: &'static str, lines: u8) -> Model {
    model(name, NX70, Generation::Dect, lines, 0)
}

const fn former(name: &'static str) -> Model {
    model(name, N510, Generation::Former, 6, 0)
}

/// The catalogue.
pub static MODELS: [Model; 27] = [
    former("C470"),
    former("C475"),
    former("C590"),
    former("C595"),
    former("C610"),
    former("C610A"),
    maxwell("Maxwell2", 8),
    maxwell("Maxwell3", 8),
    maxwell("Maxwell4", 8),
    maxwell("MaxwellBasic", 0),
    former("N300"),
    former("N300A"),
    former("N510"),
    base("N610", 8),
    base("N670", 20),
    model("N720", N720, Generation::Former, 100, 0),
    base("N770", 100),
    base("N870", 250),
    base("N870E", 250),
    p("P710", 4),
    p("P810", 4),
    p("P820", 28),
    p("P825", 28),
    p("P850", 36),
    p("P855", 36),
    former("S675"),
    former("S685"),
];
