//! Where there is no Linux: the gateway builds, and hosts no functions. What keeps them from the gateway and from each other is Linux's.

use super::{Exit, Launch};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Starts nothing.
#[derive(Debug)]
pub struct Spawner;

/// There is none.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    none: Infallible,
}

impl Spawner {
    pub fn new() -> io::Result<Spawner> {
        Ok(Spawner)
    }

    pub fn hiding(_: Vec<PathBuf>, _: Option<PathBuf>) -> io::Result<Spawner> {
        Ok(Spawner)
    }

    pub async fn spawn(&self, _: Launch) -> io::Result<Process> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "functions run on Linux alone"))
    }
}

impl Process {
    pub fn terminate(&self) {
        match self.none {}
    }

    pub fn kill(&self) {
        match self.none {}
    }

    pub fn stop(&self) {
        match self.none {}
    }

    pub async fn ended(&mut self) -> Exit {
        match self.none {}
    }

    pub fn owns(&self, _: SocketAddr, _: SocketAddr) -> bool {
        match self.none {}
    }
}
