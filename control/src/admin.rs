//! The admin listener: who may ask (`gate`), what is answered (`answers`), and the socket with its limits (here). Decides nothing
//! about the gateway: everything that it shows or does is an `Operations` of the binary.

mod answers;
mod connections;
mod consumers;
mod functions;
mod gate;
mod hand;
mod invoke_api;
#[cfg(test)]
mod tests;
mod usage;

use crate::consumers::{ConsumerCounts, ConsumerView};
use crate::functions::FunctionView;
use crate::functions::token::Token;
use crate::metrics::CertificateEnd;
use crate::store::{Change, Changed, NotChanged};
use crate::upstreams::{Turned, Unknown, UpstreamView};
use crate::usage::UsageView;
use answers::App;
use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use maitred_core::limits::series::LimitView;
use maitred_core::metrics::Metrics;
use maitred_core::{Clients, Clock};
use maitred_host::FunctionKey;
use maitred_model::MetricsAccess;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Bytes of a request's head: as much as a browser with many cookies sends.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes buffered of a connection, either way. What hyper reads at once may go a little over it.
const BUFFER_BYTES_MAX: usize = HEAD_BYTES_MAX;
/// For a request's head to arrive, and for an idle connection to ask again.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// From one request to the next: who reads so slowly that this passes is cut off, or slow readers would pile up answers.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(60);
/// Connections at once: an administrator, a scraper and a few probes need ten. More wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// For the requests under way when the listener is stopped, but for those that run a function: they have what whoever stops it gives them.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);
/// After a failed accept, which is nearly always for want of descriptors: trying again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// `admin:` of the configuration.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    pub listen: SocketAddr,
    pub token: Token,
    pub metrics: MetricsAccess,
    /// What hosted functions speak AWS's API to this listener with; `None`: they do not.
    pub function_key: Option<FunctionKey>,
    /// What functions are told that they run in.
    pub region: String,
    pub clock: Clock,
}

/// Whether traffic should be sent here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// `warning`: such as that the last reload failed. Strangers may read it: no details.
    Ready {
        warning: Option<String>,
    },
    Draining,
    /// Why not. Strangers may read this too.
    NotReady(Vec<String>),
}

/// What the binary lets the admin listener see and do. Each may take its time: none is called on a thread that others wait for.
pub trait Operations: Send + Sync + 'static {
    fn metrics(&self) -> Arc<Metrics>;
    /// Those that clients are shown.
    fn certificates(&self) -> Vec<CertificateEnd>;
    fn ready(&self) -> Readiness;
    /// The live configuration, secrets masked.
    fn config(&self) -> serde_json::Value;
    /// `[{api, hosts, base_path, route, match, when, integration, policies}]`
    fn routes(&self) -> serde_json::Value;
    /// Every rate limit, with what it said.
    fn limits(&self) -> Vec<LimitView>;
    /// Every upstream, with its endpoints as they are now.
    fn upstreams(&self) -> Vec<UpstreamView>;
    fn upstream(&self, name: &str) -> Result<UpstreamView, Unknown>;
    /// Takes an endpoint of an upstream out, or lets it in again.
    fn turn(&self, upstream: &str, endpoint: &str, is_drained: bool) -> Result<Turned, Unknown>;
    /// Every registered caller: of the configuration, and of the store.
    fn consumers(&self) -> Vec<ConsumerView>;
    fn consumer(&self, name: &str) -> Result<ConsumerView, NotChanged>;
    /// Live on every worker when it returns.
    fn change_consumer(&self, change: Change) -> Result<Changed, NotChanged>;
    fn consumer_counts(&self) -> ConsumerCounts;
    /// What every consumer that has a plan has used of it.
    fn usage(&self) -> Vec<UsageView>;
    /// The same of one, and of periods that have passed.
    fn usage_of(&self, name: &str) -> Result<UsageView, NotChanged>;
    /// As if it had used nothing of its own quotas.
    fn reset_usage(&self, name: &str) -> Result<UsageView, NotChanged>;
    /// Every function, hosted or not.
    fn functions(&self) -> Vec<FunctionView>;
    /// Looks it up and waits for nobody, unlike the rest.
    fn function(&self, name: &str) -> Option<FunctionView>;
    /// Reads the code of a hosted function again, and has other processes take the places of those that it has. Never called twice at
    /// once, nor beside `reload`.
    fn reload_function(&self, name: &str) -> Result<Reloaded, NotReloaded>;
    /// The way to clients of WebSockets that functions answer.
    fn clients(&self) -> Arc<dyn Clients>;
    /// Version, generation, when it started, how the last reload went.
    fn status(&self) -> serde_json::Value;
    /// Reads the gateway's own file again: the generation that is live now, or the rendered diagnostics. Never called twice at once.
    fn reload(&self) -> Result<u64, String>;
    /// Starts the installed program in this one's place, and waits until it serves or has failed.
    fn upgrade(&self) -> Result<Successor, NotUpgraded>;
}

/// Another set of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Of the code that they run.
    pub hash: String,
    /// Whether that is another than before.
    pub has_changed: bool,
}

/// Why the processes from before go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReloaded {
    Unknown,
    /// It runs in AWS.
    Elsewhere,
    /// Rendered diagnostics.
    Wrong(String),
}

/// The process that serves from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    pub pid: u32,
    pub version: String,
}

/// Why the process from before goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotUpgraded {
    /// It was not tried.
    Refused(String),
    /// The new process did not come to serve.
    Failed(String),
}

impl fmt::Display for NotUpgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotUpgraded::Refused(words) | NotUpgraded::Failed(words) => f.write_str(words),
        }
    }
}

/// A running admin listener. Dropping it stops it too, but waits for nothing.
pub struct Admin {
    address: SocketAddr,
    stopping: watch::Sender<bool>,
    /// Ends with the socket.
    open: oneshot::Receiver<()>,
    accepting: JoinHandle<()>,
}

impl Admin {
    /// Binds, and serves on the runtime that this is called on. An address that is not loopback is refused without a token.
    pub async fn start(config: AdminConfig, operations: Arc<dyn Operations>) -> io::Result<Admin> {
        let listener = Admin::bind(&config, None)?;
        Admin::serve(listener, config, operations).await
    }

    /// The socket alone: nobody is answered yet. `offered`: one that listens there already.
    pub fn bind(config: &AdminConfig, offered: Option<OwnedFd>) -> io::Result<StdListener> {
        let listen = config.listen;
        if config.token.get().is_none() && !listen.ip().is_loopback() {
            let message = format!("the admin listener on {listen} needs a token: the address is not loopback");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let listener = offered.map_or_else(|| StdListener::bind(listen), |socket| Ok(socket.into()))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Answers, on the runtime that this is called on.
    pub async fn serve(listener: StdListener, config: AdminConfig, operations: Arc<dyn Operations>) -> io::Result<Admin> {
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let router = answers::router(App::new(operations, config));
        let (stopping, stopped) = watch::channel(false);
        let (closed, open) = oneshot::channel();
        let accepting = tokio::spawn(accept(listener, router, stopped, closed));
        Ok(Admin { address, stopping, open, accepting })
    }

    /// Where it listens: the port that was chosen where the configuration said 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nobody in any more: when this is done, its copy of the socket is closed.
    pub async fn close(&mut self) {
        let _ = self.stopping.send(true);
        // An error, which is the only thing that comes: it is closed.
        let _ = (&mut self.open).await;
    }

    /// Stops listening, and lets the requests under way end: for two seconds at most, and those that run functions for as long as this.
    pub async fn stop(mut self, patience: Duration) {
        let _ = self.stopping.send(true);
        // It ends by itself, or it panicked, and then it has ended too.
        if tokio::time::timeout(patience.max(STOP_TIME_MAX), &mut self.accepting).await.is_err() {
            self.accepting.abort();
        }
    }
}

async fn accept(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>, closed: oneshot::Sender<()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Also when the sender is gone, which is an `Admin` that was dropped.
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = admit(&listener, &room) => match accepted {
                Ok((stream, permit)) => {
                    connections.spawn(converse(stream, permit, router.clone(), stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(closed);
    while connections.join_next().await.is_some() {}
}

async fn admit(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    // Room first: a connection that is not accepted costs us nothing.
    let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// Until when a connection is let be, as whoever answers on it may put off: for a function, which has its own time.
#[derive(Debug, Clone)]
struct Patience {
    start: Instant,
    /// ms after it
    until: Arc<AtomicU64>,
    /// A function runs for the request that came last.
    runs: Arc<AtomicBool>,
}

impl Patience {
    fn new() -> Patience {
        let patience = Patience { start: Instant::now(), until: Arc::default(), runs: Arc::default() };
        patience.begin();
        patience
    }

    /// A request came.
    fn begin(&self) {
        self.until.store(self.after(Duration::ZERO), Ordering::Relaxed);
        self.runs.store(false, Ordering::Relaxed);
    }

    /// A function runs. For so long nobody can be blamed that nothing happens.
    fn extend(&self, by: Duration) {
        self.until.fetch_max(self.after(by), Ordering::Relaxed);
        self.runs.store(true, Ordering::Relaxed);
    }

    fn runs(&self) -> bool {
        self.runs.load(Ordering::Relaxed)
    }

    fn after(&self, by: Duration) -> u64 {
        (self.start.elapsed() + by + EXCHANGE_TIME_MAX).as_millis() as u64
    }

    fn due(&self) -> Instant {
        self.start + Duration::from_millis(self.until.load(Ordering::Relaxed))
    }
}

/// One connection, until it ends, is told to, or is too slow.
async fn converse(stream: TcpStream, _room: OwnedSemaphorePermit, router: Router, mut stopped: watch::Receiver<bool>) {
    let patience = Patience::new();
    let was_asked = AtomicBool::new(false);
    let stopping = stopped.clone();
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        patience.begin();
        request.extensions_mut().insert(patience.clone());
        was_asked.store(true, Ordering::Relaxed);
        let answer = router.call(request);
        async {
            let mut answer = answer.await?;
            if *stopping.borrow() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
    builder.max_header_size(HEAD_BYTES_MAX).max_buf_size(BUFFER_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stop_by = None;
    loop {
        tokio::select! {
            // An error is the client's affair: nobody here could do anything about it.
            _ = connection.as_mut() => return,
            _ = stopped.changed(), if stop_by.is_none() => {
                stop_by = Some(Instant::now() + STOP_TIME_MAX);
                // Who was let in and has not asked yet cannot know that the listener goes, and is answered still.
                if was_asked.load(Ordering::Relaxed) {
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = tokio::time::sleep_until(stop_by.unwrap_or(patience.due())), if stop_by.is_some() && !patience.runs() => {
                // A function may have been asked for meanwhile.
                if !patience.runs() {
                    return;
                }
            }
            () = tokio::time::sleep_until(patience.due()) => {
                if patience.due() <= Instant::now() {
                    return;
                }
            }
        }
    }
}
