//! What may refuse or alter an exchange, and the proof that it was asked. Policies never dial.

use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::ports::Ports;
use crate::response::Response;
use std::future::Future;
use std::pin::Pin;

/// The answer of a hook: at once, or later. One that waits for nothing allocates nothing.
pub enum Hook<'a, T> {
    Ready(T),
    Pending(Pin<Box<dyn Future<Output = T> + 'a>>),
}

/// What a policy decided on the way in.
pub enum Flow<T> {
    Go(T),
    /// Answered here; no back end is asked.
    Reply(Response),
}

/// One policy, compiled for a route.
pub trait Policy: Send + Sync {
    /// Its configuration key.
    fn name(&self) -> &'static str;

    /// On the way in; `Err` refuses.
    fn enter<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>>;

    /// Its response side runs even if a policy before it refused.
    fn always_leaves(&self) -> bool {
        false
    }

    /// On the way out, if it was entered.
    fn leave(&self, exchange: &Exchange, response: &mut Response, ports: &dyn Ports) {
        let _ = (exchange, response, ports);
    }
}

/// Proof that every policy of a route admitted the exchange. Only `Chain::admit` makes one.
pub struct Permit(());

/// A route's policies in the registry's order.
#[derive(Default)]
pub struct Chain {
    policies: Box<[Box<dyn Policy>]>,
}

impl Chain {
    /// `policies` must come in the registry's order; the policies crate sees to it.
    pub fn new(policies: Vec<Box<dyn Policy>>) -> Chain {
        Chain { policies: policies.into() }
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.policies.iter().map(|policy| policy.name())
    }

    /// The first refusal wins.
    pub async fn admit(&self, exchange: &mut Exchange, ports: &dyn Ports) -> Result<Flow<Permit>, Fault> {
        for policy in &self.policies {
            exchange.entered += 1;
            let flow = match policy.enter(exchange, ports) {
                Hook::Ready(flow) => flow,
                Hook::Pending(later) => later.await,
            };
            match flow? {
                Flow::Go(()) => {}
                Flow::Reply(response) => return Ok(Flow::Reply(response)),
            }
        }
        Ok(Flow::Go(Permit(())))
    }

    /// The response side of those that were entered, the last first.
    pub fn leave(&self, exchange: &Exchange, response: &mut Response, ports: &dyn Ports) {
        for (index, policy) in self.policies.iter().enumerate().rev() {
            if index < exchange.entered as usize || policy.always_leaves() {
                policy.leave(exchange, response, ports);
            }
        }
    }
}
