//! The files of a folder: found, measured, hashed and copied, all by descriptors of folders that were opened as such. Who may write to the
//! folder can make this fail, and cannot lead it out: a gateway that is root reads nothing for him that lies elsewhere.

use aws_lc_rs::digest::{Context, SHA256};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// Bytes of all files. AWS takes 250 MB, layers included; who packs a model in has more.
pub(super) const BYTES_MAX: u64 = 512 * 1024 * 1024;
/// `node_modules` of a large application has some ten thousand.
pub(super) const ENTRIES_MAX: usize = 100_000;
/// A folder is held open for each.
pub(super) const DEPTH_MAX: usize = 64;
const CHUNK_BYTES: usize = 128 * 1024;
/// What no function is made of: it changes with every commit, or holds the copies themselves, where the code lies beside the store.
const LEFT_OUT: &[&str] = &[".git", ".hg", ".svn", "maitred-functions"];
/// Made by whoever imports the code. Worth a copy, since a function then starts sooner; but the code is the same with and without.
const DERIVED: &str = "__pycache__";
/// Nobody changes a copy, its owner included.
const FOLDER_MODE: u32 = 0o555;
const FILE_MODE: u32 = 0o444;
const PROGRAM_MODE: u32 = 0o555;

/// What is in a folder, in the order of the names.
#[derive(Debug)]
pub(super) struct Tree {
    origin: PathBuf,
    entries: Vec<Entry>,
    /// Of names, sizes, times and places on the disk: as long as it is the same, nobody has written to any of the files.
    pub print: [u8; 32],
    /// The latest moment at which anything of it was changed.
    pub changed: SystemTime,
}

#[derive(Debug)]
struct Entry {
    /// Below the folder.
    path: PathBuf,
    kind: Kind,
    is_derived: bool,
}

#[derive(Debug)]
enum Kind {
    Folder,
    File {
        is_program: bool,
    },
    /// To a place inside, as it is reached from where the link stands.
    Link(PathBuf),
}

/// Why a folder cannot be taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// Reading this went wrong.
    Io(PathBuf, io::Error),
    TooLarge,
    TooMany,
    TooDeep(PathBuf),
}

impl Tree {
    /// Looks at all of it and reads no file. A single file is a folder with a `bootstrap`.
    pub(super) fn of(origin: &Path) -> Result<Tree, Refused> {
        let failed = |error| Refused::Io(origin.to_owned(), error);
        let real = origin.canonicalize().map_err(failed)?;
        let mut walk = Walk {
            real: real.clone(),
            entries: Vec::new(),
            bytes: 0,
            print: Context::new(&SHA256),
            changed: SystemTime::UNIX_EPOCH,
        };
        if fs::metadata(&real).map_err(failed)?.is_dir() {
            let folder = open_folder(&real).map_err(failed)?;
            walk.folder(&folder, Path::new(""), 0, false)?;
        } else {
            let file = open_file(&real).map_err(failed)?;
            walk.note(Path::new("bootstrap"), &file.metadata().map_err(failed)?, false)?;
            walk.entries.push(Entry { path: "bootstrap".into(), kind: Kind::File { is_program: true }, is_derived: false });
        }
        let mut print = [0; 32];
        print.copy_from_slice(walk.print.finish().as_ref());
        Ok(Tree { origin: real, entries: walk.entries, print, changed: walk.changed })
    }

    /// Whether there is a file of that name, a link to one included.
    pub(super) fn has_file(&self, path: &Path) -> bool {
        let found = self.entries.iter().find(|entry| entry.path == path);
        found.is_some_and(|entry| match &entry.kind {
            Kind::Folder => false,
            Kind::File { .. } => true,
            Kind::Link(_) => self.origin.join(path).is_file(),
        })
    }

    /// Files of a folder of it.
    pub(super) fn files(&self, folder: &Path) -> impl Iterator<Item = &OsStr> {
        let files = self.entries.iter().filter(|entry| !matches!(entry.kind, Kind::Folder));
        files.filter(move |entry| entry.path.parent() == Some(folder)).filter_map(|entry| entry.path.file_name())
    }

    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.entries.iter().filter(|entry| matches!(entry.kind, Kind::Folder)).map(|entry| entry.path.as_path())
    }

    pub(super) fn is_program(&self, path: &Path) -> bool {
        let found = self.entries.iter().find(|entry| entry.path == path);
        found.is_some_and(|entry| match &entry.kind {
            Kind::Folder => false,
            Kind::File { is_program } => *is_program,
            Kind::Link(_) => {
                fs::metadata(self.origin.join(path)).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
            }
        })
    }

    /// The hash of what is there, 64 hexadecimal digits. With a folder, which is empty, it is copied there meanwhile: what is hashed is
    /// what is there then, whatever is written at the origin at the same time.
    pub(super) fn read(&self, into: Option<&Path>) -> Result<String, Refused> {
        let mut reading = Reading { hash: Context::new(&SHA256), bytes: 0, chunk: vec![0; CHUNK_BYTES] };
        for entry in &self.entries {
            if entry.is_derived && into.is_none() {
                continue;
            }
            let failed = |error| Refused::Io(self.origin.join(&entry.path), error);
            let copy = into.map(|into| into.join(&entry.path));
            let done = match &entry.kind {
                Kind::Folder => reading.folder(entry, copy.as_deref()),
                Kind::File { is_program } => {
                    let file = self.open(&entry.path).map_err(failed)?;
                    reading.file(entry, file, *is_program, copy.as_deref())
                }
                Kind::Link(target) => reading.link(entry, target, copy.as_deref()),
            };
            done.map_err(failed)?;
            if reading.bytes > BYTES_MAX {
                return Err(Refused::TooLarge);
            }
        }
        if let Some(into) = into {
            for folder in self.entries.iter().rev().filter(|entry| matches!(entry.kind, Kind::Folder)) {
                let copy = into.join(&folder.path);
                fs::set_permissions(&copy, Permissions::from_mode(FOLDER_MODE)).map_err(|error| Refused::Io(copy, error))?;
            }
            fs::set_permissions(into, Permissions::from_mode(FOLDER_MODE))
                .map_err(|error| Refused::Io(into.to_owned(), error))?;
        }
        Ok(hex(reading.hash.finish().as_ref()))
    }

    /// Step by step, so that no link on the way leads elsewhere.
    fn open(&self, path: &Path) -> io::Result<File> {
        if self.origin.is_file() {
            return open_file(&self.origin);
        }
        let mut folder = open_folder(&self.origin)?;
        if let Some(parent) = path.parent() {
            for part in parent {
                folder = open_folder(&within(&folder, part))?;
            }
        }
        open_file(&within(&folder, path.file_name().unwrap_or_default()))
    }
}

struct Walk {
    real: PathBuf,
    entries: Vec<Entry>,
    bytes: u64,
    print: Context,
    changed: SystemTime,
}

impl Walk {
    fn folder(&mut self, folder: &File, path: &Path, depth: usize, is_derived: bool) -> Result<(), Refused> {
        let place = self.real.join(path);
        let failed = |error| Refused::Io(place.clone(), error);
        if depth > DEPTH_MAX {
            return Err(Refused::TooDeep(place));
        }
        self.note(path, &folder.metadata().map_err(failed)?, true)?;
        let listed = fs::read_dir(by_descriptor(folder)).map_err(failed)?;
        let names: io::Result<Vec<OsString>> = listed.take(ENTRIES_MAX + 1).map(|entry| Ok(entry?.file_name())).collect();
        let mut names = names.map_err(failed)?;
        names.sort_unstable();
        for name in names.into_iter().filter(|name| !LEFT_OUT.iter().any(|left_out| name == left_out)) {
            if self.entries.len() >= ENTRIES_MAX {
                return Err(Refused::TooMany);
            }
            let is_derived = is_derived || name == DERIVED;
            self.entry(folder, path.join(&name), &name, depth, is_derived)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &File, path: PathBuf, name: &OsStr, depth: usize, is_derived: bool) -> Result<(), Refused> {
        let origin = self.real.join(&path);
        let failed = |error| Refused::Io(origin.clone(), error);
        let place = within(folder, name);
        let metadata = fs::symlink_metadata(&place).map_err(failed)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            let inner = open_folder(&place).map_err(failed)?;
            self.entries.push(Entry { path: path.clone(), kind: Kind::Folder, is_derived });
            return self.folder(&inner, &path, depth + 1, is_derived);
        }
        if kind.is_file() {
            self.note(&path, &metadata, false)?;
            let is_program = metadata.permissions().mode() & 0o111 != 0;
            self.entries.push(Entry { path, kind: Kind::File { is_program }, is_derived });
        } else if kind.is_symlink() {
            self.note(&path, &metadata, true)?;
            match self.inside(&path) {
                Some(target) => self.entries.push(Entry { path, kind: Kind::Link(target), is_derived }),
                None => tracing::warn!(link = %origin.display(), "a link that leads out of a function's code is left out"),
            }
        }
        // Sockets, pipes and devices are no code.
        Ok(())
    }

    fn note(&mut self, path: &Path, metadata: &fs::Metadata, is_empty: bool) -> Result<(), Refused> {
        if !is_empty {
            self.bytes = self.bytes.saturating_add(metadata.len());
            if self.bytes > BYTES_MAX {
                return Err(Refused::TooLarge);
            }
        }
        // Whoever sets the time of a file back changes its `ctime` by that.
        let numbers = [metadata.dev(), metadata.ino(), metadata.len(), u64::from(metadata.mode())];
        let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        self.print.update(&(path.as_os_str().len() as u64).to_le_bytes());
        self.print.update(path.as_os_str().as_bytes());
        numbers.iter().for_each(|number| self.print.update(&number.to_le_bytes()));
        times.iter().for_each(|number| self.print.update(&number.to_le_bytes()));
        let changed =
            std::time::Duration::new(metadata.ctime().max(0) as u64, metadata.ctime_nsec().clamp(0, 999_999_999) as u32);
        self.changed = self.changed.max(SystemTime::UNIX_EPOCH + changed);
        Ok(())
    }

    /// Where a link leads, seen from its own folder; `None` where that is outside, or nowhere.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let target = self.real.join(path).canonicalize().ok()?;
        let target = target.strip_prefix(&self.real).ok()?;
        if target.components().any(|part| LEFT_OUT.iter().any(|left_out| part == Component::Normal(left_out.as_ref()))) {
            return None;
        }
        let up = path.parent().map_or(0, |folder| folder.components().count());
        let link: PathBuf = std::iter::repeat_n(Path::new(".."), up).chain([target]).collect();
        Some(if link.as_os_str().is_empty() { ".".into() } else { link })
    }
}

struct Reading {
    hash: Context,
    bytes: u64,
    chunk: Vec<u8>,
}

impl Reading {
    fn folder(&mut self, entry: &Entry, copy: Option<&Path>) -> io::Result<()> {
        self.name(entry, b'd', 0);
        // The mode it is to have would keep us from filling it.
        copy.map_or(Ok(()), |copy| fs::DirBuilder::new().mode(0o700).create(copy))
    }

    fn link(&mut self, entry: &Entry, target: &Path, copy: Option<&Path>) -> io::Result<()> {
        let bytes = target.as_os_str().as_bytes();
        self.name(entry, b'l', bytes.len() as u64);
        self.take(entry, bytes);
        copy.map_or(Ok(()), |copy| std::os::unix::fs::symlink(target, copy))
    }

    fn file(&mut self, entry: &Entry, mut file: File, is_program: bool, copy: Option<&Path>) -> io::Result<()> {
        let mode = if is_program { PROGRAM_MODE } else { FILE_MODE };
        let open = |copy: &Path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy);
        let mut copy = copy.map(open).transpose()?;
        let metadata = file.metadata()?;
        self.name(entry, if is_program { b'x' } else { b'f' }, metadata.len());
        // One that grows meanwhile has another length by the next look.
        let mut left = metadata.len();
        while left > 0 {
            let most = self.chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = file.read(&mut self.chunk[..most])?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was written to while it was read"));
            }
            left -= count as u64;
            if !entry.is_derived {
                self.hash.update(&self.chunk[..count]);
            }
            if let Some(copy) = &mut copy {
                copy.write_all(&self.chunk[..count])?;
            }
        }
        self.bytes = self.bytes.saturating_add(metadata.len());
        if let Some(copy) = copy {
            // Python goes by the time of a source file whether what it compiled of it before still holds.
            copy.set_times(FileTimes::new().set_modified(metadata.modified()?))?;
            copy.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// With lengths, so that no two trees are the same bytes.
    fn name(&mut self, entry: &Entry, kind: u8, length: u64) {
        let path = entry.path.as_os_str().as_bytes();
        self.take(entry, &[kind]);
        self.take(entry, &(path.len() as u64).to_le_bytes());
        self.take(entry, path);
        self.take(entry, &length.to_le_bytes());
    }

    fn take(&mut self, entry: &Entry, bytes: &[u8]) {
        if !entry.is_derived {
            self.hash.update(bytes);
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn open_folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// A pipe in the place of a file would be waited for, and is no file.
fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")) }
}

/// The open folder itself, whatever its path leads to by now.
fn by_descriptor(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

fn within(folder: &File, name: &OsStr) -> PathBuf {
    by_descriptor(folder).join(name)
}
