//! Requests from text, for tests of signatures.

use super::super::{Authorizer, Decision, Refusal};
use maitred_core::testing::Fixed;
use maitred_core::wire::{Framing, HeadLimits, Parsed};
use maitred_core::{Body, Exchange, Hook, Whole};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// A request as it would come by HTTP/1.1; `None` if it would be refused as such.
pub fn try_exchange(head: &str, body: &[u8]) -> Option<Exchange> {
    let limits = HeadLimits { head_bytes: 65536, fields: 100, target_bytes: 16384, drop_underscores: true };
    let mut exchange = Exchange::new(Instant::now());
    match exchange.request.parse(head.as_bytes(), &limits) {
        Ok(Parsed::Complete(length)) if length == head.len() => {}
        _ => return None,
    }
    if exchange.request.framing != Framing::None {
        exchange.body = Body::Stream(Rc::new(Whole::new(body.into())));
    }
    Some(exchange)
}

/// `lines`: request line and headers, each with a line end.
pub fn exchange(lines: &str, body: &[u8]) -> Exchange {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\n", body.len()) };
    let head = format!("{lines}{length}\n").replace('\n', "\r\n");
    try_exchange(&head, body).unwrap_or_else(|| panic!("no request:\n{head}"))
}

/// Who it is; else why not.
pub fn decide(authorizer: &dyn Authorizer, exchange: &mut Exchange, ports: &Fixed) -> Result<String, String> {
    assert!(authorizer.recall(exchange, ports).is_none());
    let decision: Decision = match authorizer.decide(exchange, ports) {
        Hook::Ready(decision) => decision,
        Hook::Pending(mut later) => {
            let mut cx = Context::from_waker(Waker::noop());
            loop {
                if let Poll::Ready(decision) = later.as_mut().poll(&mut cx) {
                    break decision;
                }
            }
        }
    };
    match decision {
        Ok(principal) => Ok(principal.subject.clone().expect("a subject").into()),
        Err(Refusal::Invalid { detail, .. } | Refusal::Unproven { detail, .. } | Refusal::Forbidden(detail)) => {
            Err(detail.into_owned())
        }
        Err(Refusal::Failed(fault)) => Err(fault.kind.name().to_owned()),
        Err(Refusal::Answered(_) | Refusal::Invited(_)) => unreachable!("it has no answers of its own"),
    }
}
