//! WebSocket APIs: clients that stay, and a function in a process of its own which is told of all they do. Events as AWS words them, ends by
//! every way, and messages from elsewhere.

use maitred_core::Kind;
use maitred_testkit::websocket::{BINARY, CLOSE, PING, PONG, TEXT, ws_accept, ws_close, ws_decode, ws_frame};
use maitred_testkit::{Client, Folder, Gateway, Response, Unreached, eventually, gateway};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

const BOOTSTRAP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/journeys/websocket_functions/bootstrap");
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A gateway, and the file in which the function writes what it is told.
struct House {
    gateway: Gateway,
    folder: Folder,
    seen: PathBuf,
}

/// The configuration, with these keys of `websocket`.
fn configuration(seen: &std::path::Path, socket: &str, more: &str) -> String {
    format!(
        "
{more}
functions:
  chat:
    runtime: provided
    code: {BOOTSTRAP}
    concurrency: 1
    timeout: 30s
    environment: {{ SEEN: \"{}\" }}
apis:
  restaurant:
    routes:
      - match: GET /chat
        websocket: {socket}
",
        seen.display()
    )
}

const ALL: &str = "{ routes: { $connect: chat, $disconnect: chat, $default: { function: chat, respond: true }, join: { function: chat, respond: true }, tell: chat } }";

fn house_with(socket: &str, more: &str) -> House {
    let folder = Folder::new();
    let seen = folder.path("seen");
    std::fs::write(&seen, "").expect("a file for events");
    // The function runs as nobody where the gateway is root.
    std::fs::set_permissions(&seen, std::fs::Permissions::from_mode(0o666)).expect("a file for everybody");
    let gateway = gateway(&configuration(&seen, socket, more), &[]);
    House { gateway, folder, seen }
}

fn house() -> House {
    house_with(ALL, "")
}

impl House {
    /// What the function was told so far.
    fn seen(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.seen).expect("the file of events");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn kinds(&self) -> Vec<String> {
        self.seen().iter().map(|event| event["requestContext"]["eventType"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The event of the end, once it has come; there is one and no other.
    #[track_caller]
    fn end(&self) -> Value {
        let ends =
            || self.seen().into_iter().filter(|event| event["requestContext"]["eventType"] == "DISCONNECT").collect::<Vec<_>>();
        eventually("the function is told of the end", || !ends().is_empty());
        let mut ends = ends();
        assert_eq!(ends.len(), 1, "{ends:?}");
        ends.remove(0)
    }

    #[track_caller]
    fn open(&self, query: &str, fields: &str) -> Socket {
        let (client, head) = self.shake_hands(query, fields);
        assert_eq!(status(&head), 101, "{head:?}");
        assert_eq!(head.fields.get("sec-websocket-accept"), Some(ws_accept(KEY).as_str()));
        Socket { client }
    }

    fn shake_hands(&self, query: &str, fields: &str) -> (Client, maitred_testkit::Head) {
        let mut client = self.gateway.client();
        client.send(handshake(query, fields));
        let head = client.head();
        (client, head)
    }

    /// A handshake that is refused.
    #[track_caller]
    fn refusal(&self, query: &str) -> Response {
        let mut client = self.gateway.client();
        client.send(handshake(query, ""));
        client.response()
    }
}

fn status(head: &maitred_testkit::Head) -> u16 {
    head.start[1].parse().expect("a status")
}

fn handshake(query: &str, fields: &str) -> String {
    format!(
        "GET /chat{query} HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\nUser-Agent: cutlery/1\r\n{fields}\r\n"
    )
}

struct Socket {
    client: Client,
}

impl Socket {
    fn send(&mut self, opcode: u8, payload: impl AsRef<[u8]>) {
        self.client.send(ws_frame(opcode, payload.as_ref(), true));
    }

    #[track_caller]
    fn next(&mut self) -> (u8, Vec<u8>) {
        let mut bytes = self.client.read_exactly(2);
        loop {
            if let Some((frame, length)) = ws_decode(&bytes) {
                assert!(length == bytes.len() && !frame.masked);
                return (frame.opcode, frame.payload);
            }
            bytes.extend(self.client.read_exactly(1));
        }
    }

    #[track_caller]
    fn text(&mut self) -> String {
        let (opcode, payload) = self.next();
        assert_eq!(opcode, TEXT, "{}", payload.escape_ascii());
        String::from_utf8(payload).expect("text")
    }

    #[track_caller]
    fn ask(&mut self, message: &str) -> String {
        self.send(TEXT, message);
        self.text()
    }

    /// The code of the close frame, behind which nothing comes.
    #[track_caller]
    fn closed(&mut self) -> u16 {
        let (opcode, payload) = self.next();
        assert_eq!(opcode, CLOSE, "{}", payload.escape_ascii());
        let code = payload.first_chunk::<2>().map_or(0, |code| u16::from_be_bytes(*code));
        self.client.finish();
        self.client.closed();
        code
    }
}

#[test]
fn a_client_is_let_in_and_its_messages_find_their_routes() {
    let house = house();
    let mut socket = house.open("?table=4&dish=soup&dish=salad", "Accept: a\r\nAccept: b\r\n");
    assert_eq!(socket.ask("hello"), "$default hello", "no JSON is for $default");
    assert_eq!(socket.ask(r#"{"action":"join","seat":1}"#), r#"join {"action":"join","seat":1}"#);
    assert_eq!(socket.ask(r#"{"action":"other"}"#), r#"$default {"action":"other"}"#);
    socket.send(TEXT, r#"{"action":"tell"}"#);
    socket.send(PING, "?");
    assert_eq!(socket.next(), (PONG, b"?".to_vec()), "and nothing came of a route that does not respond");
    socket.send(CLOSE, ws_close(1000, "bye"));
    assert_eq!(socket.closed(), 1000);
    let end = house.end();

    let events = house.seen();
    assert_eq!(house.kinds(), ["CONNECT", "MESSAGE", "MESSAGE", "MESSAGE", "MESSAGE", "DISCONNECT"]);
    let context = |at: usize| &events[at]["requestContext"];
    let keys: Vec<_> = (0..6).map(|at| context(at)["routeKey"].as_str().unwrap_or_default()).collect();
    assert_eq!(keys, ["$connect", "$default", "join", "$default", "tell", "$disconnect"]);
    for at in 0..6 {
        for name in ["connectionId", "connectedAt", "apiId", "stage", "domainName", "identity", "messageDirection"] {
            assert_eq!(context(at)[name], context(0)[name], "{name} of event {at}");
        }
        assert!(context(at)["requestTimeEpoch"].as_u64() >= context(at)["connectedAt"].as_u64());
        assert_eq!(context(at)["messageId"].is_string(), (1..5).contains(&at), "{at}");
    }
    assert_eq!(context(0)["domainName"], "shop.example");
    assert_eq!(context(0)["identity"], json!({ "sourceIp": "127.0.0.1", "userAgent": "cutlery/1" }));
    assert_eq!((&context(0)["stage"], &context(0)["messageDirection"]), (&json!("$default"), &json!("IN")));
    let requests: std::collections::HashSet<_> = (0..6).map(|at| context(at)["requestId"].as_str()).collect();
    assert_eq!(requests.len(), 6, "each is a request of its own");
    assert_eq!(events[0]["queryStringParameters"], json!({ "table": "4", "dish": "salad" }));
    assert_eq!(events[0]["multiValueQueryStringParameters"]["dish"], json!(["soup", "salad"]));
    assert_eq!(events[0]["multiValueHeaders"]["Accept"], json!(["a", "b"]));
    assert!(events[1].get("headers").is_none() && events[1]["body"] == "hello", "{}", events[1]);
    assert_eq!(end["requestContext"]["disconnectStatusCode"], 1000);
    assert_eq!(end["requestContext"]["disconnectReason"], "bye");
}

#[test]
fn messages_are_answered_in_their_order() {
    let house = house();
    let mut socket = house.open("", "");
    let all: Vec<u8> = (0..200).flat_map(|number| ws_frame(TEXT, format!("{number}").as_bytes(), true)).collect();
    socket.client.send(all);
    for number in 0..200 {
        assert_eq!(socket.text(), format!("$default {number}"));
    }
}

#[test]
fn the_function_at_the_door_refuses() {
    let house = house();
    let refused = house.refusal("?status=403");
    let body = refused.json();
    assert_eq!((refused.status, refused.header("content-type")), (403, Some("application/json")));
    assert_eq!(body["message"], "Forbidden");
    assert!(body["connectionId"].is_string() && body["requestId"].is_string(), "{body}");
    let refused = house.refusal("?status=401&body=no%20soup");
    assert_eq!((refused.status, refused.text().as_str(), refused.header("content-type")), (401, "no soup", Some("text/plain")));
    // What followed it would be the next response.
    let refused = house.refusal("?status=304&body=no%20soup");
    assert_eq!((refused.status, refused.text().as_str(), refused.header("content-length")), (304, "", None));
    for (query, name) in
        [("?raise", "function_failed"), ("?garbage", "function_malformed"), ("?status=101", "function_malformed")]
    {
        let refused = house.refusal(query);
        assert_eq!(refused.status, 502, "{query}: {}", refused.text());
        assert!(refused.text().contains(name), "{query}: {}", refused.text());
    }
    assert_eq!(house.kinds(), ["CONNECT"; 6], "of who was never in there is no end to tell");
}

#[test]
fn what_begins_no_websocket_is_told_what_would() {
    let house = house();
    for (request, status) in [
        ("GET /chat HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 426),
        (handshake("", "").replace("Version: 13", "Version: 8"), 426),
        (handshake("", "").replace("Upgrade: websocket", "Upgrade: h2c"), 426),
        (handshake("", "").replace(KEY, "c2hvcnQ="), 400),
        (handshake("", &format!("Sec-WebSocket-Key: {KEY}\r\n")), 400),
    ] {
        let mut client = house.gateway.client();
        client.send(&request);
        let response = client.response();
        assert_eq!(response.status, status, "{request}");
        assert_eq!(response.header("sec-websocket-version"), Some("13").filter(|_| status == 426), "{request}");
    }
    assert!(house.seen().is_empty());
}

#[test]
fn a_subprotocol_is_one_that_the_client_offers() {
    let house = house();
    let (_client, head) = house.shake_hands("?protocol=salad", "Sec-WebSocket-Protocol: soup, salad\r\n");
    assert_eq!((status(&head), head.fields.get("sec-websocket-protocol")), (101, Some("salad")), "{head:?}");
    let (_client, head) = house.shake_hands("", "Sec-WebSocket-Protocol: soup\r\n");
    assert_eq!((status(&head), head.fields.get("sec-websocket-protocol")), (101, None), "{head:?}");
    let (_client, head) = house.shake_hands("?protocol=cake", "Sec-WebSocket-Protocol: soup\r\n");
    assert_eq!(status(&head), 502, "{head:?}");
}

#[test]
fn who_is_not_answered_is_told_so_and_stays() {
    let house = house();
    let mut socket = house.open("", "");
    for message in ["raise", "garbage"] {
        let told: Value = serde_json::from_str(&socket.ask(message)).expect("JSON");
        assert_eq!(told["message"], "Internal server error", "{message}");
        assert_eq!(told["connectionId"], house.seen()[0]["requestContext"]["connectionId"]);
        assert!(told["requestId"].is_string());
    }
    assert_eq!(socket.ask("hello"), "$default hello");

    let house = house_with("{ routes: { join: { function: chat, respond: true } } }", "");
    let mut socket = house.open("", "");
    for message in ["hello", r#"{"action":"leave"}"#] {
        let told: Value = serde_json::from_str(&socket.ask(message)).expect("JSON");
        assert_eq!(told["message"], "Forbidden", "{message}");
    }
    assert_eq!(socket.ask(r#"{"action":"join"}"#), r#"join {"action":"join"}"#);
    assert_eq!(house.kinds(), ["MESSAGE"], "nobody asked to be told of more");
}

#[test]
fn of_every_end_the_function_is_told_once() {
    type Ending = fn(Socket);
    let ends: [(&str, Ending, u64); 7] = [
        ("goodbye without a word", |mut socket| (socket.send(CLOSE, ""), _ = socket.closed()).1, 1005),
        ("FIN", |mut socket| (socket.client.finish(), socket.client.closed()).1, 1006),
        ("RST", |socket| socket.client.reset(), 1006),
        ("bytes", |mut socket| (socket.send(BINARY, "x"), assert_eq!(socket.closed(), 1003)).1, 1003),
        ("no text", |mut socket| (socket.send(TEXT, b"\xff"), assert_eq!(socket.closed(), 1007)).1, 1007),
        ("no mask", |mut socket| (socket.client.send(ws_frame(TEXT, b"x", false)), assert_eq!(socket.closed(), 1002)).1, 1002),
        ("a frame too long", |mut socket| (socket.send(TEXT, [b'x'; 33 * 1024]), assert_eq!(socket.closed(), 1009)).1, 1009),
    ];
    for (why, end, code) in ends {
        let house = house();
        let socket = house.open("", "");
        end(socket);
        assert_eq!(house.end()["requestContext"]["disconnectStatusCode"], code, "{why}");
    }
}

#[test]
fn a_message_of_many_frames_and_no_more_than_128_kib() {
    let house = house();
    let mut socket = house.open("", "");
    let piece = vec![b'x'; 32 * 1024];
    let frames = |last: &[u8]| {
        let mut frames = ws_frame(TEXT, &piece, true);
        frames[0] = TEXT;
        for at in 1..4 {
            let mut frame = ws_frame(0, if at == 3 { last } else { &piece }, true);
            frame[0] = if at == 3 { 0x80 } else { 0 };
            frames.extend(ws_frame(PING, b"", true));
            frames.extend(frame);
        }
        frames
    };
    socket.client.send(frames(&piece));
    for _ in 0..3 {
        assert_eq!(socket.next().0, PONG);
    }
    // The answer is as long, and one frame.
    assert_eq!(socket.text().len(), "$default ".len() + 128 * 1024);
    let mut frames = frames(&piece);
    frames[0] = TEXT;
    let last = frames.len() - piece.len() - 8;
    frames[last] = 0;
    frames.extend(ws_frame(0, b"x", true));
    socket.client.send(frames);
    for _ in 0..3 {
        assert_eq!(socket.next().0, PONG);
    }
    assert_eq!(socket.closed(), 1009);
}

#[test]
fn every_run_has_a_trace() {
    const ROOT: &str = "Root=1-67891233-abcdef012345678912345678";
    let house = house();
    let mut socket = house.open("", &format!("X-Amzn-Trace-Id: {ROOT};Sampled=1\r\n"));
    assert_eq!(socket.ask("hello"), "$default hello");
    socket.send(CLOSE, ws_close(1000, ""));
    house.end();
    let events = house.seen();
    assert_eq!(events[0]["headers"]["X-Amzn-Trace-Id"], format!("{ROOT};Sampled=1"));
    let traces: Vec<_> = events.iter().map(|event| event["trace"].as_str().expect("a trace")).collect();
    assert!(traces[0].starts_with(&format!("{ROOT};Parent=")) && traces[0].ends_with(";Sampled=1"), "{traces:?}");
    for trace in &traces[1..] {
        assert!(trace.starts_with("Root=1-") && !trace.starts_with(ROOT) && trace.ends_with(";Sampled=0"), "{traces:?}");
    }
    assert_ne!(traces[1], traces[2], "each message begins its own");
}

#[test]
fn all_clients_together_cost_no_more_than_the_limit() {
    let house = house_with(&ALL.replace("{ routes", "{ binary: true, routes"), "workers: 1\nlimits: { websocket_bytes: 256KiB }");
    let refused = || house.gateway.metrics().workers.iter().map(|worker| worker.faults.of(Kind::BufferFull).get()).sum::<u64>();
    let mut sockets: Vec<Socket> = (0..12).map(|_| house.open("", "")).collect();
    let mut ended = 0;
    for socket in &mut sockets {
        // A message that begins and does not end; the pong says that it was read.
        let mut frame = ws_frame(BINARY, &[7; 32 * 1024], true);
        frame[0] = BINARY;
        frame.extend(ws_frame(PING, b"", true));
        socket.client.send(frame);
        match socket.next() {
            (PONG, _) => {}
            (CLOSE, code) => {
                assert_eq!(code[..2], 1013u16.to_be_bytes());
                ended += 1;
            }
            (opcode, _) => panic!("{opcode}"),
        }
    }
    assert!((4..=8).contains(&ended), "of twelve of 32 KiB, or twice that as they grow, {ended} had no room");
    assert_eq!(refused(), ended);
    // Who says little finds no more room than who says much; and nobody else writes to clients for as long.
    let id = house.seen()[0]["requestContext"]["connectionId"].as_str().expect("an id").to_owned();
    assert_eq!(house.gateway.post(&id, &[b'x'; 128 * 1024]), Err(Unreached::NoRoom));
    assert_eq!(refused(), ended + 1);
    drop(sockets);
    eventually("all are told of", || house.kinds().iter().filter(|kind| *kind == "DISCONNECT").count() == 12);
    let mut socket = house.open("", "");
    assert_eq!(socket.ask(&"x".repeat(20_000)).len(), "$default ".len() + 20_000);
}

#[test]
fn bytes_travel_as_base64_where_they_are_taken() {
    let house = house_with("{ binary: true, routes: { $default: { function: chat, respond: true } } }", "");
    let mut socket = house.open("", "");
    socket.send(BINARY, [0xff, 0, 1]);
    assert_eq!(socket.next(), (BINARY, vec![1, 0, 0xff]));
    socket.send(BINARY, "abc");
    assert_eq!(
        socket.next(),
        (BINARY, b"cba".to_vec()),
        "bytes are what the function says they are, and not what they look like"
    );
    socket.send(BINARY, "");
    assert_eq!(socket.next(), (BINARY, vec![]));
    socket.send(TEXT, "abc");
    assert_eq!(socket.next().0, TEXT);
}

#[test]
fn whoever_is_silent_or_stays_too_long_is_sent_away() {
    let house = house();
    let mut socket = house.open("", "");
    house.gateway.turn(Duration::from_secs(599));
    socket.send(PING, "");
    assert_eq!(socket.next().0, PONG);
    house.gateway.turn(Duration::from_secs(599));
    assert_eq!(socket.ask("hello"), "$default hello");
    socket.client.until_readable(|| house.gateway.turn(Duration::from_secs(601)));
    assert_eq!(socket.closed(), 1001);
    assert_eq!(house.end()["requestContext"]["disconnectStatusCode"], 1001);

    let house = house_with(&ALL.replace("{ routes", "{ idle: 10h, lifetime: 1h, routes"), "");
    let mut socket = house.open("", "");
    assert_eq!(socket.ask("hello"), "$default hello");
    socket.client.until_readable(|| house.gateway.turn(Duration::from_secs(3601)));
    assert_eq!(socket.closed(), 1001);
    assert_eq!(house.end()["requestContext"]["disconnectStatusCode"], 1001);
}

#[test]
fn a_gateway_that_goes_says_so_to_both() {
    let house = house();
    let mut socket = house.open("", "");
    assert_eq!(socket.ask("hello"), "$default hello");
    assert!(!house.gateway.drain(Duration::from_millis(1)), "it is open");
    std::thread::scope(|scope| {
        let goodbye = scope.spawn(|| house.gateway.say_goodbye());
        assert_eq!(socket.closed(), 1001);
        goodbye.join().expect("goodbye is said");
    });
    assert_eq!(house.end()["requestContext"]["disconnectStatusCode"], 1001);
}

#[test]
fn who_leaves_at_the_door_was_in_for_the_function() {
    let house = house();
    let go = house.folder.path("go");
    let mut client = house.gateway.client();
    client.send(handshake(&format!("?hold={}", go.display()), ""));
    eventually("the function is asked", || house.kinds() == ["CONNECT"]);
    client.reset();
    std::fs::write(&go, "").expect("the function goes on");
    assert_eq!(house.end()["requestContext"]["disconnectStatusCode"], 1006);
    assert_eq!(house.kinds(), ["CONNECT", "DISCONNECT"]);
}

#[test]
fn messages_come_from_elsewhere_too() {
    let house = house_with(ALL, "workers: 2");
    let id = |at: usize| house.seen()[at]["requestContext"]["connectionId"].as_str().unwrap_or_default().to_owned();
    let mut sockets = [house.open("", ""), house.open("", ""), house.open("", "")];
    for (at, socket) in sockets.iter_mut().enumerate() {
        let text = format!("for {at}");
        assert_eq!(house.gateway.post(&id(at), text.as_bytes()), Ok(()));
        assert_eq!(socket.text(), text);
        assert_eq!(house.gateway.post(&id(at), b"\xff"), Ok(()));
        assert_eq!(socket.next(), (BINARY, vec![0xff]));
    }
    assert_eq!(house.gateway.post(&id(0), &vec![b'x'; 128 * 1024]), Ok(()));
    assert_eq!(sockets[0].text().len(), 128 * 1024);
    assert_eq!(house.gateway.post(&id(0), &vec![b'x'; 128 * 1024 + 1]), Err(Unreached::TooLarge));
    let view = house.gateway.connection(&id(0)).expect("it is open");
    assert_eq!((view.source_ip.as_str(), view.user_agent.as_deref()), ("127.0.0.1", Some("cutlery/1")));
    assert!(view.last_active_at >= view.connected_at);
    assert_eq!(house.gateway.dismiss(&id(1)), Ok(()));
    assert_eq!(sockets[1].closed(), 1000);
    assert_eq!(house.end()["requestContext"]["connectionId"], id(1));
    for id in [id(1).as_str(), "AAAAAAAAAAAAAAAA", "nobody", ""] {
        assert_eq!(house.gateway.post(id, b"x"), Err(Unreached::Gone), "{id}");
        assert_eq!(house.gateway.connection(id), Err(Unreached::Gone), "{id}");
        assert_eq!(house.gateway.dismiss(id), Err(Unreached::Gone), "{id}");
    }
}

#[test]
fn an_open_connection_is_answered_by_the_functions_that_are_in_force() {
    let house = house();
    let mut socket = house.open("", "");
    assert_eq!(socket.ask("hello"), "$default hello");
    let next = configuration(&house.seen, ALL, "").replace("{ SEEN:", "{ GREETING: \"new \", SEEN:");
    house.gateway.publish(&next);
    assert_eq!(socket.ask("hello"), "new $default hello");
    house.gateway.publish("apis: { restaurant: { routes: [{ match: GET /chat, respond: {} }] } }");
    let told: Value = serde_json::from_str(&socket.ask("hello")).expect("JSON");
    assert_eq!(told["message"], "Internal server error", "its function is gone, and it is still there");
    house.gateway.publish(&configuration(&house.seen, ALL, ""));
    assert_eq!(socket.ask("hello"), "$default hello");
}

#[test]
fn over_http2_it_is_the_same() {
    let house = house();
    let mut client = house.gateway.h2();
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat?table=4"),
        (":authority", "shop.example"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "soup"),
    ];
    let refused =
        client.open_with(&fields.map(|(name, value)| (name, if name == ":path" { "/chat?status=403" } else { value })), true);
    assert_eq!(client.head(refused).status, 403);
    let stream = client.open_with(&fields, false);
    assert_eq!(client.head(stream).status, 200);
    client.data(stream, ws_frame(TEXT, br#"{"action":"join"}"#, true), false);
    let wanted = ws_frame(TEXT, br#"join {"action":"join"}"#, false);
    assert_eq!(client.body(stream, wanted.len()), wanted);
    client.data(stream, ws_frame(CLOSE, &ws_close(1000, ""), true), true);
    let end = house.end();
    assert_eq!(end["requestContext"]["disconnectStatusCode"], 1000);
    let connect = &house.seen()[1];
    assert_eq!((&connect["headers"]["Host"], &connect["queryStringParameters"]["table"]), (&json!("shop.example"), &json!("4")));
}
