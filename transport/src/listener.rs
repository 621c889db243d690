//! Listening sockets: one per worker and address, sharing the port, so that the kernel deals the connections.

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use tokio::net::{TcpListener, TcpStream};

/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Binds one listening socket. `shared`: with SO_REUSEPORT, so that every worker has its own.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two addresses, on every system.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One more socket at the place of this one, and whether it has a queue of its own: where the port is shared it has, elsewhere (a socket
/// that systemd opened, say) it is the same queue once more.
pub fn another(listener: &std::net::TcpListener) -> io::Result<(std::net::TcpListener, bool)> {
    if SockRef::from(listener).reuse_port()? {
        // The kernel lets only the same user share a port; who may not still has the queue that is there.
        if let Ok(socket) = bind(listener.local_addr()?, true) {
            return Ok((socket, true));
        }
    }
    Ok((listener.try_clone()?, false))
}

/// A worker's own listening socket.
pub struct Acceptor(TcpListener);

impl Acceptor {
    /// Within the worker's runtime.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Acceptor> {
        Ok(Acceptor(TcpListener::from_std(listener)?))
    }

    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let (stream, peer) = ready!(self.0.poll_accept(cx))?;
        stream.set_nodelay(true)?;
        Poll::Ready(Ok((stream, peer)))
    }
}
