//! A relay of datagrams that keeps one side's words back: what is said before a handshake is over can be looked at alone.

use super::varint;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Carries datagrams between one client and a gateway. What the gateway says waits for `answer`; what the client says once it has heard
/// that, for `release`.
pub struct Holding {
    address: SocketAddr,
    gateway: SocketAddr,
    state: Arc<HoldingState>,
}

#[derive(Default)]
struct HoldingState {
    answering: AtomicBool,
    released: AtomicBool,
    stopped: AtomicBool,
    retried: AtomicBool,
    client: OnceLock<SocketAddr>,
    /// What has gone to the gateway, to be sent again by somebody else.
    sent: Mutex<Vec<Vec<u8>>>,
}

impl Holding {
    pub fn before(gateway: SocketAddr) -> Holding {
        let (outside, inside) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = outside.local_addr().unwrap();
        inside.connect(gateway).unwrap();
        for socket in [&outside, &inside] {
            socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        }
        let state: Arc<HoldingState> = Arc::default();
        for towards_gateway in [true, false] {
            let (outside, inside) = (outside.try_clone().unwrap(), inside.try_clone().unwrap());
            let state = state.clone();
            std::thread::spawn(move || match towards_gateway {
                true => state.carry(&outside, |datagram| {
                    let passes = state.released.load(Ordering::Relaxed) || is_first_flight(datagram);
                    if passes {
                        let _ = inside.send(datagram);
                        state.sent.lock().unwrap().push(datagram.to_vec());
                    }
                    passes
                }),
                false => state.carry(&inside, |datagram| {
                    if is_retry(datagram) {
                        state.retried.store(true, Ordering::Relaxed);
                    }
                    let client = state.client.get().filter(|_| state.answering.load(Ordering::Relaxed));
                    client.is_some_and(|client| outside.send_to(datagram, client).is_ok())
                }),
            });
        }
        Holding { address, gateway, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn answer(&self) {
        self.state.answering.store(true, Ordering::Relaxed);
    }

    pub fn release(&self) {
        self.answer();
        self.state.released.store(true, Ordering::Relaxed);
    }

    /// The gateway has asked the client to show that it gets what is sent to it.
    pub fn was_retried(&self) -> bool {
        self.state.retried.load(Ordering::Relaxed)
    }

    /// Sends what the client has sent once more, from another address.
    pub fn replay(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for datagram in self.state.sent.lock().unwrap().iter() {
            socket.send_to(datagram, self.gateway).unwrap();
        }
        socket
    }
}

impl HoldingState {
    /// Until it is stopped. What `pass` does not take is tried again.
    fn carry(&self, from: &UdpSocket, pass: impl Fn(&[u8]) -> bool) {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        let mut buffer = [0; 65536];
        while !self.stopped.load(Ordering::Relaxed) {
            if let Ok((count, sender)) = from.recv_from(&mut buffer) {
                let _ = self.client.set(sender);
                kept.push(buffer[..count].to_vec());
            }
            kept.retain(|datagram| !pass(datagram));
        }
    }
}

/// Whether a client can send this before it has heard anything (RFC 9000 §17.2): Initial and 0-RTT packets alone.
fn is_first_flight(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while let Some(&first) = rest.first() {
        let kind = first >> 4 & 3;
        if first & 0x80 == 0 || kind > 1 {
            return false;
        }
        // Version and both ids, each behind its length.
        let mut at = 5;
        for _ in 0..2 {
            at += 1 + usize::from(rest[at]);
        }
        if kind == 0 {
            let (token, length) = varint(&rest[at..]);
            at += length + token;
        }
        let (payload, length) = varint(&rest[at..]);
        at += length + payload;
        rest = &rest[at.min(rest.len())..];
    }
    true
}

/// RFC 9000 §17.2.5.
fn is_retry(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xf0 == 0xf0)
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
    }
}
