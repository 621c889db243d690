//! Where a message of a WebSocket says what it is: `$request.body.action`.

use super::ValueError;
use std::fmt;

/// Steps of one path. Messages are small, and nobody nests what a message is.
const STEPS_MAX: usize = 8;
const BYTES_MAX: usize = 256;
const EXAMPLE: &str = "write `$request.body.action`, where messages are such as `{\"action\": \"join\"}`";

/// A path into a JSON message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The keys, from the message's own inwards.
    pub path: Vec<String>,
}

impl Selection {
    /// As AWS has it, with or without braces: `$request.body.action`, `${request.body.action}`.
    pub fn parse(text: &str) -> Result<Selection, ValueError> {
        let bad = |what: &str| Err(ValueError::new(format!("`{text}` selects nothing: {what}")).hint(EXAMPLE));
        if text.len() > BYTES_MAX {
            return bad("it is longer than 256 characters");
        }
        let plain = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).or_else(|| text.strip_prefix('$'));
        let Some(path) = plain.and_then(|plain| plain.strip_prefix("request.body.")) else {
            return bad("it does not begin with `$request.body.`");
        };
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        if path.len() > STEPS_MAX {
            return bad("it is more than 8 keys long");
        }
        let word =
            |key: &String| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if !path.iter().all(word) {
            return bad("keys have letters, digits, `-` and `_`, with a point between two");
        }
        Ok(Selection { path })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$request.body.{}", self.path.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections() {
        for (text, wanted) in [
            ("$request.body.action", Some("$request.body.action")),
            ("${request.body.action}", Some("$request.body.action")),
            ("$request.body.path.to_it-2", Some("$request.body.path.to_it-2")),
            ("$request.body", None),
            ("$request.body.", None),
            ("$request.body.a..b", None),
            ("$request.body.a.b.c.d.e.f.g.h.i", None),
            ("$request.body.items[0]", None),
            ("${request.body.action", None),
            ("$request.header.action", None),
            ("request.body.action", None),
            ("action", None),
            ("", None),
        ] {
            assert_eq!(Selection::parse(text).ok().map(|selection| selection.to_string()).as_deref(), wanted, "{text}");
        }
    }
}
