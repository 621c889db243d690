//! Rules about all text: links lead somewhere, no path of somebody's machine, and no word about who or what wrote a line.

use crate::tidy::{Findings, Tree};
use anyhow::Result;
use regex::Regex;
use std::path::{Component, Path};

/// Pattern, what it is, what to do. A letter in brackets keeps a pattern from finding itself.
const WORDS: &[(&str, &str, &str)] = &[
    (
        r#"(^|[\s"'`(=<])/([h]ome|[U]sers|[r]oot|[w]ork)/[A-Za-z0-9_.-]+/"#,
        "a path of one machine",
        "write it relative to the repository, or ask the environment",
    ),
    (r"[A-Z]:\\[U]sers\\", "a path of one machine", "write it relative to the repository, or ask the environment"),
    (
        r"(?i)[c]o-authored-by|[g]enerated (by|with) (an? )?(ai|assistant|model)\b|[w]ritten by (an? )?(ai|assistant|language model)\b|\b[a]s an ai\b",
        "a word about who or what wrote it",
        "remove it: the text speaks for itself",
    ),
    (
        r"(?i)\b([c]hatgpt|[c]opilot|[c]laude|[a]nthropic|[o]penai|[g]emini|[c]odex)\b",
        "a word about who or what wrote it",
        "remove it: the text speaks for itself",
    ),
];

/// Written by tools, for tools.
const NOT_READ: [&str; 1] = ["Cargo.lock"];

pub fn check(tree: &Tree<'_>, findings: &mut Findings) -> Result<()> {
    let words =
        WORDS.iter().map(|(pattern, what, remedy)| Ok((Regex::new(pattern)?, *what, *remedy))).collect::<Result<Vec<_>>>()?;
    for file in tree.files.iter().filter(|file| !NOT_READ.contains(&file.as_str())) {
        let Some(text) = tree.text(file) else { continue };
        for (index, line) in text.lines().enumerate() {
            for (pattern, what, remedy) in &words {
                if let Some(found) = pattern.find(line) {
                    findings.error(format!("{file}:{}", index + 1), &format!("{what}: `{}`", found.as_str().trim()), remedy);
                }
            }
        }
        if file.ends_with(".md") {
            links(tree, file, &text, findings)?;
        }
    }
    Ok(())
}

fn links(tree: &Tree<'_>, file: &str, text: &str, findings: &mut Findings) -> Result<()> {
    // Inline links and images, and definitions: `[x]: target`.
    let link = Regex::new(r#"\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)|^\[[^\]]+\]:\s*(\S+)"#)?;
    let code = Regex::new(r"`[^`]*`")?;
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Code in a line names things; it links to nothing. Its length stays, for nothing else depends on it.
        let line = code.replace_all(line, "code");
        for found in link.captures_iter(&line) {
            let target = found.get(1).or(found.get(2)).map_or("", |target| target.as_str());
            if !leads_somewhere(tree, file, target) {
                findings.error(
                    format!("{file}:{}", index + 1),
                    &format!("a link to `{target}`, which is not there"),
                    "correct it, or add what it promises",
                );
            }
        }
    }
    Ok(())
}

fn leads_somewhere(tree: &Tree<'_>, file: &str, target: &str) -> bool {
    let path = target.split(['#', '?']).next().unwrap_or_default();
    if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let from = Path::new(file).parent().unwrap_or(Path::new(""));
    let joined = if let Some(absolute) = path.strip_prefix('/') { Path::new(absolute).to_owned() } else { from.join(path) };
    match tidied(&joined) {
        // Tracked, not merely lying there: a fresh clone must have it.
        Some(path) => {
            path.is_empty() || tree.files.contains(&path) || tree.files.iter().any(|other| other.starts_with(&format!("{path}/")))
        }
        None => false,
    }
}

/// Without `.` and `..`; `None` where it leaves the repository.
fn tidied(path: &Path) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?.to_owned()),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_find_what_they_are_for_and_not_themselves() {
        let found =
            |text: &str| WORDS.iter().any(|(pattern, _, _)| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text)));
        let machine = ["", "home", "ann", "x"].join("/");
        assert!(found(&machine) && found(&format!("open({machine:?})")));
        assert!(!found("bench/out/work/x") && !found("https://a.example/home/x/") && !found("the author of a request"));
        for (pattern, _, _) in WORDS {
            assert!(!found(pattern), "{pattern}");
        }
    }

    #[test]
    fn links_are_followed_from_their_file() {
        assert_eq!(tidied(Path::new("docs/../a/./b")).as_deref(), Some("a/b"));
        assert_eq!(tidied(Path::new("../a")), None);
    }
}
