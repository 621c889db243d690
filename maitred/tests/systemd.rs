//! A gateway as systemd starts it: sockets that are open already, and messages about how it is. The messages' words are tested beside
//! the code.

#![cfg(target_os = "linux")]

#[expect(dead_code, reason = "what reads a verb's output is for cli.rs")]
mod process;

use process::Folder;
use process::heir::{BAD, HELLO, Heir, Kept, upgrade};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_maitred");

#[test]
fn sockets_that_systemd_opened_are_used_and_shared_by_all_workers() {
    Heir::adopt();
    let folder = Folder::new("life-activation");
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (door, admin) = (bind(), bind());
    let (door_at, admin_at) = (door.local_addr().unwrap(), admin.local_addr().unwrap());
    let text = HELLO.replace("workers: 2", "workers: 3").replacen("127.0.0.1:0", &door_at.to_string(), 1);
    folder.file("maitred.yaml", &text.replace("127.0.0.1:0", &format!("\"{admin_at}\"")));
    // Comes before there is a gateway, and is answered by it.
    let mut early = Kept::open(door_at).unwrap();
    let mut gateway = folder.start(activated(&door, &admin));
    assert_eq!((gateway.listening(), gateway.address("admin")), (door_at, admin_at));
    assert!(early.round("/", "connection: close\r\n", "first").is_ok());
    assert!((0..50).all(|_| gateway.get("/").ends_with("first")));
    let heir = upgrade(&gateway);
    assert!((0..50).all(|_| gateway.get("/").ends_with("first")));
    assert_eq!(gateway.exit_code(), 0);
    heir.signal(libc::SIGTERM);
    assert_eq!(heir.end(), 0);
    // systemd still has it: who comes now waits for the next start.
    assert!(TcpStream::connect(door_at).is_ok());
}

/// As systemd starts it, with two sockets.
fn activated(web: &TcpListener, admin: &TcpListener) -> Command {
    // A shell knows its own id, and moves descriptors to where they are expected.
    let script = "exec 3<&0 4>&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", PROGRAM, "run"]).env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "web:admin");
    command.stdin(Stdio::from(OwnedFd::from(web.try_clone().unwrap())));
    command.stdout(Stdio::from(OwnedFd::from(admin.try_clone().unwrap())));
    command
}

#[test]
fn a_socket_of_systemd_that_no_listener_has_is_named() {
    let folder = Folder::new("life-activation-other");
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (web, admin) = (bind(), bind());
    let gateway = folder.file("maitred.yaml", HELLO).start(activated(&web, &admin));
    assert!(gateway.get("/").ends_with("first"), "it binds what it was not given");
    let done = gateway.terminate();
    for (socket, unit) in [(&web, "web"), (&admin, "admin")] {
        let place = format!("systemd listens on {}, and no listener", socket.local_addr().unwrap());
        let line = done.stderr.lines().find(|line| line.contains(&place)).unwrap_or_else(|| panic!("{}", done.stderr));
        assert!(line.contains(&format!("unit=\"{unit}\"")), "{line}");
    }
}

/// What systemd heard, and nobody asked for yet. It reads all the time: few messages fit the socket.
struct Systemd(Receiver<String>);

impl Systemd {
    fn at(path: &Path) -> Systemd {
        let socket = UnixDatagram::bind(path).unwrap();
        let (heard, messages) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = socket.recv(&mut bytes) {
                if heard.send(String::from_utf8_lossy(&bytes[..count]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Systemd(messages)
    }

    /// The next message that begins so.
    #[track_caller]
    fn hears(&self, start: &str) -> String {
        let deadline = Instant::now() + process::PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "it never heard {start}");
            let message =
                self.0.recv_timeout(process::PATIENCE).unwrap_or_else(|error| panic!("it never heard {start}: {error}"));
            if message.starts_with(start) {
                return message;
            }
        }
    }
}

#[test]
fn systemd_hears_of_start_reload_upgrade_and_stop_and_that_all_is_well() {
    Heir::adopt();
    let folder = Folder::new("life-notify");
    let systemd = Systemd::at(&folder.path("notify"));
    let mut command = Command::new(PROGRAM);
    command.arg("run").stdin(Stdio::null()).stdout(Stdio::null());
    command.env("NOTIFY_SOCKET", folder.path("notify")).env("WATCHDOG_USEC", "200000");
    let mut gateway = folder.file("maitred.yaml", HELLO).start(command);
    assert_eq!(systemd.hears("READY=1"), "READY=1\nSTATUS=1 route in 1 API, 0 upstreams");
    systemd.hears("WATCHDOG=1");
    folder.file("maitred.yaml", BAD);
    assert!(systemd.hears("RELOADING=1").contains("\nMONOTONIC_USEC="));
    assert!(systemd.hears("READY=1").ends_with("; the last reload failed, see the log"));
    folder.file("maitred.yaml", HELLO);
    assert!(systemd.hears("READY=1").ends_with("0 upstreams"));
    let heir = upgrade(&gateway);
    systemd.hears(&format!("MAINPID={}", heir.0));
    assert_eq!(gateway.exit_code(), 0);
    systemd.hears("READY=1");
    for _ in 0..3 {
        systemd.hears("WATCHDOG=1");
    }
    heir.signal(libc::SIGTERM);
    let stopping = systemd.hears("STOPPING=1");
    assert!(stopping.contains("\nEXTEND_TIMEOUT_USEC=40000000\n"), "{stopping}");
    assert_eq!(heir.end(), 0);
}

#[test]
fn the_old_process_does_not_announce_its_end_to_systemd() {
    Heir::adopt();
    let folder = Folder::new("life-quiet");
    let systemd = Systemd::at(&folder.path("notify"));
    let mut command = Command::new(PROGRAM);
    command.arg("run").stdin(Stdio::null()).stdout(Stdio::null()).env("NOTIFY_SOCKET", folder.path("notify"));
    let mut gateway = folder.file("maitred.yaml", HELLO).start(command);
    let heir = upgrade(&gateway);
    assert_eq!(gateway.exit_code(), 0);
    heir.signal(libc::SIGTERM);
    assert_eq!(heir.end(), 0);
    let last = systemd.hears("STOPPING=1");
    assert!(last.contains("draining"));
    // The new one says it once; the old one would be taken for the end of the service.
    assert!(systemd.0.try_iter().all(|message| !message.starts_with("STOPPING=1")));
    assert!(TcpStream::connect(gateway.listening()).is_err());
}
