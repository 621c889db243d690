//! Paths and hosts: one canonical form, reached in one step, in which nothing is left that servers read differently.

use maitred_wire::path::{canonical, decode, encode, is_canonical};
use maitred_wire::split_authority;

pub fn path(data: &[u8]) {
    round_trip(data);
    let mut out = b"kept".to_vec();
    let accepted = canonical(data, &mut out).is_ok();
    assert!(out.starts_with(b"kept"), "what stood in the buffer is gone");
    let once = &out[4..];
    if is_canonical(data) {
        assert!(accepted && once == data, "called canonical, and is not");
    }
    let template = std::str::from_utf8(data).ok().and_then(|text| maitred_model::canonical_path(text).ok());
    if !accepted {
        assert_eq!(template, None, "a route may have a path that no request can");
        return;
    }
    let mut twice = Vec::new();
    canonical(once, &mut twice).expect("a canonical path is accepted");
    assert_eq!(twice.escape_ascii().to_string(), once.escape_ascii().to_string(), "canonical in two steps");
    no_doubt(once);
    // What a route's template says must be what a request's path becomes.
    if let Some(template) = template {
        assert_eq!(
            template.as_bytes().escape_ascii().to_string(),
            once.escape_ascii().to_string(),
            "routes and requests disagree"
        );
    }
}

fn no_doubt(path: &[u8]) {
    assert_eq!(path.first(), Some(&b'/'));
    assert!(path.iter().all(|byte| (0x21..0x7f).contains(byte) && !b"\\#?".contains(byte)), "a byte that no path has");
    assert!(path.split(|&byte| byte == b'/').all(|segment| segment != b"." && segment != b".."), "a dot segment is left");
    let mut at = 0;
    while at < path.len() {
        if path[at] == b'%' {
            let digits = std::str::from_utf8(&path[at + 1..at + 3]).expect("two digits");
            let byte = u8::from_str_radix(digits, 16).expect("an escape is hexadecimal");
            assert_eq!(digits, digits.to_ascii_uppercase(), "an escape in lower case");
            assert!(byte != 0 && byte != b'\\', "an escaped NUL or backslash");
            assert!(!byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte), "an escape that needs none");
            at += 2;
        }
        at += 1;
    }
}

fn round_trip(data: &[u8]) {
    let (mut there, mut back) = (Vec::new(), Vec::new());
    encode(data, &mut there);
    assert!(there.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte)));
    decode(&there, &mut back);
    assert_eq!(back, data, "encoded and decoded it is another");
}

pub fn host(data: &[u8]) {
    let Some(authority) = split_authority(data) else { return };
    assert!(data.starts_with(authority.host) && !authority.host.is_empty());
    assert!(
        authority.host.iter().all(|byte| byte.is_ascii_graphic() && !b"@/\\?#%,;\"<>{}|^`".contains(byte)),
        "a host with a stray byte"
    );
    let mut written = authority.host.to_vec();
    if let Some(port) = authority.port {
        written.extend_from_slice(format!(":{port}").as_bytes());
    }
    let again = split_authority(&written).expect("an authority written anew is one");
    assert_eq!((again.host, again.port), (authority.host, authority.port));
    let colons = authority.host.iter().filter(|&&byte| byte == b':').count();
    assert!(colons == 0 || authority.host.starts_with(b"[") && authority.host.ends_with(b"]"), "a colon outside brackets");
}
