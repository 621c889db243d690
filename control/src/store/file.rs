//! The file of the store: opened, or made when there is something to keep. Knows no tables.

use super::layout;
use super::{Identified, StoreError};
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// For another process that writes, such as the gateway from before at an upgrade. Its writes take milliseconds.
const BUSY_TIME_MAX: Duration = Duration::from_secs(2);
const PRIVATE: u32 = 0o600;

/// Which file it is: another one at the same place is not the same.
pub(super) fn identified(path: &Path) -> io::Result<Option<Identified>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// One that is there, in this program's layout.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = connect(path)?;
    layout::bring_up(&mut connection)?;
    // Readers and the writer do not wait for each other. An empty file that was put there has another mode.
    connection.pragma_update(None, "journal_mode", "wal")?;
    Ok(connection)
}

/// To look at the file itself: what SQLite keeps of it in memory and in the log beside it hides that somebody wrote over it. It is closed
/// after the connection and never before: by that a process loses the locks of all that it has open of a file (POSIX).
pub(super) fn watch(path: &Path) -> io::Result<File> {
    File::open(path)
}

pub(super) fn is_overwritten(file: &File) -> io::Result<bool> {
    let mut header = [0; layout::HEADER_BYTES];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => Ok(!layout::begins(&header)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(true),
        Err(error) => Err(error),
    }
}

/// Reads all of it once, to find out whether it can be read.
pub(super) fn examine(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::Corrupt(found));
    }
    if std::fs::metadata(path)?.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others than its owner may read the store; `chmod 600` it");
    }
    Ok(())
}

/// Makes it where there is none. It is there as a whole or not at all; if somebody else was faster, that one's is taken.
pub(super) fn create(path: &Path) -> Result<Connection, StoreError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}-{number}", std::process::id()));
    let new = PathBuf::from(name);
    let made = fill(&new).and_then(|()| Ok(put(&new, path)?));
    let _ = std::fs::remove_file(&new);
    made?;
    open(path)
}

fn fill(new: &Path) -> Result<(), StoreError> {
    // SQLite gives the files beside it the same mode.
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(new)?;
    let mut connection = connect(new)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    layout::bring_up(&mut connection)?;
    // Ends with everything in the one file.
    connection.close().map_err(|(_, error)| error)?;
    Ok(File::open(new)?.sync_all()?)
}

/// Never over a file that is there.
fn put(new: &Path, path: &Path) -> io::Result<()> {
    match std::fs::hard_link(new, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        // Not every file system has links.
        Err(_) if identified(path)?.is_none() => std::fs::rename(new, path)?,
        Err(error) => return Err(error),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // Whoever uses a connection has it to itself.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIME_MAX)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What was answered is on the disk: a key that was rotated must not come back after a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}
