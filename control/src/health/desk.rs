//! The thread of the checks: a task for each upstream follows its addresses, a task for each endpoint asks it again and again.

use super::probe;
use super::tally::{Tally, Thresholds};
use super::{LastCheck, Shared, Watched, lock};
use maitred_core::balance::{Figures, Identity};
use maitred_core::metrics::Metrics;
use maitred_model::HealthCheck;
use maitred_transport::{Dial, Prober, Target, TargetCell, TargetSet, Timer, Worker};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_local};

/// Checks at once: each is a connection. More would have to wait for those that hang until their time is over.
const PROBES_MAX: usize = 1024;
/// New endpoints begin so far apart, and all of them within one interval.
const APART: Duration = Duration::from_millis(2);
/// An interval is so much longer or shorter by chance, in thousandths: gateways that were started together do not ask together for long.
const JITTER: usize = 100;

pub(super) fn run(shared: Arc<Shared>) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "no endpoint is checked: the runtime cannot start"),
    };
    runtime.block_on(async move {
        // Its counters are nobody's: what probes do is no traffic.
        let worker = Worker::new(0, shared.clock.clone(), Arc::new(Metrics::new(1)));
        spawn_local(worker.timers.clone().sweep());
        Desk::new(shared, worker).follow_plans().await;
    });
}

pub(super) struct Desk {
    shared: Arc<Shared>,
    prober: Prober,
    worker: Rc<Worker>,
    room: Semaphore,
}

/// An upstream that is checked.
struct Group {
    watched: Watched,
    endpoints: Endpoints,
    follower: Task,
}

/// They outlive the one who follows the addresses.
type Endpoints = Rc<RefCell<HashMap<Identity, Endpoint>>>;

struct Endpoint {
    figures: Arc<Figures>,
    tally: Rc<Cell<Tally>>,
    /// Kept, not read: checks end with it.
    _task: Task,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// All that one endpoint's task has.
struct Watch {
    desk: Rc<Desk>,
    upstream: Arc<str>,
    check: HealthCheck,
    dial: Arc<Dial>,
    target: Target,
    figures: Arc<Figures>,
    tally: Rc<Cell<Tally>>,
}

impl Desk {
    fn new(shared: Arc<Shared>, worker: Rc<Worker>) -> Rc<Desk> {
        Rc::new(Desk { shared, prober: Prober::new(&worker), worker, room: Semaphore::new(PROBES_MAX) })
    }

    async fn follow_plans(self: Rc<Self>) {
        let mut groups: HashMap<Arc<str>, Group> = HashMap::new();
        let mut seen = 0;
        loop {
            self.shared.wake.notified().await;
            if self.shared.stopped.load(Ordering::Acquire) {
                return;
            }
            self.worker.timers.look_again();
            let applied = self.shared.applied.load(Ordering::Acquire);
            if applied != seen {
                seen = applied;
                let plan = lock(&self.shared.plan).clone();
                self.apply(&mut groups, plan);
            }
        }
    }

    fn apply(self: &Rc<Self>, groups: &mut HashMap<Arc<str>, Group>, plan: Vec<Watched>) {
        let wanted: HashSet<Arc<str>> = plan.iter().map(|watched| watched.upstream.clone()).collect();
        groups.retain(|upstream, group| {
            let is_wanted = wanted.contains(upstream);
            if !is_wanted {
                self.let_go(upstream, &group.endpoints);
            }
            is_wanted
        });
        for watched in plan {
            let known = groups.remove(&watched.upstream);
            groups.insert(watched.upstream.clone(), self.group(known, watched));
        }
    }

    /// Nobody asks any more: what was found out counts no more.
    fn let_go(&self, upstream: &str, endpoints: &Endpoints) {
        for (_, endpoint) in endpoints.borrow_mut().drain() {
            endpoint.figures.set_healthy(true, self.worker.now());
        }
        lock(&self.shared.checked).remove(upstream);
    }

    fn group(self: &Rc<Self>, known: Option<Group>, watched: Watched) -> Group {
        let Some(Group { watched: before, endpoints, follower }) = known else {
            let endpoints = Endpoints::default();
            let follower = self.follow(&watched, &endpoints);
            return Group { watched, endpoints, follower };
        };
        let is_same = before.check == watched.check && before.dial.identity == watched.dial.identity;
        if is_same && Arc::ptr_eq(&before.targets, &watched.targets) {
            return Group { watched: before, endpoints, follower };
        }
        drop(follower);
        if !is_same {
            // Another question; what it was asked about is the same, and so is how it is until the answer comes.
            let set = watched.targets.load();
            let mut endpoints = endpoints.borrow_mut();
            for target in &set.targets {
                if let Some(endpoint) = endpoints.get_mut(&target.identity()) {
                    endpoint._task = self.watch(&watched, target, &endpoint.figures, &endpoint.tally, Duration::ZERO);
                }
            }
        }
        let follower = self.follow(&watched, &endpoints);
        Group { watched, endpoints, follower }
    }

    fn follow(self: &Rc<Self>, watched: &Watched, endpoints: &Endpoints) -> Task {
        let (desk, watched, endpoints) = (self.clone(), watched.clone(), endpoints.clone());
        Task(spawn_local(async move {
            let cell: Arc<TargetCell> = watched.targets.clone();
            let mut set = cell.load();
            loop {
                desk.sync(&watched, &set, &endpoints);
                set = cell.other_than(&set).await;
            }
        }))
    }

    /// Begins with those that are new, and ends with those that are gone.
    fn sync(self: &Rc<Self>, watched: &Watched, set: &TargetSet, endpoints: &Endpoints) {
        let mut endpoints = endpoints.borrow_mut();
        let identities: HashSet<Identity> = set.targets.iter().map(Target::identity).collect();
        endpoints.retain(|identity, _| {
            let stays = identities.contains(identity);
            if !stays {
                self.shared.forget(&watched.upstream, identity);
            }
            stays
        });
        let news = set.targets.len().saturating_sub(endpoints.len());
        let spread = (APART * u32::try_from(news).unwrap_or(u32::MAX)).min(watched.check.interval);
        for (target, figures) in set.targets.iter().zip(&set.figures) {
            let identity = target.identity();
            if endpoints.get(&identity).is_some_and(|known| Arc::ptr_eq(&known.figures, figures)) {
                continue;
            }
            let tally = Rc::default();
            let delay = spread.mul_f64(self.worker.chance.below(1000) as f64 / 1000.0);
            let _task = self.watch(watched, target, figures, &tally, delay);
            endpoints.insert(identity, Endpoint { figures: figures.clone(), tally, _task });
        }
    }

    fn watch(
        self: &Rc<Self>,
        watched: &Watched,
        target: &Target,
        figures: &Arc<Figures>,
        tally: &Rc<Cell<Tally>>,
        delay: Duration,
    ) -> Task {
        let watch = Watch {
            desk: self.clone(),
            upstream: watched.upstream.clone(),
            check: watched.check.clone(),
            dial: watched.dial.clone(),
            target: target.clone(),
            figures: figures.clone(),
            tally: tally.clone(),
        };
        Task(spawn_local(watch.run(delay)))
    }

    async fn sleep(&self, timer: &Timer, time: Duration) {
        timer.disarm();
        timer.arm(self.worker.now() + time);
        poll_fn(|cx| timer.poll(cx)).await;
    }
}

impl Watch {
    async fn run(self, delay: Duration) {
        let timer = Timer::new(&self.desk.worker.timers);
        if !delay.is_zero() {
            self.desk.sleep(&timer, delay).await;
        }
        loop {
            {
                let Ok(_place) = self.desk.room.acquire().await else { return };
                self.check_once(&timer).await;
            }
            let pause = self.check.interval.mul_f64(0.9 + self.desk.worker.chance.below(2 * JITTER + 1) as f64 / 1000.0);
            self.desk.sleep(&timer, pause).await;
        }
    }

    async fn check_once(&self, timer: &Timer) {
        let worker = &self.desk.worker;
        let started = worker.now();
        timer.disarm();
        timer.arm(started + self.check.timeout);
        let verdict = {
            let mut asking = pin!(probe::ask(&self.desk.prober, &self.dial, &self.check, &self.target));
            poll_fn(|cx| match asking.as_mut().poll(cx) {
                Poll::Ready(verdict) => Poll::Ready(verdict),
                Poll::Pending => timer.poll(cx).map(|()| Err(format!("no answer in {:?}", self.check.timeout))),
            })
            .await
        };
        let last = LastCheck { at: worker.clock.wall(), took: worker.now() - started, failure: verdict.err() };
        self.note(last);
    }

    fn note(&self, last: LastCheck) {
        let before = self.tally.get();
        let HealthCheck { unhealthy_after, healthy_after, .. } = self.check;
        let after = before.and(last.failure.is_none(), Thresholds { unhealthy_after, healthy_after });
        self.tally.set(after);
        let (upstream, endpoint) = (&*self.upstream, || self.target.address.to_string());
        match (before.is_healthy(), after.is_healthy(), &last.failure) {
            (true, false, Some(reason)) => tracing::warn!(upstream, endpoint = endpoint(), reason, "an endpoint is unhealthy"),
            (false, true, _) => tracing::info!(upstream, endpoint = endpoint(), "an endpoint is healthy again"),
            (true, true, _) | (false, false, _) | (true, false, None) => {}
        }
        self.figures.set_healthy(after.is_healthy(), self.desk.worker.now());
        self.desk.shared.note(&self.upstream, &self.target.identity(), after.is_healthy(), last);
    }
}
