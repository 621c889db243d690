//! Listening sockets that were open before this process began: handed over by the process before it, or opened by systemd. A listener
//! takes those that have its address; nothing is bound here.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

#[derive(Debug, Default)]
pub struct Offered {
    offers: Vec<Offer>,
    taken: Vec<String>,
}

#[derive(Debug)]
struct Offer {
    /// What whoever offers it calls it.
    name: String,
    /// Where it listens.
    local: String,
    sockets: Vec<OwnedFd>,
}

impl Offered {
    /// Sockets of one address, which the configuration of the process before had as `name`: with `127.0.0.1:0`, the port stays the same
    /// over an upgrade.
    pub fn add(&mut self, name: String, sockets: Vec<OwnedFd>) -> io::Result<()> {
        let mut named = Vec::with_capacity(sockets.len());
        let mut local = None;
        for socket in sockets {
            let (address, socket) = listening(socket)?;
            local.get_or_insert(address);
            named.push(socket);
        }
        if let Some(local) = local {
            self.offers.push(Offer { name, local, sockets: named });
        }
        Ok(())
    }

    /// A socket that is known by where it listens, which is returned.
    pub fn add_unnamed(&mut self, socket: OwnedFd) -> io::Result<String> {
        let (local, socket) = listening(socket)?;
        match self.offers.iter_mut().find(|offer| offer.local == local) {
            Some(offer) => offer.sockets.push(socket),
            None => self.offers.push(Offer { name: local.clone(), local: local.clone(), sockets: vec![socket] }),
        }
        Ok(local)
    }

    pub fn has(&self, address: &str) -> bool {
        self.find(address).is_some()
    }

    /// The sockets for an address, as the configuration has it. Empty: it must be bound.
    pub fn take(&mut self, address: &str) -> Vec<OwnedFd> {
        let Some(index) = self.find(address) else { return Vec::new() };
        let Offer { name, sockets, .. } = self.offers.remove(index);
        self.taken.push(name);
        sockets
    }

    /// By name before by place: `127.0.0.1:0` is a name only.
    fn find(&self, address: &str) -> Option<usize> {
        let by_name = self.offers.iter().position(|offer| offer.name == address);
        by_name.or_else(|| self.offers.iter().position(|offer| offer.local == address))
    }

    /// Where those listen that have a port.
    pub(crate) fn places(&self) -> Vec<SocketAddr> {
        self.offers.iter().filter_map(|offer| offer.local.parse().ok()).collect()
    }

    /// The names of those that were taken.
    pub fn taken(&self) -> &[String] {
        &self.taken
    }

    /// Where those listen that nobody took.
    pub fn left(&self) -> Vec<&str> {
        self.offers.iter().map(|offer| offer.local.as_str()).collect()
    }
}

/// Where it listens, as a configuration would have it. What does not listen is refused.
fn listening(socket: OwnedFd) -> io::Result<(String, OwnedFd)> {
    let number = socket.as_raw_fd();
    let is_listening = accepts(number)?;
    let tcp = TcpListener::from(socket);
    let address = tcp.local_addr().map(|address| address.to_string());
    let unix = UnixListener::from(OwnedFd::from(tcp));
    let path = unix.local_addr().ok().and_then(|local| Some(format!("unix:{}", local.as_pathname()?.display())));
    match address.ok().or(path) {
        Some(address) if is_listening => Ok((address, unix.into())),
        Some(address) => Err(io::Error::new(ErrorKind::InvalidInput, format!("the socket at {address} does not listen"))),
        None => Err(io::Error::new(ErrorKind::InvalidInput, format!("descriptor {number} has no address to listen on"))),
    }
}

fn accepts(socket: i32) -> io::Result<bool> {
    let mut value: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: value and size are ours, of the sizes that are said, and live until the call returns.
    let done = unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, (&raw mut value).cast(), &raw mut size) };
    if done == 0 { Ok(value != 0) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn socket() -> (String, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap().to_string(), listener.into())
    }

    #[test]
    fn an_address_takes_what_has_its_name_before_what_is_at_its_place() {
        let mut offered = Offered::default();
        let (place, first) = socket();
        offered.add("127.0.0.1:0".to_owned(), vec![first.try_clone().unwrap(), first]).unwrap();
        let (_, second) = socket();
        // Somebody moved the listener to the port that another one had.
        offered.add(place.clone(), vec![second]).unwrap();
        assert_eq!(offered.take(&place).len(), 1, "by name");
        assert_eq!(offered.taken(), [place.as_str()]);
        assert_eq!(offered.take(&place).len(), 2, "by place");
        assert_eq!(offered.taken()[1], "127.0.0.1:0", "under the name it had");
        assert!(!offered.has(&place) && offered.take(&place).is_empty());
    }

    #[test]
    fn sockets_at_one_place_are_taken_together_and_what_nobody_takes_is_left() {
        let mut offered = Offered::default();
        let (place, socket) = socket();
        for copy in [socket.try_clone().unwrap(), socket] {
            assert_eq!(offered.add_unnamed(copy).unwrap(), place);
        }
        assert_eq!(offered.left(), [&place]);
        assert_eq!(offered.take(&place).len(), 2);
        assert!(offered.left().is_empty());
    }

    #[test]
    fn a_unix_socket_has_its_path_for_a_name() {
        let path = std::env::temp_dir().join(format!("maitred-offered-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let name = Offered::default().add_unnamed(listener.into());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(name.unwrap(), format!("unix:{}", path.display()));
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let mut offered = Offered::default();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let said = offered.add_unnamed(datagrams.into()).unwrap_err().to_string();
        assert!(said.contains("does not listen"), "{said}");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(offered.add_unnamed(file.into()).is_err());
    }
}
