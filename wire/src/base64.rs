//! Base64 (RFC 4648 §4), strictly: padding where it belongs, no bits left over, nothing else in between. One text for each value, so that
//! nobody smuggles a second spelling past who compares texts.

pub(crate) const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const NONE: u8 = 64;

/// What each byte stands for.
static VALUES: [u8; 256] = values();

const fn values() -> [u8; 256] {
    let mut table = [NONE; 256];
    let mut digit = 0;
    while digit < 64 {
        table[DIGITS[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
}

/// Appends `bytes` as text.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    fill(bytes, &mut out[start..]);
}

/// Writes `bytes` as text. `out` is as long as it gets, and all padding.
pub(crate) fn fill(bytes: &[u8], out: &mut [u8]) {
    for (group, text) in bytes.chunks(3).zip(out.as_chunks_mut::<4>().0) {
        let word = group.iter().zip([16, 8, 0]).fold(0u32, |word, (&byte, shift)| word | u32::from(byte) << shift);
        // One byte makes two digits, two make three: the padding is there already.
        for (digit, shift) in text.iter_mut().take(group.len() + 1).zip([18, 12, 6, 0]) {
            *digit = DIGITS[(word >> shift & 63) as usize];
        }
    }
}

/// What a text stands for; `None` if it is not the one text of anything.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (groups, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(groups.len() * 3);
    for (at, group) in groups.iter().enumerate() {
        let padding = match group {
            [_, _, b'=', b'='] => 2,
            [_, _, _, b'='] => 1,
            _ => 0,
        };
        if padding > 0 && at + 1 < groups.len() {
            return None;
        }
        let mut word = 0u32;
        for &byte in &group[..4 - padding] {
            let value = VALUES[usize::from(byte)];
            if value == NONE {
                return None;
            }
            word = word << 6 | u32::from(value);
        }
        word <<= 6 * padding;
        let [_, bytes @ ..] = word.to_be_bytes();
        let (whole, left_over) = bytes.split_at(3 - padding);
        if left_over.iter().any(|&byte| byte != 0) {
            return None;
        }
        out.extend_from_slice(whole);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_the_standard_go_both_ways() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            let mut out = Vec::new();
            encode(bytes.as_bytes(), &mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
        }
    }

    #[test]
    fn a_second_spelling_is_none() {
        for text in ["Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "Z===", "====", "Zm 9", "Zm9v\n", "Zm-_", "Zg=a"] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "[A-Za-z0-9+/=]{0,12}") {
            if let Some(bytes) = decode(text.as_bytes()) {
                let mut out = Vec::new();
                encode(&bytes, &mut out);
                prop_assert_eq!(out, text.into_bytes());
            }
        }
    }
}
