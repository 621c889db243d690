//! The circuit breaker of an upstream: how many requests and connections it may have at once, over all workers. While there is room a
//! place costs one atomic; only where connections run out do requests stand in line, behind a lock.

use super::UpstreamShared;
use maitred_core::{Fault, Kind};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    line: Mutex<VecDeque<Waiter>>,
    tickets: AtomicU64,
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
    pub fn requests(&self) -> u32 {
        self.requests.load(Relaxed)
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// Requests that wait for a connection.
    pub fn pending(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(SeqCst) > 0
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
        if line.len() >= pending as usize {
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
        while line.front().is_some_and(|first| breaker.take_connection(first.limit)) {
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
