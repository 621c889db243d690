//! A Redis server of the benchmark's own: on loopback, without a file, ended by its id. What is counted there is not known here.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::{self, Ending, Running};
use crate::sys;

pub const PROGRAM: &str = "redis-server";
/// How long it may take to its first answer, and one answer.
const READY: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(1);

pub struct Redis {
    pub port: u16,
    folder: PathBuf,
    running: Option<Running>,
}

impl Redis {
    pub fn start(folder: &Path) -> io::Result<Redis> {
        fs::create_dir_all(folder)?;
        let [port] = sys::free_ports()?;
        let mut redis = Redis { port, folder: folder.to_path_buf(), running: None };
        redis.begin()?;
        Ok(redis)
    }

    /// At the same port, and with nothing of what it counted before.
    pub fn begin(&mut self) -> io::Result<()> {
        let mut command = Command::new(PROGRAM);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendonly", "no"]);
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running::start(command, Ending::Kill, None)?;
        let ready = process::until(READY, || match running.ended() {
            true => Some(Err(io::Error::other("redis-server ended"))),
            false => self.answers().then_some(Ok(())),
        });
        ready.unwrap_or_else(|| Err(io::Error::other("redis-server does not answer")))?;
        self.running = Some(running);
        Ok(())
    }

    fn answers(&self) -> bool {
        let ask = || -> io::Result<bool> {
            let mut stream = sys::connect_from(Ipv4Addr::LOCALHOST, sys::loopback(self.port))?;
            stream.set_read_timeout(Some(ANSWER))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+PONG\r\n")
        };
        ask().unwrap_or(false)
    }

    /// By `kill -9`; it is gone when this comes back.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// It keeps its connections, and answers nothing until it is told to go on.
    pub fn stop(&self) -> io::Result<()> {
        self.signal(libc::SIGSTOP);
        let stopped = || self.running.as_ref().is_some_and(|running| process::is_stopped(running.pid())).then_some(());
        process::until(ANSWER, stopped).ok_or_else(|| io::Error::other("redis-server does not stop"))
    }

    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        if let Some(running) = &self.running {
            running.signal(signal);
        }
    }
}
