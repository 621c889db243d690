//! Requests that AWS refuses because our clock and its own differ: which refusals those are, of Lambda and of the Security Token Service, and
//! what time it is there. Signs nothing; the difference is kept with the keys.

use std::time::UNIX_EPOCH;

/// What AWS says in words where the name alone does not say that it is for the time.
const WORDS: [&str; 3] = ["expired", "not yet current", "in the future"];

/// Whether a signed request was refused for its time alone: with another it may be taken.
pub fn is_refused_for_time(status: u16, name: &str, words: &str) -> bool {
    let is_time = match name {
        "RequestExpired" | "RequestTimeTooSkewed" => true,
        // Lambda's name for it, and that of the Security Token Service; each is of wrong keys as well.
        "InvalidSignatureException" | "SignatureDoesNotMatch" => WORDS.iter().any(|own| words.contains(own)),
        _ => false,
    };
    is_time && matches!(status, 400 | 403)
}

/// A `Date` header, in seconds since 1970.
pub fn seconds(date: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(date).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_for_the_time_and_others() {
        const EARLIER: &str =
            "Signature expired: 20261122T223000Z is now earlier than 20261122T232500Z (20261122T233000Z - 5 min.)";
        const LATER: &str = "Signature not yet current: 20261122T223000Z is still later than 20261122T213500Z";
        for (status, name, words, wanted) in [
            (403, "InvalidSignatureException", EARLIER, true),
            (403, "SignatureDoesNotMatch", EARLIER, true),
            (403, "SignatureDoesNotMatch", LATER, true),
            (400, "RequestExpired", "Request has expired.", true),
            (403, "RequestTimeTooSkewed", "", true),
            (403, "SignatureDoesNotMatch", "The request signature we calculated does not match", false),
            (403, "ExpiredTokenException", "The security token included in the request is expired", false),
            (403, "AccessDenied", "expired", false),
            (500, "RequestExpired", "", false),
        ] {
            assert_eq!(is_refused_for_time(status, name, words), wanted, "{status} {name} {words}");
        }
        assert_eq!(seconds("Sun, 22 Nov 2026 22:30:00 GMT"), Some(1_795_386_600));
        assert_eq!(seconds("soon"), None);
    }
}
