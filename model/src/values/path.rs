//! Path templates and canonical paths. Literal text is brought to the same form as request paths, once, so that the router compares
//! bytes. Matches nothing itself: that is the router's.

use super::ValueError;
use std::fmt;

/// `/orders/{id}/lines/{rest+}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    pub segments: Vec<Segment>,
    /// As the user wrote it.
    pub source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Canonical text; empty for a trailing slash or `//`, which are significant.
    Literal(String),
    /// Exactly one segment, not empty.
    Param(String),
    /// One or more remaining segments; always the last.
    Rest(String),
}

impl PathTemplate {
    pub fn parse(text: &str) -> Result<PathTemplate, ValueError> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(must_start(text));
        };
        let mut segments = Vec::with_capacity(path.bytes().filter(|byte| *byte == b'/').count() + 1);
        for part in path.split('/') {
            if let Some(Segment::Rest(name)) = segments.last() {
                let message = format!("`{{{name}+}}` takes all that remains, so it must be last");
                return Err(ValueError::new(message).hint(format!("write `{{{name}}}` for one segment")));
            }
            segments.push(segment(part)?);
        }
        let template = PathTemplate { segments, source: text.to_owned() };
        template.check_names()?;
        Ok(template)
    }

    /// The names of its parameters, in order.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Param(name) | Segment::Rest(name) => Some(name.as_str()),
        })
    }

    fn check_names(&self) -> Result<(), ValueError> {
        let mut seen: Vec<&str> = Vec::new();
        for name in self.params() {
            if seen.contains(&name) {
                return Err(ValueError::new(format!("the parameter `{name}` stands twice in one path"))
                    .hint(format!("give the second a name of its own: `{{{name}2}}`")));
            }
            seen.push(name);
        }
        Ok(())
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// A path without parameters, as the router sees it: `/%7eann` is `/~ann`.
pub fn canonical_path(text: &str) -> Result<String, ValueError> {
    let Some(path) = text.strip_prefix('/') else {
        return Err(must_start(text));
    };
    let mut canonical = String::with_capacity(text.len());
    for part in path.split('/') {
        canonical.push('/');
        canonical.push_str(&literal(part)?);
    }
    Ok(canonical)
}

fn must_start(text: &str) -> ValueError {
    if text.starts_with("http://") || text.starts_with("https://") {
        return ValueError::new(format!("`{text}` is a URL, not a path")).hint("write only the path; hosts stand in `hosts`");
    }
    ValueError::new(format!("the path `{text}` does not start with `/`")).hint(format!("write `/{text}`"))
}

fn segment(part: &str) -> Result<Segment, ValueError> {
    if !part.contains(['{', '}']) {
        return literal(part).map(Segment::Literal);
    }
    let inner = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).filter(|inner| !inner.contains(['{', '}']));
    let Some(inner) = inner else {
        return Err(ValueError::new(format!("the segment `{part}` mixes text and a parameter"))
            .hint("a parameter is a whole segment: `/v/{id}`"));
    };
    if let Some(name) = inner.strip_suffix('*').filter(|name| param_name(name).is_ok()) {
        return Err(
            ValueError::new(format!("`{part}` is not a parameter")).hint(format!("write `{{{name}+}}` for all that remains"))
        );
    }
    match inner.strip_suffix('+') {
        Some(name) => Ok(Segment::Rest(param_name(name)?)),
        None => Ok(Segment::Param(param_name(inner)?)),
    }
}

/// `[A-Za-z_][A-Za-z0-9_]*`.
pub(super) fn param_name(name: &str) -> Result<String, ValueError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !first || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(ValueError::new(format!("`{{{name}}}` is not a parameter"))
            .hint("a parameter's name has letters, digits and `_`, and does not start with a digit: `{order_id}`"));
    }
    Ok(name.to_owned())
}

/// One whole literal segment, made canonical.
pub(super) fn literal(part: &str) -> Result<String, ValueError> {
    let canonical = literal_text(part)?;
    match canonical.as_str() {
        text if text.starts_with(".;") || text.starts_with("..;") => {
            Err(ValueError::new(format!("the segment `{part}` is a dot segment to some servers, and no request path holds it")))
        }
        "." | ".." => Err(ValueError::new(format!("the segment `{part}` is a dot segment, which no request path holds"))
            .hint("write the path that it leads to")),
        _ => Ok(canonical),
    }
}

/// A piece of a segment: unreserved %XX decoded, other %XX in upper case.
pub(super) fn literal_text(part: &str) -> Result<String, ValueError> {
    let bytes = part.as_bytes();
    let mut canonical = String::with_capacity(part.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            canonical.push_str(&escape(part, bytes.get(at + 1..at + 3))?);
            at += 3;
        } else {
            if !is_path_byte(bytes[at]) {
                return Err(refused(part, at));
            }
            canonical.push(char::from(bytes[at]));
            at += 1;
        }
    }
    Ok(canonical)
}

fn escape(part: &str, digits: Option<&[u8]>) -> Result<String, ValueError> {
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok()).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
        return Err(ValueError::new(format!("`{part}` has a `%` without two hex digits")).hint("write `%25` for a percent sign"));
    };
    match byte {
        0 | b'\\' => Err(ValueError::new(format!("`%{byte:02X}` is refused in every request path")).hint("remove it")),
        _ if is_unreserved(byte) => Ok(char::from(byte).to_string()),
        _ => Ok(format!("%{byte:02X}")),
    }
}

fn refused(part: &str, at: usize) -> ValueError {
    let Some(c) = part[at..].chars().next() else {
        return ValueError::new("the path ends in the middle of a character");
    };
    match c {
        '?' => ValueError::new("a path has no query")
            .hint("write `%3F` for a question mark in the path; conditions on the query stand in `when: { query: … }`"),
        '#' => ValueError::new("a path has no fragment").hint("write `%23` for a number sign in the path"),
        _ => {
            let mut encoded = String::new();
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
            ValueError::new(format!("a path cannot hold `{}` as it is", c.escape_debug()))
                .hint(format!("percent-encode it: `{encoded}`"))
        }
    }
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// `pchar` of RFC 3986, section 3.3, but `%`.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}
