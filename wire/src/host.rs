//! Reads an authority (`host`, `host:port`, `[v6]:port`). Refuses whatever RFC 3986 §3.2 does not allow; knows no DNS.

use crate::path::is_unreserved;

/// A checked authority, split. `host` is as it was written; compare it without regard to case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    pub host: &'a [u8],
    pub port: Option<u16>,
}

/// Splits an authority. `None` for anything malformed: userinfo, an empty host, stray characters, a port that is no number.
pub fn split_authority(bytes: &[u8]) -> Option<Authority<'_>> {
    if bytes.first() == Some(&b'[') {
        let end = memchr::memchr(b']', bytes)?;
        let inside = std::str::from_utf8(&bytes[1..end]).ok()?;
        inside.parse::<std::net::Ipv6Addr>().ok()?;
        let port = match &bytes[end + 1..] {
            [] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        return Some(Authority { host: &bytes[..=end], port });
    }
    let (host, port) = match memchr::memchr(b':', bytes) {
        None => (bytes, None),
        Some(at) => (&bytes[..at], Some(port(&bytes[at + 1..])?)),
    };
    // sub-delims and percent-encoding are legal in a reg-name but no host that anyone serves has them, and
    // implementations differ in how they read them.
    let legal = !host.is_empty()
        && host[0] != b'.'
        && !host.windows(2).any(|pair| pair == b"..")
        && host.len() <= 255
        && host.iter().all(|&byte| is_unreserved(byte));
    legal.then_some(Authority { host, port })
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    let digit = |sum: u32, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'));
    digits.iter().try_fold(0, digit).and_then(|port| u16::try_from(port).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        let split = |text: &'static str| split_authority(text.as_bytes()).map(|a| (std::str::from_utf8(a.host).unwrap(), a.port));
        assert_eq!(split("a.example"), Some(("a.example", None)));
        assert_eq!(split("a.example:80"), Some(("a.example", Some(80))));
        assert_eq!(split("127.0.0.1:1"), Some(("127.0.0.1", Some(1))));
        assert_eq!(split("[::1]:1"), Some(("[::1]", Some(1))));
        assert_eq!(split("[::1]"), Some(("[::1]", None)));
        for bad in [
            "", ":80", "a:", "a:b", "a:80:80", "u@a", "a/b", "a b", "[::1", "[x]", "[::1]x", "a:99999", "a%20b", "é", ".", ".a",
            "a..b", "a..",
        ] {
            assert_eq!(split_authority(bad.as_bytes()), None, "{bad}");
        }
    }
}
