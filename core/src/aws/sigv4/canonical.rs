//! What is signed, made anew from the request ("Create a signed AWS API request", AWS IAM User Guide): the canonical request, and the text
//! that holds its hash. The host is the one that the client named, path and query are those that came.

use super::claim::{ALGORITHM, Claim, Shown};
use super::request::Request;
use super::{TERMINATOR, hash};
use maitred_wire::path;

/// All but its last line, which stands for the body: what is wrong here is found before one is read.
pub fn canonical_request(request: &impl Request, claim: &Claim) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(request.method());
    out.push(b'\n');
    uri(request.path(), claim.is_for_s3(), &mut out);
    out.push(b'\n');
    query(request.query(), claim.shown, &mut out);
    out.push(b'\n');
    for name in &claim.signed {
        header(request, name, &mut out)?;
    }
    out.push(b'\n');
    out.extend_from_slice(claim.signed.join(";").as_bytes());
    out.push(b'\n');
    Ok(out)
}

/// `request`: a canonical one, with its last line.
pub fn string_to_sign(claim: &Claim, request: &[u8]) -> Vec<u8> {
    let (stamp, day) = (claim.stamp(), claim.day());
    let scope = [&day[..], claim.region.as_bytes(), claim.service.as_bytes(), TERMINATOR.as_bytes()].join(&b'/');
    [ALGORITHM.as_bytes(), &stamp, &scope, &hash(request)].join(&b'\n')
}

/// In lower case. `bytes` are 32.
pub fn hex(bytes: &[u8]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 64];
    for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    out
}

/// Encoded once more as it came, without dot segments and doubled slashes; S3's keys are names and not paths, and encoded once.
fn uri(raw: &[u8], is_s3: bool, out: &mut Vec<u8>) {
    if is_s3 {
        let mut decoded = Vec::with_capacity(raw.len());
        path::decode(raw, &mut decoded);
        return encode_segments(&decoded, out);
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in raw.split(|&byte| byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let names_a_folder = raw.ends_with(b"/") && !segments.is_empty();
    out.push(b'/');
    encode_segments(&segments.join(&b'/'), out);
    if names_a_folder {
        out.push(b'/');
    }
}

fn encode_segments(text: &[u8], out: &mut Vec<u8>) {
    for (at, segment) in text.split(|&byte| byte == b'/').enumerate() {
        if at > 0 {
            out.push(b'/');
        }
        path::encode(segment, out);
    }
}

/// Sorted by name and value, each encoded anew. A presigned one does not sign its own signature.
fn query(raw: &[u8], shown: Shown, out: &mut Vec<u8>) {
    let anew = |text: &[u8]| {
        let mut decoded = Vec::with_capacity(text.len());
        path::decode(text, &mut decoded);
        let mut encoded = Vec::with_capacity(text.len());
        path::encode(&decoded, &mut encoded);
        encoded
    };
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for pair in raw.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let at = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let (name, value) = (anew(&pair[..at]), anew(pair.get(at + 1..).unwrap_or_default()));
        if shown == Shown::Header || name != b"X-Amz-Signature" {
            pairs.push((name, value));
        }
    }
    pairs.sort();
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

/// Trimmed, runs of spaces as one, lines joined by commas.
fn header(request: &impl Request, name: &str, out: &mut Vec<u8>) -> Result<(), &'static str> {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    if name == "host" {
        out.extend_from_slice(request.host());
        out.push(b'\n');
        return Ok(());
    }
    let mut values = request.values(name.as_bytes()).peekable();
    if values.peek().is_none() {
        return Err("a signed header is not in the request");
    }
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut previous = 0;
        for &byte in value.trim_ascii() {
            if byte != b' ' || previous != b' ' {
                out.push(byte);
            }
            previous = byte;
        }
    }
    out.push(b'\n');
    Ok(())
}
