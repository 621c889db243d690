//! One folder each: what answers a route. Takes a permit, so that nothing is asked of a back end before every policy agreed.

mod call;
pub mod function;
mod ports;
pub mod proxy;
pub mod redirect;
pub mod respond;
pub mod websocket;

use maitred_core::wire::HeadLimits;
use maitred_core::{Exchange, Fault, Permit, Response, Room};
use maitred_transport::{Counters, Upstream, Worker};
use std::rc::Rc;
use std::sync::Arc;

/// What an integration may reach from the worker it runs on.
pub struct Reach {
    pub worker: Rc<Worker>,
    /// By the index that `compile` gave them.
    pub upstreams: Vec<Upstream>,
    /// Likewise.
    pub functions: Vec<Arc<function::run::Runner>>,
    /// Clients of this worker that stay.
    pub sockets: Rc<websocket::Desk>,
    /// Bounds of a back end's response head.
    pub head_limits: HeadLimits,
    /// Copies of requests under way on this worker.
    pub mirrors: proxy::mirror::UnderWay,
    /// Where bodies are held whole, over all workers.
    pub room: Room,
    /// Where messages of clients that stay are held, over all workers.
    pub sockets_room: Room,
    /// Where gateways count together, if they do.
    pub counters: Option<Rc<Counters>>,
}

/// What answers a route. An enum, so that the common ones box nothing.
pub enum Integration {
    Proxy(proxy::Proxy),
    Function(Box<function::Function>),
    WebSocket(Arc<websocket::WebSocket>),
    Respond(Box<respond::Respond>),
    Redirect(Box<redirect::Redirect>),
}

impl Integration {
    pub async fn invoke(&self, exchange: &mut Exchange, permit: Permit, reach: &Rc<Reach>) -> Result<Response, Fault> {
        match self {
            Integration::Proxy(proxy) => proxy.invoke(exchange, permit, reach).await,
            // Boxed: few requests need it, and all would be as large.
            Integration::Function(function) => Box::pin(function.invoke(exchange, permit, reach)).await,
            Integration::WebSocket(socket) => Box::pin(socket.invoke(exchange, permit, reach)).await,
            Integration::Respond(respond) => Ok(respond.invoke(exchange, permit)),
            Integration::Redirect(redirect) => redirect.invoke(exchange, permit),
        }
    }
}
