//! A request of HTTP/2 or HTTP/3 whose head was read, until its response is on its way to the client: its head, its body as windows allow,
//! its trailers. What breaks off is reset, so that nobody takes a part for the whole. HTTP/1.1 is another matter: `http1.rs`.

use super::Service;
use super::streams::Talk;
use crate::http2::Answer;
use crate::timers::Timer;
use maitred_core::problem::grpc_status;
use maitred_core::{Body, Client, Duplex, Exchange, Fault, Kind, Progress, Response};
use maitred_wire::{Framing, Method, Name, Refusal, ResponseHead, field};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A stream as who answers it sees it. What is said goes out by `Client::poll_flush`, or without it.
pub(super) trait Outlet: Client + Duplex + 'static {
    /// The protocol's errors.
    type Code: Copy;
    /// The request is malformed.
    const MALFORMED: Self::Code;
    /// Nobody waits for the response.
    const CANCELLED: Self::Code;
    /// The response is not whole.
    const BROKEN: Self::Code;

    fn talk(&self) -> &Talk<Self::Code>;

    /// Ready when a response may begin: what others have to send is not too much.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Says a response's head. `last`: nothing follows.
    fn send_head(&self, last: bool, answer: &Answer<'_>) -> Result<(), Fault>;

    /// Sends as much of `bytes` as windows and buffers allow, waiting for the first. `last`: nothing follows them.
    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Fault>>;

    /// Says that nothing follows, but trailers where there are any, each a line.
    fn end(&self, trailers: &[u8]) -> Result<(), Fault>;

    /// There is nothing to send at the moment: is the client still there?
    fn poll_quiet(&self, cx: &mut Context<'_>) -> Poll<Fault>;

    /// Ends the stream with an error for the client.
    fn reset(&self, code: Self::Code);

    /// What becomes of a request whose head is refused.
    fn refuse(&self, refusal: Refusal) -> Fault {
        if let Refusal::Malformed(_) = refusal {
            // There is no request that could be answered (RFC 9113 §8.1.1, RFC 9114 §4.1.2).
            self.talk().condemned.set(Some(Self::MALFORMED));
        }
        refusal.into()
    }
}

enum Answered {
    Done,
    /// The response broke before a byte of it went out: there is time for another.
    Unsent(Fault),
}

/// From a head that was read, or refused, to the end of its answer.
pub(super) async fn answer<T: Outlet, S: Service>(stream: &Rc<T>, exchange: &mut Exchange, read: Result<(), Fault>, service: &S) {
    let response = match read {
        Err(fault) => service.refuse(exchange, fault),
        Ok(()) => {
            if exchange.request.upgrade.is_some() {
                stream.talk().begin_websocket(&mut exchange.request);
            }
            stream.talk().owes_continue.set(exchange.request.expect_continue);
            exchange.body = match exchange.request.framing {
                Framing::None => Body::Empty,
                Framing::Length(_) | Framing::Chunked | Framing::Close => Body::Stream(stream.clone()),
            };
            service.call(exchange).await
        }
    };
    let answering = Answering { stream: &**stream, service };
    if let Answered::Unsent(fault) = answering.answer(exchange, response).await {
        let response = service.fail(exchange, fault);
        if let Answered::Unsent(Fault { kind, detail, .. }) = answering.answer(exchange, response).await {
            exchange.record.fault = Some((kind, detail));
        }
    }
}

struct Answering<'a, T: Outlet, S: Service> {
    stream: &'a T,
    service: &'a S,
}

/// A body on its way.
struct Sending {
    body: Body,
    /// How much of a `Bytes` body is handed over.
    at: usize,
    /// Bytes still to come, where the head said how many and nothing follows them.
    left: Option<u64>,
    /// The end was said; it may still have to go out.
    ended: bool,
    /// When all must be over.
    lifetime: Option<Timer>,
}

impl<T: Outlet, S: Service> Answering<'_, T, S> {
    async fn answer(&self, exchange: &mut Exchange, response: Response) -> Answered {
        let Response { head, body } = response;
        if let Some(code) = self.stream.talk().condemned.get() {
            exchange.record.status = head.status;
            exchange.keep_head(head);
            self.stream.reset(code);
            return Answered::Done;
        }
        if matches!(exchange.record.fault, Some((Kind::ClientGone, _))) {
            exchange.keep_head(head);
            self.stream.reset(T::CANCELLED);
            return Answered::Done;
        }
        exchange.record.status = head.status;
        if let Body::Tunnel(upstream) = body {
            return self.tunnel(exchange, head, upstream).await;
        }
        if let Body::Stream(stream) = &body
            && let Poll::Ready(Err(fault)) = poll_fn(|cx| Poll::Ready(stream.poll_ready(cx))).await
        {
            exchange.keep_head(head);
            return Answered::Unsent(fault);
        }
        let empty = exchange.request.method == Method::Head || head.framing == Framing::None;
        // Who takes trailers may get some behind any body.
        let left = match head.framing {
            Framing::Length(length) if !exchange.request.te_trailers => Some(length),
            Framing::Length(_) | Framing::None | Framing::Chunked | Framing::Close => None,
        };
        let sent = match poll_fn(|cx| self.stream.poll_room(cx)).await {
            Ok(()) => self.send_head(exchange, &head, head.status, empty),
            Err(fault) => Err(fault),
        };
        exchange.keep_head(head);
        let sent = match sent {
            Err(fault) => Err(fault),
            Ok(()) => {
                let body = if empty { Body::Empty } else { body };
                let mut sending = Sending { body, at: 0, left, ended: empty, lifetime: self.lifetime(exchange) };
                poll_fn(|cx| self.poll_body(cx, &mut sending, exchange)).await
            }
        };
        if let Err(fault) = sent {
            self.break_off(exchange, &fault).await;
            exchange.record.fault = Some((fault.kind, fault.detail));
        }
        Answered::Done
    }

    fn lifetime(&self, exchange: &Exchange) -> Option<Timer> {
        let due = exchange.lifetime?;
        let timer = Timer::new(&self.stream.talk().worker.timers);
        timer.arm(due);
        Some(timer)
    }

    /// The response ends here. A gRPC client is told why in its own words, all others by a reset.
    async fn break_off(&self, exchange: &Exchange, fault: &Fault) {
        if exchange.is_grpc() && fault.kind != Kind::ClientGone {
            let mut lines = Vec::new();
            for (name, value) in grpc_status(fault) {
                field(&mut lines, name, &value);
            }
            if self.stream.end(&lines).is_ok() && poll_fn(|cx| self.stream.poll_flush(cx)).await.is_ok() {
                return;
            }
        }
        self.stream.reset(match fault.kind {
            Kind::ClientGone => T::CANCELLED,
            _ => self.stream.talk().condemned.get().unwrap_or(T::BROKEN),
        });
    }

    fn send_head(&self, exchange: &Exchange, head: &ResponseHead, status: u16, last: bool) -> Result<(), Fault> {
        let talk = self.stream.talk();
        let mut date = talk.worker.take_output();
        if !head.headers.has(Name::Date) {
            self.service.date(exchange.record.started, &mut date);
        }
        // gRPC's answer of trailers only is one block of fields, and no body of no bytes (PROTOCOL-HTTP2.md of gRPC, "Responses").
        let trailers_only = last && exchange.is_grpc() && head.headers.get(b"grpc-status").is_some();
        let length = match head.framing {
            Framing::Length(length) => Some(length),
            Framing::None if trailers_only => None,
            Framing::None | Framing::Chunked | Framing::Close => head.stated_length,
        };
        let answer = Answer { status, headers: &head.headers, length, date: &date, request_id: exchange.request_id() };
        let sent = self.stream.send_head(last, &answer);
        talk.worker.give_output(date);
        talk.begun.set(true);
        sent
    }

    /// Hands the body over as it comes and as the client takes it. Ready when all is handed over, and its end.
    fn poll_body(&self, cx: &mut Context<'_>, sending: &mut Sending, exchange: &mut Exchange) -> Poll<Result<(), Fault>> {
        if sending.ended {
            return self.stream.poll_flush(cx);
        }
        if let Some(lifetime) = &sending.lifetime
            && lifetime.poll(cx).is_ready()
        {
            return Poll::Ready(Err(Fault::new(Kind::UpstreamTimeout, "the client's grpc-timeout is over")));
        }
        while !sending.ended {
            let (count, over) = match &sending.body {
                Body::Empty | Body::Tunnel(_) => {
                    self.stream.end(b"")?;
                    (0, true)
                }
                Body::Bytes(bytes) => ready!(self.poll_piece(cx, &bytes[sending.at..], true))?,
                Body::Shared(bytes) => ready!(self.poll_piece(cx, &bytes[sending.at..], true))?,
                Body::Stream(stream) => match stream.poll_ready(cx) {
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                    Poll::Ready(Ok(Progress::End)) => {
                        let mut trailers = Vec::new();
                        stream.trailers(&mut trailers);
                        self.stream.end(&trailers)?;
                        (0, true)
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
                        return self.stream.poll_quiet(cx).map(Err);
                    }
                },
            };
            sending.at += count;
            exchange.record.bytes_out += count as u64;
            sending.left = sending.left.map(|left| left.saturating_sub(count as u64));
            sending.ended = over;
        }
        sending.let_go(cx);
        self.stream.poll_flush(cx)
    }

    /// Gives how many bytes went, and whether the client was told that they were the last.
    fn poll_piece(&self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<(usize, bool), Fault>> {
        let count = ready!(self.stream.poll_send(cx, bytes, last))?;
        Poll::Ready(Ok((count, last && count == bytes.len())))
    }

    /// The back end agreed to an upgrade: what was 101 in HTTP/1.1 is 200 here (RFC 8441 §5, RFC 9220 §3).
    async fn tunnel(&self, exchange: &mut Exchange, mut head: Box<ResponseHead>, upstream: Rc<dyn Duplex>) -> Answered {
        let talk = self.stream.talk();
        if head.headers.get(b"sec-websocket-accept") != Some(&talk.accept.get()) {
            exchange.keep_head(head);
            return Answered::Unsent(Fault::new(Kind::UpstreamProtocol, "101 with an answer to another WebSocket key"));
        }
        head.headers.remove(b"sec-websocket-accept");
        exchange.record.status = 200;
        let sent = self.send_head(exchange, &head, 200, false);
        exchange.keep_head(head);
        exchange.hold.narrow();
        let sent = match sent {
            Ok(()) => poll_fn(|cx| self.stream.poll_flush(cx)).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = sent {
            exchange.record.fault = Some((fault.kind, fault.detail));
            return Answered::Done;
        }
        talk.become_tunnel();
        let relayed = crate::tunnel::relay(&talk.worker, self.stream, &*upstream, true, &talk.limits).await;
        exchange.record.bytes_out += relayed.down;
        Answered::Done
    }
}

impl Sending {
    /// The end was said. A stated length says where it is; whoever carried the body may not have seen it yet.
    fn let_go(&mut self, cx: &mut Context<'_>) {
        if let Body::Stream(stream) = &self.body
            && let Poll::Ready(Ok(Progress::End)) = stream.poll_ready(cx)
            && let Body::Stream(stream) = std::mem::take(&mut self.body)
        {
            stream.finish();
        }
    }
}
