//! When endpoints are left alone, for how long, and how many at once. Time is an argument.

use super::*;
use crate::balance::{Figures, KnownFigures, Roster};
use crate::{Clock, Remote};
use maitred_model::{OutlierDetection, Share};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> OutlierDetection {
    OutlierDetection {
        consecutive_failures: 5.try_into().unwrap(),
        success_rate: None,
        min_requests: 20.try_into().unwrap(),
        interval: 3 * SECOND,
        eject_for: 30 * SECOND,
        eject_max: 300 * SECOND,
        max_ejected: Share::parse("50%").unwrap(),
    }
}

fn endpoints(count: u16) -> (Arc<Roster>, Vec<Arc<Figures>>) {
    let roster = KnownFigures::new(Clock::default()).roster("u");
    let identity = |port| (Remote::Tcp(([127, 0, 0, 1], port).into()), "".into(), "".into());
    let figures = roster.of((1..=count).map(identity));
    (roster, figures)
}

struct Play {
    _roster: Arc<Roster>,
    figures: Vec<Arc<Figures>>,
    rules: OutlierDetection,
    now: Instant,
}

impl Play {
    fn new(count: u16) -> Play {
        let (_roster, figures) = endpoints(count);
        Play { _roster, figures, rules: rules(), now: Instant::now() }
    }

    fn attempt(&self, index: usize, has_failed: bool) -> Option<Ejection> {
        attempted(&self.rules, (&self.figures, self.figures.len()), (index, has_failed), self.now, |_| {})
    }

    /// Fails until it is ejected; for how long.
    fn eject(&self, index: usize) -> Option<Duration> {
        (0..5).find_map(|_| self.attempt(index, true)).map(|ejection| ejection.time)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn is_out(&self, index: usize) -> bool {
        self.figures[index].state(self.now) == EndpointState::Ejected
    }
}

#[test]
fn the_fifth_failure_in_a_row_ejects() {
    let play = Play::new(3);
    for _ in 0..4 {
        assert_eq!(play.attempt(0, true), None);
    }
    assert_eq!(play.attempt(0, false), None, "one that goes well begins anew");
    for _ in 0..4 {
        assert_eq!(play.attempt(0, true), None);
    }
    assert_eq!(play.attempt(0, true), Some(Ejection { time: 30 * SECOND, cause: Cause::Failures(5) }));
    assert_eq!(play.attempt(0, true), None, "it is already");
    assert!(play.is_out(0) && !play.is_out(1));
    assert_eq!((play.figures[0].requests(), play.figures[0].failures(), play.figures[0].ejections()), (11, 10, 1));
}

#[test]
fn it_comes_back_by_time_alone_and_has_five_more() {
    let mut play = Play::new(3);
    play.eject(0);
    play.attempt(0, false);
    play.pass(29 * SECOND);
    assert!(play.is_out(0), "a success in the while changes nothing");
    play.pass(SECOND + Duration::from_millis(1));
    assert!(!play.is_out(0));
    assert_eq!(let_in(&play.figures, play.now).collect::<Vec<_>>(), [0]);
    assert_eq!(let_in(&play.figures, play.now).count(), 0, "told once");
    assert!((0..4).all(|_| play.attempt(0, true).is_none()));
    assert!(play.attempt(0, true).is_some());
}

#[test]
fn each_ejection_is_longer_up_to_a_bound_and_wellness_is_remembered() {
    let mut play = Play::new(3);
    for times in (1..=9).chain([10, 10, 10]) {
        assert_eq!(play.eject(0), Some(times * 30 * SECOND));
        play.pass(times * 30 * SECOND + SECOND);
        let_in(&play.figures, play.now).for_each(drop);
    }
    play.pass(3 * 30 * SECOND);
    assert_eq!(play.eject(0), Some((10 - 3 + 1) * 30 * SECOND), "three times well is three forgotten");
    play.pass(3600 * SECOND);
    let_in(&play.figures, play.now).for_each(drop);
    play.pass(3600 * SECOND);
    assert_eq!(play.eject(0), Some(30 * SECOND));
}

#[test]
fn so_many_may_be_out_but_one_always() {
    for (count, share, most) in [(1, "50%", 1), (3, "50%", 1), (4, "50%", 2), (10, "25%", 2), (10, "100%", 10), (5, "1%", 1)] {
        let mut play = Play::new(count);
        play.rules.max_ejected = Share::parse(share).unwrap();
        let out = (0..usize::from(count)).filter(|&index| play.eject(index).is_some()).count();
        assert_eq!(out, most, "{share} of {count}");
        // The others go on failing; as soon as one's time is over the next is out, though nobody looked.
        play.pass(31 * SECOND);
        let next = usize::from(count) - 1;
        assert_eq!(play.attempt(next, true).is_some(), most < usize::from(count), "{share} of {count}");
    }
}

#[test]
fn an_endpoint_that_leaves_while_it_is_out_leaves_its_place() {
    let mut play = Play::new(2);
    play.eject(0);
    assert_eq!(play.eject(1), None);
    play.figures.remove(0);
    assert!(play.attempt(0, true).is_some());
}

#[test]
fn one_that_left_and_is_still_asked_has_no_place_among_those_who_are_out() {
    let mut play = Play::new(2);
    play.eject(0);
    // As DNS has it: another in its place, while a tunnel to the first goes on.
    let tunnel = crate::balance::InFlight::enter(&play.figures.remove(0));
    assert!(play.eject(0).is_some(), "the one that is left may be out");
    drop(tunnel);
}

#[test]
fn the_fifth_failure_counts_over_all_workers() {
    for _ in 0..50 {
        let (_roster, figures) = endpoints(3);
        let (rules, now) = (rules(), Instant::now());
        let ejections = std::thread::scope(|scope| {
            let fail = || (0..5).filter(|_| attempted(&rules, (&figures, 3), (1, true), now, |_| {}).is_some()).count();
            let workers = [scope.spawn(fail), scope.spawn(fail)];
            workers.map(|worker| worker.join().unwrap()).iter().sum::<usize>()
        });
        assert_eq!((ejections, figures[1].ejections()), (1, 1));
    }
}

#[test]
fn no_more_are_out_than_may_be_however_many_workers_eject() {
    for _ in 0..50 {
        let (roster, figures) = endpoints(8);
        let (rules, now) = (rules(), Instant::now());
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (rules, figures) = (&rules, &figures);
                scope.spawn(move || {
                    for index in (0..8).map(|step| (step + worker * 2) % 8) {
                        for _ in 0..6 {
                            attempted(rules, (figures, 8), (index, true), now, |_| {});
                        }
                    }
                });
            }
        });
        let out = figures.iter().filter(|figures| figures.ejected_until(now).is_some()).count();
        assert_eq!(out, 4);
        drop(figures);
        drop(roster);
    }
}

#[test]
fn too_few_successes_in_an_interval_eject() {
    let mut play = Play::new(3);
    play.rules.success_rate = Some(Share::parse("90%").unwrap());
    // 3 of 20 fail, never five in a row.
    let interval = |play: &Play| (0..19).find_map(|n| play.attempt(0, n % 7 == 1));
    assert_eq!(play.attempt(0, false), None, "the first begins the interval");
    assert_eq!(interval(&play), None);
    play.pass(3 * SECOND);
    assert_eq!(play.attempt(0, false).map(|ejection| ejection.cause), Some(Cause::Share { failures: 3, requests: 20 }));

    let mut play = Play { rules: play.rules.clone(), ..Play::new(3) };
    play.attempt(0, false);
    assert!((0..10).all(|n| play.attempt(0, n % 2 == 0).is_none()));
    play.pass(3 * SECOND);
    assert_eq!(play.attempt(0, false), None, "11 requests say nothing");
    assert!((0..19).all(|n| play.attempt(0, n % 10 == 0).is_none()));
    play.pass(3 * SECOND);
    assert_eq!(play.attempt(0, false), None, "18 of 20 are 90%");
}

#[test]
fn what_an_endpoint_is() {
    let play = Play::new(1);
    let (figures, now) = (&play.figures[0], play.now);
    assert_eq!(figures.state(now), EndpointState::Healthy);
    play.eject(0);
    assert_eq!(figures.state(now), EndpointState::Ejected);
    figures.set_healthy(false, now);
    assert_eq!(figures.state(now), EndpointState::Unhealthy);
    figures.set_drained(true);
    assert_eq!(figures.state(now), EndpointState::Drained);
    figures.set_drained(false);
    figures.set_healthy(true, now);
    assert_eq!(figures.state(now).as_str(), "ejected");
}

#[test]
fn every_change_moves_the_epoch_once() {
    let (roster, figures) = endpoints(2);
    let (now, mut seen) = (Instant::now(), roster.changes.epoch());
    let mut moved = || {
        let moved = roster.changes.epoch() - seen;
        seen += moved;
        moved
    };
    figures[0].set_healthy(true, now);
    figures[0].set_drained(false);
    assert_eq!(moved(), 0);
    figures[0].set_healthy(false, now);
    figures[0].set_healthy(false, now);
    assert_eq!(moved(), 1);
    figures[0].set_drained(true);
    assert_eq!(moved(), 1);
    assert!((0..5).any(|_| attempted(&rules(), (&figures, figures.len()), (1, true), now, |_| {}).is_some()));
    assert_eq!(moved(), 1);
    let_in(&figures, now + 31 * SECOND).for_each(drop);
    assert_eq!(moved(), 1);
}
