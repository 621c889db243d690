//! Processes that this benchmark starts, measures and ends: by their own id, never by name.
//! They end when their guard is dropped, on a signal to the benchmark, and (the kernel sees to it) when it dies at once.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use crate::sys;

/// Alive at the same time at most; a few proxies and back ends.
const PROCESSES_MAX: usize = 64;
/// What a process gets to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks at something that cannot be waited for otherwise.
pub const LOOK: Duration = Duration::from_micros(500);

static ALIVE: [AtomicI32; PROCESSES_MAX] = [const { AtomicI32::new(0) }; PROCESSES_MAX];

/// How a process is asked to end. nginx needs SIGTERM: its workers would outlive a killed master.
#[derive(Clone, Copy)]
pub enum Ending {
    Kill,
    Terminate,
}

impl Ending {
    fn signal(self) -> i32 {
        match self {
            Ending::Kill => libc::SIGKILL,
            Ending::Terminate => libc::SIGTERM,
        }
    }
}

pub struct Running {
    child: Child,
    ending: Ending,
    slot: usize,
}

impl Running {
    /// Must be called on the main thread: the kernel ends the child when the thread that started it ends.
    pub fn start(mut command: Command, ending: Ending, core: Option<usize>) -> io::Result<Running> {
        let parent = std::process::id() as i32;
        let signal = ending.signal();
        // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, signal);
                if libc::getppid() != parent {
                    libc::_exit(1);
                }
                core.map_or(Ok(()), |core| sys::pin(&[core]))
            });
        }
        let slot = ALIVE.iter().position(|slot| slot.load(Ordering::SeqCst) == 0);
        let slot = slot.ok_or_else(|| io::Error::other("too many processes"))?;
        let child = command.spawn().map_err(|e| io::Error::other(format!("{:?}: {e}", command.get_program())))?;
        let mark = child.id() as i32;
        // The sign says how to end it: a signal handler can read no more than one number.
        ALIVE[slot].store(if signal == libc::SIGTERM { -mark } else { mark }, Ordering::SeqCst);
        Ok(Running { child, ending, slot })
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: our own child, not yet reaped, so the id is still its.
        unsafe { libc::kill(self.pid(), signal) };
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let ended = until(limit, || self.child.try_wait().transpose());
        ended.unwrap_or_else(|| Err(io::Error::other("a process did not end in time")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended() {
            let family = tree(self.pid());
            self.signal(self.ending.signal());
            if until(GRACE, || self.ended().then_some(())).is_none() {
                // SAFETY: its children were listed while it lived, and it has not been reaped.
                family.iter().for_each(|&pid| unsafe { _ = libc::kill(pid, libc::SIGKILL) });
                let _ = self.child.wait();
            }
        }
        ALIVE[self.slot].store(0, Ordering::SeqCst);
    }
}

/// Looks until there is an answer or the time is over.
pub fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// On Ctrl-C and its kin: end what was started, then ourselves.
pub fn end_all_on_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only reads atomics and calls kill and _exit.
        unsafe { libc::signal(signal, end_all as *const () as libc::sighandler_t) };
    }
}

extern "C" fn end_all(signal: libc::c_int) {
    for slot in &ALIVE {
        let mark = slot.load(Ordering::SeqCst);
        // SAFETY: kill and _exit are async-signal-safe; the id is a child's that was not reaped.
        match mark {
            0 => {}
            1.. => unsafe { _ = libc::kill(mark, libc::SIGKILL) },
            _ => unsafe { _ = libc::kill(-mark, libc::SIGTERM) },
        }
    }
    // SAFETY: as above.
    unsafe { libc::_exit(128 + signal) }
}

/// The process and all its descendants.
pub fn tree(root: i32) -> Vec<i32> {
    let mut pairs = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name in parentheses (which may hold anything): state, then the parent.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<i32>().ok());
        pairs.extend(parent.map(|parent| (parent, pid)));
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        family.extend(pairs.iter().filter(|(parent, _)| *parent == member).map(|(_, pid)| *pid));
        next += 1;
    }
    family
}

/// Whether a process stands still until it is told to go on.
pub fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// A reader of the CPU time of a process and all its descendants, in nanoseconds. Who they are is settled here,
/// outside the window; proxies at work start nobody new.
pub fn cpu_gauge(root: i32) -> impl FnMut() -> io::Result<u64> {
    let family = tree(root);
    move || family.iter().map(|&pid| sys::process_cpu_ns(pid)).sum()
}

/// Time in user space and in the kernel, in ticks, of a process and all its descendants. Sampled by the tick, so good
/// for a share over seconds and for nothing finer.
pub fn user_and_system_ticks(root: i32) -> (u64, u64) {
    let ticks = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).map(|field| field.parse::<u64>().ok());
        Some((fields.next()??, fields.next()??))
    };
    tree(root).into_iter().filter_map(ticks).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// How often others took the core from a process tree or its threads. Pinned alone on a core, nobody should.
pub fn preemptions(root: i32) -> u64 {
    let threads = |pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let count = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    let statuses = tree(root).into_iter().flat_map(threads).map(|thread| fs::read_to_string(thread.path().join("status")));
    statuses.filter_map(|status| count(status.ok()?)).sum()
}

/// Resident memory of a process and all its descendants, in bytes.
pub fn resident_bytes(root: i32) -> io::Result<u64> {
    tree(root).into_iter().map(resident).sum()
}

/// smaps_rollup counts pages; the figures in statm may lag by some dozens of them for each core.
fn resident(pid: i32) -> io::Result<u64> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).or_else(|_| fs::read_to_string(format!("/proc/{pid}/status")))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:").or_else(|| line.strip_prefix("VmRSS:")));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.ok_or_else(|| io::Error::other("no resident size"))? * 1024)
}
