//! What the gate promises: tables, and threads that do as they like.

mod adapting;
mod naive;
mod simulation;

use super::line::Reason;
use super::{Entered, Gate, Place, Refusal, Waiting};
use crate::{Chance, Clock};
use maitred_model::{Concurrency, ConcurrencyLimit, ConcurrencyScope, Queue};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, park_timeout};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(2);

fn concurrency(limit: u32, length: u32, timeout: Duration) -> Concurrency {
    let limit = ConcurrencyLimit::Fixed(NonZeroU32::new(limit).unwrap());
    Concurrency { limit, per: ConcurrencyScope::Upstream, queue: Queue { length, timeout } }
}

fn gate(limit: u32, length: u32) -> Arc<Gate> {
    Arc::new(Gate::new(&concurrency(limit, length, TIMEOUT), Clock::default()))
}

fn counts(gate: &Gate) -> (u32, u32) {
    let view = gate.view();
    (view.in_flight, view.waiting)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn asked(waiting: &mut Waiting, now: Instant) -> Poll<Result<Place, Refusal>> {
    waiting.poll(&mut Context::from_waker(Waker::noop()), now)
}

#[track_caller]
fn place(entered: Entered) -> Place {
    match entered {
        Entered::In(place) => place,
        other => panic!("not in: {other:?}"),
    }
}

#[track_caller]
fn waits(entered: Entered) -> Waiting {
    match entered {
        Entered::Line(waiting) => waiting,
        other => panic!("not in line: {other:?}"),
    }
}

/// Who of these has been called.
fn called(line: &mut [Waiting], now: Instant) -> Vec<bool> {
    line.iter_mut().map(|waiting| asked(waiting, now).is_ready()).collect()
}

#[test]
fn places_are_handed_on_in_the_order_of_tickets() {
    let (gate, now) = (gate(2, 10), Instant::now());
    let held = [place(gate.enter(0, None, now)), place(gate.enter(0, None, now))];
    let mut line: Vec<_> = (0..3).map(|_| waits(gate.enter(0, None, now))).collect();
    assert!(line.windows(2).all(|pair| pair[0].ticket() < pair[1].ticket()));
    assert_eq!(counts(&gate), (2, 3));
    assert!(gate.try_enter().is_none(), "nobody overtakes");
    drop(held);
    assert_eq!(counts(&gate), (2, 1), "the count of those in flight did not move");
    let [first, second, third] = &mut line[..] else { panic!() };
    let Poll::Ready(Ok(a)) = asked(first, now) else { panic!("the first is in") };
    assert!(asked(third, now).is_pending());
    drop(a);
    assert!(matches!(asked(third, now), Poll::Ready(Ok(_))), "dropped at once");
    assert!(matches!(asked(second, now), Poll::Ready(Ok(_))));
    assert_eq!(counts(&gate), (0, 0));
}

#[test]
fn the_highest_priority_is_first_and_within_one_the_oldest() {
    let (gate, now) = (gate(1, 10), Instant::now());
    let mut held = place(gate.enter(0, None, now));
    let mut line: Vec<_> = [0, 5, 15, 5, 200, 0].iter().map(|&priority| Some(waits(gate.enter(priority, None, now)))).collect();
    let mut order = Vec::new();
    while order.len() < line.len() {
        drop(held);
        let next = line.iter_mut().enumerate().find_map(|(at, slot)| {
            let answer = asked(slot.as_mut()?, now);
            let Poll::Ready(answer) = answer else { return None };
            *slot = None;
            Some((at, answer.expect("let in")))
        });
        let (at, place) = next.expect("somebody is called");
        order.push(at);
        held = place;
    }
    assert_eq!(order, [2, 4, 1, 3, 0, 5]);
}

#[test]
fn no_more_wait_than_there_are_places_and_the_lowest_gives_way() {
    let (gate, now) = (gate(1, 2), Instant::now());
    let _held = place(gate.enter(0, None, now));
    let mut line = vec![waits(gate.enter(1, None, now)), waits(gate.enter(0, None, now))];
    let Entered::Refused(refusal) = gate.enter(0, None, now) else { panic!("there is no room") };
    assert_eq!(refusal, Refusal { reason: Reason::Full, retry_after: Duration::from_secs(1) });
    line.push(waits(gate.enter(9, None, now)));
    let Poll::Ready(Err(refusal)) = asked(&mut line[1], now) else { panic!("its place is taken") };
    assert_eq!(refusal.reason, Reason::Outranked);
    line.push(waits(gate.enter(9, None, now)));
    assert!(matches!(asked(&mut line[0], now), Poll::Ready(Err(_))));
    assert!(matches!(gate.enter(9, None, now), Entered::Refused(_)), "equals do not give way to each other");
    assert_eq!(counts(&gate), (1, 2));
    let tally = gate.view().tally;
    assert_eq!((tally.full, tally.outranked, tally.shed), (2, 2, 0));
}

#[test]
fn without_a_queue_nobody_waits() {
    let (gate, now) = (gate(1, 0), Instant::now());
    let held = place(gate.enter(0, None, now));
    assert!(matches!(gate.enter(15, None, now), Entered::Refused(Refusal { reason: Reason::Full, .. })));
    drop(held);
    place(gate.enter(0, None, now));
}

#[test]
fn who_goes_away_leaves_no_gap() {
    let (gate, now) = (gate(1, 10), Instant::now());
    let held = place(gate.enter(0, None, now));
    let mut line: Vec<_> = (0..4).map(|_| waits(gate.enter(0, None, now))).collect();
    drop(line.remove(1));
    drop(line.remove(0));
    assert_eq!(counts(&gate), (1, 2));
    drop(held);
    assert_eq!(counts(&gate), (1, 1), "the third was called");
    drop(line.remove(0));
    assert_eq!(counts(&gate), (1, 0), "and passed it on without having looked");
    assert!(matches!(asked(&mut line[0], now), Poll::Ready(Ok(_))));
    assert_eq!(gate.view().tally.gone, 2);
}

#[test]
fn whose_time_is_over_is_never_let_in() {
    let (gate, now) = (gate(1, 10), Instant::now());
    let held = place(gate.enter(0, None, now));
    let mut line = [
        waits(gate.enter(0, None, now)),
        waits(gate.enter(0, Some(now + ms(10)), now)),
        waits(gate.enter(0, None, now + ms(1500))),
    ];
    assert_eq!([line[0].until(), line[1].until()], [now + TIMEOUT, now + ms(10)]);
    let refusal = line[1].expire(now + ms(10)).expect_err("over");
    assert_eq!(refusal.reason, Reason::Timeout);
    held.leave(now + TIMEOUT);
    assert!(matches!(asked(&mut line[0], now), Poll::Ready(Err(Refusal { reason: Reason::Timeout, .. }))));
    assert!(line[2].expire(now + TIMEOUT).is_ok(), "it was called a moment before");
    assert_eq!(counts(&gate), (0, 0));
}

#[test]
fn a_limit_that_grows_lets_in_and_one_that_shrinks_waits() {
    let (gate, now) = (gate(3, 10), Instant::now());
    let mut held: Vec<_> = (0..3).map(|_| place(gate.enter(0, None, now))).collect();
    let mut line: Vec<_> = (0..4).map(|_| waits(gate.enter(0, None, now))).collect();
    gate.configure(&concurrency(1, 10, TIMEOUT), now);
    held.truncate(1);
    assert_eq!(counts(&gate), (1, 4), "two left and nobody came");
    gate.configure(&concurrency(3, 10, TIMEOUT), now);
    assert_eq!(called(&mut line[..2], now), [true, true]);
    gate.open(now);
    assert_eq!(gate.view().waiting, 0, "there is no limit any more");
    assert_eq!(gate.view().limit, u32::MAX);
}

#[test]
fn a_limit_of_each_endpoint_grows_with_their_number() {
    let now = Instant::now();
    let each = Concurrency { per: ConcurrencyScope::Endpoint, ..concurrency(2, 10, TIMEOUT) };
    let gate = Arc::new(Gate::new(&each, Clock::default()));
    let _held: Vec<_> = (0..2).map(|_| place(gate.enter(0, None, now))).collect();
    let mut line: Vec<_> = (0..5).map(|_| waits(gate.enter(0, None, now))).collect();
    gate.spread(3, now);
    assert_eq!((gate.view().limit, gate.share()), (6, 2));
    assert_eq!(called(&mut line[..4], now), [true; 4]);
    gate.configure(&Concurrency { per: ConcurrencyScope::Endpoint, ..concurrency(5, 10, TIMEOUT) }, now);
    assert_eq!((gate.view().limit, gate.share()), (15, 5), "their number is known still");
    gate.spread(0, now);
    assert_eq!((gate.view().limit, gate.share()), (5, 5));
    gate.configure(&concurrency(4, 10, TIMEOUT), now);
    assert_eq!(gate.view().limit, 4);
}

#[test]
fn a_standing_queue_is_served_fresh_and_a_burst_to_its_end() {
    let (gate, start) = (gate(1, 1000), Instant::now());
    // A burst of 30, each served for 50 ms: it is over before its timeout, and all are served.
    let mut held = place(gate.enter(0, None, start));
    let mut line: Vec<_> = (0..30).map(|_| waits(gate.enter(0, None, start))).collect();
    let mut now = start;
    for waiting in &mut line {
        now += ms(50);
        held.leave(now);
        let Poll::Ready(Ok(place)) = asked(waiting, now) else { panic!("served") };
        held = place;
    }
    held.leave(now);
    // Two come for each that is served: after half a second newcomers are served within a tenth, or not at all.
    let mut held = place(gate.enter(0, None, now));
    let (mut line, mut waited) = (Vec::new(), Vec::new());
    for round in 0..200 {
        line.push(waits(gate.enter(0, None, now)));
        now += ms(25);
        line.push(waits(gate.enter(0, None, now)));
        now += ms(25);
        held.leave(now);
        let mut next = None;
        line.retain_mut(|waiting| match asked(waiting, now) {
            Poll::Pending => true,
            Poll::Ready(Ok(place)) => {
                waited.push((round, now - waiting.since()));
                next = Some(place);
                false
            }
            Poll::Ready(Err(refusal)) => {
                assert_eq!(refusal.reason, Reason::Shed);
                false
            }
        });
        held = next.expect("the slot is never idle");
    }
    let fresh = waited.iter().filter(|(round, _)| *round > 60);
    assert!(fresh.clone().count() > 100 && fresh.clone().all(|(_, waited)| *waited <= ms(100)), "{waited:?}");
}

#[test]
fn when_to_come_again_follows_from_the_pace() {
    let (gate, mut now) = (gate(1, 50), Instant::now());
    let mut held = place(gate.enter(0, None, now));
    let mut line: Vec<_> = (0..50).map(|_| waits(gate.enter(0, None, now))).collect();
    for _ in 0..3 {
        now += ms(400);
        held.leave(now);
        let Poll::Ready(Ok(place)) = asked(&mut line.remove(0), now) else { panic!("served") };
        held = place;
        line.push(waits(gate.enter(0, None, now)));
    }
    now += ms(400);
    let Entered::Refused(refusal) = gate.enter(0, None, now) else { panic!("full") };
    let wait = refusal.retry_after.as_secs_f64();
    assert!((19.0..21.0).contains(&wait), "50 wait, 2.5 are served each second: {wait}");
}

struct Bell(Thread);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Counted off however its thread ends.
struct Done<'a>(&'a AtomicU64);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits as a task does; a wake-up that is lost is a failure.
fn wait(mut waiting: Waiting, waker: &Waker) -> Result<Place, Refusal> {
    let begun = Instant::now();
    loop {
        if let Poll::Ready(answer) = waiting.poll(&mut Context::from_waker(waker), Instant::now()) {
            return answer;
        }
        park_timeout(Duration::from_secs(10));
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody woke it");
    }
}

#[test]
fn threads_lose_no_wake_up_and_never_are_too_many() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 10_000;
    let gate = Arc::new(Gate::new(&concurrency(3, 100, Duration::from_secs(60)), Clock::default()));
    let (inside, served, go) = (AtomicU64::new(0), AtomicU64::new(0), Barrier::new(THREADS as usize));
    let working = AtomicU64::new(THREADS);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for limit in (1..=3).cycle() {
                if working.load(Ordering::Relaxed) == 0 {
                    return;
                }
                gate.configure(&concurrency(limit, 100, Duration::from_secs(60)), Instant::now());
                park_timeout(Duration::from_micros(200));
            }
        });
        for thread in 0..THREADS {
            let (gate, inside, served, go, working) = (&gate, &inside, &served, &go, &working);
            scope.spawn(move || {
                let _done = Done(working);
                let waker = Waker::from(Arc::new(Bell(std::thread::current())));
                let chance = Chance::seeded(thread);
                go.wait();
                for _ in 0..ROUNDS {
                    let dice = chance.below(16);
                    let place = match gate.enter(chance.below(3) as u8, None, Instant::now()) {
                        Entered::In(place) => place,
                        Entered::Line(mut waiting) => match dice {
                            0 => continue,
                            1 => match waiting.expire(Instant::now()) {
                                Ok(place) => place,
                                Err(_) => continue,
                            },
                            _ => wait(waiting, &waker).expect("there is room and time"),
                        },
                        Entered::Refused(refusal) => panic!("{refusal:?}"),
                    };
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 3, "too many at once");
                    if dice == 2 {
                        std::thread::yield_now();
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(place);
                }
            });
        }
    });
    assert_eq!(counts(&gate), (0, 0));
    assert!(served.load(Ordering::Relaxed) > THREADS * ROUNDS * 3 / 4);
}

/// A gate whose limit finds itself, from 1 to `max`.
fn finding(max: u32) -> Arc<Gate> {
    let limit = ConcurrencyLimit::Adaptive { min: NonZeroU32::MIN, max: NonZeroU32::new(max).unwrap() };
    Arc::new(Gate::new(&Concurrency { limit, ..concurrency(1, 100, TIMEOUT) }, Clock::default()))
}

/// Places whose answers have begun and do not end; new ones come each 20 ms, those that must wait for 2 s at most.
fn streams_held(gate: &Arc<Gate>, start: Instant, wanted: usize) -> Vec<Place> {
    let (mut held, mut line) = (Vec::new(), Vec::new());
    for step in 1..=1000 {
        let now = start + ms(20) * step;
        match gate.enter(0, None, now) {
            Entered::In(place) => {
                place.answered(ms(1), now);
                place.lasts();
                held.push(place);
            }
            Entered::Line(waiting) => line.push(waiting),
            Entered::Refused(_) => {}
        }
        line.retain_mut(|waiting: &mut Waiting| {
            let answer = if waiting.until() <= now { Poll::Ready(waiting.expire(now)) } else { asked(waiting, now) };
            if let Poll::Ready(Ok(place)) = answer {
                place.answered(ms(1), now);
                place.lasts();
                held.push(place);
                return false;
            }
            answer.is_pending()
        });
        if held.len() >= wanted {
            break;
        }
    }
    held
}

#[test]
fn answers_that_do_not_end_stop_nobody_where_the_limit_finds_itself() {
    // WebSockets: their answers come at once, and nothing follows that the limit could go by.
    let (gate, start) = (finding(200), Instant::now());
    assert_eq!(streams_held(&gate, start, 100).len(), 100);
    let (gate, start) = (finding(50), Instant::now());
    let held = streams_held(&gate, start, 100);
    assert_eq!(held.len(), 50, "never more than max");
    drop(held);
    assert_eq!(counts(&gate), (0, 0));
}

#[test]
fn a_back_end_that_answers_nothing_is_not_let_have_more() {
    let (gate, start) = (finding(200), Instant::now());
    let mut line = Vec::new();
    let held = (1..200).filter_map(|step| match gate.enter(0, None, start + ms(100) * step) {
        Entered::In(place) => Some(place),
        Entered::Line(waiting) => {
            line.push(waiting);
            None
        }
        Entered::Refused(_) => None,
    });
    let held: Vec<Place> = held.collect();
    assert!(held.len() <= 4, "{}", held.len());
}

#[test]
fn a_limit_that_was_found_too_late_counts_no_more() {
    let (gate, now) = (finding(200), Instant::now());
    gate.found(7, now);
    assert_eq!(gate.view().limit, 7);
    gate.configure(&concurrency(3, 9, TIMEOUT), now);
    gate.found(7, now);
    assert_eq!(gate.view().limit, 3);
    gate.open(now);
    gate.found(7, now);
    assert_eq!(gate.view().limit, u32::MAX);
}
