//! A back end that can only do so much: who waits for it, in which order, for how long, and what the others are told.

use maitred_core::Kind;
use maitred_testkit::{Backend, Client, Conn, Folder, Gateway, H2Backend, Latch, Received, eventually, gateway, stays};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Everything goes to one back end, with this `concurrency`.
pub fn limited(concurrency: &str) -> String {
    format!(
        "upstreams: {{ kitchen: {{ endpoints: [\"http://$kitchen\"], concurrency: {{ {concurrency} }} }} }}
apis: {{ all: {{ routes: [ ANY /: kitchen, \"ANY /{{path+}}\": kitchen ] }} }}"
    )
}

fn start(concurrency: &str, backend: &Backend) -> Gateway {
    gateway(&limited(concurrency), &[("kitchen", backend.address())])
}

/// Answers when it is told to: all who wait for the latch at once.
fn held() -> (Backend, Latch) {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.body();
        conn.wait(&seen);
        conn.answer(200, "", "served");
    });
    (backend, latch)
}

#[track_caller]
fn waiting(gateway: &Gateway, count: u32) {
    eventually(&format!("{count} wait"), || gateway.queue("kitchen").waiting == count);
}

/// One more stands in line, behind all who are there.
#[track_caller]
fn line_up(gateway: &Gateway, client: &mut Client, request: &str) {
    let before = gateway.queue("kitchen").waiting;
    client.send(request);
    waiting(gateway, before + 1);
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A client whose request is at the back end, so that others wait.
#[track_caller]
fn first(gateway: &Gateway, backend: &Backend) -> Client {
    let mut client = gateway.client();
    client.send(get("/first"));
    backend.wait_for(1);
    client
}

#[test]
fn those_who_wait_are_served_by_ticket_whichever_worker_has_them() {
    let (backend, latch) = held();
    let gateway = gateway(&format!("workers: 2\n{}", limited("limit: 1")), &[("kitchen", backend.address())]);
    let mut first = first(&gateway, &backend);
    let mut clients: Vec<Client> = (0..40).map(|_| gateway.client()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        line_up(&gateway, client, &get(&format!("/{at}")));
    }
    let busy = gateway.metrics().workers.iter().filter(|shard| shard.requests_open.get() > 4).count();
    assert_eq!(busy, 2, "both workers have some of them");
    assert_eq!(backend.count(), 1);
    latch.open();
    assert_eq!(first.response().text(), "served");
    for client in &mut clients {
        assert_eq!(client.response().text(), "served");
    }
    let order: Vec<String> = backend.requests()[1..].iter().map(|request| request.target.clone()).collect();
    assert_eq!(order, (0..40).map(|at| format!("/{at}")).collect::<Vec<_>>());
    let view = gateway.queue("kitchen");
    assert_eq!((view.waiting, view.limit, view.tally.waited.iter().sum::<u64>()), (0, 1, 40));
    eventually("every place is given back", || gateway.queue("kitchen").in_flight == 0);
}

#[test]
fn higher_priorities_are_served_first_and_only_proxies_may_say_theirs() {
    for (trusted, order) in
        [("[127.0.0.0/8]", ["/vip", "/header", "/plain", "/low"]), ("[]", ["/vip", "/plain", "/header", "/low"])]
    {
        let (backend, latch) = held();
        let yaml = format!(
            "trusted_proxies: {trusted}
upstreams: {{ kitchen: {{ endpoints: [\"http://$kitchen\"], concurrency: {{ limit: 1 }} }} }}
apis:
  all:
    routes:
      - {{ match: GET /vip, proxy: kitchen, priority: 15 }}
      - {{ match: GET /header, proxy: kitchen, priority: \"header:x-priority\" }}
      - {{ match: GET /low, proxy: kitchen, priority: \"header:x-priority\" }}
      - \"GET /{{path+}}\": kitchen
"
        );
        let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
        let mut clients = vec![first(&gateway, &backend)];
        for (path, priority) in [("/plain", "9"), ("/header", "7"), ("/low", "16"), ("/vip", "0")] {
            let mut client = gateway.client();
            line_up(&gateway, &mut client, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Priority: {priority}\r\n\r\n"));
            clients.push(client);
        }
        latch.open();
        for client in &mut clients {
            assert_eq!(client.response().status, 200);
        }
        let served: Vec<String> = backend.requests()[1..].iter().map(|request| request.target.clone()).collect();
        assert_eq!(served, order, "trusted: {trusted}");
    }
}

#[test]
fn who_finds_no_place_to_wait_is_told_when_to_come_again() {
    let (backend, latch) = held();
    let gateway = start("limit: 1, queue: { length: 1 }", &backend);
    let mut first = first(&gateway, &backend);
    let mut second = gateway.client();
    line_up(&gateway, &mut second, &get("/second"));
    let mut third = gateway.client();
    let refused = third.get("/third");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["type"], "urn:maitred:fault:queue_full");
    assert!(!refused.closes(), "its connection is as good as before");
    latch.open();
    assert_eq!((first.response().status, second.response().status), (200, 200));
    assert_eq!(third.get("/third").status, 200);
    assert_eq!(gateway.queue("kitchen").tally.full, 1);
}

#[test]
fn with_a_length_of_0_nobody_waits() {
    let (backend, latch) = held();
    let gateway = start("limit: 1, queue: { length: 0 }", &backend);
    let mut first = first(&gateway, &backend);
    assert_eq!(gateway.get("/").status, 503);
    latch.open();
    assert_eq!(first.response().status, 200);
    eventually("the place is given back", || gateway.queue("kitchen").in_flight == 0);
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_place_in_line_has_an_end_and_so_has_the_request() {
    let (backend, latch) = held();
    let yaml = "upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], concurrency: { limit: 1, queue: { timeout: 4s } } } }
apis: { all: { routes: [ \"GET /{path+}\": kitchen, { match: GET /hurry, proxy: kitchen, timeout: 2s } ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut first = first(&gateway, &backend);
    let (mut patient, mut hurried) = (gateway.client(), gateway.client());
    line_up(&gateway, &mut patient, &get("/patient"));
    line_up(&gateway, &mut hurried, &get("/hurry"));
    gateway.turn(Duration::from_secs(2));
    let answer = hurried.response();
    assert_eq!((answer.status, answer.json()["type"].as_str()), (504, Some("urn:maitred:fault:upstream_timeout")));
    assert!(patient.is_quiet());
    gateway.turn(Duration::from_secs(2));
    let answer = patient.response();
    assert_eq!((answer.status, answer.json()["type"].as_str()), (503, Some("urn:maitred:fault:queue_timeout")));
    assert!(answer.header("retry-after").is_some());
    latch.open();
    assert_eq!(first.response().status, 200);
    assert_eq!(backend.count(), 1, "nothing of them was sent");
    assert_eq!(gateway.queue("kitchen").tally.timeout, 2);
}

#[test]
fn a_client_that_goes_away_leaves_the_line() {
    let (backend, latch) = held();
    let gateway = start("limit: 1", &backend);
    let mut first = first(&gateway, &backend);
    let (mut gone, mut posts, mut stays, mut h2) = (gateway.client(), gateway.client(), gateway.client(), gateway.h2());
    line_up(&gateway, &mut gone, &get("/gone"));
    line_up(&gateway, &mut posts, "POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    let stream = h2.ask("GET", "/cancelled", &[]);
    waiting(&gateway, 3);
    line_up(&gateway, &mut stays, &get("/stays"));
    gone.reset();
    waiting(&gateway, 3);
    posts.reset();
    waiting(&gateway, 2);
    h2.reset(stream, 8);
    waiting(&gateway, 1);
    latch.open();
    assert_eq!((first.response().status, stays.response().status), (200, 200));
    let served: Vec<String> = backend.requests().iter().map(|request| request.target.clone()).collect();
    assert_eq!(served, ["/first", "/stays"]);
    assert_eq!(gateway.queue("kitchen").tally.gone, 3);
    eventually("no place is lost", || gateway.queue("kitchen").in_flight == 0);
}

#[test]
fn a_client_that_says_goodbye_in_line_leaves_it_too() {
    let (backend, latch) = held();
    let gateway = start("limit: 1", &backend);
    let mut first = first(&gateway, &backend);
    let (mut gone, mut stays, mut h2) = (gateway.client(), gateway.client(), gateway.h2());
    line_up(&gateway, &mut gone, &get("/gone"));
    h2.ask("GET", "/gone", &[]);
    waiting(&gateway, 2);
    line_up(&gateway, &mut stays, &get("/stays"));
    gone.finish();
    waiting(&gateway, 2);
    h2.finish();
    waiting(&gateway, 1);
    latch.open();
    assert_eq!((first.response().status, stays.response().status), (200, 200));
    let served: Vec<String> = backend.requests().iter().map(|request| request.target.clone()).collect();
    assert_eq!(served, ["/first", "/stays"]);
}

#[test]
fn a_reload_lets_in_whoever_has_room_now() {
    let (backend, latch) = held();
    let gateway = start("limit: 1", &backend);
    let mut clients = vec![first(&gateway, &backend)];
    for _ in 0..5 {
        clients.push(gateway.client());
        line_up(&gateway, clients.last_mut().expect("a client"), &get("/"));
    }
    gateway.publish(&limited("limit: 3"));
    backend.wait_for(3);
    waiting(&gateway, 3);
    gateway.publish(&limited("limit: 2"));
    assert_eq!(gateway.queue("kitchen").in_flight, 3, "who is in flight stays");
    gateway.publish(&limited("limit: 2").replace(", concurrency: { limit: 2 }", ""));
    backend.wait_for(6);
    latch.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    gateway.publish(&limited("limit: 1"));
    assert_eq!(gateway.get("/").status, 200, "and no place was lost");
}

#[test]
fn an_upstream_that_is_gone_is_not_pushed_over_by_those_who_wait_for_it() {
    let renamed = limited("limit: 1").replace("kitchen: {", "galley: {").replace(": kitchen", ": galley");
    for after in [renamed, "apis: { all: { routes: [ { match: GET /, respond: {} } ] } }".to_owned()] {
        let (latch, now, most) = (Latch::new(), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let (seen, at_once) = (latch.clone(), most.clone());
        let backend = Backend::new(move |request, conn| {
            at_once.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if request.target == "/first" {
                conn.wait(&seen);
            }
            now.fetch_sub(1, Ordering::SeqCst);
            conn.answer(200, "", "served");
        });
        let gateway = start("limit: 1", &backend);
        let mut clients = vec![first(&gateway, &backend)];
        for at in 0..6 {
            clients.push(gateway.client());
            line_up(&gateway, clients.last_mut().expect("a client"), &get(&format!("/{at}")));
        }
        gateway.publish(&after);
        assert_eq!(stays("nobody is let in", || backend.count() as u64), 1);
        latch.open();
        for client in &mut clients {
            assert_eq!(client.response().text(), "served");
        }
        assert_eq!(most.load(Ordering::SeqCst), 1);
        let served: Vec<String> = backend.requests()[1..].iter().map(|request| request.target.clone()).collect();
        assert_eq!(served, (0..6).map(|at| format!("/{at}")).collect::<Vec<_>>());
        gateway.publish(&limited("limit: 1"));
        assert_eq!(gateway.get("/").status, 200, "and no place was lost");
    }
}

#[test]
fn who_gives_way_to_a_higher_priority_hears_that_the_queue_is_full() {
    let (backend, latch) = held();
    let folder = Folder::new();
    let path = folder.path("access.log");
    let yaml = format!(
        "telemetry: {{ access_log: {{ to: {} }} }}
upstreams: {{ kitchen: {{ endpoints: [\"http://$kitchen\"], concurrency: {{ limit: 1, queue: {{ length: 1 }} }} }} }}
apis: {{ all: {{ routes: [ {{ match: GET /vip, proxy: kitchen, priority: 9 }}, \"GET /{{path+}}\": kitchen ] }} }}",
        path.display()
    );
    let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
    let mut clients = vec![first(&gateway, &backend), gateway.client()];
    let mut plain = gateway.client();
    line_up(&gateway, &mut plain, &get("/plain"));
    clients[1].send(get("/vip"));
    let refused = plain.response();
    assert_eq!((refused.status, &refused.json()["type"]), (503, &"urn:maitred:fault:queue_full".into()));
    let tally = gateway.queue("kitchen").tally;
    assert_eq!((tally.outranked, tally.full, tally.shed, tally.timeout), (1, 0, 0, 0));
    latch.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    let log = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("the log says why", || {
        log().contains("the queue of upstream kitchen is full, and a higher priority took the place")
    });
}

#[test]
fn those_who_wait_are_served_before_a_drain_is_over() {
    let (backend, latch) = held();
    let gateway = start("limit: 1", &backend);
    let mut clients = vec![first(&gateway, &backend)];
    for _ in 0..3 {
        clients.push(gateway.client());
        line_up(&gateway, clients.last_mut().expect("a client"), &get("/"));
    }
    std::thread::scope(|scope| {
        let draining = scope.spawn(|| gateway.drain(Duration::from_secs(10)));
        latch.open();
        for client in &mut clients {
            assert_eq!(client.response().status, 200);
        }
        drop(clients);
        assert!(draining.join().expect("it does not panic"), "all have left");
    });
}

#[test]
fn those_who_still_wait_when_it_stops_are_cut_off_and_counted() {
    let (backend, latch) = held();
    let mut gateway = start("limit: 1", &backend);
    let (_first, mut second) = (first(&gateway, &backend), gateway.client());
    line_up(&gateway, &mut second, &get("/"));
    assert!(!gateway.drain(Duration::from_millis(50)));
    gateway.stop();
    assert_eq!((gateway.queue("kitchen").waiting, gateway.queue("kitchen").in_flight), (0, 0));
    let cut = gateway.metrics().workers.iter().map(|shard| shard.faults.of(Kind::CutOff).get()).sum::<u64>();
    assert_eq!(cut, 2);
    latch.open();
}

#[test]
fn a_call_of_grpc_hears_it_as_a_status() {
    let (latch, grpc) = (Latch::new(), [("content-type", "application/grpc"), ("te", "trailers")]);
    let seen = latch.clone();
    let backend = H2Backend::new(move |_, stream| {
        seen.wait();
        stream.head(200, &[("content-type", "application/grpc")], false);
        stream.trailers(&[("grpc-status", "0")]);
    });
    let yaml = limited("limit: 1, queue: { length: 1 }").replace("concurrency", "protocol: h2c, concurrency");
    let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.h2();
    let first = client.ask("POST", "/kit.Kit/Unary", &grpc);
    backend.wait_for(1);
    let hurried = client.ask("POST", "/kit.Kit/Unary", &[&grpc[..], &[("grpc-timeout", "1S")]].concat());
    waiting(&gateway, 1);
    let refused = client.ask("POST", "/kit.Kit/Unary", &grpc);
    let answer = client.response(refused);
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("14")), "UNAVAILABLE");
    gateway.turn(Duration::from_secs(1));
    assert_eq!(client.response(hurried).header("grpc-status"), Some("4"), "DEADLINE_EXCEEDED");
    latch.open();
    let answer = client.response(first);
    assert_eq!(answer.trailers.get("grpc-status"), Some("0"));
}

#[test]
fn a_place_is_held_until_the_answer_has_ended_and_by_a_tunnel_as_long_as_it_lasts() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |request: &Received, conn: &mut Conn| match request.target.as_str() {
        "/stream" => {
            conn.chunked_head(200, "");
            conn.chunk("first");
            conn.wait(&seen);
            conn.send("0\r\n\r\n");
        }
        "/tunnel" => {
            conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
            conn.peer_leaves();
        }
        _ => {
            conn.answer(200, "", "next");
        }
    });
    let gateway = start("limit: 1", &backend);
    let (mut stream, mut next) = (gateway.client(), gateway.client());
    stream.send(get("/stream"));
    stream.head();
    line_up(&gateway, &mut next, &get("/next"));
    assert_eq!(backend.count(), 1);
    latch.open();
    assert_eq!(next.response().text(), "next");
    let mut tunnel = gateway.client();
    tunnel.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
    assert_eq!(tunnel.response().status, 101);
    line_up(&gateway, &mut next, &get("/next"));
    tunnel.reset();
    assert_eq!(next.response().text(), "next");
}

#[test]
fn a_request_that_is_tried_again_keeps_its_place() {
    let (latch, tries) = (Latch::new(), Arc::new(AtomicUsize::new(0)));
    let (seen, count) = (latch.clone(), tries.clone());
    let backend = Backend::new(move |request, conn| {
        conn.wait(&seen);
        let is_first = request.target == "/again" && count.fetch_add(1, Ordering::Relaxed) == 0;
        conn.answer(if is_first { 503 } else { 200 }, "", "");
    });
    let yaml = limited("limit: 1").replace("concurrency", "retry: { conditions: [503], backoff: 1ms }, concurrency");
    let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
    let (mut again, mut next) = (gateway.client(), gateway.client());
    again.send(get("/again"));
    backend.wait_for(1);
    line_up(&gateway, &mut next, &get("/next"));
    latch.open();
    assert_eq!((again.response().status, next.response().status), (200, 200));
    let served: Vec<String> = backend.requests().iter().map(|request| request.target.clone()).collect();
    assert_eq!(served, ["/again", "/again", "/next"]);
}

#[test]
fn a_copy_takes_nobody_s_turn() {
    let (backend, latch) = held();
    let yaml = "upstreams:
  front: \"http://$front\"
  kitchen: { endpoints: [\"http://$kitchen\"], concurrency: { limit: 1 } }
apis: { all: { routes: [ { match: GET /copied, proxy: front, mirror: { to: kitchen, share: 100% } }, GET /first: kitchen ] } }";
    let front = Backend::status(200);
    let gateway = gateway(yaml, &[("kitchen", backend.address()), ("front", front.address())]);
    let mut first = first(&gateway, &backend);
    assert_eq!(gateway.get("/copied").status, 200);
    let dropped = || gateway.metrics().upstream(&"kitchen".into()).sum(|shard| &shard.mirror_dropped);
    eventually("the copy is not sent", || dropped() == 1);
    assert_eq!(gateway.queue("kitchen").waiting, 0);
    latch.open();
    assert_eq!(first.response().status, 200);
    eventually("the place is given back", || gateway.queue("kitchen").in_flight == 0);
    assert_eq!(gateway.get("/copied").status, 200);
    backend.wait_for(2);
    assert_eq!(dropped(), 1);
}

#[test]
fn where_the_limit_is_that_of_each_endpoint_requests_go_where_there_is_room() {
    let (busy, latch) = held();
    let (free, open) = held();
    let yaml = "upstreams:
  kitchen: { endpoints: [\"http://$busy\", \"http://$free\"], concurrency: { limit: 2, per: endpoint } }
apis: { all: { routes: [ \"GET /{path+}\": kitchen ] } }";
    let gateway = gateway(yaml, &[("busy", busy.address()), ("free", free.address())]);
    let mut clients: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(get("/held"));
    }
    busy.wait_for(2);
    free.wait_for(2);
    let view = gateway.queue("kitchen");
    assert_eq!((view.in_flight, view.waiting, view.limit), (4, 0, 4));
    let mut next = gateway.client();
    line_up(&gateway, &mut next, &get("/next"));
    open.open();
    assert_eq!(next.response().text(), "served");
    for _ in 0..10 {
        assert_eq!(next.get("/more").status, 200, "whoever's turn it is");
    }
    assert_eq!((busy.count(), free.count()), (2, 13));
    latch.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn the_log_says_how_long_a_request_waited() {
    let (backend, latch) = held();
    let folder = Folder::new();
    let path = folder.path("access.log");
    let yaml = format!("telemetry: {{ access_log: {{ to: {} }} }}\n{}", path.display(), limited("limit: 1"));
    let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
    let mut clients = vec![first(&gateway, &backend), gateway.client()];
    line_up(&gateway, &mut clients[1], &get("/waited"));
    gateway.turn(Duration::from_secs(1));
    latch.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("both lines are written", || lines().lines().count() == 2);
    for line in lines().lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let waited = line.get("queue_ms").and_then(serde_json::Value::as_f64);
        match line["path"].as_str() {
            Some("/waited") => assert!(waited.is_some_and(|waited| waited >= 1000.0), "{line}"),
            _ => assert_eq!(waited, None, "{line}"),
        }
    }
}

#[test]
fn a_limit_that_finds_itself_moves() {
    let backend = Backend::status(200);
    let gateway = start("limit: adaptive", &backend);
    let first = gateway.queue("kitchen").limit;
    let over = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.client();
                while over.load(Ordering::Relaxed) == 0 {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
        eventually("it moves", || gateway.queue("kitchen").limit != first);
        over.store(1, Ordering::Relaxed);
    });
}

#[test]
fn tunnels_that_last_leave_room_for_others_where_the_limit_finds_itself() {
    let backend = Backend::new(|request: &Received, conn: &mut Conn| {
        if request.target == "/tunnel" {
            conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
            conn.peer_leaves();
        } else {
            conn.answer(200, "", "served");
        }
    });
    let gateway = start("limit: adaptive", &backend);
    let mut tunnels = Vec::new();
    for _ in 0..30 {
        let mut tunnel = gateway.client();
        gateway.turn(Duration::from_millis(120));
        tunnel.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
        assert_eq!(tunnel.response().status, 101);
        tunnels.push(tunnel);
    }
    gateway.turn(Duration::from_millis(120));
    assert_eq!(gateway.get("/").text(), "served");
}
