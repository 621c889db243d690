//! Relays bytes both ways once an upgrade was accepted. Of WebSockets it follows the frames, so that it can say goodbye between two
//! of them; it reads nothing else into the bytes.

use crate::server::ServerLimits;
use crate::timers::Timer;
use crate::worker::Worker;
use maitred_core::{Duplex, Fault, Progress};
use maitred_wire::{Tracker, close_frame};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// "Going away" (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1001;

/// One direction.
struct Half {
    state: State,
    /// Of a WebSocket, where its frames end.
    frames: Option<Tracker>,
    moved: u64,
    /// The close frame on its way, once goodbye is said, and how much of it is written.
    farewell: Option<(Vec<u8>, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its end was read; FIN has still to be sent on.
    Ending,
    Closed,
}

/// How a tunnel ended.
pub struct Relayed {
    /// Bytes sent to the client.
    pub down: u64,
    /// We said goodbye: what the client still sends is to be read, so that it gets to read that. Until then the tunnel is open.
    pub farewell: Option<Open>,
}

/// A tunnel that is counted however it ends: a gateway that goes waits for those to whom it said goodbye.
pub struct Open(Rc<Worker>);

impl Open {
    pub fn new(worker: &Rc<Worker>) -> Open {
        worker.shard().tunnels_open.add(1);
        Open(worker.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shard().tunnels_open.sub(1);
    }
}

/// Until both directions ended, one broke, nothing moved for the idle time, the lifetime was over, or the gateway goes.
pub async fn relay(
    worker: &Rc<Worker>,
    client: &dyn Duplex,
    upstream: &dyn Duplex,
    websocket: bool,
    limits: &ServerLimits,
) -> Relayed {
    let times = upstream.times();
    let (silence, lifetime) = times.unwrap_or((limits.tunnel_idle_timeout, limits.tunnel_lifetime));
    let (idle, life) = (Timer::new(&worker.timers), Timer::new(&worker.timers));
    let now = worker.now();
    idle.arm(now + silence);
    life.arm(now + lifetime);
    let mut up = Half::new(websocket);
    let mut down = Half::new(websocket);
    let mut going = pin!(worker.farewell.notified());
    let mut farewell = false;
    let open = Open::new(worker);
    poll_fn(|cx| {
        // Told once: from then on the life that is left counts.
        let over = life.poll(cx).is_ready() || (!farewell && going.as_mut().poll(cx).is_ready());
        if over && !std::mem::replace(&mut farewell, true) {
            if !websocket {
                return Poll::Ready(());
            }
            let mask = (worker.chance.next() as u32).to_ne_bytes();
            up.say_goodbye(Some(mask));
            down.say_goodbye(None);
            life.arm(worker.now() + Worker::FAREWELL_TIME);
        } else if over {
            return Poll::Ready(());
        }
        let before = up.moved + down.moved;
        let one = up.poll(cx, client, upstream);
        let other = down.poll(cx, upstream, client);
        match (one, other) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            (Poll::Pending, _) | (_, Poll::Pending) => {}
        }
        if times.is_some() && down.state == State::Closed && !std::mem::replace(&mut farewell, true) {
            life.arm(worker.now() + Worker::FAREWELL_TIME);
        }
        if up.moved + down.moved != before {
            idle.arm(worker.now() + silence);
        }
        idle.poll(cx)
    })
    .await;
    Relayed { down: down.moved, farewell: farewell.then_some(open) }
}

impl Half {
    fn new(websocket: bool) -> Half {
        Half { state: State::Open, frames: websocket.then(Tracker::default), moved: 0, farewell: None }
    }

    fn say_goodbye(&mut self, mask: Option<[u8; 4]>) {
        let mut frame = Vec::new();
        close_frame(GOING_AWAY, "the gateway is going away", mask, &mut frame);
        self.farewell = Some((frame, 0));
    }

    /// Ready when this direction is over.
    fn poll(&mut self, cx: &mut Context<'_>, from: &dyn Duplex, to: &dyn Duplex) -> Poll<Result<(), Fault>> {
        loop {
            match self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(to.poll_shutdown(cx))?;
                    self.state = State::Closed;
                }
                State::Open if self.is_last_word_due() => {
                    let Some((frame, written)) = &mut self.farewell else { return Poll::Pending };
                    while *written < frame.len() {
                        *written += ready!(to.poll_write(cx, &frame[*written..]))?;
                    }
                    self.state = State::Ending;
                }
                State::Open => match ready!(from.poll_ready(cx))? {
                    Progress::End => self.state = State::Ending,
                    Progress::Data => {
                        let data = from.data();
                        let count = ready!(to.poll_write(cx, &data))?;
                        if let Some(frames) = &mut self.frames {
                            frames.feed(&data[..count]);
                        }
                        drop(data);
                        from.consume(count);
                        self.moved += count as u64;
                    }
                },
            }
        }
    }

    /// Goodbye is to be said, and here no frame is cut by it.
    fn is_last_word_due(&self) -> bool {
        let between = self.frames.as_ref().is_some_and(Tracker::at_boundary);
        self.farewell.as_ref().is_some_and(|(_, written)| between || *written > 0)
    }
}
