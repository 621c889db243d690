//! Keyed hashes of API keys: whoever gets hold of the hashes, and not of the gateway's secret, cannot even tell whether a guess is right.
//! Makes no keys.

/// A keyed hash of an API key: BLAKE3 with a key that is derived from a secret.
pub type KeyHash = [u8; 32];

/// Tells hashers apart, and nothing about their secrets.
pub type Fingerprint = [u8; FINGERPRINT_BYTES];

/// There are a handful of hashers.
const FINGERPRINT_BYTES: usize = 8;

/// Hashes keys, with a key of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyHasher([u8; 32]);

impl KeyHasher {
    pub fn new(secret: &[u8]) -> KeyHasher {
        KeyHasher(blake3::derive_key("maitred 2026 hashes of API keys", secret))
    }

    pub fn hash(&self, key: &[u8]) -> KeyHash {
        *blake3::keyed_hash(&self.0, key).as_bytes()
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let derived = blake3::derive_key("maitred 2026 fingerprint of a hasher of API keys", &self.0);
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(&derived[..FINGERPRINT_BYTES]);
        fingerprint
    }
}

impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHasher(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_the_secret_and_on_the_key_alone() {
        let (one, other) = (KeyHasher::new(b"one secret"), KeyHasher::new(b"another secret"));
        assert_eq!(one.hash(b"key"), KeyHasher::new(b"one secret").hash(b"key"));
        assert_ne!(one.hash(b"key"), other.hash(b"key"));
        assert_ne!(one.hash(b"key"), one.hash(b"key2"));
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(format!("{one:?}"), "KeyHasher(***)");
    }
}
