//! So much in each period of the calendar: what is a period (`calendar`), how much of it was used (here), and whose that is (`accounts`). Refuses
//! nobody, and writes no file: it says whether there was enough, and what a store lacks.

pub mod accounts;
pub mod calendar;
#[cfg(test)]
mod tests;

pub use accounts::{Account, Accounts, Grant, Owed, Slot, SlotKey, Unkept};
pub use calendar::{Calendar, Period};

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a word for what was used; the rest are the number of the period. A trillion fits.
const USED_BITS: u32 = 40;
const USED_MAX: u64 = (1 << USED_BITS) - 1;

/// What was used in a period: exact over all threads, since both stand in one word. It turns by itself, with the first who comes in a new
/// period.
#[derive(Debug, Default)]
pub struct Meter {
    now: AtomicU64,
    /// What stood there before it turned, for whoever keeps what was used.
    before: AtomicU64,
}

/// A period by its number, and what was used in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    pub number: u64,
    pub used: u64,
}

impl Used {
    fn of(word: u64) -> Used {
        Used { number: word >> USED_BITS, used: word & USED_MAX }
    }

    fn word(self) -> u64 {
        self.number << USED_BITS | self.used.min(USED_MAX)
    }

    /// What counts in a period. A thread may have seen the turn before this one has; a clock that was put back by more than that begins anew.
    fn within(self, period: Period) -> Used {
        let ahead = self.number.checked_sub(period.number());
        match ahead {
            Some(ahead) if ahead <= period.steps() => self,
            Some(_) | None => Used { number: period.number(), used: 0 },
        }
    }
}

impl Meter {
    /// Takes so much if that is within `most`: what is used with it. `Err`: nothing was taken; what is used.
    pub fn spend(&self, period: Period, units: u64, most: u64) -> Result<u64, u64> {
        let most = most.min(USED_MAX);
        self.change(|used| {
            let used = used.within(period);
            let after = used.used.saturating_add(units);
            if after > most { Err(used.used) } else { Ok((Used { used: after, ..used }, after)) }
        })
    }

    pub fn used(&self, period: Period) -> u64 {
        self.now().within(period).used
    }

    /// What was taken in that period and not used.
    pub fn give_back(&self, period: Period, units: u64) {
        let _ = self.change(|used| {
            let is_current = used == used.within(period);
            if is_current { Ok((Used { used: used.used.saturating_sub(units), ..used }, ())) } else { Err(()) }
        });
    }

    /// Others, who count the same, say how much it is.
    pub fn learn(&self, period: Period, total: u64) {
        let _ = self.change(|used| {
            let used = used.within(period);
            Ok::<_, ()>((Used { used: total, ..used }, ()))
        });
    }

    /// What others used, or gave back, in a period that has not passed.
    fn adjust(&self, number: u64, by: i64) {
        let _ = self.change(|used| {
            let before = if used.number < number { 0 } else { used.used };
            let after = Used { number, used: before.saturating_add_signed(by) };
            if used.number > number { Err(()) } else { Ok((after, ())) }
        });
    }

    fn reset(&self) -> Used {
        let reset = self.change(|used| Ok::<_, Used>((Used { used: 0, ..used }, Used { used: 0, ..used })));
        reset.unwrap_or_else(|used| used)
    }

    fn now(&self) -> Used {
        Used::of(self.now.load(Ordering::Acquire))
    }

    fn before(&self) -> Used {
        Used::of(self.before.load(Ordering::Acquire))
    }

    fn change<T, E>(&self, to: impl Fn(Used) -> Result<(Used, T), E>) -> Result<T, E> {
        let mut word = self.now.load(Ordering::Acquire);
        loop {
            let before = Used::of(word);
            let (after, told) = to(before)?;
            // Fails only where another thread has changed it: one of them always gets on.
            match self.now.compare_exchange_weak(word, after.word(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if before.number != after.number {
                        self.before.store(word, Ordering::Release);
                    }
                    return Ok(told);
                }
                Err(other) => word = other,
            }
        }
    }
}
