//! Names and passwords: who is let in, what a wrong one costs, and whom a flood of wrong ones keeps out.

use maitred_testkit::{Backend, Client, Gateway, Latch, Response, eventually, gateway_with};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Alice's is `open sesame`, hashed with bcrypt; Bob's is `password`, hashed with argon2.
const USERS: &str = "alice:$2y$05$bvIG6Nmid91Mu9RcmmWZfOpG29Fwqhp9izrpUlNDcHYnxtiP7OuIe
bob:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4
";

const YAML: &str = "trusted_proxies: [127.0.0.1]
limits: { failed_credentials: { rate: 1/min, burst: 5 } }
upstreams: { kitchen: \"http://$kitchen\" }
authorizers:
  people: { basic: { realm: kitchen, htpasswd: users.htpasswd } }
  hidden: { basic: { htpasswd: users.htpasswd }, strip: true }
  keys: { api_key: {} }
consumers:
  alice: { groups: [staff], api_keys: [alices-key], identities: [{ authorizer: people, subject: alice }] }
apis:
  all:
    policies: { authenticate: [people] }
    routes:
      - GET /: kitchen
      - { match: GET /staff, authorize: { groups: [staff] }, proxy: kitchen }
      - { match: GET /hidden, authenticate: [hidden], proxy: kitchen }
      - { match: GET /either, authenticate: [keys, people], proxy: kitchen }
";

fn kitchen() -> (Backend, Gateway) {
    let backend = Backend::status(200);
    let gateway = gateway_with(YAML, &[("kitchen", backend.address())], &[("users.htpasswd", USERS.to_owned())]);
    (backend, gateway)
}

/// RFC 4648, once more.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().enumerate().fold(0u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            text.push(if at <= group.len() { char::from(DIGITS[(word >> (18 - 6 * at) & 63) as usize]) } else { '=' });
        }
    }
    text
}

fn basic(credentials: &str) -> String {
    format!("Authorization: Basic {}\r\n", base64(credentials.as_bytes()))
}

fn ask(gateway: &Gateway, credentials: &str) -> u16 {
    gateway.ask("GET", "/", &basic(credentials), "").status
}

fn ask_from(gateway: &Gateway, address: &str, credentials: &str) -> Response {
    gateway.ask("GET", "/", &format!("X-Forwarded-For: {address}\r\n{}", basic(credentials)), "")
}

/// Hashes that were made.
fn hashes(gateway: &Gateway) -> u64 {
    gateway.metrics().compute.begun.load(Ordering::Relaxed)
}

#[test]
fn a_right_password_opens_and_nothing_else_does() {
    let (backend, gateway) = kitchen();
    for (credentials, status) in [
        ("alice:open sesame", 200),
        ("bob:password", 200),
        ("alice:password", 401),
        ("Alice:open sesame", 401),
        ("alice:open sesame:", 401),
        ("alice", 401),
        (":open sesame", 401),
        ("bob:password\0", 401),
    ] {
        let answer = ask_from(&gateway, &format!("192.0.2.{}", credentials.len()), credentials);
        assert_eq!(answer.status, status, "{credentials:?}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, (status == 401).then_some("Basic realm=\"kitchen\", charset=\"UTF-8\""), "{credentials:?}");
    }
    assert_eq!(backend.count(), 2);
    let two = basic("alice:open sesame").repeat(2);
    assert_eq!(gateway.ask("GET", "/", &two, "").status, 401, "two, of which a back end might read the other");
    let other = format!("{}Authorization: Bearer x\r\n", basic("alice:open sesame"));
    assert_eq!(gateway.ask("GET", "/", &other, "").status, 401);
    assert_eq!(gateway.ask("GET", "/", "Authorization: Bearer x\r\n", "").status, 401);
    assert_eq!(gateway.get("/").status, 401);
}

#[test]
fn a_user_is_a_consumer_and_a_password_may_be_kept_from_back_ends() {
    let (backend, gateway) = kitchen();
    assert_eq!(gateway.ask("GET", "/staff", &basic("alice:open sesame"), "").status, 200);
    assert!(backend.last().headers.has("authorization"));
    assert_eq!(gateway.ask("GET", "/staff", &basic("bob:password"), "").status, 403);
    assert_eq!(gateway.ask("GET", "/hidden", &basic("bob:password"), "").status, 200);
    assert!(!backend.last().headers.has("authorization"));
}

#[test]
fn what_was_found_out_is_remembered_and_an_unknown_user_costs_a_hash_too() {
    let (_backend, gateway) = kitchen();
    for (credentials, status, wanted) in [
        ("alice:open sesame", 200, 1),
        ("alice:open sesame", 200, 1),
        ("alice:wrong", 401, 2),
        ("alice:wrong", 401, 2),
        ("nobody:wrong", 401, 3),
        ("nobody:wrong", 401, 3),
        ("no colon", 401, 3),
        ("bob:password", 200, 4),
    ] {
        assert_eq!((ask(&gateway, credentials), hashes(&gateway)), (status, wanted), "{credentials}");
    }
    gateway.turn(Duration::from_secs(31));
    assert_eq!((ask(&gateway, "alice:wrong"), hashes(&gateway)), (401, 5), "a refusal for half a minute");
    assert_eq!((ask(&gateway, "alice:open sesame"), hashes(&gateway)), (200, 5));
    gateway.turn(Duration::from_secs(270));
    assert_eq!((ask(&gateway, "alice:open sesame"), hashes(&gateway)), (200, 6), "a right password for five minutes");
}

#[test]
fn one_hash_answers_all_who_ask_at_once() {
    let (_backend, gateway) = kitchen();
    let mut clients: Vec<Client> = (0..20).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", basic("alice:open sesame")));
    }
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    assert_eq!(hashes(&gateway), 1);
}

#[test]
fn a_flood_of_wrong_passwords_keeps_its_own_address_out_and_no_other() {
    let (_backend, gateway) = kitchen();
    assert_eq!(ask_from(&gateway, "192.0.2.1", "alice:open sesame").status, 200);
    for number in 0..5 {
        assert_eq!(ask_from(&gateway, "192.0.2.1", &format!("alice:{number}")).status, 401);
    }
    let (before, asked) = (hashes(&gateway), Instant::now());
    let mut flood: Vec<Client> = (5..50)
        .map(|number| {
            let mut client = gateway.client();
            let credentials = basic(&format!("alice:{number}"));
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n{credentials}\r\n"));
            client
        })
        .collect();
    for client in &mut flood {
        let answer = client.response();
        let wait: u64 = answer.header("retry-after").and_then(|wait| wait.parse().ok()).unwrap_or_default();
        assert_eq!((answer.status, (1..=60).contains(&wait)), (429, true), "{wait}");
        assert!(answer.text().contains("urn:maitred:fault:too_many_failures"), "{}", answer.text());
    }
    assert!(asked.elapsed() >= Duration::from_millis(250), "whoever guesses is in no hurry");
    assert_eq!(ask_from(&gateway, "192.0.2.1", "bob:password").status, 429, "nobody looks whether it is right");
    assert_eq!(hashes(&gateway), before, "what is not looked at costs nothing");
    assert_eq!(ask_from(&gateway, "192.0.2.1", "alice:open sesame").status, 200, "what is known passes");
    assert_eq!(ask_from(&gateway, "192.0.2.2", "bob:password").status, 200, "another address");
    let metrics = gateway.metrics();
    assert_eq!(metrics.failing_addresses.refused.load(Ordering::Relaxed), 46);
    assert_eq!(metrics.failed_credentials.load(Ordering::Relaxed), 5);
    gateway.turn(Duration::from_secs(60));
    assert_eq!(ask_from(&gateway, "192.0.2.1", "alice:next").status, 401, "one more each minute");
    assert_eq!(ask_from(&gateway, "192.0.2.1", "alice:and one more").status, 429);
}

#[test]
fn an_address_that_was_wrong_is_not_looked_at_any_oftener_for_asking_all_at_once() {
    let (_backend, gateway) = kitchen();
    let latch = Latch::new();
    let threads = std::thread::available_parallelism().map_or(1, |cores| (usize::from(cores) / 2).max(1));
    assert_eq!(ask_from(&gateway, "192.0.2.1", "alice:wrong").status, 401);
    let held: Vec<_> = (0..threads)
        .map(|_| {
            gateway.compute().run({
                let latch = latch.clone();
                move || latch.wait()
            })
        })
        .collect();
    eventually("all threads are busy", || hashes(&gateway) == 1 + threads as u64);
    let mut clients: Vec<Client> = (0..10).map(|_| gateway.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let from = format!("X-Forwarded-For: 192.0.2.1\r\n{}", basic(&format!("alice:{number}")));
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{from}\r\n"));
    }
    let refused = || gateway.metrics().failing_addresses.refused.load(Ordering::Relaxed);
    eventually("those over the limit are answered while the others wait", || refused() == 6);
    latch.open();
    let mut statuses: Vec<u16> = clients.iter_mut().map(|client| client.response().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [401, 401, 401, 401, 429, 429, 429, 429, 429, 429]);
    drop(held);
}

#[test]
fn who_does_not_wait_for_the_answer_has_been_wrong_all_the_same() {
    let (_backend, gateway) = kitchen();
    let latch = Latch::new();
    let mut held = Vec::new();
    let threads = std::thread::available_parallelism().map_or(1, |cores| (usize::from(cores) / 2).max(1));
    for _ in 0..threads {
        let latch = latch.clone();
        held.push(gateway.compute().run(move || latch.wait()));
    }
    const CANCEL: u32 = 8;
    eventually("all threads are busy", || hashes(&gateway) == threads as u64);
    let mut client = gateway.h2();
    for number in 0..5u64 {
        let credentials = format!("Basic {}", base64(format!("alice:{number}").as_bytes()));
        let fields = [("x-forwarded-for", "192.0.2.1"), ("authorization", credentials.as_str())];
        let stream = client.ask("GET", "/", &fields);
        let waiting = || gateway.metrics().compute.waiting.load(Ordering::Relaxed);
        eventually("it waits for a thread", || waiting() == number + 1);
        client.reset(stream, CANCEL);
    }
    let failed = || gateway.metrics().failed_credentials.load(Ordering::Relaxed);
    latch.open();
    eventually("they are counted", || failed() == 5);
    drop(held);
    assert_eq!(ask_from(&gateway, "192.0.2.1", "alice:open sesame").status, 429);
    assert_eq!(ask_from(&gateway, "192.0.2.2", "alice:open sesame").status, 200);
}

#[test]
fn wrong_keys_count_too_and_a_whole_64_is_one_address() {
    let (_backend, gateway) = kitchen();
    let ask = |address: &str, key: &str| {
        gateway.ask("GET", "/either", &format!("X-Forwarded-For: {address}\r\nX-Api-Key: {key}\r\n"), "").status
    };
    for number in 0..5 {
        assert_eq!(ask(&format!("2001:db8::{number}"), &format!("wrong-{number}")), 401);
    }
    assert_eq!(ask("2001:db8::ffff:1", "alices-key"), 429);
    assert_eq!(ask("2001:db8:0:1::1", "alices-key"), 200);
    assert_eq!(ask("2001:db8::ffff:1", "alices-key"), 200, "it is known by now");
}

#[test]
fn a_reload_forgives_nobody_and_forgets_what_it_knew() {
    let (backend, gateway) = kitchen();
    assert_eq!(ask(&gateway, "bob:password"), 200);
    for number in 0..5 {
        assert_eq!(ask_from(&gateway, "192.0.2.1", &format!("alice:{number}")).status, 401);
    }
    let without_bob: String = USERS.lines().take(1).map(|line| format!("{line}\n")).collect();
    let yaml = YAML.replace("$kitchen", &backend.address().to_string());
    gateway.publish_with(&yaml, &[("users.htpasswd", without_bob)]);
    assert_eq!(ask(&gateway, "bob:password"), 401);
    assert_eq!(ask(&gateway, "alice:open sesame"), 200);
    assert_eq!(ask_from(&gateway, "192.0.2.1", "alice:open sesame").status, 200, "known from the other address");
    assert_eq!(ask_from(&gateway, "192.0.2.1", "alice:again").status, 429);
    let weak = gateway.try_publish_with(&yaml, &[("users.htpasswd", "alice:secret\n".to_owned())]).expect_err("a weak file");
    assert!(weak.contains("users.htpasswd`, line 1") && weak.contains("htpasswd -B users.htpasswd alice"), "{weak}");
    assert_eq!(ask(&gateway, "alice:open sesame"), 200, "and nothing has changed");
}

#[test]
fn a_reload_that_changes_neither_users_nor_consumers_forgets_nothing() {
    let (backend, gateway) = kitchen();
    assert_eq!((ask(&gateway, "alice:open sesame"), hashes(&gateway)), (200, 1));
    let yaml = YAML.replace("$kitchen", &backend.address().to_string());
    gateway.publish(&format!("{yaml}      - {{ match: GET /more, proxy: kitchen }}\n"));
    assert_eq!((ask(&gateway, "alice:open sesame"), hashes(&gateway)), (200, 1));
    gateway.publish(&yaml.replace("alice: { groups: [staff]", "alice: { groups: [guests]"));
    assert_eq!(gateway.ask("GET", "/staff", &basic("alice:open sesame"), "").status, 403, "her groups are the new ones");
    assert_eq!(hashes(&gateway), 2);
}

#[test]
fn who_comes_when_all_are_busy_is_told_to_come_again() {
    let (_backend, gateway) = kitchen();
    assert_eq!(ask(&gateway, "alice:open sesame"), 200);
    let latch = Latch::new();
    let mut held = Vec::new();
    let threads = std::thread::available_parallelism().map_or(1, |cores| (usize::from(cores) / 2).max(1)) as u64;
    // Until every place is taken, every thread waits, and the places that this made free are taken too.
    for _ in 0..2 {
        while let Ok(job) = {
            let latch = latch.clone();
            gateway.compute().run(move || latch.wait())
        } {
            held.push(job);
        }
        eventually("all threads are busy", || hashes(&gateway) == 1 + threads);
    }
    let answer = gateway.ask("GET", "/", &basic("bob:password"), "");
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some() && answer.text().contains("authorizer_unavailable"));
    assert_eq!(ask(&gateway, "alice:open sesame"), 200, "what is known passes");
    latch.open();
    drop(held);
    eventually("there is room again", || ask(&gateway, "bob:password") == 200);
}
