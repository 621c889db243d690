//! What one core keeps for itself: buffers, timers, chance, its counters. One core, one world: nothing here is shared.

use crate::input::{BUFFER_BYTES, RELAY_BYTES};
use crate::timers::Timers;
use maitred_core::identity::{Flights, Verdicts};
use maitred_core::metrics::{Metrics, WorkerShard};
use maitred_core::{Chance, Clock, Exchange};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
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
    /// How often the worker had rested when the last effort was made.
    rests: Cell<u64>,
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
            rests: Cell::default(),
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

    /// UUID version 7 (RFC 9562 §5.7): sorts by time.
    pub fn new_id(&self, now: Instant) -> uuid::Uuid {
        let (a, b) = (self.chance.next().to_le_bytes(), self.chance.next().to_le_bytes());
        let mut random = [0u8; 10];
        random[..8].copy_from_slice(&a);
        random[8..].copy_from_slice(&b[..2]);
        uuid::Builder::from_unix_timestamp_millis(self.unix_time(now).as_millis() as u64, &random).into_uuid()
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
        // A worker that had nothing left to do since has served everybody. Else sockets are looked at first, and whoever is ready is served.
        if self.rests.get() == rests() {
            yield_now().await;
        }
        self.rests.set(rests());
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

/// How often this thread ran out of work: a worker's runtime has no other.
fn rests() -> u64 {
    Handle::current().metrics().worker_park_count(0)
}

/// Lets so many in at once, in the order in which they came: who leaves hands the place to the first in line, so that nobody who comes at that
/// moment gets ahead of it.
#[derive(Default)]
pub(crate) struct Turnstile {
    most: Cell<u32>,
    inside: Cell<u32>,
    tickets: Cell<u64>,
    /// By ticket.
    line: RefCell<VecDeque<(u64, Waker)>>,
}

/// Somebody in line or, with a ticket that is not there any more, inside.
pub(crate) struct Pass<'a> {
    turnstile: &'a Turnstile,
    ticket: u64,
}

impl Turnstile {
    /// `most`: holds for those in line too, as a reload may change it.
    pub async fn enter(&self, most: u32) -> Pass<'_> {
        self.most.set(most);
        let pass = Pass { turnstile: self, ticket: self.tickets.get() };
        self.tickets.set(pass.ticket + 1);
        self.line.borrow_mut().push_back((pass.ticket, Waker::noop().clone()));
        self.let_in();
        poll_fn(|cx| pass.poll(cx)).await;
        pass
    }

    fn let_in(&self) {
        while self.inside.get() < self.most.get() {
            let Some((_, first)) = self.line.borrow_mut().pop_front() else { return };
            self.inside.set(self.inside.get() + 1);
            first.wake();
        }
    }
}

impl Pass<'_> {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut line = self.turnstile.line.borrow_mut();
        match line.binary_search_by_key(&self.ticket, |(ticket, _)| *ticket) {
            Ok(at) => {
                line[at].1.clone_from(cx.waker());
                Poll::Pending
            }
            Err(_) => Poll::Ready(()),
        }
    }
}

impl Drop for Pass<'_> {
    /// Also of whoever went away while it waited, or when it had just been let in.
    fn drop(&mut self) {
        let mut line = self.turnstile.line.borrow_mut();
        if let Ok(at) = line.binary_search_by_key(&self.ticket, |(ticket, _)| *ticket) {
            let gone = line.remove(at);
            // With it may go whatever it would have woken.
            drop(line);
            return drop(gone);
        }
        drop(line);
        self.turnstile.inside.set(self.turnstile.inside.get() - 1);
        self.turnstile.let_in();
    }
}

fn unix(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::{spawn_blocking, spawn_local};

    /// Turns after which somebody who still waits would wait for ever.
    const LONG: u32 = 1000;

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

    fn is_ready<T>(work: impl Future<Output = T>) -> bool {
        pin!(work).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Until the worker has had nothing left to do.
    async fn rest() {
        let before = rests();
        while rests() == before {
            spawn_blocking(|| ()).await.expect("it ends");
        }
    }

    #[test]
    fn who_asks_for_turn_after_turn_does_not_get_ahead_of_who_waits() {
        on_a_worker(async {
            let worker = Worker::new(0, Clock::default(), Arc::new(Metrics::new(1)));
            let efforts = Rc::new(Cell::new(0));
            let greedy = spawn_local({
                let (worker, efforts) = (worker.clone(), efforts.clone());
                async move {
                    while efforts.get() < LONG {
                        worker.turn().await;
                        efforts.set(efforts.get() + 1);
                    }
                }
            });
            while efforts.get() < 3 {
                yield_now().await;
            }
            for _ in 0..3 {
                let before = efforts.get();
                worker.turn().await;
                assert!(efforts.get() <= before + 2, "{} efforts went before", efforts.get() - before);
            }
            greedy.abort();
        });
    }

    #[test]
    fn newcomers_do_not_get_ahead_of_who_waits() {
        /// Each sends for the next before it makes its own effort.
        fn newcomer(worker: Rc<Worker>, efforts: Rc<Cell<u32>>) {
            spawn_local(async move {
                if efforts.get() < LONG {
                    worker.turn().await;
                    efforts.set(efforts.get() + 1);
                    newcomer(worker.clone(), efforts.clone());
                    newcomer(worker, efforts);
                }
            });
        }
        on_a_worker(async {
            let worker = Worker::new(0, Clock::default(), Arc::new(Metrics::new(1)));
            let efforts = Rc::new(Cell::new(0));
            newcomer(worker.clone(), efforts.clone());
            while efforts.get() < 3 {
                yield_now().await;
            }
            let (before, line) = (efforts.get(), worker.efforts.line.borrow().len() as u32);
            worker.turn().await;
            // Those in line, who is inside, and whom the run queue had before this task.
            assert!(efforts.get() <= before + line + 3, "{} efforts went before, {line} were in line", efforts.get() - before);
        });
    }

    #[test]
    fn a_place_goes_to_the_first_in_line_and_not_to_who_comes_when_it_is_left() {
        on_a_worker(async {
            let turnstile = Turnstile::default();
            let inside = turnstile.enter(1).await;
            let (mut first, mut second) = (Box::pin(turnstile.enter(1)), Box::pin(turnstile.enter(1)));
            assert!(!is_ready(first.as_mut()) && !is_ready(second.as_mut()));
            drop(inside);
            assert!(!is_ready(turnstile.enter(1)), "a place is kept for the first in line");
            assert!(!is_ready(second.as_mut()), "and for no other");
            // It goes away when the place was already its own.
            drop(first);
            assert!(!is_ready(turnstile.enter(1)), "a place is kept for the next in line");
            let passed_on = second.await;
            assert_eq!((turnstile.inside.get(), turnstile.line.borrow().len()), (1, 0));
            drop(passed_on);
            assert!(is_ready(turnstile.enter(1)));
            assert_eq!(turnstile.inside.get(), 0);
        });
    }

    #[test]
    fn a_limit_that_a_reload_changes_holds_for_those_in_line_too() {
        on_a_worker(async {
            let turnstile = Turnstile::default();
            let inside = turnstile.enter(1).await;
            let mut waits = Box::pin(turnstile.enter(1));
            assert!(!is_ready(waits.as_mut()));
            let more = turnstile.enter(3).await;
            let waited = waits.await;
            assert_eq!(turnstile.inside.get(), 3);
            assert!(!is_ready(turnstile.enter(1)));
            drop((inside, more));
            assert!(!is_ready(turnstile.enter(1)), "one is inside still");
            drop(waited);
            assert!(is_ready(turnstile.enter(1)));
        });
    }

    #[test]
    fn where_nobody_else_had_anything_to_do_a_turn_comes_at_once() {
        on_a_worker(async {
            let worker = Worker::new(0, Clock::default(), Arc::new(Metrics::new(1)));
            for _ in 0..3 {
                rest().await;
                assert!(is_ready(worker.turn()), "the worker has rested since the last effort");
                assert!(!is_ready(worker.turn()), "an effort was made, and nobody has been looked at since");
            }
        });
    }
}
