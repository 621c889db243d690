//! A domain of Landlock for each process of a function, where the kernel has it (5.19 and later): who is in one can neither look into the
//! memory of a process outside, nor into its environment and open files in /proc, though both are the same user's. From 6.12 on it cannot
//! signal one either. Forbids nothing else: what files may be read is the file system's to say.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// `<linux/landlock.h>`. Before this version every rename to another folder is refused to who is in a domain.
const VERSION_MIN: i64 = 2;
/// From this one on the last field is known.
const VERSION_SCOPES: i64 = 6;
const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: i32 = 1;
/// A domain has to forbid something: devices are nothing that a function makes.
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
/// Refused unless it is allowed by name.
const REFER: u64 = 1 << 13;
const SCOPE_ABSTRACT_SOCKETS: u64 = 1;
const SCOPE_SIGNALS: u64 = 2;

#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scopes: u64,
}

#[repr(C, packed)]
struct BeneathPath {
    allowed: u64,
    folder: RawFd,
}

/// What a process is to enter. Each that enters is in a domain of its own.
#[derive(Debug)]
pub(super) struct Sandbox(OwnedFd);

impl Sandbox {
    /// `None`: this kernel has none.
    pub(super) fn new() -> Option<Sandbox> {
        let version = version();
        if version < VERSION_MIN {
            return None;
        }
        let scopes = if version >= VERSION_SCOPES { SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS } else { 0 };
        let ruleset = Ruleset { files: MAKE_CHAR | MAKE_BLOCK | REFER, network: 0, scopes };
        // An older kernel knows the fields before, and takes as many.
        let size = if scopes == 0 { size_of::<u64>() } else { size_of::<Ruleset>() };
        // SAFETY: a struct of ours and how much of it is to be read; the descriptor that is returned is new, and ours.
        let own = unsafe {
            let descriptor = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0);
            if descriptor < 0 {
                return None;
            }
            OwnedFd::from_raw_fd(descriptor as RawFd)
        };
        let root = std::fs::File::open("/").ok()?;
        let rule = BeneathPath { allowed: REFER, folder: root.as_raw_fd() };
        // SAFETY: two descriptors that are open, and a struct of ours of which nothing is kept.
        let added = unsafe { libc::syscall(libc::SYS_landlock_add_rule, own.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0) };
        (added == 0).then_some(Sandbox(own))
    }

    /// Of the calling thread, for ever. For between fork and exec: it makes one system call. No new rights may be possible any more.
    pub(super) fn enter(&self) -> io::Result<()> {
        // SAFETY: two numbers.
        match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// 0: none, or it is switched off.
fn version() -> i64 {
    let nothing = std::ptr::null::<Ruleset>();
    // SAFETY: with this flag no ruleset is read.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, CREATE_RULESET_VERSION) }.max(0) as i64
}

#[cfg(test)]
pub(super) fn is_there() -> (bool, bool) {
    (version() >= VERSION_MIN, version() >= VERSION_SCOPES)
}
