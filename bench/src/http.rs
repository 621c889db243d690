//! Requests as bytes, and a strict reader of responses. Reads only what a benchmark asks for:
//! status 200 with the exact Content-Length. Anything else is an error, never a guess.

/// What is sent, and how long the body of its answer must be.
pub struct Request {
    pub bytes: Vec<u8>,
    pub answer: usize,
}

pub fn get(path: &str, answer: usize) -> Request {
    let head = format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: maitred-bench\r\nAccept: */*\r\n\r\n");
    Request { bytes: head.into_bytes(), answer }
}

/// The same with more header lines, each ended.
pub fn with_lines(request: &Request, lines: &str) -> Request {
    let end = request.bytes.len() - b"\r\n".len();
    Request { bytes: [&request.bytes[..end], lines.as_bytes(), b"\r\n"].concat(), ..*request }
}

pub fn post(path: &str, body: usize, answer: usize) -> Request {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: maitred-bench\r\nAccept: */*\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {body}\r\n\r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + body, b'x');
    Request { bytes, answer }
}

/// No proxy here adds headers of this size; more means that we read something else than a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, PartialEq)]
pub enum Progress {
    More,
    Done { close: bool },
}

/// Reads one response after another from one connection.
#[derive(Default)]
pub struct Responses {
    head: Vec<u8>,
    body: Option<Body>,
}

struct Body {
    left: usize,
    close: bool,
}

impl Responses {
    /// Takes what arrived. Bytes after the end of the response are an error: nothing is pipelined here,
    /// so they would be somebody else's answer.
    pub fn feed(&mut self, bytes: &[u8], answer: usize) -> Result<Progress, String> {
        if let Some(body) = &mut self.body {
            body.left = body.left.checked_sub(bytes.len()).ok_or("bytes after the end of the response")?;
            return Ok(self.finish());
        }
        let rest = match self.head.is_empty() {
            true => match head_end(bytes) {
                Some(end) => {
                    self.body = Some(read_head(&bytes[..end], answer)?);
                    &bytes[end..]
                }
                None => return self.keep(bytes),
            },
            false => {
                let before = self.head.len();
                self.head.extend_from_slice(bytes);
                let Some(end) = head_end(&self.head) else { return self.keep(&[]) };
                self.body = Some(read_head(&self.head[..end], answer)?);
                self.head.clear();
                &bytes[end - before..]
            }
        };
        self.feed(rest, answer)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<Progress, String> {
        self.head.extend_from_slice(bytes);
        if self.head.len() > HEAD_BYTES_MAX { Err("a head without end".into()) } else { Ok(Progress::More) }
    }

    fn finish(&mut self) -> Progress {
        match &self.body {
            Some(Body { left: 0, close }) => {
                let close = *close;
                self.body = None;
                Progress::Done { close }
            }
            _ => Progress::More,
        }
    }
}

/// Where the body begins.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

/// Name and value of each header line of a head, whitespace around the value removed.
pub fn headers(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.split(|&b| b == b'\n').skip(1).filter_map(|line| {
        let colon = line.iter().position(|&b| b == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

fn read_head(head: &[u8], answer: usize) -> Result<Body, String> {
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(format!("answered {:?}", String::from_utf8_lossy(&head[..head.len().min(60)])));
    }
    let (mut length, mut close) = (None, false);
    for (name, value) in headers(head) {
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value).ok().and_then(|v| v.parse::<usize>().ok());
        } else if name.eq_ignore_ascii_case(b"connection") {
            close = value.eq_ignore_ascii_case(b"close");
        }
    }
    match length {
        Some(length) if length == answer => Ok(Body { left: length, close }),
        Some(length) => Err(format!("{length} bytes of body instead of {answer}")),
        None => Err("no Content-Length".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Progress = Progress::Done { close: false };

    fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\n{headers}\r\n\r\n{body}").into_bytes()
    }

    #[test]
    fn a_whole_response_is_done() {
        let bytes = response("200 OK", "Content-Length: 2", "ok");
        assert_eq!(Responses::default().feed(&bytes, 2), Ok(DONE));
    }

    #[test]
    fn a_response_may_arrive_byte_by_byte_and_another_follow() {
        let bytes = response("200 OK", "server: x\r\ncontent-length:  2 ", "ok");
        let mut responses = Responses::default();
        for _ in 0..2 {
            for byte in &bytes[..bytes.len() - 1] {
                assert_eq!(responses.feed(&[*byte], 2), Ok(Progress::More));
            }
            assert_eq!(responses.feed(b"k", 2), Ok(DONE));
        }
    }

    #[test]
    fn a_split_at_any_place_is_the_same_response() {
        let bytes = response("200 OK", "Content-Length: 5", "hello");
        for at in 1..bytes.len() {
            let mut responses = Responses::default();
            assert_eq!(responses.feed(&bytes[..at], 5), Ok(Progress::More), "at {at}");
            assert_eq!(responses.feed(&bytes[at..], 5), Ok(DONE), "at {at}");
        }
    }

    #[test]
    fn a_close_is_noticed() {
        let bytes = response("200 OK", "Connection: close\r\nContent-Length: 0", "");
        assert_eq!(Responses::default().feed(&bytes, 0), Ok(Progress::Done { close: true }));
    }

    #[test]
    fn whatever_is_not_the_exact_answer_is_an_error() {
        for bytes in [
            response("502 Bad Gateway", "Content-Length: 2", "ok"),
            response("200 OK", "Content-Length: 3", "okk"),
            response("200 OK", "Content-Length: two", "ok"),
            response("200 OK", "Transfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"),
            response("200 OK", "Content-Length: 2", "ok!"),
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        ] {
            assert!(Responses::default().feed(&bytes, 2).is_err(), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_head_without_end_is_an_error() {
        assert!(Responses::default().feed(&[b'x'; HEAD_BYTES_MAX + 1], 2).is_err());
    }

    #[test]
    fn a_post_carries_its_length() {
        let request = post("/echo", 4096, 2);
        let end = head_end(&request.bytes).unwrap();
        assert_eq!(request.bytes.len() - end, 4096);
        assert!(headers(&request.bytes[..end]).any(|(n, v)| n == b"Content-Length" && v == b"4096"));
    }
}
