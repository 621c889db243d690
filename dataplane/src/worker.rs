//! A worker thread: one core, one runtime, its own listening sockets. Accepts, hands connections to the emptier of its fellows
//! when it has more than its share, and reads its mailbox.

use crate::access_log::{LogBuffer, LogWriter};
use crate::gateway::Shared;
use crate::service::WorkerService;
use maitred_core::limits::AskQuota;
use maitred_integrations::function::errands::{self, ErrandBox};
use maitred_integrations::websocket::Letters;
use maitred_model::ListenAddress;
use maitred_transport::{Accepted, Acceptor, Listening, Parcel, Worker, serve};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

/// Letters that may wait; a connection that finds the box full stays where it was accepted.
const MAILBOX: usize = 1024;
/// Connections accepted before others get their turn.
const ACCEPTS_PER_TURN: usize = 16;
/// Connections taken from the queue of a socket that is about to close; there are rarely more.
const BACKLOG_MAX: usize = 4096;
/// A worker keeps what it accepts unless it has more than this share of the mean, and this many more.
const SHARE_MAX: f64 = 1.25;
const SHARE_SLACK: u64 = 2;
/// How often idle upstream connections are looked through.
const REAP_EVERY: Duration = Duration::from_secs(5);
/// After an accept failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Turns that other tasks get before the runtime goes.
#[cfg(feature = "http3")]
const LAST_TURNS: usize = 8;

pub(crate) enum Mail {
    Listen(ListenAddress, Listening),
    Close(Vec<ListenAddress>),
    /// A listener's HTTP/3, and whose it is to be no more.
    #[cfg(feature = "http3")]
    Datagrams(ListenAddress, Box<maitred_transport::DatagramShare>),
    #[cfg(feature = "http3")]
    CloseDatagrams(Vec<ListenAddress>),
    /// Close, and leave what waits there to the process that has these sockets too.
    Release(Vec<ListenAddress>),
    /// A connection accepted elsewhere, and the listener that it came through.
    Connection(Parcel, Arc<ListenAddress>),
    /// There is a new snapshot: do not hold the old one until the next request.
    Refresh,
    /// The clock was turned.
    LookAgain,
    /// Send this number there: whatever was in the box before has been seen to.
    Echo(usize, SyncSender<usize>),
    /// Send there what was used of quotas that gateways count together.
    Quotas(Vec<AskQuota>, SyncSender<Option<Vec<u64>>>),
    Drain,
    /// The drain is over: whoever can say goodbye does.
    Farewell,
    Stop,
}

pub(crate) struct WorkerHandle {
    mailbox: mpsc::Sender<Mail>,
    drained: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerHandle {
    /// Control work may wait for a place in the box.
    pub fn send(&self, mail: Mail) {
        let _ = self.mailbox.blocking_send(mail);
    }

    /// Its listening sockets are closed, and nothing of ours waits in them.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// The way into its mailbox, for who must not wait.
    pub fn mailbox(&self) -> mpsc::Sender<Mail> {
        self.mailbox.clone()
    }

    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Boxes of what others have for a worker: for its WebSockets, and functions that it is to run.
pub(crate) type Inbox = (Letters, ErrandBox);

/// One worker for each inbox.
pub(crate) fn start(shared: &Arc<Shared>, inboxes: Vec<Inbox>, log: &LogWriter) -> io::Result<Vec<WorkerHandle>> {
    let count = inboxes.len();
    let (senders, boxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(MAILBOX)).unzip();
    let mut handles = Vec::with_capacity(count);
    for (index, (mailbox, inbox)) in boxes.into_iter().zip(inboxes).enumerate() {
        let seat = Seat { index, shared: shared.clone(), fellows: senders.clone(), drained: Arc::default() };
        let (buffer, drained) = (SendBuffer(log.buffer()), seat.drained.clone());
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || run(seat, (mailbox, inbox), buffer))?;
        handles.push(WorkerHandle { mailbox: senders[index].clone(), drained, thread: Some(thread) });
    }
    Ok(handles)
}

/// What a worker is given.
struct Seat {
    index: usize,
    shared: Arc<Shared>,
    fellows: Vec<mpsc::Sender<Mail>>,
    drained: Arc<AtomicBool>,
}

/// The buffer is made on the control thread and used on the worker's alone.
struct SendBuffer(LogBuffer);

fn run(seat: Seat, (mailbox, (letters, boxed)): (mpsc::Receiver<Mail>, Inbox), log: SendBuffer) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "a worker cannot start"),
    };
    let service = runtime.block_on(async move {
        let worker = Worker::new(seat.index, seat.shared.clock.clone(), seat.shared.metrics.clone());
        let service = Rc::new(WorkerService::new(worker.clone(), seat.shared.clone(), log.0));
        spawn_local(worker.timers.clone().sweep());
        spawn_local(keep_log_fresh(service.clone()));
        spawn_local(reap(service.clone()));
        spawn_local(service.sockets.clone().read(letters));
        let of = service.clone();
        spawn_local(errands::read(boxed, move || of.world().reach.clone()));
        let desk = Rc::new(Desk {
            seat,
            worker,
            service,
            closers: RefCell::default(),
            #[cfg(feature = "http3")]
            endpoints: RefCell::default(),
        });
        desk.clone().read_mail(mailbox).await;
        desk.service.clone()
    });
    // Every connection is dropped with the runtime; what was under way on them is logged then.
    drop(runtime);
    service.log.flush(&service.worker);
}

async fn keep_log_fresh(service: Rc<WorkerService>) {
    loop {
        tokio::time::sleep(LogBuffer::TICK).await;
        service.log.flush_old(&service.worker, service.worker.now());
    }
}

async fn reap(service: Rc<WorkerService>) {
    loop {
        tokio::time::sleep(REAP_EVERY).await;
        service.pools.reap(service.worker.now()).await;
    }
}

/// What an accepting task does next.
enum Turn {
    More,
    Failed,
    Close(Option<Closing>),
}

/// How an accepting task is to end.
struct Closing {
    /// Takes first what has connected already.
    takes_waiting: bool,
    /// Told when it is done.
    done: oneshot::Sender<()>,
}

/// Where a worker's tasks meet.
struct Desk {
    seat: Seat,
    worker: Rc<Worker>,
    service: Rc<WorkerService>,
    /// Each ends an accepting task. A worker has one for each of its sockets: more than one at an address if the process before this
    /// one had more workers.
    closers: RefCell<HashMap<ListenAddress, Vec<oneshot::Sender<Closing>>>>,
    /// HTTP/3 of listeners, those that are on their way out too.
    #[cfg(feature = "http3")]
    endpoints: RefCell<Vec<(ListenAddress, std::rc::Weak<maitred_transport::QuicEndpoint>)>>,
}

impl Desk {
    async fn read_mail(self: Rc<Self>, mut mailbox: mpsc::Receiver<Mail>) {
        while let Some(mail) = mailbox.recv().await {
            match mail {
                Mail::Listen(address, listener) => self.listen(address, listener),
                Mail::Close(addresses) => self.close(addresses, true).await,
                Mail::Release(addresses) => {
                    #[cfg(feature = "http3")]
                    self.leave_datagrams(|address| addresses.contains(address));
                    self.close(addresses, false).await;
                }
                #[cfg(feature = "http3")]
                Mail::Datagrams(address, share) => self.take_datagrams(address, *share),
                #[cfg(feature = "http3")]
                Mail::CloseDatagrams(addresses) => self.leave_datagrams(|address| addresses.contains(address)),
                Mail::Connection(parcel, listener) => {
                    if let Ok(accepted) = parcel.unpack() {
                        self.clone().take(accepted, &listener);
                    }
                }
                Mail::Refresh => drop(self.service.world()),
                Mail::LookAgain => self.worker.timers.look_again(),
                // As many places as workers were asked.
                Mail::Echo(number, to) => drop(to.try_send(number)),
                Mail::Quotas(asks, to) => {
                    let service = self.service.clone();
                    spawn_local(async move { drop(to.try_send(service.used_elsewhere(&asks).await)) });
                }
                Mail::Drain => {
                    self.worker.draining.notify_waiters();
                    #[cfg(feature = "http3")]
                    self.leave_datagrams(|_| true);
                    let addresses = self.closers.borrow().keys().cloned().collect();
                    self.close(addresses, true).await;
                    self.seat.drained.store(true, Ordering::Release);
                }
                Mail::Farewell => self.worker.farewell.notify_waiters(),
                Mail::Stop => {
                    #[cfg(feature = "http3")]
                    self.cut_datagrams().await;
                    return;
                }
            }
        }
    }

    fn listen(self: &Rc<Self>, address: ListenAddress, listener: Listening) {
        let acceptor = match Acceptor::new(listener) {
            Ok(acceptor) => acceptor,
            Err(error) => return tracing::error!(%error, %address, "a worker cannot listen"),
        };
        let (closer, closed) = oneshot::channel();
        let listener = Arc::new(address.clone());
        self.closers.borrow_mut().entry(address).or_default().push(closer);
        spawn_local(self.clone().accept(acceptor, listener, closed));
    }

    #[cfg(feature = "http3")]
    fn take_datagrams(self: &Rc<Self>, address: ListenAddress, share: maitred_transport::DatagramShare) {
        let door = self.service.world().snapshot.door(&address).cloned();
        let Some(quic) = door.as_ref().and_then(|door| door.quic.as_ref()) else { return };
        let endpoint = match maitred_transport::QuicEndpoint::start(share, quic) {
            Ok(endpoint) => endpoint,
            Err(error) => return tracing::error!(%error, %address, "a worker cannot speak HTTP/3"),
        };
        let mut endpoints = self.endpoints.borrow_mut();
        endpoints.retain(|(_, endpoint)| endpoint.strong_count() > 0);
        endpoints.push((address.clone(), Rc::downgrade(&endpoint)));
        let service = self.service.clone();
        let door = move || service.world().snapshot.door(&address).cloned();
        spawn_local(endpoint.serve(door, self.worker.clone(), self.service.clone()));
    }

    /// Lets nobody in there any more; who is in may finish.
    #[cfg(feature = "http3")]
    fn leave_datagrams(&self, which: impl Fn(&ListenAddress) -> bool) {
        for (address, endpoint) in &*self.endpoints.borrow() {
            if which(address)
                && let Some(endpoint) = endpoint.upgrade()
            {
                endpoint.leave();
            }
        }
    }

    /// Tells who is still there that it is over.
    #[cfg(feature = "http3")]
    async fn cut_datagrams(&self) {
        let endpoints: Vec<_> = self.endpoints.borrow().iter().filter_map(|(_, endpoint)| endpoint.upgrade()).collect();
        if endpoints.is_empty() {
            return;
        }
        endpoints.iter().for_each(|endpoint| endpoint.cut());
        // The tasks of the connections send it, when it is their turn.
        for _ in 0..LAST_TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// `takes_waiting`: what waits in an accept queue is accepted before the socket goes.
    async fn close(&self, addresses: Vec<ListenAddress>, takes_waiting: bool) {
        for address in addresses {
            let closers = self.closers.borrow_mut().remove(&address).unwrap_or_default();
            for closer in closers {
                let (done, closed) = oneshot::channel();
                if closer.send(Closing { takes_waiting, done }).is_ok() {
                    let _ = closed.await;
                }
            }
        }
    }

    /// Accepts until it is asked to close; then takes what has connected already, if it is to, and closes.
    async fn accept(self: Rc<Self>, acceptor: Acceptor, listener: Arc<ListenAddress>, closed: oneshot::Receiver<Closing>) {
        let mut closed = pin!(closed);
        loop {
            let turn = poll_fn(|cx| {
                // Asked first: neither a queue that is never empty nor a lack of descriptors may keep it from closing.
                if let Poll::Ready(asked) = closed.as_mut().poll(cx) {
                    return Poll::Ready(Turn::Close(asked.ok()));
                }
                let accepted = self.accept_some(&acceptor, &listener, ACCEPTS_PER_TURN, cx);
                accepted.map(|failed| if failed { Turn::Failed } else { Turn::More })
            })
            .await;
            match turn {
                Turn::Close(closing) => {
                    if closing.as_ref().is_none_or(|closing| closing.takes_waiting) {
                        // What has come since sockets were looked at last is not known to be there.
                        tokio::task::yield_now().await;
                        let _ = poll_fn(|cx| Poll::Ready(self.accept_some(&acceptor, &listener, BACKLOG_MAX, cx))).await;
                    }
                    drop(acceptor);
                    closing.map(|closing| closing.done.send(()));
                    return;
                }
                Turn::Failed => tokio::time::sleep(ACCEPT_PAUSE).await,
                Turn::More => tokio::task::yield_now().await,
            }
        }
    }

    /// Accepts up to `most`. Pending when nobody waits; ready with whether accepting failed.
    fn accept_some(
        self: &Rc<Self>,
        acceptor: &Acceptor,
        listener: &Arc<ListenAddress>,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<bool> {
        for _ in 0..most {
            match ready!(acceptor.poll_accept(cx)) {
                Ok(accepted) => self.clone().place(accepted, listener),
                Err(error) if is_exhaustion(&error) => {
                    tracing::error!(%error, "a connection cannot be accepted");
                    return Poll::Ready(true);
                }
                // That one connection broke before it was accepted.
                Err(_) => {}
            }
        }
        Poll::Ready(false)
    }

    /// Keeps a connection, or passes it to a fellow who has fewer.
    fn place(self: Rc<Self>, accepted: Accepted, listener: &Arc<ListenAddress>) {
        let Some(fellow) = self.emptier_fellow() else { return self.take(accepted, listener) };
        let letter = match accepted.pack() {
            Ok(parcel) => Mail::Connection(parcel, listener.clone()),
            Err(error) => return tracing::warn!(%error, "a connection cannot be passed on"),
        };
        if let Err(
            mpsc::error::TrySendError::Full(Mail::Connection(parcel, listener))
            | mpsc::error::TrySendError::Closed(Mail::Connection(parcel, listener)),
        ) = self.seat.fellows[fellow].try_send(letter)
            && let Ok(accepted) = parcel.unpack()
        {
            self.take(accepted, &listener);
        }
    }

    fn emptier_fellow(&self) -> Option<usize> {
        let shards = &self.seat.shared.metrics.workers;
        let mine = shards[self.seat.index].connections_open.get();
        let total: u64 = shards.iter().map(|shard| shard.connections_open.get()).sum();
        let mean = total as f64 / shards.len() as f64;
        if shards.len() < 2 || (mine as f64) <= mean * SHARE_MAX || mine < mean as u64 + SHARE_SLACK {
            return None;
        }
        // The emptier of two at random: near the best, and no herd runs to one (Mitzenmacher 2001).
        let (a, b) = (self.worker.chance.below(shards.len()), self.worker.chance.below(shards.len()));
        let emptier = if shards[a].connections_open.get() <= shards[b].connections_open.get() { a } else { b };
        (shards[emptier].connections_open.get() < mine).then_some(emptier)
    }

    fn take(self: Rc<Self>, accepted: Accepted, listener: &ListenAddress) {
        self.worker.shard().connections_accepted.add(1);
        // Accepted in the moment in which its listener went: as if it had come later.
        let Some(door) = self.service.world().snapshot.door_at(listener, accepted.local).cloned() else { return };
        let open = Open::new(self.worker.clone());
        let ends = (accepted.peer, accepted.local);
        let socket = accepted.into_socket();
        spawn_local(async move {
            serve(socket, ends, door, self.worker.clone(), self.service.clone()).await;
            drop(open);
        });
    }
}

/// A connection that is counted however it ends.
struct Open {
    worker: Rc<Worker>,
}

impl Open {
    fn new(worker: Rc<Worker>) -> Open {
        worker.shard().connections_open.add(1);
        Open { worker }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.shard().connections_open.sub(1);
    }
}

/// Out of descriptors or memory: accepting again at once would only spin.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
