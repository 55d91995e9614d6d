//! What a User-Agent says.
//!
//! Vendors write the same four things in few ways: the maker's word, the model, the firmware and the
//! MAC, in this order, with the vendor's ornaments around them. So one scanner reads them all: the
//! first number with a dot in it is the firmware, the model stands before it, the MAC behind it.
//!
//! ```text
//! Yealink SIP-T46U 108.86.0.20 80:5e:c0:00:00:01
//! Fanvil X5U-V2 2.12.16.17 0c383e32c10d
//! Grandstream Model HW GXP2200 V2.2A SW 1.0.1.33 DevId 000b82462d97
//! FileTransport PolycomVVX-VVX_410-UA/5.9.5.0614 (SN:0004f2aabbcc) Type/Application
//! Mozilla/4.0 (compatible; snomD785-SIP 10.1.33.33 2010.12-00004-g9ba52f5 000413922D24 SXM:0)
//! Cisco/SPA508G-7.4.8a (0002FDFF2103)(CBT141400UK)
//! Cisco-CP-8841-3PCC/11.0 (00562b043615)
//! Gigaset N870 IP PRO/83.V2.11.0+build.a546b91;7C2F80E0D605
//! Mitel6920 MAC:14-00-E9-1F-03-EA V:6.4.0.140-SIP
//! ```

use std::borrow::Cow;

use super::makers;
use crate::mac::Mac;

/// What a User-Agent says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent<'a> {
    /// The maker, in lower case; that of [`crate::vendor::VendorId::name`] for those whose phones
    /// Dialtone sets up.
    pub vendor: Option<&'static str>,
    /// The model: as the catalogue names it, if it is there; else as it is written, without the
    /// vendor's ornaments.
    pub model: Option<Cow<'a, str>>,
    /// The firmware's version, as it is written.
    pub firmware: Option<&'a str>,
    /// The MAC in it.
    pub mac: Option<Mac>,
    /// The serial number in it.
    pub serial: Option<&'a str>,
}

impl<'a> Agent<'a> {
    /// The serial number, if it is not the MAC once more: anybody who knows the one could say the
    /// other.
    #[must_use]
    pub fn own_serial(&self) -> Option<&'a str> {
        self.serial
            .filter(|serial| self.mac.is_none() || serial.parse().ok() != self.mac)
    }
}

/// No phone says more; what stands behind it is not read.
const LONGEST: usize = 512;
/// So many words are looked at for the maker's.
const WORDS: usize = 24;

/// Reads a User-Agent.
#[must_use]
pub fn agent(user_agent: &str) -> Agent<'_> {
    let text = bounded(user_agent);
    let Some(known) = maker(text).or_else(|| nameless(text)) else {
        return Agent {
            mac: mac(text, None, false),
            ..Agent::default()
        };
    };
    let Known { vendor, rest, .. } = known;
    let from = match vendor {
        // GXP2200 V2.2A SW 1.0.1.33: the first is the hardware.
        "grandstream" => makers::find(rest, " SW ").unwrap_or_default(),
        _ => 0,
    };
    let version = version(rest, from, vendor);
    let (start, end) = version.unwrap_or((rest.len(), rest.len()));
    let before = rest.get(..start).unwrap_or_default();
    let behind = rest.get(end..).unwrap_or_default();
    let mut said = Agent {
        vendor: Some(vendor),
        firmware: rest.get(start..end).filter(|text| !text.is_empty()),
        ..Agent::default()
    };
    let mut name = head(before);
    if vendor == "cisco" {
        brackets(&mut said, behind, known.lone_serial);
    } else if vendor == "audiocodes" {
        // AUDC-IPPhone-C450HD_UC_3.4.6.604/1, or AUDC-IPPhone/2.2.8.61 (440HDG-Rev0; 00908F602AAC)
        let phone = makers::find(text, "IPPhone-").and_then(|at| text.get(at + 8..));
        if let Some(phone) = phone.and_then(|phone| phone.split([' ', '/']).next()) {
            let (model, firmware) = phone.split_once('_').unwrap_or((phone, ""));
            name = model;
            said.firmware = Some(firmware).filter(|text| !text.is_empty());
        } else if let Some((_, bracket)) = behind.split_once('(') {
            name = bracket.split([';', ')']).next().unwrap_or_default();
        }
    }
    // SmartNode (Model:SN4112/JS/EUI; Serial:00A0BA08933C; Software Version:R6.2 ...
    if let Some(at) = makers::find(before, "Model:") {
        let model = before.get(at + 6..).unwrap_or_default();
        name = model.split(['/', ';', ')']).next().unwrap_or_default();
    }
    said.model = model(vendor, name).or_else(|| {
        // Of a soft phone there is one model.
        matches!(vendor, "linphone" | "jitsi").then(|| known_or(vendor, known.word.into()))
    });
    if said.serial.is_none() {
        said.serial = serial(rest);
    }
    if said.mac.is_none() && !known.lone_serial {
        said.mac = glued(vendor, behind)
            .or_else(|| mac(before, Some(vendor), false))
            .or_else(|| mac(behind, Some(vendor), version.is_some()));
    }
    said
}

/// As much of a User-Agent as is read: up to [`LONGEST`] bytes, and no half of a word.
fn bounded(text: &str) -> &str {
    if text.len() <= LONGEST {
        return text;
    }
    let start = text.as_bytes().get(..LONGEST).unwrap_or_default();
    let cut = start.iter().rposition(|b| *b == b' ').unwrap_or_default();
    text.get(..cut).unwrap_or_default()
}

/// A User-Agent whose maker is known.
#[derive(Clone, Copy)]
struct Known<'a> {
    vendor: &'static str,
    /// The maker's word, as it is written.
    word: &'a str,
    /// What follows it.
    rest: &'a str,
    /// Whether the one thing that it has in brackets is the serial, even if it looks like a MAC:
    /// `Linksys/SPA-942-6.1.5(a) (88019FA42805)`.
    lone_serial: bool,
}

/// The maker, by the first word that is a maker's.
fn maker(text: &str) -> Option<Known<'_>> {
    let starts = text.match_indices(' ').map(|(at, _)| at + 1);
    std::iter::once(0).chain(starts).take(WORDS).find_map(|at| {
        let tail = text.get(at..)?;
        // A bracket may open before it.
        let tail = tail.trim_start_matches(['(', '"', '\'']);
        let (vendor, rest) = makers::begins(tail)?;
        let word = tail.get(..tail.len() - rest.len())?;
        // Short words are the maker's at the very start only.
        if at > 0 && word.len() < 4 {
            return None;
        }
        let linksys = !word.eq_ignore_ascii_case(vendor) && vendor == "cisco";
        Some(Known {
            vendor,
            word,
            rest,
            lone_serial: linksys && rest.matches(" (").count() == 1 && !rest.contains(")("),
        })
    })
}

/// Phones that do not name their maker: Yealink's `VP530P 23.70.0.40 00:15:65:31:4b:c0`, and
/// Gigaset's `N510 IP PRO/42.258.00.000.000;7C2F806257D7` and `N720-DM-PRO/70.040.00.000.000`.
fn nameless(text: &str) -> Option<Known<'_>> {
    let known = |vendor| Known {
        vendor,
        word: "",
        rest: text,
        lone_serial: false,
    };
    let mut words = text.split_ascii_whitespace();
    let (first, second, third) = (words.next()?, words.next(), words.next());
    let family = first.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let letters = first.get(..first.len() - family.len())?;
    if !family.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let yealink = ["VP", "CP", "W", "T", "AX"];
    if yealink.iter().any(|own| own.eq_ignore_ascii_case(letters))
        && second.is_some_and(|second| second.matches('.').count() == 3)
        && third.is_some_and(|third| third.parse::<Mac>().is_ok())
    {
        return Some(known("yealink"));
    }
    let (name, _) = text.split_once('/')?;
    let last = name.rsplit([' ', '-']).next()?;
    let gigaset = ["PRO", "IP", "GO"];
    let ends = gigaset.iter().any(|own| own.eq_ignore_ascii_case(last));
    (ends && last != name && version(text, name.len(), "").is_some()).then(|| known("gigaset"))
}

/// Where the firmware's version stands: the first number with a dot in it that a word or a tag (`V`,
/// `R`, `fw`) begins with. Cisco and Digium also write `11-1-0-MSR4` and `1_0_5_46476`.
fn version(text: &str, from: usize, vendor: &str) -> Option<(usize, usize)> {
    let dashes = matches!(vendor, "cisco" | "digium");
    numbers(text, from, |b| b == b'.', 1)
        .or_else(|| numbers(text, from, |b| matches!(b, b'-' | b'_'), 2).filter(|_| dashes))
        .map(|(start, end)| {
            let text = text.get(start..end).unwrap_or_default();
            let text = match vendor {
                // 12.0.3_dcf719f39350, 11.3.7_MPP_0001
                "cisco" | "poly" => text.split('_').next().unwrap_or_default(),
                _ => text,
            };
            let text = match text
                .len()
                .checked_sub(4)
                .and_then(|at| text.split_at_checked(at))
            {
                // 3.2.2.6038-SIP
                Some((version, sip)) if sip.eq_ignore_ascii_case("-SIP") => version,
                _ => text.trim_end_matches(['.', '-', '_', '+', '~']),
            };
            (start, start + text.len())
        })
}

/// The first word of numbers with at least so many separators between them.
fn numbers(
    text: &str,
    from: usize,
    separates: fn(u8) -> bool,
    least: usize,
) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let at = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let ago = |at: usize, n: usize| at.checked_sub(n).and_then(|at| bytes.get(at)).copied();
    let parts = |b: Option<u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric() && b != b'.');
    let run = |mut end: usize| {
        while at(end).is_ascii_digit() {
            end += 1;
        }
        end
    };
    let mut i = from;
    while i < bytes.len() {
        if !at(i).is_ascii_digit() {
            i += 1;
            continue;
        }
        let first = run(i);
        let tag = ago(i, 1).unwrap_or_default().to_ascii_lowercase();
        let start = match tag {
            b'v' if parts(ago(i, 2)) => Some(i - 1),
            b'r' if parts(ago(i, 2)) => Some(i),
            b'w' if matches!(ago(i, 2), Some(b'f' | b'F')) && parts(ago(i, 3)) => Some(i),
            _ => parts(ago(i, 1)).then_some(i),
        };
        let mut end = first;
        let mut count = 0;
        while count < least && separates(at(end)) {
            let next = match at(end + 1) {
                // 83.V2.11.0
                b'V' | b'v' => end + 2,
                _ => end + 1,
            };
            let past = run(next);
            if past == next {
                break;
            }
            (end, count) = (past, count + 1);
        }
        match start {
            Some(start) if count == least => return Some((start, tail(text, end))),
            _ => i = first,
        }
    }
    None
}

/// The end of a version that goes on from here: `6.1.5(a)`, `2.0.0_build_15`.
fn tail(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let more = |b: &u8| b.is_ascii_alphanumeric() || b"._-+~".contains(b);
    let run = |from: usize, of: &dyn Fn(&u8) -> bool| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|b| of(b)).count()
    };
    let end = run(from, &more);
    if bytes.get(end) == Some(&b'(') {
        let close = run(end + 1, &u8::is_ascii_alphanumeric);
        if bytes.get(close) == Some(&b')') && (1..=4).contains(&(close - end - 1)) {
            return close + 1;
        }
    }
    end
}

/// What stands between the maker's word and the firmware, up to a bracket or an escape.
fn head(before: &str) -> &str {
    let cut = |c: char| matches!(c, '(' | ';' | '\\') || c.is_control();
    before.split(cut).next().unwrap_or_default()
}

/// The model in what stands before the firmware, without the vendor's ornaments.
pub(super) fn model<'a>(vendor: &str, name: &'a str) -> Option<Cow<'a, str>> {
    let outside = |c: char| !c.is_alphanumeric();
    let name = name.trim_matches(outside);
    let phrase = matches!(vendor, "fanvil" | "gigaset" | "2n");
    let has_digit = |word: &str| word.bytes().any(|b| b.is_ascii_digit());
    let mut kept: Option<(usize, usize)> = None;
    let mut at = 0;
    for word in name.split([' ', '\t']) {
        let (start, end) = (at, at + word.len());
        at = end + 1;
        match kept {
            // GXP2170 of "Model HW GXP2170 SW".
            None if has_digit(word) || word.contains('_') || matches!(vendor, "gigaset" | "2n") => {
                if word.parse::<Mac>().is_ok() {
                    break;
                }
                kept = Some((start, end));
            }
            None => {}
            Some(_) if !phrase || word.parse::<Mac>().is_ok() => break,
            Some((start, _)) => kept = Some((start, end)),
        }
    }
    let (start, end) = kept?;
    let mut name = name.get(start..end)?.trim_matches(outside);
    if vendor == "poly" {
        // PolycomSoundPointIP-SPIP_335-UA
        name = strip_end(name, "-UA")
            .rsplit(['-', '/'])
            .next()
            .unwrap_or_default();
    }
    for ornament in ["SIP-", "VP-", "CP-"] {
        name = makers::after(name, ornament).unwrap_or(name);
    }
    for ornament in ["-UA", "-Phone", "-SIP", "-3PCC", "-MPP", "-Rev0", "-Rev1"] {
        name = strip_end(name, ornament);
    }
    // "snom lid 3605" names no model.
    if name.is_empty()
        || (vendor == "snom" && name.len() == 4 && !name.contains(|c: char| c.is_alphabetic()))
    {
        return None;
    }
    let name: Cow<'a, str> = match vendor {
        "poly" if name.contains('_') => name.replace('_', "").into(),
        "gigaset" if name.contains('-') => name.replace('-', " ").into(),
        "cisco" => match (makers::after(name, "CP"), name.split_once('-')) {
            (Some(bare), _) if bare.starts_with(|c: char| c.is_ascii_digit()) => bare.into(),
            // SPA-942
            (_, Some((series, number))) if series.len() == 3 => format!("{series}{number}").into(),
            _ => name.into(),
        },
        _ => name.into(),
    };
    Some(known_or(vendor, name))
}

/// The model as the vendor's catalogue names it, or as it is.
fn known_or<'a>(vendor: &str, name: Cow<'a, str>) -> Cow<'a, str> {
    let models = makers::served(vendor).map_or(&[][..], |vendor| vendor.rules().models());
    match models.iter().find(|model| makers::same(model.name, &name)) {
        Some(model) => Cow::Borrowed(model.name),
        None => name,
    }
}

fn strip_end<'a>(text: &'a str, end: &str) -> &'a str {
    match text
        .len()
        .checked_sub(end.len())
        .and_then(|at| text.split_at_checked(at))
    {
        Some((rest, tail)) if tail.eq_ignore_ascii_case(end) => rest,
        _ => text,
    }
}

/// Cisco's brackets: the MAC and the serial, or one of them.
fn brackets<'a>(said: &mut Agent<'a>, behind: &'a str, lone_serial: bool) {
    for (at, _) in behind.match_indices('(').take(4) {
        let inside = behind.get(at + 1..).unwrap_or_default();
        let Some((inside, _)) = inside.split_once(')') else {
            break;
        };
        match inside.parse() {
            Ok(mac) if said.mac.is_none() && !lone_serial => said.mac = Some(mac),
            _ if said.serial.is_none() && is_serial(inside) => said.serial = Some(inside),
            _ => {}
        }
    }
}

/// Whether a text can be a serial number: letters and digits, and a digit among them.
pub(super) fn is_serial(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (6..=32).contains(&text.len())
        && text.bytes().all(plain)
        && text.bytes().any(|b| b.is_ascii_digit())
}

/// The serial behind a tag that says so: Poly's `(SN:...)`, Snom's `SER=...`, Patton's `Serial:...`.
fn serial(text: &str) -> Option<&str> {
    words(text).find_map(|word| {
        let (tag, value) = word.tagged()?;
        let serial = ["sn", "ser", "serial"];
        let tagged = serial.iter().any(|own| tag.eq_ignore_ascii_case(own));
        (tagged && is_serial(value)).then_some(value)
    })
}

/// A MAC that hangs on the firmware: `5.9.5.0614_0004f28e5a79`.
fn glued(vendor: &str, behind: &str) -> Option<Mac> {
    let hung = behind.strip_prefix('_')?.split(['_', ' ']).next()?;
    (matches!(vendor, "cisco" | "poly") && hung.len() == 12)
        .then(|| hung.parse().ok())
        .flatten()
}

/// A word, and the one before it.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    before: Option<&'a str>,
}

impl<'a> Word<'a> {
    /// The word's tag and its value: `MAC:00-08-5D-13-CA-05`, `SER=...`, `DevId 000b82462d97`.
    fn tagged(self) -> Option<(&'a str, &'a str)> {
        let own = self.text.split_once(':');
        own.or_else(|| {
            self.before
                .map(|before| (before.trim_end_matches(':'), self.text))
        })
    }
}

/// The words of a text, apart at whatever vendors put around a MAC.
fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let apart = |c: char| c.is_whitespace() || c.is_control() || "()[]<>{};,/=\"'".contains(c);
    let mut before = None;
    text.split(apart)
        .filter(|word| !word.is_empty())
        .map(move |text| {
            let word = Word { text, before };
            before = Some(text);
            word
        })
}

/// The MAC in a part of a User-Agent.
///
/// Colons and dashes make one, and so does a tag. Twelve digits alone do not: a build's hash or
/// date has as many. They are one if the MAC is the maker's by its first half; and behind the
/// firmware, if the word before them is no word such as "build".
fn mac(text: &str, vendor: Option<&str>, behind: bool) -> Option<Mac> {
    words(text).find_map(|word| {
        if let (17, Ok(mac)) = (word.text.len(), word.text.parse())
            && !word.text.contains('.')
        {
            return Some(mac);
        }
        // The serials of these are their MACs.
        let serial = match vendor {
            Some("poly") => "sn",
            Some("patton") => "serial",
            _ => "mac",
        };
        if let Some((tag, value)) = word.tagged()
            && ["mac", "devid", serial]
                .iter()
                .any(|own| tag.eq_ignore_ascii_case(own))
        {
            // A dot makes a version of it.
            return value
                .parse()
                .ok()
                .filter(|_| value.len() != 17 || !value.contains('.'));
        }
        let mac = word.text.parse().ok().filter(|_| word.text.len() < 17)?;
        let makers = makers::of_mac(mac);
        let own = makers.is_some() && (vendor.is_none() || makers == vendor);
        let has_digit = |text: &str| text.bytes().any(|b| b.is_ascii_digit());
        let alone = word.text.len() == 12 && !is_date(word.text);
        let lettered = word.text.bytes().any(|b| b.is_ascii_alphabetic());
        let behind = behind && word.before.is_none_or(has_digit);
        (own || behind && (alone || word.text.len() == 14 && lettered)).then_some(mac)
    })
}

/// Whether twelve digits are a year, month, day, hour and minute of this century.
pub(super) fn is_date(text: &str) -> bool {
    let number = |from: usize| {
        text.get(from..from + 2)
            .and_then(|two| two.parse::<u8>().ok())
    };
    text.bytes().all(|b| b.is_ascii_digit())
        && number(0) == Some(20)
        && number(4).is_some_and(|month| (1..=12).contains(&month))
        && number(6).is_some_and(|day| (1..=31).contains(&day))
}
