//! Cross-origin rules (the Fetch standard's CORS protocol): answers preflights itself and marks responses, refusals too, so that
//! scripts can read why. It protects browsers' users, not the back end: whoever is no browser is not stopped by it.

use maitred_core::{Body, Exchange, Fault, Flow, Hook, Policy, Ports, Response};
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

/// Methods for which a browser asks nobody (Fetch, "CORS-safelisted method").
const SAFELISTED: [&[u8]; 3] = [b"GET", b"HEAD", b"POST"];

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

    /// What a preflight is answered with.
    pub fn answer(&self, exchange: &mut Exchange) -> Response {
        let mut response = self.preflight(exchange);
        self.tell(exchange, &mut response);
        response
    }

    /// Why a browser does not send the request that a preflight asked for; `None`: it does.
    pub fn refusal(&self, exchange: &Exchange) -> Option<String> {
        let headers = &exchange.request.headers;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if self.allowed(exchange).is_none() {
            return Some(format!("the origin {} is not in `cors.origins`", text(headers.known(Name::Origin)?)));
        }
        let method = headers.known(Name::AccessControlRequestMethod)?;
        let is_listed = |list: &str, name: &[u8]| list.split(", ").any(|listed| listed.as_bytes().eq_ignore_ascii_case(name));
        // Methods are compared as they are spelt.
        if !SAFELISTED.contains(&method) && !self.methods.split(", ").any(|listed| listed.as_bytes() == method) {
            return Some(format!("the method {} is not in `cors.methods`", text(method)));
        }
        let asked = headers.known(Name::AccessControlRequestHeaders).unwrap_or_default();
        let mut asked = asked.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
        let refused = asked.find(|name| !self.any_header && !is_listed(&self.headers, name))?;
        Some(format!("the header {} is not in `cors.headers`", text(refused)))
    }

    fn tell(&self, exchange: &Exchange, response: &mut Response) {
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

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        Hook::Ready(Ok(match is_preflight(exchange) {
            true => Flow::Reply(self.preflight(exchange)),
            false => Flow::Go(()),
        }))
    }

    fn leave(&self, exchange: &Exchange, response: &mut Response, _: &dyn Ports) {
        self.tell(exchange, response);
    }
}
