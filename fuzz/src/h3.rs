//! HTTP/3: a head is the one that HTTP/2 makes of the same fields, and frames are found however they are cut.

use crate::cuts;
use crate::heads::USUAL;
use maitred_wire::{
    FrameKind, Frames, H2Parts, Piece, RequestFields, RequestHead, Version, begin_section, check_settings, read_section,
    write_field,
};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn fields(section: &[u8]) -> Option<Fields> {
    let mut fields = Fields::new();
    read_section(section, &mut Vec::new(), |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
    })
    .ok()?;
    Some(fields)
}

/// The first byte says whether the stream ends; a field section follows.
pub fn request_h3(data: &[u8]) {
    let (&flags, section) = data.split_first().unwrap_or((&0, &[]));
    let end_stream = flags & 1 != 0;
    let Some(fields) = fields(section) else { return };
    let mut again = Vec::new();
    begin_section(&mut again);
    for (name, value) in &fields {
        write_field(&mut again, name, value);
    }
    let lower =
        |fields: &Fields| fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect::<Fields>();
    assert_eq!(self::fields(&again).map(|fields| lower(&fields)), Some(lower(&fields)), "written anew it reads the same");
    let (mut section, mut head) = (RequestFields::default(), RequestHead::default());
    section.begin(&mut head, Version::Http3);
    for (name, value) in &fields {
        section.field(&mut head, name, value, &USUAL);
    }
    if section.finish(&mut head, end_stream, &USUAL).is_err() {
        return;
    }
    let pseudo = |wanted: &str| {
        let mut all = fields.iter().filter(|(name, _)| name == wanted.as_bytes()).map(|(_, value)| &value[..]);
        let value = all.next();
        assert_eq!(all.next(), None, "two of {wanted} were accepted");
        value
    };
    let parts = H2Parts {
        method: pseudo(":method").unwrap_or_default(),
        scheme: pseudo(":scheme").unwrap_or_default(),
        authority: pseudo(":authority"),
        path: pseudo(":path").unwrap_or_default(),
        protocol: pseudo(":protocol"),
        end_stream,
    };
    let first_plain = fields.iter().position(|(name, _)| name.first() != Some(&b':')).unwrap_or(fields.len());
    assert!(fields[first_plain..].iter().all(|(name, _)| name.first() != Some(&b':')), "a pseudo-field behind fields");
    let mut other = RequestHead::default();
    other.begin_h2();
    for (name, value) in &fields[first_plain..] {
        other.h2_field(name, value).expect("what HTTP/3 takes, HTTP/2 takes");
    }
    other.finish_h2(parts, &USUAL).expect("what HTTP/3 takes, HTTP/2 takes");
    assert_eq!((head.path(), head.query(), head.host()), (other.path(), other.query(), other.host()));
    assert_eq!((head.framing, head.method), (other.framing, other.method));
}

fn follow<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(FrameKind, u64)>, Vec<u8>, bool) {
    let mut frames = Frames::default();
    let (mut seen, mut payload) = (Vec::new(), Vec::new());
    for mut rest in pieces {
        while !rest.is_empty() {
            let taken = match frames.next(rest) {
                Piece::Begin { kind, length, taken } => {
                    seen.push((kind, length));
                    taken
                }
                Piece::Payload(count) => {
                    payload.extend_from_slice(&rest[..count]);
                    count
                }
                Piece::Partial => rest.len(),
            };
            assert!(taken > 0, "no byte was taken");
            rest = &rest[taken..];
        }
    }
    (seen, payload, frames.is_between())
}

/// The bytes of one stream.
pub fn h3_frames(data: &[u8]) {
    let whole = follow([data].into_iter());
    for cut in cuts(data.len()) {
        let (before, after) = data.split_at(cut);
        assert_eq!(follow([before, after].into_iter()), whole, "cut at {cut}");
    }
    let _ = check_settings(data);
}
