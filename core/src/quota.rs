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
    /// What was used while others, who count the same, could not be asked: they do not know of it yet.
    alone: AtomicU64,
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

    /// The same where others, who count the same, do not answer: they are to be told of it.
    pub fn spend_alone(&self, period: Period, units: u64, most: u64) -> Result<u64, u64> {
        let spent = self.spend(period, units, most);
        if spent.is_ok() {
            self.owe(period, units);
        }
        spent
    }

    /// What others are to be told of, by whoever takes it from here. What they are not told after all is `owe`d again.
    pub fn take_owed(&self, period: Period) -> u64 {
        let owed = Used::of(self.alone.load(Ordering::Acquire));
        // Requests that find nothing do not write to what all workers share.
        if owed.used == 0 {
            return 0;
        }
        let taken = Used::of(self.alone.swap(0, Ordering::AcqRel));
        if taken.number == period.number() { taken.used } else { 0 }
    }

    pub fn owe(&self, period: Period, units: u64) {
        if units == 0 {
            return;
        }
        let number = period.number();
        // What was owed in another period is over with it.
        let after = |word: u64| {
            let owed = Used::of(word);
            let before = if owed.number == number { owed.used } else { 0 };
            (owed.number <= number).then(|| Used { number, used: before.saturating_add(units) }.word())
        };
        // `Err`: a later period has begun, which this is nothing to.
        let _ = self.alone.fetch_update(Ordering::AcqRel, Ordering::Acquire, after);
    }

    /// Others, who count the same, say how much it is. What they do not know of yet comes to it; what they say of a period that is over is
    /// nothing to the one that runs.
    pub fn learn(&self, period: Period, total: u64) {
        let owed = Used::of(self.alone.load(Ordering::Acquire));
        let owed = if owed.number == period.number() { owed.used } else { 0 };
        let _ = self.change(|used| {
            if used.number > period.number() {
                return Err(());
            }
            let used = used.within(period);
            Ok((Used { used: total.saturating_add(owed), ..used }, ()))
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
