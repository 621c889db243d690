//! A Runtime API on loopback that a test plays: it waits for what a runtime asks, and says what it is answered. Judges nothing itself.

use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// For one step of a runtime: it starts within tenths of a second, on a machine that is busy within seconds.
const STEP_TIME_MAX: Duration = Duration::from_secs(30);
/// What the scripted host gives an invocation.
const TIMEOUT_MS: u128 = 3_000;

/// A note at home, a failure in CI.
pub fn is_there(interpreter: &str) -> bool {
    let found = Command::new(interpreter).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    assert!(found || std::env::var_os("CI").is_none(), "{interpreter} is missing; CI runs with it");
    if !found {
        println!("NOTE: {interpreter} is missing, so its bootstrap is not tested");
    }
    found
}

/// A folder of a test's own with these files.
pub fn folder_with(files: &[(&str, &str)]) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("maitred-bootstraps-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// A runtime that was started, and the API that it asks.
pub struct Session {
    asked: Receiver<Said>,
    exit: Receiver<Option<i32>>,
    pid: i32,
    folder: PathBuf,
    invocations: u32,
}

/// One request, complete.
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    chunks: usize,
    stream: TcpStream,
}

enum Said {
    /// A piece of a body of which there is more to come.
    Chunk(Vec<u8>),
    Asked(Asked),
}

/// What a runtime has posted.
#[derive(Debug)]
pub struct Post {
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub chunks: usize,
}

impl Post {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The words after the last slash: `response` or `error`.
    pub fn kind(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }
}

impl Session {
    /// Starts `interpreter`'s bootstrap over a folder with these files.
    pub fn start(interpreter: &str, files: &[(&str, &str)], handler: &str, environment: &[(&str, &str)]) -> Session {
        let folder = folder_with(files);
        let bootstrap = if interpreter == "node" { "bootstrap.mjs" } else { "bootstrap.py" };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let output = File::create(folder.join("output")).unwrap();
        let child = Command::new(interpreter)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bootstraps").join(bootstrap))
            .current_dir(&folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("LANG", "en_US.UTF-8")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr().unwrap().to_string())
            .env("_HANDLER", handler)
            .env("LAMBDA_TASK_ROOT", &folder)
            .env("AWS_LAMBDA_FUNCTION_NAME", "dessert")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/dessert")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/22/[$LATEST]0")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let (said, asked) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let said = said.clone();
                thread::spawn(move || listen(stream, &said));
            }
        });
        let (exit, pid) = waited(child);
        Session { asked, exit, pid, folder, invocations: 0 }
    }

    /// Answers the runtime's next question for work, and says by which id.
    pub fn give(&mut self, event: &str) -> String {
        self.give_with(event, &[])
    }

    pub fn give_with(&mut self, event: &str, headers: &[(&str, &str)]) -> String {
        let mut asked = self.asked();
        assert_eq!(asked.line, "GET /2018-06-01/runtime/invocation/next HTTP/1.1", "{}", self.output());
        self.invocations += 1;
        let id = format!("8476a536-e9f4-11e8-9739-{:012}", self.invocations);
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() + TIMEOUT_MS;
        let mut head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nLambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:dessert\r\n",
            event.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        asked.stream.write_all(format!("{head}\r\n{event}").as_bytes()).unwrap();
        id
    }

    /// What is posted next; the runtime is told that it was taken.
    pub fn post(&self) -> Post {
        self.post_answered("202 Accepted")
    }

    pub fn post_answered(&self, status: &str) -> Post {
        let mut asked = self.asked();
        let body = "{\"status\":\"OK\"}\n";
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        // A runtime that is about to exit need not hear it.
        let _ = asked.stream.write_all(answer.as_bytes());
        let path = asked.line.split(' ').nth(1).unwrap().trim_start_matches("/2018-06-01/runtime/").to_owned();
        assert!(asked.line.starts_with("POST "), "{}: {}", asked.line, self.output());
        let Asked { headers, body, trailers, chunks, .. } = asked;
        Post { path, headers, body, trailers, chunks }
    }

    /// Gives an event and takes what is posted for it.
    pub fn run(&mut self, event: &str) -> Post {
        let id = self.give(event);
        let post = self.post();
        assert!(post.path.starts_with(&format!("invocation/{id}/")), "{}", post.path);
        post
    }

    /// The next piece of a body that is still being written.
    pub fn chunk(&self) -> Vec<u8> {
        match self.said() {
            Said::Chunk(chunk) => chunk,
            Said::Asked(asked) => panic!("{} is complete: {}", asked.line, self.output()),
        }
    }

    pub fn exit_code(&self) -> Option<i32> {
        self.exit.recv_timeout(STEP_TIME_MAX).unwrap_or_else(|_| panic!("it goes on: {}", self.output()))
    }

    /// What it has written until now, to stdout and stderr.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("output")).unwrap()).into_owned()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn asked(&self) -> Asked {
        loop {
            if let Said::Asked(asked) = self.said() {
                return asked;
            }
        }
    }

    fn said(&self) -> Said {
        self.asked.recv_timeout(STEP_TIME_MAX).unwrap_or_else(|_| panic!("it asks nothing: {}", self.output()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.exit.try_recv().is_err() {
            // SAFETY: a signal to a process of this test's own, which is not waited for yet.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            let _ = self.exit.recv_timeout(STEP_TIME_MAX);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn waited(mut child: Child) -> (Receiver<Option<i32>>, i32) {
    let (sender, exit) = channel();
    let pid = child.id() as i32;
    thread::spawn(move || sender.send(child.wait().ok().and_then(|status| status.code())));
    (exit, pid)
}

/// One connection, until the runtime closes it.
fn listen(stream: TcpStream, said: &Sender<Said>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(line) = line(&mut reader) {
        let headers = fields(&mut reader);
        let value = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let mut asked = Asked {
            line,
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            chunks: 0,
            stream: stream.try_clone().unwrap(),
        };
        if value("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = chunk(&mut reader) {
                asked.body.extend_from_slice(&chunk);
                asked.chunks += 1;
                let _ = said.send(Said::Chunk(chunk));
            }
            asked.trailers = fields(&mut reader);
        } else if let Some(length) = value("content-length") {
            asked.body = vec![0; length.parse().unwrap()];
            if reader.read_exact(&mut asked.body).is_err() {
                return;
            }
        }
        asked.headers = headers;
        if said.send(Said::Asked(asked)).is_err() {
            return;
        }
    }
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = reader.read_line(&mut line).unwrap_or(0);
    (read > 0).then(|| line.trim_end().to_owned())
}

/// Until the empty line.
fn fields(reader: &mut impl BufRead) -> Vec<(String, String)> {
    let lines = std::iter::from_fn(|| line(reader).filter(|line| !line.is_empty()));
    lines.map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).unwrap()).collect()
}

/// `None`: the last has passed, or the connection ended.
fn chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let length = usize::from_str_radix(&line(reader)?, 16).expect("the length of a chunk");
    if length == 0 {
        return None;
    }
    let mut chunk = vec![0; length];
    reader.read_exact(&mut chunk).ok()?;
    assert_eq!(line(reader)?, "", "a chunk ends with its line");
    Some(chunk)
}
