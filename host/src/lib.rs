//! Lambda functions that run here: processes that speak the Lambda Runtime API (2018-06-01) to a port of their own each, and the pools
//! that they wait in. One thread runs all of it; workers hand it invocations and take results. Knows no HTTP of clients, no routes, no AWS.

mod answer;
mod api;
mod code;
mod fuzz;
mod hint;
mod host;
mod log;
mod pool;
mod process;

pub use answer::{Answer, NotRun, Piece, Streamed};
pub use code::{Code, NotReady, check, interpreter_of};
pub use fuzz::fuzz_runtime_api;
pub use host::{FunctionKey, Host, HostOptions};
pub use log::{LOG_TARGET, LogLine, LogSource};
pub use pool::{Figures, InstanceView, Pool, PoolView};

#[cfg(all(test, target_os = "linux"))]
mod tests;
