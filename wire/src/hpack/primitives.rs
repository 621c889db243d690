//! Integers and strings (RFC 7541 §5), which HPACK and QPACK write alike.

use super::{HpackError, huffman};

/// An integer has so many bytes behind its prefix at most, padding included: 2^28 and what the prefix holds. No string is longer.
const INTEGER_BYTES_MAX: u32 = 4;

/// A string of a literal: where its bytes are.
#[derive(Clone, Copy)]
pub(crate) enum Text<'a> {
    Plain(&'a [u8]),
    /// In the scratch memory, so many bytes from here on.
    Scratch(usize, usize),
}

impl<'a> Text<'a> {
    pub fn of(self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Text::Plain(bytes) => bytes,
            Text::Scratch(at, length) => &scratch[at..at + length],
        }
    }
}

/// The first `length` bytes of the scratch memory, which grows for that if it must.
pub(crate) fn reserve(scratch: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if scratch.len() < length {
        scratch.resize(length.next_power_of_two(), 0);
    }
    scratch
}

/// §5.1. `first` is its first byte, of which `mask` are the bits of the prefix.
#[inline]
pub(crate) fn integer(rest: &mut &[u8], first: u8, mask: u8) -> Result<usize, HpackError> {
    let prefix = first & mask;
    if prefix < mask { Ok(usize::from(prefix)) } else { long_integer(rest, mask) }
}

fn long_integer(rest: &mut &[u8], mask: u8) -> Result<usize, HpackError> {
    let mut value = usize::from(mask);
    for at in 0..INTEGER_BYTES_MAX {
        let byte = next(rest)?;
        value += usize::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(HpackError("an integer that is too long"))
}

pub(crate) fn next(rest: &mut &[u8]) -> Result<u8, HpackError> {
    let (&byte, behind) = rest.split_first().ok_or(HpackError("a block that breaks off"))?;
    *rest = behind;
    Ok(byte)
}

/// §5.2. What must be decoded is put into the scratch memory behind `used`, which moves on.
pub(crate) fn string<'a>(rest: &mut &'a [u8], scratch: &mut Vec<u8>, used: &mut usize) -> Result<Text<'a>, HpackError> {
    let first = next(rest)?;
    string_behind(rest, first, 0x7f, scratch, used)
}

/// The same, where `first` is read already: `mask` are the bits of the length, and the next higher says whether it is Huffman's code.
pub(crate) fn string_behind<'a>(
    rest: &mut &'a [u8],
    first: u8,
    mask: u8,
    scratch: &mut Vec<u8>,
    used: &mut usize,
) -> Result<Text<'a>, HpackError> {
    let length = integer(rest, first, mask)?;
    let (bytes, behind) = rest.split_at_checked(length).ok_or(HpackError("a string that breaks off"))?;
    *rest = behind;
    if first & (mask + 1) == 0 {
        return Ok(Text::Plain(bytes));
    }
    let at = *used;
    let length = huffman::decode(bytes, &mut reserve(scratch, at + huffman::room(length))[at..])?;
    *used += length;
    Ok(Text::Scratch(at, length))
}

/// Appends an integer behind the bits `kind` of its first byte; `mask` are the others.
pub(crate) fn put_integer(out: &mut Vec<u8>, kind: u8, mask: u8, value: usize) {
    if value < usize::from(mask) {
        return out.push(kind | value as u8);
    }
    out.push(kind | mask);
    let mut rest = value - usize::from(mask);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a name in small letters, behind its length.
pub(crate) fn put_name(out: &mut Vec<u8>, kind: u8, mask: u8, name: &[u8]) {
    put_integer(out, kind, mask, name.len());
    let at = out.len();
    out.extend_from_slice(name);
    out[at..].make_ascii_lowercase();
}

/// Appends a value as it is, behind its length.
pub(crate) fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    put_integer(out, 0, 0x7f, value.len());
    out.extend_from_slice(value);
}
