//! The contenders: how each is configured, started and found ready. Knows nothing of what is measured on them.
//! nginx and haproxy get what makes them cheap: no logs, long-lived connections on both sides, pools without bounds.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::http::{self, Progress, Responses};
use crate::process::{self, Ending, Running};
use crate::routes::Routes;
use crate::sys;
use crate::tls::{BOTH, CERTIFICATE, KEY};

/// Ports are taken by others between our asking and a proxy's binding; more attempts than this is another fault.
const ATTEMPTS: usize = 5;
/// How long a proxy may take to its first answer; under valgrind with 100,000 routes, minutes.
const READY: Duration = Duration::from_secs(20);
const READY_WRAPPED: Duration = Duration::from_secs(400);
const PROBE_ANSWER: Duration = Duration::from_secs(10);
const PROBE_BYTES: usize = 1024;
/// Where others ask who it is, this is for everyone: to see whether the gateway is up.
const OPEN: &str = "/1k";

#[derive(Clone, PartialEq)]
pub enum Kind {
    Nginx(Tuning),
    Haproxy,
    /// Copies bytes without reading them: the floor.
    HaproxyTcp,
    Maitred {
        binary: PathBuf,
        routes: Routes,
    },
    /// One of the others, with a configuration of its own: see written.rs.
    Written(Box<Written>),
}

#[derive(Clone, PartialEq)]
pub struct Written {
    program: Kind,
    text: String,
    probe: &'static str,
}

/// What nginx is told beyond logs, pools and keep-alive.
#[derive(Clone, Copy, PartialEq)]
pub enum Tuning {
    /// Debian's defaults; the baseline of every ratio.
    Plain,
    /// Buffers that hold a 64 KB answer in a few pieces, which spares it most of its reads and writes.
    Buffers,
    /// Sends the headers that a gateway owes its back end, as Maitred does always.
    Duties,
}

impl Tuning {
    fn lines(self) -> &'static str {
        match self {
            Tuning::Plain => "",
            Tuning::Buffers => "            proxy_buffers 16 16k;\n            proxy_busy_buffers_size 64k;\n",
            Tuning::Duties => {
                "            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Request-ID $request_id;
            proxy_set_header Via \"1.1 nginx\";
"
            }
        }
    }
}

#[derive(Clone)]
pub struct Contender {
    pub name: String,
    pub kind: Kind,
}

impl Contender {
    pub fn new(name: &str, kind: Kind) -> Contender {
        Contender { name: name.to_string(), kind }
    }

    /// `probe` is a path that is answered with 1 KB from the start.
    pub fn written(name: &str, program: Kind, text: String, probe: &'static str) -> Contender {
        Contender::new(name, Kind::Written(Box::new(Written { program, text, probe })))
    }
}

/// What every contender of one scenario shares.
#[derive(Clone)]
pub struct Setup<'a> {
    pub workers: usize,
    pub core: Option<usize>,
    pub backend: u16,
    /// A folder for configurations and error logs.
    pub folder: &'a Path,
    /// A program that runs the proxy, with its arguments: valgrind.
    pub wrapper: Vec<String>,
    /// Whether it also listens for TLS and HTTP/2; certificate and key then lie in `folder`.
    pub modern: bool,
    /// What the gateway is told beyond its default limits.
    pub limits: &'static str,
    /// More keys of the gateway's upstream.
    pub guards: &'static str,
    /// Who may come in: the gateway's own lines for it, with one authorizer named `bench`.
    pub identity: &'a str,
    /// More policies of the gateway's API, as one writes them in a mapping; they hold on all its routes but the one for everyone.
    pub policies: &'a str,
}

/// Where a proxy listens. Two of these may be one port, where a contender tells protocols apart by itself.
#[derive(Clone, Copy)]
pub struct Ports {
    pub plain: u16,
    pub admin: u16,
    pub tls: u16,
    pub h2c: u16,
}

impl Ports {
    fn free(kind: &Kind) -> io::Result<Ports> {
        let [plain, admin, tls, h2c] = sys::free_ports()?;
        Ok(Ports { plain, admin, tls, h2c: if kind.is_maitred() { plain } else { h2c } })
    }
}

pub struct Proxy {
    pub name: String,
    pub port: u16,
    pub ports: Ports,
    pub config: PathBuf,
    pub config_text: String,
    /// From spawning to the first whole answer.
    pub ready_after: Duration,
    running: Running,
}

impl Proxy {
    pub fn start(contender: &Contender, setup: &Setup) -> io::Result<Proxy> {
        let mut last = io::Error::other("not tried");
        for _ in 0..ATTEMPTS {
            match Proxy::attempt(contender, setup) {
                Err(error) if error.to_string().to_lowercase().contains("in use") => last = error,
                outcome => return outcome,
            }
        }
        Err(last)
    }

    fn attempt(contender: &Contender, setup: &Setup) -> io::Result<Proxy> {
        let folder = setup.folder.join(&contender.name);
        fs::create_dir_all(&folder)?;
        let ports = Ports::free(&contender.kind)?;
        let port = ports.plain;
        let (config, log) = (folder.join("config"), folder.join("stderr.log"));
        let config_text = configuration(&contender.kind, setup, ports, &folder);
        fs::write(&config, &config_text)?;
        let mut command = command(&contender.kind, setup, &config);
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).current_dir(&folder);
        let began = Instant::now();
        let mut running = Running::start(command, contender.kind.ending(), setup.core)?;
        let limit = if setup.wrapper.is_empty() { READY } else { READY_WRAPPED };
        let probe = if setup.identity.is_empty() { contender.kind.probe() } else { OPEN.into() };
        let ready = process::until(limit, || match running.ended() {
            true => Some(Err(io::Error::other(format!("it ended: {}", tail(&log))))),
            false => ask(Ipv4Addr::LOCALHOST, port, &probe).ok().map(|_| Ok(())),
        });
        let ready_after = began.elapsed();
        ready.unwrap_or_else(|| Err(io::Error::other(format!("no answer in time: {}", tail(&log)))))?;
        let name = contender.name.clone();
        Ok(Proxy { name, port, ports, config, config_text, ready_after, running })
    }

    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    pub fn signal(&self, signal: i32) {
        self.running.signal(signal);
    }
}

impl Kind {
    pub fn is_maitred(&self) -> bool {
        match self {
            Kind::Maitred { .. } => true,
            Kind::Nginx(_) | Kind::Haproxy | Kind::HaproxyTcp => false,
            Kind::Written(written) => written.program.is_maitred(),
        }
    }

    fn ending(&self) -> Ending {
        match self {
            Kind::Nginx(_) => Ending::Terminate,
            Kind::Haproxy | Kind::HaproxyTcp | Kind::Maitred { .. } => Ending::Kill,
            Kind::Written(written) => written.program.ending(),
        }
    }

    fn probe(&self) -> String {
        match self {
            Kind::Written(written) => written.probe.into(),
            Kind::Maitred { routes, .. } => routes.probe(),
            Kind::Nginx(_) | Kind::Haproxy | Kind::HaproxyTcp => "/1k".into(),
        }
    }
}

/// One request on a fresh connection, answered as the back end answers. The connection stays open.
pub fn ask(source: Ipv4Addr, port: u16, path: &str) -> io::Result<TcpStream> {
    let request = http::get(path, PROBE_BYTES);
    let mut stream = sys::connect_from(source, sys::loopback(port))?;
    stream.set_read_timeout(Some(PROBE_ANSWER))?;
    stream.write_all(&request.bytes)?;
    let (mut responses, mut buffer) = (Responses::default(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let progress = responses.feed(&buffer[..count], request.answer).map_err(io::Error::other)?;
        if progress != Progress::More {
            return Ok(stream);
        }
    }
}

/// The last words of a process that failed.
fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

fn command(kind: &Kind, setup: &Setup, config: &Path) -> Command {
    let (program, arguments): (PathBuf, Vec<&str>) = match kind {
        Kind::Written(written) => return command(&written.program, setup, config),
        Kind::Nginx(_) => ("nginx".into(), vec!["-e", "stderr", "-p", ".", "-c"]),
        Kind::Haproxy | Kind::HaproxyTcp => ("haproxy".into(), vec!["-db", "-f"]),
        Kind::Maitred { binary, .. } => (binary.clone(), vec!["run"]),
    };
    let mut command = match setup.wrapper.split_first() {
        None => Command::new(program),
        Some((wrapper, arguments)) => {
            let mut command = Command::new(wrapper);
            command.args(arguments).arg(program);
            command
        }
    };
    command.args(arguments).arg(config);
    command
}

fn configuration(kind: &Kind, setup: &Setup, ports: Ports, folder: &Path) -> String {
    match kind {
        Kind::Nginx(tuning) => nginx(setup, ports, folder, *tuning),
        Kind::Haproxy => haproxy(setup, ports, "http"),
        Kind::HaproxyTcp => haproxy(setup, ports, "tcp"),
        Kind::Maitred { routes, .. } => maitred(setup, ports, *routes),
        Kind::Written(written) => crate::written::filled(&written.text, ports, folder),
    }
}

/// Under valgrind one process must do the work itself. Temporary files are off: they would measure a disk.
fn nginx(setup: &Setup, ports: Ports, folder: &Path, tuning: Tuning) -> String {
    let more = tuning.lines();
    let Ports { plain: port, tls, h2c, .. } = ports;
    let (workers, backend, folder) = (setup.workers, setup.backend, folder.display());
    let master = if setup.wrapper.is_empty() { "on" } else { "off" };
    // SAFETY: takes and gives integers.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;\n" } else { "" };
    let modern = match setup.modern {
        false => String::new(),
        true => format!(
            "        listen 127.0.0.1:{h2c} http2 reuseport backlog=4096;
        listen 127.0.0.1:{tls} ssl http2 reuseport backlog=4096;
        ssl_certificate {CERTIFICATE};
        ssl_certificate_key {KEY};
        ssl_protocols TLSv1.3;
        ssl_session_cache off;
        ssl_session_tickets on;
"
        ),
    };
    format!(
        "daemon off;
{user}master_process {master};
worker_processes {workers};
pid {folder}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections 16384;
}}
http {{
    access_log off;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream backend {{
        server 127.0.0.1:{backend};
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
{modern}        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_max_temp_file_size 0;
{more}        }}
    }}
}}
"
    )
}

/// haproxy reckons two files for each of `maxconn` and refuses to start with fewer, though idle clients need one.
fn haproxy(setup: &Setup, ports: Ports, mode: &str) -> String {
    let (workers, backend) = (setup.workers, setup.backend);
    let Ports { plain: port, tls, h2c, .. } = ports;
    let reuse = if mode == "http" { "    option http-keep-alive\n    http-reuse always\n" } else { "" };
    let modern = match setup.modern {
        false => String::new(),
        true => format!(
            "    bind 127.0.0.1:{h2c} backlog 4096 proto h2
    bind 127.0.0.1:{tls} backlog 4096 ssl crt {BOTH} alpn h2,http/1.1 ssl-min-ver TLSv1.3
"
        ),
    };
    format!(
        "global
    nbthread {workers}
    no strict-limits
    maxconn 12000
defaults
    mode {mode}
{reuse}    maxconn 12000
    timeout connect 5s
    timeout client 600s
    timeout server 600s
frontend bench
    bind 127.0.0.1:{port} backlog 4096
{modern}    default_backend bench
backend bench
    server backend 127.0.0.1:{backend}
"
    )
}

/// Metrics stay on, as they always are; the access log is off, as it is in the others. A plain listener also takes HTTP/2 from
/// whoever knows beforehand.
pub fn maitred(setup: &Setup, ports: Ports, routes: Routes) -> String {
    let (workers, limits, routes) = (setup.workers, setup.limits, routes.yaml());
    let backend = match (setup.backend, setup.guards) {
        (port, "") => format!("http://127.0.0.1:{port}"),
        (port, guards) => format!("{{ endpoints: [\"http://127.0.0.1:{port}\"], {guards} }}"),
    };
    let Ports { plain, admin, tls, .. } = ports;
    let listen = match setup.modern {
        false => format!("listen: 127.0.0.1:{plain}"),
        true => format!(
            "listen:
  - 127.0.0.1:{plain}
  - address: 127.0.0.1:{tls}
    tls: {{ certificates: [{{ cert: {CERTIFICATE}, key: {KEY} }}] }}"
        ),
    };
    let authenticate = if setup.identity.is_empty() { "" } else { "authenticate: [bench]" };
    let all = [authenticate, setup.policies].into_iter().filter(|policy| !policy.is_empty()).collect::<Vec<_>>().join(", ");
    let policies = if all.is_empty() { String::new() } else { format!("    policies: {{ {all} }}\n") };
    let unlimited = if setup.policies.contains("rate_limit") { ", rate_limit: none" } else { "" };
    let open = match setup.identity {
        "" => String::new(),
        _ => format!("      - {{ match: GET {OPEN}, authenticate: none{unlimited}, proxy: backend }}\n"),
    };
    let identity = setup.identity;
    format!(
        "workers: {workers}
{listen}
admin: {{ listen: 127.0.0.1:{admin} }}
limits: {{ connections_per_ip: 20000{limits} }}
telemetry: {{ access_log: none }}
upstreams:
  backend: {backend}
{identity}apis:
  bench:
{policies}    routes:
{routes}{open}"
    )
}

/// The back end: this same program in another process, on a core of its own if asked.
pub struct Backend {
    pub port: u16,
    running: Running,
}

impl Backend {
    pub fn start(core: Option<usize>) -> io::Result<Backend> {
        Backend::spawn(core, &["backend"])
    }

    pub fn stalling() -> io::Result<Backend> {
        Backend::spawn(None, &["backend", "stalling"])
    }

    fn spawn(core: Option<usize>, arguments: &[&str]) -> io::Result<Backend> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = Running::start(command, Ending::Kill, core)?;
        let mut line = Vec::new();
        let mut output = running.child().stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
        let mut byte = [0];
        while output.read(&mut byte)? == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        let port = String::from_utf8_lossy(&line).parse().map_err(|_| io::Error::other("the back end named no port"))?;
        Ok(Backend { port, running })
    }

    pub fn pid(&self) -> i32 {
        self.running.pid()
    }
}
