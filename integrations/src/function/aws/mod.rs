//! A function in AWS, or wherever its API is spoken (AWS Lambda, `Invoke` and `InvokeWithResponseStream`): requests are signed, sent through an
//! upstream like any other, and what is answered becomes what a function here would have come to. A request that AWS took is never sent
//! again; one that it refused for the clock or the keys is, once.

mod errors;
mod request;
mod stream;
#[cfg(test)]
mod tests;

use super::run::Ran;
use crate::{Reach, call};
use errors::Refused;
use maitred_core::aws::sigv4::hash_in_turns;
use maitred_core::aws::{CredentialCell, Credentials};
use maitred_core::function::{Finished, Invocation, LOG_TAIL_BYTES_MAX, PAYLOAD_BYTES_MAX};
use maitred_core::{Call, Called, Fault, Kind, Ports, Response};
use maitred_model::FunctionArn;
use maitred_transport::Timer;
use maitred_wire::{ResponseHead, base64};
use request::{Kind as Asked, Request};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// For keys to be found, where there are none yet: longer than a container's or an instance's take, and not longer than a client's patience.
const CREDENTIALS_TIME_MAX: Duration = Duration::from_secs(5);
/// Of a refusal's body; AWS writes a few hundred bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// Of log that comes with a result, as base64.
const LOG_BASE64_BYTES_MAX: usize = LOG_TAIL_BYTES_MAX.div_ceil(3) * 4;

/// One function of the configuration.
pub struct AwsFunction {
    /// Index in `Reach::upstreams`.
    pub upstream: u32,
    /// As the endpoint is named in `Host`.
    pub host: Box<str>,
    /// What the endpoint's URL has before every path.
    pub prefix: Box<str>,
    pub region: Box<str>,
    /// The ARN as a segment of a path.
    segment: Box<str>,
    /// Base64 of the JSON that goes with every invocation that has none of its own.
    client_context: Option<Box<str>>,
    pub keys: Arc<CredentialCell>,
}

/// What is configured of one.
pub struct AwsPlace<'a> {
    pub upstream: u32,
    pub host: &'a str,
    pub prefix: &'a str,
    pub arn: &'a FunctionArn,
    pub client_context: Option<&'a serde_json::Value>,
    pub keys: Arc<CredentialCell>,
}

impl AwsFunction {
    pub fn new(place: AwsPlace<'_>) -> AwsFunction {
        let AwsPlace { upstream, host, prefix, arn, client_context, keys } = place;
        AwsFunction {
            upstream,
            host: host.into(),
            prefix: prefix.into(),
            region: arn.region.as_str().into(),
            segment: request::segment(&arn.to_string()),
            client_context: client_context.map(|context| request::base64_text(context.to_string().as_bytes())),
            keys,
        }
    }

    /// Runs it, and waits for the result, or for the first of it.
    pub async fn run(&self, name: &str, invocation: Invocation, timeout: Duration, reach: &Reach) -> Result<Ran, Fault> {
        let started = reach.worker.now();
        let asked = if invocation.streamed { Asked::Stream } else { Asked::Whole };
        let asking = Asking { function: self, name, asked, deadline: started + timeout, reach };
        match asking.ask(invocation).await? {
            Answered::Whole(called) => finished(called, reach.worker.now() - started).map(Ran::Whole),
            Answered::Stream(Response { head, body }) => {
                let content_type = head.headers.get(b"x-amzn-remapped-content-type").map(text);
                let timer = Timer::new(&reach.worker.timers);
                timer.arm(asking.deadline);
                stream::begin(name, body, (content_type, version(&head)), timer).await
            }
        }
    }

    /// Hands an event over. AWS keeps it, and tries it three times.
    pub async fn send(&self, name: &str, invocation: Invocation, timeout: Duration, reach: &Reach) -> Result<(), Fault> {
        let deadline = reach.worker.now() + timeout;
        let asking = Asking { function: self, name, asked: Asked::Event, deadline, reach };
        asking.ask(invocation).await.map(drop)
    }
}

/// One invocation under way.
struct Asking<'a> {
    function: &'a AwsFunction,
    name: &'a str,
    asked: Asked,
    deadline: Instant,
    reach: &'a Reach,
}

enum Answered {
    Whole(Called),
    Stream(Response),
}

impl Asking<'_> {
    async fn ask(&self, mut invocation: Invocation) -> Result<Answered, Fault> {
        if invocation.event.len() > PAYLOAD_BYTES_MAX {
            return Err(Fault::new(Kind::BodyTooLarge, "the event is longer than 6 MB"));
        }
        let event: Rc<[u8]> = std::mem::take(&mut invocation.event).into();
        let hash = hash_in_turns(&event).await;
        let mut keys = self.keys().await?;
        let mut again = true;
        loop {
            let skew = self.function.keys.skew();
            let refused = match self.once(&invocation, (&event, &hash), (&keys, skew)).await? {
                Ok(answered) => return Ok(answered),
                Err(refused) => refused,
            };
            // Nothing has run: it is asked again if it can be put right, once.
            let is_put_right = std::mem::take(&mut again) && self.put_right(&refused, (&keys, skew)).await;
            match is_put_right.then(|| self.function.keys.load()).flatten() {
                Some(others) => keys = others,
                None => return Err(refused.fault(self.name)),
            }
        }
    }

    /// `Ok(Err(…))`: AWS refused.
    async fn once(
        &self,
        invocation: &Invocation,
        (event, hash): (&Rc<[u8]>, &[u8; 64]),
        (keys, skew): (&Credentials, i64),
    ) -> Result<Result<Answered, Refused>, Fault> {
        let (function, reach) = (self.function, self.reach);
        let time = reach.unix_time(reach.worker.now()).as_secs().saturating_add_signed(skew);
        let request = Request::new(function, invocation, self.asked, (keys, time), hash)?;
        let headers = request.headers();
        let mut call = Call {
            upstream: function.upstream,
            method: "POST",
            target: request.target.as_bytes(),
            headers: &headers,
            body: Vec::new(),
            deadline: self.deadline,
            body_bytes_max: PAYLOAD_BYTES_MAX,
            idempotent: false,
        };
        let asked = call::open(reach, &call, event).await;
        let response = asked.map_err(|fault| errors::unreached(self.name, fault))?;
        let status = response.head.status;
        match (status, self.asked) {
            (200, Asked::Stream) => return Ok(Ok(Answered::Stream(response))),
            (200, Asked::Whole) | (202, Asked::Event) => {}
            (_, Asked::Stream | Asked::Whole | Asked::Event) => call.body_bytes_max = REFUSAL_BYTES_MAX,
        }
        let Response { head, body } = response;
        let body = call::whole(body, &call, &reach.worker).await;
        let body = body.map_err(|fault| errors::broken(self.name, fault))?;
        let called = Called { head, body };
        Ok(match (status, self.asked) {
            (200, Asked::Whole) | (202, Asked::Event) => Ok(Answered::Whole(called)),
            (_, Asked::Stream | Asked::Whole | Asked::Event) => Err(Refused::read(&called)),
        })
    }

    /// The keys of the moment; where there are none, they are waited for, and not for long.
    async fn keys(&self) -> Result<Arc<Credentials>, Fault> {
        let cell = &self.function.keys;
        let now = self.reach.unix_time(self.reach.worker.now());
        let good = || cell.load().filter(|keys| keys.are_good_at(cell.aws_time(now)));
        if let Some(keys) = good() {
            return Ok(keys);
        }
        self.search().await;
        good().ok_or_else(|| {
            let why = self.function.keys.lacking();
            let why = why.as_deref().map_or("they are still being looked for", String::as_str);
            Fault::new(
                Kind::FunctionUnavailable,
                format!("there are no credentials of AWS to invoke `{}` with: {why}", self.name),
            )
        })
    }

    /// Has keys looked for, and waits until that is over, or no longer than it may.
    async fn search(&self) {
        let (keys, worker) = (&self.function.keys, &self.reach.worker);
        let count = keys.told().count();
        if !keys.ask(worker.now()) {
            return;
        }
        let timer = Timer::new(&worker.timers);
        timer.arm((worker.now() + CREDENTIALS_TIME_MAX).min(self.deadline));
        poll_fn(|cx| match keys.told().poll(count, cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => timer.poll(cx),
        })
        .await;
    }

    /// Whether the same request may be taken now, with others than it was signed with.
    async fn put_right(&self, refused: &Refused, (used, skew): (&Credentials, i64)) -> bool {
        let (cell, reach) = (&self.function.keys, self.reach);
        if let Some(time) = refused.clock() {
            let ours = reach.unix_time(reach.worker.now()).as_secs();
            return cell.learn_time(time, ours, skew);
        }
        if refused.is_for_keys() {
            let is_other = || cell.load().is_some_and(|found| found.key_id != used.key_id || found.token != used.token);
            if !is_other() {
                self.search().await;
            }
            return is_other();
        }
        false
    }
}

fn finished(called: Called, duration: Duration) -> Result<Finished, Fault> {
    let Called { head, body } = called;
    let failure = head.headers.get(b"x-amz-function-error").map(|_| errors::failure(&body));
    let log = head.headers.get(b"x-amz-log-result").filter(|log| log.len() <= LOG_BASE64_BYTES_MAX);
    let log_tail = log.and_then(base64::decode);
    Ok(Finished { payload: body, content_type: None, failure, log_tail, version: version(&head), duration })
}

fn version(head: &ResponseHead) -> Box<str> {
    head.headers.get(b"x-amz-executed-version").map(text).unwrap_or_default()
}

fn text(value: &[u8]) -> Box<str> {
    String::from_utf8_lossy(value).into()
}
