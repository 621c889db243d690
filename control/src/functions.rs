//! The functions of the live configuration, as those who ask the admin listener may see and run them. Starts no process: the host does.

pub mod keys;
pub mod name;
#[cfg(test)]
pub(crate) mod testing;
pub mod token;

use maitred_core::Fault;
use maitred_core::function::Invocation;
use maitred_host::{Answer, Figures, InstanceView, LogLine, NotRun, Pool, PoolView};
use maitred_model::{Document, Function, FunctionPlace, Hosted};
use serde_json::{Value, json};
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How processes are at a moment.
#[derive(Debug, Clone)]
pub struct Seen {
    pub instances: Vec<InstanceView>,
    /// Invocations that wait for one.
    pub waiting: usize,
}

/// Why there is no result.
#[derive(Debug)]
pub enum Unrun {
    /// No process here ran it.
    Here(NotRun),
    /// AWS refused, or could not be asked.
    Away(Fault),
}

/// What runs one function, wherever that is.
pub trait Runs: Send + Sync {
    fn invoke(&self, invocation: Invocation) -> Later<'_, Result<Answer, Unrun>>;
    /// The same for an event, whose result is nobody's.
    fn submit(&self, invocation: Invocation) -> Later<'_, Result<(), Unrun>>;
}

/// The processes of one function. A trait only so that what is asked of them can be tested without any.
pub trait Processes: Runs {
    fn view(&self) -> Later<'_, Seen>;
    /// Of the code that they run, and where its copy is.
    fn code(&self) -> (&str, &Path);
    fn figures(&self) -> &Figures;
    fn log_after(&self, number: u64) -> Vec<LogLine>;
    fn reload(&self);
}

impl Runs for Pool {
    fn invoke(&self, invocation: Invocation) -> Later<'_, Result<Answer, Unrun>> {
        Box::pin(async { Pool::invoke(self, invocation).await.map_err(Unrun::Here) })
    }

    fn submit(&self, invocation: Invocation) -> Later<'_, Result<(), Unrun>> {
        Box::pin(async { Pool::submit(self, invocation).await.map_err(Unrun::Here) })
    }
}

impl Processes for Pool {
    fn view(&self) -> Later<'_, Seen> {
        Box::pin(async {
            let PoolView { name: _, code: _, instances, waiting } = Pool::view(self).await;
            Seen { instances, waiting }
        })
    }

    fn code(&self) -> (&str, &Path) {
        let code = Pool::code(self);
        (&code.hash, &code.root)
    }

    fn figures(&self) -> &Figures {
        Pool::figures(self)
    }

    fn log_after(&self, number: u64) -> Vec<LogLine> {
        Pool::log_after(self, number)
    }

    fn reload(&self) {
        Pool::reload(self);
    }
}

/// Where a function runs.
#[derive(Clone)]
pub enum Place {
    Here(Arc<dyn Processes>),
    Away(Arc<dyn Runs>),
}

/// One function of a configuration, and where it runs.
#[derive(Clone)]
pub struct FunctionView {
    document: Arc<Document>,
    index: usize,
    place: Option<Place>,
}

impl fmt::Debug for FunctionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FunctionView").field(&self.name()).finish()
    }
}

impl FunctionView {
    /// Of every function, in the document's order. `place`: by that order; `None` where it does not run.
    pub fn all(document: &Arc<Document>, place: impl Fn(usize) -> Option<Place>) -> Vec<FunctionView> {
        let one = |index| FunctionView { document: document.clone(), index, place: place(index) };
        (0..document.functions.len()).map(one).collect()
    }

    pub fn one(document: &Arc<Document>, name: &str, place: impl Fn(usize) -> Option<Place>) -> Option<FunctionView> {
        let index = document.functions.get_index_of(name)?;
        Some(FunctionView { document: document.clone(), index, place: place(index) })
    }

    pub fn processes(&self) -> Option<&Arc<dyn Processes>> {
        match self.place.as_ref()? {
            Place::Here(processes) => Some(processes),
            Place::Away(_) => None,
        }
    }

    /// What runs it.
    pub fn runs(&self) -> Option<Arc<dyn Runs>> {
        Some(match self.place.as_ref()? {
            Place::Here(processes) => processes.clone(),
            Place::Away(runs) => runs.clone(),
        })
    }

    pub fn name(&self) -> &str {
        self.document.functions.get_index(self.index).map_or("", |(name, _)| name)
    }

    pub fn function(&self) -> &Function {
        &self.document.functions[self.index].value
    }

    pub fn hosted(&self) -> Option<&Hosted> {
        match &self.function().place {
            FunctionPlace::Hosted(hosted) => Some(hosted),
            FunctionPlace::Aws(_) => None,
        }
    }

    /// Where it runs in AWS, the version or alias that it runs in.
    pub fn qualifier(&self) -> Option<&str> {
        match &self.function().place {
            FunctionPlace::Hosted(_) => None,
            FunctionPlace::Aws(aws) => aws.arn.qualifier.as_deref(),
        }
    }

    /// Longer than this nobody waits for one invocation: for its turn, the start of a process, and the run.
    pub fn patience(&self) -> Duration {
        let before = self.hosted().map_or(Duration::ZERO, |hosted| hosted.queue.timeout + hosted.init_timeout * 2);
        self.function().timeout + before
    }

    pub fn counts(&self) -> Option<FunctionCounts> {
        let processes = self.processes()?;
        Some(FunctionCounts::of(self.name(), processes.figures()))
    }

    /// `seen`: how its processes are at the moment.
    pub fn to_json(&self, seen: Option<&Seen>) -> Value {
        let mut value = maitred_model::function_to_json(self.function());
        value["name"] = self.name().into();
        value["runs"] = if self.hosted().is_some() { "here" } else { "aws" }.into();
        if let Some(hosted) = self.hosted() {
            value["code"] = json!({ "folder": hosted.code.display().to_string() });
        }
        if let (Some(processes), Some(counts)) = (self.processes(), self.counts()) {
            let (hash, copy) = processes.code();
            value["code"]["hash"] = hash.into();
            value["code"]["copy"] = copy.display().to_string().into();
            value["counts"] = counts.to_json();
        }
        if let Some(Seen { instances, waiting }) = seen {
            let instance = |instance: &InstanceView| {
                json!({
                    "number": instance.number,
                    "pid": instance.pid,
                    "state": instance.state,
                    "invocations": instance.invocations,
                })
            };
            value["instances"] = instances.iter().map(instance).collect();
            value["waiting"] = (*waiting).into();
        }
        value
    }
}

/// What was counted of one function's processes, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionCounts {
    pub name: String,
    pub invocations: u64,
    pub failures: u64,
    pub timeouts: u64,
    pub throttles: u64,
    pub starts: u64,
    pub busy: u64,
    pub idle: u64,
    pub starting: u64,
    pub waiting: u64,
    /// µs
    pub duration: u64,
    /// µs
    pub init: u64,
}

impl FunctionCounts {
    fn of(name: &str, figures: &Figures) -> FunctionCounts {
        let Figures { invocations, failures, timeouts, throttles, starts, busy, idle, starting, waiting, duration, init } =
            figures;
        FunctionCounts {
            name: name.to_owned(),
            invocations: invocations.load(Relaxed),
            failures: failures.load(Relaxed),
            timeouts: timeouts.load(Relaxed),
            throttles: throttles.load(Relaxed),
            starts: starts.load(Relaxed),
            busy: busy.load(Relaxed),
            idle: idle.load(Relaxed),
            starting: starting.load(Relaxed),
            waiting: waiting.load(Relaxed),
            duration: duration.load(Relaxed),
            init: init.load(Relaxed),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "invocations": self.invocations,
            "failures": self.failures,
            "timeouts": self.timeouts,
            "throttles": self.throttles,
            "starts": self.starts,
            "busy": self.busy,
            "idle": self.idle,
            "starting": self.starting,
            "waiting": self.waiting,
            "duration_seconds": self.duration as f64 / 1e6,
            "init_seconds": self.init as f64 / 1e6,
        })
    }
}
