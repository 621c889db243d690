//! Registered callers, found by key or by what an authorizer calls them. Those of the configuration come with a snapshot; those that were
//! added at run time are put here by the store. Holds hashes of keys and no key.

use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    pub name: Arc<str>,
    pub groups: Box<[Box<str>]>,
    /// Its credentials are right, and it may not come in.
    pub disabled: bool,
}

/// A keyed hash of an API key: BLAKE3 with a key that is derived from the gateway's secret.
pub type KeyHash = [u8; 32];

/// Consumers that came from one place.
#[derive(Debug, Default)]
pub struct ConsumerSet {
    pub by_name: HashMap<Arc<str>, Arc<Consumer>>,
    keys: HashMap<KeyHash, Arc<Consumer>>,
    /// By authorizer, then by subject.
    identities: HashMap<Box<str>, HashMap<Box<str>, Arc<Consumer>>>,
}

/// What stood there before, and stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken(pub Arc<Consumer>);

impl ConsumerSet {
    pub fn add(&mut self, consumer: &Arc<Consumer>) -> Result<(), Taken> {
        claim(self.by_name.entry(consumer.name.clone()), consumer)
    }

    pub fn add_key(&mut self, hash: KeyHash, consumer: &Arc<Consumer>) -> Result<(), Taken> {
        claim(self.keys.entry(hash), consumer)
    }

    pub fn add_identity(&mut self, authorizer: &str, subject: &str, consumer: &Arc<Consumer>) -> Result<(), Taken> {
        claim(self.identities.entry(authorizer.into()).or_default().entry(subject.into()), consumer)
    }

    pub fn by_key(&self, hash: &KeyHash) -> Option<&Arc<Consumer>> {
        self.keys.get(hash)
    }

    pub fn by_identity(&self, authorizer: &str, subject: &str) -> Option<&Arc<Consumer>> {
        self.identities.get(authorizer)?.get(subject)
    }
}

fn claim<K>(entry: Entry<'_, K, Arc<Consumer>>, consumer: &Arc<Consumer>) -> Result<(), Taken> {
    match entry {
        Entry::Occupied(taken) => Err(Taken(taken.get().clone())),
        Entry::Vacant(free) => {
            free.insert(consumer.clone());
            Ok(())
        }
    }
}

/// Consumers that come and go at run time, for the whole process.
#[derive(Debug, Default)]
pub struct Stored {
    set: ArcSwap<ConsumerSet>,
    generation: AtomicU64,
}

impl Stored {
    /// Live at once, on every worker.
    pub fn publish(&self, set: ConsumerSet) {
        self.set.store(Arc::new(set));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// All consumers, as one snapshot sees them: the configuration's come first.
#[derive(Debug, Default)]
pub struct Roll {
    pub configured: ConsumerSet,
    pub stored: Arc<Stored>,
}

impl Roll {
    pub fn by_key(&self, hash: &KeyHash) -> Option<Arc<Consumer>> {
        self.configured.by_key(hash).cloned().or_else(|| self.stored.set.load().by_key(hash).cloned())
    }

    pub fn by_identity(&self, authorizer: &str, subject: &str) -> Option<Arc<Consumer>> {
        let configured = self.configured.by_identity(authorizer, subject).cloned();
        configured.or_else(|| self.stored.set.load().by_identity(authorizer, subject).cloned())
    }

    /// Moves with every change at run time: what was learned before may be wrong.
    pub fn generation(&self) -> u64 {
        self.stored.generation.load(Ordering::Acquire)
    }
}
