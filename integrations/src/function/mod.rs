//! Answers a route by a Lambda function: the request becomes an event, the result becomes the response. Where the function runs, in
//! processes here or in AWS, makes no difference to either.

pub mod answer;
pub mod aws;
pub mod errands;
pub mod event;
pub mod prelude;
pub mod run;
pub(crate) mod trace;

use crate::Reach;
use answer::Malformed;
use event::{Asked, Resource};
use maitred_core::exchange::PARAMS_MAX;
use maitred_core::function::{Finished, Invocation, PAYLOAD_BYTES_MAX};
use maitred_core::{AddressText, Body, Exchange, Fault, HeldBody, Kind, Permit, Progress, Response, Stream, is_bodiless};
use maitred_model::{EventForm, GatewayResponses, InvocationType, ResponseMode};
use maitred_transport::Timer;
use maitred_wire::{Framing, Name, ResponseHead, digits, path};
use prelude::Prelude;
use run::{Ran, Runner};
use std::fmt::Display;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use trace::Trace;

/// What answers a route.
pub struct Function {
    /// Index in `Reach::functions`.
    pub function: u32,
    pub form: Form,
    pub resource: Resource,
}

/// How requests become events, and results responses.
#[derive(Debug, Clone)]
pub struct Form {
    pub event: EventForm,
    pub response: ResponseMode,
    pub invocation: InvocationType,
    pub binary_media_types: Vec<String>,
    pub multi_value_headers: bool,
}

impl Form {
    /// Bytes of a request's body; base64 takes a third more of the event than of these, which whoever runs the function finds out.
    fn body_bytes_max(&self) -> usize {
        match self.event {
            EventForm::Alb => answer::ALB_BYTES_MAX,
            EventForm::V2 | EventForm::V1 | EventForm::Url | EventForm::Raw => PAYLOAD_BYTES_MAX,
        }
    }
}

impl Function {
    pub async fn invoke(&self, exchange: &mut Exchange, _permit: Permit, reach: &Rc<Reach>) -> Result<Response, Fault> {
        let answered = self.answer(exchange, reach).await;
        answered.map_err(|fault| self.named(fault, exchange))
    }

    async fn answer(&self, exchange: &mut Exchange, reach: &Rc<Reach>) -> Result<Response, Fault> {
        let runner = reach.functions.get(self.function as usize).cloned();
        let runner = runner.ok_or_else(|| Fault::new(Kind::Internal, "a route to a function that there is not"))?;
        // Held by the exchange until it is answered, and so counted: the event is as large.
        let body = exchange.whole_body(&**reach, self.form.body_bytes_max()).await?;
        let trace = Trace::of_request(exchange, &reach.worker);
        let id = reach.worker.new_id(reach.worker.now());
        let invocation = self.invocation(exchange, (&body, &id), &trace, reach)?;
        drop(body);
        let started = reach.worker.now();
        let response = match self.form.invocation {
            InvocationType::Event => {
                within(exchange, reach, runner.send(invocation, reach)).await?;
                Ok(Response::with_body(exchange.take_head(), 202, Body::Empty))
            }
            InvocationType::RequestResponse => {
                let ran = within(exchange, reach, runner.run(invocation, reach)).await?;
                self.response(exchange, reach, (Called { runner: &runner, id: &id }, ran)).await
            }
        };
        exchange.record.upstream_time = Some(reach.worker.now().saturating_duration_since(started));
        let mut response = response?;
        self.name(&mut response.head, exchange, &trace.header);
        Ok(response)
    }

    fn invocation(
        &self,
        exchange: &Exchange,
        (body, id): (&HeldBody, &dyn Display),
        trace: &Trace,
        reach: &Reach,
    ) -> Result<Invocation, Fault> {
        let event = match self.form.event {
            // As a call without a payload has it.
            EventForm::Raw if body.is_empty() => b"{}".to_vec(),
            EventForm::Raw => {
                let checked = serde_json::from_slice::<serde::de::IgnoredAny>(body);
                checked.map_err(|_| Fault::new(Kind::BodyNotJson, "a body that is no JSON, for a function with `event: raw`"))?;
                body.to_vec()
            }
            EventForm::V2 | EventForm::V1 | EventForm::Alb | EventForm::Url => self.event(exchange, body, trace, reach),
        };
        if event.len() > PAYLOAD_BYTES_MAX {
            return Err(Fault::new(Kind::BodyTooLarge, format!("an event of {} bytes: 6 MB is the most", event.len())));
        }
        Ok(Invocation {
            id: id.to_string().into(),
            event,
            arn: None,
            trace: trace.whole.as_str().into(),
            client_context: None,
            streamed: self.form.response == ResponseMode::Streamed,
            log_tail: false,
        })
    }

    fn event(&self, exchange: &Exchange, body: &[u8], trace: &Trace, reach: &Reach) -> Vec<u8> {
        let request = &exchange.request;
        let mut params: [&[u8]; PARAMS_MAX] = [b""; PARAMS_MAX];
        let params_len = usize::from(exchange.params_len);
        for (at, param) in params.iter_mut().enumerate().take(params_len) {
            *param = exchange.param(at);
        }
        let kept = |name: &[u8]| request.headers.get(name).filter(|_| exchange.forwarded.trusted);
        let (client, mut port) = (AddressText::new(exchange.client_ip()), [0; 20]);
        let asked = Asked {
            resource: &self.resource,
            method: request.method_text(),
            path: path_as_sent(exchange),
            local_path: exchange.local_path(),
            query: request.query(),
            headers: &request.headers,
            params: &params[..params_len],
            authority: request.authority(),
            host: request.host(),
            trusted: exchange.forwarded.trusted,
            forwarded_for: &forwarded_for(exchange),
            proto: kept(b"x-forwarded-proto").unwrap_or(exchange.scheme.text().as_bytes()),
            port: kept(b"x-forwarded-port").unwrap_or(digits(exchange.local.port().into(), &mut port)),
            client: std::str::from_utf8(client.as_bytes()).unwrap_or_default(),
            tls: exchange.tls.as_deref(),
            request_id: exchange.request_id(),
            trace: &trace.header,
            time: reach.worker.unix_time(exchange.record.started),
            principal: exchange
                .principal
                .as_deref()
                .filter(|principal| !principal.is_anonymous())
                .map(|principal| (principal, principal.vouched)),
            body,
        };
        event::write(&self.form, &asked)
    }

    async fn response(
        &self,
        exchange: &mut Exchange,
        reach: &Rc<Reach>,
        (called, ran): (Called<'_>, Ran),
    ) -> Result<Response, Fault> {
        match ran {
            Ran::Whole(Finished { failure: Some(failure), payload, .. }) => {
                Err(failure.fault(format!("`{}`: {}", called.runner.name, answer::raised(&payload))))
            }
            Ran::Whole(Finished { payload, content_type, .. }) => {
                let mut head = exchange.take_head();
                let read = self.whole(exchange, payload, content_type.as_deref(), &mut head);
                let body = read.map_err(|malformed| called.gave(&malformed))?;
                Ok(framed(head, body))
            }
            Ran::Streamed { content_type, body } => self.streamed(exchange, reach, (called, content_type.as_deref(), body)).await,
        }
    }

    fn whole(
        &self,
        exchange: &Exchange,
        mut payload: Vec<u8>,
        content_type: Option<&str>,
        head: &mut ResponseHead,
    ) -> Result<Vec<u8>, Malformed> {
        if !prelude::is_announced(content_type) || self.form.event == EventForm::Raw {
            return answer::whole(&self.form, payload, exchange.request.headers.known(Name::Accept), head);
        }
        // It streamed, and nobody wanted a stream.
        let mut prelude = Prelude::default();
        let taken = prelude.feed(&payload)?;
        let metadata = prelude.metadata().ok_or_else(|| Malformed::new("a result that ends before its body begins"))?;
        answer::metadata(&self.form, metadata, head)?;
        payload.drain(..taken);
        Ok(payload)
    }

    /// Status and fields go out as soon as they are known, the body as it comes.
    async fn streamed(
        &self,
        exchange: &mut Exchange,
        reach: &Reach,
        (called, content_type, body): (Called<'_>, Option<&str>, Rc<dyn Stream>),
    ) -> Result<Response, Fault> {
        let mut head = exchange.take_head();
        let is_announced = prelude::is_announced(content_type);
        let begun = match self.form.event {
            EventForm::Raw => answer::bare_stream(&self.form, content_type, &mut head),
            EventForm::V2 | EventForm::Url if !is_announced => answer::bare_stream(&self.form, content_type, &mut head),
            EventForm::V1 | EventForm::V2 | EventForm::Url | EventForm::Alb => {
                let prelude = within(exchange, reach, begin(called, &*body)).await?;
                answer::metadata(&self.form, prelude.metadata().unwrap_or_default(), &mut head)
            }
        };
        begun.map_err(|malformed| called.gave(&malformed))?;
        if is_bodiless(head.status) {
            return Ok(Response::framed(head, Body::Empty));
        }
        head.framing = Framing::Chunked;
        Ok(Response { head, body: Body::Stream(body) })
    }

    /// What AWS's own answers have besides: clients log them.
    fn name(&self, head: &mut ResponseHead, exchange: &Exchange, trace: &str) {
        let id = exchange.request_id();
        match self.form.event {
            EventForm::V1 => {
                head.headers.add(b"x-amzn-requestid", id);
                head.headers.add(b"x-amz-apigw-id", id);
                head.headers.add(b"x-amzn-trace-id", trace.as_bytes());
            }
            EventForm::V2 => head.headers.add(b"apigw-requestid", id),
            EventForm::Url => {
                head.headers.add(b"x-amzn-requestid", id);
                head.headers.add(b"x-amzn-trace-id", trace.as_bytes());
            }
            EventForm::Alb | EventForm::Raw => {}
        }
    }

    /// The same of a fault, where the API speaks as AWS does. A trace is not told then.
    fn named(&self, mut fault: Fault, exchange: &Exchange) -> Fault {
        let id = exchange.request_id();
        match exchange.gateway_responses {
            GatewayResponses::Problem => {}
            GatewayResponses::AwsRest => {
                fault.headers.extend([(&b"x-amzn-requestid"[..], id.to_vec()), (&b"x-amz-apigw-id"[..], id.to_vec())]);
            }
            GatewayResponses::AwsHttp => fault.headers.push((b"apigw-requestid", id.to_vec())),
        }
        fault
    }
}

/// Waits as long as the client does, and as the route lets it take.
async fn within<T>(exchange: &Exchange, reach: &Reach, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let timer = exchange.deadline.map(|deadline| {
        let timer = Timer::new(&reach.worker.timers);
        timer.arm(deadline);
        timer
    });
    let client = exchange.client.clone();
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        if client.as_ref().is_some_and(|client| client.poll_gone(cx).is_ready()) {
            return Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client went away while its function ran")));
        }
        match timer.as_ref().map(|timer| timer.poll(cx)) {
            Some(Poll::Ready(())) => {
                Poll::Ready(Err(Fault::new(Kind::FunctionTimeout, "the function took longer than the route's timeout")))
            }
            Some(Poll::Pending) | None => Poll::Pending,
        }
    })
    .await
}

/// Reads a stream up to where its body begins.
async fn begin(called: Called<'_>, body: &dyn Stream) -> Result<Prelude, Fault> {
    let mut prelude = Prelude::default();
    while prelude.metadata().is_none() {
        match poll_fn(|cx| body.poll_ready(cx)).await? {
            Progress::End => return Err(called.gave(&Malformed::new("a stream that ends before its body begins"))),
            Progress::Data => {
                let fed = prelude.feed(&body.data());
                body.consume(fed.map_err(|malformed| called.gave(&malformed))?);
            }
        }
    }
    Ok(prelude)
}

/// A function, and by which id it and its log know one run.
#[derive(Clone, Copy)]
struct Called<'a> {
    runner: &'a Runner,
    id: &'a dyn Display,
}

impl Called<'_> {
    /// No response. Whoever writes the function looks into its log, and not into the gateway's.
    fn gave(self, malformed: &Malformed) -> Fault {
        self.runner.complain(self.id, &malformed.0);
        Fault::new(Kind::FunctionMalformed, format!("`{}`: {}", self.runner.name, malformed.0))
    }
}

fn framed(head: Box<ResponseHead>, body: Vec<u8>) -> Response {
    let body = if body.is_empty() { Body::Empty } else { Body::Bytes(body.into()) };
    Response::framed(head, body)
}

/// The path with the client's own encoding. Where the client's is another path than the one that was routed (it had dot segments), the latter:
/// nobody gets past a policy by what only the function reads in it.
fn path_as_sent(exchange: &Exchange) -> &[u8] {
    let (target, routed) = (exchange.request.target(), exchange.request.path());
    let end = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    let sent = &target[..end];
    if sent == routed || !sent.starts_with(b"/") {
        return routed;
    }
    let (mut one, mut other) = (Vec::new(), Vec::new());
    path::decode(sent, &mut one);
    path::decode(routed, &mut other);
    if one == other { sent } else { routed }
}

/// All who have passed it on, as far as they are believed, and who has sent it here.
fn forwarded_for(exchange: &Exchange) -> Vec<u8> {
    let mut all = Vec::new();
    if exchange.forwarded.trusted {
        for value in exchange.request.headers.all_known(Name::XForwardedFor).filter(|value| !value.is_empty()) {
            all.extend_from_slice(value);
            all.extend_from_slice(b", ");
        }
    }
    all.extend_from_slice(exchange.peer_text.as_bytes());
    all
}
