//! The models of Yealink: lines and keys as the vendor's data sheets have them, codes as in
//! `y0000000000NN.cfg`.

use crate::vendor::{Generation, Model};

const fn desk(
    name: &'static str,
    lines: u8,
    keys: u16,
    (modules, module_keys): (u8, u16),
    code: &'static str,
) -> Model {
    Model {
        name,
        lines,
        keys,
        modules,
        module_keys,
        generation: Generation::Current,
        code,
    }
}

/// A model whose last firmware is older than 81 and knows no boot file.
const fn former(
    name: &'static str,
    lines: u8,
    keys: u16,
    modules: (u8, u16),
    code: &'static str,
) -> Model {
    Model {
        generation: Generation::Former,
        ..desk(name, lines, keys, modules, code)
    }
}

/// A DECT base with so many handsets.
const fn base(name: &'static str, lines: u8, code: &'static str) -> Model {
    Model {
        generation: Generation::Dect,
        ..desk(name, lines, 0, NONE, code)
    }
}

/// No expansion module fits.
const NONE: (u8, u16) = (0, 0);
/// Up to six EXP40 or EXP20 with 20 keys on each of two pages.
const EXP40: (u8, u16) = (6, 40);
/// Up to three EXP50 or EXP43 with 20 keys on each of three pages.
const EXP50: (u8, u16) = (3, 60);

/// The catalogue.
pub static MODELS: [Model; 86] = [
    desk("AX83H", 4, 0, NONE, "180"),
    desk("AX86R", 4, 0, NONE, "182"),
    desk("CP860", 1, 0, NONE, "37"),
    desk("CP920", 1, 0, NONE, "78"),
    desk("CP925", 1, 0, NONE, "148"),
    desk("CP960", 1, 0, NONE, "73"),
    desk("CP965", 1, 0, NONE, "143"),
    desk("T19P_E2", 1, 0, NONE, "53"),
    former("T20P", 2, 2, NONE, "7"),
    desk("T21P_E2", 2, 2, NONE, "52"),
    former("T22P", 3, 3, NONE, "5"),
    desk("T23G", 3, 3, NONE, "44"),
    desk("T23P", 3, 3, NONE, "44"),
    former("T26P", 3, 3, EXP40, "4"),
    desk("T27G", 6, 21, EXP40, "69"),
    desk("T27P", 6, 21, EXP40, "45"),
    former("T28P", 6, 6, EXP40, "0"),
    desk("T29G", 16, 27, EXP40, "46"),
    desk("T30", 1, 0, NONE, "127"),
    desk("T30P", 1, 0, NONE, "127"),
    desk("T31", 2, 2, NONE, "123"),
    desk("T31G", 2, 2, NONE, "123"),
    desk("T31P", 2, 2, NONE, "123"),
    desk("T31W", 2, 2, NONE, "172"),
    former("T32G", 3, 3, NONE, "32"),
    desk("T33G", 4, 12, NONE, "124"),
    desk("T33P", 4, 12, NONE, "124"),
    desk("T34W", 4, 12, NONE, "171"),
    former("T38G", 6, 6, EXP40, "38"),
    desk("T40G", 3, 3, NONE, "76"),
    desk("T40P", 3, 3, NONE, "54"),
    desk("T41P", 6, 15, NONE, "36"),
    desk("T41S", 6, 15, NONE, "68"),
    desk("T41U", 6, 15, NONE, "116"),
    desk("T42G", 12, 15, NONE, "29"),
    desk("T42S", 12, 15, NONE, "67"),
    desk("T42U", 12, 15, NONE, "116"),
    desk("T43U", 12, 21, EXP50, "107"),
    desk("T44U", 12, 24, EXP50, "174"),
    desk("T44W", 12, 24, EXP50, "174"),
    desk("T46G", 16, 27, EXP40, "28"),
    desk("T46S", 16, 27, EXP40, "66"),
    desk("T46U", 16, 27, EXP50, "108"),
    desk("T48G", 16, 29, EXP40, "35"),
    desk("T48S", 16, 29, EXP40, "65"),
    desk("T48U", 16, 29, EXP50, "109"),
    desk("T49G", 16, 29, NONE, "51"),
    desk("T52S", 12, 21, EXP50, "74"),
    desk("T53", 12, 21, EXP50, "95"),
    desk("T53C", 12, 21, EXP50, "95"),
    desk("T53W", 12, 21, EXP50, "95"),
    desk("T54S", 16, 27, EXP50, "70"),
    desk("T54W", 16, 27, EXP50, "96"),
    desk("T56A", 16, 27, EXP50, "56"),
    desk("T57W", 16, 29, EXP50, "97"),
    desk("T58", 16, 27, EXP50, "58"),
    desk("T58A", 16, 27, EXP50, "58"),
    desk("T58V", 16, 27, EXP50, "58"),
    desk("T58W", 16, 27, EXP50, "150"),
    desk("T73U", 12, 48, EXP50, "186"),
    desk("T73W", 12, 48, EXP50, "183"),
    desk("T74U", 16, 60, EXP50, "187"),
    desk("T74W", 16, 60, EXP50, "184"),
    desk("T77U", 16, 95, EXP50, "188"),
    desk("T85W", 16, 72, EXP50, "196"),
    desk("T87W", 16, 95, EXP50, "197"),
    desk("T88V", 16, 95, EXP50, "192"),
    desk("T88W", 16, 95, EXP50, "192"),
    former("VP530", 4, 0, NONE, "23"),
    desk("VP59", 16, 27, NONE, "91"),
    base("W52P", 5, "25"),
    base("W56P", 5, "25"),
    base("W60B", 8, "77"),
    base("W60P", 8, "77"),
    base("W70B", 10, "146"),
    base("W73P", 10, "146"),
    base("W75B", 20, "175"),
    base("W75DM", 20, "175"),
    base("W76P", 10, "146"),
    base("W79P", 10, "146"),
    base("W80", 100, "103"),
    base("W80B", 30, "103"),
    base("W80DM", 30, "103"),
    base("W90", 250, "130"),
    base("W90B", 250, "130"),
    base("W90DM", 250, "130"),
];
