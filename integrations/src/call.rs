//! A request of the gateway's own, on behalf of a policy: through a named upstream like any other, its answer read whole. Knows nothing of
//! what is asked, and says nothing of a client: what is to be told about one, the policy puts in.

use crate::Reach;
use crate::proxy::{attempt, refuse_loops};
use maitred_core::{Body, Call, Called, Exchange, Fault, Forwarded, Kind, Progress, Response, Whole};
use maitred_transport::{Timer, Worker};
use maitred_wire::{Framing, OwnParts};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

pub async fn call(reach: &Reach, call: Call<'_>) -> Result<Called, Fault> {
    let body: Rc<[u8]> = call.body.as_slice().into();
    let mut asked = ask(reach, &call, &body).await;
    // A pooled connection may be closed at the very moment it is used again; a request with a body is not repeated for that unasked.
    if call.idempotent && !body.is_empty() && asked.as_ref().is_err_and(|fault| fault.kind == Kind::UpstreamReset) {
        asked = ask(reach, &call, &body).await;
    }
    asked
}

async fn ask(reach: &Reach, call: &Call<'_>, body: &Rc<[u8]>) -> Result<Called, Fault> {
    let Response { head, body } = open(reach, call, body).await?;
    if let Framing::Length(length) = head.framing
        && length > call.body_bytes_max as u64
    {
        return Err(too_long(call));
    }
    let body = whole(body, call, &reach.worker).await?;
    Ok(Called { head, body })
}

/// Asks once, and leaves the answer's body to be read: `whole` does, or whoever wants it as it comes.
pub async fn open(reach: &Reach, call: &Call<'_>, body: &Rc<[u8]>) -> Result<Response, Fault> {
    let upstream = reach.upstreams.get(call.upstream as usize);
    let upstream = upstream.ok_or_else(|| Fault::new(Kind::Internal, "a call to an upstream that there is not"))?;
    let mut own = Own::begin(reach, call, body)?;
    let exchange = own.exchange();
    let idempotent = call.idempotent.then_some(true);
    if upstream.is_guarded {
        let place = upstream.admit(exchange, |_| 0).await?;
        attempt::guarded(exchange, upstream, reach, idempotent, place).await
    } else {
        attempt::plain(exchange, upstream, reach).await
    }
}

fn too_long(call: &Call<'_>) -> Fault {
    Fault::new(Kind::UpstreamProtocol, format!("an answer of more than {} bytes", call.body_bytes_max))
}

/// Reads a body to its end, which leaves its connection fit for another request.
pub async fn whole(body: Body, call: &Call<'_>, worker: &Worker) -> Result<Vec<u8>, Fault> {
    let stream = match body {
        Body::Empty => return Ok(Vec::new()),
        Body::Bytes(bytes) => return Ok(bytes.to_vec()),
        Body::Shared(bytes) => return Ok(bytes.to_vec()),
        Body::Tunnel(_) => return Err(Fault::new(Kind::UpstreamProtocol, "it switched to another protocol unasked")),
        Body::Stream(stream) => stream,
    };
    let timer = Timer::new(&worker.timers);
    timer.arm(call.deadline);
    let mut bytes = Vec::new();
    loop {
        let progress = poll_fn(|cx| match timer.poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(late())),
            Poll::Pending => stream.poll_ready(cx),
        });
        match progress.await? {
            Progress::Data => {
                let count = {
                    let data = stream.data();
                    if bytes.len() + data.len() > call.body_bytes_max {
                        return Err(too_long(call));
                    }
                    bytes.extend_from_slice(&data);
                    data.len()
                };
                stream.consume(count);
            }
            Progress::End => {
                stream.finish();
                return Ok(bytes);
            }
        }
    }
}

fn late() -> Fault {
    Fault::new(Kind::UpstreamTimeout, "the answer was not complete in time")
}

/// An exchange without a client. Given back in any case, also when whoever asked goes away in the middle.
struct Own<'a> {
    exchange: Option<Box<Exchange>>,
    worker: &'a Worker,
}

impl<'a> Own<'a> {
    fn begin(reach: &'a Reach, call: &Call<'_>, body: &Rc<[u8]>) -> Result<Own<'a>, Fault> {
        let now: Instant = reach.worker.now();
        if now >= call.deadline {
            return Err(Fault::new(Kind::UpstreamTimeout, "the time for asking is over"));
        }
        let mut own = Own { exchange: Some(reach.worker.take_exchange(now)), worker: &reach.worker };
        let exchange = own.exchange();
        let parts =
            OwnParts { method: call.method.as_bytes(), target: call.target, headers: call.headers, body_bytes: body.len() };
        let composed = exchange.request.compose(parts);
        composed.map_err(|refusal| Fault::new(Kind::Internal, format!("a call that cannot be made: {refusal:?}")))?;
        refuse_loops(exchange)?;
        exchange.is_own = true;
        exchange.deadline = Some(call.deadline);
        // The exchange was another's: nobody's address picks an endpoint.
        exchange.forwarded = Forwarded { client: IpAddr::V4(Ipv4Addr::UNSPECIFIED), trusted: false };
        exchange.target.clear();
        exchange.target.extend_from_slice(exchange.request.headers.slice(exchange.request.path));
        if !body.is_empty() {
            exchange.body = Body::Stream(Rc::new(Whole::new(body.clone())));
        }
        Ok(own)
    }

    fn exchange(&mut self) -> &mut Exchange {
        self.exchange.as_mut().expect("taken in Drop alone")
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.worker.give_exchange(exchange);
        }
    }
}
