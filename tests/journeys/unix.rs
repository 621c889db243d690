//! Unix sockets on both sides: the same HTTP without addresses.

use maitred_testkit::{
    Authority, Backend, Client, ClientTls, Door, Folder, Gateway, H2Backend, H2Client, H2Options, Latch, Stream, eventually,
    gateway, gateway_with, proxy_v1,
};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

fn listening(path: &Path, more: &str, backend: &Backend) -> Gateway {
    let yaml = format!(
        "listen: [ {{ address: \"unix:{}\"{more} }} ]
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis: {{ all: {{ routes: [ ANY /: kitchen ] }} }}",
        path.display()
    );
    gateway(&yaml, &[("kitchen", backend.address())])
}

#[test]
fn clients_come_through_a_socket_of_this_machine() {
    let folder = Folder::new();
    let path = folder.path("s");
    let backend = Backend::echo();
    let gateway = listening(&path, "", &backend);
    let mut client = Client::connect_unix(&path);
    for body in ["", "body", "again"] {
        assert_eq!(client.request("POST", "/", "", body).json()["body"], body);
    }
    let received = backend.last();
    assert_eq!(received.header("x-forwarded-proto"), Some("http"));
    // There is no address to tell of; what is told must not pass for one of the network's.
    let told = received.headers.members("x-forwarded-for").join(",");
    assert!(told.is_empty() || told == "127.0.0.1" || told == "unknown" || told == "unix:", "{told}");
    assert_eq!(H2Client::over(Stream::connect_unix(&path).expect("a listener")).get("/").status, 200);
    assert_eq!(gateway.counted("ANY /"), 4);
}

#[test]
fn tls_and_proxy_headers_work_there_too() {
    let folder = Folder::new();
    let (secured, told) = (folder.path("tls"), folder.path("proxy"));
    let authority = Authority::new("the test's");
    let identity = authority.server(&["a.test"]);
    let backend = Backend::echo();
    let yaml = format!(
        "listen:
  - {{ address: \"unix:{}\", tls: {{ certificates: [ {{ cert: a.pem, key: a.key }} ] }} }}
  - {{ address: \"unix:{}\", proxy_protocol: {{}} }}
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis: {{ all: {{ routes: [ ANY /: kitchen ] }} }}",
        secured.display(),
        told.display()
    );
    let files = [("a.pem", identity.cert.clone()), ("a.key", identity.key.clone())];
    let _gateway = gateway_with(&yaml, &[("kitchen", backend.address())], &files);
    let tls = ClientTls::new(&authority, "a.test");
    assert_eq!(Client::over(tls.connect_unix(&secured)).get("/").status, 200);
    assert_eq!(backend.last().header("x-forwarded-proto"), Some("https"));
    let mut client = Client::connect_unix(&told);
    client.send(proxy_v1("192.0.2.7:1".parse().expect("an address"), "192.0.2.8:2".parse().expect("an address")));
    assert_eq!(client.get("/").status, 200);
    assert_eq!(backend.last().header("x-forwarded-for"), Some("192.0.2.7"));
}

#[test]
fn every_worker_takes_its_share() {
    let folder = Folder::new();
    let path = folder.path("s");
    let yaml = format!(
        "workers: 2\nlisten: [ \"unix:{}\" ]\napis: {{ all: {{ routes: [ {{ match: GET /, respond: {{ text: x }} }} ] }} }}",
        path.display()
    );
    let gateway = gateway(&yaml, &[]);
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect_unix(&path)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").text(), "x"));
    let accepted: Vec<u64> = gateway.metrics().workers.iter().map(|shard| shard.connections_accepted.get()).collect();
    assert_eq!(accepted.iter().sum::<u64>(), 40, "{accepted:?}");
}

#[test]
fn what_another_process_left_behind_gives_way() {
    let folder = Folder::new();
    let path = folder.path("s");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a place for a socket"));
    assert!(path.exists(), "nobody listens there, and the file is still there");
    let backend = Backend::named("x");
    let mut gateway = listening(&path, "", &backend);
    assert_eq!(Client::connect_unix(&path).get("/").text(), "x");
    assert!(std::fs::symlink_metadata(&path).is_ok_and(|file| file.file_type().is_socket()));
    gateway.stop();
    assert!(Stream::connect_unix(&path).is_err(), "nobody listens any more");
    let again = listening(&path, "", &backend);
    assert_eq!(Client::connect_unix(&path).get("/").text(), "x");
    drop(again);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = Folder::new();
    let path = folder.path("s");
    std::fs::write(&path, "precious").expect("a writable folder");
    let backend = Backend::named("x");
    let plain = gateway("apis: { all: { routes: [ { match: GET /, respond: { text: x } } ] } }", &[]);
    let yaml = format!(
        "listen: [ \"127.0.0.1:0\", \"unix:{}\" ]\napis: {{ all: {{ routes: [ {{ match: GET /, proxy: \"http://{}\" }} ] }} }}",
        path.display(),
        backend.address()
    );
    let words = plain.try_publish(&yaml).expect_err("a place that is taken");
    assert!(words.contains(&path.display().to_string()) && words.contains("that is no socket"), "{words}");
    assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some("precious"));
    assert_eq!(plain.get("/").text(), "x", "and nothing has changed");
}

#[test]
fn listeners_come_and_go() {
    let folder = Folder::new();
    let path = folder.path("s");
    let text = |text: &str| format!("apis: {{ all: {{ routes: [ {{ match: GET /, respond: {{ text: {text} }} }} ] }} }}");
    let gateway = gateway(&text("old"), &[]);
    gateway.publish(&format!("listen: [ \"127.0.0.1:0\", \"unix:{}\" ]\n{}", path.display(), text("both")));
    let mut client = Client::connect_unix(&path);
    assert_eq!((client.get("/").text().as_str(), gateway.get("/").text().as_str()), ("both", "both"));
    gateway.publish(&text("new"));
    eventually("nobody listens there any more", || Stream::connect_unix(&path).is_err());
    assert_eq!(client.get("/").text(), "new", "its connections are served to their end");
}

#[test]
fn a_back_end_behind_a_socket() {
    let backend = Backend::echo_behind(Door::unix());
    let url = format!("unix:{}", backend.path().display());
    let yaml = format!("upstreams: {{ kitchen: \"{url}\" }}\napis: {{ all: {{ routes: [ ANY /: kitchen ] }} }}");
    let gateway = gateway(&yaml, &[]);
    let mut client = gateway.client();
    for body in ["", "body", "again"] {
        assert_eq!(client.request("POST", "/", "", body).json()["body"], body);
    }
    assert_eq!(backend.connections(), 1);
    assert!(backend.last().header("host").is_some(), "HTTP/1.1 needs one");
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
    drop(backend);
    assert_eq!(client.get("/").status, 502);
}

#[test]
fn http_2_to_a_back_end_behind_a_socket() {
    let options = H2Options { door: Door::unix(), ..H2Options::default() };
    let backend = H2Backend::with(options, |request, stream| {
        let body = stream.body();
        stream.answer(200, &[], format!("{} {}", request.method, body.len()));
    });
    let yaml = format!(
        "upstreams: {{ kitchen: {{ endpoints: [\"unix:{}\"], protocol: h2c }} }}\napis: {{ all: {{ routes: [ ANY /: kitchen ] }} }}",
        backend.path().display()
    );
    let gateway = gateway(&yaml, &[]);
    assert_eq!(gateway.ask("POST", "/", "", "body").text(), "POST 4");
    assert_eq!(gateway.h2().get("/").text(), "GET 0");
    assert_eq!(backend.connections(), 1);
    assert!(backend.last().authority.is_some());
}

#[test]
fn a_drain_waits_for_clients_behind_a_socket() {
    let folder = Folder::new();
    let path = folder.path("s");
    let latch = Latch::new();
    let backend = Backend::after(&latch, "late");
    let gateway = listening(&path, "", &backend);
    let mut client = Client::connect_unix(&path);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    std::thread::scope(|scope| {
        let draining = scope.spawn(|| gateway.drain(Duration::from_secs(10)));
        eventually("nobody new is let in", || Stream::connect_unix(&path).is_err());
        latch.open();
        let response = client.response();
        assert_eq!((response.text().as_str(), response.closes()), ("late", true));
        client.closed();
        assert!(draining.join().expect("it does not panic"));
    });
}
