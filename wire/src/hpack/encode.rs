//! Writes fields for HPACK without state: indices of the static table, and literals that enter no table (RFC 7541 §6.1, §6.2.2, §6.2.3).
//! Never Huffman's code: it costs more time than the bytes are worth. The caller vouches for names and values.

use super::fixed;
use super::primitives::{put_integer, put_name, put_value};
use crate::names::Name;

const INDEXED: u8 = 0x80;
/// A literal that others may put into a table when they forward it.
const LITERAL: u8 = 0x00;
/// A literal that nobody may: guessing would tell what it says (§7.1.3).
const NEVER_INDEXED: u8 = 0x10;

/// An integer of a `usize` and its prefix: seven bits a byte.
const INTEGER_BYTES_MAX: usize = 11;

/// The index of `:status: 200`, the first of that name.
const STATUS: u8 = 8;

/// Appends `:status`. `status`: three digits.
pub fn hpack_status(out: &mut Vec<u8>, status: u16) {
    debug_assert!((100..1000).contains(&status), "{status} is no status");
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            let digit = |unit| b'0' + (status / unit % 10) as u8;
            return out.extend_from_slice(&[LITERAL | STATUS, 3, digit(100), digit(10), digit(1)]);
        }
    };
    out.push(INDEXED | index);
}

/// Appends a field, its name in small letters.
pub fn hpack_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    write(out, fixed::index_of(name), name, value);
}

/// The same for a name that was looked up already: `known` is `Name::of(name)`.
pub fn hpack_known(out: &mut Vec<u8>, known: Name, name: &[u8], value: &[u8]) {
    debug_assert_eq!(known, Name::of(name));
    match known {
        Name::Other => hpack_field(out, name, value),
        known => write(out, fixed::index_of_known(known), name, value),
    }
}

/// Appends a size update to 0. Due at the start of the first block after the peer lowered its SETTINGS_HEADER_TABLE_SIZE (RFC 7541 §4.2),
/// though we insert nothing.
pub fn hpack_no_table(out: &mut Vec<u8>) {
    out.push(0x20);
}

/// `index`: the lowest of that name in the static table, or 0.
fn write(out: &mut Vec<u8>, index: u8, name: &[u8], value: &[u8]) {
    for index in fixed::pairs_of(index) {
        if fixed::TABLE[usize::from(index) - 1].1 == value {
            return out.push(INDEXED | index);
        }
    }
    out.reserve(name.len() + value.len() + 1 + 2 * INTEGER_BYTES_MAX);
    let kind = if is_secret(index, name) { NEVER_INDEXED } else { LITERAL };
    put_integer(out, kind, 0x0f, usize::from(index));
    if index == 0 {
        put_name(out, 0, 0x7f, name);
    }
    put_value(out, value);
}

/// Credentials, short enough or old enough to be guessed one letter after the other. The static table has some, by index.
fn is_secret(index: u8, name: &[u8]) -> bool {
    const AUTHORIZATION: u8 = 23;
    const COOKIE: u8 = 32;
    const PROXY_AUTHORIZATION: u8 = 49;
    const SET_COOKIE: u8 = 55;
    match index {
        0 => match name.len() {
            9 => name.eq_ignore_ascii_case(b"x-api-key"),
            12 => name.eq_ignore_ascii_case(b"x-auth-token") || name.eq_ignore_ascii_case(b"x-csrf-token"),
            _ => false,
        },
        AUTHORIZATION | COOKIE | PROXY_AUTHORIZATION | SET_COOKIE => true,
        _ => false,
    }
}
