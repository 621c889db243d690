//! Turns among endpoints.

use maitred_testkit::{Backend, Gateway, gateway, nobody, reluctant};
use std::collections::HashMap;
use std::time::Duration;

fn shares(gateway: &Gateway, count: usize) -> HashMap<String, usize> {
    let mut client = gateway.client();
    let mut shares = HashMap::new();
    for _ in 0..count {
        let response = client.get("/");
        assert_eq!(response.status, 200);
        *shares.entry(response.text()).or_default() += 1;
    }
    shares
}

#[test]
fn endpoints_take_turns_exactly_by_weight() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let gateway = gateway(
        "upstreams: { kitchen: { endpoints: [ { url: \"http://$a\", weight: 3 }, \"http://$b\" ] } }
apis: { all: { routes: [ GET /: kitchen ] } }",
        &[("a", a.address()), ("b", b.address())],
    );
    assert_eq!(shares(&gateway, 400), HashMap::from([("a".into(), 300), ("b".into(), 100)]));
    assert_eq!(
        shares(&gateway, 4),
        HashMap::from([("a".into(), 3), ("b".into(), 1)]),
        "in every round, not only in the long run"
    );
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

#[test]
fn equal_endpoints_alternate() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let gateway = gateway(
        "upstreams: { kitchen: { endpoints: [ \"http://$a\", \"http://$b\" ] } }
apis: { all: { routes: [ GET /: kitchen ] } }",
        &[("a", a.address()), ("b", b.address())],
    );
    let mut client = gateway.client();
    let turns: Vec<String> = (0..6).map(|_| client.get("/").text()).collect();
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
}

#[test]
fn an_endpoint_that_refuses_gives_way_to_the_next() {
    let good = Backend::named("good");
    let (bad, _held) = nobody();
    let gateway = gateway(
        "upstreams: { kitchen: { endpoints: [ \"http://$bad\", \"http://$good\" ] } }
apis: { all: { routes: [ ANY /: kitchen ] } }",
        &[("bad", bad), ("good", good.address())],
    );
    assert_eq!(shares(&gateway, 10), HashMap::from([("good".into(), 10)]));
    assert_eq!(gateway.ask("POST", "/", "", "nothing was sent, so this is safe").status, 200);
    assert_eq!(good.last().body, b"nothing was sent, so this is safe");
}

#[test]
fn an_endpoint_that_does_not_accept_in_time_gives_way_to_the_next() {
    let good = Backend::named("good");
    let (bad, _held) = reluctant();
    let gateway = gateway(
        "upstreams: { kitchen: { endpoints: [ \"http://$bad\", \"http://$good\" ], timeouts: { connect: 2s } } }
apis: { all: { routes: [ ANY /: kitchen ] } }",
        &[("bad", bad), ("good", good.address())],
    );
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.until_readable(|| gateway.turn(Duration::from_secs(2)));
        assert_eq!(client.response().text(), "good");
    }
}

#[test]
fn when_all_endpoints_refuse_it_is_a_502() {
    let ((one, _a), (two, _b)) = (nobody(), nobody());
    let gateway = gateway(
        "upstreams: { kitchen: { endpoints: [ \"http://$one\", \"http://$two\" ] } }
apis: { all: { routes: [ ANY /: kitchen ] } }",
        &[("one", one), ("two", two)],
    );
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn an_endpoint_that_answers_with_a_fault_keeps_its_turn() {
    let (bad, good) = (Backend::status(503), Backend::status(200));
    let gateway = gateway(
        "upstreams: { kitchen: { endpoints: [ \"http://$bad\", \"http://$good\" ] } }
apis: { all: { routes: [ ANY /: kitchen ] } }",
        &[("bad", bad.address()), ("good", good.address())],
    );
    for _ in 0..6 {
        gateway.get("/");
    }
    assert_eq!((bad.count(), good.count()), (3, 3), "an answer is an answer: nothing is repeated unless it is asked for");
}
