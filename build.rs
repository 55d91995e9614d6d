//! Works out the rule of every time zone of the IANA database, for `src/zone.rs`.

use std::fmt::Write as _;

use jiff::tz::{Offset, TimeZone};

/// The years that a rule is read from. Fixed, so that the same record gives the same bytes next
/// year; a zone whose rule changes needs a new database, which is a new release anyway.
const YEARS: std::ops::RangeInclusive<i16> = 2027..=2034;

/// When clocks change: in which month, on which of its weekdays, at what time.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "written out through Debug")]
struct Change {
    /// 1 is January.
    month: u8,
    /// 1 to 4 count from the start of the month; 5 is the last.
    week: u8,
    /// 1 is Monday, 7 is Sunday (ISO 8601).
    weekday: u8,
    /// Minutes after midnight by the clock that is about to be changed.
    minute: u16,
}

/// A zone's standard time and, where it has one, its summer time.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "written out through Debug")]
struct Rule {
    /// Minutes east of UTC in standard (the smaller) time.
    offset_minutes: i16,
    /// Minutes added in summer, the start and the end of it.
    summer: Option<(u16, Change, Change)>,
}

fn minutes(offset: Offset) -> i16 {
    i16::try_from(offset.seconds() / 60).unwrap_or_default()
}

/// The rule of a zone, as `src/zone.rs` describes it.
fn rule(name: &str) -> Option<Rule> {
    let zone = TimeZone::get(name).ok()?;
    let start_of = |year| jiff::civil::date(year, 1, 1).to_zoned(TimeZone::UTC).ok();
    let first = start_of(*YEARS.start())?.timestamp();
    let january = zone.to_offset(first);
    let fixed = Rule {
        offset_minutes: minutes(january),
        summer: None,
    };

    // Forward and backward changes, each with the date and time on the clock before it.
    let mut forward = Vec::new();
    let mut backward = Vec::new();
    let mut before = january;
    let end = start_of(YEARS.end() + 1)?.timestamp();
    for change in zone.following(first).take_while(|c| c.timestamp() < end) {
        let wall = before.to_datetime(change.timestamp());
        let step = minutes(change.offset()) - minutes(before);
        match step {
            0 => {}
            1.. => forward.push((step, wall)),
            _ => backward.push((step, wall)),
        }
        before = change.offset();
    }
    let years = YEARS.count();
    if forward.len() != years || backward.len() != years {
        return Some(fixed);
    }
    let (Some(start), Some(finish)) = (yearly(&forward), yearly(&backward)) else {
        return Some(fixed);
    };
    let Some(saving) = forward
        .first()
        .and_then(|(step, _)| u16::try_from(*step).ok())
    else {
        return Some(fixed);
    };
    // In the south, January is summer.
    let january_is_summer = forward.first() > backward.first()
        && forward.first().map(|f| f.1.month()) > backward.first().map(|b| b.1.month());
    let standard = if january_is_summer {
        minutes(january) - i16::try_from(saving).unwrap_or_default()
    } else {
        minutes(january)
    };
    Some(Rule {
        offset_minutes: standard,
        summer: Some((saving, start, finish)),
    })
}

/// The rule that these dates follow. A phone knows no better than "the last Sunday", so where the law
/// says it in another way ("the Friday before the last Sunday") the rule is the one that holds in
/// most years; a year that breaks it is wrong for a week. None if there is none.
fn yearly(dates: &[(i16, jiff::civil::DateTime)]) -> Option<Change> {
    let mut best: Option<(usize, Change)> = None;
    for (step, date) in dates {
        let same = |s: i16, d: &jiff::civil::DateTime| {
            s == *step
                && d.month() == date.month()
                && d.weekday() == date.weekday()
                && d.time() == date.time()
        };
        for week in (1..=5).rev() {
            let holds = dates
                .iter()
                .filter(|(s, d)| same(*s, d) && is_in_week(d, week))
                .count();
            if best.is_none_or(|(most, _)| holds > most) {
                best = Some((
                    holds,
                    Change {
                        month: u8::try_from(date.month()).ok()?,
                        week,
                        weekday: u8::try_from(date.weekday().to_monday_one_offset()).ok()?,
                        minute: u16::try_from(date.hour()).ok()? * 60
                            + u16::try_from(date.minute()).ok()?,
                    },
                ));
            }
        }
    }
    best.filter(|(holds, _)| holds * 2 > dates.len())
        .map(|(_, change)| change)
}

/// Whether a day is the so-many-eth of its weekday in its month; 5 is the last.
fn is_in_week(date: &jiff::civil::DateTime, week: u8) -> bool {
    match i8::try_from(week) {
        Ok(5) => date.day() + 7 > date.days_in_month(),
        Ok(week) => (date.day() - 1) / 7 + 1 == week,
        Err(_) => false,
    }
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut names: Vec<String> = jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .collect();
    names.sort_unstable();
    let mut table = String::from("&[\n");
    for name in names {
        let rule = rule(&name).expect("a zone of the database has a rule");
        writeln!(table, "    ({name:?}, {rule:?}),").expect("a String takes all");
    }
    table.push_str("]\n");
    let directory = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(format!("{directory}/zones.rs"), table).expect("OUT_DIR can be written");
}
