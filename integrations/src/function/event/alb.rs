//! The event of an Application Load Balancer: headers and query either with their last value each or, if the target group is set to it, with
//! all of them. A query is not decoded.

use super::context;
use super::json::{Object, list, text};
use super::lists::Query;
use super::{ACCOUNT, Asked, Case, Fields, media};

pub(super) fn write(out: &mut Vec<u8>, asked: &Asked<'_>, are_multi: bool) {
    let mut event = Object::begin(out);
    {
        let mut request_context = event.object("requestContext");
        request_context.object("elb").text("targetGroupArn", target_group(asked));
    }
    event.text("httpMethod", asked.method);
    event.text("path", asked.path);
    query(&mut event, asked.query.unwrap_or_default(), are_multi);
    headers(&mut event, asked, are_multi);
    // No body is an empty one.
    let is_text = media::is_text_alb(asked.content_type(), asked.headers.get(b"content-encoding").is_some());
    let is_base64 = media::body(&mut event, asked.body, is_text || asked.body.is_empty());
    event.truth("isBase64Encoded", is_base64);
}

fn target_group(asked: &Asked<'_>) -> String {
    let (region, function) = (&asked.resource.region, &asked.resource.function);
    let id = context::id(&asked.resource.api, function);
    format!("arn:aws:elasticloadbalancing:{region}:{ACCOUNT}:targetgroup/{function}/{id}")
}

fn query(event: &mut Object<'_>, query: &[u8], are_multi: bool) {
    let query = Query::as_it_came(query);
    let groups = query.groups();
    let mut parameters = event.object(if are_multi { "multiValueQueryStringParameters" } else { "queryStringParameters" });
    for run in groups.iter() {
        let out = parameters.foreign(query.name(run[0]));
        match are_multi {
            true => list(out, run.iter().map(|&at| query.value(at))),
            false => text(out, query.value(run[run.len() - 1])),
        }
    }
}

fn headers(event: &mut Object<'_>, asked: &Asked<'_>, are_multi: bool) {
    let fields = Fields::of(asked, Case::Lower, |_, _| true);
    let mut headers = event.object(if are_multi { "multiValueHeaders" } else { "headers" });
    for (name, values) in fields.each() {
        let out = headers.foreign_lower(name);
        match are_multi {
            true => list(out, values),
            false => text(out, values.last().unwrap_or_default()),
        }
    }
}
