//! One stream as the exchange sees it: the request's body, the client who waits, and after an extended CONNECT (RFC 8441) a tunnel.

use super::Shared;
use crate::http2::{Answer, Break, By, Channel, Hpack};
use crate::server::ServerLimits;
use crate::server::answer::Outlet;
use crate::server::streams::{Talk, gone};
use maitred_core::{Client, Duplex, Fault, Kind, Progress};
use maitred_wire::{H2Code, ResponseHead};
use std::cell::Ref;
use std::rc::Rc;
use std::task::{Context, Poll};

pub(super) struct Stream {
    shared: Rc<Shared>,
    channel: Rc<Channel>,
    talk: Talk<H2Code>,
}

impl Stream {
    pub fn new(shared: Rc<Shared>, limits: Rc<ServerLimits>, channel: Rc<Channel>) -> Stream {
        let talk = Talk::new(shared.worker.clone(), limits);
        Stream { shared, channel, talk }
    }

    /// Bytes of the request's body that came.
    pub fn read(&self) -> u64 {
        self.talk.read.get() + self.channel.at_hand() as u64
    }

    /// It was ended before its time.
    pub fn is_broken(&self) -> bool {
        self.channel.broken().is_some()
    }

    pub fn why_broken(&self) -> Fault {
        match self.channel.broken() {
            Some(Break { by: By::Us, .. }) => {
                Fault::new(Kind::ClientGone, "the client made no room for an answer for limits.write_timeout")
            }
            Some(_) | None => gone(),
        }
    }
}

impl Outlet for Stream {
    type Code = H2Code;
    const MALFORMED: H2Code = H2Code::PROTOCOL_ERROR;
    const CANCELLED: H2Code = H2Code::CANCEL;
    const BROKEN: H2Code = H2Code::INTERNAL_ERROR;

    fn talk(&self) -> &Talk<H2Code> {
        &self.talk
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self.shared.connection.poll_room(cx, &self.channel) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => self.talk.poll_write_patience(cx),
        }
    }

    fn send_head(&self, last: bool, answer: &Answer<'_>) -> Result<(), Fault> {
        self.shared.connection.send_head(&self.channel, last, |out| answer.write::<Hpack>(out)).map_err(|_| gone())
    }

    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Fault>> {
        match self.shared.connection.poll_send(cx, &self.channel, bytes, last) {
            Poll::Ready(Ok(count)) => {
                self.talk.writing.moved(count, bytes.len());
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(gone())),
            Poll::Pending => self.talk.poll_write_patience(cx),
        }
    }

    fn end(&self, trailers: &[u8]) -> Result<(), Fault> {
        self.shared.connection.end(&self.channel, trailers).map_err(|_| gone())
    }

    fn poll_quiet(&self, cx: &mut Context<'_>) -> Poll<Fault> {
        self.channel.poll_broken(cx).map(|_| gone())
    }

    fn reset(&self, code: H2Code) {
        self.shared.connection.reset(&self.channel, code);
    }
}

/// The request's body.
impl maitred_core::Stream for Stream {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        if self.talk.owes_continue.replace(false) && self.channel.at_hand() == 0 {
            self.shared.connection.send_interim(&self.channel, 100, &ResponseHead::default().headers);
        }
        match self.channel.poll_incoming(cx) {
            Poll::Ready(progress) => {
                self.talk.reading.rest();
                let progress = progress.map_err(|broken| {
                    Fault::new(Kind::ClientGone, format!("the client's stream broke in the middle of its body: {broken}"))
                })?;
                self.talk.check_limit(self.channel.at_hand())?;
                Poll::Ready(Ok(progress))
            }
            Poll::Pending => self.talk.poll_body_patience(cx),
        }
    }

    fn data(&self) -> Ref<'_, [u8]> {
        self.channel.data()
    }

    fn consume(&self, count: usize) {
        self.shared.connection.consume(&self.channel, count);
        self.talk.took(count);
    }

    fn limit(&self, bytes: u64) {
        self.talk.limit(bytes);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        self.channel.copy_trailers(out);
    }

    fn finish(self: Rc<Self>) {}
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.connection.abandon(&self.channel);
    }
}

impl Client for Stream {
    fn interim(&self, head: &ResponseHead) {
        if self.talk.takes_interim() {
            self.shared.connection.send_interim(&self.channel, head.status, &head.headers);
        }
    }

    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        // The connection's own task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.channel.poll_broken(cx).map(drop)
    }

    fn poll_gone_unread(&self, cx: &mut Context<'_>) -> Poll<()> {
        let gone = self.poll_gone(cx);
        if self.shared.connection.is_half_closed() { Poll::Ready(()) } else { gone }
    }

    fn room(&self) -> usize {
        self.shared.connection.room(&self.channel)
    }
}

/// After an extended CONNECT the stream is bytes both ways.
impl Duplex for Stream {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        self.poll_send(cx, bytes, false)
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(self.end(b""))
    }
}
