//! What is used again allocates nothing: heads of HTTP/2, the meter and the tracker, counted by the allocator itself, for this thread
//! alone, since the harness has threads of its own.

use maitred_wire::{H2Parts, HeadLimits, Meter, RequestHead, ResponseHead, Tracker, accept_key, write_proxy_v1, write_proxy_v2};
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
    let (mut meter, mut tracker) = (Meter::default(), Tracker::default());
    let addresses = ["10.0.0.1:1", "[::1]:2"].map(|text| text.parse().unwrap());
    let mut out = Vec::with_capacity(1024);
    let mut once = || {
        request(&mut asked, b"POST", None);
        request(&mut asked, b"CONNECT", Some(b"websocket"));
        response(&mut answered);
        meter.feed(b"\0\0\x08\x06\0\0\0\0\0pingpingxx");
        meter.feed(b"\0\0\0\0\0\0\0\0");
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
