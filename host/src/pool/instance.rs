//! One process of a function, from its start to its end: where it stands in the protocol, what it runs, and how long it may. Knows no
//! HTTP (`api/` does) and does not choose what it runs (`desk.rs` does).

mod extended;

use super::desk::{Desk, StartFailure};
use super::errors;
use super::extensions::Extensions;
use super::job::{Job, Reply, Run};
use super::output::{Output, Upto};
use crate::answer::Piece;
use crate::api::connection::serve;
use crate::api::{EventHead, Refused};
use crate::log::since_1970;
use crate::process::{Exit, Process};
use maitred_core::function::{Failure, Finished};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// From SIGTERM to SIGKILL: as AWS gives its runtimes.
const GRACE: Duration = Duration::from_secs(2);
/// Connections of one process at once: runtimes have two, and tracing libraries theirs.
const CONNECTIONS_MAX: usize = 64;
/// After a connection that could not be taken; the process's end and deadline wait no longer than that.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);
/// Of refused connections one is told so often: the last thousand lines are the function's own.
const REFUSED_EVERY: Duration = Duration::from_secs(1);
/// For what a process wrote before it ended: it is here already, and read within milliseconds.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// An event whose connection ended under it is given to another process so often.
const GIVEN_MAX: u8 = 3;
/// What runs is always this.
pub(crate) const VERSION: &str = "$LATEST";

#[derive(Debug)]
pub(crate) struct Instance {
    pub number: u32,
    /// Of the pool when it was started: an older one is on its way out.
    pub generation: u32,
    desk: Rc<Desk>,
    pid: Cell<u32>,
    state: RefCell<State>,
    run: RefCell<Option<Run>>,
    invocations: Cell<u64>,
    born: Instant,
    /// How long it took to ask for work first, until that is told.
    init: Cell<Option<Duration>>,
    start: Start,
    /// Why it cannot start is being read.
    is_telling: Cell<bool>,
    /// When it was last said that somebody else's connection was.
    refused: Cell<Option<Instant>>,
    /// By when something must have happened.
    due: Cell<Option<Instant>>,
    /// When the timer fires, which may be before.
    armed: Cell<Option<Instant>>,
    wake: Notify,
    /// A run is over.
    concluded: Notify,
    wanted: Cell<Option<End>>,
    pub extensions: Extensions,
    output: Output,
}

/// How long it may take to ask for work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub limit: Duration,
    /// The one before failed: this one's start is part of the invocation.
    pub is_again: bool,
    /// Nobody waits for it.
    pub is_ahead: bool,
}

#[derive(Debug)]
enum State {
    /// Has not asked for work yet.
    Starting,
    /// Waits for an event.
    Idle(oneshot::Sender<Given>),
    Busy,
    /// Has answered, or lost its connection, and not asked for more; since then.
    Between(Instant),
    Ending,
}

/// An event on its way to a connection.
#[derive(Debug)]
pub(crate) struct Given {
    pub event: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// SIGTERM, then SIGKILL.
    Gently,
    Now,
}

impl Instance {
    pub fn new(desk: &Rc<Desk>, number: u32, generation: u32, start: Start) -> Rc<Instance> {
        let now = Instant::now();
        desk.shared.figures.starting.fetch_add(1, Ordering::Relaxed);
        Rc::new(Instance {
            number,
            generation,
            pid: Cell::new(0),
            state: RefCell::new(State::Starting),
            run: RefCell::default(),
            invocations: Cell::new(0),
            born: now,
            init: Cell::default(),
            start,
            is_telling: Cell::default(),
            refused: Cell::default(),
            due: Cell::new(Some(now + start.limit)),
            armed: Cell::default(),
            wake: Notify::new(),
            concluded: Notify::new(),
            wanted: Cell::default(),
            extensions: Extensions::new(&desk.settings.extensions),
            output: Output::new(desk.shared.log.clone(), desk.settings.places.clone(), number),
            desk: desk.clone(),
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid.get()
    }

    pub fn invocations(&self) -> u64 {
        self.invocations.get()
    }

    pub fn state(&self) -> &'static str {
        match *self.state.borrow() {
            State::Starting => "starting",
            State::Idle(_) => "idle",
            State::Busy | State::Between(_) => "busy",
            State::Ending => "ending",
        }
    }

    pub fn is_starting(&self) -> bool {
        matches!(*self.state.borrow(), State::Starting)
    }

    pub fn is_idle(&self) -> bool {
        matches!(*self.state.borrow(), State::Idle(_))
    }

    pub fn between_since(&self) -> Option<Instant> {
        match *self.state.borrow() {
            State::Between(since) => Some(since),
            State::Starting | State::Idle(_) | State::Busy | State::Ending => None,
        }
    }

    pub fn is_ending(&self) -> bool {
        matches!(*self.state.borrow(), State::Ending)
    }

    fn set(&self, state: State) -> State {
        let figures = &self.desk.shared.figures;
        let gauge = |state: &State| -> Option<&AtomicU64> {
            match state {
                State::Starting => Some(&figures.starting),
                State::Idle(_) => Some(&figures.idle),
                State::Busy | State::Between(_) => Some(&figures.busy),
                State::Ending => None,
            }
        };
        if let Some(gauge) = gauge(&state) {
            gauge.fetch_add(1, Ordering::Relaxed);
        }
        let old = self.state.replace(state);
        if let Some(gauge) = gauge(&old) {
            gauge.fetch_sub(1, Ordering::Relaxed);
        }
        old
    }

    /// The timer is only touched where it would come too late: while work goes on, each deadline is behind the last.
    fn due_at(&self, due: Instant) {
        self.due.set(Some(due));
        if self.armed.get().is_none_or(|armed| due < armed) {
            self.wake.notify_one();
        }
    }

    pub fn end(&self, how: End) {
        self.set(State::Ending);
        self.wanted.set(Some(how));
        self.wake.notify_one();
    }

    /// The process asks for work. What is returned gets an event when there is one.
    pub fn park(self: &Rc<Self>) -> Result<oneshot::Receiver<Given>, Refused> {
        let (give, given) = oneshot::channel();
        if self.is_ending() {
            return Ok(given);
        }
        if self.run.borrow().is_some() {
            return Err(Refused::State);
        }
        self.output.rest();
        match self.set(State::Idle(give)) {
            State::Starting => {
                let took = self.born.elapsed();
                self.init.set(Some(took));
                self.desk.shared.figures.init.fetch_add(micros(took), Ordering::Relaxed);
                self.desk.started();
                self.desk.parked(self);
            }
            State::Busy | State::Between(_) => self.desk.parked(self),
            // It asks on another connection: the first is told that it asks no more.
            State::Idle(_) | State::Ending => {}
        }
        Ok(given)
    }

    /// Whoever asked has gone.
    pub fn unpark(&self, mut given: oneshot::Receiver<Given>) {
        given.close();
        if let Ok(given) = given.try_recv() {
            return self.give_back(given);
        }
        let is_mine = matches!(&*self.state.borrow(), State::Idle(give) if give.is_closed());
        if is_mine {
            self.lost();
        }
    }

    /// It has some time to come again.
    fn lost(&self) {
        let now = Instant::now();
        self.set(State::Between(now));
        self.desk.not_idle(self);
        self.due_at(now + self.desk.settings.timeout);
    }

    /// From here the job's time runs. One that it cannot take comes back.
    pub fn give(&self, job: Job) -> Option<Job> {
        if !self.is_idle() {
            return Some(job);
        }
        let State::Idle(give) = self.set(State::Busy) else { return Some(job) };
        let (now, timeout) = (Instant::now(), self.desk.settings.timeout);
        let (run, event) = job.begin(now, since_1970() + timeout);
        let is_there = give.send(Given { event });
        if let Err(Given { event }) = is_there {
            self.set(State::Between(now));
            self.due_at(now + timeout);
            return run.back(event);
        }
        self.output.begin(&run.invocation.id, run.invocation.log_tail);
        if self.desk.settings.reports {
            self.output.say(&format!("START RequestId: {} Version: {VERSION}", run.invocation.id));
        }
        self.extensions.invoke(|| self.invoked(&run));
        *self.run.borrow_mut() = Some(run);
        self.invocations.set(self.invocations.get() + 1);
        self.due_at(now + timeout);
        None
    }

    /// Nothing to do: it may go after a while.
    pub fn rests(&self, idle: Duration) {
        self.due_at(Instant::now() + idle);
    }

    /// The event was not taken.
    pub fn give_back(&self, given: Given) {
        let Some(run) = self.run.take() else { return };
        if !self.is_ending() {
            self.lost();
        }
        let Some(job) = run.back(given.event) else { return };
        if job.given < GIVEN_MAX {
            return self.desk.take_back(job);
        }
        let payload = errors::exited(&job.invocation.id, Exit::Code(0));
        self.desk.fail(job, payload, Failure::Exited);
    }

    pub fn write_head(&self, length: usize, out: &mut Vec<u8>) {
        let run = self.run.borrow();
        let Some(Run { invocation, deadline_wall, .. }) = &*run else { return };
        let head = EventHead {
            id: &invocation.id,
            deadline_ms: deadline_wall.as_millis() as u64,
            arn: invocation.arn.as_deref().unwrap_or(&self.desk.settings.arn),
            trace: &invocation.trace,
            client_context: invocation.client_context.as_deref(),
            length,
        };
        head.write(out);
    }

    /// Until no answer is being read. The deadline of what is under way is this one's too.
    pub async fn settled(&self) {
        while self.run.borrow().as_ref().is_some_and(|run| run.answering.is_some()) {
            self.concluded.notified().await;
        }
    }

    /// Whether what is under way has this id and no answer yet; from here on it has one.
    pub fn begins_answer(&self, id: &[u8], upto: Upto) -> Result<(), Refused> {
        if self.is_starting() {
            return Err(Refused::State);
        }
        match &mut *self.run.borrow_mut() {
            Some(run) if run.invocation.id.as_bytes() == id && run.answering.is_none() => {
                run.answering = Some(upto);
                Ok(())
            }
            Some(_) | None => Err(Refused::RequestId),
        }
    }

    /// Whether its caller takes the result as it is written.
    pub fn is_streamed(&self) -> bool {
        self.run.borrow().as_ref().is_some_and(|run| run.invocation.streamed)
    }

    /// To whom the result goes as it is written; `None`: it is wanted whole.
    pub fn streams_to(&self) -> Option<Reply> {
        let mut run = self.run.borrow_mut();
        run.as_mut().filter(|run| run.invocation.streamed)?.reply.take()
    }

    pub fn streams_by(&self, pieces: mpsc::Sender<Piece>) {
        if let Some(run) = &mut *self.run.borrow_mut() {
            run.stream = Some(pieces);
        }
    }

    /// The run is over: its caller is told, but whoever hears a stream, which may take its time.
    pub fn conclude(&self, finished: Finished) -> Option<(mpsc::Sender<Piece>, Finished)> {
        let run = self.run.take()?;
        self.concluded.notify_waiters();
        if matches!(*self.state.borrow(), State::Busy) {
            self.set(State::Between(Instant::now()));
        }
        let duration = run.started.elapsed();
        self.output.catch_up(run.answering.unwrap_or(Upto::Now));
        match finished.failure {
            Some(Failure::Raised) => self.output.warn(&format!("The invocation failed: {}", errors::told(&finished.payload))),
            Some(Failure::TooLarge) => self.output.complain("The result has more bytes than the 6 MB that one may have"),
            // Those are told where they happen.
            Some(Failure::TimedOut | Failure::Exited | Failure::NotStarted) | None => {}
        }
        if self.desk.settings.reports {
            self.report(&run.invocation.id, duration);
        }
        self.desk.count(duration, finished.failure);
        let finished = Finished { log_tail: self.output.take_tail(), version: VERSION.into(), duration, ..finished };
        match run.reply {
            Some(reply) => {
                // Who waited may have gone.
                let _ = reply.send(Ok(crate::Answer::Whole(finished)));
                None
            }
            None => run.stream.map(|pieces| (pieces, finished)),
        }
    }

    /// The same where nobody may wait.
    fn cut(&self, payload: impl FnOnce(&str) -> Vec<u8>, failure: Failure) {
        let Some(payload) = self.run.borrow().as_ref().map(|run| payload(&run.invocation.id)) else { return };
        if let Some((pieces, finished)) = self.conclude(Finished { payload, failure: Some(failure), ..Finished::default() }) {
            // Where there is no place the stream ends without an end, which says the same.
            let _ = pieces.try_send(Piece::End(finished));
        }
    }

    fn report(&self, id: &str, duration: Duration) {
        let millis = duration.as_secs_f64() * 1000.0;
        self.output.say(&format!("END RequestId: {id}"));
        let mut line = format!("REPORT RequestId: {id}\tDuration: {millis:.2} ms\tBilled Duration: {} ms", millis.ceil());
        if let Some(memory) = self.desk.settings.memory {
            line += &format!("\tMemory Size: {} MB", memory >> 20);
        }
        if let Some(peak) = peak_memory(self.pid.get()) {
            line += &format!("\tMax Memory Used: {} MB", peak >> 20);
        }
        if let Some(init) = self.init.take() {
            line += &format!("\tInit Duration: {:.2} ms", init.as_secs_f64() * 1000.0);
        }
        self.output.say(&line);
    }

    /// Whether it may say why it cannot start: once at a time, since what it says is kept until it is whole.
    pub fn begins_init_error(&self) -> Result<(), Refused> {
        let may = self.is_starting() && !self.is_telling.replace(true);
        if may { Ok(()) } else { Err(Refused::State) }
    }

    pub fn ends_init_error(&self) {
        self.is_telling.set(false);
    }

    /// The process says that it cannot start, and will end.
    pub fn init_failed(&self, payload: Vec<u8>) {
        if !self.is_starting() {
            return;
        }
        self.set(State::Ending);
        self.due_at(Instant::now() + GRACE);
        self.output.catch_up(Upto::Now);
        self.output.warn(&format!("The start failed: {}", errors::told(&payload)));
        self.output.hint_of(&payload);
        self.desk.start_failed(self.start, &StartFailure::Told(payload));
    }

    /// Its whole life.
    pub async fn live(self: Rc<Self>) {
        let ended = self.clone().run_process().await;
        let old = self.set(State::Ending);
        // With its process the connection that it asked on has ended, mostly before this is seen.
        if matches!(old, State::Idle(_) | State::Between(_)) {
            self.desk.died_idle();
        }
        if matches!(old, State::Starting) {
            let failure = match &ended {
                Ok(exit) => StartFailure::Exited(*exit),
                Err(error) => StartFailure::NotStarted(error.to_string()),
            };
            self.output.complain(&match &ended {
                Ok(exit) => errors::how(*exit),
                Err(error) => format!("The process cannot be started: {error}"),
            });
            self.output.close();
            // Whoever waits is told before it is looked who else is to be started.
            self.desk.start_failed(self.start, &failure);
            return self.desk.gone(&self);
        }
        let exit = ended.unwrap_or(Exit::Code(0));
        let is_of_itself = matches!(old, State::Idle(_) | State::Between(_));
        if self.run.borrow().is_some() || is_of_itself || matches!(exit, Exit::Memory { .. }) {
            self.output.complain(&errors::how(exit));
        }
        self.cut(|id| errors::exited(id, exit), Failure::Exited);
        self.output.close();
        self.desk.gone(&self);
    }

    async fn run_process(self: Rc<Self>) -> io::Result<Exit> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let local = listener.local_addr()?;
        let launch = (self.desk.settings.launch)(local, self.start.is_ahead)?;
        let mut process = self.desk.spawner.spawn(launch).await?;
        self.desk.shared.figures.starts.fetch_add(1, Ordering::Relaxed);
        self.pid.set(process.pid);
        self.output.open(process.stdout.take(), process.stderr.take())?;
        let mut connections = JoinSet::new();
        let output = self.output.follow();
        let mut output = std::pin::pin!(output);
        let mut is_quiet = false;
        let mut timer = std::pin::pin!(sleep_until(Instant::now()));
        let exit = loop {
            self.act(&process);
            let due = self.due.get();
            if let Some(due) = due.filter(|due| self.armed.get() != Some(*due)) {
                timer.as_mut().reset(due);
            }
            self.armed.set(due);
            let event = tokio::select! {
                exit = process.ended() => Event::Ended(exit),
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => Event::Accepted(accepted),
                Some(_) = connections.join_next() => Event::Nothing,
                () = &mut output, if !is_quiet => { is_quiet = true; Event::Nothing }
                () = self.wake.notified() => Event::Nothing,
                () = &mut timer, if due.is_some() => { self.armed.set(None); Event::Nothing }
            };
            match event {
                Event::Ended(exit) => break exit,
                Event::Accepted(Ok((stream, peer))) => self.accept(stream, peer, local, &process, &mut connections),
                // Out of descriptors, most likely: the client waits in the backlog.
                Event::Accepted(Err(_)) => sleep(ACCEPT_AGAIN).await,
                Event::Nothing => {}
            }
        };
        // What it sent before it ended counts, and a stream may still be on its way.
        drop(listener);
        let until = self.due.get().filter(|_| self.run.borrow().is_some()).unwrap_or_else(|| Instant::now() + LAST_WORDS);
        let _ = timeout_at(until, async { while connections.join_next().await.is_some() {} }).await;
        if !is_quiet {
            // Whoever has its pipes still open has left its family, and is not waited for.
            let _ = timeout_at(Instant::now() + LAST_WORDS, output).await;
        }
        Ok(exit)
    }

    /// Whoever is not of this process would steal its events.
    fn accept(
        self: &Rc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        local: SocketAddr,
        process: &Process,
        connections: &mut JoinSet<()>,
    ) {
        if process.owns(peer, local) {
            connections.spawn_local(serve(stream, self.clone()));
        } else if self.refused.get().is_none_or(|last| last.elapsed() >= REFUSED_EVERY) {
            self.refused.set(Some(Instant::now()));
            self.output.complain("A connection to the Runtime API was refused: it is not from this process");
        }
    }

    /// Does what is wanted of it, and what is due.
    fn act(&self, process: &Process) {
        match self.wanted.take() {
            Some(End::Gently) => self.end_gently(process),
            Some(End::Now) => process.kill(),
            None => {}
        }
        self.extended_end(process);
        let now = Instant::now();
        if self.due.get().is_none_or(|due| due > now) {
            return;
        }
        self.due.set(None);
        match *self.state.borrow() {
            State::Ending => return process.kill(),
            State::Idle(_) if !self.desk.may_spare(self) => return self.due.set(Some(now + self.desk.settings.idle)),
            State::Idle(_) => self.end_gently(process),
            State::Starting => process.kill(),
            State::Busy | State::Between(_) => self.end_late(process),
        }
        self.too_late();
    }

    /// Its time is over.
    fn too_late(&self) {
        let timeout = self.desk.settings.timeout;
        match self.set(State::Ending) {
            State::Starting => {
                self.output.complain(&format!("Initialization timed out after {:.2} seconds", self.start.limit.as_secs_f64()));
                self.blame();
                self.desk.start_failed(self.start, &StartFailure::Late(self.start.limit));
            }
            State::Busy => {
                self.output.complain(&errors::took_too_long(timeout));
                self.cut(|id| errors::timed_out(id, timeout), Failure::TimedOut);
                self.desk.balance();
            }
            State::Between(_) => {
                self.output.complain("The process did not ask for more work in time and is ended");
                self.blame();
                self.desk.balance();
            }
            State::Idle(_) => self.desk.not_idle(self),
            State::Ending => {}
        }
    }
}

enum Event {
    Ended(Exit),
    Accepted(io::Result<(TcpStream, SocketAddr)>),
    Nothing,
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// bytes; `None`: it has ended, or the system does not say.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
