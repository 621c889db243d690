//! A worker's side of the circuit breaker: who may make a connection, who waits for one, and which idle ones are given up for others.

use super::breaker::{ConnectionPlace, Grant, Waiting};
use super::pool::{Pool, Pools};
use super::{UpstreamShared, UpstreamSpec};
use maitred_core::Fault;
use maitred_core::metrics::UpstreamSeries;
use maitred_model::CircuitBreaker;
use std::cell::Cell;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_local};

/// What a request has to pass that wants a new connection.
pub(super) struct Gate<'a> {
    limits: CircuitBreaker,
    pub shared: &'a Arc<UpstreamShared>,
    series: &'a UpstreamSeries,
    pools: &'a Pools,
    /// It stood in line, and did not get further.
    pub waits: Cell<bool>,
}

/// How a request gets on.
pub(super) enum Way {
    /// By a connection of its own; with a place, where those are counted.
    New(Option<ConnectionPlace>),
    /// One in the pool has become free.
    Freed,
}

impl<'a> Gate<'a> {
    /// `None`: there is no breaker.
    pub fn of(spec: &'a UpstreamSpec, pools: &'a Pools) -> Option<Gate<'a>> {
        let limits = spec.protection.circuit_breaker?;
        Some(Gate { limits, shared: &spec.shared, series: &spec.series, pools, waits: Cell::new(false) })
    }

    /// A place at once, or in line. `shares`: a connection of the pool would do as well.
    pub async fn pass(&self, pool: &Rc<Pool>, shares: bool) -> Result<Way, Fault> {
        let limit = self.limits.connections.get();
        if let Some(place) = self.shared.connect(limit) {
            return Ok(Way::New(Some(place)));
        }
        let from = if shares { pool.id() } else { 0 };
        let waiting = self.shared.wait(limit, self.limits.pending.get(), from, self.waits.get())?;
        let mut in_line = InLine { waiting, pool: pool.clone(), shared: self.shared.clone() };
        if !self.waits.replace(true) {
            pool.count(self.series, |shard| &shard.breaker_waits);
        }
        self.pools.give_up_idle(self.shared);
        let granted = in_line.waiting.granted().await;
        Ok(match granted {
            Ok(Grant::Place(place)) => Way::New(Some(place)),
            Ok(Grant::Freed) => {
                pool.redeem();
                Way::Freed
            }
            // Nobody drops a waiter that is in line.
            Err(_) => Way::Freed,
        })
    }
}

/// One in line on this worker.
struct InLine {
    waiting: Waiting,
    pool: Rc<Pool>,
    shared: Arc<UpstreamShared>,
}

impl Drop for InLine {
    /// What it was promised is somebody else's now. A place goes on by itself.
    fn drop(&mut self) {
        if let Ok(Grant::Freed) = self.waiting.granted().try_recv() {
            self.pool.redeem();
            self.pool.offer(&self.shared);
        }
    }
}

/// Gives up idle connections of an upstream while others wait for one, for as long as this is kept.
pub(super) struct Caretaker(JoinHandle<()>);

impl Caretaker {
    pub fn of(spec: &UpstreamSpec, pools: &Rc<Pools>) -> Option<Caretaker> {
        spec.protection.circuit_breaker?;
        Some(Caretaker(spawn_local(take_care(spec.shared.clone(), Rc::downgrade(pools)))))
    }
}

impl Drop for Caretaker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn take_care(shared: Arc<UpstreamShared>, pools: Weak<Pools>) {
    loop {
        let mut short = pin!(shared.breaker.short());
        // From here on it hears, whatever comes between.
        short.as_mut().enable();
        let Some(pools) = pools.upgrade() else { return };
        pools.give_up_idle(&shared);
        drop(pools);
        short.await;
    }
}
