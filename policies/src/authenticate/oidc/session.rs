//! A session as a browser keeps it, in as many cookies as it needs. Whoever has them is who they say: they are never sent to a back end.

use super::seal::{Purpose, Sealer};
use maitred_core::Exchange;
use maitred_core::wire::{cookies, remove_cookie};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Bytes of one cookie's value: browsers keep 4096 of name, value and attributes (RFC 6265 §6.1).
const COOKIE_BYTES_MAX: usize = 3600;
/// More would fill the head of every request.
const COOKIES_MAX: usize = 4;

/// What is known of somebody who logged in. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub subject: String,
    /// Of the ID token, without what only concerns its own making.
    pub claims: Map<String, Value>,
    pub scopes: Vec<String>,
    /// When somebody must log in again, whatever happens.
    pub ends: u64,
    /// From when on the provider is asked whether all of this still holds.
    pub stale: u64,
    /// What it is asked with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refresh: Option<String>,
}

/// The names of a session's cookies: `web`, `web_1`, …
#[derive(Debug, Clone)]
pub struct SessionCookie {
    names: Box<[String]>,
    /// For browsers: `; Path=/; HttpOnly; SameSite=Lax`.
    attributes: String,
}

impl SessionCookie {
    pub fn new(name: &str, same_site: &str) -> SessionCookie {
        let names = (0..COOKIES_MAX).map(|at| if at == 0 { name.to_owned() } else { format!("{name}_{at}") });
        SessionCookie { names: names.collect(), attributes: format!("; Path=/; HttpOnly; SameSite={same_site}") }
    }

    pub fn is_there(&self, exchange: &Exchange) -> bool {
        cookies(&exchange.request.headers, self.names[0].as_bytes()).next().is_some()
    }

    /// The sealed session of a request, its pieces put together. `None`: there is none, or one of its names stands there twice.
    pub fn sealed<'a>(&'a self, exchange: &'a Exchange, whole: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let headers = &exchange.request.headers;
        let only = |name: &'a str| {
            let mut values = cookies(headers, name.as_bytes());
            (values.next(), values.next())
        };
        let (Some(first), None) = only(&self.names[0]) else { return None };
        let Some(second) = only(&self.names[1]).0 else { return Some(first) };
        whole.extend_from_slice(first);
        whole.extend_from_slice(second);
        for name in &self.names[1..] {
            match only(name) {
                (_, Some(_)) => return None,
                (Some(piece), None) if *name != self.names[1] => whole.extend_from_slice(piece),
                (Some(_), None) => {}
                (None, _) => break,
            }
        }
        Some(whole)
    }

    pub fn open(&self, exchange: &Exchange, sealer: &Sealer) -> Option<Session> {
        let mut whole = Vec::new();
        let sealed = self.sealed(exchange, &mut whole)?;
        serde_json::from_slice(&sealer.open(Purpose::Session, sealed)?).ok()
    }

    /// Set-Cookie for each piece, and for the pieces of a longer one from before that are not needed any more. `None`: it is too large.
    pub fn set(&self, session: &Session, sealer: &Sealer, now: u64, secure: bool) -> Option<Vec<String>> {
        let sealed = sealer.seal(Purpose::Session, &serde_json::to_vec(session).ok()?)?;
        if sealed.len() > COOKIES_MAX * COOKIE_BYTES_MAX {
            return None;
        }
        let age = session.ends.saturating_sub(now);
        // Base64 is ASCII: every place is between two characters.
        let pieces: Vec<&str> =
            sealed.as_bytes().chunks(COOKIE_BYTES_MAX).filter_map(|piece| std::str::from_utf8(piece).ok()).collect();
        let set = |(at, name): (usize, &String)| match pieces.get(at) {
            Some(piece) => self.line(name, piece, age, secure),
            None => self.line(name, "", 0, secure),
        };
        // The one behind the last is taken away: it would be read as a piece of this one.
        Some(self.names.iter().enumerate().take(pieces.len() + 1).map(set).collect())
    }

    /// Set-Cookie that takes every piece away.
    pub fn clear(&self, secure: bool) -> Vec<String> {
        self.names.iter().map(|name| self.line(name, "", 0, secure)).collect()
    }

    pub fn strip(&self, exchange: &mut Exchange) {
        for name in &self.names {
            remove_cookie(&mut exchange.request.headers, name.as_bytes());
        }
    }

    fn line(&self, name: &str, value: &str, age: u64, secure: bool) -> String {
        let secure = if secure { "; Secure" } else { "" };
        format!("{name}={value}; Max-Age={age}{}{secure}", self.attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn session(bytes: usize) -> Session {
        let mut claims = Map::new();
        claims.insert("text".to_owned(), "x".repeat(bytes).into());
        Session { subject: "alice".to_owned(), claims, scopes: vec!["openid".to_owned()], ends: 5000, stale: 100, refresh: None }
    }

    /// A browser: what it was told to keep, it sends.
    fn sent(lines: &[String]) -> Exchange {
        let mut exchange = Exchange::new(Instant::now());
        let kept: Vec<&str> =
            lines.iter().filter(|line| !line.contains("Max-Age=0;")).map(|line| line.split(';').next().unwrap()).collect();
        exchange.request.headers.add(b"cookie", kept.join("; ").as_bytes());
        exchange
    }

    #[test]
    fn a_session_comes_back_in_as_many_cookies_as_it_needs() {
        let (cookie, sealer) = (SessionCookie::new("web", "Lax"), Sealer::new(b"secret", "web").unwrap());
        for (bytes, pieces) in [(0, 1), (2000, 1), (3000, 2), (5000, 2), (7000, 3), (10_000, 4)] {
            let lines = cookie.set(&session(bytes), &sealer, 1000, true).expect("it fits");
            assert!(
                lines.iter().all(|line| line.len() < 4096 && line.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure")),
                "{lines:?}"
            );
            let kept = lines.iter().filter(|line| line.contains("Max-Age=4000;")).count();
            assert_eq!(kept, pieces, "{bytes}");
            assert_eq!(cookie.open(&sent(&lines), &sealer), Some(session(bytes)), "{bytes}");
        }
        assert_eq!(cookie.set(&session(20_000), &sealer, 0, true), None);
    }

    #[test]
    fn two_of_a_name_are_none() {
        let (cookie, sealer) = (SessionCookie::new("web", "Lax"), Sealer::new(b"secret", "web").unwrap());
        for bytes in [0, 5000] {
            let lines = cookie.set(&session(bytes), &sealer, 0, false).unwrap();
            for at in 0..2 {
                let mut exchange = sent(&lines);
                let first = lines[at.min(lines.len() - 1)].split(';').next().unwrap().to_owned();
                exchange.request.headers.add(b"cookie", first.as_bytes());
                if first != "web_1=" {
                    assert_eq!(cookie.open(&exchange, &sealer), None, "{bytes} {at}");
                }
            }
        }
    }

    #[test]
    fn none_of_it_reaches_a_back_end() {
        let cookie = SessionCookie::new("web", "Lax");
        let mut exchange = Exchange::new(Instant::now());
        exchange.request.headers.add(b"cookie", b"a=1; web=x; web_1=y; web_3=z; webs=2");
        cookie.strip(&mut exchange);
        assert_eq!(exchange.request.headers.get(b"cookie"), Some(&b"a=1; webs=2"[..]));
    }
}
