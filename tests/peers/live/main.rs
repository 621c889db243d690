//! The gateway's binary between implementations that share no code with it: Node's HTTP/2, Python's h2 and httpx, curl, nghttp2,
//! nginx, haproxy, grpcio, websockets, botocore. Each is a client or a back end as its users know it, and complains by itself.
//!
//! `tests/peers/setup` installs the Python packages, `./test` the rest. Where a tool is missing the test says so and passes, but never
//! in CI.

mod grpc;
mod http2;
mod lambda;
mod process;
mod websocket;
mod websocket_functions;
