//! Cross-origin rules (the Fetch standard's CORS protocol): answers preflights itself and marks responses, refusals too, so that
//! scripts can read why. It protects browsers' users, not the back end: whoever is no browser is not stopped by it.

use maitred_core::{Body, Exchange, Fault, Flow, Hook, Policy, Response};
use maitred_model::Cors;
use maitred_wire::{Method, Name};

pub const NAME: &str = "cors";

pub struct CorsPolicy {
    any_origin: bool,
    origins: Box<[String]>,
    methods: Box<str>,
    any_header: bool,
    headers: Box<str>,
    expose: Box<str>,
    credentials: bool,
    max_age: Option<Box<str>>,
}

/// Whether a request asks for permission and not for the thing itself.
pub fn is_preflight(exchange: &Exchange) -> bool {
    let headers = &exchange.request.headers;
    exchange.request.method == Method::Options && headers.has(Name::Origin) && headers.has(Name::AccessControlRequestMethod)
}

impl CorsPolicy {
    pub fn compile(cors: &Cors) -> CorsPolicy {
        CorsPolicy {
            any_origin: cors.origins.iter().any(|origin| origin == "*"),
            origins: cors.origins.clone().into(),
            methods: cors.methods.join(", ").into(),
            any_header: cors.headers.iter().any(|header| header == "*"),
            headers: cors.headers.join(", ").into(),
            expose: cors.expose.join(", ").into(),
            credentials: cors.credentials,
            max_age: cors.max_age.map(|age| age.as_secs().to_string().into()),
        }
    }

    /// The origin to name, if the request's is allowed.
    fn allowed<'e>(&self, exchange: &'e Exchange) -> Option<&'e [u8]> {
        let origin = exchange.request.headers.known(Name::Origin)?;
        if self.any_origin {
            return Some(b"*");
        }
        self.origins.iter().any(|allowed| allowed.as_bytes() == origin).then_some(origin)
    }

    fn preflight(&self, exchange: &mut Exchange) -> Response {
        let head = exchange.take_head();
        let mut response = Response::with_body(head, 204, Body::Empty);
        if self.allowed(exchange).is_none() {
            return response;
        }
        let headers = &mut response.head.headers;
        headers.add(b"access-control-allow-methods", self.methods.as_bytes());
        let asked = exchange.request.headers.known(Name::AccessControlRequestHeaders);
        match (self.any_header, asked) {
            (true, Some(asked)) => headers.add(b"access-control-allow-headers", asked),
            (false, Some(_)) if !self.headers.is_empty() => headers.add(b"access-control-allow-headers", self.headers.as_bytes()),
            _ => {}
        }
        if let Some(max_age) = &self.max_age {
            headers.add(b"access-control-max-age", max_age.as_bytes());
        }
        response
    }
}

impl Policy for CorsPolicy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn always_leaves(&self) -> bool {
        true
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange) -> Hook<'a, Result<Flow<()>, Fault>> {
        Hook::Ready(Ok(match is_preflight(exchange) {
            true => Flow::Reply(self.preflight(exchange)),
            false => Flow::Go(()),
        }))
    }

    fn leave(&self, exchange: &Exchange, response: &mut Response) {
        let headers = &mut response.head.headers;
        // The gateway's word counts: two Access-Control-Allow-Origin would be none.
        for name in [&b"access-control-allow-origin"[..], b"access-control-allow-credentials", b"access-control-expose-headers"] {
            headers.remove(name);
        }
        if !self.any_origin {
            headers.add(b"vary", b"origin");
        }
        let Some(origin) = self.allowed(exchange) else { return };
        headers.add(b"access-control-allow-origin", origin);
        if self.credentials {
            headers.add(b"access-control-allow-credentials", b"true");
        }
        if !self.expose.is_empty() && !is_preflight(exchange) {
            headers.add(b"access-control-expose-headers", self.expose.as_bytes());
        }
    }
}
