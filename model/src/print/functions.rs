//! `functions` as JSON, and `websocket`. What is in an environment may be secret, and is never shown.

use super::duration;
use crate::document::{
    AwsFunction, EventForm, Function, FunctionPlace, FunctionQueue, Hosted, InvocationType, ResponseMode, SocketRoute, WebSocket,
};
use crate::values::format_size;
use serde_json::{Map, Value, json};

pub(super) fn function(function: &Function) -> Value {
    let Function { place, event, timeout, response, invocation, binary_media_types, multi_value_headers } = function;
    let mut value = match place {
        FunctionPlace::Hosted(function) => hosted(function),
        FunctionPlace::Aws(function) => aws(function),
    };
    value["event"] = match event {
        EventForm::V2 => "v2",
        EventForm::V1 => "v1",
        EventForm::Alb => "alb",
        EventForm::Url => "url",
        EventForm::Raw => "raw",
    }
    .into();
    value["timeout"] = duration(*timeout);
    value["response"] = match response {
        ResponseMode::Buffered => "buffered",
        ResponseMode::Streamed => "streamed",
    }
    .into();
    value["invocation"] = match invocation {
        InvocationType::RequestResponse => "request_response",
        InvocationType::Event => "event",
    }
    .into();
    if *event == EventForm::V1 {
        value["binary_media_types"] = json!(binary_media_types);
    }
    if *event == EventForm::Alb {
        value["multi_value_headers"] = json!(multi_value_headers);
    }
    value
}

fn hosted(function: &Hosted) -> Value {
    let Hosted {
        runtime,
        code,
        handler,
        init_timeout,
        concurrency,
        min_instances,
        idle,
        queue: FunctionQueue { length, timeout },
        environment,
        memory,
        user,
        layers,
        reports,
    } = function;
    let mut value = json!({
        "runtime": runtime.as_str(),
        "code": code.display().to_string(),
        "init_timeout": duration(*init_timeout),
        "concurrency": concurrency.get(),
        "min_instances": min_instances,
        "idle": duration(*idle),
        "queue": { "length": length, "timeout": duration(*timeout) },
        "environment": environment.iter().map(|(name, value)| (name.clone(), value.to_string().into())).collect::<Map<_, _>>(),
        "layers": layers.iter().map(|layer| layer.display().to_string()).collect::<Vec<_>>(),
        "reports": reports,
    });
    if let Some(handler) = handler {
        value["handler"] = handler.as_str().into();
    }
    if let Some(memory) = memory {
        value["memory"] = format_size(*memory).into();
    }
    if let Some(user) = user {
        value["user"] = user.as_str().into();
    }
    value
}

fn aws(function: &AwsFunction) -> Value {
    let AwsFunction { arn, endpoint, profile, client_context } = function;
    let mut value = json!({ "arn": arn.to_string() });
    if let Some(endpoint) = endpoint {
        value["endpoint"] = super::url(endpoint).into();
    }
    if let Some(profile) = profile {
        value["profile"] = profile.as_str().into();
    }
    if let Some(context) = client_context {
        value["client_context"] = context.clone();
    }
    value
}

pub(super) fn websocket(socket: &WebSocket) -> Value {
    let WebSocket { select, routes, idle, lifetime, binary } = socket;
    let route = |SocketRoute { function, respond }: &SocketRoute| json!({ "function": function.as_str(), "respond": respond });
    json!({
        "select": select.to_string(),
        "routes": routes.iter().map(|(key, target)| (key.value.clone(), route(target))).collect::<Map<_, _>>(),
        "idle": duration(*idle),
        "lifetime": duration(*lifetime),
        "binary": binary,
    })
}
