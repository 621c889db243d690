//! Finds the knee of a back end: the most that it does at once without making anybody wait. After Envoy's adaptive concurrency filter and
//! Gradient2 of Netflix's concurrency-limits: the limit moves by the ratio of the latency that an answer has where nobody waits to the
//! one that is seen. Envoy's fixed probe at a few requests and headroom of a square root would end at one and a half of a small knee;
//! Gradient2's long-term mean follows the latency that its own limit makes. So here the floor is measured at half the limit (as BBR drains
//! its pipe), and there is no headroom but the tolerance: where all slots are in use, the limit ends at 1 + tolerance of them. Pure.

use std::time::{Duration, Instant};

/// So much longer than the floor answers may take. It is also how far above the knee the limit ends.
const TOLERANCE: f64 = 0.1;
/// What the limit is before anything is known, and while the first floor is measured.
const FIRST: f64 = 20.0;
const FIRST_PROBE: f64 = 4.0;
/// By how much a window may move it at most: down, up, and up until the knee is first met.
const SHRINK: f64 = 0.5;
const GROW: f64 = 1.2;
const RAMP: f64 = 1.5;
/// Once the knee was met a window counts half: its mean is noise as well.
const WEIGHT: f64 = 0.5;
/// Below this share of the limit in use nobody is held back, and there is no reason to let more in.
const IN_USE: f64 = 0.9;
/// It fell below this share of what it was at the last probe: perhaps the floor is what changed.
const FELL: f64 = 0.6;
/// The floor is measured anew after so long; each time that it was the same, twice as long.
const GAP_MIN: Duration = Duration::from_secs(2);
const GAP_MAX: Duration = Duration::from_secs(30);
/// After a probe that came to nothing.
const GAP_GIVEN_UP: Duration = Duration::from_secs(600);
/// Another floor, not the noise of the old one: by so much, and so many standard errors.
const CHANGE: f64 = 0.1;
const ERRORS: f64 = 3.0;
/// By less than this part of their mean answers hardly vary: the mean of 25 is off by 4% then, that of 100 that vary by half by 5%.
const STEADY: f64 = 0.2;
/// What the floor's mean weighs at most, in answers: it forgets by and by.
const FLOOR_WEIGHT_MAX: f64 = 2000.0;

/// Answers that began under one limit. Microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub count: f64,
    pub mean: f64,
    pub variance: f64,
    /// Most in flight at an answer.
    pub peak: u32,
}

impl Window {
    pub fn is_steady(&self) -> bool {
        hardly_varies(self.mean, self.variance)
    }
}

fn hardly_varies(mean: f64, variance: f64) -> bool {
    variance <= (STEADY * mean).powi(2)
}

#[derive(Debug, Clone, Copy)]
struct Floor {
    mean: f64,
    variance: f64,
    weight: f64,
}

#[derive(Debug)]
pub(super) struct Knee {
    min: f64,
    max: f64,
    /// As it is outside of probes.
    limit: f64,
    /// The floor is being measured, with this limit.
    probe: Option<f64>,
    floor: Option<Floor>,
    /// The knee was not met yet.
    ramps: bool,
    limit_at_probe: f64,
    next_probe: Instant,
    gap: Duration,
}

impl Knee {
    pub fn new(min: u32, max: u32, now: Instant) -> Knee {
        let (min, max) = (f64::from(min), f64::from(max));
        Knee {
            min,
            max,
            limit: FIRST.clamp(min, max),
            probe: Some(FIRST_PROBE.clamp(min, max)),
            floor: None,
            ramps: true,
            limit_at_probe: 0.0,
            next_probe: now,
            gap: GAP_MIN,
        }
    }

    pub fn bound(&mut self, min: u32, max: u32) {
        (self.min, self.max) = (f64::from(min), f64::from(max));
        self.limit = self.limit.clamp(self.min, self.max);
        self.probe = self.probe.map(|probe| probe.clamp(self.min, self.max));
    }

    pub fn limit(&self) -> u32 {
        self.probe.unwrap_or(self.limit).round() as u32
    }

    /// A probe goes on that a few answers may end. By what is known of the floor, not by the probe alone: where one answer in twenty takes
    /// long, a few may be without.
    pub fn may_be_brief(&self) -> bool {
        self.probe.is_some() && self.floor.is_some_and(|floor| hardly_varies(floor.mean, floor.variance))
    }

    /// All that are let in are being answered, without an end, so that nobody tells how the back end does: a probe is put off, or there is
    /// room for some more.
    pub fn held_up(&mut self, now: Instant) {
        if self.probe.take().is_none() {
            self.limit = (self.limit * GROW).max(self.limit + 1.0).min(self.max);
        }
        (self.limit_at_probe, self.next_probe) = (self.limit, now + self.gap);
    }

    pub fn window(&mut self, window: &Window, now: Instant) {
        if self.probe.take().is_some() || self.floor.is_none() {
            self.measured(window, now);
            return;
        }
        if f64::from(window.peak) * 2.0 <= self.limit {
            // Nobody waits: that is a probe too, and costs nothing.
            self.measured(window, now);
            return;
        }
        self.step(window);
        if now >= self.next_probe || self.limit < FELL * self.limit_at_probe {
            self.probe = Some((self.limit / 2.0).max(self.min));
        }
    }

    /// No answers come under the limit of a probe: those in flight are WebSockets or streams, and would keep everybody out for as long as they
    /// last. True: there was a probe.
    pub fn give_up(&mut self, now: Instant) -> bool {
        // Of a back end that has not answered yet nothing is known.
        let was_probe = self.floor.is_some() && self.probe.take().is_some();
        if was_probe {
            self.next_probe = now + GAP_GIVEN_UP;
            self.limit_at_probe = 0.0;
        }
        was_probe
    }

    fn step(&mut self, window: &Window) {
        let Some(floor) = self.floor else { return };
        let most = if self.ramps { RAMP } else { GROW };
        let gradient = (floor.mean * (1.0 + TOLERANCE) / window.mean.max(1.0)).clamp(SHRINK, most);
        // Rounded, as it was in force: of 1.4 only one can be in use, and the limit would stay there for ever.
        if gradient > 1.0 && f64::from(window.peak) < IN_USE * self.limit.round() {
            return;
        }
        self.ramps &= gradient > 1.0;
        let weight = if self.ramps { 1.0 } else { WEIGHT };
        self.limit = (self.limit * (1.0 + weight * (gradient - 1.0))).clamp(self.min, self.max);
    }

    fn measured(&mut self, window: &Window, now: Instant) {
        match &mut self.floor {
            Some(floor) if !floor.differs(window) => {
                floor.add(window);
                self.gap = (self.gap * 2).min(GAP_MAX);
            }
            known => {
                // Slower than it was: the limit that was found for it is too low by as much.
                self.ramps = known.is_none_or(|floor| window.mean > floor.mean);
                *known = Some(Floor { mean: window.mean, variance: window.variance, weight: window.count });
                self.gap = GAP_MIN;
            }
        }
        self.limit_at_probe = self.limit;
        self.next_probe = now + self.gap;
    }
}

impl Floor {
    fn differs(&self, window: &Window) -> bool {
        let error = (self.variance / self.weight + window.variance / window.count).sqrt();
        (self.mean - window.mean).abs() > (CHANGE * self.mean).max(ERRORS * error)
    }

    fn add(&mut self, window: &Window) {
        let weight = self.weight + window.count;
        let share = window.count / weight;
        self.mean += (window.mean - self.mean) * share;
        self.variance += (window.variance - self.variance) * share;
        self.weight = weight.min(FLOOR_WEIGHT_MAX);
    }
}
