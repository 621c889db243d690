//! Finds the addresses behind the endpoints' names and keeps them fresh by their TTL. Never forgets a good answer because the next one
//! fails. Connects to nothing, and knows nothing of health: workers find out who answers.

mod service;
mod system;
pub mod testing;
#[cfg(test)]
mod tests;

pub use system::SystemResolver;

use maitred_model::{Authority, Endpoint, Scheme};
use maitred_transport::{Target, TargetCell};
use service::{Found, Place, Question};
use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

/// An answer is believed for so long at least: a name server that says 0 would be asked without end.
const TTL_MIN: Duration = Duration::from_secs(1);
/// And for so long at most: a name that moved with a TTL of a week is found within the hour.
const TTL_MAX: Duration = Duration::from_secs(3600);
/// Between a failure and the next try; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// For one lookup, all of the resolver's own tries in it.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(10);
/// Lookups at once, so that thousands of names do not flood a name server at a start.
const LOOKUPS_MAX: usize = 64;
/// Addresses used of one name. More fit into no answer of DNS but one by TCP.
const ADDRESSES_MAX: usize = 1024;
/// Targets of one upstream: what the wheel of turns can count.
const TARGETS_MAX: usize = u16::MAX as usize;

/// What a name resolves to, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub addresses: Vec<IpAddr>,
    pub ttl: Duration,
}

/// What a service's name leads to (RFC 2782), and for how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    pub records: Vec<ServiceRecord>,
    pub ttl: Duration,
    /// Addresses that came with them, by the records' hosts. The others are asked for.
    pub addresses: HashMap<String, Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    /// The lowest come first.
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// `.` where the service is decidedly not available.
    pub host: String,
}

pub type ServiceLookup<'a> = Pin<Box<dyn Future<Output = Result<Services, String>> + Send + 'a>>;
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Answer, String>> + Send + 'a>>;

/// Who knows addresses. `Err` says why there are none, for the log.
pub trait Resolve: Send + Sync + 'static {
    fn lookup<'a>(&'a self, host: &'a str) -> Lookup<'a>;
    fn services<'a>(&'a self, name: &'a str) -> ServiceLookup<'a>;
}

/// An endpoint as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    pub authority: Authority,
    /// The Host that its targets are sent; those of a service are sent its hosts' names.
    pub authority_text: Arc<str>,
    /// Prefixed to every path.
    pub prefix: Arc<str>,
    /// Those of a service's records are multiplied by it.
    pub weight: NonZeroU32,
    pub scheme: Scheme,
    pub zone: Option<Arc<str>>,
    /// The ranks of a service's records are added to it.
    pub priority: u8,
}

/// One upstream's addresses are wanted, for as long as anyone else holds the cell. A cell has the same endpoints every time.
#[derive(Debug, Clone)]
pub struct Request {
    pub cell: Weak<TargetCell>,
    pub endpoints: Vec<EndpointSpec>,
}

impl Request {
    /// `authority`: the Host of an endpoint. `None`: nothing is to be looked up.
    pub fn of(cell: &Arc<TargetCell>, endpoints: &[Endpoint], authority: impl Fn(&Endpoint) -> String) -> Option<Request> {
        endpoints.iter().find(|endpoint| Question::of(&endpoint.authority).is_some())?;
        let spec = |endpoint: &Endpoint| EndpointSpec {
            authority: endpoint.authority.clone(),
            authority_text: authority(endpoint).into(),
            prefix: endpoint.path.as_str().into(),
            weight: endpoint.weight,
            scheme: endpoint.scheme,
            zone: endpoint.zone.as_deref().map(Arc::from),
            priority: endpoint.priority,
        };
        Some(Request { cell: Arc::downgrade(cell), endpoints: endpoints.iter().map(spec).collect() })
    }
}

/// A name that has no address yet. It is tried again all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    pub host: String,
    pub reason: String,
}

/// Resolves, and goes on refreshing until it is dropped. Belongs on a runtime of the control side.
pub struct Discovery {
    shared: Arc<Shared>,
}

struct Shared {
    resolver: Arc<dyn Resolve>,
    lookups: Semaphore,
    names: Mutex<Names>,
}

type Names = HashMap<Question, Name>;

/// A name that some upstream uses. One task refreshes it, for all of them.
struct Name {
    /// The last good answer, sorted; it stays when a later lookup fails.
    places: Vec<Place>,
    /// Why the last lookup failed, if it did.
    failure: Option<String>,
    users: Vec<Arc<User>>,
    /// Set at the first answer, good or bad.
    answered: watch::Sender<bool>,
    refreshing: AbortHandle,
}

impl Drop for Name {
    fn drop(&mut self) {
        self.refreshing.abort();
    }
}

/// An upstream that uses names.
struct User {
    request: Request,
    /// One for each of its endpoints, where that is a name.
    questions: Vec<Option<Question>>,
    /// Set when all its names were answered, or waited for long enough: from then on each change is published. Before, an upstream
    /// of a thousand names would be published a thousand times.
    is_live: AtomicBool,
}

impl Discovery {
    pub fn new(resolver: Arc<dyn Resolve>) -> Discovery {
        Discovery { shared: Arc::new(Shared { resolver, lookups: Semaphore::new(LOOKUPS_MAX), names: Mutex::default() }) }
    }

    /// Fills all the cells, waiting for `patience` at most, and keeps them fresh from here on. A cell that is known already keeps what
    /// it has. Whatever could not be resolved so far is returned, each name once; its cell has the addresses of its other endpoints.
    pub async fn resolve_all(&self, requests: &[Request], patience: Duration) -> Vec<Unresolved> {
        let deadline = Instant::now() + patience;
        let users: Vec<Arc<User>> = requests.iter().map(|request| self.shared.enter(request)).collect();
        for user in &users {
            for mut answered in self.shared.answers(user) {
                // Late, or no longer wanted: either way there is nothing to wait for.
                let _ = timeout_at(deadline, answered.wait_for(|answered| *answered)).await;
            }
        }
        let names = self.shared.names();
        for user in &users {
            user.publish(&names);
        }
        unresolved(&users, &names)
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        // Stops the tasks, which hold `shared` only while they work.
        self.shared.names().clear();
    }
}

impl Shared {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes who uses which names, and begins to resolve those that are new.
    fn enter(self: &Arc<Self>, request: &Request) -> Arc<User> {
        let mut names = self.names();
        let questions = request.endpoints.iter().map(|endpoint| Question::of(&endpoint.authority)).collect();
        let user = Arc::new(User { request: request.clone(), questions, is_live: AtomicBool::new(false) });
        for question in user.questions() {
            let name = names.entry(question.clone()).or_insert_with_key(|question| Name {
                places: Vec::new(),
                failure: None,
                users: Vec::new(),
                answered: watch::Sender::new(false),
                refreshing: tokio::spawn(refresh(Arc::downgrade(self), question.clone())).abort_handle(),
            });
            // A cell that is handed in again is the same upstream after a reload.
            name.users.retain(|other| !other.request.cell.ptr_eq(&request.cell) && other.is_wanted());
            name.users.push(user.clone());
        }
        user
    }

    fn answers(&self, user: &User) -> Vec<watch::Receiver<bool>> {
        let names = self.names();
        user.questions().filter_map(|question| Some(names.get(question)?.answered.subscribe())).collect()
    }

    /// Takes an answer in: when to ask again, or `None` if nobody wants to know any more.
    fn note(&self, question: &Question, looked_up: Result<Found, String>, retry: &mut Duration) -> Option<Duration> {
        let mut names = self.names();
        let name = names.get_mut(question)?;
        name.users.retain(|user| user.is_wanted());
        if name.users.is_empty() {
            names.remove(question);
            return None;
        }
        let wait = match &looked_up {
            Ok(found) => {
                *retry = RETRY_MIN;
                found.ttl.clamp(TTL_MIN, TTL_MAX)
            }
            Err(_) => {
                let wait = *retry;
                *retry = (wait * 2).min(RETRY_MAX);
                wait
            }
        };
        let is_changed = name.take(question.name(), looked_up);
        let is_first = !name.answered.send_replace(true);
        if is_changed || is_first {
            publish(&names, &names[question].users);
        }
        Some(wait)
    }
}

/// Refreshes one name for as long as anyone uses it.
async fn refresh(shared: Weak<Shared>, question: Question) {
    let mut retry = RETRY_MIN;
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let known = shared.names().get(&question).map(|name| name.places.clone()).unwrap_or_default();
        let looked_up = shared.ask(&question, &known).await;
        let Some(wait) = shared.note(&question, looked_up, &mut retry) else { return };
        drop(shared);
        sleep(wait).await;
    }
}

impl Name {
    /// Says in the log what changed, once. True if the addresses did.
    fn take(&mut self, name: &str, looked_up: Result<Found, String>) -> bool {
        let (found, failure) = match looked_up {
            Ok(Found { places, ttl: _, missing }) => (Some(places), missing),
            Err(reason) => (None, Some(reason)),
        };
        match (&self.failure, &failure) {
            (Some(_), None) => tracing::info!(name, "the name resolves again"),
            (None, Some(reason)) if found.is_none() => {
                tracing::warn!(name, reason, kept = self.places.len(), "the name does not resolve");
            }
            (None, Some(reason)) => tracing::warn!(name, reason, "a host of the service does not resolve"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.failure = failure;
        let Some(places) = found else { return false };
        let is_changed = self.places != places;
        if is_changed && !self.places.is_empty() {
            tracing::info!(name, from = ?self.places, to = ?places, "the name has other addresses");
        }
        self.places = places;
        is_changed
    }
}

impl User {
    fn is_wanted(&self) -> bool {
        self.request.cell.strong_count() > 0
    }

    fn publish(&self, names: &Names) {
        let is_first = !self.is_live.swap(true, Ordering::Relaxed);
        match self.request.cell.upgrade() {
            Some(cell) if is_first => cell.complete(targets_of(self, names)),
            Some(cell) => cell.publish(targets_of(self, names)),
            None => {}
        }
    }

    fn questions(&self) -> impl Iterator<Item = &Question> {
        self.questions.iter().flatten()
    }
}

fn publish(names: &Names, users: &[Arc<User>]) {
    for user in users {
        let is_answered = || user.questions().all(|question| names.get(question).is_none_or(|name| *name.answered.borrow()));
        if user.is_live.load(Ordering::Relaxed) || is_answered() {
            user.publish(names);
        }
    }
}

fn unresolved(users: &[Arc<User>], names: &Names) -> Vec<Unresolved> {
    let mut questions: Vec<&Question> = users.iter().flat_map(|user| user.questions()).collect();
    questions.sort_unstable();
    questions.dedup();
    let missing = |question: &Question| {
        let name = names.get(question)?;
        let silent = if *name.answered.borrow() { "the service is said not to be offered" } else { "no answer yet" };
        let reason = || name.failure.clone().unwrap_or_else(|| silent.to_owned());
        name.places.is_empty().then(|| Unresolved { host: question.name().to_string(), reason: reason() })
    };
    questions.into_iter().filter_map(missing).collect()
}

/// Endpoints in their order, each with the addresses that it has now.
fn targets_of(user: &User, names: &Names) -> Vec<Target> {
    let endpoints = user.request.endpoints.iter().zip(&user.questions);
    let places = |question: &Option<Question>| question.as_ref().and_then(|question| names.get(question));
    let mut targets: Vec<Target> = endpoints
        .flat_map(|(endpoint, question)| service::targets(endpoint, places(question).map_or(&[], |name| &name.places)))
        .collect();
    if targets.len() > TARGETS_MAX {
        tracing::warn!(targets = targets.len(), used = TARGETS_MAX, "an upstream has too many addresses");
        targets.truncate(TARGETS_MAX);
    }
    targets
}
