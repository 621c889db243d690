//! Waiting without sleeping: latches, and conditions with a deadline. Whoever waits too long fails with words, never hangs.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Longer than this and it hangs: a failure.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How often a condition is looked at. A condition that is true already costs no wait at all.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Waits until the condition holds; fails with `what` when it does not in time.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until a number has not changed for a while: what moved it is blocked. Gives the number.
#[track_caller]
pub fn stays(what: &str, mut number: impl FnMut() -> u64) -> u64 {
    const WHILE: Duration = Duration::from_millis(400);
    let deadline = Instant::now() + PATIENCE;
    let mut last = number();
    let mut since = Instant::now();
    while since.elapsed() < WHILE {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}: it still moves, now {last}");
        std::thread::sleep(LOOK_EVERY);
        let now = number();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// A door that is closed until somebody opens it, once and for all.
#[derive(Debug, Clone, Default)]
pub struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub fn new() -> Latch {
        Latch::default()
    }

    pub fn open(&self) {
        let (open, changed) = &*self.0;
        *open.lock().expect("no one panics while holding a latch") = true;
        changed.notify_all();
    }

    pub fn is_open(&self) -> bool {
        *self.0.0.lock().expect("no one panics while holding a latch")
    }

    /// Waits until it is open.
    #[track_caller]
    pub fn wait(&self) {
        assert!(self.opens(), "waited {PATIENCE:?} in vain for a latch");
    }

    /// Waits until it is open, or patience ends; for threads whose panic nobody would see.
    pub fn opens(&self) -> bool {
        let (open, changed) = &*self.0;
        let open = open.lock().expect("no one panics while holding a latch");
        let (open, _) = changed.wait_timeout_while(open, PATIENCE, |open| !*open).expect("no one panics while holding a latch");
        *open
    }
}
