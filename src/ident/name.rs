//! What the name of a file says of the phone that asks for it.

use std::borrow::Cow;

use super::{agent, makers};
use crate::mac::Mac;
use crate::vendor::VendorId;

/// What a file name says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named<'a> {
    /// The MAC in it.
    pub mac: Option<Mac>,
    /// The maker whose phones ask for such a file, where no other's do.
    pub vendor: Option<&'static str>,
    /// The model in it.
    pub model: Option<Cow<'a, str>>,
}

/// No file name of a phone is longer.
const LONGEST: usize = 128;

/// What a MAC may follow in a file name, and whose phones write it so: Grandstream, Htek and Sangoma
/// `cfg`, Gigaset and Panasonic `config`, Poly `phone`, Avaya and older Cisco `SIP`.
const PREFIXES: [(&str, &str); 12] = [
    ("", ""),
    ("cfg", ""),
    ("config.", ""),
    ("config", ""),
    ("phone", "poly"),
    ("ctlsep", "cisco"),
    ("itlsep", "cisco"),
    ("sep", "cisco"),
    ("ata", "cisco"),
    ("spa", "cisco"),
    ("sip", ""),
    ("ipst_config", "zenitel"),
];

/// What only one maker's phones put behind the MAC.
const SUFFIXES: [(&str, &str); 12] = [
    (".boot", "yealink"),
    ("-local.cfg", "yealink"),
    ("-contact.xml", "yealink"),
    ("-phone.cfg", "poly"),
    ("-web.cfg", "poly"),
    ("-license.cfg", "poly"),
    ("-directory.xml", "poly"),
    ("-calls.xml", "poly"),
    ("-app.log", "poly"),
    ("-boot.log", "poly"),
    (".cnf.xml", "cisco"),
    ("_config.xml", "unify"),
];

/// Grandstream's models begin with one of these: `cfggrp2614.xml`.
const GRANDSTREAM: [&str; 9] = [
    "gxp", "grp", "gxv", "ghp", "gxw", "gds", "ht8", "wp8", "dp7",
];

/// Reads a file name, or a path, of which the last part is read and the folders are a hint.
#[must_use]
pub fn file(path: &str) -> Named<'_> {
    let path = path.split('?').next().unwrap_or_default();
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.len() > LONGEST {
        return Named::default();
    }
    let (mac, by_prefix) = mac(name);
    let (by_name, model) = family(name);
    let by_suffix = || {
        let ends = |end: &str| {
            let at = name.len().checked_sub(end.len());
            at.and_then(|at| name.get(at..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
        };
        SUFFIXES
            .iter()
            .find(|(end, _)| ends(end))
            .map(|(_, maker)| *maker)
    };
    let by_folder = || folders.rsplit('/').take(8).find_map(makers::named);
    Named {
        mac,
        vendor: by_name.or(by_prefix).or_else(by_suffix).or_else(by_folder),
        model,
    }
}

/// The MAC in a file name, and the maker if what stands before it is one's own: 12 hexadecimal
/// digits, or pairs of them, at the start, behind one of [`PREFIXES`] or behind a `-`, and followed
/// by the end or a character that is no letter or digit.
fn mac(name: &str) -> (Option<Mac>, Option<&'static str>) {
    let prefixed = PREFIXES.iter().find_map(|(prefix, maker)| {
        let rest = makers::after(name, prefix)?;
        let mac = whole(rest, 12).or_else(|| pairs(rest))?;
        Some((mac, Some(*maker).filter(|maker| !maker.is_empty())))
    });
    if let Some((mac, maker)) = prefixed {
        return (Some(mac), maker);
    }
    // snomD785-000413AABBCC.htm, but neither a UUID nor a build of some day.
    let behind = name.match_indices('-').find_map(|(at, _)| {
        let before = name.get(..at)?.rsplit('-').next()?;
        let uuid =
            before.len() == 4 && before.len() < at && before.bytes().all(|b| b.is_ascii_hexdigit());
        let rest = name.get(at + 1..)?;
        let date = rest.get(..12).is_some_and(agent::is_date);
        whole(rest, 12).filter(|_| !uuid && !date)
    });
    (behind, None)
}

/// The MAC that a text begins with, if no letter or digit follows.
fn whole(text: &str, length: usize) -> Option<Mac> {
    let (digits, rest) = text.split_at_checked(length)?;
    let ends = !rest.starts_with(|c: char| c.is_ascii_alphanumeric());
    digits.parse().ok().filter(|_| ends)
}

/// `80-5e-c0-00-00-01.cfg`, or Zenitel's `ipst_config_00_13_cb_00_00_01.cfg`.
fn pairs(text: &str) -> Option<Mac> {
    if let Some(rest) = text.strip_prefix('_') {
        let (pairs, rest) = rest.split_at_checked(17)?;
        let plain = !pairs.contains(['-', ':', '.']) && rest.starts_with('.');
        return pairs.replace('_', "-").parse().ok().filter(|_| plain);
    }
    whole(text, 17).filter(|_| !text.get(..17).is_some_and(|text| text.contains('.')))
}

/// The maker and the model of a file that is for all phones of a family.
fn family(name: &str) -> (Option<&'static str>, Option<Cow<'_, str>>) {
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    let digits = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(code) = makers::after(stem, "y").filter(|code| digits(code)) {
        // y000000000108.cfg
        let code = match code.trim_start_matches('0') {
            "" => "00",
            code => code,
        };
        return (Some("yealink"), coded("yealink", code));
    }
    let begins = |own: &&str| makers::after(stem, own).is_some();
    if let Some(rest) = makers::after(stem, "cfg")
        && GRANDSTREAM
            .iter()
            .any(|own| makers::after(rest, own).is_some())
    {
        return (Some("grandstream"), agent::model("grandstream", rest));
    }
    if let Some(rest) = makers::after(stem, "spa")
        && rest.starts_with(|c: char| c.is_ascii_digit())
        && rest.len() < 8
    {
        return (Some("cisco"), agent::model("cisco", stem));
    }
    // CP-7832-3PCC.xml, 8841-3PCC.xml
    if makers::find(stem, "-3PCC").is_some() || begins(&"CP-") {
        return (Some("cisco"), agent::model("cisco", stem));
    }
    if let Some((maker, rest)) = makers::begins(stem).filter(|_| stem.len() > 3) {
        // snomD785-firmware.htm
        let model = rest.split('-').next().filter(|_| maker == "snom");
        return (
            Some(maker),
            model.and_then(|model| agent::model(maker, model)),
        );
    }
    for vendor in VendorId::ALL {
        if let Some(model) = coded(vendor.name(), stem).filter(|_| stem.len() > 6) {
            return (Some(vendor.name()), Some(model));
        }
    }
    (None, None)
}

/// The one model of that code.
fn coded(vendor: &str, code: &str) -> Option<Cow<'static, str>> {
    let models = makers::served(vendor)?.rules().models();
    let mut own = models.iter().filter(|model| {
        let short = model.code.trim_start_matches('0');
        model.code.eq_ignore_ascii_case(code) || (!short.is_empty() && short == code)
    });
    let model = own.next()?;
    own.next().is_none().then_some(Cow::Borrowed(model.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_found_where_vendors_put_it_and_nowhere_else() {
        for (name, mac) in [
            ("805EC0000001.boot", "805ec0000001"),
            ("cfg000b82aabbcc.xml", "000b82aabbcc"),
            ("cfg000b82aabbcc", "000b82aabbcc"),
            ("0004f2aabbcc-directory.xml", "0004f2aabbcc"),
            ("snomD785-000413AABBCC.htm", "000413aabbcc"),
            ("SEP0123456789AB.cnf.xml", "0123456789ab"),
            ("phone0004f2aabbcc.cfg", "0004f2aabbcc"),
            ("y000000000028.cfg", ""),
            ("000000000000.cfg", ""),
            ("805ec00000012.cfg", ""),
            ("805ec000000.cfg", ""),
            ("ü805ec0000001.cfg", ""),
            ("CCQ224502A7", ""),
            // Not in the list that came with the first vendors.
            ("spa001565000000.xml", "001565000000"),
            ("CTLSEP0123456789AB.tlv", "0123456789ab"),
            ("SIP0123456789AB.cfg", "0123456789ab"),
            ("80-5E-C0-00-00-01-local.cfg", "805ec0000001"),
            ("80:5e:c0:00:00:01.cfg", "805ec0000001"),
            ("80.5e.c0.00.00.01.cfg", ""),
            ("ipst_config_00_13_cb_00_00_01.cfg", "0013cb000001"),
            ("ipst_config.cfg", ""),
            ("0a1b2c3d4d5f_config.xml", "0a1b2c3d4d5f"),
            ("config.7C2F80AABBCC.xml", "7c2f80aabbcc"),
            ("VVX450-0004f2aabbcc.cfg", "0004f2aabbcc"),
            ("d4e6994b-60bc-4fba-a490-fe5f8e74ceea.xml", ""),
            ("fw-202511260130.rom", ""),
            ("/805ec0000001/boot.cfg", ""),
            ("../805ec0000001.cfg", "805ec0000001"),
            ("805ec0000001.cfg?mac=805ec0000002", "805ec0000001"),
            ("ffffffffffff.cfg", ""),
            ("", ""),
        ] {
            let found = file(name).mac.map(|m| m.to_string()).unwrap_or_default();
            assert_eq!(found, mac, "{name}");
        }
    }

    #[test]
    fn a_name_that_one_makers_phones_ask_for_tells_the_maker_and_the_model() {
        for (name, vendor, model) in [
            ("y000000000108.cfg", "yealink", "T46U"),
            ("y000000000028.boot", "yealink", "T46G"),
            // T23P and T23G.
            ("y000000000044.cfg", "yealink", ""),
            ("y000000000999.cfg", "yealink", ""),
            ("805ec0000001.boot", "yealink", ""),
            ("805ec0000001.cfg", "", ""),
            ("snomD785-000413AABBCC.htm", "snom", "D785"),
            ("snomD785.htm", "snom", "D785"),
            ("snom870-firmware.xml", "snom", "870"),
            ("snom-firmware.xml", "snom", ""),
            ("cfgGRP2614.xml", "grandstream", "GRP2614"),
            ("cfg.xml", "", ""),
            ("cfg000b82aabbcc.xml", "", ""),
            ("spa504G.cfg", "cisco", "spa504G"),
            ("spa001565000000.xml", "cisco", ""),
            ("/CP-7832-3PCC.xml", "cisco", "7832"),
            ("/8841-3PCC.xml", "cisco", "8841"),
            ("SEP0123456789AB.cnf.xml", "cisco", ""),
            ("fanvil_x4u_v2_hwv2_0.txt", "fanvil", ""),
            ("/Digium/000000000000.cfg", "digium", ""),
            ("/Aastra/001122334401.cfg", "mitel", ""),
            ("aastra.cfg", "mitel", ""),
            ("algorithm.cfg", "", ""),
            ("linphone.xml", "linphone", ""),
            ("evil.php", "", ""),
        ] {
            let named = file(name);
            let found = named.model.unwrap_or_default().to_ascii_lowercase();
            assert_eq!(
                (named.vendor.unwrap_or_default(), found),
                (vendor, model.to_ascii_lowercase()),
                "{name}"
            );
        }
    }
}
