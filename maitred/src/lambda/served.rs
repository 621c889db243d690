//! What a `lambda serve` leaves for the commands that are run beside it: where it can be asked, and in which folder it was started. Whether it
//! runs is told by a lock, which ends with its process however that ends. Holds no secret: the token has a file of its own.

use crate::place::{self, Place};
use maitred_control::functions::token::{self, Unusable};
use maitred_model::Secret;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the places are for, which stands in their names.
const PLACES: &str = "lambda";
const STORE: &str = "maitred.db";
const NOTE: &str = "served";
/// An address, and the longest path that there is.
const NOTE_BYTES_MAX: u64 = 8 * 1024;
const PRIVATE: u32 = 0o600;

/// One that runs, or one that was killed.
#[derive(Debug)]
pub struct Served {
    /// Where it was started.
    pub folder: PathBuf,
    pub admin: SocketAddr,
    pub place: PathBuf,
    pub is_running: bool,
}

impl Served {
    pub fn token(&self) -> Result<Option<Secret>, Unusable> {
        token::read(&store(&self.place))
    }
}

/// A place for what others keep beside their file. What those left that were killed goes first.
pub fn new_place() -> io::Result<Place> {
    for ended in all().into_iter().filter(|served| !served.is_running) {
        // What cannot be removed harms nobody: it is known to have ended.
        let _ = place::remove(&ended.place);
    }
    Place::new(PLACES)
}

pub fn store(place: &Path) -> PathBuf {
    place.join(STORE)
}

/// From here on it is found, until what this returns is dropped.
pub fn leave_note(place: &Path, admin: SocketAddr) -> io::Result<File> {
    let (new, note) = (place.join(".new"), place.join(NOTE));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&new)?;
    // Before it has its name: whoever finds it unlocked takes it for one of a process that ended.
    file.try_lock()?;
    writeln!(file, "{admin}")?;
    file.write_all(std::env::current_dir()?.as_os_str().as_bytes())?;
    fs::rename(new, note)?;
    Ok(file)
}

/// All of this user's.
pub fn all() -> Vec<Served> {
    place::own(PLACES).into_iter().filter_map(read).collect()
}

/// In a place that is this user's; what is in it and somebody else's is left alone all the same.
fn read(place: PathBuf) -> Option<Served> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(place.join(NOTE)).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.uid() != place::user() || metadata.mode() & 0o077 != 0 {
        return None;
    }
    let mut text = Vec::new();
    (&file).take(NOTE_BYTES_MAX).read_to_end(&mut text).ok()?;
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let admin = str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    let folder = PathBuf::from(OsString::from_vec(text.split_off(end + 1)));
    // What cannot be said is no.
    let is_running = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    Some(Served { folder, admin, place, is_running })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_note_holds_as_long_as_its_process_and_is_for_its_owner_alone() {
        let place = Place::new("served-test").unwrap();
        let folder = place.path("").components().collect::<PathBuf>();
        let admin = "127.0.0.1:9080".parse().unwrap();
        assert!(read(folder.clone()).is_none(), "there is none yet");
        let held = leave_note(&folder, admin).unwrap();
        let note = folder.join(NOTE);
        assert_eq!(fs::metadata(&note).unwrap().mode() & 0o777, PRIVATE);
        let found = read(folder.clone()).unwrap();
        assert_eq!((found.admin, found.is_running, &found.place), (admin, true, &folder));
        assert_eq!(found.folder, std::env::current_dir().unwrap());
        assert!(found.token().unwrap().is_none());
        drop(held);
        assert!(!read(folder.clone()).unwrap().is_running);
        for (text, mode) in [("127.0.0.1:9080\n/", 0o640), ("127.0.0.1:9080", 0o600), ("somewhere\n/", 0o600), ("", 0o600)] {
            fs::write(&note, text).unwrap();
            fs::set_permissions(&note, Permissions::from_mode(mode)).unwrap();
            assert!(read(folder.clone()).is_none(), "{text:?}");
        }
        fs::remove_file(&note).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &note).unwrap();
        assert!(read(folder).is_none(), "a link");
    }
}
