//! What a listener answers by itself, before any API is looked for: an authority's challenges, the way to https, and who came to the
//! wrong door.

use crate::world::World;
use maitred_core::wire::Method;
use maitred_core::{Body, Exchange, Fault, Kind, Response};

/// Keeps the method (RFC 9110 §15.4.9), and is for good.
const PERMANENT_REDIRECT: u16 = 308;

pub(crate) fn answer(world: &World, exchange: &mut Exchange) -> Result<Option<Response>, Fault> {
    if exchange.tls.is_none()
        && let Some(response) = challenge(world, exchange)
    {
        return Ok(Some(response));
    }
    if exchange.to_https {
        if exchange.request.host().is_empty() {
            return Err(Fault::new(Kind::BadRequest, "no Host, so no place to redirect to"));
        }
        return Ok(Some(to_https(world.snapshot.https_port, exchange)));
    }
    match &exchange.tls {
        Some(tls) => match &tls.covers {
            Some(covers) if !std::str::from_utf8(exchange.request.host()).is_ok_and(covers) => {
                Err(Fault::new(Kind::Misdirected, "the certificate of this connection does not stand for the host"))
            }
            Some(_) | None => Ok(None),
        },
        None => Ok(None),
    }
}

/// For how long a client may remember that HTTP/3 is spoken here: a day.
const ALT_SVC_SECONDS: u32 = 24 * 3600;

/// Tells a client that came by TCP where HTTP/3 is (RFC 7838 §3), unless the back end has told it something of its own.
pub(crate) fn announce_h3(exchange: &Exchange, response: &mut Response) {
    let Some(tls) = &exchange.tls else { return };
    if tls.offers_h3 && response.head.headers.get(b"alt-svc").is_none() {
        let value = format!("h3=\":{}\"; ma={ALT_SVC_SECONDS}", exchange.local.port());
        response.head.headers.add(b"alt-svc", value.as_bytes());
    }
}

/// HTTP-01 (RFC 8555 §8.3): the authority asks in the clear, for nothing has a certificate yet.
fn challenge(world: &World, exchange: &mut Exchange) -> Option<Response> {
    let reads = match exchange.request.method {
        Method::Get | Method::Head => true,
        Method::Post | Method::Put | Method::Patch | Method::Delete | Method::Options | Method::Other => false,
    };
    let answer = world.snapshot.challenges.answer(exchange.request.path()).filter(|_| reads)?;
    let mut response = Response::with_body(exchange.take_head(), 200, Body::Shared(answer));
    response.head.headers.add(b"content-type", b"application/octet-stream");
    Some(response)
}

fn to_https(port: u16, exchange: &mut Exchange) -> Response {
    let mut location = b"https://".to_vec();
    let request = &exchange.request;
    location.extend_from_slice(request.host());
    if port != 443 {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    // `OPTIONS *` is about the server, which has no path.
    if request.path() != b"*" {
        location.extend_from_slice(request.path());
    }
    if let Some(query) = request.query() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    let mut response = Response::with_body(exchange.take_head(), PERMANENT_REDIRECT, Body::Empty);
    response.head.headers.add(b"location", &location);
    response
}
