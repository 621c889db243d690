//! What signatures are written in: a structured field means the same when it is written anew; nothing that a signature covers can make a line
//! of its own in what is signed; a claim to AWS's signature says the same when it is written anew.

use maitred_core::Exchange;
use maitred_core::aws::sigv4::{ALGORITHM, Claim, Shown};
use maitred_policies::authenticate::http_signature::fuzz_base;
use maitred_wire::structured::{Dictionary, Item, PARTS_MAX};
use maitred_wire::{HeadLimits, Parsed, base64};
use std::time::Instant;

pub fn structured(data: &[u8]) {
    if let Some(bytes) = base64::decode(data) {
        let mut again = Vec::new();
        base64::encode(&bytes, &mut again);
        assert_eq!(again, data, "two texts of the same bytes");
    }
    if let Ok(item) = Item::parse(data) {
        let mut out = Vec::new();
        item.write(&mut out);
        assert_eq!(Item::parse(&out).as_ref(), Ok(&item), "{}", out.escape_ascii());
    }
    let Ok(dictionary) = Dictionary::parse(data) else { return };
    let mut out = Vec::new();
    dictionary.write(&mut out);
    assert!(out.iter().all(|byte| matches!(byte, 0x20..=0x7e)), "{}", out.escape_ascii());
    assert!(dictionary.0.len() <= PARTS_MAX);
    assert_eq!(Dictionary::parse(&out).as_ref(), Ok(&dictionary), "{}", out.escape_ascii());
    let mut twice = Vec::new();
    Dictionary::parse(&out).expect("it was read before").write(&mut twice);
    assert_eq!(out, twice);
}

/// The first line is a Signature-Input; what follows is a request.
pub fn signature_base(data: &[u8]) {
    let (field, head) = match data.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b"GET /a?b=c&d HTTP/1.1\r\nHost: example.com\r\nA: 1\r\nA: b=2\r\n\r\n"[..]),
    };
    let limits = HeadLimits { head_bytes: 65536, fields: 100, target_bytes: 16384, drop_underscores: true };
    let mut exchange = Exchange::new(Instant::now());
    if !matches!(exchange.request.parse(head, &limits), Ok(Parsed::Complete(_))) {
        return;
    }
    for (count, base) in fuzz_base(&exchange, field) {
        let lines: Vec<&[u8]> = base.split(|&byte| byte == b'\n').collect();
        assert_eq!(lines.len(), count + 1, "{}", base.escape_ascii());
        let (last, covered) = lines.split_last().expect("one line at least");
        assert!(last.starts_with(b"\"@signature-params\": ("));
        let is_line = |line: &&[u8]| line.starts_with(b"\"") && !line.starts_with(b"\"@signature-params\"");
        assert!(covered.iter().all(is_line), "{}", base.escape_ascii());
    }
}

pub fn aws_authorization(data: &[u8]) {
    const TIME: u64 = 1_440_938_160;
    for claim in [Claim::from_header(data, TIME), Claim::from_query(data)].into_iter().flatten() {
        assert!(claim.signed.is_sorted() && claim.has_signed("host") && !claim.key_id.is_empty());
        let day = String::from_utf8(claim.day().to_vec()).expect("digits");
        let scope = [&*claim.key_id, &day, &claim.region, &claim.service, "aws4_request"].join("/");
        let signature: String = claim.signature.iter().map(|byte| format!("{byte:02x}")).collect();
        let signed = claim.signed.join(";");
        if claim.shown == Shown::Header {
            let again = format!("{ALGORITHM} Credential={scope}, SignedHeaders={signed}, Signature={signature}");
            assert_eq!(Claim::from_header(again.as_bytes(), TIME), Ok(claim), "{again}");
        }
    }
}
