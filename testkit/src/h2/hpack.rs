//! HPACK (RFC 7541): a decoder for everything, and pieces from which a test puts together what it wants to send, right or wrong.

use super::huffman;
use std::collections::VecDeque;

/// The static table of appendix A, without its index 0.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
    ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""),
    ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""),
    ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// What SETTINGS_HEADER_TABLE_SIZE is until somebody says otherwise.
const TABLE_SIZE: usize = 4096;

/// A field as a literal that changes no table.
pub fn literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = vec![0];
    string(name.as_ref(), &mut out);
    string(value.as_ref(), &mut out);
    out
}

/// A field as a literal that enters the dynamic table.
pub fn remembered(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = vec![0x40];
    string(name.as_ref(), &mut out);
    string(value.as_ref(), &mut out);
    out
}

/// A field that stands in a table: 1 to 61 are the static one, from 62 on the newest of the dynamic one.
pub fn indexed(index: usize) -> Vec<u8> {
    let mut out = Vec::new();
    integer(index, 7, 0x80, &mut out);
    out
}

/// The dynamic table gets another size.
pub fn table_size(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    integer(size, 5, 0x20, &mut out);
    out
}

/// A whole block of literals.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    integer(bytes.len(), 7, 0, out);
    out.extend_from_slice(bytes);
}

pub(crate) fn integer(value: usize, prefix: u32, pattern: u8, out: &mut Vec<u8>) {
    let most = (1 << prefix) - 1;
    if value < most {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Name and value as they came.
pub type Pair = (Vec<u8>, Vec<u8>);

/// One direction's decoder.
#[derive(Debug)]
pub struct Decoder {
    /// The newest first.
    table: VecDeque<Pair>,
    size: usize,
    /// What the encoder chose.
    limit: usize,
    /// What it may choose.
    allowed: usize,
    /// It must say, before any field, that its table is no larger than this.
    owed: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { table: VecDeque::new(), size: 0, limit: TABLE_SIZE, allowed: TABLE_SIZE, owed: usize::MAX }
    }
}

impl Decoder {
    /// What this side announced, once the other has acknowledged it. Of several sizes the smallest must be said too, and then the
    /// last counts (section 4.2).
    pub fn allow(&mut self, sizes: impl IntoIterator<Item = usize>) {
        for size in sizes {
            self.owed = self.owed.min(size);
            self.allowed = size;
        }
    }

    /// Decodes a whole block. Bytes that are no UTF-8 are replaced.
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(self.decode_bytes(block)?.iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// Decodes a whole block.
    pub fn decode_bytes(&mut self, block: &[u8]) -> Result<Vec<Pair>, String> {
        let mut input = Input { bytes: block, at: 0 };
        let mut fields = Vec::new();
        while let Some(first) = input.peek() {
            match first {
                0x80.. => {
                    let index = input.integer(7)?;
                    fields.push(self.entry(index)?);
                }
                0x40..0x80 => {
                    let field = self.literal(&mut input, 6)?;
                    self.insert(field.clone());
                    fields.push(field);
                }
                0x20..0x40 => {
                    let size = input.integer(5)?;
                    if !fields.is_empty() {
                        return Err("a change of the table's size behind a field".into());
                    }
                    if size > self.allowed {
                        return Err(format!("a table of {size} bytes, where {} are allowed", self.allowed));
                    }
                    self.limit = size;
                    self.evict(0);
                    if size <= self.owed {
                        self.owed = usize::MAX;
                    }
                }
                0..0x20 => fields.push(self.literal(&mut input, 4)?),
            }
        }
        // Who keeps a smaller table anyway has nothing to say.
        if self.limit > self.owed.min(self.allowed) {
            return Err("the table was to shrink, and no change of its size came first".into());
        }
        self.owed = usize::MAX;
        Ok(fields)
    }

    fn literal(&mut self, input: &mut Input<'_>, prefix: u32) -> Result<Pair, String> {
        let index = input.integer(prefix)?;
        let name = if index == 0 { input.string()? } else { self.entry(index)?.0 };
        Ok((name, input.string()?))
    }

    fn entry(&self, index: usize) -> Result<Pair, String> {
        let own = |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        match index.checked_sub(1) {
            None => Err("index 0".into()),
            Some(at) if at < STATIC.len() => Ok(own(&STATIC[at])),
            Some(at) => self.table.get(at - STATIC.len()).cloned().ok_or_else(|| format!("nothing at index {index}")),
        }
    }

    fn insert(&mut self, field: Pair) {
        let size = size(&field);
        self.evict(size);
        if size <= self.limit {
            self.size += size;
            self.table.push_front(field);
        }
    }

    /// Makes room for so much.
    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit {
            let Some(oldest) = self.table.pop_back() else { return };
            self.size -= size(&oldest);
        }
    }
}

fn size((name, value): &Pair) -> usize {
    name.len() + value.len() + 32
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, String> {
        let byte = self.peek().ok_or("a block that breaks off")?;
        self.at += 1;
        Ok(byte)
    }

    fn integer(&mut self, prefix: u32) -> Result<usize, String> {
        let most = (1usize << prefix) - 1;
        let mut value = usize::from(self.next()?) & most;
        if value < most {
            return Ok(value);
        }
        for shift in (0..28).step_by(7) {
            let byte = self.next()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("an integer beyond counting".into())
    }

    fn string(&mut self) -> Result<Vec<u8>, String> {
        let huffman = self.peek().is_some_and(|byte| byte >= 0x80);
        let length = self.integer(7)?;
        let bytes = self.bytes.get(self.at..self.at + length).ok_or("a string that breaks off")?;
        self.at += length;
        if huffman { huffman::decode(bytes) } else { Ok(bytes.to_vec()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// Decodes blocks one behind the other, and gives what the last one said and the table that is left.
    fn check(size: usize, blocks: &[(&str, &[(&str, &str)])], left: &[(&str, &str)], bytes: usize) {
        let mut decoder = Decoder { limit: size, ..Decoder::default() };
        for (block, wanted) in blocks {
            let fields = decoder.decode(&hex(block)).unwrap();
            let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(fields, *wanted, "{block}");
        }
        let left: Vec<Pair> = left.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
        assert_eq!((Vec::from(decoder.table), decoder.size), (left, bytes));
    }

    #[test]
    fn integers_are_those_of_appendix_c_1() {
        for (value, prefix, wanted) in [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")] {
            let mut out = Vec::new();
            integer(value, prefix, 0, &mut out);
            assert_eq!(out, hex(wanted));
            assert_eq!(Input { bytes: &out, at: 0 }.integer(prefix), Ok(value));
        }
    }

    #[test]
    fn fields_are_those_of_appendix_c_2() {
        let custom = [("custom-key", "custom-header")];
        check(4096, &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &custom)], &custom, 55);
        check(4096, &[("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")])], &[], 0);
        check(4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")])], &[], 0);
        check(4096, &[("82", &[(":method", "GET")])], &[], 0);
    }

    const REQUESTS: [&[(&str, &str)]; 3] = [
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
            ("cache-control", "no-cache"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ],
    ];
    const AFTER_REQUESTS: &[(&str, &str)] =
        &[("custom-key", "custom-value"), ("cache-control", "no-cache"), (":authority", "www.example.com")];

    #[test]
    fn requests_are_those_of_appendix_c_3() {
        let blocks = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let blocks: Vec<_> = blocks.into_iter().zip(REQUESTS).collect();
        check(4096, &blocks, AFTER_REQUESTS, 164);
    }

    #[test]
    fn requests_in_huffman_s_code_are_those_of_appendix_c_4() {
        let blocks = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        let blocks: Vec<_> = blocks.into_iter().zip(REQUESTS).collect();
        check(4096, &blocks, AFTER_REQUESTS, 164);
    }

    const FIRST: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    const LAST: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    const PLACE: (&str, &str) = ("location", "https://www.example.com");
    const COOKIE: (&str, &str) = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    const RESPONSES: [&[(&str, &str)]; 3] = [
        &[(":status", "302"), ("cache-control", "private"), FIRST, PLACE],
        &[(":status", "307"), ("cache-control", "private"), FIRST, PLACE],
        &[(":status", "200"), ("cache-control", "private"), LAST, PLACE, ("content-encoding", "gzip"), COOKIE],
    ];

    #[test]
    fn responses_are_those_of_appendix_c_5_and_the_table_forgets() {
        let blocks = [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768
             7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153
             444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
             3d31",
        ];
        let blocks: Vec<_> = blocks.into_iter().zip(RESPONSES).collect();
        check(256, &blocks, &[COOKIE, ("content-encoding", "gzip"), LAST], 215);
    }

    #[test]
    fn responses_in_huffman_s_code_are_those_of_appendix_c_6() {
        let blocks = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8
             e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b
             3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ];
        let blocks: Vec<_> = blocks.into_iter().zip(RESPONSES).collect();
        check(256, &blocks, &[COOKIE, ("content-encoding", "gzip"), LAST], 215);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut decoder = Decoder::default();
        let long = "x".repeat(5000);
        let fields = [("a", "b"), ("empty", ""), ("long", long.as_str())];
        let wanted: Vec<_> = fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(decoder.decode(&block(&fields)), Ok(wanted));
        let bytes = [table_size(100), remembered("a", "b"), indexed(62), indexed(2)].concat();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(decoder.decode(&bytes), Ok(vec![pair("a", "b"), pair("a", "b"), pair(":method", "GET")]));
    }

    #[test]
    fn what_breaks_the_rules_is_an_error() {
        let all = |value: &[u8]| [&[0x00, 0x01, b'a', 0x80 | value.len() as u8], value].concat();
        for (bytes, why) in [
            (vec![0x80], "index 0"),
            (indexed(62), "nothing there"),
            (vec![0x00, 0x05, b'a'], "a name that breaks off"),
            (vec![0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], "an integer without end"),
            (table_size(4097), "a table too large"),
            ([indexed(2), table_size(0)].concat(), "a size behind a field"),
            (all(&[0xff, 0xff, 0xff, 0xff]), "the end of string"),
            (all(&[0x00]), "padding of zeros"),
            (all(&[0x07, 0xff]), "more than seven bits of padding"),
        ] {
            assert!(Decoder::default().decode(&bytes).is_err(), "{why}");
        }
    }
}
