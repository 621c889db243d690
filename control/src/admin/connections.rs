//! AWS's management API of WebSocket connections (`@connections`), signed as the Invoke API's requests are: who may write to clients, look
//! at them and send them away. Has no connections itself.

use super::answers::App;
use super::invoke_api::{Call, Refusal, json};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maitred_core::Unreached;
use std::future::Future;
use std::time::Duration;

/// For a worker to take a message.
const WORKER_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) fn router() -> Router<App> {
    Router::new().route("/@connections/{id}", get(look).post(say).delete(dismiss).fallback(nothing))
}

async fn nothing(_call: Call) -> Refusal {
    Refusal::no_such_operation()
}

async fn say(State(app): State<App>, Path(id): Path<String>, call: Call) -> Response {
    let clients = app.operations.clients();
    answered(clients.post(&id, call.body.into()), |()| StatusCode::OK.into_response()).await
}

async fn look(State(app): State<App>, Path(id): Path<String>, _call: Call) -> Response {
    let clients = app.operations.clients();
    answered(clients.get(&id), |view| json(&view.to_json())).await
}

async fn dismiss(State(app): State<App>, Path(id): Path<String>, _call: Call) -> Response {
    let clients = app.operations.clients();
    answered(clients.delete(&id), |()| StatusCode::NO_CONTENT.into_response()).await
}

async fn answered<T>(reaching: impl Future<Output = Result<T, Unreached>>, answer: impl FnOnce(T) -> Response) -> Response {
    match tokio::time::timeout(WORKER_TIME_MAX, reaching).await {
        Ok(Ok(reached)) => answer(reached),
        Ok(Err(unreached)) => Refusal::unreached(unreached).into_response(),
        Err(_) => Refusal::service("Its worker does not answer.").into_response(),
    }
}
