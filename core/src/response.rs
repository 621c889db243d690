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
        // What followed would be read as the next response (RFC 9112 §6.3).
        let body = match body {
            Body::Bytes(_) | Body::Shared(_) | Body::Stream(_) if is_bodiless(status) => Body::Empty,
            body => body,
        };
        let length = match &body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Shared(bytes) => bytes.len() as u64,
            Body::Empty | Body::Stream(_) | Body::Tunnel(_) => 0,
        };
        if length > 0 {
            head.framing = Framing::Length(length);
        } else if !is_bodiless(status) {
            head.stated_length = Some(0);
        }
        Response { head, body }
    }

    pub fn status(&self) -> u16 {
        self.head.status
    }
}

/// Responses of these statuses have no body, whatever stands in their heads.
pub fn is_bodiless(status: u16) -> bool {
    status < 200 || matches!(status, 204 | 304)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_a_body_has_none() {
        for (status, length) in
            [(101, None), (199, None), (200, Some(2)), (204, None), (205, Some(2)), (304, None), (305, Some(2)), (403, Some(2))]
        {
            for body in [Body::Bytes(b"no"[..].into()), Body::Shared(b"no"[..].into())] {
                let response = Response::with_body(Box::default(), status, body);
                assert_eq!(response.head.framing, length.map_or(Framing::None, Framing::Length), "{status}");
                assert_eq!(matches!(response.body, Body::Empty), length.is_none(), "{status}");
            }
            let response = Response::with_body(Box::default(), status, Body::Empty);
            assert_eq!(response.head.stated_length, length.map(|_| 0), "{status}");
        }
    }
}
