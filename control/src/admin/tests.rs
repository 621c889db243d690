//! Real sockets on port 0. Where time passes, it is tokio's, which jumps ahead when nothing else can happen.

mod connections;
mod consumers;
mod functions;
mod invoke_api;
mod usage;

use super::*;
use crate::functions::keys::of_functions;
use crate::functions::testing::{self, Scripted};
use maitred_core::health::EndpointState;
use maitred_core::limits::series::{self, LimitName};
use maitred_model::{Balance, Cost, Document, HeaderName, LimitBy, Rate, RateLimit, Secret, Spanned};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Fake {
    metrics: Arc<Metrics>,
    ready: Mutex<Readiness>,
    reload: Mutex<Result<u64, String>>,
    reloads_under_way: AtomicUsize,
    has_overlapped: AtomicBool,
    /// When set, a reload says that it has begun, and waits.
    gate: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
    upgrade: Mutex<Result<Successor, NotUpgraded>>,
    /// What is asked for, and what comes of it.
    changes: Mutex<Vec<Change>>,
    change: Mutex<Result<Changed, NotChanged>>,
    /// Whose usage was reset.
    resets: Mutex<Vec<String>>,
    padding: String,
    /// What `dessert` answers.
    dessert: Arc<Scripted>,
    /// What `remote` does, which runs in AWS.
    remote: Arc<Scripted>,
    document: Arc<Document>,
    function_reload: Mutex<Result<Reloaded, NotReloaded>>,
}

impl Default for Fake {
    fn default() -> Self {
        Fake {
            metrics: Arc::new(Metrics::new(1)),
            ready: Mutex::new(Readiness::Ready { warning: None }),
            reload: Mutex::new(Ok(2)),
            reloads_under_way: AtomicUsize::new(0),
            has_overlapped: AtomicBool::new(false),
            gate: Mutex::default(),
            upgrade: Mutex::new(Ok(Successor { pid: 7, version: "9.9.9".to_owned() })),
            changes: Mutex::default(),
            change: Mutex::new(Ok(Changed::default())),
            resets: Mutex::default(),
            padding: String::new(),
            dessert: Arc::default(),
            remote: Arc::default(),
            document: testing::document(),
            function_reload: Mutex::new(Ok(Reloaded { hash: "beef".to_owned(), has_changed: true })),
        }
    }
}

impl Operations for Fake {
    fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    fn certificates(&self) -> Vec<CertificateEnd> {
        let end =
            CertificateEnd { listener: "0.0.0.0:443".to_owned(), name: "a.example.com".to_owned(), not_after: 4_733_510_400 };
        vec![end]
    }

    fn ready(&self) -> Readiness {
        self.ready.lock().unwrap().clone()
    }

    fn config(&self) -> Value {
        json!({ "version": 1, "padding": self.padding })
    }

    fn routes(&self) -> Value {
        json!([{ "api": "shop", "route": "get-order" }])
    }

    fn limits(&self) -> Vec<LimitView> {
        vec![limited(&self.metrics)]
    }

    fn upstreams(&self) -> Vec<UpstreamView> {
        vec![orders()]
    }

    fn upstream(&self, name: &str) -> Result<UpstreamView, Unknown> {
        match name {
            "orders" => Ok(orders()),
            _ => Err(unknown(name)),
        }
    }

    fn turn(&self, upstream: &str, endpoint: &str, is_drained: bool) -> Result<Turned, Unknown> {
        let (endpoint, warning) = (endpoint.to_owned(), is_drained.then(|| "nobody is left".to_owned()));
        let state = if is_drained { EndpointState::Drained } else { EndpointState::Healthy };
        if upstream == "orders" { Ok(Turned { endpoint, state, in_flight: 3, warning }) } else { Err(unknown(upstream)) }
    }

    fn consumers(&self) -> Vec<ConsumerView> {
        vec![consumers::alice()]
    }

    fn consumer(&self, name: &str) -> Result<ConsumerView, NotChanged> {
        match name {
            "alice" => Ok(consumers::alice()),
            _ => Err(NotChanged::Unknown(format!("there is no consumer `{name}`"))),
        }
    }

    fn change_consumer(&self, change: Change) -> Result<Changed, NotChanged> {
        self.changes.lock().unwrap().push(change);
        self.change.lock().unwrap().clone()
    }

    fn consumer_counts(&self) -> ConsumerCounts {
        ConsumerCounts { file: 2, store: 3, store_errors: 4 }
    }

    fn usage(&self) -> Vec<UsageView> {
        vec![usage::alice()]
    }

    fn usage_of(&self, name: &str) -> Result<UsageView, NotChanged> {
        match name {
            "alice" => Ok(usage::alice()),
            _ => Err(NotChanged::Unknown(format!("there is no consumer `{name}`"))),
        }
    }

    fn reset_usage(&self, name: &str) -> Result<UsageView, NotChanged> {
        self.resets.lock().unwrap().push(name.to_owned());
        self.usage_of(name)
    }

    fn functions(&self) -> Vec<FunctionView> {
        testing::views(&self.document, &self.dessert, &self.remote)
    }

    fn function(&self, name: &str) -> Option<FunctionView> {
        self.functions().into_iter().find(|function| function.name() == name)
    }

    fn reload_function(&self, name: &str) -> Result<Reloaded, NotReloaded> {
        match name {
            "dessert" => self.function_reload.lock().unwrap().clone(),
            "remote" => Err(NotReloaded::Elsewhere),
            _ => Err(NotReloaded::Unknown),
        }
    }

    fn clients(&self) -> Arc<dyn Clients> {
        Arc::new(connections::OneClient)
    }

    fn status(&self) -> Value {
        panic!("a mistake of the binary's")
    }

    fn reload(&self) -> Result<u64, String> {
        if self.reloads_under_way.fetch_add(1, Ordering::SeqCst) > 0 {
            self.has_overlapped.store(true, Ordering::SeqCst);
        }
        if let Some((begun, go)) = &*self.gate.lock().unwrap() {
            begun.send(()).unwrap();
            go.recv().unwrap();
        }
        self.reloads_under_way.fetch_sub(1, Ordering::SeqCst);
        self.reload.lock().unwrap().clone()
    }

    fn upgrade(&self) -> Result<Successor, NotUpgraded> {
        self.upgrade.lock().unwrap().clone()
    }
}

/// Refuses twice, of which one had no time to be written down.
fn limited(metrics: &Metrics) -> LimitView {
    let name = LimitName { api: "shop".into(), route: "".into(), limit: "api".into() };
    let series = metrics.limit(&name);
    if series.counts() == [0; 3] {
        [series::Answered::Allowed, series::Answered::Limited, series::Answered::Limited]
            .into_iter()
            .for_each(|answered| series.count(0, answered));
        series.top.count("ip 192.0.2.1");
    }
    let limit = RateLimit {
        rate: Rate::parse("10/s").unwrap(),
        burst: 20.try_into().unwrap(),
        by: vec![Spanned::builtin(LimitBy::Ip { ipv6_prefix: 56 })],
        cost: Cost::ResponseHeader(HeaderName::parse("x-cost").unwrap()),
        wait: Some(Duration::from_millis(500)),
        keys_max: 1000.try_into().unwrap(),
    };
    LimitView { series, limit }
}

#[tokio::test]
async fn limits_are_shown_with_what_they_said_and_whom_they_refuse() {
    let admin = start(None, Arc::default()).await;
    let limits = ask(&admin, "GET /limits", "").await;
    let wanted = json!([{
        "limit": "api", "api": "shop", "route": null, "rate": "10/s", "burst": 20, "by": ["ip/56"],
        "cost": "response_header:x-cost", "wait": "500ms", "keys_max": 1000, "allowed": 1, "delayed": 0, "limited": 2,
        "top": [{ "key": "ip 192.0.2.1", "limited": 1, "error": 0 }],
    }]);
    assert_eq!((limits.status, limits.json()), (200, wanted));
    let metrics = ask(&admin, "GET /metrics", "").await.body;
    for line in [
        "maitred_rate_limit_total{api=\"shop\",route=\"\",limit=\"api\",result=\"allowed\"} 1",
        "maitred_rate_limit_total{api=\"shop\",route=\"\",limit=\"api\",result=\"limited\"} 2",
        "maitred_rate_limit_shared_keys_total 0",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} is not in {metrics}");
    }
}

fn orders() -> UpstreamView {
    UpstreamView {
        name: "orders".into(),
        balance: Balance::RoundRobin,
        panic: false,
        endpoints: Vec::new(),
        queue: None,
        breaker: None,
    }
}

fn unknown(name: &str) -> Unknown {
    crate::upstreams::find(&[], name).err().unwrap()
}

async fn start(token: Option<&str>, fake: Arc<Fake>) -> Admin {
    let token = token.map(Secret::new);
    let is_protected = token.as_ref().is_some_and(|token| token.expose() == "protected");
    let metrics = if is_protected { MetricsAccess::Protected } else { MetricsAccess::Open };
    Admin::start(AdminConfig { metrics, ..config("127.0.0.1:0", token) }, fake).await.unwrap()
}

fn config(listen: &str, token: Option<Secret>) -> AdminConfig {
    AdminConfig {
        listen: listen.parse().unwrap(),
        token: Token::new(token),
        metrics: MetricsAccess::Open,
        function_key: Some(of_functions(&[7; 32])),
        region: "eu-west-1".to_owned(),
        clock: Clock::default(),
    }
}

struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    #[track_caller]
    fn has(&self, header: &str) -> &Self {
        assert!(self.head.lines().any(|line| line.eq_ignore_ascii_case(header)), "no {header} in {}", self.head);
        self
    }
}

async fn send(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn read(mut stream: TcpStream) -> Answered {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    Answered { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
}

/// `headers`: each with its line break.
async fn ask(admin: &Admin, line: &str, headers: &str) -> Answered {
    let request = format!("{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", admin.address());
    read(send(admin.address(), &request).await).await
}

#[tokio::test]
async fn everything_is_answered_on_loopback() {
    let admin = start(None, Arc::default()).await;
    for target in
        ["/", "/healthz", "/readyz", "/config", "/routes", "/upstreams", "/upstreams/orders", "/consumers", "/consumers/alice"]
    {
        let answer = ask(&admin, &format!("GET {target}"), "").await;
        assert_eq!(answer.status, 200, "{target}");
        answer.has("content-type: application/json").has("cache-control: no-store");
        answer.json();
    }
    let metrics = ask(&admin, "GET /metrics", "").await;
    metrics.has("content-type: text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.body.contains("\nmaitred_config_generation 0\n"), "{}", metrics.body);
    let end = "\nmaitred_certificate_expiry_seconds{listener=\"0.0.0.0:443\",name=\"a.example.com\"} 4733510400\n";
    assert!(metrics.body.contains(end), "{}", metrics.body);
    let length = format!("content-length: {}", metrics.body.len());
    metrics.has(&length);
    let head = ask(&admin, "HEAD /metrics", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let reload = ask(&admin, "POST /reload", "X-Maitred: 1\r\n").await;
    assert_eq!((reload.status, reload.json()), (200, json!({ "generation": 2 })));
}

#[tokio::test]
async fn errors_are_problems() {
    let admin = start(None, Arc::default()).await;
    for (line, headers, status) in [
        ("GET /nothing", "", 404),
        ("GET /reload", "", 405),
        ("POST /config", "X-Maitred: 1\r\n", 405),
        ("POST /reload", "", 403),
        ("GET /config", "Origin: http://evil.example\r\n", 403),
        ("POST /reload", "X-Maitred: 1\r\nContent-Length: 70000\r\n", 413),
        ("GET /status", "", 500),
        ("GET /upstreams/orders/drain", "", 405),
        ("GET /upstreams/bakery", "", 404),
        ("POST /upstreams/bakery/drain?endpoint=a", "X-Maitred: 1\r\n", 404),
        ("POST /upstreams/orders/drain", "X-Maitred: 1\r\n", 400),
        ("POST /upstreams/orders/drain?endpoint=a", "", 403),
    ] {
        let answer = ask(&admin, line, headers).await;
        assert_eq!(answer.status, status, "{line} {headers:?}");
        answer.has("content-type: application/problem+json").has("cache-control: no-store");
        assert_eq!(answer.json()["status"], status, "{line}");
    }
    ask(&admin, "GET /reload", "").await.has("allow: POST");
    let rebound = format!("GET /config HTTP/1.1\r\nHost: evil.example:{}\r\nConnection: close\r\n\r\n", admin.address().port());
    assert_eq!(read(send(admin.address(), &rebound).await).await.status, 403);
}

#[tokio::test]
async fn a_token_opens_everything_and_nothing_else_does() {
    let admin = start(Some("protected"), Arc::default()).await;
    for target in ["/healthz", "/readyz"] {
        assert_eq!(ask(&admin, &format!("GET {target}"), "").await.status, 200);
    }
    for line in ["GET /", "GET /metrics", "GET /config", "GET /nothing", "POST /reload"] {
        let answer = ask(&admin, line, "X-Maitred: 1\r\n").await;
        assert_eq!(answer.status, 401, "{line}");
        answer.has("www-authenticate: Bearer realm=\"maitred\"").has("content-type: application/problem+json");
        let wrong = ask(&admin, line, "Authorization: Bearer protecteD\r\n").await;
        assert_eq!(wrong.status, 401, "{line}");
        wrong.has("www-authenticate: Bearer realm=\"maitred\", error=\"invalid_token\"");
    }
    for line in ["GET /", "GET /metrics", "GET /config", "POST /reload"] {
        assert_eq!(ask(&admin, line, "Authorization: Bearer protected\r\n").await.status, 200, "{line}");
    }
    let open = start(Some("open"), Arc::default()).await;
    assert_eq!(ask(&open, "GET /metrics", "").await.status, 200);
}

#[tokio::test]
async fn readiness_says_why() {
    let fake = Arc::new(Fake::default());
    let admin = start(None, fake.clone()).await;
    let expect = async |ready: Readiness, status: u16, key: &str, value: Value| {
        *fake.ready.lock().unwrap() = ready;
        let answer = ask(&admin, "GET /readyz", "").await;
        assert_eq!((answer.status, &answer.json()[key]), (status, &value));
    };
    expect(Readiness::Ready { warning: None }, 200, "warning", Value::Null).await;
    expect(
        Readiness::Ready { warning: Some("the last reload failed".to_owned()) },
        200,
        "warning",
        json!("the last reload failed"),
    )
    .await;
    expect(Readiness::Draining, 503, "detail", json!("Draining: no new traffic, please.")).await;
    expect(Readiness::NotReady(vec!["no socket".to_owned()]), 503, "reasons", json!(["no socket"])).await;
}

#[tokio::test]
async fn a_failed_reload_says_what_is_wrong() {
    let fake = Arc::new(Fake::default());
    *fake.reload.lock().unwrap() = Err("error: no such key".to_owned());
    let admin = start(None, fake).await;
    let answer = ask(&admin, "POST /reload", "X-Maitred: 1\r\n").await;
    assert_eq!((answer.status, answer.json()["detail"].as_str()), (422, Some("error: no such key")));
}

#[tokio::test]
async fn an_upgrade_says_who_serves_now_or_why_nobody_else_does() {
    let fake = Arc::new(Fake::default());
    let admin = start(None, fake.clone()).await;
    let done = ask(&admin, "POST /upgrade", "X-Maitred: 1\r\n").await;
    assert_eq!((done.status, done.json()), (200, json!({ "pid": 7, "version": "9.9.9" })));
    for (failure, status) in [
        (NotUpgraded::Refused("one is under way".to_owned()), 409),
        (NotUpgraded::Failed("it ended with exit code 1".to_owned()), 500),
    ] {
        let words = failure.to_string();
        *fake.upgrade.lock().unwrap() = Err(failure);
        let answer = ask(&admin, "POST /upgrade", "X-Maitred: 1\r\n").await;
        assert_eq!((answer.status, answer.json()["detail"].as_str()), (status, Some(words.as_str())));
    }
    assert_eq!(ask(&admin, "POST /upgrade", "").await.status, 403);
    assert_eq!(ask(&admin, "GET /upgrade", "").await.status, 405);
}

#[tokio::test]
async fn two_reloads_never_run_at_once_even_if_a_client_goes_away() {
    let fake = Arc::new(Fake::default());
    let (begun, has_begun) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    *fake.gate.lock().unwrap() = Some((begun, gone));
    let admin = start(None, fake.clone()).await;
    let request = "POST /reload HTTP/1.1\r\nHost: localhost\r\nX-Maitred: 1\r\nConnection: close\r\n\r\n";
    let first = send(admin.address(), request).await;
    let has_begun = tokio::task::spawn_blocking(move || has_begun.recv().map(|()| has_begun)).await.unwrap().unwrap();
    drop(first);
    let second = tokio::spawn(read(send(admin.address(), request).await));
    // Answered after the second request was read, for it is on the same runtime and was sent before.
    assert_eq!(ask(&admin, "GET /healthz", "").await.status, 200);
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(second.await.unwrap().status, 200);
    assert!(!fake.has_overlapped.load(Ordering::SeqCst));
    drop(has_begun);
}

#[tokio::test]
async fn stopping_lets_an_answer_out_and_nobody_in() {
    let fake = Arc::new(Fake::default());
    let (begun, has_begun) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    *fake.gate.lock().unwrap() = Some((begun, gone));
    let admin = start(None, fake).await;
    let address = admin.address();
    let request = "POST /reload HTTP/1.1\r\nHost: localhost\r\nX-Maitred: 1\r\n\r\n";
    let stream = send(address, request).await;
    let _has_begun = tokio::task::spawn_blocking(move || has_begun.recv().map(|()| has_begun)).await.unwrap().unwrap();
    let stopping = tokio::spawn(admin.stop(Duration::ZERO));
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    let answer = read(stream).await;
    assert_eq!(answer.status, 200);
    answer.has("connection: close");
    stopping.await.unwrap();
}

#[tokio::test]
async fn stopping_answers_whoever_was_let_in_and_has_not_asked_yet() {
    let mut admin = start(None, Arc::default()).await;
    let address = admin.address();
    let mut early = TcpStream::connect(address).await.unwrap();
    // Accepted after it, on the same runtime: so it is let in.
    assert_eq!(ask(&admin, "GET /healthz", "").await.status, 200);
    admin.close().await;
    assert!(TcpStream::connect(address).await.is_err());
    let stopping = tokio::spawn(admin.stop(Duration::ZERO));
    early.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let answer = read(early).await;
    assert_eq!(answer.status, 200);
    answer.has("connection: close");
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_socket_that_listens_already_is_taken_over() {
    let config = config("127.0.0.1:0", None);
    let first = Admin::bind(&config, None).unwrap();
    let address = first.local_addr().unwrap();
    // Asked before anybody accepts: it waits in the queue of the socket.
    let asked = send(address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let copy = first.try_clone().unwrap().into();
    drop(first);
    let listener = Admin::bind(&config, Some(copy)).unwrap();
    let admin = Admin::serve(listener, config, Arc::new(Fake::default())).await.unwrap();
    assert_eq!(admin.address(), address);
    assert_eq!(read(asked).await.status, 200);
}

#[tokio::test]
async fn an_address_that_is_not_loopback_needs_a_token() {
    let config = config("0.0.0.0:0", None);
    let error = Admin::start(config.clone(), Arc::new(Fake::default())).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let config = AdminConfig { token: Token::new(Some(Secret::new("s"))), ..config };
    Admin::start(config, Arc::new(Fake::default())).await.unwrap().stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let admin = start(None, Arc::default()).await;
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    let mut stream = send(admin.address(), &request).await;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 431");
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut_off() {
    let admin = start(None, Arc::default()).await;
    let mut stream = send(admin.address(), "GET / HTTP/1.1\r\nHost: loc").await;
    let before = Instant::now();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    assert!(before.elapsed() <= HEAD_TIME_MAX * 2, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_not_waited_for() {
    let admin = start(None, Arc::default()).await;
    let answer = ask(&admin, "POST /reload", "X-Maitred: 1\r\nContent-Length: 10\r\n").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(start_paused = true)]
async fn slow_readers_hold_a_few_long_answers_and_not_for_ever() {
    let fake = Fake { padding: "x".repeat(32 * 1024 * 1024), ..Fake::default() };
    let admin = start(None, Arc::new(fake)).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = send(admin.address(), "GET /config HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        stream.read_exact(&mut [0; 12]).await.unwrap();
        slow.push(stream);
    }
    let refused = ask(&admin, "GET /config", "").await;
    assert_eq!(refused.status, 503);
    refused.has("retry-after: 5");
    assert_eq!(ask(&admin, "GET /healthz", "").await.status, 200);
    tokio::time::sleep(EXCHANGE_TIME_MAX).await;
    assert_eq!(ask(&admin, "GET /config", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn connections_over_the_limit_wait_for_room() {
    let admin = start(None, Arc::default()).await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = send(admin.address(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        stream.read_exact(&mut [0; 12]).await.unwrap();
        idle.push(stream);
    }
    let before = Instant::now();
    assert_eq!(ask(&admin, "GET /healthz", "").await.status, 200);
    assert!(before.elapsed() > Duration::from_millis(1), "it waited until the idle ones were closed");
}

#[tokio::test]
async fn an_endpoint_is_named_in_the_query_or_in_the_body() {
    let admin = start(None, Arc::default()).await;
    let drained = json!({ "upstream": "orders", "endpoint": "[::1]:9000", "state": "drained", "in_flight": 3, "warning": "nobody is left" });
    let query = ask(&admin, "POST /upstreams/orders/drain?a=b&endpoint=%5B::1%5d:9000", "X-Maitred: 1\r\n").await;
    assert_eq!((query.status, query.json()), (200, drained.clone()));
    let body = "{\"endpoint\": \"[::1]:9000\"}";
    let head = format!(
        "POST /upstreams/orders/drain HTTP/1.1\r\nHost: localhost\r\nX-Maitred: 1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let body = read(send(admin.address(), &format!("{head}{body}")).await).await;
    assert_eq!((body.status, body.json()), (200, drained));
    let enabled = ask(&admin, "POST /upstreams/orders/enable?endpoint=unix:/run/a.sock", "X-Maitred: 1\r\n").await.json();
    assert_eq!(
        (&enabled["endpoint"], &enabled["state"], &enabled["warning"]),
        (&json!("unix:/run/a.sock"), &json!("healthy"), &Value::Null)
    );
}
