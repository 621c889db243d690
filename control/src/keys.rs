//! Fetches the keys of issuers, and keeps them fresh: now and then, and at once when a token names a key that is not there. One fetch of a
//! source at a time. Never forgets keys because the next fetch fails, and judges no token.

use crate::fetch::get;
use maitred_core::identity::keys::{Bell, JWKS_BYTES_MAX};
use maitred_core::identity::{KeyCell, KeySet, KeySource, json};
use maitred_core::metrics::Metrics;
use maitred_core::{Chance, Clock};
use maitred_transport::{ClientTls, ClientTlsSpec};
use rustls::ClientConfig;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout_at};

/// Bytes of a document of discovery: they have a few thousand.
const DISCOVERY_BYTES_MAX: usize = 64 * 1024;
/// Between a failure and the next try; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A refresh comes so much sooner by chance, in thousandths: gateways that were started together do not ask together for long.
const JITTER: usize = 100;

/// Keys that somebody verifies with, and how often they are to be fetched.
#[derive(Clone)]
pub struct WantedKeys {
    pub cell: Arc<KeyCell>,
    pub refresh: Duration,
}

/// A source that has brought no keys yet. It is tried again all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfetched {
    pub source: String,
    pub reason: String,
}

/// Fetches, and goes on until it is dropped. Belongs on a runtime of the control side.
pub struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Made when the first URL is https: it reads the system's authorities.
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
    sources: Mutex<HashMap<KeySource, Source>>,
    /// Moves when the clock was turned by hand.
    turned: watch::Sender<()>,
}

/// One source, and the task that fetches it.
struct Source {
    cell: Weak<KeyCell>,
    refresh: Arc<AtomicU64>,
    /// How the last fetch went, once there was one.
    last: watch::Receiver<Option<Result<(), String>>>,
    task: AbortHandle,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keys {
    pub fn new(clock: Clock, metrics: Arc<Metrics>) -> Keys {
        let shared = Shared { clock, metrics, tls: OnceLock::new(), sources: Mutex::default(), turned: watch::Sender::new(()) };
        Keys { shared: Arc::new(shared) }
    }

    /// Begins to fetch those that are new, waiting for `patience` at most, and keeps all fresh from here on. Whatever brought no keys so
    /// far is returned.
    pub async fn fetch_all(&self, wanted: &[WantedKeys], patience: Duration) -> Vec<Unfetched> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut unfetched = Vec::new();
        for (source, cell, mut last) in self.shared.enter(wanted) {
            // Late, or ended: either way there is nothing to wait for.
            let _ = timeout_at(deadline, last.wait_for(Option::is_some)).await;
            if cell.load().is_none() {
                let reason = match &*last.borrow() {
                    Some(Err(reason)) => reason.clone(),
                    Some(Ok(())) | None => "no answer yet".to_owned(),
                };
                unfetched.push(Unfetched { source: shown(&source), reason });
            }
        }
        unfetched
    }

    /// The clock was turned.
    pub fn look_again(&self) {
        self.shared.turned.send_replace(());
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Stops the tasks, which hold `shared` only while they work.
        self.shared.sources().clear();
    }
}

type Entered = (KeySource, Arc<KeyCell>, watch::Receiver<Option<Result<(), String>>>);

impl Shared {
    fn sources(&self) -> MutexGuard<'_, HashMap<KeySource, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is wanted and how often; of one source that several want, the most impatient decides.
    fn enter(self: &Arc<Self>, wanted: &[WantedKeys]) -> Vec<Entered> {
        let mut often: HashMap<&KeySource, (&Arc<KeyCell>, Duration)> = HashMap::new();
        for WantedKeys { cell, refresh } in wanted {
            let Some(source) = cell.source() else { continue };
            let entry = often.entry(source).or_insert((cell, *refresh));
            entry.1 = entry.1.min(*refresh);
        }
        let mut sources = self.sources();
        sources.retain(|_, known| known.cell.strong_count() > 0);
        let entered = often.into_iter().map(|(source, (cell, refresh))| {
            let millis = refresh.as_millis() as u64;
            let known = sources.get(source).filter(|known| known.cell.ptr_eq(&Arc::downgrade(cell)));
            let last = match known {
                Some(known) => {
                    known.refresh.store(millis, Ordering::Relaxed);
                    known.last.clone()
                }
                None => {
                    let (refresh, (told, last)) = (Arc::new(AtomicU64::new(millis)), watch::channel(None));
                    let follower =
                        Follower { source: source.clone(), cell: Arc::downgrade(cell), refresh: refresh.clone(), told };
                    let task = tokio::spawn(follower.follow(Arc::downgrade(self), cell.wanted().clone())).abort_handle();
                    let entry = Source { cell: Arc::downgrade(cell), refresh, last: last.clone(), task };
                    sources.insert(source.clone(), entry);
                    last
                }
            };
            (source.clone(), cell.clone(), last)
        });
        entered.collect()
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        let make = || ClientTls::new(&ClientTlsSpec::default()).map(|tls| tls.config()).map_err(|problem| problem.what);
        self.tls.get_or_init(make).clone()
    }
}

/// What one task knows.
struct Follower {
    source: KeySource,
    cell: Weak<KeyCell>,
    refresh: Arc<AtomicU64>,
    told: watch::Sender<Option<Result<(), String>>>,
}

impl Follower {
    /// For as long as anyone wants the keys.
    async fn follow(self, shared: Weak<Shared>, wanted: Arc<Bell>) {
        let chance = Chance::default();
        let mut retry = RETRY_MIN;
        loop {
            // What asks while a fetch is under way waits for that one.
            let (Some(cell), Some(house)) = (self.cell.upgrade(), shared.upgrade()) else { return };
            cell.begin();
            let fetched = match house.tls() {
                Ok(tls) => fetch(&self.source, &tls).await,
                Err(why) => Err(why),
            };
            let fetched = fetched.map(|(set, document)| {
                if let Some(document) = document {
                    cell.put_document(document);
                }
                set
            });
            let asked = wanted.count();
            let refresh = Duration::from_millis(self.refresh.load(Ordering::Relaxed));
            let wait = match &fetched {
                Ok(_) => {
                    retry = RETRY_MIN;
                    refresh - refresh * chance.below(JITTER) as u32 / 1000
                }
                Err(_) => {
                    let wait = retry.min(refresh);
                    retry = (retry * 2).min(RETRY_MAX);
                    wait
                }
            };
            let (clock, turned) = (house.clock.clone(), house.turned.subscribe());
            // From the answer on, and not from when it was told: a clock that is turned then is not too early.
            let due = clock.now() + wait;
            self.note(fetched, &cell, &house.metrics);
            drop((cell, house));
            tokio::select! {
                () = rung(&wanted, asked) => {}
                () = until(due, &clock, turned) => {}
            }
        }
    }

    /// Takes an answer in, and says in the log what changed, once.
    fn note(&self, fetched: Result<KeySet, String>, cell: &KeyCell, metrics: &Metrics) {
        let source = shown(&self.source);
        let before = self.told.borrow().clone();
        let told = fetched.as_ref().map(|_| ()).map_err(String::clone);
        match (&before, &told) {
            (Some(Err(_)), Ok(())) => tracing::info!(source, "the issuer's keys can be fetched again"),
            (None | Some(Ok(())), Err(reason)) => {
                let keys = if cell.load().is_some() { "the old ones go on being used" } else { "there are none" };
                tracing::warn!(source, reason, keys, "the issuer's keys cannot be fetched");
            }
            (Some(Err(_)), Err(_)) | (None | Some(Ok(())), Ok(())) => {}
        }
        let counter = if told.is_ok() { &metrics.keys_ok } else { &metrics.keys_failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let is_first = cell.load().is_none();
        let count = fetched.as_ref().map_or(0, |set| set.keys().len());
        if cell.end(fetched.ok()) && !is_first {
            tracing::info!(source, keys = count, "the issuer has other keys");
        }
        self.told.send_replace(Some(told));
    }
}

/// Until it is rung after `count`.
pub(crate) async fn rung(bell: &Bell, count: u64) {
    poll_fn(|cx| bell.poll(count, cx)).await;
}

/// By a clock that may be turned.
pub(crate) async fn until(due: Instant, clock: &Clock, mut turned: watch::Receiver<()>) {
    while let Some(left) = due.checked_duration_since(clock.now()).filter(|left| !left.is_zero()) {
        tokio::select! {
            () = sleep(left) => {}
            changed = turned.changed() => if changed.is_err() {
                return sleep(left).await;
            },
        }
    }
}

fn shown(source: &KeySource) -> String {
    match source {
        KeySource::Url(url) => url.to_string(),
        KeySource::Discovery(issuer) => issuer.to_string(),
    }
}

/// The keys of a source, asked once, and what the issuer says of itself, if that was asked for.
async fn fetch(source: &KeySource, tls: &Arc<ClientConfig>) -> Result<(KeySet, Option<Map<String, Value>>), String> {
    let (bytes, document) = match source {
        KeySource::Url(url) => (get(url, tls, JWKS_BYTES_MAX).await?, None),
        KeySource::Discovery(issuer) => {
            let document = get(&configuration_of(issuer), tls, DISCOVERY_BYTES_MAX).await;
            let document = json::object(&document.map_err(|why| format!("discovery: {why}"))?);
            let document = document.map_err(|why| format!("discovery: no JSON to go by: {why}"))?;
            (get(&jwks_uri(issuer, &document)?, tls, JWKS_BYTES_MAX).await?, Some(document))
        }
    };
    Ok((KeySet::parse(&bytes)?, document))
}

/// OpenID Connect Discovery 1.0 §4: a slash at the issuer's end is not doubled.
fn configuration_of(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

/// §4.3: a document of another issuer is nothing to go by.
fn jwks_uri(issuer: &str, document: &Map<String, Value>) -> Result<String, String> {
    match document.get("issuer") {
        Some(Value::String(other)) if other == issuer => {}
        Some(Value::String(other)) => return Err(format!("discovery: the document is of {other:?}")),
        Some(_) | None => return Err("discovery: the document names no issuer".to_owned()),
    }
    match document.get("jwks_uri") {
        // Whoever asked by TLS does not go on without.
        Some(Value::String(uri)) if issuer.starts_with("https://") && !uri.starts_with("https://") => {
            Err(format!("discovery: the keys are at {uri:?}, which is not https"))
        }
        Some(Value::String(uri)) => Ok(uri.clone()),
        Some(_) | None => Err("discovery: the document has no `jwks_uri`".to_owned()),
    }
}

/// The keys of a source, for whoever wants them once. Waits as long as a fetch may take.
pub async fn fetch_once(source: &KeySource) -> Result<KeySet, String> {
    let tls = ClientTls::new(&ClientTlsSpec::default()).map_err(|problem| problem.what)?.config();
    fetch(source, &tls).await.map(|(set, _)| set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_s_document_is_where_the_standard_says() {
        for (issuer, url) in [
            ("https://id.example", "https://id.example/.well-known/openid-configuration"),
            ("https://id.example/", "https://id.example/.well-known/openid-configuration"),
            ("https://id.example/realms/a/", "https://id.example/realms/a/.well-known/openid-configuration"),
        ] {
            assert_eq!(configuration_of(issuer), url);
        }
    }

    #[test]
    fn a_document_of_another_issuer_leads_nowhere() {
        let read = |issuer: &str, text: &str| jwks_uri(issuer, &json::object(text.as_bytes())?);
        let good = r#"{"issuer":"https://id.example","jwks_uri":"https://keys.example/k"}"#;
        assert_eq!(read("https://id.example", good).as_deref(), Ok("https://keys.example/k"));
        for (issuer, text) in [
            ("https://id.example/", good),
            ("https://other.example", good),
            ("https://id.example", r#"{"issuer":"https://id.example","jwks_uri":"http://keys.example/k"}"#),
            ("https://id.example", r#"{"issuer":"https://id.example","jwks_uri":"file:///etc/passwd"}"#),
            ("https://id.example", r#"{"issuer":"https://id.example"}"#),
            ("https://id.example", r#"{"issuer":"https://id.example","issuer":"x","jwks_uri":"https://x"}"#),
            ("https://id.example", r#"{"jwks_uri":"https://x"}"#),
            ("https://id.example", "<html>"),
        ] {
            assert!(read(issuer, text).is_err(), "{issuer} {text}");
        }
    }
}
