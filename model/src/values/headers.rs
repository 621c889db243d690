//! Header names and values, and method names, as RFC 9110 spells them. Knows no header by its meaning.

use super::ValueError;
use std::fmt;

/// A token (RFC 9110, section 5.6.2), in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderName(Box<str>);

/// Longer than any name in use; keeps a mistaken paste out.
const NAME_BYTES_MAX: usize = 256;

impl HeaderName {
    pub fn parse(text: &str) -> Result<HeaderName, ValueError> {
        if let Some(name) = text.strip_suffix(':').filter(|name| is_token(name)) {
            return Err(ValueError::new("a header name has no colon").hint(format!("write `{name}`")));
        }
        if !is_token(text) || text.len() > NAME_BYTES_MAX {
            return Err(ValueError::new(format!("`{text}` is not a header name"))
                .hint("a header name has letters, digits, and `-`: `x-request-id`"));
        }
        Ok(HeaderName(text.to_ascii_lowercase().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for HeaderName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A field value: no control characters but tab, no blanks around it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderValue {
    text: Box<str>,
    /// What the user wrote where the text came by `${}`: shown in its place.
    written: Option<Box<str>>,
}

impl HeaderValue {
    pub fn parse(text: &str) -> Result<HeaderValue, ValueError> {
        let text = text.trim_matches([' ', '\t']);
        check_value(text)?;
        Ok(HeaderValue { text: text.into(), written: None })
    }

    /// The same value, shown as `written` instead: it came from the environment or a file.
    pub fn shown_as(mut self, written: &str) -> HeaderValue {
        self.written = Some(written.into());
        self
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What may be printed.
    pub fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }
}

impl AsRef<str> for HeaderValue {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.shown(), f)
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

/// No control characters: they would end the header line, and start another of the writer's choice.
pub(super) fn check_value(text: &str) -> Result<(), ValueError> {
    match text.chars().find(|c| c.is_control() && *c != '\t') {
        Some('\n' | '\r') => Err(ValueError::new("a header value is one line").hint("remove the line break")),
        Some(c) => Err(ValueError::new(format!("a header value cannot hold the control character {}", c.escape_unicode()))),
        None => Ok(()),
    }
}

/// A method name in upper case. CONNECT is refused: it makes a tunnel, which no route can answer.
pub fn parse_method(text: &str) -> Result<String, ValueError> {
    if text == "CONNECT" {
        return Err(ValueError::new("`CONNECT` cannot be routed").hint("a tunnel is not a request to an API; remove it"));
    }
    if !is_token(text) || text.len() > 32 {
        return Err(ValueError::new(format!("`{text}` is not a method")).hint("write `GET`, `GET,HEAD` or `ANY`"));
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(ValueError::new(format!("`{text}` is not a method: methods are upper-case"))
            .hint(format!("write `{}`", text.to_ascii_uppercase())));
    }
    Ok(text.to_owned())
}

pub(super) fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}
