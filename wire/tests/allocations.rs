//! What is used again allocates nothing: frames and heads of HTTP/2, header compression, the tracker, counted by the allocator itself,
//! for this thread alone, since the harness has threads of its own.

use maitred_wire::{
    H2Frame, H2Parts, H2Reader, HeadLimits, HpackDecoder, Name, RequestFields, RequestHead, ResponseHead, Tracker, Version,
    accept_key, hpack_field, hpack_known, hpack_no_table, hpack_status, write_proxy_v1, write_proxy_v2,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count_one() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 65536, fields: 100, target_bytes: 16384, drop_underscores: true };

fn request(head: &mut RequestHead, method: &[u8], protocol: Option<&[u8]>) {
    head.begin_h2();
    for (name, value) in [
        (&b"cookie"[..], &b"a=b"[..]),
        (b"cookie", b"c=d"),
        (b"te", b"trailers"),
        (b"under_score", b"1"),
        (b"sec-websocket-key", b"x"),
        (b"x-long", &[b'x'; 300]),
    ] {
        head.h2_field(name, value).unwrap();
    }
    let parts = H2Parts {
        method,
        scheme: b"https",
        authority: Some(b"a.example"),
        path: b"/a/../b/%7e?c=d",
        protocol,
        end_stream: false,
    };
    head.finish_h2(parts, &LIMITS).unwrap();
}

fn response(head: &mut ResponseHead) {
    head.begin_h2(200);
    head.h2_field(b"content-length", b"5").unwrap();
    head.h2_field(b"content-type", b"application/json").unwrap();
    head.finish_h2(false, false).unwrap();
}

#[test]
fn nothing_is_allocated_the_second_time() {
    let (mut asked, mut answered) = (RequestHead::default(), ResponseHead::default());
    let (mut reader, mut tracker) = (H2Reader::new(1000), Tracker::default());
    let mut fields = RequestFields::default();
    reader.next(b"\0\0\0\x04\0\0\0\0\0").unwrap();
    let addresses = ["10.0.0.1:1", "[::1]:2"].map(|text| text.parse().unwrap());
    let mut out = Vec::with_capacity(1024);
    let mut once = || {
        request(&mut asked, b"POST", None);
        request(&mut asked, b"CONNECT", Some(b"websocket"));
        response(&mut answered);
        let (_, frame) = reader.next(b"\0\0\x08\x06\0\0\0\0\0pingpingxx").unwrap();
        assert!(matches!(frame, Some(H2Frame::Ping { .. })));
        reader.next(b"\0\0\0\0\0\0\0\0\x01").unwrap();
        fields.begin(&mut asked, Version::Http2);
        for (name, value) in [(":method", "GET"), (":scheme", "https"), (":path", "/a"), (":authority", "a"), ("x-a", "1")] {
            fields.field(&mut asked, name.as_bytes(), value.as_bytes(), &LIMITS);
        }
        fields.finish(&mut asked, true, &LIMITS).unwrap();
        tracker.feed(b"\x81\x05hello\x81");
        tracker.feed(b"\0");
        out.clear();
        out.extend_from_slice(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        write_proxy_v1(&mut out, addresses[0], addresses[1]);
        write_proxy_v2(&mut out, addresses[0], addresses[1]);
    };
    once();
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        once();
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// A browser's first request: GET and https by index, then ten fields that enter the table, nearly all in Huffman's code.
const FIRST_REQUEST: &str = "\
    8287418b1d665cbe474d7415721e9f44a063b8583d9216c430f34e89f65a60c92d28ff2835264c0d83e0f2ca82a600801f7aced07f66a281b0dae053\
    fafc087ed4ce6aadf2a7979c89c6bfb521aeba0bc8b1e632586d975765c53facd8f7e8cff4a506ea5531149d4ffda97a7b0f4958089c5c0b817029b8\
    728ec330db2eaecb9f53c0497ca589d34d1f43aeba0c41a4c7a98f33a69a3fdf9a68fa1d75d0620d263d4c79a68fbed00177fe8d48e62b03ee697e8d\
    48e62b1e0b1d7f5f2c7cfdf6800bbd50929bd9abfa5242cb40d25fa523b3e94f684c9f51932d4b70ddf45abefb4005dffa90bf7da002ef7f60bc4150\
    831ea81e942d15a6e5214a30b8e8db1b2e4859246a328c4db4cfda899cb4960907675fb522987062842b897089969b71d79f02e1742f00000001739c\
    9d29ad171863c78f0b97c8e9ae82ae43d2c0c843db52583d9216c47f408a4148b4a549275a93c85f8321ec474089f2b585ed6950958d279a005f00db\
    904b3b1848b3b2b2559f904359b8dc23b23c57e5007f";

/// Every request behind it: the same fields by index.
const LATER_REQUEST: &[u8] = b"\x82\x87\xc7\xc6\xc5\xc4\xc3\xc2\xc1\xc0\xbf\xbe";

#[test]
fn header_compression_allocates_nothing_the_second_time() {
    let first: Vec<u8> = FIRST_REQUEST
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let (mut scratch, mut out) = (Vec::new(), Vec::with_capacity(1024));
    let mut decoder = HpackDecoder::new(4096);
    let mut wanted = Vec::new();
    decoder.decode(&first, &mut scratch, |name, value| wanted.push((name.to_vec(), value.to_vec()))).unwrap();
    assert_eq!(wanted.len(), 12);
    assert_eq!(wanted[2], (b":authority".to_vec(), b"api.example.com".to_vec()));

    let mut once = |block: &[u8]| {
        out.clear();
        hpack_no_table(&mut out);
        hpack_status(&mut out, 200);
        let mut fields = wanted.iter();
        let mut take = |name: &[u8], value: &[u8]| {
            assert!(fields.next().is_some_and(|field| field.0 == name && field.1 == value));
            hpack_field(&mut out, name, value);
            hpack_known(&mut out, Name::of(name), name, value);
        };
        decoder.decode(block, &mut scratch, &mut take).unwrap();
        assert!(fields.next().is_none());
    };
    let mut rounds = |count: usize| {
        for _ in 0..count {
            // Ten entries enter and, as soon as the table is full, about ten must go.
            once(&first);
            once(LATER_REQUEST);
            once(LATER_REQUEST);
        }
    };
    rounds(20);
    let before = ALLOCATIONS.get();
    rounds(100);
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
