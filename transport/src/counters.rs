//! Counts that gateways share: what a worker asks of servers that speak Redis' protocol, and what it hands out of what it asked for ahead. Decides
//! nothing about requests: whoever asks says what becomes of one that is not answered.
//!
//! Each worker has connections of its own, on which all that its requests ask at the same time goes out together. No request waits longer than
//! `timeout`; after a few that waited in vain nobody is asked any more until a new connection has answered in time.

mod batch;
mod command;
mod fleet;
mod link;
mod slices;
mod talk;

use crate::tls::ClientTls;
use crate::upstream::Dial;
use crate::worker::Worker;
use command::{Answer, Command};
use fleet::Fleet;
use maitred_core::limit_table::Verdict;
use maitred_core::limits::{Ask, AskQuota, Counting, SharedCounts, Unanswered};
use maitred_model::{CountersFailure, CountingMode, RedisCounters, RedisServers};
use slices::{BURSTS_AHEAD, Judged, SWEPT_MAX, Slices};
use std::cell::RefCell;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{spawn_local, yield_now};
use tokio::time::sleep;

/// How often slices that nobody uses are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Of what one answer says that it cost, where slices are given out ahead: elsewhere no key owes more than this.
const BURSTS_AT_ONCE: u32 = 10;

/// Names that are looked up at the same time, by all workers together. Each has a thread for as long as the system takes, which may be much
/// longer than anybody waits.
const LOOKUPS_MAX: usize = 4;

/// What all workers have in common.
pub struct CountersSpec {
    servers: RedisServers,
    mode: CountingMode,
    timeout: Duration,
    on_failure: CountersFailure,
    prefix: String,
    dial: Dial,
    /// Connections that are there no more: the log is told of the first and of the last, and not by each worker.
    lost: AtomicU32,
    lookups: Arc<Semaphore>,
}

impl CountersSpec {
    /// `tls`: present exactly where the servers want it.
    pub fn new(counters: &RedisCounters, tls: Option<ClientTls>) -> Arc<CountersSpec> {
        let RedisCounters { servers, mode, timeout, on_failure, prefix, tls: _ } = counters;
        Arc::new(CountersSpec {
            servers: servers.value.clone(),
            mode: *mode,
            timeout: *timeout,
            on_failure: *on_failure,
            prefix: prefix.clone(),
            // What HTTP is agreed upon by is nothing to such a server.
            dial: Dial { tls: tls.map(ClientTls::without_alpn), ..Dial::default() },
            lost: AtomicU32::new(0),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        })
    }

    fn tell_lost(&self, server: impl Display, why: &str) {
        if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            let then = self.on_failure.words();
            tracing::warn!(%server, why, "the counts that gateways share cannot be asked: {then}");
        }
    }

    fn tell_found(&self, server: impl Display) {
        if self.lost.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::info!(%server, "the counts that gateways share are asked again");
        }
    }
}

/// A worker's.
pub struct Counters {
    fleet: Rc<Fleet>,
    /// Where slices are asked for ahead.
    slices: Option<Rc<RefCell<Slices>>>,
    worker: Rc<Worker>,
}

impl Counters {
    /// Connects, and does so again whenever it must, for as long as the worker runs.
    pub fn start(spec: &Arc<CountersSpec>, worker: &Rc<Worker>) -> Counters {
        let slices: Option<Rc<RefCell<Slices>>> = match spec.mode {
            CountingMode::Exact => None,
            CountingMode::LocalFirst => Some(Rc::default()),
        };
        let fleet = Fleet::start(spec, worker);
        if let Some(slices) = &slices {
            spawn_local(sweep(slices.clone(), fleet.clone(), worker.clone()));
        }
        Counters { fleet, slices, worker: worker.clone() }
    }

    /// What was used of quotas so far, for whoever only wants to know it: nothing is taken.
    pub async fn used(&self, asks: &[AskQuota]) -> Result<Vec<u64>, Unanswered> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let look = |ask: &AskQuota| Command::Spend(AskQuota { units: 0, owed: 0, ..*ask });
        let used = |answer: Answer| match answer {
            Answer::Spent(Ok(used) | Err(used)) => Ok(used),
            Answer::Verdict(_) | Answer::Leased { .. } | Answer::Done => Err(Unanswered),
        };
        self.fleet.ask(asks.iter().map(look)).await?.into_iter().map(used).collect()
    }

    async fn take_now(&self, asks: &[Ask]) -> Result<Vec<Verdict>, Unanswered> {
        let answers = self.fleet.ask(asks.iter().map(|ask| Command::Take(*ask))).await?;
        let verdict = |answer: Answer| match answer {
            Answer::Verdict(verdict) => Ok(verdict),
            Answer::Leased { .. } | Answer::Spent(_) | Answer::Done => Err(Unanswered),
        };
        answers.into_iter().map(verdict).collect()
    }

    async fn take_ahead(&self, slices: &Rc<RefCell<Slices>>, asks: &[Ask]) -> Result<Vec<Verdict>, Unanswered> {
        let mut ahead = Ahead { counters: self, taken: Vec::new() };
        let (mut verdicts, mut elsewhere) = (Vec::with_capacity(asks.len()), Vec::new());
        for ask in asks.iter().map(owing_ahead) {
            let now = self.worker.now();
            let is_up = self.fleet.can_ask(&Command::Take(ask));
            let judged = slices.borrow_mut().take(&ask, now, is_up);
            if is_up {
                self.refill(slices, &ask);
            }
            match judged {
                Judged::Verdict(verdict) => {
                    if verdict.allowed {
                        ahead.taken.push(ask);
                    }
                    verdicts.push(Some(verdict));
                }
                Judged::Elsewhere => {
                    elsewhere.push(ask);
                    verdicts.push(None);
                }
            }
        }
        // All at once: nobody waits for one after the other.
        let answers = if elsewhere.is_empty() { Vec::new() } else { self.take_now(&elsewhere).await? };
        ahead.taken.clear();
        let mut answers = answers.into_iter();
        verdicts.into_iter().map(|verdict| verdict.or_else(|| answers.next()).ok_or(Unanswered)).collect()
    }

    /// Asks for more in the background, before the rest is used.
    fn refill(&self, slices: &Rc<RefCell<Slices>>, ask: &Ask) {
        let Some(command) = slices.borrow_mut().wanted(ask, self.worker.now()) else { return };
        let Command::Lease { ask: _, debt } = command else { return };
        let (slices, fleet, worker, ask) = (slices.clone(), self.fleet.clone(), self.worker.clone(), *ask);
        spawn_local(async move {
            let answers = fleet.ask(std::iter::once(command)).await;
            let mut slices = slices.borrow_mut();
            match answers.as_deref() {
                Ok([Answer::Leased { granted, retry_after, full_in }]) => {
                    slices.leased(&ask, debt, *granted, (*retry_after, *full_in), worker.now());
                }
                Ok(_) | Err(Unanswered) => slices.unanswered(&ask),
            }
        });
    }
}

async fn sweep(slices: Rc<RefCell<Slices>>, fleet: Rc<Fleet>, worker: Rc<Worker>) {
    loop {
        sleep(SWEEP_EVERY).await;
        let tell = |command| fleet.can_ask(&command) && fleet.tell(command);
        while slices.borrow_mut().sweep(worker.now(), tell) >= SWEPT_MAX {
            yield_now().await;
        }
    }
}

/// A server that forgets what is owed beyond the burst would give it out again, whatever it is asked or told.
fn owing_ahead(ask: &Ask) -> Ask {
    Ask { pace: ask.pace.owing(BURSTS_AHEAD), ..*ask }
}

/// What was taken from slices for a request that asks elsewhere still. If it goes, or is not answered, that is given back.
struct Ahead<'a> {
    counters: &'a Counters,
    taken: Vec<Ask>,
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.counters.give_back(&self.taken);
    }
}

impl SharedCounts for Counters {
    fn take<'a>(&'a self, asks: &'a [Ask]) -> Counting<'a, Vec<Verdict>> {
        match &self.slices {
            None => Box::pin(self.take_now(asks)),
            Some(slices) => Box::pin(self.take_ahead(slices, asks)),
        }
    }

    fn give_back(&self, asks: &[Ask]) {
        for ask in asks {
            let Some(slices) = &self.slices else {
                self.fleet.tell(Command::GiveBack(*ask));
                continue;
            };
            let is_here = slices.borrow_mut().give_back(ask);
            if !is_here {
                self.fleet.tell(Command::GiveBack(owing_ahead(ask)));
            }
        }
    }

    fn owe(&self, ask: Ask) {
        let Some(slices) = &self.slices else {
            self.fleet.tell(Command::Owe(ask));
            return;
        };
        let units = ask.units.min(ask.pace.burst().saturating_mul(BURSTS_AT_ONCE));
        let ask = Ask { units, ..owing_ahead(&ask) };
        let is_here = slices.borrow_mut().owe(&ask);
        if is_here {
            self.refill(slices, &Ask { units: 1, ..ask });
        } else {
            self.fleet.tell(Command::Owe(ask));
        }
    }

    fn spend(&self, ask: AskQuota) -> Counting<'_, Result<u64, u64>> {
        Box::pin(async move {
            match self.fleet.ask(std::iter::once(Command::Spend(ask))).await?.as_slice() {
                [Answer::Spent(spent)] => Ok(*spent),
                _ => Err(Unanswered),
            }
        })
    }
}
