//! Where each policy of a text begins and ends, and how deep its brackets are: known before the parser sees it, which calls itself for each
//! of them. Understands nothing else: what is between is the parser's to judge.

/// Bytes of one policy: a longer one is a program, and belongs elsewhere.
pub const STATEMENT_BYTES_MAX: usize = 16 * 1024;
/// Brackets inside brackets.
const NESTING_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub struct Statement {
    /// Just after the one before.
    pub start: usize,
    /// Where its first word stands.
    pub first: usize,
    pub end: usize,
}

/// What is too much, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Excess {
    pub at: usize,
    pub what: String,
}

/// The policies of a text. What follows the last `;` counts as one if there is anything.
pub fn policies(text: &str) -> Result<Vec<Statement>, Excess> {
    let mut statements = Vec::new();
    let (mut start, mut first) = (0, None);
    scan(text, b"([{", b")]}", |at, byte| {
        let begun = *first.get_or_insert(at);
        if at - begun > STATEMENT_BYTES_MAX {
            return Err(Excess { at: begun, what: format!("a policy is longer than {STATEMENT_BYTES_MAX} bytes") });
        }
        if byte == b';' {
            statements.push(Statement { start, first: begun, end: at + 1 });
            (start, first) = (at + 1, None);
        }
        Ok(())
    })?;
    if let Some(first) = first {
        statements.push(Statement { start, first, end: text.len() });
    }
    Ok(statements)
}

/// Whether a schema is flat enough to be parsed.
pub fn schema(text: &str) -> Result<(), Excess> {
    scan(text, b"([{<", b")]}>", |_, _| Ok(()))
}

/// Visits every byte that is no space and not in a comment; of a string its first.
fn scan(text: &str, open: &[u8], close: &[u8], mut visit: impl FnMut(usize, u8) -> Result<(), Excess>) -> Result<(), Excess> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0usize);
    while at < bytes.len() {
        let byte = bytes[at];
        if byte.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if bytes[at..].starts_with(b"//") {
            at += bytes[at..].iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len() - at);
            continue;
        }
        visit(at, byte)?;
        if open.contains(&byte) {
            depth += 1;
            if depth > NESTING_MAX {
                return Err(Excess { at, what: format!("there are more than {NESTING_MAX} brackets inside one another") });
            }
        } else if close.contains(&byte) {
            depth = depth.saturating_sub(1);
        }
        at = if byte == b'"' { string_end(bytes, at) } else { at + 1 };
    }
    Ok(())
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        policies(text).expect("not too much").iter().map(|statement| &text[statement.first..statement.end]).collect()
    }

    #[test]
    fn a_policy_ends_at_a_semicolon_that_is_one() {
        assert_eq!(cut("a;\n// b;\n @id(\"c;\\\";\")\npermit();  // d\n"), ["a;", "@id(\"c;\\\";\")\npermit();"]);
        assert_eq!(cut("a; b"), ["a;", "b"]);
        assert_eq!(cut(" // only a comment"), [""; 0]);
        assert_eq!(cut("a \"never closed; b;"), ["a \"never closed; b;"]);
        assert_eq!(cut("é; \"\\"), ["é;", "\"\\"]);
    }

    #[test]
    fn what_would_overwhelm_the_parser_is_not_shown_to_it() {
        let deep = format!("permit(a){}{};", "(".repeat(65), ")".repeat(65));
        assert_eq!(policies(&deep).map_err(|excess| excess.at), Err(9 + 64));
        assert!(policies(&deep.replace("((", "(")).is_err() || policies("((((").is_ok());
        let long = format!(" x{};", " a".repeat(STATEMENT_BYTES_MAX));
        assert_eq!(policies(&long).map_err(|excess| excess.at), Err(1));
        assert!(schema(&"Set<".repeat(65)).is_err() && schema(&"Set<".repeat(64)).is_ok());
        assert!(policies(&"a < b;".repeat(100)).is_ok());
    }
}
