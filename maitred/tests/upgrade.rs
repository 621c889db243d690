//! A gateway whose program is replaced while it serves: real processes, real sockets, real signals. What the two processes say to each
//! other is tested beside the code.

#![cfg(target_os = "linux")]

#[expect(dead_code, reason = "what reads a verb's output is for cli.rs")]
mod process;

use process::heir::{BAD, HELLO, Heir, Kept, body, is_running, serving, upgrade};
use process::{Folder, Maitred, PATIENCE, back_end, maitred, until};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const PROGRAM: &str = env!("CARGO_BIN_EXE_maitred");

/// HELLO with everything but `/` sent to a back end.
fn with_back_end(address: SocketAddr) -> String {
    let text = HELLO.replace("    routes:\n", "    routes:\n      - ANY /{path+}: behind\n");
    format!("{text}upstreams: {{ behind: \"http://{address}\" }}\n")
}

/// Says stop when it is dropped, also by a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks until it is told to stop; the first request that fails ends it.
fn keep_asking(address: SocketAddr, fresh: bool, stop: &AtomicBool, answered: &AtomicU64) -> Result<(), String> {
    let mut kept: Option<Kept> = None;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Kept::open(address)?,
        };
        let path = format!("/{number}");
        let wanted = format!("GET {path} HTTP/1.1");
        let (path, wanted) = if number % 2 == 0 { ("/", "first") } else { (path.as_str(), wanted.as_str()) };
        let stays = connection.round(path, if fresh { "connection: close\r\n" } else { "" }, wanted)?;
        kept = stays.then_some(connection);
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// UDP sockets are not handed over: the next process takes the port when this one has let go of it.
#[cfg(feature = "http3")]
#[test]
fn http3_goes_on_in_the_next_process() {
    Heir::adopt();
    let folder = Folder::new("life-http3");
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/certs");
    let listen = format!(
        "listen: {{ address: \"127.0.0.1:0\", http3: true, tls: {{ certificates: {{ cert: {certs}/api.pem, key: {certs}/api.key }} }} }}\n"
    );
    let mut gateway = folder.file("maitred.yaml", &HELLO.replace("listen: 127.0.0.1:0\n", &listen)).run(&["run"]);
    let address = gateway.listening_for_tls();
    let is_taken = || std::net::UdpSocket::bind(address).is_err();
    assert!(is_taken());
    let heir = upgrade(&gateway);
    gateway.wait_for("the process before this one has let go of the port");
    assert!(is_taken(), "the next one has it");
    assert_eq!(gateway.exit_code(), 0);
    assert!(is_running(heir.0) && is_taken());
}

#[test]
fn no_request_fails_however_often_the_program_is_replaced() {
    Heir::adopt();
    let rounds = if std::env::var_os("MAITRED_LONG").is_some() { 50 } else { 5 };
    let folder = Folder::new("life-load");
    let mut gateway = folder.file("maitred.yaml", &with_back_end(back_end())).run(&["run"]);
    let address = gateway.listening();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut heirs: Vec<Heir> = Vec::new();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..6)
            .map(|index| {
                let (stop, answered) = (&stop, &answered);
                scope.spawn(move || {
                    let _stop = Stop(stop);
                    keep_asking(address, index % 2 == 0, stop, answered)
                })
            })
            .collect();
        let some_more = || {
            let before = answered.load(Ordering::Relaxed);
            until(|| answered.load(Ordering::Relaxed) > before + 100 || stop.load(Ordering::Relaxed));
        };
        let asked_to_stop = Stop(&stop);
        some_more();
        for _ in 0..rounds {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            heirs.push(upgrade(&gateway));
            some_more();
        }
        drop(asked_to_stop);
        for done in asking {
            assert_eq!(
                done.join().unwrap(),
                Ok(()),
                "after {} upgrades, {} answers",
                heirs.len(),
                answered.load(Ordering::Relaxed)
            );
        }
    });
    println!("{} requests, {} upgrades", answered.load(Ordering::Relaxed), heirs.len());
    assert_eq!(gateway.exit_code(), 0);
    let last = heirs.pop().unwrap();
    for heir in heirs {
        assert_eq!(heir.end(), 0);
    }
    last.signal(libc::SIGTERM);
    assert_eq!(last.end(), 0);
    let done = gateway.end();
    assert_eq!(done.stderr.matches("every connection ended by itself").count(), rounds + 1, "{}", done.stderr);
}

#[test]
fn a_listener_has_other_workers_after_an_upgrade_and_nobody_waits_in_vain() {
    Heir::adopt();
    let folder = Folder::new("life-workers");
    let text = |workers: usize| HELLO.replace("workers: 2", &format!("workers: {workers}"));
    let mut gateway = folder.file("maitred.yaml", &text(3)).run(&["run"]);
    // Which of the sockets a client comes to is the kernel's choice; a hundred come to each.
    let everybody = || (0..100).all(|_| gateway.get("/").ends_with("first"));
    assert!(everybody());
    let mut heirs = Vec::new();
    for workers in [1, 4, 2] {
        folder.file("maitred.yaml", &text(workers));
        heirs.push(upgrade(&gateway));
        assert_eq!(gateway.admin_json("/status")["workers"], workers);
        assert!(everybody(), "with {workers} workers");
    }
    let last = heirs.pop().unwrap();
    last.signal(libc::SIGTERM);
    assert_eq!(gateway.exit_code(), 0);
    assert!(heirs.into_iter().all(|heir| heir.end() == 0));
    assert_eq!(last.end(), 0);
}

#[test]
fn whoever_waits_to_be_accepted_is_accepted_by_the_next_process() {
    Heir::adopt();
    let folder = Folder::new("life-queue");
    let mut gateway = folder.file("maitred.yaml", HELLO).run(&["run"]);
    let address = gateway.listening();
    let heir = upgrade(&gateway);
    assert_eq!(gateway.exit_code(), 0);
    // Nobody accepts while it stands still.
    heir.signal(libc::SIGSTOP);
    let mut waiting: Vec<Kept> = (0..20).map(|_| Kept::open(address).unwrap()).collect();
    heir.signal(libc::SIGUSR2);
    heir.signal(libc::SIGCONT);
    for connection in &mut waiting {
        connection.round("/", "connection: close\r\n", "first").unwrap();
    }
    gateway.wait_for_times("upgraded", 2);
    let last = Heir(serving(&gateway));
    assert_eq!(heir.end(), 0);
    last.signal(libc::SIGTERM);
    assert_eq!(last.end(), 0);
}

#[test]
fn a_drained_endpoint_stays_so_in_the_next_process() {
    Heir::adopt();
    let folder = Folder::new("life-drained");
    let back_end = back_end();
    let mut gateway = folder.file("maitred.yaml", &with_back_end(back_end)).run(&["run"]);
    let upstreams = gateway.admin_json("/upstreams");
    let name = upstreams[0]["name"].as_str().unwrap().replace('/', "%2F");
    let drained = gateway.admin("POST", &format!("/upstreams/{name}/drain?endpoint={back_end}"));
    assert!(drained.starts_with("HTTP/1.1 200"), "{drained}");
    let heir = upgrade(&gateway);
    assert_eq!(gateway.exit_code(), 0);
    assert_eq!(gateway.admin_json("/upstreams")[0]["endpoints"][0]["state"], "drained");
    let last = upgrade(&gateway);
    assert_eq!(heir.end(), 0);
    assert_eq!(gateway.admin_json("/upstreams")[0]["endpoints"][0]["state"], "drained");
    last.signal(libc::SIGTERM);
    assert_eq!(last.end(), 0);
}

#[test]
fn a_unix_socket_stays_at_its_path() {
    Heir::adopt();
    let folder = Folder::new("life-unix");
    let text =
        HELLO.replacen("listen: 127.0.0.1:0", &format!("listen: [127.0.0.1:0, \"unix:{}\"]", folder.path("s").display()), 1);
    let mut gateway = folder.file("maitred.yaml", &text).run(&["run"]);
    let ask = || {
        let mut stream = UnixStream::connect(folder.path("s")).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.ends_with("first")
    };
    assert!(ask());
    let heirs = [upgrade(&gateway), upgrade(&gateway)];
    assert!((0..20).all(|_| ask()));
    assert_eq!(gateway.exit_code(), 0);
    // The one that left did not take the path with it.
    assert!((0..20).all(|_| ask()));
    let [middle, last] = heirs;
    assert_eq!(middle.end(), 0);
    assert!(ask());
    last.signal(libc::SIGTERM);
    assert_eq!(last.end(), 0);
}

/// Answers one request with 101, then sends back whatever it is sent.
fn echo_socket() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").unwrap();
        std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
    });
    address
}

#[test]
fn a_websocket_lives_on_in_the_old_process_until_it_ends_by_itself() {
    Heir::adopt();
    let folder = Folder::new("life-websocket");
    let mut gateway = folder.file("maitred.yaml", &with_back_end(echo_socket())).run(&["run"]);
    let mut socket = TcpStream::connect(gateway.listening()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    let mut echo = |word: &str| {
        socket.write_all(word.as_bytes()).unwrap();
        let mut back = String::new();
        reader.read_line(&mut back).unwrap();
        assert_eq!(back, word);
    };
    echo("before\n");
    let heir = upgrade(&gateway);
    assert!(gateway.get("/").ends_with("first"));
    echo("after\n");
    gateway.wait_for("draining");
    assert!(is_running(gateway.pid()));
    echo("long after\n");
    drop((reader, socket));
    assert_eq!(gateway.exit_code(), 0);
    heir.signal(libc::SIGTERM);
    assert_eq!(heir.end(), 0);
    assert_eq!(gateway.end().stderr.matches("every connection ended by itself").count(), 2);
}

#[test]
fn a_program_that_cannot_start_leaves_the_old_one_serving() {
    let folder = Folder::new("life-bad");
    let gateway = folder.file("maitred.yaml", HELLO).run(&["run"]);
    folder.file("maitred.yaml", BAD);
    gateway.wait_for("not reloaded");
    let answer = gateway.admin("POST", "/upgrade");
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    let why = body(&answer)["detail"].as_str().unwrap().to_owned();
    assert!(why.starts_with("the new process does not start: ") && why.contains("`routez`"), "{why}");
    let admin = gateway.address("admin").to_string();
    let done = maitred(&["upgrade", "--admin", &admin]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("goes on") && done.stderr.contains("`routez`"), "{}", done.stderr);
    gateway.signal(libc::SIGUSR2);
    gateway.wait_for("not upgraded (SIGUSR2)");
    assert_eq!(serving(&gateway), gateway.pid());
    assert!(gateway.get("/").ends_with("first"));
    // What it takes over when the file is right again.
    folder.file("maitred.yaml", &HELLO.replace("first", "second"));
    gateway.wait_for("reloaded: 1 route");
    assert!(gateway.get("/").ends_with("second"));
    assert_eq!(gateway.terminate().code, 0);
}

/// A gateway whose program is a link in its folder.
fn installed(folder: &Folder) -> Maitred {
    symlink(PROGRAM, folder.path("installed")).unwrap();
    let mut command = Command::new(folder.path("installed"));
    command.arg("run").stdin(Stdio::null()).stdout(Stdio::null());
    folder.file("maitred.yaml", HELLO).start(command)
}

/// Another program at the same path, as a package manager puts it there.
fn install(folder: &Folder, script: &str) {
    std::fs::write(folder.path(".new"), format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(folder.path(".new"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(folder.path(".new"), folder.path("installed")).unwrap();
}

#[test]
fn the_program_that_is_installed_now_is_started_as_this_one_was() {
    Heir::adopt();
    let folder = Folder::new("life-installed");
    let mut gateway = installed(&folder);
    let admin = gateway.address("admin").to_string();
    std::fs::remove_file(folder.path("installed")).unwrap();
    let done = maitred(&["upgrade", "--admin", &admin]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("cannot start") && done.stderr.contains("No such file"), "{}", done.stderr);
    install(&folder, "exit 3");
    let done = maitred(&["upgrade", "--admin", &admin]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("exit status: 3"), "{}", done.stderr);
    assert_eq!(serving(&gateway), gateway.pid());
    std::fs::copy(PROGRAM, folder.path("next")).unwrap();
    std::fs::remove_file(folder.path("installed")).unwrap();
    symlink("next", folder.path("installed")).unwrap();
    let done = maitred(&["upgrade", "--admin", &admin]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let heir = Heir(serving(&gateway));
    assert!(done.stdout.starts_with(&format!("upgraded: process {}, maitred 0.", heir.0)), "{}", done.stdout);
    assert!(heir.program().ends_with("/next"), "{}", heir.program());
    let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", heir.0)).unwrap();
    assert!(arguments.ends_with("/installed\0run\0"), "{arguments}");
    // Nobody who is started by it takes what was for it.
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", heir.0)).unwrap();
    assert!(!environment.contains("LISTEN_"), "{environment}");
    assert_eq!(gateway.exit_code(), 0);
    heir.signal(libc::SIGTERM);
    assert_eq!(heir.end(), 0);
}

fn fifo(path: &Path) {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a name that ends with zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

/// Installs a program that waits at a gate; returns when it stands there, with what opens it.
fn one_that_waits(folder: &Folder, start: impl FnOnce()) -> File {
    fifo(&folder.path("gate"));
    install(folder, &format!("read line < gate\nexec '{PROGRAM}' \"$@\""));
    start();
    // Opens when the other side reads.
    OpenOptions::new().write(true).open(folder.path("gate")).unwrap()
}

#[test]
fn one_upgrade_at_a_time() {
    Heir::adopt();
    let folder = Folder::new("life-twice");
    let mut gateway = installed(&folder);
    let mut gate = one_that_waits(&folder, || gateway.signal(libc::SIGUSR2));
    let answer = gateway.admin("POST", "/upgrade");
    assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
    assert_eq!(body(&answer)["detail"], "an upgrade is under way");
    gateway.signal(libc::SIGUSR2);
    gateway.wait_for("not upgraded (SIGUSR2); this process goes on: an upgrade is under way");
    assert!(gateway.get("/").ends_with("first"), "the old one serves while it waits");
    assert_eq!(serving(&gateway), gateway.pid());
    gate.write_all(b"go\n").unwrap();
    gateway.wait_for("upgraded: another process serves");
    let heir = Heir(serving(&gateway));
    assert_ne!(heir.0, gateway.pid());
    assert!(gateway.get("/").ends_with("first"));
    assert_eq!(gateway.exit_code(), 0);
    heir.signal(libc::SIGTERM);
    assert_eq!(heir.end(), 0);
}

#[test]
fn a_stop_ends_the_process_that_was_about_to_take_over_too() {
    let folder = Folder::new("life-stop");
    let gateway = installed(&folder);
    let _gate = one_that_waits(&folder, || gateway.signal(libc::SIGUSR2));
    // Its end comes when nobody writes to stderr any more: neither of the two.
    let done = gateway.terminate();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("this process was told to stop meanwhile"), "{}", done.stderr);
}

#[test]
fn healthy_is_an_exit_code() {
    let folder = Folder::new("life-healthy");
    let gateway = folder.file("maitred.yaml", HELLO).run(&["run"]);
    let admin = gateway.address("admin").to_string();
    let done = maitred(&["healthy", "--admin", &admin]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "healthy\n"), "{}", done.stderr);
    assert_eq!(maitred(&["healthy", "--ready", "--admin", &admin]).code, 0);
    // By the file that says where, and what the token is.
    let text = HELLO.replace("{ listen: 127.0.0.1:0 }", &format!("{{ listen: \"{admin}\", token: a-token-of-some-length }}"));
    folder.file("elsewhere.yaml", &text);
    assert_eq!(folder.maitred(&["healthy", "elsewhere.yaml"]).code, 0);
    let any_port = folder.maitred(&["healthy"]);
    assert!(any_port.code == 1 && any_port.stderr.contains("--admin"), "{}", any_port.stderr);
    // It drains as long as a connection is open.
    let mut open = Kept::open(gateway.listening()).unwrap();
    open.round("/", "", "first").unwrap();
    gateway.signal(libc::SIGTERM);
    gateway.wait_for("draining");
    assert_eq!(maitred(&["healthy", "--admin", &admin]).code, 0);
    let done = maitred(&["healthy", "--ready", "--admin", &admin]);
    assert!(done.code == 1 && done.stderr.contains("Draining"), "{}", done.stderr);
    drop(open);
    assert_eq!(gateway.end().code, 0);
    let done = maitred(&["healthy", "--admin", &admin]);
    assert!(done.code == 1 && done.stderr.contains("no answer"), "{}", done.stderr);
}
