//! The cookie that sends a client where it was before. It names an endpoint by a keyed hash, so that it tells nobody an address, and
//! nobody can make one.

use super::targets::Target;
use aws_lc_rs::hmac;
use maitred_core::Exchange;
use maitred_core::wire::cookies;
use maitred_model::Affinity;
use std::fmt::Write;
use std::time::Duration;

/// What cookies of one upstream are made with.
pub struct AffinityCookie {
    name: String,
    ttl: Option<Duration>,
    key: hmac::Key,
}

impl AffinityCookie {
    /// Gateways with the same secret know each other's cookies.
    pub fn new(affinity: &Affinity, secret: &[u8], upstream: &str) -> AffinityCookie {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let own = hmac::sign(&secret, format!("affinity {upstream}").as_bytes());
        let Affinity { cookie, ttl } = affinity.clone();
        AffinityCookie { name: cookie, ttl, key: hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()) }
    }

    pub(super) fn token(&self, target: &Target) -> u64 {
        let identity = format!("{} {}{}", target.address, target.authority, target.prefix);
        let tag = hmac::sign(&self.key, identity.as_bytes());
        tag.as_ref().iter().take(8).fold(0, |token, &byte| token << 8 | u64::from(byte))
    }

    /// What a request names, if anything that may be a token.
    pub(super) fn asked(&self, exchange: &Exchange) -> Option<u64> {
        let value = cookies(&exchange.request.headers, self.name.as_bytes()).next()?;
        let digits = std::str::from_utf8(value).ok().filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok()
    }

    /// A `Set-Cookie` (RFC 6265 §4.1).
    pub(super) fn set(&self, token: u64, is_encrypted: bool) -> String {
        let mut line = format!("{}={token:016x}; Path=/; HttpOnly; SameSite=Lax", self.name);
        if let Some(ttl) = self.ttl {
            let _ = write!(line, "; Max-Age={}", ttl.as_secs().max(1));
        }
        if is_encrypted {
            line.push_str("; Secure");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_core::Remote;

    fn made(secret: &[u8], upstream: &str, ttl: Option<Duration>) -> AffinityCookie {
        AffinityCookie::new(&Affinity { cookie: "stay".into(), ttl }, secret, upstream)
    }

    #[test]
    fn a_token_is_the_secret_s_the_upstream_s_and_the_endpoint_s() {
        let target = |address: &str| Target {
            address: Remote::Tcp(address.parse().unwrap()),
            authority: "a".into(),
            prefix: "".into(),
            weight: 1,
            zone: None,
            priority: 0,
        };
        let (one, other) = (target("10.0.0.1:1"), target("10.0.0.2:1"));
        let token = made(b"x", "u", None).token(&one);
        assert_eq!(made(b"x", "u", Some(Duration::from_secs(5))).token(&Target { weight: 7, ..one.clone() }), token);
        for different in
            [made(b"y", "u", None).token(&one), made(b"x", "v", None).token(&one), made(b"x", "u", None).token(&other)]
        {
            assert_ne!(different, token);
        }
    }

    #[test]
    fn a_cookie_says_for_how_long_and_for_whom() {
        let line = made(b"x", "u", None).set(0xab, false);
        assert_eq!(line, "stay=00000000000000ab; Path=/; HttpOnly; SameSite=Lax");
        let line = made(b"x", "u", Some(Duration::from_secs(3600))).set(1, true);
        assert_eq!(line, "stay=0000000000000001; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure");
    }
}
