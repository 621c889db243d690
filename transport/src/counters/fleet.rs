//! The servers of one worker: one of them, or those of a cluster, and which has which key. Judges nothing.

use super::CountersSpec;
use super::batch::Batch;
use super::command::{Answer, Command};
use super::link::{Link, Pending};
use super::talk::{self, Place, Share};
use crate::worker::Worker;
use maitred_core::limits::Unanswered;
use maitred_model::RedisKind;
use maitred_wire::{SLOTS, resp_slot};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout};

// Moments here are of tokio's clock: a server elsewhere keeps real time, also where a test turns ours.

/// A cluster has at most a thousand servers.
const LINKS_MAX: usize = 1024;
/// Who has which slots is asked again after so long where something is wrong, and where nothing is.
const LOOK_SOON: Duration = Duration::from_millis(500);
const LOOK_LATE: Duration = Duration::from_secs(60);
/// And never more often than this.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// What is between forgets connections on which nothing happens, and so do servers.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// For one server to say it.
const LOOK_TIME_MAX: Duration = Duration::from_millis(500);

pub(super) struct Fleet {
    me: Weak<Fleet>,
    spec: Arc<CountersSpec>,
    worker: Rc<Worker>,
    links: RefCell<Vec<Rc<Link>>>,
    /// Of a cluster: who has each slot; empty until it is known.
    slots: RefCell<Vec<Option<Rc<Link>>>>,
    /// Somebody found another server than was known.
    news: Notify,
    /// Whoever waits, in the order in which their time is over: all have the same.
    waiting: RefCell<VecDeque<(Instant, Rc<Batch>)>>,
    waits: Notify,
}

impl Fleet {
    pub fn start(spec: &Arc<CountersSpec>, worker: &Rc<Worker>) -> Rc<Fleet> {
        let fleet = Rc::new_cyclic(|me| Fleet {
            me: me.clone(),
            spec: spec.clone(),
            worker: worker.clone(),
            links: RefCell::default(),
            slots: RefCell::default(),
            news: Notify::new(),
            waiting: RefCell::default(),
            waits: Notify::new(),
        });
        match &spec.servers.kind {
            RedisKind::Single => {
                if let Some((host, port)) = spec.servers.hosts.first() {
                    fleet.link(Place::Host(host.clone(), *port));
                }
            }
            RedisKind::Socket(path) => drop(fleet.link(Place::Socket(path.clone()))),
            RedisKind::Sentinel(name) => drop(fleet.link(Place::Sentinel(name.clone()))),
            RedisKind::Cluster => drop(spawn_local(fleet.clone().look())),
        }
        spawn_local(fleet.clone().expire());
        spawn_local(fleet.clone().beat());
        fleet
    }

    pub fn is_cluster(&self) -> bool {
        self.spec.servers.kind == RedisKind::Cluster
    }

    /// One that is there, or a new one.
    fn link(&self, place: Place) -> Option<Rc<Link>> {
        let mut links = self.links.borrow_mut();
        if let Some(link) = links.iter().find(|link| link.place == place) {
            return Some(link.clone());
        }
        if links.len() >= LINKS_MAX {
            return None;
        }
        let link = Link::new(place, &self.spec, &self.worker, self.me.clone());
        spawn_local(link.clone().drive());
        links.push(link.clone());
        Some(link)
    }

    fn link_of(&self, command: &Command) -> Option<Rc<Link>> {
        if !self.is_cluster() {
            return self.links.borrow().first().cloned();
        }
        let slot = resp_slot(command.key(&self.spec.prefix).as_bytes());
        self.slots.borrow().get(usize::from(slot)).cloned().flatten()
    }

    /// Whether an answer can be hoped for.
    pub fn can_ask(&self, command: &Command) -> bool {
        self.link_of(command).is_some_and(|link| link.is_up())
    }

    /// Answers in the order of the commands, or none within the time.
    pub async fn ask(&self, commands: impl Iterator<Item = Command>) -> Result<Vec<Answer>, Unanswered> {
        let started = tokio::time::Instant::now();
        let batch = Batch::new(commands);
        let mut waiting = Waiting { fleet: self, batch: &batch, is_answered: false };
        for (index, command) in batch.commands().into_iter().enumerate() {
            if !self.send(Pending::new(command, Some((batch.clone(), index)))) {
                batch.fail();
                self.worker.shard().counters_unasked.add(1);
                return Err(Unanswered);
            }
        }
        self.watch(&batch, started + self.spec.timeout);
        let answers = poll_fn(|cx| batch.poll(cx)).await;
        let shard = self.worker.shard();
        match &answers {
            Ok(_) => {
                waiting.is_answered = true;
                shard.counters_answered.add(1);
                shard.counters_time.record(started.elapsed());
            }
            Err(Unanswered) => shard.counters_unanswered.add(1),
        }
        answers
    }

    /// What nobody waits for. False: it is not told.
    pub fn tell(&self, command: Command) -> bool {
        self.send(Pending::new(command, None))
    }

    fn send(&self, pending: Pending) -> bool {
        let Some(link) = pending.command().and_then(|command| self.link_of(command)) else {
            self.look_again();
            return false;
        };
        link.send(pending)
    }

    /// A server said that another one has it.
    pub fn sent_on(&self, pending: Pending, slot: u16, place: Place, for_now: bool) {
        let Some(link) = self.link(place) else { return pending.fail() };
        if !for_now {
            if let Some(known) = self.slots.borrow_mut().get_mut(usize::from(slot)) {
                *known = Some(link.clone());
            }
            self.look_again();
        }
        let whom = pending.whom();
        let sent = if for_now { link.send_asking(pending) } else { link.send(pending) };
        if let (false, Some(batch)) = (sent, whom) {
            batch.fail();
        }
    }

    pub fn look_again(&self) {
        self.news.notify_one();
    }

    fn watch(&self, batch: &Rc<Batch>, until: Instant) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.waits.notify_one();
        }
        waiting.push_back((until, batch.clone()));
    }

    /// Tells those whose time is over.
    async fn expire(self: Rc<Self>) {
        loop {
            let next = self.next_due();
            match next {
                Some(until) => sleep_until(until).await,
                None => self.waits.notified().await,
            }
        }
    }

    async fn beat(self: Rc<Self>) {
        loop {
            sleep(BEAT_EVERY).await;
            self.links.borrow().iter().for_each(|link| link.beat());
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let now = tokio::time::Instant::now();
        loop {
            let (until, batch) = self.waiting.borrow().front().cloned()?;
            if until > now && batch.is_open() {
                return Some(until);
            }
            self.waiting.borrow_mut().pop_front();
            batch.expire();
        }
    }

    /// Keeps knowing who has which slot.
    async fn look(self: Rc<Self>) {
        let mut is_lost = false;
        loop {
            let found = self.ask_around().await;
            self.tell_whether_lost(&mut is_lost, found.is_none() && self.links.borrow().is_empty());
            let is_well = found.is_some() && !self.links.borrow().iter().any(|link| link.is_lost());
            if let Some(shares) = found {
                self.settle(shares);
            }
            let pause = if is_well { LOOK_LATE } else { LOOK_SOON };
            sleep(LOOK_PAUSE).await;
            // Either way it is time.
            let _ = timeout(pause, self.news.notified()).await;
        }
    }

    /// Where no server is known, there is no connection that could be lost.
    fn tell_whether_lost(&self, was: &mut bool, is: bool) {
        let shard = self.worker.shard();
        match (*was, is) {
            (false, true) => {
                shard.counters_lost.add(1);
                shard.counters_losses.add(1);
                self.spec.tell_lost("the cluster", "none of its servers says who has which slot");
            }
            (true, false) => {
                shard.counters_lost.sub(1);
                self.spec.tell_found("the cluster");
            }
            (true, true) | (false, false) => {}
        }
        *was = is;
    }

    async fn ask_around(&self) -> Option<Vec<Share>> {
        let links: Vec<Rc<Link>> = self.links.borrow().clone();
        let known = links.iter().filter(|link| link.is_up()).map(|link| link.place.clone());
        let written = self.spec.servers.hosts.iter().map(|(host, port)| Place::Host(host.clone(), *port));
        let mut places: Vec<Place> = known.collect();
        if !places.is_empty() {
            let first = self.worker.chance.below(places.len());
            places.rotate_left(first);
        }
        places.extend(written);
        for place in &places {
            match timeout(LOOK_TIME_MAX, talk::shares(place, &self.spec, &self.worker)).await {
                Ok(Ok(shares)) if !shares.is_empty() => return Some(shares),
                Ok(Ok(_)) => tracing::debug!(server = %place, "no slot is given to anybody"),
                Ok(Err(why)) => tracing::debug!(server = %place, why, "who has which slot is not known there"),
                Err(_) => tracing::debug!(server = %place, "no answer about slots"),
            }
        }
        None
    }

    fn settle(&self, shares: Vec<Share>) {
        let mut slots: Vec<Option<Rc<Link>>> = vec![None; usize::from(SLOTS)];
        for (first, last, place) in shares {
            let Some(link) = self.link(place) else { continue };
            if let Some(share) = slots.get_mut(usize::from(first)..=usize::from(last.min(SLOTS - 1))) {
                share.fill(Some(link));
            }
        }
        let used = |link: &Rc<Link>| slots.iter().flatten().any(|other| Rc::ptr_eq(link, other));
        self.links.borrow_mut().retain(|link| {
            let stays = used(link);
            if !stays {
                link.retire();
            }
            stays
        });
        *self.slots.borrow_mut() = slots;
    }
}

/// Somebody who waits for answers. If it goes, or gets none of use, what was granted is given back.
struct Waiting<'a> {
    fleet: &'a Fleet,
    batch: &'a Rc<Batch>,
    is_answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.batch.fail();
            for undone in self.batch.undone() {
                self.fleet.tell(undone);
            }
        }
    }
}
