//! What policies may reach of a worker.

use crate::Reach;
use maitred_core::function::Invocation;
use maitred_core::identity::{Flights, Verdicts};
use maitred_core::limits::SharedCounts;
use maitred_core::{Call, Calling, Fault, Invoking, Kind, Ports, Room, Waiting};
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

    fn shared_counts(&self) -> Option<&dyn SharedCounts> {
        self.counters.as_deref().map(|counters| counters as &dyn SharedCounts)
    }

    fn invoke(&self, function: u32, event: Vec<u8>, deadline: Instant) -> Invoking<'_> {
        Box::pin(async move {
            let runner = self.functions.get(function as usize);
            let runner = runner.ok_or_else(|| Fault::new(Kind::Internal, "a call of a function that there is not"))?;
            let id = self.worker.new_id(self.worker.now()).to_string().into();
            let invocation =
                Invocation { id, event, arn: None, trace: "".into(), client_context: None, streamed: false, log_tail: false };
            runner.ask(invocation, deadline, self).await
        })
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Calling<'a> {
        Box::pin(crate::call::call(self, call))
    }
}
