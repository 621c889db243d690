//! Certificates by ACME: the authority really connects to the gateway before it issues anything.

use maitred_testkit::{
    AcmeServer, Authority, Backend, Client, ClientTls, Door, Folder, Gateway, Refusal, ServerTls, eventually, gateway_with, stays,
};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

/// An authority and a folder: what outlives a gateway.
struct Town {
    server: AcmeServer,
    folder: Folder,
}

impl Town {
    fn new() -> Town {
        Town { server: AcmeServer::new(), folder: Folder::new() }
    }

    /// The `acme` of a listener.
    fn acme(&self, domains: &str) -> String {
        let (directory, storage) = (self.server.directory(), self.folder.path("acme"));
        format!("acme: {{ domains: [{domains}], directory: \"{directory}\", ca: acme.pem, storage: {} }}", storage.display())
    }

    /// One listener that sends to https, and one with TLS.
    fn yaml(&self, domains: &str) -> String {
        let tls = self.acme(domains);
        format!(
            "listen:
  - {{ address: 127.0.0.1:0, redirect_https: true }}
  - {{ address: 127.0.0.2:0, tls: {{ {tls} }} }}
{HELLO}"
        )
    }

    /// Starts a gateway, and leads the authority to it.
    fn gateway(&self, yaml: &str) -> Gateway {
        let gateway = self.stranded(yaml);
        let addresses = gateway.addresses();
        self.server.lead(addresses[0], addresses[addresses.len() - 1]);
        gateway
    }

    /// Starts a gateway that the authority does not find yet.
    fn stranded(&self, yaml: &str) -> Gateway {
        gateway_with(yaml, &[], &[("acme.pem", self.server.root().pem())])
    }

    fn tls(&self, name: &str) -> ClientTls {
        ClientTls::new(self.server.root(), name)
    }

    #[track_caller]
    fn no_complaints(&self) {
        assert_eq!(self.server.complaints(), [""; 0]);
    }
}

const HELLO: &str = "apis: { all: { routes: [ { match: GET /, respond: { text: hello } } ] } }";

/// The listener with TLS is always the last.
fn secure(gateway: &Gateway) -> std::net::SocketAddr {
    *gateway.addresses().last().expect("a listener")
}

#[track_caller]
fn is_served(gateway: &Gateway, tls: &ClientTls) {
    assert_eq!(Client::connect_tls(secure(gateway), tls).get("/").text(), "hello");
}

#[track_caller]
fn has_all(gateway: &Gateway) {
    eventually("every domain has a certificate", || gateway.waiting().is_none());
}

fn counts(gateway: &Gateway) -> (u64, u64) {
    let metrics = gateway.metrics();
    (metrics.acme_ok.load(Ordering::Relaxed), metrics.acme_failed.load(Ordering::Relaxed))
}

#[test]
fn a_certificate_is_obtained_by_http_and_served_with_its_chain() {
    let town = Town::new();
    // Neither port is the usual one, so the first that can be met is.
    town.server.offer(&["dns-01", "http-01", "tls-alpn-01"]);
    let gateway = town.gateway(&town.yaml("api.example.com"));
    has_all(&gateway);
    is_served(&gateway, &town.tls("api.example.com"));
    let validations = town.server.validations();
    assert_eq!((validations.len(), validations[0].challenge, &validations[0].result), (1, "http-01", &Ok(())));
    assert_eq!((town.server.issued(), counts(&gateway)), (1, (1, 0)));
    town.no_complaints();
}

#[test]
fn a_certificate_is_obtained_by_tls_alone() {
    let town = Town::new();
    town.server.offer(&["http-01", "tls-alpn-01"]);
    let gateway =
        town.gateway(&format!("listen: {{ address: 127.0.0.1:0, tls: {{ {} }} }}\n{HELLO}", town.acme("api.example.com")));
    eventually("an order ends", || counts(&gateway) != (0, 0));
    let validations = town.server.validations();
    assert_eq!((validations.len(), validations[0].challenge, &validations[0].result), (1, "tls-alpn-01", &Ok(())));
    is_served(&gateway, &town.tls("api.example.com"));
    town.no_complaints();
}

#[test]
fn each_domain_has_a_certificate_of_its_own_and_a_bad_one_holds_up_no_other() {
    let town = Town::new();
    town.server.miss("bad.example.com");
    let gateway = town.gateway(&town.yaml("bad.example.com, api.example.com, www.example.com"));
    eventually("the good ones are there", || counts(&gateway) == (2, 1));
    assert_eq!(gateway.waiting().as_deref(), Some("waiting for a certificate for bad.example.com"));
    for name in ["api.example.com", "www.example.com"] {
        is_served(&gateway, &town.tls(name));
    }
    assert!(town.tls("bad.example.com").try_connect(secure(&gateway)).is_err(), "another's certificate");
    assert_eq!(town.server.accounts(), 1, "orders at the same time make one account");
    town.no_complaints();
}

#[test]
fn listeners_share_an_account_and_what_they_both_ask_for() {
    let town = Town::new();
    let listener =
        |address: &str, domains: &str| format!("  - {{ address: \"{address}:0\", tls: {{ {} }} }}\n", town.acme(domains));
    let (one, other) =
        (listener("127.0.0.2", "a.example.com, b.example.com"), listener("127.0.0.3", "c.example.com, b.example.com"));
    let gateway = town.gateway(&format!("listen:\n  - 127.0.0.1:0\n{one}{other}{HELLO}"));
    has_all(&gateway);
    let addresses = gateway.addresses();
    for (address, name) in [(1, "a.example.com"), (1, "b.example.com"), (2, "b.example.com"), (2, "c.example.com")] {
        assert_eq!(Client::connect_tls(addresses[address], &town.tls(name)).get("/").text(), "hello");
    }
    assert_eq!((town.server.orders(), town.server.accounts()), (3, 1));
    town.no_complaints();
}

#[test]
fn until_it_comes_handshakes_fail_and_the_rest_is_served() {
    let town = Town::new();
    let other = Authority::new("another");
    let own = other.server(&["own.example.com"]);
    let tls = format!("certificates: {{ cert: own.pem, key: own.key }}, {}", town.acme("api.example.com"));
    let yaml = format!(
        "listen:
  - {{ address: 127.0.0.1:0, redirect_https: true }}
  - 127.0.0.3:0
  - {{ address: 127.0.0.4:0, tls: {{ {} }} }}
  - {{ address: 127.0.0.2:0, tls: {{ {tls} }} }}
{HELLO}",
        town.acme("api.example.com")
    );
    let files = [("acme.pem", town.server.root().pem()), ("own.pem", own.cert.clone()), ("own.key", own.key.clone())];
    let gateway = gateway_with(&yaml, &[], &files);
    eventually("an answer is up", || town.server.asked("/challenge/0/http-01") == 1);
    assert_eq!(gateway.waiting().as_deref(), Some("waiting for a certificate for api.example.com"));
    let addresses = gateway.addresses();
    let refused = town.tls("api.example.com").try_connect(addresses[2]).map(drop).expect_err("no certificate");
    assert!(refused.to_string().contains("alert"), "{refused}");
    assert_eq!(gateway.get("/").status, 308);
    assert_eq!(Client::connect(addresses[1]).get("/").text(), "hello");
    is_served(&gateway, &ClientTls::new(&other, "own.example.com"));

    // Who knows the token is answered, before any redirect; but only in the clear.
    let path = format!("/.well-known/acme-challenge/{}", town.server.token());
    for address in &addresses[..2] {
        let answer = Client::connect(*address).get(&path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
        assert!(answer.text().starts_with(&town.server.token()), "{}", answer.text());
        assert_eq!(Client::connect(*address).request("HEAD", &path, "", "").status, 200);
    }
    for (address, method, path, status) in [
        (0, "POST", path.as_str(), 308),
        (0, "GET", "/.well-known/acme-challenge/guessed", 308),
        (0, "GET", "/.well-known/acme-challenge/", 308),
        (1, "POST", &path, 404),
        (1, "GET", "/.well-known/acme-challenge/guessed", 404),
        (1, "GET", &format!("{path}/x"), 404),
    ] {
        assert_eq!(Client::connect(addresses[address]).request(method, path, "", "").status, status, "{address} {method} {path}");
    }
    let mut secured = Client::connect_tls(secure(&gateway), &ClientTls::new(&other, "own.example.com"));
    assert_eq!(secured.get(&path).status, 404);

    town.server.lead(addresses[0], addresses[3]);
    has_all(&gateway);
    assert_eq!(gateway.get(&path).status, 308, "the token has served");
    is_served(&gateway, &town.tls("api.example.com"));
    is_served(&gateway, &ClientTls::new(&other, "own.example.com"));
    town.no_complaints();
}

#[test]
fn a_restart_orders_nothing_and_needs_no_authority() {
    let town = Town::new();
    let yaml = town.yaml("api.example.com, www.example.com");
    let mut gateway = town.gateway(&yaml);
    has_all(&gateway);
    gateway.stop();
    drop(gateway);
    let Town { server, folder } = town;
    let root = ClientTls::new(server.root(), "www.example.com");
    let restarted = gateway_with(&yaml, &[], &[("acme.pem", server.root().pem())]);
    assert_eq!(restarted.waiting(), None);
    is_served(&restarted, &root);
    assert_eq!(stays("it goes on ordering", || server.orders() as u64), 2);
    drop(restarted);
    let pem = server.root().pem();
    drop(server);
    let alone = gateway_with(&yaml, &[], &[("acme.pem", pem)]);
    is_served(&alone, &root);
    let store =
        std::fs::read_dir(folder.path("acme")).expect("a folder").next().expect("of one authority").expect("readable").path();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(store).expect("a folder") {
        let entry = entry.expect("readable");
        assert_eq!(entry.metadata().expect("readable").permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().expect("text"));
    }
    names.sort();
    assert_eq!(names, ["account.json", "api.example.com.pem", "www.example.com.pem"]);
}

#[test]
fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
    let town = Town::new();
    let gateway = town.gateway(&town.yaml("api.example.com"));
    has_all(&gateway);
    let first = Client::connect_tls(secure(&gateway), &town.tls("api.example.com")).handshake().peer_ends();
    let turn = |by: Duration| {
        town.server.turn(by);
        gateway.turn(by);
    };
    turn(DAY * 59);
    assert_eq!(stays("it goes on ordering", || town.server.orders() as u64), 1);
    turn(DAY * 4);
    eventually("it is renewed", || counts(&gateway) == (2, 0));
    let tls = town.tls("api.example.com").ahead(DAY * 63);
    let mut new = Client::connect_tls(secure(&gateway), &tls);
    assert!(new.handshake().peer_ends() >= first + 62 * 24 * 3600);
    assert_eq!(new.get("/").text(), "hello");
    assert_eq!((town.server.issued(), town.server.accounts()), (2, 1));
    town.no_complaints();
}

#[test]
fn an_order_that_fails_is_repeated_later_and_later() {
    let town = Town::new();
    town.server.refuse(Some(Refusal { status: 500, kind: "serverInternal", retry_after: None }));
    let gateway = town.gateway(&town.yaml("api.example.com"));
    eventually("it fails", || counts(&gateway) == (0, 1));
    let failed = || counts(&gateway).1;
    gateway.turn(MINUTE - Duration::from_secs(5));
    assert_eq!(stays("it goes on failing", failed), 1, "never sooner than after a minute");
    gateway.turn(Duration::from_secs(25));
    eventually("it is tried again", || failed() == 2);
    gateway.turn(MINUTE * 2);
    assert_eq!(stays("it goes on failing", failed), 2, "three times as long as before");
    assert_eq!(gateway.get("/").status, 308, "and all the while the rest is served");
    town.server.refuse(None);
    gateway.turn(MINUTE * 2);
    has_all(&gateway);
    is_served(&gateway, &town.tls("api.example.com"));
    town.no_complaints();
}

#[test]
fn an_authority_that_asks_for_patience_gets_it() {
    let town = Town::new();
    town.server.refuse(Some(Refusal { status: 429, kind: "rateLimited", retry_after: Some("7200".to_owned()) }));
    let gateway = town.gateway(&town.yaml("api.example.com"));
    eventually("it fails", || counts(&gateway) == (0, 1));
    town.server.refuse(None);
    gateway.turn(MINUTE * 119);
    assert_eq!(stays("it goes on ordering", || town.server.orders() as u64), 0);
    gateway.turn(MINUTE);
    has_all(&gateway);
}

#[test]
fn an_authority_that_answers_nonsense_or_without_end_is_left() {
    let authority = Authority::new("a bad one");
    let identity = authority.server(&["127.0.0.1"]);
    for endless in [false, true] {
        let bad = Backend::behind(Door::tls(ServerTls::new(&identity)), move |_, conn| {
            if endless {
                conn.chunked_head(200, "");
                while conn.chunk([b' '; 16 * 1024]) {}
            } else {
                conn.answer(502, "content-type: text/html\r\nretry-after: 3600\r\n", "<html>");
            }
        });
        let town = Town::new();
        let here = town.server.address().to_string();
        let yaml = town.yaml("api.example.com").replace(&here, &bad.address().to_string());
        let gateway = gateway_with(&yaml, &[], &[("acme.pem", authority.pem())]);
        eventually("it is given up", || counts(&gateway) == (0, 1));
        gateway.turn(MINUTE * 2);
        if endless {
            eventually("it is tried again", || counts(&gateway) == (0, 2));
        } else {
            assert_eq!(stays("it goes on failing", || counts(&gateway).1), 1, "it was told to wait for longer");
        }
        assert_eq!(gateway.get("/").status, 308);
    }
}

#[test]
fn a_renewal_that_fails_leaves_what_is_served() {
    let town = Town::new();
    let gateway = town.gateway(&town.yaml("api.example.com"));
    has_all(&gateway);
    town.server.refuse(Some(Refusal { status: 503, kind: "serverInternal", retry_after: None }));
    gateway.turn(DAY * 63);
    eventually("the renewal fails", || counts(&gateway) == (1, 1));
    assert_eq!(gateway.waiting(), None);
    is_served(&gateway, &town.tls("api.example.com"));
    // Also when it has ended: a client that sees when it ended knows more than one that sees nothing.
    gateway.turn(DAY * 63);
    eventually("it fails again", || counts(&gateway) == (1, 2));
    is_served(&gateway, &town.tls("api.example.com"));
}

#[test]
fn after_a_failure_the_other_challenge_has_its_turn() {
    let town = Town::new();
    town.server.offer(&["http-01", "tls-alpn-01"]);
    let gateway = town.stranded(&town.yaml("api.example.com"));
    let (nobody, _socket) = maitred_testkit::nobody();
    town.server.lead(nobody, secure(&gateway));
    eventually("nobody answers on port 80", || counts(&gateway) == (0, 1));
    gateway.turn(MINUTE * 2);
    has_all(&gateway);
    let met: Vec<_> = town.server.validations().iter().map(|one| (one.challenge, one.result.is_ok())).collect();
    assert_eq!(met, [("http-01", false), ("tls-alpn-01", true)]);
    town.no_complaints();
}

#[test]
fn a_challenge_that_is_named_is_the_only_one() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let town = Town::new();
        town.server.offer(&["dns-01", "tls-alpn-01", "http-01"]);
        town.server.miss("api.example.com");
        let yaml = town.yaml("api.example.com");
        let gateway = town.gateway(&yaml.replace("acme: {", &format!("acme: {{ challenge: {challenge},")));
        eventually("the first try fails", || counts(&gateway) == (0, 1));
        gateway.turn(2 * MINUTE);
        eventually("and the second", || counts(&gateway) == (0, 2));
        let tried: Vec<_> = town.server.validations().iter().map(|validation| validation.challenge).collect();
        assert_eq!(tried, [challenge; 2]);
        // A reload says otherwise.
        gateway.publish_with(&yaml, &[("acme.pem", town.server.root().pem())]);
        gateway.turn(10 * MINUTE);
        eventually("and the third", || counts(&gateway) == (0, 3));
        assert_eq!(town.server.validations().len(), 3);
        town.no_complaints();
    }
}

#[test]
fn a_nonce_that_is_too_old_is_replaced() {
    let town = Town::new();
    town.server.forget_nonces(2);
    let gateway = town.gateway(&town.yaml("api.example.com"));
    has_all(&gateway);
    assert_eq!(counts(&gateway), (1, 0));
    town.no_complaints();
}

#[test]
fn an_account_that_the_authority_forgot_is_made_anew() {
    let town = Town::new();
    let gateway = town.gateway(&town.yaml("api.example.com"));
    has_all(&gateway);
    town.server.forget_accounts();
    gateway.publish(&town.yaml("api.example.com, www.example.com"));
    eventually("the old account is refused", || counts(&gateway) == (1, 1));
    gateway.turn(MINUTE * 2);
    has_all(&gateway);
    assert_eq!(town.server.accounts(), 2);
}

#[test]
fn a_reload_orders_what_is_new_and_drops_what_is_gone() {
    let town = Town::new();
    let gateway = town.gateway(&town.yaml("api.example.com"));
    has_all(&gateway);
    let mut kept = Client::connect_tls(secure(&gateway), &town.tls("api.example.com"));
    gateway.publish(&town.yaml("www.example.com, api.example.com").replace("directory:", "email: ops@example.com, directory:"));
    is_served(&gateway, &town.tls("api.example.com"));
    has_all(&gateway);
    is_served(&gateway, &town.tls("www.example.com"));
    assert_eq!((town.server.orders(), town.server.accounts()), (2, 1));
    assert_eq!(town.server.contact(0).to_string(), "[\"mailto:ops@example.com\"]");
    gateway.publish(&town.yaml("www.example.com"));
    assert!(town.tls("api.example.com").try_connect(secure(&gateway)).is_err());
    is_served(&gateway, &town.tls("www.example.com"));
    gateway.publish(&town.yaml("www.example.com, api.example.com"));
    is_served(&gateway, &town.tls("api.example.com"));
    assert_eq!(stays("it goes on ordering", || town.server.orders() as u64), 2, "it was in the folder");
    assert_eq!(kept.get("/").text(), "hello");
    town.no_complaints();
}

#[test]
fn a_domain_that_comes_back_does_not_forget_its_failures() {
    let town = Town::new();
    town.server.miss("api.example.com");
    let gateway = town.gateway(&town.yaml("api.example.com"));
    eventually("it fails", || counts(&gateway) == (0, 1));
    gateway.publish(HELLO);
    gateway.publish(&town.yaml("api.example.com"));
    assert_eq!(stays("it goes on failing", || counts(&gateway).1), 1);
}

#[test]
fn a_folder_that_cannot_be_written_is_known_at_once() {
    let town = Town::new();
    let gateway = town.stranded(HELLO);
    std::fs::write(town.folder.path("acme"), "a file").expect("a file");
    let words = gateway.try_publish(&town.yaml("api.example.com")).expect_err("nothing could be kept");
    assert!(words.contains("cannot be kept"), "{words}");
    assert_eq!(gateway.get("/").text(), "hello");
    assert_eq!(town.server.orders(), 0);
}

#[test]
fn an_authority_says_when_it_would_like_the_renewal() {
    let town = Town::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    town.server.suggest(now - 600, now - 300);
    let gateway = town.gateway(&town.yaml("api.example.com"));
    has_all(&gateway);
    assert_eq!(stays("it goes on ordering", || town.server.orders() as u64), 1, "not one after the other");
    town.server.turn(MINUTE * 61);
    gateway.turn(MINUTE * 61);
    eventually("it is renewed", || counts(&gateway) == (2, 0));
    let replaced = town.server.replaced();
    assert!(replaced.len() == 1 && replaced[0].contains('.'), "{replaced:?}");
    town.no_complaints();
}
