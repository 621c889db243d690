//! Amazon's event stream: frames mean the same in pieces of any size, and what is text means the same when it is written anew.

use maitred_wire::{EventReader, EventStep, EventValue, event_frame};

/// Frames as they were read.
#[derive(Debug, Default, PartialEq)]
struct Read {
    frames: Vec<(Vec<(String, String)>, Vec<u8>)>,
    ended: usize,
    broken: bool,
}

fn read(data: &[u8], piece: usize) -> Read {
    let (mut reader, mut out) = (EventReader::default(), Read::default());
    for piece in data.chunks(piece) {
        let mut rest = piece;
        loop {
            let Ok((count, step)) = reader.read(rest) else {
                out.broken = true;
                return out;
            };
            let (taken, behind) = rest.split_at(count);
            rest = behind;
            match step {
                EventStep::Headers => {
                    let headers = reader.headers().map(|(name, value)| (name.to_owned(), format!("{value:?}")));
                    out.frames.push((headers.collect(), Vec::new()));
                }
                EventStep::Payload => out.frames.last_mut().expect("headers come first").1.extend_from_slice(taken),
                EventStep::End => {
                    out.ended += 1;
                    written_anew(&reader, &out.frames.last().expect("headers come first").1);
                }
                EventStep::More => break,
            }
        }
        assert!(rest.is_empty());
    }
    out
}

/// Frames of text alone can be written; read again they are the same.
fn written_anew(reader: &EventReader, payload: &[u8]) {
    let text = |(name, value)| match value {
        EventValue::Text(text) => Some((name, text)),
        EventValue::Flag(_) | EventValue::Integer(_) | EventValue::Bytes(_) | EventValue::Timestamp(_) | EventValue::Uuid(_) => {
            None
        }
    };
    let Some(headers) = reader.headers().map(text).collect::<Option<Vec<_>>>() else { return };
    let mut out = Vec::new();
    event_frame(&headers, payload, &mut out).expect("it was a frame before");
    let mut again = EventReader::default();
    let (count, step) = again.read(&out).expect("it is a frame");
    assert_eq!(step, EventStep::Headers);
    assert!(again.headers().eq(reader.headers()));
    assert_eq!(&out[count..count + payload.len()], payload);
}

pub fn event_stream(data: &[u8]) {
    let whole = read(data, data.len().max(1));
    for piece in [1, 3, 16] {
        assert_eq!(read(data, piece), whole);
    }
}
