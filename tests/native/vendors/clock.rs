//! A phone's clock, held against the time zone database day by day.

use jiff::civil::{Date, DateTime, Weekday, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan};

/// When clocks change, by the clock that is about to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenChange {
    pub month: i8,
    /// 1 to 4 from the start of the month, 5 for the last.
    pub week: i8,
    /// 1 is Monday, 7 is Sunday.
    pub weekday: i8,
    pub minute: i64,
}

/// What a phone makes of its time settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenClock {
    /// Minutes east of UTC, and in summer so many more between two changes.
    Rule {
        offset: i64,
        summer: Option<(i64, SeenChange, SeenChange)>,
    },
    /// A zone that the firmware knows by itself, by its IANA name.
    Named(String),
}

impl SeenChange {
    fn day(self, year: i16) -> Date {
        let weekday = Weekday::from_monday_one_offset(self.weekday).unwrap();
        let nth = if self.week == 5 { -1 } else { self.week };
        date(year, self.month, 1)
            .nth_weekday_of_month(nth, weekday)
            .unwrap()
    }

    /// In UTC, when the clock before it is `offset` minutes east of it.
    fn moment(self, year: i16, offset: i64) -> DateTime {
        self.day(year)
            .to_datetime(jiff::civil::time(0, 0, 0, 0))
            .checked_add((self.minute - offset).minutes())
            .unwrap()
    }
}

/// Fails unless the clock shows the time of the zone at noon UTC of every day of two years, but for a
/// week in a year where the zone's law is one that no phone can say.
pub fn compare(what: &str, clock: &SeenClock, zone: &str) {
    let (offset, summer, named) = match clock {
        // Whatever the firmware calls it, it shows the time of the zone.
        SeenClock::Named(name) => (0, None, Some(TimeZone::get(name).unwrap())),
        SeenClock::Rule { offset, summer } => (*offset, *summer, None),
    };
    let truth = TimeZone::get(zone).unwrap();
    let mut wrong = 0;
    let mut day = date(2027, 1, 1);
    while day < date(2029, 1, 1) {
        let utc = day.at(12, 0, 0, 0);
        let year = day.year();
        let shown = match summer {
            None => offset,
            Some((saving, start, end)) => {
                let from = start.moment(year, offset);
                let to = end.moment(year, offset + saving);
                let is_summer = if from < to {
                    (from..to).contains(&utc)
                } else {
                    !(to..from).contains(&utc)
                };
                if is_summer { offset + saving } else { offset }
            }
        };
        let instant = utc.to_zoned(TimeZone::UTC).unwrap().timestamp();
        let minutes = |zone: &TimeZone| SignedDuration::from(zone.to_offset(instant)).as_mins();
        let shown = named.as_ref().map_or(shown, minutes);
        wrong += i32::from(minutes(&truth) != shown);
        day = day.tomorrow().unwrap();
    }
    assert!(
        wrong <= 14,
        "{what}: {clock:?} is wrong for {zone} on {wrong} days"
    );
}
