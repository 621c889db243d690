//! The addresses of an upstream at one moment, and what picks among them go by. Discovery writes, workers read.

use arc_swap::ArcSwap;
use maitred_core::Remote;
use maitred_core::balance::{Figures, Identity, Level, Member, Roster, Rules, hash, panics};
use maitred_model::{Balance, Protection};
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub address: Remote,
    /// The Host that it is sent, unless the upstream says otherwise.
    pub authority: Arc<str>,
    /// Prefixed to every path.
    pub prefix: Arc<str>,
    /// 0: only when the others can't be connected to.
    pub weight: u32,
    /// Where it stands, where that is known.
    pub zone: Option<Arc<str>>,
    /// Those of a higher number are for when those of the lower ones are not enough.
    pub priority: u8,
}

impl Target {
    /// What is known of it is kept by that.
    pub fn identity(&self) -> Identity {
        (self.address.clone(), self.authority.clone(), self.prefix.clone())
    }
}

/// All addresses of an upstream at one moment, made ready for picks.
#[derive(Debug, Default)]
pub struct TargetSet {
    pub targets: Vec<Target>,
    /// One for each target.
    pub figures: Vec<Arc<Figures>>,
    /// How many have turns. The others stand behind them.
    pub(super) in_turn: usize,
    /// Those that are preferred first.
    pub(super) levels: Vec<Level>,
    /// Picks go by how long endpoints take.
    pub(super) goes_by_time: bool,
}

impl TargetSet {
    fn new(targets: Vec<Target>, order: &Order, figures: impl Fn(&[Target]) -> Vec<Arc<Figures>>) -> TargetSet {
        let members = members(&targets);
        let figures = figures(&targets);
        let in_turn = targets.iter().filter(|target| target.weight > 0).count();
        let mut ranks: BTreeMap<(u8, bool), Vec<u16>> = BTreeMap::new();
        for (index, target) in targets.iter().enumerate() {
            ranks.entry((target.priority, order.is_far(target))).or_default().push(index as u16);
        }
        let levels = ranks.into_values().map(|own| Level::new(order.balance, &members, own)).collect();
        TargetSet { targets, figures, in_turn, levels, goes_by_time: order.balance == Balance::PeakEwma }
    }

    /// So few are usable that all are used.
    pub fn panics(&self, protection: &Protection, now: Instant) -> bool {
        panics(&Rules::of(protection), &self.levels, &self.figures, now)
    }
}

/// How an upstream's endpoints are dealt out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Order {
    pub balance: Balance,
    /// Where this gateway stands, where that is known.
    pub zone: Option<Arc<str>>,
}

impl Order {
    /// In another zone. Who names none is near to everyone.
    fn is_far(&self, target: &Target) -> bool {
        self.zone.is_some() && target.zone.is_some() && self.zone != target.zone
    }
}

/// What targets are, the same in every process that names them alike. One that is listed twice counts twice.
fn members(targets: &[Target]) -> Vec<Member> {
    let mut seen: HashMap<String, u64> = HashMap::with_capacity(targets.len());
    let member = |target: &Target| {
        let name = format!("{} {}{}", target.address, target.authority, target.prefix);
        let times = seen.entry(name.clone()).or_default();
        let member = Member { weight: target.weight, hash: hash(name.as_bytes(), *times) };
        *times += 1;
        member
    };
    targets.iter().map(member).collect()
}

/// The current addresses of an upstream; discovery writes, workers read. Outlives snapshots, keyed by what it resolves and how it is
/// balanced.
#[derive(Debug, Default)]
pub struct TargetCell {
    current: ArcSwap<TargetSet>,
    order: Order,
    roster: Arc<Roster>,
    changed: Notify,
}

impl TargetCell {
    pub fn new(targets: Vec<Target>, order: Order, roster: Arc<Roster>) -> TargetCell {
        let figures = |targets: &[Target]| roster.of(targets.iter().map(Target::identity));
        let current = ArcSwap::from_pointee(TargetSet::new(targets, &order, figures));
        roster.changes.bump();
        TargetCell { current, order, roster, changed: Notify::new() }
    }

    pub fn publish(&self, targets: Vec<Target>) {
        self.put(targets, |targets| self.roster.of(targets.iter().map(Target::identity)));
    }

    /// The same at the first look at what names lead to.
    pub fn complete(&self, targets: Vec<Target>) {
        self.put(targets, |targets| self.roster.completed(targets.iter().map(Target::identity)));
    }

    fn put(&self, targets: Vec<Target>, figures: impl Fn(&[Target]) -> Vec<Arc<Figures>>) {
        if self.current.load().targets != targets {
            self.current.store(Arc::new(TargetSet::new(targets, &self.order, figures)));
            self.roster.changes.bump();
            self.changed.notify_waiters();
        }
    }

    /// Other targets than these, once there are some.
    pub async fn other_than(&self, known: &Arc<TargetSet>) -> Arc<TargetSet> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.load();
            if !Arc::ptr_eq(&now, known) {
                return now;
            }
            changed.await;
        }
    }

    pub fn balance(&self) -> Balance {
        self.order.balance
    }

    /// Moves when the addresses change, or how one of them is.
    pub(crate) fn epoch(&self) -> u64 {
        self.roster.changes.epoch()
    }

    /// Targets and, by the same index, what is known of them.
    pub fn load(&self) -> Arc<TargetSet> {
        self.current.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_core::balance::{InFlight, KnownFigures};

    fn target(address: &str) -> Target {
        let (address, authority) = (Remote::Tcp(address.parse().unwrap()), "a".into());
        Target { address, authority, prefix: "".into(), weight: 1, zone: None, priority: 0 }
    }

    fn order(balance: Balance) -> Order {
        Order { balance, zone: None }
    }

    #[test]
    fn figures_are_the_endpoint_s_whatever_list_of_its_upstream_it_stands_in() {
        let known = KnownFigures::default();
        let (a, b) = (target("10.0.0.1:1"), target("10.0.0.2:1"));
        let cell = TargetCell::new(vec![a.clone()], order(Balance::LeastRequest), known.roster("u"));
        let held = InFlight::enter(&cell.load().figures[0]);
        cell.publish(vec![b.clone(), a.clone()]);
        let other = TargetCell::new(vec![a.clone()], order(Balance::RoundRobin), known.roster("u"));
        let stranger = TargetCell::new(vec![a.clone()], order(Balance::RoundRobin), known.roster("v"));
        let counts = |cell: &TargetCell| cell.load().figures.iter().map(|figures| figures.in_flight()).collect::<Vec<_>>();
        assert_eq!((counts(&cell), counts(&other), counts(&stranger)), (vec![0, 1], vec![1], vec![0]));
        drop(held);
        assert_eq!((counts(&cell), counts(&other)), (vec![0, 0], vec![0]));
    }

    #[test]
    fn an_endpoint_that_is_listed_twice_stands_twice() {
        let twice = members(&[target("10.0.0.1:1"), target("10.0.0.1:1")]);
        assert_ne!(twice[0].hash, twice[1].hash);
        assert_eq!(twice[0], members(&[target("10.0.0.1:1")])[0]);
    }
}
