//! What consumers used of their plans, over HTTP. Counts nothing.

use super::answers::{App, JSON, answer, elsewhere, long};
use super::consumers::refused;
use crate::store::NotChanged;
use crate::usage::UsageView;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::Value;

pub(super) async fn list(State(app): State<App>) -> Response {
    long(&app, JSON, |operations| operations.usage().iter().map(UsageView::to_json).collect::<Value>().to_string()).await
}

pub(super) async fn show(State(app): State<App>, Path(name): Path<String>) -> Response {
    let operations = app.operations.clone();
    told(elsewhere(move || operations.usage_of(&name)).await)
}

pub(super) async fn reset(State(app): State<App>, Path(name): Path<String>) -> Response {
    let operations = app.operations.clone();
    told(elsewhere(move || operations.reset_usage(&name)).await)
}

fn told(done: Result<Result<UsageView, NotChanged>, Response>) -> Response {
    match done {
        Ok(Ok(view)) => answer(&view.to_json()),
        Ok(Err(not_done)) => refused(&not_done),
        Err(failed) => failed,
    }
}
