//! Fields of a response as a function names them: which go on, which go under another name, and which no response can have. Knows no JSON.

use super::Malformed;
use super::result::{FIELD_BYTES_MAX, FIELDS_MAX};
use maitred_wire::{Headers, Name};

/// A REST API sends these on under another name, since it says them itself (reference: AWS, "Important notes" of API Gateway).
const REMAPPED: [(&[u8], &[u8]); 5] = [
    (b"connection", b"x-amzn-Remapped-Connection"),
    (b"content-length", b"x-amzn-Remapped-Content-Length"),
    (b"date", b"x-amzn-Remapped-Date"),
    (b"server", b"x-amzn-Remapped-Server"),
    (b"www-authenticate", b"x-amzn-Remapped-WWW-Authenticate"),
];

/// The fields of one response, counted.
pub struct Fields<'a> {
    pub headers: &'a mut Headers,
    /// Of a REST API.
    pub is_remapped: bool,
    count: usize,
    bytes: usize,
}

impl<'a> Fields<'a> {
    pub fn new(headers: &'a mut Headers, is_remapped: bool) -> Fields<'a> {
        Fields { headers, is_remapped, count: 0, bytes: 0 }
    }

    pub fn add(&mut self, name: &str, value: &str) -> Result<(), Malformed> {
        let (name, value) = (name.as_bytes(), value.trim_matches([' ', '\t']).as_bytes());
        if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
            return Err(Malformed::new("the result names a header that cannot be one"));
        }
        if value.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
            return Err(Malformed::new("a header of the result has a control character"));
        }
        self.count += 1;
        self.bytes += name.len() + value.len();
        if self.count > FIELDS_MAX || self.bytes > FIELD_BYTES_MAX {
            return Err(Malformed::new(format!("the result has over {FIELDS_MAX} headers, or {FIELD_BYTES_MAX} bytes of them")));
        }
        let other = REMAPPED.iter().find(|(from, _)| self.is_remapped && name.eq_ignore_ascii_case(from));
        let known = Name::of(name);
        match other {
            Some((_, to)) => self.headers.add(to, value),
            // How a response is framed is the gateway's to say.
            None if known.is_hop_by_hop() || known == Name::Trailer => {}
            None => self.headers.add(name, value),
        }
        Ok(())
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
