//! The keys that tokens are verified with: a set as it was read, and the cell in which workers find the one of the moment. The set is
//! fetched and put there by the control side; nothing here touches the network.

mod bell;
mod jwk;

pub use bell::Bell;
pub use jwk::{JWKS_BYTES_MAX, Key, KeySet};

use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two fetches that tokens asked for: whoever invents names of keys cannot have the issuer asked more often.
pub const COOLDOWN: Duration = Duration::from_secs(10);

/// Where keys are fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// A JWK set (RFC 7517 §5).
    Url(Box<str>),
    /// An issuer that says where its set is (OpenID Connect Discovery 1.0 §4).
    Discovery(Box<str>),
}

/// The keys of one source, for as long as anyone wants them.
#[derive(Debug)]
pub struct KeyCell {
    /// `None`: nobody will ever bring others.
    source: Option<KeySource>,
    set: ArcSwapOption<KeySet>,
    generation: AtomicU64,
    born: Instant,
    /// From when on a token may ask for a fetch, in nanoseconds after `born`.
    asking_from: AtomicU64,
    under_way: AtomicBool,
    wanted: Arc<Bell>,
    fetched: Bell,
}

impl KeyCell {
    /// Empty until somebody fetches them.
    pub fn new(source: KeySource, now: Instant) -> KeyCell {
        KeyCell {
            source: Some(source),
            set: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            born: now,
            asking_from: AtomicU64::new(0),
            under_way: AtomicBool::new(false),
            wanted: Arc::default(),
            fetched: Bell::default(),
        }
    }

    /// Keys that stay what they are.
    pub fn fixed(set: KeySet, now: Instant) -> KeyCell {
        let set = ArcSwapOption::from_pointee(set);
        KeyCell { source: None, set, ..KeyCell::new(KeySource::Url("".into()), now) }
    }

    pub fn source(&self) -> Option<&KeySource> {
        self.source.as_ref()
    }

    /// `None`: none were ever there.
    pub fn load(&self) -> Option<Arc<KeySet>> {
        self.set.load_full()
    }

    /// Moves with every other set.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Rings when a token wants keys that are not there.
    pub fn wanted(&self) -> &Arc<Bell> {
        &self.wanted
    }

    /// Rings when a fetch is over, however it went.
    pub fn fetched(&self) -> &Bell {
        &self.fetched
    }

    /// A token wants keys that are not there. Whether a fetch is under way that may bring them.
    pub fn ask(&self, now: Instant) -> bool {
        if self.source.is_none() {
            return false;
        }
        if self.under_way.load(Ordering::Acquire) {
            return true;
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(self.born));
        let from = self.asking_from.load(Ordering::Relaxed);
        let next = now.saturating_add(nanos(COOLDOWN));
        let is_first = now >= from && self.asking_from.compare_exchange(from, next, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if is_first {
            self.under_way.store(true, Ordering::Release);
            self.wanted.ring();
        }
        // Of many at one moment one has asked, and the others wait with it.
        is_first || self.under_way.load(Ordering::Acquire)
    }

    /// A fetch begins, asked for or not.
    pub fn begin(&self) {
        self.under_way.store(true, Ordering::Release);
    }

    /// A fetch is over. `None`: it brought nothing, and what was there stays. True if there are other keys now.
    pub fn end(&self, set: Option<KeySet>) -> bool {
        let is_other = set.as_ref().is_some_and(|set| self.set.load().as_ref().is_none_or(|known| known.text() != set.text()));
        if let Some(set) = set.filter(|_| is_other) {
            self.set.store(Some(Arc::new(set)));
            self.generation.fetch_add(1, Ordering::Release);
        }
        self.under_way.store(false, Ordering::Release);
        self.fetched.ring();
        is_other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn set() -> KeySet {
        KeySet::parse(ONE.as_bytes()).expect("a set")
    }

    #[test]
    fn many_ask_and_one_fetch_follows() {
        let now = Instant::now();
        let cell = KeyCell::new(KeySource::Url("https://x".into()), now);
        assert!((0..100).all(|_| cell.ask(now)));
        assert_eq!(cell.wanted().count(), 1);
        assert!(cell.end(None) || cell.load().is_none());
        assert!(!cell.ask(now + COOLDOWN - Duration::from_millis(1)), "too soon, and nobody is to wait");
        assert_eq!(cell.wanted().count(), 1);
        assert!(cell.ask(now + COOLDOWN));
        assert_eq!(cell.wanted().count(), 2);
    }

    #[test]
    fn a_failure_keeps_what_is_there_and_the_same_set_is_no_other() {
        let now = Instant::now();
        let cell = KeyCell::new(KeySource::Url("https://x".into()), now);
        cell.begin();
        assert!(cell.end(Some(set())) && cell.generation() == 1);
        assert!(!cell.end(Some(set())) && cell.generation() == 1);
        assert!(!cell.end(None) && cell.load().is_some());
        assert_eq!(cell.fetched().count(), 3);
    }

    #[test]
    fn nobody_is_asked_for_keys_of_a_file() {
        let now = Instant::now();
        let cell = KeyCell::fixed(set(), now);
        assert!(!cell.ask(now) && cell.wanted().count() == 0 && cell.load().is_some());
    }
}
