//! Registered callers over HTTP: what is asked for becomes a `Change`, and what came of it an answer. Decides nothing about them.

use super::answers::{App, JSON, answer, answer_as, elsewhere, long, problem};
use crate::consumers::ConsumerView;
use crate::store::{BroughtKey, Change, Changed, Name, NotChanged};
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maitred_core::render::query_values;
use maitred_core::wire::path;
use maitred_model::{Secret, parse_duration};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::time::Duration;

/// Bytes of a body: a hundred groups and as many identities.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// For it to come.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Adding {
    name: String,
    #[serde(default)]
    groups: Vec<String>,
    plan: Option<String>,
    #[serde(default)]
    identities: Vec<Naming>,
    /// Whether a key is made: unless it brings some along, it is.
    key: Option<bool>,
    #[serde(default, deserialize_with = "brought")]
    api_keys: Vec<BroughtKey>,
}

/// What is wrong with it is said without it.
fn brought<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BroughtKey>, D::Error> {
    let wrong = || D::Error::custom("`api_keys` is a list of texts");
    let one = |key: Value| match key {
        Value::String(key) => Ok(BroughtKey(Secret::new(key))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err(wrong()),
    };
    match Value::deserialize(deserializer)? {
        Value::Array(keys) => keys.into_iter().map(one).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => Err(wrong()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `authorizer` and `subject`")]
struct Naming {
    authorizer: String,
    subject: String,
}

impl From<Naming> for Name {
    fn from(Naming { authorizer, subject }: Naming) -> Name {
        Name { authorizer, subject }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    groups: Option<Vec<String>>,
    /// `null` takes it away, which is not the same as nothing.
    #[serde(default, deserialize_with = "given")]
    plan: Option<Option<String>>,
    disabled: Option<bool>,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotating {
    /// A duration such as `24h`.
    grace: Option<String>,
}

pub(super) async fn list(State(app): State<App>) -> Response {
    long(&app, JSON, |operations| operations.consumers().iter().map(ConsumerView::to_json).collect::<Value>().to_string()).await
}

pub(super) async fn show(State(app): State<App>, Path(name): Path<String>) -> Response {
    let operations = app.operations.clone();
    match elsewhere(move || operations.consumer(&name)).await {
        Ok(Ok(view)) => answer(&view.to_json()),
        Ok(Err(not_done)) => refused(&not_done),
        Err(failed) => failed,
    }
}

pub(super) async fn add(State(app): State<App>, body: Body) -> Response {
    let Adding { name, groups, plan, identities, key, api_keys: brought } = match read(body).await {
        Ok(adding) => adding,
        Err(wrong) => return wrong,
    };
    let identities = identities.into_iter().map(Name::from).collect();
    let with_key = key.unwrap_or(brought.is_empty());
    change(app, Change::Add { name, groups, plan, identities, with_key, brought }).await
}

pub(super) async fn set(State(app): State<App>, Path(name): Path<String>, body: Body) -> Response {
    match read(body).await {
        Ok(Setting { groups: None, plan: None, disabled: None }) => {
            wrong("Say what to set: `groups`, `plan`, `disabled`, or several of them.")
        }
        Ok(Setting { groups, plan, disabled }) => change(app, Change::Set { name, groups, plan, disabled }).await,
        Err(wrong) => wrong,
    }
}

pub(super) async fn remove(State(app): State<App>, Path(name): Path<String>) -> Response {
    change(app, Change::Remove { name }).await
}

pub(super) async fn add_key(State(app): State<App>, Path(name): Path<String>) -> Response {
    change(app, Change::AddKey { name }).await
}

pub(super) async fn remove_key(State(app): State<App>, Path((name, id)): Path<(String, String)>) -> Response {
    change(app, Change::RemoveKey { name, id }).await
}

pub(super) async fn rotate_key(State(app): State<App>, Path(name): Path<String>, body: Body) -> Response {
    let Rotating { grace } = match read_or_default(body).await {
        Ok(rotating) => rotating,
        Err(wrong) => return wrong,
    };
    match grace.as_deref().map(parse_duration) {
        None => change(app, Change::RotateKey { name, grace: Duration::ZERO }).await,
        Some(Ok(grace)) => change(app, Change::RotateKey { name, grace }).await,
        Some(Err(error)) => wrong(&error.to_string()),
    }
}

pub(super) async fn add_identity(State(app): State<App>, Path(name): Path<String>, body: Body) -> Response {
    match read::<Naming>(body).await {
        Ok(naming) => change(app, Change::AddIdentity { name, identity: naming.into() }).await,
        Err(wrong) => wrong,
    }
}

pub(super) async fn remove_identity(State(app): State<App>, Path(name): Path<String>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let (Some(authorizer), Some(subject)) = (in_query(&query, b"authorizer"), in_query(&query, b"subject")) else {
        return wrong("Name the identity: `?authorizer=corporate&subject=alice`.");
    };
    change(app, Change::RemoveIdentity { name, identity: Name { authorizer, subject } }).await
}

/// The consumer as it is now, and the key that was made.
async fn change(app: App, change: Change) -> Response {
    let status = match &change {
        Change::Add { .. } | Change::AddKey { .. } | Change::RotateKey { .. } | Change::AddIdentity { .. } => StatusCode::CREATED,
        Change::Set { .. } | Change::Remove { .. } | Change::RemoveKey { .. } | Change::RemoveIdentity { .. } => StatusCode::OK,
    };
    let operations = app.operations.clone();
    let done = elsewhere(move || {
        let name = change.name().to_owned();
        operations.change_consumer(change).map(|changed| (changed, operations.consumer(&name).ok()))
    });
    match done.await {
        Ok(Ok((Changed { key, warning }, consumer))) => {
            let (id, key) = key.map(|(id, key)| (id, key.expose().to_owned())).unzip();
            let consumer = consumer.as_ref().map(ConsumerView::to_json);
            answer_as(status, &json!({ "consumer": consumer, "key": key, "key_id": id, "warning": warning }))
        }
        Ok(Err(not_done)) => refused(&not_done),
        Err(failed) => failed,
    }
}

pub(super) fn refused(not_done: &NotChanged) -> Response {
    let status = match not_done {
        NotChanged::Unknown(_) => StatusCode::NOT_FOUND,
        NotChanged::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
        NotChanged::Conflict(_) => StatusCode::CONFLICT,
        NotChanged::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, &not_done.to_string())
}

fn wrong(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, detail)
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Response> {
    let bytes = whole(body).await?;
    // A list would be taken for the fields in their order.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("The body is a JSON object, such as `{\"name\": \"alice\"}`; `GET /` says what there is to ask."));
    }
    serde_json::from_slice(&bytes).map_err(|error| wrong(&format!("The body is not the JSON that belongs here: {error}.")))
}

/// No body says nothing.
async fn read_or_default<T: DeserializeOwned + Default>(body: Body) -> Result<T, Response> {
    let bytes = whole(body).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    read(Body::from(bytes)).await
}

async fn whole(body: Body) -> Result<axum::body::Bytes, Response> {
    match tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) | Err(_) => Err(wrong("The body is cut off, too long, or too slow.")),
    }
}

/// Percent-decoded.
fn in_query(query: &str, name: &[u8]) -> Option<String> {
    let mut value = Vec::new();
    path::decode(query_values(query.as_bytes(), name).next()?, &mut value);
    String::from_utf8(value).ok().filter(|value| !value.is_empty())
}
