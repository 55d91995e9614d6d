//! Time zones: from an IANA name to the fixed rule that a phone wants to be told.
//!
//! The rules are worked out from the IANA database when Dialtone is built (`build.rs`): a database
//! and its reader would be a fifth of the Worker.

/// When clocks change: in which month, on which of its weekdays, at what time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// 1 is January.
    pub month: u8,
    /// 1 to 4 count from the start of the month; 5 is the last.
    pub week: u8,
    /// 1 is Monday, 7 is Sunday (ISO 8601).
    pub weekday: u8,
    /// Minutes after midnight by the clock that is about to be changed.
    pub minute: u16,
}

/// A zone's standard time and, where it has one, its summer time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Minutes east of UTC in standard (the smaller) time.
    pub offset_minutes: i16,
    /// Minutes added in summer, the start and the end of it.
    pub summer: Option<(u16, Change, Change)>,
}

/// Every name of the database with its rule, in order of the names.
static TABLE: &[(&str, Rule)] = include!(concat!(env!("OUT_DIR"), "/zones.rs"));

/// True if the name stands in the IANA database that is compiled in.
#[must_use]
pub fn known(name: &str) -> bool {
    rule(name).is_some()
}

/// The rule of a zone; `None` for a name that is not [`known`]. A zone whose clocks change by no
/// yearly rule (Morocco follows the moon) has the offset of January 2027 and no summer.
#[must_use]
pub fn rule(name: &str) -> Option<Rule> {
    let at = TABLE.binary_search_by_key(&name, |(name, _)| *name).ok()?;
    TABLE.get(at).map(|(_, rule)| *rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn berlin_springs_forward_on_the_last_sunday_of_march() {
        let change = |month, week, minute| Change {
            month,
            week,
            weekday: 7,
            minute,
        };
        assert_eq!(
            rule("Europe/Berlin"),
            Some(Rule {
                offset_minutes: 60,
                summer: Some((60, change(3, 5, 120), change(10, 5, 180))),
            })
        );
        assert_eq!(
            rule("America/New_York").unwrap().summer,
            Some((60, change(3, 2, 120), change(11, 1, 120)))
        );
    }

    #[test]
    fn odd_zones_have_a_rule_or_a_plain_offset() {
        // South: summer starts late in the year.
        let sydney = rule("Australia/Sydney").unwrap();
        assert_eq!(sydney.offset_minutes, 600);
        assert_eq!(sydney.summer.unwrap().1.month, 10);
        // Half an hour of saving.
        let lord_howe = rule("Australia/Lord_Howe").unwrap();
        assert_eq!(
            (lord_howe.offset_minutes, lord_howe.summer.unwrap().0),
            (630, 30)
        );
        // Ireland's law calls winter the saving time; clocks do as everyone else's.
        assert_eq!(rule("Europe/Dublin").unwrap().offset_minutes, 0);
        assert_eq!(
            rule("Asia/Kolkata"),
            Some(Rule {
                offset_minutes: 330,
                summer: None
            })
        );
        assert_eq!(rule("America/St_Johns").unwrap().offset_minutes, -210);
        assert_eq!(rule("Africa/Casablanca").unwrap().summer, None);
        assert_eq!(rule("Europe/Atlantis"), None);
    }

    #[test]
    fn a_zone_that_gave_up_summer_time_has_the_offset_of_today() {
        // British Columbia stays on UTC-7 since March 2026.
        assert_eq!(
            rule("America/Vancouver"),
            Some(Rule {
                offset_minutes: -420,
                summer: None
            })
        );
    }

    #[test]
    fn a_law_that_is_a_week_off_in_some_years_still_has_summer_time() {
        let change = |month, week, weekday, hour: u16| Change {
            month,
            week,
            weekday,
            minute: hour * 60,
        };
        for (name, offset, start, end) in [
            // "The Friday before the last Sunday of March."
            (
                "Asia/Jerusalem",
                120,
                change(3, 4, 5, 2),
                change(10, 5, 7, 2),
            ),
            // "The end of the last Thursday of October", which is a Friday.
            ("Africa/Cairo", 120, change(4, 5, 5, 0), change(10, 5, 5, 0)),
            // "The first Sunday after the 2nd", and on the clock 24:00 of the day before.
            (
                "America/Santiago",
                -240,
                change(9, 1, 7, 0),
                change(4, 1, 7, 0),
            ),
        ] {
            let expected = Rule {
                offset_minutes: offset,
                summer: Some((60, start, end)),
            };
            assert_eq!(rule(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn every_name_that_admins_write_is_there() {
        for name in [
            "UTC",
            "Etc/GMT+5",
            "America/Argentina/Buenos_Aires",
            "Asia/Calcutta",
            "GB",
        ] {
            assert!(known(name), "{name}");
        }
        assert!(TABLE.len() > 500 && TABLE.is_sorted_by_key(|(name, _)| *name));
    }
}
