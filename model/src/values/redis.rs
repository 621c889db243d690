//! Where servers are that speak Redis' protocol, as a URL. What it says of a wrong one never repeats a password. Connects to nobody.

use super::{Secret, ValueError};
use crate::document::{RedisKind, RedisServers};
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// More than these are not needed to find a cluster, and somebody has to try them all.
const HOSTS_MAX: usize = 64;
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// Redis has 16 by default; more than this is a slip.
const DATABASE_MAX: u32 = 65_535;

const FORM: &str = "write `redis://host:6379`, `rediss://…` for TLS, `redis-cluster://…` or `redis-sentinel://…/name`";

impl RedisServers {
    /// Whether such a text has a password in it, even if nothing else is right.
    pub fn has_password(text: &str) -> bool {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        rest.rsplit_once('@').is_some_and(|(credentials, _)| credentials.contains(':'))
    }

    /// `redis://[user:password@]host[:port][/database]`, `redis-cluster://host[:port],…`, `redis-sentinel://host[:port],…/name[/database]`,
    /// each also with `rediss`, and `redis+unix://[user:password@]/path`. User and password are percent-encoded.
    pub fn parse(text: &str) -> Result<RedisServers, ValueError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(ValueError::new("it is neither `memory` nor a URL").hint(FORM));
        };
        let family = Family::of(scheme)?;
        // A password with an `@` that is not encoded is one with an `@`: no host has one.
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, rest),
        };
        if place.contains(['?', '#']) {
            return Err(ValueError::new("what comes after a `?` or `#` is not known here")
                .hint("other settings have keys of their own beside `url`"));
        }
        let (user, password) = credentials.map_or(Ok((None, None)), parse_credentials)?;
        let is_encrypted = scheme.starts_with("rediss");
        let servers = |kind, hosts, database| RedisServers { kind, is_encrypted, hosts, user, password, database };
        if let Family::Socket = family {
            return match place.starts_with('/') && place.len() > 1 && !place.contains('\0') {
                true => Ok(servers(RedisKind::Socket(PathBuf::from(place)), Vec::new(), 0)),
                false => Err(ValueError::new("the URL names no socket").hint("write `redis+unix:///run/redis.sock`")),
            };
        }
        let (authority, path) = match place.split_once('/') {
            Some((authority, path)) => (authority, path),
            None => (place, ""),
        };
        let port = if let Family::Sentinel = family { SENTINEL_PORT } else { PORT };
        let hosts = parse_hosts(authority, port)?;
        let (kind, database) = family.kind(hosts.len(), path)?;
        Ok(servers(kind, hosts, database))
    }
}

#[derive(Clone, Copy)]
enum Family {
    Single,
    Cluster,
    Sentinel,
    Socket,
}

impl Family {
    fn of(scheme: &str) -> Result<Family, ValueError> {
        match scheme {
            "redis" | "rediss" => Ok(Family::Single),
            "redis-cluster" | "rediss-cluster" => Ok(Family::Cluster),
            "redis-sentinel" | "rediss-sentinel" => Ok(Family::Sentinel),
            "redis+unix" => Ok(Family::Socket),
            "valkey" | "redis+tls" | "rediss+unix" | "valkeys" | "tls" | "tcp" | "unix" | "http" | "https" => {
                Err(ValueError::new(format!("`{scheme}://` is not known here")).hint(FORM))
            }
            _ => Err(ValueError::new("the URL begins with no scheme that is known here").hint(FORM)),
        }
    }

    fn kind(self, hosts: usize, path: &str) -> Result<(RedisKind, u32), ValueError> {
        match self {
            Family::Single if hosts > 1 => Err(ValueError::new("`redis://` names one server")
                .hint("write `redis-cluster://` for a cluster, or `redis-sentinel://…/name` for sentinels")),
            Family::Single => Ok((RedisKind::Single, parse_database(path)?)),
            Family::Cluster => match parse_database(path)? {
                0 => Ok((RedisKind::Cluster, 0)),
                _ => Err(ValueError::new("a cluster has one database, 0").hint("leave out what comes after the hosts")),
            },
            Family::Sentinel => {
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                if name.is_empty() || !name.bytes().all(good) {
                    return Err(ValueError::new("it is missing what the sentinels call the server")
                        .hint("write it after the hosts: `redis-sentinel://host:26379/mymaster`"));
                }
                Ok((RedisKind::Sentinel(name.to_owned()), parse_database(database)?))
            }
            Family::Socket => Ok((RedisKind::Socket(PathBuf::from(path)), 0)),
        }
    }
}

fn parse_database(text: &str) -> Result<u32, ValueError> {
    if text.is_empty() {
        return Ok(0);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u32>().ok().filter(|number| digits && *number <= DATABASE_MAX);
    number.ok_or_else(|| {
        ValueError::new(format!("`{text}` is no number of a database"))
            .hint("write a number after the host: `redis://host:6379/1`")
    })
}

fn parse_hosts(text: &str, port: u16) -> Result<Vec<(String, u16)>, ValueError> {
    let hosts = text.split(',').map(|host| parse_host(host, port)).collect::<Result<Vec<_>, _>>()?;
    if hosts.len() > HOSTS_MAX {
        return Err(ValueError::new(format!("there are {} hosts", hosts.len())).hint(format!("name at most {HOSTS_MAX}")));
    }
    Ok(hosts)
}

fn parse_host(text: &str, default_port: u16) -> Result<(String, u16), ValueError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':').or(Some("no port"))),
            None => ("", None),
        },
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_host = match text.starts_with('[') {
        true => host.parse::<Ipv6Addr>().is_ok(),
        false => !host.is_empty() && host.len() <= 253 && host.bytes().all(good),
    };
    if !is_host {
        return Err(ValueError::new(format!("`{text}` is no host")).hint(FORM));
    }
    let parse = |port: &str| {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        port.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let port = port.map_or(Some(default_port), parse).ok_or_else(|| {
        ValueError::new(format!("`{text}` has no port that could be")).hint(format!("write `{host}:{default_port}`"))
    })?;
    Ok((host.to_owned(), port))
}

fn parse_credentials(text: &str) -> Result<(Option<String>, Option<Secret>), ValueError> {
    let Some((user, password)) = text.split_once(':') else {
        return Err(ValueError::new("what stands before `@` has no password")
            .hint("write `redis://user:${env:NAME}@host`, or `redis://:${env:NAME}@host` without a user"));
    };
    let (user, password) = (decoded(user)?, decoded(password)?);
    if password.is_empty() {
        return Err(ValueError::new("the password is empty").hint("give it a value, or leave out what stands before `@`"));
    }
    Ok(((!user.is_empty()).then_some(user), Some(Secret::new(password))))
}

/// Percent-decoded. What is no sequence of two digits stands for itself: a password from elsewhere is seldom encoded.
fn decoded(text: &str) -> Result<String, ValueError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).map_err(|_| ValueError::new("user or password is not UTF-8").hint("encode it as UTF-8, in percent"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::RedisKind;

    #[test]
    fn what_is_written_is_what_is_meant() {
        for (text, told) in [
            ("redis://cache", "redis://cache:6379/0"),
            ("redis://cache:7000/3", "redis://cache:7000/3"),
            ("rediss://:pw@cache", "rediss://:***@cache:6379/0"),
            ("redis://me:p%40w@[::1]:7000", "redis://me:***@[::1]:7000/0"),
            ("redis://[::1]", "redis://[::1]:6379/0"),
            ("redis-cluster://a:1,b", "redis-cluster://a:1,b:6379"),
            ("rediss-cluster://a/", "rediss-cluster://a:6379"),
            ("redis-sentinel://a,b:1/mine/2", "redis-sentinel://a:26379,b:1/mine/2"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
        ] {
            assert_eq!(RedisServers::parse(text).unwrap().to_string(), told, "{text}");
        }
    }

    #[test]
    fn passwords_are_decoded_and_never_told() {
        for (written, meant) in [("p%40w", "p@w"), ("p@w", "p@w"), ("100%", "100%"), ("a:b", "a:b"), ("%zz", "%zz")] {
            let servers = RedisServers::parse(&format!("redis://me:{written}@host")).unwrap();
            assert_eq!((servers.user.as_deref(), servers.password.unwrap().expose()), (Some("me"), meant));
        }
        for text in
            ["redis://:hushhush@", "redis://:hushhush@h:x", "redis://:hushhush@a,b", "nedis://:hushhush@h", "redis://hushhush@h"]
        {
            let error = RedisServers::parse(text).unwrap_err();
            assert!(!format!("{error:?}").contains("hushhush"), "{error:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for text in [
            "",
            "cache:6379",
            "redis://",
            "redis://a b",
            "redis://a:0",
            "redis://a:+1",
            "redis://a:70000",
            "redis://a:",
            "redis://[::1",
            "redis://[a]",
            "redis://[::1]x",
            "redis://a,b",
            "redis://a/x",
            "redis://a/+1",
            "redis://a?db=1",
            "redis-cluster://a/1",
            "redis-sentinel://a",
            "redis-sentinel://a/",
            "redis-sentinel://a/m/x",
            "redis+unix://host",
            "valkey://a",
            "http://a",
        ] {
            assert!(RedisServers::parse(text).is_err(), "{text}");
        }
        assert!(matches!(RedisServers::parse("redis-sentinel://a/m").unwrap().kind, RedisKind::Sentinel(name) if name == "m"));
    }
}
