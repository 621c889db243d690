//! One coarse timer per worker. Arming is a store: no queue is kept, the sweeper looks at all slots when the earliest may be
//! due. That suits a proxy, where nearly every deadline is moved long before it comes.

use maitred_core::Clock;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::task::yield_now;

/// Sweeps are never closer than this, plus a share for each slot: with 50,000 connections, two slots each, a deadline may be 100 ms late.
const SWEEP_EVERY_MIN: Duration = Duration::from_millis(5);
const SWEEP_PER_SLOT: Duration = Duration::from_micros(1);
/// Tasks woken before others have their turn: a thousand deadlines at one moment hold up nobody for all of them.
const WAKES_PER_TURN: usize = 32;
/// Nothing armed: look again after so long.
const SWEEP_EVERY_MAX: Duration = Duration::from_secs(3600);

#[derive(Default)]
struct Slot {
    due: Option<Instant>,
    fired: bool,
    waker: Option<Waker>,
}

pub struct Timers {
    clock: Clock,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    /// When the sweeper will look next.
    next: Cell<Instant>,
    sweeper: RefCell<Option<Waker>>,
}

impl Timers {
    pub fn new(clock: Clock) -> Rc<Timers> {
        let next = Cell::new(clock.now() + SWEEP_EVERY_MAX);
        Rc::new(Timers { clock, slots: RefCell::default(), free: RefCell::default(), next, sweeper: RefCell::default() })
    }

    /// Runs for the life of the worker.
    pub async fn sweep(self: Rc<Timers>) {
        let mut sleep = pin!(tokio::time::sleep(SWEEP_EVERY_MAX));
        poll_fn(|cx| {
            *self.sweeper.borrow_mut() = Some(cx.waker().clone());
            loop {
                let now = self.clock.now();
                if self.next.get() <= now && !self.fire(now) {
                    put_off(cx);
                    return Poll::Pending;
                }
                sleep.as_mut().reset(tokio::time::Instant::now() + self.next.get().saturating_duration_since(now));
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::<()>::Pending;
                }
            }
        })
        .await
    }

    /// The clock was turned by hand.
    pub fn look_again(&self) {
        if let Some(sweeper) = &*self.sweeper.borrow() {
            sweeper.wake_by_ref();
        }
    }

    /// False: more are due.
    fn fire(&self, now: Instant) -> bool {
        let mut slots = self.slots.borrow_mut();
        let mut earliest = now + SWEEP_EVERY_MAX;
        let mut woken = 0;
        for slot in slots.iter_mut() {
            match slot.due {
                Some(due) if due <= now => {
                    if woken == WAKES_PER_TURN {
                        self.next.set(now);
                        return false;
                    }
                    woken += 1;
                    slot.due = None;
                    slot.fired = true;
                    if let Some(waker) = &slot.waker {
                        waker.wake_by_ref();
                    }
                }
                Some(due) => earliest = earliest.min(due),
                None => {}
            }
        }
        let pause = SWEEP_EVERY_MIN + SWEEP_PER_SLOT * slots.len() as u32;
        self.next.set(earliest.max(now + pause));
        true
    }

    fn arm(&self, key: u32, due: Instant) {
        let slot = &mut self.slots.borrow_mut()[key as usize];
        slot.due = Some(due);
        slot.fired = false;
        if due < self.next.get() {
            self.next.set(due);
            self.look_again();
        }
    }
}

/// Has the task woken when everything that is ready by now has had its turn, sockets too.
pub(crate) fn put_off(cx: &mut Context<'_>) {
    let _ = pin!(yield_now()).poll(cx);
}

/// One deadline of one task.
pub struct Timer {
    timers: Rc<Timers>,
    key: u32,
}

impl Timer {
    pub fn new(timers: &Rc<Timers>) -> Timer {
        let mut slots = timers.slots.borrow_mut();
        let key = timers.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() as u32 - 1
        });
        drop(slots);
        Timer { timers: timers.clone(), key }
    }

    pub fn arm(&self, due: Instant) {
        self.timers.arm(self.key, due);
    }

    pub fn disarm(&self) {
        let slot = &mut self.timers.slots.borrow_mut()[self.key as usize];
        slot.due = None;
        slot.fired = false;
    }

    /// It runs, or has run out and not been armed again.
    pub fn is_armed(&self) -> bool {
        let slot = &self.timers.slots.borrow()[self.key as usize];
        slot.due.is_some() || slot.fired
    }

    /// Ready once the deadline has passed; wakes the task then.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let slot = &mut self.timers.slots.borrow_mut()[self.key as usize];
        if slot.fired {
            return Poll::Ready(());
        }
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.timers.slots.borrow_mut()[self.key as usize] = Slot::default();
        self.timers.free.borrow_mut().push(self.key);
    }
}
