//! One request in, exactly one response out. Start reading here.

use crate::door;
use crate::snapshot::Route;
use crate::told;
use crate::world::World;
use maitred_core::wire::parse_timeout;
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
        world.chain(*route).leave(exchange, &mut response, world.ports());
    }
    door::announce_h3(exchange, &mut response);
    response
}

async fn respond(world: &Rc<World>, exchange: &mut Exchange) -> Result<Response, Fault> {
    if let Some(response) = door::answer(world, exchange)? {
        return Ok(response); // a redirect to https
    }
    told::strip(&world.snapshot, exchange); // what only the gateway says of who makes a request
    let route = choose(world, exchange)?; // host + base path → API, then path, method, conditions → route
    match route.chain.admit(exchange, &*world.reach).await? {
        Flow::Reply(response) => Ok(response), // a preflight
        Flow::Go(permit) => route.integration.invoke(exchange, permit, &world.reach).await,
    }
}

fn choose<'w>(world: &'w Rc<World>, exchange: &mut Exchange) -> Result<&'w Route, Fault> {
    let index = world.snapshot.choose(exchange)?;
    let route = &world.snapshot.routes[index as usize];
    exchange.hold = Hold::World(world.clone(), index);
    exchange.deadline = route.timeout.map(|timeout| exchange.record.started + timeout);
    if exchange.is_grpc() {
        heed_deadline(exchange);
    }
    Ok(route)
}

/// A gRPC client says how long it waits for the whole of its call; the header itself goes on to the back end.
fn heed_deadline(exchange: &mut Exchange) {
    let timeout = exchange.request.headers.get(b"grpc-timeout").and_then(parse_timeout);
    exchange.lifetime = timeout.and_then(|timeout| exchange.record.started.checked_add(timeout));
    exchange.deadline = exchange.deadline.into_iter().chain(exchange.lifetime).min();
}
