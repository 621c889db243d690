//! Functions in AWS: where each is asked for, and whose keys its requests are signed with. Looks nothing up, and finds no keys.

use crate::compile::State;
use crate::snapshot::{authority, endpoint_url};
use maitred_core::aws::{CredentialSource, Settings};
use maitred_integrations::function::aws::{AwsFunction, AwsPlace};
use maitred_model::{self as model, Diagnostic, Diagnostics, Document, Endpoint, FunctionPlace, Span, Spanned};
use std::collections::BTreeMap;
use std::time::Duration;

/// A connection that moves no byte for so long is closed, where functions do not take longer.
const IDLE_MIN: Duration = Duration::from_secs(60);

/// An endpoint of functions, and what is asked of it.
pub(crate) struct Lambda {
    pub upstream: Spanned<model::Upstream>,
    /// By name.
    pub functions: Vec<String>,
    endpoint: Endpoint,
}

/// Each endpoint once, by the name of its upstream: functions of one account and region share its connections.
pub(crate) fn lambdas(document: &Document, settings: &Settings, diagnostics: &mut Diagnostics) -> BTreeMap<String, Lambda> {
    let mut lambdas: BTreeMap<String, Lambda> = BTreeMap::new();
    for (name, function) in &document.functions {
        let FunctionPlace::Aws(aws) = &function.place else { continue };
        let endpoint = match endpoint(aws, settings) {
            Ok(endpoint) => endpoint,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                continue;
            }
        };
        let lambda = lambdas.entry(format!("lambda {}", endpoint_url(&endpoint.value))).or_insert_with(|| {
            let span = endpoint.span;
            let mut upstream = model::Upstream::of(endpoint.clone());
            (upstream.timeouts.response, upstream.timeouts.idle) = (Duration::ZERO, IDLE_MIN);
            Lambda { upstream: Spanned::new(upstream, span), functions: Vec::new(), endpoint: endpoint.value }
        });
        // Each invocation has its own time; these are only not to be shorter.
        let timeouts = &mut lambda.upstream.value.timeouts;
        timeouts.response = timeouts.response.max(function.timeout);
        timeouts.idle = timeouts.idle.max(function.timeout);
        lambda.functions.push(name.clone());
    }
    lambdas
}

/// What the function says, what the surroundings say, AWS's own.
fn endpoint(aws: &model::AwsFunction, settings: &Settings) -> Result<Spanned<Endpoint>, Diagnostic> {
    if let Some(endpoint) = &aws.endpoint {
        return Ok(endpoint.clone());
    }
    let (profile, span): (_, Span) = (aws.profile.as_deref(), aws.arn.span);
    let url = match settings.endpoint("lambda", profile) {
        Some(url) => url.to_owned(),
        None => settings.usual_endpoint("lambda", &aws.arn.partition, &aws.arn.region, profile),
    };
    let endpoint = model::parse_endpoint(&url).map_err(|_| {
        let message = format!("`{url}`, where the environment or the profile says that AWS Lambda is, is not a URL");
        Diagnostic::error("bad-function", span, message)
            .hint("mend AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL or `endpoint_url`, or write `endpoint: http://127.0.0.1:4566`")
    })?;
    Ok(Spanned::new(endpoint, span))
}

/// One function. `upstream`: the index that its endpoint has.
pub(crate) fn function(aws: &model::AwsFunction, lambda: &Lambda, upstream: u32, state: &State) -> AwsFunction {
    let source = CredentialSource {
        profile: aws.profile.as_deref().map(Box::from),
        partition: aws.arn.partition.as_str().into(),
        region: aws.arn.region.as_str().into(),
    };
    AwsFunction::new(AwsPlace {
        upstream,
        host: &authority(&lambda.endpoint),
        prefix: &lambda.endpoint.path,
        arn: &aws.arn,
        client_context: aws.client_context.as_ref(),
        keys: state.credentials(source),
    })
}
