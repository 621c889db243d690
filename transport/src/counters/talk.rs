//! The first words with a server, one after the other: who we are, whether it is the one to ask, what a cluster or its sentinels know. Counts
//! nothing.

use super::CountersSpec;
use super::command::SCRIPTS;
use crate::socket::Socket;
use crate::worker::Worker;
use maitred_core::Remote;
use maitred_wire::{Reply, resp_command};
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// For one sentinel: where it is gone there are others, and all must have their turn before whoever connects gives up.
const SENTINEL_TIME_MAX: Duration = Duration::from_millis(300);
/// What one read takes.
const READ_BYTES: usize = 16 * 1024;

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// An IPv6 address without brackets.
    Host(String, u16),
    Socket(PathBuf),
    /// Whoever the sentinels say has this name.
    Sentinel(String),
}

impl Place {
    /// What a server of a cluster calls another: `host:port`; without a host it is our own.
    pub fn beside(&self, text: &str) -> Option<Place> {
        let (host, port) = text.rsplit_once(':')?;
        self.named(host, port.parse().ok()?)
    }

    pub fn named(&self, host: &str, port: u16) -> Option<Place> {
        match (self, host) {
            (Place::Host(own, _), "" | "?") => Some(Place::Host(own.clone(), port)),
            (Place::Host(..) | Place::Socket(_) | Place::Sentinel(_), host) => Some(Place::Host(host.to_owned(), port)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Host(host, port) => write!(f, "{host}:{port}"),
            Place::Socket(path) => write!(f, "{}", path.display()),
            Place::Sentinel(name) => f.write_str(name),
        }
    }
}

/// A connection to a server that has proved that it answers in time. Whoever calls keeps the time.
pub(super) async fn connect(place: &Place, spec: &CountersSpec, worker: &Rc<Worker>) -> Result<Socket, String> {
    let mut talk = match place {
        Place::Host(..) | Place::Socket(_) => Talk::open(place, spec, worker).await?,
        Place::Sentinel(name) => {
            let master = master(name, spec, worker).await?;
            let mut talk = Talk::open(&master, spec, worker).await?;
            talk.introduce(spec).await?;
            talk.is_master().await.map_err(|why| format!("{master}: {why}"))?;
            talk.prepare(spec).await?;
            return Ok(talk.socket);
        }
    };
    talk.introduce(spec).await?;
    talk.prepare(spec).await?;
    Ok(talk.socket)
}

/// Where the sentinels say that the server is.
async fn master(name: &str, spec: &CountersSpec, worker: &Rc<Worker>) -> Result<Place, String> {
    let hosts = &spec.servers.hosts;
    let first = worker.chance.below(hosts.len().max(1));
    let mut why = "there is no sentinel".to_owned();
    for (host, port) in hosts.iter().cycle().skip(first).take(hosts.len()) {
        let sentinel = Place::Host(host.clone(), *port);
        match timeout(SENTINEL_TIME_MAX, ask_sentinel(&sentinel, name, spec, worker)).await {
            Ok(Ok(place)) => return Ok(place),
            Ok(Err(what)) => why = format!("sentinel {sentinel}: {what}"),
            Err(_) => why = format!("sentinel {sentinel}: no answer within {SENTINEL_TIME_MAX:?}"),
        }
    }
    Err(why)
}

async fn ask_sentinel(sentinel: &Place, name: &str, spec: &CountersSpec, worker: &Rc<Worker>) -> Result<Place, String> {
    let question: [&[u8]; 3] = [b"SENTINEL", b"get-master-addr-by-name", name.as_bytes()];
    let mut talk = Talk::open(sentinel, spec, worker).await?;
    let mut reply = talk.ask(&question).await?;
    // Most sentinels ask nobody who they are; those that do have the servers' password.
    if matches!(&reply, Reply::Error(words) if words.starts_with("NOAUTH")) {
        talk.authenticate(spec).await?;
        reply = talk.ask(&question).await?;
    }
    let parts = match &reply {
        Reply::List(parts) => parts,
        Reply::Nothing => return Err(format!("it knows no `{name}`")),
        Reply::Error(words) => return Err(words.clone()),
        Reply::Integer(_) | Reply::Text(_) => return Err("it is no sentinel".to_owned()),
    };
    match (parts.first().and_then(Reply::text), parts.get(1).and_then(Reply::text).and_then(|port| port.parse().ok())) {
        (Some(host), Some(port)) => sentinel.named(host, port).ok_or_else(|| "it names no server".to_owned()),
        _ => Err("it names no server".to_owned()),
    }
}

/// Slots, from the first to the last, and who has them.
pub(super) type Share = (u16, u16, Place);

/// Who has which slots, as one server of a cluster knows it.
pub(super) async fn shares(place: &Place, spec: &CountersSpec, worker: &Rc<Worker>) -> Result<Vec<Share>, String> {
    let mut talk = Talk::open(place, spec, worker).await?;
    talk.authenticate(spec).await?;
    let reply = talk.ask(&[b"CLUSTER", b"SLOTS"]).await?;
    match &reply {
        Reply::List(list) => list.iter().map(|share| read_share(place, share)).collect(),
        Reply::Error(words) => Err(words.clone()),
        Reply::Integer(_) | Reply::Text(_) | Reply::Nothing => Err("it says nothing of slots".to_owned()),
    }
}

fn read_share(place: &Place, share: &Reply) -> Result<Share, String> {
    let read = || {
        let [first, last, master, ..] = share.list()? else { return None };
        let slot = |reply: &Reply| u16::try_from(reply.integer()?).ok();
        let master = master.list()?;
        let port = u16::try_from(master.get(1)?.integer()?).ok()?;
        let host = master.first()?.text().unwrap_or_default();
        Some((slot(first)?, slot(last)?, place.named(host, port)?))
    };
    read().ok_or_else(|| "it says nothing of slots".to_owned())
}

struct Talk {
    socket: Socket,
    input: Vec<u8>,
}

impl Talk {
    async fn open(place: &Place, spec: &CountersSpec, worker: &Rc<Worker>) -> Result<Talk, String> {
        let remotes = match place {
            Place::Host(host, port) => addresses(host, *port, &spec.lookups).await?,
            Place::Socket(path) => vec![Remote::Unix(path.as_path().into())],
            Place::Sentinel(name) => return Err(format!("`{name}` is a name, and no address")),
        };
        let host = place.to_string();
        let mut why = format!("{host} has no address");
        for remote in &remotes {
            match spec.dial.connect(remote, &host, None, worker).await {
                Ok(socket) => return Ok(Talk { socket, input: Vec::new() }),
                Err(fault) => why = fault.detail.into_owned(),
            }
        }
        Err(why)
    }

    /// One command, one reply.
    async fn ask(&mut self, parts: &[&[u8]]) -> Result<Reply, String> {
        let mut command = Vec::new();
        resp_command(&mut command, parts);
        let mut written = 0;
        while written < command.len() {
            written += poll_fn(|cx| self.socket.poll_write(cx, &command[written..])).await.map_err(|error| error.to_string())?;
        }
        loop {
            match Reply::read(&self.input) {
                Ok(Some((reply, count))) => {
                    self.input.drain(..count);
                    return Ok(reply);
                }
                Ok(None) => self.read().await?,
                Err(_) => return Err("what it says is not Redis' protocol".to_owned()),
            }
        }
    }

    async fn read(&mut self) -> Result<(), String> {
        let filled = self.input.len();
        self.input.resize(filled + READ_BYTES, 0);
        let read = poll_fn(|cx| self.socket.poll_read(cx, &mut self.input[filled..])).await;
        self.input.truncate(filled + read.as_ref().map_or(0, |count| *count));
        match read {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn done(&mut self, parts: &[&[u8]]) -> Result<(), String> {
        match self.ask(parts).await? {
            Reply::Error(words) => Err(words),
            Reply::Integer(_) | Reply::Text(_) | Reply::Nothing | Reply::List(_) => Ok(()),
        }
    }

    async fn authenticate(&mut self, spec: &CountersSpec) -> Result<(), String> {
        let servers = &spec.servers;
        match (&servers.user, &servers.password) {
            (Some(user), Some(password)) => self.done(&[b"AUTH", user.as_bytes(), password.expose().as_bytes()]).await,
            (None, Some(password)) => self.done(&[b"AUTH", password.expose().as_bytes()]).await,
            (_, None) => Ok(()),
        }
    }

    async fn introduce(&mut self, spec: &CountersSpec) -> Result<(), String> {
        self.authenticate(spec).await?;
        match spec.servers.database {
            0 => Ok(()),
            database => self.done(&[b"SELECT", database.to_string().as_bytes()]).await,
        }
    }

    /// A server that was a master may be somebody's replica by now, and the sentinels may not know it yet.
    async fn is_master(&mut self) -> Result<(), String> {
        let reply = self.ask(&[b"ROLE"]).await?;
        match reply.list().and_then(|parts| parts.first()?.text()) {
            Some("master") => Ok(()),
            Some(role) => Err(format!("it is a {role}, and no master")),
            None => Err("it does not say what it is".to_owned()),
        }
    }

    /// Its scripts are there, and it answers as soon as requests want their answers.
    async fn prepare(&mut self, spec: &CountersSpec) -> Result<(), String> {
        for script in SCRIPTS.all() {
            // Whom the server lets run scripts it may not let load them: then they come with the first that needs them.
            self.ask(&[b"SCRIPT", b"LOAD", script.text.as_bytes()]).await?;
        }
        match timeout(spec.timeout, self.done(&[b"PING"])).await {
            Ok(done) => done,
            Err(_) => Err(format!("it does not answer within {:?}", spec.timeout)),
        }
    }
}

async fn addresses(host: &str, port: u16, lookups: &Arc<Semaphore>) -> Result<Vec<Remote>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![Remote::Tcp((address, port).into())]);
    }
    let name = host.to_owned();
    let look = move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>);
    let found = in_turn(lookups, look).await?.map_err(|error| format!("cannot find {host}: {error}"))?;
    Ok(found.into_iter().map(Remote::Tcp).collect())
}

/// In a thread of its own, once there is a place for it; it keeps the place until it is done, whether somebody waits for it or not.
async fn in_turn<T: Send + 'static>(places: &Arc<Semaphore>, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let place = places.clone().acquire_owned().await.map_err(|error| error.to_string())?;
    let working = spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    });
    working.await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn what_hangs_keeps_its_place_when_nobody_waits_for_it_any_more() {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
            let places = Arc::new(Semaphore::new(1));
            let (say, heard) = channel::<()>();
            let mut hanging = Box::pin(in_turn(&places, move || heard.recv().is_ok()));
            assert!(is_pending_at_first(&mut hanging).await, "it hangs");
            drop(hanging);
            let mut next = Box::pin(in_turn(&places, || 7));
            assert!(is_pending_at_first(&mut next).await, "there is one place");
            say.send(()).expect("it listens");
            assert_eq!(next.await, Ok(7));
        });
    }

    /// Whether it is not done when it is looked at once.
    async fn is_pending_at_first(future: &mut (impl Future + Unpin)) -> bool {
        poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())).await
    }
}
