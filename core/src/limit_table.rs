//! How often something was done, by key: one table of fixed size, shared by all workers, in which each key is one time (GCRA, the
//! virtual scheduling of ITU-T I.371). Pure: takes `now`, waits for nobody, and knows neither HTTP nor whose keys these are.
//!
//! A key may be in any of eight places of its bucket. A place whose time has passed is free: the key that had it has everything to
//! its credit again, which is what a key that is not there has. If all eight are taken by others, the key shares the place of
//! the strictest of them: a flood of keys makes limits tighter and never wider.
//!
//! Exact for a key that keeps its place. Where two threads take a key's first unit at the same moment, and time frees a place of its bucket
//! between them, a third may take one unit that is forgotten. And where a key comes back in the very moment in which another has its place, and
//! a second time before the other has seen that and left, it may have twice what it should.

mod sip;
#[cfg(test)]
mod tests;

use crate::address::ipv6_network;
use sip::Sip;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Places of one bucket: a cache line of keys, and one of their times.
const WAYS: usize = 8;
const BUCKET_WORDS: usize = 2 * WAYS;
const BUCKET_BYTES: usize = BUCKET_WORDS * size_of::<u64>();
/// Times that a place is looked for anew because others moved in between. More than that, and the key shares.
const TURNS: usize = 16;
/// A little more than a pace's most is no more: threads look at the clock at different moments, and whoever looked first must not forgive what is
/// there for who looked later. In nanoseconds.
const CLOCKS_APART: u64 = 1_000_000_000;
/// How far a table's own time may lag behind whoever looked last. Short beside `CLOCKS_APART`, and long enough that threads seldom write it.
const TABLE_TICK: u64 = 100_000_000;
/// Bits of an IPv6 address that count where nothing else is said: of a /64 whoever has one has all.
const IPV6_PREFIX: u8 = 64;

/// So often, and so many at once. All in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// What each unit takes, and what all of a burst take.
    interval: u64,
    burst: u64,
    /// How long a unit may be waited for.
    patience: u64,
    /// Whoever owes more than this counts as owing just that.
    most: u64,
}

impl Pace {
    /// `count` in each `per`, and `burst` at once from who has rested. Of an interval that is no whole number of nanoseconds the next one
    /// is taken: nobody gets more than is written.
    pub fn new(count: u32, per: Duration, burst: u32) -> Pace {
        let interval = nanos(per).div_ceil(u64::from(count.max(1))).max(1);
        let burst = interval.saturating_mul(u64::from(burst));
        Pace { interval, burst, patience: 0, most: burst }
    }

    /// What is not there yet is taken all the same, where it comes within so long: whoever takes it waits for it.
    pub fn patient(self, patience: Duration) -> Pace {
        let patience = nanos(patience);
        Pace { patience, most: self.most.max(self.burst.saturating_add(patience)), ..self }
    }

    /// What was used already may be owed, up to so many bursts.
    pub fn owing(self, bursts: u64) -> Pace {
        Pace { most: self.most.max(self.burst.saturating_mul(bursts)), ..self }
    }

    /// Units at once.
    pub fn burst(&self) -> u32 {
        self.units(self.burst)
    }

    /// How long a burst takes to come back.
    pub fn window(&self) -> Duration {
        Duration::from_nanos(self.burst)
    }

    /// Interval, burst, patience and the most that is owed, in nanoseconds: for counts that are kept elsewhere.
    pub fn nanos(&self) -> [u64; 4] {
        [self.interval, self.burst, self.patience, self.most]
    }

    #[inline]
    fn units(&self, nanos: u64) -> u32 {
        u32::try_from(nanos / self.interval).unwrap_or(u32::MAX)
    }

    /// What is owed `owed` nanoseconds before it is paid for, once `cost` units more are taken; all or none.
    #[inline]
    fn judge(&self, owed: u64, cost: u32) -> Result<u64, Verdict> {
        let after = owed.saturating_add(self.interval.saturating_mul(u64::from(cost)));
        let most = self.burst.saturating_add(self.patience);
        if after <= most { Ok(after) } else { Err(self.refused(owed, after - most)) }
    }

    #[cold]
    fn refused(&self, owed: u64, retry_nanos: u64) -> Verdict {
        Verdict { allowed: false, retry_nanos, ..self.granted(owed) }
    }

    /// Of a key that owes so much after what was allowed.
    #[inline]
    fn granted(&self, owed: u64) -> Verdict {
        Verdict {
            allowed: true,
            retry_nanos: owed.saturating_sub(self.burst),
            remaining: self.units(self.burst.saturating_sub(owed)),
            full_nanos: owed,
        }
    }
}

/// What a key may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    pub allowed: bool,
    /// Where it is not: in how long as much would be; what is more than a burst never is. Where it is: in how long its turn comes, zero unless the
    /// pace is patient. In nanoseconds.
    pub retry_nanos: u64,
    /// Units that are left, after those that were taken.
    pub remaining: u32,
    /// In how many nanoseconds all of a burst is there again.
    pub full_nanos: u64,
}

impl Verdict {
    pub fn retry_after(&self) -> Duration {
        Duration::from_nanos(self.retry_nanos)
    }

    pub fn full_in(&self) -> Duration {
        Duration::from_nanos(self.full_nanos)
    }

    /// The same after `cost` units in place of `taken` ones, for those who are told what is left.
    pub fn corrected(self, taken: u32, cost: u32, pace: &Pace) -> Verdict {
        let nanos = |units: u32| pace.interval.saturating_mul(u64::from(units));
        let remaining = self.remaining.saturating_add(taken).min(pace.burst()).saturating_sub(cost);
        let full_nanos = self.full_nanos.saturating_sub(nanos(taken)).saturating_add(nanos(cost)).min(pace.most);
        Verdict { remaining, full_nanos, ..self }
    }
}

/// A keyed fingerprint of what is limited; 0 is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Key(u64);

impl Key {
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Makes a key of several parts, and of nothing else: each is told with its length, so that no two keys of as many parts run together.
#[derive(Debug, Clone, Copy)]
pub struct KeyWriter(Sip);

impl KeyWriter {
    pub fn new(seed: [u64; 2]) -> KeyWriter {
        KeyWriter(Sip::new(seed))
    }

    #[inline]
    pub fn word(&mut self, word: u64) {
        self.0.word(word);
    }

    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.0.word(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.0.word(u64::from_le_bytes(word));
        }
    }

    /// Of a client: an IPv4 address, or the first bits of an IPv6 one.
    #[inline]
    pub fn address(&mut self, address: IpAddr, ipv6_prefix: u8) {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.0.word(u64::from(v4.to_bits()) | 4 << 32),
            IpAddr::V6(v6) => *self = self.network(v6, ipv6_prefix),
        }
    }

    #[inline(never)]
    fn network(mut self, address: Ipv6Addr, prefix: u8) -> KeyWriter {
        let network = ipv6_network(address, prefix).to_bits();
        // No IPv4 address begins like that.
        self.0.word(6 << 32);
        self.0.word((network >> 64) as u64);
        if prefix > 64 {
            self.0.word(network as u64);
        }
        self
    }

    #[inline]
    pub fn key(self) -> Key {
        // 0 is nobody.
        Key(self.0.finish().max(1))
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

#[derive(Debug)]
pub struct Table {
    /// Buckets, one after the other: eight keys, of which 0 is nobody's yet, then for each the nanoseconds since the table's beginning at
    /// which all that was taken is paid for; 0: nothing was.
    words: Box<[AtomicU64]>,
    /// Where the first bucket is: a bucket is two cache lines, and not three.
    first: usize,
    /// 2^n of them.
    buckets: usize,
    /// What keys of this table begin with.
    writer: KeyWriter,
    epoch: Instant,
    /// The latest moment that anybody came with, give or take a tick.
    latest: AtomicU64,
    figures: Arc<TableFigures>,
}

impl Table {
    /// For `keys_max` keys at a time; see `bytes`. `seed` is nobody's to know: who can tell which keys share a bucket can fill it.
    pub fn new(keys_max: usize, seed: [u64; 2], now: Instant) -> Table {
        let buckets = buckets(keys_max);
        let words = zeroed((buckets + 1) * BUCKET_WORDS);
        // The end of the room for one bucket more is what is left of it.
        let first = words.as_ptr().align_offset(BUCKET_BYTES).min(BUCKET_WORDS);
        Table {
            words,
            first,
            buckets,
            writer: KeyWriter::new(seed),
            epoch: now,
            latest: AtomicU64::new(0),
            figures: Arc::default(),
        }
    }

    /// What a table for so many keys may come to take. The system gives it page by page, as keys come.
    pub fn bytes(keys_max: usize) -> usize {
        (buckets(keys_max) + 1) * BUCKET_BYTES
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

    /// For keys of several parts.
    #[inline]
    pub fn writer(&self) -> KeyWriter {
        self.writer
    }

    pub fn key(&self, bytes: &[u8]) -> Key {
        let mut writer = self.writer();
        writer.bytes(bytes);
        writer.key()
    }

    /// Of a client: an IPv4 address, or the /64 of an IPv6 one, of which whoever has one has all.
    pub fn address_key(&self, address: IpAddr) -> Key {
        let mut writer = self.writer();
        writer.address(address, IPV6_PREFIX);
        writer.key()
    }

    /// Whether one unit could be taken. Takes none.
    pub fn peek(&self, key: Key, pace: &Pace, now: Instant) -> Verdict {
        let now = self.time(now);
        let bucket = self.bucket(key);
        let place = bucket.of(key).or_else(|| bucket.free(now).is_none().then(|| self.strictest(bucket)));
        let owed = place.map_or(0, |place| owed(bucket.untils[place].load(Ordering::Acquire), pace, now));
        match pace.judge(owed, 1) {
            Ok(_) => pace.granted(owed),
            Err(refused) => self.told(refused),
        }
    }

    /// Takes `cost` units, all or none.
    #[inline]
    pub fn take(&self, key: Key, cost: u32, pace: &Pace, now: Instant) -> Verdict {
        let now = self.time(now);
        let bucket = self.bucket(key);
        if let Some(place) = bucket.of(key) {
            let verdict = charge(&bucket.untils[place], cost, pace, now);
            // Somebody may have moved in between: then it was charged to them, and this key pays elsewhere.
            if bucket.is_at(place, key) {
                return self.told(verdict);
            }
        }
        self.take_elsewhere(bucket, key, cost, pace, now)
    }

    /// Where the key has no place, or had one.
    #[cold]
    fn take_elsewhere(&self, bucket: Bucket<'_>, key: Key, cost: u32, pace: &Pace, now: u64) -> Verdict {
        for _ in 0..TURNS {
            let Some(place) = bucket.place(key, now) else { break };
            let verdict = charge(&bucket.untils[place], cost, pace, now);
            // As above.
            if bucket.is_at(place, key) {
                return self.told(verdict);
            }
        }
        self.told(charge(&bucket.untils[self.strictest(bucket)], cost, pace, now))
    }

    /// Takes what was used already, also where the burst has no room for it: it is owed, as far as the pace has it.
    pub fn owe(&self, key: Key, cost: u32, pace: &Pace, now: Instant) {
        let now = self.time(now);
        let bucket = self.bucket(key);
        let cost = pace.interval.saturating_mul(u64::from(cost));
        let later = |until: u64| Some(now.saturating_add(owed(until, pace, now).saturating_add(cost).min(pace.most)));
        let owe = |place: usize| bucket.untils[place].fetch_update(Ordering::SeqCst, Ordering::Acquire, later);
        for _ in 0..TURNS {
            let Some(place) = bucket.place(key, now) else { break };
            let _ = owe(place);
            // As where it is taken.
            if bucket.is_at(place, key) {
                return;
            }
        }
        let _ = owe(self.strictest(bucket));
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&self, key: Key, cost: u32, pace: &Pace, now: Instant) {
        let now = self.time(now);
        let bucket = self.bucket(key);
        let back = pace.interval.saturating_mul(u64::from(cost));
        for _ in 0..TURNS {
            let Some(place) = bucket.of(key) else { return };
            if bucket.forgive(place, key, back, pace, now) {
                return;
            }
        }
    }

    #[inline]
    fn told(&self, verdict: Verdict) -> Verdict {
        if !verdict.allowed {
            self.figures.refused.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    fn strictest(&self, bucket: Bucket<'_>) -> usize {
        self.figures.shared.fetch_add(1, Ordering::Relaxed);
        bucket.strictest_of(u32::MAX)
    }

    /// What a table makes of a moment; one after its beginning is never 0. Whoever comes with one that has long passed comes now: what others took
    /// since would look like more than the pace lets anybody owe, and be forgiven.
    #[inline]
    fn time(&self, now: Instant) -> u64 {
        let now = nanos(now.saturating_duration_since(self.epoch)).saturating_add(1);
        let latest = self.latest.load(Ordering::Acquire);
        if now > latest.saturating_add(TABLE_TICK) {
            self.latest.fetch_max(now, Ordering::AcqRel);
        }
        now.max(latest)
    }

    #[inline]
    fn bucket(&self, key: Key) -> Bucket<'_> {
        let index = (key.0 >> 32) as usize & (self.buckets - 1);
        let from = self.first + index * BUCKET_WORDS;
        let words = &self.words[from..from + BUCKET_WORDS];
        let (Some(keys), Some(untils)) = (words.first_chunk(), words.last_chunk()) else { unreachable!("a bucket has 16 words") };
        Bucket { keys, untils }
    }
}

/// 2^n buckets. Half full, a bucket runs over twice in a hundred.
fn buckets(keys_max: usize) -> usize {
    keys_max.max(1).saturating_mul(2).div_ceil(WAYS).next_power_of_two()
}

/// As the system gives memory: zeroed, and none of it there before it is touched. A loop that writes zeros would touch it all, and so would
/// the allocator for anything that asks for more alignment than usual.
fn zeroed(words: usize) -> Box<[AtomicU64]> {
    const { assert!(align_of::<u64>() == align_of::<AtomicU64>()) };
    let words = Box::into_raw(vec![0u64; words].into_boxed_slice());
    // SAFETY: the pointer comes from a box that is not used any more; an atomic has the size and the bits of its number (its documentation says
    // so) and, as asserted, the alignment.
    unsafe { Box::from_raw(words as *mut [AtomicU64]) }
}

/// What a key that has paid for all at `until` owes now, in nanoseconds.
#[inline]
fn owed(until: u64, pace: &Pace, now: u64) -> u64 {
    let owed = until.saturating_sub(now);
    if owed > pace.most.saturating_add(CLOCKS_APART) { pace.most } else { owed }
}

#[derive(Clone, Copy)]
struct Bucket<'a> {
    keys: &'a [AtomicU64; WAYS],
    untils: &'a [AtomicU64; WAYS],
}

impl Bucket<'_> {
    /// Where the key is, a bit for each place.
    #[inline]
    fn places(self, key: Key) -> u32 {
        let mut places = 0;
        for (place, own) in self.keys.iter().enumerate() {
            places |= u32::from(own.load(Ordering::Acquire) == key.0) << place;
        }
        places
    }

    /// Asked after a place was charged: in one order with whoever takes it for another key, so that one of both sees the other.
    #[inline]
    fn is_at(self, place: usize, key: Key) -> bool {
        self.keys[place].load(Ordering::SeqCst) == key.0
    }

    /// Takes `back` off what the key owes there. Not where somebody has moved in meanwhile: they owe what they did.
    fn forgive(self, place: usize, key: Key, back: u64, pace: &Pace, now: u64) -> bool {
        let until = &self.untils[place];
        let earlier = |until: u64| match owed(until, pace, now) {
            0 => None,
            owed => Some(now.saturating_add(owed.saturating_sub(back))),
        };
        let Ok(before) = until.fetch_update(Ordering::SeqCst, Ordering::Acquire, earlier) else { return true };
        if self.is_at(place, key) {
            return true;
        }
        let taken_off = owed(before, pace, now).min(back);
        until.fetch_add(taken_off, Ordering::SeqCst);
        false
    }

    /// Where the key is. In two places at once it counts where it owes more.
    #[inline]
    fn of(self, key: Key) -> Option<usize> {
        match self.places(key) {
            0 => None,
            one if one.is_power_of_two() => Some(one.trailing_zeros() as usize),
            several => Some(self.strictest_of(several)),
        }
    }

    /// The first of those that owe most: all threads shall mean the same one.
    fn strictest_of(self, places: u32) -> usize {
        let until = |place: usize| self.untils[place].load(Ordering::Acquire);
        let mut among = (0..WAYS).filter(|place| places >> place & 1 == 1);
        let first = among.next().unwrap_or(0);
        among.fold(first, |strictest, place| if until(place) > until(strictest) { place } else { strictest })
    }

    /// A place that nobody needs, one that nobody ever had first: so threads that look at the same time find the same one.
    fn free(self, now: u64) -> Option<(usize, u64)> {
        let mut passed = None;
        for place in 0..WAYS {
            let key = self.keys[place].load(Ordering::Acquire);
            if key == 0 {
                return Some((place, key));
            }
            if passed.is_none() && self.untils[place].load(Ordering::Acquire) <= now {
                passed = Some((place, key));
            }
        }
        passed
    }

    /// Takes a place that was `before`'s, unless that one is back.
    fn move_in(self, key: Key, free: usize, before: u64, now: u64) -> bool {
        if self.keys[free].compare_exchange(before, key.0, Ordering::SeqCst, Ordering::Acquire).is_err() {
            return false;
        }
        // Charged since it was found free: what its owner owes is not this key's, and shall not be forgotten.
        let is_back = before != 0 && self.untils[free].load(Ordering::SeqCst) > now;
        if is_back {
            let _ = self.keys[free].compare_exchange(key.0, before, Ordering::SeqCst, Ordering::Acquire);
        }
        !is_back
    }

    /// The key's place, taken for it if it has none. `None`: all are others'.
    fn place(self, key: Key, now: u64) -> Option<usize> {
        for _ in 0..TURNS {
            if let Some(own) = self.of(key) {
                return Some(own);
            }
            let (free, before) = self.free(now)?;
            if !self.move_in(key, free, before, now) {
                continue;
            }
            let is_alone = self.keys.iter().filter(|own| own.load(Ordering::SeqCst) == key.0).count() == 1;
            if is_alone {
                return Some(free);
            }
            // Another thread found it another place: both move out, and meet in the first that nobody has.
            let _ = self.keys[free].compare_exchange(key.0, 0, Ordering::SeqCst, Ordering::Acquire);
        }
        None
    }
}

/// Takes `cost` from whoever has the place.
#[inline]
fn charge(place: &AtomicU64, cost: u32, pace: &Pace, now: u64) -> Verdict {
    let mut before = place.load(Ordering::Acquire);
    loop {
        let owes = owed(before, pace, now);
        let after = match pace.judge(owes, cost) {
            Ok(after) => after,
            Err(refused) => {
                // The pace has changed: what is owed counts from now on as what it lets be owed.
                if owes < before.saturating_sub(now) {
                    let _ = place.compare_exchange(before, now.saturating_add(owes), Ordering::AcqRel, Ordering::Acquire);
                }
                return refused;
            }
        };
        // Fails only where another thread has taken something: one of them always gets on.
        match place.compare_exchange_weak(before, now.saturating_add(after), Ordering::SeqCst, Ordering::Acquire) {
            Ok(_) => return pace.granted(after),
            Err(other) => before = other,
        }
    }
}

#[inline]
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}
