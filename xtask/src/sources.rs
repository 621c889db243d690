//! Rules about Rust files, found by reading them: comments, strings and test modules aside, what is left is searched for words. A
//! line that must break a rule says so: `// tidy-allow: <rule>, because …` in it or in the line above.

use crate::tidy::{Findings, Tree};
use anyhow::Result;
use regex::Regex;

/// Above this a file is two files.
const LINES_MAX: usize = 600;

struct Rule {
    name: &'static str,
    /// Folders; a file is excepted when its path ends with one of `except`.
    within: &'static [&'static str],
    except: &'static [&'static str],
    /// Whether tests must keep it too.
    tests: bool,
    pattern: &'static str,
    what: &'static str,
    remedy: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        name: "unfinished",
        within: &[""],
        except: &[],
        tests: true,
        pattern: r"\b(todo|unimplemented|dbg)!",
        what: "unfinished code",
        remedy: "finish it, or open an issue and leave it out",
    },
    Rule {
        name: "ignored-test",
        within: &[""],
        except: &[],
        tests: true,
        pattern: r"#\[ignore",
        what: "an ignored test",
        remedy: "run it always; a long one runs shortened unless MAITRED_LONG is set",
    },
    Rule {
        name: "lock",
        within: &["wire/", "policies/", "integrations/", "transport/"],
        // QUIC's sockets have to be `Sync`, and one worker alone uses each.
        except: &["transport/src/server/http3/sockets.rs"],
        tests: false,
        pattern: r"\b(Mutex|RwLock)\b",
        what: "a lock on the request path",
        remedy: "one request stays on one core: use Cell, RefCell, atomics, or the worker's mailbox",
    },
    Rule {
        name: "policy-dials",
        within: &["policies/"],
        except: &[],
        tests: false,
        pattern: r"\b(TcpStream|TcpListener|UdpSocket|UnixStream|tokio::net|maitred_transport)\b",
        what: "a policy that opens sockets",
        remedy: "a policy never dials: wait on a port that core declares",
    },
    Rule {
        name: "pure",
        within: &["wire/", "model/"],
        except: &[],
        tests: false,
        pattern: r"\b(tokio|TcpStream|TcpListener|UdpSocket|std::thread)\b",
        what: "floor 0 is pure",
        remedy: "no sockets, threads or runtime here: move it to transport or above",
    },
    Rule {
        name: "sockets",
        within: &["core/", "integrations/"],
        except: &[],
        tests: false,
        pattern: r"\b(tokio::net|TcpStream|TcpListener|UdpSocket|UnixStream)\b",
        what: "a socket outside transport",
        remedy: "only transport knows sockets, so that another driver can stand beside it",
    },
    Rule {
        name: "unbounded",
        within: &[""],
        except: &[],
        tests: false,
        // Only the unbounded one of `std` takes no argument.
        pattern: r"\bmpsc::channel(::<[^()]*>)?\(\)|\bunbounded_channel\b|\bUnbounded(Sender|Receiver)\b",
        what: "a channel without a limit",
        remedy: "give it one, and say what happens when it is full: a slow reader must not grow memory",
    },
    Rule {
        name: "clock",
        within: &["wire/", "model/", "core/", "transport/", "policies/", "integrations/"],
        except: &["core/src/clock.rs"],
        tests: false,
        // Not `tokio::time::Instant`, which is for handing to tokio's own timer.
        pattern: r"(^|[^:\w]|std::time::)(Instant|SystemTime)::now\b",
        what: "the time read outside core::clock",
        remedy: "take `now` as an argument, or ask the worker's clock: a test must be able to turn it",
    },
];

pub fn check(tree: &Tree<'_>, findings: &mut Findings) -> Result<()> {
    let rules = RULES.iter().map(|rule| Ok((rule, Regex::new(rule.pattern)?))).collect::<Result<Vec<_>>>()?;
    for file in tree.with_extension("rs") {
        let Some(text) = tree.text(file) else {
            findings.error(file, "not UTF-8 text", "save it as UTF-8");
            continue;
        };
        let test_file = is_test(file);
        if !test_file && !text.starts_with("//!") {
            findings.error(
                format!("{file}:1"),
                "no word about what it is for",
                "open it with `//!`: its job, and what it refuses to know",
            );
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            findings.warning(file, &format!("{lines} lines"), "split it where a reader would pause");
        }
        let code = code_only(&text);
        let tests = if test_file { 0..code.len() } else { test_module(&code) };
        for (rule, pattern) in &rules {
            let applies = rule.within.iter().any(|folder| file.starts_with(folder)) && !rule.except.contains(&file);
            if !applies {
                continue;
            }
            for found in pattern.find_iter(&code).filter(|found| rule.tests || !tests.contains(&found.start())) {
                let line = 1 + code[..found.end()].matches('\n').count();
                if !is_allowed(&text, line, rule.name) {
                    findings.error(format!("{file}:{line}"), &format!("{}: `{}`", rule.what, found.as_str().trim()), rule.remedy);
                }
            }
        }
    }
    policies_are_described(tree, findings);
    Ok(())
}

fn is_test(file: &str) -> bool {
    let folders = ["testkit/", "tests/"];
    let names = ["tests.rs", "testing.rs"];
    folders.iter().any(|folder| file.starts_with(folder))
        || file.contains("/tests/")
        || names.iter().any(|name| file.ends_with(&format!("/{name}")))
}

fn is_allowed(text: &str, line: usize, rule: &str) -> bool {
    let marker = format!("tidy-allow: {rule}, because ");
    text.lines().skip(line.saturating_sub(2)).take(line.min(2)).any(|line| line.contains(&marker))
}

/// Each policy is a folder with its page for users.
fn policies_are_described(tree: &Tree<'_>, findings: &mut Findings) {
    for file in tree.files.iter().filter(|file| file.starts_with("policies/src/") && file.ends_with("/mod.rs")) {
        let page = file.replace("mod.rs", "README.md");
        if !tree.files.contains(&page) {
            findings.error(
                file,
                "a policy without a page",
                &format!("write {page}: what it promises, what it does not, an example"),
            );
        }
    }
}

/// The same text with comments and the insides of strings blanked, so that places stay what they are.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => line_end(bytes, at),
            [b'/', b'*', ..] => comment_end(bytes, at),
            [b'r', b'"' | b'#', ..] if at == 0 || !is_word(bytes[at - 1]) || bytes[at - 1] == b'b' => match raw_end(bytes, at) {
                Some(end) => end,
                None => at,
            },
            [b'"', ..] => quote_end(bytes, at, b'"'),
            [b'\'', b'\\', ..] => quote_end(bytes, at, b'\''),
            // A lifetime has no second quote.
            [b'\'', _, b'\'', ..] => at + 3,
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    // Blanks took the place of whole characters' bytes, and what is left was text.
    String::from_utf8_lossy(&code).into_owned()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| at + length)
}

/// Comments nest.
fn comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0usize;
    let mut here = at;
    while here < bytes.len() {
        match &bytes[here..] {
            [b'/', b'*', ..] => (depth, here) = (depth + 1, here + 2),
            [b'*', b'/', ..] => (depth, here) = (depth - 1, here + 2),
            _ => here += 1,
        }
        if depth == 0 {
            return here;
        }
    }
    bytes.len()
}

fn quote_end(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut here = at + 1;
    while here < bytes.len() && bytes[here] != quote {
        here += if bytes[here] == b'\\' { 2 } else { 1 };
    }
    (here + 1).min(bytes.len())
}

/// `None` for `r#type`, a name.
fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let start = at + 1 + hashes;
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let length = bytes[start + 1..].windows(end.len()).position(|window| window == end);
    Some(length.map_or(bytes.len(), |length| start + 1 + length + end.len()))
}

/// Where the test module written into a file is: nowhere is an empty range.
fn test_module(code: &str) -> std::ops::Range<usize> {
    let Some(start) = code.find("#[cfg(test)]\nmod ") else { return 0..0 };
    let mut depth = 0usize;
    for (offset, character) in code[start..].char_indices() {
        match character {
            // `mod tests;` is a file of its own.
            ';' if depth == 0 => return 0..0,
            '{' => depth += 1,
            '}' if depth == 1 => return start..start + offset,
            '}' => depth -= 1,
            _ => {}
        }
    }
    start..code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_places_stay() {
        for (text, wanted) in [
            ("a // Mutex\nb", "a b"),
            ("a /* x /* Mutex */ */ b", "a b"),
            (r#"f("Mutex\"", x)"#, "f( , x)"),
            (r##"f(r#"Mu"tex"#, x)"##, "f( , x)"),
            ("r#type + 1", "r#type + 1"),
            ("<'a> '\\'' 'b' &'a str", "<'a> &'a str"),
            ("\"é\" x", "x"),
        ] {
            let code = code_only(text);
            assert_eq!(code.len(), text.len(), "{text}");
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), wanted, "{text}");
        }
    }

    #[test]
    fn a_test_module_is_found_and_nothing_behind_it() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c }\n}\nfn d() {}";
        let range = test_module(code);
        assert!(range.contains(&code.find('c').unwrap_or(0)) && !range.contains(&code.find("fn d").unwrap_or(0)));
        assert_eq!(test_module("#[cfg(test)]\nmod tests;\nfn a() {}"), 0..0);
    }

    #[test]
    fn a_rule_is_broken_only_with_a_reason() {
        let text = "a\n// tidy-allow: lock, because it is taken once an hour\nb\nc";
        assert!(is_allowed(text, 3, "lock") && is_allowed(text, 2, "lock"));
        assert!(!is_allowed(text, 4, "lock") && !is_allowed(text, 3, "clock") && !is_allowed(text, 1, "lock"));
    }
}
