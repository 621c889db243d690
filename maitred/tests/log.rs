//! The gateway's own log where it is read, and where it is not: what functions write goes there too, and no request waits for who reads it.

#![cfg(target_os = "linux")]

#[expect(dead_code, reason = "what a drain shows is for upgrade.rs and systemd.rs")]
mod process;

use process::{Folder, PATIENCE, ask};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// Writes as many lines as the path says, and says then that it did.
const CHATTY: &str = r#"#!/usr/bin/env python3
import http.client, json, os, sys
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    event = api.getresponse()
    count = int(json.loads(event.read())["rawPath"][1:])
    for number in range(count):
        sys.stdout.write("plum %d %s\n" % (number, "x" * 200))
    sys.stdout.flush()
    name = event.headers["Lambda-Runtime-Aws-Request-Id"]
    api.request("POST", f"/2018-06-01/runtime/invocation/{name}/response", json.dumps({"body": f"wrote {count}"}))
    api.getresponse().read()
"#;

const TEXT: &str = "listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
telemetry: { access_log: stdout }
functions: { chatty: { runtime: provided, code: code } }
apis: { all: { routes: [ { match: \"GET /{count}\", function: chatty } ] } }
";

/// A gateway whose stderr is read by this test alone, and whose stdout, with the access log, by nobody.
struct Gateway {
    child: Child,
    stderr: BufReader<ChildStderr>,
    addresses: Vec<SocketAddr>,
    _folder: Folder,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    /// Ready, and what it wrote by then was read.
    fn new(test: &str) -> Gateway {
        let folder = Folder::new(test);
        folder.file("maitred.yaml", TEXT).file("code/bootstrap", CHATTY);
        std::fs::set_permissions(folder.path("code/bootstrap"), PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_maitred"));
        command.arg("run").current_dir(folder.path(".")).env_remove("MAITRED_LOG").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut gateway = Gateway { child, stderr, addresses: Vec::new(), _folder: folder };
        loop {
            let line = gateway.line();
            if let Some((_, address)) = line.split_once("on http://") {
                gateway.addresses.push(address.trim().parse().unwrap());
            }
            if line.trim_end().ends_with("ready") {
                return gateway;
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stderr.read_line(&mut line).unwrap() > 0, "it has ended");
        line
    }

    /// All that it writes until it ends.
    fn rest(&mut self) -> Vec<String> {
        self.stderr.by_ref().lines().map(Result::unwrap).collect()
    }

    fn get(&self, address: usize, path: &str) -> String {
        ask(self.addresses[address], &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
    }

    #[track_caller]
    fn writes(&self, lines: usize) {
        let answer = self.get(0, &format!("/{lines}"));
        assert!(answer.contains(&format!("wrote {lines}\"")), "{answer}");
    }

    fn dropped(&self) -> u64 {
        let metrics = self.get(1, "/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix("maitred_log_dropped_total ")).unwrap();
        line.parse().unwrap()
    }

    fn terminate(&self) {
        // SAFETY: two numbers; the process is ours and was not waited for, so its id is nobody else's.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) }, 0);
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_log_that_nobody_reads_holds_no_request_up_and_says_later_what_it_lost() {
    let mut gateway = Gateway::new("log-unread");
    let begun = Instant::now();
    // Far more than the pipe takes; then more than may wait.
    while gateway.dropped() == 0 {
        gateway.writes(500);
        assert!(begun.elapsed() < PATIENCE, "nothing is ever dropped");
    }
    gateway.writes(500);
    let dropped = gateway.dropped();
    let said = loop {
        let line = gateway.line();
        if line.contains("lines of the log were dropped") {
            break line;
        }
    };
    assert!(said.contains("WARN"), "{said}");
    let told: u64 = said.trim_end().rsplit_once("lines=").unwrap().1.parse().unwrap();
    assert!(told >= dropped, "{said} {dropped}");
    gateway.writes(1);
    gateway.terminate();
    let rest = gateway.rest();
    assert!(rest.iter().any(|line| line.contains("plum 0")), "it goes on: {rest:#?}");
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn nobody_who_does_not_read_keeps_it_from_ending() {
    let mut gateway = Gateway::new("log-end");
    for _ in 0..3 {
        gateway.writes(500);
    }
    // Some 300 bytes each of the access log, for which its pipe has no room either.
    for _ in 0..400 {
        gateway.writes(0);
    }
    let begun = Instant::now();
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn nothing_is_lost_at_an_end() {
    let mut gateway = Gateway::new("log-whole");
    gateway.writes(900);
    gateway.terminate();
    let rest = gateway.rest();
    assert_eq!(gateway.exit_code(), Some(0));
    let plums: Vec<&str> = rest.iter().filter_map(|line| line.split_once("plum ")?.1.split(' ').next()).collect();
    let all: Vec<String> = (0..900).map(|number: u32| number.to_string()).collect();
    assert_eq!(plums, all);
    assert!(rest.iter().any(|line| line.contains("stopped")), "{rest:#?}");
}
