//! A bearer token in its place (RFC 6750): in Authorization behind its scheme, elsewhere as it is. What is in it is not known here.

use super::place::{self, Found};
use maitred_core::Exchange;
use maitred_core::wire::Name;
use maitred_model::{HeaderName, KeyPlace};
use std::borrow::Cow;
use std::sync::LazyLock;

const SCHEME: &[u8; 6] = b"bearer";
const AUTHORIZATION: &str = "authorization";

/// Where most tokens are.
pub static IN_AUTHORIZATION: LazyLock<KeyPlace> =
    LazyLock::new(|| KeyPlace::Header(HeaderName::parse(AUTHORIZATION).expect("a name")));

fn is_behind_scheme(place: &KeyPlace) -> bool {
    match place {
        KeyPlace::Header(name) => name.as_str() == AUTHORIZATION,
        KeyPlace::Query(_) | KeyPlace::Cookie(_) => false,
    }
}

/// A credential of another scheme is none of these. Allocates nothing but for a query that is encoded.
pub fn find<'a>(place: &'a KeyPlace, exchange: &'a Exchange) -> Found<'a> {
    if !is_behind_scheme(place) {
        return place::find(place, exchange);
    }
    let headers = &exchange.request.headers;
    // Of two a back end might read the other.
    if headers.is_repeated(Name::Authorization) {
        let is_there = headers.all_known(Name::Authorization).any(|value| token(value).is_some());
        return if is_there { Found::Several } else { Found::Nothing };
    }
    match headers.known(Name::Authorization).and_then(token) {
        Some(token) => Found::One(Cow::Borrowed(token)),
        None => Found::Nothing,
    }
}

/// What stands behind the scheme, which is written in any case (RFC 9110 §11.1).
fn token(value: &[u8]) -> Option<&[u8]> {
    // As nearly everybody writes it.
    if let Some(token @ [first, .., last]) = value.strip_prefix(b"Bearer ")
        && !first.is_ascii_whitespace()
        && !last.is_ascii_whitespace()
    {
        return Some(token);
    }
    let (scheme, rest) = value.trim_ascii().split_first_chunk::<6>()?;
    // Of a letter in either case that bit makes the small one, and of nothing else.
    let is_bearer = scheme.map(|byte| byte | 0x20) == *SCHEME && rest.first().is_none_or(u8::is_ascii_whitespace);
    is_bearer.then(|| rest.trim_ascii_start())
}

/// Takes it out; a credential of another scheme stays.
pub fn strip(place: &KeyPlace, exchange: &mut Exchange) {
    if !is_behind_scheme(place) || find(place, exchange) != Found::Nothing {
        place::strip(place, exchange);
    }
}

/// RFC 6750 §3, for who shows nothing.
pub fn challenge(realm: &str) -> String {
    format!(r#"Bearer realm="{realm}""#)
}

/// For who shows one that does not open.
pub fn refused(realm: &str, description: &str) -> String {
    format!(r#"Bearer realm="{realm}", error="invalid_token", error_description="{description}""#)
}
