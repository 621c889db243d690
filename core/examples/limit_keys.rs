//! Takes once of a limit for each of so many keys that were never there, and says how long the longest of them took: `bench/` runs it. Judges nothing, and
//! knows no requests. The argument is the number of keys; the answer is JSON.

use maitred_core::Clock;
use maitred_core::limit_table::{Pace, Table};
use std::hint::black_box;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const KEYS: usize = 1_000_000;
/// None is forgotten before all are there, and none is refused because it shares the place of others.
const PER: Duration = Duration::from_secs(3600);

fn main() -> io::Result<()> {
    let keys = match std::env::args().nth(1).map(|text| text.parse()) {
        None => KEYS,
        Some(Ok(keys)) => keys,
        Some(Err(error)) => return Err(io::Error::other(error)),
    };
    let clock = Clock::default();
    let (table, pace) = (Table::new(keys, Table::random_seed(), clock.now()), Pace::new(1, PER, 1000));
    let with = times(&clock, keys, |name, now| black_box(table.take(table.key(name), 1, &pace, now)).allowed);
    // What the same loop takes that touches no table: the machine's own pauses.
    let without = times(&clock, keys, |name, now| black_box((table.key(name), now)).1 == now);
    let shared = table.figures().shared.load(Ordering::Relaxed);
    println!(
        r#"{{"keys":{keys},"bytes":{},"shared":{shared},"refused":{},"longest_ns":{},"longest_without_ns":{},"mean_ns":{}}}"#,
        Table::bytes(keys),
        with.refused,
        with.longest.as_nanos(),
        without.longest.as_nanos(),
        with.total.as_nanos() / keys.max(1) as u128,
    );
    Ok(())
}

struct Times {
    longest: Duration,
    total: Duration,
    refused: usize,
}

fn times(clock: &Clock, keys: usize, mut take: impl FnMut(&[u8], Instant) -> bool) -> Times {
    let (begun, mut longest, mut refused) = (clock.now(), Duration::ZERO, 0);
    for number in 0..keys {
        let now = clock.now();
        refused += usize::from(!take(format!("key-{number:012}").as_bytes(), now));
        longest = longest.max(now.elapsed());
    }
    Times { longest, total: begun.elapsed(), refused }
}
