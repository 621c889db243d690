//! Keys, signatures and hashes of passwords for the rows about identity, all made for the run and worth nothing outside it. Knows neither the
//! gateway nor what is measured on it.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair};
use aws_lc_rs::{digest, hmac};

use std::fmt::Write;
use std::io;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Secrets of the hashes with a key: as long as the longest of those hashes.
const SECRET_BYTES: usize = 64;

/// With padding (RFC 4648 §4).
pub fn base64(bytes: &[u8]) -> String {
    let mut text = encoded(bytes, STANDARD);
    text.extend(std::iter::repeat_n('=', text.len().wrapping_neg() % 4));
    text
}

/// Without padding (RFC 4648 §5), as tokens have it.
pub fn base64url(bytes: &[u8]) -> String {
    encoded(bytes, URL)
}

fn encoded(bytes: &[u8], digits: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        (0..=group.len()).for_each(|at| text.push(char::from(digits[(bits >> (18 - 6 * at)) as usize & 63])));
    }
    text
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub fn sha256_hex(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

pub fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// Whose key it is, by what is signed with it.
#[derive(Clone, Copy, PartialEq)]
pub enum Scheme {
    Hmac,
    RsaSha256,
    RsaPssSha256,
    RsaPssSha512,
    P256,
    P384,
    P521,
    Ed25519,
}

enum Pair {
    Hmac(String, Box<hmac::Key>),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

/// A key that signs.
pub struct Signer {
    pair: Pair,
    random: SystemRandom,
}

impl Signer {
    pub fn new(scheme: Scheme) -> io::Result<Signer> {
        let rsa = |encoding| -> io::Result<Pair> { Ok(Pair::Rsa(made(RsaKeyPair::generate(KeySize::Rsa2048))?, encoding)) };
        let ec = |algorithm: &'static EcdsaSigningAlgorithm, curve| -> io::Result<Pair> {
            Ok(Pair::Ec(made(EcdsaKeyPair::generate(algorithm))?, curve))
        };
        let pair = match scheme {
            Scheme::Hmac => {
                let mut bytes = [0; SECRET_BYTES / 2];
                made(aws_lc_rs::rand::fill(&mut bytes))?;
                let secret = hex(&bytes);
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                Pair::Hmac(secret, Box::new(key))
            }
            Scheme::RsaSha256 => rsa(&signature::RSA_PKCS1_SHA256)?,
            Scheme::RsaPssSha256 => rsa(&signature::RSA_PSS_SHA256)?,
            Scheme::RsaPssSha512 => rsa(&signature::RSA_PSS_SHA512)?,
            Scheme::P256 => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")?,
            Scheme::P384 => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384")?,
            Scheme::P521 => ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521")?,
            Scheme::Ed25519 => Pair::Ed(made(Ed25519KeyPair::generate())?),
        };
        Ok(Signer { pair, random: SystemRandom::new() })
    }

    pub fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        Ok(match &self.pair {
            Pair::Hmac(_, key) => hmac::sign(key, message).as_ref().to_vec(),
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                made(pair.sign(*encoding, &self.random, message, &mut signature))?;
                signature
            }
            Pair::Ec(pair, _) => made(pair.sign(&self.random, message))?.as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }

    /// What both sides share, where they do.
    pub fn secret(&self) -> &str {
        match &self.pair {
            Pair::Hmac(secret, _) => secret,
            Pair::Rsa(..) | Pair::Ec(..) | Pair::Ed(_) => "",
        }
    }

    /// The public key as a JSON Web Key (RFC 7517). A secret has none.
    pub fn jwk(&self, id: &str) -> String {
        match &self.pair {
            Pair::Hmac(..) => String::new(),
            Pair::Rsa(pair, _) => {
                // RFC 8017 §A.1.1: the number stands behind nine bytes of ASN.1 and before five of the exponent, 65537.
                let der = pair.public_key().as_ref();
                let number = base64url(&der[9..der.len() - 5]);
                format!(r#"{{"kty":"RSA","kid":"{id}","n":"{number}","e":"AQAB"}}"#)
            }
            Pair::Ec(pair, curve) => {
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(point.len() / 2);
                format!(r#"{{"kty":"EC","kid":"{id}","crv":"{curve}","x":"{}","y":"{}"}}"#, base64url(x), base64url(y))
            }
            Pair::Ed(pair) => {
                let point = base64url(pair.public_key().as_ref());
                format!(r#"{{"kty":"OKP","kid":"{id}","crv":"Ed25519","x":"{point}"}}"#)
            }
        }
    }

    /// The public key in PEM. A secret has none.
    pub fn pem(&self) -> io::Result<String> {
        let der: PublicKeyX509Der = match &self.pair {
            Pair::Hmac(..) => return Ok(String::new()),
            Pair::Rsa(pair, _) => made(pair.public_key().as_der())?,
            Pair::Ec(pair, _) => made(pair.public_key().as_der())?,
            Pair::Ed(pair) => made(pair.public_key().as_der())?,
        };
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64(der.as_ref())))
    }
}

fn made<T, E>(outcome: Result<T, E>) -> io::Result<T> {
    outcome.map_err(|_| io::Error::other("the library could not make a key or a signature"))
}

/// A line of a file of users.
pub fn bcrypt_user(name: &str, password: &str, cost: u32) -> io::Result<String> {
    let mut salt = [0; 16];
    made(aws_lc_rs::rand::fill(&mut salt))?;
    let hash = made(bcrypt::hash_with_salt(password, cost, salt))?;
    Ok(format!("{name}:{hash}\n"))
}

/// The same with argon2id at its default parameters, those that OWASP recommends: 19 MiB, two passes, one lane.
pub fn argon2_user(name: &str, password: &str) -> io::Result<String> {
    let (mut salt, mut hash) = ([0; 16], [0; 32]);
    made(aws_lc_rs::rand::fill(&mut salt))?;
    let parameters = argon2::Params::default();
    let text = format!("m={},t={},p={}", parameters.m_cost(), parameters.t_cost(), parameters.p_cost());
    made(argon2::Argon2::default().hash_password_into(password.as_bytes(), &salt, &mut hash))?;
    // The format has base64 without padding.
    let [salt, hash] = [&salt[..], &hash].map(|bytes| encoded(bytes, STANDARD));
    Ok(format!("{name}:$argon2id$v=19${text}${salt}${hash}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(base64url(bytes.as_bytes()), text.trim_end_matches('='));
        }
        assert_eq!((base64(&[0xfb, 0xff]), base64url(&[0xfb, 0xff])), ("+/8=".into(), "-_8".into()));
    }

    #[test]
    fn a_hash_is_what_the_standard_says() {
        assert_eq!(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(
            base64url(&hmac_sha256(b"key", "The quick brown fox jumps over the lazy dog")),
            "97yD9DBThCSxMpjmqm-xQ-9NWaFJRhdZl0edvC0aPNg"
        );
    }

    #[test]
    fn every_scheme_signs_and_says_its_key() {
        for (scheme, bytes) in [
            (Scheme::Hmac, 32),
            (Scheme::RsaSha256, 256),
            (Scheme::RsaPssSha512, 256),
            (Scheme::P256, 64),
            (Scheme::P384, 96),
            (Scheme::P521, 132),
            (Scheme::Ed25519, 64),
        ] {
            let signer = Signer::new(scheme).unwrap();
            assert_eq!(signer.sign(b"message").unwrap().len(), bytes);
            let shared = scheme == Scheme::Hmac;
            assert_eq!((signer.secret().len() == SECRET_BYTES, signer.jwk("k").is_empty()), (shared, shared));
            assert_eq!(signer.pem().unwrap().is_empty(), shared);
        }
    }
}
