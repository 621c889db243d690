//! Refuses bodies larger than `body_bytes`: by their declared length at once, a chunked one when it grows over it. It is a
//! limit and not a buffer: nothing is held.

use maitred_core::{Body, Exchange, Fault, Flow, Hook, Kind, Policy, Ports};
use maitred_wire::Framing;

pub const NAME: &str = "body_bytes";

pub struct BodyBytes {
    most: u64,
}

impl BodyBytes {
    pub fn compile(most: u64) -> BodyBytes {
        BodyBytes { most }
    }
}

impl Policy for BodyBytes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        let verdict = match exchange.request.framing {
            Framing::Length(length) if length > self.most => {
                Err(Fault::new(Kind::BodyTooLarge, format!("{length} bytes are declared, body_bytes is {}", self.most)))
            }
            Framing::Chunked => {
                if let Body::Stream(stream) = &exchange.body {
                    stream.limit(self.most);
                }
                Ok(Flow::Go(()))
            }
            Framing::None | Framing::Length(_) | Framing::Close => Ok(Flow::Go(())),
        };
        Hook::Ready(verdict)
    }
}
