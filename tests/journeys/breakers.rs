//! The circuit breaker: what an upstream may have at once, over all workers, and what becomes of those who do not fit.

use maitred_testkit::h2::{code, setting};
use maitred_testkit::{Backend, Client, Gateway, H2Backend, H2Options, H2Received, H2Stream, Latch, eventually, gateway};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

fn breaking(breaker: &str, more: &str, workers: usize, endpoints: &[SocketAddr]) -> Gateway {
    let names: Vec<String> = (0..endpoints.len()).map(|at| format!("e{at}")).collect();
    let urls: Vec<String> = names.iter().map(|name| format!("\"http://${name}\"")).collect();
    let yaml = format!(
        "workers: {workers}
upstreams: {{ kitchen: {{ endpoints: [ {} ], circuit_breaker: {{ {breaker} }}{more} }} }}
apis: {{ all: {{ routes: [ \"ANY /\": kitchen, \"ANY /{{path+}}\": kitchen ] }} }}",
        urls.join(", ")
    );
    let named: Vec<(&str, SocketAddr)> = names.iter().map(String::as_str).zip(endpoints.iter().copied()).collect();
    gateway(&yaml, &named)
}

/// Answers /hold when the latch opens, everything else at once, with its path.
fn holding(latch: &Latch) -> Backend {
    let latch = latch.clone();
    Backend::new(move |request, conn| {
        conn.body();
        if request.target.starts_with("/hold") {
            conn.wait(&latch);
        }
        conn.answer(200, "", request.target.clone());
    })
}

#[track_caller]
fn send(gateway: &Gateway, target: &str) -> Client {
    let mut client = gateway.client();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

fn waits(gateway: &Gateway) -> u64 {
    gateway.metrics().upstreams().iter().map(|upstream| upstream.sum(|shard| &shard.breaker_waits)).sum()
}

#[test]
fn requests_over_the_limit_are_refused_at_once() {
    let latch = Latch::new();
    let backend = holding(&latch);
    let gateway = breaking("requests: 2", "", 2, &[backend.address()]);
    let mut held = [send(&gateway, "/hold"), send(&gateway, "/hold")];
    backend.wait_for(2);
    let refused = gateway.get("/");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["type"], "urn:maitred:fault:circuit_open");
    latch.open();
    held.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    eventually("both places are free", || gateway.get("/").status == 200);
    assert!(gateway.metrics().upstreams().iter().any(|upstream| upstream.sum(|shard| &shard.breaker_requests) >= 1));
}

#[test]
fn a_request_has_its_place_until_its_answer_is_over() {
    let latch = Latch::new();
    let ending = latch.clone();
    let backend = Backend::new(move |request, conn| {
        if request.target == "/stream" {
            conn.chunked_head(200, "");
            conn.chunk("first");
            conn.wait(&ending);
            conn.chunk("");
        } else {
            conn.answer(200, "", "");
        }
    });
    let gateway = breaking("requests: 1", "", 1, &[backend.address()]);
    let mut client = send(&gateway, "/stream");
    client.head();
    assert_eq!(gateway.get("/").status, 503);
    client.reset();
    eventually("a client that left gives its place back", || gateway.get("/").status == 200);
    let mut client = send(&gateway, "/stream");
    latch.open();
    assert_eq!(client.response().text(), "first");
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn limits_outlive_a_reload_and_may_change() {
    let latch = Latch::new();
    let backend = holding(&latch);
    let yaml = |requests: u32| {
        format!(
            "upstreams: {{ kitchen: {{ endpoints: [\"http://$kitchen\"], circuit_breaker: {{ requests: {requests} }} }} }}
apis: {{ all: {{ routes: [ \"ANY /\": kitchen, \"ANY /{{path+}}\": kitchen ] }} }}"
        )
    };
    let gateway = gateway(&yaml(1), &[("kitchen", backend.address())]);
    let mut held = send(&gateway, "/hold");
    backend.wait_for(1);
    gateway.publish(&yaml(1));
    assert_eq!(gateway.get("/").status, 503, "what is under way is counted still");
    gateway.publish(&yaml(2));
    assert_eq!(gateway.get("/").status, 200);
    latch.open();
    assert_eq!(held.response().status, 200);
}

#[test]
fn who_finds_no_connection_waits_for_one_in_order() {
    let latch = Latch::new();
    let backend = holding(&latch);
    let gateway = breaking("connections: 1", "", 1, &[backend.address()]);
    let mut held = send(&gateway, "/hold");
    backend.wait_for(1);
    let mut waiting = Vec::new();
    for at in 0..5 {
        waiting.push(send(&gateway, &format!("/{at}")));
        eventually("it waits", || waits(&gateway) == at + 1);
    }
    assert_eq!(backend.count(), 1);
    latch.open();
    assert_eq!(held.response().status, 200);
    waiting.iter_mut().enumerate().for_each(|(at, client)| assert_eq!(client.response().text(), format!("/{at}")));
    let asked: Vec<String> = backend.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(asked, ["/hold", "/0", "/1", "/2", "/3", "/4"]);
    assert_eq!(backend.connections(), 1, "the one connection served all");
}

#[test]
fn so_many_may_wait_and_so_long() {
    let latch = Latch::new();
    let backend = holding(&latch);
    let gateway = breaking("connections: 1, pending: 2", ", timeouts: { connect: 3s }", 1, &[backend.address()]);
    let mut held = send(&gateway, "/hold");
    backend.wait_for(1);
    let mut waiting = [send(&gateway, "/a"), send(&gateway, "/b")];
    eventually("both wait", || waits(&gateway) == 2);
    let view = gateway.upstream("kitchen")["circuit_breaker"].clone();
    assert_eq!((&view["connections"], &view["pending"]), (&1.into(), &2.into()), "{view}");
    let refused = gateway.get("/");
    assert_eq!((refused.status, &refused.json()["type"]), (503, &"urn:maitred:fault:circuit_open".into()));
    for client in &mut waiting {
        client.until_readable(|| gateway.turn(Duration::from_millis(200)));
        let response = client.response();
        assert_eq!((response.status, &response.json()["type"]), (503, &"urn:maitred:fault:circuit_open".into()));
    }
    latch.open();
    assert_eq!(held.response().status, 200);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(backend.count(), 2, "those who gave up are not sent");
}

#[test]
fn who_leaves_the_line_passes_on_what_it_would_have_got() {
    let latch = Latch::new();
    let backend = holding(&latch);
    let gateway = breaking("connections: 1", "", 1, &[backend.address()]);
    let mut held = send(&gateway, "/hold");
    backend.wait_for(1);
    let gone = send(&gateway, "/gone");
    eventually("it waits", || waits(&gateway) == 1);
    let mut stays = send(&gateway, "/stays");
    eventually("both wait", || waits(&gateway) == 2);
    gone.reset();
    latch.open();
    assert_eq!((held.response().status, stays.response().text()), (200, "/stays".to_owned()));
}

#[test]
fn a_connection_that_is_not_used_again_leaves_its_place() {
    let backend = Backend::new(|_, conn| {
        conn.answer(200, "Connection: close\r\n", "");
        conn.close();
    });
    let gateway = breaking("connections: 1", "", 2, &[backend.address()]);
    for _ in 0..20 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!(backend.connections(), 20);
}

#[test]
fn an_idle_connection_elsewhere_is_given_up() {
    // Of another endpoint, and of another worker: whoever asks gets through, and never more than one is open.
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let gateway = breaking("connections: 1", "", 2, &[one.address(), two.address()]);
    for _ in 0..40 {
        assert_eq!(gateway.get("/").status, 200);
    }
    eventually("one is open", || one.open() + two.open() <= 1);
    assert_eq!(one.count() + two.count(), 40);
}

#[test]
fn no_worker_starves_under_load() {
    let backend = Backend::new(|_, conn| {
        std::thread::sleep(Duration::from_millis(2));
        conn.answer(200, "", "");
    });
    let gateway = breaking("connections: 3", "", 2, &[backend.address()]);
    std::thread::scope(|scope| {
        let ask = || (0..25).for_each(|_| assert_eq!(gateway.get("/").status, 200));
        let threads: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("every request is served"));
    });
    assert_eq!(backend.count(), 300);
    assert!(backend.open() <= 3, "{}", backend.open());
}

/// Two upstreams that lead to one address, one of them with a breaker.
fn beside_another(protocol: &str, address: SocketAddr) -> Gateway {
    let yaml = format!(
        "upstreams:
  plain: {{ endpoints: [\"http://$kitchen\"], protocol: {protocol} }}
  kitchen: {{ endpoints: [\"http://$kitchen\"], protocol: {protocol}, circuit_breaker: {{ connections: 1, pending: 1 }} }}
apis: {{ all: {{ routes: [ GET /plain: plain, GET /limited: kitchen ] }} }}"
    );
    gateway(&yaml, &[("kitchen", address)])
}

#[test]
fn idle_connections_of_another_upstream_take_nobody_past_the_limit() {
    let (plain, limited) = (Latch::new(), Latch::new());
    let (one, two) = (plain.clone(), limited.clone());
    let backend = Backend::new(move |request, conn| {
        conn.wait(if request.target == "/plain" { &one } else { &two });
        conn.answer(200, "", "");
    });
    let gateway = beside_another("http1", backend.address());
    let mut others: Vec<Client> = (0..4).map(|_| send(&gateway, "/plain")).collect();
    backend.wait_for(4);
    plain.open();
    others.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    let mut served = send(&gateway, "/limited");
    backend.wait_for(5);
    let mut waiting = send(&gateway, "/limited");
    eventually("it waits", || waits(&gateway) == 1);
    assert_eq!(gateway.get("/limited").status, 503);
    assert_eq!(backend.count(), 5);
    limited.open();
    assert_eq!((served.response().status, waiting.response().status), (200, 200));
    assert_eq!(gateway.get("/plain").status, 200);
    assert_eq!(backend.connections(), 5, "each keeps to its own");
    assert_eq!(gateway.upstream("kitchen")["circuit_breaker"]["connections"], 1);
}

#[test]
fn a_link_of_another_upstream_does_not_either() {
    let backend = H2Backend::new(|_, stream| {
        stream.head(200, &[], true);
    });
    let gateway = beside_another("h2c", backend.address());
    for _ in 0..3 {
        assert_eq!((gateway.get("/plain").status, gateway.get("/limited").status), (200, 200));
    }
    assert_eq!(gateway.upstream("kitchen")["circuit_breaker"]["connections"], 1);
    assert_eq!(backend.connections(), 2);
}

#[test]
fn links_of_http_2_are_counted_and_their_streams_waited_for() {
    let latch = Latch::new();
    let holding = latch.clone();
    let options = H2Options { settings: vec![(setting::MAX_CONCURRENT_STREAMS, 1)], ..H2Options::default() };
    let backend = H2Backend::with(options, move |request, stream| {
        if request.path == "/hold" {
            holding.opens();
        }
        stream.head(200, &[], false);
        stream.data(&request.path, true);
    });
    let gateway = breaking("connections: 1", ", protocol: h2c", 1, &[backend.address()]);
    assert_eq!(gateway.get("/settled").status, 200);
    let mut held = send(&gateway, "/hold");
    backend.wait_for(2);
    let mut waiting: Vec<Client> = (0..3).map(|at| send(&gateway, &format!("/{at}"))).collect();
    eventually("all wait", || waits(&gateway) == 3);
    latch.open();
    assert_eq!(held.response().text(), "/hold");
    waiting.iter_mut().enumerate().for_each(|(at, client)| assert_eq!(client.response().text(), format!("/{at}")));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_new_link_serves_all_who_waited_for_it() {
    let (hold, slow) = (Latch::new(), Latch::new());
    let (holding, slowing) = (hold.clone(), slow.clone());
    let handler = move |request: &H2Received, stream: &mut H2Stream| {
        match request.path.as_str() {
            "/hold" => _ = holding.opens(),
            "/slow" => _ = slowing.opens(),
            _ => {}
        }
        stream.head(200, &[], false);
        stream.data(&request.path, true);
    };
    let (one, two) = (H2Backend::new(handler.clone()), H2Backend::new(handler));
    let gateway = breaking("connections: 1", ", protocol: h2c", 1, &[one.address(), two.address()]);
    // By turns: every second one is for the other endpoint, to which there is no link.
    let mut held = send(&gateway, "/hold");
    eventually("it is there", || one.count() + two.count() == 1);
    let mut late: Vec<Client> = Vec::new();
    for path in ["/slow", "/a", "/b"] {
        late.push(send(&gateway, path));
        eventually("it waits", || waits(&gateway) == late.len() as u64);
        assert_eq!(send(&gateway, "/x").response().text(), "/x");
    }
    hold.open();
    assert_eq!(held.response().text(), "/hold");
    assert_eq!((late[1].response().text(), late[2].response().text()), ("/a".to_owned(), "/b".to_owned()));
    slow.open();
    assert_eq!(late[0].response().text(), "/slow");
}

#[test]
fn a_back_end_that_reads_nothing_is_not_connected_to_without_end() {
    // It accepts, and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let gateway = breaking(
        "connections: 2, pending: 10",
        ", protocol: h2c, timeouts: { connect: 2s, response: 4s }",
        1,
        &[mute.local_addr().expect("bound")],
    );
    let mut clients: Vec<Client> = (0..400).map(|_| send(&gateway, "/")).collect();
    for client in &mut clients {
        client.until_readable(|| gateway.turn(Duration::from_millis(100)));
        assert!([502, 503, 504].contains(&client.response().status));
    }
    let connects: u64 = gateway.metrics().workers.iter().map(|worker| worker.upstream_connects.get()).sum();
    assert!(connects <= 20, "{connects}");
}

#[test]
fn no_worker_starves_beside_a_link_that_is_always_in_use() {
    const ALL: usize = 3000;
    let backend = H2Backend::new(|_, stream| {
        std::thread::sleep(Duration::from_millis(3));
        stream.head(200, &[], true);
    });
    let more = ", protocol: h2c, timeouts: { connect: 10min, response: 10min }";
    let gateway = breaking("connections: 1", more, 2, &[backend.address()]);
    // How many answers others had while one request waited, at the most.
    let (served, longest) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut client = gateway.client();
                while served.load(SeqCst) < ALL {
                    let before = served.load(SeqCst);
                    assert_eq!(client.get("/").status, 200);
                    longest.fetch_max(served.fetch_add(1, SeqCst) - before, SeqCst);
                }
            });
        }
        eventually("all are served", || {
            gateway.turn(Duration::from_millis(5));
            served.load(SeqCst) >= ALL
        });
    });
    assert!(longest.load(SeqCst) < ALL / 4, "{} others were served before it", longest.load(SeqCst));
    assert!(
        backend.connections() < ALL as u64 / 10,
        "{} connections: they are not handed over at every answer",
        backend.connections()
    );
}

#[test]
fn an_endpoint_is_not_to_blame_for_those_who_wait_here() {
    let latch = Latch::new();
    let ending = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.chunked_head(200, "");
        conn.chunk("first");
        conn.wait(&ending);
        conn.chunk("");
    });
    let more = ", timeouts: { connect: 5s }, outlier_detection: { consecutive_failures: 1 }, retry: { attempts: 1, per_try_timeout: 1s }";
    let gateway = breaking("connections: 1", more, 1, &[backend.address()]);
    let mut held = send(&gateway, "/");
    held.head();
    let mut late = send(&gateway, "/late");
    eventually("it waits", || waits(&gateway) == 1);
    late.until_readable(|| gateway.turn(Duration::from_millis(100)));
    assert_eq!(late.response().status, 504);
    let endpoint = gateway.endpoint("kitchen", backend.address());
    assert_eq!((&endpoint["failures"], &endpoint["state"]), (&0.into(), &"healthy".into()), "{endpoint}");
    latch.open();
}

/// Whatever a request is, and however it goes: every place that it had is given back.
fn nothing_is_kept(protocol: &str, endpoints: [SocketAddr; 2]) {
    let more = format!(
        ", protocol: {protocol}, concurrency: {{ limit: 4, queue: {{ length: 8 }} }}, hedge: {{ after: 2ms }}
        , retry: {{ attempts: 3, conditions: [connect, reset, timeout, 503], per_try_timeout: 80ms }}"
    );
    let gateway = breaking("connections: 3, requests: 100", &more, 2, &endpoints);
    let left = AtomicUsize::new(6);
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let (gateway, left) = (&gateway, &left);
            scope.spawn(move || {
                let chance = maitred_core::Chance::seeded(thread);
                for _ in 0..120 {
                    let path = ["/ok", "/sick", "/reset", "/early", "/hint", "/slow"][chance.below(6)];
                    let request = match chance.below(5) {
                        0 => format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
                        1 => format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
                        2 => format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"),
                        3 => format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n"),
                        _ => format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
                    };
                    let mut client = gateway.client();
                    client.send(request.as_str());
                    std::thread::sleep(Duration::from_micros(chance.below(6000) as u64));
                    match chance.below(3) {
                        0 => client.reset(),
                        _ => drop(client),
                    }
                }
                left.fetch_sub(1, SeqCst);
            });
        }
        eventually("all have asked", || {
            gateway.turn(Duration::from_millis(1));
            left.load(SeqCst) == 0
        });
    });
    let state = || {
        let (queue, view) = (gateway.queue("kitchen"), gateway.upstream("kitchen"));
        let under_way: Vec<u64> =
            endpoints.iter().filter_map(|&address| gateway.endpoint("kitchen", address)["in_flight"].as_u64()).collect();
        let breaker = &view["circuit_breaker"];
        (queue.in_flight, queue.waiting, breaker["requests"].as_u64(), breaker["pending"].as_u64(), under_way)
    };
    eventually(&format!("{protocol}: all places are free"), || {
        gateway.turn(Duration::from_millis(20));
        state() == (0, 0, Some(0), Some(0), vec![0, 0])
    });
    let open = gateway.upstream("kitchen")["circuit_breaker"]["connections"].as_u64();
    assert!(open.is_some_and(|open| open <= 3), "{open:?}");
    // And they are fit for use.
    for _ in 0..20 {
        let mut client = send(&gateway, "/ok");
        client.until_readable(|| gateway.turn(Duration::from_millis(1)));
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn every_place_is_given_back_however_it_goes() {
    let backend = || {
        Backend::new(|request, conn| match request.target.as_str() {
            "/sick" => _ = conn.answer(503, "", "no"),
            "/reset" => conn.reset(),
            "/early" => _ = conn.answer(200, "", "early"),
            "/hint" => {
                conn.send("HTTP/1.1 103 Early Hints\r\n\r\n");
                conn.chunked_head(200, "");
                conn.chunk("some");
                conn.chunk("");
            }
            "/slow" => {
                conn.body();
                std::thread::sleep(Duration::from_millis(4));
                conn.answer(200, "", "slow");
            }
            _ if request.headers.has("upgrade") => {
                conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
                conn.peer_leaves();
            }
            _ => {
                conn.body();
                conn.answer(200, "", "ok");
            }
        })
    };
    let (one, two) = (backend(), backend());
    nothing_is_kept("http1", [one.address(), two.address()]);
}

#[test]
fn every_place_is_given_back_over_http_2_too() {
    let backend = || {
        H2Backend::new(|request, stream| match request.path.as_str() {
            "/sick" => {
                stream.head(503, &[], true);
            }
            "/reset" => {
                stream.reset(code::REFUSED_STREAM);
            }
            "/slow" => {
                std::thread::sleep(Duration::from_millis(4));
                stream.head(200, &[], false);
                stream.data("slow", true);
            }
            "/hint" => {
                stream.interim(103, &[("link", "</a.css>")]);
                stream.head(200, &[], true);
            }
            _ => {
                stream.head(200, &[], false);
                stream.data("ok", true);
            }
        })
    };
    let (one, two) = (backend(), backend());
    nothing_is_kept("h2c", [one.address(), two.address()]);
}
