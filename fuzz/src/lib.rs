//! What must hold for any bytes: one plain function for each parser, which panics where it does not. Chooses no inputs: the corpus,
//! `tests/replay.rs` and cargo-fuzz do.

mod aws;
mod chunks;
mod credentials;
mod event_stream;
mod functions;
mod grpc;
mod h2;
mod h3;
mod heads;
mod hpack;
mod identity;
mod limits;
mod paths;
mod proxy;
mod redis;
mod routes;
mod signatures;
mod tokens;
mod websocket;

pub use aws::{aws_answer, aws_profiles};
pub use chunks::{chunked, trailers};
pub use credentials::{basic, htpasswd};
pub use event_stream::event_stream;
pub use functions::{function_event, function_prelude, function_result};
pub use grpc::grpc;
pub use h2::{h2_frames, request_h2, response_h2};
pub use h3::{h3_frames, request_h3};
pub use heads::{request_head, response_head};
pub use hpack::hpack;
pub use identity::{authorizer_result, introspection};
pub use limits::limit_cost;
pub use paths::{host, path};
pub use proxy::proxy_protocol;
pub use redis::{redis_url, resp};
pub use routes::router;
pub use signatures::{aws_authorization, signature_base, structured};
pub use tokens::{jwks, jwt};
pub use websocket::{websocket, websocket_messages};

/// The configuration language: any bytes load or are complained about.
pub fn config(data: &[u8]) {
    maitred_model::fuzz_load(data);
}

/// What processes of functions say to the Runtime API, and write.
pub fn runtime_api(data: &[u8]) {
    maitred_host::fuzz_runtime_api(data);
}

/// One target and the name of its corpus folder.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 37] = [
    ("request_head", request_head),
    ("response_head", response_head),
    ("request_h2", request_h2),
    ("response_h2", response_h2),
    ("h2_frames", h2_frames),
    ("hpack", hpack),
    ("request_h3", request_h3),
    ("h3_frames", h3_frames),
    ("chunked", chunked),
    ("trailers", trailers),
    ("event_stream", event_stream),
    ("aws_profiles", aws_profiles),
    ("aws_answer", aws_answer),
    ("path", path),
    ("host", host),
    ("proxy_protocol", proxy_protocol),
    ("resp", resp),
    ("redis_url", redis_url),
    ("grpc", grpc),
    ("websocket", websocket),
    ("websocket_messages", websocket_messages),
    ("structured", structured),
    ("signature_base", signature_base),
    ("aws_authorization", aws_authorization),
    ("introspection", introspection),
    ("authorizer_result", authorizer_result),
    ("function_event", function_event),
    ("function_result", function_result),
    ("function_prelude", function_prelude),
    ("limit_cost", limit_cost),
    ("config", config),
    ("router", router),
    ("runtime_api", runtime_api),
    ("basic", basic),
    ("htpasswd", htpasswd),
    ("jwt", jwt),
    ("jwks", jwks),
];

/// Where to cut an input: everywhere while that is cheap, else at places spread over it that its length decides.
pub(crate) fn cuts(length: usize) -> impl Iterator<Item = usize> {
    const CUTS_MAX: usize = 300; // every cut parses the whole prefix again
    let step = length / CUTS_MAX + 1;
    (0..length).step_by(step)
}
