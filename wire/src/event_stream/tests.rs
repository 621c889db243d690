use super::*;
use proptest::prelude::*;

/// A frame with headers of every type, which botocore 1.44.5 reads (`botocore.eventstream.EventStreamBuffer`).
const ALL_TYPES: &str = "000000760000006129059bc80b3a6576656e742d7479706507000c5061796c6f61644368756e6b017400016601016102ff016203fffe01630400000005016405000000000000000601650600020102016708000000000000000701750900\
0102030405060708090a0b0c0d0e0f68656c6c6f66fb4e3e";

fn unhex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("hexadecimal") as u8;
    text.as_bytes().as_chunks::<2>().0.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
}

type Frame = (Vec<(String, String)>, Vec<u8>);

/// Every frame of a stream that comes in pieces of that size.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, EventError> {
    let (mut reader, mut frames, mut payload) = (EventReader::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        let mut rest = piece;
        loop {
            let (count, step) = reader.read(rest)?;
            let (taken, behind) = rest.split_at(count);
            rest = behind;
            match step {
                EventStep::Headers => {}
                EventStep::Payload => payload.extend_from_slice(taken),
                EventStep::End => {
                    let headers = reader.headers().map(|(name, value)| (name.to_owned(), format!("{value:?}"))).collect();
                    frames.push((headers, std::mem::take(&mut payload)));
                }
                EventStep::More => break,
            }
        }
    }
    if reader.is_between() { Ok(frames) } else { Err(EventError("the stream is cut off")) }
}

fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    event_frame(headers, payload, &mut out).expect("a frame");
    out
}

/// A frame with these bytes for headers, whose checksums are right.
fn raw(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = (FRAME_BYTES_MIN + (headers.len() + payload.len()) as u32).to_be_bytes().to_vec();
    out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    out.extend_from_slice(&Checksum::of(&out).to_be_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend_from_slice(&Checksum::of(&out).to_be_bytes());
    out
}

#[test]
fn checksums_are_those_of_everybody() {
    let bytes: Vec<u8> = (0..3).flat_map(|_| 0..=255).chain(*b"abc").collect();
    assert_eq!(Checksum::of(b"123456789"), 0xcbf4_3926);
    assert_eq!(Checksum::of(&bytes), 0x9d3a_9924);
    assert_eq!(Checksum::of(b""), 0);
}

#[test]
fn a_frame_with_every_type_of_header_is_read() {
    let bytes = unhex(ALL_TYPES);
    for piece in [1, 2, 5, 11, bytes.len()] {
        let frames = read(&bytes, piece).expect("a frame");
        let (headers, payload) = &frames[0];
        assert_eq!((frames.len(), &payload[..]), (1, &b"hello"[..]));
        let told: Vec<_> = headers.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let uuid = "Uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])";
        assert_eq!(
            told,
            [
                ":event-type Text(\"PayloadChunk\")",
                "t Flag(true)",
                "f Flag(false)",
                "a Integer(-1)",
                "b Integer(-2)",
                "c Integer(5)",
                "d Integer(6)",
                "e Bytes([1, 2])",
                "g Timestamp(7)",
                &format!("u {uuid}"),
            ]
        );
    }
}

#[test]
fn a_header_is_found_where_it_is_text() {
    let mut reader = EventReader::default();
    assert_eq!(reader.read(&unhex(ALL_TYPES)).expect("a frame").1, EventStep::Headers);
    assert_eq!(reader.text(":event-type"), Some("PayloadChunk"));
    assert_eq!((reader.text("a"), reader.text("none")), (None, None));
}

#[test]
fn what_is_no_frame_is_an_error_and_never_more() {
    let good = frame(&[(":event-type", "PayloadChunk")], b"hello");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(read(&bad, bad.len()).is_err(), "with byte {at} altered");
        assert!(at == 0 || read(&good[..at], at).is_err(), "cut at {at}");
    }
    for (headers, why) in [
        (&b"\x00\x00"[..], "without a name"),
        (b"\x05ab", "too early"),
        (b"\x01a", "too early"),
        (b"\x01a\x07\x00\x05ab", "too early"),
        (b"\x01a\x04\x00\x00", "too early"),
        (b"\x01a\x0a", "unknown type"),
        (b"\x01a\x07\x00\x01\xff", "no text"),
        (b"\x01\xff\x00", "no text"),
        (b"\x01a\x00\x01b\x00\x01a\x01", "twice"),
    ] {
        let error = read(&raw(headers, b""), 7).expect_err("no frame");
        assert!(error.0.contains(why), "{}: {error:?}", headers.escape_ascii());
    }
}

#[test]
fn lengths_are_bounded_before_anything_is_kept() {
    for (total, headers, good) in [
        (16, 0, true),
        (15, 0, false),
        (16, 1, false),
        (0, 0, false),
        (u32::MAX, 0, false),
        (u32::MAX, u32::MAX, false),
        (16 + HEADERS_BYTES_MAX, HEADERS_BYTES_MAX, true),
        (17 + HEADERS_BYTES_MAX, HEADERS_BYTES_MAX + 1, false),
        (16 + EVENT_PAYLOAD_BYTES_MAX, 0, true),
        (17 + EVENT_PAYLOAD_BYTES_MAX, 0, false),
    ] {
        let mut prelude = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        prelude.extend_from_slice(&Checksum::of(&prelude).to_be_bytes());
        assert_eq!(EventReader::default().read(&prelude).is_ok(), good, "{total} {headers}");
    }
    let mut out = b"kept".to_vec();
    let long = "x".repeat(usize::from(u16::MAX));
    assert!(event_frame(&[("", "")], b"", &mut out).is_err());
    assert!(event_frame(&[(&"n".repeat(256), "")], b"", &mut out).is_err());
    assert!(event_frame(&[("a", &format!("{long}x"))], b"", &mut out).is_err());
    assert!(event_frame(&[("a", &long), ("b", &long), ("c", &long)], b"", &mut out).is_err());
    assert!(event_frame(&[], &vec![0; EVENT_PAYLOAD_BYTES_MAX as usize + 1], &mut out).is_err());
    assert_eq!(out, b"kept");
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_pieces_of_any_size(
        frames in proptest::collection::vec(
            (proptest::collection::btree_map("[a-z:]{1,9}", ".{0,20}", 0..5), proptest::collection::vec(any::<u8>(), 0..200)),
            0..6,
        ),
        piece in 1usize..64,
    ) {
        let mut bytes = Vec::new();
        for (headers, payload) in &frames {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            event_frame(&headers, payload, &mut bytes).expect("a frame");
        }
        let wanted: Vec<Frame> = frames
            .into_iter()
            .map(|(headers, payload)| {
                (headers.into_iter().map(|(name, value)| (name, format!("{:?}", EventValue::Text(&value)))).collect(), payload)
            })
            .collect();
        prop_assert_eq!(read(&bytes, piece), Ok(wanted));
    }
}
