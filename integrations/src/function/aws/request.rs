//! The request that invokes a function, signed. Sends nothing.

use super::AwsFunction;
use maitred_core::aws::Credentials;
use maitred_core::aws::sigv4::{Parts, Signing, authorization, stamp};
use maitred_core::function::Invocation;
use maitred_core::{Fault, Kind as FaultKind};
use maitred_wire::{base64, path};

const SERVICE: &str = "lambda";
/// Of `X-Amz-Client-Context` (reference: AWS Lambda, Invoke).
const CLIENT_CONTEXT_BYTES_MAX: usize = 3583;

/// How a function is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For a result that comes whole.
    Whole,
    /// For a result as it is written.
    Stream,
    /// To be run at some time.
    Event,
}

pub struct Request {
    /// Without the endpoint's own path, which the upstream puts before it.
    pub target: String,
    signed: Vec<(&'static str, String)>,
    authorization: String,
    /// Not signed: whoever is on the way may write it anew.
    trace: Option<Box<str>>,
}

impl Request {
    /// `time`: since 1970, in seconds. `event`: the hash of the body.
    pub fn new(
        function: &AwsFunction,
        invocation: &Invocation,
        kind: Kind,
        (keys, time): (&Credentials, u64),
        event: &[u8; 64],
    ) -> Result<Request, Fault> {
        let target = target(&function.segment, kind);
        let mut signed = vec![("x-amz-date", String::from_utf8_lossy(&stamp::format(time)).into_owned())];
        match kind {
            Kind::Whole | Kind::Stream => signed.push(("x-amz-invocation-type", "RequestResponse".to_owned())),
            Kind::Event => signed.push(("x-amz-invocation-type", "Event".to_owned())),
        }
        if invocation.log_tail && kind != Kind::Event {
            signed.push(("x-amz-log-type", "Tail".to_owned()));
        }
        let own = invocation.client_context.as_deref().map(|context| base64_text(context.as_bytes()));
        if let Some(context) = own.as_ref().or(function.client_context.as_ref()) {
            if context.len() > CLIENT_CONTEXT_BYTES_MAX {
                let detail = format!("a client context of {} bytes, of {CLIENT_CONTEXT_BYTES_MAX} at most", context.len());
                return Err(Fault::new(FaultKind::BadRequest, detail));
            }
            signed.push(("x-amz-client-context", context.to_string()));
        }
        if let Some(token) = &keys.token {
            signed.push(("x-amz-security-token", token.to_string()));
        }
        let headers: Vec<_> = signed.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let path = format!("{}{target}", function.prefix);
        let (path, host) = (path.as_bytes(), function.host.as_bytes());
        let parts = Parts { method: b"POST", path, query: b"", host, headers: &headers };
        let signing = Signing { key_id: &keys.key_id, secret: &keys.secret, region: &function.region, service: SERVICE, time };
        let authorization = authorization(&parts, &signing, event);
        let authorization = authorization.map_err(|why| Fault::new(FaultKind::Internal, why))?;
        let trace = Some(invocation.trace.clone()).filter(|trace| !trace.is_empty());
        Ok(Request { target, signed, authorization, trace })
    }

    pub fn headers(&self) -> Vec<(&[u8], &[u8])> {
        let signed = self.signed.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let trace = self.trace.iter().map(|trace| (&b"x-amzn-trace-id"[..], trace.as_bytes()));
        signed.chain([(&b"authorization"[..], self.authorization.as_bytes())]).chain(trace).collect()
    }
}

fn target(segment: &str, kind: Kind) -> String {
    match kind {
        Kind::Whole | Kind::Event => format!("/2015-03-31/functions/{segment}/invocations"),
        Kind::Stream => format!("/2021-11-15/functions/{segment}/response-streaming-invocations"),
    }
}

/// A name as one segment of a path: its colons are escaped, as AWS's own clients do.
pub fn segment(arn: &str) -> Box<str> {
    let mut segment = Vec::with_capacity(arn.len() * 2);
    path::encode(arn.as_bytes(), &mut segment);
    String::from_utf8_lossy(&segment).into()
}

pub fn base64_text(bytes: &[u8]) -> Box<str> {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    base64::encode(bytes, &mut text);
    String::from_utf8_lossy(&text).into()
}
