//! Asks an upstream. What is sent is written anew in `forward`; how often, and to whom, is decided in `attempt`.

mod attempt;
mod forward;

use crate::Reach;
use maitred_core::render::Text;
use maitred_core::{Exchange, Fault, Permit, Response};

pub struct Proxy {
    /// Index in `Reach::upstreams`.
    pub upstream: u32,
    pub rewrite: Option<Box<Text>>,
}

impl Proxy {
    pub async fn invoke(&self, exchange: &mut Exchange, _permit: Permit, reach: &Reach) -> Result<Response, Fault> {
        if let Some(rewrite) = &self.rewrite {
            let mut target = std::mem::take(&mut exchange.target);
            let rendered = rewrite.path(exchange, &mut target);
            exchange.target = target;
            rendered?;
        }
        attempt::run(exchange, &reach.upstreams[self.upstream as usize], reach).await
    }
}
