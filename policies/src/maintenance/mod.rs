//! Refuses everyone for now, and says when to come again. Stands where the configuration says so and nowhere else: a route without it has
//! no such policy. It is no lock: what was let in before goes on.

use maitred_core::{Exchange, Fault, Flow, Hook, Kind, Policy, Ports};
use std::time::Duration;

pub const NAME: &str = "maintenance";

pub struct Maintenance {
    retry_after: Duration,
}

impl Maintenance {
    pub fn compile(configured: &maitred_model::Maintenance) -> Option<Maintenance> {
        configured.on.then_some(Maintenance { retry_after: configured.retry_after })
    }
}

impl Policy for Maintenance {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enter<'a>(&'a self, _: &'a mut Exchange, _: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        let fault = Fault::new(Kind::Maintenance, "`maintenance` is on for this route");
        Hook::Ready(Err(Fault { retry_after: Some(self.retry_after), ..fault }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_is_not_closed_has_no_such_policy() {
        let configured = |on| maitred_model::Maintenance { on, retry_after: Duration::from_secs(60) };
        assert!(Maintenance::compile(&configured(false)).is_none());
        assert!(Maintenance::compile(&configured(true)).is_some());
    }
}
