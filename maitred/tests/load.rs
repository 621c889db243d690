//! What may happen to a gateway while it serves, and no client may notice: certificates that change, a program that is replaced. Clients
//! ask all the while, over HTTP/1.1 and HTTP/2; one request that fails ends the test. `MAITRED_LONG=1` makes the long bars of it.

#![cfg(target_os = "linux")]

#[expect(dead_code, reason = "what reads a verb's output is for cli.rs")]
mod process;

use maitred_testkit::h2::code;
use maitred_testkit::websocket::{CLOSE, TEXT, WsFrame, ws_accept, ws_close, ws_decode, ws_frame};
use maitred_testkit::{Authority, Backend, Client, ClientTls, H2Backend, H2Broken, H2Client, Identity, Stream};
use process::heir::{Heir, upgrade};
use process::{Folder, back_end, until};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The name in every certificate here.
const NAME: &str = "api.example.com";
/// Requests on a connection before another is opened.
const OLD: usize = 200;

fn rounds(long: usize, short: usize) -> usize {
    if std::env::var_os("MAITRED_LONG").is_some() { long } else { short }
}

/// Clients that ask until they are told to stop.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    answered: AtomicU64,
}

/// Says stop when it is dropped, also by a panic.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

type Asks<'a> = Box<dyn Fn(&Load) -> Result<(), String> + Send + Sync + 'a>;

impl Load {
    /// Does something while these ask; how often they were answered.
    fn during(clients: &[Asks<'_>], work: impl FnOnce(&Load)) -> u64 {
        let load = Load::default();
        std::thread::scope(|scope| {
            let asking: Vec<_> = clients
                .iter()
                .map(|client| {
                    let load = &load;
                    scope.spawn(move || {
                        let _stop = Stop(load);
                        client(load)
                    })
                })
                .collect();
            let over = Stop(&load);
            load.some_more();
            work(&load);
            drop(over);
            for done in asking {
                assert_eq!(done.join().unwrap(), Ok(()), "after {} answers", load.answered.load(Ordering::Relaxed));
            }
        });
        load.answered.into_inner()
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    fn some_more(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        until(|| self.answered.load(Ordering::Relaxed) > before + 100 || self.is_over());
    }
}

/// What is asked for, and the answer of `back_end`: of every second request, so that not all of them need it.
fn question(number: usize) -> (String, String) {
    if number.is_multiple_of(2) {
        ("/".into(), "first".into())
    } else {
        (format!("/{number}"), format!("GET /{number} HTTP/1.1"))
    }
}

fn plainly(address: SocketAddr) -> Result<Stream, String> {
    Stream::connect(address).map_err(|error| format!("connect: {error}"))
}

fn securely(address: SocketAddr, tls: &ClientTls) -> Result<Stream, String> {
    tls.try_connect(address).map_err(|error| format!("handshake: {error}"))
}

/// HTTP/1.1, `most` requests on a connection.
fn by_http1<'a>(connect: impl Fn() -> Result<Stream, String> + Send + Sync + 'a, most: usize) -> Asks<'a> {
    Box::new(move |load| {
        let mut kept: Option<(Client, usize)> = None;
        for number in 0.. {
            if load.is_over() {
                break;
            }
            let (mut client, asked) = match kept.take() {
                Some(kept) => kept,
                None => (Client::over(connect()?), 0),
            };
            let (path, wanted) = question(number);
            client.try_send(format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\n\r\n")).map_err(|error| format!("write: {error}"))?;
            let response = client.try_response("GET").map_err(|broken| format!("{path}: {broken:?}"))?;
            if (response.status, response.text()) != (200, wanted) {
                return Err(format!("{path}: {response:?}"));
            }
            load.count();
            kept = (!response.closes() && asked + 1 < most).then_some((client, asked + 1));
        }
        Ok(())
    })
}

/// HTTP/2, some streams at once, `most` requests on a connection.
fn by_http2<'a>(connect: impl Fn() -> Result<Stream, String> + Send + Sync + 'a, most: usize) -> Asks<'a> {
    const AT_ONCE: usize = 4;
    Box::new(move |load| {
        let mut kept: Option<(H2Client, usize)> = None;
        let mut number = 0;
        while !load.is_over() {
            let (mut client, asked) = match kept.take() {
                Some(kept) => kept,
                None => (H2Client::over(connect()?), 0),
            };
            client.flowing();
            let ask = |number| (client.ask("GET", &question(number).0, &[]), question(number));
            let streams: Vec<_> = (number..number + AT_ONCE).map(ask).collect();
            for (stream, (path, wanted)) in streams {
                match client.try_response(stream) {
                    Ok(response) if (response.status, response.text()) == (200, wanted) => load.count(),
                    // It says itself that it has not looked at this one: every client sends it again.
                    Err(H2Broken::Closed(Some(goaway))) if goaway.code == code::NO_ERROR && goaway.last < stream => {}
                    other => return Err(format!("{path} over HTTP/2: {other:?}, GOAWAY {:?}", client.goaways())),
                }
            }
            number += AT_ONCE;
            kept = (client.goaways().is_empty() && asked + AT_ONCE < most).then_some((client, asked + AT_ONCE));
        }
        Ok(())
    })
}

/// What every client here asks for: something of the gateway's own, and a back end.
fn configuration(upstreams: &str, routes: &str) -> String {
    let back_end = back_end();
    format!(
        "workers: 2
listen:
  - 127.0.0.1:0
  - {{ address: 127.0.0.2:0, tls: {{ certificates: {{ cert: api.pem, key: api.key }} }} }}
admin: {{ listen: 127.0.0.1:0 }}
limits: {{ drain_timeout: 3s }}
telemetry: {{ access_log: none }}
upstreams:
  behind: http://{back_end}
{upstreams}
apis:
  all:
    routes:
      - {{ match: GET /, respond: {{ text: first }} }}
      - ANY /{{path+}}: behind
{routes}
"
    )
}

fn install(folder: &Folder, identity: &Identity) {
    folder.file("api.pem", &identity.cert).file("api.key", &identity.key);
}

#[test]
fn no_request_fails_however_often_certificates_are_replaced() {
    let rounds = rounds(50, 10);
    let authority = Authority::new("a test's");
    let identities = [authority.server(&[NAME]), authority.server(&[NAME])];
    let folder = Folder::new("load-certificates");
    install(&folder, &identities[0]);
    let gateway = folder.file("maitred.yaml", &configuration("", "")).run(&["run"]);
    let address = gateway.listening_for_tls();
    let tls = || ClientTls::new(&authority, NAME);
    // Who comes back resumes, as clients do; who is anew sees what is shown.
    let (kept, often, anew, streams, short) = (tls(), tls(), tls().without_resumption(), tls().h2(), tls().h2());
    let clients = [
        by_http1(|| securely(address, &kept), OLD),
        by_http1(|| securely(address, &often), 1),
        by_http1(|| securely(address, &anew), 1),
        by_http2(|| securely(address, &streams), OLD),
        by_http2(|| securely(address, &short), 4),
    ];
    let stranger = tls().without_resumption();
    let shown = || Client::connect_tls(address, &stranger).handshake().clone();
    let (mut old, mut old_streams) = (Client::connect_tls(address, &tls()), H2Client::over(tls().h2().connect(address)));
    let resuming = tls();
    Client::connect_tls(address, &resuming).get("/");
    let mut replaced = 0;
    let answered = Load::during(&clients, |load| {
        while replaced < rounds && !load.is_over() {
            replaced += 1;
            let next = &identities[replaced % 2];
            install(&folder, next);
            until(|| shown().peer_is(next) || load.is_over());
            load.some_more();
            assert_eq!((old.get("/").text(), old_streams.get("/").text()), ("first".into(), "first".into()));
            let mut back = Client::connect_tls(address, &resuming);
            assert!(back.handshake().resumed, "after {replaced} reloads");
            assert_eq!(back.get("/").text(), "first");
        }
    });
    let status = gateway.admin_json("/status");
    println!("{answered} requests, {replaced} certificates, generation {}", status["generation"]);
    assert_eq!((replaced, answered > 0), (rounds, true));
    let metrics = gateway.admin("GET", "/metrics");
    assert!(metrics.contains("maitred_tls_handshakes_total{result=\"failed\"} 0\n"), "{metrics}");
    drop((old, old_streams));
    assert_eq!(gateway.terminate().code, 0);
}

/// A back end of WebSockets: sends back what it is sent, and tells with which codes it was left.
fn sockets(left: Arc<Mutex<Vec<u16>>>) -> Backend {
    Backend::new(move |request, conn| {
        let accept = ws_accept(request.header("sec-websocket-key").unwrap_or_default());
        conn.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        ));
        let mut bytes = Vec::new();
        loop {
            while let Some((frame, length)) = ws_decode(&bytes) {
                bytes.drain(..length);
                conn.send(ws_frame(frame.opcode, &frame.payload, false));
                if frame.opcode == CLOSE {
                    left.lock().unwrap().push(u16::from_be_bytes([frame.payload[0], frame.payload[1]]));
                    return conn.close();
                }
            }
            match conn.read_some() {
                more if more.is_empty() => return conn.close(),
                more => bytes.extend(more),
            }
        }
    })
}

/// A WebSocket that is open.
struct Socket(Client);

impl Socket {
    fn open(address: SocketAddr) -> Socket {
        const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
        let mut client = Client::connect(address);
        let head = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ";
        let response = client.request("GET", "/socket", &format!("{head}{KEY}\r\n"), "");
        assert_eq!((response.status, response.header("sec-websocket-accept")), (101, Some(ws_accept(KEY).as_str())));
        Socket(client)
    }

    /// The next frame, which is short.
    fn frame(&mut self) -> WsFrame {
        let mut bytes = self.0.read_exactly(2);
        bytes.extend(self.0.read_exactly(usize::from(bytes[1])));
        ws_decode(&bytes).expect("a whole frame").0
    }

    fn echo(&mut self, words: &str) {
        self.0.send(ws_frame(TEXT, words.as_bytes(), true));
        let back = self.frame();
        assert_eq!((back.opcode, back.payload.as_slice()), (TEXT, words.as_bytes()));
    }

    /// It is closed by the client, and the back end agrees.
    fn close(mut self) {
        self.0.send(ws_frame(CLOSE, &ws_close(1000, ""), true));
        let back = self.frame();
        assert_eq!((back.opcode, back.payload), (CLOSE, ws_close(1000, "")));
        assert_eq!(self.0.read_to_end(), (vec![], true));
    }

    /// It is closed by the gateway, with words.
    fn hears_goodbye(mut self) {
        let told = self.frame();
        assert_eq!((told.opcode, &told.payload[..2]), (CLOSE, &ws_close(1001, "")[..]));
        self.0.send(ws_frame(CLOSE, &told.payload, true));
        assert_eq!(self.0.read_to_end(), (vec![], true));
    }
}

/// A gRPC service: each message is sent back as it comes.
fn chat() -> H2Backend {
    H2Backend::new(|_, stream| {
        stream.head(200, &[("content-type", "application/grpc")], false);
        while let Some(piece) = stream.piece() {
            stream.data(piece, false);
        }
        stream.trailers(&[("grpc-status", "0")]);
    })
}

/// A call that goes on, on a connection of its own.
struct Call {
    client: H2Client,
    stream: u32,
    said: Vec<u8>,
}

impl Call {
    fn begin(address: SocketAddr) -> Call {
        let mut client = H2Client::connect(address);
        let stream = client.open("POST", "/kit.Kit/Chat", &[("content-type", "application/grpc"), ("te", "trailers")]);
        Call { client, stream, said: Vec::new() }
    }

    fn echo(&mut self, words: &str) {
        let message = [&[0, 0, 0, 0, words.len() as u8], words.as_bytes()].concat();
        assert!(self.client.data(self.stream, &message, false));
        self.said.extend(message);
        assert_eq!(self.client.body(self.stream, self.said.len()), self.said);
    }

    /// What was said, the status of the call, and a connection that ended in order.
    fn ends(mut self, status: &str) {
        let response = self.client.response(self.stream);
        assert_eq!((response.status, response.trailers.get("grpc-status")), (200, Some(status)), "{response:?}");
        assert_eq!(response.body, self.said);
        assert_eq!(self.client.ending().map(|goaway| goaway.code), Some(code::NO_ERROR));
    }

    fn finish(mut self) {
        assert!(self.client.data(self.stream, "", true));
        self.ends("0");
    }
}

#[test]
fn websockets_and_calls_of_the_old_process_end_in_good_order() {
    Heir::adopt();
    let rounds = rounds(50, 5);
    let authority = Authority::new("a test's");
    let folder = Folder::new("load-upgrade");
    install(&folder, &authority.server(&[NAME]));
    let left = Arc::default();
    let (sockets, kit) = (sockets(Arc::clone(&left)), chat());
    let upstreams =
        format!("  sockets: {}\n  kit: {{ endpoints: [\"http://{}\"], protocol: h2c }}", sockets.url(), kit.address());
    let routes = "      - GET /socket: sockets\n      - POST /kit.Kit/{method}: kit";
    let mut gateway = folder.file("maitred.yaml", &configuration(&upstreams, routes)).run(&["run"]);
    let (plain, secure) = (gateway.listening(), gateway.listening_for_tls());
    let tls = || ClientTls::new(&authority, NAME);
    let (kept, streams) = (tls(), tls().h2());
    let clients = [
        by_http1(|| plainly(plain), OLD),
        by_http1(|| plainly(plain), 1),
        by_http1(|| securely(secure, &kept), 20),
        by_http2(|| plainly(plain), OLD),
        by_http2(|| securely(secure, &streams), 20),
    ];
    let mut heirs: Vec<Heir> = Vec::new();
    let answered = Load::during(&clients, |load| {
        std::thread::scope(|scope| {
            while heirs.len() < rounds && !load.is_over() {
                // Of each one that ends by itself while the old process drains, and one that has no end.
                let (mut short, mut long) = (Socket::open(plain), Socket::open(plain));
                let (mut call, mut endless) = (Call::begin(plain), Call::begin(plain));
                let echo = |words: &str, short: &mut Socket, call: &mut Call| {
                    short.echo(words);
                    call.echo(words);
                };
                echo("before", &mut short, &mut call);
                echo("before", &mut long, &mut endless);
                heirs.push(upgrade(&gateway));
                echo("after", &mut short, &mut call);
                echo("after", &mut long, &mut endless);
                scope.spawn(|| long.hears_goodbye());
                scope.spawn(|| endless.ends("14"));
                load.some_more();
                echo("long after", &mut short, &mut call);
                short.close();
                call.finish();
            }
        });
    });
    println!("{answered} requests, {} upgrades", heirs.len());
    assert_eq!(heirs.len(), rounds);
    assert_eq!(gateway.exit_code(), 0);
    let last = heirs.pop().unwrap();
    for heir in heirs {
        assert_eq!(heir.end(), 0);
    }
    last.signal(libc::SIGTERM);
    assert_eq!(last.end(), 0);
    let said = gateway.end().stderr;
    assert_eq!(said.matches("stopped: the drain timeout passed cut=0").count(), rounds, "{said}");
    let mut left = std::mem::take(&mut *left.lock().unwrap());
    left.sort_unstable();
    assert_eq!(left, [vec![1000; rounds], vec![1001; rounds]].concat());
    let wrong = [sockets.complaints(), kit.complaints()].concat();
    assert!(wrong.is_empty(), "{wrong:?}");
}
