//! Huffman's code of HPACK and QPACK (RFC 7541 Appendix B), which is canonical: the lengths say all. Decodes; what we send is plain.

/// The length of each byte's code, in bits; the last is that of the end, which no text has in it.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28,
    28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7,
    6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24,
    23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27,
    26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25,
    24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const LONGEST: usize = 30;
const END: u16 = 256;

/// The codes of one length follow each other, and so do their symbols.
struct Codes {
    /// The first code of each length.
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    /// Where the symbols of a length begin.
    start: [u32; LONGEST + 1],
    symbols: [u16; 257],
}

static CODES: Codes = codes();

const fn codes() -> Codes {
    let mut codes = Codes { first: [0; LONGEST + 1], count: [0; LONGEST + 1], start: [0; LONGEST + 1], symbols: [0; 257] };
    let (mut length, mut code, mut at) = (1, 0, 0);
    while length <= LONGEST {
        code <<= 1;
        codes.first[length] = code;
        codes.start[length] = at;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                codes.symbols[at as usize] = symbol as u16;
                at += 1;
                code += 1;
            }
            symbol += 1;
        }
        codes.count[length] = at - codes.start[length];
        length += 1;
    }
    codes
}

/// Appends the text; fails where the code is none, or its padding is longer than 7 bits or not of ones (§5.2).
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), ()> {
    let (mut code, mut length) = (0u32, 0usize);
    for byte in coded {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            if length > LONGEST {
                return Err(());
            }
            let index = code.wrapping_sub(CODES.first[length]);
            if index < CODES.count[length] {
                match CODES.symbols[(CODES.start[length] + index) as usize] {
                    END => return Err(()),
                    symbol => out.push(symbol as u8),
                }
                (code, length) = (0, 0);
            }
        }
    }
    if length > 7 || code != (1 << length) - 1 { Err(()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(coded: &[u8]) -> Result<String, ()> {
        let mut out = Vec::new();
        decode(coded, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541 Appendix C.4 and C.6.
        for (coded, plain) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0x64, 0x02], "302"),
            (&[], ""),
        ] {
            assert_eq!(text(coded).as_deref(), Ok(plain));
        }
    }

    #[test]
    fn padding_is_short_and_of_ones() {
        for wrong in [
            &[0xff][..],
            &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbe],
            &[0x64, 0x02, 0xff],
            &[0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xfc],
        ] {
            assert_eq!(text(wrong), Err(()), "{wrong:x?}");
        }
    }

    #[test]
    fn every_byte_has_a_code() {
        for symbol in 0..256u32 {
            let length = LENGTHS[symbol as usize] as usize;
            let at = (0..CODES.count[length]).find(|at| u32::from(CODES.symbols[(CODES.start[length] + at) as usize]) == symbol);
            let code = CODES.first[length] + at.unwrap();
            let bits = u64::from(code) << (64 - length) | (u64::MAX >> length);
            let bytes = &bits.to_be_bytes()[..length.div_ceil(8)];
            let mut out = Vec::new();
            decode(bytes, &mut out).unwrap();
            assert_eq!(out, [symbol as u8]);
        }
    }
}
