//! Endpoints made ready for picks as they are now: who is usable, at which weight, and what is sent to which level. Made anew when
//! something changes, by each worker for itself, so that a pick looks at no endpoint's health.

use super::levels::{Count, Shares, WHOLE, shares};
use super::{Asked, Figures, Member, Picker};
use crate::health::let_in;
use maitred_model::{Balance, Protection};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A weight that grows does so in so many steps, and begins with the second.
const STEPS: u64 = 20;
const FIRST_STEP: u64 = 2;

/// What of an upstream's protection picks go by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// There are active checks.
    pub checks: bool,
    /// There is outlier detection.
    pub ejects: bool,
    /// Parts per million.
    pub panic_below: u32,
    pub slow_start: Option<Duration>,
}

impl Rules {
    pub fn of(protection: &Protection) -> Rules {
        Rules {
            checks: protection.health_check.is_some(),
            ejects: protection.outlier_detection.is_some(),
            panic_below: protection.panic_below.map_or(WHOLE as u32 / 2, |share| share.ppm()),
            slow_start: protection.slow_start,
        }
    }

    /// Drained ones are `None`: they do not even count.
    fn usable(&self, figures: &Figures, now: Instant) -> Option<bool> {
        let is_sick = self.checks && !figures.is_healthy();
        let is_out = || self.ejects && figures.ejected_until(now).is_some();
        (!figures.is_drained()).then(|| !is_sick && !is_out())
    }

    /// How far a weight has grown, in steps, and how long until the next one.
    fn grown(&self, figures: &Figures, now: Instant) -> (u64, Option<Duration>) {
        let growing = self.slow_start.zip(figures.standing.warm_for(now)).filter(|(whole, warm)| warm < whole);
        let Some((whole, warm)) = growing else { return (STEPS, None) };
        let (whole, warm) = (whole.as_nanos() as u64, warm.as_nanos() as u64);
        let step = (u128::from(warm) * u128::from(STEPS) / u128::from(whole.max(1))) as u64;
        let step = step.max(FIRST_STEP);
        let next = (u128::from(whole) * u128::from(step + 1)).div_ceil(u128::from(STEPS)) as u64;
        (step, Some(Duration::from_nanos(next.saturating_sub(warm).max(1))))
    }
}

/// Endpoints of one priority, in or out of the own zone: as configured, by the indices of the whole list.
#[derive(Debug, Default)]
pub struct Level {
    /// Of others the weight is 0.
    pub members: Vec<Member>,
    pub picker: Picker,
    /// Who belongs to it.
    pub own: Vec<u16>,
}

impl Level {
    pub fn new(balance: Balance, all: &[Member], own: Vec<u16>) -> Level {
        let mut members: Vec<Member> = all.iter().map(|member| Member { weight: 0, ..*member }).collect();
        for &index in &own {
            members[usize::from(index)] = all[usize::from(index)];
        }
        Level { picker: Picker::new(balance, &members), members, own }
    }

    /// Where an endpoint stands in `own`, if it belongs here.
    pub fn place(&self, index: usize) -> Option<usize> {
        self.own.iter().position(|&other| usize::from(other) == index)
    }
}

/// How the endpoints are at one moment, where that is not simply well.
#[derive(Debug)]
pub struct Ready {
    levels: Vec<ReadyLevel>,
    /// One for each endpoint.
    usable: Vec<bool>,
    /// Too few are usable: all are used.
    pub panic: bool,
    /// When it is to be made anew, though nothing changes but the time.
    pub until: Option<Instant>,
}

/// Whether `Ready` would have them all used, for those who only look.
pub fn panics(rules: &Rules, levels: &[Level], figures: &[Arc<Figures>], now: Instant) -> bool {
    let usable: Vec<Option<bool>> = figures.iter().map(|figures| rules.usable(figures, now)).collect();
    shares(&counts(levels, &usable), u64::from(rules.panic_below)).panic
}

/// How many endpoints are usable, and of how many, as panic counts them.
pub fn usable(rules: &Rules, levels: &[Level], figures: &[Arc<Figures>], now: Instant) -> (u64, u64) {
    let usable: Vec<Option<bool>> = figures.iter().map(|figures| rules.usable(figures, now)).collect();
    counts(levels, &usable).iter().fold((0, 0), |(usable, all), level| (usable + level.usable, all + level.all))
}

/// Drained ones, which are `None`, do not count; nor do those who stand behind others, unless they are all that is left.
fn counts(levels: &[Level], usable: &[Option<bool>]) -> Vec<Count> {
    let count = |level: &Level, least: u32| {
        let own = level.own.iter().map(|&index| usize::from(index)).filter(|&index| level.members[index].weight >= least);
        own.filter_map(|index| usable[index])
            .fold(Count { usable: 0, all: 0 }, |sum, usable| Count { usable: sum.usable + u64::from(usable), all: sum.all + 1 })
    };
    let of = |level| Some(count(level, 1)).filter(|count| count.usable > 0).unwrap_or_else(|| count(level, 0));
    levels.iter().map(of).collect()
}

#[derive(Debug)]
struct ReadyLevel {
    members: Vec<Member>,
    picker: Picker,
    turn: Cell<usize>,
    /// What is sent to this level and those before, in parts of `WHOLE`.
    upto: u64,
}

impl Ready {
    /// `None`: all are well, and there is one level; it is picked from as it is. `turn`: where turns begin. `back` is told of those
    /// whose ejection was over.
    pub fn new(
        rules: &Rules,
        levels: &[Level],
        figures: &[Arc<Figures>],
        (now, turn): (Instant, usize),
        back: impl FnMut(usize),
    ) -> Option<Ready> {
        if rules.ejects {
            let_in(figures, now).for_each(back);
        }
        let mut usable: Vec<Option<bool>> = figures.iter().map(|figures| rules.usable(figures, now)).collect();
        let growing: Vec<(u64, Option<Duration>)> = figures.iter().map(|figures| rules.grown(figures, now)).collect();
        let is_plain = usable.iter().all(|usable| *usable == Some(true)) && growing.iter().all(|(_, next)| next.is_none());
        if is_plain && levels.len() <= 1 {
            return None;
        }
        let returns = figures.iter().filter(|_| rules.ejects).filter_map(|figures| figures.ejected_until(now));
        let until = returns.chain(growing.iter().filter_map(|(_, next)| *next)).min().map(|left| now + left);
        let Shares { of, panic } = shares(&counts(levels, &usable), u64::from(rules.panic_below));
        if panic {
            usable.iter_mut().for_each(|usable| *usable = usable.map(|_| true));
        }
        let usable: Vec<bool> = usable.into_iter().map(|usable| usable == Some(true)).collect();
        let steps: Vec<u64> = growing.into_iter().map(|(steps, _)| steps).collect();
        let mut upto = 0;
        let levels = levels.iter().zip(of).map(|(level, share)| {
            upto += share;
            ReadyLevel { upto, turn: Cell::new(turn), ..ReadyLevel::new(level, &usable, &steps) }
        });
        Some(Ready { levels: levels.collect(), usable, panic, until })
    }

    /// Whether an endpoint takes part.
    pub fn is_usable(&self, index: usize) -> bool {
        self.usable.get(index).is_some_and(|&usable| usable)
    }

    /// Whether it is usable, and of a level that requests are sent to.
    pub fn takes_part(&self, index: usize) -> bool {
        let mut before = 0;
        self.levels.iter().any(|level| {
            let has_share = level.upto > std::mem::replace(&mut before, level.upto);
            has_share && level.members[index].weight > 0
        })
    }

    /// As `Picker::pick`; members and turns are its own.
    pub fn pick(&self, now: impl Fn() -> Instant, asked: &Asked<'_>) -> Option<usize> {
        let of = |level: &ReadyLevel| {
            let Asked { members: _, figures, hash, chance, avoid } = *asked;
            level.picker.pick(&level.turn, &now, &Asked { members: &level.members, figures, hash, chance, avoid })
        };
        let at = self.level(asked);
        let picked = self.levels.get(at).and_then(of);
        if picked.is_some() && picked != asked.avoid {
            return picked;
        }
        let others = self.levels.iter().enumerate().filter(|(index, _)| *index != at);
        others.filter_map(|(_, level)| of(level)).find(|index| Some(*index) != asked.avoid).or(picked)
    }

    /// Which level's turn it is: by chance, or by the key, so that a key stays where it is.
    fn level(&self, asked: &Asked<'_>) -> usize {
        if self.levels.first().is_some_and(|first| first.upto == WHOLE) {
            return 0;
        }
        let random = asked.hash.map_or_else(|| asked.chance.next(), |hash| super::hash(b"level", hash));
        let at = ((u128::from(random) * u128::from(WHOLE)) >> 64) as u64;
        self.levels.iter().position(|level| at < level.upto).unwrap_or(0)
    }
}

impl ReadyLevel {
    fn new(level: &Level, usable: &[bool], steps: &[u64]) -> ReadyLevel {
        let mut members = level.members.clone();
        let own = || level.own.iter().map(|&index| usize::from(index));
        // Without anyone who grows, weights stay as they are.
        let whole = if own().all(|index| steps[index] == STEPS) { STEPS } else { 1 };
        for index in own() {
            let grown = u64::from(members[index].weight) * steps[index] / whole;
            members[index].weight = if usable[index] { grown.min(u64::from(u32::MAX)) as u32 } else { 0 };
        }
        // Those who stand behind others that can't be connected to are all that is left.
        if members.iter().all(|member| member.weight == 0) {
            own().filter(|&index| usable[index]).for_each(|index| members[index].weight = 1);
        }
        ReadyLevel { picker: level.picker.over(&members), members, turn: Cell::new(0), upto: 0 }
    }
}

#[cfg(test)]
mod tests;
