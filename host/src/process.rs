//! Processes of functions: started by one thread that lives as long as the gateway, each in a session of its own, with nothing of the
//! gateway's in its environment or among its descriptors, and ended with all that it started. Knows nothing of what they say or are told.
//!
//! On Linux alone: elsewhere nothing is started.

#[cfg(target_os = "linux")]
mod family;
#[cfg(target_os = "linux")]
mod peer;
#[cfg(target_os = "linux")]
mod running;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod setup;
#[cfg(target_os = "linux")]
mod spawner;
#[cfg(all(test, target_os = "linux"))]
mod tests;

#[cfg(not(target_os = "linux"))]
#[path = "process/elsewhere.rs"]
mod running;

pub use running::{Process, Spawner};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// A variable that every process of functions has, and no two have alike: those that it leaves behind are known by it.
pub(crate) const MARK: &str = "AWS_LAMBDA_LOG_STREAM_NAME";

/// What is to be started.
#[derive(Clone)]
pub struct Launch {
    /// Program and arguments; the program's path is absolute.
    pub command: Vec<OsString>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    pub directory: PathBuf,
    /// User and group, where it is to be another than the gateway.
    pub user: Option<(u32, u32)>,
    /// Bytes that it may have in memory with all that it started; above them it is killed.
    pub memory: Option<u64>,
}

/// Values of variables are secrets as often as not.
impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Launch { command, environment, directory, user, memory } = self;
        let names: Vec<_> = environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("Launch")
            .field("command", command)
            .field("environment", &names)
            .field("directory", directory)
            .field("user", user)
            .field("memory", memory)
            .finish()
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It was killed because it took more memory than it may: bytes that it had with all that it started, and the most.
    Memory {
        had: u64,
        most: u64,
    },
}
