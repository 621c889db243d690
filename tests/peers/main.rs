//! Differential tests against HTTP parsers that share no code with ours: Node's llhttp, Python's h11, and nginx. The property:
//! what we accept, they accept with the same boundaries; what any of them frames otherwise, we refuse.
//!
//! `tests/peers/setup` installs h11. Peers that are run, and not only asked how they read, stand in `live/`. Where a tool is missing the test says so and passes, but never in CI.

#[cfg(feature = "http3")]
mod http3;
mod mutate;
mod ours;
mod peer;
mod redis;

use mutate::Mutations;
use ours::{Ended, Framed, frame};
use peer::{Peer, h11, nginx, node};

/// Mutated cases in an ordinary run; `MAITRED_PEER_CASES` asks for more.
const CASES: usize = 20_000;
/// Chosen once: a failure is found again.
const SEED: u64 = 0x005e_ed0f_7ab1_e500;

const AFTER: &[u8] = b"GET /after HTTP/1.1\r\nHost: after\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    Refuse,
    Wait,
    Last,
}

struct Case {
    verdict: Verdict,
    line: usize,
    bytes: Vec<u8>,
}

fn corpus() -> Vec<Case> {
    let lines = include_str!("corpus.txt").lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| {
            let (verdict, text) = line.split_once(' ').expect("a verdict and a case");
            let verdict = match verdict {
                "accept" => Verdict::Accept,
                "refuse" => Verdict::Refuse,
                "wait" => Verdict::Wait,
                "last" => Verdict::Last,
                _ => panic!("line {}: no verdict {verdict}", at + 1),
            };
            let mut bytes = unescape(text);
            bytes.extend_from_slice(AFTER);
            Case { verdict, line: at + 1, bytes }
        })
        .collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'|' => out.extend_from_slice(b"\r\n"),
            b'\\' => match bytes.next().expect("an escape") {
                b'r' => out.push(b'\r'),
                b'n' => out.push(b'\n'),
                b't' => out.push(b'\t'),
                b'0' => out.push(0),
                b's' => out.push(b' '),
                b'\\' => out.push(b'\\'),
                b'x' => {
                    let digits = [bytes.next().expect("two digits"), bytes.next().expect("two digits")];
                    out.push(
                        u8::from_str_radix(std::str::from_utf8(&digits).expect("ASCII"), 16).expect("two hexadecimal digits"),
                    );
                }
                other => panic!("no escape \\{}", other as char),
            },
            byte => out.push(byte),
        }
    }
    out
}

fn mutated() -> Vec<Vec<u8>> {
    let count = std::env::var("MAITRED_PEER_CASES").map_or(CASES, |text| text.parse().expect("MAITRED_PEER_CASES is a number"));
    let (right, wrong): (Vec<Case>, Vec<Case>) = corpus().into_iter().partition(|case| case.verdict != Verdict::Refuse);
    let bytes = |cases: Vec<Case>| cases.into_iter().map(|case| case.bytes).collect();
    Mutations::new(SEED, bytes(right), bytes(wrong)).take(count).collect()
}

/// Every case of the corpus and its mutations, through us and the peer.
fn compare(peer: Option<Peer>) {
    let Some(peer) = peer else { return };
    let cases: Vec<Vec<u8>> = corpus().into_iter().map(|case| case.bytes).chain(mutated()).collect();
    let theirs = (peer.run)(&cases);
    assert_eq!(theirs.len(), cases.len(), "{} answered every case", peer.name);
    let mut complaints = Vec::new();
    let mut compared = 0;
    for (case, theirs) in cases.iter().zip(&theirs) {
        let ours = frame(case);
        compared += ours.messages.len();
        if let Some(why) = peer.disagreement(&ours, theirs) {
            complaints.push(format!("{why}\n  case   {}\n  ours   {ours:?}\n  theirs {theirs:?}", case.escape_ascii()));
        }
    }
    let shown = complaints.iter().take(12).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(complaints.is_empty(), "{} disagrees in {} of {} cases:\n\n{shown}", peer.name, complaints.len(), cases.len());
    assert!(
        compared > cases.len() / 8,
        "only {compared} messages of {} cases were accepted: the mutations are too wild",
        cases.len()
    );
    println!("{}: {} cases, {compared} messages framed alike", peer.name, cases.len());
}

#[test]
fn node_frames_alike_whatever_we_accept() {
    compare(node());
}

#[test]
fn h11_frames_alike_whatever_we_accept() {
    compare(h11());
}

#[test]
fn nginx_frames_alike_whatever_we_accept() {
    compare(nginx());
}

#[test]
fn the_corpus_is_judged_as_it_says() {
    let cases = corpus();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut complaints = Vec::new();
    for case in &cases {
        let framed = frame(&case.bytes);
        let verdict = match (framed.messages.len(), &framed.end) {
            (2, Ended::Over) => Some(Verdict::Accept),
            (1, Ended::Closed) => Some(Verdict::Last),
            (0, Ended::Refused(_)) => Some(Verdict::Refuse),
            (0, Ended::Partial { .. }) => Some(Verdict::Wait),
            _ => None,
        };
        if verdict != Some(case.verdict) {
            complaints.push(format!("line {}: {:?}, but {framed:?}", case.line, case.verdict));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// A request that arrives in pieces is the same request: no split of the bytes changes what is understood.
#[test]
fn the_corpus_is_judged_alike_however_it_is_cut() {
    for case in corpus() {
        let whole = frame(&case.bytes);
        for at in 1..case.bytes.len() {
            let part = frame(&case.bytes[..at]);
            match &part.end {
                // What is refused early must be refused whole; what was accepted must stay so.
                Ended::Refused(_) => {
                    assert!(matches!(whole.end, Ended::Refused(_)), "line {} cut at {at}: {part:?}, but {whole:?}", case.line)
                }
                Ended::Partial { .. } | Ended::Over | Ended::Closed => {}
            }
            assert_eq!(
                whole.messages[..part.messages.len().min(whole.messages.len())],
                part.messages[..],
                "line {} cut at {at}",
                case.line
            );
        }
    }
}

impl Peer {
    /// Where the peer sees other messages than we do.
    fn disagreement(&self, ours: &Framed, theirs: &Framed) -> Option<String> {
        for (index, message) in ours.messages.iter().enumerate() {
            let Some(other) = theirs.messages.get(index) else {
                return (!(self.excused)(&ours.messages[..=index], theirs))
                    .then(|| format!("message {index} is not accepted by {}", self.name));
            };
            if !(self.same)(message, other) {
                return Some(format!("message {index} is another for {}", self.name));
            }
            if message.upgrade {
                // What follows depends on the answer, which the peers' servers give in their own ways.
                return None;
            }
        }
        let known = match ours.end {
            Ended::Partial { body } => ours.messages.len() + usize::from(body && self.hasty),
            Ended::Over => ours.messages.len(),
            Ended::Refused(_) | Ended::Closed => return None,
        };
        (theirs.messages.len() > known).then(|| format!("{} sees a whole message where we wait for more", self.name))
    }
}
