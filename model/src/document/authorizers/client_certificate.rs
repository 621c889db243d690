//! `client_certificate`: what of a certificate is the subject, and the lists of those that were revoked.

use super::super::PemFile;
use crate::span::Spanned;

/// The certificate that a client showed in its handshake, which the listener's `client_ca` vouches for.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    pub principal: CertificatePrincipal,
    /// In PEM or DER. Empty: nobody asks whether a certificate was revoked.
    pub crl: Vec<Spanned<PemFile>>,
    /// Names of issuers as RFC 4514 writes them. Empty: whoever `client_ca` vouches for.
    pub issuers: Vec<String>,
}

/// What of a certificate is the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificatePrincipal {
    SanDns,
    SanUri,
    SanEmail,
    /// The whole name, as RFC 4514 writes it.
    Subject,
    CommonName,
    /// SHA-256 of the certificate, in lower-case hex.
    Fingerprint,
}

impl CertificatePrincipal {
    /// As it is written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            CertificatePrincipal::SanDns => "san_dns",
            CertificatePrincipal::SanUri => "san_uri",
            CertificatePrincipal::SanEmail => "san_email",
            CertificatePrincipal::Subject => "subject",
            CertificatePrincipal::CommonName => "common_name",
            CertificatePrincipal::Fingerprint => "fingerprint",
        }
    }
}
