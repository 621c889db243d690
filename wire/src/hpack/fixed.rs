//! The static table (RFC 7541, appendix A), by index and by name.

use crate::names::{self, Name};

/// A name and a value.
pub(super) type Pair = (&'static [u8], &'static [u8]);

macro_rules! table {
    ($($name:literal $(: $value:literal)?),+ $(,)?) => {
        /// Index 1 stands first.
        pub(super) static TABLE: [Pair; LENGTH] = [$(($name.as_bytes(), concat!($($value)?).as_bytes())),+];
        const NAMES: [&str; LENGTH] = [$($name),+];
    };
}

/// Indices above are the dynamic table's.
pub(super) const LENGTH: usize = 61;

table! {
    ":authority",
    ":method": "GET",
    ":method": "POST",
    ":path": "/",
    ":path": "/index.html",
    ":scheme": "http",
    ":scheme": "https",
    ":status": "200",
    ":status": "204",
    ":status": "206",
    ":status": "304",
    ":status": "400",
    ":status": "404",
    ":status": "500",
    "accept-charset",
    "accept-encoding": "gzip, deflate",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
}

/// The lowest index of a name, in any case; 0 for one that the table does not have.
pub(super) fn index_of(name: &[u8]) -> u8 {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return 0;
    }
    let index = SLOTS[names::hash(name, MULTIPLIER)];
    let Some((text, _)) = TABLE.get(usize::from(index).wrapping_sub(1)) else { return 0 };
    if text.len() == name.len() && names::equals_lower(name, text) { index } else { 0 }
}

/// The same for a name that is well known.
pub(super) fn index_of_known(known: Name) -> u8 {
    KNOWN[known as usize]
}

/// The indices of a name that stands there with values, and so more than once or not empty.
pub(super) fn pairs_of(index: u8) -> std::ops::Range<u8> {
    match index {
        2 => 2..4,
        4 => 4..6,
        6 => 6..8,
        8 => 8..15,
        16 => 16..17,
        _ => 0..0,
    }
}

const NAME_BYTES_MAX: usize = "access-control-allow-origin".len();

/// The lowest index of the name at each hash: a perfect hash, found while compiling.
static SLOTS: [u8; names::SLOTS] = match slots(MULTIPLIER) {
    Some(slots) => slots,
    None => panic!("the multiplier was chosen to have no collisions"),
};
const MULTIPLIER: u32 = multiplier();

static KNOWN: [u8; names::COUNT] = known();

const fn slots(multiplier: u32) -> Option<[u8; names::SLOTS]> {
    let mut slots = [0u8; names::SLOTS];
    // Downwards, so that the lowest index of a name stays.
    let mut index = LENGTH;
    while index > 0 {
        let name = NAMES[index - 1];
        let slot = &mut slots[names::hash(name.as_bytes(), multiplier)];
        if *slot != 0 && !is_same(NAMES[*slot as usize - 1], name) {
            return None;
        }
        *slot = index as u8;
        index -= 1;
    }
    Some(slots)
}

const fn multiplier() -> u32 {
    let mut multiplier = names::FIRST_MULTIPLIER;
    while slots(multiplier).is_none() {
        multiplier = names::next_multiplier(multiplier);
    }
    multiplier
}

const fn known() -> [u8; names::COUNT] {
    let mut known = [0; names::COUNT];
    let mut name = 1;
    while name < names::COUNT {
        let mut index = LENGTH;
        while index > 0 {
            if is_same(NAMES[index - 1], names::TEXTS[name]) {
                known[name] = index as u8;
            }
            index -= 1;
        }
        name += 1;
    }
    known
}

const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_at_their_lowest_index_in_any_case() {
        for (name, _) in TABLE {
            let wanted = 1 + TABLE.iter().position(|(other, _)| *other == name).unwrap();
            assert_eq!(usize::from(index_of(name)), wanted, "{}", name.escape_ascii());
            assert_eq!(usize::from(index_of(&name.to_ascii_uppercase())), wanted, "{}", name.escape_ascii());
            let known = Name::of(name);
            assert_eq!(usize::from(index_of_known(known)), if known == Name::Other { 0 } else { wanted });
        }
        for name in [&b""[..], b"x", b":metho", b":methods", b"x-request-id", b"keep-alive", &[b'a'; 300]] {
            assert_eq!(index_of(name), 0);
        }
        assert_eq!(index_of_known(Name::XRequestId), 0);
    }

    #[test]
    fn pairs_are_those_with_a_value() {
        for (at, (name, value)) in TABLE.iter().enumerate() {
            let pairs = pairs_of(index_of(name));
            assert_eq!(pairs.contains(&(at as u8 + 1)), !value.is_empty(), "{}", name.escape_ascii());
        }
    }
}
