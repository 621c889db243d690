//! Three times as much as a back end can do, for a few seconds: it stays busy, and nobody waits in vain.

use crate::queue::limited;
use maitred_testkit::{Backend, Client, gateway};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What came of one request of many.
struct Fate {
    status: u16,
    took: Duration,
    at: Duration,
}

/// Sends `rate` requests each second for so long, whatever comes of them: an open loop.
fn storm(address: SocketAddr, rate: f64, time: Duration, clients: usize) -> Vec<Fate> {
    let total = (rate * time.as_secs_f64()) as usize;
    let (next, fates) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(total)));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        return;
                    }
                    let due = start + Duration::from_secs_f64(number as f64 / rate);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let begun = Instant::now();
                    let status = client.get("/").status;
                    let fate = Fate { status, took: begun.elapsed(), at: start.elapsed() };
                    fates.lock().expect("nobody panics with it").push(fate);
                }
            });
        }
    });
    fates.into_inner().expect("nobody panicked")
}

/// The bar of the overload row, shortened: 4 slots of 50 ms, three times as much as they do, two workers. The exact numbers are held by
/// a simulation in core/src/queue; here the machine is shared with other tests.
#[test]
fn three_times_too_much_keeps_the_back_end_busy_and_nobody_waiting_in_vain() {
    const SLOTS: u32 = 4;
    let (service, timeout) = (Duration::from_millis(50), Duration::from_millis(400));
    let busy = Arc::new(Mutex::new((0u32, Duration::ZERO, 0u32, 0u32)));
    let seen = busy.clone();
    let backend = Backend::new(move |_, conn| {
        let begun = Instant::now();
        {
            let mut busy = seen.lock().expect("nobody panics with it");
            busy.2 += 1;
            busy.3 = busy.3.max(busy.2);
        }
        std::thread::sleep(service);
        let mut busy = seen.lock().expect("nobody panics with it");
        *busy = (busy.0 + 1, busy.1 + begun.elapsed(), busy.2 - 1, busy.3);
        drop(busy);
        conn.answer(200, "", "");
    });
    let yaml = limited(&format!("limit: {SLOTS}, queue: {{ length: 60, timeout: 400ms }}"));
    let gateway = gateway(&format!("workers: 2\n{yaml}"), &[("kitchen", backend.address())]);
    let capacity = f64::from(SLOTS) / service.as_secs_f64();
    let time = Duration::from_secs(4);
    let fates = storm(gateway.address(), 3.0 * capacity, time, 80);
    let (count, total, _, most) = *busy.lock().expect("nobody panicked");
    assert!(most <= SLOTS, "{most} at once");
    let service = total / count;
    let capacity = f64::from(SLOTS) / service.as_secs_f64();
    let mut served: Vec<Duration> = fates.iter().filter(|fate| fate.status == 200).map(|fate| fate.took).collect();
    let in_time = fates.iter().filter(|fate| fate.status == 200 && fate.at <= time).count();
    let goodput = in_time as f64 / time.as_secs_f64();
    served.sort();
    let p99 = served[served.len() * 99 / 100];
    let mut refused: Vec<Duration> = fates.iter().filter(|fate| fate.status == 503).map(|fate| fate.took).collect();
    refused.sort();
    let last = refused[refused.len() * 99 / 100];
    println!(
        "goodput {goodput:.0} of {capacity:.0}, p50 {:?} p99 {p99:?}, {} refused, p99 {last:?}",
        served[served.len() / 2],
        refused.len()
    );
    assert_eq!(served.len() + refused.len(), fates.len());
    assert!(goodput >= 0.85 * capacity, "goodput {goodput:.0} of {capacity:.0}");
    // What other tests take of the machine meanwhile is allowed for.
    let noise = Duration::from_millis(80);
    assert!(p99 <= timeout + service + noise, "p99 of those served: {p99:?}");
    assert!(last <= timeout + Duration::from_millis(20) + noise, "refused after {last:?}");
}
