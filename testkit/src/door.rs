//! Where back ends let connections in: TCP or a unix socket, plain or TLS, with or without a PROXY header in front. Counts who
//! came; knows nothing of HTTP.

use crate::folder::Folder;
use crate::proxy::{self, ProxyHeader};
use crate::stream::Stream;
use crate::tls::{Handshake, ServerTls};
use crate::wait::PATIENCE;
use socket2::{Domain, SockAddr, Socket, Type};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What a back end's door is like.
#[derive(Clone, Default)]
pub struct Door {
    tls: Option<ServerTls>,
    unix: bool,
    proxied: bool,
}

impl Door {
    /// TCP, and nothing in front of HTTP.
    pub fn plain() -> Door {
        Door::default()
    }

    pub fn tls(tls: ServerTls) -> Door {
        Door { tls: Some(tls), ..Door::default() }
    }

    /// A unix socket in a folder of its own.
    pub fn unix() -> Door {
        Door { unix: true, ..Door::default() }
    }

    /// Every connection must begin with a PROXY header.
    pub fn proxied(mut self) -> Door {
        self.proxied = true;
        self
    }
}

/// What is known of those who came.
#[derive(Default)]
pub(crate) struct Guests {
    streams: Mutex<Vec<Weak<Stream>>>,
    connections: AtomicU64,
    open: AtomicU64,
    stopped: AtomicBool,
    handshakes: Mutex<Vec<Result<Handshake, String>>>,
    proxy_headers: Mutex<Vec<Result<ProxyHeader, String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A door that is open. Dropped, it closes everything.
pub(crate) struct Open {
    place: SockAddr,
    folder: Option<Folder>,
    guests: Arc<Guests>,
}

impl Open {
    /// Calls `serve` on a thread of its own for each connection, with its number in the order of their being accepted.
    pub fn new(door: Door, serve: impl Fn(Arc<Stream>, usize) + Send + Sync + 'static) -> Open {
        let folder = door.unix.then(Folder::new);
        let (domain, place) = match &folder {
            Some(folder) => (Domain::UNIX, SockAddr::unix(folder.path("socket")).expect("a short path")),
            None => (Domain::IPV4, SocketAddr::from(([127, 0, 0, 1], 0)).into()),
        };
        let listener = Socket::new(domain, Type::STREAM, None).expect("a socket");
        listener.bind(&place).expect("a free place");
        listener.listen(1024).expect("listening");
        let place = if folder.is_some() { place } else { listener.local_addr().expect("a bound address") };
        let guests = Arc::new(Guests::default());
        let (accepting, serve) = (guests.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let index = accepting.connections.fetch_add(1, Ordering::SeqCst) as usize;
                accepting.open.fetch_add(1, Ordering::SeqCst);
                let (guests, serve, door) = (accepting.clone(), serve.clone(), door.clone());
                std::thread::spawn(move || {
                    if let Some(stream) = guests.welcome(&door, socket) {
                        serve(stream, index);
                    }
                    guests.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Open { place, folder, guests }
    }

    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.place.as_socket().expect("a back end behind TCP")
    }

    #[track_caller]
    pub fn path(&self) -> PathBuf {
        self.folder.as_ref().expect("a back end behind a unix socket").path("socket")
    }

    pub fn connections(&self) -> u64 {
        self.guests.connections.load(Ordering::SeqCst)
    }

    pub fn open(&self) -> u64 {
        self.guests.open.load(Ordering::SeqCst)
    }

    pub fn handshakes(&self) -> Vec<Result<Handshake, String>> {
        lock(&self.guests.handshakes).clone()
    }

    pub fn proxy_headers(&self) -> Vec<Result<ProxyHeader, String>> {
        lock(&self.guests.proxy_headers).clone()
    }

    pub fn streams(&self) -> Vec<Arc<Stream>> {
        lock(&self.guests.streams).iter().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.guests.stopped.store(true, Ordering::SeqCst);
        // The acceptor looks up, sees that it is over, and closes its port.
        let domain = if self.folder.is_some() { Domain::UNIX } else { Domain::IPV4 };
        if let Ok(socket) = Socket::new(domain, Type::STREAM, None) {
            let _ = socket.connect(&self.place);
        }
        for stream in self.streams() {
            stream.shut();
        }
    }
}

impl Guests {
    /// What comes before HTTP.
    fn welcome(&self, door: &Door, socket: Socket) -> Option<Arc<Stream>> {
        let mut stream = Stream::plain(socket).ok()?;
        // Tests keep a back end waiting for as long as they wait for something else.
        stream.set_timeouts(PATIENCE * 3);
        if door.proxied {
            let header = proxy::read(|count| {
                let mut bytes = vec![0; count];
                std::io::Read::read_exact(&mut &stream, &mut bytes).ok().map(|()| bytes)
            });
            let refused = header.is_err();
            lock(&self.proxy_headers).push(header);
            if refused {
                return None;
            }
        }
        if let Some(tls) = &door.tls {
            match tls.accept(stream) {
                Ok(secured) => {
                    lock(&self.handshakes).push(Ok(secured.handshake().expect("hands were shaken").clone()));
                    stream = secured;
                }
                Err(error) => {
                    lock(&self.handshakes).push(Err(error.to_string()));
                    return None;
                }
            }
        }
        let stream = Arc::new(stream);
        let mut streams = lock(&self.streams);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&stream));
        Some(stream)
    }
}
