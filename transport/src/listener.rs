//! Listening sockets: TCP, one per worker and address, sharing the port, so that the kernel deals the connections; Unix, one that all
//! workers accept from.

use crate::socket::Socket;
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::task::{Context, Poll, ready};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A listening socket that belongs to no runtime yet.
#[derive(Debug)]
pub enum Listening {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Listening {
    /// A socket that somebody else opened.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Listening> {
        let socket = RawSocket::from(descriptor);
        socket.set_nonblocking(true)?;
        Ok(match socket.local_addr()?.is_unix() {
            true => Listening::Unix(socket.into()),
            false => Listening::Tcp(socket.into()),
        })
    }

    /// A copy of the descriptor, to be given to another process.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(match self.try_clone()? {
            Listening::Tcp(listener) => listener.into(),
            Listening::Unix(listener) => listener.into(),
        })
    }

    /// The port that it got; a Unix socket has none.
    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Listening::Tcp(listener) => listener.local_addr().map(Some),
            Listening::Unix(_) => Ok(None),
        }
    }

    /// One more socket at the place of this one, and whether it has a queue of its own: where the port is shared it has, elsewhere (a
    /// Unix socket, or one that systemd opened) it is the same queue once more.
    pub fn another(&self) -> io::Result<(Listening, bool)> {
        if let Listening::Tcp(listener) = self
            && SockRef::from(listener).reuse_port()?
        {
            // The kernel lets only the same user share a port; who may not still has the queue that is there.
            if let Ok(socket) = bind(listener.local_addr()?, true) {
                return Ok((Listening::Tcp(socket), true));
            }
        }
        Ok((self.try_clone()?, false))
    }

    /// The same socket once more, for another worker.
    pub fn try_clone(&self) -> io::Result<Listening> {
        Ok(match self {
            Listening::Tcp(listener) => Listening::Tcp(listener.try_clone()?),
            Listening::Unix(listener) => Listening::Unix(listener.try_clone()?),
        })
    }
}

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

/// Whether nobody has the port. Workers share a port among them, and the kernel would let a second gateway of the same user share it too,
/// with half the traffic gone to a process that nobody meant.
pub fn is_free(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 { Ok(()) } else { bind(address, false).map(drop) }
}

/// Binds a Unix socket. A file that a process left behind, which nobody listens on any more, gives way.
pub fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let there = std::fs::symlink_metadata(path).ok().map(|file| file.file_type().is_socket());
    if there == Some(false) {
        let words = "something is there that is no socket: move it away, or choose another path";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, words));
    }
    if there == Some(true) {
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(_) => {}
        }
    }
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A worker's own hold on a listening socket.
pub enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection as it was accepted, with the addresses of its ends.
pub struct Accepted {
    stream: Stream,
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// An accepted connection on its way to another worker.
pub struct Parcel {
    stream: StdStream,
    peer: SocketAddr,
    local: SocketAddr,
}

enum StdStream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// Who comes through a Unix socket is on this machine.
const LOCAL_PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Acceptor {
    /// Within the worker's runtime.
    pub fn new(listener: Listening) -> io::Result<Acceptor> {
        Ok(match listener {
            Listening::Tcp(listener) => Acceptor::Tcp(TcpListener::from_std(listener)?),
            Listening::Unix(listener) => Acceptor::Unix(UnixListener::from_std(listener)?),
        })
    }

    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        Poll::Ready(Ok(match self {
            Acceptor::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Accepted { stream: Stream::Tcp(stream), peer, local }
            }
            Acceptor::Unix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                Accepted { stream: Stream::Unix(stream), peer: LOCAL_PEER, local: LOCAL_PEER }
            }
        }))
    }
}

impl Accepted {
    pub fn into_socket(self) -> Socket {
        match self.stream {
            Stream::Tcp(stream) => stream.into(),
            Stream::Unix(stream) => stream.into(),
        }
    }

    /// Takes it out of this worker's runtime.
    pub fn pack(self) -> io::Result<Parcel> {
        let stream = match self.stream {
            Stream::Tcp(stream) => StdStream::Tcp(stream.into_std()?),
            Stream::Unix(stream) => StdStream::Unix(stream.into_std()?),
        };
        Ok(Parcel { stream, peer: self.peer, local: self.local })
    }
}

impl Parcel {
    /// Brings it into this worker's runtime.
    pub fn unpack(self) -> io::Result<Accepted> {
        let stream = match self.stream {
            StdStream::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            StdStream::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        };
        Ok(Accepted { stream, peer: self.peer, local: self.local })
    }
}
