//! Processes of functions: started by one thread that lives as long as the gateway, each in a session of its own, with nothing of the
//! gateway's in its environment or among its descriptors, and ended with all that it started.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Program and arguments; the program's path is absolute.
    pub command: Vec<OsString>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    pub directory: PathBuf,
    /// User and group, where it is to be another than the gateway.
    pub user: Option<(u32, u32)>,
}

/// The thread that starts processes. One and the same for all: a parent-death signal goes by the thread that forked.
#[derive(Debug, Default)]
pub struct Spawner;

/// A process, and all that it may have started: its session is its own.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    /// Read ends of its pipes, non-blocking.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Spawner {
    pub async fn spawn(&self, launch: Launch) -> io::Result<Process> {
        let _ = launch;
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Process {
    /// SIGTERM to all of it.
    pub fn terminate(&self) {}

    /// SIGKILL to all of it.
    pub fn kill(&self) {}

    /// When it ended, with what; its descendants are killed first, and it is reaped.
    pub async fn ended(&mut self) -> Exit {
        Exit::Code(0)
    }

    /// Whether the peer of a connection on loopback, which ends at `local`, is this process or one that it started.
    pub fn owns(&self, peer: std::net::SocketAddr, local: std::net::SocketAddr) -> bool {
        let _ = (peer, local);
        false
    }
}
