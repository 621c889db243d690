//! The side of systemd that a service sees: sockets that it opened for us (sd_listen_fds(3)), and what we tell it (sd_notify(3)). Written
//! by hand, because it is a few variables and a datagram. Without systemd all of it does nothing. Decides nothing about the gateway.

use anyhow::{Context, ensure};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

/// The first descriptor that systemd passes; the others follow it.
const FIRST_DESCRIPTOR: i32 = 3;
/// Sockets that are taken from it: a unit with more is a mistake.
const SOCKETS_MAX: i32 = 1024;
/// For systemd to take a message: it reads them all the time, and if it hangs the traffic goes on.
const SEND_TIME_MAX: Duration = Duration::from_secs(1);
/// What it is told beyond the drain timeout before it ends us by force.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// What systemd said in the environment.
#[derive(Debug, Default)]
pub struct Environment {
    pub listen_pid: Option<OsString>,
    pub listen_fds: Option<OsString>,
    pub listen_fdnames: Option<OsString>,
    pub notify_socket: Option<OsString>,
    pub watchdog_usec: Option<OsString>,
    pub watchdog_pid: Option<OsString>,
}

impl Environment {
    /// These concern one process: a child that finds them would believe that it is meant.
    pub const OURS_ALONE: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

    pub fn read() -> Environment {
        let var = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        Environment {
            listen_pid: var("LISTEN_PID"),
            listen_fds: var("LISTEN_FDS"),
            listen_fdnames: var("LISTEN_FDNAMES"),
            notify_socket: var("NOTIFY_SOCKET"),
            watchdog_usec: var("WATCHDOG_USEC"),
            watchdog_pid: var("WATCHDOG_PID"),
        }
    }

    /// The sockets that systemd opened for this process, in its order, each with the name that its unit gives it. Called once: they are
    /// owned from then on.
    pub fn sockets(&self, pid: u32) -> anyhow::Result<Vec<(String, OwnedFd)>> {
        let (Some(for_whom), Some(count)) = (&self.listen_pid, &self.listen_fds) else { return Ok(Vec::new()) };
        if number::<u32>(for_whom) != Some(pid) {
            return Ok(Vec::new());
        }
        let count = number::<i32>(count).filter(|count| (0..=SOCKETS_MAX).contains(count));
        let count = count.with_context(|| format!("LISTEN_FDS is no number up to {SOCKETS_MAX}"))?;
        let names = self.listen_fdnames.as_deref().unwrap_or_default().to_string_lossy();
        let names = names.split(':').chain(std::iter::repeat("unknown"));
        let adopted = |(descriptor, name): (i32, &str)| Ok((name.to_owned(), adopt(descriptor)?));
        (FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + count).zip(names).map(adopted).collect()
    }

    /// How often systemd wants to hear from us; half of when it would lose patience.
    pub fn watchdog(&self, pid: u32) -> Option<Duration> {
        if self.watchdog_pid.as_deref().is_some_and(|for_whom| number::<u32>(for_whom) != Some(pid)) {
            return None;
        }
        let patience = Duration::from_micros(number(self.watchdog_usec.as_deref()?)?);
        Some(patience / 2).filter(|interval| !interval.is_zero())
    }

    pub fn notifier(&self) -> Notifier {
        match self.notify_socket.as_deref().map(Notifier::to) {
            Some(Ok(notifier)) => notifier,
            Some(Err(error)) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used: systemd hears nothing from us");
                Notifier(None)
            }
            None => Notifier(None),
        }
    }
}

fn number<T: std::str::FromStr>(text: &OsStr) -> Option<T> {
    text.to_str()?.parse().ok()
}

/// Owns a descriptor that this process was started with, and keeps it from its children.
pub fn adopt(descriptor: i32) -> anyhow::Result<OwnedFd> {
    // SAFETY: three numbers. A descriptor that is not open is an error.
    let done = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    ensure!(done == 0, "descriptor {descriptor} was promised and is not there: {}", io::Error::last_os_error());
    // SAFETY: it is open, and whoever started this process opened it for us: nobody else in it owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Tells systemd how the service is. Nobody waits for an answer, for there is none.
#[derive(Debug)]
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    fn to(place: &OsStr) -> io::Result<Notifier> {
        let address = match place.as_bytes() {
            [b'@', name @ ..] => abstract_address(name)?,
            [b'/', ..] => SocketAddr::from_pathname(Path::new(place))?,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIME_MAX))?;
        Ok(Notifier(Some((socket, address))))
    }

    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// This process is the service from here on. systemd believes it of the process from before, and of others where the unit says
    /// `NotifyAccess=all`.
    pub fn main_pid(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
    }

    /// Until the next `ready`.
    pub fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading", monotonic().as_micros()));
    }

    /// `within`: what the stop may take.
    pub fn stopping(&self, within: Duration) {
        let extended = (within + STOP_MARGIN).as_micros();
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={extended}\nSTATUS=draining"));
    }

    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", line(status)));
    }

    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.0 else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::debug!(%error, "systemd was not told: {message}");
        }
    }
}

/// A status is one line: what follows would be another variable.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract names"))
}

/// systemd compares it with its own clock, to tell this reload from one before.
fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a pointer to a struct of ours; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(by: impl Fn(&Notifier), from: &UnixDatagram, place: &OsStr) -> String {
        by(&Notifier::to(place).unwrap());
        let mut bytes = [0; 1024];
        let count = from.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn messages_are_what_systemd_reads() {
        let path = std::env::temp_dir().join(format!("maitred-notify-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let hear = |by: fn(&Notifier)| said(by, &socket, path.as_os_str());
        assert_eq!(hear(|it| it.ready("2 routes\nMAINPID=1")), "READY=1\nSTATUS=2 routes MAINPID=1");
        assert_eq!(hear(|it| it.main_pid(77)), "MAINPID=77");
        assert_eq!(hear(|it| it.status("well")), "STATUS=well");
        assert_eq!(hear(Notifier::alive), "WATCHDOG=1");
        assert_eq!(hear(|it| it.stopping(Duration::from_secs(30))), "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000\nSTATUS=draining");
        let before = monotonic().as_micros();
        let reloading = hear(Notifier::reloading);
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().split('\n').next().unwrap();
        assert!((before..=monotonic().as_micros()).contains(&time.parse().unwrap()), "{reloading}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_abstract_name_is_a_place_too() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("maitred-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert_eq!(said(Notifier::alive, &socket, OsStr::new(&format!("@{name}"))), "WATCHDOG=1");
    }

    #[test]
    fn without_systemd_nothing_is_said_and_nothing_fails() {
        Environment::default().notifier().ready("x");
        for place in ["relative", "vsock:2:1", "/nowhere/at/all"] {
            Environment { notify_socket: Some(place.into()), ..Environment::default() }.notifier().alive();
        }
    }

    #[test]
    fn sockets_are_taken_only_by_whom_they_are_for() {
        let environment = |pid: Option<&str>, fds: &str| Environment {
            listen_pid: pid.map(Into::into),
            listen_fds: Some(fds.into()),
            ..Environment::default()
        };
        for elsewhere in [Some("7"), Some("x"), None] {
            assert!(environment(elsewhere, "2").sockets(8).unwrap().is_empty());
        }
        assert!(environment(Some("8"), "0").sockets(8).unwrap().is_empty());
        for nonsense in ["-1", "x", "1025"] {
            assert!(environment(Some("8"), nonsense).sockets(8).is_err(), "{nonsense}");
        }
        let said = adopt(i32::MAX).unwrap_err().to_string();
        assert!(said.contains("is not there"), "{said}");
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_must() {
        let interval = |usec: Option<&str>, pid: Option<&str>| {
            let environment =
                Environment { watchdog_usec: usec.map(Into::into), watchdog_pid: pid.map(Into::into), ..Environment::default() };
            environment.watchdog(8)
        };
        assert_eq!(interval(Some("30000000"), Some("8")), Some(Duration::from_secs(15)));
        assert_eq!(interval(Some("30000000"), None), Some(Duration::from_secs(15)));
        for (usec, pid) in [(Some("30000000"), Some("9")), (None, Some("8")), (Some("0"), None), (Some("x"), None)] {
            assert_eq!(interval(usec, pid), None, "{usec:?} {pid:?}");
        }
    }
}
