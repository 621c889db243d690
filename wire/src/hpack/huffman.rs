//! The string code of HPACK (RFC 7541 §5.2 and appendix B), decoded by tables that are made while compiling. Only reads: our encoder
//! never writes it.

use super::HpackError;

/// Bits of each symbol's code (appendix B), the end of string last. The code is canonical: within a length, codes count up with the
/// symbol, so that lengths are enough.
#[rustfmt::skip]
const BITS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,  5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const SYMBOLS: usize = 257;
const END: u16 = 256;

/// No code is shorter or longer.
const SHORTEST: usize = 5;
const LONGEST: u32 = 30;

/// How many bits a step looks at: enough for all of ASCII that is usual, and for two symbols that are frequent. One more is a tenth
/// faster, and twice the memory: 8 KiB are a quarter of a core's nearest.
const WINDOW: u32 = 11;

/// What a window starts with. Longer codes have steps of no bits.
#[derive(Clone, Copy)]
struct Step {
    symbols: [u8; 2],
    /// Bits of the first symbol.
    first: u8,
    /// Bits of all its symbols: more than `first` if the second is whole, too.
    bits: u8,
}

static STEPS: [Step; 1 << WINDOW] = steps();
static LONG: Long = long();

/// Codes of any length, for those that no window holds.
struct Long {
    /// For each length, the last 32 bits that start with a code of that length or a shorter one.
    last: [u32; LONGEST as usize + 1],
    /// For each length, what to add to a code to find it in `symbols`; wraps.
    offset: [u32; LONGEST as usize + 1],
    /// By length, then by symbol.
    symbols: [u16; SYMBOLS],
}

const fn long() -> Long {
    let mut long = Long { last: [0; LONGEST as usize + 1], offset: [0; LONGEST as usize + 1], symbols: [0; SYMBOLS] };
    let (mut code, mut count, mut length) = (0u32, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        long.offset[length as usize] = (count as u32).wrapping_sub(code);
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if BITS[symbol] as u32 == length {
                long.symbols[count] = symbol as u16;
                count += 1;
                code += 1;
            }
            symbol += 1;
        }
        // No code is shorter than `SHORTEST`: nothing starts with one.
        long.last[length as usize] = (((code as u64) << (32 - length)) as u32).saturating_sub(1);
        length += 1;
    }
    // The last code is all ones: what is above it was shifted out.
    long.last[LONGEST as usize] = u32::MAX;
    long
}

const fn steps() -> [Step; 1 << WINDOW] {
    let mut steps = [Step { symbols: [0; 2], first: 0, bits: 0 }; 1 << WINDOW];
    let long = long();
    // In the order of codes, windows fill up one behind the other.
    let (mut at, mut window) = (0, 0);
    while (BITS[long.symbols[at] as usize] as u32) <= WINDOW {
        let bits = BITS[long.symbols[at] as usize];
        let end = window + (1 << (WINDOW - bits as u32));
        while window < end {
            steps[window] = Step { symbols: [long.symbols[at] as u8, 0], first: bits, bits };
            window += 1;
        }
        at += 1;
    }
    let alone = steps;
    window = 0;
    while window < steps.len() {
        let step = &mut steps[window];
        let next = alone[window << step.first & ((1 << WINDOW) - 1)];
        if step.first > 0 && next.first > 0 && step.first + next.first <= WINDOW as u8 {
            step.symbols[1] = next.symbols[0];
            step.bits += next.first;
        }
        window += 1;
    }
    steps
}

impl Long {
    /// The symbol that `bits` start with, and how many of them it takes.
    fn find(&self, bits: u32) -> (u16, u32) {
        let mut length = SHORTEST;
        while bits > self.last[length] {
            length += 1;
        }
        let code = bits >> (32 - length);
        (self.symbols[code.wrapping_add(self.offset[length]) as usize], length as u32)
    }
}

impl Step {
    fn of(bits: u64) -> Step {
        STEPS[(bits >> (64 - WINDOW)) as usize]
    }

    fn symbol_count(self) -> usize {
        1 + usize::from(self.bits > self.first)
    }
}

/// How many bytes `decode` needs for a string of `length` bytes: the shortest codes for all of them, and one byte that a step of two
/// symbols may write in vain.
pub(super) fn room(length: usize) -> usize {
    length * 8 / SHORTEST + 2
}

/// Decodes a whole string to the start of `out`, of `room(input.len())` bytes at least, and says how many bytes it has. Refuses the end
/// of string within it, and padding that is longer than seven bits or has a zero (RFC 7541 §5.2).
pub(super) fn decode(mut input: &[u8], out: &mut [u8]) -> Result<usize, HpackError> {
    // Bits not yet decoded stand at the top of `bits`. `count` of them are taken from `input`; what is behind is what comes next.
    let (mut bits, mut count, mut at) = (0u64, 0u32, 0);
    while !input.is_empty() {
        let (word, length) = front(input);
        bits |= word >> count;
        let bytes = ((63 - count) / 8).min(length);
        input = &input[bytes as usize..];
        count += bytes * 8;
        while count >= LONGEST {
            let step = Step::of(bits);
            let used = if step.bits > 0 {
                out[at..at + 2].copy_from_slice(&step.symbols);
                at += step.symbol_count();
                u32::from(step.bits)
            } else {
                let (symbol, length) = LONG.find((bits >> 32) as u32);
                out[at] = text(symbol)?;
                at += 1;
                length
            };
            bits <<= used;
            count -= used;
        }
    }
    loop {
        let padded = bits | u64::MAX >> count;
        let step = Step::of(padded);
        let used = if step.bits > 0 && u32::from(step.bits) <= count {
            out[at..at + 2].copy_from_slice(&step.symbols);
            at += step.symbol_count();
            u32::from(step.bits)
        } else {
            let (symbol, length) =
                if step.bits > 0 { (step.symbols[0].into(), step.first.into()) } else { LONG.find((padded >> 32) as u32) };
            if length > count {
                break;
            }
            out[at] = text(symbol)?;
            at += 1;
            length
        };
        bits <<= used;
        count -= used;
    }
    if count > 7 {
        return Err(HpackError("a string with more than seven bits of padding"));
    }
    if bits | u64::MAX >> count != u64::MAX { Err(HpackError("a string padded with other bits than ones")) } else { Ok(at) }
}

/// The first bytes of `input`, and how many they are: eight at most. Behind its end stands padding as it should be.
fn front(input: &[u8]) -> (u64, u32) {
    match input.first_chunk::<8>() {
        Some(chunk) => (u64::from_be_bytes(*chunk), 8),
        None => {
            let length = input.len() as u32;
            let bytes = input.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
            (!(!bytes << ((8 - length) * 8)), length)
        }
    }
}

fn text(symbol: u16) -> Result<u8, HpackError> {
    if symbol == END { Err(HpackError("the end of string within a string")) } else { Ok(symbol as u8) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Codes of all symbols, as digits.
    fn codes() -> Vec<String> {
        let mut order: Vec<usize> = (0..SYMBOLS).collect();
        order.sort_by_key(|&symbol| BITS[symbol]);
        let mut codes = vec![String::new(); SYMBOLS];
        let mut code = 0u64;
        for (at, &symbol) in order.iter().enumerate() {
            codes[symbol] = format!("{code:0width$b}", width = BITS[symbol] as usize);
            let next = order.get(at + 1).map_or(BITS[symbol], |&next| BITS[next]);
            code = (code + 1) << (next - BITS[symbol]);
        }
        assert_eq!(code, 1 << LONGEST, "the code is complete");
        codes
    }

    pub(in crate::hpack) fn encode(bytes: &[u8]) -> Vec<u8> {
        let codes = codes();
        let mut digits: String = bytes.iter().map(|&byte| codes[byte as usize].as_str()).collect();
        while !digits.len().is_multiple_of(8) {
            digits.push('1');
        }
        digits.as_bytes().chunks(8).map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap()).collect()
    }

    /// Bit by bit.
    fn decode_plainly(input: &[u8]) -> Result<Vec<u8>, ()> {
        let codes: std::collections::HashMap<String, usize> = codes().into_iter().zip(0..).collect();
        let (mut out, mut code) = (Vec::new(), String::new());
        for digit in input.iter().flat_map(|byte| format!("{byte:08b}").into_bytes()) {
            code.push(digit as char);
            if let Some(&symbol) = codes.get(&code) {
                out.push(u8::try_from(symbol).map_err(|_| ())?);
                code.clear();
            }
        }
        if code.len() < 8 && !code.contains('0') { Ok(out) } else { Err(()) }
    }

    fn decode_fast(input: &[u8]) -> Result<Vec<u8>, ()> {
        // No byte more than was asked for.
        let mut out = vec![b'?'; room(input.len())];
        let length = decode(input, &mut out).map_err(|_| ())?;
        Ok(out[..length].to_vec())
    }

    #[test]
    fn codes_are_those_of_appendix_b() {
        let codes = codes();
        for (symbol, code) in [
            (0, "1111111111000"),
            (usize::from(b'\n'), "111111111111111111111111111100"),
            (usize::from(b' '), "010100"),
            (usize::from(b'0'), "00000"),
            (usize::from(b'a'), "00011"),
            (usize::from(b'z'), "1111011"),
            (usize::from(b'{'), "111111111111110"),
            (127, "1111111111111111111111111100"),
            (128, "11111111111111100110"),
            (255, "11111111111111111111101110"),
            (256, "111111111111111111111111111111"),
        ] {
            assert_eq!(codes[symbol], code, "{symbol}");
        }
    }

    #[test]
    fn every_pair_of_symbols_is_read() {
        let codes = codes();
        let coded = |pair: [u8; 2]| codes[pair[0] as usize].len() + codes[pair[1] as usize].len();
        for first in 0..=255 {
            for second in 0..=255 {
                let pair = [first, second];
                let mut out = [0; 16];
                let digits = format!("{}{}{}", codes[first as usize], codes[second as usize], "1111111");
                let bytes = coded(pair).div_ceil(8);
                let value = u128::from_str_radix(&digits, 2).unwrap() << (128 - digits.len());
                assert_eq!(decode(&value.to_be_bytes()[..bytes], &mut out), Ok(2), "{pair:?}");
                assert_eq!(out[..2], pair);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_as_they_are_bit_by_bit(input in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode_fast(&input), decode_plainly(&input));
        }

        #[test]
        fn what_is_coded_is_read(text in proptest::collection::vec(any::<u8>(), 0..60), ascii in "[ -~]{0,60}", cut in 0usize..40) {
            for text in [&text[..], ascii.as_bytes()] {
                let mut coded = encode(text);
                prop_assert_eq!(decode_fast(&coded), Ok(text.to_vec()));
                coded.truncate(cut);
                prop_assert_eq!(decode_fast(&coded), decode_plainly(&coded));
            }
        }
    }
}
