//! Processes that a test runs: the gateway's binary, scripts, nginx and haproxy. Each ends at the latest when it is dropped; none but
//! those that were started here is ever ended.

use maitred_testkit::{Authority, Folder, PATIENCE};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// For a client's whole list: it hangs if it takes longer.
const CLIENT_SECONDS_MAX: Duration = Duration::from_secs(90);

pub struct Process {
    child: Child,
    /// A script ends when this does, even where nobody could end it.
    _stdin: Option<ChildStdin>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that a tool is missing: a note at home, a failure in CI.
fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what} is missing; CI runs with it");
    println!("NOTE: {what} is missing, so nothing is tried with it");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program that answers to this argument.
pub fn tool(name: &str, argument: &str) -> Option<PathBuf> {
    let works = |program: &PathBuf| {
        let mut command = Command::new(program);
        command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = [PathBuf::from("/usr/sbin").join(name), PathBuf::from(name)].into_iter().find(works);
    if found.is_none() {
        missing(name);
    }
    found
}

/// Python, if it has these modules.
pub fn python(modules: &str) -> Option<PathBuf> {
    let own = root().join("target/peers/bin/python");
    let python = if own.exists() { own } else { PathBuf::from("python3") };
    let mut command = Command::new(&python);
    command.args(["-c", &format!("import {modules}")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.status().is_ok_and(|status| status.success()) {
        return Some(python);
    }
    missing(&format!("Python's {modules} (tests/peers/setup installs them)"));
    None
}

fn script(name: &str) -> PathBuf {
    root().join("tests/peers/live").join(name)
}

/// A script that says where it listens in a line of JSON, and does so until its input ends.
pub fn serve(program: &Path, name: &str, arguments: &[&str]) -> (Process, serde_json::Value) {
    let mut command = Command::new(program);
    command.arg(script(name)).arg("server").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the script starts");
    let stdin = child.stdin.take();
    let stdout = child.stdout.take().expect("piped");
    let process = Process { child, _stdin: stdin };
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let ports = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name} said {line:?}: {error}"));
    (process, ports)
}

/// A client, to its end, which must be a good one.
#[track_caller]
pub fn succeeds(program: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut stderr = child.stderr.take().expect("piped");
    let hearing = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        text
    });
    let mut stdout = child.stdout.take().expect("piped");
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stdout.read_to_end(&mut text);
        text
    });
    let mut process = Process { child, _stdin: None };
    let deadline = Instant::now() + CLIENT_SECONDS_MAX;
    let status = loop {
        if let Some(status) = process.child.try_wait().expect("our own child") {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(process);
    let text =
        |thread: std::thread::JoinHandle<Vec<u8>>| String::from_utf8_lossy(&thread.join().expect("it only reads")).into_owned();
    let (stdout, stderr) = (text(reading), text(hearing));
    let good = status.is_some_and(|status| status.success());
    assert!(good, "{} {arguments:?}: {status:?}\n{stdout}\n{stderr}", program.display());
    stdout
}

/// A script as a client.
#[track_caller]
pub fn ask(program: &Path, name: &str, arguments: &[&str]) {
    let script = script(name);
    succeeds(program, &[&[script.to_str().expect("UTF-8"), "client"], arguments].concat());
}

/// A gateway that runs, over TCP with and without TLS, and on a socket that needs no port.
pub struct Maitred {
    pub plain: String,
    pub tls: String,
    pub socket: PathBuf,
    /// The admin listener.
    pub admin: String,
    _process: Process,
}

/// A folder with what everybody's TLS needs: `ca.pem`, and `gateway.test`'s certificate `a.pem` with its key `a.key`.
pub fn folder() -> Folder {
    let folder = Folder::new();
    let authority = Authority::new("the peers'");
    let identity = authority.server(&["gateway.test", "127.0.0.1", "127.0.0.2"]);
    for (name, text) in [("ca.pem", authority.pem()), ("a.pem", identity.cert), ("a.key", identity.key)] {
        std::fs::write(folder.path(name), text).expect("a writable folder");
    }
    folder
}

impl Maitred {
    /// Each upstream is an API below its name: `(name, how it is reached)`.
    pub fn start(folder: &Folder, upstreams: &[(&str, String)]) -> Maitred {
        let socket = folder.path("gateway.sock");
        let mut text = format!(
            "listen:
  - 127.0.0.1:0
  - {{ address: 127.0.0.2:0, tls: {{ certificates: [ {{ cert: a.pem, key: a.key }} ] }} }}
  - unix:{}
admin: {{ listen: 127.0.0.1:0 }}
telemetry: {{ access_log: none }}
limits: {{ body_bytes: 1GiB, connections_per_ip: 10000 }}
upstreams:\n",
            socket.display()
        );
        for (name, how) in upstreams {
            text.push_str(&format!("  {name}: {how}\n"));
        }
        text.push_str("apis:\n");
        for (name, _) in upstreams {
            // gRPC has no place for a prefix: its service is the first segment.
            let base = if name.starts_with("grpc") { String::new() } else { format!("base_path: /{name}, ") };
            let path = if name.starts_with("grpc") { format!("/peers.{name}/{{method}}") } else { "/{path+}".to_owned() };
            text.push_str(&format!("  {name}: {{ {base}routes: [ \"ANY {path}\": {name} ] }}\n"));
        }
        Maitred { socket, ..Maitred::run(folder, &text) }
    }

    /// With this configuration; what it does not listen on is an empty text.
    pub fn run(folder: &Folder, text: &str) -> Maitred {
        std::fs::write(folder.path("maitred.yaml"), text).expect("a writable folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_maitred"));
        command.args(["run", "maitred.yaml"]).current_dir(folder.path(".")).env_remove("MAITRED_LOG").stdin(Stdio::null());
        command.env("AWS_REGION", "eu-west-1");
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the gateway starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let process = Process { child, _stdin: None };
        let mut said = Vec::new();
        while !said.iter().any(|line: &String| line.ends_with(" ready")) {
            let line = lines.next().unwrap_or_else(|| panic!("the gateway ended:\n{}", said.join("\n")));
            said.push(line.expect("text"));
        }
        let listens = |words: &str, scheme: &str| {
            let mut urls = said.iter().filter_map(|line| Some(line.split_once(words)?.1));
            urls.find(|url| url.starts_with(scheme)).unwrap_or_default().to_owned()
        };
        let url = |scheme: &str| listens("listening on ", scheme);
        let (plain, tls, admin) = (url("http://"), url("https://"), listens("admin on ", "http://"));
        // What it says must be read, or it would wait for that.
        std::thread::spawn(move || lines.for_each(drop));
        Maitred { plain, tls, socket: PathBuf::new(), admin, _process: process }
    }
}

/// A port that is free now.
pub fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A server with a configuration of its own, listening once this returns.
#[track_caller]
pub fn start(program: &Path, arguments: &[&str], folder: &Folder, config: &str, text: &str, port: u16) -> Process {
    std::fs::write(folder.path(config), text).expect("a writable folder");
    let mut command = Command::new(program);
    command.args(arguments).arg(folder.path(config)).current_dir(folder.path(".")).stdin(Stdio::null());
    let child = command.spawn().expect("the server starts");
    let process = Process { child, _stdin: None };
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "{} does not listen", program.display());
        std::thread::sleep(Duration::from_millis(2));
    }
    process
}
