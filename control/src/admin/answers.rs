//! What the admin listener answers: the endpoints, and errors as RFC 9457 problems. Knows no sockets, and does not ask who asks.

use super::gate::{Gate, Refusal};
use super::{AdminConfig, NotUpgraded, Operations, Readiness, Successor};
use super::{connections, consumers, functions, hand, invoke_api, usage};
use crate::functions::FunctionView;
use crate::functions::keys::Keys;
use crate::metrics::{self, Extra};
use crate::upstreams::UpstreamView;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use maitred_core::Clock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// Long answers in memory at once: with 100,000 routes one of them is tens of megabytes.
const LONG_ANSWERS_MAX: usize = 4;
/// For a turn at one of them.
const TURN_TIME_MAX: Duration = Duration::from_secs(5);

/// Functions run at once for who asks here. Fewer than there may be connections: probes and administrators still come in.
const INVOCATIONS_MAX: usize = 192;
/// Large bodies at once whose sender is not known yet.
const UNKNOWN_BODIES_MAX: usize = 8;

pub(super) const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

#[derive(Clone)]
pub(super) struct App {
    pub operations: Arc<dyn Operations>,
    turns: Arc<Semaphore>,
    pub reloading: Arc<Mutex<()>>,
    pub gate: Gate,
    /// Who may sign requests.
    pub keys: Arc<Keys>,
    pub invocations: Arc<Semaphore>,
    pub unknown_bodies: Arc<Semaphore>,
    pub region: Arc<str>,
    pub clock: Clock,
}

impl App {
    pub fn new(operations: Arc<dyn Operations>, config: AdminConfig) -> App {
        let AdminConfig { listen: _, token, metrics, function_key, region, clock } = config;
        App {
            operations,
            turns: Arc::new(Semaphore::new(LONG_ANSWERS_MAX)),
            reloading: Arc::default(),
            gate: Gate::new(token.clone(), metrics),
            keys: Arc::new(Keys::new(token, function_key.as_ref())),
            invocations: Arc::new(Semaphore::new(INVOCATIONS_MAX)),
            unknown_bodies: Arc::new(Semaphore::new(UNKNOWN_BODIES_MAX)),
            region: region.into(),
            clock,
        }
    }
}

pub(super) fn router(app: App) -> Router {
    let own = Router::new()
        .route("/", get(index))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(expose))
        .route("/config", get(config))
        .route("/routes", get(routes))
        .route("/limits", get(limits))
        .route("/upstreams", get(upstreams))
        .route("/upstreams/{name}", get(hand::upstream))
        .route("/upstreams/{name}/drain", post(hand::drain))
        .route("/upstreams/{name}/enable", post(hand::enable))
        .route("/consumers", get(consumers::list).post(consumers::add))
        .route("/consumers/{name}", get(consumers::show).patch(consumers::set).delete(consumers::remove))
        .route("/consumers/{name}/keys", post(consumers::add_key))
        .route("/consumers/{name}/keys/{id}", delete(consumers::remove_key))
        .route("/consumers/{name}/rotate-key", post(consumers::rotate_key))
        .route("/consumers/{name}/identities", post(consumers::add_identity).delete(consumers::remove_identity))
        .route("/usage", get(usage::list))
        .route("/usage/{name}", get(usage::show))
        .route("/usage/{name}/reset", post(usage::reset))
        .route("/functions", get(functions::list))
        .route("/functions/{name}", get(functions::show))
        .route("/functions/{name}/invoke", post(functions::invoke))
        .route("/functions/{name}/logs", get(functions::logs))
        .route("/functions/{name}/reload", post(functions::reload))
        .route("/status", get(status))
        .route("/reload", post(reload))
        .route("/upgrade", post(upgrade))
        .method_not_allowed_fallback(wrong_method)
        .fallback(nothing_here)
        .layer(from_fn_with_state(app.clone(), guard));
    // What is asked for there is let in by its signature, for which its body must be read first.
    own.merge(invoke_api::router()).merge(connections::router()).with_state(app).layer(from_fn(never_stored))
}

async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    match app.gate.admit(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refuse(refusal),
    }
}

async fn never_stored(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn refuse(refusal: Refusal) -> Response {
    let (status, detail) = match refusal {
        Refusal::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Nothing here takes a body of that size."),
        Refusal::ForeignHost => {
            let detail = "Without a token the admin listener answers only to a loopback name: ask for http://127.0.0.1 or http://localhost, \
                          or set `admin: { token: … }`.";
            (StatusCode::FORBIDDEN, detail)
        }
        Refusal::ForeignOrigin => (StatusCode::FORBIDDEN, "Pages of another origin are not answered."),
        Refusal::UnmarkedWrite => (StatusCode::FORBIDDEN, "A write carries the header `X-Maitred: 1`."),
        Refusal::NoToken => (StatusCode::UNAUTHORIZED, "Send `Authorization: Bearer` and the admin token."),
        Refusal::WrongToken => (StatusCode::UNAUTHORIZED, "That is not the admin token."),
    };
    let mut response = problem(status, detail);
    let challenge = match refusal {
        Refusal::NoToken => "Bearer realm=\"maitred\"",
        Refusal::WrongToken => "Bearer realm=\"maitred\", error=\"invalid_token\"",
        Refusal::BodyTooLarge | Refusal::ForeignHost | Refusal::ForeignOrigin | Refusal::UnmarkedWrite => return response,
    };
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

async fn index() -> Response {
    answer(&json!({
        "name": "maitred",
        "version": env!("CARGO_PKG_VERSION"),
        "endpoints": {
            "GET /healthz": "the process answers",
            "GET /readyz": "traffic may be sent here",
            "GET /metrics": "counters, for Prometheus",
            "GET /config": "the live configuration, secrets masked",
            "GET /routes": "the live routes",
            "GET /limits": "every rate limit, what it said, and whom it refuses most often",
            "GET /upstreams": "every upstream and its endpoints, as they are now",
            "GET /upstreams/{name}": "one of them",
            "POST /upstreams/{name}/drain?endpoint={address}": "sends nothing new to an endpoint",
            "POST /upstreams/{name}/enable?endpoint={address}": "lets it in again",
            "GET /consumers": "every registered caller",
            "GET /consumers/{name}": "one of them",
            "POST /consumers": "adds one, and makes it a key, which is shown once",
            "PATCH /consumers/{name}": "sets its groups or its plan, disables or enables it",
            "DELETE /consumers/{name}": "removes it",
            "POST /consumers/{name}/keys": "makes it another key",
            "DELETE /consumers/{name}/keys/{id}": "ends a key",
            "POST /consumers/{name}/rotate-key": "makes it a key, and ends those from before",
            "POST /consumers/{name}/identities": "adds what an authorizer calls it",
            "DELETE /consumers/{name}/identities?authorizer={authorizer}&subject={subject}": "takes that away",
            "GET /usage": "what consumers used of their plans' quotas",
            "GET /usage/{name}": "the same of one, and of periods that have passed",
            "POST /usage/{name}/reset": "as if it had used nothing",
            "GET /functions": "every function, and its processes as they are now",
            "GET /functions/{name}": "one of them",
            "POST /functions/{name}/invoke": "runs it once with the body as its event; `?logs=true` adds the end of its log",
            "GET /functions/{name}/logs?after={number}&request_id={id}": "what it wrote",
            "POST /functions/{name}/reload": "reads its code again, and starts other processes",
            "POST /2015-03-31/functions/{name}/invocations": "AWS's Invoke, for its own clients; signed",
            "POST /@connections/{id}": "writes to the client of a WebSocket, as AWS's management API; signed",
            "GET /status": "version, generation, the last reload",
            "POST /reload": "reads the configuration again",
            "POST /upgrade": "starts the installed program, which takes over without a lost connection",
        },
    }))
}

async fn health() -> Response {
    answer(&json!({ "status": "ok" }))
}

async fn ready(State(app): State<App>) -> Response {
    let operations = app.operations.clone();
    match elsewhere(move || operations.ready()).await {
        Ok(Readiness::Ready { warning: None }) => answer(&json!({ "status": "ready" })),
        Ok(Readiness::Ready { warning: Some(warning) }) => answer(&json!({ "status": "ready", "warning": warning })),
        Ok(Readiness::Draining) => problem(StatusCode::SERVICE_UNAVAILABLE, "Draining: no new traffic, please."),
        Ok(Readiness::NotReady(reasons)) => {
            let mut body = problem_body(StatusCode::SERVICE_UNAVAILABLE, "Not ready yet.");
            body["reasons"] = reasons.into();
            respond(StatusCode::SERVICE_UNAVAILABLE, PROBLEM, body.to_string())
        }
        Err(failed) => failed,
    }
}

async fn expose(State(app): State<App>) -> Response {
    long(&app, metrics::CONTENT_TYPE, |operations| {
        let functions = operations.functions().iter().filter_map(FunctionView::counts).collect();
        let extra = Extra::now(operations.certificates(), operations.upstreams(), operations.consumer_counts(), functions);
        metrics::exposition(&operations.metrics(), &extra)
    })
    .await
}

async fn config(State(app): State<App>) -> Response {
    long(&app, JSON, |operations| operations.config().to_string()).await
}

async fn routes(State(app): State<App>) -> Response {
    long(&app, JSON, |operations| operations.routes().to_string()).await
}

async fn limits(State(app): State<App>) -> Response {
    long(&app, JSON, |operations| crate::limits::to_json(&operations.limits()).to_string()).await
}

async fn upstreams(State(app): State<App>) -> Response {
    long(&app, JSON, |operations| operations.upstreams().iter().map(UpstreamView::to_json).collect::<Value>().to_string()).await
}

async fn status(State(app): State<App>) -> Response {
    long(&app, JSON, |operations| operations.status().to_string()).await
}

async fn reload(State(app): State<App>) -> Response {
    // Held by the work and not by the request: a client that goes away does not let a second reload in beside the first.
    let turn = app.reloading.clone().lock_owned().await;
    let operations = app.operations.clone();
    let done = elsewhere(move || {
        let _turn = turn;
        operations.reload()
    });
    match done.await {
        Ok(Ok(generation)) => answer(&json!({ "generation": generation })),
        Ok(Err(diagnostics)) => problem(StatusCode::UNPROCESSABLE_ENTITY, &diagnostics),
        Err(failed) => failed,
    }
}

async fn upgrade(State(app): State<App>) -> Response {
    let operations = app.operations.clone();
    match elsewhere(move || operations.upgrade()).await {
        Ok(Ok(Successor { pid, version })) => answer(&json!({ "pid": pid, "version": version })),
        Ok(Err(NotUpgraded::Refused(words))) => problem(StatusCode::CONFLICT, &words),
        Ok(Err(NotUpgraded::Failed(words))) => problem(StatusCode::INTERNAL_SERVER_ERROR, &words),
        Err(failed) => failed,
    }
}

async fn nothing_here() -> Response {
    problem(StatusCode::NOT_FOUND, "There is nothing at this address. `GET /` says what there is.")
}

async fn wrong_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "This address does not answer to that method.")
}

/// Runs what may block or compute for long where nobody waits for it.
pub(super) async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Response> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "an admin request failed");
        problem(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong in the gateway; its log says what.")
    })
}

/// An answer that may be long: only a few of them are in memory at once, from the making until the last byte is sent.
pub(super) async fn long(
    app: &App,
    kind: &'static str,
    make: impl FnOnce(&dyn Operations) -> String + Send + 'static,
) -> Response {
    let Ok(Ok(turn)) = tokio::time::timeout(TURN_TIME_MAX, app.turns.clone().acquire_owned()).await else {
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "Too many long answers are being read at once.");
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        return response;
    };
    let operations = app.operations.clone();
    match elsewhere(move || Long { text: make(&*operations), _turn: turn }).await {
        Ok(long) => respond(StatusCode::OK, kind, Bytes::from_owner(long)),
        Err(failed) => failed,
    }
}

/// Gives its turn back when the last slice of it is gone.
struct Long {
    text: String,
    _turn: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Long {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

pub(super) fn answer(value: &Value) -> Response {
    answer_as(StatusCode::OK, value)
}

pub(super) fn answer_as(status: StatusCode, value: &Value) -> Response {
    respond(status, JSON, value.to_string())
}

pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    respond(status, PROBLEM, problem_body(status, detail).to_string())
}

/// RFC 9457. The type is the status itself, so the title is the status' own phrase (section 4.2.1).
fn problem_body(status: StatusCode, detail: &str) -> Value {
    json!({ "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail })
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static(kind))], body.into()).into_response()
}
