//! How many wrong credentials an address may show. Counts what was looked at and found wrong; who is behind an address, and what a right
//! credential is, others know.

use maitred_core::limit_table::{Key, Pace, Table, Verdict};
use maitred_core::{Exchange, Fault, Kind, Ports};
use maitred_model::FailedCredentials;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Addresses that are remembered at once, in 2 MiB. With the defaults each for 20 s at most.
pub const ADDRESSES_MAX: usize = 64 * 1024;

/// What was looked at at once and proved wrong is owed, beyond the burst too: so many bursts at most, after which an address is let off.
const BURSTS_OWED_MAX: u64 = 16;

/// The limit of a configuration, on the counts of the process.
#[derive(Clone)]
pub struct Failures {
    table: Arc<Table>,
    pace: Pace,
    /// Of all addresses, for `/metrics`.
    count: Arc<AtomicU64>,
}

impl Failures {
    pub fn new(table: Arc<Table>, count: Arc<AtomicU64>, configured: &FailedCredentials) -> Failures {
        let FailedCredentials { rate, burst } = configured;
        let pace = Pace::new(rate.count.get(), rate.per.duration(), burst.get()).owing(BURSTS_OWED_MAX);
        Failures { table, pace, count }
    }

    /// Whether it is worth the wait for a turn: who would not be looked at is told at once. Takes nothing.
    pub fn check(&self, exchange: &Exchange, ports: &dyn Ports) -> Result<(), Fault> {
        let from = self.table.address_key(exchange.client_ip());
        let verdict = self.table.peek(from, &self.pace, ports.now());
        if verdict.allowed { Ok(()) } else { Err(over(&verdict)) }
    }

    /// Whether a credential from there is looked at. From an address that has been wrong of late each look takes one of what is left, until it
    /// is over: else all that are sent at once would be looked at. Whoever was never wrong may come with as many as it likes. `is_costly`: who
    /// does not wait for the end of it was wrong, or nobody who tries passwords would wait.
    pub fn admit<'a>(&'a self, exchange: &Exchange, ports: &'a dyn Ports, is_costly: bool) -> Result<Look<'a>, Fault> {
        let from = self.table.address_key(exchange.client_ip());
        let now = ports.now();
        let mut verdict = self.table.peek(from, &self.pace, now);
        let is_paid = verdict.allowed && verdict.remaining < self.pace.burst();
        if is_paid {
            verdict = self.table.take(from, 1, &self.pace, now);
        }
        match verdict.allowed {
            true => Ok(Look { failures: self, ports, from, is_paid, is_costly, is_over: false }),
            false => Err(over(&verdict)),
        }
    }
}

fn over(verdict: &Verdict) -> Fault {
    let fault = Fault::new(Kind::TooManyFailures, "over limits.failed_credentials");
    Fault { retry_after: Some(verdict.retry_after()), ..fault }
}

/// A credential is being looked at.
pub struct Look<'a> {
    failures: &'a Failures,
    ports: &'a dyn Ports,
    from: Key,
    is_paid: bool,
    is_costly: bool,
    is_over: bool,
}

impl Look<'_> {
    pub fn end(mut self, is_wrong: bool) {
        self.settle(is_wrong);
    }

    fn settle(&mut self, is_wrong: bool) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let Failures { table, pace, count } = self.failures;
        match (is_wrong, self.is_paid) {
            (true, false) => table.owe(self.from, 1, pace, self.ports.now()),
            (false, true) => table.give_back(self.from, 1, pace, self.ports.now()),
            (true, true) | (false, false) => {}
        }
        if is_wrong {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.settle(self.is_costly);
    }
}
