//! Three gateways, each with its clients, and one server: what clients see of a limit that the gateways share.

use super::server::{Server, is_there};
use maitred_testkit::{Client, Folder, Gateway, eventually, gateway_with};
use std::sync::Barrier;
use std::time::{Duration, Instant};

const GATEWAYS: usize = 3;
const RATE: u32 = 500;
const BURST: u32 = 100;
/// What a busy machine may add to `timeout`.
const GRACE: Duration = Duration::from_millis(200);

fn fleet(counters: &str, rate: u32, burst: u32) -> Vec<Gateway> {
    let text = format!(
        "
secret_key: ${{file:secret.key}}
counters: {counters}
apis:
  shop:
    routes:
      - match: GET /
        rate_limit: {{ rate: {rate}/s, burst: {burst}, by: \"header:x-who\" }}
        respond: {{ status: 204 }}
"
    );
    let files = [("secret.key", "0123456789abcdef0123456789abcdef".to_owned())];
    (0..GATEWAYS).map(|_| gateway_with(&text, &[], &files)).collect()
}

fn ask(client: &mut Client, who: &str) -> u16 {
    client.request("GET", "/", &format!("x-who: {who}\r\n"), "").status
}

/// Until the gateways are connected: on_failure counts until then.
fn connected(gateways: &[Gateway]) {
    let connections = |gateway: &Gateway| gateway.metrics().workers[0].counters_connections.get();
    eventually("all are connected", || gateways.iter().all(|gateway| connections(gateway) == 1));
}

/// Everybody asks for as long as it takes. Gives what was let through, and how long it took in all.
fn flood(gateways: &[Gateway], time: Duration) -> (u32, Duration) {
    let (barrier, start) = (Barrier::new(gateways.len()), Instant::now());
    let work = |gateway: &Gateway| {
        let mut client = gateway.client();
        barrier.wait();
        let begun = Instant::now();
        let mut passed = 0;
        while begun.elapsed() < time {
            match ask(&mut client, "alice") {
                204 => passed += 1,
                429 => {}
                status => panic!("answered {status}"),
            }
        }
        (passed, begun - start, start.elapsed())
    };
    let ends: Vec<(u32, Duration, Duration)> = std::thread::scope(|scope| {
        let threads: Vec<_> = gateways.iter().map(|gateway| scope.spawn(move || work(gateway))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
    let begun = ends.iter().map(|(_, begun, _)| *begun).min().expect("clients");
    let ended = ends.iter().map(|(.., ended)| *ended).max().expect("clients");
    (ends.iter().map(|(passed, ..)| passed).sum(), ended - begun)
}

#[test]
fn three_gateways_let_through_what_is_written_for_one() {
    if !is_there() {
        return;
    }
    for (mode, ahead) in [("exact", 0), ("local_first", GATEWAYS as u32 * BURST / 10)] {
        let server = Server::start(&[]);
        let gateways = fleet(&format!("{{ url: \"{}\", mode: {mode}, timeout: 2s }}", server.url()), RATE, BURST);
        connected(&gateways);
        let seconds = if std::env::var_os("MAITRED_LONG").is_some() { 60 } else { 2 };
        let (passed, time) = flood(&gateways, Duration::from_secs(seconds));
        let written = time.as_secs_f64() * f64::from(RATE) + f64::from(BURST);
        println!("{mode}: {passed} of {written:.1}");
        assert!(f64::from(passed) <= written + f64::from(ahead) + 1.0, "{mode}: {passed} of {written}");
        assert!(f64::from(passed) >= written * 0.999 - f64::from(RATE / 50 + ahead), "{mode}: {passed} of {written}");
    }
}

#[test]
fn what_becomes_of_requests_while_the_server_stands_still_is_what_is_written() {
    if !is_there() {
        return;
    }
    for (on_failure, passing, status) in [("closed", 0, 503), ("local", 5, 429), ("open", 20, 204)] {
        let server = Server::start(&[]);
        let gateways = fleet(&format!("{{ url: \"{}\", timeout: 100ms, on_failure: {on_failure} }}", server.url()), 1, 5);
        connected(&gateways);
        let mut clients: Vec<Client> = gateways.iter().map(Gateway::client).collect();
        assert_eq!(ask(&mut clients[0], "alice"), 204);
        server.signal("-STOP");
        for client in &mut clients {
            let mut passed = 0;
            for _ in 0..20 {
                let since = Instant::now();
                let answer = ask(client, "bob");
                assert!(since.elapsed() < Duration::from_millis(100) + GRACE, "a request took {:?}", since.elapsed());
                assert!(answer == 204 || answer == status, "{on_failure}: {answer}");
                passed += u32::from(answer == 204);
            }
            // A second may pass meanwhile, which gives one more.
            assert!((passing..=passing + 2).contains(&passed), "{on_failure}: {passed} passed");
        }
        server.signal("-CONT");
        connected(&gateways);
        // Bob was never counted there: all five are the fleet's.
        let passed = (0..30).filter(|at| ask(&mut clients[at % GATEWAYS], "carol") == 204).count();
        assert!((5..=7).contains(&passed), "{on_failure}: {passed} passed");
    }
}

#[test]
fn what_was_used_at_one_gateway_is_told_by_the_other() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    let text = format!(
        "
secret_key: ${{file:secret.key}}
counters: {{ url: \"{}\", timeout: 500ms }}
authorizers: {{ keys: {{ api_key: {{}} }} }}
plans: {{ gold: {{ quota: 10/day }}, pool: {{ quota: {{ limit: 50/day, by: plan }} }} }}
consumers:
  alice: {{ plan: gold, api_keys: [alices-key] }}
  bob: {{ plan: pool, api_keys: [bobs-key] }}
  carol: {{ plan: pool, api_keys: [carols-key] }}
apis: {{ shop: {{ policies: {{ authenticate: [keys] }}, routes: [ {{ match: GET /, respond: {{ status: 204 }} }} ] }} }}
",
        server.url()
    );
    let files = [("secret.key", "0123456789abcdef0123456789abcdef".to_owned())];
    let gateways: Vec<Gateway> = (0..2).map(|_| gateway_with(&text, &[], &files)).collect();
    connected(&gateways);
    let folder = Folder::new();
    let store = gateways[1].store(&folder.path("maitred.db"));
    let used = |name: &str| {
        let quota = gateways[1].usage(&store, name)["quotas"][0].clone();
        (quota["used"].as_u64(), quota["left"].as_u64(), quota["stale"].as_bool())
    };
    assert_eq!(used("alice"), (Some(0), Some(10), Some(false)));
    let ask = |gateway: &Gateway, key: &str| gateway.ask("GET", "/", &format!("x-api-key: {key}\r\n"), "").status;
    assert_eq!((0..12).filter(|_| ask(&gateways[0], "alices-key") == 204).count(), 10);
    assert_eq!((ask(&gateways[0], "bobs-key"), ask(&gateways[0], "carols-key")), (204, 204));
    assert_eq!(used("alice"), (Some(10), Some(0), Some(false)));
    assert_eq!(used("carol"), (Some(2), Some(48), Some(false)), "it is the plan's");
    assert_eq!(ask(&gateways[1], "alices-key"), 429, "as it was told");
    server.signal("-STOP");
    eventually("it cannot be asked", || used("alice") == (Some(10), Some(0), Some(true)));
}
