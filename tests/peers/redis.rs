//! Counts that gateways share, with a real redis-server: that its script judges as our own table does, that a fleet lets through what is
//! written and no more, and that nobody waits for a server that is slow, gone, replaced or emptied.

mod failing;
mod gateways;
mod member;
mod server;
mod several;
mod together;

use maitred_core::limit_table::{Pace, Table, Verdict};
use maitred_core::{Chance, limits::Ask};
use maitred_wire::Reply;
use member::ask;
use server::{Server, Teller, is_there};
use std::time::{Duration, Instant};

const GCRA: &str = include_str!("../../transport/src/counters/lua/gcra.lua");
const TAKE: &str = include_str!("../../transport/src/counters/lua/take.lua");
const GIVE_BACK: &str = include_str!("../../transport/src/counters/lua/give_back.lua");
const OWE: &str = include_str!("../../transport/src/counters/lua/owe.lua");

/// The script as it is, but that it is told the time.
fn at(script: &str) -> String {
    let told = GCRA.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}");
    assert_ne!(told, GCRA, "it asks for the time");
    told + script
}

fn run(teller: &mut Teller, script: &str, ask: &Ask, micros: u64) -> Reply {
    let (seconds, rest) = (1_790_000_000 + micros / 1_000_000, micros % 1_000_000);
    let mut arguments: Vec<String> = ask.pace.nanos().iter().map(u64::to_string).collect();
    arguments.extend([ask.units.to_string(), seconds.to_string(), rest.to_string()]);
    let mut parts: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), b"1", b"key"];
    parts.extend(arguments.iter().map(String::as_bytes));
    match teller.say(&parts) {
        Reply::Error(words) => panic!("{words}"),
        reply => reply,
    }
}

fn verdict(reply: &Reply, ask: &Ask) -> Verdict {
    let numbers: Vec<u64> = reply.list().expect("a list").iter().map(|one| one.integer().expect("a number") as u64).collect();
    let [interval, burst, ..] = ask.pace.nanos();
    Verdict {
        allowed: numbers[0] == 1,
        retry_nanos: numbers[1],
        remaining: (burst.saturating_sub(numbers[2]) / interval) as u32,
        full_nanos: numbers[2],
    }
}

/// Whatever is taken, given back and owed, and whenever: script and table say the same, to the nanosecond.
#[test]
fn the_script_judges_as_our_own_table_does() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    let mut teller = Teller::connect(server.port);
    let chance = Chance::seeded(0x1e57);
    // Real time does not pass as the told one does.
    let kept = |script: &str| at(script).replace("math.floor(owed / 1e6) + 1", "1000000");
    let (take, give_back, owe) = (kept(TAKE), kept(GIVE_BACK), kept(OWE));
    for round in 0..60 {
        teller.say(&[b"FLUSHALL"]);
        let per = [Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(3600)][chance.below(3)];
        let mut pace = Pace::new(1 + chance.below(5000) as u32, per, 1 + chance.below(200) as u32);
        if chance.below(2) == 0 {
            pace = pace.patient(Duration::from_millis(chance.below(2000) as u64));
        }
        if chance.below(2) == 0 {
            pace = pace.owing(10);
        }
        let start = Instant::now();
        let table = Table::new(10, [1, 2], start);
        let [interval, ..] = pace.nanos();
        let mut micros = 0;
        for step in 0..60 {
            micros += chance.below(1 + (interval / 300) as usize) as u64;
            let now = start + Duration::from_micros(micros);
            let ask = Ask { units: chance.below(6) as u32 + 1, ..ask(1, pace) };
            match chance.below(8) {
                0 => {
                    run(&mut teller, &give_back, &ask, micros);
                    table.give_back(ask.key, ask.units, &pace, now);
                }
                1 => {
                    run(&mut teller, &owe, &ask, micros);
                    table.owe(ask.key, ask.units, &pace, now);
                }
                _ => {
                    let theirs = verdict(&run(&mut teller, &take, &ask, micros), &ask);
                    let ours = table.take(ask.key, ask.units, &pace, now);
                    assert_eq!(theirs, ours, "round {round}, step {step}, {pace:?}");
                }
            }
        }
    }
}

/// A key is there for as long as something is owed, and not much longer.
#[test]
fn keys_are_forgotten_when_all_is_paid() {
    if !is_there() {
        return;
    }
    let server = Server::start(&[]);
    let mut teller = Teller::connect(server.port);
    let one = ask(1, Pace::new(10, Duration::from_secs(1), 5));
    run(&mut teller, &at(TAKE), &one, 0);
    let left = teller.say(&[b"PTTL", b"key"]).integer().expect("a number");
    assert!((50..=102).contains(&left), "{left} ms");
    run(&mut teller, &at(GIVE_BACK), &one, 0);
    assert_eq!(teller.say(&[b"EXISTS", b"key"]), Reply::Integer(0));
}
