//! What a new process does between fork and exec: it leaves everything of the gateway's behind. Only system calls, and only such as a
//! signal handler might make: the memory is a copy of a process with many threads, whose locks nobody will ever open.

use super::Launch;
use super::sandbox::Sandbox;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Open files, as AWS gives a function (reference: AWS Lambda quotas). The gateway itself may have raised its own by far.
const DESCRIPTORS: libc::rlim_t = 1024;
/// What it writes, others may read and not change, whatever the gateway was started with.
const UMASK: libc::mode_t = 0o022;
/// The last signal of Linux.
const SIGNAL_MAX: i32 = 64;
/// Standard input, output and error are below.
const FIRST_DESCRIPTOR: libc::c_uint = 3;

/// A process, and the read ends of its pipes, which do not block.
#[derive(Debug)]
pub(super) struct Begun {
    pub pid: u32,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// To be called from the thread that lives longest: the kernel kills the process when that thread ends.
pub(super) fn begin(launch: &Launch, hidden: &[PathBuf], copies: Option<&Path>) -> io::Result<Begun> {
    let (program, arguments) = launch.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir(&launch.directory);
    command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
    let (stdout, out) = pipe(launch)?;
    let (stderr, error) = pipe(launch)?;
    command.stdin(Stdio::null()).stdout(out).stderr(error);
    if let Some((user, group)) = launch.user {
        // As root this drops the supplementary groups too, and without a way back.
        command.gid(group).uid(user);
    }
    // SAFETY: takes nothing and returns a number.
    let gateway = unsafe { libc::getpid() };
    let sandbox = Sandbox::new(hidden, copies);
    // SAFETY: both make system calls only: they neither allocate nor lock.
    unsafe {
        command.pre_exec(move || {
            leave(gateway)?;
            sandbox.as_ref().map_or(Ok(()), Sandbox::enter)?;
            close_on_exec()
        })
    };
    let pid = command.spawn()?.id();
    Ok(Begun { pid, stdout, stderr })
}

/// The function's own, so that it may open it by a name such as /dev/stderr.
fn pipe(launch: &Launch) -> io::Result<(OwnedFd, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    if let Some((user, group)) = launch.user {
        fchown(&writer, Some(user), Some(group))?;
    }
    // SAFETY: numbers; the descriptor is open and ours. The other end has flags of its own.
    unsafe {
        let flags = libc::fcntl(reader.as_raw_fd(), libc::F_GETFL);
        done(flags)?;
        done(libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK))?;
    }
    Ok((reader.into(), writer))
}

/// The user is already the one that it stays: the signal of a parent's death would be forgotten with another.
fn leave(gateway: libc::pid_t) -> io::Result<()> {
    let limit = |which, most: libc::rlim_t| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both calls get a valid pointer to a struct of ours, and keep nothing of it.
        unsafe {
            done(libc::getrlimit(which, &mut limit))?;
            limit.rlim_cur = limit.rlim_max.min(most);
            done(libc::setrlimit(which, &limit))
        }
    };
    limit(libc::RLIMIT_NOFILE, DESCRIPTORS)?;
    // A core would have the function's secrets in it, and fill the disk.
    limit(libc::RLIMIT_CORE, 0)?;
    // SAFETY: system calls that take numbers and touch no memory of ours.
    unsafe {
        libc::umask(UMASK);
        for signal in 1..=SIGNAL_MAX {
            // Whatever the gateway ignores, a function need not. Those that are nobody's to set are refused, which is well.
            libc::signal(signal, libc::SIG_DFL);
        }
        done(libc::setsid())?;
        done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        if libc::getppid() != gateway {
            // It died before that took effect.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // A service that is no root may have been given some of root's rights. Before Linux 4.3 there were none to give.
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    }
    Ok(())
}

/// Closed by exec and not before: the way that an error takes back is among them.
fn close_on_exec() -> io::Result<()> {
    // SAFETY: three numbers.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, FIRST_DESCRIPTOR, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if closed == 0 {
        return Ok(());
    }
    // Before Linux 5.11 one by one. The limit was lowered, and what is open above it stays open: so the hard limit it is.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid pointer to a struct of ours, of which nothing is kept; and numbers.
    unsafe {
        done(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        for descriptor in FIRST_DESCRIPTOR as i32..i32::try_from(limit.rlim_max).unwrap_or(i32::MAX) {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    Ok(())
}

fn done(result: libc::c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
