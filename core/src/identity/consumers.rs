//! Registered callers, found by key or by what an authorizer calls them. Those of the configuration come with a snapshot; those that were
//! added at run time are put here by the store. Holds hashes of keys and no key.

use super::{KeyHash, KeyHasher};
use crate::quota::{Account, Accounts};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    pub name: Arc<str>,
    /// What it is given, by name.
    pub plan: Option<Arc<str>>,
    /// What it used of that.
    pub account: Arc<Account>,
    pub groups: Box<[Box<str>]>,
    /// Its credentials are right, and it may not come in.
    pub disabled: bool,
}

/// Consumers that came from one place.
#[derive(Debug, Default)]
pub struct ConsumerSet {
    pub by_name: HashMap<Arc<str>, Arc<Consumer>>,
    /// What their keys were hashed with: one, or two where the secret is another than it was.
    hashers: Vec<KeyHasher>,
    keys: HashMap<KeyHash, Arc<Consumer>>,
    /// By authorizer, then by subject.
    identities: HashMap<Box<str>, HashMap<Box<str>, Arc<Consumer>>>,
}

/// What stood there before, and stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken(pub Arc<Consumer>);

impl ConsumerSet {
    pub fn new(hashers: Vec<KeyHasher>) -> ConsumerSet {
        ConsumerSet { hashers, ..ConsumerSet::default() }
    }

    pub fn add(&mut self, consumer: &Arc<Consumer>) -> Result<(), Taken> {
        claim(self.by_name.entry(consumer.name.clone()), consumer)
    }

    pub fn add_key(&mut self, hash: KeyHash, consumer: &Arc<Consumer>) -> Result<(), Taken> {
        claim(self.keys.entry(hash), consumer)
    }

    pub fn add_identity(&mut self, authorizer: &str, subject: &str, consumer: &Arc<Consumer>) -> Result<(), Taken> {
        claim(self.identities.entry(authorizer.into()).or_default().entry(subject.into()), consumer)
    }

    /// `key`: as the caller shows it.
    pub fn by_key(&self, key: &[u8]) -> Option<&Arc<Consumer>> {
        if self.keys.is_empty() {
            return None;
        }
        self.hashers.iter().find_map(|hasher| self.keys.get(&hasher.hash(key)))
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
    /// What consumers used, those of the configuration too.
    pub accounts: Accounts,
}

impl Stored {
    /// Live at once, on every worker.
    pub fn publish(&self, set: ConsumerSet) {
        self.set.store(Arc::new(set));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// All consumers, as one snapshot sees them: the configuration's come first, and hide those of the same name that were added at run time.
#[derive(Debug, Default)]
pub struct Roll {
    pub configured: ConsumerSet,
    pub stored: Arc<Stored>,
}

impl Roll {
    /// `key`: as the caller shows it.
    pub fn by_key(&self, key: &[u8]) -> Option<Arc<Consumer>> {
        let configured = self.configured.by_key(key).cloned();
        configured.or_else(|| self.unless_hidden(self.stored.set.load().by_key(key)?))
    }

    pub fn by_identity(&self, authorizer: &str, subject: &str) -> Option<Arc<Consumer>> {
        let configured = self.configured.by_identity(authorizer, subject).cloned();
        configured.or_else(|| self.unless_hidden(self.stored.set.load().by_identity(authorizer, subject)?))
    }

    /// Moves with every change at run time: what was learned before may be wrong.
    pub fn generation(&self) -> u64 {
        self.stored.generation.load(Ordering::Acquire)
    }

    fn unless_hidden(&self, stored: &Arc<Consumer>) -> Option<Arc<Consumer>> {
        (!self.configured.by_name.contains_key(&stored.name)).then(|| stored.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(name: &str, group: &str) -> Arc<Consumer> {
        Arc::new(Consumer {
            name: name.into(),
            plan: None,
            account: Arc::default(),
            groups: [group.into()].into(),
            disabled: false,
        })
    }

    fn set(secret: &str, entries: &[(&str, &str)], group: &str) -> ConsumerSet {
        let hasher = KeyHasher::new(secret.as_bytes());
        let mut set = ConsumerSet::new(vec![KeyHasher::new(b"an older secret"), hasher.clone()]);
        for (name, key) in entries {
            let consumer = consumer(name, group);
            set.add(&consumer).unwrap();
            set.add_key(hasher.hash(key.as_bytes()), &consumer).unwrap();
            set.add_identity("staff", key, &consumer).unwrap();
        }
        set
    }

    #[test]
    fn what_is_stored_is_found_beside_what_is_configured_whatever_each_was_hashed_with() {
        let roll = Roll { configured: set("file", &[("alice", "a"), ("bob", "b")], "file"), stored: Arc::default() };
        let before = roll.generation();
        roll.stored.publish(set("store", &[("alice", "old"), ("carol", "c"), ("dave", "b")], "store"));
        assert_ne!(roll.generation(), before);
        let found = |key: &str| roll.by_key(key.as_bytes()).map(|found| format!("{} {}", found.name, found.groups[0]));
        for (key, wanted) in [
            ("a", Some("alice file")),
            ("b", Some("bob file")),
            ("c", Some("carol store")),
            // Of a consumer that the file has too.
            ("old", None),
            ("nobody's", None),
        ] {
            assert_eq!(found(key).as_deref(), wanted, "{key}");
            let named = roll.by_identity("staff", key).map(|found| format!("{} {}", found.name, found.groups[0]));
            assert_eq!(named.as_deref(), wanted, "{key}");
        }
    }
}
