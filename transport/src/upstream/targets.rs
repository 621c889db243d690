//! The addresses of an upstream at one moment, and what picks among them go by. Discovery writes, workers read.

use arc_swap::ArcSwap;
use maitred_core::balance::{Asked, Figures, Identity, InFlight, KnownFigures, Member, Picker, hash, needs_figures};
use maitred_core::{Chance, Remote};
use maitred_model::Balance;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// One for each target where picks go by them, else none.
    figures: Vec<Arc<Figures>>,
}

impl TargetSet {
    fn new(targets: Vec<Target>, balance: Balance, known: &KnownFigures) -> TargetSet {
        let members = members(&targets);
        let picker = Picker::new(balance, &members);
        let figures = if needs_figures(balance) { known.of(targets.iter().map(Target::identity)) } else { Vec::new() };
        TargetSet { targets, picker, members, figures }
    }

    pub(super) fn asked<'a>(&'a self, hash: Option<u64>, chance: &'a Chance) -> Asked<'a> {
        Asked { members: &self.members, figures: &self.figures, hash, chance }
    }

    /// The next target at another address than that, if there is one.
    pub(super) fn elsewhere(&self, picked: usize, avoid: &Remote) -> usize {
        let others = (0..self.targets.len()).map(|step| (picked + step) % self.targets.len());
        let mut fit = others.filter(|&index| self.targets[index].weight > 0 && self.targets[index].address != *avoid);
        fit.next().unwrap_or(picked)
    }

    /// Counts a request at a target until what is returned is dropped, if picks go by that.
    pub(super) fn enter(&self, index: usize) -> Option<InFlight> {
        self.figures.get(index).map(InFlight::enter)
    }

    /// Where it is known how long its target takes, if picks go by that.
    pub(super) fn timed(&self, index: usize) -> Option<&Figures> {
        match self.picker {
            Picker::PeakEwma(_) => self.figures.get(index).map(|figures| &**figures),
            Picker::RoundRobin(_) | Picker::Random(_) | Picker::LeastRequest(_) | Picker::RingHash(..) | Picker::Maglev(..) => {
                None
            }
        }
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
    generation: AtomicU64,
    balance: Balance,
    known: Arc<KnownFigures>,
}

impl TargetCell {
    pub fn new(targets: Vec<Target>, balance: Balance, known: &Arc<KnownFigures>) -> TargetCell {
        let current = ArcSwap::from_pointee(TargetSet::new(targets, balance, known));
        TargetCell { current, generation: AtomicU64::new(1), balance, known: known.clone() }
    }

    pub fn publish(&self, targets: Vec<Target>) {
        if self.current.load().targets != targets {
            self.current.store(Arc::new(TargetSet::new(targets, self.balance, &self.known)));
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Moves when the addresses change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn load(&self) -> Arc<TargetSet> {
        self.current.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: &str) -> Target {
        Target { address: Remote::Tcp(address.parse().unwrap()), authority: "a".into(), prefix: "".into(), weight: 1 }
    }

    #[test]
    fn figures_are_the_endpoint_s_whatever_list_it_stands_in() {
        let known = Arc::new(KnownFigures::default());
        let (a, b) = (target("10.0.0.1:1"), target("10.0.0.2:1"));
        let cell = TargetCell::new(vec![a.clone()], Balance::LeastRequest, &known);
        let held = cell.load().enter(0);
        cell.publish(vec![b.clone(), a.clone()]);
        let other = TargetCell::new(vec![a.clone()], Balance::PeakEwma, &known);
        let counts = |cell: &TargetCell| cell.load().figures.iter().map(|figures| figures.in_flight()).collect::<Vec<_>>();
        assert_eq!((counts(&cell), counts(&other)), (vec![0, 1], vec![1]));
        drop(held);
        assert_eq!((counts(&cell), counts(&other)), (vec![0, 0], vec![0]));
        let plain = TargetCell::new(vec![a, b], Balance::RoundRobin, &known);
        assert!(counts(&plain).is_empty() && plain.load().enter(0).is_none(), "turns ask for nothing");
    }

    #[test]
    fn an_endpoint_that_is_listed_twice_stands_twice() {
        let twice = members(&[target("10.0.0.1:1"), target("10.0.0.1:1")]);
        assert_ne!(twice[0].hash, twice[1].hash);
        assert_eq!(twice[0], members(&[target("10.0.0.1:1")])[0]);
    }
}
