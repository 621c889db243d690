//! Who waits: one lane for each priority, the oldest first. Joining, leaving and being called are a few stores each, however many
//! wait. Counts nobody in flight: `Gate` does, and holds its lock around all of this.

use super::LANES;
use super::pace::Pace;
use crate::metrics::BUCKETS_MICROS;
use maitred_model::Concurrency;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Under a standing queue newcomers are patient for this part of `queue.timeout`: 100 ms of 2 s. CoDel's target (RFC 8289 §3.2), which is to
/// be a tenth of its interval.
const PATIENCE_PART: u32 = 20;
/// A lane in which somebody has waited all through this part of `queue.timeout` has a standing queue: 1 s of 2 s. A burst that is served
/// in less is none. CoDel's interval.
const STANDING_PART: u32 = 2;
/// A slab with more places than this is given back when nobody waits.
const PLACES_KEPT: usize = 1024;

const NOBODY: u32 = u32::MAX;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No place is left to wait in.
    Full,
    /// The time is over.
    Timeout,
    /// The queue stands, and others are fresher.
    Shed,
    /// No place was left, and somebody of a higher priority got this one.
    Outranked,
}

/// What came of those who did not get in at once. Waiting times as in `BUCKETS_MICROS`, of those who were let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub waited: [u64; BUCKETS_MICROS.len() + 1],
    pub waited_micros: u64,
    pub full: u64,
    pub timeout: u64,
    pub shed: u64,
    pub outranked: u64,
    /// Left the line: their clients went away.
    pub gone: u64,
}

impl Tally {
    fn admitted(&mut self, waited: Duration) {
        let micros = waited.as_micros() as u64;
        let bucket = BUCKETS_MICROS.iter().position(|&bound| micros <= bound).unwrap_or(BUCKETS_MICROS.len());
        self.waited[bucket] += 1;
        self.waited_micros += micros;
    }

    pub(super) fn refused(&mut self, reason: Reason) {
        match reason {
            Reason::Full => self.full += 1,
            Reason::Timeout => self.timeout += 1,
            Reason::Shed => self.shed += 1,
            Reason::Outranked => self.outranked += 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waits,
    /// It has been handed a place and not come for it yet.
    Admitted,
    Refused(Reason),
}

struct Node {
    state: State,
    lane: u8,
    /// The neighbours in its lane; of a free node `next` is the next free one.
    before: u32,
    next: u32,
    ticket: u64,
    since: Instant,
    /// Let go if it has waited longer and enough others are there.
    patience: Duration,
    until: Instant,
    waker: Option<Waker>,
}

#[derive(Clone, Copy)]
struct Lane {
    first: u32,
    last: u32,
    /// Since when this lane and those above it were never all empty; as long as they are not.
    standing_since: Option<Instant>,
}

/// Who was called.
pub(super) enum Called {
    Nobody,
    Admitted(Option<Waker>),
    Refused(Option<Waker>),
}

pub(super) struct Line {
    nodes: Vec<Node>,
    free: u32,
    /// Nodes in use: of those who wait, and of those who have not come for their answer.
    used: usize,
    lanes: [Lane; LANES],
    /// One bit for each lane in which somebody waits.
    occupied: u16,
    waiting: u32,
    tickets: u64,
    pub settings: Concurrency,
    pub pace: Pace,
    pub tally: Tally,
}

impl Line {
    pub fn new(settings: Concurrency, now: Instant) -> Line {
        Line {
            nodes: Vec::new(),
            free: NOBODY,
            used: 0,
            lanes: [Lane { first: NOBODY, last: NOBODY, standing_since: None }; LANES],
            occupied: 0,
            waiting: 0,
            tickets: 0,
            settings,
            pace: Pace::new(now),
            tally: Tally::default(),
        }
    }

    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Joins the end of a lane. Gives its key, by which it asks for its answer.
    pub fn join(&mut self, priority: u8, now: Instant, until: Instant) -> u32 {
        if self.waiting == 0 {
            self.pace.begin(now);
        }
        let lane = usize::from(priority).min(LANES - 1);
        let timeout = self.settings.queue.timeout;
        self.stand(lane, now);
        let patience = if self.stands(lane, now) { timeout / PATIENCE_PART } else { timeout };
        self.tickets += 1;
        let node = Node {
            state: State::Waits,
            lane: lane as u8,
            before: self.lanes[lane].last,
            next: NOBODY,
            ticket: self.tickets,
            since: now,
            patience,
            until: until.min(now + timeout),
            waker: None,
        };
        let key = self.place(node);
        match self.lanes[lane].last {
            NOBODY => self.lanes[lane].first = key,
            last => self.nodes[last as usize].next = key,
        }
        self.lanes[lane].last = key;
        self.occupied |= 1 << lane;
        self.waiting += 1;
        key
    }

    /// Calls who is next: the oldest of the highest lane. One whose time is over, or who is stale in a standing queue, is refused.
    /// Stale ones are let go only while as many others wait as there are slots, and one more: even if all slots came free at once, each would
    /// find somebody, so shedding never leaves one idle; and the queue would still stand.
    pub fn call(&mut self, now: Instant, slots: u32) -> Called {
        let Some(lane) = self.occupied.checked_ilog2() else { return Called::Nobody };
        let key = self.lanes[lane as usize].first;
        let node = &self.nodes[key as usize];
        let waited = now.saturating_duration_since(node.since);
        if node.until <= now {
            return Called::Refused(self.refuse(key, Reason::Timeout));
        }
        if waited > node.patience && self.waiting > slots.saturating_add(1) {
            return Called::Refused(self.refuse(key, Reason::Shed));
        }
        self.tally.admitted(waited);
        self.pace.served(now);
        Called::Admitted(self.answer(key, State::Admitted))
    }

    /// Makes room for somebody of this priority at the cost of the youngest of the lowest one, if that is lower.
    pub fn displace(&mut self, priority: u8) -> Option<Option<Waker>> {
        let lowest = self.occupied.trailing_zeros() as usize;
        (lowest < usize::from(priority).min(LANES - 1)).then(|| self.refuse(self.lanes[lowest].last, Reason::Outranked))
    }

    /// The time of one that waits is over.
    pub fn expire(&mut self, key: u32) {
        self.refuse(key, Reason::Timeout);
    }

    fn refuse(&mut self, key: u32, reason: Reason) -> Option<Waker> {
        self.tally.refused(reason);
        self.answer(key, State::Refused(reason))
    }

    fn answer(&mut self, key: u32, state: State) -> Option<Waker> {
        self.unlink(key);
        let node = &mut self.nodes[key as usize];
        node.state = state;
        node.waker.take()
    }

    pub fn state(&self, key: u32) -> State {
        self.nodes[key as usize].state
    }

    pub fn ticket(&self, key: u32) -> u64 {
        self.nodes[key as usize].ticket
    }

    /// Whom to wake when the answer is there.
    pub fn wake(&mut self, key: u32, waker: &Waker) {
        let slot = &mut self.nodes[key as usize].waker;
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    pub fn until(&self, key: u32) -> Instant {
        self.nodes[key as usize].until
    }

    /// It does not wait any more, or has its answer: its place is free. Gives what it was in.
    pub fn forget(&mut self, key: u32) -> State {
        let state = self.nodes[key as usize].state;
        if state == State::Waits {
            self.tally.gone += 1;
            self.unlink(key);
        }
        let node = &mut self.nodes[key as usize];
        node.waker = None;
        node.next = self.free;
        self.free = key;
        self.used -= 1;
        if self.used == 0 && self.nodes.len() > PLACES_KEPT {
            self.nodes = Vec::new();
            self.free = NOBODY;
        }
        state
    }

    fn place(&mut self, node: Node) -> u32 {
        self.used += 1;
        match self.free {
            NOBODY => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
            key => {
                self.free = self.nodes[key as usize].next;
                self.nodes[key as usize] = node;
                key
            }
        }
    }

    fn unlink(&mut self, key: u32) {
        let Node { lane, before, next, .. } = self.nodes[key as usize];
        let lane = &mut self.lanes[lane as usize];
        match before {
            NOBODY => lane.first = next,
            before => self.nodes[before as usize].next = next,
        }
        match next {
            NOBODY => lane.last = before,
            next => self.nodes[next as usize].before = before,
        }
        if lane.first == NOBODY {
            self.occupied &= !(1 << self.nodes[key as usize].lane);
        }
        self.waiting -= 1;
    }

    /// Somebody comes to this lane: for those that were empty, with all above them, standing begins.
    fn stand(&mut self, lane: usize, now: Instant) {
        let highest = self.occupied.checked_ilog2().map_or(0, |highest| highest as usize + 1);
        for below in &mut self.lanes[highest.min(lane + 1)..=lane] {
            below.standing_since = Some(now);
        }
    }

    /// Facebook's rule ("Fail at Scale", ACM Queue 13.8, 2015), for each lane with those above it: what is below it makes nobody wait.
    fn stands(&self, lane: usize, now: Instant) -> bool {
        let since = self.lanes[lane].standing_since;
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.settings.queue.timeout / STANDING_PART)
    }
}
