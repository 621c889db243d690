//! A process that takes the place of a gateway, and a client that notices nothing. Both are ended here at the latest, by their ids.

use super::{Maitred, PATIENCE};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Two workers, one route, and an admin listener, wherever there is room.
pub const HELLO: &str = "
workers: 2
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
apis:
  hello:
    routes:
      - match: GET /
        respond: { text: first }
telemetry: { access_log: none }
";

/// What is wrong with it is said by a word: `routez`.
pub const BAD: &str = "listen: 127.0.0.1:0\napis:\n  hello:\n    routez: []\n";

/// A process that a gateway started in its place. Ended at the latest when this is dropped.
pub struct Heir(pub i32);

impl Heir {
    /// Orphans become children of this process, so that their ids stay theirs until somebody here has waited for them.
    pub fn adopt() {
        // SAFETY: numbers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: two numbers. The process was not waited for: the gateway that started it does not, and this does it last.
        assert_eq!(unsafe { libc::kill(self.0, signal) }, 0);
    }

    pub fn program(&self) -> String {
        std::fs::read_link(format!("/proc/{}/exe", self.0)).unwrap().display().to_string()
    }

    /// Waits for its end, which is its own doing. The one that started it must have ended.
    #[track_caller]
    pub fn end(self) -> i32 {
        let status = wait_for_end(self.0);
        std::mem::forget(self);
        status
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        // SAFETY: as in `signal`.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
    }
}

/// The exit code of a child.
#[track_caller]
pub fn wait_for_end(pid: i32) -> i32 {
    // SAFETY: two numbers; the descriptor that is returned is new, and ours.
    let process = unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        assert!(descriptor >= 0, "there is no process {pid}");
        OwnedFd::from_raw_fd(descriptor)
    };
    let mut ended = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which is ours.
    assert_eq!(unsafe { libc::poll(&raw mut ended, 1, PATIENCE.as_millis() as i32) }, 1, "process {pid} does not end");
    let mut status = 0;
    // SAFETY: a number that is ours to write to.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "process {pid} is no child of this one");
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }
}

pub fn is_running(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[track_caller]
pub fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// The process that answers from now on.
#[track_caller]
pub fn upgrade(gateway: &Maitred) -> Heir {
    let answer = gateway.admin("POST", "/upgrade");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let heir = Heir(body(&answer)["pid"].as_i64().unwrap() as i32);
    assert_eq!(serving(gateway), heir.0, "the new process has the admin listener");
    heir
}

pub fn serving(gateway: &Maitred) -> i32 {
    gateway.admin_json("/status")["pid"].as_i64().unwrap() as i32
}

/// A connection that is kept, and what was read of it too early.
pub struct Kept(BufReader<TcpStream>);

impl Kept {
    pub fn open(address: SocketAddr) -> Result<Kept, String> {
        let stream = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Ok(Kept(BufReader::new(stream)))
    }

    /// One request. Whether another one may follow.
    pub fn round(&mut self, path: &str, extra: &str, wanted: &str) -> Result<bool, String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{extra}\r\n");
        self.0.get_mut().write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
        let (mut length, mut stays, mut first) = (0, true, String::new());
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Ok(0) => return Err(format!("{path}: it ended without an answer, after {first:?}")),
                Ok(_) => {}
                Err(error) => return Err(format!("{path}: read: {error}")),
            }
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                _ if line.is_empty() => break,
                Some(("content-length", number)) => length = number.parse().unwrap(),
                Some(("connection", value)) => stays = value != "close",
                Some(_) => {}
                None => first = line,
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).map_err(|error| format!("{path}: body: {error}"))?;
        let body = String::from_utf8_lossy(&body);
        if !first.starts_with("http/1.1 200") || body != wanted {
            return Err(format!("{path}: {first} {body}"));
        }
        Ok(stays)
    }
}
