//! What gRPC says in HTTP's fields (PROTOCOL-HTTP2.md of gRPC): content type, deadline, status and message. Knows no frames, no messages
//! and nothing of gRPC-Web.

use crate::h2::H2Code;
use std::time::Duration;

/// More digits a timeout may not have.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// Reads `grpc-timeout`: one to eight digits and a unit, `H`, `M`, `S`, `m`, `u` or `n`. `None` for anything else.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > TIMEOUT_DIGITS_MAX {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes a `grpc-timeout`: as fine as its eight digits allow, rounded down, and never 0, which the grammar does not have.
pub fn write_timeout(out: &mut Vec<u8>, left: Duration) {
    const MOST: u128 = 10u128.pow(TIMEOUT_DIGITS_MAX as u32) - 1;
    let (nanos, seconds) = (left.as_nanos().max(1), u128::from(left.as_secs()));
    let units = [
        (nanos, b'n'),
        (nanos / 1_000, b'u'),
        (nanos / 1_000_000, b'm'),
        (seconds, b'S'),
        (seconds / 60, b'M'),
        ((seconds / 3600).min(MOST), b'H'),
    ];
    if let Some((number, unit)) = units.into_iter().find(|(number, _)| *number <= MOST) {
        crate::decimal(out, number as u64);
        out.push(unit);
    }
}

/// Whether a Content-Type is gRPC's: `application/grpc`, with or without `+proto` and the like, with or without parameters.
/// `application/grpc-web` is another protocol.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let Some((start, rest)) = content_type.split_at_checked(TYPE.len()) else { return false };
    let ends = match rest {
        [b'+', format, ..] => format.is_ascii_alphanumeric(),
        _ => matches!(rest.trim_ascii_start(), [] | [b';', ..]),
    };
    ends && start.eq_ignore_ascii_case(TYPE)
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $text:literal;)+) => {
        /// A status of gRPC, in `grpc-status` (statuscodes.md of gRPC).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum GrpcCode { $($(#[$doc])* $variant = $number),+ }

        impl GrpcCode {
            pub const ALL: &[GrpcCode] = &[$(GrpcCode::$variant),+];

            /// As statuscodes.md writes it.
            pub fn text(self) -> &'static str {
                match self { $(GrpcCode::$variant => $text),+ }
            }
        }
    };
}

codes! {
    Ok = 0, "OK";
    Cancelled = 1, "CANCELLED";
    Unknown = 2, "UNKNOWN";
    InvalidArgument = 3, "INVALID_ARGUMENT";
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED";
    NotFound = 5, "NOT_FOUND";
    AlreadyExists = 6, "ALREADY_EXISTS";
    PermissionDenied = 7, "PERMISSION_DENIED";
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED";
    FailedPrecondition = 9, "FAILED_PRECONDITION";
    Aborted = 10, "ABORTED";
    OutOfRange = 11, "OUT_OF_RANGE";
    Unimplemented = 12, "UNIMPLEMENTED";
    Internal = 13, "INTERNAL";
    Unavailable = 14, "UNAVAILABLE";
    DataLoss = 15, "DATA_LOSS";
    Unauthenticated = 16, "UNAUTHENTICATED";
}

impl GrpcCode {
    /// The number that `grpc-status` has, 0 to 16.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Reads `grpc-status`: a decimal without leading zero. `None` for what is no code.
    pub fn parse(value: &[u8]) -> Option<GrpcCode> {
        let number = match value {
            [digit @ b'0'..=b'9'] => digit - b'0',
            [b'1', digit @ b'0'..=b'9'] => 10 + digit - b'0',
            _ => return None,
        };
        GrpcCode::ALL.get(usize::from(number)).copied()
    }
}

/// The status that stands for a stream which its server reset (PROTOCOL-HTTP2.md, "Errors"): what a client sees that is connected to it.
pub fn reset_to_grpc(code: H2Code) -> GrpcCode {
    match code {
        H2Code::REFUSED_STREAM => GrpcCode::Unavailable,
        H2Code::CANCEL => GrpcCode::Cancelled,
        H2Code::ENHANCE_YOUR_CALM => GrpcCode::ResourceExhausted,
        H2Code::INADEQUATE_SECURITY => GrpcCode::PermissionDenied,
        _ => GrpcCode::Internal,
    }
}

/// What a client of gRPC takes an HTTP status for that came without `grpc-status` (http-grpc-status-mapping.md of gRPC).
pub fn status_to_grpc(http_status: u16) -> GrpcCode {
    match http_status {
        400 => GrpcCode::Internal,
        401 => GrpcCode::Unauthenticated,
        403 => GrpcCode::PermissionDenied,
        404 => GrpcCode::Unimplemented,
        429 | 502 | 503 | 504 => GrpcCode::Unavailable,
        _ => GrpcCode::Unknown,
    }
}

/// Appends `message` as `grpc-message` has it: all but visible ASCII and blanks is escaped, and the percent sign. So are blanks at
/// either end, which no field's value keeps.
pub fn percent_encode_message(message: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let last = message.len().saturating_sub(1);
    for (at, byte) in message.bytes().enumerate() {
        let is_plain = matches!(byte, b'!'..=b'~') && byte != b'%' || byte == b' ' && at != 0 && at != last;
        if is_plain {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_timeout_is_written_as_finely_as_it_fits() {
        let table = [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_micros(99_999_999), "99999999u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::MAX, "99999999H"),
        ];
        for (left, wanted) in table {
            let mut out = Vec::new();
            write_timeout(&mut out, left);
            assert_eq!(String::from_utf8_lossy(&out), wanted, "{left:?}");
            assert!(parse_timeout(&out).is_some_and(|read| read <= left.max(Duration::from_nanos(1))), "{left:?}");
        }
    }

    #[test]
    fn timeouts() {
        for (value, wanted) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("30S", Some(Duration::from_secs(30))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("9n", Some(Duration::from_nanos(9))),
            ("0S", Some(Duration::ZERO)),
            ("00000001S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("", None),
            ("S", None),
            ("1", None),
            ("100000000n", None),
            ("1s", None),
            ("1h", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1 S", None),
            (" 1S", None),
            ("1S ", None),
            ("1SS", None),
            ("1é", None),
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), wanted, "{value:?}");
        }
    }

    #[test]
    fn content_types() {
        for (value, wanted) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc+json", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc ; a=b", true),
            ("application/grpc+proto;a=b", true),
            ("Application/GRPC", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpc-web-text", false),
            ("application/grpcx", false),
            ("application/grpc+", false),
            ("application/grpc+;a", false),
            ("application/grpc +proto", false),
            ("application/grp", false),
            ("application/json", false),
            ("xapplication/grpc", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(value.as_bytes()), wanted, "{value:?}");
        }
    }

    #[test]
    fn codes_are_their_numbers() {
        assert_eq!(GrpcCode::ALL.len(), 17);
        for (number, &code) in GrpcCode::ALL.iter().enumerate() {
            assert_eq!(usize::from(code.number()), number);
            assert_eq!(GrpcCode::parse(number.to_string().as_bytes()), Some(code));
        }
        for value in ["", "17", "00", "01", "-1", "1 ", "100", "x"] {
            assert_eq!(GrpcCode::parse(value.as_bytes()), None, "{value:?}");
        }
        assert_eq!(GrpcCode::DeadlineExceeded.text(), "DEADLINE_EXCEEDED");
    }

    #[test]
    fn http_statuses() {
        for (status, code) in [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14)] {
            assert_eq!(status_to_grpc(status).number(), code, "{status}");
        }
        for status in [0, 100, 200, 204, 302, 402, 405, 408, 413, 431, 500, 501, 505, 599, 1000] {
            assert_eq!(status_to_grpc(status), GrpcCode::Unknown, "{status}");
        }
    }

    #[test]
    fn resets() {
        for (code, wanted) in [
            (0, 13),
            (1, 13),
            (2, 13),
            (3, 13),
            (4, 13),
            (6, 13),
            (7, 14),
            (8, 1),
            (9, 13),
            (10, 13),
            (11, 8),
            (12, 7),
            (13, 13),
            (99, 13),
        ] {
            assert_eq!(reset_to_grpc(H2Code(code)).number(), wanted, "{code}");
        }
    }

    #[test]
    fn messages() {
        for (message, wanted) in [
            ("", ""),
            ("plain words, and !~", "plain words, and !~"),
            ("100%", "100%25"),
            ("a\r\nb: c", "a%0D%0Ab: c"),
            ("é", "%C3%A9"),
            ("\0\t\x7f", "%00%09%7F"),
            (" a  b ", "%20a  b%20"),
            (" ", "%20"),
        ] {
            let mut out = Vec::new();
            percent_encode_message(message, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(wanted), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn a_message_is_a_value_and_comes_back(message in any::<String>()) {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            percent_encode_message(&message, &mut there);
            prop_assert!(there.iter().all(|byte| (b' '..=b'~').contains(byte)));
            prop_assert_eq!(there.trim_ascii(), &there[..]);
            crate::path::decode(&there, &mut back);
            prop_assert_eq!(back, message.as_bytes());
        }
    }
}
