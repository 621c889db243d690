//! Three workers, as of three gateways, and one server: what they let through together.

use super::member::{ask, on_worker, spec};
use super::server::{Server, is_there};
use maitred_core::limit_table::Pace;
use maitred_core::limits::{Ask, AskQuota, LimitId, SharedCounts};
use maitred_transport::CountersSpec;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const MEMBERS: usize = 3;
const RATE: u32 = 2_000;
const BURST: u32 = 300;

fn seconds() -> Duration {
    Duration::from_secs(if std::env::var_os("MAITRED_LONG").is_some() { 60 } else { 2 })
}

struct Flooded {
    allowed: u64,
    /// What is written for the time between the first question and the last, and for that in which all asked.
    most: f64,
    least: f64,
    /// What questions took, sorted.
    times: Vec<Duration>,
}

/// Everybody asks, at three times the rate together.
fn flood(spec: impl Fn() -> Arc<CountersSpec> + Sync) -> Flooded {
    let pace = Pace::new(RATE, Duration::from_secs(1), BURST);
    let (allowed, barrier, start) = (AtomicU64::new(0), Barrier::new(MEMBERS), Instant::now());
    let member = || {
        on_worker(&spec(), async |member| {
            member.answers(ask(99, pace)).await;
            barrier.wait();
            let first = Instant::now();
            let mut times = Vec::new();
            let mut tick = tokio::time::interval(Duration::from_millis(2));
            while first.elapsed() < seconds() {
                tick.tick().await;
                for _ in 0..RATE as usize * 3 / MEMBERS / 500 {
                    let since = Instant::now();
                    let answer = member.take(ask(1, pace)).await.expect("an answer in time");
                    times.push(since.elapsed());
                    allowed.fetch_add(u64::from(answer), Ordering::Relaxed);
                }
            }
            (first - start, start.elapsed(), times)
        })
    };
    let ends: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..MEMBERS).map(|_| scope.spawn(member)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a member")).collect()
    });
    let written = |from: Option<&Duration>, to: Option<&Duration>| {
        let time = to.expect("members").saturating_sub(*from.expect("members"));
        time.as_secs_f64() * f64::from(RATE) + f64::from(BURST)
    };
    let (begun, ended): (Vec<_>, Vec<_>) = ends.iter().map(|(first, last, _)| (*first, *last)).unzip();
    let most = written(begun.iter().min(), ended.iter().max());
    let least = written(begun.iter().max(), ended.iter().min());
    let mut times: Vec<_> = ends.into_iter().flat_map(|(.., times)| times).collect();
    times.sort_unstable();
    Flooded { allowed: allowed.into_inner(), most, least, times }
}

#[test]
fn a_fleet_that_asks_each_time_lets_through_what_is_written() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    let text = format!("{{ url: \"{}\", timeout: 2s }}", server.url());
    let Flooded { allowed, most, least, times } = flood(|| spec(&text, None));
    println!("exact: {allowed}, written {least:.1} to {most:.1}; median {:?}", times[times.len() / 2]);
    assert!(allowed as f64 <= most + 1.0, "{allowed} of {most}");
    // What came to be free in the last 20 ms may have been asked for by nobody.
    assert!(allowed as f64 >= least * 0.999 - f64::from(RATE / 50), "{allowed} of {least}");
}

#[test]
fn slices_ahead_let_through_no_more_than_one_for_each_worker_beyond_it_and_take_no_time() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    let text = format!("{{ url: \"{}\", timeout: 2s, mode: local_first }}", server.url());
    let Flooded { allowed, most, least, times } = flood(|| spec(&text, None));
    let (bound, median) = (most + f64::from(MEMBERS as u32 * BURST / 10), times[times.len() / 2]);
    println!("ahead: {allowed}, written {least:.1} to {most:.1}, at most {bound:.1}; median {median:?}");
    assert!(allowed as f64 <= bound + 1.0, "{allowed} of {bound}");
    // What other workers have ahead is not used up at the end.
    assert!(allowed as f64 >= least * 0.999 - f64::from(MEMBERS as u32 * BURST / 10), "{allowed} of {least}");
    assert!(median < Duration::from_micros(50), "nearly no request waits for the server");
}

#[test]
fn limits_asked_together_are_answered_in_their_order_and_what_is_given_back_is_there_again() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    on_worker(&spec(&server.url(), None), async |member| {
        let (wide, narrow) =
            (ask(1, Pace::new(1, Duration::from_secs(3600), 5)), ask(2, Pace::new(1, Duration::from_secs(3600), 1)));
        member.answers(ask(99, wide.pace)).await;
        let verdicts = member.counters.take(&[wide, narrow]).await.expect("an answer");
        assert_eq!(verdicts.iter().map(|one| (one.allowed, one.remaining)).collect::<Vec<_>>(), [(true, 4), (true, 0)]);
        let verdicts = member.counters.take(&[wide, narrow]).await.expect("an answer");
        assert_eq!(verdicts.iter().map(|one| (one.allowed, one.remaining)).collect::<Vec<_>>(), [(true, 3), (false, 0)]);
        assert!(verdicts[1].retry_after() > Duration::from_secs(3590));
        member.counters.give_back(&[wide]);
        member.counters.owe(narrow);
        let verdicts = member.counters.take(&[wide, narrow]).await.expect("an answer");
        assert_eq!(verdicts[0].remaining, 3, "one was given back");
        assert_eq!(
            verdicts[1].full_in().as_secs(),
            verdicts[1].full_in().as_secs().min(3600),
            "no more is owed than the limit has"
        );
    });
    let keys = server.say("KEYS *");
    for key in keys.list().expect("a list") {
        assert!(key.text().expect("text").starts_with("maitred:{0000000000000abc:"), "{key:?}");
    }
}

#[test]
fn a_request_that_goes_away_while_it_is_asked_for_gives_back() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    on_worker(&spec(&format!("{{ url: \"{}\", timeout: 2s }}", server.url()), None), async |member| {
        let one = ask(1, Pace::new(1, Duration::from_secs(3600), 5));
        member.answers(ask(99, one.pace)).await;
        let asks = [one];
        let mut asked = member.counters.take(&asks);
        // It is sent, and not answered.
        std::future::poll_fn(|cx| {
            assert!(asked.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        drop(asked);
        let since = Instant::now();
        loop {
            let left = member.counters.take(&asks).await.expect("an answer")[0].remaining;
            member.counters.give_back(&asks);
            if left == 4 {
                break;
            }
            assert!(since.elapsed() < Duration::from_secs(5), "{left} are left");
        }
    });
}

#[test]
fn a_request_that_goes_away_between_slices_and_the_server_keeps_no_slice() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    let text = format!("{{ url: \"{}\", timeout: 2s, mode: local_first }}", server.url());
    on_worker(&spec(&text, None), async |member| {
        let sliced = ask(1, Pace::new(1, Duration::from_secs(3600), 100));
        // Who waits for a turn is judged by the server.
        let asked = ask(2, Pace::new(1, Duration::from_secs(3600), 100).patient(Duration::from_secs(1)));
        member.answers(ask(99, asked.pace)).await;
        let polled = |asks: [Ask; 2], count: usize| {
            let mut taking = member.counters.take(&asks[..count]);
            let is_ready = taking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
            drop(taking);
            is_ready
        };
        for _ in 0..50 {
            assert!(!polled([sliced, asked], 2), "the server has to be asked");
        }
        assert!(polled([sliced, asked], 1), "the slice is whole");
    });
}

#[test]
fn what_is_given_back_forgives_nothing_of_what_is_owed_beyond_the_burst() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    let text = format!("{{ url: \"{}\", timeout: 2s, mode: local_first }}", server.url());
    on_worker(&spec(&text, None), async |member| {
        let one = ask(1, Pace::new(1, Duration::from_secs(3600), 2).patient(Duration::from_nanos(1)));
        member.answers(ask(99, one.pace)).await;
        member.counters.owe(Ask { units: 9, ..one });
        member.counters.give_back(&[one]);
        let full_in = member.counters.take(&[one]).await.expect("an answer")[0].full_in();
        assert!(full_in > Duration::from_secs(7 * 3600), "{full_in:?}: eight are owed");
    });
}

#[test]
fn a_quota_is_spent_once_by_all_together_and_ends_with_its_period() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    let spent = AtomicU64::new(0);
    let quota = |period| AskQuota {
        limit: LimitId(5),
        key: super::member::key(5),
        period,
        ends_in: Duration::from_secs(60),
        most: 100,
        units: 1,
        owed: 0,
    };
    let member = || {
        on_worker(&spec(&format!("{{ url: \"{}\", timeout: 2s }}", server.url()), None), async |member| {
            member.answers(ask(99, Pace::new(1, Duration::from_secs(1), 9))).await;
            for _ in 0..60 {
                let answer = member.counters.spend(quota(1)).await.expect("an answer");
                spent.fetch_add(u64::from(answer.is_ok()), Ordering::Relaxed);
            }
            assert_eq!(member.counters.spend(quota(1)).await, Ok(Err(100)));
            assert!(member.counters.spend(quota(2)).await.expect("an answer").is_ok(), "another period");
        });
    };
    std::thread::scope(|scope| (0..MEMBERS).for_each(|_| drop(scope.spawn(member))));
    assert_eq!(spent.into_inner(), 100);
    let keys = server.say("KEYS *:1");
    let key = keys.list().expect("a list")[0].text().expect("text").to_owned();
    let left = server.say(&format!("PTTL {key}")).integer().expect("a number");
    assert!((3_600_000..=3_660_000).contains(&left), "{left} ms");
}

#[test]
fn a_quota_that_nobody_waits_for_any_more_is_given_back_and_what_is_owed_is_counted_where_there_is_no_room() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    let one = AskQuota {
        limit: LimitId(5),
        key: super::member::key(5),
        period: 1,
        ends_in: Duration::from_secs(60),
        most: 10,
        units: 1,
        owed: 0,
    };
    on_worker(&spec(&format!("{{ url: \"{}\", timeout: 2s }}", server.url()), None), async |member| {
        member.answers(ask(99, Pace::new(1, Duration::from_secs(1), 9))).await;
        let mut asked = member.counters.spend(AskQuota { units: 3, owed: 4, ..one });
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(asked);
        assert!(member.counters.spend(one).await.expect("an answer").is_ok());
        // Its answer came before this one's, and what undoes it went out before this.
        assert_eq!(member.counters.spend(one).await, Ok(Ok(2)));
        assert_eq!(member.counters.spend(AskQuota { owed: 8, ..one }).await, Ok(Err(10)), "it was used, whatever is left");
        let mut asked = member.counters.spend(AskQuota { owed: 5, ..one });
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(asked);
        assert_eq!(member.counters.spend(one).await, Ok(Err(15)), "the answer comes before it is undone");
        assert_eq!(member.counters.spend(one).await, Ok(Err(10)), "no unit was taken, and what was owed is not owed twice");
    });
}
