//! How often something was done, by key: one table of fixed size, shared by all workers, in which each key is one time (GCRA, the
//! virtual scheduling of ITU-T I.371). Pure: takes `now`, waits for nobody, and knows neither HTTP nor whose keys these are.
//!
//! A key may be in any of eight places of its bucket. A place whose time has passed is free: the key that had it has everything to
//! its credit again, which is what a key that is not there has. If all eight are taken by others, the key shares the place of
//! the strictest of them: a flood of keys makes limits tighter and never wider.
//!
//! Exact for a key that keeps its place. Where two threads take a key's first unit at the same moment, and time frees a place of its bucket
//! between them, a third may take one unit that is forgotten.

#[expect(deprecated, reason = "the keyed SipHash of the standard library; its successor cannot be given a key")]
use std::hash::SipHasher;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Places of one bucket: two cache lines.
const WAYS: usize = 8;
/// Times that a place is looked for anew because others moved in between. More than that, and the key shares.
const TURNS: usize = 16;

/// So often, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds that each unit takes, and what all of a burst take.
    interval: u64,
    burst: u64,
}

impl Pace {
    /// `count` in each `per`, and `burst` at once from who has rested. Of an interval that is no whole number of nanoseconds the next one
    /// is taken: nobody gets more than is written.
    pub fn new(count: u32, per: Duration, burst: u32) -> Pace {
        let interval = nanos(per).div_ceil(u64::from(count.max(1))).max(1);
        Pace { interval, burst: interval.saturating_mul(u64::from(burst)) }
    }

    /// Units at once.
    pub fn burst(&self) -> u32 {
        self.units(self.burst)
    }

    /// Nanoseconds that one unit takes.
    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// Nanoseconds that all of a burst take.
    pub fn burst_nanos(&self) -> u64 {
        self.burst
    }

    fn units(&self, nanos: u64) -> u32 {
        u32::try_from(nanos / self.interval).unwrap_or(u32::MAX)
    }
}

/// What a key may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    /// When as much would be allowed; zero where it is. What is more than a burst never is.
    pub retry_after: Duration,
    /// Units that are left, after this one where it was taken.
    pub remaining: u32,
}

/// A keyed fingerprint of what is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// What it is called elsewhere.
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// What the tables of a process count together, for `/metrics`.
#[derive(Debug, Default)]
pub struct TableFigures {
    /// Asked and not allowed.
    pub refused: AtomicU64,
    /// Of all that was asked, what shared the place of another key.
    pub shared: AtomicU64,
}

#[derive(Debug, Default)]
struct Place {
    /// Whose it is; 0: nobody's yet.
    key: AtomicU64,
    /// Nanoseconds since the table's beginning at which all that was taken is paid for; 0: nothing was.
    until: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Bucket([Place; WAYS]);

#[derive(Debug)]
pub struct Table {
    buckets: Box<[Bucket]>,
    seed: [u64; 2],
    epoch: Instant,
    figures: Arc<TableFigures>,
}

impl Table {
    /// For `keys_max` keys at a time, 32 bytes each. `seed` is nobody's to know: who can tell which keys share a bucket can fill it.
    pub fn new(keys_max: usize, seed: [u64; 2], now: Instant) -> Table {
        // Half full, a bucket runs over twice in a hundred.
        let buckets = (keys_max.max(1) * 2).div_ceil(WAYS).next_power_of_two();
        let buckets = (0..buckets).map(|_| Bucket::default()).collect();
        Table { buckets, seed, epoch: now, figures: Arc::default() }
    }

    /// Of the system's randomness.
    pub fn random_seed() -> [u64; 2] {
        // The standard library keys its hashers by it.
        [(); 2].map(|()| RandomState::new().build_hasher().finish())
    }

    /// Counts there from now on.
    pub fn counted_by(self, figures: Arc<TableFigures>) -> Table {
        Table { figures, ..self }
    }

    pub fn figures(&self) -> &TableFigures {
        &self.figures
    }

    pub fn key(&self, bytes: &[u8]) -> Key {
        #[expect(deprecated, reason = "as above")]
        let mut hasher = SipHasher::new_with_keys(self.seed[0], self.seed[1]);
        hasher.write(bytes);
        // 0 is nobody.
        Key(hasher.finish().max(1))
    }

    /// Of a client: an IPv4 address, or the /64 of an IPv6 one, of which whoever has one has all.
    pub fn address_key(&self, address: IpAddr) -> Key {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.key(&v4.octets()),
            IpAddr::V6(v6) => self.key(&v6.octets()[..8]),
        }
    }

    /// Whether one unit could be taken. Takes none.
    pub fn peek(&self, key: Key, pace: &Pace, now: Instant) -> Verdict {
        let now = self.time(now);
        let bucket = self.bucket(key);
        let place = bucket.of(key).or_else(|| bucket.free(now).is_none().then(|| self.strictest(bucket)));
        let until = place.map_or(0, |place| place.until.load(Ordering::Acquire));
        match judge(until, 1, pace, now) {
            Ok((_, verdict)) => Verdict { remaining: verdict.remaining.saturating_add(1), ..verdict },
            Err(refused) => self.told(refused),
        }
    }

    /// Takes `cost` units, all or none.
    pub fn take(&self, key: Key, cost: u32, pace: &Pace, now: Instant) -> Verdict {
        let now = self.time(now);
        let bucket = self.bucket(key);
        for _ in 0..TURNS {
            let Some(place) = bucket.place(key, now) else { break };
            let verdict = charge(place, cost, pace, now);
            // Somebody may have moved in between: then it was charged to them, and this key pays elsewhere.
            if place.key.load(Ordering::Acquire) == key.0 {
                return self.told(verdict);
            }
        }
        self.told(charge(self.strictest(bucket), cost, pace, now))
    }

    /// Takes what was used already, also where the burst has no room for it: it is owed. No more than so many bursts are.
    pub fn owe(&self, key: Key, cost: u32, pace: &Pace, now: Instant, bursts: u64) {
        let now = self.time(now);
        let bucket = self.bucket(key);
        let place = bucket.place(key, now).unwrap_or_else(|| self.strictest(bucket));
        let cost = pace.interval.saturating_mul(u64::from(cost));
        let most = now.saturating_add(pace.burst.saturating_mul(bursts));
        let owed = |until: u64| Some(until.max(now).saturating_add(cost).min(most.max(until)));
        let _ = place.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, owed);
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&self, key: Key, cost: u32, pace: &Pace, now: Instant) {
        let now = self.time(now);
        let Some(place) = self.bucket(key).of(key) else { return };
        let back = pace.interval.saturating_mul(u64::from(cost));
        let earlier = |until: u64| (until > now).then(|| until.saturating_sub(back));
        let _ = place.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, earlier);
    }

    fn told(&self, verdict: Verdict) -> Verdict {
        if !verdict.allowed {
            self.figures.refused.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    fn strictest<'a>(&self, bucket: &'a Bucket) -> &'a Place {
        self.figures.shared.fetch_add(1, Ordering::Relaxed);
        let [first, rest @ ..] = &bucket.0;
        let until = |place: &Place| place.until.load(Ordering::Acquire);
        rest.iter().fold(first, |strictest, place| if until(place) > until(strictest) { place } else { strictest })
    }

    /// What a table makes of a moment; one after its beginning is never 0.
    fn time(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch)).saturating_add(1)
    }

    fn bucket(&self, key: Key) -> &Bucket {
        // There are 2^n of them.
        &self.buckets[(key.0 >> 32) as usize & (self.buckets.len() - 1)]
    }
}

impl Bucket {
    /// Where the key is. In two places at once it counts where it owes more.
    fn of(&self, key: Key) -> Option<&Place> {
        let own = self.0.iter().filter(|place| place.key.load(Ordering::Acquire) == key.0);
        // The first of those that owe as much: all threads shall mean the same one.
        own.rev().max_by_key(|place| place.until.load(Ordering::Acquire))
    }

    /// A place that nobody needs, one that nobody ever had first: so threads that look at the same time find the same one.
    fn free(&self, now: u64) -> Option<(&Place, u64)> {
        let mut passed = None;
        for place in &self.0 {
            let key = place.key.load(Ordering::Acquire);
            if key == 0 {
                return Some((place, key));
            }
            if passed.is_none() && place.until.load(Ordering::Acquire) <= now {
                passed = Some((place, key));
            }
        }
        passed
    }

    /// The key's place, taken for it if it has none. `None`: all are others'.
    fn place(&self, key: Key, now: u64) -> Option<&Place> {
        for _ in 0..TURNS {
            if let Some(own) = self.of(key) {
                return Some(own);
            }
            let (free, before) = self.free(now)?;
            if free.key.compare_exchange(before, key.0, Ordering::SeqCst, Ordering::Acquire).is_err() {
                continue;
            }
            let is_alone = self.0.iter().filter(|place| place.key.load(Ordering::SeqCst) == key.0).count() == 1;
            if is_alone {
                return Some(free);
            }
            // Another thread found it another place: both move out, and meet in the first that nobody has.
            let _ = free.key.compare_exchange(key.0, 0, Ordering::SeqCst, Ordering::Acquire);
        }
        None
    }
}

/// Takes `cost` from whoever has the place.
fn charge(place: &Place, cost: u32, pace: &Pace, now: u64) -> Verdict {
    let mut before = place.until.load(Ordering::Acquire);
    loop {
        let (until, verdict) = match judge(before, cost, pace, now) {
            Ok(granted) => granted,
            Err(refused) => return refused,
        };
        // Fails only where another thread has taken something: one of them always gets on.
        match place.until.compare_exchange_weak(before, until, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return verdict,
            Err(other) => before = other,
        }
    }
}

/// `Ok`: until when it is all paid for after `cost` more, and the verdict.
fn judge(until: u64, cost: u32, pace: &Pace, now: u64) -> Result<(u64, Verdict), Verdict> {
    let from = until.max(now);
    let cost = pace.interval.saturating_mul(u64::from(cost));
    let after = from.saturating_add(cost);
    let owed = after - now;
    if owed <= pace.burst {
        let remaining = pace.units(pace.burst - owed);
        return Ok((after, Verdict { allowed: true, retry_after: Duration::ZERO, remaining }));
    }
    let remaining = pace.units(pace.burst.saturating_sub(from - now));
    Err(Verdict { allowed: false, retry_after: Duration::from_nanos(owed - pace.burst), remaining })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Barrier;

    const SEED: [u64; 2] = [1, 2];
    const MS: Duration = Duration::from_millis(1);

    fn key(table: &Table, number: u64) -> Key {
        table.key(&number.to_le_bytes())
    }

    #[test]
    fn a_burst_at_once_and_then_as_time_gives() {
        let start = Instant::now();
        let (table, pace) = (Table::new(100, SEED, start), Pace::new(10, Duration::from_secs(1), 3));
        let key = key(&table, 1);
        for (at, allowed, wait, remaining) in [
            (0, true, 0, 2),
            (0, true, 0, 1),
            (0, true, 0, 0),
            (0, false, 100, 0),
            (99, false, 1, 0),
            (100, true, 0, 0),
            (350, true, 0, 1),
            (350, true, 0, 0),
            (350, false, 50, 0),
            (10_000, true, 0, 2),
        ] {
            let verdict = table.take(key, 1, &pace, start + at * MS);
            assert_eq!(verdict, Verdict { allowed, retry_after: wait * MS, remaining }, "at {at} ms");
        }
    }

    #[test]
    fn to_look_takes_nothing_and_what_is_given_back_is_there_again() {
        let start = Instant::now();
        let (table, pace) = (Table::new(100, SEED, start), Pace::new(1, Duration::from_secs(60), 2));
        let key = key(&table, 1);
        for _ in 0..5 {
            assert_eq!(table.peek(key, &pace, start), Verdict { allowed: true, retry_after: Duration::ZERO, remaining: 2 });
        }
        assert!(table.take(key, 2, &pace, start).allowed);
        assert_eq!(table.peek(key, &pace, start).retry_after, Duration::from_secs(60));
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
        let table = Table { buckets: Box::new([Bucket::default()]), ..Table::new(1, SEED, start) };
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
                    prop_assert_eq!(verdict.retry_after, Duration::from_nanos(price - *credit));
                }
            }
        }
    }
}
