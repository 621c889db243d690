//! What stands before a streamed body: JSON with status and headers, then eight NULs (reference: AWS, "Response streaming for Lambda"). Takes
//! pieces as they come, however they are cut, and says where the body begins. Pure; reads no JSON.

use super::answer::Malformed;

/// How a function says that its result begins so.
pub const CONTENT_TYPE: &str = "application/vnd.awslambda.http-integration-response";
/// Bytes of JSON; whoever sends more has forgotten the NULs, and would be gathered for ever.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
const NULS: usize = 8;

#[derive(Debug, Default)]
pub struct Prelude {
    metadata: Vec<u8>,
    nuls: usize,
}

impl Prelude {
    /// Takes what belongs to it from a piece, and says how many bytes that were.
    pub fn feed(&mut self, piece: &[u8]) -> Result<usize, Malformed> {
        let mut taken = 0;
        if self.nuls == 0 {
            taken = piece.iter().position(|&byte| byte == 0).unwrap_or(piece.len());
            if self.metadata.len() + taken > METADATA_BYTES_MAX {
                return Err(Malformed::new(format!("no eight NULs within {METADATA_BYTES_MAX} bytes of a stream")));
            }
            self.metadata.extend_from_slice(&piece[..taken]);
        }
        while self.nuls < NULS && taken < piece.len() {
            if piece[taken] != 0 {
                return Err(Malformed::new("fewer than eight NULs behind the metadata of a stream"));
            }
            self.nuls += 1;
            taken += 1;
        }
        Ok(taken)
    }

    /// All of the JSON, once the eighth NUL was seen.
    pub fn metadata(&self) -> Option<&[u8]> {
        (self.nuls == NULS).then_some(&self.metadata[..])
    }
}

/// Whether a result of this type begins with a prelude.
pub fn is_announced(content_type: Option<&str>) -> bool {
    let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(CONTENT_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(pieces: &[&[u8]]) -> Result<(Option<Vec<u8>>, Vec<u8>), Malformed> {
        let (mut prelude, mut body) = (Prelude::default(), Vec::new());
        for piece in pieces {
            let taken = prelude.feed(piece)?;
            body.extend_from_slice(&piece[taken..]);
        }
        Ok((prelude.metadata().map(<[u8]>::to_vec), body))
    }

    #[test]
    fn wherever_it_is_cut_the_body_begins_at_the_same_place() {
        let whole = b"{\"statusCode\":201}\0\0\0\0\0\0\0\0\0body\0";
        for cut in 0..=whole.len() {
            for second in cut..=whole.len() {
                let (metadata, body) = fed(&[&whole[..cut], &whole[cut..second], &whole[second..]]).unwrap();
                assert_eq!(metadata.as_deref(), Some(&b"{\"statusCode\":201}"[..]));
                // The ninth NUL is the body's own.
                assert_eq!(body, b"\0body\0");
            }
        }
    }

    #[test]
    fn no_delimiter_and_half_of_one_are_malformed() {
        assert_eq!(fed(&[b"{}"]).unwrap(), (None, Vec::new()));
        assert_eq!(fed(&[b"{}\0\0\0", b"\0\0\0\0"]).unwrap().0, None, "seven are too few");
        assert!(fed(&[b"{}\0\0\0x"]).is_err());
        let long = [b' '; METADATA_BYTES_MAX + 1];
        assert!(fed(&[&long[1..], b"\0"]).is_ok());
        assert!(fed(&[&long]).is_err());
        assert!(fed(&[&long[1..], b" "]).is_err());
    }

    #[test]
    fn its_type_announces_it() {
        assert!(is_announced(Some(CONTENT_TYPE)) && is_announced(Some(&format!("{CONTENT_TYPE}; v=1"))));
        assert!(!is_announced(Some("application/json")) && !is_announced(None));
    }
}
