//! The connections of a process, and the way to each of them: what AWS calls `@connections`. A connection belongs to one worker, which its id
//! names; whoever has something for it writes to that worker's box. So no worker waits for another, and nothing is locked.

use super::answer::Said;
use super::connection::{Connection, MESSAGE_BYTES_MAX, Unsaid};
use crate::Reach;
use maitred_transport::Worker;
use maitred_wire::base64;
use std::cell::RefCell;
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

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionView {
    /// Since 1970.
    pub connected_at: Duration,
    /// Since 1970: when anything was said last, by either end.
    pub last_active_at: Duration,
    pub source_ip: String,
    pub user_agent: Option<String>,
}

/// Why nothing reached a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreached {
    /// There is none of that id: `GoneException`, 410.
    Gone,
    /// The message has more than 128 KiB: `PayloadTooLargeException`, 413.
    TooLarge,
    /// Its client reads too slowly, and as much waits for it as may: `LimitExceededException`, 429.
    Full,
}

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

    /// Sends a message to a client: text where it is UTF-8, bytes else. That it is read is not known.
    pub async fn post(&self, id: &str, message: Vec<u8>) -> Result<(), Unreached> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Unreached::TooLarge);
        }
        self.send(id, Errand::Say(message)).await.map(drop)
    }

    pub async fn get(&self, id: &str) -> Result<ConnectionView, Unreached> {
        self.send(id, Errand::Look).await
    }

    /// Ends a connection, with 1000.
    pub async fn delete(&self, id: &str) -> Result<(), Unreached> {
        self.send(id, Errand::Dismiss).await.map(drop)
    }

    async fn send(&self, id: &str, errand: Errand) -> Result<ConnectionView, Unreached> {
        let of = worker_of(id).and_then(|worker| self.boxes.get(worker)).ok_or(Unreached::Gone)?;
        let (answer, answered) = oneshot::channel();
        // A worker that has ended has no connections.
        of.send(Letter { id: id.into(), errand, answer }).await.map_err(|_| Unreached::Gone)?;
        answered.await.map_err(|_| Unreached::Gone)?
    }
}

/// Whose connection it is.
fn worker_of(id: &str) -> Option<usize> {
    if id.len() != ID_BYTES / 3 * 4 {
        return None;
    }
    let text: Vec<u8> = id.bytes().map(|byte| if byte == b'-' { b'+' } else if byte == b'_' { b'/' } else { byte }).collect();
    let bytes = base64::decode(&text)?;
    let number = bytes.first_chunk::<2>()?;
    Some(usize::from(u16::from_be_bytes(*number)))
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
}

impl Desk {
    pub fn new(worker: &Rc<Worker>) -> Rc<Desk> {
        Rc::new(Desk { worker: worker.clone(), open: RefCell::default(), reach: RefCell::default() })
    }

    /// From now on connections reach what this one does, however long they are open.
    pub fn renew(&self, reach: &Rc<Reach>) {
        *self.reach.borrow_mut() = Rc::downgrade(reach);
    }

    /// What is in force; `None` where the worker ends.
    pub(super) fn reach(&self) -> Option<Rc<Reach>> {
        self.reach.borrow().upgrade()
    }

    pub(super) fn has_room(&self) -> bool {
        self.open.borrow().len() < CONNECTIONS_MAX
    }

    /// An id that nobody has. Not secret: who may write to connections is another's business.
    pub(super) fn new_id(&self) -> Box<str> {
        let mut bytes = [0; ID_BYTES];
        bytes[..2].copy_from_slice(&(self.worker.index as u16).to_be_bytes());
        bytes[2..10].copy_from_slice(&self.worker.chance.next().to_be_bytes());
        bytes[10..].copy_from_slice(&(self.worker.chance.next() as u16).to_be_bytes());
        let mut text = Vec::new();
        base64::encode(&bytes, &mut text);
        text.into_iter().map(|byte| char::from(byte)).map(|digit| if digit == '+' { '-' } else if digit == '/' { '_' } else { digit }).collect::<String>().into()
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
