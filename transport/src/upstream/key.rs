//! The key of a request: what sends it where others of the same key went. Picks nothing.

use maitred_core::Exchange;
use maitred_core::balance::hash;
use maitred_core::render::query_values;
use maitred_core::wire::{Headers, Name};
use maitred_model::HashBy;
use std::net::IpAddr;

/// `None`: the request has no such thing, or an empty one.
pub(super) fn key(by: &HashBy, exchange: &Exchange) -> Option<u64> {
    let request = &exchange.request;
    let value = match by {
        HashBy::Header(name) => request.headers.get(name.as_str().as_bytes()),
        HashBy::Cookie(name) => cookie(&request.headers, name.as_bytes()),
        HashBy::Query(name) => query_values(request.query().unwrap_or_default(), name.as_bytes()).next(),
        HashBy::Path => Some(request.path()),
        HashBy::Ip => {
            return Some(match exchange.client_ip() {
                IpAddr::V4(address) => hash(&address.octets(), 0),
                IpAddr::V6(address) => hash(&address.octets(), 0),
            });
        }
    };
    value.filter(|value| !value.is_empty()).map(|value| hash(value, 0))
}

/// The first cookie of that name.
pub(super) fn cookie<'a>(headers: &'a Headers, name: &[u8]) -> Option<&'a [u8]> {
    headers.all_known(Name::Cookie).find_map(|cookies| cookie_in(cookies, name))
}

/// The first of that name in a Cookie header (RFC 6265 §4.2.1).
fn cookie_in<'a>(cookies: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    cookies.split(|&byte| byte == b';').find_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::cookie_in;

    #[test]
    fn cookies() {
        for (cookies, wanted) in [
            ("user=a", Some("a")),
            ("x=1; user=a=b; user=c", Some("a=b")),
            ("xuser=1;user=a", Some("a")),
            ("users=1; user", None),
            ("user=", Some("")),
            ("", None),
        ] {
            assert_eq!(cookie_in(cookies.as_bytes(), b"user"), wanted.map(str::as_bytes), "{cookies:?}");
        }
    }
}
