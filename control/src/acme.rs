//! Certificates by ACME (RFC 8555): obtains one for each domain, renews it in time, and puts it where listeners look for it. A
//! failing order disturbs nobody: what was obtained is served until something better comes.
//!
//! One certificate for each domain: one that cannot be validated keeps no other from its certificate.

mod account;
mod answers;
mod held;
mod http;
mod order;
mod schedule;
mod storage;
mod table;

use account::Authority;
use answers::Answers;
use held::Held;
use maitred_core::Clock;
use maitred_core::metrics::Metrics;
use maitred_model::{Acme as Configured, Document};
use maitred_transport::{HttpChallenges, IssuedCertificates};
use order::{Order, Ways};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use table::{Found, Key, Set, Table, Work};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id, JoinSet};

/// Orders at once: authorities count them, and a hundred domains are done in minutes all the same.
const WORKS_MAX: usize = 4;
/// How long it sleeps at most: the wall clock may be set meanwhile.
const SLEEP_MAX: i64 = 3600;
/// Domains named by those who ask what is waited for; more would say no more.
const WAITING_MAX: usize = 3;

/// What a configuration wants: for each `acme` in it, where its certificates go.
#[derive(Default)]
pub struct Plan {
    sets: Vec<(Configured, Arc<IssuedCertificates>)>,
    ways: Ways,
}

impl Plan {
    pub fn new<'a>(document: &Document, issued: impl Iterator<Item = (&'a Configured, &'a Arc<IssuedCertificates>)>) -> Plan {
        let sets = issued.map(|(acme, issued)| (acme.clone(), issued.clone())).collect();
        Plan { sets, ways: Ways::of(document) }
    }
}

/// A plan whose certificates, as far as they are at hand, are in place; nothing is ordered for it yet.
pub struct Prepared {
    sets: Vec<Set>,
    found: HashMap<Key, Found>,
    ways: Ways,
}

/// The job. It ends when this is dropped.
pub struct Acme {
    shared: Arc<Shared>,
    job: AbortHandle,
}

struct Shared {
    clock: Clock,
    metrics: Arc<Metrics>,
    answers: Arc<Answers>,
    table: Mutex<Table>,
    wake: Notify,
}

impl Acme {
    /// `challenges`: where the data plane looks for answers.
    pub fn start(runtime: &Handle, clock: Clock, metrics: Arc<Metrics>, challenges: Arc<HttpChallenges>) -> Acme {
        let answers = Answers::new(challenges);
        let shared = Arc::new(Shared { clock, metrics, answers, table: Mutex::default(), wake: Notify::new() });
        let job = runtime.spawn(run(shared.clone())).abort_handle();
        Acme { shared, job }
    }

    /// Puts what was obtained before, by this process or an earlier one, where the listeners of a plan will look for it. Fails where
    /// nothing could be kept. Nothing else changes.
    pub fn prepare(&self, plan: Plan) -> Result<Prepared, String> {
        let mut prepared = Prepared { sets: Vec::new(), found: HashMap::new(), ways: plan.ways };
        let now = self.shared.now();
        for (acme, issued) in plan.sets {
            let mine = prepared.found.values().map(|found| &found.authority).find(|authority| authority.is(&acme)).cloned();
            let authority = mine.or_else(|| self.shared.table().authority(&acme));
            let authority = authority.map_or_else(|| Authority::new(&acme).map(Arc::new), Ok)?;
            authority.storage.prepare().map_err(|error| {
                let folder = authority.storage.folder().display();
                format!("certificates cannot be kept in the folder {folder}: {error}")
            })?;
            let identity = Authority::identity(&acme);
            let mut keys = Vec::with_capacity(acme.domains.len());
            for domain in &acme.domains {
                let key = Key { authority: identity.clone(), domain: domain.value.as_str().into() };
                if !prepared.found.contains_key(&key) {
                    let known = self.shared.table().held(&key);
                    let held = known.or_else(|| stored(&authority, &key.domain));
                    held.iter().for_each(|held| warn_of_end(&key.domain, held, now));
                    prepared.found.insert(key.clone(), Found { authority: authority.clone(), held, challenge: acme.challenge });
                }
                keys.push(key);
            }
            let set = Set { issued, keys };
            set.fill(|key| prepared.found.get(key)?.held.clone());
            prepared.sets.push(set);
        }
        Ok(prepared)
    }

    /// From here on this plan is followed: what is new is ordered, what is in no plan any more is forgotten.
    pub fn apply(&self, prepared: Prepared) {
        let Prepared { sets, found, ways } = prepared;
        self.shared.answers.follow(sets.iter().map(|set| set.issued.clone()).collect());
        self.shared.table().follow(sets, found, ways, self.shared.now());
        self.look_again();
    }

    /// What domains have no certificate yet, in words; `None`: all have one.
    pub fn waiting(&self) -> Option<String> {
        let table = self.shared.table();
        let domains = table.waiting();
        let (named, others) = domains.split_at(domains.len().min(WAITING_MAX));
        let more = match others.len() {
            0 => String::new(),
            1 => " and 1 other".to_owned(),
            many => format!(" and {many} others"),
        };
        (!named.is_empty()).then(|| format!("waiting for a certificate for {}{more}", named.join(", ")))
    }

    /// Orders nothing any more, whatever is under way: nobody would answer the authority.
    pub fn stop(&self) {
        self.job.abort();
    }

    /// The clock was turned, or the plan has changed.
    pub fn look_again(&self) {
        self.shared.wake.notify_one();
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> i64 {
        self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64
    }
}

/// The certificate that is in the folder, if it can be used; one that has ended can.
fn stored(authority: &Authority, domain: &str) -> Option<Arc<Held>> {
    let folder = || authority.storage.folder().display();
    let bytes = match authority.storage.certificate(domain) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::error!(domain, folder = %folder(), %error, "the certificate that was kept cannot be read");
            return None;
        }
    };
    let held = Held::read(bytes, domain);
    held.inspect_err(|wrong| {
        tracing::error!(domain, folder = %folder(), wrong, "the certificate that was kept cannot be used");
    })
    .ok()
    .map(Arc::new)
}

/// Of a certificate that has ended: a client that sees when knows more than one that sees nothing.
fn warn_of_end(domain: &str, held: &Held, now: i64) {
    if held.life.not_after <= now {
        let ended = table::time(held.life.not_after);
        tracing::warn!(domain, ended, "the certificate has ended; it is served until a new one comes");
    }
}

async fn run(shared: Arc<Shared>) {
    let mut works = JoinSet::new();
    let mut keys: HashMap<Id, Key> = HashMap::new();
    loop {
        let now = shared.now();
        let next = loop {
            let mut table = shared.table();
            match (works.len() < WORKS_MAX).then(|| table.begin(now)).flatten() {
                Some((key, work)) => {
                    let task = works.spawn(work_on(shared.clone(), key.clone(), work));
                    keys.insert(task.id(), key);
                }
                None => break table.next(now),
            }
        };
        let sleep = Duration::from_secs((next - now).clamp(1, SLEEP_MAX) as u64);
        tokio::select! {
            Some(done) = works.join_next_with_id(), if !works.is_empty() => match done {
                Ok((id, ())) => drop(keys.remove(&id)),
                // What was said of it is in the log; the domain must not wait for ever for an order that nobody is at.
                Err(error) => {
                    if let Some(key) = keys.remove(&error.id()) {
                        shared.table().note_failure(&key, "the order panicked", None, shared.now());
                    }
                }
            },
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

async fn work_on(shared: Arc<Shared>, key: Key, work: Work) {
    match work {
        Work::Order { authority, held, replaces, failures, ways } => {
            let domain = key.domain.clone();
            if let Some(other) = newer(&authority, &domain, held.as_deref(), shared.now()).await {
                tracing::info!(domain = &*domain, "another gateway has obtained the certificate");
                return shared.table().note_held(&key, other, shared.now());
            }
            tracing::info!(
                domain = &*domain,
                directory = authority.directory,
                renewal = held.is_some(),
                "ordering a certificate"
            );
            let (answers, clock) = (shared.answers.clone(), shared.clock.clone());
            let order = Order { authority: authority.clone(), domain, answers, ways, failures, replaces, clock };
            let obtained = order.obtain().await;
            match obtained {
                Ok(held) => {
                    keep(&authority, &key.domain, &held).await;
                    // Within its lock: whoever sees the one sees the other.
                    let mut table = shared.table();
                    table.note_held(&key, Arc::new(held), shared.now());
                    shared.metrics.acme_ok.fetch_add(1, Ordering::Relaxed);
                }
                Err(failure) => {
                    let mut table = shared.table();
                    table.note_failure(&key, &failure.what, failure.patience, shared.now());
                    shared.metrics.acme_failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Work::Ask { authority, id } => {
            let asked = ask(&shared, &authority, &id).await;
            if let Err(error) = &asked {
                tracing::debug!(domain = &*key.domain, %error, "the authority does not say when to renew");
            }
            shared.table().note_wish(&key, asked.ok(), shared.now());
        }
    }
}

/// What another gateway with the same folder has put there since.
async fn newer(authority: &Arc<Authority>, domain: &Arc<str>, held: Option<&Held>, now: i64) -> Option<Arc<Held>> {
    let (authority, domain) = (authority.clone(), domain.clone());
    let found = tokio::task::spawn_blocking(move || stored(&authority, &domain)).await.ok()??;
    let is_newer = held.is_none_or(|held| held.life.not_after < found.life.not_after);
    (is_newer && now < found.life.renew_at(0.0)).then_some(found)
}

async fn keep(authority: &Authority, domain: &Arc<str>, held: &Held) {
    let (storage, pem, name) = (authority.storage.clone(), held.pem().to_vec(), domain.clone());
    if let Err(error) = account::elsewhere(move || storage.keep_certificate(&name, &pem)).await {
        let folder = authority.storage.folder().display();
        tracing::error!(domain = &**domain, %folder, %error, "a certificate cannot be kept: after a restart it is ordered again");
    }
}

/// When the authority would like the renewal (RFC 9773), and in how many seconds to ask again.
async fn ask(
    shared: &Shared,
    authority: &Authority,
    id: &instant_acme::CertificateIdentifier<'static>,
) -> Result<(i64, i64, i64), String> {
    let http = authority.http(shared.clock.clone());
    let account = authority.account(&http).await?;
    let (info, again) = account.renewal_info(id).await.map_err(|error| error.to_string())?;
    let window = info.suggested_window;
    Ok((window.start.unix_timestamp(), window.end.unix_timestamp(), again.as_secs() as i64))
}

#[cfg(test)]
mod tests;
