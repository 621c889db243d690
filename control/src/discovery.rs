//! Finds the addresses behind the endpoints' names and keeps them fresh by their TTL. Never forgets a good answer because the next one
//! fails. Connects to nothing, and knows nothing of health: workers find out who answers.

mod system;
pub mod testing;
#[cfg(test)]
mod tests;

pub use system::SystemResolver;

use maitred_core::Remote;
use maitred_model::Authority;
use maitred_transport::{Target, TargetCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

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

pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Answer, String>> + Send + 'a>>;

/// Who knows addresses. `Err` says why there are none, for the log.
pub trait Resolve: Send + Sync + 'static {
    fn lookup<'a>(&'a self, host: &'a str) -> Lookup<'a>;
}

/// An endpoint as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    pub authority: Authority,
    /// The Host that its targets are sent.
    pub authority_text: Arc<str>,
    /// Prefixed to every path.
    pub prefix: Arc<str>,
    pub weight: u32,
    pub zone: Option<Arc<str>>,
    pub priority: u8,
}

/// One upstream's addresses are wanted, for as long as anyone else holds the cell. A cell has the same endpoints every time.
#[derive(Debug, Clone)]
pub struct Request {
    pub cell: Weak<TargetCell>,
    pub endpoints: Vec<EndpointSpec>,
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

type Names = HashMap<Arc<str>, Name>;

/// A name that some upstream uses. One task refreshes it, for all of them.
struct Name {
    /// The last good answer, sorted; it stays when a later lookup fails.
    addresses: Vec<IpAddr>,
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
            user.is_live.store(true, Ordering::Relaxed);
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
        let user = Arc::new(User { request: request.clone(), is_live: AtomicBool::new(false) });
        for host in hosts(request) {
            let name = names.entry(host.into()).or_insert_with_key(|host| Name {
                addresses: Vec::new(),
                failure: None,
                users: Vec::new(),
                answered: watch::Sender::new(false),
                refreshing: tokio::spawn(refresh(Arc::downgrade(self), host.clone())).abort_handle(),
            });
            // A cell that is handed in again is the same upstream after a reload.
            name.users.retain(|other| !other.request.cell.ptr_eq(&request.cell) && other.is_wanted());
            name.users.push(user.clone());
        }
        user
    }

    fn answers(&self, user: &User) -> Vec<watch::Receiver<bool>> {
        let names = self.names();
        hosts(&user.request).filter_map(|host| Some(names.get(host)?.answered.subscribe())).collect()
    }

    async fn lookup(&self, host: &str) -> Result<Answer, String> {
        let _turn = self.lookups.acquire().await.map_err(|error| error.to_string())?;
        let looked_up = timeout(LOOKUP_TIME_MAX, self.resolver.lookup(host)).await;
        let mut answer = looked_up.unwrap_or_else(|_| Err(format!("no answer within {} s", LOOKUP_TIME_MAX.as_secs())))?;
        if answer.addresses.is_empty() {
            return Err("the name has no address".to_owned());
        }
        // IPv4 sorts before IPv6. Answers come in turns of their own; sorted, the same addresses are no change.
        answer.addresses.sort_unstable();
        answer.addresses.dedup();
        answer.addresses.truncate(ADDRESSES_MAX);
        Ok(answer)
    }

    /// Takes an answer in: when to ask again, or `None` if nobody wants to know any more.
    fn note(&self, host: &Arc<str>, looked_up: Result<Answer, String>, retry: &mut Duration) -> Option<Duration> {
        let mut names = self.names();
        let name = names.get_mut(host)?;
        name.users.retain(|user| user.is_wanted());
        if name.users.is_empty() {
            names.remove(host);
            return None;
        }
        let wait = match &looked_up {
            Ok(answer) => {
                *retry = RETRY_MIN;
                answer.ttl.clamp(TTL_MIN, TTL_MAX)
            }
            Err(_) => {
                let wait = *retry;
                *retry = (wait * 2).min(RETRY_MAX);
                wait
            }
        };
        let is_changed = name.take(host, looked_up);
        let is_first = !name.answered.send_replace(true);
        if is_changed || is_first {
            publish(&names, &names[host].users);
        }
        Some(wait)
    }
}

/// Refreshes one name for as long as anyone uses it.
async fn refresh(shared: Weak<Shared>, host: Arc<str>) {
    let mut retry = RETRY_MIN;
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let looked_up = shared.lookup(&host).await;
        let Some(wait) = shared.note(&host, looked_up, &mut retry) else { return };
        drop(shared);
        sleep(wait).await;
    }
}

impl Name {
    /// Says in the log what changed, once. True if the addresses did.
    fn take(&mut self, host: &str, looked_up: Result<Answer, String>) -> bool {
        match looked_up {
            Ok(answer) => {
                if self.failure.take().is_some() {
                    tracing::info!(host, "the name resolves again");
                }
                let is_changed = self.addresses != answer.addresses;
                if is_changed && !self.addresses.is_empty() {
                    tracing::info!(host, from = ?self.addresses, to = ?answer.addresses, "the name has other addresses");
                }
                self.addresses = answer.addresses;
                is_changed
            }
            Err(reason) => {
                if self.failure.is_none() {
                    tracing::warn!(host, reason, kept = self.addresses.len(), "the name does not resolve");
                }
                self.failure = Some(reason);
                false
            }
        }
    }
}

impl User {
    fn is_wanted(&self) -> bool {
        self.request.cell.strong_count() > 0
    }

    fn publish(&self, names: &Names) {
        if let Some(cell) = self.request.cell.upgrade() {
            cell.publish(targets_of(&self.request.endpoints, |host| names.get(host).map_or(&[], |name| &name.addresses)));
        }
    }
}

fn publish(names: &Names, users: &[Arc<User>]) {
    for user in users {
        let is_answered = || hosts(&user.request).all(|host| names.get(host).is_none_or(|name| *name.answered.borrow()));
        if user.is_live.load(Ordering::Relaxed) || is_answered() {
            user.is_live.store(true, Ordering::Relaxed);
            user.publish(names);
        }
    }
}

fn hosts(request: &Request) -> impl Iterator<Item = &str> {
    request.endpoints.iter().filter_map(|endpoint| match &endpoint.authority {
        Authority::Name { host, port: _, every: _ } => Some(host.as_str()),
        Authority::Address(_) | Authority::Unix(_) | Authority::Service(_) => None,
    })
}

fn unresolved(users: &[Arc<User>], names: &Names) -> Vec<Unresolved> {
    let mut hosts: Vec<&str> = users.iter().flat_map(|user| hosts(&user.request)).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let missing = |host: &str| {
        let name = names.get(host)?;
        let reason = || name.failure.clone().unwrap_or_else(|| "no answer yet".to_owned());
        name.addresses.is_empty().then(|| Unresolved { host: host.to_owned(), reason: reason() })
    };
    hosts.into_iter().filter_map(missing).collect()
}

/// Endpoints in their order, each with the addresses that it has now.
fn targets_of<'n>(endpoints: &[EndpointSpec], addresses: impl Fn(&str) -> &'n [IpAddr]) -> Vec<Target> {
    let mut targets = Vec::new();
    for EndpointSpec { authority, authority_text, prefix, weight, zone, priority } in endpoints {
        let target = |address, weight| Target {
            address,
            authority: authority_text.clone(),
            prefix: prefix.clone(),
            weight,
            zone: zone.clone(),
            priority: *priority,
        };
        match authority {
            Authority::Address(address) => targets.push(target(Remote::Tcp(*address), *weight)),
            Authority::Unix(path) => targets.push(target(Remote::Unix(path.as_path().into()), *weight)),
            Authority::Service(_) => {}
            Authority::Name { host, port, every } => {
                let place = |(index, ip): (usize, &IpAddr)| {
                    // Of a plain name the first address has the turns. The others stand right behind it, where they are tried next.
                    let weight = if *every || index == 0 { *weight } else { 0 };
                    target(Remote::Tcp(SocketAddr::new(*ip, *port)), weight)
                };
                targets.extend(addresses(host).iter().enumerate().map(place));
            }
        }
    }
    if targets.len() > TARGETS_MAX {
        tracing::warn!(targets = targets.len(), used = TARGETS_MAX, "an upstream has too many addresses");
        targets.truncate(TARGETS_MAX);
    }
    targets
}
