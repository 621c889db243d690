//! One upstream, and the hand that takes an endpoint of it out or lets it in again.

use super::answers::{App, answer, elsewhere, problem};
use crate::upstreams::{Turned, Unknown};
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maitred_core::render::query_values;
use maitred_core::wire::path;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// Bytes of a body that names an endpoint.
const BODY_BYTES_MAX: usize = 4096;
/// For it to come.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default, Deserialize)]
pub(super) struct Which {
    endpoint: Option<String>,
}

pub(super) async fn upstream(State(app): State<App>, Path(name): Path<String>) -> Response {
    let operations = app.operations.clone();
    match elsewhere(move || operations.upstream(&name)).await {
        Ok(Ok(view)) => answer(&view.to_json()),
        Ok(Err(unknown)) => problem(StatusCode::NOT_FOUND, &unknown.to_string()),
        Err(failed) => failed,
    }
}

pub(super) async fn drain(state: State<App>, name: Path<String>, query: RawQuery, body: Body) -> Response {
    turn(state, name, query, body, true).await
}

pub(super) async fn enable(state: State<App>, name: Path<String>, query: RawQuery, body: Body) -> Response {
    turn(state, name, query, body, false).await
}

async fn turn(
    State(app): State<App>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
    is_drained: bool,
) -> Response {
    let endpoint = match query.and_then(|query| in_query(&query)) {
        Some(endpoint) => Some(endpoint),
        None => named(body).await,
    };
    let Some(endpoint) = endpoint else {
        return problem(
            StatusCode::BAD_REQUEST,
            "Name the endpoint: `?endpoint=10.0.1.1:9000`, or the body `{\"endpoint\": \"10.0.1.1:9000\"}`.",
        );
    };
    let (operations, upstream) = (app.operations.clone(), name.clone());
    let turned: Result<Result<Turned, Unknown>, Response> =
        elsewhere(move || operations.turn(&upstream, &endpoint, is_drained)).await;
    match turned {
        Ok(Ok(Turned { endpoint, state, in_flight, warning })) => answer(&json!({
            "upstream": name,
            "endpoint": endpoint,
            "state": state.as_str(),
            "in_flight": in_flight,
            "warning": warning,
        })),
        Ok(Err(unknown)) => problem(StatusCode::NOT_FOUND, &unknown.to_string()),
        Err(failed) => failed,
    }
}

/// `endpoint=…`, percent-decoded.
fn in_query(query: &str) -> Option<String> {
    let mut endpoint = Vec::new();
    path::decode(query_values(query.as_bytes(), b"endpoint").next()?, &mut endpoint);
    String::from_utf8(endpoint).ok().filter(|endpoint| !endpoint.is_empty())
}

/// As JSON.
async fn named(body: Body) -> Option<String> {
    let bytes = tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await.ok()?.ok()?;
    serde_json::from_slice::<Which>(&bytes).ok()?.endpoint
}
