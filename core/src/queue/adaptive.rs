//! What all workers see of an upstream's latency, gathered into windows without a lock: each answer is four additions. Whoever ends a
//! window has the limit computed, by `Knee`.

use super::knee::{Knee, Window};
use maitred_model::ConcurrencyLimit;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Below it a mean says little: of 100 answers it is off by a tenth where answers vary as much as they last.
const SAMPLES_MIN: u64 = 100;
/// A probe halves the goodput while it lasts. Where answers hardly vary, a quarter of them tells more than a hundred do elsewhere.
const SAMPLES_STEADY: u64 = SAMPLES_MIN / 4;
/// Where so few come that a window lasts longer than this, these must do.
const WINDOW_MAX: Duration = Duration::from_secs(5);
const SAMPLES_FEW: u64 = 10;
/// A window is as long as several answers take, or those that take longest are not in it.
const WINDOW_MIN: Duration = Duration::from_millis(100);
const WINDOW_ANSWERS: u32 = 4;
/// A probe without answers is given up when its window could have ended so long ago.
const LAPSE: Duration = Duration::from_secs(1);
/// Longer ones count as this: a sum of squares must fit.
const SAMPLE_MICROS_MAX: u64 = 60_000_000;

pub(super) struct Adaptive {
    on: AtomicBool,
    epoch: Instant,
    count: AtomicU64,
    /// Microseconds.
    sum: AtomicU64,
    squares: AtomicU64,
    /// Most that were in flight.
    peak: AtomicU32,
    /// When the limit last changed: requests that began before tell of another one. Microseconds from `epoch`.
    changed: AtomicU64,
    /// The window ends no earlier.
    due: AtomicU64,
    /// The window is a probe of a back end whose answers hardly varied so far.
    is_brief: AtomicBool,
    /// Places whose answers have begun and not ended.
    held: AtomicU32,
    knee: Mutex<Knee>,
}

impl Adaptive {
    /// Switched off.
    pub fn new(now: Instant) -> Adaptive {
        Adaptive {
            on: AtomicBool::new(false),
            epoch: now,
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            squares: AtomicU64::new(0),
            peak: AtomicU32::new(0),
            changed: AtomicU64::new(0),
            due: AtomicU64::new(0),
            is_brief: AtomicBool::new(false),
            held: AtomicU32::new(0),
            knee: Mutex::new(Knee::new(1, 1, now)),
        }
    }

    /// Gives the limit to begin with. One that was found already stays, within its bounds.
    pub fn configure(&self, limit: ConcurrencyLimit, now_is: u32, now: Instant) -> u32 {
        match limit {
            ConcurrencyLimit::Fixed(limit) => {
                self.switch_off();
                limit.get()
            }
            ConcurrencyLimit::Adaptive { min, max } => {
                let mut knee = self.knee.lock().unwrap_or_else(PoisonError::into_inner);
                if self.on.swap(true, Relaxed) {
                    knee.bound(min.get(), max.get());
                    return now_is.clamp(min.get(), max.get());
                }
                *knee = Knee::new(min.get(), max.get(), now);
                self.begin_window(&knee, now, Duration::ZERO);
                knee.limit()
            }
        }
    }

    pub fn switch_off(&self) {
        self.on.store(false, Relaxed);
    }

    /// Takes in an answer. `Some`: the limit from now on.
    pub fn observe(&self, took: Duration, in_flight: u32, now: Instant) -> Option<u32> {
        if !self.is_on() {
            return None;
        }
        let took = (took.as_micros() as u64).min(SAMPLE_MICROS_MAX);
        let at = self.micros(now);
        if at.saturating_sub(took) < self.changed.load(Relaxed) {
            return None;
        }
        self.sum.fetch_add(took, Relaxed);
        self.squares.fetch_add(took * took, Relaxed);
        self.peak.fetch_max(in_flight, Relaxed);
        self.count.fetch_add(1, Relaxed);
        if !self.is_whole(at) {
            return None;
        }
        // Whoever finds it taken has nothing to do: the window is being ended.
        let mut knee = self.knee.try_lock().ok()?;
        if !self.is_whole(at) {
            return None;
        }
        let window = self.seen();
        knee.window(&window, now);
        self.begin_window(&knee, now, Duration::from_micros(window.mean as u64) * WINDOW_ANSWERS);
        Some(knee.limit())
    }

    fn seen(&self) -> Window {
        let count = self.count.load(Relaxed) as f64;
        let mean = self.sum.load(Relaxed) as f64 / count;
        let variance = (self.squares.load(Relaxed) as f64 / count - mean * mean).max(0.0);
        Window { count, mean, variance, peak: self.peak.load(Relaxed) }
    }

    /// Called where nobody gets in. `Some`: the limit from now on, since a probe brings no answers.
    pub fn lapse(&self, now: Instant) -> Option<u32> {
        let is_late = || self.micros(now) >= self.due.load(Relaxed) + LAPSE.as_micros() as u64;
        if !self.is_on() || !is_late() {
            return None;
        }
        let mut knee = self.knee.try_lock().ok()?;
        if !is_late() || self.count.load(Relaxed) >= SAMPLES_FEW || !knee.give_up(now) {
            return None;
        }
        self.begin_window(&knee, now, Duration::ZERO);
        Some(knee.limit())
    }

    /// An answer has begun, and keeps its place until it ends. False: it is not counted.
    pub fn hold(&self) -> bool {
        let is_on = self.is_on();
        self.held.fetch_add(u32::from(is_on), Relaxed);
        is_on
    }

    pub fn let_go(&self) {
        self.held.fetch_sub(1, Relaxed);
    }

    /// Somebody finds all places taken. WebSockets and streams that last may have them all, and no answer will ever end the window: then `Some`,
    /// the limit from now on.
    pub fn held_up(&self, limit: u32, now: Instant) -> Option<u32> {
        if self.held.load(Relaxed) < limit || !self.is_on() || self.micros(now) < self.due.load(Relaxed) {
            return None;
        }
        let mut knee = self.knee.try_lock().ok()?;
        knee.held_up(now);
        self.begin_window(&knee, now, Duration::ZERO);
        Some(knee.limit())
    }

    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    fn is_whole(&self, at: u64) -> bool {
        let (count, due) = (self.count.load(Relaxed), self.due.load(Relaxed));
        let is_enough =
            || count >= SAMPLES_MIN || count >= SAMPLES_STEADY && self.is_brief.load(Relaxed) && self.seen().is_steady();
        at >= due && is_enough() || count >= SAMPLES_FEW && at >= due + WINDOW_MAX.as_micros() as u64
    }

    fn begin_window(&self, knee: &Knee, now: Instant, lasts: Duration) {
        self.is_brief.store(knee.may_be_brief(), Relaxed);
        let at = self.micros(now);
        self.due.store(at + lasts.clamp(WINDOW_MIN, WINDOW_MAX).as_micros() as u64, Relaxed);
        self.changed.store(at, Relaxed);
        for sum in [&self.sum, &self.squares, &self.count] {
            sum.store(0, Relaxed);
        }
        self.peak.store(0, Relaxed);
    }

    fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64
    }
}
