//! A request from its first byte to its last line in the log, whichever protocol brought it.

use super::Service;
use crate::worker::Worker;
use maitred_core::{Exchange, Kind};
use std::time::Instant;

/// A request under way. However its task ends, it is counted and logged, once.
pub(super) struct UnderWay<'a, S: Service> {
    worker: &'a Worker,
    service: &'a S,
    /// Given back when this is dropped.
    pub exchange: Option<Box<Exchange>>,
    /// A head was read, or refused: there is something to tell of it.
    pub named: bool,
}

impl<'a, S: Service> UnderWay<'a, S> {
    pub fn begin(worker: &'a Worker, service: &'a S, now: Instant) -> UnderWay<'a, S> {
        UnderWay::resume(worker, service, worker.take_exchange(now))
    }

    /// With an exchange whose request was read already.
    pub fn resume(worker: &'a Worker, service: &'a S, exchange: Box<Exchange>) -> UnderWay<'a, S> {
        // Counted from its first byte: a drain waits for it.
        worker.shard().requests_open.add(1);
        UnderWay { worker, service, exchange: Some(exchange), named: false }
    }

    /// `read`: bytes of the request's body that were taken.
    pub fn end(mut self, now: Instant, read: u64) {
        self.named = false;
        if let Some(exchange) = &mut self.exchange {
            exchange.record.bytes_in = read;
            self.service.finish(exchange, now);
        }
    }
}

impl<S: Service> Drop for UnderWay<'_, S> {
    fn drop(&mut self) {
        let worker = self.worker;
        worker.shard().requests_open.sub(1);
        let Some(mut exchange) = self.exchange.take() else { return };
        // Dropped in the middle: the gateway stops. After a panic nothing is known to be whole, and the panic is in the log.
        if self.named && !std::thread::panicking() {
            let record = &mut exchange.record;
            if record.status == 0 {
                record.status = Kind::CutOff.status();
            }
            record.fault = Some((Kind::CutOff, "the gateway stopped".into()));
            self.service.finish(&mut exchange, worker.now());
        }
        worker.give_exchange(exchange);
    }
}
