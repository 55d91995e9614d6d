//! Who makes phones: the words by which their User-Agents, file names and certificates tell, and
//! the first halves of their MAC addresses.

use crate::mac::Mac;
use crate::vendor::VendorId;

/// A word at which a maker is known, and the maker. A word that begins like another one stands
/// before it. The names of makers whose phones Dialtone sets up are those of [`VendorId`].
const MARKS: [(&str, &str); 50] = [
    ("yealink", "yealink"),
    ("fanvil", "fanvil"),
    ("grandstream", "grandstream"),
    ("polycomspectralink", "spectralink"),
    ("polycom", "poly"),
    ("polyedge", "poly"),
    ("polyccx", "poly"),
    ("polytrio", "poly"),
    ("polyrove", "poly"),
    ("poly", "poly"),
    ("snom", "snom"),
    ("cisco", "cisco"),
    ("linksys", "cisco"),
    ("sipura", "cisco"),
    ("htek", "htek"),
    ("hanlong", "htek"),
    ("linphone", "linphone"),
    ("gigaset", "gigaset"),
    ("mitel", "mitel"),
    ("aastra", "mitel"),
    ("panasonic", "panasonic"),
    ("alcatel", "alcatel-lucent"),
    ("ale", "alcatel-lucent"),
    ("avaya", "avaya"),
    ("audc", "audiocodes"),
    ("audiocodes", "audiocodes"),
    ("smartnode", "patton"),
    ("patton", "patton"),
    ("thomson", "technicolor"),
    ("technicolor", "technicolor"),
    ("digium", "digium"),
    ("sangoma", "sangoma"),
    ("akuvox", "akuvox"),
    ("algo", "algo"),
    ("obihai", "obihai"),
    ("flyingvoice", "flyingvoice"),
    ("escene", "escene"),
    ("vtech", "vtech"),
    ("openstage", "unify"),
    ("openscape", "unify"),
    ("unify", "unify"),
    ("zenitel", "zenitel"),
    ("2n", "2n"),
    ("spectralink", "spectralink"),
    ("konftel", "konftel"),
    ("dinstar", "dinstar"),
    ("innovaphone", "innovaphone"),
    ("tiptel", "tiptel"),
    ("jitsi", "jitsi"),
    ("rtx", "rtx"),
];

/// What stands behind `mark` in a text that begins with it, whatever the case.
pub(super) fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(mark.len())?;
    head.eq_ignore_ascii_case(mark).then_some(rest)
}

/// Where `what` stands in a text, whatever the case.
pub(super) fn find(text: &str, what: &str) -> Option<usize> {
    let mut windows = text.as_bytes().windows(what.len().max(1));
    windows.position(|window| window.eq_ignore_ascii_case(what.as_bytes()))
}

/// The maker whose word a text begins with, and what follows it.
pub(super) fn begins(text: &str) -> Option<(&'static str, &str)> {
    MARKS.iter().find_map(|&(mark, maker)| {
        let rest = after(text, mark)?;
        // "Polygon" and "Algorithm" are no phones, but "snomD785" and "LinphoneAndroid" are.
        let word = mark.len() < 6 && mark != "snom";
        let longer = word && rest.starts_with(|c: char| c.is_alphabetic());
        (!longer).then_some((maker, rest))
    })
}

/// The maker of that name, and nothing else stands there.
pub(super) fn named(text: &str) -> Option<&'static str> {
    begins(text).and_then(|(maker, rest)| rest.is_empty().then_some(maker))
}

/// The vendor of that name, if it is one whose phones Dialtone sets up.
pub(super) fn served(maker: &str) -> Option<VendorId> {
    let mut all = VendorId::ALL.iter().copied();
    all.find(|vendor| vendor.name() == maker)
}

/// Whether two texts are the same but for case, spaces and punctuation.
pub(super) fn same(one: &str, other: &str) -> bool {
    letters(one).eq(letters(other))
}

fn letters(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.bytes()
        .filter(|b| b.is_ascii_alphanumeric() || !b.is_ascii())
        .map(|b| b.to_ascii_lowercase())
}

/// The first three bytes of MACs, by maker: the IEEE registry's, as far as phones were seen with
/// them. Makers buy each other's devices, so this is a hint and never a proof.
const OUIS: [(&str, &[u32]); 24] = [
    (
        "yealink",
        &[
            0x00_15_65, 0x24_9a_d8, 0x34_97_d7, 0x44_db_d2, 0x64_4f_56, 0x80_5e_0c, 0x80_5e_c0,
            0xb0_61_a9, 0xc4_fc_22, 0xe4_34_d7, 0xec_1d_a9, 0xf0_16_53,
        ],
    ),
    (
        "cisco",
        &[
            0x00_02_fd, 0x00_0e_08, 0x00_18_73, 0x00_21_55, 0x00_21_a0, 0x00_56_2b, 0x30_e4_db,
            0x68_ef_bd, 0x70_81_05, 0x88_43_e1, 0xa4_4c_11,
        ],
    ),
    ("poly", &[0x00_04_f2, 0x48_25_67, 0x64_16_7f]),
    ("snom", &[0x00_04_13, 0x1c_71_26]),
    (
        "grandstream",
        &[0x00_0b_82, 0x14_4c_ff, 0xc0_74_ad, 0xec_74_d7],
    ),
    ("fanvil", &[0x00_a8_59, 0x0c_38_3e]),
    ("htek", &[0x00_1f_c1]),
    ("gigaset", &[0x00_21_04, 0x14_b3_70, 0x58_9e_c6, 0x7c_2f_80]),
    ("mitel", &[0x00_08_5d, 0x00_10_bc, 0x08_00_0f, 0x14_00_e9]),
    ("panasonic", &[0x00_80_f0, 0x08_00_23, 0xbc_c3_42]),
    ("alcatel-lucent", &[0x00_80_9f, 0x3c_28_a6, 0x48_7a_55]),
    ("avaya", &[0x00_04_0d, 0x00_1b_4f, 0x00_54_9f, 0x04_8a_15]),
    ("vtech", &[0x00_12_2a, 0x14_ae_db, 0xa4_97_5c, 0xc4_68_d0]),
    ("flyingvoice", &[0x00_21_f2, 0x78_99_12]),
    ("audiocodes", &[0x00_90_8f]),
    ("akuvox", &[0x0c_11_05]),
    ("sangoma", &[0x00_50_58]),
    ("digium", &[0x00_0f_d3]),
    ("algo", &[0x00_22_ee]),
    ("obihai", &[0x9c_ad_ef]),
    ("2n", &[0x7c_1e_b3]),
    ("rtx", &[0x00_08_7b]),
    ("escene", &[0x00_26_8b]),
    ("spectralink", &[0x00_90_7a]),
];

/// Whose MAC it may be.
#[must_use]
pub fn of_mac(mac: Mac) -> Option<&'static str> {
    let [a, b, c, ..] = mac.bytes();
    let oui = u32::from_be_bytes([0, a, b, c]);
    let (maker, _) = OUIS.iter().find(|(_, ouis)| ouis.contains(&oui))?;
    Some(maker)
}
