//! Header compression: decoded beside the test kit's decoder, which shares no code with it and is written for reading.

use crate::cuts;
use maitred_testkit::h2::hpack as plain;
use maitred_wire::{HpackDecoder, HpackError, Name, hpack_field, hpack_known};

/// How an input is written: one byte that chooses what was announced, then blocks.
const ANNOUNCED: [usize; 6] = [4096, 0, 64, 256, 100, 65536];
/// `access-control-allow-origin`.
const STATIC_BYTES_MAX: usize = 27;
const BETWEEN_BLOCKS: &[u8] = b"\n\n";

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut HpackDecoder, block: &[u8], scratch: &mut Vec<u8>) -> (Fields, Result<(), HpackError>) {
    let mut fields = Fields::new();
    let verdict = decoder.decode(block, scratch, |name, value| fields.push((name.to_vec(), value.to_vec())));
    (fields, verdict)
}

fn blocks(data: &[u8]) -> Vec<&[u8]> {
    let mut blocks = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(BETWEEN_BLOCKS.len()).position(|window| window == BETWEEN_BLOCKS) {
        blocks.push(&rest[..at]);
        rest = &rest[at + BETWEEN_BLOCKS.len()..];
    }
    blocks.push(rest);
    blocks
}

pub fn hpack(data: &[u8]) {
    let (&first, rest) = data.split_first().unwrap_or((&0, &[]));
    let announced = ANNOUNCED[usize::from(first) % ANNOUNCED.len()];
    let (mut decoder, mut peer) = (HpackDecoder::new(announced), plain::Decoder::default());
    peer.allow([announced]);
    if announced < 4096 {
        peer.decode_bytes(&plain::table_size(announced)).expect("the table may be as large as was announced");
    }
    let mut scratch = Vec::new();
    for (at, block) in blocks(rest).into_iter().enumerate() {
        let (fields, verdict) = decode(&mut decoder, block, &mut scratch);
        let longest = announced.max(block.len() * 8 / 5).max(STATIC_BYTES_MAX);
        assert!(fields.len() <= block.len(), "more fields than bytes");
        assert!(fields.iter().all(|(name, value)| name.len() <= longest && value.len() <= longest));
        if at == 0 {
            pieces_are_beginnings(announced, block, &fields);
        }
        comes_back(&fields);
        match (verdict, peer.decode_bytes(block)) {
            (Ok(()), Ok(wanted)) => assert_eq!(fields, wanted),
            (Err(_), Err(_)) => return,
            (mine, theirs) => panic!("{mine:?}, where the other decoder says {theirs:?}"),
        }
        tables_are_the_same(&mut decoder, &mut peer, announced);
    }
}

/// A block that breaks off says the first of its fields and nothing else.
fn pieces_are_beginnings(announced: usize, block: &[u8], fields: &Fields) {
    let mut scratch = Vec::new();
    for cut in cuts(block.len()) {
        let (some, _) = decode(&mut HpackDecoder::new(announced), &block[..cut], &mut scratch);
        assert!(fields.starts_with(&some), "the first {cut} bytes say something else than all");
    }
}

/// Asks both for each entry. What an index stands for changes nothing, nor does an index of nothing.
fn tables_are_the_same(decoder: &mut HpackDecoder, peer: &mut plain::Decoder, announced: usize) {
    let mut bytes = 0;
    for index in 62.. {
        let block = plain::indexed(index);
        let (fields, verdict) = decode(decoder, &block, &mut Vec::new());
        let wanted = peer.decode_bytes(&block);
        assert_eq!(verdict.is_ok(), wanted.is_ok(), "one of the tables is longer");
        let Ok(wanted) = wanted else { break };
        assert_eq!(fields, wanted);
        bytes += fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>();
    }
    assert!(bytes <= announced, "a table of {bytes} bytes, where {announced} were announced");
}

/// What the encoder writes says the same to both decoders, without a table, however often it is said.
fn comes_back(fields: &Fields) {
    let (mut out, mut known) = (Vec::new(), Vec::new());
    for (name, value) in fields {
        hpack_field(&mut out, name, value);
        hpack_known(&mut known, Name::of(name), name, value);
    }
    assert_eq!(out, known);
    let wanted: Fields = fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let mut decoder = HpackDecoder::new(0);
    for _ in 0..2 {
        let (again, verdict) = decode(&mut decoder, &out, &mut Vec::new());
        assert_eq!(verdict, Ok(()));
        assert_eq!(again, wanted);
    }
    assert_eq!(plain::Decoder::default().decode_bytes(&out).as_ref(), Ok(&wanted));
}
