//! Back ends with a queue of their own, in a world whose clock is an argument: where a limit that finds itself ends. Seeded.

use super::simulation::{exponential, secs};
use super::{TIMEOUT, asked, concurrency};
use crate::queue::adaptive::Adaptive;
use crate::queue::{Entered, Gate};
use crate::{Chance, Clock};
use maitred_model::{Concurrency, ConcurrencyLimit};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
fn a_probe_that_brings_no_answers_keeps_nobody_out_for_long() {
    let mut now = Instant::now();
    let limit = ConcurrencyLimit::Adaptive { min: NonZeroU32::MIN, max: NonZeroU32::new(1000).unwrap() };
    let concurrency = Concurrency { limit, ..concurrency(1, 100, TIMEOUT) };
    let gate = Arc::new(Gate::new(&concurrency, Clock::default()));
    let took = Duration::from_millis(10);
    // Answers come at full use, until a probe halves the limit.
    let mut held = Vec::new();
    let mut before = 0;
    while gate.view().limit >= before {
        before = gate.view().limit;
        held.extend(std::iter::from_fn(|| gate.try_enter()));
        now += Duration::from_millis(1);
        held[0].answered(took, now);
    }
    let probe = gate.view().limit;
    // All that are in flight are WebSockets from now on.
    let enter = |now| gate.enter(0, None, now);
    let Entered::Line(mut first) = enter(now) else { panic!("there is no room") };
    now += Duration::from_secs(3);
    let second = enter(now);
    assert!(gate.view().limit >= before.max(2 * probe - 1), "as before the probe: {before} {probe} {:?}", gate.view());
    drop((held, second));
    assert!(matches!(asked(&mut first, now), std::task::Poll::Ready(_)));
}

#[test]
fn measuring_a_steady_back_end_takes_little_of_it() {
    // 133 answers a second. At half of the limit a hundred take a second and a half.
    let steady = Service { slots: 4, least: 0.0295, mean: 0.03 };
    for seed in 1..=3 {
        let most = steady.slots as f64 / steady.mean;
        let goodput = |from| saturate(|_| steady, &Limit::Adaptive, from, from + 20.0, &Chance::seeded(seed)).0 / most;
        let (first, later) = (goodput(0.0), goodput(20.0));
        println!("{seed}: {first:.3} of the first 20 s, {later:.3} of the next");
        assert!(first > 0.95 && later > 0.97, "{seed}: {first:.3} {later:.3}");
    }
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
