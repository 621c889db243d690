//! The thread of the store: writes what is asked for, several changes in one transaction; looks twice a second whether another process
//! wrote; ends keys when their time has come. What it knows, it publishes. Answers nobody before it is on the disk.

use super::change::{Change, Changed, NotChanged};
use super::consumers::{self, Changing};
use super::{Contents, Identified, Known, StoreError, StoredConsumer, file, layout, lock};
use maitred_core::Clock;
use maitred_core::identity::{Consumer, ConsumerSet, KeyHasher, Stored};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, SystemTime};

/// Between two looks for the writes of another process: a change is live everywhere in under a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// No connection counts down to it: what is there has yet to be read.
const UNREAD: i64 = -1;
/// Changes in one transaction.
const BATCH_MAX: usize = 64;

pub(super) enum Job {
    Change(Change, SyncSender<Result<Changed, NotChanged>>),
    SecretKey(Option<KeyHasher>),
}

struct Open {
    connection: Connection,
    /// Dropped after the connection.
    watched: File,
    /// Stays so: what is right of such a file nobody can tell.
    is_overwritten: bool,
    file: Option<Identified>,
    /// Moves when another connection commits (sqlite.org/pragma.html#pragma_data_version).
    data_version: i64,
}

impl Open {
    /// Whether the file is still what it was.
    fn look(&mut self) -> Result<(), StoreError> {
        if !self.is_overwritten && file::is_overwritten(&self.watched)? {
            self.is_overwritten = true;
            // What is in the log beside it belongs to another content.
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        if self.is_overwritten { Err(StoreError::Overwritten) } else { Ok(()) }
    }
}

pub(super) struct Keeper {
    path: PathBuf,
    /// What new keys are hashed with where `secret_key` is configured.
    hasher: Option<KeyHasher>,
    stored: Arc<Stored>,
    known: Arc<Known>,
    clock: Clock,
    open: Option<Open>,
    contents: Arc<Contents>,
    /// What was complained about last: a store that stays broken says so once.
    complaint: Option<String>,
    /// Keys that nobody can be known by.
    unusable: usize,
}

impl Keeper {
    pub fn start(
        path: &Path,
        hasher: Option<KeyHasher>,
        stored: Arc<Stored>,
        known: Arc<Known>,
        clock: Clock,
    ) -> Result<Keeper, StoreError> {
        let mut keeper = Keeper {
            path: path.to_owned(),
            hasher,
            stored,
            known,
            clock,
            open: None,
            contents: Arc::default(),
            complaint: None,
            unusable: 0,
        };
        if file::identified(path)?.is_some() {
            let connection = file::open(path)?;
            file::examine(path, &connection)?;
            keeper.take(connection)?;
        }
        Ok(keeper)
    }

    pub fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(self.pause()) {
                Ok(first) => self.work(std::iter::once(first).chain(jobs.try_iter().take(BATCH_MAX - 1)).collect()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let looked = self.look();
            self.complain(looked.err());
            self.end_keys();
        }
    }

    fn now(&self) -> i64 {
        let since = self.clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    /// Until the next look, or the end of a key before it.
    fn pause(&self) -> Duration {
        let ends = self.contents.consumers.values().flat_map(|consumer| &consumer.keys).filter_map(|key| key.ends).min();
        let left = ends.map(|ends| Duration::from_millis(u64::try_from(ends.saturating_sub(self.now())).unwrap_or(0)));
        left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY))
    }

    fn work(&mut self, jobs: Vec<Job>) {
        let (mut changes, mut answers) = (Vec::new(), Vec::new());
        for job in jobs {
            match job {
                Job::Change(change, answer) => {
                    changes.push(change);
                    answers.push(answer);
                }
                Job::SecretKey(hasher) if hasher != self.hasher => {
                    self.hasher = hasher;
                    self.publish();
                }
                Job::SecretKey(_) => {}
            }
        }
        if changes.is_empty() {
            return;
        }
        let results = self.write(&changes);
        let results = results.unwrap_or_else(|error| {
            let words = NotChanged::from(error);
            self.known.errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!("{words}");
            changes.iter().map(|_| Err(words.clone())).collect()
        });
        for (answer, result) in answers.iter().zip(results) {
            // Nobody waits for it any more: it is done all the same.
            let _ = answer.try_send(result);
        }
    }

    /// All in one transaction, each on its own: one that is refused leaves the others alone.
    fn write(&mut self, changes: &[Change]) -> Result<Vec<Result<Changed, NotChanged>>, StoreError> {
        self.look()?;
        if self.open.is_none() {
            let adds = |change: &Change| matches!(change, Change::Add { .. });
            if !changes.iter().any(adds) {
                return Ok(changes.iter().map(|change| Err(NotChanged::unknown(change.name()))).collect());
            }
            let connection = file::create(&self.path)?;
            self.take(connection)?;
            tracing::info!(path = %self.path.display(), "the store was made");
        }
        let (now, contents) = (self.now(), self.contents.clone());
        let hasher = self.hasher.as_ref().or(contents.hasher.as_ref()).ok_or(StoreError::Damaged("its secret is missing"))?;
        let Some(open) = &mut self.open else { return Err(StoreError::Gone) };
        let mut transaction = open.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        layout::still_ours(&transaction)?;
        let mut results = Vec::with_capacity(changes.len());
        for change in changes {
            let savepoint = transaction.savepoint()?;
            let result = Changing { transaction: &savepoint, hasher, now }.make(change);
            match &result {
                Ok(_) => savepoint.commit()?,
                // Dropping it undoes what was done of it.
                Err(_) => drop(savepoint),
            }
            results.push(result);
        }
        transaction.commit()?;
        self.reread()?;
        Ok(results)
    }

    /// Whether another process wrote, made the file, or took it away.
    fn look(&mut self) -> Result<(), StoreError> {
        let file = file::identified(&self.path)?;
        match &mut self.open {
            Some(open) if file == open.file => {
                open.look()?;
                let found = data_version(&open.connection)?;
                if found == open.data_version { Ok(()) } else { self.reread() }
            }
            Some(_) | None if file.is_none() => {
                self.open = None;
                if self.contents.consumers.is_empty() { Ok(()) } else { Err(StoreError::Gone) }
            }
            Some(_) | None => {
                self.open = None;
                let connection = file::open(&self.path)?;
                self.take(connection)
            }
        }
    }

    fn take(&mut self, connection: Connection) -> Result<(), StoreError> {
        let file = file::identified(&self.path)?;
        let watched = file::watch(&self.path)?;
        self.open = Some(Open { connection, watched, is_overwritten: false, file, data_version: UNREAD });
        self.reread()
    }

    fn reread(&mut self) -> Result<(), StoreError> {
        let now = self.now();
        let Some(open) = &mut self.open else { return Err(StoreError::Gone) };
        // Our own writes do not move it: one that could not be read back is tried again at the next look.
        open.data_version = UNREAD;
        // First: what is written while this reads is read next time.
        let data_version = data_version(&open.connection)?;
        let contents = consumers::read(&open.connection, now)?;
        open.data_version = data_version;
        self.contents = Arc::new(contents);
        self.publish();
        Ok(())
    }

    /// Keys end by the clock, whether or not the store can be written.
    fn end_keys(&mut self) {
        let now = self.now();
        let has_ended = |ends: Option<i64>| ends.is_some_and(|ends| ends <= now);
        let keys = |consumer: &StoredConsumer| consumer.keys.iter().any(|key| has_ended(key.ends));
        if !self.contents.consumers.values().any(keys) {
            return;
        }
        for consumer in Arc::make_mut(&mut self.contents).consumers.values_mut() {
            consumer.keys.retain(|key| !has_ended(key.ends));
        }
        self.publish();
        let Some(open) = self.open.as_ref().filter(|open| !open.is_overwritten) else { return };
        let delete = || Ok(open.connection.execute("DELETE FROM api_keys WHERE ends <= ?1", [now])?);
        let deleted: Result<usize, StoreError> = layout::still_ours(&open.connection).and_then(|()| delete());
        self.complain(deleted.err());
    }

    /// To authorizers, and to those who ask what there is.
    fn publish(&mut self) {
        let hashers: Vec<KeyHasher> = self.hasher.iter().chain(&self.contents.hasher).cloned().collect();
        *lock(&self.known.fingerprints) = hashers.iter().map(KeyHasher::fingerprint).collect();
        *lock(&self.known.contents) = self.contents.clone();
        let fingerprints: Vec<_> = hashers.iter().map(KeyHasher::fingerprint).collect();
        let mut set = ConsumerSet::new(hashers);
        let mut unusable = 0;
        for stored in self.contents.consumers.values() {
            let consumer = Arc::new(Consumer {
                name: stored.name.as_str().into(),
                plan: None,
                groups: stored.groups.iter().map(|group| group.as_str().into()).collect(),
                disabled: stored.disabled,
            });
            // That no two have the same, the tables see to.
            let _ = set.add(&consumer);
            for key in &stored.keys {
                unusable += usize::from(!fingerprints.contains(&key.hashed_by));
                let _ = set.add_key(key.hash, &consumer);
            }
            for identity in &stored.identities {
                let _ = set.add_identity(&identity.authorizer, &identity.subject, &consumer);
            }
        }
        self.stored.publish(set);
        if unusable > self.unusable {
            tracing::warn!(
                keys = unusable,
                "keys in the store were made under another secret_key, and open nothing: `maitred consumer list` shows whose they are"
            );
        }
        self.unusable = unusable;
    }

    /// Once, until it is another thing that is wrong.
    fn complain(&mut self, error: Option<StoreError>) {
        self.known.is_failing.store(error.is_some(), Ordering::Relaxed);
        let Some(error) = error else {
            self.complaint = None;
            return;
        };
        self.known.errors.fetch_add(1, Ordering::Relaxed);
        let words = error.to_string();
        if self.complaint.as_ref() != Some(&words) {
            let path = self.path.display();
            tracing::error!(%path, "the store cannot be read; what was known before goes on: {words}");
            self.complaint = Some(words);
        }
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}
