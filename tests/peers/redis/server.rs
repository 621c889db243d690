//! Debian's redis-server as a process of the test's own, on a port that was free, and a client of few words for it. None but what was
//! started here is ever stopped.

use maitred_testkit::{Folder, PATIENCE, eventually};
use maitred_wire::{Reply, resp_command};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Starting with a port that somebody else took meanwhile.
const TRIES: usize = 5;

/// Whether there is one to be had; if not, says so, and fails in CI.
pub fn is_there() -> bool {
    let mut command = Command::new("redis-server");
    let there = command.arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !there {
        assert!(std::env::var_os("CI").is_none(), "redis-server is missing; CI runs with it");
        println!("NOTE: redis-server is missing, so nothing is tried with it");
    }
    there
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

pub struct Server {
    pub port: u16,
    folder: Folder,
    arguments: Vec<String>,
    child: Child,
}

impl Server {
    /// With these arguments besides; `$port2` in them is another free port, `$folder` its folder.
    pub fn start(arguments: &[&str]) -> Server {
        let folder = Folder::new();
        Server::start_in(folder, arguments)
    }

    pub fn start_in(folder: Folder, arguments: &[&str]) -> Server {
        for _ in 0..TRIES {
            let (port, second) = (free_port(), free_port().to_string());
            let path = folder.path(".").display().to_string();
            let arguments: Vec<String> =
                arguments.iter().map(|word| word.replace("$port2", &second).replace("$folder", &path)).collect();
            let child = spawn(port, &folder, &arguments);
            let mut server = Server { port, folder: Folder::new(), arguments, child };
            if server.answers() {
                server.folder = folder;
                return server;
            }
        }
        panic!("redis-server does not start with {arguments:?}");
    }

    /// Whether it answers before it ends.
    fn answers(&mut self) -> bool {
        let mut is_there = false;
        eventually("redis-server answers, or ends", || {
            is_there = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            is_there || self.child.try_wait().expect("our own child").is_some()
        });
        is_there && self.child.try_wait().expect("our own child").is_none()
    }

    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(done.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// At once, without a word.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Again at the same port, with nothing in it.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.arguments);
        eventually("redis-server answers again", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// One command in words.
    #[track_caller]
    pub fn say(&self, words: &str) -> Reply {
        Teller::connect(self.port).say(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }
}

fn spawn(port: u16, folder: &Folder, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    if let Some(first) = arguments.first().filter(|first| first.ends_with(".conf")) {
        command.arg(first);
    }
    // Nothing is written to a disk, and nothing but what is asked for is opened.
    let port = port.to_string();
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]);
    command.args(["--logfile", "redis.log"]);
    command.args(arguments.iter().filter(|word| !word.ends_with(".conf"))).current_dir(folder.path("."));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("redis-server starts")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection, one command at a time.
pub struct Teller {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Teller {
    #[track_caller]
    pub fn connect(port: u16) -> Teller {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Teller { stream, input: Vec::new() }
    }

    #[track_caller]
    pub fn say(&mut self, parts: &[&[u8]]) -> Reply {
        let mut command = Vec::new();
        resp_command(&mut command, parts);
        self.stream.write_all(&command).expect("it is sent");
        loop {
            if let Some((reply, count)) = Reply::read(&self.input).expect("a reply") {
                self.input.drain(..count);
                return reply;
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).expect("an answer in time");
            assert!(count > 0, "it was closed");
            self.input.extend_from_slice(&bytes[..count]);
        }
    }
}

/// Three servers that share the slots.
pub fn cluster() -> Vec<Server> {
    const ARGUMENTS: [&str; 6] = ["--cluster-enabled", "yes", "--cluster-port", "$port2", "--cluster-node-timeout", "500"];
    let servers: Vec<Server> = (0..3).map(|_| Server::start(&ARGUMENTS)).collect();
    let bus = |server: &Server| server.arguments[3].clone();
    for (index, server) in servers.iter().enumerate() {
        let (first, last) = (index * 16384 / 3, (index + 1) * 16384 / 3 - 1);
        assert_eq!(server.say(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")), Reply::Text(b"OK".into()));
        assert_eq!(server.say(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1)), Reply::Text(b"OK".into()));
        let other = &servers[(index + 1) % 3];
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", other.port, bus(other));
        assert_eq!(server.say(&meet), Reply::Text(b"OK".into()));
    }
    let agrees = |server: &Server| match server.say("CLUSTER INFO") {
        Reply::Text(text) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            text.contains("cluster_state:ok") && text.contains("cluster_known_nodes:3") && text.contains("slots_ok:16384")
        }
        _ => false,
    };
    eventually("the cluster agrees", || servers.iter().all(agrees));
    servers
}

/// How long a sentinel waits before it calls a server down.
pub const DOWN_AFTER: Duration = Duration::from_millis(400);

/// A sentinel that watches `master` by the name `counts`.
pub fn sentinel(master: &Server) -> Server {
    let folder = Folder::new();
    let text = format!(
        "sentinel monitor counts 127.0.0.1 {} 1
sentinel down-after-milliseconds counts {}
sentinel failover-timeout counts 2000
",
        master.port,
        DOWN_AFTER.as_millis()
    );
    std::fs::write(folder.path("sentinel.conf"), text).expect("a writable folder");
    let conf = folder.path("sentinel.conf").display().to_string();
    Server::start_in(folder, &[&conf, "--sentinel"])
}
