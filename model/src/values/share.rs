//! Shares of a whole: `5%`. Kept in parts per million, so that a thousandth of a percent is a whole number too.

use super::ValueError;
use std::fmt;

/// Parts per million. There is at least one, but where `parse_or_none` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u32);

const PERCENT: u32 = 10_000;

/// Digits after the point: `0.0001%` is one part per million.
const DIGITS_MAX: usize = 4;

impl Share {
    pub const NONE: Share = Share(0);
    pub const ALL: Share = Share(100 * PERCENT);
    pub const FIFTH: Share = Share(20 * PERCENT);

    /// `5%`, `0.1%`, `100%`.
    pub fn parse(text: &str) -> Result<Share, ValueError> {
        let number = text.strip_suffix('%').map(str::trim_end);
        let Some(number) = number else {
            return Err(match parts(text) {
                Some(Ok(parts)) => {
                    let hint = match fraction(text, parts) {
                        Some(meant) => format!("write `{meant}`, or `{text}%` if as little as that is meant"),
                        None => format!("write `{text}%`"),
                    };
                    ValueError::new(format!("a share needs its unit `%`: `{text}` has none")).hint(hint)
                }
                Some(Err(_)) | None => not_a_share(text),
            });
        };
        if text.len() != number.len() + 1 {
            return Err(ValueError::new("a share has no space before its unit").hint(format!("write `{number}%`")));
        }
        match parts(number) {
            None => Err(not_a_share(text)),
            Some(Err(error)) => Err(error),
            Some(Ok(0)) => Err(ValueError::new("a share of nothing does nothing").hint("write `0.0001%` or more")),
            Some(Ok(parts)) if parts > u64::from(Share::ALL.0) => {
                Err(ValueError::new(format!("`{text}` is more than the whole")).hint("write `100%` or less"))
            }
            Some(Ok(parts)) => Ok(Share(parts as u32)),
        }
    }

    /// The same where a share of nothing says something: `0%` is never.
    pub fn parse_or_none(text: &str) -> Result<Share, ValueError> {
        match text.strip_suffix('%').and_then(parts) {
            Some(Ok(0)) => Ok(Share::NONE),
            Some(Ok(_) | Err(_)) | None => Share::parse(text),
        }
    }

    /// Parts per million: 0 to 1,000,000.
    pub const fn ppm(self) -> u32 {
        self.0
    }
}

/// `0.2`, whose `parts` are those of 0.2%, is a fifth to many.
fn fraction(text: &str, parts: u64) -> Option<Share> {
    let is_part = text.contains('.') && (1..=u64::from(PERCENT)).contains(&parts);
    is_part.then(|| Share(parts as u32 * 100))
}

fn not_a_share(text: &str) -> ValueError {
    ValueError::new(format!("`{text}` is not a share")).hint("write a number and `%`: `5%`")
}

/// Parts per million of a number in percent. `None` where it is no number.
fn parts(number: &str) -> Option<Result<u64, ValueError>> {
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(rest) {
        return None;
    }
    let rest = rest.trim_end_matches('0');
    if rest.len() > DIGITS_MAX {
        return Some(Err(ValueError::new(format!("`{number}%` is finer than shares are kept")).hint("write `0.0001%` or more")));
    }
    // What is longer is more than the whole, however much.
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX);
    let rest = format!("{rest:0<DIGITS_MAX$}").parse::<u64>().unwrap_or(0);
    Some(Ok(whole.saturating_mul(u64::from(PERCENT)).saturating_add(rest)))
}

/// As `parse` reads it.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / PERCENT, self.0 % PERCENT);
        if rest == 0 {
            return write!(f, "{whole}%");
        }
        write!(f, "{whole}.{}%", format!("{rest:0>DIGITS_MAX$}").trim_end_matches('0'))
    }
}
