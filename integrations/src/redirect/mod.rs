//! Sends the client elsewhere. The query comes along unless the target has one of its own.

use maitred_core::render::Text;
use maitred_core::{Body, Exchange, Fault, Permit, Response};

pub struct Redirect {
    to: Text,
    has_query: bool,
    status: u16,
}

impl Redirect {
    /// `params`: the names of the route's path parameters. `Err` is a name that is not among them.
    pub fn compile(redirect: &maitred_model::Redirect, params: &[&str]) -> Result<Redirect, String> {
        let has_query = redirect.to.source.contains('?');
        Ok(Redirect { to: Text::compile(&redirect.to, params)?, has_query, status: redirect.status })
    }

    pub fn invoke(&self, exchange: &mut Exchange, _permit: Permit) -> Result<Response, Fault> {
        let mut location = Vec::new();
        self.to.url(exchange, &mut location)?;
        if let (false, Some(query)) = (self.has_query, exchange.request.query()) {
            location.push(b'?');
            location.extend_from_slice(query);
        }
        let mut response = Response::with_body(exchange.take_head(), self.status, Body::Empty);
        response.head.headers.add(b"location", &location);
        Ok(response)
    }
}
