//! Cases made from cases: small wounds where parsers differ. Seeded, so that a failure comes back.

/// What smugglers put where it does not belong.
const WORDS: [&[u8]; 44] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"\xff",
    b":",
    b";",
    b",",
    b"=",
    b"\"",
    b"_",
    b"-",
    b"0",
    b"1",
    b"a",
    b"+",
    b"0x",
    b"chunked",
    b"identity",
    b"Content-Length: 1\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: x\r\n",
    b"Connection: close\r\n",
    b"Host: b\r\n",
    b"Expect: 100-continue\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"GET ",
    b"0\r\n\r\n",
    b"1\r\na\r\n",
    b"X: y\r\n",
    b"%2e",
    b"..",
    b"http://",
];

pub struct Mutations {
    state: u64,
    /// Those that we accept come first.
    seeds: Vec<Vec<u8>>,
    accepted: usize,
}

impl Mutations {
    pub fn new(seed: u64, accepted: Vec<Vec<u8>>, others: Vec<Vec<u8>>) -> Mutations {
        Mutations { state: seed, accepted: accepted.len(), seeds: accepted.into_iter().chain(others).collect() }
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

    fn wound(&mut self, case: &mut Vec<u8>) {
        let at = self.below(case.len() + 1);
        match self.below(8) {
            0 => {
                if at < case.len() {
                    case.remove(at);
                }
            }
            1 | 2 => {
                let word = WORDS[self.below(WORDS.len())];
                case.splice(at..at, word.iter().copied());
            }
            3 => {
                if at < case.len() {
                    case[at] = self.random() as u8;
                }
            }
            4 => {
                if at < case.len() {
                    case[at] ^= 1 << self.below(8);
                }
            }
            5 => {
                let length = self.below(24).min(case.len() - at);
                let piece = case[at..at + length].to_vec();
                case.splice(at..at, piece);
            }
            6 => self.move_line(case),
            _ => {
                let other = self.below(self.seeds.len());
                let from = self.below(self.seeds[other].len());
                let length = self.below(40).min(self.seeds[other].len() - from);
                let piece = self.seeds[other][from..from + length].to_vec();
                case.splice(at..at, piece);
            }
        }
    }

    /// A line doubled or put elsewhere: fields in other orders, twice, or of another request.
    fn move_line(&mut self, case: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> = case.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        let from = self.below(lines.len());
        let to = self.below(lines.len());
        let line = if self.below(2) == 0 { lines.remove(from) } else { lines[from].clone() };
        lines.insert(to.min(lines.len()), line);
        *case = lines.concat();
    }
}

impl Iterator for Mutations {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        // Half of them grow from what is right: a wound to what is refused anyway mostly stays refused.
        let among = if self.below(2) == 0 { self.accepted } else { self.seeds.len() };
        let seed = self.below(among);
        let mut case = self.seeds[seed].clone();
        for _ in 0..=self.below(3) {
            self.wound(&mut case);
        }
        Some(case)
    }
}
