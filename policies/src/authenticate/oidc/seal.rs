//! What browsers keep for us and can neither read nor alter: sealed with AES-256-GCM under a key that follows from the gateway's secret,
//! and bound to what it is for. Says nothing about who may use it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use maitred_core::identity::base64url;

/// A sealed text that is longer is not looked at.
const SEALED_BYTES_MAX: usize = 16 * 1024;

/// What a sealed text is for: what was sealed for one thing opens no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A login under way.
    Login,
    Session,
}

pub struct Sealer {
    key: RandomizedNonceKey,
    authorizer: Box<str>,
}

impl Sealer {
    /// `secret`: the gateway's; gateways with the same open each other's.
    pub fn new(secret: &[u8], authorizer: &str) -> Option<Sealer> {
        let key = blake3::derive_key("maitred 2026 cookies of logins", secret);
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).ok()?;
        Some(Sealer { key, authorizer: authorizer.into() })
    }

    /// As text that a cookie may hold.
    pub fn seal(&self, purpose: Purpose, text: &[u8]) -> Option<String> {
        let mut sealed = text.to_vec();
        let nonce = self.key.seal_in_place_append_tag(self.aad(purpose), &mut sealed).ok()?;
        let whole = [&nonce.as_ref()[..], &sealed].concat();
        Some(base64url::encode(&whole))
    }

    /// `None`: we did not seal it, or not for this.
    pub fn open(&self, purpose: Purpose, sealed: &[u8]) -> Option<Vec<u8>> {
        if sealed.len() > SEALED_BYTES_MAX {
            return None;
        }
        let mut whole = base64url::decode(sealed)?;
        let (nonce, sealed) = whole.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.key.open_in_place(nonce, self.aad(purpose), sealed).ok()?;
        Some(opened.to_vec())
    }

    fn aad(&self, purpose: Purpose) -> Aad<Vec<u8>> {
        let purpose: &[u8] = match purpose {
            Purpose::Login => b"login\0",
            Purpose::Session => b"session\0",
        };
        Aad::from([purpose, self.authorizer.as_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_sealed_for_this_opens() {
        let sealer = Sealer::new(b"a secret of some length", "web").unwrap();
        let sealed = sealer.seal(Purpose::Session, b"alice").unwrap();
        assert_eq!(sealer.open(Purpose::Session, sealed.as_bytes()).as_deref(), Some(&b"alice"[..]));
        assert_eq!(sealer.open(Purpose::Login, sealed.as_bytes()), None);
        assert_eq!(Sealer::new(b"a secret of some length", "other").unwrap().open(Purpose::Session, sealed.as_bytes()), None);
        assert_eq!(Sealer::new(b"another secret of some length", "web").unwrap().open(Purpose::Session, sealed.as_bytes()), None);
        for at in 0..sealed.len() {
            let mut altered = sealed.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            // The last character may hold bits that mean nothing; the decoder refuses those.
            assert_eq!(sealer.open(Purpose::Session, &altered), None, "{at}");
        }
        for garbage in [&b""[..], b"A", b"AAAAAAAAAAAAAAAA", b"\xff\xff", &[b'A'; SEALED_BYTES_MAX + 1]] {
            assert_eq!(sealer.open(Purpose::Session, garbage), None);
        }
        assert_ne!(sealer.seal(Purpose::Session, b"alice"), sealer.seal(Purpose::Session, b"alice"));
    }
}
