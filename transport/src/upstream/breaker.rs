//! The circuit breaker of an upstream: how many requests and connections it may have at once, over all workers. While there is room a
//! place costs one atomic; only where connections run out do requests stand in line, behind a lock.

use super::UpstreamShared;
use maitred_core::{Fault, Kind};
use maitred_model::CircuitBreaker;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
// tidy-allow: lock, because it is taken only where connections have run out
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot::{Receiver, Sender, channel};
use tokio::sync::{Notify, futures::Notified};

/// A connection goes back to those who wait for it where it is, past the first in line, so often in a row at most. Without this nearly
/// every connection would be closed and another made; without a bound, a worker that has none would get none.
const PASSED_OVER_MAX: u32 = 8;

/// What an upstream has at once.
#[derive(Debug, Default)]
pub struct Breaker {
    requests: AtomicU32,
    connections: AtomicU32,
    /// As long as the line is.
    waiting: AtomicU32,
    // tidy-allow: lock, because it is taken only where connections have run out
    line: Mutex<VecDeque<Waiter>>,
    tickets: AtomicU64,
    /// Until when a link is kept free for those who wait.
    // tidy-allow: lock, because it is taken only where connections have run out
    yields_until: Mutex<Option<Instant>>,
    /// Somebody waits: workers are to give up what lies idle.
    short: Notify,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// The address of the pool that it would take a connection from; 0 where only a new one will do.
    pool: usize,
    limit: u32,
    passed_over: u32,
    grant: Sender<Grant>,
}

/// What an upstream has at one moment, and what it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerView {
    pub requests: u32,
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    pub limits: CircuitBreaker,
}

/// What is given to who waits.
#[derive(Debug)]
pub(crate) enum Grant {
    /// To make a connection.
    Place(ConnectionPlace),
    /// One of its pool has become free.
    Freed,
}

/// What becomes of a connection that is not used any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody waits.
    Keep,
    /// One who waits for it was told.
    Promised,
    /// Others wait, elsewhere.
    Close,
}

/// A request's place, until this is dropped.
#[derive(Debug)]
pub struct RequestPlace(Arc<UpstreamShared>);

/// A connection's place, until this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPlace(Arc<UpstreamShared>);

impl Breaker {
    pub fn view(&self, limits: CircuitBreaker) -> BreakerView {
        let read = |number: &AtomicU32| number.load(Relaxed);
        let (requests, connections, pending) = (read(&self.requests), read(&self.connections), read(&self.waiting));
        BreakerView { requests, connections, pending, limits }
    }

    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// One more link takes no new requests until then, unless one does already.
    pub(crate) fn yields(&self, now: Instant, until: Instant) -> bool {
        let mut known = self.yielding();
        let is_free = known.is_none_or(|known| known <= now);
        if is_free {
            *known = Some(until);
        }
        is_free
    }

    /// It came free: the next one may.
    pub(crate) fn yielded(&self) {
        *self.yielding() = None;
    }

    fn yielding(&self) -> MutexGuard<'_, Option<Instant>> {
        self.yields_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until somebody comes to wait.
    pub(super) fn short(&self) -> Notified<'_> {
        self.short.notified()
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_connection(&self, limit: u32) -> bool {
        self.connections.fetch_update(SeqCst, SeqCst, |open| (open < limit).then(|| open + 1)).is_ok()
    }

    fn leave(&self, line: &mut VecDeque<Waiter>, index: usize) -> Option<Waiter> {
        self.waiting.fetch_sub(1, SeqCst);
        line.remove(index)
    }

    /// What becomes of a connection of that pool which nobody uses: bounded by `PASSED_OVER_MAX`, those who wait for it there come first.
    pub(crate) fn settle(&self, pool: usize) -> Fate {
        if !self.is_short() {
            return Fate::Keep;
        }
        let mut line = self.line();
        loop {
            let Some(first) = line.front_mut() else { return Fate::Keep };
            let (is_first, may_pass) = (first.pool == pool, first.passed_over < PASSED_OVER_MAX);
            let Some(index) = line.iter().position(|waiter| waiter.pool == pool && (is_first || may_pass)) else {
                return Fate::Close;
            };
            if index > 0 {
                line[0].passed_over += 1;
            }
            if self.leave(&mut line, index).is_some_and(|waiter| waiter.grant.send(Grant::Freed).is_ok()) {
                return Fate::Promised;
            }
        }
    }
}

impl UpstreamShared {
    /// A place for one request more.
    pub(crate) fn enter(self: &Arc<Self>, limit: u32) -> Option<RequestPlace> {
        let entered = self.breaker.requests.fetch_update(Relaxed, Relaxed, |open| (open < limit).then(|| open + 1));
        entered.is_ok().then(|| RequestPlace(self.clone()))
    }

    /// A place for one connection more, if there is one and nobody waits for it.
    pub(crate) fn connect(self: &Arc<Self>, limit: u32) -> Option<ConnectionPlace> {
        let free = !self.breaker.is_short() && self.breaker.take_connection(limit);
        free.then(|| ConnectionPlace(self.clone()))
    }

    /// Stands in line for a connection. `again`: in front, since it was given one that proved dead.
    pub(crate) fn wait(self: &Arc<Self>, limit: u32, pending: u32, pool: usize, again: bool) -> Result<Waiting, Fault> {
        let breaker = &self.breaker;
        let mut line = breaker.line();
        if !again && line.len() >= pending as usize {
            return Err(Fault::new(Kind::CircuitOpen, "over circuit_breaker.pending"));
        }
        let (grant, granted) = channel();
        let ticket = breaker.tickets.fetch_add(1, Relaxed);
        let waiter = Waiter { ticket, pool, limit, passed_over: 0, grant };
        if again {
            line.push_front(waiter)
        } else {
            line.push_back(waiter)
        }
        breaker.waiting.fetch_add(1, SeqCst);
        drop(line);
        self.advance();
        breaker.short.notify_waiters();
        Ok(Waiting { shared: self.clone(), ticket, granted })
    }

    /// Gives places that are free to the first in line.
    fn advance(self: &Arc<Self>) {
        let breaker = &self.breaker;
        if !breaker.is_short() {
            return;
        }
        let mut line = breaker.line();
        // Who came last knows the limit as it is now.
        while line.back().is_some_and(|last| breaker.take_connection(last.limit)) {
            let place = Grant::Place(ConnectionPlace(self.clone()));
            let refused = breaker.leave(&mut line, 0).map(|first| first.grant.send(place));
            if let Some(Err(_)) = &refused {
                // Dropped under the lock the place would ask for it.
                drop(line);
                return drop(refused);
            }
        }
    }
}

impl ConnectionPlace {
    pub fn shared(&self) -> &Arc<UpstreamShared> {
        &self.0
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.0.breaker.connections.fetch_sub(1, SeqCst);
        self.0.advance();
    }
}

impl Drop for RequestPlace {
    fn drop(&mut self) {
        self.0.breaker.requests.fetch_sub(1, Relaxed);
    }
}

/// One who stands in line; dropped, it leaves, and what it was given meanwhile goes to the next.
pub(crate) struct Waiting {
    shared: Arc<UpstreamShared>,
    ticket: u64,
    granted: Receiver<Grant>,
}

impl Waiting {
    pub fn granted(&mut self) -> &mut Receiver<Grant> {
        &mut self.granted
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut line = self.shared.breaker.line();
        if let Some(index) = line.iter().position(|waiter| waiter.ticket == self.ticket) {
            self.shared.breaker.leave(&mut line, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_core::Chance;

    fn shared() -> Arc<UpstreamShared> {
        Arc::new(UpstreamShared::new(Instant::now()))
    }

    fn counts(shared: &UpstreamShared) -> (u32, u32) {
        let breaker = &shared.breaker;
        (breaker.connections.load(SeqCst), breaker.waiting.load(SeqCst))
    }

    fn place(waiting: &mut Waiting) -> Option<ConnectionPlace> {
        match waiting.granted().try_recv() {
            Ok(Grant::Place(place)) => Some(place),
            Ok(Grant::Freed) | Err(_) => None,
        }
    }

    #[test]
    fn places_that_are_left_go_to_the_first_in_line() {
        let shared = shared();
        let held: Vec<_> = (0..2).map(|_| shared.connect(2).unwrap()).collect();
        assert!(shared.connect(2).is_none());
        let mut line: Vec<_> = (0..3).map(|_| shared.wait(2, 3, 1, false).unwrap()).collect();
        assert_eq!(shared.wait(2, 3, 1, false).map(|_| ()).unwrap_err().kind, Kind::CircuitOpen, "so many may wait");
        let mut front = shared.wait(2, 9, 1, true).unwrap();
        drop(held);
        assert_eq!(counts(&shared), (2, 2));
        assert!(shared.connect(3).is_none(), "nobody overtakes");
        let placed = (place(&mut front).unwrap(), place(&mut line[0]).unwrap());
        assert!(place(&mut line[1]).is_none());
        drop(placed);
        assert_eq!(counts(&shared), (2, 0), "both that were left are told");
        drop(line);
        assert_eq!(counts(&shared), (0, 0), "and whoever leaves gives back what it was given");
    }

    #[test]
    fn a_place_that_was_given_and_not_taken_goes_on() {
        let shared = shared();
        let held = shared.connect(1).unwrap();
        let first = shared.wait(1, 9, 1, false).unwrap();
        let mut second = shared.wait(1, 9, 1, false).unwrap();
        drop(held);
        drop(first);
        assert!(place(&mut second).is_some_and(|_| counts(&shared) == (1, 0)));
    }

    #[test]
    fn a_limit_that_grew_counts_for_those_who_came_before() {
        let shared = shared();
        let _held = shared.connect(1).unwrap();
        let mut first = shared.wait(1, 9, 1, false).unwrap();
        let mut second = shared.wait(3, 9, 1, false).unwrap();
        assert!(place(&mut first).is_some() && place(&mut second).is_some());
    }

    #[test]
    fn who_stood_in_line_and_was_given_a_dead_one_is_not_refused_for_want_of_room() {
        let shared = shared();
        let _held = shared.connect(1).unwrap();
        let mut first = shared.wait(1, 1, 1, false).unwrap();
        assert_eq!(shared.breaker.settle(1), Fate::Promised);
        assert!(matches!(first.granted().try_recv(), Ok(Grant::Freed)));
        let _newcomer = shared.wait(1, 1, 1, false).unwrap();
        assert!(shared.wait(1, 1, 1, true).is_ok());
    }

    #[test]
    fn a_connection_stays_where_it_is_but_nobody_is_passed_over_for_ever() {
        let shared = shared();
        assert_eq!(shared.breaker.settle(1), Fate::Keep);
        let _held = shared.connect(1).unwrap();
        let _first = shared.wait(1, 99, 1, false).unwrap();
        let _others: Vec<_> = (0..20).map(|_| shared.wait(1, 99, 2, false).unwrap()).collect();
        let fates: Vec<Fate> = (0..PASSED_OVER_MAX + 2).map(|_| shared.breaker.settle(2)).collect();
        let kept = fates.iter().take_while(|fate| **fate == Fate::Promised).count();
        assert_eq!(kept as u32, PASSED_OVER_MAX);
        assert!(fates[kept..].iter().all(|fate| *fate == Fate::Close));
        assert_eq!(shared.breaker.settle(1), Fate::Promised, "who is first is served where it is");
    }

    #[test]
    fn many_threads_never_have_more_than_the_limit_and_lose_no_place() {
        const LIMIT: u32 = 3;
        let (shared, most) = (shared(), AtomicU32::new(0));
        let work = |seed| {
            let chance = Chance::seeded(seed);
            for _ in 0..5_000 {
                let place = shared.connect(LIMIT).or_else(|| {
                    let mut waiting = shared.wait(LIMIT, 100, 1, false).ok()?;
                    // Some lose patience, even as they are given a place.
                    let patience = chance.below(2_000);
                    (0..patience).find_map(|_| place(&mut waiting))
                });
                most.fetch_max(shared.breaker.connections.load(SeqCst), SeqCst);
                drop(place);
            }
        };
        std::thread::scope(|scope| (1..=4).for_each(|seed| _ = scope.spawn(move || work(seed))));
        assert_eq!(counts(&shared), (0, 0));
        assert!(most.load(SeqCst) <= LIMIT);
    }
}
