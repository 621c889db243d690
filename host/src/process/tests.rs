//! With `/bin/sh`, which is everywhere. As root the drop to another user is tested too.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::unix::pipe::Receiver;

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    // SAFETY: takes nothing, returns a number.
    unsafe { libc::geteuid() == 0 }
}

fn user() -> Option<(u32, u32)> {
    is_root().then_some((NOBODY, NOBODY))
}

fn shell(script: &str) -> Launch {
    static MARKS: AtomicUsize = AtomicUsize::new(0);
    let mark = format!("{}-{}", std::process::id(), MARKS.fetch_add(1, Ordering::Relaxed));
    let environment = [("PATH", "/usr/local/bin:/usr/bin:/bin"), (family::MARK, &mark)];
    Launch {
        command: ["/bin/sh", "-c", script].map(OsString::from).to_vec(),
        environment: environment.map(|(name, value)| (name.into(), value.into())).to_vec(),
        directory: "/".into(),
        user: user(),
        memory: None,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("it takes too long") })
}

/// All that comes until it is closed, or until there is a whole line.
async fn read(pipe: &OwnedFd, until_line: bool) -> String {
    let pipe = Receiver::from_owned_fd_unchecked(pipe.try_clone().unwrap()).unwrap();
    let mut text = Vec::new();
    while !(until_line && text.ends_with(b"\n")) {
        pipe.readable().await.unwrap();
        let mut bytes = [0; 4096];
        match pipe.try_read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&bytes[..count]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    String::from_utf8(text).unwrap()
}

/// What a script says, and how it ends.
async fn run(launch: Launch) -> (String, Exit) {
    let spawner = Spawner::new().unwrap();
    let mut process = spawner.spawn(launch).await.unwrap();
    let said = read(process.stdout.as_ref().unwrap(), false).await;
    (said, process.ended().await)
}

fn is_running(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[track_caller]
fn gone(pid: &str) {
    let until = Instant::now() + PATIENCE;
    while is_running(pid) {
        assert!(Instant::now() < until, "process {pid} still runs");
        std::thread::yield_now();
    }
}

#[test]
fn it_says_what_it_says_and_ends_as_it_ends() {
    assert_eq!(block_on(run(shell("echo hello; exit 3"))), ("hello\n".into(), Exit::Code(3)));
    assert_eq!(block_on(run(shell("kill -9 $$"))), (String::new(), Exit::Signal(9)));
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let missing = Launch { command: vec!["/no/such/program".into()], ..shell("") };
    let error = block_on(async { Spawner::new().unwrap().spawn(missing).await.unwrap_err() });
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let nothing = Launch { command: Vec::new(), ..shell("") };
    let error = block_on(async { Spawner::new().unwrap().spawn(nothing).await.unwrap_err() });
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn it_is_terminated_and_it_is_killed() {
    block_on(async {
        let spawner = Spawner::new().unwrap();
        for (script, ends) in [
            ("echo; exec sleep 1000", Exit::Signal(15)),
            ("trap 'exit 7' TERM; echo; while :; do sleep 0.01; done", Exit::Code(7)),
        ] {
            let mut process = spawner.spawn(shell(script)).await.unwrap();
            read(process.stdout.as_ref().unwrap(), true).await;
            process.terminate();
            assert_eq!(process.ended().await, ends, "{script}");
            // After the end there is nobody to signal, and the end is known.
            process.kill();
            assert_eq!(process.ended().await, ends, "{script}");
        }
        let mut process = spawner.spawn(shell("trap '' TERM; echo; while :; do sleep 0.01; done")).await.unwrap();
        read(process.stdout.as_ref().unwrap(), true).await;
        process.terminate();
        process.kill();
        assert_eq!(process.ended().await, Exit::Signal(9));
    });
}
