//! Plain names that lead to several addresses, of which not all can be connected to: a host whose IPv6 leads nowhere, and the like.

use maitred_testkit::{Backend, Gateway, Latch, Scripted, eventually, gateway};
use std::sync::Arc;
use std::time::Duration;

/// The back end serves at 127.0.0.1; nobody does at the other address.
fn named(backend: &Backend, addresses: [&str; 2], protection: &str) -> Gateway {
    let yaml = format!(
        "upstreams: {{ orders: {{ endpoints: [ \"http://orders.internal:{}\" ], {protection} }} }}
apis: {{ all: {{ routes: [ ANY /: orders ] }} }}",
        backend.address().port()
    );
    let names = Arc::new(Scripted::default());
    names.answer("orders.internal", &addresses, Duration::from_secs(3600));
    let gateway = gateway(&yaml, &[]);
    assert_eq!(gateway.look_up(&names), Vec::<String>::new());
    gateway
}

#[test]
fn the_addresses_of_a_name_are_one_endpoint_to_retries_too() {
    for retry in ["", "retry: {}"] {
        let backend = Backend::named("a");
        let gateway = named(&backend, ["127.0.0.0", "127.0.0.1"], retry);
        for _ in 0..20 {
            assert_eq!(gateway.get("/").status, 200, "{retry}");
        }
    }
}

#[test]
fn a_name_is_not_left_alone_for_an_address_that_nobody_can_reach() {
    for retry in ["", ", retry: { conditions: [connect] }"] {
        let backend = Backend::status(500);
        let protection = format!("outlier_detection: {{ consecutive_failures: 5 }}{retry}");
        let gateway = named(&backend, ["127.0.0.1", "127.0.0.2"], &protection);
        for n in 0..20 {
            assert_eq!(gateway.get("/").status, 500, "{n} {retry}");
        }
        assert_eq!(gateway.endpoint("orders", backend.address())["state"], "ejected");
    }
}

#[test]
fn no_more_is_out_of_names_than_may_be_however_many_addresses_they_have() {
    let (a, b) = (Backend::status(500), Backend::status(500));
    let endpoint = |backend: &Backend| format!("\"http://orders.internal:{}\"", backend.address().port());
    let yaml = format!(
        "upstreams: {{ orders: {{ endpoints: [ {}, {} ], outlier_detection: {{ consecutive_failures: 5 }} }} }}
apis: {{ all: {{ routes: [ ANY /: orders ] }} }}",
        endpoint(&a),
        endpoint(&b)
    );
    let names = Arc::new(Scripted::default());
    names.answer("orders.internal", &["127.0.0.1", "127.0.0.2"], Duration::from_secs(3600));
    let gateway = gateway(&yaml, &[]);
    gateway.look_up(&names);
    (0..30).for_each(|_| assert_eq!(gateway.get("/").status, 500));
    let out = [&a, &b].iter().filter(|backend| gateway.endpoint("orders", backend.address())["state"] == "ejected").count();
    assert_eq!(out, 1, "half of two");
}

#[test]
fn a_limit_of_each_endpoint_is_not_one_of_each_address() {
    let latch = Latch::default();
    let held = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.wait(&held);
        conn.answer(200, "", "");
    });
    let limit = "concurrency: { limit: 1, per: endpoint, queue: { length: 0 } }";
    let gateway = named(&backend, ["127.0.0.1", "127.0.0.2"], limit);
    let mut first = gateway.client();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the first is there", || backend.count() == 1);
    assert_eq!(gateway.get("/").status, 503);
    latch.open();
    assert_eq!(first.response().status, 200);
}

#[test]
fn who_is_there_at_the_start_starts_with_its_whole_weight() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let yaml = format!(
        "upstreams: {{ orders: {{ endpoints: [ \"http://{}\", \"http://orders.internal:{}\" ], slow_start: 30s }} }}
apis: {{ all: {{ routes: [ ANY /: orders ] }} }}",
        a.address(),
        b.address().port()
    );
    let names = Arc::new(Scripted::default());
    names.answer("orders.internal", &["127.0.0.1"], Duration::from_secs(3600));
    let gateway = gateway(&yaml, &[]);
    gateway.look_up(&names);
    (0..20).for_each(|_| assert_eq!(gateway.get("/").status, 200));
    assert_eq!((a.count(), b.count()), (10, 10));
}

/// Two services behind one address, as at many a cloud: the first one is well.
#[test]
fn a_retry_goes_to_the_other_name_at_the_same_address() {
    let backend = Backend::new(|request, conn| {
        conn.body();
        let is_sick = request.header("host").is_some_and(|host| host.starts_with("b."));
        conn.answer(if is_sick { 503 } else { 200 }, "", "");
    });
    let port = backend.address().port();
    let yaml = format!(
        "upstreams: {{ orders: {{ endpoints: [ \"http://a.internal:{port}\", \"http://b.internal:{port}\" ], retry: {{ budget: 100% }} }} }}
apis: {{ all: {{ routes: [ ANY /: orders ] }} }}"
    );
    let names = Arc::new(Scripted::default());
    ["a.internal", "b.internal"].iter().for_each(|name| names.answer(name, &["127.0.0.1"], Duration::from_secs(3600)));
    let gateway = gateway(&yaml, &[]);
    gateway.look_up(&names);
    for n in 0..20 {
        assert_eq!(gateway.get("/").status, 200, "{n}");
    }
}
