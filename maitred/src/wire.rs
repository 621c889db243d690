//! Puts the house together in its order: watch → read → host → compile → names → keys → certificates → bind → the word of the process before → admin;
//! `running.rs` takes it apart again. What each part does is that part's own affair.

mod running;

use crate::cli::LogFormat;
use crate::configuration::{Source, Watching, compiled, read};
use crate::hosting;
use crate::logging::Announcer;
use crate::output::{Exit, error, in_color, say};
use crate::reload::{Cause, LastReload};
use crate::remote::reachable;
use crate::signals;
use crate::sockets::Sockets;
use crate::systemd::Notifier;
use crate::upgrade::{Inheritance, Invocation, Predecessor, Stage, Succession};
use crate::upstreams;
use crate::watchdog::Watchdog;
use anyhow::Context;
use jiff::Timestamp;
use maitred_control::functions::token::Token;
use maitred_control::{
    Acme, Admin, AdminConfig, AwsKeys, Checks, Discovery, Fetcher, Keys, Plan, Request, Settings, Store, SystemResolver,
    Unfetched, Unresolved, WantedKeys, Watched, Watcher, consumers, watch,
};
use maitred_core::{Clock, Remote};
use maitred_dataplane::{Gateway, LogTarget, Offered, Options, Snapshot, State, authority};
use maitred_host::Host;
use maitred_model::Document;
use maitred_transport::UpstreamSpec;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

pub use running::Running;

/// For the names of all upstreams at a start or a reload: who waits longer wonders whether it hangs.
const NAMES_TIME_MAX: Duration = Duration::from_secs(5);
/// For the keys of all issuers, likewise: an issuer that is down does not keep the gateway from starting.
const KEYS_TIME_MAX: Duration = Duration::from_secs(5);
/// Threads of the control side: one may be busy with a long list while the other answers a probe.
const CONTROL_THREADS: usize = 2;
/// Reloads asked for and not begun; one more would say the same.
const RELOADS_WAITING_MAX: usize = 4;
/// Upgrades asked for by signal and not begun.
const UPGRADES_WAITING_MAX: usize = 1;
/// Stop signals not looked at yet: the first drains, the second ends. An upgrade may be waiting with them.
const ENDS_WAITING_MAX: usize = 3;

/// All that is running, for those who ask and those who reload.
pub struct House {
    pub gateway: Gateway,
    pub state: State,
    pub source: Source,
    pub runtime: tokio::runtime::Handle,
    pub discovery: Discovery,
    pub keys: Keys,
    pub aws: AwsKeys,
    pub acme: Acme,
    pub checks: Checks,
    pub store: Store,
    /// Runs what the configuration has of functions; idle where it has none.
    pub host: Arc<Host>,
    pub watcher: Option<Watcher>,
    /// What the admin listener was started with.
    pub admin: maitred_model::Admin,
    /// What it asks for, as soon as there is one.
    pub token: Token,
    /// What the workers were started with.
    pub counters: maitred_model::Counters,
    pub started: (Timestamp, Instant),
    pub last: Mutex<Option<LastReload>>,
    /// One reload at a time, and none during an upgrade.
    pub turn: Mutex<()>,
    pub notifier: Arc<Notifier>,
    pub succession: Succession,
}

/// Why nothing runs.
pub enum NotStarted {
    /// The diagnostics, which were shown.
    Refused(String),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for NotStarted {
    fn from(error: anyhow::Error) -> NotStarted {
        NotStarted::Failed(error)
    }
}

impl NotStarted {
    pub fn tell(self) -> Exit {
        match self {
            NotStarted::Refused(_) => Exit::Refused,
            NotStarted::Failed(failure) => {
                error(&failure);
                Exit::CannotStart
            }
        }
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotStarted::Refused(words) => f.write_str(words),
            NotStarted::Failed(failure) => write!(f, "{failure:#}"),
        }
    }
}

/// Accepts connections when it returns. If there was a process before this one, it has let go by then.
pub fn start(source: Source, format: LogFormat, inheritance: Inheritance) -> Result<Running, NotStarted> {
    raise_descriptors();
    let Inheritance { invocation, predecessor, systemd, sockets } = inheritance;
    let watchdog = systemd.watchdog(std::process::id());
    let notifier = Arc::new(systemd.notifier());
    let started = Sockets::new(predecessor.as_ref(), sockets)
        .map_err(NotStarted::from)
        .and_then(|sockets| assemble(source, format, (invocation, notifier), sockets, predecessor.as_ref()));
    if let (Err(not_started), Some(predecessor)) = (&started, &predecessor) {
        predecessor.failed(&not_started.to_string());
    }
    let mut running = started?;
    let house = &running.house;
    if let Some(interval) = watchdog {
        let watchdog = Watchdog::start(interval, house.gateway.pulse(), house.notifier.clone());
        running.watchdog = Some(watchdog.context("cannot start the watchdog thread")?);
    }
    Ok(running)
}

fn assemble(
    source: Source,
    format: LogFormat,
    (invocation, notifier): (Option<Invocation>, Arc<Notifier>),
    mut sockets: Sockets,
    predecessor: Option<&Predecessor>,
) -> Result<Running, NotStarted> {
    let started = (now(), Instant::now());
    let runtime = control_runtime()?;
    let (reloads, asked) = sync_channel(RELOADS_WAITING_MAX);
    let (upgrades, upgrades_asked) = sync_channel(UPGRADES_WAITING_MAX);
    let (end, ends) = sync_channel(ENDS_WAITING_MAX);
    signals::listen(runtime.handle(), reloads.clone(), upgrades, end.clone()).context("cannot listen to signals")?;
    let watcher = watcher(&source, reloads);
    let fetcher = Arc::new(Fetcher::new(runtime.handle().clone()));
    let Loaded { state, host, snapshot, watched, token } = load(&source, format, sockets.ticket_secret, fetcher.clone())?;
    follow(watcher.as_ref(), watched);
    let store = open_store(&snapshot.document, &state)?;
    let discovery = Discovery::new(Arc::new(SystemResolver::new()));
    warn_unresolved(&runtime.block_on(resolve(&discovery, &snapshot)));
    if let Some(wrong) = leads_to_admin(&snapshot) {
        error(&anyhow::anyhow!(wrong.clone()));
        return Err(NotStarted::Refused(wrong));
    }
    let keys = Keys::new(state.clock.clone(), state.metrics.clone());
    warn_unfetched(&runtime.block_on(fetch(&keys, &snapshot)));
    let aws = AwsKeys::new(runtime.handle().clone(), state.clock.clone(), fetcher, Arc::new(maitred_control::aws::settings));
    aws.keep(snapshot.credentials());
    let (admin, counters) = (snapshot.document.admin.clone(), snapshot.document.counters.clone());
    let acme = Acme::start(runtime.handle(), state.clock.clone(), state.metrics.clone(), state.challenges.clone());
    let certificates = acme.prepare(plan(&snapshot)).map_err(anyhow::Error::msg)?;
    upstreams::take_out(&snapshot, &sockets.drained, state.clock.now());
    let checks = Checks::new(state.clock.clone());
    let gateway = bind(snapshot, &mut sockets.listeners)?;
    let (listener, copy) = bind_admin(admin_config(&admin, &token, &state, &host), &mut sockets)?;
    host.is_spoken_to(reachable(listener.local_addr().context("the admin listener has no address")?));
    sockets.warn_left();
    let house = Arc::new(House {
        gateway,
        state,
        source,
        runtime: runtime.handle().clone(),
        discovery,
        keys,
        aws,
        acme,
        checks,
        store,
        host,
        watcher,
        admin,
        token,
        counters,
        started,
        last: Mutex::default(),
        turn: Mutex::default(),
        notifier,
        succession: Succession {
            invocation,
            turn: Mutex::default(),
            stage: Mutex::new(Stage::Serving),
            admin: Mutex::new(Some(copy)),
            ends: end,
        },
    });
    house.check_endpoints();
    reload_when_asked(Arc::downgrade(&house), asked)?;
    upgrade_when_asked(Arc::downgrade(&house), upgrades_asked)?;
    if let Some(predecessor) = predecessor {
        predecessor.ready(sockets.listeners.taken())?;
        // What the process from before counted until it gave the word: it goes on from there.
        house.store.keep_usage();
        house.notifier.main_pid(std::process::id());
    }
    house.gateway.open();
    // Nobody could have answered the authority before.
    house.acme.apply(certificates);
    let config = admin_config(&house.admin, &house.token, &house.state, &house.host);
    let admin = runtime.block_on(Admin::serve(listener, config, house.clone()));
    let admin = admin.with_context(|| cannot_start_admin(house.admin.listen.value))?;
    let announcer = Announcer(format);
    for (listener, configured) in house.gateway.listeners().iter().zip(&house.gateway.snapshot().document.listen) {
        announcer.listening(listener, configured.tls.is_some());
    }
    announcer.address("admin", admin.address());
    Ok(Running { house, runtime, admin: Some(admin), ends, watchdog: None })
}

/// What a start has when nothing is wrong with the configuration.
struct Loaded {
    state: State,
    host: Arc<Host>,
    snapshot: Snapshot,
    watched: Watching,
    token: Token,
}

/// Reads, checks and compiles; tells what is wrong.
fn load(
    source: &Source,
    format: LogFormat,
    ticket_secret: Option<[u8; 32]>,
    fetcher: Arc<Fetcher>,
) -> Result<Loaded, NotStarted> {
    let mut read = read(source);
    let workers = workers(read.document.as_ref().and_then(|document| document.workers));
    let state = match ticket_secret {
        Some(secret) => State::with(workers, secret, Clock::default()),
        None => State::new(workers),
    }
    .fetching_by(fetcher)
    .aws_by(Arc::new(maitred_control::aws::settings));
    let host = Arc::new(Host::new(hosting::options(&read, &state)));
    // A port that the system picks is not known yet.
    if let Some(listen) = read.document.as_ref().map(|document| document.admin.listen.value).filter(|listen| listen.port() != 0) {
        host.is_spoken_to(reachable(listen));
    }
    let state = state.hosting_by(host.clone());
    let token = Token::new(read.document.as_ref().and_then(|document| document.admin.token.clone()));
    if let Some(document) = &read.document {
        hosting::settle(&token, document)?;
    }
    let snapshot = compiled(&mut read, &state);
    if !read.diagnostics.is_empty() {
        match (format, &snapshot) {
            (LogFormat::Text, _) => say(&read.render(in_color(&io::stderr()))),
            (LogFormat::Json, Some(_)) => tracing::warn!("{}", read.render(false)),
            (LogFormat::Json, None) => tracing::error!("{}", read.render(false)),
        }
    }
    let snapshot = snapshot.ok_or_else(|| NotStarted::Refused(read.render(false)))?;
    Ok(Loaded { state, host, snapshot, watched: read.watched, token })
}

/// Whoever was disabled in it must not come in because it cannot be read: then nothing starts.
fn open_store(document: &Document, state: &State) -> anyhow::Result<Store> {
    let store = Store::open(&document.store, settings(document), state.consumers.clone(), state.clock.clone());
    let store = store.with_context(|| {
        let path = document.store.display();
        format!(
            "cannot use the store {path} (put it right, move it away to begin with an empty one, or name another with `store:`)"
        )
    })?;
    consumers::warn_hidden(document, &store);
    Ok(store)
}

/// What the store takes of a configuration.
pub fn settings(document: &Document) -> Settings {
    let secret_key = document.secret_key.as_ref().map(|secret| secret.expose().as_bytes().to_vec());
    Settings { secret_key, plans: document.plans.keys().cloned().collect() }
}

/// How many workers a configuration means.
pub fn workers(configured: Option<NonZeroU16>) -> usize {
    match configured {
        Some(workers) => usize::from(workers.get()),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn control_runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(CONTROL_THREADS).thread_name("control").enable_all();
    builder.build().context("cannot start the control threads")
}

/// Without a watcher the rest works: a signal reloads too.
fn watcher(source: &Source, reloads: SyncSender<Cause>) -> Option<Watcher> {
    let files = source.first_files();
    if files.is_empty() {
        return None;
    }
    // When the places are taken, a reload is coming anyway.
    let changed = move || {
        let _ = reloads.try_send(Cause::File);
    };
    watch(files, changed)
        .inspect_err(|error| tracing::warn!(%error, "changed files go unseen; SIGHUP and `POST /reload` work"))
        .ok()
}

pub fn follow(watcher: Option<&Watcher>, Watching { files, code }: Watching) {
    if let Some(Err(error)) = watcher.map(|watcher| watcher.set(files, code)) {
        tracing::warn!(%error, "cannot watch all files of the configuration");
    }
}

/// Looks up all names, and keeps them fresh from here on.
pub async fn resolve(discovery: &Discovery, snapshot: &Snapshot) -> Vec<Unresolved> {
    let upstreams = snapshot.upstreams();
    let requests: Vec<Request> =
        upstreams.filter_map(|(spec, endpoints)| Request::of(&spec.targets, endpoints, authority)).collect();
    discovery.resolve_all(&requests, NAMES_TIME_MAX).await
}

/// Fetches the keys of all issuers, and keeps them fresh from here on.
pub async fn fetch(keys: &Keys, snapshot: &Snapshot) -> Vec<Unfetched> {
    let wanted = snapshot.keys().map(|(cell, refresh)| WantedKeys { cell: cell.clone(), refresh });
    keys.fetch_all(&wanted.collect::<Vec<_>>(), KEYS_TIME_MAX).await
}

pub fn warn_unfetched(unfetched: &[Unfetched]) {
    for Unfetched { source, reason } in unfetched {
        tracing::warn!(source, reason, "no keys are known; tokens of this issuer are answered 503 until there are some");
    }
}

/// The certificates that a configuration wants from authorities.
pub fn plan(snapshot: &Snapshot) -> Plan {
    Plan::new(&snapshot.document, snapshot.issued())
}

/// An upstream whose name leads to the admin listener would open it to every client. Numbers are compared by `check`.
pub fn leads_to_admin(snapshot: &Snapshot) -> Option<String> {
    let admin = snapshot.document.admin.listen.value;
    let (ip, port) = (admin.ip().to_canonical(), admin.port());
    let is_admin = |address: SocketAddr| {
        let other = address.ip().to_canonical();
        port != 0 && address.port() == port && (other == ip || (ip.is_unspecified() && other.is_loopback()))
    };
    let leads = |remote: &Remote| match remote {
        Remote::Tcp(address) => is_admin(*address),
        Remote::Unix(_) => false,
    };
    let found = |spec: &UpstreamSpec| spec.targets.load().targets.iter().any(|target| leads(&target.address));
    let (spec, _) = snapshot.upstreams().find(|(spec, _)| found(spec))?;
    Some(format!(
        "the name of an endpoint of upstream `{}` leads to the admin listener {admin}: clients would reach it",
        spec.name
    ))
}

pub fn warn_unresolved(unresolved: &[Unresolved]) {
    for Unresolved { host, reason } in unresolved {
        tracing::warn!(host, reason, "no address is known; its upstream answers 503 until there is one");
    }
}

fn bind(snapshot: Snapshot, offered: &mut Offered) -> anyhow::Result<Gateway> {
    let log = LogTarget::open(&snapshot.document.telemetry.access_log).context("cannot open the access log")?;
    Ok(Gateway::prepare(snapshot, log, Options::default(), offered)?)
}

/// The admin listener, which answers nobody yet, and a copy of it for the process that comes after.
fn bind_admin(config: AdminConfig, sockets: &mut Sockets) -> anyhow::Result<(TcpListener, OwnedFd)> {
    let offered = sockets.take_admin(&config.listen.to_string());
    let bound = Admin::bind(&config, offered).and_then(|listener| Ok((listener.try_clone()?, listener)));
    let (listener, copy) = bound.with_context(|| cannot_start_admin(config.listen))?;
    Ok((listener, copy.into()))
}

fn admin_config(admin: &maitred_model::Admin, token: &Token, state: &State, host: &Host) -> AdminConfig {
    AdminConfig {
        listen: admin.listen.value,
        token: token.clone(),
        metrics: admin.metrics,
        function_key: host.options().key.clone(),
        region: host.options().region.clone(),
        clock: state.clock.clone(),
    }
}

fn cannot_start_admin(listen: SocketAddr) -> String {
    format!("cannot start the admin listener on {listen}")
}

/// The thread that reloads for files and signals. It does not keep the house alive, and ends with it.
fn reload_when_asked(house: Weak<House>, asked: Receiver<Cause>) -> anyhow::Result<()> {
    let work = move || {
        while let Ok(cause) = asked.recv() {
            let Some(house) = house.upgrade() else { return };
            // It was logged and is remembered.
            let _ = house.reload(cause);
        }
    };
    std::thread::Builder::new().name("reload".to_owned()).spawn(work).context("cannot start the reload thread")?;
    Ok(())
}

/// The thread that upgrades for signals. Each upgrade has one of its own, so that a second one is refused and not put off.
fn upgrade_when_asked(house: Weak<House>, asked: Receiver<()>) -> anyhow::Result<()> {
    let work = move || {
        while asked.recv().is_ok() {
            let Some(house) = house.upgrade() else { return };
            // It is logged how it went.
            let upgrade = move || drop(house.upgrade("SIGUSR2"));
            if let Err(error) = std::thread::Builder::new().name("upgrade".to_owned()).spawn(upgrade) {
                tracing::error!(%error, "not upgraded: no thread can be started");
            }
        }
    };
    std::thread::Builder::new().name("upgrades".to_owned()).spawn(work).context("cannot start the upgrade thread")?;
    Ok(())
}

impl House {
    /// The endpoints of the live configuration are checked from here on, and no others.
    pub fn check_endpoints(&self) {
        let snapshot = self.gateway.snapshot();
        self.checks.apply(snapshot.upstreams().filter_map(|(spec, _)| Watched::of(spec)).collect());
    }

    pub fn open_connections(&self) -> i64 {
        let open = |sum: u64, shard: &maitred_core::metrics::WorkerShard| sum.wrapping_add(shard.connections_open.get());
        // One worker may count down what another counted up; only the sum means something.
        self.gateway.metrics().workers.iter().fold(0, open) as i64
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// To the millisecond: who reads it compares it with a log.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// A connection is a descriptor, and most systems begin with 1024 of them.
fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a struct of ours, and keep nothing of it.
    let done = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    if !done {
        tracing::debug!(error = %io::Error::last_os_error(), "the limit of open files stays as it is");
    }
}
