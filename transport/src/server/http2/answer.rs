//! A response on its way to an HTTP/2 client: its head, its body as windows allow, its trailers. What breaks off is reset, so that
//! nobody takes a part for the whole.

use super::stream::{Stream, gone};
use crate::http2::body::end;
use crate::http2::fields::add_fields;
use crate::server::Service;
use crate::timers::Timer;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Response as Head, StatusCode, header};
use maitred_core::problem::grpc_status;
use maitred_core::{Body, Duplex, Exchange, Fault, Kind, Progress, Response};
use maitred_wire::{Framing, Method, Name, ResponseHead};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

pub(super) enum Answered {
    Done,
    /// The response broke before a byte of it went out: there is time for another.
    Unsent(Fault),
}

/// A body on its way.
struct Sending {
    body: Body,
    /// How much of a `Bytes` body is handed over.
    at: usize,
    /// Bytes still to come, where the head said how many.
    left: Option<u64>,
    /// When all must be over.
    lifetime: Option<Timer>,
}

impl Stream {
    pub async fn answer<S: Service>(self: &Rc<Self>, exchange: &mut Exchange, response: Response, service: &S) -> Answered {
        if matches!(exchange.record.fault, Some((Kind::ClientGone, _))) {
            exchange.keep_head(response.head);
            self.reset(Reason::CANCEL);
            return Answered::Done;
        }
        let Response { head, body } = response;
        exchange.record.status = head.status;
        if let Body::Tunnel(upstream) = body {
            return self.tunnel(exchange, head, upstream, service).await;
        }
        if let Body::Stream(stream) = &body
            && let Poll::Ready(Err(fault)) = poll_fn(|cx| Poll::Ready(stream.poll_ready(cx))).await
        {
            exchange.keep_head(head);
            return Answered::Unsent(fault);
        }
        let empty = exchange.request.method == Method::Head || head.framing == Framing::None;
        let left = if let Framing::Length(length) = head.framing { Some(length) } else { None };
        let sent = self.send_head(exchange, &head, StatusCode::from_u16(head.status), empty, service);
        exchange.keep_head(head);
        let sent = match sent {
            Err(fault) => Err(fault),
            Ok(()) if empty => Ok(()),
            Ok(()) => {
                let mut sending = Sending { body, at: 0, left, lifetime: self.lifetime(exchange) };
                poll_fn(|cx| self.poll_body(cx, &mut sending, exchange)).await
            }
        };
        if let Err(fault) = sent {
            self.break_off(exchange, &fault);
            exchange.record.fault = Some((fault.kind, fault.detail));
        }
        Answered::Done
    }

    fn lifetime(&self, exchange: &Exchange) -> Option<Timer> {
        let due = exchange.lifetime?;
        let timer = Timer::new(&self.shared.worker.timers);
        timer.arm(due);
        Some(timer)
    }

    /// The response ends here. A gRPC client is told why in its own words, all others by a reset.
    fn break_off(&self, exchange: &Exchange, fault: &Fault) {
        if exchange.is_grpc() && fault.kind != Kind::ClientGone {
            let mut trailers = HeaderMap::new();
            for (name, value) in grpc_status(fault.kind) {
                if let Ok(name) = HeaderName::from_bytes(name) {
                    add(&mut trailers, name, &value);
                }
            }
            if let Some(send) = &mut *self.send.borrow_mut()
                && send.send_trailers(trailers).is_ok()
            {
                return;
            }
        }
        self.reset(if fault.kind == Kind::ClientGone { Reason::CANCEL } else { Reason::INTERNAL_ERROR });
    }

    fn send_head<S: Service>(
        &self,
        exchange: &Exchange,
        head: &ResponseHead,
        status: Result<StatusCode, http::status::InvalidStatusCode>,
        last: bool,
        service: &S,
    ) -> Result<(), Fault> {
        let mut response = Head::new(());
        *response.status_mut() = status.map_err(|_| Fault::new(Kind::UpstreamProtocol, "a status that is none"))?;
        let fields = response.headers_mut();
        add_fields(&head.headers, fields);
        if !head.headers.has(Name::Date) {
            let mut date = Vec::new();
            service.date(exchange.record.started, &mut date);
            add(fields, header::DATE, &date);
        }
        if !exchange.request_id.is_empty() {
            add(fields, HeaderName::from_static("x-request-id"), exchange.request_id());
        }
        if let (Framing::Length(length), _) | (_, Some(length)) = (head.framing, head.stated_length) {
            fields.insert(header::CONTENT_LENGTH, length.into());
        }
        let send = self.respond.borrow_mut().send_response(response, last).map_err(|_| gone())?;
        *self.send.borrow_mut() = Some(send);
        Ok(())
    }

    /// Hands the body over as it comes and as the client takes it. Ready when all is handed over.
    fn poll_body(&self, cx: &mut Context<'_>, sending: &mut Sending, exchange: &mut Exchange) -> Poll<Result<(), Fault>> {
        if let Some(lifetime) = &sending.lifetime
            && lifetime.poll(cx).is_ready()
        {
            return Poll::Ready(Err(Fault::new(Kind::UpstreamTimeout, "the client's grpc-timeout is over")));
        }
        loop {
            let (count, over) = match &sending.body {
                Body::Empty | Body::Tunnel(_) => return Poll::Ready(self.end(b"")),
                Body::Bytes(bytes) => ready!(self.poll_piece(cx, &bytes[sending.at..], true))?,
                Body::Shared(bytes) => ready!(self.poll_piece(cx, &bytes[sending.at..], true))?,
                Body::Stream(stream) => match stream.poll_ready(cx) {
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                    Poll::Ready(Ok(Progress::End)) => {
                        let mut trailers = Vec::new();
                        stream.trailers(&mut trailers);
                        self.end(&trailers)?;
                        finish(&mut sending.body);
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Ok(Progress::Data)) => {
                        let data = stream.data();
                        let last = sending.left.is_some_and(|left| data.len() as u64 >= left);
                        let (count, over) = ready!(self.poll_piece(cx, &data, last))?;
                        drop(data);
                        stream.consume(count);
                        (count, over)
                    }
                    Poll::Pending => {
                        exchange.hold.narrow();
                        return self.poll_quiet(cx).map(Err);
                    }
                },
            };
            sending.at += count;
            exchange.record.bytes_out += count as u64;
            sending.left = sending.left.map(|left| left.saturating_sub(count as u64));
            if over {
                // A stated length says where the end is; whoever carried the body may not have seen it yet.
                return self.poll_end_of_source(cx, sending);
            }
        }
    }

    /// Gives how many bytes went, and whether the client was told that they were the last.
    fn poll_piece(&self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<(usize, bool), Fault>> {
        let count = ready!(self.poll_send(cx, bytes, last))?;
        Poll::Ready(Ok((count, last && count == bytes.len())))
    }

    fn poll_end_of_source(&self, cx: &mut Context<'_>, sending: &mut Sending) -> Poll<Result<(), Fault>> {
        if let Body::Stream(stream) = &sending.body
            && let Poll::Ready(Ok(Progress::End)) = stream.poll_ready(cx)
        {
            finish(&mut sending.body);
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing follows, but trailers where there are any.
    fn end(&self, trailers: &[u8]) -> Result<(), Fault> {
        match &mut *self.send.borrow_mut() {
            Some(send) => end(send, trailers).map_err(|_| gone()),
            None => Ok(()),
        }
    }

    /// The back end agreed to an upgrade: what was 101 in HTTP/1.1 is 200 here (RFC 8441 §5).
    async fn tunnel<S: Service>(
        self: &Rc<Self>,
        exchange: &mut Exchange,
        mut head: Box<ResponseHead>,
        upstream: Rc<dyn Duplex>,
        service: &S,
    ) -> Answered {
        if head.headers.get(b"sec-websocket-accept") != Some(&self.accept.get()) {
            exchange.keep_head(head);
            return Answered::Unsent(Fault::new(Kind::UpstreamProtocol, "101 with an answer to another WebSocket key"));
        }
        head.headers.remove(b"sec-websocket-accept");
        exchange.record.status = 200;
        let sent = self.send_head(exchange, &head, Ok(StatusCode::OK), false, service);
        exchange.keep_head(head);
        exchange.hold.narrow();
        if let Err(fault) = sent {
            exchange.record.fault = Some((fault.kind, fault.detail));
            return Answered::Done;
        }
        self.become_tunnel();
        let worker = &self.shared.worker;
        let relayed = crate::tunnel::relay(worker, &**self, &*upstream, true, &self.limits).await;
        exchange.record.bytes_out += relayed.down;
        Answered::Done
    }
}

fn finish(body: &mut Body) {
    if let Body::Stream(stream) = std::mem::take(body) {
        stream.finish();
    }
}

fn add(fields: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        fields.insert(name, value);
    }
}
