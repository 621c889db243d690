//! By which tracers follow a request through AWS: `X-Amzn-Trace-Id`, taken over from who asks, or from W3C's traceparent, or begun here. Pure.

use maitred_core::{Chance, Exchange};
use maitred_transport::Worker;
use maitred_wire::Name;
use std::fmt::Write;
use std::time::Duration;

/// `Root=1-8hex-24hex;Parent=16hex;Sampled=0`.
const TEXT_BYTES: usize = 74;

/// Both texts of one trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// As a header has it: what the client has said, or the root alone.
    pub header: String,
    /// As a function's process is told it: root, parent, and whether it is sampled.
    pub whole: String,
}

/// What a client may say of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Given<'a> {
    /// Eight and 24 hexadecimal digits.
    root: Option<(&'a str, &'a str)>,
    parent: Option<&'a str>,
    sampled: Option<bool>,
}

impl Trace {
    /// That of a request: the one that it brings, or a new one.
    pub fn of_request(exchange: &Exchange, worker: &Worker) -> Trace {
        let headers = &exchange.request.headers;
        let now = worker.unix_time(exchange.record.started);
        Trace::of(headers.get(b"x-amzn-trace-id"), headers.known(Name::Traceparent), now, &worker.chance)
    }

    /// That of what comes without headers: a new one.
    pub fn begin(worker: &Worker) -> Trace {
        Trace::of(None, None, worker.unix_time(worker.now()), &worker.chance)
    }

    /// `amzn` and `traceparent`: the client's headers. What is not well-formed is not taken over.
    pub fn of(amzn: Option<&[u8]>, traceparent: Option<&[u8]>, since_1970: Duration, chance: &Chance) -> Trace {
        let (amzn, traceparent) = (amzn.and_then(text), traceparent.and_then(text));
        let given = amzn.and_then(read_amzn).or_else(|| traceparent.and_then(read_traceparent));
        let given = given.unwrap_or_default();
        let mut header = String::with_capacity(TEXT_BYTES);
        match given.root {
            Some((time, random)) => _ = write!(header, "Root=1-{time}-{random}"),
            None => {
                let seconds = since_1970.as_secs() as u32;
                _ = write!(header, "Root=1-{seconds:08x}-{:016x}{:08x}", chance.next(), chance.next() as u32);
            }
        }
        let mut whole = String::with_capacity(TEXT_BYTES);
        whole.push_str(&header);
        match given.parent {
            Some(parent) => {
                _ = write!(header, ";Parent={parent}");
                _ = write!(whole, ";Parent={parent}");
            }
            None => _ = write!(whole, ";Parent={:016x}", chance.next()),
        }
        if let Some(sampled) = given.sampled {
            _ = write!(header, ";Sampled={}", u8::from(sampled));
        }
        _ = write!(whole, ";Sampled={}", u8::from(given.sampled == Some(true)));
        Trace { header, whole }
    }
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// `Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1`, in any order; other members are let go.
fn read_amzn(text: &str) -> Option<Given<'_>> {
    let mut given = Given::default();
    for part in text.split(';') {
        let Some((name, value)) = part.trim().split_once('=') else { continue };
        match name {
            "Root" => {
                let (time, random) = value.strip_prefix("1-")?.split_once('-')?;
                given.root = Some((time, random)).filter(|_| is_hex(time, 8) && is_hex(random, 24));
            }
            "Parent" => given.parent = Some(value).filter(|parent| is_hex(parent, 16)),
            "Sampled" => given.sampled = matches!(value, "0" | "1").then_some(value == "1"),
            _ => {}
        }
    }
    given.root.map(|_| given)
}

/// `00-trace-parent-flags` (W3C Trace Context §3.2): the trace is the root, cut as AWS cuts it.
fn read_traceparent(text: &str) -> Option<Given<'_>> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_some = |text: &str| text.bytes().any(|byte| byte != b'0');
    if version == "ff" || !is_hex(version, 2) || !is_hex(trace, 32) || !is_hex(parent, 16) || !is_hex(flags, 2) {
        return None;
    }
    let (time, random) = trace.split_at(8);
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    (is_some(trace) && is_some(parent)).then_some(Given {
        root: Some((time, random)),
        parent: Some(parent),
        sampled: Some(sampled),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMZN: &str = "Root=1-67891233-abcdef012345678912345678";

    fn trace(amzn: Option<&str>, traceparent: Option<&str>) -> Trace {
        let chance = Chance::seeded(7);
        Trace::of(amzn.map(str::as_bytes), traceparent.map(str::as_bytes), Duration::from_secs(0x6789_1233), &chance)
    }

    #[test]
    fn what_a_client_says_is_taken_over() {
        let told = trace(Some(&format!("Self=1-x;{AMZN};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=a")), None);
        assert_eq!(told.header, format!("{AMZN};Parent=53995c3f42cd8ad8;Sampled=1"));
        assert_eq!(told.whole, told.header);
        let told = trace(Some(AMZN), Some("00-11111111222222222222222222222222-3333333333333333-01"));
        assert_eq!(told.header, AMZN, "AWS's own goes first");
        assert!(told.whole.starts_with(&format!("{AMZN};Parent=")) && told.whole.ends_with(";Sampled=0"), "{}", told.whole);
    }

    #[test]
    fn traceparent_is_the_same_trace_in_other_words() {
        let told = trace(None, Some("00-11111111222222222222222222222222-3333333333333333-01"));
        assert_eq!(told.whole, "Root=1-11111111-222222222222222222222222;Parent=3333333333333333;Sampled=1");
    }

    #[test]
    fn a_trace_begins_here_with_the_time_where_none_was_brought() {
        for (amzn, traceparent) in [
            (None, None),
            (Some("Root=1-67891233"), None),
            (Some("Root=1-6789123-abcdef012345678912345678"), None),
            (Some("Root=2-67891233-abcdef012345678912345678"), None),
            (Some("Root=1-67891233-abcdef01234567891234567\""), Some("00-0-0-0")),
            (Some("Parent=53995c3f42cd8ad8"), Some("ff-11111111222222222222222222222222-3333333333333333-01")),
            (None, Some("00-00000000000000000000000000000000-3333333333333333-01")),
        ] {
            let told = trace(amzn, traceparent);
            let random = told.header.strip_prefix("Root=1-67891233-").expect("the second it began");
            assert!(is_hex(random, 24), "{amzn:?}: {}", told.header);
            let rest = told.whole.strip_prefix(&told.header).and_then(|rest| rest.strip_prefix(";Parent=")).expect("a parent");
            assert!(is_hex(rest.strip_suffix(";Sampled=0").expect("not sampled"), 16), "{}", told.whole);
        }
    }
}
