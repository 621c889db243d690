//! Who may speak AWS's API to hosted functions: the administrator, whose access key is `maitred` with the admin token as its secret, and the
//! functions themselves, with a key that lives as long as the gateway and opens nothing else. No key of AWS opens anything here.

use super::token::Token;
use aws_lc_rs::hmac;
use maitred_core::aws::sigv4::SecretKey;
use maitred_host::FunctionKey;
use maitred_model::Secret;
use std::sync::OnceLock;
use subtle::ConstantTimeEq;

/// The administrator's.
pub const ADMIN_KEY_ID: &str = "maitred";
/// What the functions' key is derived for, so that nothing else is ever derived alike.
const PURPOSE: &[u8] = b"maitred: the access key of hosted functions";

/// That of functions. `seed`: secret, random for each start of a gateway, and the same for the process that takes over from it: what was
/// started before an upgrade goes on with its key.
pub fn of_functions(seed: &[u8; 32]) -> FunctionKey {
    let drawn = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), PURPOSE);
    let (id, secret) = drawn.as_ref().split_at(8);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    FunctionKey { id: format!("FUNC{}", hex(id)), secret: Secret::new(hex(secret).to_lowercase()) }
}

/// Whose key it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Admin,
    Function,
}

#[derive(Debug)]
pub struct Keys {
    token: Token,
    admin: OnceLock<SecretKey>,
    functions: Option<(String, SecretKey)>,
}

impl Keys {
    pub fn new(token: Token, functions: Option<&FunctionKey>) -> Keys {
        let functions = functions.map(|key| (key.id.clone(), SecretKey::new(key.secret.expose())));
        Keys { token, admin: OnceLock::new(), functions }
    }

    pub fn find(&self, id: &str) -> Option<(&SecretKey, Caller)> {
        if id == ADMIN_KEY_ID {
            let token = self.token.get()?;
            return Some((self.admin.get_or_init(|| SecretKey::new(token.expose())), Caller::Admin));
        }
        let (known, key) = self.functions.as_ref()?;
        bool::from(known.as_bytes().ct_eq(id.as_bytes())).then_some((key, Caller::Function))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_the_same_key_as_long_as_the_seed_is_the_same() {
        let [first, again, other] = [[1; 32], [1; 32], [2; 32]].map(|seed| of_functions(&seed));
        assert_eq!((&first.id, first.secret.expose()), (&again.id, again.secret.expose()));
        assert!(first.id != other.id && first.secret.expose() != other.secret.expose());
        assert_eq!((first.id.len(), first.secret.expose().len()), (20, 48));
    }

    #[test]
    fn nobody_has_a_key_before_there_is_a_token() {
        let key = of_functions(&[1; 32]);
        let keys = Keys::new(Token::default(), None);
        assert!(keys.find(ADMIN_KEY_ID).is_none() && keys.find(&key.id).is_none() && keys.find("").is_none());
        let keys = Keys::new(Token::new(Some(Secret::new("s3cret"))), Some(&key));
        assert_eq!(keys.find(ADMIN_KEY_ID).map(|(_, caller)| caller), Some(Caller::Admin));
        assert_eq!(keys.find(&key.id).map(|(_, caller)| caller), Some(Caller::Function));
        assert!(keys.find("AKIDEXAMPLE").is_none() && keys.find("FUNC").is_none());
    }
}
