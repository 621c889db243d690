//! What must not be shown, found by the key above it and whatever its shape: a secret that is written wrongly is one all the same. Decides
//! nothing about what is right, and reads nothing.

use crate::span::{FileId, Span};
use crate::yaml::{Kind, Node};

/// Keys below which all is secret, without `_` and `-`: those of this language, and what others call them.
const NAMES: [&str; 21] = [
    "accesstoken",
    "apikeys",
    "apitokens",
    "awssecretaccesskey",
    "bearertoken",
    "clientsecret",
    "clientsecrets",
    "cookiesecret",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "privatekey",
    "secret",
    "secretaccesskey",
    "secretkey",
    "secretkeys",
    "secrets",
    "sharedsecret",
    "token",
    "tokens",
];

/// Below these are names that a user chose, which say nothing about what is below them.
const CHOSEN: [&str; 7] = ["apis", "authorizers", "consumers", "functions", "plans", "routes", "upstreams"];

/// Those that have keys by their ids, and what beside a key is none.
const SIGNATURES: [&str; 2] = ["http_signature", "aws_signature"];
const BESIDE_KEYS: [&str; 2] = ["algorithm", "public_key"];

/// Whether a key is one of those.
pub(crate) fn is_secret(key: &str) -> bool {
    let plain = || key.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase());
    NAMES.iter().any(|name| plain().eq(name.bytes()))
}

/// Whether a mapping with such keys has secrets: then an unknown key of it may be a misspelled one.
pub(crate) fn are_beside_secrets(known: &[&str]) -> bool {
    known.iter().any(|key| is_secret(key) || ["htpasswd", "keys"].contains(key))
}

/// All that is written below a node.
pub(crate) fn below(node: &Node, spans: &mut Vec<Span>) {
    match &node.kind {
        // The reference is no secret, and who reads of it wants to see it.
        Kind::Scalar(scalar) if refers(&scalar.text) || scalar.origin.is_some() => {}
        Kind::Scalar(_) | Kind::Poisoned => spans.push(node.span),
        Kind::Sequence(items) => items.iter().for_each(|item| below(item, spans)),
        Kind::Mapping(entries) => entries.iter().for_each(|(key, value)| {
            spans.push(key.span);
            below(value, spans);
        }),
    }
}

/// Marks the secrets of a file, before anything is put in: no message repeats them. Their places, for the text that is shown.
pub(crate) fn hide(root: &mut Node) -> Vec<Span> {
    let mut spans = Vec::new();
    walk(root, "", &mut spans);
    spans
}

fn walk(node: &mut Node, above: &str, spans: &mut Vec<Span>) {
    match &mut node.kind {
        Kind::Scalar(scalar) => {
            let is_pem = scalar.text.contains("PRIVATE KEY-----");
            // A line of a file of passwords, where its path belongs.
            let is_hash = above == "htpasswd" && scalar.text.contains(':') && scalar.text.contains(['$', '{', '\n']);
            if is_pem || is_hash {
                all(node, spans);
            }
        }
        Kind::Sequence(items) => {
            // A list where names belong has none: its items' keys are those of the language.
            let has_names = !CHOSEN.contains(&above) || ["consumers", "routes"].contains(&above);
            let above = if has_names { above } else { "" };
            items.iter_mut().for_each(|item| walk(item, above, spans));
        }
        Kind::Mapping(entries) => {
            let is_chosen = CHOSEN.contains(&above);
            for (key, value) in entries {
                let is_lone = above == "consumers" && !matches!(value.kind, Kind::Mapping(_));
                let of_signer = key.value == "keys" && SIGNATURES.contains(&above);
                let of_function = key.value == "environment" && !is_chosen;
                if is_lone || (is_secret(&key.value) && !is_chosen) {
                    all(value, spans);
                } else if of_signer || of_function {
                    values(value, spans);
                } else {
                    walk(value, if is_chosen { "" } else { &key.value }, spans);
                }
            }
        }
        Kind::Poisoned => {}
    }
}

/// Keys and values: who writes `{ KEY }` has written a mapping.
fn all(node: &mut Node, spans: &mut Vec<Span>) {
    below(node, spans);
    mark(node);
}

/// Values alone, since the keys have names that may be shown.
fn values(node: &mut Node, spans: &mut Vec<Span>) {
    match &mut node.kind {
        Kind::Mapping(entries) => {
            let secret = entries.iter_mut().filter(|(key, _)| !BESIDE_KEYS.contains(&key.value.as_str()));
            secret.for_each(|(_, value)| values(value, spans));
        }
        Kind::Scalar(_) | Kind::Sequence(_) | Kind::Poisoned => all(node, spans),
    }
}

fn mark(node: &mut Node) {
    match &mut node.kind {
        Kind::Scalar(scalar) => scalar.is_hidden = !refers(&scalar.text),
        Kind::Sequence(items) => items.iter_mut().for_each(mark),
        Kind::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| mark(value)),
        Kind::Poisoned => {}
    }
}

/// Whether it is references and nothing else: what stands beside one is as secret as what it stands for.
fn refers(text: &str) -> bool {
    let mut rest = text.trim();
    while let Some((_, behind)) =
        rest.strip_prefix("${env:").or_else(|| rest.strip_prefix("${file:")).and_then(|name| name.split_once('}'))
    {
        rest = behind;
    }
    rest.is_empty() && !text.trim().is_empty()
}

/// The same in a text of which there is no tree, since it is no YAML: what follows such a key on its line, and the lines that stand below it.
pub(crate) fn in_text(text: &str, file: FileId) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut start = 0;
    // How far the line with the key is indented, while lines belong to it.
    let mut belongs: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end();
        let indentation = content.len() - content.trim_start().len();
        let is_item = content[indentation..].starts_with('-');
        let is_below =
            belongs.is_some_and(|above| indentation > above || (is_item && indentation == above) || content.is_empty());
        let from = match is_below {
            true => Some(indentation),
            false => after_key(content),
        };
        belongs = if is_below { belongs } else { from.map(|_| indentation) };
        if let Some(from) = from.filter(|from| *from < content.len()) {
            spans.push(Span::new(file, (start + from) as u32, (start + content.len()) as u32));
        }
        start += line.len();
    }
    spans
}

/// Where on a line the first key with a secret ends.
fn after_key(line: &str) -> Option<usize> {
    let is_key = |at: &usize| {
        let before = line[..*at].trim_end().trim_end_matches(['"', '\'']);
        let begins = before.rfind(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-')).map_or(0, |at| at + 1);
        let word = before.get(begins..).unwrap_or_default().trim_start_matches('-');
        is_secret(word) || ["keys", "environment", "htpasswd"].contains(&word)
    };
    memchr::memchr_iter(b':', line.as_bytes()).find(is_key).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Each key of the language whose value is a secret, by the schema: one that is new must be known here.
    fn secret_keys(schema: &Value, keys: &mut Vec<String>) {
        let is_secret = |schema: &Value| {
            let parts = [schema, &schema["items"], &schema["additionalProperties"]];
            parts.iter().any(|part| part["$ref"] == "#/$defs/Secret")
        };
        match schema {
            Value::Object(map) => {
                for (key, value) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    if is_secret(value) {
                        keys.push(key.clone());
                    }
                }
                map.values().for_each(|value| secret_keys(value, keys));
            }
            Value::Array(list) => list.iter().for_each(|value| secret_keys(value, keys)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_key_of_the_language_that_holds_a_secret_is_known() {
        let mut keys = Vec::new();
        secret_keys(&crate::schema(), &mut keys);
        assert!(keys.len() >= 6, "{keys:?}");
        let unknown: Vec<_> = keys.iter().filter(|key| !are_beside_secrets(&[key])).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(is_secret("apiKeys") && is_secret("client-secret"));
        assert!(!["api_key", "key", "api", "keys_max", "jwks"].iter().any(|key| is_secret(key)));
    }

    #[test]
    fn what_is_no_yaml_shows_no_secret_either() {
        let cases = [
            ("a: { password: hunter2", "a: { password:"),
            ("\"api_keys\" : [hunter2\nplan: x", "plan: x"),
            ("bob:\n  api_keys:\n  - hunter2\n  - \"hunter2\n  plan: x", "\n  plan: x"),
            ("- secret: |\n    hunter2\n\n    hunter2\nx: y", "\nx: y"),
            ("environment: { DB: hunter2\ntimeout: 1s", "\ntimeout: 1s"),
            ("environment:\n  DB: hunter2\n  B: [\ntimeout: 1s", "\ntimeout: 1s"),
            ("htpasswd: \"a:hunter2\nplan: x", "\nplan: x"),
            ("größe: 1\npassword: hünter2", "größe: 1\npassword:"),
            ("api_key: { in: header }", "api_key: { in: header }"),
        ];
        for (text, kept) in cases {
            let mut shown = text.to_owned();
            for Span { start, end, .. } in in_text(text, FileId(0)) {
                shown.replace_range(start as usize..end as usize, &"*".repeat((end - start) as usize));
            }
            assert!(shown.contains(kept) && !shown.contains("nter2"), "{shown}");
        }
    }
}
