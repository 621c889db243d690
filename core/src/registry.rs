//! What outlives its makers: values that are shared for as long as anyone holds them, known by what they are. Asked where configurations are
//! loaded, not where requests go.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Of fewer the dead ones are not looked for.
const SWEEP_AT: usize = 16;

#[derive(Debug)]
pub struct Registry<K, V>(Mutex<Held<K, V>>);

#[derive(Debug)]
struct Held<K, V> {
    by_key: HashMap<K, Weak<V>>,
    /// With so many the dead ones are dropped; twice as many as lived the last time, so that a load of thousands is not quadratic.
    sweep_at: usize,
}

impl<K, V> Default for Registry<K, V> {
    fn default() -> Registry<K, V> {
        Registry(Mutex::new(Held { by_key: HashMap::new(), sweep_at: SWEEP_AT }))
    }
}

impl<K: Hash + Eq, V> Registry<K, V> {
    /// The value of that key, as long as anyone has it; else a new one.
    pub fn of(&self, key: K, new: impl FnOnce() -> Arc<V>) -> Arc<V> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held.by_key.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        if held.by_key.len() >= held.sweep_at {
            held.by_key.retain(|_, value| value.strong_count() > 0);
            held.sweep_at = SWEEP_AT.max(2 * held.by_key.len());
        }
        let new = new();
        held.by_key.insert(key, Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shared_while_it_is_held_and_forgotten_after() {
        let registry = Registry::default();
        let one = registry.of("a", || Arc::new(1));
        assert_eq!(*registry.of("a", || Arc::new(2)), 1);
        drop(one);
        assert_eq!(*registry.of("a", || Arc::new(3)), 3);
    }

    #[test]
    fn the_dead_are_not_kept_for_ever() {
        let registry = Registry::default();
        let _lives = registry.of(0, || Arc::new(()));
        for key in 1..1000 {
            registry.of(key, || Arc::new(()));
        }
        let held = registry.0.lock().unwrap();
        assert!(held.by_key.len() <= 2 * SWEEP_AT && held.by_key.contains_key(&0), "{}", held.by_key.len());
    }
}
