//! The host's thread, and the way to it.

use crate::code::NotReady;
use crate::pool::Pool;
use maitred_model::Function;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a host is run.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Where copies of code are kept, unless whoever runs functions could not reach it there.
    pub folder: PathBuf,
    /// Where the Invoke API and the management API of connections are spoken for functions to use, if anywhere.
    pub endpoint: Option<SocketAddr>,
    /// What functions are told that they run in: AWS_REGION of the gateway, or `us-east-1`.
    pub region: String,
}

/// The thread that hosts functions. Ends with `stop`, or when it is dropped; every process of its functions ends with it.
#[derive(Debug)]
pub struct Host {
    options: HostOptions,
}

impl Host {
    /// Starts nothing before there is a function to host.
    pub fn new(options: HostOptions) -> Host {
        Host { options }
    }

    pub fn options(&self) -> &HostOptions {
        &self.options
    }

    /// Makes code ready and gives the pool for it: the one that there is, where name, code and all else that it is made of are the same.
    /// Blocks: for control threads. `function.place` is hosted.
    pub fn pool(&self, name: &str, function: &Function) -> Result<Arc<Pool>, NotReady> {
        let _ = (name, function);
        Err(NotReady { span: maitred_model::Span::none(), message: "functions cannot be hosted yet".into(), hint: String::new() })
    }

    /// Waits for what is under way, no longer than that, and ends all processes.
    pub fn stop(&self, patience: Duration) {
        let _ = patience;
    }
}
