//! Shares, and what moves when an endpoint leaves. Chance is seeded: each run is the same.

use super::*;
use std::time::Duration;

const PICKS: usize = 100_000;

fn members(weights: &[u32]) -> Vec<Member> {
    let member = |(index, &weight): (usize, &u32)| Member { weight, hash: hash(format!("10.0.0.{index}:9000").as_bytes(), 0) };
    weights.iter().enumerate().map(member).collect()
}

struct Play {
    members: Vec<Member>,
    figures: Vec<Arc<Figures>>,
    picker: Picker,
    chance: Chance,
    turn: Cell<usize>,
    now: Instant,
}

impl Play {
    fn new(balance: Balance, members: Vec<Member>) -> Play {
        let now = Instant::now();
        let figures = members.iter().map(|_| Arc::new(Figures::new(now))).collect();
        let picker = Picker::new(balance, &members);
        Play { members, figures, picker, chance: Chance::seeded(7), turn: Cell::new(0), now }
    }

    fn pick(&self, hash: Option<u64>) -> usize {
        self.pick_but(hash, None)
    }

    fn pick_but(&self, hash: Option<u64>, avoid: Option<usize>) -> usize {
        let Play { members, figures, chance, .. } = self;
        self.picker.pick(&self.turn, || self.now, &Asked { members, figures, hash, chance, avoid }).expect("somebody")
    }

    /// In parts of 1.
    fn shares(&self, key: impl Fn(usize) -> Option<u64>) -> Vec<f64> {
        let mut counts = vec![0usize; self.members.len()];
        for n in 0..PICKS {
            counts[self.pick(key(n))] += 1;
        }
        counts.iter().map(|&count| count as f64 / PICKS as f64).collect()
    }
}

fn key(n: usize) -> u64 {
    hash(format!("user-{n}").as_bytes(), 0)
}

#[track_caller]
fn close(shares: &[f64], weights: &[u32], within: f64) {
    let total: u32 = weights.iter().sum();
    for (share, &weight) in shares.iter().zip(weights) {
        let wanted = f64::from(weight) / f64::from(total);
        assert!((share - wanted).abs() <= within, "{shares:?} for {weights:?}");
    }
}

#[test]
fn round_robin_is_exact() {
    let weights = [5, 3, 2];
    let shares = Play::new(Balance::RoundRobin, members(&weights)).shares(|_| None);
    assert_eq!(shares, [0.5, 0.3, 0.2]);
}

#[test]
fn shares_are_what_weights_say() {
    for weights in [&[1, 1, 1][..], &[5, 3, 2], &[1, 0, 9], &[100, 1, 7, 30], &[1]] {
        for balance in [Balance::Random, Balance::LeastRequest, Balance::RingHash, Balance::Maglev] {
            let play = Play::new(balance, members(weights));
            close(&play.shares(|_| None), weights, 0.01);
        }
        close(&Play::new(Balance::Maglev, members(weights)).shares(|n| Some(key(n))), weights, 0.01);
    }
    for weights in [[1, 1, 1], [5, 3, 2]] {
        close(&Play::new(Balance::RingHash, members(&weights)).shares(|n| Some(key(n))), &weights, 0.02);
    }
}

#[test]
fn least_request_keeps_shares_under_equal_load() {
    let weights = [4, 2, 2];
    let play = Play::new(Balance::LeastRequest, members(&weights));
    let _held: Vec<InFlight> =
        play.figures.iter().zip(weights).flat_map(|(figures, weight)| (0..weight).map(|_| InFlight::enter(figures))).collect();
    close(&play.shares(|_| None), &weights, 0.01);
}

#[test]
fn least_request_prefers_who_has_less_to_do_for_its_weight() {
    let play = Play::new(Balance::LeastRequest, members(&[4, 1]));
    let held: Vec<InFlight> = (0..3).map(|_| InFlight::enter(&play.figures[0])).collect();
    let one = InFlight::enter(&play.figures[1]);
    assert_eq!(play.shares(|_| None), [1.0, 0.0], "3 of 4 is less than 1 of 1");
    drop(one);
    assert_eq!(play.shares(|_| None), [0.0, 1.0]);
    drop(held);
    assert_eq!(play.figures[0].in_flight(), 0);
}

#[test]
fn peak_ewma_avoids_the_slow_and_forgets_by_and_by() {
    let mut play = Play::new(Balance::PeakEwma, members(&[1, 1]));
    for (figures, millis) in play.figures.iter().zip([10, 100]) {
        figures.observe(Duration::from_millis(millis), play.now);
    }
    close(&play.shares(|_| None), &[1, 0], 0.01); // but for looks at whether it has recovered
    let held: Vec<InFlight> = (0..10).map(|_| InFlight::enter(&play.figures[0])).collect();
    // Eleven times 10 ms is longer.
    close(&play.shares(|_| None), &[0, 1], 0.01);
    drop(held);
    // The fast one goes on answering while the other's average fades.
    play.now += Duration::from_secs(11);
    play.figures[0].observe(Duration::from_millis(10), play.now);
    close(&play.shares(|_| None), &[1, 0], 0.01); // but for looks at whether it has recovered
    play.now += Duration::from_secs(2);
    play.figures[0].observe(Duration::from_millis(10), play.now);
    // It is tried again.
    close(&play.shares(|_| None), &[0, 1], 0.01);
}

#[test]
fn peak_ewma_sees_a_peak_at_once_and_its_end_slowly() {
    let now = Instant::now();
    let figures = Figures::new(now);
    let millis = |later: u64| figures.latency(now + Duration::from_secs(later)) / 1e6;
    figures.observe(Duration::from_millis(10), now);
    figures.observe(Duration::from_millis(500), now);
    assert!((millis(0) - 500.0).abs() < 0.1);
    figures.observe(Duration::from_millis(10), now + Duration::from_secs(1));
    assert!((350.0..450.0).contains(&millis(1)), "{}", millis(1));
}

#[test]
fn peak_ewma_looks_again_at_who_failed() {
    let play = Play::new(Balance::PeakEwma, members(&[1, 1, 1]));
    for (figures, millis) in play.figures.iter().zip([10, 10, 1000]) {
        figures.observe(Duration::from_millis(millis), play.now);
    }
    play.figures[2].count(true);
    let share = play.shares(|_| None)[2];
    assert!((0.003..0.008).contains(&share), "a third of one in 64: {share}");
    assert!(play.figures[2].fails());
    // It answers again: what the failure counted as is forgotten.
    play.figures[2].forget();
    play.figures[2].observe(Duration::from_millis(10), play.now);
    close(&play.shares(|_| None), &[1, 1, 1], 0.02);
}

#[test]
fn an_unknown_endpoint_is_tried_by_one_request() {
    let play = Play::new(Balance::PeakEwma, members(&[1, 1]));
    play.figures[0].observe(Duration::from_millis(10), play.now);
    assert_eq!(play.pick(None), 1);
    let _trying = InFlight::enter(&play.figures[1]);
    assert_eq!(play.pick(None), 0);
}

#[test]
fn few_keys_move_when_an_endpoint_leaves() {
    for balance in [Balance::RingHash, Balance::Maglev] {
        for count in [2, 3, 5, 10, 20] {
            let before = Play::new(balance, members(&vec![1; count]));
            let gone = count / 2;
            let left: Vec<Member> =
                before.members.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, member)| *member).collect();
            let after = Play::new(balance, left);
            let owner = |play: &Play, n| play.members[play.pick(Some(key(n)))].hash;
            let moved = (0..PICKS).filter(|&n| owner(&before, n) != owner(&after, n)).count();
            let most = 1.5 / count as f64 * PICKS as f64;
            assert!((moved as f64) <= most, "{balance:?}: {moved} of {PICKS} keys moved as one of {count} left");
        }
    }
}

#[test]
fn the_order_of_endpoints_does_not_count_for_keys() {
    for balance in [Balance::RingHash, Balance::Maglev] {
        let forwards = Play::new(balance, members(&[3, 1, 2, 2]));
        let backwards = Play::new(balance, forwards.members.iter().rev().copied().collect());
        assert!((0..1000).all(|n| forwards.pick(Some(key(n))) == 3 - backwards.pick(Some(key(n)))));
    }
}

#[test]
fn keys_overflow_at_five_quarters_of_a_share() {
    for balance in [Balance::RingHash, Balance::Maglev] {
        let play = Play::new(balance, members(&[1, 1, 2]));
        // Everybody wants the same key.
        let mut held = Vec::new();
        for n in 1..=400 {
            held.push(InFlight::enter(&play.figures[play.pick(Some(key(1)))]));
            for (figures, member) in play.figures.iter().zip(&play.members) {
                let bound = (1.25 * f64::from(n) * f64::from(member.weight) / 4.0).ceil();
                assert!(f64::from(figures.in_flight()) <= bound.max(1.0), "{balance:?} {n}");
            }
        }
        let home = {
            held.clear();
            play.pick(Some(key(1)))
        };
        assert!((0..100).all(|_| play.pick(Some(key(1))) == home), "at rest a key has one home");
    }
}

#[test]
fn nobody_is_picked_where_nobody_is() {
    let (chance, now) = (Chance::seeded(1), Instant::now());
    for balance in Balance::ALL {
        for members in [members(&[]), members(&[0, 0])] {
            let figures: Vec<_> = members.iter().map(|_| Arc::new(Figures::new(now))).collect();
            for hash in [None, Some(5)] {
                let asked = Asked { members: &members, figures: &figures, hash, chance: &chance, avoid: None };
                assert_eq!(Picker::new(balance, &members).pick(&Cell::new(0), || now, &asked), None, "{balance:?}");
            }
        }
    }
}

#[test]
fn who_was_just_tried_is_picked_only_where_there_is_no_other() {
    for balance in Balance::ALL {
        for hash in [None, Some(key(3))] {
            for weights in [&[1, 1][..], &[5, 3, 2], &[1, 0, 9]] {
                let play = Play::new(balance, members(weights));
                for tried in (0..weights.len()).filter(|&index| weights[index] > 0) {
                    for _ in 0..200 {
                        let picked = play.pick_but(hash, Some(tried));
                        assert!(picked != tried && weights[picked] > 0, "{balance:?} {weights:?}");
                    }
                }
            }
            assert_eq!(Play::new(balance, members(&[0, 1])).pick_but(hash, Some(1)), 1, "{balance:?}");
        }
    }
}
