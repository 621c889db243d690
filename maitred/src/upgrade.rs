//! One process takes the place of another without a lost connection. Here are both sides: the old one starts the installed program
//! again and hands it the listening sockets; the new one comes to the point where nothing can fail any more, says so, and waits for the
//! word. Until then the old one serves, and whatever goes wrong, it goes on.
//!
//! ```text
//!  old                               new
//!  starts it          ------------>  MAITRED_UPGRADE_FD says where to read
//!  the sockets        ------------>  loads, compiles, takes them, accepts nothing
//!                     <------------  ready, and which listeners it took (or why not)
//!  go                 ------------>  accepts
//!  closes its copies, drains, ends
//! ```

use crate::cli::Remote;
use crate::output::{Exit, print};
use crate::remote;
use crate::systemd::{self, Environment};
use crate::upstreams;
use crate::wire::{House, lock};
use anyhow::{Context, bail, ensure};
use maitred_control::{NotUpgraded, Successor};
use maitred_dataplane::Handover;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

/// For the new process to be ready: it may wait five seconds for names, and read many files.
const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// How often the old process looks whether it was told to stop meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// For a new process that closed its side to be gone, so that its exit code can be told.
const EXIT_TIME_MAX: Duration = Duration::from_secs(1);
/// For the admin listener to close, before anybody is told.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);
/// Bytes of what the new process answers: a few addresses, or the diagnostics of its configuration.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What `maitred upgrade` waits for an answer: the new process, and a reload that was under way before.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(55);
/// The descriptor on which a new process finds the old one.
const VARIABLE: &str = "MAITRED_UPGRADE_FD";

const READY: u8 = b'R';
const FAILED: u8 = b'F';
const GO: u8 = b'G';

/// `maitred upgrade`
pub fn main(arguments: &Remote) -> anyhow::Result<Exit> {
    let answer = remote::ask(&arguments.place(), "POST", "/upgrade", ANSWER_TIME_MAX)?;
    ensure!(answer.status == 200, "not upgraded; the process from before goes on: {}", answer.detail());
    let (pid, version) = (&answer.body["pid"], answer.body["version"].as_str().unwrap_or_default());
    print(&format!("upgraded: process {pid}, maitred {version}, serves; the one before it ends with its last connection\n"))?;
    Ok(Exit::Fine)
}

/// How this process was started, for it to be started again.
#[derive(Debug)]
pub struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Invocation {
    /// Called at the start: later the name may lead elsewhere, or this program be replaced.
    pub fn of_this_process() -> Option<Invocation> {
        let mut arguments = std::env::args_os();
        let program = installed(&arguments.next()?, std::env::var_os("PATH").as_deref())?;
        Some(Invocation { program, arguments: arguments.collect() })
    }
}

/// The path that a shell took the name for. Links stay links: whoever installs a version by turning one means the new one.
fn installed(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    let name = PathBuf::from(name);
    if name.components().count() > 1 {
        return std::path::absolute(name).ok();
    }
    let places = std::env::split_paths(path.unwrap_or_default()).map(|folder| folder.join(&name));
    let found = places.into_iter().find(|place| place.is_file()).or_else(|| std::env::current_exe().ok());
    found.and_then(|found| std::path::absolute(found).ok())
}

/// What a process is born with.
#[derive(Default)]
pub struct Inheritance {
    /// Absent: this process cannot be started again.
    pub invocation: Option<Invocation>,
    pub predecessor: Option<Predecessor>,
    pub systemd: Environment,
    /// The sockets that systemd opened, with their names.
    pub sockets: Vec<(String, OwnedFd)>,
}

impl Inheritance {
    /// Reads it from the environment, and takes out of that what is meant for this process alone.
    ///
    /// # Safety
    ///
    /// No other thread may run yet: it could read the environment meanwhile.
    pub unsafe fn take() -> anyhow::Result<Inheritance> {
        let systemd = Environment::read();
        let descriptor = std::env::var_os(VARIABLE);
        for name in [VARIABLE].iter().chain(&Environment::OURS_ALONE) {
            // SAFETY: as above.
            #[expect(clippy::disallowed_methods, reason = "no thread runs yet; a child must not find what is meant for us")]
            unsafe {
                std::env::remove_var(name);
            }
        }
        let predecessor = descriptor.map(|descriptor| Predecessor::at(&descriptor)).transpose()?;
        let sockets = systemd.sockets(std::process::id()).context("systemd opened sockets that are not usable")?;
        Ok(Inheritance { invocation: Invocation::of_this_process(), predecessor, systemd, sockets })
    }
}

/// The process that this one replaces.
pub struct Predecessor(UnixStream);

/// What session tickets are sealed with, unless the configuration has a key.
pub const TICKET_SECRET: &str = "session tickets";
/// Endpoints that were taken out by hand: `[[upstream, address]]`. No secret, but it travels with them.
pub const DRAINED: &str = "drained endpoints";

impl Predecessor {
    fn at(descriptor: &OsStr) -> anyhow::Result<Predecessor> {
        let number =
            descriptor.to_str().and_then(|text| text.parse().ok()).with_context(|| format!("{VARIABLE} is no number"))?;
        Ok(Predecessor(systemd::adopt(number).context(VARIABLE)?.into()))
    }

    pub fn receive(&self) -> anyhow::Result<Handover> {
        Handover::receive(&self.0).context("the process from before hands over what this one does not understand")
    }

    /// Says that this process could serve, with these listeners, and waits for the word. An error: it must not.
    pub fn ready(&self, taken: &[String]) -> anyhow::Result<()> {
        self.say(READY, &json!({ "version": env!("CARGO_PKG_VERSION"), "taken": taken }).to_string());
        let mut word = [0];
        match (&self.0).read_exact(&mut word) {
            Ok(()) if word == [GO] => Ok(()),
            Ok(()) => bail!("the process from before says what this one does not understand"),
            Err(_) => bail!("the process from before went on, or ended, before this one could serve"),
        }
    }

    /// Why this process will not serve.
    pub fn failed(&self, why: &str) {
        let ends = (0..=why.len().min(ANSWER_BYTES_MAX)).rev();
        let end = ends.into_iter().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
        self.say(FAILED, &why[..end]);
    }

    fn say(&self, kind: u8, text: &str) {
        let message = [&[kind][..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
        // Nobody who listens is found out when the answer is read.
        let _ = (&self.0).write_all(&message);
    }
}

/// Where this process stands between its predecessor and its successor.
pub struct Succession {
    pub invocation: Option<Invocation>,
    /// Held while one is under way.
    pub turn: Mutex<()>,
    pub stage: Mutex<Stage>,
    /// A copy of the admin listener's socket.
    pub admin: Mutex<Option<OwnedFd>>,
    /// Wakes the thread that waits for the end.
    pub ends: SyncSender<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Serving,
    /// Told to stop: nobody takes over any more.
    Stopping,
    /// Another process serves.
    HandedOver,
}

/// Why a gateway ends.
#[derive(Debug)]
pub enum End {
    Stop,
    /// To be told when the admin listener is closed here.
    HandedOver(SyncSender<()>),
}

impl Succession {
    /// From here on this process ends, one way or the other: which one.
    pub fn conclude(&self) -> Stage {
        let mut stage = lock(&self.stage);
        if *stage == Stage::Serving {
            *stage = Stage::Stopping;
        }
        *stage
    }
}

impl House {
    /// Starts the installed program in this one's place. An error: this one goes on as before.
    pub fn upgrade(&self, cause: &'static str) -> Result<Successor, NotUpgraded> {
        let done = self.try_upgrade();
        match &done {
            Ok(Successor { pid, version }) => tracing::info!(pid, version, cause, "upgraded: another process serves"),
            Err(why) => tracing::error!("not upgraded ({cause}); this process goes on: {}", why.to_string().trim_end()),
        }
        done
    }

    fn try_upgrade(&self) -> Result<Successor, NotUpgraded> {
        let refused = |words: &str| Err(NotUpgraded::Refused(words.to_owned()));
        let Some(invocation) = &self.succession.invocation else {
            return refused("it is not known how this process was started");
        };
        if std::process::id() == 1 {
            return refused("this is process 1, with which its container ends: start a new container instead");
        }
        let _alone = match self.succession.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return refused("an upgrade is under way"),
        };
        // A reload meanwhile could open a listener of which the new process knows nothing.
        let _no_reload = lock(&self.turn);
        if self.gateway.is_draining() {
            return refused("the gateway is draining");
        }
        tracing::info!(program = %invocation.program.display(), "upgrading");
        self.notifier.status("upgrading");
        self.replace(invocation).map_err(|error| {
            self.tell_ready();
            NotUpgraded::Failed(format!("{error:#}"))
        })
    }

    fn replace(&self, invocation: &Invocation) -> anyhow::Result<Successor> {
        let handover = self.handover()?;
        let mut heir = Heir::start(invocation)?;
        let is_stopping = || *lock(&self.succession.stage) == Stage::Stopping;
        let Ready { version, taken } = heir.prepare(&handover, Instant::now() + READY_TIME_MAX, is_stopping)?;
        drop(handover);
        // The new process reads it when it has the word.
        self.store.keep_usage();
        let pid = {
            let mut stage = lock(&self.succession.stage);
            ensure!(*stage == Stage::Serving, "this process was told to stop meanwhile");
            let pid = heir.go()?;
            *stage = Stage::HandedOver;
            pid
        };
        self.notifier.main_pid(pid);
        self.gateway.release(&taken);
        self.gateway.begin_drain();
        *lock(&self.succession.admin) = None;
        let (closed, open) = sync_channel(1);
        // The other side is gone only if nobody waits for the end of this process.
        let _ = self.succession.ends.send(End::HandedOver(closed));
        // Whoever is told of the new process asks that one next.
        let _ = open.recv_timeout(CLOSE_TIME_MAX);
        Ok(Successor { pid, version })
    }

    fn handover(&self) -> anyhow::Result<Handover> {
        let listeners = self.gateway.sockets().context("cannot copy a listening socket")?;
        let socket = lock(&self.succession.admin).as_ref().map(OwnedFd::try_clone).transpose();
        let admin = socket.context("cannot copy the admin listener's socket")?;
        let admin = admin.map(|socket| (self.admin.listen.value.to_string(), socket));
        // Sessions that clients hold go on with the next process.
        let mut secrets = vec![(TICKET_SECRET.to_owned(), self.state.ticket_secret().to_vec())];
        let drained = upstreams::taken_out(&self.gateway.snapshot());
        if !drained.is_empty() {
            secrets.push((DRAINED.to_owned(), serde_json::to_vec(&drained).context("cannot name the drained endpoints")?));
        }
        Ok(Handover { listeners, admin, secrets })
    }
}

/// The process that is to serve. It is ended unless it was given the word.
struct Heir {
    child: Option<Child>,
    stream: UnixStream,
}

/// What a new process says when it could serve.
#[derive(Debug, PartialEq, Eq)]
struct Ready {
    version: String,
    taken: Vec<String>,
}

impl Heir {
    fn start(invocation: &Invocation) -> anyhow::Result<Heir> {
        let (ours, theirs) = UnixStream::pair().context("cannot open a socket")?;
        let descriptor = theirs.as_raw_fd();
        let mut command = Command::new(&invocation.program);
        command.args(&invocation.arguments).env(VARIABLE, descriptor.to_string());
        for name in Environment::OURS_ALONE {
            command.env_remove(name);
        }
        // SAFETY: what runs between fork and exec is one system call, which a signal handler might make as well.
        unsafe {
            command.pre_exec(move || match libc::fcntl(descriptor, libc::F_SETFD, 0) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", invocation.program.display()))?;
        Ok(Heir { child: Some(child), stream: ours })
    }

    /// Hands over, and waits until it is ready.
    fn prepare(&mut self, handover: &Handover, until: Instant, is_stopping: impl Fn() -> bool) -> anyhow::Result<Ready> {
        self.stream.set_write_timeout(Some(READY_TIME_MAX))?;
        self.stream.set_read_timeout(Some(LOOK))?;
        // Who does not read it has ended, or is about to say why.
        let sent = handover.send(&self.stream);
        match self.answer(until, is_stopping)? {
            Some((READY, text)) => {
                sent.context("cannot hand over the listening sockets")?;
                ready(&text).context("the new process says what this one does not understand")
            }
            Some((FAILED, text)) => bail!("the new process does not start: {}", String::from_utf8_lossy(&text).trim_end()),
            Some(_) => bail!("the new process says what this one does not understand"),
            None => bail!("the new process ended before it could serve: {}", self.exit()),
        }
    }

    /// What it says: a kind, and a text. `None`: it closed its side.
    fn answer(&mut self, until: Instant, is_stopping: impl Fn() -> bool) -> anyhow::Result<Option<(u8, Vec<u8>)>> {
        let mut said = Vec::new();
        let mut piece = [0; 4096];
        loop {
            if let [kind, a, b, c, d, text @ ..] = &said[..] {
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                ensure!(length <= ANSWER_BYTES_MAX, "the new process says more than {ANSWER_BYTES_MAX} bytes");
                if let Some(text) = text.get(..length) {
                    return Ok(Some((*kind, text.to_vec())));
                }
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(count) => said.extend_from_slice(&piece[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                // It ended without reading all that it was sent.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error).context("cannot hear the new process"),
            }
            ensure!(!is_stopping(), "this process was told to stop meanwhile");
            ensure!(Instant::now() < until, "the new process was not ready in time");
        }
    }

    fn exit(&mut self) -> String {
        let until = Instant::now() + EXIT_TIME_MAX;
        let Some(child) = &mut self.child else { return "no process".to_owned() };
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return format!("{status}; the log says why"),
                Ok(None) if Instant::now() < until => std::thread::park_timeout(LOOK),
                Ok(None) => return "it closed the connection to this process".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Gives it the word.
    fn go(&mut self) -> anyhow::Result<u32> {
        (&self.stream).write_all(&[GO]).context("the new process is gone")?;
        let child = self.child.take().context("the new process is gone")?;
        Ok(child.id())
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails if it has ended, and then it only has to be buried.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ready(text: &[u8]) -> anyhow::Result<Ready> {
    let said: Value = serde_json::from_slice(text)?;
    let version = said["version"].as_str().context("no version")?.to_owned();
    let taken = said["taken"].as_array().context("no listeners")?;
    let taken = taken.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>().context("no address")?;
    Ok(Ready { version, taken })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heir(child: Child, stream: UnixStream) -> Heir {
        Heir { child: Some(child), stream }
    }

    /// A process that does nothing until it is ended, with one end of a socket; the other end is a test's.
    fn sleeper() -> (Heir, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (heir(Command::new("sleep").arg("1000").spawn().unwrap(), ours), theirs)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_name_is_what_a_shell_would_take_it_for() {
        let folder = std::env::temp_dir().join(format!("maitred-installed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let link = folder.join("gateway");
        std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
        let path = std::env::join_paths([std::path::Path::new("/nowhere"), &folder]).unwrap();
        let installed = |name: &str| installed(OsStr::new(name), Some(&path)).unwrap();
        assert_eq!(installed("gateway"), link, "the link, not what it leads to");
        assert_eq!(installed(link.to_str().unwrap()), link);
        assert_eq!(installed("./x/gateway"), std::env::current_dir().unwrap().join("x/gateway"));
        assert_eq!(installed("no-such-name"), std::env::current_exe().unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_new_process_waits_for_the_word_and_the_old_one_for_it() {
        let (mut heir, theirs) = sleeper();
        let predecessor = Predecessor(theirs);
        let new = std::thread::spawn(move || {
            let handover = predecessor.receive().unwrap();
            assert!(handover.listeners.is_empty());
            predecessor.ready(&["127.0.0.1:0".to_owned()])
        });
        let ready = heir.prepare(&Handover::default(), soon(), || false).unwrap();
        assert_eq!(ready, Ready { version: env!("CARGO_PKG_VERSION").to_owned(), taken: vec!["127.0.0.1:0".to_owned()] });
        assert!(!new.is_finished(), "nobody said go");
        let pid = heir.go().unwrap();
        new.join().unwrap().unwrap();
        // SAFETY: two numbers, and a process that this test started.
        assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
    }

    fn failure(say: impl FnOnce(&Predecessor), until: Instant, is_stopping: bool) -> String {
        let (mut heir, theirs) = sleeper();
        let predecessor = Predecessor(theirs);
        say(&predecessor);
        let failure = heir.prepare(&Handover::default(), until, || is_stopping).unwrap_err();
        drop(predecessor);
        format!("{failure:#}")
    }

    #[test]
    fn whatever_the_new_process_does_wrong_is_said() {
        let nothing = |_: &Predecessor| {};
        assert_eq!(failure(nothing, Instant::now(), false), "the new process was not ready in time");
        assert_eq!(failure(nothing, soon(), true), "this process was told to stop meanwhile");
        let refuses = |new: &Predecessor| new.failed("error: no such key\n");
        assert_eq!(failure(refuses, soon(), false), "the new process does not start: error: no such key");
        let babbles = |new: &Predecessor| new.say(b'?', "");
        assert_eq!(failure(babbles, soon(), false), "the new process says what this one does not understand");
        let shouts = |new: &Predecessor| new.say(FAILED, &"x".repeat(ANSWER_BYTES_MAX + 1));
        assert!(failure(shouts, soon(), false).contains("more than 65536 bytes"));
        let lists_nothing = |new: &Predecessor| new.say(READY, "{\"version\":\"1\"}");
        assert!(failure(lists_nothing, soon(), false).contains("no listeners"));
    }

    #[test]
    fn a_long_complaint_is_cut_where_a_letter_ends() {
        let complains = |new: &Predecessor| new.failed(&"é".repeat(ANSWER_BYTES_MAX));
        let said = failure(complains, soon(), false);
        assert_eq!(said.matches('é').count(), ANSWER_BYTES_MAX / 2);
    }

    #[test]
    fn a_new_process_that_ends_tells_its_exit_code() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut heir = heir(Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap(), ours);
        drop(theirs);
        let said = heir.prepare(&Handover::default(), soon(), || false).unwrap_err().to_string();
        assert!(said.contains("exit status: 3"), "{said}");
    }

    #[test]
    fn an_old_process_that_ends_takes_the_new_one_with_it() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert!(Predecessor(theirs).ready(&[]).is_err());
    }
}
