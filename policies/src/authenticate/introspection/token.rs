//! Where a bearer token stands: `Authorization: Bearer …` (RFC 6750 §2.1), and nowhere else. Does not know what a token means.

use maitred_core::wire::{Headers, Name};

/// A longer one is not asked about: it would be remembered by nobody, and asked about each time.
const TOKEN_BYTES_MAX: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Nothing,
    One(&'a [u8]),
    /// Something that says it is one, and is not.
    Wrong(&'static str),
}

pub fn find(headers: &Headers) -> Found<'_> {
    let Some(first) = headers.known(Name::Authorization) else { return Found::Nothing };
    if headers.is_repeated(Name::Authorization) {
        let any = headers.all_known(Name::Authorization).any(|value| bearer(value).is_some());
        return if any { Found::Wrong("the request has several credentials") } else { Found::Nothing };
    }
    match bearer(first) {
        None => Found::Nothing,
        Some(token) if token.len() > TOKEN_BYTES_MAX => Found::Wrong("the token is too long"),
        Some(token) if is_token68(token) => Found::One(token),
        Some(_) => Found::Wrong("a token of characters that no token has"),
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let is_word = matches!(rest.first(), None | Some(b' ' | b'\t'));
    (scheme.eq_ignore_ascii_case(SCHEME) && is_word).then(|| rest.trim_ascii())
}

/// `b64token` of RFC 6750 §2.1.
fn is_token68(token: &[u8]) -> bool {
    let digits = token.iter().position(|&byte| byte == b'=').unwrap_or(token.len());
    let (digits, padding) = token.split_at(digits);
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    !digits.is_empty() && digits.iter().all(good) && padding.iter().all(|&byte| byte == b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_where_it_stands_and_nowhere_else() {
        let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
        for (values, found) in [
            (vec![], Found::Nothing),
            (vec!["Basic YTpi"], Found::Nothing),
            (vec!["Bearertoken"], Found::Nothing),
            (vec![""], Found::Nothing),
            (vec!["Bearer abc.DEF-_~+/09=="], Found::One(b"abc.DEF-_~+/09==")),
            (vec!["bEARER  abc "], Found::One(b"abc")),
            (vec!["Bearer"], Found::Wrong("a token of characters that no token has")),
            (vec!["Bearer a b"], Found::Wrong("a token of characters that no token has")),
            (vec!["Bearer a=b"], Found::Wrong("a token of characters that no token has")),
            (vec!["Bearer ="], Found::Wrong("a token of characters that no token has")),
            (vec!["Bearer a,b"], Found::Wrong("a token of characters that no token has")),
            (vec!["Bearer a&token=b"], Found::Wrong("a token of characters that no token has")),
            (vec![&*long], Found::Wrong("the token is too long")),
            (vec!["Bearer a", "Bearer a"], Found::Wrong("the request has several credentials")),
            (vec!["Basic YTpi", "Bearer a"], Found::Wrong("the request has several credentials")),
            (vec!["Basic YTpi", "Digest a"], Found::Nothing),
        ] {
            let mut headers = Headers::default();
            for value in &values {
                headers.add(b"Authorization", value.as_bytes());
            }
            assert_eq!(find(&headers), found, "{values:?}");
        }
    }
}
