//! How answers say what is left: in the fields of draft-ietf-httpapi-ratelimit-headers-09, and in those from before it. And the one field that
//! is read: what a back end says that a request has cost.

use super::Limit;
use maitred_core::limit_table::Verdict;
use maitred_core::limits::QuotaLeft;
use maitred_core::wire::{Headers, decimal, digits};
use maitred_model::LimitHeaders;
use std::time::Duration;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ways {
    pub draft: bool,
    pub split: bool,
    pub x: bool,
}

impl Ways {
    pub fn of(configured: &[LimitHeaders]) -> Ways {
        let has = |way| configured.contains(&way);
        Ways { draft: has(LimitHeaders::Draft), split: has(LimitHeaders::Split), x: has(LimitHeaders::X) }
    }
}

const POLICY: &str = "ratelimit-policy";
const LIMIT: &str = "ratelimit";

/// `ratelimit-policy: "api";q=200;w=2, "route";q=20;w=2`, as HTTP/1.1 writes it. Empty: there is nothing to tell.
pub(super) struct Policies(Box<[u8]>);

impl Policies {
    pub fn of(limits: &[Limit]) -> Policies {
        let item = |limit: &Limit| format!("\"{}\";q={};w={}", limit.name, limit.burst, seconds(limit.pace.window()).max(1));
        let items: Vec<String> = limits.iter().map(item).collect();
        let line = if items.is_empty() { String::new() } else { format!("{POLICY}: {}\r\n", items.join(", ")) };
        Policies(line.into_bytes().into())
    }

    #[inline]
    pub fn tell(&self, headers: &mut Headers) {
        if !self.0.is_empty() {
            headers.add_line(&self.0, POLICY.len());
        }
    }
}

/// `ratelimit: "api";r=`: what the line of a limit begins with.
pub(super) fn beginning(name: &str) -> Box<[u8]> {
    format!("{LIMIT}: \"{name}\";r=").into_bytes().into()
}

/// Rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What is left, of one limit or of a quota.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left<'a> {
    /// Of the line.
    beginning: &'a [u8],
    most: u64,
    remaining: u64,
    reset_nanos: u64,
}

impl<'a> Left<'a> {
    #[inline]
    pub fn of(limit: &'a Limit, verdict: &Verdict) -> Left<'a> {
        let (most, remaining) = (u64::from(limit.burst), u64::from(verdict.remaining));
        Left { beginning: &limit.beginning, most, remaining, reset_nanos: verdict.full_nanos }
    }

    pub fn of_quota(quota: &QuotaLeft) -> Left<'static> {
        let reset_nanos = u64::try_from(quota.ends_in.as_nanos()).unwrap_or(u64::MAX);
        Left { beginning: b"ratelimit: \"quota\";r=", most: quota.most, remaining: quota.left, reset_nanos }
    }

    /// Rounded up: who comes too early is refused.
    fn reset(&self) -> u64 {
        self.reset_nanos.div_ceil(1_000_000_000)
    }

    /// Whether the share that is left is smaller; of two that have as much, whether it takes longer until all is there.
    #[inline]
    pub fn is_tighter(&self, other: &Left<'_>) -> bool {
        let share = u128::from(self.remaining) * u128::from(other.most);
        let others = u128::from(other.remaining) * u128::from(self.most);
        share < others || share == others && self.reset_nanos > other.reset_nanos
    }
}

/// `"quota";q=1000000;w=2592000`
pub(super) fn tell_quota(quota: &QuotaLeft, headers: &mut Headers) {
    headers.write_line(POLICY.len(), |out| {
        out.extend_from_slice(b"ratelimit-policy: \"quota\";q=");
        decimal(out, quota.most);
        out.extend_from_slice(b";w=");
        decimal(out, seconds(quota.window));
        out.extend_from_slice(b"\r\n");
    });
}

/// Of the tightest.
#[inline]
pub(super) fn tell(ways: Ways, left: &Left<'_>, headers: &mut Headers) {
    if ways.draft {
        headers.write_line(LIMIT.len(), |out| {
            out.extend_from_slice(left.beginning);
            decimal(out, left.remaining);
            out.extend_from_slice(b";t=");
            decimal(out, left.reset());
            out.extend_from_slice(b"\r\n");
        });
    }
    if ways.split || ways.x {
        tell_in_numbers(ways, left, headers);
    }
}

/// A number cannot stand there twice: the gateway's counts.
#[inline(never)]
fn tell_in_numbers(ways: Ways, left: &Left<'_>, headers: &mut Headers) {
    let numbers = [left.most, left.remaining, left.reset()];
    let split = [&b"ratelimit-limit"[..], b"ratelimit-remaining", b"ratelimit-reset"];
    let x = [&b"x-ratelimit-limit"[..], b"x-ratelimit-remaining", b"x-ratelimit-reset"];
    for names in [ways.split.then_some(split), ways.x.then_some(x)].into_iter().flatten() {
        for (name, number) in names.into_iter().zip(numbers) {
            headers.set(name, digits(number, &mut [0; 20]));
        }
    }
}

/// What a back end says that a request has cost: digits and nothing else. A number beyond all limits is the largest.
pub fn read_cost(value: &[u8]) -> Option<u32> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u32, |number, digit| number.saturating_mul(10).saturating_add(u32::from(digit - b'0'))))
}
