//! A response on its way to an HTTP/3 client: its head, its body as windows allow, its trailers. What breaks off is reset, so that
//! nobody takes a part for the whole.

use super::stream::{Stream, write_fields};
use crate::server::Service;
use crate::timers::Timer;
use maitred_core::problem::grpc_status;
use maitred_core::{Body, Duplex, Exchange, Fault, Kind, Progress, Response};
use maitred_wire::{
    Framing, H3Code, Method, Name, ResponseHead, begin_section, decimal, write_field, write_forwarded, write_status,
};
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
    /// Trailers are queued: only the end is missing.
    ending: bool,
    /// When all must be over.
    lifetime: Option<Timer>,
}

impl Stream {
    pub async fn answer<S: Service>(self: &Rc<Self>, exchange: &mut Exchange, response: Response, service: &S) -> Answered {
        if let Some(code) = self.condemned.get() {
            exchange.record.status = response.head.status;
            exchange.keep_head(response.head);
            self.reset(code);
            return Answered::Done;
        }
        if matches!(exchange.record.fault, Some((Kind::ClientGone, _))) {
            exchange.keep_head(response.head);
            self.reset(H3Code::RequestCancelled);
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
        self.queue_head(exchange, &head, head.status, service);
        exchange.keep_head(head);
        let mut sending =
            Sending { body: if empty { Body::Empty } else { body }, at: 0, ending: false, lifetime: self.lifetime(exchange) };
        let sent = poll_fn(|cx| self.poll_body(cx, &mut sending, exchange)).await;
        if let Err(fault) = sent {
            self.break_off(exchange, &fault).await;
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
    async fn break_off(&self, exchange: &Exchange, fault: &Fault) {
        if exchange.is_grpc() && fault.kind != Kind::ClientGone && self.is_between_frames() {
            let mut section = Vec::new();
            begin_section(&mut section);
            for (name, value) in grpc_status(fault.kind) {
                write_forwarded(&mut section, name, &value);
            }
            self.queue_section(&section);
            if poll_fn(|cx| self.poll_end(cx)).await.is_ok() {
                return;
            }
        }
        let reason = match fault.kind {
            Kind::ClientGone => H3Code::RequestCancelled,
            _ => self.condemned.get().unwrap_or(H3Code::InternalError),
        };
        self.reset(reason);
    }

    fn queue_head<S: Service>(&self, exchange: &Exchange, head: &ResponseHead, status: u16, service: &S) {
        let mut section = self.shared.worker.take_output();
        begin_section(&mut section);
        write_status(&mut section, status);
        let length = if let Framing::Length(length) = head.framing { Some(length) } else { head.stated_length };
        write_fields(&mut section, head, length.is_none());
        let mut text = Vec::new();
        if !head.headers.has(Name::Date) {
            service.date(exchange.record.started, &mut text);
            write_field(&mut section, b"date", &text);
        }
        if !exchange.request_id.is_empty() {
            write_field(&mut section, b"x-request-id", exchange.request_id());
        }
        if let Some(length) = length {
            text.clear();
            decimal(&mut text, length);
            write_field(&mut section, b"content-length", &text);
        }
        self.queue_section(&section);
        self.shared.worker.give_output(section);
        self.begun.set(true);
    }

    /// Hands the body over as it comes and as the client takes it. Ready when all is handed over, and its end.
    fn poll_body(&self, cx: &mut Context<'_>, sending: &mut Sending, exchange: &mut Exchange) -> Poll<Result<(), Fault>> {
        if let Some(lifetime) = &sending.lifetime
            && lifetime.poll(cx).is_ready()
        {
            return Poll::Ready(Err(Fault::new(Kind::UpstreamTimeout, "the client's grpc-timeout is over")));
        }
        loop {
            if sending.ending {
                return self.poll_end(cx);
            }
            let count = match &sending.body {
                Body::Empty | Body::Tunnel(_) => {
                    sending.ending = true;
                    continue;
                }
                Body::Bytes(bytes) if sending.at == bytes.len() => {
                    sending.ending = true;
                    continue;
                }
                Body::Shared(bytes) if sending.at == bytes.len() => {
                    sending.ending = true;
                    continue;
                }
                Body::Bytes(bytes) => ready!(self.poll_send(cx, &bytes[sending.at..]))?,
                Body::Shared(bytes) => ready!(self.poll_send(cx, &bytes[sending.at..]))?,
                Body::Stream(stream) => match stream.poll_ready(cx) {
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                    Poll::Ready(Ok(Progress::End)) => {
                        let mut lines = Vec::new();
                        stream.trailers(&mut lines);
                        self.queue_trailers(&lines);
                        sending.ending = true;
                        if let Body::Stream(stream) = std::mem::take(&mut sending.body) {
                            stream.finish();
                        }
                        continue;
                    }
                    Poll::Ready(Ok(Progress::Data)) => {
                        let data = stream.data();
                        let count = ready!(self.poll_send(cx, &data))?;
                        drop(data);
                        stream.consume(count);
                        count
                    }
                    Poll::Pending => {
                        exchange.hold.narrow();
                        return self.poll_quiet(cx).map(Err);
                    }
                },
            };
            sending.at += count;
            exchange.record.bytes_out += count as u64;
        }
    }

    /// The trailers, where there are any, from the lines that they are in HTTP/1.1.
    fn queue_trailers(&self, lines: &[u8]) {
        let mut section = Vec::new();
        for line in lines.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            if section.is_empty() {
                begin_section(&mut section);
            }
            write_forwarded(&mut section, &line[..colon], line[colon + 1..].trim_ascii());
        }
        if !section.is_empty() {
            self.queue_section(&section);
        }
    }

    /// The back end agreed to an upgrade: what was 101 in HTTP/1.1 is 200 here (RFC 9220 §3).
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
        self.queue_head(exchange, &head, 200, service);
        exchange.keep_head(head);
        exchange.hold.narrow();
        if let Err(fault) = poll_fn(|cx| self.poll_queued(cx)).await {
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
