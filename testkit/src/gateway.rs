//! A gateway in this process, on a port of its own, with a clock that is turned by hand. The only file of the kit that knows the
//! gateway's API.

use crate::backend::Backend;
use crate::client::{Client, Response};
use crate::h2::{H2Backend, H2Client};
use crate::tls::ClientTls;
use crate::wait::PATIENCE;
use maitred_control::acme::Prepared;
use maitred_control::aws::{Surroundings, settings_of};
use maitred_control::discovery::testing::Scripted;
use maitred_control::upstreams::{find, turn};
use maitred_control::usage::Usage;
use maitred_control::{
    Acme, AwsKeys, Checks, Discovery, Fetcher, Keys, Plan, Request, Settings, Store, UpstreamView, WantedKeys, Watched,
};
use maitred_core::function::{Finished, Invocation};
use maitred_core::metrics::Metrics;
use maitred_core::queue::GateView;
use maitred_core::{Clients, Compute, ConnectionView, Fault, Kind, Unreached};
use maitred_dataplane::{LogTarget, Options, Snapshot, State, authority, compile};
use maitred_host::{Answer, Host, HostOptions, Piece, Streamed};
use maitred_model::{Document, Endpoint, Function, FunctionPlace, Memory, Spanned, load_text, render};
use maitred_transport::TargetCell;
use maitred_transport::UpstreamSpec;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::{Builder, Handle, Runtime};

/// What every test's configuration begins with, unless it says otherwise.
const DEFAULTS: [(&str, &str); 4] = [
    ("listen:", "listen: 127.0.0.1:0"),
    ("workers:", "workers: 1"),
    ("admin:", "admin: { listen: 127.0.0.1:0 }"),
    ("telemetry:", "telemetry: { access_log: none }"),
];

/// What tickets of TLS are sealed with, unless the configuration says.
const SECRET: [u8; 32] = [7; 32];

/// Everything goes to one back end.
const ALL: &str = "
upstreams: { kitchen: \"http://$kitchen\" }
apis:
  all:
    routes:
      - ANY /: kitchen
      - ANY /{path+}: kitchen
";

const H2C: &str = "{ endpoints: [\"http://$kitchen\"], protocol: h2c }";

pub struct Gateway {
    /// Orders certificates, once a configuration wants some. Gone before the gateway that answers for it.
    acme: OnceLock<Acme>,
    inner: maitred_dataplane::Gateway,
    checks: Checks,
    /// Fetches the keys that tokens are verified with.
    keys: Keys,
    /// Finds the keys that functions in AWS are invoked with.
    aws: AwsKeys,
    /// Where names lead, if the test has some.
    discovery: OnceLock<Discovery>,
    state: State,
    /// Runs functions, where the first configuration has some.
    host: Option<Arc<Host>>,
    names: Vec<(String, SocketAddr)>,
    /// What the configuration may name: certificates, keys, authorities.
    files: Mutex<Memory>,
}

/// Starts a gateway. `$name` in the text is the address of that back end. What is left out is a listener on any port of
/// 127.0.0.1, one worker, no access log.
#[track_caller]
pub fn gateway(yaml: &str, backends: &[(&str, SocketAddr)]) -> Gateway {
    gateway_with(yaml, backends, &[])
}

/// The same, where the configuration names files: a path as it stands there, and what is in it.
#[track_caller]
pub fn gateway_with(yaml: &str, backends: &[(&str, SocketAddr)], files: &[(&str, String)]) -> Gateway {
    gateway_in(yaml, backends, files, &[])
}

/// The same, in an environment that says that of AWS. Nothing is read of the test's own.
#[track_caller]
pub fn gateway_in(
    yaml: &str,
    backends: &[(&str, SocketAddr)],
    files: &[(&str, String)],
    variables: &[(&str, String)],
) -> Gateway {
    let names: Vec<(String, SocketAddr)> = backends.iter().map(|(name, address)| (name.to_string(), *address)).collect();
    let files = files.iter().fold(Memory::default(), |memory, (path, text)| memory.file(path, text.as_str()));
    let document = load(yaml, &names, &files).unwrap_or_else(|words| panic!("the configuration is refused:\n{words}"));
    let workers = document.workers.map_or(1, |workers| usize::from(workers.get()));
    // One clock for both: tickets of TLS grow old with the rest.
    let options = Options::default();
    let fetcher = Arc::new(Fetcher::new(control().clone()));
    let variables: HashMap<String, String> = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let surroundings: Surroundings = Arc::new(move || settings_of(variables.clone()));
    let host = host(&document);
    let state = State::with(workers, SECRET, options.clock.clone()).fetching_by(fetcher.clone()).aws_by(surroundings.clone());
    let state = match &host {
        Some(host) => state.hosting_by(host.clone()),
        None => state,
    };
    let log = LogTarget::open(&document.telemetry.access_log).expect("a place for the access log");
    let snapshot =
        compile(Arc::new(document), &state).unwrap_or_else(|diagnostics| panic!("it does not compile: {diagnostics:?}"));
    let keys = Keys::new(state.clock.clone(), state.metrics.clone());
    fetch(&keys, &snapshot, PATIENCE);
    let aws = AwsKeys::new(control().clone(), state.clock.clone(), fetcher, surroundings);
    aws.keep(snapshot.credentials());
    let acme = OnceLock::new();
    let certificates = prepare(&acme, &state, &snapshot).unwrap_or_else(|words| panic!("no certificates: {words}"));
    let inner = maitred_dataplane::Gateway::start(snapshot, log, options).expect("the gateway starts");
    apply(&acme, certificates);
    let checks = Checks::new(state.clock.clone());
    check(&checks, &inner);
    Gateway { acme, inner, checks, keys, aws, discovery: OnceLock::new(), state, host, names, files: Mutex::new(files) }
}

/// A thread for functions, if any is to run here.
fn host(document: &Document) -> Option<Arc<Host>> {
    static HOSTS: AtomicU32 = AtomicU32::new(0);
    let is_hosted = |function: &Spanned<Function>| matches!(function.place, FunctionPlace::Hosted(_));
    document.functions.values().any(is_hosted).then(|| {
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("maitred-test-functions-{}-{number}", std::process::id()));
        Arc::new(Host::new(HostOptions { folder, key: None, region: "eu-west-1".to_owned(), hidden: Vec::new() }))
    })
}

/// As the binary does it: what is there already is in place before anyone connects. `None`: nobody wants certificates.
fn prepare(acme: &OnceLock<Acme>, state: &State, snapshot: &Snapshot) -> Result<Option<Prepared>, String> {
    if acme.get().is_none() && snapshot.issued().next().is_none() {
        return Ok(None);
    }
    let start = || Acme::start(control(), state.clock.clone(), state.metrics.clone(), state.challenges.clone());
    acme.get_or_init(start).prepare(Plan::new(&snapshot.document, snapshot.issued())).map(Some)
}

fn apply(acme: &OnceLock<Acme>, certificates: Option<Prepared>) {
    if let (Some(acme), Some(certificates)) = (acme.get(), certificates) {
        acme.apply(certificates);
    }
}

/// The keys that it wants are fetched from here on. The first try is waited for.
fn fetch(keys: &Keys, snapshot: &Snapshot, patience: Duration) {
    let wanted: Vec<_> = snapshot.keys().map(|(cell, refresh)| WantedKeys { cell: cell.clone(), refresh }).collect();
    if !wanted.is_empty() {
        control().block_on(keys.fetch_all(&wanted, patience));
    }
}

/// The endpoints of what is live are checked from here on.
fn check(checks: &Checks, gateway: &maitred_dataplane::Gateway) {
    checks.apply(gateway.snapshot().upstreams().filter_map(|(spec, _)| Watched::of(spec)).collect());
}

/// The threads of the control side, the same for all gateways of a test.
fn control() -> &'static Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let start = || Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    RUNTIME.get_or_init(start).handle()
}

/// A gateway that sends everything to one back end by HTTP/2 without TLS.
#[track_caller]
pub fn gateway_to_h2c(backend: &H2Backend) -> Gateway {
    gateway(&ALL.replace("\"http://$kitchen\"", H2C), &[("kitchen", backend.address())])
}

/// A gateway that sends everything to one back end.
#[track_caller]
pub fn gateway_to(backend: &Backend) -> Gateway {
    gateway(ALL, &[("kitchen", backend.address())])
}

/// Why a configuration is refused, in words.
#[track_caller]
pub fn refused(yaml: &str) -> String {
    load(yaml, &[], &Memory::default()).expect_err("a configuration that is refused")
}

fn load(yaml: &str, names: &[(String, SocketAddr)], files: &Memory) -> Result<Document, String> {
    let mut text = String::new();
    for (key, line) in DEFAULTS {
        if !yaml.lines().any(|line| line.starts_with(key)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str(yaml);
    // Longer names first: `$a` is not the beginning of `$ab`.
    let mut names: Vec<_> = names.iter().collect();
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    for (name, address) in names {
        text = text.replace(&format!("${name}"), &address.to_string());
    }
    let loaded = load_text("test.yaml", &text, files);
    loaded.document.ok_or_else(|| render(&loaded.diagnostics, &loaded.files, false))
}

impl Gateway {
    pub fn address(&self) -> SocketAddr {
        self.inner.addresses()[0]
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.inner.addresses()
    }

    /// A new connection.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// A new connection that speaks TLS.
    #[track_caller]
    pub fn tls_client(&self, tls: &ClientTls) -> Client {
        Client::connect_tls(self.address(), tls)
    }

    /// A new connection that speaks HTTP/2 from its first byte, hands shaken.
    #[track_caller]
    pub fn h2(&self) -> H2Client {
        H2Client::connect(self.address())
    }

    /// The same over TLS, agreed upon by ALPN.
    #[track_caller]
    pub fn h2_tls(&self, tls: &ClientTls) -> H2Client {
        let stream = tls.connect(self.address());
        let alpn = stream.handshake().and_then(|handshake| handshake.alpn.clone());
        assert_eq!(alpn.as_deref(), Some("h2"), "the protocol agreed upon");
        H2Client::over(stream)
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, headers: &str, body: &str) -> Response {
        self.client().request(method, target, headers, body)
    }

    /// Reloads; the same names of back ends are known. A bad text changes nothing, and says why.
    pub fn try_publish(&self, yaml: &str) -> Result<u64, String> {
        let document = load(yaml, &self.names, &self.files())?;
        let log = LogTarget::open(&document.telemetry.access_log).map_err(|error| error.to_string())?;
        let snapshot = compile(Arc::new(document), &self.state).map_err(|diagnostics| format!("{diagnostics:?}"))?;
        fetch(&self.keys, &snapshot, PATIENCE);
        self.aws.keep(snapshot.credentials());
        let certificates = prepare(&self.acme, &self.state, &snapshot)?;
        let generation = self.inner.publish(snapshot, log).map_err(|error| error.to_string())?;
        apply(&self.acme, certificates);
        check(&self.checks, &self.inner);
        Ok(generation)
    }

    #[track_caller]
    pub fn publish(&self, yaml: &str) -> u64 {
        self.try_publish(yaml).unwrap_or_else(|words| panic!("the reload is refused: {words}"))
    }

    /// Some of the files have changed, or come anew; the others are what they were. They count from this publish on.
    pub fn try_publish_with(&self, yaml: &str, files: &[(&str, String)]) -> Result<u64, String> {
        for (path, text) in files {
            self.files().files.insert(path.into(), text.clone().into_bytes());
        }
        self.try_publish(yaml)
    }

    #[track_caller]
    pub fn publish_with(&self, yaml: &str, files: &[(&str, String)]) -> u64 {
        self.try_publish_with(yaml, files).unwrap_or_else(|words| panic!("the reload is refused: {words}"))
    }

    fn files(&self) -> MutexGuard<'_, Memory> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gateway's clock goes forward.
    pub fn turn(&self, by: Duration) {
        self.inner.turn_clock(by);
        self.checks.look_again();
        self.keys.look_again();
        self.aws.look_again();
        if let Some(acme) = self.acme.get() {
            acme.look_again();
        }
    }

    /// What certificates it waits for, in words.
    pub fn waiting(&self) -> Option<String> {
        self.acme.get().and_then(Acme::waiting)
    }

    /// What the gateway's clock shows.
    pub fn now(&self) -> Instant {
        self.state.clock.now()
    }

    /// The addresses of an upstream, and what is known of them.
    #[track_caller]
    pub fn targets(&self, upstream: &str) -> Arc<TargetCell> {
        let snapshot = self.inner.snapshot();
        let found = snapshot.upstreams().find(|(spec, _)| &*spec.name == upstream).map(|(spec, _)| spec.targets.clone());
        found.unwrap_or_else(|| panic!("no upstream {upstream}"))
    }

    /// The threads for what is too heavy for a worker.
    pub fn compute(&self) -> &Arc<Compute> {
        &self.state.compute
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        self.inner.metrics()
    }

    /// The requests counted under a route's name, whatever their method and status.
    pub fn counted(&self, route: &str) -> u64 {
        let routes = self.metrics().routes();
        let shards = routes.iter().filter(|series| &*series.route == route).flat_map(|series| series.shards());
        shards.flat_map(|shard| shard.requests()).map(|(_, _, count)| count).sum()
    }

    /// Client connections open now, over all workers.
    pub fn open(&self) -> u64 {
        self.metrics().workers.iter().map(|shard| shard.connections_open.get()).sum()
    }

    /// Looks up the names of what is live, and goes on doing so. Gives those that lead nowhere.
    pub fn look_up(&self, names: &Arc<Scripted>) -> Vec<String> {
        let discovery = self.discovery.get_or_init(|| Discovery::new(names.clone()));
        let snapshot = self.inner.snapshot();
        let request = |(spec, endpoints): (&Arc<UpstreamSpec>, &[Endpoint])| Request::of(&spec.targets, endpoints, authority);
        let requests: Vec<Request> = snapshot.upstreams().filter_map(request).collect();
        let unresolved = control().block_on(discovery.resolve_all(&requests, PATIENCE));
        unresolved.into_iter().map(|name| name.host).collect()
    }

    /// An upstream as the admin listener shows it.
    #[track_caller]
    pub fn upstream(&self, name: &str) -> Value {
        let snapshot = self.inner.snapshot();
        let spec = find(snapshot.upstreams().map(|(spec, _)| spec), name).unwrap_or_else(|words| panic!("{words}"));
        UpstreamView::of(spec, &self.checks, self.state.clock.now()).to_json()
    }

    /// How an endpoint of an upstream is: healthy, unhealthy, ejected or drained.
    #[track_caller]
    pub fn endpoint(&self, upstream: &str, address: SocketAddr) -> Value {
        let endpoints = self.upstream(upstream)["endpoints"].take();
        let found = endpoints.as_array().and_then(|all| all.iter().find(|one| one["address"] == address.to_string()));
        found.unwrap_or_else(|| panic!("{upstream} has no {address}")).clone()
    }

    /// Takes an endpoint out by hand, or lets it in again. Gives the warning, if there is one.
    #[track_caller]
    pub fn turn_endpoint(&self, upstream: &str, address: SocketAddr, is_drained: bool) -> Option<String> {
        let snapshot = self.inner.snapshot();
        let found = find(snapshot.upstreams().map(|(spec, _)| spec), upstream);
        let turned = found.and_then(|spec| turn(spec, &address.to_string(), is_drained, self.state.clock.now()));
        turned.unwrap_or_else(|words| panic!("{words}")).warning
    }

    /// What is in flight at an upstream with a limit, and what waits.
    #[track_caller]
    pub fn queue(&self, upstream: &str) -> GateView {
        let snapshot = self.inner.snapshot();
        let found = snapshot.upstreams().find(|(spec, _)| &*spec.name == upstream);
        let (spec, _) = found.unwrap_or_else(|| panic!("there is no upstream {upstream}"));
        spec.gate.as_ref().unwrap_or_else(|| panic!("upstream {upstream} has no limit")).view()
    }

    /// Opens a store for what is live, as the binary does at the start. What was used of quotas is kept in it from here on.
    #[track_caller]
    pub fn store(&self, path: &Path) -> Store {
        let (consumers, clock) = (self.state.consumers.clone(), self.state.clock.clone());
        Store::open(path, self.settings(), consumers, clock).unwrap_or_else(|error| panic!("no store: {error}"))
    }

    /// What a store takes of the live configuration: to be told after each publish.
    pub fn settings(&self) -> Settings {
        let document = self.inner.snapshot().document.clone();
        let secret_key = document.secret_key.as_ref().map(|secret| secret.expose().as_bytes().to_vec());
        Settings { secret_key, plans: document.plans.keys().cloned().collect() }
    }

    /// What a consumer used of its quotas, as the admin listener shows it.
    #[track_caller]
    pub fn usage(&self, store: &Store, consumer: &str) -> Value {
        let (snapshot, unix) = (self.inner.snapshot(), self.unix_time());
        let usage = Usage {
            document: &snapshot.document,
            grants: snapshot.quotas(),
            store,
            accounts: &self.state.consumers.accounts,
            now: self.state.clock.wall(),
            rates: &|plan, consumer| snapshot.rates_left(plan, consumer, self.state.clock.now()),
            elsewhere: &|asked| self.inner.used_elsewhere(&snapshot.quotas_elsewhere(asked, unix)?),
        };
        usage.one(consumer).unwrap_or_else(|words| panic!("{words}")).to_json()
    }

    /// The time of day that the gateway's clock shows: since 1970.
    pub fn unix_time(&self) -> Duration {
        self.state.clock.wall().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970")
    }

    /// Begins to drain: every answer from now on says that it is the last.
    pub fn begin_drain(&self) {
        self.inner.begin_drain();
    }

    /// Drains; whether every connection ended by itself before the deadline.
    pub fn drain(&self, deadline: Duration) -> bool {
        self.inner.drain(deadline)
    }

    /// The drain is over: whoever can hear a goodbye does.
    pub fn say_goodbye(&self) {
        self.inner.say_goodbye();
    }

    /// Sends a message to a client that stays.
    pub fn post(&self, id: &str, message: &[u8]) -> Result<(), Unreached> {
        control().block_on(self.inner.websockets().post(id, message.to_vec()))
    }

    /// What is known of a client that stays.
    pub fn connection(&self, id: &str) -> Result<ConnectionView, Unreached> {
        control().block_on(self.inner.websockets().get(id))
    }

    /// Ends a client's connection.
    pub fn dismiss(&self, id: &str) -> Result<(), Unreached> {
        control().block_on(self.inner.websockets().delete(id))
    }

    /// Runs a function for somebody who is not its client; a result that streams is gathered up to its end. `Err`: nothing ran.
    pub fn run_function(&self, name: &str, invocation: Invocation) -> Result<Finished, Fault> {
        control().block_on(async {
            let (mut pieces, mut payload) = match self.inner.errands().run(name, invocation).await? {
                Answer::Whole(finished) => return Ok(finished),
                Answer::Streamed(Streamed { pieces, .. }) => (pieces, Vec::new()),
            };
            loop {
                match pieces.recv().await {
                    Some(Piece::Data(data)) => payload.extend_from_slice(&data),
                    Some(Piece::End(finished)) if finished.failure.is_some() => return Ok(finished),
                    Some(Piece::End(finished)) => return Ok(Finished { payload, ..finished }),
                    None => return Err(Fault::new(Kind::CutOff, "a result without an end")),
                }
            }
        })
    }

    /// Leaves an event for a function.
    pub fn send_function(&self, name: &str, invocation: Invocation) -> Result<(), Fault> {
        control().block_on(self.inner.errands().send(name, invocation))
    }

    /// Asks for a function, and has no patience.
    pub fn give_up_function(&self, name: &str, invocation: Invocation, until: impl Fn()) {
        let (errands, name) = (self.inner.errands().clone(), name.to_owned());
        let asking = control().spawn(async move { errands.run(&name, invocation).await });
        until();
        asking.abort();
    }

    /// What runs its functions.
    #[track_caller]
    pub fn host(&self) -> &Arc<Host> {
        self.host.as_ref().expect("a configuration with functions that run here")
    }

    /// Ends every connection, and every function.
    pub fn stop(&mut self) {
        self.inner.stop();
        if let Some(host) = &self.host {
            host.stop(Duration::ZERO);
        }
    }
}

impl Drop for Gateway {
    /// No process of a test outlives it, and no copy of its code.
    fn drop(&mut self) {
        if let Some(host) = &self.host {
            host.stop(Duration::ZERO);
            let _ = std::fs::remove_dir_all(&host.options().folder);
        }
    }
}
