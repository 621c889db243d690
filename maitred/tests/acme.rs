//! Certificates by ACME, as a user has them: a file, a process, an authority. What authorities get to see is the journeys' affair; here
//! one of them is Pebble, which shares no code with us.

#[allow(dead_code, reason = "other tests use the rest")]
mod process;

use maitred_testkit::{AcmeServer, Authority, Client, ClientTls, eventually};
use process::{Folder, Maitred};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const HELLO: &str = "
admin: { listen: 127.0.0.1:0 }
apis: { all: { routes: [ { match: GET /, respond: { text: hello } } ] } }
telemetry: { access_log: none }
";

fn file(server: &AcmeServer, domains: &str) -> String {
    let directory = server.directory();
    format!(
        "listen:
  - {{ address: 127.0.0.1:0, redirect_https: true }}
  - {{ address: 127.0.0.2:0, tls: {{ acme: {{ domains: [{domains}], directory: \"{directory}\", ca: ca.pem }} }} }}
{HELLO}"
    )
}

#[track_caller]
fn is_served(gateway: &Maitred, root: &str, name: &str) {
    let tls = ClientTls::believing(root, name);
    assert_eq!(Client::connect_tls(gateway.listening_for_tls(), &tls).get("/").text(), "hello");
}

#[test]
fn a_gateway_says_what_it_waits_for_and_then_what_it_has() {
    let folder = Folder::new("acme");
    let server = AcmeServer::new();
    let root = server.root().pem();
    folder.file("ca.pem", &root).file("maitred.yaml", &file(&server, "api.example.com"));
    let gateway = folder.run(&["run"]);
    let waiting = json!({ "status": "ready", "warning": "waiting for a certificate for api.example.com" });
    assert_eq!(gateway.admin_json("/readyz"), waiting);
    server.lead(gateway.listening(), gateway.listening_for_tls());
    gateway.eventually("/readyz", |ready| *ready == json!({ "status": "ready" }));
    is_served(&gateway, &root, "api.example.com");
    let metrics = gateway.admin("GET", "/metrics");
    assert!(
        metrics.contains("maitred_certificate_expiry_seconds{listener=\"127.0.0.2:0\",name=\"api.example.com\"} "),
        "{metrics}"
    );
    assert!(metrics.contains("maitred_acme_orders_total{result=\"ok\"} 1\n"), "{metrics}");

    folder.file("maitred.yaml", &file(&server, "api.example.com, www.example.com"));
    gateway.wait_for("there is a certificate domain=\"www.example.com\"");
    is_served(&gateway, &root, "www.example.com");
    is_served(&gateway, &root, "api.example.com");
    gateway.terminate();

    let restarted = folder.run(&["run"]);
    assert_eq!(restarted.admin_json("/readyz"), json!({ "status": "ready" }));
    is_served(&restarted, &root, "www.example.com");
    let said = restarted.terminate().stderr;
    assert!(!said.contains("ordering"), "{said}");
    assert_eq!((server.orders(), server.accounts(), server.complaints()), (2, 1, Vec::new()));
}

/// The one that leaves can't answer the authority any more: clients, and so it, are led to the next.
#[cfg(target_os = "linux")]
#[test]
fn an_upgrade_in_the_middle_of_an_order_delays_no_certificate() {
    use process::heir::{Heir, upgrade};
    Heir::adopt();
    let folder = Folder::new("acme-upgrade");
    let server = AcmeServer::new();
    let root = server.root().pem();
    folder.file("ca.pem", &root).file("maitred.yaml", &file(&server, "api.example.com"));
    let mut gateway = folder.run(&["run"]);
    // It has answered, and the authority does not look yet.
    eventually("the order of the first is under way", || server.asked("/challenge/0/http-01") == 1);
    let middle = upgrade(&gateway);
    assert_eq!(gateway.exit_code(), 0);
    eventually("the next one orders too", || server.asked("/challenge/1/http-01") == 1);
    let last = upgrade(&gateway);
    assert_eq!(middle.end(), 0);
    eventually("and the last", || server.asked("/challenge/2/http-01") == 1);
    // Now it looks: for the tokens of those who left, too.
    server.lead(gateway.listening(), gateway.listening_for_tls());
    has_all(&gateway);
    is_served(&gateway, &root, "api.example.com");
    assert_eq!((server.orders(), server.issued(), server.accounts(), server.complaints()), (3, 1, 1, Vec::new()));
    let validated: Vec<bool> = server.validations().iter().map(|validation| validation.result.is_ok()).collect();
    assert_eq!(validated.iter().filter(|ok| **ok).count(), 1, "{:?}", server.validations());
    let metrics = gateway.admin("GET", "/metrics");
    assert!(metrics.contains("maitred_acme_orders_total{result=\"ok\"} 1\n"), "{metrics}");
    assert!(metrics.contains("maitred_acme_orders_total{result=\"failed\"} 0\n"), "{metrics}");
    // What comes now finds it in its folder.
    let heir = upgrade(&gateway);
    assert_eq!(last.end(), 0);
    is_served(&gateway, &root, "api.example.com");
    assert_eq!(server.orders(), 3);
    heir.signal(libc::SIGTERM);
    assert_eq!(heir.end(), 0);
    let said = gateway.end().stderr;
    assert!(!said.contains("no certificate"), "{said}");
}

#[test]
fn a_folder_that_cannot_be_written_is_no_start() {
    let folder = Folder::new("acme-folder");
    let server = AcmeServer::new();
    folder.file("ca.pem", &server.root().pem()).file("acme", "a file").file("maitred.yaml", &file(&server, "api.example.com"));
    let done = folder.maitred(&["run"]);
    assert!(done.code != 0 && done.stderr.contains("certificates cannot be kept in the folder acme/"), "{}", done.stderr);
    assert_eq!(server.orders(), 0);
}

#[test]
fn check_warns_of_certificates_that_end() {
    let folder = Folder::new("ends");
    let authority = Authority::new("a test's");
    let (old, good) = (authority.expired_server(&["api.example.com"]), authority.server(&["api.example.com"]));
    let text = "listen:\n  - address: 127.0.0.1:0\n    tls: { certificates: { cert: api.pem, key: api.key } }\n";
    folder.file("maitred.yaml", &format!("{text}{HELLO}")).file("api.pem", &old.cert).file("api.key", &old.key);
    let done = folder.maitred(&["check"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for words in ["warning[certificate-ends]: `api.pem` has ended on 2001-01-01: clients refuse it", "maitred.yaml:3:34"] {
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
    folder.file("api.pem", &good.cert).file("api.key", &good.key);
    assert_eq!(folder.maitred(&["check"]).stderr, "");
}

/// Pebble, and a name server for it. All on a loopback address that nobody else uses, so that a port that was free a moment ago still is.
struct Pebble {
    child: Child,
    place: IpAddr,
    port: u16,
    management: u16,
    http: u16,
    tls: u16,
    /// Who vouches for Pebble's own TLS.
    authority: Authority,
}

fn free(place: IpAddr) -> u16 {
    TcpListener::bind((place, 0)).expect("a free port").local_addr().expect("bound").port()
}

impl Pebble {
    /// `None` where it is not installed.
    fn start(folder: &Folder, number: u8) -> Option<Pebble> {
        let [.., high, low] = std::process::id().to_be_bytes();
        let place = IpAddr::from(Ipv4Addr::new(127, 80 + number, high, low));
        let dns = name_server(place);
        let authority = Authority::new("for Pebble");
        let identity = authority.server(&[&place.to_string()]);
        folder.file("pebble.pem", &identity.cert).file("pebble.key", &identity.key).file("ca.pem", &authority.pem());
        let [port, management, http, tls] = [(); 4].map(|()| free(place));
        let configuration = json!({ "pebble": {
            "listenAddress": format!("{place}:{port}"), "managementListenAddress": format!("{place}:{management}"),
            "certificate": folder.path("pebble.pem"), "privateKey": folder.path("pebble.key"), "httpPort": http, "tlsPort": tls,
        } });
        folder.file("pebble.json", &configuration.to_string());
        let mut command = Command::new("pebble");
        command.arg("-config").arg(folder.path("pebble.json")).args(["-dnsserver", &dns.to_string()]);
        // No waiting to look like a busy authority, and no good nonces refused: a journey does that.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let pebble = Pebble { child, place, port, management, http, tls, authority };
        eventually("Pebble listens", || [port, management].iter().all(|port| TcpStream::connect((place, *port)).is_ok()));
        Some(pebble)
    }

    fn acme(&self) -> String {
        let Pebble { place, port, .. } = self;
        format!(
            "acme: {{ domains: [api.example.com, www.example.com], email: ops@example.com, directory: \"https://{place}:{port}/dir\", ca: ca.pem }}"
        )
    }

    /// Who vouches for what it issues: made anew at each start.
    fn root(&self) -> String {
        let tls = ClientTls::new(&self.authority, &self.place.to_string());
        Client::connect_tls(SocketAddr::new(self.place, self.management), &tls).get("/roots/0").text()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every name has this address (RFC 1035 §4.1), and nothing else.
fn name_server(place: IpAddr) -> SocketAddr {
    let IpAddr::V4(address) = place else { panic!("an IPv4 address") };
    let socket = UdpSocket::bind((place, 0)).expect("a free port");
    let name_server = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut bytes = [0; 1500];
        while let Ok((length, asker)) = socket.recv_from(&mut bytes) {
            let question = &bytes[12..length];
            let Some(end) = question.iter().position(|byte| *byte == 0) else { continue };
            let question = &question[..end + 5];
            let is_address = question[end + 1..end + 3] == [0, 1];
            // The id; an answer, recursion available; one question, one answer or none.
            let mut answer = [&bytes[..2], &[0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]].concat();
            answer.extend_from_slice(question);
            if is_address {
                // The name of the question, IN A, for a minute, four bytes.
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend_from_slice(&address.octets());
            }
            let _ = socket.send_to(&answer, asker);
        }
    });
    name_server
}

/// Says that Pebble is missing: a note at home, a failure in CI.
fn missing() {
    assert!(std::env::var_os("CI").is_none(), "pebble is missing; CI orders certificates from it");
    println!("NOTE: pebble is missing, so nothing is ordered from it");
}

fn stored(folder: &Folder) -> usize {
    let authorities = std::fs::read_dir(folder.path("acme")).expect("a folder");
    let files = authorities.flat_map(|entry| std::fs::read_dir(entry.expect("readable").path()).expect("a folder"));
    files
        .map(|entry| PathBuf::from(entry.expect("readable").file_name()))
        .filter(|name| name.extension() == Some("pem".as_ref()))
        .count()
}

fn has_all(gateway: &Maitred) {
    gateway.eventually("/readyz", |ready| ready["warning"] == Value::Null);
}

#[test]
fn pebble_validates_by_tls() {
    let folder = Folder::new("pebble-tls");
    let Some(pebble) = Pebble::start(&folder, 0) else { return missing() };
    let (place, port, acme) = (pebble.place, pebble.tls, pebble.acme());
    folder.file("maitred.yaml", &format!("listen: {{ address: \"{place}:{port}\", tls: {{ {acme} }} }}\n{HELLO}"));
    let gateway = folder.run(&["run"]);
    has_all(&gateway);
    for name in ["api.example.com", "www.example.com"] {
        is_served(&gateway, &pebble.root(), name);
    }
    assert_eq!(stored(&folder), 2);
}

#[test]
fn pebble_validates_by_http() {
    let folder = Folder::new("pebble-http");
    let Some(pebble) = Pebble::start(&folder, 1) else { return missing() };
    let (place, http, tls, acme) = (pebble.place, pebble.http, pebble.tls, pebble.acme());
    let clients = Authority::new("of clients");
    folder.file("clients.pem", &clients.pem());
    // Whoever must show a certificate cannot validate by TLS.
    let text = format!(
        "listen:
  - {{ address: \"{place}:{http}\", redirect_https: true }}
  - {{ address: \"{place}:{tls}\", tls: {{ {acme}, client_ca: clients.pem }} }}
{HELLO}"
    );
    folder.file("maitred.yaml", &text);
    let gateway = folder.run(&["run"]);
    has_all(&gateway);
    let tls = ClientTls::believing(&pebble.root(), "www.example.com").identity(&clients.client("alice"));
    assert_eq!(Client::connect_tls(gateway.listening_for_tls(), &tls).request("GET", "/", "", "").status, 421, "Host is not www");
    let mut client = Client::connect_tls(gateway.listening_for_tls(), &tls);
    client.send("GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
}
