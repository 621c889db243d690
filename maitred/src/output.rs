//! What the verbs have in common when they speak: exit codes, colour, and pipes that close early. Formats no diagnostics: the model does.

use crate::logging;
use serde_json::Value;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

/// How a verb ended. Usage errors, which are clap's, are 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Fine,
    /// Errors in the configuration, or a check that failed.
    Refused,
    /// Such as an address in use.
    CannotStart,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Fine => 0,
            Exit::Refused => 1,
            Exit::CannotStart => 3,
        })
    }
}

/// Whether the reader of `stream` sees colours: only on a terminal, and never with NO_COLOR (no-color.org).
pub fn in_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes to stdout. A reader that has seen enough, such as `head`, is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    logging::catch_up();
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes to stderr, where nobody could be told that it failed. A verb that logs says it in its log, in the order in which it was said.
pub fn say(text: &str) {
    if !logging::takes(text) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

pub fn json(value: &Value) -> anyhow::Result<Exit> {
    print(&format!("{value:#}\n"))?;
    Ok(Exit::Fine)
}

pub fn error(error: &anyhow::Error) {
    let (on, off) = if in_color(&io::stderr()) { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    say(&format!("{on}error{off}: {error:#}\n"));
}

/// `1 route`, `2 routes`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Columns as wide as their widest cell, two blanks apart. The first row is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["A".to_owned(), "B".to_owned()], vec!["långt".to_owned(), String::new()]];
        assert_eq!(table(&rows), "A      B\nlångt\n");
    }
}
