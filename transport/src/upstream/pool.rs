//! Connections of one worker to one address: HTTP/1.1 ones wait here between requests, HTTP/2 ones are shared while they serve.

use super::breaker::{ConnectionPlace, Fate};
use super::dial::Dial;
use super::gate::{Gate, Way};
use super::targets::Target;
use super::{UpstreamShared, UpstreamSpec, Wanted};
use crate::client::{Carrier, ClientConnection};
use crate::client::{Link, LinkStream};
use crate::timers::Timer;
use crate::worker::Worker;
use maitred_core::balance::{Figures, OpenConnection};
use maitred_core::metrics::{Counter, UpstreamSeries, UpstreamShard};
use maitred_core::{Fault, Kind, Remote};
use maitred_model::format_duration;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::unconstrained;

/// Idle connections kept per endpoint and worker.
const IDLE_MAX: usize = 512;

/// Connections are shared by those who would make them alike. Where a circuit breaker counts them they are the upstream's own: one that
/// another has made has no place there, and would let a request past the limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub remote: Remote,
    /// The name that a certificate is held against; empty without TLS.
    name: Arc<str>,
    /// `Dial::identity`.
    dial: u64,
    /// Whose they are, where they are counted.
    owner: Option<Arc<str>>,
}

impl PoolKey {
    pub fn new(target: &Target, spec: &UpstreamSpec) -> PoolKey {
        let name = if spec.dial.tls.is_some() { target.authority.clone() } else { "".into() };
        let owner = spec.protection.circuit_breaker.is_some().then(|| spec.name.clone());
        PoolKey { remote: target.address.clone(), name, dial: spec.dial.identity, owner }
    }
}

pub(crate) struct Pool {
    pub key: PoolKey,
    dial: Arc<Dial>,
    worker: Rc<Worker>,
    /// The freshest last.
    idle: RefCell<Vec<Rc<ClientConnection>>>,
    /// So many of those idle are for requests that were told.
    promised: Cell<usize>,
    links: RefCell<Vec<Rc<Link>>>,
    dialling: Dialling,
}

/// One connects for all who wait for a stream.
#[derive(Default)]
struct Dialling {
    under_way: Cell<bool>,
    over: Notify,
    /// Counts attempts; the last one's failure, if it failed.
    attempt: Cell<u64>,
    failure: RefCell<Option<Fault>>,
}

impl Pool {
    pub fn put(&self, connection: Rc<ClientConnection>) {
        match connection.place.as_ref().map_or(Fate::Keep, |place| place.shared().breaker.settle(self.id())) {
            Fate::Keep if self.idle.borrow().len() >= IDLE_MAX => return,
            Fate::Keep => {}
            Fate::Promised => self.promised.set(self.promised.get() + 1),
            Fate::Close => return,
        }
        self.idle.borrow_mut().push(connection);
    }

    /// What it is called in the line of a breaker.
    pub(super) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// One more of what this worker counts of an upstream.
    pub(super) fn count(&self, series: &UpstreamSeries, of: impl Fn(&UpstreamShard) -> &Counter) {
        series.count(self.worker.index, of);
    }

    /// Who was told has come.
    pub(super) fn redeem(&self) {
        self.promised.set(self.promised.get().saturating_sub(usize::from(!self.dial.http2)));
    }

    /// Somebody was promised a connection and does not take it.
    pub(super) fn offer(&self, shared: &Arc<UpstreamShared>) {
        match shared.breaker.settle(self.id()) {
            Fate::Promised if !self.dial.http2 => self.promised.set(self.promised.get() + 1),
            Fate::Promised | Fate::Keep => {}
            Fate::Close => drop(self.give_up(shared)),
        }
    }

    /// The connection of that upstream which has been idle longest, and since when.
    fn oldest(&self, shared: &Arc<UpstreamShared>) -> Option<Instant> {
        let idle = self.idle.borrow();
        let spare = idle.len() > self.promised.get();
        let kept = idle.iter().filter(|connection| spare && is_of(connection.place.as_ref(), shared));
        let links = self.links.borrow();
        let unused = links.iter().filter(|link| link.is_unused_of(shared));
        kept.map(|connection| connection.idle_since.get()).chain(unused.map(|link| link.idle_since())).min()
    }

    /// Closes that one.
    fn give_up(&self, shared: &Arc<UpstreamShared>) -> bool {
        let Some(since) = self.oldest(shared) else { return false };
        let mut idle = self.idle.borrow_mut();
        let place = |connection: &Rc<ClientConnection>| is_of(connection.place.as_ref(), shared);
        let index = idle.iter().position(|connection| connection.idle_since.get() == since && place(connection));
        let closed = index.map(|index| idle.remove(index));
        drop(idle);
        if closed.is_none() {
            let links = self.links.borrow();
            links
                .iter()
                .filter(|link| link.is_unused_of(shared) && link.idle_since() == since)
                .take(1)
                .for_each(|link| link.retire());
        }
        true
    }

    /// The freshest connection that is still good, or a stream of one; unless it has to be a new one.
    pub(super) fn take(&self, cx: &mut Context<'_>, wanted: &Wanted) -> Option<Carrier> {
        if wanted.fresh {
            return None;
        }
        if self.dial.http2 {
            return self.stream(wanted).map(Carrier::Http2);
        }
        loop {
            if self.idle.borrow().len() <= self.promised.get() {
                return None;
            }
            let connection = self.idle.borrow_mut().pop()?;
            if connection.is_quiet(cx) {
                return Some(Carrier::Http1(connection));
            }
        }
    }

    /// A stream of a connection that has room for one more; for a tunnel, of one that is known to offer them or not.
    fn stream(&self, wanted: &Wanted) -> Option<Rc<LinkStream>> {
        let mut links = self.links.borrow_mut();
        links.retain(|link| link.is_usable());
        let offers = |link: &Link| link.has_room() && (!wanted.upgrade || link.is_settled());
        let fits = |link: &&Rc<Link>| offers(link) && !link.yields(|| self.worker.now());
        links.iter().find(fits).map(|link| LinkStream::new(link, &self.worker))
    }

    /// A new connection, and whether it was used by somebody else meanwhile. `patience`: for all that it takes. It counts in `figures`
    /// while it is open.
    pub(super) async fn connect(
        self: &Rc<Self>,
        wanted: &Wanted,
        patience: Duration,
        figures: &Arc<Figures>,
        gate: Option<&Gate<'_>>,
    ) -> Result<(Carrier, bool), Fault> {
        let timer = Timer::new(&self.worker.timers);
        let due = self.worker.now() + patience;
        timer.arm(wanted.deadline.map_or(due, |deadline| deadline.at.min(due)));
        let mut connecting = pin!(self.connect_patiently(wanted, figures, gate));
        let connected = poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => timer.poll(cx).map(|()| None),
        })
        .await;
        // Whose own time is over has no answer in time; otherwise it is the back end that could not be reached.
        let over = || wanted.deadline.filter(|deadline| deadline.at <= due);
        let waits = || gate.is_some_and(|gate| gate.waits.get());
        let late = || {
            let (kind, limit) = match (over(), waits()) {
                (Some(deadline), _) => (Kind::UpstreamTimeout, deadline.limit.to_string()),
                (None, true) => (Kind::CircuitOpen, connect_limit(patience)),
                (None, false) => (Kind::ConnectTimeout, connect_limit(patience)),
            };
            Err(Fault::new(kind, format!("no connection to {} within {limit}", self.key.remote)))
        };
        connected.unwrap_or_else(late)
    }

    async fn connect_patiently(
        self: &Rc<Self>,
        wanted: &Wanted,
        figures: &Arc<Figures>,
        gate: Option<&Gate<'_>>,
    ) -> Result<(Carrier, bool), Fault> {
        if self.dial.http2 {
            return self.link(wanted, figures, gate).await;
        }
        // One that told its client's address never comes back.
        let pool = if self.dial.proxy.is_some() { None } else { Some(self) };
        let place = loop {
            match self.pass(gate, pool.is_some() && !wanted.fresh).await? {
                Way::New(place) => break place,
                Way::Freed => {
                    if let Some(carrier) = unconstrained(poll_fn(|cx| Poll::Ready(self.take(cx, wanted)))).await {
                        return Ok((carrier, true));
                    }
                }
            }
        };
        self.worker.shard().upstream_connects.add(1);
        let socket = self.dial.connect(&self.key.remote, &self.key.name, wanted.client.as_deref().copied(), &self.worker).await?;
        Ok((Carrier::Http1(ClientConnection::new(socket, &self.worker, pool, OpenConnection::open(figures), place)), false))
    }

    async fn pass(self: &Rc<Self>, gate: Option<&Gate<'_>>, shares: bool) -> Result<Way, Fault> {
        match gate {
            None => Ok(Way::New(None)),
            Some(gate) => {
                let way = gate.pass(self, shares).await?;
                gate.waits.set(matches!(way, Way::Freed));
                Ok(way)
            }
        }
    }

    /// A stream of a new connection. Whoever comes while one is made waits for it, so that a burst does not become as many
    /// connections.
    async fn link(
        self: &Rc<Self>,
        wanted: &Wanted,
        figures: &Arc<Figures>,
        gate: Option<&Gate<'_>>,
    ) -> Result<(Carrier, bool), Fault> {
        loop {
            if !self.dialling.under_way.get() {
                match self.pass(gate, !wanted.fresh).await? {
                    // Another may have begun to connect while this one waited.
                    Way::New(place) if !self.dialling.under_way.get() => {
                        let linked = self.dial_link(wanted, figures, place).await;
                        self.call_next(gate);
                        return linked;
                    }
                    Way::New(_) => {}
                    Way::Freed => {
                        if let Some(stream) = self.stream(wanted) {
                            self.call_next(gate);
                            return Ok((Carrier::Http2(stream), true));
                        }
                    }
                }
                continue;
            }
            let attempt = self.dialling.attempt.get();
            self.dialling.over.notified().await;
            if self.dialling.attempt.get() == attempt
                && let Some(fault) = &*self.dialling.failure.borrow()
            {
                return Err(fault.clone());
            }
            if !wanted.fresh
                && let Some(stream) = self.stream(wanted)
            {
                return Ok((Carrier::Http2(stream), true));
            }
        }
    }

    /// A link that has more room serves more of those in line, who call each other.
    fn call_next(&self, gate: Option<&Gate<'_>>) {
        let has_room = |link: &Rc<Link>| link.is_usable() && link.has_room() && !link.yields(|| self.worker.now());
        if let Some(gate) = gate
            && self.links.borrow().iter().any(has_room)
        {
            gate.shared.breaker.settle(self.id());
        }
    }

    async fn dial_link(
        self: &Rc<Self>,
        wanted: &Wanted,
        figures: &Arc<Figures>,
        place: Option<ConnectionPlace>,
    ) -> Result<(Carrier, bool), Fault> {
        let _turn = Turn::take(&self.dialling);
        self.worker.shard().upstream_connects.add(1);
        let linked =
            match self.dial.connect(&self.key.remote, &self.key.name, wanted.client.as_deref().copied(), &self.worker).await {
                Ok(socket) => {
                    Ok(Link::start(socket, &self.worker, OpenConnection::open(figures), place.map(|place| (place, self.id()))))
                }
                Err(fault) => Err(fault),
            };
        match linked {
            Ok(link) => {
                if wanted.upgrade {
                    link.settled().await;
                }
                *self.dialling.failure.borrow_mut() = None;
                self.links.borrow_mut().push(link.clone());
                Ok((Carrier::Http2(LinkStream::new(&link, &self.worker)), false))
            }
            Err(fault) => {
                *self.dialling.failure.borrow_mut() = Some(fault.clone());
                Err(fault)
            }
        }
    }

    /// Closes what the back end has closed, and what has been idle for too long.
    fn reap(&self, now: Instant, cx: &mut Context<'_>) {
        self.idle.borrow_mut().retain(|connection| connection.idle_until() > now && connection.is_quiet(cx));
        self.links.borrow_mut().retain(|link| link.idle_until().is_none_or(|until| until > now) && link.is_usable());
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.links.borrow().is_empty()
    }
}

/// The turn of who connects; given up also where its request is gone.
struct Turn<'a>(&'a Dialling);

impl Turn<'_> {
    fn take(dialling: &Dialling) -> Turn<'_> {
        dialling.under_way.set(true);
        dialling.attempt.set(dialling.attempt.get() + 1);
        *dialling.failure.borrow_mut() = None;
        Turn(dialling)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(false);
        self.0.over.notify_waiters();
    }
}

/// The pools of one worker. They outlive snapshots.
#[derive(Default)]
pub struct Pools {
    by_key: RefCell<HashMap<PoolKey, Rc<Pool>>>,
}

impl Pools {
    pub(super) fn of(&self, key: PoolKey, dial: &Arc<Dial>, worker: &Rc<Worker>) -> Rc<Pool> {
        let mut pools = self.by_key.borrow_mut();
        let pool = || {
            Rc::new(Pool {
                key: key.clone(),
                dial: dial.clone(),
                worker: worker.clone(),
                idle: RefCell::default(),
                promised: Cell::new(0),
                links: RefCell::default(),
                dialling: Dialling::default(),
            })
        };
        pools.entry(key.clone()).or_insert_with(pool).clone()
    }

    /// While others wait for a connection of that upstream, one that lies idle here helps nobody: the oldest first.
    pub(super) fn give_up_idle(&self, shared: &Arc<UpstreamShared>) {
        while shared.breaker.is_short() {
            let pools = self.by_key.borrow();
            let oldest = pools.values().filter_map(|pool| Some((pool.oldest(shared)?, pool))).min_by_key(|(since, _)| *since);
            if !oldest.is_some_and(|(_, pool)| pool.give_up(shared)) {
                return;
            }
        }
    }

    /// Closes idle connections that are over, and forgets pools that nobody uses.
    pub async fn reap(&self, now: Instant) {
        unconstrained(poll_fn(|cx| {
            self.by_key.borrow_mut().retain(|_, pool| {
                pool.reap(now, cx);
                Rc::strong_count(pool) > 1 || !pool.is_empty()
            });
            Poll::Ready(())
        }))
        .await;
    }
}

fn is_of(place: Option<&ConnectionPlace>, shared: &Arc<UpstreamShared>) -> bool {
    place.is_some_and(|place| Arc::ptr_eq(place.shared(), shared))
}

fn connect_limit(patience: Duration) -> String {
    format!("timeouts.connect of {}", format_duration(patience))
}
