//! What one core keeps for itself: buffers, timers, chance, its counters. One core, one world: nothing here is shared.

use crate::input::{BUFFER_BYTES, RELAY_BYTES};
use crate::timers::Timers;
use maitred_core::identity::{Flights, Verdicts};
use maitred_core::metrics::{Metrics, WorkerShard};
use maitred_core::{Chance, Clock, Exchange};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::task::yield_now;

/// Free buffers kept for the next request; more are given back to the allocator. 256 × 16 KiB = 4 MiB.
const BUFFERS_KEPT: usize = 256;
/// 16 × 64 KiB = 1 MiB.
const RELAYS_KEPT: usize = 16;
const EXCHANGES_KEPT: usize = 256;

pub struct Worker {
    pub index: usize,
    pub clock: Clock,
    pub timers: Rc<Timers>,
    pub chance: Chance,
    pub metrics: Arc<Metrics>,
    pub verdicts: RefCell<Verdicts>,
    pub flights: Flights,
    /// Told when a drain begins: connections that wait for nothing else say goodbye then.
    pub draining: Notify,
    /// Told when a drain is over: tunnels say goodbye then.
    pub farewell: Notify,
    pub(crate) handshakes: Turnstile,
    efforts: Turnstile,
    buffers: RefCell<Vec<Vec<u8>>>,
    relays: RefCell<Vec<Vec<u8>>>,
    outputs: RefCell<Vec<Vec<u8>>>,
    #[allow(clippy::vec_box, reason = "an exchange is moved in and out of connections; boxed it is a pointer")]
    exchanges: RefCell<Vec<Box<Exchange>>>,
    /// A moment on both clocks, so that wall time costs no second reading.
    wall: Cell<(Instant, Duration)>,
}

/// Efforts that are made before everybody else who is ready has had a turn. A signature takes some 50 µs, three requests' worth: with more of them a
/// crowd of strangers would be felt by all others.
const EFFORTS_PER_TURN: u32 = 1;

/// How long the two clocks may drift before they are compared again.
const WALL_AGE_MAX: Duration = Duration::from_secs(1);

impl Worker {
    /// For last words to be read.
    pub const FAREWELL_TIME: Duration = Duration::from_secs(1);

    pub fn new(index: usize, clock: Clock, metrics: Arc<Metrics>) -> Rc<Worker> {
        let wall = Cell::new((clock.now(), unix(clock.wall())));
        Rc::new(Worker {
            index,
            timers: Timers::new(clock.clone()),
            clock,
            chance: Chance::default(),
            metrics,
            verdicts: RefCell::default(),
            flights: Flights::default(),
            draining: Notify::new(),
            farewell: Notify::new(),
            handshakes: Turnstile::default(),
            efforts: Turnstile::default(),
            buffers: RefCell::default(),
            relays: RefCell::default(),
            outputs: RefCell::default(),
            exchanges: RefCell::default(),
            wall,
        })
    }

    pub fn shard(&self) -> &WorkerShard {
        &self.metrics.workers[self.index]
    }

    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Time since 1970 at `now`.
    pub fn unix_time(&self, now: Instant) -> Duration {
        let (then, wall) = self.wall.get();
        let age = now.saturating_duration_since(then);
        if age < WALL_AGE_MAX {
            return wall + age;
        }
        let wall = unix(self.clock.wall());
        self.wall.set((self.clock.now(), wall));
        wall
    }

    /// Until it is one's turn to make an effort.
    pub async fn turn(&self) {
        let _place = self.efforts.enter(EFFORTS_PER_TURN).await;
        // Sockets are looked at meanwhile, and whoever is ready goes first.
        yield_now().await;
    }

    /// `BUFFER_BYTES` of zeroed or used memory.
    pub fn take_buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES])
    }

    /// `RELAY_BYTES`, for bodies that fill ordinary buffers.
    pub fn take_relay(&self) -> Vec<u8> {
        self.relays.borrow_mut().pop().unwrap_or_else(|| vec![0; RELAY_BYTES])
    }

    pub fn give_buffer(&self, buffer: Vec<u8>) {
        let (kept, most) = match buffer.len() {
            BUFFER_BYTES => (&self.buffers, BUFFERS_KEPT),
            RELAY_BYTES => (&self.relays, RELAYS_KEPT),
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < most {
            kept.push(buffer);
        }
    }

    /// An empty buffer to write a head into.
    pub fn take_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    pub fn give_output(&self, mut output: Vec<u8>) {
        let mut kept = self.outputs.borrow_mut();
        if (1..=2 * BUFFER_BYTES).contains(&output.capacity()) && kept.len() < BUFFERS_KEPT {
            output.clear();
            kept.push(output);
        }
    }

    pub fn take_exchange(&self, now: Instant) -> Box<Exchange> {
        let mut exchange = self.exchanges.borrow_mut().pop().unwrap_or_else(|| Box::new(Exchange::new(now)));
        exchange.record.started = now;
        exchange
    }

    pub fn give_exchange(&self, mut exchange: Box<Exchange>) {
        exchange.clear();
        let mut kept = self.exchanges.borrow_mut();
        if kept.len() < EXCHANGES_KEPT {
            kept.push(exchange);
        }
    }
}

/// Lets so many in at once; who waits is let in by turn.
#[derive(Default)]
pub(crate) struct Turnstile {
    inside: Cell<u32>,
    left: Notify,
}

/// Somebody inside.
pub(crate) struct Pass<'a>(&'a Turnstile);

impl Turnstile {
    pub async fn enter(&self, most: u32) -> Pass<'_> {
        while self.inside.get() >= most {
            self.left.notified().await;
        }
        self.inside.set(self.inside.get() + 1);
        Pass(self)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
        self.0.left.notify_one();
    }
}

fn unix(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::spawn_local;

    fn on_a_worker(work: impl Future<Output = ()>) {
        Builder::new_current_thread().build_local(LocalOptions::default()).expect("a runtime").block_on(work);
    }

    #[test]
    fn between_two_efforts_everybody_else_has_a_turn() {
        const EFFORTS: usize = 50;
        on_a_worker(async {
            let worker = Worker::new(0, Clock::default(), Arc::new(Metrics::new(1)));
            let story = Rc::new(RefCell::new(Vec::new()));
            for _ in 0..EFFORTS {
                let (worker, story) = (worker.clone(), story.clone());
                spawn_local(async move {
                    worker.turn().await;
                    story.borrow_mut().push("effort");
                });
            }
            while story.borrow().iter().filter(|what| **what == "effort").count() < EFFORTS {
                story.borrow_mut().push("other");
                yield_now().await;
            }
            let together = story.borrow().windows(2).filter(|two| two == &["effort", "effort"]).count();
            assert_eq!(together, 0, "{:?}", story.borrow());
        });
    }

    #[test]
    fn who_goes_away_while_it_waits_holds_up_nobody() {
        on_a_worker(async {
            let worker = Worker::new(0, Clock::default(), Arc::new(Metrics::new(1)));
            let waiting: Vec<_> = (0..10).map(|_| Box::pin(worker.turn())).collect();
            let mut waiting = waiting.into_iter();
            let mut first = waiting.next().expect("ten");
            let mut second = waiting.next().expect("ten");
            std::future::poll_fn(|cx| {
                assert!(first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            drop(first);
            second.await;
            waiting.next().expect("ten").await;
        });
    }
}
