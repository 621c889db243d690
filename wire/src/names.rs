//! The header names that the gateway looks at. Each is found by index in a head; every other name is just bytes.

macro_rules! names {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// A well-known header name; `Other` is every name not listed here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Name { Other = 0, $($variant),+ }

        const TEXTS: &[&str] = &["", $($text),+];
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

/// No well-known name is longer; lengths index `BY_LENGTH`.
const LENGTH_MAX: usize = 32;

/// For each length, where its names start and end in `ORDERED`.
static BY_LENGTH: [(u8, u8); LENGTH_MAX] = ranges();
static ORDERED: [u8; COUNT] = ordered();

const fn ordered() -> [u8; COUNT] {
    let mut order = [0u8; COUNT];
    let mut at = 0;
    let mut length = 0;
    while length < LENGTH_MAX {
        let mut index = 0;
        while index < COUNT {
            if TEXTS[index].len() == length {
                order[at] = index as u8;
                at += 1;
            }
            index += 1;
        }
        length += 1;
    }
    order
}

const fn ranges() -> [(u8, u8); LENGTH_MAX] {
    let mut table = [(0u8, 0u8); LENGTH_MAX];
    let order = ordered();
    let mut at = 0;
    while at < COUNT {
        let length = TEXTS[order[at] as usize].len();
        if table[length].1 == 0 {
            table[length].0 = at as u8;
        }
        table[length].1 = at as u8 + 1;
        at += 1;
    }
    table
}

impl Name {
    /// Which name these bytes are, in any case.
    pub fn of(bytes: &[u8]) -> Name {
        if bytes.is_empty() || bytes.len() >= LENGTH_MAX {
            return Name::Other;
        }
        let (from, to) = BY_LENGTH[bytes.len()];
        for &index in &ORDERED[from as usize..to as usize] {
            if bytes.eq_ignore_ascii_case(TEXTS[index as usize].as_bytes()) {
                return ALL[index as usize];
            }
        }
        Name::Other
    }

    /// Lower-case text; empty for `Other`.
    pub fn text(self) -> &'static str {
        TEXTS[self as usize]
    }

    /// Fields that concern one connection only and are never forwarded (RFC 9110 §7.6.1), and those whose job the
    /// gateway does itself: framing, expectations and upgrades are decided anew on each side.
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

/// One bit per name, so that a set of names is a `u64`.
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
    }
}
