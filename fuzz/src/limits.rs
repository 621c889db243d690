//! What back ends say of limits: a number is one, or it is not.

use maitred_policies::rate_limit::read_cost;

/// A response's header that says what a request has cost: read as a plainer reading reads it, and never smaller.
pub fn limit_cost(data: &[u8]) {
    let text = std::str::from_utf8(data).ok().map(|text| text.trim_matches(|c: char| c.is_ascii_whitespace()));
    let plain = text.filter(|text| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()));
    let Some(plain) = plain else {
        assert_eq!(read_cost(data), None, "{} is no number", data.escape_ascii());
        return;
    };
    // No longer number is smaller.
    let digits = plain.trim_start_matches('0');
    let wanted = match digits {
        "" => 0,
        digits if digits.len() > 19 => u32::MAX,
        digits => digits.parse::<u64>().expect("up to 19 digits").min(u64::from(u32::MAX)) as u32,
    };
    assert_eq!(read_cost(data), Some(wanted), "{plain}");
}
