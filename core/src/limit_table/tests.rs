//! The table by examples, by a model of buckets of tokens, and by threads that meet in it.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Barrier;

const SEED: [u64; 2] = [1, 2];
const MS: Duration = Duration::from_millis(1);
const MS_NANOS: u64 = 1_000_000;

fn key(table: &Table, number: u64) -> Key {
    table.key(&number.to_le_bytes())
}

#[test]
fn a_burst_at_once_and_then_as_time_gives() {
    let start = Instant::now();
    let (table, pace) = (Table::new(100, SEED, start), Pace::new(10, Duration::from_secs(1), 3));
    let key = key(&table, 1);
    for (at, allowed, wait, remaining, full) in [
        (0, true, 0, 2, 100),
        (0, true, 0, 1, 200),
        (0, true, 0, 0, 300),
        (0, false, 100, 0, 300),
        (99, false, 1, 0, 201),
        (100, true, 0, 0, 300),
        (350, true, 0, 1, 150),
        (350, true, 0, 0, 250),
        (350, false, 50, 0, 250),
        (10_000, true, 0, 2, 100),
    ] {
        let verdict = table.take(key, 1, &pace, start + at * MS);
        assert_eq!(
            verdict,
            Verdict { allowed, retry_nanos: wait * MS_NANOS, remaining, full_nanos: full * MS_NANOS },
            "at {at} ms"
        );
    }
}

#[test]
fn to_look_takes_nothing_and_what_is_given_back_is_there_again() {
    let start = Instant::now();
    let (table, pace) = (Table::new(100, SEED, start), Pace::new(1, Duration::from_secs(60), 2));
    let key = key(&table, 1);
    for _ in 0..5 {
        let rested = Verdict { allowed: true, retry_nanos: 0, remaining: 2, full_nanos: 0 };
        assert_eq!(table.peek(key, &pace, start), rested);
    }
    assert!(table.take(key, 2, &pace, start).allowed);
    assert_eq!(table.peek(key, &pace, start).retry_after(), Duration::from_secs(60));
    table.give_back(key, 1, &pace, start);
    assert_eq!(table.peek(key, &pace, start).remaining, 1);
    table.give_back(key, 100, &pace, start);
    assert_eq!(table.peek(key, &pace, start).remaining, 2, "no more than there ever was");
    let too_much = table.take(key, 3, &pace, start);
    assert!(!too_much.allowed && too_much.remaining == 2, "{too_much:?}");
}

#[test]
fn all_of_a_64_is_one_address() {
    let table = Table::new(1, SEED, Instant::now());
    let of = |text: &str| table.address_key(text.parse().expect("an address"));
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2"));
    assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    assert_ne!(of("192.0.2.1"), Table::new(1, [1, 3], Instant::now()).address_key("192.0.2.1".parse().expect("an address")));
}

#[test]
fn a_full_bucket_is_shared_with_the_strictest_until_a_place_comes_free() {
    let start = Instant::now();
    let table = Table::new(4, SEED, start);
    assert_eq!(table.buckets, 1);
    let pace = Pace::new(1, Duration::from_secs(1), 4);
    for number in 0..8 {
        assert_eq!(table.take(key(&table, number), 1, &pace, start).remaining, 3);
    }
    assert_eq!(table.take(key(&table, 5), 2, &pace, start).remaining, 1);
    assert_eq!(table.figures.shared.load(Ordering::Relaxed), 0);
    let ninth = key(&table, 9);
    assert_eq!(table.peek(ninth, &pace, start).remaining, 1);
    assert_eq!(table.take(ninth, 1, &pace, start).remaining, 0);
    assert!(!table.take(ninth, 1, &pace, start).allowed && !table.take(key(&table, 5), 1, &pace, start).allowed);
    assert!(table.figures.shared.load(Ordering::Relaxed) > 0);
    let later = start + Duration::from_secs(1);
    assert_eq!(table.take(ninth, 1, &pace, later).remaining, 3, "the places of those who took one are free again");
}

#[test]
fn threads_together_get_what_one_would() {
    const THREADS: u64 = 4;
    const KEYS: u64 = 32;
    let start = Instant::now();
    let (table, pace) = (Table::new(4096, SEED, start), Pace::new(1000, Duration::from_secs(1), 50));
    let (rounds, barrier) = ([0u32, 1, 7, 400], Barrier::new(THREADS as usize));
    let admitted: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let run = |thread: u64| {
        for at in rounds {
            barrier.wait();
            for turn in 0..KEYS * 60 {
                let number = (turn + thread * 7) % KEYS;
                if table.take(key(&table, number), 1, &pace, start + at * MS).allowed {
                    admitted[number as usize].fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(move || run(thread)))));
    // In the last round all of a burst was there again.
    let wanted = 50 + 1 + 6 + 50;
    assert!(admitted.iter().all(|count| count.load(Ordering::Relaxed) == wanted), "{admitted:?}, not {wanted}");
    assert_eq!(table.figures.shared.load(Ordering::Relaxed), 0);
}

#[test]
fn who_is_patient_gets_the_next_turns_in_order() {
    let start = Instant::now();
    let (table, plain) = (Table::new(1, SEED, start), Pace::new(10, Duration::from_secs(1), 2));
    let pace = plain.patient(250 * MS);
    let key = key(&table, 1);
    let turns: Vec<_> = (0..5).map(|_| table.take(key, 1, &pace, start)).collect();
    let told: Vec<_> = turns.iter().map(|turn| (turn.allowed, turn.retry_after().as_millis(), turn.remaining)).collect();
    // The third turn beyond the burst comes in 300 ms; in 50 ms it will be near enough.
    assert_eq!(told, [(true, 0, 1), (true, 0, 0), (true, 100, 0), (true, 200, 0), (false, 50, 0)]);
    assert_eq!(table.take(key, 1, &pace, start + 50 * MS).retry_after(), 250 * MS);
    // One who waits goes away: his turn is the next one's.
    table.give_back(key, 1, &pace, start + 60 * MS);
    assert_eq!(table.take(key, 1, &pace, start + 60 * MS).retry_after(), 240 * MS);
    assert!(!table.take(key, 1, &plain, start + 60 * MS).allowed, "who does not wait is refused");
}

#[test]
fn what_is_owed_has_an_end_and_a_changed_limit_locks_nobody_out() {
    let start = Instant::now();
    let (table, pace) = (Table::new(1, SEED, start), Pace::new(1, Duration::from_secs(1), 5));
    let key = key(&table, 1);
    let owing = pace.owing(10);
    assert!(table.take(key, 1, &owing, start).allowed);
    table.owe(key, 2, &owing, start);
    assert_eq!(table.peek(key, &owing, start).remaining, 2);
    table.owe(key, u32::MAX, &owing, start);
    assert_eq!(table.take(key, 1, &owing, start).retry_after(), Duration::from_secs(46), "ten bursts, and the unit itself");
    // The same counts under a limit that lets nothing be owed: as if all of a burst had been taken now.
    assert_eq!(table.take(key, 1, &pace, start).retry_after(), Duration::from_secs(1));
    let hours = Pace::new(1, Duration::from_secs(3600), 1000);
    let (other, quick) = (self::key(&table, 2), Pace::new(100, Duration::from_secs(1), 100));
    assert!(table.take(other, 1000, &hours, start).allowed);
    assert_eq!(table.take(other, 1, &quick, start).retry_after(), 10 * MS);
    assert!(table.take(other, 100, &quick, start + 1000 * MS).allowed, "from the first refusal on it is paid for");
}

#[test]
fn who_looked_at_the_clock_first_forgives_nothing() {
    let start = Instant::now();
    let (table, pace) = (Table::new(1, SEED, start), Pace::new(1000, Duration::from_secs(1), 10));
    let (key, late) = (key(&table, 1), start + 500 * MS);
    assert!(table.take(key, 10, &pace, late).allowed);
    assert!(!table.take(key, 1, &pace, start).allowed);
    table.give_back(key, 1, &pace, start);
    assert!(table.take(key, 1, &pace, late).allowed);
    assert!(!table.take(key, 1, &pace, late).allowed);
}

#[test]
fn who_comes_with_a_moment_long_past_forgives_nothing() {
    let start = Instant::now();
    let (table, pace) = (Table::new(1, SEED, start), Pace::new(10, Duration::from_secs(1), 20));
    let (key, now) = (key(&table, 1), start + Duration::from_secs(25));
    assert!(table.take(key, 20, &pace, now).allowed);
    for behind in [10, 20, 25] {
        let old = now - Duration::from_secs(behind);
        assert_eq!(table.take(key, 1, &pace, old).retry_after(), 100 * MS, "{behind} s behind, and told what is so now");
        table.give_back(key, 1, &pace, old);
        assert!(table.take(key, 1, &pace, now).allowed, "{behind} s behind: what was given back");
        table.owe(key, 0, &pace, old);
        assert!(!table.take(key, 1, &pace, now).allowed, "{behind} s behind");
    }
}

#[test]
fn a_place_whose_owner_is_back_is_not_taken_from_it() {
    let start = Instant::now();
    let (table, pace) = (Table::new(1, SEED, start), Pace::new(1, Duration::from_secs(1), 4));
    let (owner, other) = (key(&table, 1), key(&table, 2));
    assert!(table.take(owner, 1, &pace, start).allowed);
    let later = start + Duration::from_secs(2);
    let (bucket, now) = (table.bucket(owner), table.time(later));
    let place = bucket.of(owner).expect("a place");
    // Another finds it free, and before it moves in the owner takes all of its burst.
    assert!(table.take(owner, 4, &pace, later).allowed);
    assert!(!bucket.move_in(other, place, owner.number(), now));
    assert!(!table.take(owner, 1, &pace, later).allowed, "the owner is where it was, and owes what it did");
    assert_eq!(table.take(other, 1, &pace, later).remaining, 3, "and the other owes nothing of it");
    let much_later = later + Duration::from_secs(60);
    assert!(bucket.move_in(other, place, owner.number(), table.time(much_later)), "free in truth");
}

#[test]
fn what_is_given_back_is_not_given_to_who_has_the_place_now() {
    let start = Instant::now();
    let (table, pace) = (Table::new(1, SEED, start), Pace::new(1, Duration::from_secs(1), 4));
    let (own, other) = (key(&table, 1), key(&table, 2));
    assert!(table.take(own, 3, &pace, start).allowed);
    let (bucket, now) = (table.bucket(own), table.time(start));
    let place = bucket.of(own).expect("a place");
    for back in [1, 2, 30] {
        assert!(!bucket.forgive(place, other, back * pace.interval, &pace, now));
        assert_eq!(table.peek(own, &pace, start).remaining, 1, "{back}");
    }
    assert!(bucket.forgive(place, own, pace.interval, &pace, now));
    assert_eq!(table.peek(own, &pace, start).remaining, 2);
}

#[test]
fn what_is_told_follows_what_it_cost_in_the_end() {
    let start = Instant::now();
    let (table, pace) = (Table::new(1, SEED, start), Pace::new(1, Duration::from_secs(1), 5).owing(10));
    let key = key(&table, 1);
    let told = |cost: u32| {
        let verdict = table.take(key, 1, &pace, start).corrected(1, cost, &pace);
        let told = (verdict.remaining, verdict.full_in().as_secs());
        table.give_back(key, 1, &pace, start);
        told
    };
    assert_eq!([told(1), told(0), told(3), told(7), told(u32::MAX)], [(4, 1), (5, 0), (2, 3), (0, 7), (0, 50)]);
}

#[test]
fn parts_of_a_key_do_not_run_together() {
    let table = Table::new(1, SEED, Instant::now());
    let of = |parts: &[&str]| {
        let mut writer = table.writer();
        parts.iter().for_each(|part| writer.bytes(part.as_bytes()));
        writer.key()
    };
    assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
    for other in [&["a", "bc"][..], &["abc", ""], &["", "abc"], &["ab", "c\0"], &["ab\0", "c"]] {
        assert_ne!(of(&["ab", "c"]), of(other), "{other:?}");
    }
    assert_ne!(of(&["12345678"]), of(&["12345678\0"]));
}

#[test]
fn what_a_limit_is_called_elsewhere_only_its_fleet_can_tell() {
    let of = |seed: [u64; 2]| crate::limits::LimitId::of("route\0shop\0GET /orders", seed);
    assert_eq!(of(SEED), of(SEED));
    assert_ne!(of(SEED), of([1, 3]));
    assert_ne!(of(SEED), crate::limits::LimitId::of("route\0shop\0GET /order", SEED));
}

#[test]
fn as_many_bits_of_an_address_count_as_are_said() {
    let table = Table::new(1, SEED, Instant::now());
    let of = |text: &str, prefix: u8| {
        let mut writer = table.writer();
        writer.address(text.parse().expect("an address"), prefix);
        writer.key()
    };
    for (prefix, same, other) in [
        (0, "ffff::", None),
        (32, "2001:db8:ffff::1", Some("2001:db9::1")),
        (56, "2001:db8:0:ff::1", Some("2001:db8:0:100::1")),
        (64, "2001:db8::ffff:1", Some("2001:db8:0:1::1")),
        (127, "2001:db8::", Some("2001:db8::2")),
        (128, "2001:db8::1", Some("2001:db8::")),
    ] {
        assert_eq!(of("2001:db8::1", prefix), of(same, prefix), "{prefix}");
        assert!(other.is_none_or(|other| of(other, prefix) != of("2001:db8::1", prefix)), "{prefix}");
        assert_eq!(of("192.0.2.1", prefix), of("::ffff:192.0.2.1", prefix));
        assert_ne!(of("192.0.2.1", prefix), of("192.0.2.2", prefix));
    }
}

#[test]
fn a_million_keys_take_no_more_than_100_bytes_each() {
    assert!(Table::bytes(1_000_000) <= 100_000_000, "{}", Table::bytes(1_000_000));
    assert!(Table::bytes(1) <= 256);
    let table = Table::new(100_000, SEED, Instant::now());
    assert_eq!(table.words[table.first..].as_ptr() as usize % BUCKET_BYTES, 0, "a bucket is two cache lines");
    assert!(table.words.len() * 8 <= Table::bytes(100_000));
}

#[test]
fn threads_that_take_and_give_back_leave_nothing_taken() {
    const THREADS: u64 = 4;
    let start = Instant::now();
    let (table, pace) = (Table::new(64, SEED, start), Pace::new(1, Duration::from_secs(1), 100).patient(10_000 * MS));
    let barrier = Barrier::new(THREADS as usize);
    let run = |thread: u64| {
        barrier.wait();
        for turn in 0..5_000 {
            let key = key(&table, (turn + thread) % 3);
            if table.take(key, 2, &pace, start).allowed {
                table.give_back(key, 2, &pace, start);
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(move || run(thread)))));
    for number in 0..3 {
        assert_eq!(table.peek(key(&table, number), &pace, start).remaining, 100, "{number}");
    }
}

proptest! {
    #[test]
    fn few_keys_have_what_a_bucket_of_tokens_would_give_each(
        count in 1u32..50, per in 1u64..5_000, burst in 1u32..10,
        steps in proptest::collection::vec((0u64..5, 1u32..4, 0u64..3_000, any::<bool>()), 1..200),
    ) {
        let start = Instant::now();
        let (table, pace) = (Table::new(64, SEED, start), Pace::new(count, Duration::from_millis(per), burst));
        // Nanoseconds of credit, and when it was counted.
        let mut model: HashMap<u64, (u64, u64)> = HashMap::new();
        let mut now = 0u64;
        for (number, cost, pause, back) in steps {
            now += pause * 1_000_003;
            let (credit, counted) = model.entry(number).or_insert((pace.burst, now));
            *credit = pace.burst.min(*credit + (now - *counted));
            *counted = now;
            let at = start + Duration::from_nanos(now);
            let price = pace.interval * u64::from(cost);
            prop_assert_eq!(table.peek(key(&table, number), &pace, at).allowed, *credit >= pace.interval);
            let verdict = table.take(key(&table, number), cost, &pace, at);
            prop_assert_eq!(verdict.allowed, *credit >= price);
            if verdict.allowed {
                *credit -= price;
                if back {
                    table.give_back(key(&table, number), cost, &pace, at);
                    *credit += price;
                }
            } else {
                prop_assert_eq!(verdict.retry_after(), Duration::from_nanos(price - *credit));
            }
        }
    }
}
