//! `Authorization: Basic …` (RFC 7617), read strictly. Knows no user.

use maitred_core::wire::base64;
use maitred_model::USER_BYTES_MAX;

/// Bytes of the header's value: the longest name, and a password of some four hundred.
const VALUE_BYTES_MAX: usize = 1024;
const SCHEME: &[u8] = b"basic";

/// Who it is to be, and what shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Not empty; without `:` and control characters.
    pub user: Box<str>,
    /// UTF-8 without control characters.
    pub password: Box<str>,
}

/// Whether a value of Authorization is of this scheme, good or bad.
pub fn is_basic(value: &[u8]) -> bool {
    value
        .split_at_checked(SCHEME.len())
        .is_some_and(|(scheme, rest)| scheme.eq_ignore_ascii_case(SCHEME) && matches!(rest.first(), None | Some(b' ' | b'\t')))
}

/// `Err`: why not, for the log.
pub fn parse(value: &[u8]) -> Result<Credentials, &'static str> {
    if value.len() > VALUE_BYTES_MAX {
        return Err("the credentials are too long");
    }
    if !is_basic(value) {
        return Err("the scheme is not Basic");
    }
    let text = base64::decode(value[SCHEME.len()..].trim_ascii()).ok_or("the credentials are not base64")?;
    let text = String::from_utf8(text).map_err(|_| "the credentials are not UTF-8")?;
    if text.chars().any(char::is_control) {
        return Err("the credentials have a control character");
    }
    match text.split_once(':') {
        Some((user, _)) if user.is_empty() || user.len() > USER_BYTES_MAX => Err("the name of the user is empty or too long"),
        Some((user, password)) => Ok(Credentials { user: user.into(), password: password.into() }),
        None => Err("the credentials have no `:`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &[u8]) -> Vec<u8> {
        let mut value = b"Basic ".to_vec();
        base64::encode(text, &mut value);
        value
    }

    #[test]
    fn the_first_colon_divides_and_text_is_utf8() {
        for (text, user, password) in [
            ("Aladdin:open sesame", "Aladdin", "open sesame"),
            ("test:123£", "test", "123£"),
            ("a:b:c", "a", "b:c"),
            ("a:", "a", ""),
            ("ü ser:ß", "ü ser", "ß"),
        ] {
            let read = parse(&header(text.as_bytes())).expect("good credentials");
            assert_eq!((&*read.user, &*read.password), (user, password));
        }
        let read = parse(b"bAsIc   QWxhZGRpbjpvcGVuIHNlc2FtZQ==").expect("the vector of RFC 7617");
        assert_eq!((&*read.user, &*read.password), ("Aladdin", "open sesame"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        let long = format!("{}:x", "u".repeat(USER_BYTES_MAX + 1));
        let control = ["a\0:b", "a:b\r", "a\n:b", "a:\u{7f}", "a:\u{85}"].map(|text| header(text.as_bytes()));
        let shapes = [":x", "x", "", &long].map(|text| header(text.as_bytes()));
        let others = [
            &b"Basic"[..],
            b"Basic ",
            b"Basic !!!",
            b"Basic YTpi YTpi",
            b"Basic YTpiYw",
            b"Basic YTpiYx==",
            b"Bearer YTpi",
            b"BasicYTpi",
        ];
        let latin1 = header(b"a:\xa3");
        let huge = header(&[b'a'; 1000]);
        for value in control.iter().chain(&shapes).map(Vec::as_slice).chain(others).chain([&latin1[..], &huge]) {
            assert!(parse(value).is_err(), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_scheme_is_a_word() {
        for (value, is) in
            [("Basic x", true), ("BASIC", true), ("basic\tx", true), ("Basicx", false), ("Bearer x", false), ("", false)]
        {
            assert_eq!(is_basic(value.as_bytes()), is, "{value}");
        }
    }
}
