//! What is kept over restarts, and changed while the gateway runs: consumers, and what they used of their quotas. One file of SQLite with one thread that writes it;
//! what is in it is in memory as well, so that nobody who asks waits for a disk. Decides nothing about a request: it publishes what
//! authorizers look up.

mod change;
mod consumers;
mod file;
mod keeper;
mod layout;
mod new_key;
#[cfg(test)]
mod tests;
mod usage;

pub use change::{BroughtKey, Change, Changed, Name, NotChanged};
pub(crate) use new_key::characters;
pub use usage::Past;

use keeper::{Job, Keeper};
use maitred_core::Clock;
use maitred_core::identity::{Fingerprint, KeyHash, KeyHasher, Stored};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Changes that wait to be written. Each takes milliseconds; who is refused may ask again.
const JOBS_MAX: usize = 256;
/// For a change: another process may hold the file for a while, and those before this one too.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(8);

/// For what was used to be written, where somebody waits to hand over.
const USAGE_TIME_MAX: Duration = Duration::from_secs(2);

/// Device and number of a file.
type Identified = (u64, u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConsumer {
    pub name: String,
    pub groups: Vec<String>,
    pub plan: Option<String>,
    pub disabled: bool,
    /// Milliseconds since 1970, as all times here.
    pub created: i64,
    pub changed: i64,
    pub keys: Vec<StoredKey>,
    pub identities: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    pub id: String,
    pub prefix: String,
    hash: KeyHash,
    hashed_by: Fingerprint,
    pub created: i64,
    pub ends: Option<i64>,
}

/// What it takes of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// What keys are hashed with. `None`: the store has a secret of its own.
    pub secret_key: Option<Vec<u8>>,
    /// Whoever has another one does not come in.
    pub plans: BTreeSet<String>,
}

/// What is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Contents {
    consumers: BTreeMap<String, StoredConsumer>,
    /// What it hashes with by itself. `None`: there is no file yet.
    hasher: Option<KeyHasher>,
}

/// What the thread and those who ask share.
#[derive(Debug, Default)]
struct Known {
    contents: Mutex<Arc<Contents>>,
    /// What keys can be verified with.
    fingerprints: Mutex<Vec<Fingerprint>>,
    errors: AtomicU64,
    is_failing: AtomicBool,
}

/// A store that is open, or that will be made when there is something to keep.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    known: Arc<Known>,
    /// Gone before the thread is waited for.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Reads what is there, publishes it to `stored`, and keeps both the same from here on. A file that is there and cannot be read is an
    /// error: whoever was disabled in it must not come in.
    pub fn open(path: &Path, settings: Settings, stored: Arc<Stored>, clock: Clock) -> Result<Store, StoreError> {
        let known: Arc<Known> = Arc::default();
        let keeper = Keeper::start(path, settings, stored, known.clone(), clock)?;
        let (jobs, asked) = sync_channel(JOBS_MAX);
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || keeper.run(&asked))?;
        Ok(Store { path: path.to_owned(), known, jobs: Some(jobs), thread: Some(thread) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// By name. Some keys may have been hashed with a secret that is not there any more: see `is_usable`.
    pub fn consumers(&self) -> Vec<StoredConsumer> {
        self.known.contents().consumers.values().cloned().collect()
    }

    pub fn consumer(&self, name: &str) -> Option<StoredConsumer> {
        self.known.contents().consumers.get(name).cloned()
    }

    pub fn count(&self) -> usize {
        self.known.contents().consumers.len()
    }

    /// Whether a caller who shows it can be known.
    pub fn is_usable(&self, key: &StoredKey) -> bool {
        lock(&self.known.fingerprints).contains(&key.hashed_by)
    }

    /// How often it failed.
    pub fn errors(&self) -> u64 {
        self.known.errors.load(Ordering::Relaxed)
    }

    /// The last look at it failed: what was known before goes on.
    pub fn is_failing(&self) -> bool {
        self.known.is_failing.load(Ordering::Relaxed)
    }

    /// It is on the disk, and live on every worker, when this returns.
    pub fn change(&self, change: Change) -> Result<Changed, NotChanged> {
        change.check()?;
        self.wait_for(|answer| Job::Change(change, answer))
    }

    /// After a reload: with another secret keys are made by it from here on, and those of the old one are nobody's. Quotas that are new go
    /// on with what was used of them before.
    pub fn configure(&self, settings: Settings) {
        if let Err(error) = self.ask(Job::Configure(settings)) {
            tracing::error!("the store goes on with the secret_key and the plans from before: {error}");
        }
    }

    /// What was used up to now is on the disk when this returns, and what other processes wrote there is known. That it took too long, or
    /// failed, is in the log: it is tried again every second.
    pub fn keep_usage(&self) {
        let (answer, answered) = sync_channel(1);
        if let Err(error) = self.ask(Job::KeepUsage(answer)) {
            return tracing::warn!("what was used of quotas is kept later: {error}");
        }
        if answered.recv_timeout(USAGE_TIME_MAX).is_err() {
            tracing::warn!("what was used of quotas is kept later: the store takes long");
        }
    }

    /// A consumer has used nothing of its own quotas.
    pub fn reset_usage(&self, consumer: &str) -> Result<(), NotChanged> {
        self.wait_for(|answer| Job::ResetUsage(consumer.to_owned(), answer))
    }

    /// What a consumer used in periods that have passed, the latest first, and no more than so many.
    pub fn past_usage(&self, consumer: &str, most: usize) -> Result<Vec<Past>, NotChanged> {
        self.wait_for(|answer| Job::PastUsage(consumer.to_owned(), most, answer))
    }

    fn wait_for<T>(&self, job: impl FnOnce(SyncSender<Result<T, NotChanged>>) -> Job) -> Result<T, NotChanged> {
        let (answer, answered) = sync_channel(1);
        self.ask(job(answer))?;
        answered.recv_timeout(CHANGE_TIME_MAX).unwrap_or_else(|error| {
            Err(NotChanged::Failed(match error {
                RecvTimeoutError::Timeout => "the store takes long: look later whether it was done".to_owned(),
                RecvTimeoutError::Disconnected => "the store's thread has ended; the log says why".to_owned(),
            }))
        })
    }

    fn ask(&self, job: Job) -> Result<(), NotChanged> {
        let Some(jobs) = &self.jobs else { return Err(NotChanged::Failed("the store is closed".to_owned())) };
        jobs.try_send(job).map_err(|error| {
            NotChanged::Failed(match error {
                TrySendError::Full(_) => "too many changes wait for the store; try again".to_owned(),
                TrySendError::Disconnected(_) => "the store's thread has ended; the log says why".to_owned(),
            })
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It ends with the last change that was asked for; that it panicked was logged.
            let _ = thread.join();
        }
    }
}

impl Known {
    fn contents(&self) -> Arc<Contents> {
        lock(&self.contents).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the store cannot be used.
#[derive(Debug)]
pub enum StoreError {
    /// The version of its layout.
    Newer(i64),
    Foreign,
    /// What SQLite found.
    Corrupt(String),
    Damaged(&'static str),
    /// It was there.
    Gone,
    /// Another content was written into the file that is open.
    Overwritten,
    NoChance,
    Sqlite(rusqlite::Error),
    Io(io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Newer(found) => write!(
                f,
                "a newer maitred wrote it (its layout has version {found}, this program knows {}): run that one, or restore the file from before",
                layout::VERSION
            ),
            StoreError::Foreign => f.write_str("it is the database of another program"),
            StoreError::Corrupt(found) => write!(f, "it is damaged ({found})"),
            StoreError::Damaged(what) => write!(f, "it is damaged ({what})"),
            StoreError::Gone => f.write_str("its file is gone: put it back, or restart the gateway to begin anew"),
            StoreError::Overwritten => f.write_str(
                "its file was overwritten while it was open: stop the gateway, put the right file there, without the `-wal` and `-shm` beside \
                 it, and start it again",
            ),
            StoreError::NoChance => f.write_str("the system gives no random bytes"),
            StoreError::Sqlite(error) => error.fmt(f),
            StoreError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        StoreError::Sqlite(error)
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> StoreError {
        StoreError::Io(error)
    }
}
