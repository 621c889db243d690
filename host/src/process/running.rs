//! One process as whoever started it sees it.

use super::Exit;
use super::family::{Family, Processes};
use super::peer;
pub use super::spawner::Spawner;
use super::spawner::{Child, Started};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// A port of the Runtime API is open to everybody: whoever calls there for nothing must not keep the host's thread reading /proc.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A process, and all that it may have started: its session is its own. Killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    /// Read ends of its pipes, non-blocking.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Readable when it has ended.
    child: AsyncFd<Child>,
    /// Asked for, and perhaps not yet taken: whoever awaits the end may stop and ask again.
    exit: Option<oneshot::Receiver<Exit>>,
    ended: Option<Exit>,
    family: Family,
    /// When all that runs was last looked through for nothing.
    pub(super) stranger_came: Cell<Option<Instant>>,
}

impl Process {
    /// Of a process that this runtime is to watch from here on.
    pub(super) fn watched(started: Started) -> io::Result<Process> {
        let Started { child, stdout, stderr, family } = started;
        let pid = child.pid();
        // SAFETY: a child has the one descriptor, which it opened, from its start until it is dropped.
        let child = unsafe { AsyncFd::register_with_interest(child, Interest::READABLE)? };
        Ok(Process { pid, stdout, stderr, child, exit: None, ended: None, family, stranger_came: Cell::default() })
    }

    /// SIGTERM to all of it.
    pub fn terminate(&self) {
        self.child.get_ref().signal(libc::SIGTERM);
    }

    /// SIGKILL to all of it.
    pub fn kill(&self) {
        self.child.get_ref().signal(libc::SIGKILL);
    }

    /// SIGSTOP to it alone: it does nothing more, and those that it started go on.
    pub fn stop(&self) {
        self.child.get_ref().stop();
    }

    /// When it ended, with what; what it started is killed, and it is reaped. Who stops waiting may ask again.
    pub async fn ended(&mut self) -> Exit {
        if let Some(exit) = self.ended {
            return exit;
        }
        if self.exit.is_none() {
            // An error means that the runtime shuts down; then the process is to end as well, and the spawner waits for it.
            if self.child.readable().await.is_err() {
                self.kill();
            }
            self.exit = self.child.get_mut().reap();
        }
        let exit = match &mut self.exit {
            Some(exit) => exit.await.ok(),
            None => None,
        };
        // The spawner ends all that runs when it stops, and says no more.
        let exit = exit.unwrap_or(Exit::Signal(libc::SIGKILL));
        self.ended = Some(exit);
        exit
    }

    /// Whether the peer of a connection on loopback, which ends at `local`, is this process, of its session or group, or descends
    /// from it. Tens of microseconds where it is the process itself; milliseconds where it has left its parent or is none of them, which is
    /// looked into seldom once a stranger came.
    pub fn owns(&self, peer: SocketAddr, local: SocketAddr) -> bool {
        let Some(peer) = peer::of(peer, local).filter(|peer| self.family.may_be(peer.user)) else { return false };
        if self.ended.is_some() {
            return false;
        }
        let has_open = |pid: u32| peer::has_open(pid, peer.inode);
        if has_open(self.pid) || peer::descendants(self.pid).into_iter().any(has_open) {
            return true;
        }
        if self.stranger_came.get().is_some_and(|came| came.elapsed() < LOOK_AGAIN) {
            return false;
        }
        let is_own = self.family.kin(&Processes::read()).into_iter().any(has_open);
        self.stranger_came.set(Some(Instant::now()).filter(|_| !is_own));
        is_own
    }
}
