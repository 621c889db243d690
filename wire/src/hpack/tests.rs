//! Appendix C of RFC 7541, each rule that a decoder has to keep, and properties against plain readings of the same text.

use super::huffman::tests::encode as huffman;
use super::*;
use crate::Name;
use proptest::prelude::*;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decode(decoder: &mut HpackDecoder, block: &[u8]) -> Result<Fields, HpackError> {
    let mut fields = Fields::new();
    // Memory that holds something already.
    let mut scratch = vec![b'?'; 7];
    decoder.decode(block, &mut scratch, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
    Ok(fields)
}

fn owned(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// A block after the other: what it says, the table behind it and what that counts for.
type Step<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], usize);

fn check(table_bytes: usize, steps: &[Step<'_>]) {
    let mut decoder = HpackDecoder::new(table_bytes);
    for (block, fields, table, bytes) in steps {
        assert_eq!(decode(&mut decoder, &hex(block)), Ok(owned(fields)), "{block}");
        assert_eq!(state(&decoder), (owned(table), *bytes), "{block}");
    }
}

fn state(decoder: &HpackDecoder) -> (Fields, usize) {
    let entries = decoder.table.entries().map(|(name, value)| (name.to_vec(), value.to_vec()));
    (entries.collect(), decoder.table.bytes())
}

/// Decodes one block with a table of 4096 bytes.
fn once(block: &[u8]) -> Result<Fields, &'static str> {
    decode(&mut HpackDecoder::new(4096), block).map_err(|error| error.0)
}

/// A literal that enters the table.
fn inserting(name: &[u8], value: &[u8]) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 127);
    [&[0x40, name.len() as u8], name, &[value.len() as u8], value].concat()
}

#[test]
fn a_bomb_is_decoded_no_further_than_it_may_be() {
    // An entry of 4,000 bytes, named again and again by one byte.
    let mut bomb = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
    bomb.extend_from_slice(&[0x80 | 62; 10_000]);
    let mut count = 0;
    let outcome = HpackDecoder::new(4096).bounded(20_000).decode(&bomb, &mut Vec::new(), |_, _| count += 1);
    assert_eq!((outcome, count), (Err(HpackError::TOO_MUCH), 5));
    assert_eq!(HpackDecoder::new(4096).decode(&bomb, &mut Vec::new(), |_, _| {}), Ok(()));
}

#[test]
fn integers_are_those_of_appendix_c_1() {
    for (bytes, mask, wanted) in [("0a", 0x1f, 10), ("1f9a0a", 0x1f, 1337), ("2a", 0xff, 42)] {
        let bytes = hex(bytes);
        let mut rest = &bytes[1..];
        assert_eq!((integer(&mut rest, bytes[0], mask), rest), (Ok(wanted), &[][..]));
    }
}

#[test]
fn fields_are_those_of_appendix_c_2() {
    let custom = [("custom-key", "custom-header")];
    check(4096, &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &custom, &custom, 55)]);
    check(4096, &[("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], &[], 0)]);
    check(4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], &[], 0)]);
    check(4096, &[("82", &[(":method", "GET")], &[], 0)]);
}

const AUTHORITY: (&str, &str) = (":authority", "www.example.com");
const NO_CACHE: (&str, &str) = ("cache-control", "no-cache");
const CUSTOM: (&str, &str) = ("custom-key", "custom-value");

fn check_requests(blocks: [&str; 3]) {
    let (method, path) = ((":method", "GET"), (":path", "/"));
    let requests: [&[(&str, &str)]; 3] = [
        &[method, (":scheme", "http"), path, AUTHORITY],
        &[method, (":scheme", "http"), path, AUTHORITY, NO_CACHE],
        &[method, (":scheme", "https"), (":path", "/index.html"), AUTHORITY, CUSTOM],
    ];
    check(
        4096,
        &[
            (blocks[0], requests[0], &[AUTHORITY], 57),
            (blocks[1], requests[1], &[NO_CACHE, AUTHORITY], 110),
            (blocks[2], requests[2], &[CUSTOM, NO_CACHE, AUTHORITY], 164),
        ],
    );
}

#[test]
fn requests_are_those_of_appendix_c_3() {
    check_requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn requests_in_huffman_s_code_are_those_of_appendix_c_4() {
    check_requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

fn check_responses(blocks: [&str; 3]) {
    let (found, moved) = ((":status", "302"), (":status", "307"));
    let private = ("cache-control", "private");
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let later = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    let location = ("location", "https://www.example.com");
    let gzip = ("content-encoding", "gzip");
    let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    check(
        256,
        &[
            (blocks[0], &[found, private, date, location], &[location, date, private, found], 222),
            (blocks[1], &[moved, private, date, location], &[moved, location, date, private], 222),
            (blocks[2], &[(":status", "200"), private, later, location, gzip, cookie], &[cookie, gzip, later], 215),
        ],
    );
}

#[test]
fn responses_are_those_of_appendix_c_5_and_the_table_forgets() {
    check_responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768
         7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153
         444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
         3d31",
    ]);
}

#[test]
fn responses_in_huffman_s_code_are_those_of_appendix_c_6() {
    check_responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8
         e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b
         3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]);
}

#[test]
fn integers_are_bounded() {
    const TOO_LONG: Result<usize, HpackError> = Err(HpackError("an integer that is too long"));
    for (bytes, wanted) in [
        ("7f 00", Ok(0x7f)),
        // Padded, which is allowed as far as it goes.
        ("7f 80 80 80 00", Ok(0x7f)),
        ("7f ff ff ff 7f", Ok(0x7f + (1 << 28) - 1)),
        ("7f 80 80 80 80 00", TOO_LONG),
        ("7f ff ff ff ff 0f", TOO_LONG),
        ("7f ff ff ff ff ff ff ff ff ff ff 01", TOO_LONG),
        ("7f ff ff ff", Err(HpackError("a block that breaks off"))),
        ("7f", Err(HpackError("a block that breaks off"))),
    ] {
        let bytes = hex(bytes);
        assert_eq!(integer(&mut &bytes[1..], bytes[0], 0x7f), wanted, "{bytes:x?}");
    }
    for block in ["ff ffff ffff 0f", "7f ffff ffff 0f", "3f ffff ffff 0f", "0f ffff ffff 0f", "00 7f ffff ffff 0f"] {
        assert_eq!(once(&hex(block)), Err("an integer that is too long"), "{block}");
    }
}

#[test]
fn padding_is_ones_and_less_than_a_byte() {
    let of = |coded: &[u8]| {
        once(&[&[0x00, 0x01, b'a', 0x80 | coded.len() as u8], coded].concat()).map(|mut fields| fields.remove(0).1)
    };
    // 5 bits are `0`, 8 are `&`.
    for (coded, wanted) in [
        (&[][..], Ok(&b""[..])),
        (&[0x07], Ok(b"0")),
        (&[0xf8], Ok(b"&")),
        (&[0x00, 0x00, 0x00, 0x00, 0x00], Ok(b"00000000")),
        (&[0x06], Err("a string padded with other bits than ones")),
        (&[0x00], Err("a string padded with other bits than ones")),
        (&[0xf8, 0xff], Err("a string with more than seven bits of padding")),
        (&[0x07, 0xff], Err("a string with more than seven bits of padding")),
        (&[0xff], Err("a string with more than seven bits of padding")),
        (&[0xff, 0xff, 0xff], Err("a string with more than seven bits of padding")),
        // A code that breaks off.
        (&[0xfe], Err("a string with more than seven bits of padding")),
        (&[0xff, 0xff, 0xfe], Err("a string with more than seven bits of padding")),
    ] {
        assert_eq!(of(coded), wanted.map(<[u8]>::to_vec), "{coded:x?}");
    }
}

#[test]
fn the_end_of_string_is_not_in_a_string() {
    for coded in
        ["ffff fffc", "ffff ffff", "07ff ffff ff", "ffff ffff ffff ffff ffff", "0000 0000 0000 0000 0000 ffff fffc 07ff ffff"]
    {
        let coded = hex(coded);
        let block = [&[0x00, 0x01, b'a', 0x80 | coded.len() as u8], &coded[..]].concat();
        assert_eq!(once(&block), Err("the end of string within a string"), "{coded:x?}");
    }
}

#[test]
fn size_updates_stand_at_the_start_of_a_block() {
    let get = owned(&[(":method", "GET")]);
    for (block, wanted) in [
        ("20 82", Ok(get.clone())),
        ("20 3fe11f 82", Ok(get.clone())),
        ("20", Ok(Fields::new())),
        ("82 20", Err("a size update behind a field")),
        ("20 82 20", Err("a size update behind a field")),
        ("0001 6101 62 3fe11f", Err("a size update behind a field")),
    ] {
        assert_eq!(once(&hex(block)), wanted, "{block}");
    }
    // The next block has a start of its own.
    let mut decoder = HpackDecoder::new(4096);
    for block in ["82", "20", "3fe11f 82"] {
        assert!(decode(&mut decoder, &hex(block)).is_ok(), "{block}");
    }
}

#[test]
fn size_updates_are_never_above_what_was_announced() {
    const ABOVE: Result<Fields, HpackError> = Err(HpackError("a size update above what was announced"));
    for (announced, update, allowed) in [
        (4096, "3fe11f", true),  // 4096
        (4096, "3fe21f", false), // 4097
        (0, "20", true),
        (0, "21", false),
        (30, "3e", true),
        (30, "3f00", false),
        (65536, "3fe1ff03", true),
        (65536, "3fe2ff03", false),
    ] {
        let wanted = if allowed { Ok(Fields::new()) } else { ABOVE };
        assert_eq!(decode(&mut HpackDecoder::new(announced), &hex(update)), wanted, "{announced}: {update}");
    }
    // More than the default is the encoder's to take; until then it evicts by the default.
    let mut decoder = HpackDecoder::new(65536);
    let field = inserting(b"a", &[b'x'; 95]);
    for _ in 0..40 {
        decode(&mut decoder, &field).unwrap();
    }
    assert_eq!(state(&decoder).1, 32 * 128);
    decode(&mut decoder, &hex("3fe1ff03")).unwrap();
    for _ in 0..40 {
        decode(&mut decoder, &field).unwrap();
    }
    assert_eq!(state(&decoder).1, 72 * 128);
}

#[test]
fn indices_of_nothing_are_errors() {
    const NOTHING: Result<Fields, &str> = Err("an index of nothing");
    for block in ["80", "be", "ff00", "7f00 01 61", "7e 01 61", "0f2f 01 61", "1f2f 01 61", "ffff ffff 7f"] {
        assert_eq!(once(&hex(block)), NOTHING, "{block}");
    }
    let one = inserting(b"a", b"b");
    assert_eq!(once(&[&one[..], &[0xbe]].concat()), Ok(owned(&[("a", "b"), ("a", "b")])));
    assert_eq!(once(&[&one[..], &[0xbf]].concat()), NOTHING);
    assert_eq!(once(&hex("bd")), Ok(owned(&[("www-authenticate", "")])));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = HpackDecoder::new(64);
    decode(&mut decoder, &inserting(b"a", b"b")).unwrap();
    assert_eq!(state(&decoder), (owned(&[("a", "b")]), 34));
    // One that just fits takes the place of all.
    decode(&mut decoder, &inserting(&[b'n'; 16], &[b'v'; 16])).unwrap();
    assert_eq!(state(&decoder).1, 64);
    let large = [b'v'; 17];
    let fields = decode(&mut decoder, &inserting(&[b'n'; 16], &large)).unwrap();
    assert_eq!(fields, [([b'n'; 16].to_vec(), large.to_vec())], "it is a field all the same");
    assert_eq!(state(&decoder), (Fields::new(), 0));
    decode(&mut decoder, &inserting(b"a", b"b")).unwrap();
    assert_eq!(state(&decoder), (owned(&[("a", "b")]), 34));
}

#[test]
fn a_new_entry_may_have_the_name_of_one_that_it_evicts() {
    let mut decoder = HpackDecoder::new(80);
    decode(&mut decoder, &inserting(b"some-name", b"old")).unwrap();
    for value in [&b"a value for which the old must go"[..], b"another of them, so that one goes"] {
        let block = [&[0x7e, value.len() as u8], value].concat();
        let wanted = vec![(b"some-name".to_vec(), value.to_vec())];
        assert_eq!(decode(&mut decoder, &block).unwrap(), wanted);
        assert_eq!(state(&decoder), (wanted, 32 + 9 + value.len()));
    }
    // And it is too large for the table itself.
    let block = [&[0x7e, 60], &[b'x'; 60][..]].concat();
    assert_eq!(decode(&mut decoder, &block).unwrap(), [(b"some-name".to_vec(), vec![b'x'; 60])]);
    assert_eq!(state(&decoder), (Fields::new(), 0));
}

#[test]
fn a_smaller_table_forgets_the_oldest() {
    let mut decoder = HpackDecoder::new(4096);
    for name in ["a", "b", "c"] {
        decode(&mut decoder, &inserting(name.as_bytes(), b"1")).unwrap();
    }
    decode(&mut decoder, &hex("3f27")).unwrap(); // 70
    assert_eq!(state(&decoder), (owned(&[("c", "1"), ("b", "1")]), 68));
    decode(&mut decoder, &hex("20 3fe11f")).unwrap(); // To nothing, and back.
    assert_eq!(state(&decoder), (Fields::new(), 0));
}

#[test]
fn truncated_blocks_are_errors() {
    let whole = hex(
        "3fe11f 82 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff 400a 6375 7374 6f6d 2d6b
         6579 0d63 7573 746f 6d2d 6865 6164 6572 0f2a 0161 1f80 8000 0161",
    );
    let mut block = whole.clone();
    block.pop();
    // Where an instruction ends, a block may.
    let mut ends = Vec::new();
    for length in 0..block.len() {
        match once(&block[..length]) {
            Ok(_) => ends.push(length),
            Err(error) => assert!(matches!(error, "a block that breaks off" | "a string that breaks off"), "{length}: {error}"),
        }
    }
    assert_eq!(ends, [0, 3, 4, 8, 15, 39, 65, 69]);
    assert!(once(&whole).is_ok());
}

#[test]
fn an_empty_decoder_holds_no_memory() {
    let mut decoder = HpackDecoder::new(65536);
    decode(&mut decoder, &hex("8286 8400 0161 0162")).unwrap();
    assert_eq!(decoder.table.memory(), 0);
}

fn encoded(name: &[u8], value: &[u8]) -> Vec<u8> {
    let (mut out, mut again) = (Vec::new(), Vec::new());
    hpack_field(&mut out, name, value);
    hpack_known(&mut again, Name::of(name), name, value);
    assert_eq!(out, again, "{}", name.escape_ascii());
    out
}

#[test]
fn fields_are_written_as_short_as_the_static_table_allows() {
    for (name, value, wanted) in [
        (":method", "GET", "82"),
        (":method", "POST", "83"),
        (":method", "PUT", "02 03 505554"),
        (":path", "/", "84"),
        (":path", "/index.html", "85"),
        (":path", "/a", "04 02 2f61"),
        (":scheme", "https", "87"),
        (":authority", "", "01 00"),
        ("accept-encoding", "gzip, deflate", "90"),
        ("Accept-Encoding", "br", "0f01 02 6272"),
        ("HOST", "a", "0f17 01 61"),
        ("content-length", "5", "0f0d 01 35"),
        ("X-A", "B", "00 03 782d61 01 42"),
        ("www-authenticate", "", "0f2e 00"),
    ] {
        assert_eq!(encoded(name.as_bytes(), value.as_bytes()), hex(wanted), "{name}: {value}");
    }
    let long = encoded(&[b'N'; 127], &[b'v'; 1337]);
    assert_eq!((&long[..3], &long[3..130], &long[130..133]), (&hex("007f00")[..], &[b'n'; 127][..], &hex("7fba09")[..]));
}

#[test]
fn credentials_are_never_indexed() {
    for name in ["authorization", "proxy-authorization", "Cookie", "set-cookie", "X-Api-Key", "x-auth-token", "x-csrf-token"] {
        assert_eq!(encoded(name.as_bytes(), b"s")[0] & 0xf0, 0x10, "{name}");
    }
    for name in ["authority", "www-authenticate", "cookies", "x-api-kez", "x-request-id"] {
        assert_eq!(encoded(name.as_bytes(), b"s")[0] & 0xf0, 0x00, "{name}");
    }
}

#[test]
fn every_status_is_read_as_it_was_written() {
    for status in 100..1000 {
        let mut out = Vec::new();
        hpack_status(&mut out, status);
        assert_eq!(out, encoded(b":status", status.to_string().as_bytes()));
        assert_eq!(once(&out), Ok(owned(&[(":status", &status.to_string())])));
    }
}

#[test]
fn a_table_is_given_up_in_one_byte() {
    let mut out = Vec::new();
    hpack_no_table(&mut out);
    hpack_field(&mut out, b"a", b"b");
    let mut decoder = HpackDecoder::new(4096);
    decode(&mut decoder, &inserting(b"c", b"d")).unwrap();
    assert_eq!(decode(&mut decoder, &out), Ok(owned(&[("a", "b")])));
    assert_eq!(state(&decoder), (Fields::new(), 0));
}

/// How a field may be written.
#[derive(Debug, Clone, Copy)]
struct Way {
    kind: u8,
    huffman_name: bool,
    huffman_value: bool,
}

fn string_of(bytes: &[u8], coded: bool, out: &mut Vec<u8>) {
    let bytes = if coded { huffman(bytes) } else { bytes.to_vec() };
    assert!(bytes.len() < 127 + 128);
    let flag = if coded { 0x80 } else { 0 };
    match bytes.len() {
        short @ ..127 => out.push(flag | short as u8),
        long => out.extend_from_slice(&[flag | 0x7f, (long - 127) as u8]),
    }
    out.extend_from_slice(&bytes);
}

fn a_way() -> impl Strategy<Value = Way> {
    (prop_oneof![Just(0x00u8), Just(0x10), Just(0x40)], any::<bool>(), any::<bool>())
        .prop_map(|(kind, huffman_name, huffman_value)| Way { kind, huffman_name, huffman_value })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_the_encoder_writes_is_read(
        fields in proptest::collection::vec(("[!-~]{1,20}|:path|accept-encoding|cookie", proptest::collection::vec(any::<u8>(), 0..200)), 0..8),
    ) {
        let mut out = Vec::new();
        fields.iter().for_each(|(name, value)| hpack_field(&mut out, name.as_bytes(), value));
        let wanted: Fields = fields.iter().map(|(name, value)| (name.to_ascii_lowercase().into_bytes(), value.clone())).collect();
        let mut decoder = HpackDecoder::new(0);
        prop_assert_eq!(decode(&mut decoder, &out), Ok(wanted));
    }

    #[test]
    fn however_a_field_is_written_it_is_read(
        fields in proptest::collection::vec((a_way(), proptest::collection::vec(any::<u8>(), 0..60), "[ -~é]{0,60}"), 0..8),
    ) {
        let mut out = Vec::new();
        for (way, name, value) in &fields {
            out.push(way.kind);
            string_of(name, way.huffman_name, &mut out);
            string_of(value.as_bytes(), way.huffman_value, &mut out);
        }
        let wanted: Fields = fields.into_iter().map(|(_, name, value)| (name, value.into_bytes())).collect();
        let mut decoder = HpackDecoder::new(4096);
        prop_assert_eq!(decode(&mut decoder, &out), Ok(wanted));
    }

    #[test]
    fn any_bytes_are_fields_or_an_error(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..6)) {
        let mut decoder = HpackDecoder::new(200);
        for block in blocks {
            let verdict = decode(&mut decoder, &block);
            prop_assert!(state(&decoder).1 <= 200);
            if let Ok(fields) = verdict {
                let longest = 200.max(block.len() * 8 / 5);
                prop_assert!(fields.iter().all(|(name, value)| name.len() <= longest && value.len() <= longest));
            }
        }
    }
}
