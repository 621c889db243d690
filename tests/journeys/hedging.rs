//! A second request beside one that takes long: when, where, and what becomes of the slower one.

use maitred_core::metrics::{Counter, UpstreamShard};
use maitred_testkit::h2::code;
use maitred_testkit::{Backend, Client, Gateway, H2Backend, Latch, eventually, gateway};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

fn hedging(upstream: &str, endpoints: &[SocketAddr]) -> Gateway {
    let names: Vec<String> = (0..endpoints.len()).map(|at| format!("e{at}")).collect();
    let urls: Vec<String> = names.iter().map(|name| format!("\"http://${name}\"")).collect();
    let yaml = format!(
        "upstreams: {{ kitchen: {{ endpoints: [ {} ], {upstream} }} }}
apis: {{ all: {{ routes: [ ANY /: kitchen ] }} }}",
        urls.join(", ")
    );
    let named: Vec<(&str, SocketAddr)> = names.iter().map(String::as_str).zip(endpoints.iter().copied()).collect();
    gateway(&yaml, &named)
}

/// Answers nobody; counts those who gave up.
fn hung() -> (Backend, Arc<AtomicU64>) {
    let left = Arc::new(AtomicU64::new(0));
    let leaving = left.clone();
    let backend = Backend::new(move |_, conn| {
        conn.body();
        if conn.peer_leaves() {
            leaving.fetch_add(1, SeqCst);
        }
    });
    (backend, left)
}

fn hedges(gateway: &Gateway) -> (u64, u64) {
    let upstreams = gateway.metrics().upstreams();
    let sum = |of: fn(&UpstreamShard) -> &Counter| upstreams.iter().map(|upstream| upstream.sum(of)).sum();
    (sum(|shard| &shard.hedges), sum(|shard| &shard.hedges_won))
}

/// Sends a request, and turns the clock while nothing comes.
#[track_caller]
fn ask(gateway: &Gateway, client: &mut Client, request: &str) -> String {
    client.send(request);
    client.until_readable(|| gateway.turn(Duration::from_millis(5)));
    client.response().text()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn the_first_answer_counts_and_the_slower_request_is_given_up() {
    let ((slow, left), fast) = (hung(), Backend::named("fast"));
    let gateway = hedging("hedge: { after: 50ms }", &[slow.address(), fast.address()]);
    let mut client = gateway.client();
    for _ in 0..6 {
        assert_eq!(ask(&gateway, &mut client, GET), "fast");
    }
    assert_eq!((slow.count(), fast.count()), (3, 6));
    assert_eq!(hedges(&gateway), (3, 3));
    eventually("the slow ones are closed", || left.load(SeqCst) == 3);
}

#[test]
fn one_that_is_answered_in_time_stands_alone() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let gateway = hedging("hedge: { after: 10s }", &[one.address(), two.address()]);
    let mut client = gateway.client();
    (0..10).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!((one.count(), two.count(), hedges(&gateway)), (5, 5, (0, 0)));
    assert_eq!((one.connections(), two.connections()), (1, 1), "and its connection is used again");
}

#[test]
fn the_first_request_may_win_after_all() {
    let asked = Latch::new();
    let (release, waiting) = (asked.clone(), asked.clone());
    let first = Backend::new(move |_, conn| {
        conn.wait(&waiting);
        conn.answer(200, "", "first");
    });
    let second = Backend::new(move |_, conn| {
        release.open();
        conn.peer_leaves();
    });
    let gateway = hedging("hedge: { after: 50ms }", &[first.address(), second.address()]);
    // Whichever of the two has the first turn.
    if ask(&gateway, &mut gateway.client(), GET) == "first" {
        assert_eq!(hedges(&gateway).0, 1);
    }
    eventually("the second is closed", || second.open() == 0);
}

#[test]
fn what_may_not_be_repeated_has_no_second_request() {
    for (method, endpoints) in [("POST", 2), ("GET", 1)] {
        let release = Latch::new();
        let slow = |name: &'static str| {
            let release = release.clone();
            Backend::new(move |_, conn| {
                conn.body();
                conn.wait(&release);
                conn.answer(200, "", name);
            })
        };
        let (one, two) = (slow("one"), slow("two"));
        let gateway = hedging("hedge: { after: 50ms }", &[one.address(), two.address()][..endpoints]);
        let mut client = gateway.client();
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        eventually("it is there", || one.count() + two.count() == 1);
        gateway.turn(Duration::from_secs(1));
        // A round trip: the worker has looked at its clock.
        assert_eq!(gateway.get("/%zz").status, 400);
        release.open();
        assert_eq!(client.response().status, 200);
        assert_eq!((one.count() + two.count(), hedges(&gateway)), (1, (0, 0)), "{method}, {endpoints} endpoints");
    }
}

#[test]
fn a_whole_body_goes_to_both() {
    let ((slow, _left), fast) = (hung(), Backend::echo());
    let gateway = hedging("hedge: { after: 50ms }", &[slow.address(), fast.address()]);
    let mut client = gateway.client();
    for _ in 0..2 {
        let answer = ask(&gateway, &mut client, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert!(answer.contains("\"body\":\"hello\""), "{answer}");
    }
    assert_eq!((slow.only().body.as_slice(), fast.count()), (b"hello".as_slice(), 2));
}

#[test]
fn the_slower_stream_of_http_2_is_cancelled() {
    let cancelled = Arc::new(AtomicU64::new(0));
    let codes = cancelled.clone();
    let slow = H2Backend::new(move |_, stream| {
        if stream.cancelled() == Some(code::CANCEL) {
            codes.fetch_add(1, SeqCst);
        }
    });
    let fast = H2Backend::named("fast");
    let gateway = hedging("protocol: h2c, hedge: { after: 50ms }", &[slow.address(), fast.address()]);
    let mut client = gateway.client();
    for _ in 0..4 {
        assert_eq!(ask(&gateway, &mut client, GET), "fast");
    }
    eventually("both are cancelled", || cancelled.load(SeqCst) == 2);
    assert_eq!((slow.connections(), fast.connections()), (1, 1), "the connections live on");
}

#[test]
fn a_failure_does_not_win_where_it_is_worth_a_retry() {
    let release = Latch::new();
    let waiting = release.clone();
    let good = Backend::new(move |_, conn| {
        conn.wait(&waiting);
        conn.answer(200, "", "good");
    });
    let failing = Backend::new(move |_, conn| {
        conn.answer(503, "", "bad");
        release.open();
    });
    let upstream = "hedge: { after: 50ms }, retry: { attempts: 2, backoff: 1ms }";
    let gateway = hedging(upstream, &[good.address(), failing.address()]);
    let mut client = gateway.client();
    for _ in 0..4 {
        assert_eq!(ask(&gateway, &mut client, GET), "good");
    }
}

#[test]
fn second_requests_are_paid_for_like_retries() {
    let (slow, fast) = (hung().0, Backend::named("fast"));
    let upstream = "hedge: { after: 5ms }, retry: { attempts: 1, budget: 10% }, timeouts: { response: 100ms }";
    let gateway = hedging(upstream, &[slow.address(), fast.address()]);
    let mut client = gateway.client();
    for _ in 0..100 {
        ask(&gateway, &mut client, GET);
    }
    let (sent, _) = hedges(&gateway);
    assert!((15..=10 + 10).contains(&sent), "{sent} sent");
    // Half of them began there; one that is given up at once may not be read. On a busy machine the fast one is not always fast, and then the
    // second request goes to the slow one.
    let most = 50 + usize::try_from(sent).expect("a few");
    eventually("every other one begins at the slow one", || (45..=most).contains(&slow.count()));
}

#[test]
fn a_percentile_is_that_of_recent_answers() {
    let slow = Latch::new();
    let waiting = slow.clone();
    let two = Backend::named("two");
    let one = Backend::new(move |request, conn| {
        if request.header("x-slow").is_some() {
            conn.wait(&waiting);
        }
        conn.answer(200, "", "one");
    });
    let gateway = hedging("hedge: { after: p95 }", &[one.address(), two.address()]);
    let mut client = gateway.client();
    (0..200).for_each(|_| assert_eq!(client.get("/").status, 200));
    let before = hedges(&gateway).0;
    assert!(before <= 60, "{before} of 200 answers that all came at once");
    for _ in 0..2 {
        assert_eq!(ask(&gateway, &mut client, "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: 1\r\n\r\n"), "two");
    }
    assert!(hedges(&gateway).1 >= 1);
    slow.open();
}

#[test]
fn the_log_tells() {
    let folder = maitred_testkit::Folder::new();
    let path = folder.path("access.log");
    let (slow, fast) = (hung().0, Backend::named("fast"));
    let yaml = format!(
        "telemetry: {{ access_log: {{ to: {} }} }}
upstreams: {{ kitchen: {{ endpoints: [ \"http://$slow\", \"http://$fast\" ], hedge: {{ after: 50ms }} }} }}
apis: {{ all: {{ routes: [ ANY /: kitchen ] }} }}",
        path.display()
    );
    let gateway = gateway(&yaml, &[("slow", slow.address()), ("fast", fast.address())]);
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_eq!(ask(&gateway, &mut client, GET), "fast");
    }
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("two lines", || read().lines().count() == 2);
    let lines: Vec<serde_json::Value> = read().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let hedged: Vec<_> = lines.iter().filter(|line| line["hedge"] == "won").collect();
    let [line] = hedged[..] else { panic!("{lines:?}") };
    assert_eq!((line["attempts"].as_u64(), line["endpoint"].as_str()), (Some(2), Some(&*fast.address().to_string())));
}
