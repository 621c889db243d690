//! One function's processes: those that wait for work, those that have some, and the invocations that wait for one.

use crate::answer::{Answer, NotRun};
use crate::code::Code;
use crate::log::LogLine;
use maitred_core::function::Invocation;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A worker's hold on the processes of one function. When the last is dropped they end: those at work, after it.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    code: Code,
    figures: Arc<Figures>,
}

/// Counted since the pool was made; read relaxed.
#[derive(Debug, Default)]
pub struct Figures {
    pub invocations: AtomicU64,
    /// Ended with a failure, timeouts included.
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
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn code(&self) -> &Code {
        &self.code
    }

    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Runs the function once. Whoever drops this leaves the queue; what runs already runs on, and its result is nobody's.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Answer, NotRun> {
        let _ = invocation;
        Err(NotRun::Closed)
    }

    /// Lines after the one of that number, the oldest first; the last thousand are kept.
    pub fn log_after(&self, number: u64) -> Vec<LogLine> {
        let _ = number;
        Vec::new()
    }

    /// Takes every process out of use: new ones take their place.
    pub fn reload(&self) {}

    pub async fn view(&self) -> PoolView {
        PoolView { name: self.name.clone(), code: self.code.clone(), instances: Vec::new(), waiting: 0 }
    }
}
