//! Cookies of a request (RFC 6265 §4.2.1): pairs between semicolons, in one field or several.

use crate::headers::Headers;
use crate::names::Name;

/// The values of every cookie of that name, in order. Quotes are part of a value.
pub fn cookies<'a>(headers: &'a Headers, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    headers.all_known(Name::Cookie).flat_map(pairs).filter_map(move |pair| value_of(pair, name))
}

/// Every cookie whose name begins so: the rest of its name, and its value.
pub fn cookies_beginning<'a>(headers: &'a Headers, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    headers.all_known(Name::Cookie).flat_map(pairs).filter_map(move |pair| beginning(pair, prefix))
}

/// Takes every cookie of that name out; the others stay as they were.
pub fn remove_cookie(headers: &mut Headers, name: &[u8]) {
    remove(headers, |pair| value_of(pair, name).is_some());
}

/// Takes those out whose name begins so, and of whose name the rest is such.
pub fn remove_cookies_beginning(headers: &mut Headers, prefix: &[u8], is_such: impl Fn(&[u8]) -> bool) {
    remove(headers, |pair| beginning(pair, prefix).is_some_and(|(rest, _)| is_such(rest)));
}

fn remove(headers: &mut Headers, goes: impl Fn(&[u8]) -> bool) {
    if !headers.all_known(Name::Cookie).flat_map(pairs).any(&goes) {
        return;
    }
    let kept: Vec<&[u8]> =
        headers.all_known(Name::Cookie).flat_map(pairs).filter(|pair| !pair.is_empty() && !goes(pair)).collect();
    let kept = kept.join(&b"; "[..]);
    headers.remove_known(Name::Cookie);
    if !kept.is_empty() {
        headers.add(b"cookie", &kept);
    }
}

fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|&byte| byte == b';').map(<[u8]>::trim_ascii)
}

fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    pair.strip_prefix(name)?.strip_prefix(b"=")
}

fn beginning<'a>(pair: &'a [u8], prefix: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let rest = pair.strip_prefix(prefix)?;
    let (name, value) = rest.split_at_checked(rest.iter().position(|&byte| byte == b'=')?)?;
    Some((name, value.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[&str]) -> Headers {
        let mut headers = Headers::default();
        for field in fields {
            headers.add(b"cookie", field.as_bytes());
        }
        headers
    }

    #[test]
    fn values_of_a_name() {
        for (fields, wanted) in [
            (&["user=a"][..], &["a"][..]),
            (&["x=1; user=a=b; user=c"], &["a=b", "c"]),
            (&["xuser=1;user=a"], &["a"]),
            (&["users=1; user"], &[]),
            (&["user="], &[""]),
            (&["user=a", "x=1", "user=b"], &["a", "b"]),
            (&[""], &[]),
        ] {
            let headers = headers(fields);
            let values: Vec<&[u8]> = cookies(&headers, b"user").collect();
            assert_eq!(values, wanted.iter().map(|value| value.as_bytes()).collect::<Vec<_>>(), "{fields:?}");
        }
    }

    #[test]
    fn one_is_taken_out_and_the_others_stay() {
        for (fields, kept) in [
            (&["user=a"][..], None),
            (&["x=1; user=a; y=\"2\";user=b"], Some("x=1; y=\"2\"")),
            (&["user=a", "x=1", "z=3"], Some("x=1; z=3")),
            (&["x=1"], Some("x=1")),
            (&["users=1;"], Some("users=1;")),
        ] {
            let mut headers = headers(fields);
            remove_cookie(&mut headers, b"user");
            let left: Vec<&[u8]> = headers.all_known(Name::Cookie).collect();
            assert_eq!(left, kept.map(str::as_bytes).into_iter().collect::<Vec<_>>(), "{fields:?}");
        }
    }

    #[test]
    fn those_of_a_beginning_are_found_and_taken_out() {
        let mut headers = headers(&["a_1=x; a_=; a=2; a_22=y=z", "b_1=3; a_4"]);
        let found: Vec<(&[u8], &[u8])> = cookies_beginning(&headers, b"a_").collect();
        assert_eq!(found, [(&b"1"[..], &b"x"[..]), (b"", b""), (b"22", b"y=z")]);
        remove_cookies_beginning(&mut headers, b"a_", |rest| rest.len() < 2);
        assert_eq!(headers.get(b"cookie"), Some(&b"a=2; a_22=y=z; b_1=3; a_4"[..]));
    }
}
