//! gRPC's fields: each is read as a plainer reading of the specification reads it, and a message is a field's value whatever it says.

use maitred_wire::{GrpcCode, ResponseHead, is_grpc, parse_timeout, path, percent_encode_message};
use std::time::Duration;

pub fn grpc(data: &[u8]) {
    assert_eq!(parse_timeout(data), timeout_plainly(data));
    if is_grpc(data) {
        let text = String::from_utf8_lossy(data).to_ascii_lowercase();
        let rest = text.strip_prefix("application/grpc").expect("another type was taken for gRPC");
        assert!(!rest.starts_with('-') && !rest.starts_with(char::is_alphanumeric), "{rest:?} is another protocol");
        let shouted = data.to_ascii_uppercase();
        assert!(is_grpc(&shouted), "its case changes a type");
        assert!(is_grpc(&[data, b";a=b"].concat()) || data.ends_with(b"+"), "a parameter changes a type");
    }
    if let Some(code) = GrpcCode::parse(data) {
        assert_eq!(code.number().to_string().as_bytes(), data);
    }
    message(&String::from_utf8_lossy(data));
}

fn timeout_plainly(data: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(data).ok()?;
    let digits = text.trim_end_matches(['H', 'M', 'S', 'm', 'u', 'n']);
    let unit = &text[digits.len()..];
    if !(1..=8).contains(&digits.len()) || !digits.chars().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nanos = match unit {
        "H" => 3600 * 1_000_000_000,
        "M" => 60 * 1_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1000,
        "n" => 1,
        _ => return None,
    };
    let nanos = digits.parse::<u128>().ok()? * nanos;
    Some(Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32))
}

fn message(message: &str) {
    let mut encoded = b"kept".to_vec();
    percent_encode_message(message, &mut encoded);
    let encoded = encoded.strip_prefix(b"kept").expect("what was there stays");
    assert!(
        ResponseHead::default().h2_field(b"grpc-message", encoded).is_ok(),
        "no value of a field: {}",
        encoded.escape_ascii()
    );
    let mut decoded = Vec::new();
    path::decode(encoded, &mut decoded);
    assert_eq!(decoded, message.as_bytes());
}
