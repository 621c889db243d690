//! Tables for heads and chunks, and properties over any bytes.

use crate::*;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 65536, fields: 100, target_bytes: 16384, drop_underscores: true };

fn parse(text: &str) -> Result<RequestHead, Refusal> {
    let mut head = RequestHead::default();
    match head.parse(text.as_bytes(), &LIMITS)? {
        Parsed::Complete(_) => Ok(head),
        Parsed::Partial => panic!("partial: {text:?}"),
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_plain_request() {
    let head = parse("GET /a/%7eb/../c?x=1&y HTTP/1.1\r\nHost: a.example:8080\r\nX-A: 1 \r\nUnder_score: 1\r\n\r\n").unwrap();
    assert_eq!(head.method, Method::Get);
    assert_eq!(text(head.path()), "/a/c");
    assert_eq!(head.query().map(text), Some("x=1&y"));
    assert_eq!(text(head.authority()), "a.example:8080");
    assert_eq!(text(head.host()), "a.example");
    assert_eq!(head.headers.get(b"x-a").map(text), Some("1"));
    assert_eq!(head.headers.get(b"under_score"), None);
    assert!(head.keep_alive);
    assert_eq!(head.framing, Framing::None);
}

#[test]
fn absolute_form_must_agree_with_host() {
    let head = parse("GET http://A.example?q HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    assert_eq!((text(head.path()), head.query().map(text)), ("/", Some("q")));
    assert!(parse("GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n").is_err());
    assert!(parse("GET ftp://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n").is_err());
    assert!(parse("GET a.example HTTP/1.1\r\nHost: a.example\r\n\r\n").is_err());
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    let h = "Host: a\r\n";
    for (why, request) in [
        ("both lengths", format!("POST / HTTP/1.1\r\n{h}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n")),
        ("two lengths", format!("POST / HTTP/1.1\r\n{h}Content-Length: 3\r\nContent-Length: 4\r\n\r\n")),
        ("a list of lengths", format!("POST / HTTP/1.1\r\n{h}Content-Length: 3, 3\r\n\r\n")),
        ("a signed length", format!("POST / HTTP/1.1\r\n{h}Content-Length: +3\r\n\r\n")),
        ("a huge length", format!("POST / HTTP/1.1\r\n{h}Content-Length: 99999999999999999999\r\n\r\n")),
        ("an empty length", format!("POST / HTTP/1.1\r\n{h}Content-Length:\r\n\r\n")),
        ("gzip, chunked", format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: gzip, chunked\r\n\r\n")),
        ("xchunked", format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: xchunked\r\n\r\n")),
        ("identity", format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: identity\r\n\r\n")),
        ("chunked twice", format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n")),
        ("vertical tab", format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: \x0bchunked\r\n\r\n")),
        ("chunked in 1.0", format!("POST / HTTP/1.0\r\n{h}Transfer-Encoding: chunked\r\n\r\n")),
        ("obs-fold", format!("GET / HTTP/1.1\r\n{h}X: 1\r\n 2\r\n\r\n")),
        ("fold first", "GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_string()),
        ("bare LF", "GET / HTTP/1.1\nHost: a\n\n".to_string()),
        ("one bare LF", "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n".to_string()),
        ("bare CR", "GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n".to_string()),
        ("space before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_string()),
        ("NUL", format!("GET / HTTP/1.1\r\n{h}X: a\0b\r\n\r\n")),
        ("control", format!("GET / HTTP/1.1\r\n{h}X: a\x01b\r\n\r\n")),
        ("control in target", format!("GET /\x01 HTTP/1.1\r\n{h}\r\n")),
        ("non-ASCII target", format!("GET /é HTTP/1.1\r\n{h}\r\n")),
        ("fragment", format!("GET /#a HTTP/1.1\r\n{h}\r\n")),
        ("two spaces", format!("GET  / HTTP/1.1\r\n{h}\r\n")),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_string()),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_string()),
        ("empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_string()),
        ("Host with a list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_string()),
        ("Host with userinfo", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".to_string()),
        ("Connection: host", "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n".to_string()),
        ("Connection: content-length", format!("GET / HTTP/1.1\r\n{h}Connection: content-length\r\n\r\n")),
        ("above the root", format!("GET /../a HTTP/1.1\r\n{h}\r\n")),
        ("backslash", format!("GET /a\\b HTTP/1.1\r\n{h}\r\n")),
        ("asterisk GET", format!("GET * HTTP/1.1\r\n{h}\r\n")),
    ] {
        assert!(matches!(parse(&request), Err(Refusal::Bad(_))), "{why}: {:?}", parse(&request).map(|_| ()));
    }
    assert_eq!(parse("GET / HTTP/2.0\r\nHost: a\r\n\r\n").unwrap_err(), Refusal::Version);
    assert!(matches!(parse("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"), Err(Refusal::NotImplemented(_))));
    assert!(matches!(parse("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Refusal::NotImplemented(_))));
}

#[test]
fn limits_have_their_own_answers() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(17000));
    assert_eq!(parse(&long).unwrap_err(), Refusal::TargetTooLong);
    let mut head = RequestHead::default();
    assert_eq!(head.parse(format!("GET /{}", "a".repeat(17000)).as_bytes(), &LIMITS), Err(Refusal::TargetTooLong));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(100));
    assert_eq!(parse(&many).unwrap_err(), Refusal::HeadTooLarge);
    let wide = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(66000));
    assert_eq!(parse(&wide).unwrap_err(), Refusal::HeadTooLarge);
    assert_eq!(head.parse(&wide.as_bytes()[..65999], &LIMITS), Err(Refusal::HeadTooLarge));
}

#[test]
fn connection_options_and_upgrades() {
    let head = parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-End: 1\r\n\r\n").unwrap();
    assert!(!head.keep_alive);
    assert!(head.headers.get(b"x-hop").is_none() && head.headers.get(b"x-end").is_some());
    let head = parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert_eq!(head.upgrade.map(|slice| text(head.headers.slice(slice))), Some("websocket"));
    let head =
        parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n")
            .unwrap();
    assert_eq!(head.upgrade, None);
    let head =
        parse("POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n").unwrap();
    assert_eq!(head.upgrade, None);
    assert!(!parse("GET / HTTP/1.0\r\n\r\n").unwrap().keep_alive);
    assert!(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().keep_alive);
}

#[test]
fn response_framing() {
    let read = |text: &str, to_head: bool| {
        let mut head = ResponseHead::default();
        head.parse(text.as_bytes(), to_head, &LIMITS).map(|_| (head.framing, head.stated_length, head.keep_alive))
    };
    assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false), Ok((Framing::Length(5), None, true)));
    assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), Ok((Framing::None, Some(5), true)));
    assert_eq!(read("HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n", false), Ok((Framing::None, Some(5), true)));
    assert_eq!(read("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", false), Ok((Framing::Chunked, None, true)));
    assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n", false), Ok((Framing::Close, None, false)));
    assert_eq!(read("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false), Ok((Framing::None, Some(0), false)));
    assert_eq!(read("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", false), Ok((Framing::None, None, true)));
    for bad in [
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 5\n\n",
        "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        assert!(read(bad, false).is_err(), "{bad:?}");
    }
}

/// Decodes `input` fed in pieces of `piece` bytes; gives the body, the trailers and what is left.
#[allow(clippy::type_complexity, reason = "three byte strings, used by two tests")]
fn dechunk(input: &[u8], piece: usize) -> Result<Option<(Vec<u8>, Vec<u8>, Vec<u8>)>, ChunkError> {
    let mut decoder = Chunked::default();
    let mut buffer: Vec<u8> = Vec::new();
    let mut body = Vec::new();
    let mut fed = 0;
    loop {
        match decoder.step(&buffer)? {
            ChunkedStep::Data { skip, len } => {
                body.extend_from_slice(&buffer[skip..skip + len]);
                decoder.taken(len);
                buffer.drain(..skip + len);
            }
            ChunkedStep::End { skip, trailers } => {
                let trailers = buffer[trailers.0..trailers.1].to_vec();
                let mut rest = buffer[skip..].to_vec();
                rest.extend_from_slice(&input[fed..]);
                return Ok(Some((body, trailers, rest)));
            }
            ChunkedStep::More { skip } => {
                buffer.drain(..skip);
                if fed == input.len() {
                    return Ok(None);
                }
                let next = (fed + piece).min(input.len());
                buffer.extend_from_slice(&input[fed..next]);
                fed = next;
            }
        }
    }
}

#[test]
fn chunks() {
    let input = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-T: 1\r\n\r\nNEXT";
    for piece in 1..input.len() {
        let (body, trailers, rest) = dechunk(input, piece).unwrap().unwrap();
        assert_eq!((text(&body), text(&trailers), text(&rest)), ("hello world", "X-T: 1\r\n", "NEXT"));
    }
    for bad in [
        "5 \r\nhello\r\n",
        "5\nhello\r\n",
        "x\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n",
        "5\r\nhelloX",
        "5;a\nb\r\nhello\r\n",
        "5;a\rb\r\n",
        "1234567890abcdef\r\n",
        "0\r\nbad\r\n\r\n",
        "0\r\nX: 1\n\r\n",
        "0\r\n X: 1\r\n\r\n",
        "\r\n",
        ";\r\n",
        "5\r\nhello\n",
    ] {
        assert!(dechunk(bad.as_bytes(), 100).is_err(), "{bad:?}");
    }
    assert!(dechunk(format!("5;{}\r\nhello", "a".repeat(300)).as_bytes(), 1000).is_err());
    assert!(dechunk(format!("0\r\nX: {}\r\n\r\n", "a".repeat(9000)).as_bytes(), 1000).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = RequestHead::default().parse(&bytes, &LIMITS);
        let _ = ResponseHead::default().parse(&bytes, false, &LIMITS);
        let _ = dechunk(&bytes, 7);
    }

    #[test]
    fn no_accepted_head_has_a_bare_line_feed(lines in proptest::collection::vec("[A-Za-z: \r\n]{0,12}(\r\n|\n|\r|\n\r)", 0..6)) {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.concat());
        if let Ok(Parsed::Complete(length)) = RequestHead::default().parse(head.as_bytes(), &LIMITS) {
            let bytes = &head.as_bytes()[..length];
            prop_assert!((0..length).all(|at| bytes[at] != b'\n' || at > 0 && bytes[at - 1] == b'\r'));
        }
    }

    #[test]
    fn a_head_is_taken_if_each_of_its_lines_ends_as_it_should(
        empty in 0usize..3, fields in 0usize..4, bare in proptest::option::of(0usize..8), is_request in any::<bool>(),
    ) {
        let first = if is_request { "GET / HTTP/1.1" } else { "HTTP/1.1 200 OK" };
        let fields = (0..fields).map(|number| format!("X-Field-{number}: a b"));
        let lines: Vec<String> = std::iter::repeat_n(String::new(), empty)
            .chain([first.to_owned(), "Host: a".to_owned()])
            .chain(fields)
            .chain([String::new()])
            .collect();
        let end = |at: usize| if bare == Some(at) { "\n" } else { "\r\n" };
        let head: String = lines.iter().enumerate().map(|(at, line)| format!("{line}{}", end(at))).collect();
        let parsed = match is_request {
            true => RequestHead::default().parse(head.as_bytes(), &LIMITS).is_ok(),
            false => ResponseHead::default().parse(head.as_bytes(), false, &LIMITS).is_ok(),
        };
        prop_assert_eq!(parsed, bare.is_none_or(|at| at >= lines.len()), "{:?}", head);
    }

    #[test]
    fn a_body_survives_chunking(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..600), 0..6), piece in 1usize..50) {
        let mut wire = Vec::new();
        for part in &parts {
            chunk_head(&mut wire, part.len());
            wire.extend_from_slice(part);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(LAST_CHUNK);
        let (body, trailers, rest) = dechunk(&wire, piece).unwrap().unwrap();
        prop_assert_eq!(body, parts.concat());
        prop_assert!(trailers.is_empty() && rest.is_empty());
    }

    /// However a head is cut, the verdict is the same as on the whole.
    #[test]
    fn a_head_in_pieces_is_the_same_head(cut in 1usize..70) {
        let whole = b"POST /a?b HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nX-Y: z\r\n\r\nabc";
        let mut head = RequestHead::default();
        let first = head.parse(&whole[..cut.min(whole.len())], &LIMITS).unwrap();
        if cut < whole.len() - 3 {
            prop_assert_eq!(first, Parsed::Partial);
        }
        prop_assert_eq!(head.parse(whole, &LIMITS).unwrap(), Parsed::Complete(whole.len() - 3));
        prop_assert_eq!(head.framing, Framing::Length(3));
    }
}
