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
    // sub-delims and percent-encoding are legal in a reg-name but no host that anyone serves has them, and
    // implementations differ in how they read them. Nor does one begin with a dot, or have two in a row.
    let (mut end, mut previous) = (0, b'.');
    while end < bytes.len() && bytes[end] != b':' {
        let byte = bytes[end];
        if !is_unreserved(byte) || (byte == b'.' && previous == b'.') {
            return None;
        }
        (end, previous) = (end + 1, byte);
    }
    let (host, rest) = bytes.split_at(end);
    let port = if rest.is_empty() { None } else { Some(port(&rest[1..])?) };
    (!host.is_empty() && host.len() <= HOST_BYTES_MAX).then_some(Authority { host, port })
}

/// No name of DNS is longer (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 255;

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
