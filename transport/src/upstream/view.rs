//! An upstream's endpoints as one worker sees them at one moment: who may be picked, and where what comes of attempts is taken in.

use super::pool::Pool;
use super::targets::{Target, TargetSet};
use super::{AffinityCookie, Avoid, UpstreamSpec, Wanted};
use maitred_core::Chance;
use maitred_core::balance::{Asked, FAILURE_COST, InFlight, Ready, Rules, usable};
use maitred_core::health::{News, attempted};
use maitred_model::OutlierDetection;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct View {
    pub set: Arc<TargetSet>,
    /// One for each target.
    pub pools: Rc<[Rc<Pool>]>,
    spec: Arc<UpstreamSpec>,
    /// `None`: all are well, and the set's own tables are used.
    ready: Option<Ready>,
    /// What cookies name each target by, where there are such cookies.
    tokens: Option<Box<[u64]>>,
}

impl View {
    pub fn new(
        spec: &Arc<UpstreamSpec>,
        rules: &Rules,
        set: Arc<TargetSet>,
        pools: Rc<[Rc<Pool>]>,
        (now, turn): (Instant, usize),
    ) -> View {
        let tokens = spec.affinity.as_ref().map(|affinity| set.targets.iter().map(|target| affinity.token(target)).collect());
        let mut view = View { set, pools, spec: spec.clone(), ready: None, tokens };
        let back = |index: usize| view.tell_return(index, now);
        view.ready = Ready::new(rules, &view.set.levels, &view.set.figures, (now, turn), back);
        view
    }

    /// When it is over, though nothing changes but the time.
    pub fn until(&self) -> Option<Instant> {
        self.ready.as_ref().and_then(|ready| ready.until)
    }

    pub fn pick(&self, turn: &Cell<usize>, now: impl Fn() -> Instant, wanted: &Wanted, chance: &Chance) -> Option<usize> {
        let avoid = wanted.avoid.as_ref().and_then(|tried| self.place(tried));
        if let Some(home) = wanted.home.and_then(|token| self.home(token))
            && Some(home) != avoid
        {
            return Some(home);
        }
        let asked = |members| Asked { members, figures: &self.set.figures, hash: wanted.key, chance, avoid };
        match &self.ready {
            None => self.set.levels.first().and_then(|level| level.picker.pick(turn, now, &asked(&level.members))),
            Some(ready) => ready.pick(now, &asked(&[])),
        }
    }

    fn place(&self, tried: &Avoid) -> Option<usize> {
        let is_there = |target: &Target| target.address == tried.address;
        let targets = &self.set.targets;
        if targets.get(tried.at).is_some_and(is_there) { Some(tried.at) } else { targets.iter().position(is_there) }
    }

    /// The target that a cookie names, if it takes part.
    fn home(&self, token: u64) -> Option<usize> {
        let named = self.tokens.as_ref()?.iter().position(|&other| other == token)?;
        self.is_usable(named).then_some(named)
    }

    pub fn affinity(&self) -> Option<&AffinityCookie> {
        self.spec.affinity.as_ref()
    }

    pub fn token(&self, index: usize) -> Option<u64> {
        self.tokens.as_ref().map(|tokens| tokens[index])
    }

    /// Who stands in, in turn, for one that cannot be connected to: those behind it in its level, then the other levels. For one that stood in
    /// itself, as the address of a name whose first is left alone, that first one is better than nobody.
    pub fn stand_ins(&self, first: usize) -> impl Iterator<Item = usize> {
        let levels = &self.set.levels;
        let (level, place) =
            levels.iter().enumerate().find_map(|(level, of)| Some((level, of.place(first)?))).unwrap_or_default();
        let own = levels.get(level).map_or(&[][..], |level| &level.own[..]);
        let behind = own.iter().skip(place + 1).chain(own.iter().take(place));
        let others = levels.iter().enumerate().filter(move |(other, _)| *other != level).flat_map(|(_, level)| &level.own);
        let ranked = behind.chain(others).map(|&index| usize::from(index));
        let is_left = move |&index: &usize| !self.is_usable(index) && self.are_one(first, index);
        let last = ranked.clone().filter(move |index| is_left(index) && !self.set.figures[*index].is_drained());
        ranked.filter(|&index| self.is_usable(index)).chain(last)
    }

    /// Addresses of one name, of which one has the turns and the others stand behind it.
    pub fn are_one(&self, one: usize, other: usize) -> bool {
        let [one, other] = [one, other].map(|index| &self.set.targets[index]);
        (one.weight == 0 || other.weight == 0) && (&one.authority, &one.prefix) == (&other.authority, &other.prefix)
    }

    /// How many endpoints requests are sent to.
    pub fn taking_part(&self) -> u32 {
        (0..self.pools.len()).filter(|&index| self.takes_part(index)).count() as u32
    }

    fn takes_part(&self, index: usize) -> bool {
        self.ready.as_ref().map_or_else(|| self.set.targets[index].weight > 0, |ready| ready.takes_part(index))
    }

    /// A request goes to this endpoint, or to the next that takes part and has fewer than `limit` under way. Who has a place at the gate finds
    /// one, unless endpoints have just changed; then it is the one that was picked.
    pub fn enter(&self, picked: usize, limit: Option<u32>) -> (usize, InFlight) {
        let figures = &self.set.figures;
        let Some(limit) = limit else { return (picked, InFlight::enter(&figures[picked])) };
        let count = figures.len();
        let others = (1..count).map(|step| (picked + step) % count).filter(|&other| self.takes_part(other));
        let entered = std::iter::once(picked).chain(others).find_map(|index| {
            let in_flight = InFlight::enter_below(&figures[index], limit)?;
            Some((index, in_flight))
        });
        entered.unwrap_or_else(|| (picked, InFlight::enter(&figures[picked])))
    }

    pub fn is_usable(&self, index: usize) -> bool {
        self.ready.as_ref().is_none_or(|ready| ready.is_usable(index))
    }

    pub fn answered(&self, index: usize, took: Duration, has_failed: bool, now: Instant) {
        let figures = &self.set.figures[index];
        if self.set.goes_by_time {
            if figures.fails() && !has_failed {
                figures.forget();
            }
            figures.observe(if has_failed { took.max(FAILURE_COST) } else { took }, now);
        }
        match &self.spec.protection.outlier_detection {
            Some(rules) => self.judge(rules, index, has_failed, now),
            None => _ = figures.count(has_failed),
        }
    }

    /// One that was given up for another that was faster did not fail, nor did it succeed.
    pub fn overtaken(&self, index: usize, after: Duration, now: Instant) {
        if self.set.goes_by_time {
            self.set.figures[index].observe(after, now);
        }
    }

    fn judge(&self, rules: &OutlierDetection, index: usize, has_failed: bool, now: Instant) {
        let figures = &self.set.figures;
        let ejection =
            attempted(rules, (figures, self.set.in_turn), (index, has_failed), now, |index| self.tell_return(index, now));
        if let Some(ejection) = ejection
            && figures[index].may_tell(News::Ejected, now)
        {
            let (upstream, endpoint) = (&*self.spec.name, self.set.targets[index].address.to_string());
            let (seconds, cause) = (ejection.time.as_secs_f64(), ejection.cause.to_string());
            tracing::warn!(upstream, endpoint, seconds, cause, "an endpoint was ejected");
        }
    }

    fn tell_return(&self, index: usize, now: Instant) {
        if self.set.figures[index].may_tell(News::Returned, now) {
            let (upstream, endpoint) = (&*self.spec.name, self.set.targets[index].address.to_string());
            tracing::info!(upstream, endpoint, "an ejected endpoint is let in again");
        }
    }

    /// Panic begins or ends. Said once over all workers.
    pub fn tell_panic(&self, rules: &Rules, now: Instant) {
        let panics = self.ready.as_ref().is_some_and(|ready| ready.panic);
        if !self.spec.shared.is_news(panics) {
            return;
        }
        let upstream = &*self.spec.name;
        let (usable, of) = usable(rules, &self.set.levels, &self.set.figures, now);
        if panics {
            tracing::warn!(upstream, usable, of, "panic: too few endpoints are usable, and requests go to all of them");
        } else {
            tracing::info!(upstream, usable, of, "panic is over: requests go to usable endpoints alone");
        }
    }
}
