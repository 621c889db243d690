//! The crates that are really built: bans, least versions, copies and licences. Judged by `cargo tree` with all features
//! of ours, because Cargo.lock also names crates that a feature of others, which nobody turned on, would bring. deny.toml says the same for cargo-deny.

use crate::tidy::{Findings, output};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Name and reason.
const BANNED: &[(&str, &str)] = &[
    ("ring", "TLS is rustls with aws-lc-rs: turn default features off and aws-lc-rs on where it comes from"),
    ("openssl", "TLS is rustls with aws-lc-rs"),
    ("openssl-sys", "TLS is rustls with aws-lc-rs"),
    ("native-tls", "TLS is rustls with aws-lc-rs"),
    ("rsa", "it leaks keys by timing (RUSTSEC-2023-0071); aws-lc-rs verifies RSA"),
    ("serde_yaml", "it is deprecated; the model reads YAML with granit-parser"),
    ("serde_yml", "it is unsound (RUSTSEC-2025-0068); the model reads YAML with granit-parser"),
    ("rustls-pemfile", "it is archived; rustls-pki-types reads PEM"),
];

/// Older ones have holes.
const LEAST: &[(&str, [u64; 3])] =
    &[("h2", [0, 4, 20]), ("rustls", [0, 23, 45]), ("hickory-resolver", [0, 26, 1]), ("quick-xml", [0, 41, 0])];

/// Two of these would be two stacks, one of which nobody configures.
const ONCE: &[&str] = &["hyper", "rustls", "h2", "tokio", "http"];

/// Where the gateway runs. Elsewhere other crates would be built: of QUIC in a browser, ring.
const SYSTEMS: &[&str] =
    &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-musl", "aarch64-apple-darwin", "x86_64-unknown-freebsd"];

const LICENCES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
    "OpenSSL",
];

pub fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // Bans are about what ships, and where; licences, about all that is built, tests included.
    let shipped = SYSTEMS.iter().map(|system| tree(root, "normal,build", system)).collect::<Result<String>>()?;
    for line in shipped.lines() {
        let (package, _) = line.split_once('|').unwrap_or((line, ""));
        let mut words = package.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name.to_owned()).or_default().insert(version.trim_start_matches('v').to_owned());
        }
    }
    for (name, reason) in BANNED {
        if versions.contains_key(*name) {
            findings.error(
                "Cargo.toml",
                &format!("{name} is built, and banned"),
                &format!("{reason}; `cargo tree -i {name}` says who brings it"),
            );
        }
    }
    for (name, least) in LEAST {
        for version in versions.get(*name).into_iter().flatten().filter(|version| number(version) < *least) {
            let [major, minor, patch] = least;
            findings.error(
                "Cargo.lock",
                &format!("{name} {version} is built"),
                &format!("cargo update -p {name}, to {major}.{minor}.{patch} at least"),
            );
        }
    }
    for name in ONCE {
        let copies: Vec<&str> = versions.get(*name).into_iter().flatten().map(String::as_str).collect();
        if copies.len() > 1 {
            findings.error(
                "Cargo.lock",
                &format!("{name} is built twice: {}", copies.join(" and ")),
                &format!("cargo tree -i {name} says who brings which; bring them together"),
            );
        }
    }
    licences(&tree(root, "all", "all")?, findings);
    Ok(())
}

fn tree(root: &Path, edges: &str, system: &str) -> Result<String> {
    // Each subtree is written once: all of them anew, wherever they stand, took a minute. A mark says where one was left out.
    let lines = output(
        root,
        env!("CARGO"),
        &[
            "tree",
            "--workspace",
            "--all-features",
            "--target",
            system,
            "--edges",
            edges,
            "--prefix",
            "none",
            "--format",
            "{p}|{l}",
        ],
    )?;
    Ok(lines.lines().map(|line| format!("{}\n", line.strip_suffix(" (*)").unwrap_or(line))).collect())
}

/// `0.23.45-dev.1` counts as 0.23.45.
fn number(version: &str) -> [u64; 3] {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

fn licences(tree: &str, findings: &mut Findings) {
    let lines: BTreeSet<&str> = tree.lines().filter(|line| !line.is_empty()).collect();
    for line in lines {
        let Some((package, licence)) = line.split_once('|') else { continue };
        if !allowed(licence) {
            let name = package.split(' ').next().unwrap_or(package);
            let what = if licence.is_empty() { "names no licence".to_owned() } else { format!("is under {licence}") };
            findings.error(
                "Cargo.lock",
                &format!("{name} {what}"),
                "choose another crate, or widen the list in xtask/src/graph.rs and deny.toml",
            );
        }
    }
}

/// SPDX, as plainly as crates use it: of what is joined by OR one must be allowed, of what is joined by AND all.
fn allowed(licence: &str) -> bool {
    let licence = licence.trim();
    if licence.is_empty() {
        return false;
    }
    if let Some(parts) = split(licence, " AND ") {
        return parts.iter().all(|part| allowed(part));
    }
    if let Some(parts) = split(licence, " OR ").or_else(|| split(licence, "/")) {
        return parts.iter().any(|part| allowed(part));
    }
    match licence.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => allowed(inner),
        // An exception only gives more.
        None => LICENCES.contains(&licence.split(" WITH ").next().unwrap_or(licence)),
    }
}

/// The parts outside parentheses; `None` where there is nothing to split.
fn split<'a>(text: &'a str, by: &str) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {
                if depth == 0 && at >= start && text[at..].starts_with(by) {
                    parts.push(&text[start..at]);
                    start = at + by.len();
                }
            }
        }
    }
    parts.push(&text[start..]);
    (parts.len() > 1).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_read_as_spdx_has_them() {
        for licence in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/Apache-2.0",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "(GPL-3.0 AND MIT) OR ISC",
        ] {
            assert!(allowed(licence), "{licence}");
        }
        for licence in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND AGPL-3.0", "GPL-3.0 OR AGPL-3.0"] {
            assert!(!allowed(licence), "{licence}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(number("0.23.5") < [0, 23, 45]);
        assert!(number("0.4.20") >= [0, 4, 20]);
        assert!(number("1.0.0-rc.1") >= [0, 4, 20]);
    }
}
