//! The keys that tokens are verified with: a set as it was read, and the cell in which workers find the one of the moment. The set is
//! fetched and put there by the control side; nothing here touches the network.

mod asking;
mod bell;
mod jwk;

pub use asking::{Asking, COOLDOWN};
pub use bell::Bell;
pub use jwk::{JWKS_BYTES_MAX, Key, KeySet};

use arc_swap::ArcSwapOption;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

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
    /// What the issuer says of itself, where that was asked for.
    document: ArcSwapOption<Map<String, Value>>,
    generation: AtomicU64,
    /// The last fetch brought nothing.
    has_failed: AtomicBool,
    asking: Asking,
}

impl KeyCell {
    /// Empty until somebody fetches them.
    pub fn new(source: KeySource, now: Instant) -> KeyCell {
        KeyCell {
            source: Some(source),
            set: ArcSwapOption::empty(),
            document: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            asking: Asking::new(now),
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

    /// The issuer's document of discovery. `None`: there is none, or it has not come yet.
    pub fn document(&self) -> Option<Arc<Map<String, Value>>> {
        self.document.load_full()
    }

    pub fn put_document(&self, document: Map<String, Value>) {
        self.document.store(Some(Arc::new(document)));
    }

    /// Moves with every other set.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Rings when a token wants keys that are not there.
    pub fn wanted(&self) -> &Arc<Bell> {
        self.asking.wanted()
    }

    /// Rings when a fetch is over, however it went.
    pub fn fetched(&self) -> &Bell {
        self.asking.over()
    }

    /// A token wants keys that are not there. Whether a fetch is under way that may bring them.
    pub fn ask(&self, now: Instant) -> bool {
        self.source.is_some() && self.asking.ask(now)
    }

    /// Whether these are all keys that there are, as far as anybody could find out: some are there, the last fetch brought them, and none is
    /// under way.
    pub fn is_current(&self) -> bool {
        self.set.load().is_some() && !self.has_failed.load(Ordering::Acquire) && !self.asking.is_under_way()
    }

    /// A fetch begins, asked for or not.
    pub fn begin(&self) {
        self.asking.begin();
    }

    /// A fetch is over. `None`: it brought nothing, and what was there stays. True if there are other keys now.
    pub fn end(&self, set: Option<KeySet>) -> bool {
        let has_failed = set.is_none();
        let is_other = set.as_ref().is_some_and(|set| self.set.load().as_ref().is_none_or(|known| known.text() != set.text()));
        if let Some(set) = set.filter(|_| is_other) {
            self.set.store(Some(Arc::new(set)));
            self.generation.fetch_add(1, Ordering::Release);
        }
        self.has_failed.store(has_failed, Ordering::Release);
        self.asking.end();
        is_other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        assert!(cell.is_current());
        assert!(!cell.end(None) && cell.load().is_some() && !cell.is_current());
        assert_eq!(cell.fetched().count(), 3);
        cell.end(Some(set()));
        assert!(cell.is_current());
        cell.begin();
        assert!(!cell.is_current(), "there may be others in a moment");
    }

    #[test]
    fn nobody_is_asked_for_keys_of_a_file() {
        let now = Instant::now();
        let cell = KeyCell::fixed(set(), now);
        assert!(!cell.ask(now) && cell.wanted().count() == 0 && cell.load().is_some() && cell.is_current());
    }
}
