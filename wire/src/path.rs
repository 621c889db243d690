//! One canonical path, made once: router, policies, cache and upstream all see these same bytes. Refuses what servers
//! read differently. Knows no routes.
//!
//! Unreserved `%XX` are decoded and other `%XX` upper-cased (RFC 3986 §6.2.2), dot segments are removed (§5.2.4), `%2F` stays
//! inside its segment, `//` and a trailing slash are kept. A backslash, `%5C`, `%00`, a broken escape, and a path that climbs
//! above the root are refused.

/// Why a path is refused; the text is fit for a log and a problem's detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPath(pub &'static str);

const PLAIN: u8 = 0;
const PERCENT: u8 = 1;
const DOT: u8 = 2;
const BAD: u8 = 3;

/// What each byte may mean in a path.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [PLAIN; 256];
    let mut byte = 0;
    while byte < 256 {
        if byte <= 0x20 || byte >= 0x7f || byte == b'\\' as usize || byte == b'#' as usize || byte == b'?' as usize {
            table[byte] = BAD;
        }
        byte += 1;
    }
    table[b'%' as usize] = PERCENT;
    table[b'.' as usize] = DOT;
    table
}

/// Whether the path is canonical as it stands, which nearly all are; else `canonical` must write it anew.
pub fn is_canonical(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut previous = 0;
    for &byte in path {
        let class = CLASS[byte as usize];
        if class != PLAIN && (class != DOT || previous == b'/') {
            return false;
        }
        previous = byte;
    }
    true
}

/// Appends the canonical form of `path` to `out`.
pub fn canonical(path: &[u8], out: &mut Vec<u8>) -> Result<(), BadPath> {
    if path.first() != Some(&b'/') {
        return Err(BadPath("the path does not start with a slash"));
    }
    let base = out.len();
    let mut at = 1;
    loop {
        out.push(b'/');
        let start = out.len();
        at = segment(path, at, out)?;
        let last = at >= path.len();
        match &out[start..] {
            b"." => out.truncate(start - 1),
            b".." => {
                out.truncate(start - 1);
                let parent = memchr::memrchr(b'/', &out[base..]).ok_or(BadPath("the path climbs above the root"))?;
                out.truncate(base + parent);
            }
            other => {
                if hides_dots(other) {
                    return Err(BadPath("the path hides a dot segment behind `;`"));
                }
                if last {
                    return Ok(());
                }
                at += 1;
                continue;
            }
        }
        if last {
            // "/a/." and "/a/b/.." name the folder: the slash stays.
            out.push(b'/');
            return Ok(());
        }
        at += 1;
    }
}

/// `..;x` is `..` to servlet containers, which cut parameters off before they look for dots.
fn hides_dots(segment: &[u8]) -> bool {
    segment.starts_with(b".;") || segment.starts_with(b"..;")
}

/// Copies one segment, decoding on the way; gives the index of the slash that ends it, or the path's length.
fn segment(path: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, BadPath> {
    while at < path.len() && path[at] != b'/' {
        let byte = path[at];
        match CLASS[byte as usize] {
            BAD => return Err(BadPath("the path has a character that is not allowed there")),
            PERCENT => {
                let decoded = escape(path, at).ok_or(BadPath("the path has a broken percent escape"))?;
                match decoded {
                    0 | b'\\' => return Err(BadPath("the path has an escaped NUL or backslash")),
                    _ if is_unreserved(decoded) => out.push(decoded),
                    _ => push_escaped(decoded, out),
                }
                at += 3;
                continue;
            }
            _ => out.push(byte),
        }
        at += 1;
    }
    Ok(at)
}

fn escape(path: &[u8], at: usize) -> Option<u8> {
    let high = hex(*path.get(at + 1)?)?;
    let low = hex(*path.get(at + 2)?)?;
    Some(high << 4 | low)
}

fn hex(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]);
}

/// RFC 3986 §2.3, a bit for each of the ASCII bytes.
static UNRESERVED: [bool; 256] = unreserved();

const fn unreserved() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
}

/// Of a target as it came: `/path?query`, or with scheme and authority before it. An empty path is `/` (§2.2.6).
pub fn path_and_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let find = |text: &[u8], wanted: &dyn Fn(u8) -> bool| text.iter().position(|&byte| wanted(byte));
    let origin = match target.first() {
        Some(b'/' | b'*') | None => target,
        Some(_) => {
            let behind_scheme = target.windows(3).position(|three| three == b"://").map_or(target, |at| &target[at + 3..]);
            let end = find(behind_scheme, &|byte| matches!(byte, b'/' | b'?')).unwrap_or(behind_scheme.len());
            &behind_scheme[end..]
        }
    };
    let question = find(origin, &|byte| byte == b'?');
    let path = &origin[..question.unwrap_or(origin.len())];
    (if path.is_empty() { b"/" } else { path }, question.map(|at| &origin[at + 1..]))
}

/// RFC 3986 §2.3.
pub fn is_unreserved(byte: u8) -> bool {
    UNRESERVED[usize::from(byte)]
}

/// Appends `text` encoded so that it is exactly one path segment, or one query value: all but unreserved bytes are escaped.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if is_unreserved(byte) {
            out.push(byte);
        } else {
            push_escaped(byte, out);
        }
    }
}

/// Appends `text` with every `%XX` decoded; a broken escape stays as it is.
pub fn decode(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < text.len() {
        match (text[at], escape(text, at)) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(path: &str) -> Result<String, BadPath> {
        let mut out = b"kept".to_vec();
        canonical(path.as_bytes(), &mut out)?;
        Ok(String::from_utf8(out[4..].to_vec()).unwrap())
    }

    #[test]
    fn canonical_forms() {
        for (raw, wanted) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/a//b", "/a//b"),
            ("//", "//"),
            ("/%61%2d%7E", "/a-~"),
            ("/a%2fb%3f", "/a%2Fb%3F"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/a/..", "/"),
            ("/a//../b", "/a/b"),
            ("/...", "/..."),
            ("/.a/..b", "/.a/..b"),
            ("/a/b;..;/c", "/a/b;..;/c"),
            ("/..%2fa", "/..%2Fa"),
            ("/%25%32%65", "/%252e"),
        ] {
            assert_eq!(run(raw).as_deref(), Ok(wanted), "{raw}");
        }
    }

    #[test]
    fn refused_paths() {
        for raw in [
            "",
            "a",
            "/..",
            "/a/../..",
            "/%2e%2e",
            "/a\\b",
            "/%5c",
            "/%00",
            "/%",
            "/%1",
            "/%zz",
            "/a b",
            "/\u{7f}",
            "/é",
            "/a#b",
            "/a/..;/b",
            "/.;a",
            "/%2e%2E;x/",
            "/\t",
        ] {
            assert!(run(raw).is_err(), "{raw:?}");
            assert!(!is_canonical(raw.as_bytes()), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn canonical_is_idempotent(raw in "/[a-c./%2eEfF5]{0,20}") {
            let mut once = Vec::new();
            if canonical(raw.as_bytes(), &mut once).is_ok() {
                let mut twice = Vec::new();
                prop_assert!(canonical(&once, &mut twice).is_ok());
                prop_assert_eq!(&once, &twice);
                prop_assert!(!once.split(|&b| b == b'/').any(|s| s == b"." || s == b".."));
            }
        }

        #[test]
        fn what_is_called_canonical_is(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            if is_canonical(&raw) {
                let mut out = Vec::new();
                prop_assert!(canonical(&raw, &mut out).is_ok());
                prop_assert_eq!(out, raw);
            }
        }

        #[test]
        fn encode_then_decode_is_the_same(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            encode(&raw, &mut there);
            prop_assert!(!there.contains(&b'/'));
            decode(&there, &mut back);
            prop_assert_eq!(back, raw);
        }
    }
}
