//! The one response of an exchange: head and body.

use crate::body::Body;
use maitred_wire::{Framing, ResponseHead};

pub struct Response {
    pub head: Box<ResponseHead>,
    pub body: Body,
}

impl Response {
    /// A response whose whole body is known. `head` is cleared.
    pub fn with_body(mut head: Box<ResponseHead>, status: u16, body: Body) -> Response {
        head.clear();
        head.status = status;
        Response::framed(head, body)
    }

    /// The same, with a head whose status and fields are in place.
    pub fn framed(mut head: Box<ResponseHead>, body: Body) -> Response {
        let status = head.status;
        let length = match &body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Shared(bytes) => bytes.len() as u64,
            Body::Empty | Body::Stream(_) | Body::Tunnel(_) => 0,
        };
        if length > 0 {
            head.framing = Framing::Length(length);
        } else if status >= 200 && status != 204 && status != 304 {
            head.stated_length = Some(0);
        }
        Response { head, body }
    }

    pub fn status(&self) -> u16 {
        self.head.status
    }
}
