//! Makes inputs from inputs: flipped bits, pieces moved within and between seeds, words of HTTP and YAML, lengths that lie. Seeded: the
//! same seed gives the same inputs in the same order.

/// Above this an input costs more than it finds.
const BYTES_MAX: usize = 4096;

const WORDS: [&[u8]; 72] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\r\n",
    b"\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3\xa9",
    b":",
    b";",
    b",",
    b"=",
    b"\"",
    b"'",
    b"_",
    b"-",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a",
    b"*a",
    b"!!str",
    b"|",
    b"# ",
    b"- ",
    b": ",
    b"GET ",
    b"HEAD ",
    b"OPTIONS * ",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b" HTTP/1.1\r\n",
    b"http://",
    b"HTTP/1.1 200 OK\r\n",
    b" 304 ",
    b"Host: b\r\n",
    b"Content-Length: 1\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: x\r\n",
    b"Connection: close\r\n",
    b"Connection: host, x\r\n",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"TE: trailers\r\n",
    b"X: y\r\n",
    b"chunked",
    b"0\r\n\r\n",
    b"1\r\na\r\n",
    b"0\r\n",
    b";x=y\r\n",
    b"..",
    b"/../",
    b"/./",
    b"//",
    b"%2e",
    b"%2F",
    b"%5c",
    b"%00",
    b"%25",
    b"/{x}",
    b"/{rest+}",
    b"?",
];

const NUMBERS: [&[u8]; 16] = [
    b"0",
    b"1",
    b"-1",
    b"+1",
    b"00",
    b"0x1",
    b"16",
    b"ff",
    b"255",
    b"256",
    b"65536",
    b"4294967296",
    b"99999999999999999",
    b"18446744073709551616",
    b"fffffffffffffff",
    b"10000000000000000",
];

pub struct Mutator {
    state: u64,
    seeds: Vec<Vec<u8>>,
}

impl Mutator {
    pub fn new(seed: u64, seeds: Vec<Vec<u8>>) -> Mutator {
        assert!(!seeds.is_empty());
        // Nought would stay nought for ever.
        Mutator { state: seed | 1, seeds }
    }

    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..=self.below(4) {
            self.mutate(&mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn seed(&mut self) -> Vec<u8> {
        let index = self.below(self.seeds.len());
        self.seeds[index].clone()
    }

    /// xorshift64*
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((self.random() >> 33) as usize) % bound.max(1)
    }

    /// A piece of `bytes`, mostly a short one.
    fn piece(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let at = self.below(bytes.len() + 1);
        let longest = if self.below(4) == 0 { bytes.len() } else { 24 };
        at..at + self.below(longest + 1).min(bytes.len() - at)
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        match self.below(11) {
            0 | 1 => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            2 => {
                let word = WORDS[self.below(WORDS.len())];
                let end = (at + word.len()).min(input.len());
                input.splice(at..end, word.iter().copied());
            }
            3 if at < input.len() => input[at] ^= 1 << self.below(8),
            4 if at < input.len() => input[at] = self.random() as u8,
            5 => {
                let piece = self.piece(input);
                input.drain(piece);
            }
            6 => {
                let piece = self.piece(input);
                let copy = input[piece].to_vec();
                input.splice(at..at, copy);
            }
            7 => {
                let other = self.seed();
                let piece = self.piece(&other);
                input.splice(at..at, other[piece].iter().copied());
            }
            8 => {
                // The head of one and the tail of another.
                let other = self.seed();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            9 => self.number(input, at),
            _ => self.line(input),
        }
    }

    /// Another number where one stands, at or behind `at`.
    fn number(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|offset| at + offset) else { return };
        let digits = input[start..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let number = NUMBERS[self.below(NUMBERS.len())];
        input.splice(start..start + digits, number.iter().copied());
    }

    /// A line doubled, removed, or put elsewhere.
    fn line(&mut self, input: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> = input.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        if lines.is_empty() {
            return;
        }
        let from = self.below(lines.len());
        let line = if self.below(2) == 0 { lines.remove(from) } else { lines[from].clone() };
        if self.below(4) > 0 {
            let to = self.below(lines.len() + 1);
            lines.insert(to, line);
        }
        *input = lines.concat();
    }
}
