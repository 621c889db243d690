//! The function that answers a route: where it runs, what it is told, and how long it may take. Runs nothing.

use super::protection::Line;
use maitred_model::{
    AwsFunction, Document, EventForm, Function, FunctionPlace, Hosted, Integration, InvocationType, ResponseMode, Route,
    format_duration,
};
use serde_json::{Value, json};

/// `None`: something else answers the route.
pub fn of<'a>(document: &'a Document, route: &Route) -> Option<&'a Function> {
    match &route.integration.value {
        Integration::Function(name) => document.functions.get(name).map(|function| &function.value),
        Integration::Proxy(_)
        | Integration::WebSocket(_)
        | Integration::Respond(_)
        | Integration::Redirect(_)
        | Integration::Login(..) => None,
    }
}

pub fn lines(function: &Function) -> Vec<Line> {
    let Function { place, event, timeout, response, invocation, binary_media_types: _, multi_value_headers: _ } = function;
    let told = match event {
        EventForm::V2 => "an event of an HTTP API (2.0)",
        EventForm::V1 => "an event of a REST API (1.0)",
        EventForm::Alb => "an event of a load balancer",
        EventForm::Url => "an event of a function URL",
        EventForm::Raw => "the body of the request",
    };
    let takes = match (invocation, response) {
        (InvocationType::Event, _) => "202, before the function is done",
        (InvocationType::RequestResponse, ResponseMode::Buffered) => "the function's, whole",
        (InvocationType::RequestResponse, ResponseMode::Streamed) => "the function's, as it is written",
    };
    let timeout = ("timeout", format!("{} for an invocation", format_duration(*timeout)));
    placed(place).into_iter().chain([("is told", told.to_owned()), ("answer", takes.to_owned()), timeout]).collect()
}

fn placed(place: &FunctionPlace) -> Vec<Line> {
    match place {
        FunctionPlace::Hosted(hosted) => {
            let Hosted { runtime, code, handler, concurrency, queue, .. } = &**hosted;
            let handler = handler.as_ref().map(|handler| format!(", {}", handler.value)).unwrap_or_default();
            let code = format!("here: {} {}{handler}", runtime.as_str(), code.display());
            let (length, patience) = (queue.length, format_duration(queue.timeout));
            let at_once =
                format!("{concurrency} at most at once, each in a process of its own; {length} more wait up to {patience}");
            vec![("runs", code), ("invocations", at_once)]
        }
        FunctionPlace::Aws(aws) => {
            let AwsFunction { arn, endpoint, .. } = &**aws;
            let endpoint = endpoint.as_ref().map(|endpoint| ("endpoint", maitred_dataplane::endpoint_url(endpoint)));
            std::iter::once(("runs", format!("in AWS: {}", arn.value))).chain(endpoint).collect()
        }
    }
}

pub fn as_json(function: &Function) -> Value {
    lines(function).into_iter().fold(json!({}), |mut all, (label, words)| {
        all[label] = words.into();
        all
    })
}
