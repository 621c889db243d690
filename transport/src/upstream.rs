//! An upstream as one worker sees it: its addresses, which of them is picked, and a pool of connections to each. Which requests may
//! be tried twice is not decided here.

mod breaker;
mod dial;
mod gate;
mod key;
mod pool;
mod shared;
mod targets;

use crate::client::{Carrier, Failure};
use crate::worker::Worker;
pub use breaker::{Breaker, RequestPlace};
pub use dial::{Dial, ProxyVersion};
use gate::{Caretaker, Gate};
use maitred_core::balance::{FAILURE_COST, WHEEL_MAX};
use maitred_core::{Exchange, Fault, Kind, Remote};
use maitred_model::{HashBy, Protection, UpstreamTimeouts};
pub use pool::Pools;
use pool::{Pool, PoolKey};
pub use shared::UpstreamShared;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
pub use targets::{Target, TargetCell, TargetSet};
use tokio::task::unconstrained;

pub(crate) use breaker::{ConnectionPlace, Fate};
pub(crate) use pool::Pool as ConnectionPool;

/// Addresses tried for one request until one can be connected to.
const CONNECTS_MAX: usize = 3;

/// An upstream as configured.
pub struct UpstreamSpec {
    pub name: Arc<str>,
    pub host: maitred_model::UpstreamHost,
    pub timeouts: UpstreamTimeouts,
    pub targets: Arc<TargetCell>,
    /// What of a request is its key, where picks go by keys.
    pub hash_by: Option<HashBy>,
    pub dial: Arc<Dial>,
    pub protection: Protection,
    pub shared: Arc<UpstreamShared>,
}

/// An upstream as one worker sees it.
pub struct Upstream {
    pub spec: Arc<UpstreamSpec>,
    worker: Rc<Worker>,
    pools: Rc<Pools>,
    seen: Cell<u64>,
    turn: Cell<usize>,
    view: RefCell<Rc<View>>,
    _caretaker: Option<Caretaker>,
}

#[derive(Default)]
struct View {
    set: Arc<TargetSet>,
    pools: Vec<Rc<Pool>>,
}

/// A connection, or a stream of one, for one attempt, and where it leads.
pub struct Lease {
    pub connection: Carrier,
    view: Rc<View>,
    index: usize,
    /// It served a request before: the back end may be closing it this very moment.
    pub reused: bool,
}

/// The endpoint that is to be tried.
pub struct Picked {
    view: Rc<View>,
    index: usize,
}

impl Picked {
    pub fn endpoint(&self) -> &Remote {
        &self.view.pools[self.index].key.remote
    }
}

impl Lease {
    pub fn target(&self) -> &Target {
        &self.view.set.targets[self.index]
    }

    /// How long the attempt took, for picks that go by that. A failure counts as a long one.
    pub fn answered(&self, took: Duration, has_failed: bool, now: Instant) {
        if let Some(figures) = self.view.set.timed(self.index) {
            figures.observe(if has_failed { took.max(FAILURE_COST) } else { took }, now);
        }
    }

    /// The attempt was given up after so long for another that was faster: it did not fail, nor did it succeed.
    pub fn overtaken(&self, after: Duration, now: Instant) {
        if let Some(figures) = self.view.set.timed(self.index) {
            figures.observe(after, now);
        }
    }
}

/// For whom a connection is wanted.
pub struct Wanted {
    /// Not a connection that was used before.
    pub fresh: bool,
    pub deadline: Option<Instant>,
    /// It is to become a tunnel.
    pub upgrade: bool,
    /// The client's two ends, for a PROXY header.
    pub client: (SocketAddr, SocketAddr),
    /// Of the request's key, where it has one that picks go by.
    pub key: Option<u64>,
    /// Where it was tried before: another endpoint, if there is one.
    pub avoid: Option<Remote>,
}

impl Wanted {
    pub fn by(exchange: &Exchange, spec: &UpstreamSpec, fresh: bool) -> Wanted {
        Wanted {
            fresh,
            deadline: exchange.deadline,
            upgrade: exchange.request.upgrade.is_some(),
            client: (exchange.peer, exchange.local),
            key: spec.hash_by.as_ref().and_then(|by| key::key(by, exchange)),
            avoid: None,
        }
    }
}

impl Upstream {
    pub fn new(spec: Arc<UpstreamSpec>, worker: &Rc<Worker>, pools: &Rc<Pools>) -> Upstream {
        // Workers start at different places, so that a few requests do not all meet the first endpoint.
        let turn = Cell::new(worker.chance.below(WHEEL_MAX as usize));
        let _caretaker = Caretaker::of(&spec, pools);
        let (worker, pools) = (worker.clone(), pools.clone());
        Upstream { spec, worker, pools, seen: Cell::new(0), turn, view: RefCell::default(), _caretaker }
    }

    /// A place for a request, where a circuit breaker counts them.
    pub fn enter(&self) -> Result<Option<RequestPlace>, Fault> {
        let Some(limits) = self.spec.protection.circuit_breaker else { return Ok(None) };
        let place = self.spec.shared.enter(limits.requests.get());
        if place.is_none() {
            self.worker.shard().breaker_requests.add(1);
            return Err(Fault::new(Kind::CircuitOpen, "over circuit_breaker.requests"));
        }
        Ok(place)
    }

    /// Sees new addresses, if there are any.
    fn refresh(&self) {
        let generation = self.spec.targets.generation();
        if self.seen.replace(generation) != generation {
            let set = self.spec.targets.load();
            let key = |target: &Target| PoolKey::new(target, &self.spec.dial);
            let pools = set.targets.iter().map(|target| self.pools.of(key(target), &self.spec.dial, &self.worker)).collect();
            *self.view.borrow_mut() = Rc::new(View { set, pools });
        }
    }

    /// Where a request goes.
    pub fn pick(&self, wanted: &Wanted) -> Result<Picked, Failure> {
        self.refresh();
        let view = self.view.borrow();
        let asked = view.set.asked(wanted.key, &self.worker.chance);
        let Some(index) = view.set.picker.pick(&self.turn, || self.worker.now(), &asked) else {
            return Err(Failure::unsent(Fault::new(Kind::NoEndpoint, format!("upstream {} has no address", self.spec.name))));
        };
        let index = wanted.avoid.as_ref().map_or(index, |avoid| view.set.elsewhere(index, avoid));
        Ok(Picked { view: view.clone(), index })
    }

    /// A connection: a pooled one at once, or a new one. An address that can't be connected to gives way to the next; nothing was
    /// sent, so that is always safe. Where there is `retry`, that alone says what is tried again, and its budget pays.
    pub async fn lease(&self, picked: Picked, wanted: &Wanted, record: &mut maitred_core::Record) -> Result<Lease, Failure> {
        let Picked { view, index: first } = picked;
        let count = view.pools.len();
        let most = if self.spec.protection.retry.is_some() { 1 } else { CONNECTS_MAX };
        let mut last = None;
        for attempt in 0..count.min(most) {
            let index = (first + attempt) % count;
            let pool = &view.pools[index];
            record.endpoint = Some(pool.key.remote.clone());
            record.attempts += 1;
            let in_flight = view.set.enter(index);
            // Out of tokio's budget: with it used up, a closed connection would look quiet.
            if !wanted.fresh
                && let Some(connection) = unconstrained(poll_fn(|cx| Poll::Ready(pool.take(cx, wanted)))).await
            {
                self.worker.shard().upstream_reuses.add(1);
                connection.carry(in_flight);
                return Ok(Lease { connection, view, index, reused: true });
            }
            // Boxed: connecting is rare, and its future would make every connection's task larger.
            let gate = Gate::of(&self.spec, &self.pools);
            match Box::pin(pool.connect(wanted, self.spec.timeouts.connect, gate)).await {
                Ok((connection, reused)) => {
                    connection.carry(in_flight);
                    return Ok(Lease { connection, view, index, reused });
                }
                Err(fault) if fault.kind == Kind::CircuitOpen => {
                    self.worker.shard().breaker_connections.add(1);
                    return Err(Failure::unsent(fault));
                }
                Err(fault) => last = Some(fault),
            }
            if let Some(figures) = view.set.timed(index) {
                figures.observe(FAILURE_COST, self.worker.now());
            }
            if wanted.deadline.is_some_and(|deadline| self.worker.now() >= deadline) {
                break;
            }
        }
        Err(Failure::unsent(last.unwrap_or_else(|| Fault::new(Kind::NoEndpoint, "no address"))))
    }
}
