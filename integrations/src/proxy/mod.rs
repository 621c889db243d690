//! Asks an upstream. What is sent is written anew in `forward`; how often, and to whom, is decided in `attempt`.

pub(crate) mod attempt;
mod forward;
mod hedge;
pub mod mirror;
mod replay;
mod retry;

use crate::Reach;
use maitred_core::queue::LANES;
use maitred_core::render::Text;
use maitred_core::{Exchange, Fault, Kind, Permit, Response};
use maitred_model::Priority;
use maitred_wire::Name;
use mirror::Mirror;
use std::rc::Rc;

/// A request that has passed so many gateways of this kind goes round in a circle; chains of them are shorter.
const PASSES_MAX: usize = 8;

/// Via tells (RFC 9110 §7.6.3); a request without it, as nearly all are, costs nothing.
pub(crate) fn refuse_loops(exchange: &Exchange) -> Result<(), Fault> {
    if !exchange.request.headers.has(Name::Via) {
        return Ok(());
    }
    let hops = exchange.request.headers.all_known(Name::Via).flat_map(|value| value.split(|&byte| byte == b','));
    let passes = hops.filter(|hop| hop.trim_ascii().ends_with(b" maitred")).count();
    if passes >= PASSES_MAX {
        return Err(Fault::new(Kind::LoopDetected, format!("Via names this gateway {passes} times")));
    }
    Ok(())
}

pub struct Proxy {
    /// Index in `Reach::upstreams`.
    pub upstream: u32,
    pub rewrite: Option<Box<Text>>,
    pub mirror: Option<Box<Mirror>>,
    /// Whether repeating a request is harmless, whatever its method says.
    pub idempotent: Option<bool>,
    /// Whose turn it is first where requests wait.
    pub priority: Option<Priority>,
}

impl Proxy {
    pub async fn invoke(&self, exchange: &mut Exchange, _permit: Permit, reach: &Rc<Reach>) -> Result<Response, Fault> {
        refuse_loops(exchange)?;
        if let Some(rewrite) = &self.rewrite {
            let mut target = std::mem::take(&mut exchange.target);
            let rendered = rewrite.path(exchange, &mut target);
            exchange.target = target;
            rendered?;
        }
        if let Some(mirror) = &self.mirror {
            mirror.copy(exchange, reach);
        }
        let upstream = &reach.upstreams[self.upstream as usize];
        if !upstream.is_guarded {
            return attempt::plain(exchange, upstream, reach).await;
        }
        let place = upstream.admit(exchange, |exchange| self.priority(exchange)).await?; // waits, where it is busy
        attempt::guarded(exchange, upstream, reach, self.idempotent, place).await
    }

    /// The higher of the route's and the plan's.
    fn priority(&self, exchange: &Exchange) -> u8 {
        let own = match &self.priority {
            None => 0,
            Some(Priority::Fixed(priority)) => *priority,
            // Anybody may say that he is important.
            Some(Priority::Header(_)) if !exchange.forwarded.trusted => 0,
            Some(Priority::Header(name)) => {
                let value = exchange.request.headers.get(name.as_str().as_bytes()).unwrap_or_default();
                let priority = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
                priority.filter(|priority| usize::from(*priority) < LANES).unwrap_or(0)
            }
        };
        own.max(exchange.priority)
    }
}
