//! The cookies of logins under way, one for each: whoever logs in from two windows comes back to both. Keeps their number small. What is in
//! them is not its affair.

use super::login::{Attempt, LOGIN_SECONDS};
use super::seal::Sealer;
use maitred_core::Exchange;
use maitred_core::wire::{cookies_beginning, remove_cookies_beginning};

/// Logins under way in one browser. Every request carries them, each with up to 2 KiB: the oldest makes room for one more.
const LOGINS_MAX: usize = 8;
/// Cookies that one answer takes away. A browser that was told to open many windows at once may have more; the next answer goes on.
const REMOVED_MAX: usize = 32;
/// Characters of `state` in a cookie's name: 48 bits tell a browser's logins apart. That it is the right one, its whole content says.
const ID_CHARACTERS: usize = 8;

/// `web_login_`, and some of a login's `state`.
pub struct LoginCookies {
    prefix: String,
}

impl LoginCookies {
    pub fn new(session_cookie: &str) -> LoginCookies {
        LoginCookies { prefix: format!("{session_cookie}_login_") }
    }

    /// The sealed login of that state. `None`: there is none, or it stands there twice.
    pub fn of<'a>(&'a self, state: &'a str, exchange: &'a Exchange) -> Option<&'a [u8]> {
        let wanted = id(state)?;
        let mut values = self.ids(exchange).filter(|(id, _)| *id == wanted).map(|(_, sealed)| sealed);
        match (values.next(), values.next()) {
            (Some(only), None) => Some(only),
            (None | Some(_), _) => None,
        }
    }

    /// Set-Cookie for a new login, and for those that make room for it.
    pub fn set(&self, attempt: &Attempt, exchange: &Exchange, sealer: &Sealer, now: u64, secure: bool) -> Option<Vec<String>> {
        let (new, sealed) = (id(&attempt.state)?, attempt.seal(sealer)?);
        let began = |sealed| Attempt::open(sealed, sealer, now).map(|attempt| attempt.began);
        let mut others: Vec<(Option<u64>, &str)> = self.ids(exchange).map(|(id, sealed)| (began(sealed), id)).collect();
        // What does not open any more comes first, and then the oldest.
        others.sort_unstable();
        let room = others.len().saturating_sub(LOGINS_MAX - 1);
        let over = others.iter().enumerate().filter(|(at, (began, _))| *at < room || began.is_none()).map(|(_, (_, id))| id);
        let mut set = vec![self.line(new, &sealed, LOGIN_SECONDS, secure)];
        set.extend(over.take(REMOVED_MAX).map(|id| self.line(id, "", 0, secure)));
        Some(set)
    }

    /// Set-Cookie that ends one login. The others go on: somebody may come back from them yet.
    pub fn clear(&self, state: &str, secure: bool) -> Option<String> {
        Some(self.line(id(state)?, "", 0, secure))
    }

    pub fn clear_all(&self, exchange: &Exchange, secure: bool) -> Vec<String> {
        self.ids(exchange).take(REMOVED_MAX).map(|(id, _)| self.line(id, "", 0, secure)).collect()
    }

    pub fn strip(&self, exchange: &mut Exchange) {
        let is_ours = |rest: &[u8]| std::str::from_utf8(rest).is_ok_and(is_id);
        remove_cookies_beginning(&mut exchange.request.headers, self.prefix.as_bytes(), is_ours);
    }

    /// Of the logins that a request brings, with what is sealed.
    fn ids<'a>(&'a self, exchange: &'a Exchange) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let all = cookies_beginning(&exchange.request.headers, self.prefix.as_bytes());
        all.filter_map(|(rest, sealed)| Some((std::str::from_utf8(rest).ok().filter(|rest| is_id(rest))?, sealed)))
    }

    fn name(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    fn line(&self, id: &str, value: &str, age: u64, secure: bool) -> String {
        let secure = if secure { "; Secure" } else { "" };
        // Strict would be held back on the way from the provider.
        format!("{}={value}; Max-Age={age}; Path=/; HttpOnly; SameSite=Lax{secure}", self.name(id))
    }
}

fn id(state: &str) -> Option<&str> {
    state.get(..ID_CHARACTERS).filter(|id| is_id(id))
}

/// What was made of a state of ours: a name that a client sent is repeated in an answer.
fn is_id(text: &str) -> bool {
    text.len() == ID_CHARACTERS && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn attempt(number: u8, now: u64) -> Attempt {
        Attempt::new(&[[number; 32], [2; 32], [3; 32]], b"/menu", "https://x.example/cb".to_owned(), now)
    }

    /// A browser keeps what it is told to keep.
    fn keep(kept: &mut Vec<(String, String)>, lines: &[String]) {
        for line in lines {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            kept.retain(|(other, _)| other != name);
            if !line.contains("Max-Age=0;") {
                kept.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    fn sends(kept: &[(String, String)]) -> Exchange {
        let mut exchange = Exchange::new(Instant::now());
        let pairs: Vec<String> = kept.iter().map(|(name, value)| format!("{name}={value}")).collect();
        exchange.request.headers.add(b"cookie", pairs.join("; ").as_bytes());
        exchange
    }

    #[test]
    fn each_login_has_its_own_and_the_oldest_make_room() {
        let (cookies, sealer) = (LoginCookies::new("web"), Sealer::new(b"secret", "web").unwrap());
        let mut kept = Vec::new();
        let many = u8::try_from(LOGINS_MAX).unwrap() + 3;
        for number in 0..many {
            let now = 1000 + u64::from(number);
            let lines = cookies.set(&attempt(number, now), &sends(&kept), &sealer, now, true).unwrap();
            keep(&mut kept, &lines);
            assert!(kept.len() <= LOGINS_MAX, "{number}");
        }
        let exchange = sends(&kept);
        for number in 0..many {
            let attempt = attempt(number, 1000 + u64::from(number));
            let opened = cookies.of(&attempt.state, &exchange).and_then(|sealed| Attempt::open(sealed, &sealer, 1100));
            assert_eq!(opened, Some(attempt).filter(|_| number >= 3), "{number}");
        }
        keep(&mut kept, &Vec::from_iter(cookies.clear(&attempt(5, 0).state, true)));
        assert_eq!(kept.len(), LOGINS_MAX - 1, "one that ends leaves the others");
        let lines = cookies.clear_all(&sends(&kept), true);
        keep(&mut kept, &lines);
        assert!(kept.is_empty(), "{kept:?}");
    }

    #[test]
    fn what_does_not_open_is_taken_away_and_no_other_name_is_repeated() {
        let (cookies, sealer) = (LoginCookies::new("web"), Sealer::new(b"secret", "web").unwrap());
        let mut exchange = Exchange::new(Instant::now());
        exchange
            .request
            .headers
            .add(b"cookie", b"web_login_AAAAAAAA=x; web_login_x=1; web_login_\xff\xff\xff\xff\xff\xff\xff\xff=1");
        exchange.request.headers.add(b"cookie", b"web_login_AAAA,AAA=1; web=2; web_login_BBBBBBBBB=3");
        let lines = cookies.set(&attempt(1, 1000), &exchange, &sealer, 1000, false).unwrap();
        assert_eq!(lines[1..], ["web_login_AAAAAAAA=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"]);
        let many: Vec<String> = (0..5000).map(|number| format!("web_login_{number:08}=x")).collect();
        exchange.request.headers.add(b"cookie", many.join(";").as_bytes());
        assert_eq!(cookies.set(&attempt(1, 1000), &exchange, &sealer, 1000, false).unwrap().len(), 1 + REMOVED_MAX);
        assert_eq!(cookies.clear_all(&exchange, false).len(), REMOVED_MAX);
        cookies.strip(&mut exchange);
        let left = exchange.request.headers.get(b"cookie").unwrap();
        assert!(!left.windows(18).any(|part| part == b"web_login_AAAAAAAA") && left.windows(6).any(|part| part == b"web=2;"));
    }

    #[test]
    fn a_login_that_stands_there_twice_or_is_named_otherwise_is_none() {
        let cookies = LoginCookies::new("web");
        for (sent, found) in [
            ("web_login_AQEBAQEB=x", Some(&b"x"[..])),
            ("web_login_AQEBAQEB=x; web_login_AQEBAQEB=x", None),
            ("web_login=x; web_login_AQEB=y", None),
        ] {
            let mut exchange = Exchange::new(Instant::now());
            exchange.request.headers.add(b"cookie", sent.as_bytes());
            assert_eq!(cookies.of(&attempt(1, 0).state, &exchange), found, "{sent}");
        }
        for state in ["", "short", "ä-ä-ä-ä-", "a=b;c=d;"] {
            assert_eq!(cookies.of(state, &sends(&[])), None, "{state}");
        }
    }
}
