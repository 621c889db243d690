//! A gate that is one plain list: it says the same as the real one at every step, whatever comes.

use super::{TIMEOUT, asked, concurrency, counts, gate, ms};
use crate::queue::{Entered, Place, Reason, Waiting};
use proptest::prelude::*;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What a test does to the gate.
#[derive(Debug, Clone)]
enum Step {
    Enter { priority: u8, patience: Option<u64> },
    Finish(usize),
    Cancel(usize),
    Expire(usize),
    Limit(u32),
    Length(u32),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop_oneof![Just(0u8), 0..4u8, Just(15)], proptest::option::weighted(0.2, 0..300u64))
            .prop_map(|(priority, patience)| Step::Enter { priority, patience }),
        6 => any::<usize>().prop_map(Step::Finish),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Expire),
        1 => (1..6u32).prop_map(Step::Limit),
        1 => (0..12u32).prop_map(Step::Length),
        4 => (0..200u64).prop_map(Step::Later),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Waits,
    In,
    Refused(Reason),
    Left,
}

/// One request as the naive gate knows it.
#[derive(Debug, Clone)]
struct Known {
    priority: u8,
    since: Instant,
    patience: Duration,
    until: Instant,
    fate: Fate,
}

/// The same rules, one after the other over a plain list.
struct Naive {
    all: Vec<Known>,
    limit: usize,
    length: usize,
    /// Of each lane, since when it and those above were not empty.
    standing: [Option<Instant>; 16],
}

impl Naive {
    fn count(&self, fate: Fate) -> usize {
        self.all.iter().filter(|known| known.fate == fate).count()
    }

    fn look(&mut self, now: Instant) {
        for (lane, standing) in self.standing.iter_mut().enumerate() {
            let is_empty = !self.all.iter().any(|known| known.fate == Fate::Waits && usize::from(known.priority) >= lane);
            *standing = if is_empty { None } else { standing.or(Some(now)) };
        }
    }

    fn enter(&mut self, priority: u8, until: Option<Instant>, now: Instant) {
        let fate = if self.count(Fate::Waits) == 0 && self.count(Fate::In) < self.limit {
            Fate::In
        } else if self.count(Fate::Waits) < self.length {
            Fate::Waits
        } else {
            let waiting = |known: &&mut Known| known.fate == Fate::Waits;
            match self.all.iter_mut().rev().filter(waiting).min_by_key(|known| known.priority) {
                Some(lowest) if lowest.priority < priority => {
                    lowest.fate = Fate::Refused(Reason::Outranked);
                    self.look(now);
                    Fate::Waits
                }
                _ => Fate::Refused(Reason::Full),
            }
        };
        let stands = self.standing[priority as usize].is_some_and(|since| now - since >= TIMEOUT / 2);
        let patience = if stands { TIMEOUT / 20 } else { TIMEOUT };
        let until = until.unwrap_or(now + TIMEOUT).min(now + TIMEOUT);
        self.all.push(Known { priority, since: now, patience, until, fate });
        self.look(now);
    }

    /// Lets in whoever may.
    fn call(&mut self, now: Instant) {
        while self.count(Fate::In) < self.limit {
            let waiting = self.count(Fate::Waits);
            let waits = self.all.iter_mut().rev().filter(|known| known.fate == Fate::Waits);
            let Some(next) = waits.max_by_key(|known| known.priority) else { break };
            next.fate = if next.until <= now {
                Fate::Refused(Reason::Timeout)
            } else if now - next.since > next.patience && waiting > self.limit + 1 {
                Fate::Refused(Reason::Shed)
            } else {
                Fate::In
            };
        }
        self.look(now);
    }
}

enum Held {
    Line(Waiting),
    In(Place),
    Over,
}

/// The n-th of those with this fate, where there is one.
fn nth(naive: &Naive, fate: Fate, n: usize) -> Option<usize> {
    let with: Vec<usize> = (0..naive.all.len()).filter(|&at| naive.all[at].fate == fate).collect();
    (!with.is_empty()).then(|| with[n % with.len()])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_a_naive_gate_does(steps in proptest::collection::vec(step(), 1..200)) {
        let mut now = Instant::now();
        let (mut limit, mut length) = (2, 6);
        let gate = gate(limit, length);
        let mut naive = Naive { all: Vec::new(), limit: 2, length: 6, standing: [None; 16] };
        let mut held: Vec<Held> = Vec::new();
        for step in steps {
            match step {
                Step::Enter { priority, patience } => {
                    let until = patience.map(|patience| now + ms(patience));
                    held.push(match gate.enter(priority, until, now) {
                        Entered::In(place) => Held::In(place),
                        Entered::Line(waiting) => Held::Line(waiting),
                        Entered::Refused(_) => Held::Over,
                    });
                    naive.enter(priority, until, now);
                }
                Step::Finish(n) => if let Some(at) = nth(&naive, Fate::In, n) {
                    let Held::In(place) = std::mem::replace(&mut held[at], Held::Over) else { panic!("{at} is in") };
                    place.leave(now);
                    naive.all[at].fate = Fate::Left;
                    naive.call(now);
                },
                Step::Cancel(n) => if let Some(at) = nth(&naive, Fate::Waits, n) {
                    held[at] = Held::Over;
                    naive.all[at].fate = Fate::Left;
                    naive.look(now);
                },
                Step::Expire(n) => if let Some(at) = nth(&naive, Fate::Waits, n) {
                    let Held::Line(waiting) = &mut held[at] else { panic!("{at} waits") };
                    prop_assert!(waiting.expire(now).is_err());
                    held[at] = Held::Over;
                    naive.all[at].fate = Fate::Refused(Reason::Timeout);
                    naive.look(now);
                },
                Step::Limit(new) => {
                    limit = new;
                    naive.limit = new as usize;
                    gate.configure(&concurrency(limit, length, TIMEOUT), now);
                    naive.call(now);
                }
                Step::Length(new) => {
                    length = new;
                    naive.length = new as usize;
                    gate.configure(&concurrency(limit, length, TIMEOUT), now);
                }
                Step::Later(by) => now += ms(by),
            }
            for (at, one) in held.iter_mut().enumerate() {
                let fate = naive.all[at].fate;
                if let Held::Line(waiting) = one {
                    match asked(waiting, now) {
                        Poll::Pending => prop_assert_eq!(fate, Fate::Waits, "{}", at),
                        Poll::Ready(Ok(place)) => {
                            prop_assert_eq!(fate, Fate::In, "{}", at);
                            *one = Held::In(place);
                        }
                        Poll::Ready(Err(refusal)) => {
                            prop_assert_eq!(fate, Fate::Refused(refusal.reason), "{}", at);
                            *one = Held::Over;
                        }
                    }
                } else {
                    prop_assert_eq!(matches!(one, Held::In(_)), fate == Fate::In, "{}", at);
                }
            }
            let expected = (naive.count(Fate::In) as u32, naive.count(Fate::Waits) as u32);
            prop_assert_eq!(counts(&gate), expected);
        }
        drop(held);
        prop_assert_eq!(counts(&gate), (0, 0));
    }
}
