//! A response on its way to an HTTP/2 client: its head, its body as windows allow, its trailers. What breaks off is reset, so that
//! nobody takes a part for the whole.

use super::stream::{Stream, gone};
use crate::http2;
use crate::server::Service;
use crate::timers::Timer;
use maitred_core::problem::grpc_status;
use maitred_core::{Body, Duplex, Exchange, Fault, Kind, Progress, Response};
use maitred_wire::{Framing, H2Code, Method, Name, ResponseHead, field};
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
            self.reset(H2Code::CANCEL);
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
        let sent = match poll_fn(|cx| self.poll_room(cx)).await {
            Ok(()) => self.send_head(exchange, &head, head.status, empty, service),
            Err(fault) => Err(fault),
        };
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
        if self.begun.get() && exchange.is_grpc() && fault.kind != Kind::ClientGone {
            let mut lines = Vec::new();
            for (name, value) in grpc_status(fault.kind) {
                field(&mut lines, name, &value);
            }
            if self.end(&lines).is_ok() {
                return;
            }
        }
        self.reset(if fault.kind == Kind::ClientGone { H2Code::CANCEL } else { H2Code::INTERNAL_ERROR });
    }

    fn send_head<S: Service>(
        &self,
        exchange: &Exchange,
        head: &ResponseHead,
        status: u16,
        last: bool,
        service: &S,
    ) -> Result<(), Fault> {
        let worker = &self.shared.worker;
        let mut date = worker.take_output();
        if !head.headers.has(Name::Date) {
            service.date(exchange.record.started, &mut date);
        }
        let length = if let Framing::Length(length) = head.framing { Some(length) } else { head.stated_length };
        let sent = self.shared.connection.send_head(&self.channel, last, |out| {
            http2::response(out, status, &head.headers, length, &date, exchange.request_id());
        });
        worker.give_output(date);
        self.begun.set(true);
        sent.map_err(|_| gone())
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
        let sent = self.send_head(exchange, &head, 200, false, service);
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
