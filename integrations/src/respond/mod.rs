//! Answers from the configuration itself. Asks nobody.

use maitred_core::{Body, Exchange, Permit, Response};
use maitred_model::RespondBody;
use std::sync::Arc;

pub struct Respond {
    status: u16,
    headers: Box<[(String, String)]>,
    body: Option<Arc<[u8]>>,
}

impl Respond {
    pub fn compile(respond: &maitred_model::Respond) -> Respond {
        let mut headers: Vec<(String, String)> =
            respond.headers.iter().map(|(name, value)| (name.as_str().to_string(), value.as_str().to_string())).collect();
        let (body, content_type) = match &respond.body {
            RespondBody::Empty => (None, None),
            RespondBody::Text(text) => (Some(text.as_bytes().into()), Some("text/plain; charset=utf-8")),
            RespondBody::Json(value) => (Some(value.to_string().into_bytes().into()), Some("application/json")),
        };
        if let Some(content_type) = content_type
            && !headers.iter().any(|(name, _)| name == "content-type")
        {
            headers.push(("content-type".to_string(), content_type.to_string()));
        }
        Respond { status: respond.status, headers: headers.into(), body }
    }

    pub fn invoke(&self, exchange: &mut Exchange, _permit: Permit) -> Response {
        let body = self.body.clone().map_or(Body::Empty, Body::Shared);
        let mut response = Response::with_body(exchange.take_head(), self.status, body);
        for (name, value) in &self.headers {
            response.head.headers.add(name.as_bytes(), value.as_bytes());
        }
        response
    }
}
