//! Back ends in a world whose clock is an argument: what the queue keeps of a back end's work, how fresh it serves, and where a limit
//! that finds itself ends. Seeded; each number here is the same on every machine.

use super::adaptive::Adaptive;
use super::line::Reason;
use super::tests::{TIMEOUT, asked, counts, gate};
use super::{Entered, Gate, Place, Waiting};
use crate::Chance;
use maitred_model::ConcurrencyLimit;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

const SLOTS: usize = 20;
const SERVICE: Duration = Duration::from_millis(50);
/// What the back end does each second.
const CAPACITY: f64 = 400.0;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Uniform in (0, 1].
fn uniform(chance: &Chance) -> f64 {
    (chance.below(1 << 53) + 1) as f64 / (1u64 << 53) as f64
}

fn exponential(mean: f64, chance: &Chance) -> f64 {
    -uniform(chance).ln() * mean
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    sorted.get((sorted.len() as f64 * share) as usize).or(sorted.last()).copied().unwrap_or_default()
}

/// What came of the requests of one priority.
#[derive(Default)]
struct Outcome {
    offered: usize,
    /// Second by second.
    served: Vec<usize>,
    /// From coming to being let in, of those who were.
    waited: Vec<Duration>,
    /// From coming to the refusal, of the others.
    refused: Vec<(Reason, Duration)>,
    tickets: Vec<u64>,
}

impl Outcome {
    fn serve(&mut self, at: Duration, waited: Duration, ticket: Option<u64>) {
        let second = at.as_secs() as usize;
        self.served.resize(self.served.len().max(second + 1), 0);
        self.served[second] += 1;
        self.waited.push(waited);
        self.tickets.extend(ticket);
    }

    fn waited_at(&self, share: f64) -> Duration {
        let mut sorted = self.waited.clone();
        sorted.sort();
        quantile(&sorted, share)
    }
}

/// An open loop through the real gate: requests come by chance, `rates(at)` of each priority each second, and do not care how it goes.
struct World {
    gate: Arc<Gate>,
    start: Instant,
    line: VecDeque<(u8, Waiting)>,
    busy: BinaryHeap<Reverse<(Duration, usize)>>,
    places: Vec<Option<Place>>,
    outcomes: Vec<Outcome>,
    most_waiting: usize,
}

impl World {
    fn run(length: u32, seconds: u64, rates: impl Fn(f64) -> Vec<f64>, chance: &Chance) -> World {
        let lanes = rates(0.0).len();
        let mut world = World {
            gate: gate(SLOTS as u32, length),
            start: Instant::now(),
            line: VecDeque::new(),
            busy: BinaryHeap::new(),
            places: Vec::new(),
            outcomes: (0..lanes).map(|_| Outcome::default()).collect(),
            most_waiting: 0,
        };
        let end = Duration::from_secs(seconds);
        let mut arrival = Duration::ZERO;
        while arrival < end {
            while let Some(&Reverse((at, slot))) = world.busy.peek()
                && at <= arrival
            {
                world.busy.pop();
                world.expire(at);
                world.places[slot].take().expect("it was busy").leave(world.start + at);
                world.look(at);
            }
            world.expire(arrival);
            let now = rates(arrival.as_secs_f64());
            let total: f64 = now.iter().sum();
            let mut pick = uniform(chance) * total;
            let priority = now
                .iter()
                .position(|rate| {
                    pick -= rate;
                    pick <= 0.0
                })
                .unwrap_or(0);
            world.come(priority as u8, arrival);
            arrival += secs(exponential(1.0 / total, chance));
        }
        world
    }

    fn come(&mut self, priority: u8, at: Duration) {
        let outcome = &mut self.outcomes[priority as usize];
        outcome.offered += 1;
        match self.gate.enter(priority, None, self.start + at) {
            Entered::In(place) => {
                outcome.serve(at, Duration::ZERO, None);
                self.begin(place, at);
            }
            Entered::Line(waiting) => {
                self.line.push_back((priority, waiting));
                self.most_waiting = self.most_waiting.max(self.line.len());
                self.look(at);
            }
            Entered::Refused(refusal) => outcome.refused.push((refusal.reason, Duration::ZERO)),
        }
    }

    fn begin(&mut self, place: Place, at: Duration) {
        let slot = self.places.iter().position(Option::is_none).unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[slot] = Some(place);
        assert!(self.places.len() <= SLOTS, "too many at once");
        self.busy.push(Reverse((at + SERVICE, slot)));
    }

    /// Those who wait are looked at in the order of their tickets, as the gate calls them.
    fn look(&mut self, at: Duration) {
        let mut begun = Vec::new();
        let (now, outcomes) = (self.start + at, &mut self.outcomes);
        self.line.retain_mut(|(priority, waiting)| {
            let outcome = &mut outcomes[*priority as usize];
            let waited = now - waiting.since();
            match asked(waiting, now) {
                Poll::Pending => return true,
                Poll::Ready(Ok(place)) => {
                    outcome.serve(at, waited, Some(waiting.ticket()));
                    begun.push(place);
                }
                Poll::Ready(Err(refusal)) => outcome.refused.push((refusal.reason, waited)),
            }
            false
        });
        for place in begun {
            self.begin(place, at);
        }
    }

    /// A worker's timers.
    fn expire(&mut self, at: Duration) {
        let now = self.start + at;
        while let Some((priority, waiting)) = self.line.front_mut()
            && waiting.until() <= now
        {
            let waited = waiting.until() - waiting.since();
            let outcome = &mut self.outcomes[*priority as usize];
            match waiting.expire(now) {
                Ok(_) => panic!("whoever is called is fetched at once"),
                Err(refusal) => outcome.refused.push((refusal.reason, waited)),
            }
            self.line.pop_front();
        }
    }
}

#[test]
fn three_times_too_much_is_served_at_full_speed_and_fresh() {
    for (seed, length) in [(1, 500), (2, 500), (3, 10_000), (4, 100)] {
        let chance = Chance::seeded(seed);
        let world = World::run(length, 60, |_| vec![3.0 * CAPACITY], &chance);
        let outcome = &world.outcomes[0];
        // The first and the last second begin and end in the middle of things.
        let least = outcome.served[1..59].iter().min().copied().unwrap_or(0);
        assert!(least as f64 >= 0.95 * CAPACITY, "served in one second: {least}, with {length} places");
        assert!(outcome.waited_at(0.99) <= TIMEOUT, "p99 {:?}", outcome.waited_at(0.99));
        assert!(outcome.waited_at(0.5) <= TIMEOUT / 20 + SERVICE, "the median is fresh: {:?}", outcome.waited_at(0.5));
        assert!(outcome.refused.iter().all(|(_, waited)| *waited <= TIMEOUT), "each refusal comes in time");
        assert!(outcome.tickets.is_sorted(), "by ticket");
        assert!(world.most_waiting <= length as usize);
        let over = outcome.offered - outcome.waited.len() - outcome.refused.len();
        assert_eq!(over, counts(&world.gate).1 as usize, "each has one answer, or waits");
    }
}

#[test]
fn lower_priorities_are_shed_before_higher_ones() {
    for (seed, high, low) in [(5, 0.5, 2.5), (6, 0.9, 2.1), (7, 0.2, 1.0)] {
        let chance = Chance::seeded(seed);
        let world = World::run(500, 30, |_| vec![low * CAPACITY, high * CAPACITY], &chance);
        let [cheap, dear] = &world.outcomes[..] else { panic!() };
        assert!(dear.refused.is_empty(), "{} of {} refused", dear.refused.len(), dear.offered);
        assert!(dear.waited_at(0.99) <= 2 * SERVICE, "{:?}", dear.waited_at(0.99));
        let total = (dear.waited.len() + cheap.waited.len()) as f64;
        assert!(total >= 0.95 * 30.0 * CAPACITY, "{total}");
        assert!(cheap.tickets.is_sorted() && dear.tickets.is_sorted());
    }
}

#[test]
fn a_burst_that_can_be_served_in_time_is() {
    // For 200 ms four times as much as is done, every 4 s; a third of it all the time.
    let rates = |at: f64| vec![if at % 4.0 < 0.2 { 4.0 * CAPACITY } else { 0.33 * CAPACITY }];
    let world = World::run(1000, 40, rates, &Chance::seeded(8));
    let outcome = &world.outcomes[0];
    assert!(outcome.refused.is_empty(), "{} of {} refused", outcome.refused.len(), outcome.offered);
    assert!(outcome.waited_at(0.99) > SERVICE * 4, "it was a burst: {:?}", outcome.waited_at(0.99));
}

/// The rules that were compared before one was chosen: what each makes of the same arrivals.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    /// Nothing is shed but what is over its timeout.
    Timeout,
    /// RFC 8289: once the head has waited longer than the target for an interval, one is dropped, and then more and more often.
    Codel,
    /// Who comes after the queue was not empty for an interval is served within the target or not at all.
    Facebook,
    /// The same, but as many as there are slots are always kept, and one more.
    Ours,
}

/// Goodput as a share of the capacity, and the median and 99th percentile of the time waited, from second 2 to second 20.
fn compare(rule: Rule, overload: f64, target: Duration, in_step: bool, seed: u64) -> (f64, Duration, Duration) {
    const END: f64 = 20.0;
    let interval = TIMEOUT / 2;
    let chance = Chance::seeded(seed);
    let mut queue: VecDeque<(Duration, Duration)> = VecDeque::new();
    let mut busy: BinaryHeap<Reverse<Duration>> = BinaryHeap::new();
    let (mut at, mut empty_at, mut waited, mut served) = (Duration::ZERO, Duration::ZERO, Vec::new(), 0);
    let (mut above_since, mut drop_next, mut drops) = (None::<Duration>, Duration::ZERO, 0u32);
    let mut arrival = Duration::ZERO;
    while at.as_secs_f64() < END {
        let finish = busy.peek().map(|Reverse(at)| *at);
        let finishes = busy.len() == SLOTS && finish.is_some_and(|finish| finish <= arrival);
        if !finishes {
            at = arrival;
            while busy.peek().is_some_and(|Reverse(finish)| *finish <= at) && queue.is_empty() {
                busy.pop();
            }
            if queue.is_empty() {
                empty_at = at;
            }
            let stands = at - empty_at >= interval && !queue.is_empty();
            queue.push_back((at, if stands { target } else { TIMEOUT }));
            arrival += secs(exponential(1.0 / (overload * CAPACITY), &chance));
        } else if let Some(finish) = finish {
            at = finish;
            busy.pop();
        }
        while busy.len() < SLOTS {
            let Some(&(came, patience)) = queue.front() else { break };
            let age = at - came;
            let shed = age > TIMEOUT
                || match rule {
                    Rule::Timeout => false,
                    Rule::Facebook => age > patience,
                    Rule::Ours => age > patience && queue.len() > SLOTS + 1,
                    Rule::Codel => {
                        above_since = if age <= target {
                            drops = 0;
                            None
                        } else {
                            above_since.or(Some(at))
                        };
                        let is_standing = above_since.is_some_and(|since| at - since >= interval);
                        let due = is_standing && (drops == 0 || at >= drop_next);
                        if due {
                            drops += 1;
                            drop_next = at.max(drop_next) + interval.div_f64(f64::from(drops).sqrt());
                        }
                        due
                    }
                };
            queue.pop_front();
            if shed {
                continue;
            }
            if at > secs(2.0) {
                served += 1;
                waited.push(age);
            }
            // In step: all that begins within 50 ms ends together, as where a back end works by batches.
            let end = if in_step { SERVICE * (at.as_micros() / SERVICE.as_micros() + 1) as u32 } else { at + SERVICE };
            busy.push(Reverse(end));
        }
    }
    waited.sort();
    (f64::from(served) / (CAPACITY * (END - 2.0)), quantile(&waited, 0.5), quantile(&waited, 0.99))
}

/// Why this rule, in numbers: docs/adr/0018-a-standing-queue.md has the table.
#[test]
fn of_the_rules_compared_ours_alone_is_fresh_and_loses_no_work() {
    let target = TIMEOUT / 20;
    let short = Duration::from_millis(5);
    let run = |rule, target, in_step| compare(rule, 3.0, target, in_step, 9);
    let ms = Duration::from_millis;
    for (rule, target, in_step) in [Rule::Timeout, Rule::Codel, Rule::Facebook, Rule::Ours]
        .into_iter()
        .flat_map(|rule| [(target, false), (short, false), (short, true)].map(|(target, in_step)| (rule, target, in_step)))
    {
        println!("{rule:?} {target:?} in_step={in_step}: {:?}", run(rule, target, in_step));
    }
    let (goodput, median, _) = run(Rule::Timeout, target, false);
    assert!(goodput > 0.98 && median > ms(1900), "all are served at the last moment: {median:?}");
    let (_, median, _) = run(Rule::Codel, target, false);
    assert!(median > ms(1000), "a control law for senders that slow down is too slow for those that do not: {median:?}");
    let (_, median, _) = run(Rule::Facebook, short, true);
    assert!(median > ms(300), "the queue runs empty, and everybody is patient again: {median:?}");
    for (target, in_step) in [(target, false), (short, false), (short, true)] {
        let (goodput, median, p99) = run(Rule::Ours, target, in_step);
        assert!(goodput > 0.98, "{goodput}");
        assert!(median <= target.max(2 * SERVICE) && p99 <= TIMEOUT, "{median:?} {p99:?}");
    }
}

/// A back end with slots, and a queue of its own before them: what comes too early waits there, and the gateway sees it as latency.
#[derive(Debug, Clone, Copy)]
struct Service {
    slots: usize,
    /// Seconds, at the least and on the average.
    least: f64,
    mean: f64,
}

impl Service {
    fn time(&self, chance: &Chance) -> f64 {
        self.least + exponential(self.mean - self.least, chance)
    }
}

/// As many requests as `limit` says are always in flight. Gives answers each second, and the limit, averaged over the time from `from` to
/// `to`.
fn saturate(service: impl Fn(f64) -> Service, limit: &Limit, from: f64, to: f64, chance: &Chance) -> (f64, f64) {
    let start = Instant::now();
    let adaptive = Adaptive::new(start);
    let (mut allowed, adapts) = match limit {
        Limit::Fixed(limit) => (*limit, false),
        Limit::Adaptive => {
            let limit = ConcurrencyLimit::Adaptive { min: NonZeroU32::MIN, max: NonZeroU32::new(1000).unwrap() };
            (adaptive.configure(limit, u32::MAX, start), true)
        }
    };
    // Nanoseconds: floats have no order.
    let nanos = |at: f64| (at * 1e9) as u64;
    let mut ends: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
    let (mut behind, mut at, mut flight) = (VecDeque::new(), 0.0, 0u32);
    let (mut answers, mut area) = (0u64, 0.0);
    while at < to {
        while flight < allowed {
            behind.push_back(at);
            flight += 1;
        }
        while ends.len() < service(at).slots
            && let Some(sent) = behind.pop_front()
        {
            ends.push(Reverse((nanos(at + service(at).time(chance)), nanos(sent))));
        }
        let Some(Reverse((end, sent))) = ends.pop() else { break };
        let now = end as f64 / 1e9;
        if at >= from {
            area += f64::from(allowed) * (now - at);
            answers += 1;
        }
        at = now;
        if adapts && let Some(new) = adaptive.observe(Duration::from_nanos(end - sent), flight, start + secs(at)) {
            allowed = new;
        }
        flight -= 1;
    }
    (answers as f64 / (at - from), area / (at - from))
}

enum Limit {
    Fixed(u32),
    Adaptive,
}

/// The smallest that brings 99% of what the best brings.
fn best_fixed(service: Service) -> u32 {
    let goodput = |limit| saturate(|_| service, &Limit::Fixed(limit), 1.0, 1.0 + 400.0 * service.mean, &Chance::seeded(0)).0;
    let best = (1..=service.slots as u32 * 2).map(goodput).fold(0.0, f64::max);
    (1..).find(|&limit| goodput(limit) >= 0.99 * best).expect("the best itself does")
}

#[test]
fn a_limit_that_finds_itself_ends_near_the_best_fixed_one() {
    let fast = Service { slots: 8, least: 0.001, mean: 0.002 };
    let slow = Service { slots: 30, least: 0.3, mean: 0.4 };
    let well = Service { slots: 40, least: 0.03, mean: 0.05 };
    let fewer = Service { slots: 15, ..well };
    let slower = Service { least: 0.09, mean: 0.15, ..well };
    let mut off = Vec::new();
    for (name, before, after) in [
        ("fast", fast, fast),
        ("slow", slow, slow),
        ("medium", well, well),
        ("loses slots", well, fewer),
        ("becomes slow", well, slower),
        ("recovers slots", fewer, well),
        ("becomes fast", slower, well),
    ] {
        let best = f64::from(best_fixed(after));
        for seed in 1..=3 {
            let service = |at| if at < 40.0 { before } else { after };
            let (goodput, limit) = saturate(service, &Limit::Adaptive, 75.0, 105.0, &Chance::seeded(seed));
            let most = after.slots as f64 / after.mean;
            println!("{name} {seed}: limit {limit:.1} of {best}, goodput {:.3}", goodput / most);
            if (limit - best).abs() > 0.2 * best || goodput < 0.93 * most {
                off.push(format!("{name}, seed {seed}: {limit:.1} beside {best}, goodput {:.3}", goodput / most));
            }
        }
    }
    assert!(off.is_empty(), "{off:#?}");
}

#[test]
fn a_limit_that_fell_to_its_least_rises_again() {
    // Times that hardly vary: no chance helps it up.
    let steady = |slots| Service { slots, least: 0.01999, mean: 0.02 };
    for slots in [1, 2, 3] {
        let service = |at| steady(if at < 60.0 { slots } else { 30 });
        let (goodput, limit) = saturate(service, &Limit::Adaptive, 100.0, 120.0, &Chance::seeded(1));
        assert!(goodput > 0.9 * 30.0 / 0.02, "from {slots}: goodput {goodput:.1}, limit {limit:.1}");
    }
}
