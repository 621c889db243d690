//! Journeys: a real gateway, real sockets, scripted back ends, a clock turned by hand. Each test is a sentence about what a client
//! or a back end sees.

mod acme;
mod balancing;
mod breakers;
mod breaking;
mod checks;
mod connections;
mod drain;
mod faults;
mod forwarding;
mod grpc;
mod h2;
mod h2_bodies;
mod h2_ends;
mod h2_floods;
mod h2_frames;
mod h2_messages;
mod h2_spec;
mod h2_upstream;
mod h2_upstream_faults;
mod h2_upstream_rules;
mod h2_upstream_spec;
mod health;
mod hedging;
#[cfg(feature = "http3")]
mod http3;
mod interim;
mod limits;
mod maintenance;
mod mirror;
mod picks;
mod policies;
mod proxy_protocol;
mod reload;
mod retries;
mod routing;
mod services;
mod strictness;
mod symptoms;
mod tls;
mod tls_clients;
mod tls_doors;
mod tls_upstream;
mod unix;
mod websocket_h2;
mod worked;
