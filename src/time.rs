//! Points in time: whole seconds since 1970 inside, RFC 3339 in every answer.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// 9999-12-31T23:59:59Z, the last time that RFC 3339 can write.
    pub const LAST: Self = Self(253_402_300_799);

    /// This time and `seconds` more.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// The seconds from `earlier` to this time; 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

schema!(Timestamp, "A time (RFC 3339) in UTC, to the second; not before 1970.", {
    "type": "string",
    "format": "date-time",
    "pattern": concat!(
        "^(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
        "T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)([.][0-9]+)?Z$"
    ),
});

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self > Self::LAST {
            // Beyond the year 9999: nothing that we made, so the bare number will do.
            return write!(f, "{}", self.0);
        }
        let time = UNIX_EPOCH + Duration::from_secs(self.0);
        write!(f, "{}", humantime::format_rfc3339_seconds(time))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text)
            .map_err(|_| serde::de::Error::custom("is not an RFC 3339 time in UTC"))?;
        let since = time.duration_since(UNIX_EPOCH);
        since
            .map(|since| Self(since.as_secs()))
            .map_err(|_| serde::de::Error::custom("is before 1970"))
    }
}

/// Whole hours, 1 to 168: a session outlives no week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Hours(u64);

impl Hours {
    /// How long a session lasts if nobody says: a working day, with its overtime.
    pub const SESSION: Self = Self(12);

    /// The length in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 * 3_600
    }
}

/// The shortest and the longest session.
const HOURS: std::ops::RangeInclusive<u64> = 1..=168;

schema!(Hours, "Whole hours: a session outlives no week.", {
    "type": "integer",
    "minimum": HOURS.start(),
    "maximum": HOURS.end(),
});

impl TryFrom<u64> for Hours {
    type Error = &'static str;

    fn try_from(hours: u64) -> Result<Self, Self::Error> {
        if HOURS.contains(&hours) {
            Ok(Self(hours))
        } else {
            Err("must be between 1 and 168 hours")
        }
    }
}

impl From<Hours> for u64 {
    fn from(hours: Hours) -> Self {
        hours.0
    }
}

/// How long a window stays open: `30m`, `24h`, `7d`; at least a minute, at most 30 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The length in seconds.
    pub seconds: u64,
}

/// 30 days: a window longer than a delivery takes is an open door.
const LONGEST_SPAN_S: u64 = 30 * 86_400;

schema!(Span, "A length of time: a whole number and m, h or d; 1m to 30d.", {
    "type": "string",
    "pattern": concat!(
        "^0*(([1-9][0-9]{0,3}|[1-3][0-9]{4}|4[0-2][0-9]{3}|43[01][0-9]{2}|43200)m",
        "|([1-9][0-9]?|[1-6][0-9]{2}|7[01][0-9]|720)h|([1-9]|[12][0-9]|30)d)$"
    ),
});

impl TryFrom<String> for Span {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "must be a whole number and m, h or d, such as 24h";
        let unit = match text.chars().last() {
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            _ => return Err(WRONG),
        };
        let number = text.get(..text.len().saturating_sub(1)).ok_or(WRONG)?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(WRONG);
        }
        let seconds = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(unit))
            .ok_or(WRONG)?;
        if (60..=LONGEST_SPAN_S).contains(&seconds) {
            Ok(Self { seconds })
        } else {
            Err("must be between 1m and 30d")
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_back_what_it_writes() {
        let json = serde_json::to_string(&Timestamp(1_795_424_400)).unwrap();
        assert_eq!(json, "\"2026-11-23T09:00:00Z\"");
        assert_eq!(
            serde_json::from_str::<Timestamp>(&json).unwrap(),
            Timestamp(1_795_424_400)
        );
    }

    #[test]
    fn a_span_has_a_unit_and_bounds() {
        assert_eq!(Span::try_from("24h".to_owned()).unwrap().seconds, 86_400);
        for wrong in [
            "",
            "h",
            "24",
            "-1h",
            "1.5h",
            "0m",
            "31d",
            "99999999999999999999d",
            "1ä",
        ] {
            assert!(Span::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
