//! The UDP sockets of a listener: one for each worker, sharing the port. The kernel deals datagrams by the addresses of both ends; when a
//! client's changes, they come to another worker, which passes them to the one whose number is in the connection's id.

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;

/// Datagrams that may wait for the worker they belong to; a lost one is sent again.
const STRAYS: usize = 256;
/// The number of a worker, and what nobody guesses.
const ID_BYTES: usize = 8;
const NUMBER_BYTES: usize = 2;
/// What the kernel keeps for us while a worker is busy; the system's own default holds some 100 datagrams.
const SOCKET_BYTES: usize = 2 * 1024 * 1024;

/// Binds one UDP socket for each worker. Fails where anybody else has the port, another process of ours too: datagrams would come to
/// either, and each knows its own connections only.
pub fn bind_datagrams(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    drop(bind(address, false)?);
    (0..workers).map(|_| bind(address, true)).collect()
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        // As for TCP: `[::]` and `0.0.0.0` are two addresses.
        socket.set_only_v6(true)?;
    }
    // As much of it as the system allows.
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// One worker's part of a listener's datagrams.
pub struct DatagramShare {
    socket: UdpSocket,
    number: u16,
    fellows: Arc<[mpsc::Sender<Stray>]>,
    inbox: mpsc::Receiver<Stray>,
}

/// A datagram that came to the wrong worker.
struct Stray {
    bytes: Box<[u8]>,
    peer: SocketAddr,
    ecn: Option<EcnCodepoint>,
    local: Option<IpAddr>,
}

impl DatagramShare {
    /// One for each worker, in their order.
    pub fn all(sockets: Vec<UdpSocket>) -> Vec<DatagramShare> {
        let (senders, boxes): (Vec<_>, Vec<_>) = sockets.iter().map(|_| mpsc::channel(STRAYS)).unzip();
        let fellows: Arc<[mpsc::Sender<Stray>]> = senders.into();
        sockets
            .into_iter()
            .zip(boxes)
            .enumerate()
            .map(|(number, (socket, inbox))| DatagramShare { socket, number: number as u16, fellows: fellows.clone(), inbox })
            .collect()
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Within the worker's runtime.
    pub(super) fn into_socket(self) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let DatagramShare { socket, number, fellows, inbox } = self;
        let inner = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Arc::new(Steered { inner, number, fellows, inbox: Mutex::new(inbox) }))
    }
}

/// A socket that gives away what belongs to another worker.
struct Steered {
    inner: Arc<dyn AsyncUdpSocket>,
    number: u16,
    fellows: Arc<[mpsc::Sender<Stray>]>,
    /// Locked by this worker alone, so never waited for.
    inbox: Mutex<mpsc::Receiver<Stray>>,
}

impl fmt::Debug for Steered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steered").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Steered {
    /// Whose a datagram is, if another's. Only short headers say: what begins a connection names an id that the client has made up.
    fn other_owner(&self, datagram: &[u8]) -> Option<&mpsc::Sender<Stray>> {
        let (first, rest) = datagram.split_first()?;
        let number = u16::from_be_bytes(*rest.first_chunk::<NUMBER_BYTES>()?);
        if first & 0x80 != 0 || number == self.number {
            return None;
        }
        self.fellows.get(usize::from(number))
    }

    /// Gives away what is another's of one read. What is left has the length 0, if the first is.
    fn steer(&self, bytes: &[u8], meta: &mut RecvMeta) {
        if meta.stride == 0 || self.other_owner(&bytes[..meta.len.min(meta.stride)]).is_none() {
            return;
        }
        for datagram in bytes[..meta.len].chunks(meta.stride) {
            // Of one client's datagrams that were read at once, all are of one connection, or nearly always.
            if let Some(owner) = self.other_owner(datagram) {
                let stray = Stray { bytes: datagram.into(), peer: meta.addr, ecn: meta.ecn, local: meta.dst_ip };
                let _ = owner.try_send(stray);
            }
        }
        meta.len = 0;
    }
}

impl AsyncUdpSocket for Steered {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if let Poll::Ready(Some(Stray { bytes, peer, ecn, local })) = inbox.poll_recv(cx)
            && let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut())
            && let Some(room) = buffer.get_mut(..bytes.len())
        {
            room.copy_from_slice(&bytes);
            (meta.addr, meta.len, meta.stride) = (peer, bytes.len(), bytes.len());
            (meta.ecn, meta.dst_ip) = (ecn, local);
            return Poll::Ready(Ok(1));
        }
        drop(inbox);
        let count = ready!(self.inner.poll_recv(cx, buffers, meta))?;
        for (buffer, meta) in buffers.iter().zip(meta.iter_mut()).take(count) {
            self.steer(buffer, meta);
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Makes ids of connections that say whose they are.
pub(super) struct Ids(pub u16);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        let (number, chance) = id.split_at_mut(NUMBER_BYTES);
        number.copy_from_slice(&self.0.to_be_bytes());
        // Without randomness no TLS is possible at all.
        aws_lc_rs::rand::fill(chance).expect("the system has randomness");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
