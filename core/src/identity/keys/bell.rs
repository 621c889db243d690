//! A bell that tasks of any thread wait for. A lock is taken by those who ring and those who wait, and by nobody else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Tasks that wait at once. Whoever comes to more of them is not waited for: a flood of tokens with invented keys.
const WAITING_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl Bell {
    /// How often it was rung. Read before whatever makes one wait, so that no ring is missed.
    pub fn count(&self) -> u64 {
        self.rung.load(Ordering::Acquire)
    }

    pub fn ring(&self) {
        self.rung.fetch_add(1, Ordering::AcqRel);
        let woken = std::mem::take(&mut *self.waiting());
        woken.into_iter().for_each(Waker::wake);
    }

    /// Ready once it was rung after `count`, or where too many wait already.
    pub fn poll(&self, count: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.waiting();
        // Looked at under the lock: whoever rings after this finds the waker.
        if self.count() != count {
            return Poll::Ready(());
        }
        // Whoever waits alone, and looks again and again, stands here once.
        if waiting.last().is_some_and(|last| last.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        if waiting.len() >= WAITING_MAX {
            return Poll::Ready(());
        }
        waiting.push(cx.waker().clone());
        Poll::Pending
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    #[test]
    fn a_ring_is_heard_by_those_who_came_before_it() {
        let bell = Bell::default();
        let mut cx = Context::from_waker(Waker::noop());
        let before = bell.count();
        assert!(bell.poll(before, &mut cx).is_pending() && bell.waiting().len() == 1);
        bell.ring();
        assert!(bell.poll(before, &mut cx).is_ready() && bell.waiting().is_empty());
        assert!(bell.poll(bell.count(), &mut cx).is_pending());
    }

    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn more_than_so_many_do_not_wait_and_who_looks_again_waits_once() {
        let bell = Bell::default();
        let wakers: Vec<Waker> = (0..WAITING_MAX + 5).map(|_| Arc::new(Nobody).into()).collect();
        let refused = wakers.iter().filter(|waker| bell.poll(0, &mut Context::from_waker(waker)).is_ready());
        assert_eq!(refused.count(), 5);
        bell.ring();
        for _ in 0..5 {
            assert!(bell.poll(1, &mut Context::from_waker(&wakers[0])).is_pending());
        }
        assert_eq!(bell.waiting().len(), 1);
    }
}
