//! The code of RFC 7541, appendix B. It is canonical: within a length, codes count up with the symbol, so that lengths are enough.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Bits of each symbol's code; the end of string, the 257th symbol, has `END_BITS`.
#[rustfmt::skip]
const BITS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,  5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const END: u16 = 256;
const END_BITS: u8 = 30;

/// Length and code, to symbol.
fn codes() -> &'static HashMap<(u8, u32), u16> {
    static CODES: OnceLock<HashMap<(u8, u32), u16>> = OnceLock::new();
    CODES.get_or_init(|| {
        let mut symbols: Vec<(u8, u16)> = (0..256).zip(BITS).map(|(symbol, bits)| (bits, symbol)).collect();
        symbols.push((END_BITS, END));
        symbols.sort_unstable();
        let (mut code, mut length) = (0u32, 0);
        let mut codes = HashMap::new();
        for (bits, symbol) in symbols {
            code <<= bits - length;
            codes.insert((bits, code), symbol);
            (code, length) = (code + 1, bits);
        }
        codes
    })
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let (mut code, mut length) = (0u32, 0u8);
    for byte in bytes {
        for at in (0..8).rev() {
            code = code << 1 | u32::from(byte >> at & 1);
            length += 1;
            match codes().get(&(length, code)) {
                Some(&END) => return Err("Huffman: the end of string within a string".into()),
                Some(&symbol) => {
                    out.push(symbol as u8);
                    (code, length) = (0, 0);
                }
                None if length >= END_BITS => return Err("Huffman: no such code".into()),
                None => {}
            }
        }
    }
    // What is left must be padding: at most seven bits, all ones.
    if length > 7 || code != (1 << length) - 1 {
        return Err(format!("Huffman: {length} bits of padding, {code:b}"));
    }
    Ok(out)
}
