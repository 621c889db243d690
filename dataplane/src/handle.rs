//! One request in, exactly one response out. Start reading here.

use crate::snapshot::Route;
use crate::world::World;
use maitred_core::{Exchange, Fault, Flow, Hold, Response};
use std::rc::Rc;

pub(crate) async fn handle(world: &Rc<World>, exchange: &mut Exchange) -> Response {
    let answered = respond(world, exchange).await;
    answer(exchange, answered) // logged and metered when its body ends: `service.rs`
}

/// The only place where a fault becomes HTTP, and where the response side of what was entered runs.
pub(crate) fn answer(exchange: &mut Exchange, answered: Result<Response, Fault>) -> Response {
    let mut response = answered.unwrap_or_else(|fault| fault.render(exchange));
    if let Hold::World(world, route) = &exchange.hold {
        world.chain(*route).leave(exchange, &mut response);
    }
    response
}

async fn respond(world: &Rc<World>, exchange: &mut Exchange) -> Result<Response, Fault> {
    let route = choose(world, exchange)?; // host + base path → API, then path, method, conditions → route
    match route.chain.admit(exchange).await? {
        Flow::Reply(response) => Ok(response), // a preflight
        Flow::Go(permit) => route.integration.invoke(exchange, permit, &world.reach).await,
    }
}

fn choose<'w>(world: &'w Rc<World>, exchange: &mut Exchange) -> Result<&'w Route, Fault> {
    let index = world.snapshot.choose(exchange)?;
    let route = &world.snapshot.routes[index as usize];
    exchange.hold = Hold::World(world.clone(), index);
    exchange.deadline = route.timeout.map(|timeout| exchange.record.started + timeout);
    Ok(route)
}
