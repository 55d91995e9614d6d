//! The models of Cisco whose firmware reads profiles: multiplatform (3PCC) phones, and the SPA, Linksys
//! and PAP phones and adapters before. Lines and keys as the vendor's data sheets have them.

use crate::vendor::{Generation, Model};

const fn phone(name: &'static str, lines: u8, keys: u16, modules: (u8, u16)) -> Model {
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

/// An SPA, Linksys or PAP. The keys of their attendant consoles cannot be lines, so that these are
/// for `raw`: `Unit_1_Key_1`.
const fn former(name: &'static str, lines: u8, keys: u16) -> Model {
    Model {
        generation: Generation::Former,
        ..phone(name, lines, keys, NONE)
    }
}

/// No key expansion module fits.
const NONE: (u8, u16) = (0, 0);
/// Two 6800 modules: 14 keys on each of two pages.
const KEM_6800: (u8, u16) = (2, 28);
/// 8800 modules: 18 keys on each of two pages.
const fn kem_8800(modules: u8) -> (u8, u16) {
    (modules, 36)
}

/// The catalogue.
pub static MODELS: [Model; 47] = [
    phone("6821", 2, 2, NONE),
    phone("6841", 4, 4, NONE),
    phone("6851", 4, 4, KEM_6800),
    phone("6861", 4, 4, NONE),
    phone("6871", 6, 6, NONE),
    phone("7811", 1, 0, NONE),
    phone("7821", 2, 2, NONE),
    phone("7832", 1, 0, NONE),
    phone("7841", 4, 4, NONE),
    phone("7861", 16, 16, NONE),
    phone("8811", 10, 10, NONE),
    phone("8832", 1, 0, NONE),
    phone("8841", 10, 10, NONE),
    phone("8845", 10, 10, NONE),
    phone("8851", 10, 10, kem_8800(2)),
    phone("8861", 10, 10, kem_8800(3)),
    phone("8865", 10, 10, kem_8800(3)),
    phone("9841", 4, 4, NONE),
    phone("9851", 6, 6, NONE),
    phone("9861", 10, 10, NONE),
    phone("9871", 10, 10, NONE),
    phone("ATA191", 2, 0, NONE),
    phone("ATA192", 2, 0, NONE),
    former("PAP2T", 2, 0),
    former("SPA112", 2, 0),
    former("SPA122", 2, 0),
    former("SPA2102", 2, 0),
    former("SPA301", 1, 0),
    former("SPA303", 3, 3),
    former("SPA3102", 1, 0),
    former("SPA501G", 8, 8),
    former("SPA502G", 1, 0),
    former("SPA504G", 4, 4),
    former("SPA508G", 8, 8),
    former("SPA509G", 12, 12),
    former("SPA512G", 1, 0),
    former("SPA514G", 4, 4),
    former("SPA525G", 5, 5),
    former("SPA525G2", 5, 5),
    former("SPA8000", 8, 0),
    former("SPA8800", 4, 0),
    former("SPA901", 1, 0),
    former("SPA921", 1, 0),
    former("SPA922", 1, 0),
    former("SPA941", 4, 4),
    former("SPA942", 4, 4),
    former("SPA962", 6, 6),
];

/// Models that have only firmware for Cisco's own call manager. It asks the TFTP server of DHCP option 150
/// for `SEP{MAC}.cnf.xml` or `ATA{MAC}.cnf.xml`, over TFTP alone, and has no parameter for a URL, so
/// that neither a redirect nor a token can reach it; most of them speak SCCP and no SIP besides.
pub static ENTERPRISE: [&str; 24] = [
    "7905G", "7906G", "7911G", "7912G", "7920", "7921G", "7931G", "7937", "7940", "7940G", "7941G",
    "7942G", "7945G", "7960G", "7961G", "7962G", "7965G", "7970G", "7971G", "7975G", "8941",
    "8945", "ATA190", "CIPC",
];

/// What an admin is told of them.
pub const ENTERPRISE_REASON: &str =
    "has firmware for Cisco's call manager alone: it fetches by TFTP and cannot be sent to a URL";
