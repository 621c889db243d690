//! Units that were asked for ahead, by limit and key: requests take from them and wait for nobody. Pure: takes `now`, and says what is to be asked.
//!
//! What is given out ahead of the server's word is at most one slice for each key, and owed to the server with the next question. A key that
//! the server said no to gets nothing before the moment that the server named, which counts what is owed: so of all workers together no more
//! than a slice of each is ever given out beyond what the limit has.

use super::command::Command;
use maitred_core::limit_table::{Key, Verdict};
use maitred_core::limits::{Ask, LimitId};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Keys of one worker, about 100 bytes each; requests of others ask the server themselves.
const KEYS_MAX: usize = 16 * 1024;
/// Slices of a burst.
const SLICES: u32 = 10;
/// What nobody took for so long goes back to the server, or is paid there.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// Keys that are told of in one turn of a worker, which has other work.
pub(super) const SWEPT_MAX: usize = 256;
/// Workers of all gateways together that a fleet may have. No slice is larger than a burst, so each may owe that.
const WORKERS_MAX: u64 = 4096;
/// What a key may owe where slices are given out ahead: all of them, and the burst. If it were less, the rest would be forgotten, and given out
/// again.
pub(super) const BURSTS_AHEAD: u64 = WORKERS_MAX + 1;
/// A key that was refused is asked for again once half a slice should be there, and no later than this.
const AGAIN_MAX: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct Slices {
    keys: HashMap<(LimitId, Key), Slice>,
}

struct Slice {
    ask: Ask,
    /// Units there, or owed.
    credit: i64,
    /// The server is being asked for more.
    is_asking: bool,
    refused_until: Option<Instant>,
    used: Instant,
    /// By the server's last word: what was taken of the burst.
    taken: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    Verdict(Verdict),
    /// The server is to be asked.
    Elsewhere,
}

impl Slices {
    /// `is_up`: the server can be asked.
    pub fn take(&mut self, ask: &Ask, now: Instant, is_up: bool) -> Judged {
        let [_, _, patience, _] = ask.pace.nanos();
        let is_new = !self.keys.contains_key(&(ask.limit, ask.key));
        // Who waits for a turn needs one that is exact.
        if patience > 0 || (is_new && (!is_up || self.keys.len() >= KEYS_MAX)) {
            return Judged::Elsewhere;
        }
        let slice = self.keys.entry((ask.limit, ask.key)).or_insert_with(|| Slice::new(*ask, now));
        slice.used = now;
        slice.ask.pace = ask.pace;
        slice.take(ask, now, is_up)
    }

    /// What to ask the server for now, if anything: then `leased` or `unanswered` has to follow.
    pub fn wanted(&mut self, ask: &Ask, now: Instant) -> Option<Command> {
        let slice = self.keys.get_mut(&(ask.limit, ask.key))?;
        let size = size(ask);
        let is_refused = slice.refused_until.is_some_and(|until| until > now);
        if slice.is_asking || is_refused || slice.credit * 2 >= i64::from(size) {
            return None;
        }
        slice.is_asking = true;
        let units = size.saturating_sub(units(slice.credit));
        Some(Command::Lease { ask: Ask { units, ..*ask }, debt: units_owed(slice.credit) })
    }

    /// What the server says to a `Lease`.
    pub fn leased(&mut self, ask: &Ask, debt: u32, granted: u32, (wait, full_in): (Duration, Duration), now: Instant) {
        let Some(slice) = self.keys.get_mut(&(ask.limit, ask.key)) else { return };
        slice.is_asking = false;
        slice.credit += i64::from(debt) + i64::from(granted);
        let [interval, ..] = ask.pace.nanos();
        slice.taken = u32::try_from(full_in.as_nanos() / u128::from(interval)).unwrap_or(u32::MAX);
        if granted == 0 {
            let half = Duration::from_nanos(interval.saturating_mul(u64::from(size(ask) / 2)));
            slice.refused_until = now.checked_add(wait.max(half.min(AGAIN_MAX)));
        }
    }

    pub fn unanswered(&mut self, ask: &Ask) {
        if let Some(slice) = self.keys.get_mut(&(ask.limit, ask.key)) {
            slice.is_asking = false;
        }
    }

    /// False: it is not from here.
    pub fn give_back(&mut self, ask: &Ask) -> bool {
        self.keys.get_mut(&(ask.limit, ask.key)).is_some_and(|slice| {
            slice.credit += i64::from(ask.units);
            true
        })
    }

    /// False: it is to be owed on the server.
    pub fn owe(&mut self, ask: &Ask) -> bool {
        self.keys.get_mut(&(ask.limit, ask.key)).is_some_and(|slice| {
            slice.credit -= i64::from(ask.units);
            true
        })
    }

    /// Forgets keys that nobody asks for once the server is told of them; whatever cannot be told is kept. Gives how many were told of.
    pub fn sweep(&mut self, now: Instant, mut tell: impl FnMut(Command) -> bool) -> usize {
        let mut told = 0;
        self.keys.retain(|_, slice| {
            if told >= SWEPT_MAX {
                return true;
            }
            let is_idle = !slice.is_asking && now.saturating_duration_since(slice.used) >= IDLE_MAX;
            // A key that was refused is kept until the refusal is over: forgotten, it would have a slice ahead again.
            if !is_idle || slice.refused_until.is_some_and(|until| until > now) {
                return true;
            }
            let command = match slice.credit {
                0 => return false,
                1.. => Command::GiveBack(Ask { units: units(slice.credit), ..slice.ask }),
                _ => Command::Owe(Ask { units: units_owed(slice.credit), ..slice.ask }),
            };
            let is_told = tell(command);
            told += usize::from(is_told);
            !is_told
        });
        told
    }
}

impl Slice {
    fn new(ask: Ask, now: Instant) -> Slice {
        Slice { ask, credit: 0, is_asking: false, refused_until: None, used: now, taken: 0 }
    }

    fn take(&mut self, ask: &Ask, now: Instant, is_up: bool) -> Judged {
        let cost = i64::from(ask.units);
        if self.credit >= cost {
            self.credit -= cost;
            return Judged::Verdict(self.verdict(true, Duration::ZERO));
        }
        if let Some(until) = self.refused_until {
            if until > now {
                return Judged::Verdict(self.verdict(false, until - now));
            }
            self.refused_until = None;
        }
        if is_up && self.credit - cost >= -i64::from(size(ask)) {
            self.credit -= cost;
            return Judged::Verdict(self.verdict(true, Duration::ZERO));
        }
        Judged::Elsewhere
    }

    /// As far as it is known here: other workers take of the same limit.
    fn verdict(&self, allowed: bool, retry_after: Duration) -> Verdict {
        let pace = &self.ask.pace;
        let [interval, ..] = pace.nanos();
        let taken = i64::from(self.taken) - self.credit;
        let remaining = units(i64::from(pace.burst()) - taken);
        let full_nanos = interval.saturating_mul(u64::from(units(taken)));
        let retry_nanos = u64::try_from(retry_after.as_nanos()).unwrap_or(u64::MAX);
        Verdict { allowed, retry_nanos, remaining: if allowed { remaining } else { units(self.credit) }, full_nanos }
    }
}

/// A share of the burst, and what the request takes at least.
fn size(ask: &Ask) -> u32 {
    (ask.pace.burst() / SLICES).max(ask.units).max(1)
}

fn units(credit: i64) -> u32 {
    u32::try_from(credit.max(0)).unwrap_or(u32::MAX)
}

fn units_owed(credit: i64) -> u32 {
    u32::try_from(-credit.min(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::batch::undone;
    use super::super::command::Answer;
    use super::*;
    use maitred_core::limit_table::{Pace, Table};
    use proptest::prelude::*;

    /// A server with one key, judged by the same arithmetic as the script's.
    struct Server {
        pace: Pace,
        owed_until: u64,
    }

    impl Server {
        fn lease(&mut self, ask: &Ask, debt: u32, now: u64) -> (u32, Duration, Duration) {
            let [interval, burst, _, most] = self.pace.nanos();
            let owed = (self.owed_until.saturating_sub(now) + interval * u64::from(debt)).min(most);
            let granted = u64::from(ask.units).min(burst.saturating_sub(owed) / interval);
            let owed = owed + granted * interval;
            self.owed_until = now + owed;
            (granted as u32, Duration::from_nanos((owed + interval).saturating_sub(burst)), Duration::from_nanos(owed))
        }

        fn told(&mut self, command: &Command, now: u64) {
            let [interval, _, _, most] = self.pace.nanos();
            let owed = self.owed_until.saturating_sub(now);
            let owed = match command {
                Command::GiveBack(ask) => owed.saturating_sub(interval * u64::from(ask.units)),
                Command::Owe(ask) => (owed + interval * u64::from(ask.units)).min(most),
                Command::Take(_) | Command::Lease { .. } | Command::Spend(_) | Command::Unspend(_) => {
                    unreachable!("nobody says so here")
                }
            };
            self.owed_until = now + owed;
        }
    }

    fn ask(pace: Pace, units: u32) -> Ask {
        let table = Table::new(1, [1, 2], Instant::now());
        Ask { limit: LimitId(7), key: table.key(b"who"), units, pace }
    }

    fn allowed(judged: Judged) -> bool {
        match judged {
            Judged::Verdict(verdict) => verdict.allowed,
            Judged::Elsewhere => false,
        }
    }

    fn swept(slices: &mut Slices, now: Instant) -> Vec<Command> {
        let mut told = Vec::new();
        slices.sweep(now, |command| {
            told.push(command);
            true
        });
        told
    }

    #[test]
    fn a_debt_whose_answer_comes_too_late_is_paid_once() {
        let (now, ask) = (Instant::now(), ask(Pace::new(1, Duration::from_secs(3600), 100).owing(BURSTS_AHEAD), 1));
        for already_owed in [0, 100] {
            let mut slices = Slices::default();
            let mut server = Server { pace: ask.pace, owed_until: already_owed * 3_600_000_000_000 };
            (0..7).for_each(|_| assert!(allowed(slices.take(&ask, now, true))));
            for _ in 0..5 {
                let Some(Command::Lease { ask: lease, debt }) = slices.wanted(&ask, now) else { panic!("it asks") };
                let (granted, retry_after, full_in) = server.lease(&lease, debt, 0);
                slices.unanswered(&ask);
                let answer = Answer::Leased { granted, retry_after, full_in };
                server.told(&undone(&Command::Lease { ask: lease, debt }, answer).expect("it was booked"), 0);
            }
            assert_eq!(server.owed_until / 3_600_000_000_000, already_owed, "nothing is booked of what nobody was told");
        }
    }

    #[test]
    fn no_more_keys_are_told_of_in_one_turn_than_a_worker_has_time_for() {
        let now = Instant::now();
        let table = Table::new(1, [1, 2], now);
        let mut slices = Slices::default();
        for number in 0..SWEPT_MAX as u64 + 10 {
            let ask = Ask { key: table.key(&number.to_le_bytes()), ..ask(Pace::new(10, Duration::from_secs(1), 100), 1) };
            assert!(allowed(slices.take(&ask, now, true)));
        }
        let mut room = 20;
        let told = slices.sweep(now + IDLE_MAX, |_| {
            room -= i32::from(room > 0);
            room > 0
        });
        assert_eq!((told, slices.keys.len()), (19, SWEPT_MAX - 9), "what could not be told is kept");
        assert_eq!(slices.sweep(now + IDLE_MAX, |_| true), SWEPT_MAX - 9);
        assert!(slices.keys.is_empty());
        for number in 0..SWEPT_MAX as u64 + 10 {
            let ask = Ask { key: table.key(&number.to_le_bytes()), ..ask(Pace::new(10, Duration::from_secs(1), 100), 1) };
            slices.take(&ask, now, true);
        }
        assert_eq!([(); 2].map(|()| slices.sweep(now + IDLE_MAX, |_| true)), [SWEPT_MAX, 10]);
    }

    #[test]
    fn one_slice_is_given_out_ahead_and_no_more_without_an_answer() {
        let (now, ask) = (Instant::now(), ask(Pace::new(10, Duration::from_secs(1), 100), 1));
        let mut slices = Slices::default();
        let given = (0..50).filter(|_| allowed(slices.take(&ask, now, true))).count();
        assert_eq!(given, 10);
        assert!(matches!(slices.wanted(&ask, now), Some(Command::Lease { debt: 10, ask: Ask { units: 10, .. } })));
        assert!(slices.wanted(&ask, now).is_none(), "it is being asked for");
        assert_eq!(slices.take(&ask, now, true), Judged::Elsewhere);
        slices.leased(&ask, 10, 10, (Duration::ZERO, Duration::from_secs(2)), now);
        assert_eq!((0..50).filter(|_| allowed(slices.take(&ask, now, false))).count(), 10, "what is there is there");
        assert_eq!(slices.take(&ask, now, false), Judged::Elsewhere, "nothing ahead of a server that is gone");
    }

    #[test]
    fn a_no_holds_until_the_moment_that_was_named() {
        let (now, ask) = (Instant::now(), ask(Pace::new(1, Duration::from_secs(1), 10), 1));
        let mut slices = Slices::default();
        assert!(allowed(slices.take(&ask, now, true)));
        let Some(Command::Lease { debt, .. }) = slices.wanted(&ask, now) else { panic!("it asks") };
        slices.leased(&ask, debt, 0, (Duration::from_secs(3), Duration::from_secs(12)), now);
        let Judged::Verdict(refused) = slices.take(&ask, now, true) else { panic!("it is known") };
        assert_eq!((refused.allowed, refused.retry_after()), (false, Duration::from_secs(3)));
        let late = now + Duration::from_millis(2_999);
        assert!(slices.sweep(late, |_| true) == 0 && !allowed(slices.take(&ask, late, true)), "it is not forgotten before");
        assert!(allowed(slices.take(&ask, now + Duration::from_secs(3), true)));
    }

    #[test]
    fn what_is_idle_goes_back_and_what_is_owed_is_paid() {
        let (now, ask) = (Instant::now(), ask(Pace::new(10, Duration::from_secs(1), 100), 1));
        let mut slices = Slices::default();
        slices.take(&ask, now, true);
        assert!(matches!(swept(&mut slices, now + IDLE_MAX)[..], [Command::Owe(Ask { units: 1, .. })]));
        slices.take(&ask, now, true);
        let Some(Command::Lease { debt, ask: lease }) = slices.wanted(&ask, now) else { panic!("it asks") };
        slices.leased(&ask, debt, lease.units, (Duration::ZERO, Duration::ZERO), now);
        assert_eq!(slices.sweep(now + IDLE_MAX, |_| false), 0, "kept where nobody can be told");
        assert!(matches!(swept(&mut slices, now + IDLE_MAX)[..], [Command::GiveBack(Ask { units: 10, .. })]));
        assert!(slices.keys.is_empty());
    }

    /// The smallest limit there is, and more workers than it has bursts ahead in its slices.
    #[test]
    fn many_workers_with_a_small_burst_give_out_no_more_than_a_slice_each_beyond_it() {
        let pace = Pace::new(1, Duration::from_secs(1), 1).owing(BURSTS_AHEAD);
        let (start, ask) = (Instant::now(), ask(pace, 1));
        let mut server = Server { pace, owed_until: 0 };
        let mut all: Vec<Slices> = (0..24).map(|_| Slices::default()).collect();
        let mut given = 0;
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            for slices in &mut all {
                given += u64::from(allowed(slices.take(&ask, now, true)));
                if let Some(Command::Lease { ask: lease, debt }) = slices.wanted(&ask, now) {
                    let (granted, wait, full_in) = server.lease(&lease, debt, second * 1_000_000_000);
                    slices.leased(&ask, debt, granted, (wait, full_in), now);
                }
            }
        }
        assert!(given <= 199 + 1 + 24, "{given} in 200 seconds");
    }

    proptest! {
        /// However workers take turns, and however late answers come: no more than the limit, and a slice for each worker.
        #[test]
        fn workers_together_give_out_no_more_than_a_slice_each_beyond_the_limit(
            workers in 1usize..33, burst in 1u32..200, steps in prop::collection::vec((0u64..30, 0usize..32, 1u32..60, prop::bool::ANY), 1..400),
        ) {
            let pace = Pace::new(100, Duration::from_secs(1), burst).owing(BURSTS_AHEAD);
            let (start, ask) = (Instant::now(), ask(pace, 1));
            let mut server = Server { pace, owed_until: 0 };
            let mut all: Vec<(Slices, Option<(Ask, u32)>)> = (0..workers).map(|_| (Slices::default(), None)).collect();
            let (mut millis, mut given) = (0, 0u64);
            for (pass, worker, times, answers) in steps {
                millis += pass;
                let now = start + Duration::from_millis(millis);
                let nanos = millis * 1_000_000;
                let (slices, open) = &mut all[worker % workers];
                for command in swept(slices, now) {
                    server.told(&command, nanos);
                }
                for _ in 0..times {
                    given += u64::from(allowed(slices.take(&ask, now, true)));
                    if let Some(Command::Lease { ask, debt }) = slices.wanted(&ask, now) {
                        *open = Some((ask, debt));
                    }
                    if answers && let Some((lease, debt)) = open.take() {
                        let (granted, wait, full_in) = server.lease(&lease, debt, nanos);
                        slices.leased(&ask, debt, granted, (wait, full_in), now);
                    }
                }
            }
            let bound = millis / 10 + u64::from(burst) + workers as u64 * u64::from(size(&ask));
            prop_assert!(given <= bound, "{} given, {} is the bound", given, bound);
        }
    }
}
