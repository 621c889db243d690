//! With `/bin/sh`, which is everywhere. As root the drop to another user is tested too.

use super::*;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::unix::pipe::Receiver;

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Two signals that the C library keeps for itself; what they are set to is nobody's to say.
const C_LIBRARYS: u64 = 0b11 << 31;
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
    let environment = [("PATH", "/usr/local/bin:/usr/bin:/bin"), (MARK, &mark)];
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
    let spawner = Spawner::hiding(Vec::new(), None).unwrap();
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
    let error = block_on(async { Spawner::hiding(Vec::new(), None).unwrap().spawn(missing).await.unwrap_err() });
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let nothing = Launch { command: Vec::new(), ..shell("") };
    let error = block_on(async { Spawner::hiding(Vec::new(), None).unwrap().spawn(nothing).await.unwrap_err() });
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn it_is_terminated_and_it_is_killed() {
    block_on(async {
        let spawner = Spawner::hiding(Vec::new(), None).unwrap();
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

#[test]
fn nothing_of_the_gateways_goes_with_it() {
    // Open in this process, and not marked to be closed.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    // SAFETY: a descriptor that is open.
    let inherited = unsafe { libc::dup(std::os::fd::AsRawFd::as_raw_fd(&theirs)) };
    let script = "ls /proc/self/fd; readlink /proc/self/fd/0; env | cut -d= -f1 | sort | grep -v -x -e PWD -e _ -e OLDPWD -e SHLVL; umask; \
                  ulimit -c; ulimit -n; pwd; grep -h -E '^(NoNewPrivs|CapEff|CapAmb|SigIgn|SigBlk)' /proc/self/status";
    let (said, exit) = block_on(run(shell(script)));
    // SAFETY: the descriptor from above, which nobody else has.
    unsafe { libc::close(inherited) };
    drop((ours, theirs));
    assert_eq!(exit, Exit::Code(0));
    let lines: Vec<&str> = said.lines().collect();
    // The fourth is the folder that `ls` reads.
    let (descriptors, rest) = lines.split_at(4);
    assert_eq!(descriptors, ["0", "1", "2", "3"]);
    assert_eq!(rest[..7], ["/dev/null", MARK, "PATH", "0022", "0", "1024", "/"]);
    let ignored = rest[8].strip_prefix("SigIgn:\t").map(|mask| u64::from_str_radix(mask, 16).unwrap());
    assert_eq!((rest[7], ignored.unwrap() & !C_LIBRARYS), ("SigBlk:\t0000000000000000", 0));
    let capabilities = &rest[9..];
    assert!(capabilities.contains(&"NoNewPrivs:\t1") && capabilities.contains(&"CapAmb:\t0000000000000000"), "{capabilities:?}");
    if is_root() {
        assert!(capabilities.contains(&"CapEff:\t0000000000000000"), "{capabilities:?}");
    }
}

#[test]
fn root_is_left_for_the_user_and_its_one_group() {
    let (said, _) = block_on(run(shell("id -u; id -g; id -G; grep -E '^[UG]id' /proc/self/status")));
    let lines: Vec<&str> = said.lines().collect();
    // SAFETY: takes nothing, returns a number.
    let (own, own_group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let (user, group) = user().unwrap_or((own, own_group));
    assert_eq!(lines[..2], [user.to_string(), group.to_string()]);
    if is_root() {
        assert_eq!(lines[2], group.to_string(), "no supplementary groups");
        assert_eq!(
            lines[3..],
            [format!("Uid:\t{user}\t{user}\t{user}\t{user}"), format!("Gid:\t{group}\t{group}\t{group}\t{group}")]
        );
    }
}

#[test]
fn it_leads_a_session_of_its_own() {
    let (said, _) = block_on(run(shell("echo $$; cut -d' ' -f 1,5,6 /proc/$$/stat")));
    let (pid, ids) = said.trim().split_once('\n').unwrap();
    assert_eq!(ids, format!("{pid} {pid} {pid}"));
}

#[test]
fn what_it_started_ends_with_it() {
    // One in the group, one in a session of its own with another parent, and one that ignores what can be ignored.
    let script = "trap '' TERM; (sleep 1000 & echo $!); (setsid sleep 1000 & echo $!); setsid sh -c '(sleep 1000 & echo $!)'; echo ready; exit 5";
    let (pids, exit) = block_on(async {
        let spawner = Spawner::hiding(Vec::new(), None).unwrap();
        let mut process = spawner.spawn(shell(script)).await.unwrap();
        let mut said = String::new();
        while !said.contains("ready\n") {
            said += &read(process.stdout.as_ref().unwrap(), true).await;
        }
        (said, process.ended().await)
    });
    assert_eq!(exit, Exit::Code(5));
    let pids: Vec<&str> = pids.lines().filter(|line| *line != "ready").collect();
    assert_eq!(pids.len(), 3, "{pids:?}");
    pids.iter().for_each(|pid| gone(pid));
}

#[test]
fn who_is_forgotten_ends_and_so_do_all_when_the_spawner_ends() {
    block_on(async {
        let spawner = Spawner::hiding(Vec::new(), None).unwrap();
        let forgotten = spawner.spawn(shell("sleep 1000")).await.unwrap();
        let pid = forgotten.pid.to_string();
        assert!(is_running(&pid));
        drop(forgotten);
        gone(&pid);
        let mut kept = spawner.spawn(shell("sleep 1000")).await.unwrap();
        // Nobody waits for this start any more when it is done.
        let started = spawner.spawn(shell("sleep 1000"));
        drop(tokio::time::timeout(Duration::ZERO, started).await);
        drop(spawner);
        let kept_pid = kept.pid.to_string();
        assert!(!std::path::Path::new(&format!("/proc/{kept_pid}")).exists(), "it was waited for");
        assert_eq!(kept.ended().await, Exit::Signal(libc::SIGKILL));
    });
}

#[test]
fn whoever_stops_waiting_for_the_end_may_ask_again() {
    block_on(async {
        let spawner = Spawner::hiding(Vec::new(), None).unwrap();
        let mut process = spawner.spawn(shell("read line; exit 4")).await.unwrap();
        for _ in 0..3 {
            let _ = tokio::time::timeout(Duration::ZERO, process.ended()).await;
        }
        assert_eq!(process.ended().await, Exit::Code(4));
    });
}

#[test]
fn who_takes_more_memory_than_it_may_is_killed() {
    let greedy = "sh -c 'x=$(head -c 100000000 /dev/zero | tr \\\\0 x); echo; sleep 1000' & wait";
    let (_, exit) = block_on(run(Launch { memory: Some(50_000_000), ..shell(greedy) }));
    assert!(matches!(exit, Exit::Memory { had: 50_000_001.., most: 50_000_000 }), "{exit:?}");
    let (_, exit) = block_on(run(Launch { memory: Some(500_000_000), ..shell("sleep 0.6; exit 2") }));
    assert_eq!(exit, Exit::Code(2));
}

#[test]
fn what_is_shown_of_a_launch_has_no_values_of_variables() {
    let launch = shell("exit 0");
    let shown = format!("{launch:?}");
    assert!(!shown.contains(&std::process::id().to_string()) && shown.contains(MARK), "{shown}");
}

#[test]
fn it_ends_with_the_thread_that_started_it() {
    let begun = std::thread::spawn(|| setup::begin(&shell("echo; exec sleep 1000"), &[], None).unwrap()).join().unwrap();
    gone(&begun.pid.to_string());
    // SAFETY: a child of this process that nobody else waits for, and no status is wanted.
    assert_eq!(unsafe { libc::waitpid(begun.pid as i32, std::ptr::null_mut(), 0) }, begun.pid as i32);
}

#[test]
fn a_folder_that_its_user_cannot_enter_is_an_error() {
    let closed = std::env::temp_dir().join(format!("maitred-closed-{}", std::process::id()));
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let launch = Launch { directory: closed.clone(), ..shell("echo") };
    let error = block_on(async { Spawner::hiding(Vec::new(), None).unwrap().spawn(launch).await.unwrap_err() });
    std::fs::remove_dir(&closed).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn two_hundred_leave_nothing_behind() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // Other tests open and close descriptors at the same time, though never as many.
    let before = open();
    block_on(async {
        let spawner = Spawner::hiding(Vec::new(), None).unwrap();
        for number in 0..200 {
            let mut process = spawner.spawn(shell("exit 1")).await.unwrap();
            if number % 2 == 0 {
                assert_eq!(process.ended().await, Exit::Code(1));
            }
        }
    });
    assert!(open() < before + 100, "{} descriptors, and {before} before", open());
}

#[test]
fn a_connection_is_its_own_or_its_childrens_and_nobody_elses() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap();
    let python = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin = open('/dev/null'); import time; time.sleep(1000)";
    let start = |prefix: &str| {
        let mut launch = shell("");
        launch.command = ["/bin/sh", "-c", &format!("{prefix} /usr/bin/python3 -c \"$0\" $1"), python, &local.port().to_string()]
            .map(OsString::from)
            .to_vec();
        launch
    };
    if !std::path::Path::new("/usr/bin/python3").exists() {
        eprintln!("not tested: there is no python3 in /usr/bin");
        return;
    }
    block_on(async {
        let spawner = Spawner::hiding(Vec::new(), None).unwrap();
        let other = spawner.spawn(shell("sleep 1000")).await.unwrap();
        // Who has left all of it is known by its mark alone, which anybody could have.
        for (prefix, is_own) in [("exec", true), ("true;", true), ("setsid -w", true), ("setsid -f", false)] {
            let process = spawner.spawn(start(prefix)).await.unwrap();
            let (accepted, peer) = listener.accept().unwrap();
            assert_eq!((process.owns(peer, local), other.owns(peer, local)), (is_own, false), "{prefix}");
            drop(accepted);
        }
        // What is quickly seen is seen though a stranger came just now.
        let process = spawner.spawn(start("true;")).await.unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        let stranger = spawner.spawn(start("exec")).await.unwrap();
        let (_accepted, strange) = listener.accept().unwrap();
        assert!(!process.owns(strange, local));
        let came = process.stranger_came.get().unwrap();
        assert_eq!((process.owns(strange, local), process.owns(peer, local)), (false, true));
        assert!(process.stranger_came.get() == Some(came) || came.elapsed() >= running::LOOK_AGAIN, "it was looked again");
        drop(stranger);
        let own = std::net::TcpStream::connect(local).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert!(!other.owns(peer, local) && !other.owns(local, peer), "the gateway itself is no function");
        drop(own);
    });
}

#[test]
fn only_who_may_become_anybody_may_be_anybody() {
    // SAFETY: takes nothing, returns a number.
    let own = unsafe { libc::geteuid() };
    for (user, other, may) in
        [(Some((7, 7)), 7, true), (Some((7, 7)), 8, false), (Some((0, 0)), 8, true), (None, own, true), (None, own + 1, own == 0)]
    {
        assert_eq!(family::Family::new(1, &Launch { user, ..shell("") }).may_be(other), may, "{user:?} {other}");
    }
}

#[test]
fn no_function_sees_into_another_nor_into_the_gateway() {
    let (has_domains, has_scopes) = sandbox::is_there();
    block_on(async {
        let spawner = Spawner::hiding(Vec::new(), None).unwrap();
        let other = spawner.spawn(shell("sleep 1000")).await.unwrap();
        let look = |pid: u32| {
            format!(
                "cat /proc/{pid}/environ >/dev/null 2>&1 && echo read; readlink /proc/{pid}/fd/0 && echo opened; kill -0 {pid} 2>/dev/null && echo signalled; exit 0"
            )
        };
        for pid in [other.pid, std::process::id()] {
            let mut looking = spawner.spawn(shell(&look(pid))).await.unwrap();
            let said = read(looking.stdout.as_ref().unwrap(), false).await;
            looking.ended().await;
            if has_domains {
                assert!(!said.contains("read") && !said.contains("opened"), "{said}");
            }
            if has_scopes {
                assert!(!said.contains("signalled"), "{said}");
            }
        }
        // Its own it may see and end, and files it may move.
        let own = "sleep 1000 & cat /proc/$!/environ >/dev/null && kill $! && d=$(mktemp -d) && mkdir $d/a $d/b && echo x >$d/a/f && ln $d/a/f $d/b/g && mv $d/a/f $d/b/f && cat $d/b/f; rm -r $d";
        assert_eq!(run(shell(own)).await.0, "x\n");
    });
}

/// In no folder that everybody shares: those cannot hide anything.
struct Private(PathBuf);

impl Drop for Private {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn private() -> Option<Private> {
    let folder = if is_root() { "/var/lib".into() } else { std::env::var_os("HOME")? };
    let folder = PathBuf::from(folder).join(format!("maitred-hidden-{}", std::process::id()));
    std::fs::create_dir(&folder).ok()?;
    Some(Private(folder))
}

#[test]
fn the_gateways_own_files_are_neither_read_nor_changed() {
    use std::os::unix::fs::PermissionsExt;
    let Some(Private(folder)) = &private() else {
        eprintln!("not tested: no folder of its own");
        return;
    };
    if !sandbox::can_hide() {
        eprintln!("not tested: no Landlock");
        return;
    }
    let at = |name: &str| folder.join(name);
    for folder in ["keys", "free", "above", "copies"] {
        std::fs::create_dir(at(folder)).unwrap();
    }
    for file in ["store.db", "store.db-wal", "keys/one.pem", "above/key", "copies/code", "free/data", "beside", "keys-of-others"]
    {
        std::fs::write(at(file), "words").unwrap();
        std::fs::set_permissions(at(file), std::fs::Permissions::from_mode(0o666)).unwrap();
    }
    for open in [folder.clone(), at("free"), at("keys"), at("above"), at("copies")] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    std::os::unix::fs::symlink(at("store.db"), at("free/link")).unwrap();
    let hidden = ["store.db", "keys", "above/key", "later.db", "none/yet"].map(at).to_vec();
    let script = format!(
        "cd {}; for f in store.db store.db-wal keys/one.pem free/link beside free/data keys-of-others copies/code; do cat $f >/dev/null 2>&1 && echo read $f; done
         for f in store.db keys/one.pem free/link free/data copies/code; do (echo x >> $f) 2>/dev/null && echo wrote $f; done
         rm -f store.db 2>/dev/null; mv free/data store.db 2>/dev/null; rm -f keys/one.pem 2>/dev/null
         (echo x > free/new) && cat free/new; (echo x > later.db) 2>/dev/null; (echo x > copies/new) 2>/dev/null && echo put; rm -f copies/code 2>/dev/null; (echo x > other) 2>/dev/null
         mv above moved 2>/dev/null && echo moved; mv keys moved 2>/dev/null && echo moved; mkdir made 2>/dev/null && echo made
         ln -s free linked 2>/dev/null && echo linked; mkfifo pipe 2>/dev/null && echo piped
         mkdir free/made && ln -s made free/linked && mv free/made free/moved && mkfifo free/pipe && rm free/linked free/pipe && rmdir free/moved && echo freely
         t=$(mktemp) && echo tmp > $t && cat $t && rm $t; echo out > /dev/stdout; echo nothing > /dev/null; ls / > /dev/null && echo listed",
        folder.display()
    );
    let users = if is_root() { vec![Some((NOBODY, NOBODY)), Some((0, 0))] } else { vec![None] };
    for user in users {
        std::fs::write(at("free/data"), "words").unwrap();
        let said = block_on(async {
            let spawner = Spawner::hiding(hidden.clone(), Some(at("copies"))).unwrap();
            let mut process = spawner.spawn(Launch { user, ..shell(&script) }).await.unwrap();
            let said = read(process.stdout.as_ref().unwrap(), false).await;
            process.ended().await;
            said
        });
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines,
            [
                "read beside",
                "read free/data",
                "read keys-of-others",
                "read copies/code",
                "wrote free/data",
                "x",
                "freely",
                "tmp",
                "out",
                "listed"
            ],
            "{user:?}"
        );
        for kept in ["store.db", "keys/one.pem", "copies/code"] {
            assert_eq!(std::fs::read_to_string(at(kept)).unwrap(), "words", "{kept}");
        }
        assert!(!at("later.db").exists() && !at("none").exists());
        std::fs::remove_file(at("free/new")).unwrap();
    }
}
