//! Journeys: a real gateway, real sockets, scripted back ends, a clock turned by hand. Each test is a sentence about what a client
//! or a back end sees.

mod balancing;
mod connections;
mod drain;
mod faults;
mod forwarding;
mod interim;
mod limits;
mod policies;
mod reload;
mod routing;
mod strictness;
mod symptoms;
