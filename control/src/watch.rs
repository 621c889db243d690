//! Watches files, and says when the content of one has changed. Does not read them for anyone else, and does not know what they mean.
//!
//! It watches the folders and not the files: editors write a new file and rename it, Kubernetes swaps a symbolic link. And it compares
//! contents, because a touched file is not a changed one. Of trees, which may be large, it compares what the system tells of each file.

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trail;
mod tree;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use trail::Trail;

/// So long nothing has to happen before the files are looked at: whoever writes several is let finish.
const QUIET: Duration = Duration::from_millis(100);
/// But after so long they are looked at anyhow, or a file that is written without pause would hide all the others.
const NOISE_MAX: Duration = Duration::from_secs(2);
/// Bytes of a file read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Watches until it is dropped.
pub struct Watcher {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    notify: RecommendedWatcher,
    /// Each file and what it held: `None` is a file that cannot be read. A folder holds its names.
    files: BTreeMap<PathBuf, Option<u64>>,
    /// Folders with all that is in them, likewise.
    trees: BTreeMap<PathBuf, Option<u64>>,
    folders: BTreeSet<PathBuf>,
    /// What the events are compared with; shared with the thread that they come on.
    trail: Arc<Mutex<Trail>>,
    /// Asks for a look, as an event does.
    wake: SyncSender<()>,
}

/// Calls `on_change` on a thread of its own each time the content of any file has changed, also when one appears or is gone. A folder
/// among the files means the names in it. To miss no change, watch first, then read; and after reading, `set` with what was read.
pub fn watch(files: Vec<PathBuf>, on_change: impl Fn() + Send + 'static) -> io::Result<Watcher> {
    // One place: a second event while one waits would only say the same.
    let (sender, receiver) = sync_channel(1);
    let trail: Arc<Mutex<Trail>> = Arc::default();
    let notify = listen(trail.clone(), sender.clone())?;
    let (files_held, trees) = (BTreeMap::new(), BTreeMap::new());
    let state = State { notify, files: files_held, trees, folders: BTreeSet::new(), trail, wake: sender };
    let watcher = Watcher { shared: Arc::new(Shared { state: Mutex::new(state) }) };
    watcher.set(files, Vec::new())?;
    let shared = Arc::downgrade(&watcher.shared);
    let look = move || match shared.upgrade() {
        Some(shared) => shared.state().look(),
        None => false,
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || attend(&receiver, look, on_change))?;
    Ok(watcher)
}

impl Watcher {
    /// Watches these from now on: files, and folders with all that is in them. What was watched before is still compared with what it held
    /// then: what changed since the last look is not lost.
    pub fn set(&self, files: Vec<PathBuf>, trees: Vec<PathBuf>) -> io::Result<()> {
        let mut state = self.shared.state();
        let (known_files, known_trees) = (std::mem::take(&mut state.files), std::mem::take(&mut state.trees));
        state.files = known(files, &known_files);
        state.trees = known(trees, &known_trees);
        state.follow()?;
        for (file, held) in state.files.iter_mut().filter(|(file, _)| !known_files.contains_key(*file)) {
            *held = fingerprint(file);
        }
        for (tree, held) in state.trees.iter_mut().filter(|(tree, _)| !known_trees.contains_key(*tree)) {
            *held = tree::fingerprint(tree);
        }
        // To watch a folder anew drops the events of it that nobody has read yet; what they would have told is looked for.
        let _ = state.wake.try_send(());
        Ok(())
    }
}

/// With what is known of them.
fn known(paths: Vec<PathBuf>, known: &BTreeMap<PathBuf, Option<u64>>) -> BTreeMap<PathBuf, Option<u64>> {
    paths.into_iter().map(|path| (path.clone(), known.get(&path).copied().flatten())).collect()
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(trail: Arc<Mutex<Trail>>, sender: SyncSender<()>) -> io::Result<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        let is_relevant = match &event {
            Ok(event) => is_change(event.kind) && concerns(event, &trail.lock().unwrap_or_else(PoisonError::into_inner)),
            // Such as an overflow: anything may have happened.
            Err(_) => true,
        };
        if is_relevant {
            let _ = sender.try_send(());
        }
    };
    notify::recommended_watcher(handler).map_err(io::Error::other)
}

/// Opening and reading are no changes, and are what we do ourselves.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// A folder may be full of files that change all the time, such as logs, and are none of our business.
fn concerns(event: &notify::Event, trail: &Trail) -> bool {
    let is_noise = |path: &Path| path.file_name().is_some_and(tree::is_noise) && !trail.is_named(path);
    event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(|path| trail.leads_over(path) && !is_noise(path))
}

fn attend(events: &Receiver<()>, look: impl Fn() -> bool, on_change: impl Fn()) {
    while events.recv().is_ok() {
        let latest = Instant::now() + NOISE_MAX;
        loop {
            match events.recv_timeout(QUIET) {
                Ok(()) if Instant::now() < latest => {}
                Ok(()) | Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        if look() {
            on_change();
        }
    }
}

impl State {
    /// Whether anything is other than it was.
    fn look(&mut self) -> bool {
        // Before reading: what changes after is an event again.
        if let Err(error) = self.follow() {
            tracing::warn!(%error, "cannot watch all files of the configuration: changes may go unseen");
        }
        let files = self.files.iter_mut().map(|(file, held)| (fingerprint(file), held));
        let trees = self.trees.iter_mut().map(|(tree, held)| (tree::fingerprint(tree), held));
        // Each of them, also after the first that changed.
        files.chain(trees).fold(false, |is_changed, (holds, held)| std::mem::replace(held, holds) != holds || is_changed)
    }

    /// Watches the folders where a change of any file would show. All anew, because one of the same name may be another folder by now.
    fn follow(&mut self) -> io::Result<()> {
        let mut trail = Trail::default();
        for file in self.files.keys() {
            trail.follow(file);
        }
        for root in self.trees.keys() {
            tree::follow(root, &mut trail);
        }
        let folders = trail.folders.clone();
        *self.trail.lock().unwrap_or_else(PoisonError::into_inner) = trail;
        for folder in &self.folders {
            // It may be gone, and then nobody watches it any more.
            let _ = self.notify.unwatch(folder);
        }
        self.folders.clear();
        let mut failure = None;
        for folder in folders {
            match self.notify.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(folder)),
                // The others are watched all the same.
                Err(error) => failure = Some(io::Error::other(format!("{}: {error}", folder.display()))),
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// The content as a number. Nobody who can write these files needs to find two with the same.
fn fingerprint(path: &Path) -> Option<u64> {
    let kind = fs::metadata(path).ok()?;
    let mut hasher = DefaultHasher::new();
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(path).ok()?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        names.sort_unstable();
        names.hash(&mut hasher);
    } else if kind.is_file() {
        read_into(path, &mut hasher).ok()?;
    } else {
        // A pipe or a device: reading it might never end.
        return None;
    }
    Some(hasher.finish())
}

fn read_into(path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(()),
            count => hasher.write(&chunk[..count]),
        }
    }
}
