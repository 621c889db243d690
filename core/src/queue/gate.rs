//! The way in to an upstream, the same for all workers. While nobody waits, one compare-and-swap lets a request in and one lets it out;
//! only where it is full the line's lock is taken, and never kept over a wait. Somebody who leaves hands its place to who is next, and
//! the count of those in flight does not move: nobody can overtake.

use super::adaptive::Adaptive;
use super::line::{Called, Line, Reason, State, Tally};
use crate::Clock;
use maitred_model::{Concurrency, ConcurrencyLimit, ConcurrencyScope};
use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// In flight in the lower half, waiting in the upper one.
const ONE_IN_FLIGHT: u64 = 1;
const ONE_WAITING: u64 = 1 << 32;

fn in_flight(word: u64) -> u32 {
    word as u32
}

fn waiting(word: u64) -> u32 {
    (word >> 32) as u32
}

/// While `waiting` is not 0, `word` changes only under the line's lock. Then also: as many are in flight as the limit says, or more.
#[repr(align(64))]
pub struct Gate {
    word: AtomicU64,
    limit: AtomicU32,
    /// Where the limit is that of each endpoint: how many there are. 0: it is that of all.
    endpoints: AtomicU32,
    adaptive: Adaptive,
    line: Mutex<Line>,
    clock: Clock,
}

/// What is seen of a gate from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateView {
    pub in_flight: u32,
    pub waiting: u32,
    /// `u32::MAX`: there is none any more.
    pub limit: u32,
    pub tally: Tally,
}

/// Of a request that is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// When it may be worth while to come again.
    pub retry_after: Duration,
}

/// What comes of a request at the gate.
#[derive(Debug)]
pub enum Entered {
    In(Place),
    Line(Waiting),
    Refused(Refusal),
}

impl Gate {
    pub fn new(concurrency: &Concurrency, clock: Clock) -> Gate {
        let now = clock.now();
        let adaptive = Adaptive::new(now);
        let endpoints = endpoints(concurrency.per, 0);
        let limit = adaptive.configure(of_all(concurrency.limit, endpoints), u32::MAX, now);
        Gate {
            word: AtomicU64::new(0),
            limit: AtomicU32::new(limit),
            endpoints: AtomicU32::new(endpoints),
            adaptive,
            line: Mutex::new(Line::new(*concurrency, now)),
            clock,
        }
    }

    /// As it is configured from now on. Who is in flight stays, and so does who waits; where there is more room than before, they are
    /// let in.
    pub fn configure(&self, concurrency: &Concurrency, now: Instant) {
        let endpoints = endpoints(concurrency.per, self.endpoints.load(Ordering::Relaxed));
        self.line().settings = *concurrency;
        self.endpoints.store(endpoints, Ordering::Relaxed);
        self.set_limit(self.adaptive.configure(of_all(concurrency.limit, endpoints), self.limit(), now), now);
    }

    /// So many endpoints take part now: all together may have so many times the limit of one.
    pub fn spread(&self, endpoints: u32, now: Instant) {
        let endpoints = endpoints.max(1);
        if self.endpoints.swap(endpoints, Ordering::Relaxed) != endpoints {
            let concurrency = self.line().settings;
            self.configure(&concurrency, now);
        }
    }

    /// What each endpoint may have in flight, where the limit is that of each. Who has a place finds one that has room.
    pub fn share(&self) -> u32 {
        self.limit().div_ceil(self.endpoints.load(Ordering::Relaxed).max(1))
    }

    /// There is no limit any more: whoever waits is let in.
    pub fn open(&self, now: Instant) {
        self.adaptive.switch_off();
        self.set_limit(u32::MAX, now);
    }

    pub fn view(&self) -> GateView {
        let tally = self.line().tally.clone();
        let word = self.word.load(Ordering::Relaxed);
        GateView { in_flight: in_flight(word), waiting: waiting(word), limit: self.limit(), tally }
    }

    /// A place, if one is free and nobody waits for it.
    pub fn try_enter(self: &Arc<Self>) -> Option<Place> {
        self.take_free().then(|| Place::of(self))
    }

    /// A place at once, or one in line. `until`: the request's own deadline.
    pub fn enter(self: &Arc<Self>, priority: u8, until: Option<Instant>, now: Instant) -> Entered {
        if let Some(limit) = self.adaptive.held_up(self.limit(), now) {
            self.found(limit, now);
        }
        if let Some(place) = self.try_enter() {
            return Entered::In(place);
        }
        if let Some(limit) = self.adaptive.lapse(now) {
            self.found(limit, now);
        }
        let mut line = self.line();
        // Somebody may have left meanwhile; with the lock held it is now or in line.
        if self.take_free() {
            return Entered::In(Place::of(self));
        }
        let mut displaced = None;
        if line.waiting() >= line.settings.queue.length {
            displaced = line.displace(priority);
            if displaced.is_none() {
                line.tally.refused(Reason::Full);
                let retry_after = line.pace.until_served(line.waiting(), now);
                return Entered::Refused(Refusal { reason: Reason::Full, retry_after });
            }
            self.word.fetch_sub(ONE_WAITING, Ordering::Relaxed);
        }
        if !self.count_waiting() {
            // A place came free this very moment.
            drop(line);
            wake(displaced.flatten());
            return self.enter(priority, until, now);
        }
        let until = until.unwrap_or(now + line.settings.queue.timeout);
        let key = line.join(priority, now, until);
        let (ticket, until) = (line.ticket(key), line.until(key));
        drop(line);
        wake(displaced.flatten());
        Entered::Line(Waiting { gate: self.clone(), key, ticket, since: now, until, is_over: false })
    }

    /// With the lock held: one more waits, unless a place came free that nobody waits for.
    fn count_waiting(&self) -> bool {
        let limit = self.limit();
        let counted = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            (waiting(word) > 0 || in_flight(word) >= limit).then_some(word + ONE_WAITING)
        });
        counted.is_ok()
    }

    fn take_free(&self) -> bool {
        let limit = self.limit();
        let taken = self.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, |word| {
            (waiting(word) == 0 && in_flight(word) < limit).then_some(word + ONE_IN_FLIGHT)
        });
        taken.is_ok()
    }

    fn leave(&self, now: impl FnOnce() -> Instant) {
        let left = self
            .word
            .fetch_update(Ordering::Release, Ordering::Relaxed, |word| (waiting(word) == 0).then(|| word - ONE_IN_FLIGHT));
        if left.is_err() {
            self.hand_on(now());
        }
    }

    /// The place goes to who is next, or is given up where nobody is or too many are in flight.
    fn hand_on(&self, now: Instant) {
        loop {
            let mut line = self.line();
            let limit = self.limit();
            let called = if self.in_flight() > limit { Called::Nobody } else { line.call(now, limit) };
            match called {
                Called::Nobody => {
                    self.word.fetch_sub(ONE_IN_FLIGHT, Ordering::Release);
                    return;
                }
                Called::Admitted(waker) => {
                    self.word.fetch_sub(ONE_WAITING, Ordering::Release);
                    drop(line);
                    return wake(waker);
                }
                Called::Refused(waker) => {
                    self.word.fetch_sub(ONE_WAITING, Ordering::Release);
                    drop(line);
                    wake(waker);
                }
            }
        }
    }

    fn set_limit(&self, limit: u32, now: Instant) {
        let line = self.line();
        self.limit.store(limit, Ordering::Relaxed);
        drop(line);
        self.let_in(now);
    }

    /// The limit that found itself; unless it does so no more since it was computed.
    pub(super) fn found(&self, limit: u32, now: Instant) {
        let line = self.line();
        if self.adaptive.is_on() {
            self.limit.store(limit, Ordering::Relaxed);
        }
        drop(line);
        self.let_in(now);
    }

    /// Who waits, as far as there is room.
    fn let_in(&self, now: Instant) {
        loop {
            let line = self.line();
            if line.waiting() == 0 || self.in_flight() >= self.limit() {
                return;
            }
            self.word.fetch_add(ONE_IN_FLIGHT, Ordering::Relaxed);
            drop(line);
            self.hand_on(now);
        }
    }

    fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    fn in_flight(&self) -> u32 {
        in_flight(self.word.load(Ordering::Relaxed))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        write!(f, "Gate({} in flight, {} waiting, limit {})", in_flight(word), waiting(word), self.limit())
    }
}

fn endpoints(per: ConcurrencyScope, known: u32) -> u32 {
    match per {
        ConcurrencyScope::Upstream => 0,
        ConcurrencyScope::Endpoint => known.max(1),
    }
}

fn of_all(limit: ConcurrencyLimit, endpoints: u32) -> ConcurrencyLimit {
    let times = NonZeroU32::new(endpoints).unwrap_or(NonZeroU32::MIN);
    match limit {
        ConcurrencyLimit::Fixed(limit) => ConcurrencyLimit::Fixed(limit.saturating_mul(times)),
        ConcurrencyLimit::Adaptive { min, max } => {
            ConcurrencyLimit::Adaptive { min: min.saturating_mul(times), max: max.saturating_mul(times) }
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A place among those in flight, until this is dropped.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    /// It counts among those that `lasts` was said of.
    lasts: Cell<bool>,
}

impl Place {
    fn of(gate: &Arc<Gate>) -> Place {
        Place { gate: gate.clone(), lasts: Cell::new(false) }
    }

    /// An answer came, after so long: a limit that finds itself goes by that.
    pub fn answered(&self, took: Duration, now: Instant) {
        let gate = &self.gate;
        if let Some(limit) = gate.adaptive.observe(took, gate.in_flight(), now) {
            gate.found(limit, now);
        }
    }

    /// An answer is passed on: the place is kept until it ends, and that says nothing of the back end.
    pub fn lasts(&self) {
        if !self.lasts.get() {
            self.lasts.set(self.gate.adaptive.hold());
        }
    }

    #[cfg(test)]
    pub(super) fn leave(self, now: Instant) {
        self.gate.leave(|| now);
        // It has left already. The gate of a test is never freed.
        std::mem::forget(self);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.lasts.get() {
            self.gate.adaptive.let_go();
        }
        self.gate.leave(|| self.gate.clock.now());
    }
}

/// A place in line. Dropped, it is given up; had it been called already, the next one is.
#[derive(Debug)]
pub struct Waiting {
    gate: Arc<Gate>,
    key: u32,
    ticket: u64,
    since: Instant,
    until: Instant,
    is_over: bool,
}

impl Waiting {
    /// Of those who ever waited here, in the order of their coming.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    pub fn since(&self) -> Instant {
        self.since
    }

    /// When it is no use to wait any longer: call `expire` then.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Ready when called, or refused. Not to be asked again then.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Place, Refusal>> {
        let mut line = self.gate.line();
        if line.state(self.key) == State::Waits {
            line.wake(self.key, cx.waker());
            return Poll::Pending;
        }
        let answer = settle(&mut line, self.key, now);
        drop(line);
        Poll::Ready(self.end(answer))
    }

    /// The time is over; but it may have been called at the last moment.
    pub fn expire(&mut self, now: Instant) -> Result<Place, Refusal> {
        let mut line = self.gate.line();
        if line.state(self.key) == State::Waits {
            line.expire(self.key);
            self.gate.word.fetch_sub(ONE_WAITING, Ordering::Release);
        }
        let answer = settle(&mut line, self.key, now);
        drop(line);
        self.end(answer)
    }

    fn end(&mut self, answer: Result<(), Refusal>) -> Result<Place, Refusal> {
        self.is_over = true;
        answer.map(|()| Place::of(&self.gate))
    }

    pub(super) fn give_up(&mut self, now: impl FnOnce() -> Instant) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let mut line = self.gate.line();
        let state = line.forget(self.key);
        if state == State::Waits {
            self.gate.word.fetch_sub(ONE_WAITING, Ordering::Release);
        }
        drop(line);
        match state {
            State::Admitted => self.gate.leave(now),
            State::Waits | State::Refused(_) => {}
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let gate = self.gate.clone();
        self.give_up(|| gate.clock.now());
    }
}

/// Fetches the answer of one that waits no more.
fn settle(line: &mut Line, key: u32, now: Instant) -> Result<(), Refusal> {
    match line.forget(key) {
        State::Admitted => Ok(()),
        State::Refused(reason) => Err(Refusal { reason, retry_after: line.pace.until_served(line.waiting(), now) }),
        State::Waits => unreachable!("it has its answer"),
    }
}
