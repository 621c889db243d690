//! The thread that starts processes and lays them to rest. It is one and the same for all, and outlives them: a parent-death signal goes by
//! the thread that forked. Looking through /proc is its work too, so that nobody's event waits for it.

use super::family::{Family, Processes};
use super::setup::Begun;
use super::{Exit, Launch, Process, sandbox, setup};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Orders that wait for the thread; each takes it about a millisecond. Who finds no place is refused.
const ORDERS_MAX: usize = 1024;
/// How often the memory of those is looked at that may only have so much.
const MEMORY_EVERY: Duration = Duration::from_millis(250);
/// How often those are looked at that were killed and have not ended yet.
const DYING_EVERY: Duration = Duration::from_millis(5);
/// What was killed ends at once, unless a disk or a network holds it; the gateway does not wait for those.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);
/// A function dies before the gateway does, where memory is short (proc(5), oom_score_adj).
const OOM_SCORE: &str = "500";

/// The thread that starts processes. When this is dropped all of them are killed, and waited for.
#[derive(Debug)]
pub struct Spawner {
    orders: SyncSender<Order>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    Spawn {
        launch: Launch,
        reply: oneshot::Sender<io::Result<Started>>,
    },
    /// It has ended.
    Reap {
        pid: u32,
        reply: oneshot::Sender<Exit>,
    },
    /// Somebody was forgotten.
    Look,
    Stop,
}

#[derive(Debug)]
pub(super) struct Started {
    pub child: Child,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    pub family: Family,
}

/// One's hold on a process. The process id is its own until it is reaped, which only the spawner does.
#[derive(Debug)]
pub(super) struct Child {
    pid: u32,
    /// Readable when it has ended.
    descriptor: OwnedFd,
    orders: SyncSender<Order>,
    forgotten: Arc<AtomicBool>,
    /// From here on the id may be another's.
    is_reaped: bool,
}

impl Spawner {
    /// As far as the kernel can, those files and folders are neither read nor changed by what is started, whoever it runs as; and what is in
    /// `copies` is only read, where that folder is beside one of them.
    pub fn hiding(hidden: Vec<PathBuf>, copies: Option<PathBuf>) -> io::Result<Spawner> {
        if !hidden.is_empty() && !sandbox::can_hide() {
            tracing::warn!("this kernel has no Landlock: functions of the gateway's own user may read what the gateway may");
        }
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let own = orders.clone();
        let thread = thread::Builder::new().name("spawner".into()).spawn(move || {
            Nursery { orders: own, hidden, copies, children: HashMap::new(), memory_seen: Instant::now() }.run(&inbox);
        })?;
        Ok(Spawner { orders, thread: Some(thread) })
    }

    /// Starts a process, which the runtime of whoever awaits this will watch. `ResourceBusy` where too many starts wait.
    pub async fn spawn(&self, launch: Launch) -> io::Result<Process> {
        let (reply, answer) = oneshot::channel();
        self.orders.try_send(Order::Spawn { launch, reply }).map_err(|error| match error {
            TrySendError::Full(_) => io::Error::new(io::ErrorKind::ResourceBusy, "too many processes are being started"),
            TrySendError::Disconnected(_) => io::ErrorKind::BrokenPipe.into(),
        })?;
        Process::watched(answer.await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // Waits for a place where there is none: the thread takes one order after another, and none of them waits for anybody.
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Child {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// To the process and its group.
    pub(super) fn signal(&self, signal: i32) {
        if !self.is_reaped {
            signal_group(self.pid, signal);
        }
    }

    /// To the process alone.
    pub(super) fn stop(&self) {
        if let (false, Ok(pid @ 2..)) = (self.is_reaped, i32::try_from(self.pid)) {
            // SAFETY: two numbers. The id is that of a child that nobody has waited for, and so nobody else's.
            unsafe { libc::kill(pid, libc::SIGSTOP) };
        }
    }

    /// For a process that has ended, once.
    pub(super) fn reap(&mut self) -> Option<oneshot::Receiver<Exit>> {
        let (reply, exit) = oneshot::channel();
        match self.orders.try_send(Order::Reap { pid: self.pid, reply }) {
            Ok(()) => {
                self.is_reaped = true;
                Some(exit)
            }
            // Then the drop sees to it.
            Err(_) => None,
        }
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        self.signal(libc::SIGKILL);
        self.forgotten.store(true, Ordering::Release);
        // Where there is no place the thread has other orders, and looks after each.
        let _ = self.orders.try_send(Order::Look);
    }
}

/// What the thread knows.
struct Nursery {
    orders: SyncSender<Order>,
    hidden: Vec<PathBuf>,
    copies: Option<PathBuf>,
    children: HashMap<u32, Known>,
    memory_seen: Instant,
}

struct Known {
    forgotten: Arc<AtomicBool>,
    family: Family,
    memory: Option<u64>,
    /// What it had, and the most, where it had more.
    too_large: Option<(u64, u64)>,
}

impl Nursery {
    fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            let order = match self.pause() {
                Some(pause) => inbox.recv_timeout(pause),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(Order::Spawn { launch, reply }) => {
                    // Whoever no longer waits drops what was started, which ends it.
                    let _ = reply.send(self.spawn(&launch));
                }
                Ok(Order::Reap { pid, reply }) => {
                    let _ = reply.send(self.reap(pid));
                }
                Ok(Order::Look) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.bury_forgotten();
            if self.memory_seen.elapsed() >= MEMORY_EVERY {
                self.watch_memory();
                self.memory_seen = Instant::now();
            }
        }
        self.end_all();
    }

    /// Until it has something to look at of itself.
    fn pause(&self) -> Option<Duration> {
        if self.children.values().any(|known| known.forgotten.load(Ordering::Acquire)) {
            return Some(DYING_EVERY);
        }
        self.children.values().any(|known| known.memory.is_some()).then_some(MEMORY_EVERY)
    }

    fn spawn(&mut self, launch: &Launch) -> io::Result<Started> {
        let Begun { pid, stdout, stderr } = setup::begin(launch, &self.hidden, self.copies.as_deref())?;
        let forgotten = Arc::new(AtomicBool::new(false));
        let family = Family::new(pid, launch);
        let known = family.clone();
        self.children.insert(pid, Known { forgotten: forgotten.clone(), family: known, memory: launch.memory, too_large: None });
        let descriptor = match descriptor_of(pid) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                signal_group(pid, libc::SIGKILL);
                forgotten.store(true, Ordering::Release);
                return Err(error);
            }
        };
        let child = Child { pid, descriptor, orders: self.orders.clone(), forgotten, is_reaped: false };
        // It is a wish: a container may forbid it.
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE);
        Ok(Started { child, stdout: Some(stdout), stderr: Some(stderr), family })
    }

    /// Of one that has ended: kills what it left behind while its id is still its own.
    fn reap(&mut self, pid: u32) -> Exit {
        let Some(known) = self.children.remove(&pid) else { return Exit::Signal(libc::SIGKILL) };
        known.family.kill();
        match (wait(pid), known.too_large) {
            (Some(Exit::Signal(libc::SIGKILL)), Some((had, most))) => Exit::Memory { had, most },
            (Some(exit), _) => exit,
            // Somebody else in this process reaped it, which nobody should.
            (None, _) => Exit::Signal(libc::SIGKILL),
        }
    }

    fn bury_forgotten(&mut self) {
        self.children.retain(|pid, known| {
            if !known.forgotten.load(Ordering::Acquire) {
                return true;
            }
            if !has_ended(*pid) {
                return true;
            }
            known.family.kill();
            wait(*pid);
            false
        });
    }

    fn watch_memory(&mut self) {
        if self.children.values().all(|known| known.memory.is_none()) {
            return;
        }
        let processes = Processes::read();
        for (pid, known) in &mut self.children {
            let Some(most) = known.memory else { continue };
            let had = known.family.memory(&processes);
            if had > most {
                known.too_large = known.too_large.or(Some((had, most)));
                signal_group(*pid, libc::SIGKILL);
            }
        }
    }

    fn end_all(&mut self) {
        for (pid, known) in &self.children {
            known.forgotten.store(true, Ordering::Release);
            signal_group(*pid, libc::SIGKILL);
        }
        let until = Instant::now() + STOP_TIME_MAX;
        loop {
            self.bury_forgotten();
            if self.children.is_empty() || Instant::now() >= until {
                return;
            }
            thread::sleep(DYING_EVERY);
        }
    }
}

/// The group of a child that has not been reaped.
fn signal_group(pid: u32, signal: i32) {
    if let Ok(pid @ 2..) = i32::try_from(pid) {
        // SAFETY: two numbers. The id is that of a child that nobody has waited for, and so nobody else's.
        unsafe { libc::kill(-pid, signal) };
    }
}

/// Whether it can be waited for without waiting. It stays what it is.
fn has_ended(pid: u32) -> bool {
    // SAFETY: a struct of numbers, for which zeros are values.
    let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: a struct of ours to write to, of which nothing is kept.
    let found = unsafe { libc::waitid(libc::P_PID, pid, &raw mut information, options) };
    // SAFETY: the kernel wrote it, or left it zero: nobody has ended.
    found == -1 || unsafe { information.si_pid() } != 0
}

/// `None`: it is no child of ours any more.
fn wait(pid: u32) -> Option<Exit> {
    let mut status = 0;
    loop {
        // SAFETY: a number of ours to write to, and an id that is a child's.
        let waited = unsafe { libc::waitpid(pid as i32, &raw mut status, 0) };
        if waited == -1 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        if waited != pid as i32 {
            return None;
        }
        return Some(match libc::WIFSIGNALED(status) {
            true => Exit::Signal(libc::WTERMSIG(status)),
            false => Exit::Code(libc::WEXITSTATUS(status)),
        });
    }
}

fn descriptor_of(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: two numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is new, and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}
