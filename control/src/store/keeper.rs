//! The thread of the store: writes what is asked for, several changes in one transaction; looks twice a second whether another process
//! wrote; ends keys when their time has come; writes every second what was used of quotas. What it knows, it publishes. Answers nobody before
//! it is on the disk.

use super::change::{Change, Changed, NotChanged};
use super::consumers::{self, Changing};
use super::usage::{self, Past};
use super::{Contents, Identified, Known, Settings, StoreError, StoredConsumer, file, layout, lock};
use maitred_core::Clock;
use maitred_core::identity::{Consumer, ConsumerSet, KeyHasher, Stored};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

/// Between two looks for the writes of another process: a change is live everywhere in under a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Consumers named in one line of the log.
const PLANLESS_TOLD: usize = 20;
/// No connection counts down to it: what is there has yet to be read.
const UNREAD: i64 = -1;
/// Changes in one transaction.
const BATCH_MAX: usize = 64;
/// How often what was used is written: of a crash that much is forgotten.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// How often is looked for what nobody asks for any more.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

pub(super) enum Job {
    Change(Change, SyncSender<Result<Changed, NotChanged>>),
    Configure(Settings),
    KeepUsage(SyncSender<()>),
    ResetUsage(String, SyncSender<Result<(), NotChanged>>),
    PastUsage(String, usize, SyncSender<Result<Vec<Past>, NotChanged>>),
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
    settings: Settings,
    stored: Arc<Stored>,
    known: Arc<Known>,
    clock: Clock,
    open: Option<Open>,
    contents: Arc<Contents>,
    /// What was complained about last: a store that stays broken says so once.
    complaint: Option<String>,
    /// Keys that nobody can be known by.
    unusable: usize,
    /// Consumers whose plan does not exist.
    planless: Vec<String>,
    /// When what was used was written, and when what has passed was deleted.
    kept: Instant,
    tidied: Option<Instant>,
}

impl Keeper {
    pub fn start(
        path: &Path,
        settings: Settings,
        stored: Arc<Stored>,
        known: Arc<Known>,
        clock: Clock,
    ) -> Result<Keeper, StoreError> {
        let mut keeper = Keeper {
            path: path.to_owned(),
            hasher: settings.secret_key.as_deref().map(KeyHasher::new),
            settings,
            stored,
            known,
            kept: clock.now(),
            tidied: None,
            clock,
            open: None,
            contents: Arc::default(),
            complaint: None,
            unusable: 0,
            planless: Vec::new(),
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
                Err(RecvTimeoutError::Disconnected) => {
                    let kept = self.keep_usage();
                    return self.complain(kept.err());
                }
            }
            let looked = self.look().and_then(|()| self.keep_in_time());
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
                Job::Configure(settings) => {
                    if settings != self.settings {
                        self.hasher = settings.secret_key.as_deref().map(KeyHasher::new);
                        self.settings = settings;
                        self.publish();
                    }
                    let restored = self.restore_usage();
                    self.complain(restored.err());
                }
                Job::KeepUsage(answer) => {
                    let kept = self.keep_usage().and_then(|()| self.look()).and_then(|()| self.restore_usage());
                    self.complain(kept.err());
                    let _ = answer.try_send(());
                }
                Job::ResetUsage(consumer, answer) => {
                    let _ = answer.try_send(self.reset_usage(&consumer).map_err(NotChanged::from));
                }
                Job::PastUsage(consumer, most, answer) => {
                    let past = self.open.as_ref().map(|open| usage::past(&open.connection, &consumer, most, self.now()));
                    let _ = answer.try_send(past.unwrap_or_else(|| Ok(Vec::new())).map_err(NotChanged::from));
                }
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
            self.make()?;
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

    fn make(&mut self) -> Result<(), StoreError> {
        let connection = file::create(&self.path)?;
        self.stored.accounts.forget_kept();
        self.take(connection)?;
        tracing::info!(path = %self.path.display(), "the store was made");
        Ok(())
    }

    fn keep_in_time(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.stored.accounts.is_idle() || now.saturating_duration_since(self.kept) < KEEP_EVERY {
            return Ok(());
        }
        self.kept = now;
        self.keep_usage()?;
        let is_tidy = |tidied| now.saturating_duration_since(tidied) < TIDY_EVERY;
        if self.tidied.is_none_or(|tidied| !is_tidy(tidied)) {
            self.tidied = Some(now);
            self.stored.accounts.sweep(usage::seconds(self.now()));
            if let Some(open) = &self.open {
                layout::still_ours(&open.connection)?;
                usage::tidy(&open.connection, self.now())?;
            }
        }
        Ok(())
    }

    /// Writes what was used since the last time, and learns what others wrote.
    fn keep_usage(&mut self) -> Result<(), StoreError> {
        if self.stored.accounts.is_idle() || self.stored.accounts.unkept().is_empty() {
            return Ok(());
        }
        self.look()?;
        if self.open.is_none() {
            self.make()?;
        }
        let unkept = self.stored.accounts.unkept();
        let Some(open) = &mut self.open else { return Err(StoreError::Gone) };
        let transaction = open.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        layout::still_ours(&transaction)?;
        let totals = usage::add(&transaction, &unkept)?;
        transaction.commit()?;
        for (unkept, total) in unkept.iter().zip(totals) {
            unkept.count().settle(unkept.owed, total);
        }
        Ok(())
    }

    /// Counts go on with what the file has of the periods that last.
    fn restore_usage(&self) -> Result<(), StoreError> {
        match &self.open {
            Some(open) if !self.stored.accounts.is_idle() => usage::restore(&open.connection, &self.stored.accounts, self.now()),
            Some(_) | None => Ok(()),
        }
    }

    fn reset_usage(&mut self, consumer: &str) -> Result<(), StoreError> {
        self.keep_usage()?;
        if let Some(open) = &self.open {
            layout::still_ours(&open.connection)?;
            usage::reset(&open.connection, consumer, self.now())?;
        }
        if let Some(account) = self.stored.accounts.known(consumer) {
            account.reset();
        }
        Ok(())
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
        if contents != *self.contents {
            // Another process that writes what was used is no reason to verify every credential anew.
            self.contents = Arc::new(contents);
            self.publish();
        }
        self.restore_usage()
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
        let (mut unusable, mut planless) = (0, Vec::new());
        for stored in self.contents.consumers.values() {
            let is_planless = stored.plan.as_ref().is_some_and(|plan| !self.settings.plans.contains(plan));
            if is_planless {
                planless.push(stored.name.clone());
            }
            let consumer = Arc::new(Consumer {
                name: stored.name.as_str().into(),
                plan: stored.plan.as_deref().map(Into::into),
                account: self.stored.accounts.of(&stored.name),
                groups: stored.groups.iter().map(|group| group.as_str().into()).collect(),
                // What it may do is not known: nothing.
                disabled: stored.disabled || is_planless,
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
        if !planless.is_empty() && planless != self.planless {
            tracing::error!(
                consumers = planless.iter().take(PLANLESS_TOLD).map(String::as_str).collect::<Vec<_>>().join(", "),
                count = planless.len(),
                "consumers in the store have plans that the configuration lacks, and are refused: add the plans, or `maitred consumer set-plan`"
            );
        }
        self.planless = planless;
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
