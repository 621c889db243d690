//! Credentials as clients show them: tokens, signed requests, names with passwords. Each is the one of its number, so that none need be shown
//! twice. What becomes of them is not known here.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::signing::{Signer, base64, base64url, hex, hmac_sha256, sha256_hex};
use crate::tls::HOST;

pub const ISSUER: &str = "https://id.bench.test/";
pub const AUDIENCE: &str = "bench";
pub const REGION: &str = "eu-west-1";
const SERVICE: &str = "execute-api";

pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// As an identity provider issues them, of some 530 bytes with a hash of 256 bits.
pub fn token(signer: &Signer, algorithm: &str, key: &str, number: u64) -> io::Result<String> {
    let header = format!(r#"{{"alg":"{algorithm}","typ":"JWT","kid":"{key}"}}"#);
    let claims = format!(
        r#"{{"iss":"{ISSUER}","sub":"7d0f9c4e-2f0e-4f38-9b7d-0c5a3c9b2e11","aud":"{AUDIENCE}","iat":1760000000,"exp":4102444800,"jti":"f3b1d1b0-4a1e-4b7e-9f51-{number:012x}","scope":"orders:read orders:write menu:read","groups":["staff","kitchen"],"email":"alice@bench.test","name":"Alice of the Bench","tenant":"restaurant"}}"#
    );
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = base64url(&signer.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

pub fn key_set(keys: &[String]) -> String {
    format!("{{\"keys\":[{}]}}\n", keys.join(","))
}

/// RFC 7617, and as many spaces as asked: it is the same name and password, and not the same bytes.
pub fn password(user: &str, password: &str, spaces: u64) -> String {
    let spaces = " ".repeat(1 + spaces as usize);
    format!("Authorization: Basic{spaces}{}\r\n", base64(format!("{user}:{password}").as_bytes()))
}

/// A GET that is signed by RFC 9421, over what the gateway demands by itself.
pub fn message_signature(signer: &Signer, path: &str, created: u64, number: u64) -> io::Result<String> {
    let input =
        format!("(\"@method\" \"@authority\" \"@path\" \"@query\");created={created};keyid=\"bench\";nonce=\"{number:016x}\"");
    let base =
        format!("\"@method\": GET\n\"@authority\": {HOST}\n\"@path\": {path}\n\"@query\": ?\n\"@signature-params\": {input}");
    let signature = base64(&signer.sign(base.as_bytes())?);
    Ok(format!("Signature-Input: sig={input}\r\nSignature: sig=:{signature}:\r\n"))
}

/// A GET without a query that is signed as AWS's SDKs do. `seconds`: since 1970.
pub fn aws_signature(key_id: &str, secret: &str, path: &str, seconds: u64) -> String {
    let stamp = stamp(seconds);
    let day = &stamp[..8];
    let canonical = format!("GET\n{path}\n\nhost:{HOST}\nx-amz-date:{stamp}\n\nhost;x-amz-date\n{}", sha256_hex(""));
    let scope = format!("{day}/{REGION}/{SERVICE}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", sha256_hex(&canonical));
    let key = [day, REGION, SERVICE, "aws4_request"]
        .into_iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac_sha256(&key, part));
    let signature = hex(&hmac_sha256(&key, &text));
    format!(
        "X-Amz-Date: {stamp}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}\r\n"
    )
}

/// `20260302T120000Z`, by the calendar of Gregory. Years begin in March here, so that a leap day is a year's last.
fn stamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::Scheme;

    #[test]
    fn a_stamp_is_a_day_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_709_251_200, "20240301T000000Z"),
        ] {
            assert_eq!(stamp(seconds), text);
        }
    }

    #[test]
    fn no_two_tokens_are_alike_and_all_are_as_long() {
        let signer = Signer::new(Scheme::Hmac).unwrap();
        let [one, two] = [1, 2].map(|number| token(&signer, "HS256", "k", number).unwrap());
        assert!(one != two && one.len() == two.len() && one.split('.').count() == 3, "{one}");
        assert!((500..600).contains(&one.len()), "{}", one.len());
    }

    #[test]
    fn a_password_is_written_in_as_many_ways_as_asked() {
        assert_eq!(password("Aladdin", "open sesame", 0), "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n");
        assert_eq!(password("Aladdin", "open sesame", 2), "Authorization: Basic   QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n");
    }
}
