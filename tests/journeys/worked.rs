//! The worked examples of docs/load-balancing.md and docs/protection.md do what their pages say: the files as they stand there, with back
//! ends of the test's at their addresses.

use maitred_testkit::{Backend, Gateway, eventually, gateway};
use std::net::SocketAddr;

const BALANCING: &str = include_str!("../../docs/load-balancing.md");

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
