//! Endpoints by SRV records: where requests go, and as whom. The names lead where the test says.

use maitred_testkit::{Backend, Gateway, Scripted, eventually, gateway};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const SERVICE: &str = "_http._tcp.orders.internal";
const TTL: Duration = Duration::from_secs(1);

const YAML: &str = "
upstreams: { orders: { endpoints: [ { srv: _http._tcp.orders.internal, scheme: http } ] } }
apis: { all: { routes: [ ANY /: orders ] } }";

/// Says who it is, and as whom it was asked.
fn cook(name: &'static str) -> Backend {
    Backend::new(move |request, conn| {
        let host = request.header("host").unwrap_or_default().to_owned();
        conn.body();
        conn.answer(200, "", format!("{name} as {host}"));
    })
}

fn shares(gateway: &Gateway, count: usize) -> HashMap<String, usize> {
    let mut client = gateway.client();
    let mut shares = HashMap::new();
    for _ in 0..count {
        *shares.entry(client.get("/").text()).or_default() += 1;
    }
    shares
}

fn record(priority: u16, weight: u16, address: SocketAddr, host: &str) -> String {
    format!("{priority} {weight} {} {host}.orders.internal.", address.port())
}

#[test]
fn requests_go_to_the_hosts_of_a_service_by_weight_and_priority() {
    let (a, b, spare) = (cook("a"), cook("b"), cook("spare"));
    let names = Arc::new(Scripted::default());
    let records = [record(10, 3, a.address(), "a"), record(10, 1, b.address(), "b"), record(20, 1, spare.address(), "spare")];
    let records = records.each_ref().map(String::as_str);
    names.services(SERVICE, &records, TTL);
    for host in ["a", "b", "spare"] {
        names.answer(&format!("{host}.orders.internal"), &["127.0.0.1"], TTL);
    }
    let gateway = gateway(YAML, &[]);
    assert_eq!(gateway.get("/").status, 503, "nobody is known yet");
    assert_eq!(gateway.look_up(&names), Vec::<String>::new());
    let said = |name: &str, backend: &Backend| format!("{name} as {name}.orders.internal:{}", backend.address().port());
    assert_eq!(shares(&gateway, 400), HashMap::from([(said("a", &a), 300), (said("b", &b), 100)]));
    // Those of the first priority go: the other one serves.
    names.services(SERVICE, &records[2..], TTL);
    eventually("the spare one serves", || shares(&gateway, 2).contains_key(&said("spare", &spare)));
    names.fail(SERVICE, "server failure");
    let asked = names.lookups(SERVICE);
    eventually("a lookup has failed", || names.lookups(SERVICE) > asked + 1);
    assert_eq!(shares(&gateway, 10), HashMap::from([(said("spare", &spare), 10)]), "the last good answer holds");
    names.services(SERVICE, &["0 0 0 ."], TTL);
    eventually("there is decidedly no such service", || gateway.get("/").status == 503);
}

#[test]
fn whoever_a_name_leads_to_is_checked_and_nobody_else() {
    let (first, second) = (cook("first"), cook("second"));
    let names = Arc::new(Scripted::default());
    let lead = |backend: &Backend| names.services(SERVICE, &[&record(0, 0, backend.address(), "a")], TTL);
    names.answer("a.orders.internal", &["127.0.0.1"], TTL);
    lead(&first);
    let gateway = gateway(&YAML.replacen(" ] } }", " ], health_check: {} } }", 1), &[]);
    gateway.look_up(&names);
    let last = |backend: &Backend| gateway.endpoint("orders", backend.address())["health_check"]["passed"].clone();
    eventually("the first is checked", || last(&first) == 1);
    lead(&second);
    eventually("the second is known", || gateway.upstream("orders")["endpoints"][0]["address"] == second.address().to_string());
    eventually("the second is checked", || last(&second) == 1);
    let asked = first.count();
    gateway.turn(Duration::from_secs(4));
    eventually("the second is checked again", || last(&second) == 2);
    assert_eq!(first.count(), asked, "nobody asks who is gone");
}
