//! Periods against a naive model that looks at every quarter of an hour, and meters against one thread that counts alone.

use super::*;
use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use maitred_model::{Period as Unit, QuotaBy, WeekStart};
use proptest::prelude::*;
use std::sync::{Arc, Barrier};
use std::time::Duration;

const QUARTER: u64 = 900;
/// With clocks that are turned over midnight, by half an hour, by two hours, and with a day that never was.
const ZONES: [&str; 13] = [
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Africa/Cairo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Antarctica/Troll",
];
const UNITS: [Unit; 4] = [Unit::Hour, Unit::Day, Unit::Week, Unit::Month];

fn zone(name: &str) -> TimeZone {
    maitred_model::time_zone(name).unwrap()
}

fn calendar(per: Unit, name: &str, week_starts: WeekStart) -> Calendar {
    Calendar::with(per, zone(name), week_starts)
}

fn at(text: &str) -> u64 {
    u64::try_from(text.parse::<Timestamp>().unwrap().as_second()).unwrap()
}

/// The day of the label, whatever the hour.
fn label(per: Unit, date: Date, week_starts: WeekStart) -> Date {
    match per {
        Unit::Hour | Unit::Day => date,
        Unit::Month => date.first_of_month(),
        Unit::Week => {
            let first = if week_starts == WeekStart::Monday { Weekday::Monday } else { Weekday::Sunday };
            let mut date = date;
            while date.weekday() != first {
                date = date.yesterday().unwrap();
            }
            date
        }
    }
}

/// Begins and ends where the label changes for the first time.
fn naive(per: Unit, name: &str, week_starts: WeekStart, moment: u64) -> Period {
    let zone = zone(name);
    let local = |second: u64| Timestamp::from_second(second as i64).unwrap().to_zoned(zone.clone());
    let day = 24 * 3600;
    let window = if per == Unit::Month { 35 * day } else { 10 * day };
    let is_turn: Box<dyn FnMut(u64) -> bool> = match per {
        Unit::Hour => {
            let mut before = None;
            Box::new(move |second| {
                let now = local(second);
                let part = now.offset().seconds().rem_euclid(3600);
                let turned = before.replace(part).is_some_and(|before| before != part);
                turned || now.minute() == 0
            })
        }
        Unit::Day | Unit::Week | Unit::Month => {
            let mut highest = None;
            Box::new(move |second| {
                let label = label(per, local(second).date(), week_starts);
                let is_new = highest.is_none_or(|highest| label > highest);
                if is_new {
                    highest = Some(label);
                }
                is_new
            })
        }
    };
    let first = (moment - window) / QUARTER;
    let turns: Vec<u64> = (first..first + 2 * window / QUARTER)
        .map(|quarter| quarter * QUARTER)
        .filter({
            let mut is_turn = is_turn;
            move |second| is_turn(*second)
        })
        .collect();
    let end = turns.iter().position(|turn| *turn > moment).unwrap();
    Period { start: turns[end - 1], end: turns[end] }
}

#[test]
fn a_day_is_from_midnight_to_midnight_and_has_23_or_25_hours_where_clocks_are_turned() {
    for (zone, moment, start, hours) in [
        ("UTC", "2026-11-22T19:30:00Z", "2026-11-22T00:00:00Z", 24),
        ("Europe/Paris", "2026-11-22T23:30:00Z", "2026-11-22T23:00:00Z", 24),
        ("Europe/Paris", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", 23),
        ("Europe/Paris", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", 25),
        ("America/New_York", "2026-03-08T04:59:59Z", "2026-03-07T05:00:00Z", 24),
        ("America/New_York", "2026-03-08T05:00:00Z", "2026-03-08T05:00:00Z", 23),
        // Its day begins at one o'clock.
        ("Asia/Beirut", "2026-03-29T12:00:00Z", "2026-03-28T22:00:00Z", 23),
        // It has left one out (30 December 2011).
        ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", 24),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", 24),
    ] {
        let period = calendar(Unit::Day, zone, WeekStart::Monday).period(at(moment));
        assert_eq!(period, Period { start: at(start), end: at(start) + hours * 3600 }, "{zone} {moment}");
    }
}

#[test]
fn a_week_begins_with_the_day_that_is_said_and_a_month_with_its_first() {
    let sunday = "2026-11-22T12:00:00Z";
    for (per, starts, start, end) in [
        (Unit::Week, WeekStart::Monday, "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
        (Unit::Week, WeekStart::Sunday, "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"),
        (Unit::Month, WeekStart::Monday, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        (Unit::Hour, WeekStart::Monday, "2026-11-22T12:00:00Z", "2026-11-22T13:00:00Z"),
    ] {
        let period = calendar(per, "UTC", starts).period(at(sunday));
        assert_eq!(period, Period { start: at(start), end: at(end) });
    }
    let february = calendar(Unit::Month, "Asia/Kolkata", WeekStart::Monday).period(at("2028-02-29T18:29:59Z"));
    assert_eq!(february, Period { start: at("2028-01-31T18:30:00Z"), end: at("2028-02-29T18:30:00Z") });
}

#[test]
fn an_hour_ends_where_clocks_are_turned_by_half_of_one() {
    let calendar = calendar(Unit::Hour, "Australia/Lord_Howe", WeekStart::Monday);
    // On 5 April 2026 at two o'clock it is half past one again.
    for (moment, start, minutes) in [
        ("2026-04-04T14:59:59Z", "2026-04-04T14:00:00Z", 60),
        ("2026-04-04T15:00:00Z", "2026-04-04T15:00:00Z", 30),
        ("2026-04-04T15:30:00Z", "2026-04-04T15:30:00Z", 60),
    ] {
        assert_eq!(calendar.period(at(moment)), Period { start: at(start), end: at(start) + minutes * 60 }, "{moment}");
    }
}

#[test]
fn a_clock_that_shows_nonsense_has_periods_too() {
    for unit in UNITS {
        let calendar = calendar(unit, "Europe/Paris", WeekStart::Monday);
        for moment in [0, 1, 1_000_000_000_000, u64::MAX] {
            let period = calendar.period(moment);
            assert!(period.end > period.start && period.number() < 1 << 24, "{moment}: {period:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_period_is_what_the_naive_model_says(
        zone in 0..ZONES.len(), unit in 0..UNITS.len(), sunday in any::<bool>(), moment in 315_532_800u64..4_102_444_800,
    ) {
        let starts = if sunday { WeekStart::Sunday } else { WeekStart::Monday };
        let (unit, zone) = (UNITS[unit], ZONES[zone]);
        let calendar = calendar(unit, zone, starts);
        let period = calendar.period(moment);
        prop_assert_eq!(period, naive(unit, zone, starts, moment), "{} {:?} {}", zone, unit, moment);
        prop_assert_eq!(calendar.numbered(period.number()), period);
        prop_assert_eq!(calendar.period(moment), period);
        let next = calendar.period(period.end);
        prop_assert_eq!(next.start, period.end);
        prop_assert!(next.number() > period.number() && next.number() - period.number() <= period.steps());
        prop_assert_eq!(calendar.period(period.start), period);
        prop_assert_eq!(calendar.period(period.end - 1), period);
    }

    #[test]
    fn near_the_turn_of_clocks_too(zoned in 0..ZONES.len(), unit in 0..UNITS.len(), year in 1985u64..2035, off in -400_000i64..400_000) {
        let (unit, zone_name) = (UNITS[unit], ZONES[zoned]);
        let from = Timestamp::from_second(((year - 1970) * 31_556_952) as i64).unwrap();
        let Some(turn) = zone(zone_name).following(from).next().map(|turn| turn.timestamp().as_second()) else { return Ok(()) };
        let moment = u64::try_from(turn + off).unwrap();
        let period = calendar(unit, zone_name, WeekStart::Monday).period(moment);
        prop_assert_eq!(period, naive(unit, zone_name, WeekStart::Monday, moment), "{} {:?} {}", zone_name, unit, moment);
    }
}

const FIRST: Period = Period { start: 3600, end: 7200 };
const SECOND: Period = Period { start: 7200, end: 10_800 };

#[test]
fn what_is_over_takes_nothing_and_the_next_period_begins_with_nothing() {
    let meter = Meter::default();
    assert_eq!(meter.spend(FIRST, 2, 3), Ok(2));
    assert_eq!(meter.spend(FIRST, 2, 3), Err(2));
    assert_eq!(meter.spend(FIRST, 1, 3), Ok(3));
    assert_eq!(meter.spend(FIRST, 1, 2), Err(3), "the limit is another now");
    assert_eq!(meter.spend(SECOND, 1, 3), Ok(1));
    assert_eq!(meter.used(SECOND), 1);
    assert_eq!(meter.before(), Used { number: FIRST.number(), used: 3 });
}

#[test]
fn what_others_say_of_a_period_that_is_over_is_nothing_to_the_next() {
    let meter = Meter::default();
    meter.learn(FIRST, 7);
    assert_eq!(meter.used(FIRST), 7);
    assert_eq!(meter.spend(SECOND, 1, 9), Ok(1));
    meter.learn(FIRST, 9);
    assert_eq!(meter.used(SECOND), 1);
}

#[test]
fn what_was_used_while_others_did_not_answer_is_told_once_and_not_forgotten_before() {
    let meter = Meter::default();
    assert_eq!([meter.spend_alone(FIRST, 2, 3), meter.spend_alone(FIRST, 2, 3)], [Ok(2), Err(2)]);
    meter.learn(FIRST, 5);
    assert_eq!(meter.used(FIRST), 7, "they do not know of two");
    assert_eq!([meter.take_owed(FIRST), meter.take_owed(FIRST)], [2, 0]);
    meter.owe(FIRST, 2);
    assert_eq!(meter.take_owed(SECOND), 0, "it is over with its period");
    meter.owe(SECOND, 1);
    meter.owe(FIRST, 1);
    assert_eq!(meter.take_owed(SECOND), 1);
}

#[test]
fn a_thread_that_has_not_seen_the_turn_counts_where_the_others_do_and_a_clock_put_back_begins_anew() {
    let meter = Meter::default();
    assert_eq!(meter.spend(SECOND, 5, 9), Ok(5));
    assert_eq!(meter.spend(FIRST, 1, 9), Ok(6));
    assert_eq!(meter.used(SECOND), 6);
    let long_ago = Period { start: 0, end: 900 };
    assert_eq!(meter.spend(long_ago, 1, 9), Ok(1));
}

#[test]
fn threads_together_spend_what_is_there_and_no_more() {
    const THREADS: u64 = 4;
    let (meter, barrier) = (Meter::default(), Barrier::new(THREADS as usize));
    let run = || {
        let mut spent = [0u64; 2];
        for (at, period) in [FIRST, SECOND].into_iter().enumerate() {
            barrier.wait();
            for _ in 0..5_000 {
                spent[at] += u64::from(meter.spend(period, 1, 12_345).is_ok());
            }
        }
        spent
    };
    let spent = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for at in 0..2 {
        assert_eq!(spent.iter().map(|spent| spent[at]).sum::<u64>(), 12_345);
    }
}

fn key(by: QuotaBy) -> SlotKey {
    SlotKey {
        plan: "gold".into(),
        api: None,
        route: None,
        by,
        per: Unit::Hour,
        time_zone: "UTC".to_owned(),
        week_starts: WeekStart::Monday,
    }
}

#[test]
fn each_consumer_has_a_count_of_its_own_unless_the_plan_has_one() {
    let accounts = Accounts::default();
    assert!(accounts.is_idle());
    for (by, wanted) in [(QuotaBy::Consumer, 1), (QuotaBy::Plan, 2)] {
        let grant = Grant { most: 9, slot: accounts.slot(key(by)) };
        let (alice, bob) = (accounts.of("alice"), accounts.of("bob"));
        grant.count(&alice).meter.spend(FIRST, 1, grant.most).unwrap();
        assert_eq!(grant.count(&bob).meter.spend(FIRST, 1, grant.most), Ok(wanted));
        assert!(Arc::ptr_eq(&accounts.slot(key(by)), &grant.slot), "a reload goes on with it");
    }
    let other = SlotKey { per: Unit::Day, ..key(QuotaBy::Consumer) };
    assert_ne!(accounts.slot(other.clone()).id, accounts.slot(key(QuotaBy::Consumer)).id);
    assert_eq!(accounts.of("alice").count(&accounts.slot(other)).meter.used(FIRST), 0);
}

#[test]
fn accounts_are_kept_while_they_are_needed() {
    let accounts = Accounts::default();
    let slot = accounts.slot(key(QuotaBy::Consumer));
    accounts.of("alice").count(&slot).meter.spend(FIRST, 1, 9).unwrap();
    accounts.of("bob");
    let carol = accounts.of("carol");
    accounts.sweep(3600);
    assert!(accounts.known("alice").is_some() && accounts.known("bob").is_none() && accounts.known("carol").is_some());
    drop(carol);
    accounts.sweep(7200);
    assert!(accounts.known("alice").is_some(), "nobody has kept it yet");
    for unkept in accounts.unkept() {
        unkept.count().settle(unkept.owed, 1);
    }
    accounts.sweep(3600);
    assert!(accounts.known("alice").is_some(), "its hour lasts");
    accounts.sweep(7200);
    assert!(accounts.known("alice").is_none());
}

/// As a store does it, for several processes.
#[derive(Default)]
struct Kept(std::collections::HashMap<u64, i64>);

impl Kept {
    fn keep(&mut self, count: &accounts::Count) {
        for owed in count.owed().into_iter().flatten() {
            let total = self.0.entry(owed.number).or_default();
            *total = (*total + owed.more).max(0);
            count.settle(owed, *total as u64);
        }
    }
}

proptest! {
    #[test]
    fn what_processes_spend_adds_up_in_the_store_and_is_learned_by_each(
        steps in proptest::collection::vec((0usize..3, 0u8..10, 1u64..20), 1..100),
    ) {
        let counts: [accounts::Count; 3] = Default::default();
        let (mut kept, mut hour) = (Kept::default(), 1u64);
        let mut spent: std::collections::BTreeMap<u64, u64> = Default::default();
        for (process, what, units) in steps {
            let period = Period { start: hour * 3600, end: (hour + 1) * 3600 };
            let count = &counts[process];
            match what {
                0 => {
                    // All see the turn before the one after it.
                    counts.iter().for_each(|count| kept.keep(count));
                    hour += 1;
                }
                1..=3 => kept.keep(count),
                4 => {
                    kept.keep(count);
                    let total = kept.0.get(&period.number()).copied().unwrap_or(0);
                    count.restore(period.number(), total as u64);
                    prop_assert_eq!(count.meter.used(period) as i64, total);
                }
                _ => {
                    count.meter.spend(period, units, 1_000_000).unwrap();
                    *spent.entry(period.number()).or_default() += units;
                }
            }
        }
        counts.iter().for_each(|count| kept.keep(count));
        let period = Period { start: hour * 3600, end: (hour + 1) * 3600 };
        for (number, spent) in &spent {
            prop_assert_eq!(kept.0[number], *spent as i64);
        }
        let total = spent.get(&period.number()).copied().unwrap_or(0);
        for count in &counts {
            count.restore(period.number(), total);
            prop_assert_eq!(count.meter.used(period), total);
            prop_assert_eq!(count.owed(), [None, None]);
        }
    }
}

#[test]
fn a_new_store_gets_everything_and_a_reset_is_nothing_that_is_owed() {
    let accounts = Accounts::default();
    let slot = accounts.slot(key(QuotaBy::Consumer));
    let alice = accounts.of("alice");
    let count = alice.count(&slot);
    count.meter.spend(FIRST, 5, 9).unwrap();
    let owed = Owed { number: FIRST.number(), more: 5 };
    assert_eq!(count.owed(), [None, Some(owed)]);
    count.settle(owed, 5);
    assert_eq!(count.owed(), [None, None]);
    accounts.forget_kept();
    // It is told of the period before, where the meter never was.
    assert_eq!(accounts.unkept().iter().map(|unkept| unkept.owed).collect::<Vec<_>>(), [owed]);
    count.settle(owed, 5);
    count.meter.spend(FIRST, 1, 9).unwrap();
    alice.reset();
    assert_eq!((count.owed(), count.meter.used(FIRST)), ([None, None], 0));
    assert_eq!(FIRST.ends_in(Duration::from_millis(7_199_250)), Duration::from_millis(750));
}
