//! QPACK (RFC 9204) without its dynamic table: we allow none, so that no stream waits for another and no client fills our memory, and
//! we use none of the client's.

mod fixed;

use crate::hpack::HpackError;
use crate::hpack::primitives::{integer, next, put_integer, put_name, put_value, string, string_behind};
use fixed::TABLE;
use std::collections::HashMap;
use std::sync::LazyLock;

/// What is wrong with a section: it is none, or refers to a table that is empty. The connection must end (RFC 9204 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QpackError(pub &'static str);

impl From<HpackError> for QpackError {
    fn from(HpackError(why): HpackError) -> QpackError {
        QpackError(why)
    }
}

/// Decodes one whole field section. `field(name, value)` for each field in order, pseudo-fields included; the slices live for the call
/// only. `scratch` is as for `HpackDecoder::decode`.
pub fn read_section(section: &[u8], scratch: &mut Vec<u8>, mut field: impl FnMut(&[u8], &[u8])) -> Result<(), QpackError> {
    let mut rest = section;
    // Required Insert Count, then the sign and Delta Base (§4.5.1). Nothing was inserted.
    let first = next(&mut rest)?;
    let required = integer(&mut rest, first, 0xff)?;
    let sign = next(&mut rest)?;
    integer(&mut rest, sign, 0x7f)?;
    if required != 0 || sign & 0x80 != 0 {
        return Err(OF_NOTHING);
    }
    // §4.5.2 to §4.5.6. What refers to the dynamic table is nothing here.
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        let mut used = 0;
        match first {
            0xc0.. => {
                let (name, value) = fixed(integer(&mut rest, first, 0x3f)?)?;
                field(name.as_bytes(), value.as_bytes());
            }
            0x50..=0x5f | 0x70..=0x7f => {
                let (name, _) = fixed(integer(&mut rest, first, 0x0f)?)?;
                let value = string(&mut rest, scratch, &mut used)?;
                field(name.as_bytes(), value.of(scratch));
            }
            0x20..=0x3f => {
                let name = string_behind(&mut rest, first, 0x07, scratch, &mut used)?;
                let value = string(&mut rest, scratch, &mut used)?;
                field(name.of(scratch), value.of(scratch));
            }
            _ => return Err(OF_NOTHING),
        }
    }
    Ok(())
}

const OF_NOTHING: QpackError = QpackError("an index of nothing");

fn fixed(index: usize) -> Result<(&'static str, &'static str), QpackError> {
    TABLE.get(index).copied().ok_or(OF_NOTHING)
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
        Some(index) => put_integer(out, 0xc0, 0x3f, index),
        None => {
            put_integer(out, 0x50, 0x0f, 24);
            put_value(out, &digits);
        }
    }
}

/// Appends a field, its name in small letters. The caller vouches for names and values.
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let Some((first, count)) = entries_of(name) else {
        put_name(out, 0x20, 0x07, name);
        return put_value(out, value);
    };
    let run = &TABLE[first..first + count];
    match run.iter().position(|(_, fixed)| fixed.as_bytes() == value) {
        Some(at) => put_integer(out, 0xc0, 0x3f, first + at),
        None => {
            put_integer(out, 0x50, 0x0f, first);
            put_value(out, value);
        }
    }
}

/// Where the entries of a name begin, and how many they are. Letters may be large.
fn entries_of(name: &[u8]) -> Option<(usize, usize)> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    NAMES.get(&*lower).copied()
}

const NAME_BYTES_MAX: usize = "access-control-allow-credentials".len();

/// The first entry of each name in the static table, and how many follow it.
static NAMES: LazyLock<HashMap<&'static [u8], (usize, usize)>> = LazyLock::new(|| {
    let mut names = HashMap::with_capacity(TABLE.len());
    for (at, (name, _)) in TABLE.iter().enumerate() {
        let run = TABLE[at..].iter().take_while(|(other, _)| other == name).count();
        names.entry(name.as_bytes()).or_insert((at, run));
    }
    names
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(String, Vec<u8>)>;

    fn read(section: &[u8]) -> Result<Fields, QpackError> {
        let mut fields = Fields::new();
        // Memory that holds something already.
        let mut scratch = vec![b'?'; 7];
        read_section(section, &mut scratch, |name, value| {
            fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
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
            assert!(read(wrong).is_err(), "{wrong:x?}");
        }
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
    fn names_are_in_small_letters() {
        let mut out = Vec::new();
        begin_section(&mut out);
        write_field(&mut out, b"X-Mixed", b"Case");
        write_field(&mut out, b"Accept", b"*/*");
        assert_eq!(read(&out).unwrap(), [pair("x-mixed", "Case"), pair("accept", "*/*")]);
        assert_eq!(out.last(), Some(&0xdd), "by index");
        for (name, _) in TABLE {
            assert!(entries_of(name.as_bytes()).is_some_and(|(at, _)| TABLE[at].0 == name), "{name}");
        }
    }

    #[test]
    fn strings_in_huffman_s_code_are_read() {
        // RFC 7541 Appendix C.4.3: `custom-key: custom-value`.
        let name = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f];
        let value = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];
        let section = [&[0, 0, 0x2f, 0x01][..], &name, &[0x89], &value, &[0x22, b'x', b'y', 0x89], &value].concat();
        assert_eq!(read(&section).unwrap(), [pair("custom-key", "custom-value"), pair("xy", "custom-value")]);
        let wrong = [&[0, 0, 0x2f, 0x01][..], &[0xff; 8], &[0x01, b'x']].concat();
        assert!(read(&wrong).is_err());
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
