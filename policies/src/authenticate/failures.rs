//! How many wrong credentials an address may show. Counts what was looked at and found wrong; who is behind an address, and what a right
//! credential is, others know.

use maitred_core::limit_table::{Key, Quota, Table};
use maitred_core::{Exchange, Fault, Kind};
use maitred_model::FailedCredentials;
use std::sync::Arc;
use std::time::Instant;

/// Addresses that are remembered at once, in 2 MiB. With the defaults each for 20 s at most.
pub const ADDRESSES_MAX: usize = 64 * 1024;

/// The limit of a configuration, on the counts of the process.
#[derive(Clone)]
pub struct Failures {
    table: Arc<Table>,
    quota: Quota,
}

impl Failures {
    pub fn new(table: Arc<Table>, configured: &FailedCredentials) -> Failures {
        let FailedCredentials { rate, burst } = configured;
        Failures { table, quota: Quota::new(rate.count.get(), rate.per.duration(), burst.get()) }
    }

    /// Whoever a request comes from.
    pub fn key(&self, exchange: &Exchange) -> Key {
        self.table.address_key(exchange.client_ip())
    }

    /// Whether a credential from there is looked at.
    pub fn admit(&self, from: Key, now: Instant) -> Result<(), Fault> {
        let verdict = self.table.peek(from, &self.quota, now);
        if verdict.allowed {
            return Ok(());
        }
        let fault = Fault::new(Kind::TooManyFailures, "over limits.failed_credentials");
        Err(Fault { retry_after: Some(verdict.retry_after), ..fault })
    }

    /// One was wrong.
    pub fn count(&self, from: Key, now: Instant) {
        // Of those that were looked at at once the last may be over the limit: it is as full as it gets then.
        self.table.take(from, 1, &self.quota, now);
    }
}
