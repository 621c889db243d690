//! Whether a password is the one that was hashed. Costs what the hash says, whatever the password: never on a worker.

use maitred_model::{Argon2, Argon2Kind, Bcrypt, PasswordHash};
use subtle::ConstantTimeEq;

/// Bytes of a password that bcrypt looks at, a zero behind it included.
const BCRYPT_BYTES: usize = 72;

pub fn is_right(hash: &PasswordHash, password: &[u8]) -> bool {
    match hash {
        PasswordHash::Bcrypt(Bcrypt { cost, salt, hash }) => {
            let mut key = [0; BCRYPT_BYTES];
            let length = password.len().min(BCRYPT_BYTES);
            key[..length].copy_from_slice(&password[..length]);
            let found = bcrypt::bcrypt(*cost, *salt, &key[..(length + 1).min(BCRYPT_BYTES)]);
            found[..hash.len()].ct_eq(hash).into()
        }
        PasswordHash::Argon2(expected) => argon2(expected, password).is_some_and(|found| found.ct_eq(&expected.hash).into()),
    }
}

/// `None`: its costs are none, and no password is right.
fn argon2(Argon2 { cost, salt, hash }: &Argon2, password: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match cost.kind {
        Argon2Kind::D => argon2::Algorithm::Argon2d,
        Argon2Kind::I => argon2::Algorithm::Argon2i,
        Argon2Kind::Id => argon2::Algorithm::Argon2id,
    };
    let version = argon2::Version::try_from(cost.version).ok()?;
    let params = argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(hash.len())).ok()?;
    let mut found = vec![0; hash.len()];
    argon2::Argon2::new(algorithm, version, params).hash_password_into(password, salt, &mut found).ok()?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_model::Htpasswd;

    fn hash(text: &str) -> PasswordHash {
        let file = Htpasswd::parse(format!("a:{text}").as_bytes()).expect("a hash");
        file.user("a").expect("it is there").clone()
    }

    #[test]
    fn published_hashes_know_their_passwords() {
        for (text, password) in [
            // jBCrypt's vectors.
            ("$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", ""),
            ("$2b$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", "a"),
            // The reference implementation's of argon2.
            ("$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8", "password"),
            ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"),
        ] {
            let hash = hash(text);
            assert!(is_right(&hash, password.as_bytes()), "{text}");
            for wrong in ["b", "passwor", "password ", "PASSWORD"] {
                assert!(!is_right(&hash, wrong.as_bytes()), "{text}: {wrong}");
            }
        }
    }

    #[test]
    fn nobodys_hash_is_made_at_the_same_cost_and_fits_nothing() {
        for text in [
            "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        ] {
            let nobodys = PasswordHash::nobodys(hash(text).cost());
            assert!(nobodys.cost() == hash(text).cost());
            assert!(!is_right(&nobodys, b"") && !is_right(&nobodys, b"password"));
        }
    }

    #[test]
    fn bcrypt_looks_at_72_bytes() {
        let long = "x".repeat(100);
        let PasswordHash::Bcrypt(mut hash) = hash("$2b$04$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe") else { return };
        hash.hash.copy_from_slice(&bcrypt::bcrypt(hash.cost, hash.salt, &long.as_bytes()[..72])[..23]);
        let hash = PasswordHash::Bcrypt(hash);
        assert!(is_right(&hash, long.as_bytes()) && is_right(&hash, &long.as_bytes()[..72]));
        assert!(!is_right(&hash, &long.as_bytes()[..71]));
    }
}
