//! What functions said a moment ago, by authorizer, stage and identity sources. Bounded. What it means for a method is not kept: that is found
//! out anew for each.

use super::result::Said;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Of one worker. Each is a policy and a context, 64 KiB at most and a few hundred bytes mostly.
const KEPT_MAX: usize = 1024;

pub type Key = [u8; 32];

/// Each part with its length before it: no two lists of values have one key.
pub fn key(authorizer: u64, stage: &str, values: &[String]) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&authorizer.to_le_bytes());
    for part in [stage].into_iter().chain(values.iter().map(String::as_str)) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[derive(Debug, Default)]
pub struct Memory(HashMap<Key, (Arc<Said>, Instant)>);

impl Memory {
    pub fn get(&self, key: &Key, now: Instant) -> Option<Arc<Said>> {
        self.0.get(key).filter(|(_, until)| now < *until).map(|(said, _)| said.clone())
    }

    pub fn put(&mut self, key: Key, said: Arc<Said>, (now, until): (Instant, Instant)) {
        if self.0.len() >= KEPT_MAX {
            self.0.retain(|_, (_, until)| now < *until);
        }
        // Still full: any of them goes.
        if self.0.len() >= KEPT_MAX
            && let Some(any) = self.0.keys().next().copied()
        {
            self.0.remove(&any);
        }
        self.0.insert(key, (said, until));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
