use super::KeyPlace;
use crate::values::Secret;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A signed token (RFC 7519) of an issuer.
#[derive(Debug, Clone)]
pub struct Jwt {
    /// `iss` must be exactly this.
    pub issuer: Option<String>,
    /// One of them must be in `aud`. Without any, a token that is meant for somebody is not meant for us.
    pub audience: Vec<String>,
    /// All of one family: with signatures, or with a shared secret.
    pub algorithms: Vec<JwtAlgorithm>,
    pub keys: JwtKeys,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// Besides `exp`, which every token has.
    pub required_claims: Vec<String>,
    /// `typ` of the header must be this, as RFC 7515 §4.1.9 compares media types.
    pub typ: Option<String>,
    /// In the header Authorization it stands behind `Bearer`.
    pub place: KeyPlace,
    pub subject_claim: String,
    /// The first of them that is there has the scopes.
    pub scopes_claim: Vec<String>,
    pub groups_claim: String,
    /// How often keys are fetched anew.
    pub refresh: Duration,
    /// How long a request waits for keys.
    pub timeout: Duration,
}

/// Where the keys come from.
#[derive(Debug, Clone)]
pub enum JwtKeys {
    /// From where the issuer says that they are (OpenID Connect Discovery 1.0).
    Discovery(String),
    Url(String),
    File {
        path: PathBuf,
        bytes: Arc<[u8]>,
    },
    /// One that issuer and gateway share: whoever has it can also make tokens.
    Secret(Secret),
}

/// How a token is signed (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JwtAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
    Hs256,
    Hs384,
    Hs512,
}

impl JwtAlgorithm {
    pub const SIGNATURES: [JwtAlgorithm; 10] = {
        use JwtAlgorithm::*;
        [Rs256, Rs384, Rs512, Ps256, Ps384, Ps512, Es256, Es384, Es512, EdDsa]
    };

    pub const SHARED: [JwtAlgorithm; 3] = [JwtAlgorithm::Hs256, JwtAlgorithm::Hs384, JwtAlgorithm::Hs512];

    /// Its name in a token's header. `Ed25519` (RFC 9864) says the same as `EdDSA` with a key of that curve.
    pub fn of(name: &str) -> Option<JwtAlgorithm> {
        if name == "Ed25519" {
            return Some(JwtAlgorithm::EdDsa);
        }
        Self::SIGNATURES.into_iter().chain(Self::SHARED).find(|algorithm| algorithm.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            JwtAlgorithm::Rs256 => "RS256",
            JwtAlgorithm::Rs384 => "RS384",
            JwtAlgorithm::Rs512 => "RS512",
            JwtAlgorithm::Ps256 => "PS256",
            JwtAlgorithm::Ps384 => "PS384",
            JwtAlgorithm::Ps512 => "PS512",
            JwtAlgorithm::Es256 => "ES256",
            JwtAlgorithm::Es384 => "ES384",
            JwtAlgorithm::Es512 => "ES512",
            JwtAlgorithm::EdDsa => "EdDSA",
            JwtAlgorithm::Hs256 => "HS256",
            JwtAlgorithm::Hs384 => "HS384",
            JwtAlgorithm::Hs512 => "HS512",
        }
    }

    /// Bytes that a shared secret needs at least: those of the hash (RFC 7518 §3.2). `None`: it has none.
    pub fn secret_bytes_min(self) -> Option<usize> {
        match self {
            JwtAlgorithm::Hs256 => Some(32),
            JwtAlgorithm::Hs384 => Some(48),
            JwtAlgorithm::Hs512 => Some(64),
            JwtAlgorithm::Rs256 | JwtAlgorithm::Rs384 | JwtAlgorithm::Rs512 => None,
            JwtAlgorithm::Ps256 | JwtAlgorithm::Ps384 | JwtAlgorithm::Ps512 => None,
            JwtAlgorithm::Es256 | JwtAlgorithm::Es384 | JwtAlgorithm::Es512 | JwtAlgorithm::EdDsa => None,
        }
    }
}
