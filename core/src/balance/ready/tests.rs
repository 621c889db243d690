//! Shares and keys while some endpoints are out, too few are left, levels spill over, or weights grow. Chance is seeded.

use super::super::{InFlight, hash};
use super::*;
use crate::Chance;
use maitred_model::OutlierDetection;

const PICKS: usize = 100_000;
const SECOND: Duration = Duration::from_secs(1);
const RULES: Rules = Rules { checks: true, ejects: true, panic_below: 500_000, slow_start: None };

struct Play {
    balance: Balance,
    levels: Vec<Level>,
    figures: Vec<Arc<Figures>>,
    rules: Rules,
    ready: Option<Ready>,
    chance: Chance,
    turn: Cell<usize>,
    now: Instant,
}

impl Play {
    /// Weights of each level.
    fn new(balance: Balance, weights: &[&[u32]]) -> Play {
        let all: Vec<u32> = weights.concat();
        let member = |(index, &weight): (usize, &u32)| Member { weight, hash: hash(format!("10.0.0.{index}:1").as_bytes(), 0) };
        let members: Vec<Member> = all.iter().enumerate().map(member).collect();
        let mut next = 0..all.len() as u16;
        let levels = weights.iter().map(|of| Level::new(balance, &members, next.by_ref().take(of.len()).collect())).collect();
        let now = Instant::now();
        let figures = all.iter().map(|_| Arc::new(Figures::new(now))).collect();
        let mut play =
            Play { balance, levels, figures, rules: RULES, ready: None, chance: Chance::seeded(7), turn: Cell::new(0), now };
        play.renew();
        play
    }

    fn without(mut self, sick: &[usize]) -> Play {
        sick.iter().for_each(|&index| self.figures[index].set_healthy(false, self.now));
        self.renew();
        self
    }

    fn renew(&mut self) {
        self.ready = Ready::new(&self.rules, &self.levels, &self.figures, (self.now, 0), |_| {});
    }

    fn pick(&self, hash: Option<u64>, avoid: Option<usize>) -> Option<usize> {
        let Play { figures, chance, turn, now, .. } = self;
        let asked = |members| Asked { members, figures, hash, chance, avoid };
        match &self.ready {
            Some(ready) => ready.pick(|| *now, &asked(&[])),
            None => self.levels[0].picker.pick(turn, || *now, &asked(&self.levels[0].members)),
        }
    }

    fn shares(&self, key: impl Fn(usize) -> Option<u64>) -> Vec<f64> {
        let mut counts = vec![0usize; self.figures.len()];
        (0..PICKS).filter_map(|n| self.pick(key(n), None)).for_each(|index| counts[index] += 1);
        counts.iter().map(|&count| count as f64 / PICKS as f64).collect()
    }

    #[track_caller]
    fn close(&self, key: impl Fn(usize) -> Option<u64>, wanted: &[f64], within: f64) {
        let shares = self.shares(key);
        assert!(
            shares.iter().zip(wanted).all(|(share, wanted)| (share - wanted).abs() <= within),
            "{shares:?} for {wanted:?} by {:?}",
            self.balance
        );
    }

    fn panics(&self) -> bool {
        self.ready.as_ref().is_some_and(|ready| ready.panic)
    }
}

fn key(n: usize) -> Option<u64> {
    Some(hash(format!("user-{n}").as_bytes(), 0))
}

#[test]
fn where_all_are_well_nothing_is_made() {
    let play = Play::new(Balance::RoundRobin, &[&[1, 2]]);
    assert!(play.ready.is_none());
    assert_eq!(play.shares(|_| None).iter().map(|share| (share * 3.0).round()).collect::<Vec<_>>(), [1.0, 2.0]);
}

#[test]
fn shares_are_what_weights_say_of_those_who_are_left() {
    assert_eq!(Play::new(Balance::RoundRobin, &[&[5, 3, 2]]).without(&[1]).shares(|_| None)[1], 0.0);
    let exact = Play::new(Balance::RoundRobin, &[&[3, 7, 1, 4]]).without(&[1]);
    let mut counts = [0; 4];
    (0..8000).filter_map(|_| exact.pick(None, None)).for_each(|index| counts[index] += 1);
    assert_eq!(counts, [3000, 0, 1000, 4000]);
    for balance in [Balance::Random, Balance::LeastRequest, Balance::RingHash, Balance::Maglev] {
        Play::new(balance, &[&[5, 3, 2]]).without(&[1]).close(|_| None, &[5.0 / 7.0, 0.0, 2.0 / 7.0], 0.01);
    }
    for (balance, within) in [(Balance::Maglev, 0.01), (Balance::RingHash, 0.02)] {
        Play::new(balance, &[&[1, 1, 1]]).without(&[1]).close(key, &[0.5, 0.0, 0.5], within);
    }
}

#[test]
fn only_the_keys_of_who_is_out_move() {
    for balance in [Balance::RingHash, Balance::Maglev] {
        for count in [2usize, 3, 5, 10, 20] {
            let weights = vec![1; count];
            let (before, after) = (Play::new(balance, &[&weights]), Play::new(balance, &[&weights]).without(&[count / 2]));
            let mut moved = 0;
            for n in 0..PICKS {
                let (was, is) = (before.pick(key(n), None), after.pick(key(n), None));
                assert!(was == is || was == Some(count / 2), "{balance:?}: a key of another endpoint moved");
                moved += usize::from(was != is);
            }
            assert!(moved as f64 <= 1.5 / count as f64 * PICKS as f64, "{balance:?}: {moved} moved as one of {count} was out");
        }
    }
}

#[test]
fn the_bound_on_load_is_of_those_who_are_left() {
    for balance in [Balance::RingHash, Balance::Maglev] {
        let play = Play::new(balance, &[&[1, 1, 1, 1]]).without(&[0]);
        let mut held = Vec::new();
        for n in 1..=300 {
            held.push(InFlight::enter(&play.figures[play.pick(key(1), None).unwrap()]));
            let most = (1.25 * f64::from(n) / 3.0).ceil();
            assert!(play.figures.iter().all(|figures| f64::from(figures.in_flight()) <= most), "{balance:?} {n}");
        }
        assert_eq!(play.figures[0].in_flight(), 0);
    }
}

#[test]
fn below_half_all_are_used_but_those_that_are_drained() {
    for balance in Balance::ALL {
        let play = Play::new(balance, &[&[1, 1, 1, 1, 1]]).without(&[0, 1]);
        assert!(!play.panics());
        let shares = play.shares(|_| None);
        assert!(shares[..2] == [0.0, 0.0] && shares[2..].iter().all(|&share| share > 0.1 || balance == Balance::PeakEwma));
        let play = play.without(&[2]);
        assert!(play.panics());
        assert!(balance == Balance::PeakEwma || play.shares(|_| None).iter().all(|&share| share > 0.1), "{balance:?}");
        play.figures[0].set_drained(true);
        let play = play.without(&[]);
        assert!(!play.panics(), "2 of 4");
        let play = play.without(&[3]);
        assert!(play.panics());
        assert_eq!(play.shares(|_| None)[0], 0.0);
        let ready = play.ready.as_ref().unwrap();
        assert_eq!([0, 1, 4, 5].map(|index| ready.is_usable(index)), [false, true, true, false]);
    }
}

#[test]
fn nobody_is_picked_where_all_are_drained_or_panic_is_ruled_out() {
    for balance in Balance::ALL {
        let mut play = Play::new(balance, &[&[1, 1], &[1]]);
        play.rules.panic_below = 0;
        let mut play = play.without(&[0, 1, 2]);
        assert_eq!((play.pick(None, None), play.pick(key(1), None)), (None, None));
        play.rules = Rules { panic_below: 500_000, ..RULES };
        play.figures.iter().for_each(|figures| figures.set_drained(true));
        play.renew();
        assert_eq!((play.pick(None, None), play.pick(key(1), None), play.panics()), (None, None, false));
    }
}

#[test]
fn what_is_not_configured_is_not_heeded() {
    let mut play = Play::new(Balance::RoundRobin, &[&[1, 1]]).without(&[0]);
    play.rules = Rules { checks: false, ejects: false, ..RULES };
    play.renew();
    assert!(play.ready.is_none());
}

#[test]
fn levels_spill_over() {
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest, Balance::RingHash, Balance::Maglev] {
        let all = Play::new(balance, &[&[1, 1, 1, 1], &[1, 3]]);
        let close = |play: &Play, wanted: &[f64]| {
            play.close(|_| None, wanted, 0.01);
            play.close(key, wanted, 0.02);
        };
        close(&all, &[0.25, 0.25, 0.25, 0.25, 0.0, 0.0]);
        let half = all.without(&[0, 1]);
        close(&half, &[0.0, 0.0, 0.35, 0.35, 0.075, 0.225]);
        let none = half.without(&[2, 3]);
        close(&none, &[0.0, 0.0, 0.0, 0.0, 0.25, 0.75]);
        assert!(!none.panics());
        let last = none.without(&[4]);
        close(&last, &[0.0, 0.0, 0.0, 0.0, 0.25, 0.75]);
        assert!(last.panics(), "1 of 6, and a half of a level is not enough for all");
    }
}

#[test]
fn another_level_is_better_than_who_was_just_tried() {
    for balance in Balance::ALL {
        let play = Play::new(balance, &[&[1], &[1, 1]]);
        for hash in [None, key(1)] {
            assert_eq!(play.pick(hash, None), Some(0), "{balance:?}");
            assert!(play.pick(hash, Some(0)).is_some_and(|index| index > 0), "{balance:?}");
            assert_eq!(play.pick(hash, Some(1)), Some(0), "{balance:?}");
        }
    }
}

#[test]
fn who_stands_behind_others_has_turns_when_they_are_out() {
    for balance in Balance::ALL {
        let play = Play::new(balance, &[&[3, 0]]).without(&[0]);
        assert_eq!(play.pick(None, None), Some(1), "{balance:?}");
        // It has no place in the tables of keys; those go by chance.
        let keyed = play.pick(key(1), None);
        assert_eq!(keyed, Some(1), "{balance:?}");
    }
}

#[test]
fn who_stands_behind_others_does_not_count_beside_them() {
    // Two names, each with an address that serves and one that nobody can reach.
    let names = Play::new(Balance::RoundRobin, &[&[1, 0, 1, 0]]).without(&[1, 3]);
    names.close(|_| None, &[0.5, 0.0, 0.5, 0.0], 0.01);
    let one = names.without(&[0]);
    assert!(!one.panics(), "1 of 2 is enough");
    one.close(|_| None, &[0.0, 0.0, 1.0, 0.0], 0.0);
    assert!(one.without(&[2]).panics());
    let behind = Play::new(Balance::RoundRobin, &[&[1, 0, 1, 0]]).without(&[0, 2]);
    assert!(!behind.panics());
    behind.close(|_| None, &[0.0, 0.5, 0.0, 0.5], 0.01);
}

#[test]
fn a_new_endpoint_reaches_its_weight_by_and_by() {
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
        let mut play = Play::new(balance, &[&[1, 1]]);
        play.rules.slow_start = Some(20 * SECOND);
        play.now += SECOND;
        play.figures[1].standing.warm_up(play.now);
        let (start, mut steps) = (play.now, Vec::new());
        play.renew();
        while let Some(until) = play.ready.as_ref().and_then(|ready| ready.until) {
            let share = play.shares(|_| None)[1];
            steps.push(share / (1.0 - share));
            assert!(until > play.now && until - play.now <= 3 * SECOND);
            play.now = until;
            play.renew();
        }
        assert_eq!((play.now - start, steps.len()), (20 * SECOND, 18), "once for each twentieth from the second on");
        assert!((steps[0] - 0.1).abs() < 0.01 && (steps[8] - 0.5).abs() < 0.03 && (steps[17] - 0.95).abs() < 0.03, "{steps:?}");
        assert!(play.ready.is_none());
    }
}

#[test]
fn who_comes_back_starts_slowly_where_that_is_configured() {
    let rules = OutlierDetection {
        consecutive_failures: 5.try_into().unwrap(),
        success_rate: None,
        min_requests: 20.try_into().unwrap(),
        interval: 3 * SECOND,
        eject_for: 30 * SECOND,
        eject_max: 300 * SECOND,
        max_ejected: maitred_model::Share::ALL,
    };
    let mut play = Play::new(Balance::Random, &[&[1, 1]]);
    play.rules.slow_start = Some(10 * SECOND);
    assert!((0..5).any(|_| crate::health::attempted(&rules, (&play.figures, 2), (0, true), play.now, |_| {}).is_some()));
    play.renew();
    assert_eq!(play.shares(|_| None), [0.0, 1.0]);
    assert_eq!(play.ready.as_ref().unwrap().until, Some(play.now + 30 * SECOND));
    play.now += 30 * SECOND;
    play.renew();
    play.close(|_| None, &[0.1 / 1.1, 1.0 / 1.1], 0.01);
    play.figures[1].set_healthy(false, play.now);
    play.figures[1].set_healthy(true, play.now);
    play.renew();
    play.close(|_| None, &[0.5, 0.5], 0.01);
    play.now += 10 * SECOND;
    play.renew();
    assert!(play.ready.is_none());
}
