//! The models of Fanvil and Linkvil: lines and keys as public provisioning projects and the vendor's
//! data sheets have them, codes as in the names of their common files.

use crate::vendor::{Generation, Model};

/// Keys that one element of a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bank {
    /// The element: `dssSide` beside the display, `internal` below it or on the second display,
    /// `dssSoft` where a model has neither.
    pub tag: &'static str,
    /// The index of the first page.
    pub first: u16,
    /// How many pages.
    pub pages: u16,
    /// How many keys on each.
    pub keys: u16,
}

const fn side(pages: u16, keys: u16) -> Bank {
    Bank {
        tag: "dssSide",
        first: 1,
        pages,
        keys,
    }
}

const fn inner(first: u16, pages: u16, keys: u16) -> Bank {
    Bank {
        tag: "internal",
        first,
        pages,
        keys,
    }
}

const fn soft(keys: u16) -> Bank {
    Bank {
        tag: "dssSoft",
        first: 0,
        pages: 1,
        keys,
    }
}

const fn count(banks: &[Bank]) -> u16 {
    match banks {
        [bank, rest @ ..] => bank.pages * bank.keys + count(rest),
        [] => 0,
    }
}

macro_rules! catalogue {
    ($($name:literal $lines:literal $generation:ident $code:literal [$($bank:expr),*];)*) => {
        /// The catalogue.
        pub static MODELS: &[Model] = &[$(Model {
            name: $name,
            lines: $lines,
            keys: count(&[$($bank),*]),
            modules: 0,
            module_keys: 0,
            generation: Generation::$generation,
            code: $code,
        }),*];

        /// Where the keys of each model stand, in the order of [`MODELS`].
        static BANKS: &[&[Bank]] = &[$(&[$($bank),*]),*];
    };
}

// A former one has its keys in one list, whatever their place.
catalogue! {
    "C58" 2 Former "f0C00580000" [soft(2)];
    "C62" 4 Former "f0C00620000" [soft(8)];
    "H2" 1 Former "" [];
    "H2U" 1 Current "" [];
    "H2U-V2" 2 Current "F0V2UV200000" [inner(1, 1, 10)];
    "H5" 2 Former "" [soft(6)];
    "V50G" 4 Current "" [];
    "V61G" 4 Current "F0VV61G00000" [side(3, 4)];
    "V61W" 4 Current "F0VV61W00000" [side(3, 4)];
    "V62" 6 Current "F0VV6200000" [side(3, 7)];
    "V62G" 12 Current "F0VV62G00000" [side(3, 7)];
    "V62Pro" 12 Current "F0V0V6210000" [side(3, 7)];
    "V62W" 12 Current "F0VV62W00000" [side(3, 7)];
    "V63" 6 Current "F0V0V6300000" [side(3, 7)];
    "V64" 12 Current "F0V0V6400000" [side(3, 7)];
    "V65" 20 Current "F0V0V6500000" [side(3, 9)];
    "V66" 20 Current "F0V0V6600000" [inner(1, 4, 29)];
    "V66Pro" 20 Current "F0V0V6610000" [inner(1, 4, 29)];
    "V67" 20 Current "F0V0V6700000" [inner(1, 4, 29)];
    "W610W" 4 Current "F0V610W00000" [inner(1, 2, 8)];
    "W611W" 4 Current "F0V611W00000" [inner(1, 2, 8)];
    "W620W" 8 Current "F0V620W00000" [inner(1, 2, 8)];
    "X1S" 2 Current "" [inner(1, 1, 2)];
    "X1SG" 2 Current "" [inner(1, 1, 2)];
    "X1SP" 2 Current "" [inner(1, 1, 2)];
    "X2" 2 Former "f0X2hw1.100" [];
    "X2P" 2 Former "f0X2hw1.100" [];
    "X210" 20 Current "F0V00X200000" [side(1, 10), inner(1, 3, 32)];
    "X210-Pro" 20 Current "" [side(1, 10), inner(1, 3, 32)];
    "X210-V2" 20 Current "" [side(1, 10), inner(1, 3, 32)];
    "X210i" 20 Current "" [side(1, 10), inner(1, 3, 32)];
    "X210i-Pro" 20 Current "" [side(1, 10), inner(1, 3, 32)];
    "X3" 2 Former "F0V00X300000" [soft(2)];
    "X301" 2 Current "" [];
    "X301G" 2 Current "" [];
    "X301P" 2 Current "" [];
    "X301W" 2 Current "" [];
    "X303" 4 Current "" [side(1, 3)];
    "X303G" 4 Current "" [side(1, 3)];
    "X303P" 4 Current "" [side(1, 3)];
    "X303W" 4 Current "" [side(1, 3)];
    "X3G" 2 Former "F0V00X300000" [soft(2)];
    "X3S" 2 Former "f0X3shw1.100" [soft(2)];
    "X3SG" 2 Current "f0X3sghw1.100" [inner(1, 1, 2)];
    "X3SG-PRO" 2 Former "" [soft(2)];
    "X3SP" 2 Former "f0X3shw1.100" [soft(2)];
    "X3U" 6 Current "" [side(1, 3)];
    "X3U-Pro" 4 Current "" [side(1, 3)];
    "X4" 4 Former "f0X4hw1.100" [soft(30)];
    "X4G" 4 Former "f0X4hw1.100" [soft(30)];
    "X4SG" 4 Current "" [inner(1, 5, 6)];
    "X4U" 12 Current "" [side(1, 3), inner(1, 5, 6)];
    "X4U-Pro" 12 Current "" [side(1, 3), inner(1, 5, 6)];
    "X4U-V2" 12 Current "" [side(1, 3), inner(1, 5, 6)];
    "X5" 6 Former "f0X5hw1.100" [soft(40)];
    "X5S" 16 Current "F0V00X5S0000" [inner(1, 5, 8)];
    "X5U" 16 Current "" [side(1, 4), inner(1, 5, 6)];
    "X5U-Pro" 16 Current "" [side(1, 4), inner(1, 5, 6)];
    "X5U-V2" 16 Current "F0V5UV200000" [side(1, 4), inner(1, 5, 6)];
    "X6" 20 Current "F0V00X600000" [inner(1, 5, 12)];
    "X6U" 20 Current "" [side(1, 5), inner(1, 5, 12)];
    "X6U-Pro" 20 Current "" [side(1, 5), inner(1, 5, 12)];
    "X6V2" 20 Current "F0000X600000" [inner(1, 5, 12)];
    "X7" 20 Current "" [side(1, 11), inner(1, 4, 29)];
    "X7-Pro" 20 Current "" [side(1, 11), inner(1, 4, 29)];
    "X7C" 20 Current "" [side(5, 12)];
    "X7C-Pro" 20 Current "" [side(5, 12)];
    "i10S" 2 Current "F0V10S00000" [soft(1)];
    "i10SD" 2 Current "F0V10SD00000" [soft(2)];
    "i10SV" 2 Current "F0V10SV00000" [soft(1)];
    "i16S" 2 Current "F0V16S00000" [soft(1)];
    "i16SV" 2 Current "F0V16SV00000" [soft(1)];
    "i51W" 4 Current "F0Vi51W00000" [inner(2, 1, 3)];
    "i52W" 4 Current "F0Vi52W00000" [inner(2, 1, 3)];
    "i53W" 6 Current "F0Vi53W00000" [inner(2, 1, 3)];
    "i61" 2 Current "F0V0i6100000" [soft(1)];
    "i62" 2 Current "F0V0i6200000" [soft(1)];
    "i63" 2 Current "F0V0i6300000" [soft(5)];
    "i64" 2 Current "F0V0i6400000" [soft(4)];
}

/// Where a model's keys stand, in the order in which records count them.
pub fn banks(model: &Model) -> &'static [Bank] {
    MODELS
        .iter()
        .zip(BANKS)
        .find(|(other, _)| other.name == model.name)
        .map_or(&[], |(_, banks)| banks)
}
