//! What is asked of the servers: one script for each key, and what its reply means. Sends nothing.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use maitred_core::limit_table::Verdict;
use maitred_core::limits::{Ask, AskQuota};
use maitred_wire::{Reply, digits, resp_list, resp_part};
use std::fmt::Write;
use std::sync::LazyLock;
use std::time::Duration;

/// A quota's count is kept a little longer than its period, since clocks differ. Which period it is for stands in the key.
const QUOTA_KEPT_LONGER: Duration = Duration::from_secs(3600);
/// A server refuses moments that it cannot count.
const KEPT_MILLIS_MAX: u64 = 1 << 50;

pub(crate) struct Script {
    pub text: String,
    /// By which the server knows it, in hexadecimal.
    pub name: String,
}

impl Script {
    fn new(parts: &[&str]) -> Script {
        let text = parts.concat();
        let mut name = String::with_capacity(40);
        for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref() {
            // A String takes whatever it is given.
            let _ = write!(name, "{byte:02x}");
        }
        Script { text, name }
    }
}

pub(crate) struct Scripts {
    pub take: Script,
    pub give_back: Script,
    pub owe: Script,
    pub lease: Script,
    pub spend: Script,
    pub unspend: Script,
}

impl Scripts {
    pub fn all(&self) -> [&Script; 6] {
        let Scripts { take, give_back, owe, lease, spend, unspend } = self;
        [take, give_back, owe, lease, spend, unspend]
    }
}

const GCRA: &str = include_str!("lua/gcra.lua");

pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    take: Script::new(&[GCRA, include_str!("lua/take.lua")]),
    give_back: Script::new(&[GCRA, include_str!("lua/give_back.lua")]),
    owe: Script::new(&[GCRA, include_str!("lua/owe.lua")]),
    lease: Script::new(&[GCRA, include_str!("lua/lease.lua")]),
    spend: Script::new(&[include_str!("lua/spend.lua")]),
    unspend: Script::new(&[include_str!("lua/unspend.lua")]),
});

#[derive(Debug, Clone, Copy)]
pub(crate) enum Command {
    Take(Ask),
    GiveBack(Ask),
    Owe(Ask),
    /// As many of the units as there are; those of `debt` were used already.
    Lease {
        ask: Ask,
        debt: u32,
    },
    Spend(AskQuota),
    /// What a `Spend` counted that was answered too late: units and what was owed.
    Unspend(AskQuota),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Verdict(Verdict),
    Leased {
        granted: u32,
        /// Until there is room for one more.
        retry_after: Duration,
        /// Until all of a burst is there again.
        full_in: Duration,
    },
    /// Used in the period; `Err`: there was no room for the units.
    Spent(Result<u64, u64>),
    Done,
}

impl Command {
    pub fn script(&self) -> &'static Script {
        match self {
            Command::Take(_) => &SCRIPTS.take,
            Command::GiveBack(_) => &SCRIPTS.give_back,
            Command::Owe(_) => &SCRIPTS.owe,
            Command::Lease { .. } => &SCRIPTS.lease,
            Command::Spend(_) => &SCRIPTS.spend,
            Command::Unspend(_) => &SCRIPTS.unspend,
        }
    }

    /// `PREFIX:{LIMIT:KEY}`, and the period of a quota. What stands in braces decides on the slot of a cluster.
    pub fn key(&self, prefix: &str) -> String {
        let (limit, key) = match self {
            Command::Take(ask) | Command::GiveBack(ask) | Command::Owe(ask) | Command::Lease { ask, .. } => (ask.limit, ask.key),
            Command::Spend(ask) | Command::Unspend(ask) => (ask.limit, ask.key),
        };
        let mut text = String::with_capacity(prefix.len() + 56);
        let _ = write!(text, "{prefix}:{{{:016x}:{:016x}}}", limit.0, key.number());
        if let Command::Spend(ask) | Command::Unspend(ask) = self {
            let _ = write!(text, ":{}", ask.period);
        }
        text
    }

    /// Appends it. `whole`: with the script's text, for a server that does not know it.
    pub fn write(&self, out: &mut Vec<u8>, key: &str, whole: bool) {
        let script = self.script();
        let (verb, name): (&[u8], &str) = if whole { (b"EVAL", &script.text) } else { (b"EVALSHA", &script.name) };
        let (arguments, count) = self.arguments();
        resp_list(out, 4 + count);
        resp_part(out, verb);
        resp_part(out, name.as_bytes());
        resp_part(out, b"1");
        resp_part(out, key.as_bytes());
        for argument in &arguments[..count] {
            resp_part(out, digits(*argument, &mut [0; 20]));
        }
    }

    fn arguments(&self) -> ([u64; 6], usize) {
        let of = |ask: &Ask, debt: u32| {
            let [interval, burst, patience, most] = ask.pace.nanos();
            [interval, burst, patience, most, u64::from(ask.units), u64::from(debt)]
        };
        match self {
            Command::Take(ask) | Command::GiveBack(ask) | Command::Owe(ask) => (of(ask, 0), 5),
            Command::Lease { ask, debt } => (of(ask, *debt), 6),
            Command::Spend(ask) => {
                let kept = u64::try_from((ask.ends_in + QUOTA_KEPT_LONGER).as_millis()).unwrap_or(u64::MAX);
                ([u64::from(ask.units), ask.most, kept.min(KEPT_MILLIS_MAX), ask.owed, 0, 0], 4)
            }
            Command::Unspend(ask) => ([u64::from(ask.units).saturating_add(ask.owed), 0, 0, 0, 0, 0], 1),
        }
    }

    /// What a reply means; `None` where it is no answer to this.
    pub fn answer(&self, reply: &Reply) -> Option<Answer> {
        match self {
            Command::Take(ask) => {
                let [allowed, wait, owed] = numbers(reply)?;
                let [interval, burst, ..] = ask.pace.nanos();
                Some(Answer::Verdict(Verdict {
                    allowed: allowed == 1,
                    retry_nanos: wait,
                    remaining: saturated(burst.saturating_sub(owed) / interval),
                    full_nanos: owed,
                }))
            }
            Command::Lease { .. } => {
                let [granted, wait, owed] = numbers(reply)?;
                let (retry_after, full_in) = (Duration::from_nanos(wait), Duration::from_nanos(owed));
                Some(Answer::Leased { granted: saturated(granted), retry_after, full_in })
            }
            Command::Spend(_) => {
                let [allowed, used] = numbers(reply)?;
                Some(Answer::Spent(if allowed == 1 { Ok(used) } else { Err(used) }))
            }
            Command::GiveBack(_) | Command::Owe(_) | Command::Unspend(_) => reply.integer().map(|_| Answer::Done),
        }
    }
}

fn numbers<const N: usize>(reply: &Reply) -> Option<[u64; N]> {
    let list: &[Reply; N] = reply.list()?.try_into().ok()?;
    let mut numbers = [0; N];
    for (number, reply) in numbers.iter_mut().zip(list) {
        *number = u64::try_from(reply.integer()?).ok()?;
    }
    Some(numbers)
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_core::limit_table::{Pace, Table};
    use maitred_core::limits::LimitId;
    use std::time::Instant;

    fn ask() -> Ask {
        let key = Table::new(1, [1, 2], Instant::now()).key(b"who");
        Ask { limit: LimitId(0xab), key, units: 3, pace: Pace::new(10, Duration::from_secs(1), 5) }
    }

    #[test]
    fn a_key_says_limit_and_whom_and_no_more() {
        let (ask, key) = (ask(), ask().key.number());
        assert_eq!(Command::Take(ask).key("shop/eu"), format!("shop/eu:{{00000000000000ab:{key:016x}}}"));
        let quota = AskQuota {
            limit: ask.limit,
            key: ask.key,
            period: 1_790_000_000,
            ends_in: Duration::MAX / 2,
            most: 9,
            units: 1,
            owed: 0,
        };
        assert_eq!(Command::Spend(quota).key("m"), format!("m:{{00000000000000ab:{key:016x}}}:1790000000"));
        assert_eq!(Command::Spend(quota).arguments().0[2], KEPT_MILLIS_MAX, "as long as a server can count");
    }

    #[test]
    fn a_script_goes_by_its_name_or_as_a_whole() {
        let command = Command::Lease { ask: ask(), debt: 7 };
        for (whole, verb, name) in [(false, "$7\r\nEVALSHA", &SCRIPTS.lease.name), (true, "$4\r\nEVAL", &SCRIPTS.lease.text)] {
            let mut out = Vec::new();
            command.write(&mut out, "k", whole);
            let text = format!(
                "*10\r\n{verb}\r\n${}\r\n{name}\r\n$1\r\n1\r\n$1\r\nk\r\n$9\r\n100000000\r\n$9\r\n500000000\r\n$1\r\n0\r\n$9\r\n500000000\r\n$1\r\n3\r\n$1\r\n7\r\n",
                name.len()
            );
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        assert!(SCRIPTS.all().iter().all(|script| script.name.len() == 40));
    }

    #[test]
    fn a_reply_is_an_answer_to_what_was_asked_or_none() {
        let list = |numbers: &[i64]| Reply::List(numbers.iter().map(|number| Reply::Integer(*number)).collect());
        let take = Command::Take(ask());
        let Some(Answer::Verdict(verdict)) = take.answer(&list(&[0, 1_500_000_000, 250_000_000])) else { panic!("an answer") };
        let told = (verdict.allowed, verdict.retry_after().as_millis(), verdict.remaining, verdict.full_in().as_millis());
        assert_eq!(told, (false, 1500, 2, 250));
        for reply in [list(&[1, 0]), list(&[1, -1, 0]), Reply::Integer(1), Reply::Nothing, Reply::List(vec![Reply::Nothing; 3])] {
            assert_eq!(take.answer(&reply), None, "{reply:?}");
        }
    }
}
