//! A worker for tests, here and in the packages above (feature `testing`): its clock stands still until it is turned, and nobody behind it can
//! be asked, but functions that say what the test told them to.

use crate::buffered::Room;
use crate::fault::{Fault, Kind};
use crate::identity::{Flights, Verdicts};
use crate::ports::{Call, Calling, Invoked, Invoking, Ports, Waiting};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

pub struct Fixed {
    pub now: Cell<Instant>,
    /// Seconds since 1970.
    pub unix: Cell<u64>,
    pub verdicts: RefCell<Verdicts>,
    pub flights: Flights,
    pub room: Room,
    /// What functions say from here on.
    pub says: RefCell<Result<Invoked, Fault>>,
    /// What they were asked: their numbers and events.
    pub asked: RefCell<Vec<(u32, Vec<u8>)>>,
    /// Whether they answer at once, or nobody ever hears of them.
    pub are_silent: Cell<bool>,
}

impl Fixed {
    pub fn at(unix: u64) -> Fixed {
        Fixed {
            now: Cell::new(Instant::now()),
            unix: Cell::new(unix),
            verdicts: RefCell::default(),
            flights: Flights::default(),
            room: Room::default(),
            says: RefCell::new(Err(Fault::new(Kind::NotImplemented, "the test has no function"))),
            asked: RefCell::default(),
            are_silent: Cell::new(false),
        }
    }
}

impl Ports for Fixed {
    fn now(&self) -> Instant {
        self.now.get()
    }

    fn unix_time(&self, _: Instant) -> Duration {
        Duration::from_secs(self.unix.get())
    }

    fn verdicts(&self) -> &RefCell<Verdicts> {
        &self.verdicts
    }

    fn flights(&self) -> &Flights {
        &self.flights
    }

    fn until(&self, _: Instant) -> Waiting<'_> {
        unreachable!("nothing is waited for")
    }

    fn room(&self) -> &Room {
        &self.room
    }

    fn invoke(&self, function: u32, event: Vec<u8>, _: Instant) -> Invoking<'_> {
        self.asked.borrow_mut().push((function, event));
        Box::pin(async move {
            poll_fn(|_| if self.are_silent.get() { Poll::Pending } else { Poll::Ready(()) }).await;
            self.says.borrow().clone()
        })
    }

    fn call<'a>(&'a self, _: Call<'a>) -> Calling<'a> {
        Box::pin(async { Err(Fault::new(Kind::NotImplemented, "nobody can be asked")) })
    }
}
