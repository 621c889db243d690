//! What the limits of a request took of whom, so that a refusal gives it back, its cost can follow the answer, and the answer can say what is
//! left; and how counts that are kept elsewhere are asked. Counts nothing itself.

pub mod series;
pub mod top;

use crate::limit_table::{Key, KeyWriter, Pace, Verdict};
pub use maitred_model::LIMITS_MAX;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// What one limit took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// Which of the limits that its route's policies ask.
    pub limit: u32,
    pub key: Key,
    /// None: it refused.
    pub units: u32,
    /// Of counts that are kept elsewhere, and to be given back there.
    pub is_shared: bool,
    pub verdict: Verdict,
}

/// What is left of a quota, after this request where it had a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaLeft {
    pub most: u64,
    pub left: u64,
    pub ends_in: Duration,
    /// How long the whole period is.
    pub window: Duration,
}

/// What the limits of a request took so far.
#[derive(Debug, Default)]
pub struct TakenList {
    taken: [Taken; LIMITS_MAX],
    len: u8,
    /// Of the caller's plan.
    pub quota: Option<QuotaLeft>,
}

impl TakenList {
    /// Whoever compiles sees to it that there are no more than fit.
    #[inline]
    pub fn push(&mut self, taken: Taken) {
        if let Some(place) = self.taken.get_mut(usize::from(self.len)) {
            *place = taken;
            self.len += 1;
        }
    }

    #[inline]
    pub fn as_slice(&self) -> &[Taken] {
        &self.taken[..usize::from(self.len)]
    }

    pub fn clear(&mut self) {
        self.len = 0;
        self.quota = None;
    }
}

/// A limit, for all gateways that have the same: a hash of what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LimitId(pub u64);

impl LimitId {
    /// `seed`: all gateways of a fleet have it, and nobody else.
    pub fn of(what: &str, seed: [u64; 2]) -> LimitId {
        let mut writer = KeyWriter::new(seed);
        writer.bytes(what.as_bytes());
        LimitId(writer.key().number())
    }
}

/// What is asked of counts that are kept elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub limit: LimitId,
    pub key: Key,
    pub units: u32,
    pub pace: Pace,
}

/// A quota that is kept elsewhere: used so far in a period, and no more than so much.
#[derive(Debug, Clone, Copy)]
pub struct AskQuota {
    pub limit: LimitId,
    pub key: Key,
    /// Which period: seconds since 1970 at which it begins, and in how long it ends.
    pub period: u64,
    pub ends_in: Duration,
    pub most: u64,
    pub units: u32,
    /// Used already while nobody could be asked: counted whether there is room or not.
    pub owed: u64,
}

/// Why counts elsewhere were not asked, or gave no answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered;

pub type Counting<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unanswered>> + 'a>>;

/// Counts that gateways share. Answers within its budget of time, or says that it does not.
pub trait SharedCounts {
    /// One verdict for each, in their order; one that allows may say that its turn comes later. All are asked at once; whoever was granted something that is not used after all gives it back.
    fn take<'a>(&'a self, asks: &'a [Ask]) -> Counting<'a, Vec<Verdict>>;

    /// What was not used. Nobody waits for it.
    fn give_back(&self, asks: &[Ask]);

    /// What was used beyond what was asked for. Nobody waits for it.
    fn owe(&self, ask: Ask);

    /// Used so far, these units with it; more than `most` is refused, and takes nothing.
    fn spend(&self, ask: AskQuota) -> Counting<'_, Result<u64, u64>>;
}
