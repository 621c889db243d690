//! A steady-state proxied request allocates nothing: counted by the allocator itself, over the whole process. Client and back end
//! of this test keep to fixed buffers, so that whatever is counted is the gateway's.

use maitred_dataplane::{Gateway, LogTarget, Options, State, compile};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Answers every request on every connection with 1 KB, from a fixed buffer.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0u8; 16384];
                let mut answer = [b'x'; 1024 + 45];
                answer[..45].copy_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 1024    \r\n\r\n");
                loop {
                    let mut end = 0;
                    while !is_whole(&buffer[..end]) {
                        let count = stream.read(&mut buffer[end..]).unwrap();
                        if count == 0 {
                            return;
                        }
                        end += count;
                    }
                    stream.write_all(&answer).unwrap();
                }
            });
        }
    });
    address
}

/// A head, and the 4096 bytes of a POST or PUT.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    !bytes.starts_with(b"P") || bytes.len() == head + 4 + 4096
}

fn exchange(client: &mut TcpStream, request: &[u8], buffer: &mut [u8]) {
    client.write_all(request).unwrap();
    let mut end = 0;
    while !buffer[..end].ends_with(b"x") || end < 1024 {
        let count = client.read(&mut buffer[end..]).unwrap();
        assert!(count > 0, "the gateway closed the connection");
        end += count;
    }
    assert!(buffer.starts_with(b"HTTP/1.1 200"));
    assert!(end > 1024 && buffer[end - 1024..end].iter().all(|&byte| byte == b'x'));
}

/// How often a GET and a request with a body of 4 KB allocated in each of some rounds, the first of which warms up.
fn rounds(upstream: &str, method: &str, identity: &str) -> [u64; 6] {
    let yaml = format!(
        "listen: 127.0.0.1:0\n{AUTHORIZERS}upstreams:\n  b: {{ endpoints: [\"http://{}\"]{upstream} }}\napis:\n  a:\n    base_path: /v1\n{identity}    routes:\n      - GET /x/{{id}}: b\n      - match: GET /x/{{id}}\n        when: {{ headers: {{ x-beta: \"1\" }}, query: {{ v: \"2\" }} }}\n        proxy: b\n      - {method} /x/{{id}}: b\n",
        backend()
    );
    let document = maitred_model::load_text("test.yaml", &yaml, &maitred_model::Memory::default()).document.unwrap();
    let snapshot = compile(Arc::new(document), &State::new(1)).unwrap_or_else(|_| panic!("the configuration is good"));
    let log = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    let gateway = Gateway::start(snapshot, LogTarget::File(log), Options::default()).unwrap();
    let mut client = TcpStream::connect(gateway.addresses()[0]).unwrap();
    let mut buffer = [0u8; 16384];
    let get = b"GET /v1/x/%61b?c=d HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test\r\nAccept: */*\r\nCookie: a=b\r\n\r\n";
    let get = String::from_utf8_lossy(get).replace("Cookie", &format!("Authorization: Bearer {TOKEN}\r\nCookie"));
    let mut put = format!(
        "{method} /v1/x/1 HTTP/1.1\r\nHost: example.com\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 4096\r\n\r\n"
    )
    .into_bytes();
    put.extend_from_slice(&[b'y'; 4096]);
    std::array::from_fn(|_| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..PAIRS {
            exchange(&mut client, get.as_bytes(), &mut buffer);
            exchange(&mut client, &put, &mut buffer);
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    })
}

const PAIRS: u64 = 500;

const AUTHORIZERS: &str = "authorizers: { staff: { jwt: { secret: 0123456789abcdef0123456789abcdef } } }\n";
/// Signed with that, and good until 2200.
const TOKEN: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NzI1ODExODQwMH0.Xke45Ies15NbmNzUaB8LSWueZlH2HaXGUCe1F77E3ck";

#[test]
fn a_steady_state_request_allocates_nothing() {
    // On a busy machine the log's writer may fall behind, and one buffer more is then in use from there on; what a request allocates,
    // all rounds have.
    let plain = rounds("", "POST", "");
    assert!(plain[1..].contains(&0), "1,000 requests each: {plain:?}");

    // Nor does one whose token was verified before.
    let known = rounds("", "POST", "    policies: { authenticate: [staff] }\n");
    assert!(known[1..].contains(&0), "1,000 requests each: {known:?}");

    // Nor does one that limits let in, and its answer that says what is left.
    let limits = "[{ rate: 1000000/s, burst: 1000000, by: ip }, { rate: 1000000/s, by: [\"header:cookie\", consumer] }]";
    let headers = "rate_limit_headers: [draft, split, x]";
    let limited = rounds("", "POST", &format!("    policies: {{ authenticate: [staff], rate_limit: {limits}, {headers} }}\n"));
    assert!(limited[1..].contains(&0), "1,000 requests each: {limited:?}");

    // Nor does one that might be tried again, or is counted, as long as it has no body to be kept.
    let guarded =
        ", retry: { attempts: 3, per_try_timeout: 5s }, circuit_breaker: { requests: 100 }, concurrency: { limit: adaptive }";
    let harmful = rounds(guarded, "POST", "");
    assert!(harmful[1..].contains(&0), "1,000 requests each: {harmful:?}");

    // One with a body that is kept: who keeps it, who reads it, and its bytes, as they grow.
    let kept = rounds(guarded, "PUT", "");
    assert!(kept[1..].iter().any(|&count| count <= 4 * PAIRS), "500 bodies each: {kept:?}");

    // Where a second request may be sent beside it: the race, the memory of its answer's head.
    let hedged = rounds(", hedge: { after: 5s }", "POST", "");
    assert!(hedged[1..].iter().any(|&count| count <= 6 * PAIRS), "500 GETs each: {hedged:?}");
}
