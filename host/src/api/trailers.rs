//! How a stream says at its end that it failed: by trailers, or, as Rust's runtime does, by the text of trailers as its last chunk.

use bytes::BytesMut;
use maitred_wire::base64;

const TYPE: &[u8] = b"Lambda-Runtime-Function-Error-Type";
const BODY: &[u8] = b"Lambda-Runtime-Function-Error-Body";
/// What such a last chunk begins with.
const QUIRK: &[u8] = b"Lambda-Runtime-Function-Error-Type: ";
/// Of trailers, and of a last chunk that may be them: an error's stack in base64. What is longer is data.
pub(crate) const ERROR_BYTES_MAX: usize = 256 * 1024;

/// Why a stream failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamError {
    pub kind: String,
    /// The error as JSON; empty where it said nothing, or nothing that is base64.
    pub body: Vec<u8>,
}

/// `None`: these fields say nothing of an error.
pub(crate) fn stream_error(lines: &[u8]) -> Option<StreamError> {
    let mut error: Option<StreamError> = None;
    for line in lines.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let empty = || StreamError { kind: String::new(), body: Vec::new() };
        if name.eq_ignore_ascii_case(TYPE) {
            error.get_or_insert_with(empty).kind = String::from_utf8_lossy(value).into_owned();
        } else if name.eq_ignore_ascii_case(BODY) {
            error.get_or_insert_with(empty).body = base64::decode(value).unwrap_or_default();
        }
    }
    error
}

/// Holds back a chunk that may be the text of trailers, until it is known whether it was the last.
#[derive(Debug, Default)]
pub(crate) struct Quirk {
    held: BytesMut,
}

impl Quirk {
    /// Takes bytes of a chunk, the first of it or not, and gives what is certainly data.
    pub fn data(&mut self, begins_chunk: bool, bytes: BytesMut) -> [BytesMut; 2] {
        let nothing = BytesMut::new;
        if self.held.is_empty() {
            if begins_chunk && bytes.len() <= ERROR_BYTES_MAX && is_start(&bytes) {
                self.held = bytes;
                return [nothing(), nothing()];
            }
            return [bytes, nothing()];
        }
        if begins_chunk {
            // So the one that is held was not the last; but this one may be.
            let held = std::mem::take(&mut self.held);
            let [now, _] = self.data(true, bytes);
            return [held, now];
        }
        self.held.extend_from_slice(&bytes);
        if self.held.len() > ERROR_BYTES_MAX || !is_start(&self.held) {
            return [std::mem::take(&mut self.held), nothing()];
        }
        [nothing(), nothing()]
    }

    /// The body ended: what was held is an error, or data after all.
    pub fn end(self) -> Result<StreamError, BytesMut> {
        if self.held.len() < QUIRK.len() {
            return Err(self.held);
        }
        stream_error(&self.held).ok_or(self.held)
    }
}

fn is_start(bytes: &[u8]) -> bool {
    let length = bytes.len().min(QUIRK.len());
    bytes[..length] == QUIRK[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: &[u8] =
        b"Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\nLambda-Runtime-Function-Error-Body: eyJhIjoxfQ==\r\n";

    fn error() -> StreamError {
        StreamError { kind: "Runtime.StreamError".into(), body: b"{\"a\":1}".to_vec() }
    }

    #[test]
    fn trailers_tell_an_error() {
        assert_eq!(stream_error(ERROR), Some(error()));
        assert_eq!(
            stream_error(b"lambda-runtime-function-error-type: Error\r\n"),
            Some(StreamError { kind: "Error".into(), body: Vec::new() })
        );
        assert_eq!(stream_error(b"Lambda-Runtime-Function-Error-Body: ???\r\n").unwrap().body, b"");
        for other in [&b""[..], b"x: y\r\n", b"\r\n", b"no colon"] {
            assert_eq!(stream_error(other), None);
        }
    }

    /// Chunks, each in pieces of `size`, through the quirk: the data that came out, and the end.
    fn run(chunks: &[&[u8]], size: usize) -> (Vec<u8>, Option<StreamError>) {
        let (mut quirk, mut out) = (Quirk::default(), Vec::new());
        for chunk in chunks {
            for (at, piece) in chunk.chunks(size).enumerate() {
                for part in quirk.data(at == 0, BytesMut::from(piece)) {
                    out.extend_from_slice(&part);
                }
            }
        }
        match quirk.end() {
            Ok(error) => (out, Some(error)),
            Err(rest) => {
                out.extend_from_slice(&rest);
                (out, None)
            }
        }
    }

    #[test]
    fn a_last_chunk_of_trailers_is_an_error_however_it_was_cut() {
        for size in 1..=ERROR.len() {
            assert_eq!(run(&[b"data", ERROR], size), (b"data".to_vec(), Some(error())), "pieces of {size}");
            assert_eq!(run(&[ERROR, ERROR], size), (ERROR.to_vec(), Some(error())), "pieces of {size}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_data() {
        for size in [1, 7, 1000] {
            for chunks in [
                &[&b"data"[..], b"Lambda"][..],
                &[ERROR, b"more"],
                &[b"xLambda-Runtime-Function-Error-Type: x"],
                &[b"Lambda-Runtime-Function-Error-Types: x"],
                &[b"L", b"Lambda-Runtime-Function-Error-Type"],
            ] {
                assert_eq!(run(chunks, size), (chunks.concat(), None), "{chunks:?} in pieces of {size}");
            }
        }
        let long = [QUIRK, &vec![b'a'; ERROR_BYTES_MAX]].concat();
        for size in [4096, long.len()] {
            assert_eq!(run(&[&long], size), (long.clone(), None));
        }
    }
}
