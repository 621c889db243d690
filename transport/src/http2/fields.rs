//! Fields between our form, which is lines, and the map that `h2` wants. What cannot be a field there is left out.

use http::{HeaderMap, HeaderName, HeaderValue};
use maitred_wire::{Headers, Name, field, forward_trailers};

/// The fields that may be forwarded, each a line.
pub(crate) fn trailer_lines(trailers: &HeaderMap, out: &mut Vec<u8>) {
    let mut lines = Vec::new();
    for (name, value) in trailers {
        field(&mut lines, name.as_str().as_bytes(), value.as_bytes());
    }
    forward_trailers(&lines, out);
}

/// Lines of trailers as HTTP/2 has them; none of what cannot be one.
pub(crate) fn trailer_map(lines: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}

/// The fields of a response's head that go on to a client, as HTTP/2 has them.
pub(crate) fn add_fields(headers: &Headers, out: &mut HeaderMap) {
    for entry in headers.iter() {
        if entry.known.is_hop_by_hop() || entry.known == Name::XRequestId {
            continue;
        }
        let pair = (HeaderName::from_bytes(headers.name(entry)), HeaderValue::from_bytes(headers.value(entry)));
        if let (Ok(name), Ok(value)) = pair {
            out.append(name, value);
        }
    }
}
