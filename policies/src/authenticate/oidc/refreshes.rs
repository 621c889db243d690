//! Refreshes under way, over all workers: however many requests a browser sends with one stale cookie, the provider is asked once. What came
//! of it is kept for a while, for those that are still on their way with the old cookie.

use super::Broken;
use super::Refreshed;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

// tidy-allow: lock, because only a session that must be refreshed takes it, and holds it for a look-up
type Lock<T> = std::sync::Mutex<T>;

/// Requests that a browser sent with the old cookie while it was refreshed find the new session for so long.
const KEPT: Duration = Duration::from_secs(60);
/// More people at once than this are asked to wait.
const REFRESHES_MAX: usize = 1 << 16;

/// A hash of the cookie that is stale.
pub type CookieHash = [u8; 32];

/// What becomes of one refresh: whoever comes first asks, and the others wait for that.
pub type Refresh = Arc<OnceCell<Refreshed>>;

#[derive(Default)]
pub struct Refreshes(Lock<HashMap<CookieHash, (Instant, Refresh)>>);

impl Refreshes {
    pub fn of(key: &[u8]) -> CookieHash {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        hash
    }

    /// `None`: there are too many.
    pub fn join(&self, key: CookieHash, now: Instant) -> Option<Refresh> {
        let mut refreshes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |begun: Instant| now.saturating_duration_since(begun) >= KEPT;
        if refreshes.len() >= REFRESHES_MAX {
            refreshes.retain(|_, (begun, _)| !is_over(*begun));
        }
        if refreshes.len() >= REFRESHES_MAX && !refreshes.contains_key(&key) {
            return None;
        }
        let (begun, refresh) = refreshes.entry(key).or_insert_with(|| (now, Refresh::default()));
        // What failed for want of an answer is tried again.
        if is_over(*begun) || matches!(refresh.get(), Some(Err(Broken::Unknown(_)))) {
            (*begun, *refresh) = (now, Refresh::default());
        }
        Some(refresh.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_shared_for_its_time_and_tried_again_where_nobody_answered() {
        let (refreshes, now) = (Refreshes::default(), Instant::now());
        let key = Refreshes::of(b"a cookie");
        let first = refreshes.join(key, now).unwrap();
        assert!(Arc::ptr_eq(&first, &refreshes.join(key, now + KEPT / 2).unwrap()));
        assert!(!Arc::ptr_eq(&first, &refreshes.join(Refreshes::of(b"another"), now).unwrap()));
        assert!(!Arc::ptr_eq(&first, &refreshes.join(key, now + KEPT).unwrap()));
        let again = refreshes.join(key, now + KEPT).unwrap();
        again.set(Err(Broken::Unknown("no answer".to_owned()))).unwrap();
        assert!(!Arc::ptr_eq(&again, &refreshes.join(key, now + KEPT).unwrap()));
    }

    #[test]
    fn there_are_never_too_many() {
        let (refreshes, now) = (Refreshes::default(), Instant::now());
        for at in 0..REFRESHES_MAX {
            assert!(refreshes.join(Refreshes::of(&at.to_le_bytes()), now).is_some());
        }
        assert!(refreshes.join(Refreshes::of(b"one more"), now).is_none());
        assert!(refreshes.join(Refreshes::of(&0usize.to_le_bytes()), now).is_some());
        assert!(refreshes.join(Refreshes::of(b"one more"), now + KEPT).is_some());
    }
}
