//! One function's processes: those that wait for work, those that have some, and the invocations that wait for one. What stands here is
//! the way to them from other threads; `desk.rs` is the pool itself, on the host's thread.

pub(crate) mod desk;
pub(crate) mod desks;
pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod extensions;
pub(crate) mod instance;
mod job;
pub(crate) mod output;

use crate::answer::{Answer, NotRun};
use crate::code::Code;
use crate::hint::Places;
use crate::log::{Log, LogLine, LogSource};
use crate::process::Launch;
use desk::Order;
use maitred_core::function::{Invocation, PAYLOAD_BYTES_MAX};
use maitred_model::FunctionQueue;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};

/// On their way to the host's thread, which takes them at once and has its own queue: as many as workers may have under way in a moment.
pub(crate) const ORDERS_MAX: usize = 1024;

/// A worker's hold on the processes of one function. When the last is dropped they end: those at work, after it.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

/// What both sides see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub name: Arc<str>,
    pub code: Code,
    pub figures: Figures,
    pub log: Arc<Log>,
    pub reload: Notify,
}

/// Makes what starts one process, whose Runtime API is spoken at that address; `true`: nobody waits for it.
pub(crate) type Launcher = Box<dyn Fn(SocketAddr, bool) -> io::Result<Launch> + Send>;

/// How a pool is run.
pub(crate) struct Settings {
    pub launch: Launcher,
    /// As a function is told, where its caller did not say.
    pub arn: String,
    pub timeout: Duration,
    pub init_timeout: Duration,
    pub concurrency: NonZeroU32,
    pub min_instances: u32,
    pub idle: Duration,
    pub queue: FunctionQueue,
    pub reports: bool,
    /// For its reports.
    pub memory: Option<u64>,
    /// As extensions are told it.
    pub handler: String,
    /// Names of those that are started with each process.
    pub extensions: Vec<String>,
    /// For what is to be installed there.
    pub places: Arc<Places>,
    /// How long an event that failed waits, each time.
    pub retries: Vec<Duration>,
}

/// Counted since the pool was made; read relaxed.
#[derive(Debug, Default)]
pub struct Figures {
    /// Ended, well or not.
    pub invocations: AtomicU64,
    /// Ended with a failure, timeouts and results that are no response included.
    pub failures: AtomicU64,
    pub timeouts: AtomicU64,
    /// Not run at all: `NotRun`.
    pub throttles: AtomicU64,
    /// Processes that were started.
    pub starts: AtomicU64,
    /// At the moment.
    pub busy: AtomicU64,
    pub idle: AtomicU64,
    pub starting: AtomicU64,
    pub waiting: AtomicU64,
    /// µs, of all that ended; and of all starts.
    pub duration: AtomicU64,
    pub init: AtomicU64,
}

/// One process, for lists.
#[derive(Debug, Clone)]
pub struct InstanceView {
    pub number: u32,
    /// 0 as long as there is none.
    pub pid: u32,
    /// `starting`, `idle`, `busy` or `ending`.
    pub state: &'static str,
    pub invocations: u64,
}

#[derive(Debug, Clone)]
pub struct PoolView {
    pub name: Arc<str>,
    pub code: Code,
    pub instances: Vec<InstanceView>,
    pub waiting: usize,
}

impl Pool {
    /// `log`: of the function of that name, which other pools may write to as well.
    pub(crate) fn new(log: Arc<Log>, code: Code) -> (Pool, mpsc::Receiver<Order>) {
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let shared = Shared { name: log.function().clone(), code, figures: Figures::default(), log, reload: Notify::new() };
        (Pool { shared: Arc::new(shared), orders }, inbox)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    pub fn code(&self) -> &Code {
        &self.shared.code
    }

    pub fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// Runs the function once. Whoever drops this leaves the queue; what runs already runs on, and its result is nobody's.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Answer, NotRun> {
        let (reply, answer) = oneshot::channel();
        self.order(invocation, |invocation| Order::Invoke { invocation, reply })?;
        answer.await.unwrap_or(Err(NotRun::Closed))
    }

    /// Takes an event that nobody waits for. It is run when there is room, and again where it fails, as AWS does; what becomes of it is
    /// in the log.
    pub async fn submit(&self, invocation: Invocation) -> Result<(), NotRun> {
        let (reply, taken) = oneshot::channel();
        self.order(invocation, |invocation| Order::Submit { invocation, reply })?;
        taken.await.unwrap_or(Err(NotRun::Closed))
    }

    fn order(&self, invocation: Invocation, order: impl FnOnce(Invocation) -> Order) -> Result<(), NotRun> {
        if invocation.event.len() > PAYLOAD_BYTES_MAX {
            return Err(NotRun::TooLarge);
        }
        self.orders.try_send(order(invocation)).map_err(|error| match error {
            TrySendError::Full(_) => NotRun::QueueFull,
            TrySendError::Closed(_) => NotRun::Closed,
        })
    }

    /// A run that ended well came to no response: whoever asked for one says why. It counts as failed.
    pub fn malformed(&self, request_id: &str, why: &str) {
        self.shared.figures.failures.fetch_add(1, Ordering::Relaxed);
        self.shared.log.push(LogSource::Failure, 0, Some(request_id), &format!("The result is no response: {why}"));
    }

    /// Lines of the function after the one of that number, the oldest first, other pools' among them; the last thousand are kept.
    pub fn log_after(&self, number: u64) -> Vec<LogLine> {
        self.shared.log.after(number)
    }

    /// Takes every process out of use: new ones take their place.
    pub fn reload(&self) {
        self.shared.reload.notify_one();
    }

    pub async fn view(&self) -> PoolView {
        let (reply, view) = oneshot::channel();
        // Where there is no place a list may wait for one.
        let asked = self.orders.send(Order::View(reply)).await.is_ok();
        let view = if asked { view.await.ok() } else { None };
        let nothing = || PoolView { name: self.name().clone(), code: self.code().clone(), instances: Vec::new(), waiting: 0 };
        view.unwrap_or_else(nothing)
    }
}
