//! An upstream as one worker sees it: its addresses, the turn among them, and a pool of connections to each. Which requests may
//! be tried twice is not decided here.

use crate::client::{ClientConnection, Failure};
use crate::timers::Timer;
use crate::worker::Worker;
use arc_swap::ArcSwap;
use maitred_core::{Fault, Kind, Record};
use maitred_model::UpstreamTimeouts;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::task::unconstrained;

/// Idle connections kept per endpoint and worker.
const IDLE_MAX: usize = 512;
/// Addresses tried for one request until one can be connected to.
const CONNECTS_MAX: usize = 3;
/// The longest cycle of turns; weights beyond it are scaled down.
const WHEEL_MAX: u64 = 8192;

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    /// The Host that it is sent, unless the upstream says otherwise.
    pub authority: Arc<str>,
    /// Prefixed to every path.
    pub prefix: Arc<str>,
    /// 0: only when the others can't be connected to.
    pub weight: u32,
}

/// All addresses of an upstream at one moment, and the order of turns among them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TargetSet {
    pub targets: Vec<Target>,
    /// Indices into `targets`, each as often as its weight says, evenly spread.
    pub wheel: Vec<u16>,
}

impl TargetSet {
    pub fn new(targets: Vec<Target>) -> TargetSet {
        let wheel = wheel(&targets.iter().map(|target| target.weight).collect::<Vec<_>>());
        TargetSet { targets, wheel }
    }
}

/// Smooth weighted round robin, a whole cycle of it: of weights 5, 1, 1 it makes a a b a c a a.
pub fn wheel(weights: &[u32]) -> Vec<u16> {
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if sum == 0 {
        return Vec::new();
    }
    let divisor = weights.iter().filter(|&&weight| weight > 0).fold(0, |a, &b| gcd(a, u64::from(b)));
    let scale = (sum / divisor).div_ceil(WHEEL_MAX);
    let weights: Vec<i64> =
        weights.iter().map(|&weight| if weight == 0 { 0 } else { (u64::from(weight) / divisor / scale).max(1) as i64 }).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            let mut best = None;
            for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
                credit[index] += weight;
                if best.is_none_or(|best: usize| credit[index] > credit[best]) {
                    best = Some(index);
                }
            }
            let best = best.unwrap_or(0);
            credit[best] -= total;
            best as u16
        })
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The current addresses of an upstream; discovery writes, workers read. Outlives snapshots, keyed by what it resolves.
#[derive(Debug, Default)]
pub struct TargetCell {
    current: ArcSwap<TargetSet>,
    generation: AtomicU64,
}

impl TargetCell {
    pub fn new(set: TargetSet) -> TargetCell {
        TargetCell { current: ArcSwap::from_pointee(set), generation: AtomicU64::new(1) }
    }

    pub fn publish(&self, set: TargetSet) {
        if **self.current.load() != set {
            self.current.store(Arc::new(set));
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    pub fn load(&self) -> Arc<TargetSet> {
        self.current.load_full()
    }
}

/// An upstream as configured.
#[derive(Debug)]
pub struct UpstreamSpec {
    pub name: Arc<str>,
    pub host: maitred_model::UpstreamHost,
    pub timeouts: UpstreamTimeouts,
    pub targets: Arc<TargetCell>,
}

/// Connections to one address, the freshest last.
pub struct Pool {
    address: SocketAddr,
    idle: RefCell<Vec<Rc<ClientConnection>>>,
    worker: Rc<Worker>,
}

impl Pool {
    pub(crate) fn put(&self, connection: Rc<ClientConnection>) {
        connection.idle_since.set(self.worker.now());
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    /// The freshest connection that is still good.
    fn take(&self, cx: &mut std::task::Context<'_>) -> Option<Rc<ClientConnection>> {
        loop {
            let connection = self.idle.borrow_mut().pop()?;
            if connection.is_quiet(cx) {
                return Some(connection);
            }
        }
    }

    /// Closes what the back end has closed, and what has been idle for too long.
    fn reap(&self, now: Instant, cx: &mut std::task::Context<'_>) {
        self.idle.borrow_mut().retain(|connection| connection.idle_until() > now && connection.is_quiet(cx));
    }
}

/// The pools of one worker. They outlive snapshots.
#[derive(Default)]
pub struct Pools {
    by_address: RefCell<HashMap<SocketAddr, Rc<Pool>>>,
}

impl Pools {
    fn of(&self, address: SocketAddr, worker: &Rc<Worker>) -> Rc<Pool> {
        let mut pools = self.by_address.borrow_mut();
        let pool = || Rc::new(Pool { address, idle: RefCell::default(), worker: worker.clone() });
        pools.entry(address).or_insert_with(pool).clone()
    }

    /// Closes idle connections that are over, and forgets pools that nobody uses.
    pub async fn reap(&self, now: Instant) {
        unconstrained(poll_fn(|cx| {
            self.by_address.borrow_mut().retain(|_, pool| {
                pool.reap(now, cx);
                Rc::strong_count(pool) > 1 || !pool.idle.borrow().is_empty()
            });
            Poll::Ready(())
        }))
        .await;
    }
}

/// An upstream as one worker sees it.
pub struct Upstream {
    pub spec: Arc<UpstreamSpec>,
    worker: Rc<Worker>,
    pools: Rc<Pools>,
    seen: Cell<u64>,
    turn: Cell<usize>,
    view: RefCell<Rc<View>>,
}

#[derive(Default)]
struct View {
    set: Arc<TargetSet>,
    pools: Vec<Rc<Pool>>,
}

/// A connection for one attempt, and where it leads.
pub struct Lease {
    pub connection: Rc<ClientConnection>,
    view: Rc<View>,
    index: usize,
    /// It served a request before: the back end may be closing it this very moment.
    pub reused: bool,
}

impl Lease {
    pub fn target(&self) -> &Target {
        &self.view.set.targets[self.index]
    }
}

impl Upstream {
    pub fn new(spec: Arc<UpstreamSpec>, worker: &Rc<Worker>, pools: &Rc<Pools>) -> Upstream {
        // Workers start at different places, so that a few requests do not all meet the first endpoint.
        let turn = Cell::new(worker.chance.below(WHEEL_MAX as usize));
        Upstream { spec, worker: worker.clone(), pools: pools.clone(), seen: Cell::new(0), turn, view: RefCell::default() }
    }

    /// Sees new addresses, if there are any.
    fn refresh(&self) {
        let generation = self.spec.targets.generation.load(Ordering::Acquire);
        if self.seen.replace(generation) != generation {
            let set = self.spec.targets.load();
            let pools = set.targets.iter().map(|target| self.pools.of(target.address, &self.worker)).collect();
            *self.view.borrow_mut() = Rc::new(View { set, pools });
        }
    }

    /// Whose turn it is.
    fn pick(&self) -> Option<(Rc<View>, usize)> {
        self.refresh();
        let view = self.view.borrow();
        let wheel = &view.set.wheel;
        if wheel.is_empty() {
            return None;
        }
        let turn = self.turn.get() % wheel.len();
        self.turn.set(turn + 1);
        Some((view.clone(), usize::from(wheel[turn])))
    }

    /// A connection: a pooled one at once, or a new one. `fresh`: not a pooled one. An address that can't be connected to gives way
    /// to the next; nothing was sent, so that is always safe.
    pub async fn lease(&self, fresh: bool, deadline: Option<Instant>, record: &mut Record) -> Result<Lease, Failure> {
        let unsent = |fault| Failure { fault, unsent: true, unanswered: true };
        let Some((view, first)) = self.pick() else {
            return Err(unsent(Fault::new(Kind::NoEndpoint, format!("upstream {} has no address", self.spec.name))));
        };
        let count = view.pools.len();
        let mut last = None;
        for attempt in 0..count.min(CONNECTS_MAX) {
            let index = (first + attempt) % count;
            let pool = &view.pools[index];
            record.endpoint = Some(pool.address);
            record.attempts += 1;
            // Out of tokio's budget: with it used up, a closed connection would look quiet.
            if !fresh && let Some(connection) = unconstrained(poll_fn(|cx| Poll::Ready(pool.take(cx)))).await {
                self.worker.shard().upstream_reuses.add(1);
                return Ok(Lease { connection, view, index, reused: true });
            }
            match self.connect(pool, deadline).await {
                Ok(connection) => return Ok(Lease { connection, view, index, reused: false }),
                Err(fault) => last = Some(fault),
            }
            if deadline.is_some_and(|deadline| self.worker.now() >= deadline) {
                break;
            }
        }
        Err(unsent(last.unwrap_or_else(|| Fault::new(Kind::NoEndpoint, "no address"))))
    }

    async fn connect(&self, pool: &Rc<Pool>, deadline: Option<Instant>) -> Result<Rc<ClientConnection>, Fault> {
        let address = pool.address;
        self.worker.shard().upstream_connects.add(1);
        let timer = Timer::new(&self.worker.timers);
        let due = self.worker.now() + self.spec.timeouts.connect;
        timer.arm(deadline.map_or(due, |deadline| deadline.min(due)));
        // Boxed: connecting is rare, and its future would make every connection's task larger.
        let mut connecting = pin!(Box::pin(TcpStream::connect(address)));
        let stream = poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => timer.poll(cx).map(|()| None),
        })
        .await;
        let stream = match stream {
            None => return Err(Fault::new(Kind::ConnectTimeout, format!("no connection to {address} in time"))),
            Some(Err(error)) => {
                return Err(Fault::new(Kind::UpstreamUnreachable, format!("cannot connect to {address}: {error}")));
            }
            Some(Ok(stream)) => stream,
        };
        let _ = stream.set_nodelay(true);
        Ok(ClientConnection::new(stream, &self.worker, pool, self.worker.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_and_evenly_spread() {
        assert_eq!(wheel(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(wheel(&[1, 1]), [0, 1]);
        assert_eq!(wheel(&[10, 20]), [1, 0, 1]);
        assert_eq!(wheel(&[3, 0]), [0, 0, 0][..1], "common factors are taken out, and weight 0 has no turn");
        assert!(wheel(&[]).is_empty());
        let large = wheel(&[1_000_000, 1, 1_000_000]);
        assert!(large.len() as u64 <= WHEEL_MAX + 2 && large.contains(&1));
    }
}
