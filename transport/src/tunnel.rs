//! Relays bytes both ways once an upgrade was accepted. Reads nothing into them.

use crate::timers::Timer;
use crate::worker::Worker;
use maitred_core::{Duplex, Fault, Progress};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// One direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Open,
    /// Its end was read; FIN has still to be sent on.
    Ending,
    Closed,
}

/// Until both directions ended, one broke, or nothing moved for the idle time. Gives the bytes sent to the client.
pub async fn relay(worker: &Worker, client: Rc<dyn Duplex>, upstream: Rc<dyn Duplex>) -> u64 {
    let timer = Timer::new(&worker.timers);
    let idle = client.idle_timeout().max(upstream.idle_timeout());
    let (mut up, mut down) = (Half::Open, Half::Open);
    let mut down_bytes = 0;
    let mut up_bytes = 0;
    timer.arm(worker.now() + idle);
    poll_fn(|cx| {
        let before = up_bytes + down_bytes;
        let one = poll_half(cx, &*client, &*upstream, &mut up, &mut up_bytes);
        let other = poll_half(cx, &*upstream, &*client, &mut down, &mut down_bytes);
        match (one, other) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            (Poll::Pending, _) | (_, Poll::Pending) => {}
        }
        if up_bytes + down_bytes != before {
            timer.arm(worker.now() + idle);
        }
        timer.poll(cx)
    })
    .await;
    down_bytes
}

fn poll_half(
    cx: &mut Context<'_>,
    from: &dyn Duplex,
    to: &dyn Duplex,
    half: &mut Half,
    moved: &mut u64,
) -> Poll<Result<(), Fault>> {
    loop {
        match half {
            Half::Closed => return Poll::Ready(Ok(())),
            Half::Ending => {
                ready!(to.poll_shutdown(cx))?;
                *half = Half::Closed;
            }
            Half::Open => match ready!(from.poll_ready(cx))? {
                Progress::End => *half = Half::Ending,
                Progress::Data => {
                    let data = from.data();
                    let count = ready!(to.poll_write(cx, &data))?;
                    drop(data);
                    from.consume(count);
                    *moved += count as u64;
                }
            },
        }
    }
}
