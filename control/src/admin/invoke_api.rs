//! AWS Lambda's Invoke API (2015-03-31, and 2021-11-15 for streams) for functions of the configuration, so that AWS's own clients run them as they
//! are: boto3, the AWS CLI, and functions that call functions. Of the rest of Lambda's API there is what tells of a function; nothing is made,
//! changed or deleted here, since definitions come from files alone.

mod call;
mod events;
mod refusal;

use super::answers::{App, elsewhere};
use super::functions::{self, base64_of, check_event, event_or_empty, in_query, insert, random, turn};
use crate::functions::keys::Caller;
use crate::functions::name::{self, ACCOUNT, Asked, LATEST, Wrong};
use crate::functions::{FunctionView, Runs};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
pub(super) use call::Call;
use events::Events;
use maitred_core::function::{Finished, Invocation};
use maitred_core::wire::base64;
use maitred_host::{Answer, Streamed};
pub(super) use refusal::Refusal;
use refusal::{LATER_BYTES_MAX, REQUEST_ID};
use serde_json::{Value, json};
use std::sync::Arc;

const INVOCATION_TYPE: &str = "x-amz-invocation-type";
const LOG_TYPE: &str = "x-amz-log-type";
const CLIENT_CONTEXT: &str = "x-amz-client-context";
const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");
const REMAPPED_LENGTH: HeaderName = HeaderName::from_static("x-amzn-remapped-content-length");
const REMAPPED_TYPE: HeaderName = HeaderName::from_static("x-amzn-remapped-content-type");

/// Bytes of a client context, in base64 (reference: AWS Lambda, Invoke).
const CONTEXT_BYTES_MAX: usize = 3583;
/// Bytes of a trace that a caller sends; a longer one is not passed on.
const TRACE_BYTES_MAX: usize = 256;
/// Functions in one list, unless fewer are asked for (reference: AWS Lambda, ListFunctions).
const LIST_MAX: usize = 50;

pub(super) fn router() -> Router<App> {
    let only = |methods: MethodRouter<App>| methods.fallback(nothing);
    Router::new()
        .route("/2015-03-31/functions/{name}/invocations", only(post(invoke)))
        .route("/2021-11-15/functions/{name}/response-streaming-invocations", only(post(stream)))
        .route("/2015-03-31/functions", only(get(list)))
        .route("/2015-03-31/functions/", only(get(list)))
        .route("/2015-03-31/functions/{name}", only(get(show)))
        .route("/2015-03-31/functions/{name}/configuration", only(get(configuration)))
        .route("/2015-03-31/{*rest}", any(nothing))
        .route("/2021-11-15/{*rest}", any(nothing))
}

async fn nothing(_call: Call) -> Refusal {
    Refusal::no_such_operation()
}

/// What may be done with an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

async fn invoke(State(app): State<App>, Path(name): Path<String>, call: Call) -> Response {
    answered(invoked(&app, &name, call, false).await)
}

async fn stream(State(app): State<App>, Path(name): Path<String>, call: Call) -> Response {
    answered(invoked(&app, &name, call, true).await)
}

fn answered(done: Result<Response, Refusal>) -> Response {
    done.unwrap_or_else(Refusal::into_response)
}

async fn invoked(app: &App, name: &str, call: Call, is_streamed: bool) -> Result<Response, Refusal> {
    let drawn = random().ok_or_else(|| Refusal::service("The system gives no random bytes."))?;
    let id = drawn.id();
    let done = async {
        let asked = asked(name, &call)?;
        let kind = kind(&call.headers, is_streamed)?;
        let log_tail = wants_log(&call.headers)?;
        let client_context = client_context(&call.headers)?;
        let (function, runs) = found(app, &asked, call.caller)?;
        check_event(&call.body).map_err(|why| Refusal::not_json(&why))?;
        let trace = text(&call.headers, TRACE.as_str()).filter(|trace| trace.len() <= TRACE_BYTES_MAX);
        let invocation = Invocation {
            id: id.as_str().into(),
            event: event_or_empty(call.body),
            arn: Some(asked.arn(&app.region).into()),
            trace: trace.map_or_else(|| drawn.trace(&app.clock), str::to_owned).into(),
            client_context: client_context.map(Into::into),
            streamed: is_streamed,
            log_tail,
        };
        let trace = invocation.trace.clone();
        // In AWS an event takes as long to be taken as a run may last.
        call.patience.extend(function.patience());
        let mut response = match kind {
            Kind::DryRun => StatusCode::NO_CONTENT.into_response(),
            Kind::Event => submitted(&*runs, invocation).await?,
            Kind::RequestResponse => run(app, &*runs, invocation).await?,
        };
        insert(response.headers_mut(), REQUEST_ID, &id);
        insert(response.headers_mut(), TRACE, &trace);
        Ok(response)
    };
    done.await.map_err(|refusal: Refusal| refusal.of(&id))
}

/// Nobody waits for it.
async fn submitted(runs: &dyn Runs, invocation: Invocation) -> Result<Response, Refusal> {
    if invocation.event.len() > LATER_BYTES_MAX {
        return Err(Refusal::too_large_for_later());
    }
    runs.submit(invocation).await.map_err(Refusal::unrun)?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn run(app: &App, runs: &dyn Runs, invocation: Invocation) -> Result<Response, Refusal> {
    let is_streamed = invocation.streamed;
    let turn = turn(&app.invocations).ok_or_else(Refusal::throttled)?;
    let answer = runs.invoke(invocation).await.map_err(Refusal::unrun)?;
    Ok(match answer {
        Answer::Whole(finished) if is_streamed => {
            let kind = finished.content_type.clone();
            streamed(kind.as_deref(), &finished.version, Body::from(events::whole(&finished)))
        }
        Answer::Whole(finished) => whole(finished),
        Answer::Streamed(Streamed { content_type, pieces }) => {
            let events = Events { pieces, is_over: false, _turn: turn };
            streamed(content_type.as_deref(), LATEST, Body::new(events))
        }
    })
}

/// 200, also where the function failed: the call was a good one.
fn whole(finished: Finished) -> Response {
    let Finished { payload, content_type, failure, log_tail, version, duration: _ } = finished;
    let kind = content_type.as_deref().and_then(|kind| HeaderValue::from_str(kind).ok());
    let mut response = (StatusCode::OK, payload).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/json")));
    headers.insert(REMAPPED_LENGTH, HeaderValue::from_static("0"));
    insert(headers, EXECUTED_VERSION, version_or_latest(&version));
    if failure.is_some() {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    if let Some(log) = log_tail {
        insert(headers, LOG_RESULT, &base64_of(&log));
    }
    response
}

/// `kind`: of the bytes that the function writes.
fn streamed(kind: Option<&str>, version: &str, body: Body) -> Response {
    let mut response = (StatusCode::OK, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(events::CONTENT_TYPE));
    insert(headers, REMAPPED_TYPE, kind.unwrap_or("application/octet-stream"));
    insert(headers, EXECUTED_VERSION, version_or_latest(version));
    response
}

fn version_or_latest(version: &str) -> &str {
    if version.is_empty() { LATEST } else { version }
}

fn asked(name: &str, call: &Call) -> Result<Asked, Refusal> {
    let qualifier = in_query(call.uri.query().unwrap_or_default(), "Qualifier");
    name::parse(name, qualifier.as_deref()).map_err(|wrong| match wrong {
        Wrong::Name => {
            Refusal::invalid(name, "'functionName' failed to satisfy constraint: Member must be the name or ARN of a function")
        }
        Wrong::Qualifier => {
            let qualifier = qualifier.as_deref().unwrap_or_default();
            Refusal::invalid(qualifier, "'qualifier' failed to satisfy constraint: Member must be a version or an alias")
        }
        Wrong::Two => {
            Refusal::wrong_parameter("The derived qualifier from the function name does not match the specified qualifier.")
        }
    })
}

fn found(app: &App, asked: &Asked, caller: Caller) -> Result<(FunctionView, Arc<dyn Runs>), Refusal> {
    let function = app.operations.function(&asked.name).filter(|function| is_open_to(function, caller));
    // In AWS another version may be other code, and which one is asked there the configuration says.
    let function = function.filter(|function| {
        function.hosted().is_some() || asked.qualifier.is_none() || asked.qualifier.as_deref() == function.qualifier()
    });
    let runs = function.as_ref().and_then(FunctionView::runs);
    function.zip(runs).ok_or_else(|| Refusal::not_found(&asked.arn(&app.region)))
}

/// The gateway's keys of AWS are the administrator's: no function acts by them.
fn is_open_to(function: &FunctionView, caller: Caller) -> bool {
    match caller {
        Caller::Admin => true,
        Caller::Function => function.hosted().is_some(),
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn kind(headers: &HeaderMap, is_streamed: bool) -> Result<Kind, Refusal> {
    let wrong = |value: &str, known: &str| {
        Err(Refusal::invalid(
            value,
            &format!("'invocationType' failed to satisfy constraint: Member must satisfy enum value set: {known}"),
        ))
    };
    match text(headers, INVOCATION_TYPE) {
        None | Some("RequestResponse") => Ok(Kind::RequestResponse),
        Some("DryRun") => Ok(Kind::DryRun),
        Some("Event") if !is_streamed => Ok(Kind::Event),
        Some(other) if is_streamed => wrong(other, "[RequestResponse, DryRun]"),
        Some(other) => wrong(other, "[Event, RequestResponse, DryRun]"),
    }
}

fn wants_log(headers: &HeaderMap) -> Result<bool, Refusal> {
    match text(headers, LOG_TYPE) {
        None | Some("None") => Ok(false),
        Some("Tail") => Ok(true),
        Some(other) => Err(Refusal::invalid(
            other,
            "'logType' failed to satisfy constraint: Member must satisfy enum value set: [None, Tail]",
        )),
    }
}

/// As JSON.
fn client_context(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(CLIENT_CONTEXT) else { return Ok(None) };
    if value.len() > CONTEXT_BYTES_MAX {
        return Err(Refusal::wrong_parameter("Client context must be at most 3583 bytes of Base64."));
    }
    let decoded = base64::decode(value.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
    let is_object = |text: &String| serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
    decoded.filter(is_object).map(Some).ok_or_else(Refusal::wrong_context)
}

async fn list(State(app): State<App>, call: Call) -> Response {
    let query = call.uri.query().unwrap_or_default();
    let most = match in_query(query, "MaxItems").map(|text| text.parse::<usize>()) {
        None => LIST_MAX,
        Some(Ok(most)) if most > 0 => most.min(LIST_MAX),
        Some(_) => return Refusal::wrong_parameter("MaxItems is a number from 1 on.").into_response(),
    };
    let operations = app.operations.clone();
    let mut functions = match elsewhere(move || operations.functions()).await {
        Ok(functions) => functions,
        Err(_) => return Refusal::service("The gateway could not say.").into_response(),
    };
    functions.retain(|function| function.runs().is_some() && is_open_to(function, call.caller));
    functions.sort_by(|a, b| a.name().cmp(b.name()));
    // The last name of the page before.
    let after = in_query(query, "Marker").unwrap_or_default();
    let mut rest = functions.iter().filter(|function| function.name() > after.as_str());
    let page: Vec<&FunctionView> = rest.by_ref().take(most).collect();
    let next = rest.next().and(page.last()).map(|last| last.name());
    let page: Value = page.iter().map(|function| described(&app, function, None)).collect();
    json(&json!({ "Functions": page, "NextMarker": next }))
}

async fn show(State(app): State<App>, Path(name): Path<String>, call: Call) -> Response {
    answered(asked(&name, &call).and_then(|asked| {
        let (function, _) = found(&app, &asked, call.caller)?;
        let configuration = described(&app, &function, asked.qualifier.as_deref());
        Ok(json(&json!({ "Configuration": configuration, "Code": {}, "Tags": {} })))
    }))
}

async fn configuration(State(app): State<App>, Path(name): Path<String>, call: Call) -> Response {
    answered(asked(&name, &call).and_then(|asked| {
        let (function, _) = found(&app, &asked, call.caller)?;
        Ok(json(&described(&app, &function, asked.qualifier.as_deref())))
    }))
}

/// As AWS describes a function; what has no meaning here is left out, and so is what may be secret.
fn described(app: &App, function: &FunctionView, qualifier: Option<&str>) -> Value {
    let asked = Asked { name: function.name().to_owned(), qualifier: qualifier.map(str::to_owned) };
    let mut value = json!({
        "FunctionName": asked.name,
        "FunctionArn": asked.arn(&app.region),
        "Role": format!("arn:aws:iam::{ACCOUNT}:role/maitred"),
        "Timeout": function.function().timeout.as_secs().max(1),
        "Version": LATEST,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
    });
    if let Some(hosted) = function.hosted() {
        value["Runtime"] = hosted.runtime.as_str().into();
        value["Handler"] = hosted.handler.as_ref().map(|handler| handler.as_str()).into();
        value["MemorySize"] = hosted.memory.map(|bytes| bytes >> 20).into();
    }
    if let Some(processes) = function.processes() {
        value["CodeSha256"] = processes.code().0.into();
    }
    value
}

pub(super) fn json(value: &Value) -> Response {
    let mut response = value.to_string().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(drawn) = functions::random() {
        insert(response.headers_mut(), REQUEST_ID, &drawn.id());
    }
    response
}
