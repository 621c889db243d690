//! The secret of an access key, and what is derived of it. Prints nothing of either.

use super::TERMINATOR;
use arc_swap::ArcSwapOption;
use aws_lc_rs::hmac;
use std::fmt;
use std::sync::Arc;

pub struct SecretKey {
    /// `AWS4` and the secret.
    seed: Box<[u8]>,
    /// What was derived last: a day's key.
    derived: ArcSwapOption<Derived>,
}

struct Derived {
    day: [u8; 8],
    region: Box<str>,
    service: Box<str>,
    key: hmac::Key,
}

impl SecretKey {
    pub fn new(secret: &str) -> SecretKey {
        SecretKey { seed: [b"AWS4", secret.as_bytes()].concat().into(), derived: ArcSwapOption::empty() }
    }

    /// What is signed with on a day, for one service of one region.
    pub fn of_day(&self, day: [u8; 8], region: &str, service: &str) -> hmac::Key {
        if let Some(derived) = &*self.derived.load()
            && derived.day == day
            && *derived.region == *region
            && *derived.service == *service
        {
            return derived.key.clone();
        }
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let parts = [&day[..], region.as_bytes(), service.as_bytes(), TERMINATOR.as_bytes()];
        let derived = parts.iter().fold(key(&self.seed), |own, part| key(hmac::sign(&own, part).as_ref()));
        let (region, service) = (region.into(), service.into());
        self.derived.store(Some(Arc::new(Derived { day, region, service, key: derived.clone() })));
        derived
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_days_key_is_derived_once_and_anew_for_another_day_or_place() {
        let secret = SecretKey::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let sign = |day: &[u8; 8], region, service| hmac::sign(&secret.of_day(*day, region, service), b"x").as_ref().to_vec();
        let first = sign(b"20150830", "us-east-1", "service");
        assert_eq!(sign(b"20150830", "us-east-1", "service"), first);
        assert_ne!(sign(b"20150831", "us-east-1", "service"), first);
        assert_ne!(sign(b"20150830", "us-east-2", "service"), first);
        assert_ne!(sign(b"20150830", "us-east-1", "lambda"), first);
        assert_eq!(sign(b"20150830", "us-east-1", "service"), first);
        assert_eq!(format!("{secret:?}"), "SecretKey(***)");
    }
}
