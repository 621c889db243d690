//! The few system calls that the load generator and the back end are made of, as safe functions.
//! Knows nothing of HTTP, of proxies or of measuring.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub const READABLE: u32 = libc::EPOLLIN as u32;
pub const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// The peer sends no more, even if what it has sent is never read.
pub const ENDED: u32 = libc::EPOLLRDHUP as u32;
/// Told without being asked for.
pub const BROKEN: u32 = (libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// Events taken from the kernel in one turn; more than the 64 connections of a saturated run.
const EVENTS_MAX: usize = 256;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// One epoll instance, level triggered, with its own buffer of events.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers are passed; the descriptor returned is ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Epoll { fd, events: Vec::with_capacity(EVENTS_MAX) })
    }

    pub fn add(&self, fd: RawFd, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub fn change(&self, fd: RawFd, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, token: u64, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token };
        // SAFETY: `event` lives over the call, and the kernel copies it.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) })?;
        Ok(())
    }

    /// Waits with nanosecond precision (an open-loop schedule has gaps far below a millisecond),
    /// and leaves what happened in `into` as (token, readiness).
    pub fn wait(&mut self, timeout: Option<Duration>, into: &mut Vec<(u64, u32)>) -> io::Result<()> {
        into.clear();
        let spec =
            timeout.map(|t| libc::timespec { tv_sec: t.as_secs() as libc::time_t, tv_nsec: t.subsec_nanos() as libc::c_long });
        let spec_at = spec.as_ref().map_or(std::ptr::null(), |s| s as *const libc::timespec);
        // SAFETY: the buffer has room for EVENTS_MAX events, `spec` outlives the call, no signal mask is passed.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_MAX,
                spec_at,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        // SAFETY: the kernel has initialised exactly `count` events.
        unsafe { self.events.set_len(count as usize) };
        into.extend(self.events.iter().map(|e| (e.u64, e.events)));
        Ok(())
    }
}

/// `None` when the socket would block.
pub fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: pointer and length come from one slice.
    let count = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    would_block(count)
}

/// `None` when the socket would block.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    // SAFETY: pointer and length come from one slice. MSG_NOSIGNAL: a closed peer is an error here, never a signal.
    let count = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    would_block(count)
}

fn would_block(count: isize) -> io::Result<Option<usize>> {
    if count >= 0 {
        return Ok(Some(count as usize));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}

/// Connects from a chosen loopback address, so that ten thousand connections need not share one range of ports.
pub fn connect_from(source: Ipv4Addr, target: SocketAddrV4) -> io::Result<TcpStream> {
    // SAFETY: plain socket calls; every pointer is to a local that outlives its call.
    unsafe {
        let fd = check(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
        let stream = TcpStream::from_raw_fd(fd);
        let one: libc::c_int = 1;
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        let one_at = (&one as *const libc::c_int).cast();
        check(libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, one_at, size))?;
        let address = |a: SocketAddrV4| libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: a.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(*a.ip()).to_be() },
            sin_zero: [0; 8],
        };
        let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let from = address(SocketAddrV4::new(source, 0));
        check(libc::bind(fd, (&from as *const libc::sockaddr_in).cast(), length))?;
        let to = address(target);
        check(libc::connect(fd, (&to as *const libc::sockaddr_in).cast(), length))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Keeps what arrives on a socket, or on those it will accept, to this many bytes, in segments of this size.
pub fn narrow(fd: RawFd, buffer: i32, segment: i32) -> io::Result<()> {
    for (level, option, value) in [(libc::SOL_SOCKET, libc::SO_RCVBUF, buffer), (libc::IPPROTO_TCP, libc::TCP_MAXSEG, segment)] {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the pointer is to a local of the size passed.
        check(unsafe { libc::setsockopt(fd, level, option, (&value as *const libc::c_int).cast(), size) })?;
    }
    Ok(())
}

/// Listens once more, with a longer queue than the standard library asks for.
pub fn listen(fd: RawFd, backlog: i32) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::listen(fd, backlog) }).map(drop)
}

pub fn loopback(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// Ports that were free a moment ago, no two of them the same. Whoever uses them must be ready to lose the race and ask again.
pub fn free_ports<const COUNT: usize>() -> io::Result<[u16; COUNT]> {
    // All are held while they are chosen: one that is given back may be given out again.
    let held = (0..COUNT).map(|_| TcpListener::bind(loopback(0))).collect::<io::Result<Vec<_>>>()?;
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// CPU time of a whole process in nanoseconds, including the slice that is running now and threads that ended
/// (/proc/PID/schedstat lags by up to a tick on both).
pub fn process_cpu_ns(pid: i32) -> io::Result<u64> {
    // SAFETY: both pointers are to locals.
    unsafe {
        let mut clock: libc::clockid_t = 0;
        let error = libc::clock_getcpuclockid(pid, &mut clock);
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let mut time: libc::timespec = zeroed();
        check(libc::clock_gettime(clock, &mut time))?;
        Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

/// CPU time of the calling thread in nanoseconds.
pub fn thread_cpu_ns() -> io::Result<u64> {
    // SAFETY: the pointer is to a local.
    unsafe {
        let mut time: libc::timespec = zeroed();
        check(libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time))?;
        Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

/// The cores this process may use, in order.
pub fn cores() -> Vec<usize> {
    // SAFETY: the set is a local of the size passed.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return vec![0];
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &set)).collect()
    }
}

/// Pins the calling thread (and what it spawns from now on) to these cores.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    // SAFETY: the set is a local of the size passed; also safe between fork and exec, as it allocates nothing.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        for &core in cores {
            libc::CPU_SET(core, &mut set);
        }
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))?;
    }
    Ok(())
}

/// Sets how this thread, and what it spawns from now on, stands against other programs: -20 first, 19 last.
/// Without the privilege nothing changes.
pub fn prioritise(nice: i32) {
    // SAFETY: takes integers only.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

/// Who goes before whom, where it matters that nobody else's turn comes between.
#[derive(Clone, Copy)]
pub enum Rank {
    /// Behind all others: what would be on another machine.
    Last = -1,
    Ordinary = 0,
    /// Before all ordinary threads: what is measured.
    Measured = 1,
    /// Before those too: what measures. It uses little and must be on time.
    Instrument = 2,
}

/// Sets the rank of this thread, and of what it spawns from now on. Without the privilege nothing changes but by `Last`, which needs none.
pub fn be(rank: Rank) {
    let policy = match rank {
        Rank::Last => libc::SCHED_IDLE,
        Rank::Ordinary => libc::SCHED_OTHER,
        Rank::Measured | Rank::Instrument => libc::SCHED_FIFO,
    };
    // SAFETY: the parameters are a local; a thread of ours is all that changes.
    unsafe {
        let mut parameters: libc::sched_param = zeroed();
        parameters.sched_priority = (rank as i32).max(0);
        libc::sched_setscheduler(0, policy, &parameters);
    }
}

/// Wakes this thread at the time asked for, not up to 50 µs later: else an open-loop schedule runs late.
pub fn sharpen_timers() {
    // SAFETY: takes integers only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
}

/// Raises the limit of open files towards `wanted`, as far as we may. Children inherit it.
pub fn raise_open_files(wanted: u64) {
    // SAFETY: all limits are locals. Only the second call is allowed without privileges.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        let beyond = libc::rlimit { rlim_cur: wanted, rlim_max: wanted.max(limit.rlim_max) };
        let within = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), rlim_max: limit.rlim_max };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &beyond) != 0 {
            libc::setrlimit(libc::RLIMIT_NOFILE, &within);
        }
    }
}
