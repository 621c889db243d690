//! Functions over HTTP, for who has the admin token: what there are, how their processes are, what they wrote, and one run of one of them.
//! AWS's own words for the same are the Invoke API's.

use super::answers::{App, answer, elsewhere, problem};
use super::{NotReloaded, Patience, Reloaded};
use crate::functions::{FunctionView, Processes, Runs, Unrun, name};
use crate::times::of_millis;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use maitred_core::Clock;
use maitred_core::function::{Failure, Finished, Invocation, PAYLOAD_BYTES_MAX};
use maitred_core::render::query_value;
use maitred_core::wire::{base64, path};
use maitred_host::{Answer, LogLine, LogSource, NotRun};
use maitred_model::suggest;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For a body of six megabytes to come.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// For the host's thread to say how its processes are.
const VIEW_TIME_MAX: Duration = Duration::from_secs(2);
/// Names listed where none is near to what was asked for.
const LISTED_MAX: usize = 20;

/// By which a caller and the function's log know a run.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-maitred-request-id");
/// That it failed, and how.
const FAILURE: HeaderName = HeaderName::from_static("x-maitred-function-failure");
/// In base64: the end of its log.
const LOG: HeaderName = HeaderName::from_static("x-maitred-function-log");

pub(super) async fn list(State(app): State<App>) -> Response {
    let operations = app.operations.clone();
    let functions = match elsewhere(move || operations.functions()).await {
        Ok(functions) => functions,
        Err(failed) => return failed,
    };
    let mut list = Vec::with_capacity(functions.len());
    for function in &functions {
        list.push(seen(function).await);
    }
    answer(&list.into())
}

pub(super) async fn show(State(app): State<App>, Path(name): Path<String>) -> Response {
    match app.operations.function(&name) {
        Some(function) => answer(&seen(&function).await),
        None => unknown(&app, &name),
    }
}

/// As it is now; without its processes where the host has no time to say.
async fn seen(function: &FunctionView) -> Value {
    let view = match function.processes() {
        Some(processes) => tokio::time::timeout(VIEW_TIME_MAX, processes.view()).await.ok(),
        None => None,
    };
    function.to_json(view.as_ref())
}

pub(super) async fn invoke(
    State(app): State<App>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    Extension(patience): Extension<Patience>,
    body: Body,
) -> Response {
    let (function, runs) = match runs(&app, &name) {
        Ok(found) => found,
        Err(why) => return why.told(&app, &name),
    };
    let event = match tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, PAYLOAD_BYTES_MAX)).await {
        Ok(Ok(event)) => event,
        Ok(Err(_)) => return problem(StatusCode::PAYLOAD_TOO_LARGE, "The event is longer than 6 MB, or was cut off."),
        Err(_) => return problem(StatusCode::REQUEST_TIMEOUT, "The event comes too slowly."),
    };
    if let Err(wrong) = check_event(&event) {
        return problem(StatusCode::BAD_REQUEST, &format!("The event is not JSON: {wrong}."));
    }
    let Some(_turn) = turn(&app.invocations) else { return not_run(&name, &Unrun::Here(NotRun::QueueFull)) };
    let wants_log = query_value(query.unwrap_or_default().as_bytes(), b"logs") == Some(b"true");
    let Some(drawn) = random() else { return problem(StatusCode::INTERNAL_SERVER_ERROR, "The system gives no random bytes.") };
    let invocation = Invocation {
        id: drawn.id().into(),
        event: event_or_empty(event),
        arn: Some(name::arn(&app.region, &name).into()),
        trace: drawn.trace(&app.clock).into(),
        client_context: None,
        streamed: false,
        log_tail: wants_log,
    };
    let id = invocation.id.clone();
    patience.extend(function.patience());
    match runs.invoke(invocation).await {
        Ok(Answer::Whole(finished)) => result(&id, finished),
        Ok(Answer::Streamed(_)) => problem(StatusCode::INTERNAL_SERVER_ERROR, "A result that nobody wanted as a stream."),
        Err(refused) => not_run(&name, &refused),
    }
}

/// The bytes of the result as they are. What is said about them stands in headers.
fn result(id: &str, finished: Finished) -> Response {
    let Finished { payload, content_type, failure, log_tail, version: _, duration: _ } = finished;
    let status = failure.map_or(StatusCode::OK, status_of);
    let kind = content_type.as_deref().and_then(|kind| HeaderValue::from_str(kind).ok());
    let mut response = (status, payload).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/json")));
    insert(headers, REQUEST_ID, id);
    if let Some(failure) = failure {
        headers.insert(FAILURE, HeaderValue::from_static(word(failure)));
    }
    if let Some(log) = log_tail {
        insert(headers, LOG, &base64_of(&log));
    }
    response
}

fn status_of(failure: Failure) -> StatusCode {
    StatusCode::from_u16(failure.fault("").kind.status()).unwrap_or(StatusCode::BAD_GATEWAY)
}

fn word(failure: Failure) -> &'static str {
    match failure {
        Failure::Raised => "raised",
        Failure::TimedOut => "timed_out",
        Failure::Exited => "exited",
        Failure::NotStarted => "not_started",
        Failure::TooLarge => "too_large",
    }
}

/// AWS's own words name accounts and roles: who asks here may read them.
fn not_run(name: &str, why: &Unrun) -> Response {
    let (status, words) = match why {
        Unrun::Here(NotRun::QueueFull) => (StatusCode::SERVICE_UNAVAILABLE, "as many invocations wait as may"),
        Unrun::Here(NotRun::Waited) => (StatusCode::SERVICE_UNAVAILABLE, "no process came free in time"),
        Unrun::Here(NotRun::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, "the event is longer than 6 MB"),
        Unrun::Here(NotRun::Closed) => (StatusCode::SERVICE_UNAVAILABLE, "it is being put out of use"),
        Unrun::Away(fault) => {
            (StatusCode::from_u16(fault.kind.status()).unwrap_or(StatusCode::BAD_GATEWAY), fault.detail.as_ref())
        }
    };
    problem(status, &format!("`{name}` was not run: {words}."))
}

pub(super) async fn logs(State(app): State<App>, Path(name): Path<String>, RawQuery(query): RawQuery) -> Response {
    let (_, processes) = match hosted(&app, &name) {
        Ok(found) => found,
        Err(not_hosted) => return not_hosted.told(&app, &name),
    };
    let query = query.unwrap_or_default();
    let after = match in_query(&query, "after").map(|text| text.parse()) {
        None => 0,
        Some(Ok(after)) => after,
        Some(Err(_)) => return problem(StatusCode::BAD_REQUEST, "`after` is the number of a line."),
    };
    let id = in_query(&query, "request_id");
    let lines = match elsewhere(move || processes.log_after(after)).await {
        Ok(lines) => lines,
        Err(failed) => return failed,
    };
    let last = lines.last().map_or(after, |line| line.number);
    let wanted = |line: &&LogLine| id.is_none() || line.request_id.as_deref() == id.as_deref();
    let lines: Value = lines.iter().filter(wanted).map(line).collect();
    answer(&json!({ "lines": lines, "last": last }))
}

fn line(line: &LogLine) -> Value {
    let LogLine { number, time, source, request_id, instance, text } = line;
    json!({
        "number": number,
        "time": of_millis(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)),
        "source": match source {
            LogSource::Stdout => "stdout",
            LogSource::Stderr => "stderr",
            LogSource::Platform | LogSource::Failure => "platform",
        },
        "request_id": request_id.as_deref(),
        "instance": instance,
        "text": &**text,
    })
}

pub(super) async fn reload(State(app): State<App>, Path(name): Path<String>) -> Response {
    // The same turn as reloads of the whole configuration, which this may become.
    let turn = app.reloading.clone().lock_owned().await;
    let (operations, asked) = (app.operations.clone(), name.clone());
    let done = elsewhere(move || {
        let _turn = turn;
        operations.reload_function(&asked)
    });
    match done.await {
        Ok(Ok(Reloaded { hash, has_changed })) => answer(&json!({ "function": name, "hash": hash, "changed": has_changed })),
        Ok(Err(NotReloaded::Unknown)) => unknown(&app, &name),
        Ok(Err(NotReloaded::Elsewhere)) => in_aws(&name),
        Ok(Err(NotReloaded::Wrong(diagnostics))) => problem(StatusCode::UNPROCESSABLE_ENTITY, &diagnostics),
        Err(failed) => failed,
    }
}

/// Why nothing is done with a function.
enum NotHosted {
    Unknown,
    Elsewhere,
    /// It is run with the gateway's keys of AWS: not for everybody who has come to this machine.
    NoToken,
    Nowhere,
}

impl NotHosted {
    fn told(&self, app: &App, name: &str) -> Response {
        match self {
            NotHosted::Unknown => unknown(app, name),
            NotHosted::Elsewhere => in_aws(name),
            NotHosted::NoToken => {
                let words = "is run with the gateway's keys of AWS, so give the admin listener a token: `admin.token`";
                problem(StatusCode::FORBIDDEN, &format!("`{name}` {words}."))
            }
            NotHosted::Nowhere => problem(StatusCode::CONFLICT, &format!("`{name}` runs nowhere.")),
        }
    }
}

fn hosted(app: &App, name: &str) -> Result<(FunctionView, Arc<dyn Processes>), NotHosted> {
    let function = app.operations.function(name).ok_or(NotHosted::Unknown)?;
    let processes = function.processes().cloned().ok_or(NotHosted::Elsewhere)?;
    Ok((function, processes))
}

/// What runs it, here or in AWS.
fn runs(app: &App, name: &str) -> Result<(FunctionView, Arc<dyn Runs>), NotHosted> {
    let function = app.operations.function(name).ok_or(NotHosted::Unknown)?;
    if function.hosted().is_none() && !app.gate.asks_for_token() {
        return Err(NotHosted::NoToken);
    }
    let runs = function.runs().ok_or(NotHosted::Nowhere)?;
    Ok((function, runs))
}

/// With those that there are, for who asks by hand.
fn unknown(app: &App, name: &str) -> Response {
    let functions = app.operations.functions();
    let known: Vec<&str> = functions.iter().map(|function| function.name()).collect();
    let what = format!("there is no function `{name}`");
    let told = match known.as_slice() {
        [] => format!("{what}, nor any other"),
        known if known.len() > LISTED_MAX => format!("{what}; `maitred function list` has those that there are"),
        known => format!("{what}; {}", suggest(name, known.iter().copied(), "the functions are")),
    };
    problem(StatusCode::NOT_FOUND, &told)
}

fn in_aws(name: &str) -> Response {
    problem(StatusCode::CONFLICT, &format!("`{name}` runs in AWS: its log and its code are there."))
}

/// A place among those that run functions from here.
pub(super) fn turn(invocations: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    invocations.clone().try_acquire_owned().ok()
}

/// No event is an empty one (reference: AWS Lambda, Invoke).
pub(super) fn event_or_empty(event: Bytes) -> Vec<u8> {
    if event.is_empty() { b"{}".to_vec() } else { event.into() }
}

/// Whether it is JSON, or nothing.
pub(super) fn check_event(event: &[u8]) -> Result<(), String> {
    if event.is_empty() {
        return Ok(());
    }
    let text = str::from_utf8(event).map_err(|error| error.to_string())?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| error.to_string())
}

/// What is drawn for each run.
#[derive(Clone, Copy)]
pub(super) struct Drawn {
    id: [u8; 16],
    root: [u8; 12],
    parent: [u8; 8],
}

/// `None`: the system has no chance left.
pub(super) fn random() -> Option<Drawn> {
    let mut drawn = Drawn { id: [0; 16], root: [0; 12], parent: [0; 8] };
    let system = SystemRandom::new();
    system.fill(&mut drawn.id).ok()?;
    system.fill(&mut drawn.root).ok()?;
    system.fill(&mut drawn.parent).ok()?;
    Some(drawn)
}

impl Drawn {
    /// A UUID.
    pub fn id(&self) -> String {
        uuid::Builder::from_random_bytes(self.id).into_uuid().to_string()
    }

    /// What X-Ray calls a run of which nobody sent its trace.
    pub fn trace(&self, clock: &Clock) -> String {
        let seconds = clock.wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("Root=1-{seconds:08x}-{};Parent={};Sampled=0", hex(&self.root), hex(&self.parent))
    }
}

pub(super) fn base64_of(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    base64::encode(bytes, &mut text);
    text.into_iter().map(char::from).collect()
}

/// Text of our own, or what was looked at: if it were no header's value it would be left out.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Percent-decoded.
pub(super) fn in_query(query: &str, name: &str) -> Option<String> {
    let mut value = Vec::new();
    path::decode(query_value(query.as_bytes(), name.as_bytes())?, &mut value);
    String::from_utf8(value).ok()
}
