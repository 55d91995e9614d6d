//! **Step 3, the BootFile is asked for.** `GET /p/{token}/{file}`: may this token have this file?
//!
//! In: a token that we signed, the device's state, a file name. Out: whether it is admitted, and
//! which [`Part`] the name asks for. A forged token is refused before this, without a read.

use serde::{Deserialize, Serialize};

use crate::record::device::Access;
use crate::time::Timestamp;
use crate::vendor::{Asked, Asker, VendorId};

/// A generated file of a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The BootFile.
    Boot,
    /// The first settings, for vendors whose boot file can only include.
    First,
    /// The accounts.
    Acc,
    /// The buttons.
    Btn,
    /// All of it in one, for phones that ask for one file.
    Merged,
    /// The same in the syntax of an older firmware.
    Former,
    /// What stands in a directory and is needed by the keys (Poly).
    Directory,
    /// What a vendor's phones ask for before their own file; holds nothing.
    Common,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 8] = [
        Self::Boot,
        Self::First,
        Self::Acc,
        Self::Btn,
        Self::Merged,
        Self::Former,
        Self::Directory,
        Self::Common,
    ];

    /// The name under which every device has this part, whatever its vendor.
    #[must_use]
    pub fn neutral_name(self) -> &'static str {
        match self {
            Self::Boot => "boot.cfg",
            Self::First => "first.cfg",
            Self::Acc => "ACC.cfg",
            Self::Btn => "BTN.cfg",
            Self::Merged => "all.cfg",
            Self::Former => "former.cfg",
            Self::Directory => "directory.xml",
            Self::Common => "common.cfg",
        }
    }
}

/// What a file name asks for: a part by its neutral name, or one of the vendor's own names for this
/// phone.
#[must_use]
pub fn asked(name: &str, vendor: VendorId, asker: Asker<'_>) -> Option<Asked> {
    let rules = vendor.rules();
    rules
        .parts(asker.model)
        .iter()
        .copied()
        .find(|part| part.neutral_name().eq_ignore_ascii_case(name))
        .map(Asked::Part)
        .or_else(|| rules.asked(name, asker))
}

/// What a token of ours is worth today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The token that is good now.
    Current,
    /// The one before it: its files carry the new URL.
    Former,
    /// Revoked, or past its grace.
    No,
}

/// Weighs a token's generation against the device's.
#[must_use]
pub fn admit(access: &Access, generation: u32, now: Timestamp) -> Admission {
    if generation == access.token {
        return Admission::Current;
    }
    match access.former {
        Some(former) if (former.from..access.token).contains(&generation) && now < former.until => {
            Admission::Former
        }
        _ => Admission::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::device::Former;

    #[test]
    fn a_former_token_serves_until_its_grace_ends() {
        let access = Access {
            token: 3,
            former: Some(Former {
                from: 1,
                until: Timestamp(100),
            }),
            ..Access::default()
        };
        assert_eq!(admit(&access, 3, Timestamp(0)), Admission::Current);
        assert_eq!(admit(&access, 2, Timestamp(99)), Admission::Former);
        assert_eq!(admit(&access, 1, Timestamp(99)), Admission::Former);
        assert_eq!(admit(&access, 1, Timestamp(100)), Admission::No);
        assert_eq!(admit(&access, 4, Timestamp(0)), Admission::No);
        assert_eq!(admit(&access, 0, Timestamp(0)), Admission::No);
    }

    #[test]
    fn names_of_yealink_phones_and_no_others() {
        let asker = Asker {
            mac: "805ec0000001".parse().unwrap(),
            model: crate::vendor::model(VendorId::Yealink, "T46U").unwrap(),
            firmware: None,
        };
        for (name, expected) in [
            ("boot.cfg", Some(Part::Boot)),
            ("acc.cfg", Some(Part::Acc)),
            ("BTN.cfg", Some(Part::Btn)),
            ("805ec0000001.boot", Some(Part::Boot)),
            ("805EC0000001.cfg", Some(Part::Merged)),
            ("y000000000108.cfg", Some(Part::Common)),
            ("y000000000000.boot", Some(Part::Boot)),
            ("y000000000096.cfg", None),
            ("805ec0000002.cfg", None),
            ("cfg805ec0000001.xml", None),
            ("000000000000.cfg", None),
            ("", None),
        ] {
            assert_eq!(
                asked(name, VendorId::Yealink, asker),
                expected.map(Asked::Part),
                "{name}"
            );
        }
    }
}
