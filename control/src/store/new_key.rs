//! Makes API keys: `mk_ID_SECRET`. Keeps nothing of them.

use super::StoreError;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use maitred_model::Secret;

/// Letters and digits alone: a key is selected by a double click, and means nothing in a URL or a shell.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Characters of an id: of a hundred thousand keys no two are likely to have the same.
const ID_CHARACTERS: usize = super::change::ID_BYTES_MAX;
/// Characters of a secret: 256 bits, as in 32 random bytes.
const SECRET_CHARACTERS: usize = 43;

pub(super) struct NewKey {
    pub id: String,
    /// What is shown of it later.
    pub prefix: String,
    pub key: Secret,
}

impl NewKey {
    pub fn make() -> Result<NewKey, StoreError> {
        let id = new_id()?;
        let prefix = format!("mk_{id}");
        let key = Secret::new(format!("{prefix}_{}", characters::<SECRET_CHARACTERS>()?));
        Ok(NewKey { id, prefix, key })
    }
}

/// For a key, also for one that was made elsewhere.
pub(super) fn new_id() -> Result<String, StoreError> {
    characters::<ID_CHARACTERS>()
}

pub(crate) fn characters<const COUNT: usize>() -> Result<String, StoreError> {
    let mut text = String::with_capacity(COUNT);
    while text.len() < COUNT {
        // What is beyond the alphabet is thrown away: folded back, its first letters would come more often.
        let drawn = random::<COUNT>()?;
        let letters = drawn.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        text.extend(letters.take(COUNT - text.len()).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

pub(super) fn random<const BYTES: usize>() -> Result<[u8; BYTES], StoreError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::NoChance)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_are_recognisable_long_and_all_different() {
        let mut seen = HashSet::new();
        for _ in 0..500 {
            let NewKey { id, prefix, key } = NewKey::make().unwrap();
            let key = key.expose();
            assert_eq!(key.len(), 3 + ID_CHARACTERS + 1 + SECRET_CHARACTERS);
            assert!(key.starts_with(&format!("{prefix}_")) && prefix == format!("mk_{id}"));
            assert!(key[3..].bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{key}");
            assert!(seen.insert(id) && seen.insert(key.to_owned()));
        }
    }
}
