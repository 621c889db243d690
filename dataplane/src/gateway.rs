//! The running gateway: its workers, the snapshot they share, and the verbs publish, drain and stop.

use crate::access_log::{LogTarget, LogWriter};
use crate::connections::Connections;
use crate::offered::Offered;
use crate::pulse::Pulse;
use crate::snapshot::Snapshot;
use crate::worker::{self, Mail, WorkerHandle};
use arc_swap::ArcSwap;
use maitred_core::Clock;
use maitred_core::limits::AskQuota;
use maitred_core::metrics::Metrics;
use maitred_integrations::function::errands::Errands;
use maitred_integrations::websocket;
use maitred_model::ListenAddress;
use maitred_transport::{Listening, Worker, bind, bind_unix, is_free};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Retired snapshots on their way to the thread that frees them; beyond it a worker frees one itself.
const RETIRED_MAX: usize = 64;
/// How often a drain looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// For a worker to read its mail and ask: `counters.timeout` has a bound of its own.
const COUNTS_TIME_MAX: Duration = Duration::from_secs(2);
/// For workers to close what they were told to.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// What the workers share.
pub(crate) struct Shared {
    pub current: ArcSwap<Snapshot>,
    /// Moves at every publish; a worker compares it once per request.
    pub generation: AtomicU64,
    pub draining: AtomicBool,
    pub metrics: Arc<Metrics>,
    pub connections: Arc<Connections>,
    pub websockets: websocket::Connections,
    pub errands: Errands,
    pub clock: Clock,
    retired: SyncSender<Option<Arc<Snapshot>>>,
}

impl Shared {
    /// Hands a snapshot to the thread that frees them.
    pub fn retire(&self, snapshot: Arc<Snapshot>) {
        let _ = self.retired.try_send(Some(snapshot));
    }
}

/// How a gateway is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Turned by hand in tests.
    pub clock: Clock,
}

pub struct Gateway {
    shared: Arc<Shared>,
    workers: Vec<WorkerHandle>,
    /// One socket per worker for each configured address, and the address that it got.
    listeners: Mutex<HashMap<ListenAddress, ListenAddress>>,
    /// A copy of each socket, for the process that comes after this one.
    copies: Mutex<HashMap<ListenAddress, Vec<OwnedFd>>>,
    /// Bound, and not yet given to the workers.
    closed: Mutex<Vec<Bound>>,
    #[cfg(feature = "http3")]
    datagrams: crate::datagrams::Datagrams,
    log: Mutex<LogWriter>,
    undertaker: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Binds every listener, starts one worker for each set of counters that `snapshot` was compiled with, and accepts.
    pub fn start(snapshot: Snapshot, log: LogTarget, options: Options) -> io::Result<Gateway> {
        let gateway = Gateway::prepare(snapshot, log, options, &mut Offered::default())?;
        gateway.open();
        Ok(gateway)
    }

    /// The same up to the first connection: nothing is accepted before `open`. Listeners take what is offered to them, and bind what is
    /// not.
    pub fn prepare(snapshot: Snapshot, log: LogTarget, options: Options, offered: &mut Offered) -> io::Result<Gateway> {
        let metrics = snapshot.metrics.clone();
        let count = metrics.workers.len();
        all_free(&snapshot.listen(), &offered.places())?;
        #[cfg(feature = "http3")]
        let (bound, datagrams) = bind_with_datagrams(&snapshot, count, offered)?;
        #[cfg(not(feature = "http3"))]
        let bound = bind_all(&snapshot.listen(), count, offered)?;
        let listeners = bound.iter().map(Bound::names).collect();
        let (retired, buried) = sync_channel::<Option<Arc<Snapshot>>>(RETIRED_MAX);
        let undertaker = std::thread::Builder::new().name("undertaker".into()).spawn(move || {
            while let Ok(Some(snapshot)) = buried.recv() {
                drop(snapshot);
            }
        })?;
        metrics.generation.store(1, Ordering::Relaxed);
        snapshot.settle_queues(options.clock.now());
        let (websockets, letters) = websocket::Connections::new(count);
        let (errands, boxes) = Errands::new(count);
        let shared = Arc::new(Shared {
            current: ArcSwap::from_pointee(snapshot),
            generation: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            metrics,
            connections: Arc::default(),
            websockets,
            errands,
            clock: options.clock,
            retired,
        });
        let log = LogWriter::start(log, shared.metrics.clone())?;
        let workers = worker::start(&shared, letters.into_iter().zip(boxes).collect(), &log)?;
        Ok(Gateway {
            shared,
            workers,
            listeners: Mutex::new(listeners),
            copies: Mutex::default(),
            closed: Mutex::new(bound),
            #[cfg(feature = "http3")]
            datagrams,
            log: Mutex::new(log),
            undertaker: Some(undertaker),
        })
    }

    /// Accepts, from here on.
    pub fn open(&self) {
        let bound = std::mem::take(&mut *self.closed.lock().unwrap_or_else(PoisonError::into_inner));
        self.hand_out(bound);
        #[cfg(feature = "http3")]
        self.datagrams.hand_out(self.workers.iter().map(WorkerHandle::mailbox).collect());
    }

    /// Makes a snapshot the live one. Whatever can fail fails before: then nothing has changed.
    pub fn publish(&self, snapshot: Snapshot, log: LogTarget) -> io::Result<u64> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = snapshot.listen();
        let new: Vec<ListenAddress> = wanted.iter().filter(|address| !listeners.contains_key(address)).cloned().collect();
        let ours: Vec<SocketAddr> = listeners.values().filter_map(place).collect();
        self.become_free(&new, &ours)?;
        let bound = bind_all(&new, self.workers.len(), &mut Offered::default())?;
        #[cfg(feature = "http3")]
        let silent = {
            let names = listeners.clone().into_iter().chain(bound.iter().map(Bound::names)).collect();
            self.datagrams.bind(&snapshot.listen_h3(), &names, self.workers.len(), |_| false)?
        };
        let gone: Vec<ListenAddress> = listeners.keys().filter(|address| !wanted.contains(address)).cloned().collect();
        for address in &gone {
            listeners.remove(address);
            // Before the workers close theirs: whoever connects while a copy is open would wait for nobody.
            self.copies().remove(address);
        }
        listeners.extend(bound.iter().map(Bound::names));
        drop(listeners);
        self.log.lock().unwrap_or_else(PoisonError::into_inner).set_target(log);
        let snapshot = Arc::new(snapshot);
        let old = self.shared.current.swap(snapshot.clone());
        snapshot.settle_queues(self.shared.clock.now());
        let generation = self.shared.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.shared.metrics.generation.store(generation, Ordering::Relaxed);
        self.hand_out(bound);
        #[cfg(feature = "http3")]
        self.datagrams.hand_out(self.workers.iter().map(WorkerHandle::mailbox).collect());
        for worker in &self.workers {
            #[cfg(feature = "http3")]
            worker.send(Mail::CloseDatagrams(silent.clone()));
            if !gone.is_empty() {
                worker.send(Mail::Close(gone.clone()));
            }
            worker.send(Mail::Refresh);
        }
        drop(old);
        self.shared.metrics.forget_unused();
        Ok(generation)
    }

    /// Fails where anybody else has one of these. A listener that the last reload let go may be open still: workers that have read their
    /// mail have closed it.
    fn become_free(&self, new: &[ListenAddress], ours: &[SocketAddr]) -> io::Result<()> {
        match all_free(new, ours) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                self.pulse().silent(CLOSING_TIME);
                all_free(new, ours)
            }
            done => done,
        }
    }

    /// Writes the access log there from now on: after a rotation, also when there is no new snapshot.
    pub fn set_log(&self, log: LogTarget) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).set_target(log);
    }

    /// Gives each worker its own socket of every listener. Of more sockets than workers some have two: each has a queue of clients.
    fn hand_out(&self, bound: Vec<Bound>) {
        for Bound { configured, mut sockets, mut copies, .. } in bound {
            while sockets.len() < self.workers.len()
                && let Some((socket, copy)) = one_more(&sockets)
            {
                sockets.push(socket);
                copies.extend(copy);
            }
            self.copies().insert(configured.clone(), copies);
            for (worker, socket) in self.workers.iter().cycle().zip(sockets) {
                worker.send(Mail::Listen(configured.clone(), socket));
            }
        }
    }

    fn copies(&self) -> MutexGuard<'_, HashMap<ListenAddress, Vec<OwnedFd>>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each listener as it is configured, with a copy of each of its sockets.
    pub fn sockets(&self) -> io::Result<Vec<(String, Vec<OwnedFd>)>> {
        let copies = self.copies();
        let one = |(address, sockets): (&ListenAddress, &Vec<OwnedFd>)| {
            Ok((address.to_string(), sockets.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?))
        };
        copies.iter().map(one).collect()
    }

    /// Stops accepting at these addresses, and leaves whoever waits there to the process that has copies of the sockets.
    pub fn release(&self, taken: &[String]) {
        let mut copies = self.copies();
        let addresses: Vec<ListenAddress> =
            copies.keys().filter(|address| taken.contains(&address.to_string())).cloned().collect();
        for address in &addresses {
            copies.remove(address);
        }
        drop(copies);
        for worker in &self.workers {
            worker.send(Mail::Release(addresses.clone()));
        }
    }

    /// Tells whether the workers still read their mailboxes.
    pub fn pulse(&self) -> Pulse {
        Pulse::new(self.workers.iter().map(WorkerHandle::mailbox).collect())
    }

    /// What was used of quotas, as the counts say that gateways share: of each that is asked, or nothing. Waits no longer than those are waited for.
    pub fn used_elsewhere(&self, asks: &[AskQuota]) -> Option<Vec<u64>> {
        // Each has connections of its own, of which one may be lost.
        self.workers.iter().find_map(|worker| {
            let (to, answer) = sync_channel(1);
            worker.mailbox().try_send(Mail::Quotas(asks.to_vec(), to)).ok()?;
            answer.recv_timeout(COUNTS_TIME_MAX).ok()?
        })
    }

    /// The address that each entry of `listen` got, in order.
    pub fn listeners(&self) -> Vec<ListenAddress> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.current.load().listen().iter().filter_map(|address| listeners.get(address).cloned()).collect()
    }

    /// Those of them that have a port.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners().iter().filter_map(place).collect()
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.current.load_full()
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// The way to clients whose messages functions answer.
    pub fn websockets(&self) -> &websocket::Connections {
        &self.shared.websockets
    }

    /// The way to workers who run functions for others than their clients.
    pub fn errands(&self) -> &Errands {
        &self.shared.errands
    }

    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Turns the clock, in tests: timers look again.
    pub fn turn_clock(&self, by: Duration) {
        self.shared.clock.turn(by);
        for worker in &self.workers {
            worker.send(Mail::LookAgain);
        }
    }

    /// From now on no connection is accepted and every answer says `Connection: close`.
    pub fn begin_drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.copies().clear();
        for worker in &self.workers {
            worker.send(Mail::Drain);
        }
    }

    /// Waits until the last connection ended, or for `deadline`. Whether all ended by themselves.
    pub fn drain(&self, deadline: Duration) -> bool {
        self.begin_drain();
        let until = Instant::now() + deadline;
        let pulse = self.pulse();
        while Instant::now() < until {
            let is_still = self.workers.iter().all(WorkerHandle::is_drained) && self.shared.connections.open() == 0;
            // A connection that one worker passed to another is counted when that one has read its mail.
            if is_still && pulse.silent(DRAIN_LOOK).is_empty() && self.shared.connections.open() == 0 {
                return true;
            }
            std::thread::park_timeout(DRAIN_LOOK);
        }
        self.shared.connections.open() == 0
    }

    /// The drain is over: WebSockets and gRPC calls are told that the gateway goes, and are given a moment to hear it.
    pub fn say_goodbye(&self) {
        for worker in &self.workers {
            worker.send(Mail::Farewell);
        }
        let until = Instant::now() + Worker::FAREWELL_TIME;
        // A connection of HTTP/2 that is drained ends with its last stream, when all is written.
        let hearing = || {
            let workers = &self.shared.metrics.workers;
            workers.iter().any(|worker| worker.tunnels_open.get() > 0 || worker.h2_open.get() > 0)
        };
        while hearing() && Instant::now() < until {
            std::thread::park_timeout(DRAIN_LOOK);
        }
    }

    /// Ends every connection and waits for the workers.
    pub fn stop(&mut self) {
        #[cfg(feature = "http3")]
        self.datagrams.stop();
        self.copies().clear();
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for worker in &self.workers {
            worker.send(Mail::Stop);
        }
        for worker in &mut self.workers {
            worker.join();
        }
        self.log.lock().unwrap_or_else(PoisonError::into_inner).stop();
        let _ = self.shared.retired.send(None);
        if let Some(undertaker) = self.undertaker.take() {
            let _ = undertaker.join();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.undertaker.is_some() {
            self.stop();
        }
    }
}

/// The sockets of one listener, one for each worker.
struct Bound {
    configured: ListenAddress,
    address: ListenAddress,
    sockets: Vec<Listening>,
    /// A copy of each that has a queue of its own.
    copies: Vec<OwnedFd>,
    /// They were open before.
    #[cfg(feature = "http3")]
    offered: bool,
}

impl Bound {
    fn names(&self) -> (ListenAddress, ListenAddress) {
        (self.configured.clone(), self.address.clone())
    }
}

/// Where it listens, if it has a port.
pub(crate) fn place(listener: &ListenAddress) -> Option<SocketAddr> {
    match listener {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Unix(_) => None,
    }
}

/// Fails where anybody else has one of these. What overlaps with `ours` is not looked at, since we are there ourselves: who has a port at
/// one address and wants it at all of them, or the other way round, may. A Unix socket says so itself when it is bound.
fn all_free(addresses: &[ListenAddress], ours: &[SocketAddr]) -> io::Result<()> {
    let taken = |address: &SocketAddr| ours.iter().any(|ours| overlap(*ours, *address));
    addresses
        .iter()
        .filter_map(place)
        .filter(|address| !taken(address))
        .try_for_each(|address| is_free(address).map_err(|error| cannot_listen(&address, &error)))
}

/// Sockets of IPv6 take none of IPv4.
pub(crate) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (is_any || one.ip() == other.ip())
}

fn cannot_listen(address: &dyn std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

fn bind_all(addresses: &[ListenAddress], workers: usize, offered: &mut Offered) -> io::Result<Vec<Bound>> {
    addresses
        .iter()
        .map(|address| {
            bind_one(address, workers, offered.take(&address.to_string())).map_err(|error| cannot_listen(address, &error))
        })
        .collect()
}

/// How often a port that is free for TCP is looked for again, because it is not for UDP.
#[cfg(feature = "http3")]
const PORTS_TRIED: usize = 16;

/// Listeners with the sockets of their HTTP/3.
#[cfg(feature = "http3")]
fn bind_with_datagrams(
    snapshot: &Snapshot,
    workers: usize,
    offered: &mut Offered,
) -> io::Result<(Vec<Bound>, crate::datagrams::Datagrams)> {
    let any_port = |address: &ListenAddress| matches!(address, ListenAddress::Tcp(address) if address.port() == 0);
    let wanted = snapshot.listen_h3();
    let mut tries = if wanted.iter().any(any_port) { PORTS_TRIED } else { 1 };
    loop {
        let bound = bind_all(&snapshot.listen(), workers, offered)?;
        let datagrams = crate::datagrams::Datagrams::default();
        let listeners = bound.iter().map(Bound::names).collect();
        let succeeds = |address: &ListenAddress| bound.iter().any(|bound| bound.configured == *address && bound.offered);
        tries -= 1;
        match datagrams.bind(&wanted, &listeners, workers, succeeds) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok((bound, datagrams)),
        }
    }
}

/// Of sockets that are offered there may be fewer than workers, or more. The missing ones are added when they are given out: a socket that
/// listens gets its share of the clients at once, and here nobody accepts them yet.
fn bind_one(configured: &ListenAddress, workers: usize, offered: Vec<OwnedFd>) -> io::Result<Bound> {
    #[cfg(feature = "http3")]
    let was_offered = !offered.is_empty();
    let mut sockets = offered.into_iter().map(Listening::from_descriptor).collect::<io::Result<Vec<_>>>()?;
    if sockets.is_empty() {
        match configured {
            ListenAddress::Tcp(wanted) => {
                let first = bind(*wanted, true)?;
                // Port 0 is any free port; the other workers share the one that it became.
                let address = first.local_addr()?;
                sockets.push(Listening::Tcp(first));
                for _ in 1..workers {
                    sockets.push(Listening::Tcp(bind(address, true)?));
                }
            }
            // There is one queue; the workers that are missing here share it.
            ListenAddress::Unix(path) => sockets.push(Listening::Unix(bind_unix(path)?)),
        }
    }
    let address = sockets[0].local_addr()?.map_or_else(|| configured.clone(), ListenAddress::Tcp);
    let copies = sockets.iter().map(Listening::descriptor).collect::<io::Result<_>>()?;
    Ok(Bound {
        configured: configured.clone(),
        address,
        sockets,
        copies,
        #[cfg(feature = "http3")]
        offered: was_offered,
    })
}

/// A socket for a worker that has none, and its copy if it has a queue of its own. Without one the worker gets its connections from its
/// fellows.
fn one_more(sockets: &[Listening]) -> Option<(Listening, Option<OwnedFd>)> {
    let more = sockets.first()?.another().and_then(|(socket, has_queue)| {
        let copy = if has_queue { Some(socket.descriptor()?) } else { None };
        Ok((socket, copy))
    });
    more.inspect_err(|error| tracing::warn!(%error, "a worker has no listening socket; its fellows pass connections on")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_where_nobody_else_has_it() {
        let held = bind(SocketAddr::from(([127, 0, 0, 1], 0)), true).unwrap();
        let here = held.local_addr().unwrap();
        let everywhere = SocketAddr::from(([0, 0, 0, 0], here.port()));
        for wanted in [here, everywhere] {
            let is_free = |ours: &[SocketAddr]| all_free(&[ListenAddress::Tcp(wanted)], ours);
            let wrong = is_free(&[]).unwrap_err();
            assert_eq!(wrong.kind(), io::ErrorKind::AddrInUse);
            assert!(wrong.to_string().starts_with(&format!("cannot listen on {wanted}: ")), "{wrong}");
            assert!(is_free(&[here]).is_ok() && is_free(&[everywhere]).is_ok(), "it is ours already");
            assert!(is_free(&[SocketAddr::new(here.ip(), 1)]).is_err(), "that is another port");
        }
        let path = ListenAddress::Unix("/nowhere/at/all".into());
        assert!(all_free(&[path], &[]).is_ok(), "a Unix socket is bound, or not");
    }

    #[test]
    fn sockets_of_ipv6_take_none_of_ipv4() {
        let at = |address: &str| address.parse::<SocketAddr>().unwrap();
        for (one, other, same) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:81", false),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "127.0.0.1:80", false),
        ] {
            assert_eq!((overlap(at(one), at(other)), overlap(at(other), at(one))), (same, same), "{one} {other}");
        }
    }
}
