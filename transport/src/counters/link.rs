//! One connection to one server, made anew when it breaks: what is asked goes out together, replies come in order. While there is none, nobody
//! is kept waiting. Knows no slots.

use super::CountersSpec;
use super::batch::{Batch, undone};
use super::command::Command;
use super::fleet::Fleet;
use super::talk::{self, Place};
use crate::socket::Socket;
use crate::worker::Worker;
use maitred_wire::{Reply, resp_command};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Asked and not answered yet. Beyond it a server is too slow to be asked more.
const PENDING_MAX: usize = 16 * 1024;
/// So many in a row that are late, and nobody asks any more until a new connection has proved itself.
const LATE_MAX: u32 = 5;
/// For names, TLS, sentinels, and the first answer.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// Between a connection that failed and the next try: doubled each time, and each worker takes a random part of it, so that they do not come
/// all at once.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// What served so long was good: the next pause is a short one.
const STEADY: Duration = Duration::from_secs(2);
/// From server to server, or once more with the whole script.
const HOPS_MAX: u8 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not tried yet: the first requests of a gateway wait, within their time.
    First,
    Up,
    Down,
}

pub(super) struct Link {
    pub place: Place,
    spec: Arc<CountersSpec>,
    worker: Rc<Worker>,
    fleet: Weak<Fleet>,
    state: Cell<State>,
    /// Told so in the log.
    is_lost: Cell<bool>,
    /// No slot leads here any more.
    is_retired: Cell<bool>,
    output: RefCell<Vec<u8>>,
    pending: RefCell<VecDeque<Pending>>,
    late: Cell<u32>,
    /// Asked whether it is there still.
    is_beating: Cell<bool>,
    /// What a server said that was no answer.
    complaint: RefCell<Option<String>>,
    driver: RefCell<Option<Waker>>,
}

/// What is said to a server.
enum Word {
    Command(Command),
    /// Before a command for what the server has for a moment only.
    Asking,
    /// That the connection is there still.
    Ping,
}

/// One thing asked.
pub(super) struct Pending {
    word: Word,
    /// Who waits, and for which of its answers.
    whom: Option<(Rc<Batch>, usize)>,
    /// With the script's text.
    whole: bool,
    hops: u8,
}

impl Pending {
    pub fn new(command: Command, whom: Option<(Rc<Batch>, usize)>) -> Pending {
        Pending { word: Word::Command(command), whom, whole: false, hops: 0 }
    }

    fn of(word: Word) -> Pending {
        Pending { word, whom: None, whole: false, hops: 0 }
    }

    pub fn command(&self) -> Option<&Command> {
        match &self.word {
            Word::Command(command) => Some(command),
            Word::Asking | Word::Ping => None,
        }
    }

    pub fn whom(&self) -> Option<Rc<Batch>> {
        self.whom.as_ref().map(|(batch, _)| batch.clone())
    }

    pub fn fail(&self) {
        if let Some((batch, _)) = &self.whom {
            batch.fail();
        }
    }

    fn is_wanted(&self) -> bool {
        self.whom.as_ref().is_none_or(|(batch, _)| batch.is_open())
    }

    fn again(self, whole: bool) -> Option<Pending> {
        if self.hops >= HOPS_MAX || !self.is_wanted() {
            self.fail();
            return None;
        }
        Some(Pending { whole: self.whole || whole, hops: self.hops + 1, ..self })
    }
}

/// What is read and written at the moment.
struct Traffic {
    input: Vec<u8>,
    filled: usize,
    writing: Vec<u8>,
    written: usize,
}

impl Link {
    pub fn new(place: Place, spec: &Arc<CountersSpec>, worker: &Rc<Worker>, fleet: Weak<Fleet>) -> Rc<Link> {
        Rc::new(Link {
            place,
            spec: spec.clone(),
            worker: worker.clone(),
            fleet,
            state: Cell::new(State::First),
            is_lost: Cell::new(false),
            is_retired: Cell::new(false),
            output: RefCell::default(),
            pending: RefCell::default(),
            late: Cell::new(0),
            is_beating: Cell::new(false),
            complaint: RefCell::default(),
            driver: RefCell::default(),
        })
    }

    pub fn is_up(&self) -> bool {
        self.state.get() == State::Up
    }

    pub fn is_lost(&self) -> bool {
        self.is_lost.get()
    }

    /// False: it cannot be asked now.
    pub fn send(self: &Rc<Self>, pending: Pending) -> bool {
        if self.state.get() == State::Down || self.pending.borrow().len() >= PENDING_MAX {
            return false;
        }
        if let Some((batch, index)) = &pending.whom {
            batch.sent(*index, self);
        }
        if self.state.get() == State::Up {
            self.write(&pending);
        }
        self.pending.borrow_mut().push_back(pending);
        self.wake();
        true
    }

    /// To a server that has the key for a moment only.
    pub fn send_asking(self: &Rc<Self>, pending: Pending) -> bool {
        self.send(Pending::of(Word::Asking)) && self.send(pending)
    }

    /// Keeps the connection from being forgotten by whoever is between, and finds out if it was. Called now and then.
    pub fn beat(self: &Rc<Self>) {
        if !self.is_up() {
            return;
        }
        if self.is_beating.replace(true) {
            *self.complaint.borrow_mut() = Some("the server has said nothing for a while".to_owned());
            self.state.set(State::Down);
            self.wake();
        } else {
            self.send(Pending::of(Word::Ping));
        }
    }

    fn write(&self, pending: &Pending) {
        let output = &mut *self.output.borrow_mut();
        match &pending.word {
            Word::Command(command) => command.write(output, &command.key(&self.spec.prefix), pending.whole),
            Word::Asking => resp_command(output, &[b"ASKING"]),
            Word::Ping => resp_command(output, &[b"PING"]),
        }
    }

    fn wake(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    /// A request got no answer in time.
    pub fn late(&self) {
        self.late.set(self.late.get() + 1);
        if self.late.get() >= LATE_MAX && self.is_up() {
            // At once: whoever comes before the driver's turn shall not wait in vain.
            self.state.set(State::Down);
            self.wake();
        }
    }

    /// It ends when it is its turn.
    pub fn retire(&self) {
        self.is_retired.set(true);
        self.state.set(State::Down);
        self.wake();
    }

    /// For the life of the worker, or until it is retired.
    pub async fn drive(self: Rc<Self>) {
        let mut failures = 0;
        while !self.is_retired.get() {
            let tried = timeout(CONNECT_TIME_MAX, talk::connect(&self.place, &self.spec, &self.worker)).await;
            let why = match tried {
                // Whoever is retired meanwhile is nobody's, and stays down.
                Ok(Ok(_)) if self.is_retired.get() => break,
                Ok(Ok(socket)) => {
                    let since = tokio::time::Instant::now();
                    self.up();
                    let why = self.serve(&socket).await;
                    self.worker.shard().counters_connections.sub(1);
                    if since.elapsed() >= STEADY {
                        failures = 0;
                    }
                    why
                }
                Ok(Err(why)) => why,
                Err(_) => format!("no connection within {CONNECT_TIME_MAX:?}"),
            };
            self.down(&why);
            if self.is_retired.get() {
                break;
            }
            let pause = (PAUSE_MIN * (1 << failures)).min(PAUSE_MAX);
            failures = (failures + 1).min(8);
            let part = 512 + self.worker.chance.below(512) as u32;
            sleep(pause * part / 1024).await;
        }
        self.pending.take().iter().for_each(Pending::fail);
        if self.is_lost.replace(false) {
            self.worker.shard().counters_lost.sub(1);
            self.spec.tell_found(&self.place);
        }
    }

    fn up(&self) {
        self.late.set(0);
        self.is_beating.set(false);
        self.complaint.borrow_mut().take();
        self.state.set(State::Up);
        self.worker.shard().counters_connections.add(1);
        if self.is_lost.replace(false) {
            self.worker.shard().counters_lost.sub(1);
            self.spec.tell_found(&self.place);
        }
        // What waited since the beginning, if somebody still does.
        self.output.borrow_mut().clear();
        self.pending.borrow_mut().retain(Pending::is_wanted);
        self.pending.borrow().iter().for_each(|pending| self.write(pending));
    }

    fn down(&self, why: &str) {
        self.state.set(State::Down);
        self.output.borrow_mut().clear();
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        pending.iter().for_each(Pending::fail);
        if self.is_retired.get() {
            return;
        }
        if !self.is_lost.replace(true) {
            self.worker.shard().counters_lost.add(1);
            self.worker.shard().counters_losses.add(1);
            self.spec.tell_lost(&self.place, why);
        }
        if let Some(fleet) = self.fleet.upgrade() {
            fleet.look_again();
        }
    }

    /// Until the connection is of no use; says why.
    async fn serve(self: &Rc<Self>, socket: &Socket) -> String {
        let mut traffic = Traffic { input: self.worker.take_buffer(), filled: 0, writing: Vec::new(), written: 0 };
        let why = poll_fn(|cx| self.turn(socket, &mut traffic, cx)).await;
        self.driver.borrow_mut().take();
        self.worker.give_buffer(traffic.input);
        why
    }

    fn turn(self: &Rc<Self>, socket: &Socket, traffic: &mut Traffic, cx: &mut Context<'_>) -> Poll<String> {
        if self.driver.borrow().as_ref().is_none_or(|driver| !driver.will_wake(cx.waker())) {
            *self.driver.borrow_mut() = Some(cx.waker().clone());
        }
        loop {
            if self.state.get() == State::Down {
                let complaint = self.complaint.borrow_mut().take();
                let late = || format!("{LATE_MAX} requests in a row got no answer within {:?}", self.spec.timeout);
                return Poll::Ready(complaint.unwrap_or_else(late));
            }
            if let Err(why) = self.flush(socket, traffic, cx) {
                return Poll::Ready(why);
            }
            if let Err(why) = ready!(self.read(socket, traffic, cx)) {
                return Poll::Ready(why);
            }
        }
    }

    fn flush(&self, socket: &Socket, traffic: &mut Traffic, cx: &mut Context<'_>) -> Result<(), String> {
        loop {
            if traffic.written == traffic.writing.len() {
                traffic.writing.clear();
                traffic.written = 0;
                std::mem::swap(&mut traffic.writing, &mut *self.output.borrow_mut());
                if traffic.writing.is_empty() {
                    return Ok(());
                }
            }
            match socket.poll_write(cx, &traffic.writing[traffic.written..]) {
                Poll::Ready(Ok(count)) => traffic.written += count,
                Poll::Ready(Err(error)) => return Err(error.to_string()),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn read(self: &Rc<Self>, socket: &Socket, traffic: &mut Traffic, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        let Traffic { input, filled, .. } = traffic;
        if *filled == input.len() {
            return Poll::Ready(Err("a reply longer than any that was asked for".to_owned()));
        }
        match ready!(socket.poll_read(cx, &mut input[*filled..])) {
            Ok(0) => return Poll::Ready(Err("the server closed the connection".to_owned())),
            Ok(count) => *filled += count,
            Err(error) => return Poll::Ready(Err(error.to_string())),
        }
        let mut start = 0;
        loop {
            match Reply::read(&input[start..*filled]) {
                Ok(Some((reply, count))) => {
                    start += count;
                    if let Err(why) = self.replied(reply) {
                        return Poll::Ready(Err(why));
                    }
                }
                Ok(None) => break,
                Err(_) => return Poll::Ready(Err("what it says is not Redis' protocol".to_owned())),
            }
        }
        input.copy_within(start..*filled, 0);
        *filled -= start;
        Poll::Ready(Ok(()))
    }

    /// `Err`: the server is not the one to ask.
    fn replied(self: &Rc<Self>, reply: Reply) -> Result<(), String> {
        let Some(pending) = self.pending.borrow_mut().pop_front() else {
            return Err("a reply that nobody asked for".to_owned());
        };
        let command = match pending.word {
            Word::Command(command) => command,
            Word::Asking => return Ok(()),
            Word::Ping => {
                self.is_beating.set(false);
                return Ok(());
            }
        };
        if let Reply::Error(words) = reply {
            return self.refused(pending, words);
        }
        let Some(answer) = command.answer(&reply) else {
            pending.fail();
            return Err("a reply to something else".to_owned());
        };
        if let Some((batch, index)) = &pending.whom {
            if batch.answered(*index, answer) {
                self.late.set(0);
                self.complaint.borrow_mut().take();
            } else if let (Some(undone), Some(fleet)) = (undone(&command, answer), self.fleet.upgrade()) {
                fleet.tell(undone);
            }
        }
        Ok(())
    }

    fn refused(self: &Rc<Self>, pending: Pending, words: String) -> Result<(), String> {
        let fleet = self.fleet.upgrade();
        let mut parts = words.split(' ');
        match parts.next().unwrap_or_default() {
            // Its scripts were flushed, or it is another server than before.
            "NOSCRIPT" if !pending.whole => {
                if let Some(pending) = pending.again(true)
                    && !self.send_or_fail(pending)
                {
                    return Err(words);
                }
                Ok(())
            }
            kind @ ("MOVED" | "ASK") => {
                let slot = parts.next().and_then(|slot| slot.parse().ok());
                let place = parts.next().and_then(|place| self.place.beside(place));
                match (fleet, slot, place, pending.again(false)) {
                    (Some(fleet), Some(slot), Some(place), Some(pending)) if fleet.is_cluster() => {
                        fleet.sent_on(pending, slot, place, kind == "ASK");
                        Ok(())
                    }
                    (_, _, _, None) => Ok(()),
                    (_, _, _, Some(pending)) => {
                        pending.fail();
                        Err(format!("it is one of a cluster, which is written `redis-cluster://`: {words}"))
                    }
                }
            }
            "CLUSTERDOWN" | "TRYAGAIN" => {
                pending.fail();
                if let Some(fleet) = fleet {
                    fleet.look_again();
                }
                Ok(())
            }
            // A replica, or one that starts, or does not know us: there may be another by now.
            "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "NOPERM" | "WRONGPASS" | "NOREPLICAS" => {
                pending.fail();
                Err(words)
            }
            _ => {
                pending.fail();
                *self.complaint.borrow_mut() = Some(words);
                self.late();
                Ok(())
            }
        }
    }

    fn send_or_fail(self: &Rc<Self>, pending: Pending) -> bool {
        let batch = pending.whom();
        let sent = self.send(pending);
        if let (false, Some(batch)) = (sent, batch) {
            batch.fail();
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_core::Clock;
    use maitred_core::metrics::Metrics;
    use maitred_model::{CountersFailure, CountingMode, RedisKind, RedisServers};
    use std::io::{Read, Write};
    use std::sync::atomic::AtomicU32;
    use tokio::net::TcpListener;
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::sync::Semaphore;
    use tokio::task::spawn_local;

    fn spec() -> Arc<CountersSpec> {
        let servers = RedisServers {
            kind: RedisKind::Single,
            is_encrypted: false,
            hosts: Vec::new(),
            user: None,
            password: None,
            database: 0,
        };
        Arc::new(CountersSpec {
            servers,
            mode: CountingMode::Exact,
            timeout: Duration::from_secs(1),
            on_failure: CountersFailure::Local,
            prefix: "m".to_owned(),
            dial: Default::default(),
            lost: AtomicU32::new(0),
            lookups: Arc::new(Semaphore::new(1)),
        })
    }

    #[test]
    fn a_link_that_is_retired_while_it_connects_ends() {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let worker = Worker::new(0, Clock::default(), Arc::new(Metrics::new(1)));
            let link = Link::new(Place::Host("127.0.0.1".to_owned(), port), &spec(), &worker, Weak::new());
            let driving = spawn_local(link.clone().drive());
            let (socket, _) = listener.accept().await.expect("it connects");
            link.retire();
            let mut socket = socket.into_std().expect("a socket");
            socket.set_nonblocking(false).expect("it waits");
            std::thread::spawn(move || {
                let mut bytes = vec![0; 64 * 1024];
                // The next word comes when the answer to the last has been read.
                while socket.read(&mut bytes).is_ok_and(|count| count > 0) && socket.write_all(b"+OK\r\n").is_ok() {}
            });
            assert!(timeout(Duration::from_secs(10), driving).await.is_ok(), "nobody asks it any more, and it lives on");
            assert!(!link.is_up());
        });
    }
}
