//! The peers: how each is run, and what each refuses that HTTP allows. A peer may be stricter where it is said why; it may never see
//! another boundary.

use crate::ours::{Ended, Framed, Message};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Frames each case.
pub type Run = dyn Fn(&[Vec<u8>]) -> Vec<Framed>;

pub struct Peer {
    pub name: &'static str,
    pub run: Box<Run>,
    /// The same message, as far as the peer tells.
    pub same: fn(&Message, &Message) -> bool,
    /// Whether the peer's refusal of the last of these messages, which we accept, is a known narrowness of its own.
    pub excused: fn(&[Message], &Framed) -> bool,
    /// It answers when it has read the head, whatever becomes of the body.
    pub hasty: bool,
}

/// Says that a tool is missing: a note at home, a failure in CI.
pub fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what} is missing; CI compares with it");
    println!("NOTE: {what} is missing, so nothing is compared with it");
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers")
}

pub fn works(program: &Path, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The one with what `setup` has installed, where it was.
pub fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/bin/python");
    if own.exists() { own } else { PathBuf::from("python3") }
}

pub fn node() -> Option<Peer> {
    let node = PathBuf::from("node");
    if !works(&node, &["--version"]) {
        missing("node");
        return None;
    }
    let script = folder().join("node.js");
    let run = move |cases: &[Vec<u8>]| by_script(&node, &script, cases);
    Some(Peer {
        name: "Node",
        run: Box::new(run),
        same: |ours, theirs| equal(ours, theirs),
        excused: node_is_narrow,
        hasty: false,
    })
}

/// llhttp knows a closed list of methods.
const NODE_METHODS: [&str; 34] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
    "QUERY",
];

fn node_is_narrow(messages: &[Message], _theirs: &Framed) -> bool {
    messages.last().is_some_and(|message| !NODE_METHODS.contains(&message.method.as_str()))
}

pub fn h11() -> Option<Peer> {
    let python = python();
    if !works(&python, &["-c", "import h11"]) {
        missing("Python's h11 (tests/peers/setup installs it)");
        return None;
    }
    let script = folder().join("with_h11.py");
    let run = move |cases: &[Vec<u8>]| by_script(&python, &script, cases);
    Some(Peer { name: "h11", run: Box::new(run), same: |ours, theirs| equal(ours, theirs), excused: h11_is_narrow, hasty: false })
}

fn h11_is_narrow(messages: &[Message], theirs: &Framed) -> bool {
    match &theirs.end {
        // RFC 9112 §2.2 asks servers to skip an empty line before a request; h11 does not.
        Ended::Refused(why) => why == "no request line received",
        // It keeps no HTTP/1.0 connection open, whatever Connection says.
        Ended::Closed => matches!(messages, [.., before, _] if before.http10),
        Ended::Over | Ended::Partial { .. } => false,
    }
}

fn equal(ours: &Message, theirs: &Message) -> bool {
    (&ours.method, &ours.target, &ours.body) == (&theirs.method, &theirs.target, &theirs.body)
}

/// Hands all cases to a script, each behind its length, and reads a line for each.
fn by_script(program: &Path, script: &Path, cases: &[Vec<u8>]) -> Vec<Framed> {
    let mut child =
        Command::new(program).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the script starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut input = Vec::new();
    for case in cases {
        input.extend_from_slice(&(case.len() as u32).to_be_bytes());
        input.extend_from_slice(case);
    }
    let writer = std::thread::spawn(move || stdin.write_all(&input).expect("the script reads its cases"));
    let mut output = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut output).expect("the script writes text");
    writer.join().expect("the cases were written");
    assert!(child.wait().expect("the script ends").success(), "{} failed", script.display());
    output.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Framed {
    let value: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let messages = value["messages"].as_array().expect("a list").iter().map(|message| Message {
        method: text(&message["method"]),
        target: text(&message["target"]),
        body: unhex(&text(&message["body"])),
        ..Message::default()
    });
    let end = match text(&value["end"]).as_str() {
        "over" => Ended::Over,
        "closed" => Ended::Closed,
        "incomplete" => Ended::Partial { body: false },
        why => Ended::Refused(why.to_owned()),
    };
    Framed { messages: messages.collect(), end }
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal"))
        .collect()
}

/// A real nginx on a socket of its own; its answers tell method and target of each request, and so where each began.
struct Nginx {
    process: Child,
    folder: PathBuf,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const NGINX_CONFIG: &str = r#"
daemon off;
master_process off;
error_log /dev/null crit;
pid @/pid;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path @/body;
    proxy_temp_path @/proxy;
    fastcgi_temp_path @/fastcgi;
    uwsgi_temp_path @/uwsgi;
    scgi_temp_path @/scgi;
    large_client_header_buffers 8 64k;
    keepalive_requests 1000;
    lingering_close off;
    server {
        listen unix:@/socket;
        default_type text/plain;
        add_header X-Method $request_method always;
        add_header X-Target $request_uri always;
        location / { return 299 "$request_length"; }
    }
}
"#;

pub fn nginx() -> Option<Peer> {
    let program = ["/usr/sbin/nginx", "nginx"].map(PathBuf::from).into_iter().find(|program| works(program, &["-v"]));
    let Some(program) = program else {
        missing("nginx");
        return None;
    };
    let folder = std::env::temp_dir().join(format!("maitred-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a writable folder");
    let config = NGINX_CONFIG.replace('@', folder.to_str().expect("UTF-8"));
    std::fs::write(folder.join("nginx.conf"), config).expect("a writable file");
    let mut command = Command::new(program);
    command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf")).stdin(Stdio::null()).stderr(Stdio::null());
    let nginx = Nginx { process: command.spawn().expect("nginx starts"), folder };
    let run = move |cases: &[Vec<u8>]| cases.iter().map(|case| ask_nginx(&nginx.folder.join("socket"), case)).collect();
    Some(Peer { name: "nginx", run: Box::new(run), same: same_for_nginx, excused: nginx_is_narrow, hasty: true })
}

/// Bodies are not told; where the next request begins is.
fn same_for_nginx(ours: &Message, theirs: &Message) -> bool {
    let path = ours.target.find("://").and_then(|at| ours.target[at + 3..].find('/').map(|slash| &ours.target[at + 3 + slash..]));
    ours.method == theirs.method
        && (path.unwrap_or(&ours.target) == theirs.target || path.is_none() && ours.target.contains("://"))
}

fn nginx_is_narrow(messages: &[Message], theirs: &Framed) -> bool {
    let Some(message) = messages.last() else { return false };
    // It finds "close" anywhere in Connection, and HTTP/1.0 ends with one message: ending early moves no boundary.
    if theirs.end == Ended::Closed {
        return true;
    }
    // Methods of other letters than these, and `OPTIONS *`, are refused.
    !message.method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte == b'-') || message.target == "*"
}

fn ask_nginx(socket: &Path, case: &[u8]) -> Framed {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error)
                if Instant::now() < deadline && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
            {
                std::thread::yield_now();
            }
            Err(error) => panic!("nginx does not answer: {error}"),
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    // It may have refused, and closed, before all was written.
    let _ = stream.write_all(case);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    read_answers(&answers)
}

fn read_answers(mut answers: &[u8]) -> Framed {
    let mut messages = Vec::new();
    let mut end = Ended::Over;
    while let Some(at) = answers.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = crate::ours::latin1(&answers[..at]);
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned)).unwrap_or_default();
        answers = &answers[at + 4..];
        if head.starts_with("HTTP/1.1 100") {
            continue;
        }
        if !head.starts_with("HTTP/1.1 299") {
            end = Ended::Refused(head.lines().next().unwrap_or_default().to_owned());
            break;
        }
        let method = field("X-Method: ");
        let length: usize = field("Content-Length: ").parse().unwrap_or(0);
        if method != "HEAD" {
            answers = &answers[length.min(answers.len())..];
        }
        messages.push(Message { method, target: field("X-Target: "), ..Message::default() });
        if field("Connection: ") == "close" {
            end = Ended::Closed;
        }
    }
    Framed { messages, end }
}
