//! The connections of a process, and the way to each of them: what AWS calls `@connections`. A connection belongs to one worker, which its id
//! names; whoever has something for it writes to that worker's box. So no worker waits for another, and nothing is locked.

use super::answer::Said;
use super::connection::{Connection, MESSAGE_BYTES_MAX};
use super::outbox::Unsaid;
use crate::Reach;
use maitred_core::{Clients, ConnectionView, Kind, Reaching, Unreached};
use maitred_transport::Worker;
use maitred_wire::base64;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Letters that wait for one worker; beyond it whoever writes waits.
const LETTERS_MAX: usize = 256;
/// Connections of one worker. Each takes about 1 KiB, and what it has said and not yet heard.
const CONNECTIONS_MAX: usize = 50_000;
/// Of an id: which worker, and by what chance. In base64 that needs no padding.
const ID_BYTES: usize = 12;

/// The way to every connection of this process, from any thread.
#[derive(Debug, Clone)]
pub struct Connections {
    boxes: Box<[mpsc::Sender<Letter>]>,
}

/// One worker's box, to be read by it.
pub type Letters = mpsc::Receiver<Letter>;

/// Something for one connection.
#[derive(Debug)]
pub struct Letter {
    id: Box<str>,
    errand: Errand,
    answer: oneshot::Sender<Result<ConnectionView, Unreached>>,
}

#[derive(Debug)]
enum Errand {
    Say(Vec<u8>),
    Look,
    Dismiss,
}

impl Connections {
    pub fn new(workers: usize) -> (Connections, Vec<Letters>) {
        let (boxes, letters): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(LETTERS_MAX)).unzip();
        (Connections { boxes: boxes.into() }, letters)
    }

    async fn send(&self, id: &str, errand: Errand) -> Result<ConnectionView, Unreached> {
        let of = worker_of(id).and_then(|worker| self.boxes.get(worker)).ok_or(Unreached::Gone)?;
        let (answer, answered) = oneshot::channel();
        // A worker that has ended has no connections.
        of.send(Letter { id: id.into(), errand, answer }).await.map_err(|_| Unreached::Gone)?;
        answered.await.map_err(|_| Unreached::Gone)?
    }
}

impl Clients for Connections {
    fn post<'a>(&'a self, id: &'a str, message: Vec<u8>) -> Reaching<'a, ()> {
        Box::pin(async move {
            if message.len() > MESSAGE_BYTES_MAX {
                return Err(Unreached::TooLarge);
            }
            self.send(id, Errand::Say(message)).await.map(drop)
        })
    }

    fn get<'a>(&'a self, id: &'a str) -> Reaching<'a, ConnectionView> {
        Box::pin(self.send(id, Errand::Look))
    }

    /// With 1000.
    fn delete<'a>(&'a self, id: &'a str) -> Reaching<'a, ()> {
        Box::pin(async move { self.send(id, Errand::Dismiss).await.map(drop) })
    }
}

/// Whose connection it is.
fn worker_of(id: &str) -> Option<usize> {
    if id.len() != ID_BYTES / 3 * 4 {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    };
    let text: Vec<u8> = id.bytes().map(digit).collect();
    let bytes = base64::decode(&text)?;
    let [high, low, ..] = *bytes.first_chunk::<ID_BYTES>()?;
    Some(usize::from(u16::from_be_bytes([high, low])))
}

/// One connection, as its worker lists it.
pub(super) struct Listed {
    pub connection: Rc<Connection>,
    pub connected_at: Duration,
    pub source_ip: Box<str>,
    pub user_agent: Option<Box<str>>,
}

/// A worker's own connections, and the functions that are in force there.
pub struct Desk {
    worker: Rc<Worker>,
    open: RefCell<HashMap<Box<str>, Listed>>,
    reach: RefCell<Weak<Reach>>,
    /// Of those who are in, and of those who wait at the door: they cost as much.
    sessions: Cell<usize>,
}

/// One connection's place at a worker, from before it is let in until its end has been told.
pub(super) struct Seat(Rc<Desk>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sessions.update(|sessions| sessions - 1);
    }
}

impl Desk {
    pub fn new(worker: &Rc<Worker>) -> Rc<Desk> {
        Rc::new(Desk { worker: worker.clone(), open: RefCell::default(), reach: RefCell::default(), sessions: Cell::new(0) })
    }

    /// From now on connections reach what this one does, however long they are open.
    pub fn renew(&self, reach: &Rc<Reach>) {
        *self.reach.borrow_mut() = Rc::downgrade(reach);
    }

    /// What is in force; `None` where the worker ends.
    pub(super) fn reach(&self) -> Option<Rc<Reach>> {
        self.reach.borrow().upgrade()
    }

    /// `None`: there are as many as may be.
    pub(super) fn seat(self: &Rc<Self>) -> Option<Seat> {
        let has_room = self.sessions.get() < CONNECTIONS_MAX;
        has_room.then(|| {
            self.sessions.update(|sessions| sessions + 1);
            Seat(self.clone())
        })
    }

    /// An id that nobody has. Not secret: who may write to connections is another's business.
    pub(super) fn new_id(&self) -> Box<str> {
        let mut bytes = [0; ID_BYTES];
        bytes[..2].copy_from_slice(&(self.worker.index as u16).to_be_bytes());
        bytes[2..10].copy_from_slice(&self.worker.chance.next().to_be_bytes());
        bytes[10..].copy_from_slice(&(self.worker.chance.next() as u16).to_be_bytes());
        let mut text = Vec::new();
        base64::encode(&bytes, &mut text);
        // So that it stands in an address as it is.
        let plain = |digit: u8| match digit {
            b'+' => '-',
            b'/' => '_',
            digit => char::from(digit),
        };
        text.into_iter().map(plain).collect::<String>().into()
    }

    pub(super) fn list(&self, listed: Listed) {
        self.open.borrow_mut().insert(listed.connection.id.clone(), listed);
    }

    pub(super) fn forget(&self, id: &str) {
        self.open.borrow_mut().remove(id);
    }

    /// Runs for the life of the worker.
    pub async fn read(self: Rc<Self>, mut letters: Letters) {
        while let Some(Letter { id, errand, answer }) = letters.recv().await {
            // Whoever asked may have gone.
            let _ = answer.send(self.run(&id, errand));
        }
    }

    fn run(&self, id: &str, errand: Errand) -> Result<ConnectionView, Unreached> {
        let open = self.open.borrow();
        let listed = open.get(id).filter(|listed| listed.connection.is_open()).ok_or(Unreached::Gone)?;
        match errand {
            Errand::Say(message) => listed.connection.say(&Said::of(message)).map_err(|unsaid| match unsaid {
                Unsaid::Gone => Unreached::Gone,
                Unsaid::Full => Unreached::Full,
                Unsaid::NoRoom => {
                    self.worker.shard().fault(Kind::BufferFull);
                    Unreached::NoRoom
                }
            })?,
            Errand::Look => {}
            Errand::Dismiss => listed.connection.dismiss(),
        }
        Ok(ConnectionView {
            connected_at: listed.connected_at,
            last_active_at: self.worker.unix_time(listed.connection.active()),
            source_ip: listed.source_ip.to_string(),
            user_agent: listed.user_agent.as_deref().map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::Stay;
    use super::*;
    use maitred_core::metrics::Metrics;
    use maitred_core::{Clock, Room};
    use std::sync::Arc;

    #[test]
    fn an_id_names_its_worker_and_nothing_else_is_one() {
        let metrics = Arc::new(Metrics::new(300));
        for index in [0, 1, 255, 256, 299] {
            let desk = Desk::new(&Worker::new(index, Clock::default(), metrics.clone()));
            for _ in 0..100 {
                let id = desk.new_id();
                assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{id}");
                assert_eq!(worker_of(&id), Some(index), "{id}");
            }
            assert_ne!(desk.new_id(), desk.new_id());
        }
        for id in
            ["", "a", "L0SM9cOFvHcCIhw=", "AAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAA\u{e9}", "AAAA AAAA AAAA A"]
        {
            assert_eq!(worker_of(id), None, "{id}");
        }
    }

    #[test]
    fn who_waits_at_the_door_takes_a_seat() {
        let desk = Desk::new(&Worker::new(0, Clock::default(), Arc::new(Metrics::new(1))));
        let mut seats: Vec<Seat> = (0..CONNECTIONS_MAX).map_while(|_| desk.seat()).collect();
        assert!(seats.len() == CONNECTIONS_MAX && desk.seat().is_none());
        seats.pop();
        assert!(desk.seat().is_some(), "one has gone");
        drop(seats);
        assert_eq!(desk.sessions.get(), 0);
    }

    #[test]
    fn letters_reach_their_connection_while_it_is_open() {
        let worker = Worker::new(0, Clock::default(), Arc::new(Metrics::new(1)));
        let desk = Desk::new(&worker);
        let stay = Stay { idle: Duration::from_secs(600), lifetime: Duration::from_secs(7200) };
        let connection = Connection::new(desk.new_id(), &worker, &stay, false, &Room::default().with(2 << 20));
        let id = connection.id.clone();
        assert_eq!(desk.run(&id, Errand::Look), Err(Unreached::Gone), "it is not in yet");
        desk.list(Listed { connection, connected_at: Duration::from_secs(7), source_ip: "::1".into(), user_agent: None });
        let view = desk.run(&id, Errand::Say(b"hello".to_vec())).expect("it is open");
        assert_eq!((view.connected_at, view.source_ip.as_str(), view.user_agent), (Duration::from_secs(7), "::1", None));
        let message = vec![b'x'; MESSAGE_BYTES_MAX];
        while desk.run(&id, Errand::Say(message.clone())).is_ok() {}
        assert_eq!(desk.run(&id, Errand::Say(message)), Err(Unreached::Full));
        assert!(desk.run(&id, Errand::Dismiss).is_ok());
        for errand in [Errand::Look, Errand::Say(Vec::new()), Errand::Dismiss] {
            assert_eq!(desk.run(&id, errand), Err(Unreached::Gone));
        }
    }
}
