//! Plain names that lead to several addresses, of which not all can be connected to: a host whose IPv6 leads nowhere, and the like.

use maitred_testkit::{Backend, Gateway, Scripted, gateway};
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
