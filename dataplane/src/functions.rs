//! Functions of a document, made ready to be run, and the routes that call them.

use crate::compile::State;
use maitred_host::NotReady;
use maitred_integrations::function::aws::AwsFunction;
use maitred_integrations::function::event::Resource;
use maitred_integrations::function::run::{Place, Runner};
use maitred_integrations::function::{Form, Function};
use maitred_integrations::websocket::{Target, WebSocket};
use maitred_model as model;
use maitred_model::{Diagnostic, Diagnostics, Document, FunctionPlace, Segment, Spanned};
use std::collections::HashMap;
use std::sync::Arc;

/// Where functions are told that they run, if nobody says.
const REGION: &str = "us-east-1";

/// The gateway's region, as AWS calls it.
pub(crate) fn region(state: &State) -> &str {
    state.host.as_ref().map_or(REGION, |host| &host.options().region)
}

/// In the document's order; one that cannot be run was complained about.
pub(crate) fn runners(
    document: &Document,
    state: &State,
    mut in_aws: HashMap<String, AwsFunction>,
    diagnostics: &mut Diagnostics,
) -> Vec<Arc<Runner>> {
    let mut runners = Vec::with_capacity(document.functions.len());
    for (name, function) in &document.functions {
        match place(name, function, state, &mut in_aws) {
            Ok(place) => runners.push(Arc::new(Runner { name: name.as_str().into(), timeout: function.timeout, place })),
            Err(NotReady { span, message, hint }) => {
                diagnostics.push(Diagnostic::error("bad-function", span, message).hint(hint));
            }
        }
    }
    runners
}

fn place(
    name: &str,
    function: &model::Function,
    state: &State,
    in_aws: &mut HashMap<String, AwsFunction>,
) -> Result<Place, NotReady> {
    match &function.place {
        FunctionPlace::Hosted(hosted) => match &state.host {
            // A configuration is looked at: nothing runs.
            None => maitred_host::check(hosted).map(|()| Place::Nowhere),
            Some(host) => host.pool(name, function).map(Place::Hosted),
        },
        // One without an endpoint was complained about.
        FunctionPlace::Aws(_) => Ok(in_aws.remove(name).map_or(Place::Nowhere, |function| Place::Aws(Box::new(function)))),
    }
}

/// `None`: there is no such function, and it was complained about.
pub(crate) fn integration(
    document: &Document,
    name: &str,
    route: &Spanned<model::Route>,
    (api, _): (u32, u32),
    state: &State,
) -> Option<Function> {
    let (index, name, function) = document.functions.get_full(name)?;
    let (api, _) = document.apis.get_index(api as usize)?;
    let path = &route.matcher.path;
    let params = path.segments.iter().filter_map(|segment| match segment {
        Segment::Literal(_) => None,
        Segment::Param(name) => Some((name.clone(), false)),
        Segment::Rest(name) => Some((name.clone(), true)),
    });
    Some(Function {
        function: index as u32,
        form: Form {
            event: function.event,
            response: function.response,
            invocation: function.invocation,
            binary_media_types: function.binary_media_types.clone(),
            multi_value_headers: function.multi_value_headers,
        },
        resource: Resource {
            function: name.as_str().into(),
            api: api.as_str().into(),
            methods: route.matcher.methods.clone(),
            path: path.source.clone(),
            params: params.collect(),
            region: region(state).into(),
        },
    })
}

/// `None`: there is no such API.
pub(crate) fn websocket(document: &Document, socket: &model::WebSocket, (api, _): (u32, u32)) -> Option<WebSocket> {
    let (api, _) = document.apis.get_index(api as usize)?;
    let mut compiled = WebSocket {
        api: api.as_str().into(),
        select: socket.select.path.clone(),
        connect: None,
        disconnect: None,
        default: None,
        routes: HashMap::new(),
        idle: socket.idle,
        lifetime: socket.lifetime,
        binary: socket.binary,
    };
    for (key, route) in &socket.routes {
        let target = Target { function: route.function.as_str().into(), respond: route.respond };
        match key.as_str() {
            model::CONNECT => compiled.connect = Some(target.function),
            model::DISCONNECT => compiled.disconnect = Some(target.function),
            model::DEFAULT => compiled.default = Some(target),
            key => drop(compiled.routes.insert(key.into(), target)),
        }
    }
    Some(compiled)
}
