//! Signatures that were used: each counts once, whichever worker it comes to. What is remembered is what was signed and by whom, not the
//! signature's own bytes, since ECDSA's can be altered and still fit. Bounded: when there is no room, nobody new comes in.

use std::collections::HashSet;
use std::sync::Mutex; // tidy-allow: lock, because it is taken behind the verification of a signature, which costs a hundred times as much
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Workers that ask at the same moment rarely ask for the same one.
const SHARDS: usize = 64;

/// Signatures of one period of memory (`max_age` and the leeway: 330 s by default), and of two at most: 3,000 requests a second, in 72 MiB
/// when full.
const PERIOD_MAX: usize = 1 << 20;
const SHARD_MAX: usize = PERIOD_MAX / SHARDS;

/// There is no room to remember another.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

pub struct Seen {
    // tidy-allow: lock, because it is taken behind the verification of a signature, which costs a hundred times as much
    shards: Box<[Mutex<Shard>]>,
    /// In milliseconds: for so long at least each is remembered.
    period: AtomicU64,
}

#[derive(Default)]
struct Shard {
    /// When the current period began.
    began: Option<Instant>,
    current: HashSet<u128>,
    /// Of the period before.
    previous: HashSet<u128>,
}

impl Default for Seen {
    fn default() -> Seen {
        // tidy-allow: lock, because it is made where configurations are loaded
        Seen { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), period: AtomicU64::new(0) }
    }
}

impl Seen {
    /// From now on each is remembered for so long, or longer where that was asked for before.
    pub fn remember_for(&self, period: Duration) {
        let millis = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        self.period.fetch_max(millis, Ordering::Relaxed);
    }

    /// Whether that was never seen; it is from now on. Of several who ask at once, one is told so.
    pub fn is_new(&self, key_id: &str, base: &[u8], now: Instant) -> Result<bool, Full> {
        let fingerprint = fingerprint(key_id, base);
        let period = Duration::from_millis(self.period.load(Ordering::Relaxed));
        let mut shard = self.shards[fingerprint as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let old = shard.turn(now, period);
        let is_known = shard.current.contains(&fingerprint) || shard.previous.contains(&fingerprint);
        let is_full = shard.current.len() >= SHARD_MAX;
        let answer = match (is_known, is_full) {
            (true, _) => Ok(false),
            (false, true) => Err(Full),
            (false, false) => Ok(shard.current.insert(fingerprint)),
        };
        drop(shard);
        // Freed where nobody waits for the lock.
        drop(old);
        answer
    }
}

impl Shard {
    /// Begins a new period where the current one is over. Gives what is forgotten.
    fn turn(&mut self, now: Instant, period: Duration) -> Option<(HashSet<u128>, HashSet<u128>)> {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age < period {
            return None;
        }
        self.began = Some(now);
        let current = std::mem::take(&mut self.current);
        if age >= 2 * period {
            return Some((current, std::mem::take(&mut self.previous)));
        }
        Some((std::mem::replace(&mut self.previous, current), HashSet::new()))
    }
}

fn fingerprint(key_id: &str, base: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key_id.len() as u64).to_le_bytes());
    hasher.update(key_id.as_bytes());
    hasher.update(base);
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    const PERIOD: Duration = Duration::from_secs(330);

    fn seen() -> Seen {
        let seen = Seen::default();
        seen.remember_for(PERIOD);
        seen
    }

    #[test]
    fn each_is_new_once_for_a_whole_period_whenever_it_came() {
        let (seen, start) = (seen(), Instant::now());
        let mut now = start;
        for at in 0u32..40 {
            let base = at.to_le_bytes();
            assert_eq!(seen.is_new("a", &base, now), Ok(true));
            for after in [Duration::ZERO, PERIOD / 3, PERIOD - Duration::from_millis(1)] {
                assert_eq!(seen.is_new("a", &base, now + after), Ok(false), "{at} {after:?}");
            }
            now += PERIOD + PERIOD / 7;
        }
    }

    #[test]
    fn another_key_and_another_base_are_others() {
        let (seen, now) = (seen(), Instant::now());
        for (key, base) in [("a", "b"), ("", "ab"), ("ab", ""), ("b", "a")] {
            assert_eq!(seen.is_new(key, base.as_bytes(), now), Ok(true));
        }
    }

    #[test]
    fn when_there_is_no_room_nobody_new_comes_in_until_the_old_are_forgotten() {
        let (seen, now) = (seen(), Instant::now());
        let shard = fingerprint("a", b"x") as usize % SHARDS;
        seen.shards[shard].lock().unwrap().current = (0..SHARD_MAX as u128).collect();
        assert_eq!(seen.is_new("a", b"x", now), Err(Full));
        assert_eq!(seen.is_new("a", b"x", now + PERIOD), Ok(true));
        assert_eq!(seen.is_new("a", b"x", now + PERIOD), Ok(false));
    }

    #[test]
    fn of_many_who_ask_at_once_one_is_first() {
        const THREADS: usize = 8;
        let (seen, now) = (seen(), Instant::now());
        let (barrier, firsts) = (Barrier::new(THREADS), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    for at in 0u32..1000 {
                        let is_new = seen.is_new("a", &at.to_le_bytes(), now).unwrap();
                        firsts.fetch_add(usize::from(is_new), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(firsts.into_inner(), 1000);
    }
}
