//! Whom a limit counts apart: what of a request makes its key. Whatever is missing makes a key too, so that nobody passes uncounted by
//! leaving something out. Counts nothing.

use crate::authorize::condition::Condition;
use crate::authorize::given::Given;
use maitred_core::limit_table::{Key, KeyWriter, Table};
use maitred_core::wire::Name;
use maitred_core::{Exchange, Ports, Principal, ipv6_network};
use maitred_model::{HeaderName, LimitBy, Spanned};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

/// Of an IPv6 address, where nobody said how much.
const IPV6_PREFIX: u8 = 64;

/// What a part of a key begins with, so that none is taken for another.
const ABSENT: u64 = 0;
const PRESENT: u64 = 1;
const CONSUMER: u64 = 2;
const SUBJECT: u64 = 3;
const ADDRESS: u64 = 4;
const ERROR: u64 = 5;

/// What keys are made with.
pub struct KeyMaking<'a> {
    /// Names the route among those of its API.
    pub route: &'a str,
    /// By what is written.
    pub conditions: &'a HashMap<String, Arc<Condition>>,
    /// Names of the route's path parameters.
    pub params: &'a [&'a str],
    /// Headers in which credentials come: no list shows them.
    pub masked: &'a [HeaderName],
}

pub struct Keys {
    parts: Box<[Part]>,
    /// All requests have the same.
    fixed: Option<Key>,
    names_identity: bool,
}

enum Part {
    Consumer,
    Ip(u8),
    Header { name: HeaderName, known: Name, is_masked: bool },
    Claim(Box<str>),
    Api,
    Route(Box<str>),
    Expression { condition: Arc<Condition>, params: Box<[Box<str>]>, has_failed: AtomicBool },
}

static NOBODY: LazyLock<Principal> = LazyLock::new(Principal::anonymous);

impl Keys {
    /// Expressions that cannot be read are left out: they were complained about.
    pub fn compile(by: &[Spanned<LimitBy>], table: &Table, making: &KeyMaking<'_>) -> Keys {
        let part = |by: &Spanned<LimitBy>| {
            Some(match &by.value {
                LimitBy::Consumer => Part::Consumer,
                LimitBy::Ip { ipv6_prefix } => Part::Ip(*ipv6_prefix),
                LimitBy::Header(name) => Part::Header {
                    name: name.clone(),
                    known: Name::of(name.as_str().as_bytes()),
                    is_masked: making.masked.contains(name),
                },
                LimitBy::Claim(path) => Part::Claim(path.as_str().into()),
                LimitBy::Api => Part::Api,
                LimitBy::Route => Part::Route(making.route.into()),
                LimitBy::Expression(source) => Part::Expression {
                    condition: making.conditions.get(source)?.clone(),
                    params: making.params.iter().map(|&name| name.into()).collect(),
                    has_failed: AtomicBool::new(false),
                },
            })
        };
        let parts: Box<[Part]> = by.iter().filter_map(part).collect();
        let names_identity = parts.iter().any(|part| match part {
            Part::Consumer | Part::Claim(_) => true,
            Part::Expression { condition, .. } => condition.names_identity(),
            Part::Ip(_) | Part::Header { .. } | Part::Api | Part::Route(_) => false,
        });
        let mut writer = table.writer();
        let is_fixed = parts.iter().all(|part| match part {
            Part::Api => true,
            Part::Route(route) => {
                writer.bytes(route.as_bytes());
                true
            }
            Part::Consumer | Part::Ip(_) | Part::Header { .. } | Part::Claim(_) | Part::Expression { .. } => false,
        });
        Keys { parts, fixed: is_fixed.then(|| writer.key()), names_identity }
    }

    /// It can be told only when it is known who asks.
    pub fn names_identity(&self) -> bool {
        self.names_identity
    }

    #[inline]
    pub(super) fn of(&self, exchange: &Exchange, ports: &dyn Ports, table: &Table) -> Key {
        match (self.fixed, &*self.parts) {
            (Some(key), _) => key,
            (None, [Part::Ip(prefix)]) => {
                let mut writer = table.writer();
                writer.address(exchange.client_ip(), *prefix);
                writer.key()
            }
            (None, _) => self.of_parts(exchange, ports, table),
        }
    }

    #[inline(never)]
    fn of_parts(&self, exchange: &Exchange, ports: &dyn Ports, table: &Table) -> Key {
        let mut writer = table.writer();
        self.parts.iter().for_each(|part| part.write(&mut writer, exchange, ports));
        writer.key()
    }

    /// `None`: it is not consumers that are counted apart.
    pub(super) fn of_consumer(&self, name: &str, table: &Table) -> Option<Key> {
        let [Part::Consumer] = &*self.parts else { return None };
        let mut writer = table.writer();
        consumer(name, &mut writer);
        Some(writer.key())
    }

    /// For lists of who is refused. Credentials are not in it: they are told apart by some of their key's bits.
    pub(super) fn text(&self, exchange: &Exchange, ports: &dyn Ports, key: Key) -> String {
        let mut text = String::new();
        for part in &self.parts {
            if !text.is_empty() {
                text.push_str(", ");
            }
            part.tell(&mut text, exchange, ports, key);
        }
        // What came in a header may hold anything.
        text.retain(|character| !character.is_control());
        text
    }
}

fn consumer(name: &str, writer: &mut KeyWriter) {
    writer.word(CONSUMER);
    writer.bytes(name.as_bytes());
}

/// Who asks, as well as it is known.
enum Caller<'a> {
    Consumer(&'a str),
    Subject(&'a Principal, &'a str),
    Nobody,
}

fn caller(exchange: &Exchange) -> Caller<'_> {
    let Some(principal) = &exchange.principal else { return Caller::Nobody };
    match (principal.consumer_name(), &principal.subject) {
        (Some(name), _) => Caller::Consumer(name),
        (None, Some(subject)) if !principal.is_anonymous() => Caller::Subject(principal, subject),
        (None, _) => Caller::Nobody,
    }
}

impl Part {
    fn write(&self, writer: &mut KeyWriter, exchange: &Exchange, ports: &dyn Ports) {
        match self {
            Part::Ip(prefix) => writer.address(exchange.client_ip(), *prefix),
            Part::Consumer => match caller(exchange) {
                Caller::Consumer(name) => consumer(name, writer),
                Caller::Subject(principal, subject) => {
                    writer.word(SUBJECT);
                    writer.bytes(principal.authorizer.as_bytes());
                    writer.bytes(principal.issuer.as_deref().unwrap_or_default().as_bytes());
                    writer.bytes(subject.as_bytes());
                }
                Caller::Nobody => {
                    writer.word(ADDRESS);
                    writer.address(exchange.client_ip(), IPV6_PREFIX);
                }
            },
            Part::Header { name, known, is_masked: _ } => {
                let value = |value: &[u8]| {
                    writer.word(PRESENT);
                    writer.bytes(value);
                };
                let headers = &exchange.request.headers;
                match known {
                    Name::Other => headers.get_all(name.as_str().as_bytes()).for_each(value),
                    known => headers.all_known(*known).for_each(value),
                }
                writer.word(ABSENT);
            }
            Part::Claim(path) => match exchange.principal.as_ref().and_then(|principal| principal.claim(path)) {
                None | Some(Value::Null) => writer.word(ABSENT),
                Some(Value::String(text)) => {
                    writer.word(PRESENT);
                    writer.bytes(text.as_bytes());
                }
                // A number is not the text of its digits.
                Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
                    writer.word(ADDRESS);
                    writer.bytes(other.to_string().as_bytes());
                }
            },
            Part::Api => {}
            Part::Route(route) => writer.bytes(route.as_bytes()),
            Part::Expression { condition, has_failed, .. } => match self.yielded(condition, exchange, ports) {
                Ok(Some((kind, text))) => {
                    writer.word(u64::from(kind));
                    writer.bytes(text.as_bytes());
                }
                Ok(None) => writer.word(ABSENT),
                Err(why) => {
                    if !has_failed.swap(true, Ordering::Relaxed) {
                        let expression = condition.shown();
                        tracing::warn!(
                            expression,
                            "the key of a rate limit could not be told, and all such requests are one: it {why}"
                        );
                    }
                    writer.word(ERROR);
                }
            },
        }
    }

    fn yielded(&self, condition: &Condition, exchange: &Exchange, ports: &dyn Ports) -> Result<Option<(u8, String)>, String> {
        let Part::Expression { params, .. } = self else { return Ok(None) };
        let principal = exchange.principal.as_deref().unwrap_or(&NOBODY);
        let time = ports.unix_time(ports.now()).as_secs();
        condition.text(&Given { exchange, principal, params, time })
    }

    fn tell(&self, text: &mut String, exchange: &Exchange, ports: &dyn Ports, key: Key) {
        let address = || network(exchange, IPV6_PREFIX);
        let _ = match self {
            Part::Ip(prefix) => write!(text, "ip {}", network(exchange, *prefix)),
            Part::Consumer => match caller(exchange) {
                Caller::Consumer(name) => write!(text, "consumer {name}"),
                Caller::Subject(principal, subject) => write!(text, "subject {subject} of {}", principal.authorizer),
                Caller::Nobody => write!(text, "ip {}", address()),
            },
            Part::Header { name, is_masked: true, .. } => write!(text, "header {name} ***{:04x}", key.number() as u16),
            Part::Header { name, .. } => match exchange.request.headers.get(name.as_str().as_bytes()) {
                Some(value) => write!(text, "header {name} {}", String::from_utf8_lossy(value)),
                None => write!(text, "header {name} absent"),
            },
            Part::Claim(path) => match exchange.principal.as_ref().and_then(|principal| principal.claim(path)) {
                Some(Value::String(value)) => write!(text, "claim {path} {value}"),
                Some(value) => write!(text, "claim {path} {value}"),
                None => write!(text, "claim {path} absent"),
            },
            Part::Api => write!(text, "api"),
            Part::Route(route) => write!(text, "route {route}"),
            Part::Expression { condition, .. } if condition.names_credentials() => {
                write!(text, "cel ***{:04x}", key.number() as u16)
            }
            Part::Expression { condition, .. } => match self.yielded(condition, exchange, ports) {
                Ok(Some((_, value))) => write!(text, "cel {value}"),
                Ok(None) => write!(text, "cel absent"),
                Err(_) => write!(text, "cel error"),
            },
        };
    }
}

/// `192.0.2.1`, or `2001:db8::/64`.
fn network(exchange: &Exchange, ipv6_prefix: u8) -> String {
    match exchange.client_ip().to_canonical() {
        std::net::IpAddr::V4(v4) => v4.to_string(),
        std::net::IpAddr::V6(v6) => format!("{}/{ipv6_prefix}", ipv6_network(v6, ipv6_prefix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_core::testing::Fixed;
    use maitred_core::wire::HeadLimits;
    use std::time::Instant;

    #[test]
    fn what_an_expression_reads_where_credentials_come_is_in_no_list() {
        let limits = HeadLimits { head_bytes: 4096, fields: 10, target_bytes: 1024, drop_underscores: false };
        let mut exchange = Exchange::new(Instant::now());
        let head = b"GET /a?key=hush HTTP/1.1\r\nhost: a\r\nx-token: hush\r\ncookie: s=hush\r\n\r\n";
        exchange.request.parse(head, &limits).expect("a good head");
        let table = Table::new(1, [1, 2], Instant::now());
        let text = |source: &str| {
            let condition = Arc::new(Condition::compile_key(source).unwrap_or_else(|_| panic!("{source}")));
            let by = [Spanned::builtin(LimitBy::Expression(source.to_owned()))];
            let conditions = HashMap::from([(source.to_owned(), condition)]);
            let keys = Keys::compile(&by, &table, &KeyMaking { route: "r", conditions: &conditions, params: &[], masked: &[] });
            let ports = Fixed::at(0);
            keys.text(&exchange, &ports, keys.of(&exchange, &ports, &table))
        };
        let reads = [
            "request.headers['x-token']",
            "request.headers['cookie']",
            "request.query.key",
            "request.method + request.query['key']",
        ];
        for source in reads {
            let text = text(source);
            assert!(text.starts_with("cel ***") && text.len() == "cel ***0000".len(), "{source}: {text}");
        }
        assert_eq!(text("request.method"), "cel GET");
    }
}
