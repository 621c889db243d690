//! A server that is slow, gone, emptied, or says no: nobody waits longer than is written, few wait at all, and it is found again.

use super::member::{Member, ask, on_worker, spec};
use super::server::{Server, is_there};
use maitred_core::limit_table::Pace;
use maitred_core::limits::{SharedCounts, Unanswered};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_millis(100);
/// What a busy machine may add to it.
const GRACE: Duration = Duration::from_millis(150);
/// Wide enough not to matter.
const WIDE: Duration = Duration::from_secs(1);

fn pace() -> Pace {
    Pace::new(100_000, WIDE, 100_000)
}

fn text(server: &Server) -> String {
    format!("{{ url: \"{}\", timeout: 100ms }}", server.url())
}

/// Asks until nobody is kept waiting any more; gives how many waited.
async fn asks_until_it_is_given_up(member: &Member) -> u32 {
    let mut waited = 0;
    for _ in 0..50 {
        let since = Instant::now();
        assert_eq!(member.take(ask(1, pace())).await, Err(Unanswered));
        let time = since.elapsed();
        assert!(time < TIMEOUT + GRACE, "a request waited {time:?}");
        if time < TIMEOUT / 2 {
            return waited;
        }
        waited += 1;
    }
    panic!("all of {waited} waited");
}

#[test]
fn a_server_that_stands_still_keeps_few_waiting_and_none_too_long() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    on_worker(&spec(&text(&server), None), async |member| {
        member.answers(ask(1, pace())).await;
        server.signal("-STOP");
        assert!(asks_until_it_is_given_up(&member).await <= 5);
        let since = Instant::now();
        for _ in 0..1000 {
            assert_eq!(member.take(ask(1, pace())).await, Err(Unanswered));
        }
        assert!(since.elapsed() < GRACE, "a thousand requests took {:?}", since.elapsed());
        let shard = &member.metrics.workers[0];
        assert_eq!((shard.counters_lost.get(), shard.counters_connections.get()), (1, 0));
        server.signal("-CONT");
        let time = member.answers(ask(1, pace())).await;
        println!("found again after {time:?}");
        assert!(time < Duration::from_secs(3), "{time:?}");
        assert_eq!((shard.counters_lost.get(), shard.counters_connections.get()), (0, 1));
        assert!(shard.counters_unanswered.get() <= 6 && shard.counters_unasked.get() >= 1000);
    });
}

#[test]
fn one_request_that_is_late_takes_the_connection_from_nobody_however_much_it_asked() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    on_worker(&spec(&text(&server), None), async |member| {
        member.answers(ask(99, pace())).await;
        server.signal("-STOP");
        let asks: Vec<_> = (0..8).map(|number| ask(number, pace())).collect();
        assert!(member.counters.take(&asks).await.is_err());
        server.signal("-CONT");
        member.answers(ask(99, pace())).await;
        assert_eq!(member.metrics.workers[0].counters_losses.get(), 0);
    });
}

#[test]
fn a_server_that_dies_and_comes_again_is_found_again() {
    if !is_there() {
        return;
    }
    let mut server = Server::start(&[]);
    on_worker(&spec(&text(&server), None), async |member| {
        member.answers(ask(1, pace())).await;
        server.kill();
        let since = Instant::now();
        // What it was told before it died may have been answered.
        while member.take(ask(1, pace())).await.is_ok() {
            assert!(since.elapsed() < GRACE);
        }
        asks_until_it_is_given_up(&member).await;
        server.restart();
        let time = member.answers(ask(1, pace())).await;
        assert!(time < Duration::from_secs(3), "{time:?}");
    });
}

#[test]
fn a_server_that_was_not_there_at_the_beginning_is_found_when_it_comes() {
    if !is_there() {
        return;
    }
    let mut server = Server::start(&[]);
    server.kill();
    on_worker(&spec(&text(&server), None), async |member| {
        let since = Instant::now();
        assert_eq!(member.take(ask(1, pace())).await, Err(Unanswered));
        assert!(since.elapsed() < TIMEOUT + GRACE);
        server.restart();
        let time = member.answers(ask(1, pace())).await;
        assert!(time < Duration::from_secs(3), "{time:?}");
    });
}

#[test]
fn flushed_scripts_are_brought_again_and_flushed_counts_begin_anew() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    on_worker(&spec(&text(&server), None), async |member| {
        let one = ask(1, Pace::new(1, Duration::from_secs(3600), 1));
        member.answers(ask(99, pace())).await;
        assert_eq!(member.take(one).await, Ok(true));
        server.say("SCRIPT FLUSH");
        assert_eq!(member.take(one).await, Ok(false), "answered at once, by the script's text");
        server.say("FLUSHALL");
        assert_eq!(member.take(one).await, Ok(true));
    });
}

#[test]
fn slices_are_used_up_while_the_server_is_gone_and_then_nobody_says_yes() {
    if !is_there() {
        return;
    }
    let mut server = Server::start(&[]);
    let text = format!("{{ url: \"{}\", timeout: 100ms, mode: local_first }}", server.url());
    on_worker(&spec(&text, None), async |member| {
        let one = ask(1, Pace::new(1, Duration::from_secs(3600), 100));
        member.answers(ask(99, pace())).await;
        assert_eq!(member.take(one).await, Ok(true));
        // The slice comes in the background.
        while member.metrics.workers[0].counters_answered.get() < 2 {
            tokio::task::yield_now().await;
        }
        server.kill();
        let mut yes = 1;
        let since = Instant::now();
        while member.take(one).await == Ok(true) {
            yes += 1;
            assert!(since.elapsed() < GRACE * 2);
        }
        assert!((2..=21).contains(&yes), "{yes}");
        asks_until_it_is_given_up(&member).await;
    });
}

#[test]
fn a_server_that_lets_nobody_in_is_no_server() {
    if !is_there() {
        return;
    }
    let server = Server::start(&["--requirepass", "hush"]);
    on_worker(&spec(&text(&server), None), async |member| {
        assert_eq!(member.take(ask(1, pace())).await, Err(Unanswered));
    });
    for url in [format!("redis://:hush@127.0.0.1:{}", server.port), format!("redis://default:hush@127.0.0.1:{}/3", server.port)] {
        on_worker(&spec(&format!("\"{url}\""), None), async |member| {
            member.answers(ask(1, pace())).await;
        });
    }
}
