//! A `maitred` process, the folder it runs in, and requests to it. Learns the ports by reading what the process says, and ends only
//! processes that it started.

#[cfg(target_os = "linux")]
pub mod heir;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// For anything that should happen: a machine that is busy takes its time.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maitred"));
    command.args(arguments).stdin(Stdio::null()).env_remove("MAITRED_LOG");
    command
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

fn finish(mut command: Command) -> Done {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Done { code: code(output.status), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Runs a verb to its end, in no particular folder.
pub fn maitred(arguments: &[&str]) -> Done {
    finish(command(arguments))
}

/// A folder that is gone after the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(test: &str) -> Folder {
        Folder::within(std::env::temp_dir(), test)
    }

    /// Where not everybody may write.
    pub fn within(place: impl AsRef<Path>, test: &str) -> Folder {
        let path = place.as_ref().join(format!("maitred-cli-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces a file as an editor does: a watcher never sees half of it.
    pub fn file(&self, name: &str, text: &str) -> &Folder {
        let place = self.0.join(name);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        let new = self.0.join(".new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, place).unwrap();
        self
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }

    pub fn maitred(&self, arguments: &[&str]) -> Done {
        let mut command = command(arguments);
        command.current_dir(&self.0);
        finish(command)
    }

    /// Starts a gateway, and waits until it says that it is ready.
    pub fn run(&self, arguments: &[&str]) -> Maitred {
        let mut command = command(arguments);
        command.stdout(Stdio::piped());
        self.start(command)
    }

    /// The same, however it is started.
    pub fn start(&self, mut command: Command) -> Maitred {
        // A group of its own: whatever it starts in its place is in it too.
        command.current_dir(&self.0).env_remove("MAITRED_LOG").stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take();
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.map(|stdout| BufReader::new(stdout).read_to_string(&mut text).unwrap());
            text
        });
        let said: Arc<Said> = Arc::default();
        let stderr = child.stderr.take().unwrap();
        let hearer = said.clone();
        let hearing = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                hearer.hear(Some(line.unwrap()));
            }
            hearer.hear(None);
        });
        let token = self.0.join("maitred.db-token");
        let gateway = Maitred { child, is_reaped: false, said, hearing: Some(hearing), stdout: Some(stdout), token };
        gateway.wait_for("ready");
        gateway
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a process wrote to stderr so far, and whether that was all.
#[derive(Default)]
struct Said {
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Said {
    fn hear(&self, line: Option<String>) {
        let mut text = self.text.lock().unwrap();
        match line {
            Some(line) => text.0 += &(line + "\n"),
            None => text.1 = true,
        }
        self.more.notify_all();
    }
}

/// A gateway that runs. Ended at the latest when it is dropped.
pub struct Maitred {
    child: Child,
    is_reaped: bool,
    said: Arc<Said>,
    hearing: Option<JoinHandle<()>>,
    stdout: Option<JoinHandle<String>>,
    /// Where the admin token is, if one was made.
    token: PathBuf,
}

impl Maitred {
    /// Until it has said this.
    #[track_caller]
    pub fn wait_for(&self, words: &str) {
        self.wait_for_times(words, 1);
    }

    /// Until it, and the processes that it started, have said this so often.
    #[track_caller]
    pub fn wait_for_times(&self, words: &str, times: usize) {
        let text = self.said.text.lock().unwrap();
        let said = |text: &str| text.matches(words).count() >= times;
        let waiting = |text: &mut (String, bool)| !said(&text.0) && !text.1;
        let (text, _) = self.said.more.wait_timeout_while(text, PATIENCE, waiting).unwrap();
        assert!(said(&text.0), "it never said {words:?}, only:\n{}", text.0);
    }

    #[allow(dead_code, reason = "not every test asks for it")]
    pub fn says(&self, words: &str) -> bool {
        self.said.text.lock().unwrap().0.contains(words)
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn address(&self, what: &str) -> SocketAddr {
        let text = self.said.text.lock().unwrap().0.clone();
        let line = text
            .lines()
            .find(|line| line.contains(what) && line.contains("127.0.0.1:"))
            .unwrap_or_else(|| panic!("no {what:?} in:\n{text}"));
        let at = line.find("127.0.0.1:").unwrap();
        let end = line[at + 10..].find(|c: char| !c.is_ascii_digit()).map_or(line.len(), |end| at + 10 + end);
        line[at..end].parse().unwrap()
    }

    pub fn listening(&self) -> SocketAddr {
        self.address("listening")
    }

    /// Where it listens for TLS, on any address.
    #[allow(dead_code, reason = "not every test asks for it")]
    pub fn listening_for_tls(&self) -> SocketAddr {
        let text = self.said.text.lock().unwrap().0.clone();
        let address = text.lines().find_map(|line| Some(line.split_once("listening on https://")?.1));
        address.unwrap_or_else(|| panic!("no TLS in:\n{text}")).parse().unwrap()
    }

    pub fn get(&self, path: &str) -> String {
        ask(self.listening(), &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
    }

    pub fn admin(&self, method: &str, path: &str) -> String {
        let token = std::fs::read_to_string(&self.token).ok();
        let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {}\r\n", token.trim()));
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-maitred: 1\r\n{token}connection: close\r\n\r\n");
        ask(self.address("admin"), &head)
    }

    pub fn admin_json(&self, path: &str) -> Value {
        let answer = self.admin("GET", path);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    #[track_caller]
    pub fn eventually(&self, path: &str, holds: impl Fn(&Value) -> bool) {
        until(|| holds(&self.admin_json(path)));
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: two numbers; the process is ours and was not waited for, so its id is nobody else's.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    pub fn terminate(self) -> Done {
        self.signal(libc::SIGTERM);
        self.end()
    }

    /// Waits for its end, though processes that it started may go on.
    pub fn exit_code(&mut self) -> i32 {
        let status = self.child.wait().unwrap();
        self.is_reaped = true;
        code(status)
    }

    /// Waits for its end, and for whoever writes where it wrote.
    pub fn end(mut self) -> Done {
        let code = self.exit_code();
        self.hearing.take().unwrap().join().unwrap();
        let stdout = self.stdout.take().unwrap().join().unwrap();
        let stderr = self.said.text.lock().unwrap().0.clone();
        Done { code, stdout, stderr }
    }
}

impl Drop for Maitred {
    fn drop(&mut self) {
        if !self.is_reaped {
            // Its heirs with it, of whom a test that failed may not know.
            // SAFETY: two numbers; it was not waited for, so its id, which is the group's, is nobody else's.
            unsafe { libc::kill(-self.pid(), libc::SIGKILL) };
            let _ = self.child.wait();
        }
    }
}

/// Asks again and again; each asking is a round trip to another process, so this burns no core for long.
#[track_caller]
pub fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::yield_now();
    }
}

/// Sends this on a connection of its own, and reads until its end.
#[track_caller]
pub fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A connection that stays open.
pub struct Open(TcpStream);

pub fn begin(address: SocketAddr) -> Open {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Open(stream)
}

impl Open {
    /// One request, and what comes back at once: enough for a short answer.
    pub fn round(&mut self) -> String {
        self.0.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        while !answer.contains("\r\n\r\nfirst") {
            let mut bytes = [0; 4096];
            let count = self.0.read(&mut bytes).unwrap();
            assert!(count > 0, "the connection ended: {answer}");
            answer.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        answer
    }
}

/// A back end that answers with the request line it got.
pub fn back_end() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream));
        }
    });
    address
}

fn echo(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        let mut head = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        while head != "\r\n" {
            head.clear();
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let line = line.trim_end();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
