//! Journeys: a real gateway, real sockets, scripted back ends, a clock turned by hand. Each test is a sentence about what a client
//! or a back end sees.

mod connections;
mod faults;
mod forwarding;
mod interim;
