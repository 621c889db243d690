//! The addresses of an upstream at one moment, and what picks among them go by. Discovery writes, workers read.

use arc_swap::ArcSwap;
use maitred_core::balance::{Asked, Figures, Identity, Member, Picker, Roster, hash};
use maitred_core::{Chance, Remote};
use maitred_model::Balance;
use std::collections::HashMap;
use std::sync::Arc;

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
    fn identity(&self) -> Identity {
        (self.address.clone(), self.authority.clone(), self.prefix.clone())
    }
}

/// All addresses of an upstream at one moment, made ready for picks.
#[derive(Debug, Default)]
pub struct TargetSet {
    pub targets: Vec<Target>,
    pub picker: Picker,
    /// As the picker was made of them.
    members: Vec<Member>,
    /// One for each target.
    pub figures: Vec<Arc<Figures>>,
}

impl TargetSet {
    fn new(targets: Vec<Target>, balance: Balance, roster: &Roster) -> TargetSet {
        let members = members(&targets);
        let picker = Picker::new(balance, &members);
        let figures = roster.of(targets.iter().map(Target::identity));
        TargetSet { targets, picker, members, figures }
    }

    pub(super) fn asked<'a>(&'a self, hash: Option<u64>, chance: &'a Chance) -> Asked<'a> {
        Asked { members: &self.members, figures: &self.figures, hash, chance }
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
    balance: Balance,
    roster: Arc<Roster>,
}

impl TargetCell {
    pub fn new(targets: Vec<Target>, balance: Balance, roster: Arc<Roster>) -> TargetCell {
        let current = ArcSwap::from_pointee(TargetSet::new(targets, balance, &roster));
        roster.changes.bump();
        TargetCell { current, balance, roster }
    }

    pub fn publish(&self, targets: Vec<Target>) {
        if self.current.load().targets != targets {
            self.current.store(Arc::new(TargetSet::new(targets, self.balance, &self.roster)));
            self.roster.changes.bump();
        }
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

    #[test]
    fn figures_are_the_endpoint_s_whatever_list_of_its_upstream_it_stands_in() {
        let known = KnownFigures::default();
        let (a, b) = (target("10.0.0.1:1"), target("10.0.0.2:1"));
        let cell = TargetCell::new(vec![a.clone()], Balance::LeastRequest, known.roster("u"));
        let held = InFlight::enter(&cell.load().figures[0]);
        cell.publish(vec![b.clone(), a.clone()]);
        let other = TargetCell::new(vec![a.clone()], Balance::RoundRobin, known.roster("u"));
        let stranger = TargetCell::new(vec![a.clone()], Balance::RoundRobin, known.roster("v"));
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
