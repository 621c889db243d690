//! Answers to ACME's HTTP-01 challenges (RFC 8555 §8.3), for as long as somebody waits for them. Orders nothing, and does not know who
//! may ask: a token is a secret that only the authority was told of.

use arc_swap::ArcSwapOption;
use std::collections::HashMap;
use std::sync::Arc;

const PREFIX: &[u8] = b"/.well-known/acme-challenge/";

/// Tokens and their key authorizations. Written by the control side, read by every worker.
#[derive(Debug, Default)]
pub struct HttpChallenges {
    /// `None` where nothing is pending, which is nearly always.
    pending: ArcSwapOption<HashMap<String, Arc<[u8]>>>,
}

impl HttpChallenges {
    /// Replaces all.
    pub fn set(&self, answers: HashMap<String, Arc<[u8]>>) {
        self.pending.store((!answers.is_empty()).then(|| Arc::new(answers)));
    }

    /// The answer to a request for `path`. Another path costs a comparison of its beginning, and this one a pointer's.
    pub fn answer(&self, path: &[u8]) -> Option<Arc<[u8]>> {
        let token = path.strip_prefix(PREFIX)?;
        let pending = self.pending.load();
        pending.as_ref()?.get(std::str::from_utf8(token).ok()?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pending_tokens_are_answered() {
        let challenges = HttpChallenges::default();
        let path = b"/.well-known/acme-challenge/token-1";
        assert!(challenges.answer(path).is_none());
        challenges.set(HashMap::from([("token-1".to_owned(), b"token-1.thumb".as_slice().into())]));
        assert_eq!(challenges.answer(path).as_deref(), Some(b"token-1.thumb".as_slice()));
        for other in ["/token-1", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/token-2", "/"] {
            assert!(challenges.answer(other.as_bytes()).is_none(), "{other}");
        }
        challenges.set(HashMap::new());
        assert!(challenges.answer(path).is_none());
    }
}
