//! What policies may reach of a worker.

use crate::Reach;
use maitred_core::identity::{Flights, Verdicts};
use maitred_core::{Call, Calling, Ports, Room, Waiting};
use maitred_transport::Timer;
use std::cell::RefCell;
use std::future::poll_fn;
use std::time::{Duration, Instant};

impl Ports for Reach {
    fn now(&self) -> Instant {
        self.worker.now()
    }

    fn worker(&self) -> usize {
        self.worker.index
    }

    fn unix_time(&self, now: Instant) -> Duration {
        self.worker.unix_time(now)
    }

    fn verdicts(&self) -> &RefCell<Verdicts> {
        &self.worker.verdicts
    }

    fn flights(&self) -> &Flights {
        &self.worker.flights
    }

    fn turn(&self) -> Waiting<'_> {
        Box::pin(self.worker.turn())
    }

    fn until(&self, moment: Instant) -> Waiting<'_> {
        let timer = Timer::new(&self.worker.timers);
        timer.arm(moment);
        Box::pin(poll_fn(move |cx| timer.poll(cx)))
    }

    fn room(&self) -> &Room {
        &self.room
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Calling<'a> {
        Box::pin(crate::call::call(self, call))
    }
}
