//! Where in a request a credential is: a header, a parameter of the query, a cookie.

use maitred_core::Exchange;
use maitred_core::render::{query_values, query_without};
use maitred_core::wire::{cookies, path, remove_cookie};
use maitred_model::KeyPlace;
use std::borrow::Cow;

/// What stands in its place.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Nothing,
    /// Without the white space around it.
    One(Cow<'a, [u8]>),
    /// Two of them, of which a back end might read the other.
    Several,
}

pub fn find<'a>(place: &'a KeyPlace, exchange: &'a Exchange) -> Found<'a> {
    found(place, exchange, false)
}

/// The same as functions are told it: `+` in a query is a space.
pub fn find_as_form<'a>(place: &'a KeyPlace, exchange: &'a Exchange) -> Found<'a> {
    found(place, exchange, true)
}

fn found<'a>(place: &'a KeyPlace, exchange: &'a Exchange, is_form: bool) -> Found<'a> {
    let headers = &exchange.request.headers;
    match place {
        KeyPlace::Header(name) => one(headers.get_all(name.as_str().as_bytes()).map(|value| Cow::Borrowed(value.trim_ascii()))),
        KeyPlace::Query(name) => {
            let query = exchange.request.query().unwrap_or_default();
            one(query_values(query, name.as_bytes()).map(|value| match value.contains(&b'%') || value.contains(&b'+') {
                false => Cow::Borrowed(value),
                true => {
                    let space = |&byte: &u8| if is_form && byte == b'+' { b' ' } else { byte };
                    let mut decoded = Vec::new();
                    path::decode(&value.iter().map(space).collect::<Vec<u8>>(), &mut decoded);
                    Cow::Owned(decoded)
                }
            }))
        }
        KeyPlace::Cookie(name) => one(cookies(headers, name.as_bytes()).map(Cow::Borrowed)),
    }
}

fn one<'a>(mut values: impl Iterator<Item = Cow<'a, [u8]>>) -> Found<'a> {
    match (values.next(), values.next()) {
        (None, _) => Found::Nothing,
        (Some(only), None) => Found::One(only),
        (Some(_), Some(_)) => Found::Several,
    }
}

/// Takes out whatever stands there; back ends do not see it.
pub fn strip(place: &KeyPlace, exchange: &mut Exchange) {
    let request = &mut exchange.request;
    match place {
        KeyPlace::Header(name) => request.headers.remove(name.as_str().as_bytes()),
        KeyPlace::Cookie(name) => remove_cookie(&mut request.headers, name.as_bytes()),
        KeyPlace::Query(name) => {
            let Some(query) = request.query() else { return };
            let left = query_without(query, name.as_bytes());
            if left.len() < query.len() {
                request.query = (!left.is_empty()).then(|| request.headers.stash(&left));
            }
        }
    }
}
