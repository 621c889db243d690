//! A worker for tests, here and in the packages above (feature `testing`): its clock stands still until it is turned, and nobody behind it can
//! be asked.

use crate::buffered::Room;
use crate::fault::{Fault, Kind};
use crate::identity::{Flights, Verdicts};
use crate::ports::{Call, Calling, Ports, Waiting};
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

pub struct Fixed {
    pub now: Cell<Instant>,
    /// Seconds since 1970.
    pub unix: Cell<u64>,
    pub verdicts: RefCell<Verdicts>,
    pub flights: Flights,
    pub room: Room,
}

impl Fixed {
    pub fn at(unix: u64) -> Fixed {
        Fixed {
            now: Cell::new(Instant::now()),
            unix: Cell::new(unix),
            verdicts: RefCell::default(),
            flights: Flights::default(),
            room: Room::default(),
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

    fn call<'a>(&'a self, _: Call<'a>) -> Calling<'a> {
        Box::pin(async { Err(Fault::new(Kind::NotImplemented, "nobody can be asked")) })
    }
}
