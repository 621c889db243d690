//! How answers say what is left: in the fields of draft-ietf-httpapi-ratelimit-headers-09, and in those from before it. And the one field that
//! is read: what a back end says that a request has cost. Written by integers into a buffer on the stack.

use super::Limit;
use maitred_core::limit_table::Verdict;
use maitred_core::limits::QuotaLeft;
use maitred_core::wire::{Headers, digits};
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

/// The value of RateLimit-Policy.
pub(super) struct Policies(pub Box<[u8]>);

/// `"api";q=200;w=2, "route";q=20;w=2`
pub(super) fn policies(limits: &[Limit]) -> Box<[u8]> {
    let items: Vec<String> = limits
        .iter()
        .map(|limit| format!("\"{}\";q={};w={}", limit.name, limit.burst, seconds(limit.pace.window()).max(1)))
        .collect();
    items.join(", ").into_bytes().into()
}

/// Rounded up: who comes too early is refused.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What is left, of one limit or of a quota.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left<'a> {
    /// `"api";r=`
    item: &'a [u8],
    most: u64,
    remaining: u64,
    reset: Duration,
}

impl<'a> Left<'a> {
    pub fn of(limit: &'a Limit, verdict: &Verdict) -> Left<'a> {
        let (most, remaining) = (u64::from(limit.burst), u64::from(verdict.remaining));
        Left { item: &limit.item, most, remaining, reset: verdict.full_in }
    }

    pub fn of_quota(quota: &QuotaLeft) -> Left<'static> {
        Left { item: b"\"quota\";r=", most: quota.most, remaining: quota.left, reset: quota.ends_in }
    }

    /// Whether the share that is left is smaller; of two that have as much, whether it takes longer until all is there.
    pub fn is_tighter(&self, other: &Left<'_>) -> bool {
        let share = u128::from(self.remaining) * u128::from(other.most);
        let others = u128::from(other.remaining) * u128::from(self.most);
        share < others || share == others && self.reset > other.reset
    }
}

/// `"quota";q=1000000;w=2592000`
pub(super) fn tell_quota(quota: &QuotaLeft, headers: &mut Headers) {
    let mut digits_of = [[0; 20]; 2];
    let [most, window] = &mut digits_of;
    let mut line = Line::default();
    line.push(b"\"quota\";q=");
    line.push(digits(quota.most, most));
    line.push(b";w=");
    line.push(digits(seconds(quota.window), window));
    headers.add(b"ratelimit-policy", line.as_bytes());
}

/// Of the tightest.
pub(super) fn tell(ways: Ways, left: &Left<'_>, headers: &mut Headers) {
    let mut digits_of = [[0; 20]; 3];
    let [remaining, reset, most] = &mut digits_of;
    let (remaining, reset) = (digits(left.remaining, remaining), digits(seconds(left.reset), reset));
    if ways.draft {
        let mut line = Line::default();
        line.push(left.item);
        line.push(remaining);
        line.push(b";t=");
        line.push(reset);
        headers.add(b"ratelimit", line.as_bytes());
    }
    if !ways.split && !ways.x {
        return;
    }
    let most = digits(left.most, most);
    // A number cannot stand there twice: the gateway's counts.
    if ways.split {
        headers.set(b"ratelimit-limit", most);
        headers.set(b"ratelimit-remaining", remaining);
        headers.set(b"ratelimit-reset", reset);
    }
    if ways.x {
        headers.set(b"x-ratelimit-limit", most);
        headers.set(b"x-ratelimit-remaining", remaining);
        headers.set(b"x-ratelimit-reset", reset);
    }
}

/// `"route-8";r=1000000;t=18446744073709551615` has room in it.
const LINE_BYTES_MAX: usize = 96;

struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    len: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line { bytes: [0; LINE_BYTES_MAX], len: 0 }
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
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
