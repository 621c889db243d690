//! What stands between a connection and `handle`: the world of the moment, the request's id and address, and the record at the end.

use crate::access_log::LogBuffer;
use crate::connections::Place;
use crate::gateway::Shared;
use crate::handle::handle;
use crate::last_words;
use crate::world::World;
use maitred_core::limits::AskQuota;
use maitred_core::{Exchange, Fault, Forwarded, Kind, Response};
use maitred_integrations::proxy::mirror::UnderWay;
use maitred_integrations::websocket::Desk;
use maitred_transport::{Counters, Pools, ServerLimits, Service, Worker};
use maitred_wire::{Method, Name};
use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// A client's request id is kept if it is no longer than this.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Sent to a connection over the limits.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: 107\r\nretry-after: 1\r\nconnection: close\r\n\r\n{\"type\":\"urn:maitred:fault:overloaded\",\"title\":\"The gateway is at its limit of connections.\",\"status\":503}\n";

pub(crate) struct WorkerService {
    pub worker: Rc<Worker>,
    pub shared: Arc<Shared>,
    pub pools: Rc<Pools>,
    mirrors: UnderWay,
    /// For as long as the worker runs, whatever is configured later.
    counters: Option<Rc<Counters>>,
    /// Clients that stay, whatever is configured later.
    pub sockets: Rc<Desk>,
    pub log: LogBuffer,
    world: RefCell<Rc<World>>,
    seen: Cell<u64>,
    /// The text of the Date header, and the second it is for.
    date: RefCell<(u64, String)>,
}

impl WorkerService {
    pub fn new(worker: Rc<Worker>, shared: Arc<Shared>, log: LogBuffer) -> WorkerService {
        let (pools, mirrors) = (Rc::new(Pools::default()), UnderWay::default());
        let seen = shared.generation.load(Ordering::Acquire);
        let snapshot = shared.current.load_full();
        let counters = snapshot.counters.as_ref().map(|spec| Rc::new(Counters::start(spec, &worker)));
        let sockets = Desk::new(&worker);
        let world = World::new(snapshot, &worker, (&pools, &mirrors, &counters, &sockets), shared.clone());
        WorkerService {
            worker,
            shared,
            pools,
            mirrors,
            counters,
            sockets,
            log,
            world: RefCell::new(world),
            seen: Cell::new(seen),
            date: RefCell::default(),
        }
    }

    /// What was used of quotas, as the counts say that gateways share; `None`: there are none, or they do not answer in time.
    pub async fn used_elsewhere(&self, asks: &[AskQuota]) -> Option<Vec<u64>> {
        self.counters.as_ref()?.used(asks).await.ok()
    }

    /// The current world. One load and one comparison, unless a reload has happened.
    pub fn world(&self) -> Rc<World> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if self.seen.replace(generation) != generation {
            let snapshot = self.shared.current.load_full();
            let own = (&self.pools, &self.mirrors, &self.counters, &self.sockets);
            *self.world.borrow_mut() = World::new(snapshot, &self.worker, own, self.shared.clone());
        }
        self.world.borrow().clone()
    }

    /// Who asks, and under what id.
    fn identify(&self, world: &World, exchange: &mut Exchange) {
        exchange.forwarded = Forwarded::read(exchange.peer.ip(), &exchange.request.headers, world.snapshot.trusted_proxies());
        let headers = &mut exchange.request.headers;
        let kept = headers.known(Name::XRequestId).filter(|id| !headers.is_repeated(Name::XRequestId) && is_plain_id(id));
        exchange.request_id = match kept {
            Some(id) => {
                // Appended once more, since a transform may remove the header.
                let mut copy = [0u8; REQUEST_ID_BYTES_MAX];
                let length = id.len();
                copy[..length].copy_from_slice(id);
                headers.stash(&copy[..length])
            }
            None => {
                let mut text = [0u8; uuid::fmt::Hyphenated::LENGTH];
                headers.stash(self.worker.new_id(exchange.record.started).hyphenated().encode_lower(&mut text).as_bytes())
            }
        };
    }
}

fn is_plain_id(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(plain)
}

impl Service for WorkerService {
    type Seat = Place;

    fn seat(&self, peer: SocketAddr) -> Result<Place, &'static [u8]> {
        let world = self.world();
        let limits = world.snapshot.limits();
        let place = self.shared.connections.enter(peer.ip(), limits.connections.get(), limits.connections_per_ip.get());
        place.ok_or_else(|| {
            let shard = self.worker.shard();
            shard.connections_refused.add(1);
            shard.fault(Kind::Overloaded);
            BUSY
        })
    }

    fn limits(&self) -> Rc<ServerLimits> {
        self.world().limits.clone()
    }

    async fn call(&self, exchange: &mut Exchange) -> Response {
        let world = self.world();
        self.identify(&world, exchange);
        if exchange.is_grpc() {
            // Boxed: few requests need it, and all would be as large.
            return Box::pin(last_words::handle(&self.worker, &world, exchange)).await;
        }
        handle(&world, exchange).await
    }

    fn refuse(&self, exchange: &mut Exchange, fault: Fault) -> Response {
        // What was read of the head is not to be trusted, its request id included.
        let version = exchange.request.version;
        exchange.request.clear();
        (exchange.request.method, exchange.request.version) = (Method::Other, version);
        self.identify(&self.world(), exchange);
        fault.render(exchange)
    }

    fn fail(&self, exchange: &mut Exchange, fault: Fault) -> Response {
        crate::handle::answer(exchange, Err(fault))
    }

    fn finish(&self, exchange: &mut Exchange, now: Instant) {
        let record = &mut exchange.record;
        let duration = now.saturating_duration_since(record.started);
        if let Some((kind, _)) = record.fault {
            self.worker.shard().fault(kind);
            if kind == Kind::ClientGone {
                record.status = kind.status();
            }
        }
        let series = exchange.hold.series().unwrap_or(&self.worker.metrics.unrouted);
        let shard = series.of(self.worker.index);
        shard.count(exchange.request.method, record.status);
        shard.duration.record(duration);
        if let Some(upstream_time) = record.upstream_time {
            shard.upstream.record(upstream_time);
        }
        shard.bytes_in.add(record.bytes_in);
        shard.bytes_out.add(record.bytes_out);
        self.log.record(exchange, series, duration, (&self.worker, now), &self.world.borrow().snapshot.masked);
    }

    fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    fn date(&self, now: Instant, out: &mut Vec<u8>) {
        let seconds = self.worker.unix_time(now).as_secs();
        let mut date = self.date.borrow_mut();
        if date.0 != seconds {
            date.0 = seconds;
            date.1.clear();
            let _ = write!(date.1, "{}", httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds)));
        }
        out.extend_from_slice(date.1.as_bytes());
    }
}
