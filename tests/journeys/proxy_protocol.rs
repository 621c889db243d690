//! PROXY headers: believed only from those who are trusted with them, and written for back ends that want them.

use maitred_testkit::{
    Authority, Backend, Client, ClientTls, Door, Gateway, H2Client, ServerTls, Stream, eventually, gateway, gateway_with,
    proxy_v1, proxy_v2, proxy_v2_local,
};
use std::net::SocketAddr;
use std::time::Duration;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A listener that believes 127.0.0.1 and nobody else.
fn believing(backend: &Backend) -> Gateway {
    let yaml = "listen: [ { address: \"127.0.0.1:0\", proxy_protocol: { from: [127.0.0.1] } } ]
limits: { handshake_timeout: 10s }
upstreams: { kitchen: \"http://$kitchen\" }
apis:
  all:
    routes:
      - ANY /: kitchen
      - { match: GET /denied, proxy: kitchen, ip: { deny: [192.0.2.0/24] } }
      - { match: GET /own, proxy: kitchen, transform: { request: { headers: { set: { x-client: \"{client.ip}\" } } } } }
";
    gateway(yaml, &[("kitchen", backend.address())])
}

const V4: (&str, &str) = ("192.0.2.7:4711", "198.51.100.1:443");
const V6: (&str, &str) = ("[2001:db8::7]:4711", "[2001:db8::1]:443");

#[test]
fn the_header_says_who_the_client_is() {
    let backend = Backend::echo();
    let gateway = believing(&backend);
    for (source, destination) in [V4, V6] {
        let (from, to) = (address(source), address(destination));
        for header in [proxy_v1(from, to), proxy_v2(from, to, &[]), proxy_v2(from, to, &[0x04, 0, 2, 0, 0])] {
            let mut client = gateway.client();
            client.send(&header);
            for _ in 0..2 {
                assert_eq!(client.get("/own").status, 200);
                let received = backend.last();
                let ip = from.ip().to_string();
                assert_eq!(received.header("x-client"), Some(ip.as_str()));
                assert_eq!(received.header("x-forwarded-for"), Some(ip.as_str()));
            }
        }
    }
    let mut client = gateway.client();
    client.send(proxy_v1(address(V4.0), address(V4.1)));
    assert_eq!(client.get("/denied").status, 403, "and rules of addresses go by it");
}

#[test]
fn header_and_request_may_come_in_one_piece_or_byte_by_byte() {
    let backend = Backend::echo();
    let gateway = believing(&backend);
    for header in [proxy_v1(address(V4.0), address(V4.1)), proxy_v2(address(V4.0), address(V4.1), &[])] {
        let whole = [&header[..], b"GET /own HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let mut client = gateway.client();
        client.send(&whole);
        assert_eq!(client.response().status, 200);
        let mut client = gateway.client();
        for byte in whole {
            client.send([byte]);
        }
        assert_eq!(client.response().status, 200);
        assert_eq!(backend.last().header("x-client"), Some("192.0.2.7"));
    }
}

#[test]
fn a_header_of_nobody_leaves_the_address_that_it_came_from() {
    let backend = Backend::echo();
    let gateway = believing(&backend);
    for header in [proxy_v2_local(), b"PROXY UNKNOWN\r\n".to_vec(), b"PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n".to_vec()] {
        let mut client = gateway.client();
        client.send(header);
        assert_eq!(client.get("/own").status, 200);
        assert_eq!(backend.last().header("x-client"), Some("127.0.0.1"));
    }
}

#[test]
fn garbage_is_closed_without_a_word() {
    let backend = Backend::echo();
    let gateway = believing(&backend);
    let good = proxy_v2(address(V4.0), address(V4.1), &[]);
    let mut version = good.clone();
    version[12] = 0x31;
    let mut command = good.clone();
    command[12] = 0x2f;
    let mut short = good.clone();
    short[15] = 4;
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
        [&version[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
        [&command[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
        [&short[..16], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
    ] {
        let mut client = gateway.client();
        let _ = client.try_send(&bytes);
        let (answer, _) = client.read_to_end();
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", answer.escape_ascii());
    }
    assert_eq!(backend.count(), 0);
    eventually("nothing is left of them", || gateway.open() == 0);
}

#[test]
fn strangers_are_not_believed() {
    let backend = Backend::echo();
    let gateway = believing(&backend);
    let mut stranger = Client::connect_from("127.0.0.9".parse().expect("an address"), gateway.address());
    let _ = stranger.try_send(proxy_v1(address(V4.0), address(V4.1)));
    let _ = stranger.try_send("GET /own HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = stranger.try_response("GET").map(|response| response.status);
    assert!(!matches!(answer, Ok(200)), "{answer:?}");
    assert!(backend.requests().iter().all(|request| request.header("x-client") != Some("192.0.2.7")));
}

#[test]
fn where_none_is_expected_a_header_is_no_request() {
    let backend = Backend::echo();
    let gateway = maitred_testkit::gateway_to(&backend);
    for header in [proxy_v1(address(V4.0), address(V4.1)), proxy_v2(address(V4.0), address(V4.1), &[])] {
        let mut client = gateway.client();
        let _ = client.try_send([&header[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        let answer = client.try_response("GET").map(|response| response.status);
        assert!(!matches!(answer, Ok(200)), "{answer:?}");
    }
    assert_eq!(backend.count(), 0);
}

#[test]
fn a_header_that_never_ends_has_its_time() {
    let backend = Backend::echo();
    let gateway = believing(&backend);
    for part in [&b""[..], b"PROXY TCP4 1.2", &proxy_v2(address(V4.0), address(V4.1), &[])[..20]] {
        let mut client = gateway.client();
        client.send(part);
        eventually("it is accepted", || gateway.open() == 1);
        eventually("it is left", || {
            gateway.turn(Duration::from_secs(11));
            gateway.open() == 0
        });
        client.closed();
    }
}

#[test]
fn http_2_and_tls_come_behind_the_header() {
    let authority = Authority::new("the test's");
    let identity = authority.server(&["a.test"]);
    let backend = Backend::echo();
    let yaml = "listen:
  - { address: \"127.0.0.1:0\", proxy_protocol: { from: [127.0.0.0/8] } }
  - { address: \"127.0.0.2:0\", proxy_protocol: { from: [127.0.0.0/8] }, tls: { certificates: [ { cert: a.pem, key: a.key } ] } }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ ANY /: kitchen ] } }";
    let files = [("a.pem", identity.cert.clone()), ("a.key", identity.key.clone())];
    let gateway = gateway_with(yaml, &[("kitchen", backend.address())], &files);
    let header = proxy_v2(address(V4.0), address(V4.1), &[]);
    let connect = |at: usize| {
        let stream = Stream::connect(gateway.addresses()[at]).expect("a listener");
        stream.write_all(&header).expect("a listener that takes it");
        stream
    };
    assert_eq!(H2Client::over(connect(0)).get("/").status, 200);
    let tls = ClientTls::new(&authority, "a.test");
    assert_eq!(Client::over(tls.over(connect(1)).expect("a handshake")).get("/").status, 200);
    let h2 = ClientTls::new(&authority, "a.test").h2();
    assert_eq!(H2Client::over(h2.over(connect(1)).expect("a handshake")).get("/").status, 200);
    let clients: Vec<_> = backend.requests().iter().map(|request| request.header("x-forwarded-for").map(str::to_owned)).collect();
    assert_eq!(clients, vec![Some("192.0.2.7".to_owned()); 3]);
}

#[test]
fn limits_of_connections_go_by_who_connected() {
    let backend = Backend::echo();
    let yaml = "listen: [ { address: \"127.0.0.1:0\", proxy_protocol: { from: [127.0.0.1] } } ]
limits: { connections_per_ip: 3 }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ ANY /: kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let client = |host: u8| {
        let mut client = gateway.client();
        let _ = client.try_send(proxy_v1(SocketAddr::from(([192, 0, 2, host], 9)), address(V4.1)));
        let _ = client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    };
    // A load balancer brings everybody: whom it brings is what must be limited, if anything is.
    let mut kept = Vec::new();
    for host in 0..6 {
        let mut one = client(host);
        assert_eq!(one.response().status, 200, "another client through the same balancer");
        kept.push(one);
    }
}

/// To a back end that wants a header before everything.
fn telling(version: &str, backend: &Backend, more: &str) -> Gateway {
    let yaml = format!(
        "{more}
upstreams: {{ kitchen: {{ endpoints: [\"http://$kitchen\"], proxy_protocol: {version} }} }}
apis: {{ all: {{ routes: [ ANY /: kitchen ] }} }}"
    );
    gateway(&yaml, &[("kitchen", backend.address())])
}

fn source_of(backend: &Backend, at: usize) -> (u8, Option<(SocketAddr, SocketAddr)>) {
    let header = backend.proxy_headers()[at].clone().unwrap_or_else(|why| panic!("no header: {why}"));
    (header.version, header.addresses)
}

#[test]
fn a_back_end_is_told_who_the_client_is() {
    for (version, number) in [("v1", 1), ("v2", 2)] {
        let backend = Backend::echo_behind(Door::plain().proxied());
        let gateway = telling(version, &backend, "");
        let mut client = gateway.client();
        assert_eq!(client.request("POST", "/", "", "body").json()["body"], "body");
        let (found, addresses) = source_of(&backend, 0);
        assert_eq!((found, addresses), (number, Some((client.local(), gateway.address()))));
    }
}

#[test]
fn connections_with_a_header_are_never_shared_between_clients() {
    let backend = Backend::echo_behind(Door::plain().proxied());
    let gateway = telling("v2", &backend, "");
    let (mut one, mut two) = (gateway.client(), gateway.client());
    for _ in 0..3 {
        assert_eq!((one.get("/").status, two.get("/").status), (200, 200));
    }
    // Who asked in turn was served in turn: a connection told of one must never carry the other's request.
    let sources: Vec<_> =
        backend.requests().iter().map(|request| source_of(&backend, request.connection).1.map(|(source, _)| source)).collect();
    assert_eq!(sources, [Some(one.local()), Some(two.local())].repeat(3));
}

#[test]
fn streams_of_http_2_tell_of_their_connection() {
    let backend = Backend::echo_behind(Door::plain().proxied());
    let gateway = telling("v2", &backend, "");
    let mut client = gateway.h2();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    let sources = (0..backend.proxy_headers().len()).map(|at| source_of(&backend, at).1.map(|(source, _)| source));
    assert!(sources.into_iter().all(|source| source == Some(client.local())));
}

#[test]
fn what_was_believed_is_passed_on() {
    let backend = Backend::echo_behind(Door::plain().proxied());
    let listen = "listen: [ { address: \"127.0.0.1:0\", proxy_protocol: { from: [127.0.0.1] } } ]";
    for (version, (source, destination)) in [("v1", V4), ("v2", V4), ("v1", V6), ("v2", V6)] {
        let count = backend.proxy_headers().len();
        let gateway = telling(version, &backend, listen);
        let mut client = gateway.client();
        client.send(proxy_v1(address(source), address(destination)));
        assert_eq!(client.get("/").status, 200);
        let (_, addresses) = source_of(&backend, count);
        assert_eq!(addresses.map(|(source, _)| source), Some(address(source)), "{version}");
    }
}

#[test]
fn the_header_comes_before_tls() {
    let authority = Authority::new("the kitchen's");
    let door = Door::tls(ServerTls::new(&authority.server(&["127.0.0.1"]))).proxied();
    let backend = Backend::named_behind(door, "x");
    let yaml = "upstreams: { kitchen: { endpoints: [\"https://$kitchen\"], proxy_protocol: v1, tls: { ca: ca.pem } } }
apis: { all: { routes: [ ANY /: kitchen ] } }";
    let gateway = gateway_with(yaml, &[("kitchen", backend.address())], &[("ca.pem", authority.pem())]);
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "x");
    assert_eq!(source_of(&backend, 0).1.map(|(source, _)| source), Some(client.local()));
}
