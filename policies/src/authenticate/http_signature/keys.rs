//! Keys that verify, each with the one algorithm that it is for (RFC 9421 §3.3): what a signature claims about its algorithm never chooses.

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
};
use maitred_core::wire::base64;
use maitred_model::{PublicAlgorithm, SignatureKey};

pub struct Key {
    algorithm: &'static str,
    kind: Verifier,
}

enum Verifier {
    Hmac(Box<hmac::Key>),
    Public(Box<ParsedPublicKey>),
}

impl Key {
    pub fn hmac(secret: &[u8]) -> Key {
        Key { algorithm: "hmac-sha256", kind: Verifier::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret))) }
    }

    /// `pem`: a file with one public key.
    pub fn public(algorithm: PublicAlgorithm, pem: &[u8]) -> Result<Key, &'static str> {
        let der = public_der(pem).ok_or("it holds no public key in PEM that can be read")?;
        let verification: &'static dyn VerificationAlgorithm = match algorithm {
            PublicAlgorithm::Ed25519 => &ED25519,
            PublicAlgorithm::EcdsaP256 => &ECDSA_P256_SHA256_FIXED,
            PublicAlgorithm::EcdsaP384 => &ECDSA_P384_SHA384_FIXED,
            PublicAlgorithm::RsaPss => &RSA_PSS_2048_8192_SHA512,
            PublicAlgorithm::RsaPkcs1 => &RSA_PKCS1_2048_8192_SHA256,
        };
        let is_rsa = matches!(algorithm, PublicAlgorithm::RsaPss | PublicAlgorithm::RsaPkcs1);
        let key = ParsedPublicKey::new(verification, &der).map_err(|_| "its key is of another kind than the algorithm wants")?;
        // This one looks at how long the key is; the other only when it verifies.
        if is_rsa && PublicEncryptingKey::from_der(&der).is_err() {
            return Err("its RSA key has fewer than 2048 bits, or more than 8192");
        }
        Ok(Key { algorithm: algorithm.name(), kind: Verifier::Public(Box::new(key)) })
    }

    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    pub fn verifies(&self, base: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Verifier::Hmac(key) => hmac::verify(key, base, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(base, signature).is_ok(),
        }
    }
}

/// A configured key, or what is wrong with its file.
pub fn read_key(configured: &SignatureKey) -> Result<Key, &'static str> {
    match configured {
        SignatureKey::Hmac(secret) => Ok(Key::hmac(secret.expose().as_bytes())),
        SignatureKey::Public(algorithm, file) => Key::public(*algorithm, &file.value.bytes),
    }
}

/// The first public key of a PEM file (RFC 7468 §13).
fn public_der(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, behind) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (inner, _) = behind.split_once("-----END PUBLIC KEY-----")?;
    let digits: Vec<u8> = inner.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    base64::decode(&digits)
}
