//! QPACK (RFC 9204) without its dynamic table: we allow none, so that no stream waits for another and no client fills our memory, and
//! we use none of the client's.

mod fixed;
mod huffman;

use crate::field_h2;
use fixed::TABLE;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Why a field section was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread<E> {
    /// It is none, or refers to a table that is empty. The connection must end (RFC 9204 §2.2).
    Broken,
    /// Whoever takes the fields wants no more.
    Refused(E),
}

/// Gives each field of a section to `each`, in order. `text` is memory for what must be decompressed.
pub fn read_section<E>(
    section: &[u8],
    text: &mut Vec<u8>,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), Unread<E>> {
    let mut rest = section;
    // Required Insert Count, then the sign and Delta Base (§4.5.1). Nothing was inserted.
    let required = integer(&mut rest, 8).ok_or(Unread::Broken)?;
    let is_negative = rest.first().is_none_or(|first| first & 0x80 != 0);
    if required != 0 || is_negative || integer(&mut rest, 7).is_none() {
        return Err(Unread::Broken);
    }
    while let Some(&first) = rest.first() {
        text.clear();
        let field = field(first, &mut rest, text).ok_or(Unread::Broken)?;
        let (name, value) = match field {
            Field::Fixed(name, value) => (name.as_bytes(), value.as_bytes()),
            Field::FixedName(name) => (name.as_bytes(), &text[..]),
            Field::Literal(name) => text.split_at(name),
        };
        each(name, value).map_err(Unread::Refused)?;
    }
    Ok(())
}

enum Field {
    Fixed(&'static str, &'static str),
    /// The value is in the text.
    FixedName(&'static str),
    /// Both are; the name has so many bytes.
    Literal(usize),
}

/// RFC 9204 §4.5.2 to §4.5.6. What refers to the dynamic table is nothing here.
fn field(first: u8, rest: &mut &[u8], text: &mut Vec<u8>) -> Option<Field> {
    let fixed = |index: u64| TABLE.get(usize::try_from(index).ok()?);
    match first {
        0xc0.. => {
            let (name, value) = fixed(integer(rest, 6)?)?;
            Some(Field::Fixed(name, value))
        }
        0x50..=0x5f | 0x70..=0x7f => {
            let (name, _) = fixed(integer(rest, 4)?)?;
            string(rest, 7, text)?;
            Some(Field::FixedName(name))
        }
        0x20..=0x3f => {
            string(rest, 3, text)?;
            let name = text.len();
            string(rest, 7, text)?;
            Some(Field::Literal(name))
        }
        _ => None,
    }
}

/// An integer in the low bits of the first byte, and in those that follow (RFC 7541 §5.1).
fn integer(rest: &mut &[u8], bits: u32) -> Option<u64> {
    let (&first, mut tail) = rest.split_first()?;
    let most = (1u64 << bits) - 1;
    let mut value = u64::from(first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (&byte, after) = tail.split_first()?;
            tail = after;
            // Far more than any length that can be here.
            if shift > 28 {
                return None;
            }
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = tail;
    Some(value)
}

/// Appends a string, whose length has so many bits behind the one that says whether it is compressed.
fn string(rest: &mut &[u8], bits: u32, text: &mut Vec<u8>) -> Option<()> {
    let is_coded = rest.first()? >> bits & 1 == 1;
    let length = usize::try_from(integer(rest, bits)?).ok()?;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    match is_coded {
        true => huffman::decode(bytes, text).ok(),
        false => {
            text.extend_from_slice(bytes);
            Some(())
        }
    }
}

/// Begins a section that refers to nothing that can change.
pub fn begin_section(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

pub fn write_status(out: &mut Vec<u8>, status: u16) {
    let digits = [status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
    // They stand at two places of the table.
    let known = (24..=28).chain(63..=71).find(|index: &usize| TABLE[*index].1.as_bytes() == digits);
    match known {
        Some(index) => put_integer(out, 0xc0, 6, index),
        None => {
            put_integer(out, 0x50, 4, 24);
            put_value(out, &digits);
        }
    }
}

/// Appends a field, its name in lower case as it must be (RFC 9114 §4.2).
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let Some(&(first, count)) = NAMES.get(name) else {
        put_integer(out, 0x20, 3, name.len());
        out.extend(name.iter().map(u8::to_ascii_lowercase));
        return put_value(out, value);
    };
    let run = &TABLE[first..first + count];
    match run.iter().position(|(_, fixed)| fixed.as_bytes() == value) {
        Some(at) => put_integer(out, 0xc0, 6, first + at),
        None => {
            put_integer(out, 0x50, 4, first);
            put_value(out, value);
        }
    }
}

/// What HTTP/3 could not carry, or must not, is left out.
pub fn write_forwarded(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let lower;
    let name = match name.iter().any(u8::is_ascii_uppercase) {
        true => {
            lower = name.to_ascii_lowercase();
            &lower[..]
        }
        false => name,
    };
    if field_h2::check(name, value).is_ok() {
        write_field(out, name, value);
    }
}

/// The first entry of each name in the static table, and how many follow it.
static NAMES: LazyLock<HashMap<&'static [u8], (usize, usize)>> = LazyLock::new(|| {
    let mut names = HashMap::with_capacity(TABLE.len());
    for (at, (name, _)) in TABLE.iter().enumerate() {
        let run = TABLE[at..].iter().take_while(|(other, _)| other == name).count();
        names.entry(name.as_bytes()).or_insert((at, run));
    }
    names
});

fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    put_integer(out, 0, 7, value.len());
    out.extend_from_slice(value);
}

fn put_integer(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | most as u8);
    let mut left = value - most;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(String, Vec<u8>)>;

    fn read(section: &[u8]) -> Result<Fields, Unread<()>> {
        let mut fields = Fields::new();
        read_section(section, &mut Vec::new(), |name, value| {
            fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
            Ok(())
        })?;
        Ok(fields)
    }

    fn pair(name: &str, value: &str) -> (String, Vec<u8>) {
        (name.to_owned(), value.as_bytes().to_vec())
    }

    #[test]
    fn a_section_that_refers_to_the_static_table() {
        // RFC 9204 Appendix B.1.
        let section = [&[0, 0, 0x51, 0x0b][..], b"/index.html"].concat();
        assert_eq!(read(&section).unwrap(), [pair(":path", "/index.html")]);
        assert_eq!(read(&[0, 0, 0xd1, 0xff, 0x00]).unwrap(), [pair(":method", "GET"), pair(":status", "100")]);
        assert_eq!(read(&[0, 0, 0x22, b'x', b'y', 0x01, b'z']).unwrap(), [pair("xy", "z")]);
        assert_eq!(read(&[0, 0, 0x29, 0xf3, 0x82, 0x64, 0x02]).map(|fields| fields[0].1.clone()), Ok(b"302".to_vec()));
        assert_eq!(read(&[0, 0]).unwrap(), []);
    }

    #[test]
    fn what_refers_to_an_empty_table_or_breaks_off_is_broken() {
        for wrong in [
            &[][..],
            &[0],
            &[1, 0],
            &[0, 0x80],
            &[0, 0, 0x80],
            &[0, 0, 0x40, 0x00],
            &[0, 0, 0x10],
            &[0, 0, 0x00, 0x00],
            &[0, 0, 0xff, 0x24],
            &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0, 0, 0x51, 0x02, b'/'],
            &[0, 0, 0x51, 0x81, 0x00],
            &[0, 0, 0x22, b'x'],
            &[0, 0, 0x51],
        ] {
            assert_eq!(read(wrong), Err(Unread::Broken), "{wrong:x?}");
        }
    }

    #[test]
    fn each_may_refuse() {
        let mut seen = 0;
        let refused = read_section(&[0, 0, 0xd1, 0xd1], &mut Vec::new(), |_, _| {
            seen += 1;
            Err("enough")
        });
        assert_eq!((refused, seen), (Err(Unread::Refused("enough")), 1));
    }

    #[test]
    fn statuses_are_as_short_as_they_can_be() {
        for (status, bytes) in [(200, 3), (404, 3), (204, 4), (500, 4), (418, 8)] {
            let mut out = Vec::new();
            begin_section(&mut out);
            write_status(&mut out, status);
            assert_eq!(read(&out).unwrap(), [pair(":status", &status.to_string())]);
            assert_eq!(out.len(), bytes, "{status}: {out:x?}");
        }
    }

    #[test]
    fn what_cannot_be_carried_is_left_out() {
        let mut out = Vec::new();
        begin_section(&mut out);
        write_forwarded(&mut out, b"Connection", b"close");
        write_forwarded(&mut out, b"x-a", b"line\nbreak");
        write_forwarded(&mut out, b"X-Mixed", b"Case");
        assert_eq!(read(&out).unwrap(), [pair("x-mixed", "Case")]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in prop::collection::vec(("[a-z-]{1,40}", prop::collection::vec(any::<u8>(), 0..300)), 0..20)) {
            let mut out = Vec::new();
            begin_section(&mut out);
            for (name, value) in &fields {
                write_field(&mut out, name.as_bytes(), value);
            }
            prop_assert_eq!(read(&out).unwrap(), fields);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[&[0, 0][..], &bytes].concat());
        }
    }
}
