//! An upstream as one worker sees it: its addresses, which of them is picked, and a pool of connections to each. Which requests may
//! be tried twice is not decided here.

mod affinity;
mod breaker;
mod dial;
mod gate;
mod key;
mod pool;
mod queue;
mod shared;
mod targets;
mod view;

use crate::client::{Carrier, Due, Failure};
use crate::worker::Worker;
pub use affinity::AffinityCookie;
pub use breaker::{Breaker, BreakerView, RequestPlace};
pub use dial::{Dial, ProxyVersion};
use gate::{Caretaker, Gate};
use maitred_core::balance::{FAILURE_COST, InFlight, Rules, WHEEL_MAX};
use maitred_core::metrics::{Counter, UpstreamSeries, UpstreamShard};
use maitred_core::{Exchange, Fault, Kind, Remote, Scheme};
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
pub use targets::{Order, Target, TargetCell, TargetSet};
use tokio::task::unconstrained;
use view::View;

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
    /// The cookie that sends a client where it was before.
    pub affinity: Option<AffinityCookie>,
    pub dial: Arc<Dial>,
    pub protection: Protection,
    pub shared: Arc<UpstreamShared>,
    /// What becomes of its requests beside being sent once.
    pub series: Arc<UpstreamSeries>,
    /// The way in, where `protection.concurrency` says so.
    pub gate: Option<Arc<maitred_core::queue::Gate>>,
}

impl UpstreamSpec {
    /// Of which nothing is said but where it is.
    pub fn plain(name: &str, targets: Arc<TargetCell>, now: Instant) -> UpstreamSpec {
        UpstreamSpec {
            name: name.into(),
            host: maitred_model::UpstreamHost::Upstream,
            timeouts: UpstreamTimeouts::default(),
            targets,
            hash_by: None,
            affinity: None,
            dial: Arc::default(),
            protection: Protection::default(),
            shared: Arc::new(UpstreamShared::new(now)),
            series: Arc::new(UpstreamSeries::new(name.into(), 0)),
            gate: None,
        }
    }
}

/// An upstream as one worker sees it.
pub struct Upstream {
    pub spec: Arc<UpstreamSpec>,
    worker: Rc<Worker>,
    pools: Rc<Pools>,
    rules: Rules,
    /// It has a circuit breaker, a concurrency limit, retries or hedges.
    pub is_guarded: bool,
    /// `TargetCell::epoch` when the view was made.
    seen: Cell<u64>,
    /// When the view is over, though nothing changes but the time.
    until: Cell<Option<Instant>>,
    turn: Cell<usize>,
    view: RefCell<Rc<View>>,
    _caretaker: Option<Caretaker>,
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

/// An endpoint that a request was sent to before: its address, and where it stood in the list. Lists change, and one address may stand in
/// them by several names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Avoid {
    pub address: Remote,
    pub at: usize,
}

impl Picked {
    pub fn endpoint(&self) -> Avoid {
        Avoid { address: self.view.pools[self.index].key.remote.clone(), at: self.index }
    }
}

impl Lease {
    pub fn target(&self) -> &Target {
        &self.view.set.targets[self.index]
    }

    /// How long the attempt took, and how it went. Not for clients that went wrong, or away.
    pub fn answered(&self, took: Duration, has_failed: bool, now: Instant) {
        self.connection.answered(now);
        self.view.answered(self.index, took, has_failed, now);
    }

    /// The `Set-Cookie` that brings a client here again, where there is such a cookie and the request had another or none.
    pub fn cookie(&self, exchange: &Exchange) -> Option<String> {
        let affinity = self.view.affinity()?;
        let token = self.view.token(self.index)?;
        (affinity.asked(exchange) != Some(token)).then(|| affinity.set(token, exchange.scheme == Scheme::Https))
    }

    /// The attempt was given up after so long for another that was faster: it did not fail, nor did it succeed.
    pub fn overtaken(&self, after: Duration, now: Instant) {
        self.view.overtaken(self.index, after, now);
    }
}

/// For whom a connection is wanted.
pub struct Wanted {
    /// Not a connection that was used before.
    pub fresh: bool,
    pub deadline: Option<Due>,
    /// It is to become a tunnel.
    pub upgrade: bool,
    /// The client's two ends, where a PROXY header tells of them.
    pub client: Option<Box<(SocketAddr, SocketAddr)>>,
    /// Of the request's key, where it has one that picks go by.
    pub key: Option<u64>,
    /// What its cookie names, where there is one of affinity.
    pub home: Option<u64>,
    /// Where it was tried before: another endpoint, if there is one.
    pub avoid: Option<Avoid>,
}

impl Wanted {
    pub fn by(exchange: &Exchange, spec: &UpstreamSpec, fresh: bool) -> Wanted {
        Wanted {
            fresh,
            deadline: Due::of(exchange),
            upgrade: exchange.request.upgrade.is_some(),
            client: spec.dial.proxy.filter(|_| !exchange.is_own).map(|_| Box::new((exchange.peer, exchange.local))),
            key: spec.hash_by.as_ref().and_then(|by| key::key(by, exchange)),
            home: spec.affinity.as_ref().and_then(|affinity| affinity.asked(exchange)),
            avoid: None,
        }
    }
}

impl Upstream {
    pub fn new(spec: Arc<UpstreamSpec>, worker: &Rc<Worker>, pools: &Rc<Pools>) -> Upstream {
        // Workers start at different places, so that a few requests do not all meet the first endpoint.
        let turn = Cell::new(worker.chance.below(WHEEL_MAX as usize));
        let rules = Rules::of(&spec.protection);
        let view = RefCell::new(Rc::new(View::new(&spec, &rules, Arc::default(), Rc::new([]), (worker.now(), 0))));
        let _caretaker = Caretaker::of(&spec, pools);
        let (worker, pools) = (worker.clone(), pools.clone());
        let Protection { circuit_breaker, retry, hedge, .. } = &spec.protection;
        let is_guarded = spec.gate.is_some() || circuit_breaker.is_some() || retry.is_some() || hedge.is_some();
        Upstream { spec, worker, pools, rules, is_guarded, seen: Cell::new(0), until: Cell::new(None), turn, view, _caretaker }
    }

    /// One more of what this worker counts of it.
    pub fn count(&self, of: impl Fn(&UpstreamShard) -> &Counter) {
        self.spec.series.count(self.worker.index, of);
    }

    /// A place for a request, where a circuit breaker counts them.
    pub fn enter(&self) -> Result<Option<RequestPlace>, Fault> {
        let Some(limits) = self.spec.protection.circuit_breaker else { return Ok(None) };
        let place = self.spec.shared.enter(limits.requests.get());
        if place.is_none() {
            self.count(|shard| &shard.breaker_requests);
            return Err(Fault::new(Kind::CircuitOpen, "over circuit_breaker.requests"));
        }
        Ok(place)
    }

    /// Sees new addresses, and how endpoints are, if anything changed.
    fn refresh(&self) {
        let epoch = self.spec.targets.epoch();
        if self.seen.get() != epoch || self.until.get().is_some_and(|until| until <= self.worker.now()) {
            self.seen.set(epoch);
            self.renew();
        }
    }

    #[cold]
    fn renew(&self) {
        let set = self.spec.targets.load();
        let old = self.view.borrow().clone();
        let pools = if Arc::ptr_eq(&old.set, &set) { old.pools.clone() } else { self.pools_of(&set) };
        let view = View::new(&self.spec, &self.rules, set, pools, (self.worker.now(), self.turn.get()));
        self.until.set(view.until());
        view.tell_panic(&self.rules, self.worker.now());
        self.spread(&view);
        *self.view.borrow_mut() = Rc::new(view);
    }

    fn pools_of(&self, set: &TargetSet) -> Rc<[Rc<Pool>]> {
        let pool = |target| self.pools.of(PoolKey::new(target, &self.spec), &self.spec.dial, &self.worker);
        set.targets.iter().map(pool).collect()
    }

    /// Where a request goes.
    pub fn pick(&self, wanted: &Wanted) -> Result<Picked, Failure> {
        self.refresh();
        let view = self.view.borrow();
        let index = view.pick(&self.turn, || self.worker.now(), wanted, &self.worker.chance);
        index.map(|index| Picked { view: view.clone(), index }).ok_or_else(|| self.nobody())
    }

    #[cold]
    fn nobody(&self) -> Failure {
        let detail = format!("upstream {} has no endpoint that may be used", self.spec.name);
        Failure::unsent(Fault::new(Kind::NoEndpoint, detail))
    }

    /// A connection: a pooled one at once, or a new one.
    pub async fn lease(&self, picked: Picked, wanted: &Wanted, record: &mut maitred_core::Record) -> Result<Lease, Failure> {
        let Picked { view, index } = picked;
        let (index, in_flight) = view.enter(index, self.share());
        let pool = self.at(&view, index, record);
        // Out of tokio's budget: with it used up, a closed connection would look quiet.
        if let Some(connection) = unconstrained(poll_fn(|cx| Poll::Ready(pool.take(cx, wanted)))).await {
            return Ok(self.reused(connection, in_flight, view, index));
        }
        // Boxed: connecting is rare, and its future would make every connection's task larger.
        Box::pin(self.connect((view, index, in_flight), wanted, record)).await
    }

    fn at<'v>(&self, view: &'v View, index: usize, record: &mut maitred_core::Record) -> &'v Rc<Pool> {
        let pool = &view.pools[index];
        record.endpoint = Some(pool.key.remote.clone());
        record.endpoint_at = index;
        record.attempts += 1;
        pool
    }

    fn reused(&self, connection: Carrier, in_flight: InFlight, view: Rc<View>, index: usize) -> Lease {
        self.worker.shard().upstream_reuses.add(1);
        connection.carry(in_flight);
        Lease { connection, view, index, reused: true }
    }

    /// An address that can't be connected to gives way to the next; nothing was sent, so that is always safe. Where there is `retry`, that
    /// is free only for those that do not fail at the moment, as other addresses of one name may: in an outage its budget pays.
    async fn connect(
        &self,
        (view, first, mut in_flight): (Rc<View>, usize, InFlight),
        wanted: &Wanted,
        record: &mut maitred_core::Record,
    ) -> Result<Lease, Failure> {
        let is_bound = self.spec.protection.retry.is_some();
        let mut tried = [first; CONNECTS_MAX];
        for attempt in 1..=CONNECTS_MAX {
            let index = tried[attempt - 1];
            let gate = Gate::of(&self.spec, &self.pools);
            let (pool, figures) = (&view.pools[index], &view.set.figures[index]);
            let fault = match pool.connect(wanted, self.spec.timeouts.connect, figures, gate.as_ref()).await {
                Ok((connection, reused)) => {
                    connection.carry(in_flight);
                    return Ok(Lease { connection, view, index, reused });
                }
                Err(fault) if fault.kind == Kind::CircuitOpen => {
                    self.count(|shard| &shard.breaker_connections);
                    return Err(Failure::unsent(fault));
                }
                // Its time was over in line: that tells nothing of the endpoint.
                Err(fault) if gate.is_some_and(|gate| gate.waits.get()) => return Err(Failure::unsent(fault)),
                Err(fault) => fault,
            };
            drop(in_flight);
            let now = self.worker.now();
            view.answered(index, FAILURE_COST, true, now);
            let is_late = wanted.deadline.is_some_and(|deadline| now >= deadline.at);
            let fits = |next: &usize| {
                let is_free = !is_bound || view.are_one(first, *next) || !view.set.figures[*next].fails();
                is_free && !tried[..attempt].contains(next)
            };
            let next = view.stand_ins(first).find(fits).filter(|_| attempt < CONNECTS_MAX && !is_late);
            let next = next.ok_or_else(|| Failure::unsent(fault))?;
            let (index, entered) = view.enter(next, self.share());
            (tried[attempt], in_flight) = (index, entered);
            let pool = self.at(&view, index, record);
            if let Some(connection) = unconstrained(poll_fn(|cx| Poll::Ready(pool.take(cx, wanted)))).await {
                return Ok(self.reused(connection, in_flight, view, index));
            }
        }
        Err(self.nobody())
    }
}
