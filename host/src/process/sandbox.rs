//! A domain of Landlock for each process of a function, where the kernel has it (5.19 and later). Who is in one can neither look into the
//! memory of a process outside, nor into its environment and open files in /proc, though both are the same user's; from 6.12 on it cannot
//! signal one either. And it can neither read nor change the gateway's own files, whoever it is. Forbids nothing else: what other files
//! may be read is the file system's to say.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `<linux/landlock.h>`. Before this version every rename to another folder is refused to who is in a domain.
const VERSION_MIN: i64 = 2;
const VERSION_TRUNCATE: i64 = 3;
/// From this one on the last field is known.
const VERSION_SCOPES: i64 = 6;
const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: i32 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const REMOVE_FOLDER: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_FOLDER: u64 = 1 << 7;
const MAKE_FILE: u64 = 1 << 8;
const MAKE_SOCKET: u64 = 1 << 9;
const MAKE_PIPE: u64 = 1 << 10;
const MAKE_LINK: u64 = 1 << 12;
/// Where a folder above what is hidden could be moved away, another could be put in its place.
const IN_FOLDERS: u64 = REMOVE_FILE | REMOVE_FOLDER | MAKE_FILE | MAKE_FOLDER | MAKE_SOCKET | MAKE_PIPE | MAKE_LINK;
/// A domain has to forbid something: devices are nothing that a function makes.
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
/// Refused unless it is allowed by name.
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const SCOPE_ABSTRACT_SOCKETS: u64 = 1;
const SCOPE_SIGNALS: u64 = 2;
/// Beside a file that is hidden; each is a rule, and a start takes the longer for it.
const BESIDE_MAX: usize = 4096;
/// Of a folder where everybody keeps his own, such as /tmp: mode bits `1---------w-`.
const SHARED_MODE: u32 = 0o1002;

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
    /// In which `hidden` cannot be read or changed, nor what is called as one of them and goes on, such as `store.db-wal`: neither now nor
    /// when it is made later. `None`: this kernel has none.
    ///
    /// Landlock can only allow. So all that stands beside what is hidden, and beside the folders above it, is allowed; what is put
    /// there after the start of a process is hidden from it too. Of `copies` among it only reading is.
    pub(super) fn new(hidden: &[PathBuf], copies: Option<&Path>) -> Option<Sandbox> {
        let version = version();
        if version < VERSION_MIN {
            return None;
        }
        let hidden: Vec<PathBuf> = hidden.iter().filter_map(|path| hideable(path)).collect();
        let in_files = READ_FILE | WRITE_FILE | if version >= VERSION_TRUNCATE { TRUNCATE } else { 0 };
        let in_folders = in_files | IN_FOLDERS;
        let handled = if hidden.is_empty() { 0 } else { in_folders };
        let scopes = if version >= VERSION_SCOPES { SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS } else { 0 };
        let ruleset = Ruleset { files: MAKE_CHAR | MAKE_BLOCK | REFER | handled, network: 0, scopes };
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
        let sandbox = Sandbox(own);
        sandbox.allow(&File::open("/").ok()?, REFER).ok()?;
        let copies = copies.and_then(|folder| folder.canonicalize().ok());
        for path in beside(&hidden) {
            let opened = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(&path);
            // Gone meanwhile.
            let Ok(opened) = opened else { continue };
            let Ok(metadata) = opened.metadata() else { continue };
            // Links are gone through to where they lead, and that counts.
            if !metadata.is_symlink() {
                let allowed = match metadata.is_dir() {
                    true if Some(&path) == copies.as_ref() => READ_FILE,
                    true => in_folders,
                    false => in_files,
                };
                let _ = sandbox.allow(&opened, allowed);
            }
        }
        Some(sandbox)
    }

    fn allow(&self, place: &File, allowed: u64) -> io::Result<()> {
        let rule = BeneathPath { allowed, folder: place.as_raw_fd() };
        // SAFETY: two descriptors that are open, and a struct of ours of which nothing is kept.
        match unsafe { libc::syscall(libc::SYS_landlock_add_rule, self.0.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
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

/// As the kernel sees it. What lies in a folder that all share cannot be hidden: nobody could keep anything of his own there any more.
fn hideable(path: &Path) -> Option<PathBuf> {
    let real = match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), _, _) => real,
        // It is made later, and its folder perhaps as well.
        (Err(_), Some(parent), Some(name)) => match parent.canonicalize() {
            Ok(parent) => parent.join(name),
            Err(_) => return hideable(parent),
        },
        (Err(_), _, _) => return None,
    };
    let is_shared = |folder: &Path| fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & SHARED_MODE == SHARED_MODE);
    (real.parent().is_some() && !real.ancestors().skip(1).any(is_shared)).then_some(real)
}

/// All that stands beside those and beside the folders above them, and is neither.
fn beside(hidden: &[PathBuf]) -> Vec<PathBuf> {
    let above: BTreeSet<&Path> = hidden.iter().flat_map(|path| path.ancestors().skip(1)).collect();
    let is_hidden = |path: &Path| hidden.iter().any(|hidden| hides(hidden, path));
    let mut beside = Vec::new();
    for folder in above.iter().filter(|folder| !is_hidden(folder)) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let others = entries.filter(|path| !is_hidden(path) && !above.contains(path.as_path()));
        beside.extend(others.take(BESIDE_MAX));
    }
    beside
}

/// A folder hides all in it, and a file what goes with it by its name.
fn hides(hidden: &Path, path: &Path) -> bool {
    let goes_on = || path.as_os_str().as_bytes().starts_with(hidden.as_os_str().as_bytes());
    path.starts_with(hidden) || (path.parent() == hidden.parent() && goes_on() && !hidden.is_dir())
}

/// Whether files can be hidden from a process of the same user.
pub(super) fn can_hide() -> bool {
    version() >= VERSION_MIN
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
