//! An invocation on its way through a pool, and while it runs.

use super::output::Upto;
use crate::answer::{Answer, NotRun, Piece};
use maitred_core::function::Invocation;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(crate) type Reply = oneshot::Sender<Result<Answer, NotRun>>;

/// One that waits.
#[derive(Debug)]
pub(crate) struct Job {
    pub invocation: Invocation,
    pub reply: Reply,
    /// Until then it waits, unless a process is being started for it.
    pub until: Instant,
    /// Processes that were started for it and failed.
    pub failed_starts: u8,
    /// How often it was given to a process that could not take it.
    pub given: u8,
    /// Nobody waits for its result: it is run when nobody else wants to.
    pub is_event: bool,
}

/// One that runs.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its event is with the process.
    pub invocation: Invocation,
    /// Gone when a stream began.
    pub reply: Option<Reply>,
    pub stream: Option<mpsc::Sender<Piece>>,
    pub started: Instant,
    /// Since 1970: what the function is told.
    pub deadline_wall: Duration,
    /// Its answer is being read, and there is no other; and what of its output is taken before it is told.
    pub answering: Option<Upto>,
    pub rest: Rest,
}

/// What is needed again where a job must be given back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest {
    pub until: Instant,
    pub failed_starts: u8,
    pub given: u8,
    pub is_event: bool,
}

impl Job {
    /// With its event apart, which goes to the process.
    pub fn begin(mut self, now: Instant, deadline_wall: Duration) -> (Run, Vec<u8>) {
        let event = std::mem::take(&mut self.invocation.event);
        let Job { invocation, reply, until, failed_starts, given, is_event } = self;
        let rest = Rest { until, failed_starts, given: given + 1, is_event };
        let run = Run { invocation, reply: Some(reply), stream: None, started: now, deadline_wall, answering: None, rest };
        (run, event)
    }
}

impl Run {
    /// `None`: somebody has begun to hear its answer.
    pub fn back(self, event: Vec<u8>) -> Option<Job> {
        let Run { mut invocation, reply, rest: Rest { until, failed_starts, given, is_event }, .. } = self;
        invocation.event = event;
        Some(Job { invocation, reply: reply?, until, failed_starts, given, is_event })
    }
}
