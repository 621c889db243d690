//! Who belongs to a process: its session, its group, its children's children, and those who left all of that and still have its mark in
//! their environment. From /proc, which says all of it to root and to the user that runs them.

use super::{Launch, MARK};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Who forks faster than it is killed is found again; none was seen to need three rounds.
const ROUNDS_MAX: usize = 16;
/// Of an environment, the most that is looked through.
const ENVIRONMENT_BYTES_MAX: usize = 256 * 1024;

/// Who one process is, and how those are told that it started.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pid: u32,
    /// `NAME=value`, as it stands in an environment.
    mark: Option<Vec<u8>>,
    /// `None`: root, who may become anybody.
    user: Option<u32>,
}

/// One line of what runs at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    parent: u32,
    group: u32,
    session: u32,
    /// In ticks since the system was started: with the id it is one process alone.
    start: u64,
}

#[derive(Debug, Default)]
pub(super) struct Processes(HashMap<u32, Seen>);

impl Processes {
    /// Some ten microseconds for each that runs.
    pub(super) fn read() -> Processes {
        let Ok(entries) = fs::read_dir("/proc") else { return Processes::default() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Processes(pids.filter_map(|pid| Some((pid, seen(pid)?))).collect())
    }
}

impl Family {
    pub(super) fn new(pid: u32, launch: &Launch) -> Family {
        let mark = launch.environment.iter().find(|(name, _)| name == MARK);
        let mark = mark.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        // SAFETY: takes nothing, returns a number.
        let gateway = Some(unsafe { libc::geteuid() }).filter(|user| *user != 0);
        Family { pid, mark, user: launch.user.map(|(user, _)| user).or(gateway) }
    }

    /// All but the process itself, and those that have ended.
    pub(super) fn members(&self, processes: &Processes) -> HashSet<u32> {
        let mut members = self.kin(processes);
        let first = processes.0.get(&self.pid).map_or(0, |own| own.start);
        if let Some(mark) = &self.mark {
            // Whoever was left by its parent has another: the first process, or one that takes in orphans.
            let is_stranger = |pid: u32| pid != self.pid && !members.contains(&pid);
            let strangers = processes.0.iter().filter(|(pid, seen)| seen.start >= first && is_stranger(**pid));
            let marked: Vec<u32> = strangers.map(|(pid, _)| *pid).filter(|pid| self.has_mark(*pid, mark)).collect();
            members.extend(marked);
        }
        members
    }

    /// Those that the kernel says are its own. The mark is no secret, and so opens nothing: anybody can write it into an environment.
    pub(super) fn kin(&self, processes: &Processes) -> HashSet<u32> {
        let mut members = HashSet::from([self.pid]);
        loop {
            let before = members.len();
            for (pid, seen) in &processes.0 {
                let is_ours = seen.session == self.pid || seen.group == self.pid || members.contains(&seen.parent);
                if is_ours && *pid != self.pid {
                    members.insert(*pid);
                }
            }
            if members.len() == before {
                break;
            }
        }
        members.remove(&self.pid);
        members
    }

    /// Whether a process of that user can be one of them. Who is root may become anybody.
    pub(super) fn may_be(&self, user: u32) -> bool {
        self.user.is_none_or(|own| own == user || own == 0)
    }

    fn has_mark(&self, pid: u32, mark: &[u8]) -> bool {
        use std::io::Read;
        use std::os::unix::fs::MetadataExt;
        let path = format!("/proc/{pid}/environ");
        let is_users = fs::metadata(&path).is_ok_and(|entry| self.user.is_none_or(|user| entry.uid() == user));
        let mut environment = Vec::new();
        let read = || fs::File::open(&path)?.take(ENVIRONMENT_BYTES_MAX as u64).read_to_end(&mut environment);
        is_users && { read }().is_ok() && environment.split(|byte| *byte == 0).any(|variable| variable == mark)
    }

    /// Kills all that the process started, and its group. The process has not been reaped: its id is its own.
    pub(super) fn kill(&self) {
        let mut killed = HashSet::new();
        for _ in 0..ROUNDS_MAX {
            let processes = Processes::read();
            let members = self.members(&processes);
            let mut news =
                members.into_iter().filter_map(|pid| Some((pid, processes.0.get(&pid)?.start))).collect::<HashSet<_>>();
            news.retain(|member| !killed.contains(member));
            if news.is_empty() {
                return;
            }
            for (pid, start) in &news {
                // It may have ended meanwhile; then there is nobody to kill.
                let _ = kill(*pid, *start);
            }
            killed.extend(news);
        }
        tracing::warn!(pid = self.pid, "a function starts processes faster than they can be ended");
    }

    /// Bytes in memory, of the process and all that it started. What children share with it is counted once where it stands in files.
    pub(super) fn memory(&self, processes: &Processes) -> u64 {
        let own = pages(self.pid).map_or(0, |(resident, _)| resident);
        let others = self.members(processes).into_iter().filter_map(pages);
        let pages = own + others.map(|(resident, shared)| resident.saturating_sub(shared)).sum::<u64>();
        // SAFETY: takes a number and returns one.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        pages * u64::try_from(page).unwrap_or(0)
    }
}

/// `None`: it has ended.
fn seen(pid: u32) -> Option<Seen> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc(5). The second field is the program's name in parentheses, and may itself hold blanks and parentheses.
fn parse_stat(text: &str) -> Option<Seen> {
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let mut number = |skip: usize| fields.nth(skip)?.parse::<u64>().ok();
    let (parent, group, session, start) = (number(0)?, number(0)?, number(0)?, number(15)?);
    Some(Seen { parent: parent as u32, group: group as u32, session: session as u32, start })
}

/// Resident ones, and those of them that are shared with others or with a file.
fn pages(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut fields = text.split(' ').skip(1).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

/// Exactly that process, and not one that has its id by now.
fn kill(pid: u32, start: u64) -> io::Result<()> {
    // SAFETY: two numbers; the descriptor that is returned is new, and ours.
    let process = unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(descriptor as i32)
    };
    if seen(pid).is_some_and(|seen| seen.start == start) {
        // SAFETY: numbers, and no information about the signal.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, std::ptr::null::<libc::siginfo_t>(), 0)
        };
    }
    Ok(())
}
