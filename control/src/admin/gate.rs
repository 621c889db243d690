//! Who may ask the admin listener for what. Pure: a method, a target and headers go in, a verdict comes out. The rules are the
//! configuration language's, "Fixed semantics", Admin.

use crate::functions::token::Token;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, Method, Uri};
use maitred_core::function::PAYLOAD_BYTES_MAX;
use maitred_model::{MetricsAccess, Secret};
use std::net::{Ipv4Addr, Ipv6Addr};
use subtle::ConstantTimeEq;

/// Bytes of a request's body. Those that are read are much shorter.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// No page of another origin can send it without asking first, and it would be refused when it asks.
const WRITE_HEADER: HeaderName = HeaderName::from_static("x-maitred");

#[derive(Debug, Clone)]
pub(super) struct Gate {
    token: Token,
    metrics: MetricsAccess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    BodyTooLarge,
    /// Host is not a loopback name: a page of a name that was made to resolve to 127.0.0.1 would send its own.
    ForeignHost,
    ForeignOrigin,
    UnmarkedWrite,
    NoToken,
    WrongToken,
}

impl Gate {
    pub fn new(token: Token, metrics: MetricsAccess) -> Gate {
        Gate { token, metrics }
    }

    pub fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let most = if is_event(uri.path()) { PAYLOAD_BYTES_MAX as u64 } else { BODY_BYTES_MAX };
        if content_length(headers) > most {
            return Err(Refusal::BodyTooLarge);
        }
        match self.token.get() {
            Some(_) if self.is_public(uri.path()) => Ok(()),
            Some(token) => check_token(token, headers),
            None => check_local(method, uri, headers),
        }
    }

    /// Whether a request shows the admin token. Without one nobody does.
    pub fn shows_token(&self, headers: &HeaderMap) -> bool {
        self.token.get().is_some_and(|token| check_token(token, headers).is_ok())
    }

    pub fn asks_for_token(&self) -> bool {
        self.token.get().is_some()
    }

    /// Those who probe and scrape are seldom given secrets.
    fn is_public(&self, path: &str) -> bool {
        match path {
            "/healthz" | "/readyz" => true,
            "/metrics" => self.metrics == MetricsAccess::Open,
            _ => false,
        }
    }
}

/// Whether the body is what a function is given.
fn is_event(path: &str) -> bool {
    path.strip_prefix("/functions/").is_some_and(|rest| rest.ends_with("/invoke"))
}

pub(super) fn content_length(headers: &HeaderMap) -> u64 {
    // What is not a number was refused before it came here.
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// RFC 6750, section 2.1. A page cannot make a browser send a bearer token by itself, so that a write needs nothing more.
fn check_token(token: &Secret, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = only(headers, &AUTHORIZATION) else {
        return Err(Refusal::NoToken);
    };
    let guess = match value.split_once(' ') {
        Some((scheme, guess)) if scheme.eq_ignore_ascii_case("bearer") => guess.trim_start_matches(' '),
        Some(_) | None => return Err(Refusal::NoToken),
    };
    // The time tells the token's length at most.
    if bool::from(guess.as_bytes().ct_eq(token.expose().as_bytes())) { Ok(()) } else { Err(Refusal::WrongToken) }
}

fn check_local(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let host = only(headers, &HOST).filter(|host| is_loopback(host)).ok_or(Refusal::ForeignHost)?;
    // A target with an authority of its own overrides Host (RFC 9112, section 3.2.2).
    if uri.authority().is_some_and(|authority| !is_loopback(authority.as_str())) {
        return Err(Refusal::ForeignHost);
    }
    let is_own = only(headers, &ORIGIN)
        .and_then(|origin| origin.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://")).map(|_| &origin[7..]))
        .is_some_and(|origin| origin.eq_ignore_ascii_case(host));
    if headers.contains_key(ORIGIN) && !is_own {
        return Err(Refusal::ForeignOrigin);
    }
    let is_read = method == Method::GET || method == Method::HEAD;
    if !is_read && only(headers, &WRITE_HEADER) != Some("1") {
        return Err(Refusal::UnmarkedWrite);
    }
    Ok(())
}

/// The header's value, if it is there once, and text.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// localhost, 127.0.0.0/8 or [::1], with any port or none. Nothing that would have to be resolved.
fn is_loopback(host: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else { return false };
        let is_end = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return is_end && address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    let name = match host.split_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return false,
        None => host,
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn verdict(gate: &Gate, line: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let (method, target) = line.split_once(' ').unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        gate.admit(&method.parse().unwrap(), &target.parse().unwrap(), &map)
    }

    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<(), Refusal>);

    fn check_without_token(cases: &[Case]) {
        let gate = Gate::new(Token::default(), MetricsAccess::Open);
        for (line, headers, expected) in cases {
            assert_eq!(verdict(&gate, line, headers), *expected, "{line} {headers:?}");
        }
    }

    #[test]
    fn loopback_is_said_in_these_ways_and_no_other() {
        for host in ["localhost", "LocalHost:9080", "127.0.0.1", "127.9.8.7:1", "[::1]", "[::1]:9080", "[0:0::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        let foreign = [
            "",
            "localhost.evil.com",
            "localhost.",
            "a.localhost",
            "127.0.0.1.nip.io",
            "127.1",
            "0x7f.0.0.1",
            "128.0.0.1",
            "::1",
            "[::1",
            "[::2]",
            "[::1]x",
            "[::1]:",
            "localhost:",
            "localhost:x",
            "localhost:+1",
            "localhost:99999",
            "user@localhost",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
        ];
        for host in foreign {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn without_a_token_only_a_loopback_host_is_answered() {
        check_without_token(&[
            ("GET /config", &[("host", "localhost:9080")], Ok(())),
            ("GET /config", &[("host", "evil.example")], Err(Refusal::ForeignHost)),
            ("GET /healthz", &[("host", "evil.example")], Err(Refusal::ForeignHost)),
            ("GET /config", &[], Err(Refusal::ForeignHost)),
            ("GET /config", &[("host", "localhost"), ("host", "evil.example")], Err(Refusal::ForeignHost)),
            ("GET http://evil.example/config", &[("host", "localhost")], Err(Refusal::ForeignHost)),
            ("GET http://localhost/config", &[("host", "localhost")], Ok(())),
        ]);
    }

    #[test]
    fn without_a_token_no_other_origin_is_answered() {
        let host = ("host", "localhost:9080");
        check_without_token(&[
            ("GET /config", &[host, ("origin", "http://localhost:9080")], Ok(())),
            ("GET /config", &[host, ("origin", "HTTP://LOCALHOST:9080")], Ok(())),
            ("GET /config", &[host, ("origin", "http://localhost:8080")], Err(Refusal::ForeignOrigin)),
            ("GET /config", &[host, ("origin", "https://localhost:9080")], Err(Refusal::ForeignOrigin)),
            ("GET /config", &[host, ("origin", "http://evil.example")], Err(Refusal::ForeignOrigin)),
            ("GET /config", &[host, ("origin", "null")], Err(Refusal::ForeignOrigin)),
            ("GET /config", &[host, ("origin", "http://localhost:9080"), ("origin", "null")], Err(Refusal::ForeignOrigin)),
        ]);
    }

    #[test]
    fn without_a_token_a_write_is_marked() {
        let host = ("host", "localhost");
        check_without_token(&[
            ("POST /reload", &[host, ("x-maitred", "1")], Ok(())),
            ("POST /reload", &[host], Err(Refusal::UnmarkedWrite)),
            ("POST /reload", &[host, ("x-maitred", "2")], Err(Refusal::UnmarkedWrite)),
            ("OPTIONS /reload", &[host], Err(Refusal::UnmarkedWrite)),
            ("POST /reload", &[("host", "evil"), ("x-maitred", "1")], Err(Refusal::ForeignHost)),
        ]);
    }

    #[test]
    fn with_a_token_it_is_all_that_counts() {
        let open = Gate::new(Token::new(Some(Secret::new("s3cret"))), MetricsAccess::Open);
        let protected = Gate::new(Token::new(Some(Secret::new("s3cret"))), MetricsAccess::Protected);
        let bearer = ("authorization", "Bearer s3cret");
        for (gate, line, headers, expected) in [
            (&open, "GET /config", &[bearer][..], Ok(())),
            (&open, "GET /config", &[("authorization", "bearer  s3cret")], Ok(())),
            (&open, "POST /reload", &[bearer, ("host", "anywhere"), ("origin", "http://evil")], Ok(())),
            (&open, "GET /config", &[], Err(Refusal::NoToken)),
            (&open, "GET /nothing", &[], Err(Refusal::NoToken)),
            (&open, "GET /config", &[("authorization", "Basic s3cret")], Err(Refusal::NoToken)),
            (&open, "GET /config", &[("authorization", "Bearer")], Err(Refusal::NoToken)),
            (&open, "GET /config", &[bearer, bearer], Err(Refusal::NoToken)),
            (&open, "GET /config", &[("authorization", "Bearer s3cre")], Err(Refusal::WrongToken)),
            (&open, "GET /config", &[("authorization", "Bearer s3cret2")], Err(Refusal::WrongToken)),
            (&open, "POST /reload", &[("x-maitred", "1"), ("host", "localhost")], Err(Refusal::NoToken)),
            (&open, "GET /healthz", &[], Ok(())),
            (&open, "GET /readyz", &[], Ok(())),
            (&open, "GET /metrics", &[], Ok(())),
            (&open, "GET /metrics/", &[], Err(Refusal::NoToken)),
            (&protected, "GET /healthz", &[], Ok(())),
            (&protected, "GET /metrics", &[], Err(Refusal::NoToken)),
            (&protected, "GET /metrics", &[bearer], Ok(())),
        ] {
            assert_eq!(verdict(gate, line, headers), expected, "{line} {headers:?}");
        }
    }

    #[test]
    fn a_large_body_is_refused_before_anything_else() {
        let gate = Gate::new(Token::default(), MetricsAccess::Open);
        let headers = [("host", "localhost"), ("x-maitred", "1"), ("content-length", "65537")];
        assert_eq!(verdict(&gate, "POST /reload", &headers), Err(Refusal::BodyTooLarge));
        assert_eq!(verdict(&gate, "POST /functions/dessert/reload", &headers), Err(Refusal::BodyTooLarge));
        assert_eq!(verdict(&gate, "POST /functions/dessert/invoke", &headers), Ok(()));
        let headers = [("host", "localhost"), ("x-maitred", "1"), ("content-length", "6291557")];
        assert_eq!(verdict(&gate, "POST /functions/dessert/invoke", &headers), Err(Refusal::BodyTooLarge));
    }
}
