//! The header names that the gateway looks at. Each is found by index in a head; every other name is just bytes.

macro_rules! names {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// A well-known header name; `Other` is every name not listed here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Name { Other = 0, $($variant),+ }

        pub(crate) const TEXTS: &[&str] = &["", $($text),+];
        const ALL: &[Name] = &[Name::Other, $(Name::$variant),+];
    };
}

names! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AccessControlRequestHeaders = "access-control-request-headers",
    AccessControlRequestMethod = "access-control-request-method",
    Authorization = "authorization",
    CacheControl = "cache-control",
    Connection = "connection",
    ContentLength = "content-length",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Expect = "expect",
    Forwarded = "forwarded",
    Host = "host",
    Http2Settings = "http2-settings",
    KeepAlive = "keep-alive",
    Location = "location",
    Origin = "origin",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    Server = "server",
    Te = "te",
    Traceparent = "traceparent",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedProto = "x-forwarded-proto",
    XRequestId = "x-request-id",
}

/// How many names there are, `Other` included.
pub(crate) const COUNT: usize = ALL.len();

/// No well-known name is longer.
const LENGTH_MAX: usize = 32;

/// Slots of the table; a power of two, large enough that a multiplier without collisions is found at once.
pub(crate) const SLOTS: usize = 256;

/// Which name, if any, stands at each hash: a perfect hash, found while compiling.
static TABLE: [u8; SLOTS] = table(MULTIPLIER);
const MULTIPLIER: u32 = multiplier();

/// Length, first, middle and last byte tell the names apart; `| 0x20` folds the case of letters.
pub(crate) const fn hash(name: &[u8], multiplier: u32) -> usize {
    let first = (name[0] | 0x20) as u32;
    let middle = (name[name.len() / 2] | 0x20) as u32;
    let last = (name[name.len() - 1] | 0x20) as u32;
    let word = first | middle << 8 | last << 16 | (name.len() as u32) << 24;
    (word.wrapping_mul(multiplier) >> 24) as usize
}

/// Where the search for a multiplier starts, and how it goes on.
pub(crate) const FIRST_MULTIPLIER: u32 = 0x9e37_79b1;

pub(crate) const fn next_multiplier(multiplier: u32) -> u32 {
    multiplier.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f) | 1
}

const fn table(multiplier: u32) -> [u8; SLOTS] {
    let mut table = [0u8; SLOTS];
    let mut index = 1;
    while index < COUNT {
        table[hash(TEXTS[index].as_bytes(), multiplier)] = index as u8;
        index += 1;
    }
    table
}

const fn multiplier() -> u32 {
    let mut multiplier = FIRST_MULTIPLIER;
    loop {
        let table = table(multiplier);
        let mut filled = 0;
        let mut slot = 0;
        while slot < SLOTS {
            filled += (table[slot] != 0) as usize;
            slot += 1;
        }
        if filled == COUNT - 1 {
            return multiplier;
        }
        multiplier = next_multiplier(multiplier);
    }
}

impl Name {
    /// Which name these bytes are, in any case.
    pub fn of(bytes: &[u8]) -> Name {
        if bytes.is_empty() || bytes.len() >= LENGTH_MAX {
            return Name::Other;
        }
        let index = TABLE[hash(bytes, MULTIPLIER)];
        let text = TEXTS[index as usize].as_bytes();
        if text.len() == bytes.len() && equals_lower(bytes, text) { ALL[index as usize] } else { Name::Other }
    }

    /// Lower-case text; empty for `Other`.
    pub fn text(self) -> &'static str {
        TEXTS[self as usize]
    }

    /// Fields that concern one connection only and are never forwarded (RFC 9110 §7.6.1), and those whose job the
    /// gateway does itself: framing, expectations and upgrades are decided anew on each side.
    #[inline]
    pub fn is_hop_by_hop(self) -> bool {
        const HOP: u64 = bit(Name::Connection)
            | bit(Name::KeepAlive)
            | bit(Name::ProxyConnection)
            | bit(Name::ProxyAuthenticate)
            | bit(Name::ProxyAuthorization)
            | bit(Name::Te)
            | bit(Name::TransferEncoding)
            | bit(Name::Upgrade)
            | bit(Name::Http2Settings)
            | bit(Name::Expect)
            | bit(Name::ContentLength);
        HOP & bit(self) != 0
    }
}

/// Whether `bytes`, its letters lower-cased, is `lower`; both have the same length. Eight bytes at a time.
pub(crate) fn equals_lower(bytes: &[u8], lower: &[u8]) -> bool {
    let same = |a: &[u8; 8], b: &[u8; 8]| lower_case(u64::from_le_bytes(*a)) == u64::from_le_bytes(*b);
    let same_half = |a: &[u8; 4], b: &[u8; 4]| lower_case(u32::from_le_bytes(*a).into()) == u32::from_le_bytes(*b).into();
    // What does not fill a word at the end is compared with bytes before it, once more.
    if let (Some(last), Some(lower_last)) = (bytes.last_chunk(), lower.last_chunk()) {
        let words = bytes.as_chunks().0.iter().zip(lower.as_chunks().0);
        return same(last, lower_last) && words.into_iter().all(|(a, b)| same(a, b));
    }
    if let (Some(first), Some(lower_first)) = (bytes.first_chunk(), lower.first_chunk())
        && let (Some(last), Some(lower_last)) = (bytes.last_chunk(), lower.last_chunk())
    {
        return same_half(first, lower_first) && same_half(last, lower_last);
    }
    bytes.eq_ignore_ascii_case(lower)
}

/// ASCII capitals of eight bytes made small, all others left alone.
fn lower_case(word: u64) -> u64 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const ONES: u64 = 0x0101_0101_0101_0101;
    let seven = word & !HIGH;
    let from_a = seven + ONES * (0x80 - b'A' as u64);
    let past_z = seven + ONES * (0x7f - b'Z' as u64);
    let capitals = (from_a ^ past_z) & !word & HIGH;
    word | capitals >> 2
}

/// One bit per name, so that a set of names is a `u64`.
#[inline]
pub(crate) const fn bit(name: Name) -> u64 {
    1 << name as u8
}

const _: () = assert!(COUNT <= 64, "names are used as bits of a u64");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for &name in &ALL[1..] {
            assert_eq!(Name::of(name.text().as_bytes()), name);
            assert_eq!(Name::of(name.text().to_uppercase().as_bytes()), name);
        }
        assert_eq!(Name::of(b"x-other"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
        assert_eq!(Name::of(&[b'a'; 200]), Name::Other);
        assert_eq!(Name::of(b"connection\0"), Name::Other);
    }

    #[test]
    fn only_capitals_are_made_small() {
        for byte in 0..=255u8 {
            let word = u64::from_le_bytes([byte, b'A', byte, b'z', byte, b'-', byte, byte]);
            let wanted = word.to_le_bytes().map(|byte| byte.to_ascii_lowercase());
            assert_eq!(lower_case(word).to_le_bytes(), wanted, "{byte}");
        }
    }
}
