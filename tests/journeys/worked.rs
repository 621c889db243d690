//! The worked examples of docs/load-balancing.md and docs/protection.md do what their pages say: the files as they stand there, with back
//! ends of the test's at their addresses.

use maitred_testkit::{Backend, Client, Gateway, Latch, eventually, gateway, nobody};
use std::net::SocketAddr;

const BALANCING: &str = include_str!("../../docs/load-balancing.md");
const PROTECTION: &str = include_str!("../../examples/protection/maitred.yaml");

/// The whole file on a page that has this line in it, at ports of the test's own.
#[track_caller]
fn example(page: &str, line: &str, endpoints: &[(&str, SocketAddr)]) -> Gateway {
    let block = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).find(|(block, _)| block.contains(line));
    let (block, _) = block.unwrap_or_else(|| panic!("no file has `{line}`"));
    placed(block, endpoints)
}

#[track_caller]
fn placed(file: &str, endpoints: &[(&str, SocketAddr)]) -> Gateway {
    let mut text = file.replace("listen: 127.0.0.1:8080", "listen: 127.0.0.1:0");
    for (written, address) in endpoints {
        assert!(text.contains(written), "{written} is not in\n{text}");
        text = text.replace(written, &address.to_string());
    }
    gateway(&text, &[])
}

/// Well or not, by what it says to health checks; everything else is answered with its name.
fn kitchen(name: &'static str, health: u16) -> Backend {
    Backend::new(move |request, conn| {
        let status = if request.target == "/healthz" { health } else { 200 };
        conn.answer(status, "", name);
    })
}

/// Who answers how many of so many requests.
fn shares(gateway: &Gateway, target: &str, requests: usize) -> Vec<(String, usize)> {
    let mut client = gateway.client();
    let mut answers: Vec<String> = (0..requests).map(|_| client.get(target).text()).collect();
    answers.sort();
    answers.chunk_by(|a, b| a == b).map(|same| (same[0].clone(), same.len())).collect()
}

fn names(shares: &[(String, usize)]) -> Vec<&str> {
    shares.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn the_own_zone_comes_first_then_the_others_then_who_stands_by() {
    let [a, b1, b2, far] = [("a", 200), ("b1", 200), ("b2", 200), ("far", 200)].map(|(name, health)| kitchen(name, health));
    let at = [("10.0.1.1:9000", &a), ("10.0.2.1:9000", &b1), ("10.0.2.2:9000", &b2), ("10.9.0.1:9000", &far)];
    let gateway = example(BALANCING, "zone: b  ", &at.map(|(written, kitchen)| (written, kitchen.address())));
    assert_eq!(shares(&gateway, "/orders/7", 100), [("b1".to_owned(), 50), ("b2".to_owned(), 50)]);
    for (gone, left) in [(&b1, ["b2"]), (&b2, ["a"]), (&a, ["far"])] {
        gateway.turn_endpoint("orders", gone.address(), true);
        assert_eq!(names(&shares(&gateway, "/orders/7", 20)), left);
    }
    let warning = gateway.turn_endpoint("orders", far.address(), true);
    assert!(warning.is_some_and(|words| words.contains("503")), "to drain the last one is warned of");
    let response = gateway.get("/orders/7");
    assert_eq!((response.status, response.json()["type"].as_str()), (503, Some("urn:maitred:fault:no_endpoint")));
}

#[test]
fn half_a_zone_takes_seven_tenths_and_the_rest_spills_over() {
    let [a, b1, b2, far] = [("a", 200), ("b1", 200), ("b2", 503), ("far", 200)].map(|(name, health)| kitchen(name, health));
    let at = [("10.0.1.1:9000", &a), ("10.0.2.1:9000", &b1), ("10.0.2.2:9000", &b2), ("10.9.0.1:9000", &far)];
    let gateway = example(BALANCING, "zone: b  ", &at.map(|(written, kitchen)| (written, kitchen.address())));
    eventually("the first check decides", || gateway.endpoint("orders", b2.address())["state"] == "unhealthy");
    let shares = shares(&gateway, "/orders/7", 1000);
    assert_eq!(names(&shares), ["a", "b1"]);
    // Four standard deviations of 1000 draws.
    assert!(shares[1].1.abs_diff(700) <= 58, "{shares:?}");
}

#[test]
fn a_client_sticks_to_its_table() {
    let [one, two] = ["one", "two"].map(|name| kitchen(name, 200));
    let at = [("10.0.1.1:9000", one.address()), ("10.0.1.2:9000", two.address())];
    let gateway = example(BALANCING, "affinity:", &at);
    let first = gateway.get("/carts/7");
    let cookie = first.header("set-cookie").expect("the first answer sets it").split(';').next().unwrap_or_default().to_owned();
    assert!(cookie.starts_with("table=") && !cookie.contains("127.0.0.1"), "{cookie}");
    for _ in 0..10 {
        let again = gateway.ask("GET", "/carts/7", &format!("Cookie: {cookie}\r\n"), "");
        assert_eq!(again.text(), first.text());
    }
    let home = if first.text() == "one" { one.address() } else { two.address() };
    gateway.turn_endpoint("carts", home, true);
    let moved = gateway.ask("GET", "/carts/7", &format!("Cookie: {cookie}\r\n"), "");
    assert!(moved.text() != first.text() && moved.header("set-cookie").is_some(), "a preference, and no promise");
}

/// The kitchens of the example.
fn protected(kitchens: [SocketAddr; 3]) -> Gateway {
    let at = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"];
    placed(PROTECTION, &[(at[0], kitchens[0]), (at[1], kitchens[1]), (at[2], kitchens[2])])
}

#[test]
fn one_of_three_kitchens_is_dead_and_nobody_notices() {
    let [one, three] = ["one", "three"].map(|name| kitchen(name, 200));
    let (dead, _socket) = nobody();
    let gateway = protected([one.address(), dead, three.address()]);
    let mut client = gateway.client();
    for request in 0..60 {
        let (method, target) = if request % 3 == 0 { ("POST", "/orders") } else { ("GET", "/orders/7") };
        assert_eq!(client.request(method, target, "", if method == "POST" { "soup" } else { "" }).status, 200, "{request}");
    }
    assert_eq!(gateway.endpoint("orders", dead)["state"], "ejected");
}

#[test]
fn a_get_that_fails_is_asked_elsewhere_and_a_post_is_not_sent_twice() {
    let sick = Backend::status(503);
    let [one, three] = ["one", "three"].map(|name| kitchen(name, 200));
    let gateway = protected([one.address(), sick.address(), three.address()]);
    let mut client = gateway.client();
    assert!((0..9).all(|_| client.get("/orders/7").status == 200));
    let before = (sick.count(), one.count() + three.count());
    let answers: Vec<u16> = (0..3).map(|_| client.request("POST", "/orders", "", "soup").status).collect();
    assert_eq!(answers.iter().filter(|status| **status == 503).count(), sick.count() - before.0, "{answers:?}");
    assert_eq!(sick.count() + one.count() + three.count() - before.0 - before.1, 3, "each once");
}

#[test]
fn reports_are_closed_and_say_for_how_long() {
    let kitchens = ["one", "two", "three"].map(|name| kitchen(name, 200));
    let gateway = protected([0, 1, 2].map(|at| kitchens[at].address()));
    let response = gateway.get("/reports/7");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("600")));
    assert_eq!(kitchens.iter().map(Backend::count).sum::<usize>(), 0);
}

#[test]
fn twenty_are_served_two_hundred_wait_and_the_next_is_sent_home() {
    let latch = Latch::new();
    let kitchens = [(); 3].map(|()| {
        let seen = latch.clone();
        Backend::new(move |_, conn| {
            conn.wait(&seen);
            conn.answer(200, "", "soup");
        })
    });
    let gateway = protected([0, 1, 2].map(|at| kitchens[at].address()));
    let count = || kitchens.iter().map(Backend::count).sum::<usize>();
    let send = |_| {
        let mut client = gateway.client();
        client.send("GET /orders/7 HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    };
    let mut served: Vec<Client> = (0..20).map(send).collect();
    eventually("twenty are in flight", || count() == 20);
    let mut waiting: Vec<Client> = (0..200).map(send).collect();
    eventually("two hundred wait", || gateway.upstream("orders")["queue"]["waiting"] == 200);
    let refused = gateway.get("/orders/7");
    assert_eq!((refused.status, refused.json()["type"].as_str()), (503, Some("urn:maitred:fault:queue_full")));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(count(), 20);
    latch.open();
    assert!(served.iter_mut().chain(&mut waiting).all(|client| client.response().status == 200));
}
