//! The event of a REST API (payload format 1.0): everything is there, null where there is nothing. Header names are as clients write them.

use super::context::{self, Moment};
use super::json::{Object, list, text};
use super::lists::Query;
use super::{ACCOUNT, Asked, Case, Fields, STAGE, Vouched, media};
use maitred_wire::Name;

pub(super) fn write(out: &mut Vec<u8>, asked: &Asked<'_>, binary_media_types: &[String]) {
    let mut event = Object::begin(out);
    event.text("resource", &asked.resource.path);
    event.text("path", asked.path);
    event.text("httpMethod", asked.method);
    headers(&mut event, asked);
    query(&mut event, asked.query.unwrap_or_default());
    path_parameters(&mut event, asked);
    event.null("stageVariables");
    request_context(&mut event, asked);
    if asked.body.is_empty() {
        event.null("body");
        return event.truth("isBase64Encoded", false);
    }
    let is_base64 = media::body(&mut event, asked.body, !media::is_binary(binary_media_types, asked.content_type()));
    event.truth("isBase64Encoded", is_base64);
}

fn headers(event: &mut Object<'_>, asked: &Asked<'_>) {
    let fields = Fields::of(asked, Case::Kept, |known, _| known != Name::ContentLength);
    {
        let mut headers = event.object("headers");
        for (name, values) in fields.each() {
            text(headers.foreign(name), values.last().unwrap_or_default());
        }
    }
    let mut headers = event.object("multiValueHeaders");
    for (name, values) in fields.each() {
        list(headers.foreign(name), values);
    }
}

fn query(event: &mut Object<'_>, query: &[u8]) {
    let query = Query::decoded(query);
    if query.is_empty() {
        event.null("queryStringParameters");
        return event.null("multiValueQueryStringParameters");
    }
    let groups = query.groups();
    {
        let mut single = event.object("queryStringParameters");
        for run in groups.iter() {
            text(single.foreign(query.name(run[0])), query.value(run[run.len() - 1]));
        }
    }
    let mut all = event.object("multiValueQueryStringParameters");
    for run in groups.iter() {
        list(all.foreign(query.name(run[0])), run.iter().map(|&at| query.value(at)));
    }
}

/// Not decoded; of what takes all that remains, a slash at the end is not a part.
fn path_parameters(event: &mut Object<'_>, asked: &Asked<'_>) {
    if asked.params.is_empty() {
        return event.null("pathParameters");
    }
    let mut parameters = event.object("pathParameters");
    asked.params(&mut parameters, |out, value, is_rest| {
        text(out, if is_rest { value.strip_suffix(b"/").unwrap_or(value) } else { value });
    });
}

fn request_context(event: &mut Object<'_>, asked: &Asked<'_>) {
    let moment = Moment::of(asked.time);
    let mut inner = event.object("requestContext");
    inner.text("accountId", ACCOUNT);
    inner.text("apiId", &*asked.resource.api);
    context::rest_authorizer(&mut inner, asked);
    inner.text("deploymentId", context::id(&asked.resource.api, ""));
    inner.text("domainName", asked.host);
    inner.text("domainPrefix", context::prefix(asked.host));
    inner.text("extendedRequestId", asked.request_id);
    inner.text("httpMethod", asked.method);
    identity(&mut inner, asked);
    inner.text("path", asked.path);
    // Whatever the client speaks, as AWS has it.
    inner.text("protocol", "HTTP/1.1");
    inner.text("requestId", asked.request_id);
    inner.text("requestTime", moment.text());
    inner.number("requestTimeEpoch", moment.millis());
    inner.text("resourceId", context::id(&asked.resource.api, &asked.resource.path));
    inner.text("resourcePath", &asked.resource.path);
    inner.text("stage", STAGE);
}

fn identity(context: &mut Object<'_>, asked: &Asked<'_>) {
    let mut identity = context.object("identity");
    let signer = asked.principal.filter(|(_, vouched)| *vouched == Vouched::Iam).map(|(principal, _)| principal);
    let key_id = signer.and_then(|principal| principal.subject.as_deref());
    let user = signer.map(context::user);
    identity.text_or_null("accessKey", key_id);
    identity.text_or_null("accountId", signer.map(|_| ACCOUNT));
    if let Some((principal, Vouched::ApiKey)) = asked.principal {
        // The key itself only where the function sees it anyway.
        identity.text_or_null("apiKey", asked.headers.get(b"x-api-key"));
        identity.text_or_null("apiKeyId", principal.consumer_name().or(principal.subject.as_deref()));
    }
    // Where a function said by which key its usage is counted.
    if let Some((principal, Vouched::Lambda)) = asked.principal
        && let Some(key) = &principal.usage_key
    {
        identity.text("apiKey", &**key);
        identity.text_or_null("apiKeyId", principal.consumer_name());
    }
    identity.text_or_null("caller", key_id);
    context::client_certificate(&mut identity, asked);
    for name in [
        "cognitoAuthenticationProvider",
        "cognitoAuthenticationType",
        "cognitoIdentityId",
        "cognitoIdentityPoolId",
        "principalOrgId",
    ] {
        identity.null(name);
    }
    identity.text("sourceIp", asked.client);
    identity.text_or_null("user", key_id);
    identity.text_or_null("userAgent", asked.user_agent());
    identity.text_or_null("userArn", user.map(context::user_arn));
}
