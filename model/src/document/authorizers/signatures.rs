//! What must be signed, and whose keys sign. Knows no cryptography: a file is bytes here.

use super::super::PemFile;
use crate::span::Spanned;
use crate::values::Secret;
use indexmap::IndexMap;
use std::time::Duration;

/// Requests signed by RFC 9421.
#[derive(Debug, Clone)]
pub struct HttpSignature {
    /// What a signature must cover at least.
    pub components: Vec<Component>,
    /// A signature is no older.
    pub max_age: Duration,
    /// Only the signature of that name counts.
    pub label: Option<String>,
    /// Only signatures made for that purpose count.
    pub tag: Option<String>,
    pub replay: Replay,
    /// By key id.
    pub keys: IndexMap<String, Spanned<SignatureKey>>,
}

/// A part of a request that can be covered, as RFC 9421 §2 names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// A header in lower case, or a derived component with its `@`.
    pub name: String,
    /// Of `@query-param`: which, encoded as it is signed.
    pub param: Option<String>,
}

/// What becomes of a signature that was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    Refuse,
    Allow,
}

/// A key that signs, with the one algorithm that it is for.
#[derive(Debug, Clone)]
pub enum SignatureKey {
    Hmac(Secret),
    Public(PublicAlgorithm, Spanned<PemFile>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicAlgorithm {
    Ed25519,
    EcdsaP256,
    EcdsaP384,
    RsaPss,
    RsaPkcs1,
}

impl PublicAlgorithm {
    /// As RFC 9421 §6.2.2 registers it.
    pub fn name(self) -> &'static str {
        match self {
            PublicAlgorithm::Ed25519 => "ed25519",
            PublicAlgorithm::EcdsaP256 => "ecdsa-p256-sha256",
            PublicAlgorithm::EcdsaP384 => "ecdsa-p384-sha384",
            PublicAlgorithm::RsaPss => "rsa-pss-sha512",
            PublicAlgorithm::RsaPkcs1 => "rsa-v1_5-sha256",
        }
    }
}

impl SignatureKey {
    pub(super) fn hidden(&self) -> &[u8] {
        match self {
            SignatureKey::Hmac(secret) => secret.expose().as_bytes(),
            SignatureKey::Public(_, file) => &file.value.bytes,
        }
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            SignatureKey::Hmac(_) => "hmac-sha256",
            SignatureKey::Public(algorithm, _) => algorithm.name(),
        }
    }
}

/// Requests signed as AWS's are (Signature Version 4).
#[derive(Debug, Clone)]
pub struct AwsSignature {
    pub region: String,
    pub service: String,
    /// A signature is no older, and no further ahead.
    pub max_age: Duration,
    /// Requests that say so need not have their body signed.
    pub unsigned_payload: bool,
    /// By access key id.
    pub keys: IndexMap<String, Spanned<Secret>>,
}
