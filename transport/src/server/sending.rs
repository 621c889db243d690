//! A response's body on its way to the client: what is copied behind the head, what is written from where it lies, and how it is
//! framed. Sends no head.

use super::http1::{COPY_BYTES_MAX, Connection};
use crate::client::end_of_chunks;
use maitred_core::{Body, Exchange, Fault, Progress};
use maitred_wire::{Framing, Method, ResponseHead, Version, chunk_head};
use std::task::{Context, Poll, ready};

/// How a response's body goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    NoBody,
    Plain,
    Chunked,
    /// HTTP/1.0 and no length.
    UntilClose,
    Upgrade,
}

impl Mode {
    pub fn of(head: &ResponseHead, exchange: &Exchange) -> Mode {
        if exchange.request.method == Method::Head {
            return Mode::NoBody;
        }
        match head.framing {
            Framing::None => Mode::NoBody,
            Framing::Length(_) => Mode::Plain,
            Framing::Chunked | Framing::Close if exchange.request.version != Version::Http10 => Mode::Chunked,
            Framing::Chunked | Framing::Close => Mode::UntilClose,
        }
    }
}

/// A response body on its way.
pub(super) struct Sending {
    pub body: Body,
    pub chunked: bool,
    /// How much of a `Bytes` body is copied.
    pub at: usize,
}

pub(super) enum TopUp {
    /// Bytes went behind what is queued.
    Copied,
    /// There is much at hand: write it from where it lies.
    Direct,
    /// The body has nothing at the moment.
    Waiting,
    Over,
}

impl Sending {
    /// Brings the next bytes of the body behind the queued ones, or says where they are.
    pub fn poll_top_up(&mut self, cx: &mut Context<'_>, connection: &Connection, sent: &mut u64) -> Result<TopUp, Fault> {
        let out = &connection.out;
        let stream = match &self.body {
            Body::Empty | Body::Tunnel(_) => return Ok(TopUp::Over),
            Body::Bytes(bytes) => return Ok(copy_piece(bytes, &mut self.at, &mut out.borrow_mut(), sent)),
            Body::Shared(bytes) => return Ok(copy_piece(bytes, &mut self.at, &mut out.borrow_mut(), sent)),
            Body::Stream(stream) => stream,
        };
        // Nothing is borrowed here: the back end's connection may be reading this request's body still, from this connection.
        let ready = stream.poll_ready(cx);
        let mut out = out.borrow_mut();
        let room = COPY_BYTES_MAX.saturating_sub(out.len());
        match ready {
            Poll::Pending => Ok(TopUp::Waiting),
            Poll::Ready(Err(fault)) => Err(fault),
            Poll::Ready(Ok(Progress::End)) => {
                if self.chunked {
                    end_of_chunks(stream, &mut out);
                }
                if let Body::Stream(stream) = std::mem::take(&mut self.body) {
                    stream.finish();
                }
                Ok(TopUp::Over)
            }
            Poll::Ready(Ok(Progress::Data)) => {
                let data = stream.data();
                if !self.chunked && data.len() > room {
                    return Ok(TopUp::Direct);
                }
                if room == 0 {
                    return Ok(TopUp::Copied);
                }
                let count = data.len().min(room);
                if self.chunked {
                    chunk_head(&mut out, count);
                }
                out.extend_from_slice(&data[..count]);
                if self.chunked {
                    out.extend_from_slice(b"\r\n");
                }
                drop(data);
                stream.consume(count);
                *sent += count as u64;
                Ok(TopUp::Copied)
            }
        }
    }

    /// Writes what is queued and what is at hand, in one system call; gives how many bytes of the body went.
    pub fn poll_direct(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<Result<u64, Fault>> {
        let Body::Stream(stream) = &self.body else { return Poll::Ready(Ok(0)) };
        let mut out = connection.out.borrow_mut();
        let written = connection.written.get();
        let data = stream.data();
        let queued = out.len() - written;
        let count = ready!(connection.poll_timed_write(cx, |cx| match queued {
            0 => connection.socket.poll_write(cx, &data),
            _ => connection.socket.poll_write_two(cx, &out[written..], &data),
        }))?;
        drop(data);
        if count < queued {
            connection.written.set(written + count);
            return Poll::Ready(Ok(0));
        }
        out.clear();
        connection.written.set(0);
        let of_body = count - queued;
        if of_body > 0 {
            stream.consume(of_body);
        }
        Poll::Ready(Ok(of_body as u64))
    }
}

fn copy_piece(bytes: &[u8], at: &mut usize, out: &mut Vec<u8>, sent: &mut u64) -> TopUp {
    let room = COPY_BYTES_MAX.saturating_sub(out.len());
    let piece = &bytes[*at..bytes.len().min(*at + room)];
    out.extend_from_slice(piece);
    *at += piece.len();
    *sent += piece.len() as u64;
    if *at == bytes.len() { TopUp::Over } else { TopUp::Copied }
}
