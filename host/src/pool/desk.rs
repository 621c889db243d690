//! A pool on the host's thread: who waits, who runs, when a process is started and when one is spared. Each decision is a function of
//! what stands in lists here; processes and sockets are the instances' affair.

use super::desks::Desks;
use super::errors;
use super::instance::{End, Instance, Start, VERSION, micros};
use super::job::{Job, Reply};
use super::{InstanceView, PoolView, Settings, Shared};
use crate::answer::{Answer, NotRun};
use crate::process::{Exit, Spawner};
use maitred_core::function::{Failure, Finished, Invocation};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

/// For one invocation: as AWS, once more inside the invocation, then it fails.
const STARTS_MAX: u8 = 2;
/// Between starts of a process that is to be kept warm and cannot start.
const WARM_AGAIN_MIN: Duration = Duration::from_secs(1);
const WARM_AGAIN_MAX: Duration = Duration::from_secs(60);
/// A process that has answered asks for more at once, in tens of microseconds: nobody is started in its place for so long, which is less
/// than any start takes.
const SOON: Duration = Duration::from_millis(10);
/// Invocations for which nobody waits, with those that are to be tried again.
pub(crate) const EVENTS_MAX: usize = 1000;
/// Of all of them.
pub(crate) const EVENTS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a pool is asked for.
#[derive(Debug)]
pub(crate) enum Order {
    Invoke { invocation: Invocation, reply: Reply },
    Submit { invocation: Invocation, reply: oneshot::Sender<Result<(), NotRun>> },
    View(oneshot::Sender<PoolView>),
}

/// Why a process never came to ask for work.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// It said so itself.
    Told(Vec<u8>),
    Exited(Exit),
    Late(Duration),
    NotStarted(String),
}

pub(crate) struct Desk {
    pub shared: Arc<Shared>,
    pub settings: Settings,
    pub spawner: Rc<Spawner>,
    pub(super) desks: Rc<Desks>,
    instances: RefCell<Vec<Rc<Instance>>>,
    /// The last one is the one that was at work last: its caches are warm, and the others may go.
    idle: RefCell<Vec<Rc<Instance>>>,
    waiting: RefCell<VecDeque<Job>>,
    /// Run when nobody waits.
    events: RefCell<VecDeque<Job>>,
    /// Of `events`, and those that are under way or to be tried again.
    pub(super) open_events: Cell<usize>,
    pub(super) open_event_bytes: Cell<usize>,
    generation: Cell<u32>,
    /// Nobody can ask for more.
    pub(super) is_retired: Cell<bool>,
    /// The whole host does.
    pub(super) is_stopping: Cell<bool>,
    is_closed: Cell<bool>,
    warm_failures: Cell<u32>,
    warm_again: Cell<Option<Instant>>,
    /// Something changed that timers or the end depend on.
    attention: Notify,
    /// One of those three has come.
    pub(super) turned: Notify,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("function", &self.shared.name).finish_non_exhaustive()
    }
}

impl Desk {
    /// From here on it is the one of its name.
    pub fn new(shared: Arc<Shared>, settings: Settings, spawner: Rc<Spawner>, desks: &Rc<Desks>) -> Rc<Desk> {
        let desk = Rc::new(Desk {
            shared,
            settings,
            spawner,
            desks: desks.clone(),
            instances: RefCell::default(),
            idle: RefCell::default(),
            waiting: RefCell::default(),
            events: RefCell::default(),
            open_events: Cell::default(),
            open_event_bytes: Cell::default(),
            generation: Cell::default(),
            is_retired: Cell::default(),
            is_stopping: Cell::default(),
            is_closed: Cell::default(),
            warm_failures: Cell::default(),
            warm_again: Cell::default(),
            attention: Notify::new(),
            turned: Notify::new(),
        });
        desks.enter(&desk);
        desk
    }

    /// Until nobody has a handle and all is done, or until the host stops.
    pub async fn run(self: Rc<Self>, mut orders: mpsc::Receiver<Order>, mut stop: watch::Receiver<Option<Instant>>) {
        self.balance();
        while stop.borrow().is_none() {
            let due = self.next_due();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => break,
                },
                () = self.shared.reload.notified() => self.reload(),
                () = self.attention.notified() => {}
                () = until(due) => self.expire(),
                Ok(()) = stop.changed() => {}
            }
        }
        self.heed(&stop);
        self.retire();
        orders.close();
        while let Ok(order) = orders.try_recv() {
            self.order(order);
        }
        while !self.is_over() {
            let (due, last) = (self.next_due(), *stop.borrow());
            tokio::select! {
                () = self.attention.notified() => {}
                () = until(due) => self.expire(),
                () = until(last.filter(|_| !self.is_closed.get())) => self.close(),
                Ok(()) = stop.changed() => self.heed(&stop),
            }
        }
        self.desks.leave(&self);
    }

    fn heed(&self, stop: &watch::Receiver<Option<Instant>>) {
        self.is_stopping.set(stop.borrow().is_some());
        self.turned.notify_waiters();
    }

    fn order(self: &Rc<Self>, order: Order) {
        match order {
            Order::Invoke { invocation, reply } => self.take(Job {
                invocation,
                reply,
                until: Instant::now() + self.settings.queue.timeout,
                failed_starts: 0,
                given: 0,
                is_event: false,
            }),
            Order::Submit { invocation, reply } => {
                let _ = reply.send(super::events::submit(self, invocation));
            }
            Order::View(reply) => {
                let _ = reply.send(self.view());
            }
        }
    }

    /// To an idle process, or into the queue.
    pub fn take(self: &Rc<Self>, mut job: Job) {
        if self.is_closed.get() {
            return self.refuse(job, NotRun::Closed);
        }
        loop {
            let Some(instance) = self.idle.borrow_mut().pop() else { break };
            match instance.give(job) {
                None => return,
                Some(back) => job = back,
            }
        }
        if job.is_event {
            self.events.borrow_mut().push_back(job);
        } else if self.has_room() {
            self.waiting.borrow_mut().push_back(job);
        } else {
            return self.refuse(job, NotRun::QueueFull);
        }
        self.balance();
    }

    /// One that a process did not take after all: it is first again.
    pub fn take_back(self: &Rc<Self>, job: Job) {
        let queue = if job.is_event { &self.events } else { &self.waiting };
        queue.borrow_mut().push_front(job);
        self.serve_waiting();
        self.balance();
    }

    /// Those for whom a process starts, or can be started, do not wait in the queue.
    fn has_room(&self) -> bool {
        let Census { alive, coming, .. } = self.census();
        let room = self.settings.queue.length as usize + coming + self.concurrency().saturating_sub(alive);
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= room {
            waiting.retain(|job| !job.reply.is_closed());
        }
        waiting.len() < room
    }

    fn concurrency(&self) -> usize {
        self.settings.concurrency.get() as usize
    }

    /// Of this generation, without those on their way out.
    fn census(&self) -> Census {
        let (mut census, now) = (Census::default(), Instant::now());
        for instance in &*self.instances.borrow() {
            if !self.is_current(instance) || instance.is_ending() {
                continue;
            }
            census.alive += 1;
            let soon = instance.between_since().map(|since| since + SOON).filter(|soon| *soon > now);
            census.coming += usize::from(instance.is_starting() || soon.is_some());
            census.soon = census.soon.into_iter().chain(soon).min();
        }
        census
    }

    fn is_current(&self, instance: &Instance) -> bool {
        instance.generation == self.generation.get()
    }

    /// Starts as many processes as are wanted and allowed.
    pub fn balance(self: &Rc<Self>) {
        self.waiting.borrow_mut().retain(|job| !job.reply.is_closed());
        while !self.is_closed.get() {
            let Census { alive, coming, .. } = self.census();
            let wanted = self.waiting.borrow().len() + self.events.borrow().len();
            if alive >= self.concurrency() || coming >= wanted && !self.is_short(alive) {
                break;
            }
            self.start();
        }
        self.shared.figures.waiting.store(self.waiting.borrow().len() as u64, Ordering::Relaxed);
        self.attention.notify_one();
    }

    /// Fewer are warm than are to be, and it is time to start one.
    fn is_short(&self, alive: usize) -> bool {
        let may = self.warm_again.get().is_none_or(|again| again <= Instant::now());
        may && !self.is_retired.get() && alive < self.settings.min_instances as usize
    }

    fn start(self: &Rc<Self>) {
        let is_again = self.waiting.borrow().front().is_some_and(|job| job.failed_starts > 0);
        let is_ahead = self.waiting.borrow().is_empty() && self.events.borrow().is_empty();
        let limit = if is_again { self.settings.timeout } else { self.settings.init_timeout };
        let number = self.shared.log.next_instance();
        let instance = Instance::new(self, number, self.generation.get(), Start { limit, is_again, is_ahead });
        self.instances.borrow_mut().push(instance.clone());
        spawn_local(instance.live());
    }

    /// A process came to ask for work.
    pub fn started(&self) {
        self.warm_failures.set(0);
        self.warm_again.set(None);
    }

    /// A process ended of itself while it had nothing to do: whatever it dies of, it is not started for that again and again.
    pub fn died_idle(&self) {
        self.warm_again.set(Some(Instant::now() + WARM_AGAIN_MIN));
    }

    /// A process could not be started. Whoever waits longest is told, the second time.
    pub fn start_failed(self: &Rc<Self>, start: Start, why: &StartFailure) {
        let failures = self.warm_failures.get();
        let pause = WARM_AGAIN_MIN.saturating_mul(1 << failures.min(6)).min(WARM_AGAIN_MAX);
        self.warm_failures.set(failures.saturating_add(1));
        self.warm_again.set(Some(Instant::now() + pause));
        if let Some(mut job) = self.next_job() {
            job.failed_starts += 1;
            if job.failed_starts < STARTS_MAX {
                let queue = if job.is_event { &self.events } else { &self.waiting };
                queue.borrow_mut().push_front(job);
            } else {
                let (payload, failure) = self.told(&job.invocation.id, start, why);
                self.fail(job, payload, failure);
            }
        }
        self.balance();
    }

    fn told(&self, id: &str, start: Start, why: &StartFailure) -> (Vec<u8>, Failure) {
        match why {
            StartFailure::Told(payload) => (payload.clone(), Failure::NotStarted),
            StartFailure::Exited(exit) => (errors::exited(id, *exit), Failure::NotStarted),
            StartFailure::Late(limit) if start.is_again => (errors::timed_out(id, *limit), Failure::TimedOut),
            StartFailure::Late(limit) => (errors::init_timed_out(id, *limit), Failure::NotStarted),
            StartFailure::NotStarted(error) => (errors::no_entrypoint(id, error), Failure::NotStarted),
        }
    }

    /// Ends a job that no process ran.
    pub fn fail(&self, job: Job, payload: Vec<u8>, failure: Failure) {
        self.count(Duration::ZERO, Some(failure));
        let finished = Finished { payload, failure: Some(failure), version: VERSION.into(), ..Finished::default() };
        let _ = job.reply.send(Ok(Answer::Whole(finished)));
    }

    fn refuse(&self, job: Job, why: NotRun) {
        self.shared.figures.throttles.fetch_add(1, Ordering::Relaxed);
        let _ = job.reply.send(Err(why));
    }

    /// One run is over.
    pub fn count(&self, duration: Duration, failure: Option<Failure>) {
        let figures = &self.shared.figures;
        figures.invocations.fetch_add(1, Ordering::Relaxed);
        figures.duration.fetch_add(micros(duration), Ordering::Relaxed);
        if failure.is_some() {
            figures.failures.fetch_add(1, Ordering::Relaxed);
        }
        if failure == Some(Failure::TimedOut) {
            figures.timeouts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A process asks for work.
    pub fn parked(self: &Rc<Self>, instance: &Rc<Instance>) {
        if !self.is_current(instance) || self.is_closed.get() {
            return instance.end(End::Gently);
        }
        self.idle.borrow_mut().push(instance.clone());
        self.serve_waiting();
        if instance.is_idle() {
            if self.is_retired.get() {
                self.not_idle(instance);
                return instance.end(End::Gently);
            }
            instance.rests(self.settings.idle);
        }
    }

    fn serve_waiting(&self) {
        while !self.idle.borrow().is_empty() {
            let Some(job) = self.next_job() else { break };
            let Some(instance) = self.idle.borrow_mut().pop() else { break };
            if let Some(job) = instance.give(job) {
                let queue = if job.is_event { &self.events } else { &self.waiting };
                queue.borrow_mut().push_front(job);
            }
        }
        self.shared.figures.waiting.store(self.waiting.borrow().len() as u64, Ordering::Relaxed);
    }

    /// The one that has waited longest, and is still waited for.
    fn next_job(&self) -> Option<Job> {
        loop {
            let job = self.waiting.borrow_mut().pop_front();
            match job {
                Some(job) if job.reply.is_closed() => {}
                Some(job) => return Some(job),
                None => return self.events.borrow_mut().pop_front(),
            }
        }
    }

    pub fn not_idle(&self, instance: &Instance) {
        self.idle.borrow_mut().retain(|idle| !std::ptr::eq(&raw const **idle, instance));
    }

    /// Whether an idle process is one too many.
    pub fn may_spare(&self, instance: &Instance) -> bool {
        self.census().alive > self.settings.min_instances as usize || !self.is_current(instance)
    }

    /// A process has ended.
    pub fn gone(self: &Rc<Self>, instance: &Rc<Instance>) {
        self.not_idle(instance);
        self.instances.borrow_mut().retain(|other| !Rc::ptr_eq(other, instance));
        self.balance();
    }

    /// When `expire` has something to do.
    fn next_due(&self) -> Option<Instant> {
        let min_instances = self.settings.min_instances as usize;
        let (waiting, events) = (self.waiting.borrow(), self.events.borrow());
        if waiting.is_empty() && events.is_empty() && (min_instances == 0 || self.warm_again.get().is_none()) {
            return None;
        }
        let Census { alive, coming, soon } = self.census();
        let waits = waiting.get(coming).map(|job| job.until);
        let soon = soon.filter(|_| !(waiting.is_empty() && events.is_empty()));
        let warms = self.warm_again.get().filter(|_| alive < min_instances && !self.is_retired.get());
        waits.into_iter().chain(warms).chain(soon).min()
    }

    /// Those that have waited too long leave, unless a process is being started for them.
    fn expire(self: &Rc<Self>) {
        let now = Instant::now();
        let coming = self.census().coming;
        loop {
            let expired = {
                let mut waiting = self.waiting.borrow_mut();
                let is_late = waiting.get(coming).is_some_and(|job| job.until <= now);
                if is_late { waiting.remove(coming) } else { None }
            };
            let Some(job) = expired else { break };
            self.refuse(job, NotRun::Waited);
        }
        self.balance();
    }

    /// Whatever runs is of yesterday: idle processes end, the others after their work.
    fn reload(self: &Rc<Self>) {
        self.generation.set(self.generation.get().wrapping_add(1));
        self.started();
        self.end_those(|instance| instance.is_idle() || instance.is_starting());
        self.balance();
    }

    fn retire(self: &Rc<Self>) {
        self.is_retired.set(true);
        if self.successor().is_some() {
            // Their tasks take them there: see `events.rs`.
            self.events.borrow_mut().clear();
        }
        self.turned.notify_waiters();
        let is_needed = !self.waiting.borrow().is_empty() || !self.events.borrow().is_empty();
        self.end_those(|instance| instance.is_idle() || instance.is_starting() && !is_needed);
        self.balance();
    }

    fn end_those(&self, which: impl Fn(&Instance) -> bool) {
        let doomed: Vec<_> = self.instances.borrow().iter().filter(|instance| which(instance)).cloned().collect();
        for instance in doomed {
            self.not_idle(&instance);
            instance.end(End::Gently);
        }
    }

    /// Patience is over.
    fn close(self: &Rc<Self>) {
        self.is_closed.set(true);
        while let Some(job) = self.next_job() {
            self.refuse(job, NotRun::Closed);
        }
        let instances = self.instances.borrow().clone();
        for instance in instances {
            instance.end(End::Now);
        }
        self.turned.notify_waiters();
        self.balance();
    }

    /// Who has the code in force, where that is another and this one is on its way out.
    pub(super) fn successor(&self) -> Option<Rc<Desk>> {
        let may = self.is_retired.get() && !self.is_stopping.get();
        if may { self.desks.in_force(&self.shared.name) } else { None }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    fn is_over(&self) -> bool {
        self.instances.borrow().is_empty() && self.waiting.borrow().is_empty() && self.open_events.get() == 0
    }

    pub(super) fn notice(&self) {
        self.attention.notify_one();
    }

    fn view(&self) -> PoolView {
        let instances = self.instances.borrow();
        let instances = instances.iter().map(|instance| InstanceView {
            number: instance.number,
            pid: instance.pid(),
            state: instance.state(),
            invocations: instance.invocations(),
        });
        PoolView {
            name: self.shared.name.clone(),
            code: self.shared.code.clone(),
            instances: instances.collect(),
            waiting: self.waiting.borrow().len(),
        }
    }
}

/// What a pool has.
#[derive(Debug, Default)]
struct Census {
    alive: usize,
    /// Of those: start, or have just answered. For as many as wait, nobody else is started.
    coming: usize,
    /// When the first that has just answered did so too long ago to be waited for.
    soon: Option<Instant>,
}

/// Never, where there is no time.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
