//! Copies of code, each in a folder that is called as the hash of what is in it, and is held while somebody uses it. Two gateways on one
//! folder, as at an upgrade, do not take each other's away.

use super::tree::{Refused, Tree, hex};
use super::user::{User, can_reach, effective};
use aws_lc_rs::digest::{Context, SHA256};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Written, and not yet called as its hash; or about to be removed.
const UNFINISHED: &str = ".unfinished-";
const HASH_DIGITS: usize = 64;
/// Hashes that are remembered; beyond it all are forgotten, and files read again.
const REMEMBERED_MAX: usize = 1024;
/// A file that was written so lately may be written again, and the clock of the disk not have moved.
const SETTLED: Duration = Duration::from_secs(2);
/// Someone else who makes or removes the same copy at the same moment comes in between as often at most.
const ATTEMPTS_MAX: usize = 8;

/// Keeps copies from being removed.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds(Vec<Arc<File>>);

/// Who holds what is no difference between two pieces of code.
impl PartialEq for Holds {
    fn eq(&self, _: &Holds) -> bool {
        true
    }
}

impl Eq for Holds {}

impl Holds {
    pub(super) fn add(&mut self, hold: File) {
        self.0.push(Arc::new(hold));
    }
}

/// The folder of the copies: the one that is wanted, or one under the temporary folder where the function's user could not get to the first.
pub(super) fn folder(wanted: &Path, user: User) -> io::Result<PathBuf> {
    let temporary = std::env::temp_dir().join(format!("maitred-functions-{}", effective()));
    let mut refused = None;
    for folder in [wanted, &temporary] {
        match own_folder(folder) {
            Ok(folder) if can_reach(&folder, user) => return Ok(folder),
            Ok(folder) => {
                let message = format!("{} cannot be reached by the user that functions run as", folder.display());
                refused = Some(io::Error::new(io::ErrorKind::PermissionDenied, message));
            }
            Err(error) => refused = Some(io::Error::new(error.kind(), format!("{}: {error}", folder.display()))),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// One that nobody else can write to: whoever could, would say what functions are.
fn own_folder(folder: &Path) -> io::Result<PathBuf> {
    if !folder.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    let metadata = fs::symlink_metadata(folder)?;
    if !is_own_folder(&metadata) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no folder that this user alone may write to"));
    }
    folder.canonicalize()
}

fn is_own_folder(metadata: &fs::Metadata) -> bool {
    metadata.is_dir() && metadata.uid() == effective() && metadata.mode() & 0o022 == 0
}

/// The copy of what is in `tree`, made where it is not there yet; its hash, and what holds it.
pub(super) fn copy(folder: &Path, tree: &Tree) -> Result<(String, PathBuf, File), Refused> {
    let mut hash = hash(tree)?;
    for _ in 0..ATTEMPTS_MAX {
        let place = folder.join(&hash);
        if let Some(hold) = hold(&place).map_err(|error| Refused::Io(place.clone(), error))? {
            return Ok((hash, place, hold));
        }
        let unfinished = unfinished(folder).map_err(|error| Refused::Io(folder.to_owned(), error))?;
        let made = tree.read(Some(&unfinished));
        // What is hashed is what was copied, should it have been written to since.
        hash = match made {
            Ok(hash) => hash,
            Err(error) => {
                remove(&unfinished);
                return Err(error);
            }
        };
        if fs::rename(&unfinished, folder.join(&hash)).is_err() {
            // Another was faster, or the next attempt says what is wrong.
            remove(&unfinished);
        }
    }
    let error = io::Error::new(io::ErrorKind::ResourceBusy, "it is being removed again and again");
    Err(Refused::Io(folder.join(hash), error))
}

/// A folder of these files, for all functions.
pub(super) fn write(folder: &Path, files: &[(&str, &[u8])]) -> Result<(PathBuf, File), Refused> {
    let mut hash = Context::new(&SHA256);
    for (name, bytes) in files {
        hash.update(name.as_bytes());
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    let place = folder.join(hex(hash.finish().as_ref()));
    let failed = |error| Refused::Io(place.clone(), error);
    for _ in 0..ATTEMPTS_MAX {
        if let Some(hold) = hold(&place).map_err(failed)? {
            return Ok((place, hold));
        }
        let unfinished = unfinished(folder).map_err(failed)?;
        let write = |(name, bytes): &(&str, &[u8])| {
            fs::write(unfinished.join(name), bytes)?;
            fs::set_permissions(unfinished.join(name), Permissions::from_mode(0o444))
        };
        let written = files.iter().try_for_each(write);
        let written = written.and_then(|()| fs::set_permissions(&unfinished, Permissions::from_mode(0o555)));
        let renamed = written.map(|()| fs::rename(&unfinished, &place));
        if !matches!(renamed, Ok(Ok(()))) {
            remove(&unfinished);
        }
        renamed.map(|_| ()).map_err(failed)?;
    }
    Err(failed(io::ErrorKind::ResourceBusy.into()))
}

/// Without reading any file, where none was written to since the last time.
fn hash(tree: &Tree) -> Result<String, Refused> {
    static KNOWN: Mutex<Option<HashMap<[u8; 32], String>>> = Mutex::new(None);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(hash) = known().as_ref().and_then(|known| known.get(&tree.print)) {
        return Ok(hash.clone());
    }
    let hash = tree.read(None)?;
    if SystemTime::now().duration_since(tree.changed).is_ok_and(|since| since > SETTLED) {
        let mut known = known();
        let known = known.get_or_insert_default();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(tree.print, hash.clone());
    }
    Ok(hash)
}

/// `None`: it is not there.
fn hold(place: &Path) -> io::Result<Option<File>> {
    for _ in 0..ATTEMPTS_MAX {
        let held = match File::open(place) {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        held.lock_shared()?;
        let metadata = held.metadata()?;
        if !is_own_folder(&metadata) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it was not made by this gateway"));
        }
        // Whoever removed it while this waited left another, or none.
        if fs::symlink_metadata(place).is_ok_and(|now| (now.dev(), now.ino()) == (metadata.dev(), metadata.ino())) {
            return Ok(Some(held));
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

fn unfinished(folder: &Path) -> io::Result<PathBuf> {
    static NUMBERS: AtomicU32 = AtomicU32::new(0);
    let own = format!("{UNFINISHED}{}-{}", std::process::id(), NUMBERS.fetch_add(1, Ordering::Relaxed));
    let path = folder.join(own);
    // Left behind by a process that had the same id.
    remove(&path);
    fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

/// Removes the copies that nobody holds. A process that is started at the same moment holds for as long what this one holds, so that one may
/// be left for the next time.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let is_copy = name.len() == HASH_DIGITS && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
        let is_left = left_behind(&name);
        if !is_copy && !is_left {
            continue;
        }
        let Ok(held) = File::open(&path) else { continue };
        match held.try_lock() {
            // Whoever waits for it now finds that it is gone.
            Ok(()) => match unfinished(folder) {
                Ok(aside) if is_copy && fs::rename(&path, &aside).is_ok() => remove(&aside),
                Ok(aside) => {
                    remove(&aside);
                    remove(&path);
                }
                Err(_) => {}
            },
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

/// By a process that is no more.
fn left_behind(name: &OsStr) -> bool {
    let pid = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED)?.split('-').next()?.parse::<u32>().ok());
    pid.is_some_and(|pid| pid != std::process::id() && !Path::new(&format!("/proc/{pid}")).exists())
}

/// A folder may not be emptied whose mode says that nobody may write to it.
pub(super) fn remove(path: &Path) {
    fn open_up(path: &Path) -> io::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open_up(&entry.path())?;
            }
        }
        Ok(())
    }
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_folder && let Err(error) = open_up(path).and_then(|()| fs::remove_dir_all(path)) {
        tracing::warn!(folder = %path.display(), %error, "an old copy of a function's code cannot be removed");
    }
}
