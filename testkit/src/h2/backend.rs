//! A back end of HTTP/2 that does as a closure tells it, stream by stream, and remembers everything that it was sent.

use super::frame::{Frame, PREFACE, code, kind, setting};
use super::protocol::{Goaway, Protocol, Role, Side};
use super::stream::H2Stream;
use crate::door::{Door, Open};
use crate::message::Fields;
use crate::proxy::ProxyHeader;
use crate::stream::Stream;
use crate::tls::{Handshake, ServerTls};
use crate::wait::eventually;
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One request as the back end received it.
#[derive(Debug, Clone)]
pub struct H2Received {
    pub method: String,
    pub scheme: String,
    pub path: String,
    pub authority: Option<String>,
    /// Of an extended CONNECT.
    pub protocol: Option<String>,
    /// Without pseudo-headers.
    pub headers: Fields,
    /// What was received of the body.
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The stream was ended by whoever asked.
    pub complete: bool,
    /// The code with which whoever asked gave up.
    pub reset: Option<u32>,
    /// Counted from 0 in the order of their being accepted.
    pub connection: usize,
    pub stream: u32,
}

impl H2Received {
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

/// What an H2 back end is like.
#[derive(Clone)]
pub struct H2Options {
    pub door: Door,
    /// What it announces.
    pub settings: Vec<(u16, u32)>,
    /// What it says first instead.
    pub greeting: Option<Frame>,
    /// Grants anew what it received; else only what a handler grants.
    pub flowing: bool,
    /// Streams beyond the announced maximum are refused, as everybody does.
    pub strict: bool,
}

impl Default for H2Options {
    fn default() -> H2Options {
        H2Options {
            door: Door::plain(),
            settings: vec![(setting::MAX_CONCURRENT_STREAMS, 100)],
            greeting: None,
            flowing: true,
            strict: true,
        }
    }
}

pub(super) type Handler = dyn Fn(&H2Received, &mut H2Stream) + Send + Sync;

#[derive(Default)]
pub(super) struct Shared {
    pub requests: Mutex<Vec<H2Received>>,
    /// Bytes of DATA that went out.
    pub written: AtomicU64,
    /// Bytes of DATA that came in, padding included.
    pub received: AtomicU64,
    refused: AtomicU64,
    /// The most streams that were open at once on a connection.
    most_at_once: AtomicU64,
    complaints: Mutex<Vec<String>>,
    goaways: Mutex<Vec<Goaway>>,
    wires: Mutex<Vec<std::sync::Weak<Wire>>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection: a thread reads, handlers write.
pub(super) struct Wire {
    stream: Arc<Stream>,
    pub protocol: Mutex<Protocol>,
    /// The state has changed, or the connection is over.
    pub changed: Condvar,
    pub over: std::sync::atomic::AtomicBool,
    writing: Mutex<()>,
    pub shared: Arc<Shared>,
}

impl Wire {
    /// All of these frames, and nothing between them; false when the other side is gone.
    pub fn send(&self, frames: &[Frame]) -> bool {
        let _turn = lock(&self.writing);
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut protocol = lock(&self.protocol);
        frames.iter().for_each(|frame| protocol.sent(frame));
        drop(protocol);
        self.write(&bytes)
    }

    /// The same where the books know of it already.
    pub fn write(&self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.writing)
    }

    pub fn finish(&self) {
        self.stream.finish();
    }

    pub fn reset(&self) {
        self.stream.reset();
        self.stream.shut();
    }

    fn complain(&self, why: String) {
        lock(&self.shared.complaints).push(why);
    }
}

/// A back end on a port of its own. Dropped, it closes everything.
pub struct H2Backend {
    door: Open,
    shared: Arc<Shared>,
}

impl H2Backend {
    /// Plain, by prior knowledge. The closure runs on a thread of its own for each request, as soon as its head is there.
    pub fn new(handler: impl Fn(&H2Received, &mut H2Stream) + Send + Sync + 'static) -> H2Backend {
        H2Backend::with(H2Options::default(), handler)
    }

    /// The same over TLS; it takes HTTP/2 by ALPN and nothing else.
    pub fn tls(tls: ServerTls, handler: impl Fn(&H2Received, &mut H2Stream) + Send + Sync + 'static) -> H2Backend {
        H2Backend::with(H2Options { door: Door::tls(tls.alpn(&["h2"])), ..H2Options::default() }, handler)
    }

    pub fn with(options: H2Options, handler: impl Fn(&H2Received, &mut H2Stream) + Send + Sync + 'static) -> H2Backend {
        let shared = Arc::new(Shared::default());
        let (serving, handler): (_, Arc<Handler>) = (shared.clone(), Arc::new(handler));
        let door = options.door.clone();
        let door = Open::new(door, move |stream, index| serve(stream, index, &options, &serving, &handler));
        H2Backend { door, shared }
    }

    /// Says what it was asked, as JSON, as `Backend::echo` does.
    pub fn echo() -> H2Backend {
        H2Backend::new(echo)
    }

    /// 200 with its name as the body.
    pub fn named(name: &'static str) -> H2Backend {
        H2Backend::new(move |_, stream| {
            stream.body();
            stream.answer(200, &[], name);
        })
    }

    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.door.address()
    }

    #[track_caller]
    pub fn path(&self) -> PathBuf {
        self.door.path()
    }

    /// Everything received so far, in order.
    pub fn requests(&self) -> Vec<H2Received> {
        lock(&self.shared.requests).clone()
    }

    pub fn count(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    #[track_caller]
    pub fn only(&self) -> H2Received {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "requests at the back end: {requests:#?}");
        requests.into_iter().next().expect("one")
    }

    #[track_caller]
    pub fn last(&self) -> H2Received {
        self.requests().pop().expect("the back end was asked")
    }

    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        eventually(&format!("{count} requests reached the back end"), || self.count() >= count);
    }

    /// Connections ever accepted.
    pub fn connections(&self) -> u64 {
        self.door.connections()
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.door.open()
    }

    pub fn most_at_once(&self) -> u64 {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }

    /// Streams refused for being too many.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Bytes of DATA that handlers could send.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }

    /// Bytes of DATA that came.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::SeqCst)
    }

    pub fn handshakes(&self) -> Vec<Result<Handshake, String>> {
        self.door.handshakes()
    }

    pub fn proxy_headers(&self) -> Vec<Result<ProxyHeader, String>> {
        self.door.proxy_headers()
    }

    /// Whatever reached it that breaks a rule of HTTP/2.
    pub fn complaints(&self) -> Vec<String> {
        lock(&self.shared.complaints).clone()
    }

    /// The GOAWAYs that reached it, on whatever connection, in order.
    pub fn goaways(&self) -> Vec<Goaway> {
        lock(&self.shared.goaways).clone()
    }

    /// Sends a frame on every open connection.
    pub fn tell_all(&self, frame: &Frame) {
        for wire in self.wires() {
            wire.send(std::slice::from_ref(frame));
        }
    }

    /// GOAWAY without an error on every open connection: what was asked so far is answered.
    pub fn retire_connections(&self) {
        for wire in self.wires() {
            let last = lock(&wire.protocol).streams.keys().next_back().copied().unwrap_or(0);
            wire.send(&[Frame::goaway(last, code::NO_ERROR)]);
        }
    }

    /// Sends FIN on every open connection.
    pub fn close_connections(&self) {
        self.wires().iter().for_each(|wire| wire.finish());
    }

    fn wires(&self) -> Vec<Arc<Wire>> {
        lock(&self.shared.wires).iter().filter_map(std::sync::Weak::upgrade).collect()
    }
}

pub(super) fn echo(request: &H2Received, stream: &mut H2Stream) {
    let body = stream.body();
    let headers: Vec<_> = request.headers.0.iter().map(|(name, value)| json!([name, value])).collect();
    let text = json!({
        "method": request.method, "target": request.path, "authority": request.authority, "headers": headers,
        "body_length": body.len(), "body": String::from_utf8_lossy(&body),
    });
    stream.answer(200, &[("content-type", "application/json")], text.to_string());
}

/// Reads until the end, and starts a handler for each request.
fn serve(stream: Arc<Stream>, index: usize, options: &H2Options, shared: &Arc<Shared>, handler: &Arc<Handler>) {
    let mut protocol = Protocol::new(Role::Server);
    protocol.flowing = options.flowing;
    let wire = Arc::new(Wire {
        stream,
        protocol: Mutex::new(protocol),
        changed: Condvar::new(),
        over: std::sync::atomic::AtomicBool::new(false),
        writing: Mutex::new(()),
        shared: shared.clone(),
    });
    let mut wires = lock(&shared.wires);
    wires.retain(|wire| wire.strong_count() > 0);
    wires.push(Arc::downgrade(&wire));
    drop(wires);
    if let Err(why) = read(&wire, index, options, handler) {
        wire.complain(why);
        wire.send(&[Frame::goaway(0, code::PROTOCOL_ERROR)]);
        wire.stream.finish();
    }
    wire.over.store(true, Ordering::SeqCst);
    // Who waits looks again: it must not miss this between looking and waiting.
    drop(lock(&wire.protocol));
    wire.changed.notify_all();
}

fn read(wire: &Arc<Wire>, index: usize, options: &H2Options, handler: &Arc<Handler>) -> Result<(), String> {
    wire.send(&[options.greeting.clone().unwrap_or_else(|| Frame::settings(&options.settings))]);
    let mut buffer = Vec::new();
    let mut greeted = false;
    let announced = options.settings.iter().find(|(name, _)| *name == setting::MAX_CONCURRENT_STREAMS);
    let most = announced.filter(|_| options.strict).map_or(usize::MAX, |(_, most)| *most as usize);
    // Which request a stream carries.
    let mut requests: HashMap<u32, usize> = HashMap::new();
    loop {
        if !greeted && buffer.len() >= PREFACE.len() {
            if !buffer.starts_with(PREFACE) {
                return Err(format!("no preface of HTTP/2: {}", crate::message::shown(&buffer)));
            }
            buffer.drain(..PREFACE.len());
            greeted = true;
        }
        let mut at = 0;
        while greeted && let Some((frame, length)) = Frame::decode(&buffer[at..]) {
            at += length;
            take(wire, &frame, index, most, &mut requests, handler)?;
        }
        buffer.drain(..at);
        let mut bytes = [0; 64 * 1024];
        match wire.stream.read(&mut bytes) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&bytes[..count]),
            Ok(_) if !buffer.is_empty() => return Err(format!("a frame that broke off: {}", crate::message::shown(&buffer))),
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}

fn take(
    wire: &Arc<Wire>,
    frame: &Frame,
    index: usize,
    most: usize,
    requests: &mut HashMap<u32, usize>,
    handler: &Arc<Handler>,
) -> Result<(), String> {
    let mut protocol = lock(&wire.protocol);
    let answers = protocol.take(frame)?;
    let is_new = frame.kind == kind::HEADERS && !requests.contains_key(&frame.stream);
    if is_new && protocol.open() > most && protocol.streams.get(&frame.stream).is_some_and(|side| !side.abandoned) {
        drop(protocol);
        wire.shared.refused.fetch_add(1, Ordering::SeqCst);
        wire.send(&[Frame::reset(frame.stream, code::REFUSED_STREAM)]);
        return Ok(());
    }
    wire.shared.most_at_once.fetch_max(protocol.open() as u64, Ordering::SeqCst);
    if frame.kind == kind::GOAWAY {
        lock(&wire.shared.goaways).extend(protocol.goaway.last());
    }
    if frame.kind == kind::DATA {
        wire.shared.received.fetch_add(frame.payload.len() as u64, Ordering::SeqCst);
    }
    let mut new = None;
    if let Some(side) = protocol.streams.get(&frame.stream)
        && let Some(head) = &side.head
    {
        let mut all = lock(&wire.shared.requests);
        let at = *requests.entry(frame.stream).or_insert_with(|| {
            all.push(received(head, index, frame.stream));
            new = Some(all.len() - 1);
            all.len() - 1
        });
        note(&mut all[at], side);
    }
    drop(protocol);
    wire.changed.notify_all();
    if !answers.is_empty() {
        wire.send(&answers);
    }
    if let Some(at) = new {
        let request = lock(&wire.shared.requests)[at].clone();
        let (wire, handler) = (wire.clone(), handler.clone());
        std::thread::spawn(move || {
            let mut stream = H2Stream::new(wire, request.stream, request.method == "HEAD");
            handler(&request, &mut stream);
            stream.leave();
        });
    }
    Ok(())
}

fn received(head: &Fields, connection: usize, stream: u32) -> H2Received {
    let pseudo = |name: &str| head.all(name).first().map(|value| (*value).to_owned());
    H2Received {
        method: pseudo(":method").unwrap_or_default(),
        scheme: pseudo(":scheme").unwrap_or_default(),
        path: pseudo(":path").unwrap_or_default(),
        authority: pseudo(":authority"),
        protocol: pseudo(":protocol"),
        headers: Fields(head.0.iter().filter(|(name, _)| !name.starts_with(':')).cloned().collect()),
        body: Vec::new(),
        trailers: Fields::default(),
        complete: false,
        reset: None,
        connection,
        stream,
    }
}

/// Notes what has come, for the test to see at once.
fn note(request: &mut H2Received, side: &Side) {
    let known = request.body.len();
    request.body.extend_from_slice(&side.body[known..]);
    request.trailers = side.trailers.clone().unwrap_or_default();
    request.complete = side.ended;
    request.reset = side.reset;
}
