//! When an hour, a day, a week or a month begins and ends in a time zone. A day has 23 or 25 hours where clocks are turned. Counts nothing.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use maitred_model::{Period as Unit, Quota, WeekStart};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds in which no two periods of a calendar begin: no zone turns its clocks by less than half an hour. What periods are numbered by.
const STEP: u64 = 15 * 60;
const HOUR: i64 = 3600;
/// The year 2400, up to which a number has 24 bits. A clock that shows more is wrong, and is taken for this.
const LATEST: u64 = 13_569_465_600;
/// Bits of a word for a period's length; the rest are its beginning.
const LENGTH_BITS: u32 = 24;

/// A time from one moment up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Period {
    /// Seconds since 1970.
    pub start: u64,
    /// The first second that is not in it.
    pub end: u64,
}

impl Period {
    pub fn holds(&self, moment: u64) -> bool {
        (self.start..self.end).contains(&moment)
    }

    /// A later period of the same calendar has a higher one.
    pub fn number(&self) -> u64 {
        self.start / STEP
    }

    /// Until it ends. `unix`: since 1970.
    pub fn ends_in(&self, unix: Duration) -> Duration {
        Duration::from_secs(self.end).saturating_sub(unix)
    }

    /// By how much the number of the next period is higher, at most.
    pub(super) fn steps(&self) -> u64 {
        (self.end - self.start).div_ceil(STEP)
    }

    fn word(self) -> u64 {
        self.start << LENGTH_BITS | (self.end - self.start)
    }

    fn of(word: u64) -> Period {
        let (start, length) = (word >> LENGTH_BITS, word & ((1 << LENGTH_BITS) - 1));
        Period { start, end: start + length }
    }
}

/// Periods of one kind, in one time zone. The one that was asked for last is kept: while it lasts, nobody asks when the next one begins.
#[derive(Debug)]
pub struct Calendar {
    per: Unit,
    zone: TimeZone,
    week_starts: WeekStart,
    /// A period in one word, so that no thread sees the half of one.
    current: AtomicU64,
}

impl Calendar {
    /// A zone that is not known is taken for UTC: the configuration has none.
    pub fn new(quota: &Quota) -> Calendar {
        let zone = maitred_model::time_zone(&quota.time_zone).unwrap_or(TimeZone::UTC);
        Calendar::with(quota.per, zone, quota.week_starts)
    }

    pub(super) fn with(per: Unit, zone: TimeZone, week_starts: WeekStart) -> Calendar {
        Calendar { per, zone, week_starts, current: AtomicU64::new(0) }
    }

    /// That of a moment: seconds since 1970.
    pub fn period(&self, moment: u64) -> Period {
        let known = Period::of(self.current.load(Ordering::Relaxed));
        if known.holds(moment) {
            return known;
        }
        let found = self.find(moment);
        self.current.store(found.word(), Ordering::Relaxed);
        found
    }

    /// That of a number which is one of its periods'.
    pub fn numbered(&self, number: u64) -> Period {
        self.find(number * STEP + STEP - 1)
    }

    fn find(&self, moment: u64) -> Period {
        let moment = moment.min(LATEST);
        let at = Timestamp::from_second(moment as i64).unwrap_or(Timestamp::UNIX_EPOCH);
        let found = match self.per {
            Unit::Hour => Some(self.hour(at)),
            Unit::Day | Unit::Week | Unit::Month => self.days(at),
        };
        let (start, end) = found.unwrap_or((at, at));
        let start = u64::try_from(start.as_second()).unwrap_or(0);
        // Every period has a second at least, whatever a database says.
        Period { start, end: u64::try_from(end.as_second()).unwrap_or(0).max(start + 1) }
    }

    /// From full hour to full hour. Clocks that are turned by whole hours do not matter; by half an hour, an hour ends there.
    fn hour(&self, at: Timestamp) -> (Timestamp, Timestamp) {
        let offset = i64::from(self.zone.to_offset(at).seconds());
        let second = at.as_second();
        let mut start = (second + offset).div_euclid(HOUR) * HOUR - offset;
        let mut end = start + HOUR;
        let is_other = |other: i64| (other - offset).rem_euclid(HOUR) != 0;
        // What is asked for lies before the moment that is named, and may be this one.
        let after = Timestamp::from_second(second + 1).unwrap_or(at);
        if let Some(turn) = self.zone.preceding(after).next() {
            let (turn, before) = (turn.timestamp().as_second(), turn.timestamp() - 1.second());
            if turn > start && is_other(i64::from(self.zone.to_offset(before).seconds())) {
                start = turn;
            }
        }
        if let Some(turn) = self.zone.following(at).next() {
            let (turn, then) = (turn.timestamp().as_second(), i64::from(turn.offset().seconds()));
            if turn < end && is_other(then) {
                end = turn;
            }
        }
        let moment = |second: i64| Timestamp::from_second(second).unwrap_or(at);
        (moment(start), moment(end))
    }

    fn days(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let mut first = self.first_day(at.to_zoned(self.zone.clone()).date())?;
        loop {
            let next = self.next(first)?;
            let (start, end) = (self.begins(first)?, self.begins(next)?);
            if at < end {
                return Some((start, end));
            }
            // Clocks that are put back over midnight show yesterday once more: it has ended all the same.
            first = next;
        }
    }

    fn first_day(&self, date: Date) -> Option<Date> {
        match self.per {
            Unit::Hour | Unit::Day => Some(date),
            Unit::Week => {
                let start = match self.week_starts {
                    WeekStart::Monday => Weekday::Monday,
                    WeekStart::Sunday => Weekday::Sunday,
                };
                date.checked_sub(i64::from(date.weekday().since(start)).days()).ok()
            }
            Unit::Month => Some(date.first_of_month()),
        }
    }

    fn next(&self, first: Date) -> Option<Date> {
        match self.per {
            Unit::Hour | Unit::Day => first.tomorrow().ok(),
            Unit::Week => first.checked_add(7.days()).ok(),
            Unit::Month => first.checked_add(1.month()).ok(),
        }
    }

    /// The first moment at which clocks show the date, or a later one where it was left out.
    fn begins(&self, date: Date) -> Option<Timestamp> {
        let midnight = date.to_zoned(self.zone.clone()).ok()?.timestamp();
        // Where clocks are put forward over midnight, the date begins when they are.
        let turn = self.zone.preceding(midnight).next().map(|turn| turn.timestamp());
        let is_date = |turn: &Timestamp| turn.to_zoned(self.zone.clone()).date() >= date;
        Some(turn.filter(is_date).unwrap_or(midnight))
    }
}
