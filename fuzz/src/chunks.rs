//! Chunked bodies and trailers: the same body however the bytes arrive, the same body when it is coded anew, and no trailer passes
//! that could frame, route or authenticate the message behind it.

use crate::cuts;
use maitred_wire::{Chunked, ChunkedStep, LAST_CHUNK, chunk_head, forward_trailers};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Decoded {
    body: Vec<u8>,
    /// Its lines; `None` while the body has not ended.
    trailers: Option<Vec<u8>>,
    /// Bytes of the coding up to its end.
    used: usize,
    refused: bool,
}

/// Decodes what arrives in pieces that end at `ends`, the last of which is the end of `data`.
fn decode(data: &[u8], ends: impl Iterator<Item = usize>) -> Decoded {
    let mut decoder = Chunked::default();
    let mut decoded = Decoded::default();
    for end in ends {
        loop {
            let input = &data[decoded.used..end];
            match decoder.step(input) {
                Err(_) => return Decoded { refused: true, used: 0, ..decoded },
                Ok(ChunkedStep::More { skip }) => {
                    decoded.used += skip;
                    break;
                }
                Ok(ChunkedStep::Data { skip, len }) => {
                    assert!(len > 0 && skip + len <= input.len(), "data beyond the input");
                    decoded.body.extend_from_slice(&input[skip..skip + len]);
                    decoded.used += skip + len;
                    decoder.taken(len);
                }
                Ok(ChunkedStep::End { skip, trailers: (from, to) }) => {
                    assert!(decoder.is_done() && from <= to && to <= skip);
                    decoded.trailers = Some(input[from..to].to_vec());
                    decoded.used += skip;
                    return decoded;
                }
            }
        }
    }
    decoded
}

pub fn chunked(data: &[u8]) {
    let whole = decode(data, std::iter::once(data.len()));
    assert_eq!(decode(data, cuts(data.len()).chain([data.len()])), whole, "byte by byte it is another body");
    for cut in cuts(data.len()) {
        assert_eq!(decode(data, [cut, data.len()].into_iter()), whole, "cut at {cut} it is another body");
    }
    if let Some(trailers) = &whole.trailers {
        assert!(data[..whole.used].ends_with(b"\r\n"));
        coded_anew(&whole.body, trailers);
    }
}

fn coded_anew(body: &[u8], trailers: &[u8]) {
    for size in [1, 15, 16, 4096] {
        let mut coded = Vec::new();
        for chunk in body.chunks(size) {
            chunk_head(&mut coded, chunk.len());
            coded.extend_from_slice(chunk);
            coded.extend_from_slice(b"\r\n");
        }
        let mut forwarded = Vec::new();
        forward_trailers(trailers, &mut forwarded);
        if forwarded.is_empty() {
            coded.extend_from_slice(LAST_CHUNK);
        } else {
            coded.extend_from_slice(b"0\r\n");
            coded.extend_from_slice(&forwarded);
            coded.extend_from_slice(b"\r\n");
        }
        let again = decode(&coded, std::iter::once(coded.len()));
        let wanted = Decoded { body: body.to_vec(), trailers: Some(forwarded), used: coded.len(), refused: false };
        assert_eq!(again, wanted, "coded anew in chunks of {size}");
    }
}

/// `data`: a trailer section, with the empty line that ends it.
pub fn trailers(data: &[u8]) {
    let coded = [b"0\r\n", data].concat();
    let decoded = decode(&coded, std::iter::once(coded.len()));
    assert_eq!(decode(&coded, cuts(coded.len()).chain([coded.len()])), decoded, "byte by byte they are others");
    let Some(lines) = decoded.trailers else { return };
    assert!(lines.is_empty() || lines.ends_with(b"\r\n"));
    let mut forwarded = Vec::new();
    forward_trailers(&lines, &mut forwarded);
    for line in forwarded.split_inclusive(|&byte| byte == b'\n') {
        harmless(line);
    }
    let mut again = Vec::new();
    forward_trailers(&forwarded, &mut again);
    assert_eq!(again, forwarded, "forwarded once more they are others");
    coded_anew(b"", &lines);
}

/// Names that RFC 9110 §6.5.1 wants nowhere near the end of a message.
const NEVER: [&str; 12] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn harmless(line: &[u8]) {
    let line = line.strip_suffix(b"\r\n").expect("a trailer ends with CRLF");
    assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "a trailer with a bare CR, LF or NUL passes");
    let colon = line.iter().position(|&byte| byte == b':').expect("a trailer has a colon");
    let name = String::from_utf8(line[..colon].to_ascii_lowercase()).expect("a name is ASCII");
    assert!(!name.is_empty() && !NEVER.contains(&name.replace('_', "-").as_str()), "the trailer {name} passes");
}
